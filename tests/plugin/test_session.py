"""One selection, however it is made; and a session that survives what users do to layers."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import numpy as np
import pytest
from made_by_hand import Listener, make_detections, stand_in_networks
from matplotlib import colormaps
from napari.layers import Image, Labels, Shapes, Vectors
from napari.utils.colormaps.standardize_color import transform_color

from napari_almadet.catalogue.candidate import Box
from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.box_layer import HANDLED, LINE
from napari_almadet.plugin.session import Filter, Session
from napari_almadet.plugin.shortcuts import KEYS

pytestmark = pytest.mark.no_window


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


def test_a_line_that_the_user_drew_selects_nothing(session, viewer, qtbot):
    boxes = boxes_of(viewer)
    boxes.add_lines(np.array([[0, 0], [5, 5]]))
    qtbot.wait(20)
    selections = Listener(session.selection_changed)
    boxes.selected_data = {4}
    assert selections.heard == []
    assert len(session.detections.candidates) == 4


def test_next_and_previous_go_round(session):
    seen = []
    for _ in range(4):
        seen.append(session.selected.id)
        session.next()
    assert seen == [1, 2, 3, 1]
    session.select(session.candidates[0])
    session.previous()
    assert session.selected.id == 3


def press_key(viewer, key, modifiers=()):
    from vispy.util import keys

    viewer.window._qt_viewer.canvas._scene_canvas.events.key_press(key=keys.Key(key), modifiers=modifiers)


def test_no_key_is_napari_s_own():
    from napari.utils.shortcuts import default_shortcuts

    taken = {str(binding) for bindings in default_shortcuts.values() for binding in bindings}
    assert not taken & {shown for _, shown in KEYS.values()}


def test_keys(make_napari_viewer, cube, qtbot):
    from napari.layers import Layer
    from vispy.util import keys

    viewer = make_napari_viewer()
    image = viewer.add_layer(Layer.create(*layers.cube_layer(cube)))
    session = Session.of(viewer)
    session.inspect(image)
    session.present(image, make_detections(cube))
    press = partial(press_key, viewer)
    for modifiers, expected in (((), 2), ((), 3), ((keys.SHIFT,), 2)):
        press("N", modifiers)
        assert session.selected.id == expected
    for key, expected in (("K", "accepted"), ("J", "rejected"), ("U", "unreviewed")):
        press(key)
        assert session.selected.verdict == expected
    press("Z", (keys.CONTROL,))
    assert session.selected.verdict == "rejected"
    session.keys_on = False
    press("N")
    press("K")
    assert (session.selected.id, session.selected.verdict) == (2, "rejected")


def test_next_follows_the_order(session):
    session.sort("snr_global")  # ascending: 3, 2, 1
    assert [c.id for c in session.candidates] == [3, 2, 1]
    session.next()
    assert session.selected.id == 3


def seen_boxes(viewer) -> list[int]:
    """Candidates whose boxes are to be seen on the canvas."""
    boxes = boxes_of(viewer)
    return boxes.features["id"][boxes.edge_color[:, 3] > 0].tolist()


def test_boxes_are_seen_in_the_channels_they_live_in(session, viewer):
    # emission ranges, from made_by_hand.SOURCES: 14 to 26, 30 to 38, 7 to 17
    for channel, expected in ((20, [1]), (15, [1, 3]), (30, [2]), (28, [])):
        session.set_channel(channel)
        assert seen_boxes(viewer) == expected
    session.boxes_everywhere = True
    assert seen_boxes(viewer) == [1, 2, 3]


def test_in_three_dimensions_candidates_are_blocks_over_their_channels(session, viewer, qtbot):
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: seen_boxes(viewer) == [])
    (blocks,) = (layer for layer in viewer.layers if isinstance(layer, Vectors))
    ends = blocks.data[:, 0].reshape(3, 12, 3), blocks.data.sum(axis=1).reshape(3, 12, 3)
    low, high = np.minimum(*ends).min(axis=1), np.maximum(*ends).max(axis=1)
    # box and inclusive channels of made_by_hand.SOURCES
    assert low.tolist() == [[13.5, 43.5, 53.5], [29.5, 66.5, 24.5], [6.5, 23.5, 85.5]]
    assert high.tolist() == [[26.5, 56.5, 66.5], [38.5, 77.5, 35.5], [17.5, 32.5, 94.5]]
    assert blocks.data_to_world((20, 50, 60)) == viewer.layers["toy"].data_to_world((20, 50, 60))
    session.set_verdict(session.candidates[1:2], "rejected")
    session.filter_by = Filter(verdict="rejected")
    assert blocks.data.shape == (12, 2, 3)
    np.testing.assert_allclose(blocks.edge_color[0], transform_color(layers.VERDICT_COLOURS["rejected"])[0])
    viewer.dims.ndisplay = 2
    qtbot.waitUntil(lambda: blocks not in viewer.layers)
    session.boxes_everywhere = True
    assert seen_boxes(viewer) == [2]


def test_lines_of_boxes_are_as_wide_on_the_screen_at_any_zoom(session, viewer, qtbot):
    def wide() -> float:
        boxes, camera = boxes_of(viewer), viewer.scene.camera
        return min(boxes.edge_width) * viewer.layers["toy"].scale[-1] * camera.zoom

    for zoom in (0.5, 8.0, 300.0):
        viewer.scene.camera.zoom = zoom
        qtbot.waitUntil(lambda: abs(wide() - LINE) < 0.01)


def test_filters_hide_rows_and_boxes(session, viewer):
    session.boxes_everywhere = True
    session.filter_by = Filter(dropped=True)
    assert [c.id for c in session.candidates] == seen_boxes(viewer) == [1, 2, 3, 4]
    session.select(session.candidates[3])
    assert set(boxes_of(viewer).selected_data) == {3}
    session.filter_by = Filter()
    assert seen_boxes(viewer) == [1, 2, 3]
    assert session.selected is None


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(min_snr=12), [1, 2]),  # the S/N are 17, 14, 11, 8
        (Filter(min_prob=0.7), [1, 2]),  # the probabilities 0.85, 0.75, 0.65, 0.55
        (Filter(kind="continuum"), [2]),
        (Filter(verdict="accepted"), [3]),
        (Filter(text="MAYBE"), [1]),
        (Filter(text="flagged"), [3]),
        (Filter(text="(", min_snr=1), []),
        (Filter(text="made", dropped=True), []),
        (Filter(min_snr=5, dropped=True), [1, 2, 3, 4]),
    ],
)
def test_what_filters_let_through(session, wanted, expected):
    first, second, third = session.candidates
    session.set_note(first, "maybe two")
    second.kind = "continuum"
    session.set_note(second, "x")
    session.set_verdict([third], "accepted")
    session.filter_by = wanted
    assert [c.id for c in session.candidates] == expected


def test_colours_tell_verdict_decision_or_probability(session, viewer):
    session.boxes_everywhere = True
    boxes = boxes_of(viewer)

    def colours():
        return ["#" + bytes((255 * c[:3]).round().astype("u1")).hex() for c in boxes.edge_color]

    session.set_verdict(session.candidates[:1], "accepted")
    session.set_verdict(session.candidates[1:2], "rejected")
    verdicts = layers.VERDICT_COLOURS
    assert colours()[:3] == [verdicts["accepted"], verdicts["rejected"], verdicts["unreviewed"]]
    session.colour_by = "status"
    assert colours() == [layers.STATUS_COLOURS[c.status] for c in session.detections.candidates]
    session.colour_by = "prob"
    np.testing.assert_allclose(boxes.edge_color[0, :3], colormaps["viridis"](0.85)[:3], atol=0.02)


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
    session.boxes_everywhere = True
    event = MouseEvent("mouse_press", position=(0.0, 7.2, 3.0), pos=(100, 100))
    steps = session.boxes.mouse_pressed(None, event)
    next(steps)
    event.type, event.pos = "mouse_move", (100 + drag, 100)
    next(steps, None)
    event.type = "mouse_release"
    next(steps, None)
    assert session.selected.id == expected


def test_the_boxes_come_first_and_lie_on_top_in_the_end(viewer, cube_image, cube, session, detections):
    again = make_detections(cube)
    made = layers.make_result_layers(again, cube_image)
    order = []
    viewer.layers.events.inserted.connect(lambda event: order.append(event.value))
    for _ in session._presenting_steps(cube_image, again, made):
        if session.detections is again and len(order) == 1:  # those of the earlier detection are still there
            assert session.boxes.layer is made[-1] and session.selected in (None, again.candidates[0])
    assert order[0] is made[-1] and isinstance(made[-1], Shapes) and len(order) == len(made)
    there = [layer for layer in viewer.layers if layer.metadata.get("detections")]
    assert there == made and viewer.layers.selection.active == made[-1]
    assert session.masks.layer == next((layer for layer in made if isinstance(layer, Labels)), None)
    assert session.selected is again.candidates[0]


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
    session.filter_by = Filter(dropped=True)
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
    assert [c.verdict for c in session.candidates] == ["accepted", "accepted", "unreviewed"]
    session.undo()
    assert [c.verdict for c in session.candidates] == ["unreviewed"] * 3
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
    qtbot.waitUntil(lambda: candidate.channels == (18, 23), timeout=60_000)
    qtbot.wait(200)
    assert changed.heard == [candidate]
    assert candidate.channels == (18, 23)
    assert candidate.f_sum != flux
    row = session.features.set_index("id").loc[candidate.id]
    assert (row["z_min"], row["z_max"], row["f_sum"]) == (18, 22, candidate.f_sum)
    session.undo()
    assert (candidate.channels, candidate.f_sum) == (before, flux)


@pytest.fixture
def measured(session):
    """The session with a stand-in for Deep GRU."""
    session.networks = stand_in_networks
    return session


def test_a_box_that_is_moved_is_measured_there(measured, viewer, qtbot):
    first, boxes = measured.candidates[0], boxes_of(viewer)
    outlines = boxes.data
    outlines[0] = outlines[0] + np.array([2.2, 2.8])  # not by whole pixels
    boxes.data = outlines
    qtbot.waitUntil(lambda: first.origin == "edited", timeout=60_000)
    assert first.box == Box(46, 59, 57, 70)
    assert np.hypot(first.x - 60, first.y - 50) < 1.5  # the source is still in it
    np.testing.assert_allclose(first.spectrum, measured.detections.cube.read()[:, 46:59, 57:70].sum((1, 2)), atol=1e-2)
    row = boxes.features.set_index("id").loc[1]
    assert (row["x_min"], row["origin"]) == (57, "edited")
    np.testing.assert_allclose(outline_of(boxes, 1), layers.corners([first.box])[0])  # it snapped to the pixels
    measured.undo()
    assert first.box == Box(44, 57, 54, 67)
    np.testing.assert_allclose(outline_of(boxes, 1), layers.corners([first.box])[0])


def outline_of(boxes, number) -> np.ndarray:
    return boxes.data[boxes.features["id"].tolist().index(number)]


@pytest.mark.parametrize("add", ["add_rectangles", "add_ellipses", "add_polygons"])
def test_a_box_drawn_on_the_sky_becomes_a_candidate(measured, viewer, qtbot, add):
    outline = [[73.6, 89.6], [73.6, 104.4], [86.4, 104.4], [86.4, 89.6]]
    getattr(boxes_of(viewer), add)(np.array(outline))
    qtbot.waitUntil(lambda: len(measured.detections.candidates) == 5, timeout=60_000)
    mine = measured.detections.candidates[-1]
    assert (mine.id, mine.origin, mine.box) == (5, "drawn", Box(74, 87, 90, 105))
    assert measured.selected is mine
    assert boxes_of(viewer).features["id"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(boxes_of(viewer).data[-1], layers.corners([mine.box])[0])
    measured.undo()
    assert [c.id for c in measured.detections.candidates] == [1, 2, 3, 4]
    assert boxes_of(viewer).features["id"].tolist() == [1, 2, 3, 4]


def test_a_box_outside_the_field_is_refused(measured, viewer, qtbot, monkeypatch):
    told = []
    monkeypatch.setattr("napari_almadet.plugin.session.show_error", told.append)
    boxes_of(viewer).add_rectangles(np.array([[-30, -30], [-10, -10]]))
    qtbot.waitUntil(lambda: boxes_of(viewer).nshapes == 4)
    assert len(told) == 1
    assert "outside the field" in told[0]


def test_the_buttons_choose_napari_s_tools(measured, viewer):
    measured.use("draw")
    assert viewer.layers.selection.active == boxes_of(viewer)
    assert boxes_of(viewer).mode == "add_rectangle"
    said = []
    measured.tool_changed.connect(said.append)
    measured.use("edit")
    assert boxes_of(viewer).mode == "select"
    assert set(boxes_of(viewer).selected_data) == {0}
    assert measured.tool == "edit"
    boxes_of(viewer).mode = "pan_zoom"  # as napari's own button does
    assert measured.tool == ""
    assert said[-2:] == ["edit", ""]
    measured.use("edit")
    viewer.layers.selection.active = viewer.layers["toy"]
    assert measured.tool == ""


def test_editing_zooms_to_a_box_that_is_too_small_for_its_handles(measured, viewer):
    camera = viewer.scene.camera
    camera.zoom = 0.5 / viewer.layers["toy"].scale[-1]  # two pixels of the cube to one of the screen
    measured.use("edit")
    box = measured.selected.box
    assert camera.zoom * viewer.layers["toy"].scale[-1] * min(box.shape) == pytest.approx(HANDLED)
    y, x = box.centre
    assert tuple(camera.center[-2:]) == pytest.approx(viewer.layers["toy"].data_to_world((0, y, x))[-2:], abs=0.05)


def test_selected_boxes_are_bold(measured, viewer, qtbot):
    def bold() -> list[int]:
        widths = np.array(boxes_of(viewer).edge_width)
        return np.flatnonzero(widths > widths.min()).tolist()

    qtbot.waitUntil(lambda: bold() == [0])
    measured.next()
    qtbot.waitUntil(lambda: bold() == [1])
    boxes_of(viewer).selected_data = {2}
    qtbot.waitUntil(lambda: bold() == [2])
    assert set(boxes_of(viewer).selected_data) == {2}
    assert measured.selected is measured.candidates[2]
    measured.use("edit")  # napari's handles mark it now
    qtbot.waitUntil(lambda: bold() == [])


def test_deleting_a_box_rejects_what_was_found(measured, viewer, qtbot):
    boxes = boxes_of(viewer)
    boxes.selected_data = {1}
    boxes.remove_selected()
    qtbot.waitUntil(lambda: measured.detections.candidates[1].verdict == "rejected")
    assert sorted(boxes.features["id"]) == [1, 2, 3, 4]  # it is still there, as rejected
    measured.undo()
    assert measured.detections.candidates[1].verdict == "unreviewed"


def test_deleting_a_box_of_ones_own_takes_it_away(measured, viewer, qtbot):
    assert measured.add(Box(74, 87, 90, 105)) is not None
    qtbot.waitUntil(lambda: len(measured.detections.candidates) == 5, timeout=60_000)
    boxes = boxes_of(viewer)
    assert set(boxes.selected_data) == {4}
    boxes.remove_selected()
    qtbot.waitUntil(lambda: len(measured.detections.candidates) == 4)
    measured.undo()
    assert len(measured.detections.candidates) == boxes.nshapes == 5


def test_what_was_judged_stays_in_sight_until_one_goes_on(session):
    session.filter_by = Filter(verdict="unreviewed")
    session.accept()
    assert [c.id for c in session.candidates] == [1, 2, 3]
    session.next()
    assert [c.id for c in session.candidates] == [2, 3]
    assert session.selected.id == 2


def test_a_verdict_can_lead_on(session):
    session.advance = True
    session.reject()
    assert session.selected.id == 2


def test_several_are_judged_at_once(session):
    first, _, third = session.candidates
    selections = Listener(session.selection_changed)
    session.choose([first, third], first)
    session.reject()
    assert [c.verdict for c in session.candidates] == ["rejected", "unreviewed", "rejected"]
    assert selections.heard == []


def test_a_measurement_that_fails_is_told_and_changes_nothing(measured, qtbot, monkeypatch):
    told = []
    monkeypatch.setattr("napari_almadet.plugin.session.show_error", told.append)
    measured.networks = lambda settings: 1 / 0
    before = dict(vars(measured.selected))
    measured.move(measured.selected, Box(40, 60, 50, 70))
    qtbot.waitUntil(lambda: told != [], timeout=60_000)
    assert "division by zero" in told[0]
    assert all(vars(measured.selected)[name] is value for name, value in before.items())


def another_detection(cube, shift=0.0):
    """The same sources found again in another order, one of them elsewhere."""
    found = make_detections(cube)
    for number, candidate in enumerate(reversed(found.candidates), start=1):
        candidate.id = number
    found.candidates.reverse()
    found.candidates[-1].x += shift
    return found


def test_another_detection_takes_over_what_was_said(session, cube_image, cube):
    session.set_verdict(session.candidates[:1], "accepted")
    session.set_note(session.candidates[1], "companion?")
    session.present(cube_image, another_detection(cube))
    said = {c.id: (c.verdict, c.note) for c in session.detections.candidates}
    assert said == {1: ("unreviewed", ""), 2: ("unreviewed", ""), 3: ("unreviewed", "companion?"), 4: ("accepted", "")}
    assert session.features.set_index("id").loc[4, "verdict"] == "accepted"


def test_a_verdict_on_what_is_not_found_again_stays(session, viewer, cube_image, cube):
    session.set_verdict(session.candidates[:1], "accepted")
    session.present(cube_image, another_detection(cube, shift=40.0))
    assert [(c.id, c.verdict) for c in session.candidates if c.verdict != "unreviewed"] == [(5, "accepted")]
    assert sorted(boxes_of(viewer).features["id"]) == [1, 2, 3, 4, 5]


def test_undo_brings_the_earlier_detection_back_whole(session, viewer, cube_image, cube, detections):
    first = session.candidates[0]
    session.set_verdict([first], "accepted")
    session.set_note(session.candidates[1], "companion?")
    session.present(cube_image, another_detection(cube, shift=40.0))
    session.set_verdict(session.candidates[:1], "rejected")
    session.undo()
    session.undo()
    assert session.detections is detections
    assert [(c.verdict, c.note) for c in session.candidates] == [
        ("accepted", ""),
        ("unreviewed", "companion?"),
        ("unreviewed", ""),
    ]
    assert boxes_of(viewer).features["id"].tolist() == [1, 2, 3, 4]
    session.undo()
    session.undo()
    assert (first.verdict, session.candidates[1].note) == ("unreviewed", "")


def test_a_saved_session_is_opened_as_it_was_saved(session, cube_image, cube):
    class Saved:
        path = None

    session.set_verdict(session.candidates, "rejected")
    session.present(cube_image, make_detections(cube), Saved())
    assert [c.verdict for c in session.candidates] == ["unreviewed"] * 3
    session.undo()
    assert [c.verdict for c in session.candidates] == ["rejected"] * 3


@pytest.fixture
def second(measured, viewer, data):
    """Another cube with detections of its own, not on show."""
    image = viewer.add_image(data[:, ::-1], name="second")
    measured.inspect(image)
    measured.present(image, make_detections(Cube.from_array(image.data, name="second")))
    measured.inspect(viewer.layers["toy"])
    return image


def test_a_box_that_is_measured_while_another_cube_is_on_show_is_not_lost(measured, viewer, detections, second, qtbot):
    first = detections.candidates[0]
    drawn = measured.add(Box(74, 87, 90, 105))
    measured.move(first, Box(46, 59, 57, 70))
    measured.inspect(second)
    qtbot.waitUntil(lambda: not measured.measuring, timeout=60_000)
    assert (first.box, first.origin) == (Box(46, 59, 57, 70), "edited")
    assert detections.candidates[-1] is drawn
    assert len(measured.detections.candidates) == 4
    measured.inspect(viewer.layers["toy"])
    assert sorted(boxes_of(viewer).features["id"]) == [1, 2, 3, 4, drawn.id]
    np.testing.assert_allclose(outline_of(boxes_of(viewer), 1), layers.corners([first.box])[0])
    measured.undo()
    measured.undo()
    assert [c.id for c in detections.candidates] == [1, 2, 3, 4]
    assert first.origin == "found"


def test_sources_taken_in_while_another_cube_is_on_show_are_not_lost(measured, detections, second, tmp_path, qtbot):
    (tmp_path / "theirs.csv").write_text("x,y\n97,80\n")
    measured.take_in(tmp_path / "theirs.csv")
    measured.inspect(second)
    qtbot.waitUntil(lambda: len(detections.candidates) == 5, timeout=60_000)
    assert detections.candidates[-1].origin == "imported"
    assert len(measured.detections.candidates) == 4


def test_candidates_are_made_one_and_undo_parts_them(measured, viewer, qtbot):
    first, second = measured.candidates[:2]
    measured.choose([first, second], first)
    measured.merge()
    qtbot.waitUntil(lambda: len(measured.detections.candidates) == 3, timeout=60_000)
    assert measured.selected.id == 5
    assert sorted(boxes_of(viewer).features["id"]) == [3, 4, 5]
    measured.undo()
    assert sorted(c.id for c in measured.detections.candidates) == [1, 2, 3, 4]
    assert sorted(boxes_of(viewer).features["id"]) == [1, 2, 3, 4]
