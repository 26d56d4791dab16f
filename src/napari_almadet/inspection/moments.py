"""Moments of a line, contour levels, and position-velocity cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_almadet.inspection.apertures import line_free
from napari_almadet.measure.stacking import integrate

if TYPE_CHECKING:
    from napari_almadet.catalogue.candidate import Candidate
    from napari_almadet.inspection.axes import SpectralAxis
    from napari_almadet.measure.focus import Cutout


def moments(
    planes: np.ndarray, places: np.ndarray, widths: np.ndarray, least: float = -np.inf
) -> tuple[np.ndarray, ...]:
    """Moments 0, 1 and 2 of planes along the spectral axis.

    ``M0 = sum(I dv)``, ``M1 = sum(I v dv) / M0``, and as moment 2 the dispersion
    ``sqrt(sum(I (v - M1)**2 dv) / M0)``.  Voxels under ``least`` do not count.

    Parameters
    ----------
    planes
        Shape (channel, y, x); NaN where there is no data.
    places, widths
        Coordinate and width of each channel, shape (channel,).
    least
        Faintest voxel that counts, in the unit of ``planes``; all do by default.

    Returns
    -------
    tuple of numpy.ndarray
        Three images (y, x): in the units of planes times places, of places, and of places.
        NaN where no voxel counts; moment 1 and 2 also where the sum is not positive, and
        moment 2 where negative voxels make its square negative.
    """
    counts = np.isfinite(planes) & (planes >= least)
    weights = np.where(counts, planes, 0).astype(float) * widths[:, None, None]
    total = np.where(counts.any(axis=0), weights.sum(axis=0), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        positive = np.where(total > 0, total, np.nan)
        mean = np.tensordot(places, weights, axes=1) / positive
        variance = (weights * (places[:, None, None] - mean) ** 2).sum(axis=0) / positive
        return total, mean, np.sqrt(np.where(variance >= 0, variance, np.nan))


def contour_levels(image: np.ndarray, sigma: float, first: float = 3.0, factor: float = 2.0) -> np.ndarray:
    """Levels of contours in multiples of the noise: ``first`` times powers of ``factor``, and the same below zero.

    Returns
    -------
    numpy.ndarray
        Multiples of ``sigma`` in rising order, those that the image reaches; empty for a noise that is not known.
    """
    finite = image[np.isfinite(image)]
    if not finite.size or not sigma > 0:
        return np.empty(0)
    reach = np.abs(finite).max() / sigma
    count = int(np.floor(np.log(reach / first) / np.log(factor))) + 1 if reach >= first else 0
    levels = first * factor ** np.arange(count)
    levels = np.concatenate([-levels[::-1], levels])
    return levels[(levels * sigma >= finite.min()) & (levels * sigma <= finite.max())]


@dataclass(frozen=True, eq=False)
class Cut:
    """A position-velocity cut: ``values`` of shape (channel, sample) along a line from ``start`` to ``end``.

    Start and end are (x, y) in pixels of the planes it was made from; the samples are
    equally spaced, the first on ``start`` and the last on ``end``.
    """

    values: np.ndarray
    start: tuple[float, float]
    end: tuple[float, float]


def cut_along(planes: np.ndarray, start: tuple[float, float], end: tuple[float, float], width: float = 1.0) -> Cut:
    """Cut planes (channel, y, x) along a line, about one sample a pixel, linearly interpolated.

    Parameters
    ----------
    start, end
        (x, y) in pixels.
    width
        Pixels across the line over which is averaged.

    Returns
    -------
    Cut
        NaN outside the planes, and next to pixels without data.
    """
    (x0, y0), (x1, y1) = start, end
    length = float(np.hypot(x1 - x0, y1 - y0))
    samples = max(2, int(np.ceil(length)) + 1)
    t = np.linspace(0, 1, samples)
    across = np.array([-(y1 - y0), x1 - x0]) / length if length > 0 else np.zeros(2)
    rows = max(1, round(width))
    shifts = (np.arange(rows) - (rows - 1) / 2)[:, None]
    x = x0 + t * (x1 - x0) + shifts * across[0]
    y = y0 + t * (y1 - y0) + shifts * across[1]
    sampled = np.stack(
        [ndimage.map_coordinates(p.astype(float), [y, x], order=1, mode="constant", cval=np.nan) for p in planes]
    )
    return Cut(sampled.mean(axis=1), start, end)


def line_moments(
    candidate: Candidate, cutout: Cutout, axis: SpectralAxis, least_snr: float = 0.0
) -> tuple[np.ndarray, ...]:
    """Moments of a candidate's emission range; of a line, each pixel's continuum is subtracted first, as in `measure`.

    Parameters
    ----------
    cutout
        About the candidate's box.
    axis
        Gives the moments' unit: a velocity, or what else the cube can be shown on.
    least_snr
        Voxels under this multiple of the candidate's ``rms`` do not count; 0 counts all,
        the negative ones too.

    Returns
    -------
    tuple of numpy.ndarray
        Moments 0, 1 and 2 of the cutout's field, see :func:`moments`.
    """
    planes, part = cutout.planes, slice(*candidate.channels)
    free = line_free(candidate, len(planes))
    if candidate.kind != "continuum" and free.any():
        planes = planes - integrate(planes[free]) / free.sum()
    least = least_snr * candidate.rms if least_snr > 0 and np.isfinite(candidate.rms) else -np.inf
    return moments(planes[part], axis.centres[part], axis.widths[part], least)
