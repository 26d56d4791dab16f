"""``almadet train``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from napari_almadet.cli.common import NetworkName, app, messages, output
from napari_almadet.cli.interrupts import ends_at_once, make_folder


@app.command()
@ends_at_once
def train(
    network: Annotated[NetworkName, typer.Argument(help="Network to train.", metavar="NETWORK", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for checkpoints, log, loss plot and weights.")
    ] = None,
    fields: Annotated[
        int | None, typer.Option(min=16, help="Number of simulated fields; default: the recipe's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Maximum number of epochs; default: the recipe's.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the fields, the noise and the initial weights; default: the recipe's."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Initial weights of source-finder, line-finder or blobs-finder: the name of shipped weights, or a "
            "file.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.0, help="Maximum learning rate; default: the recipe's.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Number of processes that simulate fields; default: one per core."),
    ] = None,
    source_finder: Annotated[
        str, typer.Option(help="For judge and extent: weights of Source Finder, a file or the name of shipped weights.")
    ] = "source_finder",
    line_finder: Annotated[
        str, typer.Option(help="For judge and extent: weights of Line Finder, a file or the name of shipped weights.")
    ] = "line_finder",
    judge: Annotated[
        str, typer.Option(help="For extent: weights of Judge, a file or the name of shipped weights.")
    ] = "judge",
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that prepare batches.")] = 0,
) -> None:
    """Train a network on simulated fields; needs the extra "train".

    To resume an interrupted training from its last epoch, run the same command again.  The trained weights are written
    to OUT as a .safetensors file; use them with detect --weights. The judge (the classifier) is trained on the
    detections of --source-finder and --line-finder; extent (the classifier of extended emission) on these and on the
    probabilities from --judge.
    """
    from rich.progress import Progress

    try:
        from napari_almadet.training import recipes
    except ModuleNotFoundError as error:
        messages.print(f'[red]{error.name} is not installed:[/] pip install "napari-almadet\\[train]"')
        raise typer.Exit(1) from error
    if start and network not in (NetworkName.SOURCE_FINDER, NetworkName.LINE_FINDER, NetworkName.BLOBS_FINDER):
        raise typer.BadParameter(f"{network.value} is always trained from scratch", param_hint="--start")
    trainings: dict[NetworkName, tuple[Callable[..., Path], recipes.Recipe]] = {
        NetworkName.SOURCE_FINDER: (recipes.train_source_finder, recipes.SOURCE_FINDER),
        NetworkName.LINE_FINDER: (recipes.train_line_finder, recipes.LINE_FINDER),
        NetworkName.JUDGE: (
            partial(recipes.train_judge, networks=(source_finder, line_finder)),
            recipes.JUDGE,
        ),
        NetworkName.EXTENT: (
            partial(recipes.train_extent, networks=(source_finder, line_finder, judge)),
            recipes.EXTENT,
        ),
        NetworkName.BLOBS_FINDER: (recipes.train_blobs_finder, recipes.BLOBS_FINDER),
        NetworkName.DEEP_GRU: (recipes.train_deep_gru, recipes.DEEP_GRU),
    }
    teach, recipe = trainings[network]
    changes: dict[str, Any] = {
        "fields": fields,
        "epochs": epochs,
        "seed": seed,
        "workers": workers,
        "start": start,
        "rate": rate,
        "jobs": jobs,
    }
    recipe = replace(recipe, **{key: value for key, value in changes.items() if value is not None})
    folder = out or Path("runs") / network
    make_folder(folder)
    if differ := other_options(folder, {"network": network.value, **asdict(recipe)}):
        messages.print(
            f"[red]{escape(str(folder))} contains a training with other options ({', '.join(differ)}):[/] "
            "choose another --out, or use the same options to resume it.",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    with Progress(console=messages, transient=True) as bar:
        task = bar.add_task("Simulating fields")
        try:
            weights = teach(
                folder,
                recipe,
                lambda done, total: bar.update(task, completed=done, total=total, visible=done < total),
            )
        except ValueError as error:
            messages.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
            raise typer.Exit(1) from error
    output.print(f"Weights: {escape(str(weights))}", highlight=False, soft_wrap=True)


FREE = ("epochs", "workers", "jobs", "patience")  # options that may change when a training is resumed


def other_options(folder: Path, options: dict) -> list[str]:
    """Options that differ from those of the training in a folder; without one, the options are written there."""
    path = folder / "options.json"
    options = {name: value for name, value in json.loads(json.dumps(options)).items() if name not in FREE}
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            before = {}
        return [name for name, value in options.items() if before.get(name) != value]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
    return []
