"""What a patch of extended emission is measured to be like: ratios that mean the same in any cube."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from cases import searched_window

from napari_almadet.search.features import N_EXTENT_FEATURES, encode_extents, quiet_spectra
from napari_almadet.search.line_maps import maps
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.search.patch_properties import SearchedWindow, line_images, measure_extent, shape_of
from napari_almadet.search.raw_detection import Extent
from napari_almadet.training.extents import MEASURED

SIDE, CHANNELS, BEAM = 72, 40, 4.0
Y, X = np.indices((SIDE, SIDE), dtype=np.float32)
CHANNEL = np.arange(CHANNELS, dtype=np.float32)[:, None, None]


def noise(seed: int = 0) -> np.ndarray:
    """Noise as a beam of four pixels leaves it, of unit variance."""
    white = np.random.default_rng(seed).normal(size=(CHANNELS, SIDE, SIDE))
    v, u = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    smooth = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-2 * (np.pi * BEAM / 2.355) ** 2 * (u**2 + v**2)))
    return (smooth / smooth.std()).astype(np.float32)


def disc(height: float = 6.0, shift: float = 0.4, y: float = 36, x: float = 36) -> np.ndarray:
    """A rotating disc of seven beams: its line's channel moves by ``shift`` a pixel along x."""
    image = np.exp(-(((X - x) / 12) ** 4) - ((Y - y) / 6) ** 4)
    return height * image * np.exp(-0.5 * ((CHANNEL - 20 - shift * (X - x)) / 2) ** 2)


def seen(cube: np.ndarray, valid: np.ndarray | None = None) -> SearchedWindow:
    valid = torch.ones(SIDE, SIDE, dtype=torch.bool) if valid is None else torch.from_numpy(valid)
    units = NoiseUnits(
        torch.from_numpy(cube.astype(np.float32)) * valid,
        valid,
        torch.ones(CHANNELS),
        torch.ones(SIDE, SIDE),
        torch.arange(CHANNELS),
    )
    images, correlation = maps(units, units, BEAM)
    return SearchedWindow(
        units, images.numpy(), np.full((5, SIDE, SIDE), -2.0), BEAM, correlation, False, quiet_spectra(units)
    )


PATCH = ((X - 36) / 12) ** 2 + ((Y - 36) / 7) ** 2 < 1


def extent(cube: np.ndarray, patch: np.ndarray = PATCH, valid: np.ndarray | None = None) -> Extent:
    return measure_extent(patch, [], seen(cube, valid))


@pytest.fixture(scope="module")
def galaxy() -> Extent:
    return extent(noise() + disc())


def test_a_rotating_disc_is_coherent_and_has_no_negative_twin(galaxy):
    assert galaxy.gradient > 0.9
    assert galaxy.channel_step < 0.5  # of a line's width
    assert 1 > galaxy.coherence_near > 0.85 > galaxy.coherence_far > 0
    assert galaxy.snr_peak > 10
    assert galaxy.snr_sum_line > 8
    assert galaxy.dip_line < 0.7 * galaxy.snr_peak
    assert galaxy.negative_beams < 2
    assert galaxy.line_share > 0.8


def test_a_wave_is_as_negative_as_it_is_positive_and_goes_on_outside():
    wave = extent(noise() + 1.5 * np.sin(2 * np.pi * X / 20))
    assert wave.negative_share > 0.6
    assert wave.dip_stack == pytest.approx(wave.snr_stack, rel=0.15)
    assert wave.other_peak == pytest.approx(wave.snr_peak, rel=0.1)
    assert wave.negative_beams > 10
    assert wave.coherence_near == pytest.approx(1, abs=0.15)
    assert wave.coherence_far == pytest.approx(1, abs=0.2)
    assert wave.spread > 3


def test_a_continuum_source_shines_in_all_channels_and_a_line_in_some(galaxy):
    flat = extent(noise() + 2 * np.exp(-((X - 36) ** 2 + (Y - 36) ** 2) / 60) * np.ones_like(CHANNEL))
    assert flat.channels_seen > 1.3 * galaxy.channels_seen
    assert flat.coherence_far > 0.95
    assert flat.snr_sum_stack > flat.snr_sum_line
    assert flat.snr_stack > flat.snr_line


