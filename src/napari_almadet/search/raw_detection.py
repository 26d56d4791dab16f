"""A detection before the selection rules: position, extent, spectrum, and the features for the classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.windows import Window

# Relative error of a channel's noise estimate: in units of it, a flat, bright continuum is not quite flat.
NOISE_ERROR = 0.05


@dataclass(frozen=True)
class Features:
    """Features of a raw detection for the classifier, as physical values.

    Only :func:`napari_almadet.search.features.encode` converts them to the input of the network.

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
        Line Finder's maximum output in that spectrum, 0 to 1.
    snr_neighbour, neighbour_distance
        The highest stacked or line S/N of a brighter detection within 8 beams, 0 if there is none, and its distance in
        beams, 8 if there is none.
    point_symmetry
        Fraction of its S/N also present at the opposite position about a brighter detection, as for a sidelobe (0 to
        1.5).
    spectral_correlation
        Fraction of its spectrum that is proportional to that of a brighter detection (0 to 1.5).
    fwhm_y, fwhm_x
        In beams.
    field_spread
        Rms of the stacked image of its window in units of the thermal noise, at least 0.5.
    snr_brightest
        The highest stacked or line S/N of all detections of its window.
    dip_stacked, dip_line
        S/N of the deepest negative of the stacked image and of the line filter nearby, positive if it is below zero.
    coverage
        Fraction of pixels with data around its centre, 0 to 1.
    beam
        FWHM in pixels of its window.
    n_channels
        Number of channels searched as one band.
    smoothed
        How often the window in which it was detected was smoothed to twice the beam before, 0 to 2; beams are those of
        the smoothed window.
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
    smoothed: int = 0

    @property
    def snr_both(self) -> float:
        """S/N of stacked image and own line together."""
        return float(np.hypot(max(self.snr_stacked, 0), max(self.snr_own_line, 0)))


@dataclass(frozen=True)
class Extent:
    """Features of a whole patch of extended emission for the extent classifier, as physical values.

    They are measured in :mod:`napari_almadet.search.patch_properties`; only
    :func:`napari_almadet.search.features.encode_extent` converts them to the input of the network.  "Strength" is the
    higher of the S/N of a position in the stacked image and in its best line.  "Negative" refers to the inverted cube:
    artefacts have negative counterparts, emission has none.

    Attributes
    ----------
    beams, field_share
        The patch's area in beams, and over that of the field with data.
    snr_peak, snr_median
        Of its strength.
    snr_stack, snr_line
        Highest S/N in it of the stacked image and of the best line.
    snr_sum_stack, snr_sum_line, snr_sum_negative
        Of the spectrum summed over the patch, in its own noise: all channels together, its best line, and its best
        negative line.
    core_share
        Share of its area over half of its peak.
    elongation, fill
        Times as long as wide, by second moments; its area over that of the ellipse with these moments.
    edge_share
        Share of its area within a beam of the edge of the field or of its data.
    peaks, most_likely, mean_probability
        Number of Source Finder's detections in it, the highest of their scores as a logit, and the mean of its
        probability map.
    line_share
        Share of its area where a line is over 5 sigma.
    width
        Median FWHM of the best lines in it, over the band.
    channel_spread
        Standard deviation of the best lines' channels over the band.
    channel_step
        Median difference of the channels of places half a beam apart, over the lines' FWHM.
    gradient
        Share of the channels' variance that a plane explains: rotation.
    coherence_near, coherence_far
        Correlation of what is not noise with the same a channel later, and a sixteenth of the band later.
    channels_seen
        Share of the channels it shines in: (sum of powers)^2 over the sum of their squares.
    dip_inside
        S/N of the strongest negative line in it.
    dip_stack, dip_line
        S/N of the deepest negatives of stacked image and line within 12 beams of it.
    negative_beams, negative_share
        Area of the largest negative patch of the field in beams, and that of all negatives over 5 sigma over that of
        all positives.
    floor
        Median strength of the field outside of the patch.
    other_peak
        Highest strength outside of the patch.
    symmetry, correlation
        Strength opposite of it about the brightest place elsewhere, over its own; how much of its spectrum is that
        place's.
    spread
        Robust rms of the stacked image outside of the patch over the thermal noise.
    noise_correlation
        How much noisier wide lines are than in independent channels.
    dirty
        Whether the cube was found to have a dirty beam's sidelobes.
    beam, n_channels
        FWHM in pixels, and channels with data.
    place
        Where it is brightest, (y, x) in its window; it is not classified by that.
    """

    beams: float
    field_share: float
    snr_peak: float
    snr_median: float
    snr_stack: float
    snr_line: float
    snr_sum_stack: float
    snr_sum_line: float
    snr_sum_negative: float
    core_share: float
    elongation: float
    fill: float
    edge_share: float
    peaks: int
    most_likely: float
    mean_probability: float
    line_share: float
    width: float
    channel_spread: float
    channel_step: float
    gradient: float
    coherence_near: float
    coherence_far: float
    channels_seen: float
    dip_inside: float
    dip_stack: float
    dip_line: float
    negative_beams: float
    negative_share: float
    floor: float
    other_peak: float
    symmetry: float
    correlation: float
    spread: float
    noise_correlation: float
    dirty: bool
    beam: float
    n_channels: int
    place: tuple[int, int] = (0, 0)


