"""Antenna files of one's own, against the configurations that come along and against rotations done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation

from napari_almadet.simulation.antenna_file import read_cfg
from napari_almadet.simulation.array import AntennaArray
from napari_almadet.simulation.observe import Observation

ALMA = AntennaArray.load("alma_cycle9_c3")


def write(path, header, places, diameter=12.0):
    lines = [*header, *(f"{x!r} {y!r} {z!r} {diameter} P{i}" for i, (x, y, z) in enumerate(places.tolist()))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_file_of_casa_is_the_configuration_it_was_made_from(tmp_path):
    header = ["# observatory=ALMA", "# coordsys=LOC (local tangent plane)", "# x y z diam pad#"]
    path = write(tmp_path / "alma.cycle9.3.cfg", header, ALMA.enu)
    array = AntennaArray.load(str(path))
    np.testing.assert_allclose(array.enu, ALMA.enu)
    assert np.degrees(array.latitude) == pytest.approx(np.degrees(ALMA.latitude), abs=0.01)
    own, shipped = (
        Observation(array=name, size=96, integration=60).clean_beam for name in (str(path), "alma_cycle9_c3")
    )
    assert own.major == pytest.approx(shipped.major, rel=1e-4)


def test_geocentric_places_are_turned_to_local_ones(tmp_path):
    site = EarthLocation.from_geodetic(-67.75 * u.deg, -23.02 * u.deg, 5000 * u.m)
    lon, lat = site.lon.to_value(u.rad), site.lat.to_value(u.rad)
    east = np.array([-np.sin(lon), np.cos(lon), 0])
    up = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    enu = ALMA.enu - ALMA.enu.mean(axis=0)
    middle = np.array([c.to_value(u.m) for c in site.geocentric])
    places = middle + enu @ np.array([east, np.cross(up, east), up])
    array = AntennaArray.load(str(write(tmp_path / "a.cfg", ["# coordsys=XYZ"], places)))
    np.testing.assert_allclose(array.enu, enu, atol=1e-3)
    assert np.degrees(array.latitude) == pytest.approx(-23.02, abs=1e-3)


def test_a_latitude_may_be_said(tmp_path):
    path = write(tmp_path / "a.cfg", ["# observatory=MINE", "# latitude=-12.5"], ALMA.enu, diameter=25.0)
    _, latitude, name, diameter = read_cfg(path)
    assert (np.degrees(latitude), name, diameter) == (-12.5, "a", 25.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# observatory=MINE\n1 2 3 12 A\n4 5 6 12 B\n", "add a line '# latitude=DEGREES'"),
        ("# observatory=ALMA\n1 2 3 12 A\n", "contains 1 antennas"),
        ("# observatory=ALMA\n1 2 3\n4 5 6\n", "x, y, z and a diameter"),
        ("# observatory=ALMA\n1 two 3 12 A\n4 5 6 12 B\n", "x, y, z and a diameter"),
        ("# coordsys=UTM\n1 2 3 12 A\n4 5 6 12 B\n", "coordinates UTM are not supported"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path, text, message):
    (tmp_path / "a.cfg").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cfg(tmp_path / "a.cfg")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no antenna file .*a\.cfg"):
        AntennaArray.load(str(tmp_path / "a.cfg"))
