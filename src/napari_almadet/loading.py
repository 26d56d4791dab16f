"""Loading of libraries without garbage collection.

Nearly nothing that an import makes is garbage, but Python looks for it after every few hundred new objects, and again
several times when the program ends.  With torch and astropy loaded, that is a fifth of the processor time of a short
command.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_process = {"ours": False}  # whether the process does nothing but run this package: the command and its workers


def exempt_at_exit() -> None:
    """Declare that this process runs this package only, so that :func:`loading` may exempt objects from collection.

    Not for processes of others, such as napari or a notebook: objects of theirs that are garbage at that moment would
    never be freed.
    """
    if not _process["ours"]:
        _process["ours"] = True
        atexit.register(gc.freeze)  # what is in memory at the end need not be searched for garbage


@contextmanager
def loading() -> Iterator[None]:
    """Context in which libraries are imported without garbage collection.

    In the command and its workers, the objects that exist afterwards, the modules, are never searched for garbage
    again.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _process["ours"]:
            gc.freeze()
        if collecting:
            gc.enable()
