"""Training data of the extent classifier: patches that the search finds in simulated fields, and which are real.

The fields are those of :mod:`~napari_almadet.training.fields`, but more contain galaxies, clouds and bright sources,
and many contain :mod:`~napari_almadet.training.artefacts`.  Some are also searched with inverted sign: emission is
never negative, so that all patches in them are artefacts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as fields_of
from itertools import repeat
from pathlib import Path

import numpy as np
import torch

from napari_almadet.processes import Pool
from napari_almadet.progress import finish
from napari_almadet.search.decisions import by_patch, judge_logits
from napari_almadet.search.features import SIGMA_TO_FWHM, encode_extent
from napari_almadet.search.line_detection import frequency_denoising
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.pipeline import search_window
from napari_almadet.search.raw_detection import Extent, RawDetection
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.smoothed_search import FACTOR
from napari_almadet.settings import Settings
from napari_almadet.threads import cores
from napari_almadet.training.artefacts import spoilt
from napari_almadet.training.data import Shown
from napari_almadet.training.fields import (
    FIELDS,
    SIDE,
    Instrument,
    Mix,
    SimulatedField,
    instrument,
    simulate_field,
    whole_field,
)
from napari_almadet.training.resolved import Ranges

# Contents of the fields
SKIES = {"galaxies": 0.34, "clouds": 0.36, "absorption": 0.08, "continuum": 0.13, "sources": 0.09}
FILLING, EVERY = {"filling": 1.0}, 16  # one observation in so many is of clouds larger than the field
RANGES = Ranges((2.0, 36.0), (2.0, 14.0), (6.0, 500.0), (6.0, 400.0))
SMOOTHED = 0.2  # of the fields
BRIGHT_BESIDE = 0.12  # of the fields of galaxies and clouds have bright sources beside, whose continuum was left in
EMPTY = 0.06
ALL_CHANNELS, FEWEST_CHANNELS = 0.2, 16  # fraction of fields with 128 channels; minimum of the others
SPOILT = 0.4
NEGATED = 0.3  # fraction of fields that are also searched with inverted sign
JITTER = 0.2  # of its scatter: random change of each input value at each use
RADIUS = 0.5  # FWHM of a source, or beams, within which the peak of a patch belongs to it
MEASURED = tuple(f.name for f in fields_of(Extent) if f.name != "place")
COLUMNS = (*MEASURED, "judge_logit", "line_probability", "snr_both")
FACTS = ("true", "large", "kept", "spoilt", "negated", "field", "y", "x")


def patches_of_field(
    rng: np.random.Generator, shared: Instrument, networks: SearchNetworks, number: int, skies: dict[str, float] = SKIES
) -> tuple[list[tuple], list[tuple]]:
    """Rows of :data:`COLUMNS` and of :data:`FACTS` of the patches in one simulated field, and in the inverted field."""
    spoil = spoilt if rng.random() < SPOILT else None
    mix = Mix(skies, ALL_CHANNELS, FEWEST_CHANNELS, spoil, RANGES, SMOOTHED, BRIGHT_BESIDE)
    field = simulate_field(rng, shared, EMPTY, mix)
    measures, facts = [], []
    for negated in (False, True)[: 1 + (rng.random() < NEGATED)]:
        for detection, kept, scale in patches_found(field, networks, negated):
            assert detection.extent is not None
            measures.append(measures_of(detection))
            y, x = in_field(detection.extent.place, scale)
            true = not negated and is_true((y, x), field, FACTOR**scale * field.beam)
            facts.append((true, detection.box is not None, kept, spoil is not None, negated, number, y, x))
    return measures, facts


def in_field(place: tuple[int, int], scale: int) -> tuple[int, int]:
    """The pixel of a field nearest to the middle of a pixel, (y, x), of the same field smoothed ``scale`` times."""
    y, x = (min(SIDE - 1, FACTOR**scale * at + FACTOR**scale // 2) for at in place)
    return y, x


def is_true(place: tuple[int, int], field: SimulatedField, beam: float) -> bool:
    """Whether the brightest pixel of a patch, (y, x), is in a galaxy or a cloud, or near the centre of a source.

    ``beam`` is that of the window in which it was found, smoothed or not.
    """
    y, x = place
    if field.objects[y, x]:
        return True
    far = np.maximum(field.sources[:, 2:4].max(axis=1, initial=0) * SIGMA_TO_FWHM, beam) * RADIUS
    return bool((np.hypot(field.sources[:, 0] - y, field.sources[:, 1] - x) <= far).any())


def measures_of(detection: RawDetection) -> tuple:
    """Row of :data:`COLUMNS` of a patch."""
    extent = tuple(float(getattr(detection.extent, name)) for name in MEASURED)
    return (*extent, detection.judge_logit, detection.features.line_probability, detection.features.snr_both)


def patches_found(
    field: SimulatedField, networks: SearchNetworks, negated: bool
) -> list[tuple[RawDetection, bool, int]]:
    """The patches of a field, as it is and smoothed, small ones by their brightest detection.

    Also returns for each whether Judge keeps any of its detections, and how often its field was smoothed.
    """
    raw = in_noise_units(-field.cube if negated else field.cube, field.beam)
    _, detections, wider, _ = search_window(raw, whole_field(), field.known, networks, negated)
    patches = []
    for scale, found in enumerate([detections, *(smoothed.detections for smoothed in wider)]):
        finish(frequency_denoising(found, Settings(), networks))
        if found:
            judge_logits(found, networks)
        patches += [(best, any(f.judge_logit > np.log(3) for f in group), scale) for best, group in by_patch(found)]
    return patches


def extents_of_observation(folder: Path, which: str, index: int, seed: int, weights: tuple[str, str, str]) -> Path:
    """Write the patches of all fields of one observation to a file; an existing one is kept.

    ``weights`` are those of Source Finder, Line Finder and Judge.
    """
    from napari_almadet.networks.weights import load

    path = file_of(folder, which, index)
    if path.is_file():
        return path
    torch.set_num_threads(1)
    networks = SearchNetworks(load(weights[0])[0], load(weights[1])[0], load(weights[2])[0])
    rng = np.random.default_rng([seed, {"train": 4, "validation": 5}[which], index])
    shared = instrument(rng, paper=index % 5 == 0)
    measures, facts = [], []
    for number in range(FIELDS):
        skies = FILLING if index % EVERY == EVERY // 2 else SKIES
        found = patches_of_field(rng, shared, networks, FIELDS * index + number, skies)
        measures += found[0]
        facts += found[1]
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        measures=np.array(measures, np.float32).reshape(-1, len(COLUMNS)),
        facts=np.array(facts, np.int32).reshape(-1, len(FACTS)),
    )
    partial.rename(path)
    return path


def write_extents(
    folder: Path,
    n: int,
    which: str,
    seed: int,
    weights: tuple[str, str, str],
    jobs: int | None = None,
    progress: Callable | None = None,
) -> None:
    """Write the patches of ``n`` or a few more simulated fields, one file per observation; existing ones are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-n // FIELDS)
    missing = [index for index in range(count) if not file_of(folder, which, index).is_file()]
    if not missing:
        return
    with Pool(min(jobs or cores(), len(missing))) as pool:
        made = pool.map(extents_of_observation, repeat(folder), repeat(which), missing, repeat(seed), repeat(weights))
        for done, _ in enumerate(made, count - len(missing) + 1):
            if progress:
                progress(done, count)


