"""Selection rules: what decides that a candidate is kept, flagged or dropped.

The classifier (the network Judge) computes the source probability of a raw detection from its features.  Additional
rules handle artefacts that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from scipy.special import expit

from napari_almadet.catalogue.candidate import Status
from napari_almadet.catalogue.decision import Decision
from napari_almadet.measure.focus import Cutout
from napari_almadet.measure.gaussian_fit import beams_apart
from napari_almadet.progress import Progress
from napari_almadet.search.beam_decision import beam_of
from napari_almadet.search.connected_patches import join_pieces
from napari_almadet.search.features import LEAST_CHANCE, LINE_SNR, encode, encode_extents
from napari_almadet.search.line_maps import WIDEST
from napari_almadet.search.merge_windows import Part
from napari_almadet.search.patch_properties import EXTENDED
from napari_almadet.search.positions import cutout_of, expected_spectrum
from napari_almadet.search.raw_detection import RawDetection, separation
from napari_almadet.search.thresholds import THRESHOLDS
from napari_almadet.search.two_component_fit import Blob, Likelihood, two_sources, weighted_images

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


def classify(
    detections: list[RawDetection], settings: Settings, networks: SearchNetworks
) -> Generator[Progress, None, None]:
    """Compute the source probability of each candidate, and drop those below the threshold.

    It is the output of Judge, or, for extended emission, of the extent classifier.  The latter is also used for smaller
    patches of which Judge keeps no detection.
    """
    if not detections:
        return
    yield Progress("Classifying candidates", 0, 1)
    chances = expit(judge_logits(detections, networks))
    of_extent = extent_chances(detections, networks)
    patches = np.array([detection.box is not None for detection in detections]) & np.isfinite(of_extent)
    chances = np.where(patches, of_extent, chances)
    bright = very_bright(detections)
    brightest_line = max(
        THRESHOLDS.clear_snr, THRESHOLDS.clear_share * max(detection.line_snr for detection in detections)
    )
    for detection, chance in zip(detections, chances, strict=True):
        candidate = detection.candidate
        candidate.prob = float(chance)
        minimum_chance = (
            0.0 if bright and not detection.box else LEAST_CHANCE
        )  # Judge was not trained on fields with such a source
        by_threshold: dict[str, Any] = {"prob": candidate.prob, "threshold": settings.threshold}
        if artefact := artefact_kind(detection, bright):
            candidate.decisions.append(artefact)
            candidate.status = Status.DROPPED
        elif chance >= settings.threshold:
            candidate.decide("probable", Status.KEPT, **by_threshold)
        elif (chance >= LEAST_CHANCE and clearly_emission(detection)) or (
            chance >= minimum_chance and detection.line_snr >= brightest_line
        ):
            candidate.decide("too_bright_for_noise", Status.FLAGGED, **by_threshold)
        else:
            candidate.decide("improbable", Status.DROPPED, **by_threshold)
        if settings.require_line and candidate.status is not Status.DROPPED and not candidate.peaks:
            candidate.decide("no_line_required", Status.DROPPED)
    keep_small_patches(detections, of_extent, settings)
    join_pieces(detections)
    yield Progress("Classifying candidates", 1, 1)


def judge_logits(detections: list[RawDetection], networks: SearchNetworks) -> np.ndarray:
    """Judge's logits (n,) for the detections of one window; they are also stored in the detections."""
    import torch

    with torch.inference_mode():
        numbers = torch.from_numpy(encode([detection.features for detection in detections])).to(networks.device)
        logits = odds_for_field_area(networks.judge(numbers).cpu().numpy(), detections)
    for detection, value in zip(detections, logits, strict=True):
        detection.judge_logit = float(value)
    return logits


def extent_chances(detections: list[RawDetection], networks: SearchNetworks) -> np.ndarray:
    """The extent classifier's probabilities (n,) for the patches of the detections; NaN for those without a patch."""
    import torch

    chances = np.full(len(detections), np.nan)
    lie = [i for i, detection in enumerate(detections) if detection.extent is not None]
    if lie and networks.extent_classifier is not None:
        with torch.inference_mode():
            numbers = torch.from_numpy(encode_extents([detections[i] for i in lie])).to(networks.device)
            chances[lie] = expit(networks.extent_classifier(numbers).cpu().numpy())
    return chances


