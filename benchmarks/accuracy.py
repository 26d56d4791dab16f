"""How true the catalogue's numbers are, and whether their errors hold, in cubes with known sources of many kinds.

    python benchmarks/accuracy.py                  # all kinds, four cubes of nine sources each
    python benchmarks/accuracy.py --kinds pairs hanning --cubes 8 --seed 5
    python benchmarks/accuracy.py --each --cubes 5 --table   # so many cubes for every range of S/N; the page's tables

For each kind and range of S/N (of the line, matched to its own profile) it prints how many sources were found, and of
each quantity the median of the pull (value - truth) / error, which should be 0, its spread by the median absolute
deviation, which should be 1, the median bias in percent, and the number of sources.  The median of n pulls is known to
1.25 / sqrt(n), their spread to 1.17 / sqrt(n): ten sources say little.  It also prints the share of unresolved sources
over S/N 30 that are given a size, and the bias of the fainter sources of pairs.

The cubes are analytic: Gaussians seen through a Gaussian beam, times line profiles, in Gaussian noise of the beam's
correlation.  Those of the kind "dirty" are seen by a random array instead, and not CLEANed.  Nothing of
`napari_almadet.simulation` is used, so that an error common to both cannot hide.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from astropy import units as u
from astropy.wcs import WCS
from radio_beam import Beam
from scipy.optimize import curve_fit
from scipy.special import erf

from napari_almadet import Cube, Settings, detect
from napari_almadet.detection import load_networks

K2 = 4 * np.log(2)
RMS = 1e-3  # Jy/beam, of a channel
PIXEL = 0.1  # arcsec
CHANNEL = 10.0  # km/s
REST = 230.538e9  # Hz
RANGES = ((8.0, 15.0), (15.0, 30.0), (30.0, 60.0), (60.0, 120.0))  # of S/N, of which --each makes cubes of their own
BINS = ((0, 8), (8, 15), (15, 30), (30, 60), (60, 1000), (8, 1000))  # the last are all that the errors should hold for
MATCH = 0.8  # beams, within which a candidate is a source
QUANTITIES = ("f_sum", "w50", "z", "x", "y", "f_cont")


@dataclass(frozen=True)
class Kind:
    """A kind of cubes; lengths in pixels, widths in channels, sizes of sources in beams."""

    side: int = 200
    channels: int = 96
    beam: tuple[float, float, float] = (5.5, 4.2, 30.0)  # FWHM of both axes, angle in degrees
    sources: int = 9
    snr: tuple[float, float] = (6, 100)
    beside: tuple[float, float] | None = None  # S/N of the second source of a pair; None: as that of the first
    width: tuple[float, float] = (3, 20)
    resolved: float = 0.5  # share of the sources
    sizes: tuple[float, float] = (0.5, 2.0)
    profile: str = "gaussian"
    pair: tuple[float, float] | None = None  # beams to a second source beside each
    continuum: float = 0.0  # share of the sources with some
    kernel: tuple[float, ...] = (1.0,)  # that the channels' noise was smoothed with
    smoothing: float = 1.0  # how many times the beam's FWHM the correlation of the noise is as wide
    rising: float = 0.0  # of the noise from the middle to the border, as a primary-beam correction leaves it
    antennas: int = 0  # of the array whose dirty image it is; 0: no dirty image
    disc: tuple[float, float] | None = None  # scale length of rotating discs, in beams; their S/N is that of a voxel


KINDS = {
    "compact": Kind(),
    "elongated": Kind(beam=(7.0, 3.5, 30.0), resolved=0.0, snr=(30, 90), width=(5, 9)),
    "resolved": Kind(resolved=1.0, sources=5, sizes=(1.0, 2.5), snr=(20, 120)),
    "pairs": Kind(resolved=0.0, sources=6, pair=(1.0, 2.0), snr=(12, 80)),
    "double-horned": Kind(profile="double", width=(6, 16), snr=(8, 100)),
    "wide": Kind(channels=160, width=(18, 40), snr=(8, 100)),
    "hanning": Kind(kernel=(0.25, 0.5, 0.25)),
    "smoothed": Kind(smoothing=np.sqrt(2)),
    "primary beam": Kind(rising=1.5),
    "continuum": Kind(continuum=0.8, width=(3, 15)),
    "dirty": Kind(side=256, antennas=30, sources=8, snr=(8, 150), continuum=0.4, width=(3, 15)),
    "close pairs": Kind(resolved=0.0, sources=6, pair=(1.0, 1.4), snr=(12, 80)),
    "skewed": Kind(profile="skewed", width=(6, 18), snr=(8, 100)),
    "narrow": Kind(profile="averaged", width=(0.8, 3)),
    "three channels": Kind(kernel=(1.0, 1.0, 1.0)),
    "small beam": Kind(beam=(3.4, 2.8, -40.0), side=160),
    "large beam": Kind(beam=(10.5, 8.0, 70.0), side=340),
    "discs": Kind(side=130, channels=64, sources=1, snr=(6, 40), disc=(0.8, 2.4)),
}
SPREAD = 0.045  # of an array's antennas along each axis, cycles a pixel: a beam of some five pixels
HOURS = np.linspace(-1, 1, 80)  # hour angles that it observes at
DECLINATION, LATITUDE = np.radians([-35.0, -23.0])
LOBE = 0.35  # of a dirty beam's peak, over which the clean beam is fitted, as imagers do


@dataclass
class Source:
    """What is true of a source; fluxes in Jy km/s and Jy, widths in km/s, the centroid in channels."""

    x: float
    y: float
    snr: float
    f_sum: float
    f_cont: float
    z: float
    w50: float
    resolved: bool
    group: int = 0
    fainter: bool = False  # of the two of a pair


@dataclass
class Pulls:
    """Rows of (S/N, quantity, pull, bias), of points over S/N 30 whether they were given a size, of the fainter ones
    of pairs the bias of the flux in percent, and whether they are marked as blended."""

    rows: list[tuple[float, str, float, float]] = field(default_factory=list)
    sized: list[bool] = field(default_factory=list)
    fainter: list[tuple[float, bool]] = field(default_factory=list)
    found: int = 0
    missed: int = 0
    false: int = 0


def covariance(major: float, minor: float, angle: float) -> np.ndarray:
    """Matrix (2, 2) in FWHM², along x and y, of an ellipse whose angle runs from North through East (to -x)."""
    turn = np.radians(angle)
    along, across = np.array([-np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), np.sin(turn)])
    return major**2 * np.outer(along, along) + minor**2 * np.outer(across, across)


def gaussian(side: int, x: float, y: float, matrix: np.ndarray) -> np.ndarray:
    """Image of an elliptical Gaussian of peak 1."""
    inverse = np.linalg.inv(matrix)
    dy, dx = np.mgrid[:side, :side] - np.array([y, x])[:, None, None]
    return np.exp(-K2 * (inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2))


@cache
def visibilities(side: int, antennas: int) -> np.ndarray:
    """How many visibilities fall into each cell of the transform of an image of ``side`` pixels."""
    rng = np.random.default_rng(antennas)
    east, north = rng.normal(0, SPREAD, (2, antennas))
    x, z = -np.sin(LATITUDE) * north, np.cos(LATITUDE) * north  # equatorial, of a flat array (Thompson et al., eq. 4.1)
    first, second = np.triu_indices(antennas, 1)
    bx, by, bz = (a[first] - a[second] for a in (x, east, z))
    angle = np.pi / 12 * HOURS[:, None]
    u = np.sin(angle) * bx + np.cos(angle) * by
    v = -np.sin(DECLINATION) * (np.cos(angle) * bx - np.sin(angle) * by) + np.cos(DECLINATION) * bz
    cells = np.zeros((side, side))
    for sign in (1, -1):
        np.add.at(cells, tuple(np.rint(sign * side * w).astype(int).ravel() % side for w in (v, u)), 1)
    return cells[:, : side // 2 + 1]


def dirty_image(kind: Kind, x: float, y: float, size: np.ndarray) -> np.ndarray:
    """A Gaussian source of unit flux and of matrix ``size`` as the array shows it, in Jy/beam."""
    side = 2 * kind.side
    weights = visibilities(side, kind.antennas)
    v, w = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    power = size[0, 0] * w**2 + 2 * size[0, 1] * w * v + size[1, 1] * v**2
    source = np.exp(-(np.pi**2 / K2) * power - 2j * np.pi * (w * x + v * y))
    peak = np.fft.irfft2(weights, s=(side, side))[0, 0]
    return (np.fft.irfft2(weights * source, s=(side, side)) / peak)[: kind.side, : kind.side]


def with_fitted_beam(kind: Kind) -> Kind:
    """A kind of dirty cubes with the clean beam that fits its array's dirty beam."""
    if not kind.antennas:
        return kind
    middle = kind.side // 2
    image = dirty_image(kind, middle, middle, np.zeros((2, 2)))[middle - 8 : middle + 9, middle - 8 : middle + 9]
    y, x = np.mgrid[-8:9, -8:9]
    lobe = image > LOBE

    def model(place: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return np.exp(-K2 * (a * place[0] ** 2 + 2 * b * place[0] * place[1] + c * place[1] ** 2))

    (a, b, c), _ = curve_fit(model, np.array([x[lobe], y[lobe]]), image[lobe], (0.03, 0.0, 0.03))
    widths, axes = np.linalg.eigh(np.linalg.inv([[a, b], [b, c]]))
    angle = float(np.degrees(np.arctan2(-axes[0, 1], axes[1, 1])) % 180)
    return replace(kind, beam=(float(np.sqrt(widths[1])), float(np.sqrt(widths[0])), angle))


def noise(rng: np.random.Generator, kind: Kind, beam: np.ndarray) -> np.ndarray:
    """Planes of unit noise, correlated in space as wide as ``kind.smoothing`` beams and in frequency as its kernel.

    In a dirty image it has the power of the array's visibilities.
    """
    side, margin = 2 * kind.side if kind.antennas else kind.side + 64, len(kind.kernel)
    v, w = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    half = 0.5 * beam * kind.smoothing**2
    power = half[0, 0] * w**2 + 2 * half[0, 1] * w * v + half[1, 1] * v**2
    amplitude = np.sqrt(visibilities(side, kind.antennas)) if kind.antennas else np.exp(-(np.pi**2 / K2) * power)
    white = rng.standard_normal((kind.channels + margin, side, side)).astype(np.float32)
    planes = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(side, side))
    planes = sum(k * planes[i : i + kind.channels] for i, k in enumerate(kind.kernel))[:, : kind.side, : kind.side]
    return (planes / planes.std()).astype(np.float32)


