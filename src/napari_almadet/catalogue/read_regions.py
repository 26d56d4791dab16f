"""Boxes and channels from region files of DS9, CARTA and CASA.

The shapes are parsed by `regions`.  Cases that CASA interprets differently (corner boxes, pixels below a global frame,
ranges), and boxes in another frame than the cube's, are handled here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from napari_almadet.catalogue.candidate import Box
from napari_almadet.catalogue.sky_boxes import turned_boxes

if TYPE_CHECKING:
    from collections.abc import Callable

    from astropy.wcs import WCS
    from regions import Region

    from napari_almadet.cube.cube import Cube

POSITION_BEAMS = 2.0  # a position without a size becomes a box of this many beams
EDGE = 1e-2  # pixels by which a corner may be off and still hold the pixel's centre: region files are rounded
STRAIGHT = 1.0  # degrees to which a box lies along the pixels; over 50 pixels a corner is then off by less than one
ALIKE = 1e-2  # by which its sides may differ, in parts, from those that are written
ON_EDGE = 1e-9  # by which the squared distance of a pixel on an ellipse may be over 1: rounding of numbers
ROUND = 1e-3  # by which sides may differ, in parts, and be those of a square
DRAWN = ("line", "vector", "text")  # shapes that enclose nothing
CASA_FRAMES = {  # of a range of frequencies or velocities: CASA's name, FITS' name
    "REST": "SOURCE", "LSRK": "LSRK", "LSRD": "LSRD", "BARY": "BARYCENT", "GEO": "GEOCENTR", "TOPO": "TOPOCENT",
    "GALACTO": "GALACTOC", "LGROUP": "LOCALGRP", "CMB": "CMBDIPOL",
}  # fmt: skip
CONVENTIONS = {  # CRTF's veltype: astropy's equivalency
    "RADIO": u.doppler_radio,
    "OPTICAL": u.doppler_optical,
    "Z": u.doppler_optical,
    "BETA": u.doppler_relativistic,
    "RELATIVISTIC": u.doppler_relativistic,
}


@dataclass
class Entry:
    """A region of a file.

    Attributes
    ----------
    region
        As `regions` has it.
    excluded
        Whether it is excluded from the others.
    corners
        Whether it is CRTF's ``box``, two corners on the sky, of which `regions` makes a width in longitude.
    words
        Attributes after the shape, such as CRTF's ``range``, by lower-case name.
    """

    region: Region
    excluded: bool = False
    corners: bool = False
    words: dict[str, Any] = field(default_factory=dict)


def region_boxes(path: Path, form: str, cube: Cube, notes: list[str]) -> list[tuple[Box, tuple[int, int] | None]]:
    """Boxes and half-open channel ranges of a region file, ``form`` "ds9" or "crtf".

    Excluded regions are not sources; they are cut out of the boxes.  Everything that is not supported is reported in
    ``notes``, one sentence each.

    Raises
    ------
    ValueError
        If the file does not have this format, or has sky coordinates while the cube has none.
    """
    entries = _ds9(path) if form == "ds9" else _crtf(path, cube, notes)
    drawn = [e for e in entries if type(e.region).__name__.lower().startswith(DRAWN)]
    if drawn:
        notes.append(f"{len(drawn)} lines, arrows or texts were ignored: they enclose no area.")
    entries = [e for e in entries if e not in drawn]
    if cube.celestial is None and any(hasattr(e.region, "to_pixel") for e in entries):
        raise ValueError(f"it lies on the sky, but {cube.name} has no coordinates")
    excluded = [e for e in entries if e.excluded]
    if any("range" in e.words for e in excluded):
        notes.append("Excluded regions were excluded in all channels, although they name a range.")
    found, covered = [], 0
    for entry in entries:
        if entry.excluded:
            continue
        box = _without(_box_of(entry, cube), excluded, cube)
        if box is None:
            covered += 1
        else:
            found.append((box, _channels_of(entry.words, cube, notes)))
    if covered:
        notes.append(f"{covered} regions were ignored: excluded regions cover them completely.")
    notes[:] = dict.fromkeys(notes)  # each once
    return found


# --- the files ---


def _ds9(path: Path) -> list[Entry]:
    from regions import Regions

    regions = Regions.read(path, format="ds9")
    return [Entry(r, excluded=not r.meta.get("include", True), words={"tag": r.meta.get("tag", ())}) for r in regions]


def _crtf(path: Path, cube: Cube, notes: list[str]) -> list[Entry]:
    from regions import Regions

    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or not lines[0].startswith("#CRTF"):
        raise ValueError("its first line does not start with #CRTF")
    general: dict[str, Any] = {}
    entries, annotations = [], 0
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if re.match(r"global\b", line):
            general |= _words(line[len("global") :])
            continue
        match = re.match(r"([+-]?)\s*(ann\s+)?([a-z]+)\s*(?=\[)", line, flags=re.IGNORECASE)
        if match is None:
            notes.append(f"Line {number} is not a region and was ignored.")
            continue
        if match[2]:
            annotations += 1
            continue
        shape, rest = _shape(line[match.end() :])
        words, kind = general | _words(rest), match[3].lower()
        frame = "" if "pix" in shape else f"global coord={words.get('coord', _frame_of(cube))}\n"
        try:
            (region,) = Regions.parse(f"#CRTFv0\n{frame}{kind}{shape}\n", format="crtf")
        except Exception:  # a parser of texts fails in as many ways as there are texts
            notes.append(f"Line {number} was ignored: its {kind} cannot be read.")
            continue
        entries.append(Entry(region, match[1] == "-", kind == "box" and "pix" not in shape, words))
    if annotations:
        notes.append(f"{annotations} annotations were ignored.")
    return entries


def _shape(text: str) -> tuple[str, str]:
    """The brackets that a text begins with, and what is behind them."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if depth == 0:
            return text[: at + 1], text[at + 1 :]
    return text, ""


