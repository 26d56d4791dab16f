"""napari's way to a FITS cube."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import napari
from napari.utils.notifications import show_error, show_info

from napari_almadet.cube import CubeError, read_cube
from napari_almadet.plugin.layers import cube_layer

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.fz", ".fit.fz")


def napari_get_reader(path: str | Sequence[str]) -> Callable[..., list[LayerDataTuple]] | None:
    """The reader of a path or of several, or None if one is no FITS file by its name."""
    paths = [path] if isinstance(path, str) else list(path)
    if all(str(p).lower().endswith(SUFFIXES) for p in paths):
        return read
    return None


def read(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """One image layer a file; a file that is no cube is refused in one sentence, and the others still open."""
    paths = [path] if isinstance(path, str) else list(path)
    layers = []
    for each in paths:
        try:
            cube = read_cube(each)
            layers.append(cube_layer(cube))
        except CubeError as error:
            show_error(str(error))
            continue
        if cube.notes:
            show_info("\n".join([f"{cube.name}:", *cube.notes]))
    if layers:
        north_up()
    return layers or [(None,)]  # napari's way to say "read, and nothing to show"


def north_up() -> None:
    """Turn the viewer so that y goes up: North up and East left, as the sky is drawn.

    A reader has no other way to the viewer, and a negative scale would spoil the extent.
    """
    if (viewer := napari.current_viewer()) is not None:
        viewer.scene.camera.orientation2d = ("up", "right")
