"""Tiling of images and spectra of any size into windows, and blending of the windows.

A network accepts windows of fixed size.  Larger inputs are covered by overlapping windows whose outputs are blended
with a smooth taper; smaller inputs are padded.  Images have two tiled axes, spectra one.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """First pixel of each of the fewest windows that cover an axis, spread evenly.

    Neighbours overlap by at least ``overlap``.  An axis shorter than the window gets
    one, centred on it, which starts at or before pixel 0.

    Raises
    ------
    ValueError
        If ``overlap`` is negative or not smaller than ``window``.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"windows of {window} cannot overlap by {overlap}: choose an overlap from 0 to {window - 1}")
    if length <= window:
        return [(length - window) // 2]
    count = -(-(length - overlap) // (window - overlap))
    return np.linspace(0, length - window, count).round().astype(int).tolist()


def corners(shape: tuple[int, ...], window: int, overlap: int) -> list[tuple[int, ...]]:
    """First pixel, in every tiled axis, of each window that covers an array of ``shape``."""
    return list(product(*(window_starts(length, window, overlap) for length in shape)))


def cut(array: np.ndarray, corner: tuple[int, ...], window: int) -> np.ndarray:
    """The window that starts at ``corner`` of the last axes of ``array``; NaN outside it.

    Parameters
    ----------
    array
        Shape (..., n) for a corner of one number, (..., y, x) for one of two.

    Returns
    -------
    numpy.ndarray
        Float32, shape (..., window) or (..., window, window).
    """
    tiled = array.shape[array.ndim - len(corner) :]
    piece = np.full((*array.shape[: array.ndim - len(corner)], *(window for _ in corner)), np.nan, np.float32)
    inside, source = shared_pixels(corner, window, tiled)
    piece[_of_last_axes(inside)] = array[_of_last_axes(source)]
    return piece


def blend(pieces: np.ndarray, corners: list[tuple[int, ...]], shape: tuple[int, ...], overlap: int) -> np.ndarray:
    """Combine windows: where they overlap, take their mean weighted by a taper, so that no seam is visible.

    Parameters
    ----------
    pieces
        Shape (windows, ..., window[, window]), in the order of ``corners``.
    shape
        Size of the tiled axes.
    overlap
        Over how many pixels from its edge a window fades in.

    Returns
    -------
    numpy.ndarray
        Float32, shape (..., *shape).
    """
    window = pieces.shape[-1]
    weight = taper(window, overlap)
    if len(shape) == 2:
        weight = weight[:, None] * weight
    total = np.zeros((*pieces.shape[1 : pieces.ndim - len(shape)], *shape))
    norm = np.zeros(shape)
    for piece, corner in zip(pieces, corners, strict=True):
        inside, target = shared_pixels(corner, window, shape)
        total[_of_last_axes(target)] += piece[_of_last_axes(inside)] * weight[inside]
        norm[target] += weight[inside]
    return (total / norm).astype(np.float32)


def taper(window: int, overlap: int) -> np.ndarray:
    """Weight of a window's pixels along one axis: 1 inside, falling as sin² over ``overlap`` pixels to its ends."""
    to_edge = np.minimum(np.arange(window), np.arange(window)[::-1]) + 0.5
    return np.sin(np.pi / 2 * np.minimum(to_edge / max(overlap, 0.5), 1)) ** 2


def shared_pixels(
    corner: tuple[int, ...], window: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The overlap of a window and an array of ``shape``: as slices of the window and of the array."""
    first = [max(start, 0) for start in corner]
    last = [min(start + window, length) for start, length in zip(corner, shape, strict=True)]
    inside = tuple(slice(a - start, b - start) for a, b, start in zip(first, last, corner, strict=True))
    return inside, tuple(slice(a, b) for a, b in zip(first, last, strict=True))


def _of_last_axes(part: tuple[slice, ...]) -> Any:
    """The index of a part of the last axes of an array, of whatever others it has."""
    return (..., *part)
