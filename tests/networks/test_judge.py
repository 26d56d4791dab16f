"""Judge's logits: normalised measures in, calibrated logits out."""

from __future__ import annotations

import pytest
import torch

from napari_almadet.networks.extent_classifier import ExtentClassifier
from napari_almadet.networks.judge import Judge, joined
from napari_almadet.networks.weights import load, save


def test_slope_and_shift_act_on_the_logits():
    torch.manual_seed(0)
    judge, measures = Judge(4), torch.randn(10, 4)
    plain = judge(measures)
    judge.slope.fill_(2.0)
    judge.shift.fill_(-1.0)
    torch.testing.assert_close(judge(measures), 2 * plain - 1)


def test_measures_are_normalised_by_what_the_weights_carry():
    torch.manual_seed(0)
    judge, measures = Judge(4), torch.randn(10, 4)
    plain = judge(measures)
    judge.mean += 3
    judge.scale *= 5
    torch.testing.assert_close(judge(measures * 5 + 3), plain)


def test_normalisation_and_calibration_are_saved(tmp_path):
    judge = Judge(4)
    judge.mean += 0.5
    judge.slope.fill_(1.5)
    save(judge, tmp_path / "judge.safetensors", {})
    loaded, _ = load(tmp_path / "judge.safetensors")
    measures = torch.randn(10, 4)
    torch.testing.assert_close(loaded(measures), judge(measures), atol=2e-3, rtol=2e-3)  # half precision


@pytest.mark.parametrize("kind", [Judge, ExtentClassifier])
def test_the_logit_of_joined_networks_is_the_mean_of_theirs(kind):
    torch.manual_seed(0)
    members, measures = [kind(4, 6) for _ in range(3)], torch.randn(10, 4)
    for member in members:
        member.mean += 0.5
        member.scale *= 2
    one = joined(members)
    assert type(one) is kind
    assert one.config == {"features": 4, "hidden": 18}
    torch.testing.assert_close(one(measures), torch.stack([member(measures) for member in members]).mean(dim=0))
