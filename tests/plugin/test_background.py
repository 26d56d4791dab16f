"""What it takes for the window not to wait."""

from __future__ import annotations

import sys
import time

import pytest
from qtpy.QtCore import Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_almadet.plugin.background import cautiously, in_turns, waited_for


class Panel(QWidget):
    def __init__(self, told: list[str]):
        super().__init__()
        self.told = told

    def paintEvent(self, event):
        self.told.append("panel")


class Canvas(QOpenGLWidget):
    def __init__(self, told: list[str]):
        super().__init__()
        self.told = told

    def paintGL(self):
        self.told.append("canvas")


@pytest.fixture
def window(qtbot):
    """A window with a dock and a canvas, which take down in `told` when they are painted."""
    window = QMainWindow()
    window.told, window.dock = [], QDockWidget()
    window.dock.setWidget(Panel(window.told))
    window.setCentralWidget(Canvas(window.told))
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, window.dock)
    qtbot.addWidget(window)
    with qtbot.waitExposed(window):
        window.show()
    qtbot.waitUntil(lambda: {"panel", "canvas"} <= set(window.told))
    qtbot.wait(50)
    window.told.clear()
    return window


def changes(window, error: Exception | None = None):
    """Two steps, each of which changes the dock and the canvas, and then perhaps an error."""
    for name in ("first", "second"):
        window.told.append(name)
        window.centralWidget().update()
        window.dock.widget().update()
        yield
    if error is not None:
        raise error


def test_dock_and_canvas_are_painted_apart_between_the_steps(window, qtbot):
    ended = []
    in_turns(changes(window), window, lambda: ended.append(True))
    assert window.told == ["first"]
    qtbot.waitUntil(lambda: bool(ended))
    once = [what for what, before in zip(window.told, ["", *window.told], strict=False) if what != before]
    assert once[:6] == ["first", "panel", "canvas", "second", "panel", "canvas"]
    assert window.dock.updatesEnabled()
    assert window.centralWidget().updatesEnabled()


def test_after_an_error_the_window_is_painted_again(window, qtbot):
    ended = []
    with qtbot.captureExceptions() as errors:
        in_turns(changes(window, ValueError("no")), window, lambda: ended.append(True))
        qtbot.waitUntil(lambda: bool(ended))
    assert [kind for kind, _, _ in errors] == [ValueError]
    assert window.dock.updatesEnabled()
    assert window.centralWidget().updatesEnabled()


def test_no_step_is_taken_in_a_window_that_is_gone(qtbot):
    window, told, ended = QMainWindow(), [], []
    in_turns((told.append(i) for i in range(3)), window, lambda: ended.append(True))
    window.deleteLater()
    qtbot.wait(200)
    assert told == [0]
    assert not ended


def test_the_window_is_painted_while_it_waits(window):
    def work(seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    window.dock.widget().update()
    assert waited_for(work, 0.2) == "done"
    assert "panel" in window.told
    with pytest.raises(ValueError, match="no"):
        waited_for(int, "no number")


def test_work_that_is_left_half_done_leaves_the_interpreter_as_it_was():
    """napari neither closes the generator of a cancelled run nor forgets it."""
    before, inside = sys.getswitchinterval(), []

    def work():
        for _ in range(2):
            inside.append(sys.getswitchinterval())
            yield

    cancelled = cautiously(work)
    next(cancelled)
    assert inside[0] < before
    assert sys.getswitchinterval() == before
    next(cancelled)
    assert sys.getswitchinterval() == before
