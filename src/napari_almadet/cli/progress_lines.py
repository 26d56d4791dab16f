"""Progress for programs: one JSON object per line on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_almadet.batch import Outcome, Search, Task
    from napari_almadet.progress import Progress

LEAST_SECONDS = 0.2  # s, minimum interval between lines of one stage of a cube


def with_lines(tasks: list[Task], work: Search, jobs: int) -> Generator[Outcome, None, None]:
    """Search cubes, and write a line for each step: ``cube``, ``stage``, ``done`` and ``total``.

    The last line of a cube has the status as its stage, and also ``kept``, ``dropped``, ``seconds`` and ``message``.
    """
    from napari_almadet import batch

    before: dict[Task, tuple[str, float]] = {}

    def step(task: Task, progress: Progress) -> None:
        stage, sent = before.get(task, ("", 0.0))
        if stage == progress.stage and progress.done < progress.total and time.monotonic() - sent < LEAST_SECONDS:
            return
        before[task] = progress.stage, time.monotonic()
        write_line(cube=task.folder.name, stage=progress.stage, done=progress.done, total=progress.total)

    for outcome in batch.run(tasks, work, jobs, step):
        write_line(
            cube=outcome.task.folder.name, stage=outcome.status, done=1, total=1, kept=outcome.kept,
            dropped=outcome.dropped, seconds=round(outcome.seconds, 3), message=outcome.message,
        )  # fmt: skip
        yield outcome


def write_line(**values: str | int | float) -> None:
    """Write a JSON object to stderr in a single write."""
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()
