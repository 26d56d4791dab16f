"""Steps 5 to 7: the spectra of raw detections, and the lines that Line Finder detects in them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma, gaussian_sigma_to_fwhm
from scipy.special import ndtri

from napari_almadet.catalogue.candidate import Candidate, EmissionPeak
from napari_almadet.measure.peaks import gaussian_in
from napari_almadet.measure.planes import robust_std
from napari_almadet.measure.spectra import extract_spectra, find_emission, off_line, overlap, remove_baseline
from napari_almadet.progress import Progress, in_steps, predict
from napari_almadet.search.features import LINE_SNR, own_lines
from napari_almadet.search.noise_units import differences
from napari_almadet.search.raw_detection import RawDetection

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


LINE_CHANCE = 0.5  # line probability above which a source has a line; derived: it is then more likely than not
TWINS = 0.1  # of the FWHM, by which centres and widths of fits differ that are one; twins of one minimum agree to 0.001
# Chance that noise makes a further line of a source, in all channels; derived: fewer than one source in twenty then has
# such a line, and what is found is not changed by it.  The least S/N is 3.2 in 64 channels and 3.7 in 512.
FALSE_LINE = 0.05
CONTINUUM_SNR = 4.0  # S/N of the mean outside the line, from which a source has continuum; chosen by eye


def resolutions(n_channels: int) -> list[int]:
    """Numbers of channels averaged for Line Finder: 1, 4, 16 ... as long as 64 channels are left."""
    return [4**i for i in range(8) if i == 0 or n_channels // 4**i >= 64]


def frequency_denoising(
    detections: list[RawDetection], settings: Settings, networks: SearchNetworks
) -> Generator[Progress, None, None]:
    """Frequency denoising (5 - 7): Line Finder's output for the spectrum of each source, and the lines in it."""
    if not detections:
        return
    own = np.stack([detection.spectrum for detection in detections])
    flat, answer = yield from denoise_own.steps(own, settings, networks)
    for done, detection in enumerate(detections):
        yield Progress("Detecting emission lines", done, len(detections))
        candidate = detection.candidate
        candidate.denoised = answer[done]
        detection.features = replace(detection.features, line_probability=float(answer[done].max()))
        set_lines(candidate, flat[done], detection.snr_of_spectrum)
        rest = own[done][off_line(candidate.peaks, own.shape[1]) & (own[done] != 0)]
        continuum = rest.sum() / np.sqrt(max(len(rest), 1)) >= CONTINUUM_SNR
        candidate.kind = "continuum" if not candidate.peaks else "both" if continuum else "line"


