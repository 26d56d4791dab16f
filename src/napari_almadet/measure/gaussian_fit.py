"""Elliptical Gaussians: fitted to an image whose noise has the shape of the beam, seen on the sky, freed of the beam.

The shape of a Gaussian is its covariance, a symmetric matrix (2, 2).  Convolution adds such matrices,
deconvolution subtracts them (Wild 1970), and a change of axes with Jacobian J makes J S J^T of S, so that pixels may be
oblong, rotated or both.

The error of a least-squares fit whose noise is correlated is (J^T J)^-1 J^T C J (J^T J)^-1, with J the derivatives
of the model by its parameters and C the covariance of the pixels' noise.  It holds for any shape and noise; for
independent pixels it is Condon's (1997, PASP 109, 166).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma, gaussian_sigma_to_fwhm

from napari_almadet.constants import ARCSEC_PER_DEGREE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from radio_beam import Beam

    from napari_almadet.cube.cube import Cube


RESOLVED = 2.0  # standard deviations by which an axis must be wider than the beam


def sky_matrix(cube: Cube, x: ArrayLike, y: ArrayLike) -> np.ndarray | None:
    """How far one pixel along x and along y leads to the East and to the North, in arcsec; None without WCS.

    North is that of the cube's own frame, from which FITS counts the beam's angle too.

    Parameters
    ----------
    x, y
        0-based pixels, shape (...).

    Returns
    -------
    numpy.ndarray or None
        Shape (..., 2, 2): rows East and North, columns x and y.
    """
    if cube.celestial is None:
        return None
    px, py = (np.asarray(v, dtype=float) for v in (x, y))
    xs = np.stack([px, px + 0.5, px - 0.5, px, px], axis=-1)
    ys = np.stack([py, py, py, py + 0.5, py - 0.5], axis=-1)
    lon, lat = (np.radians(v).reshape(xs.shape) for v in cube.celestial.wcs_pix2world(xs.ravel(), ys.ravel(), 0))
    there = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-2)
    lon, lat = lon[..., 0], lat[..., 0]
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
    north = np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)
    steps = there[..., 1::2] - there[..., 2::2]
    return np.degrees(np.stack([east, north], axis=-2) @ steps) * ARCSEC_PER_DEGREE


def beam_matrix(beam: Beam) -> np.ndarray:
    """Shape of a beam on the sky, (2, 2) in arcsec² along East and North."""
    angle = beam.pa.to_value("rad")
    axes = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])  # major, minor
    sigma = gaussian_fwhm_to_sigma * np.array([beam.major.to_value("arcsec"), beam.minor.to_value("arcsec")])
    return axes.T @ np.diag(sigma**2) @ axes


def beams_apart(dx: ArrayLike, dy: ArrayLike, beam: np.ndarray) -> np.ndarray:
    """Distances (...) in units of the beam's FWHM along their direction.

    Parameters
    ----------
    dx, dy
        In pixels, (...).
    beam
        Covariance, (2, 2) in pixels².

    Examples
    --------
    >>> import numpy as np
    >>> beam = np.diag([8.0, 4.0]) ** 2 * gaussian_fwhm_to_sigma**2  # FWHM of 8 pixels along x and 4 along y
    >>> beams_apart([8.0, 0.0], [0.0, 8.0], beam)
    array([1., 2.])
    """
    offset = np.stack([np.asarray(dx, float), np.asarray(dy, float)])
    return np.asarray(np.sqrt(np.einsum("i...,ij,j...", offset, np.linalg.inv(beam), offset)) * gaussian_fwhm_to_sigma)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian fitted to an image, in the image's unit and pixels.

    ``matrix`` is its shape, (2, 2) along x and y, ``covariance`` (6, 6) that of the errors of
    (amplitude, x, y, S_xx, S_xy, S_yy).
    """

    amplitude: float
    x: float
    y: float
    matrix: np.ndarray
    covariance: np.ndarray

    @property
    def snr(self) -> float:
        """Amplitude over its error."""
        return float(self.amplitude / np.sqrt(self.covariance[0, 0]))


