"""``almadet simulate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from napari_almadet.cli.common import Scenario, SetName, app, messages, output
from napari_almadet.cli.endings import ends_at_once
from napari_almadet.simulation import SCENARIOS_ABOUT

if TYPE_CHECKING:
    from napari_almadet.simulation.observe import Observation

INSTRUMENT = "Your own instrument"
SHAPES = "Your own sources"
PIXELS_PER_BEAM = 6.0  # of an instrument whose pixels are not given


@app.command(epilog="\n\n".join(f"[bold]{name}[/]: {about}" for name, about in SCENARIOS_ABOUT.items()))
@ends_at_once
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
    size: Annotated[int, typer.Option(min=64, help="Pixels on a side.")] = 360,
    channels: Annotated[int, typer.Option(min=2, help="Channels.")] = 128,
    array: Annotated[
        str | None,
        typer.Option(
            help="Antennas: a configuration that comes along, such as alma_cycle9_c5, or a file of your own: .cfg as "
            "CASA has them, or .ecsv; default: alma_cycle9_c3.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    frequency: Annotated[
        float | None,
        typer.Option(min=0.1, help="GHz, of the middle; default: 230.", rich_help_panel=INSTRUMENT, show_default=False),
    ] = None,
    channel_width: Annotated[
        float | None,
        typer.Option(min=1e-4, help="MHz; default: 10.", rich_help_panel=INSTRUMENT, show_default=False),
    ] = None,
    pixel: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="arcsec; default: 0.1, or of a frequency or an array of your own a sixth of the beam.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    declination: Annotated[
        float | None,
        typer.Option(min=-90, max=90, help="degrees; default: -35.", rich_help_panel=INSTRUMENT, show_default=False),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=1, help="Of observing; default: 40.", rich_help_panel=INSTRUMENT, show_default=False),
    ] = None,
    robust: Annotated[
        float | None,
        typer.Option(
            min=-2,
            max=2,
            help="Briggs' weights; default: natural ones.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            help="mJy/beam in a channel; default: 0.375.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    sources: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Fewest and most in a field.", rich_help_panel=SHAPES, show_default=False),
    ] = None,
    fwhm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Range, in pixels; in beams where the scenario has it so.", rich_help_panel=SHAPES, show_default=False
        ),
    ] = None,
    line_fwhm: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Range, in channels of 128.", rich_help_panel=SHAPES, show_default=False),
    ] = None,
    beams: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of galaxies and clouds: range, in beams.", rich_help_panel=SHAPES, show_default=False),
    ] = None,
    snr: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Of galaxies and clouds: range, of the best place's spectrum.",
            rich_help_panel=SHAPES,
            show_default=False,
        ),
    ] = None,
    brightness: Annotated[
        float | None,
        typer.Option(min=1e-6, help="Times as bright as the scenario's.", rich_help_panel=SHAPES, show_default=False),
    ] = None,
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

    instrument = {
        "array": array,
        "frequency": frequency and frequency * 1e9,
        "channel_width": channel_width and channel_width * 1e6,
        "pixel": pixel,
        "declination": declination,
        "duration": minutes and minutes * 60,
        "robust": robust,
        "noise": noise and noise * 1e-3,
    }
    instrument = {key: value for key, value in instrument.items() if value is not None}
    ranges = {"fwhm": fwhm, "line_fwhm": line_fwhm, "beams": beams, "snr": snr}
    for name, given in ranges.items():
        if given and not 0 < given[0] <= given[1]:
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter("give the least, over 0, and the most", param_hint=option)
    shapes = ranges | {"brightness": brightness}
    shapes |= {"companions": sources and (sources[0] - 1, sources[1] - 1)}
    shapes = {key: value for key, value in shapes.items() if value is not None}
    if sources and not 1 <= sources[0] <= sources[1]:
        raise typer.BadParameter("give the fewest, at least 1, and the most", param_hint="--sources")
    options = {"sky": sky, "mosaic": mosaic, "jobs": jobs, "shapes": shapes, "own_instrument": bool(instrument)}
    try:
        observation = observed_with(size, channels, instrument)
        made = write_set(
            out, n, which=which, scenario=stratum or scenario, seed=seed, observation=observation, **options
        )
        for _ in track(made, "Simulating", total=n, console=messages):
            pass
    except ValueError as error:  # the field is too small for the scenario, the pixels too large for the array, ...
        messages.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from error
    output.print(f"{n} cubes in {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)


def observed_with(size: int, channels: int, instrument: dict) -> Observation:
    """An observation with an instrument; without pixels of one's own they fit its beam.

    Raises
    ------
    ValueError
        If there is no such array, or the pixels are too large for its longest baseline.
    """
    from napari_almadet.simulation.observe import Observation

    observation = Observation(size=size, n_channels=channels, **instrument)
    if "pixel" not in instrument and instrument.keys() & {"array", "frequency", "robust"}:
        observation = observation.with_beam(PIXELS_PER_BEAM)
    if observation.pixel > observation.largest_pixel:
        raise ValueError(
            f"pixels of {observation.pixel:g} arcsec are too large for the longest baseline: "
            f"give --pixel {observation.largest_pixel:.2g} or less"
        )
    return observation
