"""Relative positions of several cubes, on the sky and along the spectral axis."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

if TYPE_CHECKING:
    from collections.abc import Callable

    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

    from napari_almadet.cube.cube import Cube

FAR = 10 * u.deg  # from the tangent point; a gnomonic projection stretches by 1/cos² there, 3 %, and has no far side


@dataclass(frozen=True, eq=False)
class SkyFrame:
    """The plane in which the cubes of a viewer lie: that of one of them, tangent to the sky in its middle.

    World coordinates (y, x) are in arcsec, along the rows and columns of that cube, whose pixel [0, 0] is the origin:
    a cube that is alone is shown on its own pixels.

    Attributes
    ----------
    tangent
        Where the plane touches the sky.
    to_world
        Offsets (East, North) from there to (y, x), both in arcsec; shape (2, 2).
    origin
        World coordinates (y, x) of the tangent point.
    scale
        Arcsec of a pixel of that cube, which is also the depth of a channel.
    """

    tangent: SkyCoord
    to_world: np.ndarray
    origin: np.ndarray
    scale: float

    @classmethod
    def of(cls, cube: Cube) -> SkyFrame | None:
        """The plane of a cube; None where it has no sky coordinates, or none in its middle."""
        if cube.celestial is None or cube.pixel_scale is None:
            return None
        middle = _middle(cube)
        to_sky = _own_matrix(cube.celestial, middle)
        if to_sky is None:
            return None
        scale = float(cube.pixel_scale.to_value(u.arcsec))
        return cls(_sky(cube.celestial, *middle), scale * np.linalg.inv(to_sky)[::-1], scale * middle[::-1], scale)

    def affine(self, cube: Cube) -> np.ndarray | None:
        """Matrix (3, 3) that leads from pixels (y, x) of a cube to world coordinates; None where it has no sky.

        It is exact in the cube's middle.  Within `FAR` of the tangent point cubes lie as on one photograph; one farther
        away keeps its own scale and North, at its distance and direction on the sky.
        """
        celestial, middle = cube.celestial, _middle(cube)
        to_sky = None if celestial is None else _own_matrix(celestial, middle)
        if celestial is None or to_sky is None:
            return None
        centre = _sky(celestial, *middle)
        if centre.separation(self.tangent) < FAR:
            to_sky = _matrix(lambda x, y: _offsets(self.tangent, _sky(celestial, x, y)), middle)
        matrix = np.eye(3)
        matrix[:2, :2] = self.to_world @ to_sky[:, ::-1]
        matrix[:2, 2] = self.origin + self.to_world @ _offsets(self.tangent, centre) - matrix[:2, :2] @ middle[::-1]
        return matrix


def _middle(cube: Cube) -> np.ndarray:
    """The middle pixel (x, y) of a field."""
    return (np.array(cube.shape[:0:-1]) - 1) / 2


def _sky(celestial: WCS, x: float, y: float) -> SkyCoord:
    """ICRS position of a pixel."""
    return celestial.pixel_to_world(x, y).icrs


def _own_matrix(celestial: WCS, middle: np.ndarray) -> np.ndarray | None:
    """Arcsec to the East and North of a pixel along x and y, in the middle of a field; None where that is no sky."""
    centre = _sky(celestial, *middle)
    matrix = _matrix(lambda x, y: _offsets(centre, _sky(celestial, x, y)), middle)
    return matrix if np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 0 else None


def _matrix(offsets: Callable[[float, float], np.ndarray], middle: np.ndarray) -> np.ndarray:
    """Derivatives (2, 2) of offsets by x and y, over a pixel."""
    steps = np.eye(2) / 2
    return np.stack([offsets(*(middle + step)) - offsets(*(middle - step)) for step in steps], axis=1)


def _offsets(tangent: SkyCoord, place: SkyCoord) -> np.ndarray:
    """(East, North) of a place in arcsec: on the tangent plane, or from `FAR` on along the great circle."""
    distance, towards = tangent.separation(place), tangent.position_angle(place).rad
    length = np.tan(distance.rad) * u.rad.to(u.arcsec) if distance < FAR else distance.to_value(u.arcsec)
    return length * np.array([np.sin(towards), np.cos(towards)])


class Match(StrEnum):
    """By what the channels of two cubes are laid upon each other."""

    VELOCITY = "velocity"
    FREQUENCY = "frequency"
    CHANNEL = "channel"


def match_channels(cube: Cube, reference: Cube, by: Match) -> tuple[float, float] | None:
    """Slope and offset that lead from channels of a cube to channels of another; None where their axes do not tell.

    ``reference channel = slope * channel + offset``, exact at the ends of the cube's band.
    """
    if by is Match.CHANNEL:
        return 1.0, 0.0
    ends = np.array([0, max(cube.shape[0] - 1, 1)])
    coordinate = "velocity" if by is Match.VELOCITY else "frequency"
    wanted, known = getattr(cube, coordinate)(ends), getattr(reference, coordinate)(np.array([0, 1]))
    if wanted is None or known is None or known[1] == known[0]:
        return None
    channels = _channels_at(reference, coordinate, wanted)
    slope = float((channels[1] - channels[0]) / (ends[1] - ends[0]))
    return (slope, float(channels[0])) if np.isfinite(slope) and slope != 0 else None


def _channels_at(cube: Cube, coordinate: str, wanted: u.Quantity) -> np.ndarray:
    """Fractional channels of world coordinates, beyond the band along its ends' slopes."""
    last = max(cube.shape[0] - 1, 1)
    grid = np.arange(last + 1)
    world = getattr(cube, coordinate)(grid).value
    values = wanted.to_value(getattr(cube, coordinate)(0).unit)
    order = np.argsort(world)
    inside = np.interp(values, world[order], grid[order].astype(float))
    for end, inner in ((0, 1), (last, last - 1)):
        step = world[end] - world[inner]
        beyond = (values - world[end]) / step > 0
        inside = np.where(beyond, end + (values - world[end]) / step * (end - inner), inside)
    return inside
