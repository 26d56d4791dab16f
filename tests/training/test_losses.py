"""The losses against scikit-image and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from napari_almadet.training.losses import dssim, image_loss


def images(seed):
    return torch.rand(2, 1, 48, 64, generator=torch.Generator().manual_seed(seed))


def test_dssim_agrees_with_scikit_image():
    first = images(0)
    second = (0.7 * first + 0.3 * images(1)).clamp(0, 1)
    expected = []
    for a, b in zip(first.numpy(), second.numpy(), strict=True):
        _, similarity = structural_similarity(
            a[0], b[0], data_range=1, win_size=3, use_sample_covariance=False, full=True
        )
        expected.append(similarity[1:-1, 1:-1].mean())  # where the window is inside the image
    assert dssim(first, second).item() == pytest.approx((1 - np.mean(expected)) / 2, abs=1e-4)


def test_equal_images_cost_nothing_and_opposite_ones_much():
    image = images(2)
    assert image_loss(image, image).item() == pytest.approx(0, abs=1e-6)
    assert image_loss(image, 1 - image) > image_loss(image, image.roll(1, -1)) * 0.5 > 0


def test_image_loss_is_l1_plus_dssim():
    first, second = images(3), images(4)
    expected = (first - second).abs().mean() + dssim(first, second)
    assert image_loss(first, second).item() == pytest.approx(expected.item())
