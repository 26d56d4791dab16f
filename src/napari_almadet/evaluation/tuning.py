"""Choice of the parameters of classical finders: the best of a grid on validation cubes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from napari_almadet.evaluation.finders import FINDERS
from napari_almadet.evaluation.run import Classical
from napari_almadet.evaluation.scores import Outcome, summary

TUNED = "tuned.json"


def variants(finder: str) -> list[Classical]:
    """A finder with each combination of its grid."""
    return [Classical(finder, parameters) for parameters in FINDERS[finder].combinations()]


def choose(out: Path, which: str, finders: list[str], scenarios: list[str], n: int) -> dict[str, dict]:
    """Choose for each finder the parameters with the highest F1 over all scenarios, and write them to ``tuned.json``.

    Parameters with which a finder fails on fewer cubes are preferred; of those with the same F1, the ones that are not
    on an edge of the grid.

    Parameters
    ----------
    out
        With the results of all variants, see :func:`napari_almadet.evaluation.run.run`.
    which, scenarios, n
        Set, scenarios and number of cubes to use.

    Returns
    -------
    dict
        By finder: ``parameters``, their ``f1``, ``completeness``, ``purity`` and ``failures``, and ``on_edge``, the
        names of those at the lowest or highest value of the grid, beyond which better ones may lie.
    """
    chosen = tuned(out)
    for finder in finders:
        tried = []
        for variant in variants(finder):
            row = summary(Outcome.joined(Outcome.load(out / which / s, variant.name, n) for s in scenarios))
            rates = {key: round(row[key], 4) for key in ("f1", "completeness", "purity")}
            tried.append({"parameters": variant.parameters, **rates, "failures": row["failures"]})
            tried[-1]["on_edge"] = FINDERS[finder].edges(variant.parameters)
        best = max(tried, key=lambda one: (-one["failures"], np.nan_to_num(one["f1"]), -len(one["on_edge"])))
        chosen[finder] = best | {"set": which, "cubes": n, "scenarios": scenarios, "tried": tried}
    partial = out / f"{TUNED}.partial"
    partial.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, out / TUNED)
    return chosen


def tuned(out: Path) -> dict[str, dict]:
    """The parameters chosen in a folder; empty if there are none."""
    path = out / TUNED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def with_tuned_parameters(out: Path, finder: str) -> Classical:
    """A finder with the parameters chosen in a folder, or with its defaults."""
    return Classical(finder, tuned(out).get(finder, {}).get("parameters", {}))
