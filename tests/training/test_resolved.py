"""Galaxies and clouds of the fields, and what is said to be true of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.emission import Emission
from napari_almadet.training.resolved import (
    Resolved,
    dirty,
    draw_clouds,
    draw_filling,
    draw_galaxies,
    leaves,
    truth_of,
    with_continuum,
)

SIDE, CHANNELS = 96, 32
BEAM = CleanBeam(4.0, 4.0, 0.0)


def spot(y: float, x: float, sigma: float, height: float) -> np.ndarray:
    yy, xx = np.indices((SIDE, SIDE))
    return height * np.exp(-0.5 * ((yy - y) ** 2 + (xx - x) ** 2) / sigma**2)


def truth(one: Resolved, lost: float = 0.0):
    """What is true of an object whose image lacks a constant."""
    imaged = np.zeros((CHANNELS, SIDE, SIDE), np.float32)
    one.emission.seen_with(BEAM).add_to(imaged)
    return truth_of(one, BEAM, 1.0, imaged - np.float32(lost))


def test_a_galaxy_is_one_row_at_its_centre_with_its_whole_extent():
    line = np.exp(-0.5 * ((np.arange(CHANNELS) - 12) / 2) ** 2)
    cube = (line[:, None, None] * spot(40, 50, 5, 0.4)).astype(np.float32)
    known = truth(Resolved(Emission(cube, (0, 0, 0), "galaxy"), (40, 50)))
    beam = (4 / 2.3548) ** 2
    ((y, x, sigma_y, sigma_x, snr_stack, snr_line, channel, width),) = known.rows
    assert (y, x) == (40, 50)
    np.testing.assert_allclose((sigma_y, sigma_x), np.sqrt(25 + beam), rtol=0.02)
    peak = 0.4 * 2 * np.pi * beam * 25 / (25 + beam)
    assert snr_line == pytest.approx(peak * np.linalg.norm(line), rel=0.01)
    assert snr_stack == pytest.approx(peak * line.sum() / np.sqrt(CHANNELS), rel=0.01)
    assert channel == pytest.approx(12, abs=0.1)
    assert width == pytest.approx(2 * 2.3548, rel=0.02)
    # half the rms is passed where the spot has fallen by its peak over a half
    radius = np.sqrt(known.footprint.sum() / np.pi)
    assert radius == pytest.approx(np.sqrt(2 * (25 + beam) * np.log(peak / 0.5)), rel=0.03)
    assert not known.between.any()


def test_leaves_are_the_peaks_that_stand_out():
    image = spot(40, 30, 6, 20) + spot(40, 60, 6, 10) + spot(47, 33, 2, 1.5)
    whole = np.repeat(image[None] / np.sqrt(CHANNELS), CHANNELS, axis=0).astype(np.float32)
    rows, between = leaves(image, image, whole, BEAM, image > 0.5)
    np.testing.assert_allclose(rows[np.argsort(rows[:, 1]), :2], [(40, 30), (40, 60)], atol=1)
    np.testing.assert_allclose(rows[:, 2:4], 6, rtol=0.15)
    assert between[40, 45]
    assert not between[40, 30]


def test_faint_clouds_have_no_rows_and_no_extent():
    cube = np.repeat(spot(40, 50, 5, 0.005)[None], CHANNELS, axis=0).astype(np.float32)
    known = truth(Resolved(Emission(cube, (0, 0, 0), "cloud"), (40, 50)))
    assert not len(known.rows)
    assert not known.footprint.any()


def test_what_an_array_does_not_see_is_no_part_of_an_object():
    cube = np.repeat(spot(40, 50, 9, 0.2)[None], CHANNELS, axis=0).astype(np.float32)
    one = Resolved(Emission(cube, (0, 0, 0), "galaxy"), (40, 50))
    whole, filtered = truth(one), truth(one, lost=1.5)
    assert filtered.footprint.sum() < 0.7 * whole.footprint.sum()
    assert filtered.rows[0, 5] < whole.rows[0, 5]
    assert truth(one, lost=50.0) is None


def test_the_dirty_image_of_what_lies_outside_the_field_is_empty():
    outside = Emission(np.ones((4, 8, 8), np.float32), (CHANNELS, 0, 0), "galaxy")
    transfer = torch.ones(2 * SIDE, SIDE + 1)
    assert not dirty(outside, transfer, SIDE, CHANNELS).any()


def test_continuum_is_added_to_all_channels():
    cube = np.ones((4, 3, 3), np.float32)
    made = with_continuum(Emission(cube, (10, 5, 5), "galaxy"), CHANNELS, 0.5)
    assert made.cube.shape == (CHANNELS, 3, 3)
    np.testing.assert_allclose(
        made.cube[:, 1, 1],
        np.where((np.arange(CHANNELS) // 4 * 0) == 1, 0, 0.5) + np.isin(np.arange(CHANNELS), range(10, 14)),
    )


@pytest.mark.parametrize("draw", [draw_galaxies, draw_clouds, draw_filling])
def test_drawn_objects_have_snrs_that_networks_can_learn_from(draw):
    rng = np.random.default_rng(0)
    for _ in range(6):
        for one in draw(rng, BEAM, SIDE, CHANNELS):
            known = truth(one)
            if known is not None and len(known.rows):
                assert 3 < known.rows[:, 5].max() < 150
                assert known.footprint.any() == (known.rows[:, 5].max() >= 4)
