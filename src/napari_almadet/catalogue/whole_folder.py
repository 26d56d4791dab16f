"""Folders whose files are replaced together: after a kill at any moment all are the old ones, or all the new.

The new files are written beside, into a folder of a name that no other run has.  Renaming that folder to
``.whole-...`` in its place is the moment from which the new result counts; moving its files to where they belong can
then be finished by whoever looks at the folder next.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

WRITING, WHOLE = ".writing-", ".whole-"


@contextmanager
def replaced_together(folder: Path, last: str) -> Iterator[Path]:
    """A folder to write files into, which come into ``folder`` together; after an error the old ones stay.

    Parameters
    ----------
    folder
        Made if it does not exist.
    last
        The file that is moved last, which says of which run the others are.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = not folder.exists()
    home = folder.parent if new else folder
    _clear(home, folder.name)
    unique = f"{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    beside = home / f"{WRITING}{folder.name}-{unique}"
    beside.mkdir()
    try:
        yield beside
        if new:
            with suppress(OSError):  # another run made the folder meanwhile
                beside.rename(folder)
                return
        beside.rename(folder / f"{WHOLE}{time.time_ns():020d}-{unique}")
        complete(folder, last)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def complete(folder: Path, last: str) -> None:
    """Move files into their places that a run which was stopped has left whole.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    if not _whole(folder):
        return
    with locked(folder):
        for whole in _whole(folder):  # oldest first
            for file in sorted(whole.iterdir(), key=lambda file: (file.name == last, file.name)):
                with suppress(FileNotFoundError):  # without locks (Windows) another may have moved it
                    file.replace(folder / file.name)
            with suppress(OSError):
                whole.rmdir()


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Wait until nobody else moves files in a folder; with ``shared`` others may read it at the same time.

    The lock is the operating system's and ends with the process.  Windows and some network disks have none.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a disk that knows no locks
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _whole(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{WHOLE}*")) if folder.is_dir() else []


def _host() -> str:
    return socket.gethostname().replace("-", "_") or "host"


def _clear(home: Path, name: str) -> None:
    """Remove what runs of this machine that are no more have left half written."""
    for left in home.glob(f"{WRITING}{name}-*"):
        whose, *run = left.name.removeprefix(WRITING).rsplit("-", 3)
        if whose == name and len(run) == 3 and run[0] == _host() and run[1].isdigit() and not _runs(int(run[1])):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether a process of this machine is alive; on Windows, where asking would end it, always."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True
