"""Every rule that keeps, flags or drops a raw detection, on both sides of its limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from scipy.special import logit

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.cube.cube import Cube
from napari_almadet.measure.focus import Cutout
from napari_almadet.progress import finish
from napari_almadet.search import decisions
from napari_almadet.search.decisions import (
    artefact_kind,
    classify,
    clearly_emission,
    drop_sidelobes_across_windows,
    flag_companions,
    odds_for_field_area,
    very_bright,
)
from napari_almadet.search.merge_windows import Part
from napari_almadet.search.raw_detection import Extent, Features, RawDetection
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.windows import Window
from napari_almadet.settings import Settings

WAVE = np.tile(np.repeat([1.0, -1.0], 8), 6).astype(np.float32)  # a ripple, once it is high enough
EXTENDED = Box(40, 60, 40, 60)
KEPT, FLAGGED, DROPPED = Status


def window(side: int = 60, y: int = 0, k: float = 2) -> Window:
    return Window(y, 0, (side, side), (slice(0, side), slice(0, side)), k)


def found(y: float = 60, x: float = 60, number: int = 1, prob: float = 0.9, **values) -> RawDetection:
    """A raw detection with such features; what is none of these is the detection's own."""
    features = Features(**{name: value for name, value in values.items() if hasattr(Features, name)})
    own = {name: value for name, value in values.items() if not hasattr(Features, name)}
    candidate = Candidate(number, Box(0, 1, 0, 1), prob, status=own.pop("status", KEPT))
    detection = RawDetection(candidate, y, x, 3.4, 3.4, np.zeros(96, np.float32), features, window())
    return replace(detection, **own)


