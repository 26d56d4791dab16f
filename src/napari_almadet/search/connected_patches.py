"""Pieces of one object: patches of extended emission between which its line is seen all the way.

A cloud that is 5 sigma bright in some places only is detected in pieces.  Between them it is still there, in the same
channels.  Two galaxies that touch are two, because each is much brighter than what is between them.  Within a patch,
the line of a rotating disc jumps from one horn of its profile to the other, but its voxels are connected; those of two
galaxies that lie on top of each other are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from napari_almadet.catalogue.candidate import Status
from napari_almadet.constants import FOUR_LN2
from napari_almadet.measure.spectra import remove_baseline
from napari_almadet.search.patch_properties import (
    NEIGHBOURS,
    PATCH_SNR,
    SearchedWindow,
    line_channel,
    line_images,
    line_width,
    surroundings,
)
from napari_almadet.search.raw_detection import RawDetection

# From the patches of eight simulated clouds (validation), whose pieces are joined at 2.7 to 4.8 sigma, a piece being at
# most 2.6 times as bright.
BRIDGE = 2.5  # sigma, least S/N of the line all the way between two pieces
PROMINENT = 3.0  # times that S/N: what is brighter than this is an object of its own
FARTHEST = 8.0  # beams between the edges of two pieces
SHIFTS = (-0.5, 0.0, 0.5)  # FWHM by which the line may have moved from one piece to the other
VOXEL = 3.0  # sigma, least S/N of a voxel between two parts; derived: one of a thousand voxels of noise is as high
IN_ONE_PATCH = 5.0  # times the S/N between two parts of one patch; clumps of 20 simulated galaxies are up to 3.6 times
NARROWER = 0.5  # of the lines' FWHM, over which channels are averaged: lines twice as far apart stay separate


def object_numbers(found: Sequence[np.ndarray], whole: Sequence[int], seen: SearchedWindow) -> list[int]:
    """Number of the object that each patch is a piece of.

    Parameters
    ----------
    found
        Masks of patches, (ny, nx) each.
    whole
        Number of the patch that each was a part of before it was separated by its lines: such parts are not joined.
    """
    if len(found) < 2:
        return list(range(len(found)))
    order = sorted(range(len(found)), key=lambda i: int(found[i].sum()))
    reach = FARTHEST * seen.beam
    pairs = []
    for rank, i in enumerate(order):
        place = surroundings(found[i], round(reach))
        patch, about = found[i][place], seen.about(place)
        near = ndimage.distance_transform_edt(~patch) <= reach
        larger = [j for j in order[rank + 1 :] if whole[j] != whole[i] and (near & found[j][place]).any()]
        if larger:
            line = line_image(int(np.where(patch, about.line, -np.inf).argmax()), about)
            pairs += [(i, j) for j in larger if bridged(line, patch, found[j][place])]
    a, b = np.array(pairs, int).reshape(-1, 2).T
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(found), len(found)))
    return [int(number) for number in connected_components(graph, directed=False)[1]]


def line_image(place: int, seen: SearchedWindow) -> np.ndarray:
    """S/N (ny, nx) of the best line at a place (its index), wherever else it is, moved by up to half its width."""
    y, x = np.unravel_index(place, seen.valid.shape)
    best = line_images([(int(y), int(x))], seen, SHIFTS)[0].max(axis=0)
    return np.where(seen.valid, best, -np.inf)


def bridged(line: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the S/N of a line stays over :data:`BRIDGE` all the way between two patches, and over a part of the peak.

    ``line`` is that S/N (ny, nx); the peak is that of the fainter one.
    """
    peak = min(float(line[one].max()), float(line[other].max()))
    labels = ndimage.label(line >= max(BRIDGE, peak / PROMINENT), NEIGHBOURS)[0]
    return bool(np.isin(labels[one], np.unique(labels[other][labels[other] > 0])).any())


def join_pieces(detections: Sequence[RawDetection]) -> None:
    """Make the kept or flagged pieces of an object parts of the largest one, which is as probable as the likeliest."""
    groups: dict[int, list[RawDetection]] = {}
    for detection in detections:
        if detection.piece_of and detection.candidate.status is not Status.DROPPED and detection.extent is not None:
            groups.setdefault(detection.piece_of, []).append(detection)
    for group in groups.values():
        first, *others = sorted(group, key=size, reverse=True)
        for part in others:
            make_part(part, first, "piece_of", "joined_with")


def size(detection: RawDetection) -> tuple[bool, float, float]:
    """What the largest of some patches is chosen by: its area, if it is large, and its brightness."""
    assert detection.extent is not None
    return detection.box is not None, detection.extent.beams, detection.features.snr_both