def profile(rng: np.random.Generator, kind: Kind, width: float, centre: float) -> Callable[[np.ndarray], np.ndarray]:
    """A line of some FWHM in channels: one Gaussian, also averaged over the channels, one with a wing, or two horns and
    what is between them.
    """
    if kind.profile == "averaged":
        a = width / np.sqrt(K2)
        return lambda z: np.sqrt(np.pi) / 2 * a * (erf((z + 0.5 - centre) / a) - erf((z - 0.5 - centre) / a))
    if kind.profile == "skewed":
        return lambda z: np.exp(-K2 * ((z - centre) / (width * np.where(z < centre, 0.6, 1.5))) ** 2)
    parts = [(1.0, 0.0, 1.0)]
    if kind.profile == "double":
        apart = rng.uniform(0.35, 0.6)
        parts = [(1.0, -apart, 0.5), (rng.uniform(0.6, 1.0), apart, 0.5), (0.45, 0.0, 1.0)]
    return lambda z: sum(a * np.exp(-K2 * ((z - centre - o * width) / (f * width)) ** 2) for a, o, f in parts)


def width_at_half(grid: np.ndarray, line: np.ndarray) -> float:
    """Distance between the outermost places where a line has half of its maximum, interpolated between grid points."""
    over = np.flatnonzero(line >= 0.5 * line.max())
    ends = [(over[0] - 1, over[0]), (over[-1] + 1, over[-1])]
    low, high = (np.interp(0.5 * line.max(), line[[i, j]], grid[[i, j]]) for i, j in ends)
    return float(high - low)