def saying(prob: float | None) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A classifier that gives all such a probability."""
    return None if prob is None else lambda inputs: torch.full((len(inputs),), float(logit(prob)))


def classified(*detections: RawDetection, prob: float, of_extent: float | None = None, **settings) -> list[Status]:
    """The status of each, if the classifiers give all of them such probabilities."""
    networks = SearchNetworks(None, None, saying(prob), saying(of_extent))
    finish(classify(list(detections), Settings(**settings), networks))
    return [detection.candidate.status for detection in detections]


def rules(detection: RawDetection) -> list[str]:
    return [decision.rule for decision in detection.candidate.decisions]


# --- the classifier's probability ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("prob", "threshold", "status"), [(0.76, 0.75, KEPT), (0.74, 0.75, DROPPED), (0.3, 0.2, KEPT)])
def test_a_detection_is_kept_from_the_threshold_on(prob, threshold, status):
    one = found(snr_stacked=5, snr_brightest=5)
    assert classified(one, prob=prob, threshold=threshold) == [status]
    assert one.candidate.prob == pytest.approx(prob)
    assert rules(one) == ["probable" if status is KEPT else "improbable"]


@pytest.mark.parametrize(
    ("snr", "brightest", "prob", "status"),
    [
        (8.5, 8.5, 0.3, FLAGGED),
        (7.5, 7.5, 0.3, DROPPED),  # noise may be as bright
        (13, 20, 0.3, FLAGGED),
        (11, 20, 0.3, DROPPED),  # a sidelobe of the brightest may be as bright
        (30, 30, 0.12, FLAGGED),
        (30, 30, 0.08, DROPPED),  # the classifier is sure
    ],
)
def test_what_is_too_bright_for_noise_and_sidelobes_is_flagged(snr, brightest, prob, status):
    one = found(snr_stacked=snr, snr_brightest=brightest)
    assert clearly_emission(one) == (status is FLAGGED or prob < 0.1)
    assert classified(one, prob=prob) == [status]


@pytest.mark.parametrize(
    ("line", "others", "prob", "status"),
    [
        (8.5, 8.5, 0.3, FLAGGED),
        (7.5, 7.5, 0.3, DROPPED),
        (13, 20, 0.3, FLAGGED),
        (11, 20, 0.3, DROPPED),
        (13, 20, 0.08, DROPPED),
    ],
)
def test_the_brightest_line_is_flagged_though_a_continuum_outshines_it(line, others, prob, status):
    faint = found(snr_own_line=line, snr_brightest=250)
    other = found(number=2, snr_own_line=others, snr_brightest=250)
    assert classified(faint, other, prob=prob)[0] is status


@pytest.mark.parametrize(("snr", "status"), [(310, FLAGGED), (290, DROPPED)])
def test_beside_a_very_bright_source_the_brightest_line_is_flagged_whatever_the_classifier_says(snr, status):
    bright = found(y=100, x=100, number=2, snr_stacked=snr, snr_brightest=snr)
    assert classified(found(snr_own_line=40, snr_brightest=snr), bright, prob=0.01)[0] is status


def test_beside_a_very_bright_source_extended_emission_needs_its_probability_nevertheless():
    """Only the probability of Judge is not trusted there."""
    bright = found(y=100, x=100, number=2, snr_stacked=310, snr_brightest=310)
    patch = found(snr_own_line=40, snr_brightest=310, box=EXTENDED, extent=extent())
    assert classified(patch, bright, prob=0.01, of_extent=0.01)[0] is DROPPED


@pytest.mark.parametrize(
    ("snr", "line"),
    [(0.0, 10.0), (96**0.5 / 0.05, 10 / 2**0.5), (2 * 96**0.5 / 0.05, 10 / 5**0.5)],
)
def test_the_noise_of_each_channel_is_known_to_five_percent_only(snr, line):
    assert found(snr_stacked=snr, snr_own_line=10.0).line_snr == pytest.approx(line)


def extent(number: float = 20.0) -> Extent:
    """Of a patch of so many beams."""
    return replace(Extent(**dict.fromkeys((f.name for f in fields(Extent)), 1.0)), beams=number)


@pytest.mark.parametrize(
    ("prob", "snr", "status", "rule"),
    [
        (0.9, 20, KEPT, "probable"),
        (0.5, 20, FLAGGED, "too_bright_for_noise"),
        (0.5, 6, DROPPED, "improbable"),
        (0.05, 20, DROPPED, "improbable"),
    ],
)
def test_extended_emission_is_kept_by_the_extent_classifier_not_by_judge(prob, snr, status, rule):
    patch = found(box=EXTENDED, snr_stacked=snr, status=FLAGGED, extent=extent())
    assert classified(patch, prob=0.99, of_extent=prob) == [status]
    assert rules(patch) == [rule]
    assert patch.candidate.prob == pytest.approx(prob)


def test_without_an_extent_classifier_judge_is_asked():
    patch = found(box=EXTENDED, extent=extent())
    assert classified(patch, prob=0.8) == [KEPT]
    assert patch.candidate.prob == pytest.approx(0.8)


def test_a_small_patch_of_which_judge_keeps_nothing_may_be_one_source():
    shared = extent(5.0)
    first, second = found(snr_stacked=20, extent=shared), found(y=66, number=2, snr_stacked=15, extent=shared)
    assert classified(first, second, prob=0.3, of_extent=0.9) == [KEPT, DROPPED]
    assert first.candidate.prob == pytest.approx(0.9)
    assert second.candidate.parent == 1
    assert rules(first)[-1] == "extended_source"
    assert rules(second)[-1] == "part_of"


def test_a_small_patch_that_is_improbable_as_a_whole_too_stays_dropped_with_its_own_probability():
    shared = extent(5.0)
    first, second = found(snr_stacked=7, extent=shared), found(y=66, number=2, snr_stacked=6, extent=shared)
    assert classified(first, second, prob=0.3, of_extent=0.7) == [DROPPED, DROPPED]
    assert (first.candidate.prob, second.candidate.prob) == pytest.approx((0.7, 0.3))
    assert rules(first) == ["improbable", "improbable_patch"]


def test_a_small_patch_is_asked_about_with_its_own_probability_whatever_was_found_before_it():
    """The first detection is in no patch, for which the extent classifier has no answer."""
    alone, *patches = found(y=20), *(found(number=2 + i, snr_stacked=20, extent=extent(5.0)) for i in (0, 1))
    assert classified(alone, *patches, prob=0.3, of_extent=0.9) == [DROPPED, KEPT, KEPT]
    assert [detection.candidate.prob for detection in (alone, *patches)] == pytest.approx([0.3, 0.9, 0.9])


def test_a_small_part_of_a_large_patch_is_classified_once():
    """It is a candidate with a box already, so that its brightness counts as that of any other."""
    one = found(snr_stacked=20, box=EXTENDED, extent=extent(5.0))
    assert classified(one, prob=0.3, of_extent=0.5) == [FLAGGED]
    assert rules(one) == ["too_bright_for_noise"]


def test_without_an_extent_classifier_a_small_patch_is_what_judge_says():
    patch = found(snr_stacked=7, extent=extent(5.0))
    assert classified(patch, prob=0.3) == [DROPPED]
    assert patch.candidate.prob == pytest.approx(0.3)


def test_a_field_without_patches_does_not_need_the_extent_classifier():
    def refuse(inputs):
        raise AssertionError("there is nothing to ask about")

    one = found()
    finish(classify([one], Settings(), SearchNetworks(None, None, saying(0.9), refuse)))
    assert one.candidate.status is KEPT


def test_an_artefact_is_no_patch_of_emission():
    one = found(spectrum=20 * WAVE, extent=extent(5.0))
    assert classified(one, prob=0.3, of_extent=0.9) == [DROPPED]
    assert rules(one) == ["baseline_ripple"]


@pytest.mark.parametrize(
    ("judge", "of_extent", "beams", "statuses"),
    [
        (0.8, 0.9, 5.0, [KEPT, KEPT]),  # Judge knows them
        (0.3, 0.9, 12.0, [FLAGGED, FLAGGED]),  # as large a patch is a candidate of its own, or outshone
    ],
)
def test_a_small_patch_changes_nothing_where_it_is_not_asked_about(judge, of_extent, beams, statuses):
    shared = extent(beams)
    pair = [found(y=60 + 6 * i, number=1 + i, snr_stacked=20, extent=shared) for i in (0, 1)]
    assert classified(*pair, prob=judge, of_extent=of_extent) == statuses
    assert [detection.candidate.prob for detection in pair] == pytest.approx([judge, judge])
    assert not any(detection.candidate.parent for detection in pair)


@pytest.mark.parametrize(("line", "status"), [(True, KEPT), (False, DROPPED)])
def test_a_line_can_be_required(line, status):
    one = found()
    one.candidate.peaks = (EmissionPeak(10, 0.9, 0.9, 10.0, 5.0),) if line else ()
    assert classified(one, prob=0.9, require_line=True) == [status]


def test_what_is_dropped_has_one_reason_though_it_has_no_line_either():
    one = found()
    assert classified(one, prob=0.1, require_line=True) == [DROPPED]
    assert rules(one) == ["improbable"]


def test_nothing_found_is_nothing_to_classify():
    assert classified(prob=0.9) == []


@pytest.mark.parametrize(
    ("others", "times"),
    [([0.45], 4), ([0.55], 4), ([0.55, 0.45], 4), ([0.55, 0.9], 2), ([0.9] * 4, 1), ([0.9] * 8, 1)],
)
def test_odds_fall_with_the_area_for_each_other_likely_source(others, times):
    field = [replace(found(snr_stacked=6), window=window(192)) for _ in range(1 + len(others))]  # 48 beams on a side
    odds = np.exp(odds_for_field_area(logit([0.8, *others]), field))
    assert odds[0] == pytest.approx(4 / times)


def test_the_places_of_one_galaxy_are_one_other_source():
    shared = extent(15.0)
    field = [replace(found(snr_stacked=6), window=window(192), extent=of) for of in (None, shared, shared, shared)]
    odds = np.exp(odds_for_field_area(logit([0.8] * 4), field))
    assert odds == pytest.approx([4 / 4, 4 / 4, 4 / 4, 4 / 4])
    two = [replace(field[0]), *field]
    assert np.exp(odds_for_field_area(logit([0.8] * 5), two))[0] == pytest.approx(4 / 2)


@pytest.mark.parametrize(("snr", "lowered"), [(6.8, True), (7.0, False)])
def test_what_is_too_bright_for_noise_is_as_likely_in_a_large_field(snr, lowered):
    one = replace(found(snr_stacked=snr), window=window(192))
    assert np.exp(odds_for_field_area(logit([0.8]), [one]))[0] == pytest.approx(1 if lowered else 4)


@pytest.mark.parametrize(("side", "area"), [(48, 1), (96, 1), (144, 2.25), (192, 4)])
def test_odds_fall_with_the_area_beyond_24_beams_on_a_side(side, area):
    one = replace(found(snr_stacked=6), window=window(side))
    assert np.exp(odds_for_field_area(logit([0.8]), [one]))[0] == pytest.approx(4 / area)


def test_the_places_of_a_small_patch_are_several_other_sources():
    """A patch of a few beams may be a group of galaxies, each of which is likely or not by itself."""
    shared = extent(5.0)
    logits = np.array([0.0, 3.0, 3.0])
    field = [found(), *(found(number=2 + i, extent=shared) for i in (0, 1))]
    large = [replace(one, window=window(600)) for one in field]
    apart = [replace(one, extent=None) for one in large]
    assert odds_for_field_area(logits, large) == pytest.approx(odds_for_field_area(logits, apart))
    assert odds_for_field_area(logits, large)[0] < 0


# --- artefacts ------------------------------------------------------------------------------------------------------


def kind(detection: RawDetection, *bright: RawDetection) -> str | None:
    decision = artefact_kind(detection, list(bright))
    return decision.rule if decision else None


def test_an_artefact_is_dropped_whatever_the_classifier_says():
    rippled = found(spectrum=20 * WAVE)
    assert classified(rippled, prob=0.99) == [DROPPED]
    assert rules(rippled) == ["baseline_ripple"]


def test_extended_ripples_are_artefacts_too():
    assert kind(found(spectrum=20 * WAVE, box=EXTENDED)) == "baseline_ripple"


@pytest.mark.parametrize(
    ("times", "line", "artefact"),
    [
        (1.4, 3.0, "flank"),
        (1.6, 3.0, None),  # brighter than the flank
        (1.4, 4.9, "flank"),
        (1.4, 5.1, None),  # a line of its own
    ],
)
def test_a_flank_is_no_brighter_than_a_gaussian_and_a_half(times, line, artefact):
    bright = found(snr_stacked=1000, number=7)
    flank = found(x=60 + 2 * 3.4, snr_stacked=times * 1000 * np.exp(-2), snr_own_line=line)
    assert kind(flank, bright) == artefact
    if artefact:
        assert artefact_kind(flank, [bright]).ids == (7,)


def test_a_flank_is_fainter_than_its_source():
    assert kind(found(x=61, snr_stacked=1010), found(snr_stacked=1000)) is None
    assert kind(found(x=61, snr_stacked=990), found(snr_stacked=1000)) == "flank"


@pytest.mark.parametrize(("line", "artefact"), [(4, "flank"), (5, None)])
def test_a_line_on_the_flank_of_a_fainter_source_counts_as_anywhere(line, artefact):
    assert kind(found(x=61, snr_stacked=300, snr_own_line=line), found(snr_stacked=400)) == artefact


@pytest.mark.parametrize(
    ("snr", "line", "artefact"), [(400, 4, "flank"), (400, 5, None), (2000, 9, "flank"), (2000, 11, None)]
)
def test_the_flank_of_a_source_that_the_search_found_has_no_line_of_its_own(snr, line, artefact):
    """Of 4.5 sigma, or half a percent of the source's S/N."""
    whole = found(snr_stacked=snr, number=7)
    flank = found(x=90, snr_stacked=20, snr_own_line=line, flank_of=whole)
    assert kind(flank) == artefact
    if artefact:
        assert artefact_kind(flank, []).ids == (7,)


