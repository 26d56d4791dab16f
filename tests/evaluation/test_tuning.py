"""The parameters chosen are those of the highest F1."""

from __future__ import annotations

import numpy as np
from stored_by_hand import found_sources, records, true_sources

from napari_almadet.evaluation.results import Results
from napari_almadet.evaluation.tuning import at_its_best, choose, tuned, variants


def test_the_best_of_the_grid_is_kept(tmp_path):
    """Low thresholds find both and much else, high ones nothing; the middle one finds one, and only that."""
    found = {3.5: [(20, 20), *((x, 90) for x in range(20, 80, 10))], 4.5: [(20, 20)]}
    for variant in variants("peaks"):
        files = [Results(tmp_path / "validation" / "paper" / f"{name}.jsonl") for name in ("truth", variant.name)]
        places = found.get(variant.parameters["threshold"], [])
        for file, record in zip(
            files, records(true_sources((20, 20), (60, 60)), found_sources(*places, prob=np.nan)), strict=True
        ):
            file.prepare({})
            file.append(record)
    assert at_its_best(tmp_path, "peaks").parameters == {}
    best = choose(tmp_path, "validation", ["peaks"], ["paper"], 1)["peaks"]
    assert best["parameters"] == {"threshold": 4.5}
    assert (best["f1"], best["completeness"], best["purity"]) == (0.6667, 0.5, 1)
    assert len(best["tried"]) == len(variants("peaks"))
    assert at_its_best(tmp_path, "peaks").name == "peaks threshold=4.5"
    assert tuned(tmp_path).keys() == {"peaks"}
