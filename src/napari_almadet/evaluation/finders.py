"""Classical source finders with a common interface, to be evaluated on the same cubes as the networks.

A finder is a function of a :class:`Field` and its parameters that returns a list of
:class:`Source`.  All except the matched filter and SoFiA-2 search the band-averaged image, in
units of its local noise.  Libraries are imported when a finder is called; the extra
``evaluate`` installs them.

The box of every source is where it falls to a tenth of its peak, as that of the truth: of the Gaussian that a finder
fits, and for finders that only give a peak or a segment, from the widths at half maximum in the image they search.
"""

from __future__ import annotations

import gc
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.stats import mad_std
from astropy.table import Row
from astropy.wcs import WCS
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box
from napari_almadet.cube.cube import Cube
from napari_almadet.evaluation import sofia as sofia_2
from napari_almadet.evaluation.matched_filter import Lines, find_lines, subtract_continuum
from napari_almadet.measure.stacking import integrate

# Half widths at half maximum from the centre of a Gaussian to a tenth of its peak, where a truth box ends.
TENTH = float(np.sqrt(np.log(10) / np.log(2)))

# Axis ratio of the beam from which PyBDSF compares Gaussians with the extent of their island; its own limit is 2, for
# fitted Gaussians, which the noise makes longer than the beam.
ELONGATED = 1.5
LENIENT = 0.1  # its `flag_maxsize_fwhm` there: the Gaussian's core, not its half-maximum contour, is in the island

NOISE_BEAMS = 8  # beams, side of the square in which the noise of a pixel is measured: 2 % with 43 channels


@dataclass(frozen=True)
class Source:
    """A source reported by a finder; pixels and channels are 0-based, ranges half-open.

    ``kind`` is "line", "continuum" or "both".  ``score`` is the value by which the finder ranks, in sigma; ``prob`` the
    probability, if the finder gives one.  ``channels``, ``z`` (centre) and ``fwhm`` describe the line, in channels;
    ``flux`` is that of the line in Jy Hz, not corrected for the primary beam.  ``mask``, if the finder gives one, is
    the first voxel and a boolean array.
    """

    x: float
    y: float
    box: Box
    kind: str
    score: float
    prob: float = np.nan
    channels: tuple[int, int] | None = None
    z: float = np.nan
    fwhm: float = np.nan
    flux: float = np.nan
    mask: tuple[tuple[int, int, int], np.ndarray] | None = None


