"""The dirty beam of robust weights: the noise tells too little of the short baselines, the header's beam how much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.search import dirty_beam
from napari_almadet.search.clean import peak_of
from napari_almadet.search.components import gaussian
from napari_almadet.search.dirty_beam import as_wide_as, lobe_curvature
from napari_almadet.search.noise_units import NoiseUnits

SIDE, BEAM = 128, 5.0
TRUE = (gaussian((SIDE, SIDE), BEAM) - 0.1 * gaussian((SIDE, SIDE), 3 * BEAM)) / 0.9  # a lobe in a bowl


def fitted(psf: torch.Tensor) -> np.ndarray:
    """The clean beam, as imagers fit it: covariance along x and y."""
    return np.linalg.inv(2 * lobe_curvature(psf))[::-1, ::-1]


def from_the_noise(fwhm: float = 2.5) -> torch.Tensor:
    """The beam without a part of its short baselines, as the noise of robust weights has it."""
    kernel = np.array([fwhm, 1.3 * fwhm]) * gaussian_fwhm_to_sigma
    v, w = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    taper = np.exp(-2 * np.pi**2 * ((kernel[0] * v) ** 2 + (kernel[1] * w) ** 2))
    kept = torch.as_tensor(1 / np.maximum(taper, 0.05), dtype=torch.float32)
    narrow = torch.fft.irfft2(torch.fft.rfft2(TRUE) * kept, s=(SIDE, SIDE))
    return narrow / narrow[0, 0]


def test_an_estimate_with_too_narrow_a_lobe_is_tapered_to_the_headers_beam():
    """Else resolved sources, whose dirty peaks are lower in a deeper bowl, are restored with too high a flux."""
    estimate = from_the_noise()
    tapered = as_wide_as(estimate, fitted(TRUE))
    assert float((estimate - TRUE).abs().max()) > 0.05
    assert float((tapered - TRUE).abs().max()) < 0.015
    assert peak_of(estimate, BEAM) < 0.9 * peak_of(TRUE, BEAM)
    assert peak_of(tapered, BEAM) == pytest.approx(peak_of(TRUE, BEAM), rel=0.02)
    np.testing.assert_allclose(fitted(tapered), fitted(TRUE), rtol=0.01, atol=0.02)


def test_a_beam_of_natural_weights_stays_as_it_is():
    assert torch.equal(as_wide_as(TRUE, 0.97 * fitted(TRUE)), TRUE)
    assert float((as_wide_as(TRUE, fitted(TRUE)) - TRUE).abs().max()) < 1e-4


def test_the_beam_of_averaged_pixels_is_wider_by_their_size():
    """Variances add up: that of the mean of two points half a pixel apart is (1 - 1/4) / 12."""
    wider = as_wide_as(from_the_noise(), fitted(TRUE), 2)
    np.testing.assert_allclose(np.diag(fitted(wider) - fitted(TRUE)), 0.75 / 12, atol=0.02)


def test_a_lobe_of_too_few_pixels_is_not_fitted():
    spike = torch.zeros(SIDE, SIDE)
    spike[0, 0] = 1
    assert as_wide_as(spike, fitted(TRUE)) is spike


@pytest.mark.parametrize("robust", [False, True])
def test_only_the_beam_of_weights_that_are_not_natural_is_tapered(monkeypatch, robust):
    """In natural-weighted cubes a lobe narrower by a percent is an error of the fit: fluxes would be too low."""
    whole = torch.ones(SIDE // 2, SIDE // 2)
    spectrum = torch.full((8,), 50.0)
    cube = spectrum[:, None, None] * torch.roll(TRUE, (32, 32), (0, 1))[: SIDE // 2, : SIDE // 2]
    units = NoiseUnits(cube, whole > 0, torch.ones(8), whole, torch.arange(8))
    monkeypatch.setattr(dirty_beam, "weighted_psf", lambda units, psf, *_: from_the_noise() if robust else psf)
    noise = from_the_noise(), torch.full_like(TRUE, 1e-9)
    made = dirty_beam.psf_of(units, cube[0], BEAM, noise=noise, clean_beam=fitted(TRUE))
    assert float((made - (TRUE if robust else from_the_noise())).abs().max()) < 0.015
