"""The ``almadet`` command; slow modules are imported only by the command that needs them, so that help is immediate."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from napari_almadet import __version__
from napari_almadet.cli import completeness, detect, evaluate, simulate, train
from napari_almadet.cli.common import app, output
from napari_almadet.cli.terminal import report, watch
from napari_almadet.settings import Settings

COMMANDS = (detect, completeness, evaluate, simulate, train)  # each registers its command when it is imported


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

    [bold]almadet demo[/] shows a detection on a simulated cube.
    [bold]almadet detect CUBE.fits -o out/[/] searches your own cube.
    """


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Do not open a window; print the table of candidates.")
    ] = False,
) -> None:
    """Open napari with a simulated cube and detect its sources.

    Without a display, print the table of candidates instead.
    """
    if headless or no_display():
        from napari_almadet.simulation.dataset import sample_cube

        report(watch(sample_cube("sources"), Settings()))
    else:
        from napari_almadet.plugin.demo import run_demo

        run_demo()


def no_display() -> bool:
    """Whether this is a Linux machine without X11 or Wayland."""
    return sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
