"""A candidate in the astronomer's box or emission range is measured as the pipeline would have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box, SourceMask, Status
from napari_almadet.catalogue.detections import Detections, channel_width, flux_factor
from napari_almadet.cube.cube import Cube
from napari_almadet.detection import detect
from napari_almadet.measure.spectrum_fit import SpectrumFit
from napari_almadet.remeasure import (
    OF_THE_RANGE,
    follow_line,
    merge,
    move,
    refocus,
    remask,
    split,
    take_fit,
    take_in,
    unsearched,
)
from napari_almadet.settings import Settings

SOURCES = [(30, 40, 50, 8, 14, 0), (55, 70, 90, 6, 14, 0)]
# windows no larger than the field, which padding would mislead
SMALL = Settings(preset="paper", window=64, overlap=16, crop=48)
MEASURES = ("x", "y", "z", "f_sum", "err_f_sum", "f_max", "w20", "w50", "rms", "snr_global", "snr_pixel")


@pytest.fixture
def detections(planes_of, sky_cube, oracles):
    found = detect(sky_cube(planes_of(SOURCES)), SMALL, networks=oracles)
    assert len(found.kept) == 2
    return found


def at(detections, y, x):
    return min(detections.kept, key=lambda c: np.hypot(c.y - y, c.x - x))


def test_its_own_box_gives_its_own_numbers(detections, oracles):
    for candidate in detections.kept:
        again = move(candidate, detections, candidate.box, oracles)
        for name in MEASURES:
            assert getattr(again, name) == pytest.approx(getattr(candidate, name), rel=1e-6, nan_ok=True), name
        assert (again.peaks, again.channels, again.prob) == (candidate.peaks, candidate.channels, candidate.prob)
        np.testing.assert_array_equal(again.focused, candidate.focused)


def test_its_own_range_gives_its_own_numbers(detections):
    for candidate in detections.kept:
        again = refocus(candidate, detections, candidate.channels)
        for name in MEASURES:
            assert getattr(again, name) == pytest.approx(getattr(candidate, name), rel=1e-6, nan_ok=True), name


def test_the_candidate_itself_is_left_as_it_is(detections, oracles):
    candidate = at(detections, 30, 40)
    before = dict(vars(candidate))
    reasons = list(candidate.reasons)
    move(candidate, detections, Box(20, 40, 30, 50), oracles)
    refocus(candidate, detections, (10, 20))
    assert all(vars(candidate)[name] is value for name, value in before.items())
    assert candidate.reasons == reasons


def test_a_larger_box_holds_its_pixels_sums(detections, oracles):
    candidate = at(detections, 30, 40)
    box = Box(20, 41, 28, 53)
    moved = move(candidate, detections, box, oracles)
    assert (moved.box, moved.origin) == (box, "edited")
    expected = detections.cube.read()[:, 20:41, 28:53].sum(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(moved.spectrum, expected, rtol=1e-3, atol=1e-2)
    assert moved.verdict == candidate.verdict


def test_a_range_is_integrated_over_just_its_channels(detections):
    candidate = at(detections, 55, 70)
    narrow = refocus(candidate, detections, (88, 92))
    assert (narrow.channels, narrow.origin) == ((88, 92), "edited")
    y, x = narrow.focus_origin
    planes = detections.cube.read()[88:92]
    where = narrow.focused[56 - y, 71 - x]
    assert where == pytest.approx(planes[:, 56, 71].sum(), rel=1e-5)
    assert narrow.peaks == candidate.peaks
    assert narrow.f_sum < candidate.f_sum


@pytest.mark.parametrize("channels", [(60, 120), (88, 92), (0, 128)])
def test_a_range_does_not_touch_the_line(detections, channels):
    candidate = at(detections, 55, 70)
    ranged = refocus(candidate, detections, channels)
    changed = {name for name, value in vars(ranged).items() if not same(value, getattr(candidate, name))}
    assert changed <= set(OF_THE_RANGE)
    assert {"channels", "focused", "f_sum", "err_f_sum"} <= changed
    first, last = channels
    free = np.ones(128, bool)
    free[first:last] = False
    for peak in candidate.peaks:
        free[slice(*peak.emission_range(128))] = False
    planes = detections.cube.read()[:, *candidate.box.slices].astype(float)
    if free.any():  # summed without the continuum that the channels beside range and lines have
        planes = planes - planes[free].mean(axis=0)
    factor, _ = flux_factor(detections.cube, np.arange(first, last))
    width = channel_width(detections.cube, candidate.z).value
    expected = (planes[first:last].sum(axis=(1, 2)) * factor).sum() * width
    assert ranged.f_sum == pytest.approx(expected, rel=0.02)


def same(one, other) -> bool:
    if isinstance(one, float) and np.isnan(one):
        return bool(np.isnan(other))
    return one is other or bool(np.all(one == other))


def test_another_line_can_be_followed(detections, oracles):
    both = move(at(detections, 55, 70), detections, Box(24, 62, 34, 77), oracles)  # holds two sources, each its line
    other = both.peaks[1]
    followed = follow_line(both, detections, other)
    assert followed.peaks == (other, both.peaks[0])
    assert followed.channels == other.emission_range(128)
    assert followed.fwhm == pytest.approx(other.fwhm * channel_width(detections.cube, followed.z).value, rel=1e-3)
    assert abs(followed.z - other.centre) < 2


def test_a_fit_of_the_astronomer_becomes_the_line(detections):
    candidate = at(detections, 55, 70)
    found = np.array([[1.0, 70.0, 8.0], [3.0, 91.2, 10.0], [1.5, 86.0, 6.0]])
    fit = SpectrumFit(found, np.zeros(1), np.diag(np.full(10, 0.04)), 120.0, 100, 64.0)
    taken = take_fit(candidate, detections, fit)
    assert [(peak.centre, peak.fwhm) for peak in taken.peaks] == [(91.2, 10.0), (86.0, 6.0), (70.0, 8.0)]
    assert taken.channels == (80, 102)  # 86 - 6 to 91.2 + 10: these two overlap, the line at 70 stands alone
    width = channel_width(detections.cube, 91.2).value
    assert (taken.z, taken.err_z, taken.chi2_fit) == (91.2, pytest.approx(0.2), pytest.approx(1.2))
    assert (taken.fwhm, taken.err_fwhm) == (pytest.approx(10 * width), pytest.approx(0.2 * width))
    assert "your fit: 3 Gaussian" in " ".join(taken.reasons)
    assert (taken.origin, taken.kind) == ("edited", candidate.kind)
    assert (candidate.origin, len(candidate.peaks)) == ("found", 1)
    with pytest.raises(ValueError, match="no Gaussian"):
        take_fit(candidate, detections, replace(fit, gaussians=np.empty((0, 3))))


def test_a_mask_without_data_is_refused(detections):
    planes = detections.cube.read()
    planes[3, :5, :5] = np.nan
    blank = replace(detections, cube=replace(detections.cube, data=planes))
    with pytest.raises(ValueError, match="no voxel with data"):
        remask(detections.kept[0], blank, SourceMask((3, 0, 0), np.ones((1, 5, 5), bool)))


def test_a_box_drawn_on_a_source_measures_it(detections, oracles):
    """As if Blobs Finder had missed it: the box alone leads to its line and place."""
    missed = at(detections, 55, 70)
    rest = replace(detections, candidates=[c for c in detections.candidates if c is not missed])
    mine = rest.drawn(Box(49, 62, 64, 77))
    assert mine.id not in {c.id for c in rest.candidates}
    mine = move(mine, rest, mine.box, oracles)
    assert (mine.origin, mine.status) == ("drawn", Status.KEPT)
    assert np.hypot(mine.y - 55, mine.x - 70) < 1
    assert mine.primary.centre == pytest.approx(90, abs=1)


def test_a_box_on_empty_sky_is_kept_and_says_that_nothing_is_there(detections, oracles):
    mine = detections.drawn(Box(5, 12, 75, 82))
    mine = move(mine, detections, mine.box, oracles)
    assert mine.status is Status.KEPT
    assert mine.reasons[-1] == "kept: your own candidate"
    assert any("both less than 6" in reason for reason in mine.reasons)


def test_a_brighter_neighbour_does_not_take_the_candidates_place(detections, oracles):
    faint = at(detections, 55, 70)
    moved = move(faint, detections, Box(24, 62, 34, 77), oracles)  # holds both sources
    assert len(moved.peaks) == 2
    assert moved.primary.centre == pytest.approx(90, abs=1)


def test_boxes_and_ranges_are_clipped_to_the_cube(detections, oracles):
    candidate = at(detections, 30, 40)
    assert move(candidate, detections, Box(-5, 12, 85, 99), oracles).box == Box(0, 12, 85, 90)
    assert refocus(candidate, detections, (120, 500)).channels == (120, 128)
    assert refocus(candidate, detections, (40, 40)).channels == (40, 41)
    with pytest.raises(ValueError, match="outside the field"):
        move(candidate, detections, Box(100, 110, 5, 9), oracles)


def test_a_cube_that_was_not_searched_has_no_probability(detections, oracles):
    bare = unsearched(detections.cube, SMALL, oracles)
    np.testing.assert_array_equal(bare.stacked, detections.stacked)
    mine = bare.drawn(Box(24, 37, 34, 47), "imported")
    with np.errstate(all="raise"):
        mine = move(mine, bare, mine.box, oracles)
    assert np.isnan(mine.prob)
    assert (mine.edge, mine.origin) == (False, "imported")


def test_other_programs_sources_are_measured_where_they_are(detections, oracles):
    first, second = take_in(detections, [(Box(24, 37, 34, 47), None), (Box(49, 62, 64, 77), (85, 96))], oracles)
    assert [first.id, second.id] == [len(detections.candidates) + 1, len(detections.candidates) + 2]
    assert first.origin == second.origin == "imported"
    assert first.primary.centre == pytest.approx(50, abs=1)
    assert second.channels == (85, 96)
    assert len(detections.candidates) + 2 == second.id  # they are not added yet


def test_a_box_of_ones_own_has_the_error_of_noise_that_channels_share():
    """Noise that three channels share makes a line's sum noisier than independent channels would."""
    rng = np.random.default_rng(5)
    white = ndimage.gaussian_filter(rng.standard_normal((66, 80, 80)), (0, 1.3, 1.3), mode="wrap")
    shared = (white[:-2] + white[1:-1] + white[2:]).astype(np.float32)
    errors = []
    for noise in (white[:64].astype(np.float32), shared):
        cube = Cube.from_array(noise / noise.std())
        whole = Detections(cube, Settings(), [], np.zeros((80, 80)), np.full((80, 80), np.nan), {})
        drawn = refocus(whole.drawn(Box(30, 42, 30, 42)), whole, (20, 32))
        assert drawn.method == "box"
        assert drawn.n_pix == 12**3
        errors.append(drawn.err_f_sum)
    assert errors[1] / errors[0] == pytest.approx(np.sqrt(3), rel=0.12)


