"""A catalogue from a file as symbols over the cube, with its own names and columns, matched with the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points
from napari.utils.notifications import show_error, show_info

from napari_almadet.catalogue.candidate import Status
from napari_almadet.catalogue.export import REGIONS, ExchangeError, positions, read_sources, read_table
from napari_almadet.inspection.reviews import APART
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.layers import cube_of, sky_plane
from napari_almadet.plugin.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from napari.layers import Image

    from napari_almadet.catalogue.candidate import Candidate
    from napari_almadet.cube.cube import Cube

SIZE = 1.2  # beams: diameter of a symbol
COLOUR = "#40e0ff"
MATCH = "candidate"  # column: number of the candidate matched with a row, 0 for none


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a catalogue in a field: positions (n, 2) as (y, x) in pixels, columns, and the number of rows outside."""

    places: np.ndarray
    columns: pd.DataFrame
    outside: int


def read_rows(path: str | Path, cube: Cube) -> Rows:
    """The rows of a catalogue, or the regions of a file, that lie in a cube's field, with all their columns.

    Raises
    ------
    ExchangeError
        If the file cannot be read, or has no positions.
    """
    import pandas as pd

    path = Path(path)
    if path.suffix.lower() in REGIONS:
        notes: list[str] = []
        sources = read_sources(path, cube, notes)
        places = np.array([(source.y, source.x) for source in sources])
        columns = pd.DataFrame({"number": np.arange(1, len(sources) + 1)})
    else:
        try:
            table = read_table(path)
        except (OSError, ValueError, TypeError) as error:
            raise ExchangeError(f"{path.name} cannot be read: {error}") from error
        place = positions(table, cube)
        if place is None:
            found = [(s.x, s.y) for s in read_sources(path, cube)]
            place = (np.array([x for x, _ in found]), np.array([y for _, y in found]))
        places = np.stack(place[::-1], axis=1)
        flat = [name for name in table.colnames if table[name].ndim == 1]
        columns = table[flat].to_pandas() if len(table) == len(places) else pd.DataFrame(index=range(len(places)))
    ny, nx = cube.shape[1:]
    inside = (places >= -0.5).all(axis=1) & (places < np.array([ny, nx]) - 0.5).all(axis=1)
    columns = columns[inside].reset_index(drop=True)
    return Rows(places[inside], columns, int((~inside).sum()))


def matched(places: np.ndarray, candidates: Sequence[Candidate], reach: float) -> np.ndarray:
    """Number of the candidate within ``reach`` pixels of each place (y, x), 0 for none; the nearest pairs first."""
    numbers = np.zeros(len(places), int)
    if not len(places) or not candidates:
        return numbers
    there = np.array([c.position[::-1] for c in candidates])
    distance = np.hypot(*(places[:, None] - there[None]).transpose(2, 0, 1))
    taken: set[int] = set()
    for row, column in zip(*np.unravel_index(np.argsort(distance, axis=None), distance.shape), strict=True):
        if distance[row, column] > reach:
            break
        if not numbers[row] and column not in taken:
            numbers[row] = candidates[column].id
            taken.add(int(column))
    return numbers


def symbols(rows: Rows, image: Image, cube: Cube, numbers: np.ndarray, name: str) -> Points:
    """The layer of points: rings, filled where the row matches a candidate."""
    faces = np.zeros((len(numbers), 4))
    faces[numbers > 0] = (0.25, 0.88, 1.0, 0.35)
    return Points(
        rows.places,
        name=name,
        **sky_plane(image),
        features=rows.columns.assign(**{MATCH: numbers}),
        symbol="disc",
        size=SIZE * (cube.beam_fwhm or APART),
        face_color=faces if len(faces) else "transparent",
        border_color=COLOUR,
        border_width=0.08,
        metadata={"marks": True},
    )


def add_symbols(session: Session, path: str | Path) -> None:
    """Read a catalogue in a thread, add it as a layer over the session's cube, and report the number of matches."""
    image, detections = session.image, session.detections

    def work() -> tuple[Rows, Cube]:
        cube = cube_of(image) if detections is None else detections.cube
        return read_rows(path, cube), cube

    def done(outcome: tuple[Rows, Cube]) -> None:
        rows, cube = outcome
        if image not in session.viewer.layers:
            return
        name = Path(path).name
        if not len(rows.places):
            show_error(f"{name} has {rows.outside} rows, none of them inside the field of {cube.name}.")
            return
        there = [] if detections is None else [c for c in detections.candidates if c.status is not Status.DROPPED]
        numbers = matched(rows.places, there, cube.beam_fwhm or APART)
        active = session.viewer.layers.selection.active
        session.viewer.add_layer(symbols(rows, image, cube, numbers, Path(path).stem))
        session.viewer.layers.selection.active = active
        show_info(match_summary(name, rows, numbers, bool(there)))

    in_background(work, done=done, failed=lambda error: show_error(str(error)))


def match_summary(name: str, rows: Rows, numbers: np.ndarray, compared: bool) -> str:
    """How many rows of a catalogue are in the field and match candidates, in a sentence or two."""
    parts: list[Any] = [f"{name}: {len(rows.places)} rows in the field, {rows.outside} outside."]
    if compared:
        count = int((numbers > 0).sum())
        parts.append(f"{count} are candidates within a beam (column {MATCH}), {len(numbers) - count} not.")
    return " ".join(parts)
