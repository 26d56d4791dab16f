"""What a detection run returns: candidates, and the catalogue made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import QTable

from napari_almadet.pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_almadet.cube import Cube


class Fate(StrEnum):
    """What the decision graph did with a candidate."""

    KEPT = "kept"
    FLAGGED = "flagged"  # kept, but looks like a superposition that could not be taken apart
    DROPPED = "dropped"


VERDICTS = ("unseen", "accepted", "rejected")
ORIGINS = ("found", "edited", "drawn", "imported")  # by the pipeline; changed, made or brought by the astronomer


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, half-open as numpy slices are: ``image[y0:y1, x0:x1]``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index for a (..., y, x) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def centre(self) -> tuple[float, float]:
        """(y, x) of the middle, 0-based pixel centres."""
        return (self.y0 + self.y1 - 1) / 2, (self.x0 + self.x1 - 1) / 2

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    def inside(self, field: tuple[int, int]) -> Box:
        """The part of the box in a field of (height, width) pixels.

        Raises
        ------
        ValueError
            If there is none.
        """
        ny, nx = field
        part = Box(max(self.y0, 0), min(self.y1, ny), max(self.x0, 0), min(self.x1, nx))
        if min(part.shape) < 1:
            raise ValueError(f"the box lies outside the field of {nx} x {ny} pixels")
        return part


@dataclass(frozen=True)
class EmissionPeak:
    """A peak of a denoised spectrum and the Gaussian fitted to it (paper, step 7); channels are 0-based.

    ``height`` is the denoised spectrum at ``channel`` (0 to 1); ``amplitude``, ``centre``
    and ``fwhm`` are the fit's, the latter two in channels.
    """

    channel: int
    height: float
    amplitude: float
    centre: float
    fwhm: float

    def same_line(self, other: EmissionPeak) -> bool:
        """Whether two fits are of one line: their centres differ by no more than half the sum of their FWHMs."""
        return abs(self.centre - other.centre) <= (self.fwhm + other.fwhm) / 2

    def emission_range(self, n_channels: int) -> tuple[int, int]:
        """Half-open channel range of the line, its centre -+ FWHM, clipped to the cube.

        The paper integrates "within the peak FWHM"; its scripts and this project's
        evaluation protocol take one FWHM to either side of the centre.
        """
        low = int(np.floor(self.centre - self.fwhm + 0.5))
        high = int(np.floor(self.centre + self.fwhm + 0.5)) + 1
        low = min(max(low, 0), n_channels - 1)
        return low, min(max(high, low + 1), n_channels)


@dataclass
class Candidate:
    """One candidate with all the pipeline learnt of it.

    ``spectrum`` is the dirty spectrum (sum over the box in each channel, in the cube's
    unit; NaN where the channel has no data), ``denoised`` Deep GRU's answer (0 to 1).
    ``focused`` is the (crop, crop) image integrated over the emission range, NaN outside
    the field, whose pixel [0, 0] is pixel ``focus_origin`` = (y, x) of the cube.
    ``reasons`` tells, in order, every decision that was taken about the candidate.
    """

    id: int
    box: Box
    prob: float
    spectrum: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    denoised: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    peaks: tuple[EmissionPeak, ...] = ()
    channels: tuple[int, int] = (0, 0)  # half-open emission range of the primary peak
    fate: Fate = Fate.KEPT
    reasons: list[str] = field(default_factory=list)
    focused: np.ndarray | None = None
    focus_origin: tuple[int, int] = (0, 0)
    snr_global: float = np.nan  # eq. 3, of the focused image
    snr_pixel: float = np.nan  # eq. 4, highest inside the box
    blended: bool = False
    edge: bool = False
    kind: str = "line"  # "line", "continuum" or "both"
    # measured by pipeline.measure.measure, in the units of the catalogue; x, y, z flux-weighted, 0-based
    x: float = np.nan
    y: float = np.nan
    z: float = np.nan
    f_sum: float = np.nan  # integrated flux
    err_f_sum: float = np.nan
    f_max: float = np.nan
    w20: float = np.nan
    w50: float = np.nan
    rms: float = np.nan
    verdict: str = "unseen"  # one of VERDICTS: the astronomer's
    note: str = ""
    origin: str = "found"  # one of ORIGINS: whose box and emission range these are

    @property
    def primary(self) -> EmissionPeak | None:
        """The highest peak, on which the candidate is focused."""
        return self.peaks[0] if self.peaks else None

    @property
    def position(self) -> tuple[float, float]:
        """(x, y) in pixels: the flux-weighted centre, or the box's where that was not measured."""
        if np.isfinite(self.x) and np.isfinite(self.y):
            return self.x, self.y
        y, x = self.box.centre
        return x, y

    def is_at(self, centre: tuple[float, float], peaks: tuple[EmissionPeak, ...]) -> bool:
        """Whether (y, x) lies in the candidate's box and one of ``peaks`` is one of its lines."""
        y, x = centre
        inside = self.box.y0 - 0.5 <= y < self.box.y1 - 0.5 and self.box.x0 - 0.5 <= x < self.box.x1 - 0.5
        return inside and any(mine.same_line(other) for mine in self.peaks for other in peaks)


