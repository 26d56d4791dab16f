"""The array against geometry, direct Fourier sums, another library, and analytic beams."""

from __future__ import annotations

import ducc0
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.modeling.models import Gaussian2D
from astropy.stats import gaussian_fwhm_to_sigma as TO_SIGMA
from astropy.time import Time

from napari_almadet.simulation.array import (
    AntennaArray,
    CleanBeam,
    briggs_weights,
    fit_clean_beam,
    grid_visibilities,
    point_spread_function,
    primary_beam,
    primary_beam_radius,
)
from napari_almadet.simulation.observe import Observation
from napari_almadet.simulation.sky import PAPER_BEAM

WAVELENGTH = 299792458 / 230e9  # m


def test_cycle9_c3_is_the_published_array():
    array = AntennaArray.load()
    lengths = np.linalg.norm(array.baselines, axis=1)
    assert len(array.enu) == 43
    assert len(lengths) == 903
    assert lengths.min() == pytest.approx(15.1, abs=0.05)
    assert lengths.max() == pytest.approx(500.2, abs=0.05)


@pytest.mark.parametrize(
    ("name", "antennas", "diameter", "shortest", "longest"),
    [
        # ALMA Technical Handbook for Cycle 9, table 7.1; the VLA as CASA has it
        ("alma_cycle9_c1", 43, 12, 15.0, 160.7),
        ("alma_cycle9_c2", 43, 12, 15.0, 313.7),
        ("alma_cycle9_c4", 43, 12, 15.0, 783.5),
        ("alma_cycle9_c5", 43, 12, 15.0, 1397.9),
        ("alma_cycle9_c6", 43, 12, 15.0, 2516.9),
        ("aca_cycle9", 10, 7, 8.9, 45.0),
        ("vla_d", 27, 25, 40.0, 1030.0),
        ("vla_c", 27, 25, 78.0, 3400.0),
    ],
)
def test_configurations_are_the_published_ones(name, antennas, diameter, shortest, longest):
    array = AntennaArray.load(name)
    lengths = np.linalg.norm(array.baselines, axis=1)
    assert (len(array.enu), array.diameter) == (antennas, diameter)
    assert lengths.min() == pytest.approx(shortest, rel=0.05)
    assert lengths.max() == pytest.approx(longest, rel=0.03)
    assert np.ptp(array.enu[:, 2]) < 0.03 * lengths.max()  # a plane, as seen from the array itself


def test_unknown_configuration_names_the_known_ones():
    with pytest.raises(ValueError, match="alma_cycle9_c3"):
        AntennaArray.load("alma_cycle99")


def test_uv_is_the_baseline_seen_from_the_source():
    """u, v are the projections on east and north at the source: no longer than the baseline, whatever the hour."""
    array = AntennaArray.load()
    uv = array.uv(np.radians(-35), np.radians([-40.0, 0.0, 25.0])).reshape(3, -1, 2)
    assert (np.linalg.norm(uv, axis=2) <= np.linalg.norm(array.baselines, axis=1) + 1e-9).all()


def test_uv_at_the_zenith_is_east_and_north():
    array = AntennaArray.load()
    first, second = np.triu_indices(len(array.enu), 1)
    np.testing.assert_allclose(array.uv(array.latitude, np.zeros(1)), (array.enu[second] - array.enu[first])[:, :2])


def test_projected_length_agrees_with_astropy():
    """w, the part of a baseline along the line of sight, from the source's altitude and azimuth."""
    array = AntennaArray.load()
    declination, hour_angle = -50 * u.deg, 20 * u.deg
    site = EarthLocation(lat=array.latitude * u.rad, lon=0 * u.deg)
    time = Time("2022-11-01")
    # Apparent coordinates without refraction or aberration: build altitude and azimuth by hand from astropy's rotation.
    frame = AltAz(obstime=time, location=site)
    lst = time.sidereal_time("apparent", longitude=0 * u.deg)
    source = SkyCoord(lst - hour_angle, declination, frame="tete", obstime=time, location=site).transform_to(frame)
    east_north_up = np.array(
        [np.cos(source.alt) * np.sin(source.az), np.cos(source.alt) * np.cos(source.az), np.sin(source.alt)], float
    )
    first, second = np.triu_indices(len(array.enu), 1)
    along = (array.enu[second] - array.enu[first]) @ east_north_up
    projected = np.sqrt(np.sum(array.baselines**2, axis=1) - along**2)
    elevation = array.elevation(declination.to_value(u.rad), hour_angle.to_value(u.rad))
    assert elevation == pytest.approx(source.alt.rad, abs=2e-4)  # 20" of aberration
    uv = array.uv(declination.to_value(u.rad), np.array([hour_angle.to_value(u.rad)]))
    np.testing.assert_allclose(np.linalg.norm(uv, axis=1), projected, atol=0.05)  # 20" of aberration


