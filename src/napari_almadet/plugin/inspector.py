"""Spectrum, image and numbers of the selected candidate, side by side; coordinates and display of the cube above."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import (
    QApplication,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from napari_almadet.pipeline.catalog import Candidate
from napari_almadet.plugin.coordinates import Readout
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.describe import facts
from napari_almadet.plugin.focus_view import FocusView
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.spectrum_panel import SpectrumPanel
from napari_almadet.plugin.stretch_bar import StretchBar
from napari_almadet.plugin.theme import Colours

HINT = "Select a candidate (its box, its row in the table, or key N) to see its spectrum, image and numbers here."
NUMBERS_WIDTH = 210
COLOUR_BAR_WIDTH = 60


class Inspector(QWidget):
    """The panel at the bottom: what is known of the selected candidate, and of the place under the pointer."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        colours = Colours.of(session.viewer.theme)
        self.choice = SpectralChoice(session)
        self.cutouts = Cutouts(session)
        self.readout = Readout(session, self.choice)
        self.stretch = StretchBar(session)
        self.spectrum = SpectrumPanel(session, self.choice, self.cutouts, colours)
        self.focus = FocusView(session, self.choice, self.cutouts, colours)
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
        self.panels = QSplitter()
        self.panels.setChildrenCollapsible(False)
        for i, panel in enumerate((self.spectrum, self.focus, scroll)):
            self.panels.addWidget(panel)
            self.panels.setStretchFactor(i, int(i == 0))
        self.panels.splitterMoved.connect(self._panels_moved)
        self._arranged = False  # by the user
        self._placed = False  # in the window
        self.focus.show_cut.toggled.connect(self._arrange)
        hint = QLabel(HINT)
        hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.pages = QStackedWidget()
        for page in (hint, self.panels):
            self.pages.addWidget(page)
        top = QHBoxLayout()
        top.addWidget(self.readout, 1)
        top.addWidget(self.stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(1)
        layout.addLayout(top)
        layout.addWidget(self.pages, 1)
        self.setMinimumHeight(170)
        # Rows of controls as low as a line of text: on a small screen every pixel is the plots'.
        self.setStyleSheet("QComboBox, QToolButton { font-size: 8pt; padding: 1px 3px; max-height: 18px }")

        session.selection_changed.connect(self._describe)
        session.edited.connect(self._edited)
        session.viewer.events.theme.connect(self._theme_changed)
        self._describe(session.selected)

    def sizeHint(self) -> QSize:
        """Room for all numbers without scrolling."""
        return QSize(900, 280)

    def showEvent(self, event) -> None:
        """Let the docks at the left reach down beside this one: above it, they would leave it 180 of 720 pixels."""
        super().showEvent(event)
        dock, window = self.parent(), self.window()
        if not self._placed and isinstance(dock, QDockWidget) and isinstance(window, QMainWindow):
            self._placed = True
            window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea)
            window.resizeDocks([dock], [self.sizeHint().height()], Qt.Orientation.Vertical)

    def resizeEvent(self, event) -> None:
        """Keep the image about square, until the user has moved the panels' borders."""
        super().resizeEvent(event)
        if not self._arranged:
            self._arrange()

    def _arrange(self, *_: object) -> None:
        """An image about square, as much again for a cut, the numbers, and what is left for the spectrum."""
        side = self.height() - 54 + COLOUR_BAR_WIDTH
        spectrum, rest = self.spectrum.minimumSizeHint().width(), self.width() - NUMBERS_WIDTH
        focus = min(2 * side if self.focus.show_cut.isChecked() else min(side, rest // 2), rest - spectrum)
        self.panels.setSizes([rest - focus, focus, NUMBERS_WIDTH])

    def _panels_moved(self, *_: object) -> None:
        self._arranged = True

    def _edited(self, candidates: list[Candidate]) -> None:
        if any(candidate is self.session.selected for candidate in candidates):
            self._describe(self.session.selected)

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
        # Else the text is laid out while the window is painted, which is then painted twice more.
        QApplication.sendPostedEvents(self.numbers.parent(), QEvent.Type.LayoutRequest)

    def _theme_changed(self, event) -> None:
        colours = Colours.of(event.value)
        self.spectrum.paint(colours)
        self.focus.paint(colours)
