"""Gaussians and a baseline fitted to a spectrum from the astronomer's starting values, in noise as it was measured.

The fit is astropy's (Branch, Coleman & Li's trust region); a few Gauss-Newton steps then weigh the channels with their
covariance, and its inverse gives the errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from astropy.modeling import Fittable1DModel, Parameter, fitting, models

from napari_almadet.constants import FOUR_LN2
from napari_almadet.measure.line_model import NARROWEST, profiles, whitening

STEPS = 6  # of Gauss-Newton at most
FEW = 2  # channels beyond the number of parameters, at least, for a fit


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """Gaussians, averaged over channels, on a baseline.

    Attributes
    ----------
    gaussians
        Height, centre and FWHM of each, in the spectrum's unit and channels: shape (n, 3).
    baseline
        Coefficients by rising power of (channel - ``middle``): shape (0,), (1,) or (2,).
    covariance
        Of the Gaussians' parameters, flattened, and the baseline's.
    chi2
        Sum of squares of what is left, in noise made white.
    freedom
        Degrees of freedom.
    middle
        Channel, from which the baseline counts.
    """

    gaussians: np.ndarray
    baseline: np.ndarray
    covariance: np.ndarray
    chi2: float
    freedom: int
    middle: float

    @property
    def errors(self) -> np.ndarray:
        """Of the Gaussians' parameters, shape (n, 3)."""
        spread = np.sqrt(np.maximum(np.diag(self.covariance), 0))
        return np.asarray(spread[: self.gaussians.size].reshape(-1, 3))

    def level(self, channel: np.ndarray) -> np.ndarray:
        """The baseline at fractional channels."""
        return np.asarray(_powers(channel, self.middle, len(self.baseline)) @ self.baseline)

    def lines(self, channel: np.ndarray) -> np.ndarray:
        """Each Gaussian at fractional channels, shape (n, channels)."""
        height, centre, fwhm = self.gaussians.T
        return height[:, None] * profiles(np.asarray(channel, dtype=float), centre, fwhm)[0]

    def at(self, channel: np.ndarray) -> np.ndarray:
        """The whole model at fractional channels."""
        return np.asarray(self.level(channel) + self.lines(channel).sum(axis=0))

    def integrals(self) -> tuple[np.ndarray, np.ndarray]:
        """Sum over channels of each Gaussian, and its error."""
        scale = np.sqrt(np.pi / FOUR_LN2)
        height, _, fwhm = self.gaussians.T
        errors = []
        for i, (a, w) in enumerate(zip(height, fwhm, strict=True)):
            slope = np.zeros(len(self.covariance))
            slope[3 * i], slope[3 * i + 2] = scale * w, scale * a
            errors.append(np.sqrt(max(float(slope @ self.covariance @ slope), 0.0)))
        return scale * height * fwhm, np.array(errors)

    def centroid(self) -> tuple[float, float]:
        """Mean channel of the light of all Gaussians, and its error; NaN where they cancel."""
        height, centre, fwhm = self.gaussians.T
        light = height * fwhm
        total = light.sum()
        if total == 0:
            return np.nan, np.nan
        mean = float(light @ centre / total)
        slope = np.zeros(len(self.covariance))
        slope[0 : 3 * len(centre) : 3] = fwhm * (centre - mean) / total
        slope[1 : 3 * len(centre) : 3] = light / total
        slope[2 : 3 * len(centre) : 3] = height * (centre - mean) / total
        return mean, float(np.sqrt(max(slope @ self.covariance @ slope, 0.0)))


class ChannelGaussian(Fittable1DModel):
    """A Gaussian as channels have it: averaged over each."""

    height, centre, fwhm = Parameter(default=1.0), Parameter(default=0.0), Parameter(default=1.0)

    @staticmethod
    def evaluate(x: Any, height: Any, centre: Any, fwhm: Any) -> Any:
        """Values at channels ``x``."""
        return np.ravel(height) @ profiles(np.ravel(x).astype(float), np.ravel(centre), np.ravel(fwhm))[0]