def make_part(part: RawDetection, whole: RawDetection, part_rule: str, whole_rule: str) -> None:
    """Make a detection a part of another, which is as probable as the likelier of the two, by two rules."""
    candidate, other = whole.candidate, part.candidate
    other.parent = candidate.id
    if other.prob > candidate.prob and other.status is Status.KEPT:
        candidate.prob = other.prob
        candidate.decide("as_its_part", Status.KEPT, ids=(other.id,), prob=other.prob)
    other.decide(part_rule, Status.DROPPED, ids=(candidate.id,))
    candidate.decide(whole_rule, ids=(other.id,))


def connected(parts: Sequence[np.ndarray], patch: np.ndarray, seen: SearchedWindow) -> list[int]:
    """Number of the object that each part of a patch belongs to, by emission in position and velocity.

    Two parts are one object if a path of voxels leads from the brightest of one to that of the other, through
    neighbours in position and channel that all exceed :data:`VOXEL`, and the fainter peak over :data:`IN_ONE_PATCH`.

    Parameters
    ----------
    parts
        Masks (ny, nx) of the parts.
    patch
        That of the patch: paths do not leave it.
    """
    place = surroundings(patch, 0)
    parts, about = [part[place] for part in parts], seen.about(place)
    voxels, first = line_voxels(patch[place], about)
    peaks = [brightest_voxel(part, voxels, first, about) for part in parts]
    order = sorted(range(len(parts)), key=lambda i: -voxels[peaks[i]])
    number = list(range(len(parts)))
    for rank, i in enumerate(order[1:], 1):
        level = max(VOXEL, float(voxels[peaks[i]]) / IN_ONE_PATCH)
        labels = ndimage.label(voxels >= level, np.ones((3, 3, 3)))[0]
        same = {number[j] for j in order[:rank] if labels[peaks[i]] and labels[peaks[j]] == labels[peaks[i]]}
        number = [min(same) if same and n in {*same, number[i]} else n for n in number]
    return number


def one_object_at(places: Sequence[tuple[float, float]], patch: np.ndarray, seen: SearchedWindow) -> bool:
    """Whether places (y, x) in the pixels of a window are :func:`connected` within a patch, (ny, nx)."""
    y, x = np.indices(patch.shape)
    spots = [patch & (np.hypot(y - row, x - column) <= max(1.0, seen.beam / 2)) for row, column in places]
    return all(spot.any() for spot in spots) and len(set(connected(spots, patch, seen))) == 1


def line_voxels(patch: np.ndarray, seen: SearchedWindow) -> tuple[np.ndarray, int]:
    """S/N of the voxels (channels, ny, nx) of a patch without continuum, and the first of these channels.

    They are averaged over a part of the lines' width, and contain the channels in which the patch has lines.
    """
    lines = patch & (seen.line >= PATCH_SNR)
    lines = lines if lines.any() else patch
    channel, wide = line_channel(seen)[lines], line_width(seen)[lines]
    first, last = max(0, int((channel - wide).min())), min(len(seen.units.cube), int((channel + wide).max()) + 1)
    reach = np.arange(-len(seen.units.cube), len(seen.units.cube) + 1)
    kernel = np.exp(-FOUR_LN2 * (reach / max(NARROWER * float(np.median(wide)), 1.0)) ** 2)
    kernel = kernel[kernel > kernel.max() / 100]
    kernel /= np.sqrt((kernel**2).sum()) * max(1.0, seen.noise_correlation)
    voxels = np.full((last - first, *patch.shape), -np.inf, np.float32)
    for row in np.flatnonzero(patch.any(axis=1)):
        spectra = remove_baseline(seen.units.cube[:, row, patch[row]].T.cpu().numpy())
        averaged = ndimage.convolve1d(spectra, kernel, axis=1, mode="constant")
        voxels[:, row, patch[row]] = averaged[:, first:last].T
    return voxels, first


def brightest_voxel(part: np.ndarray, voxels: np.ndarray, first: int, seen: SearchedWindow) -> tuple[int, int, int]:
    """The brightest of :func:`line_voxels` (channel, y, x) of a part within the best line of each place."""
    apart = np.abs(np.arange(first, first + len(voxels))[:, None, None] - line_channel(seen))
    own = part & (apart <= np.maximum(line_width(seen) / 2, 1))
    channel, y, x = np.unravel_index(int(np.where(own, voxels, -np.inf).argmax()), voxels.shape)
    return int(channel), int(y), int(x)
