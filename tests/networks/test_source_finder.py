"""Source Finder takes images of any size and knows no special place."""

from __future__ import annotations

import pytest
import torch

from napari_almadet import threads
from napari_almadet.networks.source_finder import SourceFinder, from_all_sides, halved


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


def parabolas(images: torch.Tensor) -> torch.Tensor:
    """A network that knows no up nor left: its offsets are the parabola's through the neighbours, its sizes slopes."""
    image = images[:, 0]
    answer = torch.zeros(len(image), 5, *image.shape[1:])
    answer[:, 0] = image
    for number, axis in ((1, 1), (2, 2)):
        before, after = torch.roll(image, 1, axis), torch.roll(image, -1, axis)
        answer[:, number], answer[:, number + 2] = after - before, after + before - 2 * image
    return answer


def test_what_is_the_same_from_all_sides_stays():
    images = torch.randn(2, 8, 12, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(from_all_sides(parabolas, images), parabolas(images))


@torch.no_grad()
@pytest.mark.parametrize("axis", [2, 3])
def test_a_mirrored_image_has_the_mirrored_answer(network, axis):
    images = torch.randn(1, 8, 32, 32)
    answer, mirrored = from_all_sides(network, images), from_all_sides(network, images.flip(axis))
    assert not torch.allclose(network(images.flip(axis))[:, 0], network(images)[:, 0].flip(axis - 1), atol=1e-3)
    torch.testing.assert_close(mirrored[:, 0], answer[:, 0].flip(axis - 1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mirrored[:, axis - 1], -answer[:, axis - 1].flip(axis - 1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(64, 64), (37, 50)])
def test_made_for_inference_it_answers_the_same(shape):
    torch.manual_seed(1)
    network = SourceFinder(widths=(8, 12, 16))
    for module in network.modules():  # normalisations as training leaves them
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 2)
            module.bias.normal_()
    images = torch.randn(1, 8, *shape)
    plain = network.eval()(images)
    torch.testing.assert_close(network.for_inference()(images), plain, atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_halved_is_max_pool():
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(halved(images), torch.nn.functional.max_pool2d(images, 2))


@torch.inference_mode()
def test_sides_looked_at_in_several_threads_have_the_answer_of_one(network, monkeypatch):
    images = torch.randn(1, 8, 40, 36)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = from_all_sides(network, images)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "cores", lambda: 3)
    torch.testing.assert_close(from_all_sides(network, images), alone, atol=1e-5, rtol=1e-5)
