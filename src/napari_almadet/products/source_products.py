"""Maps, spectrum and cut of a source from the voxels in its mask, each in one pass over its part of the cube.

The moments are computed in :mod:`napari_almadet.inspection.moments`, with SoFiA-2's choice of voxels: moment 0 uses all
voxels of the mask, moments 1 and 2 the positive ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.catalogue.candidate import Box, Candidate, SourceMask
from napari_almadet.catalogue.detections import Detections, brightness_unit, flux_factor
from napari_almadet.inspection.axes import SpectralAxis, spectral_axes
from napari_almadet.inspection.geometry import sky_vectors
from napari_almadet.inspection.moments import Cut, Sums, cut_along
from napari_almadet.measure.spectra import off_line
from napari_almadet.measure.stacking import channel_blocks

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise

MARGIN = 10  # pixels and channels around a mask, the default of SoFiA-2
LINE_MARGIN = 2  # channels next to a mask that are not used for the continuum
LEAST_FREE = 4  # line-free channels, minimum to subtract a continuum
OPTICAL = {"VOPT": "optical", "VELO": "relativistic", "FELO": "optical"}  # axis in the file: convention of velocities
CUT_BEAMS = 1.5  # beams by which a cut extends beyond the mask
SHORTEST_CUT = 10  # pixels on each side


@dataclass(frozen=True, eq=False)
class Scales:
    """Channel widths, coordinates and flux factors of a cube in the units of the products.

    Attributes
    ----------
    unit
        Of a channel's width: km/s, Hz or chan.
    width
        Width of each channel, (channels,), as used for the fluxes in the catalogue.
    place
        Coordinate of each channel for moments 1 and 2, in ``unit``, in the convention of the axis in the file.
    label
        Name of ``place``, e.g. "radio velocity, LSRK".
    flux
        Factor from a brightness summed over pixels to a flux density, (channels,), and the unit of the flux density.
    beam
        Factor that scales each channel to the common beam of the cube, (channels,): 1 for a single beam.
    """

    unit: u.UnitBase
    width: np.ndarray
    place: np.ndarray
    label: str
    flux: np.ndarray
    flux_unit: u.UnitBase
    beam: np.ndarray

    @property
    def middle(self) -> float:
        """Coordinate of the middle of the band, to which sums for moments are relative."""
        return float(np.median(self.place))

    @classmethod
    def of(cls, cube: Cube) -> Scales:
        """The scales of a cube."""
        number = np.arange(cube.shape[0])
        factor, flux_unit = flux_factor(cube, number)
        factor = np.broadcast_to(factor, number.shape).astype(float)
        one = float(np.asarray(flux_factor(cube)[0]))
        axes = spectral_axes(cube)
        radio = next((axis for axis in axes if axis.name.startswith("Radio")), None)
        plain = radio or _in_hertz(axes) or axes[-1]
        wanted = OPTICAL.get(cube.spectral_type, "radio")
        own = next((axis for axis in axes if axis.name.lower() == f"{wanted} velocity"), plain)
        frame = f", {own.frame}" if own.frame else ""
        beams = u.beam in brightness_unit(cube).bases and cube.beams is not None and not cube.beams.isscalar
        return cls(
            *(plain.unit, plain.widths, own.centres, f"{own.name.lower()}{frame}", factor, flux_unit),
            factor / one if beams else np.ones(len(number)),
        )


def _in_hertz(axes: list[SpectralAxis]) -> SpectralAxis | None:
    axis = next((axis for axis in axes if axis.unit == u.GHz), None)
    return None if axis is None else SpectralAxis("Frequency", u.Hz, axis.edges * 1e9, axis.frame)


@dataclass(frozen=True, eq=False)
class SourceData:
    """A source's part of a cube, and sums over the whole band.

    Attributes
    ----------
    origin
        (channel, y, x) of the first voxel.
    planes
        Values of the cube, NaN where there is no data: (channels, ny, nx), with a margin around the mask.
    mask
        Voxels of the source, likewise.
    footprint
        Pixels (ny, nx) with a voxel in the mask; for a source without a line, the pixels of its box.
    baseline
        Mean of each pixel's line-free channels, (ny, nx); 0 where there are too few.
    continuum
        The same where continuum was detected in the source, else 0.
    subtracted
        Whether the continuum is subtracted from the line.
    free
        Channels over which the continuum is averaged.
    aperture, pixels
        Sum over the pixels with a voxel in the mask, without continuum, in each channel of the band, and the number of
        those pixels with data: (channels of the cube,).
    level
        Noise at the source over that of the cube.
    """

    candidate: Candidate
    origin: tuple[int, int, int]
    planes: np.ndarray
    mask: np.ndarray
    footprint: np.ndarray
    baseline: np.ndarray
    continuum: np.ndarray
    subtracted: bool
    free: int
    aperture: np.ndarray
    pixels: np.ndarray
    level: float

    @property
    def channels(self) -> slice:
        """The channels of this part."""
        return slice(self.origin[0], self.origin[0] + len(self.planes))

    def without_baseline(self, scales: Scales) -> np.ndarray:
        """Moment 0 minus the mean of the line-free channels of each pixel, as for fluxes in the catalogue, (ny, nx)."""
        part = self.channels
        weight = (scales.width * scales.beam)[part, None, None]
        return (np.where(self.mask, np.nan_to_num(self.planes - self.baseline), 0).astype(float) * weight).sum(axis=0)

    @property
    def lines(self) -> np.ndarray:
        """The planes without continuum, 0 where there is no data."""
        return np.nan_to_num(self.planes - self.continuum)


def mask_of(detections: Detections, candidate: Candidate) -> SourceMask | None:
    """Mask of a candidate; without one, its box and emission range; None for a source without a line."""
    if candidate.mask is not None:
        return candidate.mask
    if candidate.kind == "continuum":
        return None
    box, (first, last) = candidate.box.inside(detections.cube.shape[1:]), candidate.channels
    return SourceMask((first, box.y0, box.x0), np.ones((last - first, *box.shape), bool))


def source_data(detections: Detections, candidate: Candidate, noise: Noise | None = None) -> SourceData:
    """Read the part of the cube with a source, a few channels at a time.

    For a source without a line, the part is its box with no channels: only sums over the band are computed.
    """
    cube = detections.cube
    mask = mask_of(detections, candidate)
    if mask is None:
        box = candidate.box.inside(cube.shape[1:])
        bounds = (slice(0, 0), *box.slices)
    else:
        bounds = mask.slices
    z, y, x = (
        slice(max(s.start - MARGIN, 0), min(s.stop + MARGIN, n)) for s, n in zip(bounds, cube.shape, strict=True)
    )
    part = (z if mask is not None else bounds[0], y, x)
    voxels = np.zeros(tuple(s.stop - s.start for s in part), bool)
    local = tuple(slice(b.start - p.start, b.stop - p.start) for b, p in zip(bounds, part, strict=True))
    if mask is None:
        footprint = np.zeros(voxels.shape[1:], bool)
        footprint[local[1:]] = True
    else:
        voxels[local] = mask.voxels
        footprint = np.asarray(voxels.any(axis=0))
    free = free_channels(candidate, bounds[0], cube.shape[0])
    wanted = candidate.kind != "line" or mask is None
    planes, total, count, aperture, pixels = _read(cube, part, footprint, free)
    known = count.max(initial=0) >= LEAST_FREE
    subtracted = bool(wanted and known and mask is not None)
    baseline = np.zeros(footprint.shape, np.float32)
    if known:
        baseline = np.where(count > 0, total / np.maximum(count, 1), 0).astype(np.float32)
    if mask is not None and mask.baseline is not None:  # as it was measured
        baseline[local[1:]] = np.where(mask.footprint, mask.baseline, baseline[local[1:]])
    image = baseline if wanted else np.zeros_like(baseline)
    if subtracted:
        aperture = aperture - np.where(pixels > 0, image[footprint].sum(), 0)
    origin = (part[0].start, part[1].start, part[2].start)
    level, clear = level_at(candidate, noise), int(free.sum())
    sums = aperture, pixels, level
    return SourceData(candidate, origin, planes, voxels, footprint, baseline, image, subtracted, clear, *sums)


def free_channels(candidate: Candidate, line: slice, n_channels: int) -> np.ndarray:
    """Channels (channels,) outside the mask and the other lines of the source."""
    free = off_line(candidate.peaks, n_channels)
    if candidate.kind != "continuum":
        free[max(line.start - LINE_MARGIN, 0) : line.stop + LINE_MARGIN] = False
    return free


def level_at(candidate: Candidate, noise: Noise | None) -> float:
    """Noise at a source relative to that of the cube, from the ``rms`` measured there; 1 if unknown."""
    if noise is None or not np.isfinite(noise.rms).any() or not candidate.rms > 0:
        return 1.0
    channel = candidate.z if np.isfinite(candidate.z) else np.nan
    at = noise.rms[int(np.clip(round(channel), 0, len(noise.rms) - 1))] if np.isfinite(channel) else np.nan
    level = candidate.rms / (at if np.isfinite(at) else float(np.nanmedian(noise.rms)))
    return float(level) if np.isfinite(level) and level > 0 else 1.0


def _read(
    cube: Cube, part: tuple[slice, slice, slice], footprint: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Planes of the part; sum and number of each pixel's line-free channels; sum and number over the footprint."""
    shape = tuple(s.stop - s.start for s in part)
    planes = np.empty(shape, np.float32)
    total, count = np.zeros(shape[1:]), np.zeros(shape[1:], np.int32)
    aperture, pixels = np.zeros(cube.shape[0]), np.zeros(cube.shape[0], np.int32)
    for block in channel_blocks(cube.shape[0], shape[1] * shape[2]):
        seen = cube.read(block, part[1], part[2])
        known = np.isfinite(seen)
        values = np.where(known, seen, np.float32(0))
        total += values[free[block]].sum(axis=0, dtype=float)
        count += known[free[block]].sum(axis=0)
        aperture[block] = values[:, footprint].sum(axis=1, dtype=float)
        pixels[block] = known[:, footprint].sum(axis=1)
        first, last = max(block.start, part[0].start), min(block.stop, part[0].stop)
        if first < last:
            planes[first - part[0].start : last - part[0].start] = seen[first - block.start : last - block.start]
    return planes, total, count, aperture, pixels


