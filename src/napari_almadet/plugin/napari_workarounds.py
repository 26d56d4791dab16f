"""What napari, Qt and Python do not offer, done by reaching into them: the only place that does.

Each entry names what it works around, where that is discussed upstream, and for which versions it was tried; with any
other version the slow public way is taken, or nothing is done.  ``tests/plugin/test_napari_workarounds.py`` tries each
with the version installed, and tells when one is no longer needed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from functools import partial
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

TRIED = ((0, 9),)  # versions of napari whose private attributes are as they are used here
SWITCH = 5e-4  # seconds after which a thread that waits for the interpreter gets it; Python's default is 5e-3
LETTERS = "almadet"  # name of the blank text on the canvas
LETTERS_MS = 1000  # by then it was drawn


def tried() -> bool:
    """Whether the installed napari is one of the versions whose private attributes are known."""
    return tuple(int(part) for part in napari.__version__.split(".")[:2]) in TRIED


# -- a Shapes layer of thousands of boxes, of which few are seen -----------------------------------------------------


def paint_boxes(boxes: Shapes, colours: np.ndarray, widths: np.ndarray) -> None:
    """Give the boxes their RGBA colours (n, 4) and line widths (n) in data units; those of no opacity are not there.

    napari's ``edge_color`` and ``edge_width`` visit every shape in Python, hand transparent ones on to OpenGL, and let
    the mouse catch them (napari/napari#1562, open; hiding single shapes is not offered).
    """
    if tried():
        _paint_displayed(boxes, colours, widths)
    else:
        boxes.edge_color = colours
        boxes.edge_width = widths.tolist()


def _paint_displayed(boxes: Shapes, colours: np.ndarray, widths: np.ndarray) -> None:
    """Change what differs in the layer's list of shapes, and take the hidden ones for out of view.

    They are then neither among the triangles on display nor found under the pointer.  When napari puts these together
    again (as it does when a box is moved) all are in them again, transparent, until the next painting.
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
    if not seen.any():  # transparent; in two dimensions too, lest three are shown before the next painting:
        shown[:1] = True  # napari 0.9.2 gives OpenGL vertices of four coordinates where there are none
    drawn = shown[mesh.displayed_triangles_to_shape_index]
    if differ.size or resized.size or not drawn.all():
        mesh.displayed_triangles = mesh.displayed_triangles[drawn]
        mesh.displayed_triangles_colors = mesh.displayed_triangles_colors[drawn]
        mesh.displayed_triangles_to_shape_index = mesh.displayed_triangles_to_shape_index[drawn]
        boxes.events.edge_color()
    shapes._displayed = seen
    shapes._clear_cache()
    shapes._visible_shapes = [(row, shapes.shapes[row]) for row in np.flatnonzero(seen).tolist()]
    if marked != set(boxes._selected_data_in_view):  # no handles about a box that is not seen
        boxes._selected_box = boxes.interaction_box(boxes._selected_data_in_view)
        boxes.events.highlight()


# -- OpenGL ---------------------------------------------------------------------------------------------------------


def hold_canvas(window: QWidget) -> None:
    """Make the canvas's OpenGL context current; to be called before napari removes a layer.

    Since napari/napari#8122 (0.6.3) napari at once executes what vispy has queued for the layer, in whichever context
    is current.  That may be the one in which Qt puts the window together; the canvas's GL programs are then selected
    and deleted there, and under Mesa's software renderer napari crashed in the second frame after a Shapes layer was
    removed.  To make a context current that is current already is nothing.
    """
    for canvas in window.findChildren(QOpenGLWidget):
        canvas.makeCurrent()


def prepare_letters(viewer: Viewer) -> None:
    """Have a blank text drawn on the canvas for a moment, so that napari's letters are there when boxes are drawn.

    Every Shapes layer has a text to draw, if an empty one, and before the first text of all vispy renders some letters
    to measure it by: a third of what the first drawing of boxes takes.  Public attributes only.
    """
    overlays = viewer.canvas.overlays
    overlays[LETTERS] = TextOverlay(text=" ", visible=True)
    QTimer.singleShot(LETTERS_MS, partial(overlays.pop, LETTERS, None))


# -- Python and Qt --------------------------------------------------------------------------------------------------


class Unobtrusive:
    """A context in which Python does not hold up the window's thread for others' sake, nor for that of old garbage.

    A picture takes some hundred calls of OpenGL, each of which gives the interpreter away, and Python lets whoever took
    it have it for 5 ms (``sys.setswitchinterval``; the convoy effect, bpo-7946, open).  And whichever
    thread makes objects collects garbage now and then, napari whenever a layer goes, and looks for it through all there
    is, with torch and astropy a third of a second (``gc.freeze``): what is in memory when the first thread enters is
    left out of that until the last one leaves.
    """

    def __init__(self):
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


def painted_apart(steps: Iterator[None], window: QWidget) -> Iterator[None]:
    """Steps with pauses after each: before the window's docks are painted, before its canvas is, and after that.

    Qt paints a window as a whole: after a step that changes both, one event would take as long as both together.
    Put to sleep as a whole, the window would be painted as a whole, and over its sleeping canvas.  Public Qt only.
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
