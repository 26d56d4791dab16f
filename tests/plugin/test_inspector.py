"""The dock below the canvas: it follows the selection and the theme, and leaves room on a small screen."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMainWindow

from napari_almadet.plugin.inspector import Inspector
from napari_almadet.plugin.theme import Colours


@pytest.fixture
def inspector(session, viewer):
    inspector = Inspector(session)
    viewer.window.add_dock_widget(inspector, name="Candidate inspector", area="bottom")
    return inspector


def test_fits_on_a_small_screen(inspector, viewer, qtbot):
    window = inspector.window()
    assert isinstance(window, QMainWindow)
    window.show()
    qtbot.waitUntil(lambda: window.corner(Qt.Corner.BottomLeftCorner) == Qt.DockWidgetArea.LeftDockWidgetArea)
    viewer.window.resize(1280, 720)
    qtbot.wait(100)
    assert (window.width(), window.height()) == (1280, 720)


def test_hint_until_a_candidate_is_selected(inspector, session, detections):
    assert inspector.pages.currentIndex() == 1
    session.select(None)
    assert inspector.pages.currentIndex() == 0
    session.select(detections.candidates[1])
    assert inspector.pages.currentIndex() == 1
    assert "Candidate 2" in inspector.numbers.text()


def test_cut_gets_room_beside_the_image(inspector, viewer, qtbot):
    inspector.window().show()
    viewer.window.resize(1600, 900)
    qtbot.wait(50)
    before = inspector.panels.sizes()
    inspector.focus.show_cut.setChecked(True)
    after = inspector.panels.sizes()
    assert after[1] > 1.5 * before[1]
    assert after[0] < before[0]


def test_follows_the_theme(inspector, viewer):
    viewer.theme = "light"
    assert inspector.spectrum.dirty.opts["pen"].color().name() == Colours.of("light").text


def test_one_axis_for_all_panels(inspector):
    inspector.focus.image_choice.setCurrentText("Moment 1")
    before = float(inspector.focus.image.levels[1])
    inspector.spectrum.unit_choice.setCurrentText("km/s optical")
    assert inspector.choice.axis.choice == "km/s optical"
    assert float(inspector.focus.image.levels[1]) != before
