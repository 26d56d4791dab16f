"""Blobs Finder, the convolutional autoencoder that turns a dirty image into a probability map (paper, section 2.1).

What the paper leaves open, and what is chosen here:

==========================  ==================================================================
encoder                     4, 8, 16, 32 channels: each block doubles them, as the paper says
order within a block        convolution, LeakyReLU, batch norm, as the paper lists them
slope of LeakyReLU          0.01
latent vector               512 numbers, two for each cell of the encoder's 16 x 16 grid: the
                            most that keeps the weights small enough to ship (17 MB)
decoder                     24, 16, 12, 8 channels: each block reduces them, as the paper says
==========================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

FIELD = 256  # px, side of the images the network is built for


class BlobsFinder(nn.Module):
    """Autoencoder of (batch, 1, 256, 256) dirty images in [0, 1] to probability maps of the same shape.

    Parameters
    ----------
    encoder, decoder
        Channels after each block of the two halves.
    latent
        Length of the vector between the two fully connected layers.
    """

    def __init__(
        self, encoder: Sequence[int] = (4, 8, 16, 32), decoder: Sequence[int] = (24, 16, 12, 8), latent: int = 512
    ) -> None:
        super().__init__()
        self.config = {"encoder": list(encoder), "decoder": list(decoder), "latent": latent}
        side = FIELD // 2 ** len(encoder)
        self.grid = (encoder[-1], side, side)
        features = encoder[-1] * side**2
        self.encoder = nn.Sequential(*(_halve(i, o) for i, o in zip((1, *encoder), encoder, strict=False)))
        self.to_latent = nn.Linear(features, latent)
        self.from_latent = nn.Linear(latent, features)
        self.decoder = nn.Sequential(*(_double(i, o) for i, o in zip((encoder[-1], *decoder), decoder, strict=False)))
        last = nn.Conv2d(decoder[-1], 1, kernel_size=1)
        assert last.bias is not None
        nn.init.constant_(last.bias, -4.0)  # a map is empty but for a few pixels: begin there
        self.head = nn.Sequential(last, nn.Sigmoid())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map of shape (batch, 1, 256, 256), in [0, 1]."""
        code = self.to_latent(self.encoder(image).flatten(1))
        return self.head(self.decoder(self.from_latent(code).unflatten(1, self.grid)))


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1), nn.LeakyReLU(), nn.BatchNorm2d(outputs)
    )


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.ConvTranspose2d(inputs, outputs, kernel_size=3, stride=1, padding=1),
        nn.LeakyReLU(),
        nn.BatchNorm2d(outputs),
    )