def _words(text: str) -> dict[str, Any]:
    """CRTF's ``name=value`` pairs, a range as the list of its ends."""
    found: dict[str, Any] = {}
    for name, brackets, quoted, plain in re.findall(
        r"(\w+)\s*=\s*(?:\[([^\]]*)\]|['\"]([^'\"]*)['\"]|([^,\s]+))", text
    ):
        found[name.lower()] = [end.strip() for end in brackets.split(",")] if brackets else quoted or plain
    return found


def _frame_of(cube: Cube) -> str:
    """CASA's name of the cube's own frame, in which a region without one is."""
    if (origin := cube.sky(0, 0)) is None:
        return "ICRS"
    return {"fk5": "J2000", "fk4": "B1950", "galactic": "GALACTIC"}.get(origin.frame.name, "ICRS")


def _sky_of(cube: Cube) -> WCS:
    """The cube's celestial WCS, without which a place on the sky is nowhere in it."""
    if cube.celestial is None:
        raise ValueError(f"{cube.name} has no sky coordinates: give the regions in pixels.")
    return cube.celestial


# --- the pixels ---


def _box_of(entry: Entry, cube: Cube) -> Box:
    """The smallest box of the pixels whose centres a shape holds, as in CASA; if none, of those it touches."""
    from regions import PixCoord

    region, kind = entry.region, type(entry.region).__name__
    if kind.startswith("Point"):
        centre = region.center
        x, y = _sky_of(cube).world_to_pixel(centre) if hasattr(region, "to_pixel") else (centre.x, centre.y)
        return box_about(float(x), float(y), cube)
    if kind == "RectanglePixelRegion":
        return _holding(*np.array(region.corners).T)
    if kind == "RectangleSkyRegion":
        corners = _sky_of(cube).world_to_pixel(_sky_corners(region)) if entry.corners else _corners(region, cube)
        return _holding(*corners)
    if kind.startswith("Polygon") and (box := _upright(region, cube)) is not None:
        return box
    if kind.startswith(("Circle", "Ellipse")) and not kind.startswith(("CircleAnn", "EllipseAnn")):
        return _round(region, cube)
    pixel = region.to_pixel(cube.celestial) if hasattr(region, "to_pixel") else region
    bounds = pixel.bounding_box
    box = Box(bounds.iymin, bounds.iymax, bounds.ixmin, bounds.ixmax)
    return _held(box, lambda i, j: pixel.contains(PixCoord(i, j)), cube)


