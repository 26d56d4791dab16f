"""The standard of rest of a cube's spectral axis, and the axis in another one, where the header allows it.

Between two frames all frequencies of a small field differ by one factor, that of Doppler's effect for the velocity of
the one with respect to the other along the line of sight to the middle of the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.coordinates import FK4, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

FRAMES = {"LSRK": "LSRK", "BARYCENT": "barycentric", "TOPOCENT": "topocentric"}  # as FITS writes them, and words
# Geocentric positions (ITRF, m), as CASA's table of observatories has them, for headers without OBSGEO
TELESCOPES = {
    "ALMA": (2225142.180, -5440307.370, -2481029.852),
    "VLA": (-1601185.365, -5041977.547, 3554875.870),
    "EVLA": (-1601185.365, -5041977.547, 3554875.870),
}


SOLAR_MOTION = 20 * u.km / u.s  # towards 18h +30d (1900), the kinematic standard of rest of FITS WCS paper III


class FrameError(ValueError):
    """A frame that a cube's channels cannot be given in; the message says why."""


def frame_factor(cube: Cube, frame: str) -> float:
    """What frequencies in the header's frame are multiplied by to be those in another.

    Parameters
    ----------
    frame
        A key of `FRAMES`.

    Raises
    ------
    FrameError
        If the header does not tell what is needed.
    """
    own = cube.spectral_frame
    if own == frame:
        return 1.0
    if not own:
        raise FrameError("the header does not name the frame of its channels (SPECSYS)")
    if own not in FRAMES:
        raise FrameError(f"the header's frame is {own}, which is not converted")
    if cube.celestial is None:
        raise FrameError("the header has no sky coordinates")
    ny, nx = cube.shape[1:]
    place = cube.sky((nx - 1) / 2, (ny - 1) / 2)
    if place is None or not np.isfinite(place.spherical.lon):
        raise FrameError("the middle of the field is not on the sky")
    return _towards(cube, frame, place.icrs) / _towards(cube, own, place.icrs)


def refusal(cube: Cube, frame: str) -> str:
    """Why a cube's channels cannot be given in a frame; empty where they can."""
    try:
        frame_factor(cube, frame)
    except FrameError as error:
        return str(error)
    return ""


def _towards(cube: Cube, frame: str, place: SkyCoord) -> float:
    """Frequency in a frame over that in the barycentre's, of light from a place."""
    if frame == "BARYCENT":
        return 1.0
    if frame == "LSRK":  # whose observer leaves the Sun behind
        speed = -SOLAR_MOTION * float(np.cos(_apex().separation(place).rad))
    else:
        when, where = _observation(cube)
        with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
            speed = place.radial_velocity_correction("barycentric", obstime=when, location=where)
    beta = float((speed / constants.c).to_value(u.dimensionless_unscaled))
    return float(np.sqrt((1 + beta) / (1 - beta)))


def _apex() -> SkyCoord:
    """Where the Sun moves with respect to the kinematic local standard of rest."""
    return SkyCoord(18 * u.hourangle, 30 * u.deg, frame=FK4(equinox="B1900")).icrs


def _observation(cube: Cube) -> tuple[Time, EarthLocation]:
    """When and from where a cube was observed."""
    header = cube.header if cube.header is not None else {}
    when: Time | None = None
    try:
        if isinstance(date := header.get("DATE-AVG") or header.get("DATE-OBS"), str) and date.strip():
            when = Time(date.strip(), scale="utc")
        elif (day := header.get("MJD-AVG") or header.get("MJD-OBS")) is not None:
            when = Time(float(day), format="mjd", scale="utc")
    except ValueError:
        when = None
    if when is None:
        raise FrameError("the header gives no time of observation (DATE-OBS)")
    try:
        place = [float(header[f"OBSGEO-{axis}"]) for axis in "XYZ"]
    except (KeyError, TypeError, ValueError):
        place = list(TELESCOPES.get(str(header.get("TELESCOP", "")).strip().upper(), ()))
    if not place or not np.isfinite(place).all() or not np.any(place):
        raise FrameError("the header gives no position of the telescope (OBSGEO-X)")
    return when, EarthLocation.from_geocentric(*place, unit=u.m)
