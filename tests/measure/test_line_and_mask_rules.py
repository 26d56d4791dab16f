"""Rules of the fits of a line and of an image, and of masks, each on either side of its limit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.special import ndtr

from napari_almadet.measure import cutout as cutouts
from napari_almadet.measure import line_model
from napari_almadet.measure.cutout import Cutout, Seed, separated
from napari_almadet.measure.gaussian_group import Shape, fit_group, plausible
from napari_almadet.measure.line_model import Line, _Problem, crossing_width, fit_line, whitening
from napari_almadet.measure.mask import Contrast, contrast, suits
from napari_almadet.measure.noise import white

CHANNEL = np.arange(64.0)


def gaussian(centre: float, fwhm: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((CHANNEL - centre) / fwhm) ** 2)


def fits(spectrum: np.ndarray, fwhm: float = 10.0, most: int | None = None) -> tuple[Line, Line]:
    """One Gaussian, and as many as are needed, in noise of 1 that is not there."""
    found = fit_line(spectrum, np.arange(64), np.eye(64), 32.0, fwhm, **({} if most is None else {"most": most}))
    assert found is not None
    return found


# --- lines ---


def test_a_line_has_three_components_at_most():
    """Two horns and a wing; here are more."""
    peaks = 60 * gaussian(32, 4) + 20 * gaussian(32, 16) + 30 * gaussian(50, 5) + 30 * gaussian(12, 5)
    assert len(fits(peaks, 8)[1].parameters) == 3
    assert len(fits(peaks, 8, most=6)[1].parameters) > 3
    assert len(fits(50 * gaussian(24, 8) + 50 * gaussian(40, 8), 24)[1].parameters) == 2


@pytest.mark.parametrize(("more", "components"), [(3.0, 1), (4.6, 2)])
def test_a_second_component_pays_if_the_odds_for_it_are_seven_to_one(more, components):
    """The information criterion takes 3 ln n of chi^2 for its three parameters, and odds of e^2 are 4 more."""
    shape = gaussian(26, 8) + 0.5 * gaussian(50, 8)
    left = fits(shape * 100, 10, most=1)[0].chi2 * (64 - 3) / 100**2
    spectrum = shape * np.sqrt((3 * np.log(64) + more) / left)
    assert len(fits(spectrum, 10)[1].parameters) == components


def test_a_component_is_no_narrower_than_three_tenths_of_the_line():
    """What is narrower is noise: a spike of three channels on a line of 24."""
    single, best = fits(40 * gaussian(32, 24) + 40 * gaussian(36, 3), 24)
    narrowest = best.parameters[:, 2].min()
    assert 0.3 * single.parameters[0, 2] <= narrowest < 0.45 * single.parameters[0, 2]


def test_a_line_in_one_channel_is_a_fifth_of_a_channel_wide():
    """Narrower ones look the same."""
    spectrum = np.zeros(64)
    spectrum[32] = 50.0
    assert 0.15 < fits(spectrum, 1.0)[0].parameters[0, 2] < 0.3


@pytest.mark.parametrize(("height", "shown"), [(0.02, False), (0.04, True)])
def test_a_wing_of_three_percent_is_part_of_the_range_of_a_line(height, shown):
    line = Line(np.array([[1.0, 30.0, 6.0], [height, 50.0, 6.0]]), np.eye(6), 1.0)
    assert (line.range[1] > 50) == shown


def test_the_range_of_a_line_holds_99_percent_of_it():
    low, high = Line(np.array([[1.0, 30.0, 6.0]]), np.eye(3), 1.0).range
    sigma = 6 * gaussian_fwhm_to_sigma
    assert ndtr((high - 30) / sigma) - ndtr((low - 30) / sigma) == pytest.approx(0.99, abs=0.003)


def test_channels_that_seem_to_have_no_noise_have_a_thirtieth_of_the_variance_of_others():
    """What is less is an error of the estimated covariance, and would outweigh all other channels."""
    weights = np.diag(whitening(np.diag([1.0, 0.1, 1e-6]))) ** 2
    assert weights[:2] == pytest.approx([1, 10])
    assert 25 < weights[2] < 45


# --- images ---

FWHM = 6.0
BEAM = np.eye(2) * (FWHM * gaussian_fwhm_to_sigma) ** 2
BEAM_AT = Shape(20.0, 20.0, BEAM)


@pytest.mark.parametrize(
    ("times", "believed"), [((0.2, 1.0), False), ((0.3, 1.0), True), ((1.0, 5.5), True), ((1.0, 6.5), False)]
)
def test_a_fitted_size_lies_between_a_quarter_of_the_beam_and_six_times_the_detection(times, believed):
    found = Shape(20.0, 20.0, BEAM @ np.diag(np.square(times)))
    assert plausible([found], [BEAM_AT], BEAM, FWHM) == believed


@pytest.mark.parametrize(
    ("apart", "neighbours", "believed"), [(0.55, 0, True), (0.65, 0, False), (0.3, 1, True), (0.4, 1, False)]
)
def test_a_fitted_place_moves_by_six_tenths_of_a_beam_at_most_and_less_beside_a_neighbour(apart, neighbours, believed):
    beside = [Shape(32.0, 20.0, BEAM)] * neighbours
    moved = Shape(20 + apart * FWHM, 20.0, BEAM)
    assert plausible([moved, *beside], [BEAM_AT, *beside], BEAM, FWHM) == believed


def test_a_fitted_size_that_is_no_number_is_not_believed():
    for matrix in (np.full((2, 2), np.nan), np.zeros((2, 2))):
        assert not plausible([Shape(20.0, 20.0, matrix)], [BEAM_AT], BEAM, FWHM)


@pytest.mark.parametrize(("beams", "moved"), [(1.8, True), (2.2, False)])
def test_a_neighbour_within_two_beams_is_placed_in_the_fit(beams, moved):
    """It was detected half a pixel from where it is."""
    y, x = np.indices((41, 41))
    beside = Shape(20 + beams * FWHM, 20.0, BEAM)
    image = 50 * (BEAM_AT.image(x, y) + beside.image(x, y))
    start = [BEAM_AT, Shape(beside.x + 0.5, 20.0, BEAM)]
    fit = fit_group(np.stack([image, image]), np.ones((41, 41), bool), start, BEAM, False, 1.0, white(1))
    assert fit is not None
    assert fit.shapes[1].x == pytest.approx(beside.x if moved else beside.x + 0.5, abs=0.02)


@pytest.mark.parametrize(("snr", "bias"), [(50.0, 0.0), (0.3, 0.2)])
def test_a_fifth_at_most_is_taken_off_a_faint_flux(snr, bias):
    y, x = np.indices((41, 41))
    image = BEAM_AT.image(x, y)[None]
    fit = fit_group(image, np.ones((41, 41), bool), [BEAM_AT], BEAM, True, 1 / snr, white(1))
    assert fit is not None
    assert abs(fit.bias) == pytest.approx(bias, abs=0.001)


# --- masks ---


@pytest.mark.parametrize(
    ("beams", "channels"),
    [
        *((0.0, 1), (0.0, 3), (1.0, 1), (1.0, 3), (1.0, 7), (1.0, 15)),
        *((2.0, 3), (2.0, 7), (2.0, 15), (3.5, 7), (3.5, 15)),
    ],
)
def test_a_mask_sees_points_and_extended_sources_in_lines_of_any_width_nearly_as_well_as_possible(beams, channels):
    """In white noise, with the S/N that a filter of the source's own shape has."""
    side, n, beam = 61, 64, 5.0
    y, x = np.indices((side, side)) - side // 2
    wide = beams * beam * gaussian_fwhm_to_sigma
    image = np.exp(-(x**2 + y**2) / (2 * wide**2)) if beams else ((x == 0) & (y == 0)).astype(float)
    planes = np.zeros((n, side, side), np.float32)
    first = n // 2 - channels // 2
    planes[first : first + channels] = image
    ideal = np.sqrt((planes**2).sum())
    seen = contrast(50 * planes, np.ones(planes.shape, bool), white(n), beam, 40, 6.0)
    at = (n // 2, side // 2, side // 2)
    assert seen.highest[at] > 0.93 * 50 * ideal
    if (beams, channels) == (1.0, 3):
        assert seen.reference[at] > 0.93 * 50 * ideal


@pytest.mark.parametrize(("half", "kernels"), [(2.0, 0), (2.4, 1), (4.5, 1), (5.5, 2)])
def test_wide_kernels_are_for_wide_sources(half, kernels):
    """The response in the middle of emission without an end rises with the widest kernel."""
    planes = np.zeros((64, 91, 91), np.float32)
    planes[29:36] = 1.0
    seen = contrast(planes * 30, np.ones(planes.shape, bool), white(64), 5.0, 40, half).highest[32, 45, 45]
    noise = white(64)
    expected = [30 / noise.smoothed(size * 5.0, 7) for size in (1.0, 2.0, 3.5)]
    assert seen == pytest.approx(expected[kernels], rel=0.02)


@pytest.mark.parametrize(
    ("channels", "width", "n_channels", "suit"),
    [
        (7, 10, 100, True),
        (7, 9, 100, False),
        (3, 1, 100, True),
        (7, 100, 21, True),
        (7, 100, 20, False),
        (3, 9, 8, False),
    ],
)
def test_channels_are_averaged_over_six_tenths_of_a_line_and_a_third_of_the_band(channels, width, n_channels, suit):
    assert suits(channels, width, n_channels) == suit


@pytest.mark.parametrize(("negative", "threshold"), [(4.2, 4.5), (4.8, 5.0), (5.5, 6.0), (6.5, 7.0)])
def test_the_threshold_of_a_mask_is_one_that_noise_does_not_reach(negative, threshold):
    image, low = np.zeros((2, 4, 50, 50), np.float32)
    image[0].flat[:1000] = 8
    low[1].flat[:200] = -negative
    assert Contrast(image, low, image).threshold() == threshold


@pytest.mark.parametrize(("beam", "pixels"), [(2.0, 1), (6.0, 2), (12.0, 4)])
def test_a_mask_grows_by_a_third_of_a_beam_and_a_channel(monkeypatch, beam, pixels):
    asked = []
    monkeypatch.setattr(cutouts, "grown", lambda own, others, known, *by: asked.append(by) or own)
    y, x = np.indices((41, 41)) - 20
    planes = np.random.default_rng(3).normal(size=(32, 41, 41))
    planes[14:19] += 20 * np.exp(-4 * np.log(2) * (x**2 + y**2) / beam**2)
    seed = Seed(20, 20, beam / 2.355, beam / 2.355, ((16.0, 5.0),), (13, 20))
    parts = separated(Cutout(planes.astype(np.float32), (0, 0), white(32)), [seed], 0, beam)
    assert parts.mask[16, 20, 20]
    assert asked == [(pixels, 1)]


@pytest.mark.parametrize(("beams", "own"), [(0.75, True), (0.55, True), (1.4, False)])
def test_the_emission_of_a_detection_is_within_eight_tenths_of_a_beam(beams, own):
    """Its brightest voxel.  A source that is just above the threshold is not seen where it has half its height."""
    beam = 10.0
    y, x = np.indices((61, 61)) - 30
    source = np.exp(-4 * np.log(2) * ((x - beams * beam) ** 2 + y**2) / beam**2)
    planes = 1e-4 * np.random.default_rng(3).normal(size=(32, 61, 61))
    planes[14:19] += 4.6 / np.sqrt(3 * (source**2).sum()) * source
    seed = Seed(30, 30, beam / 2.355, beam / 2.355, ((16.0, 5.0),), (13, 20))
    parts = separated(Cutout(planes.astype(np.float32), (0, 0), white(32)), [seed], 0, beam)
    assert parts.mask[16, 30, 30 + round(beams * beam)] == own


# --- fits of lines that are none ---


def problem_of(spectrum: np.ndarray) -> _Problem:
    channel = np.arange(float(len(spectrum)))
    return _Problem(channel, np.eye(len(spectrum)), spectrum)


@pytest.mark.parametrize(
    ("spectrum", "start"),
    [
        (-gaussian(32, 10), (32.0, 10.0)),  # in absorption
        (gaussian(70, 20), (60.0, 20.0)),  # its centre lies outside of the band
        (np.ones(64), (32.0, 40.0)),  # wider than the band
    ],
)
def test_a_fit_that_ends_outside_of_the_band_or_is_negative_or_wider_is_no_line(spectrum, start):
    assert problem_of(gaussian(32, 10)).fitted([(32.0, 12.0)]) is not None
    assert problem_of(spectrum).fitted([start]) is None


def test_a_line_whose_parameters_change_nothing_is_none(monkeypatch):
    monkeypatch.setattr(Line, "slopes", lambda self, channel: np.zeros((len(channel), 3)))
    assert problem_of(gaussian(32, 10)).fitted([(32.0, 12.0)]) is None


def test_without_channels_there_is_no_line():
    assert fit_line(gaussian(32, 10), np.arange(0), np.zeros((0, 0)), 32.0, 10.0) is None


def test_no_second_component_is_tried_where_nothing_is_left_to_fit(monkeypatch):
    tried = []
    original = _Problem.fitted
    monkeypatch.setattr(_Problem, "fitted", lambda *given: tried.append(1) or original(*given))
    fits(20 * gaussian(32, 10))
    assert len(tried) == 1


def test_one_component_is_also_tried_as_two_halves_and_several_are_not():
    one, two = (Line(np.array([[5.0, 20.0, 10.0]] * n), np.eye(3 * n), 1.0) for n in (1, 2))
    problem = problem_of(gaussian(32, 10))
    assert problem.starts(one, 4.0, 40.0) == [[(20.0, 10.0), (40.0, 4.0)], [(16.5, 6.0), (23.5, 6.0)]]
    assert problem.starts(two, 4.0, 40.0) == [[(20.0, 10.0), (20.0, 10.0), (40.0, 4.0)]]


def test_a_line_of_no_height_has_no_asymmetry():
    flat = Line(np.array([[0.0, 32.0, 10.0]]), np.eye(3), 1.0)
    assert flat.skew(np.ones(64), np.arange(64), np.eye(64)) == (0.0, 0.0)


def test_a_width_is_interpolated_between_channels():
    assert crossing_width(np.array([0.0, 1.0, 3.0, 1.0, 0.0]), 0.5) == pytest.approx(1.5)
    assert crossing_width(np.array([3.0, 1.0, 0.0]), 0.5) == pytest.approx(0.5 + 0.75)  # it falls to 0 beside the band
    assert crossing_width(np.array([2.0, 2.0]), 0.5) == pytest.approx(2.0)
    for nothing in (np.zeros(5), -np.ones(5), np.full(5, np.nan)):
        assert np.isnan(crossing_width(nothing, 0.5))


def test_a_width_of_what_does_not_fall_within_the_sampled_range_ends_with_it():
    grid, rising = np.arange(5.0), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert line_model._crossed(grid, rising, 2.5) == pytest.approx(2.5)
    assert line_model._crossed(grid, rising[::-1], 2.5) == pytest.approx(2.5)
    assert np.isnan(line_model._crossed(grid, rising, 9.0))
