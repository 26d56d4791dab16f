"""Bad channels: blank, constant, offset, noisy or striped ones, as interference and band edges leave them.

They are recognised by their noise, never by bright emission: a line, its sidelobes or emission that fills the field do
not make a channel bad.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from napari_almadet import threads
from napari_almadet.constants import NORMAL_MAD
from napari_almadet.progress import Progress, in_steps

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_almadet.cube.cube import Cube


WINDOW = 256  # px, side of the central part of the field in which channels are compared
SAMPLE = 8192  # pixels of it that are used for the percentiles of a channel
LEAST_CHANNELS = 8  # with fewer, the typical noise cannot be estimated, and only blank channels are flagged
NOISY = 3.0  # times the typical noise: a channel is noisy
FLAT = 0.01  # times the typical noise, at most: a channel is constant
SHIFTED = 4.0  # times the typical noise, by which a whole channel is brighter or fainter than both its neighbours
STRIPED = 300.0  # power of one spatial frequency over that of its neighbours; noise and speckle reach 50
ALIKE = 0.6  # correlation coefficient of two similar channels; a source as bright as the noise gives 0.5
WING = 0.04  # fraction of an offset seen in the next channel: a line that is one channel wide (FWHM) gives 0.06 or more
LEAST_WING = 5.0  # times the typical spread of the offsets, for the offset of the next channel to be significant
LOPSIDED = 2.0  # ratio of highest to lowest value, or lowest to highest, above which a source makes a channel noisy
LONGEST = 8  # minimum number of waves across the field: longer waves are as large as sources
BLOCK = 16  # channels read at a time
ROUNDING = 0.99  # factor by which single precision may underestimate the amplitude of a wave
MOST = 1 / 3  # of the channels; if more look bad, it is a property of the cube, and only blank ones are flagged
BRIGHTER = "brighter as a whole"  # no fault: a line that fills the field may be as narrow as a channel


@in_steps
def bad_channels(cube: Cube) -> Generator[Progress, None, dict[str, list[int]]]:
    """Find the bad channels.

    A channel is bad if it is

    * blank: all values are zero or not finite;
    * constant: its noise is less than a hundredth of the typical noise;
    * shifted: as a whole fainter than both its neighbours, by more than four times the noise;
    * noisy: its noise is more than three times that of the channels around it;
    * striped: one spatial frequency has hundreds of times the power of its neighbours.

    The noise is the distance from the median to the 16th or the 84th percentile, whichever is smaller, after the median
    over channels has been subtracted.  A channel with a source that stands out is neither noisy nor striped, since
    sidelobes can look like both.  The same holds for a channel that is bright (or dark) nearly everywhere, or similar
    to channels nearby, as with a cloud larger than the field.  If the next channel is offset in the same direction, the
    offset is a line.  A channel that is brighter as a whole than both its neighbours is not a bad one: an offset looks
    like that, but so does a line that fills the field in a single channel.

    Returns
    -------
    dict
        Channel numbers (list of int) by kind of fault; only kinds that occur.  Under :data:`BRIGHTER` those that are
        brighter as a whole, which are not to be flagged.
    """
    n_channels, *field = cube.shape
    y, x = (slice((n - min(n, WINDOW)) // 2, (n + min(n, WINDOW)) // 2) for n in field)
    chosen = np.unique(np.linspace(0, n_channels - 1, min(n_channels, 48)).round().astype(int))
    planes = np.stack([cube.read(k, y, x) for k in chosen])
    if not (np.isfinite(planes) & (planes != 0)).any():  # a hole in the middle
        y, x = (slice(None, None, -(-n // WINDOW)) for n in field)
        planes = np.stack([cube.read(k, y, x) for k in chosen])
    steady = medians(planes)
    del planes

    percentiles, spread = np.full((3, n_channels), np.nan), np.full(n_channels, np.nan)
    waves, contrast, likeness = np.zeros(n_channels), np.zeros((2, n_channels)), Likeness(n_channels)
    blank = np.zeros(n_channels, dtype=bool)
    taper = taper_of(steady.shape).astype(np.float32)

    def look(channels: slice) -> list[tuple[int, np.ndarray, np.ndarray | None]]:
        """Fill in the statistics of some channels; return their planes less the median over channels.

        And as unit vectors.
        """
        seen = []
        block = cube.read(channels, y, x, writable=False)
        for k, plane in zip(range(channels.start, channels.stop), block, strict=True):
            values, all_values = known_values(plane, steady)
            if values.size == 0:
                whole = cube.read(k)
                blank[k] = not (np.isfinite(whole) & (whole != 0)).any()
                continue
            thin = max(1, values.size // SAMPLE)
            percentiles[:, k] = percentiles_of(values[::thin], (15.87, 50, 84.13))
            some = thin if all_values.size < SAMPLE else 8 * thin  # that there is any spread is seen by a thousand
            low, high = percentiles_of(all_values[::some], (15.87, 84.13))
            spread[k] = (high - low) / 2
            plane = plane - steady
            waves[k] = strongest_wave(plane if np.isfinite(plane.sum()) else np.nan_to_num(plane), taper)
            seen.append((k, plane, unit_vector(plane)))
        return seen

    cube.blank  # noqa: B018 (found out once, before the threads ask)
    depth = BLOCK if y.step is None else 1  # of planes that are read whole, one at a time
    blocks = [slice(k, min(k + depth, n_channels)) for k in range(0, n_channels, depth)]
    for first in range(0, len(blocks), threads.count()):
        yield Progress("Flagging bad channels", blocks[first].start, n_channels)
        for seen in threads.spread(look, blocks[first : first + threads.count()]):
            for plane in seen:
                likeness.add(*plane)
    yield Progress("Flagging bad channels", n_channels, n_channels)

    found = {"blank": blank}
    if (~np.isnan(percentiles[0])).sum() >= LEAST_CHANNELS:
        noise = np.minimum(percentiles[1] - percentiles[0], percentiles[2] - percentiles[1])
        for k in np.flatnonzero(waves > ROUNDING * running_median(noise)):  # the others cannot be striped
            contrast[:, k] = stripes(np.nan_to_num(cube.read(k, y, x) - steady))
        found |= {kind: mask & ~blank for kind, mask in faults(percentiles, spread, contrast, likeness.mask()).items()}
        for kind in found.keys() & {"noisy", "striped"}:
            for channel in np.flatnonzero(found[kind]):
                found[kind][channel] = not has_source(cube.read(channel), float(percentiles[1, channel]))
        if sum(mask.sum() for kind, mask in found.items() if kind not in ("blank", BRIGHTER)) > MOST * n_channels:
            found = {"blank": blank}
    return {kind: np.flatnonzero(mask).tolist() for kind, mask in found.items() if mask.any()}


def medians(planes: np.ndarray) -> np.ndarray:
    """Median over planes (n, y, x), as np.nanmedian has it in many times the time; 0 where all are NaN: float32."""
    flat = planes.reshape(len(planes), -1)
    made = np.zeros(flat.shape[1], np.float32)

    def fill(part: slice) -> None:
        rows = np.sort(np.ascontiguousarray(flat[:, part].T), axis=1)  # NaN comes last
        n = (~np.isnan(rows)).sum(axis=1)
        row = np.arange(len(rows))
        middle = (rows[row, np.maximum(n - 1, 0) // 2] + rows[row, np.minimum(n // 2, len(planes) - 1)]) / 2
        made[part] = np.where(n > 0, middle, 0)

    threads.spread(fill, [slice(i, i + 8192) for i in range(0, len(made), 8192)])
    return made.reshape(planes.shape[1:])


def known_values(plane: np.ndarray, steady: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite nonzero values (n,) of a plane less the median over channels, and all its finite values."""
    if np.isfinite(plane.sum()) and plane.all():
        return (plane - steady).ravel(), plane.ravel()
    finite = np.isfinite(plane)
    return (plane - steady)[finite & (plane != 0)], plane[finite]


