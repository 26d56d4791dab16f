"""Every name of a channel is what astropy's equivalencies and the definition of the axis make of it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import constants, units
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.axes import spectral_axes

REST = 230.538 * units.GHz
N = 40
CHANNEL = np.arange(N)


def spectral_header(header, **cards):
    for name in ("CTYPE3", "CRPIX3", "CDELT3", "CRVAL3", "CUNIT3"):
        del header[name]
    header.update(cards)
    return header


def axes_of(header, rest=None):
    cube = Cube(np.zeros((N, 4, 4)), wcs=WCS(header))
    return {axis.choice: axis for axis in spectral_axes(cube, rest)}


def check(axes, frequency):
    """All axes against the frequencies that the channels' centres are known to have."""
    expected = {
        "GHz": frequency.to(units.GHz),
        "mm": frequency.to(units.mm, units.spectral()),
        "km/s radio": frequency.to(units.km / units.s, units.doppler_radio(REST)),
        "km/s optical": frequency.to(units.km / units.s, units.doppler_optical(REST)),
        "km/s relativistic": frequency.to(units.km / units.s, units.doppler_relativistic(REST)),
        "channel": CHANNEL * units.chan,
    }
    assert list(axes) == ["GHz", "km/s radio", "km/s optical", "km/s relativistic", "mm", "channel"]
    for choice, values in expected.items():
        step = abs(np.diff(values.value)).min()
        # np.interp puts a centre midway between its edges: right to a thousandth of a channel
        assert_allclose(axes[choice].centres, values.value, rtol=0, atol=1e-3 * step)
        assert axes[choice].unit == values.unit


@pytest.mark.parametrize("step", [5e6, -5e6])
def test_frequency_axis(header, step):
    header["CDELT3"] = step
    check(axes_of(header), (2.306e11 + step * CHANNEL) * units.Hz)


def test_optical_velocity_axis(header):
    header = spectral_header(header, CTYPE3="VOPT", CRPIX3=1.0, CDELT3=2e5, CRVAL3=1.5e7, CUNIT3="m/s")
    velocity = (1.5e7 + 2e5 * CHANNEL) * units.m / units.s
    check(axes_of(header), REST / (1 + velocity / constants.c))


@pytest.mark.parametrize("ctype", ["VOPT-F2W", "FELO-HEL"])
def test_optical_velocity_of_channels_equal_in_frequency(header, ctype):
    header = spectral_header(header, CTYPE3=ctype, CRPIX3=1.0, CDELT3=2e5, CRVAL3=1.5e7, CUNIT3="m/s")
    del header["SPECSYS"]
    axes = axes_of(header)
    first = REST / (1 + 1.5e7 * units.m / units.s / constants.c)
    step = -(first**2) / REST * (2e5 * units.m / units.s / constants.c)
    check(axes, first + step * CHANNEL)
    assert axes["GHz"].frame == ("BARYCENT" if ctype.endswith("HEL") else "")


def test_rest_frequency_of_the_users_own(header):
    other = 220.398684 * units.GHz
    axes = axes_of(header, other)
    frequency = axes["GHz"].centres * units.GHz
    assert_allclose(axes["km/s radio"].centres, (constants.c * (1 - frequency / other)).to_value("km/s"), rtol=1e-6)


def test_velocity_without_rest_frequency(header):
    header = spectral_header(header, CTYPE3="VRAD", CRPIX3=1.0, CDELT3=2e5, CRVAL3=1.5e7, CUNIT3="m/s")
    del header["RESTFRQ"]
    axes = axes_of(header)
    assert list(axes) == ["km/s radio", "km/s optical", "km/s relativistic", "channel"]
    radio = 15e3 + 200 * CHANNEL
    optical = radio / (1 - radio / constants.c.to_value("km/s"))
    assert_allclose(axes["km/s radio"].centres, radio)
    assert_allclose(axes["km/s optical"].centres, optical, rtol=1e-5)
    check(axes_of(header, REST), REST * (1 - radio * units.km / units.s / constants.c))


def test_frequency_without_rest_frequency(header):
    del header["RESTFRQ"]
    assert list(axes_of(header)) == ["GHz", "mm", "channel"]


def test_bare_array():
    (axis,) = spectral_axes(Cube.from_array(np.zeros((N, 4, 4))))
    assert (axis.choice, axis.label) == ("channel", "Channel")
    assert_allclose(axis.edges, np.arange(N + 1) - 0.5)


def test_labels_tell_frame_and_unit(header):
    axes = axes_of(header)
    assert axes["GHz"].label == "Frequency, LSRK (GHz)"
    assert axes["km/s optical"].label == "Optical velocity, LSRK (km/s)"
    assert axes["channel"].label == "Channel"


@pytest.mark.parametrize("choice", ["GHz", "km/s radio", "mm", "channel"])
def test_there_and_back(header, choice):
    axis = axes_of(header)[choice]
    assert [axis.channel(world) for world in axis.centres] == list(CHANNEL)
    assert axis.channel(axis.edges.max() + 1e9) in (0, N - 1)
    assert_allclose(axis.fractional(axis.world(7.25)), 7.25)


@pytest.mark.parametrize("choice", ["GHz", "km/s radio", "channel"])  # falling, rising, rising
def test_range_of_channels(header, choice):
    axis = axes_of(header)[choice]
    for first, last in ((0, 40), (7, 12), (39, 40)):
        ends = axis.world(np.array([first, last]) - 0.5)
        assert axis.channels(*ends) == axis.channels(*ends[::-1]) == (first, last)
    assert axis.channels(*axis.world([3.1, 3.2])) == (4, 5)  # between two centres: one channel at least
    assert axis.channels(axis.edges.max() + 1e9, axis.edges.max() + 2e9) in ((0, 1), (39, 40))
