"""Work in several processes: the pool of Python's library, whose processes never outlive their parent.

`concurrent.futures.ProcessPoolExecutor` lacks three things that we need, all of which are added here through its public
interface: the processes can be stopped in the middle of a task, they end when their parent is killed, and each computes
with a given number of threads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import TracebackType
from typing import Any

from napari_almadet.loading import exempt_at_exit

PATIENCE = 10.0  # seconds a process may take to remove its unfinished files when it is stopped
SOON = 0.01  # seconds between looks at an exit code that is about to be known
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Pool(ProcessPoolExecutor):
    """An executor of fresh processes, which stop at once if the ``with`` block is left by an exception.

    The processes are spawned, not forked: a forked one would have torch's locks but not its threads.

    Parameters
    ----------
    jobs
        Maximum number of processes; they start when tasks are submitted.
    threads
        Of each process, in its numerical libraries.
    initializer, initargs
        Called in each process before its first task.
    """

    def __init__(
        self, jobs: int, threads: int = 1, initializer: Callable[..., object] | None = None, initargs: tuple = ()
    ):
        self.context = _Spawn(threads)
        super().__init__(jobs, mp_context=self.context, initializer=_start, initargs=(initializer, initargs))

    def stop(self) -> None:
        """End all processes, also those in the middle of a task, and return when they have ended."""
        self.shutdown(wait=False, cancel_futures=True)
        for process in self.context.started:
            process.terminate()
        for process in self.context.started:
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
                process.join(PATIENCE)

    def how_it_ended(self) -> str:
        """Why the pool is broken: how the first process that failed has ended."""
        for process in self.context.started:
            code = _exit_code(process)
            if code and code > 0:
                return f"its process ended with exit code {code}"
            if code:
                name = signal.Signals(-code).name
                return f"its process was ended by {name}" + ("; is there enough memory?" if name == "SIGKILL" else "")
        return "its process ended"

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        """Wait for the tasks; after an exception, stop them."""
        if exc_type is not None:
            self.stop()
        return super().__exit__(exc_type, exc_val, exc_tb)


def _exit_code(process: SpawnProcess) -> int | None:
    """The exit code of a process that is ending; None if it has not ended in :data:`PATIENCE` seconds.

    The executor waits for its processes in a thread of its own: that may have asked the system for the code, which
    says it only once, but not have noted it yet.  Then `join` returns at once, without a code.
    """
    until = time.monotonic() + PATIENCE
    process.join(PATIENCE)
    while process.exitcode is None and time.monotonic() < until:
        time.sleep(SOON)
    return process.exitcode


class _Spawn(SpawnContext):
    """Starts the processes of one pool and remembers them."""

    def __init__(self, threads: int):
        super().__init__()
        self.threads = threads
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        process = _Process(*args, **kwargs)
        process.threads = self.threads
        self.started.append(process)
        return process


class _Process(SpawnProcess):
    threads = 1

    def start(self) -> None:
        with _thread_variables(self.threads), _interrupts_blocked():
            super().start()


@contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    """Set the number of threads that the numerical libraries use in processes started in this context."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Make processes started in this context ignore Ctrl-C, even during imports: the parent stops them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(initializer: Callable[..., object] | None, initargs: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for Windows, which cannot block it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that unfinished files are removed
    sys.unraisablehook = _silent_where_it_ends
    threading.Thread(target=_end_with_parent, daemon=True).start()
    exempt_at_exit()
    if initializer is not None:
        initializer(*initargs)


def _silent_where_it_ends(unraisable: sys.UnraisableHookArgs) -> None:
    """Print no traceback if the signal arrives while the process is already ending."""
    if not issubclass(unraisable.exc_type, SystemExit):
        sys.__unraisablehook__(unraisable)


def _end_with_parent() -> None:
    """End this process when its parent has died: the library's worker would wait for tasks forever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    for seconds in (1.0, PATIENCE):  # the first signal ends the task, the second ends the wait for the next task
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(seconds)
    os._exit(1)
