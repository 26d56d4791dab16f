"""Several finds that are one source, and one that is several: extended emission, and blends told by their lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import logit

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.constants import BEAM_AREA, BOX_LEVEL
from napari_almadet.measure.focus import Cutout, focus, voxel_noise, without_continuum
from napari_almadet.measure.planes import robust_std
from napari_almadet.measure.spectra import overlap
from napari_almadet.search.extent import (
    EXTENDED,
    PATCH_SNR,
    Seen,
    line_channel,
    line_width,
    measure_extent,
    spectrum_over,
)
from napari_almadet.search.features import LINE_SNR
from napari_almadet.search.noise_units import differences
from napari_almadet.search.raw_detection import RawDetection, separation
from napari_almadet.search.windows import Window

SMALLEST = 2.5  # beams: a point source of S/N 50 is as large over 5 sigma
PART = 5.0  # beams, of a part of a patch that has lines of its own
JUMP = 1.0  # widths of a line, by which it does not move from one pixel to the next in one galaxy
SURE = 0.5  # chance that Source Finder gives to what it knows
OUTSTANDING = 0.6  # of a patch's peak: what is as bright and yet nothing Source Finder knows is extended emission
OVERSHADOWED = 0.05  # of the brightest source: what is fainter may be sidelobes that run into each other
PLACE_ERRORS = 1.7  # times the width over the SNR: two lines of one source are seen further apart once in fifty times


def merge_extended(finds: list[RawDetection], seen: Seen, window: Window, n_channels: int) -> list[RawDetection]:
    """Make one find of those of a window that lie in one patch of extended emission.

    Source Finder knows sources of up to three beams.  In a nearby galaxy it sees the brightest places of what is one
    source; each of the :func:`patches` is taken for one, and its box is the patch's.  Its spectrum is
    the sum over the patch.  Patches that reach beyond what is the window's own are left to
    :func:`merge_extended_across_windows`; the
    finds in a :func:`crowd`, and in what a far brighter source outshines, stay as they are.

    The finds of a patch know its :class:`~napari_almadet.search.raw_detection.Extent`; those of a smaller one too, if
    Source Finder is sure of none of them.  A patch whose lines jump is :func:`parted_by_lines` first.
    """
    strength, beam = seen.strength, seen.beam
    least = EXTENDED * BEAM_AREA * beam**2
    found = [(patch, bool(patch.sum() >= least)) for patch, _ in patches(strength, beam, SMALLEST)]
    found = [(part, large) for patch, large in found for part in (parted_by_lines(patch, seen) if large else [patch])]
    for patch, large in found:
        peak = brightest_place(patch, strength)
        members = [find for find in finds if in_patch(find, patch, window)]
        if not members or (crowd(members, strength[peak]) if large else any(sure(find) for find in members)):
            continue
        extent = measure_extent(patch, members, seen)
        for find in members:
            find.extent = extent
        outshone = strength[peak] < OVERSHADOWED * strength.max()
        if not large or reaches_out(patch, window) or outshone:
            continue
        one = as_one(members, patch, strength[peak], window, beam, strength)
        total = spectrum_over(patch, seen)
        one.spectrum = in_own_noise(total, seen.units.channels.cpu().numpy(), n_channels)
        finds = [f for f in finds if not any(f is member for member in members)] + [one]
    return finds


def merge_extended_across_windows(
    finds: list[RawDetection], strength: np.ndarray, field: Window, beam: float
) -> tuple[list[RawDetection], list]:
    """The same for the patches of a field that lie in several windows.

    Parameters
    ----------
    finds
        Of all windows, each source once.
    strength
        Of the field, made of what is each window's own.
    field
        A window as large as the field.

    Returns
    -------
    finds, patches
        The finds without those that are in patches, and (find, patch) of each of these: they have no spectrum yet.
    """
    across = []
    for patch, peak in patches(strength, beam):
        members = [find for find in finds if in_patch(find, patch, field)]
        if not any(find.box for find in members):
            if not members or crowd(members, strength[peak]):
                continue
            across.append((as_one(members, patch, strength[peak], field, beam, strength), patch))
        gone = [find for find in members if not find.box]  # another window's, of what is known as a patch
        finds = [f for f in finds if not any(f is member for member in gone)]
    return finds, across


def patches(strength: np.ndarray, beam: float, least: float = EXTENDED) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Masks of extended emission, and where it is brightest.

    A patch is more than ``least`` beams over 5 sigma, and over a tenth of its own peak.
    """
    labels = ndimage.label(strength >= PATCH_SNR, np.ones((3, 3)))[0]
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if place is None or (labels[place] == number).sum() < least * BEAM_AREA * beam**2:
            continue
        inside = labels == number
        peak = brightest_place(inside, strength)
        parts = ndimage.label(inside & (strength >= strength[peak] / 10), np.ones((3, 3)))[0]
        patch = parts == parts[peak]
        if patch.sum() >= least * BEAM_AREA * beam**2:
            yield patch, peak


