"""The parameters chosen are those of the highest F1."""

from __future__ import annotations

import numpy as np
from stored_by_hand import found_sources, records, true_sources

from napari_almadet.evaluation.finders import FINDERS
from napari_almadet.evaluation.results import Results
from napari_almadet.evaluation.tuning import choose, tuned, variants, with_tuned_parameters


def test_the_best_of_the_grid_is_kept(tmp_path):
    """Low thresholds find both and much else, high ones nothing; the middle one finds one, and only that."""
    store(tmp_path, {4.0: [(20, 20), *((x, 90) for x in range(20, 80, 10))], 4.5: [(20, 20)]})
    assert with_tuned_parameters(tmp_path, "peaks").parameters == {}
    best = choose(tmp_path, "validation", ["peaks"], ["paper"], 1)["peaks"]
    assert best["parameters"] == {"threshold": 4.5}
    assert (best["f1"], best["completeness"], best["purity"]) == (0.6667, 0.5, 1)
    assert (best["on_edge"], best["failures"]) == ([], 0)
    assert len(best["tried"]) == len(variants("peaks"))
    assert with_tuned_parameters(tmp_path, "peaks").name == "peaks threshold=4.5"
    assert tuned(tmp_path).keys() == {"peaks"}


def store(out, found, failing=()):
    """Results of one cube with two sources: by threshold, where `peaks` found something, and where it failed."""
    for variant in variants("peaks"):
        files = [Results(out / "validation" / "paper" / f"{name}.jsonl") for name in ("truth", variant.name)]
        places = found.get(variant.parameters["threshold"], [])
        error = "ValueError: no" if variant.parameters["threshold"] in failing else None
        candidates = found_sources(*places, prob=np.nan)
        for file, record in zip(files, records(true_sources((20, 20), (60, 60)), candidates, error=error), strict=True):
            file.prepare({})
            file.append(record)


def test_the_best_on_an_edge_of_the_grid_is_said_to_be(tmp_path):
    highest = max(FINDERS["peaks"].grid["threshold"])
    store(tmp_path, {highest: [(20, 20)]})
    assert choose(tmp_path, "validation", ["peaks"], ["paper"], 1)["peaks"]["on_edge"] == ["threshold"]
    assert tuned(tmp_path)["peaks"]["on_edge"] == ["threshold"]
    store(tmp_path / "as-good", {highest: [(20, 20)], 5.5: [(20, 20)]})
    best = choose(tmp_path / "as-good", "validation", ["peaks"], ["paper"], 1)["peaks"]
    assert (best["parameters"], best["on_edge"]) == ({"threshold": 5.5}, [])


def test_parameters_with_which_a_finder_fails_are_not_the_best(tmp_path):
    store(tmp_path, {5.0: [(20, 20)], 6.0: [(20, 20), (60, 60)]}, failing=[6.0])
    best = choose(tmp_path, "validation", ["peaks"], ["paper"], 1)["peaks"]
    assert (best["parameters"], best["failures"]) == ({"threshold": 5.0}, 0)
    assert sum(one["failures"] for one in best["tried"]) == 1
