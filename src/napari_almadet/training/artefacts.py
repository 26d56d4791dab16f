"""Artefacts of real cubes, added to training fields of the extent classifier: extended signals that are not emission.

Each function takes a cube (channels, SIDE, SIDE) in units of its noise and the instrument of the field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

if TYPE_CHECKING:
    from napari_almadet.training.fields import Instrument

Artefact = Callable[[np.random.Generator, torch.Tensor, "Instrument"], torch.Tensor]
FLAT = 0.4  # fraction of artefacts that are in all channels


def some_channels(rng: np.random.Generator, n: int) -> np.ndarray:
    """Strength of an artefact in each channel, (n,): constant, sloping, in a range, or in one to three channels."""
    kind = rng.random()
    if kind < FLAT:
        return 1 + rng.normal(0, 0.3) * np.linspace(-1, 1, n)
    first = int(rng.integers(0, n))
    count = int(rng.integers(1, 4)) if kind < FLAT + 0.2 else int(rng.integers(3, max(4, n // 2)))
    made = np.zeros(n)
    made[first : first + count] = 1
    return ndimage.gaussian_filter1d(made, rng.uniform(0, count / 4), mode="nearest") if rng.random() < 0.5 else made


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel of a field."""
    y, x = np.indices((side, side), dtype=np.float32)
    return y, x


