"""Export and import of catalogues, regions and spectra: TOPCAT, DS9, CARTA, CASA, SoFiA-2."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.catalogue.columns import ucd
from napari_almadet.catalogue.detections import Detections, brightness_unit, flux_factor
from napari_almadet.catalogue.read_regions import box_about, region_boxes
from napari_almadet.catalogue.sky_boxes import turned_boxes
from napari_almadet.cube.errors import in_one_line

if TYPE_CHECKING:
    from astropy.wcs import WCS

    from napari_almadet.cube.cube import Cube

Form = TypeVar("Form")


CATALOGUES = {".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable", ".fits": "fits", ".csv": "ascii.csv"}
REGIONS = {".reg": "ds9", ".crtf": "crtf"}
FRAMES = {"icrs": "ICRS", "fk5": "J2000", "fk4": "B1950", "galactic": "GALACTIC"}  # DS9's and astropy's name: CASA's
SPECTRA = (".fits", ".ecsv")
SKY = (
    ("ra", "dec"),
    ("raj2000", "dej2000"),
    ("_raj2000", "_dej2000"),
    ("ra_icrs", "de_icrs"),
)  # degrees, also VizieR's
NAMES = ("name", "source", "source_name", "main_id", "object", "designation", "id")
EDGES = ("x_min", "x_max", "y_min", "y_max")
CARTA_MISSES = 0.25  # pixels by which a corner may be off where CARTA reads a box; up to 0.5 it has the same pixels
HEADER_WIDTH = 130  # characters of a line in the header of an ECSV file, as astropy writes it
DIGITS = 12  # decimals of degrees: a thousandth of a pixel of 4 microarcsec


class ExchangeError(ValueError):
    """A file that cannot be written or imported; the message says why."""


# --- out -----------------------------------------------------------------------------------------------------------


def write_catalogue(detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None) -> Path:
    """Write the catalogue as ECSV, VOTable, FITS or CSV, depending on the ending of ``path``.

    ECSV keeps everything: units, notes in any script, settings and decisions.  VOTable and FITS
    keep units and descriptions; FITS allows only ASCII, so other characters in notes are escaped.  CSV
    has neither units nor metadata.

    Parameters
    ----------
    path
        Ends in .ecsv, .vot, .xml, .fits or .csv; an existing file is replaced when the new one is complete.
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
    with replacing(path) as beside:
        write_table(table, beside, path.suffix)
    return path


def write_table(table: QTable, path: Path, ending: str) -> None:
    """Write a table in the format of an ending, with its texts as the format can hold them; it may be changed."""
    form = _by_ending(path.with_name(f"table{ending}"), CATALOGUES)
    texts = [name for name in table.colnames if table[name].dtype.kind == "U"]
    described = {name: table[name].info.description for name in table.colnames}
    for name in texts:
        values = np.ma.filled(table[name], "")
        if form == "fits":
            table[name] = [str(value).encode("ascii", "backslashreplace").decode() for value in values]
        elif form == "votable":  # a text of one letter is "arraysize='1'", which VOTable 1.3's erratum 3 deprecates
            table[name] = values.astype("U2") if values.dtype.itemsize <= np.dtype("U1").itemsize else values
    for name, words in described.items():
        table[name].info.description = words
        if form == "votable" and (meaning := ucd(name)) is not None:
            table[name].info.meta = {**(table[name].info.meta or {}), "ucd": meaning}
    if form == "ascii.ecsv":
        write_ecsv(table, path)
    else:
        table.write(path, format=form)


