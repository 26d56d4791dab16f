"""What napari's brush does to the masks is what the candidates get, measured and to be undone."""

from __future__ import annotations

import numpy as np
import pytest
from made_by_hand import Listener, stand_in_networks
from napari.layers import Labels, Vectors

from napari_almadet.catalogue.candidate import SourceMask
from napari_almadet.catalogue.result_folder import Journal, read_result, write_result
from napari_almadet.measure.painted_mask import edited
from napari_almadet.plugin.box_layer import LINE
from napari_almadet.plugin.mask_layer import Outline
from napari_almadet.plugin.session import Session

pytestmark = pytest.mark.no_window


@pytest.fixture
def detections(detections):
    """The four candidates; the first two with masks."""
    for candidate in detections.candidates[:2]:
        (first, last), box = candidate.channels, candidate.box
        voxels = np.ones((last - first, *box.shape), bool)
        candidate.mask = SourceMask((first, box.y0, box.x0), voxels)
        candidate.n_pix, candidate.method = voxels.size, "mask"
    return detections


@pytest.fixture
def painted(session):
    session.networks = stand_in_networks
    session.masks.outline = Outline.BOTH
    session.use("paint")
    return session


def labels_of(viewer) -> Labels:
    return next(layer for layer in viewer.layers if isinstance(layer, Labels))


def done(qtbot, session) -> None:
    qtbot.wait(10)  # strokes are read once napari has done its own work
    qtbot.waitUntil(lambda: not session.measuring, timeout=60_000)
    qtbot.wait(30)


def test_a_mask_takes_voxels_and_lets_go_of_them():
    mask = SourceMask((2, 3, 4), np.ones((1, 2, 2), bool))
    more = edited(mask, np.array([[5, 3, 4]]), np.empty((0, 3), int))
    assert (more.origin, more.voxels.shape, int(more.voxels.sum())) == ((2, 3, 4), (4, 2, 2), 5)
    less = edited(more, np.empty((0, 3), int), np.argwhere(np.ones((1, 2, 2))) + np.array((2, 3, 4)))
    assert (less.origin, less.voxels.shape) == ((5, 3, 4), (1, 1, 1))
    assert edited(less, np.empty((0, 3), int), np.array([[5, 3, 4], [0, 0, 0]])) is None
    assert edited(None, np.empty((0, 3), int), np.array([[5, 3, 4]])) is None


def test_a_stroke_of_the_brush_is_the_new_mask_and_one_undo_takes_it_back(painted, viewer, qtbot, tmp_path):
    candidate, layer = painted.candidates[0], labels_of(viewer)
    folder = write_result(painted.detections, tmp_path / "session", keep_cube=True)
    painted.keep_in(painted.detections, Journal(folder))
    painted.journal.know(painted.detections)
    kept = painted.journal
    painted.recorded.connect(kept.record)
    before, flux, pixels = candidate.mask, candidate.f_sum, candidate.n_pix
    changed = Listener(painted.candidate_changed)
    assert (layer.selected_label, str(layer.mode), painted.tool) == (1, "paint", "paint")
    layer.brush_size = 1
    layer.paint((20, 58, 60), 1)  # beyond the box, which ended at 57
    layer.paint((20, 59, 60), 1)
    done(qtbot, painted)
    assert changed.heard == [candidate]
    assert (candidate.n_pix, candidate.box.y1, candidate.method, candidate.origin) == (pixels + 2, 60, "mask", "edited")
    assert candidate.mask.voxels.sum() == pixels + 2
    assert candidate.peaks  # the line is what it was
    assert "your mask" in candidate.reasons[-1]
    measured = candidate.f_sum
    planes = painted.detections.cube.read()
    free = np.r_[0:11, 30:48]  # channels beyond the range 14 to 26 and a margin of a third of it
    summed = (planes - planes[free].mean(axis=0))[candidate.mask.slices][candidate.mask.voxels].sum()
    assert measured / flux_of_sum(painted.detections, candidate) == pytest.approx(summed, rel=0.05)
    again = read_result(folder).candidates[0]
    assert again.n_pix == candidate.n_pix
    np.testing.assert_array_equal(again.mask.voxels, candidate.mask.voxels)
    painted.undo()
    assert (candidate.mask, candidate.f_sum, candidate.n_pix) == (before, flux, pixels)
    assert layer.data[20, 58, 60] == layer.data[20, 59, 60] == 0
    assert read_result(folder).candidates[0].n_pix == pixels


def test_several_strokes_on_one_candidate_are_undone_one_after_the_other(painted, viewer, qtbot):
    candidate, layer = painted.candidates[0], labels_of(viewer)
    layer.brush_size = 1
    pixels = [candidate.n_pix]
    for channel in (27, 28, 29):  # within the box: it stays
        layer.paint((channel, 50, 60), 1)
        done(qtbot, painted)
        pixels.append(candidate.n_pix)
    assert pixels == [pixels[0] + more for more in range(4)]
    for before in reversed(pixels[:-1]):
        painted.undo()
        assert candidate.n_pix == candidate.mask.voxels.sum() == before


def flux_of_sum(detections, candidate) -> float:
    """Flux of a sum over voxels of 1, in the catalogue's unit."""
    from napari_almadet.catalogue.detections import channel_width, flux_factor

    return float(flux_factor(detections.cube)[0] * channel_width(detections.cube, candidate.z).value)


