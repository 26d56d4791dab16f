"""Passes over planes (channels, ny, nx) for which numpy's and scipy's general functions take several times as long.

What is where a mask is true is multiplied rather than chosen, since a processor guesses at choices; counts are added
up in bytes; medians of few values come from sorting, which processors do in parallel within a row.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from napari_almadet.constants import MAD_TO_SIGMA

BAND_SIDE = 256  # pixels along a side, up to which a product with a matrix is faster than a filter's sliding sum
TRUNCATE = 3.0  # sigma, at which Gaussians are cut off
BLOCK = 2**16  # values that are worked on together, so that they stay in the processor's cache; chosen for speed
MANY = 2**15  # values from which their median is sought among those near it only; chosen for speed
SAMPLE = 1000  # values that tell where the median of many is; chosen for speed


def counted(mask: np.ndarray) -> np.ndarray:
    """How often a mask is true along its first axis, as integers."""
    total = np.zeros(mask.shape[1:], np.intp)
    for first in range(0, len(mask), 255):  # so many fit into a byte
        total += np.add.reduce(mask[first : first + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return total


def median_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Median along the first axis of the values where a mask is true; 0 where it is nowhere."""
    rows = np.moveaxis(values, 0, -1)
    if mask.all():
        rows = np.sort(rows, axis=-1)
        n = rows.shape[-1]
        return np.asarray((rows[..., (n - 1) // 2] + rows[..., n // 2]) / 2)
    n = counted(mask)
    rows = np.sort(np.where(np.moveaxis(mask, 0, -1), rows, np.inf), axis=-1)
    middle = [np.take_along_axis(rows, i[..., None], -1)[..., 0] for i in (np.maximum(n - 1, 0) // 2, n // 2)]
    return np.where(n > 0, (middle[0] + middle[1]) / 2, 0)


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest part of an array in which a mask is true; empty along all axes where it is nowhere."""
    part = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        part.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0))
    return tuple(part)


def medians(rows: np.ndarray) -> np.ndarray:
    """Median along the last axis of rows without NaN, as np.median has it."""
    n = rows.shape[-1]
    if rows.ndim == 1 and n > MANY:
        lower, upper = middle_two(rows)
        return np.asarray((lower + upper) / 2)
    partitioned = np.partition(rows, n // 2, axis=-1)
    high = partitioned[..., n // 2]
    return np.asarray(high if n % 2 else (partitioned[..., : n // 2].max(axis=-1) + high) / 2)


def middle_two(values: np.ndarray) -> tuple[np.floating, np.floating]:
    """The two values (n,) in the middle, which are the same one if n is odd."""
    return ranked(values, (len(values) - 1) // 2, len(values) // 2)


def percentile(values: np.ndarray, which: float) -> float:
    """As np.percentile of values (n,) without NaN, which takes longer."""
    at = which / 100 * (len(values) - 1)
    low, high = ranked(values, int(at), min(int(at) + 1, len(values) - 1))
    return float(low + (high - low) * (at - int(at)))


def ranked(values: np.ndarray, first: int, last: int) -> tuple[np.floating, np.floating]:
    """Values (n,) at two equal or successive ranks; of long arrays, only the values near them are sorted.

    The tenth of a sample about the rank holds them but for unusual data, of which all are sorted.
    """
    if len(values) > MANY:
        sample = np.sort(values[:: len(values) // SAMPLE])
        share = first / len(values)  # known to 3 sigma = 3 sqrt(1/4 / 1000)
        low, high = (sample[int(np.clip((share + side) * len(sample), 0, len(sample) - 1))] for side in (-0.05, 0.05))
        near = values[(values >= low) & (values <= high)]
        before = int(np.count_nonzero(values < low))
        if before <= first and last < before + len(near):
            values, first, last = near, first - before, last - before
    ordered = np.partition(values, last)
    return (ordered[last] if first == last else ordered[:last].max()), ordered[last]


def robust_std(rows: np.ndarray) -> np.ndarray:
    """Standard deviation along the last axis by the median absolute deviation; NaN where there is nothing finite.

    What is not finite is passed over.
    """
    made = np.full(rows.shape[:-1], np.nan)
    whole = np.isfinite(rows.sum(axis=-1))
    for place in np.argwhere(~whole):
        row = rows[tuple(place)]
        row = row[np.isfinite(row)]
        if row.size:
            made[tuple(place)] = MAD_TO_SIGMA * medians(np.abs(row - medians(row)))
    if whole.any():
        part = rows if whole.all() else rows[whole]
        made[whole] = MAD_TO_SIGMA * medians(np.abs(part - medians(part)[..., None]))
    return made


@lru_cache(maxsize=32)
def _band(n: int, sigma: float, dtype: str) -> np.ndarray:
    """The matrix (n, n) of a Gaussian filter with zeros beyond the ends."""
    matrix = ndimage.gaussian_filter1d(np.eye(n), sigma, axis=0, mode="constant", truncate=TRUNCATE).astype(dtype)
    matrix.flags.writeable = False
    return matrix


def blurred(planes: np.ndarray, sigma: float, overwrite: bool = False) -> np.ndarray:
    """Planes after a Gaussian of ``sigma`` pixels, with zeros beyond the border.

    With ``overwrite`` the result may be in the memory of ``planes``.
    """
    ny, nx = planes.shape[1:]
    if max(ny, nx) > BAND_SIDE:
        return np.asarray(ndimage.gaussian_filter(planes, (0, sigma, sigma), mode="constant", truncate=TRUNCATE))
    kind, made = planes.dtype.str, planes if overwrite else np.empty_like(planes)
    depth = max(1, BLOCK // max(ny * nx, 1))
    for part in (slice(k, k + depth) for k in range(0, len(planes), depth)):
        rows = (planes[part].reshape(-1, nx) @ _band(nx, sigma, kind)).reshape(-1, ny, nx)
        np.matmul(_band(ny, sigma, kind), rows, out=made[part])
    return made


def channel_sums(planes: np.ndarray, channels: int) -> np.ndarray:
    """Sum over each channel and its neighbours, so many in all, with zeros beyond the ends; the planes if one."""
    if channels == 1:
        return planes
    total = np.empty_like(planes)
    widen_sums(total, planes, 0, channels)
    return total


def widen_sums(total: np.ndarray, planes: np.ndarray, before: int, channels: int) -> None:
    """Make of sums over ``before`` channels those over ``channels``, see :func:`channel_sums`.

    ``before`` is an odd number, or 0 where ``total`` holds nothing yet.
    """
    n, depth = len(planes), max(1, BLOCK // max(planes[0].size, 1))
    for first in range(0, n, depth):
        last = min(first + depth, n)
        if not before:
            total[first:last] = planes[first:last]
        for step in range(before // 2 + 1, channels // 2 + 1):
            total[max(first, step) : last] += planes[max(first, step) - step : max(last - step, 0)]
            if step <= (channels - 1) // 2:
                total[first : max(min(last, n - step), first)] += planes[first + step : last + step]


def in_blocks(n: int, size: int = BLOCK) -> list[slice]:
    """Parts of n values or planes that are looked at together, ``size`` in each."""
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def some_negatives(values: np.ndarray, known: np.ndarray | None, most: int) -> tuple[np.ndarray, int]:
    """Every k-th of the known values (n,) below 0, with k such that there are about ``most``; and how many there are.

    ``known`` is None where all are.
    """

    def below(part: slice) -> np.ndarray:
        return values[part] < 0 if known is None else (values[part] < 0) & known[part]

    blocks = in_blocks(len(values))
    count = sum(int(np.count_nonzero(below(part))) for part in blocks)
    step, passed, picked = max(1, count // most), 0, []
    for part in blocks:
        found = np.flatnonzero(below(part))
        picked.append(values[part][found[-passed % step :: step]])
        passed += len(found)
    return np.concatenate(picked), count
