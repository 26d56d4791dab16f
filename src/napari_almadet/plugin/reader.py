"""napari's way to a cube, in a file or a folder, and to a folder of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from napari.layers import Layer
from napari.utils.notifications import show_error, show_info

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.reading import read_cube
from napari_almadet.cube.storage import image_names, is_casa_image
from napari_almadet.plugin.layers import cube_layer, result_layers

if TYPE_CHECKING:
    from napari import Viewer
    from napari.types import LayerDataTuple

    from napari_almadet.plugin.detect_widget import DetectWidget


PLUGIN, TITLE, WIDGET = "napari-almadet", "ALMA source detection", "Detect sources"  # as in napari.yaml
FITS = (".fits", ".fit", ".fts")
SUFFIXES = (*(fits + packed for fits in FITS for packed in ("", ".gz", ".fz", ".bz2", ".xz")), ".hdf5")


def napari_get_reader(path: str | Sequence[str]) -> Callable[..., list[LayerDataTuple]] | None:
    """The reader of cubes, by their names, or of one folder of results; None for anything else.

    A folder is a cube if it is a CASA image.  napari asks about every folder that is opened, so the answer must
    come at once.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) == 1 and Path(paths[0]).is_dir():
        from napari_almadet.catalogue.result_folder import is_result

        if is_result(paths[0]):
            return read_result
    return read if paths and all(_is_cube(Path(p)) for p in paths) else None


def _is_cube(path: Path) -> bool:
    """Whether a path looks like a cube: a folder by what is in it, a file by its name."""
    return is_casa_image(path) if path.is_dir() else path.name.lower().endswith(SUFFIXES)


def read(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """One image layer a file; a file that is no cube is refused in one sentence, and the others still open.

    Further cubes in a file, such as its errors, are hidden layers.
    """
    paths = [path] if isinstance(path, str) else list(path)
    layers = []
    for each in paths:
        try:
            cube = read_cube(each)
            layers.append(cube_layer(cube))
        except CubeError as error:
            show_error(str(error))
            continue
        layers += other_layers(Path(each))
        if cube.notes:
            show_info("\n".join([f"{cube.name}:", *cube.notes]))
    if layers:
        north_up()
    return layers or [(None,)]  # napari's way to say "read, and nothing to show"


def other_layers(path: Path) -> list[LayerDataTuple]:
    """Hidden layers of the cubes in a file beyond the first, those that are no cubes left out."""
    layers = []
    for name in image_names(path)[1:]:
        try:
            data, meta, kind = cube_layer(read_cube(f"{path}[{name}]"))
        except CubeError:
            continue
        layers.append((data, meta | {"visible": False}, kind))
    return layers


def read_result(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """A folder of results as layers: the cube, the probability map, the boxes; and the panels to inspect them.

    Where the cube is open already, the result is shown in its layer.
    """
    from napari_almadet.catalogue.result_folder import FolderError, Journal, belongs
    from napari_almadet.catalogue.result_folder import read_result as read_folder

    folder = path if isinstance(path, str) else path[0]
    viewer = napari.current_viewer()
    images = [] if viewer is None else [x for x in viewer.layers if isinstance(x.metadata.get("cube"), Cube)]
    image = next((x for x in images if belongs(folder, x.metadata["cube"])), None)
    try:
        detections = read_folder(folder, None if image is None else image.metadata["cube"])
    except (FolderError, CubeError) as error:
        show_error(str(error))
        return [(None,)]
    journal = Journal(folder)
    journal.know(detections)
    open_panels(viewer)
    if image is not None:
        from napari_almadet.plugin.session import Session

        Session.of(viewer).present(image, detections, journal)
        return [(None,)]
    north_up()
    cube = cube_layer(detections.cube)
    return [cube, *result_layers(detections, Layer.create(*cube), journal)]


def open_panels(viewer: Viewer | None) -> None:
    """Open the plugin's panels in a viewer's window, if they are not open, as soon as the layers are there."""
    from qtpy.QtCore import QTimer

    from napari_almadet.plugin.session import Session

    def opened() -> None:
        open_widget(viewer)
        session = Session.of(viewer)
        if session.selected is None and session.candidates:
            session.select(session.candidates[0])

    if hasattr(viewer, "window"):
        QTimer.singleShot(0, opened)


def open_widget(viewer: Viewer) -> DetectWidget:
    """Open the plugin's widget, or find the open one, under the name by which napari's menu shows and hides it."""
    from napari_almadet.plugin.detect_widget import DetectWidget

    name = f"{WIDGET} ({TITLE})"
    if name not in viewer.window.dock_widgets:
        viewer.window.add_dock_widget(DetectWidget(viewer), name=name)
    widget = viewer.window.dock_widgets[name]
    widget.parent().show()
    widget.open_inspector()
    return widget


def north_up() -> None:
    """Turn the viewer so that y goes up: North up and East left, as the sky is drawn.

    A reader has no other way to the viewer, and a negative scale would spoil the extent.
    """
    if (viewer := napari.current_viewer()) is not None:
        viewer.scene.camera.orientation2d = ("up", "right")
