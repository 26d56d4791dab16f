"""What the cube says about each place of the sky, in units of its noise: the images that Source Finder looks at.

The paper stacks all channels and stretches the image to [0, 1].  Here a place is judged by
what stands out of the noise: in the stack, and in the channels of a line, whichever fits
best.  All is linear in the cube up to the last step, so that the noise of every image is known:

* the cube is averaged over square blocks of pixels, to some four of them a beam;
* it is divided by its noise, channel by channel and place by place, which is told from the
  differences of channels, in which continuum, sidelobes and all else that is steady cancels;
* the stack is the mean over the channels weighted for a flat spectrum;
* the line maps are the highest response to a bank of Gaussian lines of several widths, the
  matched filter that MF3D and LineSeeker (Gonzalez-Lopez et al. 2019) look for lines with.

Arrays are torch tensors, so that the work is done where the networks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

if TYPE_CHECKING:
    import torch

PIXELS_PER_BEAM = 4.0  # after averaging; 3 to 6 come of it, and a beam is well sampled by 2.5
NORMAL_MAD = 0.6745  # median absolute value of a normal distribution of standard deviation 1
# channels, FWHM of the lines looked for
WIDTHS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 32.0, 50.0, 80.0, 125.0, 200.0)
WIDEST = 0.25  # of the band: wider ones are not told from the continuum
MAPS = (
    "stack",
    "stack, sidelobes included",
    "line",
    "line's channel",
    "line's width",
    "negative line",
    "valid",
    "beam",
)


@dataclass(frozen=True)
class NoiseUnits:
    """A window of a cube in units of its noise.

    ``cube`` has shape (channels, ny, nx) and noise of variance 1, 0 where there is no data.
    ``valid`` (ny, nx) is True where there is.  ``rms`` (channels,) times ``rms_map``
    (ny, nx) is the noise in the cube's unit that it was divided by; channels without data
    have been left out, ``channels`` holds the numbers of the others.
    """

    cube: torch.Tensor
    valid: torch.Tensor
    rms: torch.Tensor
    rms_map: torch.Tensor
    channels: torch.Tensor

    def differences(self) -> torch.Tensor:
        """Differences of channels, where only noise is left but for lines; variance 2."""
        return differences(self.cube)


def binning(beam_fwhm: float) -> int:
    """How many pixels are averaged, on a side, for a beam of so many pixels FWHM (its geometric mean)."""
    return max(1, round(beam_fwhm / PIXELS_PER_BEAM))


def average(planes: np.ndarray, k: int) -> np.ndarray:
    """Average planes (..., y, x) over blocks of k x k pixels; blocks at the far edges may be cut off short.

    Returns
    -------
    numpy.ndarray
        Float32, shape (..., ceil(y / k), ceil(x / k)); NaN where less than half of a block has data.
    """
    if k == 1:
        return planes.astype(np.float32)
    *rest, ny, nx = planes.shape
    padding = [(0, 0)] * len(rest) + [(0, -ny % k), (0, -nx % k)]
    planes = np.pad(planes, padding, constant_values=np.nan)
    blocks = planes.reshape(*rest, planes.shape[-2] // k, k, planes.shape[-1] // k, k)
    known = np.isfinite(blocks)
    if known.all():
        return blocks.mean(axis=(-3, -1), dtype=np.float32)
    count = known.sum(axis=(-3, -1))
    total = np.where(known, blocks, 0).sum(axis=(-3, -1), dtype=np.float32)
    return np.where(2 * count >= k * k, total / np.maximum(count, 1), np.nan).astype(np.float32)


def differences(cube: torch.Tensor) -> torch.Tensor:
    """Differences of channels three apart, since neighbours may share their noise; of fewer, in short cubes."""
    lag = min(3, len(cube) // 4) or 1
    return cube[lag:] - cube[:-lag]


def in_noise_units(planes: torch.Tensor, beam: float, profile: torch.Tensor | None = None) -> NoiseUnits:
    """Divide a cube by its noise.

    The noise is taken for the product of a level for each channel and a smooth map, as a
    primary-beam correction leaves it.  Both are medians of absolute differences of channels.

    Parameters
    ----------
    planes
        Shape (channels, ny, nx); NaN where there is no data.
    beam
        FWHM in pixels.
    profile
        How the noise is known to vary across the field, shape (ny, nx), where it is steeper than a map can tell
        that is smooth over three beams: one over the primary beam.

    Raises
    ------
    ValueError
        If there are fewer than two channels with data, or the data has no noise at all.
    """
    import torch

    profile = torch.ones_like(planes[0]) if profile is None else profile
    planes = planes / profile
    known = torch.isfinite(planes) & (planes != 0)  # exact zeros are no data: an image cut at its primary beam
    filled = known.flatten(1).any(dim=1)
    channels = torch.nonzero(filled)[:, 0]
    if len(channels) < 2:
        raise ValueError(f"the cube has data in {len(channels)} channels, and noise is told from two at least")
    planes, known = planes[channels], known[channels]
    valid = known.float().mean(dim=0) > 0.5
    planes = torch.where(known, planes, 0)
    steps = differences(planes)
    both = differences(known.float()) == 0
    steps = torch.where(both & valid, steps, torch.nan)
    some = steps[:: max(1, len(steps) // 60)].abs().flatten(1).T.contiguous()  # enough for a median, smoothed below
    rms_map = torch.nanmedian(some, dim=1).values.reshape(valid.shape) / (NORMAL_MAD * 2**0.5)
    rms_map = smooth_noise(torch.nan_to_num(rms_map), valid & (rms_map > 0), 3 * beam)
    if not (rms_map > 0).any():
        raise ValueError("neighbouring channels do not differ anywhere, so that the noise cannot be told")
    rms = torch.nanmedian((steps / rms_map).flatten(1)[:, :: max(1, planes[0].numel() // 8192)].abs(), dim=1).values
    rms = per_channel(rms / (NORMAL_MAD * 2**0.5), len(planes))
    cube = torch.where(valid, planes / (rms[:, None, None] * rms_map), 0)
    return NoiseUnits(cube, valid, rms, rms_map * torch.where(valid, profile, 0), channels)


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
    """Noise of each channel from that of the differences: the variance of a channel is the mean of its steps'."""
    import torch

    lag = n_channels - len(of_steps)
    total, count = torch.zeros(2, n_channels, device=of_steps.device)
    variance = torch.nan_to_num(of_steps) ** 2
    for shift in (0, lag):
        total[shift : shift + len(variance)] += variance
        count[shift : shift + len(variance)] += 1
    return (total / count.clamp(min=1)).clamp(min=1e-12 * float(variance.max()) + 1e-30).sqrt()


