"""Objects as cubes of their own, against analytic Gaussians and sums."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.emission import Emission, beam_between, beam_covariance, deposit, line_widths

BEAM = CleanBeam(9.0, 6.0, 30.0)


def point(channels: int = 3) -> Emission:
    cube = np.zeros((channels, 5, 7), np.float32)
    cube[1, 2, 3] = 2.0
    return Emission(cube, (4, 20, 30), "galaxy")


def test_a_point_becomes_the_clean_beam():
    field = np.zeros((10, 48, 64), np.float32)
    point().seen_with(BEAM).add_to(field)
    offset = np.stack(np.meshgrid(np.arange(64) - 33, np.arange(48) - 22), axis=-1)
    inverse = np.linalg.inv(beam_covariance(BEAM))
    expected = 2 * np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", offset, inverse, offset))
    # it ends 2 FWHM from what it belongs to, where a Gaussian has fallen to 2e-5
    np.testing.assert_allclose(field[5], expected, atol=1e-4)
    assert not field[[4, 6]].any()


def test_what_lies_outside_of_the_field_is_lost_and_nothing_else():
    emission = Emission(np.ones((4, 6, 8), np.float32), (-2, -3, 60), "cloud")
    field = np.zeros((10, 48, 64), np.float32)
    emission.add_to(field)
    assert field.sum() == 2 * 3 * 4
    assert field[:2, :3, 60:].all()
    emission = Emission(np.ones((4, 6, 8), np.float32), (0, 100, 0), "cloud")
    assert emission.within((10, 48, 64)).cube.size == 0


def test_points_are_shared_among_the_voxels_about_them():
    cube = deposit((np.array([1.25]), np.array([2.0]), np.array([3.5])), np.array([8.0]), (4, 5, 6))
    assert cube.sum() == 8
    np.testing.assert_allclose(cube[1, 2, 3:5], [3, 3])
    np.testing.assert_allclose(cube[2, 2, 3:5], [1, 1])
    outside = deposit((np.array([-3.0]), np.array([2.0]), np.array([3.5])), np.array([8.0]), (4, 5, 6))
    assert not outside.any()


def test_one_beam_becomes_another_by_the_beam_between():
    wider = CleanBeam(14.0, 11.0, 100.0)
    between = beam_between(BEAM, wider)
    np.testing.assert_allclose(beam_covariance(BEAM) + beam_covariance(between), beam_covariance(wider))
    assert beam_between(wider, BEAM) is None
    assert beam_between(BEAM, CleanBeam(8.0, 8.0, 0.0)) is None  # narrower along the major axis


def test_mixed_channels_are_the_weighted_sums():
    mixing = np.zeros((5, 10))
    mixing[2, 4:8] = 0.25
    mixed = point().mixed(mixing)
    assert mixed.origin == (2, 20, 30)
    assert mixed.cube.shape == (1, 5, 7)
    assert mixed.cube[0, 2, 3] == pytest.approx(0.5)
    assert point().mixed(np.eye(5, 10) * 0).cube.size == 0


def test_widths_are_those_of_a_gaussian():
    channel = np.arange(200)
    w20, w50 = line_widths(np.exp(-4 * np.log(2) * ((channel - 90.3) / 30) ** 2))
    assert w50 == pytest.approx(30, rel=2e-3)
    assert w20 == pytest.approx(30 * np.sqrt(np.log2(5)), rel=2e-3)
    assert line_widths(-np.exp(-4 * np.log(2) * ((channel - 90.3) / 30) ** 2))[1] == pytest.approx(30, rel=2e-3)
    assert line_widths(np.zeros(8)) == (0, 0)
