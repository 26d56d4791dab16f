"""Conversion of pixel boxes to rotated boxes on the sky, shared by the code that writes and that reads regions."""

from __future__ import annotations

import numpy as np


def turned_boxes(axes: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half sides and position of boxes whose half sides along x and y are mapped to the sky.

    As `regions` has it (``RectanglePixelRegion.to_sky``): the ellipse in the box is mapped, and what its axes become
    are those of the box on the sky.

    Parameters
    ----------
    axes
        East and north (second axis) of what the half sides along x and y (third) become, shape (n, 2, 2), any unit.
    square
        Which of the boxes are squares of pixels, (n,): any axis of a circle is as good, and x' is taken.

    Returns
    -------
    sides
        The half width and half height, (n, 2), in the unit of ``axes``.
    angle
        Of the width, degrees (n,), from the axis of longitude to north.
    """
    directions, lengths, _ = np.linalg.svd(axes)
    along = np.einsum("nij,ni->nj", directions, axes[:, :, 0])
    one = np.arange(len(axes)), np.argmax(np.abs(along), axis=1)  # the axis that was the width
    other = one[0], 1 - one[1]
    direction = np.moveaxis(directions, 1, 2)[one] * np.sign(along[one])[:, None]
    direction = np.where(square[:, None], axes[:, :, 0], direction)
    angle = (np.degrees(np.arctan2(direction[:, 0], direction[:, 1])) + 90) % 360
    return np.column_stack([lengths[one], lengths[other]]), angle
