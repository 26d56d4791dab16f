"""What the cube says about each place of the sky, in units of its noise: the images that Source Finder looks at.

The paper stacks all channels and stretches the image to [0, 1].  Here a place is judged by
what stands out of the noise: in the stack, and in the channels of a line, whichever fits
best.  All is linear in the cube up to the last step, so that the noise of every image is known:

* the cube is averaged over square blocks of pixels, to some four of them a beam;
* it is divided by its noise, channel by channel and place by place, which is told from the
  differences of channels, in which continuum, sidelobes and all else that is steady cancels;
* the stack is the mean over the channels weighted for a flat spectrum;
* the line maps are the highest response to a bank of Gaussian lines of several widths, the
  matched filter that MF3D and LineSeeker (Gonzalez-Lopez et al. 2019) look for lines with; long
  spectra are searched in overlapping bands, for wide lines with several channels averaged.

Arrays are torch tensors, so that the work is done where the networks are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.tiling import window_starts
from napari_almadet.threads import spread

if TYPE_CHECKING:
    import torch

    from napari_almadet.search.noise_units import NoiseUnits


# channels, FWHM of the lines looked for
WIDTHS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 32.0, 50.0, 80.0, 125.0)
WIDEST = 0.25  # of the band: wider ones are not told from the continuum
NARROW = 32.0  # channels; wider lines lose to the baseline of one of several bands, and wait for averaged channels
BAND = 512  # channels searched at once; of more, in overlapping bands, and for wider lines averaged by
REACH = 5.0  # standard deviations of a line, beyond which it is nothing: 4e-6 of its peak
LINES_AT_ONCE = 32  # lines that are looked for together
PIXELS_AT_ONCE = 1024  # whose responses are held at a time
AVERAGED = 4  # channels, and again by as many
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
class Band:
    """A part of spectra that is searched for lines at once: ``values`` (channels, ...), their ``rms``, the ``widths``.

    Its channel c is channel ``first + factor * c`` of the whole.
    """

    values: torch.Tensor
    rms: torch.Tensor
    widths: tuple[float, ...]
    first: float = 0.0
    factor: int = 1


def bands(values: torch.Tensor, rms: torch.Tensor, widths: tuple[float, ...] = WIDTHS) -> Iterator[Band]:
    """The bands that spectra in noise units are searched in: one for up to :data:`BAND` channels.

    Longer spectra are cut into bands of that many, a quarter of which overlaps with the next, for lines of up to
    :data:`NARROW` channels.  For wider lines :data:`AVERAGED` channels are made one, weighted for a flat
    spectrum, and so on, up to a quarter of the whole.

    Parameters
    ----------
    values
        Shape (channels, ...).
    rms
        Noise of each channel in the cube's unit, shape (channels,).
    widths
        Of the lines, in channels.
    """
    n_channels = len(values)
    if n_channels <= BAND:
        yield Band(values, rms, widths)
        return
    narrow = tuple(width for width in widths if width <= NARROW)
    for first in window_starts(n_channels, BAND, int(WIDEST * BAND)):
        part = slice(first, first + BAND)
        yield Band(values[part], rms[part], narrow, first)
    wider = tuple(width for width in widths if AVERAGED * width > narrow[-1])
    for band in bands(*averaged(values, rms), wider):
        yield Band(
            band.values, band.rms, band.widths, AVERAGED * band.first + (AVERAGED - 1) / 2, AVERAGED * band.factor
        )


def averaged(values: torch.Tensor, rms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra (channels, ...) in noise units with :data:`AVERAGED` channels made one, and the noise of these.

    A last, incomplete group is left out.
    """
    n = len(values) // AVERAGED
    weight = (1 / rms[: n * AVERAGED]).reshape(n, AVERAGED)
    norm = weight.norm(dim=1)
    made = values.new_zeros((n, *values.shape[1:]))
    for i in range(AVERAGED):
        share = (weight[:, i] / norm).reshape(-1, *(1 for _ in values.shape[1:]))
        made += values[i : n * AVERAGED : AVERAGED] * share
    return made, 1 / norm


