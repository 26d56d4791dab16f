"""Patches of extended emission, by themselves; from cube to candidate they are in test_search and test_seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logit

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.extended_emission import crowd, merge_extended, with_unseen
from napari_almadet.search.features import COMPRESSION
from napari_almadet.search.line_maps import MAPS
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.windows import Window


def seen(strength: np.ndarray) -> SearchedWindow:
    """A window of no noise in which the stacked image has such S/N."""
    cube = torch.from_numpy(strength / np.sqrt(8)).repeat(8, 1, 1)
    valid = torch.ones(strength.shape, dtype=torch.bool)
    units = NoiseUnits(cube, valid, torch.ones(8), torch.ones(strength.shape), torch.arange(8))
    images = np.zeros((len(MAPS), *strength.shape), np.float32)
    images[MAPS.index("stack")] = np.arcsinh(strength / COMPRESSION)
    return SearchedWindow(units, images, np.full((5, *strength.shape), -3.0), 4.0, 1.0, False, torch.randn(64, 8))


def test_what_a_far_brighter_source_outshines_is_no_patch():
    strength = np.zeros((60, 60), np.float32)
    strength[20:50, 20:50] = 20
    strength[5, 5] = 1000
    window = Window(0, 0, strength.shape, (slice(0, 60), slice(0, 60)), 1)
    inside = RawDetection(
        Candidate(1, Box(0, 1, 0, 1), 0.9), 35, 35, 2.0, 2.0, np.zeros(8, np.float32), Features(), window
    )
    assert merge_extended([inside], seen(strength), window) == [inside]
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