@pytest.mark.parametrize(("snr", "box", "bright"), [(310, None, True), (290, None, False), (310, EXTENDED, False)])
def test_very_bright_is_a_point_source_of_300_sigma(snr, box, bright):
    assert bool(very_bright([found(snr_stacked=snr, box=box)])) == bright


# --- windows --------------------------------------------------------------------------------------------------------


def part(y: int, brightest: float) -> Part:
    image = np.zeros((2, 2))
    one = replace(found(snr_brightest=brightest), window=window(y=y))
    return Part(window(y=y), image, image, image, [one], None)


@pytest.mark.parametrize(
    ("snr", "values", "status"),
    [
        (130, {}, FLAGGED),
        (110, {}, DROPPED),
        (130, {"box": EXTENDED}, FLAGGED),
        (110, {"box": EXTENDED}, DROPPED),
        (10, {"prob": 0.8}, FLAGGED),  # not flagged for its brightness
        (10, {"status": KEPT}, KEPT),
    ],
)
def test_what_a_source_in_a_neighbouring_window_may_explain_is_dropped(snr, values, status):
    one = found(snr_stacked=snr, **({"prob": 0.3, "status": FLAGGED} | values))
    drop_sidelobes_across_windows([one], [part(0, 20), part(50, 200), part(500, 10_000)], Settings())
    assert one.candidate.status is status


