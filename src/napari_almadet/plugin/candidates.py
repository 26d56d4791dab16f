"""The table of candidates, and the buttons that go through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_almadet.pipeline.catalog import Candidate, Fate
from napari_almadet.plugin.describe import number, sky_text
from napari_almadet.plugin.layers import FATE_COLOURS
from napari_almadet.plugin.session import Session


@dataclass(frozen=True)
class Column:
    """A column of the table: what it is called, what it is sorted by, how its cells read."""

    title: str
    tip: str
    sort_by: str  # column of Session.features
    text: Callable[[Any], str]
    world: bool | None = None  # True: only with such coordinates; False: only without; None: always


def _form(form: str) -> Callable[[float], str]:
    return lambda value: number(value, form)


COLUMNS = (
    Column("#", "Number of the candidate", "id", str),
    Column("RA", "Right ascension (ICRS)", "ra", str, world=True),
    Column("Dec", "Declination (ICRS)", "dec", str, world=True),
    Column("x", "Column of the centre, pixels from 0", "x", _form(".1f"), world=False),
    Column("y", "Row of the centre, pixels from 0", "y", _form(".1f"), world=False),
    Column("GHz", "Frequency of the line", "freq", lambda hertz: number(hertz / 1e9, ".4f"), world=True),
    Column("km/s", "Radio velocity of the line", "v_rad", _form(".1f"), world=True),
    Column("chan.", "Channel of the line, from 0", "z", _form(".1f"), world=False),
    Column("S/N", "Highest signal-to-noise of a pixel in the box, in the focused image", "snr_pixel", _form(".1f")),
    Column("prob.", "Peak of the probability map in the box", "prob", _form(".2f")),
    Column("kind", "Seen by its line, its continuum, or both", "kind", str),
    Column("global", "Global signal-to-noise of the focused image (paper, eq. 3)", "snr_global", _form(".1f")),
    Column("decision", "Kept, flagged or dropped; hover for the reasons", "fate", str),
)


class CandidateModel(QAbstractTableModel):
    """The session's candidates as rows, in the session's order."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self.columns: list[Column] = []
        self.candidates: list[Candidate] = []
        self.cells: list[list[str]] = []
        self.refresh()

    def refresh(self) -> None:
        """Read the session anew."""
        self.beginResetModel()
        self.candidates = candidates = self.session.candidates
        self.columns = _columns(self.session.features)
        self.cells = []
        if candidates:
            rows = self.session.features.set_index("id", drop=False).loc[[c.id for c in candidates]]
            texts = {column.title: [column.text(value) for value in rows[column.sort_by]] for column in self.columns}
            sky = self.session.detections.cube.sky(rows["x"].to_numpy(), rows["y"].to_numpy())
            if sky is not None:
                texts["RA"], texts["Dec"] = sky_text(sky)
            self.cells = [list(row) for row in zip(*(texts[c.title] for c in self.columns), strict=True)]
        self.endResetModel()

    def rowCount(self, parent=QModelIndex()) -> int:  # noqa: B008 - Qt's name
        """Number of candidates on show."""
        return len(self.cells)

    def columnCount(self, parent=QModelIndex()) -> int:  # noqa: B008 - Qt's name
        """Number of columns that this cube has values for."""
        return len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, colour, alignment or tooltip of a cell."""
        candidate = self.candidates[index.row()]
        column = self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return self.cells[index.row()][index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(candidate.reasons) or None
        if role == Qt.ItemDataRole.DecorationRole and column.title == "#":
            return QColor(FATE_COLOURS[candidate.fate])
        if role == Qt.ItemDataRole.ForegroundRole and candidate.fate is Fate.DROPPED:
            return QColor(FATE_COLOURS[Fate.DROPPED])
        if role == Qt.ItemDataRole.TextAlignmentRole and column.text is not str:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def headerData(self, section, orientation, role=Qt.ItemDataRole.DisplayRole):
        """Title and tooltip of a column."""
        if orientation == Qt.Orientation.Horizontal:
            if role == Qt.ItemDataRole.DisplayRole:
                return self.columns[section].title
            if role == Qt.ItemDataRole.ToolTipRole:
                return self.columns[section].tip
        return None

    def sort(self, section: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Order the session's candidates, so that next and previous follow the table."""
        if 0 <= section < len(self.columns):
            self.session.sort(self.columns[section].sort_by, order == Qt.SortOrder.DescendingOrder)


