"""The napari plugin: all code that uses napari or Qt."""
