"""``almadet detect``."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from napari_almadet import __version__
from napari_almadet.cli.common import (
    Absorption,
    Device,
    Preset,
    ProgressKind,
    TableFormat,
    app,
    messages,
)
from napari_almadet.cli.configuration import (
    ConfigurationError,
    options_of,
    read_configuration,
    without_effect,
    write_configuration,
)
from napari_almadet.cli.interrupts import Terminated, ends_at_once, exit_code, interrupt, make_folder
from napari_almadet.cli.logs import logged
from napari_almadet.cli.progress_lines import with_lines, write_line
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
from napari_almadet.cli.terminal import conclude, print_outcome, with_bars
from napari_almadet.cube.errors import in_one_line
from napari_almadet.loading import loading, spare_imports
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.batch import Outcome, Search
    from napari_almadet.detection import Networks, SearchNetworks


SCHEDULER_SECONDS = 15  # s in which a scheduler must answer: with the start of the program under half a minute

LOG = logging.getLogger(__name__)


def take_configuration(context: typer.Context, path: Path | None) -> Path | None:
    """Use the options of a file where the command line has none."""
    if path is not None:
        try:
            context.default_map = read_configuration(path, options_of(detect))
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from error
    return path


@app.command(
    epilog="""[bold]Examples[/]\n
