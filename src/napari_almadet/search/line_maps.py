"""Step 1: the input images of Source Finder, in units of the noise: the stacked image and the line maps.

The paper stacks all channels and stretches the image to [0, 1].  Here the S/N is computed at each position, both in the
stacked image and in the best-fitting line.  All steps but the last are linear in the cube, so that the noise of every
image is known:

* the cube is averaged over square blocks of pixels, to about four pixels per beam;
* it is divided by its noise at each channel and position, which is estimated from differences between channels, where
  continuum, sidelobes and everything else that is constant cancels;
* the stacked image is the mean over the channels, weighted for a flat spectrum;
* the line maps are the highest response to a bank of Gaussian lines of several widths, i.e. a matched filter, as in
MF3D
  and LineSeeker (Gonzalez-Lopez et al. 2019); long spectra are searched in overlapping bands, and for wide lines with
  several channels averaged.

Arrays are torch tensors on the device of the networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.planes import middle_two
from napari_almadet.measure.tiling import window_starts
from napari_almadet.threads import spread

if TYPE_CHECKING:
    import torch

    from napari_almadet.search.noise_units import NoiseUnits


# channels, FWHM of the lines in the bank
WIDTHS = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 32.0, 50.0, 80.0, 125.0)
WIDEST = 0.25  # of the band: wider lines cannot be distinguished from continuum; chosen by eye
# Channels; in one of several bands, wider lines lose flux to the baseline and are left to averaged channels
NARROW = 32.0
BAND = 512  # channels searched at once; longer spectra are cut into overlapping bands; chosen for speed
REACH = 5.0  # standard deviations of a line beyond which it is negligible; derived: 4e-6 of its peak
LINES_AT_ONCE = 32  # lines computed together; chosen for speed
PIXELS_AT_ONCE = 1024  # pixels whose responses are in memory at a time; chosen for speed
AVERAGED = 4  # channels averaged for wide lines, repeatedly; chosen for speed
LEAST = 3.0  # S/N of the best line at a position, below which its channel and width are random and are not looked for
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
COMPRESSION = 2.0  # scale of the compression of S/N for the networks, arcsinh(S/N / scale); as they were trained
SNRS = ("stack", "stack, sidelobes included", "line", "negative line")  # those of them that are S/N ratios


@dataclass(frozen=True)
class Band:
    """A part of spectra that is searched for lines at once: ``values`` (channels, ...), their ``rms``, the ``widths``.

    Channel c of the band is channel ``first + factor * c`` of the whole spectrum.
    """

    values: torch.Tensor
    rms: torch.Tensor
    widths: tuple[float, ...]
    first: float = 0.0
    factor: int = 1


def bands(values: torch.Tensor, rms: torch.Tensor, widths: tuple[float, ...] = WIDTHS) -> Iterator[Band]:
    """The bands in which spectra in noise units are searched: a single one for up to :data:`BAND` channels.

    Longer spectra are cut into bands of that length, each overlapping the next by a quarter, for lines of up to
    :data:`NARROW` channels.  For wider lines, groups of :data:`AVERAGED` channels are averaged, weighted for a flat
    spectrum, repeatedly, up to lines a quarter of the whole band wide.

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
    """Spectra (channels, ...) in noise units averaged over groups of :data:`AVERAGED` channels, and their noise.

    A last, incomplete group is dropped.
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

    ``lines`` are ``shapes``, which are zero except near their centre, orthogonalised to the ``baseline``
    (channels, 0 or 2), so that ``lines @ x`` is ``shapes @ (x - baseline @ baseline.T @ x)``.
    """

    centre: torch.Tensor
    width: torch.Tensor
    shapes: torch.Tensor
    baseline: torch.Tensor

    @property
    def lines(self) -> torch.Tensor:
        """The lines in all channels, which takes several times as long to make and to use as the shapes."""
        return self.shapes - (self.shapes @ self.baseline) @ self.baseline.T

    def groups(self) -> list[tuple[slice, slice]]:
        """Groups of lines, and the channels in which their shapes are not negligible."""
        peak = self.shapes.amax(dim=1, keepdim=True)
        inside = (self.shapes > float(np.exp(-0.5 * REACH**2)) * peak).cpu().numpy()
        inside[~inside.any(axis=1)] = True  # of lines with no shape
        groups = []
        for first in range(0, len(inside), LINES_AT_ONCE):
            seen = np.flatnonzero(inside[first : first + LINES_AT_ONCE].any(axis=0))
            groups.append((slice(first, first + LINES_AT_ONCE), slice(int(seen[0]), int(seen[-1]) + 1)))
        return groups

    def flat(self, spectra: torch.Tensor) -> torch.Tensor:
        """Baseline-subtracted spectra (channels, n)."""
        left = spectra
        # one after the other, since a matrix product of so few columns takes three times as long
        for column, height in zip(self.baseline.T, self.baseline.T @ spectra, strict=True):
            left = left.addcmul(column[:, None], height, value=-1)
        return left