def places(rng: np.random.Generator, kind: Kind, beam: float) -> list[tuple[float, float, int]]:
    """(x, y, group) of the sources: apart from each other, but for those of a pair."""
    made: list[tuple[float, float, int]] = []
    edge = 2.2 * beam + 3
    for _ in range(20000):
        x, y = rng.uniform(edge, kind.side - 1 - edge, 2)
        if len({g for _, _, g in made}) == kind.sources:
            break
        if any(np.hypot(x - a, y - b) < 6.5 * beam for a, b, _ in made):
            continue
        group = len({g for _, _, g in made})
        made.append((x, y, group))
        if kind.pair:
            distance, angle = rng.uniform(*kind.pair) * beam, rng.uniform(0, 2 * np.pi)
            made.append((x + distance * np.cos(angle), y + distance * np.sin(angle), group))
    return made


def observed(kind: Kind, x: float, y: float, beam: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, float]:
    """Image of a Gaussian source with a peak of 1 at its place, and its flux over that peak."""
    if kind.antennas:
        image = dirty_image(kind, x, y, size)
        peak = float(dirty_image(kind, round(x), round(y), size)[round(y), round(x)])
        return image / peak, 1 / peak
    return gaussian(kind.side, x, y, beam + size), float(np.sqrt(np.linalg.det(beam + size) / np.linalg.det(beam)))