def fit_gaussian(
    image: np.ndarray, place: tuple[float, float], matrix: np.ndarray, sigma: float, noise: np.ndarray | None
) -> Gaussian | None:
    """Fit an elliptical Gaussian to an image by least squares.

    Parameters
    ----------
    image
        Shape (ny, nx); NaN where there is no data.
    place
        (x, y) to start from.
    matrix
        Shape to start from, (2, 2) in pixels² along x and y.
    sigma
        Noise of a pixel.
    noise
        Shape of the noise's correlation, which is the beam's, (2, 2) in pixels²; None for independent pixels.

    Returns
    -------
    Gaussian or None
        None where nothing can be fitted: too few pixels, or an answer outside the image or without a peak.
    """
    from scipy.optimize import least_squares

    known = np.isfinite(image)
    if known.sum() <= 6:
        return None
    y, x = np.nonzero(known)
    values = image[known].astype(float)
    start = unit_gaussian(place, matrix, x, y)
    height = float(start @ values / (start @ start))
    if not height > 0:
        return None
    scale = height  # so that the steps of the fit do not depend on the unit

    def rest(p: np.ndarray) -> np.ndarray:
        return model(p, x, y)[0] - values / scale

    def slope(p: np.ndarray) -> np.ndarray:
        return model(p, x, y)[1]

    fit = least_squares(rest, [1.0, *place, *_root(matrix)], slope, method="lm", max_nfev=200)
    amplitude, x0, y0, *root = fit.x
    ny, nx = image.shape
    inside = -0.5 <= x0 <= nx - 0.5 and -0.5 <= y0 <= ny - 0.5
    shape = _matrix(root)
    if fit.status < 1 or not inside or amplitude <= 0 or shape is None or np.trace(shape) > nx**2 + ny**2:
        return None
    jacobian = np.zeros((6, ny, nx))
    jacobian[:, known] = slope(fit.x).T
    covariance = _covariance(jacobian, sigma / scale, noise)
    if covariance is None:
        return None
    to_matrix = np.eye(6)
    to_matrix[3:, 3:] = _matrix_by_root(root, shape)
    to_matrix[0] *= scale
    return Gaussian(float(amplitude * scale), float(x0), float(y0), shape, to_matrix @ covariance @ to_matrix.T)


def place_errors(matrix: np.ndarray, snr: float, noise: np.ndarray | None) -> tuple[float, float]:
    """Errors of x and y in pixels, by least squares, of a Gaussian of a shape whose peak is ``snr`` times the noise."""
    reach = 3 * np.sqrt(np.diag(matrix))
    half = np.ceil(reach).astype(int)
    y, x = np.indices(2 * half[::-1] + 1)
    jacobian = model(np.array([1.0, *half, *_root(matrix)]), x.ravel(), y.ravel())[1].T.reshape(6, *x.shape)
    covariance = _covariance(jacobian[:3], 1 / snr, noise)  # the shape does not tell of the place, nor the other way
    return tuple(np.sqrt(np.diag(covariance)[1:]).tolist()) if covariance is not None else (np.nan, np.nan)


