"""The dock below the canvas: it follows the selection and the theme, and leaves room on a small screen."""

from __future__ import annotations

import pytest
from astropy import units as u
from made_by_hand import FakeRun
from napari.settings import get_settings
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QApplication, QMainWindow, QMenu

from napari_almadet.plugin import theme
from napari_almadet.plugin.inspector import SETTLED_MS, Inspector
from napari_almadet.plugin.theme import Colours


@pytest.fixture
def inspector(session, viewer):
    inspector = Inspector(session)
    viewer.window.add_dock_widget(inspector, name="Candidate inspector", area="bottom")
    return inspector


def test_fits_on_a_small_screen(inspector, viewer, qtbot):
    window = inspector.window()
    assert isinstance(window, QMainWindow)
    window.show()
    qtbot.waitUntil(lambda: window.corner(Qt.Corner.BottomLeftCorner) == Qt.DockWidgetArea.LeftDockWidgetArea)
    viewer.window.resize(1280, 720)
    qtbot.wait(100)
    assert (window.width(), window.height()) == (1280, 720)


def test_gets_the_room_of_the_settings_when_they_are_folded(inspector, viewer, make_widget, qtbot):
    widget = make_widget(None)
    inspector.window().show()
    viewer.window.resize(1280, 720)
    widget.options_button.setChecked(True)
    qtbot.waitUntil(lambda: widget.parent().minimumHeight() > 350)
    widget.options_button.setChecked(False)
    qtbot.waitUntil(lambda: widget.parent().minimumHeight() < 330)


def test_has_its_room_again_with_the_candidates_of_another_cube(viewer, cube_image, data, make_widget, qtbot):
    widget = make_widget(FakeRun())
    viewer.window.show()
    viewer.window.resize(1280, 720)
    qtbot.mouseClick(widget.detect_button, Qt.MouseButton.LeftButton)
    inspector = viewer.window.dock_widgets["Candidate inspector"]
    qtbot.waitUntil(lambda: widget.detect_button.isEnabled() and inspector.height() > 230, timeout=60_000)
    before = inspector.height()
    viewer.add_image(data[:, ::-1], name="other")
    qtbot.waitUntil(widget.options_button.isChecked)  # the settings are unfolded, and take their room
    qtbot.wait(SETTLED_MS)
    qtbot.mouseClick(widget.detect_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.detect_button.isEnabled() and inspector.height() >= before - 2, timeout=60_000)


def test_plots_are_painted_once_for_a_candidate(inspector, session, viewer, qtbot):
    inspector.window().show()
    for candidate in session.candidates:  # until every axis has the room it needs
        session.select(candidate)
        qtbot.wait(50)
    painted = []

    class Painted(QObject):
        def eventFilter(self, watched, event):
            if event.type() == QEvent.Type.Paint:
                painted.append(watched)
            return False

    watch, plots = Painted(), (inspector.spectrum.plot, inspector.focus.plot)
    for plot in plots:
        plot.viewport().installEventFilter(watch)
    session.select(session.candidates[0])
    qtbot.wait(100)
    assert sorted(painted, key=id) == sorted([plot.viewport() for plot in plots], key=id)


@pytest.fixture
def high_screen(monkeypatch):
    """A screen that has room for large letters."""
    monkeypatch.setattr(theme, "screen_height", lambda: 2160)


def test_large_letters_fit_on_a_small_screen(inspector, viewer, make_widget, qtbot, monkeypatch):
    monkeypatch.setattr(theme, "screen_height", lambda: 720)
    make_widget(None)
    get_settings().appearance.font_size = 13
    inspector.window().show()
    viewer.window.resize(1280, 720)
    qtbot.wait(100)
    assert inspector.window().minimumSizeHint().width() <= 1280
    inspector.focus.show_cut.setChecked(True)
    qtbot.wait(100)
    image = inspector.focus.plot.getViewBox()
    assert image.width() > 100
    margin = 4  # of the document in a text item
    words = [item for item in (*inspector.focus.names, inspector.focus.range_name) if item.toPlainText()]
    places = [item.sceneBoundingRect().adjusted(margin, margin, -margin, -margin) for item in words]
    for word, place in zip(words, places, strict=True):
        assert sum(place.intersects(other) for other in places) == 1, word.toPlainText()


def test_letters_of_the_plots_follow_napari_s(inspector, high_screen):
    get_settings().appearance.font_size += 4
    size = get_settings().appearance.font_size - 1
    for plot in (inspector.spectrum.plot, inspector.focus.cut_plot):
        axis = plot.getAxis("bottom")
        assert axis.style["tickFont"].pointSizeF() == axis.label.font().pointSizeF() == size