# --- maps ----------------------------------------------------------------------------------------------------------


def sums_of(data: SourceData, scales: Scales, noise: Noise) -> Sums:
    """Sums over the mask of a source; those for moments 1 and 2 over its positive voxels, as in SoFiA-2."""
    channels = data.channels
    widths = (scales.width * scales.beam)[channels]
    sums = Sums.over(data.lines, data.mask, scales.place[channels], widths, middle=scales.middle, positive=True)
    return replace(sums, variance=variance_of(data, widths[:, None, None], noise))


def variance_of(data: SourceData, weight: np.ndarray, noise: Noise) -> np.ndarray:
    """Variance (ny, nx) of each pixel's sum over the mask, with the channels' correlation and the continuum's error."""
    sigma = noise.sigma[data.channels, None, None] * data.level
    weights = (data.mask * weight * sigma).astype(float)
    variance = np.zeros(weights.shape[1:])
    for lag, r in enumerate(noise.spectral[: len(weights)]):
        variance += (1 if lag == 0 else 2) * r * (weights[: len(weights) - lag] * weights[lag:]).sum(axis=0)
    if data.subtracted:  # the subtracted mean over the free channels has an error, too
        variance += weights.sum(axis=0) ** 2 / data.free
    return np.maximum(variance, 0)


