"""One-to-one matching of candidates with true sources, and the rates that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.stats import binom_conf_interval
from scipy.optimize import linear_sum_assignment

RADIUS = 3.0  # px


def match(
    truth: np.ndarray, found: np.ndarray, allowed: np.ndarray | None = None, radius: float = RADIUS
) -> np.ndarray:
    """Pair true sources with candidates so that nothing is claimed twice and the most pairs count.

    Parameters
    ----------
    truth, found
        Centres, shape (n, 2) and (m, 2), in pixels.
    allowed
        Shape (n, m), False where a pair must not count whatever its distance, e.g. because
        the channel ranges do not overlap.
    radius
        Largest distance of a pair.

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
    # An impossible pair costs more than all possible ones together, so the most possible pairs are made.
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
        """The fraction; NaN of nothing."""
        return self.hits / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval; NaN of nothing."""
        if not self.total:
            return float("nan"), float("nan")
        low, high = binom_conf_interval(self.hits, self.total, confidence_level=0.95, interval="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] ({self.hits}/{self.total})"
