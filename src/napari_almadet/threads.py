"""Work on several cores in a few threads, each of which uses a single core.

The threads of OpenMP, which torch would use, wait for each other in a loop after every operation, and so do those of
numpy's and scipy's BLAS; on a machine that has other work to do, a search then takes three to five times as long.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}  # by process id: a forked process inherits the object, but not its threads
_here = threading.local()  # whether this thread belongs to a pool
_alone: dict[str, Any] = {"users": 0, "before": 0, "blas": None}  # of alone(): active users, threads before them


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count() -> int:
    """Number of threads to use: the number of processors, or OMP_NUM_THREADS if that is smaller."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores(), int(wanted))) if wanted.isdigit() else cores()


def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``[function(item) for item in items]``, on all cores; numpy and torch release Python's lock while computing.

    ``function`` must not write to the same memory for different items.  If called from one of the threads, all items
    are processed in that thread.
    """
    items = list(items)
    n = count()
    if n == 1 or len(items) < 2 or getattr(_here, "busy", False):
        return [function(item) for item in items]
    torch = sys.modules.get("torch")
    inference = torch is not None and torch.is_inference_mode_enabled()  # inference mode is set per thread

    def work(item: Item) -> Result:
        _here.busy = True
        if torch is None:
            return function(item)
        if not getattr(_here, "alone", False):
            torch.set_num_threads(1)
            _here.alone = True
        with torch.inference_mode(inference):
            return function(item)

    with nullcontext() if torch is None else alone():
        return list(_pool(n).map(work, items))


def beside(function: Callable[[], Result]) -> Future[Result]:
    """Start a function in a separate thread, not one of those that :func:`spread` uses."""
    single = ThreadPoolExecutor(1, thread_name_prefix="almadet-beside")
    try:
        return single.submit(function)
    finally:
        single.shutdown(wait=False)


@contextmanager
def meanwhile(function: Callable[[Callable[[], bool]], Result]) -> Iterator[Future[Result]]:
    """Context during which a function runs in a separate thread; it is given a function that says whether to go on."""
    left = threading.Event()
    try:
        yield beside(partial(function, lambda: not left.is_set()))
    finally:
        left.set()


@contextmanager
def alone() -> Iterator[None]:
    """Context in which torch and BLAS use one thread; their number of threads is restored when the last one is left."""
    import torch

    with _lock:
        if not _alone["users"]:
            _alone["before"] = torch.get_num_threads()
            _alone["blas"] = ThreadpoolController().limit(limits=1, user_api="blas")
        _alone["users"] += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _alone["users"] -= 1
            if not _alone["users"]:
                torch.set_num_threads(_alone["before"])
                _alone["blas"].restore_original_limits()


def _pool(n: int) -> ThreadPoolExecutor:
    with _lock:
        if os.getpid() not in _pools:
            _pools.clear()
            _pools[os.getpid()] = ThreadPoolExecutor(n, "almadet")
        return _pools[os.getpid()]
