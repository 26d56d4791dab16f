"""Properties of a patch of extended emission as a whole: the input of the extent classifier.

All of them are ratios to the noise, the beam, the band or the field, so that they have the same meaning in any cube.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import mad_std
from scipy import ndimage

from napari_almadet.constants import BEAM_AREA, FOUR_LN2, NORMAL_MAD
from napari_almadet.measure.planes import in_blocks, percentile
from napari_almadet.measure.spectra import remove_baseline
from napari_almadet.search.features import ABOUT, own_lines
from napari_almadet.search.line_maps import MAPS
from napari_almadet.search.noise_units import NoiseUnits, differences
from napari_almadet.search.raw_detection import Extent, RawDetection
from napari_almadet.search.thresholds import THRESHOLDS
from napari_almadet.threads import spread

if TYPE_CHECKING:
    import torch

PATCH_SNR = 5.0  # minimum S/N of the pixels of a patch; convention
EXTENDED = 10.0  # beams of the cube, area of a patch from which it is extended emission; chosen by eye
SMALLEST = 2.5  # beams, minimum area of a patch; derived: a point source of S/N 50 has this area above 5 sigma
STEP = 0.5  # beams, distance of positions whose channels are compared; derived: half the resolution
FAR = 16  # channels a sixteenth of the band apart have nothing in common in a narrow line; chosen by eye
CHANNELS_AT_ONCE = 16  # that are summed over a patch; chosen for memory
SAMPLE = 4096  # pixels of a patch from which the correlation of channels is computed; chosen for speed
NEIGHBOURS = np.ones((3, 3))  # pixels that touch, also at their corners, belong to one patch
NEGLIGIBLE = 1e-6  # of the peak of a line, and of its power: what is less is as good as nothing in single precision
TINY = 1e-30  # the least power of a line that is divided by
PIXELS_AT_ONCE = 2**15  # in which lines are looked for by one thread at a time; chosen for speed
LOW = 15.87  # percentile of an image that is one standard deviation below zero, if it is noise


@dataclass(frozen=True, eq=False)
class SearchedWindow:
    """A window as its patches are measured in: ``images`` of :data:`MAPS` and ``answer``, Source Finder's maps.

    ``beam`` is the FWHM in pixels, ``noise_correlation`` from the line maps, ``dirty`` the decision on the beam,
    ``smoothed`` how often the window was smoothed to twice the beam.
    """

    units: NoiseUnits
    images: np.ndarray
    answer: np.ndarray
    beam: float
    noise_correlation: float
    dirty: bool
    quiet: torch.Tensor  # spectra of places without a source, (n, channels)
    smoothed: int = 0

    def about(self, place: tuple[slice, ...]) -> SearchedWindow:
        """A part of the window, (y, x)."""
        units = self.units
        part = replace(units, cube=units.cube[:, *place], valid=units.valid[place], rms_map=units.rms_map[place])
        return replace(self, units=part, images=self.images[:, *place], answer=self.answer[:, *place])

    @property
    def least_extended(self) -> float:
        """Area of a patch in beams of this window from which it is extended emission."""
        return max(EXTENDED / 4**self.smoothed, SMALLEST)  # each time the area of the beam is four times as large

    def image(self, name: str) -> np.ndarray:
        """One of the images of :data:`MAPS`, (ny, nx)."""
        return np.asarray(self.images[MAPS.index(name)])

    @cached_property
    def stack(self) -> np.ndarray:
        """S/N of the stacked image."""
        return self.image("stack")

    @cached_property
    def line(self) -> np.ndarray:
        """S/N of the best line."""
        return self.image("line")

    @cached_property
    def dip(self) -> np.ndarray:
        """S/N of the strongest negative line, positive where there is one."""
        return -self.image("negative line")

    @cached_property
    def strength(self) -> np.ndarray:
        """The higher of a place's S/N in the stack and in its best line."""
        return np.maximum(self.stack, self.line)

    @cached_property
    def clear_strength(self) -> np.ndarray:
        """The strength, with the stacked image in units of its ripples where these exceed the noise.

        Where the sidelobes of bright continuum remain, whatever exceeds 5 times the thermal noise is one patch of
        ripples, in which sources lie.  In 12 validation cubes of ``continuum-left`` this finds 35 of 37 sources over
        S/N 5, without a false candidate; by the thermal noise alone 32 are found, and two candidates are false.
        """
        ripples = rms_below_zero(self.stack[self.valid])
        return np.maximum(self.stack / ripples if ripples > THRESHOLDS.residuals_stacked else self.stack, self.line)

    @cached_property
    def negative(self) -> np.ndarray:
        """The strength in the inverted cube."""
        return np.maximum(-self.stack, self.dip)

    @cached_property
    def baseline(self) -> np.ndarray:
        """A constant and a slope over the channels, orthogonal and of unit length, (channels, 2)."""
        channels = np.arange(len(self.units.cube)) - (len(self.units.cube) - 1) / 2
        return np.asarray(np.linalg.qr(np.stack([np.ones(len(channels)), channels], axis=1))[0])

    @cached_property
    def level_and_slope(self) -> torch.Tensor:
        """Height of each column of the :attr:`baseline` in the spectra of all pixels, (2, pixels)."""
        import torch

        cube = self.units.cube
        return torch.as_tensor(self.baseline.T, dtype=cube.dtype, device=cube.device) @ cube.flatten(1)

    @cached_property
    def valid(self) -> np.ndarray:
        """Where there is data."""
        return self.units.valid.cpu().numpy()

    @cached_property
    def inside(self) -> np.ndarray:
        """Pixels from the edge of the data or of the field."""
        return ndimage.distance_transform_edt(np.pad(self.valid, 1))[1:-1, 1:-1]

    @cached_property
    def negative_beams(self) -> float:
        """Area of the largest patch of the negated cube over 5 sigma, in beams."""
        labels, n = ndimage.label((self.negative >= PATCH_SNR) & self.valid, NEIGHBOURS)
        return float(np.bincount(labels.ravel())[1:].max()) / (BEAM_AREA * self.beam**2) if n else 0.0


