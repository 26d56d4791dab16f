"""Which lines a source may show: those of the table that its frequencies allow at a redshift or in a range of them.

A single line has as many identifications as there are lines that a redshift brings to its frequency.  Two lines or more
have a frequency ratio, which no redshift changes, so that few pairs of the table explain them.  These are ranked by
how well the frequencies fit, and by how bright their species usually are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.inspection.known_lines import Line, known_lines, redshift_of

if TYPE_CHECKING:
    from napari_almadet.catalogue.candidate import Candidate
    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.cube.cube import Cube

LIGHT = constants.c.to_value(u.km / u.s)
MOTION = 500.0  # km/s around a given redshift: rotation, and motion of galaxies in a group
ONE_LINE = 600.0  # km/s: closer peaks belong to one line, such as the horns of a disc
OF_WIDTH = 0.1  # of a line's FWHM, by which the centres of two lines of one source may differ
OTHER_PEAK = 0.2  # likewise of a peak whose centre has no error of its own,
HALF_CHANNEL = 0.5  # and channels
AGREE = 3.0  # sigma, within which a frequency agrees with a line
MOST = 5  # redshifts that are listed
# How much less likely lines of a species are than those of the first, as natural logarithms of odds: carbon monoxide,
# ionised carbon and atomic hydrogen are the brightest lines of their bands in nearly all galaxies and clouds (Carilli &
# Walter 2013, ARA&A 51, 105); the second are a few to thirty times fainter, the others fainter still.
USUAL = {
    0.0: ("CO", "[CII]", "HI"),
    1.5: ("[CI]", "13CO", "HCN", "HCO+", "HNC", "[NII]", "[OIII]", "[OI]", "H2O", "CN", "CS", "OH"),
}
UNUSUAL = 3.0  # the same for lines of all other species
UNEXPLAINED = 8.0  # cost of an observed line that no line of the table explains at a redshift
ABSENT = 2.0  # of a line of the first kind that should be in the band, and was not found


@dataclass(frozen=True)
class RedshiftRange:
    """Redshifts from ``low`` to ``high``, and within :data:`MOTION` of them."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> RedshiftRange:
        """From ``"0.3"`` or ``"0..8"``.

        Raises
        ------
        ValueError
            If it is neither, or a redshift is -1 or less.

        Examples
        --------
        >>> RedshiftRange.parse("0..8")
        RedshiftRange(low=0.0, high=8.0)
        >>> RedshiftRange.parse("0.3").low
        0.3
        """
        low, dots, high = text.partition("..")
        try:
            found = cls(float(low), float(high if dots else low))
        except ValueError:
            message = f"redshift is {text!r}, but must be a number, such as 0.3, or a range, such as 0..8"
            raise ValueError(message) from None
        if not -1 < found.low <= found.high < np.inf:
            raise ValueError(f"redshift is {text}, but must be greater than -1, and a range must not decrease")
        return found

    def holds(self, z: float) -> bool:
        """Whether a redshift is in the range, or within :data:`MOTION` of its ends."""
        reach = MOTION / LIGHT
        return self.low - reach * (1 + self.low) <= z <= self.high + reach * (1 + self.high)


@dataclass(frozen=True)
class Observed:
    """An observed line: frequency and its standard deviation in GHz."""

    frequency: float
    error: float


@dataclass(frozen=True)
class Identification:
    """A redshift that explains lines: ``lines`` has, for each observed line, the table's or None.

    ``chi2`` is that of the explained frequencies about the best redshift, ``score`` what they are ranked by.
    """

    redshift: float
    error: float
    lines: tuple[Line | None, ...]
    chi2: float
    score: float

    def __str__(self) -> str:
        names = ", ".join("?" if line is None else line.name for line in self.lines)
        return f"{self.redshift:.5f} +- {self.error:.5f} ({names})"


def observed_lines(cube: Cube, candidate: Candidate) -> list[Observed]:
    """A candidate's lines by rising frequency; peaks of one line, and those in a cube without frequencies, are none."""
    lines = []
    for number, peak in enumerate(candidate.peaks):
        centre, error = peak.centre, float(np.hypot(OTHER_PEAK * peak.fwhm, HALF_CHANNEL))
        if number == 0 and np.isfinite(candidate.z):
            known = candidate.err_z if np.isfinite(candidate.err_z) else peak.fwhm * gaussian_fwhm_to_sigma
            centre, error = candidate.z, float(np.hypot(OF_WIDTH * peak.fwhm, known))
        frequency, step = cube.frequency(centre), cube.frequency(np.array([centre - 0.5, centre + 0.5]))
        if frequency is None or step is None:
            return []
        lines.append(Observed(float(frequency.to_value(u.GHz)), error * float(abs(step[1] - step[0]).to_value(u.GHz))))
    apart: list[Observed] = []
    for line in lines:  # the primary one first
        if all(abs(line.frequency / other.frequency - 1) * LIGHT > ONE_LINE for other in apart):
            apart.append(line)
    return sorted(apart, key=lambda line: line.frequency)


