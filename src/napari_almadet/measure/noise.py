"""The noise of a cube, measured in its off-source pixels: level, spatial correlation and spectral correlation.

Every flux is a sum of voxels with known weights, F = sum(W I), and its variance is W' C W, where C is the covariance of
the noise.  C is modelled as the product of three measured factors: the noise level at each position and channel, the
spatial autocorrelation (about the width of the beam), and the spectral autocorrelation (due to Hanning smoothing,
averaging or regridding).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage
from scipy.fft import irfft2, next_fast_len, rfft2

from napari_almadet.constants import BEAM_AREA, NORMAL_MAD
from napari_almadet.measure.planes import BLOCK, bounds, counted, median_where, medians
from napari_almadet.progress import Progress, in_steps
from napari_almadet.threads import spread

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

# Values without an origin are from the design study of step 10 (233 simulated and real cubes, fluxes against the truth;
# its tables are not in the repository) or were chosen by eye; `benchmarks/accuracy.py` measures what they achieve.
# Beams, maximum offset of the spatial correlation, from the study: beyond it, estimates are dominated by their error
REACH = 3.0
TAPER = 0.25  # fraction of that range over which the correlation is tapered to zero
LAGS = 12  # channels, maximum lag of the spectral correlation, from the study
SHARED = 0.02  # correlation of channels below which they are treated as independent
BLOCKS = 3  # along each axis: the noise is sampled in 3 x 3 blocks
BLOCK_BEAMS = 8.0  # beams, side of a block
LARGEST_BLOCK = 64  # px, maximum side of a block
THIN = 2.0  # sampled pixels per beam in a block; derived: closer ones are correlated and add little
PLANE_SIDE = 256  # px, side of the planes from which the spatial correlation is estimated
PLANES = 8  # number of these planes, spread over the band
# Sigma in a smoothed spectrum, above which a pixel is on a source; noise of 1e5 pixels rarely reaches it
ON_SOURCE = 4.5
FEW = 8  # channels; with fewer, outliers cannot be recognised
CLIP = 3.5  # sigma, values beyond are clipped from means; derived: of a Gaussian this is 0.05 %
UNIFORM = 0.04  # relative scatter of the noise between blocks, less its error, below which the noise is uniform
POWERS = 32  # number of cached transforms of the correlation, for as many sizes of images
LEAST_PAIRS = 0.02  # fraction of the pixels that must have a partner at an offset for its correlation to be estimated


@dataclass(frozen=True, eq=False)
class Noise:
    """The noise of a cube.

    Attributes
    ----------
    rms
        Standard deviation in each channel, in the cube's unit, at the median level of the field:
        shape (channels,); NaN in channels without data.
    spatial
        Correlation of pixels as a function of their offset, 1 in the middle: shape (2 h + 1, 2 h + 1).
    spectral
        Correlation of channels as a function of their distance, starting with 1: shape (lags,).
    uniform
        Whether the level is the same across the field; otherwise it is measured locally.
    """

    rms: np.ndarray
    spatial: np.ndarray
    spectral: np.ndarray
    uniform: bool = True

    @property
    def reach(self) -> int:
        """Maximum offset in pixels of the measured correlation."""
        return len(self.spatial) // 2

    @cached_property
    def _powers(self) -> dict[tuple[int, int], np.ndarray]:
        return {}

    def power(self, shape: tuple[int, int]) -> np.ndarray:
        """Fourier transform of the spatial correlation on a periodic grid, in the layout of `scipy.fft.rfft2`; >= 0."""
        known = self._powers
        power = known.get(shape)
        if power is None:  # asked once, since another thread may clear them
            kernel = np.zeros(shape)
            lag = np.arange(-self.reach, self.reach + 1)
            np.add.at(kernel, np.ix_(lag % shape[0], lag % shape[1]), self.spatial)
            if len(known) >= POWERS:
                known.clear()
            power = known[shape] = np.clip(rfft2(kernel).real, 0, None)
        return power

    def correlated(self, images: np.ndarray) -> np.ndarray:
        """Images (..., ny, nx) multiplied by the correlation matrix of the pixels."""
        ny, nx = images.shape[-2:]
        shape = tuple(next_fast_len(n + self.reach, real=True) for n in (ny, nx))
        return irfft2(rfft2(images, s=shape) * self.power(shape), s=shape)[..., :ny, :nx]

    def channel_covariance(self, n_channels: int, first: int = 0) -> np.ndarray:
        """Covariance of the channels of one pixel, (n_channels, n_channels), starting with channel ``first``."""
        return self.covariance_between(np.arange(first, first + n_channels))

    def covariance_between(self, channels: np.ndarray) -> np.ndarray:
        """Covariance of some channels (n,) of one pixel, by their numbers: (n, n)."""
        lag = np.abs(np.subtract.outer(channels, channels))
        known = np.append(self.spectral, 0.0)
        sigma = self.sigma[channels]
        return known[np.minimum(lag, len(self.spectral))] * np.outer(sigma, sigma)

    @property
    def sigma(self) -> np.ndarray:
        """The ``rms`` with 0 where there is no data."""
        return np.nan_to_num(self.rms)

    def spectral_variance(self, weights: np.ndarray) -> float:
        """Variance of a sum over the channels of one pixel with weights (channels,)."""
        w = weights * self.sigma
        shared = [(1 if lag == 0 else 2) * r * (w[: len(w) - lag] @ w[lag:]) for lag, r in enumerate(self.spectral)]
        return max(float(sum(shared)), 0.0)

    def spatial_variance(self, weights: np.ndarray) -> float:
        """Variance of a sum over the pixels of one plane of unit noise with weights (ny, nx)."""
        used = [np.flatnonzero(weights.any(axis=axis)) for axis in (1, 0)]
        if not len(used[0]):
            return 0.0
        weights = weights[tuple(slice(i[0], i[-1] + 1) for i in used)]
        shape, power = self._power_of_pairs(weights.shape)
        seen = rfft2(weights.astype(float), s=shape)
        return float(((seen.real**2 + seen.imag**2) * power).sum())

    def _power_of_pairs(self, field: tuple[int, ...]) -> tuple[tuple[int, int], np.ndarray]:
        """Size of transforms of planes (ny, nx), and weights with which the squares of one add up to a variance."""
        shape = (next_fast_len(field[0] + self.reach, real=True), next_fast_len(field[1] + self.reach, real=True))
        twice = np.full(shape[1] // 2 + 1, 2.0)  # a real image's transform is kept by half
        twice[0] = 1
        if shape[1] % 2 == 0:
            twice[-1] = 1
        return shape, self.power(shape) * twice / (shape[0] * shape[1])

    def variance(self, weights: np.ndarray, level: np.ndarray | float = 1.0) -> float:
        """Variance W' C W of a sum of voxels with weights.

        Parameters
        ----------
        weights
            Shape (channels, ny, nx): all channels of the cube.
        level
            Noise of the pixels over ``rms``, (ny, nx).
        """
        y, x = bounds(np.any(weights, axis=0))
        channels = np.flatnonzero(weights[:, y, x].any(axis=(1, 2)))
        if not len(channels):
            return 0.0
        used = slice(channels[0], channels[-1] + 1)
        level = np.broadcast_to(level, weights.shape[1:])[y, x]
        weights = weights[used, y, x] * (self.sigma[used, None, None] * level)
        shape, power = self._power_of_pairs(weights.shape[1:])
        seen = rfft2(weights.astype(np.float32), s=shape)
        seen *= np.sqrt(power).astype(np.float32)
        parts, total = seen.view(np.float32).reshape(len(seen), -1), 0.0  # real and imaginary parts
        for lag, r in enumerate(self.spectral[: len(weights)]):
            pairs = np.einsum("cn,cn->c", parts[: len(parts) - lag], parts[lag:]).sum(dtype=float)
            total += (1 if lag == 0 else 2) * r * float(pairs)
        return max(total, 0.0)

    def smoothed(self, fwhm: float, n_channels: int) -> float:
        """Standard deviation of unit noise after a Gaussian of ``fwhm`` pixels and a mean over some channels."""
        left = 1.0
        if fwhm > 0:
            sigma = np.sqrt(2) * fwhm * gaussian_fwhm_to_sigma
            left = ndimage.gaussian_filter(self.spatial, sigma, mode="constant")[self.reach, self.reach]
        lags = self.spectral[:n_channels]
        times = np.where(np.arange(len(lags)) == 0, 1, 2) * (n_channels - np.arange(len(lags)))
        return float(np.sqrt(max(left, 1e-4) * max(float(times @ lags) / n_channels**2, 1e-4)))

    def over(self, sums: int) -> float:
        """Variance of the sum of ``sums`` channels, relative to that of independent channels."""
        lags = self.spectral[:sums]
        times = np.where(np.arange(len(lags)) == 0, 1, 2) * (1 - np.arange(len(lags)) / max(sums, 1))
        return max(float(times @ lags), 0.0)


def white(n_channels: int, rms: float = 1.0) -> Noise:
    """Noise of independent voxels."""
    return Noise(np.full(n_channels, rms), np.ones((1, 1)), np.ones(1))


@in_steps
def noise_of(cube: Cube, beam: float) -> Generator[Progress, None, Noise]:
    """Measure the noise of a cube in blocks spread over its field and in some of its planes.

    Parameters
    ----------
    beam
        FWHM in pixels.

    Returns
    -------
    Noise
        With ``rms`` NaN everywhere if the noise cannot be measured.
    """
    yield Progress("Measuring the noise", 0, 2)
    thin = max(1, int(beam / THIN))
    cube.blank  # noqa: B018 (found out once, before the threads ask)

    def read(part: tuple[slice, slice]) -> np.ndarray:
        return cube.read(slice(None), *part, writable=False)[:, ::thin, ::thin]

    blocks = spread(read, sampled(cube.shape[1:], beam))
    rms, spectral, uniform = channels_noise(blocks, beam / thin)
    yield Progress("Measuring the noise", 1, 2)
    spatial = spatial_correlation(differences(cube), rms, beam)
    yield Progress("Measuring the noise", 2, 2)
    return Noise(rms, spatial, spectral, uniform)


def sampled(field: tuple[int, int], beam: float) -> Iterator[tuple[slice, slice]]:
    """Parts of a field in which the noise is sampled."""
    side = int(np.clip(round(BLOCK_BEAMS * beam), 16, LARGEST_BLOCK))

    def along(length: int) -> list[slice]:
        count = int(np.clip(length // side, 1, BLOCKS))
        size = min(side, length)
        starts = ((np.arange(count) + 0.5) * length / count - size / 2).astype(int)
        return [slice(max(s, 0), max(s, 0) + size) for s in starts]

    ny, nx = field
    yield from product(along(ny), along(nx))


def channels_noise(blocks: list[np.ndarray], beam: float) -> tuple[np.ndarray, np.ndarray, bool]:
    """Noise of each channel, correlation of channels, and whether the level is the same in all blocks.

    Parameters
    ----------
    blocks
        Each of shape (channels, y, x); NaN where there is no data.

    Returns
    -------
    rms, spectral, uniform
        As :class:`Noise` has them.
    """
    n_channels = len(blocks[0])
    levels, quiet = [], []
    for spectra, known in spread(lambda planes: off_source(planes, beam), blocks):
        if spectra.shape[1] < 4:
            continue
        level = float(medians(np.abs(spectra[known]))) / NORMAL_MAD
        if level > 0:
            levels.append((level, spectra.shape[1]))
            quiet.append(np.where(known, spectra / level, np.nan))
    if not levels:
        return np.full(n_channels, np.nan), np.ones(1), True
    level, counts = np.array(levels).T
    middle = float(np.median(level))
    spectra = np.concatenate(quiet, axis=1)
    independent = max(spectra.shape[1] / (BEAM_AREA * beam**2), 1.0)
    known = np.isfinite(spectra).T
    profile = median_where(np.abs(spectra).T, known) / NORMAL_MAD
    profile = shrunk(np.where(known.any(axis=0), profile, np.nan), independent)
    with np.errstate(invalid="ignore", divide="ignore"):
        spectral, lost = spectral_correlation(spectra / profile[:, None])
    scatter = float(np.std(level / middle)) if len(level) > 1 else 0.0
    error = 1.2 * np.sqrt(BEAM_AREA * beam**2 / (2 * n_channels * counts.mean()))
    return middle * profile / np.sqrt(1 - lost), spectral, scatter**2 < UNIFORM**2 + error**2


def off_source(planes: np.ndarray, beam: float) -> tuple[np.ndarray, np.ndarray]:
    """Median-subtracted spectra of the off-source pixels of a block, and which of their values are known.

    Returns
    -------
    spectra, known
        Shape (channels, pixels); 0 where not known.
    """
    filled = np.isfinite(planes) & (planes != 0)  # exact zeros are no data: an image cut at its primary beam
    some = filled.any(axis=(1, 2))
    valid = filled.sum(axis=0) > 0.5 * max(some.sum(), 1)
    if some.sum() < 2 or not valid.any():
        return np.zeros((len(planes), 0), np.float32), np.zeros((len(planes), 0), bool)
    spectra, known = planes[:, valid], filled[:, valid]
    spectra = np.where(known, spectra - middles(spectra, known), 0)
    spread = 1.0 / NORMAL_MAD * float(medians(np.abs(spectra[some]).ravel())) or 1.0
    worst = np.zeros(spectra.shape[1])
    for width in (1, 3, 9):
        if width <= max(1, len(planes) // 4):
            mean = ndimage.uniform_filter1d(spectra, width, axis=0, mode="constant")
            sigma = float(medians(np.abs(mean[some]).ravel())) / NORMAL_MAD or spread
            worst = np.maximum(worst, np.abs(mean).max(axis=0) / sigma)
    source = np.zeros(valid.shape, bool)
    source[valid] = worst > ON_SOURCE + (0.5 if len(planes) > 200 else 0.0)
    near = ndimage.binary_dilation(source, iterations=max(1, round(0.7 * beam))) if source.any() else source
    if near[valid].mean() > 0.7:  # emission everywhere: use its faintest pixels
        near[valid] = worst > np.quantile(worst, 0.4)
    return spectra[:, ~near[valid]], known[:, ~near[valid]]


def middles(spectra: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Clipped means of spectra (channels, pixels); medians would have more noise."""
    if len(spectra) < FEW:  # no outlier among so few
        return np.where(known, spectra, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if known.all():
        middle = medians(np.ascontiguousarray(spectra.T))
    else:
        some = known.any(axis=1)  # a channel without data tells nothing
        middle = np.where(known.any(axis=0), median_where(spectra[some], known[some]), np.nan)
    apart = np.abs(spectra - middle)
    used = known & (apart <= CLIP / NORMAL_MAD * medians(apart.ravel() if known.all() else apart[known]))
    return np.where(used, spectra, 0).sum(axis=0) / np.maximum(counted(used), 1)


def shrunk(profile: np.ndarray, independent: float) -> np.ndarray:
    """A noise profile (channels,) shrunk towards its mean according to its error (James & Stein 1961).

    ``independent`` is the number of independent values from which each channel's noise was estimated.
    """
    known = np.isfinite(profile) & (profile > 0)
    profile = np.where(known, profile, np.nan)
    if known.sum() < 3:
        return profile
    log = np.log(profile[known])
    middle = np.median(log)
    error = 1.37 / (2 * independent)  # variance of the logarithm of a median absolute deviation
    share = max(0.0, 1 - error / max(float(np.mean((log - middle) ** 2)), 1e-30))
    profile[known] = np.exp(middle + share * (log - middle))
    return profile


def spectral_correlation(spectra: np.ndarray) -> tuple[np.ndarray, float]:
    """Correlation of channels by their distance, and the fraction of the variance removed with the subtracted mean.

    Parameters
    ----------
    spectra
        Of noise in units of its level, (channels, pixels); NaN where there is no data.
    """
    n_channels = len(spectra)
    values = np.ascontiguousarray(np.clip(np.nan_to_num(spectra), -5, 5))  # in what order the mean left it
    seen = np.isfinite(spectra)
    complete = bool(seen.all())
    reach = min(LAGS, max(n_channels // 4, 0))
    lags = np.zeros(reach + 1)
    pairs = np.empty(reach + 1)
    depth = max(1, BLOCK // max(values.shape[1], 1))
    for first in range(0, n_channels, depth):
        for lag in range(min(reach, n_channels - 1 - first) + 1):
            last = min(first + depth, n_channels - lag)
            lags[lag] += np.vdot(values[first:last], values[first + lag : last + lag])
    for lag in range(reach + 1):
        both = values[lag:].size if complete else np.count_nonzero(seen[: n_channels - lag] & seen[lag:])
        pairs[lag] = max(int(both), 1)
    lags /= pairs
    lags /= max(lags[0], 1e-30)
    mean = 0.0
    for _ in range(3):  # subtracting the mean of a spectrum lowers all lags
        whole = _significant(lags * (1 - mean) + mean)
        mean = min((1 + 2 * whole[1:].sum()) / n_channels, 0.75)
    return whole, float(mean)


def _significant(lags: np.ndarray) -> np.ndarray:
    """Correlations up to the first insignificant one."""
    shared = np.abs(lags) >= SHARED
    shared[0] = True
    end = len(lags) if shared.all() else int(np.argmin(shared))
    return lags[:end].copy()


def differences(cube: Cube) -> np.ndarray:
    """Differences of some channels three apart in the middle of the field, NaN where there is no data: (n, y, x)."""
    n_channels, *field = cube.shape
    lag = min(3, n_channels // 4) or 1
    y, x = (slice((n - min(n, PLANE_SIDE)) // 2, (n - min(n, PLANE_SIDE)) // 2 + min(n, PLANE_SIDE)) for n in field)
    good = np.arange(n_channels - lag)
    if cube.flagged is not None:
        good = good[~(cube.flagged[: n_channels - lag] | cube.flagged[lag:])]
    chosen = good[np.unique(np.linspace(0, len(good) - 1, PLANES).round().astype(int))] if len(good) else good
    made = [cube.read(k + lag, y, x) - cube.read(k, y, x) for k in chosen]
    return np.stack(made) if made else np.full((1, y.stop - y.start, x.stop - x.start), np.nan)


def spatial_correlation(planes: np.ndarray, rms: np.ndarray, beam: float) -> np.ndarray:
    """Correlation of pixels by their offset, up to :data:`REACH` beams, from noise planes without continuum.

    Parameters
    ----------
    planes
        Shape (n, y, x); NaN where there is no data.
    """
    ny, nx = planes.shape[1:]
    reach = max(1, min(int(np.ceil(REACH * beam)), (min(ny, nx) - 1) // 2))
    known = np.isfinite(planes) & (planes != 0)
    sigma = np.array(
        [float(medians(np.abs(p[k]))) / NORMAL_MAD if k.any() else 0.0 for p, k in zip(planes, known, strict=True)]
    )
    good = sigma > 0
    if not good.any():
        return np.ones((1, 1))
    scaled = np.where(known, planes, 0)[good] / sigma[good, None, None]
    loud = np.abs(scaled) > ON_SOURCE
    reached = ndimage.binary_dilation(loud, np.ones((1, 3, 3)), iterations=max(1, round(0.7 * beam)))
    quiet = known[good] & ~reached if loud.any() else known[good]
    scaled = np.where(quiet, scaled, 0)
    shape = tuple(next_fast_len(n + reach, real=True) for n in (ny, nx))
    lag = np.arange(-reach, reach + 1)

    def pairs(values: np.ndarray) -> np.ndarray:
        total = (np.abs(rfft2(values.astype(np.float32), s=shape)) ** 2).sum(axis=0)
        return irfft2(total, s=shape)[np.ix_(lag, lag)]

    count = pairs(quiet)
    correlation = np.where(count > LEAST_PAIRS * count[reach, reach], pairs(scaled) / np.maximum(count, 1), 0)
    distance = np.hypot(*np.meshgrid(lag, lag, indexing="ij"))
    taper = np.clip((reach + 1 - distance) / max(TAPER * reach, 1), 0, 1)
    return correlation / max(correlation[reach, reach], 1e-30) * taper
