"""Warnings for cubes outside the range that the networks were trained on (out of distribution)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.candidate import Status
from napari_almadet.cube.prepare import MASKED, blanked_share
from napari_almadet.measure.planes import in_blocks
from napari_almadet.search.beam_decision import BeamDecision, may_be_dirty
from napari_almadet.search.merge_windows import NoiseSummary
from napari_almadet.search.noise_units import PLANES_AT_ONCE, lower_medians
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.threads import spread

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.noise_units import NoiseUnits
    from napari_almadet.search.sidelobes import Cleaned


# The range of the training data, see napari_almadet.training.fields.
BEAMS = (2.5, 6.5)  # FWHM in averaged pixels
SAMPLED = 2.0  # pixels per beam, minimum for interpolation; derived: the Nyquist limit
LEAST_CHANNELS = 24  # minimum number of channels
MOST_CORRELATION = 1.8  # rms of wide lines relative to independent channels
MOST_OFFSET = 1.0  # sigma, median of a channel's pixels; in a field of 100 beams noise has 0.1; chosen by eye
FILLED = 0.25  # of the field: a candidate of this area explains such an offset; chosen by eye
MOST_DIPS = 1e-4  # fraction of voxels below -5 sigma; Gaussian noise has 3e-7; chosen by eye


def search_warnings(
    cube: Cube,
    fwhm: float,
    k: int | float,
    noises: list[NoiseSummary],
    detections: Sequence[RawDetection],
    decision: BeamDecision,
) -> list[str]:
    """What makes the result of a search less certain, one sentence each."""
    warnings = out_of_distribution(cube, fwhm, k, noises) + unseen_emission(noises, detections)
    return warnings + ([may_be_dirty(decision)] if decision.doubtful or decision.perhaps_smoothed else [])


def out_of_distribution(cube: Cube, fwhm: float, k: int | float, noises: list[NoiseSummary]) -> list[str]:
    """Properties of a cube that are outside the range of the training data, one sentence each."""
    warnings = []
    if fwhm / k > BEAMS[1]:
        warnings.append(
            f"The beam is {fwhm:.1f} pixels wide, wider than any in training (up to {BEAMS[1] * k:g}): sources may be "
            "missed or mistaken for noise."
        )
    elif fwhm / k < BEAMS[0] or fwhm < SAMPLED:
        warnings.append(
            f"The beam is {fwhm:.3g} pixels wide, but {SAMPLED:g} are needed to sample it: sources may be missed or "
            "taken for noise."
        )
    if not noises:
        good = cube.shape[0] - (0 if cube.flagged is None else int(np.count_nonzero(cube.flagged)))
        why = f"{good or 'no'} channel has data, and two are needed"
        if good > 1:
            masked = blanked_share(cube) > MASKED
            why = "no pixel has data in enough channels" if masked else "all channels are identical"
        return [*warnings, f"The noise of this cube cannot be estimated ({why}): nothing was detected."]
    channels = max(noise.channels for noise in noises)
    if channels < LEAST_CHANNELS:
        warnings.append(
            f"The cube has {channels} channels with data, fewer than in training (>= {LEAST_CHANNELS}): "
            "source probabilities are less certain."
        )
    correlation = max(noise.correlation for noise in noises)
    if correlation > MOST_CORRELATION:
        warnings.append(
            f"The noise averages down more slowly than sqrt(N) (x{correlation:.1f}): correlated channels, or "
            "emission that fills the field. Faint sources may be missed."
        )
    dips = max(noise.dips for noise in noises)
    if dips > MOST_DIPS:
        warnings.append(
            f"{dips:.2%} of the voxels are below -5 sigma, as in negative bowls around bright extended emission or "
            "with calibration errors: check candidates near them."
        )
    return warnings


def noise_summary(clean: Cleaned, correlation: float, beam: float) -> NoiseSummary:
    """Properties of the noise of a window, for the warnings.

    Parameters
    ----------
    correlation
        As :func:`~napari_almadet.search.line_maps.maps` gives it.
    beam
        FWHM in pixels of the window.
    """
    import torch

    units = clean.units
    low = torch.stack([torch.count_nonzero(some < -5) for some in units.cube.split(PLANES_AT_ONCE)]).sum()
    dips = float(low / (units.valid.sum() * len(units.cube)).clamp(min=1))
    offset = highest_offset(units, beam)
    return NoiseSummary(correlation, dips, len(units.channels), clean.decision, *offset, clean.subtracted)


def highest_offset(units: NoiseUnits, beam: float) -> tuple[float, tuple[int, int]]:
    """``offset`` and ``offset_channels`` of :class:`~napari_almadet.search.merge_windows.NoiseSummary` of one window.

    Sources in less than half of the field do not change a median; what is the same in all channels is taken off.
    """
    import torch

    thin = max(1, int(beam / 2))  # pixels closer together have the same noise
    some = units.cube[:, ::thin, ::thin][:, units.valid[::thin, ::thin]]
    if some.shape[1] == 0:
        return 0.0, (0, 0)
    of_parts = spread(lambda part: lower_medians(some[part]), in_blocks(len(some), PLANES_AT_ONCE))
    medians = torch.cat(of_parts).cpu().numpy()
    medians = medians - np.median(medians)
    top = int(medians.argmax())
    low = np.flatnonzero(medians <= medians[top] / 2)
    first = int(low[low < top].max(initial=-1)) + 1
    last = int(low[low > top].min(initial=len(medians)))
    channels = units.channels.cpu().numpy()
    return float(medians[top]), (int(channels[first]), int(channels[last - 1]) + 1)


def unseen_emission(noises: Sequence[NoiseSummary], detections: Sequence[RawDetection]) -> list[str]:
    """A sentence on channels that are bright all over the field and that no large candidate explains, if there are."""
    highest = max(noises, key=lambda noise: noise.offset, default=None)
    if highest is None or highest.offset < MOST_OFFSET:
        return []
    first, last = highest.offset_channels
    for detection in detections:
        candidate, extent = detection.candidate, detection.extent
        large = candidate.status is Status.KEPT and extent is not None and extent.field_share >= FILLED
        if large and candidate.channels[0] < last and candidate.channels[1] > first:
            return []
    return [
        f"Half of the field is brighter than {highest.offset:.1f} sigma in channels {first} to {last - 1}: emission "
        "that fills the field, which may have been missed, or an offset of these channels. Look at the spectrum of "
        "the whole field."
    ]
