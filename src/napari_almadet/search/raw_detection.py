"""A detection before its candidate is decided on: position, extent, spectrum, and the features it is classified by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.windows import Window

# Relative error of a channel's noise estimate: in units of it, a flat, bright continuum is not quite flat.
NOISE_ERROR = 0.05


@dataclass(frozen=True)
class Features:
    """What a raw detection is classified by, as physical values.

    The network's input is made of it by :func:`napari_almadet.search.features.encode`, and nowhere else.

    Attributes
    ----------
    detection_logit
        Source Finder's detection score, as a logit.
    snr_stacked, snr_stacked_with_sidelobes
        S/N of the stacked image at its centre, without and with the sidelobes of bright sources.
    snr_line, snr_negative_line
        S/N of the best matched line filter at its centre, in the cube and in the negated cube.
    snr_own_line
        S/N of the best line in the source's own spectrum.
    line_probability
        Line Finder's highest answer in that spectrum, 0 to 1.
    snr_neighbour, neighbour_distance
        The highest stacked or line S/N of a brighter detection within 8 beams, 0 if there is none, and its distance in
        beams, 8 if there is none.
    point_symmetry
        Share of its S/N seen opposite of it about a brighter detection, as of a sidelobe (0 to 1.5).
    spectral_correlation
        Share of its spectrum that is a brighter detection's (0 to 1.5).
    fwhm_y, fwhm_x
        In beams.
    field_spread
        Rms of the stacked image of its window over the thermal noise, 0.5 at least.
    snr_brightest
        The highest stacked or line S/N of all detections of its window.
    dip_stacked, dip_line
        S/N of the deepest negative of the stacked image and of the line filter nearby, positive if it is below zero.
    coverage
        Share of pixels with data about its centre, 0 to 1.
    beam
        FWHM in pixels of its window.
    n_channels
        Channels that were searched as one band.
    """

    detection_logit: float = 0.0
    snr_stacked: float = 0.0
    snr_stacked_with_sidelobes: float = 0.0
    snr_line: float = 0.0
    snr_negative_line: float = 0.0
    snr_own_line: float = 0.0
    line_probability: float = 0.0
    snr_neighbour: float = 0.0
    neighbour_distance: float = 8.0
    point_symmetry: float = 0.0
    spectral_correlation: float = 0.0
    fwhm_y: float = 1.0
    fwhm_x: float = 1.0
    field_spread: float = 1.0
    snr_brightest: float = 0.0
    dip_stacked: float = 0.0
    dip_line: float = 0.0
    coverage: float = 1.0
    beam: float = 4.0
    n_channels: int = 100

    @property
    def snr_both(self) -> float:
        """S/N of stacked image and own line together."""
        return float(np.hypot(max(self.snr_stacked, 0), max(self.snr_own_line, 0)))


@dataclass
class RawDetection:
    """A candidate as the search knows it: position, extent, spectrum in noise units, features, window.

    ``y``, ``x``, ``sigma_y`` and ``sigma_x`` are in the cube's pixels; ``spectrum`` has 0 in channels without data.
    """

    candidate: Candidate
    y: float
    x: float
    sigma_y: float
    sigma_x: float
    spectrum: np.ndarray
    features: Features
    window: Window
    box: Box | None = None  # of extended emission; others end where their Gaussian does
    stripe: bool = False  # extended emission that is as long and thin as a bad baseline's wave

    @property
    def beam(self) -> float:
        """FWHM of the beam in the cube's pixels."""
        return self.features.beam * self.window.k

    @property
    def line_snr(self) -> float:
        """S/N of its best line, in noise to which each channel's own error adds a share of the continuum."""
        error = NOISE_ERROR * self.features.snr_stacked / np.sqrt(len(self.spectrum))
        return float(self.features.snr_own_line / np.hypot(1, error))


def separation(one: RawDetection, other: RawDetection) -> float:
    """Pixels of the cube between two raw detections."""
    return float(np.hypot(one.y - other.y, one.x - other.x))
