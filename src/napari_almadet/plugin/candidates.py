"""The table of candidates: filters, order, verdicts and notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import (
    QAbstractItemModel,
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    QSize,
    Qt,
    QTimer,
)
from qtpy.QtGui import QColor, QKeyEvent, QKeySequence
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_almadet.catalogue.candidate import VERDICTS, Candidate, Status
from napari_almadet.inspection.describe import number, sexagesimal
from napari_almadet.plugin.blink import Player
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import COLOURINGS, box_colours
from napari_almadet.plugin.session import Filter, Session
from napari_almadet.plugin.shortcuts import KEYS
from napari_almadet.plugin.theme import Colours, small_font, small_print

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("line", "continuum", "both")


@dataclass(frozen=True)
class Column:
    """A column of the table: title, sort key, text of its cells, and width."""

    title: str
    tip: str
    sort_by: str  # column of Session.features
    text: Callable[[Any], str]
    widest: str
    world: bool | None = None  # True: only where the cube has such values; False: only without; None: always


def _form(form: str) -> Callable[[float], str]:
    return lambda value: number(value, form)


def _ra(degrees: float) -> str:
    text = sexagesimal(degrees / 15, 2)
    return text.replace("24:00:00", "00:00:00")  # rounded up to the full circle


def _dec(degrees: float) -> str:
    return sexagesimal(degrees, 1, sign=True)


COLUMNS = (
    Column("#", "Number of the candidate", "id", str, "■ 0000"),
    Column("verdict", "Your verdict: double-click to change it, or press K, J or U", "verdict", str, "accepted ▾"),
    Column(
        "S/N",
        "Peak S/N: of the brightest pixel in the box, in the line-integrated image (paper, eq. 4)",
        "snr_pixel",
        _form(".1f"),
        "000.0",
    ),
    Column("prob.", "Source probability", "prob", _form(".2f"), "prob. 0"),
    Column(
        "rel",
        "Reliability: estimated fraction of such candidates that are real, from detections in the inverted cube",
        "rel",
        _form(".2f"),
        "rel 0",
        world=True,
    ),
    Column("GHz", "Frequency of the line", "freq", lambda hertz: number(hertz / 1e9, ".4f"), "000.0000", world=True),
    Column("km/s", "Radio velocity of the line", "v_rad", _form(".1f"), "−0000.0", world=True),
    Column("chan.", "Channel of the line, from 0", "z", _form(".1f"), "0000.0", world=False),
    Column("x", "Column of the centre, pixels from 0", "x", _form(".1f"), "0000.0", world=False),
    Column("y", "Row of the centre, pixels from 0", "y", _form(".1f"), "0000.0", world=False),
    Column("kind", "Detected by its line, its continuum, or both", "kind", str, "continuum"),
    Column("note", "Your note: double-click to write one", "note", str, "a note of some words"),
    Column("RA", "Right ascension (ICRS)", "ra", _ra, "00:00:00.00", world=True),
    Column("Dec", "Declination (ICRS)", "dec", _dec, "+00:00:00.0", world=True),
    Column(
        "global",
        "Global S/N: median in the circle inscribed in the box over the noise in the annulus around it (paper, eq. 3)",
        "snr_global",
        _form(".1f"),
        "global",
    ),
    Column("status", "Kept, flagged or dropped; hover for the reasons", "status", str, "dropped"),
    Column(
        "origin",
        "Origin of the box: found by the search, or edited, drawn, imported by you",
        "origin",
        str,
        "imported",
    ),
)


class CandidateModel(QAbstractTableModel):
    """The session's candidates as rows, in the session's order.

    Filtering and sorting is done in the session, on columns of numbers: next and previous,
    the boxes on the canvas and what is exported follow the same list, and 5000 rows take
    milliseconds where a `QSortFilterProxyModel` would call Python for each comparison.
    The text of a cell is made when it becomes visible.
    """

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self.columns: list[Column] = []
        self.candidates: list[Candidate] = []
        self._places: dict[int, int] = {}  # row of each candidate, by id()
        self.refresh()

    def refresh(self) -> None:
        """Read the session again."""
        self.beginResetModel()
        self.candidates = list(self.session.candidates)
        self._places = {id(candidate): row for row, candidate in enumerate(self.candidates)}
        self.columns = columns_of(self.session.features)
        self._values, self._colours = self._values_of(self.candidates)
        self._faint = QColor(Colours.of(self.session.viewer.theme).text)  # a new theme resets the model
        self._faint.setAlpha(150)
        self.endResetModel()

    def update(self, changed: list[Candidate]) -> None:
        """Update the rows of some candidates."""
        rows = [row for row in map(self.row, changed) if row is not None]
        if rows:
            values, colours = self._values_of([self.candidates[row] for row in rows])
            for column, news in values.items():
                for row, new in zip(rows, news, strict=True):
                    self._values[column][row] = new
            for row, colour in zip(rows, colours, strict=True):
                self._colours[row] = colour
            self.dataChanged.emit(self.index(min(rows), 0), self.index(max(rows), len(self.columns) - 1))

    def row(self, candidate: Candidate | None) -> int | None:
        """Row of a candidate, or None."""
        return self._places.get(id(candidate))

    def _values_of(self, candidates: list[Candidate]) -> tuple[dict[str, list], list[list[int]]]:
        """Values of some candidates in all columns, and their colours."""
        features = self.session.features
        if features is None:
            return {}, []
        rows = features.set_index("id", drop=False).reindex([c.id for c in candidates])
        values = {column.sort_by: rows[column.sort_by].tolist() for column in self.columns}
        return values, (255 * box_colours(rows, self.session.colour_by)).astype(int).tolist()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008 - Qt's name
        """Number of candidates shown."""
        return len(self.candidates)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008 - Qt's name
        """Number of columns that this cube has values for."""
        return len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, colour, alignment or tooltip of a cell."""
        candidate, column = self.candidates[index.row()], self.columns[index.column()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return column.text(self._values[column.sort_by][index.row()])
        if role == Qt.ItemDataRole.ToolTipRole:
            return "\n".join(candidate.reasons) or None
        if role == Qt.ItemDataRole.DecorationRole and column.title == "#":
            return QColor(*self._colours[index.row()])
        if role == Qt.ItemDataRole.ForegroundRole and candidate.status is Status.DROPPED:
            return self._faint
        if role == Qt.ItemDataRole.TextAlignmentRole and column.text is not str:
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Verdict and note can be edited."""
        editable = self.columns[index.column()].title in ("verdict", "note")
        return super().flags(index) | (Qt.ItemFlag.ItemIsEditable if editable else Qt.ItemFlag.NoItemFlags)

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Set the verdict or note that the user entered."""
        candidate = self.candidates[index.row()]
        if self.columns[index.column()].title == "verdict":
            self.session.set_verdict([candidate], value)
        else:
            self.session.set_note(candidate, value)
        return True

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> str | None:
        """Title and tooltip of a column."""
        if orientation == Qt.Orientation.Horizontal and section < len(self.columns):
            if role == Qt.ItemDataRole.DisplayRole:
                return self.columns[section].title
            if role == Qt.ItemDataRole.ToolTipRole:
                return f"{self.columns[section].tip}. Click to sort; right-click to hide columns"
        return None

    def sort(self, section: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Order the session's candidates, so that next and previous follow the table."""
        if 0 <= section < len(self.columns):
            self.session.sort(self.columns[section].sort_by, order == Qt.SortOrder.DescendingOrder)


class VerdictDelegate(QStyledItemDelegate):
    """A drop-down list of verdicts in a cell; a choice applies at once."""

    def createEditor(self, parent: QWidget | None, option: QStyleOptionViewItem, index: QModelIndex) -> QWidget:
        """The list, already open."""
        editor = QComboBox(parent)
        editor.addItems(VERDICTS)

        def chosen(_: int) -> None:
            self.commitData.emit(editor)
            self.closeEditor.emit(editor)

        editor.activated.connect(chosen)
        return editor

    def setEditorData(self, editor: QWidget | None, index: QModelIndex) -> None:
        """Start from the current verdict."""
        assert isinstance(editor, QComboBox)  # made by `createEditor`
        editor.setCurrentText(index.data())
        QTimer.singleShot(0, editor.showPopup)  # once it is in place, the list has room for all entries

    def setModelData(self, editor: QWidget | None, model: QAbstractItemModel | None, index: QModelIndex) -> None:
        """Apply the choice."""
        assert isinstance(editor, QComboBox)  # as above
        existing(model).setData(index, editor.currentText())


class RowView(QTableView):
    """A table in which the session's keys work as on the canvas; Qt would use letters to search the rows."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session

    def sizeHint(self) -> QSize:
        """As small as possible: a dock cannot be made smaller than the size hints of its contents."""
        return self.minimumSizeHint()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Handle the session's keys; leave the others to Qt."""
        event = existing(event)
        pressed = QKeySequence(event.keyCombination()).toString()
        name = next((name for name, (_, shown) in KEYS.items() if shown == pressed), None)
        if name is not None and self.session.keys_on:
            getattr(self.session, name)()
        elif name is not None:
            event.ignore()
        else:
            super().keyPressEvent(event)


class FilterBar(QWidget):
    """Filters that decide which candidates are shown."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self.text = QLineEdit()
        self.text.setPlaceholderText("Search number, note, kind …")
        self.text.setClearButtonEnabled(True)
        self.more = QPushButton("Filters")
        self.more.setToolTip("Filter by signal-to-noise, probability, kind and verdict")
        self.more.setCheckable(True)
        self.dropped = QCheckBox("Show dropped")
        self.dropped.setToolTip("Also list and draw the dropped candidates, with the reason for each")
        self.min_snr = _least("S/N ≥ ", 100.0, 1.0, 1)
        self.min_prob = _least("prob ≥ ", 1.0, 0.05, 2)
        self.kind = _choice("any kind", KINDS)
        self.verdict = _choice("any verdict", VERDICTS)
        first, second = QHBoxLayout(), QHBoxLayout()
        self.row = QWidget()
        self.row.setLayout(second)
        self.row.setVisible(False)
        second.setContentsMargins(0, 0, 0, 0)
        for line, widgets in (
            (first, (self.text, self.more, self.dropped)),
            (second, (self.min_snr, self.min_prob, self.kind, self.verdict)),
        ):
            for widget in widgets:
                line.addWidget(widget, 1 if widget is self.text else 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(first)
        layout.addWidget(self.row)

        self.show_filter()
        self.more.toggled.connect(self.row.setVisible)
        self.text.textChanged.connect(self._apply)
        self.dropped.toggled.connect(self._apply)
        for box in (self.min_snr, self.min_prob):
            box.valueChanged.connect(self._apply)
        for choice in (self.kind, self.verdict):
            choice.currentIndexChanged.connect(self._apply)

    def show_filter(self) -> None:
        """Show the session's filter, which another panel may have set."""
        wanted = self.session.filter_by
        self.text.setText(wanted.text)
        self.min_snr.setValue(wanted.min_snr)
        self.min_prob.setValue(wanted.min_prob)
        for choice, word in ((self.kind, wanted.kind), (self.verdict, wanted.verdict)):
            choice.setCurrentIndex(max(0, choice.findData(word)))
        self.dropped.setChecked(wanted.dropped)
        self.more.setChecked(replace(wanted, text="", dropped=False) != Filter())
        self._tell()

    def clear(self) -> None:
        """Reset all filters; whether dropped candidates are shown does not change."""
        self.session.filter_by = Filter(dropped=self.session.filter_by.dropped)
        self.show_filter()

    def _tell(self) -> None:
        """Show how many filters are active, also while their row is folded."""
        wanted = self.session.filter_by
        on = sum(map(bool, (wanted.min_snr, wanted.min_prob, wanted.kind, wanted.verdict)))
        self.more.setText(f"Filters ({on})" if on else "Filters")

    def _apply(self, *_: object) -> None:
        self.session.filter_by = Filter(
            text=self.text.text(),
            min_snr=self.min_snr.value(),
            min_prob=self.min_prob.value(),
            kind=self.kind.currentData(),
            verdict=self.verdict.currentData(),
            dropped=self.dropped.isChecked(),
        )
        self._tell()


class CandidateTable(QWidget):
    """Counts, verdict buttons, filters, and the table, whose selected rows are the session's selection."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self._marking = False
        self._laid_out: list[Column] = []
        self.hidden: set[str] = set()  # titles of columns
        self.model = CandidateModel(session)
        self.view = RowView(session)
        self.view.setModel(self.model)
        self.view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        triggers = QAbstractItemView.EditTrigger
        self.view.setEditTriggers(triggers.DoubleClicked | triggers.EditKeyPressed)
        self.view.setShowGrid(False)
        self.view.setWordWrap(False)
        rows = existing(self.view.verticalHeader())
        rows.hide()
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._offer_verdicts)
        self.verdicts = VerdictDelegate(self.view)
        header = existing(self.view.horizontalHeader())
        header.setSortIndicator(0, Qt.SortOrder.AscendingOrder)
        header.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header.customContextMenuRequested.connect(self._offer_columns)
        self.view.setSortingEnabled(True)
        existing(self.view.selectionModel()).selectionChanged.connect(self._rows_selected)

        self.counts = QLabel()
        self.counts.setWordWrap(True)
        self.counts.linkActivated.connect(lambda _: self.filters.clear())
        self.counts.setToolTip(
            "Purity is the fraction of true sources, estimated as the mean of the column prob. over the rows listed, "
            "including rejected ones; it is only as accurate as the network's probabilities"
        )
        self.previous_button = _button("◀", "Previous candidate", "previous", session)
        self.next_button = _button("▶", "Next candidate", "next", session)
        self.accept_button = _button("✓ Accept", "Accept the selected candidates", "accept", session)
        self.reject_button = _button("✕ Reject", "Reject the selected candidates", "reject", session)
        self.undo_button = _button("Undo", "Undo the last verdict, note or change of a box", "undo", session)
        self.filters = FilterBar(session)
        self.bar = QHBoxLayout()
        for button in (self.previous_button, self.next_button):
            button.setFixedWidth(34)
        self.player = Player(session)
        self.play_button = QPushButton("Play")
        self.play_button.setToolTip(
            "Play the channels of the selected candidate repeatedly, and of each candidate you select next;\n"
            "moving the slider stops it until the next candidate"
        )
        self.play_button.setCheckable(True)
        self.play_button.toggled.connect(lambda on: setattr(self.player, "on", on))
        for button in (*self._buttons(), self.play_button):
            self.bar.addWidget(button)
        self.bar.addStretch(1)

        self.colour_by = QComboBox()
        for column, words in COLOURINGS.items():
            self.colour_by.addItem(f"colour: {words}", column)
        self.colour_by.setToolTip("What the colours of boxes and rows show")
        self.colour_by.setMinimumContentsLength(max(map(len, COLOURINGS.values())))
        self.colour_by.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.colour_by.setCurrentIndex(self.colour_by.findData(session.colour_by))
        self.colour_by.activated.connect(lambda _: setattr(session, "colour_by", self.colour_by.currentData()))
        self.everywhere = QCheckBox("all channels")
        self.everywhere.setToolTip("Show every box in all channels, not only in those of its emission range")
        self.everywhere.setChecked(session.boxes_everywhere)
        self.everywhere.toggled.connect(lambda on: setattr(session, "boxes_everywhere", on))
        self.draw_button = QPushButton("Draw box")
        self.draw_button.setToolTip("Draw a box on the canvas: it is measured and becomes a candidate")
        self.draw_button.clicked.connect(lambda on: session.use("draw" if on else ""))
        self.edit_button = QPushButton("Edit boxes")
        self.edit_button.setToolTip("Move boxes or drag their corners: each is then measured again")
        self.edit_button.clicked.connect(lambda on: session.use("edit" if on else ""))
        self.paint_button = QPushButton("Paint mask")
        self.paint_button.setToolTip(
            "napari's brush on the selected candidate's mask, in the channel on screen; after each stroke it is "
            "measured again.\nThe layer's controls have eraser, bucket, polygon and brush size; “n edit dim” 3 paints "
            "in neighbouring channels too.\nPainting with a label number that no candidate has creates a candidate"
        )
        self.paint_button.clicked.connect(lambda on: session.use("paint" if on else ""))
        for button in (self.draw_button, self.edit_button, self.paint_button):
            button.setCheckable(True)
        boxes = QHBoxLayout()
        boxes.setSpacing(3)
        for widget in (self.colour_by, self.everywhere, self.draw_button, self.edit_button, self.paint_button):
            boxes.addWidget(widget)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.counts)
        layout.addLayout(self.bar)
        layout.addWidget(self.filters)
        layout.addWidget(self.view, 1)
        layout.addLayout(boxes)

        session.candidates_changed.connect(self._refresh)
        session.chosen_changed.connect(self._mark_rows)
        session.selection_changed.connect(self._mark_rows)
        session.edited.connect(self._edited)
        session.measuring_changed.connect(self._count)
        session.tool_changed.connect(self._show_tool)
        session.viewer.events.theme.connect(self._refresh)
        get_settings().appearance.events.font_size.connect(self._write_small)
        self._show_tool(session.tool)
        self._write_small()

    def _buttons(self) -> tuple[QPushButton, ...]:
        return self.previous_button, self.next_button, self.accept_button, self.reject_button, self.undo_button

    def _write_small(self, *_: object) -> None:
        font = small_font()
        cells = f"QTableView {{ {font} }} QHeaderView::section {{ {font}; padding: 2px }}"
        self.setStyleSheet(f"{small_print()} QLineEdit, QDoubleSpinBox {{ {font} }} {cells}")
        self.view.ensurePolished()
        self._laid_out = []
        self._refresh()

    def _show_tool(self, tool: str) -> None:
        self.draw_button.setChecked(tool == "draw")
        self.edit_button.setChecked(tool == "edit")
        self.paint_button.setChecked(tool == "paint")

    def _refresh(self, *_: object) -> None:
        self.model.refresh()
        if self.model.columns != self._laid_out:
            self._lay_out()
        for widget in (*self._buttons(), self.play_button, self.draw_button, self.edit_button, self.paint_button):
            widget.setEnabled(self.session.detections is not None)
        self._mark_rows()
        self._count()

    def _lay_out(self) -> None:
        """Set the widths from the widest possible text, without reading rows; hidden columns stay hidden."""
        self._laid_out = self.model.columns
        metrics = self.view.fontMetrics()
        existing(self.view.verticalHeader()).setDefaultSectionSize(metrics.height() + 9)
        for section, column in enumerate(self.model.columns):
            widest = max(metrics.horizontalAdvance(text) for text in (column.title + " ▾", column.widest))
            self.view.setColumnWidth(section, widest + 12)
            self.view.setColumnHidden(section, column.title in self.hidden)
            delegate = self.verdicts if column.title == "verdict" else None
            self.view.setItemDelegateForColumn(section, delegate)

    def _edited(self, changed: list[Candidate]) -> None:
        self.model.update(changed)
        self._count()

    def _count(self, *_: object) -> None:
        """Show the number of candidates, their verdicts, and the expected purity."""
        detections, listed = self.session.detections, self.session.candidates
        if detections is None:
            self.counts.setText("No candidates yet.")
            return
        verdicts = Counter(candidate.verdict for candidate in listed)
        counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS)
        text = f"{len(listed)} of {len(detections.candidates)} listed: {counts}"
        if not listed and replace(self.session.filter_by, dropped=False) != Filter():
            colour = Colours.of(self.session.viewer.theme).text
            text = f"No candidate fits the filters. <a href='all' style='color: {colour}'>Clear the filters</a>"
        probabilities = [c.prob for c in listed if c.status is not Status.DROPPED and np.isfinite(c.prob)]
        if probabilities:
            text += f". Purity about {100 * np.mean(probabilities):.0f} %"
        if self.session.measuring:
            text += ". Measuring …"
        self.counts.setText(text)

    def _mark_rows(self, *_: object) -> None:
        """Select the rows of the chosen candidates, the selected one's being the current."""
        if self._marking:  # the user selected them in this table
            return
        model, wanted = self.model, QItemSelection()
        for row in map(model.row, self.session.chosen):
            if row is not None:
                wanted.select(model.index(row, 0), model.index(row, model.columnCount() - 1))
        current = model.row(self.session.selected)
        self._marking = True
        try:
            selection = existing(self.view.selectionModel())
            flags = QItemSelectionModel.SelectionFlag
            index = (
                QModelIndex() if current is None else model.index(current, max(0, self.view.currentIndex().column()))
            )
            if index != self.view.currentIndex():
                selection.setCurrentIndex(index, flags.NoUpdate)
            selection.select(wanted, flags.ClearAndSelect)
            if index.isValid():
                self.view.scrollTo(index.siblingAtColumn(0))
        finally:
            self._marking = False

    def _rows_selected(self, *_: object) -> None:
        if self._marking:
            return
        rows = sorted(index.row() for index in existing(self.view.selectionModel()).selectedRows())
        chosen = [self.model.candidates[row] for row in rows]
        if chosen:
            current = self.view.currentIndex().row()
            selected = self.model.candidates[current] if current in rows else chosen[-1]
            self._marking = True
            try:
                self.session.choose(chosen, selected)
            finally:
                self._marking = False

    def _offer_verdicts(self, place: QPoint) -> None:
        if self.session.chosen:
            menu = QMenu(self)
            for name, words in (("accept", "Accept"), ("reject", "Reject"), ("clear_verdict", "Clear the verdict")):
                count = f" {len(self.session.chosen)} candidates" if len(self.session.chosen) > 1 else ""
                menu.addAction(f"{words}{count}\t{KEYS[name][1]}", getattr(self.session, name))
            menu.addSeparator()
            several = len(self.session.chosen) > 1
            existing(menu.addAction("Merge them", self.session.merge)).setEnabled(several)
            existing(menu.addAction("Split, by lines or peaks", self.session.split)).setEnabled(not several)
            menu.popup(existing(self.view.viewport()).mapToGlobal(place))

    def _offer_columns(self, place: QPoint) -> None:
        menu = QMenu(self)
        for section, column in enumerate(self.model.columns):
            action = existing(menu.addAction(column.title))
            action.setCheckable(True)
            action.setChecked(column.title not in self.hidden)
            action.setEnabled(column.title != "#")
            action.toggled.connect(lambda on, s=section: self.show_column(s, on))
        menu.popup(existing(self.view.horizontalHeader()).mapToGlobal(place))

    def show_column(self, section: int, shown: bool) -> None:
        """Show or hide a column, in this and any later table of candidates."""
        self.view.setColumnHidden(section, not shown)
        change = self.hidden.discard if shown else self.hidden.add
        change(self.model.columns[section].title)


def columns_of(features: pd.DataFrame | None) -> list[Column]:
    """The columns for which a cube has values: world coordinates if available, else pixels and channels."""
    if features is None:
        return [c for c in COLUMNS if c.world is not True]
    known = {name for name in ("ra", "dec", "freq", "v_rad", "rel") if np.isfinite(features[name]).any()}
    stand_in = {"x": "ra", "y": "dec", "z": "freq"}
    chosen = []
    for column in COLUMNS:
        if column.world is True and column.sort_by not in known:
            continue
        if column.world is False and stand_in[column.sort_by] in known:
            continue
        chosen.append(column)
    if "freq" in known:  # one is enough; the inspector shows both
        chosen = [c for c in chosen if c.sort_by != "v_rad"]
    elif "v_rad" in known:
        chosen = [c for c in chosen if c.sort_by != "z"]
    return chosen


def _button(text: str, tip: str, name: str, session: Session) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(f"{tip} ({KEYS[name][1]})")
    button.clicked.connect(lambda _: getattr(session, name)())
    return button


def _least(prefix: str, most: float, step: float, decimals: int) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(0.0, most)
    box.setSingleStep(step)
    box.setDecimals(decimals)
    box.setPrefix(prefix)
    box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)  # no room for them beside the number
    box.setStyleSheet("padding: 1px 4px")  # napari's padding leaves room for the buttons
    box.setMinimumWidth(box.fontMetrics().horizontalAdvance(f"{prefix}0.00") + 16)
    return box


def _choice(everything: str, words: tuple[str, ...]) -> QComboBox:
    choice = QComboBox()
    choice.addItem(everything, "")
    for word in words:
        choice.addItem(word, word)
    return choice
