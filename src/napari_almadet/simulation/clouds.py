"""Turbulent clouds: lognormal density and velocities with power-law spectra, in one or several lines.

A cloud is a stack of slabs along the line of sight.  Density and velocity are Gaussian random fields in three
dimensions with a power spectrum k^-beta (fractional Brownian motion, Stutzki et al. 1998, A&A 336, 697); the density
is the exponential of such a field, as in supersonic turbulence (Vazquez-Semadeni 1994, ApJ 423, 681).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import fft

from napari_almadet.constants import FOUR_LN2
from napari_almadet.simulation.emission import Emission, broadened

SLABS = 12  # along the line of sight
# NH3 (1,1): velocities of its five groups in km/s, and their fractions of the total if it is optically thin
# (Ho & Townes 1983, ARA&A 21, 239, fig. 3 and table 1; LTE intensities 0.11, 0.14, 0.50, 0.14, 0.11).
NH3_11 = ((-19.5, -7.5, 0.0, 7.5, 19.5), (0.11, 0.14, 0.50, 0.14, 0.11))


@dataclass(frozen=True)
class Cloud:
    """One cloud: lengths in pixels, velocities in channels.

    Attributes
    ----------
    x, y, z
        Centre of its envelope in 0-based pixels, and its mean velocity as a channel.
    size
        FWHM of its envelope along x and y; None if it fills the image.
    shape
        Rows and columns of the image for which it is made.
    density_index, velocity_index
        Indices of the three-dimensional power spectra: 11/3 for Kolmogorov, 4 for Burgers turbulence.
    contrast
        Standard deviation of the logarithm of the density.
    dispersion, velocity_spread
        Standard deviation of velocities along a line of sight, and of the mean velocities of lines of sight.
    gradient
        Channels by which the velocity changes across 100 pixels, along x and along y.
    lines
        Offsets in channels and relative strengths of its lines.
    floor
        Quantile of the density below which there is no emission, so that clouds have edges.
    seed
        Of the random fields.
    """

    x: float
    y: float
    z: float
    size: tuple[float, float] | None
    shape: tuple[int, int]
    density_index: float = 11 / 3
    velocity_index: float = 4.0
    contrast: float = 1.2
    dispersion: float = 1.5
    velocity_spread: float = 3.0
    gradient: tuple[float, float] = (0.0, 0.0)
    lines: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (1.0,))
    floor: float = 0.3
    seed: int = 0


def draw_cloud(
    rng: np.random.Generator,
    shape: tuple[int, int],
    n_channels: int,
    place: tuple[float, float, float],
    size: tuple[float, float] | None,
    *,
    several_lines: bool = False,
) -> Cloud:
    """Draw a cloud of a given size.

    Parameters
    ----------
    shape
        Rows and columns of the image.
    n_channels
        Of the band; the velocities cover at most a third of it.
    place
        x, y and channel of its middle.
    size
        See `Cloud`.
    several_lines
        Whether it shines in the five groups of NH3 (1,1), spread over up to two thirds of the band.
    """
    spread = float(np.exp(rng.uniform(np.log(0.8), np.log(max(1.0, 0.06 * n_channels)))))
    lines: tuple[tuple[float, ...], tuple[float, ...]] = ((0.0,), (1.0,))
    if several_lines:
        outer = rng.uniform(0.15, 0.33) * n_channels
        optically_thick = rng.uniform(0, 0.7)  # brings the groups nearer to each other in height
        heights = np.array(NH3_11[1]) ** (1 - optically_thick)
        lines = (tuple(float(v / 19.5 * outer) for v in NH3_11[0]), tuple(float(h) for h in heights / heights.sum()))
        spread = min(spread, 0.04 * n_channels)
    reach = max(shape) if size is None else max(size)
    tilt = rng.uniform(0, 2 * np.pi)
    across = rng.exponential(0.8) * spread * 100 / reach
    return Cloud(
        *place,
        size=size,
        shape=shape,
        density_index=float(rng.uniform(3.0, 4.0)),
        velocity_index=float(rng.uniform(3.5, 4.5)),
        contrast=float(rng.uniform(0.7, 2.0)),
        dispersion=float(np.exp(rng.uniform(np.log(0.6), np.log(max(0.8, min(4.0, 0.05 * n_channels)))))),
        velocity_spread=spread,
        gradient=(float(across * np.cos(tilt)), float(across * np.sin(tilt))),
        lines=lines,
        floor=float(rng.uniform(0.1, 0.7)),
        seed=int(rng.integers(2**31)),
    )


def power_law_field(rng: np.random.Generator, shape: tuple[int, ...], index: float, depth: float = 1.0) -> np.ndarray:
    """A Gaussian random field of mean 0 and variance 1 with a power spectrum k^-index, periodic; float32.

    Parameters
    ----------
    shape
        Of the field; the last two axes have pixels of the same size.
    depth
        Size of a step along the other axes, in such pixels.
    """
    white = rng.standard_normal(shape, np.float32)
    k2 = np.zeros((1,) * len(shape))
    for axis, n in enumerate(shape):
        step = 1.0 if axis >= len(shape) - 2 else depth
        frequency = fft.rfftfreq(n) if axis == len(shape) - 1 else fft.fftfreq(n)
        along = [1] * len(shape)
        along[axis] = -1
        k2 = k2 + (frequency.reshape(along) / step) ** 2
    k2.flat[0] = np.inf  # the mean is 0
    field = fft.irfftn(fft.rfftn(white) * (k2 ** (-index / 4)).astype(np.float32), s=shape)
    return (field / field.std()).astype(np.float32)


def cloud_emission(cloud: Cloud, n_channels: int) -> Emission:
    """The cloud's own cube over all channels of the band, its total 1 unless lines lie beyond its ends.

    Raises
    ------
    ValueError
        If the envelope lies outside the image.
    """
    rng = np.random.default_rng(cloud.seed)
    y0, y1, x0, x1 = _window(cloud)
    if y1 - y0 < 2 or x1 - x0 < 2:
        raise ValueError(f"a cloud at ({cloud.x:.0f}, {cloud.y:.0f}) lies outside an image of {cloud.shape} pixels")
    ny, nx = y1 - y0, x1 - x0
    # of a periodic field only a part is used, so that its sides do not meet
    wide = (SLABS + 4, fft.next_fast_len(int(1.3 * ny) + 2), fft.next_fast_len(int(1.3 * nx) + 2))
    depth = max(1.0, max(ny, nx) / SLABS)
    part = (slice(SLABS), slice(ny), slice(nx))
    density = np.exp(cloud.contrast * power_law_field(rng, wide, cloud.density_index, depth)[part])
    velocity = cloud.velocity_spread * power_law_field(rng, wide, cloud.velocity_index, depth)[part]
    y, x = np.arange(y0, y1)[:, None] - cloud.y, np.arange(x0, x1) - cloud.x
    velocity = velocity - velocity.mean() + (cloud.gradient[0] * x + cloud.gradient[1] * y) / 100
    density = np.clip(density - np.quantile(density, cloud.floor), 0, None) * _envelope(cloud, y, x)
    offsets, strengths = cloud.lines
    each = (
        strength * _along_velocity(density, velocity + cloud.z + offset, n_channels)
        for offset, strength in zip(offsets, strengths, strict=True)
    )
    lines = reduce(np.add, each)
    cube = broadened(lines, cloud.dispersion) / np.float32(max(density.sum() * sum(cloud.lines[1]), 1e-30))
    used = np.flatnonzero(cube.any(axis=(1, 2)))
    low, high = (used[0], used[-1] + 1) if len(used) else (0, 1)
    return Emission(np.ascontiguousarray(cube[low:high], np.float32), (int(low), y0, x0), "cloud")


def _window(cloud: Cloud) -> tuple[int, int, int, int]:
    """The part of the image that the cloud's envelope covers: rows and columns, half-open."""
    if cloud.size is None:
        return 0, cloud.shape[0], 0, cloud.shape[1]
    rows = int(cloud.y - cloud.size[1]), int(np.ceil(cloud.y + cloud.size[1])) + 1
    columns = int(cloud.x - cloud.size[0]), int(np.ceil(cloud.x + cloud.size[0])) + 1
    return max(rows[0], 0), min(rows[1], cloud.shape[0]), max(columns[0], 0), min(columns[1], cloud.shape[1])


