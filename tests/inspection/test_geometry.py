"""North, East and the beam lie on the pixels as astropy's great circles say, whatever rotation, shape and frame."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.geometry import beam_outline, beam_pattern, sky_vectors

DATA = np.zeros((4, 60, 70))


@pytest.fixture(params=["equatorial", "galactic", "meridian", "pole"])
def cube(request, header, make_cube):
    """Non-square, rotated pixels, also where right ascension wraps or meridians meet."""
    if request.param == "galactic":
        header["CTYPE1"], header["CTYPE2"] = "GLON-SIN", "GLAT-SIN"
        del header["RADESYS"]
    if request.param == "meridian":
        header["CRVAL1"] = 0.0
    if request.param == "pole":
        header["CRVAL2"] = 89.9999
    return make_cube(DATA)


def test_vectors_lead_north_and_east(cube):
    here = cube.sky(34, 29)
    for vector, angle in zip(sky_vectors(cube, 34, 29), (0, 90), strict=True):
        expected = here.directional_offset_by(angle * u.deg, 0.01 * u.arcsec)
        step = np.array(cube.celestial.world_to_pixel(expected)) - (34, 29)
        np.testing.assert_allclose(0.01 * vector, step, atol=2e-4)


def test_beam_has_its_size_and_angle(cube):
    here, outline = cube.sky(34, 29), beam_outline(cube, 34, 29)
    on_sky = cube.sky(34 + outline[:, 0], 29 + outline[:, 1])
    radius = here.separation(on_sky).arcsec
    assert (2 * radius.max(), 2 * radius.min()) == pytest.approx((0.9, 0.5), rel=1e-3)
    angle = here.position_angle(on_sky[np.argmax(radius)]).deg
    assert angle % 180 == pytest.approx(30, abs=0.5)


def test_pattern_is_the_gaussian_beam_on_the_sky(cube):
    pattern = beam_pattern(cube, 34, 29, (21, 25), (12, 10))
    y, x = np.indices((21, 25))
    here = cube.sky(34, 29)
    there: SkyCoord = cube.sky(x + 34 - 12, y + 29 - 10)
    distance = here.separation(there).arcsec
    angle = here.position_angle(there).rad - np.radians(30)
    along, across = distance * np.cos(angle), distance * np.sin(angle)
    expected = np.exp(-4 * np.log(2) * ((along / 0.9) ** 2 + (across / 0.5) ** 2))
    np.testing.assert_allclose(pattern, expected, atol=2e-3)
    assert pattern[10, 12] == 1


def test_unknown_beam_or_sky(header):
    assert beam_outline(Cube(DATA, wcs=WCS(header)), 34, 29) is None
    assert beam_outline(Cube.from_array(DATA), 34, 29) is None
    assert sky_vectors(Cube.from_array(DATA), 34, 29) is None
    assert beam_pattern(Cube.from_array(DATA), 34, 29, (5, 5), (2, 2)) is None
