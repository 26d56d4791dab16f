"""A detection before its candidate is decided on: where it is, how large, its spectrum and its S/N ratios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.features import MEASURES
from napari_almadet.search.windows import Window

NOISE_ERROR = 0.05  # of what the noise of a channel is taken for: a flat, bright continuum is then not quite flat


def line_of(find: RawDetection) -> float:
    """SNR of a find's best line, in noise to which each channel's error of its own adds a share of the continuum."""
    error = NOISE_ERROR * snr_of(find, "stack") / np.sqrt(len(find.spectrum))
    return float(snr_of(find, "own line") / np.hypot(1, error))


def beam_of(find: RawDetection) -> float:
    """The beam's FWHM in the cube's pixels, as the find's measures have it."""
    return float(4 * (1 + find.measures[MEASURES.index("beam")]) * find.window.k)


@dataclass
class RawDetection:
    """A candidate as the search knows it: where and how large, its spectrum in noise units, its measures, its window.

    ``y``, ``x``, ``sigma_y`` and ``sigma_x`` are in the cube's pixels; ``spectrum`` has 0 in channels without data.
    """

    candidate: Candidate
    y: float
    x: float
    sigma_y: float
    sigma_x: float
    spectrum: np.ndarray
    measures: np.ndarray
    window: Window
    box: Box | None = None  # of extended emission; others end where their Gaussian does
    stripe: bool = False  # extended emission that is as long and thin as a bad baseline's wave


def separation(one: RawDetection, other: RawDetection) -> float:
    """Pixels of the cube between two finds."""
    return float(np.hypot(one.y - other.y, one.x - other.x))


def snr_of(find: RawDetection, name: str) -> float:
    """One of a find's :data:`~napari_almadet.search.features.MEASURES` that are SNRs."""
    return float(2 * np.sinh(find.measures[MEASURES.index(name)]))
