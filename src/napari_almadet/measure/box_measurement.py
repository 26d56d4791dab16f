"""Measurement of a candidate in its box and emission range: position, flux, size, line width (paper, step 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.catalogue.candidate import Candidate, EmissionPeak
from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.constants import FOUR_LN2
from napari_almadet.measure.focus import Cutout, voxel_noise, without_continuum
from napari_almadet.measure.gaussian_fit import (
    Gaussian,
    beam_matrix,
    ellipse,
    fit_gaussian,
    noise_correlation,
    on_sky,
    place_errors,
    sky_matrix,
    unit_gaussian,
)
from napari_almadet.measure.spectra import off_line
from napari_almadet.measure.stacking import integrate

if TYPE_CHECKING:
    from radio_beam import Beam

    from napari_almadet.cube.cube import Cube


def measure(
    candidate: Candidate, cube: Cube, cutout: Cutout, place: tuple[float, float] | None = None, share: float = 1.0
) -> None:
    """Measure a candidate in the dirty cube: position, fluxes, size, line widths, with errors, and the noise.

    Everything is measured in the candidate's box and emission range, in the cube as it is in the file.  For candidates
    of kind line or both, the continuum of each pixel (its mean outside the emission ranges) is subtracted first.
    ``docs/catalogue.md`` gives unit, formula and error of each column.

    Parameters
    ----------
    candidate
        With box, peaks, channels and kind; the measures are stored in it.
    cutout
        About the candidate's box.
    place
        (x, y) in the cube's pixels, where it is known better than a centroid tells; ``z`` is then the fitted line's.
    share
        Of the source's flux that box and range hold; the flux is divided by it.
    """
    planes = cutout.planes
    rest = off_line(candidate.peaks, len(planes))
    subtracted = bool(candidate.kind != "continuum" and rest.any())
    data = without_continuum(planes, candidate.peaks) if subtracted else planes
    box, (first, last) = cutout.local(candidate.box), candidate.channels
    voxels = data[first:last, *box.slices]
    known = np.isfinite(voxels)
    candidate.rms = voxel_noise(planes, candidate.peaks)
    # n channels' sum; the continuum that was taken off has an error of its own, the same in every channel
    channels = last - first + ((last - first) ** 2 / rest.sum() if subtracted else 0)

    spectrum = np.nansum(voxels, axis=(1, 2))
    image = integrate(voxels)
    pixels, beams = known.any(axis=0).sum(), independent_beams(candidate.box.shape, cube.beam_area or 0)
    box_rms = float(candidate.rms * pixels / np.sqrt(beams))  # of the box's sum in one channel

    beam = beam_in_pixels(cube, candidate)
    y, x = centroid(image)
    candidate.x, candidate.y, candidate.z = x + candidate.box.x0, y + candidate.box.y0, centroid(spectrum)[0] + first
    candidate.err_x, candidate.err_y = centroid_errors(image, candidate.rms * np.sqrt(channels), beam)
    candidate.err_z = centroid_errors(spectrum[None], box_rms, None)[0]
    line = candidate.primary if candidate.kind != "continuum" else None
    if place is not None:
        candidate.x, candidate.y = place
        candidate.z = line.centre if line else candidate.z

    width = channel_width(cube, candidate.z).value
    factor = flux_factor(cube, np.arange(first, last))[0] * width / share
    candidate.f_sum = float((spectrum * factor).sum())
    candidate.err_f_sum = float(box_rms * np.sqrt(channels / (last - first)) * np.sqrt((factor**2).sum()))
    candidate.f_sum_all, candidate.err_f_sum_all = candidate.f_sum, candidate.err_f_sum
    candidate.f_max = float(np.nanmax(voxels, initial=-np.inf)) if known.any() else np.nan
    candidate.w50, candidate.w20 = (line_width(spectrum, level) * width for level in (0.5, 0.2))

    start = (candidate.x - candidate.box.x0, candidate.y - candidate.box.y0)
    size = beam if beam is not None else np.diag([max(n / 5, 1) ** 2 for n in candidate.box.shape[::-1]])
    fitted = fit_gaussian(image, start, size, candidate.rms * np.sqrt(channels), beam)
    _measure_size(candidate, cube, fitted, beam)
    shape = size if fitted is None else fitted.matrix
    own, own_rms = spectrum_of(planes[:, *box.slices], start, shape, candidate.rms, beam)
    _measure_line(candidate, own, own_rms, spectrum, box_rms, width, line, rest if subtracted else None)
    if place is not None:
        continuum = np.nanmean(own[rest]) * np.sqrt(rest.sum()) / own_rms if rest.any() else 0.0
        snr = float(np.hypot(candidate.peak / candidate.err_peak if line else 0.0, max(continuum, 0.0)))
        candidate.err_x, candidate.err_y = place_errors(shape, snr, beam) if snr > 0 else (np.nan, np.nan)


def beam_in_pixels(cube: Cube, candidate: Candidate) -> np.ndarray | None:
    """Shape of the beam in pixels² where a candidate is and in the middle of its range, (2, 2); None where unknown."""
    to_sky = sky_matrix(cube, *candidate.box.centre[::-1])
    if to_sky is None or cube.beam is None:
        return None
    to_pixels = np.linalg.inv(to_sky)
    return to_pixels @ beam_matrix(beam_of(cube, candidate)) @ to_pixels.T


def beam_of(cube: Cube, candidate: Candidate) -> Beam | None:
    """The beam in the middle of a candidate's range, or the cube's one where the table has none for that channel."""
    if cube.beams is None or cube.beams.isscalar:
        return cube.beam
    beam = cube.beams[sum(candidate.channels) // 2]
    return beam if beam.value > 0 else cube.beam


def _measure_size(candidate: Candidate, cube: Cube, fitted: Gaussian | None, beam: np.ndarray | None) -> None:
    """Size of the source without the beam; NaN where there is no fit, no beam or no sky."""
    names = ("dc_maj", "err_dc_maj", "dc_min", "err_dc_min", "dc_pa", "err_dc_pa", "dc_limit")
    values: tuple[float, ...] = (np.nan,) * len(names)
    to_sky = sky_matrix(cube, candidate.x, candidate.y)
    if fitted is not None and beam is not None and to_sky is not None:
        matrix, covariance = on_sky(fitted.matrix, fitted.covariance[3:, 3:], to_sky)
        size = ellipse(matrix - beam_matrix(beam_of(cube, candidate)), covariance)
        values = (size.major, size.err_major, size.minor, size.err_minor, size.angle, size.err_angle, size.limit)
    for name, value in zip(names, values, strict=True):
        setattr(candidate, name, value)


def spectrum_of(
    planes: np.ndarray, place: tuple[float, float], matrix: np.ndarray, rms: float, noise: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Spectrum at the peak of a source of Gaussian shape, by least squares in each channel, and its noise.

    Parameters
    ----------
    planes
        Shape (channels, ny, nx); NaN where there is no data.
    place, matrix
        (x, y) and shape (2, 2) in their pixels.
    rms
        Noise of a pixel in one channel.
    noise
        Shape of its correlation, see `noise_correlation`.

    Returns
    -------
    spectrum, noise
        Shape (channels,), in the brightness of ``planes``, NaN where there is no data; and one number.
    """
    y, x = np.indices(planes.shape[1:])
    weight = unit_gaussian(place, matrix, x.ravel(), y.ravel()).reshape(x.shape)
    known = np.isfinite(planes)
    norm = (known * weight**2).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        spectrum = np.where(norm > 0, np.nansum(planes * weight, axis=(1, 2)) / norm, np.nan)
    variance = (weight**2).sum()
    if noise is not None:
        from scipy.signal import fftconvolve

        variance = (
            fftconvolve(weight, noise_correlation((planes.shape[1], planes.shape[2]), noise), mode="same") * weight
        ).sum()
    return spectrum, float(rms * np.sqrt(variance) / (weight**2).sum())


