"""The thresholds that decide whether a candidate is kept, flagged or dropped, each with its unit, meaning and origin.

``docs/decisions.md`` prints them (``python docs/make_decisions.py``).  The threshold on the source probability is a
setting, :attr:`napari_almadet.Settings.threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FALSE_SOURCES = "`benchmarks/false_sources.py -n 4`: cubes with such artefacts and no sources"
# Set by hand when a rule was written; no set of cubes has chosen the value.
LONE = "by hand, on simulated dirty images with a lone source of S/N in the thousands"
VALIDATION = "`almadet evaluate --set validation`: "


def threshold(default: float, unit: str, meaning: str, origin: str) -> Any:
    """A field of :class:`Thresholds`."""
    return field(default=default, metadata={"unit": unit, "meaning": meaning, "origin": origin})


@dataclass(frozen=True)
class Thresholds:
    """Every threshold of the selection rules in `napari_almadet.search.decisions`."""

    companion_distance: float = threshold(
        1.5, "beams", "distance to a brighter kept source, within which a dropped candidate is fitted together with it",
        "derived: beyond it the Gaussian flank of a source is under 0.2 % of its peak",
    )  # fmt: skip
    companion_probability: float = threshold(
        0.5, "", "minimum source probability of a dropped candidate next to a brighter source to be reconsidered",
        VALIDATION + "pairs and arrays; at 0.1 six of 404 candidates of arrays were false, at 0.5 none",
    )  # fmt: skip
    companion_neighbours: float = threshold(
        3.0, "beams", "distance to that candidate, within which other sources are included in the fit",
        "derived: beyond it two sources overlap by less than 1e-3 of their flux",
    )  # fmt: skip
    other_source: float = threshold(
        0.5, "", "source probability from which another candidate counts as a source of the field",
        "derived: it is then more likely to be a source than not",
    )  # fmt: skip
    training_field: float = threshold(
        24.0, "beams", "side of the fields the classifier was trained on",
        "`training/fields.py`: 96 averaged pixels, four per beam",
    )  # fmt: skip
    noise_snr: float = threshold(
        6.9, "S/N", "maximum S/N, of stack and line combined, of a candidate that may be a noise peak in a large field",
        "derived: 5.5 in the stack and 4.2 in the line, the maxima of noise in thousands of beams and channels",
    )  # fmt: skip
    clear_snr: float = threshold(
        8.0, "S/N", "minimum S/N of emission that cannot be noise, whatever its source probability",
        "by hand, on real and simulated extended sources unlike those of the training fields",
    )  # fmt: skip
    clear_share: float = threshold(
        0.6, "of the brightest detection's S/N", "minimum S/N of emission that cannot be a sidelobe of that detection",
        "derived: no dirty beam of an array that fills the uv plane has such sidelobes",
    )  # fmt: skip
    ripple_depth: float = threshold(
        0.75, "of the highest line's S/N", "minimum depth of the dips of a baseline ripple", FALSE_SOURCES,
    )  # fmt: skip
    ripple_swings: float = threshold(
        3, "changes of sign", "minimum number of them in the spectrum of a baseline ripple",
        "derived: emission next to absorption has one or two",
    )  # fmt: skip
    residuals: float = threshold(
        1.25, "times the thermal noise",
        "rms of the image of a detection's line, above which it is considered to contain sidelobes",
        "derived: without them it is 0.9 to 1.2 in the fields of the scenarios",
    )  # fmt: skip
    residuals_stacked: float = threshold(
        1.5, "times the thermal noise", "the same for the stacked image, if the detection has a higher S/N there",
        "by validation: with 1.25, the rule cost one source in 24 fields of discs and removed no false candidate",
    )  # fmt: skip
    above_residuals: float = threshold(
        5.0, "times that rms", "minimum S/N of a detection in such an image",
        "derived: the S/N from which a patch of emission is distinguished from noise",
    )  # fmt: skip
    least_continuum: float = threshold(
        2.0, "of its error", "minimum flux density of a candidate without a line",
        VALIDATION + "up to 1.7 where line emission of clouds and galaxies was taken for continuum, "
        "from 3.2 for sources",
    )  # fmt: skip
    least_line: float = threshold(
        2.0, "of its error", "minimum flux of a line that cannot be fitted, of a candidate without continuum",
        "by eye, as the one before; such lines are those of masked cubes, with 0 to 1.9",
    )  # fmt: skip
    very_bright: float = threshold(
        300.0, "S/N", "minimum band-averaged S/N of a source whose flanks Source Finder may mistake for other sources",
        "chosen when the training fields had an S/N of 320 at most; now those with continuum have up to 2000",
    )  # fmt: skip
    flank: float = threshold(
        1.5, "times the Gaussian profile", "of a very bright neighbour; fainter candidates belong to its flank", LONE,
    )  # fmt: skip
    line_on_a_flank: float = threshold(
        0.005, "of the very bright neighbour's S/N", "minimum line S/N of another source on its flank",
        LONE + "; errors of the dirty beam are under half a percent of its peak",
    )  # fmt: skip


THRESHOLDS = Thresholds()
