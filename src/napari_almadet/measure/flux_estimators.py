"""Flux estimators: a point source, a Gaussian fit, or the sum over the mask, whichever suits the source.

Every estimate is a sum of voxels with known weights, so that its error is known too (see :mod:`.noise`).  For a source
that is a Gaussian with the same spectrum everywhere, such as any source not much larger than the beam, a Gaussian fit
together with its neighbours has the smallest error.  Other sources, such as a rotating disc several beams wide, are
summed over their mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_almadet.constants import FOUR_LN2
from napari_almadet.measure.cutout import Cutout, Seed, Separated
from napari_almadet.measure.gaussian_group import Fit, Shape, fit_group, weights_by_images
from napari_almadet.measure.mask import smoothed

# Values without an origin are from the design study of step 10 (233 simulated and real cubes, fluxes against the truth;
# its tables are not in the repository) or were chosen by eye; `benchmarks/accuracy.py` measures what they achieve.
NEIGHBOURS = 3.2  # beams within which neighbours are fitted together
SAME = 0.5  # beams within which two detections are indistinguishable by position; derived: half the resolution
MOST_NEIGHBOURS = 4  # nearest neighbours that are fitted together at most
APERTURE = 2.0  # beams, radius of the pixels around a source that are fitted
SKIRT = 1e-3  # fraction of its peak below which a Gaussian is neglected: below any noise for S/N up to 1000
TURN = 2.0  # sigma by which the fitted area exceeds the beam area when point and fit have equal weight
TRANSITION = 2.0  # per sigma: how fast, as a logistic function, one estimator gives way to another
RESOLVED = 3.0  # sigma by which the fitted area must exceed the beam area for a source to be resolved; convention
BLENDED = 1.6  # beams within which a neighbour contributes to the flux
BRIGHT = 8.0  # S/N of a line or continuum above which its position and size are fitted separately; chosen by eye
UNLIKE = 1.6  # times the noise: residual rms of a Gaussian fit in the mask, above which the source is not a Gaussian,
UNEXPLAINED = 0.12  # and fraction of the flux not fitted; dirty-beam errors of bright points stay below it (by eye)
ADJOINING = 1.1  # FWHM on either side of a line's centre; derived: this range contains 99 % of a Gaussian
SURE = 2.0  # sigma, from which a valley between two peaks is lower than that of a line with two horns; by eye
VALLEY = 1 / 3  # of the fainter of two adjoining peaks: the emission between two separate Gaussians is lower. By eye
FOOTPRINT = 2.0  # beams, minimum area of the mask of such a source; from the study, as are UNLIKE, TURN and NEIGHBOURS


@dataclass(frozen=True, eq=False)
class Component:
    """The line or the continuum of a source modelled as one Gaussian: its shape and the spectrum at its peak.

    Attributes
    ----------
    point, fit
        Fits of the image with the shape of the beam and with a free shape; None if they failed.
    share
        Weight of the free fit, from 0 to 1.
    row
        Weights (ny, nx) whose sum over the planes is the spectrum at the peak.
    ratio, err_ratio
        Area relative to the beam area, and its error due to noise.
    """

    point: Fit | None
    fit: Fit | None
    share: float
    rows: tuple[np.ndarray, np.ndarray]
    ratio: float
    extra: float
    excess: float = 0.0

    @property
    def method(self) -> str:
        """The one of the two with the larger weight."""
        return "fit" if self.share > 0.5 else "point"

    @property
    def resolved(self) -> bool:
        """Whether it is significantly larger than the beam."""
        return self.fit is not None and self.excess > RESOLVED

    @property
    def size(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Covariance of the free fit, (2, 2), and that of its three numbers."""
        return None if self.fit is None else (self.fit.own.matrix, self.fit.covariance[3:, 3:])

    def choices(self) -> list[tuple[float, np.ndarray, float, float]]:
        """For point and fit: weight, weights of the pixels, area relative to the beam, and its relative error.

        The area is smaller by what noise adds to a fitted flux on average.
        """
        made = []
        if self.point is not None and self.share < 0.99:
            made.append((1 - self.share, self.rows[0], 1 / (1 + self.point.bias), 0.0))
        if self.fit is not None and self.share > 0.01:
            made.append((self.share, self.rows[1], self.ratio / (1 + self.fit.bias), self.extra))
        total = sum(choice[0] for choice in made)
        return [(share / total, row, ratio, extra) for share, row, ratio, extra in made]

    @property
    def shape(self) -> Shape | None:
        """The fitted position and, if it is resolved, size."""
        best = self.best
        return None if best is None else best.own

    @property
    def best(self) -> Fit | None:
        return self.fit if self.fit is not None and (self.share > 0.5 or self.point is None) else self.point


