"""Windows: the parts of a field that the preset ``almadet`` searches one at a time.

A window contains all channels of a part of the field, at about four pixels per beam, and is as large as memory allows.
Windows overlap by :data:`OVERLAP` beams if they are large enough, so that everything needed to classify a source,
including its neighbours within eight beams, is in its window.  :mod:`napari_almadet.search.merge_windows` merges their
detections.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.cube.negated import with_data
from napari_almadet.cube.storage import Held, Lazy
from napari_almadet.measure.stacking import Stacking, channel_blocks
from napari_almadet.progress import Progress, in_steps
from napari_almadet.search.dirty_beam import beam_from_noise
from napari_almadet.search.noise_units import PIXELS_PER_BEAM, binning, in_noise_units, resample
from napari_almadet.threads import spread

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.clean import Restored
    from napari_almadet.search.noise_units import NoiseUnits
    from napari_almadet.settings import Settings


CACHED_VOXELS = 2**19  # read by a thread at a time: 2 MB, which fit in the processor's cache
OVERLAP = 16  # beams by which large windows overlap; derived: twice the eight beams within which neighbours matter
LEAST_OVERLAP = 8  # beams by which small windows overlap, so that their cores are not too small
GRID = 8  # pixels averaged in Source Finder's coarsest maps: all windows start on a grid of this spacing
# Memory of a run in bytes, measured with benchmarks/large_cube.py: the program with its libraries; for each voxel of a
# window, for each pixel of it at the file's resolution, for each pixel of the field; and for each pair of pixels of a
# window, since each source whose sidelobes are subtracted needs images as large as the window, and larger windows
# contain more such sources.
PROGRAM = 0.75e9
PER_VOXEL = 4 * 8
PER_PIXEL = 40
PER_FIELD_PIXEL = 16
PER_PAIR = 2.4e-3
# Fraction of the memory that may be in use with a window held for its candidates: the rest is for measuring one of them
HELD_SHARE = 0.75
# Fraction of a window that its candidates' cutouts amount to, from which reading it once is faster than reading each:
# a pass over a file takes about a tenth as long for each voxel as the short rows of cutouts
WORTH_HOLDING = 0.1


@dataclass(frozen=True)
class Window:
    """A part of the field that is searched at once; ``y`` and ``x`` are its first averaged pixel.

    ``owned`` is its core: the averaged pixels, in the window, whose sources belong to it and not to a neighbour.
    ``k`` pixels of the cube are averaged on a side, or 0.5: see :func:`~napari_almadet.search.noise_units.binning`.
    """

    y: int
    x: int
    shape: tuple[int, int]
    owned: tuple[slice, slice]
    k: int | float
    sidelobes: np.ndarray | None = None  # (n, ny, nx) images of the subtracted sidelobes
    spectra: np.ndarray | None = None  # (n, channels) in the cube's unit
    rms_map: np.ndarray | None = None
    restored: Restored | None = None  # until the sidelobes of fainter sources have been subtracted too

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
        """Its core, in the pixels of the cube."""
        y, x = (
            slice(int((first + own.start) * self.k), min(int((first + own.stop) * self.k), length))
            for first, own, length in zip((self.y, self.x), self.owned, field, strict=True)
        )
        return y, x

    def averaged(self, place: Any) -> Any:
        """A position along an axis in pixels of the cube, or an array of them, in averaged pixels of the field."""
        return (place + 0.5) / self.k - 0.5

    def inside(self, y: float, x: float) -> tuple[float, float]:
        """A position in pixels of the cube, in the window's own averaged pixels."""
        return self.averaged(y) - self.y, self.averaged(x) - self.x

    def pixel_at(self, y: float, x: float) -> tuple[int, int]:
        """The averaged pixel at a position in pixels of the cube; outside of the window, the nearest at its edge."""
        row, column = (min(max(round(at), 0), n - 1) for at, n in zip(self.inside(y, x), self.shape, strict=True))
        return row, column

    def meets(self, other: Window) -> bool:
        """Whether two windows overlap."""
        return all(
            a < b + n and b < a + m
            for a, m, b, n in zip((self.y, self.x), self.shape, (other.y, other.x), other.shape, strict=True)
        )

    def owns(self, y: float, x: float, margin: float = 0.0) -> bool:
        """Whether a position in pixels of the cube is in its core, or within ``margin`` averaged pixels of it."""
        return all(
            own.start - 0.5 - margin <= self.averaged(place) - first < own.stop - 0.5 + margin
            for place, first, own in zip((y, x), (self.y, self.x), self.owned, strict=True)
        )

    def sidelobes_in(self, origin: tuple[int, int], shape: tuple[int, int]) -> np.ndarray | float:
        """Sidelobes in a part of the cube, (channels, *shape) in the cube's unit; 0 where there are none."""
        if self.sidelobes is None or self.spectra is None or self.rms_map is None:
            return 0.0
        y, x = (self.averaged(origin[i] + np.arange(shape[i])) - (self.y, self.x)[i] for i in (0, 1))
        (part_y, weight_y), (part_x, weight_x) = (between(at, n) for at, n in zip((y, x), self.shape, strict=True))
        images = self.sidelobes[:, part_y, part_x] * self.rms_map[part_y, part_x]
        return np.tensordot(self.spectra, weight_y @ images @ weight_x.T, axes=(0, 0)).astype(np.float32)


