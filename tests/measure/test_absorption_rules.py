"""Rules that make sure that a dip is the source's own, each on either side of its limit."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.measure import absorption
from napari_almadet.measure.absorption import (
    correct_continuum,
    doubt_lines_at_both_ends,
    find_absorption,
    is_local,
    spectrum_of,
)
from napari_almadet.measure.dips import Dip

N, SIDE, FWHM = 64, 61, 6.0
CENTRE = (30.0, 30.0)
Y, X = np.indices((SIDE, SIDE))
APART = np.hypot(X - CENTRE[0], Y - CENTRE[1]) / FWHM  # beams
BEAM = np.exp(-4 * np.log(2) * APART**2)
PROFILE = np.exp(-4 * np.log(2) * ((np.arange(N) - 32) / 8) ** 2)
DIP = Dip(20.0, 32.0, 0.1, 8.0, 0.1, 0.5, 0.01, 0.7, 0.02, 5.0, 0.1, np.nan)
FREE = np.abs(np.arange(N) - 32) > 16
SCALE = SimpleNamespace(fwhm=FWHM, beam=np.eye(2) * FWHM**2 / (8 * np.log(2)))
MEAN = BEAM[APART < 0.5].mean()  # of a point source in the middle of its beam


def local(continuum: np.ndarray, change: np.ndarray, noise: float = 1e-3) -> bool:
    """Whether a change of the image (ny, nx) in the channels of a line is a dip of the source in the middle."""
    values = (continuum + PROFILE[:, None, None] * change).astype(np.float32)
    cutout = SimpleNamespace(
        values=values,
        rms=np.ones(N),
        level=np.ones((SIDE, SIDE)),
        noise=SimpleNamespace(spectral_variance=lambda weights: noise**2 * float((weights**2).sum())),
    )
    return is_local(DIP, FREE, values[:, 30, 30], cutout, SCALE, CENTRE)


def point(x: float, y: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((X - x) ** 2 + (Y - y) ** 2) / FWHM**2)


def test_what_is_taken_of_a_point_source_is_its_own():
    assert local(10 * BEAM, -5 * BEAM)


def test_a_source_in_emission_has_no_dip():
    assert not local(10 * BEAM, 5 * BEAM)


def test_a_dip_needs_continuum_behind_it():
    assert not local(-10 * BEAM, -5 * BEAM)


@pytest.mark.parametrize(("share", "own"), [(0.11, False), (0.2, True)])
def test_a_dip_may_be_the_sidelobe_of_what_is_seven_times_as_strong_elsewhere(share, own):
    """Dirty beams have sidelobes of a tenth of their peak."""
    deep = share / MEAN
    assert local(10 * BEAM, 1.0 * point(6, 6) - deep * BEAM) == own


@pytest.mark.parametrize(("sigma", "own"), [(2.0, True), (4.0, False)])
def test_a_dip_is_not_deeper_than_the_continuum_is_bright(sigma, own):
    """By up to three sigma of its channels: light cannot be less than none."""
    noise = 0.5
    of_dip = noise / np.sqrt((PROFILE**2).sum())
    assert local(10 * BEAM, -(10 + sigma * of_dip / MEAN) * BEAM, noise) == own


@pytest.mark.parametrize(("wide", "own"), [(1.0, True), (1.5, True), (2.5, False), (20.0, False)])
def test_a_bowl_is_as_deep_beside_the_source_as_on_it(wide, own):
    """A dip that is wider than the source by half at most; the beam's flank is 1 % to 6 % of its peak in the ring."""
    assert local(10 * BEAM, -5 * BEAM ** (1 / wide**2)) == own


@pytest.mark.parametrize(("ring", "own"), [(0.25, True), (0.5, False)])
def test_the_ring_about_a_source_has_a_third_of_its_dip_at_most(ring, own):
    in_ring = (APART >= 1.0) & (APART < 1.6)
    middle = APART < 0.5
    assert local(10.0 * middle, -5.0 * middle - 5.0 * ring * in_ring) == own


