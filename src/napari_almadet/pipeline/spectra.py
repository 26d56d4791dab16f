"""Frequency denoising (paper, steps 5 to 7): dirty spectra of the boxes, their denoising, and the lines in them."""

from __future__ import annotations

import numpy as np


def standardise(spectra: np.ndarray) -> np.ndarray:
    """Rescale each spectrum to mean 0 and standard deviation 1 (paper, step 6).

    Missing channels do not count and become 0, the mean; a constant spectrum becomes
    zeros.

    Parameters
    ----------
    spectra
        Shape (..., channel); each spectrum has its own mean and deviation.

    Returns
    -------
    numpy.ndarray
        Float32, same shape, no NaN.
    """
    spectra = np.asarray(spectra, dtype=float)
    valid = np.isfinite(spectra)
    count = np.maximum(valid.sum(axis=-1, keepdims=True), 1)
    centred = np.where(valid, spectra, 0)
    scale = np.abs(centred).max(axis=-1, keepdims=True, initial=0)
    centred = np.where(valid, centred - centred.sum(axis=-1, keepdims=True) / count, 0)
    deviation = np.sqrt((centred**2).sum(axis=-1, keepdims=True) / count)
    # a constant spectrum keeps a deviation of rounding errors, which must not be blown up to 1
    constant = deviation <= 1e-12 * scale
    return np.where(constant, 0, centred / np.where(constant, 1, deviation)).astype(np.float32)
