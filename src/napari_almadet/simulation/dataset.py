"""Simulated observations with their truth: one cube, the two sample cubes, and whole sets on disk.

The truth is defined in ``docs/validation.md``: the box of a source is where its own model, convolved with the clean
beam, exceeds a tenth of its peak; its channels are the centre of the line -+ FWHM.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from astropy.wcs import WCS
from radio_beam import Beam

from napari_almadet.cube.cube import Cube
from napari_almadet.processes import Pool
from napari_almadet.simulation.objects import Ground, clouds, galaxies, gaussians
from napari_almadet.simulation.observation_files import (
    SimulatedCube,
    draw_sky,
    full_coverage,
    header,
    sky_of,
    truth_table,
    write_cube,
)
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.processing import Processing, processed
from napari_almadet.simulation.scenarios import (
    SCENARIOS,
    Coverage,
    Scenario,
    any_published,
    other_array,
    primary_beam_corrected,
)
from napari_almadet.simulation.sky import SkyModel
from napari_almadet.simulation.truth import object_table, parts_of, view_of
from napari_almadet.threads import cores

SAMPLE_SEED = 45  # a field of ordinary sources: SNR 10 to 27 in the stacked image
# The three sets use disjoint seeds.
SETS = {"train": 0, "validation": 1, "test": 2}
OPTIONS = {
    "n_channels": "channels",
    "channel_width": "channel width",
    "duration": "minutes",
}  # of an observation, in words


def simulate_cube(
    seed: int,
    scenario: str = "paper",
    observation: Observation | None = None,
    imager: Imager | None = None,
    *,
    shapes: dict | None = None,
    own_instrument: bool = False,
) -> SimulatedCube:
    """Draw a sky from a scenario and observe it; the same seed gives the same cube on the same device.

    Parameters
    ----------
    seed
        Seed of all random numbers.
    scenario
        A key of :data:`~napari_almadet.simulation.scenarios.SCENARIOS`.
    observation, imager
        The observation; default: the paper's set-up.  Some scenarios draw their own observation, with the size and the
        channels of this one.
    shapes
        Other values of :class:`~napari_almadet.simulation.sky.SkyRecipe` than the scenario's, and ``brightness``, a
        factor; for galaxies and clouds ``beams`` and ``snr``, ranges of sizes in beams and of the peak S/N.
    own_instrument
        Use the given observation also in scenarios that would draw an array.

    Raises
    ------
    ValueError
        If there is no such scenario, or it does not allow the change.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"no scenario {scenario!r}; there are: {', '.join(SCENARIOS)}")
    kind = changed(scenario, shapes or {}, own_instrument)
    asked = imager.observation if imager else observation or Observation()
    # separate streams: the sky of a seed does not depend on the random numbers that the observation uses
    observation = kind.observe(np.random.default_rng([seed, 1]), asked) if kind.observe else asked
    if imager is None or observation != asked:
        imager = Imager(observation, device=imager.device if imager else "cpu")
    coverage = kind.blank(np.random.default_rng([seed, 2]), observation) if kind.blank else full_coverage(observation)
    where = kind.place(observation, coverage.pixels) if kind.place else None
    model = draw_sky(np.random.default_rng(seed), kind, observation, where)
    if kind.objects or kind.process:
        return _processed(seed, scenario, imager, model, coverage, where, kind, shapes)
    dirty = imager.cube(model, torch.Generator().manual_seed(seed)).cpu().numpy()
    dirty[~coverage.channels] = np.nan
    dirty[:, ~coverage.pixels] = np.nan
    truth = truth_table(model, imager, coverage)
    return SimulatedCube(dirty, model, truth, observation, scenario, seed, shapes)


