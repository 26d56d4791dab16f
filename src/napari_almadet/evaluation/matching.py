"""One-to-one matching of candidates with true sources, and the rates that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.stats import binom_conf_interval
from scipy.optimize import linear_sum_assignment

RADIUS = 3.0  # px


def match(
    truth: np.ndarray,
    found: np.ndarray,
    allowed: np.ndarray | None = None,
    radius: float = RADIUS,
    inside: np.ndarray | None = None,
) -> np.ndarray:
    """Pair true sources with candidates one to one, with as many pairs as possible.

    Parameters
    ----------
    truth, found
        Centres, shape (n, 2) and (m, 2), in pixels.
    allowed
        Shape (n, m), False for pairs that do not count at any distance, e.g. because the channel ranges do not overlap.
    radius
        Largest distance of a pair.
    inside
        Shape (n, m), True if a candidate is in the voxels of the source: a pair at any distance.

    Returns
    -------
    ndarray
        Shape (pairs, 2), indices into ``truth`` and ``found``.
    """
    truth, found = np.reshape(truth, (-1, 2)), np.reshape(found, (-1, 2))
    distance = np.linalg.norm(truth[:, None] - found[None], axis=2)
    possible = distance <= radius
    if allowed is not None:
        possible &= allowed
    if inside is not None:
        possible |= inside
        distance = np.where(inside, np.minimum(distance, radius), distance)
    # An excluded pair costs more than all allowed ones together, so that the number of allowed pairs is maximal.
    cost = np.where(possible, distance, radius * (min(distance.shape, default=0) + 1))
    pairs = np.stack(linear_sum_assignment(cost), axis=1)
    return pairs[possible[pairs[:, 0], pairs[:, 1]]]


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``total``, with the 95 % binomial (Wilson) interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The fraction; NaN if ``total`` is 0."""
        return self.hits / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval; NaN if ``total`` is 0."""
        if not self.total:
            return float("nan"), float("nan")
        low, high = binom_conf_interval(self.hits, self.total, confidence_level=0.95, interval="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] ({self.hits}/{self.total})"


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, (n, m), of two sets of boxes, (n, 4) and (m, 4): half-open y0, y1, x0, x1."""
    a, b = np.reshape(a, (-1, 4)), np.reshape(b, (-1, 4))
    shared = _shared(a[:, :2], b[:, :2]) * _shared(a[:, 2:], b[:, 2:])
    area_a, area_b = ((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2]) for box in (a, b))
    return shared / (area_a[:, None] + area_b - shared)


def range_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, (n, m), of two sets of half-open ranges, (n, 2) and (m, 2)."""
    a, b = np.reshape(a, (-1, 2)), np.reshape(b, (-1, 2))
    shared = _shared(a, b)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0]) - shared
    return np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    first, last = np.maximum(a[:, None, 0], b[:, 0]), np.minimum(a[:, None, 1], b[:, 1])
    return np.maximum(last - first, 0)
