"""What the catalogue says of a candidate: where it is, how bright, how wide its line (paper, step 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.pipeline.blobs import integrate
from napari_almadet.pipeline.catalog import Candidate, channel_width, flux_factor
from napari_almadet.pipeline.focus import Cutout, voxel_noise, without_continuum
from napari_almadet.pipeline.spectra import off_line

if TYPE_CHECKING:
    from napari_almadet.cube import Cube


def measure(candidate: Candidate, cube: Cube, cutout: Cutout) -> None:
    """Measure a candidate in the dirty cube: position, fluxes with error, line widths, noise.

    Everything is measured in the candidate's box and emission range, in the dirty cube
    as it is.  For candidates of kind line or both each pixel's continuum, its mean
    outside the emission ranges, is taken off first.  ``docs/catalogue.md`` gives unit,
    formula and error of each column.

    Parameters
    ----------
    candidate
        With box, peaks, channels and kind; the measures are stored in it.
    cutout
        About the candidate's box.
    """
    planes = cutout.planes
    rest = off_line(candidate.peaks, len(planes))
    subtracted = candidate.kind != "continuum" and rest.any()
    data = without_continuum(planes, candidate.peaks) if subtracted else planes
    box, (first, last) = cutout.local(candidate.box), candidate.channels
    voxels = data[first:last, *box.slices]

    y, x = centroid(integrate(voxels))
    candidate.x, candidate.y = x + candidate.box.x0, y + candidate.box.y0
    spectrum = np.nansum(voxels, axis=(1, 2))
    candidate.z = centroid(spectrum)[0] + first
    width = channel_width(cube, candidate.z).value

    factor = flux_factor(cube)[0] * width
    candidate.f_sum = float(spectrum.sum() * factor)
    candidate.f_max = float(np.nanmax(voxels, initial=-np.inf)) if np.isfinite(voxels).any() else np.nan
    candidate.w50, candidate.w20 = (line_width(spectrum, level) * width for level in (0.5, 0.2))
    candidate.rms = voxel_noise(planes, candidate.peaks)

    channels = last - first
    if subtracted:  # the continuum has an error of its own, the same in every channel
        channels += channels**2 / rest.sum()
    pixels = np.isfinite(voxels).any(axis=0).sum()
    beams = independent_beams(candidate.box.shape, cube.beam_area or 0)
    candidate.err_f_sum = float(candidate.rms * pixels * np.sqrt(channels / beams) * factor)


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
