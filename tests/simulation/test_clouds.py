"""Clouds against their power spectra, envelopes and lines."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from napari_almadet.simulation.clouds import NH3_11, Cloud, cloud_emission, draw_cloud, power_law_field

CLOUD = Cloud(40.0, 30.0, 24.0, size=(24.0, 16.0), shape=(64, 80), velocity_spread=1.0, dispersion=1.0)


def test_fields_have_the_spectrum_asked_for():
    field = power_law_field(np.random.default_rng(0), (256, 256), 3.0)
    power = np.abs(np.fft.rfft2(field)) ** 2
    k = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))
    edges = np.geomspace(0.02, 0.3, 9)
    mean = [power[(k >= low) & (k < high)].mean() for low, high in itertools.pairwise(edges)]
    slope = np.polyfit(np.log(np.sqrt(edges[:-1] * edges[1:])), np.log(mean), 1)[0]
    assert slope == pytest.approx(-3, abs=0.15)
    assert field.std() == pytest.approx(1, rel=1e-4)
    assert field.mean() == pytest.approx(0, abs=1e-4)


def test_a_cloud_ends_where_its_envelope_does():
    emission = cloud_emission(CLOUD, 48)
    assert emission.cube.sum() == pytest.approx(1, abs=1e-3)
    y, x = np.nonzero(emission.cube.sum(axis=0))
    reach = ((y + emission.origin[1] - 30) / 16) ** 2 + ((x + emission.origin[2] - 40) / 24) ** 2
    assert reach.max() <= 1


def test_a_cloud_may_fill_its_image():
    image = cloud_emission(replace(CLOUD, size=None, floor=0.0), 48).cube.sum(axis=0)
    assert image.shape == (64, 80)
    assert (image > 0).mean() > 0.99


def test_several_lines_have_their_places_and_strengths():
    offsets, shares = (-16.0, -6.0, 0.0, 6.0, 16.0), NH3_11[1]
    cloud = replace(CLOUD, lines=(offsets, shares), velocity_spread=0.3, dispersion=0.6)
    emission = cloud_emission(cloud, 48)
    spectrum = np.zeros(48)
    emission_channels = slice(emission.origin[0], emission.origin[0] + len(emission.cube))
    spectrum[emission_channels] = emission.cube.sum(axis=(1, 2))
    groups = [spectrum[int(24 + o) - 2 : int(24 + o) + 4].sum() for o in offsets]
    np.testing.assert_allclose(groups, shares, atol=0.02)


def test_velocities_have_the_spread_asked_for():
    calm, wild = (cloud_emission(replace(CLOUD, size=None, velocity_spread=s), 48) for s in (0.3, 4.0))
    widths = []
    for emission in (calm, wild):
        spectrum = emission.cube.sum(axis=(1, 2))
        channel = np.arange(len(spectrum))
        mean = (spectrum * channel).sum() / spectrum.sum()
        widths.append(np.sqrt((spectrum * (channel - mean) ** 2).sum() / spectrum.sum()))
    assert widths[0] < 1.3
    assert widths[1] > 2.5


def test_what_lies_outside_is_refused():
    with pytest.raises(ValueError, match="lies outside an image"):
        cloud_emission(replace(CLOUD, x=500.0), 48)


def test_drawn_clouds_shine():
    rng = np.random.default_rng(1)
    for number in range(8):
        size = None if number % 2 else (20.0, 12.0)
        cloud = draw_cloud(rng, (64, 64), 48, (32.0, 32.0, 24.0), size, several_lines=number > 4)
        emission = cloud_emission(cloud, 48)
        assert 0.8 < emission.cube.sum() <= 1.001
        assert emission.cube.min() >= -1e-9
