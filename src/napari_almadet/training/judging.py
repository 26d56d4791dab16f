"""Training data of Judge: candidates that the search detects in simulated fields, and which of them are sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from astropy.stats import gaussian_sigma_to_fwhm
from scipy.optimize import minimize

from napari_almadet.evaluation.matching import match
from napari_almadet.networks.judge import Judge
from napari_almadet.processes import Pool
from napari_almadet.progress import finish
from napari_almadet.search.features import encode
from napari_almadet.search.line_detection import frequency_denoising
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.pipeline import search_window
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.smoothed_search import FACTOR, meet
from napari_almadet.settings import Settings
from napari_almadet.threads import cores
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

RADIUS = 0.4  # of the FWHM of a source's image, within which a candidate is the source
FARTHEST = 1.6  # beams, the same at most: for sources of four beams
RESOLVED = 1.5  # beams, FWHM of the image of a source that may be detected in pieces
# Minimum S/N, stack and line together, of the brightest detection of an object that is the object wherever it lies in
# it: in the few hundred beams of a footprint, noise rarely reaches it.
CERTAIN = 5.0
EMPTY = 0.4  # fraction of empty fields, from which Judge learns faint isolated noise peaks
# Every fifth galaxy is larger than the 14 beams of the fields of Source Finder: its clumps are not sources.
MIX = Mix(ranges=Ranges(galaxy_beams=(1.0, 30.0)))


def judge_field(
    rng: np.random.Generator, shared: Instrument, networks: SearchNetworks
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of one simulated field: their input values (n, 22), and which are sources (n,).

    Of the smoothed fields only those are candidates that the search would list: where no certain source was detected
    before.
    """
    field = simulate_field(rng, shared, EMPTY, MIX)
    raw = in_noise_units(field.cube, field.beam)
    _, detections, wider, _ = search_window(raw, whole_field(), field.known, networks)
    known: list[RawDetection] = []
    numbers, true = [], []
    for scale, found in enumerate([detections, *(smoothed.detections for smoothed in wider)]):
        finish(frequency_denoising(found, Settings(), networks))
        new = [one for one in found if not any(meet(one, other) for other in known)]
        is_source, left_out = labels(field, new, scale)
        numbers.append(encode([one.features for one in new])[~left_out])
        true.append(is_source[~left_out].astype(np.float32))
        certain = np.array([one.features.snr_both >= CERTAIN for one in new], bool) & is_source
        known += [one for one, sure in zip(new, certain, strict=True) if one.box is not None or sure]
    return np.concatenate(numbers), np.concatenate(true)


