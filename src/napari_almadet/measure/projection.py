"""Least squares for sums of shapes whose heights are linear: only what is not is iterated (variable projection).

Golub & Pereyra (1973), with the derivatives of Kaufman (1975): in each step the heights are solved for, and the slopes
of the shapes are taken without what the shapes themselves explain.  Damped as Levenberg and Marquardt do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STEPS = 40
PRECISION = 1e-7  # of the sum of squares, by which a step that changes it less is the last
RIDGE = 1e-6  # of a shape's square, added so that twins can be told apart from one


def heights(data: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Least-squares heights of shapes (m, n) in data (k, n): (k, m)."""
    gram = basis @ basis.T
    gram[np.diag_indices(len(gram))] *= 1 + RIDGE
    return np.linalg.solve(gram, basis @ data.T).T


def fitted(
    data: np.ndarray,
    shapes_at: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    owner: np.ndarray,
    start: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Parameters of shapes that explain some data best, and the sum of squares that is left.

    Parameters
    ----------
    data
        Shape (k, n): all shapes are in each of the k, with heights of their own.
    shapes_at
        Gives, for parameters (p,), the shapes (m, n) and their slopes (p, n).
    owner
        Which shape each parameter belongs to, (p,).
    start
        Parameters to start from, (p,).
    """
    now, damping = np.array(start, float), 1e-3
    basis, slopes = shapes_at(now)
    high = heights(data, basis)
    left = data - high @ basis
    cost = float(np.vdot(left, left))
    for _ in range(STEPS):
        inner = slopes - heights(slopes, basis) @ basis
        own = high[:, owner]
        normal = (own.T @ own) * (inner @ inner.T)
        pull = (own * (left @ inner.T)).sum(axis=0)
        scale = np.maximum(np.diag(normal), 1e-30 * max(float(np.diag(normal).max()), 1e-300))
        better = False
        for _ in range(8):
            step = np.linalg.solve(normal + damping * np.diag(scale), pull)
            new_basis, new_slopes = shapes_at(now + step)
            new_high = heights(data, new_basis)
            new_left = data - new_high @ new_basis
            new_cost = float(np.vdot(new_left, new_left))
            if np.isfinite(new_cost) and new_cost <= cost:
                better = True
                break
            damping = max(damping, 1e-6) * 8
        if not better:
            break
        gain = cost - new_cost
        now, basis, slopes, high, left, cost = now + step, new_basis, new_slopes, new_high, new_left, new_cost
        damping = max(damping / 8, 1e-9)
        if gain <= PRECISION * cost:
            break
    return now, cost
