"""Injection of sources into parts of a cube as they are read: the file does not change, and cubes can be of any size.

An injected source is a Gaussian on the sky, convolved with the beam of each channel, times a Gaussian line.  Its flux
is in the unit of the catalogue.  The convolution of two Gaussians adds their covariance matrices (Wild 1970), so that
no plane needs to be convolved; if the dirty beam is given as an image, the source is convolved with it in the uv plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import fft, ndimage
from scipy.special import erf

from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.constants import BEAM_AREA
from napari_almadet.cube.cube import Cube
from napari_almadet.measure.catalogue_row import beam_at
from napari_almadet.measure.cutout import Cutout, level_of
from napari_almadet.measure.gaussian_fit import beam_matrix, sky_matrix
from napari_almadet.search.dirty_beam import read_psf

if TYPE_CHECKING:
    from napari_almadet.measure.noise import Noise

REACH = 5.0  # sigma, where a source ends; derived: 4e-6 of its peak
TRIES = 50  # random positions tried per source; at the densities used, one in two is free
NEAR = 5.0  # beams around a position within which its noise is measured


@dataclass(frozen=True)
class Injection:
    """A source to inject.

    Attributes
    ----------
    x, y, z
        Centre, 0-based pixels and channel.
    flux
        Integrated flux in the unit of the catalogue's ``f_sum``, before the primary beam.
    width
        FWHM of the line in channels.
    size
        Intrinsic FWHM in beams (geometric mean of the beam's axes); 0 is a point source.
    """

    x: float
    y: float
    z: float
    flux: float
    width: float
    size: float


@dataclass(frozen=True, eq=False)
class Patch:
    """What a source adds to a cube: ``spectrum[k] * images[k]``, starting at voxel ``origin`` = (channel, y, x).

    ``images`` has shape (channels, ny, nx), or (1, ny, nx) if it is the same in all channels.
    """

    origin: tuple[int, int, int]
    spectrum: np.ndarray
    images: np.ndarray

    def add_to(self, part: np.ndarray, channels: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
        """Add it in place to a part of the cube with these channels, rows and columns.

        Exact zeros, which mark missing data, and NaN do not change.
        """
        shape = (len(self.spectrum), *self.images.shape[1:])
        inside, own = [], []
        for numbers, first, n in zip((channels, y, x), self.origin, shape, strict=True):
            (at,) = np.nonzero((numbers >= first) & (numbers < first + n))
            if not len(at):
                return
            inside.append(at)
            own.append(numbers[at] - first)
        k, j, i = own
        image = self.images[np.ix_(k if len(self.images) > 1 else np.zeros(1, int), j, i)]
        place = np.ix_(*inside)
        there = part[place]
        part[place] = np.where(there == 0, there, there + self.spectrum[k, None, None] * image)

    def at_peak(self, n_channels: int) -> np.ndarray:
        """The spectrum at the brightest pixel, (n_channels,)."""
        image = self.images[len(self.images) // 2]
        j, i = np.unravel_index(np.argmax(image), image.shape)
        spectrum = np.zeros(n_channels)
        spectrum[self.origin[0] : self.origin[0] + len(self.spectrum)] = self.spectrum * self.images[:, j, i]
        return spectrum


@dataclass(frozen=True, eq=False)
class Injected:
    """An array (channel, y, x) that adds sources to each part when it is read; float32."""

    data: Any
    patches: tuple[Patch, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        index = (*index, *[slice(None)] * (3 - len(index)))
        with np.errstate(over="ignore"):  # float64 values beyond float32 become infinite, that is, missing
            values = np.array(self.data[index], dtype=np.float32)
        axes = [np.atleast_1d(np.arange(n)[i]) for i, n in zip(index, self.shape, strict=True)]
        part = values.reshape([len(axis) for axis in axes])
        for patch in self.patches:
            patch.add_to(part, *axes)
        return values


class InjectedCube(Cube):
    """A cube with injected sources, which are added again if another process opens the file by its path."""

    def sha256(self, wanted: Callable[[], bool] = lambda: True) -> str:
        """No hash: that of the file would be that of the cube without the sources."""
        return ""


@dataclass(frozen=True, eq=False)
class Reopened:
    """Opens the file of an injected cube again after pickling, and adds its sources."""

    reader: Callable[[str], Cube]
    patches: tuple[Patch, ...]

    def __call__(self, address: str) -> Cube:
        return injected(self.reader(address), self.patches)


def injected(cube: Cube, patches: Sequence[Patch]) -> InjectedCube:
    """The cube with sources added, as lazy as the original, which is not changed."""
    known = {f.name: getattr(cube, f.name) for f in fields(Cube)}
    known["data"] = Injected(cube.data, tuple(patches))
    if cube.reader is not None:
        known["reader"] = Reopened(cube.reader, tuple(patches))
    return InjectedCube(**known)


def patch_of(source: Injection, cube: Cube, fwhm: float, psf: str | Path | None = None) -> Patch:
    """The contribution of a source to a cube.

    Parameters
    ----------
    cube
        With its primary beam, if known: a source in a cube that was not corrected for it is attenuated.
    fwhm
        FWHM of the beam in pixels, geometric mean; used as the beam if the header has none.
    psf
        Image of the dirty beam, if the source is to be convolved with it.
    """
    line = profile(source.z, source.width, cube.shape[0])
    (used,) = np.nonzero(line > line.max() * np.exp(-0.5 * REACH**2))
    first, n_channels = int(used[0]), len(used)
    numbers = np.arange(first, first + n_channels)
    factor = np.broadcast_to(flux_factor(cube, numbers)[0], numbers.shape).astype(float)
    width = channel_width(cube, source.z).value
    spectrum = source.flux * line[numbers] / width / factor
    if psf is not None:
        origin, images = _through_psf(source, cube, fwhm, str(psf))
    else:
        origin, images = _through_beam(source, cube, fwhm, numbers)
    images = images * response(cube, source.z, origin, images.shape[1:])
    return Patch((first, *origin), spectrum.astype(np.float32), images.astype(np.float32))


def profile(centre: float, width: float, n_channels: int) -> np.ndarray:
    """A Gaussian line of FWHM ``width`` channels, averaged over each channel; its sum over an endless band is 1."""
    edges = (np.arange(n_channels + 1) - 0.5 - centre) / (np.sqrt(2) * width * gaussian_fwhm_to_sigma)
    return 0.5 * np.diff(erf(edges))


def response(cube: Cube, z: float, origin: tuple[int, int], shape: tuple[int, int]) -> np.ndarray | float:
    """Attenuation by the primary beam, (ny, nx); 1 if it is unknown or has been corrected for."""
    beam = cube.primary_beam
    if beam is None or beam.corrected:
        return 1.0
    y, x = (slice(first, first + n) for first, n in zip(origin, shape, strict=True))
    return np.nan_to_num(beam.plane(round(z), y, x))


def shapes(cube: Cube, source: Injection, fwhm: float, channels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Covariances along x and y in pixels²: of the source itself, (2, 2), and of each channel's beam, (n, 2, 2)."""
    to_sky = sky_matrix(cube, source.x, source.y)
    if to_sky is None or cube.beam is None:
        beam = np.eye(2) * (fwhm * gaussian_fwhm_to_sigma) ** 2
        return beam * source.size**2, np.broadcast_to(beam, (len(channels), 2, 2))
    to_pixels = np.linalg.inv(to_sky)
    beams = np.stack([to_pixels @ beam_matrix(beam_at(cube, int(k))) @ to_pixels.T for k in channels])
    own = np.sqrt(np.linalg.det(beam_matrix(cube.beam))) * source.size**2 * np.eye(2)
    return to_pixels @ own @ to_pixels.T, beams


def _through_beam(
    source: Injection, cube: Cube, fwhm: float, numbers: np.ndarray
) -> tuple[tuple[int, int], np.ndarray]:
    """First pixel (y, x) and images of unit sum, (1 or channels, ny, nx), through the header's beam."""
    one_beam = cube.beams is None or cube.beams.isscalar
    own, beams = shapes(cube, source, fwhm, [round(source.z)] if one_beam else [int(k) for k in numbers])
    matrices = own + beams
    reach = REACH * np.sqrt(matrices.max(axis=0).diagonal())
    bounds = []
    for at, length, n in ((source.y, reach[1], cube.shape[1]), (source.x, reach[0], cube.shape[2])):
        low, high = int(np.clip(np.floor(at - length), 0, n - 1)), int(np.clip(np.ceil(at + length), 0, n - 1))
        bounds.append(np.arange(low, high + 1))
    dy, dx = bounds[0][:, None] - source.y, bounds[1][None] - source.x
    images = []
    for matrix in matrices:
        inverse = np.linalg.inv(matrix)
        power = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2
        images.append(np.exp(-0.5 * power) / (2 * np.pi * np.sqrt(np.linalg.det(matrix))))
    return (int(bounds[0][0]), int(bounds[1][0])), np.stack(images)


def _through_psf(source: Injection, cube: Cube, fwhm: float, path: str) -> tuple[tuple[int, int], np.ndarray]:
    """Corner and images of a source as the dirty beam of a file shows it, out to the edge of the image of the beam."""
    psf = read_psf(path, cube)
    own, _ = shapes(cube, source, fwhm, [round(source.z)])
    y0, x0 = (int(np.floor(v + 0.5)) for v in (source.y, source.x))
    side = tuple(fft.next_fast_len(n + 2 * int(REACH * np.sqrt(own.max()) + 2), real=True) for n in psf.shape)
    v, u = fft.fftfreq(side[0])[:, None], fft.rfftfreq(side[1])[None]
    power = own[0, 0] * u**2 + 2 * own[0, 1] * u * v + own[1, 1] * v**2
    moved = np.exp(-2 * np.pi**2 * power - 2j * np.pi * (u * (source.x - x0) + v * (source.y - y0)))
    image = fft.irfft2(fft.rfft2(psf, s=side) * moved, s=side)[: psf.shape[0], : psf.shape[1]]
    half_y, half_x = psf.shape[0] // 2, psf.shape[1] // 2
    cut, first = [], []
    for at, half, n in ((y0, half_y, cube.shape[1]), (x0, half_x, cube.shape[2])):
        low, high = max(at - half, 0), min(at + half + 1, n)
        cut.append(slice(low - at + half, high - at + half))
        first.append(low)
    area = cube.beam_area or BEAM_AREA * fwhm**2
    return (first[0], first[1]), image[tuple(cut)][None] / area


def snr_of(patch: Patch, noise: Noise, level: float = 1.0) -> float:
    """S/N of a source's line at its brightest pixel: matched filter of its profile, correlated noise of channels.

    Parameters
    ----------
    level
        Noise at the position relative to ``noise.rms``.
    """
    spectrum = np.where(np.isfinite(noise.rms), patch.at_peak(len(noise.rms)), 0.0)
    variance = noise.spectral_variance(spectrum) * level**2
    return float((spectrum**2).sum() / np.sqrt(variance)) if variance > 0 else np.nan


def level_at(cube: Cube, noise: Noise, x: float, y: float, fwhm: float) -> float:
    """Noise at a position relative to ``noise.rms``, measured in the cube around it."""
    if noise.uniform:
        return 1.0
    half = int(np.ceil(NEAR * fwhm))
    j, i = round(y), round(x)
    y0, x0 = max(j - half, 0), max(i - half, 0)
    planes = cube.read(slice(None), slice(y0, j + half + 1), slice(x0, i + half + 1))
    cutout = Cutout(planes, (y0, x0), noise)
    return float(level_of(replace(cutout, level=np.ones(planes.shape[1:], np.float32)), fwhm)[j - y0, i - x0])


@dataclass(frozen=True, eq=False)
class Room:
    """Where sources can be injected.

    Attributes
    ----------
    free
        Pixels (ny, nx) with data, far from detected sources.
    channels
        Those with data, (channels,).
    fwhm
        Of the beam in pixels.
    """

    free: np.ndarray
    channels: np.ndarray
    fwhm: float

    def places(self, rng: np.random.Generator, count: int, apart: float) -> list[tuple[float, float]]:
        """At most ``count`` random places (x, y), ``apart`` pixels from each other."""
        chosen: list[tuple[float, float]] = []
        pixels = np.flatnonzero(self.free)
        for pixel in rng.choice(pixels, TRIES * count) if len(pixels) else ():
            if len(chosen) == count:
                break
            j, i = divmod(int(pixel), self.free.shape[1])
            if all(np.hypot(i - x, j - y) >= apart + 1 for x, y in chosen):
                chosen.append((float(i + rng.uniform(-0.5, 0.5)), float(j + rng.uniform(-0.5, 0.5))))
        return chosen

    def channel(self, rng: np.random.Generator, width: float) -> float:
        """A random centre for a line of a given FWHM: in a channel with data, one FWHM from the ends of the band.

        If the line is too wide for that, the middle of the band.
        """
        (known,) = np.nonzero(self.channels)
        low, high = known[0] - 0.5 + width, known[-1] + 0.5 - width
        inside = known[(known >= low) & (known <= high)]
        if not len(inside):
            return float(known[0] + known[-1]) / 2
        return float(np.clip(rng.choice(inside) + rng.uniform(-0.5, 0.5), low, high))


def room_of(valid: np.ndarray, channels: np.ndarray, taken: Sequence[tuple[float, float, float]], fwhm: float) -> Room:
    """The room for sources in a field.

    Parameters
    ----------
    valid
        Pixels with data, (ny, nx): sources are at least a beam inside.
    channels
        Channels with data.
    taken
        Circles (x, y, radius) in pixels in which nothing is injected.
    fwhm
        Of the beam in pixels.
    """
    framed = np.pad(valid, 1)
    free = ndimage.distance_transform_edt(framed)[1:-1, 1:-1] > fwhm
    for x, y, radius in taken:
        low_y, low_x = max(int(y - radius), 0), max(int(x - radius), 0)
        part = free[low_y : int(y + radius) + 2, low_x : int(x + radius) + 2]
        j, i = np.indices(part.shape)
        part[np.hypot(i + low_x - x, j + low_y - y) < radius] = False
    return Room(free, channels, fwhm)
