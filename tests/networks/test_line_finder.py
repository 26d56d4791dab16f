"""Line Finder takes spectra of any length and treats all channels alike."""

from __future__ import annotations

import pytest
import torch

from napari_almadet.networks.line_finder import LineFinder


@pytest.fixture
def network() -> LineFinder:
    torch.manual_seed(0)
    return LineFinder(width=8, dilations=(1, 2, 4)).eval()


@pytest.mark.parametrize("length", [1, 5, 128, 1000])
def test_any_length_will_do(network, length):
    answer = network(torch.randn(3, length))
    assert answer.shape == (3, length)
    assert bool(((answer >= 0) & (answer <= 1)).all())


@torch.no_grad()
def test_moving_the_spectrum_moves_the_answer(network):
    spectrum = torch.randn(1, 300)
    inside = slice(100, 200)
    torch.testing.assert_close(
        network(torch.roll(spectrum, 7, 1))[:, inside], torch.roll(network(spectrum), 7, 1)[:, inside]
    )


def test_no_spectra_are_no_trouble(network):
    assert network(torch.zeros(0, 128)).shape == (0, 128)
