"""Cubes lie as they do on the sky and along the spectrum; truth is astropy's WCS."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.placement import Match, SkyFrame, match_channels


def cube_at(ra, dec, pixel=0.1, shape=(20, 80, 100), angle=0.0, frame="RA", f0=230e9, df=1e7, rest=230e9) -> Cube:
    header = fits.Header({"SIMPLE": True})
    lon, lat = ("RA---TAN", "DEC--TAN") if frame == "RA" else ("GLON-TAN", "GLAT-TAN")
    header["CTYPE1"], header["CTYPE2"], header["CTYPE3"] = lon, lat, "FREQ"
    header["CRVAL1"], header["CRVAL2"], header["CRVAL3"] = ra, dec, f0
    header["CRPIX1"], header["CRPIX2"], header["CRPIX3"] = 30.0, 50.0, 1.0
    header["CDELT1"], header["CDELT2"], header["CDELT3"] = -pixel / 3600, pixel / 3600, df
    header["CUNIT1"], header["CUNIT2"], header["CUNIT3"] = "deg", "deg", "Hz"
    header["RESTFRQ"], header["SPECSYS"] = rest, "LSRK"
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    header["PC1_1"], header["PC1_2"], header["PC2_1"], header["PC2_2"] = c, -s, s, c
    return Cube(np.zeros(shape, np.float32), wcs=WCS(header), unit=u.Jy / u.beam, header=header)


def test_a_cube_alone_lies_on_its_own_pixels():
    cube = cube_at(150.0, -35.0, angle=30.0)
    np.testing.assert_allclose(SkyFrame.of(cube).affine(cube), np.diag([0.1, 0.1, 1]), atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        cube_at(150.0005, -35.001, pixel=0.3),
        cube_at(150.0005, -35.001, pixel=0.05, angle=120.0),
        cube_at(266.0, 12.0, pixel=0.2, frame="GLON"),
    ],
)
def test_a_place_on_the_sky_is_one_place_in_the_window(other):
    first = cube_at(150.0, -35.0, angle=15.0)
    if other.wcs.wcs.ctype[0].startswith("GLON"):  # moved to where the first one is
        place = first.sky(40, 30).galactic
        header = other.header.copy()
        header["CRVAL1"], header["CRVAL2"] = place.l.deg, place.b.deg
        other = Cube(other.data, wcs=WCS(header), unit=other.unit, header=header)
    frame = SkyFrame.of(first)
    for x, y in ((0, 0), (99, 0), (50, 40), (10, 79)):
        world = frame.affine(other) @ (y, x, 1)
        x1, y1 = first.celestial.world_to_pixel(other.sky(x, y))
        np.testing.assert_allclose(world[:2], 0.1 * np.array([y1, x1]), atol=0.01)  # a tenth of a pixel


def test_a_cube_on_the_other_side_of_the_sky_keeps_its_scale_and_north():
    first, other = cube_at(150.0, -35.0), cube_at(10.0, 41.0, pixel=0.5)
    affine = SkyFrame.of(first).affine(other)
    np.testing.assert_allclose(affine[:2, :2], 0.5 * np.eye(2), atol=1e-4)
    away = np.hypot(*(affine @ (40, 50, 1) - SkyFrame.of(first).affine(first) @ (40, 50, 1))[:2]) * u.arcsec
    assert away.to_value("deg") == pytest.approx(first.sky(50, 40).separation(other.sky(50, 40)).deg, abs=0.01)


def test_a_cube_without_sky_has_no_place():
    bare = Cube.from_array(np.zeros((3, 4, 5), np.float32))
    assert SkyFrame.of(bare) is None
    assert SkyFrame.of(cube_at(0, 0)).affine(bare) is None


def test_channels_are_matched_by_velocity_frequency_or_number():
    first = cube_at(0, 0, f0=230e9, df=1e7, rest=230e9)
    other = cube_at(0, 0, f0=115.05e9, df=-2.5e6, rest=115e9)  # half the frequency: 5e6 there is 1e7 here
    slope, offset = match_channels(other, first, Match.VELOCITY)
    np.testing.assert_allclose(other.velocity(7), first.velocity(slope * 7 + offset), atol=1e-6)
    assert (slope, offset) == (pytest.approx(-0.5), pytest.approx(10))
    assert match_channels(other, first, Match.CHANNEL) == (1.0, 0.0)
    slope, offset = match_channels(other, first, Match.FREQUENCY)
    assert offset == pytest.approx(-11495)
    assert slope == pytest.approx(-0.25)


def test_without_a_spectral_axis_there_is_no_match():
    bare = Cube.from_array(np.zeros((3, 4, 5), np.float32))
    assert match_channels(bare, cube_at(0, 0), Match.VELOCITY) is None
    assert match_channels(cube_at(0, 0), bare, Match.FREQUENCY) is None
