"""Patches of extended emission, by themselves; from cube to candidate they are in test_search and test_seams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import searched_window
from scipy.special import logit

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.search.extended_emission import (
    as_one,
    crowd,
    merge_extended,
    merge_extended_across_windows,
    patches,
    with_unseen,
)
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.windows import Window


def seen(strength: np.ndarray) -> SearchedWindow:
    """A window of no noise in which the stacked image has such S/N."""
    return searched_window(np.tile(strength / np.sqrt(8), (8, 1, 1)), 4.0, stack=strength)


@pytest.mark.parametrize(("brightest", "patch"), [(500, False), (300, True)])
def test_what_a_source_of_twenty_times_its_brightness_outshines_is_no_patch(brightest, patch):
    strength = np.zeros((60, 60), np.float32)
    strength[20:50, 20:50] = 20
    strength[5, 5] = brightest
    window = Window(0, 0, strength.shape, (slice(0, 60), slice(0, 60)), 1)
    inside = RawDetection(
        Candidate(1, Box(0, 1, 0, 1), 0.9), 35, 35, 2.0, 2.0, np.zeros(8, np.float32), Features(), window
    )
    assert (merge_extended([inside], seen(strength), window) != [inside]) == patch
    assert inside.extent is not None  # of the classifier's second thoughts


@pytest.mark.parametrize(
    ("chances", "strengths", "crowded"),
    [
        ((0.8, 0.7), (40, 20), True),
        ((0.8, 0.7, 0.2), (40, 20, 20), True),
        ((0.8, 0.7, 0.2), (40, 20, 30), False),  # as bright, and it does not know what it is
        ((0.8, 0.2), (40, 20), False),  # of one source the patch is a better box
        ((0.4, 0.3), (40, 20), False),
        ((), (), False),
    ],
)
def test_a_crowd_is_what_source_finder_is_sure_of(chances, strengths, crowded):
    window = Window(0, 0, (60, 60), (slice(0, 60), slice(0, 60)), 1)
    members = []
    for chance, snr in zip(chances, strengths, strict=True):
        features = Features(detection_logit=logit(chance), snr_line=snr)
        members.append(
            RawDetection(Candidate(1, Box(0, 1, 0, 1), chance), 0, 0, 2.0, 2.0, np.zeros(8), features, window)
        )
    assert crowd(members, 40.0) == crowded


def test_a_large_patch_in_which_source_finder_sees_nothing_is_looked_at_all_the_same():
    strength = np.zeros((60, 60), np.float32)
    strength[20:50, 20:50] = 20
    strength[30, 40] = 25
    strength[5:8, 5:8] = 9  # too small
    places = with_unseen(np.zeros((0, 5), np.float32), seen(strength))
    assert places[:, 1:3].tolist() == [[30, 40]]
    there = np.array([[2.0, 45, 22, 2, 2]], np.float32)
    assert with_unseen(there, seen(strength)).tolist() == there.tolist()


@pytest.mark.parametrize(("score", "brightest", "known"), [(0.6, 9, True), (0.3, 9, True), (0.3, 200, False)])
def test_a_small_patch_is_measured_where_nothing_outshines_it(score, brightest, known):
    strength = np.zeros((60, 60), np.float32)
    strength[50, 50] = brightest
    strength[20:28, 20:28] = 9
    window = Window(0, 0, strength.shape, (slice(0, 60), slice(0, 60)), 1)
    features = Features(detection_logit=logit(score), snr_line=9)
    one = RawDetection(Candidate(1, Box(0, 1, 0, 1), score), 23, 23, 2.0, 2.0, np.zeros(8), features, window)
    assert merge_extended([one], seen(strength), window) == [one]
    assert (one.extent is not None) == known
    if known:
        assert one.extent.beams == pytest.approx(64 / (1.133 * 16), rel=0.01)


@pytest.mark.parametrize(("smoothed", "large"), [(0, False), (1, True)])
def test_a_patch_of_a_smoothed_window_is_extended_emission_from_fewer_of_its_wider_beams_on(smoothed, large):
    strength = np.zeros((60, 60), np.float32)
    strength[20:28, 20:28] = 9  # 3.5 beams
    window = Window(0, 0, strength.shape, (slice(0, 60), slice(0, 60)), 1)
    features = Features(detection_logit=logit(0.3), snr_line=9)
    one = RawDetection(Candidate(1, Box(0, 1, 0, 1), 0.3), 23, 23, 2.0, 2.0, np.zeros(8), features, window)
    searched = replace(seen(strength), smoothed=smoothed)
    (found,) = merge_extended([one], searched, window)
    assert (found.box == Box(20, 28, 20, 28)) == large
    assert len(with_unseen(np.zeros((0, 5), np.float32), searched)) == large


def test_ripples_that_exceed_the_noise_make_no_patch_of_the_sources_in_them():
    y, x = np.mgrid[:60, :60]
    ripples = 8 * np.sin(x / 3.0) * np.sin(y / 7.0)  # their rms is 4
    strength = (ripples + 50 * np.exp(-4 * np.log(2) * ((y - 30) ** 2 + (x - 20) ** 2) / 16)).astype(np.float32)
    window = Window(0, 0, strength.shape, (slice(0, 60), slice(0, 60)), 1)
    features = Features(detection_logit=logit(0.6), snr_stacked=50)
    one = RawDetection(Candidate(1, Box(0, 1, 0, 1), 0.6), 30, 20, 1.7, 1.7, np.zeros(8), features, window)
    places = np.array([[0.0, 30, 20, 1.7, 1.7]], np.float32)
    assert with_unseen(places, seen(strength)).tolist() == places.tolist()
    assert merge_extended([one], seen(strength), window) == [one]  # not a patch whose middle lies elsewhere
    assert one.extent is None


# --- single rules ---

FIELD = Window(0, 0, (60, 60), (slice(0, 60), slice(0, 60)), 1)


def one_at(y: float, x: float, score: float = 0.2, snr: float = 20.0, box: Box | None = None) -> RawDetection:
    features = Features(detection_logit=logit(score), snr_stacked=snr)
    candidate = Candidate(1, Box(0, 1, 0, 1), score)
    return RawDetection(candidate, y, x, 2.0, 2.0, np.zeros(8, np.float32), features, FIELD, box)


def square(level: float = 20.0) -> np.ndarray:
    """An image of a patch of 20 x 30 pixels, 33 beams."""
    strength = np.zeros((60, 60), np.float32)
    strength[20:40, 20:50] = level
    return strength


def test_a_large_patch_is_one_flagged_detection_with_its_box_and_its_centre_and_what_is_outside_stays():
    outside = one_at(8, 8)
    left, one = merge_extended([one_at(25, 25, 0.3), outside, one_at(35, 45, 0.2)], seen(square()), FIELD)
    assert left is outside
    assert outside.extent is None
    assert (one.box.y0, one.box.y1, one.box.x0, one.box.x1) == (20, 40, 20, 50)
    assert (one.y, one.x) == pytest.approx((29.5, 34.5))
    assert one.candidate.status is Status.FLAGGED
    assert one.extent.peaks == 2
    assert one.spectrum.shape == (8,)
    assert one.sigma_x / one.sigma_y == pytest.approx(1.5)


def test_a_patch_without_a_detection_is_none():
    outside = one_at(8, 8)
    assert merge_extended([outside], seen(square()), FIELD) == [outside]
    assert merge_extended_across_windows([outside], square(), FIELD, 4.0) == ([outside], [])


def test_a_crowd_in_a_small_patch_is_measured_too():
    strength = np.zeros((60, 60), np.float32)
    strength[20:28, 20:28] = 9
    crowded = [one_at(22, 22, 0.8, 9.0), one_at(26, 26, 0.8, 9.0)]
    assert merge_extended(crowded, seen(strength), FIELD) == crowded
    assert all(one.extent is not None for one in crowded)


def test_a_patch_over_several_windows_is_one_detection_and_what_is_outside_stays():
    inside, outside = [one_at(25, 25), one_at(35, 45)], one_at(8, 8)
    left, ((one, patch),) = merge_extended_across_windows([inside[0], outside, inside[1]], square(), FIELD, 4.0)
    assert left == [outside]
    assert (patch == (square() > 0)).all()
    assert (one.box.y0, one.box.y1, one.box.x0, one.box.x1) == (20, 40, 20, 50)


def test_sure_sources_that_crowd_over_several_windows_stay():
    crowded = [one_at(25, 25, 0.8), one_at(35, 45, 0.8)]
    assert merge_extended_across_windows(crowded, square(), FIELD, 4.0) == (crowded, [])


def test_what_another_window_has_as_a_patch_is_not_merged_again():
    known, part, outside = one_at(29.5, 34.5, box=Box(20, 40, 20, 50)), one_at(25, 25), one_at(8, 8)
    assert merge_extended_across_windows([known, part, outside], square(), FIELD, 4.0) == ([known, outside], [])


@pytest.mark.parametrize(("side", "count"), [(14, 1), (13, 0)])
def test_a_patch_is_what_exceeds_a_tenth_of_its_peak(side, count):
    """Ten beams of 4 pixels are 181 pixels; what is around is over 5 sigma everywhere, but not over the tenth."""
    strength = np.full((60, 60), 5.5, np.float32)
    strength[20 : 20 + side, 20 : 20 + side] = 60
    assert [int(patch.sum()) for patch, _ in patches(strength, 4.0)] == [side**2] * count


def test_the_extent_of_a_patch_is_the_largest_that_a_member_has():
    some = [one_at(25, 25), one_at(30, 30), one_at(35, 45)]
    merge_extended([some[1]], seen(square()), FIELD)
    largest = some[1].extent
    some[2].extent = replace(largest, beams=largest.beams / 2)
    assert as_one(some, square() > 0, 20.0, FIELD, 4.0, square()).extent is largest
    assert as_one(some[:1], square() > 0, 20.0, FIELD, 4.0, square()).extent is None
