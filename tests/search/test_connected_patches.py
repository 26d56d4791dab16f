"""Pieces of one object: which patches are joined, and what becomes of their candidates."""

from __future__ import annotations

import numpy as np
import pytest
from cases import searched_window, whole_window

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, SourceMask, Status
from napari_almadet.measure.cutout import joined
from napari_almadet.measure.focus import Cutout
from napari_almadet.measure.mask import Contrast
from napari_almadet.search.connected_patches import connected, join_pieces, object_numbers
from napari_almadet.search.extended_emission import (
    merge_extended,
    part_by_lines,
    place_of,
    resolved,
    separated_by_lines,
    without_jumps,
)
from napari_almadet.search.measure_detections import join_small_patches, mark_blends, reach_of
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.raw_detection import Extent, Features, RawDetection
from napari_almadet.search.windows import Window

CHANNELS, SIDE, BEAM = 32, 60, 4.0
WINDOW = whole_window(SIDE)
LEFT, RIGHT, BETWEEN = ((slice(20, 40), slice(*x)) for x in ((5, 20), (40, 55), (20, 40)))
EXTENT = Extent(**({name: 1.0 for name in Extent.__dataclass_fields__ if name != "place"} | {"beams": 4.0}))


def seen(image: np.ndarray, channel: np.ndarray | float = 10.0, width: float = 4.0) -> SearchedWindow:
    """A window of no noise whose line has such S/N (ny, nx) at such a channel in each place."""
    at = np.arange(CHANNELS)[:, None, None] - np.broadcast_to(channel, image.shape)
    line = np.exp(-4 * np.log(2) * (at / width) ** 2)
    cube = image * line / np.sqrt((line**2).sum(axis=0))
    return searched_window(cube, BEAM, line=image, channel=channel, width=width)