def _measure_line(
    candidate: Candidate,
    own: np.ndarray,
    own_rms: float,
    boxed: np.ndarray,
    box_rms: float,
    width: float,
    line: EmissionPeak | None,
    rest: np.ndarray | None,
) -> None:
    """Peak and widths with their errors: of the line, or the level of a continuum.

    ``own`` is the source's spectrum, ``boxed`` the box's within the range, each with its noise; ``width`` that of a
    channel, ``rest`` the channels that the continuum is taken from, if it is.
    """
    candidate.fwhm = candidate.err_fwhm = candidate.err_w20 = candidate.err_w50 = np.nan
    known = np.isfinite(own)
    if line is None or not known.any() or not np.isfinite(line.fwhm) or line.fwhm <= 0:
        inside = known & (np.arange(len(own)) >= candidate.channels[0]) & (np.arange(len(own)) < candidate.channels[1])
        level = own[inside] - (own[rest & known].mean() if rest is not None and (rest & known).any() else 0.0)
        candidate.peak = float(level.mean()) if inside.any() else np.nan
        candidate.err_peak = own_rms / np.sqrt(inside.sum()) if inside.any() else np.nan
        return
    amplitude, errors = line_fit(own, line, own_rms, rest is not None)
    candidate.peak, candidate.err_peak = amplitude, errors[0]
    candidate.err_z = errors[1] if candidate.z == line.centre else candidate.err_z
    candidate.fwhm, candidate.err_fwhm = line.fwhm * width, errors[2] * width
    height = float(np.max(boxed, initial=0.0))
    if (
        height > 0
    ):  # noise over the slopes of a Gaussian of that height and width, two sides, each with the height's error
        for name, level in (("err_w50", 0.5), ("err_w20", 0.2)):
            slope = height * level * np.sqrt(-np.log(level) * 4 * FOUR_LN2) / line.fwhm
            setattr(candidate, name, float(np.sqrt(2 + (2 * level) ** 2) * box_rms / slope * width))


