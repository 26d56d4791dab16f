"""What the mouse does to the boxes on the canvas, by Qt's own events to the real window."""

from __future__ import annotations

import numpy as np
import pytest
from made_by_hand import stand_in_networks
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

from napari_almadet.catalogue.candidate import Box


class Mouse:
    """The left button on the canvas of a viewer, at pixels (x, y) of a cube's layer."""

    def __init__(self, viewer, canvas, image):
        self.viewer, self.canvas, self.image = viewer, canvas, image

    def _send(self, kind: QEvent.Type, x: float, y: float, held: bool) -> None:
        camera = self.viewer.scene.camera
        offset = camera.zoom * (np.array(self.image.data_to_world((0, y, x))[-2:]) - camera.center[-2:])
        up = -1 if camera.orientation2d[0] == "up" else 1
        place = QPointF(self.canvas.width() / 2 + offset[1], self.canvas.height() / 2 + up * offset[0])
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        button = none if kind == QEvent.Type.MouseMove else left
        event = QMouseEvent(
            *(kind, place, self.canvas.mapToGlobal(place), button, left if held else none),
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self.canvas, event)
        QApplication.processEvents()

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 5) -> None:
        """Press at one place, move to another, let go."""
        self._send(QEvent.Type.MouseMove, *start, held=False)
        self._send(QEvent.Type.MouseButtonPress, *start, held=True)
        for part in np.linspace(0, 1, steps + 1)[1:]:
            way = np.array(start) + part * np.subtract(end, start)
            self._send(QEvent.Type.MouseMove, *way, held=True)
        self._send(QEvent.Type.MouseButtonRelease, *end, held=False)

    def click(self, x: float, y: float) -> None:
        """Press and let go."""
        self.drag((x, y), (x, y), steps=0)


@pytest.fixture
def viewer(make_napari_viewer):
    """A window on the screen, so that its canvas has a size."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1000, 700)
    return viewer


@pytest.fixture
def measured(session):
    session.networks = stand_in_networks
    session.boxes_everywhere = True
    return session


@pytest.fixture
def mouse(viewer, measured, cube_image, qtbot):
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    qtbot.waitUntil(lambda: canvas.width() > 200)
    viewer.reset_view()
    return Mouse(viewer, canvas, cube_image)


def boxes_of(viewer):
    return viewer.layers["toy candidates"]


def test_a_click_on_a_box_selects_it(measured, mouse):
    mouse.click(32, 70)
    assert measured.selected.id == 2


def test_a_box_that_is_not_seen_is_not_caught_while_boxes_are_edited(measured, viewer, mouse):
    measured.boxes_everywhere = False
    first, second = measured.candidates[:2]
    measured.use("edit")
    mouse.click(32, 70)  # where the second one's box is, in other channels
    assert measured.selected is first
    mouse.drag((32, 70), (36, 70))
    assert second.origin == "found"
    measured.set_channel(second.primary.channel)
    mouse.click(32, 70)
    assert measured.selected is second


def test_a_box_is_moved_with_the_mouse(measured, viewer, mouse, qtbot):
    first = measured.selected
    assert (first.id, first.box) == (1, Box(44, 57, 54, 67))
    measured.use("edit")
    mouse.drag((60, 50), (63, 52))
    qtbot.waitUntil(lambda: first.origin == "edited", timeout=60_000)
    assert first.box == Box(46, 59, 57, 70)
    data = measured.detections.cube.read()
    np.testing.assert_allclose(first.spectrum, data[:, 46:59, 57:70].sum((1, 2)), atol=1e-2)
    assert boxes_of(viewer).features.set_index("id").loc[1, "x_min"] == 57
    measured.undo()
    assert first.box == Box(44, 57, 54, 67)


def test_a_corner_is_dragged_with_the_mouse(measured, mouse, qtbot):
    first = measured.selected
    measured.use("edit")
    mouse.drag((66.5, 56.5), (70.5, 59.5))
    qtbot.waitUntil(lambda: first.origin == "edited", timeout=60_000)
    assert first.box == Box(44, 60, 54, 71)


def test_a_box_is_drawn_with_the_mouse(measured, viewer, mouse, qtbot):
    measured.use("draw")
    mouse.drag((89.6, 73.6), (104.4, 86.4))
    qtbot.waitUntil(lambda: len(measured.detections.candidates) == 5, timeout=60_000)
    mine = measured.selected
    assert (mine.id, mine.origin, mine.box) == (5, "drawn", Box(74, 87, 90, 105))
    data = measured.detections.cube.read()
    np.testing.assert_allclose(mine.spectrum, data[:, 74:87, 90:105].sum((1, 2)), atol=1e-2)


def test_the_canvas_draws_boxes_and_blocks_when_it_turns_to_three_dimensions_and_back(measured, viewer, qtbot):
    """napari crashed where boxes were painted before it had sliced its layers for three dimensions."""
    measured.boxes_everywhere = False
    with qtbot.captureExceptions() as errors:
        for ndisplay in (3, 2, 3):
            viewer.dims.ndisplay = ndisplay
            qtbot.wait(300)
    assert errors == []
    assert viewer.layers[-1].name == "toy candidates in 3-D"
