"""What the preset almadet takes for sources where there are none: artefacts of real cubes, put into simulated noise.

Each kind is put into ``-n`` cubes without a source, of ``--size`` pixels and 128 channels.  It prints how many
candidates were kept, which are all false but for the galaxy's, how many there were, how many the negated cubes show and
would keep, and the highest probabilities.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_almadet.catalogue.candidate import Status
from napari_almadet.detection import load_networks
from napari_almadet.progress import finish
from napari_almadet.search.pipeline import search_steps
from napari_almadet.search.reliability import find_negatives
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Imager, Observation

Kind = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def nothing(planes, beam, rng):
    """Noise alone."""
    return planes


def bowl(planes, beam, rng):
    """Negative bowls of 12 beams, 3 sigma deep in a third of the channels, and of 6 beams in all of them."""
    n, ny, nx = planes.shape
    for width, depth, channels in ((12, 3, slice(n // 3, 2 * n // 3)), (6, 1, slice(None))):
        y, x = rng.uniform(0.25, 0.75, 2) * (ny, nx)
        planes[channels] -= depth * round_source((ny, nx), y, x, width * beam)
    return planes


def bowl_about_galaxy(planes, beam, rng):
    """A source of 8 beams, 5 sigma in a third of the channels, in a bowl of 24 beams: short baselines missing."""
    n, ny, nx = planes.shape
    y, x = rng.uniform(0.4, 0.6, 2) * (ny, nx)
    galaxy = round_source((ny, nx), y, x, 8 * beam) - 0.25 * round_source((ny, nx), y, x, 24 * beam)
    planes[n // 3 : 2 * n // 3] += 5 * galaxy
    return planes


def stripes(planes, beam, rng):
    """Waves across the field, 1 sigma high, in all channels, and 3 sigma in six of them: a bad baseline."""
    n, ny, nx = planes.shape
    y, x = np.indices((ny, nx))
    for height, channels in ((1, slice(None)), (3, slice(n // 2, n // 2 + 6))):
        angle, period = rng.uniform(0, np.pi), rng.uniform(2, 5) * beam
        planes[channels] += height * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / period)
    return planes


def rising_edge(planes, beam, rng):
    """Noise that rises tenfold to a round edge, beyond which there is no data: corrected for the primary beam."""
    _, ny, nx = planes.shape
    y, x = np.indices((ny, nx))
    radius = np.hypot((y - ny / 2) / ny, (x - nx / 2) / nx)
    pattern = np.exp(-np.log(10) * (radius / 0.5) ** 2)
    return np.where(pattern > 0.1, planes / pattern, np.nan)


def nan_border(planes, beam, rng):
    """An irregular border without data."""
    return np.where(inside(planes.shape[1:], rng), planes, np.nan)


def nan_border_by_channel(planes, beam, rng):
    """A border of NaN that moves by up to two beams from channel to channel, as a mosaic's may."""
    _, ny, nx = planes.shape
    y, x = np.indices((ny, nx))
    for plane in planes:
        centre = np.array([ny, nx]) / 2 + rng.uniform(-1, 1, 2) * beam
        plane[np.hypot(y - centre[0], x - centre[1]) > 0.42 * ny] = np.nan
    return planes


def zero_border(planes, beam, rng):
    """An irregular border of exact zeros."""
    return np.where(inside(planes.shape[1:], rng), planes, 0)


def bad_channels(planes, beam, rng):
    """Two channels with ten times the noise, and one with an offset of 3 sigma."""
    loud, other, offset = rng.choice(len(planes), 3, replace=False)
    planes[[loud, other]] *= 10
    planes[offset] += 3
    return planes


def spikes(planes, beam, rng):
    """Ten single pixels of 50 sigma, each in one channel."""
    for place in np.stack([rng.integers(0, n, 10) for n in planes.shape], axis=1):
        planes[tuple(place)] = 50
    return planes


def ripple(planes, beam, rng):
    """A standing wave along the spectrum, 2 sigma high, in one blob of 3 beams: a continuum badly taken off."""
    n, ny, nx = planes.shape
    blob = round_source((ny, nx), *(rng.uniform(0.3, 0.7, 2) * (ny, nx)), 3 * beam)
    return planes + 2 * np.sin(2 * np.pi * np.arange(n) / rng.uniform(20, 50))[:, None, None] * blob


KINDS: tuple[Kind, ...] = (
    *(nothing, bowl, bowl_about_galaxy, stripes, rising_edge, nan_border, nan_border_by_channel, zero_border),
    *(bad_channels, spikes, ripple),
)


def round_source(shape: tuple[int, int], y: float, x: float, fwhm: float) -> np.ndarray:
    """A round Gaussian of peak 1."""
    rows, columns = np.indices(shape)
    return np.exp(-4 * np.log(2) * ((rows - y) ** 2 + (columns - x) ** 2) / fwhm**2)


def inside(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A mask with an irregular edge, about two thirds of the field."""
    depth = np.minimum.reduce([*(np.minimum(i, n - 1 - i) / n for i, n in zip(np.indices(shape), shape, strict=True))])
    rough = gaussian_filter(rng.normal(size=shape), shape[0] / 15, mode="wrap")
    return depth + 0.04 * rough / rough.std() > 0.08


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=5, help="cubes of each kind")
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--kind", action="append", choices=[kind.__name__ for kind in KINDS])
    arguments = parser.parse_args()
    settings, imager = Settings(reliability=True), Imager(Observation(size=arguments.size))
    networks = load_networks(settings)
    print(f"{'kind':24s} {'kept':>5s} {'of':>4s} {'negatives':>9s} {'kept':>5s}  highest prob")
    for kind in KINDS:
        if arguments.kind and kind.__name__ not in arguments.kind:
            continue
        found, negatives = [], []
        for i in range(arguments.n):
            simulated = simulate_cube(seed_of("validation", i, "empty", 7), "empty", imager=imager)
            cube, sigma = cube_of(simulated, kind.__name__), simulated.observation.noise
            planes = kind(simulated.dirty / sigma, cube.beam_fwhm, np.random.default_rng(i)).astype(np.float32) * sigma
            cube = replace(cube, data=planes)
            candidates = finish(search_steps(cube, settings, networks)).candidates
            found += candidates
            negatives += find_negatives(cube, settings, networks, candidates)
        kept, negative = ([c for c in some if c.status is not Status.DROPPED] for some in (found, negatives))
        highest = " ".join(f"{p:.2f}" for p in sorted((c.prob for c in found), reverse=True)[:5])
        print(f"{kind.__name__:24s} {len(kept):5d} {len(found):4d} {len(negatives):9d} {len(negative):5d}  {highest}")


if __name__ == "__main__":
    main()
