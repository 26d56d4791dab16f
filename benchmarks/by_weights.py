"""How the imaging weights of the scenario ``arrays`` decide about false candidates.

python benchmarks/by_weights.py evaluation/
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from napari_almadet.evaluation.matching import match
from napari_almadet.simulation.observe import Observation
from napari_almadet.simulation.scenarios import SCENARIOS


def records(path: Path) -> dict[int, dict]:
    """Records of a file of an evaluation, by the number of their cube."""
    lines = map(json.loads, path.read_text().splitlines())
    return {record["cube"]: record["sources"] | {"seed": record.get("seed")} for record in lines if "cube" in record}


def places(sources: dict) -> np.ndarray:
    """Positions, (n, 2)."""
    return np.stack([sources["x"], sources["y"]], axis=1).reshape(-1, 2)


def main(folder: Path) -> None:
    """Print cubes, candidates and false ones for natural, mild and strong weights."""
    truths, found = (records(folder / "test" / "arrays" / f"{name}.jsonl") for name in ("truth", "almadet"))
    counts = defaultdict(lambda: np.zeros(3, int))
    for cube, sources in found.items():
        # as simulate_cube draws the observation of a seed
        drawn = SCENARIOS["arrays"].observe(np.random.default_rng([truths[cube]["seed"], 1]), Observation())
        kind = "natural" if drawn.robust is None else "robust >= 0" if drawn.robust >= 0 else "robust < 0"
        candidates = places(sources)
        counts[kind] += 1, len(candidates), len(candidates) - len(match(places(truths[cube]), candidates))
    for kind, (cubes, candidates, false) in counts.items():
        print(f"{kind:12} {cubes:4} cubes {candidates:5} candidates {false:4} false")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
