"""A result folder as layers, or in the layer of its cube if that is already open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Layer
from napari.utils.notifications import show_error

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.plugin.layers import cube_layer, frame_in, north_up, result_layers
from napari_almadet.plugin.session import Session

if TYPE_CHECKING:
    from napari import Viewer
    from napari.types import LayerDataTuple


def open_result(folder: str | Path, viewer: Viewer | None) -> list[LayerDataTuple]:
    """Layers of a result folder: cube, probability map and boxes.

    If the cube is already open in the viewer, the result is shown with its layer, and nothing is returned.  Errors are
    reported to the user.
    """
    from napari_almadet.catalogue.result_folder import FolderError, Journal, belongs, read_result

    images = [] if viewer is None else [x for x in viewer.layers if isinstance(x.metadata.get("cube"), Cube)]
    image = next((x for x in images if belongs(folder, x.metadata["cube"])), None)
    try:
        detections = read_result(folder, None if image is None else image.metadata["cube"])
    except (FolderError, CubeError) as error:
        show_error(str(error))
        return []
    journal = Journal(folder)
    journal.know(detections)
    if image is not None:
        Session.of(viewer).present(image, detections, journal)
        return []
    north_up(viewer)
    cube = cube_layer(detections.cube, frame_in(viewer))
    return [cube, *result_layers(detections, Layer.create(*cube), journal)]