def allowed(observed: Observed, redshifts: RedshiftRange) -> list[tuple[Line, float]]:
    """Lines of the table that a redshift of a range brings to a frequency, each with it; usually bright ones first."""
    found = [(line, redshift_of(line, observed.frequency)) for line in known_lines()]
    found = [(line, z) for line, z in found if redshifts.holds(z)]
    return sorted(found, key=lambda pair: (_penalty(pair[0]), pair[1]))


def redshifts_of(
    lines: Sequence[Observed], redshifts: RedshiftRange, band: tuple[float, float] | None = None
) -> list[Identification]:
    """Redshifts that explain two or more of a source's lines, the best first.

    Parameters
    ----------
    lines
        At least two; of fewer none is found.
    band
        Lowest and highest frequency in GHz, in which usually bright lines would have been seen.
    """
    found: dict[tuple[str | None, ...], Identification] = {}
    for number, line in enumerate(lines):
        for first, z in allowed(line, redshifts):
            identified = _explained(lines, number, first, z, band)
            if identified is None:
                continue
            key = tuple(None if line is None else line.name for line in identified.lines)
            if key not in found or identified.score > found[key].score:
                found[key] = identified
    return sorted(found.values(), key=lambda one: -one.score)[:MOST]


def _explained(
    lines: Sequence[Observed], number: int, first: Line, z: float, band: tuple[float, float] | None
) -> Identification | None:
    """What a redshift by one line explains of all; None if it is no other."""
    own: list[Line | None] = []
    for i, line in enumerate(lines):
        own.append(first if i == number else _nearest(line, lines[number], z))
    used = [(line, match) for line, match in zip(lines, own, strict=True) if match is not None]
    if len(used) < 2 or len({match.name for _, match in used}) < len(used):
        return None
    shifts = np.array([match.rest_frequency / line.frequency for line, match in used])
    weights = 1 / np.array([s * line.error / line.frequency for s, (line, _) in zip(shifts, used, strict=True)]) ** 2
    mean = float((weights * shifts).sum() / weights.sum())
    chi2 = float((weights * (shifts - mean) ** 2).sum())
    score = -0.5 * chi2 - sum(_penalty(match) for _, match in used) - UNEXPLAINED * (len(lines) - len(used))
    if band is not None:
        names = {match.name for _, match in used}
        usual = [line for line in known_lines() if _penalty(line) == 0 and line.name not in names]
        score -= ABSENT * sum(band[0] <= line.rest_frequency / mean <= band[1] for line in usual)
    return Identification(mean - 1, float(weights.sum() ** -0.5), tuple(own), chi2, score)


def _nearest(line: Observed, other: Observed, z: float) -> Line | None:
    """The line of the table at an observed frequency, at the redshift that another gives; None if there is none."""
    sigma = np.hypot(line.error, other.error * line.frequency / other.frequency)
    apart = [(abs(known.rest_frequency / (1 + z) - line.frequency) / sigma, known) for known in known_lines()]
    near = [(_penalty(known) + 0.5 * off**2, known) for off, known in apart if off <= AGREE]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def _penalty(line: Line) -> float:
    return next((cost for cost, species in USUAL.items() if line.species in species), UNUSUAL)


def identify(detections: Detections, redshifts: RedshiftRange, text: str) -> None:
    """Write into all candidates which lines they may show, and the redshifts that explain several.

    Parameters
    ----------
    text
        What the range was given as, for the provenance.
    """
    cube = detections.cube
    for candidate in detections.candidates:
        candidate.line_ids, candidate.redshifts = texts_of(cube, candidate, redshifts)
    detections.provenance["redshift"] = text


def texts_of(cube: Cube, candidate: Candidate, redshifts: RedshiftRange) -> tuple[str, str]:
    """The lines a candidate may show, and the redshifts that explain several, as the catalogue's texts."""
    lines = observed_lines(cube, candidate)
    if not lines:
        return "", ""
    edges = cube.frequency(np.array([-0.5, cube.shape[0] - 0.5]))
    band = None if edges is None else tuple(sorted(edges.to_value(u.GHz).tolist()))
    each = ["; ".join(f"{line.name} z={z:.5f}" for line, z in allowed(one, redshifts)) or "none" for one in lines]
    if len(lines) > 1:
        each = [f"{one.frequency:.4f} GHz: {names}" for one, names in zip(lines, each, strict=True)]
    return " | ".join(each), "; ".join(str(one) for one in redshifts_of(lines, redshifts, band))
