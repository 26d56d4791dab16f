"""Resolved objects in training fields of the default preset: galaxies and clouds, and their truth.

A galaxy is one source at its centre, with its whole extent.  A cloud has no visible centre: its sources are its leaves,
the peaks above their surroundings (as in dendrograms, Rosolowsky et al. 2008, ApJ 679, 1338); the rest of it has no
weight in the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from astropy.stats import gaussian_sigma_to_fwhm
from scipy import ndimage
from skimage.morphology import reconstruction
from skimage.segmentation import watershed

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.clouds import cloud_emission, draw_cloud
from napari_almadet.simulation.emission import MASK_LEVEL, Emission, line_widths
from napari_almadet.simulation.galaxies import draw_galaxy, galaxy_emission

GALAXY_BEAMS = (1.0, 14.0)  # diameters; the field is some 24 beams wide
CLOUD_BEAMS = (1.5, 12.0)  # FWHM of envelopes
GALAXY_SNR = (4.0, 120.0)  # of the brightest spectrum
CLOUD_SNR = (4.0, 100.0)
LEAF = 0.3  # minimum height of a leaf above its saddle in asinh(SNR / 2): 1.4 at SNR 4, a third of the SNR above 10
FAINTEST_LEAF = 3.5  # SNR
FAINTEST = 4.0  # minimum SNR of an object whose pieces count as sources
HALF_POWER = 1 - np.log(2)  # variance of a 2-D Gaussian within its half-power contour, relative to its total variance


@dataclass(frozen=True, eq=False)
class Resolved:
    """One object, convolved with the clean beam, in units of the noise of a channel; ``centre`` is (y, x).

    A ``smooth`` one is seen only if short spacings are in the data.
    """

    emission: Emission
    centre: tuple[float, float]
    smooth: bool = False


@dataclass(frozen=True, eq=False)
class ResolvedTruth:
    """The truth of an object, convolved with the beam.

    ``rows`` are (y, x, sigma_y, sigma_x, snr_stack, snr_line, channel, width); ``footprint`` are its pixels in any
    channel, and ``between`` those without weight in the loss, both (side, side).
    """

    rows: np.ndarray
    footprint: np.ndarray
    between: np.ndarray


@dataclass(frozen=True)
class Ranges:
    """Ranges of objects: diameters and envelopes in beams, SNRs of the brightest spectrum."""

    galaxy_beams: tuple[float, float] = GALAXY_BEAMS
    cloud_beams: tuple[float, float] = CLOUD_BEAMS
    galaxy_snr: tuple[float, float] = GALAXY_SNR
    cloud_snr: tuple[float, float] = CLOUD_SNR


USUAL = Ranges()


def draw_galaxies(
    rng: np.random.Generator, beam: CleanBeam, side: int, n_channels: int, ranges: Ranges = USUAL
) -> list[Resolved]:
    """One to three galaxies; in one field of three the second (nearly) touches the first."""
    objects: list[Resolved] = []
    place, diameter, z = np.zeros(2), 0.0, 0.0
    for number in range(int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))):
        before, last = place, diameter
        diameter = beam.fwhm * float(np.exp(rng.uniform(*np.log(ranges.galaxy_beams))))
        width = float(np.exp(rng.uniform(np.log(4), np.log(0.65 * n_channels))))
        place = rng.uniform(0.05, 0.95, 2) * side
        z = rng.uniform(0.05, 0.95) * n_channels if number == 0 or rng.random() < 0.6 else z + rng.normal(0, width / 2)
        if number == 1 and rng.random() < 0.33:
            angle, distance = rng.uniform(0, 2 * np.pi), (diameter + last) / 2 * rng.uniform(0.4, 1.1)
            place = before + distance * np.array([np.cos(angle), np.sin(angle)])
            if (place < 0).any() or (place > side - 1).any():
                continue
        galaxy = draw_galaxy(rng, (float(place[1]), float(place[0]), float(z)), diameter, width)
        emission = galaxy_emission(galaxy).within((n_channels, 2 * side, 2 * side))
        if emission.cube.size and emission.cube.any():
            made = brightened(rng, emission, beam, side, n_channels, ranges.galaxy_snr)
            if rng.random() < 0.3:
                made = with_continuum(made, n_channels, float(np.exp(rng.uniform(np.log(0.02), np.log(1)))))
            objects.append(Resolved(made, (float(place[0]), float(place[1]))))
    return objects


def draw_clouds(
    rng: np.random.Generator, beam: CleanBeam, side: int, n_channels: int, ranges: Ranges = USUAL
) -> list[Resolved]:
    """One or two clouds; a third fill the field, a quarter have several lines."""
    objects = []
    for _ in range(1 + (rng.random() < 0.3)):
        size = None
        if rng.random() < 0.65:
            along = beam.fwhm * np.exp(rng.uniform(*np.log(ranges.cloud_beams)))
            one, other = rng.permutation([along, max(along * rng.uniform(0.3, 1), 1.5 * beam.fwhm)])
            size = (float(one), float(other))
        place = (*rng.uniform(0.05, 0.95, 2) * side, rng.uniform(0.1, 0.9) * n_channels)
        several = rng.random() < 0.25
        if several:
            place = (*place[:2], rng.uniform(0.35, 0.65) * n_channels)
        cloud = draw_cloud(rng, (side, side), n_channels, place, size, several_lines=several)
        emission = cloud_emission(cloud, n_channels)
        if emission.cube.any():
            made = brightened(rng, emission, beam, side, n_channels, ranges.cloud_snr)
            objects.append(Resolved(made, (cloud.y, cloud.x)))
    return objects


def draw_filling(
    rng: np.random.Generator, beam: CleanBeam, side: int, n_channels: int, ranges: Ranges = USUAL
) -> list[Resolved]:
    """A smooth cloud larger than the field, a line of 2 channels to a quarter of the band."""
    place = (*rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.1, 0.9) * n_channels)
    cloud = replace(
        draw_cloud(rng, (side, side), n_channels, place, None),
        contrast=float(rng.uniform(0.1, 0.6)),
        floor=0.0,
        dispersion=float(np.exp(rng.uniform(0, np.log(0.1 * n_channels)))),
    )
    emission = cloud_emission(cloud, n_channels)
    if not emission.cube.any():
        return []
    return [Resolved(brightened(rng, emission, beam, side, n_channels, ranges.cloud_snr), (cloud.y, cloud.x), True)]


def brightened(
    rng: np.random.Generator, emission: Emission, beam: CleanBeam, side: int, n_channels: int, snr: tuple[float, float]
) -> Emission:
    """An emission, scaled so that the SNR of its brightest spectrum is drawn from a range."""
    seen = emission.seen_with(beam).within((n_channels, side, side))
    best = float(np.sqrt((seen.cube**2).sum(axis=0)).max(initial=1e-30))
    return emission.scaled(float(np.exp(rng.uniform(*np.log(snr)))) / max(best, 1e-30))


def with_continuum(emission: Emission, n_channels: int, level: float) -> Emission:
    """An emission with a continuum added in all channels: the image of its line, times ``level``."""
    image = emission.cube.mean(axis=0) * np.float32(level)
    cube = np.repeat(image[None], n_channels, axis=0)
    first = emission.origin[0]
    cube[first : first + len(emission.cube)] += emission.cube
    return replace(emission, cube=cube, origin=(0, *emission.origin[1:]))


def dirty(emission: Emission, transfer: torch.Tensor, side: int, n_channels: int) -> torch.Tensor:
    """Its dirty image: (n_channels, side, side); ``transfer`` is that of its beam on a grid of 2 ``side``."""
    field = np.zeros((n_channels, side, side), np.float32)
    emission.add_to(field)
    seen = torch.zeros(n_channels, side, side)
    filled = np.flatnonzero(field.any(axis=(1, 2)))
    wide = (2 * side, 2 * side)
    for some in np.array_split(filled, max(1, len(filled) // 16)) if len(filled) else ():
        planes = torch.fft.rfft2(torch.from_numpy(field[some]), s=wide) * transfer
        seen[torch.from_numpy(some)] = torch.fft.irfft2(planes, s=wide)[:, :side, :side]
    return seen


def truth_of(source: Resolved, beam: CleanBeam, noise: float, imaged: np.ndarray) -> ResolvedTruth | None:
    """The truth of an object with a given beam and noise; None if it is invisible.

    Parameters
    ----------
    imaged
        The dirty image of the object, (channels, side, side) in units of the noise.  In each voxel the object is
        limited to this, and to the model convolved with the clean beam: an array without short baselines does not
        measure the largest scales, and the dirty image has sidelobes.
    """
    n_channels = len(imaged)
    whole = np.zeros_like(imaged)
    source.emission.seen_with(beam).add_to(whole)
    whole = np.clip(imaged, 0, whole / np.float32(noise))
    if whole.max(initial=0) <= 0:
        return None
    snr = np.sqrt((whole**2).sum(axis=0))
    stack = whole.sum(axis=0) / np.sqrt(n_channels)
    footprint = (whole > MASK_LEVEL).any(axis=0) & (snr.max() >= FAINTEST)
    if source.emission.kind == "cloud":
        rows, between = leaves(snr, stack, whole, beam, footprint)
    else:
        sigma = extent(stack.clip(min=0), np.ones_like(footprint), beam, 1.0)
        rows = np.array([[*source.centre, *sigma, stack.max(), snr.max(), *line_of(whole.sum(axis=(1, 2)))]])
        between = np.zeros_like(footprint)
    return ResolvedTruth(rows, footprint, between)


def line_of(spectrum: np.ndarray) -> tuple[float, float]:
    """Mean channel and w50 of a spectrum's line, above the faintest of its channels, which is continuum."""
    line = spectrum - spectrum.min()
    total = line.sum()
    if total <= 0:
        return 0.0, 0.0
    return float((line * np.arange(len(line))).sum() / total), line_widths(line)[1]