def two_patches(left: float, right: float, between: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """An image of two patches of such S/N and what is between them, and their masks."""
    image = np.zeros((SIDE, SIDE), np.float32)
    image[LEFT], image[RIGHT], image[BETWEEN] = left, right, between
    masks = np.zeros((2, SIDE, SIDE), bool)
    masks[0][LEFT], masks[1][RIGHT] = True, True
    return image, list(masks)


@pytest.mark.parametrize(
    ("left", "right", "between", "objects"),
    [
        (12, 7, 3, 1),  # a cloud, fainter on the way
        (12, 7, 2, 2),  # the way could be noise
        (12, 11, 3, 2),  # both are bright: two galaxies whose outskirts touch
        (12, 11, 4, 1),
    ],
)
def test_patches_are_one_object_if_the_line_is_seen_all_the_way_and_neither_is_much_brighter(
    left, right, between, objects
):
    image, masks = two_patches(left, right, between)
    assert len(set(object_numbers(masks, [0, 1], seen(image)))) == objects


def test_patches_in_other_channels_are_two_objects():
    image, masks = two_patches(7, 7, 4)
    channel = np.full(image.shape, 10.0)
    channel[:, 30:] = 22
    assert len(set(object_numbers(masks, [0, 1], seen(image, channel)))) == 2


def test_galaxies_that_were_separated_by_their_lines_are_not_joined_again():
    image, masks = two_patches(12, 7, 6)
    assert len(set(object_numbers(masks, [0, 1], seen(image)))) == 1
    assert len(set(object_numbers(masks, [0, 0], seen(image)))) == 2


def test_no_patch_and_one_patch_are_no_pieces():
    image, masks = two_patches(12, 7, 6)
    assert object_numbers([], [], seen(image)) == []
    assert object_numbers(masks[:1], [0], seen(image)) == [0]


def split_patch(second: slice, between: float) -> tuple[np.ndarray, SearchedWindow]:
    """A patch of 15 S/N at channel 8, whose columns ``second`` have their line at channel 18 instead.

    In the columns on either side of where the line jumps, voxels are ``between`` bright from one channel to the other.
    """
    image = np.zeros((SIDE, SIDE), np.float32)
    image[20:40, 10:50] = 15
    channel = np.full(image.shape, 8.0)
    channel[20:40, second] = 18
    about = seen(image, channel)
    for edge in (second.start, second.stop):
        about.units.cube[8:19, 20:40, edge - 2 : edge + 2] += between
    return image > 0, about


@pytest.mark.parametrize(("between", "parts"), [(6.0, 1), (0.5, 2)])
def test_horns_of_one_galaxy_are_one_object_and_galaxies_on_top_of_each_other_are_two(between, parts):
    patch, about = split_patch(slice(30, 50), between)
    found = separated_by_lines(patch, about)
    assert len(found) == parts
    assert (np.sum(found, axis=0) == patch).all()


def test_a_small_galaxy_in_front_of_a_large_one_is_an_object_of_its_own():
    patch, about = split_patch(slice(46, 50), 0.0)  # 4.4 beams
    assert sorted(part.sum() for part in separated_by_lines(patch, about)) == [80, 720]


@pytest.mark.parametrize(("between", "rows"), [(6.0, 1), (0.5, 2)])
def test_clumps_of_one_galaxy_are_one_row_though_each_is_certain(between, rows):
    _, about = split_patch(slice(30, 50), between)
    clumps = [detection(number, x, 0) for number, x in ((1, 20), (2, 40))]
    for clump in clumps:
        clump.features = Features(snr_line=15, beam=BEAM, detection_logit=2.0)
    assert len(merge_extended(clumps, about, WINDOW)) == rows


def detection(number: int, x: float, piece_of: int, **values) -> RawDetection:
    """A detection on a patch."""
    own = {"prob": 0.8, "status": Status.KEPT, "beams": 4.0, "box": None} | values
    extent = EXTENT.__class__(**(EXTENT.__dict__ | {"beams": own["beams"]}))
    candidate = Candidate(number, Box(0, 1, 0, 1), own["prob"], status=own["status"])
    features = Features(snr_line=9, beam=BEAM)
    made = RawDetection(candidate, 30, x, 3.4, 3.4, np.zeros(CHANNELS), features, WINDOW, own["box"], extent)
    made.piece_of = piece_of
    return made


def test_the_largest_piece_is_the_object_and_as_probable_as_the_likeliest():
    small, large = detection(1, 10, 1, prob=0.9), detection(2, 40, 1, prob=0.8, beams=30.0, box=Box(20, 40, 30, 50))
    alone, dropped = detection(3, 50, 0), detection(4, 20, 1, status=Status.DROPPED, prob=0.1)
    join_pieces([small, large, alone, dropped])
    assert [f.candidate.status for f in (small, large, alone)] == [Status.DROPPED, Status.KEPT, Status.KEPT]
    assert [f.candidate.parent for f in (small, large, alone, dropped)] == [2, 0, 0, 0]
    assert large.candidate.prob == 0.9
    assert "piece of candidate 2" in small.candidate.reasons[-1]


def test_the_cutout_of_an_object_holds_its_pieces():
    small, large = detection(1, 10, 1), detection(2, 40, 1, beams=30.0, box=Box(20, 40, 30, 50))
    before = reach_of(large, [small, large])
    join_pieces([small, large])
    assert before < 10
    assert reach_of(large, [small, large]) == pytest.approx(30 + before, abs=0.1)


@pytest.mark.parametrize(("x", "blended"), [(45.0, True), (55.0, False)])
def test_an_extended_object_is_blended_if_another_source_lies_in_its_mask(x, blended):
    object_, other = detection(1, 40, 0, box=Box(20, 40, 30, 50)), detection(2, x, 0)
    object_.candidate.mask = SourceMask((5, 20, 30), np.ones((4, 20, 20), bool))
    for one in (object_, other):
        one.candidate.x, one.candidate.y = one.x, one.y
    mark_blends([object_, other])
    assert object_.candidate.blended == blended
    assert not other.candidate.blended


def test_the_mask_of_an_object_includes_its_pieces_whatever_lies_between():
    values = np.zeros((3, 5, 20), np.float32)
    values[1, 2, 2:6], values[1, 2, 12:16] = 20, 15
    labels = np.where(values > 0, np.where(np.arange(20) < 10, 1, 2), 0)
    contrast, voxels = Contrast(values, -values, values), [(1, 2, 3), (1, 2, 13)]
    assert joined(labels, contrast, voxels, 0, [False, False])[1] == ()
    together, merged = joined(labels, contrast, voxels, 0, [False, True])
    assert merged == (1,)
    assert (together[values > 0] == 1).all()


@pytest.mark.parametrize(("sigma", "large"), [(3.0, True), (2.5, False)])
def test_the_lines_of_a_large_source_are_not_sources_of_their_own(sigma, large):
    one = detection(1, 30, 0)
    one.sigma_y = one.sigma_x = sigma  # 1.6 beams are a sigma of 2.7
    assert resolved(one) == large
    one.candidate.peaks = tuple(EmissionPeak(c, 1.0, 1.0, float(c), 3.0) for c in (8, 24))
    planes = np.zeros((CHANNELS, SIDE, SIDE), np.float32)
    y, x = np.indices((SIDE, SIDE))
    for channel, column in ((8, 30), (24, 33)):
        image = 50 * np.exp(-((y - 30) ** 2 + (x - column) ** 2) / (2 * 1.7**2))
        planes[channel - 2 : channel + 3] += image
    planes += np.random.default_rng(1).normal(size=planes.shape)
    assert (part_by_lines(one, [one], Cutout(planes.astype(np.float32), (0, 0))) is None) == large


@pytest.mark.parametrize(
    ("x", "rule", "status"),
    [
        (45.0, "extended_source", Status.DROPPED),
        (61.0, "extended_source", Status.KEPT),
        (45.0, "probable", Status.KEPT),
    ],
)
def test_a_small_patch_whose_mask_goes_over_into_an_objects_is_a_part_of_it_and_a_compact_source_is_not(
    x, rule, status
):
    object_, small = detection(1, 40, 0, box=Box(20, 40, 30, 50)), detection(2, x, 0)
    small.candidate.decide(rule, Status.KEPT, prob=0.8, threshold=0.75, beams=4.0)
    for one in (object_, small):
        one.candidate.mask = SourceMask((5, 20, 30), np.ones((4, 20, 20), bool))
        one.candidate.x, one.candidate.y = one.x, one.y
    small.candidate.mask = SourceMask((5, 20, round(x) - 10), np.ones((4, 20, 20), bool))
    join_small_patches([object_, small])
    assert small.candidate.status is status
    assert small.candidate.parent == (1 if status is Status.DROPPED else 0)
    assert object_.candidate.status is Status.KEPT


# --- single rules ---


def test_touching_galaxies_become_two_rows_with_a_box_each():
    _, about = split_patch(slice(30, 50), 0.5)
    unsure = [detection(number, x, 0) for number, x in ((1, 20), (2, 40))]
    for one in unsure:
        one.features, one.extent = Features(snr_line=15, beam=BEAM, detection_logit=-2.0), None
    boxes = [one.box for one in merge_extended(unsure, about, WINDOW)]
    assert sorted((box.y0, box.y1, box.x0, box.x1) for box in boxes) == [(20, 40, 10, 30), (20, 40, 30, 50)]


@pytest.mark.parametrize(
    ("score", "owned", "between", "joined_up"),
    [
        (-2.0, slice(0, SIDE), 3.0, True),
        (-2.0, slice(0, SIDE), 0.0, False),
        (2.0, slice(0, SIDE), 3.0, False),  # compact sources, of which Source Finder is sure
        (-2.0, slice(0, 25), 3.0, False),  # the window beside this one holds their rest
    ],
)
def test_small_patches_are_pieces_if_a_line_joins_them_and_they_are_not_compact(score, owned, between, joined_up):
    image = np.zeros((SIDE, SIDE), np.float32)
    image[20:28, 10:18], image[20:28, 26:34], image[20:28, 18:26] = 12, 7, between
    ones = [detection(number, x, 0) for number, x in ((1, 14), (2, 30))]
    for one in ones:
        one.y, one.features = 24, Features(snr_line=9, beam=BEAM, detection_logit=score)
    window = Window(0, 0, (SIDE, SIDE), (owned, slice(0, SIDE)), 1)
    assert merge_extended(ones, seen(image), window) == ones
    assert [one.piece_of > 0 for one in ones] == [joined_up] * 2
    assert not joined_up or ones[0].piece_of == ones[1].piece_of


def test_only_parts_that_emission_connects_are_one_object():
    image = np.zeros((SIDE, SIDE), np.float32)
    places = [(slice(20, 30), slice(*x)) for x in ((5, 15), (15, 25), (40, 50))]
    parts = np.zeros((3, SIDE, SIDE), bool)
    for place, part in zip(places, parts, strict=True):
        image[place], part[place] = 15, True
    numbers = connected(list(parts), parts.any(axis=0), seen(image))
    assert numbers[0] == numbers[1] != numbers[2]


def test_what_no_voxel_shows_connects_nothing():
    """Two parts of 2 sigma beside each other, in the same channel: 3 sigma are needed."""
    image = np.zeros((SIDE, SIDE), np.float32)
    parts = np.zeros((2, SIDE, SIDE), bool)
    parts[0, 20:30, 5:15] = parts[1, 20:30, 15:25] = True
    image[parts.any(axis=0)] = 2
    assert connected(list(parts), parts.any(axis=0), seen(image)) == [0, 1]


def test_a_column_of_single_pixels_is_one_part():
    image = np.zeros((SIDE, SIDE), np.float32)
    image[10:50, 30] = 15
    assert np.unique(without_jumps(image > 0, seen(image))[image > 0]).size == 1


def test_what_has_no_line_at_all_does_not_jump():
    image = np.zeros((SIDE, SIDE), np.float32)
    channel = np.where(np.arange(SIDE) < 30, 8.0, 20.0) * np.ones((SIDE, 1))
    patch = np.zeros(image.shape, bool)
    patch[20:40, 20:40] = True
    assert np.unique(without_jumps(patch, seen(image, channel))[patch]).size == 1


def test_a_detection_whose_extent_is_unknown_is_no_piece():
    one, other = detection(1, 10, 1), detection(2, 40, 1)
    other.extent = None
    join_pieces([one, other])
    assert [f.candidate.status for f in (one, other)] == [Status.KEPT] * 2


# --- blends, parted by their lines ---


def two_lines(**changes) -> tuple[RawDetection, Cutout]:
    """A compact source at column 30 with a line in channel 8, and one in channel 24 that is 2 pixels beside it."""
    own = {"first": 50.0, "second": 50.0, "first at": 30.0, "second at": 32.0, "channels": (0, 16)} | changes
    one = detection(1, 30, 0)
    one.sigma_y = one.sigma_x = 2.0
    one.candidate.peaks = tuple(EmissionPeak(c, 1.0, 1.0, float(c), 3.0) for c in (8, 24))
    one.candidate.channels = own["channels"]
    planes = np.random.default_rng(1).normal(size=(CHANNELS, SIDE, SIDE))
    y, x = np.indices((SIDE, SIDE))
    for channel, column, height in ((8, own["first at"], own["first"]), (24, own["second at"], own["second"])):
        planes[channel - 2 : channel + 3] += height * np.exp(-((y - 30) ** 2 + (x - column) ** 2) / (2 * 1.7**2))
    return one, Cutout(planes.astype(np.float32), (0, 0))


def test_a_line_from_another_place_is_another_source_and_each_has_its_line():
    one, cutout = two_lines()
    first, second = one.candidate.peaks
    other = part_by_lines(one, [one, detection(7, 55, 0)], cutout)
    assert (other.candidate.id, other.candidate.peaks, one.candidate.peaks) == (8, (second,), (first,))
    assert (other.y, other.x) == pytest.approx((30, 32), abs=0.1)
    assert (one.y, one.x) == pytest.approx((30, 30), abs=0.1)
    assert one.candidate.blended
    assert other.candidate.blended


@pytest.mark.parametrize(
    "changes",
    [
        {"second at": 30.0},  # from the same place
        {"first": 0.3},  # a line that is not seen has no place
        {"second": 0.3},
        {"channels": (0, CHANNELS)},  # two peaks of one line
    ],
)
def test_a_source_is_not_parted_without_two_lines_that_are_seen_in_two_places(changes):
    one, cutout = two_lines(**changes)
    assert part_by_lines(one, [one], cutout) is None
    assert len(one.candidate.peaks) == 2


def test_a_patch_is_not_parted_by_its_lines():
    one, cutout = two_lines()
    one.box = Box(20, 40, 20, 40)
    assert part_by_lines(one, [one], cutout) is None
    assert len(one.candidate.peaks) == 2


@pytest.mark.parametrize(
    ("x", "channel", "status", "belongs"),
    [
        (33.0, 24.0, Status.KEPT, True),
        (33.0, 26.9, Status.KEPT, True),  # within half of both widths, 3 channels
        (33.0, 27.1, Status.KEPT, False),
        (33.0, 24.0, Status.DROPPED, False),
        (41.7, 24.0, Status.KEPT, True),  # within 2.5 widths, 11.8 pixels
        (41.9, 24.0, Status.KEPT, False),
    ],
)
def test_a_line_that_a_kept_neighbour_has_is_the_neighbours(x, channel, status, belongs):
    one, cutout = two_lines()
    first, _ = one.candidate.peaks
    neighbour = detection(2, x, 0, status=status)
    neighbour.candidate.peaks = (EmissionPeak(24, 1.0, 1.0, channel, 3.0),)
    assert (part_by_lines(one, [one, neighbour], cutout) is None) == belongs
    assert one.candidate.peaks == (first,)
    assert any(decision.rule == "line_of_another" for decision in one.candidate.decisions) == belongs


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("level", "rms"), [(np.nan, 1.0), (0.0, 1.0), (-1.0, 1.0), (3.0, np.nan), (3.0, 0.0)])
def test_a_line_has_no_place_where_there_is_no_emission_or_no_noise(level, rms):
    """As in a masked cube, of whose line channels a source has no data."""
    one, cutout = two_lines()
    planes = np.full_like(cutout.planes, level)
    assert place_of(planes, (6, 11), one, cutout.origin, 5.0, rms) == ((one.y, one.x), 0.0)


