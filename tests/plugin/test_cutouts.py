"""A cutout is read once, and off the window's thread where it is large."""

from __future__ import annotations

import numpy as np
import pytest
from made_by_hand import make_detections

from napari_almadet.measure.focus import cut_out
from napari_almadet.plugin import cutouts as module
from napari_almadet.plugin.cutouts import Cutouts

pytestmark = pytest.mark.no_window


def test_small_cutout_is_there_at_once_and_kept(session, detections):
    cutouts, candidate = Cutouts(session), detections.candidates[0]
    cutout = cutouts.about(candidate)
    np.testing.assert_array_equal(cutout.planes, cut_out(detections.cube, candidate.box, 64).planes)
    assert cutouts.about(candidate) is cutout


def test_large_cutout_comes_later(session, detections, monkeypatch, qtbot):
    monkeypatch.setattr(module, "AT_ONCE", 0)
    cutouts, candidate, told = Cutouts(session), detections.candidates[0], []
    cutouts.ready.connect(lambda: told.append(True))
    assert cutouts.about(candidate) is None
    assert cutouts.about(candidate) is None  # asked for once only
    qtbot.waitUntil(lambda: bool(told), timeout=20_000)
    assert cutouts.about(candidate).origin == cut_out(detections.cube, candidate.box, 64).origin
    qtbot.wait(50)
    assert told == [True]


def test_cutout_of_a_cube_left_behind_is_let_go(session, detections, cube, cube_image, monkeypatch, qtbot):
    monkeypatch.setattr(module, "AT_ONCE", 0)
    cutouts, told = Cutouts(session), []
    cutouts.ready.connect(lambda: told.append(True))
    cutouts.about(detections.candidates[0])
    session.present(cube_image, make_detections(cube))
    qtbot.wait(300)
    assert told == []


def test_memory_is_bounded(session, detections, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 2)
    cutouts = Cutouts(session)
    first = cutouts.about(detections.candidates[0])
    for candidate in detections.candidates[1:3]:
        cutouts.about(candidate)
    assert cutouts.about(detections.candidates[0]) is not first
