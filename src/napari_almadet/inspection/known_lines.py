"""Common spectral lines of radio astronomy in a band at a given redshift."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from astropy import units as u
from astropy.table import QTable


@dataclass(frozen=True)
class Line:
    """A spectral line: species, transition, rest frequency in GHz, and the catalogue it is from."""

    species: str
    transition: str
    rest_frequency: float
    source: str

    @property
    def name(self) -> str:
        """Species and transition, e.g. "CO 2-1"."""
        return f"{self.species} {self.transition}"


@cache
def known_lines() -> tuple[Line, ...]:
    """The lines of ``known_lines.ecsv``, by rising rest frequency; the file's header names their sources."""
    table = QTable.read(files("napari_almadet.inspection") / "known_lines.ecsv", format="ascii.ecsv")
    return tuple(
        Line(str(row["species"]), str(row["transition"]), row["rest_frequency"].to_value(u.GHz), str(row["source"]))
        for row in table
    )


def lines_in_band(low: float, high: float, redshift: float) -> list[tuple[Line, float]]:
    """Lines seen at ``rest / (1 + z)`` from ``low`` to ``high`` (GHz), each with that frequency."""
    observed = [(line, line.rest_frequency / (1 + redshift)) for line in known_lines()]
    return [(line, f) for line, f in observed if low <= f <= high]


def redshift_of(line: Line, observed: float) -> float:
    """Redshift at which a line is seen at a frequency in GHz: ``rest / observed - 1``."""
    return line.rest_frequency / observed - 1
