"""Fits, their errors and deconvolution against closed formulae, simulation and radio-beam."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from radio_beam import Beam
from scipy import ndimage

from napari_almadet.measure.gaussian_fit import (
    beam_matrix,
    ellipse,
    fit_gaussian,
    on_sky,
    place_errors,
    sky_matrix,
    unit_gaussian,
)

FWHM = 2.3548


def matrix_of(major, minor, angle):
    """Shape of an ellipse given by FWHMs and an angle in degrees from y to -x, i.e. North through East on the sky."""
    turn = np.radians(angle)
    axes = np.array([[-np.sin(turn), np.cos(turn)], [np.cos(turn), np.sin(turn)]])
    return axes.T @ np.diag([(major / FWHM) ** 2, (minor / FWHM) ** 2]) @ axes


def image_of(amplitude, x0, y0, matrix, shape=(41, 45)):
    y, x = np.indices(shape)
    offset = np.stack([x - x0, y - y0])
    return amplitude * np.exp(-0.5 * np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(matrix), offset))


def test_a_gaussian_is_found_as_it_is():
    matrix = matrix_of(9, 5, 30)
    image = image_of(3e-5, 21.3, 18.8, matrix)
    image[:4, :4] = np.nan
    fit = fit_gaussian(image, (20, 20), matrix_of(6, 6, 0), 1e-6, None)
    assert (fit.amplitude, fit.x, fit.y) == pytest.approx((3e-5, 21.3, 18.8), rel=1e-6)
    np.testing.assert_allclose(fit.matrix, matrix, rtol=1e-5)


@pytest.mark.parametrize(
    "image", [np.zeros((20, 20)), -image_of(1, 10, 10, matrix_of(5, 5, 0)), np.full((20, 20), np.nan)]
)
def test_where_there_is_no_peak_there_is_no_fit(image):
    assert fit_gaussian(image, (10, 10), matrix_of(5, 5, 0), 1, None) is None


def test_errors_in_independent_noise_are_condons():
    """Condon (1997), eqs. 20 and 21: exact for independent pixels."""
    major, minor, amplitude, sigma = 9.0, 6.0, 50.0, 1.0
    fit = fit_gaussian(
        image_of(amplitude, 22, 20, matrix_of(major, minor, 90)), (22, 20), matrix_of(7, 7, 0), sigma, None
    )
    rho = np.sqrt(np.pi / (8 * np.log(2)) * major * minor) * amplitude / sigma
    errors = np.sqrt(np.diag(fit.covariance))
    relative = np.sqrt(2) / rho
    assert errors[0] / amplitude == pytest.approx(relative, rel=0.01)
    assert errors[1:3] == pytest.approx([relative * major / FWHM, relative * minor / FWHM], rel=0.01)
    found = ellipse(fit.matrix, fit.covariance[3:, 3:])
    assert (found.err_major, found.err_minor) == pytest.approx((relative * major, relative * minor), rel=0.01)
    angle = 2 / rho * major * minor / (major**2 - minor**2)
    assert np.radians(found.err_angle) == pytest.approx(angle, rel=0.01)


def test_the_place_of_a_point_source_in_a_dirty_image():
    """Of a point source in noise of the beam's shape: 4/3 of FWHM / (2.35 SNR), which no estimate can be better than.

    The spectrum of the noise is the beam's, exp(-s² k² / 2), and the derivative's squared k² exp(-s² k²): by least
    squares the variance is (16 / 9) s² / SNR².
    """
    beam = matrix_of(6, 6, 0)
    assert place_errors(beam, 20, beam) == pytest.approx((4 / 3 * 6 / FWHM / 20,) * 2, rel=0.01)


@pytest.mark.parametrize("source", [(6, 6, 0), (11, 7, 40)])
def test_errors_are_the_scatter_of_fits_in_noise(source):
    """In noise with the shape of an oblong beam, as in a dirty image."""
    rng = np.random.default_rng(5)
    beam, matrix = matrix_of(7, 5, 20), matrix_of(*source) + matrix_of(7, 5, 20) * (source != (6, 6, 0))
    kernel = image_of(1, 22, 20, beam / 2)
    fits = []
    for _ in range(150):
        noise = ndimage.convolve(rng.normal(size=(41, 45)), kernel, mode="wrap") / np.sqrt((kernel**2).sum())
        fits.append(fit_gaussian(image_of(25, 22, 20, matrix) + noise, (22, 20), beam, 1.0, beam))
    found = np.array([(f.amplitude, f.x, f.y, *f.matrix[np.triu_indices(2)]) for f in fits])
    told = np.median([np.sqrt(np.diag(f.covariance)) for f in fits], axis=0)
    np.testing.assert_allclose(found.std(axis=0), told, rtol=0.25)


@pytest.mark.parametrize(
    "cards", [{}, {"CDELT1": -2 / 3600}, {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL2": 70.0}]
)
def test_pixels_on_the_sky_are_astropys(sky_cube, planes, cards):
    cube = sky_cube(planes, **cards)
    matrix = sky_matrix(cube, [12.0, 60.0], [70.0, 5.0])
    assert matrix.shape == (2, 2, 2)
    for k, (x, y) in enumerate([(12.0, 70.0), (60.0, 5.0)]):
        centre = cube.sky(x, y)
        for axis, (dx, dy) in enumerate([(0.01, 0), (0, 0.01)]):
            there = cube.sky(x + dx, y + dy)
            east, north = (offset.to_value("arcsec") / 0.01 for offset in centre.spherical_offsets_to(there))
            assert matrix[k, :, axis] == pytest.approx([east, north], abs=1e-4)


def test_deconvolution_is_radio_beams():
    rng = np.random.default_rng(2)
    for _ in range(20):
        major, minor, angle = rng.uniform(4, 9), rng.uniform(1, 4), rng.uniform(0, 180)
        beam = Beam(rng.uniform(3, 6) * u.arcsec, rng.uniform(1, 3) * u.arcsec, rng.uniform(0, 180) * u.deg)
        source = Beam(major * u.arcsec, minor * u.arcsec, angle * u.deg)
        seen = source.convolve(beam)
        expected = seen.deconvolve(beam)
        found = ellipse(beam_matrix(seen) - beam_matrix(beam), np.eye(3) * 1e-12)
        assert (found.major, found.minor) == pytest.approx((expected.major.value, expected.minor.value), rel=1e-4)
        assert np.sin(np.radians(found.angle - expected.pa.to_value("deg"))) == pytest.approx(0, abs=1e-4)


def test_what_is_not_wider_than_the_beam_has_a_limit():
    """A point source, in 95 % of cases or more not wider than the limit."""
    rng = np.random.default_rng(3)
    covariance = np.diag([0.04, 0.02, 0.04])
    scatter = rng.multivariate_normal([0, 0, 0], covariance, 300)
    found = [ellipse(np.array([[a, b], [b, c]]), covariance) for a, b, c in scatter]
    unresolved = [f for f in found if np.isnan(f.major)]
    assert len(unresolved) > 0.85 * len(found)  # of two axes the longer one stands out more often than one would
    assert np.isnan([(f.angle, f.err_major, f.minor) for f in unresolved]).all()
    source = 0.5  # arcsec², seen with the same noise: its FWHM lies under the limit
    limits = np.array([ellipse(np.array([[a + source, b], [b, c + source]]), covariance).limit for a, b, c in scatter])
    assert (limits > FWHM * np.sqrt(source)).mean() > 0.95


def test_axes_turn_with_the_pixels():
    """A shape in rotated, oblong pixels is that on the sky."""
    to_sky = np.array([[-0.5, 0.2], [0.1, 0.8]])
    matrix = matrix_of(7, 4, 25)
    turned, _ = on_sky(np.linalg.inv(to_sky) @ matrix @ np.linalg.inv(to_sky).T, np.eye(3), to_sky)
    np.testing.assert_allclose(turned, matrix, rtol=1e-12)
    rng = np.random.default_rng(4)
    samples = rng.multivariate_normal([4, 0.5, 3], np.diag([1, 0.3, 0.5]), 20000)
    seen = np.array([(to_sky @ np.array([[a, b], [b, c]]) @ to_sky.T)[np.triu_indices(2)] for a, b, c in samples])
    _, covariance = on_sky(np.eye(2), np.diag([1, 0.3, 0.5]), to_sky)
    np.testing.assert_allclose(np.cov(seen.T), covariance, rtol=0.1, atol=0.01)


@pytest.mark.parametrize(("along", "across"), [((2, 1), (1, -2)), ((1, 0), (0, 1)), ((0, 1), (1, 0))])
def test_a_line_is_a_thin_ellipse(along, across):
    """As a candidate one pixel wide is one; its matrix has no inverse."""
    x, y = np.array([(20, 21), np.add((20, 21), along), np.add((20, 21), across)]).T
    line = np.outer(along, along).astype(float)
    np.testing.assert_allclose(unit_gaussian((20, 21), line, x, y), [1, np.exp(-0.5), 0], atol=1e-6)


def test_a_fit_that_starts_from_a_line_does_not_fail():
    image = image_of(5.0, 20, 21, matrix_of(9, 6, 30))
    fitted = fit_gaussian(image, (20, 21), np.array([[4.0, 2.0], [2.0, 1.0]]), 0.01, None)
    assert fitted is None or fitted.amplitude == pytest.approx(5)


def test_six_pixels_are_too_few_for_six_parameters():
    y, x = np.indices((9, 9))
    image = unit_gaussian((4.0, 4.0), np.eye(2) * 2.0, x.ravel(), y.ravel()).reshape(9, 9)
    few = np.full((9, 9), np.nan)
    few[3:5, 3:6] = image[3:5, 3:6]
    assert fit_gaussian(few, (4.0, 4.0), np.eye(2) * 2.0, 0.01, None) is None
    assert fit_gaussian(image, (4.0, 4.0), np.eye(2) * 2.0, 0.01, None) is not None
