"""Rules and numbers of single functions of the search, each with a case on either side of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS
from cases import searched_window, units_of, whole_window

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.progress import finish
from napari_almadet.search import (
    beam_decision,
    dirty_beam,
    features,
    line_detection,
    line_maps,
    out_of_distribution,
    patch_properties,
    sidelobes,
)
from napari_almadet.search.beam_decision import BeamDecision, after_search, decide, decided_beforehand, may_be_smoothed
from napari_almadet.search.clean import Restored
from napari_almadet.search.components import gaussian
from napari_almadet.search.connected_patches import line_voxels
from napari_almadet.search.dirty_beam import as_wide_as, noise_psf, read_psf
from napari_almadet.search.extended_emission import patches
from napari_almadet.search.features import part_neighbours
from napari_almadet.search.line_maps import BAND, MAPS, as_in_one_band, bank_of
from napari_almadet.search.noise_units import NoiseUnits, lag_of, smooth_noise
from napari_almadet.search.out_of_distribution import noise_summary, search_warnings
from napari_almadet.search.patch_properties import SearchedWindow, of_spectrum, of_surroundings
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.record import noise_record
from napari_almadet.search.reliability import find_negatives
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.sidelobes import KnownBeam, known_beam, subtract_sidelobes
from napari_almadet.search.smoothed_beam import (
    LEFT,
    before_smoothing,
    block_power,
    fitted_kernel,
    gaussian_transform,
    mean_of,
    tapered,
    within_beam,
)
from napari_almadet.settings import Settings

CHANNELS, SIDE, BEAM = 24, 32, 4.0
WINDOW = whole_window(SIDE)


def noise(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def seen_window(cube: np.ndarray, snr: np.ndarray | float, channel: np.ndarray | float, beam: float = BEAM):
    """A searched window whose best lines have such an S/N and channel, and three channels."""
    return searched_window(cube, beam, line=snr, channel=channel, width=3.0)


# --- noise and channels ---


@pytest.mark.parametrize(("channels", "lag"), [(2, 1), (3, 1), (7, 1), (8, 2), (12, 3), (100, 3)])
def test_channels_three_apart_are_compared_and_in_short_cubes_a_quarter_of_the_band(channels, lag):
    assert lag_of(channels) == lag


@pytest.mark.parametrize(("known", "length"), [(4, 4), (None, 2)])
def test_spectra_are_as_long_as_the_cube_where_channels_are_flagged(known, length):
    channels = torch.tensor([0, 2]) if known else torch.tensor([0, 1])
    units = NoiseUnits(torch.ones(2, 3, 3), torch.ones(3, 3) > 0, torch.ones(2), torch.ones(3, 3), channels, known)
    whole = units.in_all_channels(np.array([[5.0, 7.0]]))
    assert whole.shape == (1, length)
    assert whole[0, channels].tolist() == [5, 7]


def test_noise_is_known_where_a_thousandth_of_the_weights_of_its_mean_are():
    known = torch.zeros(41, 41, dtype=torch.bool)
    known[20, 20] = True
    lag = torch.arange(-20, 21)
    sigma = 12 / np.sqrt(8 * np.log(2))
    weight = torch.exp(-0.5 * (lag[:, None] ** 2 + lag**2) / sigma**2)
    weight[lag.abs() > int(3 * sigma) + 1] = weight[:, lag.abs() > int(3 * sigma) + 1] = 0
    made = smooth_noise(torch.full((41, 41), 2.0), known, 12.0)
    assert ((weight > 6e-4) & (weight < 1e-3)).any() and ((weight > 1e-3) & (weight < 1.6e-3)).any()
    assert torch.equal(made > 0, weight > 1e-3)


@pytest.mark.parametrize(("known", "level"), [(True, 2.0), (False, None)])
def test_the_noise_of_a_cube_is_recorded_where_it_is_known(known, level):
    rms = np.full((2, 4), 2.0 if known else np.nan)
    recorded = noise_record(
        SimpleNamespace(reach=1, rms=rms, uniform=True, spectral=np.ones(2), spatial=np.ones((3, 3)))
    )
    assert recorded["rms"] == level


@pytest.mark.parametrize(("value", "share"), [(-4.0, 0.0), (-6.0, 1 / 8)])
def test_dips_are_below_minus_five_sigma(monkeypatch, value, share):
    cube = np.zeros((8, 4, 4))
    cube[3] = value
    monkeypatch.setattr(out_of_distribution, "highest_offset", lambda *_: (0.0, (0, 0)))
    clean = SimpleNamespace(units=units_of(cube), decision=None, subtracted=0.0)
    assert noise_summary(clean, 1.0, BEAM).dips == pytest.approx(share)


# --- lines ---


@pytest.mark.parametrize(("channels", "terms"), [(3, 0), (4, 2), (6, 2)])
def test_a_baseline_is_fitted_to_four_channels_and_more(channels, terms):
    assert bank_of(channels, torch.ones(channels)).baseline.shape == (channels, terms)


@pytest.mark.parametrize("n_channels", [BAND // 4, BAND])
def test_the_snr_of_a_short_spectrum_is_what_it_is(n_channels):
    assert as_in_one_band(torch.tensor([5.0]), n_channels).tolist() == [5.0]
    assert as_in_one_band(torch.tensor([5.0]), 4 * BAND)[0] < 5


@pytest.mark.parametrize(("stack", "quiet"), [([3.0, 5.0, -5.0, 0.0], [0, 3]), ([5.0, 6.0, -7.0, 8.0], [0, 1, 2, 3])])
def test_the_noise_of_lines_is_that_of_places_whose_stack_is_below_four_sigma(monkeypatch, stack, quiet):
    """Or of all, where there is none."""
    asked = []

    def band_maps(band, places, only_snr):
        asked.append(places.tolist())
        return (*torch.zeros(4, 4), 1.0)

    monkeypatch.setattr(line_maps, "band_maps", band_maps)
    monkeypatch.setattr(line_maps, "stack_snr", lambda _: torch.tensor(stack).reshape(2, 2))
    line_maps.line_maps(units_of(noise(CHANNELS, 2, 2)))
    assert asked == [quiet]


@pytest.mark.parametrize(("part", "parted"), [(1.6e-3, True), (0.7e-3, False)])
def test_a_source_is_in_the_spectrum_of_another_if_it_has_a_thousandth_there(part, parted):
    apart = np.sqrt(-2 * np.log(part))
    rows = np.array([[0, 10, 10, 1, 1], [0, 10, 10 + apart, 1, 1]], float)
    spectra = np.array([[0.0, 0, 0], [0, 1e6, 0]], np.float32)
    assert bool(part_neighbours(rows, spectra, 2.0)[0].any()) == parted


@pytest.mark.parametrize(("snr", "kind"), [(3.0, "line"), (6.0, "both")])
def test_a_line_source_has_continuum_from_four_sigma_on(monkeypatch, snr, kind):
    spectrum = np.zeros(100, np.float32)
    spectrum[50:] = 2 * snr / 99**0.5  # about the whole band's mean, of which one channel is the line's
    candidate = Candidate(1, Box(0, 1, 0, 1), 0.9)

    def one_line(candidate, flat, snr):
        candidate.peaks = (EmissionPeak(20, 1.0, 1.0, 20.0, 1.0),)

    monkeypatch.setattr(line_detection, "set_lines", one_line)
    monkeypatch.setattr(line_detection, "off_line", lambda peaks, n: np.arange(n) != 20)
    spectrum[:50] += 1e-9  # 0 is no data
    one = RawDetection(candidate, 5.0, 5.0, 2.0, 2.0, spectrum, Features(), WINDOW)
    finish(line_detection.frequency_denoising([one], Settings(), SearchNetworks(None, torch.zeros_like, None)))
    assert candidate.kind == kind


@pytest.mark.parametrize(("snr", "placed"), [(2.5, False), (4.0, True)])
def test_the_channel_of_a_line_is_looked_for_from_three_sigma_on(monkeypatch, snr, placed):
    found = line_maps.LineMaps(*(torch.full((4, 4), value) for value in (snr, 12.0, 4.0, 0.0)), 1.0)
    monkeypatch.setattr(line_maps, "line_maps", lambda _: found)
    images, _ = line_maps.maps(*2 * [units_of(noise(CHANNELS, 4, 4))], BEAM)
    assert (float(images[MAPS.index("line's channel")].max()) > 0) == placed


def test_lines_of_a_detection_are_looked_for_without_its_baseline(monkeypatch):
    spectra = 5 + 0.1 * np.arange(CHANNELS, dtype=np.float32) * np.ones((2, 1), np.float32)
    asked = []
    monkeypatch.setattr(features, "spectra", lambda *_: spectra)
    monkeypatch.setattr(features, "part_neighbours", lambda rows, own, beam: own)
    monkeypatch.setattr(features, "own_lines", lambda flat, *_: asked.append(flat))
    monkeypatch.setattr(features, "measure_features", lambda *_: [Features(), Features()])
    rows = np.array([[0.0, 10, 10, 2, 2], [0, 20, 20, 2, 2]])
    units = units_of(np.zeros((CHANNELS, SIDE, SIDE)))
    features.raw_detections(rows, torch.zeros(8, SIDE, SIDE), units, torch.zeros(4, CHANNELS), BEAM, WINDOW)
    np.testing.assert_allclose(asked[0], 0, atol=1e-4)


# --- the dirty beam ---


def test_the_noise_is_correlated_in_channels_without_lines():
    """Lines raise the power of a channel's differences: one of half as much more is left out."""
    cube = noise(40, 24, 24, seed=5)
    cube[10:14] = np.sqrt(0.5) * cube[10:14] + 1
    with_lines, _ = noise_psf(units_of(cube), BEAM)
    cube[10:14] = noise(4, 24, 24, seed=7)
    without, _ = noise_psf(units_of(cube), BEAM)
    assert abs(float(with_lines[0, 6:9].mean()) - float(without[0, 6:9].mean())) < 1e-3


