"""The table shows the session's candidates and selects them, with one signal a click."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from made_by_hand import Listener, make_detections
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt

from napari_almadet.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.candidates import CandidateTable
from napari_almadet.plugin.session import Session


@pytest.fixture
def viewer():
    return PublicOnlyProxy(ViewerModel())


@pytest.fixture
def table(session, qtbot):
    table = CandidateTable(session)
    qtbot.addWidget(table)
    table.resize(500, 300)
    table.show()
    return table


def cell(table, row: int, title: str) -> str:
    titles = [table.model.headerData(i, Qt.Orientation.Horizontal) for i in range(table.model.columnCount())]
    return table.model.data(table.model.index(row, titles.index(title)))


def click(qtbot, table, row: int) -> None:
    place = table.view.visualRect(table.model.index(row, 1)).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)


def selected_row(table) -> int | None:
    rows = table.view.selectionModel().selectedRows()
    return rows[0].row() if rows else None


def test_rows_read_as_the_sky_does(table, detections, header):
    from astropy.wcs import WCS

    for row, candidate in enumerate(detections.kept):
        ra, dec, frequency = WCS(header).pixel_to_world_values(candidate.x, candidate.y, candidate.z)
        shown = SkyCoord(cell(table, row, "RA"), cell(table, row, "Dec"), unit=("hourangle", "deg"))
        assert shown.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 0.1
        assert float(cell(table, row, "GHz")) == pytest.approx(frequency / 1e9, abs=1e-4)


def test_click_on_a_row_is_one_signal(table, session, detections, viewer, qtbot):
    selections, channels = Listener(session.selection_changed), Listener(session.channel_changed)
    click(qtbot, table, 2)
    assert selections.heard == [detections.candidates[2]]
    assert channels.heard == [12]
    assert set(viewer.layers["toy candidates"].selected_data) == {2}


def test_same_row_can_be_clicked_again(table, session, qtbot):
    click(qtbot, table, 1)
    session.select(None)
    assert selected_row(table) is None
    click(qtbot, table, 1)
    assert session.selected.id == 2


def test_arrow_keys_walk_through_the_rows(table, session, qtbot):
    click(qtbot, table, 0)
    qtbot.keyClick(table.view, Qt.Key.Key_Down)
    assert session.selected.id == 2


def test_selection_elsewhere_marks_the_row_without_an_echo(table, session, detections):
    selections = Listener(session.selection_changed)
    session.select(detections.candidates[1])
    assert selected_row(table) == 1
    assert len(selections.heard) == 1


def test_buttons(table, session, qtbot):
    selections = Listener(session.selection_changed)
    qtbot.mouseClick(table.next_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(table.next_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(table.previous_button, Qt.MouseButton.LeftButton)
    assert [c.id for c in selections.heard] == [2, 3, 2]
    assert selected_row(table) == 1


def test_sorting_by_a_header_keeps_the_selection(table, session):
    session.select(session.candidates[0])
    selections = Listener(session.selection_changed)
    titles = [table.model.headerData(i, Qt.Orientation.Horizontal) for i in range(table.model.columnCount())]
    table.view.sortByColumn(titles.index("S/N"), Qt.SortOrder.AscendingOrder)
    shown = [float(cell(table, row, "S/N")) for row in range(3)]
    assert shown == sorted(shown)
    assert selected_row(table) == 2
    assert selections.heard == []


def test_dropped_are_listed_with_their_reason(table, qtbot):
    table.show_dropped.setChecked(True)
    assert table.model.rowCount() == 4
    assert cell(table, 3, "decision") == "dropped"
    assert table.model.data(table.model.index(3, 0), Qt.ItemDataRole.ToolTipRole) == "dropped: made by hand"
    table.show_dropped.setChecked(False)
    assert table.model.rowCount() == 3


def test_empty_table_has_nothing_to_go_through(qtbot, viewer):
    table = CandidateTable(Session.of(viewer))
    qtbot.addWidget(table)
    assert table.model.rowCount() == 0
    assert not table.next_button.isEnabled()


def test_cube_without_coordinates_has_pixels_and_channels(qtbot, viewer, data):
    bare = Cube.from_array(data)
    image = viewer.add_layer(Layer.create(*layers.cube_layer(bare)))
    session = Session.of(viewer)
    session.present(image, make_detections(bare))
    table = CandidateTable(session)
    qtbot.addWidget(table)
    assert [cell(table, 1, title) for title in ("x", "y", "chan.")] == ["30.0", "72.0", "34.0"]


def test_what_is_not_known_is_a_dash(qtbot, viewer, cube_image, cube):
    found = make_detections(cube)
    found.candidates[0].snr_pixel = np.nan
    session = Session.of(viewer)
    session.present(cube_image, found)
    table = CandidateTable(session)
    qtbot.addWidget(table)
    assert cell(table, 0, "S/N") == "–"