def rms_below_zero(snr: np.ndarray, least: float = 1.0) -> float:
    """Rms of an image in units of the noise, from what is below zero; at least ``least``."""
    return max(least, -percentile(snr, LOW)) if snr.size else 1.0


def measure_extent(patch: np.ndarray, members: Sequence[RawDetection], seen: SearchedWindow) -> Extent:
    """Measure the patch of a window, and what lies within 12 beams of it.

    Parameters
    ----------
    patch
        Its mask in the window, (ny, nx).
    members
        What Source Finder sees in it.
    """
    y, x = np.unravel_index(int(np.where(patch, seen.strength, -np.inf).argmax()), patch.shape)
    place = surroundings(patch, round(ABOUT * seen.beam))
    patch, seen = patch[place], seen.about(place)
    total = spectrum_over(patch, seen)
    area = BEAM_AREA * seen.beam**2
    strength = seen.strength[patch]
    valid = seen.valid
    positive = int(np.count_nonzero((seen.strength >= PATCH_SNR) & valid))
    negative = int(np.count_nonzero((seen.negative >= PATCH_SNR) & valid))
    elongation, fill = shape_of(patch)
    return Extent(
        beams=float(patch.sum() / area),
        field_share=float(patch.sum() / max(int(np.count_nonzero(valid)), 1)),
        snr_peak=float(strength.max()),
        snr_median=float(np.median(strength)),
        snr_stack=float(seen.stack[patch].max()),
        snr_line=float(seen.line[patch].max()),
        core_share=float((strength >= strength.max() / 2).mean()),
        elongation=elongation,
        fill=fill,
        edge_share=float((seen.inside[patch] <= seen.beam).mean()),
        peaks=len(members),
        most_likely=max(
            (detection.features.detection_logit for detection in members), default=float(seen.answer[0][patch].max())
        ),
        mean_probability=float((1 / (1 + np.exp(-seen.answer[0][patch]))).mean()),
        dip_inside=float(seen.dip[patch].max()),
        dip_stack=float(-seen.stack.min()),
        dip_line=float(seen.dip.max()),
        negative_beams=seen.negative_beams,
        negative_share=negative / max(positive, 1),
        noise_correlation=seen.noise_correlation,
        dirty=seen.dirty,
        beam=seen.beam,
        n_channels=len(seen.units.cube),
        place=(int(y), int(x)),
        **of_lines(patch, seen),
        **of_spectrum(patch, seen, total),
        **of_surroundings(patch, seen, total),
    )


def surroundings(patch: np.ndarray, reach: int) -> tuple[slice, ...]:
    """The patch's box, widened by ``reach`` pixels."""
    return tuple(slice(max(0, int(i.min()) - reach), int(i.max()) + reach + 1) for i in np.nonzero(patch))


