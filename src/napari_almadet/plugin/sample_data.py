"""Sample cubes, made on the spot from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_almadet.plugin.layers import cube_layer, truth_layer
from napari_almadet.plugin.reader import north_up

if TYPE_CHECKING:
    from napari.types import LayerDataTuple


def simulated_sources() -> list[LayerDataTuple]:
    """A simulated ALMA observation of a few sources, and a hidden layer with what is true of them."""
    return _sample("sources")


def noise_only() -> list[LayerDataTuple]:
    """The same observation of an empty field: nothing should be found in it."""
    return _sample("noise")


def _sample(kind: str) -> list[LayerDataTuple]:
    from napari_almadet.simulation.dataset import cube_of, sample

    north_up()
    simulated = sample(kind)
    cube = cube_layer(cube_of(simulated, name=f"simulated {kind}"))
    return [cube, truth_layer(simulated.truth, cube)] if len(simulated.truth) else [cube]