def with_a_disc(kind: Kind, seed: int) -> tuple[Cube, list[Source]]:
    """A cube with one rotating, exponential disc in its middle."""
    rng = np.random.default_rng([seed, 20261130])
    beam, side = covariance(*kind.beam), kind.side
    fwhm = float(np.linalg.det(beam) ** 0.25)
    x, y = (side - 1) / 2 + rng.uniform(-5, 5, 2)
    dy, dx = np.mgrid[:side, :side] - np.array([y, x])[:, None, None]
    turn, inclined = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(20, 80))
    along, across = dx * np.cos(turn) + dy * np.sin(turn), (dy * np.cos(turn) - dx * np.sin(turn)) / np.cos(inclined)
    radius = np.hypot(along, across)
    velocity = rng.uniform(3, 14) * np.tanh(radius / (0.8 * fwhm)) * along / np.maximum(radius, 1e-6)
    channel = np.arange(kind.channels)
    apart = (channel[:, None, None] - kind.channels / 2 - velocity) / rng.uniform(1, 2.5)
    sky = np.exp(-radius / (rng.uniform(*kind.disc) * fwhm)) * np.exp(-0.5 * apart**2)
    v, w = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    power = beam[0, 0] * w**2 + 2 * beam[0, 1] * w * v + beam[1, 1] * v**2
    sky = np.fft.irfft2(np.fft.rfft2(sky) * np.exp(-(np.pi**2 / K2) * power), s=(side, side))
    snr = float(np.exp(rng.uniform(*np.log(kind.snr))))
    sky *= snr * RMS / sky.max()
    spectrum = sky.sum(axis=(1, 2)) * K2 / (np.pi * np.sqrt(np.linalg.det(beam)))
    centroid = float((spectrum * channel).sum() / spectrum.sum())
    width = width_at_half(channel, spectrum) * CHANNEL
    source = Source(x, y, snr, float(spectrum.sum()) * CHANNEL, 0.0, centroid, width, True)
    return cube_of((sky + RMS * noise(rng, kind, beam)).astype(np.float32), kind), [source]