def brightest_place(patch: np.ndarray, strength: np.ndarray) -> tuple[int, int]:
    """Where a patch is strongest, (y, x)."""
    y, x = np.unravel_index(np.argmax(np.where(patch, strength, 0)), strength.shape)
    return int(y), int(x)


def parted_by_lines(patch: np.ndarray, seen: Seen) -> list[np.ndarray]:
    """The parts of a patch between which the best line jumps: galaxies that touch, at velocities of their own.

    Within one galaxy the line's channel goes on from pixel to pixel, by less than :data:`JUMP` widths of the wider of
    two lines.  Parts of :data:`PART` beams and more count; what is left of the patch goes to the nearest.
    """
    area = BEAM_AREA * seen.beam**2
    labels = without_jumps(patch, seen)
    sizes = np.bincount(labels[patch])
    large = np.flatnonzero(sizes >= PART * area)
    if len(large) < 2:
        return [patch]
    nearest = ndimage.distance_transform_edt(
        ~(patch & np.isin(labels, large)), return_distances=False, return_indices=True
    )
    whose = labels[tuple(nearest)]
    return [patch & (whose == number) for number in large]


def without_jumps(patch: np.ndarray, seen: Seen) -> np.ndarray:
    """Number of the part that each pixel of a patch belongs to, (ny, nx); parts hang together by their lines."""
    is_line = patch & (seen.line >= PATCH_SNR)
    labels = np.where(patch, 0, -1)
    if not is_line.any():
        return labels
    # what has no line of its own has that of the nearest place
    nearest = ndimage.distance_transform_edt(~is_line, return_distances=False, return_indices=True)
    channel, width = (image[tuple(nearest)] for image in (line_channel(seen), line_width(seen)))
    number = np.full(patch.shape, -1)
    number[patch] = np.arange(np.count_nonzero(patch))
    ny, nx = patch.shape
    pairs = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows = slice(0, ny - dy), slice(dy, ny)
        columns = (slice(0, nx - dx), slice(dx, nx)) if dx >= 0 else (slice(1, nx), slice(0, nx - 1))
        one, other = zip(rows, columns, strict=True)
        apart = np.abs(channel[one] - channel[other])
        hang = patch[one] & patch[other] & (apart <= JUMP * np.maximum(width[one], width[other]))
        pairs.append((number[one][hang], number[other][hang]))
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    count = int(number.max()) + 1
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    labels[patch] = connected_components(graph, directed=False)[1]
    return labels


