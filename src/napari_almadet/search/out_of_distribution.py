"""Warnings for cubes outside the range that the networks were trained on (out of distribution)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.search.merge import NoiseSummary

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube


# The range of the training data, see napari_almadet.training.fields.
BEAMS = (2.5, 6.5)  # FWHM in averaged pixels
SAMPLED = 2.0  # pixels per beam, minimum for interpolation; derived: the Nyquist limit
LEAST_CHANNELS = 24
MOST_CORRELATION = 1.8  # rms of wide lines relative to independent channels
MOST_DIPS = 1e-4  # fraction of voxels below -5 sigma; Gaussian noise has 3e-7; chosen by eye


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
            f"The beam is {fwhm:.1f} pixels wide; {SAMPLED:g} are needed to sample it: sources may be missed or "
            "taken for noise."
        )
    if not noises:
        good = cube.shape[0] - (0 if cube.flagged is None else int(np.count_nonzero(cube.flagged)))
        why = "all channels are identical" if good > 1 else f"{good or 'no'} channel has data, and two are needed"
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
