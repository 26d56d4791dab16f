"""Matching and rates against hand-made cases and published intervals."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.evaluation.matching import Rate, box_iou, match, range_iou


def test_nothing_is_claimed_twice():
    truth = np.array([[10.0, 10.0], [12.0, 10.0]])
    assert len(match(truth, np.array([[11.0, 10.0]]))) == 1
    assert len(match(truth[:1], np.array([[10.0, 10.0], [10.5, 10.0]]))) == 1


def test_as_many_pairs_as_possible_rather_than_the_closest():
    """The middle candidate is nearest to both, but one of them has another within reach."""
    truth, found = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 0.0], [4.9, 0.0]])
    assert {tuple(p) for p in match(truth, found)} == {(0, 0), (1, 1)}


def test_radius_is_three_pixels_inclusive():
    assert len(match(np.zeros((1, 2)), np.array([[3.0, 0.0]]))) == 1
    assert len(match(np.zeros((1, 2)), np.array([[3.01, 0.0]]))) == 0


def test_forbidden_pairs_do_not_count():
    assert len(match(np.zeros((1, 2)), np.zeros((1, 2)), np.array([[False]]))) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(n, m):
    assert match(np.zeros((n, 2)), np.zeros((m, 2))).shape == (0, 2)


def test_order_does_not_matter():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 30, (12, 2))
    found = truth + rng.normal(0, 1.5, truth.shape)
    shuffled = rng.permutation(12)
    ours = {(i, shuffled[j]) for i, j in match(truth, found[shuffled])}
    assert ours == {tuple(p) for p in match(truth, found)}


def test_rate_has_the_wilson_interval():
    """Newcombe (1998), table I: 81 of 263 and 15 of 148."""
    assert Rate(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert Rate(15, 148).interval == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert np.isnan(Rate(0, 0).value)


def test_overlaps():
    boxes = box_iou([[0, 10, 0, 10], [0, 4, 0, 4]], [[5, 15, 0, 10], [4, 8, 4, 8], [0, 4, 0, 4]])
    np.testing.assert_allclose(boxes, [[50 / 150, 16 / 100, 16 / 100], [0, 0, 1]])
    np.testing.assert_allclose(range_iou([[0, 10]], [[5, 15], [10, 15], [0, 10], [-1, -1]]), [[1 / 3, 0, 1, 0]])
    assert box_iou(np.zeros((0, 4)), [[0, 1, 0, 1]]).shape == (0, 1)