class RowView(QTableView):
    """A table that leaves the key N to the viewer, where it means the next candidate; Qt would search rows for it."""

    def keyPressEvent(self, event) -> None:
        """Pass N on, keep the rest."""
        if event.key() == Qt.Key.Key_N:
            event.ignore()
        else:
            super().keyPressEvent(event)


class CandidateTable(QWidget):
    """Table of candidates; its selected row is the session's selected candidate."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self.model = CandidateModel(session)
        self.view = RowView()
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.view.setShowGrid(False)
        self.view.setWordWrap(False)
        self.view.setStyleSheet("QTableView { font-size: 8pt } QHeaderView::section { font-size: 8pt; padding: 2px }")
        self.view.verticalHeader().hide()
        self.view.verticalHeader().setDefaultSectionSize(22)
        header = self.view.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSortIndicator(0, Qt.SortOrder.AscendingOrder)
        self.view.setSortingEnabled(True)
        self.view.selectionModel().currentRowChanged.connect(self._row_changed)

        self.previous_button = QPushButton("◀ Previous")
        self.previous_button.setToolTip("Previous candidate (Shift+N)")
        self.previous_button.clicked.connect(session.previous)
        self.next_button = QPushButton("Next ▶")
        self.next_button.setToolTip("Next candidate (N)")
        self.next_button.clicked.connect(session.next)
        self.show_dropped = QCheckBox("Show dropped")
        self.show_dropped.setToolTip("List and draw the candidates that were dropped, and why each was")
        self.show_dropped.setChecked(session.show_dropped)
        self.show_dropped.toggled.connect(self._dropped_toggled)
        bar = QHBoxLayout()
        bar.addWidget(self.previous_button)
        bar.addWidget(self.next_button)
        bar.addStretch(1)
        bar.addWidget(self.show_dropped)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(bar)
        layout.addWidget(self.view, 1)

        session.candidates_changed.connect(self._refresh)
        session.selection_changed.connect(self._mark_row)
        self._refresh()

    def _refresh(self, *_: object) -> None:
        self.model.refresh()
        self.previous_button.setEnabled(bool(self.session.candidates))
        self.next_button.setEnabled(bool(self.session.candidates))
        self._mark_row(self.session.selected)

    def _mark_row(self, candidate: Candidate | None) -> None:
        row = next((i for i, c in enumerate(self.model.candidates) if c is candidate), None)
        if row is None:
            self.view.selectionModel().clear()
        else:
            self.view.setCurrentIndex(self.model.index(row, 0))

    def _row_changed(self, current: QModelIndex, previous: QModelIndex) -> None:
        if current.isValid():
            self.session.select(self.model.candidates[current.row()])

    def _dropped_toggled(self, on: bool) -> None:
        self.session.show_dropped = on


def _columns(features) -> list[Column]:
    """The columns that a cube has values for: world coordinates where it has them, else pixels and channels."""
    if features is None:
        return [c for c in COLUMNS if c.world is not True]
    known = {name for name in ("ra", "dec", "freq", "v_rad") if np.isfinite(features[name]).any()}
    stand_in = {"x": "ra", "y": "dec", "z": "freq"}
    chosen = []
    for column in COLUMNS:
        if column.world is True and column.sort_by not in known:
            continue
        if column.world is False and stand_in[column.sort_by] in known:
            continue
        chosen.append(column)
    if "freq" in known:  # either tells the other; the inspector shows both
        chosen = [c for c in chosen if c.sort_by != "v_rad"]
    elif "v_rad" in known:
        chosen = [c for c in chosen if c.sort_by != "z"]
    return chosen