class Field:
    """A cube and the images that several finders need, each computed on first use."""

    def __init__(self, cube: Cube, psf: Path | None = None):
        self.cube = cube
        self.psf = psf  # file of the dirty beam

    @cached_property
    def beam_fwhm(self) -> float:
        """Geometric mean of the beam's axes in pixels; 3 where the beam is unknown."""
        return self.cube.beam_fwhm or 3.0

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stacked image, cube without continuum, and the noise of a channel."""
        planes = self.cube.read()
        stacked = integrate(planes)
        return stacked, *subtract_continuum(planes, reach=NOISE_BEAMS * self.beam_fwhm)

    @cached_property
    def stacked(self) -> np.ndarray:
        """The image summed over channels, (y, x), in units of its local noise; NaN where there is no data.

        The noise varies over the field like that of the channels; its level is measured in the stacked image and
        includes sidelobes.
        """
        stacked, _, noise = self._parts
        relative = stacked / noise
        return relative / mad_std(relative, ignore_nan=True)

    def normalised(self) -> np.ndarray:
        """The cube in units of the noise of each pixel, (channel, y, x), with its continuum; NaN without data."""
        return self.cube.read() / self._parts[2].astype(np.float32)

    @cached_property
    def lines(self) -> tuple[Lines, Lines]:
        """Matched-filter peak of every pixel, in the cube and in the inverted cube."""
        _, planes, noise = self._parts
        return find_lines(planes, noise)

    @cached_property
    def line_peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """S/N of the lines that are the highest within a beam, highest first: with their own sign, and inverted."""
        positive, negative = (
            np.array([image[place] for place in local_maxima(image, 0.0, self.beam_fwhm)])
            for image in (lines.snr for lines in self.lines)
        )
        return positive, negative

    @cached_property
    def filled(self) -> np.ndarray:
        """``stacked`` with 0 where there is no data, for libraries that do not support NaN; contiguous float64."""
        return np.ascontiguousarray(np.nan_to_num(self.stacked), dtype=float)

    @property
    def sky(self) -> tuple[WCS, u.Quantity]:
        """Coordinates of the sky, and the side of a pixel.

        Raises
        ------
        ValueError
            If the cube has none.
        """
        if self.cube.celestial is None or self.cube.pixel_scale is None:
            raise ValueError("this finder needs a cube with sky coordinates")
        return self.cube.celestial, self.cube.pixel_scale

    def write_image(self, folder: str) -> str:
        """Write ``stacked`` with the sky coordinates and the beam, for libraries that read FITS; returns the path."""
        header, beam = self.cube.celestial_header(), self.cube.beam
        if header is None or beam is None:
            raise ValueError("this finder needs a cube with sky coordinates and a beam")
        header.update(BMAJ=beam.major.to_value("deg"), BMIN=beam.minor.to_value("deg"), BPA=beam.pa.to_value("deg"))
        header["BUNIT"] = "Jy/beam"  # not true, but the libraries require a unit
        path = str(Path(folder) / "stacked.fits")
        fits.writeto(path, self.stacked.astype(np.float32), header)
        return path


@contextmanager
def silence() -> Iterator[None]:
    """Let a library neither log nor warn."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def frozen_garbage() -> Iterator[None]:
    """Exclude existing objects from garbage collection: PyBDSF collects at each step, taking seconds with torch."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def local_maxima(image: np.ndarray, threshold: float, separation: float) -> list[tuple[int, int]]:
    """(y, x) of the pixels over a threshold that are the highest within ``separation`` pixels, highest first."""
    reach = int(separation)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    image = np.where(np.isfinite(image), image, -np.inf)
    tops = ndimage.maximum_filter(image, footprint=dy**2 + dx**2 <= separation**2, mode="nearest")
    y, x = np.nonzero((image == tops) & (image > threshold))
    order = np.argsort(-image[y, x], kind="stable")
    return [(int(y[i]), int(x[i])) for i in order]


def centre_of(image: np.ndarray, y: int, x: int) -> tuple[float, float]:
    """(y, x) of a maximum from a parabola through it and its neighbours in each axis."""
    centre = [float(y), float(x)]
    for axis, (low, high) in enumerate((((y - 1, x), (y + 1, x)), ((y, x - 1), (y, x + 1)))):
        if min(low) < 0 or high[0] >= image.shape[0] or high[1] >= image.shape[1]:
            continue
        before, top, after = image[low], image[y, x], image[high]
        bend = before - 2 * top + after
        if np.isfinite(bend) and bend < 0:
            centre[axis] += float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5))
    return centre[0], centre[1]


def box_of(image: np.ndarray, y: int, x: int) -> Box:
    """Box where a Gaussian source with its maximum at (y, x) falls to a tenth, from its widths at half maximum."""
    cy, cx = centre_of(image, y, x)
    half_y, half_x = (
        TENTH * (_to_half(profile[place::-1]) + _to_half(profile[place:])) / 2
        for profile, place in ((image[:, x], y), (image[y], x))
    )
    return ellipse_box(cx, cy, half_x, half_y, image.shape)


def _to_half(profile: np.ndarray) -> float:
    """Pixels from the first value to where a profile falls to half of it, interpolated; to the end if it does not."""
    half = profile[0] / 2
    low = np.flatnonzero(~(profile > half))
    if not low.size:
        return len(profile) - 0.5
    before, after = profile[low[0] - 1], profile[low[0]]
    part = (before - half) / (before - after) if np.isfinite(after) else 0.5
    return float(low[0] - 1 + part)


def ellipse_box(x: float, y: float, half_x: float, half_y: float, shape: tuple[int, int]) -> Box:
    """Box of the pixels whose centres are within the half widths about (x, y); at least one, cut at the borders."""
    limits = []
    for centre, half, n in ((float(y), half_y, shape[0]), (float(x), half_x, shape[1])):
        nearest = int(np.clip(round(centre), 0, n - 1))
        first, last = np.ceil(np.clip(centre - half, 0, n)), np.floor(np.clip(centre + half, -1, n - 1))
        limits += [min(int(first), nearest), max(int(last), nearest) + 1]
    return Box(*limits)


def gaussian_box(x: float, y: float, major: float, minor: float, angle: float, shape: tuple[int, int]) -> Box:
    """Box where an elliptical Gaussian, FWHM in pixels, ``angle`` in degrees from +y to -x, falls to a tenth."""
    sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    half_x, half_y = TENTH / 2 * np.hypot(major * sin, minor * cos), TENTH / 2 * np.hypot(major * cos, minor * sin)
    return ellipse_box(x, y, half_x, half_y, shape)


def peaks(field: Field, *, threshold: float = 4.5) -> list[Source]:
    """Local maxima of the stacked image, one within a beam: a simple finder in NumPy."""
    image = field.stacked
    found = []
    for y, x in local_maxima(image, threshold, field.beam_fwhm):
        cy, cx = centre_of(image, y, x)
        found.append(Source(cx, cy, box_of(image, y, x), "continuum", float(image[y, x])))
    return found


def matched_filter(
    field: Field, *, threshold: float = 5.5, continuum: float = 4.5, fidelity: float = 0.0
) -> list[Source]:
    """Lines from a 3-D matched filter, close to MF3D and LineSeeker, and continuum from the stacked image.

    Of the peaks in (x, y, channel, line width) over ``threshold``, and those of the stacked image over
    ``continuum``, only the highest within a beam is kept; its kind says in which of the two it was found.

    With a ``fidelity`` above 0, lines must also exceed the S/N from which on 1 - N(negative) / N(positive), with the
    numbers of peaks of both signs at that S/N or above, is at least that.

    LineSeeker (González-López et al. 2019) likewise convolves the cube in frequency with Gaussians of many widths,
    searches for peaks in S/N, and estimates the fidelity from those of both signs.  It differs in four ways: it
    uses the noise of each convolved plane instead of that around each pixel; it models the fidelity for each width
    instead of counting peaks of all widths; it lists several lines at one position instead of the strongest only; and
    it does not search for continuum.
    """
    lines, stacked = field.lines[0], field.stacked
    if fidelity > 0:
        positive, negative = (peaks[peaks > threshold] for peaks in field.line_peaks)
        threshold = faithful(positive, negative, fidelity, threshold)
    both = np.fmax(lines.snr / threshold, stacked / continuum)  # in units of the thresholds
    found = []
    for y, x in local_maxima(both, 1.0, field.beam_fwhm):
        has_line, has_continuum = lines.snr[y, x] > threshold, stacked[y, x] > continuum
        image = lines.snr if has_line and lines.snr[y, x] >= stacked[y, x] else stacked
        kind = "both" if has_line and has_continuum else "line" if has_line else "continuum"
        cy, cx = centre_of(image, y, x)
        line: dict[str, Any] = {}
        if has_line:
            z, fwhm = lines.line(y, x)
            line = {"z": z, "fwhm": fwhm, "channels": lines.range(y, x)}
        found.append(Source(cx, cy, box_of(image, y, x), kind, float(image[y, x]), **line))
    return found


def faithful(positive: np.ndarray, negative: np.ndarray, fidelity: float, threshold: float) -> float:
    """The threshold that the positive peaks must exceed so that their fidelity is at least the given one.

    Parameters
    ----------
    positive, negative
        S/N of the peaks of both signs over ``threshold``, highest first.

    Returns
    -------
    float
        Just below the weakest peak at which, and at all stronger ones, the fidelity is high enough; infinite if that is
        none; ``threshold`` if it is all.
    """
    as_strong = np.searchsorted(-negative, -positive, side="right")
    enough = 1 - as_strong / np.arange(1, len(positive) + 1) >= fidelity
    first = int(np.argmin(enough)) if not enough.all() else len(enough)
    if first == len(enough):
        return threshold
    return float(np.nextafter(positive[first - 1], 0)) if first else np.inf


def flood_fill(field: Field, *, threshold: float = 8.0, flood: float = 4.0) -> list[Source]:
    """Islands of pixels over ``flood`` with a pixel over ``threshold``: the algorithm of blobcat.

    As blobcat (Hales et al. 2012), with which the paper compares, it does not divide an island.  The defaults are those
    that the paper found best on its own sky; a source is at the highest pixel of its island.
    """
    image = field.filled
    islands, n = ndimage.label(image > flood)
    found = []
    for y, x in ndimage.maximum_position(image, islands, range(1, n + 1)) if n else ():
        if (score := float(image[y, x])) > threshold:
            cy, cx = centre_of(image, int(y), int(x))
            found.append(Source(cx, cy, box_of(field.stacked, int(y), int(x)), "continuum", score))
    return found


def sep(field: Field, *, threshold: float = 3.0, minarea: int = 20) -> list[Source]:
    """SExtractor's segmentation and deblending, by ``sep``."""
    import sep as library

    objects = library.extract(field.filled, threshold, err=1.0, minarea=int(minarea), mask=np.isnan(field.stacked))
    return [
        Source(
            float(o["x"]),
            float(o["y"]),
            box_of(field.stacked, int(o["ypeak"]), int(o["xpeak"])),
            "continuum",
            float(o["peak"]),
        )
        for o in objects
    ]


