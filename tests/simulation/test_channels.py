"""Noise that channels share, against the autocorrelation of their kernels."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.simulation.channels import KINDS, draw_mixing, mixing, noise_factor


@pytest.mark.parametrize(
    ("kind", "lags"),
    [
        ("hanning", (1, 2 / 3, 1 / 6, 0)),
        ("boxcar", (1, 2 / 3, 1 / 3, 0)),
        ("average 2", (1, 0.3, 0, 0)),  # kernel (1, 3, 3, 1) / 8: 6 / 20 two fine channels on
        ("average 4", (1, 6 / 52, 0, 0)),  # (1, 3, 4, 4, 3, 1) / 16
        ("average 8", (1, 6 / 116, 0, 0)),  # (1, 3, 4, 4, 4, 4, 4, 4, 3, 1) / 32
    ],
)
def test_channels_share_what_their_kernels_do(kind, lags):
    covariance = mixing(kind, 32).covariance
    np.testing.assert_allclose([covariance[10, 10 + lag] for lag in range(4)], lags, atol=1e-12)
    factor = noise_factor(mixing(kind, 32))
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-5)


def test_noise_drawn_with_the_factor_is_correlated_so():
    white = np.random.default_rng(0).standard_normal((64, 20_000))
    noise = noise_factor(mixing("hanning", 64)) @ white
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert (noise[1:] * noise[:-1]).mean() == pytest.approx(2 / 3, abs=0.01)
    assert (noise[3:] * noise[:-3]).mean() == pytest.approx(0, abs=0.01)


def test_regridded_noise_is_lower_between_channels():
    """At the middle of two, interpolation averages them: a standard deviation of 0.71."""
    made = mixing("regrid", 40, ratio=1.05, phase=0.0)
    place = 1.05 * np.arange(40)
    part = place % 1
    np.testing.assert_allclose(made.rms, np.sqrt(part**2 + (1 - part) ** 2))


@pytest.mark.parametrize("kind", KINDS)
def test_brightness_stays_and_a_line_stays_in_its_place(kind):
    made = mixing(kind, 40, ratio=1.3, phase=0.4)
    np.testing.assert_allclose(made.matrix.sum(axis=1), 1)
    fine = np.arange(made.matrix.shape[1])
    line = np.exp(-0.5 * ((fine - made.finer(21.4)) * made.step / 3) ** 2)
    seen = made.matrix @ line
    assert (seen * np.arange(40)).sum() / seen.sum() == pytest.approx(21.4, abs=0.02)


def test_all_kinds_are_drawn():
    rng = np.random.default_rng(0)
    assert {draw_mixing(rng, 24).kind for _ in range(80)} == set(KINDS)


def test_a_kind_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'welch' is no kind of correlated channels"):
        mixing("welch", 32)