def test_what_lies_opposite_of_a_brighter_source_and_has_its_spectrum_may_be_its_sidelobe():
    line = np.exp(-0.5 * ((CHANNEL - 20) / 2) ** 2)
    spot = [40 * np.exp(-((Y - 36) ** 2 + (X - x) ** 2) / 18) * line for x in (20, 36, 52)]
    sidelobe = (X - 20) ** 2 + (Y - 36) ** 2 < 20
    twins = extent(noise() + spot[1] + 0.2 * (spot[0] + spot[2]), sidelobe)
    alone = extent(noise() + spot[1] + 0.2 * spot[0], sidelobe)
    assert twins.symmetry > 0.8 > 0.5 > alone.symmetry
    assert twins.correlation > 0.9
    assert twins.other_peak > 4 * twins.snr_peak


def test_measures_are_those_of_the_patch_wherever_it_lies(galaxy):
    there = extent(np.roll(noise() + disc(), (5, -7), (1, 2)), np.roll(PATCH, (5, -7), (0, 1)))
    assert there.place == (galaxy.place[0] + 5, galaxy.place[1] - 7)
    for name in ("beams", "snr_peak", "snr_sum_line", "elongation", "fill", "gradient", "channel_step"):
        assert getattr(there, name) == pytest.approx(getattr(galaxy, name), rel=0.05, abs=0.02), name


def test_the_edge_of_the_data_is_told():
    valid = X >= 30
    half = extent(noise() + disc(), PATCH & valid, valid)
    assert half.edge_share > 0.15
    assert extent(noise() + disc()).edge_share == 0


def test_an_ellipse_fills_its_moments():
    ellipse = ((X - 36) / 30) ** 2 + ((Y - 36) / 10) ** 2 < 1
    elongation, fill = shape_of(ellipse)
    assert elongation == pytest.approx(3, rel=0.03)
    assert fill == pytest.approx(1, rel=0.03)
    ring = ((X - 36) ** 2 + (Y - 36) ** 2 < 900) & ((X - 36) ** 2 + (Y - 36) ** 2 > 600)
    assert shape_of(ring)[1] < 0.3


def test_every_measure_of_a_patch_reaches_the_classifier(galaxy):
    from napari_almadet.catalogue.candidate import Box, Candidate
    from napari_almadet.search.raw_detection import Features, RawDetection
    from napari_almadet.search.windows import Window

    window = Window(0, 0, (SIDE, SIDE), (slice(0, SIDE), slice(0, SIDE)), 1)

    def encoded(one: Extent) -> np.ndarray:
        spectrum = np.zeros(CHANNELS, np.float32)
        detection = RawDetection(
            Candidate(1, Box(0, 1, 0, 1), 0.5), 0, 0, 2, 2, spectrum, Features(), window, extent=one
        )
        return encode_extents([detection])[0]

    before = encoded(galaxy)
    assert before.shape == (N_EXTENT_FEATURES,)
    assert np.isfinite(before).all()
    for name in MEASURED:
        value = asdict(galaxy)[name]
        other = replace(galaxy, **{name: not value if isinstance(value, bool) else 0.5 * value + 1.3})
        assert (encoded(other) != before).any(), name


@pytest.mark.parametrize("n_channels", [2, 3, 40])
@pytest.mark.parametrize("without_continuum", [False, True])
def test_images_of_lines_are_products_with_all_channels(n_channels, without_continuum):
    rng = np.random.default_rng(3)
    cube, width = rng.normal(size=(n_channels, 6, 7)).astype(np.float32), max(1.0, n_channels / 8)
    window = searched_window(cube, 4.0, channel=rng.uniform(0, n_channels - 1, (6, 7)), width=width, correlation=1.2)
    places = [(0, 0), (2, 5), (5, 6)]
    images = line_images(places, window, (-1.0, 0.0), without_continuum)
    channel = np.arange(n_channels)
    for (y, x), of_shifts in zip(places, images, strict=True):
        for shift, image in zip((-1.0, 0.0), of_shifts, strict=True):
            centre = float(window.image("line's channel")[y, x])
            line = np.exp(-4 * np.log(2) * ((channel - centre) / width - shift) ** 2)
            if without_continuum:
                line -= np.polyval(np.polyfit(channel, line, 1), channel)
            expected = np.tensordot(line, cube, 1) / max(np.linalg.norm(line), 1e-9) / 1.2
            expected = np.zeros_like(expected) if without_continuum and n_channels == 2 else expected
            np.testing.assert_allclose(image, expected, atol=2e-5)


@pytest.mark.parametrize(("smoothed", "beams"), [(0, 10.0), (1, 2.5), (2, 2.5)])
def test_a_patch_is_extended_emission_from_ten_beams_of_the_cube_on(smoothed, beams):
    seen = replace(searched_window(np.zeros((8, 16, 16), np.float32), BEAM), smoothed=smoothed)
    assert seen.least_extended == beams
