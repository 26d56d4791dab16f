"""The scenarios of simulated data: content of the sky, observation, and missing data.

The first is the paper's set; the others cover features of real data that are missing in that set.
`napari_almadet.simulation.SCENARIOS_ABOUT` describes each in one line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from napari_almadet.constants import ARCSEC_PER_DEGREE
from napari_almadet.simulation import objects, processing
from napari_almadet.simulation.array import AntennaArray, fit_clean_beam, primary_beam_radius
from napari_almadet.simulation.observe import PB_LIMIT, Observation, draw_observation
from napari_almadet.simulation.processing import Processing
from napari_almadet.simulation.sky import PAPER, SkyRecipe

# Minimum primary beam at positions of sources.
SEEN = 0.3


@dataclass(frozen=True)
class Coverage:
    """Pixels, shape (size, size), and channels, shape (n_channels,), with data."""

    pixels: np.ndarray
    channels: np.ndarray


def other_beam(rng: np.random.Generator, observation: Observation) -> Observation:
    """Another pixel size: a clean beam of 3 to 10 pixels."""
    return observation.with_beam(float(rng.uniform(3.1, 9.9)))


def other_array(rng: np.random.Generator, observation: Observation) -> Observation:
    """Another observation, see `draw_observation`."""
    return draw_observation(rng, observation.size, observation.n_channels)


def primary_beam_corrected(rng: np.random.Generator, observation: Observation) -> Observation:
    """Corrected for the primary beam, which falls to `PB_LIMIT` at 0.8 to 1.3 times half the field's side.

    The array is compact: the first one in random order whose clean beam has 3 to 10 pixels.
    """
    reach = rng.uniform(0.8, 1.3) * observation.size / 2
    for name in rng.permutation([*(f"alma_cycle9_c{k}" for k in range(1, 5)), "aca_cycle9"]):
        array = AntennaArray.load(str(name))
        radius = np.degrees(primary_beam_radius(PB_LIMIT, observation.frequency, array.diameter)) * ARCSEC_PER_DEGREE
        drawn = replace(observation, array=str(name), pixel=float(radius / reach), pb_corrected=True)
        if drawn.pixel <= drawn.largest_pixel and 3 <= fit_clean_beam(drawn.psf(size=48)).fwhm <= 10:
            return drawn
    raise ValueError(f"a field of {observation.size} pixels is too small for the primary beam of any array")


def phase_errors(rng: np.random.Generator, observation: Observation) -> Observation:
    """Antenna phase errors of 10 to 30 degrees rms; in half of the cubes with periods of 10 to 60 minutes."""
    return replace(
        observation,
        phase_error=float(rng.uniform(10, 30)),
        phase_period=float(rng.uniform(600, 3600)) if rng.random() < 0.5 else None,
        phase_seed=int(rng.integers(2**32)),
    )


def cleaned(rng: np.random.Generator, observation: Observation) -> Observation:
    """Restored with the clean beam; up to 15 % of the sidelobes remain."""
    return replace(observation, residual=float(rng.uniform(0, 0.15)))


def any_published(rng: np.random.Generator, observation: Observation) -> Observation:
    """Observations of galaxies and clouds: another pixel size, any array and weights, or primary-beam corrected.

    In four cubes of ten, short spacings are included and at most a tenth of the sidelobes remains.
    """
    draw = rng.choice(4, p=[0.3, 0.3, 0.2, 0.2])
    if draw:
        observation = (other_beam, other_array, primary_beam_corrected)[draw - 1](rng, observation)
    return replace(observation, residual=float(rng.uniform(0, 0.1))) if rng.random() < 0.4 else observation


def blank_borders(rng: np.random.Generator, observation: Observation) -> Coverage:
    """Blank 10 to 40 % of the field (a frame or an irregular edge), and up to 5 % of the channels at each end."""
    size, n = observation.size, observation.n_channels
    pixels = np.arange(size)
    # distance from the four sides, each in its own unit
    y, x = (np.minimum((pixels + 1) / rng.uniform(0.2, 1), (size - pixels) / rng.uniform(0.2, 1)) for _ in range(2))
    depth = np.minimum(y[:, None], x[None, :])
    if rng.random() < 0.5:
        rough = gaussian_filter(rng.normal(size=(size, size)), size / 15, mode="wrap")
        depth = depth / size + rng.uniform(0.1, 0.3) * rough / rough.std()
    channels = np.ones(n, dtype=bool)
    low, high = rng.integers(0, max(n // 20, 1), 2, endpoint=True)
    channels[:low] = channels[n - high :] = False
    return Coverage(depth > np.quantile(depth, rng.uniform(0.1, 0.4)), channels)


def anywhere(observation: Observation, covered: np.ndarray) -> np.ndarray:
    """Pixels with data where the primary beam is above the limit, half a beam inside the field."""
    margin = int(np.ceil(0.5 * observation.clean_beam.fwhm))
    inside = np.zeros_like(covered)
    inside[margin:-margin, margin:-margin] = True
    return (inside & covered & (observation.primary_beam() >= SEEN)).astype(float)


def near_blank(observation: Observation, covered: np.ndarray) -> np.ndarray:
    """Pixels with data; at least half of the sources are within two beams of blank pixels or the edge."""
    near = covered & (distance_transform_edt(np.pad(covered, 1))[1:-1, 1:-1] <= 2 * observation.clean_beam.fwhm)
    return near / near.sum() + covered / covered.sum()


def edge(observation: Observation, covered: np.ndarray) -> np.ndarray:
    """Within one beam of the field's edge."""
    pixels = np.arange(observation.size)
    depth = np.minimum(pixels, observation.size - 1 - pixels) + 0.5
    return (np.minimum(depth[:, None], depth[None, :]) <= observation.clean_beam.fwhm).astype(float)


