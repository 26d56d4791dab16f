"""Spectrum, focused image and numbers of the selected candidate, side by side."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QScrollArea, QStackedLayout, QWidget

from napari_almadet.pipeline.catalog import Candidate
from napari_almadet.plugin.describe import facts
from napari_almadet.plugin.focus_view import FocusView
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectrum_panel import SpectrumPanel
from napari_almadet.plugin.theme import Colours

HINT = "Select a candidate (its box, its row in the table, or key N) to see its spectrum, image and numbers here."


class Inspector(QWidget):
    """The panel at the bottom: what is known of the selected candidate."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        colours = Colours.of(session.viewer.theme)
        self.spectrum = SpectrumPanel(session, colours)
        self.focus = FocusView(session, colours)
        self.numbers = QLabel()
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.numbers.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.numbers.setWordWrap(True)
        self.numbers.setStyleSheet("font-size: 8pt")
        scroll = QScrollArea()
        scroll.setWidget(self.numbers)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        panels = QWidget()
        layout = QHBoxLayout(panels)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.addWidget(self.spectrum, 5)
        layout.addWidget(self.focus)
        layout.addWidget(scroll, 3)
        hint = QLabel(HINT)
        hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.pages = QStackedLayout(self)
        for page in (hint, panels):
            self.pages.addWidget(page)
        self.setMinimumHeight(170)

        session.selection_changed.connect(self._describe)
        session.candidate_changed.connect(self._changed)
        session.viewer.events.theme.connect(self._theme_changed)
        self._describe(session.selected)

    def sizeHint(self) -> QSize:
        """Room for all numbers without scrolling."""
        return QSize(900, 280)

    def resizeEvent(self, event) -> None:
        """Keep the focused image about square; the spectrum takes what is left."""
        self.focus.setFixedWidth(max(120, min(self.height() - 24, self.width() // 4)))
        super().resizeEvent(event)

    def _changed(self, candidate: Candidate) -> None:
        if candidate is self.session.selected:
            self._describe(candidate)

    def _describe(self, candidate: Candidate | None) -> None:
        self.pages.setCurrentIndex(0 if candidate is None else 1)
        if candidate is None:
            return
        rows = "".join(
            f"<tr><td style='padding-right:10px'>{escape(name)}</td><td><b>{escape(value)}</b></td></tr>"
            for name, value in facts(self.session.detections, candidate)
        )
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in candidate.reasons)
        why = f"<p style='margin:4px 0 0 0'>Why</p><ul style='margin:0 0 0 -24px'>{reasons}</ul>" if reasons else ""
        head = f"Candidate {candidate.id}, {candidate.fate.value}, {candidate.verdict}"
        note = f"<p style='margin:4px 0 0 0'><i>{escape(candidate.note)}</i></p>" if candidate.note else ""
        self.numbers.setText(f"<b>{head}</b>{note}<table>{rows}</table>{why}")

    def _theme_changed(self, event) -> None:
        colours = Colours.of(event.value)
        self.spectrum.paint(colours)
        self.focus.paint(colours)
