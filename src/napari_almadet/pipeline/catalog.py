"""What a detection run returns: candidates, and the catalogue made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from astropy import constants
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
    err_x: float = np.nan
    err_y: float = np.nan
    err_z: float = np.nan
    f_sum: float = np.nan  # integrated flux
    err_f_sum: float = np.nan
    f_max: float = np.nan
    peak: float = np.nan  # brightness of the fitted source at its peak and its line's
    err_peak: float = np.nan
    w20: float = np.nan
    err_w20: float = np.nan
    w50: float = np.nan
    err_w50: float = np.nan
    fwhm: float = np.nan  # of the Gaussian fitted to the line
    err_fwhm: float = np.nan
    dc_maj: float = np.nan  # of the fitted source, the beam taken off; arcsec
    err_dc_maj: float = np.nan
    dc_min: float = np.nan
    err_dc_min: float = np.nan
    dc_pa: float = np.nan  # degrees from North through East
    err_dc_pa: float = np.nan
    dc_limit: float = np.nan
    rms: float = np.nan
    rel: float = np.nan  # reliability by the negated cube, see pipeline.reliability
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
    ``stacked`` and ``probability`` are (y, x) images of the whole field.  ``negatives`` are ``prob`` and
    ``snr_pixel`` of what was found in the negated cube, (n, 2), if that was searched.
    """

    cube: Cube
    settings: Settings
    candidates: list[Candidate]
    stacked: np.ndarray
    probability: np.ndarray
    provenance: dict  # package version, device, weights' sha256 and the cube's
    warnings: list[str] = field(default_factory=list)
    negatives: np.ndarray | None = None

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
        x, y, z, err_x, err_y, err_z = (
            np.array([getattr(c, name) for c in rows], dtype=float)
            for name in ("x", "y", "z", "err_x", "err_y", "err_z")
        )
        sky = self.cube.sky(x, y)
        frequency, velocity = self.cube.frequency(z), self.cube.velocity(z)
        err_frequency, err_velocity = (_spread(axis, z, err_z) for axis in (self.cube.frequency, self.cube.velocity))
        response, undone = _primary_beam(self.cube, x, y, z)
        err_ra, err_dec = _sky_errors(self.cube, x, y, err_x, err_y)
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
            "err_x": err_x * u.pix,
            "err_y": err_y * u.pix,
            "err_z": err_z * u.chan,
            "x_min": indices([c.box.x0 for c in rows]),
            "x_max": indices([c.box.x1 - 1 for c in rows]),
            "y_min": indices([c.box.y0 for c in rows]),
            "y_max": indices([c.box.y1 - 1 for c in rows]),
            "z_min": indices([c.channels[0] for c in rows]),
            "z_max": indices([c.channels[1] - 1 for c in rows]),
            "ra": unknown * u.deg if sky is None else sky.icrs.ra.to(u.deg).view(u.Quantity),
            "dec": unknown * u.deg if sky is None else sky.icrs.dec.to(u.deg).view(u.Quantity),
            "err_ra": err_ra,
            "err_dec": err_dec,
            "freq": unknown * u.Hz if frequency is None else frequency.to(u.Hz),
            "err_freq": unknown * u.Hz if err_frequency is None else err_frequency.to(u.Hz),
            "v_rad": unknown * u.km / u.s if velocity is None else velocity.to(u.km / u.s),
            "err_v_rad": unknown * u.km / u.s if err_velocity is None else err_velocity.to(u.km / u.s),
            "f_sum": numbers("f_sum", flux),
            "err_f_sum": numbers("err_f_sum", flux),
            "pb": response,
            "f_sum_pb": numbers("f_sum", flux) / undone,
            "err_f_sum_pb": numbers("err_f_sum", flux) / undone,
            "f_max": numbers("f_max", brightness),
            "peak": numbers("peak", brightness),
            "err_peak": numbers("err_peak", brightness),
            **{name: numbers(name, width) for name in ("w20", "err_w20", "w50", "err_w50", "fwhm", "err_fwhm")},
            **{name: numbers(name, u.arcsec) for name in ("dc_maj", "err_dc_maj", "dc_min", "err_dc_min")},
            "dc_pa": numbers("dc_pa", u.deg),
            "err_dc_pa": numbers("err_dc_pa", u.deg),
            "dc_limit": numbers("dc_limit", u.arcsec),
            "rms": numbers("rms", brightness),
            "prob": plain("prob", float),
            "rel": plain("rel", float),
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
        table = QTable(columns, meta={**self.about(), "decisions": decisions})
        for name, told in descriptions(self.cube).items():
            table[name].info.description = told
        return table

    def about(self) -> dict:
        """Settings, provenance, warnings and negatives as plain values."""
        return {
            "settings": self.settings.as_dict(),
            "provenance": self.provenance,
            "warnings": list(self.warnings),
            "negatives": None if self.negatives is None else np.round(self.negatives, 6).tolist(),
        }

    def write(self, folder: str | Path) -> Path:
        """Write all there is to a folder, see :func:`napari_almadet.pipeline.folder.write`."""
        from napari_almadet.pipeline.folder import write

        return write(self, folder)


