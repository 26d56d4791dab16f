"""Sample cubes, made on the spot from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_almadet.plugin.layers import cube_layer
from napari_almadet.plugin.reader import north_up

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

SEED = 2022


def simulated_sources() -> list[LayerDataTuple]:
    """A simulated ALMA observation of a few sources whose truth is known."""
    return _sample("sources")


def noise_only() -> list[LayerDataTuple]:
    """The same observation of an empty field: nothing should be found in it."""
    return _sample("noise")


def _sample(kind: str) -> list[LayerDataTuple]:
    from napari_almadet.simulation.dataset import sample_cube

    north_up()
    return [cube_layer(sample_cube(kind, SEED))]
