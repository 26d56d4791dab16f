"""A 3-D matched filter for lines, close to MF3D (Pavesi et al. 2018) and LineSeeker (González-López et al. 2019).

The continuum is subtracted, every spectrum is correlated with Gaussians of several widths, and
for each pixel the highest signal-to-noise ratio over channels and widths is kept.
No spatial filter is needed, because a dirty image already has the shape of the beam.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from astropy.stats import gaussian_fwhm_to_sigma, mad_std
from scipy import ndimage

from napari_almadet.constants import NORMAL_MAD

LINE_WIDTHS = (2.5, 3.5, 5.0, 7.0, 10.0, 14.0)  # FWHM in channels; the loss of S/N for widths in between is 1 %
NOISE_CHANNELS = 42  # minimum number of samples, with neighbouring pixels, for the noise of a pixel
CALM = 3.0  # sigma, below which a channel counts as line-free


def subtract_continuum(planes: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the continuum of each pixel, in place, and measure the noise of a channel.

    The continuum is the mean of the channels; in a second iteration, of those within 3 sigma.

    Parameters
    ----------
    planes
        Float32, shape (channel, y, x); NaN where there is no data, which becomes 0.
    reach
        Side in pixels of the square over which the noise is averaged.

    Returns
    -------
    planes
        The same array.
    noise
        Standard deviation in a channel, shape (y, x); NaN where no channel has data.
    """
    known = np.isfinite(planes)
    count = known.sum(axis=0)
    cube = torch.from_numpy(planes)
    valid = None if known.all() else torch.from_numpy(known)
    if valid is not None:
        cube[~valid] = 0
    covered = torch.from_numpy(np.maximum(count, 1))
    cube -= cube.sum(dim=0) / covered
    if valid is not None:
        cube[~valid] = 0
    some = cube[:: max(1, len(planes) // NOISE_CHANNELS)]
    some = some[: len(some) - (len(some) + 1) % 2]  # torch's median of an even number of values is too low
    spread = some.abs().median(dim=0).values.numpy() / NORMAL_MAD
    noise = _smooth(np.where(count > 0, spread, np.nan), reach)
    calm = cube.abs() < torch.from_numpy(np.nan_to_num(CALM * noise).astype(np.float32))
    if valid is not None:
        calm &= valid
    cube -= (cube * calm).sum(dim=0) / calm.sum(dim=0).clamp(min=1)
    if valid is not None:
        cube[~valid] = 0
    return planes, noise


def _smooth(image: np.ndarray, side: float) -> np.ndarray:
    """Mean over squares, ignoring NaN; NaN stays NaN."""
    known = np.isfinite(image)
    side = max(3, round(side))
    total = ndimage.uniform_filter(np.where(known, image, 0.0), side)
    share = ndimage.uniform_filter(known.astype(float), side)
    return np.where(known, total / np.maximum(share, 1e-9), np.nan)


@dataclass(frozen=True)
class Lines:
    """The best line of each pixel: ``snr``, ``channel`` and index ``width`` of :data:`LINE_WIDTHS`, each (y, x)."""

    snr: np.ndarray
    channel: np.ndarray
    width: np.ndarray
    n_channels: int

    def line(self, y: int, x: int) -> tuple[float, float]:
        """Centre and FWHM in channels."""
        return float(self.channel[y, x]), LINE_WIDTHS[int(self.width[y, x])]

    def range(self, y: int, x: int) -> tuple[int, int]:
        """Half-open range of the line, its centre -+ FWHM, clipped to the band."""
        z, fwhm = self.line(y, x)
        return max(0, round(z - fwhm)), min(self.n_channels, round(z + fwhm) + 1)


def gaussian_profile(n_channels: int, centre: float | np.ndarray, fwhm: float) -> np.ndarray:
    """Gaussian weights over channels, (n_channels,) or (n, n_channels), for which unit noise stays unit noise."""
    offset = np.arange(n_channels) - np.asarray(centre)[..., None]
    profile = np.exp(-0.5 * (offset / (fwhm * gaussian_fwhm_to_sigma)) ** 2)
    return (profile / np.sqrt((profile**2).sum(axis=-1, keepdims=True))).astype(np.float32)


def find_lines(planes: np.ndarray, noise: np.ndarray) -> Lines:
    """Highest matched-filter signal-to-noise ratio of each pixel over channels and line widths.

    Parameters
    ----------
    planes
        Without continuum and without NaN, shape (channel, y, x).
    noise
        Of a channel, shape (y, x); NaN where there is no data; then the SNR is NaN, too.
    """
    n_channels, *shape = planes.shape
    spectra = torch.from_numpy(planes).flatten(1)
    stride = max(1, spectra.shape[1] // 4096)
    sample, sample_noise = spectra[:, ::stride], noise.ravel()[::stride]
    best = torch.full((spectra.shape[1],), -torch.inf)
    channel, width = (torch.zeros(spectra.shape[1], dtype=torch.long) for _ in range(2))
    for k, fwhm in enumerate(LINE_WIDTHS):
        filters = torch.from_numpy(gaussian_profile(n_channels, np.arange(n_channels), fwhm))
        # neighbouring channels of real cubes are correlated, so filtered noise is measured, as MF3D does
        filters /= float(mad_std((filters @ sample).numpy() / sample_noise, ignore_nan=True)) or 1.0
        for first in range(0, spectra.shape[1], 2**14):  # a block of pixels stays in the processor's cache
            block = slice(first, first + 2**14)
            peak, z = (filters @ spectra[:, block]).max(dim=0)
            higher = peak > best[block]
            best[block] = torch.where(higher, peak, best[block])
            channel[block] = torch.where(higher, z, channel[block])
            width[block] = torch.where(higher, k, width[block])
    snr = best.numpy().reshape(shape) / noise
    return Lines(snr, channel.numpy().reshape(shape), width.numpy().reshape(shape), n_channels)