def simulated(kind: Kind, seed: int) -> tuple[Cube, list[Source]]:
    """A cube with its sources."""
    if kind.disc:
        return with_a_disc(kind, seed)
    rng = np.random.default_rng([seed, 20261129])
    beam = covariance(*kind.beam)
    fwhm = float(np.linalg.det(beam) ** 0.25)
    level = np.ones((kind.side, kind.side))
    if kind.rising:
        y, x = np.mgrid[: kind.side, : kind.side] - (kind.side - 1) / 2
        level = (1 + kind.rising) ** ((x**2 + y**2) / (kind.side / 2) ** 2)
    data = noise(rng, kind, beam) * RMS * level
    channel, fine = np.arange(kind.channels), np.linspace(0, kind.channels - 1, 40 * kind.channels)
    sources = []
    for x, y, group in places(rng, kind, fwhm):
        resolved = rng.uniform() < kind.resolved
        size = np.zeros((2, 2))
        if resolved:
            major = rng.uniform(*kind.sizes) * fwhm
            size = covariance(major, major * rng.uniform(0.4, 1), rng.uniform(0, 180))
        image, ratio = observed(kind, x, y, beam, size)
        width = float(np.exp(rng.uniform(*np.log(kind.width))))
        reach = min(1.6 * width + 3, 0.45 * kind.channels)
        line = profile(rng, kind, width, rng.uniform(reach, kind.channels - reach))
        spectrum, smooth = line(channel), line(fine)
        second = bool(sources) and sources[-1].group == group
        snr = float(np.exp(rng.uniform(*np.log(kind.beside if second and kind.beside else kind.snr))))
        local = RMS * level[round(y), round(x)]
        height = snr * local / np.sqrt((spectrum**2).sum())
        steady = 0.0
        if rng.uniform() < kind.continuum:
            steady = float(np.exp(rng.uniform(np.log(6), np.log(60)))) * local / np.sqrt(kind.channels)
        data += (height * spectrum + steady)[:, None, None] * image
        sources.append(
            Source(
                *(x, y, snr, height * spectrum.sum() * ratio * CHANNEL, steady * ratio),
                float((spectrum * channel).sum() / spectrum.sum()),
                width_at_half(fine, smooth) * CHANNEL,
                resolved,
                group,
            )
        )
        if second:
            min(sources[-2:], key=lambda source: source.f_sum).fainter = True
    return cube_of(data.astype(np.float32), kind), sources


def cube_of(data: np.ndarray, kind: Kind) -> Cube:
    """Planes as a cube on the sky, in Jy/beam, with channels of :data:`CHANNEL`."""
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN", "VRAD"
    wcs.wcs.crval = 150.1, 2.2, 1e6
    wcs.wcs.crpix = kind.side / 2, kind.side / 2, 1
    wcs.wcs.cdelt = -PIXEL / 3600, PIXEL / 3600, CHANNEL * 1e3
    wcs.wcs.cunit = "deg", "deg", "m/s"
    wcs.wcs.restfrq = REST
    wcs.wcs.set()
    major, minor, angle = kind.beam
    beam = Beam(major * PIXEL * u.arcsec, minor * PIXEL * u.arcsec, angle * u.deg)
    return replace(Cube.from_array(data), wcs=wcs, unit=u.Jy / u.beam, beams=beam)


def compared(cube: Cube, sources: list[Source], kind: Kind, networks: object, pulls: Pulls) -> None:
    """Detect, match each source with the nearest candidate, and add what it says of it."""
    kept = detect(cube, Settings(), networks=networks).kept
    reach = MATCH * float(np.linalg.det(covariance(*kind.beam)) ** 0.25)
    free = list(kept)
    for source in sorted(sources, key=lambda s: -s.snr):
        near = sorted(free, key=lambda c: np.hypot(c.x - source.x, c.y - source.y))
        if not near or np.hypot(near[0].x - source.x, near[0].y - source.y) > max(3.0, reach):
            pulls.missed += 1
            continue
        candidate = near[0]
        free.remove(candidate)
        pulls.found += 1
        if not source.resolved and source.snr > 30:
            pulls.sized.append(bool(np.isfinite(candidate.dc_maj)))
        if source.fainter:
            pulls.fainter.append((100 * (candidate.f_sum / source.f_sum - 1), candidate.blended))
        for name in QUANTITIES:
            value, error, truth = getattr(candidate, name), getattr(candidate, f"err_{name}"), getattr(source, name)
            if np.isfinite(value) and error > 0:
                bias = 100 * (value / truth - 1) if name in ("f_sum", "w50", "f_cont") and truth else np.nan
                pulls.rows.append((source.snr, name, (value - truth) / error, bias))
    pulls.false += len(free)