def in_one_line(one: Seed, other: Seed) -> bool:
    """Whether the lines of two detections may overlap in channels."""
    margin = one.channels[1] - one.channels[0]
    low, high = one.channels[0] - 0.5 * margin, one.channels[1] + 0.5 * margin
    return any(centre - fwhm < high and centre + fwhm > low for centre, fwhm in other.lines)


def near(seeds: Sequence[Seed], me: int, beam: float, least: float = SAME) -> list[int]:
    """Numbers of the detections between ``least`` and :data:`NEIGHBOURS` beams from one, nearest first."""
    apart = np.array([np.hypot(s.x - seeds[me].x, s.y - seeds[me].y) for s in seeds]) / beam
    order = [int(i) for i in np.argsort(apart) if i != me and least <= apart[i] < NEIGHBOURS]
    return order[:MOST_NEIGHBOURS]


def rows_of(shapes: Sequence[Shape], known: np.ndarray, beam: np.ndarray | None = None) -> np.ndarray:
    """Weights (n, ny, nx): the sum of an image times each is the least-squares amplitude of one of n Gaussians.

    With a ``beam`` the pixels are weighted as in a fit (:func:`pixel_weights`), otherwise equally.
    """
    rows = np.zeros((len(shapes), *known.shape), np.float32)
    part = seen_in(shapes, known.shape)
    yy, xx = np.ogrid[part]
    images = np.stack([shape.image(xx, yy) for shape in shapes])
    basis = ((images > SKIRT) & known[part]) * images
    inside = basis.shape
    weighted = basis if beam is None else basis * weights_by_images(shapes, beam, images)
    basis, weighted = basis.reshape(len(shapes), -1), weighted.reshape(len(shapes), -1)
    gram = weighted @ basis.T
    gram[np.diag_indices_from(gram)] += 1e-9 + 1e-6 * np.trace(gram) / len(gram)
    rows[:, *part] = np.linalg.solve(gram, weighted).reshape(inside)
    return rows


