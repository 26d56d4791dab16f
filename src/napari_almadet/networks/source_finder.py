"""Source Finder, a fully convolutional network that gives positions and sizes of sources from images in noise units.

It has the encoder and decoder of a U-Net (Ronneberger et al. 2015): skip connections preserve positions, and nothing is
fully connected, so that it accepts images of any size and treats all positions alike.  Its output is that of CenterNet
(Zhou et al. 2019): for each pixel whether it contains the centre of a source, where in the pixel, and how large the
source is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, product

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_almadet.threads import spread

# Pixels that are looked at from several sides at once, for the memory's sake: each takes some 400 bytes as it goes
# through the network. Two sides at once there are always, which is less than the search needs before.
PIXELS_AT_ONCE = 2**19


class SourceFinder(nn.Module):
    """From (batch, inputs, y, x) images to five maps (batch, 5, y, x).

    The first is the logit of a source's centre being in the pixel; then the centre's offset
    (y, x) from the pixel's, and the logarithms of the source's standard deviations along y and x, all in pixels.

    Parameters
    ----------
    inputs
        Images shown.
    widths
        Channels at each scale; each scale is half as fine as the one before.
    """

    OUTPUTS = 5

    def __init__(self, inputs: int = 8, widths: Sequence[int] = (16, 32, 64, 96)) -> None:
        super().__init__()
        self.config = {"inputs": inputs, "widths": list(widths)}
        self.down = nn.ModuleList(Block(i, o) for i, o in zip((inputs, *widths), widths, strict=False))
        self.up = nn.ModuleList(Block(low + skip, skip) for skip, low in pairwise(widths))
        self.head = nn.Conv2d(widths[0], self.OUTPUTS, kernel_size=1)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.bias[0] = -4.0  # most pixels hold no centre: begin there

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The five maps, of the images' size."""
        ny, nx = images.shape[-2:]
        step = 2 ** (len(self.down) - 1)
        x = F.pad(images, (0, -nx % step, 0, -ny % step))
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else halved(x))
            skips.append(x)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        return self.head(x)[..., :ny, :nx]

    def for_inference(self) -> SourceFinder:
        """This network, made to answer sooner and the same; its weights can be neither trained nor saved after it."""
        for block in (*self.down, *self.up):
            block.fold()
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def halved(x: torch.Tensor) -> torch.Tensor:
    """The highest of every 2 x 2 pixels, as max_pool2d has it, which takes longer: it notes where each was."""
    rows = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class Block(nn.Module):
    """Two convolutions of 3 x 3, the second beside a short cut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))

    def fold(self) -> None:
        """Put the normalisations into the convolutions: the same answers in evaluation mode, and half of the passes."""
        for name in ("first", "second"):
            layers = getattr(self, name)
            if len(layers) == 2:
                setattr(self, name, nn.Sequential(fuse_conv_bn_eval(*layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same size, ``outputs`` channels."""
        x = F.leaky_relu(self.first(x), 0.1, inplace=True)  # new memory takes longer than the operation
        return F.leaky_relu(self.second(x).add_(x), 0.1, inplace=True)


def from_all_sides(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Mean of a Source Finder's answers to images turned and mirrored in all eight ways, each turned back.

    The sky knows no up nor left, and what is not the network's own whim stays.

    Parameters
    ----------
    images
        Shape (batch, inputs, y, x).

    Returns
    -------
    torch.Tensor
        As :class:`SourceFinder` answers, (batch, 5, y, x), in single precision.
    """

    def answer_to(side: tuple[tuple[int, ...], bool]) -> torch.Tensor:
        axes, swap = side
        seen = images.flip(axes)
        answer = network((seen.mT if swap else seen).contiguous(memory_format=torch.channels_last)).float()
        answer = answer.mT[:, [0, 2, 1, 4, 3]] if swap else answer
        sign = torch.tensor([1, -1 if -2 in axes else 1, -1 if -1 in axes else 1, 1, 1], device=answer.device)
        return answer.flip(axes) * sign[:, None, None]

    sides = list(product(((), (-1,), (-2,), (-2, -1)), (False, True)))
    several = images.device.type == "cpu" and not torch.is_grad_enabled()
    total = torch.zeros(())
    at_once = max(2, PIXELS_AT_ONCE // max(1, images[:, 0].numel()))
    for i in range(0, len(sides), at_once):
        some = sides[i : i + at_once]
        for answer in spread(answer_to, some) if several else map(answer_to, some):
            total = total + answer
    return total / len(sides)
