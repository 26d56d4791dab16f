"""Sample cubes, simulated from a seed when they are opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari

from napari_almadet.plugin.layers import cube_layer, frame_in, north_up, truth_layer
from napari_almadet.plugin.napari_workarounds import import_apart

if TYPE_CHECKING:
    from astropy.table import QTable
    from napari.types import LayerDataTuple

    from napari_almadet.cube.cube import Cube
    from napari_almadet.inspection.placement import SkyFrame


def simulated_sources() -> list[LayerDataTuple]:
    """A simulated ALMA observation of a few sources, and a hidden layer with their true positions."""
    return _sample("sources")


def noise_only() -> list[LayerDataTuple]:
    """The same observation of an empty field, in which nothing should be found."""
    return _sample("noise")


def _sample(kind: str) -> list[LayerDataTuple]:
    viewer = napari.current_viewer()
    north_up(viewer)
    if viewer is None:  # there may be no window system
        return _layers(kind, None)
    from napari_almadet.plugin.background import waited_for

    return waited_for(_layers, kind, frame_in(viewer))


def _layers(kind: str, frame: SkyFrame | None) -> list[LayerDataTuple]:
    """Simulate the cube and prepare its layers, which import as much again."""
    cube, truth = _simulated(kind)
    layer = cube_layer(cube, frame)
    return [layer, truth_layer(truth, layer)] if len(truth) else [layer]


def _simulated(kind: str) -> tuple[Cube, QTable]:
    import_apart("torch")
    from napari_almadet.simulation.dataset import cube_of, sample

    simulated = sample(kind)
    return cube_of(simulated, name=f"simulated {kind}"), simulated.truth