def test_numbers_follow_the_rest_frequency(inspector):
    inspector.spectrum.lines_menu.rest.setValue(231.0)
    assert f"{299792.458 * (1 - 230.2 / 231):.1f} km/s radio, LSRK" in inspector.numbers.text()


def test_what_is_measured_stands_above_the_numbers_and_can_be_copied(inspector, qtbot):
    qtbot.mouseClick(inspector.spectrum.range_button, Qt.MouseButton.LeftButton)
    assert inspector.numbers.text().index("Centroid") < inspector.numbers.text().index("Candidate 1")
    inspector.numbers.linkActivated.emit("statistics")
    said = QApplication.clipboard().text().splitlines()
    assert said[0].startswith("Range 230.")
    assert said[-1].startswith("rms ")
    qtbot.mouseClick(inspector.spectrum.range_button, Qt.MouseButton.LeftButton)
    assert "Centroid" not in inspector.numbers.text()


def test_position_is_copied_from_the_numbers(inspector):
    inspector.numbers.linkActivated.emit("position")
    (menu,) = inspector.readout.findChildren(QMenu, "position")
    menu.actions()[-1].trigger()
    assert QApplication.clipboard().text() == "60.00 50.00"
    menu.close()


def test_small_letters_follow_napari_s(inspector, high_screen):
    before = inspector.numbers.fontInfo().pointSize()
    get_settings().appearance.font_size += 6
    inspector.numbers.ensurePolished()
    assert inspector.numbers.fontInfo().pointSize() == before + 6


def test_hint_until_a_candidate_is_selected(inspector, session, detections):
    assert inspector.pages.currentIndex() == 1
    session.select(None)
    assert inspector.pages.currentIndex() == 0
    assert "Select a candidate" in inspector.hint.text()
    session.select(detections.candidates[1])
    assert inspector.pages.currentIndex() == 1
    assert "Candidate 2" in inspector.numbers.text()


def test_cut_gets_room_beside_the_image(inspector, viewer, qtbot):
    inspector.window().show()
    viewer.window.resize(1600, 900)
    qtbot.wait(50)
    before = inspector.panels.sizes()
    inspector.focus.show_cut.setChecked(True)
    after = inspector.panels.sizes()
    assert after[1] > 1.5 * before[1]
    assert after[0] < before[0]


def test_reasons_get_more_of_a_wide_window(inspector, viewer, qtbot):
    inspector.window().show()
    viewer.window.resize(1900, 900)
    qtbot.wait(50)
    sizes = inspector.panels.sizes()
    assert sizes[2] > 0.26 * sum(sizes)
    assert sizes[0] > sizes[2]


def test_follows_the_theme(inspector, viewer):
    viewer.theme = "light"
    assert inspector.spectrum.data.opts["pen"].color().name() == Colours.of("light").text


def test_one_axis_for_all_panels(inspector):
    inspector.focus.image_choice.setCurrentText("Moment 1")
    before = float(inspector.focus.image.levels[1])
    inspector.spectrum.unit_choice.setCurrentText("km/s optical")
    assert inspector.choice.axis.choice == "km/s optical"
    assert float(inspector.focus.image.levels[1]) != before


def test_plots_take_on_the_ground_of_either_theme(inspector, viewer):
    for theme_name in ("light", "dark"):
        viewer.theme = theme_name
        for plot in (inspector.spectrum.plot, inspector.focus.plot):
            assert plot.backgroundBrush().color().name() == Colours.of(theme_name).background


def test_one_choice_of_units_is_that_of_spectrum_image_readout_and_region(inspector, session):
    menu = inspector.spectrum.units_menu
    menu.fill()
    words = {action.text(): action for action in menu.actions()}
    assert not words["topocentric: the header gives no time of observation (DATE-OBS)"].isEnabled()
    assert words["as in the header (LSRK)"].isChecked()
    words["K"].trigger()
    menu.fill()
    words = {action.text(): action for action in menu.actions()}
    words["barycentric"].trigger()
    words["mean brightness"].trigger()
    assert inspector.spectrum.plot.getAxis("left").labelText == "Mean brightness (K)"
    assert inspector.focus.picture.values.unit == "K km / s"
    assert "BARYCENT" in inspector.spectrum.plot.getAxis("bottom").labelText
    assert "BARYCENT" in inspector.numbers.text()
    shown = inspector.spectrum.spectrum.to_value("K").max()
    candidate, cube = session.selected, session.detections.cube
    mean = cube.read(20, *candidate.box.slices).mean() * u.Jy / u.beam
    expected = (mean * u.beam / cube.beam.sr).to(u.K, u.brightness_temperature(cube.frequency(20)))
    assert shown == pytest.approx(expected.value, rel=1e-4)
