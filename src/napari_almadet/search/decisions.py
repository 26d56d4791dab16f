"""What decides that a candidate is kept, flagged or dropped: the classifier's probability, then the rules.

The classifier (the network Judge) turns the features of a raw detection into the probability that it is a source.
Rules stand beside it for artefacts it has not been trained on.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage
from scipy.special import expit

from napari_almadet.catalogue.candidate import Status
from napari_almadet.catalogue.decision import Decision
from napari_almadet.measure.focus import Cutout
from napari_almadet.progress import Progress
from napari_almadet.search.extent import EXTENDED
from napari_almadet.search.features import LEAST_CHANCE, LINE_SNR, encode, encode_extents
from napari_almadet.search.line_maps import WIDEST
from napari_almadet.search.merge import Part
from napari_almadet.search.positions import cutout_of, expected_spectrum
from napari_almadet.search.raw_detection import RawDetection, separation
from napari_almadet.search.thresholds import THRESHOLDS
from napari_almadet.search.two_component_fit import Blob, Likelihood, two_sources, weighted_images

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.networks import SearchNetworks
    from napari_almadet.settings import Settings


def classify(
    finds: list[RawDetection], settings: Settings, networks: SearchNetworks
) -> Generator[Progress, None, None]:
    """The source probability of each candidate; those under the threshold are dropped.

    It is Judge's, of extended emission the extent classifier's.  That one is heard too on what Judge keeps nothing of
    in a smaller patch.
    """
    if not finds:
        return
    yield Progress("Classifying candidates", 0, 1)
    chances = expit(judge_logits(finds, networks))
    of_extent = extent_chances(finds, networks)
    patches = np.array([find.box is not None for find in finds]) & np.isfinite(of_extent)
    chances = np.where(patches, of_extent, chances)
    bright = very_bright(finds)
    brightest_line = max(THRESHOLDS.clear_snr, THRESHOLDS.clear_share * max(find.line_snr for find in finds))
    for find, chance in zip(finds, chances, strict=True):
        candidate = find.candidate
        candidate.prob = float(chance)
        heard = 0.0 if bright and not find.box else LEAST_CHANCE  # Judge has learnt of no field with such a source
        by_threshold: dict[str, Any] = {"prob": candidate.prob, "threshold": settings.threshold}
        if artefact := artefact_kind(find, bright):
            candidate.decisions.append(artefact)
            candidate.status = Status.DROPPED
        elif chance >= settings.threshold:
            candidate.decide("probable", Status.KEPT, **by_threshold)
        elif (chance >= LEAST_CHANCE and clearly_emission(find)) or (
            chance >= heard and find.line_snr >= brightest_line
        ):
            candidate.decide("too_bright_for_noise", Status.FLAGGED, **by_threshold)
        else:
            candidate.decide("improbable", Status.DROPPED, **by_threshold)
        if settings.require_line and candidate.status is not Status.DROPPED and not candidate.peaks:
            candidate.decide("no_line_required", Status.DROPPED)
    keep_small_patches(finds, of_extent, settings)
    yield Progress("Classifying candidates", 1, 1)


def judge_logits(finds: list[RawDetection], networks: SearchNetworks) -> np.ndarray:
    """Judge's logits (n,) of the finds of one window; they are known to the finds from then on."""
    import torch

    with torch.inference_mode():
        numbers = torch.from_numpy(encode([find.features for find in finds])).to(networks.device)
        logits = odds_for_field_area(networks.judge(numbers).cpu().numpy(), finds)
    for find, value in zip(finds, logits, strict=True):
        find.judge_logit = float(value)
    return logits


def extent_chances(finds: list[RawDetection], networks: SearchNetworks) -> np.ndarray:
    """The extent classifier's probabilities (n,) of the patches that some finds are or lie in; NaN without one."""
    import torch

    chances = np.full(len(finds), np.nan)
    lie = [i for i, find in enumerate(finds) if find.extent is not None]
    if lie and networks.extent_classifier is not None:
        with torch.inference_mode():
            numbers = torch.from_numpy(encode_extents([finds[i] for i in lie])).to(networks.device)
            chances[lie] = expit(networks.extent_classifier(numbers).cpu().numpy())
    return chances


