"""A file as a :class:`~napari_almadet.Cube`: storage, headers and their mending, bad channels, the primary beam."""
