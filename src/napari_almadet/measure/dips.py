"""Dips in a spectrum with continuum: lines in absorption, found and measured.

The continuum is a straight line through the channels without dips or emission.  The spectrum is correlated with
Gaussians of all widths, fitted together with that line.  To a dip the model S = S0 exp(-tau(v)) with a Gaussian tau(v)
is fitted, together with the level S0.  The noise is that of the cube with its measured correlation of channels, and the
unevenness that a bandpass leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import ndimage
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

from napari_almadet.constants import FOUR_LN2

# Values without an origin were chosen by eye; `benchmarks/absorption.py` measures what they achieve.
# Chance of a false dip in a source, by the number of trials, of which a third are independent; derived: with three
# bright sources a cube, one in some 2000 cubes has one.  Of 128 channels the least S/N is then 4.7.
FALSE_ALARM = 4e-4
PRESENT = 4.5  # S/N of the continuum, from which it counts as detected, as elsewhere
FLATNESS = 0.005  # of the continuum: unevenness of a channel that a good bandpass calibration leaves (ALMA: 0.1 to 1 %)
LEAST_DEPTH = 0.015  # derived: three times that, since what a bandpass leaves may be as wide as a line
WIDEST = 1 / 3  # of the band: of a wider dip the continuum beside it is not known
STEP = 1.5  # ratio of the widths tried; a width between two loses 2 % of its S/N
CLIP = 2.5  # sigma, beyond which channels are no continuum, alone or in sums
SUMS = (1, 3, 9, 27)  # channels of these sums
ROUNDS = 20  # of clipping, at most; some five are enough
LEAST_OWN = 0.1  # of a Gaussian's square, that no straight line explains
FLANK = 0.6  # FWHM from a dip's middle; derived: a Gaussian is down to 0.37 there, and half of it counts as risen
BESIDE = 1  # channels at least that the band goes on beyond
LEAST_SHARE = 0.15  # of the band, in which there must be continuum
FEW = 8  # channels of continuum at least
SATURATED = 2.0  # sigma of what is left at the deepest, under which the optical depth has a lower limit only
SKIRT = 0.02  # of a dip's depth, at which it ends
WIDER = 2.0  # channels, by which a dip may be wider than the Gaussian that finds it, where channels share their noise
MOST = 6  # dips of a source, that are counted


@dataclass(frozen=True)
class Dip:
    """A line in absorption; channels are 0-based, errors are standard deviations.

    Attributes
    ----------
    snr
        Matched to its own profile.
    z, width
        Centre and FWHM of the dip in channels.
    depth
        Of the continuum, from 0 to 1.
    tau, tau_int
        Optical depth at its deepest, and its integral over channels; NaN where the line is saturated.
    tau_limit
        Lower limit (2 sigma) of the former, where it is saturated; else NaN.
    """

    snr: float
    z: float
    err_z: float
    width: float
    err_width: float
    depth: float
    err_depth: float
    tau: float
    err_tau: float
    tau_int: float
    err_tau_int: float
    tau_limit: float


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A source's spectrum in units of its noise, 0 in channels that are not ``used``; all of shape (channels,).

    ``spectral`` is the correlation of channels by their distance, ``sigma`` the noise.
    """

    values: np.ndarray
    used: np.ndarray
    sigma: np.ndarray
    spectral: np.ndarray

    def variance(self, weights: np.ndarray) -> float:
        """Variance of a weighted sum of channels."""
        lags = (
            (1 if lag == 0 else 2) * r * float(weights[: len(weights) - lag] @ weights[lag:])
            for lag, r in enumerate(self.spectral[: len(weights)])
        )
        return max(sum(lags), 1e-30)

    @cached_property
    def deviations(self) -> dict[int, float]:
        """Standard deviation of the noise in sums over channels, by the number of channels, for all :data:`SUMS`."""
        return {width: float(np.sqrt(self.variance(np.ones(width)))) for width in SUMS}

    def covered(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, channels) times the correlation matrix of the channels."""
        kernel = np.concatenate([self.spectral[:0:-1], self.spectral])
        return ndimage.convolve1d(vectors, kernel, axis=-1, mode="constant")


def dip_channels(own: np.ndarray, sigma: np.ndarray, used: np.ndarray, spectral: np.ndarray) -> np.ndarray:
    """Mask (n,) of the channels of dips, which are left out when emission is searched for.

    Beside a dip, a continuum that was fitted through it leaves what looks like emission.

    Parameters
    ----------
    own, sigma
        Spectrum with its continuum, and its noise.
    used
        Channels with data.
    spectral
        Correlation of channels by their distance.
    """
    gone = np.zeros(len(own), bool)
    level = float(np.median(own[used])) if used.sum() >= 2 * FEW else 0.0
    if not level > PRESENT * np.median(sigma[used]) / np.sqrt(max(used.sum(), 1)):
        return gone
    sigma = np.where(used & (sigma > 0), np.hypot(sigma, FLATNESS * level), 1.0)
    for dip in dips_in(Spectrum(np.where(used, own / sigma, 0.0), used, sigma, spectral))[1]:
        gone |= profile(len(own), dip.z, dip.width) > SKIRT
    return gone if (used & ~gone).sum() >= FEW else np.zeros(len(own), bool)


def widths(n_channels: int) -> list[float]:
    """FWHM of the lines that are tried, in channels."""
    count = int(np.log(max(WIDEST * n_channels, 1)) / np.log(STEP)) + 1
    return [STEP**i for i in range(count)]


def profile(n_channels: int, centre: float, width: float) -> np.ndarray:
    """A Gaussian of unit peak, (n,)."""
    return np.exp(-FOUR_LN2 * ((np.arange(n_channels) - centre) / width) ** 2)


def continuum_fit(spectrum: Spectrum, free: np.ndarray) -> tuple[np.ndarray, float]:
    """A straight line through the free channels, in the spectrum's units of noise, and the variance of its level."""
    slope = (np.arange(len(free)) - len(free) / 2) / len(free)
    basis = np.stack([1 / spectrum.sigma, slope / spectrum.sigma])
    some = basis * free
    weights = np.linalg.pinv(some @ some.T) @ some  # (2, channels)
    line = (weights @ spectrum.values) @ basis
    return line * spectrum.used, spectrum.variance(weights[0])


