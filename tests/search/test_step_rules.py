"""Single rules of the steps of a search, each with a case on either side of it; larger steps are replaced by notes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.io import fits
from cases import extent_of, searched_window, units_of, whole_window
from radio_beam import Beam

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.cube.cube import Cube
from napari_almadet.progress import Progress, finish, in_steps
from napari_almadet.search import beam_decision, clean, dirty_beam, pipeline, positions
from napari_almadet.search import measure_detections as measuring
from napari_almadet.search.beam_decision import (
    BeamDecision,
    cleaned_by,
    compared,
    decide,
    header_beam_in,
    highest_median,
    nothing_bright,
    surroundings,
    verdict,
)
from napari_almadet.search.clean import improves, without_components, without_sidelobes
from napari_almadet.search.components import SCALES, gaussian, gaussian_response, responses_of
from napari_almadet.search.dirty_beam import psf_of, read_psf, resampled_psf
from napari_almadet.search.distribute import each, scatter
from napari_almadet.search.features import encode_extents, part_neighbours
from napari_almadet.search.line_maps import (
    AVERAGED,
    BAND,
    NARROW,
    bands,
    bank_of,
    highest_snr,
    line_maps,
    spreads,
)
from napari_almadet.search.merge_windows import NoiseSummary, Part, in_pixels, merge_windows, one_source, renumber
from napari_almadet.search.noise_units import average, in_noise_units, resample
from napari_almadet.search.out_of_distribution import highest_offset, unseen_emission
from napari_almadet.search.patch_properties import SearchedWindow, of_lines, of_surroundings
from napari_almadet.search.positions import cutout_of, expected_spectrum, focus_detection, focus_on
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.reliability import find_negatives
from napari_almadet.search.residuals import measure_residuals, place_of, snr_over_residuals
from napari_almadet.search.smoothed_search import Smoothed
from napari_almadet.search.two_component_fit import SAMPLED, Blob, two_sources
from napari_almadet.search.windows import Window, beam_fwhm, cut_axis, held_beside, noise_profile, windows
from napari_almadet.settings import Settings

CHANNELS, SIDE, BEAM = 24, 48, 4.0
WINDOW = whole_window(SIDE)
KEPT, FLAGGED, DROPPED = Status


def noise(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def found(y: float = 20.0, x: float = 20.0, number: int = 1, status: Status = KEPT, **values) -> RawDetection:
    features = Features(**{name: value for name, value in values.items() if hasattr(Features, name)})
    own = {name: value for name, value in values.items() if not hasattr(Features, name)}
    candidate = Candidate(number, Box(15, 26, 15, 26), 0.9, status=status)
    one = RawDetection(candidate, y, x, BEAM / 2.3548, BEAM / 2.3548, np.ones(CHANNELS, np.float32), features, WINDOW)
    return replace(one, **own)


def seen_window(cube: np.ndarray, snr: np.ndarray | float = 20.0, channel: np.ndarray | float = 8.0) -> SearchedWindow:
    """A searched window whose best lines have such an S/N and channel, and three channels."""
    return searched_window(cube, BEAM, line=snr, channel=channel, width=3.0)


# --- is the cube dirty? ---


@pytest.mark.parametrize(
    ("beam", "rule", "subtracts"), [("dirty", "told", True), ("clean", "narrow lobe", True), ("clean", "slope", False)]
)
def test_sidelobes_are_subtracted_of_dirty_cubes_and_of_those_with_a_narrow_lobe(beam, rule, subtracts):
    assert BeamDecision(beam, rule, {}).subtracts == subtracts


@pytest.mark.parametrize(
    ("cards", "word"),
    [
        ({"NITER": 500}, "NITER = 500"),
        ({"NITER": 0}, ""),
        ({"NITER": "many"}, ""),
        ({"NITERS": 0, "NITER": 7}, "NITER = 7"),
    ],
)
def test_a_header_that_counts_iterations_says_that_a_cube_was_cleaned(cards, word):
    assert cleaned_by(SimpleNamespace(header=fits.Header(cards))) == word


def test_an_array_does_not_say_how_it_was_made_and_has_no_beam_on_the_sky():
    cube = Cube.from_array(noise(4, 8, 8))
    assert cleaned_by(cube) == ""
    assert header_beam_in(cube, 1) is None
    assert header_beam_in(replace(cube, beams=Beam(5 * u.arcsec)), 1) is None


def test_a_cube_on_the_sky_may_have_no_beam(sky_cube):
    cube = sky_cube(noise(4, 40, 40))
    assert header_beam_in(cube, 1) == pytest.approx(np.eye(2) * (6 / 2.3548) ** 2, rel=1e-3, abs=1e-5)
    assert header_beam_in(replace(cube, beams=None), 1) is None


def test_what_is_known_of_the_noise_is_not_computed_again(monkeypatch):
    asked = []
    values = {"lobe": [1.0, 1.0], "filled": 0.1, "visible": 0.1, "slope": 1.0, "err_slope": 0.1, "explained": 0.6}
    monkeypatch.setattr(beam_decision, "nearest_lobe", lambda natural, _: asked.append(natural) or (None, np.ones(2)))
    for name, made in (("surroundings", None), ("compared", values), ("clean_depth", None)):
        monkeypatch.setattr(beam_decision, name, lambda *_, made=made: made)
    snr = torch.zeros(SIDE, SIDE)
    snr[10, 10] = 100.0
    units = units_of(np.zeros((CHANNELS, SIDE, SIDE)))
    decide(units, BEAM, np.eye(2), snr, SimpleNamespace(units=units, noise=("known", None)))
    assert asked == ["known"]


def test_a_field_without_data_has_no_median():
    units = units_of(np.ones((CHANNELS, 8, 8)), np.zeros((8, 8), bool))
    assert highest_median(units) == 0.0


@pytest.mark.parametrize("lobe", [[1.0, np.nan], [np.nan, 1.0], [np.nan, np.nan]])
def test_a_lobe_that_cannot_be_fitted_is_not_that_of_the_beam(lobe):
    values = {"lobe": lobe, "filled": 0.1, "visible": 0.1, "slope": 1.0, "err_slope": 0.1, "explained": 0.6}
    assert verdict(values) == ("clean", "lobe")
    assert verdict(values | {"lobe": [1.0, 1.0]}) == ("dirty", "estimated")


def test_where_nothing_is_left_about_a_source_nothing_is_compared():
    psf = gaussian((12, 12), BEAM)
    cube = 50 * np.ones((CHANNELS, 1, 1)) * np.roll(psf.numpy(), (3, 3), (0, 1))[:6, :6]
    header_beam = np.eye(2) * (BEAM / 2.3548) ** 2
    field = units_of(cube)
    made = compared(field, surroundings(field, psf, [(3, 3)], BEAM, header_beam), psf)
    nothing = {"slope": 0.0, "err_slope": np.inf, "explained": 0.0, "visible": 0.0}
    assert made == nothing
    same = gaussian_response((2 * SIDE, 2 * SIDE), header_beam, 0.0)  # a beam without sidelobes
    field = units_of(50 * np.ones((CHANNELS, 1, 1)) * np.roll(same.numpy(), (20, 20), (0, 1))[:SIDE, :SIDE])
    assert compared(field, surroundings(field, same, [(20, 20)], BEAM, header_beam), same) == nothing


# --- sidelobes ---


@pytest.fixture
def subtracting(monkeypatch):
    """:func:`without_sidelobes` of a source of such S/N, with sidelobes of such a level: what it asks."""
    psf, units = gaussian((2 * SIDE, 2 * SIDE), BEAM), units_of(np.zeros((CHANNELS, SIDE, SIDE)))
    corrected = SimpleNamespace(
        error=torch.ones(SIDE, SIDE), units=units_of(np.zeros((CHANNELS, SIDE, SIDE))), noise="n"
    )
    asked: list = []

    def components(given, *_):
        asked.append("components")
        return given, [(20, 20)], [0], torch.ones(1, CHANNELS)

    monkeypatch.setattr(clean, "psf_of", lambda given, *_, **__: asked.append(given is corrected.units) or psf)
    monkeypatch.setattr(clean, "without_components", components)
    monkeypatch.setattr(clean, "fit_components", lambda *_: asked.append("again") or ([0], torch.ones(1, CHANNELS)))
    monkeypatch.setattr(clean, "power_in_noise", lambda *_: 1.0)

    def subtracting(snr: float, level: float = 0.3, known: bool = False):
        monkeypatch.setattr(clean, "sidelobe_level", lambda *_: level)
        image = torch.zeros(SIDE, SIDE)
        image[20, 20] = snr
        seen, restored = without_sidelobes(units, BEAM, psf if known else None, snr=image, corrected=corrected)
        return asked, seen is units, restored

    return subtracting


def test_the_beam_is_estimated_from_the_corrected_cube_and_again_without_bright_sources(subtracting):
    asked, unchanged, restored = subtracting(1000.0)
    assert asked == [True, "components", True, "again"]
    assert not unchanged and restored is not None


def test_a_beam_that_is_known_is_not_estimated(subtracting):
    assert subtracting(1000.0, known=True)[0] == ["components"]


def test_no_components_are_taken_of_a_source_whose_sidelobes_are_not_visible(subtracting):
    asked, unchanged, restored = subtracting(20.0, level=0.02)
    assert (asked, unchanged, restored) == ([True], True, None)


def test_a_cube_of_which_no_component_could_be_taken_stays_as_it_is(subtracting, monkeypatch):
    monkeypatch.setattr(clean, "without_components", lambda given, *_: (given, [], [], torch.zeros(0, CHANNELS)))
    _, unchanged, restored = subtracting(1000.0)
    assert unchanged and restored is None


@pytest.mark.parametrize(("better", "cycles"), [(True, 12), (False, 0)])
def test_components_are_taken_in_twelve_cycles_at_most_and_only_while_the_image_gets_better(
    monkeypatch, better, cycles
):
    snr = torch.zeros(SIDE, SIDE)
    snr[20, 20] = 100.0
    asked: list = []  # the S/N of what is left: that of the cube itself is known
    monkeypatch.setattr(clean, "peak_snr", lambda left: asked.append(left) or snr)
    monkeypatch.setattr(clean, "improves", lambda *_: better)
    monkeypatch.setattr(clean, "fit_components", lambda *_: ([0], torch.ones(1, CHANNELS)))
    units, psf = units_of(np.zeros((CHANNELS, SIDE, SIDE))), gaussian((2 * SIDE, 2 * SIDE), BEAM)
    _, places, scales, found_spectra = without_components(units, snr, responses_of(psf, BEAM), BEAM, 10.0)
    assert (len(places), len(scales), found_spectra.shape) == (cycles, cycles, (cycles, CHANNELS))
    assert len(asked) == cycles and all(left is not units for left in asked)


@pytest.mark.parametrize(("left", "better"), [(0.5, True), (2.0, False)])
def test_an_image_is_better_if_less_is_left_outside_the_sources(left, better):
    before, after = torch.ones(SIDE, SIDE), torch.full((SIDE, SIDE), left)
    assert improves(before, after, [(20, 20)], BEAM) == better
    assert improves(before, after, [(20, 20)], 100.0)  # where nothing is outside, nothing got worse


def test_responses_are_counted_from_zero_and_end():
    responses = responses_of(gaussian((16, 16), BEAM), BEAM)
    assert len(list(responses)) == len(SCALES)
    with pytest.raises(IndexError):
        responses[-1]


# --- the dirty beam ---


def test_a_dirty_beam_of_a_file_may_belong_to_an_array_without_coordinates(tmp_path, header):
    image = np.zeros((9, 9), np.float32)
    image[4, 4] = 2.0
    cards = header.copy()
    for key in ("CTYPE3", "CRVAL3", "CDELT3", "CRPIX3", "CUNIT3"):
        del cards[key]
    fits.writeto(tmp_path / "psf.fits", image, cards)
    assert read_psf(str(tmp_path / "psf.fits"), Cube.from_array(noise(4, 8, 8)))[4, 4] == 1.0


def test_a_dirty_beam_is_interpolated_smoothly_where_pixels_are_halved():
    """A parabola between the pixels of a Gaussian 2.4 pixels wide would be off by a hundredth, a line by a tenth."""
    axis = np.arange(-12, 13)
    psf = np.exp(-4 * np.log(2) * (axis[:, None] ** 2 + axis**2) / 2.4**2)
    fine = resampled_psf(psf, 0.5, (10, 10)).numpy()
    lags = 0.5 * np.fft.fftfreq(20, 1 / 20)
    expected = np.exp(-4 * np.log(2) * (lags[:, None] ** 2 + lags**2) / 2.4**2)
    np.testing.assert_allclose(fine, expected, atol=0.02)


@pytest.mark.parametrize("known", [False, True])
def test_the_noise_of_the_cube_or_of_what_is_left_of_it_tells_the_beam(monkeypatch, known):
    asked, psf = [], gaussian((2 * SIDE, 2 * SIDE), BEAM)
    monkeypatch.setattr(dirty_beam, "noise_psf", lambda units, beam: asked.append(units) or (psf, None))
    monkeypatch.setattr(dirty_beam, "beam_of_brightest", lambda *_: "shown")
    monkeypatch.setattr(dirty_beam, "without_point_symmetric", lambda places, snr: places)
    snr = torch.zeros(SIDE, SIDE)
    snr[20, 20] = 100.0
    assert psf_of("whole", snr, BEAM, residual="left" if known else None) == "shown"
    assert asked == ["left" if known else "whole"]
    assert psf_of("whole", snr, BEAM, residual="left", noise=(psf, None)) == "shown"
    assert len(asked) == 1


# --- tasks ---


@in_steps
def doubled(number: int, by: int):
    yield Progress("Doubling", 0, 1)
    return by * number


@pytest.mark.parametrize(
    ("items", "stages"),
    [([3], ["Doubling"]), ([3, 4], ["Doubling (window 1 of 2)", "Doubling (window 2 of 2)"]), ([], [])],
)
def test_without_a_cluster_tasks_are_done_here_and_numbered_if_there_are_several(items, stages):
    seen = []
    assert finish(each(doubled, items, 2, stage="Numbers"), seen.append) == [2 * item for item in items]
    assert [step.stage for step in seen] == stages


def test_a_cube_in_memory_is_for_tasks_here_only():
    cube = Cube.from_array(noise(4, 8, 8))
    assert scatter(cube, None) is cube
    with pytest.raises(ValueError, match="is in memory only"):
        scatter(cube, object())


# --- spectra and lines ---


def test_a_source_alone_keeps_its_spectrum():
    rows, own = np.array([[0.0, 20, 20, 1.7, 1.7]]), noise(1, CHANNELS)
    assert part_neighbours(rows, own, BEAM) == pytest.approx(own, rel=1e-6)
    assert part_neighbours(rows[:0], own[:0], BEAM).shape == (0, CHANNELS)


def test_only_detections_with_an_extent_are_encoded():
    assert len(encode_extents([found(), found(extent=extent_of()), found()])) == 1
    assert len(encode_extents([found()])) == 0


def test_averaged_channels_are_searched_for_lines_that_single_ones_are_not():
    whole = [
        (band.factor * width, band.factor)
        for band in bands(torch.zeros(2 * BAND), torch.ones(2 * BAND))
        for width in band.widths
    ]
    assert {factor for _, factor in whole} == {1, AVERAGED}
    assert min(width for width, factor in whole if factor == AVERAGED) > NARROW
    assert max(width for width, factor in whole if factor == 1) == NARROW


@pytest.mark.parametrize(("channels", "terms"), [(3, 0), (4, 2)])
def test_three_channels_have_no_baseline(channels, terms):
    assert bank_of(channels, torch.ones(channels)).baseline.shape == (channels, terms)


def test_lines_are_measured_where_no_place_is_quiet():
    """Continuum of ten sigma everywhere."""
    cube = 10 / np.sqrt(CHANNELS) + noise(CHANNELS, 12, 12)
    snr = highest_snr(units_of(cube))
    assert torch.isfinite(snr).all()
    assert 1 < float(snr.median()) < 5


def test_the_deepest_response_of_each_place_is_kept_beside_the_highest():
    cube = noise(CHANNELS, 12, 12)
    cube[8:12, 5, 5] -= 20
    cube[14:18, 3, 3] += 20
    maps = line_maps(units_of(cube))
    assert float(maps.negative[5, 5]) < -20
    assert float(maps.negative.median()) < -1
    assert float(maps.snr[3, 3]) > 20
    assert torch.isfinite(maps.negative).all()


def test_spreads_do_not_depend_on_who_groups_the_lines():
    bank, x = bank_of(60, torch.ones(60)), torch.as_tensor(2 * noise(60, 300))
    assert torch.equal(spreads(bank, x), spreads(bank, x, bank.groups()))
    assert float(spreads(bank, x).min()) > 1.5


def test_responses_are_those_of_whole_lines():
    """A line of 125 channels is cut off where it is negligible."""
    bank = bank_of(600, torch.ones(600))
    for rows, channels in bank.groups():
        own = bank.shapes[rows]
        assert float((own[:, channels].square().sum(dim=1) / own.square().sum(dim=1)).min()) > 1 - 1e-5


# --- windows ---


@pytest.mark.parametrize(
    ("y", "x", "meet"), [(0, 0, True), (0, 39, True), (0, 40, False), (40, 0, False), (39, 39, True), (-40, 0, False)]
)
def test_windows_meet_if_they_have_pixels_in_common(y, x, meet):
    one = replace(WINDOW, shape=(40, 40))
    other = replace(one, y=y, x=x)
    assert one.meets(other) == other.meets(one) == meet


@pytest.mark.parametrize("missing", ["sidelobes", "spectra", "rms_map"])
def test_without_images_spectra_or_noise_there_are_no_sidelobes(missing):
    known = {"sidelobes": np.ones((1, SIDE, SIDE)), "spectra": np.ones((1, 4)), "rms_map": np.ones((SIDE, SIDE))}
    assert np.all(replace(WINDOW, **known).sidelobes_in((0, 0), (5, 5)) == 1)
    assert replace(WINDOW, **known | {missing: None}).sidelobes_in((0, 0), (5, 5)) == 0.0


@pytest.mark.parametrize(
    ("beam", "preset", "memory", "held"),
    [
        (8.0, "almadet", 1.3, True),  # averaged to half the pixels on a side
        (None, "almadet", 1.3, False),  # every pixel may become four
        (None, "almadet", 80.0, True),
        (None, "paper", 0.0105, True),  # ten times the cube
        (None, "paper", 0.0095, False),
    ],
)
def test_a_cube_is_held_if_its_search_leaves_room(beam, preset, memory, held):
    data = SimpleNamespace(nbytes=1_000_000)
    cube = SimpleNamespace(beam_fwhm=beam, shape=(64, 400, 400), data=data)
    assert held_beside(cube, SimpleNamespace(preset=preset, memory=memory)) == held


def test_the_primary_beam_tells_the_noise_of_a_corrected_cube_only():
    beam = SimpleNamespace(plane=lambda channel, y, x: np.full((SIDE, SIDE), 0.5), corrected=True)
    cube = SimpleNamespace(primary_beam=beam, shape=(4, SIDE, SIDE))
    assert noise_profile(cube, WINDOW) == pytest.approx(2.0)
    beam.corrected = False
    assert noise_profile(cube, WINDOW) is None
    assert noise_profile(Cube.from_array(noise(4, SIDE, SIDE)), WINDOW) is None


def test_a_beam_that_the_header_gives_is_not_measured():
    assert finish(beam_fwhm.steps(SimpleNamespace(beam_fwhm=5.0))) == 5.0


def test_windows_begin_on_the_grid_of_source_finder_s_coarsest_maps_and_are_no_smaller_than_need_be():
    """Eight pixels."""
    assert [start for start, _, _ in cut_axis(100, 64, 32)] == [0, 24, 48]
    assert [start for start, _, _ in cut_axis(82, 64, 32)] == [0, 32]


@pytest.mark.parametrize(("side", "beam", "overlap"), [(60, 2.0, 16), (400, 4.0, 64), (200, 4.0, 50)])
def test_windows_overlap_by_a_quarter_but_by_8_beams_at_least_and_16_at_most(side, beam, overlap):
    from napari_almadet.search.windows import bytes_needed

    shape = (64, 3000, 3000)
    memory = np.polyval(bytes_needed(shape, 1)[::-1], (side + 0.5) ** 2) / 1e9
    first, second, *_ = windows(shape, 1, beam, memory)
    assert first.shape[1] - second.x == overlap


# --- the same source in several windows ---

LEFT = Window(0, 0, (40, 60), (slice(0, 40), slice(0, 50)), 1)
RIGHT = Window(0, 40, (40, 60), (slice(0, 40), slice(10, 60)), 1)


def parts(left: list[RawDetection], right: list[RawDetection] | None = None) -> list[Part]:
    nothing = np.zeros((0, 0))
    both = [(LEFT, left)] if right is None else [(LEFT, left), (RIGHT, right)]
    return [Part(w, nothing, nothing, nothing, [replace(f, window=w) for f in some], None) for w, some in both]


def test_detections_of_the_only_window_stay_as_they_are():
    (part,) = parts([found(-0.7, 20, number=7), found(10, 20, number=3)])
    assert merge_windows([part], BEAM) is part.detections


@pytest.mark.parametrize(
    ("left", "right", "kept"),
    [
        ([], [], 0),
        ([(20, 49.4)], [], 1),
        ([(20, 50.5)], [], 0),  # in the other's core, which does not see it
        ([(20, 50.5)], [(20, 48.9)], 1),  # in neither's own core, but seen by both
        ([(42, 49)], [(42, 49.1)], 0),  # beyond the edge of the field
    ],
)
def test_a_source_is_in_the_core_of_a_window_that_sees_it_or_seen_by_both(left, right, kept):
    merged = merge_windows(parts(*([found(y, x) for y, x in some] for some in (left, right))), BEAM)
    assert len(merged) == kept


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]])
def test_counterparts_are_each_the_nearest_of_the_other(order):
    """The one at 1.0 is nearer to that at 1.5 than to that at 0."""
    places, of_window = np.array([(0, 0.0), (0, 1.0), (0, 1.5)]), np.array([0, 1, 0])
    source = one_source(places[order], of_window[order], 2.0)[np.argsort(order)]
    assert source[1] == source[2] != source[0]


@pytest.mark.parametrize(("parent", "new"), [(0, 0), (3, 13)])
def test_a_part_follows_the_new_number_of_its_whole(parent, new):
    one = found(number=2)
    one.candidate.parent = parent
    renumber(one, lambda number: number + 10)
    assert (one.candidate.id, one.candidate.parent) == (12, new)


def test_an_image_of_half_pixels_is_the_highest_of_four():
    image = np.arange(16.0).reshape(4, 4)
    assert in_pixels(image, 0.5, (2, 2)).tolist() == [[5, 7], [13, 15]]
    assert in_pixels(image, 1, (4, 4)).tolist() == image.tolist()
    assert in_pixels(image[:2, :2], 2, (3, 4)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [4, 4, 5, 5]]


# --- units of the noise ---


def test_pixels_are_averaged_or_halved():
    planes = noise(2, 6, 6)
    assert resample(planes, 0.5).shape == (2, 12, 12)
    assert resample(planes, 2) == pytest.approx(planes.reshape(2, 3, 2, 3, 2).mean(axis=(2, 4)), rel=1e-5, abs=1e-6)
    planes[0, 0, 0] = planes[1, 0, :2] = planes[1, 1, 0] = np.nan
    halved = average(planes, 2)
    assert halved[0, 0, 0] == pytest.approx(np.nanmean(planes[0, :2, :2]))
    assert np.isnan(halved).sum() == 1
    np.testing.assert_array_equal(average(planes, 1), planes)


def test_channels_without_data_are_left_out_and_a_known_profile_of_the_noise_is_part_of_it():
    profile = np.where(np.arange(32) < 16, 1.0, 5.0).astype(np.float32) * np.ones((32, 1), np.float32)
    planes = 7 * noise(CHANNELS, 32, 32) * profile
    planes[5] = np.nan
    units = in_noise_units(torch.from_numpy(planes), BEAM, torch.from_numpy(profile))
    assert units.channels.tolist() == [k for k in range(CHANNELS) if k != 5]
    assert (len(units.cube), units.n_channels) == (CHANNELS - 1, CHANNELS)
    sigma = float(units.rms.median()) * units.rms_map.numpy()
    assert sigma == pytest.approx(7 * profile, rel=0.15)
    assert float(units.cube[:, :, 14:18].std()) == pytest.approx(1, abs=0.05)


# --- warnings ---


def test_without_data_no_channel_is_brighter():
    units = units_of(np.ones((CHANNELS, 8, 8)), np.zeros((8, 8), bool))
    assert highest_offset(units, BEAM) == (0.0, (0, 0))
    assert unseen_emission([], []) == []


@pytest.mark.parametrize(
    ("channels", "explained"), [((0, 6), False), ((0, 7), True), ((8, 12), True), ((9, 12), False)]
)
def test_a_large_candidate_explains_bright_channels_that_are_its_own(channels, explained):
    noises = [NoiseSummary(1.0, 0.0, CHANNELS, None, 2.0, (6, 9))]
    large, small = found(extent=extent_of(field_share=0.5)), found()
    large.candidate.channels, small.candidate.channels = channels, (0, CHANNELS)
    assert (unseen_emission(noises, [small, large]) == []) == explained
    large.candidate.status = DROPPED
    assert unseen_emission(noises, [small, large])


# --- patches ---


@pytest.mark.parametrize(("pixels", "measured"), [(2, False), (3, True)])
def test_lines_of_a_patch_are_measured_in_three_pixels_or_more(pixels, measured):
    patch = np.zeros((12, 12), bool)
    patch[5, 3 : 3 + pixels] = True
    channel = 5.0 + np.arange(12)[None, :] * np.ones((12, 1))
    made = of_lines(patch, seen_window(noise(CHANNELS, 12, 12), 20.0, channel))
    assert made["line_share"] == 1
    assert (made["width"] > 0) == (made["channel_spread"] > 0) == measured
    assert made["gradient"] == (pytest.approx(1) if measured else 0)


def test_the_surroundings_of_a_patch_begin_a_beam_from_it_if_there_is_room():
    cube, total = noise(CHANNELS, 20, 20), np.ones(CHANNELS)
    snr = np.full((20, 20), 3.0)
    snr[:, :4] = 9.0
    patch = np.zeros((20, 20), bool)
    patch[4:16, 8:12] = True
    assert of_surroundings(patch, seen_window(cube, snr), total)["other_peak"] == pytest.approx(9, rel=1e-4)
    patch[:, 2:] = True  # a beam from it nothing is left, but beside it there is
    made = of_surroundings(patch, seen_window(cube, snr), total)
    assert (made["floor"], made["other_peak"]) == (pytest.approx(9, rel=1e-4), pytest.approx(9, rel=1e-4))
    nothing = of_surroundings(np.ones((20, 20), bool), seen_window(cube, snr), total)
    assert nothing == {"floor": 0.0, "other_peak": 0.0, "symmetry": 0.0, "correlation": 0.0, "spread": 1.0}


# --- places and cutouts ---


@pytest.mark.parametrize(
    ("kind", "peaks", "level"),
    [
        ("continuum", (), 4.0),
        ("both", (EmissionPeak(12, 1.0, 1.0, 12.0, 4.0),), 4.0),
        ("line", (EmissionPeak(12, 1.0, 1.0, 12.0, 4.0),), 0.0),
    ],
)
def test_a_source_is_expected_to_show_its_continuum_and_lines(kind, peaks, level):
    spectrum = np.full(CHANNELS, 4.0)
    spectrum += sum(10 * np.exp(-4 * np.log(2) * ((np.arange(CHANNELS) - p.centre) / p.fwhm) ** 2) for p in peaks)
    one = found()
    one.spectrum, one.candidate.kind, one.candidate.peaks = spectrum, kind, peaks
    assert expected_spectrum(one)[0] == pytest.approx(level, abs=0.1)


def test_a_line_as_wide_as_the_band_has_no_continuum_beside_it():
    one = found()
    one.candidate.kind, one.candidate.peaks = "both", (EmissionPeak(12, 1.0, 1.0, 12.0, 60.0),)
    assert expected_spectrum(one)[12] == pytest.approx(1, abs=0.3)


def test_a_source_of_which_nothing_is_known_is_expected_to_be_flat():
    one = found()
    one.spectrum = np.zeros(CHANNELS, np.float32)
    np.testing.assert_array_equal(expected_spectrum(one), np.ones(CHANNELS))


CUBE = Cube.from_array(noise(CHANNELS, SIDE, SIDE))
STACKED = np.zeros((SIDE, SIDE), np.float32)


def test_an_extended_source_has_its_own_box_and_others_that_of_their_gaussian():
    own = Box(5, 30, 7, 40)
    cutout_of(one := found(box=own), CUBE, STACKED, Settings(crop=8))
    assert one.candidate.box == own
    cutout_of(one := found(), CUBE, STACKED, Settings(crop=8))
    assert one.candidate.box == Box(17, 24, 17, 24)  # within 3.6 pixels, where it exceeds a tenth


@pytest.mark.parametrize(
    ("side", "memory", "fits"),
    [(40, 1.01, True), (40, 0.99, False), (16, 0.01, True)],  # no larger than any other cutout
)
def test_a_large_cutout_needs_six_times_its_size(side, memory, fits):
    needed = 6 * 4 * CHANNELS * side**2 / 1e9
    one = found(box=Box(2, 2 + side, 2, 2 + side))
    cutout = cutout_of(one, CUBE, STACKED, Settings(crop=16, memory=memory * needed))
    assert (cutout is not None) == fits
    assert any(d.rule == "too_large_to_measure" for d in one.candidate.decisions) != fits
    focus_on(one, cutout, Settings(crop=16))
    assert (one.candidate.focused is not None) == fits


@pytest.fixture
def focusing(monkeypatch):
    """:func:`focus_detection` with its parts replaced: what it does with a detection, in a cutout that holds a box."""
    done: list = []

    def run(one: RawDetection, others=(), parted=None, cutout: bool = True, holds: bool = True) -> list:
        made = SimpleNamespace(holds=lambda box: holds) if cutout else None
        monkeypatch.setattr(positions, "cutout_of", lambda f, *_: done.append(("cutout", f.candidate.id)) or made)
        monkeypatch.setattr(positions, "part_by_lines", lambda *_: done.append("parted?") or parted)
        monkeypatch.setattr(positions, "best_place", lambda *_: done.append("moved") or (21.0, 22.0))
        monkeypatch.setattr(positions, "focus_on", lambda f, *_: done.append(("focus", f.candidate.id)))
        detections = [one, *others]
        focus_detection(one, detections, CUBE, STACKED, Settings())
        return [*done, len(detections)]

    return run


FIRST, FOCUS = ("cutout", 1), ("focus", 1)


def test_a_detection_alone_is_moved_to_its_best_place(focusing):
    one = found()
    assert focusing(one) == [FIRST, "parted?", "moved", FOCUS, 1]
    assert (one.y, one.x) == (21.0, 22.0)
    assert one.candidate.box == Box(18, 25, 19, 26)


@pytest.mark.parametrize(
    ("case", "done"),
    [
        ({"one": {}, "cutout": False}, [FIRST, 1]),  # too large
        ({"one": {"status": DROPPED}}, [FIRST, FOCUS, 1]),
        ({"one": {}, "holds": False}, [FIRST, "parted?", "moved", FIRST, FOCUS, 1]),
        ({"one": {"box": Box(5, 30, 7, 40)}}, [FIRST, "parted?", FOCUS, 1]),
        ({"one": {}, "others": [found(y=23, number=2)]}, [FIRST, "parted?", FOCUS, 2]),
        ({"one": {}, "others": [found(y=40, number=2)]}, [FIRST, "parted?", "moved", FOCUS, 2]),
        ({"one": {}, "parted": found(number=9)}, [FIRST, "parted?", ("cutout", 9), ("focus", 9), FIRST, FOCUS, 2]),
    ],
)  # fmt: skip
def test_what_is_done_with_a_detection_follows_from_what_it_is_and_what_is_near(focusing, case, done):
    assert focusing(found(**case.pop("one")), **case) == done


# --- the inverted cube ---


@pytest.mark.parametrize(
    ("status", "y", "x", "counts"),
    [
        *((KEPT, 50, 50, False), (FLAGGED, 50, 50, False), (DROPPED, 50, 50, True)),
        *((KEPT, 50, 67.4, False), (KEPT, 50, 67.6, True), (KEPT, 50, 32.4, True), (KEPT, 50, 32.6, False)),
        *((KEPT, 67.4, 50, False), (KEPT, 67.6, 50, True), (KEPT, 32.4, 50, True)),
    ],
)
def test_only_a_source_that_was_not_dropped_explains_negatives_about_it(monkeypatch, status, y, x, counts):
    """In its box, of rows and columns 45 to 55, and a beam of twelve pixels about it."""

    def of(y: float, x: float, snr: float, status: Status = KEPT) -> Candidate:
        one = Candidate(1, Box(45, 56, 45, 56), 0.9, status=status)
        one.y, one.x, one.snr_pixel = y, x, snr
        return one

    def search(*_, **__):
        yield Progress("Searching", 0, 1)
        return SimpleNamespace(record={"scales": {"beam": 12.0}}, candidates=[of(y, x, 40)])

    monkeypatch.setattr(pipeline, "search_steps", search)
    assert bool(finish(find_negatives.steps(None, None, None, [of(50, 50, 100.0, status)]))) == counts


# --- residuals ---


def test_a_patch_is_seen_at_its_brightest_pixel_and_others_at_their_place():
    measure_residuals([], None)
    patch = extent_of(place=(3, 4))
    assert place_of(found(20.2, 30.4)) == (20, 30)
    assert place_of(found(20.2, 30.4, box=Box(2, 30, 2, 30), extent=patch)) == (3, 4)
    assert place_of(found(20.2, 30.4, extent=patch)) == (20, 30)
    assert place_of(found(20.2, 30.4, box=Box(2, 30, 2, 30))) == (20, 30)


def test_a_resolved_source_has_its_snr_over_residuals_at_its_size_and_a_patch_in_its_pixel():
    image = noise(SIDE, SIDE)
    image += 5 * np.exp(-4 * np.log(2) * np.hypot(*(np.indices(image.shape) - 20)) ** 2 / 12**2)
    image[20, 20] = 5.0
    seen = seen_window(noise(CHANNELS, SIDE, SIDE))
    values = {"fwhm_y": 3.0, "fwhm_x": 3.0, "residuals": 2.0}
    assert snr_over_residuals(found(box=Box(2, 30, 2, 30), **values), (20, 20), image, seen) == 2.5
    assert snr_over_residuals(found(**values), (20, 20), image, seen) > 5


# --- two sources or one ---


class Likely:
    """Highest for one source at (0, 0), and, by ``sigma`` squared, for two at (0, 0) and ``apart`` beams from it."""

    beam = np.eye(2) * (10 / 2.3548) ** 2

    def __init__(self, sigma: float, apart: float, size: float = 0.0):
        self.sigma, self.apart, self.size, self.widest = sigma, apart, size, 0.0

    def __call__(self, blobs: list[Blob]) -> float:
        places = [np.zeros(2), np.array([0.0, 10 * self.apart])]
        near = sum(((blob.place - place) ** 2).sum() for blob, place in zip(blobs, places, strict=False))
        sizes = [np.linalg.det(blob.shape) ** 0.25 for blob in blobs]
        if len(blobs) == 2:
            self.widest = max(self.widest, *sizes)
        return 1000 + self.sigma**2 * (len(blobs) == 2) - near + self.size * min(sizes)


@pytest.mark.parametrize(
    ("sigma", "apart", "two"),
    [
        *((5.8, 1.0, False), (6.2, 1.0, True)),
        *((20, 0.67, False), (20, 0.73, True), (20, 1.67, True), (20, 1.73, False)),
    ],
)
def test_two_sources_are_two_by_six_sigma_and_from_seven_tenths_to_seventeen_tenths_of_a_beam(sigma, apart, two):
    at = Blob.round(0.0, 0.0, 1.0), Blob.round(0.0, 10 * apart, 1.0)
    assert (two_sources(Likely(sigma, apart), *at, []) is not None) == two


def test_a_source_of_two_is_at_most_two_beams_wide_and_no_narrower_than_pixels_show():
    likely = Likely(20, 1.0, size=50.0)
    two_sources(likely, Blob.round(0.0, 0.0, 1.0), Blob.round(0.0, 10.0, 1.0), [])
    sigma = 10 / 2.3548
    assert likely.widest == pytest.approx(np.hypot(2 * sigma, SAMPLED), rel=1e-3)
    assert Blob.round(0, 0, 0.0).shape == pytest.approx(0.36 * np.eye(2))


# --- measuring ---


@pytest.mark.parametrize(("memory", "sides"), [(1.01, 2), (0.99, 1)])
def test_a_larger_cutout_needs_twelve_times_its_size(monkeypatch, memory, sides):
    asked = measured_sides(monkeypatch, memory * 12 * 4 * CHANNELS * (2 * 32 + 1) ** 2 / 1e9, enough=2)
    assert asked == [20, 32][:sides]


def test_a_mask_that_never_ends_is_given_eight_cutouts(monkeypatch):
    assert len(measured_sides(monkeypatch, 1e9, enough=100)) == 8


@pytest.mark.parametrize(
    ("method", "thorough", "sides", "absorption"),
    [("mask", True, [20, 32], True), ("mask", False, [12], False), ("point", True, [20], True)],
)
def test_only_a_mask_that_is_measured_thoroughly_gets_a_larger_cutout(monkeypatch, method, thorough, sides, absorption):
    """And lines in absorption are looked for in what is measured thoroughly."""
    looked: list = []
    assert measured_sides(monkeypatch, 1e9, 2, method, thorough, looked) == sides
    assert bool(looked) == absorption


@pytest.mark.parametrize("brief", [False, True])
def test_patches_are_joined_and_blends_marked_when_all_is_measured(monkeypatch, brief):
    done: list = []
    monkeypatch.setattr(measuring, "join_small_patches", lambda order: done.append("join") or [])
    monkeypatch.setattr(measuring, "mark_blends", lambda order: done.append("mark"))
    finish(measuring.measure_detections(CUBE, [], [], None, STACKED, Settings(), brief))
    assert done == ([] if brief else ["join", "mark"])


def test_an_object_that_got_pieces_is_measured_again_with_them(monkeypatch):
    measured_now: list[tuple[int, bool]] = []
    whole, other = found(box=Box(5, 30, 5, 30)), found(number=2, status=Status.DROPPED)
    for one in (whole, other):
        one.candidate.focused = np.ones((3, 3), np.float32)
    monkeypatch.setattr(measuring, "measure_one", lambda one, *how: measured_now.append((one.candidate.id, how[-2])))
    monkeypatch.setattr(measuring, "join_small_patches", lambda order: [whole])
    finish(measuring.measure_detections(CUBE, [whole, other], [whole, other], None, STACKED, Settings()))
    assert measured_now == [(1, True), (2, False), (1, True)]


def test_an_extended_source_that_could_not_be_measured_is_blended_with_nothing():
    """It has no mask."""
    one = found(box=Box(5, 30, 5, 30))
    measuring.mark_blends([one, found(number=2)])
    assert not one.candidate.blended


def measured_sides(
    monkeypatch, memory: float, enough: int, method: str = "mask", thorough: bool = True, looked: list | None = None
) -> list[int]:
    """Half sides of the cutouts in which a source is measured whose mask fits in the ``enough``-th."""
    asked: list[int] = []
    made = SimpleNamespace(method=method, shape=None, parts=SimpleNamespace(merged=()))
    monkeypatch.setattr(measuring, "region", lambda cube, detection, noise, half, beam: asked.append(half))
    monkeypatch.setattr(measuring, "inside", lambda *_: False)
    monkeypatch.setattr(measuring, "measure_candidate", lambda *_: made)
    monkeypatch.setattr(measuring, "reaches_border", lambda *_: len(asked) < enough)
    for name in ("reach_of", "boxed_flux", "scale_of"):
        monkeypatch.setattr(measuring, name, lambda *_: 6.0)
    monkeypatch.setattr(measuring, "find_absorption", lambda *_: (looked if looked is not None else []).append(1))
    one, cube = found(), SimpleNamespace(shape=(CHANNELS, 500, 500))
    measuring.measured(cube, one, [one], None, Settings(memory=memory), thorough, {})
    return asked


# --- the steps of a search ---


@pytest.fixture
def steps(monkeypatch):
    """:func:`pipeline.search_steps` with its parts replaced: what it asks, with so many windows."""
    asked: list = []

    def run(number: int, beforehand=None, of_windows=None, measured=None) -> list:
        noises = [
            None if d is None else SimpleNamespace(decision=d, subtracted=0.5) for d in (measured or [None] * number)
        ]
        answers = {
            "Reading the beam": [5.0],
            "Measuring the noise": ["noise"],
            "Estimating the dirty beam": of_windows,
            "Searching windows": [SimpleNamespace(noise=one) for one in noises],
            "Measuring extended emission": [found(number=0)],
        }

        def each_of(task, items, *shared, stage, client):
            asked.append((stage, shared[-1]) if stage == "Searching windows" else stage)
            yield Progress(stage, 0, 1)
            return answers[stage]

        replaced = {
            "each": each_of,
            "windows": lambda *_: [WINDOW] * number,
            "decided_beforehand": lambda *_: beforehand,
            "mosaic_of_windows": lambda *_: (None, None, None),
            "merge_windows": lambda *_: [found()],
            "drop_sidelobes_across_windows": lambda *_: asked.append("drop"),
            "merge_extended_across_windows": lambda detections, *_: (detections, ["patch"]),
            "after_search": lambda decision, noises: asked.append(("after", decision, noises)) or decision,
            "search_warnings": lambda *_: [],
            "search_record": lambda *_: {},
        }
        for name, function in replaced.items():
            monkeypatch.setattr(pipeline, name, function)
        result = finish(pipeline.search_steps(Cube.from_array(noise(4, 8, 8)), Settings(), None))
        return [*asked[2:], [c.id for c in result.candidates]]

    return run


FAINT, BRIGHT, TOLD = (
    nothing_bright(3.0),
    BeamDecision("dirty", "estimated", {"snr": 90.0}),
    BeamDecision("clean", "told", {}),
)


def test_a_field_of_one_window_is_decided_and_measured_there(steps):
    assert steps(1, measured=[BRIGHT]) == [("Searching windows", None), ("after", BRIGHT, [(BRIGHT, 0.5)]), [1]]


def test_of_a_field_of_several_windows_one_decision_is_made_first(steps):
    assert steps(2, of_windows=[FAINT, BRIGHT], measured=[FAINT, None]) == [
        "Estimating the dirty beam",
        ("Searching windows", BRIGHT),
        "drop",
        "Measuring extended emission",
        ("after", BRIGHT, [(FAINT, 0.5)]),
        [1, 2],
    ]


def test_what_was_decided_beforehand_is_not_decided_again(steps):
    for number in (1, 2):
        asked = steps(number, beforehand=TOLD, measured=[BRIGHT, None][:number])
        assert ("Searching windows", TOLD) in asked
        assert "Estimating the dirty beam" not in asked
        assert any(one[:2] == ("after", TOLD) for one in asked if isinstance(one, tuple))


def test_a_window_without_data_decides_nothing(steps):
    assert steps(1, measured=[None])[1] == ("after", nothing_bright(0.0), [])


@pytest.mark.parametrize(
    ("units", "beam", "decided"), [("units", "beam", True), (None, "beam", False), ("units", None, False)]
)
def test_a_window_decides_with_data_and_a_beam(monkeypatch, units, beam, decided):
    def read(*_):
        yield Progress("Reading", 0, 1)
        return units, None

    monkeypatch.setattr(pipeline, "read_in_noise_units", read)
    monkeypatch.setattr(pipeline, "header_beam_in", lambda *_: beam)
    monkeypatch.setattr(pipeline, "decide", lambda *given, **named: (*given, named))
    answer = finish(pipeline.decide_window.steps(WINDOW, CUBE, BEAM))
    assert answer == (("units", BEAM, "beam", {"k": WINDOW.k}) if decided else nothing_bright(0.0))


@pytest.fixture
def replaced(monkeypatch):
    """The parts of a window's search replaced by notes of what they are asked."""
    asked: list = []

    def step(name: str, answer=None):
        def steps(*given, **named):
            asked.append((name, given, named))
            yield Progress(name, 0, 1)
            return answer

        return steps

    detections = [found(number=1), found(y=200.0, number=2)]
    answers = {
        "source_detection": ("images", detections, [Smoothed()], "summary", "stacked"),
        "frequency_denoising": None,
        "classify": None,
        "ready_to_measure": ("held", detections[:1]),
        "source_spectral_focusing": None,
        "measure_detections": None,
        "read_patch": (np.ones(CHANNELS), "stacked"),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pipeline, name, step(name, answer))
    monkeypatch.setattr(pipeline, "noise_of", SimpleNamespace(steps=step("noise_of", "own noise")))
    monkeypatch.setattr(pipeline, "load_once", lambda settings: "loaded")
    monkeypatch.setattr(pipeline, "negative", lambda cube: ("negative", cube))
    monkeypatch.setattr(pipeline, "part_of", lambda *given: given)
    return asked


