"""Catalogues, regions and spectra for other programs, and from them: TOPCAT, DS9, CARTA, CASA, SoFiA-2."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.wcs.utils import wcs_to_celestial_frame

from napari_almadet.pipeline.catalog import Box, Candidate, Detections, brightness_unit

if TYPE_CHECKING:
    from regions import Region, Regions

    from napari_almadet.cube import Cube

CATALOGUES = {".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable", ".fits": "fits", ".csv": "ascii.csv"}
REGIONS = {".reg": "ds9", ".crtf": "crtf"}
SPECTRA = (".fits", ".ecsv")
EDGES = ("x_min", "x_max", "y_min", "y_max")
POSITION_BEAMS = 2.0  # a position without a size becomes a box of this many beams


class ExchangeError(ValueError):
    """A file that cannot be written or taken in; the message says why."""


# --- out -----------------------------------------------------------------------------------------------------------


def write_catalogue(detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None) -> Path:
    """Write the catalogue as ECSV, VOTable, FITS or CSV, by the ending of ``path``.

    ECSV keeps all: units, notes in any script, settings and decisions.  VOTable and FITS
    keep the units; FITS knows ASCII only, other letters of notes become escapes.  CSV
    has neither units nor metadata.

    Parameters
    ----------
    path
        Ends in .ecsv, .vot, .xml, .fits or .csv; an existing file is replaced once the new one is whole.
    candidates
        Default: the kept ones.

    Raises
    ------
    ExchangeError
        If the ending is none of these.
    """
    path = Path(path)
    form = _by_ending(path, CATALOGUES)
    table = detections.table(candidates)
    if form in ("votable", "fits"):
        table.meta = {"CREATOR": f"napari-almadet {detections.provenance.get('version', '')}".rstrip()}
    if form == "fits":
        table["note"] = [str(note).encode("ascii", "backslashreplace").decode() for note in table["note"]]
    with replacing(path) as beside:
        table.write(beside, format=form)
    return path


def regions(detections: Detections, candidates: Sequence[Candidate] | None = None) -> Regions:
    """Candidates' boxes as `regions`: on the sky where the cube has a WCS, else in pixels; by default the kept ones.

    Their metadata holds the number, and the emission range: as a tag for DS9, and as
    CRTF's ``range`` in frequency, or in channels where the frequency is not known.
    """
    from regions import PixCoord, RectanglePixelRegion, Regions

    cube, boxes = detections.cube, []
    for candidate in detections.kept if candidates is None else candidates:
        (y, x), (height, width) = candidate.box.centre, candidate.box.shape
        box = RectanglePixelRegion(PixCoord(x, y), width, height)
        box = box if cube.celestial is None else box.to_sky(cube.celestial)
        first, last = candidate.channels[0], candidate.channels[1] - 1
        box.meta.update(text=str(candidate.id), label=str(candidate.id), tag=[f"channels {first}-{last}"])
        box.meta.update(range=_spectral_range(cube, first, last))
        if cube.wcs is not None and cube.wcs.wcs.specsys and cube.frequency(0) is not None:
            box.meta["frame"] = cube.wcs.wcs.specsys
        boxes.append(box)
    return Regions(boxes)


def write_regions(detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None) -> Path:
    """Write candidates' boxes as DS9's (.reg) or CASA's and CARTA's (.crtf) regions; by default the kept ones'.

    Raises
    ------
    ExchangeError
        If the ending is neither.
    """
    path = Path(path)
    form = _by_ending(path, REGIONS)
    text = regions_text(regions(detections, candidates), detections.cube, form)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def regions_text(boxes: Regions, cube: Cube, form: str) -> str:
    """What :func:`regions` gives as the text of a region file, ``form`` "ds9" or "crtf"."""
    wcs = cube.celestial
    if form == "ds9":
        return boxes.serialize(format="ds9")
    if wcs is not None:
        # in the cube's own frame: regions turns positions to another, but not the boxes' angles
        return boxes.serialize(format="crtf", coordsys=wcs_to_celestial_frame(wcs).name, fmt=".9f")
    # regions 0.12 writes the pixels of a region as degrees
    lines = ["#CRTFv0"]
    for box in boxes:
        x, y, width, height = box.center.x, box.center.y, box.width / 2, box.height / 2
        low, high = (str(end).replace(" ", "") for end in box.meta["range"])
        corners = f"[[{x - width}pix, {y - height}pix], [{x + width}pix, {y + height}pix]]"
        lines.append(f"box {corners}, label='{box.meta['label']}', range=[{low}, {high}]")
    return "\n".join(lines) + "\n"


def write_spectra(detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None) -> Path:
    """Write the dirty and denoised spectra of candidates to one file, by default those of the kept ones.

    FITS: a table ``SPECTRA`` with a row for each candidate (``id``, ``dirty``, ``denoised``)
    and a table ``AXIS`` with ``channel``, ``freq`` and ``v_rad``.  ECSV: a row for each
    channel, with columns ``dirty_1``, ``denoised_1`` and so on by the candidates' numbers.
    Dirty spectra are sums over the box, in the cube's brightness unit times pixels.

    Raises
    ------
    ExchangeError
        If the ending is neither .fits nor .ecsv.
    """
    path = Path(path)
    _by_ending(path, dict.fromkeys(SPECTRA))
    chosen = detections.kept if candidates is None else list(candidates)
    axis, unit = _axis(detections.cube), brightness_unit(detections.cube) * u.pix
    with replacing(path) as beside:
        if path.suffix.lower() == ".ecsv":
            for candidate in chosen:
                axis[f"dirty_{candidate.id}"] = candidate.spectrum * unit
                axis[f"denoised_{candidate.id}"] = candidate.denoised
            axis.write(beside, format="ascii.ecsv")
        else:
            fits.HDUList(
                [
                    fits.PrimaryHDU(),
                    fits.table_to_hdu(spectra_table(detections, chosen), name="SPECTRA"),
                    fits.table_to_hdu(axis, name="AXIS"),
                ]
            ).writeto(beside)
    return path


def spectra_table(detections: Detections, candidates: Sequence[Candidate]) -> QTable:
    """Dirty and denoised spectra, a row for each candidate; NaN where there is no spectrum yet."""
    n_channels = detections.cube.shape[0]

    def rows(name: str) -> np.ndarray:
        values = np.full((len(candidates), n_channels), np.nan, np.float32)
        for row, candidate in zip(values, candidates, strict=True):
            if len(spectrum := getattr(candidate, name)):
                row[:] = spectrum
        return values

    return QTable(
        {
            "id": np.array([c.id for c in candidates], dtype=int),
            "dirty": rows("spectrum") * (brightness_unit(detections.cube) * u.pix),
            "denoised": rows("denoised"),
        }
    )


def _axis(cube: Cube) -> QTable:
    channel = np.arange(cube.shape[0])
    columns = {"channel": channel}
    if (frequency := cube.frequency(channel)) is not None:
        columns["freq"] = frequency.to(u.Hz)
    if (velocity := cube.velocity(channel)) is not None:
        columns["v_rad"] = velocity
    return QTable(columns)


def _spectral_range(cube: Cube, first: int, last: int) -> list[u.Quantity]:
    """The outer edges of an inclusive range of channels, lower first; in GHz, or the channels themselves."""
    edges = cube.frequency(np.array([first - 0.5, last + 0.5]))
    return [first * u.chan, last * u.chan] if edges is None else sorted(edges.to(u.GHz))


def _by_ending(path: Path, forms: dict):
    if path.suffix.lower() not in forms:
        raise ExchangeError(f"{path.name}: the name must end in {', '.join(forms)}, which says what to write.")
    return forms[path.suffix.lower()]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write beside ``path``; it takes its place when it is whole, and is removed after an error."""
    beside = path.with_name(f".writing-{path.name}")
    beside.unlink(missing_ok=True)
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


