"""Each workaround does what it is for with the napari installed, and steps aside for one it was not tried with."""

from __future__ import annotations

import ast
import gc
import sys
import threading
import weakref
from pathlib import Path

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer, Shapes
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow

from napari_almadet.plugin import layers, napari_workarounds
from napari_almadet.plugin.napari_workarounds import (
    hold_canvas,
    import_apart,
    paint_boxes,
    prepare_letters,
    tried,
    unobtrusive,
)


@pytest.fixture
def image(cube) -> Image:
    return Layer.create(*layers.cube_layer(cube))


@pytest.fixture
def boxes(detections, image):
    """Make a layer of all boxes."""
    rows = layers.features(detections, detections.candidates)
    return lambda: Layer.create(*layers.boxes_layer(detections, rows, image))


def test_this_napari_is_one_it_was_tried_with():
    assert tried(), "run this file with the new version, then add it to TRIED"


def test_no_other_module_of_the_plugin_reaches_into_napari():
    folder = Path(napari_workarounds.__file__).parent
    ours = {name for kind in (Shapes, Image, ViewerModel) for name in dir(kind) if name[0] == "_" and name[:2] != "__"}
    reached = {
        (path.name, node.attr)
        for path in folder.glob("*.py")
        if path.name != "napari_workarounds.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ours
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    assert not reached


def test_boxes_are_painted_as_by_napari_itself(boxes):
    layer, by_napari = boxes(), boxes()
    rng = np.random.default_rng(5)
    for seen in ([True, True, False, True], [False] * 4, [True] * 4):
        colours = rng.random((4, 4))
        colours[:, 3] = seen
        widths = rng.uniform(0.5, 2, 4)
        paint_boxes(layer, colours, widths)
        by_napari.edge_color, by_napari.edge_width = colours, widths.tolist()
        np.testing.assert_allclose(layer.edge_color, by_napari.edge_color)
        drawn, all_of_them = layer._data_view._mesh, by_napari._data_view._mesh
        kept = np.flatnonzero(seen) if any(seen) else [0]  # with no triangle at all OpenGL fails in three dimensions
        visible = np.isin(all_of_them.displayed_triangles_to_shape_index, kept)
        np.testing.assert_array_equal(drawn.displayed_triangles, all_of_them.displayed_triangles[visible])
        np.testing.assert_allclose(drawn.displayed_triangles_colors, all_of_them.displayed_triangles_colors[visible])
        np.testing.assert_allclose(drawn.vertices, all_of_them.vertices)


def test_hidden_boxes_are_not_found_by_the_mouse(detections, boxes):
    layer = boxes()
    places = [layer.data_to_world((c.box.y0 + 2, c.box.x0 + 2)) for c in detections.candidates]
    ViewerModel().add_layer(layer)

    def found() -> list[int | None]:
        return [layer.get_value(place, world=True)[0] for place in places]

    assert found() == [0, 1, 2, 3]
    colours = np.ones((4, 4))
    colours[[0, 2], 3] = 0
    paint_boxes(layer, colours, np.ones(4))
    assert found() == [None, 1, None, 3]
    paint_boxes(layer, np.ones((4, 4)), np.ones(4))
    assert found() == [0, 1, 2, 3]


def test_a_selected_box_that_is_hidden_has_no_handles(boxes):
    layer = boxes()
    ViewerModel().add_layer(layer)
    layer.mode, layer.selected_data = "select", {1}
    handles = layer._compute_vertices_and_box()[0]
    colours = np.ones((4, 4))
    colours[1, 3] = 0
    paint_boxes(layer, colours, np.ones(4))
    assert layer.selected_data == {1}
    assert len(layer._compute_vertices_and_box()[0]) == 0
    paint_boxes(layer, np.ones((4, 4)), np.ones(4))
    np.testing.assert_allclose(layer._compute_vertices_and_box()[0], handles)


def test_with_another_napari_boxes_are_painted_the_public_way(boxes, monkeypatch):
    layer = boxes()
    monkeypatch.setattr(napari, "__version__", "0.99.0")
    monkeypatch.setattr(napari_workarounds, "_paint_displayed", None)
    colours = np.random.default_rng(5).random((4, 4))
    paint_boxes(layer, colours, np.array([0.5, 1, 2, 3]))
    np.testing.assert_allclose(layer.edge_color, colours)
    assert layer.edge_width == [0.5, 1, 2, 3]


def test_the_canvas_is_held(qtbot):
    window, held = QMainWindow(), []
    canvas = QOpenGLWidget(window)
    qtbot.addWidget(window)
    canvas.makeCurrent = lambda: held.append(canvas)
    window.findChildren = lambda kind: [canvas]
    hold_canvas(window)
    assert held == [canvas]


class Ring:
    def __init__(self):
        self.itself = self


def test_garbage_is_spared_until_the_last_has_left():
    old = Ring()
    seen = weakref.ref(old)
    del old
    with unobtrusive:
        with unobtrusive:
            pass
        gc.collect()
        assert seen() is not None
    gc.collect()
    assert seen() is None


def test_the_interpreter_goes_round_faster_until_the_last_has_left():
    before = sys.getswitchinterval()
    with unobtrusive:
        with unobtrusive:
            pass
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before


def test_a_library_is_imported_in_a_thread_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "takes_note.py").write_text("import threading\nthread = threading.current_thread()\n")
    (tmp_path / "cannot_load.py").write_text("raise OSError('a library is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_apart("takes_note")
    thread = sys.modules.pop("takes_note").thread
    assert thread is not threading.current_thread()
    assert not thread.is_alive()
    with pytest.raises(OSError, match="a library is missing"):
        import_apart("cannot_load")


def test_blank_text_is_on_the_canvas_for_a_moment_only(viewer, qtbot):
    overlays = viewer.canvas.overlays
    before = set(overlays)
    prepare_letters(viewer)
    (name,) = set(overlays) - before
    assert overlays[name].visible
    assert overlays[name].text.isspace()
    qtbot.waitUntil(lambda: set(overlays) == before, timeout=3000)