def extent(image: np.ndarray, where: np.ndarray, beam: CleanBeam, share: float) -> tuple[float, float]:
    """Standard deviations along y and x of an image within a mask, at least those of the beam.

    ``share`` is the fraction of the variance that remains within the mask.
    """
    y, x = np.nonzero(where)
    weight = image[y, x]
    total = max(weight.sum(), 1e-30)
    least = beam.fwhm / gaussian_sigma_to_fwhm
    sigmas = []
    for place in (y, x):
        middle = (weight * place).sum() / total
        variance = (weight * (place - middle) ** 2).sum() / total / share
        sigmas.append(float(max(np.sqrt(variance), 0.8 * least)))
    return sigmas[0], sigmas[1]


def leaves(
    snr: np.ndarray, stack: np.ndarray, whole: np.ndarray, beam: CleanBeam, footprint: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a cloud's leaves, and its pixels without weight in the loss: all except around the peaks."""
    height = np.arcsinh(snr / 2)
    domes = height - reconstruction(height - LEAF, height)
    tops, n = ndimage.label(domes > LEAF - 1e-4)
    found = ndimage.maximum_position(height, tops, np.arange(1, n + 1)) if n else []
    places = [(int(y), int(x)) for y, x in found if snr[y, x] >= FAINTEST_LEAF]
    seeds = np.zeros(snr.shape, int)
    for label, place in enumerate(places, 1):
        seeds[place] = label
    basins = watershed(-height, seeds, mask=snr > 0.1) if places else seeds
    rows = []
    for label, (y, x) in enumerate(places, 1):
        half = ndimage.label((basins == label) & (snr > 0.5 * snr[y, x]))[0]
        part = half == half[y, x]
        sigma = extent(snr, part, beam, HALF_POWER)
        rows.append([y, x, *sigma, stack[y, x], snr[y, x], *line_of(whole[:, y, x])])
    between = footprint.copy()
    yy, xx = np.indices(snr.shape)
    for y, x in places:
        between &= (yy - y) ** 2 + (xx - x) ** 2 > 2**2
    return np.array(rows, float).reshape(-1, 8), between
