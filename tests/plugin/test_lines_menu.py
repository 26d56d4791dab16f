"""The form behind "Lines": rest frequency, redshift, and which line it is."""

from __future__ import annotations

import pytest
from astropy import units as u
from qtpy.QtCore import Qt

from napari_almadet.inspection.redshifts import Observed
from napari_almadet.plugin import lines_menu
from napari_almadet.plugin.lines_menu import LinesMenu
from napari_almadet.plugin.spectral_choice import SpectralChoice

pytestmark = pytest.mark.no_window


@pytest.fixture
def menu(session, qtbot):
    menu = LinesMenu(session, SpectralChoice(session))
    qtbot.addWidget(menu)
    menu.aboutToShow.emit()
    return menu


def test_shows_the_headers_rest_frequency(menu):
    assert menu.rest.value() == pytest.approx(230.0)


def test_typing_a_rest_frequency(menu, qtbot):
    menu.rest.selectAll()
    qtbot.keyClicks(menu.rest, "230.538")
    qtbot.keyClick(menu.rest, Qt.Key.Key_Return)
    assert menu.choice.rest_frequency.to_value(u.GHz) == pytest.approx(230.538)
    menu.header_button.click()
    assert menu.rest.value() == pytest.approx(230.0)


def test_velocity_zero_at_the_peak(menu):
    menu.peak_button.click()
    assert menu.choice.velocity.world(20) == pytest.approx(0, abs=0.01)


def test_identifying_the_line_sets_the_redshift_and_marks_lines(menu, detections, cube):
    index = next(i for i in range(menu.identity.count()) if menu.identity.itemText(i).startswith("CO 3-2, "))
    menu.identity.setCurrentIndex(index)
    menu.identity.activated.emit(index)
    z = 345.7959899 / cube.frequency(20).to_value("GHz") - 1
    assert menu.redshift.value() == pytest.approx(z, abs=1e-5)
    marked = {line.name: f for line, f in menu.in_band()}
    assert menu.choice.rest_frequency.to_value(u.GHz) == pytest.approx(345.7959899)
    menu.aboutToShow.emit()
    assert menu.identity.currentIndex() == index
    assert marked["CO 3-2"] == pytest.approx(cube.frequency(20).to_value("GHz"), abs=2e-3)


def test_nearest_identities_come_first(menu):
    redshifts = [float(menu.identity.itemText(i).split("z = ")[1]) for i in range(1, menu.identity.count())]
    assert [abs(z) for z in redshifts] == sorted(abs(z) for z in redshifts)
    assert min(redshifts) >= -0.01


def test_nothing_selected(menu, session):
    session.select(None)
    menu.aboutToShow.emit()
    assert not menu.identity.isEnabled()
    assert not menu.peak_button.isEnabled()
    assert menu.in_band() == []


def test_two_lines_offer_the_redshifts_that_explain_them(menu, cube, monkeypatch):
    observed = cube.frequency(20).to_value("GHz")
    shift = 345.7959899 / observed
    lines = [Observed(observed, 1e-3), Observed(461.0407682 / shift, 1e-3)]  # CO 3-2 and 4-3
    monkeypatch.setattr(lines_menu, "observed_lines", lambda cube, candidate: lines)
    menu.aboutToShow.emit()
    assert menu.identity.itemText(1).startswith("CO 3-2, CO 4-3: z = ")
    menu.identity.activated.emit(1)
    assert menu.redshift.value() == pytest.approx(shift - 1, abs=2e-5)
    assert menu.choice.rest_frequency.to_value(u.GHz) == pytest.approx(345.7959899)
