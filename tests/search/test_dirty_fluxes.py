"""Fluxes of bright sources in dirty cubes: the beam in averaged pixels, restoring, and what the sources do to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable

from napari_almadet import Cube, Settings, detect
from napari_almadet.evaluation.run import flux_in_hertz
from napari_almadet.search.clean import power_in_noise, restored
from napari_almadet.search.components import gaussian, widened
from napari_almadet.search.dirty_beam import averaged_once
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.simulation.dataset import cube_of
from napari_almadet.simulation.observation_files import SimulatedCube, truth_table
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.sky import SkyModel

BEAM = 4.0  # FWHM, averaged pixels


def lobe(fwhm: float, side: int = 64) -> torch.Tensor:
    return gaussian((side, side), fwhm)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_noise_averaged_over_pixels_is_wider_by_one_averaging_more_than_a_source(k):
    """Variances add up: that of the mean of k points one k-th apart is (1 - 1 / k²) / 12, twice in autocorrelations."""
    once = (1 - 1 / k**2) / 12 / gaussian_fwhm_to_sigma**2
    source, noise = lobe(np.hypot(BEAM, np.sqrt(once))), lobe(np.hypot(BEAM, np.sqrt(2 * once)))
    assert float((noise - source).abs().max()) > 0.005
    assert float((averaged_once(noise, k) - source).abs().max()) < 0.001


def test_pixels_that_were_not_averaged_leave_the_beam_as_it_is():
    psf = lobe(BEAM)
    assert averaged_once(psf, 1) is psf
    assert averaged_once(psf, 0.5) is psf


@pytest.mark.parametrize("fwhm", [0.0, 3.0, 6.0])
def test_a_source_is_restored_with_its_flux_whatever_the_dirty_beam_has_beside_its_lobe(fwhm):
    """Fluxes are peaks times areas: the wing that a dirty beam has makes the peak of a wide source higher."""
    psf = 0.9 * lobe(BEAM) + 0.1 * lobe(2.5 * BEAM)
    clean = np.eye(2) * (BEAM * gaussian_fwhm_to_sigma) ** 2
    image = restored(psf, clean, fwhm, 1)
    flux_of_dirty_peak = float(lobe(fwhm).sum() / (psf * lobe(fwhm)).sum()) if fwhm else 1.0
    assert float(image.sum() / lobe(BEAM).sum()) == pytest.approx(flux_of_dirty_peak, rel=1e-4)


def test_a_clean_beam_is_averaged_as_the_cube_was():
    clean = np.eye(2) * (BEAM * gaussian_fwhm_to_sigma) ** 2
    wider = np.hypot(BEAM, np.sqrt((1 - 1 / 4) / 12) / gaussian_fwhm_to_sigma)
    image = restored(lobe(wider), clean, 0.0, 2)
    assert float((image - lobe(wider)).abs().max()) < 1e-5


def test_the_power_of_lines_is_what_they_add_to_the_differences_of_channels():
    channels = torch.arange(60.0)
    spectra = torch.stack([10 * torch.exp(-0.5 * ((channels - 30) / 8) ** 2)])
    whole = torch.ones(64, 64)
    units = NoiseUnits(torch.zeros(60, 64, 64), whole > 0, torch.ones(60), whole, torch.arange(60))
    psf = lobe(BEAM)
    flat = power_in_noise(torch.ones(1, 60), psf, units)
    assert flat == 0  # continuum is not in the differences
    assert power_in_noise(2 * spectra, psf, units) == pytest.approx(4 * power_in_noise(spectra, psf, units))
    assert power_in_noise(spectra, widened(psf, 4.0), units) > power_in_noise(spectra, psf, units) > 0


def bright_lines() -> tuple[Cube, QTable]:
    """A dirty cube with five resolved sources whose bright lines leave no channel without one, and its truth."""
    observation = Observation(size=160, n_channels=64, pixel=0.1, mosaic=True)
    n, zeros = 5, np.zeros(5)
    model = SkyModel(
        x=np.array([40.3, 120.1, 80.6, 36.2, 118.4]),
        y=np.array([38.7, 44.2, 82.3, 121.6, 119.9]),
        major=np.full(n, 6.5),
        minor=np.full(n, 5.0),
        angle=np.array([10.0, 50.0, 90.0, 130.0, 170.0]),
        continuum=zeros,
        spectral_index=zeros,
        line=np.full(n, 4e-4),
        line_centre=np.array([10.0, 21.0, 32.0, 43.0, 54.0]),
        line_fwhm=np.full(n, 9.0),
        gradient=zeros,
        pair=zeros.astype(int),
    )
    imager = Imager(observation)
    dirty = imager.cube(model, torch.Generator().manual_seed(1)).numpy()
    truth = truth_table(model, imager)
    return cube_of(SimulatedCube(dirty, model, truth, observation, "paper", 1), "bright lines"), truth


def test_bright_resolved_sources_of_a_dirty_cube_have_their_fluxes():
    """With the lines of the sources in the noise that the beam is estimated from, fluxes are 6 to 13 % too low."""
    cube, truth = bright_lines()
    found = detect(cube, Settings(beam="dirty", device="cpu"))
    biases = []
    for x, y, flux in zip(truth["x"].value, truth["y"].value, truth["flux"].to_value("Jy Hz"), strict=True):
        (nearest,) = (c for c in found.kept if np.hypot(c.x - x, c.y - y) < 3)
        biases.append(nearest.f_sum * flux_in_hertz(found.flux_unit, cube.rest_frequency) / flux - 1)
    assert abs(np.median(biases)) < 0.02
