"""Judge, the classifier: from the features of a candidate to its source probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn


class Judge(nn.Module):
    """From (batch, features) measures to (batch,) logits.

    Parameters
    ----------
    features
        Number of measures.
    hidden
        Neurons of the two hidden layers.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    slope: torch.Tensor
    shift: torch.Tensor

    def __init__(self, features: int, hidden: int = 48) -> None:
        super().__init__()
        self.config = {"features": features, "hidden": hidden}
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
        )
        # what calibration on validation candidates adds: logit -> slope * logit + shift
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, measures: torch.Tensor) -> torch.Tensor:
        """Logits of being a source."""
        logit = self.layers((measures - self.mean) / self.scale)[:, 0]
        return self.slope * logit + self.shift


Classifier = TypeVar("Classifier", bound=Judge)


def joined(members: Sequence[Classifier]) -> Classifier:
    """One network whose logit is the mean of those of several, which share ``mean`` and ``scale``.

    Trained from different first weights, they differ most where there were few examples, and their mean is better
    calibrated there (Lakshminarayanan, Pritzel & Blundell 2017, NeurIPS 30).  The network is as wide as all of them
    together.
    """
    first, n = members[0], len(members)
    network = type(first)(first.config["features"], n * first.config["hidden"])
    inputs, hidden, outputs = zip(*(linear_layers(member) for member in members), strict=True)
    one, two, three = linear_layers(network)
    with torch.no_grad():
        network.mean.copy_(first.mean)
        network.scale.copy_(first.scale)
        one.weight.copy_(torch.cat([layer.weight for layer in inputs]))
        one.bias.copy_(torch.cat([layer.bias for layer in inputs]))
        two.weight.copy_(torch.block_diag(*(layer.weight for layer in hidden)))
        two.bias.copy_(torch.cat([layer.bias for layer in hidden]))
        three.weight.copy_(torch.cat([layer.weight for layer in outputs], dim=1) / n)
        three.bias.copy_(torch.stack([layer.bias for layer in outputs]).mean(dim=0))
    return network


def linear_layers(network: Judge) -> list[nn.Linear]:
    """The layers with weights, in order."""
    return [layer for layer in network.layers if isinstance(layer, nn.Linear)]
