"""Blobs Finder has the shape of the paper's section 2.1."""

from __future__ import annotations

import torch
from torch import nn

from napari_almadet.networks.blobs_finder import FIELD, BlobsFinder


def layers(module, kind):
    return [m for m in module.modules() if isinstance(m, kind)]


def test_image_in_image_out_between_0_and_1():
    torch.manual_seed(0)
    answer = BlobsFinder().eval()(torch.rand(2, 1, FIELD, FIELD))
    assert answer.shape == (2, 1, FIELD, FIELD)
    assert 0 <= answer.min() < answer.max() <= 1


def test_encoder_halves_the_image_and_doubles_the_channels_four_times():
    network = BlobsFinder()
    shapes, x = [], torch.rand(2, 1, FIELD, FIELD)
    for block in network.encoder:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
        assert [type(m) for m in block] == [nn.Conv2d, nn.LeakyReLU, nn.BatchNorm2d]
        assert block[0].kernel_size == (3, 3)
        assert block[0].stride == (2, 2)
    assert shapes == [(4, 128, 128), (8, 64, 64), (16, 32, 32), (32, 16, 16)]


def test_decoder_doubles_the_image_and_reduces_the_channels_four_times():
    network = BlobsFinder()
    x, channels = torch.rand(2, *network.grid), [network.grid[0]]
    for block in network.decoder:
        assert [type(m) for m in block] == [nn.Upsample, nn.ConvTranspose2d, nn.LeakyReLU, nn.BatchNorm2d]
        assert block[0].mode == "bilinear"
        assert block[1].kernel_size == (3, 3)
        assert block[1].stride == (1, 1)
        side = x.shape[-1]
        x = block(x)
        assert x.shape[-1] == 2 * side
        channels.append(x.shape[1])
    assert channels == sorted(channels, reverse=True)
    assert len(set(channels)) == 5


def test_bottleneck_is_fully_connected():
    """A change in one corner of the image can change the code, and through it every corner of the answer."""
    assert len(layers(BlobsFinder(), nn.Linear)) == 2
    torch.manual_seed(1)
    network, image = BlobsFinder().eval(), torch.rand(1, 1, FIELD, FIELD)
    changed = image.clone()
    changed[..., :16, :16] = 1 - changed[..., :16, :16]
    difference = (network(image) - network(changed)).abs()[0, 0]
    assert difference[-64:, -64:].max() > 0


def test_head_is_a_1x1_convolution_and_a_sigmoid():
    convolution, sigmoid = BlobsFinder().head
    assert convolution.kernel_size == (1, 1)
    assert isinstance(sigmoid, nn.Sigmoid)
