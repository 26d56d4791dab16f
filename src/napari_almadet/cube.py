"""Open any radio FITS cube as a :class:`Cube`; nothing else in the package parses headers."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS, WCSSUB_SPECTRAL, WcsError
from astropy.wcs.utils import proj_plane_pixel_area

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
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
    header: fits.Header | None = None
    name: str = "cube"
    path: Path | None = None
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
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "data" or self.path is None}
        if self.path is not None:
            known["path"] = self.path.resolve()
        return _unpickled, (known,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, ny, nx)."""
        return tuple(self.data.shape)

    def read(self, channel=slice(None), y=slice(None), x=slice(None)) -> np.ndarray:
        """A writable, native-endian float32 copy of a part of the cube; NaN where there is no data.

        There is no data where a value is not finite, nor, in a cube from a file, in the
        pixels marked by :attr:`blank`.

        Parameters
        ----------
        channel, y, x
            Integers, slices or index arrays, as for ``data[channel, y, x]``.
        """
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, then NaN
            part = np.array(self.data[channel, y, x], dtype=np.float32)
        part[~np.isfinite(part)] = np.nan
        if self.blank is not None:
            np.copyto(part, np.nan, where=self.blank[y, x])
        return part

    @cached_property
    def blank(self) -> np.ndarray | None:
        """Mask (y, x) of the pixels that are exactly zero in every channel of the file; None if there are none.

        Miriad and GIPSY write zeros outside the primary beam, where noise never is zero.
        Only a cube that has such pixels is read to its end for this, any other to the first
        channel that has none.  An array in memory and a sky model (Jy/pixel) are taken at
        their word.
        """
        if self.path is None or (self.unit is not None and u.pix in self.unit.bases):
            return None
        zero = np.ones(self.shape[1:], dtype=bool)
        for k in _from_middle(self.shape[0]):
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

    def sha256(self) -> str:
        """Hash of the file, or of the array's bytes for a cube in memory."""
        if self.path is not None:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for plane in self.data:
            digest.update(np.ascontiguousarray(plane))
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


def _unpickled(known: dict[str, Any]) -> Cube:
    return Cube(**known) if "data" in known else replace(read_cube(known["path"]), **known)


