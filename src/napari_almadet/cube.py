"""Open any radio FITS cube as a :class:`Cube`; nothing else in the package parses headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy import units as u
    from astropy.coordinates import SkyCoord
    from astropy.io.fits import Header
    from astropy.wcs import WCS
    from radio_beam import Beam, Beams


class CubeError(ValueError):
    """A file that cannot be used as a spectral cube; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Cube:
    """A spectral cube: ``data[channel, y, x]`` with what its header says of it.

    Attributes
    ----------
    data
        Array of shape (channel, y, x); may be a big-endian, read-only, lazy view of the
        file.  NaN means "no data".  Use :meth:`read` for numbers to compute with.
    wcs
        Three-dimensional WCS whose pixel axes are (x, y, channel), or None for an array
        without coordinates.
    unit
        Brightness unit, e.g. Jy/beam or K; dimensionless where unknown.
    beams
        Restoring beam of each channel (`Beams`), of the whole cube (`Beam`), or None.
    header
        The FITS header as read.
    name
        Short name: the file's stem, or the layer's name.
    path
        The file, or None for an array in memory.
    notes
        What was chosen or mended while reading, one sentence each, for the user to see.
    """

    data: Any
    wcs: WCS | None = None
    unit: u.UnitBase | None = None
    beams: Beam | Beams | None = None
    header: Header | None = None
    name: str = "cube"
    path: Path | None = None
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def from_array(cls, data: Any, name: str = "cube") -> Cube:
        """A cube from a bare (channel, y, x) array: pixels and channels instead of world units."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, ny, nx)."""
        raise NotImplementedError

    def read(self, channel=slice(None), y=slice(None), x=slice(None)) -> np.ndarray:
        """A writable, native-endian float32 copy of a part of the cube; NaN where there is no data."""
        raise NotImplementedError

    @cached_property
    def beam(self) -> Beam | None:
        """The one beam that stands for the cube: its own, or the median of a beam table; None if unknown."""
        raise NotImplementedError

    @cached_property
    def pixel_scale(self) -> u.Quantity | None:
        """Side of a pixel in arcsec (geometric mean), or None."""
        raise NotImplementedError

    @cached_property
    def beam_area(self) -> float | None:
        """Beam solid angle in pixels (Jy/beam -> Jy/pixel), or None."""
        raise NotImplementedError

    @cached_property
    def rest_frequency(self) -> u.Quantity | None:
        """Rest frequency from the header in Hz, or None."""
        raise NotImplementedError

    def spectral_axis(self, unit=None) -> u.Quantity | None:
        """World coordinate of every channel centre, converted to ``unit`` (Hz, km/s radio, ...); None without WCS.

        Raises CubeError when the conversion needs a rest frequency the header does not give.
        """
        raise NotImplementedError

    def frequency(self, channel) -> u.Quantity | None:
        """Frequency at fractional channel(s), or None where it cannot be known."""
        raise NotImplementedError

    def velocity(self, channel) -> u.Quantity | None:
        """Radio velocity at fractional channel(s) in km/s, or None where it cannot be known."""
        raise NotImplementedError

    def sky(self, x, y) -> SkyCoord | None:
        """Sky position of 0-based pixel(s), or None without WCS."""
        raise NotImplementedError

    def celestial_header(self) -> Header | None:
        """A minimal header with the two-dimensional celestial WCS, for images made from the cube."""
        raise NotImplementedError

    def sha256(self) -> str:
        """Hash of the file, or of the array's bytes for a cube in memory."""
        raise NotImplementedError


def read_cube(path: str | Path) -> Cube:
    """Open a FITS cube lazily."""
    raise NotImplementedError
