"""Spectrum, image and numbers of the selected candidate; coordinates and display settings of the cube above."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QResizeEvent, QShowEvent, QTextDocument
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

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.inspection.describe import MEANINGS, facts
from napari_almadet.inspection.regions import region_statistics
from napari_almadet.plugin.canvas_menu import CanvasMenu
from napari_almadet.plugin.coordinates import Readout
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.focus_view import FocusView
from napari_almadet.plugin.look import Look
from napari_almadet.plugin.look_menu import LookMenu
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.spectrum_panel import SpectrumPanel, quantity_text, statistics_rows
from napari_almadet.plugin.stretch_bar import StretchBar
from napari_almadet.plugin.theme import Colours, menu_button, small_print

NOTHING_FOUND_YET = (
    "Point at the cube to see the spectrum there, click to keep it, or draw a region: Look ▾.\n"
    "After a detection, the spectrum, the image and the measured values of a candidate are shown here."
)
POINT_AND_CLICK = (
    "Click on the sky to see the spectrum of a pixel, or on a box to select its candidate; for regions see Look ▾."
)
REGION_ROWS = (("Mean", "mean"), ("rms", "rms"), ("Std. dev.", "std"), ("Minimum", "minimum"), ("Maximum", "maximum"))
NOTHING_SELECTED = "Select a candidate (its box, its row, or key N) to see its spectrum, image and measured values."
WIDEST_ROW = "Probability  00:00:00.000 −00:00:00.00    copy"  # widest row of the numbers
NARROWEST_ROW = "Frequency  000.00000 GHz    "  # minimum that is easy to read
SHARE = 0.34  # of the window's height: room for all numbers without scrolling
SETTLED_MS = 300  # by then docks and canvas have their final size
COLOUR_BAR_WIDTH = 60  # pixels, with its numbers; chosen by eye
NUMBERS_SHARE = 0.28  # of the width, if that is more than the widest row: reasons are sentences; chosen by eye
CUT_SHARE = 0.58  # of the width without the numbers, maximum for the image with the cut


class Inspector(QWidget):
    """The panel at the bottom: the selected candidate, and the position under the pointer."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        colours = Colours.of(session.viewer.theme)
        self.look = Look(session)  # first: it removes the regions of another cube before anything is drawn
        self.choice = SpectralChoice(session)
        self.cutouts = Cutouts(session)
        self.readout = Readout(session, self.choice)
        self.stretch = StretchBar(session)
        self.look_menu = LookMenu(self.look)
        self.look_button = menu_button("Look", "The spectrum under the pointer, and regions of the sky", self.look_menu)
        self.canvas_menu = CanvasMenu(session, self.choice)
        self.canvas_button = menu_button("Canvas", "Axes, beam, scale bar and contours over the cube", self.canvas_menu)
        self.spectrum = SpectrumPanel(session, self.choice, self.cutouts, colours, self.look)
        self.focus = FocusView(session, self.choice, self.cutouts, colours)
        self.numbers = QLabel()
        self.numbers.setTextFormat(Qt.TextFormat.RichText)
        self.numbers.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.numbers.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.numbers.setWordWrap(True)
        self.numbers.setToolTip(MEANINGS)
        self.numbers.linkActivated.connect(self._copy)
        scroll = QScrollArea()
        scroll.setWidget(self.numbers)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.numbers_area = scroll
        self.panels = QSplitter()
        self.panels.setChildrenCollapsible(False)
        for i, panel in enumerate((self.spectrum, self.focus, scroll)):
            self.panels.addWidget(panel)
            self.panels.setStretchFactor(i, int(i == 0))
        self.panels.splitterMoved.connect(self._panels_moved)
        self._arranged = False  # whether the user has moved the borders
        self._placed = False  # whether the panel has its place in the window
        self._filled = False  # whether a candidate has been shown
        self._had = 0  # pixels, height when a candidate was last shown
        self._field_was_seen = self._field_is_seen()  # before this panel makes the canvas smaller
        for action in (self.focus.show_cut, self.focus.show_model):
            action.toggled.connect(self._arrange)
        self.hint = QLabel()
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.pages = QStackedWidget()
        for page in (self.hint, self.panels):
            self.pages.addWidget(page)
        top = QHBoxLayout()
        self.readout.setMinimumWidth(40)  # it omits parts that do not fit
        top.addWidget(self.readout, 1)
        top.addWidget(self.look_button)
        top.addWidget(self.canvas_button)
        top.addWidget(self.stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(1)
        layout.addLayout(top)
        layout.addWidget(self.pages, 1)
        self.setMinimumHeight(170)
        self._write_small()

        session.selection_changed.connect(self._again)
        session.image_changed.connect(self._again)
        session.channel_changed.connect(self._channel_changed)
        self.look.changed.connect(self._looked)
        session.detections_changed.connect(self._again)
        session.edited.connect(self._edited)
        self.choice.changed.connect(self._again)
        self.spectrum.measured.connect(self._again)
        get_settings().appearance.events.font_size.connect(self._write_small)
        session.viewer.events.theme.connect(self._theme_changed)
        self._again()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take the space below the canvas, once, and keep the whole field visible if it was visible before.

        The docks at the left extend to the bottom, next to this one: on top of it, they would leave it 180 of 720
        pixels.
        """
        super().showEvent(event)
        dock, window = self.parent(), self.window()
        if not self._placed and isinstance(dock, QDockWidget) and isinstance(window, QMainWindow):
            self._placed = True
            window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea)
            self._take_room()

    def _take_room(self) -> None:
        dock, window = self.parent(), self.window()
        if isinstance(dock, QDockWidget) and isinstance(window, QMainWindow):
            height = self._had or round(SHARE * window.height())  # its height before the settings were unfolded
            window.resizeDocks([dock], [height], Qt.Orientation.Vertical)
            if self._field_was_seen:
                QTimer.singleShot(SETTLED_MS, self._fit_field)  # not called if this widget has been deleted

    def _fit_field(self) -> None:
        self.session.places.fit_view(self.session.image)

    def _field_is_seen(self) -> bool:
        """Whether the whole field of the cube is visible, as it is until the user zooms in."""
        image, viewer = self.session.image, self.session.viewer
        if image is None or viewer.dims.ndisplay == 3:
            return False
        camera = viewer.scene.camera
        half = np.array(viewer.canvas.size) / camera.zoom / 2
        corners = image.extent.world[:, -2:] - np.array(camera.center[-2:])
        return bool((np.abs(corners) <= half).all())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Keep the image approximately square, until the user moves the panels' borders."""
        super().resizeEvent(event)
        if not self._arranged:
            self._arrange()

    def _arrange(self, *_: object) -> None:
        """Divide the width: a square image, the same for a cut, then the numbers, and the rest for the spectrum."""
        side, spectrum = self.height() - 54 + COLOUR_BAR_WIDTH, self.spectrum.minimumSizeHint().width()
        bar = existing(self.numbers_area.verticalScrollBar()).sizeHint().width()
        numbers = self.numbers.fontMetrics().horizontalAdvance(WIDEST_ROW) + bar
        numbers = max(numbers, round(NUMBERS_SHARE * self.width()))
        cut = self.focus.show_cut.isChecked() or self.focus.show_model.isChecked()
        images = 3 if self.focus.show_model.isChecked() else 2
        if cut:
            numbers = max(self.numbers_area.minimumWidth(), min(numbers, self.width() - spectrum - round(1.5 * side)))
        rest = self.width() - numbers
        focus = min(images * side, round(CUT_SHARE * rest)) if cut else min(side, rest // 2)
        focus = min(focus, rest - spectrum)
        self.panels.setSizes([rest - focus, focus, numbers])

    def _panels_moved(self, *_: object) -> None:
        self._arranged = True

    def _edited(self, candidates: list[Candidate]) -> None:
        if any(candidate is self.session.subject for candidate in candidates):
            self._again()

    def _again(self, *_: object) -> None:
        self._describe(self.session.subject)

    def _channel_changed(self, *_: object) -> None:
        if self.session.subject is not None and self.session.subject is self.session.probe:
            self._again()  # the statistics depend on the channel

    def _looked(self) -> None:
        """Show the panels as soon as there is a spectrum."""
        if self.pages.currentIndex() == 0 and self.look.any_profiles():
            self._again()

    def _describe(self, candidate: Candidate | None) -> None:
        before = self.pages.currentIndex()
        empty = candidate is None and not self.look.any_profiles()
        self.pages.setCurrentIndex(0 if empty else 1)
        if empty and before == 1:
            self._had = self.height()
        elif not empty and before == 0 and (not self._filled or self.height() < self._had):
            self._filled = True
            self._field_was_seen = self._field_is_seen()
            QTimer.singleShot(SETTLED_MS, self._take_room)  # the space of the folded settings is free only then
        if candidate is None:
            self.numbers.setText(POINT_AND_CLICK)
            self.hint.setText(NOTHING_FOUND_YET if self.session.detections is None else NOTHING_SELECTED)
            return
        measured = self._table(self._statistics(), "statistics")
        if candidate is self.session.probe:
            self.numbers.setText(f"{measured}{self._region_rows()}")
            return
        rows = self._table(
            facts(existing(self.session.detections), candidate, self.choice.velocity, self.choice.frequency), "position"
        )
        verdict = "" if candidate.verdict == "unreviewed" else f", {candidate.verdict} by you"
        note = f"<div><i>{escape(candidate.note)}</i></div>" if candidate.note else ""
        reasons = "".join(f"<div style='margin-top: 2px'>{escape(reason)}</div>" for reason in candidate.reasons)
        self.numbers.setText(f"{measured}<b>Candidate {candidate.id}</b>{verdict}{note}{rows}{reasons}")
        # Otherwise the text is laid out during painting, and the window is painted twice more.
        QApplication.sendPostedEvents(self.numbers.parent(), QEvent.Type.LayoutRequest)

    def _region_rows(self) -> str:
        """Name and statistics of the current region, in the channel on screen."""
        region, cube, channel = self.look.chosen, self.choice.cube, self.session.channel
        if region is None or cube is None or channel is None:
            return ""
        found, display = region_statistics(cube, region, channel), self.choice.display
        rows = [
            ("Channel", str(channel)),
            ("Pixels", f"{found.pixels}"),
            ("Flux density", quantity_text(display.scaled(found.flux))),
            *(
                (name, quantity_text(display.of_brightness(getattr(found, field), cube, channel)))
                for name, field in REGION_ROWS
            ),
        ]
        return f"<b>{escape(region.name)}</b>{self._table(rows, 'region')}"

    def _statistics(self) -> list[tuple[str, str]]:
        """Rows for the measured range, if there is one, and for the fit."""
        measured, fitted = self.spectrum.statistics, self.spectrum.line_fit.rows(self.choice.velocity)
        return fitted if measured is None else [*statistics_rows(measured, existing(self.spectrum.axis)), *fitted]

    def _table(self, rows: list[tuple[str, str]], copies: str) -> str:
        """Rows as HTML; the first one has a link that copies them."""
        colour = Colours.of(self.session.viewer.theme).text
        link = f"&nbsp; <a href='{copies}' style='color: {colour}'>copy</a>"
        lines = (
            f"<tr><td style='padding-right: 8px'>{name}</td><td>{escape(value)}{'' if i else link}</td></tr>"
            for i, (name, value) in enumerate(rows)
        )
        return f"<table cellspacing='0' cellpadding='0'>{''.join(lines)}</table>" if rows else ""

    def _copy(self, what: str) -> None:
        if what == "position":
            self.readout.offer_copies(*existing(self.session.selected).position)
        elif what == "region":
            plain = QTextDocument()
            plain.setHtml(self._region_rows())
            _copy_text(plain.toPlainText())
        else:
            _copy_text("\n".join(f"{name} {value}" for name, value in self._statistics()))

    def _write_small(self, *_: object) -> None:
        self.setStyleSheet(small_print())
        self._paint(Colours.of(self.session.viewer.theme))
        self.numbers.ensurePolished()
        self.numbers_area.setMinimumWidth(self.numbers.fontMetrics().horizontalAdvance(NARROWEST_ROW))
        if not self._arranged:
            self._arrange()

    def _theme_changed(self, event: Any) -> None:
        self._paint(Colours.of(event.value))
        self._again()

    def _paint(self, colours: Colours) -> None:
        self.spectrum.paint(colours)
        self.focus.paint(colours)


def _copy_text(text: str) -> None:
    existing(QApplication.clipboard()).setText(text)
