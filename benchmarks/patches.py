"""What the extent classifier makes of the patches of emission in simulated cubes, beside what Judge makes of them.

For each scenario it searches ``-n`` validation cubes as far as the classifiers, and prints of large patches (ten beams
and more) and of small ones (of which Judge keeps nothing) how many are real, how many each classifier finds probable,
and by how much the probabilities are off: their mean less the share that is real, and the mean of that over tenths.
A patch is real if its brightest place lies in the voxels of a source.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import expit, logit

from napari_almadet.cube.cube import Cube
from napari_almadet.detection import load_networks
from napari_almadet.progress import finish
from napari_almadet.search.beam_decision import decided_beforehand
from napari_almadet.search.decisions import by_patch, extent_chances, judge_logits
from napari_almadet.search.line_detection import frequency_denoising
from napari_almadet.search.noise_units import binning
from napari_almadet.search.pipeline import search_window
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.sidelobes import known_beam
from napari_almadet.search.windows import beam_fwhm, read_in_noise_units, windows
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Imager, Observation

SCENARIOS = ("galaxies", "clouds", "discs", "continuum-left", "cleaned-loop", "smoothed", "shared-channels", "bright")
HEADINGS = (
    *("large, real", "Judge", "extent", "large, false", "Judge", "extent"),
    *("small, real", "extent", "small, false", "extent", "mean error of `prob`", "by tenths"),
)


def patches_in(cube: Cube, labels: np.ndarray, networks: SearchNetworks, settings: Settings) -> np.ndarray:
    """Patches of a cube of one window, (n, 4): large, real, probability by Judge and by the extent classifier."""
    beam = finish(beam_fwhm.steps(cube))
    k = binning(beam)
    (window,) = windows(cube.shape, k, beam / k, settings.memory)
    raw, _ = finish(read_in_noise_units(cube, window, beam / k))
    known = known_beam(cube, window, beam / k, settings, decided_beforehand(cube, settings))
    _, found, *_ = search_window(raw, window, known, networks)
    if not found:
        return np.zeros((0, 4))
    finish(frequency_denoising(found, settings, networks))
    judge_logits(found, networks)
    rows = []
    for best, group in by_patch(found):
        if best.box is None and any(f.judge_logit >= logit(settings.threshold) for f in group):
            continue
        y, x = (min(int((c + 0.5) * k), n - 1) for c, n in zip(best.extent.place, cube.shape[1:], strict=True))
        reach = max(1, round(k))
        real = labels[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].any()
        rows.append((best.box is not None, real, expit(best.judge_logit), extent_chances([best], networks)[0]))
    return np.array(rows, float).reshape(-1, 4)


def row_of(patches: np.ndarray, threshold: float) -> list[str]:
    """One row of the table."""
    large, real = patches[:, 0] > 0, patches[:, 1] > 0
    judge, extent = (patches[:, i] >= threshold for i in (2, 3))
    numbers = []
    for chosen in (large & real, large & ~real):
        numbers += [chosen.sum(), (chosen & judge).sum(), (chosen & extent).sum()]
    for chosen in (~large & real, ~large & ~real):
        numbers += [chosen.sum(), (chosen & extent).sum()]
    tenth = np.minimum(patches[:, 3] * 10, 9).astype(int)
    off = [abs((patches[tenth == i, 3] - real[tenth == i]).sum()) for i in range(10)]
    return [*map(str, numbers), f"{(patches[:, 3] - real).mean():+.3f}", f"{sum(off) / len(patches):.3f}"]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10, help="cubes of each scenario")
    parser.add_argument("--scenario", action="append", help="default: " + ", ".join(SCENARIOS))
    arguments = parser.parse_args()
    settings, imager = Settings(), Imager(Observation())
    networks = load_networks(settings)
    print(f"| scenario | cubes | {' | '.join(HEADINGS)} |")
    print("|---|" + "---|" * (len(HEADINGS) + 1))
    everything = []
    for scenario in arguments.scenario or SCENARIOS:
        found = []
        for i in range(arguments.n):
            simulated = simulate_cube(seed_of("validation", i, scenario, 0), scenario, imager=imager)
            found.append(patches_in(cube_of(simulated, scenario), simulated.mask, networks, settings))
        patches = np.concatenate(found)
        everything.append(patches)
        if len(patches):
            print(f"| {scenario} | {arguments.n} | {' | '.join(row_of(patches, settings.threshold))} |", flush=True)
    print(f"| all | | {' | '.join(row_of(np.concatenate(everything), settings.threshold))} |")


if __name__ == "__main__":
    main()
