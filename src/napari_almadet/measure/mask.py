"""The mask of a source: connected voxels in which the smoothed cube exceeds a threshold (smooth and clip).

A cube in units of its noise is smoothed with several kernels, each normalised to its noise, and the maximum response is
used (Serra, Jurek & Floeer 2012; SoFiA-2 does the same).  The mask of a detection contains all voxels above a threshold
that are connected to it; masks that touch are separated by a watershed.  The threshold is the lowest of a few values at
which there are hardly any voxels as negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.noise import Noise
from napari_almadet.measure.planes import blurred, bounds, channel_sums, in_blocks, medians, some_negatives, widen_sums

# FWHM in beams, and number of channels; wider kernels are used only for wide sources. From the design study of step 10
# (233 cubes), as the thresholds and the growth below; `benchmarks/accuracy.py` measures what they achieve.
# Of those with the same FWHM the shorter ones come first.
KERNELS = ((0.0, 1), (0.0, 3), (1.0, 1), (1.0, 3), (1.0, 7), (1.0, 15))
WIDE_KERNELS = ((2.0, 3), (2.0, 7), (2.0, 15))
WIDEST_KERNELS = ((3.5, 7), (3.5, 15))
WIDE, WIDEST = 2.2, 5.0  # beams, half sizes of a source from which these kernels are used
REFERENCE = (1.0, 3)  # kernel of the map in which the watershed is computed
MOST_OF_LINE = 0.6  # of the channels of a line, maximum length of a kernel
MOST_OF_BAND = 1 / 3  # of the channels of the band, maximum length of a kernel; chosen by eye
THRESHOLDS = (4.0, 4.5, 5.0, 6.0)  # sigma, tried in this order; lower ones include too much noise
NEGATIVE = 0.02  # maximum ratio of negative to positive voxels beyond a threshold
SPARE = 10  # negative voxels that are ignored in this ratio; chosen by eye
SAMPLED = 20000  # negative voxels whose median gives the noise of a smoothed cutout, to 1 %
SEED_REACH = 0.8  # beams around a detection, within which its brightest voxel is searched; chosen by eye
FIRST_REACH = 10  # pixels and channels around a detection, in which its mask is searched first; affects only the speed
GROWTH = 0.35  # beams (and one channel) by which a mask is grown to include emission below the threshold


@dataclass(frozen=True)
class Contrast:
    """Maximum and minimum response of all kernels, and the response of :data:`REFERENCE` at each voxel, in sigma.

    In ``highest`` (channels, ny, nx) voxels within the lowest of :data:`THRESHOLDS` are 0.  Of ``lowest``, of which
    only the number matters, there are only the values beyond it, in any order.  If the band is too short for the
    reference kernel, the maximum response is used instead.
    """

    highest: np.ndarray
    lowest: np.ndarray
    reference: np.ndarray

    def threshold(self) -> float:
        """The lowest threshold that noise hardly reaches, as estimated from the negative voxels."""
        for level in THRESHOLDS:
            wrong = np.count_nonzero(self.lowest < -level)
            if wrong <= NEGATIVE * np.count_nonzero(self.highest > level) + SPARE:
                return level
        return THRESHOLDS[-1] + 1


def contrast(
    scaled: np.ndarray,
    known: np.ndarray,
    noise: Noise,
    beam: float,
    width: float,
    half: float,
    overwrite: bool = False,
) -> Contrast:
    """Smooth a cutout with all kernels that suit a source.

    Parameters
    ----------
    scaled
        Continuum-subtracted planes in units of their noise, 0 where there is no data: (channels, ny, nx).
    known
        Where there is data.
    beam
        FWHM in pixels.
    width
        Channels of the source's line.
    half
        Half size of the detection in beams.
    overwrite
        Whether ``scaled`` is no longer needed, so that its memory may be used.
    """
    highest, lowest = np.zeros(scaled.shape, np.float32), np.zeros(scaled.shape, np.float32)
    reference, full = None, bool(known.all())
    short = not suits(REFERENCE[1], width, len(scaled))
    more = (WIDE_KERNELS if half > WIDE else ()) + (WIDEST_KERNELS if half > WIDEST else ())
    kernels = [kernel for kernel in KERNELS + more if suits(kernel[1], width, len(scaled))]
    room = np.empty_like(scaled)  # for sums over channels, each made of the one before
    for size, several in groupby(kernels, key=lambda kernel: kernel[0]):
        plane = scaled
        if size:
            plane = blurred(scaled, size * beam * gaussian_fwhm_to_sigma, overwrite and size == kernels[-1][0])
        seen, before = plane, 0
        for _, channels in several:
            if channels > 1:
                widen_sums(room, plane, before, channels)
                seen, before = room, channels
            unit = channels * noise.smoothed(size * beam, channels)  # of the sums
            negative, count = some_negatives(seen.ravel(), None if full else known.ravel(), SAMPLED)
            if count > 500:
                unit *= float(np.clip(float(medians(negative)) / -NORMAL_MAD / unit, 1, 3))
            for part in in_blocks(seen.size):
                take_extremes(highest.ravel()[part], lowest.ravel()[part], seen.ravel()[part], unit)
            if (size, channels) == REFERENCE or short:
                answer = seen / np.float32(unit)
                reference = answer if reference is None else np.maximum(reference, answer, out=reference)
                del answer
        del plane, seen  # before there is another
    assert reference is not None
    return Contrast(highest, lowest[lowest < 0], reference)


def take_extremes(highest: np.ndarray, lowest: np.ndarray, seen: np.ndarray, unit: float) -> None:
    """Raise and lower extremes (n,) to what is seen there in units of its noise, beyond the lowest threshold."""
    where = np.flatnonzero(np.abs(seen) > THRESHOLDS[0] * unit)  # few, so that whole planes need not be compared
    values = seen[where] / np.float32(unit)
    over = values > 0
    for extreme, choose, chosen in ((highest, np.maximum, over), (lowest, np.minimum, ~over)):
        extreme[where[chosen]] = choose(extreme[where[chosen]], values[chosen])


def suits(channels: int, width: float, n_channels: int) -> bool:
    """Whether a kernel of ``channels`` channels is short enough for a line and a band."""
    return channels <= max(1, MOST_OF_BAND * n_channels) and (channels <= 3 or channels <= MOST_OF_LINE * width + 1)


def smoothed(planes: np.ndarray, fwhm: float, channels: int) -> np.ndarray:
    """Planes (channels, ny, nx) after a Gaussian of ``fwhm`` pixels and a mean over some channels."""
    if fwhm > 0:
        planes = blurred(planes, fwhm * gaussian_fwhm_to_sigma)
    if channels == 1:
        return planes
    total = channel_sums(planes, channels)
    total /= np.float32(channels)
    return total


def brightest_voxel(
    image: np.ndarray, place: tuple[float, float], channels: tuple[int, int], reach: float
) -> tuple[int, int, int]:
    """The brightest voxel within ``reach`` pixels of a position (y, x) and in a half-open range of channels."""
    ny, nx = image.shape[1:]
    y0, y1, x0, x1 = (
        int(np.clip(v, 0, n - e))
        for v, n, e in (
            (np.floor(place[0] - reach), ny, 1),
            (np.ceil(place[0] + reach) + 1, ny, 0),
            (np.floor(place[1] - reach), nx, 1),
            (np.ceil(place[1] + reach) + 1, nx, 0),
        )
    )
    first, last = max(0, channels[0]), min(len(image), max(channels[1], channels[0] + 1))
    y, x = np.ogrid[y0:y1, x0:x1]
    near = np.hypot(y - place[0], x - place[1]) <= reach
    part = np.where(near, image[first:last, y0:y1, x0:x1], -np.inf)
    brightest = np.unravel_index(int(part.argmax()), part.shape)
    return int(brightest[0]) + first, int(brightest[1]) + y0, int(brightest[2]) + x0


def split_by_watershed(contrast: Contrast, threshold: float, seeds: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Assign each voxel above a threshold to a detection.

    Parameters
    ----------
    seeds
        (channel, y, x) of the detections' brightest voxels.

    Returns
    -------
    numpy.ndarray
        Labels, int32: 0 for none, 1 for the first seed, and so on; parts without a seed are not labelled.
    """
    over = contrast.highest > threshold
    labels = np.zeros(over.shape, np.int32)
    for seed in seeds:
        if not over[seed] or labels[seed]:
            continue
        part, inside = connected_voxels(over, seed)
        within = {
            n: tuple(int(i - p.start) for i, p in zip(other, part, strict=True))
            for n, other in enumerate(seeds, 1)
            if all(p.start <= i < p.stop for i, p in zip(other, part, strict=True))
        }
        numbers = [n for n, place in within.items() if inside[place]]
        if len(numbers) == 1:
            labels[part][inside] = numbers[0]
            continue
        from skimage.segmentation import watershed

        markers = np.zeros(inside.shape, np.int32)
        for number in numbers:
            markers[within[number]] = number
        labels[part] += watershed(-contrast.reference[part], markers, mask=inside).astype(np.int32)
    return labels


