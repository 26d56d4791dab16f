"""Frequency denoising (paper, steps 5 to 7): dirty spectra of the boxes, their denoising, and the lines in them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box, EmissionPeak
from napari_almadet.catalogue.decision import Decision
from napari_almadet.measure import tiling
from napari_almadet.measure.peaks import gaussian_in, half_width, prominence, summits
from napari_almadet.measure.stacking import channel_blocks
from napari_almadet.progress import Progress, in_steps, predict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    import torch

    from napari_almadet.cube.cube import Cube


WINDOW = 128  # channels of one input of Deep GRU, as in the paper
OVERLAP = 64  # channels; derived: every line up to half a window wide is then completely in one window
PROMINENCE = 0.05  # minimum prominence of a peak in a denoised spectrum (0 to 1); chosen by eye (not in the paper)


@in_steps
def extract_spectra(cube: Cube, boxes: list[Box]) -> Generator[Progress, None, np.ndarray]:
    """Sum the pixels of each box in each channel: the dirty spectra (paper, step 5).

    The channels are read in blocks, once for all boxes.  A pixel without data adds
    nothing; a channel in which a box has no data at all is NaN.

    Returns
    -------
    numpy.ndarray
        Float32, shape (len(boxes), channels), in the cube's brightness unit times pixels.
    """
    n_channels = cube.shape[0]
    spectra = np.empty((len(boxes), n_channels), np.float32)
    if not boxes:
        return spectra
    y0, x0 = min(box.y0 for box in boxes), min(box.x0 for box in boxes)
    y1, x1 = max(box.y1 for box in boxes), max(box.x1 for box in boxes)
    edges = np.array([(box.y0 - y0, box.y1 - y0, box.x0 - x0, box.x1 - x0) for box in boxes]).T
    for block in channel_blocks(n_channels, (y1 - y0) * (x1 - x0)):
        planes = cube.read(block, slice(y0, y1), slice(x0, x1))
        valid = np.isfinite(planes)
        total = box_sums(np.where(valid, planes, 0), *edges)
        count = box_sums(valid, *edges)
        spectra[:, block] = np.where(count > 0, total, np.nan).T
        yield Progress("Extracting spectra", block.stop, n_channels)
    return spectra


def box_sums(planes: np.ndarray, y0: np.ndarray, y1: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    """Sums of planes (channel, y, x) over many boxes at once, shape (channel, boxes), by way of a summed-area table."""
    table = np.zeros((len(planes), planes.shape[1] + 1, planes.shape[2] + 1))
    table[:, 1:, 1:] = planes.cumsum(axis=1, dtype=float).cumsum(axis=2)
    return table[:, y1, x1] - table[:, y0, x1] - table[:, y1, x0] + table[:, y0, x0]


def standardise(spectra: np.ndarray) -> np.ndarray:
    """Rescale each spectrum to mean 0 and standard deviation 1 (paper, step 6).

    Missing channels do not count and become 0, the mean; a constant spectrum becomes
    zeros.

    Parameters
    ----------
    spectra
        Shape (..., channel); each spectrum has its own mean and deviation.

    Returns
    -------
    numpy.ndarray
        Float32, same shape, no NaN.
    """
    spectra = np.asarray(spectra, dtype=float)
    valid = np.isfinite(spectra)
    count = np.maximum(valid.sum(axis=-1, keepdims=True), 1)
    centred = np.where(valid, spectra, 0)
    scale = np.abs(centred).max(axis=-1, keepdims=True, initial=0)
    centred = np.where(valid, centred - centred.sum(axis=-1, keepdims=True) / count, 0)
    deviation = np.sqrt((centred**2).sum(axis=-1, keepdims=True) / count)
    # a constant spectrum keeps a deviation of rounding errors, which must not be blown up to 1
    constant = deviation <= 1e-12 * scale
    return np.where(constant, 0, centred / np.where(constant, 1, deviation)).astype(np.float32)


def remove_baseline(spectra: np.ndarray) -> np.ndarray:
    """Take off each spectrum's continuum, a straight line through the channels without lines.

    The line is fitted four times, each time without the channels that stood more than 2.5 standard
    deviations above or, in absorption, below it, or within two of such a channel.

    Parameters
    ----------
    spectra
        Shape (n, channels), no NaN.
    """
    n_channels = spectra.shape[1]
    x = np.linspace(-1, 1, n_channels)
    weight = np.ones_like(spectra, dtype=float)
    for _ in range(4):
        total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
        middle = (weight * x).sum(axis=1, keepdims=True) / total
        level = (weight * spectra).sum(axis=1, keepdims=True) / total
        spread = (weight * (x - middle) ** 2).sum(axis=1, keepdims=True)
        slope = (weight * (x - middle) * (spectra - level)).sum(axis=1, keepdims=True) / np.maximum(spread, 1e-9)
        rest = spectra - level - slope * (x - middle)
        sigma = np.sqrt((weight * rest**2).sum(axis=1, keepdims=True) / total)
        line = ndimage.maximum_filter1d((np.abs(rest) > 2.5 * sigma).astype(np.int8), 5, axis=1) > 0
        few = line.mean(axis=1, keepdims=True) > 0.6  # too little would be left
        weight = np.where(line & ~few, 0.0, 1.0)
    return rest.astype(np.float32)


@in_steps
def denoise(
    spectra: np.ndarray, deep_gru: Callable[..., Any], batch_size: int = 16, device: torch.device | str = "cpu"
) -> Generator[Progress, None, np.ndarray]:
    """Standardise the dirty spectra and let Deep GRU tell where they hold emission (paper, step 6).

    Deep GRU takes 128 channels.  Shorter spectra are padded with their mean; longer ones
    go through in overlapping windows, each standardised, and the answers are blended.

    Parameters
    ----------
    spectra
        Shape (n, channels).
    deep_gru
        Torch module from (batch, 128), standardised, to (batch, 128) from 0 to 1.

    Returns
    -------
    numpy.ndarray
        The denoised spectra: float32, shape (n, channels), from 0 to 1.
    """
    n, n_channels = spectra.shape
    corners = tiling.corners((n_channels,), WINDOW, OVERLAP)
    windows = standardise(np.stack([tiling.cut(spectra, corner, WINDOW) for corner in corners]))
    answers = yield from predict.steps(deep_gru, windows.reshape(-1, WINDOW), "Denoising spectra", batch_size, device)
    return tiling.blend(answers.reshape(len(corners), n, WINDOW), corners, (n_channels,), OVERLAP)


def find_emission(
    denoised: np.ndarray, spectrum: np.ndarray, peak_height: float
) -> tuple[tuple[EmissionPeak, ...], list[Decision]]:
    """Find the lines of one denoised spectrum and fit a Gaussian to each (paper, step 7).

    Peaks at least ``peak_height`` high are fitted by Levenberg and Marquardt's method,
    each between the minima that part it from its neighbours, starting from the peak's
    place, height and width.  A fit that makes no physical sense is discarded.

    Parameters
    ----------
    denoised
        Shape (channels,), from 0 to 1.
    spectrum
        The dirty spectrum, shape (channels,).
    peak_height
        The paper's is 0.1.

    Returns
    -------
    peaks
        In order of dirty line flux, the highest, which the paper calls primary, first.
    discarded
        Why peaks were discarded, a decision each.
    """
    padded = np.pad(denoised.astype(float), 1)  # so that a line at the first or last channel is a peak too
    found = [int(k) for k in summits(padded) if padded[k] >= peak_height and prominence(padded, k)[0] >= PROMINENCE]
    minima = [a + int(np.argmin(padded[a:b])) - 1 for a, b in itertools.pairwise(found)]
    bounds = [0, *minima, len(denoised) - 1]
    peaks: list[EmissionPeak] = []
    discarded: list[Decision] = []
    for i, place in enumerate(found):
        channel, height, width = place - 1, float(padded[place]), half_width(padded, place)
        reach = int(np.ceil(2 * width)) + 2  # beyond it there is nothing of the line, only what would pull the fit
        low, high = max(bounds[i], channel - reach), min(bounds[i + 1], channel + reach)
        peak, doubt = fit_gaussian(denoised[low : high + 1], low, channel, height, width)
        if peak is not None:
            doubt = implausible(peak, len(denoised))
        if peak is None or doubt:
            discarded.append(Decision("peak_discarded", {"channel": channel, "why": doubt}))
        else:
            peaks.append(peak)
    return tuple(sorted(peaks, key=lambda peak: line_flux(spectrum, peak, peaks), reverse=True)), discarded


def fit_gaussian(
    values: np.ndarray, first: int, channel: int, height: float, width: float
) -> tuple[EmissionPeak | None, str]:
    """Fit a Gaussian to ``values``, which begin at channel ``first``; the peak, or None and what went wrong."""
    if len(values) < 3:
        return None, f"{len(values)} channels are too few to fit a Gaussian"
    sigma = max(width, 1) / gaussian_sigma_to_fwhm
    fit = gaussian_in(np.arange(first, first + len(values)), values, channel, sigma)
    if fit is None:
        return None, "the Gaussian fit diverged"
    amplitude, centre, sigma = fit
    return EmissionPeak(channel, height, amplitude, centre, sigma * gaussian_sigma_to_fwhm), ""


def implausible(peak: EmissionPeak, n_channels: int) -> str:
    """Why a fitted line cannot be one, or an empty string."""
    if not -0.5 <= peak.centre <= n_channels - 0.5:
        return f"the fit's centre, channel {peak.centre:.1f}, is outside the band"
    if peak.amplitude <= 0:
        return f"the fit's amplitude, {peak.amplitude:.2f}, is not positive"
    if peak.fwhm < 1:
        return f"its FWHM of {peak.fwhm:.1f} channels is less than one channel"
    if peak.fwhm > n_channels / 2:
        return f"its FWHM of {peak.fwhm:.0f} channels is over half of the band's {n_channels}"
    return ""


def off_line(peaks: Iterable[EmissionPeak], n_channels: int) -> np.ndarray:
    """Mask of the channels outside every peak's emission range: where only the continuum is."""
    mask = np.ones(n_channels, bool)
    for peak in peaks:
        mask[slice(*peak.emission_range(n_channels))] = False
    return mask