def level(rng: np.random.Generator, spectrum: np.ndarray, low: float = 3.0, high: float = 40.0) -> float:
    """Amplitude in a channel for which an artefact with this spectrum has an S/N drawn from a range."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))) / max(np.sqrt((spectrum**2).sum()), 1e-9))


def product(spectrum: np.ndarray, image: np.ndarray) -> torch.Tensor:
    """A cube: an image times a spectrum."""
    return torch.from_numpy((spectrum[:, None, None] * image).astype(np.float32))


def stripes(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """Waves, straight or bent, over the whole field or fading: bad baselines, interference."""
    for _ in range(int(rng.integers(1, 4))):
        y, x = grid(cube.shape[-1])
        angle, period = rng.uniform(0, np.pi), instrument.beam * np.exp(rng.uniform(np.log(1.5), np.log(16)))
        along, across = (np.cos(angle) * x + np.sin(angle) * y), (np.cos(angle) * y - np.sin(angle) * x)
        bent = rng.normal(0, 0.004) * (across - across.mean()) ** 2 if rng.random() < 0.4 else 0
        wave = np.sin(2 * np.pi * (along + bent) / period + rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.4:
            cy, cx = rng.uniform(0, cube.shape[-1], 2)
            wave = wave * np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / rng.uniform(12, 50) ** 2)
        spectrum = some_channels(rng, len(cube))
        cube = cube + product(spectrum * level(rng, spectrum), wave)
    return cube


def residues(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """Badly subtracted continuum with sidelobes: of both signs, or with a wave or curve along the band."""
    from napari_almadet.training.fields import covariance, phase_errors, source_image

    n, side = len(cube), cube.shape[-1]
    band = np.linspace(-1, 1, n)
    transfer = phase_errors(rng, instrument.response) if rng.random() < 0.5 else instrument.response
    for _ in range(int(rng.integers(1, 5))):
        kind = rng.integers(3)
        if kind == 0:
            spectrum = np.sin(np.pi * rng.uniform(0.7, 6) * band + rng.uniform(0, 2 * np.pi))
        elif kind == 1:
            spectrum = np.polynomial.legendre.legval(band, [rng.normal(0, 0.3), *rng.normal(0, 1, 3)])
        else:
            spectrum = np.full(n, -1.0)
        size = instrument.beam * (rng.uniform(0.8, 4) if rng.random() < 0.5 else rng.uniform(0, 0.8))
        image = source_image(transfer, rng.uniform(0, side - 1, 2), covariance(size, size, 0)).numpy()
        cube = cube + product(spectrum * level(rng, spectrum, 6, 200), image)
    return cube


def wrong_sidelobes(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """Residuals of a bright source in or outside the field, subtracted with a beam with phase errors."""
    from napari_almadet.training.fields import covariance, phase_errors, source_image

    side = cube.shape[-1]
    left = phase_errors(rng, instrument.response) - instrument.response
    spectrum = some_channels(rng, len(cube))
    place = rng.uniform(0, side - 1, 2) if rng.random() < 0.5 else rng.uniform(-0.4, 1.4, 2) * side
    v, u = torch.fft.fftfreq(2 * side)[:, None], torch.fft.rfftfreq(2 * side)
    shift = torch.exp(-2j * np.pi * (v * float(place[0]) + u * float(place[1])))
    image = torch.fft.irfft2(left * shift, s=(2 * side, 2 * side))[:side, :side].numpy()
    image = image / max(np.abs(image).max(), 1e-9)
    if rng.random() < 0.5:  # with the source itself
        size = instrument.beam * rng.uniform(0, 0.8)
        source = source_image(instrument.response, place, covariance(size, size, 0)).numpy()
        image = image + source * rng.uniform(-2, 0)
    return cube + product(spectrum * level(rng, spectrum, 5, 60), image)


def bowls(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """Large-scale bowls and their rims, due to missing short baselines, in some or all channels."""
    y, x = grid(cube.shape[-1])
    for _ in range(int(rng.integers(1, 4))):
        width = instrument.beam * rng.uniform(3, 14)
        radius = np.hypot(*(c - rng.uniform(0, cube.shape[-1]) for c in (y, x))) / width
        image = -np.exp(-0.5 * radius**2) + rng.uniform(0, 0.6) * np.exp(-0.5 * (radius / 1.6) ** 2)
        spectrum = some_channels(rng, len(cube))
        cube = cube + product(spectrum * level(rng, spectrum, 4, 40), image)
    return cube


def patchy(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """Large-scale noise of both signs, different in each channel: interference, badly combined single-dish maps."""
    n, side = len(cube), cube.shape[-1]
    count = int(rng.integers(1, 6))
    for _ in range(count):
        scale = instrument.beam * rng.uniform(0.8, 6)
        image = ndimage.gaussian_filter(rng.normal(size=(side, side)), scale, mode="wrap")
        spectrum = some_channels(rng, n)
        cube = cube + product(spectrum * level(rng, spectrum, 2, 12), image / image.std())
    return cube


def loud_channels(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """One to four channels with several times the noise, or with an offset."""
    cube = cube.clone()
    for channel in rng.integers(0, len(cube), int(rng.integers(1, 5))):
        if rng.random() < 0.5:
            cube[channel] *= float(rng.uniform(2, 10))
        else:
            cube[channel] += float(rng.uniform(2, 8) * rng.choice([-1, 1]))
    return cube


def loud_edge(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """Noise that rises steeply towards the edge of the data, as in a mosaic, in steps or smoothly."""
    side = cube.shape[-1]
    y, x = grid(side)
    radius = np.hypot(y - side / 2 - rng.normal(0, 4), x - side / 2 - rng.normal(0, 4)) / (
        side * rng.uniform(0.35, 0.65)
    )
    steep = rng.uniform(2, 10)
    noise = np.exp(np.minimum(np.log(rng.uniform(3, 12)) * radius**steep, 3))
    seen = cube * torch.from_numpy(noise.astype(np.float32))
    if rng.random() < 0.7:
        seen[:, torch.from_numpy(radius > rng.uniform(1, 1.2))] = torch.nan
    return seen


ARTEFACTS: dict[Artefact, float] = {
    stripes: 0.18,
    residues: 0.2,
    wrong_sidelobes: 0.28,
    bowls: 0.1,
    patchy: 0.14,
    loud_channels: 0.05,
    loud_edge: 0.05,
}


def spoilt(rng: np.random.Generator, cube: torch.Tensor, instrument: Instrument) -> torch.Tensor:
    """A cube with one kind of artefact, in one of four cases with two."""
    kinds = list(ARTEFACTS)
    for i in rng.choice(len(kinds), 1 + (rng.random() < 0.25), replace=False, p=list(ARTEFACTS.values())):
        cube = kinds[i](rng, cube, instrument)
    return cube
