"""Whether a detection next to a brighter one is a separate source: comparison of fits with two sources and with one.

The classifier sees each detection separately, and a detection on the flank of another may be part of its shape.  Here
both are fitted together.  If the noise is correlated like the beam, the likelihood does not require the inverse of its
covariance: it depends only on the value, at the position of a source, of the image smoothed with the deconvolved
source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.measure.focus import Cutout, over_noise
from napari_almadet.measure.gaussian_fit import beams_apart

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

SAMPLED = 0.6  # pixels, minimum sigma of a Gaussian: sums over pixels do not represent narrower ones
WIDEST = 2.0  # beams, maximum sigma of a deconvolved source; chosen by eye
PARTED = (0.7, 1.7)  # beams, distances of two sources that such a fit can separate; chosen by eye
STRAY = 0.6  # beams by which the position of the fainter one may change in the fit; chosen by eye
NEEDED = 6.0  # sigma by which two sources must fit better than one; chosen by eye with the pairs of `almadet evaluate`
ALIKE = 1e-3  # relative difference below which two spectra count as the same; chosen by eye


@dataclass(frozen=True)
class Blob:
    """A deconvolved Gaussian source: its position (y, x) in pixels, and its covariance, (2, 2)."""

    place: np.ndarray
    shape: np.ndarray

    @classmethod
    def round(cls, y: float, x: float, sigma: float) -> Blob:
        """One of equal axes."""
        return cls(np.array([y, x]), (sigma**2 + SAMPLED**2) * np.eye(2))


class Likelihood:
    """Likelihood of sources with given positions and shapes, maximised over their brightness in each image.

    Parameters
    ----------
    images
        (k, ny, nx), in units of their noise, which is independent from image to image.
    beam
        Covariance along y and x, (2, 2) in pixels².
    """

    def __init__(self, images: np.ndarray, beam: np.ndarray):
        self.beam = beam
        self.places = np.indices(images.shape[1:]).reshape(2, -1).T.astype(float)
        self.values = images.reshape(len(images), len(self.places))

    def seen(self, blob: Blob) -> np.ndarray:
        """The images smoothed with a source, at its place: (k,)."""
        weight = gaussian(self.places - blob.place, blob.shape) / (2 * np.pi * np.sqrt(np.linalg.det(blob.shape)))
        return self.values @ weight

    def __call__(self, blobs: list[Blob]) -> float:
        """Twice the logarithm of the likelihood ratio to pure noise, for the best-fitting brightnesses."""
        alike = np.array(
            [
                [likeness(one.place - other.place, one.shape + other.shape, self.beam) for other in blobs]
                for one in blobs
            ]
        )
        seen = np.array([self.seen(blob) for blob in blobs])
        return float((seen * (np.linalg.pinv(alike, rcond=1e-6, hermitian=True) @ seen)).sum())


def likeness(apart: np.ndarray, shape: np.ndarray, beam: np.ndarray) -> float:
    """Covariance, over a voxel's variance, of two sources of unit flux in noise that has the beam's shape.

    ``apart`` (2,) is from one to the other, ``shape`` the sum of their covariances, ``beam`` that of the beam.
    """
    wide = beam + shape
    return float(np.sqrt(np.linalg.det(beam) / np.linalg.det(wide)) * gaussian(apart, wide))


def gaussian(apart: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """A Gaussian of covariance ``shape`` with a peak of 1, at ``apart`` (..., 2) from it."""
    return np.exp(-0.5 * np.einsum("...i,ij,...j", apart, np.linalg.inv(shape), apart))


def weighted_images(cutout: Cutout, spectra: list[np.ndarray]) -> np.ndarray:
    """A cutout summed over channels with the weights that sources of these ``spectra`` ask for.

    Parameters
    ----------
    spectra
        (channels,) each, in one unit; those that are the same but for a factor count once.

    Returns
    -------
    numpy.ndarray
        (k, ny, nx), independent of each other, in units of their noise; k is 0 where no channel has any.
    """
    planes, noise = over_noise(cutout.planes)
    weights = [spectrum / noise for spectrum in spectra]
    weights = [weight / np.linalg.norm(weight) for weight in weights if weight.any()]
    if not weights:
        return planes[:0]
    _, size, rows = np.linalg.svd(weights, full_matrices=False)
    return np.tensordot(rows[size > ALIKE * size[0]], planes, axes=1)


def two_sources(
    likelihood: Likelihood, first: Blob, second: Blob, others: list[Blob]
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Fit two sources, starting from the given ones, and a single source.

    The single one may be elliptical, while the two are round, which favours a single source.  Sources in ``others`` are
    included unchanged in both cases.

    Returns
    -------
    sigma, first, second
        The square root of twice the logarithm of the likelihood ratio, and the two positions (y, x); None if one source
        suffices, or if the two have moved too far from the given ones.
    """
    from scipy.optimize import minimize

    sigma = float(np.linalg.det(likelihood.beam)) ** 0.25

    def ellipse(p: np.ndarray) -> list[Blob]:
        root = np.array([[p[2], 0], [p[3], p[4]]])
        return [Blob(p[:2], root @ root.T + SAMPLED**2 * np.eye(2)), *others]

    def pair(p: np.ndarray) -> list[Blob]:
        return [*(Blob.round(y, x, min(abs(s), WIDEST * sigma)) for y, x, s in (p[:3], p[3:])), *others]

    def best(blobs: Callable[[np.ndarray], list[Blob]], *start: float) -> OptimizeResult:
        options = {"maxiter": 800, "xatol": 0.02, "fatol": 0.02}
        return minimize(lambda p: -likelihood(blobs(p)), start, method="Nelder-Mead", options=options)

    sizes = [max(np.linalg.det(blob.shape) ** 0.25, 1.0) for blob in (first, second)]
    one = best(ellipse, *first.place, sizes[0], 0.0, sizes[0])
    two = best(pair, *first.place, sizes[0], *second.place, sizes[1])
    places = two.x[:2], two.x[3:5]
    offsets = (places[1] - places[0], places[1] - second.place)
    apart, moved = (float(beams_apart(dy, dx, likelihood.beam)) for dy, dx in offsets)  # its beam is in (y, x)
    better = float(np.sqrt(max(one.fun - two.fun, 0.0)))
    if better < NEEDED or not PARTED[0] < apart < PARTED[1] or moved > STRAY:
        return None
    return better, *places
