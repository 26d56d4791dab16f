"""Progress bars, tables and summaries of the commands."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape

from napari_almadet.cli.common import messages, output
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from astropy.table import Column
    from astropy.table import Table as AstropyTable
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from napari_almadet.batch import Outcome, Search, Task
    from napari_almadet.catalogue.candidate import Candidate
    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.cube.cube import Cube
    from napari_almadet.progress import Progress as Step


WIDEST = 1000  # characters: wider than any of the tables


def print_scores(scores: AstropyTable) -> None:
    """Print the main columns of a table of scores, one short table per scenario."""
    from rich.table import Table

    from napari_almadet.evaluation.score_tables import SHORT

    for scenario in dict.fromkeys(scores["scenario"]):
        rows = scores[scores["scenario"] == scenario]
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        for k, name in enumerate(SHORT):
            table.add_column(name, justify="right" if k else "left", no_wrap=bool(k))
        for row in rows:
            table.add_row(*(cell(row) for cell in SHORT.values()))
        count = f"{_span(rows['cubes'])} cubes, {_span(rows['sources'])} sources"
        output.print(f"\n[bold]{scenario}[/], {count}", highlight=False)
        print_whole(table)
        for row in rows[np.isfinite(rows["rows_per_object"])]:
            overlap = f", masks overlap by {row['mean_iou_3d']:.2f}" if np.isfinite(row["mean_iou_3d"]) else ""
            rows_each = f"{row['finder']}: {row['rows_per_object']:.2f} rows per resolved object"
            output.print(rows_each + overlap, highlight=False)
        for row in rows[rows["failures"] > 0]:
            failed = f"{row['finder']} failed on {row['failures']} cubes, which are not counted: {row['failure']}"
            messages.print(f"[red]{escape(failed)}[/]", soft_wrap=True)
    output.print()


def _span(numbers: Column) -> str:
    """The number of all finders, or the range if they differ: "20", "8 to 60"."""
    low, high = min(numbers), max(numbers)
    return str(high) if low == high else f"{low} to {high}"


def watch(cube: Cube, settings: Settings) -> Detections:
    """Run a detection with a progress bar."""
    from napari_almadet.detection import detect as run

    with bars() as bar:
        task = bar.add_task(escape(cube.name))
        return run(cube, settings, lambda step: show_step(bar, task, cube.name, step))


def with_bars(tasks: list[Task], work: Search, jobs: int, quiet: bool) -> Generator[Outcome, None, None]:
    """Search cubes with a progress bar for each; the bars are hidden while an outcome is printed."""
    from napari_almadet import batch

    with bars(quiet) as bar:
        shown: dict[Task, TaskID] = {}

        def step(task: Task, progress: Step) -> None:
            if task not in shown:
                shown[task] = bar.add_task("")
            show_step(bar, shown[task], task.folder.name, progress)

        for outcome in batch.run(tasks, work, jobs, step):
            if outcome.task in shown:
                bar.remove_task(shown.pop(outcome.task))
            bar.stop()
            yield outcome
            bar.start()


def bars(quiet: bool = False) -> Progress:
    """Progress bars that are removed when they are complete."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=messages, transient=True, disable=quiet)


def show_step(bar: Progress, task: TaskID, name: str, step: Step) -> None:
    """Show the progress of a cube."""
    bar.update(task, description=f"{escape(name)}: {step.stage}", completed=step.done, total=step.total)


def print_outcome(outcome: Outcome, quiet: bool) -> None:
    """Print the outcome of a cube: its candidates if they are in memory, otherwise one line."""
    folder, count = f"{outcome.task.folder}{os.sep}", sources(outcome.kept)
    if outcome.status == "failed":
        messages.print(f"[red]Failed:[/] {escape(outcome.message)}", soft_wrap=True)
    elif quiet:
        return
    elif outcome.status == "skipped":
        text = f"[bold]{escape(outcome.task.folder.name)}[/]: already searched, {count}; {escape(folder)}"
        output.print(text, highlight=False, soft_wrap=True)
    elif outcome.detections is None:
        text = f"[bold]{escape(outcome.task.folder.name)}[/]: {count} in {outcome.seconds:.0f} s; {escape(folder)}"
        output.print(text, highlight=False, soft_wrap=True)
    else:
        report(outcome.detections)
        output.print(f"Written to {escape(folder)}\n", highlight=False, soft_wrap=True)


def conclude(outcomes: list[Outcome], total: int, out: Path, quiet: bool) -> None:
    """Print the summary of several cubes: number of cubes by outcome, and all failures."""
    by = {status: [o for o in outcomes if o.status == status] for status in ("searched", "skipped", "failed")}
    if not quiet:
        skipped = f", {len(by['skipped'])} already searched" if by["skipped"] else ""
        found = sources(sum(o.kept for o in outcomes))
        counts = f"{len(by['searched'])} of {total} cubes searched{skipped}: {found}."
        text = f"{counts} Combined catalogue: {out / 'catalog.ecsv'}"
        output.print(escape(text), highlight=False, soft_wrap=True)
    if by["failed"]:
        messages.print(f"[red]{len(by['failed'])} of {total} cubes could not be searched:[/]", highlight=False)
        for outcome in by["failed"]:
            messages.print(f"  {escape(outcome.message)}", highlight=False, soft_wrap=True)