def write_ecsv(table: QTable, path: Path) -> None:
    """Write a table as ECSV, in which quantities are columns with a unit, which QTable reads as quantities again.

    As quantities each would be described twice, as a column and as an object of astropy's, so that a catalogue would be
    a third longer, and take a third more time to write, and half as much again to read.  The decisions on the
    candidates are put into the header by ourselves: astropy takes some ms for those of one candidate.
    """
    plain = Table(table, copy=False)
    decisions = table.meta.get("decisions")
    if not decisions:
        plain.write(path, format="ascii.ecsv")
        return
    plain.meta = {name: value for name, value in table.meta.items() if name != "decisions"}
    text = StringIO()
    plain.write(text, format="ascii.ecsv")
    before, end, after = text.getvalue().partition("\n# schema: ")  # what follows the metadata
    lines = "".join(f"\n# {line}" for line in _as_yaml([{"decisions": decisions}]).splitlines())
    path.write_text(before + lines + end + after, encoding="utf-8", newline="\n")


def read_ecsv(path: Path) -> QTable:
    """A catalogue from a file of :func:`write_ecsv`, as ``QTable.read`` has it, which takes four times as long.

    The decisions on the candidates, which are most of its header, are read by libyaml where it is there.
    """
    import yaml

    before, start, rest = path.read_text(encoding="utf-8").partition("\n# - decisions:")
    lines = rest.split("\n")
    end = next((i for i, line in enumerate(lines) if i and not line.startswith("#  ")), len(lines))
    if not start or lines[0] or end < 2:  # there are none
        return QTable.read(path, format="ascii.ecsv")
    table = QTable.read([*before.split("\n"), *lines[end:]], format="ascii.ecsv")
    text = "\n".join(line[2:] for line in lines[1:end])
    table.meta["decisions"] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return table


def _as_yaml(values: Any) -> str:
    """Values as YAML, as astropy has them in a table's header, but by libyaml where it is there."""
    import yaml
    from astropy.io.misc.yaml import AstropyDumper

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Of numbers of numpy's, too."""

        yaml_representers = AstropyDumper.yaml_representers

    return yaml.dump(values, default_flow_style=None, Dumper=Dumper, width=HEADER_WIDTH)


def write_regions(detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None) -> Path:
    """Write candidates' boxes as DS9's (.reg) or CASA's and CARTA's (.crtf) regions; by default the kept ones'.

    If the cube has a WCS, regions are on the sky in its own frame (or ICRS, if these programs have no name for that
    frame), otherwise in pixels.  They include the id, and the emission range in channels: as a tag for DS9, as CRTF's
    ``range``.  Boxes that lie askew on the sky, as in a turned image, are written as polygons: CARTA takes the angle of
    a box from the pixels, not from north, and its sides in steps of the header.

    Raises
    ------
    ExchangeError
        If the ending is neither.
    """
    path = Path(path)
    text = _regions_text(detections, _by_ending(path, REGIONS), candidates)
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def _regions_text(detections: Detections, form: str, candidates: Sequence[Candidate] | None) -> str:
    """The text of a region file, ``form`` "ds9" or "crtf".

    Not written with `regions`, which takes 6 ms for each: the window would be slow to respond while a session with a
    thousand candidates is saved.
    """
    cube, chosen = detections.cube, detections.kept if candidates is None else list(candidates)
    boxes = [candidate.box for candidate in chosen]
    places = np.array([(*box.centre[::-1], *box.shape[::-1]) for box in boxes], dtype=float).reshape(-1, 4)
    channels = np.array([(c.channels[0], c.channels[1] - 1) for c in chosen], dtype=int).reshape(-1, 2)
    frame = None
    corners: list[np.ndarray | None] = [None] * len(chosen)
    if cube.celestial is not None:
        x, y, sides = places[:, 0], places[:, 1], places[:, 2:]
        frame, places = _on_sky(x, y, sides[:, 0], sides[:, 1], cube.celestial)
        askew = _carta_misreads(places, sides, cube.celestial)
        corners = _askew_corners(x, y, sides, askew, cube.celestial, frame)
    if form == "ds9":
        if frame is None:
            places = np.column_stack([places + np.array([1, 1, 0, 0]), np.zeros(len(places))])  # DS9 counts from 1
        lines = ["# Region file format: DS9", "image" if frame is None else frame]
        for candidate, place, vertices, (first, last) in zip(chosen, places, corners, channels, strict=True):
            numbers = ",".join(f"{number:.{DIGITS}f}" for number in (place if vertices is None else vertices.ravel()))
            kind = "box" if vertices is None else "polygon"
            lines.append(f"{kind}({numbers}) # text={{{candidate.id}}} tag={{channels {first}-{last}}}")
    else:
        lines = ["#CRTFv0"] + ([] if frame is None else [f"global coord={FRAMES[frame]}"])
        for candidate, place, vertices, marks in zip(chosen, places, corners, _spectral_marks(channels), strict=True):
            if vertices is not None:
                points = ", ".join(f"[{lon:.{DIGITS}f}deg, {lat:.{DIGITS}f}deg]" for lon, lat in vertices)
                shape = f"poly[{points}]"
            elif frame is None:
                x, y, width, height = place[0], place[1], place[2] / 2, place[3] / 2
                shape = f"box [[{x - width}pix, {y - height}pix], [{x + width}pix, {y + height}pix]]"
            else:
                words = [f"{number:.{DIGITS}f}deg" for number in place]
                shape = f"rotbox[[{words[0]}, {words[1]}], [{words[2]}, {words[3]}], {words[4]}]"
            lines.append(f"{shape}, label='{candidate.id}', {marks}")
    return "\n".join(lines) + "\n"


