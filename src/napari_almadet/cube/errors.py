"""The error of every file that cannot be used as a cube, and how many axes one may have."""

from __future__ import annotations

ONLY_SHOWN = "A search needs two or more channels; napari shows a plane as an image."
MOST_AXES = 16  # of an image; the FITS standard allows 999, which nobody writes and memory does not hold


class CubeError(ValueError):
    """A file that cannot be used as a spectral cube; the message says why and what to do."""


def in_one_line(error: BaseException, most: int = 200) -> str:
    """The message of an error in one line, shortened if it is long; the type of the error if it has no message."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    reason = " ".join(text.split()) or type(error).__name__
    return reason if len(reason) <= most else reason[:most].rsplit(" ", 1)[0] + " ..."