@pytest.mark.parametrize(("inner", "outer"), [(0.5, 1.25), (1.7, 3.1)])
def test_dips_nearer_or_further_than_the_ring_are_not_in_it(inner, outer):
    """What is nearer may be the source's, and what is further away another's; a third of the ring is not its median."""
    beside = (inner < APART) & (outer > APART)
    assert local(10 * BEAM, -5 * BEAM - 4.0 * beside)


def test_in_strong_noise_too_a_dip_needs_continuum_and_must_be_on_the_source():
    ring = 20.0 * ((APART >= 1.0) & (APART < 1.6))
    assert local(10 * BEAM, -1.0 * BEAM, 10.0)
    assert not local(-0.5 * BEAM, -1.0 * BEAM, 10.0)
    assert not local(10 * BEAM, 0.5 * (APART < 0.5) - ring, 10.0)  # beside it


@pytest.mark.parametrize(("place", "side"), [((200.0, 200.0), SIDE), ((-7.0, 30.0), SIDE), ((4.0, 4.0), 9)])
def test_a_dip_without_pixels_on_or_about_it_is_none(place, side):
    """Of places outside, and of a cutout that ends before the ring begins; without a warning of a mean of no pixel."""
    cutout = SimpleNamespace(
        values=(10 - 5 * PROFILE[:, None, None] * np.ones((side, side))).astype(np.float32),
        rms=np.ones(N),
        level=np.ones((side, side)),
        noise=SimpleNamespace(spectral_variance=lambda weights: 1.0),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_local(DIP, FREE, np.ones(N), cutout, SCALE, place)


# --- where a dip is looked for ---


def looking(monkeypatch, level: float = 2.0, mode: str = "on", dips=(), n: int = 128, **values) -> tuple:
    """The candidate, and what happened: what was called."""
    called = []
    monkeypatch.setattr(absorption, "spectrum_of", lambda *_: (level * np.ones(n), 1.0, CENTRE))
    monkeypatch.setattr(absorption, "doubt_lines_at_both_ends", lambda *_: called.append("ends"))
    monkeypatch.setattr(absorption, "dips_in", lambda spectrum: called.append("dips") or (spectrum.used, list(dips)))
    noise = SimpleNamespace(sigma=values.pop("sigma", np.ones(n)), spectral=np.ones(1))
    cutout = SimpleNamespace(rms=np.ones(n), noise=noise)
    made = SimpleNamespace(continuum_snr=values.pop("snr", 10.0), lines=None, method="mask")
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind=values.pop("kind", "continuum"))
    candidate.f_cont = 10.0
    find_absorption(candidate, cutout, made, SimpleNamespace(width=2.0), mode)
    return candidate, called


@pytest.mark.parametrize(
    ("level", "mode", "looked"), [(0.7, "auto", False), (1.3, "auto", True), (0.7, "on", True), (0.7, "off", False)]
)
def test_a_dip_is_looked_for_where_one_that_takes_all_of_the_continuum_would_be_seen(monkeypatch, level, mode, looked):
    """In a third of 128 channels, six sigma are 0.92 sigma of one channel."""
    assert looking(monkeypatch, level, mode)[1] == (["dips"] if looked else [])


@pytest.mark.parametrize(
    ("kind", "snr", "mode", "called"),
    [
        ("line", 5.0, "on", ["ends", "dips"]),
        ("line", 4.0, "on", ["ends"]),
        ("continuum", 4.0, "on", []),
        ("line", 10.0, "off", []),
    ],
)
def test_without_continuum_there_is_nothing_to_absorb(monkeypatch, kind, snr, mode, called):
    assert looking(monkeypatch, kind=kind, snr=snr, mode=mode)[1] == called


@pytest.mark.parametrize(
    "values", [{"level": -2.0}, {"sigma": np.where(np.arange(128) == 5, 0.0, 1.0)}, {"n": 7}, {"n": 15}]
)
def test_no_dip_is_looked_for_in_a_spectrum_below_zero_or_without_noise_or_of_few_channels(monkeypatch, values):
    assert looking(monkeypatch, **values)[1] == []