@dataclass(frozen=True)
class Bank:
    """A bank of lines: ``lines`` (lines, channels) of unit noise, their ``centre`` and ``width`` (lines,).

    ``lines`` are ``shapes`` that are zero but near their centre, without what the ``baseline`` (channels, 0 or 2) has
    of them, so that ``lines @ x`` is ``shapes @ (x - baseline @ baseline.T @ x)``.
    """

    lines: torch.Tensor
    centre: torch.Tensor
    width: torch.Tensor
    shapes: torch.Tensor
    baseline: torch.Tensor

    def groups(self) -> list[tuple[slice, slice]]:
        """Some lines at a time, and the channels in which their shapes are more than nothing."""
        peak = self.shapes.amax(dim=1, keepdim=True)
        inside = (self.shapes > float(np.exp(-0.5 * REACH**2)) * peak).cpu().numpy()
        inside[~inside.any(axis=1)] = True  # of lines with no shape
        groups = []
        for first in range(0, len(inside), LINES_AT_ONCE):
            seen = np.flatnonzero(inside[first : first + LINES_AT_ONCE].any(axis=0))
            groups.append((slice(first, first + LINES_AT_ONCE), slice(int(seen[0]), int(seen[-1]) + 1)))
        return groups

    def flat(self, spectra: torch.Tensor) -> torch.Tensor:
        """Spectra (channels, n) without their baselines."""
        return spectra - self.baseline @ (self.baseline.T @ spectra)


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
    bank = bank_of(n_channels, rms, widths)
    return bank.lines, bank.centre, bank.width