def continuum_level(spectrum: np.ndarray, peaks: Iterable[EmissionPeak]) -> float:
    """Median of the dirty spectrum outside the emission ranges of ``peaks``; 0 where no channel is left."""
    rest = spectrum[off_line(peaks, len(spectrum)) & np.isfinite(spectrum)]
    return float(np.median(rest)) if len(rest) else 0.0


def line_flux(spectrum: np.ndarray, peak: EmissionPeak, peaks: Iterable[EmissionPeak]) -> float:
    """Sum of the dirty spectrum over the emission range of ``peak``, above the continuum outside all ``peaks``."""
    line = spectrum[slice(*peak.emission_range(len(spectrum)))]
    return float(np.nansum(line - continuum_level(spectrum, peaks)))


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two half-open channel ranges share a channel."""
    return one[0] < other[1] and other[0] < one[1]


def own_lines(found: tuple[EmissionPeak, ...], known: tuple[EmissionPeak, ...]) -> tuple[EmissionPeak, ...]:
    """Those lines found that are lines already known of a source, or else the known ones; all, if none is known.

    A source taken out of a superposition keeps to the lines that gave it away: the
    others in its box are its neighbour's.
    """
    if not known:
        return found
    return tuple(p for p in found if any(p.same_line(k) for k in known)) or known
