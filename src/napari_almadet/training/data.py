"""Training data of the paper's networks: simulated stacked images and box spectra.

Both are linear in the sky, so that no cube is needed: a stacked image is the sum over sources of the dirty image times
the sum of the spectrum; the spectrum of a box is the sum over sources of the spectrum times the sum of the dirty image
in the box.  Noise is drawn again each time a field or spectrum is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import torch
from torch.utils.data import Dataset

from napari_almadet.measure.spectra import standardise
from napari_almadet.networks.blobs_finder import FIELD
from napari_almadet.networks.deep_gru import CHANNELS
from napari_almadet.paper.blobs import normalise
from napari_almadet.processes import Pool
from napari_almadet.simulation.observation_files import BRIGHTEST, truth_boxes
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.sky import PAPER, SkyModel
from napari_almadet.threads import cores

# Fraction of training fields and spectra of the default preset with correlated channels.
SHARED_CHANNELS = 0.3

# Two fields in five contain the paper's sources at the paper's positions; the others contain features of real cubes
# that are missing in the paper's set.  Positions are in the paper's 360 pixels; a field is the central part.
PAPER_SIZE = 360
ANYWHERE = replace(PAPER, position=(54.0, 306.0), centre_scatter=126.0)
POPULATION = (
    (0.40, PAPER),
    (0.20, ANYWHERE),
    (0.10, replace(ANYWHERE, companions=(0, 1))),
    (0.12, replace(ANYWHERE, continuum=False, line_fwhm=(3.0, 30.0))),
    (0.08, replace(ANYWHERE, line=False)),
    (0.10, replace(ANYWHERE, companions=None)),
)


@dataclass
class Field:
    """One simulated field of 256 pixels, without noise.

    ``signal`` is the stacked image in units of the stacked noise, ``target`` the map to
    learn, both (256, 256); ``observation`` is the index of its noise.
    ``sources`` is (n, 3): x, y and the SNR in the stacked image.  ``spectra`` and
    ``denoised`` are (boxes, 128), the former in units of the box's noise.
    """

    signal: np.ndarray
    target: np.ndarray
    observation: int
    sources: np.ndarray
    spectra: np.ndarray
    denoised: np.ndarray


def observations(n: int, rng: np.random.Generator) -> list[Observation]:
    """The paper's set-up for the first third, then other beams (3.3 to 10 px), declinations and hour angles."""
    paper = Observation(size=FIELD, n_channels=CHANNELS)
    return [
        paper
        if 3 * i < n
        else replace(
            paper,
            pixel=float(0.82 / rng.uniform(3.3, 10)),
            declination=float(rng.uniform(-75, 25)),
            hour_angle=float(rng.uniform(-2, 2)),
            duration=float(rng.uniform(600, 6000)),
            integration=30.0,
        )
        for i in range(n)
    ]


def sample_model(rng: np.random.Generator) -> SkyModel:
    """A sky drawn from :data:`POPULATION`."""
    shares = np.array([share for share, _ in POPULATION])
    recipe = POPULATION[rng.choice(len(POPULATION), p=shares / shares.sum())][1]
    model = SkyModel.sample(rng, recipe, size=PAPER_SIZE, n_channels=CHANNELS, brightest=rng.uniform(*BRIGHTEST))
    offset = (FIELD - PAPER_SIZE) / 2
    return replace(model, x=model.x + offset, y=model.y + offset)


