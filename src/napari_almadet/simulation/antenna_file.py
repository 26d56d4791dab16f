"""Antenna configuration files in the format of CASA's simulators: text files that end in ``.cfg``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

# Latitudes of observatories in degrees, by the names that CASA's configuration files give them, from the table
# Observatories of CASA's data (geodetic, to 0.01 deg: 1 km on the ground).
LATITUDES = {
    "ALMA": -23.03,
    "ACA": -23.03,
    "VLA": 34.08,
    "EVLA": 34.08,
    "NGVLA": 34.08,
    "NOEMA": 44.63,
    "PDBI": 44.63,
    "SMA": 19.82,
    "CARMA": 37.28,
    "ATCA": -30.31,
    "WSRT": 52.91,
    "MEERKAT": -30.71,
    "GMRT": 19.09,
}


def read_cfg(path: Path) -> tuple[np.ndarray, float, str, float]:
    """Read a configuration file: lines of x, y, z, diameter (m) and a pad's name, after ``# key=value`` lines.

    ``coordsys=LOC``: local east, north and up, with the latitude of the ``observatory`` or from a line
    ``# latitude=DEGREES``.  ``coordsys=XYZ``: geocentric.  Other systems are not supported.

    Returns
    -------
    enu : ndarray
        Local east, north, up in metres, shape (n, 3).
    latitude : float
        In radians.
    name : str
        Name of the file without its extension.
    diameter : float
        Of the dishes in metres; the largest if there are several.

    Raises
    ------
    ValueError
        If the file is not understood; the message says what to add.
    """
    if not path.is_file():
        raise ValueError(f"no antenna file {path}")
    text = path.read_text(encoding="utf-8", errors="replace")
    known = {key.lower(): value for key, value in re.findall(r"^#\s*(\w+)\s*=\s*(\S+)", text, re.MULTILINE)}
    rows = [line.split()[:4] for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        numbers = np.array(rows, dtype=float).reshape(-1, 4)
    except ValueError as error:
        raise ValueError(f"{path}: each line of an antenna needs x, y, z and a diameter in metres ({error})") from error
    if len(numbers) < 2:
        raise ValueError(f"{path} contains {len(numbers)} antennas: an array needs at least two")
    places, diameter = numbers[:, :3], float(numbers[:, 3].max())
    system = known.get("coordsys", "LOC").upper()
    if system.startswith("XYZ"):
        enu, latitude = local(places)
        return enu, latitude, path.stem, diameter
    if not system.startswith("LOC"):
        raise ValueError(f"{path}: coordinates {system} are not supported; use local (LOC) or geocentric (XYZ) ones")
    if "latitude" in known:
        latitude = float(known["latitude"])
    elif known.get("observatory", "").upper() in LATITUDES:
        latitude = LATITUDES[known["observatory"].upper()]
    else:
        raise ValueError(f"{path}: add a line '# latitude=DEGREES', since its observatory is not known here")
    return places, float(np.radians(latitude)), path.stem, diameter


def local(geocentric: np.ndarray) -> tuple[np.ndarray, float]:
    """East, north and up of geocentric positions (n, 3), relative to their mean, in metres; latitude in radians."""
    from astropy import units as u
    from astropy.coordinates import EarthLocation

    middle = geocentric.mean(axis=0)
    site = EarthLocation.from_geocentric(*middle, unit=u.m)
    longitude, latitude = site.lon.to_value(u.rad), site.lat.to_value(u.rad)
    east = (-np.sin(longitude), np.cos(longitude), 0.0)
    north = (-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude))
    up = (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude))
    return (geocentric - middle) @ np.array([east, north, up]).T, float(latitude)