# --- spectrum ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Flux density of a source in each channel of the band, in ``unit``, with errors from the noise.

    ``flux`` is the sum over the voxels of the mask in the channel, 0 if there are none, and ``pixels`` their number;
    ``aperture`` is the sum over all pixels with a voxel in the mask in any channel, NaN in a channel without data.
    """

    unit: u.UnitBase
    flux: np.ndarray
    error: np.ndarray
    pixels: np.ndarray
    aperture: np.ndarray
    aperture_error: np.ndarray


def spectrum_of(data: SourceData, scales: Scales, noise: Noise) -> Spectrum:
    """The integrated spectrum of a source."""
    n_channels = len(scales.flux)
    flux, error, pixels = np.zeros(n_channels), np.zeros(n_channels), np.zeros(n_channels, np.int32)
    part = data.channels
    flux[part] = np.where(data.mask, data.lines, 0).sum(axis=(1, 2), dtype=float) * scales.flux[part]
    pixels[part] = data.mask.sum(axis=(1, 2))
    sigma = noise.sigma * data.level * scales.flux
    used = np.flatnonzero(data.mask.any(axis=(1, 2)))
    for k in used:
        error[part.start + k] = np.sqrt(noise.spatial_variance(data.mask[k].astype(float)))
    by_noise = np.sqrt(noise.spatial_variance(data.footprint.astype(float)))
    known = data.pixels > 0
    return Spectrum(
        scales.flux_unit,
        flux,
        error * sigma,
        pixels,
        np.where(known, data.aperture * scales.flux, np.nan),
        np.where(known, by_noise * sigma, np.nan),
    )


# --- cut -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PositionVelocity:
    """A cut through a source: ``values`` (channels, offsets), from channel ``first`` on.

    Offsets increase along ``angle``, in degrees from North through East, in steps of ``step`` arcsec (pixels without
    WCS), and are 0 at the index ``middle``, which need not be an integer.
    """

    values: np.ndarray
    first: int
    angle: float
    step: float
    middle: float
    axis: str


def cut_angle(candidate: Candidate) -> tuple[float, str]:
    """Position angle of the cut, and its name: that of the kinematic axis, else of the major axis."""
    for name, words in (("kin_pa", "kinematic axis"), ("ell_pa", "major axis"), ("dc_pa", "major axis")):
        if np.isfinite(getattr(candidate, name)):
            return float(getattr(candidate, name)), words
    return 0.0, "North"


def cut_through(cube: Cube, data: SourceData) -> PositionVelocity | None:
    """The position-velocity cut through the position of a source, one pixel wide; None without a line."""
    if not data.mask.any():
        return None
    x, y = data.candidate.position
    angle, words = cut_angle(data.candidate)
    vectors = sky_vectors(cube, x, y)
    turn = np.radians(angle)
    along = np.array([0.0, 1.0]) if vectors is None else np.cos(turn) * vectors[0] + np.sin(turn) * vectors[1]
    per_pixel = 1.0 if vectors is None else 1 / float(np.hypot(*along))
    along = along / np.hypot(*along)
    rows, columns = np.nonzero(data.footprint)
    offsets = (columns + data.origin[2] - x) * along[0] + (rows + data.origin[1] - y) * along[1]
    reach = max(np.abs(offsets).max() + CUT_BEAMS * (cube.beam_fwhm or 0), SHORTEST_CUT)
    half = int(np.ceil(reach))
    start, end = (x - half * along[0], y - half * along[1]), (x + half * along[0], y + half * along[1])
    cut = _cut(cube, data, start, end)
    return PositionVelocity(cut.values.astype(np.float32), data.origin[0], angle, per_pixel, float(half), words)


def _cut(cube: Cube, data: SourceData, start: tuple[float, float], end: tuple[float, float]) -> Cut:
    (ny, nx), (xs, ys) = cube.shape[1:], zip(start, end, strict=True)
    box = Box(max(int(min(ys)) - 1, 0), min(int(max(ys)) + 3, ny), max(int(min(xs)) - 1, 0), min(int(max(xs)) + 3, nx))
    planes = cube.read(data.channels, *box.slices)
    if data.subtracted:
        planes[:] -= _continuum_in(data, box)
    first, last = ((x - box.x0, y - box.y0) for x, y in (start, end))
    return cut_along(planes, first, last)


def _continuum_in(data: SourceData, box: Box) -> np.ndarray:
    """The continuum in the pixels of a box; 0 outside the region in which it was measured."""
    image, (y0, x0) = np.zeros(box.shape, np.float32), data.origin[1:]
    ny, nx = data.continuum.shape
    y = slice(max(y0, box.y0), min(y0 + ny, box.y1))
    x = slice(max(x0, box.x0), min(x0 + nx, box.x1))
    image[y.start - box.y0 : y.stop - box.y0, x.start - box.x0 : x.stop - box.x0] = data.continuum[
        y.start - y0 : y.stop - y0, x.start - x0 : x.stop - x0
    ]
    return image