def shape_of(patch: np.ndarray) -> tuple[float, float]:
    """How many times as long as wide a mask is, and its area over that of the ellipse with its second moments."""
    least, most = np.linalg.eigvalsh(np.cov(np.nonzero(patch)) + np.eye(2) / 12)  # a pixel's own is 1/12
    return float(np.sqrt(most / least)), float(patch.sum() / (4 * np.pi * np.sqrt(most * least)))


def line_channel(seen: SearchedWindow) -> np.ndarray:
    """Channel of the best line at each place, (ny, nx)."""
    return seen.image("line's channel")


def line_width(seen: SearchedWindow) -> np.ndarray:
    """FWHM of the best line at each place in channels, (ny, nx)."""
    return seen.image("line's width")


def line_images(
    places: Sequence[tuple[int, int]],
    seen: SearchedWindow,
    shifts: Sequence[float] = (0.0,),
    without_continuum: bool = False,
) -> np.ndarray:
    """S/N of the best lines of some places (y, x), wherever else they are: (places, shifts, ny, nx).

    The lines are also moved by ``shifts``, in units of their FWHM.  With ``without_continuum`` a constant and a slope
    are fitted with each line, as in the line filter of the search.  Only the channels are looked at in which one of the
    lines is seen: lines of similar channels take less time together than any others.
    """
    import torch

    cube = seen.units.cube
    y, x = np.array(places).T
    centre, width = (image(seen)[y, x].astype(float)[:, None, None] for image in (line_channel, line_width))
    lines = np.exp(-FOUR_LN2 * ((np.arange(len(cube)) - centre) / width - np.array(shifts)[:, None]) ** 2)
    lines = lines.reshape(-1, len(cube))
    heights = lines @ seen.baseline if without_continuum else np.zeros((len(lines), 2))
    # the baseline's columns are orthogonal and of unit length, so that what a line is beside it follows by Pythagoras
    power = (lines**2).sum(axis=1)
    beside = power - (heights**2).sum(axis=1)
    scale = np.where(beside > NEGLIGIBLE * power, 1 / np.sqrt(np.maximum(beside, TINY)), 0)[:, None]
    seen_in = np.flatnonzero((lines > NEGLIGIBLE * lines.max(axis=1, keepdims=True)).any(axis=0))
    part = slice(int(seen_in[0]), int(seen_in[-1]) + 1) if len(seen_in) else slice(0, 0)
    weights, heights = (
        torch.as_tensor(rows * scale, dtype=cube.dtype, device=cube.device) for rows in (lines[:, part], heights)
    )
    flat = cube[part].flatten(1)
    images = flat.new_empty(len(lines), flat.shape[1])

    def fill(pixels: slice) -> None:
        torch.mm(weights, flat[:, pixels], out=images[:, pixels])
        if without_continuum:
            images[:, pixels].addmm_(heights, seen.level_and_slope[:, pixels], alpha=-1)

    if without_continuum:
        seen.level_and_slope  # noqa: B018 (made once, before the threads ask)
    block = PIXELS_AT_ONCE if cube.device.type == "cpu" else max(1, images.shape[1])
    spread(fill, in_blocks(images.shape[1], block))
    shape = (len(y), len(shifts), *cube.shape[1:])
    return images.reshape(shape).cpu().numpy() / max(1.0, seen.noise_correlation)


def of_lines(patch: np.ndarray, seen: SearchedWindow) -> dict[str, float]:
    """Properties of the best lines across a patch: extent, width, velocity structure."""
    n_channels = len(seen.units.cube)
    channel, width = line_channel(seen), line_width(seen)
    lines = patch & (seen.line >= PATCH_SNR)
    count = int(lines.sum())
    made = {"line_share": count / patch.sum(), "width": 0.0, "channel_spread": 0.0, "channel_step": 0.0}
    if count < 3:
        return made | {"gradient": 0.0}
    step = max(1, round(STEP * seen.beam))
    steps = []
    for axis in (0, 1):
        one, other = (
            tuple(part if i == axis else slice(None) for i in (0, 1)) for part in (slice(step, None), slice(-step))
        )
        both = lines[one] & lines[other]
        wide = np.maximum(width[one], width[other])[both]
        steps.append(np.abs(channel[one][both] - channel[other][both]) / wide)
    stepped = np.concatenate(steps)
    y, x = np.nonzero(lines)
    terms = np.stack([np.ones(count), y - y.mean(), x - x.mean()], axis=1)
    values = channel[lines] - channel[lines].mean()
    left = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
    variance = float(values.var())
    return made | {
        "width": float(np.median(width[lines]) / n_channels),
        "channel_spread": float(np.sqrt(variance) / n_channels),
        "channel_step": float(np.median(stepped)) if len(stepped) else 0.0,
        "gradient": float(1 - left.var() / variance) if variance > 1e-6 else 0.0,
    }


