import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy import constants
from astropy import units as u

from napari_almadet import read_cube
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.measure.box_measurement import centroid, independent_beams, line_width, measure
from napari_almadet.measure.focus import cut_out
from napari_almadet.measure.gaussian_fit import fit_gaussian
from napari_almadet.search.line_detection import refined

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


def test_a_source_is_as_wide_as_it_is(planes_of, sky_cube):
    """Of 7 x 4 arcsec before the beam, in pixels that are oblong and turned by 30 degrees."""
    noise = planes_of(shape=(24, 80, 90), seed=4, noise=0.02)
    cube = sky_cube(noise, CDELT2=0.8 / 3600)
    major, minor, angle = 7.0, 4.0, 40.0
    turn = np.radians(angle)
    axes = np.array([[np.sin(turn), np.cos(turn)], [np.cos(turn), -np.sin(turn)]])
    seen = axes.T @ np.diag([major**2, minor**2]) @ axes + 6.0**2 * np.eye(2)  # on the sky, FWHM squared
    y, x = np.indices((80, 90))
    centre = cube.sky(45, 40)
    east, north = (offset.to_value("arcsec") for offset in centre.spherical_offsets_to(cube.sky(x, y)))
    offset = np.stack([east, north])
    image = np.exp(-4 * np.log(2) * np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(seen), offset))
    line = 5 * np.exp(-4 * np.log(2) * ((np.arange(24) - 12) / 5) ** 2)
    cube = replace(cube, data=(line[:, None, None] * image + noise).astype(np.float32))
    candidate = measured(cube, Box(25, 56, 30, 61), 12, 5)
    for name, true in (("dc_maj", major), ("dc_min", minor), ("dc_pa", angle), ("peak", 5)):
        error = getattr(candidate, f"err_{name}")
        assert 0 < error < 0.1 * true
        assert abs(getattr(candidate, name) - true) < 4 * error


def test_errors_are_the_scatter_of_what_is_measured(planes_of, sky_cube):
    """(measured - true) / error of 96 sources in noise with the shape of the beam."""
    ratios = {name: [] for name in ("x", "y", "z", "fwhm", "peak", "f_sum")}
    for seed in range(4):
        places = [(y, x) for y in range(20, 220, 40) for x in range(20, 220, 40)][:24]
        rng = np.random.default_rng(seed)
        sources = [
            (y + dy, x + dx, 30 + dz, 6, 6, 1)
            for (y, x), (dy, dx, dz) in zip(places, rng.uniform(-0.5, 0.5, (24, 3)), strict=True)
        ]
        cube = sky_cube(planes_of(sources, (60, 240, 240), seed=seed), f"field{seed}")
        for y, x, z, fwhm, line, _ in sources:
            box = Box(round(y) - 6, round(y) + 7, round(x) - 6, round(x) + 7)
            cutout = cut_out(cube, box, 32)
            spectrum = cutout.planes[:, 16, 16] - 1
            peak = refined(EmissionPeak(30, 1, 1, 30.0, 6.0), spectrum)
            candidate = Candidate(1, box, 0.9, kind="both", peaks=(peak,), channels=(24, 37))
            place = brightest(cutout, box)
            measure(candidate, cube, cutout, place, 0.98)
            area = 1.0645 * fwhm * line * WIDTH
            true = {"x": x, "y": y, "z": z, "fwhm": fwhm * WIDTH, "peak": line, "f_sum": area}
            for name, value in true.items():
                ratios[name].append((getattr(candidate, name) - value) / getattr(candidate, f"err_{name}"))
    for name, values in ratios.items():
        # the errors of a place are Source Finder's, which is not as sure of it as this fit is
        assert (0.5 if name in "xy" else 0.7) < np.std(values) < 1.4, name
        assert abs(np.mean(values)) < 0.6, name


def brightest(cutout, box):
    """(x, y) of a source by a fit to the image of its line."""
    image = cutout.planes[26:35, *cutout.local(box).slices].sum(axis=0)
    fit = fit_gaussian(image, (6, 6), np.diag([6.5, 6.5]), 3.0, None)
    return fit.x + box.x0, fit.y + box.y0


REAL = {
    "alma_orionkl_methanol_acalib.fits": (Box(35, 60, 40, 70), (12, 25)),
    "alma_ngc4321_phangs_subset_filfinder.fits": (Box(10, 40, 8, 44), (20, 40)),
    "carma_ngc4710_makeplots.fits": (Box(50, 80, 50, 80), (10, 30)),
    "wsrt_wein069_sliceastro.fits": (Box(20, 50, 20, 50), (40, 60)),
}


@pytest.mark.parametrize("name", REAL)
def test_fluxes_of_real_cubes_are_spectral_cubes_and_photutils(shared_data, name):
    """The sum over box and range, by spectral-cube's moment 0 and photutils' aperture, in Jy km/s."""
    photutils = pytest.importorskip("photutils.aperture")
    spectral_cube = pytest.importorskip("spectral_cube")
    cube = read_cube(shared_data / "real" / name)
    box, (first, last) = REAL[name]
    candidate = Candidate(1, box, 0.9, kind="continuum", channels=(first, last))
    measure(candidate, cube, cut_out(cube, box, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = spectral_cube.SpectralCube(
            data=cube.read() * cube.unit, wcs=cube.wcs, meta={"BUNIT": str(cube.unit)}, header=cube.wcs.to_header()
        )
        if cube.rest_frequency is not None:
            other = other.with_spectral_unit(u.km / u.s, velocity_convention="radio", rest_value=cube.rest_frequency)
        image = other[first:last].moment0().value
    aperture = photutils.RectangularAperture(box.centre[::-1], *box.shape[::-1])
    total = aperture.do_photometry(np.nan_to_num(image), method="center")[0][0]
    pixel = cube.pixel_scale**2
    if cube.unit.is_equivalent(u.K):
        frequency = cube.frequency((first + last - 1) / 2)
        factor = (1 * cube.unit).to_value(u.Jy / u.sr, u.brightness_temperature(frequency)) * pixel.to_value(u.sr)
    elif cube.beam is not None:
        factor = (pixel / cube.beam.sr).to_value(u.dimensionless_unscaled)
    else:
        factor = 1.0
    assert candidate.f_sum == pytest.approx(total * factor, rel=5e-3)
