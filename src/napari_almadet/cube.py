"""Open any radio cube as a :class:`Cube`; nothing else in the package says what a header means."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS, WCSSUB_SPECTRAL, WcsError
from astropy.wcs.utils import proj_plane_pixel_area, proj_plane_pixel_scales

from napari_almadet.storage import CubeError, Lazy, Stored, opened, split_address

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from radio_beam import Beam, Beams


SAMPLE = 32  # channels that are looked at where looking at all would take long
LOOK_BYTES = 2**28  # read at most to see whether a cube is empty


@dataclass(frozen=True, eq=False)
class PrimaryBeam:
    """The response of the antennas across a cube's field, from 0 to 1.

    Attributes
    ----------
    data
        Shape (1, ny, nx), or (channels, ny, nx) where it is known for each channel.
    path
        The file it is from.
    corrected
        Whether the cube has been divided by it, so that its noise rises as one over it.
    """

    data: Any
    path: Path
    corrected: bool = False

    def plane(self, channel: int = 0, y=slice(None), x=slice(None)) -> np.ndarray:
        """The response at one channel of the cube, float32; NaN where there is none, as beyond the image's cut-off."""
        plane = np.array(self.data[channel if len(self.data) > 1 else 0, y, x], dtype=np.float32)
        plane[~(plane > 0)] = np.nan
        return plane

    def at(self, x: float, y: float, channel: float) -> float:
        """The response at a pixel and channel, of the nearest voxel; NaN where there is none, or outside."""
        n_channels, ny, nx = self.data.shape
        k, j, i = (int(np.rint(v)) if np.isfinite(v) else -1 for v in (channel, y, x))
        if not (0 <= j < ny and 0 <= i < nx) or (n_channels > 1 and not 0 <= k < n_channels):
            return np.nan
        return float(self.plane(k, j, i))


