"""Windows of the field that the preset ``almadet`` searches one at a time, and what it finds in them.

A window holds all channels of a part of the field, at some four pixels a beam, and is as large as
the memory lets it be.  Windows overlap by :data:`OVERLAP` beams where there is room, so that what a source is
judged by, its neighbours within eight beams among it, lies in the window it belongs to; how what they find
meets again is told in :mod:`napari_almadet.search.merge`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.measure.stacking import Stacking, channel_blocks
from napari_almadet.progress import Progress, in_steps
from napari_almadet.search.dirty_beam import beam_from_noise
from napari_almadet.search.noise_units import PIXELS_PER_BEAM, binning, in_noise_units, resample
from napari_almadet.threads import spread

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.settings import Settings


CACHED_VOXELS = 2**19  # read by a thread at a time: 2 MB, which stay in the processor's cache
OVERLAP = 16  # beams by which windows overlap where they are large
LEAST_OVERLAP = 8  # where they are small, so that most of a window is still its own
GRID = 8  # pixels that Source Finder's coarsest maps average: all windows start on one grid of them
# What a run needs, measured by benchmarks/large_cube.py, in bytes: the program with its libraries; for each voxel of a
# window, for each pixel of it at the file's resolution, for each pixel of the field; and, since each source whose
# sidelobes are taken off has images as large as the window, and larger ones hold more of them, for each pair of pixels
PROGRAM = 0.75e9
PER_VOXEL = 4 * 8
PER_PIXEL = 40
PER_FIELD_PIXEL = 16
PER_PAIR = 2.4e-3


@dataclass(frozen=True)
class Window:
    """A part of the field that is searched at once; ``y`` and ``x`` are its first averaged pixel.

    ``owned`` are the averaged pixels, in the window, whose sources are this window's rather than a neighbour's.
    ``k`` pixels of the cube are averaged on a side, or 0.5: see :func:`~napari_almadet.search.noise_units.binning`.
    """

    y: int
    x: int
    shape: tuple[int, int]
    owned: tuple[slice, slice]
    k: int | float
    sidelobes: np.ndarray | None = None  # (n, ny, nx) images of what is taken off
    spectra: np.ndarray | None = None  # (n, channels) in the cube's unit
    rms_map: np.ndarray | None = None

    @property
    def origin(self) -> tuple[int, int]:
        """The window's first pixel of the cube, (y, x)."""
        return int(self.y * self.k), int(self.x * self.k)

    def pixels(self, field: tuple[int, int]) -> tuple[slice, slice]:
        """The window in the pixels of a cube whose field is (ny, nx)."""
        y, x = (
            slice(int(first * self.k), min(int((first + n) * self.k), length))
            for first, n, length in zip((self.y, self.x), self.shape, field, strict=True)
        )
        return y, x

    def owned_pixels(self, field: tuple[int, int]) -> tuple[slice, slice]:
        """What is its own, in the pixels of the cube."""
        y, x = (
            slice(int((first + own.start) * self.k), min(int((first + own.stop) * self.k), length))
            for first, own, length in zip((self.y, self.x), self.owned, field, strict=True)
        )
        return y, x

    def meets(self, other: Window) -> bool:
        """Whether two windows share pixels."""
        return all(
            a < b + n and b < a + m
            for a, m, b, n in zip((self.y, self.x), self.shape, (other.y, other.x), other.shape, strict=True)
        )

    def owns(self, y: float, x: float, margin: float = 0.0) -> bool:
        """Whether a place in the cube's pixels lies in what is its own, or within ``margin`` averaged pixels of it."""
        return all(
            own.start - 0.5 - margin <= (place + 0.5) / self.k - 0.5 - first < own.stop - 0.5 + margin
            for place, first, own in zip((y, x), (self.y, self.x), self.owned, strict=True)
        )

    def sidelobes_in(self, origin: tuple[int, int], shape: tuple[int, int]) -> np.ndarray | float:
        """Sidelobes in a part of the cube, (channels, *shape) in the cube's unit; 0 where there are none."""
        if self.sidelobes is None or self.spectra is None or self.rms_map is None:
            return 0.0
        y, x = ((origin[i] + np.arange(shape[i]) + 0.5) / self.k - 0.5 - (self.y, self.x)[i] for i in (0, 1))
        (part_y, weight_y), (part_x, weight_x) = (between(at, n) for at, n in zip((y, x), self.shape, strict=True))
        images = self.sidelobes[:, part_y, part_x] * self.rms_map[part_y, part_x]
        return np.tensordot(self.spectra, weight_y @ images @ weight_x.T, axes=(0, 0)).astype(np.float32)


