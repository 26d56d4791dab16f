"""Faint emission larger than the beam: the window is searched again, smoothed to twice and to four times the beam.

In a nearby galaxy or a cloud of low surface brightness hardly a place exceeds the noise, though all of it together is
far brighter.  Smoothing to its size brings it out; SoFiA-2 smooths its cubes for the same reason (Serra et al. 2015).
To the networks a window smoothed to twice the beam, at half the resolution, is one of a cube with a larger beam.

What is found in it is listed where nothing was found before, and instead of the parts of an object that is much clearer
in it, or whose line is detected in it all the way between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.catalogue.candidate import Status
from napari_almadet.constants import BOX_LEVEL
from napari_almadet.search.connected_patches import one_object_at
from napari_almadet.search.extended_emission import RESOLVED
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.patch_properties import EXTENDED, SearchedWindow
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.windows import Window

if TYPE_CHECKING:
    import torch

    from napari_almadet.search.noise_units import NoiseUnits

SCALES = 2  # times that the window is smoothed, each time to twice the beam before
FACTOR = 2  # by which the beam and the pixels become wider
KERNEL = float(np.sqrt(FACTOR**2 - 1))  # beams, FWHM of the Gaussian that makes the beam wider, once
LEAST_DATA = 0.5  # weight of the pixels with data, of all that are averaged, below which a new pixel has none
SMALLEST = 16  # pixels, side of a smoothed window that Source Finder can search: two of its coarsest pixels
# Times the highest S/N of a detection at full resolution, from which the same in the smoothed window is the better one.
# Derived: it is 2 for emission that is wider than both beams, and 0.5 to 0.8 for a point source.
CLEARER = 1.3
APART = 2.0  # smoothed beams; derived: halfway between two sources as far apart each has fallen to a sixteenth
ARTEFACTS = {"baseline_ripple", "residuals", "flank"}  # rules whose verdict at full resolution holds here, too


@dataclass
class Smoothed:
    """What was found in the smoothed window, and what its patches are measured in; both empty if it is too small."""

    detections: list[RawDetection] = field(default_factory=list)
    seen: SearchedWindow | None = None


def in_wider_beams(units: NoiseUnits, window: Window, beam: float) -> Iterator[tuple[NoiseUnits, Window]]:
    """A window :func:`smoothed` to twice the beam, and to twice that, as long as it is not too small."""
    for _ in range(SCALES):
        made = smoothed(units, window, beam)
        if made is None:
            return
        yield made
        units, window = made


def smoothed(units: NoiseUnits, window: Window, beam: float) -> tuple[NoiseUnits, Window] | None:
    """A window with twice the beam and pixels twice as wide, in units of its own noise; None if it is too small.

    Parameters
    ----------
    units
        The window without sidelobes.
    beam
        FWHM in pixels of the window; it is as many pixels of the smoothed one.
    """
    if min(window.shape) < FACTOR * SMALLEST:
        return None
    rows, columns = (weights(n, beam, units.cube) for n in window.shape)
    known = rows @ units.valid.to(units.cube.dtype) @ columns.T >= LEAST_DATA
    planes = (rows @ units.cube @ columns.T).masked_fill_(~known, float("nan"))
    try:
        wider = in_noise_units(planes, beam)
    except ValueError:  # hardly any data
        return None
    rms = wider.rms * units.rms[wider.channels]
    channels = units.channels[wider.channels]
    wider = replace(wider, rms=rms, channels=channels, n_channels=units.n_channels or len(units.channels))
    shape = (planes.shape[1], planes.shape[2])
    y, x = (slice(own.start // FACTOR, -(-own.stop // FACTOR)) for own in window.owned)
    return wider, Window(window.y // FACTOR, window.x // FACTOR, shape, (y, x), FACTOR * window.k)


def weights(n: int, beam: float, like: torch.Tensor) -> torch.Tensor:
    """Weights (new, n) of n pixels along an axis in each of the wider ones: a Gaussian that makes the beam wider."""
    import torch

    sigma = KERNEL * beam * gaussian_fwhm_to_sigma
    centres = FACTOR * np.arange(-(-n // FACTOR)) + (FACTOR - 1) / 2
    weight = np.exp(-0.5 * ((np.arange(n) - centres[:, None]) / sigma) ** 2)
    return torch.as_tensor(weight / (np.sqrt(2 * np.pi) * sigma), dtype=like.dtype, device=like.device)


def add_smoothed(detections: list[RawDetection], wider: Smoothed, window: Window) -> None:
    """Add the kept detections of a smoothed window where nothing was kept before.

    A patch that :func:`is_whole`, the object that all that was kept in it belongs to, is added, too.  What a rule has
    dropped as an artefact does not return.

    Parameters
    ----------
    detections
        Those at full resolution, classified, and what was added from windows that were smoothed less.
    wider
        Its detections are classified, too; those added are numbered after the others.
    window
        At full resolution; those added have it, or that of ``detections``.
    """
    others = [one for one in detections if one.candidate.status is not Status.DROPPED]
    for one in [one for one in wider.detections if one.candidate.status is Status.KEPT]:
        parts = [other for other in others if meet(one, other)]
        spoiled = any(is_artefact(other) and lies_in(one, other) for other in detections)
        if spoiled or (parts and not is_whole(one, parts, wider.seen)):
            continue
        # the numbers in them are those of the smoothed window, whose other detections are not listed
        one.candidate.decisions = [decision for decision in one.candidate.decisions if not decision.ids]
        one.candidate.decide("found_smoothed", fwhm=one.beam)
        one.candidate.id, one.candidate.parent = 1 + max((other.candidate.id for other in detections), default=0), 0
        # that of the others knows the sidelobes that are subtracted before measuring
        one.window, one.piece_of, one.flank_of = detections[0].window if detections else window, 0, None
        for part in parts:
            part.candidate.parent = one.candidate.id
            part.candidate.decide("part_of_smoothed", Status.DROPPED, ids=(one.candidate.id,))
        detections.append(one)


def is_artefact(detection: RawDetection) -> bool:
    """Whether a rule has dropped a detection as an artefact."""
    rules = {decision.rule for decision in detection.candidate.decisions}
    return detection.candidate.status is Status.DROPPED and not rules.isdisjoint(ARTEFACTS)


def is_whole(one: RawDetection, parts: Sequence[RawDetection], seen: SearchedWindow | None) -> bool:
    """Whether a patch of a smoothed window is the object that some detections before it are parts of.

    It is large in the smoothed beams, too, and much clearer than each of them; or each of them is resolved, and not so
    close to another that smoothing alone joins them.  Between several the line is detected all the way; with four times
    the beam that is no evidence, because the emission of two galaxies runs together.
    """
    if seen is None or one.box is None or one.extent is None or one.candidate.parent:
        return False
    if not all(lies_in(part, one) for part in parts):
        return False
    large = one.extent.beams >= EXTENDED
    clearer = large and all(one.extent.snr_peak >= CLEARER * peak_of(part) for part in parts)
    if len(parts) == 1:
        return clearer
    pieces = all(is_resolved(part) for part in parts) and are_apart(parts, one)
    if one.features.smoothed > 1 or not (clearer or pieces):
        return False
    y, x = np.indices(seen.valid.shape)
    (y0, x0), (y1, x1) = one.window.inside(one.box.y0, one.box.x0), one.window.inside(one.box.y1, one.box.x1)
    patch = (y >= y0 - 0.5) & (y < y1 + 0.5) & (x >= x0 - 0.5) & (x < x1 + 0.5) & seen.valid
    return one_object_at([one.window.inside(part.y, part.x) for part in parts], patch, seen)


def is_resolved(detection: RawDetection) -> bool:
    """Whether a detection is a patch, or wider than a blend of two point sources along both axes."""
    least = RESOLVED * detection.beam * gaussian_fwhm_to_sigma
    return detection.box is not None or min(detection.sigma_y, detection.sigma_x) > least


def are_apart(parts: Sequence[RawDetection], one: RawDetection) -> bool:
    """Whether some detections are at least :data:`APART` beams of a smoothed one from each other."""
    least = APART * one.beam
    return all(np.hypot(a.y - b.y, a.x - b.x) >= least for a, b in combinations(parts, 2))


def peak_of(detection: RawDetection) -> float:
    """The highest S/N of a detection, or of the patch that it lies in."""
    return max(detection.features.snr_both, detection.extent.snr_peak if detection.extent else 0.0)


def meet(one: RawDetection, other: RawDetection) -> bool:
    """Whether the centre of one of two detections lies in the box of the other."""
    return lies_in(one, other) or lies_in(other, one)


def lies_in(one: RawDetection, other: RawDetection) -> bool:
    """Whether the centre of one lies in the box of another, or where its Gaussian exceeds a tenth of its peak."""
    if (box := other.box) is not None:
        return bool(box.y0 - 0.5 <= one.y < box.y1 - 0.5 and box.x0 - 0.5 <= one.x < box.x1 - 0.5)
    reach = np.sqrt(-2 * np.log(BOX_LEVEL))
    return bool(abs(one.y - other.y) <= reach * other.sigma_y and abs(one.x - other.x) <= reach * other.sigma_x)
