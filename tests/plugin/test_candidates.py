"""The table shows the session's candidates and selects them, with one signal a click."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from made_by_hand import Listener, make_detections
from napari.layers import Layer
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QComboBox, QLineEdit

from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.candidates import CandidateTable
from napari_almadet.plugin.session import Filter, Session

pytestmark = pytest.mark.no_window


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
    table.filters.dropped.setChecked(True)
    assert table.model.rowCount() == 4
    assert cell(table, 3, "status") == "dropped"
    assert "4 of 4 listed" in table.counts.text()
    assert "Purity about 75 %" in table.counts.text()  # of the others: nobody takes a dropped one for a source
    assert table.model.data(table.model.index(3, 0), Qt.ItemDataRole.ToolTipRole) == "dropped: made by hand"
    table.filters.dropped.setChecked(False)
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


def index_of(table, row: int, title: str):
    return table.model.index(row, [column.title for column in table.model.columns].index(title))


def test_keys_in_the_table_do_what_they_do_on_the_canvas(table, session, qtbot):
    click(qtbot, table, 0)
    qtbot.keyClick(table.view, Qt.Key.Key_N)
    assert session.selected.id == 2
    qtbot.keyClick(table.view, Qt.Key.Key_K)
    qtbot.keyClick(table.view, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClick(table.view, Qt.Key.Key_J)
    assert [c.verdict for c in session.candidates] == ["rejected", "accepted", "unreviewed"]
    qtbot.keyClick(table.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert [cell(table, row, "verdict") for row in range(3)] == ["unreviewed", "accepted", "unreviewed"]
    session.keys_on = False
    qtbot.keyClick(table.view, Qt.Key.Key_J)
    assert session.selected.verdict == "unreviewed"


def test_a_verdict_is_chosen_in_its_cell(table, session, qtbot):
    index = index_of(table, 1, "verdict")
    place = table.view.visualRect(index).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    (editor,) = table.view.findChildren(QComboBox)
    qtbot.keyClick(editor.view(), Qt.Key.Key_Down)
    qtbot.keyClick(editor.view(), Qt.Key.Key_Return)
    assert session.candidates[1].verdict == "accepted"
    assert cell(table, 1, "verdict") == "accepted"


def test_the_list_of_verdicts_shows_them_all(table, qtbot):
    place = table.view.visualRect(index_of(table, 1, "verdict")).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    (editor,) = table.view.findChildren(QComboBox)
    qtbot.waitUntil(editor.view().isVisible)
    last = editor.model().index(editor.count() - 1, 0)
    assert editor.view().visualRect(last).bottom() < editor.view().viewport().height()
    qtbot.keyClick(editor.view(), Qt.Key.Key_Escape)


def test_a_note_is_written_in_its_cell_and_its_letters_are_no_keys(table, session, qtbot):
    table.resize(1200, 300)
    index = index_of(table, 1, "note")
    place = table.view.visualRect(index).center()
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(table.view.viewport(), Qt.MouseButton.LeftButton, pos=place)
    (editor,) = table.view.findChildren(QLineEdit)
    qtbot.keyClicks(editor, "junk?")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: session.candidates[1].note != "")
    assert (session.candidates[1].note, session.candidates[1].verdict) == ("junk?", "unreviewed")
    assert session.selected.id == 2


def test_several_rows_are_judged_at_once(table, session, qtbot):
    click(qtbot, table, 0)
    place = table.view.visualRect(table.model.index(2, 1)).center()
    selections = Listener(session.selection_changed)
    qtbot.mouseClick(table.view.viewport(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, place)
    assert [c.id for c in session.chosen] == [1, 3]
    assert [c.id for c in selections.heard] == [3]
    qtbot.mouseClick(table.accept_button, Qt.MouseButton.LeftButton)
    assert [c.verdict for c in session.candidates] == ["accepted", "unreviewed", "accepted"]
    qtbot.mouseClick(table.undo_button, Qt.MouseButton.LeftButton)
    assert [c.verdict for c in session.candidates] == ["unreviewed"] * 3


def test_filters_and_counts(table, session, qtbot):
    session.set_verdict(session.candidates[:1], "rejected")
    assert "3 of 4 listed: 2 unreviewed, 0 accepted, 1 rejected" in table.counts.text()
    assert "Purity about 75 %" in table.counts.text()  # 0.85, 0.75, 0.65
    qtbot.mouseClick(table.filters.more, Qt.MouseButton.LeftButton)
    assert table.filters.row.isVisible()
    table.filters.min_prob.setValue(0.7)
    assert [c.id for c in session.candidates] == [1, 2]
    assert "Purity about 80 %" in table.counts.text()
    table.filters.verdict.setCurrentText("unreviewed")
    assert [c.id for c in session.candidates] == [2]
    qtbot.keyClicks(table.filters.text, "nothing like it")
    assert table.model.rowCount() == 0
    assert "Purity" not in table.counts.text()
    table.filters.text.clear()
    assert session.filter_by == Filter(min_prob=0.7, verdict="unreviewed")


def test_filters_that_leave_nothing_say_so_and_are_cleared_at_a_click(table, session, qtbot):
    qtbot.mouseClick(table.filters.more, Qt.MouseButton.LeftButton)
    table.filters.kind.setCurrentText("line")
    table.filters.min_snr.setValue(90.0)
    qtbot.mouseClick(table.filters.more, Qt.MouseButton.LeftButton)
    assert not table.filters.row.isVisible()
    assert table.filters.more.text() == "Filters (2)"
    assert table.model.rowCount() == 0
    assert "No candidate fits the filters" in table.counts.text()
    qtbot.mouseClick(table.counts, Qt.MouseButton.LeftButton, pos=link_in(table.counts))
    assert session.filter_by == Filter()
    assert table.model.rowCount() == 3
    assert table.filters.more.text() == "Filters"


def link_in(label) -> QPoint:
    """A place on the link that ends the text of a label."""
    words = QTextDocument()
    words.setHtml(label.text())
    before = label.fontMetrics().horizontalAdvance(words.toPlainText()[:-5])
    return QPoint(before, label.height() // 2)


def test_hidden_columns_stay_hidden(table, session):
    section = index_of(table, 0, "kind").column()
    table.show_column(section, False)
    session.filter_by = Filter(dropped=True)
    assert table.view.isColumnHidden(section)
    table.show_column(section, True)
    assert not table.view.isColumnHidden(section)


def test_keys_are_shown_in_the_tooltips(table):
    for button, key in ((table.next_button, "(N)"), (table.accept_button, "(K)"), (table.undo_button, "(Ctrl+Z)")):
        assert key in button.toolTip()


def test_thousands_of_rows_are_put_into_words_only_when_seen(session, qtbot, monkeypatch):
    detections = session.detections
    template = detections.candidates[0]
    detections.candidates[:] = [replace(template, id=number) for number in range(1, 3001)]
    session._adopt()
    table = CandidateTable(session)
    qtbot.addWidget(table)
    asked = []
    original = type(table.model).data
    monkeypatch.setattr(
        type(table.model), "data", lambda self, index, role=0: asked.append(index.row()) or original(self, index, role)
    )
    table.resize(500, 300)
    table.show()
    table.view.sortByColumn(index_of(table, 0, "S/N").column(), Qt.SortOrder.DescendingOrder)
    qtbot.wait(50)
    assert table.model.rowCount() == 3000
    assert len(set(asked)) < 100