def simulate_field(rng: np.random.Generator, imager: Imager, observation: int) -> Field:
    """Simulate one field; ``observation`` is the index of the imager's observation."""
    model = sample_model(rng)
    n = len(model)
    if not n:
        blank = np.zeros((FIELD, FIELD), np.float16)
        # Boxes without sources teach the network that noise is not a line.
        nothing = np.zeros((2, CHANNELS), np.float32)
        return Field(blank, blank, observation, np.zeros((0, 3)), nothing, nothing)
    noise = imager.observation.noise
    dirty = imager.dirty(torch.as_tensor(model.images(FIELD))).numpy()
    spectra = model.spectra(imager.observation.frequencies)
    restored = model.images(FIELD, beam=imager.observation.clean_beam)
    strength = spectra.sum(axis=1) / (noise * np.sqrt(CHANNELS))
    signal = np.tensordot(strength, dirty, axes=1)

    boxes = truth_boxes(model, imager)
    boxes = (boxes + rng.integers(-3, 4, boxes.shape)).clip(0, FIELD)
    lines = model.line_profiles(CHANNELS)
    in_box, clean = np.zeros((n, CHANNELS)), np.zeros((n, CHANNELS))
    for i, (y0, y1, x0, x1) in enumerate(boxes):
        y1, x1 = max(y1, y0 + 2), max(x1, x0 + 2)
        box = (slice(None), slice(y0, y1), slice(x0, x1))
        in_box[i] = (
            dirty[box].sum(axis=(1, 2)) @ spectra / (noise * box_noise(y1 - y0, x1 - x0, imager.observation.dirty_beam))
        )
        clean[i] = restored[box].sum(axis=(1, 2)) @ lines
    # The target is the line without continuum; the network need not learn its height.
    clean /= np.maximum(clean.max(axis=1, keepdims=True), 1e-30)
    return Field(
        signal.astype(np.float16),
        restored.max(axis=0).astype(np.float16),
        observation,
        np.stack([model.x, model.y, strength * dirty.max(axis=(1, 2))], axis=1),
        in_box.astype(np.float32),
        clean.astype(np.float32),
    )


def box_noise(height: int, width: int, correlation: np.ndarray) -> float:
    """Standard deviation of the sum over a box of noise with variance 1; ``correlation`` has lag 0 in the middle."""
    half = len(correlation) // 2
    dy, dx = np.arange(-height + 1, height), np.arange(-width + 1, width)
    pairs = (height - np.abs(dy))[:, None] * (width - np.abs(dx))
    return float(np.sqrt(max((correlation[np.ix_(half + dy, half + dx)] * pairs).sum(), 1.0)))