# --- in ------------------------------------------------------------------------------------------------------------


def read_boxes(path: str | Path, cube: Cube) -> list[tuple[Box, tuple[int, int] | None]]:
    """Boxes and channel ranges in a cube from another program's catalogue or region file.

    Parameters
    ----------
    path
        DS9 (.reg) or CRTF (.crtf) regions, or a table: ECSV, VOTable, FITS, CSV, or
        SoFiA-2's own text.  A table's columns have SoFiA-2's names, pixels counted from 0:
        ``x_min`` ... ``y_max`` and if there ``z_min``, ``z_max``, all inclusive; or else
        positions, ``ra`` and ``dec`` in degrees (ICRS) or ``x`` and ``y``, which become
        boxes of two beams.
    cube
        The cube they are to be looked for in.

    Returns
    -------
    list
        (box, half-open channel range or None); those outside the field are left out.

    Raises
    ------
    ExchangeError
        If the file cannot be read, or holds nothing inside the field.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and headers of other programs are their own affair
            found = _region_boxes(path, cube) if path.suffix.lower() in REGIONS else _table_boxes(path, cube)
    except ExchangeError:
        raise
    except Exception as error:  # other programs' files fail in as many ways as there are readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ExchangeError(f"{path.name} cannot be read: {reason}") from error
    ny, nx = cube.shape[1:]
    inside = [(b, z) for b, z in found if b.x1 > 0 and b.y1 > 0 and b.x0 < nx and b.y0 < ny]
    if not inside:
        raise ExchangeError(f"{path.name} holds {len(found)} sources, but none inside the field of {cube.name}.")
    return inside


def _table_boxes(path: Path, cube: Cube) -> list[tuple[Box, tuple[int, int] | None]]:
    table = _read_table(path)
    names = {name.lower(): name for name in table.colnames}

    def column(name: str) -> np.ndarray:
        values = table[names[name]]
        return np.ma.filled(np.ma.asarray(getattr(values, "value", values), dtype=float), np.nan)

    if all(name in names for name in EDGES):
        x0, x1, y0, y1 = (np.round(column(name)).astype(int) for name in EDGES)
        boxes = [Box(int(a), int(b) + 1, int(c), int(d) + 1) for a, b, c, d in zip(y0, y1, x0, x1, strict=True)]
    elif "ra" in names and "dec" in names and cube.celestial is not None:
        boxes = [_about(x, y, cube) for x, y in zip(*_pixels(cube, column("ra"), column("dec")), strict=True)]
    elif "x" in names and "y" in names:
        boxes = [_about(x, y, cube) for x, y in zip(column("x"), column("y"), strict=True)]
    else:
        raise ExchangeError(f"{path.name} has neither the columns {', '.join(EDGES)} nor ra, dec or x, y.")
    if "z_min" in names and "z_max" in names:
        low, high = column("z_min"), column("z_max")
        ranges = [(int(a), int(b) + 1) if np.isfinite(a + b) else None for a, b in zip(low, high, strict=True)]
    else:
        ranges = [None] * len(boxes)
    return list(zip(boxes, ranges, strict=True))


def _read_table(path: Path) -> Table:
    form = {**CATALOGUES, ".votable": "votable", ".fit": "fits"}.get(path.suffix.lower())
    if form is not None:
        return Table.read(path, format=form)
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in lines:  # SoFiA-2's text: the names are in one of the comments
        names = line.lstrip("#").split()
        if line.startswith("#") and {"x_min", "y_min"} <= set(names):
            return Table.read([x for x in lines if not x.startswith("#")], format="ascii.no_header", names=names)
    return Table.read(path, format="ascii")


def _region_boxes(path: Path, cube: Cube) -> list[tuple[Box, tuple[int, int] | None]]:
    from regions import Regions

    found = []
    for region in Regions.read(path, format=_by_ending(path, REGIONS)):
        if hasattr(region, "to_pixel"):
            if cube.celestial is None:
                raise ExchangeError(f"{path.name} lies on the sky, but {cube.name} has no coordinates.")
            region = region.to_pixel(cube.celestial)
        if hasattr(region, "bounding_box"):
            found.append((_box_of(region, cube), _channels_of(region.meta, cube)))
    return found


def _box_of(region: Region, cube: Cube) -> Box:
    if type(region).__name__ == "PointPixelRegion":
        return _about(region.center.x, region.center.y, cube)
    bounds = region.bounding_box  # half-open, of the pixels it touches
    if type(region).__name__ == "RectanglePixelRegion":  # those whose centres it holds: a box is read as it was written
        corners = np.array(region.corners)
        (x0, y0), (x1, y1) = np.ceil(corners.min(axis=0) - 1e-2), np.floor(corners.max(axis=0) + 1e-2)
        return Box(int(y0), int(max(y1, y0)) + 1, int(x0), int(max(x1, x0)) + 1)
    return Box(bounds.iymin, bounds.iymax, bounds.ixmin, bounds.ixmax)


def _channels_of(meta: dict, cube: Cube) -> tuple[int, int] | None:
    """The channels of a region: CRTF's range, or DS9's tag as written here."""
    if "range" in meta:
        low, high = (u.Quantity(end) for end in meta["range"])
        if low.unit.is_equivalent(u.chan):
            return int(low.value), int(high.value) + 1
        axis = {"frequency": cube.frequency, "speed": cube.velocity}.get(str(low.unit.physical_type).split("/")[0])
        values = None if axis is None else axis(np.arange(cube.shape[0]))
        if values is not None:
            inside = np.flatnonzero((values >= min(low, high)) & (values <= max(low, high)))
            return (int(inside[0]), int(inside[-1]) + 1) if inside.size else None
    for tag in meta.get("tag", ()):
        if match := re.fullmatch(r"channels (\d+)-(\d+)", tag):
            return int(match[1]), int(match[2]) + 1
    return None


def _about(x: float, y: float, cube: Cube) -> Box:
    """A box of two beams about a position; of 10 pixels where the beam is unknown."""
    if not np.isfinite(x + y):  # beyond the sky's horizon
        return Box(0, 0, 0, 0)
    side = POSITION_BEAMS * cube.beam_fwhm if cube.beam_fwhm else 10.0
    half = max(1, round(side / 2))
    column, row = round(float(x)), round(float(y))
    return Box(row - half, row + half + 1, column - half, column + half + 1)


def _pixels(cube: Cube, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from astropy.coordinates import SkyCoord

    return cube.celestial.world_to_pixel(SkyCoord(ra, dec, unit="deg"))
