"""Atomic replacement of all files of a folder: if the program is killed, either all files are old, or all are new.

The new files are written into a temporary folder with a unique name.  The new result is valid from the moment this
folder is renamed to ``.whole-...`` inside the target folder; moving its files into place can then be completed by the
next program that opens the folder.
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
    """A folder for writing files, which are moved to ``folder`` together; after an error the old ones are kept.

    Parameters
    ----------
    folder
        Made if it does not exist.
    last
        The file that is moved last; it identifies the run of the others.
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
    """Complete the replacement of files that an interrupted run has started.

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
    """Wait until no other process moves files in a folder; with ``shared`` others may read it at the same time.

    The lock belongs to the operating system and ends with the process.  Windows and some network disks have none.
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
    """Remove incomplete files left by runs on this machine that no longer exist."""
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
