"""Files as :class:`~napari_almadet.Cube` objects: storage, headers and their repair, bad channels, the primary beam."""