def _envelope(cloud: Cloud, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Share of the density that is left at places from its middle: a Gaussian, a little under so as to end."""
    if cloud.size is None:
        return np.ones((1, 1, 1), np.float32)
    inside = np.exp(-FOUR_LN2 * ((x / cloud.size[0]) ** 2 + (y / cloud.size[1]) ** 2))
    return np.clip(inside - 1 / 16, 0, None).astype(np.float32)[None]  # 1/16: a FWHM from the middle


def _along_velocity(density: np.ndarray, velocity: np.ndarray, n_channels: int) -> np.ndarray:
    """A cube (channels, y, x) of what each slab emits at its velocities, shared between two channels; float32."""
    channel = np.floor(velocity).astype(np.int32)
    upper = velocity - channel
    pixels = density.shape[1] * density.shape[2]
    pixel = np.arange(pixels, dtype=np.int32).reshape(density.shape[1:])
    total = np.zeros(n_channels * pixels)
    for shift, share in ((0, density * (1 - upper)), (1, density * upper)):
        inside = (channel + shift >= 0) & (channel + shift < n_channels)
        index = ((channel + shift) * pixels + pixel)[inside]
        total += np.bincount(index, share[inside], minlength=len(total))
    return total.reshape(n_channels, *density.shape[1:]).astype(np.float32)
