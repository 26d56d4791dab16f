"""What step 10 gives raw detections beside what is measured of their lines."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cases import whole_window

from napari_almadet.catalogue.candidate import Box, Candidate, SourceMask, Status
from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.progress import Progress, finish
from napari_almadet.search import measure_detections
from napari_almadet.search.measure_detections import (
    absorb,
    as_measured,
    contact,
    drop_without_flux,
    is_piece,
    join_small_patches,
    lies_in,
    mark_blends,
    measured,
    pieces_of,
    seed_of,
)
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.windows import Window
from napari_almadet.settings import Settings

WINDOW = whole_window(60)


@pytest.mark.parametrize(
    ("status", "prob", "object_status", "object_prob"),
    [
        (Status.KEPT, 0.9, Status.KEPT, 0.9),
        (Status.KEPT, 0.3, Status.FLAGGED, 0.4),  # less likely than the object is
        (Status.FLAGGED, 0.6, Status.FLAGGED, 0.4),
    ],
)
def test_an_object_is_as_likely_as_its_likeliest_part(status, prob, object_status, object_prob):
    whole, part = (
        RawDetection(Candidate(i, Box(0, 9, 0, 9), p, status=s), 4, 4, 2.0, 2.0, np.ones(8), Features(), WINDOW)
        for i, p, s in ((1, 0.4, Status.FLAGGED), (2, prob, status))
    )
    absorb(whole, [part])
    assert (whole.candidate.status, whole.candidate.prob) == (object_status, object_prob)
    assert (part.candidate.status, part.candidate.parent) == (Status.DROPPED, 1)


def test_compact_detections_are_placed_and_patches_of_emission_are_not():
    compact, patch, small = (
        RawDetection(Candidate(1, Box(0, 9, 0, 9), 0.9), 4.2, 4.6, 2.0, 2.0, np.ones(8), Features(), WINDOW)
        for _ in range(3)
    )
    patch.box = Box(0, 9, 0, 9)
    small.candidate.decide("extended_source", Status.KEPT, prob=0.9, threshold=0.5, beams=3.0)
    assert [seed_of(detection).placed for detection in (compact, patch, small)] == [True, False, False]


# --- what is measured, and what is a part of what ---


def detection(
    number: int = 1, y: float = 20.0, x: float = 20.0, status: Status = Status.KEPT, **values
) -> RawDetection:
    candidate = Candidate(number, Box(10, 31, 10, 31), 0.9, status=status)
    candidate.y, candidate.x, candidate.focused = y, x, np.ones((3, 3), np.float32)
    one = RawDetection(candidate, y, x, 2.0, 2.0, np.ones(8), Features(), WINDOW)
    return replace(one, **values)


def with_mask(one: RawDetection, n_pix: int = 400) -> RawDetection:
    """Over rows and columns 10 to 29, of which the last row is not in it."""
    voxels = np.ones((2, 20, 20), bool)
    voxels[:, -1] = False
    one.candidate.mask, one.candidate.n_pix = SourceMask((3, 10, 10), voxels), n_pix
    return one


EXTENDED = Box(10, 30, 10, 30)


@pytest.mark.parametrize(
    ("y", "x", "inside"),
    [
        *((10, 10, True), (28, 29, True), (29, 20, False), (9, 20, False), (30, 20, False)),
        *((20, 9, False), (20, 30, False), (np.nan, 20, False)),
    ],
)
def test_a_source_lies_in_the_pixels_of_a_mask(y, x, inside):
    assert lies_in(detection(2, y, x).candidate, with_mask(detection()).candidate) == inside


@pytest.mark.parametrize(
    ("box", "status", "other", "blended"),
    [
        (EXTENDED, Status.KEPT, Status.KEPT, True),
        (EXTENDED, Status.KEPT, Status.DROPPED, False),  # what is dropped is no source
        (EXTENDED, Status.DROPPED, Status.KEPT, False),
        (None, Status.KEPT, Status.KEPT, False),  # of compact sources the fit says so
    ],
)
def test_an_extended_object_is_blended_with_another_source_in_its_mask(box, status, other, blended):
    whole = with_mask(detection(box=box, status=status))
    mark_blends([whole, detection(2, 15, 15, other)])
    assert whole.candidate.blended == blended
    alone = with_mask(detection(box=EXTENDED))
    mark_blends([alone])
    assert not alone.candidate.blended  # with itself


def small_patch(status: Status = Status.KEPT, **values) -> RawDetection:
    one = with_mask(detection(9, 15, 15, status, **values))
    one.candidate.decide("extended_source", status, prob=0.9, threshold=0.5, beams=3.0)
    return one


def test_a_small_patch_in_the_mask_of_an_object_is_a_part_of_the_largest():
    small, one, larger = small_patch(), with_mask(detection(box=EXTENDED)), with_mask(detection(2, box=EXTENDED), 900)
    assert join_small_patches([one, small, larger]) == [larger]
    assert (small.candidate.status, small.candidate.parent) == (Status.DROPPED, 2)
    assert pieces_of(larger, [one, small, larger]) == [small]


@pytest.mark.parametrize(
    "others",
    [
        [with_mask(detection())],  # a compact source
        [with_mask(detection(box=EXTENDED, status=Status.DROPPED))],
        [detection(box=EXTENDED)],  # without a mask
    ],
)
def test_a_small_patch_in_nothing_extended_stays_one(others):
    small = small_patch()
    join_small_patches([*others, small])
    assert small.candidate.status is Status.KEPT


def masked(one: RawDetection, origin: tuple[int, int, int], shape: tuple[int, int, int] = (4, 8, 8)) -> RawDetection:
    """A box of voxels as its mask, and its position in the middle of it."""
    one.candidate.mask, one.candidate.n_pix = SourceMask(origin, np.ones(shape, bool)), int(np.prod(shape))
    one.candidate.y, one.candidate.x = (o + n / 2 for o, n in zip(origin[1:], shape[1:], strict=True))
    return one


@pytest.mark.parametrize(
    ("origin", "voxels"),
    [
        ((10, 28, 10), 4 * 8),  # beside it, along the rows
        ((14, 20, 10), 8 * 8),  # in the next channel
        ((14, 28, 18), 1),  # across a corner
        ((10, 29, 10), 0),  # with a row between
        ((15, 20, 10), 0),
        ((12, 22, 12), 3 * 7 * 7),  # overlapping by two channels, six rows and six columns
    ],
)
def test_masks_share_the_voxels_that_overlap_or_adjoin(origin, voxels):
    one, other = masked(detection(), (10, 20, 10)), masked(detection(2), origin)
    assert contact(one.candidate, other.candidate) == voxels


@pytest.mark.parametrize(("row", "whole"), [(28, 0), (29, 1)])
def test_a_small_patch_whose_mask_touches_objects_is_a_piece_of_the_one_it_touches_most(row, whole):
    objects = [
        masked(detection(1, box=EXTENDED), (10, 20, 10), (8, 8, 12)),  # of its last row eleven columns are near
        masked(detection(2, box=EXTENDED), (10, row, 21), (8, 30, 30)),  # of its first column nine rows
    ]
    small = masked(small_patch(), (10, row, 12), (8, 8, 9))
    assert join_small_patches([*objects, small]) == [objects[whole]]
    assert small.candidate.parent == whole + 1


def test_a_small_patch_that_touches_an_object_in_fewer_voxels_than_a_beam_has_pixels_stays_one():
    for columns, kept in ((2, True), (9, False)):
        thing = masked(detection(box=EXTENDED), (10, 20, 10), (3, 8, columns))
        small = masked(small_patch(), (10, 28, 10), (3, 8, 9))
        assert join_small_patches([thing, small]) == ([] if kept else [thing])


def test_only_a_small_patch_becomes_a_part():
    for one in (with_mask(detection(3, 15, 15)), small_patch(box=EXTENDED)):
        join_small_patches([with_mask(detection(box=EXTENDED)), one])
        assert one.candidate.status is Status.KEPT


def test_pieces_are_those_of_which_the_search_made_a_detection():
    whole, piece, other, unrelated = detection(piece_of=1), detection(2, piece_of=1), detection(3), detection(4)
    piece.candidate.parent, other.candidate.parent = 1, 1  # the latter by the measurement
    assert [f.candidate.id for f in pieces_of(whole, [whole, piece, other, unrelated])] == [2]
    assert is_piece(piece, whole) and not is_piece(other, whole) and not is_piece(piece, unrelated)


@pytest.mark.parametrize(
    ("first", "brief", "thorough"),
    [
        (Status.KEPT, False, True),
        (Status.FLAGGED, False, True),
        (Status.DROPPED, False, False),
        (Status.KEPT, True, False),
    ],
)
def test_what_is_kept_is_measured_thoroughly_and_with_what_else_is_kept(monkeypatch, first, brief, thorough):
    asked = []

    def measured(cube, one, kept, noise, settings, careful, shapes):
        asked.append((one.candidate.id, [f.candidate.id for f in kept], careful))
        return SimpleNamespace(method="point", parts=SimpleNamespace(merged=())), [], 1.0

    monkeypatch.setattr(measure_detections, "measured", measured)
    one, kept, dropped = detection(1, status=first), detection(2), detection(3, status=Status.DROPPED)
    too_large = detection(4)
    too_large.candidate.focused = None
    steps = measure_detections.measure_detections(None, [one, too_large], [one, kept, dropped], None, None, None, brief)
    finish(steps)
    assert asked == [(1, [1, 2], thorough)]


@pytest.mark.parametrize(("method", "brief", "parts"), [("mask", False, [2]), ("point", False, []), ("mask", True, [])])
def test_what_is_merged_in_a_mask_is_a_part_of_it_but_for_pieces(monkeypatch, method, brief, parts):
    whole, other, piece = detection(box=EXTENDED), detection(2, 25, 25), detection(3, 15, 15, piece_of=1)
    piece.candidate.parent = 1
    made = SimpleNamespace(method=method, parts=SimpleNamespace(merged=(1, 2)))
    monkeypatch.setattr(measure_detections, "measured", lambda *_: (made, [whole, other, piece], 1.0))
    absorbed = []
    monkeypatch.setattr(
        measure_detections, "absorb", lambda one, others: absorbed.extend(f.candidate.id for f in others)
    )
    cube = SimpleNamespace(shape=(8, 60, 60))
    finish(measure_detections.measure_detections(cube, [whole], [whole, other], None, np.ones((60, 60)), None, brief))
    assert absorbed == parts


def test_a_neighbour_that_was_measured_is_where_and_as_large_as_it_was_measured():
    seed = seed_of(detection())
    assert as_measured(seed, None) is seed
    known = as_measured(seed, Shape(21.0, 22.0, 3 * np.eye(2)))
    assert (known.x, known.y) == (21.0, 22.0)
    assert known.matrix == pytest.approx(3 * np.eye(2))


def test_a_candidate_that_was_dropped_before_has_no_second_reason():
    one = detection(status=Status.DROPPED).candidate
    one.kind, one.f_sum = "line", -1.0
    drop_without_flux(one, -1.0)
    assert not one.decisions
    one.kind, one.f_cont, one.err_f_cont = "continuum", 0.1, 1.0
    drop_without_flux(one, 1.0)
    assert not one.decisions


@pytest.mark.parametrize(
    ("kind", "f_cont", "absorbed", "status"),
    [
        ("continuum", 1.9, np.nan, Status.DROPPED),
        ("continuum", 2.1, np.nan, Status.KEPT),
        ("continuum", 1.9, 8.0, Status.KEPT),  # a line in absorption
        ("continuum", np.nan, np.nan, Status.KEPT),  # it could not be measured
        ("line", 0.1, np.nan, Status.KEPT),
        ("both", 0.1, np.nan, Status.KEPT),
    ],
)
def test_a_candidate_without_line_or_continuum_in_its_own_spectrum_is_dropped(kind, f_cont, absorbed, status):
    one = detection().candidate
    one.kind, one.f_cont, one.err_f_cont, one.abs_snr = kind, f_cont, 1.0, absorbed
    drop_without_flux(one, 1.0)
    assert one.status is status
    assert [d.rule for d in one.decisions[-1:]] == (["no_flux"] if status is Status.DROPPED else [])


@pytest.mark.parametrize(
    ("kind", "values", "status"),
    [
        ("line", {"f_sum": 1.9}, Status.DROPPED),
        ("both", {"f_sum": 1.9}, Status.DROPPED),
        ("line", {"f_sum": 2.1}, Status.KEPT),
        ("line", {"f_sum": 1.9, "z": 12.0}, Status.KEPT),  # a faint line, but one
        ("both", {"f_sum": 1.9, "f_cont": 2.1}, Status.KEPT),  # there is continuum
        ("both", {"f_sum": 1.9, "f_cont": 1.9}, Status.DROPPED),
        ("line", {"f_sum": 1.9, "abs_snr": 8.0}, Status.KEPT),  # a line in absorption
        ("line", {}, Status.KEPT),  # it could not be measured
    ],
)
def test_a_candidate_whose_line_can_neither_be_fitted_nor_has_flux_is_dropped(kind, values, status):
    one = detection().candidate
    one.kind, one.err_f_sum, one.err_f_cont = kind, 1.0, 1.0
    for name, value in values.items():
        setattr(one, name, value)
    drop_without_flux(one, 1.0)
    assert one.status is status
    assert [d.rule for d in one.decisions[-1:]] == (["no_line_flux"] if status is Status.DROPPED else [])


@pytest.mark.parametrize(("f_cont", "status"), [(0.5, Status.DROPPED), (5.0, Status.KEPT)])
def test_what_was_measured_may_drop_a_candidate(monkeypatch, f_cont, status):
    one = detection()
    one.candidate.kind, one.candidate.f_cont, one.candidate.err_f_cont = "continuum", f_cont, 1.0
    made = SimpleNamespace(method="point", parts=None)
    monkeypatch.setattr(measure_detections, "measured", lambda *_: (made, [one], 1.0))
    monkeypatch.setattr(measure_detections, "mark_blends", lambda _: None)
    finish(measure_detections.measure_detections(None, [one], [one], None, None, None))
    assert one.candidate.status is status


@pytest.mark.parametrize(
    ("is_whole", "box", "thorough", "method", "others", "merges"),
    [
        (False, None, True, "mask", 1, [False, True]),  # is it connected with others?
        (False, None, True, "mask", 0, [False]),
        (False, None, True, "point", 1, [False]),
        (False, None, False, "mask", 1, [False]),
        (True, None, True, "mask", 1, [True]),  # it has pieces
        (False, EXTENDED, True, "mask", 1, [True]),
        (False, EXTENDED, True, "point", 1, [True]),  # what is detected on it may not take its mask
    ],
)
def test_a_mask_among_others_is_made_of_all_that_is_connected(
    monkeypatch, is_whole, box, thorough, method, others, merges
):
    asked = []
    made = SimpleNamespace(method=method, shape=Shape(4.0, 5.0, np.eye(2)), parts=SimpleNamespace(merged=()))
    monkeypatch.setattr(measure_detections, "region", lambda *_: SimpleNamespace(origin=(10, 20)))
    monkeypatch.setattr(measure_detections, "inside", lambda f, cutout: f.x < 40)
    monkeypatch.setattr(measure_detections, "is_piece", lambda part, whole: is_whole and part is not whole)
    monkeypatch.setattr(
        measure_detections,
        "measure_candidate",
        lambda candidate, cube, cutout, seeds, me, beam, merge, careful: asked.append((merge, me, len(seeds))) or made,
    )
    for name in ("reaches_border", "scale_of", "find_absorption", "boxed_flux"):
        monkeypatch.setattr(measure_detections, name, lambda *_: 0)
    one, near, far = detection(1, box=box), detection(2, x=25), detection(3, x=50)
    shapes = {id(near): Shape(26.0, 20.0, np.eye(2))}
    kept = [*([near] if others else []), one, far]
    cube = SimpleNamespace(shape=(8, 60, 60))
    measure_detections.measured(cube, one, kept, None, Settings(), thorough, shapes)
    assert asked == [(merge, others, 1 + others) for merge in merges]
    if method == "mask":
        assert id(one) not in shapes
    else:
        assert (shapes[id(one)].x, shapes[id(one)].y) == (24.0, 15.0)


@pytest.mark.parametrize(
    ("sigma", "thorough", "half"),
    [(2.0, True, 20), (6.0, True, 27), (2.0, False, 12), (6.0, False, 12)],
)
def test_a_cutout_holds_a_source_and_its_surroundings(monkeypatch, sigma, thorough, half):
    """Of a beam of 4: five beams to each side, or three and a half beside it; three for a fit only."""
    asked = []
    monkeypatch.setattr(measure_detections, "region", lambda cube, one, noise, *size: asked.append(size) or 1 / 0)
    candidate = Candidate(1, Box(0, 9, 0, 9), 0.9)
    one = RawDetection(candidate, 30, 30, sigma, sigma, np.ones(8), replace(Features(), beam=4.0), WINDOW)
    with pytest.raises(ZeroDivisionError):
        measured(None, one, [one], None, Settings(), thorough, {})
    assert asked == [(half, 4.0)]


@pytest.mark.parametrize(("beyond", "ready"), [(0.4, True), (0.6, False)])
def test_sources_are_measured_in_the_core_of_a_window_and_half_a_beam_beyond(monkeypatch, beyond, ready):
    """There another window may have the same source."""
    window = Window(0, 0, (40, 40), (slice(0, 20), slice(0, 40)), 1)
    inside, other = detection(1, y=10.0), detection(2, y=19.5 + beyond * 4.0)
    asked = []

    def held(cube, window, count, settings):
        asked.append(count)
        yield Progress("Reading", 0, 1)
        return "held"

    monkeypatch.setattr(measure_detections, "held_for_candidates", held)
    steps = measure_detections.ready_to_measure("cube", window, [inside, other], 4.0, None)
    cube, near = finish(steps)
    assert cube == "held"
    assert [one.candidate.id for one in near] == ([1, 2] if ready else [1])
    assert asked == [len(near)]
