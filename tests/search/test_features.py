"""From Source Finder's answer to places, spectra and measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_almadet.search.components import gaussian
from napari_almadet.search.features import (
    N_FEATURES,
    centres,
    encode,
    measure_features,
    noise_factor_of_lines,
    own_lines,
    part_neighbours,
    spectra,
    symmetry_and_correlation,
)
from napari_almadet.search.line_maps import MAPS
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.raw_detection import Features

BEAM = 4.0
SIGMA = BEAM / 2.3548


def answer(*peaks) -> torch.Tensor:
    """Source Finder's five maps with logits (y, x, logit, dy, dx)."""
    maps = torch.full((5, 40, 40), 0.0)
    maps[0] = -9
    maps[3:] = float(np.log(SIGMA))
    for y, x, logit, dy, dx in peaks:
        maps[:3, y, x] = torch.tensor([logit, dy, dx])
    return maps


def test_centres_are_peaks_with_their_offsets():
    rows = centres(answer((10, 12, 2.0, 0.3, -0.2), (30, 5, 4.0, 0, 0)), torch.ones(40, 40, dtype=bool), BEAM)
    np.testing.assert_allclose(rows[:, :3], [[4, 30, 5], [2, 10.3, 11.8]], atol=1e-6)
    np.testing.assert_allclose(rows[:, 3:], SIGMA, rtol=1e-6)


def test_of_centres_closer_than_a_third_of_a_beam_the_likelier_counts():
    near = answer((10, 10, 3.0, 0, 0.5), (10, 12, 2.0, 0, -0.5))
    assert len(centres(near, torch.ones(40, 40, dtype=bool), BEAM)) == 1
    assert len(centres(near, torch.ones(40, 40, dtype=bool), 2.0)) == 2


def test_unlikely_centres_and_those_without_data_are_none():
    valid = torch.ones(40, 40, dtype=bool)
    valid[:20] = False
    rows = centres(answer((10, 10, 5.0, 0, 0), (30, 30, -4.0, 0, 0)), valid, BEAM)
    assert rows.shape == (0, 5)


def correlated(seed: int, n_channels: int, side: int = 40) -> torch.Tensor:
    """Noise whose autocorrelation is a Gaussian of FWHM BEAM, as a dirty image's is its beam."""
    white = torch.randn(n_channels, side, side, generator=torch.Generator().manual_seed(seed))
    power = torch.fft.rfft2(gaussian((side, side), BEAM)).real.clamp(min=0)
    image = torch.fft.irfft2(torch.fft.rfft2(white) * power.sqrt(), s=(side, side))
    return image / image.std()


@pytest.mark.parametrize("extent", [0.0, 3.0])
def test_spectra_are_in_units_of_their_noise(extent):
    units = in_noise_units(correlated(1, 256), BEAM)
    sigma = np.hypot(SIGMA, extent / 2.3548)
    rows = np.array([(0, y, x, sigma, sigma) for y in (8.3, 20, 31.5) for x in (8, 20.6, 31)])
    assert spectra(units, rows, BEAM).std() == pytest.approx(1, rel=0.06)


def test_neighbours_lines_are_taken_out():
    """Two sources one beam apart, each with a line of its own: the mixture is undone."""
    rows = np.array([(0, 10, 10, SIGMA, SIGMA), (0, 10, 14, SIGMA, SIGMA)])
    own = np.zeros((2, 60))
    own[0, 20], own[1, 40] = 50, 30
    mixing = np.exp(-0.5 * np.array([[0, (4 / SIGMA) ** 2], [(4 / SIGMA) ** 2, 0]]))
    parted = part_neighbours(rows, mixing @ own, BEAM)
    assert abs(parted[0, 40]) < 0.05 * own[1, 40]
    assert abs(parted[1, 20]) < 0.05 * own[0, 20]
    assert parted[0, 20] == pytest.approx(50, rel=0.05)


def test_parted_noise_has_unit_noise():
    rows = np.array([(0, 10, 10, SIGMA, SIGMA), (0, 10, 13, SIGMA, SIGMA)])
    overlap = np.exp(-0.5 * (3 / SIGMA) ** 2)
    rng = np.random.default_rng(0)
    mixed = rng.multivariate_normal([0, 0], [[1, overlap], [overlap, 1]], size=4000).T
    np.testing.assert_allclose(part_neighbours(rows, mixed, BEAM).std(axis=1), 1, rtol=0.05)


def test_own_lines_are_matched_snrs():
    line = np.exp(-0.5 * ((np.arange(100) - 50) / 2.1) ** 2)
    spectrum = 12 * line / np.linalg.norm(line)
    assert own_lines(spectrum[None].astype(np.float32), torch.ones(100))[0] == pytest.approx(12, rel=0.06)


def test_measures_say_what_their_names_say():
    units = in_noise_units(correlated(2, 64), BEAM)
    images = torch.zeros(len(MAPS), 40, 40)
    images[MAPS.index("stack"), 10, 10] = 6.0
    images[MAPS.index("stack"), 10, 20] = 20.0
    images[MAPS.index("stack"), 12, 30] = -4.0
    images[MAPS.index("negative line"), 30, 12] = -6.0
    rows = np.array([(1.5, 10, 10, SIGMA, 2 * SIGMA), (3, 10, 20, SIGMA, SIGMA)])
    first, second = measure_features(
        rows,
        images,
        units,
        np.zeros((2, len(units.cube)), np.float32) + 0.1,
        np.array([8.0, 0.0]),
        BEAM,
    )
    assert first.detection_logit == 1.5
    assert (first.snr_stacked, first.snr_own_line, first.snr_both) == pytest.approx((6, 8, 10), rel=1e-3)
    assert (first.snr_neighbour, first.neighbour_distance) == pytest.approx((20, 2.5), rel=1e-3)
    assert (first.fwhm_y, first.fwhm_x) == pytest.approx((1, 2), rel=1e-3)
    assert (first.dip_stacked, first.dip_line) == pytest.approx((4, 6), rel=1e-3)
    assert (first.coverage, first.beam, first.n_channels, first.snr_brightest) == pytest.approx(
        (1, BEAM, 64, 20), rel=1e-3
    )
    assert (second.snr_neighbour, second.neighbour_distance) == (0, 8)


