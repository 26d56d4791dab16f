import itertools

import numpy as np
import pytest

from napari_almadet.measure.tiling import blend, corners, cut, taper, window_starts


@pytest.mark.parametrize("length", [1, 63, 64, 65, 100, 127, 128, 1000])
@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_windows_cover_the_axis_and_overlap_enough(length, overlap):
    starts = window_starts(length, 64, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        covered[max(start, 0) : start + 64] += 1
    assert covered.min() >= 1
    assert all(b - a <= 64 - overlap for a, b in itertools.pairwise(starts))
    if length > 64:
        assert starts[0] == 0 and starts[-1] + 64 == length
        assert len(starts) == np.ceil((length - overlap) / (64 - overlap))  # not one more than needed
    else:
        assert len(starts) == 1


@pytest.mark.parametrize("overlap", [-1, 64])
def test_an_overlap_that_never_gets_on_is_refused(overlap):
    with pytest.raises(ValueError, match="choose an overlap from 0 to 63"):
        window_starts(100, 64, overlap)


@pytest.mark.parametrize("shape", [(40, 50), (64, 64), (150, 90), (64, 300), (30, 200)])
@pytest.mark.parametrize("overlap", [0, 16])
def test_what_is_cut_and_blended_unchanged_is_the_image(shape, overlap):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    where = corners(shape, 64, overlap)
    pieces = np.stack([cut(image, corner, 64) for corner in where])
    assert pieces.shape == (len(where), 64, 64)
    np.testing.assert_allclose(blend(pieces, where, shape, overlap), image, rtol=1e-6)


def test_spectra_go_the_same_way_many_at_a_time():
    spectra = np.random.default_rng(2).normal(size=(3, 500)).astype(np.float32)
    where = corners((500,), 128, 64)
    pieces = np.stack([cut(spectra, corner, 128) for corner in where])
    assert pieces.shape == (len(where), 3, 128)
    np.testing.assert_allclose(blend(pieces, where, (500,), 64), spectra, rtol=1e-6)


def test_a_small_image_is_padded_with_nan_all_round():
    piece = cut(np.ones((10, 20)), *corners((10, 20), 64, 8), 64)
    assert np.isnan(piece).sum() == 64 * 64 - 200
    assert np.nanmin(piece[27:37, 22:42]) == 1


def test_windows_that_disagree_meet_without_a_seam():
    where = corners((1, 400), 256, 64)
    levels = np.arange(len(where), dtype=float)
    result = blend(np.ones((len(where), 256, 256)) * levels[:, None, None], where, (1, 400), 64)[0]
    # a straight ramp over the overlap would step by 1/64; sin² is steeper by pi/2 in its middle, and never more
    assert np.abs(np.diff(result)).max() < np.pi / 2 / 64 * 1.05
    assert (result[0], result[-1]) == (0, len(where) - 1)


def test_taper_is_symmetric_positive_and_flat_inside():
    weight = taper(256, 64)
    np.testing.assert_array_equal(weight, weight[::-1])
    assert weight.min() > 0
    np.testing.assert_allclose(weight[64:192], 1)
