"""The log of a command: a file in the results folder, created when there is something to write, and the terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOG_FILE = "almadet.log"
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def logged(folder: Path, verbose: bool, as_lines: bool = False) -> Iterator[None]:
    """Write warnings and tracebacks to ``almadet.log`` in a folder; if verbose, all records, also to stderr.

    ``as_lines``: records on stderr are JSON objects like those of :mod:`napari_almadet.cli.progress_lines`.
    """
    log, level = logging.getLogger("napari_almadet"), logging.DEBUG if verbose else logging.WARNING
    handlers: list[logging.Handler] = [logging.StreamHandler()] if verbose else []
    handlers.append(_FileBeside(folder / LOG_FILE))
    before = log.level, log.propagate
    log.setLevel(level)
    log.propagate = False  # otherwise the root logger would print tracebacks
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        log.addHandler(handler)
    if verbose and as_lines:
        handlers[0].setFormatter(_JsonLine(FORMAT))
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
        log.level, log.propagate = before


class _JsonLine(logging.Formatter):
    """A record, with its traceback, as the message of a JSON object in a single line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return json.dumps({"cube": "", "stage": "log", "done": 0, "total": 0, "message": super().format(record)})


class _FileBeside(logging.FileHandler):
    """A log file that is created, with its folder, at the first record; if this fails, there is no log."""

    def __init__(self, path: Path):
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        with suppress(OSError):  # a full or read-only disk, which the command itself reports
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            super().emit(record)
