"""Sidelobes of bright sources, against simulated observations whose dirty beam is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch

from napari_almadet.pipeline.evidence import in_noise_units, stack_snr
from napari_almadet.pipeline.sidelobes import (
    gaussian,
    noise_beam,
    noise_psf,
    peaks,
    sidelobe_level,
    widened,
    without_sidelobes,
)
from napari_almadet.simulation.observe import Imager, Observation

SIZE, CHANNELS, BEAM = 96, 128, 4.1


@lru_cache
def observed() -> tuple[Observation, torch.Tensor]:
    observation = Observation(size=SIZE, n_channels=CHANNELS, pixel=0.2)
    noise = Imager(observation, band_ends=False).noise(CHANNELS, torch.Generator().manual_seed(3))
    return observation, noise


def with_source(response: np.ndarray, snr: float, place=(40, 52)) -> torch.Tensor:
    """Noise and a source of flat spectrum with an SNR of ``snr`` in the stack; ``response`` peaks in its middle."""
    half = len(response) // 2
    image = response[half - place[0] : half - place[0] + SIZE, half - place[1] : half - place[1] + SIZE]
    level = snr / np.sqrt(CHANNELS)
    return observed()[1] + torch.from_numpy((level * image).astype(np.float32))


def far_from(place, shape=(SIZE, SIZE)) -> torch.Tensor:
    y, x = np.indices(shape)
    return torch.from_numpy(np.hypot(y - place[0], x - place[1]) > 2 * BEAM)


def test_noise_tells_the_dirty_beam():
    observation, noise = observed()
    psf = torch.fft.fftshift(noise_psf(in_noise_units(noise, BEAM), BEAM)[0]).numpy()
    truth = observation.dirty_beam
    assert psf.shape == truth.shape
    middle = slice(SIZE - 24, SIZE + 24)
    assert np.abs(psf - truth)[middle, middle].max() < 0.05
    assert np.abs(psf - truth)[middle, middle].std() < 0.012


def test_noise_tells_the_beam_width():
    assert noise_beam(in_noise_units(observed()[1], BEAM)) == pytest.approx(BEAM, rel=0.15)  # counted in whole pixels


def test_sidelobes_of_a_bright_source_go_and_the_source_stays():
    observation, _ = observed()
    dirty = in_noise_units(with_source(observation.dirty_beam, 150), BEAM)
    clean, sidelobes = without_sidelobes(dirty, BEAM)
    far = far_from((40, 52))
    before, after = stack_snr(dirty)[far], stack_snr(clean)[far]
    assert float(before.max()) > 8
    assert float(after.max()) < 5
    assert float(after.std()) < 1.5 < float(before.std())
    assert float(stack_snr(clean)[40, 52]) == pytest.approx(float(stack_snr(dirty)[40, 52]), rel=0.02)
    taken = sidelobes.cube()
    np.testing.assert_allclose(dirty.cube - taken * dirty.valid, clean.cube, atol=1e-4)


def test_a_faint_neighbour_comes_out_of_the_sidelobes():
    observation, _ = observed()
    cube = with_source(observation.dirty_beam, 150) + with_source(observation.dirty_beam, 20, (60, 70)) - observed()[1]
    clean, _ = without_sidelobes(in_noise_units(cube, BEAM), BEAM)
    assert float(stack_snr(clean)[60, 70]) == pytest.approx(20, abs=4)


def test_a_source_without_sidelobes_is_left_alone():
    """A cleaned cube: the noise has the dirty beam's shape, the source the clean beam's."""
    clean_beam = torch.fft.fftshift(gaussian((2 * SIZE, 2 * SIZE), BEAM)).numpy()
    units = in_noise_units(with_source(clean_beam, 300), BEAM)
    same, sidelobes = without_sidelobes(units, BEAM)
    assert sidelobes is None
    assert same is units


def test_faint_sources_are_left_alone():
    units = in_noise_units(with_source(observed()[0].dirty_beam, 6), BEAM)
    assert without_sidelobes(units, BEAM) == (units, None)


def test_sidelobe_level_is_the_dirty_beams():
    observation, _ = observed()
    psf = torch.from_numpy(np.fft.ifftshift(observation.dirty_beam).astype(np.float32))
    y, x = np.indices(psf.shape) - SIZE
    outside = np.hypot(y, x) > 1.2 * BEAM
    assert sidelobe_level(psf, BEAM) == pytest.approx(np.abs(observation.dirty_beam[outside]).max(), rel=1e-5)


def test_widened_gaussian_is_a_wider_gaussian():
    wide = widened(gaussian((64, 64), 4.0), 3.0)
    np.testing.assert_allclose(wide, gaussian((64, 64), 5.0), atol=2e-3)


def test_peaks_keep_a_beam_apart():
    snr = torch.zeros(30, 30)
    snr[5, 5], snr[5, 7], snr[20, 20] = 10, 9, 8
    assert peaks(snr, 7.5, 4) == [(5, 5), (20, 20)]
    assert peaks(snr, 9.5, 4) == [(5, 5)]
