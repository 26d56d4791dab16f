"""Spectra of a candidate in several apertures, and statistics of a range of channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.catalogue.candidate import Candidate, EmissionPeak
from napari_almadet.catalogue.detections import Detections, brightness_unit, flux_factor
from napari_almadet.inspection.geometry import beam_pattern
from napari_almadet.measure.cutout import level_of
from napari_almadet.measure.focus import Cutout, brightest_pixel, focus, noise
from napari_almadet.measure.spectra import off_line

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from napari_almadet.cube.cube import Cube
    from napari_almadet.inspection.axes import SpectralAxis
    from napari_almadet.measure.noise import Noise


APART = 4.0  # pixels of FWHM, where the header gives no beam
CORRECTED = 0.01  # of the highest value: spectra that differ by more are two curves


class Aperture(StrEnum):
    """What of the sky goes into a spectrum."""

    BOX = "box sum"
    PEAK = "peak pixel"
    BEAM = "beam-weighted"


def extract(cube: Cube, candidate: Candidate, aperture: Aperture, cutout: Cutout) -> u.Quantity:
    """The spectrum of the cube as it was given, through an aperture; shape (channels,), NaN in a channel without data.

    * Box: the sum over the candidate's box, in Jy where the beam is known, each channel with its own beam.
    * Peak: the brightest pixel of the focused image inside the box, in the cube's unit.
    * Beam: ``sum(B I) / sum(B**2)`` with B the beam, 1 at the candidate's centre; of a
      source smaller than the beam this is the flux density with the least noise, if
      pixels were independent (Naylor 1998, MNRAS 296, 339).  Its unit is the cube's, and
      a Jy/beam of a point source is a Jy.

    Parameters
    ----------
    cutout
        About the candidate's box.

    Raises
    ------
    ValueError
        If the beam is asked for and not known.
    """
    planes, box = cutout.planes, cutout.local(candidate.box)
    if aperture is Aperture.BOX:
        return box_sum(cube, planes[:, *box.slices])
    if aperture is Aperture.PEAK:
        (row, column), _ = brightest_pixel(focus(planes, candidate.channels), box)
        return planes[:, row, column].astype(float) * brightness_unit(cube)
    (y0, x0), (x, y) = cutout.origin, candidate.position
    pattern = beam_pattern(cube, x, y, planes.shape[1:], (x - x0, y - y0))
    if pattern is None:
        raise ValueError(f"{cube.name}: the beam is not known, so a spectrum cannot be weighted with it.")
    valid = np.isfinite(planes)
    weighted = np.where(valid, planes, 0).reshape(len(planes), -1) @ pattern.ravel()
    weights = valid.reshape(len(planes), -1) @ (pattern**2).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 0, weighted / weights, np.nan) * brightness_unit(cube)


def spectrum_noise(
    cube: Cube,
    candidate: Candidate,
    aperture: Aperture,
    cutout: Cutout,
    noise: Noise,
    pixels: np.ndarray | None = None,
) -> u.Quantity:
    """Noise of each channel of the spectrum that :func:`extract` gives, from the cube's as it was measured.

    Parameters
    ----------
    noise
        Of the cube: its level in each channel, and how its pixels share it.
    pixels
        Of the candidate's box, those that are summed: a region's.  Default: all.

    Returns
    -------
    Quantity
        Shape (channels,), in the spectrum's unit; NaN where the noise is not known.
    """
    box = cutout.local(candidate.box)
    n_channels, *field = cutout.planes.shape
    weights = np.zeros((field[0], field[1]))
    factor: float | np.ndarray = np.ones(n_channels)
    unit = brightness_unit(cube)
    if aperture is Aperture.BEAM:
        (y0, x0), (x, y) = cutout.origin, candidate.position
        pattern = beam_pattern(cube, x, y, weights.shape, (x - x0, y - y0))
        if pattern is None:
            raise ValueError(f"{cube.name}: the beam is not known, so a spectrum cannot be weighted with it.")
        weights = pattern * np.isfinite(cutout.planes).any(axis=0)
        weights = weights / (weights * pattern).sum()
    elif aperture is Aperture.PEAK:
        (y, x), _ = brightest_pixel(focus(cutout.planes, candidate.channels), box)
        weights[y, x] = 1
    else:
        weights[box.slices] = 1 if pixels is None else pixels
        if pixels is None or pixels.sum() > 1:  # of one pixel the spectrum is its brightness
            factor, unit = flux_factor(cube, np.arange(n_channels))
    here = replace(cutout, noise=noise)
    level = level_of(here, cube.beam_fwhm or APART)
    return np.sqrt(noise.spatial_variance(weights * level)) * noise.rms * factor * unit


def box_sum(cube: Cube, planes: np.ndarray) -> u.Quantity:
    """Sum of planes (channel, y, x) in each channel, in Jy where the beam is known; NaN without data."""
    factor, unit = flux_factor(cube, np.arange(len(planes)))
    known = np.isfinite(planes)
    total = np.where(known, planes, 0).sum(axis=(1, 2), dtype=float)
    return np.where(known.any(axis=(1, 2)), factor * total, np.nan) * unit


def corrected(detections: Detections, candidate: Candidate, summed: u.Quantity) -> u.Quantity | None:
    """The spectrum of a candidate without the sidelobes of other sources, where it is not the sum over its box.

    None where the two are the same, and in a cube that is not dirty: nothing was subtracted there, and if the two
    differ, the search summed over an earlier box.

    Parameters
    ----------
    detections
        The result, which states whether the cube is dirty.
    summed
        The sum over the box, from :func:`extract`.
    """
    own = np.asarray(candidate.spectrum, dtype=float)
    dirty = detections.provenance.get("dirty_beam", {}).get("beam") == "dirty"
    if not dirty or own.shape != summed.shape:
        return None
    factor, unit = flux_factor(detections.cube, np.arange(len(own)))
    own = factor * own
    scale = np.nanmax(np.abs(summed.to_value(unit)), initial=0.0)
    differs = np.nanmax(np.abs(own - summed.to_value(unit)), initial=0.0) > CORRECTED * scale
    return own * unit if differs else None


def line_free(candidate: Candidate, n_channels: int) -> np.ndarray:
    """Mask of the channels outside the candidate's emission range and those of its other peaks."""
    free = off_line(candidate.peaks, n_channels)
    free[slice(*candidate.channels)] = False
    return free