def connected_voxels(over: np.ndarray, seed: tuple[int, int, int]) -> tuple[tuple[slice, ...], np.ndarray]:
    """The voxels connected to a seed, also diagonally: the part of the cube that contains them, and its mask.

    The part around the seed is enlarged until none of the voxels touches its border.
    """
    reach = FIRST_REACH
    while True:
        part = tuple(slice(max(0, i - reach), min(n, i + reach + 1)) for i, n in zip(seed, over.shape, strict=True))
        parts = ndimage.label(over[part], np.ones((3, 3, 3)))[0]
        inside = parts == parts[tuple(i - p.start for i, p in zip(seed, part, strict=True))]
        ends = [
            (p.start > 0 and np.moveaxis(inside, axis, 0)[0].any())
            or (p.stop < n and np.moveaxis(inside, axis, 0)[-1].any())
            for axis, (p, n) in enumerate(zip(part, over.shape, strict=True))
        ]
        if not any(ends):
            return part, inside
        reach *= 2


def dilated(mask: np.ndarray, pixels: int, channels: int) -> np.ndarray:
    """A mask (channels, ny, nx) dilated by ``pixels`` along y and x, and by ``channels`` along the spectral axis."""
    for axis, reach in ((0, channels), (1, pixels), (2, pixels)):
        wider = mask.copy()
        for step in range(1, min(reach, mask.shape[axis] - 1) + 1):
            later, earlier = [slice(None)] * 3, [slice(None)] * 3
            later[axis], earlier[axis] = slice(step, None), slice(None, -step)
            wider[tuple(later)] |= mask[tuple(earlier)]
            wider[tuple(earlier)] |= mask[tuple(later)]
        mask = wider
    return mask


def grown(own: np.ndarray, others: np.ndarray, known: np.ndarray, pixels: int, channels: int) -> np.ndarray:
    """A mask dilated by some pixels and channels, within known voxels that do not belong to others."""
    reach = max(pixels, channels)
    part = tuple(slice(max(0, bound.start - reach), bound.stop + reach) for bound in bounds(own))
    small, free = own[part], known[part] & ~others[part]
    for step in range(reach):
        wider = small.copy()
        if step < pixels:  # by a disc's steps, not a square's
            wider[:, 1:] |= small[:, :-1]
            wider[:, :-1] |= small[:, 1:]
            wider[:, :, 1:] |= small[:, :, :-1]
            wider[:, :, :-1] |= small[:, :, 1:]
        if step < channels:
            wider = dilated(wider, 0, 1)
        small = wider & free
    larger = np.zeros_like(own)
    larger[part] = small
    return larger
