"""The three choices act on the cube's layer, and only on what is shown of it."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_almadet.plugin.stretch import limits
from napari_almadet.plugin.stretch_bar import StretchBar

pytestmark = pytest.mark.no_window


@pytest.fixture
def bar(session, qtbot):
    bar = StretchBar(session)
    qtbot.addWidget(bar)
    bar.show()
    return bar


def choose(qtbot, box, text: str) -> None:
    """Pick an entry of a list with the keyboard."""
    steps = box.findText(text) - box.currentIndex()
    for _ in range(abs(steps)):
        qtbot.keyClick(box, Qt.Key.Key_Down if steps > 0 else Qt.Key.Key_Up)
    assert box.currentText() == text


def test_stretch_leaves_data_and_limits(bar, session, qtbot):
    image, data = session.image, session.image.data.copy()
    before = image.contrast_limits
    choose(qtbot, bar.stretch, "asinh")
    assert image.colormap.name == "inferno asinh"
    assert image.contrast_limits == before
    np.testing.assert_array_equal(image.data, data)
    choose(qtbot, bar.stretch, "linear")
    assert image.colormap.name == "inferno"


def test_interval_of_the_whole_cube(bar, session, cube, qtbot):
    choose(qtbot, bar.interval, "98 %")
    expected = limits(cube, "98 %")
    qtbot.waitUntil(lambda: tuple(session.image.contrast_limits) == pytest.approx(expected), timeout=20_000)


def test_limits_of_each_channel(bar, session, cube, viewer, qtbot):
    choose(qtbot, bar.scope, "each channel")
    choose(qtbot, bar.interval, "min to max")
    for channel in (20, 3):
        viewer.dims.set_current_step(0, channel)
        plane = cube.data[channel]
        assert session.image.contrast_limits == pytest.approx([plane.min(), plane.max()])


def test_blank_channel_keeps_the_limits(bar, session, cube, viewer, qtbot):
    cube.data[7] = np.nan
    choose(qtbot, bar.scope, "each channel")
    choose(qtbot, bar.interval, "min to max")
    viewer.dims.set_current_step(0, 6)
    before = list(session.image.contrast_limits)
    viewer.dims.set_current_step(0, 7)
    assert list(session.image.contrast_limits) == before


def test_another_colour_map_is_stretched_too(bar, session, qtbot):
    choose(qtbot, bar.stretch, "sqrt")
    session.image.colormap = "viridis"
    assert session.image.colormap.name == "viridis sqrt"
    choose(qtbot, bar.stretch, "linear")
    assert session.image.colormap.name == "viridis"


def test_each_layer_keeps_its_display(bar, session, viewer, data, qtbot):
    first = session.image
    choose(qtbot, bar.stretch, "log")
    session.inspect(viewer.add_image(data, name="other"))
    assert bar.stretch.currentText() == "linear"
    session.inspect(first)
    assert bar.stretch.currentText() == "log"


def test_without_a_cube(bar, session):
    session.inspect(None)
    assert not bar.isEnabled()