@in_steps
def denoise_own(
    own: np.ndarray, settings: Settings, networks: SearchNetworks
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """Line Finder's output for spectra in noise units, at several spectral resolutions.

    Parameters
    ----------
    own
        Shape (n, channels), continuum and all; 0 in channels without data.

    Returns
    -------
    flat, answer
        The spectra without their baselines, and where the lines are, from 0 to 1: float32, (n, channels).
    """
    n, n_channels = own.shape
    known = own.any(axis=0)
    flat, answer = np.zeros((2, n, n_channels), np.float32)
    flat[:, known] = remove_baseline(own[:, known])
    for factor in resolutions(n_channels):
        padded = np.pad(flat, ((0, 0), (0, -n_channels % factor)))
        coarse = padded.reshape(n, -1, factor).sum(axis=2) / np.sqrt(factor)
        coarse_answer = yield from predict.steps(
            networks.line_finder, coarse, "Denoising spectra", settings.batch_size, networks.device
        )
        answer = np.maximum(answer, np.repeat(coarse_answer, factor, axis=1)[:, :n_channels])
    return flat, answer


def set_lines(candidate: Candidate, flat: np.ndarray, line_snr: float) -> None:
    """Set the lines of a candidate from its ``denoised`` spectrum, if both Line Finder and the S/N confirm them.

    Parameters
    ----------
    flat
        Its spectrum in noise units without the baseline, (channels,).
    line_snr
        Of the best line in it.
    """
    denoised, n_channels = candidate.denoised, len(flat)
    candidate.peaks, candidate.channels = (), (0, n_channels)
    if denoised.max() >= LINE_CHANCE and line_snr >= LINE_SNR:
        peaks, discarded = find_emission(denoised, flat, LINE_CHANCE)
        candidate.decisions += discarded
        candidate.peaks = distinct([refined(peak, flat) for peak in peaks])
        for peak, snr in like_noise(candidate.peaks, flat):
            candidate.peaks = tuple(other for other in candidate.peaks if other is not peak)
            candidate.decide("peak_discarded", channel=peak.channel, why=f"noise makes lines of its S/N of {snr:.1f}")
    if candidate.primary:
        candidate.channels = candidate.primary.emission_range(n_channels)
        for peak in candidate.peaks:
            candidate.decide("line", centre=peak.centre, fwhm=peak.fwhm, height=peak.height)
    else:
        candidate.decide("no_line", height=float(denoised.max()), snr=float(line_snr))


def like_noise(peaks: tuple[EmissionPeak, ...], flat: np.ndarray) -> list[tuple[EmissionPeak, float]]:
    """The peaks that noise may make somewhere in so many channels, each with its S/N.

    The first is that of the source, and those whose ranges overlap that of a line are parts of it, such as a horn.
    """
    least = -ndtri(FALSE_LINE / len(flat))
    lines: list[tuple[int, int]] = []
    doubtful: list[tuple[EmissionPeak, float]] = []
    for peak in peaks:
        low, high = peak.emission_range(len(flat))
        snr = float(flat[low:high].sum() / np.sqrt(high - low))
        if snr >= least or not lines:
            lines.append((low, high))
        else:
            doubtful.append((peak, snr))
    return [
        (peak, snr) for peak, snr in doubtful if not any(overlap(peak.emission_range(len(flat)), own) for own in lines)
    ]


def distinct(peaks: list[EmissionPeak]) -> tuple[EmissionPeak, ...]:
    """Peaks without those whose fit is that of another one, as the two horns of a galaxy end in one Gaussian.

    Of such twins the higher one stays.
    """
    kept: list[EmissionPeak] = []
    for peak in sorted(peaks, key=lambda p: -p.height):
        if not any(
            abs(peak.centre - other.centre) < TWINS * other.fwhm and abs(peak.fwhm / other.fwhm - 1) < TWINS
            for other in kept
        ):
            kept.append(peak)
    return tuple(peak for peak in peaks if any(peak is other for other in kept))


def find_lines_again(candidate: Candidate, cube: Cube, settings: Settings, networks: SearchNetworks) -> None:
    """Steps 5 to 7 for a candidate in a box that was not found but drawn: its spectrum is the sum over the box."""
    import torch

    candidate.spectrum = extract_spectra(cube, [candidate.box])[0]
    known = np.isfinite(candidate.spectrum)
    own = np.zeros((1, len(known)), np.float32)
    values = candidate.spectrum[known]
    steps = differences(values) if len(values) > 1 else np.zeros(1)
    sigma = float(robust_std(steps)) / np.sqrt(2)
    if sigma > 0:
        own[0, known] = values / sigma
    flat, answer = denoise_own(own, settings, networks)
    candidate.denoised = answer[0]
    set_lines(candidate, flat[0], own_lines(flat[:, known], torch.ones(known.sum()))[0] if sigma > 0 else 0.0)


def refined(peak: EmissionPeak, spectrum: np.ndarray) -> EmissionPeak:
    """A peak with centre and FWHM fitted to the dirty spectrum, as long as the fit stays near the peak."""
    reach = int(np.ceil(2.5 * peak.fwhm)) + 2
    low, high = max(0, peak.channel - reach), min(len(spectrum), peak.channel + reach + 1)
    if high - low < 5:
        return peak
    sigma = peak.fwhm * gaussian_fwhm_to_sigma
    fit = gaussian_in(np.arange(low, high), spectrum[low:high], peak.centre, sigma)
    if fit is None:
        return peak
    amplitude, centre, sigma = fit
    fwhm = sigma * gaussian_sigma_to_fwhm
    near = abs(centre - peak.centre) <= 0.7 * peak.fwhm and 0.5 <= fwhm / peak.fwhm <= 2
    return replace(peak, centre=centre, fwhm=max(fwhm, 1.0)) if near and amplitude > 0 else peak
