"""Rules that find dips in a spectrum and describe them, each on either side of its limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from napari_almadet.measure import dips
from napari_almadet.measure.dips import (
    Dip,
    Spectrum,
    between,
    clipped,
    continuum_channels,
    described,
    dip_channels,
    dips_in,
    outliers,
    profile,
    threshold,
    widths,
)

N = 128
WHITE = np.ones(1)
DIP = Dip(20.0, 64.0, 0.1, 10.0, 0.1, 0.5, 0.01, 0.7, 0.02, 5.0, 0.1, np.nan)


def spectrum_of(values: np.ndarray) -> Spectrum:
    n = len(values)
    return Spectrum(np.asarray(values, float), np.ones(n, bool), np.ones(n), WHITE)


# --- what is tried ---


def test_lines_up_to_a_third_of_the_band_are_tried_and_none_loses_two_percent_of_its_signal():
    """A Gaussian of width v has sqrt(2 v w / (v^2 + w^2)) of the S/N of a line of width w."""
    tried = np.array(widths(N))
    assert N / 3 / 1.5 < tried[-1] <= N / 3
    between_two = np.sqrt(tried[:-1] * tried[1:])
    assert np.sqrt(2 * tried[:-1] * between_two / (tried[:-1] ** 2 + between_two**2)).min() > 0.98


def test_the_least_significance_of_a_dip_in_128_channels():
    """One false dip in 2500 spectra; twice as many or half would be 0.14 sigma less or more."""
    assert threshold(N) == pytest.approx(4.74, abs=0.05)


@pytest.mark.parametrize(
    ("channels", "level", "low"),
    [(1, 2.4, False), (1, 2.6, True), (3, 1.78, False), (3, 1.9, True), (9, 1.26, False), (9, 1.32, True)],
)
def test_deviations_of_one_three_and_nine_channels_count_by_their_sums(channels, level, low):
    """From 2.5 sigma of a channel on, 3.2 of three and 3.9 of nine."""
    rest = np.zeros(N)
    rest[50 : 50 + channels] = -level
    assert outliers(spectrum_of(rest), rest)[0].any() == low


@pytest.mark.parametrize(("channels", "at_ends", "left"), [(100, 13, 0), (100, 18, 22), (30, 5, 0), (30, 7, 10)])
def test_there_is_continuum_in_15_percent_of_the_band_and_8_channels_at_least(channels, at_ends, left):
    """Beside emission in its middle.  7 channels next to it do not count, and 2 of the short band, as sums have it."""
    beside = np.minimum(np.arange(channels), np.arange(channels)[::-1]) < at_ends
    assert np.count_nonzero(clipped(spectrum_of(np.where(beside, 0.0, 30.0)), below=False)) == left


# --- dips of a spectrum ---


def test_six_dips_are_counted_at_most():
    channel = np.arange(850)
    tau = sum(np.exp(-4 * np.log(2) * ((channel - centre) / 6) ** 2) for centre in range(50, 850, 100))
    noise = np.random.default_rng(1).standard_normal(850)
    assert len(dips_in(spectrum_of(40 * np.exp(-tau) + noise))[1]) == 6


def test_what_is_low_up_to_the_end_of_the_band_is_no_line():
    noise = np.random.default_rng(2).standard_normal(N)
    assert not dips_in(spectrum_of(np.where(np.arange(N) < 110, 30.0, 15.0) + noise))[1]
    assert dips_in(spectrum_of(np.where(abs(np.arange(N) - 100) > 9, 30.0, 15.0) + noise))[1]


@pytest.mark.parametrize(("from_end", "whole"), [(5.0, False), (6.5, True)])
def test_a_dip_ends_within_the_band_if_one_channel_lies_beyond_its_flank(from_end, whole):
    """Of 0.6 of its width of 10 channels."""
    dip = Dip(**{**vars(DIP), "z": N - 1 - from_end})
    assert between(dip, spectrum_of(np.zeros(N)), np.zeros(N), np.full(N, 20.0)) == whole


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("low", "whole"), [(0.4, True), (0.6, False)])
def test_the_spectrum_rises_by_half_on_both_sides_of_a_dip(side, low, whole):
    rest = np.where(side * (np.arange(N) - DIP.z) > 0, -low * DIP.depth * 20.0, 0.0)
    assert between(DIP, spectrum_of(rest), rest, np.full(N, 20.0)) == whole


# --- where emission is not looked for ---


@pytest.mark.parametrize(("snr", "looked"), [(4.0, False), (5.0, True)])
def test_dips_are_looked_for_in_a_continuum_of_four_and_a_half_sigma(monkeypatch, snr, looked):
    asked = []
    monkeypatch.setattr(dips, "dips_in", lambda spectrum: asked.append(1) or (spectrum.used, []))
    dip_channels(np.full(N, snr / np.sqrt(N)), np.ones(N), np.ones(N, bool), WHITE)
    assert bool(asked) == looked


def test_a_dip_ends_where_two_percent_of_its_depth_are_left(monkeypatch):
    """1.19 widths from its middle: ln 50 / (4 ln 2) is 1.19^2."""
    monkeypatch.setattr(dips, "dips_in", lambda spectrum: (spectrum.used, [DIP]))
    gone = dip_channels(np.full(N, 20.0), np.ones(N), np.ones(N, bool), WHITE)
    assert np.flatnonzero(gone).tolist() == list(range(64 - 11, 64 + 12))


@pytest.mark.parametrize(("beside", "left_out"), [(8, True), (7, False)])
def test_a_dip_is_left_out_if_it_leaves_eight_channels(monkeypatch, beside, left_out):
    monkeypatch.setattr(dips, "dips_in", lambda spectrum: (spectrum.used, [Dip(**{**vars(DIP), "z": 11.0})]))
    used = np.arange(40) < 23 + beside
    assert dip_channels(np.full(40, 20.0), np.ones(40), used, WHITE).any() == left_out


def test_dips_are_not_looked_for_in_fewer_than_sixteen_channels(monkeypatch):
    asked = []
    monkeypatch.setattr(dips, "dips_in", lambda spectrum: asked.append(1) or (spectrum.used, []))
    for n in (15, 16):
        dip_channels(np.full(n, 20.0), np.ones(n), np.ones(n, bool), WHITE)
    assert asked == [1]


def test_the_depth_of_a_dip_in_a_bright_continuum_is_known_as_well_as_the_bandpass():
    """The error of a fit to channels that differ by half a percent, whatever their noise; by scipy's curve_fit."""
    channel = np.arange(N, dtype=float)

    def model(x, depth, centre, width):
        return 1 - depth * np.exp(-4 * np.log(2) * ((x - centre) / width) ** 2)

    truth = (0.1, 64.0, 12.0)
    _, covariance = curve_fit(model, channel, model(channel, *truth), truth, np.full(N, 0.005), absolute_sigma=True)
    seen = []
    own = 1e5 * model(channel, *truth)
    original = dips.dips_in
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dips, "dips_in", lambda spectrum: seen.append(original(spectrum)) or seen[0])
        gone = dip_channels(own, np.ones(N), np.ones(N, bool), WHITE)
    ((_, (dip,)),) = seen
    assert gone[64]
    assert dip.err_depth == pytest.approx(np.sqrt(covariance[0, 0]), rel=0.2)