def between(places: np.ndarray, n: int) -> tuple[slice, np.ndarray]:
    """Pixels and weights for linear interpolation along an axis of length n.

    Beyond its ends the axis is continued with its last values.

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
    """Windows that cover the field of a cube, each as large as memory allows.

    Parameters
    ----------
    shape
        Of the cube.
    k
        Side of the blocks of averaged pixels.
    beam
        FWHM in averaged pixels.
    memory
        Memory limit in GB (1e9 bytes).

    Raises
    ------
    ValueError
        If windows would be too small to overlap; the message gives the memory needed.
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
    """Bytes that a run needs in any case, per averaged pixel of a window, and per pair of such pixels."""
    n_channels, ny, nx = shape
    return PROGRAM + PER_FIELD_PIXEL * ny * nx, PER_VOXEL * n_channels + PER_PIXEL * k * k, PER_PAIR


def held_beside(cube: Cube, settings: Settings) -> bool:
    """Whether the whole cube may be kept in memory during the search: in one window, within the memory limit."""
    if settings.preset != "almadet":
        return 10 * cube.data.nbytes <= settings.memory * 1e9
    k = binning(cube.beam_fwhm) if cube.beam_fwhm else 0.5  # if the beam is unknown, the case that needs most memory
    fixed, each, pair = bytes_needed(cube.shape, k)
    pixels = float(np.prod([np.ceil(n / k) for n in cube.shape[1:]]))
    return float(np.polyval((pair, each, fixed), pixels)) + cube.data.nbytes <= settings.memory * 1e9


def held_for_candidates(cube: Cube, window: Window, count: int, settings: Settings) -> Generator[Progress, None, Cube]:
    """The cube with a window held in memory, for ``count`` cutouts of it; the cube itself if that is not worthwhile.

    After the search for sources, which needs several copies of the window in memory, there is room for one.
    """
    y, x = window.pixels(cube.shape[1:])
    area = (y.stop - y.start) * (x.stop - x.start)
    if not isinstance(cube.data, Lazy) or 2 * count * settings.crop**2 < WORTH_HOLDING * area:
        return cube
    fixed, _, pair = bytes_needed(cube.shape, window.k)
    part = cube.data.dtype.itemsize * cube.shape[0] * area
    pixels = float(np.prod(window.shape))
    needed = float(np.polyval((pair, PER_PIXEL * window.k**2, fixed), pixels)) + part
    if needed > HELD_SHARE * settings.memory * 1e9:
        return cube
    yield Progress("Reading the cube", 0, 1)
    return with_data(cube, Held(cube.data, y, x))


def cut_axis(length: int, size: int, overlap: int) -> list[tuple[int, int, slice]]:
    """First pixel, size and owned pixels of the windows of at most ``size`` that cover one axis.

    They start on multiples of :data:`GRID`; an overlap is divided in the middle between the cores.
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
        part = cube.read(channels, y, x, writable=False)
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
    """Variation of the noise of a primary-beam corrected cube across a window, (ny, nx); None if unknown."""
    if cube.primary_beam is None or not cube.primary_beam.corrected:
        return None
    return 1 / resample(cube.primary_beam.plane(cube.shape[0] // 2, *window.pixels(cube.shape[1:])), window.k)


def read_in_noise_units(
    cube: Cube, window: Window, beam: float, device: Any = "cpu"
) -> Generator[Progress, None, tuple[NoiseUnits | None, np.ndarray]]:
    """Steps 1 and 2: read a window once, stacked and in units of the noise.

    Parameters
    ----------
    beam
        FWHM in pixels of the window.

    Returns
    -------
    units
        None if the window has no data.
    stacked
        The dirty image (step 1) of :meth:`Window.pixels`, at the resolution of the cube.
    """
    import torch

    planes, stacked = yield from read_averaged(cube, window)
    profile = noise_profile(cube, window)
    known = None if profile is None else torch.from_numpy(profile).to(device)
    try:
        return in_noise_units(torch.from_numpy(planes).to(device), beam, known), stacked
    except ValueError:  # no data here
        return None, stacked


@in_steps
def beam_fwhm(cube: Cube) -> Generator[Progress, None, float]:
    """Geometric mean of the beam FWHM in pixels: from the header, or else from the correlation of the noise."""
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
