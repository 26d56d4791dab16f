"""File formats of cubes: FITS (plain, scaled or compressed), CASA images, and HDF5 as CARTA writes it.

Each format is turned into a FITS header and an array that reads only the parts asked for, so that a cube may be larger
than memory.  :mod:`napari_almadet.cube.reading` interprets the header.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import operator
import os
import re
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from io import RawIOBase
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeAlias

import numpy as np
from astropy import constants
from astropy.io import fits

from napari_almadet import threads
from napari_almadet.constants import ARCSEC_PER_DEGREE
from napari_almadet.cube.errors import MOST_AXES, ONLY_SHOWN, CubeError
from napari_almadet.cube.fits_structure import check_structure
from napari_almadet.cube.rice import RiceTiles, tiles_of

__all__ = ["MOST_AXES", "CubeError"]  # other modules import them from here

LOG = logging.getLogger(__name__)

UNEVEN = 0.05  # channels by which a tabulated axis may deviate from a straight line and still be called linear
PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}  # by the first bytes of the file
Index: TypeAlias = "int | np.integer | slice | np.ndarray"  # of one axis
# Bytes of an array that a thread reads at a time. So few stay in the processor's cache, and in memory that is used
# again: 16 MB at a time took three times as long, most of it for new memory.  Chosen for speed
HELD_AT_ONCE = 2**22
STOKES = {  # FITS paper I, table 7
    "I": 1,
    "Q": 2,
    "U": 3,
    "V": 4,
    "RR": -1,
    "LL": -2,
    "RL": -3,
    "LR": -4,
    "XX": -5,
    "YY": -6,
    "XY": -7,
    "YX": -8,
}
HDF5 = b"\x89HDF\r\n\x1a\n"
# Times half a step, the largest distance from zero of a zero that was rounded; the rest is float32's rounding
SLIGHTLY_MORE = 1.001


_reading_casa = Lock()  # casa-formats-io keeps the last chunk, so that one thread at a time may read


class Source(Protocol):
    """An array on disk: its shape and type, and how to read a part given by slices of step 1."""

    @property
    def path(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def read(self, part: tuple[slice, ...]) -> np.ndarray: ...


def read_whole(file: RawIOBase, room: memoryview) -> int:
    """Read from a file until some memory is full or the file ends: a system reads at most 2 GB at once."""
    got = 0
    while got < len(room):
        more = file.readinto(room[got:])
        if not more:
            break
        got += more
    return got


@dataclass(frozen=True)
class Plain:
    """An uncompressed image in a file; its numbers may be scaled integers.

    A contiguous part is read, because threads that map a file wait for each other.  For other parts the file is mapped
    and unmapped again, so that it does not count as memory in use.
    """

    path: Path
    offset: int
    stored: np.dtype
    shape: tuple[int, ...]
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def scaled(self) -> bool:
        return (self.scale, self.zero, self.blank) != (1.0, 0.0, None)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.scaled else self.stored.newbyteorder("=")

    def read(self, part: tuple[slice, ...]) -> np.ndarray:
        stored = self._in_one_piece(part)
        if stored is None:
            stored = np.memmap(self.path, self.stored, "r", self.offset, self.shape)[part]
        if not self.scaled:
            if not isinstance(stored, np.memmap) and not stored.dtype.isnative:  # ours alone
                return stored.byteswap(inplace=True).view(self.dtype)
            return np.asarray(stored).astype(self.dtype)
        values = np.multiply(stored, self.scale, dtype=np.float64 if stored.itemsize > 2 else np.float32)
        values += self.zero
        if self.blank is not None:
            values[stored == self.blank] = np.nan
        return np.asarray(values).astype(np.float32, copy=False)

    def fill(self, block: np.ndarray, part: tuple[slice, ...]) -> bool:
        """Read a part into C-contiguous memory of the array's type; False if it is scaled or not contiguous."""
        offset = None if self.scaled else self._offset_of(part)
        if offset is None:
            return False
        flat = block.reshape(-1)  # of contiguous memory the same memory
        with self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            got = read_whole(file, flat.data.cast("B"))
        if got < flat.nbytes:
            raise ValueError(f"{flat.nbytes - got} bytes are missing at its end")
        if not self.stored.isnative:
            flat.byteswap(inplace=True)
        return True

    def _in_one_piece(self, part: tuple[slice, ...]) -> np.ndarray | None:
        """A contiguous part of the file, as stored; None if the part is not contiguous."""
        offset, sizes = self._offset_of(part), [s.stop - s.start for s in part]
        if offset is None:
            return None
        return np.fromfile(self.path, self.stored, int(np.prod(sizes)), offset=offset).reshape(sizes)

    def _offset_of(self, part: tuple[slice, ...]) -> int | None:
        """Where a contiguous part begins in the file, in bytes; None if the part is not contiguous."""
        sizes = [s.stop - s.start for s in part]
        first = next((axis for axis, n in enumerate(sizes) if n > 1), len(sizes) - 1)
        if sizes[first + 1 :] != list(self.shape[first + 1 :]):
            return None
        start = sum(s.start * int(np.prod(self.shape[axis + 1 :])) for axis, s in enumerate(part))
        return self.offset + start * self.stored.itemsize


