"""Line profiles as sums of as few Gaussians as the spectrum requires: widths, centroid and their errors.

One Gaussian suffices for most lines; rotating discs have two horns, outflows a wing.  Gaussians are added as long as
the Bayesian information criterion improves, using the measured correlation of the channels' noise.
The widths at 20 and 50 % and the centroid are those of the sum; their errors follow from the covariance of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.special import ndtr

from napari_almadet.constants import FOUR_LN2
from napari_almadet.measure.variable_projection import fitted, heights

# Values without an origin were chosen by eye; `benchmarks/accuracy.py` measures the widths and errors they give.
MOST = 3  # maximum number of Gaussians: two horns and a wing
# By which the criterion must decrease for another Gaussian: odds of e^2 = 7
WORTH = 4.0
NARROWEST = 0.2  # channels, minimum FWHM before convolution with the channel: narrower lines are indistinguishable
SHARP = 0.8  # channels: errors of narrower lines are those of this width, since their derivatives vanish
PART = 0.3  # minimum FWHM of a component, in units of the single Gaussian's FWHM (and two channels); less is noise
GAIN = 7.0  # expected decrease of chi² for which another Gaussian is tried: less cannot pay for three parameters
FLOOR = 0.03  # of the largest eigenvalue of the covariance of channels: smaller eigenvalues are estimation errors
SHOWN = 0.03  # of the highest component: fainter ones do not extend the range of a line
HALVES = 1.1  # FWHM on either side of a component; derived: this range contains 99 % of a Gaussian
# The same for the centroid of several: each far channel counts by its distance, so that what is beyond the range moves
# that of a line with a wing. Of 150 spectra each of skewed lines (FWHM 11 channels, 0.6 and 1.5 times as wide to either
# side) in white noise at S/N 40 and 80, the median pull is -0.7 and -1.1 with 1.1, -0.3 and -0.5 with 1.3, and -0.1 and
# -0.15 with this. Pulls spread by 1.13 and 0.91, of double-horned lines by 1.0.
# Errors are a third larger than with 1.3.
WINGS = 1.6
GRID = 400  # points across a line, between which the widths are interpolated


@dataclass(frozen=True, eq=False)
class Line:
    """A fitted line.

    Attributes
    ----------
    parameters
        Amplitude, centre and FWHM (channels) of each Gaussian: shape (n, 3).
    covariance
        Of the parameters, flattened.
    chi2
        Of the fit over its degrees of freedom.
    """

    parameters: np.ndarray
    covariance: np.ndarray
    chi2: float

    def at(self, channel: np.ndarray, parameters: np.ndarray | None = None) -> np.ndarray:
        """The line averaged over channels at given positions, which may be fractional."""
        a, c, w = (self.parameters if parameters is None else parameters.reshape(-1, 3)).T
        return a @ averages(channel, c, w)

    def slopes(self, channel: np.ndarray) -> np.ndarray:
        """Derivatives by all parameters, (channels, parameters)."""
        a, c, w = self.parameters.T
        unit, by_centre, by_width = profiles(channel, c, w)
        return np.stack([unit, a[:, None] * by_centre, a[:, None] * by_width], axis=1).reshape(-1, len(channel)).T

    @property
    def total(self) -> float:
        """Its sum over all channels."""
        return float(self.total_of(self.parameters))

    @staticmethod
    def total_of(parameters: np.ndarray) -> float:
        a, _, w = parameters.reshape(-1, 3).T
        return float((a * w).sum() * np.sqrt(np.pi / FOUR_LN2))

    @property
    def range(self) -> tuple[float, float]:
        """First and last channel with significant emission."""
        return self.within(HALVES)

    def within(self, halves: float) -> tuple[float, float]:
        """First and last channel within some FWHM of the centres of its Gaussians, of those that are not faint."""
        shown = self.parameters[self.parameters[:, 0] > SHOWN * self.parameters[:, 0].max()]
        _, c, w = shown.T
        return float((c - halves * w).min()), float((c + halves * w).max())

    def share(self, first: int, last: int) -> float:
        """Fraction of its flux in a half-open range of channels."""
        return float(self.at(np.arange(first, last)).sum() / max(self.total, 1e-30))

    def centroid(self, parameters: np.ndarray | None = None) -> float:
        """Flux-weighted mean channel."""
        a, c, w = (self.parameters if parameters is None else parameters.reshape(-1, 3)).T
        return float((a * w * c).sum() / (a * w).sum())

    def skew(self, spectrum: np.ndarray, used: np.ndarray, white: np.ndarray) -> tuple[float, float]:
        """Shift of the centroid in channels due to the asymmetry of a line fitted with one Gaussian, and its error.

        The asymmetry is the Gauss-Hermite h3 of the residual; it shifts the mean by sqrt(3) h3 sigma
        (van der Marel & Franx 1993, ApJ 407, 525).
        """
        a, c, w = self.parameters[0]
        sigma = np.hypot(w * gaussian_fwhm_to_sigma, np.sqrt(1 / 12))
        y = (used - c) / sigma
        term = a * np.exp(-0.5 * y**2) * (2 * np.sqrt(2) * y**3 - 3 * np.sqrt(2) * y) / np.sqrt(6)
        known = np.linalg.qr(white @ self.slopes(used.astype(float)))[0]
        seen = white @ term
        seen = seen - known @ (known.T @ seen)
        power = float(seen @ seen)
        if not power > 0:
            return 0.0, 0.0
        h3 = float(seen @ (white @ (spectrum[used] - self.at(used.astype(float))))) / power
        shift = self.shift_of_skew()
        return shift * h3, float(shift / np.sqrt(power))

    def shift_of_skew(self) -> float:
        """Shift of the centroid in channels by an asymmetry h3 of 1, to first order."""
        return float(np.sqrt(3) * np.hypot(self.parameters[0, 2] * gaussian_fwhm_to_sigma, np.sqrt(1 / 12)))

    def width(self, level: float, parameters: np.ndarray | None = None) -> float:
        """Full width in channels at a fraction of the maximum, between the outermost crossings."""
        rows = self.parameters if parameters is None else parameters.reshape(-1, 3)
        grid, values = self._sampled(rows)
        return _crossed(grid, values, level * values.max())

    def mean_width(self, parameters: np.ndarray | None = None) -> float:
        """W_m50 of Courtois et al. (2009): at half the mean brightness of the channels with 90 % of the flux."""
        rows = self.parameters if parameters is None else parameters.reshape(-1, 3)
        grid, values = self._sampled(rows)
        summed = np.cumsum(values) / values.sum()
        inside = (summed >= 0.05) & (summed <= 0.95)
        return _crossed(grid, values, 0.5 * values[inside].mean())

    def error(self, function: Callable[[np.ndarray], float]) -> float:
        """Error of a function of the parameters, from its derivatives and their covariance."""
        flat = np.maximum(self.parameters, [-np.inf, -np.inf, SHARP]).ravel()
        steps = 0.05 * np.minimum(np.sqrt(np.diag(self.covariance)), np.repeat(flat[2::3], 3))
        steps = np.where(np.arange(len(flat)) % 3 == 0, 0.05 * np.sqrt(np.diag(self.covariance)), steps)
        slopes = np.zeros(len(flat))
        for i, step in enumerate(steps):
            move = np.zeros(len(flat))
            move[i] = step
            slopes[i] = (function(flat + move) - function(flat - move)) / (2 * step)
        return float(np.sqrt(max(slopes @ self.covariance @ slopes, 0)))

    def _sampled(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, c, w = rows.T
        reach = 1.6 * w + 1
        grid = np.linspace((c - reach).min(), (c + reach).max(), GRID)
        return grid, self.at(grid, rows)


def _crossed(grid: np.ndarray, values: np.ndarray, level: float) -> float:
    """Distance between the first and the last crossing of a level by values on a grid, linearly interpolated."""
    over = np.flatnonzero(values >= level)
    if not len(over):
        return np.nan
    first, last = over[0], over[-1]
    low, high = grid[first], grid[last]
    if first > 0:
        low -= (grid[1] - grid[0]) * (values[first] - level) / (values[first] - values[first - 1])
    if last < len(grid) - 1:
        high += (grid[1] - grid[0]) * (values[last] - level) / (values[last] - values[last + 1])
    return float(high - low)


def fit_line(
    spectrum: np.ndarray,
    used: np.ndarray,
    covariance: np.ndarray,
    centre: float,
    fwhm: float,
    most: int = MOST,
    white: np.ndarray | None = None,
    rest: np.ndarray | None = None,
) -> tuple[Line, Line] | None:
    """Fit a line in a spectrum without continuum.

    Parameters
    ----------
    spectrum
        Shape (channels,).
    used
        Channels to fit, as indices.
    covariance
        Of the noise in those channels.
    centre, fwhm
        Initial values, in channels.
    most
        Maximum number of Gaussians.
    white
        As :func:`whitening` makes it of the covariance, where that is known already.
    rest
        Weights (channels,) of the mean that was subtracted as continuum.  If the line reaches into these channels, a
        part of it was subtracted too, and what is fitted is a line without its own mean there.

    Returns
    -------
    single, best
        One Gaussian, and the sum of as many as are needed; None if the fit fails.
    """
    if not len(used):
        return None
    white = whitening(covariance) if white is None else white
    problem = _Problem(used.astype(float), white, white @ spectrum[used].astype(float), rest)
    single = problem.fitted([(centre, fwhm)])
    if single is None:
        return None
    best, score = single, problem.criterion(single)
    least = max(PART * single.parameters[0, 2], 2.0)
    width = max(0.5 * single.parameters[0, 2], 2.5)
    while len(best.parameters) < most:
        gain, place = problem.left_over(best, width)
        if gain < GAIN:
            break
        tried = [problem.fitted(start, least) for start in problem.starts(best, width, place)]
        more = [line for line in tried if line is not None]
        if not more:
            break
        line = min(more, key=problem.criterion)
        if problem.criterion(line) > score - WORTH:
            break
        best, score = line, problem.criterion(line)
    return single, best


def mean_of_line(line: Line | None, rest: np.ndarray) -> float:
    """Mean of a line in the channels whose mean (weights ``rest``) is subtracted as continuum."""
    return 0.0 if line is None else float(rest @ line.at(np.arange(len(rest), dtype=float)))


def weights_of_mean(line: Line, rest: np.ndarray, used: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Weights (channels,) with which a spectrum's noise adds to :func:`mean_of_line` of the line fitted to it."""
    problem = _Problem(used.astype(float), white, np.zeros(len(used)), rest)
    blunt = replace(line, parameters=np.maximum(line.parameters, [-np.inf, -np.inf, SHARP]))
    slopes = rest @ blunt.slopes(np.arange(len(rest), dtype=float))
    weights = np.zeros(len(rest))
    weights[used] = slopes @ np.linalg.pinv(problem.slopes(blunt), rcond=1e-6) @ white
    return weights