@pytest.mark.parametrize(("free", "called"), [(7, []), (8, ["dips"])])
def test_the_level_of_fewer_than_eight_channels_beside_a_line_is_no_continuum(monkeypatch, free, called):
    channel = np.arange(128)
    monkeypatch.setattr(absorption, "emission_of", lambda *_: channel >= free)
    assert looking(monkeypatch, np.where(channel < free, 10.0, 0.0))[1] == called


@pytest.mark.parametrize("own", [True, False])
def test_of_the_dips_that_are_the_sources_own_the_most_significant_is_in_the_catalogue(monkeypatch, own):
    deep, faint = replace(DIP, snr=30.0, depth=0.9), DIP
    monkeypatch.setattr(absorption, "is_local", lambda dip, *_: own and dip is faint)
    candidate, _ = looking(monkeypatch, dips=(deep, faint))
    assert (candidate.abs_depth == faint.depth) == own
    assert np.isnan(candidate.abs_snr) != own


# --- the continuum behind a dip ---


@pytest.mark.parametrize(
    ("kind", "method", "peak", "ratio"),
    [
        ("continuum", "point", 8.0, 12 / 8),  # by the spectrum at the peak
        ("line", "point", 8.0, 12 / 8),
        ("continuum", "point", np.nan, 10 / 8.75),  # which is not known
        ("continuum", "mask", 8.0, 10 / 8.75),  # of the sum over the mask
    ],
)
def test_the_continuum_is_that_of_the_channels_without_the_dip(kind, method, peak, ratio):
    used, free = np.ones(16, bool), np.arange(16) >= 4
    own = np.where(free, 10.0, 5.0)
    made = SimpleNamespace(method=method, own=np.where(free, 12.0, 6.0), continuum_peak=peak)
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind=kind)
    candidate.f_cont, candidate.err_f_cont, candidate.peak = 2.0, 0.1, 3.0
    correct_continuum(candidate, made, own, free, used)
    assert candidate.f_cont == pytest.approx(2 * ratio)
    assert candidate.err_f_cont == pytest.approx(0.1 * ratio * np.sqrt(16 / 12))  # fewer channels
    assert candidate.peak == pytest.approx(3 * ratio if kind == "continuum" else 3)


def test_without_the_spectrum_at_its_peak_a_continuum_is_corrected_by_that_at_the_place():
    used, free = np.ones(16, bool), np.arange(16) >= 4
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind="line")
    candidate.f_cont = 2.0
    made = SimpleNamespace(method="point", own=None, continuum_peak=8.0)
    correct_continuum(candidate, made, np.where(free, 10.0, 5.0), free, used)
    assert candidate.f_cont == pytest.approx(2 * 10 / 8.75)


@pytest.mark.parametrize(("level", "flux"), [(-10.0, 2.0), (10.0, np.nan)])
def test_a_continuum_that_was_not_measured_is_not_corrected(level, flux):
    used, free = np.ones(16, bool), np.arange(16) >= 4
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind="continuum")
    candidate.f_cont, candidate.peak = flux, 3.0
    made = SimpleNamespace(method="point", own=None, continuum_peak=np.nan)
    correct_continuum(candidate, made, np.where(free, level, 5.0), free, used)
    assert (candidate.f_cont, candidate.peak) == pytest.approx((flux, 3.0), nan_ok=True)


@pytest.mark.parametrize(
    ("method", "covered", "has_continuum", "place"),
    [
        ("mask", True, True, (36.0, 24.0)),
        ("mask", True, False, (30.0, 30.0)),  # of the median
        ("mask", False, True, (31.0, 29.0)),
        ("point", True, True, (31.0, 29.0)),
    ],
)
def test_the_spectrum_of_an_extended_source_is_taken_where_its_continuum_is_brightest(
    method, covered, has_continuum, place
):
    candidate = Candidate(1, Box(25, 36, 25, 36), 1.0)
    candidate.x, candidate.y = 31.0, 29.0
    cutout = SimpleNamespace(
        values=np.ones((4, 1, 1), np.float32) * BEAM.astype(np.float32),
        origin=(0, 0),
        pixels=np.ones((SIDE, SIDE), bool),
        level=np.ones((SIDE, SIDE)),
        noise=SimpleNamespace(spatial_variance=lambda row: 1.0),
    )
    mask = np.zeros((4, SIDE, SIDE), bool)
    mask[:, 20:40, 20:40] = covered
    parts = SimpleNamespace(mask=mask, continuum=point(36, 24) + 2 * point(50, 50), has_continuum=has_continuum)
    assert spectrum_of(candidate, cutout, SimpleNamespace(method=method, parts=parts), SCALE)[2] == place