def with_unseen(rows: np.ndarray, seen: Seen) -> np.ndarray:
    """Source Finder's places, and the brightest one of each large patch in which it sees none.

    Parameters
    ----------
    rows
        As :func:`~napari_almadet.search.features.centres` gives them.
    """
    added = []
    iy, ix = (
        np.rint(rows[:, i]).astype(int).clip(0, n - 1) for i, n in ((1, seen.valid.shape[0]), (2, seen.valid.shape[1]))
    )
    for patch, (y, x) in patches(seen.strength, seen.beam):
        if not patch[iy, ix].any():
            sigma = seen.beam / gaussian_sigma_to_fwhm
            added.append((float(seen.answer[0][y, x]), y, x, sigma, sigma))
    return np.concatenate([rows, np.array(added, rows.dtype).reshape(-1, 5)])


def crowd(members: list[RawDetection], brightest: float) -> bool:
    """Whether a patch is two sources or more that run into each other, and no extended emission.

    Source Finder is then sure of them, and leaves nothing nearly as bright as the patch's peak that it is not sure of.
    """
    strength = [max(find.features.snr_stacked, find.features.snr_line) for find in members]
    known = [sure(find) for find in members]
    return sum(known) > 1 and all(s or snr < OUTSTANDING * brightest for s, snr in zip(known, strength, strict=True))


def sure(find: RawDetection) -> bool:
    """Whether Source Finder is sure of a find."""
    return bool(find.features.detection_logit >= logit(SURE))


def in_patch(find: RawDetection, patch: np.ndarray, window: Window) -> bool:
    """Whether a find's centre lies in a patch of a window, whose border counts for what is beyond it."""
    place = zip((find.y, find.x), (window.y, window.x), patch.shape, strict=True)
    return bool(patch[tuple(min(max(round((c + 0.5) / window.k - 0.5) - first, 0), n - 1) for c, first, n in place)])


def reaches_out(patch: np.ndarray, window: Window) -> bool:
    """Whether a patch touches a border between what is a window's own and a neighbour's."""
    inner = tuple(
        slice(own.start + (own.start > 0), own.stop - (own.stop < n))
        for own, n in zip(window.owned, window.shape, strict=True)
    )
    return bool(patch.sum() > patch[inner].sum())


def as_one(
    members: list[RawDetection], patch: np.ndarray, brightest: float, window: Window, beam: float, strength: np.ndarray
) -> RawDetection:
    """One find for all members of a patch; its spectrum is still the brightest member's."""
    k = window.k
    best = max(members, key=lambda f: f.features.snr_both)
    (y0, y1), (x0, x1) = ((int(i.min()), int(i.max()) + 1) for i in np.nonzero(patch))
    ends = ((window.y, y0), (window.y, y1), (window.x, x0), (window.x, x1))
    centre = ndimage.center_of_mass(np.where(patch, strength, 0))
    beams = patch.sum() / (BEAM_AREA * beam**2)
    candidate = Candidate(0, Box(0, 0, 0, 0), best.candidate.prob, status=Status.FLAGGED, blended=len(members) > 1)
    candidate.decide("found_extended", beams=float(beams), snr=float(brightest), places=len(members))
    y, x = (float((c + o + 0.5) * k - 0.5) for c, o in zip(centre, (window.y, window.x), strict=True))
    sigma_y, sigma_x = (float((b - a) * k / (2 * np.sqrt(-2 * np.log(BOX_LEVEL)))) for a, b in ((y0, y1), (x0, x1)))
    return RawDetection(
        candidate,
        y,
        x,
        sigma_y,
        sigma_x,
        best.spectrum,
        best.features,
        window,
        Box(*(round(k * (first + end)) for first, end in ends)),
        max((f.extent for f in members if f.extent), key=lambda extent: extent.beams, default=None),
    )


def in_own_noise(total: np.ndarray, channels: np.ndarray, n_channels: int) -> np.ndarray:
    """A spectrum of some ``channels`` in units of its noise, as differences of channels tell it; 0 in the others."""
    spectrum = np.zeros(n_channels, np.float32)
    spectrum[channels] = total / max(float(robust_std(differences(total))) / np.sqrt(2), 1e-9)
    return spectrum


