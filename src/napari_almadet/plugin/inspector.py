"""Spectrum, image and numbers of the selected candidate, side by side; coordinates and display of the cube above."""

from __future__ import annotations

from html import escape

import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QTextDocument
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
WIDEST_ROW = "Probability  00:00:00.000 −00:00:00.00    copy"  # of the numbers
NARROWEST_ROW = "Frequency  000.00000 GHz    "  # that is still easy to read
SHARE = 0.34  # of the window's height: room for all numbers without scrolling
SETTLED_MS = 300  # by then docks and canvas have taken the room that they are given
COLOUR_BAR_WIDTH = 60
CUT_SHARE = 0.58  # of what the numbers leave, at most, have the image and the cut beside it


class Inspector(QWidget):
    """The panel at the bottom: what is known of the selected candidate, and of the place under the pointer."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        colours = Colours.of(session.viewer.theme)
        self.look = Look(session)  # before all else: it forgets another cube's regions before anything is drawn again
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
        self.scroll = scroll
        self.panels = QSplitter()
        self.panels.setChildrenCollapsible(False)
        for i, panel in enumerate((self.spectrum, self.focus, scroll)):
            self.panels.addWidget(panel)
            self.panels.setStretchFactor(i, int(i == 0))
        self.panels.splitterMoved.connect(self._panels_moved)
        self._arranged = False  # by the user
        self._placed = False  # in the window
        self._filled = False  # with a candidate, once
        self._had = 0  # pixels of height, when last a candidate was shown
        self._field_was_seen = self._field_is_seen()  # before this panel takes the canvas its room
        for action in (self.focus.show_cut, self.focus.show_model):
            action.toggled.connect(self._arrange)
        self.hint = QLabel()
        self.hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.pages = QStackedWidget()
        for page in (self.hint, self.panels):
            self.pages.addWidget(page)
        top = QHBoxLayout()
        self.readout.setMinimumWidth(40)  # it leaves out what there is no room for
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

    def showEvent(self, event) -> None:
        """Take the room below the canvas, once, and have all of the field seen that was seen before.

        The docks at the left reach down beside this one: above it, they would leave it 180 of 720 pixels.
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
            height = self._had or round(SHARE * window.height())  # what it had before the settings took it
            window.resizeDocks([dock], [height], Qt.Orientation.Vertical)
            if self._field_was_seen:
                QTimer.singleShot(SETTLED_MS, self._fit_field)  # which is not called once this widget is gone

    def _fit_field(self) -> None:
        self.session.places.fit_view(self.session.image)

    def _field_is_seen(self) -> bool:
        """Whether all of the cube's field lies on the canvas, as it does until the user zooms into it."""
        image, viewer = self.session.image, self.session.viewer
        if image is None or viewer.dims.ndisplay == 3:
            return False
        camera = viewer.scene.camera
        half = np.array(viewer.canvas.size) / camera.zoom / 2
        corners = image.extent.world[:, -2:] - np.array(camera.center[-2:])
        return bool((np.abs(corners) <= half).all())

    def resizeEvent(self, event) -> None:
        """Keep the image about square, until the user has moved the panels' borders."""
        super().resizeEvent(event)
        if not self._arranged:
            self._arrange()

    def _arrange(self, *_: object) -> None:
        """An image about square, as much again for a cut, the numbers, and what is left for the spectrum."""
        side, spectrum = self.height() - 54 + COLOUR_BAR_WIDTH, self.spectrum.minimumSizeHint().width()
        bar = self.scroll.verticalScrollBar().sizeHint().width()
        numbers = self.numbers.fontMetrics().horizontalAdvance(WIDEST_ROW) + bar
        cut = self.focus.show_cut.isChecked() or self.focus.show_model.isChecked()
        images = 3 if self.focus.show_model.isChecked() else 2
        if cut:
            numbers = max(self.scroll.minimumWidth(), min(numbers, self.width() - spectrum - round(1.5 * side)))
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
            self._again()  # statistics are those of the channel

    def _looked(self) -> None:
        """Have the panels there as soon as there is a spectrum to show."""
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
            QTimer.singleShot(SETTLED_MS, self._take_room)  # the folded settings leave it the room only then
        if candidate is None:
            self.numbers.setText(POINT_AND_CLICK)
            self.hint.setText(NOTHING_FOUND_YET if self.session.detections is None else NOTHING_SELECTED)
            return
        measured = self._table(self._statistics(), "statistics")
        if candidate is self.session.probe:
            self.numbers.setText(f"{measured}{self._region_rows()}")
            return
        rows = self._table(
            facts(self.session.detections, candidate, self.choice.velocity, self.choice.frequency), "position"
        )
        said = "" if candidate.verdict == "unreviewed" else f", {candidate.verdict} by you"
        note = f"<div><i>{escape(candidate.note)}</i></div>" if candidate.note else ""
        reasons = "".join(f"<div style='margin-top: 2px'>{escape(reason)}</div>" for reason in candidate.reasons)
        self.numbers.setText(f"{measured}<b>Candidate {candidate.id}</b>{said}{note}{rows}{reasons}")
        # Else the text is laid out while the window is painted, which is then painted twice more.
        QApplication.sendPostedEvents(self.numbers.parent(), QEvent.Type.LayoutRequest)

    def _region_rows(self) -> str:
        """Name and statistics of the region that is looked at, in the channel on screen."""
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
        """Of the range that is being measured, if one is, and of the fit."""
        measured, fitted = self.spectrum.statistics, self.spectrum.line_fit.rows(self.choice.velocity)
        return fitted if measured is None else [*statistics_rows(measured, self.spectrum.axis), *fitted]

    def _table(self, rows: list[tuple[str, str]], copies: str) -> str:
        """Rows as HTML, with a link in the first of them to copy what they say."""
        colour = Colours.of(self.session.viewer.theme).text
        link = f"&nbsp; <a href='{copies}' style='color: {colour}'>copy</a>"
        lines = (
            f"<tr><td style='padding-right: 8px'>{name}</td><td>{escape(value)}{'' if i else link}</td></tr>"
            for i, (name, value) in enumerate(rows)
        )
        return f"<table cellspacing='0' cellpadding='0'>{''.join(lines)}</table>" if rows else ""

    def _copy(self, what: str) -> None:
        if what == "position":
            self.readout.offer_copies(*self.session.selected.position)
        elif what == "region":
            plain = QTextDocument()
            plain.setHtml(self._region_rows())
            QApplication.clipboard().setText(plain.toPlainText())
        else:
            QApplication.clipboard().setText("\n".join(f"{name} {value}" for name, value in self._statistics()))

    def _write_small(self, *_: object) -> None:
        self.setStyleSheet(small_print())
        self._paint(Colours.of(self.session.viewer.theme))
        self.numbers.ensurePolished()
        self.scroll.setMinimumWidth(self.numbers.fontMetrics().horizontalAdvance(NARROWEST_ROW))
        if not self._arranged:
            self._arrange()

    def _theme_changed(self, event) -> None:
        self._paint(Colours.of(event.value))
        self._again()

    def _paint(self, colours: Colours) -> None:
        self.spectrum.paint(colours)
        self.focus.paint(colours)