def labels(field: SimulatedField, detections: Sequence[RawDetection], scale: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are sources, and which are left out of the training: (n,), bool.

    A detection is a source if it is the nearest one to the centre of a source, a galaxy or the leaf of a cloud.  Of one
    galaxy or cloud only the brightest of these is, because a catalogue has one row for each object; all fainter
    detections in its footprint are clumps of it, and none of them is a source.  If none is near its centre, as in a
    galaxy with one bright horn, the brightest one in its footprint is the source, if it is certain.  Left out are
    second detections of a resolved source, large patches, which are classified as a whole, and what is not fainter than
    the rest of an object, but not at its centre and not certain, or brighter than what is.

    ``scale`` says how often the field in which they were detected was smoothed to twice the beam before.
    """
    places = np.array([(detection.y, detection.x) for detection in detections]).reshape(-1, 2)
    brightness = np.array([detection.features.snr_both for detection in detections])
    kernel = np.sqrt(FACTOR ** (2 * scale) - 1) * field.beam  # FWHM of the Gaussian that has made the beam wider
    beam = float(np.hypot(field.beam, kernel))
    fwhm = np.maximum(np.sqrt(field.sources[:, 2] * field.sources[:, 3]) * gaussian_sigma_to_fwhm, field.beam)
    fwhm = np.hypot(fwhm, kernel)
    apart = np.hypot(*(field.sources[:, None, :2] - places).transpose(2, 0, 1))
    near = apart <= np.minimum(RADIUS * fwhm, FARTHEST * beam)[:, None]
    pairs = match(field.sources[:, :2], places, allowed=near, radius=FARTHEST * beam)
    true, owner = np.zeros(len(places), bool), np.zeros(len(places), int)
    true[pairs[:, 1]], owner[pairs[:, 1]] = True, field.owners[pairs[:, 0]]
    y, x = np.rint(places).astype(int).clip(0, SIDE - 1).T
    lies_in = np.where(true, owner, field.objects[y, x])  # a source in front of an object is not a part of it
    patch = np.array([detection.box is not None for detection in detections], bool)
    clump = np.zeros(len(places), bool)
    for number in np.unique(lies_in[lies_in > 0]):
        inside = lies_in == number
        central = inside & true
        fainter = inside & (brightness < brightness[central if central.any() else inside].max())
        clump |= fainter
        if not central.any():
            true |= inside & ~fainter & ~patch & (brightness >= CERTAIN)
    true &= ~clump
    resolved = (fwhm > RESOLVED * beam)[:, None]
    left_out = np.where(lies_in > 0, patch | ~clump, (near & resolved).any(axis=0))
    return true, ~true & left_out


def judge_observation(index: int, which: str, seed: int, weights: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of all fields of an observation; ``weights`` are those of Source Finder and Line Finder."""
    from napari_almadet.networks.weights import load

    networks = SearchNetworks(load(weights[0])[0], load(weights[1])[0], None)
    rng = np.random.default_rng([seed, {"train": 2, "validation": 3}[which], index])
    shared = instrument(rng, paper=index % 5 < 2)
    numbers, true = zip(*(judge_field(rng, shared, networks) for _ in range(FIELDS)), strict=True)
    return np.concatenate(numbers), np.concatenate(true)


def write_candidates(
    path: Path,
    n: int,
    which: str,
    seed: int,
    weights: tuple[str, str],
    jobs: int | None = None,
    progress: Callable | None = None,
) -> Path:
    """Candidates of ``n`` simulated fields or a few more: ``measures`` and ``true`` in an .npz, kept if there."""
    if path.is_file():
        return path
    count = -(-n // FIELDS)
    parts = []
    with Pool(min(jobs or cores(), count)) as pool:
        for done, part in enumerate(
            pool.map(judge_observation, range(count), repeat(which), repeat(seed), repeat(weights)), 1
        ):
            parts.append(part)
            if progress:
                progress(done, count)
    partial = path.with_name(path.stem + ".partial.npz")
    np.savez(
        partial,
        measures=np.concatenate([part[0] for part in parts]),
        true=np.concatenate([part[1] for part in parts]),
    )
    partial.rename(path)
    return path


class Candidates(Shown):
    """(measures, is a source) pairs, of shapes (22,) and (), from the file that :func:`write_candidates` wrote."""

    def __init__(self, path: Path, augment: bool):
        super().__init__(0, augment)
        with np.load(path) as file:
            self.measures, self.true = file["measures"], file["true"]
        self.weight = np.ones(len(self.true), np.float32)

    def __len__(self) -> int:
        return len(self.true)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.measures[index]), torch.tensor(self.true[index])


class Weighted(Protocol):
    """Input values (n, features), labels (n,) and weights (n,)."""

    measures: np.ndarray
    true: np.ndarray
    weight: np.ndarray


def calibrate(network: Judge, candidates: Weighted) -> None:
    """Set slope and offset of the logits such that probabilities are calibrated (Platt 1999)."""
    network.eval()
    with torch.no_grad():
        logit = network(torch.from_numpy(candidates.measures)).double().numpy()

    def surprise(line: np.ndarray) -> float:
        answer = line[0] * logit + line[1]
        losses = np.logaddexp(0, np.where(candidates.true > 0, -answer, answer))
        return float(np.average(losses, weights=candidates.weight))

    slope, shift = minimize(surprise, (1.0, 0.0), method="Nelder-Mead").x
    network.slope.fill_(float(slope))
    network.shift.fill_(float(shift))
