"""Options of a search, shared by the commands `detect` and `completeness`, and the settings made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_almadet.cli.common import Device, NetworkName, Preset
from napari_almadet.settings import BEAMS, PRESETS, Settings

OfDevice = Annotated[
    Device, typer.Option(help="Where to run the networks; auto tries CUDA, then Apple's MPS, then the CPU.")
]
OfPreset = Annotated[
    Preset,
    typer.Option(help="almadet: search the noise-normalised (S/N) cube; paper: networks and rules as published."),
]
OfThreshold = Annotated[
    float | None,
    typer.Option(
        help="Minimum source probability to keep a candidate, 0 to 1; with the preset paper, threshold for "
        "segmenting the probability map. Default: "
        + ", ".join(f"{value['threshold']:g} with {name}" for name, value in PRESETS.items())
        + ".",
        show_default=False,
    ),
]
OfMinSnr = Annotated[
    float,
    typer.Option(help="Preset paper only: minimum pixel S/N in the band-averaged or in the line-integrated image."),
]
OfRequireLine = Annotated[
    bool | None,
    typer.Option(
        "--require-line/--keep-continuum",
        help="Drop candidates without an emission line (default of the preset paper), or, with --keep-continuum, keep "
        "them (default of almadet).",
        show_default=False,
    ),
]
OfPsf = Annotated[
    Path | None,
    typer.Option(
        help="FITS image of the cube's dirty beam, for dirty cubes with bright sources; same as --beam FILE.",
        exists=True,
        show_default=False,
    ),
]
OfBeam = Annotated[
    str,
    typer.Option(
        help="Whether the cube is dirty. auto: decide from the cube; dirty: yes, estimate its dirty beam from the "
        "cube; clean: no; FILE: yes, and this is a FITS image of its dirty beam.",
        metavar="auto|dirty|clean|FILE",
    ),
]
OfWeights = Annotated[
    list[str] | None,
    typer.Option(
        help="Your own trained weights for one of the networks: source_finder=FILE.safetensors; likewise "
        "line_finder, judge, extent_classifier, blobs_finder, deep_gru. Can be repeated.",
        metavar="NETWORK=FILE",
    ),
]
OfMemory = Annotated[
    float,
    typer.Option(help="Memory limit in GB; larger fields are searched in windows. With --scheduler: for each worker."),
]
OfScheduler = Annotated[
    str | None,
    typer.Option(
        help="Search on a running dask.distributed cluster: tcp://HOST:PORT or a scheduler file. The workers "
        "must be able to read the cubes at the same paths.",
        metavar="ADDRESS",
    ),
]
OfPb = Annotated[
    Path | None,
    typer.Option(
        help="FITS image of the primary beam, on the same pixels as the cube, to correct fluxes and noise.",
        metavar="FILE",
    ),
]
OfFlagChannels = Annotated[
    bool,
    typer.Option(
        "--flag-channels/--all-channels",
        help="Flag bad channels (blank, constant, noisy, striped or offset) and ignore them, or use all channels.",
    ),
]
OfVerbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "--debug",
        help="Print debug messages and tracebacks, and add them to OUT/almadet.log, which otherwise has "
        "warnings and tracebacks, if any.",
    ),
]
OfQuiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]


def search_settings(
    *, preset: str, device: str, psf: Path | None, beam: str, pb: Path | None, weights: list[str] | None, **others: Any
) -> Settings:
    """Settings of a search from the options that `detect` and `completeness` share; files as absolute paths.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """
    if beam not in BEAMS and not _exists(beam):
        raise ValueError(f"--beam is {beam}, but must be {', '.join(BEAMS)}, or an existing image of the dirty beam")
    values: dict[str, Any] = {**own_weights(weights or []), **others}
    return Settings(
        preset=str(preset),
        device=str(device),
        psf=None if psf is None else str(psf.resolve()),
        beam=beam if beam in BEAMS else str(Path(beam).resolve()),
        primary_beam=None if pb is None else str(pb.resolve()),
        **values,
    )


def _exists(address: str) -> bool:
    from napari_almadet.cube.storage import split_address  # slow to import

    return split_address(address)[0].exists()


def own_weights(given: list[str]) -> dict[str, str]:
    """Files of weights by setting, from options such as ``judge=FILE``.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    names = ["extent_classifier" if name is NetworkName.EXTENT else name.replace("-", "_") for name in NetworkName]
    files = {}
    for text in given:
        name, _, file = text.partition("=")
        if name not in names or not file:
            raise ValueError(f"--weights is {text}, but must be NETWORK=FILE; NETWORK is one of {', '.join(names)}")
        files[name] = file
    return files