def _on_sky(x: np.ndarray, y: np.ndarray, width: np.ndarray, height: np.ndarray, wcs: WCS) -> tuple[str, np.ndarray]:
    """Boxes (n) in pixels as a frame of `FRAMES`, and longitude, latitude, width, height and angle (n, 5) in degrees.

    They are mapped by the derivatives of the WCS, here steps of a pixel, see
    :func:`~napari_almadet.catalogue.sky_boxes.turned_boxes`.
    """
    centre, right, up = (wcs.pixel_to_world(x + dx, y + dy) for dx, dy in ((0, 0), (1, 0), (0, 1)))
    frame = centre.frame.name
    if frame not in FRAMES or not centre.is_equivalent_frame(type(centre.frame)()):  # e.g. FK5 of another equinox
        frame, centre, right, up = "icrs", centre.icrs, right.icrs, up.icrs
    axes = np.empty((len(x), 2, 2))  # east and north of what the half axes along x and y become
    for column, (neighbour, length) in enumerate(((right, width), (up, height))):
        towards = centre.position_angle(neighbour).rad
        step = centre.separation(neighbour).deg * length / 2
        axes[:, 0, column], axes[:, 1, column] = step * np.sin(towards), step * np.cos(towards)
    sides, angle = turned_boxes(axes, width == height)
    sky = centre.spherical
    return frame, np.column_stack([sky.lon.deg, sky.lat.deg, 2 * sides, angle])


def _carta_misreads(places: np.ndarray, sides: np.ndarray, wcs: WCS) -> np.ndarray:
    """Which boxes CARTA would not read as they are (n,).

    It takes the sides over the header's steps for pixels, and the angle from the pixels' x axis
    (`carta-backend`, RegionImportExport.cc: WorldToPixelLength).

    Parameters
    ----------
    places
        What is written, from :func:`_on_sky`, (n, 5).
    sides
        Width and height of the boxes in pixels, (n, 2).
    """
    signs = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) / 2
    meant = signs * sides[:, None]  # box, corner, x and y
    upright = signs * (places[:, 2:4] / np.abs(wcs.wcs.cdelt))[:, None]
    c, s = np.cos(np.radians(places[:, 4, None])), np.sin(np.radians(places[:, 4, None]))
    read = np.stack([c * upright[..., 0] - s * upright[..., 1], s * upright[..., 0] + c * upright[..., 1]], axis=-1)
    apart = np.linalg.norm(meant[:, :, None] - read[:, None], axis=-1).min(axis=2).max(axis=1)
    return np.asarray(apart > CARTA_MISSES)


