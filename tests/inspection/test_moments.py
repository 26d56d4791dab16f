"""Moments are spectral-cube's, cuts and contours those of pictures drawn by formula."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from spectral_cube import SpectralCube

from napari_almadet.inspection.axes import spectral_axes
from napari_almadet.inspection.moments import Sums, contour_levels, cut_along, line_moments, moments
from napari_almadet.measure.focus import Cutout, cut_out

SHAPE = (40, 60, 70)


@pytest.fixture
def data() -> np.ndarray:
    """A rotating source: the line's channel depends on x."""
    rng = np.random.default_rng(4)
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    sky = np.exp(-((x - 33) ** 2 + (y - 28) ** 2) / 60)
    line = np.exp(-((z - 20 - 0.3 * (x - 33)) ** 2) / 8)
    return sky * line + rng.normal(0, 0.02, SHAPE)


@pytest.mark.parametrize("least", [-np.inf, 0.1])
def test_moments_are_those_of_spectral_cube(data, header, make_cube, least):
    axis = next(a for a in spectral_axes(make_cube(data)) if a.choice == "km/s radio")
    found = moments(data[14:27], axis.centres[14:27], axis.widths[14:27], least)
    theirs = SpectralCube(data * u.K, WCS(header)).with_spectral_unit(
        u.km / u.s, velocity_convention="radio", rest_value=230.538 * u.GHz
    )[14:27]
    if np.isfinite(least):
        theirs = theirs.with_mask(theirs >= least * u.K)
    expected = [theirs.moment(order=n, how="cube").value for n in (0, 1, 2)]
    sound = expected[0] > 1.0 * axis.widths[0]  # theirs divides by what is nearly nothing, too
    assert sound.sum() > 100
    np.testing.assert_allclose(found[0][sound], expected[0][sound], rtol=1e-4)
    np.testing.assert_allclose(found[1][sound], expected[1][sound], atol=1e-3)
    np.testing.assert_allclose(found[2][sound], np.sqrt(expected[2][sound]), rtol=1e-3)


def test_where_nothing_counts_is_nan():
    planes = np.ones((5, 3, 3))
    planes[:, 0, 0] = np.nan
    planes[:, 0, 1] = -1
    for image in moments(planes, np.arange(5.0), np.ones(5), least=0.5):
        assert np.isnan(image[0, :2]).all()
        assert np.isfinite(image[1:]).all()
    total, mean, dispersion = moments(planes, np.arange(5.0), np.ones(5))
    assert total[0, 1] == -5
    assert np.isnan([mean[0, 1], dispersion[0, 1]]).all()


def test_a_single_voxel_has_a_mean_but_no_spread():
    planes = np.full((5, 2, 2), np.nan)
    planes[3] = 2.0
    total, mean, dispersion = moments(planes, 230.5 + 1e-4 * np.arange(5), np.full(5, 1e-4))
    np.testing.assert_allclose(total, 2e-4)
    np.testing.assert_allclose(mean, 230.5003, rtol=1e-12)
    assert np.isnan(dispersion).all()


def test_sums_of_two_sources_add_up_to_their_moments():
    planes = np.random.default_rng(2).normal(1, 1, (8, 4, 6))
    left = np.broadcast_to(np.arange(6) < 4, planes.shape)
    places, widths = np.linspace(100, 170, 8), np.full(8, 10.0)
    field = Sums.empty((4, 6), middle=135.0)
    for mask in (left, ~left):
        field.add(Sums.over(planes, mask, places, widths, middle=135.0), (slice(0, 4), slice(0, 6)))
    for found, expected in zip(field.moments(), moments(planes, places, widths), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_continuum_of_a_line_is_taken_off(data, make_cube, candidate):
    axis = spectral_axes(make_cube(data))[1]
    plain = line_moments(candidate, cut_out(make_cube(data), candidate.box, 32), axis)[0]
    lifted = make_cube(data + 0.7)
    with_continuum = line_moments(candidate, cut_out(lifted, candidate.box, 32), axis)[0]
    np.testing.assert_allclose(with_continuum, plain, atol=1e-3)
    candidate.kind = "continuum"
    as_is = line_moments(candidate, cut_out(lifted, candidate.box, 32), axis)[0]
    assert (as_is - plain).mean() > 0.6 * axis.widths[14:27].sum()


def test_mask_in_multiples_of_the_rms(data, make_cube, candidate):
    axis, cutout = spectral_axes(make_cube(data))[1], cut_out(make_cube(data), candidate.box, 32)
    candidate.rms = 0.02
    masked = line_moments(candidate, cutout, axis, least_snr=5)[1]
    assert np.isnan(masked[0, 0])
    assert np.isfinite(masked[candidate.box.y0 - cutout.origin[0] + 8, 16])
    assert np.isfinite(line_moments(candidate, cutout, axis)[0]).all()


def test_contours_are_multiples_of_the_noise_that_the_image_reaches():
    image = np.linspace(-7.5, 30, 100).reshape(10, 10)
    assert contour_levels(image, 1.0).tolist() == [-6, -3, 3, 6, 12, 24]
    assert contour_levels(image, 2.0).tolist() == [-3, 3, 6, 12]
    assert contour_levels(image, 100.0).size == contour_levels(image, np.nan).size == 0
    assert contour_levels(np.full((3, 3), np.nan), 1.0).size == 0


def test_cut_of_a_gradient_is_the_gradient():
    z, y, x = np.indices((6, 30, 40), dtype=float)
    planes = 100 * z + 2 * x - 3 * y
    cut = cut_along(planes, (5.2, 3.7), (30.1, 22.4))
    n = cut.values.shape[1]
    assert n == int(np.ceil(np.hypot(24.9, 18.7))) + 1
    xs, ys = np.linspace(5.2, 30.1, n), np.linspace(3.7, 22.4, n)
    np.testing.assert_allclose(cut.values, 100 * np.arange(6)[:, None] + 2 * xs - 3 * ys)


def test_wide_cut_averages_across():
    planes = np.zeros((2, 21, 21))
    planes[:, 10] = 3.0  # a bright row, cut along: a third of it in three rows
    np.testing.assert_allclose(cut_along(planes, (2, 10), (18, 10), width=3).values, 1.0)
    np.testing.assert_allclose(cut_along(planes, (2, 10), (18, 10)).values, 3.0)


def test_cut_over_the_edge_and_through_a_hole():
    planes = np.ones((3, 20, 20))
    planes[:, 10, 10] = np.nan
    values = cut_along(planes, (-5, 10), (15, 10)).values
    assert np.isnan(values[:, :5]).all()
    assert np.isnan(values[:, 15]).all()
    assert np.isfinite(values[:, 16:]).all()


def test_cut_of_no_length():
    values = cut_along(np.ones((3, 20, 20)), (4, 4), (4, 4)).values
    np.testing.assert_array_equal(values, np.ones((3, 2)))


def test_cutout_larger_than_the_field(data, make_cube, candidate):
    cutout = cut_out(make_cube(data), candidate.box, 100)
    assert isinstance(cutout, Cutout)
    total = line_moments(candidate, cutout, spectral_axes(make_cube(data))[1])[0]
    assert np.isnan(total[0]).all()
