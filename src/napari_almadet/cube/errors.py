"""The error of every file that cannot be used as a cube, and how many axes one may have."""

from __future__ import annotations

MOST_AXES = 16  # of an image; the FITS standard allows 999, which nobody writes and memory does not hold


class CubeError(ValueError):
    """A file that cannot be used as a spectral cube; the message says why and what to do."""
