"""Masks: smooth and clip from the detection outward, watershed between neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.measure.mask import (
    KERNELS,
    THRESHOLDS,
    WIDE_KERNELS,
    WIDEST_KERNELS,
    Contrast,
    brightest_voxel,
    connected_voxels,
    contrast,
    dilated,
    grown,
    split_by_watershed,
    take_extremes,
)
from napari_almadet.measure.noise import white


def test_a_mask_wider_by_pixels_and_channels():
    mask = np.zeros((7, 9, 9), bool)
    mask[3, 4, 4] = True
    assert dilated(mask, 1, 2).sum() == 5 * 3 * 3
    assert dilated(mask, 20, 0).sum() == 81
    known = np.ones_like(mask)
    known[:, :, 5] = False
    wider = grown(mask, np.zeros_like(mask), known, 1, 1)
    assert wider.sum() == 3 * 4  # a cross less the arm without data, in three channels


def test_a_mask_does_not_grow_into_others():
    mask, others = np.zeros((2, 3, 5, 5), bool)
    mask[1, 2, 2] = others[1, 2, 3] = True
    assert not (grown(mask, others, np.ones_like(mask), 2, 1) & others).any()


def test_a_watershed_parts_two_that_touch():
    x = np.arange(40)
    ridge = 20 * np.exp(-0.5 * ((x - 12) / 4) ** 2) + 15 * np.exp(-0.5 * ((x - 26) / 4) ** 2)
    image = np.zeros((3, 5, 40), np.float32)
    image[1, 2] = ridge
    seen = Contrast(image, -image, image)
    labels = split_by_watershed(seen, 4.0, [(1, 2, 12), (1, 2, 26)])[1, 2]
    border = int(np.flatnonzero(labels == 2)[0])
    assert border == pytest.approx(19, abs=1)
    assert (labels[labels > 0][:-1] <= labels[labels > 0][1:]).all()
    assert set(np.unique(split_by_watershed(seen, 4.0, [(1, 2, 12)]))) == {0, 1}


def test_parts_without_a_detection_are_left_out():
    image = np.zeros((3, 5, 40), np.float32)
    image[1, 2, 5] = image[1, 2, 30] = 10
    assert split_by_watershed(Contrast(image, -image, image), 4.0, [(1, 2, 5)]).sum() == 1


def test_noise_has_no_voxel_over_the_threshold_and_a_faint_line_has():
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((40, 48, 48)).astype(np.float32)
    known = np.ones(noise.shape, bool)
    y, x = np.indices((48, 48))
    source = np.exp(-4 * np.log(2) * ((x - 24) ** 2 + (y - 24) ** 2) / 4**2)
    line = np.exp(-0.5 * ((np.arange(40) - 20) / 3) ** 2)
    empty = contrast(noise, known, white(40), 4.0, 8, 1.0)
    assert np.count_nonzero(empty.highest > empty.threshold()) <= 30
    seen = contrast((noise + 2.5 * line[:, None, None] * source).astype(np.float32), known, white(40), 4.0, 8, 1.0)
    assert seen.highest[20, 24, 24] > 8


def test_extremes_are_the_highest_and_lowest_of_all_kernels_each_in_its_own_noise():
    planes, noise = np.random.default_rng(5).normal(size=(60, 40, 40)).astype(np.float32), white(60)
    planes[20:36, 10:30, 12:28] += 0.8
    planes[40:44, 5:15, 5:15] -= 3
    seen = contrast(planes, np.ones(planes.shape, bool), noise, 4.0, 40, 6.0)
    highest, lowest = np.zeros((2, *planes.shape))
    for fwhm, channels in KERNELS + WIDE_KERNELS + WIDEST_KERNELS:
        smooth = ndimage.gaussian_filter(planes, (0, *(4 * fwhm / 2.35482,) * 2), mode="constant", truncate=3)
        smooth = ndimage.uniform_filter1d(smooth, channels, axis=0, mode="constant")
        own = -np.median(smooth[smooth < 0]) / 0.67449
        smooth /= max(own, noise.smoothed(4 * fwhm, channels))
        highest, lowest = np.maximum(highest, smooth), np.minimum(lowest, smooth)
    assert np.count_nonzero(highest > 4.5) > 50
    np.testing.assert_allclose(seen.highest[highest > 4.5], highest[highest > 4.5], rtol=0.02)  # of a sampled median
    assert not seen.highest[highest < 3.9].any()
    found, expected = (np.sort(values[values < -4.5].ravel()) for values in (seen.lowest, lowest))
    assert len(expected) > 50
    assert abs(len(found) - len(expected)) < 0.1 * len(expected)  # those near the limit are of one or of both
    np.testing.assert_allclose(found[:50], expected[:50], rtol=0.02)


def test_the_threshold_rises_where_negative_voxels_are_as_many():
    image = np.zeros((4, 50, 50), np.float32)
    image[0], low = 5.5, np.zeros_like(image)
    assert Contrast(image, low, image).threshold() == 4.0
    low[1, :10] = -4.8
    assert Contrast(image, low, image).threshold() == 5.0


def test_the_brightest_voxel_is_looked_for_nearby_and_in_the_line():
    image = np.zeros((10, 20, 20), np.float32)
    image[4, 8, 9], image[8, 8, 8], image[4, 15, 15] = 3, 9, 9
    assert brightest_voxel(image, (8, 8), (3, 6), 2.5) == (4, 8, 9)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("seed", [3, 50])
def test_a_mask_is_whole_however_far_it_reaches_to_either_side(axis, seed):
    over = np.zeros((60, 60, 60), bool)
    line = [20, 20, 20]
    line[axis] = slice(1, 58)
    over[tuple(line)] = True
    start = [20, 20, 20]
    start[axis] = seed
    part, inside = connected_voxels(over, tuple(start))
    assert inside.sum() == 57
    assert over[part][inside].all()


def test_extremes_are_those_of_all_kernels_beyond_the_lowest_threshold():
    rng = np.random.default_rng(2)
    highest, lowest = np.zeros((2, 500), np.float32)
    seen, halves = rng.normal(0, 6, (3, 500)).astype(np.float32), (slice(0, 300), slice(300, 500))
    for unit, planes in zip((1.0, 1.5, 0.8), seen, strict=True):
        for part in halves:
            take_extremes(highest[part], lowest[part], planes[part], unit)
    sigma = seen / np.array([[1.0], [1.5], [0.8]], np.float32)
    np.testing.assert_allclose(highest, np.where(sigma > THRESHOLDS[0], sigma, 0).max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(lowest, np.where(sigma < -THRESHOLDS[0], sigma, 0).min(axis=0), rtol=1e-6)


@pytest.mark.parametrize("half", [1.0, 3.0])
def test_a_cutout_whose_memory_may_be_used_has_the_same_contrast(half):
    planes = np.random.default_rng(3).normal(size=(30, 40, 40)).astype(np.float32)
    known = np.ones(planes.shape, bool)
    apart = contrast(planes, known, white(30), 4.0, 12, half)
    given = planes.copy()
    inside = contrast(given, known, white(30), 4.0, 12, half, overwrite=True)
    for name in ("highest", "lowest", "reference"):
        np.testing.assert_array_equal(getattr(inside, name), getattr(apart, name))
    assert not np.array_equal(given, planes)  # it was used
