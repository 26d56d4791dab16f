"""The noise of a cube, measured, and the variance of weighted sums that follows from it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.cube.cube import Cube
from napari_almadet.measure.noise import Noise, noise_of, white
from napari_almadet.progress import finish

BEAM = 4.0


def planes(seed: int, channels: int, side: int, hanning: bool = False) -> np.ndarray:
    """Unit noise of the beam's shape; with ``hanning`` its channels share it."""
    rng = np.random.default_rng(seed)
    sigma = BEAM / 2.3548 / np.sqrt(2)  # correlated as a Gaussian of the beam's FWHM
    made = ndimage.gaussian_filter(rng.standard_normal((channels + 2, side, side)), (0, sigma, sigma), mode="wrap")
    if hanning:
        made = 0.25 * made[:-2] + 0.5 * made[1:-1] + 0.25 * made[2:]
    return (made[:channels] / made.std()).astype(np.float32)


def measured(data: np.ndarray) -> Noise:
    return finish(noise_of.steps(Cube.from_array(data), BEAM))


def test_level_and_correlations_are_those_of_the_noise():
    noise = measured(3 * planes(1, 60, 96))
    assert np.median(noise.rms) == pytest.approx(3, rel=0.03)
    assert noise.uniform
    assert len(noise.spectral) == 1
    h = noise.reach
    lag = np.arange(1, 5)
    np.testing.assert_allclose(noise.spatial[h, h + lag], np.exp(-4 * np.log(2) * lag**2 / BEAM**2 / 1), atol=0.08)


def test_channels_that_share_noise_are_told():
    noise = measured(planes(2, 80, 96, hanning=True))
    np.testing.assert_allclose(noise.spectral[:3], [1, 2 / 3, 1 / 6], atol=0.03)


def test_a_bright_source_changes_neither_level_nor_correlation():
    data = planes(3, 60, 96)
    y, x = np.indices(data.shape[1:])
    source = np.exp(-4 * np.log(2) * ((x - 48) ** 2 + (y - 48) ** 2) / BEAM**2)
    line = np.exp(-0.5 * ((np.arange(60)[:, None, None] - 30) / 3) ** 2)
    quiet, loud = (
        measured(data),
        measured(data + (50 * line * source).astype(np.float32) + (5 * source).astype(np.float32)),
    )
    assert np.median(loud.rms) == pytest.approx(np.median(quiet.rms), rel=0.02)
    np.testing.assert_allclose(loud.spatial, quiet.spatial, atol=0.05)


@pytest.mark.parametrize("channels", [2, 3, 5, 12])
def test_few_channels_are_enough(channels):
    noise = measured(2 * planes(4, channels, 80))
    assert np.nanmedian(noise.rms) == pytest.approx(2, rel=0.15)


def test_pixels_and_channels_without_data_do_not_count():
    data = planes(5, 40, 96)
    data[:, :30] = 0  # cut off at the primary beam
    data[:, :, 80:] = np.nan
    data[7] = np.nan
    noise = measured(data)
    assert np.isnan(noise.rms[7])
    assert np.nanmedian(noise.rms) == pytest.approx(1, rel=0.06)
    assert noise.spatial[noise.reach, noise.reach + 1] == pytest.approx(np.exp(-4 * np.log(2) / BEAM**2), abs=0.06)


def test_noise_that_rises_outward_is_not_uniform():
    data = planes(6, 60, 128)
    y, x = np.indices(data.shape[1:]) - 63.5
    assert not measured((data * np.exp((x**2 + y**2) / 64**2 / 2)).astype(np.float32)).uniform


def test_a_cube_without_noise_has_none():
    assert np.isnan(measured(np.zeros((8, 32, 32), np.float32)).rms).all()


def test_the_variance_of_a_weighted_sum_is_that_of_the_noise():
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((5, 9, 9)) * (rng.random((5, 9, 9)) > 0.3)
    noise = measured(planes(8, 80, 96, hanning=True))
    data = planes(9, 400, 96, hanning=True)
    sums = [
        (weights * data[z : z + 5, y : y + 9, x : x + 9]).sum()
        for z in range(0, 390, 8)
        for y in range(0, 84, 12)
        for x in range(0, 84, 12)
    ]
    level = 1.0 / np.median(noise.rms)
    assert noise.variance(np.pad(weights, ((3, 72), (0, 0), (0, 0))), level) == pytest.approx(np.var(sums), rel=0.1)


def test_independent_voxels_add_in_quadrature():
    noise = white(6, 2.0)
    assert noise.variance(np.ones((6, 4, 5))) == pytest.approx(6 * 20 * 4)
    assert noise.spectral_variance(np.ones(6)) == pytest.approx(24)
    assert noise.spatial_variance(np.ones((4, 5))) == pytest.approx(20)