@dataclass(frozen=True)
class Tiled:
    """A tile-compressed FITS image; only the tiles that overlap a part are uncompressed."""

    path: Path
    hdu: int
    shape: tuple[int, ...]
    dtype: np.dtype = field(default=np.dtype(np.float32))

    @cached_property
    def _tiles(self) -> RiceTiles | None:
        return tiles_of(self.path, self.hdu)

    def read(self, part: tuple[slice, ...]) -> np.ndarray:
        values = None if self._tiles is None else self._tiles.read(part)
        if values is not None:
            return values.astype(self.dtype, copy=False)
        with fits.open(self.path, memmap=False) as hdus:
            return np.asarray(hdus[self.hdu].section[part], self.dtype)


@dataclass(frozen=True)
class Rounding:
    """Steps to which the values of a tile-compressed image were rounded, in which exact zeros are lost.

    The method SUBTRACTIVE_DITHER_1 (FITS standard 4.0, section 10.2.1) restores a value at random within half a step of
    what it was, zeros included; SUBTRACTIVE_DITHER_2 and no dithering keep zeros.

    Attributes
    ----------
    steps
        One of each tile, in the image's unit, 0 where nothing was rounded; tiles along (channel, y, x).
    tile
        Size of the tiles along the same axes.
    """

    steps: np.ndarray
    tile: tuple[int, int, int]

    def may_be_zero(self, plane: np.ndarray, channel: int) -> np.ndarray:
        """Mask (ny, nx) of the values of a channel, as restored, that may have been zero."""
        _, height, width = self.tile
        half = SLIGHTLY_MORE * self.steps[channel // self.tile[0]] / 2
        (ny, nx) = plane.shape
        return np.abs(plane) <= half.repeat(height, axis=0)[:ny].repeat(width, axis=1)[:, :nx]

    @property
    def largest(self) -> float:
        """The largest distance from zero of a value that was zero."""
        return SLIGHTLY_MORE * float(self.steps.max()) / 2


@dataclass(frozen=True)
class CasaImage:
    """The pixels of a CASA image (a folder), NaN where its default mask is set."""

    path: Path
    mask: str | None

    @cached_property
    def _arrays(self) -> list[Any]:
        from casa_formats_io import image_to_dask

        return [image_to_dask(self.path), *([image_to_dask(self.path, mask=self.mask)] if self.mask else [])]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._arrays[0].shape

    @property
    def dtype(self) -> np.dtype:
        return self._arrays[0].dtype.newbyteorder("=")

    def read(self, part: tuple[slice, ...]) -> np.ndarray:
        with _reading_casa:
            values, *valid = (array[part].compute(scheduler="synchronous") for array in self._arrays)
        values = np.array(values, self.dtype)
        if valid:
            values[~valid[0]] = np.nan
        return values


@dataclass(frozen=True)
class Hdf5Data:
    """A dataset in an HDF5 file."""

    path: Path
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, part: tuple[slice, ...]) -> np.ndarray:
        import h5py

        with h5py.File(self.path, "r") as file:
            return file[self.dataset][part].astype(self.dtype, copy=False)