def test_a_neighbouring_window_in_which_nothing_was_found_explains_nothing():
    one = found(snr_stacked=20, prob=0.3, status=FLAGGED)
    drop_sidelobes_across_windows([one], [part(0, 20), replace(part(50, 200), detections=[])], Settings())
    assert one.candidate.status is FLAGGED


@pytest.mark.parametrize(("box", "status"), [(None, FLAGGED), (EXTENDED, DROPPED)])
def test_a_companion_that_explains_the_data_is_no_sidelobe(box, status):
    one = found(snr_stacked=10, prob=0.3, status=FLAGGED, box=box)
    one.candidate.blended = True
    drop_sidelobes_across_windows([one], [part(0, 200)], Settings())
    assert one.candidate.status is status


# --- beside a brighter source ---------------------------------------------------------------------------------------


def companion(monkeypatch, apart: float = 8.0, **values) -> tuple[RawDetection, RawDetection, list]:
    """A brighter source and a dropped one ``apart`` pixels from it (a beam is 8), and what was asked of the fit."""
    asked: list = []

    def fit(likelihood, first, second, others):
        asked.append(others)
        return 7.0, first.place, second.place

    cutout = Cutout(np.random.default_rng(0).normal(size=(96, 64, 64)).astype(np.float32), (28, 28))
    monkeypatch.setattr(decisions, "two_sources", fit)
    monkeypatch.setattr(decisions, "cutout_of", lambda *_: cutout)
    first = found(snr_stacked=50, spectrum=np.ones(96, np.float32))
    values = {"prob": 0.6, "status": DROPPED, "snr_stacked": 15, "spectrum": np.ones(96, np.float32)} | values
    return first, found(x=60 + apart, number=2, **values), asked


