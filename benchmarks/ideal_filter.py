"""What a finder could see at most, on the test cubes of an evaluation that have the paper's array and noise.

    python benchmarks/ideal_filter.py evaluation/

Three shares of the sources, of all and of those over SNR 5 in the stack:

* *known*: over 4.5 sigma for a filter that knows each source's place, shape and spectrum; its answer is normal about
  the source's SNR, stack and line together.
* *apart*: those that the data also tell from their neighbours. The fainter of a close pair has to differ by 4.5 sigma
  from the best single source of any place, Gaussian shape and spectrum. Noise has the shape of the beam, and then what
  a likelihood compares are sources convolved with one beam and with each other.
* *blind*: those of these that a filter sees which knows the shape but not the place, nor the line's channel and width,
  and so has to ask for more: for as much as leaves one false candidate to a hundred sources, in fields without any.

F1 is that of the last, one false candidate in a hundred.
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import minimize
from scipy.stats import norm

from napari_almadet.evaluation.run import attenuation
from napari_almadet.search.line_maps import MAPS, maps
from napari_almadet.search.noise_units import average, binning, in_noise_units
from napari_almadet.search.two_component_fit import likeness
from napari_almadet.simulation import sky
from napari_almadet.simulation.dataset import seed_of, simulate_cube
from napari_almadet.simulation.observation_files import SimulatedCube

SCENARIOS = ("paper", "bright", "line-only", "pairs")
THRESHOLD = 4.5  # sigma
NEAR = 1.5  # beams, within which two sources may pass for one
BRIGHT = 5.0
FALSE = 0.01  # candidates a source
EMPTY = 200  # fields without a source, in which false candidates are counted
DRAWS = 500  # of the noise at a source


def difference(places: np.ndarray, shapes: np.ndarray, spectra: np.ndarray, beam: np.ndarray) -> float:
    """By how many sigma two sources differ from the best single one.

    Parameters
    ----------
    places, shapes
        (2, 2) in (x, y), and the covariances (2, 2, 2).
    spectra
        Fluxes in units of the noise, (2, channels).
    beam
        Covariance of the beam, (2, 2).
    """
    products = spectra @ spectra.T
    own = [[likeness(places[i] - places[j], shapes[i] + shapes[j], beam) for j in (0, 1)] for i in (0, 1)]
    share = products.diagonal() / products.trace()
    spread = np.einsum("i,ijk->jk", share, shapes) + np.cov(places.T, aweights=share, ddof=0)

    def left(one: np.ndarray) -> float:
        root = np.array([[one[2], 0], [one[3], one[4]]])
        shape = root @ root.T
        seen = np.array([likeness(places[i] - one[:2], shapes[i] + shape, beam) for i in (0, 1)])
        return float((products * own).sum() - seen @ products @ seen / likeness(np.zeros(2), 2 * shape, beam))

    root = np.linalg.cholesky(spread)
    start = np.array([*(share @ places), root[0, 0], root[1, 0], root[1, 1]])
    best = minimize(left, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-3, "fatol": 1e-3})
    return float(np.sqrt(max(best.fun, 0)))


def told_apart(cube: SimulatedCube) -> np.ndarray:
    """Chance (n,) that the data tell each source of a cube from a brighter one nearby."""
    model, observation = cube.model, cube.observation
    chance, beam = np.ones(len(model)), observation.clean_beam
    places = np.stack([model.x, model.y], axis=1)
    shapes = np.array([sky.covariance(*s) for s in zip(model.major, model.minor, model.angle, strict=True)])
    area = np.pi * model.major * model.minor / (4 * np.log(2))
    y, x = (np.rint(c).astype(int).clip(0, observation.size - 1) for c in (model.y, model.x))
    flux = area * attenuation(observation)[y, x] / observation.noise
    spectra = flux[:, None] * model.spectra(observation.frequencies)[: len(model)]
    covariance = sky.covariance(beam.major, beam.minor, beam.angle)
    for pair in map(list, combinations(range(len(model)), 2)):
        if np.hypot(*np.subtract(*places[pair])) < NEAR * beam.fwhm:
            sigma = difference(places[pair], shapes[pair], spectra[pair], covariance)
            fainter = min(pair, key=lambda i: np.square(spectra[i]).sum())
            chance[fainter] = min(chance[fainter], norm.sf(THRESHOLD - sigma))
    return chance


def noise_peaks() -> tuple[np.ndarray, np.ndarray]:
    """Heights of the peaks of noise in :data:`EMPTY` fields: in the stack, and with each place's best line."""
    heights = ([], [])
    for index in range(EMPTY):
        cube = simulate_cube(seed_of("validation", index, "empty", 0), "empty")
        beam = cube.observation.clean_beam.fwhm
        units = in_noise_units(torch.from_numpy(average(cube.dirty, binning(beam))), beam / binning(beam))
        images, _ = maps(units, units, beam / binning(beam))
        stack, line = (images[MAPS.index(name)].numpy().clip(0) for name in ("stack", "line"))
        for image, found in zip((stack, np.hypot(stack, line)), heights, strict=True):
            found += list(image[image == ndimage.maximum_filter(image, 5)])
    return tuple(np.sort(found)[::-1] for found in heights)


def main(folder: Path) -> None:
    """Print a row for each scenario."""
    rng, peaks = np.random.default_rng(0), noise_peaks()
    print(f"{'':20}{'known':>16}{'apart':>16}{'blind':>16}")
    shares = 3 * f"{'all':>8}{'SNR>=5':>8}"
    print(f"{'scenario':12}{'sources':>8}{shares}{'F1':>8}   blind: sigma in the stack, with a line")
    for scenario in SCENARIOS:
        file = folder / "test" / scenario / "truth.jsonl"
        if not file.exists():
            continue
        seeds = [r["seed"] for r in map(json.loads, file.read_text().splitlines()) if "cube" in r]
        snr, apart = [], []
        for cube in (simulate_cube(seed, scenario) for seed in seeds):
            stack, line = np.maximum(cube.truth["snr_stack"], 0), np.nan_to_num(cube.truth["snr_line"])
            snr.append(np.stack([stack, line], axis=1))
            apart.append(told_apart(cube))
        snr, apart = np.concatenate(snr), np.concatenate(apart)
        if scenario == "line-only":  # the stack of a line is the line, seen with a worse filter
            snr[:, 0] = 0
        bright = np.hypot(*snr.T) >= BRIGHT if scenario == "line-only" else snr[:, 0] >= BRIGHT
        # half of the false candidates in each of the two ways to be seen
        limits = [found[round(FALSE / 2 * len(snr) / len(seeds) * EMPTY)] for found in peaks]
        seen = snr + rng.normal(size=(DRAWS, *snr.shape))
        over = (seen[..., 0] > limits[0]) | (np.hypot(*np.maximum(seen, 0).transpose(2, 0, 1)) > limits[1])
        known = norm.sf(THRESHOLD - np.hypot(*snr.T))
        shares = [s for value in (known, known * apart, over.mean(axis=0) * apart) for s in (value, value[bright])]
        row = "".join(f"{np.mean(share):8.3f}" for share in shares)
        best = 2 / (1 / (1 - FALSE) + 1 / np.mean(shares[-2]))
        print(f"{scenario:12}{len(snr):8}{row}{best:8.3f}   {limits[0]:.2f}, {limits[1]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