almadet detect cube.fits\n
almadet detect night1/*.fits.gz -o results/ --jobs 4\n
almadet detect cube.fits --preset paper --keep-continuum\n
almadet detect huge.fits --memory 16\n
almadet detect cube.fits --products --report --format votable --redshift 0..8\n
almadet detect cube.fits --threshold 0.9 --write-config run.toml; almadet detect --config run.toml\n
almadet detect huge.fits --scheduler tcp://login1:8786\n
[bold]Exit code[/]\n
0: all cubes were searched, now or earlier; 1: at least one cube could not be searched; 2: wrong options;
130: interrupted with Ctrl-C; 143: ended by SIGTERM."""
)
@ends_at_once
def detect(
    context: typer.Context,
    cubes: Annotated[
        list[Path],
        typer.Argument(
            help="Cubes: FITS, also compressed; CASA images; CARTA's HDF5.", metavar="CUBE", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for the results; each cube gets a folder in it.", file_okay=False),
    ] = Path("out"),
    device: OfDevice = Device.AUTO,
    preset: OfPreset = Preset.ALMADET,
    threshold: OfThreshold = None,
    min_snr: OfMinSnr = Settings.min_snr,
    require_line: OfRequireLine = None,
    psf: OfPsf = None,
    weights: OfWeights = None,
    beam: OfBeam = "auto",
    reliability: Annotated[
        bool,
        typer.Option(
            "--reliability",
            help="Estimate the reliability of each candidate (column rel) from detections in the inverted cube. "
            "Doubles the run time.",
        ),
    ] = False,
    absorption: Annotated[
        Absorption,
        typer.Option(
            help="Search for absorption lines against the continuum of the sources. auto: where the continuum "
            "is bright "
            "enough; on: wherever continuum is detected; off: nowhere."
        ),
    ] = Absorption.AUTO,
    products: Annotated[
        bool,
        typer.Option(
            "--products",
            help="Also write moments, spectrum, position-velocity cut, cubelet and mask of each source, and maps of "
            "the field.",
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also write report.html: one page with the field, the table and all candidates."),
    ] = False,
    redshift: Annotated[
        str | None,
        typer.Option(
            help="Redshift of the sources, or a range such as 0..8: list the lines that their frequencies allow "
            "(column line_ids), and for sources with several lines the redshifts that explain them (redshifts).",
            metavar="Z|LOW..HIGH",
            show_default=False,
        ),
    ] = None,
    formats: Annotated[
        list[TableFormat] | None,
        typer.Option(
            "--format",
            help="Also write the catalogue in this format, in addition to catalog.ecsv. Can be repeated.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Cubes searched in parallel; a crash affects only its own cube.",
        ),
    ] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Search all cubes again and replace existing results.")
    ] = False,
    memory: OfMemory = Settings.memory,
    scheduler: OfScheduler = None,
    pb: OfPb = None,
    flag_channels: OfFlagChannels = True,
    verbose: OfVerbose = False,
    quiet: OfQuiet = False,
    progress: Annotated[
        ProgressKind,
        typer.Option(
            help="bars: progress bars; json: one JSON object per line on stderr, with cube, stage, done and total."
        ),
    ] = ProgressKind.BARS,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Read the options from a TOML file, as written by --write-config; options on the command line "
            "override it.",
            callback=take_configuration,
            is_eager=True,
            exists=True,
            dir_okay=False,
            metavar="FILE",
        ),
    ] = None,
    write_config: Annotated[
        Path | None,
        typer.Option(
            help="Write the cubes and options of this command to a TOML file for --config, and stop.",
            dir_okay=False,
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Detect and measure the sources in one or more cubes.

    Cubes that have already been searched with the same settings are skipped, so an interrupted run resumes where it
    stopped. The results of NAME.fits are written to the folder OUT/NAME:

    [bold]catalog.ecsv[/]: the catalogue; its metadata give the reasons why candidates were kept or dropped.

    [bold]candidates.ecsv[/], [bold]lines.ecsv[/], [bold]spectra.fits[/]: all candidates, including dropped ones,
    with their lines, spectra and line-integrated images.

    [bold]probability.fits[/]: the probability map from the network, with sky coordinates.

    [bold]mask.fits[/]: the 3-D masks of the sources; the value of a voxel is the id of its source.

    [bold]ds9.reg[/], [bold]casa.crtf[/]: the boxes of the sources, for DS9, CARTA and CASA.

    [bold]settings.json[/]: settings, versions and checksums needed to reproduce the run.

    With --products, maps of the field ([bold]NAME_mom0.fits[/] ...) and cubelet, moments, spectrum and page of each
    source ([bold]NAME_cubelets/[/]), named as by SoFiA-2. With --report, [bold]report.html[/].

    Drop the folder onto napari to inspect the result.

    [bold]OUT/catalog.ecsv[/] contains the candidates of all results in OUT, with the path of each cube, and
    [bold]OUT/cubes.ecsv[/] the status of each cube of this run.
    """
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
            reliability=reliability,
            absorption=str(absorption),
        )
        if redshift is not None:
            from napari_almadet.inspection.redshifts import RedshiftRange

            RedshiftRange.parse(redshift)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if scheduler and settings.preset != "almadet":
        raise typer.BadParameter(f"a cluster searches with the preset almadet: omit --preset {preset} or --scheduler")
    if scheduler and jobs > 1:
        raise typer.BadParameter("a cluster searches one cube at a time, on all its workers: omit --jobs")

    if write_config is not None:
        write_configuration(write_config, options_of(detect), context.params, __version__)
        messages.print(f"Written: {escape(str(write_config))}", soft_wrap=True)
        return
    as_lines = progress is ProgressKind.JSON
    for sentence in without_effect(context, options_of(detect), settings.preset):
        if as_lines:
            write_line(cube="", stage="note", done=0, total=0, message=sentence)
        elif not quiet:
            messages.print(f"Note: {escape(sentence)}", highlight=False)
    tables = tuple(str(form) for form in formats or [])
    make_folder(out)

    spare_imports()
    with loading():
        from napari_almadet import batch

    # one cube at a time is printed with its candidates; several in parallel with one line each
    client = connected(scheduler) if scheduler else None
    search = batch.Search(
        settings,
        overwrite,
        keep=jobs == 1,
        client=client,
        products=products,
        formats=tables,
        redshift=redshift,
        report=report,
    )
    tasks = batch.plan(cubes, out)
    jobs = min(jobs, len(tasks))
    if jobs == 1:  # otherwise each process loads its own
        try:
            with logged(out, verbose, as_lines):
                loaded(search)
        except (OSError, RuntimeError, ValueError) as error:
            raise no_networks(error) from error
    outcomes: list[Outcome] = []
    interrupted = 0
    working = with_lines(tasks, search, jobs) if as_lines else with_bars(tasks, search, jobs, quiet)
    messages.quiet = as_lines  # every line is JSON
    # from here on, an interruption keeps the results so far and ends the processes in order
    before = signal.signal(signal.SIGTERM, interrupt), signal.signal(signal.SIGINT, interrupt)
    try:
        with logged(out, verbose, as_lines), closing(working) as done:
            for outcome in done:
                outcomes.append(replace(outcome, detections=None))
                for record in outcome.log:  # records of a worker process
                    LOG.warning(record)
                print_outcome(outcome, quiet)
    except batch.NetworksError as error:
        messages.quiet = False
        raise no_networks(error) from error
    except KeyboardInterrupt as error:
        interrupted = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
        messages.quiet = False
    if outcomes:
        outcomes.sort(key=lambda outcome: tasks.index(outcome.task))
        with logged(out, verbose, as_lines):
            batch.write_tables(outcomes, out, tables)
        if len(tasks) > 1 and not as_lines:
            conclude(outcomes, len(tasks), out, quiet)
    if interrupted:
        if not as_lines:
            messages.print("Interrupted. Run the same command again to resume.")
        raise typer.Exit(exit_code(interrupted))
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def no_networks(error: Exception) -> typer.Exit:
    """Print why the networks cannot be loaded; returns what ends the program."""
    messages.print(f"[red]Cannot load the networks:[/] {escape(str(error))}")
    return typer.Exit(1)


def loaded(search: Search) -> Networks | SearchNetworks | None:
    """The networks of a search; tracebacks of errors go to the log."""
    try:
        return search.networks
    except (OSError, RuntimeError, ValueError):
        LOG.warning("The networks could not be loaded", exc_info=True)
        raise


def connected(scheduler: str) -> Client:
    """A client of the cluster at an address or in a scheduler file; ends the program if there is none."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        messages.print(f'[red]{error.name} is not installed:[/] pip install "napari-almadet\\[distributed]"')
        raise typer.Exit(1) from error
    if "://" not in scheduler and not Path(scheduler).is_file():  # the library would wait for it forever
        messages.print(f"[red]No cluster:[/] there is no scheduler file {escape(scheduler)}", soft_wrap=True)
        raise typer.Exit(1)
    place = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    made: list[Client | Exception] = []

    def connect() -> None:
        try:
            made.append(Client(**place, timeout=SCHEDULER_SECONDS))
        except Exception as error:  # the library raises many types of exceptions for wrong addresses or files
            made.append(error)

    # in a thread: if a server accepts the connection but never answers, the library waits forever
    waiting = threading.Thread(target=connect, daemon=True)
    waiting.start()
    waiting.join(SCHEDULER_SECONDS + 2)
    answer = made[0] if made else TimeoutError(f"no answer in {SCHEDULER_SECONDS + 2} s")
    if isinstance(answer, Exception):
        other = isinstance(answer, MemoryError)  # the library takes the first bytes of any server for a size
        reason = "what answers is no scheduler" if other else escape(in_one_line(answer))
        messages.print(f"[red]No cluster:[/] {escape(scheduler)} does not answer ({reason})", soft_wrap=True)
        raise typer.Exit(1) from answer
    return answer