def part_by_lines(find: RawDetection, finds: list[RawDetection], cutout: Cutout) -> RawDetection | None:
    """Take a source apart whose lines come from different places (paper, step 9).

    A line that another find nearby has too is that one's.  Each other line is focused on, with the continuum
    taken off, and its place is the centroid of what is near the candidate.  One that lies further from the
    first line's place than its noise lets it stray is another source's.

    Returns
    -------
    Find or None
        The other source; the find keeps the rest, and moves to its own line's place.
    """
    candidate = find.candidate
    if len(candidate.peaks) < 2 or find.box:
        return None
    planes, n_channels = cutout.planes, len(cutout.planes)
    lines, rms = without_continuum(planes, candidate.peaks), voxel_noise(planes, candidate.peaks)
    fwhm = gaussian_sigma_to_fwhm * np.sqrt(find.sigma_y * find.sigma_x)
    first, *rest = candidate.peaks
    place, snr = place_of(lines, first.emission_range(n_channels), find, cutout.origin, fwhm, rms)
    if snr < LINE_SNR:
        return None
    for peak in rest:
        channels = peak.emission_range(n_channels)
        if overlap(channels, candidate.channels):
            continue
        whose = next((f for f in finds if f is not find and has_line_near(f, peak, find, 2.5 * fwhm)), None)
        if whose:
            candidate.peaks = tuple(p for p in candidate.peaks if p is not peak)
            candidate.decide("line_of_another", ids=(whose.candidate.id,), channel=peak.channel)
            continue
        own, own_snr = place_of(lines, channels, find, cutout.origin, fwhm, rms)
        apart = float(np.hypot(own[0] - place[0], own[1] - place[1]))
        if own_snr < LINE_SNR or not max(1.0, PLACE_ERRORS * fwhm / min(snr, own_snr)) < apart < fwhm:
            continue
        candidate.peaks = tuple(p for p in candidate.peaks if p is not peak)
        other = Candidate(
            max(f.candidate.id for f in finds) + 1, candidate.box, candidate.prob, kind="line", blended=True
        )
        other.peaks, other.channels, other.denoised = (peak,), channels, candidate.denoised
        other.decide("found_by_its_line", ids=(candidate.id,), channel=peak.channel, distance=apart)
        candidate.blended = True
        candidate.decide("line_elsewhere", channel=peak.channel, distance=apart)
        find.y, find.x = place
        return replace(find, candidate=other, y=own[0], x=own[1])
    return None


def has_line_near(other: RawDetection, peak: EmissionPeak, find: RawDetection, distance: float) -> bool:
    """Whether another find, no further than ``distance`` from this one, shows the same line, and is there to stay."""
    near = separation(other, find) < distance
    return (
        near and other.candidate.status is not Status.DROPPED and any(peak.same_line(p) for p in other.candidate.peaks)
    )


def place_of(
    lines: np.ndarray, channels: tuple[int, int], find: RawDetection, origin: tuple[int, int], fwhm: float, rms: float
) -> tuple[tuple[float, float], float]:
    """Where a line comes from, (y, x) in the cube's pixels, and its SNR there.

    The peak of the image focused on it, within half a width of the find, then the centroid of what is over half of
    the peak about it.
    """
    image = np.nan_to_num(focus(lines, channels))
    y, x = np.indices(image.shape)
    about = np.hypot(y + origin[0] - find.y, x + origin[1] - find.x) <= fwhm / 2
    if not about.any():
        return (find.y, find.x), 0.0
    peak = np.unravel_index(np.argmax(np.where(about, image, -np.inf)), image.shape)
    bright = (np.hypot(y - peak[0], x - peak[1]) <= fwhm / 2) & (image > image[peak] / 2)
    weight = np.where(bright, image, 0).astype(float)
    snr = float(image[peak] / (rms * np.sqrt(channels[1] - channels[0])))
    row, column = (float((weight * grid).sum() / weight.sum()) + o for grid, o in zip((y, x), origin, strict=True))
    return (row, column), snr
