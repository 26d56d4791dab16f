import numpy as np
import pytest
from astropy.stats import mad_std
from scipy import ndimage

from napari_almadet.measure import planes
from napari_almadet.measure.mask import Contrast, connected_voxels, grown, smoothed, split_by_watershed


@pytest.fixture
def noise():
    return np.random.default_rng(1).normal(size=(40, 33, 21)).astype(np.float32)


def test_trues_are_counted_beyond_what_a_byte_holds(noise):
    mask = np.repeat(noise > 0.3, 15, axis=0)
    np.testing.assert_array_equal(planes.counted(mask), mask.sum(axis=0))


def test_the_median_is_numpys_of_what_is_in_the_mask_and_zero_without(noise):
    mask = np.random.default_rng(2).random(noise.shape) < 0.4
    mask[:, 0, 0] = False
    mask[1:, 1, 1], mask[0, 1, 1] = False, True
    seen = planes.median_where(noise, mask)
    assert seen[0, 0] == 0
    assert seen[1, 1] == noise[0, 1, 1]
    expected = [np.median(noise[:, y, x][mask[:, y, x]]) for y in range(2, 33) for x in range(21)]
    np.testing.assert_allclose(seen[2:].ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(planes.median_where(noise, np.ones_like(mask)), np.median(noise, axis=0), rtol=1e-6)


@pytest.mark.parametrize("side", [planes.BAND_SIDE, 10])
def test_blurred_planes_are_those_of_scipys_filter_whichever_way_they_are_made(noise, monkeypatch, side):
    monkeypatch.setattr(planes, "BAND_SIDE", side)
    for sigma in (0.8, 3.5, 20.0):
        expected = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="constant", truncate=planes.TRUNCATE)
        np.testing.assert_allclose(planes.blurred(noise, sigma), expected, atol=1e-6)
        given = noise.copy()
        np.testing.assert_array_equal(planes.blurred(given, sigma, overwrite=True), planes.blurred(noise, sigma))


@pytest.mark.parametrize("block", [planes.BLOCK, 3 * 33 * 21])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 9, 15, 60])
def test_sums_over_channels_are_those_of_scipys_filter(noise, monkeypatch, channels, block):
    monkeypatch.setattr(planes, "BLOCK", block)
    expected = channels * ndimage.uniform_filter1d(noise, channels, axis=0, mode="constant")
    np.testing.assert_allclose(planes.channel_sums(noise, channels), expected, atol=1e-5)