def test_psf_agrees_with_ducc0():
    """ducc0 sums the visibilities without a grid's rounding: 0.25 % over the image, 0.6 % at twice its size."""
    observation = Observation(duration=1200)
    uvw = np.zeros((len(observation.uv), 3))
    uvw[:, :2] = observation.uv
    image = ducc0.wgridder.vis2dirty(
        uvw=uvw,
        freq=np.array([observation.frequency]),
        vis=np.ones((len(uvw), 1), complex),
        npix_x=720,
        npix_y=720,
        pixsize_x=observation.cell,
        pixsize_y=observation.cell,
        epsilon=1e-6,
        do_wgridding=False,
    )
    # ducc0's first axis is l, which grows to the east
    exact = np.roll(image.T[:, ::-1], 1, axis=1) / image.max()
    difference = np.abs(observation.psf() - exact)[1:, 1:]
    assert difference.max() < 6e-3
    assert difference[180:540, 180:540].max() < 3e-3


def test_gridded_weights_keep_every_visibility_and_are_symmetric():
    uv = np.random.default_rng(0).uniform(-50, 50, (1000, 2))
    weights = grid_visibilities(uv, 256, 1 / 256)
    assert weights.sum() == 2000
    np.testing.assert_array_equal(weights, np.roll(weights[::-1, ::-1], 1, axis=(0, 1)))


def test_gridded_complex_visibilities_have_a_real_image():
    rng = np.random.default_rng(1)
    grid = grid_visibilities(rng.uniform(-50, 50, (300, 2)), 256, 1 / 256, np.exp(1j * rng.normal(0, 1, 300)))
    image = np.fft.ifft2(grid)
    assert np.abs(image.imag).max() < 1e-12 * np.abs(image).max()


def test_briggs_weights_run_from_uniform_to_natural():
    rng = np.random.default_rng(2)
    uv = rng.normal(0, 15, (20000, 2))
    natural, uniform = (
        grid_visibilities(uv, 256, 1 / 256, briggs_weights(uv, 256, 1 / 256, robust)) for robust in (4, -4)
    )
    count = grid_visibilities(uv, 256, 1 / 256)
    np.testing.assert_allclose(natural, count, rtol=1e-3)
    filled = uniform[count > 0]
    np.testing.assert_allclose(filled / filled.mean(), 1, rtol=1e-3)


def test_briggs_weights_by_hand():
    """Three visibilities share a cell, one is alone: W is 3, 3, 3, 1, and its mean 2.5."""
    uv = np.array([[4.0, 0], [4.1, 0], [3.9, 0.1], [0, 9]])
    f2 = 5**2 / 2.5
    np.testing.assert_allclose(briggs_weights(uv, 64, 1 / 64, 0.0), [1 / (1 + 3 * f2)] * 3 + [1 / (1 + f2)], rtol=1e-12)


def test_pixels_too_large_are_refused_with_the_size_to_take():
    with pytest.raises(ValueError, match=r"take less than 0\.288 arcsec"):
        Observation(pixel=0.4).psf()


def test_paper_setting_gives_the_beam_and_first_sidelobe_of_casa():
    observation = Observation()
    beam, psf = observation.clean_beam, observation.psf()
    assert beam.major * observation.pixel == pytest.approx(0.886, rel=0.015)
    assert beam.minor * observation.pixel == pytest.approx(0.758, rel=0.015)
    assert beam.fwhm == pytest.approx(PAPER_BEAM.fwhm, rel=1e-3)
    y, x = np.indices(psf.shape) - observation.size
    radius = np.hypot(y, x)
    outside = (radius > 12) & (radius < 180)
    assert psf[outside & (radius < 60)].max() == pytest.approx(0.077, abs=0.005)
    assert psf[outside].min() == pytest.approx(-0.024, abs=0.002)


