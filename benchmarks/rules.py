"""What each rule beside the classifiers' threshold is worth: what it keeps or drops against the probability.

Searches ``-n`` validation cubes of each scenario, and of each artefact of ``benchmarks/false_sources.py`` in noise, and
counts by rule the candidates whose fate it decided: those that it flagged, found or joined, which would otherwise be
dropped or rows of their own, and those that it dropped although they are probable.  A candidate is real if it lies in
the voxels of a source; of the artefacts only the galaxy is.  A rule is worth having if it keeps real ones and drops
false ones.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from false_sources import KINDS

from napari_almadet import detect
from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.cube.cube import Cube
from napari_almadet.detection import load_networks
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Imager, Observation

SCENARIOS = (
    *("bright", "pairs", "edges", "phase-errors", "galaxies", "clouds", "discs", "continuum-left", "cleaned-loop"),
    *("smoothed", "shared-channels"),
)
KEEPS = (
    *("too_bright_for_noise", "two_fit_better", "extended_source", "found_by_its_line", "found_in_a_blend"),
    "found_smoothed",
)
JOINS = ("piece_of", "part_of", "part_of_smoothed")
DROPS = ("baseline_ripple", "residuals", "flank", "sidelobe_of_another_window", "negative_flux")
SIZE = 240  # pixels, of the fields of artefacts


def cubes(n: int, scenarios: list[str], artefacts: bool) -> Iterator[tuple[Cube, np.ndarray]]:
    """Cubes, and which pixels (ny, nx) are in a source."""
    imager = Imager(Observation())
    for scenario in scenarios:
        for i in range(n):
            simulated = simulate_cube(seed_of("validation", i, scenario, 0), scenario, imager=imager)
            yield cube_of(simulated, scenario), simulated.mask.any(axis=0)
    imager = Imager(Observation(size=SIZE))
    for kind in KINDS if artefacts else ():
        for i in range(n):
            simulated = simulate_cube(seed_of("validation", i, "empty", 7), "empty", imager=imager)
            cube, sigma = cube_of(simulated, kind.__name__), simulated.observation.noise
            planes = kind(simulated.dirty / sigma, cube.beam_fwhm, np.random.default_rng(i)).astype(np.float32) * sigma
            real = np.full(planes.shape[1:], kind.__name__ == "bowl_about_galaxy")
            yield replace(cube, data=planes), real


def is_real(candidate: Candidate, real: np.ndarray, reach: int) -> bool:
    """Whether a candidate lies in a source, or within ``reach`` pixels of one."""
    if not np.isfinite([candidate.y, candidate.x]).all():
        return False
    y, x = round(candidate.y), round(candidate.x)
    return bool(real[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].any())


def decided_by(candidate: Candidate, threshold: float) -> Iterator[str]:
    """The rules that decided about a candidate against what its probability says."""
    rules = [decision.rule for decision in candidate.decisions]
    if candidate.status is not Status.DROPPED:
        yield from (rule for rule in KEEPS if rule in rules)
    elif rules[-1] in JOINS:
        yield rules[-1]
    elif candidate.prob >= threshold or rules[-1] == "sidelobe_of_another_window":
        yield from (rule for rule in DROPS if rule in rules)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=5, help="cubes of each scenario and of each artefact")
    parser.add_argument("--scenario", action="append", help="these scenarios, and no artefacts")
    arguments = parser.parse_args()
    settings = Settings()
    networks, counts, total = load_networks(settings), Counter(), 0
    for cube, real in cubes(arguments.n, arguments.scenario or list(SCENARIOS), not arguments.scenario):
        total += 1
        for candidate in detect(cube, settings, networks=networks).candidates:
            own = is_real(candidate, real, max(1, round(cube.beam_fwhm / 4)))
            for rule in decided_by(candidate, settings.threshold):
                counts[rule, own] += 1
    print(f"{total} cubes\n\n| rule | it | real | false |\n|---|---|---|---|")
    for rules, does in ((KEEPS, "keeps"), (JOINS, "joins"), (DROPS, "drops")):
        for rule in rules:
            print(f"| `{rule}` | {does} | {counts[rule, True]} | {counts[rule, False]} |")


if __name__ == "__main__":
    main()