# --- what a dip is ---


@pytest.mark.parametrize(("depth", "is_dip"), [(0.012, False), (0.018, True)])
def test_what_takes_less_than_one_and_a_half_percent_is_the_bandpass(depth, is_dip):
    p = np.array([np.log(-np.log1p(-depth)), 64.0, np.log(10.0), 0.0])
    assert (described(p, np.eye(4) * 1e-8, 30.0, 1e4) is not None) == is_dip


def test_a_fit_without_a_finite_error_is_no_dip():
    p = np.array([np.log(0.5), 64.0, np.log(10.0), 0.0])
    assert described(p, np.diag([np.inf, 0.01, 0.01, 0.01]), 30.0, 100.0) is None


def test_a_profile_has_half_its_height_at_half_its_width():
    assert profile(N, 64, 10)[[59, 64, 69]] == pytest.approx([0.5, 1.0, 0.5])


# --- continuum ---


def test_emission_is_clipped_too_where_nothing_lies_below_the_continuum():
    own = np.where(np.abs(np.arange(N) - 60) < 2, 9.0, 0.0)
    assert not clipped(spectrum_of(own), below=True)[59:62].any()


def test_channels_are_clipped_until_no_other_stands_out():
    """A line in emission with broad wings takes eight turns."""
    channel = np.arange(512) - 256
    own = np.random.default_rng(0).normal(size=512)
    own += 12 * np.exp(-((channel / 51.2) ** 2)) + 4 * np.exp(-((channel / 102.4) ** 2))
    spectrum = spectrum_of(own)
    free = clipped(spectrum, below=False)
    line, _ = dips.continuum_fit(spectrum, free)
    low, high = outliers(spectrum, own - line)
    assert free.sum() > 200
    assert (free == ~(low | high)).all()


