"""Writes docs/decisions.md: what decides that a candidate is kept, flagged or dropped, from the code itself.

python docs/make_decisions.py
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from napari_almadet.catalogue.decision import SENTENCES
from napari_almadet.search.thresholds import THRESHOLDS

INTRODUCTION = """# What decides

Made by `python docs/make_decisions.py` from `search/thresholds.py` and `catalogue/decision.py`.

The classifier turns what was measured of a detection into its source probability. A candidate of at least
`Settings.threshold` is kept, any other is dropped, unless one of the rules below says otherwise. Every decision is a
record with its rule, its numbers and the candidates it concerns: `candidate.decisions` in Python, `decisions` in the
metadata of `candidates.ecsv`.

## Thresholds of the rules

| name | value | unit | meaning | where it comes from |
|---|---|---|---|---|
"""


def page() -> str:
    """The text of docs/decisions.md."""
    rows = [
        f"| `{f.name}` | {getattr(THRESHOLDS, f.name):g} | {f.metadata['unit']} | {f.metadata['meaning']} | "
        f"{f.metadata['origin']} |"
        for f in fields(THRESHOLDS)
    ]
    rules = [f"| `{rule}` | {sentence} |" for rule, sentence in SENTENCES.items() if rule != "remark"]
    heading = "\n\n## Rules and their sentences\n\n| rule | what is shown |\n|---|---|\n"
    return INTRODUCTION + "\n".join(rows) + heading + "\n".join(rules) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "decisions.md").write_text(page(), encoding="utf-8")
