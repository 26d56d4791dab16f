"""Before anything is detected: spectra under the pointer and of regions, in the panels that candidates use."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from made_by_hand import make_detections, stand_in_networks

from napari_almadet.catalogue.candidate import Box
from napari_almadet.plugin.inspector import Inspector

pytestmark = pytest.mark.no_window

BEAM_AREA = np.pi / (4 * np.log(2)) * 24  # of a Gaussian beam of 6 x 4 px (FWHM)


@pytest.fixture
def session(unsearched):
    return unsearched


@pytest.fixture
def inspector(session, qtbot):
    inspector = Inspector(session)
    qtbot.addWidget(inspector)
    inspector.resize(1100, 300)
    inspector.show()
    qtbot.waitExposed(inspector)
    return inspector


def point_at(viewer, image, y, x, channel=20):
    viewer.mouse_over_canvas = True
    viewer.cursor.position = image.data_to_world((channel, y, x))


def test_the_spectrum_under_the_pointer(inspector, viewer, cube_image, data, qtbot):
    panel = inspector.spectrum
    point_at(viewer, cube_image, 50, 60)
    qtbot.waitUntil(lambda: bool(panel.profiles) and panel.profiles[0].isVisible())
    np.testing.assert_allclose(panel.profiles[0].getData()[1], data[:, 50, 60], rtol=1e-5)
    assert "pointer x 60, y 50" in panel.profile_names.textItem.toPlainText()
    assert panel.plot.getAxis("left").labelText == "Brightness (Jy/beam)"
    assert panel.line.isVisible()
    point_at(viewer, cube_image, 72, 30)
    qtbot.waitUntil(lambda: np.allclose(panel.profiles[0].getData()[1], data[:, 72, 30]))
    inspector.look_menu.follow.trigger()
    assert not panel.profiles[0].isVisible()


def test_a_click_keeps_the_pixel_and_a_region_shows_its_sum_and_statistics(inspector, session, data):
    session.set_channel(20)
    inspector.look.point(50, 60)
    assert session.subject is session.probe
    np.testing.assert_allclose(inspector.spectrum.data.getData()[1], data[:, 50, 60], rtol=1e-5)
    inspector.look.draw("box")
    layer = inspector.look.layer
    layer.add_rectangles(np.array([[45.6, 50.6], [54.4, 69.4]]))
    inspector.look._read_shapes()
    part = data[:, 46:55, 51:70]
    np.testing.assert_allclose(inspector.spectrum.data.getData()[1], part.sum(axis=(1, 2)) / BEAM_AREA, rtol=1e-4)
    text = inspector.numbers.text()
    assert "box 1" in text
    assert f"{part[20].mean() * 1e3:.4g}" in text or f"{part[20].mean():.4g}" in text
    assert "171" in text  # pixels
    # the pixel is still there, as a curve beside it
    assert "pixel x 60, y 50" in inspector.spectrum.profile_names.textItem.toPlainText()
    session.set_channel(21)
    assert f"{part[21].max():.4g}" in inspector.numbers.text()


def test_moments_and_cuts_of_the_whole_field(inspector, session, data):
    inspector.look.whole_field()
    np.testing.assert_allclose(
        inspector.spectrum.data.getData()[1], data.sum(axis=(1, 2)) / BEAM_AREA, rtol=1e-3, atol=1e-3
    )
    view = inspector.focus
    view.image_choice.setCurrentText("Moment 0")
    view.show_cut.setChecked(True)
    y0, x0 = view.picture.origin
    widths = view._velocity().widths
    expected = (np.where(data > -np.inf, data, 0) * widths[:, None, None]).sum(axis=0)
    shown = view.picture.values[-y0 : 100 - y0, -x0 : 120 - x0]
    np.testing.assert_allclose(shown.to_value(u.Jy / u.beam * u.km / u.s), expected, rtol=1e-3, atol=0.1)
    assert view.cut is not None


def test_smoothing_is_of_what_is_drawn_only(inspector, data):
    inspector.look.point(50, 60)
    panel = inspector.spectrum
    panel.smoothing.setCurrentText("boxcar 3")
    inside = panel.data.getData()[1][1:-1]
    np.testing.assert_allclose(inside, (data[:-2, 50, 60] + data[1:-1, 50, 60] + data[2:, 50, 60]) / 3, rtol=1e-4)
    np.testing.assert_allclose(panel.spectrum.to_value(u.Jy / u.beam), data[:, 50, 60], rtol=1e-5)


def test_a_region_becomes_a_candidate_when_the_user_says_so(inspector, session, qtbot):
    session.networks = stand_in_networks
    inspector.look.point(50, 60)
    inspector.look.draw("box")
    inspector.look.layer.add_rectangles(np.array([[43.6, 53.6], [56.4, 66.4]]))
    inspector.look._read_shapes()
    assert session.detections is None
    inspector.look_menu.candidate.trigger()
    qtbot.waitUntil(lambda: session.detections is not None and session.detections.candidates != [], timeout=60_000)
    (mine,) = session.detections.candidates
    assert (mine.box, mine.origin) == (Box(44, 57, 54, 67), "drawn")
    assert session.selected is mine


def test_a_candidate_is_shown_before_a_region(inspector, session, cube_image, cube):
    inspector.look.point(50, 60)
    session.present(cube_image, make_detections(cube))
    assert session.subject is session.selected
    inspector.look_menu.fill()
    (action,) = inspector.look_menu.chosen.actions()
    action.trigger()
    assert session.selected is None
    assert session.subject is session.probe


def test_another_cube_has_regions_of_its_own(inspector, session, viewer, data):
    inspector.look.point(50, 60)
    inspector.look.draw("ellipse")
    session.inspect(viewer.add_image(data, name="second"))
    assert inspector.look.regions == []
    assert session.probe is None
    assert not [layer for layer in viewer.layers if layer.metadata.get("regions")]


def test_what_to_do_is_said_whole_while_nothing_is_selected(inspector, viewer, cube_image, qtbot):
    point_at(viewer, cube_image, 50, 60)
    qtbot.waitUntil(lambda: inspector.pages.currentIndex() == 1)
    assert inspector.numbers.text().startswith("Click on the sky") and inspector.numbers.text().endswith("Look ▾.")


def test_curves_of_other_units_are_scaled_while_the_candidate_s_own_is_being_read(inspector, session, monkeypatch):
    look, panel = inspector.look, inspector.spectrum
    look.point(50, 60)  # in Jy/beam
    look._whole = None
    look.whole_field()  # in Jy
    monkeypatch.setattr(inspector.cutouts, "about", lambda candidate: None)
    detections = make_detections(inspector.choice.cube)
    session.present(session.image, detections)
    look.point(50, 60)
    look.whole_field()
    session.select(detections.candidates[0])
    assert panel.spectrum is None and panel.plot.getAxis("left").labelText
    assert "(scaled)" in panel.profile_names.textItem.toPlainText()