def test_features_are_encoded_as_the_classifier_was_trained_with_them():
    """By hand: S/N ratios as arcsinh(S/N / 2), sizes and the field's spread as logarithms."""
    one = Features(
        *(1.5, 6.0, 7.0, -2.0, 3.0, 8.0, 0.9, 20.0, 2.5, 0.1, 0.2, 1.0, 2.0, 1.2, 20.0, 4.0, -6.0, 0.75, 4.4, 64, True)
    )
    snr = [np.arcsinh(value / 2) for value in (6, 7, -2, 3, 8)]
    expected = [1.5, *snr, 0.9, np.arcsinh(5), np.arcsinh(10), 2.5, 0.1, 0.2, 0, np.log(2), np.log(1.2)]
    expected += [np.arcsinh(10), np.arcsinh(2), -np.arcsinh(3), 0.75, 0.1, np.log(0.64), 1]
    assert encode([one]).dtype == np.float32
    np.testing.assert_allclose(encode([one])[0], expected, rtol=1e-6, atol=1e-7)
    assert encode([]).shape == (0, N_FEATURES)


def test_no_detections_have_no_features():
    units = in_noise_units(correlated(3, 16), BEAM)
    images = torch.zeros(len(MAPS), 40, 40)
    assert measure_features(np.zeros((0, 5)), images, units, np.zeros((0, 16)), np.zeros(0), BEAM) == []


def test_sidelobes_have_twins_and_kin_and_sources_do_not():
    """Of three places about a bright source, one is a sidelobe, mirrored and with its spectrum; one a source."""
    rng = np.random.default_rng(5)
    cube = torch.from_numpy(rng.normal(size=(64, 41, 41)).astype(np.float32))
    bright, other = np.zeros((2, 64), np.float32)
    bright[20:30], other[45:50] = 30, 5
    cube[:, 20, 20] += torch.from_numpy(bright)
    for y, x in ((26, 25), (14, 15)):
        cube[:, y, x] += torch.from_numpy(0.2 * bright)
    cube[:, 30, 12] += torch.from_numpy(other)
    units = replace(in_noise_units(correlated(3, 64), BEAM), cube=cube)
    rows = np.array([(0, y, x, SIGMA, SIGMA) for y, x in ((20, 20), (26, 25), (30, 12))], float)
    spectra = np.stack([cube[:, int(y), int(x)].numpy() for _, y, x, _, _ in rows])
    twin, kinship = symmetry_and_correlation(rows, spectra, np.array([90.0, 18.0, 11.0]), units, BEAM)
    assert twin[0] == kinship[0] == 0
    assert twin[1] > 0.7
    assert kinship[1] > 0.7
    assert twin[2] < 0.5
    assert kinship[2] < 0.4
    assert not symmetry_and_correlation(rows[:2], spectra[:2], np.array([90.0, 18.0]), units, 2 * BEAM).any(), (
        "in its main lobe"
    )


@pytest.mark.parametrize(("kernel", "factor"), [((0, 1, 0), 1.0), ((0.25, 0.5, 0.25), 1.63), ((1, 1, 1), 1.73)])
def test_a_wide_line_is_less_sure_where_channels_share_their_noise(kernel, factor):
    """Of sums over many channels: (sum of the kernel)^2 over its power, which is 8/3 of Hanning's."""
    rng = np.random.default_rng(5)
    kernel = np.array(kernel) / np.sqrt(np.square(kernel).sum())
    noise = ndimage.convolve1d(rng.normal(size=(600, 100)), kernel, axis=1, mode="wrap").astype(np.float32)
    line = (2.5 * np.exp(-0.5 * ((np.arange(100) - 50) / 8) ** 2)).astype(np.float32)[None]
    rms = torch.ones(100)
    alone, beside = own_lines(line, rms), own_lines(line, rms, torch.from_numpy(noise))
    assert alone / beside == pytest.approx(factor, rel=0.04)


def test_emission_all_over_a_field_is_not_all_taken_for_noise():
    line = np.exp(-0.5 * ((np.arange(100) - 50) / 8) ** 2).astype(np.float32)[None]
    everywhere = torch.from_numpy(np.repeat(20 * line, 300, axis=0))
    assert own_lines(line, torch.ones(100)) / own_lines(line, torch.ones(100), everywhere) <= 1.75


def test_the_noise_of_lines_has_no_step():
    noise = torch.as_tensor(np.random.default_rng(3).normal(size=(40_000, 3)), dtype=torch.float32)
    widths = torch.tensor([1.0, 2.0, 4.0])
    factors = [noise_factor_of_lines(level * noise, widths).numpy() for level in np.linspace(0.8, 2.0, 61)]
    assert np.abs(np.diff(factors, axis=0)).max() < 0.025  # a level changes by 0.02
    np.testing.assert_array_equal(factors[0], 1.0)
    np.testing.assert_allclose(factors[20], 1.2, rtol=0.03)
    np.testing.assert_array_equal(factors[-1], 1.75)