def baseline(spectrum: np.ndarray, free: np.ndarray) -> tuple[float, float]:
    """Level and noise of a spectrum in its line-free channels: median, and standard deviation by the MAD.

    Where fewer than two of them have data the level is 0 and the noise that of all channels;
    the noise is NaN where there is no spread.
    """
    rest = spectrum[free & np.isfinite(spectrum)]
    if len(rest) < 2:
        return 0.0, noise(spectrum)
    return float(np.median(rest)), noise(rest)


def gaussian(peak: EmissionPeak, channel: ArrayLike) -> np.ndarray:
    """The Gaussian fitted to a peak of the denoised spectrum, at fractional channels."""
    return peak.amplitude * _profile(peak, channel)


def _profile(peak: EmissionPeak, channel: ArrayLike) -> np.ndarray:
    """The Gaussian of a peak with a height of 1; a line that was found in the measured spectrum only has no height."""
    sigma = peak.fwhm * gaussian_fwhm_to_sigma
    return np.exp(-0.5 * ((np.asarray(channel) - peak.centre) / sigma) ** 2)


def has_gaussians(candidate: Candidate) -> bool:
    """Whether Gaussians describe the line: not where the flux is the mask's sum, because they left too much of it."""
    return bool(candidate.peaks) and candidate.method != "mask"


@dataclass(frozen=True)
class LineModel:
    """The fitted Gaussians on the scale of a dirty spectrum: a constant and one height for each peak.

    Centres and widths are those fitted to the denoised spectrum, whose own scale of 0 to 1 means no flux.
    """

    level: float
    heights: tuple[float, ...]
    peaks: tuple[EmissionPeak, ...]

    @classmethod
    def of(cls, spectrum: np.ndarray, peaks: tuple[EmissionPeak, ...]) -> LineModel:
        """Scale the peaks to a spectrum by linear least squares over the channels that have data."""
        channel = np.flatnonzero(np.isfinite(spectrum))
        shapes = [np.ones(len(channel)), *(_profile(p, channel) for p in peaks)]
        level, *heights = np.linalg.lstsq(np.stack(shapes, axis=1), spectrum[channel], rcond=None)[0]
        return cls(float(level), tuple(float(h) for h in heights), peaks)

    def __call__(self, channel: ArrayLike) -> np.ndarray:
        """The model at fractional channels."""
        lines = (h * _profile(p, channel) for h, p in zip(self.heights, self.peaks, strict=True))
        return self.level + sum(lines, np.zeros(np.shape(channel)))


@dataclass(frozen=True)
class RangeStatistics:
    """What a range of channels holds.

    Attributes
    ----------
    channels
        Half-open.
    sum
        Of the spectrum times the channel width, in the spectrum's unit times the axis's.
    mean, rms
        In the spectrum's unit; the rms is about the mean, hence the noise of a range without lines.
    snr
        Sum above the continuum, over the noise of as many independent channels.
    centroid
        Mean position in the axis's unit, weighted with the spectrum above the continuum;
        NaN where that sums to nothing positive or lands outside the range.
    """

    channels: tuple[int, int]
    sum: u.Quantity
    mean: u.Quantity
    rms: u.Quantity
    snr: float
    centroid: u.Quantity


def range_statistics(
    spectrum: u.Quantity, axis: SpectralAxis, channels: tuple[int, int], level: float, sigma: float
) -> RangeStatistics:
    """Measure a half-open range of channels; channels without data do not count.

    Parameters
    ----------
    level, sigma
        Continuum and noise of one channel in the spectrum's unit, see :func:`baseline`.
    """
    part = slice(*channels)
    known = np.isfinite(spectrum.value[part])
    values, widths, places = (a[part][known] for a in (spectrum.value, axis.widths, axis.centres))
    if not values.size:
        nothing = np.nan * spectrum.unit
        return RangeStatistics(channels, nothing * axis.unit, nothing, nothing, np.nan, np.nan * axis.unit)
    above = (values - level) * widths
    centroid = (above * places).sum() / above.sum() if above.sum() > 0 else np.nan
    if not axis.edges[part.start : part.stop + 1].min() <= centroid <= axis.edges[part.start : part.stop + 1].max():
        centroid = np.nan
    return RangeStatistics(
        channels,
        (values * widths).sum() * spectrum.unit * axis.unit,
        values.mean() * spectrum.unit,
        values.std() * spectrum.unit,
        float(above.sum() / (sigma * np.sqrt((widths**2).sum()))),
        centroid * axis.unit,
    )