def test_the_brush_shows_the_masks_while_it_is_used(session, viewer, qtbot):
    layer = labels_of(viewer)
    assert not layer.visible  # boxes are drawn
    session.use("paint")
    qtbot.wait(10)
    assert (layer.visible, str(layer.mode), session.tool) == (True, "paint", "paint")
    assert viewer.layers.selection.active == layer
    session.use("edit")
    qtbot.wait(10)
    assert (layer.visible, session.tool) == (False, "edit")


def test_voxels_painted_over_change_hands_and_both_are_measured(painted, viewer, qtbot):
    first, second = painted.candidates[:2]
    layer = labels_of(viewer)
    place = np.add(second.mask.origin, (1, 2, 2))
    pixels = second.n_pix
    layer.brush_size = 1
    layer.paint(tuple(place), first.id)
    done(qtbot, painted)
    assert second.n_pix == pixels - 1
    assert second.channels == (second.mask.slices[0].start, second.mask.slices[0].stop)
    assert first.mask.voxels.sum() == first.n_pix
    assert np.count_nonzero(layer.data == first.id) == first.n_pix


def test_a_mask_with_nothing_left_stays(painted, viewer, qtbot):
    candidate, layer = painted.candidates[1], labels_of(viewer)
    mask, voxels = candidate.mask, np.nonzero(layer.data == candidate.id)
    layer.data_setitem(voxels, 0)
    done(qtbot, painted)
    assert candidate.mask is mask
    assert np.count_nonzero(layer.data == candidate.id) == mask.voxels.sum()


def test_a_new_number_is_a_candidate_of_the_users_own(painted, viewer, qtbot):
    layer = labels_of(viewer)
    layer.brush_size = 7
    layer.paint((12, 28, 90), 70)
    done(qtbot, painted)
    mine = painted.detections.candidates[-1]
    assert (mine.id, mine.origin, mine.channels) == (5, "drawn", (12, 13))
    assert np.count_nonzero(layer.data == 5) == mine.n_pix
    assert not (layer.data == 70).any()
    painted.undo()
    assert len(painted.detections.candidates) == 4
    assert not (layer.data == 5).any()


def outlines_of(viewer) -> Vectors | None:
    return next((layer for layer in viewer.layers if isinstance(layer, Vectors)), None)


def test_masks_are_drawn_instead_of_boxes_in_their_colours(session, viewer):
    assert outlines_of(viewer) is None
    active = viewer.layers.selection.active
    session.masks.outline = Outline.MASK
    first, second = session.candidates[:2]
    session.select(first)
    session.masks.show()
    lines = outlines_of(viewer)
    _, ny, nx = first.mask.voxels.shape
    assert len(lines.data) == 2 * (ny + nx) and viewer.layers.selection.active == active
    np.testing.assert_array_equal(lines.edge_color, np.ones((len(lines.data), 4)))  # the chosen one is white
    y, x = lines.data[:, 0].T
    assert (y.min(), x.min()) == (first.box.y0 - 0.5, first.box.x0 - 0.5)
    session.select(second)
    session.masks.show()
    assert len(lines.data) == 2 * sum(second.mask.voxels.shape[1:])
    session.set_channel(0)  # where no candidate has a voxel
    assert len(lines.data) == 0
    session.boxes_everywhere = True
    seen = session.boxes.layer.edge_color[:, 3] > 0
    assert seen.tolist() == [False, False, True, False]  # the third has no mask; the fourth is dropped
    session.masks.outline = Outline.BOX
    assert (session.boxes.layer.edge_color[:3, 3] > 0).all()
    assert outlines_of(viewer) is None


def test_outlines_are_as_wide_on_the_screen_whatever_the_zoom(session, viewer, qtbot):
    session.masks.outline = Outline.BOTH
    session.select(session.candidates[0])
    widths = []
    for zoom in (20.0, 80.0):
        viewer.scene.camera.zoom = zoom
        qtbot.waitUntil(lambda z=zoom: outlines_of(viewer).edge_width * z * 0.1 == pytest.approx(LINE))
        widths.append(outlines_of(viewer).edge_width)
    assert widths[0] == pytest.approx(4 * widths[1])


@pytest.mark.filterwarnings("error:Contours are not displayed")
def test_in_three_dimensions_masks_are_volumes_and_under_the_brush_its_own(session, viewer, qtbot):
    session.masks.outline = Outline.BOTH
    assert outlines_of(viewer) is not None and not labels_of(viewer).visible
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: labels_of(viewer).visible)
    assert session.masks.outlines.layer is None
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: not labels_of(viewer).visible)
    assert outlines_of(viewer) is not None
    session.use("paint")
    qtbot.waitUntil(lambda: outlines_of(viewer) is None)
    assert labels_of(viewer).visible
    session.use("")
    qtbot.waitUntil(lambda: outlines_of(viewer) is not None)
    session.inspect(None)
    session.masks.show()
    assert outlines_of(viewer) is None


def test_without_masks_a_layer_is_made_to_paint_in(viewer, cube_image, cube, qtbot):
    from made_by_hand import make_detections

    session = Session.of(viewer)
    session.inspect(cube_image)
    session.networks = stand_in_networks
    session.present(cube_image, make_detections(cube))
    session.use("paint")
    labels_of(viewer).paint((20, 50, 60), 1)
    done(qtbot, session)
    assert session.candidates[0].method == "mask"
    assert session.selected is session.candidates[0]