def keep_small_patches(detections: list[RawDetection], chances: np.ndarray, settings: Settings) -> None:
    """If Judge keeps no detection of a patch, give the brightest one the probability of the patch.

    It is kept if this reaches the threshold, but not if it is an artefact by a rule (:func:`artefact_kind`).
    ``chances`` (n,) are those of the extent classifier.
    """
    bright = very_bright(detections)
    for detection, group in by_patch([detection for detection in detections if detection.box is None]):
        candidate = detection.candidate
        chance = float(chances[next(i for i, f in enumerate(detections) if f is detection)])
        beams = detection.extent.beams if detection.extent else EXTENDED
        lost = all(f.candidate.status is not Status.KEPT for f in group)
        if beams >= EXTENDED or not lost or not np.isfinite(chance) or artefact_kind(detection, bright):
            continue
        candidate.prob = chance
        if chance < settings.threshold:
            candidate.decide("improbable_patch", prob=chance, threshold=settings.threshold, beams=beams)
            continue
        candidate.decide("extended_source", Status.KEPT, prob=chance, threshold=settings.threshold, beams=beams)
        for part in group:
            if part is not detection:
                part.candidate.parent = candidate.id
                part.candidate.decide("part_of", Status.DROPPED, ids=(candidate.id,))


def by_patch(detections: list[RawDetection]) -> list[tuple[RawDetection, list[RawDetection]]]:
    """Detections grouped by patch of extended emission, with the brightest of each; without those outside patches."""
    groups: dict[int, list[RawDetection]] = {}
    for detection in detections:
        if detection.extent is not None:
            groups.setdefault(id(detection.extent), []).append(detection)
    return [(max(group, key=lambda f: f.features.snr_both), group) for group in groups.values()]


def odds_for_field_area(logits: np.ndarray, detections: list[RawDetection]) -> np.ndarray:
    """Judge's logits (n,) for the detections of one window, corrected for the size of the field.

    Judge was trained on small fields with a few sources each.  A larger field has as many more noise peaks as its area
    is larger, but not as many more sources: the odds of candidates that may be noise are divided by the area in
    training fields for each other probable candidate.  The probable places of one large patch count once.
    """
    window, beam = detections[0].window, detections[0].beam
    fields = float(np.prod(window.shape) * (window.k / (THRESHOLDS.training_field * beam)) ** 2)
    objects = [id(f.extent) if f.extent and f.extent.beams >= EXTENDED else id(f) for f in detections]
    likely = {one for one, chance in zip(objects, expit(logits), strict=True) if chance >= THRESHOLDS.other_source}
    others = np.array([len(likely - {one}) for one in objects])
    faint = np.array([detection.features.snr_both < THRESHOLDS.noise_snr for detection in detections])
    return np.where(faint, logits - np.log(np.maximum(fields / np.maximum(others, 1), 1)), logits)


def clearly_emission(detection: RawDetection) -> bool:
    """Whether a detection is too bright to be noise or a sidelobe, whatever its source probability."""
    return detection.features.snr_both >= max(
        THRESHOLDS.clear_snr, THRESHOLDS.clear_share * detection.features.snr_brightest
    )


def artefact_kind(detection: RawDetection, bright: list[RawDetection]) -> Decision | None:
    """The decision that a raw detection is an artefact of a kind that the classifier was not trained on, or None.

    ``bright`` are the detections whose band-averaged S/N is at least `Thresholds.very_bright`.
    """
    dip = baseline_ripple(detection.spectrum)
    if dip:
        return Decision("baseline_ripple", {"dip": dip, "prob": detection.candidate.prob})
    residuals, snr = detection.residuals, detection.over_residuals
    if snr < THRESHOLDS.above_residuals:
        return Decision("residuals", {"rms": residuals, "snr": snr, "prob": detection.candidate.prob})
    if detection.box:
        return None
    stack, line = detection.features.snr_stacked, detection.features.snr_own_line
    whole = detection.flank_of
    if whole is not None and line < max(LINE_SNR, THRESHOLDS.line_on_a_flank * whole.features.snr_stacked):
        values = {"snr": whole.features.snr_stacked, "prob": detection.candidate.prob}
        return Decision("flank", values, (whole.candidate.id,))
    for other in bright:
        brightness = other.features.snr_stacked
        apart = np.hypot((detection.y - other.y) / other.sigma_y, (detection.x - other.x) / other.sigma_x)
        on_flank = stack < min(brightness, THRESHOLDS.flank * brightness * np.exp(-0.5 * apart**2))
        if on_flank and line < max(LINE_SNR, THRESHOLDS.line_on_a_flank * brightness):
            return Decision("flank", {"snr": brightness, "prob": detection.candidate.prob}, (other.candidate.id,))
    return None


