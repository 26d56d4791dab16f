"""What a paper prints of a source and of a field: maps, spectra, cuts, pages, a report; no napari, no Qt."""
