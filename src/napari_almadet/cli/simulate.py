"""``almadet simulate``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from napari_almadet.cli.common import Scenario, SetName, app, messages, output
from napari_almadet.cli.interrupts import ends_at_once, make_folder
from napari_almadet.simulation import SCENARIOS_ABOUT

if TYPE_CHECKING:
    from napari_almadet.simulation.observe import Observation

INSTRUMENT = "Your own instrument"
SHAPES = "Your own sources"
PIXELS_PER_BEAM = 6.0  # default pixel size: that of the default instrument, well above Nyquist sampling


@app.command(epilog="\n\n".join(f"[bold]{name}[/]: {about}" for name, about in SCENARIOS_ABOUT.items()))
@ends_at_once
def simulate(
    out: Annotated[
        Path, typer.Argument(help="Folder for the cubes; each gets a folder in it.", metavar="OUT", show_default=False)
    ],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of cubes.")] = 10,
    which: Annotated[
        SetName, typer.Option("--set", help="Which set; the three sets have disjoint random seeds.")
    ] = SetName.TRAIN,
    scenario: Annotated[Scenario, typer.Option(help="Kind of cubes; they are listed below.")] = Scenario.PAPER,
    stratum: Annotated[Scenario | None, typer.Option("--stratum", hidden=True)] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same cubes.")] = 0,
    size: Annotated[int, typer.Option(min=64, help="Side length of the field in pixels.")] = 360,
    channels: Annotated[int, typer.Option(min=2, help="Number of channels.")] = 128,
    array: Annotated[
        str | None,
        typer.Option(
            help="Antenna configuration: a built-in one, such as alma_cycle9_c5, or your own file (CASA's .cfg, or "
            ".ecsv); default: alma_cycle9_c3.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    frequency: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Frequency of the band centre in GHz; default: 230.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    channel_width: Annotated[
        float | None,
        typer.Option(
            min=1e-4, help="Channel width in MHz; default: 10.", rich_help_panel=INSTRUMENT, show_default=False
        ),
    ] = None,
    pixel: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="Pixel size in arcsec; default: 0.1, or a sixth of the beam if --array, --frequency or --robust is "
            "given.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    declination: Annotated[
        float | None,
        typer.Option(
            min=-90,
            max=90,
            help="Declination in degrees; default: -35.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=1, help="Observing time in minutes; default: 40.", rich_help_panel=INSTRUMENT, show_default=False
        ),
    ] = None,
    robust: Annotated[
        float | None,
        typer.Option(
            min=-2,
            max=2,
            help="Briggs robust parameter; default: natural weighting.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            help="Noise per channel in mJy/beam; default: 0.375.",
            rich_help_panel=INSTRUMENT,
            show_default=False,
        ),
    ] = None,
    sources: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Minimum and maximum number per field.", rich_help_panel=SHAPES, show_default=False),
    ] = None,
    fwhm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Range of source FWHM in pixels (in beams for some scenarios).",
            rich_help_panel=SHAPES,
            show_default=False,
        ),
    ] = None,
    line_fwhm: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Range of line FWHM in channels, for a band of 128.", rich_help_panel=SHAPES, show_default=False
        ),
    ] = None,
    beams: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Range of sizes of galaxies and clouds, in beams.", rich_help_panel=SHAPES, show_default=False
        ),
    ] = None,
    snr: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Range of S/N of galaxies and clouds, in the spectrum of their brightest position.",
            rich_help_panel=SHAPES,
            show_default=False,
        ),
    ] = None,
    brightness: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="Factor by which to multiply the scenario's brightnesses.",
            rich_help_panel=SHAPES,
            show_default=False,
        ),
    ] = None,
    sky: Annotated[bool, typer.Option("--sky/--no-sky", help="Also write the sky model cube.")] = True,
    mosaic: Annotated[
        int,
        typer.Option(
            min=1,
            help="N: simulate an N x N-field mosaic with a flat primary beam as one cube. It is written channel by "
            "channel, so it can be larger than memory; no sky model cube is written.",
        ),
    ] = 1,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Number of processes; default: one per core.")
    ] = None,
) -> None:
    """Simulate dirty cubes with known sources, by default as ALMA observes (Cycle 9, C-3, 230 GHz).

    Each cube gets a folder with dirty.fits, sky.fits (the sky model), psf.fits (the dirty beam), mask.fits (the voxels
    of each source), truth.ecsv (the true sources) and simulation.json (all options).  An interrupted run resumes where
    it stopped.
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
            raise typer.BadParameter("give the minimum, greater than 0, and the maximum", param_hint=option)
    shapes = ranges | {"brightness": brightness}
    shapes |= {"companions": sources and (sources[0] - 1, sources[1] - 1)}
    shapes = {key: value for key, value in shapes.items() if value is not None}
    if sources and not 1 <= sources[0] <= sources[1]:
        raise typer.BadParameter("give the minimum, at least 1, and the maximum", param_hint="--sources")
    try:
        observation = observed_with(size, channels, instrument)
        make_folder(out)
        made = write_set(
            out,
            n,
            which=which,
            scenario=stratum or scenario,
            seed=seed,
            observation=observation,
            sky=sky,
            mosaic=mosaic,
            jobs=jobs,
            shapes=shapes,
            own_instrument=bool(instrument),
        )
        for _ in track(made, "Simulating", total=n, console=messages):
            pass
    except ValueError as error:  # the field is too small for the scenario, the pixels too large for the array, ...
        messages.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(1) from error
    output.print(f"{n} cube{'s' if n > 1 else ''} in {escape(str(out))}{os.sep}", highlight=False, soft_wrap=True)


def observed_with(size: int, channels: int, instrument: dict) -> Observation:
    """An observation with a given instrument; the default pixel size samples its beam.

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
