"""Orientation of the sky and shape of the beam on the pixels of a cube, for any rotation and pixel shape."""

from __future__ import annotations

import numpy as np

from napari_almadet.constants import FOUR_LN2
from napari_almadet.cube.cube import Cube
from napari_almadet.measure.gaussian_fit import sky_matrix


def sky_vectors(cube: Cube, x: float, y: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Displacements (x, y) in pixels that lead 1 arcsec to the North and 1 arcsec to the East; None without WCS.

    North is that of the cube's own frame, from which FITS counts the beam's angle too.
    """
    matrix = sky_matrix(cube, x, y)
    if matrix is None:
        return None
    vectors = np.linalg.inv(matrix)
    return vectors[:, 1], vectors[:, 0]


def beam_outline(cube: Cube, x: float, y: float, points: int = 73) -> np.ndarray | None:
    """The beam's half-power ellipse as (points, 2) pixel offsets (x, y), its angle from North through East."""
    axes = _beam_axes(cube, x, y)
    if axes is None:
        return None
    major, minor = axes
    turn = np.linspace(0, 2 * np.pi, points)[:, None]
    return np.cos(turn) * major / 2 + np.sin(turn) * minor / 2


def beam_pattern(
    cube: Cube, x: float, y: float, shape: tuple[int, int], centre: tuple[float, float]
) -> np.ndarray | None:
    """The Gaussian beam at pixel (x, y) of the cube, drawn with its peak of 1 at ``centre`` = (x, y) of an image.

    Returns
    -------
    numpy.ndarray or None
        Image of ``shape`` (ny, nx); None where the beam or the pixels' size is not known.
    """
    axes = _beam_axes(cube, x, y)
    if axes is None:
        return None
    rows, columns = np.indices(shape)
    offsets = np.stack([columns - centre[0], rows - centre[1]]).reshape(2, -1)
    in_fwhm = np.linalg.solve(np.stack(axes, axis=1), offsets)  # offsets in units of the two axes
    return np.exp(-FOUR_LN2 * (in_fwhm**2).sum(axis=0)).reshape(shape)


def _beam_axes(cube: Cube, x: float, y: float) -> tuple[np.ndarray, np.ndarray] | None:
    """The beam's major and minor axes (FWHM) as vectors (x, y) in pixels."""
    vectors = sky_vectors(cube, x, y)
    if cube.beam is None or vectors is None:
        return None
    north, east = vectors
    angle = cube.beam.pa.to_value("rad")
    major, minor = (axis.to_value("arcsec") for axis in (cube.beam.major, cube.beam.minor))
    along, across = np.cos(angle) * north + np.sin(angle) * east, np.cos(angle) * east - np.sin(angle) * north
    return major * along, minor * across
