"""``almadet completeness``."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from napari_almadet.cli.common import Device, Preset, app, messages, output
from napari_almadet.cli.detect import connected
from napari_almadet.cli.interrupts import ends_at_once, make_folder
from napari_almadet.cli.logs import logged
from napari_almadet.cli.search_options import (
    OfBeam,
    OfDevice,
    OfFlagChannels,
    OfMemory,
    OfMinSnr,
    OfPb,
    OfPreset,
    OfPsf,
    OfQuiet,
    OfRequireLine,
    OfScheduler,
    OfThreshold,
    OfVerbose,
    OfWeights,
    search_settings,
)
from napari_almadet.cli.terminal import bars, show_step
from napari_almadet.progress import finish
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_almadet.batch import Outcome, Task
    from napari_almadet.cube.cube import Cube
    from napari_almadet.evaluation.completeness_run import Outcome as Concluded
    from napari_almadet.evaluation.injection_rounds import Ground, Options
    from napari_almadet.progress import Progress

LOG = logging.getLogger(__name__)


@app.command(
    epilog="""[bold]Examples[/]\n
almadet completeness cube.fits -o injections/\n
almadet completeness cube.fits -o injections/ --widths 100,300 --sizes 0,1,2 --number 1000 --jobs 4\n
almadet completeness cube.fits -o injections/ --widths 4ch,16ch --flux 0.05..2\n
[bold]Exit code[/]\n
0: done; 1: the cube could not be searched, or OUT is of another run; 2: wrong options; 130: interrupted with Ctrl-C;
143: ended by SIGTERM."""
)
@ends_at_once
def completeness(
    cube: Annotated[Path, typer.Argument(help="The cube, as for detect.", metavar="CUBE", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.", file_okay=False)] = Path(
        "completeness"
    ),
    number: Annotated[
        int,
        typer.Option("--number", "-n", min=1, help="Sources to inject; run again with a larger number to add more."),
    ] = 400,
    widths: Annotated[
        str | None,
        typer.Option(
            help="FWHM of the lines, separated by commas: in km/s (in the catalogue's unit of widths), or in channels "
            "as 8ch. Default: 3ch,8ch,20ch.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option(help="Intrinsic FWHM of the sources in beams, separated by commas; 0 is a point source.")
    ] = "0,1",
    flux: Annotated[
        str | None,
        typer.Option(
            help="Range of integrated fluxes, LOW..HIGH, in the catalogue's unit; drawn uniformly in the logarithm. "
            "Default: S/N of 2 to 20 for each width and size.",
            metavar="LOW..HIGH",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of places, channels and fluxes.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Rounds searched in parallel.")] = 1,
    device: OfDevice = Device.AUTO,
    preset: OfPreset = Preset.ALMADET,
    threshold: OfThreshold = None,
    min_snr: OfMinSnr = Settings.min_snr,
    require_line: OfRequireLine = None,
    psf: OfPsf = None,
    beam: OfBeam = "auto",
    weights: OfWeights = None,
    memory: OfMemory = Settings.memory,
    scheduler: OfScheduler = None,
    pb: OfPb = None,
    flag_channels: OfFlagChannels = True,
    verbose: OfVerbose = False,
    quiet: OfQuiet = False,
) -> None:
    """Measure completeness, flux bias and fidelity of a search by injecting sources into your cube.

    The cube and its inverse are searched once. Then, in each round, a few synthetic sources are added to the cube as it
    is read, away from detected sources, and it is searched again with the same settings. The file does not change.
    Every round is stored in OUT, so that an interrupted run resumes where it stopped.

    [bold]injections.ecsv[/]: every injected source, and the candidate it was found as.

    [bold]completeness.ecsv[/]: completeness and flux bias against flux, width and size, with 95 % intervals.

    [bold]fidelity.ecsv[/]: detections in the cube and in the inverted cube, by source probability and S/N.

    [bold]*.png[/]: the same as plots. [bold]search/[/]: the result for the cube itself, as from detect.
    """
    from napari_almadet.evaluation import completeness_run

    try:
        settings = search_settings(
            preset=preset,
            threshold=threshold,
            min_snr=min_snr,
            require_line=require_line,
            pb=pb,
            flag_channels=flag_channels,
            device=device,
            psf=psf,
            beam=beam,
            memory=memory,
            weights=weights,
        )
        chosen = completeness_run.numbers(sizes, "--sizes")
        bounds = None if flux is None else completeness_run.flux_range(flux, "--flux")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if scheduler and jobs > 1:
        raise typer.BadParameter("a cluster searches one cube at a time, on all its workers: omit --jobs")

    from napari_almadet.cube.cube import CubeError
    from napari_almadet.cube.reading import read_cube
    from napari_almadet.evaluation.injection_rounds import OtherRun

    try:
        with logged(out, verbose):
            opened = read_cube(cube)
            try:
                options = completeness_run.options_for(opened, widths, chosen, bounds, seed, "--widths")
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error
            make_folder(out)
            work = Rounds(settings, out, client=connected(scheduler) if scheduler else None)
            run(opened, work, options, number, jobs, quiet)
    except (CubeError, OtherRun, ValueError, RuntimeError) as error:
        messages.print(f"[red]Failed:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error


@dataclass
class Rounds:
    """Searches the rounds of a run; can be sent to another process, with ``ground`` set."""

    settings: Settings
    out: Path
    ground: Ground | None = None
    client: Any = None

    @cached_property
    def networks(self) -> Any:
        """Loaded on first use; None with a cluster, whose workers load their own."""
        if self.client is not None:
            return None
        from napari_almadet.detection import load_networks

        return load_networks(self.settings)

    def __call__(self, task: Task, report: Callable[[Progress], object]) -> Outcome:
        """Search one round; errors are returned in the outcome."""
        from napari_almadet.batch import Outcome, records_kept
        from napari_almadet.evaluation.injection_rounds import search_round

        assert self.ground is not None
        with records_kept() as log:
            try:
                number = int(task.folder.name.rpartition("-")[2])
                found = finish(search_round(self.ground, number, self.out, self.networks, self.client), report)
                outcome = Outcome(task, "searched", kept=found)
            except Exception as error:  # reported by the caller, which then stops the run
                LOG.error("%s could not be searched", task.folder.name, exc_info=True)
                outcome = Outcome(task, "failed", f"{task.folder.name}: {type(error).__name__}: {error}")
        return replace(outcome, log=tuple(log))


def run(cube: Cube, work: Rounds, options: Options, number: int, jobs: int, quiet: bool) -> None:
    """Search the cube itself and all rounds that are missing, and write the tables.

    Raises
    ------
    OtherRun, CubeError, ValueError, RuntimeError
        If the folder belongs to another run, or the cube or a round cannot be searched.
    """
    from napari_almadet.evaluation import completeness_run, injection_rounds
    from napari_almadet.preset_networks import networks_used

    networks = work.networks
    used = {} if networks is None else networks_used(work.settings, networks)
    injection_rounds.claim(work.out, injection_rounds.run_identity(cube, work.settings, options, used))
    with bars(quiet) as bar:
        task = bar.add_task(escape(cube.name))
        first = injection_rounds.first_search(cube, work.settings, work.out, networks, work.client)
        detections = finish(first, lambda step: show_step(bar, task, cube.name, step))
        ground = finish(injection_rounds.ground_of(cube, work.settings, options, detections))
        bar.remove_task(task)
    work.ground = ground
    if jobs > 1:
        del work.networks  # each process loads its own
    count = completeness_run.rounds_for(ground, number)
    search_all(cube, work, count, jobs, quiet)
    found = completeness_run.concluded(ground, detections, count, work.out)
    if not quiet:
        conclude(cube.name, found, work.out)


def search_all(cube: Cube, work: Rounds, count: int, jobs: int, quiet: bool) -> None:
    """Search the rounds that have no file yet, with a progress bar for the run and one for each round in progress."""
    from napari_almadet import batch
    from napari_almadet.evaluation.injection_rounds import round_file

    missing = [k for k in range(count) if not round_file(work.out, k).is_file()]
    tasks = [batch.Task(Path(cube.address), round_file(work.out, k).with_suffix("")) for k in missing]
    failed: list[str] = []
    with bars(quiet) as bar:
        total = bar.add_task(f"{escape(cube.name)}: rounds", total=count, completed=count - len(tasks))
        shown: dict[batch.Task, Any] = {}

        def step(task: batch.Task, progress: Progress) -> None:
            if task not in shown:
                shown[task] = bar.add_task("")
            show_step(bar, shown[task], task.folder.name, progress)

        with closing(batch.run(tasks, work, min(jobs, max(len(tasks), 1)), step)) as done:
            for outcome in done:
                for record in outcome.log:  # records of a worker process
                    LOG.warning(record)
                if outcome.status == "failed":
                    failed.append(outcome.message)
                    break
                if outcome.task in shown:
                    bar.remove_task(shown.pop(outcome.task))
                bar.advance(total)
    if failed:
        raise RuntimeError(f"{failed[0]} (more in {work.out / 'almadet.log'}). Run the same command again to resume.")


def conclude(name: str, found: Concluded, out: Path) -> None:
    """Print what was found, in words."""
    counts, *sentences = found.sentences
    output.print(f"[bold]{escape(name)}[/]: {counts}", highlight=False, soft_wrap=True)
    for sentence in sentences:
        output.print(escape(sentence), highlight=False, soft_wrap=True)
    for note in found.notes:
        output.print(f"Note: {escape(note)}", style="dim", highlight=False, soft_wrap=True)
    output.print(f"Written to {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)
