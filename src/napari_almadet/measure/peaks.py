"""Peaks of a spectrum and Gaussian fits to them, with the results of `scipy.signal` and `astropy.modeling`.

Importing these two libraries takes longer than searching a cube of usual size, and only some thirty lines are needed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_almadet.measure.variable_projection import fitted, heights

PRECISION = 1e-14  # of the sum of squares: a fit's last step changes its centre by far less than 1e-6 channels
STEPS = 100  # of a fit at most; those that go somewhere take ten
SHARPEST = 1e-3  # channels, the least standard deviation of a Gaussian


def summits(values: np.ndarray) -> np.ndarray:
    """Where values (n,) are higher than on both sides; of a plateau its middle, the lower one of two: (peaks,)."""
    steps = np.flatnonzero(np.diff(values))
    starts = np.concatenate([[0], steps + 1])  # of runs of one value
    ends = np.concatenate([steps, [len(values) - 1]])
    level = values[starts]
    higher = np.zeros(len(level), bool)
    higher[1:-1] = (level[1:-1] > level[:-2]) & (level[1:-1] > level[2:])
    return (starts[higher] + ends[higher]) // 2


def prominence(values: np.ndarray, peak: int) -> tuple[float, int, int]:
    """How far a peak rises over the higher of its two sides' lowest values before a higher peak; and where these are.

    Of several lowest values on a side the one nearest to the peak counts.
    """
    over = np.flatnonzero(values > values[peak])
    first, last = np.searchsorted(over, peak), len(over)
    low = over[first - 1] + 1 if first > 0 else 0
    high = over[first] if first < last else len(values)
    left = peak - int(np.argmin(values[low : peak + 1][::-1]))
    right = peak + int(np.argmin(values[peak:high]))
    return float(values[peak] - max(values[left], values[right])), left, right


def half_width(values: np.ndarray, peak: int) -> float:
    """Width of a peak where it has fallen by half of its prominence, interpolated."""
    rise, left, right = prominence(values, peak)
    level = values[peak] - 0.5 * rise
    below = np.flatnonzero(values[left + 1 : peak] <= level)
    i = left + 1 + int(below[-1]) if len(below) else left
    start = i + (float((level - values[i]) / (values[i + 1] - values[i])) if values[i] < level else 0.0)
    below = np.flatnonzero(values[peak + 1 : right] <= level)
    i = peak + 1 + int(below[0]) if len(below) else right
    end = i - (float((level - values[i]) / (values[i - 1] - values[i])) if values[i] < level else 0.0)
    return end - start


def gaussian_in(
    channel: np.ndarray, values: np.ndarray, centre: float, sigma: float
) -> tuple[float, float, float] | None:
    """Amplitude, centre and standard deviation of the Gaussian nearest to some values (n,); None if there is none.

    Parameters
    ----------
    centre, sigma
        To start from.
    """
    channel = channel.astype(float)

    def shapes_at(parameters: np.ndarray) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        at, width = parameters[0], max(abs(parameters[1]), SHARPEST)
        x = (channel - at) / width
        shape = np.exp(-0.5 * x**2)
        return shape[None], lambda: np.stack([shape * x, shape * x**2 * np.sign(parameters[1])]) / width

    data = np.asarray(values, float)[None]
    try:
        (at, width), _ = fitted(
            data, shapes_at, np.zeros(2, int), np.array([centre, sigma], float), precision=PRECISION, steps=STEPS
        )
        amplitude = float(heights(data, shapes_at(np.array([at, width]))[0])[0, 0])
    except np.linalg.LinAlgError:
        return None
    sigma = max(abs(float(width)), SHARPEST)
    return (amplitude, float(at), sigma) if np.isfinite([amplitude, at, sigma]).all() else None
