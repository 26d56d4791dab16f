"""Fluxes come out as they were put in, through each aperture, and the statistics are those of their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.models import Gaussian1D

from napari_almadet.catalogue.candidate import EmissionPeak
from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.apertures import (
    Aperture,
    LineModel,
    baseline,
    extract,
    gaussian,
    line_free,
    range_statistics,
)
from napari_almadet.inspection.axes import spectral_axes
from napari_almadet.inspection.geometry import beam_pattern
from napari_almadet.measure.focus import cut_out

SHAPE = (40, 60, 70)
CHANNEL = np.arange(SHAPE[0])
LINE = 0.02 * np.exp(-((CHANNEL - 20) ** 2) / 18)  # Jy


@pytest.fixture
def cube(make_cube):
    """A point source of flux LINE at x 33, y 28, as an interferometer's Gaussian beam shows it, and a brighter one."""
    empty = make_cube(np.zeros(SHAPE))
    there = beam_pattern(empty, 33, 28, SHAPE[1:], (33, 28))
    far = beam_pattern(empty, 33, 28, SHAPE[1:], (60, 50))
    return make_cube(LINE[:, None, None] * there + 3 * LINE[:, None, None] * far)


def test_point_source_through_every_aperture(cube, candidate):
    cutout = cut_out(cube, candidate.box, 32)
    box = extract(cube, candidate, Aperture.BOX, cutout)
    np.testing.assert_allclose(box.to_value(u.Jy), LINE, rtol=0.02, atol=1e-6)  # the box cuts the beam's wings off
    for aperture in (Aperture.PEAK, Aperture.BEAM):
        spectrum = extract(cube, candidate, aperture, cutout)
        assert spectrum.unit == u.Jy / u.beam
        np.testing.assert_allclose(spectrum.value, LINE, rtol=1e-4, atol=1e-6)


def test_missing_data_is_no_flux_and_no_bias(cube, candidate):
    cube.data[:3] = np.nan
    cube.data[:, 28, 34] = np.nan
    spectrum = extract(cube, candidate, Aperture.BEAM, cut_out(cube, candidate.box, 32)).value
    assert np.isnan(spectrum[:3]).all()
    np.testing.assert_allclose(spectrum[3:], LINE[3:], rtol=1e-4, atol=1e-6)


def test_beam_weighting_is_the_least_noisy(make_cube, candidate):
    noise = make_cube(np.random.default_rng(3).normal(size=(400, *SHAPE[1:])))
    cutout = cut_out(noise, candidate.box, 32)
    pattern = beam_pattern(noise, 33, 28, SHAPE[1:], (33, 28))
    scatter = {a: extract(noise, candidate, a, cutout).value.std() for a in (Aperture.PEAK, Aperture.BEAM)}
    assert scatter[Aperture.BEAM] == pytest.approx(1 / np.sqrt((pattern**2).sum()), rel=0.1)
    assert scatter[Aperture.BEAM] < 0.5 * scatter[Aperture.PEAK]


def test_no_beam_no_weights(candidate):
    cube = Cube.from_array(np.zeros(SHAPE))
    with pytest.raises(ValueError, match="the beam is not known"):
        extract(cube, candidate, Aperture.BEAM, cut_out(cube, candidate.box, 32))


def test_line_free_channels(candidate):
    other = EmissionPeak(channel=34, height=0.5, amplitude=0.5, centre=34.0, fwhm=2.0)
    candidate = replace(candidate, peaks=(*candidate.peaks, other), channels=(5, 27))
    assert np.flatnonzero(~line_free(candidate, 40)).tolist() == [*range(5, 27), *range(32, 37)]


def test_baseline_of_noise_about_a_level():
    spectrum = np.random.default_rng(5).normal(3.0, 0.5, 4000)
    spectrum[1000:1100] += 50
    spectrum[::50] = np.nan
    free = np.ones(4000, bool)
    free[1000:1100] = False
    level, sigma = baseline(spectrum, free)
    assert (level, sigma) == pytest.approx((3.0, 0.5), rel=0.05)


def test_baseline_without_a_free_channel():
    spectrum = np.array([1.0, 2.0, 4.0, 3.0])
    level, sigma = baseline(spectrum, np.zeros(4, bool))
    assert level == 0
    assert np.isfinite(sigma)
    assert np.isnan(baseline(np.full(4, np.nan), np.ones(4, bool))[1])


def test_gaussian_is_astropys():
    peak = EmissionPeak(channel=20, height=0.8, amplitude=0.7, centre=20.3, fwhm=4.2)
    x = np.linspace(0, 48, 200)
    np.testing.assert_allclose(gaussian(peak, x), Gaussian1D(0.7, 20.3, 4.2 / np.sqrt(8 * np.log(2)))(x))


def test_model_finds_level_and_heights():
    peaks = tuple(EmissionPeak(c, 0.9, a, float(c), 4.0) for c, a in ((12, 0.9), (30, 0.4)))
    spectrum = 1.5 + 7 * gaussian(peaks[0], CHANNEL) / 0.9 - 2 * gaussian(peaks[1], CHANNEL) / 0.4
    spectrum[[0, 13]] = np.nan
    model = LineModel.of(spectrum, peaks)
    assert (model.level, *model.heights) == pytest.approx((1.5, 7, -2))
    known = np.isfinite(spectrum)
    np.testing.assert_allclose(model(CHANNEL)[known], spectrum[known])


@pytest.mark.parametrize("choice", ["GHz", "km/s radio", "km/s optical", "channel"])
def test_statistics_of_a_line(make_cube, choice):
    axis = next(a for a in spectral_axes(make_cube(np.zeros(SHAPE))) if a.choice == choice)
    spectrum = (0.3 + LINE) * u.Jy
    measured = range_statistics(spectrum, axis, (8, 33), level=0.3, sigma=0.004)
    inside = slice(8, 33)
    assert measured.mean.to_value(u.Jy) == pytest.approx(0.3 + LINE[inside].mean())
    assert measured.rms.to_value(u.Jy) == pytest.approx(LINE[inside].std())
    assert measured.sum.unit == u.Jy * axis.unit
    assert measured.sum.value == pytest.approx(((0.3 + LINE) * axis.widths)[inside].sum())
    assert measured.snr == pytest.approx(LINE[inside].sum() / (0.004 * 5), rel=1e-3)
    assert measured.centroid.to_value(axis.unit) == pytest.approx(float(axis.world(20)), abs=1e-3 * axis.widths[20])


def test_snr_of_noise_is_a_standard_normal():
    (axis,) = spectral_axes(Cube.from_array(np.zeros(SHAPE)))
    rng = np.random.default_rng(8)
    ratios = [
        range_statistics(rng.normal(2, 0.1, 40) * u.K, axis, (5, 21), level=2, sigma=0.1).snr for _ in range(2000)
    ]
    assert np.mean(ratios) == pytest.approx(0, abs=0.07)
    assert np.std(ratios) == pytest.approx(1, rel=0.05)


def test_statistics_without_data_or_signal():
    (axis,) = spectral_axes(Cube.from_array(np.zeros(SHAPE)))
    spectrum = np.full(40, np.nan) * u.Jy
    nothing = range_statistics(spectrum, axis, (3, 9), 0, 1)
    assert np.isnan([nothing.sum.value, nothing.mean.value, nothing.snr, nothing.centroid.value]).all()
    below = range_statistics(-np.ones(40) * u.Jy, axis, (3, 9), 0, 1)
    assert np.isnan(below.centroid.value)
    assert below.snr == pytest.approx(-np.sqrt(6))