def continuum_channels(spectrum: Spectrum) -> np.ndarray:
    """Channels (n,) without dips or emission.

    With a wide dip, the continuum is above most channels, with a wide emission line below: clipping is tried from both
    sides, and the result with more of the band is taken.
    """
    return max((clipped(spectrum, below=side) for side in (True, False)), key=np.count_nonzero)


def clipped(spectrum: Spectrum, below: bool) -> np.ndarray:
    """Channels (n,) that are left by clipping what is below a straight line, or above it, and then both.

    None where too few are left.
    """
    free = spectrum.used.copy()
    for turn in range(ROUNDS):
        line, _ = continuum_fit(spectrum, free)
        low, high = outliers(spectrum, (spectrum.values - line) * spectrum.used)
        first = ~low if below else ~high
        now = spectrum.used & (first if turn < 3 else ~low & ~high)
        if now.sum() < max(FEW, LEAST_SHARE * spectrum.used.sum()):
            return np.zeros(len(free), bool)
        if turn > 3 and (now == free).all():
            break
        free = now
    return free


def outliers(spectrum: Spectrum, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Channels (n,) that lie below and above zero, alone or in means of several; above, further off, for the noise."""
    low, high = np.zeros((2, len(rest)), bool)
    longest = spectrum.used.sum() / 4
    for width, deviation in spectrum.deviations.items():
        if width > longest:
            break
        sums = sums_about(rest, width // 2) / deviation
        lower, higher = sums < -CLIP * (1 + 0.25 * np.log(width)), sums > 1 + CLIP * (1 + 0.5 * np.log(width))
        low |= sums_about(lower, width // 3) > 0
        high |= sums_about(higher, width // 3) > 0
    return low, high


def sums_about(values: np.ndarray, reach: int) -> np.ndarray:
    """Sums of the values (n,) within ``reach`` channels of each, with nothing beyond the ends."""
    if not reach:
        return values
    total, place = np.concatenate([[0], np.cumsum(values)]), np.arange(len(values))
    return total[np.minimum(place + reach + 1, len(values))] - total[np.maximum(place - reach, 0)]


def threshold(n_channels: int) -> float:
    """S/N of a dip that noise does not make: by the number of places and widths that are tried."""
    trials = sum(n_channels / width for width in widths(n_channels))
    return float(-ndtri(FALSE_ALARM / trials))


def dips_in(spectrum: Spectrum) -> tuple[np.ndarray, list[Dip]]:
    """The channels of continuum, and the dips of a spectrum that noise does not make, the strongest first."""
    free = continuum_channels(spectrum)
    if not free.any():
        return free, []
    line, _ = continuum_fit(spectrum, free)
    low, high = outliers(spectrum, (spectrum.values - line) * spectrum.used)
    inside = spectrum.used & (low | ~high)  # a dip may lie within a wider line in emission
    places: list[tuple[float, float, float, np.ndarray]] = []  # S/N, centre, FWHM, channels
    least = threshold(int(spectrum.used.sum()))
    while len(places) < MOST and inside.sum() >= 2 * FEW:
        snr, centre, width = strongest(spectrum, inside)
        if snr < least:
            break
        gone = profile(len(free), centre, width + WIDER) > SKIRT
        places.append((snr, centre, width, gone))
        inside = inside & ~gone
    if not places:
        return free, []
    left = free & ~np.any([gone for *_, gone in places], axis=0)
    free = left if left.sum() >= FEW else free
    line, _ = continuum_fit(spectrum, free)
    rest = (spectrum.values - line) * spectrum.used
    found = []
    for number, (snr, centre, width, _) in enumerate(places):
        others = [gone for n, (*_, gone) in enumerate(places) if n != number]
        dip = fitted(
            spectrum, np.where(np.any(others, axis=0), 0.0, rest) if others else rest, line, snr, centre, width
        )
        if dip is not None and between(dip, spectrum, rest, line):
            found.append(dip)
    return free, found


def between(dip: Dip, spectrum: Spectrum, rest: np.ndarray, line: np.ndarray) -> bool:
    """Whether a spectrum rises to its continuum on both sides of a dip: what is low up to the band's end is no line.

    ``rest`` is the spectrum without the continuum ``line``, in units of noise.
    """
    channel, reach = np.arange(len(rest)), max(BESIDE, round(dip.width / 2))
    for side in (-1, 1):
        beyond = np.flatnonzero(spectrum.used & (side * (channel - dip.z) > FLANK * dip.width))[::side][:reach]
        if len(beyond) < BESIDE or rest[beyond].mean() < -0.5 * dip.depth * line[beyond].mean():
            return False
    return True


def strongest(spectrum: Spectrum, inside: np.ndarray) -> tuple[float, float, float]:
    """S/N, centre and FWHM of the best dip in some channels, fitted together with the continuum.

    Of a Gaussian only what no straight line explains counts: with an orthonormal basis B of the line, t' (1 - B B') s
    over the deviation of noise in it.
    """
    slope = np.arange(len(inside)) - np.flatnonzero(inside).mean()
    basis = np.linalg.qr((np.stack([np.ones(len(slope)), slope]) / spectrum.sigma * inside).T)[0].T
    rest = spectrum.values * inside
    rest = rest - (basis @ rest) @ basis
    tried = widths(int(spectrum.used.sum()))
    size, kernels, by_kernel, by_square = kernels_of(len(inside), len(tried))
    energy = np.array([(kernel**2).sum() for kernel in kernels])[:, None]
    shared = np.array([[spectrum.variance(kernel)] for kernel in kernels]) / energy  # for channels that share noise
    sums = irfft(rfft(np.stack([rest, *basis]), size)[:, None] * by_kernel, size)[..., : len(inside)]
    known = irfft(rfft(inside.astype(float), size) * by_square, size)[:, : len(inside)]
    norm_of = np.where(known > 0.5 * energy, known - (sums[1:] ** 2).sum(axis=0), np.inf)
    snr = np.where(norm_of > LEAST_OWN * known, -sums[0] / np.sqrt(np.maximum(norm_of, 1e-9) * shared), 0.0)
    i, k = np.unravel_index(int(np.argmax(snr)), snr.shape)
    return (float(snr[i, k]), float(k), tried[i]) if snr[i, k] > 0 else (0.0, 0.0, 1.0)


@lru_cache(maxsize=16)
def kernels_of(n_channels: int, count: int) -> tuple[int, list[np.ndarray], np.ndarray, np.ndarray]:
    """Gaussians of ``count`` widths, and transforms with which spectra are correlated with them and their squares.

    The first number is the length of the spectra that are transformed, padded for the widest one.
    """
    tried = [STEP**i for i in range(count)]
    halves = [int(np.ceil(1.5 * width)) for width in tried]
    kernels = [profile(2 * half + 1, half, width) for half, width in zip(halves, tried, strict=True)]
    size = next_fast_len(n_channels + 2 * halves[-1] + 1, real=True)
    padded = np.zeros((count, size))
    for row, kernel, half in zip(padded, kernels, halves, strict=True):
        row[: len(kernel)] = kernel
        row[:] = np.roll(row, -half)  # its middle is the first: it is symmetric, and its transform real
    return size, kernels, rfft(padded).real, rfft(padded**2).real


def fitted(
    spectrum: Spectrum, rest: np.ndarray, line: np.ndarray, snr: float, centre: float, width: float
) -> Dip | None:
    """The dip with a Gaussian optical depth that fits best; None where none does, or where it is no absorption."""
    from scipy.optimize import least_squares

    n = len(rest)
    about = spectrum.used & (np.abs(np.arange(n) - centre) <= max(2.5 * width, 8))
    nearest = _nearest(about, centre)
    first = float(np.clip(-rest[nearest] / max(line[nearest], 1e-9), 0.01, 0.95))

    def model(p: np.ndarray) -> np.ndarray:
        """Residual of (log tau, centre, log width, level)."""
        tau = np.exp(p[0]) * np.exp(-FOUR_LN2 * ((np.arange(n)[about] - p[1]) / np.exp(p[2])) ** 2)
        return line[about] * (p[3] - 1 + p[3] * np.expm1(-tau)) - rest[about]

    start = np.array([np.log(-np.log1p(-first)), centre, np.log(width), 1.0])
    level_error = max(1e-4, 1 / np.sqrt(max((line[spectrum.used] ** 2).sum(), 1e-9)))

    def anchored(p: np.ndarray) -> np.ndarray:
        return np.append(model(p), (p[3] - 1) / level_error)

    bounds = ([-7, centre - 2 * width - 2, np.log(0.5), 0.5], [3, centre + 2 * width + 2, np.log(WIDEST * 2 * n), 1.5])
    start = np.clip(start, np.array(bounds[0]) + 1e-6, np.array(bounds[1]) - 1e-6)
    try:
        answer = least_squares(anchored, start, bounds=bounds, max_nfev=60)
    except (ValueError, np.linalg.LinAlgError):
        return None
    slopes = np.zeros((4, n))
    slopes[:, about] = answer.jac[:-1].T
    normal = np.linalg.pinv(answer.jac.T @ answer.jac)
    anchor = answer.jac[-1]
    covariance = normal @ (slopes @ spectrum.covered(slopes).T + np.outer(anchor, anchor)) @ normal
    return described(answer.x, covariance, snr, line[_nearest(about, answer.x[1])])


def _nearest(channels: np.ndarray, centre: float) -> int:
    """Index of the channel, of some channels (n,), that is nearest to a centre."""
    chosen = np.flatnonzero(channels)
    return int(chosen[np.argmin(np.abs(chosen - centre))])


def described(p: np.ndarray, covariance: np.ndarray, snr: float, brightness: float) -> Dip | None:
    """What a fit says; ``brightness`` is the continuum there in units of a channel's noise."""
    tau, z, width = float(np.exp(p[0])), float(p[1]), float(np.exp(p[2]))
    depth = -np.expm1(-tau)

    def error(gradient: tuple[float, float, float]) -> float:
        g = np.array([gradient[0], 0.0, gradient[1], gradient[2]])
        return float(np.sqrt(max(g @ covariance @ g, 0.0)))

    err_depth = error((tau * np.exp(-tau), 0.0, 0.0))
    # of a deep line log tau is hardly known, and its error is not linear: that of its mean bounds what is left
    err_left = max(err_depth, 1.0 / (brightness * np.sqrt(max(width, 1.0))))
    half = -np.log1p(-depth / 2) / tau  # of the optical depth's profile, where the dip has half its depth
    apparent = width * np.sqrt(np.log(1 / half) / np.log(2))
    integral = tau * width * np.sqrt(np.pi / FOUR_LN2)
    if not np.isfinite([depth, err_depth, apparent]).all() or depth < LEAST_DEPTH:
        return None
    saturated = 1 - depth < SATURATED * err_left
    err_tau, err_int = error((tau, 0.0, 0.0)), error((integral, integral, 0.0))
    limit = np.nan
    if saturated:
        left = max(1 - depth, 0.0) + SATURATED * err_left
        limit = float(-np.log(min(left, 1.0)))
        tau = err_tau = integral = err_int = np.nan
    err_width = error((0.0, apparent, 0.0))
    return Dip(
        *(snr, z, float(np.sqrt(covariance[1, 1])), float(apparent), err_width, float(depth), err_depth),
        *(tau, err_tau, integral, err_int, limit),
    )
