"""CLEAN on skies whose components are known, with the simulator's own dirty beams."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.simulation.cleaning import CleanRun, clean_cube, clean_plane
from napari_almadet.simulation.emission import beam_transfer
from napari_almadet.simulation.observe import Observation

N = 96


@pytest.fixture(scope="module")
def observation() -> Observation:
    return Observation(size=N, n_channels=4, integration=60.0)


@pytest.fixture(scope="module")
def sky() -> np.ndarray:
    """Three points and a patch, Jy/pixel."""
    sky = np.zeros((N, N), np.float32)
    sky[30, 40], sky[60, 62], sky[50, 20] = 1.0, 0.5, 0.2
    sky[70:76, 30:40] = 0.01
    return sky


def seen(sky, kernel):
    """Linear convolution with a kernel of twice the sky's size."""
    wide = (2 * N, 2 * N)
    return np.fft.irfft2(np.fft.rfft2(sky, s=wide) * np.fft.rfft2(np.fft.ifftshift(kernel)), s=wide)[:N, :N]


def test_components_and_residual_make_up_the_dirty_plane(observation, sky):
    dirty = seen(sky, observation.dirty_beam)
    components, residual = clean_plane(dirty, observation.dirty_beam, 1e-3, CleanRun(500, 5.0, 0.1))
    np.testing.assert_allclose(seen(components, observation.dirty_beam) + residual, dirty, atol=2e-5)
    assert np.abs(residual).max() <= 5e-3


def test_iterations_end_it_early(observation, sky):
    dirty = seen(sky, observation.dirty_beam)
    left = [
        np.abs(clean_plane(dirty, observation.dirty_beam, 1e-3, CleanRun(n, 1.0, 0.1))[1]).max() for n in (0, 10, 100)
    ]
    assert left[0] == pytest.approx(np.abs(dirty).max(), rel=1e-6)
    # of one point with a gain of 0.1, 10 iterations leave 0.35
    assert left[0] * 0.9**10 * 0.9 < left[1] < 0.6 * left[0]
    assert left[2] < 0.2 * left[1]


def test_flux_is_conserved_and_sidelobes_are_gone(observation, sky):
    """In a cube of one bright and one empty plane, in noise of a thousandth of the peak."""
    rng = np.random.default_rng(0)
    noise = seen(rng.standard_normal((N, N)), observation.dirty_beam)
    noise *= 1e-3 / noise.std()
    dirty = np.stack([seen(sky, observation.dirty_beam) + noise, noise])
    area = 2 * np.pi * observation.clean_beam.fwhm**2 / (8 * np.log(2))
    beam = beam_transfer(observation.clean_beam, (2 * N, 2 * N)) * area
    psf = observation.dirty_beam
    restored = clean_cube(dirty, (psf, psf), beam, 1e-3, CleanRun(3000, 3.0, 0.1))
    expected = seen(sky, observation.clean_beam.image(2 * N))
    assert restored[0].sum() == pytest.approx(expected.sum(), rel=0.03)
    assert (restored[0] - expected).std() < 3e-3
    assert (dirty[0] - expected).std() > 10e-3  # what CLEAN had to take off
    np.testing.assert_allclose(restored[1], noise, atol=6e-3)


def test_noise_alone_is_hardly_touched(observation):
    rng = np.random.default_rng(1)
    noise = seen(rng.standard_normal((N, N)), observation.dirty_beam)
    noise /= noise.std()
    components, residual = clean_plane(noise, observation.dirty_beam, 1.0, CleanRun(1000, 4.0, 0.1))
    assert residual.std() == pytest.approx(1, abs=0.03)
    assert np.count_nonzero(components) < 20


def test_a_peak_that_single_precision_takes_for_the_threshold_ends_the_run():
    threshold = 1.0 / 3.0  # single precision rounds it up
    plane, psf = np.zeros((8, 8), np.float32), np.zeros((16, 16), np.float32)
    plane[4, 4], psf[8, 8] = np.float32(threshold), 1.0
    assert float(plane.max()) > threshold
    components, residual = clean_plane(plane, psf, 1.0, CleanRun(threshold=threshold))
    assert not components.any() and (residual == plane).all()
