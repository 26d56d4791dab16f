"""Judge, the classifier: from the features of a candidate to its source probability."""

from __future__ import annotations

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
