"""What an astronomer asks about a candidate: spectral axes, apertures, moments, cuts, lines; no napari, no Qt."""
