"""Extended emission, merged into one detection, and blends, separated by their lines."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm
from scipy import ndimage
from scipy.special import logit, ndtri

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.constants import BEAM_AREA, BOX_LEVEL
from napari_almadet.measure.focus import Cutout, focus, voxel_noise, without_continuum
from napari_almadet.measure.planes import robust_std
from napari_almadet.measure.spectra import overlap
from napari_almadet.measure.stacking import Stacking
from napari_almadet.progress import Progress
from napari_almadet.search.connected_patches import connected, object_numbers, one_object_at
from napari_almadet.search.features import LINE_SNR, centres
from napari_almadet.search.noise_units import differences, resample
from napari_almadet.search.patch_properties import (
    EXTENDED,
    PATCH_SNR,
    SMALLEST,
    SearchedWindow,
    line_channel,
    line_width,
    measure_extent,
    spectrum_over,
)
from napari_almadet.search.raw_detection import RawDetection, separation
from napari_almadet.search.windows import Window, read_blocks

if TYPE_CHECKING:
    import torch

    from napari_almadet.cube.cube import Cube

# Values without another origin were chosen by eye; no set of cubes has chosen them.
JUMP = 1.0  # line widths: within one galaxy the velocity changes by less from one pixel to the next
SURE = 0.5  # detection score above which Source Finder is certain; derived: more likely a source than not
OUTSTANDING = 0.6  # of the peak of a patch: if parts as bright as this are not detected with certainty, it is extended
OVERSHADOWED = 0.05  # of the brightest source: fainter patches may be overlapping sidelobes
RESOLVED = (
    1.6  # beams, FWHM from which a source is not a blend of two within a beam; derived: two a beam apart have 1.4
)
# Chance of a second source from noise: of its line, in a band, and of its distance from the first line.  One cube in
# some hundred has one, with ten sources each.
FALSE_SOURCE = 1e-3
# How much likelier noise exceeds 5 sigma somewhere within half a beam of a place than at that place; of simulated noise
# with a beam of five pixels it is 5, 7 and 8 times at 2.5, 3.5 and 4 sigma
PLACES = 10
# Error of a place along one axis, times width / SNR: that of a fit in noise that is like the beam. Places as they are
# measured here scatter by 0.36 in simulated noise at S/N 6, and by less in brighter lines, but with wider wings.
PLACE_ERROR = 0.49


def merge_extended(detections: list[RawDetection], seen: SearchedWindow, window: Window) -> list[RawDetection]:
    """Merge the detections of a window that lie in the same patch of extended emission.

    Source Finder was trained on sources up to three beams wide; in a nearby galaxy it detects only the brightest parts.
    Each of the :func:`patches` becomes one detection with the box of the patch, and its spectrum is the sum over the
    patch.  Patches that extend beyond the core of the window are left to :func:`merge_extended_across_windows`.
    Detections in a :func:`crowd` that is not :func:`one_object`, and near a far brighter source, are not changed.

    The detections of a patch know its :class:`~napari_almadet.search.raw_detection.Extent`; those of a smaller one
    too, if nothing far brighter is near.  A patch whose lines jump is :func:`separated_by_lines` first.  Patches of one
    object have its number, see :func:`~napari_almadet.search.connected_patches.object_numbers`; smaller ones only if
    Source Finder is sure of no detection in them.
    """
    strength, beam = seen.strength, seen.beam
    least = seen.least_extended * BEAM_AREA * beam**2
    whole = [(patch, bool(patch.sum() >= least)) for patch, _ in patches(seen.clear_strength, beam, SMALLEST)]
    found = [
        (number, part, large)
        for number, (patch, large) in enumerate(whole)
        for part in (separated_by_lines(patch, seen) if large else [patch])
    ]
    judged: list[tuple[int, np.ndarray, list[RawDetection]]] = []
    for number, patch, large in found:
        peak = brightest_place(patch, strength)
        members = [detection for detection in detections if patch[window.pixel_at(detection.y, detection.x)]]
        if not members or (large and crowd(members, strength[peak]) and not one_object(members, patch, seen, window)):
            continue
        outshone = strength[peak] < OVERSHADOWED * strength.max()
        if outshone and not large:
            continue
        extent = measure_extent(patch, members, seen)
        for detection in members:
            detection.extent = extent
        compact = not large and any(sure(detection) for detection in members)
        if reaches_out(patch, window) or outshone or compact:
            continue
        if large:
            one = as_one(members, patch, strength[peak], window, beam, strength)
            total = spectrum_over(patch, seen)
            (one.spectrum,) = seen.units.in_all_channels(in_own_noise(total)[None])
            detections = [f for f in detections if not any(f is member for member in members)] + [one]
            members = [one]
        judged.append((number, patch, members))
    objects = object_numbers([patch for _, patch, _ in judged], [number for number, _, _ in judged], seen)
    for (_, _, members), number in zip(judged, objects, strict=True):
        for detection in members:
            detection.piece_of = number + 1 if objects.count(number) > 1 else 0
    return detections


def merge_extended_across_windows(
    detections: list[RawDetection], strength: np.ndarray, field: Window, beam: float
) -> tuple[list[RawDetection], list]:
    """Merge the detections in patches of extended emission that span several windows.

    Parameters
    ----------
    detections
        Of all windows, each source once.
    strength
        Image of the field, combined from the cores of the windows.
    field
        A window as large as the field.

    Returns
    -------
    detections, patches
        The detections outside patches, and (detection, patch) for each patch; these have no spectrum yet.
    """
    across = []
    for patch, peak in patches(strength, beam):
        members = [detection for detection in detections if patch[field.pixel_at(detection.y, detection.x)]]
        if not any(detection.box for detection in members):
            if not members or crowd(members, strength[peak]):
                continue
            across.append((as_one(members, patch, strength[peak], field, beam, strength), patch))
        replaced = [
            detection for detection in members if not detection.box
        ]  # another window's, of what is known as a patch
        detections = [f for f in detections if not any(f is member for member in replaced)]
    return detections, across


def patches(strength: np.ndarray, beam: float, least: float = EXTENDED) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Masks of extended emission, and the positions of their peaks.

    A patch covers more than ``least`` beams above 5 sigma and above a tenth of its peak.
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
    """The position of the peak of a patch, (y, x)."""
    y, x = np.unravel_index(np.argmax(np.where(patch, strength, 0)), strength.shape)
    return int(y), int(x)


def separated_by_lines(patch: np.ndarray, seen: SearchedWindow) -> list[np.ndarray]:
    """The parts of a patch between which the best line jumps in velocity: touching galaxies.

    Within one galaxy, the channel of the line changes by less than :data:`JUMP` line widths between neighbouring
    pixels, or the voxels of both parts are :func:`~napari_almadet.search.connected_patches.connected`, as where the
    best line is sometimes one horn and sometimes the other.  Only parts of at least :data:`SMALLEST` beams count; the
    rest of the patch is assigned to the nearest part.
    """
    area = BEAM_AREA * seen.beam**2
    labels = without_jumps(patch, seen)
    sizes = np.bincount(labels[patch])
    large = np.flatnonzero(sizes >= SMALLEST * area)
    if len(large) < 2:
        return [patch]
    nearest = ndimage.distance_transform_edt(
        ~(patch & np.isin(labels, large)), return_distances=False, return_indices=True
    )
    whose = labels[tuple(nearest)]
    parts = [patch & (whose == number) for number in large]
    objects = connected(parts, patch, seen)
    return [np.any([part for part, o in zip(parts, objects, strict=True) if o == one], axis=0) for one in set(objects)]


def without_jumps(patch: np.ndarray, seen: SearchedWindow) -> np.ndarray:
    """Number of the part of each pixel of a patch, (ny, nx); parts are connected in position and velocity."""
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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    labels[patch] = connected_components(graph, directed=False)[1]
    return labels


def positions(answer: torch.Tensor, seen: SearchedWindow) -> np.ndarray:
    """Positions and sizes of the sources in a window: those of Source Finder, and patches in which it detects nothing.

    Parameters
    ----------
    answer
        Source Finder's five maps, (5, ny, nx).

    Returns
    -------
    numpy.ndarray
        As from :func:`~napari_almadet.search.features.centres`.
    """
    return with_unseen(centres(answer, seen.units.valid, seen.beam), seen)


def with_unseen(rows: np.ndarray, seen: SearchedWindow) -> np.ndarray:
    """Source Finder's positions, and the peak of each large patch in which it detects nothing.

    Parameters
    ----------
    rows
        As :func:`~napari_almadet.search.features.centres` gives them.
    """
    added = []
    iy, ix = (
        np.rint(rows[:, i]).astype(int).clip(0, n - 1) for i, n in ((1, seen.valid.shape[0]), (2, seen.valid.shape[1]))
    )
    for patch, (y, x) in patches(seen.clear_strength, seen.beam, seen.least_extended):
        if not patch[iy, ix].any():
            sigma = seen.beam / gaussian_sigma_to_fwhm
            added.append((float(seen.answer[0][y, x]), y, x, sigma, sigma))
    return np.concatenate([rows, np.array(added, rows.dtype).reshape(-1, 5)])


def crowd(members: list[RawDetection], brightest: float) -> bool:
    """Whether a patch consists of two or more overlapping compact sources instead of extended emission.

    Source Finder then detects them with certainty, and everything nearly as bright as the peak of the patch is among
    them.
    """
    strength = [max(detection.features.snr_stacked, detection.features.snr_line) for detection in members]
    known = [sure(detection) for detection in members]
    return sum(known) > 1 and all(s or snr < OUTSTANDING * brightest for s, snr in zip(known, strength, strict=True))


def one_object(members: list[RawDetection], patch: np.ndarray, seen: SearchedWindow, window: Window) -> bool:
    """Whether the voxels of all places of which Source Finder is certain are connected: they are clumps of one object.

    Compact sources beside each other have their lines in different channels.
    """
    return one_object_at([window.inside(one.y, one.x) for one in members if sure(one)], patch, seen)


def sure(detection: RawDetection) -> bool:
    """Whether Source Finder is certain of a detection."""
    return bool(detection.features.detection_logit >= logit(SURE))


def reaches_out(patch: np.ndarray, window: Window) -> bool:
    """Whether a patch touches the edge of the core of a window."""
    inner = tuple(
        slice(own.start + (own.start > 0), own.stop - (own.stop < n))
        for own, n in zip(window.owned, window.shape, strict=True)
    )
    return bool(patch.sum() > patch[inner].sum())


def as_one(
    members: list[RawDetection], patch: np.ndarray, brightest: float, window: Window, beam: float, strength: np.ndarray
) -> RawDetection:
    """Combine the members of a patch into one detection; its spectrum is still that of the brightest member."""
    k = window.k
    best = max(members, key=lambda f: f.features.snr_both)
    (y0, y1), (x0, x1) = ((int(i.min()), int(i.max()) + 1) for i in np.nonzero(patch))
    ends = ((window.y, y0), (window.y, y1), (window.x, x0), (window.x, x1))
    centre = ndimage.center_of_mass(np.where(patch, strength, 0))
    beams = patch.sum() / (BEAM_AREA * beam**2)
    candidate = Candidate(0, Box(0, 0, 0, 0), best.candidate.prob, status=Status.FLAGGED)
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


def read_patch(
    cube: Cube, detection: RawDetection, patch: np.ndarray
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray]]:
    """The spectrum of a patch that spans several windows, as the sum over its pixels, and the stacked image about it.

    The detection gets a window about the patch.

    Parameters
    ----------
    patch
        Its mask in averaged pixels of the field, (ny, nx).

    Returns
    -------
    spectrum
        In units of its noise, (channels,).
    stacked
        Of the window about the patch, in pixels of the cube.
    """
    y, x = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(patch))
    shape = (y.stop - y.start, x.stop - x.start)
    k, n_channels = detection.window.k, cube.shape[0]
    detection.window = Window(y.start, x.start, shape, (slice(0, shape[0]), slice(0, shape[1])), k)
    total, known = np.zeros(n_channels), np.zeros(n_channels, bool)
    stacking = Stacking(n_channels)
    for block, part in read_blocks(cube, detection.window):
        values = resample(part, k)[:, patch[y, x]]
        total[block], known[block] = np.nansum(values, axis=1), np.isfinite(values).any(axis=1)
        stacking.add(part)
        yield Progress("Reading the cube", block.stop, n_channels)
    spectrum = np.zeros(n_channels, np.float32)
    spectrum[known] = in_own_noise(total[known])
    return spectrum, stacking.image()


def in_own_noise(total: np.ndarray) -> np.ndarray:
    """A spectrum in units of its noise, estimated from differences between its channels."""
    return total / max(float(robust_std(differences(total))) / np.sqrt(2), 1e-9)


def part_by_lines(detection: RawDetection, detections: list[RawDetection], cutout: Cutout) -> RawDetection | None:
    """Deblend a source whose lines come from different positions (paper, step 9).

    A line that a nearby detection also has belongs to that detection.  For every other line, the position is the
    centroid near the candidate in its continuum-subtracted line-integrated image.  A line whose position differs from
    that of the first line by more than the noise allows belongs to another source, if noise hardly makes such a line
    in so many channels.

    Returns
    -------
    RawDetection or None
        The other source; the detection keeps the remaining lines, and moves to the position of its first line.
    """
    candidate = detection.candidate
    if len(candidate.peaks) < 2 or detection.box or resolved(detection):
        return None
    planes, n_channels = cutout.planes, len(cutout.planes)
    lines, rms = without_continuum(planes, candidate.peaks), voxel_noise(planes, candidate.peaks)
    fwhm = gaussian_sigma_to_fwhm * np.sqrt(detection.sigma_y * detection.sigma_x)
    first, *rest = candidate.peaks
    least = -ndtri(FALSE_SOURCE / (PLACES * n_channels))
    place, snr = place_of(lines, first.emission_range(n_channels), detection, cutout.origin, fwhm, rms)
    if snr < LINE_SNR:
        return None
    for peak in rest:
        channels = peak.emission_range(n_channels)
        if overlap(channels, candidate.channels):
            continue
        whose = next(
            (f for f in detections if f is not detection and has_line_near(f, peak, detection, 2.5 * fwhm)), None
        )
        if whose:
            candidate.peaks = tuple(p for p in candidate.peaks if p is not peak)
            candidate.decide("line_of_another", ids=(whose.candidate.id,), channel=peak.channel)
            continue
        own, own_snr = place_of(lines, channels, detection, cutout.origin, fwhm, rms)
        apart = float(np.hypot(own[0] - place[0], own[1] - place[1]))
        errors = PLACE_ERROR * fwhm * np.hypot(1 / snr, 1 / max(own_snr, LINE_SNR))
        sure_apart = max(1.0, errors * np.sqrt(2 * np.log(len(rest) / FALSE_SOURCE)))  # a distance is Rayleigh's
        if own_snr < least or not sure_apart < apart < fwhm:
            continue
        candidate.peaks = tuple(p for p in candidate.peaks if p is not peak)
        other = Candidate(
            max(f.candidate.id for f in detections) + 1, candidate.box, candidate.prob, kind="line", blended=True
        )
        other.peaks, other.channels, other.denoised = (peak,), channels, candidate.denoised
        other.decide("found_by_its_line", ids=(candidate.id,), channel=peak.channel, distance=apart)
        candidate.blended = True
        candidate.decide("line_elsewhere", channel=peak.channel, distance=apart)
        detection.y, detection.x = place
        return replace(detection, candidate=other, y=own[0], x=own[1])
    return None


def resolved(detection: RawDetection) -> bool:
    """Whether a detection is so large that its own lines may come from different places in it."""
    width = gaussian_sigma_to_fwhm * np.sqrt(detection.sigma_y * detection.sigma_x)
    return bool(width > RESOLVED * detection.beam)


def has_line_near(other: RawDetection, peak: EmissionPeak, detection: RawDetection, distance: float) -> bool:
    """Whether another kept detection, within ``distance`` of this one, has the same line."""
    near = separation(other, detection) < distance
    return (
        near and other.candidate.status is not Status.DROPPED and any(peak.same_line(p) for p in other.candidate.peaks)
    )


def place_of(
    lines: np.ndarray,
    channels: tuple[int, int],
    detection: RawDetection,
    origin: tuple[int, int],
    fwhm: float,
    rms: float,
) -> tuple[tuple[float, float], float]:
    """Position of a line, (y, x) in pixels of the cube, and its S/N there.

    It is the centroid of the pixels above half of the peak of the line-integrated image, within half a width of the
    detection; that of the detection, with an S/N of 0, if there is no positive pixel or no noise.  The noise is that of
    independent channels, or that of the image beyond two widths where this is more, since neighbouring channels of many
    cubes share theirs.
    """
    image = focus(lines, channels)
    y, x = np.indices(image.shape)
    distance = np.hypot(y + origin[0] - detection.y, x + origin[1] - detection.x)
    about = distance <= fwhm / 2
    if not about.any():
        return (detection.y, detection.x), 0.0
    sigma = rms * np.sqrt(channels[1] - channels[0])
    beyond = image[(distance > 2 * fwhm) & np.isfinite(image)]
    if beyond.size:
        sigma = max(sigma, float(robust_std(beyond)))
    image = np.nan_to_num(image)
    peak = np.unravel_index(np.argmax(np.where(about, image, -np.inf)), image.shape)
    if not (image[peak] > 0 and sigma > 0):  # where the line is, a masked cube may have no data
        return (detection.y, detection.x), 0.0
    bright = (np.hypot(y - peak[0], x - peak[1]) <= fwhm / 2) & (image > image[peak] / 2)
    weight = np.where(bright, image, 0).astype(float)
    snr = float(image[peak] / sigma)
    row, column = (float((weight * grid).sum() / weight.sum()) + o for grid, o in zip((y, x), origin, strict=True))
    return (row, column), snr
