"""Choice of the parameters of classical finders: the best of a grid on validation cubes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from napari_almadet.evaluation.finders import FINDERS
from napari_almadet.evaluation.run import Classical
from napari_almadet.evaluation.scores import Outcome, summary

TUNED = "tuned.json"


def variants(finder: str) -> list[Classical]:
    """A finder with each combination of its grid."""
    return [Classical(finder, parameters) for parameters in FINDERS[finder].combinations()]


def choose(out: Path, which: str, finders: list[str], scenarios: list[str], n: int) -> dict[str, dict]:
    """Choose for each finder the parameters with the highest F1 over all scenarios, and write them to ``tuned.json``.

    Parameters
    ----------
    out
        With the results of all variants, see :func:`napari_almadet.evaluation.run.run`.
    which, scenarios, n
        Set, scenarios and number of cubes to use.

    Returns
    -------
    dict
        By finder: ``parameters``, and their ``f1``, ``completeness`` and ``purity``.
    """
    chosen = tuned(out)
    for finder in finders:
        tried = []
        for variant in variants(finder):
            row = summary(Outcome.joined(Outcome.load(out / which / s, variant.name, n) for s in scenarios))
            rates = {key: round(row[key], 4) for key in ("f1", "completeness", "purity")}
            tried.append({"parameters": variant.parameters, **rates})
        best = max(tried, key=lambda one: one["f1"])
        chosen[finder] = best | {"set": which, "cubes": n, "scenarios": scenarios, "tried": tried}
    partial = out / f"{TUNED}.partial"
    partial.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, out / TUNED)
    return chosen


def tuned(out: Path) -> dict[str, dict]:
    """The parameters chosen in a folder; empty if there are none."""
    path = out / TUNED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def at_its_best(out: Path, finder: str) -> Classical:
    """A finder with the parameters chosen in a folder, or with its defaults."""
    return Classical(finder, tuned(out).get(finder, {}).get("parameters", {}))