def baseline_ripple(spectrum: np.ndarray) -> float:
    """S/N of the deepest dip of a spectrum if it is a baseline ripple, otherwise 0.

    A badly subtracted continuum leaves such ripples.  They have several significant dips, about as deep as the peaks
    are high.
    """
    known = spectrum[spectrum != 0]
    if not len(known):
        return 0.0
    widths = [2**i for i in range(16) if 2**i <= max(1, WIDEST * len(known) / 2)]  # half a wave's
    means = np.stack([ndimage.uniform_filter1d(known, width, mode="nearest") * np.sqrt(width) for width in widths])
    height, dip = float(means.max()), float(-means.min())
    deepest = means[means.min(axis=1).argmin()]
    swings = np.count_nonzero(np.diff(np.sign(deepest[np.abs(deepest) > dip / 2])))
    return (
        dip
        if dip >= max(THRESHOLDS.clear_snr, THRESHOLDS.ripple_depth * height) and swings >= THRESHOLDS.ripple_swings
        else 0.0
    )


def drop_sidelobes_across_windows(detections: list[RawDetection], parts: list[Part], settings: Settings) -> None:
    """Drop candidates that were flagged as too bright, if they may be sidelobes of a source in an overlapping window.

    Only sidelobes of sources in the same window have been subtracted, but a dirty beam reaches further.
    """
    # the same in all detections of a window
    brightest_of_windows = [
        (part.window, part.detections[0].features.snr_brightest) for part in parts if part.detections
    ]
    for detection in detections:
        needed_by_neighbour = (
            detection.candidate.blended and not detection.box
        )  # a second source needed to fit the data is no sidelobe
        if (
            detection.candidate.status is not Status.FLAGGED
            or detection.candidate.prob >= settings.threshold
            or needed_by_neighbour
        ):
            continue
        brightest = max(brightness for window, brightness in brightest_of_windows if window.meets(detection.window))
        if detection.features.snr_both < THRESHOLDS.clear_share * brightest:
            detection.candidate.decide("sidelobe_of_another_window", Status.DROPPED, snr=brightest)


def flag_companions(detections: list[RawDetection], cube: Cube, stacked: np.ndarray, settings: Settings) -> None:
    """Flag a candidate that was dropped next to a brighter kept source, if two sources fit much better than one.

    Its source probability must be at least `Thresholds.companion_probability`, because the fit assumes that beam and
    noise are Gaussian, which holds only for natural weighting.
    """
    bright = very_bright(detections)
    for detection in detections:
        candidate, beam = detection.candidate, detection.beam
        lost = (
            candidate.status is Status.DROPPED
            and candidate.prob >= THRESHOLDS.companion_probability
            and not detection.box
        )
        if not lost or (settings.require_line and not candidate.peaks) or artefact_kind(detection, bright):
            continue
        near = [
            f
            for f in detections
            if f.candidate.status is not Status.DROPPED
            and separation(f, detection) < THRESHOLDS.companion_neighbours * beam
        ]
        first, *others = sorted(near, key=lambda f: separation(f, detection)) or [detection]
        shape = beam_of(cube, beam)
        beside = (
            beams_apart(first.x - detection.x, first.y - detection.y, shape) < THRESHOLDS.companion_distance
            and first.features.snr_both > detection.features.snr_both
        )
        if first.candidate.status is not Status.KEPT or not beside:
            continue
        cutout = cutout_of(first, cube, stacked, settings)
        if cutout is None:
            continue
        images = weighted_images(cutout, [expected_spectrum(first), expected_spectrum(detection)])
        shape = shape[::-1, ::-1]  # along y and x
        one, two, *rest = (deconvolved_blob(f, cutout, shape) for f in (first, detection, *others))
        if both := two_sources(Likelihood(images, shape), one, two, rest):
            sigma, *places = both
            (first.y, first.x), (detection.y, detection.x) = (place + cutout.origin for place in places)
            first.candidate.blended = candidate.blended = True
            candidate.decide("two_fit_better", Status.FLAGGED, ids=(first.candidate.id,), sigma=float(sigma))


def deconvolved_blob(detection: RawDetection, cutout: Cutout, beam: np.ndarray) -> Blob:
    """The deconvolved shape of a detection, a round one, in pixels of a cutout.

    ``beam`` is its covariance along y and x, (2, 2) in pixels².
    """
    y, x = np.array([detection.y, detection.x]) - cutout.origin
    own = np.square([detection.sigma_y, detection.sigma_x]) - np.diag(beam)
    return Blob.round(y, x, float(np.sqrt(max(own.mean(), 0.0))))


def very_bright(detections: list[RawDetection]) -> list[RawDetection]:
    """The detections that are so bright that their flanks may be mistaken for sources."""
    return [
        detection
        for detection in detections
        if not detection.box and detection.features.snr_stacked >= THRESHOLDS.very_bright
    ]
