"""One selection, however it is made; and a session that survives what users do to layers."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from made_by_hand import Listener, make_detections
from napari.components import ViewerModel
from napari.layers import Image, Shapes
from napari.utils._proxies import PublicOnlyProxy

from napari_almadet.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.session import Session


@pytest.fixture
def viewer():
    """A viewer without a window: the session needs none, and the tests are quick."""
    return PublicOnlyProxy(ViewerModel())


def boxes_of(viewer) -> Shapes:
    return next(layer for layer in viewer.layers if isinstance(layer, Shapes))


def test_one_session_a_viewer(viewer, session):
    assert Session.of(viewer) is session


def test_session_lives_no_longer_than_its_panels(make_napari_viewer):
    viewer = make_napari_viewer()
    reference = weakref.ref(Session.of(viewer))
    gc.collect()
    assert reference() is None
    viewer.dims.ndisplay = 3  # callbacks of a session that is gone do no harm


def test_first_candidate_is_selected_at_once(session, detections):
    assert session.selected is detections.candidates[0]
    assert [c.id for c in session.candidates] == [1, 2, 3]


def test_selecting_moves_the_slider_and_marks_the_box(session, viewer, detections):
    session.select(detections.candidates[1])
    assert viewer.dims.current_step[0] == 34
    assert session.channel == 34
    assert set(boxes_of(viewer).selected_data) == {1}


def test_selection_in_the_layer_is_one_signal(session, viewer, detections):
    selections, channels = Listener(session.selection_changed), Listener(session.channel_changed)
    boxes_of(viewer).selected_data = {2}
    assert selections.heard == [detections.candidates[2]]
    assert channels.heard == [12]


def test_selecting_again_is_no_signal(session, detections):
    session.select(detections.candidates[1])
    selections = Listener(session.selection_changed)
    session.select(detections.candidates[1])
    assert selections.heard == []


def test_losing_the_layers_selection_keeps_the_candidate(session, viewer, detections):
    boxes_of(viewer).selected_data = set()
    assert session.selected is detections.candidates[0]


def test_box_that_the_user_drew_selects_nothing(session, viewer):
    boxes = boxes_of(viewer)
    boxes.add_rectangles(np.array([[0, 0], [5, 5]]))
    selections = Listener(session.selection_changed)
    boxes.selected_data = {3}
    assert selections.heard == []


def test_right_candidate_after_the_user_deleted_a_box(session, viewer, detections):
    boxes = boxes_of(viewer)
    boxes.selected_data = {0}
    boxes.remove_selected()
    boxes.selected_data = {1}
    assert session.selected is detections.candidates[2]


def test_next_and_previous_go_round(session):
    seen = []
    for _ in range(4):
        seen.append(session.selected.id)
        session.next()
    assert seen == [1, 2, 3, 1]
    session.select(session.candidates[0])
    session.previous()
    assert session.selected.id == 3


def test_keys(make_napari_viewer, cube, qtbot):
    from napari.layers import Layer
    from vispy.util import keys

    viewer = make_napari_viewer()
    image = viewer.add_layer(Layer.create(*layers.cube_layer(cube)))
    session = Session.of(viewer)
    session.inspect(image)
    session.present(image, make_detections(cube))
    for modifiers, expected in (((), 2), ((), 3), ((keys.SHIFT,), 2)):
        viewer.window._qt_viewer.canvas._scene_canvas.events.key_press(key=keys.Key("N"), modifiers=modifiers)
        assert session.selected.id == expected


def test_next_follows_the_order(session):
    session.sort("snr_global")  # ascending: 3, 2, 1
    assert [c.id for c in session.candidates] == [3, 2, 1]
    session.next()
    assert session.selected.id == 3


def test_dropped_are_shown_and_hidden(session, viewer):
    boxes = boxes_of(viewer)
    boxes.add_rectangles(np.array([[0, 0], [5, 5]]))  # the user's own
    session.show_dropped = True
    assert [c.id for c in session.candidates] == [1, 2, 3, 4]
    assert boxes.features["id"].tolist() == [1, 2, 3, layers.UNKNOWN, 4]
    session.select(session.candidates[3])
    assert set(boxes.selected_data) == {4}
    session.show_dropped = False
    assert boxes.features["id"].tolist() == [1, 2, 3, layers.UNKNOWN]
    assert session.selected is None


def test_slider_tells_the_channel_once(session, viewer):
    channels = Listener(session.channel_changed)
    viewer.dims.set_current_step(0, 7)
    viewer.dims.set_current_step(0, 7)
    assert channels.heard == [7]


def test_other_sliders_tell_no_channel(session, viewer, data):
    viewer.add_image(np.stack([data, data]), name="four axes", scale=(1, 0.1, 0.1, 0.1))
    session.set_channel(30)
    channels = Listener(session.channel_changed)
    viewer.dims.set_current_step(0, 1)
    assert channels.heard == []
    viewer.dims.set_current_step(1, 31)
    assert channels.heard == [31]


def test_channel_of_a_cube_that_lies_elsewhere(viewer, data):
    image = viewer.add_image(data, scale=(2, 3, 4), translate=(50, 0, 0))
    session = Session.of(viewer)
    session.inspect(image)
    session.set_channel(31)
    assert viewer.dims.current_step[0] == 31


def test_camera_goes_to_what_is_out_of_view_only(session, viewer, detections):
    camera = viewer.scene.camera
    viewer.reset_view()
    before = tuple(camera.center)
    session.select(detections.candidates[1])
    assert tuple(camera.center) == before
    camera.zoom = 10 * camera.zoom
    session.select(detections.candidates[2])
    candidate = detections.candidates[2]
    assert camera.center[-2:] == pytest.approx((candidate.y * 0.1, candidate.x * 0.1))


@pytest.mark.parametrize(("drag", "expected"), [(0, 2), (40, 1)])
def test_click_on_a_box_selects_and_a_drag_does_not(session, MouseEvent, drag, expected):
    event = MouseEvent("mouse_press", position=(0.0, 7.2, 3.0), pos=(100, 100))
    steps = session._mouse_pressed(None, event)
    next(steps)
    event.type, event.pos = "mouse_move", (100 + drag, 100)
    next(steps, None)
    event.type = "mouse_release"
    next(steps, None)
    assert session.selected.id == expected


def test_result_layers_are_replaced_and_the_users_are_not(session, viewer, cube_image, cube):
    mine = viewer.add_shapes([[[0, 0], [0, 4], [4, 4], [4, 0]]], name="mine")
    other = viewer.add_image(np.zeros((5, 5, 5)), name="other")
    session.present(cube_image, make_detections(cube))
    assert sorted(layer.name for layer in viewer.layers) == sorted(
        ["toy", "toy candidates", "toy probability", "mine", "other"]
    )
    assert mine in viewer.layers
    assert other in viewer.layers


def test_renamed_layers_are_no_matter(session, viewer, cube_image, cube):
    for layer in viewer.layers:
        layer.name = f"renamed {layer.name}"
    boxes_of(viewer).selected_data = {1}
    assert session.selected.id == 2
    session.present(cube_image, make_detections(cube))
    assert len(viewer.layers) == 3


def test_without_its_boxes_the_rest_goes_on(session, viewer, detections):
    viewer.layers.remove(boxes_of(viewer))
    session.select(detections.candidates[1])
    assert viewer.dims.current_step[0] == 34
    session.show_dropped = True
    session.next()


def test_removed_cube_clears_the_panels(session, viewer, cube_image):
    viewer.layers.remove(cube_image)
    assert (session.image, session.detections, session.selected, session.channel) == (None, None, None, None)
    assert session.candidates == []
    session.next()


def test_each_cube_keeps_its_detections(session, viewer, cube_image, data, detections):
    second = viewer.add_image(data[:, ::-1], name="second")
    found = make_detections(Cube.from_array(second.data, name="second"))
    session.inspect(second)
    assert session.detections is None
    session.present(second, found)
    assert session.detections is found
    viewer.layers.selection.active = cube_image  # as a click in the layer list does
    assert session.image == cube_image
    assert session.detections is detections
    viewer.layers.selection.active = viewer.layers["second candidates"]
    assert session.detections is found


def test_layers_that_can_be_searched(viewer, data):
    wanted = viewer.add_image(data, name="cube")
    viewer.add_image(data[0], name="plane")
    viewer.add_image(np.zeros((4, 8, 8, 3), dtype=np.uint8), rgb=True, name="rgb")
    viewer.add_labels(np.zeros((4, 8, 8), dtype=int))
    assert [layer.name for layer in Session.of(viewer).cube_layers()] == ["cube"]
    assert isinstance(wanted, Image)


def test_a_verdict_is_one_signal_a_candidate_and_one_undo(session, detections):
    first, second, _ = session.candidates
    session.set_note(first, "clear")
    changed, edited = Listener(session.candidate_changed), Listener(session.edited)
    session.set_verdict([first, second], "accepted")
    session.set_verdict([first], "accepted")  # nothing new
    assert changed.heard == [first, second]
    assert edited.heard == [[first, second]]
    assert [c.verdict for c in session.candidates] == ["accepted", "accepted", "unseen"]
    session.undo()
    assert [c.verdict for c in session.candidates] == ["unseen"] * 3
    assert first.note == "clear"
    session.undo()
    session.undo()  # nothing left
    assert first.note == ""


def test_an_unknown_verdict_is_refused(session):
    with pytest.raises(ValueError, match="accepted"):
        session.set_verdict(session.candidates, "perhaps")


def test_refocusing_measures_in_a_thread_and_can_be_undone(session, qtbot):
    candidate = session.candidates[0]
    before, flux = candidate.channels, candidate.f_sum
    changed = Listener(session.candidate_changed)
    session.refocus(candidate, (0, 3))
    session.refocus(candidate, (18, 23))  # overtakes the first
    qtbot.waitUntil(lambda: candidate.channels == (18, 23), timeout=10_000)
    qtbot.wait(200)
    assert changed.heard == [candidate]
    assert candidate.channels == (18, 23)
    assert candidate.f_sum != flux
    row = session.features.set_index("id").loc[candidate.id]
    assert (row["z_min"], row["z_max"], row["f_sum"]) == (18, 22, candidate.f_sum)
    session.undo()
    assert (candidate.channels, candidate.f_sum) == (before, flux)
