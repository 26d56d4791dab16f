"""What stands beside an axis fits there."""

from __future__ import annotations

import pytest

from napari_almadet.plugin.plots import Plot
from napari_almadet.plugin.theme import Colours


@pytest.fixture
def plot(qtbot):
    plot = Plot()
    plot.dress(Colours.of("dark"))
    qtbot.addWidget(plot)
    plot.show()
    return plot


def test_a_name_is_as_long_as_there_is_room_for(plot, qtbot):
    plot.resize(500, 400)
    plot.name("left", "Brightness (mJy/beam)", "mJy/beam")
    plot.name("bottom", "Relativistic velocity, LSRK (km/s)", "km/s relativistic")
    left, bottom = plot.getAxis("left"), plot.getAxis("bottom")
    qtbot.waitUntil(lambda: left.labelText == "Brightness (mJy/beam)")
    assert bottom.labelText == "Relativistic velocity, LSRK (km/s)"
    for width, height in ((500, 140), (500, 130), (220, 130)):
        plot.resize(width, height)
        qtbot.wait(20)
        for axis in (left, bottom):  # nothing of it lies outside the plot
            seen = plot.mapFromScene(axis.label.sceneBoundingRect()).boundingRect()
            assert plot.viewport().rect().contains(seen.center())
    assert left.labelText == "mJy/beam"
    assert bottom.labelText == "km/s relativistic"
    plot.resize(500, 400)
    qtbot.waitUntil(lambda: left.labelText == "Brightness (mJy/beam)")


def test_a_name_lies_at_the_middle_of_its_axis(plot, qtbot):
    plot.resize(500, 140)
    plot.name("left", "Brightness (mJy/beam)", "mJy/beam")
    for height in (140, 400, 140, 300):
        plot.resize(500, height)
        qtbot.wait(20)
        axis = plot.getAxis("left")
        middle = axis.label.sceneBoundingRect().center().y()
        assert middle == pytest.approx(axis.sceneBoundingRect().center().y(), abs=4)


def test_small_values_stand_at_the_axis_as_they_are(plot, qtbot):
    plot.name("left", "Brightness (K)")
    plot.setYRange(0, 0.7, padding=0)
    left = plot.getAxis("left")
    qtbot.waitUntil(lambda: left.range[1] == 0.7)
    assert "x0.001" not in left.label.toPlainText() and left.autoSIPrefixScale == 1.0