@dataclass(frozen=True)
class Scenario:
    """One kind of simulated cube.

    Attributes
    ----------
    sky
        The recipe of the sources.
    brightness
        Factor relative to the paper's brightness; in Jy/beam if sizes are in beams.
    observe
        Draws an observation with the size and channels of the given one; None: the given one is used.
    place
        Probability of each pixel to contain a source; None: the positions of the recipe.
    blank
        Draws missing data; None for none.
    objects
        Draws objects in addition to the Gaussians of ``sky``; None for none.
    process
        Draws the processing of the cube; None for none.
    """

    sky: SkyRecipe = PAPER
    brightness: float = 1.0
    observe: Callable[[np.random.Generator, Observation], Observation] | None = None
    place: Callable[[Observation, np.ndarray], np.ndarray] | None = None
    blank: Callable[[np.random.Generator, Observation], Coverage] | None = None
    objects: objects.Draw | None = None
    process: Callable[[np.random.Generator, Observation], Processing] | None = None


# the paper's sizes divided by its beam
SCALED = replace(PAPER, in_beams=True, fwhm=(0.25, 1.0))
NOTHING = replace(PAPER, companions=None)


def published(draw: objects.Draw) -> Scenario:
    """A scenario with objects only, observed and processed like published cubes."""
    return Scenario(NOTHING, observe=any_published, place=anywhere, objects=draw, process=processing.as_published)


SCENARIOS = {
    "paper": Scenario(),
    "empty": Scenario(replace(PAPER, companions=None)),
    "line-only": Scenario(replace(PAPER, continuum=False), brightness=1.5),
    "continuum-only": Scenario(replace(PAPER, line=False)),
    "bright": Scenario(brightness=6.0),
    "pairs": Scenario(replace(PAPER, pairs=(2, 3))),
    "beams": Scenario(SCALED, brightness=1.5, observe=other_beam, place=anywhere),
    "arrays": Scenario(SCALED, brightness=1.5, observe=other_array, place=anywhere),
    "rising": Scenario(SCALED, brightness=1.5, observe=primary_beam_corrected, place=anywhere),
    "borders": Scenario(SCALED, brightness=2.0, place=near_blank, blank=blank_borders),
    "discs": Scenario(
        replace(
            SCALED,
            companions=(1, 3),
            fwhm=(1.5, 4.0),
            line_fwhm=(3.0, 6.0),
            line_centre=(20.0, 108.0),
            gradient=(8.0, 20.0),
        ),
        brightness=0.35,
        place=anywhere,
    ),
    "edges": Scenario(SCALED, brightness=5.0, place=edge),
    "phase-errors": Scenario(observe=phase_errors),
    "cleaned": Scenario(observe=cleaned),
    # seeds depend on the position in this list: add new scenarios at the end
    "galaxies": published(objects.galaxies),
    "clouds": published(objects.clouds),
    "absorption": published(objects.absorption),
    "continuum-left": Scenario(
        replace(SCALED, continuum=False), brightness=1.5, place=anywhere, objects=objects.bright_continuum
    ),
    "cleaned-loop": Scenario(SCALED, brightness=3.0, place=anywhere, process=processing.clean_loop),
    "smoothed": Scenario(SCALED, brightness=1.5, place=anywhere, process=processing.common_beam),
    "shared-channels": Scenario(SCALED, brightness=1.5, place=anywhere, process=processing.shared_channels),
    "shared-channels-empty": Scenario(NOTHING, process=processing.shared_channels),
}