@dataclass
class RawDetection:
    """A candidate during the search: position, extent, spectrum in noise units, features, window.

    ``y``, ``x``, ``sigma_y`` and ``sigma_x`` are in pixels of the cube; ``spectrum`` is 0 in channels without data.
    """

    candidate: Candidate
    y: float
    x: float
    sigma_y: float
    sigma_x: float
    spectrum: np.ndarray
    features: Features
    window: Window
    box: Box | None = None  # only for extended emission; the box of others follows from their Gaussian
    extent: Extent | None = None  # of the patch of extended emission that it is, or lies in
    piece_of: int = 0  # number of the object, among those of its window, that it is one of several pieces of; 0: none
    residuals: float = 1.0  # rms of the image it is brightest in over the thermal noise, see `search.residuals`
    over_residuals: float = float("inf")  # its S/N by that rms, if that is more than noise
    judge_logit: float = 0.0  # of Judge, in a field as large as its window
    flank_of: RawDetection | None = None  # the bright, resolved source that it is a piece of, see `search.flanks`

    @property
    def beam(self) -> float:
        """FWHM of the beam in the cube's pixels."""
        return self.features.beam * self.window.k

    @property
    def line_snr(self) -> float:
        """S/N of its best line, including the calibration error of a bright continuum in the noise."""
        error = NOISE_ERROR * self.features.snr_stacked / np.sqrt(len(self.spectrum))
        return float(self.features.snr_own_line / np.hypot(1, error))

    @property
    def snr_of_spectrum(self) -> float:
        """S/N of the best line in its spectrum, which is the sum over a patch: its brightest place may show no line."""
        is_patch = self.box is not None and self.extent is not None
        return max(self.line_snr, self.extent.snr_sum_line if is_patch and self.extent else 0.0)


def raw_detection(row: np.ndarray, spectrum: np.ndarray, features: Features, window: Window) -> RawDetection:
    """A row of :func:`~napari_almadet.search.features.centres` as a raw detection, in pixels of the cube."""
    score = float(1 / (1 + np.exp(-row[0])))
    y, x = (float((row[i] + start + 0.5) * window.k - 0.5) for i, start in ((1, window.y), (2, window.x)))
    candidate = Candidate(0, Box(0, 0, 0, 0), score)
    candidate.decide("found", snr_stacked=features.snr_stacked, snr_line=features.snr_own_line, score=score)
    return RawDetection(candidate, y, x, row[3] * window.k, row[4] * window.k, spectrum, features, window)


def separation(one: RawDetection, other: RawDetection) -> float:
    """Pixels of the cube between two raw detections."""
    return float(np.hypot(one.y - other.y, one.x - other.x))
