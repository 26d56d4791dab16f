"""Noise normalisation: the cube averaged to about four pixels per beam and divided by its noise.

The noise of each channel and position is estimated from differences between channels, in which continuum, sidelobes and
everything else that is constant cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.planes import in_blocks
from napari_almadet.threads import spread

if TYPE_CHECKING:
    import torch

Values = TypeVar("Values", np.ndarray, "torch.Tensor")

PIXELS_PER_BEAM = 4.0  # target after averaging, which gives 3 to 6; as in the training data
PIXELS = 4096  # whose differences are sorted at a time; chosen for speed
PLANES_AT_ONCE = 8  # so that what is made of them is in memory that is used again; chosen for speed and memory
# Per beam; with fewer, each pixel is interpolated to 2 x 2; derived: Nyquist sampling of a Gaussian
FEWEST_PIXELS = 2.5


@dataclass(frozen=True)
class NoiseUnits:
    """A window of a cube in units of its noise.

    ``cube`` has shape (channels, ny, nx) and noise of variance 1; it is 0 where there is no data.
    ``valid`` (ny, nx) is True where there is data.  It was divided by the noise ``rms`` (channels,) times ``rms_map``
    (ny, nx), in the cube's unit.  Channels without data are omitted; ``channels`` has the numbers of the others, of
    the ``n_channels`` of the cube (default: all have data).
    """

    cube: torch.Tensor
    valid: torch.Tensor
    rms: torch.Tensor
    rms_map: torch.Tensor
    channels: torch.Tensor
    n_channels: int | None = None

    def in_all_channels(self, spectra: np.ndarray) -> np.ndarray:
        """Spectra (n, channels) over all channels of the cube, float32: 0 in those without data."""
        whole = np.zeros((len(spectra), self.n_channels or len(self.channels)), np.float32)
        whole[:, self.channels.cpu().numpy()] = spectra
        return whole

    def differences(self) -> torch.Tensor:
        """Differences between channels, which contain only noise and lines; the noise has variance 2."""
        return differences(self.cube)


def binning(beam_fwhm: float) -> int | float:
    """Side of the blocks of pixels to average, for a given FWHM of the beam in pixels (geometric mean).

    It is 0.5 for a beam of fewer than :data:`FEWEST_PIXELS`: each pixel is interpolated to 2 x 2.
    """
    return 0.5 if beam_fwhm < FEWEST_PIXELS else max(1, round(beam_fwhm / PIXELS_PER_BEAM))


def resample(planes: np.ndarray, k: int | float) -> np.ndarray:
    """Resample planes (..., y, x) to pixels ``k`` times as wide, see :func:`binning`: float32."""
    return interpolate(planes) if k < 1 else average(planes, int(k))


def interpolate(planes: np.ndarray) -> np.ndarray:
    """Interpolate every pixel of planes (..., y, x) to 2 x 2, by cubic splines; NaN where the pixel has no data.

    The new pixels are a quarter of a pixel from the centre of the old one, one in each direction, so that all have the
    same noise.
    """
    known = np.isfinite(planes)
    flat = np.where(known, planes, 0).astype(np.float32).reshape(-1, *planes.shape[-2:])
    finer = np.stack([ndimage.zoom(plane, 2, order=3, mode="reflect", grid_mode=True) for plane in flat])
    finer = finer.reshape(*planes.shape[:-2], *finer.shape[-2:])
    finer[~known.repeat(2, axis=-2).repeat(2, axis=-1)] = np.nan
    return finer


def average(planes: np.ndarray, k: int) -> np.ndarray:
    """Average planes (..., y, x) over blocks of k x k pixels; blocks at the far edges may be incomplete.

    Returns
    -------
    numpy.ndarray
        Float32, shape (..., ceil(y / k), ceil(x / k)); NaN where less than half of a block has data.  With k = 1 it
        may be the planes themselves.
    """
    if k == 1:
        return planes.astype(np.float32, copy=False)
    *rest, ny, nx = planes.shape
    padding = [(0, 0)] * len(rest) + [(0, -ny % k), (0, -nx % k)]
    if ny % k or nx % k:
        planes = np.pad(planes, padding, constant_values=np.nan)
    total = block_sums(planes, k)
    if np.isfinite(total.sum(dtype=float)):
        return (total * np.float32(1 / k**2)).astype(np.float32, copy=False)
    known = np.isfinite(planes)
    count = block_sums(known.astype(np.float32), k)
    total = block_sums(np.where(known, planes, 0), k)
    return np.where(2 * count >= k * k, total / np.maximum(count, 1), np.nan).astype(np.float32)


def block_sums(planes: np.ndarray, k: int) -> np.ndarray:
    """Sums of planes (..., y, x) over blocks of k x k pixels; k passes along each axis are fastest."""
    for axis in (-2, -1):
        first, *others = (planes[..., i::k, :] if axis == -2 else planes[..., i::k] for i in range(k))
        planes = first.copy()
        for other in others:
            planes += other
    return planes


def lag_of(n_channels: int) -> int:
    """Distance of the channels whose differences give the noise; neighbours may be correlated. Less in short cubes."""
    return min(3, n_channels // 4) or 1


def differences(cube: Values) -> Values:
    """Differences of channels :func:`lag_of` apart."""
    lag = lag_of(len(cube))
    return cube[lag:] - cube[:-lag]


def in_noise_units(planes: torch.Tensor, beam: float, profile: torch.Tensor | None = None) -> NoiseUnits:
    """Divide a cube by its noise.

    The noise is modelled as the product of a level for each channel and a smooth map, as after a primary-beam
    correction.  Both are medians of absolute differences between channels.

    Parameters
    ----------
    planes
        Shape (channels, ny, nx); NaN where there is no data.
    beam
        FWHM in pixels.
    profile
        Known variation of the noise across the field, shape (ny, nx), if it is too steep for a map that is smooth over
        three beams: the inverse of the primary beam.

    Raises
    ------
    ValueError
        If fewer than two channels have data, or the data have no noise at all.
    """
    import torch

    if profile is not None:
        planes = planes / profile
    n_channels = len(planes)
    known = voxels_with_data(planes)
    filled = known.flatten(1).any(dim=1)
    channels = torch.nonzero(filled)[:, 0]
    if len(channels) < 2:
        raise ValueError(
            f"the cube has data in {len(channels)} channel(s), and estimating the noise needs at least two"
        )
    if len(channels) < len(planes):
        planes, known = planes[channels], known[channels]
    valid = channels_with_data(known) * 2 > len(known)
    cube = torch.where(known, planes, 0)
    del planes  # windows are as large as memory allows
    lag = lag_of(len(cube))
    some = torch.arange(0, len(cube) - lag, max(1, (len(cube) - lag) // 60), device=cube.device)

    def steps(earlier: torch.Tensor | slice, later: torch.Tensor | slice, pixels: slice) -> torch.Tensor:
        """Absolute differences between channels in a sample of pixels, (steps, pixels); NaN where one has no data."""
        values, there = cube.flatten(1)[:, pixels], known.flatten(1)[:, pixels]
        unlike = (there[later] != there[earlier]).logical_or_(~valid.flatten()[pixels])
        return (values[later] - values[earlier]).abs_().masked_fill_(unlike, torch.nan)

    rms_map = torch.empty(valid.numel(), device=cube.device)  # of a few channels: enough for a median, smoothed below

    def fill(pixels: slice) -> None:
        rms_map[pixels] = lower_medians(steps(some, some + lag, pixels).T)

    spread(fill, [slice(i, i + PIXELS) for i in range(0, len(rms_map), PIXELS)])
    rms_map = rms_map.reshape(valid.shape) / (NORMAL_MAD * 2**0.5)
    rms_map = smooth_noise(torch.nan_to_num(rms_map), valid & (rms_map > 0), 3 * beam)
    if not (rms_map > 0).any():
        raise ValueError("neighbouring channels are identical everywhere, so the noise cannot be estimated")
    thin = slice(None, None, max(1, valid.numel() // 8192))
    rms = lower_medians(steps(slice(-lag), slice(lag, None), thin) / rms_map.flatten()[thin])
    rms = per_channel(rms / (NORMAL_MAD * 2**0.5), len(cube))

    def divide(channels: slice) -> None:
        for plane, sigma in zip(cube[channels], rms[channels], strict=True):
            plane.copy_(torch.where(valid, plane / (sigma * rms_map), 0))

    spread(divide, in_blocks(len(cube), PLANES_AT_ONCE))
    if profile is not None:
        rms_map = rms_map * torch.where(valid, profile, 0)
    return NoiseUnits(cube, valid, rms, rms_map, channels, n_channels)


def voxels_with_data(planes: torch.Tensor) -> torch.Tensor:
    """Whether each voxel of planes (channels, ny, nx) has data."""
    import torch

    known = torch.empty(planes.shape, dtype=torch.bool, device=planes.device)

    def look(channels: slice) -> None:  # exact zeros are no data: an image cut at its primary beam
        known[channels] = torch.isfinite(planes[channels]) & (planes[channels] != 0)

    spread(look, in_blocks(len(planes), PLANES_AT_ONCE))
    return known


def channels_with_data(known: torch.Tensor) -> torch.Tensor:
    """In how many channels each pixel of a mask (channels, ny, nx) is true: (ny, nx).

    One plane after the other, because torch's own sum first makes an integer of each voxel.
    """
    import torch

    count = torch.zeros(known.shape[1:], dtype=torch.int32, device=known.device)
    for plane in known:
        count += plane
    return count


def lower_medians(rows: torch.Tensor) -> torch.Tensor:
    """As torch.nanmedian(rows, dim=1).values, (n,); on the processor by numpy's sorting, a tenth of the time."""
    import torch

    if rows.device.type != "cpu":
        return torch.nanmedian(rows.contiguous(), dim=1).values
    values = np.sort(np.ascontiguousarray(rows.numpy()), axis=1)  # NaN comes last
    if not np.isnan(values[:, -1]).any():
        return torch.from_numpy(values[:, (values.shape[1] - 1) // 2].copy())
    n = values.shape[1] - np.isnan(values).sum(axis=1)
    return torch.from_numpy(values[np.arange(len(values)), np.maximum(n - 1, 0) // 2])


def smooth_noise(image: torch.Tensor, known: torch.Tensor, scale: float) -> torch.Tensor:
    """Mean of the squares of an image's known pixels, weighted with a Gaussian of FWHM ``scale``; its square root."""
    import torch

    sigma = scale * gaussian_fwhm_to_sigma
    reach = torch.arange(-int(3 * sigma) - 1, int(3 * sigma) + 2, device=image.device)
    kernel = torch.exp(-0.5 * (reach / sigma) ** 2)

    def blur(values: torch.Tensor) -> torch.Tensor:
        values = torch.nn.functional.conv2d(values[None, None], kernel[None, None, :, None], padding="same")
        return torch.nn.functional.conv2d(values, kernel[None, None, None, :], padding="same")[0, 0]

    weight = blur(known.float())
    return torch.where(weight > 1e-3, blur(torch.where(known, image**2, 0)) / weight.clamp(min=1e-9), 0).sqrt()


def per_channel(of_steps: torch.Tensor, n_channels: int) -> torch.Tensor:
    """Noise of each channel from that of the differences: its variance is the mean of those of its differences."""
    import torch

    lag = n_channels - len(of_steps)
    total, count = torch.zeros(2, n_channels, device=of_steps.device)
    variance = torch.nan_to_num(of_steps) ** 2
    for shift in (0, lag):
        total[shift : shift + len(variance)] += variance
        count[shift : shift + len(variance)] += 1
    return (total / count.clamp(min=1)).clamp(min=1e-12 * float(variance.max()) + 1e-30).sqrt()