def test_the_spectrum_of_a_source_has_four_percent_more_variance_than_that_of_its_pixel():
    """Noise as wide as the beam; a fit of the whole beam would have a third more (integrals of Gaussians)."""

    def variance(row: np.ndarray) -> float:
        y, x = np.nonzero(row)
        apart = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
        return float(row[y, x] @ np.exp(-4 * np.log(2) * apart / FWHM**2) @ row[y, x])

    candidate = Candidate(1, Box(25, 36, 25, 36), 1.0)
    candidate.x, candidate.y = CENTRE
    cutout = SimpleNamespace(
        values=np.ones((4, 1, 1), np.float32) * BEAM.astype(np.float32),
        origin=(0, 0),
        pixels=np.ones((SIDE, SIDE), bool),
        level=np.ones((SIDE, SIDE)),
        noise=SimpleNamespace(spatial_variance=variance),
    )
    made = SimpleNamespace(method="point", parts=SimpleNamespace(mask=np.zeros((4, SIDE, SIDE), bool)))
    own, found, place = spectrum_of(candidate, cutout, made, SCALE)
    assert own == pytest.approx(np.ones(4), abs=0.01)  # the flux of the source
    assert found == pytest.approx(1.25**2 / 1.5, abs=0.01)
    assert place == CENTRE


# --- emission at both ends of a band ---

LONG = 400  # channels, of which a twentieth at each end are 20


def both_ends(first: float, last: float, channels: int = 20, middle: float = 0.0) -> bool:
    """Whether emission at both ends is in doubt, in noise of 1."""
    own = np.full(LONG, middle)
    own[:channels], own[-channels:] = first, last
    noise = SimpleNamespace(spectral_variance=lambda weights: float((weights**2).sum()))
    cutout = SimpleNamespace(rms=np.ones(LONG), noise=noise)
    candidate = Candidate(1, Box(0, 4, 0, 4), 1.0, kind="line")
    doubt_lines_at_both_ends(candidate, cutout, own, 1.0)
    return any(decision.rule == "both_ends" for decision in candidate.decisions)


ERROR = 1 / np.sqrt(20)


@pytest.mark.parametrize(("snr", "doubt"), [(4.2, False), (6.0, True), (9.0, True)])
def test_emission_in_a_twentieth_of_the_band_counts_from_five_sigma_on(snr, doubt):
    assert both_ends(snr * ERROR, snr * ERROR) == doubt


@pytest.mark.parametrize(("apart", "doubt"), [(0.07, True), (0.15, False)])
def test_continuum_differs_by_a_tenth_at_most_between_the_ends_of_a_band(apart, doubt):
    assert both_ends(1000.0, 1000.0 * (1 - apart)) == doubt


@pytest.mark.parametrize(("sigma", "doubt"), [(2.4, True), (4.5, False)])
def test_faint_emission_may_differ_by_three_sigma_more(sigma, doubt):
    last = 5.5 * ERROR
    assert both_ends(last + sigma * np.sqrt(2) * ERROR, last) == doubt


@pytest.mark.parametrize(("middle", "doubt"), [(0.4, True), (0.6, False)])
def test_continuum_in_the_middle_of_the_band_too_is_no_doubt(middle, doubt):
    assert both_ends(10.0, 10.0, middle=10 * middle) == doubt


@pytest.mark.parametrize(("channels", "doubt"), [(31, False), (32, True)])
def test_the_ends_of_a_band_of_fewer_than_32_channels_are_most_of_it(monkeypatch, channels, doubt):
    monkeypatch.setattr(sys.modules[__name__], "LONG", channels)
    assert both_ends(1000.0, 1000.0, 4) == doubt
