"""Single rules of the search, each with a value on either side of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import whole_window

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.cube.cube import Cube
from napari_almadet.progress import finish
from napari_almadet.search import line_detection
from napari_almadet.search.beam_decision import BeamDecision, lobe_axes, may_be_dirty
from napari_almadet.search.line_detection import distinct, find_lines_again, frequency_denoising, resolutions
from napari_almadet.search.line_maps import BAND, NARROW, WIDTHS, bands
from napari_almadet.search.measure_detections import drop_without_flux, inside, reaches_border
from napari_almadet.search.noise_units import lag_of
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.settings import Settings

WINDOW = whole_window(60)


# --- lines ---


@pytest.mark.parametrize(
    ("channels", "averaged"), [(1, [1]), (255, [1]), (256, [1, 4]), (1023, [1, 4]), (1024, [1, 4, 16])]
)
def test_channels_are_averaged_by_fours_as_long_as_64_are_left(channels, averaged):
    assert resolutions(channels) == averaged


@pytest.mark.parametrize(
    ("apart", "wider", "kept"), [(0.09, 1.0, 1), (0.11, 1.0, 2), (0.0, 1.09, 1), (0.0, 1.12, 2), (0.08, 1.08, 1)]
)
def test_fits_that_agree_within_a_tenth_of_the_width_are_one_line(apart, wider, kept):
    peaks = [EmissionPeak(50, 0.9, 1.0, 50.0, 10.0), EmissionPeak(51, 0.8, 1.0, 50 + 10 * apart, 10 * wider)]
    assert len(distinct(peaks)) == kept


def test_a_source_without_a_line_is_continuum_however_bright():
    """Line Finder sees nothing in a flat spectrum of 40 sigma in each channel."""
    spectrum = np.full(96, 40, np.float32)
    candidate = Candidate(1, Box(0, 1, 0, 1), 0.9)
    detection = RawDetection(candidate, 5.0, 5.0, 2.0, 2.0, spectrum, Features(snr_own_line=30.0), WINDOW)
    finish(frequency_denoising([detection], Settings(), SearchNetworks(None, torch.zeros_like, None)))
    assert (candidate.peaks, candidate.kind) == ((), "continuum")


def test_bands_of_long_spectra_are_searched_for_narrow_lines_only():
    values = torch.zeros(2 * BAND)
    first, *others = list(bands(values, torch.ones(2 * BAND)))
    assert max(first.widths) == NARROW
    assert max(max(band.widths) for band in others) > NARROW  # in averaged channels
    assert max(next(bands(torch.zeros(BAND), torch.ones(BAND))).widths) == max(WIDTHS)


def test_a_line_between_two_trial_widths_keeps_95_percent_of_its_signal():
    """Matched filters of width v lose sqrt(2 v w / (v^2 + w^2)) of a Gaussian line of width w."""
    widths = np.array(WIDTHS)
    between = np.sqrt(widths[:-1] * widths[1:])
    kept = np.sqrt(2 * widths[:-1] * between / (widths[:-1] ** 2 + between**2))
    assert kept.min() > 0.95


@pytest.mark.parametrize(("channels", "lag"), [(2, 1), (3, 1), (4, 1), (8, 2), (12, 3), (100, 3)])
def test_noise_is_measured_three_channels_apart_and_closer_in_short_cubes(channels, lag):
    assert lag_of(channels) == lag


def test_without_detections_no_network_is_asked():
    assert finish(frequency_denoising([], Settings(), None)) is None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("known", [0, 1, 96])
def test_the_spectrum_of_a_drawn_box_without_noise_has_no_line(known):
    """In no channel, in one, and where all are the same there are no differences to estimate the noise from."""
    candidate, planes = Candidate(1, Box(2, 5, 2, 5), 1.0), np.full((96, 8, 8), np.nan, np.float32)
    planes[:known] = 3
    cube = Cube.from_array(planes, name="made")
    find_lines_again(candidate, cube, Settings(), SearchNetworks(None, torch.ones_like, None))
    assert (candidate.peaks, candidate.channels) == ((), (0, len(planes)))
    assert candidate.denoised.shape == (len(planes),)


def test_the_line_of_a_drawn_box_is_found_by_its_own_noise():
    spectrum = np.random.default_rng(1).normal(size=96) + 30 * np.exp(-(((np.arange(96) - 40) / 3) ** 2))
    cube = Cube.from_array(np.broadcast_to(7e-6 * spectrum[:, None, None], (96, 8, 8)).astype(np.float32), name="made")
    candidate = Candidate(1, Box(2, 5, 2, 5), 1.0)
    networks = SearchNetworks(None, lambda spectra: (spectra / 10).clamp(0, 1), None)
    find_lines_again(candidate, cube, Settings(), networks)
    assert candidate.peaks[0].centre == pytest.approx(40, abs=0.2)
    assert candidate.peaks[0].fwhm == pytest.approx(3 * 2 * np.sqrt(np.log(2)), rel=0.1)


def test_a_peak_that_no_gaussian_fits_stays_as_it_is(monkeypatch):
    peak = EmissionPeak(40, 0.9, 1.0, 40.2, 5.0)
    monkeypatch.setattr(line_detection, "gaussian_in", lambda *_: None)
    assert line_detection.refined(peak, np.zeros(96)) is peak


# --- dirty or not ---

DOUBTFUL = {"lobe": [1.0, 1.0], "slope": 0.5, "visible": 0.1, "explained": 0.15}


@pytest.mark.parametrize(
    ("rule", "changed", "doubtful"),
    [
        ("slope", {}, True),
        ("lobe", {"lobe": [1.24, 1.0]}, True),
        ("lobe", {"lobe": [1.26, 1.0]}, False),
        ("lobe", {"lobe": [1.0, 0.79]}, False),
        ("slope", {"visible": 0.02}, False),
        ("slope", {"slope": 0.29}, False),
        ("slope", {"slope": 1.3}, True),
        ("slope", {"slope": 8.8}, False),  # a resolved galaxy in a clean cube: no dirty beam has such sidelobes
        ("unexplained", {"slope": 0.66, "explained": 0.025}, False),  # likewise
        ("filled", {}, False),
        ("estimated", {}, False),
        ("unexplained", {}, True),
        ("narrow lobe", {"lobe": [0.9, 0.9]}, True),
    ],
)
def test_a_cube_is_doubtful_if_its_noise_nearly_has_the_beam_and_sidelobes_are_seen(rule, changed, doubtful):
    assert BeamDecision("clean", rule, {**DOUBTFUL, **changed}).doubtful == doubtful


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("slope", "a dirty cube shows 60% or more of them"),
        ("lobe", "over more or less than the header's beam"),
        ("narrow lobe", "over less than the header's beam"),
        ("unexplained", "has another shape, as extended emission has"),
        ("header", "CLEANed or smoothed (imsmooth)"),
    ],
)
def test_the_warning_of_a_cube_that_may_be_dirty_says_why_it_is_not_taken_for_dirty(rule, says):
    text = may_be_dirty(BeamDecision("clean", rule, {**DOUBTFUL, "says": "imsmooth"}))
    assert "50% of the sidelobes" in text
    assert says in text


# a dirty cube of the scenario "smoothed"
SMOOTHED = {"lobe": [1.37, 1.36], "slope": 0.95, "err_slope": 0.02, "explained": 0.88, "visible": 3.7}


@pytest.mark.parametrize(
    ("rule", "changed", "smoothed"),
    [
        ("lobe", {}, True),
        ("lobe", {"slope": 0.05}, False),  # the sources of a CLEANed cube have no sidelobes
        ("lobe", {"slope": 1.5}, False),
        ("lobe", {"err_slope": 0.3}, False),
        ("lobe", {"explained": 0.4}, False),
        ("lobe", {"visible": 0.02}, False),
        ("lobe", {"lobe": [1.37, 1.05]}, False),
        ("header", {"says": "imsmooth"}, False),
    ],
)
def test_a_dirty_cube_that_was_smoothed_is_taken_for_clean_with_a_warning(rule, changed, smoothed):
    decision = BeamDecision("clean", rule, {**SMOOTHED, **changed})
    assert decision.perhaps_smoothed == smoothed
    assert ("too high" in may_be_dirty(decision)) == smoothed


@pytest.mark.parametrize(
    ("pixels", "known"), [(((0, 1), (1, 0), (0, -1)), False), (((0, 1), (1, 0), (0, -1), (-1, 0)), True)]
)
def test_a_lobe_needs_four_pixels_beside_its_peak(pixels, known):
    psf = torch.zeros(64, 64)
    psf[0, 0] = 1
    for y, x in pixels:
        psf[y, x] = 0.5
    assert np.isfinite(lobe_axes(psf)).all() == known


# --- measuring ---


@pytest.mark.parametrize(
    ("y", "x", "answer"),
    [
        (9.6, 25.0, True),
        (9.4, 25.0, False),
        (19.4, 25.0, True),
        (19.6, 25.0, False),
        (15.0, 19.4, False),
        (15.0, 34.6, False),
        (15.0, 19.6, True),
        (15.0, 34.4, True),
    ],
)
def test_a_centre_is_inside_a_cutout_up_to_the_outer_edges_of_its_pixels(y, x, answer):
    """The cutout has rows 10 to 19 and columns 20 to 34."""
    cutout = SimpleNamespace(origin=(10, 20), planes=np.zeros((3, 10, 15)))
    assert inside(SimpleNamespace(y=y, x=x), cutout) == answer


@pytest.mark.parametrize("at_edge_of_field", [False, True])
@pytest.mark.parametrize("pixel", [(0, 4), (5, 0), (-1, 4), (5, -1)])
def test_a_mask_at_an_edge_of_its_cutout_needs_a_larger_one_unless_the_field_ends_there(pixel, at_edge_of_field):
    mask = np.zeros((3, 10, 12), bool)
    made = SimpleNamespace(parts=SimpleNamespace(mask=mask))
    cutout = SimpleNamespace(origin=(0, 0) if at_edge_of_field else (10, 10), planes=mask)
    cube = SimpleNamespace(shape=(3, 10, 12) if at_edge_of_field else (3, 50, 50))
    mask[1, 5, 5] = True
    assert not reaches_border(made, cutout, cube)
    mask[(1, *pixel)] = True
    assert reaches_border(made, cutout, cube) != at_edge_of_field


@pytest.mark.parametrize(
    ("kind", "f_cont", "f_sum", "boxed", "absorbed", "status"),
    [
        ("continuum", -1.0, 2.0, 1.0, np.nan, Status.DROPPED),
        ("continuum", 1.0, -2.0, 1.0, np.nan, Status.KEPT),  # a continuum source has no line to be negative
        ("line", -1.0, 2.0, 1.0, np.nan, Status.KEPT),
        ("line", 1.0, -2.0, 1.0, np.nan, Status.DROPPED),
        ("line", 1.0, 2.0, -1.0, np.nan, Status.DROPPED),
        ("both", -1.0, -2.0, -1.0, np.nan, Status.KEPT),
        ("line", 1.0, -2.0, 1.0, 8.0, Status.KEPT),  # absorption
    ],
)
def test_a_negative_flux_of_its_own_kind_drops_a_candidate(kind, f_cont, f_sum, boxed, absorbed, status):
    candidate = Candidate(1, Box(0, 5, 0, 5), 0.9, kind=kind, status=Status.KEPT)
    candidate.f_cont, candidate.f_sum, candidate.abs_snr = f_cont, f_sum, absorbed
    drop_without_flux(candidate, boxed)
    assert candidate.status is status
