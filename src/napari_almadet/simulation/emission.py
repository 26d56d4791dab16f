"""Objects of any shape: a cube with the brightness of each one, and its position in a field.

The Gaussians of `napari_almadet.simulation.sky` are products of an image and a spectrum.  Galaxies and clouds are not:
each is a small cube with the pixels and channels of the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import fft, ndimage

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.sky import covariance

MASK_LEVEL = 0.5  # of a channel's rms: minimum of an object's model, convolved with the beam, in voxels of the object
BEAM_REACH = 2.0  # FWHM, radius to which a Gaussian beam is computed: there it has fallen to 2e-5


def triple(values: Iterable[int]) -> tuple[int, int, int]:
    """Three whole numbers: channel, row, column."""
    channel, row, column = (int(value) for value in values)
    return channel, row, column


@dataclass(frozen=True, eq=False)
class Emission:
    """The brightness of one object.

    Attributes
    ----------
    cube
        Shape (channels, ny, nx), float32, in Jy/pixel or in any unit of brightness; negative in absorption.
    origin
        Channel, row and column of ``cube[0, 0, 0]`` in the field; may be negative.
    kind
        "galaxy", "cloud", "continuum" or "absorption".
    """

    cube: np.ndarray
    origin: tuple[int, int, int]
    kind: str

    def scaled(self, factor: float) -> Emission:
        """The same emission, ``factor`` times as bright."""
        return replace(self, cube=self.cube * np.float32(factor))

    def within(self, shape: tuple[int, int, int]) -> Emission:
        """The part inside a field of a shape (channels, ny, nx); it may have no voxels."""
        first = [max(0, -o) for o in self.origin]
        stop = [
            max(f, min(n, size - o)) for f, n, size, o in zip(first, self.cube.shape, shape, self.origin, strict=True)
        ]
        part = tuple(slice(f, s) for f, s in zip(first, stop, strict=True))
        origin = triple(o + f for o, f in zip(self.origin, first, strict=True))
        return replace(self, cube=self.cube[part], origin=origin)

    def add_to(self, field: np.ndarray) -> None:
        """Add it to a field (channels, ny, nx), in place; parts outside are ignored."""
        part = self.within(field.shape)
        field[part.place] += part.cube

    @property
    def place(self) -> tuple[slice, slice, slice]:
        """Slices of the field that it covers; for a part from `within`."""
        z, y, x = (slice(o, o + n) for o, n in zip(self.origin, self.cube.shape, strict=True))
        return z, y, x

    def seen_with(self, beam: CleanBeam) -> Emission:
        """Convolved with a Gaussian beam of peak 1, from Jy/pixel to Jy/beam; larger by the extent of the beam."""
        reach = int(np.ceil(BEAM_REACH * beam.major))
        n, ny, nx = self.cube.shape
        wide = tuple(fft.next_fast_len(side + 2 * reach, real=True) for side in (ny, nx))
        transfer = beam_transfer(beam, wide) * np.float32(2 * np.pi * np.sqrt(np.linalg.det(beam_covariance(beam))))
        seen = np.empty((n, ny + 2 * reach, nx + 2 * reach), np.float32)
        for c, plane in enumerate(self.cube):
            padded = np.zeros(wide, np.float32)
            padded[reach : reach + ny, reach : reach + nx] = plane
            smooth = fft.irfft2(fft.rfft2(padded) * transfer, s=wide)
            seen[c] = smooth[: seen.shape[1], : seen.shape[2]]
        z, y, x = self.origin
        return replace(self, cube=seen, origin=(z, y - reach, x - reach))

    def mixed(self, mixing: np.ndarray) -> Emission:
        """Converted to other channels, weighted sums of these: ``mixing`` is (new, old) channels of the field."""
        first, n = self.origin[0], len(self.cube)
        low, high = max(first, 0), min(first + n, mixing.shape[1])
        weights = mixing[:, low:high]
        new = np.flatnonzero(weights.any(axis=1))
        if not len(new):
            return replace(self, cube=self.cube[:0], origin=(0, *self.origin[1:]))
        weights = weights[new[0] : new[-1] + 1].astype(np.float32)
        cube = np.tensordot(weights, self.cube[low - first : high - first], axes=1)
        return replace(self, cube=cube, origin=(int(new[0]), *self.origin[1:]))


def beam_covariance(beam: CleanBeam) -> np.ndarray:
    """Covariance in (x, y) pixels of a Gaussian beam, shape (2, 2)."""
    return covariance(beam.major, beam.minor, beam.angle)


def beam_transfer(beam: CleanBeam, shape: tuple[int, int]) -> np.ndarray:
    """Transform (`numpy.fft.rfft2`) of a Gaussian beam of unit area, for an image of ``shape``: float32."""
    (xx, xy), (_, yy) = beam_covariance(beam)
    v, u = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    return np.exp(-2 * np.pi**2 * (xx * u**2 + 2 * xy * u * v + yy * v**2)).astype(np.float32)


def beam_between(from_: CleanBeam, to: CleanBeam) -> CleanBeam | None:
    """The Gaussian that convolves a beam to a wider one; None if that is not wider in every direction."""
    values, axes = np.linalg.eigh(beam_covariance(to) - beam_covariance(from_))
    if values[0] < 0:
        return None
    minor, major = np.sqrt(values) / gaussian_fwhm_to_sigma
    x, y = axes[:, 1]
    # Position angle runs from north (+y) to east (-x).
    return CleanBeam(float(major), float(minor), float(np.degrees(np.arctan2(-x, y)) % 180))


def deposit(
    places: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray, shape: tuple[int, int, int]
) -> np.ndarray:
    """Add points to a cube of ``shape``, each distributed over the eight nearest voxels; float32.

    Parameters
    ----------
    places
        Channel, y and x of the points, 0-based, each of shape (n,); points more than a voxel outside are ignored.
    weights
        Shape (n,).
    """
    cells = [np.floor(p).astype(np.int32) for p in places]
    parts = [p - c for p, c in zip(places, cells, strict=True)]
    inside = np.all([(c >= -1) & (c < n) for c, n in zip(cells, shape, strict=True)], axis=0)
    cells, parts = ([a[inside] for a in arrays] for arrays in (cells, parts))
    weights = weights[inside]
    wide = tuple(n + 2 for n in shape)  # a border of one voxel for points at the edge
    base = ((cells[0] + 1) * wide[1] + cells[1] + 1) * wide[2] + cells[2] + 1
    total = np.zeros(np.prod(wide))
    for corner in range(8):
        shift = [(corner >> k) & 1 for k in (2, 1, 0)]
        share = weights.copy()
        for part, s in zip(parts, shift, strict=True):
            share *= part if s else 1 - part
        step = (shift[0] * wide[1] + shift[1]) * wide[2] + shift[2]
        total += np.bincount(base + step, share, minlength=len(total))
    return total.reshape(wide)[1:-1, 1:-1, 1:-1].astype(np.float32)


def broadened(cube: np.ndarray, dispersion: float) -> np.ndarray:
    """A cube with spectra convolved with a Gaussian, standard deviation in channels; same number of channels."""
    return ndimage.gaussian_filter1d(cube, dispersion, axis=0, mode="constant", truncate=4) if dispersion > 0 else cube


def line_widths(spectrum: np.ndarray) -> tuple[float, float]:
    """Widths in channels between the outermost crossings of 20 % and 50 % of a spectrum's peak (w20, w50).

    Crossings are interpolated linearly between channels; for absorption lines they are those of the depth.
    """
    spectrum = np.pad(np.abs(spectrum), 1)
    widths = []
    for level in (0.2, 0.5):
        limit = level * spectrum.max()
        above = np.flatnonzero(spectrum >= limit)
        if not limit or not len(above):
            return (0.0, 0.0)
        low, high = above[0], above[-1]
        begin = low - (spectrum[low] - limit) / max(spectrum[low] - spectrum[low - 1], 1e-30)
        end = high + (spectrum[high] - limit) / max(spectrum[high] - spectrum[high + 1], 1e-30)
        widths.append(float(end - begin))
    return widths[0], widths[1]