def profiles(channel: np.ndarray, centre: np.ndarray, fwhm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussians averaged over channels, (n, channels), and their derivatives by centre and FWHM.

    Wide ones have a peak of 1; the sum over all channels is the integral of the Gaussian.
    """
    sigma, low, high = _ends(channel, centre, fwhm)
    norm = np.sqrt(2 * np.pi)
    inside = ndtr(high) - ndtr(low)
    at_low, at_high = np.exp(-0.5 * np.minimum(low**2, 1400)), np.exp(-0.5 * np.minimum(high**2, 1400))
    by_sigma = norm * inside - (high * at_high - low * at_low)
    return norm * sigma * inside, at_low - at_high, by_sigma * gaussian_fwhm_to_sigma


def averages(channel: np.ndarray, centre: np.ndarray, fwhm: np.ndarray) -> np.ndarray:
    """Only the Gaussians of :func:`profiles`, which takes half of the time: (n, channels)."""
    sigma, low, high = _ends(channel, centre, fwhm)
    return np.sqrt(2 * np.pi) * sigma * (ndtr(high) - ndtr(low))


def _ends(channel: np.ndarray, centre: np.ndarray, fwhm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standard deviations (n, 1), and both ends of the channels in units of them from the centres, (n, channels)."""
    sigma = (fwhm * gaussian_fwhm_to_sigma)[:, None]
    low, high = ((channel + side - centre[:, None]) / sigma for side in (-0.5, 0.5))
    return sigma, low, high


def whitening(covariance: np.ndarray) -> np.ndarray:
    """The matrix that makes noise of a covariance white."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors / np.sqrt(np.maximum(values, FLOOR * values[-1]))) @ vectors.T


@dataclass(frozen=True, eq=False)
class _Problem:
    """A spectrum in noise made white: ``white`` @ noise has variance 1; ``seen`` is ``white`` @ values.

    From the values the mean with the weights ``rest`` of all channels was subtracted; None: nothing of the line was.
    """

    channel: np.ndarray
    white: np.ndarray
    seen: np.ndarray
    rest: np.ndarray | None = None

    def left_of(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What is left of a function of the channel, (..., channels), when its mean is subtracted; not yet white."""
        values = function(self.channel)
        if self.rest is None:
            return values
        free = np.flatnonzero(self.rest)
        mean: np.ndarray = function(free.astype(float)) @ self.rest[free]
        return values - mean[..., None]

    def shown(self, line: Line) -> np.ndarray:
        """A line as it would be seen: (channels,)."""
        return np.asarray(self.white @ self.left_of(line.at))

    def slopes(self, line: Line) -> np.ndarray:
        """Its derivatives by all parameters, (channels, parameters)."""
        return np.asarray(self.white @ self.left_of(lambda channel: line.slopes(channel).T).T)

    def criterion(self, line: Line) -> float:
        """Bayesian information criterion."""
        n, k = len(self.channel), line.parameters.size
        return line.chi2 * max(n - k, 1) + k * np.log(n)

    def left_over(self, line: Line, width: float) -> tuple[float, float]:
        """Maximum decrease of chi² by another Gaussian of given width, to first order, and its position."""
        centre = np.arange(self.channel[0], self.channel[-1] + 1, max(width / 2, 1.0))
        more = self.white @ self.left_of(lambda at: averages(at, centre, np.full(len(centre), width))).T
        known = np.linalg.qr(self.slopes(line))[0]
        more -= known @ (known.T @ more)
        rest = self.seen - self.shown(line)
        gain = (rest @ more) * np.abs(rest @ more) / np.maximum((more**2).sum(axis=0), 1e-3)
        best = int(np.argmax(gain))
        return float(gain[best]), float(centre[best])

    def starts(self, line: Line, width: float, place: float) -> list[list[tuple[float, float]]]:
        """Initial positions for another Gaussian: at the largest residual, or, of a single one, in both its halves."""
        rows = [(c, w) for _, c, w in line.parameters]
        made = [[*rows, (place, width)]]
        if len(rows) == 1:
            c, w = rows[0]
            made.append([(c - 0.35 * w, 0.6 * w), (c + 0.35 * w, 0.6 * w)])
        return made

    def fitted(self, start: list[tuple[float, float]], least: float = NARROWEST) -> Line | None:
        """The best-fitting Gaussians from given initial centres and widths; None if they make no line."""
        count = len(start)
        if len(self.channel) <= 3 * count:
            return None

        def rows_of(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            centre, log = parameters.reshape(2, count)
            return centre, least + np.exp(np.clip(log, -6, 10))

        def shapes_at(parameters: np.ndarray) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
            centre, width = rows_of(parameters)
            unit, by_centre, by_width = self.left_of(lambda at: np.stack(profiles(at, centre, width)))

            def slopes() -> np.ndarray:
                return np.concatenate([by_centre, by_width * (width - least)[:, None]]) @ self.white.T

            return unit @ self.white.T, slopes

        begin = np.array([[c for c, _ in start], [np.log(max(w - least, 0.05)) for _, w in start]]).ravel()
        try:
            answer, _ = fitted(self.seen[None], shapes_at, np.tile(np.arange(count), 2), begin)
        except np.linalg.LinAlgError:
            return None
        centre, width = rows_of(answer)
        amplitude = heights(self.seen[None], self.left_of(lambda at: averages(at, centre, width)) @ self.white.T)[0]
        inside = (centre > self.channel[0] - 1) & (centre < self.channel[-1] + 1)
        band = self.channel[-1] - self.channel[0] + 1
        if not (amplitude > 0).all() or not inside.all() or (width > band).any():
            return None
        line = Line(np.column_stack([amplitude, centre, width]), np.eye(3 * count), 0.0)
        line = replace(line, parameters=line.parameters[np.argsort(-amplitude * width)])
        blunt = replace(line, parameters=np.maximum(line.parameters, [-np.inf, -np.inf, SHARP]))
        jacobian = self.slopes(blunt)
        norm = np.sqrt((jacobian**2).sum(axis=0))
        if not (norm > 0).all():
            return None
        jacobian = jacobian / norm
        covariance = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-8) / np.outer(norm, norm)
        rest = self.seen - self.shown(line)
        return replace(line, covariance=covariance, chi2=float(rest @ rest) / (len(self.channel) - 3 * count))


def crossing_width(spectrum: np.ndarray, level: float) -> float:
    """Width in channels of a line at a fraction of its maximum, from the outside in, interpolated; NaN if undefined."""
    height = spectrum.max(initial=0.0)
    if not height > 0:
        return np.nan
    grid = np.arange(len(spectrum) + 2, dtype=float)
    return _crossed(grid, np.pad(spectrum, 1), level * height)


def mean_crossing_width(spectrum: np.ndarray) -> float:
    """W_m50 of :meth:`Line.mean_width` of a spectrum (channels,) that is 0 outside its line; NaN if undefined."""
    total, height = spectrum.sum(), spectrum.max(initial=0.0)
    if not total > 0:
        return np.nan
    summed = np.cumsum(spectrum) / total

    def reached(share: float) -> float:
        """Where the flux reaches a share, in channels from the lower edge of the first one."""
        k = int(np.argmax(summed >= share))
        before = summed[k - 1] if k else 0.0
        return float(k + (share - before) / (summed[k] - before))

    mean = 0.9 * total / max(reached(0.95) - reached(0.05), 1.0)
    return crossing_width(spectrum, float(0.5 * mean / height))


def correlated_draws(sigma: np.ndarray, correlation: np.ndarray, count: int) -> np.ndarray:
    """Random noise spectra (count, channels) with rms ``sigma`` (channels,) and correlated channels; fixed seed."""
    n = len(sigma)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    matrix = np.append(correlation, 0.0)[np.minimum(lag, len(correlation))]
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    return np.random.default_rng(n).standard_normal((count, n)) @ root.T * sigma
