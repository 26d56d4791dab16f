"""Analysis of a candidate: spectral axes, apertures, moments, cuts, lines; without napari and Qt."""
