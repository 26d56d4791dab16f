"""Simultaneous fits of Gaussians to several sources, each a point or resolved, with errors from the measured noise.

The amplitudes of the sources in each image are linear and are solved for at each step (variable projection, Golub &
Pereyra 1973).  The nonlinear parameters are the positions and, if the first source may be resolved, its size.

Pixels have weights, because they share their noise over a beam: the skirts of a source then tell hardly more than its
middle, and plain least squares would give them more than they are worth (see :func:`pixel_weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import Any

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm

from napari_almadet.measure.noise import Noise
from napari_almadet.measure.variable_projection import fitted

# Chosen by eye; `benchmarks/accuracy.py` measures what they achieve.
FREE_PLACE = 2.0  # beams within which the position of a neighbour is fitted too
ASTRAY = 0.6  # beams by which a fitted position may move from the detected one,
ASTRAY_CROWDED = 0.35  # or, if there are neighbours, so that two sources cannot swap
WIDEST = 6.0  # maximum size of a fitted Gaussian, in units of the initial one
NARROWEST = 0.25  # minimum size of a fitted Gaussian, in units of the beam axis
MOST_BIAS = 0.2  # relative: more is not taken off, for then the noise is too high for an expansion to second order
RIDGE = 1e-6  # of the mean squared norm of the shapes: keeps the matrix invertible if two shapes are nearly equal


@dataclass(frozen=True, eq=False)
class Shape:
    """A Gaussian of unit peak: its position in pixels, and its covariance along x and y, (2, 2) in pixels²."""

    x: float
    y: float
    matrix: np.ndarray

    def image(self, x: Any, y: Any) -> np.ndarray:
        """Its values at pixels."""
        dx, dy = x - self.x, y - self.y
        inverse = self.inverse
        square = inverse[0, 0] * dx * dx + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy * dy
        return np.asarray(np.exp(-0.5 * np.minimum(np.maximum(square, 0), 1400)))

    @cached_property
    def inverse(self) -> np.ndarray:
        """The inverse of its covariance, (2, 2), which numpy takes several times as long for.

        Raises
        ------
        numpy.linalg.LinAlgError
            If it has none.
        """
        (a, b), (_, c) = self.matrix.tolist()
        determinant = a * c - b * b
        if determinant == 0:
            raise np.linalg.LinAlgError("a Gaussian is infinitely narrow")
        return np.array([[c, -b], [-b, a]]) / determinant

    @cached_property
    def area(self) -> float:
        """Its integral in pixels."""
        return float(2 * np.pi * np.sqrt(np.linalg.det(self.matrix)))


@dataclass(frozen=True, eq=False)
class Fit:
    """The result of fitting the first source of a group.

    Attributes
    ----------
    shapes
        Of all sources of the group, starting with the first.
    amplitude
        Of the first in its own image.
    covariance
        Of (amplitude, x, y) or (amplitude, x, y, S_xx, S_xy, S_yy), due to noise.
    misfit
        Mean of the squared residuals in its own image, in units of the noise of a pixel: about 1 if Gaussians explain
        the image.
    bias_of
        Computes :attr:`bias`, which takes as long as the covariance and is needed of the last fits only.
    """

    shapes: tuple[Shape, ...]
    amplitude: float
    covariance: np.ndarray
    misfit: float
    bias_of: Callable[[], float] = float

    @property
    def own(self) -> Shape:
        return self.shapes[0]

    @cached_property
    def bias(self) -> float:
        """Expected relative error of the flux, amplitude times area: noise makes it too large, to second order."""
        return self.bias_of()


def fit_group(
    images: np.ndarray,
    known: np.ndarray,
    shapes: Sequence[Shape],
    beam: np.ndarray,
    free: bool,
    sigma: float,
    noise: Noise,
) -> Fit | None:
    """Fit a source and its neighbours to one image for each.

    Parameters
    ----------
    images
        Shape (sources, ny, nx): the cube weighted with each source's own spectrum.
    known
        Pixels to fit, (ny, nx).
    shapes
        Initial values; the positions of neighbours within :data:`FREE_PLACE` beams are fitted too.
    beam
        Covariance of the beam, (2, 2) in pixels².
    free
        Whether the size of the first source is fitted; otherwise its shape is fixed.
    sigma
        Noise of a pixel in the first image.

    Returns
    -------
    Fit or None
        None if the fit fails.
    """
    y, x = np.nonzero(known)
    width = np.linalg.det(beam) ** 0.25 * gaussian_sigma_to_fwhm
    moving = [i for i, s in enumerate(shapes) if np.hypot(s.x - shapes[0].x, s.y - shapes[0].y) < FREE_PLACE * width]
    if len(x) <= 2 * len(moving) + 4:
        return None
    values = images[: len(shapes), y, x].astype(float)
    if not sigma > 0:
        return None
    values = values / np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-30)
    weights = pixel_weights(shapes, beam, x, y)
    group = _Group(x.astype(float), y.astype(float), shapes, moving, free, np.sqrt(weights))
    try:
        answer, _ = fitted(values * group.root, group.shapes_at, group.owner, group.start)
    except np.linalg.LinAlgError:
        return None
    found = group.at(answer)
    if not plausible(found, shapes, beam, width):
        return None
    plane = np.zeros(known.shape)
    plane[y, x] = weights
    return covered(images, plane, found, free, sigma, noise)


def pixel_weights(shapes: Sequence[Shape], beam: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights of pixels in least squares: each source's own Gaussian to the power of the beam's over its area.

    Where noise is correlated over a beam, a fit is best if it uses the bright pixels: the best estimate of the flux of
    a point source in an image with natural weights is its peak.  A source of many beams is fitted best with equal
    weights.  For point sources the errors of flux, position and size are 10, 16 and 27 % smaller than with equal
    weights, and within 10, 12 and 25 % of the smallest possible, those of generalised least squares, which would need
    the inverse of the covariance of all pixels.
    """
    return weights_by_images(shapes, beam, np.stack([shape.image(x, y) for shape in shapes]))