def photutils(field: Field, *, threshold: float = 3.0, npixels: int = 20) -> list[Source]:
    """Segmentation with multi-threshold deblending, by ``photutils``."""
    from photutils.segmentation import SourceCatalog, deblend_sources, detect_sources

    with silence():  # also if there are no sources
        segments = detect_sources(field.filled, threshold, int(npixels), mask=np.isnan(field.stacked))
        if segments is None:
            return []
        segments = deblend_sources(field.filled, segments, int(npixels), progress_bar=False)
    tops = ndimage.maximum_position(field.filled, segments.data, segments.labels)
    return [
        Source(
            float(s.centroid[0]),
            float(s.centroid[1]),
            box_of(field.stacked, int(y), int(x)),
            "continuum",
            float(s.max_value),
        )
        for s, (y, x) in zip(SourceCatalog(field.filled, segments), tops, strict=True)
    ]


def dendrogram(field: Field, *, threshold: float = 3.0, delta: float = 1.5, npix: int = 20) -> list[Source]:
    """Leaves of the dendrogram of the stacked image, by ``astrodendro``."""
    from astrodendro import Dendrogram

    tree = Dendrogram.compute(field.filled, min_value=threshold, min_delta=delta, min_npix=int(npix))
    found = []
    for leaf in tree.leaves:
        (y, x), score = leaf.get_peak()[0], float(leaf.vmax)
        cy, cx = centre_of(field.filled, int(y), int(x))
        found.append(Source(cx, cy, box_of(field.stacked, int(y), int(x)), "continuum", score))
    return found


