"""Windows of the field that the preset ``almadet`` searches one at a time, and what it finds in them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_almadet.pipeline.blobs import channel_blocks
from napari_almadet.pipeline.catalog import Box, Candidate
from napari_almadet.pipeline.evidence import PIXELS_PER_BEAM, average, in_noise_units
from napari_almadet.pipeline.sidelobes import noise_beam
from napari_almadet.pipeline.steps import Progress
from napari_almadet.pipeline.tiling import window_starts

if TYPE_CHECKING:
    from napari_almadet.cube import Cube

WINDOW_VOXELS = 2**26  # of averaged pixels held at a time: 256 MB
OVERLAP = 8  # beams by which windows overlap


@dataclass
class Find:
    """A candidate as the search knows it: where and how large, its spectrum in noise units, its measures, its window.

    ``y``, ``x``, ``sigma_y`` and ``sigma_x`` are in the cube's pixels; ``spectrum`` has 0 in channels without data.
    """

    candidate: Candidate
    y: float
    x: float
    sigma_y: float
    sigma_x: float
    spectrum: np.ndarray
    measures: np.ndarray
    window: Window
    box: Box | None = None  # of extended emission; others end where their Gaussian does


@dataclass(frozen=True)
class Window:
    """A part of the field that is searched at once; ``y`` and ``x`` are its first averaged pixel.

    ``owned`` are the averaged pixels, in the window, whose sources are this window's rather than a neighbour's.
    """

    y: int
    x: int
    shape: tuple[int, int]
    owned: tuple[slice, slice]
    k: int
    sidelobes: np.ndarray | None = None  # (n, ny, nx) images of what is taken off
    spectra: np.ndarray | None = None  # (n, channels) in the cube's unit
    rms_map: np.ndarray | None = None

    def sidelobes_in(self, origin: tuple[int, int], side: int) -> np.ndarray | float:
        """Sidelobes in a square of the cube, (channels, side, side) in the cube's unit; 0 where there are none."""
        if self.sidelobes is None:
            return 0.0
        y, x = ((origin[i] + np.arange(side) + 0.5) / self.k - 0.5 - (self.y, self.x)[i] for i in (0, 1))
        grid = np.meshgrid(y, x, indexing="ij")
        images = [
            ndimage.map_coordinates(image * self.rms_map, grid, order=1, mode="nearest") for image in self.sidelobes
        ]
        return np.tensordot(self.spectra, np.stack(images), axes=(0, 0)).astype(np.float32)


def windows(shape: tuple[int, int, int], k: int, beam: float) -> list[Window]:
    """Windows that cover a cube's field, as large as :data:`WINDOW_VOXELS` lets them be.

    Parameters
    ----------
    shape
        Of the cube.
    k
        Pixels averaged on a side.
    beam
        FWHM in averaged pixels.
    """
    sides = [-(-n // k) for n in shape[1:]]
    overlap = int(np.ceil(OVERLAP * beam))
    side = max(int(np.sqrt(WINDOW_VOXELS / shape[0])), 2 * overlap)
    cuts = []
    for length in sides:
        size = min(side, length)
        starts = window_starts(length, size, min(overlap, size - 1)) if length > size else [0]
        borders = [0, *((a + size + b) // 2 for a, b in pairwise(starts)), length]
        cuts.append(
            [(s, size, slice(lo - s, hi - s)) for s, lo, hi in zip(starts, borders[:-1], borders[1:], strict=True)]
        )
    return [Window(y, x, (ny, nx), (own_y, own_x), k) for y, ny, own_y in cuts[0] for x, nx, own_x in cuts[1]]


def read_averaged(cube: Cube, window: Window) -> Generator[Progress, None, np.ndarray]:
    """A window's planes averaged over blocks of pixels, (channels, ny, nx), read a few channels at a time."""
    n_channels, k = cube.shape[0], window.k
    y = slice(window.y * k, min((window.y + window.shape[0]) * k, cube.shape[1]))
    x = slice(window.x * k, min((window.x + window.shape[1]) * k, cube.shape[2]))
    planes = np.empty((n_channels, *window.shape), np.float32)
    for block in channel_blocks(n_channels, (y.stop - y.start) * (x.stop - x.start)):
        planes[block] = average(cube.read(block, y, x), k)
        yield Progress("Reading the cube", block.stop, n_channels)
    return planes


def noise_profile(cube: Cube, window: Window) -> np.ndarray | None:
    """How a primary-beam corrected cube's noise varies across a window, (ny, nx); None where that is not known."""
    if cube.primary_beam is None or not cube.primary_beam.corrected:
        return None
    y = slice(window.y * window.k, (window.y + window.shape[0]) * window.k)
    x = slice(window.x * window.k, (window.x + window.shape[1]) * window.k)
    return 1 / average(cube.primary_beam.plane(cube.shape[0] // 2, y, x), window.k)


def beam_fwhm(cube: Cube) -> Generator[Progress, None, float]:
    """Geometric mean of the beam's FWHM in pixels: the header's, or else what the noise's correlation says."""
    import torch

    if cube.beam_area:
        return float(np.sqrt(4 * np.log(2) / np.pi * cube.beam_area))
    ny, nx = cube.shape[1:]
    size = min(ny, 256), min(nx, 256)
    middle = Window((ny - size[0]) // 2, (nx - size[1]) // 2, size, (slice(None), slice(None)), 1)
    planes = yield from read_averaged(cube, middle)
    try:
        return max(1.5, noise_beam(in_noise_units(torch.from_numpy(planes), PIXELS_PER_BEAM)))
    except ValueError:  # no data in the middle
        return PIXELS_PER_BEAM