def weights_by_images(shapes: Sequence[Shape], beam: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The same where the values of each source's Gaussian in the pixels are known already."""
    area = 2 * np.pi * float(np.sqrt(np.linalg.det(beam)))
    powers = [image ** min(area / shape.area, 1.0) for shape, image in zip(shapes, images, strict=True)]
    return powers[0] if len(powers) == 1 else np.max(powers, axis=0)


class _Group:
    """Gaussians at pixels (n,) as functions of the fitted parameters: free positions, and the size of the first.

    All values are multiplied with the ``root`` (n,) of the pixels' weights.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        shapes: Sequence[Shape],
        moving: Sequence[int],
        free: bool,
        root: np.ndarray,
    ) -> None:
        self.x, self.y, self.shapes, self.moving, self.free, self.root = x, y, shapes, list(moving), free, root
        self.places = np.array([(s.x, s.y) for s in shapes], float)
        self.inverses = np.linalg.inv(np.stack([s.matrix for s in shapes]))
        size = list(to_root(shapes[0].matrix)) if free else []
        self.start = np.concatenate([self.places[self.moving].ravel(), size])
        self.owner = np.array([i for i in self.moving for _ in (0, 1)] + ([0, 0, 0] if free else []))

    def _taken_apart(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = self.places.copy()
        places[self.moving] = parameters[: 2 * len(self.moving)].reshape(-1, 2)
        return places, parameters[2 * len(self.moving) :]

    def at(self, parameters: np.ndarray) -> list[Shape]:
        """The Gaussians for some parameters."""
        places, root = self._taken_apart(parameters)
        matrices = [shape.matrix for shape in self.shapes]
        if self.free:
            matrices[0] = from_root(root)
        return [Shape(float(x), float(y), matrix) for (x, y), matrix in zip(places, matrices, strict=True)]

    def shapes_at(self, parameters: np.ndarray) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
        """Their values (shapes, n), and what computes the derivatives of those by the parameters, (parameters, n)."""
        places, root = self._taken_apart(parameters)
        inverses = self.inverses
        if self.free:
            inverses = inverses.copy()
            inverses[0] = _inverse_from_root(root)
        dx, dy = self.x - places[:, :1], self.y - places[:, 1:]
        (xx, xy), yy = inverses[:, 0].T[:, :, None], inverses[:, 1, 1:]
        pull_x, pull_y = xx * dx + xy * dy, xy * dx + yy * dy
        basis = np.exp(-0.5 * np.minimum(pull_x * dx + pull_y * dy, 1400)) * self.root

        def slopes() -> np.ndarray:
            made = np.empty((len(parameters), len(self.x)))
            for k, i in enumerate(self.moving):
                np.multiply(basis[i], pull_x[i], out=made[2 * k])
                np.multiply(basis[i], pull_y[i], out=made[2 * k + 1])
            if self.free:  # by S_xx, S_xy, S_yy; those by x and y are the first two, times the pulls again
                by_size = np.stack([0.5 * made[0] * pull_x[0], made[0] * pull_y[0], 0.5 * made[1] * pull_y[0]])
                np.matmul(by_root(root), by_size, out=made[2 * len(self.moving) :])
            return made

        return basis, slopes


def plausible(found: Sequence[Shape], start: Sequence[Shape], beam: np.ndarray, width: float) -> bool:
    """Whether the fitted positions are close to the detected ones and the sizes are within their limits."""
    own = found[0].matrix
    if not np.isfinite(own).all() or not np.linalg.det(own) > 0:
        return False
    size = np.sqrt(np.linalg.eigvalsh(own))
    largest = np.sqrt(np.linalg.eigvalsh(start[0].matrix)[-1])
    smallest = np.sqrt(np.linalg.eigvalsh(beam)[0])
    if size[0] < NARROWEST * smallest or size[-1] > WIDEST * largest:
        return False
    reach = (ASTRAY if len(found) == 1 else ASTRAY_CROWDED) * max(width, gaussian_sigma_to_fwhm * largest)
    return all(np.hypot(a.x - b.x, a.y - b.y) <= reach for a, b in zip(found, start, strict=True))


def covered(
    images: np.ndarray, weights: np.ndarray, shapes: Sequence[Shape], free: bool, sigma: float, noise: Noise
) -> Fit | None:
    """A fit with the covariance of the first source's parameters: A J' W C W J A with A = (J' W J)^-1.

    C is the measured covariance of the noise, W the ``weights`` of the pixels (ny, nx), 0 where there is no data.
    Amplitudes and positions of neighbours are included; the image is that of the first source.
    """
    part = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(weights))
    weights, images = weights[part], images[:, *part]
    known = weights > 0
    yy, xx = np.mgrid[part]
    basis = np.stack([shape.image(xx, yy) for shape in shapes]) * known
    flat = basis.reshape(len(basis), -1)
    weighted = flat * weights.ravel()
    gram = weighted @ flat.T
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    image = np.where(known, images[0], 0)
    heights = np.linalg.solve(gram, weighted @ image.ravel())
    amplitude = float(heights[0])
    if not amplitude > 0:
        return None
    rest = image - np.tensordot(heights, basis, 1)
    jacobian = [basis[0], *(amplitude * slope * known for slope in slopes(shapes[0], basis[0], xx, yy, free))]
    for height, shape, own in zip(heights[1:], shapes[1:], basis[1:], strict=True):
        jacobian += [own, *(height * slope * known for slope in slopes(shape, own, xx, yy, False))]
    derivatives = np.stack(jacobian)
    solved = sandwich(derivatives, weights, noise)
    if solved is None:
        return None
    used = 6 if free else 3
    covariance = sigma**2 * solved.covariance[:used, :used]
    misfit = float((rest**2).sum() / (np.count_nonzero(known) * sigma**2))

    def bias() -> float:
        curved = curvature(shapes[0], amplitude, basis[0], xx, yy, free)
        return flux_bias(amplitude, shapes[0].matrix, curved, derivatives, weights, solved, sigma)

    return Fit(tuple(shapes), amplitude, covariance, misfit, bias)


def slopes(shape: Shape, image: np.ndarray, x: np.ndarray, y: np.ndarray, size: bool) -> list[np.ndarray]:
    """Derivatives of a Gaussian of unit peak by x, y and, optionally, S_xx, S_xy, S_yy."""
    offset = np.stack([x - shape.x, y - shape.y])
    pull = np.tensordot(shape.inverse, offset, 1)
    by = [image * pull[0], image * pull[1]]
    if size:
        by += [0.5 * image * pull[0] ** 2, image * pull[0] * pull[1], 0.5 * image * pull[1] ** 2]
    return by


@dataclass(frozen=True, eq=False)
class Solved:
    """What follows from the derivatives J of an image by n parameters that were fitted in unit noise of covariance C.

    Attributes
    ----------
    inverse
        A = (J' W J)^-1, (n, n).
    covariance
        A J' W C W J A, (n, n).
    seen
        C W J, (n, pixels).
    """

    inverse: np.ndarray
    covariance: np.ndarray
    seen: np.ndarray


def sandwich(jacobian: np.ndarray, weights: np.ndarray, noise: Noise) -> Solved | None:
    """Covariance of parameters fitted by least squares to an image of unit noise; None if they are degenerate.

    Parameters
    ----------
    jacobian
        Their derivatives, (n, ny, nx).
    weights
        Of the pixels, (ny, nx).
    """
    flat = jacobian.reshape(len(jacobian), -1)
    norm = np.sqrt((flat**2 * weights.ravel()).sum(axis=1))
    if not (norm > 0).all():
        return None
    flat = flat / norm[:, None]
    weighted = flat * weights.ravel()
    seen = noise.correlated(weighted.reshape(jacobian.shape)).reshape(flat.shape)
    try:
        inverse = np.linalg.inv(weighted @ flat.T + 1e-9 * np.eye(len(flat)))
    except np.linalg.LinAlgError:
        return None
    covariance = inverse @ (seen @ weighted.T) @ inverse
    scales = np.outer(norm, norm)
    if not (np.isfinite(covariance).all() and (np.diag(covariance) > 0).all()):
        return None
    return Solved(inverse / scales, covariance / scales, seen * norm[:, None])


def curvature(
    shape: Shape, amplitude: float, image: np.ndarray, x: np.ndarray, y: np.ndarray, size: bool
) -> np.ndarray:
    """Second derivatives of a Gaussian by amplitude, x, y and, optionally, S_xx, S_xy, S_yy: (n, n, pixels)."""
    inverse = shape.inverse
    px, py = np.tensordot(inverse, np.stack([x - shape.x, y - shape.y]), 1).reshape(2, -1)
    own, one, none = image.ravel(), np.ones(image.size), np.zeros(image.size)
    column_x, column_y = inverse[:, :1] * one, inverse[:, 1:] * one
    moves = [-column_x, -column_y]  # of (px, py) by each parameter
    by = [px, py]  # derivatives of the logarithm
    if size:
        moves += [-column_x * px, -(column_x * py + column_y * px), -column_y * py]
        by += [0.5 * px**2, px * py, 0.5 * py**2]
    turned = [[mx, my, px * mx, mx * py + px * my, py * my][: len(by)] for mx, my in moves]
    second = [[own * (a * b + t) for a, t in zip(by, row, strict=True)] for b, row in zip(by, turned, strict=True)]
    first = [own * a for a in by]
    rows = [[none, *first]] + [[f, *(amplitude * s for s in row)] for f, row in zip(first, second, strict=True)]
    return np.array(rows)


def flux_bias(
    amplitude: float,
    matrix: np.ndarray,
    curved: np.ndarray,
    jacobian: np.ndarray,
    weights: np.ndarray,
    solved: Solved,
    sigma: float,
) -> float:
    """Expected relative error of a fitted flux, amplitude times area, to second order in the noise.

    A fit finds the place and the size at which the noise adds most, so that fluxes are too large on average, by about
    one over the square of the S/N for each parameter that is not linear.  The expansion is that of Box (1971, J. R.
    Stat. Soc. B 33, 171), with two terms more because the noise of pixels is correlated and the weights are not its
    inverse covariance.

    Parameters
    ----------
    curved
        As :func:`curvature` gives it.
    jacobian
        Derivatives by the parameters of the source and its neighbours, (n, ny, nx).
    """
    used = len(curved)
    flat, weight = jacobian.reshape(len(jacobian), -1), weights.ravel()
    covariance = solved.covariance
    # expected products of what the noise leaves in the pixels and of the errors of the parameters: (parameters, pixels)
    left = (solved.inverse @ solved.seen - covariance @ flat)[:used] * weight
    pull = np.zeros(len(flat))
    pull[:used] = np.einsum("klp,lp->k", curved, left)
    bent = np.einsum("klp,kl->p", curved, covariance[:used, :used])
    shift = (solved.inverse @ (pull - 0.5 * (flat * weight) @ bent))[:used]
    gradient, second = np.zeros(used), np.zeros((used, used))
    gradient[0], second[0, 0] = 1 / amplitude, -1 / amplitude**2
    if used > 3:
        inverse = np.linalg.inv(matrix)
        sides = [np.array(side, float) for side in ([[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]])]
        turned = [inverse @ side for side in sides]
        gradient[3:] = [0.5 * np.trace(side) for side in turned]
        second[3:, 3:] = [[-0.5 * np.trace(one @ other) for other in turned] for one in turned]
    second += np.outer(gradient, gradient)
    bias = sigma**2 * float(gradient @ shift + 0.5 * (second * covariance[:used, :used]).sum())
    return float(np.clip(bias, -MOST_BIAS, MOST_BIAS)) if np.isfinite(bias) else 0.0


def to_root(matrix: np.ndarray) -> np.ndarray:
    """Unconstrained parameters of a covariance: its Cholesky factor, with the logarithm of the diagonal."""
    root = np.linalg.cholesky(matrix)
    return np.array([np.log(root[0, 0]), root[1, 0], np.log(root[1, 1])])


def _diagonal(parameters: np.ndarray) -> tuple[float, float, float]:
    """The parameters of `to_root` without the logarithms: the entries of the Cholesky factor."""
    a, b, c = parameters.tolist()
    return exp(min(max(a, -20.0), 20.0)), b, exp(min(max(c, -20.0), 20.0))


def from_root(parameters: np.ndarray) -> np.ndarray:
    """The covariance from the parameters of `to_root`."""
    a, b, c = _diagonal(parameters)
    root = np.array([[a, 0.0], [b, c]])
    return root @ root.T


def _inverse_from_root(parameters: np.ndarray) -> np.ndarray:
    """The inverse of what `from_root` makes."""
    a, b, c = _diagonal(parameters)
    off, tilt = -b / (a * c * c), b / (a * c)
    return np.array([[1 / a**2 + tilt * tilt, off], [off, 1 / c**2]])  # a power would not overflow to infinity


def by_root(parameters: np.ndarray) -> np.ndarray:
    """Derivatives of (S_xx, S_xy, S_yy), the columns, by the parameters of `to_root`, the rows."""
    a, b, c = _diagonal(parameters)
    return np.array([[2 * a * a, a * b, 0.0], [0.0, a, 2 * b], [0.0, 0.0, 2 * c * c]])
