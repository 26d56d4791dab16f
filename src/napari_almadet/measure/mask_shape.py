"""Shape parameters of a masked source: centroid, ellipses, kinematic position angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_almadet.measure.cutout import Cutout

BRIGHT = 3.0  # sigma in the mask's image, above which a pixel is used for the 3-sigma ellipse: as SoFiA-2's ell3s
ROTATING = 3.0  # sigma by which a velocity gradient must differ from zero; convention
FEW = 6  # pixels, the minimum for an ellipse; derived: it has five parameters


@dataclass(frozen=True, eq=False)
class MaskShape:
    """Shape parameters of the image of a mask, in pixels of the cutout.

    Attributes
    ----------
    centre, centre_errors
        Flux-weighted (x, y).
    matrix, covariance
        Its second moments, (2, 2), and the covariance of (S_xx, S_xy, S_yy); None where there are too few pixels.
    bright
        Second moments of the pixels above :data:`BRIGHT`, equally weighted.
    gradient, gradient_errors
        Of the mean channel, along x and y, in channels per pixel.
    """

    centre: tuple[float, float]
    centre_errors: tuple[float, float]
    matrix: np.ndarray | None
    covariance: np.ndarray | None
    bright: np.ndarray | None
    gradient: tuple[float, float]
    gradient_errors: tuple[float, float]

    @property
    def rotates(self) -> bool:
        """Whether it has a significant velocity gradient."""
        strength = np.hypot(*np.divide(self.gradient, np.maximum(self.gradient_errors, 1e-30)))
        return bool(strength > ROTATING)  # False where it is not known


def shape_of(cutout: Cutout, lines: np.ndarray, mask: np.ndarray) -> MaskShape | None:
    """Centre, ellipses and velocity gradient of the emission in a mask; None if there is none.

    Parameters
    ----------
    lines
        Planes without continuum, 0 where there is no data.
    mask
        Voxels of the source.
    """
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    lines_in_mask = np.where(mask[used], lines[used], 0)
    image = lines_in_mask.sum(axis=0, dtype=float)
    total = image.sum()
    if not total > 0:
        return None
    channels = mask[used].sum(axis=0)
    variance = np.tensordot(cutout.rms[used] ** 2, mask[used], 1) * cutout.noise.over(
        int(np.median(channels[channels > 0]))
    )
    sigma = np.sqrt(variance) * cutout.level
    y, x = np.indices(image.shape)
    positive = np.where(image > 0, image, 0)
    centre = float((image * x).sum() / total), float((image * y).sum() / total)
    near = all(0 <= c <= n - 1 for c, n in zip(centre, image.shape[::-1], strict=True))
    if not near:
        bright_part = positive.sum()
        centre = float((positive * x).sum() / bright_part), float((positive * y).sum() / bright_part)
    dx, dy = x - centre[0], y - centre[1]

    def error_of(weights: np.ndarray) -> np.ndarray:
        scaled = weights * sigma
        flat = scaled.reshape(len(scaled), -1)
        return cutout.noise.correlated(scaled).reshape(flat.shape) @ flat.T

    inside = channels > 0
    by_noise = np.sqrt(np.maximum(np.diag(error_of(np.stack([dx, dy]) * inside / total)), 0))
    matrix = covariance = bright = None
    if np.count_nonzero(positive) >= FEW:
        norm = positive.sum()
        squares = np.stack([dx * dx, dx * dy, dy * dy])
        xx, xy, yy = (positive * squares).sum(axis=(1, 2)) / norm
        matrix = np.array([[xx, xy], [xy, yy]]) + np.eye(2) / 12  # a pixel's own
        covariance = error_of((squares - np.array([xx, xy, yy])[:, None, None]) * (positive > 0) / norm)
        over = image > BRIGHT * sigma
        if np.count_nonzero(over & inside) >= FEW:
            bright = np.cov(np.stack([x[over & inside], y[over & inside]]), bias=True) + np.eye(2) / 12
    gradient, errors = gradient_of(lines_in_mask, image, sigma, used, dx, dy)
    return MaskShape(centre, (float(by_noise[0]), float(by_noise[1])), matrix, covariance, bright, gradient, errors)


def gradient_of(
    lines_in_mask: np.ndarray,
    image: np.ndarray,
    sigma: np.ndarray,
    channels: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Gradient along x and y of the mean channel of each pixel, with errors from the scatter about the fitted plane."""
    good = image > BRIGHT * np.maximum(sigma, 1e-30)
    if np.count_nonzero(good) < 2 * FEW:
        return (np.nan, np.nan), (np.nan, np.nan)
    mean = np.tensordot(channels.astype(float), lines_in_mask[:, good], 1) / image[good]
    weight = image[good] / image[good].max()
    terms = np.stack([np.ones(len(mean)), dx[good], dy[good]], axis=1)
    root = np.sqrt(weight)[:, None]
    answer = np.linalg.lstsq(terms * root, mean * root[:, 0], rcond=None)[0]
    rest = mean - terms @ answer
    spread = (weight * rest**2).sum() / weight.sum()
    inverse = np.linalg.pinv((terms * weight[:, None]).T @ terms)
    beams = 12.0  # correlated pixels per beam: a typical beam, well sampled
    errors = np.sqrt(np.diag(inverse) * spread * beams * weight.mean())
    return (float(answer[1]), float(answer[2])), (float(errors[1]), float(errors[2]))
