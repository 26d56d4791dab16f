"""Background work: in threads, or in the main thread in small steps, so that the window stays responsive."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.qt.threading import WorkerBase, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QEventLoop, QThread, QTimer
from qtpy.QtWidgets import QApplication

from napari_almadet.plugin.napari_workarounds import painted_apart, unobtrusive

if TYPE_CHECKING:
    from qtpy.QtWidgets import QLabel, QPushButton, QWidget

# Work that still runs when Python exits is stopped and waited for: otherwise it would use Qt objects that are already
# deleted. napari does this only at the end of its own event loop, which a script or a notebook may never enter.
atexit.register(WorkerBase.await_workers)

WAIT_MS = 10  # interval at which events are processed while the window waits for a thread
PAUSE_MS = 10  # with 0, Qt would run the next step before other timers and before painting


@dataclass(frozen=True)
class Failure:
    """Work that ended in an error."""

    error: Exception


def cautiously(work: Callable[..., Generator], *args: Any) -> Generator[Any, None, Any]:
    """Work in steps that returns an error as a `Failure` instead of raising it.

    napari would show the traceback of every error that a worker raises, and swallow a
    `RuntimeError`, which is what torch raises when a GPU is out of memory.
    """
    steps = work(*args)
    try:
        while True:
            try:
                with unobtrusive:  # not around the yield: napari does not close a cancelled generator
                    step = next(steps)
            except StopIteration as end:
                return end.value
            yield step
    except Exception as error:  # whatever went wrong is reported to the user
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


def ask_to_stop(worker: WorkerBase | None, button: QPushButton, status: QLabel) -> None:
    """Ask a worker, if there is one, to stop at its next step, and tell the user beside the button to cancel it."""
    if worker is not None:
        worker.quit()
        button.setEnabled(False)
        status.setText("Stopping after the current step …")


def waited_for(work: Callable[..., Any], *args: Any) -> Any:
    """Return ``work(*args)``, called in a thread; meanwhile the window is painted, but takes no input.

    For results that napari needs at once, such as sample data.  Without a window, it is called directly.
    """
    application = QApplication.instance()
    if application is None or QThread.currentThread() is not application.thread():
        return work(*args)
    outcome: list[Any] = []
    in_background(work, *args, done=outcome.append, failed=lambda error: outcome.append(Failure(error)))
    while not outcome:
        application.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents, WAIT_MS)
        time.sleep(WAIT_MS / 1000)
    if isinstance(outcome[0], Failure):
        raise outcome[0].error
    return outcome[0]


def _hand_over(done: Callable, failed: Callable, outcome: Any) -> None:
    if isinstance(outcome, Failure):
        failed(outcome.error)
    else:
        done(outcome)


def in_turns(steps: Iterator[None], window: QWidget, done: Callable[[], object]) -> None:
    """Run steps in the window's thread, with pauses in which the window stays responsive; then ``done()``.

    After each step the window and its canvas are painted separately: napari needs as long to draw a new layer as to
    add it.
    """
    turns = painted_apart(steps, window)

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
