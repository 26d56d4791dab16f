"""Products of a whole field: moments of all sources' masks, the mask, and the noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.stacking import channel_blocks
from napari_almadet.products.product_headers import cube_header, image_header
from napari_almadet.products.source_products import mask_of

if TYPE_CHECKING:
    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.cube.cube import Cube

PAIRS = 24  # pairs of channels, from whose differences the noise of each pixel is estimated
APART = 3  # channels between the two of a pair: the noise of neighbours is correlated
SMOOTHING = 2.0  # beams over which the noise is averaged: the pairs of one pixel give it to 15 %
PIXELS_PER_BEAM = 4.0  # if the beam is unknown


def noise_map(cube: Cube) -> np.ndarray:
    """Noise of one channel at each pixel, (ny, nx), float32, in the cube's unit; NaN where there is no data.

    Estimated from differences of channels that are a few channels apart: the median of the absolute differences of
    pairs over the whole band, so that sources in a few pairs hardly matter, smoothed with a Gaussian of two beams.
    """
    n_channels = cube.shape[0]
    lag = min(APART, n_channels - 1)
    good = np.arange(n_channels - lag)
    if cube.flagged is not None:
        good = good[~(cube.flagged[:-lag] | cube.flagged[lag:])]
    chosen = good[np.unique(np.linspace(0, len(good) - 1, PAIRS).round().astype(int))] if len(good) else good
    if not len(chosen):
        return np.full(cube.shape[1:], np.nan, np.float32)
    sigma = np.empty(cube.shape[1:], np.float32)
    for rows in _rows(cube.shape[1:], 2 * len(chosen)):
        steps = np.abs(np.stack([cube.read(k + lag, rows) - cube.read(k, rows) for k in chosen]))
        known = np.isfinite(steps).any(axis=0)
        middle = np.full(known.shape, np.nan)
        middle[known] = np.nanmedian(steps[:, known], axis=0)
        sigma[rows] = middle / (NORMAL_MAD * np.sqrt(2))
    return _smoothed(sigma, SMOOTHING * (cube.beam_fwhm or PIXELS_PER_BEAM) * gaussian_fwhm_to_sigma)


def _rows(field: tuple[int, int], planes: int) -> Iterator[slice]:
    """Strips of rows, such that several planes of a strip fit into one block in memory."""
    ny, nx = field
    return channel_blocks(ny, nx * planes)


def _smoothed(image: np.ndarray, sigma: float) -> np.ndarray:
    """An image smoothed with a Gaussian that ignores pixels without data."""
    known = np.isfinite(image)
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma, mode="constant")
    blurred = ndimage.gaussian_filter(np.where(known, image, 0).astype(np.float32), sigma, mode="constant")
    return np.where(known, blurred / np.maximum(weight, 1e-6), np.nan).astype(np.float32)


def write_noise(detections: Detections, path: Path) -> None:
    """Write the noise map and, if it was measured, the noise of each channel as a table."""
    cube, noise = detections.cube, detections.noise
    unit = u.dimensionless_unscaled if cube.unit is None else cube.unit
    header = image_header(cube, (0, 0), cube.name, unit, "Noise")
    header["COMMENT"] = "Standard deviation of the noise of one channel at each pixel."
    hdus: list[fits.hdu.base.ExtensionHDU] = [fits.PrimaryHDU(noise_map(cube), header)]
    if noise is not None:
        from astropy.table import QTable

        table = QTable({"channel": np.arange(len(noise.rms)), "rms": noise.rms * unit})
        hdus.append(fits.table_to_hdu(table, name="CHANNELS"))
    fits.HDUList(hdus).writeto(path)


def write_mask(detections: Detections, candidates: Sequence[Candidate], path: Path) -> None:
    """Write a cube in which the voxels of a source have its ``id``, all others 0; a few channels at a time."""
    cube = detections.cube
    masks = [(c.id, mask) for c in candidates if (mask := mask_of(detections, c)) is not None]
    kind = np.int16 if max((number for number, _ in masks), default=0) < 2**15 else np.int32
    header = cube_header(cube, (0, 0, 0), cube.name, u.dimensionless_unscaled)
    header["BTYPE"] = "Source mask"
    header.remove("CASAMBM", ignore_missing=True)
    whole = fits.PrimaryHDU(header=header).header
    whole["BITPIX"], whole["NAXIS"] = np.dtype(kind).itemsize * 8, 3
    for number, length in enumerate(cube.shape[::-1], 1):
        whole.insert("NAXIS" if number == 1 else f"NAXIS{number - 1}", (f"NAXIS{number}", length), after=True)
    stream = fits.StreamingHDU(path, whole)
    try:
        for block in channel_blocks(cube.shape[0], cube.shape[1] * cube.shape[2]):
            stream.write(_labels(masks, block, cube.shape[1:], kind))
    finally:
        stream.close()


def _labels(masks: list, block: slice, field: tuple[int, int], kind: type) -> np.ndarray:
    planes = np.zeros((block.stop - block.start, *field), kind)
    for number, mask in masks:
        z, y, x = mask.slices
        first, last = max(z.start, block.start), min(z.stop, block.stop)
        if first < last:
            part = planes[first - block.start : last - block.start, y, x]
            part[mask.voxels[first - z.start : last - z.start]] = number
    return planes
