"""Conversion of sums to fluxes: what it needs of the channels is asked of the WCS once for each cube."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.cube.cube import Cube
from napari_almadet.measure.catalogue_row import axis_of, scale_of


@pytest.fixture
def cube(sky_cube):
    """Of optical velocities: the width of a channel in radio velocity is that of no other."""
    return sky_cube(np.ones((32, 48, 48), np.float32), CTYPE3="VOPT-F2W", CUNIT3="m/s", CRVAL3=3e7, CDELT3=2e6)


@pytest.mark.parametrize("channels", [(0, 1), (3, 17), (3, 18), (31, 32), (0, 32)])
def test_the_width_of_a_channel_is_that_of_the_middle_of_the_line(cube, channels):
    scale = scale_of(cube, 20.2, 30.1, channels, 4.0)
    assert scale.width == channel_width(cube, (channels[0] + channels[1] - 1) / 2).value
    np.testing.assert_array_equal(scale.flux, flux_factor(cube, np.arange(len(cube.data)))[0])
    np.testing.assert_array_equal(scale.frequency, cube.frequency(np.arange(len(cube.data))).value)


def test_the_channels_of_a_cube_are_asked_for_once(cube, monkeypatch):
    asked = []
    spectral = Cube._spectral
    monkeypatch.setattr(Cube, "_spectral", lambda *args, **kinds: asked.append(args) or spectral(*args, **kinds))
    scale_of(cube, 20.2, 30.1, (3, 17), 4.0)
    count = len(asked)
    assert count
    scale_of(cube, 11.0, 9.0, (20, 22), 4.0)
    assert len(asked) == count


def test_what_is_known_of_a_cube_does_not_keep_it_in_memory():
    cube = Cube.from_array(np.ones((32, 48, 48), np.float32), name="short-lived")
    axis_of(cube)
    gone = weakref.ref(cube)
    del cube
    gc.collect()
    assert gone() is None