def of_spectrum(patch: np.ndarray, seen: SearchedWindow, total: np.ndarray) -> dict[str, float]:
    """Properties of the spectrum ``total`` (channels,) summed over a patch, and the correlation of its channels."""
    import torch

    spectrum = own_noise(total)[None]
    n_channels = spectrum.shape[1]
    level = remove_baseline(spectrum) if n_channels > 3 else spectrum
    line, negative = own_lines(np.concatenate([level, -level]).astype(np.float32), seen.units.rms, seen.quiet)
    y, x = (torch.as_tensor(place, device=seen.units.cube.device) for place in np.nonzero(patch))
    thin = slice(None, None, max(1, len(y) // SAMPLE))
    some = seen.units.cube[:, y[thin], x[thin]]
    quiet = seen.quiet.T
    power = float((some**2).mean())
    excess = max(power - 1, 1e-3)

    def coherence(lag: int) -> float:
        lag = min(max(1, lag), n_channels - 1)
        shared, noise = (float((part[lag:] * part[:-lag]).mean()) for part in (some, quiet))
        return float(np.clip((shared - noise) / excess, -1, 1.5))

    by_channel = ((some**2).mean(dim=1) - 1).clamp(min=0).cpu().numpy()
    return {
        "snr_sum_stack": float(spectrum.sum() / np.sqrt(n_channels)),
        "snr_sum_line": float(line),
        "snr_sum_negative": float(negative),
        "coherence_near": coherence(1),
        "coherence_far": coherence(n_channels // FAR),
        "channels_seen": float(by_channel.sum() ** 2 / max((by_channel**2).sum(), 1e-9) / n_channels),
    }


def own_noise(total: np.ndarray) -> np.ndarray:
    """A spectrum (channels,) in units of its noise, as differences of its channels tell it."""
    return (total / max(mad_std(differences(total)) / np.sqrt(2), 1e-9)).astype(np.float32)


def of_surroundings(patch: np.ndarray, seen: SearchedWindow, total: np.ndarray) -> dict[str, float]:
    """Properties of the field outside a patch, and whether the patch is a sidelobe of its brightest source."""
    near = ndimage.binary_dilation(patch, NEIGHBOURS, iterations=max(1, round(seen.beam)))
    outside = seen.valid & ~near
    if np.count_nonzero(outside) < 10:
        outside = seen.valid & ~patch
    nothing = {"floor": 0.0, "other_peak": 0.0, "symmetry": 0.0, "correlation": 0.0, "spread": 1.0}
    if not outside.any():
        return nothing
    elsewhere = np.where(outside, seen.strength, -np.inf)
    top = np.unravel_index(int(elsewhere.argmax()), patch.shape)
    y, x = (2 * int(c) - i for c, i in zip(top, np.nonzero(patch), strict=True))
    held = (y >= 0) & (y < patch.shape[0]) & (x >= 0) & (x < patch.shape[1])
    opposite = seen.strength[y[held], x[held]].sum() / held.size if held.any() else 0.0
    bright = seen.units.cube[:, int(top[0]), int(top[1])].cpu().numpy()
    norm = np.sqrt((total**2).sum() * (bright**2).sum())
    stack = seen.stack[outside]
    return {
        "floor": float(np.median(seen.strength[outside])),
        "other_peak": float(elsewhere[top]),
        "symmetry": float(np.clip(opposite / max(seen.strength[patch].mean(), 1e-6), -1, 2)),
        "correlation": float(np.clip((total * bright).sum() / max(norm, 1e-9), -1, 1)),
        "spread": float(np.median(np.abs(stack - np.median(stack))) / NORMAL_MAD),
    }


def spectrum_over(patch: np.ndarray, seen: SearchedWindow) -> np.ndarray:
    """The spectrum summed over a patch, (channels,)."""
    import torch

    place = surroundings(patch, 0)
    cube = seen.units.cube[:, *place]
    mask = torch.as_tensor(patch[place].ravel(), device=cube.device).to(cube.dtype)
    # some channels at a time: those of a part of a window have to be copied
    return torch.cat([part.flatten(1) @ mask for part in cube.split(CHANNELS_AT_ONCE)]).cpu().numpy()