def aegean(field: Field, *, threshold: float = 4.5, flood: float = 3.5) -> list[Source]:
    """Islands fitted with Gaussians, their number from the curvature, by AegeanTools.

    Without ``docov``, which weights the fit by the covariance of the noise; with it, nearly all sources of quantised
    cubes are lost.  Without negative sources.
    """
    from AegeanTools.source_finder import SourceFinder

    with tempfile.TemporaryDirectory(prefix="almadet-") as folder, silence():
        found = SourceFinder().find_sources_in_image(
            field.write_image(folder),
            rms=1.0,
            bkg=0.0,
            innerclip=threshold,
            outerclip=flood,
            docov=False,
            nonegative=True,
            cores=1,
            progress=False,
        )
    celestial, pixel = field.sky
    scale = pixel.to_value("arcsec")
    ra, dec = np.array([s.ra for s in found]), np.array([s.dec for s in found])
    xs, ys = celestial.all_world2pix(ra, dec, 0) if found else ((), ())
    shape = field.stacked.shape
    return [
        Source(float(x), float(y), gaussian_box(x, y, s.a / scale, s.b / scale, s.pa, shape), "continuum", s.peak_flux)
        for s, x, y in zip(found, xs, ys, strict=True)
        if np.isfinite([x, y, s.a, s.b]).all()
    ]


