"""A 3-D matched filter for lines, close to MF3D (Pavesi et al. 2018) and LineSeeker (González-López et al. 2019).

The continuum is subtracted, every spectrum is correlated with Gaussians of several widths, and
for each pixel the highest signal-to-noise ratio over channels and widths is kept.
No spatial filter is needed, because a dirty image already has the shape of the beam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from astropy.stats import gaussian_fwhm_to_sigma, mad_std
from scipy import ndimage

from napari_almadet.constants import NORMAL_MAD

LINE_WIDTHS = (2.5, 3.5, 5.0, 7.0, 10.0, 14.0)  # FWHM in channels; the loss of S/N for widths in between is 1 %
NOISE_CHANNELS = 42  # minimum number of samples, with neighbouring pixels, for the noise of a pixel
CALM = 3.0  # sigma, below which a channel counts as line-free
REACH = 2.6  # FWHM, beyond which a profile is less than 1e-8 of its peak: less than a sum in single precision resolves
# Sizes of what is computed at a time, the fastest of those that were tried:
ROWS, PIXELS = 32, 2**13  # channels, most without those out of reach, and pixels, whose results fill 1 MB
BAND = 8  # rows of the image


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
    some = planes[:: max(1, len(planes) // NOISE_CHANNELS)]
    some = some[: len(some) - (len(some) + 1) % 2]  # an odd number, of which one is the median
    spread = np.empty(count.shape, np.float32)
    for rows in _bands(len(spread)):
        by_pixel = np.ascontiguousarray(np.moveaxis(np.abs(some[:, rows]), 0, -1))
        spread[rows] = np.partition(by_pixel, len(some) // 2, axis=-1)[..., len(some) // 2]
    noise = _smooth(np.where(count > 0, spread / NORMAL_MAD, np.nan), reach)
    limit = torch.from_numpy(np.nan_to_num(CALM * noise).astype(np.float32))
    for rows in _bands(len(noise)):
        part = cube[:, rows]
        calm = part.abs() < limit[rows]
        if valid is not None:
            calm &= valid[:, rows]
        part -= (part * calm).sum(dim=0) / calm.sum(dim=0).clamp(min=1)
        if valid is not None:
            part[~valid[:, rows]] = 0
    return planes, noise


def _bands(n_rows: int) -> Iterator[slice]:
    """A few rows of an image at a time, whose copies stay in the processor's cache."""
    return (slice(first, first + BAND) for first in range(0, n_rows, BAND))


def _smooth(image: np.ndarray, side: float) -> np.ndarray:
    """Mean over squares, ignoring NaN; NaN stays NaN."""
    known = np.isfinite(image)
    side = max(3, round(side))
    total = ndimage.uniform_filter(np.where(known, image, 0.0), side)
    share = ndimage.uniform_filter(known.astype(float), side)
    return np.where(known, total / np.maximum(share, 1e-9), np.nan)


@dataclass(frozen=True)
class Lines:
    """The best line of each pixel: ``snr`` and index ``width`` of :data:`LINE_WIDTHS`, each (y, x).

    ``planes`` is the cube in which they were found, (channel, y, x), and ``sign`` is -1 if it was inverted; the channel
    of a line is computed for the pixels that are asked for, since few of them are.
    """

    snr: np.ndarray
    width: np.ndarray
    planes: np.ndarray
    sign: int

    def line(self, y: int, x: int) -> tuple[float, float]:
        """Centre and FWHM in channels."""
        fwhm = LINE_WIDTHS[int(self.width[y, x])]
        filtered = _filters(len(self.planes), fwhm) @ torch.from_numpy(self.sign * self.planes[:, y, x])
        return float(filtered.argmax()), fwhm

    def range(self, y: int, x: int) -> tuple[int, int]:
        """Half-open range of the line, its centre -+ FWHM, clipped to the band."""
        z, fwhm = self.line(y, x)
        return max(0, round(z - fwhm)), min(len(self.planes), round(z + fwhm) + 1)


def gaussian_profile(n_channels: int, centre: float | np.ndarray, fwhm: float) -> np.ndarray:
    """Gaussian weights over channels, (n_channels,) or (n, n_channels), for which unit noise stays unit noise."""
    offset = np.arange(n_channels) - np.asarray(centre)[..., None]
    profile = np.exp(-0.5 * (offset / (fwhm * gaussian_fwhm_to_sigma)) ** 2)
    return (profile / np.sqrt((profile**2).sum(axis=-1, keepdims=True))).astype(np.float32)


def _filters(n_channels: int, fwhm: float) -> torch.Tensor:
    """The profiles about each channel, (centre, channel)."""
    return torch.from_numpy(gaussian_profile(n_channels, np.arange(n_channels), fwhm))


def _filtered(spectra: torch.Tensor, filters: torch.Tensor, fwhm: float) -> Iterator[torch.Tensor]:
    """The product of filters and spectra (channel, pixel), some rows at a time, without the channels out of reach."""
    reach = int(np.ceil(fwhm * REACH))
    for first in range(0, len(filters), ROWS):
        channels = slice(max(0, first - reach), first + ROWS + reach)
        yield filters[first : first + ROWS, channels] @ spectra[channels]


def find_lines(planes: np.ndarray, noise: np.ndarray) -> tuple[Lines, Lines]:
    """Highest matched-filter signal-to-noise ratio of each pixel over channels and line widths.

    Parameters
    ----------
    planes
        Without continuum and without NaN, shape (channel, y, x).
    noise
        Of a channel, shape (y, x); NaN where there is no data; then the SNR is NaN, too.

    Returns
    -------
    tuple of Lines
        Those of the cube, and those of the inverted cube.
    """
    n_channels, *shape = planes.shape
    spectra = torch.from_numpy(planes).flatten(1)
    n_pixels = spectra.shape[1]
    stride = max(1, n_pixels // 4096)
    sample, sample_noise = spectra[:, ::stride].contiguous(), noise.ravel()[::stride]
    # of the lines and of those of the inverted cube
    best = torch.full((2, n_pixels), -torch.inf)
    width = torch.zeros((2, n_pixels), dtype=torch.uint8)
    scaled = []
    for fwhm in LINE_WIDTHS:
        filters = _filters(n_channels, fwhm)
        # neighbouring channels of real cubes are correlated, so filtered noise is measured, as MF3D does
        spread = mad_std(torch.cat(list(_filtered(sample, filters, fwhm))).numpy() / sample_noise, ignore_nan=True)
        scaled.append(filters / (float(spread) or 1.0))
    for first in range(0, n_pixels, PIXELS):
        block = slice(first, first + PIXELS)
        some = spectra[:, block].contiguous()
        for k, (fwhm, filters) in enumerate(zip(LINE_WIDTHS, scaled, strict=True)):
            peaks = torch.full((2, some.shape[1]), -torch.inf)
            for rows in _filtered(some, filters, fwhm):
                torch.maximum(peaks[0], rows.amax(dim=0), out=peaks[0])
                torch.maximum(peaks[1], -rows.amin(dim=0), out=peaks[1])
            width[:, block].masked_fill_(peaks > best[:, block], k)
            torch.maximum(best[:, block], peaks, out=best[:, block])
    snr = best.numpy().reshape(2, *shape) / noise
    widths = width.numpy().reshape(2, *shape)
    return Lines(snr[0], widths[0], planes, 1), Lines(snr[1], widths[1], planes, -1)
