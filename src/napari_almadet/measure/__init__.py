"""What both presets measure in a cube: stacked images, spectra, focused images, Gaussian fits, sources."""