def _askew_corners(
    x: np.ndarray, y: np.ndarray, sides: np.ndarray, askew: np.ndarray, wcs: WCS, frame: str
) -> list[np.ndarray | None]:
    """Longitude and latitude of the corners (4, 2), degrees, of each box that lies askew; None for the others."""
    if not askew.any():
        return [None] * len(x)
    sky = wcs.pixel_to_world(
        x[:, None] + sides[:, :1] * [-0.5, 0.5, 0.5, -0.5], y[:, None] + sides[:, 1:] * [-0.5, -0.5, 0.5, 0.5]
    )
    sky = (sky if sky.frame.name == frame else sky.transform_to(frame)).spherical
    corners = np.stack([sky.lon.deg, sky.lat.deg], axis=-1)
    known = askew & np.isfinite(corners).all(axis=(1, 2))  # else beyond the sky's horizon
    return [each if this else None for each, this in zip(corners, known, strict=True)]


def _spectral_marks(channels: np.ndarray) -> list[str]:
    """CRTF's ``range`` for inclusive ranges (n, 2) of channels.

    It is in channels because CASA rounds frequencies to the nearest channel, half upwards, so that a range from edge to
    edge would select one channel too many, and because CASA refuses the frames HELIOCEN, SOURCE and LOCALGRP.  For
    CASA, [0, 0] means all channels; the first channel alone is therefore written with an end of 0.4, which it rounds
    down.
    """
    return [f"range=[{first}chan, {last or '0.4'}chan]" for first, last in channels]


def write_spectra(detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None) -> Path:
    """Write the observed and denoised spectra of candidates to one file, by default those of the kept ones.

    FITS: a table ``SPECTRA`` with a row for each candidate (``id``, ``dirty``, ``denoised``)
    and a table ``AXIS`` with ``channel``, ``freq`` and ``v_rad``.  ECSV: a row for each
    channel, with columns ``dirty_1``, ``denoised_1`` and so on by the candidates' numbers.
    Dirty spectra are sums over the box: the flux density, where the beam is known, in the one of Jy, mJy and uJy in
    which the highest value of all is 1 or more, as in the window.

    Raises
    ------
    ExchangeError
        If the ending is neither .fits nor .ecsv.
    """
    path = Path(path)
    _by_ending(path, dict.fromkeys(SPECTRA))
    chosen = detections.kept if candidates is None else list(candidates)
    axis, table = _axis(detections.cube), _in_flux(spectra_table(detections, chosen), detections.cube)
    with replacing(path) as beside:
        if path.suffix.lower() == ".ecsv":
            for candidate, row in zip(chosen, table, strict=True):
                axis[f"dirty_{candidate.id}"] = row["dirty"]
                axis[f"denoised_{candidate.id}"] = row["denoised"]
            write_ecsv(axis, beside)
        else:
            fits.HDUList(
                [
                    fits.PrimaryHDU(),
                    fits.table_to_hdu(table, name="SPECTRA"),
                    fits.table_to_hdu(axis, name="AXIS"),
                ]
            ).writeto(beside)
    return path


def _in_flux(table: QTable, cube: Cube) -> QTable:
    """Spectra with ``dirty`` as flux densities, each channel with its own beam."""
    factor, unit = flux_factor(cube, np.arange(cube.shape[0]))
    flux = table["dirty"].value * factor * unit
    if unit.is_equivalent(u.Jy):
        peak = np.nanmax(np.abs(flux.to_value(u.Jy)), initial=0.0)
        flux = flux.to(next((scale for scale in (u.Jy, u.mJy) if peak * u.Jy.to(scale) >= 1), u.uJy))
    table["dirty"] = flux
    return table


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