def brightness_unit(cube: Cube) -> u.UnitBase:
    """The cube's brightness unit, dimensionless where unknown."""
    return u.dimensionless_unscaled if cube.unit is None else cube.unit


def flux_factor(cube: Cube, channel=None) -> tuple[float | np.ndarray, u.UnitBase]:
    """What turns a sum over pixels into a flux density, and its unit.

    Jy/beam and a known beam give Jy, and so does Jy/pixel.  K does where the frequency and the pixels' size are
    known, by the law of Rayleigh and Jeans, 2 k f² / c² a steradian.  Of any other brightness (Jy/beam without a
    beam) a sum is what it is, brightness times pixels.

    Parameters
    ----------
    channel
        Channels, shape (n,), each with a beam and frequency of its own; the factor is then an array.  Default: the
        cube's one beam, and the frequency of the middle.
    """
    unit = brightness_unit(cube)
    ones = 1.0 if channel is None else np.ones(len(channel))
    powers = dict(zip(unit.bases, unit.powers, strict=True))
    if powers.get(u.beam) == -1 and cube.beam_area:
        if channel is None or cube.beams.isscalar:
            return ones / cube.beam_area, unit * u.beam
        areas = np.asarray(cube.beams.value)[channel] / cube.beam.value * cube.beam_area
        return 1 / np.where(areas > 0, areas, cube.beam_area), unit * u.beam
    if unit.is_equivalent(u.K) and cube.pixel_scale is not None:
        frequency = cube.frequency((cube.shape[0] - 1) / 2 if channel is None else channel)
        if frequency is not None:
            kelvin = (2 * constants.k_B * frequency**2 / constants.c**2 * unit).to_value(u.Jy)
            return ones * kelvin * (cube.pixel_scale**2).to_value(u.sr), u.Jy
    return ones, unit * u.pix


def channel_width(cube: Cube, z: float | None = None) -> u.Quantity:
    """Width of the channel at ``z`` (default: the middle one), in km/s where a velocity is known, else Hz or chan."""
    z = (cube.shape[0] - 1) / 2 if z is None else z
    for coordinate in (cube.velocity, cube.frequency):
        width = _spread(coordinate, z, 1.0)
        if width is not None:
            return width
    return 1.0 * u.chan


def descriptions(cube: Cube) -> dict[str, str]:
    """What a reader of the table has to know of some columns of a cube: conventions and frames."""
    frame = cube.spectral_frame or "a frame that the header does not name"
    rest = "unknown" if cube.rest_frequency is None else f"{cube.rest_frequency.to_value(u.GHz):.9g} GHz"
    return {
        "ra": "ICRS",
        "dec": "ICRS",
        "err_ra": "along the sky: times cos(dec)",
        "freq": f"in {frame}",
        "v_rad": f"radio velocity in {frame}, rest frequency {rest}",
        "dc_limit": "FWHM; less than this at 2 standard deviations",
    }


def _spread(coordinate, z, width) -> u.Quantity | None:
    """How much a spectral coordinate changes over ``width`` channels about ``z``."""
    low, high = coordinate(np.asarray(z) - 0.5), coordinate(np.asarray(z) + 0.5)
    return None if low is None else abs(high - low) * width


def _primary_beam(cube: Cube, x, y, z) -> tuple[np.ndarray, np.ndarray]:
    """Response of the antennas at places in the cube, and what fluxes are to be divided by; NaN where unknown."""
    if cube.primary_beam is None:
        return (np.full(len(x), np.nan),) * 2
    response = np.array([cube.primary_beam.at(*place) for place in zip(x, y, z, strict=True)], dtype=float)
    return response, np.where(np.isnan(response), np.nan, 1.0) if cube.primary_beam.corrected else response


def _sky_errors(cube: Cube, x, y, err_x, err_y) -> tuple[u.Quantity, u.Quantity]:
    """Errors along right ascension, on the sky, and declination (ICRS), by the errors of x and y; NaN without WCS."""
    if cube.celestial is None:
        return (np.full(len(x), np.nan) * u.arcsec,) * 2
    east, north = np.zeros((2, len(x)))
    for dx, dy, error in ((0.5, 0, err_x), (0, 0.5, err_y)):
        low, high = cube.sky(x - dx, y - dy).icrs, cube.sky(x + dx, y + dy).icrs
        to_east = (high.ra - low.ra).wrap_at(180 * u.deg).to_value(u.arcsec) * np.cos(high.dec.to_value(u.rad))
        east += (to_east * error) ** 2
        north += ((high.dec - low.dec).to_value(u.arcsec) * error) ** 2
    return np.sqrt(east) * u.arcsec, np.sqrt(north) * u.arcsec
