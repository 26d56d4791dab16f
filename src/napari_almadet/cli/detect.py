"""``almadet detect``."""

from __future__ import annotations

import logging
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape

from napari_almadet.cli.common import Device, NetworkName, Preset, app, messages
from napari_almadet.cli.endings import Terminated, ends_at_once, exit_code
from napari_almadet.cli.logs import logged
from napari_almadet.cli.report import conclude, tell, with_bars
from napari_almadet.settings import BEAMS, PRESETS, Settings

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.batch import Outcome


SCHEDULER_SECONDS = 20  # that a scheduler may take to answer

LOG = logging.getLogger(__name__)


def own_weights(given: list[str]) -> dict[str, str]:
    """Files by the setting they are for, from options such as ``judge=FILE``.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    files = dict(text.partition("=")[::2] for text in given)
    names = [name.replace("-", "_") for name in NetworkName]
    for name, file in files.items():
        if name not in names or not file:
            raise ValueError(f"--weights {name}={file}: give NETWORK=FILE, with a network of {', '.join(names)}")
    return files


@app.command(
    epilog="""[bold]Examples[/]\n
almadet detect cube.fits\n
almadet detect night1/*.fits.gz -o results/ --jobs 4\n
almadet detect cube.fits --preset paper --keep-continuum\n
almadet detect huge.fits --memory 16\n
almadet detect huge.fits --scheduler tcp://login1:8786\n
[bold]Exit code[/]\n
0: all cubes were searched, now or before; 1: some cube could not be; 2: the command was not understood;
130: it was interrupted; 143: it was told to end."""
)
@ends_at_once
def detect(
    cubes: Annotated[
        list[Path],
        typer.Argument(help="Cubes: FITS, also packed; CASA images; CARTA's HDF5.", metavar="CUBE", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results, in which each cube gets one.", file_okay=False)
    ] = Path("out"),
    device: Annotated[
        Device, typer.Option(help="Where the networks run; auto takes CUDA, then Apple's MPS, then the CPU.")
    ] = Device.AUTO,
    preset: Annotated[
        Preset,
        typer.Option(
            help="almadet: search of the noise-normalised (S/N) cube; paper: networks and rules as published."
        ),
    ] = Preset.ALMADET,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="From 0 to 1: minimum source probability to keep a candidate; with the preset paper, threshold for "
            "segmenting the probability map.",
            show_default=", ".join(f"{value['threshold']:g} with {name}" for name, value in PRESETS.items()),
        ),
    ] = None,
    min_snr: Annotated[
        float,
        typer.Option(help="With the preset paper: minimum pixel S/N, in the stacked or in the line-integrated image."),
    ] = Settings.min_snr,
    require_line: Annotated[
        bool | None,
        typer.Option(
            "--require-line/--keep-continuum",
            help="Drop candidates without an emission line, as the preset paper does, or keep them.",
            show_default=False,
        ),
    ] = None,
    psf: Annotated[
        Path | None,
        typer.Option(
            help="FITS image of the dirty beam, imaged with the cube; without it the beam is estimated from the cube. "
            "For dirty cubes with bright sources.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Your own trained weights for one of the networks: source_finder=FILE.safetensors, likewise "
            "line_finder, judge, blobs_finder, deep_gru. May be given more than once.",
            metavar="NETWORK=FILE",
        ),
    ] = None,
    beam: Annotated[
        str,
        typer.Option(
            help="Whether the cube is dirty: auto decides it from the cube; with dirty its dirty beam is estimated; "
            "clean; or a FITS image of the dirty beam, as --psf.",
            metavar="auto|dirty|clean|FILE",
        ),
    ] = "auto",
    reliability: Annotated[
        bool,
        typer.Option(
            "--reliability",
            help="Estimate each candidate's reliability (column rel) from the inverted cube, which shows how many "
            "false positives to expect. Takes as long again.",
        ),
    ] = False,
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
        bool, typer.Option("--overwrite", help="Search again what was searched before, and replace the results.")
    ] = False,
    memory: Annotated[
        float,
        typer.Option(
            help="GB that a run may use; larger fields are searched in windows. With --scheduler, of each worker."
        ),
    ] = Settings.memory,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Search on the workers of a running dask.distributed cluster, at tcp://HOST:PORT or in a scheduler "
            "file; they must see the cubes under the same paths.",
            metavar="ADDRESS",
        ),
    ] = None,
    pb: Annotated[
        Path | None,
        typer.Option(help="Image of the primary beam, for fluxes and noise; it must be the cube's.", metavar="FILE"),
    ] = None,
    flag_channels: Annotated[
        bool,
        typer.Option(
            "--flag-channels/--all-channels",
            help="Leave out bad channels: blank, constant, noisy, striped or shifted ones.",
        ),
    ] = True,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "--debug",
            help="Also print what goes wrong inside, with tracebacks, which are in OUT/almadet.log in any case.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find the sources of one or more cubes.

    A cube that was searched before, with the same settings, is skipped; so an interrupted run goes on where it stopped.
    Each cube NAME.fits gets a folder OUT/NAME, with

    [bold]catalog.ecsv[/]: the catalogue, a table for astropy and others; its metadata say why candidates were dropped.

    [bold]candidates.ecsv[/], [bold]lines.ecsv[/], [bold]spectra.fits[/]: the same of all candidates, the dropped
    too, with their emission peaks, spectra and focused images.

    [bold]probability.fits[/]: where the network sees sources, with sky coordinates.

    [bold]mask.fits[/]: the voxels of each source, by its id.

    [bold]ds9.reg[/], [bold]casa.crtf[/]: the sources' boxes, for DS9, CARTA and CASA.

    [bold]settings.json[/]: all that is needed to make the same again.

    Dropped on napari, the folder opens as it would after a detection there.

    Of several cubes, [bold]OUT/catalog.ecsv[/] has the rows of all, and [bold]OUT/cubes.ecsv[/] what became of each.
    """
    try:
        settings = Settings(
            preset=str(preset),
            threshold=threshold,
            min_snr=min_snr,
            require_line=require_line,
            primary_beam=None if pb is None else str(pb.resolve()),
            flag_channels=flag_channels,
            reliability=reliability,
            device=str(device),
            psf=None if psf is None else str(psf.resolve()),
            beam=beam if beam in BEAMS else str(Path(beam).resolve()),
            memory=memory,
            **own_weights(weights or []),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if scheduler and jobs > 1:
        raise typer.BadParameter("a cluster searches one cube at a time, on all its workers: leave out --jobs")

    from napari_almadet import batch

    # one cube at a time is shown with all that was found in it; of several at a time there is a line for each
    search = batch.Search(settings, overwrite, keep=jobs == 1, client=connected(scheduler) if scheduler else None)
    try:
        networks = search.networks
    except (OSError, RuntimeError, ValueError) as error:
        messages.print(f"[red]Cannot load the networks:[/] {escape(str(error))}")
        raise typer.Exit(1) from error
    if jobs > 1:
        del search.networks  # each process loads its own
    del networks
    tasks = batch.plan(cubes, out)
    outcomes: list[Outcome] = []
    interrupted = 0
    # from here on the results so far are kept, and processes are told to end and do so in order
    before = signal.signal(signal.SIGTERM, terminated), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with logged(out, verbose), closing(with_bars(tasks, search, min(jobs, len(tasks)), quiet)) as done:
            for outcome in done:
                outcomes.append(replace(outcome, detections=None))
                for record in outcome.log:  # of a process without a log
                    LOG.warning(record)
                tell(outcome, quiet)
    except KeyboardInterrupt as error:
        interrupted = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
    if len(tasks) > 1 and outcomes:
        outcomes.sort(key=lambda outcome: tasks.index(outcome.task))
        batch.write_tables(outcomes, out)
        conclude(outcomes, len(tasks), out, quiet)
    if interrupted:
        messages.print("Interrupted. The same command goes on where this one stopped.")
        raise typer.Exit(exit_code(interrupted))
    if any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def terminated(_number: int, _frame: object) -> NoReturn:
    """What SIGTERM does while cubes are searched: end as Ctrl-C does, with the results so far."""
    raise Terminated


def connected(scheduler: str) -> Client:
    """A client of the cluster at an address, or of the one that a scheduler file tells of; ends the program if none."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        messages.print(f'[red]{error.name} is missing:[/] pip install "napari-almadet\\[distributed]"')
        raise typer.Exit(1) from error
    if "://" not in scheduler and not Path(scheduler).is_file():  # for which the library would wait for ever
        messages.print(f"[red]No cluster:[/] there is no scheduler file {escape(scheduler)}", soft_wrap=True)
        raise typer.Exit(1)
    place = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        client = Client(**place, timeout=SCHEDULER_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        messages.print(
            f"[red]No cluster:[/] {escape(scheduler)} does not answer ({escape(str(error))})", soft_wrap=True
        )
        raise typer.Exit(1) from error
    return client