def changed(scenario: str, shapes: dict, own_instrument: bool = False) -> Scenario:
    """A scenario with other sources, or with a fixed array; see :func:`simulate_cube`.

    Raises
    ------
    ValueError
        If it has no Gaussians whose shapes could change, or if its purpose is to vary the array.
    """
    kind = SCENARIOS[scenario]
    if own_instrument and kind.observe in (other_array, primary_beam_corrected):
        raise ValueError(
            f"the scenario {scenario} draws random arrays; choose another scenario for your own instrument"
        )
    if own_instrument and kind.observe is any_published:
        kind = replace(kind, observe=None)
    if not shapes:
        return kind
    of_objects = shapes.keys() & {"beams", "snr"}
    if kind.objects in (galaxies, clouds):
        if shapes.keys() - of_objects:
            raise ValueError(f"the scenario {scenario} has no Gaussian sources; use --beams and --snr")
        return kind
    if of_objects:
        raise ValueError(f"--beams and --snr apply to the scenarios galaxies and clouds, not to {scenario}")
    if kind.sky.companions is None:
        raise ValueError(f"the scenario {scenario} has no Gaussian sources whose shapes could be set")
    recipe = {key: value for key, value in shapes.items() if key != "brightness"}
    return replace(kind, sky=replace(kind.sky, **recipe), brightness=kind.brightness * shapes.get("brightness", 1.0))


def _processed(
    seed: int,
    scenario: str,
    imager: Imager,
    model: SkyModel,
    coverage: Coverage,
    where: np.ndarray | None,
    kind: Scenario,
    shapes: dict | None,
) -> SimulatedCube:
    """A cube of a scenario with objects other than Gaussians, or with processing after imaging."""
    observation = imager.observation
    done = kind.process(np.random.default_rng([seed, 3]), observation) if kind.process else Processing()
    mixing = done.mixing.of_signal if done.mixing else None
    places = np.ones((observation.size, observation.size)) if where is None else where
    objects = gaussians(model, observation, mixing)
    if kind.objects:
        chosen = {key: tuple(shapes[key]) for key in ("beams", "snr") if shapes and key in shapes}
        objects += kind.objects(np.random.default_rng([seed, 4]), Ground(observation, places, mixing, **chosen))
    dirty = processed(imager, sky_of(objects, observation), done, torch.Generator().manual_seed(seed))
    dirty[~coverage.channels] = np.nan
    dirty[:, ~coverage.pixels] = np.nan
    view = view_of(observation, done, coverage.channels, coverage.pixels & np.isfinite(dirty).any(axis=0))
    parts = parts_of(objects, view)
    truth = object_table(parts, view)
    return SimulatedCube(dirty, model, truth, observation, scenario, seed, shapes, objects, parts, done)


def sample(kind: str = "sources", seed: int = SAMPLE_SEED) -> SimulatedCube:
    """One of the two sample cubes, simulated on demand: ``"sources"`` (the paper's) or ``"noise"`` (an empty field)."""
    return simulate_cube(seed, {"sources": "paper", "noise": "empty"}[kind])


def sample_cube(kind: str = "sources", seed: int = SAMPLE_SEED) -> Cube:
    """The cube of a :func:`sample`."""
    return cube_of(sample(kind, seed), name=f"simulated {kind}")


def cube_of(simulated: SimulatedCube, name: str) -> Cube:
    """A simulated cube as a `Cube`."""
    cards = header(simulated.observation, "Jy/beam", simulated.beam)
    return Cube(
        simulated.dirty,
        wcs=WCS(cards),
        unit=u.Jy / u.beam,
        beams=Beam.from_fits_header(cards),
        header=cards,
        name=name,
        notes=(f"Simulated from seed {simulated.seed}.",),
    )


def seed_of(which: str, index: int, scenario: str, seed: int) -> int:
    """Seed of one cube of a set: different for each set, scenario and cube."""
    sequence = np.random.SeedSequence([seed, SETS[which], list(SCENARIOS).index(scenario), index])
    return int(sequence.generate_state(1, np.uint32)[0])


