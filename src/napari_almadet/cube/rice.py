"""Rice-compressed float images, uncompressed in a few passes (FITS standard 4.0, sections 10.2 and 10.4.1).

astropy goes through 50 steps of Python for each tile, which is usually a row of pixels: 15 microseconds, four times as
long as uncompressing it.  Here only that is done tile by tile.  Images that are not of the usual form are left to
astropy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy.io import fits

try:
    from astropy.io.fits.hdu.compressed._compression import decompress_rice_1_c as uncompress
except ImportError:  # it is no public function of astropy: without it, astropy uncompresses the image
    uncompress = None

NUMBERS = {"D": ">f8", "E": ">f4", "K": ">i8", "J": ">i4", "I": ">i2"}  # formats of columns with a number in each row
PLACES = {"P": ">i4", "Q": ">i8"}  # formats of columns that say how much there is and where in the heap
# Values of ZQUANTIZ (FITS standard, section 10.2), as numbers.
DITHERS = {"NO_DITHER": 0, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}
RANDOM = 10_000  # numbers in the sequence of the FITS standard, section 10.2 and appendix I
RESTART = 500  # range of its first numbers, at one of which a tile begins
ZERO = -2147483646  # what SUBTRACTIVE_DITHER_2 writes for an exact zero
AT_ONCE = 2**20  # pixels that are scaled together; chosen for speed


@dataclass(frozen=True, eq=False)
class RiceTiles:
    """An image of Rice-compressed tiles, each of them ``size`` pixels that follow one another in the image.

    Attributes
    ----------
    shape
        Of the image.
    rows
        A row for each tile, as :func:`tiles_of` reads them.
    heap
        Offset in the file of the compressed tiles.
    block, width
        Pixels in a block of Rice's algorithm, and bytes of its numbers.
    blank
        What stands for NaN, where the rows do not say.
    dither
        Which method of subtractive dithering; 0 for none.
    seed
        Of the random numbers.
    """

    path: Path
    shape: tuple[int, ...]
    size: int
    rows: np.ndarray
    heap: int
    block: int
    width: int
    blank: int | None
    dither: int
    seed: int

    def read(self, part: Sequence[slice]) -> np.ndarray | None:
        """A part of the image as float32; None if it does not consist of whole tiles, or they are damaged."""
        if any((s.start, s.stop) != (0, n) for s, n in zip(part[1:], self.shape[1:], strict=True)):
            return None
        plane = math.prod(self.shape[1:])
        first, last = part[0].start * plane, part[0].stop * plane
        if first % self.size or last % self.size:
            return None
        rows = self.rows[first // self.size : last // self.size]
        count, offset = rows["COMPRESSED_DATA"].T.astype(np.int64)
        begin, end = int(offset.min(initial=0)), int((offset + count).max(initial=0))
        heap = np.fromfile(self.path, np.uint8, end - begin, offset=self.heap + begin).tobytes()
        if not (count > 0).all() or offset.min(initial=0) < 0 or len(heap) != end - begin:
            return None  # some are not compressed by this method, or are not there
        made = np.empty((len(rows), self.size), np.float32)
        spans = list(zip((offset - begin).tolist(), (offset + count - begin).tolist(), strict=True))
        depth = max(1, AT_ONCE // self.size)
        for k in range(0, len(rows), depth):
            some = slice(k, k + depth)
            raw = b"".join([uncompress(heap[a:b], self.block, self.width, self.size) for a, b in spans[some]])
            numbers = np.frombuffer(raw, f"i{self.width}")
            made[some] = self._scaled(numbers.reshape(-1, self.size), rows[some], first // self.size + k)
        return made.reshape(part[0].stop - part[0].start, *self.shape[1:])

    def _scaled(self, numbers: np.ndarray, rows: np.ndarray, first: int) -> np.ndarray:
        """Tiles of numbers as they are stored, (tiles, size), as values; ``first`` is the number of the first tile."""
        scale, zero = (rows[name].astype(float)[:, None] for name in ("ZSCALE", "ZZERO"))
        if self.dither:
            tiles = np.arange(first, first + len(rows))
            begin = _starts()[(tiles + self.seed - 1) % RANDOM]
            random = _sequence()[begin[:, None] + np.arange(self.size)]
            values = (numbers - random.astype(float) + 0.5) * scale + zero
            if self.dither == 2:
                values[numbers == ZERO] = 0
        else:
            values = numbers * scale + zero
        if "ZBLANK" in (rows.dtype.names or ()):
            values[numbers == rows["ZBLANK"][:, None]] = np.nan
        elif self.blank is not None:
            values[numbers == self.blank] = np.nan
        return values


def tiles_of(path: Path, number: int) -> RiceTiles | None:
    """The tiles of an image in a file, by the number of its HDU; None if the image is not of the usual form."""
    if uncompress is None:
        return None
    with fits.open(path, memmap=False, disable_image_compression=True) as hdus:
        table = hdus[number]
        header, start = table.header, table.fileinfo()["datLoc"]
        try:
            kinds = {column.name: column.format.removeprefix("1") for column in table.columns}
            return _tiles(path, header, kinds, start)
        except (AttributeError, KeyError, TypeError, ValueError):  # cards that are missing or of another type
            return None


def _tiles(path: Path, header: fits.Header, kinds: dict[str, str], start: int) -> RiceTiles | None:
    """The tiles that a header describes, with the formats of the table's columns; ``start`` is that of its rows."""
    if header["ZCMPTYPE"] not in ("RICE_1", "RICE_ONE") or header["ZBITPIX"] != -32:
        return None
    row = np.dtype([(name, NUMBERS[k]) if k in NUMBERS else (name, PLACES[k[0]], (2,)) for name, k in kinds.items()])
    axes = range(header["ZNAXIS"], 0, -1)
    shape = tuple(header[f"ZNAXIS{axis}"] for axis in axes)
    tile = tuple(header.get(f"ZTILE{axis}", shape[-1] if axis == 1 else 1) for axis in axes)
    size, count, length = math.prod(tile), header["NAXIS2"], header["NAXIS1"]
    dither = DITHERS[header.get("ZQUANTIZ", "NO_DITHER")]
    settings = {header[f"ZNAME{i}"].upper(): header[f"ZVAL{i}"] for i in range(1, 10) if f"ZNAME{i}" in header}
    block, width = settings.get("BLOCKSIZE", 32), settings.get("BYTEPIX", 4)
    usual = (
        kinds["COMPRESSED_DATA"].startswith(("PB", "QB"))
        and {"ZSCALE", "ZZERO"} <= kinds.keys()
        and row.itemsize == length
        and in_one_run(shape, tile)
        and count * size == math.prod(shape)
        and not (dither and size > RANDOM - RESTART)
        and (block, width) in ((16, 2), (32, 2), (16, 4), (32, 4))
    )
    rows = np.fromfile(path, row, count, offset=start) if usual else np.empty(0, row)
    if not usual or len(rows) != count:
        return None
    heap, blank = start + header.get("THEAP", length * count), header.get("ZBLANK", header.get("BLANK"))
    return RiceTiles(path, shape, size, rows, heap, block, width, blank, dither, header.get("ZDITHER0", 0))


def in_one_run(shape: tuple[int, ...], tile: tuple[int, ...]) -> bool:
    """Whether the pixels of each tile follow one another in the image, as those of rows and of planes do."""
    whole = [t == n for n, t in zip(shape, tile, strict=True)]
    axis = next((i for i in range(len(shape)) if all(whole[i + 1 :])), 0)
    return min(tile) > 0 and shape[axis] % tile[axis] == 0 and all(t == 1 for t in tile[:axis])


@lru_cache(maxsize=1)
def _sequence() -> np.ndarray:
    """The random numbers of the FITS standard, appendix I, in single precision as cfitsio has them."""
    made, seed = np.empty(RANDOM, np.float32), 1
    for i in range(RANDOM):
        seed = 16807 * seed % 2147483647
        made[i] = seed / 2147483647
    return made


@lru_cache(maxsize=1)
def _starts() -> np.ndarray:
    """Where in the sequence the tiles begin that begin with each number."""
    return (_sequence() * np.float32(RESTART)).astype(np.intp)
