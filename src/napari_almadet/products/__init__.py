"""Data products of sources and fields: maps, spectra, cuts, pages, a report; without napari and Qt."""