CUBE = Cube.from_array(np.zeros((96, 120, 120), np.float32))


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({}, FLAGGED),
        ({"prob": 0.55}, FLAGGED),
        ({"prob": 0.45}, DROPPED),  # less likely than not
        ({"apart": 11}, FLAGGED),
        ({"apart": 13}, DROPPED),  # a beam and a half is 12
        ({"snr_stacked": 60}, DROPPED),  # brighter than its neighbour
        ({"box": EXTENDED}, DROPPED),
        ({"spectrum": 20 * WAVE}, DROPPED),  # an artefact
    ],
)
def test_what_is_likely_beside_a_brighter_source_is_flagged_where_two_fit_better(monkeypatch, values, status):
    first, second, _ = companion(monkeypatch, **values)
    flag_companions([first, second], CUBE, np.zeros((120, 120)), Settings())
    assert second.candidate.status is status
    assert first.candidate.blended == second.candidate.blended == (status is FLAGGED)
    if status is FLAGGED:
        assert second.candidate.decisions[-1].ids == (first.candidate.id,)


def test_what_is_kept_anyway_is_not_looked_at_again(monkeypatch):
    first, second, asked = companion(monkeypatch, status=KEPT, prob=0.9)
    flag_companions([first, second], CUBE, np.zeros((120, 120)), Settings())
    assert second.candidate.status is KEPT
    assert asked == []


def test_a_source_whose_cutout_does_not_fit_into_memory_has_no_companions(monkeypatch):
    first, second, asked = companion(monkeypatch)
    monkeypatch.setattr(decisions, "cutout_of", lambda *_: None)
    flag_companions([first, second], CUBE, np.zeros((120, 120)), Settings())
    assert second.candidate.status is DROPPED
    assert asked == []


@pytest.mark.parametrize("status", [FLAGGED, DROPPED])
def test_only_a_source_that_is_kept_has_companions(monkeypatch, status):
    first, second, _ = companion(monkeypatch)
    first.candidate.status = status
    flag_companions([first, second], CUBE, np.zeros((120, 120)), Settings())
    assert second.candidate.status is DROPPED


@pytest.mark.parametrize(("peaks", "status"), [((), DROPPED), ((EmissionPeak(48, 0.9, 0.9, 48.0, 8.0),), FLAGGED)])
def test_a_companion_needs_a_line_where_one_is_required(monkeypatch, peaks, status):
    first, second, _ = companion(monkeypatch)
    second.candidate.peaks = peaks
    flag_companions([first, second], CUBE, np.zeros((120, 120)), Settings(require_line=True))
    assert second.candidate.status is status


@pytest.mark.parametrize(("apart", "counted"), [(22, 1), (26, 0)])
def test_other_sources_count_within_three_beams(monkeypatch, apart, counted):
    first, second, asked = companion(monkeypatch)
    third = found(y=60 + apart, x=60 + 8, number=3, snr_stacked=20, spectrum=np.ones(96, np.float32))
    flag_companions([first, second, third], CUBE, np.zeros((120, 120)), Settings())
    assert [len(others) for others in asked] == [counted]


def test_a_companion_that_does_not_fit_better_stays_dropped(monkeypatch):
    first, second, _ = companion(monkeypatch)
    monkeypatch.setattr(decisions, "two_sources", lambda *_: None)
    flag_companions([first, second], CUBE, np.zeros((120, 120)), Settings())
    assert second.candidate.status is DROPPED