def between(places: np.ndarray, n: int) -> tuple[slice, np.ndarray]:
    """Which pixels of an axis of length n interpolate it linearly at some places, and the weights of each.

    Beyond its ends an axis goes on as it ends.

    Returns
    -------
    pixels, weights
        Weights are float32, of shape (places, pixels).
    """
    places = np.clip(places, 0, n - 1)
    low = np.clip(np.floor(places).astype(int), 0, max(n - 2, 0))
    pixels = slice(int(low.min()), min(int(low.max()) + 2, n))
    at = np.arange(pixels.start, pixels.stop)
    return pixels, np.clip(1 - np.abs(places[:, None] - at), 0, None).astype(np.float32)


def windows(shape: tuple[int, int, int], k: int | float, beam: float, memory: float) -> list[Window]:
    """Windows that cover a cube's field, each as large as the memory lets it be.

    Parameters
    ----------
    shape
        Of the cube.
    k
        Pixels averaged on a side.
    beam
        FWHM in averaged pixels.
    memory
        What a run may use, in GB (1e9 bytes).

    Raises
    ------
    ValueError
        If windows would be too small to overlap; the message says what memory is needed.
    """
    n_channels, *field = shape
    fixed, each, pair = bytes_needed(shape, k)
    room = max(memory * 1e9 - fixed, 0.0)
    area = int((np.sqrt(each**2 + 4 * pair * room) - each) / (2 * pair))
    sides = [int(np.ceil(n / k)) for n in field]
    least = int(np.ceil(round(LEAST_OVERLAP * beam, 3)))
    smallest = [min(2 * least + GRID, length) for length in sides]
    if area < smallest[0] * smallest[1]:
        needed = np.polyval((pair, each, fixed), smallest[0] * smallest[1]) / 1e9
        raise ValueError(
            f"{memory:g} GB of memory are not enough for windows of {smallest[1]} x {smallest[0]} pixels and all "
            f"{n_channels} channels: allow {np.ceil(10 * needed) / 10:g} GB (--memory)"
        )
    size_y = min(max(int(np.sqrt(area)), smallest[0]), sides[0])
    size_x = min(area // size_y, sides[1])
    size_y = min(area // size_x, sides[0])
    overlap = int(np.ceil(np.clip(min(size_y, size_x) / 4, least, OVERLAP * beam)))
    cuts = [cut_axis(length, size, overlap) for length, size in zip(sides, (size_y, size_x), strict=True)]
    return [Window(y, x, (ny, nx), (own_y, own_x), k) for y, ny, own_y in cuts[0] for x, nx, own_x in cuts[1]]


def bytes_needed(shape: tuple[int, int, int], k: int | float) -> tuple[float, float, float]:
    """What a run needs whatever its windows are, for each averaged pixel of a window, and for each pair of them."""
    n_channels, ny, nx = shape
    return PROGRAM + PER_FIELD_PIXEL * ny * nx, PER_VOXEL * n_channels + PER_PIXEL * k * k, PER_PAIR


def held_beside(cube: Cube, settings: Settings) -> bool:
    """Whether a cube may be in memory as a whole while it is searched: in one window, within what a run may use."""
    if settings.preset != "almadet":
        return 10 * cube.data.nbytes <= settings.memory * 1e9
    k = binning(cube.beam_fwhm) if cube.beam_fwhm else 0.5  # of an unknown beam, what takes most
    fixed, each, pair = bytes_needed(cube.shape, k)
    pixels = float(np.prod([np.ceil(n / k) for n in cube.shape[1:]]))
    return float(np.polyval((pair, each, fixed), pixels)) + cube.data.nbytes <= settings.memory * 1e9


def cut_axis(length: int, size: int, overlap: int) -> list[tuple[int, int, slice]]:
    """First pixel, size and owned pixels of the windows of at most ``size`` that cover one axis.

    They start on multiples of :data:`GRID`; what two share is parted between them in the middle.
    """
    if length <= size:
        return [(0, length, slice(0, length))]
    longest = max((size - overlap) // GRID, 1) * GRID
    count = -(-(length - overlap) // longest)
    step = -(-(length - overlap) // (count * GRID)) * GRID
    starts = range(0, length - overlap, step)
    ends = [min(start + step + overlap, length) for start in starts]
    borders = [0, *((start + end) // 2 for (_, start), end in zip(pairwise(starts), ends, strict=False)), length]
    return [
        (start, end - start, slice(low - start, high - start))
        for start, end, (low, high) in zip(starts, ends, pairwise(borders), strict=True)
    ]


def read_blocks(cube: Cube, window: Window) -> Iterator[tuple[slice, np.ndarray]]:
    """A window's planes a few channels at a time: the channels, and float32 of shape (channels, y, x)."""
    y, x = window.pixels(cube.shape[1:])
    for block in channel_blocks(cube.shape[0], (y.stop - y.start) * (x.stop - x.start)):
        yield block, cube.read(block, y, x)


def read_averaged(cube: Cube, window: Window) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """Read a window once, a few channels at a time.

    Returns
    -------
    planes
        At the window's resolution, (channels, ny, nx).
    stacked
        The dirty image (step 1) of :meth:`Window.pixels`, at the cube's.
    """
    n_channels = cube.shape[0]
    planes = np.empty((n_channels, *window.shape), np.float32)
    stacking = Stacking(n_channels)
    y, x = window.pixels(cube.shape[1:])

    def read(channels: slice) -> Stacking:
        part = cube.read(channels, y, x)
        planes[channels] = resample(part, window.k)
        own = Stacking(n_channels)
        own.add(part)
        return own

    cube.blank  # noqa: B018 (found out once, before the threads ask)
    pixels = (y.stop - y.start) * (x.stop - x.start)
    depth = max(1, CACHED_VOXELS // pixels)
    for block in channel_blocks(n_channels, pixels):
        parts = [slice(k, min(k + depth, block.stop)) for k in range(block.start, block.stop, depth)]
        for own in spread(read, parts):
            stacking.join(own)
        yield Progress("Reading the cube", block.stop, n_channels)
    return planes, stacking.image()


def noise_profile(cube: Cube, window: Window) -> np.ndarray | None:
    """How a primary-beam corrected cube's noise varies across a window, (ny, nx); None where that is not known."""
    if cube.primary_beam is None or not cube.primary_beam.corrected:
        return None
    return 1 / resample(cube.primary_beam.plane(cube.shape[0] // 2, *window.pixels(cube.shape[1:])), window.k)


@in_steps
def beam_fwhm(cube: Cube) -> Generator[Progress, None, float]:
    """Geometric mean of the beam's FWHM in pixels: the header's, or else what the noise's correlation says."""
    if cube.beam_fwhm:
        return cube.beam_fwhm
    import torch

    ny, nx = cube.shape[1:]
    size = min(ny, 256), min(nx, 256)
    middle = Window((ny - size[0]) // 2, (nx - size[1]) // 2, size, (slice(None), slice(None)), 1)
    planes, _ = yield from read_averaged(cube, middle)
    try:
        return max(1.5, beam_from_noise(in_noise_units(torch.from_numpy(planes), PIXELS_PER_BEAM)))
    except ValueError:  # no data in the middle
        return PIXELS_PER_BEAM
