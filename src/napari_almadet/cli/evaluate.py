"""``almadet evaluate``."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from napari_almadet.cli.common import Device, FinderName, Preset, Scenario, SetName, app, messages, output
from napari_almadet.cli.interrupts import ends_at_once, make_folder
from napari_almadet.cli.search_options import own_weights
from napari_almadet.cli.terminal import print_scores
from napari_almadet.cube.errors import in_one_line
from napari_almadet.settings import Settings


@app.command(
    epilog="""[bold]Examples[/]\n
almadet evaluate -n 60\n
almadet evaluate --tune --finder peaks --finder matched-filter -n 20 -o scores/\n
almadet evaluate --preset paper --preset almadet --finder peaks --finder matched-filter -n 300 -o scores/"""
)
@ends_at_once
def evaluate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all results.", file_okay=False)] = Path(
        "evaluation"
    ),
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", min=1, help="Number of cubes per scenario; default: 100; with --render: all."),
    ] = None,
    presets: Annotated[
        list[Preset] | None, typer.Option("--preset", help="Preset to evaluate; can be repeated; default: almadet.")
    ] = None,
    finders: Annotated[
        list[FinderName] | None,
        typer.Option(
            "--finder",
            help="Classical source finder to evaluate; can be repeated. Without --preset, only finders are evaluated.",
        ),
    ] = None,
    scenarios: Annotated[
        list[Scenario] | None, typer.Option("--scenario", help="Kind of cubes; can be repeated; default: all.")
    ] = None,
    strata: Annotated[list[Scenario] | None, typer.Option("--stratum", hidden=True)] = None,
    which: Annotated[SetName, typer.Option("--set", help="Which set of cubes.")] = SetName.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the set of cubes.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to simulate and to run the networks.")] = Device.AUTO,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Number of processes; default: one per core, or one on a GPU."),
    ] = None,
    require_line: Annotated[
        bool | None, typer.Option("--require-line/--keep-continuum", help="As for detect; default: the preset's.")
    ] = None,
    with_psf: Annotated[
        bool, typer.Option("--with-psf", help="Give the preset almadet each cube's dirty beam, as detect --psf does.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="As for detect; default: the preset's.", show_default=False)
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="As for detect: your own trained weights, NETWORK=FILE.safetensors; their results are listed "
            "separately from those of the shipped weights.",
            metavar="NETWORK=FILE",
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Only choose the parameters of the classical finders, on the validation set; later runs with the same "
            "OUT use them.",
        ),
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="Search nothing; make the tables and plots again from the results in OUT.")
    ] = False,
    join: Annotated[
        Path | None,
        typer.Option(
            help="Search nothing; add the results in another folder to those in OUT, then as --render.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Evaluate presets and classical source finders on simulated cubes.

    Candidates are matched one to one with the true sources within 3 pixels. The cubes are the ones that "almadet
    simulate" writes for the same set and seed; they are simulated as needed and not kept. The detections are kept in
    OUT/SET/SCENARIO/, so that an interrupted or extended run only searches the cubes that are missing.

    [bold]OUT/scores.ecsv[/]: all rates and errors, one row per scenario and finder.

    [bold]OUT/curves.ecsv[/], [bold]errors.ecsv[/]: rates and errors against S/N.

    [bold]OUT/calibration.ecsv[/]: source probability against the fraction of true sources.

    [bold]OUT/*.png[/]: the same as plots, if matplotlib is installed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from napari_almadet.evaluation import run, tuning
    from napari_almadet.evaluation.scores import tables

    if tune and (presets or not finders):
        raise typer.BadParameter("--tune is for classical finders only: name them with --finder")
    if tune and join:
        raise typer.BadParameter("--tune searches, --join does not: give one of them")
    if join:
        render = True
        try:
            added = run.join(out, join)
        except (OSError, ValueError) as error:
            messages.print(f"[red]Not joined:[/] {escape(in_one_line(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
        output.print(f"{added} records from {escape(str(join))}", highlight=False, soft_wrap=True)
    if finders and not render:
        finders = installed(finders, alone=not presets)
    names = [str(s) for s in [*(scenarios or []), *(strata or [])] or Scenario]
    set_name = str(SetName.VALIDATION if tune else which)
    cubes = n or 100
    contenders: list[run.Preset | run.Classical]
    if tune:
        contenders = [variant for finder in finders or [] for variant in tuning.variants(str(finder))]
    else:
        try:
            own = own_weights(weights or [])
            contenders = [
                run.Preset(*preset_with(preset, str(device), require_line, with_psf, threshold, own))
                for preset in presets or ([] if finders else [Preset.ALMADET])
            ]
        except (OSError, ValueError) as error:
            raise typer.BadParameter(str(error)) from error
        contenders += [tuning.with_tuned_parameters(out, str(finder)) for finder in finders or []]
    if not render:
        make_folder(out)
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        try:
            with Progress(*columns, console=messages, transient=True) as bar:
                task = bar.add_task("", total=None)
                steps = run.run(out, contenders, names, cubes, which=set_name, seed=seed, device=str(device), jobs=jobs)
                for done, total in steps:
                    bar.update(task, completed=done, total=total)
        except ModuleNotFoundError as error:
            messages.print(f'[red]{error.name} is not installed:[/] pip install "napari-almadet\\[evaluate]"')
            raise typer.Exit(1) from error
        except (OSError, RuntimeError, ValueError) as error:
            messages.print(f"[red]Stopped:[/] {escape(in_one_line(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
    if tune:
        for finder, best in tuning.choose(out, set_name, [str(f) for f in finders or []], names, cubes).items():
            values = ", ".join(f"{key} {value:g}" for key, value in best["parameters"].items())
            output.print(f"[bold]{finder}[/]: {values}; F1 {best['f1']:.3f}", highlight=False)
            if best.get("on_edge"):
                edge = f"{finder}: best at the edge of the values tried for {', '.join(best['on_edge'])}"
                messages.print(f"[yellow]{edge}; values beyond it may be better[/]", highlight=False)
            if best.get("failures"):
                messages.print(f"[red]{finder} failed on {best['failures']} cubes[/]", highlight=False)
        return
    made = tables(out / set_name, n)
    if not len(made["scores"]):
        messages.print(f"[red]No results in[/] {escape(str(out / set_name))}")
        raise typer.Exit(1)
    for name, table in made.items():
        table.write(out / f"{name}.ecsv", overwrite=True)
    try:
        from napari_almadet.evaluation.score_plots import save_all
    except ModuleNotFoundError as error:
        messages.print(f'No plots: {error.name} is not installed; pip install "napari-almadet\\[evaluate]"')
    else:
        save_all(made, out)
    print_scores(made["scores"])
    output.print(f"Written to {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)


def installed(finders: list[FinderName], alone: bool) -> list[FinderName]:
    """The finders that the user has, with one sentence for each program that is missing; exits if nothing is left."""
    from napari_almadet.evaluation.finders import FINDERS

    left = []
    for finder in finders:
        try:
            if program := FINDERS[str(finder)].program:
                program()
        except FileNotFoundError as error:
            messages.print(f"[yellow]Without {finder}.[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        else:
            left.append(finder)
    if alone and not left:
        raise typer.Exit(1)
    return left


def preset_with(
    preset: Preset,
    device: str,
    require_line: bool | None,
    with_psf: bool,
    threshold: float | None = None,
    weights: dict[str, str] | None = None,
) -> tuple[str, Settings, bool]:
    """Settings of a preset, a name that includes what was changed, and whether the dirty beam is given."""
    with_psf &= preset is Preset.ALMADET
    changes = [
        {True: "require-line", False: "keep-continuum", None: ""}[require_line],
        "with-psf" * with_psf,
        "" if threshold is None else f"threshold-{threshold:g}",
        *(f"{name}-{short_hash(path)}" for name, path in sorted((weights or {}).items())),
    ]
    name = "-".join([str(preset), *filter(None, changes)])
    changed: dict[str, Any] = {"require_line": require_line, "threshold": threshold, **(weights or {})}
    return name, Settings(preset=str(preset), device=device, **changed), with_psf


def short_hash(path: str) -> str:
    """The first 8 hexadecimal digits of a file's sha256.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
