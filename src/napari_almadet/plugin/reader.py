"""napari's reader for cubes (files or folders) and result folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from napari.utils.notifications import show_error, show_info

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.reading import read_cube, read_image, short_name
from napari_almadet.cube.storage import image_names, is_casa_image
from napari_almadet.plugin.layers import cube_layer, frame_in, north_up, picture_of

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

    from napari_almadet.inspection.placement import SkyFrame

FITS = (".fits", ".fit", ".fts")
SETTINGS = "settings.json"  # of a saved session
CATALOGUES = (".ecsv", ".vot", ".reg", ".crtf")
SUFFIXES = (*(fits + packed for fits in FITS for packed in ("", ".gz", ".fz", ".bz2", ".xz")), ".hdf5")


def napari_get_reader(path: str | Sequence[str]) -> Callable[..., list[LayerDataTuple]] | None:
    """The reader for cubes, chosen by file names, or for a result folder; None for anything else.

    A folder is a cube if it is a CASA image.  napari asks about every folder that is opened, so the answer must
    come at once.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) == 1 and Path(paths[0]).is_dir():
        from napari_almadet.catalogue.result_folder import is_result

        if is_result(paths[0]):
            return read_result
    if len(paths) == 1 and Path(paths[0]).name.lower().endswith((SETTINGS, *CATALOGUES)):
        return _reader_of(Path(paths[0]))
    return read if paths and all(_is_cube(Path(p)) for p in paths) else None


def _is_cube(path: Path) -> bool:
    """Whether a path looks like a cube: a folder by what is in it, a file by its name."""
    return is_casa_image(path) if path.is_dir() else path.name.lower().endswith(SUFFIXES)


def read(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """One image layer per file; a file that is not a cube is refused in one sentence, and the others still open.

    Further cubes in a file, such as its errors, become hidden layers.  Cubes are placed at their positions on the sky,
    relative to those already open.
    """
    paths = [path] if isinstance(path, str) else list(path)
    viewer, layers = napari.current_viewer(), []
    frame = frame_in(viewer)
    for each in paths:
        try:
            cube = read_cube(each)
        except CubeError as error:
            picture = read_map(each, frame)
            if picture is None:
                show_error(str(error))
            else:
                layers.append(picture)
                frame = frame or picture[1]["metadata"]["frame"]
            continue
        layer = cube_layer(cube, frame)
        frame = frame or layer[1]["metadata"]["frame"]
        layers += [layer, *other_layers(Path(each), frame)]
        if cube.notes:
            show_info("\n".join([f"{cube.name}:", *cube.notes]))
    if layers:
        north_up(viewer)
    return layers or [(None,)]  # tells napari that the file was read, but has no layer


def read_map(path: str, frame: SkyFrame | None) -> LayerDataTuple | None:
    """A file with one plane, such as a continuum or moment map, as a layer; None for other files."""
    try:
        data, celestial = read_image(path)
    except CubeError:
        return None
    if data.ndim != 3 or len(data) != 1:
        return None
    return picture_of(Cube(data, wcs=celestial, name=short_name(Path(path))), frame)


def other_layers(path: Path, frame: SkyFrame | None) -> list[LayerDataTuple]:
    """Hidden layers of all further cubes in a file; other images in it are skipped."""
    layers = []
    for name in image_names(path)[1:]:
        try:
            data, meta, kind = cube_layer(read_cube(f"{path}[{name}]"), frame)
        except CubeError:
            continue
        layers.append((data, meta | {"visible": False}, kind))
    return layers


def _reader_of(file: Path) -> Callable[..., list[LayerDataTuple]] | None:
    """The reader for the settings or catalogue of a saved session, or for a separate catalogue; else None."""
    from napari_almadet.catalogue.result_folder import is_result

    if is_result(file.parent):
        return read_part_of_a_session
    return None if file.name.lower().endswith(SETTINGS) else read_catalogue


def read_part_of_a_session(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """Open the session that settings or a catalogue belong to, as if its folder had been opened."""
    return read_result(str(Path(path if isinstance(path, str) else path[0]).parent))


def read_catalogue(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """A catalogue, or regions, as symbols over the cube that is open."""
    from napari_almadet.plugin.catalogue_symbols import add_symbols
    from napari_almadet.plugin.session import Session

    file = Path(path if isinstance(path, str) else path[0])
    viewer = napari.current_viewer()
    session = None if viewer is None else Session.of(viewer)
    if session is not None and session.image is None and session.cube_layers():
        session.inspect(session.cube_layers()[-1])
    if session is None or session.image is None:
        show_error(f"{file.name} is a catalogue: open the cube that it belongs to first.")
    else:
        add_symbols(session, file)
    return [(None,)]


def read_result(path: str | Sequence[str]) -> list[LayerDataTuple]:
    """A result folder as layers (cube, probability map, boxes); also opens the panels to inspect them.

    If the cube is already open, the result is shown with its layer.
    """
    from napari_almadet.plugin.open_result import open_result  # imported here, as it needs a window system
    from napari_almadet.plugin.panels import open_panels

    viewer = napari.current_viewer()
    found = open_result(path if isinstance(path, str) else path[0], viewer)
    open_panels(viewer)
    return found or [(None,)]
