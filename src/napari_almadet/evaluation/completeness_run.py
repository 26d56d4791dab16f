"""A whole run of injections: the user's options, the rounds, and the tables and plots at the end.

The command runs the rounds in processes (:mod:`napari_almadet.cli.completeness`), the window in one thread with
:func:`run_steps`; each can resume a run of the other.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_almadet.catalogue.detections import Detections, channel_width
from napari_almadet.catalogue.export import replacing
from napari_almadet.cube.cube import Cube
from napari_almadet.evaluation import injection_rounds
from napari_almadet.evaluation.completeness_tables import completeness_table, fidelity_table, in_words
from napari_almadet.evaluation.injection_rounds import Ground, Options, default_widths
from napari_almadet.progress import Progress
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from astropy.table import QTable, Table

    from napari_almadet.detection import Networks
    from napari_almadet.search.search_networks import SearchNetworks


@dataclass(frozen=True)
class Outcome:
    """The results of a run.

    Attributes
    ----------
    rows
        One row per injected source, see :func:`~napari_almadet.evaluation.injection_rounds.rows_of`.
    bins
        Completeness and flux bias by flux, width and size.
    fidelity
        Fidelity of the cube's own candidates; None without a search of the inverted cube.
    notes
        Limits of the results, one sentence each.
    plots
        Files of plots; empty without matplotlib.
    """

    rows: QTable
    bins: QTable
    fidelity: Table | None
    notes: tuple[str, ...] = ()
    plots: tuple[Path, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The number of sources found, and the fluxes of 50 % and 90 % completeness."""
        flagged = int(sum(str(status) == "flagged" for status in self.rows["status"]))
        also = f", {flagged} more were flagged" if flagged else ""
        counts = f"{len(self.rows)} sources injected, {int(sum(self.rows['found']))} found{also}."
        return [counts, *in_words(self.rows)]


# --- options -----------------------------------------------------------------------------------------------------


def numbers(text: str, name: str) -> tuple[float, ...]:
    """Numbers separated by commas.

    Raises
    ------
    ValueError
        If the text is something else; ``name`` is used in the message.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} {text}: give numbers separated by commas") from error


def flux_range(text: str, name: str) -> tuple[float, float]:
    """The ends of a range LOW..HIGH.

    Raises
    ------
    ValueError
        If the text is something else.
    """
    low, dots, high = text.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError as error:
        raise ValueError(f"{name} {text}: give a range LOW..HIGH, such as 0.1..5") from error
    if not dots or not 0 < bounds[0] < bounds[1]:
        raise ValueError(f"{name} {text}: the range must be positive and increasing, such as 0.1..5")
    return bounds


def options_for(
    cube: Cube,
    widths: str | None,
    sizes: tuple[float, ...],
    flux: tuple[float, float] | None,
    seed: int,
    name: str,
) -> Options:
    """Options of the injections; widths are converted to channels at mid-band.

    Parameters
    ----------
    widths
        Numbers separated by commas, in the unit of widths in the catalogue or, such as 8ch, in channels.
    name
        Name of the widths in messages.

    Raises
    ------
    ValueError
        If a value is invalid for this cube.
    """
    step = channel_width(cube)
    if widths is None:
        return Options(default_widths(cube.shape[0]), sizes, flux, seed)
    parts = [re.fullmatch(r"\s*([-+.\deE]+?)\s*(ch)?\s*", part) for part in widths.split(",")]
    asked = f"{name} {widths}: give numbers separated by commas, in {step.unit} or as 8ch"
    if not all(parts):
        raise ValueError(asked)
    try:
        channels = tuple(float(part[1]) / (1 if part[2] else step.value) for part in parts if part)
    except ValueError as error:
        raise ValueError(asked) from error
    if max(channels) > cube.shape[0] / 2:
        raise ValueError(
            f"{name}: a line of {max(channels):.3g} channels is wider than half the band of {cube.shape[0]}; "
            f"a channel is {step:.3g}"
        )
    return Options(channels, sizes, flux, seed)


# --- the run -------------------------------------------------------------------------------------------------------


def run_steps(
    cube: Cube, settings: Settings, options: Options, number: int, out: Path, networks: Networks | SearchNetworks
) -> Generator[Progress, None, Outcome]:
    """Search the cube itself and the missing rounds one after another, and write tables and plots.

    Progress is that of the search of the cube, then the number of rounds.

    Raises
    ------
    OtherRun, CubeError, ValueError
        If the folder belongs to another run, or there is no room for a source.
    """
    from napari_almadet.preset_networks import networks_used

    injection_rounds.claim(
        out, injection_rounds.run_identity(cube, settings, options, networks_used(settings, networks))
    )
    detections = yield from injection_rounds.first_search(cube, settings, out, networks)
    ground = yield from injection_rounds.ground_of(cube, settings, options, detections)
    count = rounds_for(ground, number)
    for k in range(count):
        if not injection_rounds.round_file(out, k).is_file():
            search = injection_rounds.search_round(ground, k, out, networks)
            yield from _in_rounds(search, k, count)
    return concluded(ground, detections, count, out)


def rounds_for(ground: Ground, number: int) -> int:
    """Number of rounds needed to inject a number of sources."""
    return -(-number // ground.each)


def _in_rounds(steps: Generator[Progress, None, int], done: int, count: int) -> Generator[Progress, None, None]:
    """The progress of a round as that of all rounds, with the current stage."""
    yield Progress(f"Round {done + 1} of {count}", done, count)
    for step in steps:
        yield Progress(f"Round {done + 1} of {count}: {step.stage[0].lower()}{step.stage[1:]}", done, count)


def concluded(ground: Ground, detections: Detections, count: int, out: Path) -> Outcome:
    """Compute the tables of the first ``count`` rounds, and write them with plots."""
    rows = injection_rounds.gathered(out, count)
    rows.meta["pb_corrected"] = ground.cube.primary_beam is None or bool(ground.cube.primary_beam.corrected)
    bins, fidelity = completeness_table(rows), None
    if detections.negatives is not None:
        from napari_almadet.search.reliability import judged

        fidelity = fidelity_table(judged(detections.candidates), detections.negatives, ground.settings.threshold)
    for name, table in (("injections", rows), ("completeness", bins), ("fidelity", fidelity)):
        if table is not None:
            with replacing(out / f"{name}.ecsv") as beside:
                table.write(beside, format="ascii.ecsv")
    notes = (*injection_rounds.caveats(ground, detections), *detections.warnings)
    try:
        from napari_almadet.evaluation.completeness_plots import save_plots
    except ModuleNotFoundError as error:
        return Outcome(rows, bins, fidelity, (*notes, f"There are no plots: {error.name} is not installed."))
    return Outcome(rows, bins, fidelity, notes, tuple(save_plots(rows, bins, fidelity, out)))