def percentiles_of(values: np.ndarray, which: tuple[float, ...]) -> np.ndarray:
    """As np.percentile of values (n,) without NaN, which takes longer."""
    low, high, part, needed = places_of(len(values), which)
    values = np.partition(values, needed)
    return values[low] * (1 - part) + values[high] * part


@lru_cache(maxsize=64)
def places_of(count: int, which: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the sorted values, of ``count``, around percentiles: lower, upper, fraction between; and all."""
    at = np.array(which) / 100 * (count - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, count - 1)
    return low, high, at - low, np.union1d(low, high)


def unit_vector(plane: np.ndarray) -> np.ndarray | None:
    """A plane as a vector without its mean, of length 1; None where it lacks data, or is constant."""
    if not np.isfinite(plane.sum()):
        return None
    vector = plane.ravel() - plane.mean(dtype=float).astype(np.float32)
    norm = float(np.sqrt(np.dot(vector, vector)))
    return vector / np.float32(norm) if 0 < norm < np.inf else None


class Likeness:
    """Which channels resemble their neighbours over four channels or more: those with a line do, noisy ones do not.

    Four, because Hanning smoothing spreads the noise of one channel over three.
    """

    def __init__(self, n_channels: int):
        self.alike = np.zeros((4, n_channels + 6), bool)  # with the channel so many before; a margin of three
        self._before: list[tuple[int, np.ndarray, np.ndarray | None]] = []

    def add(self, channel: int, plane: np.ndarray, unit: np.ndarray | None = None) -> None:
        """Take the next plane (y, x), NaN where it has no data, and what :func:`unit_vector` makes of it."""
        for number, other, its_unit in self._before:
            if channel - number in (1, 3):
                if unit is not None and its_unit is not None:
                    alike = float(np.dot(unit, its_unit))
                else:
                    alike = correlation(plane, other)
                self.alike[channel - number, channel + 3] = alike > ALIKE
        self._before = [*self._before[-2:], (channel, plane, unit)]

    def mask(self) -> np.ndarray:
        """Channels (channels,) that lie between two alike that are three apart, and are like a neighbour."""
        at = np.arange(self.alike.shape[1] - 6) + 3
        between = np.any([self.alike[3, at + later] for later in range(4)], axis=0)
        return between & (self.alike[1, at] | self.alike[1, at + 1])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's coefficient of two planes where both have data; 0 where they are constant."""
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3:
        return 0.0
    a, b = a[known] - a[known].mean(dtype=float), b[known] - b[known].mean(dtype=float)
    norm = float(np.sqrt((a * a).sum(dtype=float) * (b * b).sum(dtype=float)))
    return float((a * b).sum(dtype=float) / norm) if norm > 0 else 0.0


def faults(
    percentiles: np.ndarray, spread: np.ndarray, contrast: np.ndarray, alike: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Masks (channels,) of what looks bad.

    Parameters
    ----------
    percentiles
        16th, 50th and 84th percentile of each channel less the median over channels, (3, channels); NaN without data.
    spread
        Half the distance of the 16th and the 84th of each channel as it is, (channels,).
    contrast
        From :func:`stripes`, (2, channels).
    alike
        From :meth:`Likeness.mask`, (channels,); default: no channel is like another.
    """
    alike = np.zeros(len(spread), bool) if alike is None else alike
    low, middle, high = percentiles
    noise = np.minimum(middle - low, high - middle)  # emission widens one side
    around = running_median(noise)
    usual = np.nanmedian(noise)
    if not usual > 0:  # published without its noise
        return {}
    with np.errstate(invalid="ignore"):
        level = running_median(middle)
        shift = middle - level
        emission = alike | (low > level + around) | (high < level - around)
        edged = np.pad(shift, 1)
        beside = np.fmax(edged[:-2] * np.sign(shift), edged[2:] * np.sign(shift))  # in the same direction
        usual_shift = np.nanmedian(np.abs(shift)) / NORMAL_MAD
        line = beside > np.maximum(WING * np.abs(shift), LEAST_WING * usual_shift)
        narrow = np.maximum(middle - low, high - middle) < 1.5 * around  # all of it is shifted, not some
        alone = (np.abs(shift) > SHIFTED * around) & narrow & ~line & ~(beside > 0.3 * np.abs(shift))
        return {
            "constant": spread < FLAT * usual,
            "shifted": alone & (shift < 0),
            BRIGHTER: alone & (shift > 0),
            "noisy": (noise > NOISY * around) & ~emission,
            "striped": (contrast[0] > STRIPED) & (contrast[1] > around) & ~(noise > NOISY * around) & ~emission,
        }


def running_median(values: np.ndarray) -> np.ndarray:
    """Median of a quarter of the band about each channel, channels without a value passed over."""
    known = np.flatnonzero(~np.isnan(values))
    width = max(LEAST_CHANNELS, len(known) // 4) | 1
    smooth = ndimage.median_filter(values[known], size=width, mode="mirror")
    return np.interp(np.arange(len(values)), known, smooth)


def stripes(plane: np.ndarray) -> tuple[float, float]:
    """The spatial frequency that stands out most: its power over that of its neighbours, and the amplitude of its wave.

    Stripes at any angle are one frequency; the power of a source, of its sidelobes and of
    noise changes little from one frequency to the next.
    """
    ny, nx = plane.shape
    if min(ny, nx) < 32:
        return 0.0, 0.0
    taper = taper_of(plane.shape)
    power = np.fft.fftshift(np.abs(np.fft.rfft2(plane * taper)) ** 2, axes=0)
    v, u = np.fft.fftshift(np.fft.fftfreq(ny, 1 / ny))[:, None], np.arange(power.shape[1])
    candidates = np.argwhere(np.where(np.hypot(v, u) < LONGEST, 0, power) > 100 * np.median(power))
    best = 0.0, 0.0
    for row, column in candidates[np.argsort(-power[tuple(candidates.T)])][:20]:
        around = power[max(0, row - 5) : row + 6, max(0, column - 5) : column + 6]
        if (contrast := float(power[row, column] / np.median(around))) > best[0]:
            best = contrast, float(2 * np.sqrt(power[row, column]) / taper.sum())
    return best


def taper_of(shape: tuple[int, int]) -> np.ndarray:
    """Hann's window over a plane (y, x)."""
    return np.hanning(shape[0])[:, None] * np.hanning(shape[1])


def strongest_wave(plane: np.ndarray, taper: np.ndarray) -> float:
    """Amplitude of the strongest wave in a plane that :func:`stripes` might find, in single precision."""
    ny, nx = plane.shape
    if min(ny, nx) < 32:
        return 0.0
    seen = fft.rfft2(plane * taper.astype(np.float32, copy=False))
    power = seen.real**2 + seen.imag**2
    power[long_waves(ny, nx)] = 0
    return float(2 * np.sqrt(power.max()) / taper.sum())


@lru_cache(maxsize=4)
def long_waves(ny: int, nx: int) -> np.ndarray:
    """Which frequencies of a real plane's transform are those of fewer waves than :data:`LONGEST`."""
    v, u = np.fft.fftfreq(ny, 1 / ny)[:, None], np.arange(nx // 2 + 1)
    return np.asarray(np.hypot(v, u) < LONGEST)


def has_source(plane: np.ndarray, middle: float) -> bool:
    """Whether a plane has outliers on one side only, as emission or absorption gives."""
    low, high = middle - np.nanmin(plane), np.nanmax(plane) - middle
    return bool(max(low, high) > LOPSIDED * min(low, high))


def summary(bad: dict[str, list[int]]) -> str:
    """The bad channels in a sentence."""
    parts = [f"{ranges(channels)} {kind}" for kind, channels in bad.items()]
    n = len({k for channels in bad.values() for k in channels})
    return f"{n} bad channel{'s' if n > 1 else ''} (flagged): {'; '.join(parts)}."


def summary_of_brighter(channels: list[int]) -> str:
    """What to say of channels that are brighter as a whole than their neighbours."""
    of = "Channel" if len(channels) == 1 else "Channels"
    are = "is" if len(channels) == 1 else "are"
    return (
        f"{of} {ranges(channels)} {are} brighter over the whole field than the channels beside: a narrow line that "
        "fills the field, or an offset (not flagged)."
    )


def ranges(numbers: list[int]) -> str:
    """Numbers in ascending order as text, runs of them as ``first-last``."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs(numbers))


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of every run of successive numbers, in ascending order."""
    numbers = sorted(numbers)
    breaks = [i + 1 for i, (a, b) in enumerate(pairwise(numbers)) if b != a + 1]
    return [(numbers[a], numbers[b - 1]) for a, b in pairwise([0, *breaks, len(numbers)]) if b > a]
