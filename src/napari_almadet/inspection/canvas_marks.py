"""Overlays on a field: contours of an image, and labelled coordinate grids; without napari and Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.inspection.moments import contour_levels
from napari_almadet.measure.focus import noise

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

MOST_LINES = 400  # contours: of noise there would be thousands
SAMPLES = 40  # points of a line of equal coordinates
RAISED = 0.07  # of the field's height, at which the names of longitudes stand: on the image, whatever lies around it
TICKS = {False: 3, True: 5}  # lines of equal longitude and latitude over the field, about: their names are wide


def contours_of(image: np.ndarray, first: float = 3.0) -> tuple[list[np.ndarray], list[float]]:
    """Contours of an image (y, x) at ``first``, 2 times that ... times its noise, and the same below zero.

    Returns
    -------
    paths, multiples
        Pixels (y, x) of each, shape (n, 2), the longest first, and the multiple of the noise that it is at.
    """
    from skimage.measure import find_contours

    sigma = noise(image)
    found = []
    for level in contour_levels(image, sigma, first):
        found += [(path, float(level)) for path in find_contours(image, level * sigma)]
    found.sort(key=lambda pair: -len(pair[0]))
    return [path for path, _ in found[:MOST_LINES]], [level for _, level in found[:MOST_LINES]]


@dataclass(frozen=True)
class Graticule:
    """Lines of equal longitude and latitude over a field.

    Attributes
    ----------
    lines
        Pixels (y, x) of each, shape (n, 2).
    names
        What each is called, e.g. ``12h22m58.0s``.
    places
        Where each name stands, pixels (y, x), shape (len(names), 2): near the lower, or at the left border.
    """

    lines: list[np.ndarray]
    names: list[str]
    places: np.ndarray


def graticule(cube: Cube) -> Graticule | None:
    """Lines of equal coordinates in a cube's own frame; None where it has no sky coordinates."""
    from astropy.visualization.wcsaxes.formatter_locator import AngleFormatterLocator

    wcs = cube.celestial
    if wcs is None:
        return None
    ny, nx = cube.shape[1:]
    y, x = np.mgrid[-0.5 : ny - 0.5 : SAMPLES * 1j, -0.5 : nx - 0.5 : SAMPLES * 1j]
    longitude, latitude = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    known = np.isfinite(longitude) & np.isfinite(latitude)
    if not known.any():
        return None
    middle = longitude[known][known.sum() // 2]
    longitude = (longitude - middle + 180) % 360 - 180 + middle
    hours = wcs.wcs.ctype[0].startswith("RA")
    lines, names, places = [], [], []
    for own, other, unit, across in (
        (longitude, latitude, u.hourangle if hours else u.deg, False),
        (latitude, longitude, u.deg, True),
    ):
        locator = AngleFormatterLocator(number=TICKS[across], unit=u.deg, format_unit=unit, show_decimal_unit=False)
        values, spacing = locator.locator(own[known].min(), own[known].max())
        texts = locator.formatter(values, spacing)
        along = np.linspace(other[known].min(), other[known].max(), 4 * SAMPLES)
        for value, text in zip(values.to_value(u.deg), texts, strict=True):
            pair = (along, np.full_like(along, value)) if across else (np.full_like(along, value), along)
            px, py = wcs.wcs_world2pix(*pair, 0)
            inside = (px >= -0.5) & (px <= nx - 0.5) & (py >= -0.5) & (py <= ny - 0.5)
            if inside.sum() > 1:
                path = np.stack([py[inside], px[inside]], axis=1)
                lines.append(path)
                names.append(_plain(text))
                places.append(path[np.argmin(path[:, 1] if across else np.abs(path[:, 0] - RAISED * ny))])
    return Graticule(lines, names, np.array(places).reshape(-1, 2))


def pixel_edges(plane: np.ndarray) -> np.ndarray:
    """Edges between the pixels of a mask (y, x) and all others, each as its start and its direction (y, x).

    Returns
    -------
    numpy.ndarray
        Shape (n, 2, 2), in pixels whose centres are whole numbers.
    """
    inside = np.pad(plane.astype(bool), 1)
    below = np.argwhere(inside[1:] != inside[:-1]) - np.array([0.5, 1.5])
    beside = np.argwhere(inside[:, 1:] != inside[:, :-1]) - np.array([1.5, 0.5])
    starts = np.concatenate([below, beside])
    along = np.repeat([(0.0, 1.0), (1.0, 0.0)], (len(below), len(beside)), axis=0)
    return np.stack([starts, along], axis=1)


def apart(places: np.ndarray, names: Sequence[str], letter: tuple[float, float]) -> np.ndarray:
    """Which names can be written without lying on each other, the first ones first.

    Parameters
    ----------
    places
        Lower left corners (y, x) of the names, shape (n, 2).
    letter
        Height and width of a letter, in the same unit.

    Returns
    -------
    numpy.ndarray
        Bool, shape (n,).
    """
    height, width = letter
    shown = np.zeros(len(names), bool)
    lengths = width * np.array([len(name) for name in names])
    for i, (y, x) in enumerate(places):
        near = np.abs(places[:, 0] - y) < height
        near &= (places[:, 1] < x + lengths[i]) & (x < places[:, 1] + lengths)
        shown[i] = not (near & shown).any()
    return shown


def _plain(text: str) -> str:
    """A sexagesimal text without the marks for mathematics: ``12h22m58.0s``, ``15d48m00s``."""
    for mark in ("$", "{", "}", "\\mathregular", "^"):
        text = text.replace(mark, "")
    return text.replace("°", "d").replace("'", "m").replace('"', "s")
