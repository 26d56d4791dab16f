"""What a detection run returns: candidates, the catalogue, the folder they are kept in, and their exports."""
