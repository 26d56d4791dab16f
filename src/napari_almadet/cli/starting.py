"""Ctrl-C before a command is at work: while its libraries are loaded and its options are read."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """Context in which Ctrl-C ends the program as it ends any other, without a traceback of whatever Python is at.

    Only where Python's own handler would raise KeyboardInterrupt: who has another handler keeps it.
    """
    ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
