"""Work in a thread of its own, and what else it takes for the window not to wait."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from napari.qt.threading import WorkerBase, create_worker

# What still runs when Python ends is asked to stop, and waited for: else Qt's objects are taken away under its hands.
# napari does so at the end of its own event loop only, which a script or a notebook may never enter.
atexit.register(WorkerBase.await_workers)


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
        return (yield from work(*args))
    except Exception as error:  # whatever went wrong is told to the user
        return Failure(error)


def in_background(
    work: Callable[..., Any], *args: Any, done: Callable[[Any], object], failed: Callable[[Exception], object]
) -> WorkerBase:
    """Call ``work(*args)`` in a thread; then ``done(result)`` or ``failed(error)`` in the window's thread."""

    def careful() -> Any:
        try:
            return work(*args)
        except Exception as error:  # as above
            return Failure(error)

    return create_worker(careful, _connect={"returned": partial(_hand_over, done, failed)})


def _hand_over(done: Callable, failed: Callable, outcome: Any) -> None:
    if isinstance(outcome, Failure):
        failed(outcome.error)
    else:
        done(outcome)


@contextmanager
def sparing_garbage() -> Iterator[None]:
    """Leave what is in memory now out of garbage collections meanwhile.

    napari collects garbage whenever a layer goes, and looks through all there is for it, with torch
    and astropy a third of a second.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