def templates(
    n_channels: int, rms: torch.Tensor, widths: tuple[float, ...] = WIDTHS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The bank of lines: Gaussians of all widths and centres, orthogonal to constant and slope, of unit noise.

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
    """The lines of :func:`templates` with their shapes and baseline."""
    import torch

    channel = torch.arange(n_channels, dtype=torch.float32, device=rms.device)
    level = (rms.median() / rms).clamp(max=4)
    baseline = torch.stack([level, level * (channel - channel.mean()) / n_channels], dim=1)
    if n_channels < 4:
        baseline = baseline[:, :0]
    baseline = torch.linalg.qr(baseline).Q
    lag = torch.arange(1 - n_channels, n_channels, dtype=torch.float32, device=rms.device)
    shapes, centres, fwhms = [], [], []
    for width in widths:
        if width > max(1, WIDEST * n_channels):
            break
        step = max(1, int(width / 3))
        centre = torch.arange(step // 2, n_channels, step, device=rms.device)
        sigma = max(width * gaussian_fwhm_to_sigma, 0.3)
        profile = torch.exp(-0.5 * (lag / sigma) ** 2)  # one for all centres
        shape = profile.unfold(0, n_channels, 1)[n_channels - 1 - centre] * level
        # the norm without what the baseline explains, by Pythagoras
        left = shape.square().sum(dim=1) - (shape @ baseline).square().sum(dim=1)
        shapes.append(shape / left.clamp(min=1e-12).sqrt()[:, None])
        centres.append(centre.float())
        fwhms.append(torch.full_like(centres[-1], width))
    return Bank(torch.cat(centres), torch.cat(fwhms), torch.cat(shapes), baseline)


def lower_median(values: torch.Tensor) -> torch.Tensor:
    """As torch has the median of all values; on the processor a faster one."""
    import torch

    return torch.as_tensor(middle_two(values.flatten().numpy())[0]) if values.device.type == "cpu" else values.median()


@dataclass(frozen=True)
class LineMaps:
    """Best line at each place: its ``snr``, ``channel`` and ``width`` (channels), and the strongest ``negative``.

    Where the ``snr`` is below :data:`LEAST`, channel and width are arbitrary.
    """

    snr: torch.Tensor
    channel: torch.Tensor
    width: torch.Tensor
    negative: torch.Tensor
    correlation: float  # noise of the widest lines relative to that expected for independent channels


def highest_snr(units: NoiseUnits, widths: tuple[float, ...] = WIDTHS) -> torch.Tensor:
    """Only the ``snr`` of :func:`line_maps`, which is faster: shape (ny, nx)."""
    return _line_maps(units, widths, only_snr=True).snr


def line_maps(units: NoiseUnits, widths: tuple[float, ...] = WIDTHS) -> LineMaps:
    """Response of every position to the bank of lines, reduced to the highest and the lowest.

    The responses of each width are divided by their robust spread if it exceeds 1: neighbouring channels are often
    correlated, which makes wide lines noisier.  In spectra of more than :data:`BAND` channels the highest response of
    noise is higher, because more lines are tried; the SNRs are corrected for this by :func:`as_in_one_band`.
    """
    return _line_maps(units, widths)


def _line_maps(units: NoiseUnits, widths: tuple[float, ...], only_snr: bool = False) -> LineMaps:
    import torch

    quiet = torch.nonzero((units.valid & (stack_snr(units).abs() < 4)).flatten())[:, 0]
    if not len(quiet):
        quiet = torch.nonzero(units.valid.flatten())[:, 0]
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
    """SNR, channel and width of the best line in one band, the lowest response, and the spread of the widest lines.

    Images are flattened; ``quiet`` are indices of pixels without a bright source, from which the spread is estimated.
    Each group of lines is evaluated only in its own channels, which saves three quarters of the work.
    With ``only_snr``, channel, width and lowest response are 0.  Channel and width are those of the first line where
    the SNR is below :data:`LEAST`.
    """
    import torch

    bank, flat = bank_of(len(band.values), band.rms, band.widths), band.values.flatten(1)
    parts = bank.groups()
    spread_of = spreads(bank, flat[:, quiet[:: max(1, len(quiet) // 2048)]], parts)
    shapes = bank.shapes / spread_of[:, None]
    groups = [(shapes[rows, channels].contiguous(), channels) for rows, channels in parts]
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
    group[snr <= LEAST] = -1

    def place(i: int) -> None:
        pixels = torch.nonzero(group == i)[:, 0]
        for some in pixels.split(PIXELS_AT_ONCE):
            response = groups[i][0] @ bank.flat(flat[:, some])[groups[i][1]]
            best[some] = LINES_AT_ONCE * i + response.argmax(dim=0)

    spread(place, range(len(groups)))
    return snr, bank.centre[best], bank.width[best], negative, float(spread_of[-1])


def spreads(bank: Bank, spectra: torch.Tensor, groups: list[tuple[slice, slice]] | None = None) -> torch.Tensor:
    """Robust spread of the responses of all lines of a width to spectra (channels, n): (lines,), at least 1.

    ``groups`` are those of the bank, where they are known already.
    """
    import torch

    flat = bank.flat(spectra)
    responses = flat.new_empty(len(bank.width), flat.shape[1])

    def respond(group: tuple[slice, slice]) -> None:
        rows, channels = group
        responses[rows] = (bank.shapes[rows, channels] @ flat[channels]).abs_()

    spread(respond, bank.groups() if groups is None else groups)
    known = bank.width.cpu().numpy()
    ends = [0, *(np.flatnonzero(np.diff(known)) + 1).tolist(), len(known)]
    parts = [slice(first, last) for first, last in pairwise(ends)]  # the lines of one width are beside each other

    made = torch.ones_like(bank.width)
    for rows, middle in zip(parts, spread(lambda rows: lower_median(responses[rows]), parts), strict=True):
        made[rows] = (middle / NORMAL_MAD).clamp(min=1)
    return made


def as_in_one_band(snr: torch.Tensor, n_channels: int) -> torch.Tensor:
    """The SNR that would be as unlikely in noise if the spectrum had :data:`BAND` channels.

    The highest of n trials in Gaussian noise is about s with n exp(-s^2 / 2) constant, so 2 ln(n / BAND) is subtracted
    from the square.  Shorter spectra are not changed, and bright lines hardly.
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
    """The images of :data:`MAPS`, (8, ny, nx), and the :class:`LineMaps`' ``correlation``.

    They are S/N ratios; the channel of the best line, 0 where there is none; its FWHM in channels, 1 where there is
    none; 1 where there is data; and the FWHM of the beam in pixels.  Source Finder gets their :func:`network_input`.

    Parameters
    ----------
    units
        The cube without sidelobes.
    raw
        The cube before sidelobes were subtracted.
    beam
        FWHM in pixels of the two.
    """
    import torch

    lines = line_maps(units)
    valid = units.valid.float()
    has_line = lines.snr > LEAST
    images = torch.stack(
        [
            stack_snr(units, lines.correlation),
            stack_snr(raw, lines.correlation),
            lines.snr,
            torch.where(has_line, lines.channel, 0),
            torch.where(has_line, lines.width.clamp(max=WIDTHS[-1]), 1),
            lines.negative,
            valid,
            torch.full_like(valid, beam),
        ]
    )
    return images, lines.correlation


def network_input(images: torch.Tensor, n_channels: int) -> torch.Tensor:
    """The images of :data:`MAPS` as Source Finder gets them, all of order one; the band has ``n_channels``."""
    import torch

    coded = {
        "line's channel": lambda channel: channel / n_channels,
        "line's width": lambda width: torch.log2(width) / 4,
        "valid": lambda valid: valid,
        "beam": lambda beam: beam / 4 - 1,
    }
    return torch.stack([coded.get(name, compress)(image) for name, image in zip(MAPS, images, strict=True)])


def compress(snr: torch.Tensor) -> torch.Tensor:
    """Linear in the noise, logarithmic in bright sources."""
    import torch

    return torch.asinh(snr / COMPRESSION)
