"""Rules of the measurement in a box, and of single fits, each on either side of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from radio_beam import Beam, Beams

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.cube.cube import Cube
from napari_almadet.measure import flux_estimators
from napari_almadet.measure.box_measurement import (
    _measure_line,
    _measure_size,
    beam_in_pixels,
    beam_of,
    centroid_errors,
    independent_beams,
    line_fit,
    measure,
)
from napari_almadet.measure.cutout import Cutout as SourceCutout
from napari_almadet.measure.cutout import Seed
from napari_almadet.measure.flux_estimators import component, first_shape, near
from napari_almadet.measure.focus import cut_out
from napari_almadet.measure.gaussian_fit import Gaussian
from napari_almadet.measure.gaussian_group import (
    Fit,
    Shape,
    Solved,
    curvature,
    fit_group,
    flux_bias,
    plausible,
    sandwich,
)
from napari_almadet.measure.mask import contrast
from napari_almadet.measure.noise import white

N, SIDE = 32, 25
BEAM = np.eye(2) * 4.0
CHANNEL = np.arange(N)
Y, X = np.mgrid[:SIDE, :SIDE]
LINE = EmissionPeak(10, 1.0, 1.0, 10.0, 4.0)
PROFILE = np.exp(-4 * np.log(2) * ((CHANNEL - 10) / 4.0) ** 2)


# --- peak and widths ---


def candidate_of(kind: str = "line", **values) -> Candidate:
    candidate = Candidate(1, Box(5, 20, 5, 20), 0.9, kind=kind, peaks=(LINE,), channels=(6, 15))
    for name, value in values.items():
        setattr(candidate, name, value)
    return candidate


def line_measured(own: np.ndarray, line: EmissionPeak | None, rest: np.ndarray | None, **values) -> Candidate:
    candidate = candidate_of(**values)
    _measure_line(candidate, own, 0.5, own, 0.25, 2.0, line, rest)
    return candidate


@pytest.mark.parametrize("rest", [None, CHANNEL > 20, CHANNEL < 0])
def test_without_a_line_the_peak_is_the_mean_over_the_range_less_that_of_free_channels(rest):
    own = 1.0 + 2.0 * CHANNEL
    found = line_measured(own, None, rest)
    taken_off = 0.0 if rest is None or not rest.any() else own[21:].mean()
    assert found.peak == pytest.approx(own[6:15].mean() - taken_off)
    assert found.err_peak == pytest.approx(0.5 / 3)


def test_channels_without_data_count_neither_in_the_range_nor_outside():
    own = np.where(CHANNEL % 2 == 0, 1.0 + 2.0 * CHANNEL, np.nan)
    found = line_measured(own, None, CHANNEL > 20)
    assert found.peak == pytest.approx(np.nanmean(own[6:15]) - np.nanmean(own[21:]))
    assert found.err_peak == pytest.approx(0.5 / np.sqrt(5))
    nothing = line_measured(np.where(CHANNEL > 20, own, np.nan), None, None)
    assert np.isnan([nothing.peak, nothing.err_peak]).all()


@pytest.mark.parametrize("fwhm", [np.nan, 0.0, -1.0])
def test_a_line_without_a_width_is_measured_as_a_level(fwhm):
    found = line_measured(5 * PROFILE, replace(LINE, fwhm=fwhm), None)
    assert found.peak == pytest.approx(5 * PROFILE[6:15].mean())
    assert np.isnan(found.fwhm)


def test_a_line_where_there_is_no_data_is_not_measured():
    found = line_measured(np.full(N, np.nan), LINE, None)
    assert np.isnan([found.peak, found.err_peak, found.fwhm]).all()


@pytest.mark.parametrize(("z", "changed"), [(10.0, True), (10.5, False)])
def test_the_error_of_the_centre_is_the_fits_if_the_centre_is(z, changed):
    found = line_measured(5 * PROFILE, LINE, None, z=z, err_z=9.0)
    assert (found.err_z != 9.0) == changed
    assert found.peak == pytest.approx(5)
    assert found.fwhm == 8.0  # 4 channels of 2


def test_widths_have_errors_where_the_box_is_positive():
    assert np.isfinite(line_measured(5 * PROFILE, LINE, None).err_w50)
    assert np.isnan(line_measured(-5 * PROFILE, LINE, None).err_w50)


@pytest.mark.parametrize("continuum", [False, True])
def test_amplitude_and_errors_of_a_line_are_those_of_least_squares(continuum):
    """The covariance by derivatives that are differences of the model itself."""
    spectrum = 5 * PROFILE + (3.0 if continuum else 0.0)
    amplitude, errors = line_fit(spectrum, LINE, 0.5, continuum)
    assert amplitude == pytest.approx(5)

    def model(p: np.ndarray) -> np.ndarray:
        return p[0] * np.exp(-4 * np.log(2) * ((CHANNEL - p[1]) / p[2]) ** 2) + (p[3] if continuum else 0)

    at, step = np.array([5.0, 10.0, 4.0, 3.0][: 3 + continuum]), 1e-5 * np.eye(3 + continuum)
    jacobian = np.stack([(model(at + d) - model(at - d)) / 2e-5 for d in step])
    expected = 0.5 * np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T)))[:3]
    assert errors == pytest.approx(tuple(expected), rel=1e-4)


# --- the place ---


def test_errors_of_a_centroid_are_those_of_the_sum_of_the_pixels_and_their_correlation():
    image = np.zeros((4, 5))
    image[1, 1:4] = 1, 2, 1
    slope = np.array([-1, 0, 1]) / 4
    assert centroid_errors(image, 0.5, None) == pytest.approx((0.5 * np.sqrt((slope**2).sum()), 0.0))
    correlation = np.exp(-0.5 * np.subtract.outer(np.arange(3), np.arange(3)) ** 2 / 4.0)
    assert centroid_errors(image, 0.5, BEAM)[0] == pytest.approx(0.5 * np.sqrt(slope @ correlation @ slope))
    with np.errstate(all="raise"):
        assert np.isnan(centroid_errors(-image, 0.5, None)).all()


# --- beam and size ---


def test_the_beam_is_that_of_the_middle_channel_or_the_cubes():
    one, several = Beam(2 * u.arcsec), Beams(major=[1, 2, 3, 0] * u.arcsec, minor=[1, 2, 3, 0] * u.arcsec)
    for beams, channels, expected in (
        (None, (0, 4), one),
        (Beam(5 * u.arcsec), (0, 4), one),
        (several, (0, 3), several[1]),
        (several, (2, 3), several[2]),
        (several, (3, 4), one),  # none known for that channel
    ):
        cube = SimpleNamespace(beams=beams, beam=one)
        assert beam_of(cube, candidate_of(channels=channels)) == expected


def test_there_is_no_size_without_a_fit_or_a_beam():
    cube = SimpleNamespace(celestial=None)
    fitted = Gaussian(1.0, 5.0, 5.0, BEAM, np.eye(6))
    for fit, beam in ((None, BEAM), (fitted, None), (None, None)):
        candidate = candidate_of(dc_maj=1.0, dc_limit=1.0)
        _measure_size(candidate, cube, fit, beam)
        assert np.isnan([candidate.dc_maj, candidate.err_dc_min, candidate.dc_limit]).all()


def test_without_sky_coordinates_the_beam_has_no_size_in_pixels_and_the_source_none_on_the_sky(header):
    cube = Cube(np.ones((N, SIDE, SIDE), np.float32), beams=Beam(6 * u.arcsec))
    assert beam_in_pixels(cube, candidate_of()) is None
    with_sky = replace(cube, wcs=WCS(header))
    assert beam_in_pixels(with_sky, candidate_of()) == pytest.approx(np.eye(2) * (6 / 2.3548) ** 2, abs=0.01)
    assert beam_in_pixels(replace(with_sky, beams=None), candidate_of()) is None
    candidate = candidate_of(dc_maj=1.0, dc_limit=1.0, x=12.0, y=12.0)
    _measure_size(candidate, cube, Gaussian(1.0, 5.0, 5.0, BEAM, np.eye(6)), BEAM)
    assert np.isnan([candidate.dc_maj, candidate.dc_limit]).all()


def test_where_no_gaussian_can_be_fitted_the_spectrum_is_that_of_a_point(header):
    """Of a negative source there is no fit; with a shape as wide as the box a spectrum would be 16 % too low."""
    sigma = 6 / 2.3548
    planes = 1e-3 * np.random.default_rng(3).normal(size=(N, SIDE, SIDE))
    planes -= 3 * Shape(12, 12, np.eye(2) * sigma**2).image(X, Y)
    cube = Cube(planes.astype(np.float32), wcs=WCS(header), unit=u.Jy / u.beam, beams=Beam(6 * u.arcsec))
    candidate = candidate_of("continuum")
    measure(candidate, cube, cut_out(cube, candidate.box, SIDE), (12.0, 12.0))
    assert candidate.peak == pytest.approx(-3, rel=1e-2)


# --- all together, in a cube of nearly no noise and no beam ---


def box_measured(level: float, kind: str = "line", place=None, share: float = 1.0, height: float = 5.0) -> Candidate:
    image = Shape(12.3, 11.6, BEAM).image(X, Y)
    planes = (
        1e-3 * np.random.default_rng(3).normal(size=(N, SIDE, SIDE)) + (height * PROFILE + level)[:, None, None] * image
    )
    cube = Cube.from_array(planes.astype(np.float32), name="made")
    candidate = candidate_of(kind)
    measure(candidate, cube, cut_out(cube, candidate.box, SIDE), place, share)
    return candidate


@pytest.mark.parametrize(("kind", "peaks_of_continuum"), [("line", 0), ("both", 0), ("continuum", 9)])
def test_the_flux_of_a_line_is_without_continuum_and_that_of_a_continuum_with_all(kind, peaks_of_continuum):
    total = Shape(12.3, 11.6, BEAM).image(X, Y)[5:20, 5:20].sum()
    found = box_measured(3.0, kind)
    assert found.f_sum == pytest.approx(total * (5 * PROFILE[6:15].sum() + 3.0 * peaks_of_continuum), rel=5e-3)
    assert (found.x, found.y) == pytest.approx((12.3, 11.6), abs=0.02)
    less = box_measured(3.0, "continuum").err_f_sum  # the mean of 23 free channels has an error of its own, nine times
    assert found.err_f_sum / less == pytest.approx(1 if kind == "continuum" else np.sqrt(1 + 9 / 23), rel=1e-3)
    assert found.err_x > 0


def test_a_known_place_is_kept_with_the_centre_of_the_fitted_line_and_errors_by_all_signal():
    line, both = (box_measured(level, place=(12.0, 12.0)) for level in (0.0, 3.0))
    assert (line.x, line.y, line.z) == (12.0, 12.0, 10.0)
    assert both.err_x < 0.7 * line.err_x  # the continuum places it too
    continuum = box_measured(3.0, "continuum", (12.0, 12.0), height=0.0)
    assert continuum.z == pytest.approx(10, abs=0.01)
    assert continuum.z != 10  # there is no line
    assert continuum.err_x > 0
    assert np.isnan(box_measured(-3.0, "continuum", (12.0, 12.0), height=0.0).err_x)


@pytest.mark.parametrize(("kind", "peak"), [("line", 5.0), ("both", 5.0), ("continuum", 3.0)])
def test_the_peak_of_a_line_is_over_its_continuum_and_that_of_a_continuum_is_its_level(kind, peak):
    found = box_measured(3.0, kind, (12.3, 11.6), height=0.0 if kind == "continuum" else 5.0)
    assert found.peak == pytest.approx(peak, rel=5e-3)


def test_a_flux_is_divided_by_the_share_that_the_box_holds():
    assert box_measured(0.0, share=0.5).f_sum == pytest.approx(2 * box_measured(0.0).f_sum)
    assert independent_beams((15, 15), 0) == pytest.approx(225)  # without a beam


# --- fits of points and Gaussians ---


def fit_of(
    image: np.ndarray, start: np.ndarray = BEAM, free: bool = True, sigma: float = 1.0, known=None
) -> Fit | None:
    known = np.hypot(X - 12, Y - 12) < 9 if known is None else known
    return fit_group(image[None], known, [Shape(12.2, 12, start)], BEAM, free, sigma, white(1))


def test_a_free_fit_finds_place_and_shape_and_a_point_keeps_the_beams():
    shape = np.array([[9.0, 1.5], [1.5, 6.0]])
    image = 7 * Shape(12, 12.3, shape).image(X, Y)
    fit = fit_of(image)
    assert (fit.own.x, fit.own.y, fit.amplitude) == pytest.approx((12, 12.3, 7), abs=1e-3)
    assert fit.own.matrix == pytest.approx(shape, abs=1e-2)
    assert fit.covariance.shape == (6, 6)
    point = fit_of(image, free=False)
    assert point.own.matrix is BEAM
    assert point.covariance.shape == (3, 3)


def test_no_fit_to_nothing_without_noise_to_a_negative_or_to_few_pixels():
    image = 7 * Shape(12, 12, BEAM).image(X, Y)
    assert fit_of(image) is not None
    assert fit_of(0 * image) is None
    assert fit_of(image, sigma=0.0) is None
    assert fit_of(-image, free=False) is None
    known = np.zeros((SIDE, SIDE), bool)
    known[12, 9:15] = True  # six pixels for the six values of a Gaussian
    assert fit_of(image, known=known) is None
    known[11:14, 9:15] = True
    assert fit_of(image, free=False, known=known) is not None


def test_there_is_no_fit_in_noise_of_unknown_correlation():
    image, noise = 7 * Shape(12, 12, BEAM).image(X, Y), replace(white(1), spatial=np.full((3, 3), np.nan))
    assert fit_group(image[None], np.hypot(X - 12, Y - 12) < 9, [Shape(12, 12, BEAM)], BEAM, True, 1.0, noise) is None


@pytest.mark.parametrize(("pixels", "fits"), [(6, False), (7, True)])
def test_a_point_needs_seven_pixels(pixels, fits):
    known = np.zeros((SIDE, SIDE), bool)
    known[[11, 12, 12, 12, 13, 11, 13][:pixels], [12, 11, 12, 13, 12, 11, 13][:pixels]] = True
    image = 7 * Shape(12.1, 11.9, BEAM).image(X, Y)
    assert (fit_of(image, free=False, known=known) is not None) == fits


def test_second_derivatives_of_a_gaussian_are_those_of_differences():
    def image(p: np.ndarray) -> np.ndarray:
        return p[0] * Shape(p[1], p[2], np.array([[p[3], p[4]], [p[4], p[5]]])).image(X, Y)

    at, step = np.array([7.0, 12.2, 11.7, 9.0, 1.5, 6.0]), 1e-3 * np.eye(6)
    shape = Shape(12.2, 11.7, np.array([[9.0, 1.5], [1.5, 6.0]]))
    found = curvature(shape, 7.0, shape.image(X, Y), X, Y, True)
    for i, j in ((0, 1), (1, 2), (3, 3), (1, 4), (3, 5), (0, 5)):
        up, down = (image(at + step[i] + s * step[j]) - image(at - step[i] + s * step[j]) for s in (1, -1))
        assert found[i, j].reshape(X.shape) == pytest.approx((up - down) / 4e-6, abs=2e-4)
    assert curvature(shape, 7.0, shape.image(X, Y), X, Y, False).shape == (3, 3, X.size)


def test_noise_in_the_size_of_a_gaussian_changes_its_mean_flux_to_second_order():
    """Of amplitude times the root of the determinant, by differences; where the image is linear in its parameters."""

    def flux(p: np.ndarray) -> float:
        return p[0] * np.sqrt(p[3] * p[5] - p[4] ** 2)

    at, step = np.array([7.0, 12.0, 12.0, 9.0, 1.5, 6.0]), 1e-3 * np.eye(6)
    root = 0.1 * np.random.default_rng(2).normal(size=(6, 6))
    second = [
        [sum(s * t * flux(at + s * step[i] + t * step[j]) for s in (1, -1) for t in (1, -1)) / 4e-6 for j in range(6)]
        for i in range(6)
    ]
    solved = Solved(np.eye(6), root @ root.T, np.zeros((6, 4)))
    bias = flux_bias(
        7.0, np.array([[9, 1.5], [1.5, 6]]), np.zeros((6, 6, 4)), np.zeros((6, 2, 2)), np.ones(4), solved, 1
    )
    assert bias == pytest.approx(0.5 * (np.array(second) * solved.covariance).sum() / flux(at), rel=1e-3)


def test_a_neighbour_needs_two_more_pixels():
    """A point and its free neighbour have four places, and the pixels must be more than twice that, by rule."""
    shapes, known = [Shape(12, 12, BEAM), Shape(13, 12, BEAM)], np.zeros((SIDE, SIDE), bool)
    images = np.stack([shape.image(X, Y) for shape in shapes]) + Shape(13, 12, BEAM).image(X, Y)
    known[12, 9:17] = True  # eight
    assert fit_group(images, known, shapes, BEAM, False, 1.0, white(1)) is None


def test_a_fit_that_ends_far_away_is_none():
    assert fit_of(7 * Shape(17, 12, BEAM).image(X, Y), free=False) is None  # 5 pixels; 0.6 of 4.7 are believed


def test_parameters_that_change_nothing_have_no_covariance():
    ones = np.ones((1, 5, 5))
    with np.errstate(all="raise"):
        assert sandwich(np.concatenate([ones, 0 * ones]), ones[0], white(1)) is None
    for noise in (np.inf, -1.0, np.nan):  # no noise has such a correlation
        of_noise = SimpleNamespace(correlated=lambda images, factor=noise: images * factor)
        assert sandwich(ones, ones[0], of_noise) is None
    assert sandwich(np.concatenate([ones, np.nan * ones]), ones[0], white(1)) is None
    assert sandwich(ones, ones[0], white(1)).covariance == pytest.approx(np.array([[1 / 25]]))


@pytest.mark.parametrize(("times", "wider"), [(2.0, True), (0.5, False)])
def test_a_free_fit_starts_with_the_detected_shape_or_the_beam_if_that_is_larger(monkeypatch, times, wider):
    starts = []
    monkeypatch.setattr(flux_estimators, "fit_group", lambda images, known, shapes, *_: starts.append(shapes[0].matrix))
    known, shape = np.ones((SIDE, SIDE), bool), Shape(12, 12, times * BEAM)
    made = component(np.zeros((1, SIDE, SIDE)), known, [shape], BEAM, 1.0, SimpleNamespace(noise=None, pixels=known))
    assert starts[0] is BEAM  # as a point
    assert starts[1] is (shape.matrix if wider else BEAM)
    assert (made.best, made.share, made.ratio, made.choices()) == (None, 0.0, 1.0, [])  # both failed
    assert not made.rows[0].any()


def test_a_source_is_not_its_own_neighbour_and_a_measured_shape_is_its_own():
    seeds = [Seed(12, 12, 2.0, 2.0, (), (0, N)), Seed(14, 12, 2.0, 2.0, (), (0, N), matrix=np.eye(2) * 7)]
    assert near(seeds, 0, 5.0, 0.0) == [1]
    cutout = SourceCutout(np.ones((1, SIDE, SIDE)), (2, 3))
    shape = first_shape(seeds[1], cutout, BEAM)
    assert (shape.x, shape.y) == (11, 10)
    assert shape.matrix is seeds[1].matrix


@pytest.mark.parametrize("channels", [2, 8, 9])
def test_bands_too_short_for_the_reference_have_the_highest_response_for_it(channels):
    planes = np.random.default_rng(1).normal(size=(channels, SIDE, SIDE)).astype(np.float32)
    planes[:, 12, 12] += 20
    seen = contrast(planes, np.ones(planes.shape, bool), white(channels), 4.0, 1.0, 1.0)
    assert np.isfinite(seen.reference).all()
    assert (seen.reference[:, 12, 12] > 5).all()
    if channels < 9:
        over = seen.highest > 0
        np.testing.assert_allclose(seen.reference[over], seen.highest[over], rtol=1e-5)


def test_a_shape_that_no_gaussian_has_is_not_believed():
    start = [Shape(12, 12, BEAM)]
    none = np.array([[4.0, 5.0], [5.0, 4.0]]), BEAM * np.nan, np.diag([np.inf, 1.0])
    for matrix, believed in ((BEAM, True), *((each, False) for each in none)):
        assert plausible([Shape(12, 12, matrix)], start, BEAM, 4.7) == believed


def test_kernels_longer_than_the_line_are_left_out():
    """Three sigma in the reference of three channels are under the threshold; in twelve channels they are six."""
    planes = np.broadcast_to(Shape(12, 12, BEAM).image(X, Y), (48, SIDE, SIDE)).astype(np.float32)
    known, noise = np.ones(planes.shape, bool), white(48)
    planes = planes * (3.0 / contrast(planes, known, noise, 4.7, 1.0, 1.0).reference[:, 12, 12].max())
    assert contrast(planes, known, noise, 4.7, 1.0, 1.0).highest.max() == 0
    assert contrast(planes, known, noise, 4.7, 24.0, 1.0).highest.max() > 5


def test_where_the_lines_fill_the_band_no_continuum_is_taken_off_or_part_of_the_error():
    planes = 1e-3 * np.random.default_rng(3).normal(size=(N, SIDE, SIDE)) + Shape(12, 12, BEAM).image(X, Y)
    cube = Cube.from_array(planes.astype(np.float32), name="made")
    candidate = candidate_of(peaks=(replace(LINE, centre=16.0, fwhm=40.0),), channels=(0, N))
    measure(candidate, cube, cut_out(cube, candidate.box, SIDE))
    assert candidate.f_sum == pytest.approx(N * Shape(12, 12, BEAM).image(X, Y)[5:20, 5:20].sum(), rel=1e-3)
    assert np.isfinite(candidate.err_f_sum)


def test_with_a_beam_errors_are_of_independent_beams_and_the_size_is_without_the_beam(planes_of, sky_cube):
    cube = sky_cube(planes_of([(12, 12, 10, 4, 40, 0)], shape=(N, SIDE, SIDE), seed=2))
    candidate = candidate_of()
    measure(candidate, cube, cut_out(cube, candidate.box, SIDE), (12.0, 12.0))
    alone = candidate_of()
    measure(alone, replace(cube, beams=None), cut_out(cube, candidate.box, SIDE), (12.0, 12.0))
    assert (candidate.rms, candidate.channels) == (alone.rms, alone.channels)
    in_jy = cube.beam_area  # without a beam a flux is a sum of brightness
    more = np.sqrt(225 / independent_beams((15, 15), cube.beam_area))
    assert candidate.err_f_sum / alone.err_f_sum * in_jy == pytest.approx(more, rel=1e-3)
    assert 0 < candidate.err_x < 0.2
    assert np.isfinite(candidate.dc_limit)  # a point
    assert np.isnan(alone.dc_limit)
