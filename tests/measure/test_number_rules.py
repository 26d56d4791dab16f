"""Numbers of single functions of the measurement, each with a case on either side of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.catalogue.candidate import EmissionPeak
from napari_almadet.measure import measurement
from napari_almadet.measure.absorption import is_local
from napari_almadet.measure.catalogue_row import response_over
from napari_almadet.measure.cutout import Cutout, Seed, level_of
from napari_almadet.measure.detected_place import share_of_error
from napari_almadet.measure.dips import Dip, Spectrum, outliers, strongest
from napari_almadet.measure.flux_estimators import seed_line
from napari_almadet.measure.gaussian_fit import _root, fit_gaussian
from napari_almadet.measure.gaussian_group import Shape, _Group, covered, fit_group
from napari_almadet.measure.line_model import Line, fit_line
from napari_almadet.measure.mask import connected_voxels, contrast, suits
from napari_almadet.measure.measurement import Measured, line_in, rest_weights, without_skirts
from napari_almadet.measure.noise import channels_noise, off_source, white
from napari_almadet.measure.spectra import fit_gaussian as fit_peak
from napari_almadet.measure.spectra import implausible, remove_baseline

N = 128


def noise(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def spectrum_of(values: np.ndarray, used: np.ndarray | None = None) -> Spectrum:
    n = len(values)
    return Spectrum(np.asarray(values, float), np.ones(n, bool) if used is None else used, np.ones(n), np.ones(1))


# --- dips ---


@pytest.mark.parametrize(
    ("channels", "level", "high"),
    [(1, 3.4, False), (1, 3.6, True), (9, 2.0, False), (9, 2.15, True), (27, 1.4, False), (27, 1.53, True)],
)
def test_what_stands_above_the_continuum_is_further_off_the_more_channels_are_summed(channels, level, high):
    """A sigma, and 2.5 sigma times 1 + 0.5 ln n of the sum over n channels."""
    rest = np.zeros(N)
    rest[50 : 50 + channels] = level
    assert outliers(spectrum_of(rest), rest)[1].any() == high


@pytest.mark.parametrize(("place", "found"), [(97, 97), (102, 99)])
def test_half_of_a_dip_lies_where_there_is_data(place, found):
    """Which ends at channel 99."""
    channel = np.arange(N)
    used = channel < 100
    values = np.where(used, -40.0 * np.exp(-4 * np.log(2) * ((channel - place) / 11.4) ** 2), 0)
    assert strongest(spectrum_of(values, used), used)[1] == pytest.approx(found, abs=0.6)


@pytest.mark.parametrize(("channels", "width"), [(40, 25.6), (32, 17.1)])
def test_a_tenth_of_a_dip_must_be_what_no_straight_line_explains(channels, width):
    """Of a Gaussian 25.6 channels wide, 0.14 in 40 channels and 0.07 in 32."""
    channel = np.arange(N)
    values = -40.0 * np.exp(-4 * np.log(2) * ((channel - 64) / 25.6) ** 2)
    found = strongest(spectrum_of(values), np.abs(channel - 64) < channels / 2)
    assert found[2] == pytest.approx(width, abs=0.1)


# --- the middle of a source ---

SIDE, FWHM, CENTRE = 61, 6.0, (30.0, 30.0)
Y, X = np.indices((SIDE, SIDE))
DIP = Dip(20.0, 32.0, 0.1, 8.0, 0.1, 0.5, 0.01, 0.7, 0.02, 5.0, 0.1, np.nan)


@pytest.mark.parametrize(("hole", "own"), [(0.4, True), (0.0, True)])
def test_the_middle_of_a_source_is_its_half_beam(hole, own):
    """A dip that is only found between a quarter and half of a beam from the centre counts there."""
    apart = np.hypot(X - CENTRE[0], Y - CENTRE[1]) / FWHM
    beam = np.exp(-4 * np.log(2) * apart**2)
    line = np.exp(-4 * np.log(2) * ((np.arange(64) - 32) / 8) ** 2)
    change = np.where(apart < 0.26, hole * 5 * beam, -5 * beam)
    values = (10 * beam + line[:, None, None] * change).astype(np.float32)
    cutout = SimpleNamespace(
        values=values,
        rms=np.ones(64),
        level=np.ones((SIDE, SIDE)),
        noise=SimpleNamespace(spectral_variance=lambda weights: 1e-6 * float((weights**2).sum())),
    )
    scale = SimpleNamespace(fwhm=FWHM, beam=np.eye(2) * FWHM**2 / (8 * np.log(2)))
    free = np.abs(np.arange(64) - 32) > 16
    assert is_local(DIP, free, values[:, 30, 30], cutout, scale, CENTRE) == own


# --- noise ---


def uneven(side: int, channels: int = 40) -> Cutout:
    """Noise that doubles from the left to the right, which is known not to be uniform."""
    level = np.exp(np.log(2) * np.linspace(-0.5, 0.5, side)) * np.ones((side, 1))
    planes = np.random.default_rng(2).normal(size=(channels, side, side)) * 3 * level
    return Cutout(planes.astype(np.float32), (0, 0), replace(white(channels), uniform=False))


@pytest.mark.parametrize(("side", "channels", "terms"), [(16, 40, 6), (13, 40, 1), (24, 12, 6), (24, 9, 1)])
def test_a_surface_of_noise_is_fitted_to_two_hundred_pixels_and_eight_differences(side, channels, terms):
    """16 x 16 and 13 x 13 pixels; channels are compared with those three, and two, further on."""
    assert (np.ptp(level_of(uneven(side, channels), 2.0)) > 0.2) == (terms == 6)


@pytest.mark.parametrize(("side", "known"), [(5, True), (4, False)])
def test_the_level_of_noise_is_known_from_twenty_pixels_on(side, known):
    assert (level_of(uneven(side), 2.0)[0, 0] > 2) == known


@pytest.mark.parametrize(("factor", "counts"), [(3.0, True), (6.0, False)])
def test_pixels_whose_noise_is_4_5_times_the_usual_one_do_not_count_for_its_level(factor, counts):
    """1.5 in the logarithm.  Two fifths of the pixels are such."""
    planes = noise(60, 25, 25)
    planes[:, :, np.arange(25) % 5 < 2] *= factor
    cutout = Cutout(planes, (0, 0), replace(white(60), uniform=False))
    assert (level_of(cutout, 2.0)[12, 12] > 1.3) == counts


@pytest.mark.parametrize(("pixels", "known"), [(3, False), (5, True)])
def test_a_block_has_four_pixels_of_noise_at_least(pixels, known):
    rms, _, _ = channels_noise([noise(60, 1, pixels)], 1.0)
    assert np.isfinite(rms).all() == known


@pytest.mark.parametrize(("channels", "used"), [(9, True), (6, False)])
def test_a_pixel_has_data_in_half_of_the_channels(channels, used):
    planes = noise(16, 12, 12)
    planes[channels:, :6] = np.nan
    spectra, _ = off_source(planes, 1.0)
    assert spectra.shape[1] > 100 if used else spectra.shape[1] == 72


@pytest.mark.parametrize(("columns", "shared"), [(9, False), (18, True)])
def test_where_seven_tenths_of_the_pixels_have_emission_the_faintest_are_noise(columns, shared):
    """Two fifths of all, instead of those without emission."""
    planes = 0.1 * noise(64, 20, 20)
    planes[30:34, :, :columns] += 5
    spectra, _ = off_source(planes, 1.0)
    assert spectra.shape[1] == pytest.approx(160 if shared else 20 * (19 - columns), abs=21 if shared else 10)


def test_pixels_whose_means_vanish_are_compared_with_the_scatter_of_all():
    """Means of three channels are 0 but at the ends of the band, and half of the pixels are half as bright again."""
    spectrum = np.resize(np.array([100.0, 200.0, -300.0], np.float32), 60)
    planes = (
        np.where(np.arange(12) % 2, 1.5, 1.0).astype(np.float32)
        * spectrum[:, None, None]
        * np.ones((12, 1), np.float32)
    )
    assert off_source(planes, 2.0)[0].shape == (60, 144)


# --- groups of Gaussians ---


def test_a_gaussian_is_neglected_where_that_changes_no_error(monkeypatch):
    lag = np.arange(-8, 9)
    correlated = replace(white(4), spatial=np.exp(-(lag[:, None] ** 2 + lag**2) / 12.0))
    shape, beam = np.array([[8.0, 1.0], [1.0, 5.0]]), np.eye(2) * 3
    share = share_of_error(shape, beam, correlated)
    monkeypatch.setattr("napari_almadet.measure.detected_place.REACH", 8.0)
    assert share == pytest.approx(share_of_error(shape, beam, correlated), rel=1e-3)


def group_of(free: bool) -> _Group:
    y, x = (v.ravel().astype(float) for v in np.indices((15, 17)))
    shapes = [Shape(7.0, 6.0, np.array([[5.0, 1.0], [1.0, 3.0]])), Shape(11.0, 8.0, np.eye(2) * 4)]
    return _Group(x, y, shapes, [0, 1], free, np.full(len(x), 0.5))


@pytest.mark.parametrize("free", [True, False])
def test_places_of_all_and_the_size_of_the_first_are_fitted_if_it_is_free(free):
    group = group_of(free)
    at = group.start + 0.05
    assert len(at) == (7 if free else 4)
    own, other = group.at(at)
    assert (own.x, own.y, other.x, other.y) == pytest.approx((7.05, 6.05, 11.05, 8.05))
    assert np.allclose(own.matrix, group.shapes[0].matrix) != free
    assert np.allclose(other.matrix, group.shapes[1].matrix)
    basis, slopes = group.shapes_at(at)
    np.testing.assert_allclose(basis, [0.5 * shape.image(group.x, group.y) for shape in (own, other)], rtol=1e-6)
    for k, slope in enumerate(slopes()):
        step = np.eye(len(at))[k] * 1e-5
        differences = (group.shapes_at(at + step)[0] - group.shapes_at(at - step)[0]) / 2e-5
        np.testing.assert_allclose(slope, differences[group.owner[k]], atol=1e-6)


@pytest.mark.parametrize(("free", "parameters"), [(True, 6), (False, 3)])
def test_errors_of_a_fit_are_of_its_height_and_place_and_of_its_size_if_that_is_fitted(free, parameters):
    y, x = np.indices((21, 21))
    shape = Shape(10.0, 10.0, np.eye(2) * 4)
    image, weights = 5 * shape.image(x, y)[None], shape.image(x, y)
    fit = covered(image, weights, [shape], free, 0.1, white(1))
    assert fit.covariance.shape == (parameters, parameters)
    assert covered(-image, weights, [shape], free, 0.1, white(1)) is None


@pytest.mark.parametrize(("sigma", "fits"), [(0.1, True), (0.0, False), (np.nan, False)])
def test_without_noise_there_is_no_fit(sigma, fits):
    y, x = np.indices((21, 21))
    shape = Shape(10.0, 10.0, np.eye(2) * 4)
    image = 5 * shape.image(x, y)[None]
    assert (
        fit_group(image, np.ones((21, 21), bool), [shape], np.eye(2) * 4, False, sigma, white(1)) is not None
    ) == fits


# --- a source ---


@pytest.mark.parametrize("corrected", [True, False])
def test_the_response_of_a_mask_is_what_its_flux_has_been_or_is_to_be_divided_by(corrected):
    response = np.array([[1.0, 0.5]])
    beam = SimpleNamespace(corrected=corrected, plane=lambda channel, y, x: response)
    candidate = SimpleNamespace(
        mask=SimpleNamespace(origin=(0, 0, 0), voxels=np.ones((1, 1, 2)), footprint=response > 0)
    )
    image = np.array([[6.0, 2.0]])
    expected = (6 + 2 * 0.5) / 8 if corrected else 8 / (6 + 2 / 0.5)
    assert response_over(candidate, SimpleNamespace(primary_beam=beam), image) == pytest.approx(expected)


@pytest.mark.parametrize("thorough", [True, False])
def test_only_a_thorough_measurement_makes_a_mask(monkeypatch, thorough):
    asked = []
    parts = SimpleNamespace(mask=np.zeros((8, 9, 9), bool))
    for name in ("separated", "unmasked"):
        monkeypatch.setattr(measurement, name, lambda *_, name=name: asked.append(name) or parts)
    monkeypatch.setattr(measurement, "fit_the_continuum", lambda *_: None)
    monkeypatch.setattr(measurement, "strayed", lambda *_: False)
    cutout = Cutout(np.ones((8, 9, 9), np.float32), (0, 0), white(8))
    scale = SimpleNamespace(fwhm=4.0, beam=np.eye(2) * 3)
    measurement.measure_source(cutout, [Seed(4, 4, 2, 2, (), (0, 8))], 0, scale, thorough=thorough)
    assert asked == ["separated" if thorough else "unmasked"]


@pytest.mark.parametrize(("error", "snr"), [(0.5, 16.0), (0.0, 0.0)])
def test_the_snr_of_a_masks_flux_is_that_over_its_error(monkeypatch, error, snr):
    monkeypatch.setattr(measurement, "weights_of_mask", lambda *_: np.ones((2, 2, 2)))
    monkeypatch.setattr(measurement, "take_the_masks_spectrum", lambda *_: None)
    noise = SimpleNamespace(variance=lambda *_: error**2)
    cutout = SimpleNamespace(values=np.ones((2, 2, 2)), noise=noise, level=1.0)
    made = Measured(None)
    measurement.sum_the_mask(SimpleNamespace(parts=None, scale=None, cutout=cutout), made)
    assert (made.flux, made.line_snr) == (8.0, snr)


# --- masks ---


@pytest.mark.parametrize(("side", "corrected"), [(9, False), (13, True)])
def test_the_noise_of_smoothed_planes_is_estimated_from_five_hundred_negative_voxels(side, corrected):
    """Of 9 x 81 and of 9 x 169 voxels half are negative; here the noise is twice what it is said to be."""
    planes = 2 * noise(9, side, side)
    planes[4, 4, 4] = 20.0
    made = contrast(planes, np.ones(planes.shape, bool), white(9), 2.0, 3.0, 0.5)
    assert (made.highest[4, 4, 4] < 15) == corrected


@pytest.mark.parametrize("seed", [(0, 0, 0), (11, 11, 11)])
def test_what_reaches_the_ends_of_a_cutout_is_connected(seed):
    part, inside = connected_voxels(np.ones((12, 12, 12), bool), seed)
    assert inside.all() and all((p.start, p.stop) == (0, 12) for p in part)


def test_kernels_of_three_channels_are_for_any_line_and_longer_ones_are_not():
    assert suits(3, 1.0, 100) and not suits(5, 1.0, 100)


# --- spectra and lines ---


@pytest.mark.parametrize(("part", "kept"), [(0.015, True), (0.007, False)])
def test_a_model_of_a_line_ends_at_a_hundredth_of_its_peak(part, kept):
    apart = 10 * np.sqrt(np.log(1 / part) / (4 * np.log(2)))
    line = seed_line(Seed(20, 20, 2, 2, ((50.0, 10.0),), (45, 55)), 100)
    assert (line[int(50 + apart)] > 0) == (line[int(50 - apart) + 1] > 0)
    one = Seed(20, 20, 2, 2, ((50.0 - apart % 1, 10.0),), (45, 55))
    assert (seed_line(one, 100)[50 + int(apart)] > 0) == kept
    assert without_skirts(np.array([1.0, part])).tolist() == [1.0, part if kept else 0.0]


@pytest.mark.parametrize(("apart", "counts"), [(0.55, True), (0.75, False)])
def test_a_continuum_is_that_of_pixels_with_three_tenths_of_the_peak(apart, counts):
    """0.55 and 0.75 beams away there are 0.43 and 0.21 of it."""
    fwhm = 20.0
    parts = SimpleNamespace(has_continuum=True, rest=np.zeros((2, 61, 61), bool))
    parts.rest[0, 30, 30] = True
    parts.rest[1, 30, 30 + round(apart * fwhm)] = True
    weights = rest_weights(parts, Shape(30.0, 30.0, np.eye(2) * (fwhm * gaussian_fwhm_to_sigma) ** 2))
    assert (weights[1] > 0) == counts


def test_the_mean_width_is_at_half_the_mean_of_the_channels_with_nine_tenths_of_the_flux():
    """Of a Gaussian they reach to 1.645 sigma, and its mean there is 0.9 sqrt(2 pi) / 3.29 of the peak."""
    line = Line(np.array([[1.0, 50.0, 20.0]]), np.eye(3), 1.0)
    sigma = 20.0 * gaussian_fwhm_to_sigma
    expected = 2 * sigma * np.sqrt(2 * np.log(2 * 3.29 / (0.9 * np.sqrt(2 * np.pi))))
    assert line.mean_width() == pytest.approx(expected, rel=0.01)


def test_a_fitted_line_is_a_fifth_of_a_channel_wide_at_least():
    spectrum = np.zeros(64)
    spectrum[32] = 50.0
    single, _ = fit_line(spectrum, np.arange(64), np.eye(64), 32.0, 0.1)
    assert single.parameters[0, 2] >= 0.2
    assert fit_line(spectrum, np.arange(0), np.eye(0), 32.0, 1.0) is None
    assert fit_line(spectrum, np.arange(31, 33), np.eye(2), 32.0, 1.0) is None


@pytest.mark.parametrize(("channels", "found"), [(7, False), (12, True)])
def test_a_line_is_looked_for_in_eight_channels(channels, found):
    made = Measured(0.0, 0.0, 1.0)
    made.own_variance, made.own = 1.0, 100 * np.exp(-(((np.arange(channels) - 4) / 1.0) ** 2))
    cutout = Cutout(np.ones((channels, 2, 2), np.float32), (0, 0), white(channels))
    assert (line_in(made, cutout, None, 6.0) is not None) == found


@pytest.mark.parametrize(("place", "sensible"), [(-0.6, False), (-0.4, True), (99.4, True), (99.6, False)])
def test_the_centre_of_a_line_lies_in_the_band(place, sensible):
    assert (implausible(EmissionPeak(0, 1.0, 1.0, place, 4.0), 100) == "") == sensible


@pytest.mark.parametrize(("values", "fitted"), [(2, False), (4, True)])
def test_three_values_make_a_gaussian(values, fitted):
    line = np.exp(-0.5 * ((np.arange(values) - 1.2) / 0.9) ** 2)
    peak, why = fit_peak(line, 0, 1, 1.0, 2.0)
    assert (peak is not None) == fitted
    assert fitted or "too few" in why


@pytest.mark.parametrize(
    ("place", "sensible"), [((-0.4, 7), True), ((-0.6, 7), False), ((14.4, 7), True), ((14.6, 7), False)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_centre_of_a_gaussian_lies_in_the_image(monkeypatch, place, sensible, turned):
    x, y = place[::-1] if turned else place
    matrix = np.eye(2) * 4.0
    answer = SimpleNamespace(x=[1.0, x, y, *_root(matrix)], status=1)
    monkeypatch.setattr("scipy.optimize.least_squares", lambda *_, **__: answer)
    yy, xx = np.indices((15, 15))
    image = np.exp(-((xx - 7) ** 2 + (yy - 7) ** 2) / 8)
    assert (fit_gaussian(image, (7.0, 7.0), matrix, 0.1, None) is not None) == sensible


@pytest.mark.parametrize(("pixels", "fitted"), [(6, False), (12, True)])
def test_a_gaussian_is_fitted_to_more_than_six_pixels(pixels, fitted):
    yy, xx = np.indices((4, 4))
    image = np.exp(-((xx - 1.3) ** 2 + (yy - 1.2) ** 2) / 2.0)
    image.flat[pixels:] = np.nan
    assert (fit_gaussian(image, (1.3, 1.2), np.eye(2), 0.1, None) is not None) == fitted


# --- baselines ---


def spikes(every: int, channels: int = 100) -> np.ndarray:
    return np.where(np.arange(channels) % every == every // 2, 1.0, 0.0)


@pytest.mark.parametrize(("share", "taken_for"), [(0.1, "line"), (0.2, "continuum")])
def test_a_baseline_is_fitted_without_what_is_two_and_a_half_sigma_away(share, taken_for):
    """What a share f of the channels has in common is sqrt((1 - f) / f) of the scatter away: 3 and 2."""
    spectrum = 1e-3 * noise(100)
    spectrum[40 : 40 + round(100 * share)] += 1
    rest = remove_baseline(spectrum[None])[0]
    assert (abs(np.median(rest)) < 0.02) == (taken_for == "line")


def test_a_baseline_is_fitted_where_less_than_six_tenths_are_lines():
    """8 spikes take 40 channels with them, 14 take 70: then all channels are used, and the line is tilted."""
    few = remove_baseline((1e-3 * noise(100) + spikes(12))[None])[0]
    assert abs(np.median(few)) < 0.01
    many = spikes(7) * np.where(np.arange(100) < 50, 1.0, -1.0)
    tilted = remove_baseline((1e-3 * noise(100) + many)[None])[0]
    beside = tilted[many == 0]
    assert abs(np.polyfit(np.arange(len(beside)), beside, 1)[0]) * 100 > 0.1
