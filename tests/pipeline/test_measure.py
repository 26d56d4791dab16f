import numpy as np
import pytest
from astropy import constants
from astropy import units as u

from napari_almadet.pipeline.catalog import Box, Candidate, EmissionPeak
from napari_almadet.pipeline.focus import cut_out
from napari_almadet.pipeline.measure import centroid, independent_beams, line_width, measure

WIDTH = (constants.c * 1e7 / 230e9).to_value(u.km / u.s, u.dimensionless_angles())  # of a channel of the header fixture


def measured(cube, box, channel=60.3, fwhm=8.0, kind="line", crop=64):
    candidate = Candidate(1, box, 0.9, kind=kind, peaks=(EmissionPeak(60, 1, 1, channel, fwhm),))
    candidate.channels = candidate.primary.emission_range(cube.shape[0])
    measure(candidate, cube, cut_out(cube, box, crop))
    return candidate


@pytest.mark.parametrize("continuum", [0, 0.5])
def test_a_point_source_without_noise_is_measured_as_it_is(planes_of, sky_cube, continuum):
    cube = sky_cube(planes_of([(40.3, 44.6, 60.3, 8, 2, continuum)], noise=0))
    candidate = measured(cube, Box(28, 53, 32, 58))
    assert (candidate.x, candidate.y, candidate.z) == pytest.approx((44.6, 40.3, 60.3), abs=0.03)
    # a Gaussian within one FWHM of its centre holds erf(2 sqrt(ln 2)) = 98.1 % of its area, 1.0645 FWHM x height
    assert candidate.f_sum == pytest.approx(0.981 * 1.0645 * 8 * 2 * WIDTH, rel=0.01)
    assert candidate.f_max == pytest.approx(2, rel=0.05)
    assert candidate.w50 == pytest.approx(8 * WIDTH, rel=0.02)
    assert candidate.w20 == pytest.approx(8 * WIDTH * np.sqrt(np.log2(5)), rel=0.02)


def test_continuum_is_measured_with_it_and_lines_without(planes_of, cube_of):
    cube = cube_of(planes_of([(40, 45, 60, 8, 0, 3)], noise=0))
    box = Box(28, 53, 32, 58)
    n = np.diff(measured(cube, box).channels)[0]
    whole = 3 * 1.1331 * 6**2  # of the beam's area
    assert measured(cube, box, kind="continuum").f_sum == pytest.approx(n * whole, rel=0.01)
    assert measured(cube, box, kind="line").f_sum == pytest.approx(0, abs=1e-3 * whole)


def test_noise_is_that_of_the_cube_even_beside_a_bright_source(planes_of, sky_cube):
    cube = sky_cube(planes_of([(40, 45, 60, 8, 100, 30)], seed=1, noise=0.02))
    assert measured(cube, Box(34, 47, 39, 52)).rms == pytest.approx(0.02, rel=0.03)


def test_noise_can_be_had_where_no_channel_is_free_of_lines(planes_of, cube_of):
    cube = cube_of(planes_of(shape=(9, 80, 90), seed=2))
    assert measured(cube, Box(34, 47, 39, 52), 4, 8).rms == pytest.approx(1, rel=0.1)


def test_the_error_of_the_flux_is_its_scatter(planes_of, sky_cube):
    """In noise alone, seen with the beam that shapes it, for boxes smaller and larger than the beam."""
    cube = sky_cube(planes_of(shape=(60, 150, 150), seed=3))
    for side in (2, 9, 20):
        found = [
            measured(cube, Box(y, y + side, x, x + side), channel, 5.0, crop=24)
            for channel in (10, 30, 50)
            for y in range(2, 130, 22)
            for x in range(2, 130, 22)
        ]
        assert np.median([c.err_f_sum for c in found]) == pytest.approx(np.std([c.f_sum for c in found]), rel=0.2)


def test_centroid_is_the_centre_of_what_is_positive():
    values = np.zeros((5, 7))
    values[1, 2], values[3, 2], values[2, 6], values[0, 0] = 1, 1, -9, np.nan
    assert centroid(values) == (2, 2)
    assert centroid(-np.ones((5, 7))) == (2, 3)


@pytest.mark.parametrize(
    ("spectrum", "width"),
    [
        ([0, 0, 2, 2, 2, 0, 0], 3),
        ([0, 0, 2, 0, 0], 1),
        ([0, 2, 0, 2, 0], 3),  # both peaks of a double line
        ([0, 1, 2, 1, 0], 2),
        ([2, 2, 2], 3),
        ([-1, 0, -1], np.nan),
    ],
)
def test_width_at_half_height_from_the_outside_in(spectrum, width):
    assert line_width(np.array(spectrum, float), 0.5) == pytest.approx(width, nan_ok=True)


def test_independent_beams_at_their_limits():
    assert independent_beams((7, 9), 0) == 63
    assert independent_beams((2, 2), 1e6) == pytest.approx(1, rel=1e-4)
    assert independent_beams((900, 800), 25) == pytest.approx(900 * 800 / 25, rel=0.02)
