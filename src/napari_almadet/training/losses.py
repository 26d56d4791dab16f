"""Loss functions of the networks: the paper's l1 and structural dissimilarity, CenterNet's, a weighted one."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def dssim(prediction: torch.Tensor, target: torch.Tensor, window: int = 3) -> torch.Tensor:
    """Structural dissimilarity, (1 - SSIM) / 2, averaged over the images; 0 for equal ones, at most 1.

    SSIM as in Wang et al. (2004), with moments over a square window.

    Parameters
    ----------
    prediction, target
        Shape (batch, 1, y, x), in [0, 1].
    window
        Side of the window in pixels; the authors' scripts have 3.
    """
    moments = torch.cat([prediction, target, prediction**2, target**2, prediction * target], dim=1)
    mean_p, mean_t, square_p, square_t, product = F.avg_pool2d(moments, window, stride=1).unbind(dim=1)
    variance_p, variance_t, covariance = square_p - mean_p**2, square_t - mean_t**2, product - mean_p * mean_t
    c1, c2 = 0.01**2, 0.03**2
    ssim = ((2 * mean_p * mean_t + c1) * (2 * covariance + c2)) / (
        (mean_p**2 + mean_t**2 + c1) * (variance_p + variance_t + c2)
    )
    return ((1 - ssim) / 2).mean()


def image_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """l1 + DSSIM with equal weights, the loss of Blobs Finder (paper, section 2.1)."""
    return F.l1_loss(prediction, target) + dssim(prediction, target)


def centre_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """CenterNet's loss (Zhou et al. 2019, eq. 1): a focal loss of the centres, and l1 of offsets and sizes in them.

    Parameters
    ----------
    prediction
        Of :class:`~napari_almadet.networks.source_finder.SourceFinder`, shape (batch, 5, y, x).
    target
        Of :class:`~napari_almadet.training.fields.Fields`, shape (batch, 6, y, x).
    """
    near, weight = target[:, 0], target[:, 5]
    is_centre = (near == 1).float() * weight
    logit = prediction[:, 0]
    chance = torch.sigmoid(logit)
    hit = (1 - chance) ** 2 * F.logsigmoid(logit) * is_centre
    miss = chance**2 * (1 - near) ** 4 * F.logsigmoid(-logit) * (1 - is_centre) * weight
    number = is_centre.sum().clamp(min=1)
    shape = ((prediction[:, 1:5] - target[:, 1:5]).abs() * is_centre[:, None]).sum()
    return (-(hit + miss).sum() + shape) / number


def weighted_cross_entropy(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of logits (batch,) with a ``target`` (batch, 2) of truths and weights, their weighted mean."""
    true, weight = target.unbind(dim=1)
    losses = F.binary_cross_entropy_with_logits(prediction, true, reduction="none")
    return (losses * weight).sum() / weight.sum()