def test_lags_of_less_than_a_fiftieth_of_the_pixels_are_not_measured():
    """In a field of 8 x 8 pixels there is one pair, of 64, at (7, 7), and there are two at (6, 7)."""
    cube = noise(40, 1, 1) * np.ones((40, 8, 8), np.float32)
    psf, _ = noise_psf(units_of(cube), 1.0)
    assert abs(float(psf[7, 7])) < 1e-9
    assert float(psf[6, 7]) > 0


def test_a_main_lobe_that_is_a_stripe_is_not_fitted():
    stripe = gaussian((SIDE, SIDE), BEAM)[:, :1].expand(SIDE, SIDE).contiguous()
    assert as_wide_as(stripe, np.eye(2) * 5) is stripe


def write_psf(path, plane: np.ndarray, pixel: float | None = None) -> str:
    header = fits.Header()
    if pixel is not None:
        header.update({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CDELT1": -pixel, "CDELT2": pixel, "CRVAL2": 10.0})
    fits.writeto(path, plane.astype(np.float32), header, overwrite=True)
    return str(path)


def test_a_dirty_beam_is_read_again_when_its_file_has_changed(tmp_path):
    import os

    cube, plane = Cube.from_array(np.ones((4, 9, 9))), np.zeros((9, 9))
    plane[4, 4] = 1.0
    path = write_psf(tmp_path / "psf.fits", plane)
    first = read_psf(path, cube)
    plane[4, 5] = 0.5
    write_psf(tmp_path / "psf.fits", plane)
    os.utime(path, (1, 1))
    assert (first[4, 5], read_psf(path, cube)[4, 5]) == (0, 0.5)


def test_pixels_of_a_dirty_beam_are_compared_with_those_of_a_cube_that_has_coordinates(tmp_path):
    plane = np.zeros((9, 9))
    plane[4, 4] = 1.0
    path = write_psf(tmp_path / "psf.fits", plane, 1e-4)
    assert read_psf(path, Cube.from_array(np.ones((4, 9, 9)))).shape == (9, 9)
    wcs = WCS(naxis=3)
    wcs.wcs.ctype, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN", "FREQ"], [-2e-4, 2e-4, 1e6]
    with pytest.raises(CubeError, match="give the dirty beam that was imaged with the cube"):
        read_psf(path, Cube(np.ones((4, 9, 9)), wcs))


@pytest.mark.parametrize(
    ("y", "x", "peak", "usable"), [(4, 4, 1.0, True), (2, 4, 1.0, True), (1, 4, 1.0, False), (4, 4, -1.0, False)]
)
def test_a_dirty_beam_has_a_positive_peak_two_pixels_from_the_border(tmp_path, y, x, peak, usable):
    plane = np.full((9, 9), min(0.0, 2 * peak))
    plane[y, x] = peak
    path, cube = write_psf(tmp_path / "psf.fits", plane), Cube.from_array(np.ones((4, 9, 9)))
    dirty_beam._centred_on_peak.cache_clear()
    if usable:
        assert read_psf(path, cube).shape == (2 * y + 1, 9)
    else:
        with pytest.raises(CubeError, match="no peak surrounded by data"):
            read_psf(path, cube)


# --- is the cube dirty? ---


@pytest.mark.parametrize("lobe", [[np.inf, 1.2], [1.5, np.nan]])
def test_a_lobe_that_is_not_known_is_not_that_of_a_smoothed_cube(lobe):
    assert not may_be_smoothed(lobe)


def test_the_setting_decides_whatever_the_header_says():
    cube = Cube(np.ones((4, 9, 9)), header=fits.Header({"HISTORY": "CLEAN: niter=500"}))
    assert decided_beforehand(cube, Settings(beam="dirty")) == BeamDecision("dirty", "told", {})


def test_a_smoothed_cube_without_bright_sources_is_one_without_subtraction():
    decision = BeamDecision("dirty", "smoothed", {})
    assert "No sidelobes were subtracted" in decision.after_subtracting(0.0).values["note"]
    assert "was smoothed" in decision.after_subtracting(0.5).values["note"]
    assert "note" not in BeamDecision("clean", "slope", {}).after_subtracting(0.0).values
    partly = BeamDecision("dirty", "partly cleaned", {"depth": 3.0})
    assert "No sidelobes were subtracted" in partly.after_subtracting(0.0).values["note"]
    assert "3.0 times its noise" in partly.after_subtracting(0.5).values["note"]


def test_what_windows_measured_is_recorded_where_a_header_decided():
    seen = BeamDecision("clean", "narrow lobe", {"slope": 0.3})
    header, lobe = (BeamDecision("clean", rule, {}) for rule in ("header", "lobe"))
    assert after_search(header, [(seen, 0.2)]).values["slope"] == 0.3
    assert "slope" not in after_search(lobe, [(seen, 0.2)]).values
    assert "slope" not in after_search(header, []).values


@pytest.mark.parametrize(
    ("rule", "lobe", "smoothed"),
    [("lobe", [1.2, 1.2], True), ("filled", [1.2, 1.2], False), ("lobe", [0.7, 0.7], False)],
)
def test_only_a_cube_whose_lobe_is_too_wide_is_tried_as_a_smoothed_one(monkeypatch, rule, lobe, smoothed):
    monkeypatch.setattr(beam_decision, "nearest_lobe", lambda *_: ("psf", lobe))
    monkeypatch.setattr(beam_decision, "surroundings", lambda *_: None)
    monkeypatch.setattr(beam_decision, "compared", lambda *_: {})
    monkeypatch.setattr(beam_decision, "verdict", lambda _: ("clean", rule))
    monkeypatch.setattr(beam_decision, "passes_smoothed", lambda _: True)
    made = SimpleNamespace(psf="psf", peak=1.0, axes=np.array([4.0, 4.0]))
    monkeypatch.setattr(beam_decision, "smoothed_beam", lambda *_: made)
    snr = torch.zeros(SIDE, SIDE)
    snr[10, 10] = 100.0
    corrected = SimpleNamespace(units=units_of(np.zeros((CHANNELS, SIDE, SIDE))), noise=(None, None))
    assert (decide(corrected.units, BEAM, np.eye(2), snr, corrected).rule == "smoothed") == smoothed


@pytest.mark.parametrize(("doubtful", "smoothed", "warned"), [(False, False, 0), (True, False, 1), (False, True, 1)])
def test_a_decision_in_doubt_is_a_warning(monkeypatch, doubtful, smoothed, warned):
    for name in ("out_of_distribution", "unseen_emission"):
        monkeypatch.setattr(out_of_distribution, name, lambda *_: [])
    monkeypatch.setattr(out_of_distribution, "may_be_dirty", lambda _: "it may be dirty")
    decision = SimpleNamespace(doubtful=doubtful, perhaps_smoothed=smoothed)
    assert len(search_warnings(None, 4.0, 1, [], [], decision)) == warned


# --- smoothed cubes ---

TARGET = np.diag([16.0, 9.0])
FIELD = (128, 128)


@pytest.mark.parametrize(("times", "kept"), [(0.8, 0.8), (1.5, 0.85), (-0.5, 0.0)])
def test_a_kernel_has_at_most_85_percent_of_the_covariance_of_the_beam(times, kept):
    """That is a beam 2.6 times as wide as before."""
    np.testing.assert_allclose(within_beam(times * TARGET, TARGET), kept * TARGET, atol=1e-9)


def noise_power(part: float, target: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Power, and its shape, of noise for which a kernel of this part of the beam's covariance is found.

    All is Gaussian: the noise has the beam's covariance and the kernel's once more; see :data:`LEFT`.
    """
    image = np.fft.irfft2(gaussian_transform(target * (part * (2 - LEFT) + LEFT), FIELD), s=FIELD)
    near = tapered(image / image[0, 0], target)
    return np.fft.rfft2(near).real, near.shape


@pytest.mark.parametrize(("part", "found"), [(0.07, False), (0.15, True)])
def test_a_kernel_that_widens_the_beam_by_less_than_a_twentieth_is_none(part, found):
    assert (fitted_kernel(*noise_power(part, TARGET), TARGET) is not None) == found


def test_the_kernel_of_a_narrow_beam_is_found_between_pixels():
    """Before it was smoothed, this beam was 1.8 pixels wide."""
    target = np.eye(2) * 1.2
    np.testing.assert_allclose(fitted_kernel(*noise_power(0.5, target), target), 0.5 * target, atol=0.06)


def test_an_estimate_counts_half_where_the_power_is_a_thousandth():
    kernel = 0.4 * TARGET
    expected = gaussian_transform(TARGET + kernel, FIELD)
    baseline = np.unravel_index(np.abs(expected - 1e-3).argmin(), expected.shape)
    power = expected.copy()
    power[baseline] *= 3
    dense, before = before_smoothing(power, FIELD, TARGET, kernel)
    assert (dense / before)[baseline] == pytest.approx(1 + 2 * 0.5, abs=0.2)


# --- sidelobes of a window ---


def test_a_dirty_beam_is_read_where_the_settings_name_its_file(monkeypatch):
    monkeypatch.setattr(sidelobes, "read_psf", lambda path, cube: path)
    monkeypatch.setattr(sidelobes, "header_beam_in", lambda cube, k: None)
    assert known_beam(None, WINDOW, BEAM, Settings(beam="psf.fits"), None).psf == "psf.fits"
    assert known_beam(None, WINDOW, BEAM, Settings(), None).psf is None


@pytest.fixture
def subtracted(monkeypatch):
    """What is done with a window of ones, of which a component of one is subtracted."""
    asked = []

    def without(units, fwhm, psf, *_):
        asked.append(("subtract", float(units.cube[0, 0, 0])))
        taken = sidelobes_of_ones(units) if psf != "no bright sources" else None
        return (NoiseUnits(units.cube - 0.25, *units_parts(units)), taken)

    def units_parts(units):
        return units.valid, units.rms, units.rms_map, units.channels

    def sidelobes_of_ones(units):
        spectra, images = torch.ones(1, CHANNELS), torch.ones(1, SIDE, SIDE)
        return Restored(spectra, images, torch.zeros(1, 2), units, None, units.rms_map, images, spectra)

    monkeypatch.setattr(sidelobes, "without_sidelobes", without)
    monkeypatch.setattr(
        sidelobes, "decide", lambda *_: asked.append("decide") or BeamDecision("dirty", "estimated", {})
    )
    monkeypatch.setattr(sidelobes, "peak_snr", lambda _: torch.zeros(SIDE, SIDE))

    def remaining(units, *_):
        asked.append(("remaining", float(units.cube[0, 0, 0])))
        return units, BeamDecision("clean", "header", {}), 0.0

    monkeypatch.setattr(sidelobes, "without_remaining", remaining)
    monkeypatch.setattr(sidelobes, "smoothed_beam", lambda *_: None)

    def subtracted(decision=None, psf=None, header=None, negated=False):
        raw = units_of(np.ones((CHANNELS, SIDE, SIDE)))
        monkeypatch.setattr(sidelobes, "known_psf", lambda known, decided, *_: (psf, 1.0))
        return asked, subtract_sidelobes(raw, WINDOW, KnownBeam(BEAM, header, None, decision), negated)

    return subtracted


DIRTY, CLEAN = BeamDecision("dirty", "estimated", {}), BeamDecision("clean", "slope", {})


def test_a_beam_is_decided_in_a_window_if_there_is_a_header_and_no_decision(subtracted):
    assert subtracted(header=np.eye(2))[0] == ["decide", ("subtract", 1.0)]


@pytest.mark.parametrize(("decision", "header"), [(None, None), (DIRTY, np.eye(2))])
def test_a_beam_is_not_decided_without_a_header_or_again(subtracted, decision, header):
    asked, cleaned = subtracted(decision, header=header)
    assert asked == [("subtract", 1.0)]
    assert cleaned.dirty and cleaned.subtracted == 1.0
    assert cleaned.window.sidelobes is not None and cleaned.window.restored is not None


def test_of_a_cleaned_cube_only_what_remains_is_subtracted(subtracted):
    asked, cleaned = subtracted(CLEAN)
    assert asked == [("remaining", 1.0)]
    assert not cleaned.dirty


@pytest.mark.parametrize(("decision", "step"), [(CLEAN, ("remaining", -1.0)), (DIRTY, ("subtract", -1.0))])
def test_an_inverted_cube_is_turned_over_for_its_sidelobes_and_back(subtracted, decision, step):
    asked, cleaned = subtracted(decision, negated=True)
    assert asked == [step]
    assert float(cleaned.units.cube[0, 0, 0]) == (1.0 if decision is CLEAN else 1.25)
    assert cleaned.window.restored is None
    if decision is DIRTY:
        assert cleaned.window.spectra.max() < 0


def test_a_smoothed_cube_whose_beam_is_not_known_is_left_as_it_is(subtracted):
    asked, cleaned = subtracted(BeamDecision("dirty", "smoothed", {}))
    assert (asked, cleaned.subtracted, cleaned.dirty) == ([], 0.0, True)
    asked, _ = subtracted(BeamDecision("dirty", "smoothed", {}), psf="a beam")
    assert asked == [("subtract", 1.0)]


@pytest.mark.parametrize("negated", [False, True])
def test_a_window_without_bright_sources_has_no_sidelobes(subtracted, negated):
    _, cleaned = subtracted(DIRTY, psf="no bright sources", negated=negated)
    assert (cleaned.subtracted, cleaned.window) == (0.0, WINDOW)


@pytest.mark.parametrize(("beam", "kept"), [("dirty", True), ("clean", False)])
def test_sidelobes_of_a_cube_that_is_measured_as_it_is_are_subtracted_for_the_search_only(subtracted, beam, kept):
    _, cleaned = subtracted(BeamDecision(beam, "narrow lobe", {}), psf="a beam")
    assert (cleaned.window.sidelobes is not None) == kept


PSF = gaussian((2 * SIDE, 2 * SIDE), BEAM)


@pytest.mark.parametrize(
    ("rule", "header", "given", "known"),
    [
        ("smoothed", True, False, ("smoothed", 1.2)),
        ("smoothed", True, True, ("of a file", 1.0)),
        ("smoothed", False, False, (None, 1.0)),
        ("partly cleaned", True, False, ("remaining", 1.0)),
        ("estimated", True, False, (None, 1.0)),
        (None, True, False, (None, 1.0)),
        ("white", True, False, (None, 1.0)),
    ],
)
def test_a_dirty_beam_is_known_from_a_file_or_of_a_cube_that_was_smoothed_or_partly_cleaned(
    monkeypatch, rule, header, given, known
):
    """There is none if the noise is white, or without a header."""
    made = None if rule == "white" else SimpleNamespace(psf="smoothed", peak=1.2)
    monkeypatch.setattr(sidelobes, "smoothed_beam", lambda *_: made)
    monkeypatch.setattr(sidelobes, "remaining_beam", lambda *_: "remaining")
    monkeypatch.setattr(sidelobes, "resampled_psf", lambda *_: "of a file")
    decision = None if rule is None else BeamDecision("dirty", "smoothed" if rule == "white" else rule, {})
    beam = KnownBeam(BEAM, np.eye(2) if header else None, "file" if given else None)
    corrected = SimpleNamespace(noise=["noise"], given=units_of(np.zeros((2, 4, 4))))
    assert sidelobes.known_psf(beam, decision, WINDOW, corrected) == known


@pytest.mark.parametrize(
    ("rule", "header", "found", "share"),
    [
        ("slope", True, None, 0.3),
        ("slope", False, None, 0.0),
        ("lobe", True, None, 0.0),
        ("header", True, "estimated", 1.0),  # as dirty as if it had not been CLEANed
        ("header", True, "smoothed", 0.0),
        ("header", True, "lobe", 0.0),
        ("header", True, "slope", 0.3),
        ("nothing taken", True, None, 0.0),
    ],
)
def test_what_clean_has_left_is_subtracted_as_far_as_bright_sources_show_it(monkeypatch, rule, header, found, share):
    values = {"visible": 1.0, "slope": 1.0 if found == "estimated" else 0.3, "err_slope": 0.01, "explained": 0.9}
    monkeypatch.setattr(sidelobes, "peak_snr", lambda _: None)
    beam = "dirty" if found in ("estimated", "smoothed") else "clean"
    monkeypatch.setattr(sidelobes, "decide", lambda *_: BeamDecision(beam, found, values))
    monkeypatch.setattr(sidelobes, "remaining_beam", lambda *_: PSF)
    taken = None if rule == "nothing taken" else "sidelobes"
    monkeypatch.setattr(sidelobes, "without_sidelobes", lambda *_: ("less", taken))
    decision = BeamDecision("clean", "slope" if rule == "nothing taken" else rule, {} if rule == "header" else values)
    known = KnownBeam(BEAM, np.eye(2) if header else None)
    units, after, subtracted = sidelobes.without_remaining(
        "whole", known, decision, None, 1, SimpleNamespace(noise=[PSF])
    )
    assert subtracted == pytest.approx(share, abs=0.05)
    assert units == ("less" if share or rule == "nothing taken" else "whole")
    assert ("slope" in after.values) == (rule != "header" or share > 0)


@pytest.mark.parametrize("curvature", [None, np.diag([-1.0, 1e-4])])
def test_a_lobe_that_is_no_gaussian_has_no_kernel(monkeypatch, curvature):
    monkeypatch.setattr("napari_almadet.search.smoothed_beam.lobe_curvature", lambda _: curvature)
    assert fitted_kernel(*noise_power(0.5, TARGET), TARGET) is None


def test_where_nothing_was_restored_nothing_fainter_is():
    images, spectra = np.ones((1, SIDE, SIDE), np.float32), np.ones((1, CHANNELS), np.float32)
    window = replace(WINDOW, sidelobes=images, spectra=spectra, rms_map=images[0])
    one = RawDetection(Candidate(1, Box(0, 1, 0, 1), 0.9), 5.0, 5.0, 2.0, 2.0, spectra[0], Features(), window)
    sidelobes.restore_fainter([one])
    assert one.window is window
    sidelobes.restore_fainter([])


def test_the_mean_of_an_image_is_the_sum_of_its_transform():
    for shape in ((6, 8), (6, 7)):
        image = noise(*shape)
        symmetric = np.fft.irfft2(np.abs(np.fft.rfft2(image)), s=shape)
        assert mean_of(np.fft.rfft2(symmetric).real, shape) == pytest.approx(symmetric[0, 0])


def test_pixels_that_are_not_averaged_change_no_power():
    assert block_power((8, 8), 1) == block_power((8, 8), 0.5) == 1.0
    assert block_power((8, 8), 2).shape == (8, 5)


@pytest.mark.parametrize("kind", ["stripe", "pixel"])
def test_noise_without_a_lobe_was_not_smoothed(kind):
    image = np.zeros(FIELD)
    image[:, 0] = 1.0
    if kind == "pixel":
        image[1:, 0] = 0.0
    assert fitted_kernel(np.fft.rfft2(image).real, FIELD, np.eye(2) * 4) is None


# --- patches ---


@pytest.mark.parametrize(("level", "belongs"), [(15.0, True), (9.0, False)])
def test_a_patch_reaches_down_to_a_tenth_of_its_peak(level, belongs):
    strength = np.zeros((SIDE, SIDE))
    strength[4:20, 4:20] = 100.0
    strength[4:20, 20:26] = level
    ((patch, _),) = patches(strength, 2.0)
    assert patch[10, 22] == belongs


def test_voxels_of_a_patch_are_those_about_the_channels_of_its_lines():
    cube = noise(CHANNELS, SIDE, SIDE)
    patch = np.zeros((SIDE, SIDE), bool)
    patch[4:12, 4:12] = True
    snr = np.where(np.arange(SIDE) < 8, 20.0, 1.0) * np.ones((SIDE, 1))
    channel = np.where(np.arange(SIDE) < 8, 8.0, 20.0) * np.ones((SIDE, 1))
    assert len(line_voxels(patch, seen_window(cube, snr, channel))[0]) < 9
    assert len(line_voxels(patch, seen_window(cube, 1.0, channel))[0]) > 15  # without lines, all that there is


@pytest.mark.parametrize(("channels", "level"), [(3, False), (4, True), (5, True)])
def test_a_spectrum_has_a_baseline_in_four_channels_and_more(monkeypatch, channels, level):
    asked = []
    monkeypatch.setattr(patch_properties, "remove_baseline", lambda spectra: asked.append(spectra.shape) or spectra)
    patch = np.zeros((SIDE, SIDE), bool)
    patch[4:12, 4:12] = True
    cube = noise(channels, SIDE, SIDE)
    of_spectrum(patch, seen_window(cube, 20.0, 1.0), cube[:, patch].sum(axis=1))
    assert bool(asked) == level


@pytest.mark.parametrize(("free", "beside"), [(12, False), (8, True)])
def test_of_fewer_than_ten_pixels_outside_a_patch_its_border_counts_too(free, beside):
    side = 16
    patch = np.ones((side, side), bool)
    patch[:3, :free] = False  # the third row touches the patch, and so does the last column
    patch[:2, free:] = True
    valid = patch.copy()
    valid[0, : free - 1] = valid[2, :free] = True
    valid[1, : free - 1] = False
    cube = noise(CHANNELS, side, side)
    seen = seen_window(cube, np.where(np.arange(side)[:, None] == 2, 30.0, 5.0) * np.ones(side), 8.0, beam=1.0)
    seen = SearchedWindow(
        units_of(cube, valid), *(getattr(seen, name) for name in seen.__dataclass_fields__ if name != "units")
    )
    about = of_surroundings(patch, seen, noise(CHANNELS))
    assert (about["other_peak"] > 20) == beside


# --- reliability ---


@pytest.mark.parametrize(("outside", "counts"), [(0.4, False), (0.6, True)])
@pytest.mark.parametrize("side", ["left", "right", "below", "above"])
def test_a_dip_lies_within_a_beam_and_half_a_pixel_of_the_box_of_a_source(monkeypatch, outside, counts, side):
    source = Candidate(1, Box(10, 20, 10, 20), 0.9, y=15.0, x=15.0, snr_pixel=100.0)
    away = outside + BEAM
    place = {"left": (15.0, 10 - away), "right": (15.0, 20 + away - 1), "below": (10 - away, 15.0)}
    y, x = place.get(side, (20 + away - 1, 15.0))
    dip = Candidate(2, Box(0, 1, 0, 1), 0.9, y=y, x=x, snr_pixel=10.0)

    def search_steps(*_, **__):
        yield from ()
        return SimpleNamespace(candidates=[dip], record={"scales": {"beam": BEAM}})

    monkeypatch.setattr("napari_almadet.search.pipeline.search_steps", search_steps)
    assert bool(finish(find_negatives.steps(None, None, None, [source]))) == counts
