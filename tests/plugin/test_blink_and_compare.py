"""A candidate's channels are played, its image stands beside model and residual, its number beside its box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import SourceMask
from napari_almadet.inspection.source_model import model_of
from napari_almadet.measure.focus import cut_out, focus
from napari_almadet.plugin import blink
from napari_almadet.plugin.blink import Player, frames
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.focus_view import FocusView
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.theme import Colours

pytestmark = pytest.mark.no_window


def test_channels_are_played_of_one_candidate_after_the_other(session, qtbot, monkeypatch):
    monkeypatch.setattr(blink, "FRAME_MS", 1)
    seen = []
    session.channel_changed.connect(seen.append)
    player = Player(session)
    player.on = True
    qtbot.waitUntil(lambda: len(seen) > 20)
    assert set(seen) == set(range(12, 29))  # 14 to 26 and two to either side, over and over
    session.next()
    seen.clear()
    qtbot.waitUntil(lambda: len(seen) > 15)
    assert set(seen) <= set(range(28, 41))
    session.set_channel(3)  # the user's own doing
    qtbot.wait(30)
    assert session.channel == 3
    session.next()
    qtbot.waitUntil(lambda: session.channel == 8)
    player.on = False
    channel = session.channel
    qtbot.wait(20)
    assert session.channel == channel


def test_of_a_wide_range_some_channels_are_played(detections):
    wide = replace(detections.candidates[0], channels=(0, 1000))
    assert len(frames(wide, 1000)) == blink.MOST
    assert (frames(wide, 1000)[0], frames(wide, 1000)[-1]) == (0, 999)


def test_a_gaussian_explains_a_gaussian_and_a_mask_what_it_holds(detections):
    candidate = replace(detections.candidates[0], rms=0.05)
    cutout = cut_out(detections.cube, candidate.box, 64)
    image = focus(cutout.planes, candidate.channels)
    made = model_of(candidate, cutout, detections.cube)
    assert made.words == "a Gaussian"
    assert np.nanstd(image - made.image) < 0.06 * np.nanmax(image)  # the noise of 13 channels, of 12.8
    assert np.nanmax(made.image) == pytest.approx(np.nanmax(image), rel=0.05)
    voxels = np.zeros((13, 3, 3), bool)
    voxels[:, 1, 1] = True
    masked = replace(candidate, method="mask", mask=SourceMask((14, 49, 59), voxels))
    made = model_of(masked, cutout, detections.cube)
    y, x = 50 - cutout.origin[0], 60 - cutout.origin[1]
    assert made.image[y, x] == pytest.approx(image[y, x], rel=1e-5)
    assert np.count_nonzero(np.nan_to_num(made.image)) == 1
    flat = replace(cutout, planes=np.zeros_like(cutout.planes))
    assert model_of(candidate, flat, detections.cube) is None


def test_model_and_residual_stand_beside_the_image_on_its_scale(session, qtbot):
    view = FocusView(session, SpectralChoice(session), Cutouts(session), Colours.of("dark"))
    qtbot.addWidget(view)
    view.show_cut.setChecked(True)
    view.show_model.setChecked(True)
    assert not view.show_cut.isChecked()  # there is no room for both
    model, residual = (item.image for item in view.comparison.images)
    shown = view.picture.values.value
    (y, x), (down, left) = view.picture.origin, view.cutouts.about(session.selected).origin
    both = (model + residual)[: y - down or None, : x - left or None]
    np.testing.assert_allclose(both, shown[down - y :, left - x :], atol=1e-3 * np.nanmax(shown))
    assert tuple(view.comparison.images[0].levels) == pytest.approx(tuple(view.image.levels))
    assert view.comparison.names[1].toPlainText() == "residual"


def test_naparis_display_text_writes_numbers_beside_the_boxes_in_sight(session):
    boxes = session.boxes.layer
    assert not boxes.text.visible
    boxes.text.visible = True
    assert boxes.text.values.tolist() == ["1", "2", "3", "4"]
    session.boxes_everywhere = True
    assert (boxes.text.color.array[:, 3] > 0).tolist() == [True, True, True, False]  # the last is dropped
    session.boxes_everywhere = False
    assert (boxes.text.color.array[:, 3] > 0).tolist() == [True, False, False, False]


def test_lines_on_the_canvas_are_drawn_anew_as_wide_as_before_when_it_is_zoomed(session, viewer, qtbot):
    """napari draws lines of another width only when it is told to: the grid fell apart when one zoomed out."""
    share = 0.6
    width = share * session.boxes.line_width()
    grid = viewer.add_shapes([[[0, 0], [50, 50]]], shape_type="path", edge_width=width, metadata={"marks": share})
    drawn = []
    grid.events.set_data.connect(lambda event: drawn.append(grid.edge_width[0]))
    viewer.scene.camera.zoom /= 3
    qtbot.waitUntil(lambda: drawn != [])
    assert drawn[-1] == pytest.approx(3 * width)
