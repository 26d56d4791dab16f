"""Source Finder takes images of any size and knows no special place."""

from __future__ import annotations

import pytest
import torch

from napari_almadet.networks.source_finder import SourceFinder


@pytest.fixture
def network() -> SourceFinder:
    torch.manual_seed(0)
    return SourceFinder(widths=(8, 12, 16)).eval()


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (5, 3)])
def test_any_size_will_do(network, shape):
    answer = network(torch.randn(2, 8, *shape))
    assert answer.shape == (2, 5, *shape)
    assert torch.isfinite(answer).all()


def test_an_untrained_network_sees_no_sources(network):
    assert float(torch.sigmoid(network(torch.randn(1, 8, 64, 64))[:, 0]).median()) < 0.1


@torch.no_grad()
def test_moving_the_image_moves_the_answer(network):
    """By the coarsest step, and away from the borders."""
    image = torch.randn(1, 8, 128, 128)
    step = 2 ** (len(network.down) - 1)
    moved = torch.roll(image, (step, 2 * step), (2, 3))
    inside = slice(48, 80)
    torch.testing.assert_close(
        network(moved)[..., inside, inside],
        torch.roll(network(image), (step, 2 * step), (2, 3))[..., inside, inside],
        atol=1e-4,
        rtol=1e-3,
    )


def test_learns_where_a_source_is():
    torch.manual_seed(0)
    network = SourceFinder(inputs=1, widths=(8, 12))
    image = torch.zeros(4, 1, 16, 16)
    for i in range(4):
        image[i, 0, 4 + 2 * i, 12 - 2 * i] = 3
    adam = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        adam.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(image)[:, 0], (image[:, 0] > 0).float())
        loss.backward()
        adam.step()
    answer = network.eval()(image)[:, 0].flatten(1)
    assert torch.equal(answer.argmax(dim=1), image.flatten(1).argmax(dim=1))
