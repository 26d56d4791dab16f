"""The cutout of one source: its mask, line-free channels, continuum and noise, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box
from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.mask import (
    GROWTH,
    SEED_REACH,
    WIDE,
    Contrast,
    brightest_voxel,
    contrast,
    dilated,
    grown,
    split_by_watershed,
)
from napari_almadet.measure.noise import CLIP, Noise, white
from napari_almadet.measure.planes import BLOCK, counted, median_where

# Values without an origin are from the design study of step 10 (233 simulated and real cubes, fluxes against the truth;
# its tables are not in the repository) or were chosen by eye; `benchmarks/accuracy.py` measures what they achieve.
MARGIN = 3.5  # beams, width of the margin around the box of a source: room for the noise and the continuum
LEAST = 5.0  # beams, minimum half width of a cutout
BRIEF = 3.0  # beams, the same for candidates that are only fitted and get no mask
BESIDE_LINE = 0.3  # fraction of the line's range: gap between the line and the line-free channels
FEW = 6  # minimum number of line-free channels to estimate a continuum, and
FEW_SHARE = 0.1  # minimum fraction of the band
SADDLE = 0.5  # fraction of the fainter peak: two detections are one object if the emission between stays above it,
DIP = 3.0  # sigma, or if it falls by less than this
SAMPLE = 24  # channels whose median is the starting point of the clipped mean: a few suffice
ROUNDS = 3  # iterations of mask and continuum for extended sources, from the study
# Beams: widths by which a continuum is separated into parts of different sizes, and over which the square of each part
# is averaged; and times the variance of its noise up to which a part is noise. Derived: of noise alone, the mean square
# over so few beams is 1 +- 0.5. `benchmarks/accuracy.py --kinds discs` measures what they achieve.
SCALES = (2.0, 6.0, 18.0)
AS_NOISE = 2.0
SMALLEST = float(np.finfo(np.float32).tiny)  # a variance that is not 0


@dataclass(frozen=True)
class Seed:
    """A detection as input of the measurement, in the cube's pixels and channels.

    ``sigma_y`` and ``sigma_x`` are the detected extent, including the beam; ``lines`` are (centre, FWHM) of its lines,
    starting with the one to be measured; ``channels`` is the half-open range of that line.  ``compact`` is False for a
    patch of extended emission.  ``matrix`` is the shape, (2, 2) in pixels², if it has been measured.  A ``piece`` is a
    part of the detection that is measured, whatever lies between.  If it is ``placed``, ``x`` and ``y`` are a measured
    place and go into the catalogue; otherwise the place is fitted.
    """

    x: float
    y: float
    sigma_y: float
    sigma_x: float
    lines: tuple[tuple[float, float], ...]
    channels: tuple[int, int]
    compact: bool = True
    matrix: np.ndarray | None = None
    piece: bool = False
    placed: bool = False

    @property
    def half(self) -> float:
        """Distance in pixels at which a Gaussian of its extent has fallen to a tenth of its peak."""
        return 2.146 * max(self.sigma_y, self.sigma_x)


@dataclass(frozen=True, eq=False)
class Cutout:
    """A part of the cube with all channels; pixel [0, 0] of ``planes`` is pixel ``origin`` = (y, x) of the cube.

    ``planes`` has shape (channels, ny, nx) and is NaN where there is no data.  ``noise`` is that of the cube, and
    ``level`` (ny, nx) is the local noise in units of its ``rms``.
    """

    planes: np.ndarray
    origin: tuple[int, int]
    noise: Noise = field(default_factory=lambda: white(1))
    level: np.ndarray = field(default_factory=lambda: np.ones((1, 1), np.float32))

    def local(self, box: Box) -> Box:
        """A box of the cube in the pixels of the cutout."""
        y, x = self.origin
        return Box(box.y0 - y, box.y1 - y, box.x0 - x, box.x1 - x)

    def holds(self, box: Box) -> bool:
        """Whether a box of the cube lies in the cutout."""
        local, (ny, nx) = self.local(box), self.planes.shape[1:]
        return min(local.y0, local.x0) >= 0 and local.y1 <= ny and local.x1 <= nx

    def world(self, box: Box) -> Box:
        """A box of the cutout in the pixels of the cube."""
        y, x = self.origin
        return Box(box.y0 + y, box.y1 + y, box.x0 + x, box.x1 + x)

    @cached_property
    def known(self) -> np.ndarray:
        """Whether each voxel has data; exact zeros count as missing."""
        return np.asarray(np.isfinite(self.planes) & (self.planes != 0))

    @cached_property
    def pixels(self) -> np.ndarray:
        """Pixels with data, (ny, nx)."""
        return np.asarray(self.known.any(axis=0))

    @cached_property
    def values(self) -> np.ndarray:
        """The planes with 0 where there is no data."""
        return self.planes if self.whole else np.where(self.known, self.planes, np.float32(0))

    @cached_property
    def whole(self) -> bool:
        """Whether there is data everywhere."""
        return bool(self.known.all())

    @cached_property
    def rms(self) -> np.ndarray:
        """Noise of each channel (channels,), at a level of 1; infinite where there is no data."""
        return np.where(np.isfinite(self.noise.rms), self.noise.rms, np.inf).astype(np.float32)

    @cached_property
    def sigma(self) -> np.ndarray:
        """Noise of each voxel, broadcastable: (channels, 1, 1) if the level is uniform."""
        level = self.level[:1, :1] if (self.level == self.level[0, 0]).all() else self.level
        return np.asarray(self.rms[:, None, None] * level)

    def less(self, continuum: np.ndarray) -> np.ndarray:
        """The planes without a continuum (ny, nx), 0 where there is no data."""
        lines = self.values - continuum
        return lines if self.whole else lines * self.known


@dataclass(frozen=True, eq=False)
class Separated:
    """A cutout separated into one of its sources, other sources and line-free voxels.

    Attributes
    ----------
    mask
        Voxels of the source, (channels, ny, nx); empty if the source does not stand out from the noise.
    others
        Voxels of the other detections.
    rest
        Line-free voxels, from which the continuum is estimated.
    continuum
        Mean of the line-free voxels of each pixel, (ny, nx); 0 where it cannot be estimated.
    has_continuum
        Whether it could be estimated.
    threshold
        In sigma, of the mask before it was grown.
    merged
        Numbers of other detections in the same mask.
    """

    mask: np.ndarray
    others: np.ndarray
    rest: np.ndarray
    continuum: np.ndarray
    has_continuum: bool
    threshold: float
    merged: tuple[int, ...] = ()


def level_of(cutout: Cutout, beam: float) -> np.ndarray:
    """Local noise of the pixels of a cutout relative to the cube's, (ny, nx): 1 if uniform, otherwise a smooth surface.

    A quadratic surface is fitted to the logarithm of the robust spread of each pixel's differences of channels; it
    stays within the levels that it has at pixels with data.
    """
    shape = cutout.planes.shape[1:]
    if cutout.noise.uniform:
        return np.ones(shape, np.float32)
    thin = max(1, int(beam / 2))
    part = (slice(None), slice(None, None, thin), slice(None, None, thin))
    lag = min(3, len(cutout.planes) // 4) or 1
    scaled = cutout.values[part] / cutout.rms[:, None, None]
    both = cutout.known[part][lag:] & cutout.known[part][:-lag]
    steps = np.abs(scaled[lag:] - scaled[:-lag])
    enough = both.sum(axis=0) >= max(1, 0.5 * len(both))
    if enough.sum() < 20:
        return np.ones(shape, np.float32)
    spread = (
        np.median(np.where(both, steps, np.nan)[:, enough], axis=0)
        if both.all()
        else np.nanmedian(np.where(both, steps, np.nan)[:, enough], axis=0)
    )
    log = np.log(np.maximum(spread / (NORMAL_MAD * np.sqrt(2)), 1e-6))
    y, x = (v / max(n - 1, 1) * 2 - 1 for v, n in zip(np.indices(shape, np.float32), shape, strict=True))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    few = len(both) < 8 or enough.sum() < 200
    terms = terms[..., :1] if few else terms
    some = terms[part[1:]][enough]
    keep = np.abs(log - np.median(log)) < 1.5
    fitted = np.linalg.lstsq(some[keep], log[keep], rcond=None)[0]
    seen = some[keep] @ fitted
    # far from the data, as in a masked cube, the surface runs away to levels that no pixel has
    return np.exp(np.clip(terms @ fitted, seen.min(), seen.max())).astype(np.float32)


def separated(cutout: Cutout, seeds: Sequence[Seed], me: int, beam: float, merge: bool = False) -> Separated:
    """Mask, line-free voxels and continuum of one of the detections in a cutout, computed iteratively.

    Parameters
    ----------
    seeds
        All detections whose middle lies in the cutout.
    me
        Number of the one in ``seeds``.
    beam
        FWHM in pixels.
    merge
        Whether connected emission is one source, even if several detections are in it.
    """
    seed = seeds[me]
    wide = seed.half > WIDE * beam
    rest = line_free(cutout, seed)
    away = rest  # away from the known line
    for _ in range(ROUNDS if wide else 1 + (len(seeds) > 1)):
        continuum, has_continuum = continuum_of(cutout, rest)
        if not seed.lines:
            nothing = np.zeros(rest.shape, bool)
            return Separated(nothing, nothing, rest, continuum, has_continuum, np.nan)
        lines = cutout.less(without_its_noise(continuum, rest, cutout, beam))
        scaled = np.divide(lines, cutout.sigma, out=lines)
        width = seed.channels[1] - seed.channels[0]
        seen = contrast(scaled, cutout.known, cutout.noise, beam, width, seed.half / beam, overwrite=True)
        del lines, scaled
        threshold = seen.threshold()
        voxels = [voxel_of(s, cutout, seen, threshold, SEED_REACH * beam) for s in seeds]
        labels = split_by_watershed(seen, threshold, voxels)
        merged: tuple[int, ...] = ()
        if merge and labels[voxels[me]]:
            labels, merged = joined(labels, seen, voxels, me, [s.piece for s in seeds])
        own = labels == me + 1 if labels[voxels[me]] == me + 1 else np.zeros(labels.shape, bool)
        emission = seen.highest > threshold
        del seen  # as large as the cutout
        near = dilated(emission, 1, 2)
        rest = few_filled(cutout, cutout.known & ~near & (away if seed.compact else True), away, emission)
        if not own.any():
            break
    continuum, has_continuum = continuum_of(cutout, rest)
    others = (labels > 0) & ~own
    own = grown(own, others, cutout.known, max(1, round(GROWTH * beam)), 1) if own.any() else own
    return Separated(own, others, rest, continuum, has_continuum, threshold, merged)


def voxel_of(seed: Seed, cutout: Cutout, seen: Contrast, threshold: float, reach: float) -> tuple[int, int, int]:
    """The brightest voxel (channel, y, x) of a detection in a cutout, within ``reach`` pixels of its middle.

    It is looked for in the best line.  That line may be a horn of a galaxy and lie far from the middle, where there is
    emission between the horns: an extended detection without a voxel over ``threshold`` has it in all its channels.
    """
    place = (seed.y - cutout.origin[0], seed.x - cutout.origin[1])
    voxel = brightest_voxel(seen.reference, place, seed.channels, reach)
    if seen.highest[voxel] > threshold or seed.compact or len(seed.lines) < 2:
        return voxel
    first = int(min(centre - width / 2 for centre, width in seed.lines))
    last = int(max(centre + width / 2 for centre, width in seed.lines)) + 1
    return brightest_voxel(seen.reference, place, (first, last), reach)


def unmasked(cutout: Cutout, seed: Seed) -> Separated:
    """A cutout without a mask: only line-free channels and continuum."""
    nothing = np.zeros(cutout.planes.shape, bool)
    rest = line_free(cutout, seed)
    return Separated(nothing, nothing, rest, *continuum_of(cutout, rest), np.nan)


def joined(
    labels: np.ndarray, seen: Contrast, voxels: Sequence[tuple[int, int, int]], me: int, pieces: Sequence[bool] = ()
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Labels in which all emission connected to detection ``me`` has its number, and which detections were merged.

    Two detections are connected if there is a path between them, in pixels and channels, along which the emission does
    not fall to :data:`SADDLE` of the fainter one, or by :data:`DIP` sigma.  Touching galaxies are separated by a deeper
    saddle.  Undetected parts of the same emission are included, and those that are known to be ``pieces``.
    """
    values = np.where(labels > 0, seen.reference, -np.inf)
    merged = []
    for i, voxel in enumerate(voxels):
        if i == me or not labels[voxel]:
            continue
        if pieces and pieces[i]:
            merged.append(i)
            continue
        fainter = min(float(values[voxel]), float(values[voxels[me]]))
        level = min(SADDLE * fainter, fainter - DIP) if fainter > 0 else -np.inf
        over = ndimage.label(values > level, np.ones((3, 3, 3)))[0]
        if over[voxel] == over[voxels[me]]:
            merged.append(i)
    return np.where(np.isin(labels, [i + 1 for i in merged]), me + 1, labels), tuple(merged)


