"""Measurements in a cube for both presets: stacked and line-integrated images, spectra, fits, sources."""
