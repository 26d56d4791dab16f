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

The classifier computes the source probability of a detection from its measured properties. A candidate with at least
`Settings.threshold` is kept, any other is dropped, unless one of the rules below overrides this. Every decision is
recorded with the rule, the values it compared and the other candidates involved: as `candidate.decisions` in Python,
and as `decisions` in the metadata of `candidates.ecsv`.

## Thresholds of the rules

| name | value | unit | meaning | origin |
|---|---|---|---|---|
"""


WORTH = """
## What the rules decided

`python benchmarks/rules.py -n 4`: in 44 simulated validation cubes of 11 scenarios and 44 cubes of noise with
artefacts, the candidates whose status a rule decided against their probability. The other rules that it counts decided
nothing in these cubes; it does not count `no_flux` and `no_line_flux`.

That was before windows were searched again smoothed to twice the beam; with that, only the 44 cubes of noise with
artefacts have been searched again: no candidate in them was kept by `found_smoothed`. With four times the beam they
have not been searched.

| rule | effect | real | false |
|---|---|---|---|
| `extended_source` | keeps | 2 | 0 |
| `found_by_its_line` | keeps | 1 | 0 |
| `piece_of` | joins | 1 | 0 |
| `part_of` | joins | 8 | 0 |
| `baseline_ripple` | drops | 0 | 2 |

In cubes with a lone source of S/N in the thousands (`almadet simulate lone/ -n 4 --scenario arrays --seed 77
--sources 1 1 --brightness 100`) it is `residuals` that drops its sidelobes: they have probabilities of up to 0.99.
"""


def page() -> str:
    """The text of docs/decisions.md."""
    rows = [
        f"| `{f.name}` | {getattr(THRESHOLDS, f.name):g} | {f.metadata['unit']} | {f.metadata['meaning']} | "
        f"{f.metadata['origin']} |"
        for f in fields(THRESHOLDS)
    ]
    rules = [f"| `{rule}` | {sentence} |" for rule, sentence in SENTENCES.items() if rule != "remark"]
    heading = "\n\n## Rules and their messages\n\n| rule | message |\n|---|---|\n"
    return INTRODUCTION + "\n".join(rows) + heading + "\n".join(rules) + "\n" + WORTH


if __name__ == "__main__":
    (Path(__file__).parent / "decisions.md").write_text(page(), encoding="utf-8")