class Lazy:
    """An array (channel, y, x) on disk; indexing reads that part as a new array in native byte order.

    Parameters
    ----------
    source
        The image, of three or more axes.
    kept
        Axes of the source that are channel, y and x.
    planes
        The plane to use along every other axis, by axis.
    """

    def __init__(self, source: Source, kept: tuple[int, int, int], planes: dict[int, int]):
        self.source, self.kept, self.planes = source, kept, planes
        self.shape: tuple[int, ...] = tuple(source.shape[axis] for axis in kept)
        self.dtype = np.dtype(source.dtype)

    @property
    def ndim(self) -> int:
        return 3

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Generator[np.ndarray, None, None]:
        return (self[channel] for channel in range(len(self)))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"<{self.shape} {self.dtype} in {type(self.source).__name__}>"

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in [i for i in index if not isinstance(i, np.ndarray)]:
            at = next(n for n, i in enumerate(index) if i is Ellipsis)
            index = (*index[:at], *[slice(None)] * (4 - len(index)), *index[at + 1 :])
        if len(index) > 3:
            raise IndexError(f"too many indices: the cube has 3 axes, but {len(index)} were indexed")
        index = (*index, *[slice(None)] * (3 - len(index)))
        if isinstance(index[0], slice) and abs(index[0].step or 1) > 1:  # what lies between is not read
            planes = [self[(channel, *index[1:])] for channel in range(*index[0].indices(len(self)))]
            return np.stack(planes) if planes else self[(slice(0), *index[1:])]
        bounds, within = zip(*(_bounds(i, n) for i, n in zip(index, self.shape, strict=True)), strict=True)
        return self._read(bounds)[within]

    def fill(self, block: np.ndarray, first: int, sky: tuple[slice, ...]) -> bool:
        """Read channels from ``first`` on into memory that is there already, if the file has them as they are wanted.

        Parameters
        ----------
        block
            C-contiguous, (channels, y, x), of the array's type.
        sky
            Rows and columns, with step 1.

        Returns
        -------
        bool
            False where nothing was read, since the values lie otherwise in the file.
        """
        if not isinstance(self.source, Plain) or list(self.kept) != sorted(self.kept):
            return False
        part = self._part_of((slice(first, first + len(block)), *sky))
        with self._said():
            return self.source.fill(block, part)

    def _part_of(self, bounds: tuple[slice, ...]) -> tuple[slice, ...]:
        """The part of the source that holds a part of the array."""
        part = [slice(self.planes.get(axis, 0), self.planes.get(axis, 0) + 1) for axis in range(len(self.source.shape))]
        for axis, bound in zip(self.kept, bounds, strict=True):
            part[axis] = bound
        return tuple(part)

    def _read(self, bounds: tuple[slice, ...]) -> np.ndarray:
        shape = tuple(bound.stop - bound.start for bound in bounds)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        others = [axis for axis in range(len(self.source.shape)) if axis not in self.kept]
        with self._said():
            values = self.source.read(self._part_of(bounds))
        return values.transpose(*self.kept, *others).reshape(shape)

    @contextmanager
    def _said(self) -> Generator[None, None, None]:
        """Context in which what goes wrong with reading is said with the name of the file."""
        try:
            yield
        except FileNotFoundError as error:
            raise CubeError(f"{self.source.path.name} no longer exists: no file {self.source.path}.") from error
        except Exception as error:  # a file damaged in its middle can fail anywhere inside the libraries
            LOG.warning("%s could not be read", self.source.path, exc_info=True)  # it may as well be a fault of ours
            raise CubeError(
                f"{self.source.path.name} could not be read to its end, it may be damaged: {error}"
            ) from error


