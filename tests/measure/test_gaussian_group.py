"""Gaussians fitted to images of sources in noise that pixels share: bias, scatter and errors of their fluxes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.measure import gaussian_group
from napari_almadet.measure.gaussian_group import Shape, curvature, fit_group, pixel_weights, sandwich, slopes
from napari_almadet.measure.noise import Noise

SIDE, MIDDLE = 31, 15.0
BEAM = np.array([[5.2, 0.9], [0.9, 3.6]])  # pixels^2
WIDER = BEAM + np.array([[4.0, -1.0], [-1.0, 6.0]])
Y, X = np.mgrid[:SIDE, :SIDE]
KNOWN = (X - MIDDLE) ** 2 + (Y - MIDDLE) ** 2 <= 10**2


def noise_of_the_beam() -> Noise:
    """Noise with the correlation that natural weights leave: the beam's."""
    y, x = np.mgrid[-14:15, -14:15]
    return Noise(np.ones(1), Shape(0, 0, BEAM).image(x, y), np.ones(1))


def images(count: int, seed: int) -> np.ndarray:
    """Noise of variance 1 and of that correlation, (count, SIDE, SIDE)."""
    side = SIDE + 33
    v, u = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    power = BEAM[0, 0] * u**2 + 2 * BEAM[0, 1] * u * v + BEAM[1, 1] * v**2
    white = np.random.default_rng(seed).standard_normal((count, side, side))
    made = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-(np.pi**2) * power), s=(side, side))[:, :SIDE, :SIDE]
    return made / made.std()


def fluxes(snr: float, matrix: np.ndarray, free: bool, count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fluxes over the truth of as many fits, the bias that is known of each, and x less the truth over its error."""
    made = []
    some = images(count // 2, 4)  # and their negatives, so that what is linear in the noise is not in any mean
    start = Shape(MIDDLE + 0.4, MIDDLE - 0.3, matrix)
    for noise in np.concatenate([some, -some]):
        image = snr * Shape(MIDDLE, MIDDLE, matrix).image(X, Y) + noise
        fit = fit_group(image[None], KNOWN, [start], BEAM, free, 1.0, noise_of_the_beam())
        if fit is not None:
            area = np.sqrt(np.linalg.det(fit.own.matrix) / np.linalg.det(matrix))
            made.append((fit.amplitude / snr * area, fit.bias, (fit.own.x - MIDDLE) / np.sqrt(fit.covariance[1, 1])))
    assert len(made) > 0.98 * count
    flux, bias, pull = np.array(made).T
    return flux, bias, pull


@pytest.mark.parametrize(("matrix", "free"), [(BEAM, False), (BEAM, True), (WIDER, True)])
def test_fluxes_are_as_large_on_average_as_they_are_once_what_noise_adds_is_taken_off(matrix, free):
    flux, bias, _ = fluxes(10.0, matrix, free)
    assert flux.mean() - 1 > 0.005
    assert abs((flux / (1 + bias)).mean() - 1) < 0.004


def test_weights_make_the_fluxes_of_points_scatter_less_and_errors_say_so(monkeypatch):
    weighted, _, pull = fluxes(15.0, BEAM, False)
    monkeypatch.setattr(gaussian_group, "pixel_weights", lambda shapes, beam, x, y: np.ones(np.shape(x)))
    equal, _, of_equal = fluxes(15.0, BEAM, False)
    assert weighted.std() < 0.95 * equal.std()
    for each in (pull, of_equal):
        assert 0.88 < each.std() < 1.12


def test_errors_of_points_are_smaller_than_with_equal_weights_by_the_documented_shares():
    shape = Shape(MIDDLE, MIDDLE, BEAM)
    image = shape.image(X, Y)
    jacobian = np.stack([image, *slopes(shape, image, X, Y, True)]) * KNOWN
    errors = []
    for weights in (KNOWN * pixel_weights([shape], BEAM, X, Y), KNOWN.astype(float)):
        solved = sandwich(jacobian, weights, noise_of_the_beam())
        inverse = np.linalg.inv(BEAM)
        by_size = np.array([0.5 * inverse[0, 0], inverse[0, 1], 0.5 * inverse[1, 1]])  # of the logarithm of the area
        by_flux = np.array([1, 0, 0, *by_size])
        flux, size = by_flux @ solved.covariance @ by_flux, by_size @ solved.covariance[3:, 3:] @ by_size
        errors.append(np.sqrt([flux, solved.covariance[1, 1], size]))
    assert errors[1] / errors[0] == pytest.approx([1.11, 1.18, 1.37], abs=0.015)


def test_weights_are_the_sources_own_shape_for_a_point_and_flatter_for_a_large_source():
    point, large = Shape(MIDDLE, MIDDLE, BEAM), Shape(MIDDLE, MIDDLE, 9 * BEAM)
    assert pixel_weights([point], BEAM, X, Y) == pytest.approx(point.image(X, Y))
    assert pixel_weights([large], BEAM, X, Y) == pytest.approx(large.image(X, Y) ** (1 / 9))
    both = pixel_weights([point, Shape(3.0, 3.0, BEAM)], BEAM, X, Y)
    assert both[15, 15] == both[3, 3] == 1


def test_second_derivatives_are_differences_of_the_first():
    values = np.array([3.0, 15.3, 14.6, *BEAM.ravel()[[0, 1, 3]]])

    def first(amplitude: float, x: float, y: float, xx: float, xy: float, yy: float) -> np.ndarray:
        shape = Shape(x, y, np.array([[xx, xy], [xy, yy]]))
        image = shape.image(X, Y)
        return np.stack([image, *(amplitude * by for by in slopes(shape, image, X, Y, True))]).reshape(6, -1)

    shape = Shape(15.3, 14.6, BEAM)
    second = curvature(shape, 3.0, shape.image(X, Y), X, Y, True)
    for number, step in enumerate(1e-5 * np.eye(6)):
        assert second[number] == pytest.approx((first(*(values + step)) - first(*(values - step))) / 2e-5, abs=1e-7)
    assert curvature(shape, 3.0, shape.image(X, Y), X, Y, False) == pytest.approx(second[:3, :3])


def test_the_inverse_of_a_gaussians_covariance_is_numpys_and_a_line_has_none():
    turned = np.array([[9.0, -3.5], [-3.5, 2.25]])
    np.testing.assert_allclose(Shape(0.0, 0.0, turned).inverse, np.linalg.inv(turned), rtol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="infinitely narrow"):
        Shape(0.0, 0.0, np.array([[4.0, 2.0], [2.0, 1.0]])).image(np.arange(3.0), np.arange(3.0))
