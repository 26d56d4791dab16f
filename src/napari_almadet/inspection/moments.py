"""Moments 0, 1 and 2 of a line, contour levels, and position-velocity cuts, for the window and the products."""

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


ROUNDING = 1e-12  # of a mean square: smaller differences of two are rounding errors; one voxel has no spread


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the spectral axis, from which moments are computed; the sums of several sources can be added.

    Attributes
    ----------
    middle
        Coordinate to which ``first`` and ``second`` are relative, so that rounding does not matter.
    total
        Sum of brightness times channel width, (ny, nx), as are all others.
    weight, first, second
        Sums of the weights for moments 1 and 2, and of these times the coordinate and its square.
    count
        Number of voxels.
    variance
        Of ``total``; 0 if not computed.
    """

    middle: float
    total: np.ndarray
    weight: np.ndarray
    first: np.ndarray
    second: np.ndarray
    count: np.ndarray
    variance: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, int], middle: float) -> Sums:
        """Sums over no voxels."""
        total, weight, first, second, variance = np.zeros((5, *shape))
        return cls(middle, total, weight, first, second, np.zeros(shape, np.int32), variance)

    @classmethod
    def over(
        cls,
        planes: np.ndarray,
        counts: np.ndarray,
        places: np.ndarray,
        widths: np.ndarray,
        middle: float,
        positive: bool = False,
    ) -> Sums:
        """Sums over some voxels.

        Parameters
        ----------
        planes, counts
            Brightness, and which voxels count, (channel, ny, nx).
        places, widths
            Coordinate and width of each channel, (channel,).
        middle
            See the class.
        positive
            Whether moments 1 and 2 use positive voxels only.
        """
        weighted = np.where(counts, planes, 0).astype(float) * widths[:, None, None]
        weights = np.where(weighted > 0, weighted, 0) if positive else weighted
        offset = (places - middle)[:, None, None]
        return cls(
            middle,
            weighted.sum(axis=0),
            weights.sum(axis=0),
            (weights * offset).sum(axis=0),
            (weights * offset**2).sum(axis=0),
            counts.sum(axis=0, dtype=np.int32),
            np.zeros(weighted.shape[1:]),
        )

    def add(self, other: Sums, place: tuple[slice, slice]) -> None:
        """Add the sums of a part of the field, in place."""
        for name in ("total", "weight", "first", "second", "count", "variance"):
            getattr(self, name)[place] += getattr(other, name)

    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moments 0, 1 and 2; without voxels the first is 0, and the others are NaN where the weight is not positive.

        ``M0 = sum(I dv)``, ``M1 = sum(I v dv) / M0``, and as moment 2 the dispersion
        ``sqrt(sum(I (v - M1)**2 dv) / M0)``, which is NaN for a single voxel, and where negative voxels make its square
        negative.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = np.where(self.weight > 0, self.weight, np.nan)
            mean, square = self.first / weight, self.second / weight
            variance = square - mean**2
            return self.total, mean + self.middle, np.sqrt(np.where(variance > ROUNDING * square, variance, np.nan))

    @property
    def snr(self) -> np.ndarray:
        """Moment 0 over its error; NaN where no voxel counts."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.variance > 0, self.total / np.sqrt(self.variance), np.nan).astype(np.float32)


def moments(
    planes: np.ndarray, places: np.ndarray, widths: np.ndarray, least: float = -np.inf
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moments 0, 1 and 2 of planes along the spectral axis, see :meth:`Sums.moments`.

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
        NaN where no voxel counts.
    """
    counts = np.isfinite(planes) & (planes >= least)
    sums = Sums.over(planes, counts, places, widths, middle=float(np.median(places)))
    total, mean, dispersion = sums.moments()
    return np.where(sums.count > 0, total, np.nan), mean, dispersion


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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
