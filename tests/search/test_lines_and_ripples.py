"""Numbers that decide about lines and ripples, each on both sides of its limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import extent_of, whole_window

from napari_almadet import Settings
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.progress import finish
from napari_almadet.search.decisions import baseline_ripple
from napari_almadet.search.line_detection import distinct, frequency_denoising, like_noise, refined, set_lines
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.search_networks import SearchNetworks

WINDOW = whole_window(10)


def wave(swings: int, crest: float = 1.0) -> np.ndarray:
    """Half waves of 8 channels, so many changes of sign, in 96 channels; the first crest ``crest`` times as high."""
    spectrum = np.full(96, 1e-6)  # 0 would mean: no data
    phase = np.arange((swings + 1) * 8) + 0.5
    spectrum[8 : 8 + len(phase)] = np.sin(np.pi * phase / 8)
    spectrum[8:16] *= crest
    return spectrum


def with_dip(spectrum: np.ndarray, snr: float) -> np.ndarray:
    """The spectrum so scaled that its deepest dip has such an SNR."""
    return spectrum * snr / baseline_ripple(wave(5) * 100) * 100


@pytest.mark.parametrize(("snr", "ripple"), [(8.8, True), (7.2, False)])
def test_a_wave_counts_from_eight_sigma_on(snr, ripple):
    found = baseline_ripple(with_dip(wave(5), snr))
    assert found == pytest.approx(snr if ripple else 0)


@pytest.mark.parametrize(("crest", "ripple"), [(1.2, True), (1.45, False), (3, False)])
def test_a_wave_is_about_as_deep_as_it_is_high(crest, ripple):
    assert bool(baseline_ripple(with_dip(wave(5, crest), 30))) == ripple


@pytest.mark.parametrize(("swings", "ripple"), [(1, False), (2, False), (3, True), (5, True)])
def test_a_wave_swings_three_times_at_least(swings, ripple):
    assert bool(baseline_ripple(with_dip(wave(swings), 30))) == ripple


def test_no_data_are_no_wave():
    assert baseline_ripple(np.zeros(96)) == 0


def fitted(centre: float, fwhm: float, n: int = 100, at: float = 50.0) -> EmissionPeak:
    """A line of FWHM 8 at channel ``at``, without noise, fitted from a start of such centre and width."""
    spectrum = 20 * np.exp(-4 * np.log(2) * ((np.arange(n) - at) / 8) ** 2)
    return refined(EmissionPeak(round(centre), 0.9, 0.9, centre, fwhm), spectrum.astype(np.float32))


@pytest.mark.parametrize(("shift", "taken"), [(0.6, True), (-0.6, True), (0.8, False), (-0.8, False)])
def test_a_fitted_centre_is_taken_within_seven_tenths_of_a_width(shift, taken):
    start = 50 + shift * 8
    assert fitted(start, 8).centre == pytest.approx(50 if taken else start, abs=0.05)


@pytest.mark.parametrize(("ratio", "taken"), [(1.8, True), (2.2, False), (0.55, True), (0.45, False)])
def test_a_fitted_width_is_taken_within_a_factor_of_two(ratio, taken):
    assert fitted(50, 8 / ratio).fwhm == pytest.approx(8 if taken else 8 / ratio, rel=0.01)


def test_four_channels_are_too_few_to_fit_a_line_and_six_are_not():
    assert fitted(1.5, 6, n=4, at=2.0) == EmissionPeak(2, 0.9, 0.9, 1.5, 6)
    assert fitted(2.5, 6, n=6, at=3.0).centre == pytest.approx(3, abs=0.1)


def test_a_line_is_no_narrower_than_a_channel():
    spectrum = np.zeros(60, np.float32)
    spectrum[30] = 20
    assert refined(EmissionPeak(30, 0.9, 0.9, 30.0, 1.2), spectrum).fwhm >= 1


def test_a_dip_is_no_line():
    spectrum = -20 * np.exp(-4 * np.log(2) * ((np.arange(100) - 50) / 8) ** 2)
    start = EmissionPeak(50, 0.9, 0.9, 50.0, 8.0)
    assert refined(start, spectrum.astype(np.float32)) == start


def line_finder(spectra: torch.Tensor) -> torch.Tensor:
    """Sees a line in the middle of 96 channels, in spectra of any resolution."""
    answer = torch.zeros_like(spectra)
    step = 96 // answer.shape[1]
    answer[:, 44 // step : 52 // step] = 0.9
    return answer


@pytest.mark.parametrize(("snr", "kind"), [(4.4, "both"), (3.6, "line")])
def test_continuum_beside_a_line_counts_from_four_sigma_on(snr, kind):
    """``snr`` is the mean of the channels without the line over its error."""

    channel = np.arange(96)
    line = np.exp(-4 * np.log(2) * ((channel - 48) / 6) ** 2)
    detection = RawDetection(
        *(Candidate(1, Box(0, 1, 0, 1), 0.9), 5.0, 5.0, 2.0, 2.0),
        *((20 * line + snr / np.sqrt(84)).astype(np.float32), Features(snr_own_line=30.0), WINDOW),
    )
    finish(frequency_denoising([detection], Settings(), SearchNetworks(None, line_finder, None)))
    assert len(detection.candidate.peaks) == 1
    outside = 96 - np.diff(detection.candidate.peaks[0].emission_range(96))[0]
    assert outside == pytest.approx(84, abs=3)  # so that the level is as many sigma as it says
    assert detection.candidate.kind == kind


@pytest.mark.parametrize(("summed", "is_patch", "lines"), [(30.0, True, 1), (4.4, True, 0), (30.0, False, 0)])
def test_a_patch_has_the_line_of_its_sum_even_if_no_place_in_it_shows_one(summed, is_patch, lines):
    line = np.exp(-4 * np.log(2) * ((np.arange(96) - 48) / 6) ** 2)
    detection = RawDetection(
        *(Candidate(1, Box(0, 1, 0, 1), 0.9), 5.0, 5.0, 2.0, 2.0),
        *((20 * line + 1e-6).astype(np.float32), Features(snr_own_line=1.9), WINDOW, Box(2, 8, 2, 8)),
    )
    detection.extent = extent_of(snr_sum_line=summed)
    detection.box = detection.box if is_patch else None
    finish(frequency_denoising([detection], Settings(), SearchNetworks(None, line_finder, None)))
    assert len(detection.candidate.peaks) == lines


@pytest.mark.parametrize(
    ("height", "snr", "lines"), [(0.45, 30.0, 0), (0.55, 30.0, 1), (0.9, 4.4, 0), (0.9, 4.6, 1), (0.9, 30.0, 1)]
)
def test_a_line_needs_both_its_probability_and_its_snr(height, snr, lines):
    line = np.exp(-4 * np.log(2) * ((np.arange(96) - 48) / 6) ** 2).astype(np.float32)
    candidate = Candidate(1, Box(0, 1, 0, 1), 0.9, denoised=height * line)
    set_lines(candidate, 20 * line, snr)
    assert len(candidate.peaks) == lines
    assert candidate.channels == ((0, 96) if not lines else candidate.peaks[0].emission_range(96))


@pytest.mark.parametrize(
    ("centres", "widths", "kept"),
    [((22.37, 22.371), (10.5, 10.55), 1), ((22, 24), (10.5, 10.5), 2), ((22, 22), (5, 10), 2)],
)
def test_two_horns_that_are_fitted_by_one_gaussian_are_one_line(centres, widths, kept):
    lower, higher = (
        EmissionPeak(channel, height, 1.0, centre, fwhm)
        for channel, height, centre, fwhm in zip((17, 27), (0.8, 0.9), centres, widths, strict=True)
    )
    lines = distinct([lower, higher])
    assert len(lines) == kept
    assert higher in lines


@pytest.mark.parametrize(("n", "kept"), [(64, True), (4096, False)])
def test_a_further_line_is_one_that_noise_hardly_makes_in_so_many_channels(n, kept):
    """Of S/N 3.5: noise of 64 channels reaches 3.2 in one of twenty spectra, that of 4,096 reaches 4.2."""
    first, second = EmissionPeak(20, 1, 1, 20.0, 2.0), EmissionPeak(45, 0.6, 0.6, 45.0, 2.0)
    flat = np.zeros(n, np.float32)
    flat[18:23], flat[43:48] = 10, 3.5 / np.sqrt(5)
    assert like_noise((first, second), flat) == ([] if kept else [(second, pytest.approx(3.5))])


def test_a_part_of_a_line_is_kept_and_so_is_the_first_line_of_any_signal_to_noise_ratio():
    """The second peak's range overlaps that of the first."""
    first, horn = EmissionPeak(20, 1, 1, 20.0, 2.0), EmissionPeak(24, 0.6, 0.6, 24.0, 2.0)
    assert like_noise((first, horn), np.full(64, 0.1, np.float32)) == []


def test_a_peak_like_noise_is_no_line_of_a_candidate_and_the_decisions_say_so():
    n = 512
    channel = np.arange(n)
    denoised = np.exp(-0.5 * ((channel - 100) / 2) ** 2) + 0.6 * np.exp(-0.5 * ((channel - 457) / 2) ** 2)
    flat = np.where(abs(channel - 100) < 6, 10, 0.0) + np.where(abs(channel - 457) < 6, 0.9, 0.0)
    candidate = Candidate(1, Box(0, 1, 0, 1), 0.9)
    candidate.denoised = denoised.astype(np.float32)
    set_lines(candidate, flat.astype(np.float32), 14.0)
    assert [peak.channel for peak in candidate.peaks] == [100]
    (doubt,) = [decision for decision in candidate.decisions if decision.rule == "peak_discarded"]
    assert doubt.values["channel"] == 457
    assert "noise" in doubt.values["why"]
