"""Detections of finders in simulated cubes, written to disk as they are made, so that a run can be resumed.

A folder contains ``SET/SCENARIO/truth.jsonl`` and ``SET/SCENARIO/FINDER.jsonl``.  The first line
of such a file identifies its contents; each further line is one cube, appended in a single write once
it is complete.  A line truncated by an interruption is ignored.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TRUTH = "truth"  # name of the file with the true sources


class StaleResults(ValueError):
    """The results in a folder belong to another evaluation."""


@dataclass(frozen=True)
class Results:
    """One file of results: the truth of a scenario, or what one finder found in it."""

    path: Path

    def prepare(self, about: dict) -> None:
        """Start the file, or remove a truncated line.

        Raises
        ------
        StaleResults
            If the file belongs to another evaluation; it is not changed.
        """
        about = json.loads(json.dumps(about))  # tuples become lists, as after reading
        if not self.path.exists() or b"\n" not in (content := self.path.read_bytes()):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(about) + "\n", encoding="utf-8")
            return
        there = as_now(json.loads(content[: content.index(b"\n")]))
        if there != about:
            keys = sorted(k for k in there.keys() | about.keys() if there.get(k) != about.get(k))
            raise StaleResults(
                f"{self.path} was made with another {', '.join(keys)}: remove it, or choose another folder"
            )
        whole = content.rindex(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def append(self, record: dict) -> None:
        """Add one cube: a dictionary with the key ``cube``, its number."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(record)) + "\n")

    def about(self) -> dict:
        """The first line."""
        with self.path.open(encoding="utf-8") as file:
            return as_now(json.loads(file.readline()))

    def read(self) -> dict[int, dict]:
        """Records by number of the cube, sorted; the last one if a cube has several."""
        if not self.path.exists():
            return {}
        *whole, _ = self.path.read_text(encoding="utf-8").split("\n")
        records = [json.loads(line) for line in whole[1:]]
        return {record["cube"]: record for record in sorted(records, key=lambda record: record["cube"])}


def as_now(about: dict) -> dict:
    """The identification of a file with current names: version 0.1 called a scenario a stratum."""
    return {"scenario" if key == "stratum" else key: value for key, value in about.items()}


def _plain(value: Any) -> Any:
    """Numbers for JSON: values that are not finite become null."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