def sources(count: int) -> str:
    """A number of sources in words."""
    return {0: "no source", 1: "1 source"}.get(count, f"{count} sources")


def report(detections: Detections) -> None:
    """Print a short table of the candidates, how many were dropped, and the notes and warnings."""
    cube, kept = detections.cube, detections.kept
    dropped = len(detections.candidates) - len(kept)
    why = f"; {dropped} of {len(detections.candidates)} candidates dropped" if dropped else ""
    output.print(f"[bold]{escape(cube.name)}[/]: {sources(len(kept))} found{why}.", highlight=False)
    if kept:
        print_whole(summary(detections))
    for note in (*cube.notes, *detections.warnings, *detections.notes):
        output.print(f"Note: {escape(note)}", style="dim", highlight=False)


def summary(detections: Detections) -> Table:
    """The short table of the kept candidates: the columns an astronomer looks at first."""
    from rich.table import Table

    from napari_almadet.inspection.describe import unit_text, with_error

    flux_unit = unit_text(detections.flux_unit)
    place, line = coordinate_names(detections.cube)
    continuum, density_unit = continuum_fluxes(detections)
    # units below the names, so that the table fits into the 80 columns of a pipe
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    judged = ("prob",) if detections.negatives is None else ("prob", "rel")
    cont = (f"cont.\n({density_unit})",) if any(continuum) else ()
    for name in ("id", *place, line, f"flux\n({flux_unit})", *cont, "peak\nS/N", *judged, "kind", ""):
        table.add_column(name, justify="left" if name in ("kind", "") else "right", no_wrap=True)
    for c, density in zip(detections.kept, continuum, strict=True):
        flags = " ".join(name for name in ("blended", "edge") if getattr(c, name))
        # a continuum source has none
        flux = with_error(c.f_sum, c.err_f_sum) if np.isfinite(c.f_sum) else ""
        values = [flux, density] if cont else [flux]
        numbers = (f"{getattr(c, name):.2f}" for name in judged)
        place_and_line = coordinates(detections.cube, c)
        table.add_row(str(c.id), *place_and_line, *values, f"{c.snr_pixel:.1f}", *numbers, c.kind, flags)
    return table


def continuum_fluxes(detections: Detections) -> tuple[list[str], str]:
    """The continuum of each kept candidate to three digits, empty where there is none, and the unit."""
    from napari_almadet.catalogue.detections import flux_factor
    from napari_almadet.inspection.describe import readable, unit_text

    values = readable(np.array([c.f_cont for c in detections.kept], dtype=float) * flux_factor(detections.cube)[1])
    return [f"{v:.3g}" if np.isfinite(v) else "" for v in values.value], unit_text(values.unit)


def print_whole(table: Table) -> None:
    """Print a table with all its digits: in a narrow terminal its lines wrap, where rich would cut numbers off."""
    from rich.segment import Segments

    width = output.measure(table, options=output.options.update(max_width=WIDEST)).maximum
    lines = output.render(table, output.options.update(width=max(width, 1)))
    output.print(Segments(lines), soft_wrap=True, end="")


def coordinate_names(cube: Cube) -> tuple[tuple[str, str], str]:
    """Column headings for the position and the line, as far as the header has coordinates."""
    place = ("x", "y") if cube.sky(0, 0) is None else ("RA", "Dec")
    if cube.velocity(0) is not None:
        return place, "v_rad\n(km/s)"
    return place, "channel" if cube.frequency(0) is None else "frequency\n(GHz)"


def coordinates(cube: Cube, candidate: Candidate) -> tuple[str, str, str]:
    """The coordinates of a candidate, for the columns of :func:`coordinate_names`."""
    sky = cube.sky(candidate.x, candidate.y)
    if sky is None:
        place = f"{candidate.x:.1f}", f"{candidate.y:.1f}"
    else:
        place = (
            sky.icrs.ra.to_string("hour", sep=":", precision=2, pad=True),
            sky.icrs.dec.to_string("deg", sep=":", precision=1, pad=True, alwayssign=True),
        )
    if not np.isfinite(candidate.z):  # without a line
        return *place, ""
    velocity, frequency = cube.velocity(candidate.z), cube.frequency(candidate.z)
    if velocity is not None:
        return *place, f"{velocity.value:.1f}"
    return *place, f"{candidate.z:.1f}" if frequency is None else f"{frequency.to_value('GHz'):.5f}"
