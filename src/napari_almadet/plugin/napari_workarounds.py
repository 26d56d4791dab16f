"""Workarounds that use private parts of napari, Qt and Python; no other module uses any.

Each entry names the problem, where it is discussed upstream, and the versions tried; with any other version the slow
public way is used, or nothing is done.  ``tests/plugin/test_napari_workarounds.py`` tries each one with the installed
version, and fails when one is no longer needed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

import napari
import numpy as np
from napari.components.overlays import TextOverlay
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QDockWidget, QWidget

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

TRIED = ((0, 9),)  # versions of napari with the private attributes used here
SWITCH = 5e-4  # seconds after which a thread that waits for the interpreter gets it; Python's default is 5e-3
LETTERS = "almadet"  # name of the blank text on the canvas
LETTERS_MS = 1000  # by then it has been drawn


def tried() -> bool:
    """Whether the installed napari is one of the versions whose private attributes are known."""
    return tuple(int(part) for part in napari.__version__.split(".")[:2]) in TRIED


# -- a Shapes layer of thousands of boxes, few of them visible -------------------------------------------------------


def paint_boxes(boxes: Shapes, colours: np.ndarray, widths: np.ndarray) -> None:
    """Set RGBA colours (n, 4) and line widths (n), in data units, of boxes; transparent ones are not drawn at all.

    napari's ``edge_color`` and ``edge_width`` loop over all shapes in Python, pass transparent ones to OpenGL, and let
    the mouse select them (napari/napari#1562, open; napari cannot hide single shapes).
    """
    if tried():
        _paint_displayed(boxes, colours, widths)
    else:
        boxes.edge_color = colours
        boxes.edge_width = widths.tolist()


def _paint_displayed(boxes: Shapes, colours: np.ndarray, widths: np.ndarray) -> None:
    """Change what differs in the layer's list of shapes, and mark hidden shapes as out of view.

    Then they are neither among the triangles displayed nor found under the pointer.  When napari builds the triangles
    again (for example when a box is moved), hidden shapes are included, transparent, until the next painting.
    """
    shapes, marked = boxes._data_view, set(boxes._selected_data_in_view)
    differ = np.flatnonzero(np.any(np.abs(colours - shapes.edge_color) > 1e-6, axis=1))
    now = np.array(shapes.edge_widths)
    resized = np.flatnonzero(np.abs(widths - now) > 1e-3 * now)
    with shapes.batched_updates():
        if differ.size:
            shapes.update_edge_colors(differ, colours[differ])
        for row in resized:
            shapes.update_edge_width(row, widths[row])
    seen, mesh = colours[:, 3] > 0, shapes._mesh
    shown = seen.copy()
    if not seen.any():  # transparent; also in 2-D, as 3-D may be shown before the next painting:
        shown[:1] = True  # without any, napari 0.9.2 passes vertices of four coordinates to OpenGL
    drawn = shown[mesh.displayed_triangles_to_shape_index]
    if differ.size or resized.size or not drawn.all():
        mesh.displayed_triangles = mesh.displayed_triangles[drawn]
        mesh.displayed_triangles_colors = mesh.displayed_triangles_colors[drawn]
        mesh.displayed_triangles_to_shape_index = mesh.displayed_triangles_to_shape_index[drawn]
        boxes.events.edge_color()
    shapes._displayed = seen
    shapes._clear_cache()
    shapes._visible_shapes = [(row, shapes.shapes[row]) for row in np.flatnonzero(seen).tolist()]
    if marked != set(boxes._selected_data_in_view):  # no handles around a hidden box
        boxes._selected_box = boxes.interaction_box(boxes._selected_data_in_view)
        boxes.events.highlight()


# -- OpenGL ---------------------------------------------------------------------------------------------------------


def hold_canvas(window: QWidget) -> None:
    """Make the canvas's OpenGL context current; must be called before napari removes a layer.

    Since napari/napari#8122 (0.6.3) napari executes the commands that vispy has queued for the layer at once, in the
    current context.  This may be the context in which Qt composes the window; then the canvas's GL programs are
    selected and deleted there, and with Mesa's software renderer napari crashed in the second frame after a Shapes
    layer was removed.  If the context is already current, this does nothing.
    """
    for canvas in window.findChildren(QOpenGLWidget):
        canvas.makeCurrent()


def prepare_letters(viewer: Viewer) -> None:
    """Draw a blank text on the canvas for a moment, so that vispy's fonts are ready when boxes are drawn.

    Every Shapes layer draws a text, even if it is empty, and before its first text vispy renders some letters to
    measure the font: a third of the time of the first drawing of boxes.  Uses public attributes only.
    """
    overlays = viewer.canvas.overlays
    overlays[LETTERS] = TextOverlay(text=" ", visible=True)
    QTimer.singleShot(LETTERS_MS, partial(overlays.pop, LETTERS, None))


# -- Python and Qt --------------------------------------------------------------------------------------------------


class Unobtrusive:
    """A context in which the window's thread waits less for other threads and for garbage collection.

    Drawing a frame takes some hundred calls of OpenGL.  Each releases the interpreter lock, and a thread that takes it
    keeps it for 5 ms (``sys.setswitchinterval``; the convoy effect, bpo-7946, open).  Garbage is collected whenever
    objects are created, and by napari whenever a layer is removed.  With torch and astropy in memory one collection
    takes a third of a second; objects that exist when the first thread enters are excluded from it until the last one
    leaves (``gc.freeze``).
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._interval = Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                gc.freeze()
                self._interval = sys.getswitchinterval()
                sys.setswitchinterval(min(SWITCH, self._interval))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.unfreeze()
                sys.setswitchinterval(self._interval)


unobtrusive = Unobtrusive()


def import_apart(name: str) -> None:
    """Import a library in a thread of its own, which then ends; called before a thread of Qt's pool imports torch.

    pybind11 before 3.0.2 stores Python's state of the thread that imports the first library made with it, and uses it
    whenever that thread calls such a library again (pybind/pybind11#2888, fixed by #5870).  Threads of Qt's pool get a
    new state for each task, so that the second task crashed the window: seen with torch 2.6; torch does not say which
    pybind11 it was built with, so that this is done with any version.

    Raises
    ------
    Exception
        What the import raises.
    """
    if name not in sys.modules:
        with ThreadPoolExecutor(1, thread_name_prefix="almadet-import") as single:
            single.submit(import_module, name).result()


def painted_apart(steps: Iterator[None], window: QWidget) -> Iterator[None]:
    """Steps with a pause before the docks are painted, one before the canvas is painted, and one after it.

    Qt paints a window in one event: after a step that changes docks and canvas, that event would take as long as both
    together.  Disabling the updates of the whole window would not help: it would then be painted as a whole, also over
    its canvas.  Uses public Qt only.
    """
    parts = [window.findChildren(kind) for kind in (QDockWidget, QOpenGLWidget)]

    def let(paint: bool, part: Iterable[QWidget]) -> None:
        for widget in filter(isalive, part):
            widget.setUpdatesEnabled(paint)

    try:
        let(False, chain(*parts))
        for _ in steps:
            for part in parts:
                yield
                let(True, part)
            yield
            let(False, chain(*parts))
    finally:
        let(True, chain(*parts))