def _round(region: Region, cube: Cube) -> Box:
    """The box of a circle or an ellipse; `regions` leaves out pixels on its edge, and takes the sky for a plane."""
    circle, angle = type(region).__name__.startswith("Circle"), getattr(region, "angle", 0 * u.deg)
    lengths = (region.radius,) * 2 if circle else (region.width / 2, region.height / 2)
    if hasattr(region, "to_pixel"):
        (x, y), inverse = _local(region.center, cube)
        shape = inverse @ _ellipse(*lengths, angle) @ inverse.T
    else:
        x, y = float(region.center.x), float(region.center.y)
        c, s = np.cos(angle.to_value(u.rad)), np.sin(angle.to_value(u.rad))
        axes = np.array([[c, -s], [s, c]]) * lengths
        shape = axes @ axes.T
    reach_x, reach_y = np.sqrt(np.diag(shape))
    box = _touching(x - reach_x, x + reach_x, y - reach_y, y + reach_y)
    return _held(box, lambda i, j: _in_ellipse(i - x, j - y, shape), cube)


def _in_ellipse(x: np.ndarray, y: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Whether offsets lie in an ellipse, given by the matrix (x, y) as :func:`_ellipse` has it."""
    (a, b), (_, c) = shape
    return c * x**2 - 2 * b * x * y + a * y**2 <= (a * c - b * b) * (1 + ON_EDGE)


def _held(box: Box, holds: Callable[[np.ndarray, np.ndarray], np.ndarray], cube: Cube) -> Box:
    """The part of a box with the pixels (x, y) whose centres a shape holds; all of it where there are none.

    Also all of it where it reaches beyond the field, in which nothing is found.
    """
    if not _overlaps(box, cube) or box.inside(cube.shape[1:]) != box:
        return box
    y, x = np.mgrid[box.y0 : box.y1, box.x0 : box.x1]
    held = holds(x, y)
    rows, columns = np.flatnonzero(held.any(axis=1)), np.flatnonzero(held.any(axis=0))
    if not rows.size:
        return box
    (y0, y1), (x0, x1) = (
        (start + int(at[0]), start + int(at[-1]) + 1) for start, at in ((box.y0, rows), (box.x0, columns))
    )
    return Box(y0, y1, x0, x1)


def _upright(region: Region, cube: Cube) -> Box | None:
    """The box of a polygon that is a rectangle along the pixels, as askew boxes are written; None for others."""
    pixel = region.to_pixel(_sky_of(cube)) if hasattr(region, "to_pixel") else region
    x, y = np.array(pixel.vertices.x), np.array(pixel.vertices.y)
    if len(x) != 4:
        return None
    for one, other in ((x, y), (y, x)):  # neighbours share their x and y in turns
        if np.allclose([one[0], one[2], other[0], other[2]], [one[3], one[1], other[1], other[3]], rtol=0, atol=EDGE):
            return _holding(x, y)
    return None


def _holding(x: np.ndarray, y: np.ndarray) -> Box:
    """The pixels whose centres lie within corners."""
    if not np.isfinite(np.sum([x, y])):  # beyond the sky's horizon
        return Box(0, 0, 0, 0)
    (x0, y0), (x1, y1) = np.ceil([min(x) - EDGE, min(y) - EDGE]), np.floor([max(x) + EDGE, max(y) + EDGE])
    return Box(int(y0), int(max(y1, y0)) + 1, int(x0), int(max(x1, x0)) + 1)


def _touching(x0: float, x1: float, y0: float, y1: float) -> Box:
    if not np.isfinite(x0 + x1 + y0 + y1):
        return Box(0, 0, 0, 0)
    left, low = (int(np.floor(v + 0.5)) for v in (x0, y0))
    right, high = (int(np.ceil(v + 0.5)) for v in (x1, y1))
    return Box(low, high, left, right)


def _sky_corners(region: Region) -> SkyCoord:
    """A CRTF box' corners: `regions` took the difference of longitudes for its width, and their mean for its middle."""
    centre, width, height = region.center.spherical, region.width, region.height
    middle = centre.lon
    if width > 180 * u.deg:  # the two corners lie on both sides of longitude 0
        middle, width = middle + 180 * u.deg, 360 * u.deg - width
    lon = middle + width * np.array([-0.5, -0.5, 0.5, 0.5])
    lat = centre.lat + height * np.array([-0.5, 0.5, -0.5, 0.5])
    return SkyCoord(lon, np.clip(lat, -90 * u.deg, 90 * u.deg), frame=region.center.frame)


def _corners(region: Region, cube: Cube) -> tuple[np.ndarray, np.ndarray]:
    """A turned box' corners in pixels; of one that lies along the pixels, those of the box it was written from."""
    (x, y), inverse = _local(region.center, cube)
    if (halves := _straight(region, inverse)) is not None:
        return x + halves[0] * np.array([-1, -1, 1, 1]), y + halves[1] * np.array([-1, 1, -1, 1])
    angle, corners = region.angle.to_value(u.rad), []
    for i, j in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        along, across = i * region.width.to_value(u.rad) / 2, j * region.height.to_value(u.rad) / 2
        west, north = along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)
        towards = np.arctan2(-west, north) * u.rad
        corners.append(region.center.directional_offset_by(towards, np.hypot(west, north) * u.rad))
    pixels = [_sky_of(cube).world_to_pixel(corner) for corner in corners]
    return tuple(np.array(pixels, dtype=float).T)


