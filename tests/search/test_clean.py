"""Sidelobes of bright sources, against simulated observations whose dirty beam is known."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_almadet.cube.cube import CubeError
from napari_almadet.search.clean import noise_map_error, sidelobe_level, without_sidelobes
from napari_almadet.search.components import gaussian, peak_snr, peaks, widened
from napari_almadet.search.dirty_beam import (
    beam_from_noise,
    beam_of_brightest,
    noise_psf,
    read_psf,
    resampled_psf,
    weighted_psf,
    without_point_symmetric,
)
from napari_almadet.search.line_maps import stack_snr
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observation_files import write_psf
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
    assert beam_from_noise(in_noise_units(observed()[1], BEAM)) == pytest.approx(
        BEAM, rel=0.15
    )  # counted in whole pixels


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


def lone_source(robust: float | None, phase_error: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A point of SNR 10,000 as the VLA sees it, 46 channels, 63 % of the field blank: cube, what is known, the beam."""
    observation = Observation(
        *("vla_d", SIZE), n_channels=46, frequency=36e9, declination=13, duration=600, robust=robust, noise=1.0
    ).with_beam(BEAM)
    shown = replace(observation, phase_error=phase_error, phase_seed=1).response(observation.frequency)
    noise = Imager(observation, band_ends=False).noise(46, torch.Generator().manual_seed(5))
    half = SIZE // 2
    cube = noise + 10_000 / 46**0.5 * torch.from_numpy(shown[half:-half, half:-half].astype(np.float32))
    y, x = np.indices((SIZE, SIZE)) - half
    known = torch.from_numpy(np.hypot(y, x) < np.sqrt(0.37 / np.pi) * SIZE)
    beam = torch.from_numpy(np.fft.ifftshift(observation.dirty_beam).astype(np.float32))
    return torch.where(known, cube, torch.nan), known, beam


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(("robust", "phase_error", "left"), [(None, 0, 0.02), (-2.0, 0, 0.02), (0.5, 3, 0.06)])
def test_a_lone_source_of_thousands_of_sigma_leaves_few_sidelobes(robust, phase_error, left, given):
    cube, known, beam = lone_source(robust, phase_error)
    dirty = in_noise_units(cube, BEAM)
    clean, _ = without_sidelobes(dirty, BEAM, beam if given else None)
    far = far_from((SIZE // 2, SIZE // 2)) & known
    assert float(stack_snr(dirty)[far].abs().max()) > 1000
    assert float(stack_snr(clean)[far].abs().max()) < 10_000 * left
    assert float(stack_snr(clean)[SIZE // 2, SIZE // 2]) == pytest.approx(10_000, rel=0.1)


def test_a_point_that_outshines_everything_shows_the_beam_and_others_do_not():
    cube, known, beam = lone_source(-2.0)
    units = in_noise_units(cube, BEAM)
    middle = (SIZE // 2, SIZE // 2)
    shown = beam_of_brightest(units, torch.zeros_like(beam), middle, BEAM)
    seen = shown != 0
    assert float((shown - beam)[seen].std()) < 0.01
    wide = in_noise_units(
        torch.where(known, 30 * gaussian_about(middle, 2 * BEAM) + cube - cube.nanmean(0), torch.nan), BEAM
    )
    assert beam_of_brightest(wide, torch.zeros_like(beam), middle, BEAM) is None
    faint = in_noise_units(torch.where(known, gaussian_about(middle, BEAM) + cube - cube.nanmean(0), torch.nan), BEAM)
    assert beam_of_brightest(faint, torch.zeros_like(beam), middle, BEAM) is None


def gaussian_about(place, fwhm: float) -> torch.Tensor:
    return torch.roll(gaussian((SIZE, SIZE), fwhm), place, (0, 1))


def test_the_snr_of_a_cube_corrected_for_its_noise_map_is_that_of_the_cube_times_the_correction():
    units = in_noise_units(with_source(observed()[0].dirty_beam, 40.0), BEAM)
    error = noise_map_error(units)
    assert error.std() > 0.01
    corrected = peak_snr(replace(units, cube=units.cube * error))
    np.testing.assert_allclose(corrected, peak_snr(units) * error, rtol=5e-3, atol=1e-3)


def test_errors_of_the_noise_map_are_told_from_a_primary_beam():
    y, x = np.indices((SIZE, SIZE)) / SIZE - 0.5
    beam = torch.from_numpy(np.exp(6 * (x**2 + y**2) + x).astype(np.float32))
    wave = torch.from_numpy((1 + 0.05 * np.sin(40 * x) * np.cos(35 * y)).astype(np.float32))
    units = in_noise_units(observed()[1], BEAM)
    error = noise_map_error(replace(units, rms_map=beam * wave))
    np.testing.assert_allclose(error, wave, atol=0.02)
    np.testing.assert_allclose(noise_map_error(replace(units, rms_map=beam)), 1, atol=1e-3)


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


# few visibilities, on the arms of a Y
SNAPSHOT = Observation(array="vla_d", frequency=2.2e10, declination=30.0, duration=750.0, pixel=0.8, robust=-1.4)


@pytest.mark.parametrize("observation", [Observation(pixel=0.2, robust=-2.0), SNAPSHOT])
def test_uniform_weights_make_the_beam_the_flattened_noise(observation):
    """With uniform weights the noise's own autocorrelation is further from the beam than what is chosen."""
    observation = replace(observation, size=SIZE, n_channels=64)
    noise = Imager(observation, band_ends=False).noise(64, torch.Generator().manual_seed(3))
    place, truth = (40, 52), observation.dirty_beam
    image = truth[SIZE - place[0] : 2 * SIZE - place[0], SIZE - place[1] : 2 * SIZE - place[1]]
    units = in_noise_units(noise + 15 * torch.from_numpy(image.astype(np.float32)), BEAM)
    told = noise_psf(units, BEAM)[0]
    chosen = weighted_psf(units, told, [place], BEAM)
    near = np.hypot(*(np.indices(truth.shape) - SIZE))
    near = (near > 1.2 * BEAM) & (near < 8 * BEAM)
    errors = [(torch.fft.fftshift(psf).numpy() - truth)[near].std() for psf in (told, chosen)]
    assert errors[1] < 0.35 * errors[0]


def test_natural_weights_make_the_beam_that_of_the_noise():
    units = in_noise_units(with_source(observed()[0].dirty_beam, 150.0), BEAM)
    told = noise_psf(units, BEAM)[0]
    assert weighted_psf(units, told, [(40, 52)], BEAM) is told


def test_places_mirrored_about_a_brighter_one_are_no_witnesses():
    snr = torch.zeros(60, 60)
    snr[30, 30], snr[36, 36], snr[24, 24], snr[45, 30] = 100, 20, 18, 20
    assert without_point_symmetric([(36, 36), (30, 30), (24, 24), (45, 30)], snr) == [(30, 30), (45, 30)]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_given_beam_is_seen_as_an_averaged_cube_shows_it(k):
    """A source in the middle of a block, observed and averaged, has the shape that the PSF is given."""
    truth = observed()[0].dirty_beam
    n, block = SIZE // k, 10
    at = k * block + k // 2
    image = truth[SIZE - at : SIZE - at + n * k, SIZE - at : SIZE - at + n * k]
    if k % 2 == 0:  # a block's middle lies between pixels
        image = ndimage.fourier_shift(np.fft.rfft2(truth), -0.5, truth.shape[1])
        image = np.fft.irfft2(image, s=truth.shape)[SIZE - at : SIZE - at + n * k, SIZE - at : SIZE - at + n * k]
    averaged = image.reshape(n, k, n, k).mean(axis=(1, 3))
    psf = resampled_psf(truth[1:, 1:].astype(np.float32), k, (n, n)).numpy()
    seen = psf[np.arange(n)[:, None] - block, np.arange(n) - block]
    assert np.abs(seen - averaged / averaged[block, block])[: n - 2, : n - 2].max() < 0.015


def test_a_dirty_beam_is_read_and_one_of_other_pixels_refused(tmp_path):
    observation = Observation(size=SIZE, n_channels=8, pixel=0.2)
    path = write_psf(observation, tmp_path / "psf.fits")
    cube = cube_of(simulate_cube(1, observation=observation), "cube")
    psf = read_psf(path, cube)
    assert psf.shape[0] % 2 == psf.shape[1] % 2 == 1
    assert psf[psf.shape[0] // 2, psf.shape[1] // 2] == psf.max() == 1
    np.testing.assert_allclose(psf, observation.dirty_beam[1:, 1:], atol=1e-6)
    other = cube_of(simulate_cube(1, observation=Observation(size=SIZE, n_channels=8, pixel=0.1)), "cube")
    with pytest.raises(CubeError, match=r"0\.2 x 0\.2 arcsec and the cube's 0\.1"):
        read_psf(path, other)


def test_with_the_beam_given_the_sidelobes_go():
    dirty = observed()[0].dirty_beam
    units = in_noise_units(with_source(dirty, 300.0), BEAM)
    psf = resampled_psf(dirty[1:, 1:].astype(np.float32), 1, (SIZE, SIZE))
    clean, sidelobes = without_sidelobes(units, BEAM, psf)
    assert sidelobes is not None
    assert float(stack_snr(clean)[far_from((40, 52))].std()) == pytest.approx(1, abs=0.1)