def line_free(cutout: Cutout, seed: Seed) -> np.ndarray:
    """Voxels away from the lines of a detection; if there are too few, also those directly next to the lines."""
    n_channels = len(cutout.planes)
    channel = np.arange(n_channels)
    free, beside = np.ones((2, n_channels), bool)
    ranges: list[tuple[float, float]] = [seed.channels] if seed.lines else []
    ranges += [(c - 1.1 * w, c + 1.1 * w) for c, w in seed.lines[1:]]
    for first, last in ranges:
        margin = BESIDE_LINE * max(last - first, 1) + 1
        free &= (channel < first - margin) | (channel >= last + margin)
        beside &= (channel < first) | (channel >= last)
    filled = np.isfinite(cutout.rms)
    if (free & filled).sum() < max(FEW, FEW_SHARE * filled.sum()):
        free = beside
    return cutout.known & free[:, None, None]


def few_filled(cutout: Cutout, rest: np.ndarray, away: np.ndarray, emission: np.ndarray) -> np.ndarray:
    """Line-free voxels; in pixels with too few of them also voxels closer to the emission.

    Or all away from the line.
    """
    n_channels = len(rest)
    few = counted(rest) < max(FEW, FEW_SHARE * n_channels)
    if few.any():
        rest = np.where(few, cutout.known & ~emission, rest)
        few = counted(rest) < FEW
        rest = np.where(few, away, rest)
    return rest