def line_fit(
    spectrum: np.ndarray, line: EmissionPeak, sigma: float, continuum: bool
) -> tuple[float, tuple[float, float, float]]:
    """Amplitude of a Gaussian line in a spectrum, and the errors of its amplitude, centre and FWHM.

    The errors are those of a least-squares fit with independent channels, sigma² (J^T J)^-1; for a line of many
    channels they are those of Lenz & Ayres (1992, PASP 104, 1104).

    Parameters
    ----------
    spectrum
        Shape (channels,); NaN where there is no data.
    sigma
        Noise of a channel.
    continuum
        Whether the level of the continuum is a fourth parameter.
    """
    channel = np.arange(len(spectrum))
    known = np.isfinite(spectrum)
    offset = (channel - line.centre)[known]
    curvature = (1 / (gaussian_fwhm_to_sigma * line.fwhm)) ** 2
    unit = np.exp(-0.5 * offset**2 * curvature)
    linear = np.stack([unit, np.ones_like(unit)] if continuum else [unit], axis=1)
    amplitude = float(np.linalg.lstsq(linear, spectrum[known], rcond=None)[0][0])
    slopes = [unit, amplitude * unit * offset * curvature, amplitude * unit * offset**2 * curvature / line.fwhm]
    jacobian = np.stack([*slopes, np.ones_like(unit)] if continuum else slopes, axis=1)
    try:
        variances = sigma**2 * np.diag(np.linalg.inv(jacobian.T @ jacobian))[:3]
    except np.linalg.LinAlgError:
        variances = np.full(3, np.nan)
    height, centre, fwhm = (float(np.sqrt(v)) if v > 0 else np.nan for v in variances)
    return amplitude, (height, centre, fwhm)


def independent_beams(shape: tuple[int, int], beam_area: float) -> float:
    """How many independent values of noise a box of (height, width) pixels holds.

    The noise of a dirty image has the beam for its autocorrelation, here a round
    Gaussian of ``beam_area`` pixels.  The n pixels' sum has n² / (this number) times the
    variance of one; it is 1 well inside a beam, n / ``beam_area`` for large boxes and n
    for an area of 0, independent pixels.
    """
    n, pairs = np.prod(shape), 1.0
    for length in shape:
        lag = np.arange(1 - length, length)
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = np.where(lag == 0, 1, np.exp(-np.pi * lag**2 / beam_area))
        pairs *= ((length - np.abs(lag)) * correlation).sum()
    return float(n**2 / pairs)


def centroid(values: np.ndarray) -> tuple[float, ...]:
    """Centre of the positive values of an array, one coordinate an axis; its middle if there are none."""
    weights = np.where(values > 0, values, 0).astype(float)  # NaN is not > 0
    if not weights.any():
        return tuple((length - 1) / 2 for length in values.shape)
    return tuple(float((weights * position).sum() / weights.sum()) for position in np.indices(values.shape))


def centroid_errors(image: np.ndarray, sigma: float, noise: np.ndarray | None) -> tuple[float, float]:
    """Errors of the (x, y) of a `centroid` of an image by its noise, propagated to first order; NaN without a centroid.

    Parameters
    ----------
    image
        Shape (ny, nx).
    sigma
        Noise of a pixel.
    noise
        Shape of its correlation, see `noise_correlation`; None for independent pixels.
    """
    weights = np.where(image > 0, image, 0).astype(float)
    if not weights.any():
        return np.nan, np.nan
    from scipy.signal import fftconvolve

    errors = []
    for position, centre in zip(np.indices(image.shape)[::-1], centroid(image)[::-1], strict=True):
        slope = np.where(image > 0, position - centre, 0) / weights.sum()
        seen = slope
        if noise is not None:
            seen = fftconvolve(slope, noise_correlation(slope.shape, noise), mode="same")
        errors.append(float(sigma * np.sqrt(max((seen * slope).sum(), 0))))
    return errors[0], errors[1]


def line_width(spectrum: np.ndarray, level: float) -> float:
    """Width in channels of a line at ``level`` times its maximum, from the outside in, linearly interpolated.

    A side on which the spectrum does not fall below the level ends at the half-channel
    beyond the first or last one.  NaN if nothing is positive.
    """
    height = spectrum.max()
    if not height > 0:
        return np.nan
    return _crossing(spectrum[::-1], level * height) + _crossing(spectrum, level * height) - len(spectrum) + 1


def _crossing(spectrum: np.ndarray, level: float) -> float:
    """Where a spectrum last comes down through ``level``, in channels."""
    last = int(np.flatnonzero(spectrum >= level)[-1])
    if last == len(spectrum) - 1:
        return last + 0.5
    return last + float((spectrum[last] - level) / (spectrum[last] - spectrum[last + 1]))