@pytest.mark.parametrize(("major", "minor", "angle"), [(9.0, 6.0, 30.0), (8.0, 4.0, 150.0), (5.0, 5.0, 0.0)])
def test_fitted_beam_of_a_gaussian_is_that_gaussian(major, minor, angle):
    y, x = np.indices((65, 65)) - 32
    a = np.radians(angle)
    along, across = -x * np.sin(a) + y * np.cos(a), x * np.cos(a) + y * np.sin(a)  # from north to east, East left
    beam = fit_clean_beam(np.exp(-4 * np.log(2) * ((along / major) ** 2 + (across / minor) ** 2)))
    assert (beam.major, beam.minor) == pytest.approx((major, minor), rel=1e-4)
    if major != minor:
        assert beam.angle == pytest.approx(angle, abs=0.01)


def test_primary_beam_has_the_width_of_a_12_m_antenna():
    cell = np.radians(0.1 / 3600)
    pattern = primary_beam(720, cell, 230e9)
    half = 2 * np.interp(-0.5, -pattern[360, 360:], np.arange(360)) * 0.1
    assert pattern[360, 360] == pytest.approx(1)
    assert half == pytest.approx(np.degrees(1.13 * WAVELENGTH / 12) * 3600, rel=0.02)  # ALMA Technical Handbook, 3.2


@pytest.mark.parametrize(("diameter", "factor"), [(7.0, 1.13), (25.0, 1.03)])
def test_primary_beam_has_the_width_of_its_dish(diameter, factor):
    """1.13 wavelengths over the diameter for ALMA's 7-m dishes too, 1.03 for an Airy pattern."""
    cell = np.radians(0.1 / 3600)
    pattern = primary_beam(1024, cell, 230e9, diameter)
    half = 2 * np.interp(-0.5, -pattern[512, 512:], np.arange(512)) * 0.1
    assert half == pytest.approx(np.degrees(factor * WAVELENGTH / diameter) * 3600, rel=0.02)


def test_psf_of_one_baseline_is_a_cosine():
    n, cell = 64, 1 / 64
    psf = point_spread_function(grid_visibilities(np.array([[5.0, 0.0]]), n, cell), n)
    np.testing.assert_allclose(psf[10], np.cos(2 * np.pi * 5 * (np.arange(n) - 32) / n), atol=1e-12)


def test_primary_beam_radius_is_where_the_beam_has_that_level():
    cell = np.radians(0.1 / 3600)
    pattern = primary_beam(1024, cell, 230e9, 12.0)
    radius = primary_beam_radius(0.2, 230e9, 12.0) / cell
    assert np.interp(radius, np.arange(512), pattern[512, 512:]) == pytest.approx(0.2, abs=1e-4)


def test_clean_beam_is_astropys_gaussian():
    beam = CleanBeam(12.0, 7.0, 25.0)
    gaussian = Gaussian2D(1, 0, 0, 12 * TO_SIGMA, 7 * TO_SIGMA, np.radians(25 + 90))
    y, x = np.indices((64, 64)) - 32
    np.testing.assert_allclose(beam.image(64), gaussian(x, y), atol=1e-12)
    assert (beam.width_along(25), beam.width_along(115)) == pytest.approx((12, 7))
    half = beam.width_along(60) / 2
    assert gaussian(-half * np.sin(np.radians(60)), half * np.cos(np.radians(60))) == pytest.approx(0.5)


@pytest.mark.parametrize("size", [48, 49])
def test_psf_is_the_plain_fourier_transform_of_its_grid(size):
    rng = np.random.default_rng(4)
    grid = grid_visibilities(rng.uniform(-30, 30, (500, 2)), 128, 1 / 128, np.exp(1j * rng.normal(0, 0.5, 500)))
    whole = np.fft.fftshift(np.fft.ifft2(grid).real) * 128**2 / 1000
    first = 64 - size // 2
    np.testing.assert_allclose(
        point_spread_function(grid, size, total=1000),
        whole[first : first + size, first : first + size],
        atol=1e-12,
    )
