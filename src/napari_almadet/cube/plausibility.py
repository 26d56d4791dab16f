"""Warnings about implausible headers: coordinates and beams that can be computed but cannot be right.

The limits are far beyond any instrument, so that a warning means that a card is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.wcs.utils import proj_plane_pixel_scales

from napari_almadet.constants import ARCSEC_PER_DEGREE
from napari_almadet.cube.headers import MOST_BLUESHIFT, MOST_REDSHIFT, is_velocity
from napari_almadet.cube.storage import CubeError

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

C = constants.c.value  # m/s
RADIO_HERTZ = 3e12  # above this, a cube is from an optical instrument, whose band may span several octaves
MOST_BAND = 10.0  # highest over lowest frequency of a radio band; Parkes' ultra-wideband receiver has 5.7
NARROWEST = 1e-9  # channel width over frequency, i.e. 0.3 m/s; lines are at least 100 m/s wide
LARGEST_BEAM, SMALLEST_BEAM = 180.0 * u.deg, 1e-7 * u.arcsec  # a dipole's; ground to space at 1 THz has 1e-6 arcsec


def implausible(cube: Cube) -> list[str]:
    """Warnings about a cube that has just been opened, one sentence each.

    Raises
    ------
    CubeError
        If its coordinates give no numbers.
    """
    axis = cube.spectral_axis()
    if axis is None or not np.isfinite(axis).all():
        raise CubeError("has invalid coordinates: its spectral axis gives no numbers.")
    return [*_spectral(cube, axis), *_celestial(cube), *_beam(cube)]


def _spectral(cube: Cube, axis: u.Quantity) -> list[str]:
    ends = f"The spectral axis runs from {axis[0]:.6g} to {axis[-1]:.6g}: are CRVAL, CDELT and CUNIT right?"
    optical = cube.spectral_type in ("VOPT", "ZOPT")
    if is_velocity(cube.spectral_type):
        speed = axis.to_value("m/s") if axis.unit.is_equivalent("m/s") else axis.to_value("") * C
        likely = np.abs(speed).max() < C * (MOST_REDSHIFT if optical else 1)
    else:
        hertz = axis.to_value("Hz") if axis.unit.is_equivalent("Hz") else C / axis.to_value("m")
        likely = hertz.min() > 1e6 and hertz.max() < 1e17
    if not likely:
        return [ends]
    warnings = _frequencies(cube)
    return warnings or _velocities(cube)


def _frequencies(cube: Cube) -> list[str]:
    """Warn if the width of the band or of its channels is implausible for its frequency."""
    frequency = cube.frequency(np.array([0, 1, cube.shape[0] - 1]))
    if frequency is None:
        return []
    first, second, last = frequency.to_value(u.Hz)
    if not min(first, last) > 1e6:
        rest = np.nan if cube.rest_frequency is None else cube.rest_frequency.to_value(u.Hz)
        return [f"The frequencies run from {first:.6g} to {last:.6g} Hz: is the rest frequency, {rest:.6g} Hz, right?"]
    if max(first, last) < RADIO_HERTZ and max(first, last) > MOST_BAND * min(first, last):
        return [
            f"The band of {first / 1e9:.6g} to {last / 1e9:.6g} GHz is wider than that of any receiver: is CDELT right?"
        ]
    if abs(second - first) < NARROWEST * first:
        return [f"The channels are {abs(second - first):.3g} Hz wide at {first / 1e9:.6g} GHz: is CDELT right?"]
    return []


def _velocities(cube: Cube) -> list[str]:
    """Warn if the velocities at the ends of a radio band are absurd, as a wrong rest frequency makes them."""
    velocity, frequency = (get(np.array([0, cube.shape[0] - 1])) for get in (cube.velocity, cube.frequency))
    if velocity is None or (frequency is not None and frequency.max().to_value(u.Hz) > RADIO_HERTZ):
        return []
    low, high = np.sort(velocity.to_value("m/s"))
    if low > -(MOST_BLUESHIFT - 1) * C and high < C * MOST_REDSHIFT / (1 + MOST_REDSHIFT):
        return []
    rest = "" if cube.rest_frequency is None else f", {cube.rest_frequency.to_value(u.GHz):.9g} GHz,"
    return [
        f"The radio velocities run from {low / 1e3:.6g} to {high / 1e3:.6g} km/s: is the rest frequency{rest} right?"
    ]


def _celestial(cube: Cube) -> list[str]:
    warnings = []
    if cube.wcs is None:
        return []
    if cube.celestial is None:
        y_x = " and ".join(kind or "none" for kind in list(cube.wcs.wcs.ctype)[1::-1])
        return [f"There are no sky coordinates: the types of the image axes are {y_x}."]
    latitude = cube.wcs.wcs.crval[1]
    if abs(latitude) > 90:
        raise CubeError(f"has contradictory coordinates: its reference point has latitude {latitude:g} deg.")
    ny, nx = cube.shape[1:]
    x, y = np.array([(nx - 1) / 2, 0, nx - 1, 0, nx - 1]), np.array([(ny - 1) / 2, 0, 0, ny - 1, ny - 1])
    if not np.isfinite(cube.celestial.wcs_pix2world(x, y, 0)).all(axis=0).any():
        warnings.append(
            "Neither the centre of the field nor its corners lie on the sky: are CRPIX, CRVAL and CDELT right?"
        )
    sides = proj_plane_pixel_scales(cube.celestial) * ARCSEC_PER_DEGREE
    if sides.max() > 2 * sides.min():
        warnings.append(f"The pixels are not square, but {sides[0]:.3g} x {sides[1]:.3g} arcsec.")
    if sides.min() < 1e-7 or (sides * (nx, ny)).max() > 361 * ARCSEC_PER_DEGREE:
        warnings.append(f"The field measures {sides[0] * nx:.3g} x {sides[1] * ny:.3g} arcsec: is CDELT right?")
    return warnings


def _beam(cube: Cube) -> list[str]:
    if cube.beam is None:
        return []
    major, minor = cube.beam.major.to(u.arcsec), cube.beam.minor.to(u.arcsec)
    if major > LARGEST_BEAM or minor < SMALLEST_BEAM:
        return [
            f"The beam of {major:.3g} x {minor:.3g} is not plausible for any instrument: are BMAJ and BMIN in degrees?"
        ]
    if cube.beam_area is not None and cube.beam_area < 0.5:
        return [f"The beam covers {cube.beam_area:.2g} pixels: are BMAJ and BMIN in degrees?"]
    return []
