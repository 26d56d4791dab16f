"""Correlated channels: each is a weighted sum of finer channels, as produced by correlators and imaging.

A `mixing` is the matrix of these weights, (channels, finer channels).  It is applied to the signal.  Independent noise
of the finer channels then has the covariance ``mixing @ mixing.T``, from which `noise_factor` draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HANNING = (0.25, 0.5, 0.25)  # weights of three channels in Hanning smoothing, by definition
AVERAGES = (2, 4, 8)  # channels averaged by ALMA's correlator after Hanning smoothing (Technical Handbook, chapter 5)
KINDS = ("hanning", "boxcar", *(f"average {n}" for n in AVERAGES), "regrid", "hanning regrid")


@dataclass(frozen=True, eq=False)
class Mixing:
    """How the channels of a cube are made from finer ones.

    Attributes
    ----------
    kind
        One of `KINDS`.
    matrix
        Weights, shape (channels, finer channels); each row sums to 1.
    first, step
        Position of finer channel 0, and distance of the finer channels, in channels of the cube.
    """

    kind: str
    matrix: np.ndarray
    first: float
    step: float

    @property
    def of_signal(self) -> Mixing | None:
        """The mixing to apply to a line; None if many finer channels are averaged, because lines are drawn averaged."""
        return None if self.kind.startswith("average") else self

    def finer(self, channel: np.ndarray | float) -> np.ndarray | float:
        """The finer channel at a channel of the cube."""
        return (channel - self.first) / self.step

    @property
    def rms(self) -> np.ndarray:
        """Noise of each channel if that of each finer one is 1, shape (channels,)."""
        return np.linalg.norm(self.matrix, axis=1)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the noise of channels, normalised to a mean variance of 1: shape (channels, channels)."""
        shared = self.matrix @ self.matrix.T
        return shared / np.diag(shared).mean()


def convolution(n: int, kernel: tuple[float, ...], step: int = 1) -> np.ndarray:
    """Matrix (n, finer) of a convolution of which every ``step``-th channel is kept, including the ends."""
    matrix = np.zeros((n, step * (n - 1) + len(kernel)))
    for i, row in enumerate(matrix):
        row[step * i : step * i + len(kernel)] = kernel
    return matrix


def regridding(n: int, ratio: float, phase: float) -> np.ndarray:
    """Matrix (n, finer) of linear interpolation to channels ``ratio`` times as wide, the first at ``phase``."""
    place = phase + ratio * np.arange(n)
    below = np.floor(place).astype(int)
    matrix = np.zeros((n, below[-1] + 2))
    matrix[np.arange(n), below] = 1 - (place - below)
    matrix[np.arange(n), below + 1] = place - below
    return matrix


def mixing(kind: str, n: int, ratio: float = 1.2, phase: float = 0.3) -> Mixing:
    """The mixing of a kind for a cube of ``n`` channels.

    Parameters
    ----------
    kind
        One of `KINDS`: Hanning smoothing, a boxcar of three channels, channels averaged after Hanning smoothing,
        or regridding in velocity by linear interpolation, after Hanning smoothing or without.
    ratio, phase
        For regridding: channel width relative to the finer one, and position of the first channel between finer ones.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of correlated channels: choose one of {', '.join(KINDS)}")
    if kind == "hanning":
        return Mixing(kind, convolution(n, HANNING), -1.0, 1.0)
    if kind == "boxcar":
        return Mixing(kind, convolution(n, (1 / 3,) * 3), -1.0, 1.0)
    if kind.startswith("average"):
        by = int(kind.split()[1])
        kernel = tuple(np.convolve(HANNING, np.full(by, 1 / by)))
        return Mixing(kind, convolution(n, kernel, by), -((by + 1) / 2) / by, 1 / by)
    matrix = regridding(n, ratio, phase)
    first = -phase / ratio
    if kind == "hanning regrid":
        matrix = matrix @ convolution(matrix.shape[1], HANNING)
        first -= 1 / ratio
    return Mixing(kind, matrix, first, 1 / ratio)


def draw_mixing(rng: np.random.Generator, n: int) -> Mixing:
    """Draw a mixing of any kind for ``n`` channels, with equal probability; the ratio of regridding is 0.8 to 1.6."""
    kind = str(rng.choice(KINDS))
    return mixing(kind, n, float(rng.uniform(0.8, 1.6)), float(rng.uniform(0, 1)))


def noise_factor(mixing: Mixing) -> np.ndarray:
    """A matrix L, (channels, channels), float32: ``L @ white`` has the mixing's `Mixing.covariance`."""
    covariance = mixing.covariance
    # after regridding to finer channels some are sums of others
    return np.linalg.cholesky(covariance + 1e-6 * np.eye(len(covariance))).astype(np.float32)