def printed(name: str, pulls: Pulls) -> None:
    """The tables of one kind."""
    print(f"\n{name}: {pulls.found} found, {pulls.missed} missed, {pulls.false} unmatched", end="")
    if pulls.sized:
        print(f"; {sum(pulls.sized)} of {len(pulls.sized)} points over S/N 30 are given a size", end="")
    if pulls.fainter:
        print(f"; the fainter of pairs: {of_the_fainter(pulls)}", end="")
    print()
    for low, high in BINS:
        told = {quantity: summary(pulls, quantity, low, high) for quantity in QUANTITIES}
        if any(told.values()):
            print(f"  S/N {low}-{high}: " + "  ".join(f"{name} {text}" for name, text in told.items() if text))


def summary(pulls: Pulls, quantity: str, low: float, high: float) -> str:
    """Median and spread of the pulls of a quantity in a range of S/N, its bias and the number of sources, if any."""
    rows = [(pull, bias) for snr, name, pull, bias in pulls.rows if name == quantity and low <= snr < high]
    if len(rows) < 5:
        return ""
    pull, bias = np.array(rows).T
    spread = 1.4826 * np.median(np.abs(pull - np.median(pull)))
    percent = f", {np.median(bias):+.1f} %" if np.isfinite(bias).all() else ""
    return f"{np.median(pull):+.2f} ({spread:.2f}{percent}; {len(pull)})"


def of_the_fainter(pulls: Pulls) -> str:
    """Bias of the fainter sources of pairs with its error, and how many are marked as blended."""
    bias, blended = np.array(pulls.fainter).T
    bias = bias[np.isfinite(bias)]
    error = 1.25 * 1.4826 * np.median(np.abs(bias - np.median(bias))) / np.sqrt(len(bias))
    return f"{np.median(bias):+.1f} ± {error:.1f} % ({len(bias)}), {int(blended.sum())} of {len(blended)} blended"


def tables(of_kinds: dict[str, Pulls]) -> None:
    """The tables of docs/catalogue.md: the flux by S/N, and the other quantities of all over S/N 8."""
    print("\n| kind | " + " | ".join(f"S/N {low:.0f}-{high:.0f}" for low, high in RANGES) + " | over 8 |")
    print("|---" * (len(RANGES) + 2) + "|")
    for name, pulls in of_kinds.items():
        cells = [summary(pulls, "f_sum", *some) for some in (*RANGES[:-1], (RANGES[-1][0], 1000), (8, 1000))]
        print(f"| {name} | {' | '.join(cells)} |")
    others = [quantity for quantity in QUANTITIES if quantity != "f_sum"]
    print("\n| kind | " + " | ".join(f"`{quantity}`" for quantity in others) + " | points over S/N 30 with a size |")
    print("|---" * (len(others) + 2) + "|")
    for name, pulls in of_kinds.items():
        cells = [summary(pulls, quantity, 8, 1000) for quantity in others]
        sized = f"{sum(pulls.sized)} of {len(pulls.sized)}" if pulls.sized else ""
        print(f"| {name} | {' | '.join(cells)} | {sized} |")
    for name, pulls in of_kinds.items():
        if pulls.fainter:
            print(f"\nThe fainter of {name}: {of_the_fainter(pulls)}")


def main() -> None:
    """Print the tables of the kinds that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--cubes", type=int, default=4, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", action="store_true", help="so many cubes also for each range of S/N")
    parser.add_argument("--table", action="store_true", help="the tables of docs/catalogue.md as well")
    arguments = parser.parse_args()
    networks, of_kinds = load_networks(Settings()), {}
    for number, name in enumerate(KINDS):
        if name in arguments.kinds:
            pulls, own = Pulls(), with_fitted_beam(KINDS[name])
            kinds = [replace(own, snr=some, beside=own.snr) for some in RANGES] if arguments.each else [own]
            for many, kind in enumerate(kinds):
                for i in range(arguments.cubes):
                    cube, sources = simulated(kind, 1000 * arguments.seed + 100 * number + arguments.cubes * many + i)
                    compared(cube, sources, kind, networks, pulls)
            printed(name, pulls)
            of_kinds[name] = pulls
    if arguments.table:
        tables(of_kinds)


if __name__ == "__main__":
    main()
