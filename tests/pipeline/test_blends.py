"""Patches of extended emission, by themselves; from cube to candidate they are in test_search and test_seams."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.pipeline.blends import elongation, joined
from napari_almadet.pipeline.catalog import Box, Candidate
from napari_almadet.pipeline.sources import MEASURES
from napari_almadet.pipeline.windows import Find, Window


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
    numbers = np.zeros(len(MEASURES), np.float32)
    inside = Find(Candidate(1, Box(0, 1, 0, 1), 0.9), 35, 35, 2.0, 2.0, np.zeros(8, np.float32), numbers, window)
    assert joined([inside], strength, None, window, 4.0, 8) == [inside]