def fit_spectrum(
    spectrum: np.ndarray,
    sigma: np.ndarray,
    correlation: np.ndarray,
    starts: Sequence[tuple[float, float]],
    terms: int = 1,
    channels: tuple[int, int] | None = None,
) -> SpectrumFit:
    """Fit Gaussians and a baseline to a spectrum.

    Parameters
    ----------
    spectrum
        Shape (channels,); NaN where there is no data.
    sigma
        Noise of each channel, NaN or 0 where it is not known: shape (channels,).
    correlation
        Of channels by their distance, 1 first: shape (lags,).
    starts
        (centre, FWHM) of each Gaussian to start from, in channels.
    terms
        Of the baseline: 0 for none, 1 for a constant, 2 for a straight line.
    channels
        Half-open range to fit; default: all.

    Raises
    ------
    ValueError
        If there are too few channels with data, or nothing to fit; the message says which.
    """
    spectrum, sigma = np.asarray(spectrum, dtype=float), np.asarray(sigma, dtype=float)
    first, last = (0, len(spectrum)) if channels is None else channels
    used = np.arange(first, last)
    used = used[np.isfinite(spectrum[used]) & np.isfinite(sigma[used]) & (sigma[used] > 0)]
    if not starts and not terms:
        raise ValueError("there is neither a Gaussian nor a baseline to fit")
    needed = 3 * len(starts) + terms + FEW
    if len(used) < needed:
        raise ValueError(f"{len(used)} channels with data are too few: this fit needs {needed}")
    middle = float(used.mean())
    lag = np.abs(np.subtract.outer(used, used))
    shared = np.append(correlation, 0.0)[np.minimum(lag, len(correlation))]
    white = whitening(shared * np.outer(sigma[used], sigma[used]))
    parameters = _by_astropy(used, spectrum[used], sigma[used], starts, terms, middle)
    return _refined(used, spectrum[used], white, parameters, len(starts), middle)


def _by_astropy(
    used: np.ndarray,
    values: np.ndarray,
    sigma: np.ndarray,
    starts: Sequence[tuple[float, float]],
    terms: int,
    middle: float,
) -> np.ndarray:
    """Parameters of a fit in which each channel stands for itself; heights at first by linear least squares."""
    low, high = float(used[0]), float(used[-1])
    begin = [(float(np.clip(c, low, high)), float(np.clip(w, 2 * NARROWEST, high - low + 1))) for c, w in starts]
    shapes = [_powers(used, middle, terms).T]
    if begin:
        shapes.append(profiles(used.astype(float), *np.array(begin).T)[0])
    basis = (np.concatenate(shapes) / sigma).T
    linear = np.linalg.lstsq(basis, values / sigma, rcond=None)[0]
    if not begin:
        return np.asarray(linear)
    parts: list[Any] = []
    for (centre, fwhm), height in zip(begin, linear[terms:], strict=True):
        bounds = {"centre": (low - 0.5, high + 0.5), "fwhm": (NARROWEST, 2 * (high - low + 1))}
        parts.append(ChannelGaussian(height, centre, fwhm, bounds=bounds))
    if terms:
        level = models.Polynomial1D(terms - 1, **{f"c{i}": c for i, c in enumerate(linear[:terms])})
        parts.append(models.Shift(-middle, fixed={"offset": True}) | level)
    model = reduce(add, parts)
    found = fitting.TRFLSQFitter()(model, used.astype(float), values, weights=1 / sigma, filter_non_finite=True)
    free = [value for name, value in zip(found.param_names, found.parameters, strict=True) if "offset" not in name]
    return np.array(free)


def _refined(
    used: np.ndarray, values: np.ndarray, white: np.ndarray, parameters: np.ndarray, count: int, middle: float
) -> SpectrumFit:
    """The same with channels weighed by their covariance, with its errors."""
    terms = len(parameters) - 3 * count
    channel = used.astype(float)

    def made(at: np.ndarray) -> SpectrumFit:
        empty = np.zeros((len(at), len(at)))
        return SpectrumFit(at[: 3 * count].reshape(-1, 3), at[3 * count :], empty, 0.0, 1, middle)

    def left(at: np.ndarray) -> np.ndarray:
        return np.asarray(white @ (values - made(at).at(channel)))

    def slopes(at: np.ndarray) -> np.ndarray:
        columns = [_powers(channel, middle, terms)]
        if count:
            height, centre, fwhm = at[: 3 * count].reshape(-1, 3).T
            unit, by_centre, by_width = profiles(channel, centre, fwhm)
            own = np.stack([unit, height[:, None] * by_centre, height[:, None] * by_width], axis=1)
            columns.insert(0, own.reshape(-1, len(channel)).T)
        return np.asarray(white @ np.concatenate(columns, axis=1))

    now, rest = parameters, left(parameters)
    widths = np.arange(3 * count) % 3 == 2
    for _ in range(STEPS):
        step = np.linalg.lstsq(slopes(now), rest, rcond=None)[0]
        new = now + step
        if (new[: 3 * count][widths] < NARROWEST).any():
            break
        after = left(new)
        if not after @ after < rest @ rest:
            break
        now, rest = new, after
    jacobian = slopes(now)
    norm = np.sqrt((jacobian**2).sum(axis=0))
    norm[norm == 0] = 1
    scaled = jacobian / norm
    covariance = np.linalg.pinv(scaled.T @ scaled, rcond=1e-10) / np.outer(norm, norm)
    return SpectrumFit(
        now[: 3 * count].reshape(-1, 3), now[3 * count :], covariance, float(rest @ rest), len(used) - len(now), middle
    )


def _powers(channel: np.ndarray, middle: float, terms: int) -> np.ndarray:
    """Powers of (channel - middle), (channels, terms)."""
    return np.asarray((np.asarray(channel, dtype=float)[:, None] - middle) ** np.arange(terms))