def unit_gaussian(place: tuple[float, float], matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A Gaussian of a shape, with a peak of 1, at pixels (n,)."""
    return model(np.array([1.0, *place, *_root(matrix)]), x, y)[0]


def model(parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian and its derivatives by its parameters at pixels (n,): shapes (n,) and (n, 6).

    The parameters are amplitude, x, y, and a, b, c, of which the inverse of the shape is [[a², ab], [ab, b² + c²]]:
    whatever they are, it has no negative axis.
    """
    amplitude, x0, y0, a, b, c = parameters
    dx, dy = x - x0, y - y0
    along, across = a * dx + b * dy, c * dy
    unit = np.exp(-0.5 * np.minimum(along**2 + across**2, 1400))
    value = amplitude * unit
    slopes = [
        unit,
        value * along * a,
        value * (along * b + across * c),
        -value * along * dx,
        -value * along * dy,
        -value * across * dy,
    ]
    return value, np.stack(slopes, axis=1)


def noise_correlation(shape: tuple[int, int], noise: np.ndarray) -> np.ndarray:
    """Correlation of noise at all offsets of pixels up to ``shape`` = (ny, nx): (2 ny - 1, 2 nx - 1), the middle 1."""
    ny, nx = shape
    y, x = np.mgrid[1 - ny : ny, 1 - nx : nx]
    inverse = np.linalg.inv(noise)
    return np.exp(-0.5 * (inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2))


def _covariance(jacobian: np.ndarray, sigma: float, noise: np.ndarray | None) -> np.ndarray | None:
    """Covariance of the parameters of a fit, from their derivatives (parameters, ny, nx), 0 where there is no data."""
    flat = jacobian.reshape(len(jacobian), -1)
    seen = flat
    if noise is not None:
        from scipy.signal import fftconvolve

        kernel = noise_correlation(jacobian.shape[1:], noise)
        seen = np.where(jacobian != 0, fftconvolve(jacobian, kernel[None], mode="same", axes=(1, 2)), 0)
        seen = seen.reshape(flat.shape)
    try:
        inverse = np.linalg.inv(flat @ flat.T)
    except np.linalg.LinAlgError:
        return None
    covariance = sigma**2 * inverse @ (seen @ flat.T) @ inverse
    return covariance if np.isfinite(covariance).all() and (np.diag(covariance) > 0).all() else None


def _root(matrix: np.ndarray) -> np.ndarray:
    """The a, b, c of a shape, see `model`."""
    (vx, cov), (_, vy) = matrix
    vy = max(vy, 1e-12)
    a = np.sqrt(vy / max(vx * vy - cov**2, 1e-12))  # a line is a very thin ellipse
    return np.array([a, -a * cov / vy, 1 / np.sqrt(vy)])


def _matrix(root: Sequence[float]) -> np.ndarray | None:
    a, b, c = root
    if abs(a * c) < 1e-9:  # wider than any image
        return None
    # written out, since a needle's matrix is singular to the processor
    return np.array([[b * b + c * c, -a * b], [-a * b, a * a]]) / (a * c) ** 2


def _matrix_by_root(root: Sequence[float], matrix: np.ndarray) -> np.ndarray:
    """Derivatives of (S_xx, S_xy, S_yy) by (a, b, c), shape (3, 3): dS = -S dP S, with P the inverse of S."""
    a, b, c = root
    inverse_by = np.array([[[2 * a, b], [b, 0]], [[0, a], [a, 2 * b]], [[0, 0], [0, 2 * c]]])
    changes = -matrix @ inverse_by @ matrix
    return np.stack([changes[:, 0, 0], changes[:, 0, 1], changes[:, 1, 1]])


# --- on the sky ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ellipse:
    """FWHM along the axes of a Gaussian on the sky and its angle from North through East, with errors.

    In arcsec and degrees.  An axis that is not real, since the beam is wider than what was seen, is NaN.
    ``limit`` is what the longer axis is less than, at `RESOLVED` standard deviations.
    """

    major: float
    err_major: float
    minor: float
    err_minor: float
    angle: float
    err_angle: float
    limit: float


def on_sky(matrix: np.ndarray, covariance: np.ndarray, jacobian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A shape and the covariance (3, 3) of its (S_xx, S_xy, S_yy) seen along East and North, see `sky_matrix`."""
    (a, b), (c, d) = jacobian
    turn = np.array([[a * a, 2 * a * b, b * b], [a * c, a * d + b * c, b * d], [c * c, 2 * c * d, d * d]])
    return jacobian @ matrix @ jacobian.T, turn @ covariance @ turn.T


def ellipse(matrix: np.ndarray, covariance: np.ndarray) -> Ellipse:
    """Axes and angle of a shape in arcsec² along East and North, with errors to first order.

    Parameters
    ----------
    matrix
        Shape (2, 2); an axis that is less than `RESOLVED` errors wide is not there.
    covariance
        Of (S_EE, S_EN, S_NN), shape (3, 3).
    """
    (small, large), vectors = np.linalg.eigh(matrix)
    (east2, north2), (east, north) = vectors.T

    def error(slopes: list[float]) -> float:
        return float(np.sqrt(max(np.array(slopes) @ covariance @ slopes, 0)))

    errors = [error([e * e, 2 * e * n, n * n]) for e, n in ((east2, north2), (east, north))]
    axes = []
    for value, sigma in ((large, errors[1]), (small, errors[0])):
        real = value > RESOLVED * sigma
        fwhm = gaussian_sigma_to_fwhm * np.sqrt(value) if real else np.nan
        axes += [fwhm, gaussian_sigma_to_fwhm**2 * sigma / (2 * fwhm)]
    turn = error([east * east2, east * north2 + north * east2, north * north2]) / max(large - small, 1e-30)
    known = np.isfinite(axes[0])
    angle = np.degrees(np.arctan2(east, north)) % 180 if known else np.nan
    err_angle = min(np.degrees(turn), 180 / np.sqrt(12)) if known else np.nan  # that of an angle nobody knows
    limit = gaussian_sigma_to_fwhm * np.sqrt(max(large, 0) + RESOLVED * errors[1])
    return Ellipse(*(float(v) for v in (*axes, angle, err_angle, limit)))