def pybdsf(field: Field, *, threshold: float = 4.5, island: float = 3.0) -> list[Source]:
    """Islands fitted with Gaussians that are grouped into sources, by PyBDSF.

    With an elongated beam, PyBDSF discards a fitted Gaussian if its contour at ``flag_maxsize_fwhm`` times the FWHM
    leaves the island (flag 256); by default that is half maximum, which an island at low S/N does not reach.
    """
    import bdsf

    beam = field.cube.beam
    elongated = beam is not None and beam.major >= ELONGATED * beam.minor
    lenient = {"flag_maxsize_fwhm": LENIENT} if elongated else {}
    with tempfile.TemporaryDirectory(prefix="almadet-") as folder, silence(), frozen_garbage():
        image = bdsf.process_image(
            field.write_image(folder),
            thresh="hard",
            thresh_pix=threshold,
            thresh_isl=island,
            rms_map=False,
            rms_value=1.0,
            mean_map="zero",
            frequency=1e9,  # irrelevant, but required
            outdir=folder,
            ncores=1,
            quiet=True,
            **lenient,
        )
    celestial, pixel = field.sky
    scale = pixel.to_value("deg")
    shape = field.stacked.shape
    found = []
    for s in image.sources:
        x, y = celestial.all_world2pix(*s.posn_sky_centroid, 0)
        major, minor, angle = s.size_sky
        box = gaussian_box(x, y, major / scale, minor / scale, angle, shape)
        found.append(Source(float(x), float(y), box, "continuum", float(s.peak_flux_max)))
    return found


def sofia(field: Field, *, threshold: float = 5.0, reliability: float = 0.0, longest: int = 63) -> list[Source]:
    """SoFiA-2 in three dimensions, see :mod:`napari_almadet.evaluation.sofia`.

    Its place and mask are its own, its box is that of the sum over its channels.  A source in more than half of the
    band is given as continuum, without a line.  ``prob`` is its reliability, if that is used.
    """
    planes = field.normalised()
    with tempfile.TemporaryDirectory(prefix="almadet-") as folder, silence():
        table = sofia_2.search(planes, field.beam_fwhm, threshold, reliability, int(longest), Path(folder))
        labels = sofia_2.masks(Path(folder)) if len(table) else np.zeros(planes.shape, np.int32)
    return [_sofia_source(row, planes, labels, reliability > 0) for row in table]


def _sofia_source(row: Row, planes: np.ndarray, labels: np.ndarray, with_reliability: bool) -> Source:
    """A row of SoFiA-2's catalogue; its ranges are inclusive."""
    (z0, z1), (y0, y1), (x0, x1) = ((int(row[f"{axis}_min"]), int(row[f"{axis}_max"]) + 1) for axis in "zyx")
    image = np.nansum(planes[z0:z1], axis=0) / np.sqrt(z1 - z0)
    own = labels[z0:z1, y0:y1, x0:x1] == row["id"]
    inside = np.where(own.any(axis=0), image[y0:y1, x0:x1], -np.inf)
    y, x = (int(p) for p in np.unravel_index(inside.argmax(), inside.shape))
    score = float(inside[y, x])
    line: dict[str, Any] = {"channels": (z0, z1), "z": float(row["z"]), "fwhm": float(row["w50"])}
    whole = z1 - z0 > len(planes) / 2
    return Source(
        float(row["x"]),
        float(row["y"]),
        box_of(image, y + y0, x + x0),
        "continuum" if whole else "line",
        score,
        prob=float(row["rel"]) if with_reliability else np.nan,
        mask=((z0, y0, x0), own),
        **({} if whole else line),
    )


