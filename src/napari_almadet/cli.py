"""The ``almadet`` command; nothing slow is imported before a command needs it, so that help comes at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from napari_almadet import __version__
from napari_almadet.pipeline.settings import PRESETS, Settings
from napari_almadet.simulation import STRATA_ABOUT

if TYPE_CHECKING:
    from astropy.table import Table as AstropyTable
    from distributed import Client
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from napari_almadet.cube import Cube
    from napari_almadet.pipeline.batch import Outcome, Search, Task
    from napari_almadet.pipeline.catalog import Candidate, Detections
    from napari_almadet.pipeline.steps import Progress as Step

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

    SOURCE_FINDER = "source-finder"
    LINE_FINDER = "line-finder"
    JUDGE = "judge"
    BLOBS_FINDER = "blobs-finder"
    DEEP_GRU = "deep-gru"


class Preset(StrEnum):
    """Keys of `napari_almadet.pipeline.settings.PRESETS`."""

    ALMADET = "almadet"
    PAPER = "paper"


class SetName(StrEnum):
    """Keys of `napari_almadet.simulation.dataset.SETS`, said again so that help need not import torch."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


Stratum = StrEnum("Stratum", {name.upper().replace("-", "_"): name for name in STRATA_ABOUT})


class FinderName(StrEnum):
    """Keys of `napari_almadet.evaluation.finders.FINDERS`, said again so that help need not import torch."""

    PEAKS = "peaks"
    MATCHED_FILTER = "matched-filter"
    SEP = "sep"
    PHOTUTILS = "photutils"
    AEGEAN = "aegean"
    PYBDSF = "pybdsf"
    DENDROGRAM = "dendrogram"


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
130: it was interrupted."""
)
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
        Preset, typer.Option(help="The search in units of the noise, or the networks and rules as the paper has them.")
    ] = Preset.ALMADET,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="From 0 to 1: least probability of a source; with the preset paper, the level at which the "
            "probability map is cut into blobs.",
            show_default=", ".join(f"{value['threshold']:g} with {name}" for name, value in PRESETS.items()),
        ),
    ] = None,
    min_snr: Annotated[
        float,
        typer.Option(help="With the preset paper: least SNR of a source, in the stacked image or at its line."),
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
            help="FITS image of the dirty beam, imaged with the cube; without it the beam is told from the cube. "
            "For dirty cubes with bright sources.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights of your training for one of the networks: source_finder=FILE.safetensors, likewise "
            "line_finder, judge, blobs_finder, deep_gru. May be given more than once.",
            metavar="NETWORK=FILE",
        ),
    ] = None,
    reliability: Annotated[
        bool,
        typer.Option(
            "--reliability",
            help="Also search the negated cube, which shows how many false sources to expect, and give each candidate "
            "its reliability, the column rel. Takes as long again.",
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Cubes searched at a time, each in a process of its own whose death costs only that cube; "
            "they share the cores.",
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
            help="Leave out channels that hold no sky: blank, constant, noisy, striped or shifted ones.",
        ),
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find the sources of one or more cubes.

    A cube that was searched before, with the same settings, is skipped; so an interrupted run goes on where it stopped.
    Each cube NAME.fits gets a folder OUT/NAME, with

    [bold]catalog.ecsv[/]: the catalogue, a table for astropy and others; its metadata say why candidates were dropped.

    [bold]candidates.ecsv[/], [bold]lines.ecsv[/], [bold]spectra.fits[/]: the same of all candidates, the dropped
    too, with their emission peaks, spectra and focused images.

    [bold]probability.fits[/]: where the network sees sources, with sky coordinates.

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
            memory=memory,
            **own_weights(weights or []),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if scheduler and jobs > 1:
        raise typer.BadParameter("a cluster searches one cube at a time, on all its workers: leave out --jobs")

    from napari_almadet.pipeline import batch

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
    interrupted = False
    try:
        with closing(with_bars(tasks, search, min(jobs, len(tasks)), quiet)) as done:
            for outcome in done:
                outcomes.append(replace(outcome, detections=None))
                tell(outcome, quiet)
    except KeyboardInterrupt:
        interrupted = True
    if len(tasks) > 1 and outcomes:
        outcomes.sort(key=lambda outcome: tasks.index(outcome.task))
        batch.write_tables(outcomes, out)
        conclude(outcomes, len(tasks), out, quiet)
    if interrupted:
        messages.print("Interrupted. The same command goes on where this one stopped.")
        raise typer.Exit(130)
    if any(outcome.status == "failed" for outcome in outcomes):
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


@app.command(epilog="\n\n".join(f"[bold]{name}[/]: {about}" for name, about in STRATA_ABOUT.items()))
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the cubes, in which each gets one.", show_default=False)],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many cubes.")] = 10,
    which: Annotated[
        SetName, typer.Option("--set", help="Which set; each is a stream of seeds that no other shares.")
    ] = SetName.TRAIN,
    stratum: Annotated[
        Stratum, typer.Option(help="What kind of cubes; those below are what the paper's set lacks.")
    ] = Stratum.PAPER,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cubes.")] = 0,
    size: Annotated[
        int, typer.Option(min=64, help="Pixels on a side; of 0.1 arcsec, unless the stratum varies them.")
    ] = 360,
    channels: Annotated[int, typer.Option(min=2, help="Channels, of 10 MHz at 230 GHz.")] = 128,
    sky: Annotated[bool, typer.Option("--sky/--no-sky", help="Also write the sky model cube.")] = True,
    mosaic: Annotated[
        int,
        typer.Option(
            min=1,
            help="So many fields on a side as one cube with a flat primary beam, of any size: it is written channel by "
            "channel, without a sky model cube.",
        ),
    ] = 1,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default: one a core.")] = None,
) -> None:
    """Simulate observations, by default of ALMA (Cycle 9, C-3, 230 GHz): dirty cubes with their truth.

    Each cube gets a folder with dirty.fits, sky.fits, psf.fits, truth.ecsv and simulation.json.  An interrupted
    run goes on where it stopped.
    """
    from rich.progress import track

    from napari_almadet.simulation.dataset import write_set
    from napari_almadet.simulation.observe import Observation

    observation = Observation(size=size, n_channels=channels)
    options = {"observation": observation, "sky": sky, "mosaic": mosaic, "jobs": jobs}
    made = write_set(out, n, which=which, stratum=stratum, seed=seed, **options)
    try:
        for _ in track(made, "Simulating", total=n, console=messages):
            pass
    except ValueError as error:  # the field is too small for what the stratum asks for
        messages.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from error
    output.print(f"{n} cubes in {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)


@app.command()
def train(
    network: Annotated[NetworkName, typer.Argument(help="Which network.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for checkpoints, log, loss plot and weights.")
    ] = None,
    fields: Annotated[int | None, typer.Option(min=16, help="Simulated fields; default: the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs; default: the recipe's.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of the fields, the noise and the first weights; default: the recipe's."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Weights that source-finder or line-finder goes on from: shipped ones by name, or a file.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 0,
) -> None:
    """Train a network from fields simulated on the spot; needs the extra "train".

    An interrupted training goes on from its last epoch when the same command is given again.  The weights it ends
    with are a .safetensors file in OUT, which detect takes with --weights. Judge learns from what the shipped Source
    Finder and Line Finder find.
    """
    from rich.progress import Progress

    try:
        from napari_almadet.training import recipes
    except ModuleNotFoundError as error:
        messages.print(f'[red]{error.name} is missing:[/] pip install "napari-almadet\\[train]"')
        raise typer.Exit(1) from error
    if start and network not in (NetworkName.SOURCE_FINDER, NetworkName.LINE_FINDER):
        raise typer.BadParameter(f"{network.value} is always trained anew", param_hint="--start")
    teach, recipe = {
        NetworkName.SOURCE_FINDER: (recipes.train_source_finder, recipes.SOURCE_FINDER),
        NetworkName.LINE_FINDER: (recipes.train_line_finder, recipes.LINE_FINDER),
        NetworkName.JUDGE: (recipes.train_judge, recipes.JUDGE),
        NetworkName.BLOBS_FINDER: (recipes.train_blobs_finder, recipes.BLOBS_FINDER),
        NetworkName.DEEP_GRU: (recipes.train_deep_gru, recipes.DEEP_GRU),
    }[network]
    changes = {"fields": fields, "epochs": epochs, "seed": seed, "workers": workers, "start": start}
    recipe = replace(recipe, **{key: value for key, value in changes.items() if value is not None})
    with Progress(console=messages, transient=True) as bar:
        task = bar.add_task("Simulating fields")
        try:
            weights = teach(
                out or Path("runs") / network,
                recipe,
                lambda done, total: bar.update(task, completed=done, total=total, visible=done < total),
            )
        except ValueError as error:
            messages.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
            raise typer.Exit(1) from error
    output.print(f"Weights: {escape(str(weights))}", highlight=False, soft_wrap=True)


@app.command(
    epilog="""[bold]Examples[/]\n