def test_two_candidates_are_made_one_and_taken_apart_again(detections, oracles):
    one, other = at(detections, 30, 40), at(detections, 55, 70)
    one.note = "disc"
    whole = merge([one, other], detections, 99, oracles)
    assert (whole.id, whole.origin, whole.note) == (99, "drawn", "disc")
    assert whole.box.y0 == min(one.box.y0, other.box.y0)
    assert whole.box.x1 == max(one.box.x1, other.box.x1)
    assert len(whole.peaks) == 2
    parts = split(whole, detections, 100, oracles)
    assert [part.id for part in parts] == [100, 101]
    centres = sorted(part.primary.centre for part in parts)
    np.testing.assert_allclose(centres, sorted(c.primary.centre for c in (one, other)), atol=1.5)
    assert all(part.channels == part.primary.emission_range(128) for part in parts)


def test_summits_of_one_line_are_parts(detections, oracles):
    """Two sources alike in frequency: the second is the first, moved by 20 pixels."""
    one = at(detections, 30, 40)
    data = detections.cube.read()
    data[:, 20:41, 50:71] += data[:, 20:41, 30:51].copy()
    twins = replace(detections, cube=replace(detections.cube, data=data), noise=None)
    wide = move(one, twins, Box(20, 41, 30, 71), oracles)
    parts = split(replace(wide, peaks=wide.peaks[:1]), twins, 50, oracles)
    assert len(parts) == 2
    centres = sorted(part.box.centre[1] for part in parts)
    assert abs(centres[0] - 40) < 3
    assert abs(centres[1] - 60) < 3


def test_what_is_one_source_is_not_split(detections, oracles):
    with pytest.raises(ValueError, match="one line and one peak"):
        split(at(detections, 30, 40), detections, 50, oracles)