@dataclass(frozen=True)
class Finder:
    """A finder, what it needs, and the grid of parameters tried on validation cubes.

    ``order`` names two parameters of which the first may not exceed the second, ``ends`` the values at which the range
    of a parameter ends, so that nothing better can lie beyond.  ``program`` gives the version of a finder that is a
    program instead of a package, or raises FileNotFoundError if it is not installed.
    """

    find: Callable[..., list[Source]]
    grid: dict[str, tuple[float, ...]]
    package: str = "scipy"
    program: Callable[[], str] | None = None
    order: tuple[str, str] | None = None
    ends: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, float]:
        """Default parameters."""
        return {name: p.default for name, p in signature(self.find).parameters.items() if p.kind == p.KEYWORD_ONLY}

    def combinations(self) -> list[dict[str, float]]:
        """All combinations of the grid in the order that the finder demands."""
        every = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        if self.order is None:
            return every
        low, high = self.order
        return [one for one in every if one[low] <= one[high]]

    def edges(self, parameters: dict[str, float]) -> list[str]:
        """Names of the parameters at the lowest or highest value of their grid, beyond which a better one may lie.

        A grid of two values is a choice, and has no edges.
        """
        return [
            name
            for name, values in self.grid.items()
            if len(values) > 2
            and parameters[name] in (min(values), max(values))
            and parameters[name] not in self.ends.get(name, ())
        ]


# Each grid is meant to reach past the highest F1 on both sides; `tuning.choose` says where it does not.
FINDERS = {
    "peaks": Finder(peaks, {"threshold": (4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0)}),
    "matched-filter": Finder(
        matched_filter,
        {
            "threshold": (5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0, 13.0),
            "continuum": (4.5, 5.0, 5.5, 6.0, 7.0, 9.0),
            "fidelity": (0.0, 0.7, 1.0),
        },
        ends={"fidelity": (0.0, 1.0)},
    ),
    "flood-fill": Finder(
        flood_fill,
        {"threshold": (4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 10.0), "flood": (2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0)},
        order=("flood", "threshold"),
    ),
    "sep": Finder(
        sep,
        {"threshold": (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.5, 9.0), "minarea": (1, 5, 10, 20, 40)},
        "sep",
        ends={"minarea": (1,)},
    ),
    "photutils": Finder(
        photutils,
        {"threshold": (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.5, 9.0), "npixels": (1, 5, 10, 20, 40)},
        "photutils",
        ends={"npixels": (1,)},
    ),
    "aegean": Finder(
        aegean,
        {"threshold": (4.5, 5.0, 5.5, 6.0, 6.5, 7.5, 9.0), "flood": (2.5, 3.0, 4.0, 5.0, 6.0)},
        "AegeanTools",
        order=("flood", "threshold"),
    ),
    "pybdsf": Finder(
        pybdsf,
        {"threshold": (4.5, 5.0, 5.5, 6.0, 6.5, 7.5, 9.0), "island": (2.5, 3.0, 3.5, 4.5, 5.5)},
        "bdsf",
        order=("island", "threshold"),
    ),
    "dendrogram": Finder(
        dendrogram,
        {"threshold": (2.5, 3.0, 3.5, 4.0, 5.0), "delta": (1.5, 2.0, 2.5, 3.0, 4.0), "npix": (1, 5, 10, 20)},
        "astrodendro",
        ends={"npix": (1,)},
    ),
    "sofia": Finder(
        sofia,
        {"threshold": (3.5, 4.5, 5.5, 7.0, 9.0, 12.0), "reliability": (0.0, 0.9), "longest": (15, 63)},
        "SoFiA-2",
        program=sofia_2.program_version,
    ),
}