@dataclass(frozen=True, eq=False)
class Cube:
    """A spectral cube: ``data[channel, y, x]`` with what its header says of it.

    Attributes
    ----------
    data
        Array of shape (channel, y, x), of a cube from a file as it is in the file, of which
        each index reads a part (:class:`napari_almadet.storage.Lazy`).  NaN means "no data".
        Use :meth:`read` for numbers to compute with.
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
        The file or folder, or None for an array in memory.
    hdu
        Which image of the file it is, where that was told.
    flagged
        Mask (channel,) of channels that :meth:`read` gives no data of, or None, see
        :mod:`napari_almadet.pipeline.flags`.
    primary_beam
        See :func:`read_primary_beam`, or None where it was not given.
    notes
        What was chosen or mended while reading, one sentence each, for the user to see.
    """

    data: Any
    wcs: WCS | None = None
    unit: u.UnitBase | None = None
    beams: Beam | Beams | None = None
    header: fits.Header | None = None
    name: str = "cube"
    path: Path | None = None
    hdu: str | None = None
    flagged: np.ndarray | None = None
    primary_beam: PrimaryBeam | None = None
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def from_array(cls, data: Any, name: str = "cube") -> Cube:
        """A cube from a bare (channel, y, x) array: pixels and channels instead of world units.

        Raises
        ------
        CubeError
            If ``data`` is not three-dimensional, has no pixels or a single channel, or does
            not hold real numbers.
        """
        if not hasattr(data, "dtype"):
            data = np.asarray(data)
        if len(data.shape) != 3:
            raise CubeError(f"{name}: a cube has three axes (channel, y, x), this array has {len(data.shape)}.")
        if np.dtype(data.dtype).kind not in "iuf":
            raise CubeError(f"{name}: a cube holds real numbers, this array holds {data.dtype}.")
        if 0 in data.shape:
            raise CubeError(f"{name}: the array of shape {tuple(data.shape)} holds no pixels.")
        if data.shape[0] == 1:
            raise CubeError(f"{name} is a single plane; a cube needs two channels or more.")
        return cls(data, unit=u.dimensionless_unscaled, name=name)

    def __reduce__(self):
        """Pickle a cube from a file as its path, one in memory with its data; what else was changed goes along."""
        left_out = {"primary_beam"} | ({"data"} if self.path is not None else set())
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        beam = self.primary_beam
        if self.path is not None:
            known["path"] = self.path.resolve()
            beam = beam and replace(beam, data=None, path=beam.path.resolve())
        return _unpickled, (known, self.address, beam)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, ny, nx)."""
        return tuple(self.data.shape)

    def read(self, channel=slice(None), y=slice(None), x=slice(None)) -> np.ndarray:
        """A writable, native-endian float32 copy of a part of the cube; NaN where there is no data.

        There is no data where a value is not finite, in channels that are :attr:`flagged`, nor,
        in a cube from a file, in the pixels marked by :attr:`blank`.

        Parameters
        ----------
        channel, y, x
            Integers, slices or index arrays, as for ``data[channel, y, x]``.
        """
        part = self.data[channel, y, x]
        own = None if isinstance(self.data, Lazy) else True  # what was read for us need not be copied
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, then NaN
            part = np.array(part, dtype=np.float32, copy=own)
        part[~np.isfinite(part)] = np.nan
        if self.blank is not None:
            np.copyto(part, np.nan, where=self.blank[y, x] & (part == 0))
        if self.flagged is not None:
            part[self.flagged[channel]] = np.nan
        return part

    @cached_property
    def blank(self) -> np.ndarray | None:
        """Mask (y, x) of the pixels whose zeros mean that there is no data; None if there are none.

        Miriad and GIPSY write zeros outside the primary beam, where noise never is zero: a
        pixel that is exactly zero in every channel of the file, or, of more than
        :data:`SAMPLE` channels, in so many spread over the band.  Reading stops at the first
        channel that leaves none.  An array in memory and a sky model (Jy/pixel) are taken at
        their word.
        """
        if self.path is None or (self.unit is not None and u.pix in self.unit.bases):
            return None
        zero = np.ones(self.shape[1:], dtype=bool)
        for k in _spread(self.shape[0], SAMPLE):
            zero &= np.asarray(self.data[k]) == 0
            if not zero.any():
                return None
        return zero

    @cached_property
    def beam(self) -> Beam | None:
        """The one beam that stands for the cube: its own, or the median of a beam table; None if unknown.

        Of a table it is the beam of median solid angle, since position angles have no median.
        """
        if self.beams is None or self.beams.isscalar:
            return self.beams
        known = np.flatnonzero(self.beams.value > 0)
        return self.beams[known[np.argsort(self.beams.value[known])[len(known) // 2]]]

    @cached_property
    def pixel_scale(self) -> u.Quantity | None:
        """Side of a pixel in arcsec (geometric mean), or None."""
        if self.celestial is None:
            return None
        return np.sqrt(proj_plane_pixel_area(self.celestial)) * u.deg.to(u.arcsec) * u.arcsec

    @cached_property
    def beam_area(self) -> float | None:
        """Beam solid angle in pixels (Jy/beam -> Jy/pixel), or None."""
        if self.beam is None or self.pixel_scale is None:
            return None
        return float((self.beam.sr / self.pixel_scale**2).to_value(u.dimensionless_unscaled))

    @property
    def beam_fwhm(self) -> float | None:
        """FWHM in pixels of a round Gaussian of the beam's solid angle, or None."""
        return None if self.beam_area is None else float(np.sqrt(4 * np.log(2) / np.pi * self.beam_area))

    @cached_property
    def rest_frequency(self) -> u.Quantity | None:
        """Rest frequency from the header in Hz, or None."""
        if self.wcs is None:
            return None
        if self.wcs.wcs.restfrq > 0:
            return self.wcs.wcs.restfrq * u.Hz
        if self.wcs.wcs.restwav > 0:
            return (constants.c / (self.wcs.wcs.restwav * u.m)).to(u.Hz)
        return None

    @property
    def spectral_frame(self) -> str:
        """Standard of rest of the spectral axis as FITS writes it, e.g. LSRK or BARYCENT; empty where unknown."""
        return "" if self.wcs is None else self.wcs.wcs.specsys.strip()

    def spectral_axis(self, unit=None) -> u.Quantity | None:
        """World coordinate of every channel centre, converted to ``unit`` (Hz, km/s radio, ...); None without WCS.

        Without ``unit`` the axis stays what it is in the file, e.g. optical velocity in m/s.
        Any unit of velocity means radio velocity, any unit of length wavelength in vacuum.

        Raises
        ------
        CubeError
            If the conversion needs a rest frequency the header does not give, or ``unit``
            is not one of frequency, velocity or length.
        """
        if self.wcs is None:
            return None
        channels = np.arange(self.shape[0])
        if unit is None:
            return self._spectral(channels)
        unit = u.Unit(unit)
        kind = next((c for c, si in (("FREQ", "Hz"), ("VRAD", "m/s"), ("WAVE", "m")) if unit.is_equivalent(si)), None)
        if kind is None:
            raise CubeError(f"{self.name}: a spectral axis has no values in {unit}; ask for Hz, km/s or m.")
        axis = self._spectral(channels, kind)
        if axis is None:
            raise CubeError(
                f"{self.name}: the {self._spectral_type} axis cannot be given in {unit}, "
                "since the header has no rest frequency (RESTFRQ)."
            )
        return axis.to(unit)

    def frequency(self, channel) -> u.Quantity | None:
        """Frequency in Hz at fractional channel(s), or None where it cannot be known."""
        return self._spectral(channel, "FREQ")

    def velocity(self, channel) -> u.Quantity | None:
        """Radio velocity at fractional channel(s) in km/s, or None where it cannot be known."""
        velocity = self._spectral(channel, "VRAD")
        return None if velocity is None else velocity.to(u.km / u.s)

    def sky(self, x, y) -> SkyCoord | None:
        """Sky position of 0-based pixel(s), or None without WCS."""
        return None if self.celestial is None else self.celestial.pixel_to_world(x, y)

    def celestial_header(self) -> fits.Header | None:
        """A minimal header with the two-dimensional celestial WCS, for images made from the cube."""
        return None if self.celestial is None else self.celestial.to_header()

    @property
    def address(self) -> str:
        """What :func:`read_cube` opens this cube by, wherever it is called from; empty for an array in memory."""
        if self.path is None:
            return ""
        return str(self.path.resolve()) + (f"[{self.hdu}]" if self.hdu is not None else "")

    def sha256(self) -> str:
        """Hash of the file, of a folder's files in order of their names, or of the bytes of an array in memory."""
        digest = hashlib.sha256()
        if self.path is None:
            for plane in self.data:
                digest.update(np.ascontiguousarray(plane))
        elif self.path.is_dir():
            for file in sorted(p for p in self.path.rglob("*") if p.is_file() and p.name != "table.lock"):
                digest.update(file.relative_to(self.path).as_posix().encode() + b"\0" + _hash_of(file).digest())
        else:
            digest = _hash_of(self.path)
        return digest.hexdigest()

    @cached_property
    def celestial(self) -> WCS | None:
        """The two-dimensional celestial WCS, pixel axes (x, y), or None."""
        return self.wcs.celestial if self.wcs is not None and self.wcs.has_celestial else None

    @property
    def _spectral_type(self) -> str:
        return self.wcs.wcs.ctype[self.wcs.wcs.spec][:4]

    @cached_property
    def _spectral_wcs(self) -> dict[str, WCS | None]:
        """One-dimensional WCS by the FITS code of what it gives; None where it cannot be known."""
        return {self._spectral_type: self.wcs.sub([WCSSUB_SPECTRAL])}

    def _spectral(self, channel, kind: str | None = None) -> u.Quantity | None:
        """World coordinate of channels as ``kind`` (FREQ, VRAD, WAVE, ...), or as the axis has it."""
        if self.wcs is None:
            return None
        kind = kind or self._spectral_type
        if kind not in self._spectral_wcs:
            self._spectral_wcs[kind] = self._translated(kind)
        wcs = self._spectral_wcs[kind]
        if wcs is None:
            return None
        channel = np.asarray(channel, dtype=float)
        return u.Quantity(wcs.wcs_pix2world(channel.ravel(), 0)[0].reshape(channel.shape), wcs.wcs.cunit[0])

    def _translated(self, kind: str) -> WCS | None:
        wcs = self.wcs.sub([WCSSUB_SPECTRAL])
        if self.rest_frequency is None:
            if _is_velocity(kind) != _is_velocity(self._spectral_type):
                return None
            wcs.wcs.restfrq = 1.0  # between two velocities it cancels, but wcslib wants one
        try:
            wcs.wcs.sptr(f"{kind}-???")
            wcs.wcs.set()
        except (WcsError, ValueError):  # wcslib translates neither tables nor logarithmic axes
            return None
        return wcs