def file_of(folder: Path, which: str, index: int) -> Path:
    """The file of one observation's patches."""
    return folder / f"{which}-{index:05d}.npz"


class Patches(Shown):
    """(measures, (is real, weight)) pairs, of shapes (features,) and (2,), from the files of :func:`write_extents`.

    Small patches with a detection that Judge keeps are excluded, because the classifier is not used for them.  Patches
    have less weight if a field has many of them, because they share an artefact.
    """

    def __init__(self, folder: Path, which: str, seed: int, augment: bool = True) -> None:
        super().__init__(seed, augment)
        files = [np.load(path) for path in sorted(folder.glob(f"{which}-*.npz")) if "partial" not in path.name]
        measures, facts = (np.concatenate([file[name] for file in files]) for name in ("measures", "facts"))
        of = {name: facts[:, i] for i, name in enumerate(FACTS)}
        asked = (of["large"] > 0) | (of["kept"] == 0)
        self.measures = np.stack([encoded(row) for row in measures[asked]])
        self.true = of["true"][asked].astype(np.float32)
        alike = np.stack([of[name][asked] for name in ("field", "negated", "true")], axis=1)
        _, group, count = np.unique(alike, axis=0, return_inverse=True, return_counts=True)
        self.weight = (1 / np.sqrt(count[group.ravel()])).astype(np.float32)  # numpy 2.0 gives a column
        self.scatter = self.measures.std(axis=0)

    def __len__(self) -> int:
        return len(self.true)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        measures = self.measures[index]
        if self.augment:
            change = self._draws(index).normal(size=len(measures)).astype(np.float32)
            measures = measures + JITTER * self.scatter * change
        return torch.from_numpy(measures), torch.tensor([self.true[index], self.weight[index]])


def encoded(row: np.ndarray) -> np.ndarray:
    """The classifier's input of a row of :data:`COLUMNS`."""
    values = dict(zip(COLUMNS, row.tolist(), strict=True))
    extent = Extent(**{name: values[name] for name in MEASURED})
    return np.array(encode_extent(extent, values["judge_logit"], values["line_probability"]), np.float32)