def _straight(region: Region, inverse: np.ndarray) -> tuple[float, float] | None:
    """Half sides in pixels of the box along x and y that would be written as this region, if there is one.

    Whatever the frame and the projection's shear.  The ellipse in the box has its sides for extents; a square, of
    which the direction is written by its side and not by its ellipse, is known by its area.
    """
    if not np.isfinite(inverse).all():
        return None
    sides = np.array([region.width.to_value(u.rad), region.height.to_value(u.rad)]) / 2
    extents = np.sqrt(np.abs(np.diag(inverse @ _ellipse(sides[0] * u.rad, sides[1] * u.rad, region.angle) @ inverse.T)))
    side = np.sqrt(np.prod(sides) * abs(np.linalg.det(inverse)))
    matrix = np.linalg.inv(inverse)
    for a, b in (extents, (side, side)):
        square = np.array([abs(a - b) < ROUND * a])
        (lengths,), (angle,) = turned_boxes((matrix * [a, b])[None], square)
        for again, turn in ((lengths, angle), (lengths[::-1], angle + 90)):
            apart = (turn - region.angle.to_value(u.deg) + 90) % 180 - 90
            if np.allclose(again, sides, rtol=ALIKE, atol=0) and abs(apart) < STRAIGHT:
                return float(a), float(b)
    return None


def _ellipse(first: u.Quantity, second: u.Quantity, angle: u.Quantity) -> np.ndarray:
    """The matrix (east, north), radians squared, of an ellipse of half axes, the first turned from west to north."""
    c, s = np.cos(angle.to_value(u.rad)), np.sin(angle.to_value(u.rad))
    axes = np.array([[-c, s], [s, c]]) * [first.to_value(u.rad), second.to_value(u.rad)]
    return axes @ axes.T


def _local(centre: SkyCoord, cube: Cube) -> tuple[tuple[float, float], np.ndarray]:
    """The pixel of a place, and what turns (east, north) in the place's own frame, in radians, into (x, y)."""
    x, y = (float(v) for v in _sky_of(cube).world_to_pixel(centre))
    here, right, up = (
        _sky_of(cube).pixel_to_world(x + dx, y + dy).transform_to(centre.frame) for dx, dy in ((0, 0), (1, 0), (0, 1))
    )
    columns = []
    for neighbour in (right, up):
        towards, step = here.position_angle(neighbour).rad, here.separation(neighbour).rad
        columns.append([step * np.sin(towards), step * np.cos(towards)])
    matrix = np.array(columns).T
    if not np.isfinite(matrix).all() or np.linalg.det(matrix) == 0:
        return (np.nan, np.nan), np.full((2, 2), np.nan)
    return (x, y), np.linalg.inv(matrix)


def _without(box: Box, excluded: list[Entry], cube: Cube) -> Box | None:
    """The bounds of a box after excluded regions are cut out; None if nothing is left."""
    if not excluded:
        return box
    inside = box.inside(cube.shape[1:]) if _overlaps(box, cube) else None
    if inside is None:
        return box
    y, x = np.mgrid[inside.y0 : inside.y1, inside.x0 : inside.x1]
    left = np.ones(y.shape, bool)
    for entry in excluded:
        left &= ~_covers(entry, x, y, cube)
    rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
    if not rows.size:
        return None
    if left.all():
        return box
    y0, x0 = inside.y0, inside.x0
    return Box(y0 + int(rows[0]), y0 + int(rows[-1]) + 1, x0 + int(columns[0]), x0 + int(columns[-1]) + 1)