def bank_of(n_channels: int, rms: torch.Tensor, widths: tuple[float, ...] = WIDTHS) -> Bank:
    """The lines of :func:`templates` with what they are made of."""
    import torch

    channel = torch.arange(n_channels, dtype=torch.float32, device=rms.device)
    level = (rms.median() / rms).clamp(max=4)
    baseline = torch.stack([level, level * (channel - channel.mean()) / n_channels], dim=1)
    if n_channels < 4:
        baseline = baseline[:, :0]
    baseline = torch.linalg.qr(baseline).Q
    lines, shapes, centres, fwhms = [], [], [], []
    for width in widths:
        if width > max(1, WIDEST * n_channels):
            break
        step = max(1, int(width / 3))
        centre = channel[step // 2 :: step]
        sigma = max(width * gaussian_fwhm_to_sigma, 0.3)
        shape = torch.exp(-0.5 * ((channel - centre[:, None]) / sigma) ** 2) * level
        line = shape - (shape @ baseline) @ baseline.T
        norm = line.norm(dim=1, keepdim=True).clamp(min=1e-6)
        lines.append(line / norm)
        shapes.append(shape / norm)
        centres.append(centre)
        fwhms.append(torch.full_like(centre, width))
    return Bank(torch.cat(lines), torch.cat(centres), torch.cat(fwhms), torch.cat(shapes), baseline)


@dataclass(frozen=True)
class LineMaps:
    """Best line at each place: its ``snr``, ``channel`` and ``width`` (channels), and the strongest ``negative``."""

    snr: torch.Tensor
    channel: torch.Tensor
    width: torch.Tensor
    negative: torch.Tensor
    correlation: float  # how much noisier the widest lines are than independent channels would make them


def highest_snr(units: NoiseUnits, widths: tuple[float, ...] = WIDTHS) -> torch.Tensor:
    """The ``snr`` of :func:`line_maps` alone, in less time: shape (ny, nx)."""
    return _line_maps(units, widths, only_snr=True).snr


def line_maps(units: NoiseUnits, widths: tuple[float, ...] = WIDTHS) -> LineMaps:
    """Response of every place to the bank of lines, reduced to the highest and the lowest.

    Each width's responses are divided by their own robust spread where that is over 1: neighbouring
    channels often share some of their noise, and wide lines then have more of it.  In spectra of more than
    :data:`BAND` channels the highest of noise is higher, as more lines are tried; the SNRs are :func:`as_in_one_band`.
    """
    return _line_maps(units, widths)


def _line_maps(units: NoiseUnits, widths: tuple[float, ...], only_snr: bool = False) -> LineMaps:
    import torch

    faint = units.valid & (stack_snr(units).abs() < 4)
    quiet = torch.nonzero((faint if faint.any() else units.valid).flatten())[:, 0]
    n_channels, shape = len(units.cube), units.valid.shape
    found: list[torch.Tensor] = []
    for band in bands(units.cube, units.rms, widths):
        snr, channel, width, negative, correlation = band_maps(band, quiet, only_snr)
        channel, width = band.first + band.factor * channel, band.factor * width
        if not found:
            found = [snr, channel, width, negative]
        else:
            better = snr > found[0]
            found[:3] = (
                torch.where(better, new, old) for new, old in zip((snr, channel, width), found[:3], strict=True)
            )
            found[3] = torch.minimum(negative, found[3])
    snr, channel, width, negative = (image.reshape(shape) for image in found)
    return LineMaps(
        torch.where(units.valid, as_in_one_band(snr, n_channels), 0),
        channel,
        width,
        torch.where(units.valid, as_in_one_band(negative, n_channels), 0),
        correlation,
    )


def band_maps(
    band: Band, quiet: torch.Tensor, only_snr: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Of one band of a cube: best line's SNR, channel and width, the lowest response, and the widest's spread.

    Images are flat; ``quiet`` are indices of pixels without a bright source, whose responses tell the spread.
    Each group of lines is looked for in the channels where it is; that is a quarter of the work of all lines in all.
    With ``only_snr`` channel, width and lowest response are 0.
    """
    import torch

    bank, flat = bank_of(len(band.values), band.rms, band.widths), band.values.flatten(1)
    spread_of = spreads(bank, flat[:, quiet[:: max(1, len(quiet) // 2048)]])
    shapes = bank.shapes / spread_of[:, None]
    groups = [(shapes[rows, channels].contiguous(), channels) for rows, channels in bank.groups()]
    n_pixels = flat.shape[1]
    highest, negative = flat.new_empty(len(groups), n_pixels), flat.new_zeros(n_pixels)

    def respond(pixels: slice) -> None:
        spectra = bank.flat(flat[:, pixels])
        lowest = spectra.new_full((spectra.shape[1],), torch.inf)
        for i, (lines, channels) in enumerate(groups):
            response = lines @ spectra[channels]
            highest[i, pixels] = response.amax(dim=0)
            if not only_snr:
                lowest = torch.minimum(lowest, response.amin(dim=0))
        if not only_snr:
            negative[pixels] = lowest

    # small enough for the responses to stay in the processor's cache
    block = PIXELS_AT_ONCE if flat.device.type == "cpu" else n_pixels
    spread(respond, [slice(i, min(i + block, n_pixels)) for i in range(0, n_pixels, block)])
    snr, group = highest.max(dim=0)
    best = torch.zeros_like(group)
    if only_snr:
        return snr, negative, negative, negative, float(spread_of[-1])

    def place(i: int) -> None:
        pixels = torch.nonzero(group == i)[:, 0]
        for some in pixels.split(PIXELS_AT_ONCE):
            response = groups[i][0] @ bank.flat(flat[:, some])[groups[i][1]]
            best[some] = LINES_AT_ONCE * i + response.argmax(dim=0)

    spread(place, range(len(groups)))
    return snr, bank.centre[best], bank.width[best], negative, float(spread_of[-1])


def spreads(bank: Bank, spectra: torch.Tensor) -> torch.Tensor:
    """Robust spread of each line's responses to spectra (channels, n), of all of its width: (lines,), 1 at least."""
    import torch

    widths = bank.width.unique()

    def of_width(width: torch.Tensor) -> torch.Tensor:
        responses = (bank.lines[bank.width == width] @ spectra).flatten().abs()
        if responses.device.type != "cpu":
            return responses.median()
        middle = (len(responses) - 1) // 2  # the lower median, as torch has it
        return torch.as_tensor(np.partition(responses.numpy(), middle)[middle])

    made = torch.ones_like(bank.width)
    for width, middle in zip(widths, spread(of_width, widths), strict=True):
        made[bank.width == width] = (middle / NORMAL_MAD).clamp(min=1)
    return made


def as_in_one_band(snr: torch.Tensor, n_channels: int) -> torch.Tensor:
    """The SNR of a best line that is as unlikely to be noise as in a spectrum of :data:`BAND` channels.

    Of n tries in Gaussian noise the highest is about s with n exp(-s^2 / 2) constant, so that 2 ln(n / BAND)
    comes off the square.  It is the SNR itself in shorter spectra, and nearly that of any bright line.
    """
    if n_channels <= BAND:
        return snr
    return snr.sign() * (snr**2 - 2 * float(np.log(n_channels / BAND))).clamp(min=0).sqrt()


def stack_snr(units: NoiseUnits, correlation: float = 1.0) -> torch.Tensor:
    """SNR of a flat spectrum at each place, shape (ny, nx)."""
    weight = 1 / units.rms
    total = (weight @ units.cube.flatten(1)).reshape(units.valid.shape)
    return total / (weight.norm() * correlation)


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
            torch.where(said, torch.log2(lines.width.clamp(max=WIDTHS[-1])) / 4, 0),
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
