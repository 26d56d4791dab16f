"""How many false rows there are in 100 empty cubes for each way in which channels share their noise.

almadet evaluate --scenario shared-channels-empty -n 300 -o evaluation/
python benchmarks/by_channels.py evaluation/
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from napari_almadet.simulation.observe import Observation
from napari_almadet.simulation.scenarios import SCENARIOS

SCENARIO = "shared-channels-empty"


def main(folder: Path, finder: str = "almadet") -> None:
    """Print cubes, rows, and rows in 100 cubes for each kind of shared channels."""
    lines = {
        name: list(map(json.loads, (folder / "test" / SCENARIO / f"{name}.jsonl").read_text().splitlines()))
        for name in ("truth", finder)
    }
    seeds = {record["cube"]: record["seed"] for record in lines["truth"] if "cube" in record}
    counts = defaultdict(lambda: np.zeros(2, int))
    for record in lines[finder]:
        if "cube" in record:
            # as simulate_cube draws what is done to the cube of a seed
            done = SCENARIOS[SCENARIO].process(np.random.default_rng([seeds[record["cube"]], 3]), Observation())
            counts[done.mixing.kind] += 1, len(record["sources"]["x"])
    for kind, (cubes, rows) in sorted(counts.items()):
        print(f"{kind:16} {cubes:4} cubes {rows:4} rows, {100 * rows / cubes:5.1f} in 100")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
