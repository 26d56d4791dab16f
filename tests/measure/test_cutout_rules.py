"""Rules that separate a source from its continuum and its neighbours, each on either side of its limit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import napari_almadet.measure.cutout as cutout_module
from napari_almadet.catalogue.candidate import Box
from napari_almadet.measure import cutout as cutouts
from napari_almadet.measure.cutout import (
    Cutout,
    Seed,
    Separated,
    continuum_of,
    few_filled,
    joined,
    level_of,
    line_free,
    separated,
)
from napari_almadet.measure.noise import white


def cutout_of(n_channels: int, side: int = 3) -> Cutout:
    planes = np.random.default_rng(1).normal(size=(n_channels, side, side)).astype(np.float32)
    return Cutout(planes, (0, 0), white(n_channels))


def seed(first: int, last: int, *others: tuple[float, float]) -> Seed:
    middle = ((first + last) / 2, float(last - first))
    return Seed(1, 1, 1, 1, (middle, *others), (first, last))


def free(n_channels: int, one: Seed) -> list[int]:
    return np.flatnonzero(line_free(cutout_of(n_channels), one)[:, 1, 1]).tolist()


# --- channels of continuum ---


def test_the_gap_between_a_line_and_its_continuum_is_three_tenths_of_the_line_and_one_channel():
    assert free(100, seed(40, 50)) == [*range(36), *range(54, 100)]


def test_other_lines_of_a_source_are_left_out_too():
    """A line of FWHM 10 at channel 80 covers 69 to 91, and its gap 7.6 channels more."""
    assert free(100, seed(10, 20, (80.0, 10.0))) == [*range(6), *range(24, 62), 99]


def test_a_source_without_a_line_has_continuum_everywhere():
    assert free(20, Seed(1, 1, 1, 1, (), (0, 20))) == list(range(20))


@pytest.mark.parametrize(
    ("n_channels", "line", "found"),
    [
        (20, (2, 10), range(14, 20)),  # six
        (20, (2, 11), [0, 1, *range(11, 20)]),  # of five, the channels next to the line as well
        (200, (0, 136), range(178, 200)),  # 11 %
        (200, (0, 139), range(139, 200)),  # of 9 %
    ],
)
def test_a_continuum_is_estimated_from_six_channels_and_a_tenth_of_the_band(n_channels, line, found):
    assert free(n_channels, seed(*line)) == list(found)


def test_where_emission_fills_most_channels_those_near_it_are_used():
    """Of three pixels: one with 20 free channels, one with 5 whose emission fills 12, one that it fills."""
    cutout = cutout_of(20, 2)
    rest, emission = np.ones((20, 2, 2), bool), np.zeros((20, 2, 2), bool)
    rest[5:, 0, 1], emission[8:, 0, 1] = False, True
    rest[:, 1, 0], emission[:, 1, 0] = False, True
    away = np.arange(20)[:, None, None] < 7
    away = np.broadcast_to(away, rest.shape)
    found = few_filled(cutout, rest, away, emission).sum(axis=0)
    assert found.tolist() == [[20, 8], [7, 20]]


@pytest.mark.parametrize(("channels", "estimated"), [(3, False), (4, True)])
def test_a_mean_of_four_channels_is_a_continuum(channels, estimated):
    cutout = cutout_of(20)
    rest = np.zeros(cutout.planes.shape, bool)
    rest[:channels] = True
    continuum, found = continuum_of(cutout, rest)
    assert found == estimated
    assert continuum == pytest.approx(
        cutout.planes[:channels].mean(axis=0) if estimated else np.zeros((3, 3)), abs=1e-6
    )


def test_a_continuum_is_the_same_mean_however_many_channels_are_looked_at_at_a_time(monkeypatch):
    rng = np.random.default_rng(4)
    planes = rng.normal(2.0, 1.0, (60, 5, 7)).astype(np.float32)
    rest = rng.random(planes.shape) < 0.7
    planes[10, 2, 3], rest[10, 2, 3] = 40.0, True  # is clipped
    cutout = Cutout(planes, (0, 0), white(60))
    whole, _ = continuum_of(cutout, rest)
    assert np.abs(whole - 2.0).max() < 0.7  # a mean of some 40
    monkeypatch.setattr(cutout_module, "BLOCK", 7 * 35)
    np.testing.assert_array_equal(continuum_of(cutout, rest)[0], whole)


# --- one object or two ---


@pytest.mark.parametrize(
    ("fainter", "between", "merged"),
    [
        (10.0, 5.5, True),
        (10.0, 4.5, False),  # half of the fainter peak
        (4.0, 1.3, True),  # which is 2: three sigma are more
        (4.0, 0.7, False),
        (-1.0, -3.0, True),  # no peak
    ],
)
def test_two_peaks_are_one_object_if_emission_between_them_does_not_fall_by_half_and_three_sigma(
    fainter, between, merged
):
    reference = np.full((1, 3, 9), -50.0)
    reference[0, 1] = [20, 20, 20, between, between, between, fainter, fainter, fainter]
    labels = np.where(np.arange(9) < 4, 1, 2) * np.ones((1, 3, 9), int)
    found, others = joined(labels, SimpleNamespace(reference=reference), [(0, 1, 1), (0, 1, 7)], 0)
    assert others == ((1,) if merged else ())
    assert (found[0, 1, 7] == 1) == merged


def test_pieces_of_an_object_are_one_whatever_lies_between():
    reference = np.where(np.arange(9) % 8, 0.0, 20.0) * np.ones((1, 3, 9))
    labels = np.where(np.arange(9) < 4, 1, 2) * np.ones((1, 3, 9), int)
    seen, voxels = SimpleNamespace(reference=reference), [(0, 1, 0), (0, 1, 8)]
    assert joined(labels, seen, voxels, 0, [False, False])[1] == ()
    assert joined(labels, seen, voxels, 0, [False, True])[1] == (1,)


def test_a_detection_without_emission_is_part_of_nothing():
    labels = np.where(np.arange(9) < 4, 1, 0) * np.ones((1, 3, 9), int)
    seen = SimpleNamespace(reference=np.full((1, 3, 9), 20.0))
    assert joined(labels, seen, [(0, 1, 1), (0, 1, 7)], 0, [False, True])[1] == ()


# --- parts of a cube ---


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((10, 20, 30, 45), True),
        ((9, 20, 30, 45), False),
        ((10, 21, 30, 45), False),
        ((10, 20, 29, 45), False),
        ((10, 20, 30, 46), False),
    ],
)
def test_a_box_lies_in_a_cutout_up_to_its_edges(box, inside):
    assert Cutout(np.ones((2, 10, 15), np.float32), (10, 30)).holds(Box(*box)) == inside


def uneven(side: int, channels: int = 40) -> tuple[Cutout, np.ndarray]:
    """Noise that doubles from the left to the right, which is known not to be uniform."""
    level = np.exp(np.log(2) * np.linspace(-0.5, 0.5, side)) * np.ones((side, 1))
    planes = np.random.default_rng(2).normal(size=(channels, side, side)) * level
    return Cutout(planes.astype(np.float32), (0, 0), replace(white(channels), uniform=False)), level


def test_the_level_of_the_noise_is_a_smooth_surface():
    cutout, level = uneven(24)
    assert level_of(cutout, 2.0) == pytest.approx(level, rel=0.12)
    assert (level_of(replace(cutout, noise=white(40)), 2.0) == 1).all()  # uniform


@pytest.mark.filterwarnings("error")
def test_far_from_the_data_of_a_masked_cube_the_level_is_none_that_the_data_do_not_have():
    """A quadratic surface of 17 pixels runs away over 120."""
    y, x = np.mgrid[:120, :120]
    level = np.exp(0.04 * np.hypot(x - 8, y - 8))
    planes = (np.random.default_rng(1).normal(size=(40, 120, 120)) * level).astype(np.float32)
    planes[:, (x > 16) | (y > 16)] = np.nan
    found = level_of(Cutout(planes, (0, 0), replace(white(40), uniform=False)), 2.0)
    assert found[:17, :17] == pytest.approx(level[:17, :17], rel=0.35)
    assert (found.min(), found.max()) == (found[:17, :17].min(), found[:17, :17].max())
    cutout = Cutout(planes, (0, 0), replace(white(40), rms=np.where(np.arange(40) < 4, np.nan, 1.0)), found)
    assert not np.isnan(cutout.sigma).any()  # of channels without data it is infinite


@pytest.mark.parametrize(("side", "channels"), [(10, 40), (24, 8)])
def test_the_level_of_a_few_pixels_or_channels_is_one_number(side, channels):
    """Of fewer than 200 pixels, or 8 differences of channels."""
    cutout, level = uneven(side, channels)
    found = level_of(cutout, 2.0)
    assert np.ptp(found) < 1e-6
    assert found[0, 0] == pytest.approx(np.median(level), rel=0.15)


def test_fewer_than_twenty_pixels_do_not_tell_the_level():
    cutout, _ = uneven(4)
    assert (level_of(replace(cutout, planes=3 * cutout.planes), 2.0) == 1).all()


def test_a_source_does_not_change_the_level_of_the_noise_about_it():
    """Its pixels are 1.5 in the logarithm away from the others."""
    cutout, level = uneven(24)
    planes = cutout.planes.copy()
    planes[:, 10:14, 10:14] *= 30
    assert level_of(replace(cutout, planes=planes), 2.0) == pytest.approx(level, rel=0.12)


@pytest.mark.parametrize("channels", [2, 3, 40])
def test_the_level_of_the_noise_is_that_of_channels_three_apart_or_neighbours_in_short_bands(channels):
    """Neighbours may share their noise: as here, where a channel is the mean of two, their difference is 0.7 of it."""
    noise = np.random.default_rng(3).normal(size=(channels + 1, 40, 40))
    shared = (noise[1:] + noise[:-1]) / np.sqrt(2) if channels > 3 else noise[1:]
    cutout = Cutout(shared.astype(np.float32), (0, 0), replace(white(channels), uniform=False))
    assert level_of(cutout, 2.0) == pytest.approx(np.ones((40, 40)), abs=0.12)


# --- a source, its neighbours and its continuum ---

FWHM = 4.0


def sky_of(*sources: tuple[float, float]) -> Cutout:
    """A cutout of lines of 40 sigma in channels 12 to 17 of 40 at some (y, x), in noise of 1."""
    y, x = np.indices((31, 31))
    planes = np.random.default_rng(5).normal(size=(40, 31, 31))
    for py, px in sources:
        planes[12:18] += 40 * np.exp(-4 * np.log(2) * ((y - py) ** 2 + (x - px) ** 2) / FWHM**2)
    return Cutout(planes.astype(np.float32), (0, 0), white(40), np.ones((31, 31), np.float32))


def one_at(y: float, x: float, **values) -> Seed:
    return Seed(x, y, **({"sigma_y": 1.7, "sigma_x": 1.7, "lines": ((14.5, 6.0),), "channels": (12, 18)} | values))


def parts_of(*seeds: Seed, merge: bool = False, sources=((15, 12), (15, 18))) -> Separated:
    return separated(sky_of(*sources), seeds, 0, FWHM, merge)


@pytest.mark.parametrize("merge", [False, True])
def test_touching_detections_are_one_source_only_if_they_may_be_merged(merge):
    parts = parts_of(one_at(15, 13), one_at(15, 17), merge=merge, sources=((15, 13), (15, 17)))
    assert parts.merged == ((1,) if merge else ())
    assert parts.mask[14, 15, 17] == merge
    assert parts.others[14, 15, 17] != merge


def test_a_detection_without_emission_takes_no_piece_of_another():
    nothing = one_at(4, 4)
    parts = parts_of(nothing, one_at(15, 18, piece=True), merge=True)
    assert parts.merged == ()
    assert not parts.mask.any()


@pytest.mark.parametrize("compact", [True, False])
def test_the_channels_of_a_compact_sources_line_are_no_continuum_anywhere(compact):
    """Those of a patch are, where it has no emission: it may move through the band."""
    rest = parts_of(one_at(15, 15, compact=compact), sources=((15, 15),)).rest
    assert rest[14, 3, 3] != compact
    assert not rest[14, 15, 15]
    assert rest[30, 3, 3]


@pytest.mark.parametrize(
    ("seeds", "times"),
    [
        ([one_at(15, 15)], 2),
        ([one_at(15, 15), one_at(15, 25)], 3),
        ([one_at(15, 15, sigma_x=6.0, sigma_y=6.0)], 4),
        ([one_at(3, 3), one_at(15, 15)], 2),  # without emission there is nothing to repeat it for
    ],
)
def test_mask_and_continuum_are_found_again_for_neighbours_and_twice_for_extended_sources(monkeypatch, seeds, times):
    """Each mask tells which voxels are continuum; and once more in the end."""
    asked = []
    original = cutouts.continuum_of
    monkeypatch.setattr(cutouts, "continuum_of", lambda *given: asked.append(1) or original(*given))
    parts_of(*seeds, sources=((15, 15),))
    assert len(asked) == times
