"""The spectrum of the selected candidate, its emission range, and the channel on screen."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import pyqtgraph as pg
from astropy import units as u
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_almadet.catalogue.candidate import Candidate, EmissionPeak
from napari_almadet.cube.bad_channels import runs
from napari_almadet.inspection.apertures import (
    Aperture,
    LineModel,
    RangeStatistics,
    baseline,
    corrected,
    extract,
    has_gaussians,
    line_free,
    range_statistics,
)
from napari_almadet.inspection.axes import SpectralAxis
from napari_almadet.inspection.describe import number, unit_text
from napari_almadet.inspection.regions import SMOOTHINGS, Region, smoothed
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.line_fit import LineFit, MarkingBox
from napari_almadet.plugin.lines_menu import LinesMenu
from napari_almadet.plugin.look import Look
from napari_almadet.plugin.plots import Plot
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.theme import Colours, menu_button, transparent
from napari_almadet.plugin.units_menu import UnitsMenu

CURVES = {
    "data": "Spectrum of the cube as it is in the file, through the aperture",
    "corrected": "Sum over the box after subtraction of the sidelobes of other sources",
    "prob.": "Line probability, 0 to 1, with its scale on the right; with the preset paper, the denoised spectrum",
    "fit": "The Gaussians of the candidate's lines, their heights scaled to the data",
    "residual": "Data minus the fit",
}
NOT_USED = "Not shown: Gaussians do not describe this line, which the catalogue measures in the mask of the source"
APERTURES = {
    Aperture.BOX: "Sum over the candidate's box",
    Aperture.PEAK: "Brightest pixel of the line-integrated image inside the box",
    Aperture.BEAM: "Weighted with the beam at the candidate's centre: the flux density of a point source",
}
ROOM_FOR_PEAKS, ROOM_FOR_NAMES = 1.15, 1.45  # of the highest value: height of the plot without and with names of lines
FWHM_TIP = "FWHM of the line; drag it to set the emission range to one FWHM on either side of the centre"
PEAK_TIP = "A line of this candidate: click to measure the candidate on it"


class SpectrumPanel(QWidget):
    """Plot of the selected candidate's spectra.

    Its vertical line and napari's slider move together; dragging the shaded emission range measures the candidate
    again.

    ``measured`` is emitted when the ``statistics`` of the measured range change or are removed.
    """

    measured = Signal()

    def __init__(
        self, session: Session, choice: SpectralChoice, cutouts: Cutouts, colours: Colours, look: Look | None = None
    ):
        super().__init__()
        self.session, self.choice, self.cutouts, self.look = session, choice, cutouts, look
        self.spectrum: u.Quantity | None = None  # the spectrum shown, in the unit of the vertical axis
        self.corrected: u.Quantity | None = None  # spectrum that the search measured in the box, if different
        self.statistics: RangeStatistics | None = None
        self._baseline = (np.nan, np.nan)
        self._range_channels: tuple[int, int] | None = None  # the measured range, half-open
        self._whole_band = True  # whether to show the whole band; else the part that the user zoomed to
        self.line_marks: list[pg.InfiniteLine] = []
        self.left_out: list[pg.LinearRegionItem] = []  # channels left out of the search
        self._build_plot()
        self._build_bar()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for bar in self._bars:
            layout.addLayout(bar)
        layout.addWidget(self.line_fit)
        layout.addWidget(self.plot, 1)
        self.paint(colours)
        choice.changed.connect(self._axes_changed)
        cutouts.ready.connect(self._draw)
        session.detections_changed.connect(self._axes_changed)
        session.selection_changed.connect(self._selected)
        session.edited.connect(self._edited)
        session.channel_changed.connect(self._channel_changed)
        if look is not None:
            look.changed.connect(self._looked)
        self._axes_changed()

    def _build_plot(self) -> None:
        box = MarkingBox()
        self.plot = Plot(box)
        self.plot.setMouseEnabled(x=True, y=False)
        self.plot.showAxis("right")
        self.plot.name("right", "Line probability")
        self.plot.scene().sigMouseClicked.connect(self._clicked)
        # The denoised spectrum has a separate scale, 0 to 1, on the right.
        self.right = pg.ViewBox(enableMenu=False)
        self.right.setMouseEnabled(x=True, y=False)
        self.plot.scene().addItem(self.right)
        self.plot.getAxis("right").linkToView(self.right)
        self.right.setXLink(self.plot.plotItem)
        self.plot.plotItem.vb.sigResized.connect(self._align_views)

        self.noise = pg.LinearRegionItem(orientation="horizontal", movable=False)
        self.noise.setZValue(-20)
        self.span = pg.LinearRegionItem()
        self.span.setZValue(-10)
        self.span.sigRegionChangeFinished.connect(self._span_dragged)
        self.range = pg.LinearRegionItem()
        self.range.setZValue(-5)
        self.range.sigRegionChanged.connect(self._measure_range)
        self.data = pg.PlotCurveItem()
        self.profiles: list[pg.PlotCurveItem] = []  # spectra of regions and under the pointer
        self.profile_names = pg.TextItem(anchor=(0, 0))
        self.profile_names.setParentItem(self.plot.getViewBox())
        self.profile_names.setZValue(10)
        self.corrected_curve = pg.PlotCurveItem()
        self.fit = pg.PlotCurveItem()
        self.residual = pg.PlotCurveItem()
        self.zero = pg.InfiniteLine(pos=0, angle=0)
        self.line = pg.InfiniteLine(movable=True)
        self.line.sigPositionChanged.connect(self._line_moved)
        curves = self.residual, self.data, self.corrected_curve, self.fit
        for item in (self.noise, self.span, self.range, self.zero, *curves, self.line):
            self.plot.addItem(item, ignoreBounds=True)
        self.line_fit = LineFit(self.session, self.plot, box)
        self.line_fit.changed.connect(self.measured)
        self.denoised = pg.PlotCurveItem()
        self.fwhm = pg.PlotCurveItem()
        self.peaks = pg.ScatterPlotItem(symbol="t", hoverable=True, tip=lambda x, y, data: PEAK_TIP)
        self.peaks.sigClicked.connect(self._peak_clicked)
        self.ends = [pg.TargetItem(size=7, symbol="o") for _ in range(2)]  # handles at both ends of the FWHM
        for end in self.ends:
            end.setToolTip(FWHM_TIP)
            end.sigPositionChanged.connect(self._fwhm_dragged)
            end.sigPositionChangeFinished.connect(self._fwhm_dropped)
        for item in (self.denoised, self.fwhm, self.peaks, *self.ends):
            self.right.addItem(item, ignoreBounds=True)

    def _build_bar(self) -> None:
        """Make two short rows of controls instead of one long row, so that the panel can be narrow."""
        self.curves = {}
        curves, choices = self._bars = QHBoxLayout(), QHBoxLayout()
        for bar in self._bars:
            bar.setSpacing(1)
        for name, tip in CURVES.items():
            button = self.curves[name] = _toggle(name, tip)
            button.setChecked(name not in ("residual", "corrected"))
            button.toggled.connect(self._draw)
            curves.addWidget(button)
        self.curves["corrected"].setVisible(False)  # until it exists
        curves.addStretch(1)
        self.range_button = _toggle("Measure", "Drag a second range over the spectrum to measure it")
        self.range_button.toggled.connect(self._range_toggled)
        self.fit_button = _toggle("Fit", "Fit Gaussians to the spectrum: drag over each line in the plot")
        self.fit_button.toggled.connect(self._fit_toggled)
        curves.addWidget(self.fit_button)
        curves.addWidget(self.range_button)
        self.aperture_choice = QComboBox()
        for aperture, tip in APERTURES.items():
            self.aperture_choice.addItem(aperture.value, aperture)
            self.aperture_choice.setItemData(self.aperture_choice.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.aperture_choice.setToolTip("Aperture of the spectrum of the data")
        self.aperture_choice.currentIndexChanged.connect(self._draw)
        self.smoothing = QComboBox()
        self.smoothing.addItems(SMOOTHINGS)
        self.smoothing.setToolTip(
            "Smooth the spectra or average them in bins; the measured values refer to the original spectrum"
        )
        self.smoothing.currentIndexChanged.connect(self._draw)
        self.unit_choice = QComboBox()
        self.unit_choice.setToolTip("Coordinate of the horizontal axis")
        self.unit_choice.currentTextChanged.connect(self.choice.choose)
        self.units_menu = UnitsMenu(self.choice)
        self.units_button = menu_button(
            "Units", "K, Jy/beam, mJy; flux density or brightness; LSRK, barycentric, topocentric", self.units_menu
        )
        self.lines_menu = LinesMenu(self.session, self.choice)
        self.lines_menu.changed.connect(self._draw)
        self.lines_button = menu_button(
            "Lines", "Identify the line; set rest frequency and redshift; mark lines in the band", self.lines_menu
        )
        for box in (self.aperture_choice, self.smoothing, self.unit_choice):
            # three panels and two menus fit into 1280 pixels, also with large fonts
            box.setMinimumContentsLength(0 if box is self.smoothing else 1)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            choices.addWidget(box, 1)
        choices.addWidget(self.units_button)
        choices.addWidget(self.lines_button)

    def paint(self, colours: Colours) -> None:
        """Apply the colours and fonts of a napari theme."""
        self.plot.dress(colours)
        self.plot.getAxis("right").setTextPen(colours.denoised)
        self.data.setPen(pg.mkPen(colours.text, width=1))
        self.denoised.setPen(pg.mkPen(colours.denoised, width=2))
        self.fit.setPen(pg.mkPen(colours.fit, width=2, style=Qt.PenStyle.DashLine))
        self.corrected_curve.setPen(pg.mkPen(colours.range, width=1))
        self.fwhm.setPen(pg.mkPen(colours.denoised, width=3))
        for end in self.ends:
            end.setPen(pg.mkPen(colours.denoised))
            end.setBrush(pg.mkBrush(colours.denoised))
            end.setHoverPen(pg.mkPen(colours.text))
        self.residual.setPen(pg.mkPen(colours.residual, width=1))
        self.zero.setPen(pg.mkPen(colours.dim, width=1, style=Qt.PenStyle.DotLine))
        self.line.setPen(pg.mkPen(colours.line, width=1))
        self.line.setHoverPen(pg.mkPen(colours.line, width=3))
        self.peaks.setPen(pg.mkPen(colours.denoised, width=1.5))
        self.peaks.setBrush(pg.mkBrush(transparent(colours.denoised, 90)))
        self._colours = colours
        self.line_fit.paint(colours)
        for region, colour in ((self.span, colours.fit), (self.range, colours.range), (self.noise, colours.dim)):
            region.setBrush(pg.mkBrush(transparent(colour, 110 if region is self.noise else 45)))
            region.setHoverBrush(pg.mkBrush(transparent(colour, 70)))
            for edge in region.lines:
                edge.setPen(pg.mkPen(transparent(colour, 160) if region is not self.noise else None))
                edge.setHoverPen(pg.mkPen(colour, width=3))
        own = {
            "data": colours.text,
            "corrected": colours.range,
            "prob.": colours.denoised,
            "fit": colours.fit,
            "residual": colours.residual,
        }
        for name, button in self.curves.items():
            button.setStyleSheet(
                f"QPushButton {{ background: transparent; border: 1px solid {colours.dim} }}"
                f"QPushButton:checked {{ color: {own[name]}; border-bottom: 2px solid {own[name]} }}"
            )
        self._draw_lines()

    # -- listening --------------------------------------------------------------------

    def _axes_changed(self, *_: object) -> None:
        with QSignalBlocker(self.unit_choice):
            self.unit_choice.clear()
            self.unit_choice.addItems([axis.choice for axis in self.choice.axes])
            if self.choice.axis is not None:
                self.unit_choice.setCurrentText(self.choice.axis.choice)
        beam_known = self.choice.cube is not None and bool(self.choice.cube.beam_area)
        index = self.aperture_choice.findData(Aperture.BEAM)
        items = self.aperture_choice.model()
        assert isinstance(items, QStandardItemModel)  # as Qt documents
        existing(items.item(index)).setEnabled(beam_known)
        if not beam_known and self.aperture_choice.currentIndex() == index:
            self.aperture_choice.setCurrentIndex(0)
        self._selected()

    def _selected(self, *_: object) -> None:
        self._whole_band = True
        self._draw()

    @property
    def axis(self) -> SpectralAxis | None:
        """The horizontal axis; None if neither a candidate nor a region is shown."""
        return self.choice.axis if self.session.subject is not None or self._pointed() else None

    def _pointed(self) -> bool:
        """Whether there are profiles to show, with or without a candidate."""
        return self.look is not None and self.choice.axis is not None and self.look.any_profiles()

    @property
    def aperture(self) -> Aperture:
        """Aperture of the spectrum of the data."""
        return Aperture(self.aperture_choice.currentData())  # PySide6 converts it to a plain string

    def _channel_changed(self, channel: int | None) -> None:
        if self.axis is not None and channel is not None:
            self.line.setValue(float(self.axis.world(channel)))

    def _line_moved(self) -> None:
        if self.axis is not None:
            self.session.set_channel(self.axis.channel(self.line.value()))

    def _clicked(self, event: Any) -> None:
        view = self.plot.plotItem.vb
        for side in ("left", "bottom"):
            if self.plot.getAxis(side).sceneBoundingRect().contains(event.scenePos()):
                self.units_menu.popup(event.screenPos().toPoint())
                return
        if self.axis is not None and view.sceneBoundingRect().contains(event.scenePos()):
            self.session.set_channel(self.axis.channel(view.mapSceneToView(event.scenePos()).x()))

    def _span_dragged(self) -> None:
        """Set the emission range to the dragged one; ignored if the panel itself drew it."""
        candidate = self.session.subject
        if self.axis is None or candidate is None or not candidate.channels[1]:
            return
        channels = self.axis.channels(*self.span.getRegion())
        if channels == candidate.channels:
            self._draw_span(candidate)  # back to the edges of channels
        else:
            self.session.refocus(candidate, channels)

    def _line_dragged_to(self, end: pg.TargetItem) -> EmissionPeak:
        """Set the FWHM of the line from one end of its bar; the other end is symmetric about the centre."""
        line, axis = existing(existing(self.session.subject).primary), existing(self.axis)
        return replace(line, fwhm=2 * abs(float(axis.fractional(end.pos().x())) - line.centre))

    def _fwhm_dragged(self, end: pg.TargetItem) -> None:
        self._draw_fwhm(self._line_dragged_to(end))

    def _fwhm_dropped(self, end: pg.TargetItem) -> None:
        candidate = existing(self.session.subject)
        channels = self._line_dragged_to(end).emission_range(len(existing(self.spectrum)))
        self._draw_fwhm(existing(candidate.primary))  # the fit does not change: the user chose the emission range
        if channels != candidate.channels:
            self.session.refocus(candidate, channels)

    def _peak_clicked(self, _: object, points: Any) -> None:
        candidate = existing(self.session.subject)
        self.session.follow_line(candidate, candidate.peaks[points[0].data()])

    def _edited(self, candidates: list[Candidate]) -> None:
        if any(candidate is self.session.subject for candidate in candidates):
            self._draw()

    # -- drawing ----------------------------------------------------------------------

    def _draw(self, *_: object) -> None:
        self.plot.begin()
        candidate, axis = self.session.subject, self.axis
        self.spectrum = self.corrected = None
        if axis is not None and candidate is not None:
            extracted = self._extracted(candidate)
            if extracted is not None:
                self.spectrum = self.choice.display.scaled(self._converted(extracted))
                found, boxed = self.session.detections, self.aperture is Aperture.BOX
                own = corrected(found, candidate, extracted) if found is not None and boxed else None
                self.corrected = None if own is None else self._converted(own)
        shown = self.spectrum is not None
        self._draw_left_out(existing(self.choice.cube).flagged if shown else None)
        for item in (self.zero, self.line):
            item.setVisible(shown)
        curves = self.data, self.corrected_curve, self.denoised, self.fit, self.residual
        for item in (self.noise, self.span, self.peaks, *curves):
            item.setVisible(False)
        for item in (self.fwhm, *self.ends):
            item.setVisible(False)
        self.range.setVisible(shown and self.range_button.isChecked())
        if candidate is None or not shown:
            self.plot.name("left", "" if candidate is None else "reading …")
            self._draw_profiles()
            self._draw_lines()
            self._measure_range()
            self.line_fit.hide_all()
            return
        self._draw_spectra(candidate)
        self._draw_profiles()
        self._draw_span(candidate)
        self._draw_peaks(candidate)
        self._draw_lines()
        self._show_fit(candidate)
        self._channel_changed(self.session.channel)
        if self.range_button.isChecked():
            self._place_range()
        else:
            self._measure_range()
        self.plot.scene().prepareForPaint()  # else pyqtgraph does this while painting, and paints twice

    def _extracted(self, candidate: Candidate) -> u.Quantity | None:
        """The spectrum of the cube that the panel shows; None while it is read.

        For a region and the aperture "box", it is the sum over the pixels of the region only.
        """
        region = self._region(candidate)
        if region is not None and self.aperture is Aperture.BOX:
            return existing(self.look).spectrum(region)
        cutout = self.cutouts.about(candidate)
        return None if cutout is None else extract(existing(self.choice.cube), candidate, self.aperture, cutout)

    def _converted(self, spectrum: u.Quantity) -> u.Quantity:
        """A spectrum in the aperture, or its noise, in the chosen unit."""
        candidate = existing(self.session.subject)
        region = self._region(candidate)
        pixels = region.pixels if region is not None else int(np.prod(candidate.box.shape))
        return self.choice.display.of_spectrum(spectrum, existing(self.choice.cube), pixels)

    def _region(self, candidate: Candidate) -> Region | None:
        """The region that is shown in the form of a candidate; None for a real candidate."""
        return self.look.chosen if self.look is not None and candidate is self.session.probe else None

    def _smoothed(self, values: np.ndarray) -> np.ndarray:
        return smoothed(values, self.smoothing.currentText())

    def _looked(self) -> None:
        """Draw the profile of a new region or pointer position; draw everything if the plot was empty."""
        if self.spectrum is None or not self.line.isVisible():
            self._draw()
        else:
            self._draw_profiles()

    def _draw_profiles(self) -> None:
        """Draw the spectra of regions and under the pointer, each in its colour, with a legend."""
        axis, look = self.axis, self.look
        unit = self.spectrum.unit if self.spectrum is not None else None
        names: list[str] = []
        highest: list[np.ndarray] = []
        profiles = [] if look is None or axis is None else look.profiles()
        for curve in self.profiles[len(profiles) :]:
            curve.setVisible(False)
        for place, (name, colour, spectrum) in enumerate(profiles):
            if place == len(self.profiles):
                self.profiles.append(pg.PlotCurveItem())
                self.plot.addItem(self.profiles[-1], ignoreBounds=True)
            cube, pixels = existing(self.choice.cube), existing(look).pixels_of(name)
            spectrum = self.choice.display.of_spectrum(spectrum, cube, pixels)
            unit = unit or self.choice.display.scaled(spectrum).unit
            curve = self.profiles[place]
            # Jy/beam in a pixel is Jy for a point source; other units are scaled separately
            alike = spectrum.unit.is_equivalent(unit)
            values = spectrum.to_value(unit) if alike else scaled_to(spectrum.value, self._highest(highest))
            values = self._smoothed(values)
            curve.setPen(pg.mkPen(colour, width=1))
            curve.setData(*steps(existing(axis), values), stepMode="center", connect="finite")
            curve.setVisible(True)
            names.append(f"<span style='color: {colour}'>{escape(name)}{'' if alike else ' (scaled)'}</span>")
            highest.append(values)
        self.profile_names.setHtml("<br>".join(names))
        self.profile_names.setVisible(bool(names))
        if self.spectrum is None and highest:
            self._range_of_profiles(np.concatenate(highest), unit)

    def _highest(self, profiles: list[np.ndarray]) -> float:
        """The highest value of the data, or, while those are read or where there are none, of the first profile."""
        values = profiles[0] if self.spectrum is None else self.spectrum.value
        return float(np.nanmax(np.abs(values), initial=0.0))

    def _range_of_profiles(self, values: np.ndarray, unit: u.UnitBase) -> None:
        """Set the axes if only profiles are shown."""
        axis = existing(self.axis)
        what = "Flux density" if unit.is_equivalent(u.Jy) else "Brightness"
        text = unit_text(unit)
        self.plot.name("left", *([f"{what} ({text})", text] if text else [what]))
        self.plot.name("bottom", axis.label, axis.choice)
        if self._whole_band:
            self.plot.setXRange(axis.edges.min(), axis.edges.max(), padding=0.01)
            self._whole_band = False
        low, high = _span(values)
        self.plot.setYRange(low, high * ROOM_FOR_PEAKS, padding=0)
        for item in (self.zero, self.line):
            item.setVisible(True)
        self._channel_changed(self.session.channel)

    def _draw_spectra(self, candidate: Candidate) -> None:
        axis, spectrum = existing(self.axis), existing(self.spectrum)
        values = self._smoothed(spectrum.value)
        n_channels = len(values)
        on = {name: button.isChecked() for name, button in self.curves.items()}
        level, sigma = self._baseline = baseline(spectrum.value, line_free(candidate, n_channels))
        if np.isfinite(sigma):
            self.noise.setRegion((level - sigma, level + sigma))
            self.noise.setVisible(True)
        self.data.setData(*steps(axis, values), stepMode="center", connect="finite")
        self.data.setVisible(on["data"])
        self.curves["corrected"].setVisible(self.corrected is not None)
        if self.corrected is not None:
            own = self._smoothed(self.corrected.to_value(spectrum.unit))
            self.corrected_curve.setData(*steps(axis, own), stepMode="center", connect="finite")
            self.corrected_curve.setVisible(on["corrected"])
        if len(candidate.denoised) == n_channels:  # imported candidates may have none
            self.denoised.setData(*steps(axis, candidate.denoised), stepMode="center", connect="finite")
            self.denoised.setVisible(on["prob."])
        for name in ("fit", "residual"):
            self.curves[name].setEnabled(candidate.method != "mask")
            self.curves[name].setToolTip(NOT_USED if candidate.method == "mask" else CURVES[name])
        if has_gaussians(candidate) and np.isfinite(values).any():
            model = LineModel.of(spectrum.value, candidate.peaks)
            channel = np.linspace(-0.5, n_channels - 0.5, 8 * n_channels)
            self.fit.setData(axis.world(channel), model(channel))
            self.fit.setVisible(on["fit"])
            residual = values - model(np.arange(n_channels))
            self.residual.setData(*steps(axis, residual), stepMode="center", connect="finite")
            self.residual.setVisible(on["residual"])
        what = "Flux density" if spectrum.unit.is_equivalent(u.Jy) else "Brightness"
        region = self._region(candidate)
        if self.aperture is Aperture.BOX and what == "Brightness" and (region is None or region.pixels > 1):
            what = "Mean brightness" if self.choice.display.mean else "Sum"
        unit = unit_text(spectrum.unit)
        self.plot.name("left", *([f"{what} ({unit})", unit] if unit else [what]))
        self.plot.name("bottom", axis.label, axis.choice)
        if self._whole_band:
            self.plot.setXRange(axis.edges.min(), axis.edges.max(), padding=0.01)
            self._whole_band = False
        low, high = _span(values)
        above = ROOM_FOR_NAMES if self.lines_menu.in_band() else ROOM_FOR_PEAKS
        self.plot.setYRange(low, high * above, padding=0)
        # Zero is at the same height in both scales, and 1 of the denoised spectrum at the highest value.
        self.right.setYRange(low / high, above, padding=0)

    def _draw_span(self, candidate: Candidate) -> None:
        first, last = candidate.channels
        self.span.setVisible(last > first)
        if last > first:
            self.span.setRegion(np.sort(existing(self.axis).world(np.array([first, last]) - 0.5)))

    def _draw_left_out(self, flagged: np.ndarray | None) -> None:
        """Shade the channels that were excluded from the search."""
        for region in self.left_out:
            self.plot.removeItem(region)
        channels = runs([] if flagged is None else np.flatnonzero(flagged).tolist())
        ends = [np.sort(existing(self.axis).world(np.array([first - 0.5, last + 0.5]))) for first, last in channels]
        brush = pg.mkBrush(transparent(self._colours.residual, 60))
        self.left_out = [pg.LinearRegionItem(values, movable=False, brush=brush, pen=pg.mkPen(None)) for values in ends]
        for region in self.left_out:
            region.setZValue(-15)
            region.setToolTip("Bad channels, flagged in the search")
            self.plot.addItem(region, ignoreBounds=True)

    def _draw_peaks(self, candidate: Candidate) -> None:
        """Draw a clickable mark for every peak, and the FWHM of the primary one at half its height."""
        on = self.curves["prob."].isChecked()
        self.peaks.setVisible(on and bool(candidate.peaks))
        for item in (self.fwhm, *self.ends):
            item.setVisible(on and bool(candidate.peaks))
        if candidate.primary is None:
            return
        axis = existing(self.axis)
        self.peaks.setData(
            x=[float(axis.world(p.centre)) for p in candidate.peaks],
            y=[min(_shown_height(p), 1.0) for p in candidate.peaks],
            data=list(range(len(candidate.peaks))),
            size=[8 if i == 0 else 12 for i in range(len(candidate.peaks))],
        )
        self._draw_fwhm(candidate.primary)

    def _draw_fwhm(self, peak: EmissionPeak) -> None:
        ends, height = peak.centre + np.array([-0.5, 0.5]) * peak.fwhm, _shown_height(peak) / 2
        places = existing(self.axis).world(ends)
        self.fwhm.setData(places, np.full(2, height))
        for end, place in zip(self.ends, places, strict=True):
            with QSignalBlocker(end):
                end.setPos(place, height)

    def _draw_lines(self, *_: object) -> None:
        """Draw labelled marks of known lines at the chosen redshift."""
        for item in self.line_marks:
            self.plot.removeItem(item)
        self.line_marks = []
        if self.axis is None or self.spectrum is None:
            return
        for line, observed in self.lines_menu.in_band():
            frequency = existing(self.choice.frequency)
            place = float(self.axis.world(frequency.fractional(observed)))
            item = pg.InfiniteLine(
                place,
                pen=pg.mkPen(self._colours.range, style=Qt.PenStyle.DashLine),
                label=line.name,
                labelOpts={"position": 0.93 - 0.12 * (len(self.line_marks) % 3)},  # labels of neighbours do not overlap
            )
            item.label.setColor(self._colours.range)
            item.label.setFont(self.plot.letters)
            item.setToolTip(f"{line.name}, rest frequency {line.rest_frequency:.6f} GHz ({line.source})")
            self.plot.addItem(item, ignoreBounds=True)
            self.line_marks.append(item)

    def _align_views(self) -> None:
        self.right.setGeometry(self.plot.plotItem.vb.sceneBoundingRect())

    # -- the measured range -----------------------------------------------------------

    def _range_toggled(self, on: bool) -> None:
        self._range_channels = None
        if on:
            self.fit_button.setChecked(False)
        self._draw()

    def _fit_toggled(self, on: bool) -> None:
        """Let the mouse mark lines to fit, and disable the other movable items of the plot."""
        if on:
            self.range_button.setChecked(False)
        self.span.setMovable(not on)
        self.line.setMovable(not on)
        self.line_fit.on = on
        self._draw()

    def _show_fit(self, candidate: Candidate) -> None:
        cutout = self.cutouts.about(candidate)
        if cutout is not None:
            region = self._region(candidate)
            pixels = None if region is None or self.aperture is not Aperture.BOX else region.mask
            self.line_fit.show_spectrum(
                candidate,
                existing(self.spectrum),
                existing(self.axis),
                self.aperture,
                cutout,
                self._converted,
                pixels,
            )

    def _place_range(self) -> None:
        """Restore the measured range, in channels; at first, it covers the emission range and as much on each side."""
        n_channels = len(existing(self.spectrum))
        if self._range_channels is None or self._range_channels[1] > n_channels:
            first, last = existing(self.session.subject).channels
            width = max(last - first, 1)
            self._range_channels = max(first - width, 0), min(last + width, n_channels)
        region = np.sort(existing(self.axis).world(np.array(self._range_channels) - 0.5))
        with QSignalBlocker(self.range):
            self.range.setRegion(region)
        self._measure_range()

    def _measure_range(self) -> None:
        if self.spectrum is not None and self.range_button.isChecked():
            axis = existing(self.axis)
            self._range_channels = channels = axis.channels(*self.range.getRegion())
            self.statistics = range_statistics(self.spectrum, axis, channels, *self._baseline)
        elif self.statistics is not None:
            self.statistics = None
        else:
            return
        self.measured.emit()


def scaled_to(values: np.ndarray, top: float) -> np.ndarray:
    """A spectrum of another unit, its highest value as high as ``top``."""
    return values * top / (np.nanmax(np.abs(values), initial=0.0) or 1.0)


def steps(axis: SpectralAxis, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (n + 1) and values (n) of a step plot, with increasing coordinates whatever the order of channels."""
    return (axis.edges, values) if axis.edges[0] < axis.edges[-1] else (axis.edges[::-1], values[::-1])


