"""Rules by which line and continuum of one source are measured together, each on either side of it.

The noise that the cutouts are said to have is 1000 times what they have, so that values are exact and errors are not 0.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.measure import measurement
from napari_almadet.measure.cutout import Cutout, Seed, unmasked
from napari_almadet.measure.flux_estimators import Component, rows_of
from napari_almadet.measure.gaussian_group import Fit, Shape
from napari_almadet.measure.line_model import Line, fit_line
from napari_almadet.measure.measurement import (
    LineTask,
    Measured,
    Scale,
    fit_the_continuum,
    fit_the_image,
    measure_source,
    place_by_both,
    place_of_continuum,
    range_of,
    spectral_index,
    spectrum_of_neighbour,
    take_the_widths,
)
from napari_almadet.measure.noise import white

N, SIDE, FWHM = 24, 25, 5.0
SIGMA = FWHM / 2.3548
BEAM = np.eye(2) * SIGMA**2
WIDE = 2 * BEAM  # twice the beam's area
AREA = 2 * np.pi * SIGMA**2
SCALE = Scale(BEAM, np.full(N, AREA), np.full(N, 1 / AREA), 1.0)  # a flux is the brightness of a point's peak
Y, X = np.mgrid[:SIDE, :SIDE]
NOTHING = Seed(12, 12, SIGMA, SIGMA, (), (0, N))
LINE = replace(NOTHING, lines=((6.0, 3.0),), channels=(3, 10))


def cutout_of(*sources: tuple[float, float, np.ndarray, float | np.ndarray]) -> Cutout:
    """A cutout of sources: x, y, shape, and brightness in all channels or in each."""
    planes = 1e-3 * np.random.default_rng(1).normal(size=(N, SIDE, SIDE))
    for x, y, matrix, spectrum in sources:
        planes += np.broadcast_to(spectrum, N)[:, None, None] * Shape(x, y, matrix).image(X, Y)
    return Cutout(planes.astype(np.float32), (0, 0), white(N), np.ones((SIDE, SIDE), np.float32))


def component_of(share: float, extra: float = 0.0) -> Component:
    """The fit of a line at the middle: as a point, and as a Gaussian of twice its area, which has a ``share``."""
    shapes = Shape(12, 12, BEAM), Shape(12, 12, WIDE)
    point, fit = (
        Fit((shape,), 5.0, np.diag([0.01, 0.01, 0.01, 0.1, 0.1, 0.1])[:n, :n], 1.0)
        for shape, n in zip(shapes, (3, 6), strict=True)
    )
    rows = tuple(rows_of([shape], np.ones((SIDE, SIDE), bool), BEAM)[0] for shape in shapes)
    return Component(point, fit, share, rows, 2.0, extra)


def continuum_measured(cutout: Cutout, seed: Seed, line: Component | None = None, parts=None, **values) -> Measured:
    parts = unmasked(cutout, seed) if parts is None else parts
    made = Measured(parts, **values)
    fit_the_continuum(cutout, [seed], [0], parts, SCALE, made, line)
    return made


# --- a continuum by itself ---


@pytest.mark.parametrize(("brightness", "rel"), [(0.2, 0.15), (3.0, 0.01)])
def test_a_source_without_a_line_is_placed_by_its_continuum_however_faint(brightness, rel):
    """At 3.7 and at 55 sigma; what noise adds to a flux on average is taken off, 2 / 3.7^2 for the place."""
    made = continuum_measured(cutout_of((12.4, 11.8, BEAM, brightness)), NOTHING)
    assert made.continuum == pytest.approx(brightness, rel=rel)
    assert made.place[:2] == pytest.approx((12.4, 11.8), abs=0.02)
    assert made.method == "point"


def test_a_continuum_that_cannot_be_estimated_is_not_measured():
    cutout = cutout_of((12, 12, BEAM, 3.0))
    without = replace(unmasked(cutout, NOTHING), has_continuum=False)
    assert np.isnan(continuum_measured(cutout, NOTHING, parts=without).continuum)
    elsewhere = unmasked(cutout, NOTHING)
    elsewhere.rest[:, 4:21, 4:21] = False  # channels are free far from the source only
    assert np.isnan(continuum_measured(cutout, NOTHING, parts=elsewhere).continuum)


def test_where_no_shape_fits_the_continuum_is_that_of_a_point_without_a_place(monkeypatch):
    failed = Component(None, None, 0.0, (np.zeros((SIDE, SIDE)),) * 2, 1.0, 0.0)
    monkeypatch.setattr(measurement, "component", lambda *_: failed)
    for size in (1.0, 2.0):  # whatever size the detection has
        detected = replace(NOTHING, sigma_x=size * SIGMA, sigma_y=size * SIGMA)
        made = continuum_measured(cutout_of((12, 12, BEAM, 3.0)), detected)
        assert made.continuum == pytest.approx(3.0, rel=1e-3)
        assert np.isnan(made.place).all()


def test_the_continuum_of_a_mask_is_the_sum_over_its_pixels_outside_the_line():
    cutout = cutout_of((12, 12, BEAM, 3.0), (12, 12, BEAM, 50.0 * (np.abs(np.arange(N) - 6) < 2)))
    mask = np.zeros((N, SIDE, SIDE), bool)
    mask[5:8, 10:15, 9:16] = True
    parts = replace(unmasked(cutout, LINE), mask=mask)
    made = continuum_measured(cutout, LINE, parts=parts, method="mask")
    assert made.continuum == pytest.approx(3 * Shape(12, 12, BEAM).image(X, Y)[10:15, 9:16].sum() / AREA, rel=1e-2)
    parts.mask[2:18] = mask[6]  # with two channels and a tenth on either side four channels are left, six are needed
    assert np.isnan(continuum_measured(cutout, LINE, parts=parts, method="mask").continuum)


# --- beside a line ---


@pytest.mark.parametrize(("share", "flux"), [(0.9, 0.4), (0.3, 0.24)])
def test_a_faint_continuum_has_the_shape_of_the_line_if_that_is_resolved(share, flux):
    """A point g fitted to a Gaussian G of twice its area is the sum of g g G over that of g g g: 3 / 2.5 of it."""
    made = continuum_measured(cutout_of((12, 12, WIDE, 0.2)), LINE, component_of(share))
    assert made.continuum == pytest.approx(flux, rel=0.02)


@pytest.mark.parametrize(("share", "larger"), [(0.9, True), (0.3, False)])
def test_the_error_of_a_continuum_of_the_lines_size_is_also_that_of_the_size(share, larger):
    cutout = cutout_of((12, 12, WIDE, 0.2))
    sizes = [continuum_measured(cutout, LINE, component_of(share, extra)).err_continuum for extra in (0.0, 0.5)]
    grown = np.hypot(sizes[0], 0.5 * 0.4) if larger else sizes[0]
    assert sizes[1] == pytest.approx(grown, rel=0.03)


@pytest.mark.parametrize(("line_snr", "by_line"), [(1000.0, True), (5.0, False)])
def test_a_bright_continuum_has_its_own_shape_and_the_row_that_of_the_surer(line_snr, by_line):
    line = component_of(0.0)
    made = continuum_measured(
        cutout_of((12, 12, WIDE, 3.0)), LINE, line, line_snr=line_snr, shape=line.shape, place=(12.0, 12.0, 0.1, 0.1)
    )
    assert made.continuum == pytest.approx(6.0, rel=0.03)
    assert made.method == ("point" if by_line else "fit")
    assert made.shape.area / AREA == pytest.approx(1 if by_line else 2, rel=0.03)


@pytest.mark.parametrize("brightness", [0.2, 3.0])
def test_line_and_continuum_share_a_place(brightness):
    at_line = (12.0, 12.0, 0.1, 0.1)
    made = continuum_measured(
        cutout_of((12.5, 12, BEAM, brightness)), LINE, component_of(0.0), line_snr=10.0, place=at_line
    )
    assert 12.02 < made.place[0] < 12.52
    assert made.place[1] == pytest.approx(12, abs=0.02)
    assert made.place[2] < 0.1 or brightness > 1  # an error of what they disagree by is added


def test_a_line_without_a_place_takes_none_from_a_faint_continuum():
    made = continuum_measured(cutout_of((12, 12, BEAM, 0.2)), LINE, component_of(0.0), line_snr=10.0)
    assert np.isnan(made.place).all()
    made = continuum_measured(cutout_of((12, 12, BEAM, 3.0)), LINE, component_of(0.0), line_snr=10.0)
    assert made.place[:2] == pytest.approx((12, 12), abs=0.02)  # a bright one has its own


def test_one_step_of_a_fit_leads_from_the_lines_place_to_the_continuums():
    shapes, known = [Shape(12, 12, BEAM)], np.ones((SIDE, SIDE), bool)
    made = Measured(SimpleNamespace(), place=(12.0, 12.0, 0.1, 0.2), line_snr=10.0)
    made.continuum_peak, made.err_continuum_peak = 5.0, 1.0
    x, y, err_x, err_y = place_of_continuum(made, shapes, Shape(12.3, 11.8, BEAM).image(X, Y), known)
    assert (x, y) == pytest.approx((12.3, 11.8), abs=0.02)
    assert (err_x, err_y) == pytest.approx((0.2, 0.4))  # at half the S/N
    for changed in ({"continuum_peak": -5.0}, {"line_snr": 0.0}, {"place": (np.nan,) * 4}):
        assert place_of_continuum(replace(made, **changed), shapes, np.ones((SIDE, SIDE)), known) is None


# --- the slope of a continuum ---


@pytest.mark.parametrize(
    ("changes", "known"), [({}, True), ({"frequency": None}, False), ({"snr": -3.0}, False), ({"free": 3}, False)]
)
def test_a_spectral_index_needs_frequencies_a_positive_continuum_and_four_free_channels(changes, known):
    frequency = 1e11 * (1 + 1e-3 * np.arange(N))
    made = Measured(SimpleNamespace(), continuum=4.0, err_continuum=4.0 / changes.get("snr", 100.0))
    rest = np.zeros(N)
    rest[: changes.get("free", 4)] = 1 / changes.get("free", 4)
    scale = replace(SCALE, frequency=changes.get("frequency", frequency))
    spectrum = 4.0 * (frequency / frequency[:4].mean()) ** -2.0
    spectral_index(made, spectrum, rest, 1e-9, np.ones(N), SimpleNamespace(rms=np.ones(N), noise=white(N)), scale)
    assert np.isfinite(made.index) == known
    if known:
        assert made.index == pytest.approx(-2, rel=0.01)
        assert made.err_index == pytest.approx(2 / 100, rel=0.02)


# --- the line ---


def task_of(cutout: Cutout, seeds: list[Seed], group: list[int]) -> LineTask:
    parts = unmasked(cutout, seeds[0])
    return LineTask(cutout, seeds, group, cutout.less(parts.continuum), parts, SCALE)


def test_a_line_is_looked_for_in_its_range_and_in_that_of_the_mask():
    task = task_of(cutout_of((12, 12, BEAM, 1.0)), [LINE], [0])
    assert task.bounds() == LINE.channels == (3, 10)
    task.parts.mask[2:15, 12, 12] = True
    assert task.bounds() == (2, 15)
    assert range_of(task, None) == (0, 18)  # a tenth of it on either side, and the channel that this ends in
    line = Line(np.array([[5.0, 12.0, 4.0]]), np.eye(3), 1.0)
    assert range_of(task, line) == (int(np.floor(line.range[0])), int(np.ceil(line.range[1])) + 1)


def test_channels_of_a_neighbours_line_are_left_out_unless_it_is_fitted_too():
    other = replace(LINE, x=15.0, lines=((13.0, 2.0),), channels=(11, 16))
    cutout = cutout_of((12, 12, BEAM, 1.0))
    assert not np.isin([11, 12, 13, 14, 15], task_of(cutout, [LINE, other], [0]).window()).any()
    assert np.isin([11, 12, 13, 14, 15], task_of(cutout, [LINE, other], [0, 1]).window()).all()


def test_the_line_of_a_neighbour_is_the_detected_one_where_none_can_be_fitted(monkeypatch):
    spectrum = 20 * np.exp(-4 * np.log(2) * ((np.arange(N) - 6) / 4.0) ** 2)
    task = task_of(cutout_of((12, 12, BEAM, spectrum)), [LINE], [0])
    row, before = rows_of([Shape(12, 12, BEAM)], np.ones((SIDE, SIDE), bool), BEAM)[0], np.full(N, 7.0)
    fitted, none, outside = (
        spectrum_of_neighbour(task, replace(LINE, lines=lines), row, np.zeros(N), before)
        for lines in (((6.5, 3.0),), (), ((200.0, 3.0),))
    )
    assert fitted == pytest.approx(np.where(spectrum > 0.2, spectrum, 0), abs=0.4)
    assert none is before
    assert outside is before
    monkeypatch.setattr(measurement, "fit_line", lambda *_, **__: None)
    assert spectrum_of_neighbour(task, LINE, row, np.zeros(N), before) is before


def test_a_neighbour_within_two_beams_is_in_the_fitted_pixels(monkeypatch):
    seen = []
    monkeypatch.setattr(measurement, "component", lambda images, known, *_: seen.append(known))
    cutout = cutout_of((3, 12, BEAM, 1.0))
    for apart in (1.9, 2.1):
        shapes = [Shape(3, 12, BEAM), Shape(3 + apart * FWHM, 12, BEAM)]
        fit_the_image(task_of(cutout, [LINE], [0]), shapes, [np.ones(N)] * 2, np.zeros(N))
    radius = np.hypot(X - 3, Y - 12) <= 2 * FWHM
    near = np.hypot(X - 3 - 1.9 * FWHM, Y - 12) <= 0.8 * FWHM
    assert (seen[0] == (radius | near)).all()
    assert (seen[1] == radius).all()


def test_the_centroid_of_a_line_that_is_no_gaussian_is_that_of_its_spectrum():
    two = Line(np.array([[5.0, 8.0, 4.0], [2.0, 16.0, 4.0]]), np.eye(6) * 1e-4, 1.0)
    used, covariance = np.arange(N), np.eye(N)
    spectrum = np.zeros(N)
    spectrum[[6, 14, 23]] = 1, 3, 100  # what is outside of its channels does not count
    made = Measured(SimpleNamespace(), spectrum=spectrum)
    take_the_widths(made, two, (used, covariance, covariance), (4, 20))
    assert made.z == pytest.approx(12)
    assert made.err_z == pytest.approx(np.sqrt((((np.arange(2, 23) - 12) / 4) ** 2).sum()))  # 1.6 FWHM to both sides
    negative = Measured(SimpleNamespace(), spectrum=-spectrum)
    take_the_widths(negative, two, (used, covariance, covariance), (4, 20))
    assert negative.z == pytest.approx(two.centroid())


@pytest.mark.parametrize("side", [1, -1])
def test_the_wing_of_a_bright_line_counts_in_its_centroid(side):
    """Within 1.1 FWHM of its Gaussians it would be 0.8 errors off: a percent of the flux is further out."""
    channel = np.arange(96)
    line = np.exp(-4 * np.log(2) * ((channel - 48) / np.where(side * (channel - 48) < 0, 7.0, 17.0)) ** 2)
    line *= 90 / np.sqrt((line**2).sum())
    fitted = fit_line(line, channel, np.eye(96), 48 + 3 * side, 12.0)
    assert len(fitted[1].parameters) > 1
    made = Measured(SimpleNamespace(), spectrum=line)
    low, high = fitted[1].range
    take_the_widths(made, fitted[1], (channel, np.eye(96), np.eye(96)), (int(low), int(np.ceil(high)) + 1))
    assert abs(made.z - line @ channel / line.sum()) < 0.5 * made.err_z


# --- the whole source ---


@pytest.mark.parametrize(
    ("beams", "compact", "merge", "blended"),
    [(1.5, True, False, True), (1.7, True, False, False), (1.5, False, False, False), (1.5, True, True, False)],
)
def test_a_neighbour_within_1_6_beams_blends_a_compact_source(beams, compact, merge, blended):
    seeds = [replace(NOTHING, compact=compact), replace(NOTHING, x=12 + beams * FWHM)]
    made = measure_source(cutout_of((12, 12, BEAM, 3.0)), seeds, 0, SCALE, merge, thorough=False)
    assert made.blended == blended


@pytest.mark.parametrize("placed", [True, False])
def test_a_measured_place_goes_into_the_catalogue(placed):
    seed = replace(NOTHING, x=12.3, placed=placed)
    made = measure_source(cutout_of((12.5, 12, BEAM, 3.0)), [seed], 0, SCALE, thorough=False)
    assert made.place[0] == pytest.approx(12.3 if placed else 12.5, abs=0.02)


def test_a_continuum_placed_by_both_lies_nearer_to_the_surer():
    x, _, err, _ = place_by_both((10.0, 5.0, 0.1, 0.1), (10.2, 5.0, 0.2, 0.2))
    assert x == pytest.approx(10.04)
    assert err == pytest.approx(0.1 * 0.2 / np.hypot(0.1, 0.2))


@pytest.mark.parametrize(("method", "kept"), [("mask", True), ("point", False)])
def test_a_fitted_place_that_strays_is_the_detected_one_but_the_middle_of_a_mask_may_lie_anywhere(
    monkeypatch, method, kept
):
    def strays(cutout, seeds, group, parts, scale, made, found):
        made.method, made.place = method, (20.0, 12.0, 0.1, 0.1)

    monkeypatch.setattr(measurement, "fit_the_continuum", strays)
    made = measure_source(cutout_of((12, 12, BEAM, 3.0)), [NOTHING], 0, SCALE, thorough=False)
    assert made.place[0] == (20.0 if kept else 12.0)


@pytest.mark.parametrize(("centre", "group"), [(8.0, [0, 1]), (20.0, [0])])
def test_a_neighbour_is_fitted_with_the_line_if_its_line_may_overlap(monkeypatch, centre, group):
    tasks = []
    monkeypatch.setattr(measurement, "fit_the_line", lambda task, made: tasks.append(task) or (None, []))
    other = replace(LINE, x=18.0, lines=((centre, 2.0),))
    measure_source(cutout_of((12, 12, BEAM, 3.0)), [LINE, other], 0, SCALE, thorough=False)
    assert list(tasks[0].group) == group


@pytest.mark.parametrize("fitted", [True, False])
def test_a_line_that_no_gaussian_fits_is_summed_over_its_channels_as_a_point(monkeypatch, fitted):
    """The sum is over the detected channels and a tenth more, where there is no fit to give their share of the flux."""
    spectrum = 20 * np.exp(-4 * np.log(2) * ((np.arange(N) - 6) / 3.0) ** 2)
    cutout = cutout_of((12, 12, BEAM, spectrum))
    if not fitted:
        monkeypatch.setattr(measurement, "fit_line", lambda *_, **__: None)
        monkeypatch.setattr(measurement, "component", lambda *_: Component(None, None, 0.0, (None, None), 1.0, 0.0))
    made = measure_source(cutout, [LINE], 0, SCALE, thorough=False)
    assert made.flux == pytest.approx(spectrum.sum(), rel=0.02)
    assert (made.line is not None) == (made.line_snr > 0) == fitted
    assert made.shape.area == pytest.approx(AREA, rel=0.05)
    if fitted:
        assert made.place[:2] == pytest.approx((12, 12), abs=0.02)
        assert made.peak == pytest.approx(20, rel=0.05)
        assert made.z == pytest.approx(6, abs=0.05)
    else:
        assert np.isnan(made.place).all()


def test_a_line_whose_image_was_not_fitted_gives_the_continuum_no_shape():
    line = Component(None, None, 0.0, (None, None), 1.0, 0.0)
    made = continuum_measured(cutout_of((12, 12, BEAM, 0.3)), LINE, line)
    assert made.continuum == pytest.approx(0.3, rel=0.05)
    assert np.isfinite(made.err_continuum)


def test_a_line_keeps_its_place_beside_a_negative_continuum():
    at_line = (12.0, 12.0, 0.1, 0.1)
    made = continuum_measured(cutout_of((12, 12, BEAM, -0.2)), LINE, component_of(0.0), line_snr=10.0, place=at_line)
    assert made.place == at_line
    assert made.continuum < 0


@pytest.mark.parametrize(("sigma", "fitted"), [(6.5, False), (10.0, True)])
def test_beside_a_line_a_continuum_of_eight_sigma_has_its_own_shape(monkeypatch, sigma, fitted):
    faint = continuum_measured(cutout_of((12, 12, BEAM, 0.2)), LINE, component_of(0.0))
    brightness = 0.2 * sigma / (faint.continuum_peak / faint.err_continuum_peak)
    asked = []
    original = measurement.component
    monkeypatch.setattr(measurement, "component", lambda *given: asked.append(1) or original(*given))
    made = continuum_measured(cutout_of((12, 12, BEAM, brightness)), LINE, component_of(0.0))
    assert bool(asked) == fitted
    assert made.continuum == pytest.approx(brightness, rel=0.1)


def test_line_and_image_are_fitted_twice_each_by_turns(monkeypatch):
    """With the line as it was detected first: three lines and two images."""
    turns = []
    for name in ("fit_line", "fit_the_image"):
        original = getattr(measurement, name)
        monkeypatch.setattr(
            measurement, name, lambda *given, do=original, name=name, **more: turns.append(name) or do(*given, **more)
        )
    spectrum = 20 * np.exp(-4 * np.log(2) * ((np.arange(N) - 6) / 3.0) ** 2)
    measure_source(cutout_of((12, 12, BEAM, spectrum)), [LINE], 0, SCALE, thorough=False)
    assert turns == ["fit_line", "fit_the_image", "fit_line", "fit_the_image", "fit_line"]


def test_the_flux_of_a_line_that_the_band_cuts_is_that_of_the_whole_line():
    """Of a Gaussian that is centred at the band's first channel: nearly half of it lies outside."""
    spectrum = 20 * np.exp(-4 * np.log(2) * (np.arange(N) / 6.0) ** 2)
    seed = replace(LINE, lines=((0.5, 6.0),), channels=(0, 6))
    made = measure_source(cutout_of((12, 12, BEAM, spectrum)), [seed], 0, SCALE, thorough=False)
    assert made.flux == pytest.approx(20 * 6 * np.sqrt(np.pi / (4 * np.log(2))), rel=0.1)
    assert made.flux > 1.5 * spectrum.sum()


