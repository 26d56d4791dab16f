"""Results of a detection run: candidates, the catalogue, the result folder, and exports."""