def continuum_of(cutout: Cutout, rest: np.ndarray) -> tuple[np.ndarray, bool]:
    """Mean of the line-free voxels of each pixel, clipped at :data:`CLIP` sigma, and whether it could be estimated.

    All voxels used have the same weight; ``rest`` is not changed.
    """
    if not np.median(counted(rest)) >= min(FEW, 4):
        return np.zeros(rest.shape[1:], np.float32), False
    values, sigma = cutout.values, CLIP * cutout.sigma
    channels = np.flatnonzero(rest.any(axis=(1, 2)))
    some = channels[np.unique(np.linspace(0, len(channels) - 1, SAMPLE).round().astype(int))]  # to begin with
    middle = median_where(values[some], rest[some])
    depth = max(1, BLOCK // max(middle.size, 1))
    room = np.zeros((depth + 1, *middle.shape), np.result_type(values, middle))  # the sum so far, and what comes next
    count = np.zeros(middle.shape, int)
    for part in (slice(k, min(k + depth, len(values))) for k in range(0, len(values), depth)):
        apart = np.subtract(values[part], middle, out=room[1 : part.stop - part.start + 1])
        used = rest[part] & (np.abs(apart, out=apart) <= sigma[part])
        np.multiply(values[part], used, out=apart)
        room[0] = room[: len(apart) + 1].sum(axis=0)
        count += counted(used)
    return (room[0] / np.maximum(count, 1)).astype(np.float32), True


def without_its_noise(continuum: np.ndarray, rest: np.ndarray, cutout: Cutout, beam: float) -> np.ndarray:
    """A continuum (ny, nx) without those of its parts, of any size, that are as faint as the noise of a mean of voxels.

    It is for making masks.  The noise of a continuum is the same in all channels of a pixel.  If it were subtracted, a
    mask would prefer pixels where it is negative, and the flux, from which the same noise is subtracted, would be too
    high.  The flux itself is measured with the whole continuum, so that a faint one is not in it.
    """
    count = counted(rest)
    channels = cutout.rms[np.isfinite(cutout.rms)].astype(float)
    if not len(channels):
        return continuum
    typical = max(int(np.median(count)), 1)  # of a source that fills the band there are none, and its continuum is 0
    variance = np.mean(channels**2) * cutout.noise.over(typical) * cutout.level**2 / np.maximum(count, 1)
    side = 2 * int(SCALES[1] * beam) + 1
    point = np.zeros((side, side))
    point[side // 2, side // 2] = 1
    kept, finer, of_finer = np.zeros_like(continuum), continuum, point
    for scale in SCALES:
        width, last = scale * beam * gaussian_fwhm_to_sigma, scale == SCALES[-1]
        coarser, of_coarser = (
            0 * image if last else ndimage.gaussian_filter(image, width, mode="nearest") for image in (continuum, point)
        )
        part, unit = finer - coarser, cutout.noise.spatial_variance(of_finer - of_coarser)
        power = ndimage.gaussian_filter(part**2 / np.maximum(variance * unit, SMALLEST), width, mode="nearest")
        kept += part * np.clip(1 - (AS_NOISE / np.maximum(power, 1e-9)) ** 2, 0, 1).astype(np.float32)
        finer, of_finer = coarser, of_coarser
    return kept
