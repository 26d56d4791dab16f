"""Gaussians and baselines are found where they are, with errors that noise of the same kind has."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.measure.line_model import NARROWEST, profiles
from napari_almadet.measure.spectrum_fit import SpectrumFit, _refined, fit_spectrum

CHANNEL = np.arange(100)
TRUTH = ((2.0, 40.3, 9.0), (-0.8, 70.0, 6.0))


def line(height, centre, fwhm):
    """Sampled finely, averaged over channels."""
    fine = (np.arange(-0.5, 99.5, 0.05) + 0.025).reshape(100, 20)
    return height * np.exp(-4 * np.log(2) * ((fine - centre) / fwhm) ** 2).mean(axis=1)


def noise(correlation: float, seed: int, sigma: float = 0.1):
    white = np.random.default_rng(seed).normal(0, 1, 101)
    mixed = white[1:] + correlation * white[:-1]
    return sigma * mixed / np.sqrt(1 + correlation**2), np.array([1, correlation / (1 + correlation**2)])


def test_an_emission_and_an_absorption_line_on_a_slope():
    clean = sum(line(*gaussian) for gaussian in TRUTH) + 0.3 + 0.01 * (CHANNEL - 49.5)
    fit = fit_spectrum(clean, np.full(100, 0.1), np.ones(1), [(38, 5), (72, 9)], terms=2)
    np.testing.assert_allclose(fit.gaussians, TRUTH, rtol=1e-3)
    np.testing.assert_allclose(fit.baseline, [0.3, 0.01], rtol=1e-3)
    np.testing.assert_allclose(fit.at(CHANNEL), clean, atol=1e-3)
    np.testing.assert_allclose(fit.integrals()[0], [line(*gaussian).sum() for gaussian in TRUTH], rtol=1e-3)
    assert fit.freedom == 100 - 8
    assert fit.chi2 < 1e-3


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_errors_are_the_spread_of_fits_and_chi_squared_the_degrees_of_freedom(correlation):
    fits = []
    for seed in range(60):
        shaken, lags = noise(correlation, seed)
        fits.append(fit_spectrum(line(*TRUTH[0]) + shaken, np.full(100, 0.1), lags, [(38, 5)]))
    found = np.array([fit.gaussians[0] for fit in fits])
    told = np.median([fit.errors[0] for fit in fits], axis=0)
    np.testing.assert_allclose(found.std(axis=0) / told, 1, atol=0.3)
    assert np.median([fit.chi2 / fit.freedom for fit in fits]) == pytest.approx(1, abs=0.12)
    totals = np.array([fit.integrals()[0][0] for fit in fits])
    assert totals.std() / np.median([fit.integrals()[1][0] for fit in fits]) == pytest.approx(1, abs=0.3)
    centres = np.array([fit.centroid() for fit in fits])
    np.testing.assert_allclose(centres[:, 0], found[:, 1])
    np.testing.assert_allclose(centres[:, 1], [fit.errors[0, 1] for fit in fits])


def test_channels_without_data_or_beyond_the_range_do_not_count():
    spectrum = line(*TRUTH[0])
    spectrum[:10], spectrum[80:] = np.nan, 50
    fit = fit_spectrum(spectrum, np.full(100, 0.1), np.ones(1), [(38, 5)], channels=(0, 80))
    np.testing.assert_allclose(fit.gaussians, TRUTH[:1], rtol=1e-3)
    assert fit.freedom == 70 - 4


def test_a_baseline_alone():
    fit = fit_spectrum(0.3 + 0.01 * (CHANNEL - 49.5), np.full(100, 0.1), np.ones(1), [], terms=2)
    np.testing.assert_allclose(fit.baseline, [0.3, 0.01])
    assert fit.gaussians.shape == (0, 3)
    assert fit.errors.shape == (0, 3)
    np.testing.assert_allclose(np.sqrt(fit.covariance[0, 0]), 0.1 / np.sqrt(100))


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(ValueError, match="5 channels with data are too few: this fit needs 6"):
        fit_spectrum(np.ones(5), np.ones(5), np.ones(1), [(2, 2)])
    with pytest.raises(ValueError, match="neither a Gaussian nor a baseline"):
        fit_spectrum(np.ones(50), np.ones(50), np.ones(1), [], terms=0)


def test_a_line_is_fitted_without_a_baseline_too():
    fit = fit_spectrum(line(*TRUTH[0]), np.full(100, 0.1), np.ones(1), [(38, 5)], terms=0)
    np.testing.assert_allclose(fit.gaussians, TRUTH[:1], rtol=1e-3)
    assert fit.baseline.shape == (0,)


def test_lines_that_cancel_have_no_centroid():
    both = SpectrumFit(np.array([[1.0, 20.0, 5.0], [-1.0, 30.0, 5.0]]), np.zeros(0), np.eye(6), 0.0, 1, 0.0)
    assert np.isnan(both.centroid()).all()


@pytest.mark.parametrize("start", [(1.0, 44.0, 1.0), (1.0, 52.0, 3.0), (5.0, 47.0, 3.0)])
def test_channels_that_share_their_noise_never_make_a_fit_worse_or_narrower_than_can_be_seen(start):
    """From starts that lead astray: a step of Gauss and Newton may go too far."""
    spectrum = np.where(CHANNEL == 45, 3.0, 0.0)
    fit = _refined(CHANNEL, spectrum, np.eye(100), np.array(start), 1, 50.0)
    before = ((spectrum - start[0] * profiles(CHANNEL.astype(float), *np.array([start[1:]]).T)[0][0]) ** 2).sum()
    assert fit.chi2 <= before * (1 + 1e-9)
    assert fit.gaussians[0, 2] >= NARROWEST