class Held:
    """An array from disk held in memory: decoded once, on all cores, for a run that reads it several times.

    Parameters
    ----------
    data
        The array.
    y, x
        Rows and columns to hold; default: all, ``nbytes`` of memory.  What is outside of them is read from disk.

    Attributes
    ----------
    largest
        Of what is held, the largest absolute value; infinite if some are not finite.
    """

    def __init__(self, data: Lazy, y: slice = slice(None), x: slice = slice(None)) -> None:
        self.shape, self.dtype, self.nbytes = data.shape, data.dtype, data.nbytes
        self.part = tuple(slice(*i.indices(n)[:2]) for i, n in zip((y, x), data.shape[1:], strict=True))
        ny, nx = (i.stop - i.start for i in self.part)
        self.array = np.empty((len(data), ny, nx), data.dtype)
        self.rest = None if self.array.shape == data.shape else data
        plane = max(1, self.array.nbytes // len(data))
        depth = max(1, min(HELD_AT_ONCE // plane, -(-len(data) // threads.count())))
        # A CASA image is for one thread only; of a compressed one astropy takes the whole table apart at each reading.
        if isinstance(data.source, CasaImage | Tiled):
            depth = len(data)

        def fill(first: int) -> float:
            block = self.array[first : first + depth]
            if not data.fill(block, first, self.part):
                block[:] = data[first : first + depth, *self.part]
            return largest(block)

        self.largest = max(threads.spread(fill, range(0, len(data), depth)))
        self.array.flags.writeable = False  # parts of it are given away

    def __getitem__(self, index: Any) -> np.ndarray:
        if self.rest is None:
            return self.array[index]
        channel, *sky = index if isinstance(index, tuple) and len(index) == 3 else (None, None, None)
        inside = [_within(i, part) for i, part in zip(sky, self.part, strict=True)]
        if None in inside:
            return self.rest[index]
        return self.array[channel, *inside]

    def __len__(self) -> int:
        return len(self.array)


def largest(values: np.ndarray) -> float:
    """Largest absolute value; infinite if some are not finite."""
    if not values.size:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        found = max(float(values.max()), -float(values.min()))
    return found if np.isfinite(found) else np.inf  # the extremes of what includes NaN are NaN


def _within(index: Any, part: slice) -> slice | None:
    """A slice of an axis as one of a part of it; None if it is not a slice of step 1 that lies in the part."""
    if not isinstance(index, slice) or index.step not in (None, 1) or index.start is None or index.stop is None:
        return None
    inside = part.start <= index.start <= index.stop <= part.stop
    return slice(index.start - part.start, index.stop - part.start) if inside else None


def can_be_unpacked(data: Lazy) -> bool:
    """Whether reading parts of an array again and again would uncompress the same tiles again and again."""
    return isinstance(data.source, Tiled) and data.kept[0] == min(data.kept)  # else each channel needs all tiles


def unpacked(data: Lazy) -> Lazy:
    """A copy of a tile-compressed array in a temporary file, which is removed when the copy is no longer used.

    The copy is written a few channels at a time.

    Raises
    ------
    OSError
        If there is no room for it.
    """
    handle, name = tempfile.mkstemp(prefix="almadet-", suffix=".raw")
    depth = max(1, HELD_AT_ONCE * len(data) // max(data.nbytes, 1))
    try:
        with os.fdopen(handle, "wb") as file:
            for first in range(0, len(data), depth):
                file.write(np.ascontiguousarray(data[first : first + depth]).data)
    except BaseException:
        _remove(Path(name))
        raise
    copy = Lazy(Plain(Path(name), 0, data.dtype, data.shape), (0, 1, 2), {})
    weakref.finalize(copy, _remove, Path(name))
    return copy


def _bounds(index: Index, n: int) -> tuple[slice, Any]:
    """The slice of an axis of length n that holds an index, and the index within that."""
    if isinstance(index, slice):
        chosen = range(n)[index]
        if not chosen:
            return slice(0, 0), slice(0, 0)
        low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1
        return slice(low, high), slice(None, None, index.step)
    if np.ndim(index) == 0 and not isinstance(index, bool | np.bool_):
        at = range(n)[operator.index(index)]
        return slice(at, at + 1), 0
    chosen = np.arange(n)[np.asarray(index)]
    low, high = (int(chosen.min()), int(chosen.max()) + 1) if chosen.size else (0, 0)
    return slice(low, high), chosen - low


@dataclass
class Stored:
    """An image as it lies on disk.

    Attributes
    ----------
    header
        Of the image, as in FITS.
    source
        Its pixels, axes in numpy's order: the reverse of the header's.
    hdus
        All HDUs of the file, for tables that the header refers to.
    beams
        Tables of beams, one a row.
    notes
        What was chosen while reading, one sentence each.
    polarisations
        FITS codes of the planes along the polarisation axis, where they need not be evenly spaced.
    rounding
        Of a compressed image in which zeros are lost, its axes as those of the source.
    """

    header: fits.Header
    source: Source
    hdus: fits.HDUList = field(default_factory=fits.HDUList)
    beams: list[fits.BinTableHDU] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    polarisations: list[int] = field(default_factory=list)
    unpacked: Path | None = None  # a temporary file that the pixels are read from
    rounding: tuple[np.ndarray, tuple[int, ...]] | None = None

    def rounding_of(self, kept: tuple[int, int, int], planes: dict[int, int]) -> Rounding | None:
        """The rounding of the array (channel, y, x), parameters as for :class:`Lazy`; None where there is none."""
        if self.rounding is None:
            return None
        steps, tile = self.rounding
        others = [axis for axis in range(steps.ndim) if axis not in kept]
        steps = steps.transpose(*kept, *others)
        for axis in others:
            steps = steps[:, :, :, planes.get(axis, 0) // tile[axis]]
        channel, y, x = (tile[axis] for axis in kept)
        return Rounding(steps, (channel, y, x))

    def cube(self, kept: tuple[int, int, int], planes: dict[int, int]) -> Lazy:
        """The image's (channel, y, x) array, see :class:`Lazy`; a temporary file goes when the array goes."""
        lazy = Lazy(self.source, kept, planes)
        if self.unpacked is not None:
            weakref.finalize(lazy, _remove, self.unpacked)
            self.unpacked = None  # no longer ours to remove
        return lazy


def split_address(address: str | Path) -> tuple[Path, str | None]:
    """Path and name of the HDU in an address such as ``cube.fits[SCI]``, ``cube.fits[SCI,2]`` or ``cube.fits[1]``."""
    text = str(address)
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", text)
    if match and not Path(text).exists():
        return Path(match[1]), match[2].strip()
    return Path(text), None


def is_casa_image(path: Path) -> bool:
    """Whether a folder is a CASA image, judging by the names of its files."""
    return (path / "table.dat").is_file() and (path / "table.f0_TSM0").is_file()


def image_names(path: Path) -> list[str]:
    """Names by which the images with three or more axes in a FITS file can be opened; none for other files."""
    if path.is_dir() or not _start(path).startswith(b"SIMPLE"):
        return []
    with path.open("rb") as file:
        check_structure(file)
    with path.open("rb") as file, fits.open(file, memmap=False) as hdus:
        return [name for _, name in _images(hdus, 3)]


@contextmanager
def opened(path: Path, hdu: str | None = None, axes: int = 3) -> Generator[Stored, None, None]:
    """The image in a file or folder: the first with at least ``axes`` axes, or the one that ``hdu`` names.

    Raises
    ------
    CubeError
        If there is no such image, or the library to read it is missing; its message continues after the file's name.
    """
    if path.is_dir() and not is_casa_image(path):
        raise CubeError("is a folder, but not a CASA image.")
    start = b"" if path.is_dir() else _start(path)
    if path.is_dir() or start.startswith(HDF5):
        if hdu is not None:
            raise CubeError(f"has no [{hdu}]: it is not a FITS file, and contains only one image.")
        yield _casa(path) if path.is_dir() else _hdf5(path)
        return
    unpack = next((opener for magic, opener in PACKED.items() if start.startswith(magic)), None)
    unpacked = _unpacked(path, unpack) if unpack else None
    stored = None
    try:
        # Opened here, as astropy leaves a file it fails on open.
        with (unpacked or path).open("rb") as file:
            if start.startswith(b"SIMPLE") or unpacked is not None:
                check_structure(file)
        with (unpacked or path).open("rb") as file, fits.open(file, memmap=False) as hdus:
            stored = _fits(unpacked or path, hdus, hdu, axes)
            stored.unpacked = unpacked
            if unpacked is not None:
                stored.notes.append(
                    f"The file is compressed; while it is open, an uncompressed copy is kept in {unpacked.parent}."
                )
            yield stored
    finally:
        if unpacked is not None and (stored is None or stored.unpacked is not None):
            _remove(unpacked)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _unpacked(path: Path, opener: Callable[..., Any]) -> Path:
    """A temporary file with the contents of a compressed one."""
    handle, name = tempfile.mkstemp(prefix="almadet-", suffix=".fits")
    try:
        with os.fdopen(handle, "wb") as target, opener(path, "rb") as packed:
            shutil.copyfileobj(packed, target, 2**20)
    except BaseException as error:
        _remove(Path(name))
        if isinstance(error, EOFError | zlib.error | lzma.LZMAError | gzip.BadGzipFile):
            raise CubeError(
                f"is damaged or truncated and cannot be uncompressed: {error}; download it again."
            ) from error
        if isinstance(error, OSError):
            raise CubeError(f"cannot be uncompressed into {tempfile.gettempdir()}: {error}.") from error
        raise
    return Path(name)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


# --- FITS ---


def _fits(path: Path, hdus: fits.HDUList, wanted: str | None, axes: int) -> Stored:
    notes: list[str] = []
    number = _find_image(hdus, wanted, axes, notes)
    hdu = hdus[number]
    header = hdu.header.copy()  # astropy edits the header of an integer image when its data are read
    start = hdus.fileinfo(number)["datLoc"]
    tiled = isinstance(hdu, fits.CompImageHDU)
    with fits.open(path, memmap=False, disable_image_compression=True) if tiled else nullcontext(hdus) as raw:
        size, needed = path.stat().st_size, start + raw[number].size
        rounding = _rounding(raw[number], hdu.shape) if tiled and size >= needed else None
    if size < needed:
        raise CubeError(f"is truncated: it has {size} of {needed} bytes; download it again.")
    if tiled:
        source: Source = Tiled(path, number, hdu.shape)
    else:
        integer = header["BITPIX"] > 0
        stored = np.dtype(fits.BITPIX2DTYPE[header["BITPIX"]]).newbyteorder(">")
        scale, zero = header.get("BSCALE", 1), header.get("BZERO", 0)
        blank = header.get("BLANK") if integer and isinstance(header.get("BLANK"), int) else None
        if not all(isinstance(v, int | float) and np.isfinite(v) for v in (scale, zero)) or scale == 0:
            raise CubeError(f"has values that cannot be scaled: BSCALE is {scale!r}, BZERO {zero!r}.")
        source = Plain(path, start, stored, hdu.shape, float(scale), float(zero), blank)
    if "BLANK" in header and header["BITPIX"] < 0:
        notes.append("BLANK was ignored: it has no meaning for floating-point values.")
    beams = [h for h in hdus if h.name == "BEAMS" and isinstance(h, fits.BinTableHDU)]
    return Stored(header, source, hdus, beams, notes, rounding=rounding)


def _rounding(table: fits.BinTableHDU, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """The steps of the tiles of a compressed image (shape), in numpy's order of axes, and the size of the tiles.

    None where zeros were kept: see :class:`Rounding`.
    """
    header, rows = table.header, [1] * (len(shape) - 1) + [shape[-1]]  # FITS' default: a tile is a row
    if str(header.get("ZQUANTIZ", "")).strip() != "SUBTRACTIVE_DITHER_1":
        return None
    given = [header.get(f"ZTILE{len(shape) - axis}", rows[axis]) for axis in range(len(shape))]
    if not all(isinstance(size, int) and size > 0 for size in given):
        return None
    tile = tuple(min(size, n) for size, n in zip(given, shape, strict=True))
    tiles = tuple(-(-n // size) for n, size in zip(shape, tile, strict=True))
    values = table.data["ZSCALE"] if "ZSCALE" in table.columns.names else header.get("ZSCALE")
    try:
        steps = np.broadcast_to(np.asarray(values, np.float32), int(np.prod(tiles))).reshape(tiles)
    except (TypeError, ValueError):
        return None
    return np.abs(np.nan_to_num(steps, posinf=0, neginf=0)), tile


def _find_image(hdus: fits.HDUList, wanted: str | None, axes: int, notes: list[str]) -> int:
    """Number of the first HDU with an image of at least ``axes`` axes, or of the one given."""
    found = _images(hdus, axes)
    cubes = [number for number, _ in found]
    names = ", ".join(f"[{name}]" for _, name in found) or "none"
    many = f"{'three' if axes == 3 else 'two'} or more axes"
    if wanted is not None:
        try:
            number = hdus.index_of(_hdu_key(wanted))
        except (KeyError, IndexError):
            raise CubeError(f"has no [{wanted}]; its images of {many}: {names}.") from None
        if number not in cubes:
            raise CubeError(f"has no image of {many} in [{wanted}]; those that are: {names}.")
        return number
    if not cubes:
        flat = axes == 3 and _images(hdus, 2)
        raise CubeError(f"is a single plane: its image has two axes. {ONLY_SHOWN}" if flat else "holds no image.")
    if len(cubes) > 1:
        notes.append(
            f"The file holds {len(cubes)} images of {many}; the first is used ({found[0][1]}). "
            f"To open another, append its name to the file name: {names}."
        )
    return cubes[0]


def _images(hdus: fits.HDUList, axes: int) -> list[tuple[int, str]]:
    """Number and name of each image with at least ``axes`` axes; an image without a name is named by its number."""
    numbers = [i for i, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) >= axes and 0 not in hdu.shape]
    named = [hdus[i].name for i in numbers]
    return [(i, name if name and named.count(name) == 1 else str(i)) for i, name in zip(numbers, named, strict=True)]


def _hdu_key(name: str) -> int | str | tuple[str, int]:
    if name.lstrip("+").isdigit():
        return int(name)
    name, _, version = (part.strip() for part in name.partition(","))
    return (name, int(version)) if version.isdigit() else name


def _count_axes(header: fits.Header, shape: tuple[int, ...]) -> None:
    header["NAXIS"] = len(shape)
    for axis, n in enumerate(reversed(shape), 1):
        header[f"NAXIS{axis}"] = n


# --- CASA ---


def _casa(path: Path) -> Stored:
    try:
        from casa_formats_io import coordsys_to_astropy_wcs, getdesc
    except ModuleNotFoundError as error:
        raise CubeError(
            f'is a CASA image, and {error.name} is needed to read it: pip install "napari-almadet[casa]".'
        ) from error
    about = getdesc(str(path))["_keywords_"]
    coordinates, notes = about["coords"], []
    header = coordsys_to_astropy_wcs(coordinates).to_header()
    _complete_projection(header, coordinates)
    polarisations = _stokes(header, coordinates)
    mask = about.get("Image_defaultmask") or None
    if mask and not (path / mask).is_dir():
        notes.append(f"The image's mask {mask} was ignored: it is not a pixel mask.")
        mask = None
    source = CasaImage(path, mask)
    _count_axes(header, source.shape)
    for axis in range(1, len(source.shape) + 1):  # to_header leaves out what is 0 or 1
        for key, value in (("CRPIX", 0.0), ("CRVAL", 0.0), ("CDELT", 1.0)):
            header.setdefault(f"{key}{axis}", value)
    if about.get("units"):
        header["BUNIT"] = about["units"]
    info = about.get("imageinfo", {})
    if info.get("objectname"):
        header["OBJECT"] = info["objectname"]
    beams = []
    if "restoringbeam" in info:
        for key, value in zip(("BMAJ", "BMIN", "BPA"), _casa_beam(info["restoringbeam"]), strict=True):
            header[key] = value
    elif "perplanebeams" in info:
        table = info["perplanebeams"]
        channels, polarisations = table["nChannels"], table["nStokes"]
        rows = np.array([_casa_beam(table[f"*{i}"]) for i in range(channels * polarisations)])
        columns = [fits.Column(k, "D", "deg", array=rows[:, i]) for i, k in enumerate(("BMAJ", "BMIN", "BPA"))]
        columns.append(fits.Column("CHAN", "J", array=np.tile(np.arange(channels), polarisations)))
        columns.append(fits.Column("POL", "J", array=np.repeat(np.arange(polarisations), channels)))
        beams.append(fits.BinTableHDU.from_columns(columns, name="BEAMS"))
    notes += _tabulated_axis(header, coordinates)
    return Stored(header, source, beams=beams, notes=notes, polarisations=polarisations)


def _stokes(header: fits.Header, coordinates: dict) -> list[int]:
    """FITS' codes of the image's polarisations, which it has as names; casa-formats-io has V,I and Q,I wrong."""
    for name, system in coordinates.items():
        if re.fullmatch(r"stokes\d+", name) and "stokes" in system:
            codes = [STOKES[kind] for kind in map(str, np.atleast_1d(system["stokes"])) if kind in STOKES]
            axis = int(np.atleast_1d(coordinates[f"worldmap{name.removeprefix('stokes')}"])[0]) + 1
            if not codes:
                return []
            header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = 1.0, float(codes[0])
            header[f"CDELT{axis}"] = float(codes[1] - codes[0]) if len(codes) > 1 else 1.0
            header[f"PC{axis}_{axis}"] = 1.0
            return codes
    return []


def _complete_projection(header: fits.Header, coordinates: dict) -> None:
    """The projection's own parameters, which casa-formats-io leaves out; NCP is a SIN with them."""
    for name, system in coordinates.items():
        if re.fullmatch(r"direction\d+", name):
            latitude = int(coordinates[f"worldmap{name.removeprefix('direction')}"][1]) + 1
            for i, value in enumerate(np.atleast_1d(system.get("projection_parameters", [])), 1):
                header[f"PV{latitude}_{i}"] = float(value)


def _casa_beam(beam: dict) -> tuple[float, float, float]:
    from astropy import units as u

    major, minor, angle = (
        u.Quantity(beam[k]["value"], beam[k]["unit"]).to_value("deg") for k in ("major", "minor", "positionangle")
    )
    return major, minor, angle


def _tabulated_axis(header: fits.Header, coordinates: dict) -> list[str]:
    """Give a header the spectral axis of a CASA image that tabulates its frequencies; return notes on inaccuracies.

    casacore tabulates axes that are not linear in frequency, such as that of a VOPT cube, and casa-formats-io 0.3.1
    uses the first step for all channels.  Frequencies equally spaced in wavelength become a wavelength axis.
    """
    frequencies = _tabulated_frequencies(coordinates)
    if frequencies is None or _unevenness(frequencies) <= UNEVEN:
        return []
    axes = [i for i in range(1, header["NAXIS"] + 1) if str(header.get(f"CTYPE{i}", "")).startswith("FREQ")]
    wavelengths = constants.c.value / frequencies
    if _unevenness(wavelengths) > UNEVEN or len(axes) != 1:
        return [
            f"The image's spectral axis is a nonlinear table; approximated as linear, its coordinates are wrong "
            f"by up to "
            f"{_unevenness(frequencies):.2g} channels."
        ]
    step = (wavelengths[-1] - wavelengths[0]) / (len(wavelengths) - 1)
    for key, value in (("CTYPE", "WAVE"), ("CUNIT", "m"), ("CRPIX", 1.0), ("CRVAL", wavelengths[0]), ("CDELT", step)):
        header[f"{key}{axes[0]}"] = value
    return [
        "The image's spectral axis is a table of frequencies that are equally spaced in wavelength; it was read "
        "as a wavelength axis."
    ]


def _tabulated_frequencies(coordinates: dict) -> np.ndarray | None:
    """Frequencies in Hz of each channel of a tabulated spectral axis; None where there is no such axis."""
    for name, system in coordinates.items():
        if re.fullmatch(r"spectral\d+", name) and "tabular" in system:
            values = np.asarray(system["tabular"]["worldvalues"], float)
            if len(values) > 2 and np.isfinite(values).all() and (values > 0).all() and values[1] != values[0]:
                return values
    return None


def _unevenness(values: np.ndarray) -> float:
    """Maximum deviation, in channels, of values (channels,) from the straight line through the first and the last."""
    n = len(values) - 1
    step = (values[-1] - values[0]) / n
    return float(np.abs((values - values[0]) / step - np.arange(n + 1)).max()) if step else float("inf")


# --- HDF5 ---


def _hdf5(path: Path) -> Stored:
    """An image in the IDIA schema, which CARTA's fits2idia writes: data in ``0/DATA``, header cards as attributes."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise CubeError(
            'is an HDF5 image, and h5py is needed to read it: pip install "napari-almadet[hdf5]".'
        ) from error
    with h5py.File(path, "r") as file:
        group = file.get("0")
        if group is None or not isinstance(data := group.get("DATA"), h5py.Dataset):
            raise CubeError("is HDF5, but not an image as CARTA's fits2idia writes it: it has no 0/DATA.")
        if len(data.shape) < 3:
            raise CubeError(f"is a single plane: its image has two axes. {ONLY_SHOWN}")
        header, notes = fits.Header(), []
        for key, value in group.attrs.items():
            if len(key) <= 8 and np.ndim(value) == 0:
                with suppress(ValueError):  # no name of a card, or a number that none holds
                    header[key] = _card_value(key, value)
        steps = [group.attrs.get(key) for key in ("CDELT1", "CDELT2", "CRVAL1", "CRVAL2")]
        if all(isinstance(step, np.integer) for step in steps):
            notes.append(
                "The sky coordinates are whole numbers, the pixels "
                f"{abs(int(steps[0])) * ARCSEC_PER_DEGREE:g} arcsec wide if in degrees: "
                "the program that wrote the file may have truncated the decimals."
            )
        _count_axes(header, data.shape)
        if isinstance(history := group.get("HISTORY"), h5py.Dataset):
            for line in history.asstr()[:]:
                header["HISTORY"] = _printable(line)
        source = Hdf5Data(path, "0/DATA", data.shape, data.dtype.newbyteorder("="))
    return Stored(header, source, notes=notes)


def _printable(text: str) -> str:
    """A text as a card may have it: printable ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _card_value(key: str, value: Any) -> Any:
    """An attribute as the value of a card; early converters wrote every number as text."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        text = _printable(value.strip().strip("'").strip())
        if not re.match(r"CTYPE|CUNIT|BUNIT|OBJECT|DATE|TELESCOP|OBSERVER|RADESYS|SPECSYS", key):
            for kind in (int, float):
                try:
                    return kind(text)
                except ValueError:
                    continue
        return text
    return value.item() if isinstance(value, np.generic) else value
