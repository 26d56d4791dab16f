"""Single rules of the measurement, each on either side of its threshold."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.cube.cube import Cube
from napari_almadet.measure import flux_estimators
from napari_almadet.measure.absorption import emission_of
from napari_almadet.measure.catalogue_row import boxed_flux
from napari_almadet.measure.dips import Spectrum, described, outliers
from napari_almadet.measure.gaussian_fit import _covariance, _matrix, _root, fit_gaussian
from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.measure.line_model import Line, fit_line
from napari_almadet.measure.mask import Contrast
from napari_almadet.measure.noise import differences, middles

N = 128


def spectrum_of_ones() -> Spectrum:
    return Spectrum(np.zeros(N), np.ones(N, bool), np.ones(N), np.ones(1))


@pytest.mark.parametrize(
    ("level", "low", "high"),
    [(-0.80, False, False), (-0.95, True, False), (1.35, False, False), (1.60, False, True)],
)
def test_a_long_deviation_counts_by_the_sum_of_its_channels_with_a_threshold_that_rises_with_their_number(
    level, low, high
):
    """Sums of 27 channels: 4.56 sigma below the continuum, 7.62 above it; one channel is below any threshold."""
    rest = np.zeros(N)
    rest[50:77] = level
    below, above = outliers(spectrum_of_ones(), rest)
    assert (below.any(), above.any()) == (low, high)


@pytest.mark.parametrize(("left", "saturated"), [(1.5, True), (2.5, False)])
def test_a_dip_is_saturated_where_less_than_two_sigma_of_the_continuum_is_left(left, saturated):
    brightness, width, err_left = 100.0, 9.0, 0.01
    tau = -np.log(left * err_left)
    err_log_tau = err_left / (tau * np.exp(-tau))
    dip = described(
        np.array([np.log(tau), 40.0, np.log(width), 0.0]),
        np.diag([err_log_tau**2, 0.01, 1e-4, 1e-4]),
        30.0,
        brightness,
    )
    assert dip is not None
    assert np.isnan(dip.tau) == saturated
    assert np.isfinite(dip.tau_limit) == saturated
    if saturated:
        assert dip.tau_limit == pytest.approx(-np.log((left + 2) * err_left))


@pytest.mark.parametrize(("kind", "flux", "channels"), [("line", 1.0, 14), ("continuum", 1.0, 0), ("line", -1.0, 0)])
def test_channels_of_emission_are_those_of_a_line_of_positive_flux(kind, flux, channels):
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind=kind, channels=(20, 32))
    parts = SimpleNamespace(mask=np.zeros((N, 2, 2), bool))
    made = SimpleNamespace(lines=np.zeros((N, 2, 2)), flux=flux, parts=parts)
    assert emission_of(candidate, made, N).sum() == channels


@pytest.mark.parametrize(("kind", "lines", "total"), [("line", 2.0, 2.0), ("line", None, 1.0), ("continuum", 2.0, 1.0)])
def test_the_boxed_flux_is_of_the_line_where_there_is_one(kind, lines, total):
    candidate = Candidate(1, Box(1, 3, 2, 4), 1.0, kind=kind, channels=(5, 8))
    values = np.ones((16, 6, 6))
    cutout = SimpleNamespace(values=values, local=lambda box: box)
    made = SimpleNamespace(lines=None if lines is None else lines * values)
    assert boxed_flux(candidate, cutout, made) == total * 3 * 2 * 2


BEAM = np.eye(2) * 4.0


@pytest.mark.parametrize(
    ("excess", "share"), [(2.0, 0.5), (3.0, 1 / (1 + np.exp(-2))), (1.0, 1 / (1 + np.exp(2))), (40.0, 1.0)]
)
def test_a_free_fit_has_half_the_weight_where_its_area_exceeds_the_beams_by_two_sigma(monkeypatch, excess, share):
    shape = Shape(8.0, 8.0, BEAM)
    monkeypatch.setattr(flux_estimators, "fit_group", lambda *_: SimpleNamespace(shapes=[shape]))
    monkeypatch.setattr(flux_estimators, "area_ratio", lambda *_: (1 + 0.1 * excess, 0.1, 0.0))
    cutout = SimpleNamespace(noise=None, pixels=np.ones((17, 17), bool))
    made = flux_estimators.component(np.zeros((1, 17, 17)), cutout.pixels, [shape], BEAM, 1.0, cutout)
    assert made.share == pytest.approx(share, abs=1e-6)


def test_a_free_fit_has_all_the_weight_where_no_point_fits(monkeypatch):
    shape = Shape(8.0, 8.0, BEAM)
    fits = iter([None, SimpleNamespace(shapes=[shape])])
    monkeypatch.setattr(flux_estimators, "fit_group", lambda *_: next(fits))
    monkeypatch.setattr(flux_estimators, "area_ratio", lambda *_: (1.0, 0.1, 0.0))
    cutout = SimpleNamespace(noise=None, pixels=np.ones((17, 17), bool))
    made = flux_estimators.component(np.zeros((1, 17, 17)), cutout.pixels, [shape], BEAM, 1.0, cutout)
    assert made.share == 1.0


def test_a_gaussian_outside_the_image_or_wider_than_it_is_none():
    y, x = np.indices((15, 15))
    inside = np.exp(-((x - 7) ** 2 + (y - 7) ** 2) / 8)
    assert fit_gaussian(inside, (7.0, 7.0), BEAM, 0.1, None) is not None
    outside = np.exp(-((x + 3) ** 2 + (y - 7) ** 2) / 8)
    assert fit_gaussian(outside, (1.0, 7.0), BEAM, 0.1, None) is None
    assert fit_gaussian(outside.T, (7.0, 1.0), BEAM, 0.1, None) is None
    assert fit_gaussian(inside, (7.0, 7.0), BEAM, 0.0, None) is None  # without noise there are no errors
    flat = 1 + 0.001 * np.exp(-((x - 7) ** 2 + (y - 7) ** 2) / 20000)
    assert fit_gaussian(flat, (7.0, 7.0), BEAM, 0.1, None) is None


def test_errors_of_a_line_narrower_than_a_channel_are_those_of_one_of_four_fifths_of_a_channel():
    narrow = Line(np.array([[10.0, 20.0, 0.3]]), np.diag([0.01, 0.01, 0.01]), 1.0)
    assert narrow.error(lambda p: p[2] ** 2) == pytest.approx(2 * 0.8 * 0.1)
    wide = replace(narrow, parameters=np.array([[10.0, 20.0, 3.0]]))
    assert wide.error(lambda p: p[2] ** 2) == pytest.approx(2 * 3.0 * 0.1)


def test_three_channels_do_not_make_a_line_of_three_parameters():
    spectrum = 10 * np.exp(-((np.arange(9) - 4.0) ** 2) / 2)
    assert fit_line(spectrum, np.arange(3, 6), np.eye(3), 4.0, 2.0) is None
    assert fit_line(spectrum, np.arange(2, 7), np.eye(5), 4.0, 2.0) is not None


@pytest.mark.parametrize(("negative", "threshold"), [(10 + 20, 4.0), (10 + 21, 4.5)])
def test_negative_voxels_up_to_a_fiftieth_of_the_positive_ones_and_ten_more_are_noise(negative, threshold):
    image, low = np.zeros((2, 4, 50, 50), np.float32)
    image[0].flat[:1000] = 5.5
    low[1].flat[:negative] = -4.2
    assert Contrast(image, low, image).threshold() == threshold


@pytest.mark.parametrize(("n_channels", "apart"), [(32, 3), (8, 2), (3, 1)])
def test_noise_is_estimated_from_channels_three_apart_fewer_in_short_bands(n_channels, apart):
    planes = np.broadcast_to(np.arange(n_channels, dtype=np.float32)[:, None, None], (n_channels, 6, 6))
    assert np.unique(differences(Cube.from_array(planes.copy(), name="ramp"))).tolist() == [apart]


@pytest.mark.parametrize(("outlier", "counts"), [(4.9, True), (5.5, False)])
def test_values_beyond_three_and_a_half_sigma_do_not_count_for_the_mean_of_a_spectrum(outlier, counts):
    """Of values of -1, 0 and 1, whose median absolute deviation stands for a sigma of 1.48."""
    spectra = np.tile([-1.0, 0.0, 1.0], 34)[:, None] * np.ones((1, 3))
    spectra[50, 0] = outlier
    rest = np.delete(spectra[:, 0], 50)
    expected = spectra[:, 0].mean() if counts else rest.mean()
    assert middles(spectra, np.ones(spectra.shape, bool))[0] == pytest.approx(expected)


def test_the_peak_of_a_line_gives_its_range():
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind="line", channels=(20, 22))
    candidate.peaks = (EmissionPeak(60, 1.0, 1.0, 60.0, 10.0),)
    made = SimpleNamespace(lines=np.zeros((N, 2, 2)), flux=1.0, parts=SimpleNamespace(mask=np.zeros((N, 2, 2), bool)))
    found = np.flatnonzero(emission_of(candidate, made, N))
    assert found[(found > 30)].tolist() == list(range(48, 72))


def test_six_pixels_are_too_few_for_the_six_parameters_of_a_gaussian():
    y, x = np.indices((15, 15))
    image = np.where((x > 5) & (x < 8) & (y == 7), np.exp(-((x - 7) ** 2 + (y - 7) ** 2) / 8), np.nan)
    assert fit_gaussian(image, (7.0, 7.0), BEAM, 0.1, None) is None


@pytest.mark.parametrize(
    ("changes", "known"),
    [({}, True), ({"status": 0}, False), ({"amplitude": -1.0}, False), ({"size": 1e9}, False), ({"size": 50.0}, False)],
)
def test_what_a_fit_ends_with_must_be_a_gaussian(monkeypatch, changes, known):
    """Found within its steps, with a peak, and no wider than any image."""
    root = _root(BEAM) / changes.get("size", 1.0)
    answer = SimpleNamespace(x=[changes.get("amplitude", 1.0), 7.0, 7.0, *root], status=changes.get("status", 1))
    monkeypatch.setattr("scipy.optimize.least_squares", lambda *_, **__: answer)
    y, x = np.indices((15, 15))
    found = fit_gaussian(np.exp(-((x - 7) ** 2 + (y - 7) ** 2) / 8), (7.0, 7.0), BEAM, 0.1, None)
    assert (found is not None) == known
    assert _matrix((0.0, 0.0, 1.0)) is None


def test_errors_that_are_no_numbers_or_zero_are_not_known():
    jacobian = np.random.default_rng(1).normal(size=(2, 4, 4))
    assert _covariance(jacobian, 1.0, None) is not None
    for sigma in (np.inf, np.nan, 0.0):
        with np.errstate(invalid="ignore"):
            assert _covariance(jacobian, sigma, None) is None
    assert _covariance(np.abs(jacobian[:1]), np.inf, None) is None
