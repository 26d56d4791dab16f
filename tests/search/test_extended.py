"""Patches of extended emission, by themselves; from cube to candidate they are in test_search and test_seams."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.extended import crowd, elongation, merge_extended
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.windows import Window


@pytest.mark.parametrize("angle", range(0, 180, 45))
def test_elongation_is_that_of_an_ellipse_however_it_lies(angle):
    y, x = np.indices((200, 200)) - 100
    sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    ellipse = ((x * cos + y * sin) / 60) ** 2 + ((y * cos - x * sin) / 10) ** 2 < 1
    assert elongation(ellipse) == pytest.approx(6, rel=0.03)


def test_elongation_of_a_line_of_pixels():
    line = np.zeros((30, 30), bool)
    line[10, 5:25] = True
    assert elongation(line) == pytest.approx(20, rel=0.1)


def test_what_a_far_brighter_source_outshines_is_no_patch():
    strength = np.zeros((60, 60), np.float32)
    strength[20:50, 20:50] = 20
    strength[5, 5] = 1000
    window = Window(0, 0, strength.shape, (slice(0, 60), slice(0, 60)), 1)
    inside = RawDetection(
        Candidate(1, Box(0, 1, 0, 1), 0.9), 35, 35, 2.0, 2.0, np.zeros(8, np.float32), Features(), window
    )
    assert merge_extended([inside], strength, None, window, 4.0, 8) == [inside]


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
