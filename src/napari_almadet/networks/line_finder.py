"""Line Finder, a residual network that detects lines in a spectrum in units of the noise.

The abstract of the paper mentions a ResNet (He et al. 2016), while its text describes Deep GRU.  This network is
convolutional along the channels, with a receptive field that grows with the dilation of its blocks, so that it
accepts spectra of any length and treats all channels alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


class LineFinder(nn.Module):
    """From (batch, channels) spectra in noise units, free of continuum, to the same shape, from 0 to 1.

    The answer rises to the probability of a line at its centre, with the line's shape.

    Parameters
    ----------
    width
        Features.
    dilations
        Of the blocks; each has two convolutions over five channels.
    """

    def __init__(self, width: int = 32, dilations: Sequence[int] = (1, 2, 4, 8, 16, 4, 1)) -> None:
        super().__init__()
        self.config = {"width": width, "dilations": list(dilations)}
        self.stem = nn.Conv1d(1, width, 5, padding=2)
        self.blocks = nn.ModuleList(Residual(width, dilation) for dilation in dilations)
        self.head = nn.Conv1d(width, 1, 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -3.0)  # most channels hold no line: begin there

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Where the lines are, (batch, channels), from 0 to 1."""
        x = self.stem(torch.asinh(spectrum / 2)[:, None])
        for block in self.blocks:
            x = block(x)
        return torch.sigmoid(self.head(F.leaky_relu(x, 0.1))[:, 0])


class Residual(nn.Module):
    """Two dilated convolutions beside a short cut."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.1),
            nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation, bias=False),
            nn.BatchNorm1d(width),
            nn.LeakyReLU(0.1),
            nn.Conv1d(width, width, 5, padding=2 * dilation, dilation=dilation),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return x + self.layers(x)