def templates(
    n_channels: int, rms: torch.Tensor, widths: tuple[float, ...] = WIDTHS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The bank of lines: Gaussians of all widths and centres, free of any constant or slope, of unit noise.

    Parameters
    ----------
    n_channels
        Of the cube.
    rms
        Noise of each channel, shape (n_channels,); in noise units a line is fainter where it is noisier.

    Returns
    -------
    bank, centre, width
        Shapes (lines, n_channels), (lines,), (lines,).  ``bank @ spectrum`` is the SNR of each
        line in a spectrum in noise units, after its baseline has been fitted with it.
    """
    import torch

    channel = torch.arange(n_channels, dtype=torch.float32, device=rms.device)
    level = (rms.median() / rms).clamp(max=4)
    baseline = torch.stack([level, level * (channel - channel.mean()) / n_channels], dim=1)
    if n_channels < 4:
        baseline = baseline[:, :0]
    baseline = torch.linalg.qr(baseline).Q
    lines, centres, fwhms = [], [], []
    for width in widths:
        if width > max(1, WIDEST * n_channels):
            break
        step = max(1, int(width / 3))
        centre = channel[step // 2 :: step]
        sigma = max(width * gaussian_fwhm_to_sigma, 0.3)
        line = torch.exp(-0.5 * ((channel - centre[:, None]) / sigma) ** 2) * level
        line = line - (line @ baseline) @ baseline.T
        norm = line.norm(dim=1, keepdim=True)
        lines.append(line / norm.clamp(min=1e-6))
        centres.append(centre)
        fwhms.append(torch.full_like(centre, width))
    return torch.cat(lines), torch.cat(centres), torch.cat(fwhms)


@dataclass(frozen=True)
class LineMaps:
    """Best line at each place: its ``snr``, ``channel`` and ``width`` (channels), and the strongest ``negative``."""

    snr: torch.Tensor
    channel: torch.Tensor
    width: torch.Tensor
    negative: torch.Tensor
    correlation: float  # how much noisier the widest lines are than independent channels would make them


def line_maps(units: NoiseUnits, widths: tuple[float, ...] = WIDTHS) -> LineMaps:
    """Response of every place to the bank of lines, reduced to the highest and the lowest.

    Each width's responses are divided by their own robust spread where that is over 1: neighbouring
    channels often share some of their noise, and wide lines then have more of it.
    """
    import torch

    bank, centre, width = templates(len(units.cube), units.rms, widths)
    flat = units.cube.flatten(1)
    faint = units.valid & (stack_snr(units).abs() < 4)
    inside = torch.nonzero((faint if faint.any() else units.valid).flatten())[:, 0]
    sample = bank @ flat[:, inside[:: max(1, len(inside) // 2048)]]
    spread = torch.ones_like(width)
    for w in width.unique():
        rows = width == w
        spread[rows] = (sample[rows].flatten().abs().median() / NORMAL_MAD).clamp(min=1)
    bank = bank / spread[:, None]
    shape = units.cube.shape[1:]
    snr, where, negative = [], [], []
    for block in flat.T.contiguous().split(512):  # small enough for the responses to stay in the processor's cache
        response = block @ bank.T
        best = response.max(dim=1)
        snr.append(best.values)
        where.append(best.indices)
        negative.append(response.amin(dim=1))
    snr, where, negative = torch.cat(snr), torch.cat(where), torch.cat(negative)
    valid = units.valid
    return LineMaps(
        torch.where(valid, snr.reshape(shape), 0),
        centre[where].reshape(shape),
        width[where].reshape(shape),
        torch.where(valid, negative.reshape(shape), 0),
        float(spread[-1]),
    )


def stack_snr(units: NoiseUnits, correlation: float = 1.0) -> torch.Tensor:
    """SNR of a flat spectrum at each place, shape (ny, nx)."""
    weight = 1 / units.rms
    return (units.cube * weight[:, None, None]).sum(dim=0) / (weight.norm() * correlation)


def maps(units: NoiseUnits, raw: NoiseUnits, beam: float) -> tuple[torch.Tensor, float]:
    """The images of :data:`MAPS` that Source Finder looks at, (8, ny, nx), and the :class:`LineMaps`' ``correlation``.

    Parameters
    ----------
    units
        The cube without sidelobes.
    raw
        The cube as it was.
    beam
        FWHM in pixels of the two.
    """
    import torch

    lines = line_maps(units)
    valid = units.valid.float()
    said = lines.snr > 3  # a place without any line has one of random channel and width
    images = torch.stack(
        [
            compress(stack_snr(units, lines.correlation)),
            compress(stack_snr(raw, lines.correlation)),
            compress(lines.snr),
            torch.where(said, lines.channel / len(units.cube), 0),
            torch.where(said, torch.log2(lines.width) / 4, 0),
            compress(lines.negative),
            valid,
            torch.full_like(valid, beam / 4 - 1),
        ]
    )
    return images, lines.correlation


def compress(snr: torch.Tensor) -> torch.Tensor:
    """Linear in the noise, logarithmic in bright sources."""
    import torch

    return torch.asinh(snr / 2)