def given_to(asked: list, name: str) -> tuple:
    """What a step was given, of a window at full resolution."""
    return next(given for called, given, _ in asked if called == name)


@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_window_is_searched_with_what_is_known_of_networks_and_noise(replaced, negated, known):
    """Else they are loaded and measured; what is measured are the detections that are ready for it."""
    networks, own = ("networks", "noise") if known else (None, None)
    finish(pipeline.search_part.steps(WINDOW, "cube", BEAM, "settings", networks, negated, own))
    searched, held = (("negative", "cube"), ("negative", "held")) if negated else ("cube", "held")
    assert given_to(replaced, "source_detection")[0] == searched
    assert given_to(replaced, "classify")[2] == ("networks" if known else "loaded")
    cube, near, everything, noise_given, *_ = given_to(replaced, "measure_detections")
    assert (cube, noise_given) == (held, "noise" if known else "own noise")
    assert ([f.candidate.id for f in near], len(everything)) == ([1], 2)
    assert [name for name, *_ in replaced].count("noise_of") == (not known)


@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_patch_over_windows_is_searched_with_what_is_known_of_networks_and_noise(replaced, negated, known):
    networks, own = ("networks", "noise") if known else (None, None)
    finish(pipeline.search_patch.steps((found(), "patch"), "cube", "settings", networks, negated, own))
    cube = ("negative", "cube") if negated else "cube"
    assert given_to(replaced, "read_patch")[0] == cube
    assert given_to(replaced, "classify")[2] == ("networks" if known else "loaded")
    assert given_to(replaced, "measure_detections")[0] == cube
    assert given_to(replaced, "measure_detections")[3] == ("noise" if known else "own noise")
    assert [name for name, *_ in replaced].count("noise_of") == (not known)
