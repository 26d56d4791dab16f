"""Least squares for sums of shapes whose heights are linear: only what is not is iterated (variable projection).

Golub & Pereyra (1973), with the derivatives of Kaufman (1975): in each step the heights are solved for, and the slopes
of the shapes are taken without what the shapes themselves explain.  Damped as Levenberg and Marquardt do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STEPS = 40  # maximum number of iterations; chosen by eye
PRECISION = 1e-7  # of the sum of squares, by which a step that changes it less is the last
TRIES = 8  # of a step, each shorter than the one before
FULFILLED = 0.25  # of what a step promises, that lets the next one be longer (Marquardt 1963)
TINY = 1e-200  # square of a shape that is as good as 0
RIDGE = 1e-6  # of a shape's square, added so that twins can be told apart from one


def heights(data: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Least-squares heights of shapes (m, n) in data (k, n): (k, m)."""
    return (data @ basis.T) @ _inverse_gram(basis)


def _inverse_gram(basis: np.ndarray) -> np.ndarray:
    """Inverse of the shapes' products with each other, (m, m).

    Raises
    ------
    numpy.linalg.LinAlgError
        If a shape is 0 everywhere, so that there is no telling how high it is.
    """
    gram = basis @ basis.T
    gram.flat[:: len(gram) + 1] *= 1 + RIDGE
    if len(gram) > 1:
        return np.linalg.inv(gram)
    if not gram[0, 0] > TINY:
        raise np.linalg.LinAlgError("a shape is 0 everywhere")
    return 1 / gram


class _State:
    """Shapes at some parameters, their heights, and what they leave of the data."""

    def __init__(self, data: np.ndarray, basis: np.ndarray, slopes: Callable[[], np.ndarray]) -> None:
        self.basis, self.slopes = basis, slopes
        self.inverse = _inverse_gram(basis)
        self.high = (data @ basis.T) @ self.inverse
        self.left = data - self.high @ basis
        self.cost = float(np.vdot(self.left, self.left))

    def normal(self, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and right hand side of the normal equations for a step of the parameters."""
        slopes = self.slopes()
        inner = slopes - ((slopes @ self.basis.T) @ self.inverse) @ self.basis
        own = self.high[:, owner]
        return (own.T @ own) * (inner @ inner.T), (own * (self.left @ inner.T)).sum(axis=0)


def fitted(
    data: np.ndarray,
    shapes_at: Callable[[np.ndarray], tuple[np.ndarray, Callable[[], np.ndarray]]],
    owner: np.ndarray,
    start: np.ndarray,
    precision: float = PRECISION,
    steps: int = STEPS,
) -> tuple[np.ndarray, float]:
    """Parameters of shapes that explain some data best, and the sum of squares that is left.

    Parameters
    ----------
    data
        Shape (k, n): all shapes are in each of the k, with heights of their own.
    shapes_at
        Gives, for parameters (p,), the shapes (m, n), and what computes their slopes (p, n) when they are needed.
    owner
        Which shape each parameter belongs to, (p,).
    start
        Parameters to start from, (p,).
    precision
        Of the sum of squares, by which a step that changes it less is the last.
    steps
        At most.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of steps that go nowhere, which are not taken
        return _fitted(data, shapes_at, owner, start, precision, steps)


def _fitted(
    data: np.ndarray,
    shapes_at: Callable[[np.ndarray], tuple[np.ndarray, Callable[[], np.ndarray]]],
    owner: np.ndarray,
    start: np.ndarray,
    precision: float,
    steps: int,
) -> tuple[np.ndarray, float]:
    now, damping = np.array(start, float), 1e-3
    state = _State(data, *shapes_at(now))
    for _ in range(steps):
        normal, pull = state.normal(owner)
        diagonal = normal.flat[:: len(normal) + 1]
        scale = np.maximum(diagonal, 1e-30 * max(float(diagonal.max()), 1e-300))
        for _ in range(TRIES):
            damped = normal.copy()
            damped.flat[:: len(normal) + 1] += damping * scale
            step = np.linalg.solve(damped, pull)
            new = _State(data, *shapes_at(now + step))
            if new.cost <= state.cost:
                break
            damping = max(damping, 1e-6) * 8
        else:
            break
        gain = state.cost - new.cost
        # where a step brings less than it promised, the next is no longer: it would be refused as often as not
        if gain > FULFILLED * float(step @ (pull + damping * scale * step)):
            damping = max(damping / 8, 1e-9)
        now, state = now + step, new
        if gain <= precision * state.cost:
            break
    return now, state.cost