def _covers(entry: Entry, x: np.ndarray, y: np.ndarray, cube: Cube) -> np.ndarray:
    """The pixels in a region."""
    from regions import PixCoord

    region = entry.region
    if type(region).__name__.startswith(("Rectangle", "Point")):
        box = _box_of(entry, cube)
        return (x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)
    pixel = region.to_pixel(cube.celestial) if hasattr(region, "to_pixel") else region
    return pixel.contains(PixCoord(x, y))


def _overlaps(box: Box, cube: Cube) -> bool:
    ny, nx = cube.shape[1:]
    return box.x1 > 0 and box.y1 > 0 and box.x0 < nx and box.y0 < ny


def box_about(x: float, y: float, cube: Cube) -> Box:
    """A box two beams wide around a position; 10 pixels if the beam is unknown."""
    if not np.isfinite(x + y):  # beyond the sky's horizon
        return Box(0, 0, 0, 0)
    side = POSITION_BEAMS * cube.beam_fwhm if cube.beam_fwhm else 10.0
    half = max(1, round(side / 2))
    column, row = round(float(x)), round(float(y))
    return Box(row - half, row + half + 1, column - half, column + half + 1)


# --- the channels ---


def _channels_of(words: dict[str, Any], cube: Cube, notes: list[str]) -> tuple[int, int] | None:
    """Half-open channels of a region: CRTF's range as CASA rounds it, or DS9's tag as written here."""
    for tag in words.get("tag", ()):
        if match := re.fullmatch(r"channels (\d{1,9})-(\d{1,9})", str(tag)):
            return int(match[1]), int(match[2]) + 1
    ends = words.get("range")
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    try:
        low, high = (u.Quantity(end) for end in ends)
        places = _places(u.Quantity([low, high.to(low.unit)]), words, cube, notes)
    except (ValueError, TypeError, u.UnitsError) as error:
        notes.append(f"The range {', '.join(ends)} was ignored: {error}.")
        return None
    first, last = sorted(int(np.floor(place + 0.5)) for place in places)  # to the nearest channel, half upwards
    n = cube.shape[0]
    if last < 0 or first >= n:
        notes.append(f"The range {', '.join(ends)} was ignored: it lies outside the band.")
        return None
    return max(first, 0), min(last, n - 1) + 1


def _places(ends: u.Quantity, words: dict[str, Any], cube: Cube, notes: list[str]) -> np.ndarray:
    """Channel coordinates of a range's ends."""
    if ends.unit.is_equivalent(u.chan) or ends.unit == u.dimensionless_unscaled:
        return ends.value
    frame = str(words.get("frame", "")).upper()
    named, own = CASA_FRAMES.get(frame, frame), cube.spectral_frame
    if named and own and named != own:
        notes.append(f"Ranges in the frame {frame} were taken as if they were in the cube's, {own}.")
    channels = np.arange(-1.0, cube.shape[0] + 1)
    axis, values = cube.frequency(channels), ends
    if ends.unit.is_equivalent(u.km / u.s):
        given = str(words.get("veltype", "RADIO")).upper()
        if given not in CONVENTIONS:
            raise ValueError(f"its veltype {given} is not known")
        rest = u.Quantity(words["restfreq"]) if "restfreq" in words else cube.rest_frequency
        if rest is not None and axis is not None:
            values = ends.to(u.Hz, CONVENTIONS[given](rest))
        elif given == "RADIO" and cube.velocity(0) is not None:
            axis = cube.velocity(channels)
        else:
            raise ValueError("there is no rest frequency")
    elif ends.unit.is_equivalent(u.m):
        values = ends.to(u.Hz, u.spectral())
    if axis is None:
        raise ValueError("the cube's frequencies are not known")
    x = axis.value if axis[0] < axis[-1] else axis.value[::-1]
    at = channels if axis[0] < axis[-1] else channels[::-1]
    return np.interp(values.to_value(axis.unit), x, at)