def write_set(
    folder: Path,
    n: int,
    *,
    which: str = "train",
    scenario: str = "paper",
    seed: int = 0,
    observation: Observation | None = None,
    sky: bool = True,
    mosaic: int = 1,
    jobs: int | None = None,
    shapes: dict | None = None,
    own_instrument: bool = False,
) -> Iterator[Path]:
    """Simulate ``n`` cubes into ``folder/<scenario>-<number>``, in parallel, and yield each as it is done.

    With ``mosaic`` > 1 each is a mosaic of that many fields on a side, without a sky model cube.  Existing cubes are
    kept, so that an interrupted run can be resumed; if they were made with other options, `ValueError` is raised.
    ``shapes`` and ``own_instrument`` are those of :func:`simulate_cube`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    observation = observation or Observation()
    targets = {folder / f"{scenario}-{i:05d}": seed_of(which, i, scenario, seed) for i in range(n)}
    as_given = changed(scenario, {}, own_instrument).observe is None  # or else the scenario draws another for each cube
    there = [t for t in targets if t.is_dir()]
    for target in there:
        _check_options(target, targets[target], observation, mosaic, shapes, as_given)
    for target in there:
        yield target
        del targets[target]
    if not targets:
        return
    options = (scenario, observation, sky, mosaic, shapes, own_instrument)
    jobs = min(jobs or cores(), len(targets))
    if jobs == 1:
        for target, s in targets.items():
            yield _simulate_one(target, s, *options)
        return
    with Pool(jobs) as pool:
        futures = [pool.submit(_simulate_one, target, s, *options) for target, s in targets.items()]
        for future in as_completed(futures):
            yield future.result()


def _check_options(
    target: Path, seed: int, observation: Observation, mosaic: int, shapes: dict | None, as_given: bool
) -> None:
    """Raise if the cubes in a folder were made with other options.

    Parameters
    ----------
    as_given
        Whether cubes are observed with ``observation`` itself; drawn observations have only its size and channels.

    Raises
    ------
    ValueError
        If an existing cube is not the one that would be made.
    """
    compared = [field for field in asdict(observation) if field != "mosaic"] if as_given else ["size", "n_channels"]
    try:
        about = json.loads((target / "simulation.json").read_text(encoding="utf-8"))
        observed = asdict(Observation()) | dict(about["observation"])
        there = {"seed": about["seed"]} | {name: observed[name] for name in compared}
        there |= {"mosaic": about.get("mosaic", 1), "shapes": about.get("shapes") or {}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{target} is not a simulated cube: choose another folder, or remove it") from None
    asked = json.loads(json.dumps(asdict(observation))) | {"seed": seed, "mosaic": mosaic}
    asked |= {"shapes": json.loads(json.dumps(shapes or {}))}
    if mosaic > 1:  # its size is that of all fields together
        there["size"] = asked["size"]
    if differ := [OPTIONS.get(name, name) for name, value in there.items() if asked[name] != value]:
        raise ValueError(f"{target} was made with other options ({', '.join(differ)}): choose another folder")


@lru_cache(maxsize=1)
def _imager(observation: Observation) -> Imager:
    return Imager(observation)


def _simulate_one(
    folder: Path,
    seed: int,
    scenario: str,
    observation: Observation,
    sky: bool,
    mosaic: int,
    shapes: dict | None,
    own_instrument: bool,
) -> Path:
    if mosaic > 1:
        from napari_almadet.simulation.mosaic import write_mosaic

        if shapes:
            raise ValueError("shapes of sources can be set only for single fields, not for mosaics")
        return write_mosaic(folder, seed, mosaic, scenario, observation)
    # a scenario that draws its observations would not use this one
    imager = _imager(observation) if SCENARIOS[scenario].observe is None else None
    simulated = simulate_cube(seed, scenario, observation, imager, shapes=shapes, own_instrument=own_instrument)
    return write_cube(simulated, folder, sky=sky)