def seen_in(shapes: Sequence[Shape], field: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of a field (ny, nx) in which some Gaussians exceed :data:`SKIRT`; at least one pixel."""
    reach = [np.sqrt(-2 * np.log(SKIRT) * np.diag(shape.matrix))[::-1] for shape in shapes]
    places = [(shape.y, shape.x) for shape in shapes]
    low = np.floor(np.min(np.subtract(places, reach), axis=0))
    high = np.ceil(np.max(np.add(places, reach), axis=0)) + 1
    first = np.clip(low, 0, np.array(field) - 1).astype(int)
    last = np.clip(high, first + 1, field).astype(int)
    return slice(first[0], last[0]), slice(first[1], last[1])


def spectrum_at(row: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Sums (channels,) of planes with the weights of a row."""
    y, x = (slice(i[0], i[-1] + 1) for i in (np.flatnonzero(row.any(axis=axis)) for axis in (1, 0)))
    return np.tensordot(planes[:, y, x], row[y, x], 2).astype(float)


def weighted_image(spectrum: np.ndarray, planes: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """The amplitude of a spectrum at each pixel, by least squares weighted with the channels' inverse variance."""
    weight = spectrum * inverse
    used = np.flatnonzero(weight)
    norm = weight @ spectrum
    return np.tensordot((weight[used] / norm).astype(np.float32), planes[used], 1)


def aperture(cutout: Cutout, places: Sequence[tuple[float, float]], reach: float, known: np.ndarray) -> np.ndarray:
    """Pixels (ny, nx) within a given distance of any of some positions (x, y)."""
    y, x = np.indices(known.shape)
    inside = np.zeros(known.shape, bool)
    for px, py in places:
        inside |= (x - px) ** 2 + (y - py) ** 2 <= reach**2
    return inside & known


def component(
    images: np.ndarray, known: np.ndarray, shapes: Sequence[Shape], beam: np.ndarray, sigma: float, cutout: Cutout
) -> Component:
    """Fit a source in its image as a point and as a Gaussian, with its neighbours in theirs.

    Parameters
    ----------
    images, known, shapes, beam, sigma
        As for :func:`fit_group`.
    """
    noise = cutout.noise
    as_point = [replace(shapes[0], matrix=beam), *shapes[1:]]
    point = fit_group(images, known, as_point, beam, False, sigma, noise)
    start = list(point.shapes if point is not None else shapes)
    start[0] = replace(
        start[0], matrix=shapes[0].matrix if np.linalg.det(shapes[0].matrix) > np.linalg.det(beam) else beam
    )
    fit = fit_group(images, known, start, beam, True, sigma, noise)
    ratio, error, extra = 1.0, np.inf, 0.0
    if fit is not None:
        ratio, error, extra = area_ratio(fit, beam, sigma, known, cutout)
    excess = (ratio - 1) / error if error > 0 else 0.0
    share = 0.0 if fit is None else float(1 / (1 + np.exp(-TRANSITION * np.clip(excess - TURN, -20, 20))))
    share = 1.0 if point is None and fit is not None else share
    pixels = cutout.pixels
    made = [
        rows_of(f.shapes, pixels, beam)[0] if f is not None else np.zeros(known.shape, np.float32) for f in (point, fit)
    ]
    return Component(point, fit, share, (made[0], made[1]), ratio, extra, float(excess))


def combined(estimates: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Flux and error of a source that is either one thing or another, such as a point or a Gaussian.

    Mean and standard deviation of a mixture: what the estimates differ by is part of the error.

    Parameters
    ----------
    estimates
        Weight, flux and error of each; the weights add to 1.
    """
    weight, value, error = np.array(estimates).T
    mean = float(weight @ value)
    return mean, float(np.sqrt(weight @ (error**2 + (value - mean) ** 2)))


def area_ratio(
    fit: Fit, beam: np.ndarray, sigma: float, known: np.ndarray, cutout: Cutout
) -> tuple[float, float, float]:
    """Area of a fit relative to the beam, its error, and the relative flux error in addition to the amplitude's."""
    matrix, covariance = fit.own.matrix, fit.covariance
    inverse = np.linalg.inv(matrix)
    by_size = np.array([0.5 * inverse[0, 0], inverse[0, 1], 0.5 * inverse[1, 1]])
    ratio = float(np.sqrt(np.linalg.det(matrix) / np.linalg.det(beam)))
    error = ratio * float(np.sqrt(max(by_size @ covariance[3:, 3:] @ by_size, 0)))
    by_all = np.concatenate([[1 / fit.amplitude, 0, 0], by_size])
    row = rows_of(fit.shapes, known, beam)[0]
    alone = sigma**2 * cutout.noise.spatial_variance(row) / fit.amplitude**2
    return ratio, error, float(np.sqrt(max(by_all @ covariance @ by_all - alone, 0)))


def first_shape(seed: Seed, cutout: Cutout, beam: np.ndarray) -> Shape:
    """Position of a detection in a cutout, with its detected size, but at least that of the beam."""
    x, y = seed.x - cutout.origin[1], seed.y - cutout.origin[0]
    if seed.matrix is not None:
        return Shape(x, y, seed.matrix)
    wider = np.maximum(np.diag([seed.sigma_x**2, seed.sigma_y**2]) - np.diag(np.diag(beam)), 0)
    return Shape(
        x, y, beam + (wider if np.sqrt(np.linalg.det(beam + wider)) > 1.5 * np.sqrt(np.linalg.det(beam)) else 0)
    )


def seed_line(seed: Seed, n_channels: int) -> np.ndarray:
    """The line of a detection, with a peak of 1: (channels,)."""
    channel = np.arange(n_channels)
    if not seed.lines or not seed.lines[0][1] > 0:
        made = np.zeros(n_channels)
        made[slice(*seed.channels)] = 1
        return made
    centre, fwhm = seed.lines[0]
    line = np.exp(-FOUR_LN2 * ((channel - centre) / max(fwhm, 0.7)) ** 2)
    return np.where(line > 0.01, line, 0)


def with_its_horns(seed: Seed, spectrum: np.ndarray, error: Callable[[np.ndarray], float]) -> Seed:
    """A detection in which the peaks that are parts of its first line, such as the horns of a disc, are one line.

    Such peaks adjoin: their ranges overlap.  They are separate lines only if the emission between them is significantly
    lower than that of a line with two horns.

    Parameters
    ----------
    spectrum
        Of the source, without continuum: (channels,).
    error
        Gives the error of a weighted sum of its channels, from the weights.
    """
    own, others = [seed.lines[0]], list(seed.lines[1:])
    while more := [line for line in others if any(are_horns(line, part, spectrum, error) for part in own)]:
        own, others = own + more, [line for line in others if line not in more]
    if len(own) == 1:
        return seed
    low, high = min(c - 0.5 * w for c, w in own), max(c + 0.5 * w for c, w in own)
    first, last = min(c - w for c, w in own), max(c + w for c, w in own)
    channels = max(0, min(seed.channels[0], round(first))), min(len(spectrum), max(seed.channels[1], round(last) + 1))
    return replace(seed, lines=((0.5 * (low + high), high - low), *others), channels=channels)


def are_horns(
    one: tuple[float, float], other: tuple[float, float], spectrum: np.ndarray, error: Callable[[np.ndarray], float]
) -> bool:
    """Whether two peaks (centre, FWHM) of a spectrum may be parts of one line; see :func:`with_its_horns`."""
    (low, left), (high, right) = sorted((one, other))
    if high - low > ADJOINING * (left + right):
        return False
    channel = np.arange(len(spectrum))

    def mean_about(centre: float, reach: float) -> np.ndarray:
        inside = np.abs(channel - centre) <= max(reach, 0.5)
        return inside / max(inside.sum(), 1)

    valley = mean_about(0.5 * (low + high), (high - low) / 12)  # the middle sixth of what is between them
    fainter = min(float(mean_about(c, 0.25 * w) @ spectrum) for c, w in (one, other))
    return float(valley @ spectrum) + SURE * error(valley) > VALLEY * fainter


def chi_in_mask(
    lines: np.ndarray, shapes: Sequence[Shape], parts: Separated, cutout: Cutout, beam: float, width: float
) -> tuple[float, float]:
    """Residual of Gaussians, each with one spectrum, in a mask: in units of the noise, and as a fraction of the flux.

    Both are root mean squares after smoothing with beam and line.
    """
    used = np.flatnonzero(parts.mask.any(axis=(1, 2)))
    channels = int(np.clip(round(width / 4), 1, 9))
    part = slice(max(0, used[0] - channels), used[-1] + 1 + channels)
    yy, xx = np.indices(lines.shape[1:])
    images = np.stack([shape.image(xx, yy) for shape in shapes]).astype(np.float32)
    spectra = np.stack([spectrum_at(row, lines[part]) for row in rows_of(shapes, cutout.pixels)])
    left = lines[part] - np.tensordot(spectra.T.astype(np.float32), images, 1)
    sigma = cutout.rms[part, None, None] * cutout.level
    inside = parts.mask[part]

    def power(planes: np.ndarray) -> float:
        seen = smoothed(planes / sigma, beam, channels)[inside] / cutout.noise.smoothed(beam, channels)
        return float(np.mean(seen**2))

    chi2, total = power(left), power(lines[part])
    return float(np.sqrt(chi2)), float(np.sqrt(max(chi2 - 1, 0) / max(total, 1e-30)))


def window_about(first: float, last: float, other_lines: Sequence[tuple[float, float]], n_channels: int) -> np.ndarray:
    """Channels in which to fit a line of given extent, excluding those of the source's other lines."""
    reach = 1.0 * (last - first) + 3
    low, high = max(0, int(np.floor(first - reach))), min(n_channels, int(np.ceil(last + reach)) + 1)
    used = np.zeros(n_channels, bool)
    used[low:high] = True
    for centre, fwhm in other_lines:
        if not first <= centre <= last:
            used[max(0, int(np.floor(centre - fwhm))) : int(np.ceil(centre + fwhm)) + 1] = False
    return np.flatnonzero(used)
