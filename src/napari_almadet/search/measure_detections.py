"""Step 10 for the raw detections of a window: each is measured in one cutout, together with its neighbours."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.constants import BEAM_AREA
from napari_almadet.measure.absorption import find_absorption
from napari_almadet.measure.catalogue_row import boxed_flux, measure_candidate, scale_of
from napari_almadet.measure.cutout import BRIEF, LEAST, MARGIN, Cutout, Seed, level_of
from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.measure.mask import dilated
from napari_almadet.measure.measurement import Measured
from napari_almadet.measure.stacking import at_edge
from napari_almadet.progress import Progress
from napari_almadet.search.connected_patches import make_part
from napari_almadet.search.merge_windows import TWINS
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.sidelobes import restore_fainter
from napari_almadet.search.thresholds import THRESHOLDS
from napari_almadet.search.windows import Window, held_for_candidates

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise
    from napari_almadet.settings import Settings

WIDER = 1.6  # factor by which a cutout is enlarged if the mask does not fit; chosen by eye
ROUNDS = 4  # maximum number of enlargements; derived: 1.6^4 = 6.6 times the first cutout
COPIES = 12  # copies of a cutout that the measurement needs in memory


def ready_to_measure(
    cube: Cube, window: Window, detections: Sequence[RawDetection], beam: float, settings: Settings
) -> Generator[Progress, None, tuple[Cube, list[RawDetection]]]:
    """Before steps 8 to 10: subtract the sidelobes of fainter sources too, and hold the window in memory.

    Returns the cube to read from, which is held only if it is worthwhile for so many cutouts, and the detections to
    measure: those in the core of the window, or where another window may have the same source.  ``beam`` is the FWHM in
    the window's pixels.
    """
    restore_fainter(detections)
    near = [detection for detection in detections if window.owns(detection.y, detection.x, TWINS * beam)]
    return (yield from held_for_candidates(cube, window, len(near), settings)), near


def measure_detections(
    cube: Cube,
    chosen: Sequence[RawDetection],
    detections: Sequence[RawDetection],
    noise: Noise,
    stacked: np.ndarray,
    settings: Settings,
    brief: bool = False,
) -> Generator[Progress, None, None]:
    """Measure chosen detections of a window, the brightest first.

    A detection in the mask of a brighter one whose emission is not explained by separate sources is part of that
    object: it is dropped, with the object as its ``parent``.

    Parameters
    ----------
    noise
        Of the cube.
    stacked
        The dirty image of the window.
    brief
        Measure only positions and fluxes, as for dropped candidates.
    """
    shapes: dict[int, Shape] = {}  # of what has been measured, by the detection's identity, in the cube's pixels
    order = sorted(
        chosen, key=lambda detection: (detection.candidate.status is Status.DROPPED, -detection.features.snr_both)
    )
    how = cube, detections, noise, stacked, settings
    for done, detection in enumerate(order):
        yield Progress("Measuring sources", done, len(order))
        if detection.candidate.focused is None:
            continue  # too large for the memory
        measure_one(detection, *how, not brief and detection.candidate.status is not Status.DROPPED, shapes)
    if not brief:
        for whole in join_small_patches(order):
            measure_one(whole, *how, True, shapes)
        mark_blends(order)


def measure_one(
    detection: RawDetection,
    cube: Cube,
    detections: Sequence[RawDetection],
    noise: Noise,
    stacked: np.ndarray,
    settings: Settings,
    thorough: bool,
    shapes: dict[int, Shape],
) -> None:
    """Measure one detection of a window, and what turns out to be a part of it or to have no flux.

    ``thorough``: with a mask, not only position and flux; for the others see :func:`measure_detections` and
    :func:`measured`.
    """
    kept = [f for f in detections if f is detection or f.candidate.status is not Status.DROPPED]
    kept += pieces_of(detection, detections)
    made, near, boxed = measured(cube, detection, kept, noise, settings, thorough, shapes)
    if thorough and made.method == "mask":
        absorb(detection, [near[i] for i in made.parts.merged if not is_piece(near[i], detection)])
        candidate = detection.candidate
        candidate.edge = at_edge(candidate.box, stacked, detection.window.origin, cube.shape[1:])
    drop_without_flux(detection.candidate, boxed)


def measured(
    cube: Cube,
    detection: RawDetection,
    kept: Sequence[RawDetection],
    noise: Noise,
    settings: Settings,
    thorough: bool,
    shapes: dict[int, Shape],
) -> tuple[Measured, list[RawDetection], float]:
    """Measure one detection, in a cutout as large as its mask needs.

    Also returns the detections whose centre is in the cutout, and the sum over its box.  Its shape is added to
    ``shapes``, so that its neighbours can be separated from it.
    """
    beam = detection.beam
    half = int(np.ceil(max(reach_of(detection, kept) + MARGIN * beam, LEAST * beam) if thorough else BRIEF * beam))
    # An object is one with what is detected on it, which could otherwise take its whole mask.
    merge = detection.box is not None or any(is_piece(f, detection) for f in kept)
    blended = detection.candidate.blended
    cutout, seen = region(cube, detection, noise, half, beam), half
    for _ in range(2 * ROUNDS):
        detection.candidate.blended = blended  # not by what turns out to be a part of it
        if half != seen:
            cutout, seen = region(cube, detection, noise, half, beam), half
        near = [f for f in kept if f is detection or inside(f, cutout)]
        seeds = [as_measured(seed_of(f), shapes.get(id(f))) for f in near]  # its own shape is not there yet
        seeds = [replace(seed, piece=is_piece(f, detection)) for seed, f in zip(seeds, near, strict=True)]
        me = next(i for i, f in enumerate(near) if f is detection)
        made = measure_candidate(detection.candidate, cube, cutout, seeds, me, beam, merge, thorough)
        larger = int(np.ceil(WIDER * half))
        fits = COPIES * 4 * cube.shape[0] * (2 * larger + 1) ** 2 / 1e9 <= settings.memory
        if thorough and made.method == "mask" and reaches_border(made, cutout, cube) and fits:
            half = larger
        elif thorough and made.method == "mask" and not merge and len(near) > 1:
            merge = True  # not a sum of separate Gaussians: is it connected with others?
        else:
            break
    if thorough:
        scale = scale_of(cube, seeds[me].x, seeds[me].y, seeds[me].channels, beam)
        find_absorption(detection.candidate, cutout, made, scale, settings.absorption)
    if made.shape is not None and made.method != "mask":
        (y0, x0), shape = cutout.origin, made.shape
        shapes[id(detection)] = Shape(shape.x + x0, shape.y + y0, shape.matrix)
    return made, near, boxed_flux(detection.candidate, cutout, made)


def join_small_patches(detections: Sequence[RawDetection]) -> list[RawDetection]:
    """Make a small patch a piece of an extended object if its mask goes over into the object's.

    It does if its middle lies in the object's mask, or if the two masks touch in as many voxels as a beam has pixels;
    of several objects it belongs to the one with which it has most in common.  Judge keeps nothing in such a patch: it
    is no compact source.  Returns the objects, which are to be measured again with their pieces.
    """
    kept = [f for f in detections if f.candidate.status is not Status.DROPPED and f.candidate.mask is not None]
    wholes: list[RawDetection] = []
    for detection in kept:
        candidate = detection.candidate
        if detection.box is not None or not any(d.rule == "extended_source" for d in candidate.decisions):
            continue
        least = BEAM_AREA * detection.beam**2
        objects = [f for f in kept if f.box is not None]
        shared = [contact(candidate, f.candidate) for f in objects]
        near = [
            (n, f.candidate.n_pix, i)
            for i, (f, n) in enumerate(zip(objects, shared, strict=True))
            if n >= least or lies_in(candidate, f.candidate)
        ]
        if near:
            whole = objects[max(near)[-1]]
            absorb(whole, [detection])
            detection.piece_of = whole.candidate.id
            wholes += [whole] if not any(whole is other for other in wholes) else []
    return wholes


def contact(one: Candidate, other: Candidate) -> int:
    """Number of voxels of the mask of ``other`` that are in that of ``one`` or adjoin it, also diagonally."""
    assert one.mask is not None
    assert other.mask is not None
    grown = dilated(np.pad(one.mask.voxels, 1), 1, 1)
    first = [o - 1 for o in one.mask.origin]
    here, there = [], []
    for start, n, origin, size in zip(first, grown.shape, other.mask.origin, other.mask.voxels.shape, strict=True):
        low, high = max(start, origin), min(start + n, origin + size)
        if low >= high:
            return 0
        here.append(slice(low - start, high - start))
        there.append(slice(low - origin, high - origin))
    return int(np.count_nonzero(grown[tuple(here)] & other.mask.voxels[tuple(there)]))


def mark_blends(detections: Sequence[RawDetection]) -> None:
    """Mark extended objects as blended in whose mask another source lies."""
    kept = [f.candidate for f in detections if f.candidate.status is not Status.DROPPED]
    for detection in detections:
        candidate = detection.candidate
        if candidate.mask is not None and detection.box is not None and candidate.status is not Status.DROPPED:
            candidate.blended |= any(lies_in(other, candidate) for other in kept if other is not candidate)


def lies_in(other: Candidate, candidate: Candidate) -> bool:
    """Whether the position of a candidate is in the mask of another one."""
    assert candidate.mask is not None
    pixels, (_, y0, x0) = candidate.mask.footprint, candidate.mask.origin
    if not np.isfinite([other.y, other.x]).all():
        return False
    y, x = round(other.y) - y0, round(other.x) - x0
    return bool(0 <= y < pixels.shape[0] and 0 <= x < pixels.shape[1] and pixels[y, x])


def is_piece(part: RawDetection, detection: RawDetection) -> bool:
    """Whether a detection is one of the pieces of which the search made another one."""
    return bool(part.piece_of) and part.candidate.parent == detection.candidate.id


def pieces_of(detection: RawDetection, detections: Sequence[RawDetection]) -> list[RawDetection]:
    """The pieces of a detection, which are dropped: its mask includes theirs."""
    return [f for f in detections if f is not detection and is_piece(f, detection)]


def reach_of(detection: RawDetection, kept: Sequence[RawDetection]) -> float:
    """Half the side of a square about a detection that holds it and its pieces, in pixels."""
    ends = [
        max(abs(f.y - detection.y), abs(f.x - detection.x)) + seed_of(f).half for f in kept if is_piece(f, detection)
    ]
    return max([seed_of(detection).half, *ends])


def as_measured(seed: Seed, shape: Shape | None) -> Seed:
    """The seed of a neighbour with its measured position and shape, if available."""
    return seed if shape is None else replace(seed, x=shape.x, y=shape.y, matrix=shape.matrix)


def region(cube: Cube, detection: RawDetection, noise: Noise, half: int, beam: float) -> Cutout:
    """The cube around a detection, less sidelobes, with its noise; clipped to the field."""
    ny, nx = cube.shape[1:]
    y, x = round(detection.y), round(detection.x)
    y0, y1, x0, x1 = max(0, y - half), min(ny, y + half + 1), max(0, x - half), min(nx, x + half + 1)
    planes = cube.read(slice(None), slice(y0, y1), slice(x0, x1))
    planes -= detection.window.sidelobes_in((y0, x0), planes.shape[1:])
    cutout = Cutout(planes, (y0, x0), noise)
    return replace(cutout, level=level_of(cutout, beam))


def inside(detection: RawDetection, cutout: Cutout) -> bool:
    """Whether the centre of a detection is in a cutout."""
    (y0, x0), (ny, nx) = cutout.origin, cutout.planes.shape[1:]
    return -0.5 <= detection.y - y0 < ny - 0.5 and -0.5 <= detection.x - x0 < nx - 0.5


def reaches_border(made: Measured, cutout: Cutout, cube: Cube) -> bool:
    """Whether a mask touches an edge of its cutout that is not an edge of the field."""
    footprint = np.asarray(made.parts.mask.any(axis=0))
    (y0, x0), (ny, nx), (height, width) = cutout.origin, cutout.planes.shape[1:], cube.shape[1:]
    return bool(
        (y0 > 0 and footprint[0].any())
        or (x0 > 0 and footprint[:, 0].any())
        or (y0 + ny < height and footprint[-1].any())
        or (x0 + nx < width and footprint[:, -1].any())
    )


def seed_of(detection: RawDetection) -> Seed:
    """A detection as input of the measurement."""
    lines = tuple((peak.centre, peak.fwhm) for peak in detection.candidate.peaks)
    return Seed(
        float(detection.x),
        float(detection.y),
        float(detection.sigma_y),
        float(detection.sigma_x),
        lines,
        detection.candidate.channels,
        detection.box is None,
        placed=detection.box is None and not any(d.rule == "extended_source" for d in detection.candidate.decisions),
    )


def absorb(detection: RawDetection, parts: Sequence[RawDetection]) -> None:
    """Make other detections parts of an object, which is as likely a source as the most likely of them."""
    for part in parts:
        make_part(part, detection, "part_of", "one_object")


def drop_without_flux(candidate: Candidate, boxed: float) -> None:
    """Drop a candidate whose line or continuum flux is negative, as in a bowl, or which has neither.

    Of some without either a peak in the stacked image is seen, but no continuum in their own spectrum: the peak is
    faint, wide line emission of something else, whose channels are left out there.  Others are seen in a line that
    cannot be fitted and has no significant flux, as in cubes whose noise is unknown because they were masked.
    ``boxed`` is the sum over its box.
    """
    if np.isfinite(candidate.abs_snr) or candidate.status is Status.DROPPED:
        return  # a line in absorption takes flux, but what it is seen against is there
    flat = not candidate.f_cont >= THRESHOLDS.least_continuum * candidate.err_f_cont
    lost = candidate.kind != "continuum" and not np.isfinite(candidate.z)
    if lost and flat and candidate.f_sum < THRESHOLDS.least_line * candidate.err_f_sum:
        candidate.decide("no_line_flux", Status.DROPPED, snr=candidate.f_sum / candidate.err_f_sum)
        return
    if candidate.kind == "both":
        return
    own = candidate.f_cont if candidate.kind == "continuum" else candidate.f_sum
    flux = own if own < 0 else boxed
    if flux < 0:
        candidate.decide("negative_flux", Status.DROPPED, flux=flux)
    elif candidate.kind == "continuum" and own < THRESHOLDS.least_continuum * candidate.err_f_cont:
        candidate.decide("no_flux", Status.DROPPED, snr=own / candidate.err_f_cont)