def statistics_rows(measured: RangeStatistics, axis: SpectralAxis) -> list[tuple[str, str]]:
    """(name, value with unit) of the statistics of a range, in reading order."""
    first, last = measured.channels
    low, high = np.sort(axis.edges[[first, last]])
    unit = "" if axis.unit == u.chan else f" {unit_text(axis.unit)}"
    return [
        ("Range", f"{low:.7g} to {high:.7g}{unit}"),
        ("Channels", f"{first} to {last - 1}"),
        ("Sum", quantity_text(measured.sum)),
        ("S/N of sum", number(measured.snr, ".1f")),
        ("Centroid", f"{number(measured.centroid.value, '.8g')}{unit}"),
        ("Mean", quantity_text(measured.mean)),
        ("rms", quantity_text(measured.rms)),
    ]


def quantity_text(value: u.Quantity) -> str:
    """A value with its unit."""
    return f"{number(value.value, '.4g')} {unit_text(value.unit)}".rstrip()


def _shown_height(peak: EmissionPeak) -> float:
    """Height of a line's mark on the scale of the line probability; at the top for lines from other fits."""
    return peak.amplitude if np.isfinite(peak.amplitude) else 1.0


def _toggle(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setCheckable(True)
    return button


def _span(values: np.ndarray) -> tuple[float, float]:
    """Lower end of the flux axis, with a margin, and the highest value; the range includes zero."""
    finite = values[np.isfinite(values)]
    low, high = (min(0.0, finite.min()), max(0.0, finite.max())) if finite.size else (0.0, 1.0)
    room = 0.08 * (high - low) or 1.0
    return low - room, high or room