def test_where_no_channel_has_the_level_of_another_there_is_neither_continuum_nor_a_dip():
    wild = spectrum_of(1000 * np.random.default_rng(0).normal(size=24))
    assert not continuum_channels(wild).any()
    assert dips_in(wild)[1] == []


def test_a_dip_of_a_hundredth_is_none_however_bright_the_continuum():
    own = 1000 * np.exp(-0.01 * profile(N, 64.0, 10.0)) + np.random.default_rng(4).normal(size=N)
    assert dips_in(spectrum_of(own))[1] == []
    own = 1000 * np.exp(-0.02 * profile(N, 64.0, 10.0)) + np.random.default_rng(4).normal(size=N)
    assert len(dips_in(spectrum_of(own))[1]) == 1


def test_dips_are_looked_for_as_long_as_sixteen_channels_are_left(monkeypatch):
    left = []

    def strongest(spectrum, inside):
        left.append(int(inside.sum()))
        return 100.0, float(np.flatnonzero(inside)[0]), 1.0

    monkeypatch.setattr(dips, "strongest", strongest)
    dips_in(spectrum_of(np.random.default_rng(1).normal(size=24)))
    assert left == [24, 20, 16]  # a dip and two channels more, as noise may place it: three to each side


def test_dips_beside_each_other_are_fitted_each_without_the_other():
    tau = 1.0 * profile(N, 50.0, 10.0) + 0.5 * profile(N, 72.0, 10.0)
    first, second = dips_in(spectrum_of(100 * np.exp(-tau) + np.random.default_rng(4).normal(size=N)))[1]
    assert (first.z, second.z) == pytest.approx((50, 72), abs=0.5)
    assert (first.tau, second.tau) == pytest.approx((1.0, 0.5), rel=0.1)


def test_each_dip_is_fitted_without_the_others_to_a_continuum_without_any(monkeypatch):
    found, fits = iter([(100.0, 40.0, 8.0), (90.0, 80.0, 8.0), (0.0, 0.0, 1.0)]), []
    monkeypatch.setattr(dips, "strongest", lambda *_: next(found))
    monkeypatch.setattr(dips, "fitted", lambda spectrum, rest, *_: fits.append(rest))
    free, _ = dips_in(spectrum_of(20 + np.random.default_rng(1).normal(size=N)))
    assert not free[[40, 44, 76, 80]].any()
    assert free[[20, 60, 100]].all()
    first, second = fits
    assert not first[72:89].any() and first[32:49].all()
    assert not second[32:49].any() and second[72:89].all()
