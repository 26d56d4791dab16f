import numpy as np
import pytest

from napari_almadet.pipeline import blobs
from napari_almadet.pipeline.blobs import normalise, stack


def test_stack_is_numpys_sum_whatever_the_block(cube_of, monkeypatch):
    data = np.random.default_rng(1).normal(size=(7, 5, 6)).astype(np.float32)
    for voxels in (1, 65, 10**6):
        monkeypatch.setattr(blobs, "BLOCK_VOXELS", voxels)
        np.testing.assert_allclose(stack(cube_of(data)), data.sum(axis=0, dtype=float), rtol=1e-5, atol=1e-6)


def test_stack_reads_the_cube_in_blocks_and_says_so(cube_of, monkeypatch):
    monkeypatch.setattr(blobs, "BLOCK_VOXELS", 2 * 30)
    progress = list(stack.steps(cube_of(np.zeros((7, 5, 6), np.float32))))
    assert [(p.done, p.total) for p in progress] == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_a_missing_channel_is_replaced_by_the_pixels_mean(cube_of):
    data = np.full((4, 2, 2), 3.0, np.float32)
    data[1, 0, 0] = np.nan
    data[:, 1, 1] = np.nan
    image = stack(cube_of(data))
    np.testing.assert_allclose(image, [[12, 12], [12, np.nan]])


@pytest.mark.parametrize("dtype", [np.float32, ">f4", np.int16, float])
def test_normalise_runs_from_0_to_1_in_each_image_and_keeps_the_order(dtype):
    images = np.random.default_rng(2).integers(-50, 90, size=(3, 8, 9)).astype(dtype)
    result = normalise(images)
    assert result.dtype == np.float32
    for image, scaled in zip(images, result, strict=True):
        assert (scaled.min(), scaled.max()) == (0, 1)
        assert np.corrcoef(image.ravel(), scaled.ravel())[0, 1] == pytest.approx(1)


def test_normalise_is_blind_to_scale_and_takes_missing_pixels_for_zero_flux():
    image = np.random.default_rng(3).normal(size=(6, 6))
    holed = image.copy()
    holed[2, 3] = np.nan
    filled = image.copy()
    filled[2, 3] = 0
    np.testing.assert_array_equal(normalise(holed), normalise(filled))
    np.testing.assert_allclose(normalise(image * 1e-9), normalise(image), atol=1e-6)


@pytest.mark.parametrize("value", [0, 5, np.nan])
def test_normalise_makes_a_constant_image_zeros(value):
    np.testing.assert_array_equal(normalise(np.full((2, 4, 4), value)), np.zeros((2, 4, 4)))
