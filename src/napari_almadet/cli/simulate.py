"""``almadet simulate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from napari_almadet.cli.common import Scenario, SetName, app, messages, output
from napari_almadet.simulation import SCENARIOS_ABOUT


@app.command(epilog="\n\n".join(f"[bold]{name}[/]: {about}" for name, about in SCENARIOS_ABOUT.items()))
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for the cubes, in which each gets one.", show_default=False)],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many cubes.")] = 10,
    which: Annotated[
        SetName, typer.Option("--set", help="Which set; each is a stream of seeds that no other shares.")
    ] = SetName.TRAIN,
    scenario: Annotated[
        Scenario, typer.Option(help="What kind of cubes; those below are what the paper's set lacks.")
    ] = Scenario.PAPER,
    stratum: Annotated[Scenario | None, typer.Option("--stratum", hidden=True)] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cubes.")] = 0,
    size: Annotated[
        int, typer.Option(min=64, help="Pixels on a side; of 0.1 arcsec, unless the scenario varies them.")
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

    Each cube gets a folder with dirty.fits, sky.fits, psf.fits, mask.fits (which voxel is whose), truth.ecsv and
    simulation.json.  An interrupted run goes on where it stopped.
    """
    from rich.progress import track

    from napari_almadet.simulation.dataset import write_set
    from napari_almadet.simulation.observe import Observation

    observation = Observation(size=size, n_channels=channels)
    options = {"observation": observation, "sky": sky, "mosaic": mosaic, "jobs": jobs}
    made = write_set(out, n, which=which, scenario=stratum or scenario, seed=seed, **options)
    try:
        for _ in track(made, "Simulating", total=n, console=messages):
            pass
    except ValueError as error:  # the field is too small for what the scenario asks for
        messages.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from error
    output.print(f"{n} cubes in {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)
