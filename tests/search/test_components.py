"""Responses and sidelobes made by short ways are those of the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_almadet.search.components import SCALES, Responses, Sidelobes, gaussian, near, responses_at, widened
from napari_almadet.search.dirty_beam import padded_power
from napari_almadet.search.noise_units import NoiseUnits

BEAM = 4.0


@pytest.fixture
def psf() -> torch.Tensor:
    """A main lobe with sidelobes, (2 ny, 2 nx)."""
    y, x = (torch.fft.fftfreq(n, 1 / n) for n in (60, 76))
    sidelobes = torch.cos(y[:, None]) * torch.cos(0.7 * x) * gaussian((60, 76), 40.0)
    image = gaussian((60, 76), BEAM) + 0.1 * sidelobes
    return image / image[0, 0]


@pytest.fixture
def units() -> NoiseUnits:
    cube = torch.randn(19, 30, 38, generator=torch.Generator().manual_seed(1))
    return NoiseUnits(cube, cube[0] > -1, torch.ones(19), torch.ones(30, 38), torch.arange(19))


def test_responses_near_their_peak_are_those_of_the_whole_images(psf):
    responses = Responses(psf, BEAM)
    lag = torch.arange(-5, 6)
    for scale, (mine, own) in enumerate(zip(responses.near(5), responses, strict=True)):
        convolved = (
            torch.fft.irfft2(
                torch.fft.rfft2(psf) * torch.fft.rfft2(gaussian(tuple(psf.shape), SCALES[scale] * BEAM)), s=psf.shape
            )
            if scale
            else psf
        )
        torch.testing.assert_close(own, convolved / convolved[0, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(widened(psf, SCALES[scale] * BEAM), own)
        torch.testing.assert_close(mine, own[lag[:, None], lag], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(near(list(responses), 5), responses.near(5), atol=1e-5, rtol=1e-4)


def test_responses_are_moved_to_their_places(psf, units):
    places = [(0, 0), (29, 37), (12, 20), (0, 37)]
    y, x = torch.arange(30), torch.arange(38)
    expected = torch.stack([psf[(y - py)[:, None], x - px] for py, px in places])
    assert torch.equal(responses_at(places, [psf] * 4, units), expected)


def test_sidelobes_come_off_where_there_is_data(units):
    spectra, images = torch.randn(3, 19), torch.randn(3, 30, 38)
    left = Sidelobes(spectra, images, torch.zeros(3, 2)).off(units.cube, units.valid)
    expected = units.cube - torch.einsum("nc,nyx->cyx", spectra, images) * units.valid
    torch.testing.assert_close(left, expected, atol=1e-5, rtol=1e-5)


def test_power_of_padded_planes_is_that_of_their_transform(units):
    expected = (torch.fft.rfft2(units.cube, s=(60, 76)).abs() ** 2).sum(dim=0)
    np.testing.assert_allclose(padded_power(units.cube), expected, rtol=1e-3, atol=1e-3 * float(expected.mean()))
