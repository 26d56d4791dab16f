"""Deep GRU, the recurrent network that denoises the spectrum of a candidate (paper, section 2.2).

The paper's two GRU layers of 32 states, "concatenated to form a latent vector of size
64 x 128", read the spectrum here in the two directions, as in the authors' scripts.  The
fully connected layer takes the whole vector to the whole spectrum, as the paper says.
"""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = 128  # length of the spectra the network is built for


class DeepGRU(nn.Module):
    """Denoiser of (batch, 128) standardised spectra; the answer, of the same shape, is in [0, 1].

    Parameters
    ----------
    hidden
        States of each GRU layer.
    """

    def __init__(self, hidden: int = 32):
        super().__init__()
        self.config = {"hidden": hidden}
        self.upward = nn.GRU(1, hidden, batch_first=True)
        self.downward = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * hidden * CHANNELS, CHANNELS), nn.Sigmoid())

    def states(self, spectrum: torch.Tensor) -> torch.Tensor:
        """What the two layers remember at each channel, shape (batch, 128, 2 hidden)."""
        sequence = spectrum[..., None]
        up, _ = self.upward(sequence)
        down, _ = self.downward(sequence.flip(1))
        return torch.cat([up, down.flip(1)], dim=2)

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Denoised spectra of shape (batch, 128), in [0, 1]."""
        return self.head(self.states(spectrum).flatten(1))