@pytest.mark.parametrize("most", [10**6, 700])
def test_a_sample_of_negative_values_is_every_so_many_of_them_in_whatever_blocks(noise, monkeypatch, most):
    monkeypatch.setattr(planes, "BLOCK", 1000)
    known = np.random.default_rng(3).random(noise.size) < 0.6
    below = noise.ravel()[(noise.ravel() < 0) & known]
    picked, count = planes.some_negatives(noise.ravel(), known, most)
    assert count == len(below)
    np.testing.assert_array_equal(picked, below[:: max(1, len(below) // most)])
    np.testing.assert_array_equal(planes.some_negatives(abs(noise).ravel(), None, most)[0], [])


def test_what_hangs_together_is_found_however_far_it_reaches():
    over = np.zeros((60, 70, 50), bool)
    over[5:55, 30, 20] = over[30, 4:66, 21] = True  # a cross of which the arms touch by their edges
    over[10, 10, 10] = over[59, 69, 49] = True
    part, inside = connected_voxels(over, (30, 30, 20))
    found = np.zeros_like(over)
    found[part] = inside
    labels = ndimage.label(over, np.ones((3, 3, 3)))[0]
    np.testing.assert_array_equal(found, labels == labels[30, 30, 20])


def test_detections_in_one_emission_share_it_and_one_beside_it_has_its_own():
    z, y, x = np.indices((12, 40, 60))
    blob = [np.exp(-((z - 6) ** 2 + (y - 20) ** 2 + (x - at) ** 2) / 30) for at in (12, 22, 50)]
    image = (10 * sum(blob)).astype(np.float32)
    seen = Contrast(np.where(image > 4, image, 0), np.zeros_like(image), image)
    labels = split_by_watershed(seen, 4.0, [(6, 20, 12), (6, 20, 22), (6, 20, 50), (0, 0, 0)])
    assert [labels[6, 20, at] for at in (12, 22, 50)] == [1, 2, 3]
    np.testing.assert_array_equal(labels > 0, image > 4)
    assert np.count_nonzero(labels == 1) == pytest.approx(np.count_nonzero(labels == 2), rel=0.2)


def test_robust_deviations_are_astropys_whatever_is_missing(noise):
    rows = noise.reshape(40, -1).copy()
    rows[3, ::2], rows[5], rows[7, 0] = np.nan, np.nan, np.inf
    finite = np.where(np.isfinite(rows), rows, np.nan)
    seen = planes.robust_std(rows)
    assert np.isnan(seen[5])
    known = np.arange(40) != 5
    expected = [mad_std(row, ignore_nan=True) for row in finite[known]]
    np.testing.assert_allclose(seen[known], expected, rtol=1e-6)
    np.testing.assert_allclose(planes.robust_std(rows[0]), mad_std(rows[0]), rtol=1e-6)
    np.testing.assert_array_equal(planes.medians(rows[8:12, :7]), np.median(rows[8:12, :7], axis=1))


def test_bounds_hold_all_of_a_mask_and_no_more():
    mask = np.zeros((5, 6, 7), bool)
    assert planes.bounds(mask) == (slice(0, 0),) * 3
    mask[1, 2, 6] = mask[3, 4, 0] = True
    assert planes.bounds(mask) == (slice(1, 4), slice(2, 5), slice(0, 7))


def test_a_mask_grows_within_what_is_free_as_it_does_in_the_whole_field():
    own, others = np.zeros((2, 9, 20, 20), bool)
    own[0, 0, 0] = own[4, 10, 10] = others[4, 10, 12] = True
    known = np.ones_like(own)
    known[:, 12] = False
    small = grown(own, others, known, 2, 1)
    expected = [
        (z, y, x) for z in (3, 4, 5) for y in range(8, 12) for x in range(8, 13) if abs(y - 10) + abs(x - 10) < 3
    ]
    assert all(small[place] for place in expected if place != (4, 10, 12))
    assert not small[4, 10, 12]
    assert not small[:, 12].any()
    assert np.count_nonzero(small[:, :5, :5]) == 2 * 6  # a quarter of the disc of two steps, in two channels


def test_the_median_of_many_values_is_numpys_also_where_most_are_alike():
    rng = np.random.default_rng(8)
    values = np.abs(rng.normal(size=250_001)).astype(np.float32)
    one_sided = np.concatenate([np.zeros(150_000, np.float32), values])
    for some in (values, values[:-1], np.sort(values), values.round(), np.zeros(200_000), values[:70], one_sided):
        before = some.copy()
        low, high = planes.middle_two(some)
        assert (low, high) == tuple(np.sort(some)[[(len(some) - 1) // 2, len(some) // 2]])
        assert planes.medians(some) == np.median(some)
        for which in (0, 0.3, 15.87, 99, 100):
            assert planes.percentile(some, which) == pytest.approx(np.percentile(some, which), rel=1e-6, abs=1e-12)
        np.testing.assert_array_equal(some, before)


@pytest.mark.parametrize("high", [True, False])
def test_the_median_of_many_values_is_numpys_also_where_a_sample_of_them_misleads(monkeypatch, high):
    """Every twentieth value, of which the sample consists, is higher than all others, or lower."""
    monkeypatch.setattr(planes, "MANY", 1000)
    monkeypatch.setattr(planes, "SAMPLE", 100)
    values = np.random.default_rng(1).random(2000)
    values[::20] += 10 if high else -10
    assert planes.medians(values) == np.median(values)
    assert planes.medians(values[:-1]) == np.median(values[:-1])


def test_the_middle_of_an_odd_number_of_values_is_one_of_them():
    assert planes.middle_two(np.array([9.0, 1.0, 2.0])) == (2.0, 2.0)


def test_medians_of_many_rows_are_each_of_its_own(noise, monkeypatch):
    monkeypatch.setattr(planes, "MANY", 20)
    np.testing.assert_allclose(planes.medians(noise[0]), np.median(noise[0], axis=-1))


def test_the_sum_over_one_channel_is_no_copy(noise):
    noise.flags.writeable = False
    assert planes.channel_sums(noise, 1) is noise
    assert smoothed(noise, 0.0, 1) is noise
