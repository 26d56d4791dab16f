"""Deep GRU has the shape of the paper's section 2.2."""

from __future__ import annotations

import torch
from torch import nn

from napari_almadet.networks.deep_gru import CHANNELS, DeepGRU


def test_spectrum_in_spectrum_out_between_0_and_1():
    torch.manual_seed(0)
    answer = DeepGRU().eval()(torch.randn(5, CHANNELS))
    assert answer.shape == (5, CHANNELS)
    assert 0 <= answer.min() < answer.max() <= 1


def test_two_layers_of_32_states_and_a_fully_connected_layer():
    network = DeepGRU()
    grus = [m for m in network.modules() if isinstance(m, nn.GRU)]
    assert [g.hidden_size for g in grus] == [32, 32]
    assert network.head[0].in_features == 64 * 128
    assert network.head[0].out_features == 128


def test_both_directions_are_read():
    """The state kept of the first channel depends on the last one, and the other way round."""
    torch.manual_seed(0)
    network = DeepGRU().eval()
    spectrum = torch.zeros(1, CHANNELS)
    end = spectrum.clone()
    end[0, -1] = 5
    up, down = (network.upward(s[..., None])[0] for s in (spectrum, end)), None
    first, changed = up
    assert torch.equal(first[:, :-1], changed[:, :-1])
    down = [network.downward(s.flip(1)[..., None])[0] for s in (spectrum, end)]
    assert not torch.equal(down[0][:, -1], down[1][:, -1])
