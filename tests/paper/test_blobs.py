import numpy as np
import pytest

from napari_almadet.catalogue.candidate import Box
from napari_almadet.measure import stacking
from napari_almadet.measure.stacking import at_edge, stack
from napari_almadet.paper.blobs import find_blobs, normalise, normalised_windows, probability_map


def test_stack_is_numpys_sum_whatever_the_block(cube_of, monkeypatch):
    data = np.random.default_rng(1).normal(size=(7, 5, 6)).astype(np.float32)
    for voxels in (1, 65, 10**6):
        monkeypatch.setattr(stacking, "BLOCK_VOXELS", voxels)
        np.testing.assert_allclose(stack(cube_of(data)), data.sum(axis=0, dtype=float), rtol=1e-5, atol=1e-6)


def test_stack_reads_the_cube_in_blocks_and_says_so(cube_of, monkeypatch):
    monkeypatch.setattr(stacking, "BLOCK_VOXELS", 2 * 30)
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


@pytest.mark.parametrize("shape", [(256, 256), (360, 360), (700, 300), (100, 600), (40, 30)])
def test_an_identity_network_gives_back_a_field_of_any_size_without_a_seam(shape):
    y, x = np.indices(shape)
    # periods of 16 px that every window holds whole, so that all windows are normalised alike
    field = np.sin(2 * np.pi * y / 16) * np.sin(2 * np.pi * x / 16)
    windows, corners = normalised_windows(field, 256, 64)
    assert windows.min() >= 0 and windows.max() <= 1
    result = probability_map(windows, corners, shape, 64, lambda batch: batch, batch_size=3)
    np.testing.assert_allclose(result, (field + 1) / 2, atol=1e-5)


def test_probability_map_goes_in_batches():
    windows = np.zeros((7, 64, 64), np.float32)
    sizes = []
    corners = [(0, 48 * i) for i in range(7)]
    steps = probability_map.steps(windows, corners, (64, 352), 16, lambda b: (sizes.append(len(b)), b)[1], batch_size=3)
    assert [step.done for step in steps] == [3, 6, 7]
    assert sizes == [3, 3, 1]


def test_blobs_are_boxed_half_open_with_their_highest_probability():
    probability = np.zeros((20, 30), np.float32)
    probability[3:6, 4:9] = 0.5
    probability[4, 5] = 0.9
    probability[6, 9] = 0.1  # touches by a corner, and a pixel at the threshold counts
    probability[15, 20] = 0.09
    (candidate,) = find_blobs(probability, np.float32(0.1))
    assert candidate.box == Box(3, 7, 4, 10)
    assert candidate.prob == pytest.approx(0.9)
    assert not candidate.edge
    assert candidate.reasons == ["found: a blob of 16 px, probability up to 0.90"]


def two_summits(apart):
    y, x = np.indices((60, 80))
    return np.maximum(*(np.exp(-((y - 30) ** 2 + (x - c) ** 2) / (2 * 5**2)) for c in (40 - apart / 2, 40 + apart / 2)))


def test_touching_blobs_are_parted_at_their_saddle():
    """Two Gaussians 16 px apart meet at 0.28 in the middle column: one blob of the threshold, two of the summits."""
    left, right = find_blobs(two_summits(16), 0.1)
    assert left.box.x1 == pytest.approx(40, abs=1)
    assert right.box.x0 == pytest.approx(40, abs=1)
    assert {round(c.box.centre[0]) for c in (left, right)} == {30}
    assert left.prob == right.prob == pytest.approx(1)


def test_a_shallow_saddle_does_not_part_a_blob():
    assert len(find_blobs(two_summits(4), 0.1)) == 1


@pytest.mark.parametrize(("snr", "number"), [(40.0, 2), (5.0, 1)])
def test_a_blob_is_parted_at_a_saddle_of_the_dirty_image_that_the_noise_does_not_make(snr, number):
    """Two Gaussians 16 px apart, in a map that shows one blob: their saddle is 0.72 of the peaks deep."""
    probability = np.zeros((60, 80), np.float32)
    probability[20:40, 20:60] = 0.5
    image = snr * two_summits(16) + np.random.default_rng(1).standard_normal((60, 80))
    image[:, :5] = np.nan
    candidates = find_blobs(probability, 0.1, image)
    assert len(candidates) == number
    assert (candidates[0].box.x0, candidates[-1].box.x1) == (20, 60)
    if number == 2:
        assert abs(candidates[0].box.x1 - 40) <= 2
        assert candidates[0].decisions[0].values["pixels"] + candidates[1].decisions[0].values["pixels"] == 20 * 40


def test_parts_of_one_blob_do_not_become_parts_of_another():
    """Touching blobs of the map are divided each by itself: a summit of the image belongs to the blob it is in."""
    probability = np.zeros((60, 80), np.float32)
    probability[20:40, 10:70] = two_summits(40)[20:40, 10:70] + 0.11
    both = find_blobs(probability, 0.1, np.zeros((60, 80)))
    assert [c.box.x0 for c in both] == [10, both[0].box.x1]
    image = 40 * two_summits(16) + np.random.default_rng(1).standard_normal((60, 80))
    four = find_blobs(probability, 0.1, image)
    assert {c.box.x0 for c in both} <= {c.box.x0 for c in four}


def test_a_blob_that_hardly_rises_above_the_threshold_is_one():
    low = 0.08 + 0.04 * two_summits(16)
    (candidate,) = find_blobs(low, 0.085)
    assert candidate.prob == pytest.approx(0.12)


def test_ids_are_unique_and_an_empty_map_holds_nothing():
    probability = np.zeros((50, 50), np.float32)
    assert find_blobs(probability, 0.1) == []
    assert find_blobs(np.full((5, 5), np.nan), 0.1) == []
    probability[5::10, 5::10] = 1
    assert [c.id for c in find_blobs(probability, 0.1)] == list(range(1, 26))


@pytest.mark.parametrize(
    ("box", "edge"),
    [
        (Box(1, 3, 1, 3), False),
        (Box(0, 3, 5, 7), True),
        (Box(5, 20, 5, 7), True),
        (Box(5, 7, 27, 30), True),
        (Box(8, 10, 8, 10), True),  # beside the missing pixel (10, 10), by its corner
        (Box(7, 9, 7, 9), False),
    ],
)
def test_edge_is_the_border_or_missing_data_next_to_the_box(box, edge):
    image = np.zeros((20, 30))
    image[10, 10] = np.nan
    assert at_edge(box, image) is edge