def read_cube(path: str | Path) -> Cube:
    """Open a FITS cube (.fits, .fits.gz, .fits.fz), lazily where the file allows it.

    The first image of three or more axes in the file is taken.  Its axes are told apart by
    their coordinate types, never by their order; of several polarisations Stokes I is taken,
    or else the first.

    Parameters
    ----------
    path
        The file.

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
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of them is said in the notes
            return _read(path)
    except CubeError as error:
        raise CubeError(f"{path.name} {error}") from error.__cause__
    except FileNotFoundError:
        raise CubeError(f"{path.name} is not there: no file {path}.") from None
    except Exception as error:  # a damaged file can fail anywhere inside astropy
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CubeError(f"{path.name} cannot be read as FITS, it may be damaged or incomplete: {reason}") from error


def read_plane(path: str | Path) -> tuple[np.ndarray, WCS]:
    """The middle plane of a FITS image that goes with a cube, such as its dirty beam, and its sky coordinates.

    Returns
    -------
    plane, celestial
        Float32 of shape (ny, nx), and the WCS of the last two axes.

    Raises
    ------
    CubeError
        If the file is missing, damaged or not FITS, or holds no image.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path) as hdus:
                images = [hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] >= 2]
                if not images:
                    raise CubeError(f"{path.name} holds no image.")
                planes = images[0].data.reshape(-1, *images[0].shape[-2:])
                return planes[len(planes) // 2].astype(np.float32), WCS(images[0].header, hdus).celestial
    except CubeError:
        raise
    except Exception as error:  # astropy's are many
        raise CubeError(f"{path.name} cannot be read: {error}") from error


def _read(path: Path) -> Cube:
    """`read_cube` without the file's name in the errors, and with errors of any type."""
    notes: list[str] = []
    # Opened here, as astropy leaves a file it fails on open.
    with path.open("rb") as file, fits.open(file, memmap=False) as hdus:
        hdu = _find_image(hdus, notes)
        header = hdu.header.copy()  # astropy edits the header of an integer image when its data are read
        wcs = _wcs(_mended(header, notes), hdus, notes)
        spectral, y, x = _axes(wcs, hdu.shape, header)
        if hdu.shape[-1 - spectral] == 1:
            raise CubeError("is a single plane: its spectral axis has one channel.")
        planes = _planes(wcs, hdu.shape, (spectral, y, x), header, notes)
        data = _take(hdu, path, (spectral, y, x), planes, notes)
        beams = _beams(hdus, header, len(data), planes.get(_polarisation_axis(header), 0), notes)
    _refuse_empty(data)
    wcs = wcs.sub([x + 1, y + 1, spectral + 1])
    wcs.array_shape = data.shape
    return Cube(
        data=data,
        wcs=wcs,
        unit=_brightness_unit(header, notes),
        beams=beams,
        header=header,
        name=re.sub(r"\.(fits?|fts)(\.(gz|fz|bz2|z))?$", "", path.name, flags=re.IGNORECASE),
        path=path,
        notes=tuple(dict.fromkeys(notes)),  # two axes may need the same mending
    )


# --- The image and its axes, counted as FITS does, fastest first, but from 0: numpy's is -1 - axis ---


def _find_image(hdus: fits.HDUList, notes: list[str]):
    """The first HDU with an image of three or more axes."""
    images = [hdu for hdu in hdus if hdu.is_image and hdu.shape and 0 not in hdu.shape]
    cubes = [hdu for hdu in images if len(hdu.shape) >= 3]
    if not cubes:
        raise CubeError("is a single plane: its image has two axes." if images else "holds no image.")
    if len(cubes) > 1:
        notes.append(f"The file holds {len(cubes)} images of three or more axes; the first is taken ({cubes[0].name}).")
    return cubes[0]


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
    return spectral, y, x


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


def _take(hdu, path: Path, kept: tuple[int, int, int], planes: dict[int, int], notes: list[str]) -> np.ndarray:
    """The (channel, y, x) array: a view of the mapped file, or a float32 copy where it cannot be mapped."""
    header = hdu.header
    with path.open("rb") as file:
        packed = file.read(6) != b"SIMPLE"  # the file as a whole, by gzip
    compressed = packed or isinstance(hdu, fits.CompImageHDU)
    if not compressed:
        size, needed = path.stat().st_size, hdu.fileinfo()["datLoc"] + hdu.size
        if size < needed:
            raise CubeError(f"is cut short: it has {size} of {needed} bytes; fetch it again.")
    scaled = header.get("BSCALE", 1) != 1 or header.get("BZERO", 0) != 0 or (header["BITPIX"] > 0 and "BLANK" in header)
    if "BLANK" in header and header["BITPIX"] < 0:
        notes.append("BLANK was ignored: it means nothing for floating-point values.")

    ndim = len(hdu.shape)
    index = [planes.get(ndim - 1 - i, slice(None)) for i in range(ndim)]
    if compressed or scaled:
        notes.append(f"The file is {'compressed' if compressed else 'of scaled numbers'}; it was read into memory.")
        shape = [n for n, i in zip(hdu.shape, index, strict=True) if isinstance(i, slice)]
        data = np.empty(shape, dtype=np.float32)
        slow = index.index(slice(None))
        source = hdu.data if packed else hdu.section  # gzip would be unpacked from its start for every section
        for i in range(shape[0]):  # by planes, as astropy scales to float64 on the way
            index[slow] = i
            data[i] = source[tuple(index)]
    else:
        # Not hdu.data: astropy's map is private to the HDU and, on Linux, counts as memory in use.
        dtype = np.dtype(fits.BITPIX2DTYPE[header["BITPIX"]]).newbyteorder(">")
        data = np.memmap(path, dtype, "r", hdu.fileinfo()["datLoc"], hdu.shape)[tuple(index)]

    in_file = sorted(kept, reverse=True)  # numpy's order
    data = data.transpose([in_file.index(axis) for axis in kept])
    data.flags.writeable = False
    return data


def _from_middle(n: int) -> np.ndarray:
    """0 ... n-1, the middle first: edge planes are often empty."""
    return np.argsort(np.abs(np.arange(n) - n // 2), kind="stable")


def _refuse_empty(data: np.ndarray) -> None:
    """Raise unless some value is neither NaN nor zero; stops at the first plane that has one."""
    slabs = np.moveaxis(data, np.argmax(np.abs(data.strides)), 0)  # along the file, not across it
    zeros = nans = False
    for k in _from_middle(len(slabs)):
        finite = np.isfinite(slabs[k])
        if np.any(slabs[k], where=finite):
            return
        zeros |= finite.any()
        nans |= not finite.all()
    found = " and ".join(name for name, seen in (("zeros", zeros), ("NaN", nans)) if seen)
    raise CubeError(f"is empty: it holds nothing but {found}.")


# --- The header ---

_SPECTRAL_NAMES = {"FREQUENC": "FREQ", "VELOCITY": "VELO", "VEL": "VELO", "WAVELENG": "WAVE", "LAMBDA": "WAVE"}
_SPECTRAL_CODE = re.compile(r"(FREQ|VELO|FELO|VRAD|VOPT|ZOPT|BETA|WAVE|AWAV)-(\w+)")
_KNOWN_SUFFIX = re.compile(r"LSR|HEL|OBS|[FWAV]2[FWAV]|LOG|TAB|GRI|GRA")
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
    _mend_rest_frequency(header, notes)
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


def _mend_rest_frequency(header: fits.Header, notes: list[str]) -> None:
    for key in ("RESTFRQ", "RESTFREQ", "RESTWAV"):
        if key in header and not _positive(header[key]):
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


def _beams(hdus: fits.HDUList, header: fits.Header, channels: int, polarisation: int, notes: list[str]):
    """Beams of a BEAMS table anywhere in the file, else the header's beam, else None."""
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU) and {"BMAJ", "BMIN", "BPA"} <= set(hdu.columns.names):
            try:
                return _beam_table(hdu, channels, polarisation)
            except ValueError as error:
                notes.append(f"The beam table was ignored: {error}.")
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
