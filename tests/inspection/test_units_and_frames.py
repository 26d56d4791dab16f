"""Units and frames are astropy's, computed another way, and what cannot be is refused with the reason."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import ICRS, LSRK, CartesianDifferential, CartesianRepresentation, EarthLocation, SpectralCoord
from astropy.io import fits
from astropy.time import Time
from astropy.utils import iers
from astropy.wcs import WCS
from radio_beam import Beam, Beams

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.axes import spectral_axes
from napari_almadet.inspection.brightness import Display, refusal
from napari_almadet.inspection.frames import TELESCOPES, FrameError, frame_factor
from napari_almadet.inspection.frames import refusal as no_frame


@pytest.fixture
def cube() -> Cube:
    header = fits.Header()
    for axis, (kind, middle, step, value, unit) in enumerate(
        (
            ("RA---SIN", 11, -1 / 3600, 266.4, "deg"),
            ("DEC--SIN", 9, 1 / 3600, -29.0, "deg"),
            ("FREQ", 1, 1e7, 2.3e11, "Hz"),
        ),
        start=1,
    ):
        header[f"CTYPE{axis}"], header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = kind, middle, step
        header[f"CRVAL{axis}"], header[f"CUNIT{axis}"] = value, unit
    header["RESTFRQ"], header["SPECSYS"], header["TELESCOP"] = 2.3e11, "LSRK", "ALMA"
    header["DATE-OBS"] = "2019-07-14T03:20:00"
    beams = Beams([4, 5, 6] * u.arcsec, [3, 3, 3] * u.arcsec, [0, 0, 0] * u.deg)
    data = np.ones((3, 16, 20), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that DATE-OBS becomes MJD-OBS
        wcs = WCS(header)
    return Cube(data, wcs=wcs, unit=u.Jy / u.beam, beams=beams, header=header, name="toy")


def at_rest(frame):
    zero = CartesianRepresentation(np.zeros(3) * u.km, differentials=CartesianDifferential(np.zeros(3) * u.km / u.s))
    return frame.realize_frame(zero) if hasattr(frame, "realize_frame") else frame


@pytest.mark.filterwarnings("ignore")
def test_frames_are_those_of_astropys_spectral_coordinates(cube):
    target = replace_distance(cube)
    start = SpectralCoord(230 * u.GHz, observer=at_rest(LSRK()), target=target)
    expected = start.with_observer_stationary_relative_to(ICRS()) / start
    assert frame_factor(cube, "BARYCENT") - 1 == pytest.approx(float(expected) - 1, rel=1e-3)
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        earth = EarthLocation.from_geocentric(*TELESCOPES["ALMA"], unit=u.m).get_itrs(Time("2019-07-14T03:20:00"))
        expected = start.with_observer_stationary_relative_to(earth) / start
        # to 10 m/s: that one's velocity of the telescope is a difference over a second
        assert frame_factor(cube, "TOPOCENT") - 1 == pytest.approx(float(expected) - 1, abs=3e-8)
    assert frame_factor(cube, "LSRK") == 1


def replace_distance(cube):
    from astropy.coordinates import SkyCoord

    ny, nx = cube.shape[1:]
    place = cube.sky((nx - 1) / 2, (ny - 1) / 2).icrs
    return SkyCoord(place.ra, place.dec, distance=1 * u.Mpc)


def test_the_axes_are_moved_together_and_named(cube):
    header, moved = spectral_axes(cube), spectral_axes(cube, frame="BARYCENT")
    factor = frame_factor(cube, "BARYCENT")
    np.testing.assert_allclose(moved[0].edges, header[0].edges * factor, rtol=1e-14)
    assert [axis.frame for axis in moved[:-1]] == ["BARYCENT"] * (len(moved) - 1)
    velocity = next(axis for axis in moved if axis.unit == u.km / u.s)
    expected = (moved[0].edges * u.GHz).to_value(u.km / u.s, u.doppler_radio(230 * u.GHz))
    np.testing.assert_allclose(velocity.edges, expected)


def test_what_the_header_does_not_allow_is_refused_with_the_reason(cube):
    assert no_frame(cube, "TOPOCENT") == ""
    header = cube.header.copy()
    del header["DATE-OBS"]
    assert "DATE-OBS" in no_frame(replace(cube, header=header), "TOPOCENT")
    header["DATE-OBS"], header["TELESCOP"] = "2019-07-14", "GMRT"
    assert "OBSGEO-X" in no_frame(replace(cube, header=header), "TOPOCENT")
    nameless = replace(cube, wcs=cube.wcs.deepcopy())
    nameless.wcs.wcs.specsys = ""
    with pytest.raises(FrameError, match="SPECSYS"):
        frame_factor(nameless, "BARYCENT")
    nameless.wcs.wcs.specsys = "CMBDIPOL"
    assert "CMBDIPOL" in no_frame(nameless, "LSRK")
    assert refusal(replace(cube, beams=None), "K") == "the beam is not known"
    assert refusal(Cube.from_array(cube.data), "K") == "the header names no unit (BUNIT)"


@pytest.mark.parametrize("channel", [0, 2])
def test_kelvin_is_rayleighs_and_jeans(cube, channel):
    values = np.array([0.5, 2.0]) * u.Jy / u.beam
    shown = Display("K").of_brightness(values, cube, channel)
    area, frequency = cube.beams[channel].sr, cube.frequency(channel)
    expected = (values * u.beam / area).to(u.K, u.brightness_temperature(frequency))
    np.testing.assert_allclose(shown.to_value(u.K), expected.value, rtol=1e-6)
    kelvin = replace(cube, unit=u.K)
    back = Display("Jy/beam", scale="mJy").of_brightness(shown, kelvin, channel)
    np.testing.assert_allclose(back.to_value(u.mJy / u.beam), [500, 2000])
    assert back.unit == u.mJy / u.beam
    summed = Display("K").of_brightness(values * u.km / u.s, cube, channel)
    assert summed.unit == u.K * u.km / u.s


def test_the_spectrum_of_a_box_is_its_flux_density_or_its_mean_brightness(cube):
    cube = replace(cube, beams=Beam(4 * u.arcsec, 3 * u.arcsec, 0 * u.deg))
    flux = np.full(3, 12 / cube.beam_area) * u.Jy  # of twelve pixels of 1 Jy/beam
    assert Display().of_spectrum(flux, cube, 12) is flux
    mean = Display(mean=True).of_spectrum(flux, cube, 12)
    np.testing.assert_allclose(mean.to_value(u.Jy / u.beam), 1)
    kelvin = Display("K", mean=True).of_spectrum(flux, cube, 12)
    np.testing.assert_allclose(
        kelvin.to_value(u.K), Display("K").of_brightness(1 * u.Jy / u.beam, cube, np.arange(3)).value
    )
    pixel = np.ones(3) * u.Jy / u.beam
    assert Display("K").of_spectrum(pixel, cube, 1).unit == u.K
