"""Rules that choose how a flux is measured, each on either side of its limit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.cube.cube import Cube
from napari_almadet.measure import flux_estimators, measurement
from napari_almadet.measure.catalogue_row import UNSEEN, scale_of, write
from napari_almadet.measure.cutout import Cutout, Seed, Separated
from napari_almadet.measure.flux_estimators import (
    Component,
    are_horns,
    chi_in_mask,
    component,
    first_shape,
    in_one_line,
    near,
    rows_of,
    seed_line,
    seen_in,
    weighted_image,
    window_about,
    with_its_horns,
)
from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.measure.measurement import (
    Measured,
    by_mask,
    level_at,
    line_in,
    place_by_both,
    rest_weights,
    strayed,
    weights_of_mask,
)
from napari_almadet.measure.noise import white

FWHM = 6.0
SIGMA = FWHM * gaussian_fwhm_to_sigma
BEAM = np.eye(2) * SIGMA**2


def seed(x: float = 20.0, y: float = 20.0, **values) -> Seed:
    return Seed(x, y, SIGMA, SIGMA, **({"lines": ((50.0, 10.0),), "channels": (45, 55)} | values))


# --- neighbours ---


@pytest.mark.parametrize(("beams", "neighbour"), [(0.4, False), (0.6, True), (3.0, True), (3.4, False)])
def test_neighbours_from_half_a_beam_to_three_beams_are_fitted_together(beams, neighbour):
    """What is nearer cannot be told apart, and the flank of what is further away is nothing."""
    assert near([seed(), seed(x=20 + beams * FWHM)], 0, FWHM) == ([1] if neighbour else [])


def test_the_four_nearest_neighbours_are_fitted_together():
    seeds = [seed(), *(seed(x=20 + apart * FWHM) for apart in (3.0, 1.0, 2.5, 1.5, 2.0, 0.7))]
    assert near(seeds, 0, FWHM) == [6, 2, 4, 5]


@pytest.mark.parametrize(("centre", "one"), [(67, True), (73, False), (33, True), (27, False)])
def test_lines_overlap_within_half_a_line_and_the_width_of_the_other(centre, one):
    """The first covers 45 to 55, and 40 to 60 with half of it; the other has a FWHM of 10."""
    assert in_one_line(seed(), seed(lines=((centre, 10.0),))) == one


# --- the shape of a source ---


@pytest.mark.parametrize(("times", "wider"), [(1.4, False), (1.6, True)])
def test_a_fit_starts_with_the_beam_unless_the_detection_is_half_as_large_again(times, wider):
    """In area."""
    one = seed()
    one = Seed(one.x, one.y, SIGMA * np.sqrt(times), SIGMA * np.sqrt(times), one.lines, one.channels)
    found = first_shape(one, SimpleNamespace(origin=(0, 0)), BEAM).matrix
    assert found == pytest.approx(BEAM * (times if wider else 1))


@pytest.mark.parametrize(("excess", "resolved"), [(2.8, False), (3.2, True)])
def test_a_source_is_resolved_if_its_area_exceeds_the_beams_by_three_sigma(excess, resolved):
    fit = SimpleNamespace(own=Shape(0, 0, BEAM))
    rows = (np.ones((1, 1)), np.ones((1, 1)))
    assert Component(None, fit, 0.9, rows, 1.2, 0.1, excess).resolved == resolved


def a_fit(bias: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(own=Shape(0, 0, BEAM), bias=bias, covariance=np.eye(6))


ROWS = (np.ones((1, 1)), 2 * np.ones((1, 1)))


@pytest.mark.parametrize(
    ("share", "method", "weights"),
    [
        (0.4, "point", [0.6, 0.4]),
        (0.6, "fit", [0.4, 0.6]),
        (0.9925, "fit", [1.0]),
        (0.0075, "point", [1.0]),
        (0.985, "fit", [0.015, 0.985]),
        (0.015, "point", [0.985, 0.015]),
    ],
)
def test_point_and_fit_share_a_flux_unless_one_of_them_has_less_than_a_hundredth(share, method, weights):
    point, fit = a_fit(0.1), a_fit(0.25)
    one = Component(point, fit, share, ROWS, 1.5, 0.1)
    choices = one.choices()
    assert one.method == method
    assert one.best is (fit if method == "fit" else point)
    assert [choice[0] for choice in choices] == pytest.approx(weights)
    areas = [1 / 1.1, 1.5 / 1.25] if len(weights) == 2 else [1.5 / 1.25] if method == "fit" else [1 / 1.1]
    assert [choice[2] for choice in choices] == pytest.approx(areas)  # less what noise adds on average


def test_where_one_of_point_and_fit_failed_the_other_is_taken_and_nothing_where_both_did():
    point, fit = a_fit(), a_fit()
    alone = Component(None, fit, 0.2, ROWS, 1.5, 0.1)
    assert alone.best is fit and len(alone.choices()) == 1 and alone.shape is fit.own and alone.size is not None
    alone = Component(point, None, 0.9, ROWS, 1.0, 0.0, 9.0)
    assert alone.best is point and len(alone.choices()) == 1 and alone.size is None and not alone.resolved
    assert Component(None, None, 0.0, ROWS, 1.0, 0.0).shape is None


def test_a_gaussian_ends_where_it_is_a_thousandth_of_its_peak():
    """At 3.72 sigma: 2 ln 1000 is 3.72 squared."""
    shape = Shape(20.0, 20.0, BEAM)
    row = rows_of([shape], np.ones((41, 41), bool))[0]
    y, x = np.indices((41, 41))
    apart = np.hypot(x - 20, y - 20) / SIGMA
    assert apart[row > 0].max() < 3.717 < apart[row <= 0].min() + 0.2
    assert ((row > 0) == (apart < 3.717)).all()
    assert seen_in([shape], (41, 41)) == (slice(10, 31), slice(10, 31))  # 9.5 pixels


# --- the spectrum of a source ---


def test_a_line_without_a_width_is_flat_over_its_channels():
    assert np.flatnonzero(seed_line(seed(lines=((50.0, 0.0),)), 100)).tolist() == list(range(45, 55))
    assert np.flatnonzero(seed_line(seed(lines=()), 100)).tolist() == list(range(45, 55))
    assert seed_line(seed(), 100)[[45, 50, 55]] == pytest.approx([0.5, 1, 0.5])


def test_an_image_of_a_line_has_the_height_of_the_line_where_the_noise_differs():
    """By least squares, weighted with the inverse variance: exact without noise, whatever the weights."""
    spectrum = np.exp(-(((np.arange(30) - 15) / 4) ** 2))
    planes = (spectrum[:, None, None] * np.arange(1, 7).reshape(2, 3)).astype(np.float32)
    found = weighted_image(spectrum, planes, np.linspace(0, 3, 30))
    assert found == pytest.approx(np.arange(1, 7).reshape(2, 3), rel=1e-5)


def test_a_line_is_fitted_in_its_own_width_on_both_sides_without_other_lines():
    """And three channels; a line of FWHM 4 at channel 60 covers 56 to 64."""
    assert window_about(40, 50, [(60.0, 4.0), (45.0, 20.0)], 100).tolist() == [*range(27, 56)]
    assert window_about(40, 50, [], 100).tolist() == list(range(27, 64))


# --- is it a Gaussian? ---


@pytest.mark.parametrize(
    ("chi", "left", "pixels", "mask"),
    [
        (2.0, 0.2, 100, True),
        (1.5, 0.2, 100, False),  # 1.6 times the noise
        (1.7, 0.2, 100, True),
        (2.0, 0.11, 100, False),  # 12 % of the flux
        (2.0, 0.13, 100, True),
        (2.0, 0.2, 80, False),  # two beams are 81.6 pixels
        (2.0, 0.2, 84, True),
    ],
)
def test_the_mask_is_summed_where_a_gaussian_leaves_a_part_of_its_flux(monkeypatch, chi, left, pixels, mask):
    summed = []
    monkeypatch.setattr(measurement, "chi_in_mask", lambda *_: (chi, left))
    monkeypatch.setattr(measurement, "sum_the_mask", lambda *_: summed.append(1))
    voxels = np.zeros((3, 10, 10), bool)
    voxels[1].flat[:pixels] = True
    task = SimpleNamespace(
        parts=SimpleNamespace(mask=voxels), scale=SimpleNamespace(fwhm=FWHM), cutout=None, lines=None
    )
    made = SimpleNamespace(spectrum=np.ones(3), line=None, channels=(0, 3), shape=None, chi=np.nan, blended=True)
    by_mask(task, made, [Shape(5, 5, BEAM)])
    assert bool(summed) == mask


def test_there_is_no_sum_over_an_empty_mask_or_without_a_spectrum(monkeypatch):
    monkeypatch.setattr(measurement, "chi_in_mask", lambda *_: (9.0, 0.9))
    scale = SimpleNamespace(fwhm=FWHM)
    for voxels, spectrum in ((np.zeros((3, 10, 10), bool), np.ones(3)), (np.ones((3, 10, 10), bool), None)):
        task = SimpleNamespace(parts=SimpleNamespace(mask=voxels), scale=scale, cutout=None, lines=None)
        by_mask(task, SimpleNamespace(spectrum=spectrum, line=None, channels=(0, 3), shape=None), [Shape(5, 5, BEAM)])


def test_what_a_gaussian_leaves_of_two_sources_is_what_the_second_adds():
    """In units of the noise after smoothing, and as a part of all; two equal sources, of which one is fitted."""
    side = 41
    y, x = np.indices((side, side))
    first, second = (Shape(px, 20.0, BEAM) for px in (10.0, 30.0))
    images = [shape.image(x, y) for shape in (first, second)]
    line = np.exp(-(((np.arange(30) - 15) / 3) ** 2))[:, None, None]
    planes = (50 * line * (images[0] + images[1])).astype(np.float32)
    mask = planes > 5
    noise = white(30)
    cutout = SimpleNamespace(
        pixels=np.ones((side, side), bool), rms=np.ones(30), level=np.ones((side, side)), noise=noise
    )
    parts = SimpleNamespace(mask=mask)
    chi, left = chi_in_mask(planes, [first], parts, cutout, FWHM, 8.0)
    assert left == pytest.approx(np.sqrt(0.5), rel=0.02)
    assert chi > 10
    assert chi_in_mask(planes, [first, second], parts, cutout, FWHM, 8.0)[1] < 0.05


# --- its place ---


@pytest.mark.parametrize(("apart", "far"), [(0.55, False), (0.65, True)])
def test_a_place_strays_if_it_moves_by_six_tenths_of_the_source(apart, far):
    for extent in (1.0, 2.0):
        one = Seed(20, 20, SIGMA * extent, SIGMA, (), (0, 1))
        assert strayed((20 + apart * FWHM * extent, 20.0, 0.1, 0.1), 20, 20, one, FWHM) == far
    assert not strayed((np.nan,) * 4, 20, 20, seed(), FWHM)


@pytest.mark.parametrize(("sigma", "larger"), [(2.5, False), (5.0, True)])
def test_two_places_that_differ_by_more_than_three_errors_have_a_larger_one(sigma, larger):
    apart = sigma * np.hypot(0.1, 0.2)
    x, _, err_x, err_y = place_by_both((0.0, 0.0, 0.1, 0.1), (apart, 0.0, 0.2, 0.2))
    assert x == pytest.approx(apart * 0.1**2 / (0.1**2 + 0.2**2))
    assert err_y == pytest.approx(0.1 * 0.2 / np.hypot(0.1, 0.2))
    assert (err_x > 1.001 * err_y) == larger


def test_the_continuum_of_a_place_is_a_mean_over_the_pixels_where_the_source_is_bright():
    """Above three tenths of its peak; the free channels there."""
    parts = SimpleNamespace(has_continuum=True, rest=np.zeros((4, 41, 41), bool))
    parts.rest[0] = True
    parts.rest[1, 20, 20] = True
    parts.rest[2, 20, 26] = True  # a beam away: a sixteenth of the peak
    weights = rest_weights(parts, Shape(20.0, 20.0, BEAM))
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > weights[1] > 0
    assert weights[2] == weights[3] == 0
    parts.has_continuum = False
    assert not rest_weights(parts, Shape(20.0, 20.0, BEAM)).any()


def test_the_noise_at_a_source_outside_a_cutout_is_that_of_its_edge():
    cutout = SimpleNamespace(level=np.arange(12.0).reshape(3, 4))
    assert level_at(cutout, Shape(1.4, 0.6, BEAM)) == 5
    assert level_at(cutout, Shape(-3.0, 9.0, BEAM)) == 8


# --- what it is ---


@pytest.mark.parametrize(
    ("line", "continuum", "kind"),
    [(4.3, 4.7, "continuum"), (4.7, 4.3, "line"), (4.7, 4.7, "both"), (4.3, 4.3, "line")],
)
def test_a_line_and_a_continuum_are_there_from_four_and_a_half_sigma_on(line, continuum, kind):
    """And if neither is, the candidate stays what the search says."""
    planes = np.random.default_rng(1).normal(size=(64, 41, 41)).astype(np.float32)
    cube, cutout = Cube.from_array(planes), Cutout(planes, (0, 0), white(64))
    nothing = np.zeros(planes.shape, bool)
    parts = Separated(nothing, nothing, ~nothing, np.zeros((41, 41), np.float32), True, np.nan)
    made = Measured(parts, place=(20.0, 20.0, 0.1, 0.1), line_snr=line, continuum=continuum, err_continuum=1.0)
    made.lines = planes
    candidate = Candidate(1, Box(15, 26, 15, 26), 0.9, kind="line", channels=(45, 55))
    one = seed()
    write(candidate, cube, cutout, one, scale_of(cube, 20.0, 20.0, (45, 55), FWHM), made)
    assert candidate.kind == kind


@pytest.mark.parametrize(("snr", "known"), [(5.5, False), (6.5, True)])
def test_a_line_that_the_search_missed_counts_from_six_sigma_on(snr, known):
    """In the source's own spectrum; the best of many trial lines.  A Gaussian of FWHM 5 has 1.94 of its peak's S/N."""
    channel = np.arange(128)
    made = SimpleNamespace(own_variance=1.0)
    made.own = snr / np.sqrt(0.7527 * 5) * np.exp(-4 * np.log(2) * ((channel - 64) / 5) ** 2)
    cutout = Cutout(np.ones((128, 2, 2), np.float32), (0, 0), white(128))
    assert (line_in(made, cutout, None, UNSEEN) is not None) == known


def test_a_line_whose_peaks_do_not_adjoin_stays_as_it_was_detected():
    one = seed(lines=((50.0, 10.0), (80.0, 4.0)), channels=(48, 52))
    assert with_its_horns(one, np.zeros(100), lambda weights: 1.0) is one


def test_a_free_fit_starts_where_the_point_was_fitted(monkeypatch):
    starts = []
    fitted = SimpleNamespace(shapes=[Shape(9.0, 8.0, BEAM)])
    monkeypatch.setattr(flux_estimators, "fit_group", lambda images, known, shapes, *_: starts.append(shapes) or fitted)
    monkeypatch.setattr(flux_estimators, "area_ratio", lambda *_: (1.0, 0.1, 0.0))
    cutout = SimpleNamespace(noise=None, pixels=np.ones((17, 17), bool))
    component(np.zeros((1, 17, 17)), cutout.pixels, [Shape(8.0, 8.0, BEAM)], BEAM, 1.0, cutout)
    assert [shapes[0].x for shapes in starts] == [8.0, 9.0]


@pytest.mark.parametrize("fitted", [True, False])
def test_what_a_gaussian_leaves_is_smoothed_by_the_line_and_is_of_the_fitted_shape(monkeypatch, fitted):
    """Or by its detected channels, and of the detected shape."""
    seen = []
    monkeypatch.setattr(
        measurement, "chi_in_mask", lambda lines, shapes, *given: seen.append((shapes, given[-1])) or (0, 0)
    )
    mask = np.ones((3, 10, 10), bool)
    task = SimpleNamespace(parts=SimpleNamespace(mask=mask), scale=SimpleNamespace(fwhm=FWHM), cutout=None, lines=None)
    first, other, own = (Shape(x, 5, BEAM) for x in (5, 8, 4))
    line = SimpleNamespace(width=lambda level: 7.0 if level == 0.5 else 99.0)
    made = SimpleNamespace(spectrum=np.ones(3), line=None, channels=(3, 5), shape=None, chi=np.nan, blended=True)
    made.line, made.shape = (line, own) if fitted else (None, None)
    by_mask(task, made, [first, other])
    assert seen == [([own if fitted else first, other], 7.0 if fitted else 2)]


@pytest.mark.parametrize("has_continuum", [True, False])
def test_the_weights_of_a_mask_take_off_the_continuum_if_there_is_one(has_continuum):
    mask = np.zeros((8, 3, 3), bool)
    mask[2:4] = True
    parts = SimpleNamespace(mask=mask, rest=~mask, has_continuum=has_continuum)
    weights = weights_of_mask(parts, SimpleNamespace(flux=np.full(8, 2.0), width=3.0))
    assert weights[2] == pytest.approx(6.0)
    assert weights.sum(axis=0) == pytest.approx(0.0 if has_continuum else 12.0)


@pytest.mark.parametrize(("valley", "error", "one"), [(2.9, 0.0, 0), (3.1, 0.0, 1), (1.9, 0.5, 0), (2.1, 0.5, 1)])
def test_two_peaks_are_horns_if_the_valley_may_have_a_third_of_the_fainter(valley, error, one):
    """Within two errors of it."""
    spectrum = np.full(100, valley)
    spectrum[38:43], spectrum[58:63] = 12.0, 9.0
    assert are_horns((40.0, 10.0), (60.0, 10.0), spectrum, lambda weights: error) == bool(one)
