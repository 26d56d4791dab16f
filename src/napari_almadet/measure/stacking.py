"""Step 1: the cube summed over its channels, read a few channels at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.candidate import Box
from napari_almadet.progress import Progress, in_steps

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_almadet.cube.cube import Cube


FEW = 16  # planes that are added in single precision
BLOCK_VOXELS = 2**22  # read at a time: 16 MB as float32, a fraction of a second between two steps


def channel_blocks(n_channels: int, plane_pixels: int) -> Iterator[slice]:
    """Ranges of channels, each small enough to be read at once, that together cover the cube."""
    depth = max(1, BLOCK_VOXELS // max(1, plane_pixels))
    for first in range(0, n_channels, depth):
        yield slice(first, min(first + depth, n_channels))


@in_steps
def stack(cube: Cube) -> Generator[Progress, None, np.ndarray]:
    """Integrate the cube along frequency: the dirty image (paper, step 1).

    The sum over channels, in the cube's brightness unit times channels.  A pixel that
    lacks some channels gets the mean of those it has, times the number of channels, so
    that its level is comparable with its neighbours'.  Planes are read in blocks; the
    cube is never in memory as a whole.

    Returns
    -------
    numpy.ndarray
        Float32, shape (ny, nx); NaN where no channel has data.
    """
    n_channels, ny, nx = cube.shape
    stacking = Stacking(n_channels)
    for block in channel_blocks(n_channels, ny * nx):
        stacking.add(cube.read(block))
        yield Progress("Stacking channels", block.stop, n_channels)
    return stacking.image()


class Stacking:
    """The sum of a :func:`stack` whose planes come a few at a time."""

    def __init__(self, n_channels: int) -> None:
        self.n_channels = n_channels
        self._total: np.ndarray = np.zeros(())
        self._count: np.ndarray = np.zeros((), np.int32)

    def add(self, planes: np.ndarray) -> None:
        """Add planes (channel, y, x), NaN where there is no data."""
        # of a few planes single precision is enough: their sum is as exact as they are
        total = planes.sum(axis=0, dtype=None if len(planes) <= FEW else float)
        if np.isfinite(total.sum()):  # there is data everywhere
            self._add(total, np.int32(len(planes)))
            return
        valid = np.isfinite(planes)
        self._add(np.where(valid, planes, 0).sum(axis=0, dtype=float), valid.sum(axis=0, dtype=np.int32))

    def join(self, other: Stacking) -> None:
        """Add what has been added to another, which must not be used any more."""
        self._add(other._total, other._count)

    def _add(self, total: np.ndarray, count: np.ndarray | np.int32) -> None:
        self._count = self._count + count
        if not self._total.ndim:  # the first
            self._total = total
        elif self._total.dtype == float:
            self._total += total  # in place, since new memory takes longer than a sum
        else:
            self._total = np.add(self._total, total, dtype=float)

    def image(self) -> np.ndarray:
        """The dirty image of all that was added, float32."""
        return mean_times(self._total.astype(float, copy=False), self._count, self.n_channels)


def integrate(planes: np.ndarray) -> np.ndarray:
    """Sum planes (channel, y, x) along the channels, missing ones replaced by the mean of the others; NaN if none."""
    total = planes.sum(axis=0, dtype=float)
    if np.isfinite(total.sum()):  # there is data everywhere
        return total.astype(np.float32)
    valid = np.isfinite(planes)
    return mean_times(np.where(valid, planes, 0).sum(axis=0, dtype=float), valid.sum(axis=0), len(planes))


def mean_times(total: np.ndarray, count: np.ndarray, n_channels: int) -> np.ndarray:
    """The mean of ``count`` values that add up to ``total``, times ``n_channels``; NaN where there are none."""
    return np.where(count > 0, total * (n_channels / np.maximum(count, 1)), np.nan).astype(np.float32)


def at_edge(
    box: Box, image: np.ndarray, origin: tuple[int, int] = (0, 0), field: tuple[int, int] | None = None
) -> bool:
    """Whether a box touches the border of the field or a pixel without data (NaN).

    The image may be a part of a field of (height, width) pixels that starts at its pixel ``origin``.
    """
    (ny, nx), (y, x) = field or image.shape, origin
    if box.y0 <= 0 or box.x0 <= 0 or box.y1 >= ny or box.x1 >= nx:
        return True
    rows, columns = slice(max(box.y0 - 1 - y, 0), box.y1 + 1 - y), slice(max(box.x0 - 1 - x, 0), box.x1 + 1 - x)
    return bool(np.isnan(image[rows, columns]).any())
