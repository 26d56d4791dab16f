"""Ctrl-C, SIGTERM and write errors: a command and its child processes end at once, with the usual exit code."""

from __future__ import annotations

import errno
import functools
import os
import re
import signal
import threading
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import NoReturn, ParamSpec

import typer
from rich.markup import escape

from napari_almadet.cli.common import messages
from napari_almadet.cube.errors import in_one_line

P = ParamSpec("P")
AGAIN = 0.05  # seconds after which a signal that came while an object was deleted comes again
PATIENCE = 10.0  # seconds for libraries to clean up after a signal, before the process is killed
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM) if hasattr(errno, "EDQUOT") else ()
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
FULL = re.compile(  # messages for a full disk without an error number: astropy, numpy, safetensors, torch
    "not enough space|requested and .* written|no space left|failed writing file", re.IGNORECASE
)
INTERRUPTED = "Interrupted. Run the same command again to resume."


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the work like Ctrl-C."""


def exit_code(signal_number: int) -> int:
    """The exit code of a command that was ended by a signal: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + signal_number


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C and SIGTERM of a command that keeps what it has done: raise an exception in the main thread."""
    if not postponed(number, frame):
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def postponed(number: int, frame: FrameType | None) -> bool:
    """Whether a signal has come while an object was deleted, where Python ignores exceptions: it then comes again."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    if frame is None:
        return False
    again = threading.Timer(AGAIN, _send, (number,))
    again.daemon = True
    again.start()
    return True


def _send(number: int) -> None:
    """Send a signal to the main thread, which it wakes if that waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # Windows
        signal.raise_signal(number)


def ends_at_once(command: Callable[P, None]) -> Callable[P, None]:
    """Make Ctrl-C and SIGTERM end a command and its processes, and report a full disk in one sentence.

    The exit code is 130 or 143, even if libraries handle the interruption differently (a trainer ends with 0 or 1, a
    pool waits for its processes).
    """

    @functools.wraps(command)
    def ending(*args: P.args, **kwargs: P.kwargs) -> None:
        if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
            command(*args, **kwargs)
            return
        came: list[int] = []

        def end(number: int, frame: FrameType | None) -> None:
            if postponed(number, frame):
                return
            _kill_children()
            if not came and _loading(frame):
                messages.print(INTERRUPTED)
            if came or _loading(frame):  # a second signal, or a point where no exception may be raised
                os._exit(exit_code(number))
            came.append(number)
            watch = threading.Timer(PATIENCE, os._exit, (exit_code(number),))
            watch.daemon = True
            watch.start()
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            command(*args, **kwargs)
            if came:
                _leave(came[0])
        except Exception as error:
            if came:
                _leave(came[0])
            if not _is_disk_error(error):
                raise
            name, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
            forbidden = getattr(error, "errno", None) in FORBIDDEN  # for a full disk, the file named may be the source
            where = f"{name} cannot be written" if name and forbidden else "Writing to the disk failed"
            messages.print(f"[red]{escape(where)}:[/] {escape(reason or in_one_line(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
        except BaseException:
            if came:
                _leave(came[0])
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return ending


def make_folder(out: Path) -> None:
    """Make the folder for the results before the work begins; ends the program where nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = error.strerror or in_one_line(error)
        messages.print(f"[red]No results can be written to {escape(str(out))}:[/] {escape(reason)}", soft_wrap=True)
        raise typer.Exit(1) from error


def _is_disk_error(error: Exception) -> bool:
    """Whether an error is due to a full or write-protected disk."""
    return getattr(error, "errno", None) in NO_PLACE or bool(FULL.search(str(error)))


def _loading(frame: FrameType | None) -> bool:
    """Whether a library is being loaded: then an exception in compiled parts of some libraries aborts the process."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _leave(number: int) -> NoReturn:
    _kill_children()
    messages.print(INTERRUPTED)
    raise typer.Exit(exit_code(number)) from None


def _kill_children() -> None:
    """End the processes of pools, which would otherwise finish their tasks."""
    for child in active_children():
        child.kill()
