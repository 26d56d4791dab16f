"""Code shared by the commands: the application, the consoles, and choices of options."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperCommand
from typer.models import CommandFunctionType

from napari_almadet.cli.plain_words import PlainCommand, PlainGroup
from napari_almadet.cli.starting import quiet_interrupts
from napari_almadet.loading import exempt_at_exit


class Program(typer.Typer):
    """The application; Ctrl-C ends it without a traceback until a command installs its own handlers."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = PlainCommand, **settings: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Register a command, by default one whose help and errors are in plain words."""
        return super().command(name, cls=cls, **settings)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        exempt_at_exit()
        with quiet_interrupts():
            return super().__call__(*args, **kwargs)


app = Program(cls=PlainGroup, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_show_locals=False)
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
    EXTENT = "extent"
    BLOBS_FINDER = "blobs-finder"
    DEEP_GRU = "deep-gru"


class Preset(StrEnum):
    """Keys of `napari_almadet.settings.PRESETS`."""

    ALMADET = "almadet"
    PAPER = "paper"


class TableFormat(StrEnum):
    """Formats of a catalogue, keys of `napari_almadet.batch.FORMATS`."""

    ECSV = "ecsv"
    VOTABLE = "votable"
    FITS = "fits"
    CSV = "csv"


class ProgressKind(StrEnum):
    """How progress is shown."""

    BARS = "bars"
    JSON = "json"


class Absorption(StrEnum):
    """`napari_almadet.settings.ABSORPTION`."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class SetName(StrEnum):
    """Keys of `napari_almadet.simulation.dataset.SETS`, repeated here so that help need not import torch."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Scenario(StrEnum):
    """Keys of `napari_almadet.simulation.SCENARIOS_ABOUT`."""

    PAPER = "paper"
    EMPTY = "empty"
    LINE_ONLY = "line-only"
    CONTINUUM_ONLY = "continuum-only"
    BRIGHT = "bright"
    PAIRS = "pairs"
    BEAMS = "beams"
    ARRAYS = "arrays"
    RISING = "rising"
    BORDERS = "borders"
    DISCS = "discs"
    EDGES = "edges"
    PHASE_ERRORS = "phase-errors"
    CLEANED = "cleaned"
    GALAXIES = "galaxies"
    CLOUDS = "clouds"
    ABSORPTION = "absorption"
    CONTINUUM_LEFT = "continuum-left"
    CLEANED_LOOP = "cleaned-loop"
    SMOOTHED = "smoothed"
    SHARED_CHANNELS = "shared-channels"
    SHARED_CHANNELS_EMPTY = "shared-channels-empty"


class FinderName(StrEnum):
    """Keys of `napari_almadet.evaluation.finders.FINDERS`, repeated here so that help need not import torch."""

    PEAKS = "peaks"
    MATCHED_FILTER = "matched-filter"
    FLOOD_FILL = "flood-fill"
    SEP = "sep"
    PHOTUTILS = "photutils"
    AEGEAN = "aegean"
    PYBDSF = "pybdsf"
    DENDROGRAM = "dendrogram"
    SOFIA = "sofia"