def _unpickled(known: dict[str, Any], address: str, primary_beam: PrimaryBeam | None) -> Cube:
    cube = replace(read_cube(address), **known) if address else Cube(**known)
    if primary_beam is not None and primary_beam.data is None:
        corrected, primary_beam = primary_beam.corrected, read_primary_beam(primary_beam.path, cube)
        primary_beam = replace(primary_beam, corrected=corrected)
    return replace(cube, primary_beam=primary_beam)


def _hash_of(path: Path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def read_cube(path: str | Path) -> Cube:
    """Open a cube without reading it: FITS (also packed or tile-compressed), a CASA image, CARTA's HDF5.

    The first image of three or more axes in the file is taken.  Its axes are told apart by
    their coordinate types, never by their order; of several polarisations Stokes I is taken,
    or else the first.

    Parameters
    ----------
    path
        The file, or the folder of a CASA image.  ``cube.fits[SCI]`` or ``cube.fits[1]``
        names one of several images in a FITS file.

    Returns
    -------
    Cube
        With everything chosen or mended on the way in its ``notes``.

    Raises
    ------
    CubeError
        If the file is missing, damaged or not FITS, or holds no spectral cube: no image, a
        single plane, no spectral axis, no value but NaN and zero.
    """
    path, hdu = split_address(path)
    with _refusing(path):
        return _read(path, hdu)


@contextmanager
def _refusing(path: Path) -> Generator[None, None, None]:
    """Make whatever goes wrong while a file is read one sentence, and keep astropy's warnings back."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of them is said in the notes
            yield
    except CubeError as error:
        raise CubeError(f"{path.name} {error}") from error.__cause__
    except FileNotFoundError:
        raise CubeError(f"{path.name} is not there: no file {path}.") from None
    except Exception as error:  # a damaged file can fail anywhere inside the libraries
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CubeError(f"{path.name} cannot be read, it may be damaged or incomplete: {reason}") from error


def short_name(path: Path) -> str:
    """A file's name without its endings, which is the name of its cube."""
    return re.sub(r"\.(fits?|fts|image|hdf5|h5|im)(\.(gz|fz|bz2|xz|z))?$", "", path.name, flags=re.IGNORECASE)


def read_image(path: str | Path) -> tuple[Any, WCS | None]:
    """An image of one or more planes that goes with a cube, such as its dirty or primary beam.

    Returns
    -------
    data, celestial
        Shape (planes, ny, nx), and the sky coordinates, or None.

    Raises
    ------
    CubeError
        If the file is missing, damaged or of no known form, or holds no image.
    """
    path, hdu = split_address(path)
    with _refusing(path), opened(path, hdu, axes=2) as stored:
        return _response(stored)


def read_primary_beam(path: str | Path, cube: Cube) -> PrimaryBeam:
    """The primary beam that belongs to a cube, from an image as imagers write it (``.pb``), of one or all channels.

    Whether the cube was corrected for it, its file's name is taken to say (``pbcor``).

    Raises
    ------
    CubeError
        If it cannot be read, has other pixels or channels than the cube, lies elsewhere on the sky, or holds values
        that are no response.
    """
    data, celestial = read_image(path)
    path = Path(path)
    n_channels, ny, nx = cube.shape
    if data.shape[1:] != (ny, nx) or len(data) not in (1, n_channels):
        sizes = " x ".join(map(str, data.shape)), " x ".join(map(str, cube.shape))
        raise CubeError(f"{path.name} measures {sizes[0]} and the cube {sizes[1]}: it is another image's primary beam.")
    if celestial is not None and cube.celestial is not None:
        x, y = np.array([0, nx - 1, (nx - 1) / 2]), np.array([0, ny - 1, (ny - 1) / 2])
        apart = np.nanmax(cube.sky(x, y).separation(celestial.pixel_to_world(x, y))) / cube.pixel_scale
        if (apart := float(apart.to_value(u.dimensionless_unscaled))) > 0.5:
            raise CubeError(f"{path.name} lies {apart:.3g} pixels from the cube on the sky: it is another field's.")
    beam = PrimaryBeam(data, path, "pbcor" in cube.name.lower())
    plane = beam.plane(n_channels // 2)
    if not 0 < np.nanmax(plane, initial=-1) < 1.1:
        raise CubeError(f"{path.name} holds no response: its highest value is {np.nanmax(plane, initial=-1):.3g}.")
    return beam


def _response(stored: Stored) -> tuple[Any, WCS | None]:
    """(channel, y, x) of an image, with one channel where it has no spectral axis, and its sky coordinates."""
    shape, last = stored.source.shape, len(stored.source.shape) - 1
    wcs = WCS(_mended(stored.header, []), stored.hdus)
    x, y, spectral = wcs.wcs.lng, wcs.wcs.lat, wcs.wcs.spec
    x, y = (x, y) if 0 <= x <= last and 0 <= y <= last else (0, 1)
    celestial = wcs.sub([x + 1, y + 1]) if wcs.has_celestial else None
    if 0 <= spectral <= last:
        return stored.cube((last - spectral, last - y, last - x), {}), celestial
    part = [slice(0, n if axis in (last - y, last - x) else 1) for axis, n in enumerate(shape)]
    plane = stored.source.read(tuple(part))
    ny, nx = shape[last - y], shape[last - x]
    return (plane.reshape(1, ny, nx) if y > x else plane.reshape(nx, ny).T[None]), celestial


def _read(path: Path, hdu: str | None) -> Cube:
    """`read_cube` without the file's name in the errors, and with errors of any type."""
    with opened(path, hdu) as stored:
        notes, header, shape = stored.notes, stored.header, stored.source.shape
        wcs = _wcs(_mended(header, notes), stored.hdus, notes)
        spectral, y, x = _axes(wcs, shape, header)
        if shape[-1 - spectral] == 1:
            raise CubeError("is a single plane: its spectral axis has one channel.")
        notes += _defaults(wcs, header, (x, y, spectral))
        planes = _planes(wcs, shape, (spectral, y, x), header, notes)
        polarisation = planes.get(_polarisation_axis(header), 0)
        beams = _beams(stored.beams, header, shape[-1 - spectral], polarisation, notes)
        last = len(shape) - 1
        kept = tuple(last - axis for axis in (spectral, y, x))
        data = stored.cube(kept, {last - axis: plane for axis, plane in planes.items()})
    _refuse_empty(data)
    wcs = _of_three_axes(wcs, (x, y, spectral))
    wcs.array_shape = data.shape
    name = short_name(path)
    cube = Cube(
        data=data,
        wcs=wcs,
        unit=_brightness_unit(header, notes),
        beams=beams,
        header=header,
        name=name if hdu is None else f"{name}[{hdu}]",
        path=path,
        hdu=hdu,
    )
    notes += _implausible(cube)
    if cube.beam_area is not None and cube.beam_area > 100 * np.prod(cube.shape[1:]):
        notes.append(f"The beam of {cube.beam.major.to('deg'):.3g} is far larger than the field, and was ignored.")
        cube = replace(cube, beams=None)
    return replace(cube, notes=tuple(dict.fromkeys(notes)))  # two axes may need the same mending


# --- The image and its axes, counted as FITS does, fastest first, but from 0: numpy's is -1 - axis ---


def _axes(wcs: WCS, shape: tuple[int, ...], header: fits.Header) -> tuple[int, int, int]:
    """Axes of the file that hold (channel, y, x)."""
    spectral, y, x = wcs.wcs.spec, wcs.wcs.lat, wcs.wcs.lng
    if not 0 <= spectral < len(shape):
        types = ", ".join(str(header.get(f"CTYPE{i + 1}", "?")).strip() or "?" for i in range(len(shape)))
        raise CubeError(f"has no spectral axis, only {types}.")
    if x < 0 or y < 0:
        others = {spectral, _polarisation_axis(header)}
        image = [i for i, n in enumerate(reversed(shape)) if i not in others and n > 1]
        if len(image) != 2:
            raise CubeError("has no two axes of an image beside its spectral axis.")
        x, y = image
    if max(x, y) >= len(shape):
        raise CubeError("has a spectral axis, but its sky axes are not in the image.")
    if _polarisation_axis(header) in (spectral, y, x):
        raise CubeError("has coordinates that contradict themselves: one axis cannot be polarisation and another.")
    return spectral, y, x


def _of_three_axes(wcs: WCS, axes: tuple[int, int, int]) -> WCS:
    """The coordinates of (x, y, channel) alone."""
    try:
        return wcs.sub([axis + 1 for axis in axes])
    except WcsError as error:
        raise CubeError("has coordinates that mix the sky or the spectral axis with another axis.") from error


def _polarisation_axis(header: fits.Header) -> int | None:
    for i in range(header["NAXIS"]):
        if str(header.get(f"CTYPE{i + 1}", "")).strip().upper() in ("STOKES", "POL"):
            return i
    return None


def _planes(wcs: WCS, shape: tuple[int, ...], kept: tuple[int, ...], header, notes: list[str]) -> dict[int, int]:
    """Which plane of every axis beyond the three is taken, by axis."""
    planes = {}
    for axis, n in enumerate(reversed(shape)):
        if axis in kept:
            continue
        planes[axis] = 0
        kind = str(header.get(f"CTYPE{axis + 1}", "")).strip()
        if axis == _polarisation_axis(header):
            codes = np.rint(wcs.sub([axis + 1]).wcs_pix2world(np.arange(n), 0)[0]).astype(int)
            planes[axis] = int(np.argmax(codes == 1))  # Stokes I; the first where there is none
            count = "the only one" if n == 1 else f"one of the {n}"
            notes.append(f"Polarisation taken: {_polarisation(kind, codes[planes[axis]])}, {count} in the file.")
        elif n > 1:
            notes.append(f"Axis {axis + 1} ({kind or 'without a type'}) has {n} planes; the first is taken.")
    return planes


def _polarisation(kind: str, code: int) -> str:
    from astropy.coordinates import StokesCoord

    symbol = StokesCoord(code).symbol.item() if kind.upper() == "STOKES" else "?"
    return f"code {code} ({kind})" if symbol == "?" else f"Stokes {symbol}" if len(symbol) == 1 else symbol


# --- The data ---


def _spread(n: int, most: int) -> np.ndarray:
    """At most so many of 0 ... n-1, evenly spread, the middle first: edge planes are often empty."""
    chosen = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
    return chosen[np.argsort(np.abs(chosen - n // 2), kind="stable")]


def _refuse_empty(data: Lazy) -> None:
    """Raise unless some value is neither NaN nor zero; stops at the first part that has one, or after LOOK_BYTES."""
    slow = int(np.argmin(data.kept))  # along the file, not across it
    n = data.shape[slow]
    parts = _spread(n, max(4, LOOK_BYTES * n // max(data.nbytes, 1)))
    zeros = nans = False
    for k in parts:
        part = data[tuple(k if axis == slow else slice(None) for axis in range(3))]
        finite = np.isfinite(part)
        if np.any(part, where=finite):
            return
        zeros |= finite.any()
        nans |= not finite.all()
    if len(parts) == n:
        found = " and ".join(name for name, seen in (("zeros", zeros), ("NaN", nans)) if seen)
        raise CubeError(f"is empty: it holds nothing but {found}.")


# --- The header ---

_SPECTRAL_NAMES = {"FREQUENC": "FREQ", "VELOCITY": "VELO", "VEL": "VELO", "WAVELENG": "WAVE", "LAMBDA": "WAVE"}
_SPECTRAL_CODE = re.compile(r"(FREQ|VELO|FELO|VRAD|VOPT|ZOPT|BETA|WAVE|AWAV)-(\w+)")
_KNOWN_SUFFIX = re.compile(r"LSR|HEL|OBS|[FWAV]2[FWAV]|LOG|TAB|GRI|GRA")
_NUMBER = re.compile(
    r"(CRPIX|CRVAL|CDELT|CROTA)\d+|(PC|CD|PV)\d+_\d+|LONPOLE|LATPOLE|EQUINOX|EPOCH|RESTFRQ|RESTFREQ|RESTWAV|VELREF"
)
_NEEDED = re.compile(r"CRPIX|CRVAL|CDELT|PC|CD")
_SPECTRAL_FRAMES = (  # FITS paper III, table 12
    "TOPOCENT", "GEOCENTR", "BARYCENT", "HELIOCEN", "LSRK", "LSRD", "GALACTOC", "LOCALGRP", "CMBDIPOL", "SOURCE",
)  # fmt: skip
_CASA_FRAMES = {
    "BARY": "BARYCENT", "HELIO": "HELIOCEN", "TOPO": "TOPOCENT", "GEO": "GEOCENTR", "GALACTO": "GALACTOC",
    "LGROUP": "LOCALGRP", "CMB": "CMBDIPOL", "REST": "SOURCE",
}  # fmt: skip
_VELREF = {1: "LSRK", 2: "BARYCENT", 3: "TOPOCENT", 4: "LSRD", 5: "GEOCENTR", 6: "SOURCE", 7: "GALACTOC"}  # casacore's
_FRAMES = {"J2000": "FK5", "B1950": "FK4"}
_UNITS = {  # not MJY, which may be milli or mega
    "JY": "Jy", "BEAM": "beam", "PIX": "pix", "PIXEL": "pix", "PIXELS": "pix", "K": "K", "KELVIN": "K",
    "KM": "km", "M": "m", "S": "s", "SEC": "s", "KMS": "km/s", "KPS": "km/s", "HZ": "Hz", "KHZ": "kHz", "MHZ": "MHz",
    "GHZ": "GHz", "DEG": "deg", "DEGREE": "deg", "DEGREES": "deg", "ARCSEC": "arcsec", "ARCMIN": "arcmin",
    "ANGSTROM": "Angstrom", "ANGSTROMS": "Angstrom", "NM": "nm", "UM": "um", "MICRON": "um", "MICRONS": "um",
}  # fmt: skip


def _mended(header: fits.Header, notes: list[str]) -> fits.Header:
    """A copy of the header whose coordinate cards wcslib understands."""
    header = header.copy()
    _mend_numbers(header, notes)
    _mend_rest_frequency(header, notes)
    _mend_frame(header, notes)
    for i in range(1, header["NAXIS"] + 1):
        _mend_type(header, f"CTYPE{i}", notes)
        _mend_axis_unit(header, i, notes)
    for key in ("RADESYS", "RADECSYS"):
        if key in header:
            frame = str(header[key]).strip().upper()
            header[key] = _FRAMES.get(frame, frame)
            if header[key] != str(header[key]).strip() or frame in _FRAMES:
                notes.append(f"The sky frame {frame} was read as {header[key]}.")
            if header[key] not in ("ICRS", "FK5", "FK4", "FK4-NO-E"):
                notes.append(f"The sky frame {header[key] or 'without a name'} is unknown; the FITS default is used.")
                del header[key]
    return header


def _mend_numbers(header: fits.Header, notes: list[str]) -> None:
    """Take numbers written as text for numbers; without one that coordinates need, there are none."""
    for card in list(header.cards):
        key = card.keyword
        if not _NUMBER.fullmatch(key):
            continue
        try:
            value = card.value
        except (fits.VerifyError, ValueError):
            value = card.image[10:].strip()
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            continue
        try:
            number = float(str(value).upper().replace("D", "E"))
        except ValueError:
            number = np.nan
        if np.isfinite(number) and not isinstance(value, bool):
            header[key] = number
            notes.append(f"{key} is a text, '{value}'; it was read as a number.")
        elif _NEEDED.match(key):
            raise CubeError(f"has coordinates that cannot be understood: {key} is {value!r}, which is no number.")
        else:
            del header[key]
            notes.append(f"{key} is {value!r}, which is no number; it was ignored.")


def _mend_frame(header: fits.Header, notes: list[str]) -> None:
    """The standard of rest, from AIPS' and CASA's code where it is not named; FITS' name for CASA's."""
    frame = str(header.get("SPECSYS", "")).strip().upper()
    if not frame and (code := header.get("VELREF")) is not None and int(code) % 256 in _VELREF:
        header["SPECSYS"] = _VELREF[int(code) % 256]
        notes.append(f"The standard of rest is VELREF's, {header['SPECSYS']}.")
    elif frame in _CASA_FRAMES:
        header["SPECSYS"] = _CASA_FRAMES[frame]
        notes.append(f"The standard of rest {frame} was read as {header['SPECSYS']}.")
    elif frame and frame not in _SPECTRAL_FRAMES:
        notes.append(f"The standard of rest '{frame}' is not one that FITS knows; it was ignored.")
        del header["SPECSYS"]


def _mend_rest_frequency(header: fits.Header, notes: list[str]) -> None:
    for key in ("RESTFRQ", "RESTFREQ", "RESTWAV"):
        if key in header and not _positive(header[key]):
            notes.append(f"{key} of {header[key]} was ignored.")
            del header[key]
    if not any(key in header for key in ("RESTFRQ", "RESTFREQ", "RESTWAV")) and _positive(header.get("FREQ0")):
        header["RESTFRQ"] = header["FREQ0"]
        notes.append("The rest frequency is GIPSY's FREQ0.")


def _mend_type(header: fits.Header, key: str, notes: list[str]) -> None:
    """Bring CTYPE to a form wcslib knows."""
    written = str(header.get(key, "")).strip()
    kind = written.upper()
    kind = _SPECTRAL_NAMES.get(kind[:8], kind)
    if (match := _SPECTRAL_CODE.fullmatch(kind)) and not _KNOWN_SUFFIX.fullmatch(match[2]):
        # GIPSY's FREQ-OHEL: the axis is in observed frequency, the suffix is for a velocity kept elsewhere.
        kind = match[1]
    has_rest = any(rest in header for rest in ("RESTFRQ", "RESTFREQ", "RESTWAV"))
    if not has_rest and (kind.startswith("FELO") or re.fullmatch(r"(VRAD|VOPT|ZOPT|VELO|BETA)-[FWAV]2[FWAV]", kind)):
        kind = kind[:4].replace("FELO", "VOPT")
        notes.append(f"{written} needs a rest frequency to be exact; it was read as linear {kind}.")
    elif kind != written.upper():
        notes.append(f"Axis type {written} was read as {kind}.")
    if kind.endswith("-NCP"):
        notes.append("The NCP projection was read as the equivalent SIN.")
    if kind:
        header[key] = kind


def _mend_axis_unit(header: fits.Header, axis: int, notes: list[str]) -> None:
    key = f"CUNIT{axis}"
    written = str(header.get(key, "")).strip()
    if not written:
        return
    if axis - 1 == _polarisation_axis(header):
        del header[key]
        return
    unit, mended = _parse_unit(written)
    if unit is None:
        notes.append(f"{key} '{written}' is not understood; the FITS default is used.")
        del header[key]
        return
    header[key] = unit.to_string("fits")
    if mended:
        notes.append(f"The unit '{written}' was read as {header[key]}.")


def _parse_unit(text: str) -> tuple[u.UnitBase | None, bool]:
    """The unit, or None if it is not understood, and whether its spelling had to be mended."""
    try:
        return u.Unit(text), False
    except ValueError:
        pass
    spelling = re.sub(r"\(.*?\)", "", text).strip()  # K (Tmb)
    spelling = re.sub(r"[A-Za-z]+", lambda word: _UNITS.get(word[0].upper(), word[0]), spelling)
    try:
        return u.Unit(spelling), True
    except ValueError:
        return None, True


def _brightness_unit(header: fits.Header, notes: list[str]) -> u.UnitBase:
    written = str(header.get("BUNIT", "")).strip()
    if not written:
        notes.append("There is no brightness unit.")
        return u.dimensionless_unscaled
    unit, mended = _parse_unit(written)
    if unit is None:
        notes.append(f"The brightness unit '{written}' is not understood.")
        return u.dimensionless_unscaled
    if mended:
        notes.append(f"The brightness unit '{written}' was read as {unit}.")
    return unit


def _wcs(header: fits.Header, hdus: fits.HDUList, notes: list[str]) -> WCS:
    try:
        wcs = WCS(header, hdus)
    except (WcsError, ValueError) as error:
        raise CubeError(f"has coordinates that cannot be understood: {str(error).strip().splitlines()[-1]}") from error
    if wcs.wcs.spec >= 0:
        axis = wcs.wcs.spec + 1
        written, read = header[f"CTYPE{axis}"], wcs.wcs.ctype[wcs.wcs.spec]
        if read != written:  # wcslib's reading of AIPS' types
            unsure = written.startswith("VELO") and "VELREF" not in header
            because = ", since no VELREF says whether it is radio or optical velocity" if unsure else ""
            notes.append(f"Axis type {written} was read as {read} {wcs.wcs.specsys}".rstrip() + because + ".")
        if not header.get(f"CUNIT{axis}"):
            notes.append(f"The spectral axis has no unit; FITS' default is taken, {wcs.wcs.cunit[axis - 1]}.")
    return wcs


def _defaults(wcs: WCS, header: fits.Header, axes: tuple[int, int, int]) -> list[str]:
    """What the header does not say of the axes (x, y, channel), for which FITS has a default."""
    said = []
    for axis in axes if wcs.has_celestial else axes[2:]:
        matrix = [f"CD{axis + 1}_{i + 1}" in header for i in range(wcs.naxis)]
        for key, default in (("CRPIX", 0), ("CRVAL", 0), ("CDELT", 1)):
            if f"{key}{axis + 1}" not in header and not (key == "CDELT" and any(matrix)):
                said.append(f"There is no {key}{axis + 1}; FITS' default is taken, {default}.")
    return said


def _implausible(cube: Cube) -> list[str]:
    """What cannot be right about coordinates that can be computed; refuses those that give no numbers."""
    said = []
    axis = cube.spectral_axis()
    if not np.isfinite(axis).all():
        raise CubeError("has coordinates that cannot be understood: its spectral axis gives no numbers.")
    ends = f"The spectral axis runs from {axis[0]:.6g} to {axis[-1]:.6g}: are CRVAL, CDELT and CUNIT right?"
    if _is_velocity(cube._spectral_type):
        speed = axis.to_value("m/s") if axis.unit.is_equivalent("m/s") else axis.to_value("") * constants.c.value
        likely = np.abs(speed).max() < constants.c.value * (20 if cube._spectral_type in ("VOPT", "ZOPT") else 1)
    else:
        hertz = axis.to_value("Hz") if axis.unit.is_equivalent("Hz") else constants.c.value / axis.to_value("m")
        likely = hertz.min() > 1e6 and hertz.max() < 1e17
    if not likely:
        said.append(ends)
    if cube.celestial is None:
        y_x = " and ".join(kind or "none" for kind in list(cube.wcs.wcs.ctype)[1::-1])
        return [*said, f"There are no sky coordinates: the types of the image's axes are {y_x}."]
    latitude = cube.wcs.wcs.crval[1]
    if abs(latitude) > 90:
        raise CubeError(
            f"has coordinates that contradict themselves: its reference point has latitude {latitude:g} deg."
        )
    ny, nx = cube.shape[1:]
    x, y = np.array([(nx - 1) / 2, 0, nx - 1, 0, nx - 1]), np.array([(ny - 1) / 2, 0, 0, ny - 1, ny - 1])
    if not np.isfinite(cube.celestial.wcs_pix2world(x, y, 0)).all(axis=0).any():
        said.append("Neither the field's middle nor its corners lie on the sky: are CRPIX, CRVAL and CDELT right?")
    sides = proj_plane_pixel_scales(cube.celestial) * 3600
    if sides.max() > 2 * sides.min():
        said.append(f"The pixels are not square, but {sides[0]:.3g} x {sides[1]:.3g} arcsec.")
    if sides.min() < 1e-7 or (sides * (nx, ny)).max() > 361 * 3600:
        said.append(f"The field measures {sides[0] * nx:.3g} x {sides[1] * ny:.3g} arcsec: is CDELT right?")
    if cube.beam is not None and cube.beam_area < 0.5:
        said.append(f"The beam covers {cube.beam_area:.2g} pixels: are BMAJ and BMIN in degrees?")
    return said


def _beams(tables: list[fits.BinTableHDU], header: fits.Header, channels: int, polarisation: int, notes: list[str]):
    """Beams of the first table that fits, else the header's beam, else None."""
    for table in tables:
        try:
            beams = _beam_table(table, channels, polarisation)
        except ValueError as error:
            notes.append(f"The beam table was ignored: {error}.")
            continue
        sizes = np.sqrt(beams.major * beams.minor).to_value("arcsec")[beams.value > 0]
        notes.append(
            f"Each channel has a beam of its own, from {sizes.min():.3g} to {sizes.max():.3g} arcsec; "
            "the one of median area stands for all."
        )
        return beams
    from radio_beam import Beam
    from radio_beam.beam import NoBeamException

    try:
        if "BMAJ" in header and not _positive(header["BMAJ"]):
            raise NoBeamException(f"BMAJ is {header['BMAJ']}")
        beam = Beam.from_fits_header(header)
        if not _positive(beam.value):
            raise NoBeamException(f"its solid angle is {beam}")
        return beam
    except NoBeamException:
        promised = ", though CASAMBM promises a table of them" if header.get("CASAMBM") else ""
        notes.append(f"The file gives no beam{promised}.")
    except ValueError as error:
        notes.append(f"The header's beam was ignored: {error}")
    return None


def _beam_table(hdu: fits.BinTableHDU, channels: int, polarisation: int) -> Beams:
    """The beams of CASA's table in order of channel."""
    from radio_beam import Beams

    rows = hdu.data
    if "POL" in hdu.columns.names and np.ptp(rows["POL"]) > 0:
        rows = rows[rows["POL"] == polarisation]
    if "CHAN" in hdu.columns.names:
        rows = rows[np.argsort(rows["CHAN"], kind="stable")]
    if len(rows) != channels:
        raise ValueError(f"it has {len(rows)} beams for {channels} channels")
    angles = []
    for name, default in (("BMAJ", "arcsec"), ("BMIN", "arcsec"), ("BPA", "deg")):
        unit, _ = _parse_unit(hdu.columns[name].unit or default)
        if unit is None:
            raise ValueError(f"the unit of {name} is {hdu.columns[name].unit}")
        angles.append(u.Quantity(rows[name].astype(float), unit))
    if not np.any(angles[0] * angles[1] > 0):
        raise ValueError("no beam in it has a size")
    return Beams(*angles)


def _positive(value) -> bool:
    return isinstance(value, int | float) and np.isfinite(value) and value > 0


def _is_velocity(kind: str) -> bool:
    return kind in ("VRAD", "VOPT", "VELO", "ZOPT", "BETA")
