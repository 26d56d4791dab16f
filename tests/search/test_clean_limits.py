"""Numbers that decide about dirty beam and sidelobes, each on both sides of its limit, in cubes without noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_almadet.search import dirty_beam
from napari_almadet.search.clean import sidelobe_level, without_sidelobes
from napari_almadet.search.components import (
    SCALES,
    Sidelobes,
    fit_components,
    gaussian,
    peak_snr,
    responses_at,
    responses_of,
    widened,
)
from napari_almadet.search.dirty_beam import beam_of_brightest, source_psf, weighted_psf, without_point_symmetric
from napari_almadet.search.noise_units import NoiseUnits

SIZE, CHANNELS, BEAM = 64, 48, 4.0
MIDDLE = (32, 32)
SIDELOBES = [(0, 12), (0, -12), (9, 0), (-9, 0)]  # lags of the four sidelobes of our dirty beam, in pixels


def beam_with_sidelobes(level: float) -> torch.Tensor:
    """A dirty beam: a Gaussian with four sidelobes as wide as itself, its peak at [0, 0] of twice the field."""
    lobe = gaussian((2 * SIZE, 2 * SIZE), BEAM)
    return lobe + level * sum(torch.roll(lobe, lag, (0, 1)) for lag in SIDELOBES)


def units_of(*sources: tuple[tuple[int, int], float], psf: torch.Tensor) -> NoiseUnits:
    """Sources of flat spectra at such places, with such an S/N in the stacked image, as the PSF shows them."""
    cube = torch.zeros(CHANNELS, SIZE, SIZE)
    for (y, x), snr in sources:
        cube += snr / CHANNELS**0.5 * torch.roll(psf, (y, x), (0, 1))[:SIZE, :SIZE]
    whole = torch.ones(SIZE, SIZE)
    return NoiseUnits(cube, whole > 0, torch.ones(CHANNELS), whole, torch.arange(CHANNELS))


def components(*sources: tuple[tuple[int, int], float], level: float) -> list[list[int]]:
    """Places of what is taken off, if the dirty beam is known and has sidelobes so high."""
    psf = beam_with_sidelobes(level)
    _, taken = without_sidelobes(units_of(*sources, psf=psf), BEAM, psf)
    return [] if taken is None else sorted(taken.places.tolist())


@pytest.mark.parametrize(("snr", "taken"), [(9, True), (7, False)])
def test_a_source_under_eight_sigma_has_no_sidelobes_worth_taking_off(snr, taken):
    assert bool(components((MIDDLE, snr), level=0.3)) == taken


@pytest.mark.parametrize(("snr", "taken"), [(40, True), (30, False)])
def test_sidelobes_are_taken_off_where_they_reach_seven_tenths_of_the_noise(snr, taken):
    assert bool(components((MIDDLE, snr), level=0.02)) == taken


@pytest.mark.parametrize(("snr", "taken"), [(60, True), (40, False)])
def test_what_is_fainter_than_a_twentieth_of_the_brightest_is_left(snr, taken):
    assert ([12, 50] in components((MIDDLE, 1000), ((12, 50), snr), level=0.3)) == taken


@pytest.mark.parametrize(("beams", "level"), [(1.0, 0.0), (1.5, 0.4)])
def test_the_main_lobe_ends_at_one_beam_and_a_fifth(beams, level):
    psf = torch.zeros(2 * SIZE, 2 * SIZE)
    psf[0, 0], psf[0, round(beams * BEAM)] = 1, 0.4
    assert sidelobe_level(psf, BEAM) == pytest.approx(level)


@pytest.mark.parametrize("size", [0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.6])
def test_a_component_has_the_size_of_its_source(size):
    psf = beam_with_sidelobes(0.1)
    units = units_of((MIDDLE, 100), psf=widened(psf, size * BEAM))
    (scale,), spectra = fit_components(units, [MIDDLE], responses_of(psf, BEAM), BEAM)
    assert SCALES[scale] == pytest.approx(size, abs=0.04)
    assert torch.linalg.norm(spectra) == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("fwhm", "share"), [(1, 0.95), (4, 0.93), (16, 0.8)])
def test_a_bright_line_is_seen_with_nearly_all_of_its_signal(fwhm, share):
    """All but what is lost with the continuum, which is as much as a wide line has of it."""
    line = torch.exp(-4 * np.log(2) * ((torch.arange(96) - 40) / fwhm) ** 2)
    cube, whole = torch.zeros(96, 16, 16), torch.ones(16, 16)
    cube[:, 8, 8] = 30 * line / torch.linalg.norm(line)
    units = NoiseUnits(cube, whole > 0, torch.ones(96), whole, torch.arange(96))
    assert float(peak_snr(units)[8, 8]) > share * 30


# --- what bright sources show of the dirty beam ---------------------------------------------------------------------


def shown_by(size: float, snr: float, true: torch.Tensor, assumed: torch.Tensor) -> float:
    """The level that a sidelobe gets from a source of so many beams; as assumed, it has none."""
    units = units_of((MIDDLE, snr), psf=widened(true, size * BEAM))
    scales, spectra = fit_components(units, [MIDDLE], responses_of(assumed, BEAM), BEAM)
    assert SCALES[scales[0]] == pytest.approx(size)
    images = responses_at([MIDDLE], [responses_of(assumed, BEAM)[scales[0]]], units)
    sources = Sidelobes(spectra, images, torch.tensor([MIDDLE]))
    return float(source_psf(units, assumed, torch.zeros(assumed.shape), sources, scales, BEAM)[SIDELOBES[0]])


@pytest.mark.parametrize(("size", "used"), [(0.0, True), (0.3, True), (0.5, False), (0.7, False)])
def test_only_narrow_sources_show_the_beam(size, used):
    assert (shown_by(size, 1e5, beam_with_sidelobes(0.3), beam_with_sidelobes(0.0)) > 0.1) == used


def test_noise_and_source_are_weighted_with_the_errors_that_each_is_known_to_have():
    """The noise's beam is wrong by 0.01, a source's by 0.003: the weights are 1 to 11.1."""
    shown = shown_by(0.0, 1e6, beam_with_sidelobes(0.3), beam_with_sidelobes(0.0))
    assert shown == pytest.approx(0.3 * 11.11 / 12.11, rel=0.01)


@pytest.mark.parametrize(("snr", "used"), [(310, True), (290, False)])
def test_a_source_of_300_sigma_outshines_the_noise(snr, used):
    units = units_of((MIDDLE, snr), psf=beam_with_sidelobes(0.3))
    assert (beam_of_brightest(units, beam_with_sidelobes(0.0), MIDDLE, BEAM) is not None) == used


@pytest.mark.parametrize(("size", "used"), [(0.3, True), (0.5, True), (0.7, False), (1.0, False)])
def test_a_source_wider_than_half_a_beam_is_no_point(size, used):
    units = units_of((MIDDLE, 1000), psf=gaussian((2 * SIZE, 2 * SIZE), BEAM * np.hypot(1, size)))
    assert (beam_of_brightest(units, beam_with_sidelobes(0.0), MIDDLE, BEAM) is not None) == used


@pytest.mark.parametrize(("left", "flat"), [(0.96, True), (0.98, False)])
def test_the_flattened_noise_is_taken_where_it_leaves_three_percent_less(monkeypatch, left, flat):
    psf = beam_with_sidelobes(0.1)
    monkeypatch.setattr(dirty_beam, "flattened", lambda psf, power: psf * power)
    monkeypatch.setattr(dirty_beam, "residual_variance", lambda units, beam, *_: 1.0 if beam is psf else left)
    assert (weighted_psf(units_of(psf=psf), psf, [MIDDLE], BEAM) is not psf) == flat


@pytest.mark.parametrize(
    ("own", "opposite", "kept"),
    [
        (20, 9, True),
        (20, 11, False),  # half as bright on the other side: a sidelobe
        (55, 40, False),
        (65, 40, True),  # too bright for a sidelobe
    ],
)
def test_what_is_seen_opposite_about_a_brighter_source_is_no_witness(own, opposite, kept):
    snr = torch.zeros(SIZE, SIZE)
    snr[MIDDLE], snr[32, 44], snr[32, 20] = 100, own, opposite
    assert ((32, 44) in without_point_symmetric([MIDDLE, (32, 44)], snr)) == kept


def test_the_eight_brightest_are_witnesses_enough():
    snr = torch.zeros(SIZE, SIZE)
    places = [(4 * i, 7 * i % SIZE) for i in range(12)]
    for i, place in enumerate(places):
        snr[place] = 100 + i
    assert without_point_symmetric(places, snr) == places[:3:-1]
