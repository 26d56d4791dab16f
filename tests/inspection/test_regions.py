"""A region's pixels, spectrum and statistics are those of the array."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u

from napari_almadet.catalogue.candidate import Box
from napari_almadet.inspection.regions import (
    SMOOTHINGS,
    region_of,
    region_spectrum,
    region_statistics,
    smoothed,
)

FIELD = (40, 50)


def test_a_rectangle_has_the_pixels_whose_centres_it_holds():
    region = region_of("rectangle", np.array([[4.6, 9.6], [4.6, 20.4], [12.4, 20.4], [12.4, 9.6]]), FIELD, "r")
    assert (region.box, region.pixels) == (Box(5, 13, 10, 21), 88)


def test_an_ellipse_and_a_polygon():
    y, x = np.indices(FIELD)
    ellipse = region_of("ellipse", np.array([[5, 10], [5, 30], [25, 30], [25, 10]]), FIELD)
    mask = np.zeros(FIELD, bool)
    mask[ellipse.box.slices] = ellipse.mask
    np.testing.assert_array_equal(mask, ((x - 20) / 10) ** 2 + ((y - 15) / 10) ** 2 < 1)
    triangle = region_of("polygon", np.array([[0.5, 0.5], [0.5, 20.5], [20.5, 0.5]]), FIELD)
    mask = np.zeros(FIELD, bool)
    mask[triangle.box.slices] = triangle.mask
    np.testing.assert_array_equal(mask, (x > 0.5) & (y > 0.5) & (x + y < 21))


def test_a_point_is_one_pixel_and_outside_is_nothing():
    region = region_of("point", np.array([[7.4, 9.6]]), FIELD)
    assert (region.box, region.pixels) == (Box(7, 8, 10, 11), 1)
    assert region_of("point", np.array([[-3, 9]]), FIELD) is None
    assert region_of("rectangle", np.array([[60, 60], [60, 70], [70, 70], [70, 60]]), FIELD) is None
    partly = region_of("rectangle", np.array([[30.5, 40.5], [30.5, 80], [90, 80], [90, 40.5]]), FIELD)
    assert partly.box == Box(31, 40, 41, 50)


def test_spectrum_is_summed_from_the_cube(make_cube):
    data = np.random.default_rng(1).normal(size=(6, *FIELD)).astype("f4")
    data[2, 5:13, 10:21] = np.nan
    data[3, 6, 11] = np.nan
    cube = make_cube(data)
    region = region_of("ellipse", np.array([[5, 10], [5, 20], [12, 20], [12, 10]]), FIELD)
    inside = data[:, *region.box.slices][:, region.mask]
    expected = np.nansum(inside, axis=1) / cube.beam_area
    expected[2] = np.nan
    spectrum = region_spectrum(cube, region)
    assert spectrum.unit == u.Jy
    np.testing.assert_allclose(spectrum.value, expected, rtol=1e-5)
    point = region_of("point", np.array([[30, 40]]), FIELD)
    assert region_spectrum(cube, point).unit == u.Jy / u.beam
    np.testing.assert_allclose(region_spectrum(cube, point).value, data[:, 30, 40], rtol=1e-6)


def test_statistics_of_a_channel(make_cube):
    data = np.random.default_rng(1).normal(size=(6, *FIELD)).astype("f4")
    data[1, 5, 10] = np.nan
    data[2] = np.nan
    cube = make_cube(data)
    region = region_of("rectangle", np.array([[4.5, 9.5], [4.5, 20.5], [12.5, 20.5], [12.5, 9.5]]), FIELD)
    values = data[1, 5:13, 10:21].astype(float)
    found = region_statistics(cube, region, 1)
    assert found.pixels == 87
    np.testing.assert_allclose(found.flux.to_value(u.Jy), np.nansum(values) / cube.beam_area, rtol=1e-5)
    np.testing.assert_allclose(found.mean.value, np.nanmean(values), rtol=1e-5)
    np.testing.assert_allclose(found.rms.value, np.sqrt(np.nanmean(values**2)), rtol=1e-5)
    np.testing.assert_allclose(found.std.value, np.nanstd(values), rtol=1e-5)
    assert (found.minimum.value, found.maximum.value) == (np.nanmin(values), np.nanmax(values))
    assert region_statistics(cube, region, 2).pixels == 0


@pytest.mark.parametrize("how", SMOOTHINGS)
def test_smoothing_keeps_a_constant_and_the_gaps(how):
    values = np.full(30, 2.0)
    values[7] = np.nan
    result = smoothed(values, how)
    assert len(result) == 30
    np.testing.assert_allclose(result[np.isfinite(result)], 2.0)
    if not how.startswith("bins"):
        assert np.isnan(result[7])


def test_smoothing_averages():
    values = np.zeros(12)
    values[5] = 12.0
    np.testing.assert_allclose(smoothed(values, "Hanning")[4:7], [3, 6, 3])
    np.testing.assert_allclose(smoothed(values, "boxcar 3")[3:8], [0, 4, 4, 4, 0])
    np.testing.assert_allclose(smoothed(values, "bins of 4"), [0] * 4 + [3] * 4 + [0] * 4)
