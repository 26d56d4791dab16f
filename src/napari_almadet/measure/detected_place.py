"""The place of a compact source: that of its detection, with an error that holds for it.

A least-squares fit is not the best way to place a source in noise that is correlated like the beam: the maximum of the
image, smoothed with the source's size without the beam, is.  For a point its error is 0.42 FWHM over the S/N, that of
the fit 0.49 (`tests/measure/test_detected_place.py` compares them).  The detection's place is this maximum, or, next to
other sources, Source Finder's.

Beside a neighbour that is hardly resolved from it both of these are moved by the neighbour's emission, which a joint
fit allows for.  The place is then that of the fit, unless Gaussians do not explain the image: such a fit may move to
the neighbour.
"""

from __future__ import annotations

import numpy as np

from napari_almadet.measure.gaussian_group import Shape, pixel_weights, sandwich, slopes
from napari_almadet.measure.noise import Noise

Place = tuple[float, float, float, float]  # x, y and their errors, in pixels

# Mean squared residual of a joint fit over the noise, from which it does not explain the image.  Of 70 sources of pairs
# at 1 to 1.6 beams, in CLEANed and dirty cubes, none has over 1.5, but two that were detected as one, with 7
# (`benchmarks/accuracy.py --kinds "close pairs"`, and `dirty` with pairs).
EXPLAINED = 2.5
APART = 3.0  # sigma, from which two measured places are not one; convention
SAMPLED = 0.6  # pixels, least sigma of a Gaussian that is summed over pixels
REACH = 4.0  # sigma of a Gaussian, beyond which it is neglected: 3e-4 of its peak


def detected_place(
    x: float,
    y: float,
    fitted: Place,
    shape: np.ndarray,
    beam: np.ndarray,
    noise: Noise,
    misfit: float | None = None,
) -> Place:
    """Place of a detection with its errors, by those of a fit to the same source.

    If the two are over :data:`APART` errors apart, half of what they are further apart is part of the error.  Beside a
    near neighbour the place is that of the fit.  If Gaussians do not explain the image there, it is the detection's,
    and half of the difference between the two is part of the error.

    Parameters
    ----------
    x, y
        Of the detection.
    fitted
        The place that was fitted; NaN if that failed, and so are the errors then.
    shape, beam
        Covariances of the source and of the beam, (2, 2) in pixels².
    noise
        Of the cube.
    misfit
        If a neighbour is so near that its emission is part of the maximum, the mean squared residual of the joint fit
        in units of the noise (:attr:`~napari_almadet.measure.gaussian_group.Fit.misfit`).
    """
    blended = misfit is not None
    if misfit is not None and misfit < EXPLAINED and np.isfinite(fitted).all():
        return fitted
    share = np.ones(2) if blended else share_of_error(shape, beam, noise)
    apart = 0.0 if blended else APART
    errors = [
        float(np.hypot(part * error, 0.5 * np.sqrt(max((own - other) ** 2 - (apart * error) ** 2, 0.0))))
        for own, other, error, part in zip((x, y), fitted[:2], fitted[2:], share, strict=True)
    ]
    return (x, y, errors[0], errors[1])


def share_of_error(shape: np.ndarray, beam: np.ndarray, noise: Noise) -> np.ndarray:
    """Error of the maximum of a smoothed image over that of a least-squares fit, (2,), for x and y; at most 1.

    Parameters
    ----------
    shape, beam
        As for :func:`detected_place`; the image is smoothed with the source's size without the beam.
    """
    half = np.ceil(REACH * np.sqrt(np.diag(shape))).astype(int)
    y, x = np.mgrid[-half[1] : half[1] + 1, -half[0] : half[0] + 1]
    own = Shape(0.0, 0.0, shape)
    image = own.image(x, y)
    pixels = pixel_weights([own], beam, x, y)
    by_fit = sandwich(np.stack([image, *slopes(own, image, x, y, False)]), pixels, noise)
    if by_fit is None:
        return np.ones(2)
    kernel = Shape(0.0, 0.0, without_beam(shape, beam))
    weights = kernel.image(x, y)
    by_place = np.stack(slopes(kernel, weights / weights.sum(), x, y, False))
    gradient = by_place.reshape(2, -1) @ noise.correlated(by_place).reshape(2, -1).T  # covariance of the noise's
    smoothed = shape + kernel.matrix
    unbend = smoothed * np.sqrt(np.linalg.det(smoothed) / np.linalg.det(shape))  # inverse curvature of the maximum
    of_maximum = unbend @ gradient @ unbend
    return np.asarray(np.sqrt(np.minimum(np.diag(of_maximum) / np.diag(by_fit.covariance)[1:], 1.0)))


def without_beam(shape: np.ndarray, beam: np.ndarray) -> np.ndarray:
    """Covariance of a source without the beam, each axis at least as wide as pixels can sample."""
    squares, axes = np.linalg.eigh(shape - beam)
    return np.asarray((axes * np.maximum(squares, SAMPLED**2)) @ axes.T)