def keep_small_patches(finds: list[RawDetection], chances: np.ndarray, settings: Settings) -> None:
    """Give the brightest find of a patch of emission that Judge keeps nothing of the patch's probability.

    It is kept if that reaches the threshold.  ``chances`` are the extent classifier's, (n,).
    """
    for find, group in by_patch([find for find in finds if find.box is None]):
        candidate = find.candidate
        chance = float(chances[next(i for i, f in enumerate(finds) if f is find)])
        beams = find.extent.beams if find.extent else EXTENDED
        lost = all(f.candidate.status is not Status.KEPT for f in group)
        if beams >= EXTENDED or not lost or not np.isfinite(chance) or baseline_ripple(find.spectrum):
            continue
        candidate.prob = chance
        if chance < settings.threshold:
            candidate.decide("improbable_patch", prob=chance, threshold=settings.threshold, beams=beams)
            continue
        candidate.decide("extended_source", Status.KEPT, prob=chance, threshold=settings.threshold, beams=beams)
        for part in group:
            if part is not find:
                part.candidate.parent = candidate.id
                part.candidate.decide("part_of", Status.DROPPED, ids=(candidate.id,))


def by_patch(finds: list[RawDetection]) -> list[tuple[RawDetection, list[RawDetection]]]:
    """Finds in groups that lie in one patch of extended emission, with the brightest of each; none that lie in none."""
    groups: dict[int, list[RawDetection]] = {}
    for find in finds:
        if find.extent is not None:
            groups.setdefault(id(find.extent), []).append(find)
    return [(max(group, key=lambda f: f.features.snr_both), group) for group in groups.values()]


def odds_for_field_area(logits: np.ndarray, finds: list[RawDetection]) -> np.ndarray:
    """Judge's logits (n,) for the finds of one window, for its size.

    Judge has learnt from small fields.  In a larger one noise has more chances to look like a source, and the odds of
    what may be noise fall as its area grows, unless a second candidate says that it is a field of sources.
    """
    if np.count_nonzero(expit(logits) >= THRESHOLDS.second_candidate) > 1:
        return logits
    window, beam = finds[0].window, finds[0].beam
    fields = max(1.0, np.prod(window.shape) * (window.k / (THRESHOLDS.training_field * beam)) ** 2)
    faint = np.array([find.features.snr_both < THRESHOLDS.clear_snr for find in finds])
    return np.where(faint, logits - np.log(fields), logits)


def clearly_emission(find: RawDetection) -> bool:
    """Whether a find's measures are those of emission, though maybe not of a kind that Judge knows."""
    return find.features.snr_both >= max(THRESHOLDS.clear_snr, THRESHOLDS.clear_share * find.features.snr_brightest)


def artefact_kind(find: RawDetection, bright: list[RawDetection]) -> Decision | None:
    """Why a raw detection is an artefact of a kind that the classifier was not trained on; None if it is not.

    ``bright`` are the finds whose SNR in the stack is `Thresholds.very_bright` or more.
    """
    dip = baseline_ripple(find.spectrum)
    if dip:
        return Decision("baseline_ripple", {"dip": dip, "prob": find.candidate.prob})
    if find.box:
        return None
    stack, line = find.features.snr_stacked, find.features.snr_own_line
    spread = find.features.field_spread
    if (
        spread > THRESHOLDS.residual_sidelobes
        and stack < THRESHOLDS.above_sidelobes * spread
        and line < THRESHOLDS.clear_snr
    ):
        return Decision("residual_sidelobes", {"spread": float(spread), "prob": find.candidate.prob})
    for other in bright:
        light = other.features.snr_stacked
        apart = np.hypot((find.y - other.y) / other.sigma_y, (find.x - other.x) / other.sigma_x)
        on_flank = stack < min(light, THRESHOLDS.flank * light * np.exp(-0.5 * apart**2))
        if on_flank and line < max(LINE_SNR, THRESHOLDS.line_on_a_flank * light):
            return Decision("flank", {"snr": light, "prob": find.candidate.prob}, (other.candidate.id,))
    return None


