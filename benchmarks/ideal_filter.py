"""What a finder could see at most, that knew each source's shape and spectrum: the test cubes of an evaluation.

    python benchmarks/ideal_filter.py evaluation/ [threshold]

A filter's answer to a source is normal about the source's SNR, stack and line together, and is taken for a source
over the threshold.  Two sources are two only if the data tell them from one: the fainter of a pair also has to differ
by more than the threshold from the best single source, of any place, Gaussian shape and spectrum.  Noise has the
shape of the beam, and then what a likelihood compares are sources convolved with one beam and with each other.

No finder can do better at the same rate of false positives, but by what it knows of the sky beforehand.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from napari_almadet.evaluation.run import attenuation
from napari_almadet.simulation import sky
from napari_almadet.simulation.dataset import SimulatedCube, simulate_cube

STRATA = ("paper", "bright", "line-only", "beams", "arrays", "pairs")  # whose sources are Gaussians
NEAR = 1.5  # beams, within which two sources may pass for one
BRIGHT = 5.0


def likeness(apart: np.ndarray, shape: np.ndarray, beam: np.ndarray) -> float:
    """Covariance, over a voxel's variance, of two sources of unit flux in noise that has the beam's shape.

    ``apart`` (2,) is from one to the other, ``shape`` the sum of their covariances, ``beam`` that of the beam.
    """
    wide = beam + shape
    return np.sqrt(np.linalg.det(beam) / np.linalg.det(wide)) * np.exp(-0.5 * apart @ np.linalg.solve(wide, apart))


def told_apart(places: np.ndarray, shapes: np.ndarray, spectra: np.ndarray, beam: np.ndarray) -> float:
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
    middle = share @ places
    spread = np.einsum("i,ijk->jk", share, shapes) + np.cov(places.T, aweights=share, ddof=0)

    def left(one: np.ndarray) -> float:
        root = np.array([[one[2], 0], [one[3], one[4]]])
        shape = root @ root.T
        seen = np.array([likeness(places[i] - one[:2], shapes[i] + shape, beam) for i in (0, 1)])
        return float((products * own).sum() - seen @ products @ seen / likeness(np.zeros(2), 2 * shape, beam))

    root = np.linalg.cholesky(spread)
    start = np.array([*middle, root[0, 0], root[1, 0], root[1, 1]])
    best = minimize(left, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-3, "fatol": 1e-3})
    return float(np.sqrt(max(best.fun, 0)))


def chances(cube: SimulatedCube, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Chances (n,) of each source of a cube to be over the threshold, alone and with the others there."""
    model, observation = cube.model, cube.observation
    continuum, line = np.maximum(cube.truth["snr_stack"], 0), np.nan_to_num(cube.truth["snr_line"])
    # the stack of a source without continuum is its line's, seen with a worse filter
    alone = norm.sf(threshold - (line if cube.stratum == "line-only" else np.hypot(continuum, line)))
    told = np.ones(len(model))
    beam = observation.clean_beam
    places = np.stack([model.x, model.y], axis=1)
    shapes = np.array([sky.covariance(*s) for s in zip(model.major, model.minor, model.angle, strict=True)])
    area = np.pi * model.major * model.minor / (4 * np.log(2))
    y, x = (np.rint(c).astype(int).clip(0, observation.size - 1) for c in (model.y, model.x))
    flux = area * attenuation(observation)[y, x] / observation.noise
    for pair in map(list, combinations(range(len(model)), 2)):
        if np.hypot(*np.subtract(*places[pair])) < NEAR * beam.fwhm:
            spectra = flux[pair, None] * model.spectra(observation.frequencies)[pair]
            sigma = told_apart(places[pair], shapes[pair], spectra, sky.covariance(beam.major, beam.minor, beam.angle))
            fainter = pair[int(alone[pair[1]] <= alone[pair[0]])]
            told[fainter] = min(told[fainter], norm.sf(threshold - sigma))
    return alone, alone * told


def main(folder: Path, threshold: float = 4.5) -> None:
    """Print a row for each stratum."""
    print(f"{'over':>22}{threshold:4g} sigma, alone{'and told from others':>25}")
    print(f"{'stratum':12}{'sources':>8}{'all':>8}{'SNR>=5':>8}{'all':>12}{'SNR>=5':>8}{'best F1':>9}")
    for stratum in STRATA:
        file = folder / "test" / stratum / "truth.jsonl"
        if not file.exists():
            continue
        seeds = [r["seed"] for r in map(json.loads, file.read_text().splitlines()) if "cube" in r]
        columns = defaultdict(list)
        for cube in (simulate_cube(seed, stratum) for seed in seeds):
            columns["bright"] += list(cube.truth["snr_stack"] >= BRIGHT)
            for name, values in zip(("alone", "told"), chances(cube, threshold), strict=True):
                columns[name] += list(values)
        bright, alone, told = (np.array(columns[name]) for name in ("bright", "alone", "told"))
        print(
            f"{stratum:12}{len(told):8}{alone.mean():8.3f}{alone[bright].mean():8.3f}"
            f"{told.mean():12.3f}{told[bright].mean():8.3f}{2 * told.mean() / (1 + told.mean()):9.3f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]))
