"""The ``almadet`` command; nothing slow is imported before a command needs it, so that help comes at once."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from napari_almadet import __version__
from napari_almadet.pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from napari_almadet.cube import Cube
    from napari_almadet.pipeline.catalog import Candidate, Detections
    from napari_almadet.pipeline.detect import Networks

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_show_locals=False)
output = Console()
messages = Console(stderr=True)


class Device(StrEnum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class NetworkName(StrEnum):
    """What can be trained."""

    BLOBS_FINDER = "blobs-finder"
    DEEP_GRU = "deep-gru"


class SetName(StrEnum):
    """Keys of `napari_almadet.simulation.dataset.SETS`, said again so that help need not import torch."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Stratum(StrEnum):
    """Keys of `napari_almadet.simulation.sky.STRATA`, said again so that help need not import torch."""

    PAPER = "paper"
    EMPTY = "empty"
    LINE_ONLY = "line-only"
    CONTINUUM_ONLY = "continuum-only"


def show_version(wanted: bool) -> None:
    """Print the version and stop, if wanted."""
    if wanted:
        output.print(f"napari-almadet {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find sources in radio-interferometer cubes with deep learning.

    [bold]almadet demo[/] shows what it does, on a simulated cube.
    [bold]almadet detect CUBE.fits -o out/[/] does it to yours.
    """


@app.command(
    epilog="""[bold]Examples[/]\n
almadet detect cube.fits\n
almadet detect night1/*.fits.gz -o results/ --device cuda\n
almadet detect continuum.fits --keep-continuum --min-snr 6\n
[bold]Exit code[/]\n
0: all cubes were searched; 1: some cube could not be; 2: the command was not understood."""
)
def detect(
    cubes: Annotated[
        list[Path],
        typer.Argument(help="FITS cubes (.fits, .fits.gz, .fits.fz).", metavar="CUBE", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results, in which each cube gets one.", file_okay=False)
    ] = Path("out"),
    device: Annotated[
        Device, typer.Option(help="Where the networks run; auto takes CUDA, then Apple's MPS, then the CPU.")
    ] = Device.AUTO,
    threshold: Annotated[
        float, typer.Option(help="Level, from 0 to 1, at which the probability map is cut into blobs.")
    ] = Settings.threshold,
    min_snr: Annotated[
        float,
        typer.Option(help="Least signal-to-noise ratio of a source, in the stacked image or at its line."),
    ] = Settings.min_snr,
    require_line: Annotated[
        bool,
        typer.Option(
            "--require-line/--keep-continuum",
            help="Drop candidates without an emission line, as the paper does, or keep them.",
        ),
    ] = Settings.require_line,
    blobs_finder: Annotated[
        str, typer.Option(help="Weights of Blobs Finder: shipped ones, or a .safetensors file of your training.")
    ] = Settings.blobs_finder,
    deep_gru: Annotated[str, typer.Option(help="Weights of Deep GRU, likewise.")] = Settings.deep_gru,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find the sources of one or more cubes.

    Each cube NAME.fits gets a folder OUT/NAME, with

    [bold]catalog.ecsv[/]: the catalogue, a table for astropy and others; its metadata say why candidates were dropped.

    [bold]candidates.ecsv[/], [bold]lines.ecsv[/], [bold]spectra.fits[/]: the same of all candidates, the dropped
    too, with their emission peaks, spectra and focused images.

    [bold]probability.fits[/]: where Blobs Finder sees sources, with sky coordinates.

    [bold]ds9.reg[/], [bold]casa.crtf[/]: the sources' boxes, for DS9, CARTA and CASA.

    [bold]settings.json[/]: all that is needed to make the same again.

    Dropped on napari, the folder opens as it would after a detection there.
    """
    try:
        settings = Settings(
            threshold=threshold,
            min_snr=min_snr,
            require_line=require_line,
            device=str(device),
            blobs_finder=blobs_finder,
            deep_gru=deep_gru,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

    from napari_almadet.cube import CubeError, read_cube
    from napari_almadet.pipeline.detect import load_networks

    try:
        networks = load_networks(settings)
    except (OSError, RuntimeError, ValueError) as error:
        messages.print(f"[red]Cannot load the networks:[/] {escape(str(error))}")
        raise typer.Exit(1) from error
    failed, taken = 0, set()
    for path in cubes:
        try:
            cube = read_cube(path)
            folder = free_folder(out, cube.name, taken)
            detections = watch(cube, settings, networks, quiet)
            detections.write(folder)
        except Exception as error:  # whatever is wrong with one cube, the others are still to be searched
            failed += 1
            said = str(error) if isinstance(error, CubeError) else f"{path}: {type(error).__name__}: {error}"
            messages.print(f"[red]Failed:[/] {escape(said)}", soft_wrap=True)
            continue
        if not quiet:
            report(detections)
            output.print(f"Written to {escape(str(folder))}{os.sep}\n", highlight=False, soft_wrap=True)
    if failed:
        if len(cubes) > 1:
            messages.print(f"[red]{failed} of {len(cubes)} cubes could not be searched.[/]")
        raise typer.Exit(1)


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no window; print the table of candidates instead.")
    ] = False,
) -> None:
    """Open napari on a simulated cube and find its sources.

    Where there is no display, the same is done without a window.
    """
    if headless or no_display():
        from napari_almadet.simulation.dataset import sample_cube

        report(watch(sample_cube("sources"), Settings()))
    else:
        from napari_almadet.plugin.demo import run_demo

        run_demo()


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the cubes, in which each gets one.", show_default=False)],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many cubes.")] = 10,
    which: Annotated[
        SetName, typer.Option("--set", help="Which set; each is a stream of seeds that no other shares.")
    ] = SetName.TRAIN,
    stratum: Annotated[
        Stratum, typer.Option(help="What the sky holds: the paper's sources, or what its set lacks.")
    ] = Stratum.PAPER,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cubes.")] = 0,
    size: Annotated[int, typer.Option(min=32, help="Pixels on a side, of 0.1 arcsec.")] = 360,
    channels: Annotated[int, typer.Option(min=2, help="Channels, of 10 MHz.")] = 128,
    sky: Annotated[bool, typer.Option("--sky/--no-sky", help="Also write the sky model cube.")] = True,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default: one a core.")] = None,
) -> None:
    """Simulate ALMA observations (Cycle 9, C-3, 230 GHz): dirty cubes with their truth.

    Each cube gets a folder with dirty.fits, sky.fits, psf.fits, truth.ecsv and simulation.json.  An interrupted
    run goes on where it stopped.
    """
    from rich.progress import track

    from napari_almadet.simulation.dataset import write_set
    from napari_almadet.simulation.observe import Observation

    observation = Observation(size=size, n_channels=channels)
    made = write_set(out, n, which=which, stratum=stratum, seed=seed, observation=observation, sky=sky, jobs=jobs)
    for _ in track(made, "Simulating", total=n, console=messages):
        pass
    output.print(f"{n} cubes in {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)


@app.command()
def train(
    network: Annotated[NetworkName, typer.Argument(help="Which network.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for checkpoints, log, loss plot and weights.")
    ] = None,
    fields: Annotated[int | None, typer.Option(min=16, help="Simulated fields; default: the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs; default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the fields, the noise and the first weights.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
) -> None:
    """Train a network from fields simulated on the spot; needs the extra "train".

    An interrupted training goes on from its last epoch when the same command is given again.  The weights it ends
    with are a .safetensors file in OUT, which detect takes with --blobs-finder or --deep-gru.
    """
    from rich.progress import Progress

    try:
        from napari_almadet.training import recipes
    except ModuleNotFoundError as error:
        messages.print(f'[red]{error.name} is missing:[/] pip install "napari-almadet\\[train]"')
        raise typer.Exit(1) from error
    start, recipe = {
        NetworkName.BLOBS_FINDER: (recipes.train_blobs_finder, recipes.BLOBS_FINDER),
        NetworkName.DEEP_GRU: (recipes.train_deep_gru, recipes.DEEP_GRU),
    }[network]
    changes = {"fields": fields, "epochs": epochs, "seed": seed, "workers": workers}
    recipe = replace(recipe, **{key: value for key, value in changes.items() if value is not None})
    with Progress(console=messages, transient=True) as bar:
        task = bar.add_task("Simulating fields")
        weights = start(
            out or Path("runs") / network,
            recipe,
            lambda done, total: bar.update(task, completed=done, total=total, visible=done < total),
        )
    output.print(f"Weights: {escape(str(weights))}", highlight=False, soft_wrap=True)


@app.command()
def evaluate(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the numbers to this .ecsv file.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Cubes of each stratum.")] = 100,
    strata: Annotated[
        list[Stratum] | None, typer.Option("--stratum", help="May be given more than once; default: all.")
    ] = None,
    which: Annotated[SetName, typer.Option("--set", help="Which set of cubes.")] = SetName.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Of the set.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to simulate and where the networks run.")] = Device.AUTO,
    require_line: Annotated[
        bool, typer.Option("--require-line/--keep-continuum", help="As for detect.")
    ] = Settings.require_line,
) -> None:
    """Measure completeness and purity on simulated cubes, one to one within 3 pixels.

    The cubes are those "almadet simulate" writes for the same set and seed; they are made here and not kept.
    """
    from rich.progress import Progress

    from napari_almadet.evaluation.scores import evaluate as run
    from napari_almadet.evaluation.scores import scores_table

    names = [str(s) for s in strata or Stratum]
    tally = {}
    with Progress(console=messages, transient=True) as bar:
        task = bar.add_task("", total=n * len(names))
        settings = Settings(device=str(device), require_line=require_line)
        for name, scores in run(n, names, which=which, seed=seed, settings=settings):
            tally[name] = scores
            bar.update(task, advance=1, description=name)
    for name, scores in tally.items():
        output.print(f"[bold]{name}[/], {scores.cubes} cubes, {scores.true} sources", highlight=False)
        output.print(f"  completeness             {escape(str(scores.completeness))}", highlight=False)
        output.print(f"  completeness, SNR >= 5   {escape(str(scores.completeness_bright))}", highlight=False)
        output.print(f"  purity                   {escape(str(scores.purity))}", highlight=False)
        output.print(f"  false positives          {scores.false_positives}", highlight=False)
        row = scores.row()
        output.print(
            f"  mean IoU {row['mean_iou']:.2f} (boxes), {row['mean_iou_channels']:.2f} (channels); median error "
            f"{row['median_offset_px']:.2f} px, {row['median_line_offset_channels']:.2f} channels",
            highlight=False,
        )
    if out:
        scores_table(tally).write(out, overwrite=True)


def no_display() -> bool:
    """Whether this is a Linux machine without X11 or Wayland."""
    return sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def free_folder(out: Path, name: str, taken: set[Path]) -> Path:
    """A folder for a cube's results that no other cube of this run has: ``out/name``, or ``out/name-2`` and so on."""
    folder, number = out / name, 2
    while folder in taken:
        folder, number = out / f"{name}-{number}", number + 1
    taken.add(folder)
    return folder


def watch(cube: Cube, settings: Settings, networks: Networks | None = None, quiet: bool = False) -> Detections:
    """Run a detection with a progress bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from napari_almadet.pipeline.detect import detect as run

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=messages, transient=True, disable=quiet) as bar:
        task = bar.add_task(escape(cube.name))
        return run(
            cube,
            settings,
            lambda step: bar.update(
                task, description=f"{escape(cube.name)}: {step.stage}", completed=step.done, total=step.total
            ),
            networks,
        )


def report(detections: Detections) -> None:
    """Print what was found: a short table, how many candidates were dropped, and what to beware of."""
    cube, kept = detections.cube, detections.kept
    dropped = len(detections.candidates) - len(kept)
    count = {0: "no source", 1: "1 source"}.get(len(kept), f"{len(kept)} sources")
    why = f"; {dropped} of {len(detections.candidates)} candidates dropped" if dropped else ""
    output.print(f"[bold]{escape(cube.name)}[/]: {count} found{why}.", highlight=False)
    if kept:
        output.print(summary(detections))
    for note in (*cube.notes, *detections.warnings):
        output.print(f"Note: {escape(note)}", style="dim", highlight=False)


def summary(detections: Detections) -> Table:
    """The short table of the kept candidates: what an astronomer looks at first."""
    from rich.table import Table

    flux_unit = detections.flux_unit.to_string().replace(" / ", "/")
    place, line = coordinate_names(detections.cube)
    # units below the names: the table is to fit the 80 columns of a pipe
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("id", *place, line, f"flux\n({flux_unit})", "SNR", "prob", "kind", ""):
        table.add_column(name, justify="left" if name in ("kind", "") else "right", no_wrap=True)
    for c in detections.kept:
        flags = " ".join(name for name in ("blended", "edge") if getattr(c, name))
        flux = f"{c.f_sum:.3g} ± {c.err_f_sum:.1g}"
        snr, prob = f"{c.snr_pixel:.1f}", f"{c.prob:.2f}"
        table.add_row(str(c.id), *coordinates(detections.cube, c), flux, snr, prob, c.kind, flags)
    return table


def coordinate_names(cube: Cube) -> tuple[tuple[str, str], str]:
    """Headings of a position on the sky and along the spectrum, as far as the cube's header lets them be known."""
    place = ("x", "y") if cube.sky(0, 0) is None else ("RA", "Dec")
    if cube.velocity(0) is not None:
        return place, "velocity\n(km/s)"
    return place, "channel" if cube.frequency(0) is None else "frequency\n(GHz)"


def coordinates(cube: Cube, candidate: Candidate) -> tuple[str, str, str]:
    """A candidate's place under the headings of :func:`coordinate_names`."""
    sky = cube.sky(candidate.x, candidate.y)
    if sky is None:
        place = f"{candidate.x:.1f}", f"{candidate.y:.1f}"
    else:
        place = (
            sky.icrs.ra.to_string("hour", sep=":", precision=2, pad=True),
            sky.icrs.dec.to_string("deg", sep=":", precision=1, pad=True, alwayssign=True),
        )
    velocity, frequency = cube.velocity(candidate.z), cube.frequency(candidate.z)
    if velocity is not None:
        return *place, f"{velocity.value:.1f}"
    return *place, f"{candidate.z:.1f}" if frequency is None else f"{frequency.to_value('GHz'):.5f}"