def _by_ending(path: Path, forms: Mapping[str, Form]) -> Form:
    if path.suffix.lower() not in forms:
        raise ExchangeError(f"{path.name}: the name must end in {', '.join(forms)}, which selects the format.")
    return forms[path.suffix.lower()]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file next to ``path``, which replaces it when complete, and is removed after an error."""
    beside = path.with_name(f".writing-{path.name}")
    beside.unlink(missing_ok=True)
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


# --- in ------------------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """A source of another program's catalogue or region file.

    Attributes
    ----------
    box
        In the cube's pixels.
    channels
        Half-open range; None where the file has none.
    name
        As the file has it; empty where it has none.
    x, y
        Position in the file, in the cube's pixels.
    """

    box: Box
    channels: tuple[int, int] | None
    name: str
    x: float
    y: float


def read_boxes(
    path: str | Path, cube: Cube, notes: list[str] | None = None
) -> list[tuple[Box, tuple[int, int] | None]]:
    """Box and half-open channel range (or None) of what :func:`read_sources` reads."""
    return [(source.box, source.channels) for source in read_sources(path, cube, notes)]


def read_sources(path: str | Path, cube: Cube, notes: list[str] | None = None) -> list[Source]:
    """Names, positions, boxes and channel ranges in a cube from another program's catalogue or region file.

    Parameters
    ----------
    path
        DS9 (.reg) or CRTF (.crtf) regions, or a table: ECSV, VOTable, FITS, CSV, or
        SoFiA-2's own text.  A table's columns have SoFiA-2's names, pixels counted from 0:
        ``x_min`` ... ``y_max`` and if there ``z_min``, ``z_max``, all inclusive; or else
        positions, ``ra`` and ``dec`` in degrees (ICRS) or ``x`` and ``y``, which become
        boxes of two beams.
    cube
        The cube in whose pixels the boxes are returned.
    notes
        A sentence is appended for everything in the file that is not supported, and for sources outside the field.

    Returns
    -------
    list of Source
        Those outside the field are omitted.

    Raises
    ------
    ExchangeError
        If the file cannot be read, or contains nothing inside the field.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # units and headers of other programs are their own affair
            form = REGIONS.get(path.suffix.lower())
            if form:
                boxes = region_boxes(path, form, cube, [] if notes is None else notes)
                found = [Source(box, channels, "", *box.centre[::-1]) for box, channels in boxes]
            else:
                found = table_sources(read_table(path), path.name, cube)
    except ExchangeError:
        raise
    except Exception as error:  # other programs' files fail in as many ways as there are readers
        raise ExchangeError(f"{path.name} cannot be read: {in_one_line(error)}") from error
    ny, nx = cube.shape[1:]
    inside = [s for s in found if s.box.x1 > 0 and s.box.y1 > 0 and s.box.x0 < nx and s.box.y0 < ny]
    if not inside:
        held = f"{len(found)} sources, but none inside the field of {cube.name}" if found else "no source"
        raise ExchangeError(f"{path.name} holds {held}.")
    if notes is not None and len(inside) < len(found):
        notes.append(f"{len(found) - len(inside)} of the {len(found)} sources lie outside the field.")
    return inside


