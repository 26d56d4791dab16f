"""Limits stand blank and noisy channels, and a stretched colour map shows what the stretch's formula says."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.visualization import AsinhStretch, LinearStretch, LogStretch, SqrtStretch, ZScaleInterval
from napari.utils.colormaps import ensure_colormap

from napari_almadet.cube.cube import Cube
from napari_almadet.plugin.layers import contrast_limits
from napari_almadet.plugin.stretch import INTERVALS, STRETCHES, limits, stretched


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 1, (40, 120, 130)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "formula"),
    [("linear", LinearStretch()), ("asinh", AsinhStretch(0.1)), ("log", LogStretch(1000)), ("sqrt", SqrtStretch())],
)
def test_colour_of_a_value_is_that_of_its_stretched_value(name, formula):
    colours = ensure_colormap("inferno")
    x = np.linspace(0, 1, 999)
    shown, expected = stretched(colours, name).map(x), colours.map(formula(x))
    assert abs(shown - expected).max() < 2 / 255
    controls = stretched(colours, name).controls
    assert (controls[0], controls[-1]) == (0, 1)
    assert (np.diff(controls) >= 0).all()


def test_every_choice_is_tested():
    assert list(STRETCHES) == ["linear", "asinh", "log", "sqrt"]
    assert list(INTERVALS) == ["automatic", "min to max", "99.9 %", "99.5 %", "98 %", "95 %", "zscale"]


def test_min_to_max_is_exact(noise):
    noise[17, 33, 41], noise[18, 2, 3] = 55, -44  # single voxels, that no sample need hold
    assert limits(Cube.from_array(noise), "min to max") == (-44, 55)
    assert limits(Cube.from_array(noise), "min to max", channel=17) == (noise[17].min(), 55)


@pytest.mark.parametrize("percent", [99.9, 99.5, 98, 95])
def test_percentiles(noise, percent):
    low, high = limits(Cube.from_array(noise), f"{percent:g} %")
    tail = (100 - percent) / 2
    assert (low, high) == pytest.approx(tuple(np.percentile(noise, (tail, 100 - tail))), rel=0.05)
    plane = limits(Cube.from_array(noise), f"{percent:g} %", channel=5)
    assert plane == pytest.approx(tuple(np.percentile(noise[5], (tail, 100 - tail))), rel=1e-5)


def test_zscale_is_astropys(noise):
    assert limits(Cube.from_array(noise), "zscale", 5) == pytest.approx(ZScaleInterval().get_limits(noise[5]))


@pytest.mark.parametrize("interval", list(INTERVALS))
def test_blank_zero_and_noisy_edge_channels_change_nothing(noise, interval):
    clean = limits(Cube.from_array(noise[3:]), interval)
    spoilt = noise.copy()
    spoilt[0], spoilt[1], spoilt[2] = np.nan, 0, 50 * noise[2]
    spoilt[39] = np.inf
    expected = pytest.approx(clean, rel=0.15)
    found = limits(Cube.from_array(spoilt), interval)
    if interval == "automatic":  # as the reader has it: it leaves the blank channels out only
        assert found == contrast_limits(Cube.from_array(spoilt))
    else:
        assert found == expected


@pytest.mark.parametrize("interval", list(INTERVALS))
@pytest.mark.parametrize("channel", [None, 2])
def test_nothing_to_see(interval, channel):
    for fill in (np.nan, 0.0):
        assert limits(Cube.from_array(np.full((5, 20, 20), fill)), interval, channel) is None
