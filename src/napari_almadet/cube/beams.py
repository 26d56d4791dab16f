"""The restoring beam of a cube: from a table with one beam per channel, the header's cards, or AIPS' HISTORY."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits

from napari_almadet.constants import ARCSEC_PER_DEGREE, BEAM_AREA
from napari_almadet.cube.headers import parse_unit, positive

if TYPE_CHECKING:
    from radio_beam import Beams

    from napari_almadet.cube.cube import Cube

_N = r"=\s*([-+.\dEeDd]+)\s*"
AIPS_BEAM = re.compile(rf"AIPS\s+CLEAN\s+BMAJ{_N}BMIN{_N}BPA{_N}")
# Relative excess of the minor axis over the major that rounding in headers can cause; chosen by eye.
ROUNDING = 1e-3
FAR_LARGER = 100.0  # times the area of the field: a beam that large is ignored, fluxes would be meaningless
ARCSEC_PIXELS = (1.0, 100.0)  # px, plausible FWHM of a beam; if BMAJ fits only when read in arcsec, it is in arcsec


@dataclass(frozen=True, eq=False)
class Beam:
    """The beam of a header, as `radio_beam.Beam` has it, which takes a third of a second to import.

    Whatever else that class can do, this one asks it for.

    Attributes
    ----------
    major, minor
        FWHM along the axes, angles.
    pa
        Position angle of the major axis, from North through East.
    """

    major: u.Quantity
    minor: u.Quantity
    pa: u.Quantity

    isscalar = True  # one for all channels

    @property
    def sr(self) -> u.Quantity:
        """Solid angle of the Gaussian."""
        return (BEAM_AREA * self.major * self.minor).to(u.sr)

    @property
    def value(self) -> float:
        """Solid angle in steradians."""
        return float(self.sr.value)

    @property
    def radio_beam(self) -> Any:
        """This beam as a `radio_beam.Beam`."""
        from radio_beam import Beam as RadioBeam

        return RadioBeam(self.major, self.minor, self.pa)

    def __eq__(self, other: object) -> bool:
        try:
            return bool(self.radio_beam == (other.radio_beam if isinstance(other, Beam) else other))
        except (AttributeError, TypeError):  # not a beam
            return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copying and pickling look for before there is a beam
            raise AttributeError(name)
        return getattr(self.radio_beam, name)


def beams_of(
    tables: list[fits.BinTableHDU], header: fits.Header, channels: int, polarisation: int, notes: list[str]
) -> Beams | Beam | None:
    """The beams of the first table that fits the cube, or the header's beam, or AIPS' in HISTORY, or None."""
    for table in tables:
        try:
            beams = _beam_table(table, channels, polarisation, notes)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            notes.append(f"The beam table was ignored: {error}.")
            continue
        if beams.isscalar:
            notes.append("The beam table has one row, which is used for all channels.")
            return beams
        sizes = np.sqrt(beams.major * beams.minor).to_value("arcsec")[beams.value > 0]
        notes.append(
            f"Each channel has its own beam, from {sizes.min():.3g} to {sizes.max():.3g} arcsec; "
            "the one with the median area represents all."
        )
        return beams
    angles = _cards(header) or _history(header)
    if angles is None:
        promised = ", though CASAMBM promises a table of them" if header.get("CASAMBM") else ""
        notes.append(f"The file gives no beam{promised}.")
        return None
    return _beam(*angles, notes)


def _cards(header: fits.Header) -> tuple[float, float, float] | None:
    """Major and minor axis and position angle in degrees; a beam without a minor axis is round."""
    major = header.get("BMAJ")
    minor = header.get("BMIN", major)
    if not positive(major) or not positive(minor):
        return None
    angle = header.get("BPA", 0.0)
    return float(major), float(minor), float(angle) if isinstance(angle, int | float) and np.isfinite(angle) else 0.0


def _history(header: fits.Header) -> tuple[float, float, float] | None:
    """The beam that AIPS wrote last to HISTORY, in its fixed format; other mentions of beams are ignored."""
    if "HISTORY" not in header:
        return None
    for line in reversed([str(line) for line in header["HISTORY"]]):
        if not (match := AIPS_BEAM.search(line)):
            continue
        try:
            major, minor, angle = (float(text.upper().replace("D", "E")) for text in match.groups())
        except ValueError:
            continue
        if positive(major) and positive(minor):
            return major, minor, angle
    return None


def _beam(major: float, minor: float, angle: float, notes: list[str]) -> Beam | None:
    if minor > major:
        if minor > major * (1 + ROUNDING):
            notes.append("The header's beam was ignored: its minor axis is larger than its major axis.")
            return None
        major, minor = minor, major
        notes.append("Due to rounding the beam's minor axis is larger than its major axis; they were swapped.")
    beam = Beam(major * u.deg, minor * u.deg, angle * u.deg)
    if not positive(float(beam.value)):
        notes.append("The file gives no beam: the one in the header has no area.")
        return None
    return beam


def _beam_table(hdu: fits.BinTableHDU, channels: int, polarisation: int, notes: list[str]) -> Beams | Beam:
    """The beams of CASA's table in order of channel; one beam where it has one row.

    Raises
    ------
    ValueError
        If it does not fit the cube.
    """
    from radio_beam import Beams

    missing = {"BMAJ", "BMIN", "BPA"} - set(hdu.columns.names)
    if missing:
        raise ValueError(f"it has no column {', '.join(sorted(missing))}")
    rows = _by_channel(hdu, channels, polarisation, notes)
    if len(rows) not in (1, channels):
        raise ValueError(f"it has {len(rows)} beams for {channels} channels")
    angles = []
    for name, default in (("BMAJ", "arcsec"), ("BMIN", "arcsec"), ("BPA", "deg")):
        unit, _ = parse_unit(hdu.columns[name].unit or default)
        if unit is None or not unit.is_equivalent(u.deg):
            raise ValueError(f"the unit of {name} is {hdu.columns[name].unit}")
        angles.append(u.Quantity(rows[name].astype(float), unit))
    major, minor, angle = angles
    swapped = (minor > major) & (minor <= major * (1 + ROUNDING))
    major, minor = np.where(swapped, minor, major), np.where(swapped, major, minor)
    none = ~(np.isfinite(major.value) & (major.value > 0) & np.isfinite(minor.value) & (minor.value > 0))
    none |= minor > major
    if none.all():
        raise ValueError("no beam in it has a size")
    if none.any():
        notes.append(f"{none.sum()} of {len(rows)} rows of the beam table contain no beam and were ignored.")
    major[none], minor[none] = 0, 0
    angle = np.nan_to_num(angle, nan=0.0, posinf=0.0, neginf=0.0)
    beams = Beams(major, minor, angle)
    return beams[0] if len(rows) == 1 else beams


def _by_channel(hdu: fits.BinTableHDU, channels: int, polarisation: int, notes: list[str]) -> np.ndarray:
    """The rows of one polarisation in order of channel; if CHAN and POL are inconsistent, in the order of the table."""
    rows, names = hdu.data, hdu.columns.names
    if len(rows) <= 1:
        return rows
    if "POL" in names and len(rows) != channels:
        of_ours = rows[rows["POL"] == polarisation]
        rows = of_ours if len(of_ours) else rows
    elif "POL" in names and len(set(np.asarray(rows["POL"]).tolist())) > 1:
        notes.append(
            "The column POL of the beam table is inconsistent and was ignored: there is one row for each channel."
        )
    if "CHAN" not in names:
        return rows
    numbers = np.asarray(rows["CHAN"])
    order = np.argsort(numbers, kind="stable")
    if np.issubdtype(numbers.dtype, np.number) and np.array_equal(numbers[order] - numbers.min(), np.arange(len(rows))):
        return rows[order]
    notes.append("The column CHAN of the beam table is inconsistent and was ignored: the rows are used in order.")
    return rows


def with_plausible_beam(cube: Cube, notes: list[str]) -> Cube:
    """The cube with a plausible beam: BMAJ in arcsec is converted, and a beam much larger than the field is removed."""
    if cube.beam_area is None or cube.beam is None or cube.beams is None or cube.pixel_scale is None:
        return cube
    ny, nx = cube.shape[1:]
    scale = cube.pixel_scale.to_value(u.arcsec)
    major, field = cube.beam.major.to_value(u.arcsec), scale * max(ny, nx)
    if major <= field:
        return cube
    least, most = ARCSEC_PIXELS
    if cube.beams.isscalar and least < major / ARCSEC_PER_DEGREE / scale < min(most, max(ny, nx) / 2):
        beam = Beam(cube.beams.major / ARCSEC_PER_DEGREE, cube.beams.minor / ARCSEC_PER_DEGREE, cube.beams.pa)
        notes.append(
            f"The beam of {major:.3g} arcsec is larger than the field of {field:.3g} arcsec: "
            f"BMAJ and BMIN were read as {beam.major.to_value(u.arcsec):.3g} and "
            f"{beam.minor.to_value(u.arcsec):.3g} arcsec."
        )
        return replace(cube, beams=beam)
    if cube.beam_area > FAR_LARGER * ny * nx:
        notes.append(f"The beam of {cube.beam.major.to('deg'):.3g} is far larger than the field, and was ignored.")
        return replace(cube, beams=None)
    notes.append(f"The beam of {major:.3g} arcsec is larger than the field of {field:.3g} arcsec: is BMAJ in degrees?")
    return cube