def table_sources(table: Table, name: str, cube: Cube) -> list[Source]:
    """The sources of a table, in the order of its rows; rows without a position are left out.

    Raises
    ------
    ExchangeError
        If it has no columns of positions; ``name`` is that of its file.
    """
    columns = {column.lower(): column for column in table.colnames}

    def column(wanted: str) -> np.ndarray:
        values = table[columns[wanted]]
        return np.ma.filled(np.ma.asarray(getattr(values, "value", values), dtype=float), np.nan)

    boxed = all(edge in columns for edge in EDGES)
    place = positions(table, cube)
    if boxed:
        x0, x1, y0, y1 = (column(edge) for edge in EDGES)
        x, y = ((x0 + x1) / 2, (y0 + y1) / 2) if place is None else place
        known = np.isfinite(x0 + x1 + y0 + y1)
    elif place is None:
        raise ExchangeError(f"{name} has neither the columns {', '.join(EDGES)} nor ra, dec or x, y.")
    else:
        x, y = place
        known = np.isfinite(x + y)
    ranged = "z_min" in columns and "z_max" in columns
    low, high = (column("z_min"), column("z_max")) if ranged else np.full((2, len(table)), np.nan)
    called = names_of(table)
    sources = []
    for row in np.flatnonzero(known):
        if boxed:
            a, b, c, d = (int(np.round(edge[row])) for edge in (y0, y1, x0, x1))
            box = Box(a, b + 1, c, d + 1)
        else:
            box = box_about(x[row], y[row], cube)
        channels = (int(low[row]), int(high[row]) + 1) if np.isfinite(low[row] + high[row]) else None
        sources.append(Source(box, channels, called[row], float(x[row]), float(y[row])))
    return sources


def positions(table: Table, cube: Cube) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions (x, y) of a table's rows in a cube's pixels, NaN where a row has none; None without such columns."""
    columns = {column.lower(): column for column in table.colnames}

    def column(wanted: str) -> np.ndarray:
        values = table[columns[wanted]]
        return np.ma.filled(np.ma.asarray(getattr(values, "value", values), dtype=float), np.nan)

    pair = next((pair for pair in SKY if pair[0] in columns and pair[1] in columns), None)
    if pair is not None and cube.celestial is not None:
        return _pixels(cube, column(pair[0]), column(pair[1]))
    if "x" in columns and "y" in columns:
        return column("x"), column("y")
    return None


def names_of(table: Table) -> list[str]:
    """What a table's rows are called: by the first of the columns `NAMES`, else nothing."""
    columns = {column.lower(): column for column in table.colnames}
    found = next((columns[name] for name in NAMES if name in columns), None)
    if found is None:
        return [""] * len(table)
    return ["" if value is np.ma.masked else str(value).strip() for value in table[found]]


def read_table(path: Path) -> Table:
    """A table of another program by its ending, or as SoFiA-2's text.

    Raises
    ------
    ExchangeError
        If it cannot be read.
    """
    form = {**CATALOGUES, ".votable": "votable", ".fit": "fits"}.get(path.suffix.lower())
    if form is not None:
        return Table.read(path, format=form)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:  # SoFiA-2's text: the names are in one of the comments
        names = line.lstrip("#").split()
        if line.startswith("#") and {"x_min", "y_min"} <= set(names):
            return _sofia_table(path, [x for x in lines if x.strip() and not x.startswith("#")], names)
    try:
        return Table.read(path, format="ascii")
    except Exception as error:  # by a list of all the forms that were tried
        raise ExchangeError(f"{path.name} cannot be read as a table: write it as ECSV, VOTable or CSV.") from error


def _sofia_table(path: Path, lines: list[str], names: list[str]) -> Table:
    """SoFiA-2's text, of which the sources' names have a space: in quotes, or, in some versions, without."""
    rows = []
    for line in lines:
        cells = re.findall(r'"[^"]*"|\S+', line)
        if len(cells) == len(names) + 1 and names[0] == "name":
            cells = [" ".join(cells[:2]), *cells[2:]]
        if len(cells) != len(names):
            raise ExchangeError(
                f"{path.name} has {len(names)} columns, but a row with {len(cells)} values: is it truncated?"
            )
        rows.append(cells)
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    return Table({name: [_number(cell) for cell in cells] for name, cells in zip(names, columns, strict=True)})


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip('"')


def _pixels(cube: Cube, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from astropy.coordinates import SkyCoord

    if cube.celestial is None:
        raise ExchangeError(f"{cube.name} has no sky coordinates, so sky positions cannot be placed in it.")
    return cube.celestial.world_to_pixel(SkyCoord(ra, dec, unit="deg"))
