"""Work in a thread of its own, and what else it takes for the window not to wait."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any

from napari.components.overlays import TextOverlay
from napari.qt.threading import WorkerBase, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QDockWidget, QWidget

if TYPE_CHECKING:
    from napari.viewer import Viewer

# What still runs when Python ends is asked to stop, and waited for: else Qt's objects are taken away under its hands.
# napari does so at the end of its own event loop only, which a script or a notebook may never enter.
atexit.register(WorkerBase.await_workers)

SWITCH = 5e-4  # seconds after which a thread that waits for the interpreter gets it, while there is work
PAUSE_MS = 10  # with none, Qt takes the next turn before other timers and the painting
LETTERS = "almadet"  # name of the blank text on the canvas
LETTERS_MS = 1000  # by then it was drawn


class Unobtrusive:
    """A context in which Python does not hold up the window's thread for others' sake, nor for that of old garbage.

    A picture takes some hundred calls of OpenGL, each of which gives the interpreter away, and Python lets whoever took
    it have it for 5 ms.  And whichever thread makes objects collects garbage now and then, napari whenever a layer
    goes, and looks for it through all there is, with torch and astropy a third of a second: what is in memory when the
    first thread enters is left out of that until the last one leaves.
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


@dataclass(frozen=True)
class Failure:
    """Work that ended in an error."""

    error: Exception


def cautiously(work: Callable[..., Generator], *args: Any) -> Generator:
    """Work in steps that hands its error over as a `Failure` instead of raising it.

    napari would show the traceback of every error that a worker raises, and swallow a
    `RuntimeError`, which is what torch raises when a GPU is out of memory.
    """
    try:
        with unobtrusive:
            return (yield from work(*args))
    except Exception as error:  # whatever went wrong is told to the user
        return Failure(error)


def in_background(
    work: Callable[..., Any], *args: Any, done: Callable[[Any], object], failed: Callable[[Exception], object]
) -> WorkerBase:
    """Call ``work(*args)`` in a thread; then ``done(result)`` or ``failed(error)`` in the window's thread."""

    def careful() -> Any:
        try:
            with unobtrusive:
                return work(*args)
        except Exception as error:  # as above
            return Failure(error)

    return create_worker(careful, _connect={"returned": partial(_hand_over, done, failed)})


def _hand_over(done: Callable, failed: Callable, outcome: Any) -> None:
    if isinstance(outcome, Failure):
        failed(outcome.error)
    else:
        done(outcome)


def in_turns(steps: Iterator[None], window: QWidget, done: Callable[[], object]) -> None:
    """Take steps that only the window's thread can take, with the window free to move between them; then ``done()``.

    After each step the window is painted in a turn of its own, and its canvas in another: napari takes as long to draw
    a new layer as it took to add it.
    """
    turns = _painted_apart(steps, window)

    def turn() -> None:
        if not isalive(window):
            return
        try:
            next(turns)
        except StopIteration:
            done()
        except Exception:
            done()
            raise
        else:
            QTimer.singleShot(PAUSE_MS, turn)

    turn()


def _painted_apart(steps: Iterator[None], window: QWidget) -> Iterator[None]:
    """Steps with pauses after each: before the window's docks are painted, before its canvas is, and after that.

    Put to sleep as a whole, the window would be painted as a whole, and over its sleeping canvas.
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


def prepare_letters(viewer: Viewer) -> None:
    """Have a blank text drawn on the canvas for a moment, so that napari's letters are there when boxes are drawn.

    Every Shapes layer has a text to draw, if an empty one, and before the first text of all napari makes some letters
    to measure it by: a third of what the first drawing of boxes takes.
    """
    overlays = viewer.canvas.overlays
    overlays[LETTERS] = TextOverlay(text=" ", visible=True)
    QTimer.singleShot(LETTERS_MS, partial(overlays.pop, LETTERS, None))
