"""What it takes for the window not to wait."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from qtpy.QtCore import Qt
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_almadet.plugin.background import in_turns, prepare_letters, unobtrusive


class Ring:
    def __init__(self):
        self.itself = self


def test_garbage_is_spared_until_the_last_has_left():
    old = Ring()
    seen = weakref.ref(old)
    del old
    with unobtrusive:
        with unobtrusive:
            pass
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert seen() is None


def test_the_interpreter_goes_round_faster_until_the_last_has_left():
    before = sys.getswitchinterval()
    with unobtrusive:
        with unobtrusive:
            pass
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before


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


def test_blank_text_is_on_the_canvas_for_a_moment_only(viewer, qtbot):
    overlays = viewer.canvas.overlays
    before = set(overlays)
    prepare_letters(viewer)
    (name,) = set(overlays) - before
    assert overlays[name].visible
    assert overlays[name].text.isspace()
    qtbot.waitUntil(lambda: set(overlays) == before, timeout=3000)
