"""A look at the structure of a FITS file before a library builds it: absurd numbers in it are refused.

Numbers of axes, columns or tiles that no file has make readers ask for all memory, or loop for ever.
"""

from __future__ import annotations

import math
from typing import BinaryIO

from astropy.io import fits

from napari_almadet.cube.errors import MOST_AXES, CubeError

BLOCK = 2880  # bytes, FITS standard 4.0, section 3.1
MOST_HDUS = 1000  # that are looked at; a file of more is nobody's cube
MOST_COLUMNS = 999  # FITS standard 4.0, section 7.3.1
MOST_BYTES = 2**60  # of one image; the largest arrays of disks are a thousandth of that
MOST_TILE = 2**31  # values in a tile, which is unpacked as a whole
PACKINGS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")


def check_structure(file: BinaryIO) -> None:
    """Refuse a FITS file of absurd numbers; what cannot be parsed is left to the library that reads it.

    Raises
    ------
    CubeError
        Whose message goes on from the file's name.
    """
    for _ in range(MOST_HDUS):
        try:
            header = fits.Header.fromfile(file)
            size = _size(header)
            _check_table(header)
        except CubeError:
            raise
        except Exception:  # the end of the file, no header, or one that is damaged
            return
        file.seek(file.tell() + -(-size // BLOCK) * BLOCK)


def _size(header: fits.Header) -> int:
    """Bytes of the data."""
    axes = _whole(header, "NAXIS", 0, MOST_AXES)
    sides = [_whole(header, f"NAXIS{i}", 0, MOST_BYTES) for i in range(1, axes + 1)]
    if header.get("GROUPS") is True and sides and sides[0] == 0:  # random groups
        sides = sides[1:]
    groups, extra = (_whole(header, key, 0, MOST_BYTES, default) for key, default in (("GCOUNT", 1), ("PCOUNT", 0)))
    values = math.prod(sides) if sides else 0
    size = abs(_whole(header, "BITPIX", -64, 64)) // 8 * groups * (extra + values)
    if size > MOST_BYTES:
        raise CubeError(f"claims to contain {' x '.join(map(str, sides))} values, more than any disk can hold.")
    return size


def _check_table(header: fits.Header) -> None:
    """The columns of a table, and the tiles of an image that is packed in one."""
    if str(header.get("XTENSION", "")).strip() not in ("BINTABLE", "TABLE"):
        return
    _whole(header, "TFIELDS", 0, MOST_COLUMNS)
    if header.get("ZIMAGE") is not True:
        return
    axes = _whole(header, "ZNAXIS", 1, MOST_AXES)
    sides = [_whole(header, f"ZNAXIS{i}", 1, MOST_BYTES) for i in range(1, axes + 1)]
    tile = [_whole(header, f"ZTILE{i}", 1, MOST_BYTES, sides[0] if i == 1 else 1) for i in range(1, axes + 1)]
    tiles = math.prod(-(-side // step) for side, step in zip(sides, tile, strict=True))
    if tiles != header["NAXIS2"] or math.prod(map(min, sides, tile)) > MOST_TILE:
        raise CubeError(f"is damaged: {header['NAXIS2']} tiles do not make up {' x '.join(map(str, sides))} values.")
    if str(header.get("ZCMPTYPE", "")).strip() not in PACKINGS:
        raise CubeError(f"is compressed by a method that FITS does not define: ZCMPTYPE is {header.get('ZCMPTYPE')!r}.")
    for i in range(1, 100):
        if f"ZNAME{i}" not in header:
            break
        if (name := str(header[f"ZNAME{i}"]).strip()) in ("BLOCKSIZE", "BYTEPIX"):
            _whole(header, f"ZVAL{i}", 1, 8 if name == "BYTEPIX" else 4096)


def _whole(header: fits.Header, key: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number of a header.

    Raises
    ------
    CubeError
        If it is none, or beyond its limits.
    """
    value = header.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        shown = f"{value!r}"[:40]
        raise CubeError(f"cannot be read: {key} is {shown}, and must be a whole number from {least} to {most:.4g}.")
    return value
