"""What a filter would find that knew each source's place, shape and spectrum, on the cubes of an evaluation.

    python benchmarks/ideal_filter.py evaluation/ [threshold]

Its answer to a source is normal about the source's SNR, stack and line together, and it takes what is over the
threshold. It sees every source alone; beside it stands the share of sources with another within half a beam.
No finder can do better at the same rate of false positives, but by what it knows of the sky beforehand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm

HALF_BEAM = 4.1  # px
BRIGHT = 5.0


def main(folder: Path, threshold: float = 4.5) -> None:
    """Print a row for each stratum that holds sources."""
    print(f"{'stratum':16}{'sources':>8}{'all':>8}{'SNR>=5':>8}{'crowded':>9}   over {threshold:g} sigma")
    for path in sorted(folder.glob("test/*/truth.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        snr, stack, crowded = [], [], []
        for truth in (record["sources"] for record in records if "cube" in record):
            places = np.stack([truth["x"], truth["y"]], axis=1).reshape(-1, 2)
            apart = np.linalg.norm(places[:, None] - places, axis=2) + np.diag(np.full(len(places), np.inf))
            line = np.nan_to_num(np.array(truth["snr_line"], dtype=float))
            continuum = np.maximum(np.array(truth["snr_stack"], dtype=float), 0)
            # the stack of a source without continuum is its line's, seen with a worse filter
            snr += list(line if path.parent.name == "line-only" else np.hypot(continuum, line))
            stack += list(continuum)
            crowded += list(apart.min(axis=1, initial=np.inf) < HALF_BEAM)
        if not snr:
            continue
        found, bright = norm.sf(threshold - np.array(snr)), np.array(stack) >= BRIGHT
        print(
            f"{path.parent.name:16}{len(found):8}{found.mean():8.3f}{found[bright].mean():8.3f}"
            f"{np.mean(np.array(crowded)[bright]):9.3f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]))