almadet evaluate -n 60\n
almadet evaluate --tune --finder peaks --finder matched-filter -n 20 -o scores/\n
almadet evaluate --preset paper --preset almadet --finder peaks --finder matched-filter -n 300 -o scores/"""
)
def evaluate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all results.", file_okay=False)] = Path(
        "evaluation"
    ),
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=1, help="Cubes of each stratum; default: 100, of --render all.")
    ] = None,
    presets: Annotated[
        list[Preset] | None, typer.Option("--preset", help="May be given more than once; default: almadet.")
    ] = None,
    finders: Annotated[
        list[FinderName] | None,
        typer.Option("--finder", help="Also a classical finder; may be given more than once. Alone: without presets."),
    ] = None,
    strata: Annotated[
        list[Stratum] | None, typer.Option("--stratum", help="May be given more than once; default: all.")
    ] = None,
    which: Annotated[SetName, typer.Option("--set", help="Which set of cubes.")] = SetName.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Of the set.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to simulate and where the networks run.")] = Device.AUTO,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default: one a core, or one on a GPU.")
    ] = None,
    require_line: Annotated[
        bool | None, typer.Option("--require-line/--keep-continuum", help="As for detect; default: the preset's.")
    ] = None,
    with_psf: Annotated[
        bool, typer.Option("--with-psf", help="Give the preset almadet each cube's dirty beam, as detect --psf does.")
    ] = False,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Choose the finders' parameters on the validation set, and stop; runs with the same OUT use them.",
        ),
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Run nothing; make tables and pictures of the results in OUT anew.")
    ] = False,
) -> None:
    """Measure presets and classical finders on simulated cubes, one to one within 3 pixels.

    The cubes are those "almadet simulate" writes for the same set and seed; they are made here and not kept. What
    was found in each is, in OUT/SET/STRATUM/, so that an interrupted or extended run only does what is missing.

    [bold]OUT/scores.ecsv[/]: all rates and errors, a row for each stratum and finder in OUT.

    [bold]OUT/curves.ecsv[/], [bold]errors.ecsv[/], [bold]calibration.ecsv[/]: against SNR, and of the probabilities.

    [bold]OUT/*.png[/]: the same as pictures, where matplotlib is installed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from napari_almadet.evaluation import run, tuning
    from napari_almadet.evaluation.scores import tables

    if tune and (presets or not finders):
        raise typer.BadParameter("--tune chooses parameters of classical finders: name them with --finder")
    names = [str(s) for s in strata or Stratum]
    set_name = str(SetName.VALIDATION if tune else which)
    cubes = n or 100
    if tune:
        contenders = [variant for finder in finders for variant in tuning.variants(str(finder))]
    else:
        contenders = [
            run.Preset(*preset_with(preset, str(device), require_line, with_psf))
            for preset in presets or ([] if finders else [Preset.ALMADET])
        ]
        contenders += [tuning.at_its_best(out, str(finder)) for finder in finders or []]
    if not render:
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        try:
            with Progress(*columns, console=messages, transient=True) as bar:
                task = bar.add_task("", total=None)
                steps = run.run(out, contenders, names, cubes, which=set_name, seed=seed, device=str(device), jobs=jobs)
                for done, total in steps:
                    bar.update(task, completed=done, total=total)
        except ModuleNotFoundError as error:
            messages.print(f'[red]{error.name} is missing:[/] pip install "napari-almadet\\[evaluate]"')
            raise typer.Exit(1) from error
        except (OSError, RuntimeError, ValueError) as error:
            messages.print(f"[red]Stopped:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
    if tune:
        for finder, best in tuning.choose(out, set_name, [str(f) for f in finders], names, cubes).items():
            values = ", ".join(f"{key} {value:g}" for key, value in best["parameters"].items())
            output.print(f"[bold]{finder}[/]: {values}; F1 {best['f1']:.3f}", highlight=False)
        return
    made = tables(out / set_name, n)
    if not len(made["scores"]):
        messages.print(f"[red]No results in[/] {escape(str(out / set_name))}")
        raise typer.Exit(1)
    for name, table in made.items():
        table.write(out / f"{name}.ecsv", overwrite=True)
    try:
        from napari_almadet.evaluation.plots import save_all
    except ModuleNotFoundError as error:
        messages.print(f'No pictures, {error.name} is missing: pip install "napari-almadet\\[evaluate]"')
    else:
        save_all(made, out)
    print_scores(made["scores"])
    output.print(f"Written to {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)


def preset_with(preset: Preset, device: str, require_line: bool | None, with_psf: bool) -> tuple[str, Settings, bool]:
    """A preset's settings, with a name that says what was changed in them, and whether it is given the dirty beam."""
    with_psf &= preset is Preset.ALMADET
    said = {True: "require-line", False: "keep-continuum", None: ""}[require_line], "with-psf" * with_psf
    name = "-".join([str(preset), *filter(None, said)])
    return name, Settings(preset=str(preset), device=device, require_line=require_line), with_psf


def print_scores(scores: AstropyTable) -> None:
    """Print what matters most of a table of scores, a short table for each stratum."""
    from rich.table import Table

    from napari_almadet.evaluation.report import SHORT

    for stratum in dict.fromkeys(scores["stratum"]):
        rows = scores[scores["stratum"] == stratum]
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        for k, name in enumerate(SHORT):
            table.add_column(name, justify="right" if k else "left", no_wrap=bool(k))
        for row in rows:
            table.add_row(*(cell(row) for cell in SHORT.values()))
        count = f"{max(rows['cubes'])} cubes, {max(rows['sources'])} sources"
        output.print(f"\n[bold]{stratum}[/], {count}", highlight=False)
        output.print(table)
        for row in rows[rows["failures"] > 0]:
            failed = f"{row['finder']} failed on {row['failures']} of {row['cubes']} cubes: {row['failure']}"
            messages.print(f"[red]{escape(failed)}[/]", soft_wrap=True)
    output.print()


def no_display() -> bool:
    """Whether this is a Linux machine without X11 or Wayland."""
    return sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def connected(scheduler: str) -> Client:
    """A client of the cluster at an address, or of the one that a scheduler file tells of; ends the program if none."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        messages.print(f'[red]{error.name} is missing:[/] pip install "napari-almadet\\[distributed]"')
        raise typer.Exit(1) from error
    place = {"address": scheduler} if "://" in scheduler else {"scheduler_file": scheduler}
    try:
        client = Client(**place, timeout=30)
    except (OSError, TimeoutError, ValueError) as error:
        messages.print(
            f"[red]No cluster:[/] {escape(scheduler)} does not answer ({escape(str(error))})", soft_wrap=True
        )
        raise typer.Exit(1) from error
    return client


def watch(cube: Cube, settings: Settings) -> Detections:
    """Run a detection with a progress bar."""
    from napari_almadet.pipeline.detect import detect as run

    with bars() as bar:
        task = bar.add_task(escape(cube.name))
        return run(cube, settings, lambda step: show_step(bar, task, cube.name, step))


def with_bars(tasks: list[Task], work: Search, jobs: int, quiet: bool) -> Iterator[Outcome]:
    """Search cubes with a progress bar for each that is at work, which are gone while an outcome is told."""
    from napari_almadet.pipeline import batch

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
    """Progress bars that vanish when they are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=messages, transient=True, disable=quiet)


def show_step(bar: Progress, task: TaskID, name: str, step: Step) -> None:
    """Show how far a cube is."""
    bar.update(task, description=f"{escape(name)}: {step.stage}", completed=step.done, total=step.total)


def tell(outcome: Outcome, quiet: bool) -> None:
    """Say what became of a cube: all that was found where it is at hand, else a line."""
    folder, count = f"{outcome.task.folder}{os.sep}", sources(outcome.kept)
    if outcome.status == "failed":
        messages.print(f"[red]Failed:[/] {escape(outcome.message)}", soft_wrap=True)
    elif quiet:
        return
    elif outcome.status == "skipped":
        said = f"[bold]{escape(outcome.task.folder.name)}[/]: searched before, {count}; {escape(folder)}"
        output.print(said, highlight=False, soft_wrap=True)
    elif outcome.detections is None:
        said = f"[bold]{escape(outcome.task.folder.name)}[/]: {count} in {outcome.seconds:.0f} s; {escape(folder)}"
        output.print(said, highlight=False, soft_wrap=True)
    else:
        report(outcome.detections)
        output.print(f"Written to {escape(folder)}\n", highlight=False, soft_wrap=True)


def conclude(outcomes: list[Outcome], total: int, out: Path, quiet: bool) -> None:
    """The summary of several cubes: how many of which kind, and once more those that failed."""
    by = {status: [o for o in outcomes if o.status == status] for status in ("searched", "skipped", "failed")}
    if not quiet:
        skipped = f", {len(by['skipped'])} searched before" if by["skipped"] else ""
        found = sources(sum(o.kept for o in outcomes))
        said = f"{len(by['searched'])} of {total} cubes searched{skipped}: {found}. All in {out / 'catalog.ecsv'}"
        output.print(escape(said), highlight=False, soft_wrap=True)
    if by["failed"]:
        messages.print(f"[red]{len(by['failed'])} of {total} cubes could not be searched:[/]", highlight=False)
        for outcome in by["failed"]:
            messages.print(f"  {escape(outcome.message)}", highlight=False, soft_wrap=True)


def sources(count: int) -> str:
    """A number of sources in words."""
    return {0: "no source", 1: "1 source"}.get(count, f"{count} sources")


def report(detections: Detections) -> None:
    """Print what was found: a short table, how many candidates were dropped, and what to beware of."""
    cube, kept = detections.cube, detections.kept
    dropped = len(detections.candidates) - len(kept)
    why = f"; {dropped} of {len(detections.candidates)} candidates dropped" if dropped else ""
    output.print(f"[bold]{escape(cube.name)}[/]: {sources(len(kept))} found{why}.", highlight=False)
    if kept:
        output.print(summary(detections))
    continuum = detections.provenance.get("cube", {}).get("continuum")
    for note in (*cube.notes, *detections.warnings, *([continuum] if continuum else [])):
        output.print(f"Note: {escape(note)}", style="dim", highlight=False)


def summary(detections: Detections) -> Table:
    """The short table of the kept candidates: what an astronomer looks at first."""
    from rich.table import Table

    flux_unit = detections.flux_unit.to_string().replace(" / ", "/")
    place, line = coordinate_names(detections.cube)
    # units below the names: the table is to fit the 80 columns of a pipe
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    judged = ("prob",) if detections.negatives is None else ("prob", "rel")
    for name in ("id", *place, line, f"flux\n({flux_unit})", "SNR", *judged, "kind", ""):
        table.add_column(name, justify="left" if name in ("kind", "") else "right", no_wrap=True)
    for c in detections.kept:
        flags = " ".join(name for name in ("blended", "edge") if getattr(c, name))
        flux = f"{c.f_sum:.3g} ± {c.err_f_sum:.1g}"
        numbers = (f"{getattr(c, name):.2f}" for name in judged)
        place_and_line = coordinates(detections.cube, c)
        table.add_row(str(c.id), *place_and_line, flux, f"{c.snr_pixel:.1f}", *numbers, c.kind, flags)
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