@pytest.mark.filterwarnings("error")  # such as a division by nothing
def test_a_line_where_there_is_no_data_is_not_fitted():
    cutout = cutout_of((12, 12, BEAM, 3.0))
    rms = np.where(np.arange(N) < 20, np.nan, 1.0)
    planes = np.where(np.isfinite(rms)[:, None, None], cutout.planes, np.nan)
    empty = replace(cutout, planes=planes, noise=replace(cutout.noise, rms=rms))
    made = measure_source(empty, [LINE], 0, SCALE, thorough=False)
    assert made.line is None
    assert made.line_snr == 0


def test_a_source_without_a_line_has_the_place_of_its_fit_whatever_its_flux():
    """Of a continuum whose mean is positive with outliers clipped, and negative with them."""
    cutout = cutout_of((12, 12, BEAM, -0.2))
    parts = replace(unmasked(cutout, NOTHING), continuum=2.0 * Shape(12.2, 12, BEAM).image(X, Y))
    made = continuum_measured(cutout, NOTHING, parts=parts)
    assert made.continuum < 0
    assert made.place[:2] == pytest.approx((12.2, 12), abs=0.01)


def test_errors_of_a_line_are_as_large_as_its_noise():
    spectrum = 20 * np.exp(-4 * np.log(2) * ((np.arange(N) - 6) / 3.0) ** 2)
    cutout = cutout_of((12, 12, BEAM, spectrum))
    louder = replace(cutout, noise=white(N, 2.0))
    one, two = (measure_source(each, [LINE], 0, SCALE, thorough=False).line for each in (cutout, louder))
    assert two.covariance == pytest.approx(4 * one.covariance, rel=0.01)
    assert one.covariance[1, 1] > 0