@dataclass
class Detections:
    """Result of :func:`napari_almadet.detect` on one cube.

    ``candidates`` holds all of them, the dropped too; ``kept`` those the catalogue lists.
    ``stacked`` and ``probability`` are (y, x) images of the whole field.
    """

    cube: Cube
    settings: Settings
    candidates: list[Candidate]
    stacked: np.ndarray
    probability: np.ndarray
    provenance: dict  # package version, device, weights' sha256 and the cube's
    warnings: list[str] = field(default_factory=list)

    @property
    def kept(self) -> list[Candidate]:
        """Candidates that were not dropped, in order of ``id``."""
        return [c for c in self.candidates if c.fate is not Fate.DROPPED]

    @property
    def flux_unit(self) -> u.UnitBase:
        """Unit of the candidates' ``f_sum`` and ``err_f_sum``."""
        return flux_factor(self.cube)[1] * self.width_unit

    @property
    def width_unit(self) -> u.UnitBase:
        """Unit of the candidates' ``w20`` and ``w50``."""
        return channel_width(self.cube).unit

    def drawn(self, box: Box, origin: str = "drawn") -> Candidate:
        """A candidate of the astronomer's own, with the next free ``id``; it is neither measured nor added yet.

        Raises
        ------
        ValueError
            If the box lies outside the field.
        """
        number = max((candidate.id for candidate in self.candidates), default=0) + 1
        return Candidate(number, box.inside(self.cube.shape[1:]), np.nan, origin=origin)

    def table(self, candidates: Sequence[Candidate] | None = None) -> QTable:
        """The catalogue: one row for each candidate, by default the kept ones; columns as in ``docs/catalogue.md``.

        All columns are always there; what the cube's header does not let know is NaN.
        The metadata holds settings, provenance, warnings and, for every candidate, the
        dropped too, the decisions taken about it.
        """
        rows = self.kept if candidates is None else candidates
        flux, width, brightness = self.flux_unit, self.width_unit, brightness_unit(self.cube)
        x, y, z = (np.array([getattr(c, axis) for c in rows], dtype=float) for axis in "xyz")
        sky = self.cube.sky(x, y)
        frequency, velocity = self.cube.frequency(z), self.cube.velocity(z)
        unknown = np.full(len(rows), np.nan)

        def numbers(name: str, unit: u.UnitBase) -> u.Quantity:
            return u.Quantity([getattr(c, name) for c in rows], unit, dtype=float)

        def plain(name: str, dtype: type) -> np.ndarray:
            return np.array([getattr(c, name) for c in rows], dtype=dtype)

        def indices(values) -> np.ndarray:  # plain integers, fit to slice with
            return np.array(values, dtype=int)

        columns = {
            "id": plain("id", int),
            "x": x * u.pix,
            "y": y * u.pix,
            "z": z * u.chan,
            "x_min": indices([c.box.x0 for c in rows]),
            "x_max": indices([c.box.x1 - 1 for c in rows]),
            "y_min": indices([c.box.y0 for c in rows]),
            "y_max": indices([c.box.y1 - 1 for c in rows]),
            "z_min": indices([c.channels[0] for c in rows]),
            "z_max": indices([c.channels[1] - 1 for c in rows]),
            "ra": unknown * u.deg if sky is None else sky.icrs.ra.to(u.deg).view(u.Quantity),
            "dec": unknown * u.deg if sky is None else sky.icrs.dec.to(u.deg).view(u.Quantity),
            "freq": unknown * u.Hz if frequency is None else frequency.to(u.Hz),
            "v_rad": unknown * u.km / u.s if velocity is None else velocity.to(u.km / u.s),
            "f_sum": numbers("f_sum", flux),
            "err_f_sum": numbers("err_f_sum", flux),
            "f_max": numbers("f_max", brightness),
            "w20": numbers("w20", width),
            "w50": numbers("w50", width),
            "rms": numbers("rms", brightness),
            "prob": plain("prob", float),
            "snr_global": plain("snr_global", float),
            "snr_pixel": plain("snr_pixel", float),
            "n_peaks": indices([len(c.peaks) for c in rows]),
            "blended": plain("blended", bool),
            "edge": plain("edge", bool),
            "kind": plain("kind", str),
            "verdict": plain("verdict", str),
            "note": plain("note", str),
            "origin": plain("origin", str),
            "fate": plain("fate", str),
        }
        decisions = {str(c.id): {"fate": str(c.fate), "reasons": list(c.reasons)} for c in self.candidates}
        return QTable(columns, meta={**self.about(), "decisions": decisions})

    def about(self) -> dict:
        """Settings, provenance and warnings as plain values."""
        return {"settings": self.settings.as_dict(), "provenance": self.provenance, "warnings": list(self.warnings)}

    def write(self, folder: str | Path) -> Path:
        """Write all there is to a folder, see :func:`napari_almadet.pipeline.folder.write`."""
        from napari_almadet.pipeline.folder import write

        return write(self, folder)


def brightness_unit(cube: Cube) -> u.UnitBase:
    """The cube's brightness unit, dimensionless where unknown."""
    return u.dimensionless_unscaled if cube.unit is None else cube.unit


def flux_factor(cube: Cube) -> tuple[float, u.UnitBase]:
    """What turns a sum over pixels into a flux density, and its unit.

    Jy/beam and a known beam give Jy, and so does Jy/pixel; of any other brightness (K,
    or Jy/beam without a beam) a sum is what it is, brightness times pixels.
    """
    unit = brightness_unit(cube)
    powers = dict(zip(unit.bases, unit.powers, strict=True))
    if powers.get(u.beam) == -1 and cube.beam_area:
        return 1 / cube.beam_area, unit * u.beam
    return 1.0, unit * u.pix


def channel_width(cube: Cube, z: float | None = None) -> u.Quantity:
    """Width of the channel at ``z`` (default: the middle one), in km/s where a velocity is known, else Hz or chan."""
    z = (cube.shape[0] - 1) / 2 if z is None else z
    for coordinate in (cube.velocity, cube.frequency):
        edges = coordinate(np.array([z - 0.5, z + 0.5]))
        if edges is not None:
            return abs(edges[1] - edges[0])
    return 1.0 * u.chan