@dataclass
class FieldSet:
    """Simulated fields and their noise: ``noise[observation]`` is (planes, 256, 256), of unit variance."""

    fields: list[Field]
    noise: list[np.ndarray]

    @classmethod
    def simulate(
        cls,
        n: int,
        seed: int,
        n_observations: int = 48,
        planes: int = 32,
        jobs: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> FieldSet:
        """Simulate ``n`` fields under ``n_observations`` different observations, in ``jobs`` processes.

        The same seed gives the same fields, whatever the number of processes.
        ``progress(done, total)`` is called after each observation.
        """
        seeds = np.random.SeedSequence(seed).spawn(n_observations + 1)
        setups = observations(n_observations, np.random.default_rng(seeds.pop()))
        share = [n * (i + 1) // n_observations - n * i // n_observations for i in range(n_observations)]
        fields: list[Field] = []
        noise: list[np.ndarray] = []
        # All images in two arrays: thousands of small arrays would fragment the memory.
        signals, targets = np.empty((2, n, FIELD, FIELD), np.float16)
        jobs = min(jobs or cores(), n_observations)
        with Pool(jobs) as pool:
            made = pool.map(_simulate_observation, setups, share, seeds, range(n_observations), repeat(planes))
            for done, (some, some_noise) in enumerate(made, 1):
                for field in some:
                    k = len(fields)
                    signals[k], targets[k] = field.signal, field.target
                    field.signal, field.target = signals[k], targets[k]
                    fields.append(field)
                noise.append(some_noise)
                if progress:
                    progress(done, n_observations)
        return cls(fields, noise)


def _simulate_observation(
    setup: Observation, n: int, seed: np.random.SeedSequence, index: int, planes: int
) -> tuple[list[Field], np.ndarray]:
    rng = np.random.default_rng(seed)
    imager = Imager(setup, band_ends=False)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    noise = imager.noise(planes, generator).numpy().astype(np.float16)
    return [simulate_field(rng, imager, index) for _ in range(n)], noise


class Shown(Dataset):
    """Random changes of an item at each use; without ``augment``, an item is always the same."""

    def __init__(self, seed: int, augment: bool):
        self.seed, self.augment = seed, augment

    def _draws(self, index: int) -> np.random.Generator:
        # Lightning seeds torch's random numbers in each of its workers
        return np.random.default_rng(int(torch.randint(2**62, ()).item()) if self.augment else [self.seed, index])

    def __len__(self) -> int:
        raise NotImplementedError


class Images(Shown):
    """(dirty image, map) pairs of shape (1, 256, 256), in [0, 1], from a field set.

    Each time a field is used it gets new noise, another brightness, one of the eight symmetries of the square and
    sometimes a blank border.
    """

    def __init__(self, fields: FieldSet, seed: int, augment: bool = True):
        super().__init__(seed, augment)
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields.fields)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = self._draws(index)
        field = self.fields.fields[index]
        planes = self.fields.noise[field.observation]
        # A combination of two planes at a random angle gives practically endless noise with the same statistics.
        first, second = planes[rng.choice(len(planes), 2, replace=False)].astype(np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        # Half of the fields keep the paper's brightness, the others reach an SNR of some 200.
        gain = 1.0 if rng.random() < 0.5 else np.exp(rng.uniform(np.log(0.5), np.log(5)))
        image = field.signal.astype(np.float32) * gain + np.cos(angle) * first + np.sin(angle) * second
        target = field.target.astype(np.float32)
        if rng.random() < 0.25:
            (y0, y1), (x0, x1) = (random_range(rng, FIELD, 48) for _ in range(2))
            inside = np.zeros((FIELD, FIELD), bool)
            inside[y0:y1, x0:x1] = True
            image, target = np.where(inside, image, np.nan), np.where(inside, target, 0)
        if self.augment:
            turns, flip = int(rng.integers(4)), int(rng.integers(2))
            image, target = (np.rot90(a[:, ::-1] if flip else a, turns) for a in (image, target))
        return torch.from_numpy(normalise(image))[None], torch.from_numpy(target.astype(np.float32))[None]


class Spectra(Shown):
    """(standardised dirty spectrum, denoised spectrum) pairs of shape (128,) from a field set.

    Each time a spectrum gets new noise, another brightness, a random direction and sometimes fewer channels than 128.
    """

    def __init__(self, fields: FieldSet, seed: int, augment: bool = True):
        self.dirty = np.concatenate([f.spectra for f in fields.fields])
        self.denoised = np.concatenate([f.denoised for f in fields.fields])
        super().__init__(seed, augment)

    def __len__(self) -> int:
        return len(self.dirty)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = self._draws(index)
        gain = np.exp(rng.uniform(np.log(0.7), np.log(8)))
        dirty = self.dirty[index] * gain + rng.standard_normal(CHANNELS)
        denoised = self.denoised[index]
        if self.augment:
            shift = rng.integers(-8, 9)
            dirty, denoised = np.roll(dirty, shift), np.roll(denoised, shift)
            if rng.integers(2):
                dirty, denoised = dirty[::-1], denoised[::-1]
        if rng.random() < 0.25:
            # The pipeline standardises a shorter spectrum, then pads it with zeros on both sides.
            first, stop = random_range(rng, CHANNELS, 16)
            inside = np.zeros(CHANNELS, bool)
            inside[first:stop] = True
            dirty, denoised = np.where(inside, dirty, np.nan), np.where(inside, denoised, 0)
        return torch.from_numpy(standardise(dirty)), torch.from_numpy(np.ascontiguousarray(denoised, np.float32))


def random_range(rng: np.random.Generator, length: int, least: int) -> tuple[int, int]:
    """A random half-open range of at least ``least`` within ``length``."""
    size = int(rng.integers(least, length + 1))
    first = int(rng.integers(0, length - size + 1))
    return first, first + size