def test_a_line_has_no_place_where_the_cutout_ends_before_the_source():
    one, cutout = two_lines()
    one.x = 100.0
    assert place_of(cutout.planes, (6, 11), one, (0, 0), 5.0, 1.0) == ((30, 100.0), 0.0)


@pytest.mark.parametrize(("first", "second", "parted"), [(50, 50, True), (50, 1.2, False), (1.2, 50, False)])
def test_a_line_has_a_place_from_four_and_a_half_sigma_on(first, second, parted):
    """1.2 sigma in five channels are 2.3 in the seven of the line's range, and noise adds less than two."""
    one, cutout = two_lines(**{"first": first, "second": second, "first at": 28.0, "second at": 32.0})
    assert (part_by_lines(one, [one], cutout) is not None) == parted


@pytest.mark.parametrize(("gap", "third", "rows"), [(False, 0, 1), (True, 0, 2), (True, 46, 1)])
def test_sure_sources_in_one_patch_are_one_object_if_voxels_connect_them(gap, third, rows):
    """The best line changes by half a channel a pixel, so that the patch has no jump; the gap has no such voxels.

    A detection that Source Finder is not sure of, beyond the gap, does not count.
    """
    image = np.zeros((SIDE, SIDE), np.float32)
    image[20:40, 10:50] = 15
    about = seen(image, np.broadcast_to(6 + 0.4 * np.arange(SIDE), image.shape))
    if gap:
        about.units.cube[:, :, 26:34] = 0
    ones = [detection(number, x, 0) for number, x in ((1, 14), (2, 22 if third else 46))]
    for one in ones:
        one.features = Features(snr_line=15, beam=BEAM, detection_logit=2.0)
    if third:
        ones.append(detection(3, third, 0))
        ones[-1].features = Features(snr_line=1, beam=BEAM, detection_logit=-2.0)
    assert len(merge_extended(ones, about, WINDOW)) == rows


def test_a_patch_of_lines_anywhere_is_not_separated():
    """Each pixel has its line in another channel than its neighbours: no part has the area of two beams."""
    image = np.zeros((SIDE, SIDE), np.float32)
    image[20:40, 10:50] = 15
    y, x = np.indices(image.shape)
    (whole,) = separated_by_lines(image > 0, seen(image, 2.0 + 7 * (x % 2) + 14 * (y % 2), 1.0))
    assert (whole == (image > 0)).all()
