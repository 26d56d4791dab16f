"""Limits of the search's steps, each with a value on either side."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import extent_of, searched_window, units_of, whole_window
from scipy import ndimage
from scipy.stats import median_abs_deviation

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.measure.cutout import Cutout
from napari_almadet.progress import Progress, finish
from napari_almadet.search import beam_decision, clean, connected_patches, dirty_beam, pipeline
from napari_almadet.search import measure_detections as measuring
from napari_almadet.search.beam_decision import Surroundings, clean_depth, decide, lobe_axes, nearest_lobe, verdict
from napari_almadet.search.clean import without_sidelobes
from napari_almadet.search.components import SCALES, fit_components, gaussian, responses_at, responses_of, widened
from napari_almadet.search.connected_patches import bridged, connected, line_image, line_voxels, object_numbers
from napari_almadet.search.dirty_beam import flattened, residual_variance, weighted_psf
from napari_almadet.search.extended_emission import (
    part_by_lines,
    place_of,
    separated_by_lines,
    without_jumps,
)
from napari_almadet.search.features import (
    encode_extent,
    measure_features,
    quiet_spectra,
    symmetry_and_correlation,
)
from napari_almadet.search.line_maps import MAPS, WIDTHS
from napari_almadet.search.merge_windows import NoiseSummary, Part, merge_windows
from napari_almadet.search.out_of_distribution import unseen_emission
from napari_almadet.search.patch_properties import SearchedWindow, of_lines, of_spectrum
from napari_almadet.search.positions import best_place, is_isolated, weighted_with
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.reliability import find_negatives, notes, reliability
from napari_almadet.search.windows import Window
from napari_almadet.settings import Settings

CHANNELS, SIDE, BEAM = 24, 64, 4.0
WINDOW = whole_window(SIDE)
KEPT, FLAGGED, DROPPED = Status


def window_of(cube: np.ndarray, channel: np.ndarray | float, width: np.ndarray | float, snr: float = 20.0):
    """A searched window whose best lines have such channels and widths."""
    return searched_window(cube, BEAM, line=snr, channel=channel, width=width)


def found(y: float = 30.0, x: float = 30.0, number: int = 1, status: Status = KEPT, **values) -> RawDetection:
    features = Features(**{name: value for name, value in values.items() if hasattr(Features, name)})
    own = {name: value for name, value in values.items() if not hasattr(Features, name)}
    candidate = Candidate(number, Box(0, 1, 0, 1), 0.9, status=status)
    one = RawDetection(candidate, y, x, BEAM / 2.3548, BEAM / 2.3548, np.ones(CHANNELS, np.float32), features, WINDOW)
    return replace(one, **own)


def elongated(fwhm: float, angle: float) -> np.ndarray:
    """Covariance along x and y of a beam twice as long as wide with the area of a round one, at a position angle."""
    turn = np.radians(angle)
    axes = np.array([[-np.sin(turn), np.cos(turn)], [np.cos(turn), np.sin(turn)]])  # major, minor
    return axes.T @ np.diag([2.0, 0.5]) @ axes * (fwhm / 2.3548) ** 2


def line(centre: float, fwhm: float, n: int = CHANNELS) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((np.arange(n) - centre) / fwhm) ** 2)


# --- is the cube dirty? ---

GOOD = {"lobe": [1.0, 1.0], "filled": 0.1, "visible": 0.1, "slope": 1.0, "err_slope": 0.1, "explained": 0.6}


@pytest.mark.parametrize(("error", "rule"), [(0.2, "estimated"), (0.3, "slope")])
def test_sidelobes_are_seen_if_their_slope_is_four_sigma(error, rule):
    assert verdict(GOOD | {"err_slope": error})[1] == rule


def test_the_lobe_of_a_beam_is_fitted_where_it_is_over_four_tenths_of_its_peak():
    """A shoulder of three tenths is none of it."""
    y, x = np.meshgrid(np.fft.fftfreq(64, 1 / 64), np.fft.fftfreq(64, 1 / 64), indexing="ij")
    apart = np.hypot(y, x)
    image = np.where((apart > 3) & (apart < 6), 0.3, np.exp(-4 * np.log(2) * apart**2 / 5.0**2))
    assert lobe_axes(torch.from_numpy(image)) == pytest.approx([5, 5], rel=0.01)


def noise_of_weights(steepness: float) -> torch.Tensor:
    """Autocorrelation of noise whose power rises outward in the uv plane, as uniform weights leave it."""
    k = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)[None])
    power = torch.where(k < 0.12, torch.exp(steepness * (k / 0.12) ** 2), 0.0)
    psf = torch.fft.irfft2(power, s=(128, 128))
    return psf / psf[0, 0]


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_beam_of_noise_with_a_narrow_lobe_is_that_of_the_weights_whose_lobe_is_as_wide_as_the_headers(power):
    psf = noise_of_weights(3.5)
    axes = lobe_axes(flattened(psf, power))
    chosen, ratio = nearest_lobe(psf, np.diag((axes / 2.3548) ** 2))
    assert ratio == pytest.approx([1, 1], abs=0.02)
    assert torch.allclose(chosen, flattened(psf, power))


@pytest.mark.parametrize(("ratio", "natural"), [(0.96, True), (0.94, False)])
def test_a_lobe_within_five_percent_of_the_headers_is_that_of_natural_weights(ratio, natural):
    psf = noise_of_weights(2.0)
    beam = np.diag((lobe_axes(psf) / ratio / 2.3548) ** 2)
    assert (nearest_lobe(psf, beam)[0] is psf) == natural


def test_sources_of_three_tenths_of_the_brightest_show_whether_a_cube_is_dirty(monkeypatch):
    seen = []
    monkeypatch.setattr(beam_decision, "nearest_lobe", lambda *_: (None, np.ones(2)))
    monkeypatch.setattr(beam_decision, "surroundings", lambda units, psf, places, *_: seen.extend(places))
    for name, made in (("compared", GOOD), ("clean_depth", None)):
        monkeypatch.setattr(beam_decision, name, lambda *_, made=made: made)
    snr = torch.zeros(SIDE, SIDE)
    snr[10, 10], snr[10, 40], snr[40, 13] = 100.0, 35.0, 25.0
    corrected = SimpleNamespace(units=units_of(np.zeros((CHANNELS, SIDE, SIDE))), noise=(None, None))
    decide(corrected.units, BEAM, np.eye(2), snr, corrected)
    assert sorted(seen) == [(10, 10), (10, 40)]


def depth_of(channels: int, gained: float | None = None) -> tuple[float | None, float]:
    """Depth of a CLEAN down to a flat continuum, of a source with one bright channel, and the true one.

    With 1 in each channel and 1 + b in one, a share explains (n + b)^2 / (n + 2 b + b^2) of n, and the level all of it.
    What it gains is set by the power of the sidelobes: some number of beams' areas, or very much.
    """
    level = min(beam_decision.LEVELS, key=lambda share: abs(share - 0.5))
    b, n = 1 / level - 1, channels
    left = n - (n + b) ** 2 / (n + 2 * b + b**2)
    power = 1e6 if gained is None else gained * np.pi / (4 * np.log(2)) * BEAM**2 / left
    spectra, more = torch.ones(1, n), torch.full((1, 4, 4), np.sqrt(power / 16))
    cube = torch.ones(n, 1, 1) * more
    spectra[0, n // 2] += b
    around = Surroundings(spectra, torch.zeros(1, 4, 4), more, torch.ones(4, 4, dtype=torch.bool))
    return clean_depth(units_of(cube), around, BEAM), 1.0


@pytest.mark.parametrize(("gained", "known"), [(3.3, True), (2.7, False)])
def test_a_level_at_which_clean_stopped_is_known_if_it_explains_three_beams_areas_more(gained, known):
    depth, true = depth_of(40, gained)
    assert depth == (pytest.approx(true) if known else None)


@pytest.mark.parametrize(("channels", "known"), [(80, True), (120, False)])
def test_a_level_at_which_clean_stopped_explains_a_hundredth_more_than_a_share(channels, known):
    """It explains b^2 (n - 1) / (n + b)^2 more, about 1 / n."""
    depth, true = depth_of(channels)
    assert depth == (pytest.approx(true) if known else None)


# --- the dirty beam and its sources ---


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_a_dirty_beam_may_have_any_weights_between_natural_and_uniform(monkeypatch, power):
    natural = noise_of_weights(2.0)
    true = flattened(natural, power)
    monkeypatch.setattr(dirty_beam, "residual_variance", lambda units, psf, *_: float((psf - true).square().sum()))
    assert torch.allclose(weighted_psf(None, natural, [], BEAM), true)


def test_cells_of_the_uv_plane_with_few_visibilities_are_not_raised_to_those_of_many():
    """A cell with a twentieth of the power counts as one with twice that: 1/20 / (1/20 + 1/20) is a half."""
    k = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)[None])
    power = torch.where(k < 0.1, 1.0, torch.where(k < 0.3, 0.05, 0.0))
    flat = torch.fft.rfft2(flattened(torch.fft.irfft2(power, s=(128, 128)), 1.0)).real
    few, many = (float(flat[(k > low) & (k < high)].median()) for low, high in ((0.15, 0.25), (0.0, 0.05)))
    assert few / many == pytest.approx(0.5 * 1.05, rel=0.06)


@pytest.mark.parametrize(("beams", "counts"), [(7.0, True), (9.0, False)])
def test_what_a_beam_leaves_about_a_source_counts_within_eight_beams(beams, counts):
    psf = gaussian((2 * 96, 2 * 96), 3.0)
    cube = np.zeros((8, 96, 96))
    cube[:] = 50 * np.roll(psf[:96, :96].numpy(), (20, 20), (0, 1))
    before = residual_variance(units_of(cube), psf, [(20, 20)], 3.0)
    cube[:, 20, 20 + round(3 * beams)] = 10.0
    left = residual_variance(units_of(cube), psf, [(20, 20)], 3.0)
    assert left == pytest.approx(before, rel=1e-3) or counts
    assert not counts or left > 2 * before


@pytest.mark.parametrize("size", [0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.6])
def test_a_bright_source_is_fitted_with_its_own_size(size):
    psf = gaussian((2 * SIDE, 2 * SIDE), BEAM)
    image = responses_at([(30, 30)], [widened(psf, size * BEAM)], units_of(np.zeros((8, SIDE, SIDE))))
    (scale,), _ = fit_components(units_of(50 * image.expand(8, -1, -1)), [(30, 30)], responses_of(psf, BEAM), BEAM)
    assert SCALES[scale] == pytest.approx(size, abs=0.1)


@pytest.mark.parametrize(("power", "again"), [(0.008, 1), (0.015, 2)])
def test_a_beam_is_estimated_again_if_sources_add_a_hundredth_to_the_noise(monkeypatch, power, again):
    asked = []
    psf = gaussian((2 * SIDE, 2 * SIDE), BEAM)
    units = units_of(np.zeros((CHANNELS, SIDE, SIDE)))
    monkeypatch.setattr(clean, "psf_of", lambda *_, **__: asked.append(1) or psf)
    monkeypatch.setattr(clean, "power_in_noise", lambda *_: power)
    monkeypatch.setattr(clean, "without_components", lambda *_: (units, [(30, 30)], [0], torch.ones(1, CHANNELS)))
    monkeypatch.setattr(clean, "fit_components", lambda *_: ([0], torch.ones(1, CHANNELS)))
    snr = torch.zeros(SIDE, SIDE)
    snr[30, 30] = 1e6
    corrected = SimpleNamespace(error=torch.ones(SIDE, SIDE), units=units, noise=None)
    without_sidelobes(units, BEAM, snr=snr, corrected=corrected)
    assert len(asked) == again


# --- pieces of one object ---


@pytest.mark.parametrize(
    ("way", "peak", "same"), [(2.3, 6.0, False), (2.7, 6.0, True), (2.7, 9.0, False), (3.3, 9.0, True)]
)
def test_two_patches_are_bridged_by_two_and_a_half_sigma_and_a_third_of_the_peak(way, peak, same):
    snr = np.full((5, 20), way)
    one, other = np.zeros((2, 5, 20), bool)
    one[:, :4], other[:, 16:] = True, True
    snr[2, 2], snr[2, 18] = peak, 20.0
    assert bridged(snr, one, other) == same


@pytest.mark.parametrize(("beams", "one"), [(7, True), (9, False)])
def test_pieces_lie_within_eight_beams(monkeypatch, beams, one):
    monkeypatch.setattr(connected_patches, "line_image", lambda place, seen: np.full(seen.valid.shape, 10.0))
    patches = np.zeros((2, 40, 80), bool)
    patches[0, 10:20, 10:20] = patches[1, 10:25, 20 + round(beams * BEAM) : 40 + round(beams * BEAM)] = True
    seen = window_of(np.zeros((8, 40, 80)), 4.0, 2.0)
    monkeypatch.setattr(SearchedWindow, "about", lambda self, place: SimpleNamespace(
        line=self.line[place], valid=np.ones((40, 80), bool)[place]))  # fmt: skip
    assert (len(set(object_numbers(list(patches), [0, 1], seen))) == 1) == one


@pytest.mark.parametrize("moved", [-2.0, 0.0, 2.0])
def test_the_line_of_an_object_may_move_by_half_its_width_from_piece_to_piece(moved):
    cube = np.zeros((48, 9, 9))
    cube[:, 4, 2], cube[:, 4, 6] = 20 * line(24, 4, 48), 20 * line(24 + moved, 4, 48)
    seen = window_of(cube, 24.0, 4.0)
    image = line_image(4 * 9 + 2, seen)
    assert image[4, 6] == pytest.approx(image[4, 2], rel=0.02)


@pytest.mark.parametrize(
    ("peak", "way", "same"), [(10.0, 2.8, False), (10.0, 3.3, True), (25.0, 4.6, False), (25.0, 5.4, True)]
)
def test_parts_of_a_patch_are_one_object_along_voxels_of_three_sigma_and_a_fifth_of_the_peak(
    monkeypatch, peak, way, same
):
    voxels = np.full((3, 5, 9), -1.0)
    voxels[1, 2] = way
    voxels[1, 2, 1], voxels[1, 2, 7] = 40.0, peak
    places = iter([(1, 2, 1), (1, 2, 7)])
    monkeypatch.setattr(connected_patches, "line_voxels", lambda *_: (voxels, 0))
    monkeypatch.setattr(connected_patches, "brightest_voxel", lambda *_: next(places))
    parts = [np.arange(9) < 4, np.arange(9) >= 4]
    parts = [np.broadcast_to(part, (5, 9)) for part in parts]
    seen = window_of(np.zeros((8, 5, 9)), 4.0, 2.0)
    assert (len(set(connected(parts, np.ones((5, 9), bool), seen))) == 1) == same


def test_voxels_of_a_patch_are_averaged_over_half_a_line():
    """A Gaussian line is then sqrt(1.25) times as wide, by its second moment."""
    cube = np.zeros((96, 5, 5))
    cube[:] = 20 * line(48, 12, 96)[:, None, None]
    voxels, first = line_voxels(np.ones((5, 5), bool), window_of(cube, 48.0, 12.0))
    profile = voxels[:, 2, 2].clip(0)
    channel = np.arange(first, first + len(profile))
    near = np.abs(channel - 48) <= 15
    profile, channel = profile[near], channel[near]
    half = np.interp(0.5, (profile / profile.max())[channel <= 48], channel[channel <= 48])
    assert 2 * (48 - half) == pytest.approx(np.sqrt(1.25) * 12, rel=0.06)


@pytest.mark.parametrize(("widths", "parts"), [(0.8, 1), (1.3, 2)])
def test_within_a_galaxy_the_line_moves_by_less_than_its_width_from_pixel_to_pixel(widths, parts):
    channel = np.where(np.arange(20) < 10, 10.0, 10.0 + 5 * widths) * np.ones((20, 1))
    seen = window_of(np.zeros((CHANNELS, 20, 20)), channel, 5.0)
    assert len(np.unique(without_jumps(np.ones((20, 20), bool), seen))) == parts


@pytest.mark.parametrize(("beams", "parts"), [(2.0, 1), (3.0, 2)])
def test_a_part_of_a_patch_has_an_area_of_two_and_a_half_beams(monkeypatch, beams, parts):
    monkeypatch.setattr(
        "napari_almadet.search.extended_emission.connected", lambda parts, patch, seen: list(range(len(parts)))
    )
    rows = round(beams * 1.1331 * BEAM**2 / 20)
    channel = np.where(np.arange(20) < rows, 4.0, 20.0)[:, None] * np.ones(20)
    seen = window_of(np.zeros((CHANNELS, 20, 20)), channel, 3.0)
    assert len(separated_by_lines(np.ones((20, 20), bool), seen)) == parts


@pytest.mark.parametrize(("apart", "steps"), [(1, 0.0), (2, 1.0), (4, 1.0)])
def test_lines_are_compared_half_a_beam_apart(apart, steps):
    """Stripes of so many pixels, whose line is a width off in every second one."""
    channel = 10.0 + 3 * (np.arange(20) // apart % 2) * np.ones((20, 1))
    seen = window_of(np.zeros((CHANNELS, 20, 20)), channel, 3.0)
    made = of_lines(np.ones((20, 20), bool), seen)["channel_step"]
    by_rows, by_columns = 0.0, steps if apart != 4 else None
    if by_columns is not None:
        assert made == pytest.approx(np.median([by_rows] * 18 * 20 + [by_columns] * 18 * 20))


# --- two sources by their lines ---


@pytest.mark.parametrize(("apart", "two"), [(1.2, False), (2.2, True), (4.5, False)])
def test_lines_are_of_two_sources_if_they_are_further_apart_than_errors_and_nearer_than_the_beam(
    monkeypatch, apart, two
):
    """Of S/N 5 and in a beam of 4 pixels: 1.7 * 4 / 5 is 1.36."""
    one = found()
    one.candidate.peaks = (EmissionPeak(5, 1, 1, 5.0, 3.0), EmissionPeak(18, 1, 1, 18.0, 3.0))
    one.candidate.channels = (2, 9)
    at = iter([((30.0, 30.0), 5.0), ((30.0, 30.0 + apart), 5.0)])
    monkeypatch.setattr("napari_almadet.search.extended_emission.place_of", lambda *_: next(at))
    planes = np.random.default_rng(1).normal(size=(CHANNELS, 20, 20)).astype(np.float32)
    assert (part_by_lines(one, [one], Cutout(planes, (20, 20))) is not None) == two


@pytest.mark.parametrize(
    ("channels", "snr", "two"), [(24, 4.4, False), (24, 4.6, True), (512, 5.0, False), (512, 5.2, True)]
)
def test_the_line_of_a_second_source_is_one_that_noise_in_so_many_channels_does_not_make(
    monkeypatch, channels, snr, two
):
    """A chance of 1e-3 in ten times so many places and channels: 4.45 and 5.07 sigma."""
    one = found()
    one.candidate.peaks = (EmissionPeak(5, 1, 1, 5.0, 3.0), EmissionPeak(18, 1, 1, 18.0, 3.0))
    one.candidate.channels = (2, 9)
    at = iter([((30.0, 30.0), 50.0), ((30.0, 32.5), snr)])
    monkeypatch.setattr("napari_almadet.search.extended_emission.place_of", lambda *_: next(at))
    planes = np.random.default_rng(1).normal(size=(channels, 20, 20)).astype(np.float32)
    assert (part_by_lines(one, [one], Cutout(planes, (20, 20))) is not None) == two


@pytest.mark.parametrize(("lines", "parted"), [(1, True), (40, False)])
def test_of_many_lines_of_one_source_none_may_be_elsewhere_by_noise(monkeypatch, lines, parted):
    """Of S/N 10 and in a beam of 4 pixels: 0.277 pixels of error, times 3.7 for one line and 4.6 for forty."""
    one = found()
    rest = [EmissionPeak(20 + 5 * i, 1, 1, 20.0 + 5 * i, 1.0) for i in range(lines)]
    one.candidate.peaks = (EmissionPeak(5, 1, 1, 5.0, 3.0), *rest)
    one.candidate.channels = (2, 9)
    at = iter([((30.0, 30.0), 10.0), *[((30.0, 31.15), 10.0)] * lines])
    monkeypatch.setattr("napari_almadet.search.extended_emission.place_of", lambda *_: next(at))
    planes = np.random.default_rng(1).normal(size=(240, 20, 20)).astype(np.float32)
    assert (part_by_lines(one, [one], Cutout(planes, (20, 20))) is not None) == parted


def test_a_lines_signal_to_noise_ratio_is_that_of_sums_over_channels_that_share_their_noise():
    """The running mean of nine channels; 16 of them have 1 / sqrt(5) of the S/N that independent ones would have."""
    one = found()
    own = np.random.default_rng(2).normal(size=(16 + 8, 64, 64))
    planes = np.stack([own[i : i + 9].sum(axis=0) / 3 for i in range(16)]).astype(np.float32)  # noise of 1 a channel
    sums = planes.sum(axis=0).std()
    planes[:, 32, 32] = 10 * sums / 16
    one.y = one.x = 32.0
    _, snr = place_of(planes, (0, 16), one, (0, 0), 4.0, 1.0)
    assert snr == pytest.approx(10, rel=0.1)


# --- features ---


def test_spectra_of_noise_are_those_where_the_stacked_image_is_below_four_sigma():
    cube = np.zeros((16, 8, 8), np.float32)
    cube[:, 2, 2], cube[:, 5, 5] = 3.5 / 4, 4.5 / 4  # in 16 channels
    quiet = quiet_spectra(units_of(cube)).numpy()
    assert len(quiet) == 63
    assert quiet.max() == pytest.approx(3.5 / 4)


def test_sidelobes_of_the_three_brightest_sources_are_considered():
    """A faint candidate has the spectrum of one of them, or of the fourth."""
    rows = np.array([[0, 30, 30, 1.7, 1.7], *([0, 10 + 14 * i, 50, 1.7, 1.7] for i in range(4))])
    spectra = np.zeros((5, CHANNELS), np.float32)
    for i in range(4):
        spectra[1 + i, 5 * i : 5 * i + 4] = 40 - 5 * i
    strength = np.array([6.0, 80, 70, 60, 50])
    units = units_of(np.zeros((CHANNELS, SIDE, SIDE)))
    for parent, correlated in ((1, True), (3, True), (4, False)):
        spectra[0] = 0.2 * spectra[parent]
        assert (symmetry_and_correlation(rows, spectra, strength, units, BEAM)[1, 0] > 0.5) == correlated


@pytest.mark.parametrize(("apart", "seen"), [(46, True), (50, False)])
def test_the_deepest_negative_is_searched_within_twelve_beams(apart, seen):
    images = torch.zeros(len(MAPS), 128, 128)
    images[MAPS.index("stack"), 64, 64 + apart] = -8
    rows = np.array([[0.0, 64, 64, 1.7, 1.7]])
    units = units_of(np.zeros((CHANNELS, 128, 128)))
    (one,) = measure_features(rows, images, units, np.zeros((1, CHANNELS), np.float32), np.zeros(1), BEAM)
    assert one.dip_stacked == pytest.approx(8 if seen else 0, abs=1e-4)
    assert one.field_spread == 0.5  # of an image without noise: what the classifier was trained with


def test_a_patch_is_as_bright_as_those_of_the_training_at_most():
    """The classifier of patches has seen few above an S/N of 150."""
    row = [
        np.array(encode_extent(extent_of(snr_peak=snr, other_peak=1.0, dip_line=snr), 0, 0)) for snr in (140, 150, 400)
    ]
    at = 2  # the compressed S/N of the peak
    assert row[0][at] < row[1][at] == row[2][at]
    assert np.sinh(row[2][at]) * 2 == pytest.approx(150)


def test_a_field_is_as_quiet_as_those_of_the_training_at_least():
    quiet, quieter = (encode_extent(extent_of(spread=spread), 0, 0) for spread in (0.5, 0.1))
    assert quiet == quieter != encode_extent(extent_of(spread=0.6), 0, 0)


@pytest.mark.parametrize(("channels", "share"), [(6, 1 / 3), (4, 0.0)])
def test_channels_a_sixteenth_of_the_band_apart_share_wide_lines_only(channels, share):
    """Of 64 channels four apart, smoothed over six or four."""
    rng = np.random.default_rng(4)
    cube = ndimage.uniform_filter1d(rng.normal(size=(64, 30, 30)), channels, axis=0, mode="wrap")
    seen = window_of(30 * cube / cube.std(), 10.0, 3.0)
    made = of_spectrum(np.ones((30, 30), bool), seen, cube.sum(axis=(1, 2)))
    assert made["coherence_far"] == pytest.approx(share, abs=0.05)


# --- windows, warnings, places ---


@pytest.mark.parametrize(("beams", "sources"), [(0.4, 1), (0.7, 2)])
def test_two_detections_within_half_a_beam_in_two_windows_are_one_source(beams, sources):
    image = np.zeros((SIDE, SIDE))
    windows = [
        Window(0, x, (SIDE, SIDE), (slice(0, SIDE), slice(*own)), 1) for x, own in ((0, (0, 48)), (32, (16, 64)))
    ]
    noise = NoiseSummary(1.0, 0.0, CHANNELS, None, 0.0, (0, 0))
    parts = [
        Part(window, image, image, image, [found(x=x, window=window)], noise)
        for window, x in zip(windows, (47.0, 47.0 + beams * BEAM), strict=True)
    ]
    assert len(merge_windows(parts, BEAM)) == sources


@pytest.mark.parametrize(("share", "explained"), [(0.2, False), (0.3, True)])
def test_a_candidate_of_a_quarter_of_the_field_explains_bright_channels(share, explained):
    one = found(extent=extent_of(field_share=share))
    one.candidate.channels = (5, 12)
    noise = NoiseSummary(1.0, 0.0, CHANNELS, None, 2.0, (6, 9))
    assert (unseen_emission([noise], [one]) == []) == explained


@pytest.mark.parametrize(("beams", "alone"), [(1.4, False), (1.6, True)])
def test_a_source_is_alone_without_another_within_a_beam_and_a_half(beams, alone):
    one, round_beam = found(), (BEAM / 2.3548) ** 2 * np.eye(2)
    assert is_isolated(one, [one, found(x=30 + beams * BEAM)], round_beam) == alone
    assert is_isolated(one, [one, found(x=31, status=DROPPED)], round_beam)


@pytest.mark.parametrize("angle", [0, 35, 90, 120])
def test_a_source_is_alone_by_the_width_that_the_beam_has_towards_the_other(angle):
    """Both are 1.5 round beams of the same area away: 1.06 beams along an axis twice as long, 2.1 across it."""
    beam, turn = elongated(BEAM, angle), np.radians(angle)
    step = 1.5 * BEAM
    along = found(x=30 - step * np.sin(turn), y=30 + step * np.cos(turn))
    across = found(x=30 + step * np.cos(turn), y=30 + step * np.sin(turn))
    assert not is_isolated(found(), [along], beam)
    assert is_isolated(found(), [across], beam)


@pytest.mark.parametrize(("beams", "moves"), [(0.25, True), (0.4, False)])
def test_a_place_moves_by_three_tenths_of_a_beam_at_most(beams, moves):
    beam = 8.0
    y, x = np.indices((40, 40))
    source = np.exp(-4 * np.log(2) * ((x - 20 - beams * beam) ** 2 + (y - 20) ** 2) / beam**2)
    planes = np.random.default_rng(2).normal(size=(CHANNELS, 40, 40)) + 50 * source
    one = found(y=20.0, x=20.0, sigma_y=beam / 2.3548, sigma_x=beam / 2.3548)
    one = replace(one, features=replace(one.features, beam=beam))
    assert one.beam == beam
    moved = best_place(one, Cutout(planes.astype(np.float32), (0, 0)), (beam / 2.3548) ** 2 * np.eye(2))[1]
    assert moved == pytest.approx(20 + beams * beam if moves else 20, abs=0.1)


@pytest.mark.parametrize("angle", [0, 35, 90, 120])
def test_a_point_in_an_elliptical_beam_is_placed_at_the_maximum_of_its_image(angle):
    """It is no wider than the beam along any axis: smoothing would add noise from further away."""
    from scipy import ndimage

    fwhm, side, rng = 6.0, 40, np.random.default_rng(angle)
    beam = elongated(fwhm, angle)
    white = rng.normal(size=(CHANNELS, side, side))
    v, u = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    power = beam[0, 0] * u**2 + 2 * beam[0, 1] * u * v + beam[1, 1] * v**2
    noise = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-(np.pi**2) * power), (side, side))
    y, x = np.indices((side, side)) - 20
    inverse = np.linalg.inv(beam)
    source = np.exp(-0.5 * (inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2))
    planes = (noise / noise.std() + 3 * source).astype(np.float32)
    sigma_x, sigma_y = np.sqrt(np.diag(beam))
    one = replace(found(y=20.0, x=20.0), sigma_y=sigma_y, sigma_x=sigma_x)
    one = replace(one, features=replace(one.features, beam=fwhm))
    steps = np.linspace(-1.5, 1.5, 121)
    image = weighted_with(np.ones(CHANNELS), planes)
    values = ndimage.map_coordinates(image, np.meshgrid(20 + steps, 20 + steps, indexing="ij"), order=3)
    highest = [20 + steps[i] for i in np.unravel_index(values.argmax(), values.shape)]
    assert np.hypot(highest[0] - 20, highest[1] - 20) > 0.1
    assert best_place(one, Cutout(planes, (0, 0)), beam) == pytest.approx(highest, abs=0.04)


def test_a_place_is_looked_for_in_the_channels_of_the_line_only():
    rng = np.random.default_rng(4)
    planes = rng.normal(size=(CHANNELS, 9, 9)).astype(np.float32) * rng.uniform(1, 2, (CHANNELS, 1, 1)).astype("f4")
    line = np.exp(-(((np.arange(CHANNELS) - 7) / 1.5) ** 2))
    sigma = [median_abs_deviation(plane, axis=None, scale="normal") for plane in planes]
    expected = np.tensordot(line / np.square(sigma), planes, 1)
    seen = weighted_with(line, planes)
    np.testing.assert_allclose(seen / seen.max(), expected / expected.max(), atol=1e-5)
    planes[np.abs(np.arange(CHANNELS) - 7) > 6] = 1e9
    planes[7, 0, 0] = np.nan
    np.testing.assert_allclose(weighted_with(line, planes)[1:], seen[1:], rtol=0.05, atol=0.05 * seen.max())
    assert not weighted_with(np.full(CHANNELS, np.nan), planes).any()


@pytest.mark.parametrize(("fits", "sides"), [(True, [20, 32, 52]), (False, [20])])
def test_a_cutout_grows_by_six_tenths_until_the_mask_fits_or_the_memory_does_not(monkeypatch, fits, sides):
    asked = []
    made = SimpleNamespace(method="mask", shape=None, parts=SimpleNamespace(merged=()))
    monkeypatch.setattr(measuring, "region", lambda cube, detection, noise, half, beam: asked.append(half))
    monkeypatch.setattr(measuring, "inside", lambda *_: False)
    monkeypatch.setattr(measuring, "measure_candidate", lambda *_: made)
    monkeypatch.setattr(measuring, "reaches_border", lambda *_: len(asked) < 3)
    monkeypatch.setattr(measuring, "reach_of", lambda *_: 6.0)
    monkeypatch.setattr(measuring, "boxed_flux", lambda *_: 0.0)
    monkeypatch.setattr(measuring, "scale_of", lambda *_: None)
    monkeypatch.setattr(measuring, "find_absorption", lambda *_: None)
    one = found()
    cube = SimpleNamespace(shape=(CHANNELS, 500, 500))
    measuring.measured(cube, one, [one], None, Settings(memory=2.0 if fits else 1e-6), True, {})
    assert asked == sides


def test_lines_of_one_channel_and_of_a_quarter_of_the_band_are_searched_with_their_own_width():
    """A matched filter of another width v loses sqrt(2 v w / (v^2 + w^2)) of the signal."""
    for width in (1.0, 125.0):
        kept = [np.sqrt(2 * tried * width / (tried**2 + width**2)) for tried in WIDTHS]
        assert max(kept) > 0.99


@pytest.mark.parametrize(("reach", "thorough", "half"), [(0.0, True, 20), (10.0, True, 24), (10.0, False, 12)])
def test_a_cutout_has_room_for_the_noise_about_a_source(monkeypatch, reach, thorough, half):
    """Three and a half beams of four pixels beyond its box, five at least, and three if only a point is fitted."""
    asked = []
    made = SimpleNamespace(method="point", shape=None, parts=SimpleNamespace(merged=()))
    monkeypatch.setattr(measuring, "region", lambda cube, detection, noise, half, beam: asked.append(half))
    for name in ("measure_candidate", "inside", "scale_of", "find_absorption", "boxed_flux"):
        monkeypatch.setattr(measuring, name, lambda *_: made)
    monkeypatch.setattr(measuring, "reach_of", lambda *_: reach)
    one = found()
    measuring.measured(SimpleNamespace(shape=(CHANNELS, 500, 500)), one, [one], None, Settings(), thorough, {})
    assert asked == [half]


# --- reliability ---


@pytest.mark.parametrize(("snr", "y", "counts"), [(40, 50, False), (60, 50, True), (40, 67.4, False), (40, 67.6, True)])
def test_a_negative_detection_beside_a_source_is_its_bowl_if_it_is_half_as_strong(monkeypatch, snr, y, counts):
    """In its box, up to 55.5, and a beam of twelve pixels about it."""

    def of(place: float, snr: float) -> Candidate:
        one = Candidate(1, Box(45, 56, 45, 56), 0.9, status=KEPT)
        one.y, one.x, one.snr_pixel = place, 50.0, snr
        return one

    def search(*_, **__):
        yield Progress("Searching", 0, 1)
        return SimpleNamespace(record={"scales": {"beam": 12.0}}, candidates=[of(y, snr)])

    monkeypatch.setattr(pipeline, "search_steps", search)
    assert bool(finish(find_negatives.steps(None, None, None, [of(50, 100.0)]))) == counts


def test_reliabilities_are_rough_with_fewer_than_twenty_negatives_and_too_low_with_two_above_the_threshold():
    def said(count: int, above: int) -> str:
        negatives = np.full((count, 2), 0.1)
        negatives[:above, 0] = 0.9
        return " ".join(notes(negatives, 0.75))

    assert "rough" in said(15, 0) and "rough" not in said(25, 0)
    assert "Noise alone" not in said(25, 1) and "Noise alone" in said(25, 2) and "Noise alone" in said(25, 3)


def test_the_width_of_a_few_negatives_is_that_of_simulated_fields():
    """Five equal ones count as ten with half of the variance of 4; Scott's rule narrows it by the fifth root of 5."""
    at = np.log([0.2 / 0.8, 0.6 / 0.4])
    kernel = np.exp(-0.5 * (at[:, None] - at) ** 2 / (5 * 4 / 10 * 5**-0.4))
    expected = 1 - 5 * kernel[:, 0] / (20 * kernel.sum(axis=1))
    assert reliability(np.array([0.2, 0.6] * 20), np.full(5, 0.2))[:2] == pytest.approx(expected, abs=1e-6)


def test_probabilities_of_zero_and_one_are_ten_thousandth_away_from_them():
    """The calibration cannot distinguish them, and a logit would be infinite."""
    one = reliability(np.array([1.0, 0.5]), np.array([0.3, 0.4]))
    other = reliability(np.array([1 - 1e-4, 0.5]), np.array([0.3, 0.4]))
    near = reliability(np.array([1 - 1.5e-4, 0.5]), np.array([0.3, 0.4]))
    assert one == pytest.approx(other, rel=1e-12)
    assert np.abs(one - near).max() > 1e-9