def baseline_ripple(spectrum: np.ndarray) -> float:
    """SNR of the deepest dip of a find's spectrum, if the spectrum is a wave; else 0.

    A continuum badly taken off leaves such waves.  Their dips are about as deep as their crests are high, no noise,
    and more than one.
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


def drop_sidelobes_across_windows(finds: list[RawDetection], parts: list[Part], settings: Settings) -> None:
    """Drop what was flagged for being bright in its window, if a source in a window that meets it may explain it.

    Only sidelobes of a window's own sources are taken off, but a dirty beam reaches further.
    """
    # the same in all finds of a window
    lights = [(part.window, part.finds[0].features.snr_brightest) for part in parts if part.finds]
    for find in finds:
        parted = find.candidate.blended and not find.box  # what is needed beside a neighbour is no sidelobe
        if find.candidate.status is not Status.FLAGGED or find.candidate.prob >= settings.threshold or parted:
            continue
        brightest = max(light for window, light in lights if window.meets(find.window))
        if find.features.snr_both < THRESHOLDS.clear_share * brightest:
            find.candidate.decide("sidelobe_of_another_window", Status.DROPPED, snr=brightest)


def flag_companions(finds: list[RawDetection], cube: Cube, stacked: np.ndarray, settings: Settings) -> None:
    """Flag what was dropped beside a brighter, kept source, where two sources fit far better than one.

    Its probability is `Thresholds.companion_probability` at least: the fit takes beam and noise for Gaussian, which
    they are with natural weights only.
    """
    bright = very_bright(finds)
    for find in finds:
        candidate, beam = find.candidate, find.beam
        lost = (
            candidate.status is Status.DROPPED and candidate.prob >= THRESHOLDS.companion_probability and not find.box
        )
        if not lost or (settings.require_line and not candidate.peaks) or artefact_kind(find, bright):
            continue
        near = [
            f
            for f in finds
            if f.candidate.status is not Status.DROPPED and separation(f, find) < THRESHOLDS.companion_neighbours * beam
        ]
        first, *others = sorted(near, key=lambda f: separation(f, find)) or [find]
        beside = (
            separation(first, find) < THRESHOLDS.companion_distance * beam
            and first.features.snr_both > find.features.snr_both
        )
        if first.candidate.status is not Status.KEPT or not beside:
            continue
        cutout = cutout_of(first, cube, stacked, settings)
        if cutout is None:
            continue
        images = weighted_images(cutout, [expected_spectrum(first), expected_spectrum(find)])
        one, two, *rest = (deconvolved_blob(f, cutout) for f in (first, find, *others))
        if both := two_sources(Likelihood(images, beam), one, two, rest):
            sigma, *places = both
            (first.y, first.x), (find.y, find.x) = (place + cutout.origin for place in places)
            first.candidate.blended = candidate.blended = True
            candidate.decide("two_fit_better", Status.FLAGGED, ids=(first.candidate.id,), sigma=float(sigma))


def deconvolved_blob(find: RawDetection, cutout: Cutout) -> Blob:
    """A find as it is before the beam, in a cutout's pixels."""
    beam = find.beam * gaussian_fwhm_to_sigma
    y, x = np.array([find.y, find.x]) - cutout.origin
    return Blob.round(y, x, np.sqrt(max(find.sigma_y * find.sigma_x - beam**2, 0.0)))


def very_bright(finds: list[RawDetection]) -> list[RawDetection]:
    """Those of some finds that are so bright that their flanks may be taken for sources."""
    return [find for find in finds if not find.box and find.features.snr_stacked >= THRESHOLDS.very_bright]
