"""Interactive line fits: the user drags over a line in the spectrum; it is fitted at once, and kept on request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyqtgraph as pg
from astropy import units as u
from napari.utils.notifications import show_error
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections
from napari_almadet.inspection.apertures import Aperture, spectrum_noise
from napari_almadet.inspection.axes import SpectralAxis
from napari_almadet.inspection.describe import unit_text, with_error
from napari_almadet.measure.cutout import Cutout
from napari_almadet.measure.noise import Noise
from napari_almadet.measure.spectrum_fit import SpectrumFit, fit_spectrum
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.plots import Plot
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.theme import Colours, transparent

BASELINES = {"no baseline": 0, "constant": 1, "straight line": 2}  # number of terms of each
MOST = 6  # Gaussians
VIEW_MS = 200  # ms after the last zoom step, when the visible channels are fitted
HINT = "Drag over a line in the plot to mark a Gaussian."


class MarkingBox(pg.ViewBox):
    """A plot area in which, while ``marking``, a drag of the mouse marks a range instead of moving the plot."""

    marked = Signal(float, float, bool)  # from, to, and whether the mouse button was released

    def __init__(self) -> None:
        super().__init__()
        self.marking = False

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:
        """Emit the range of the drag."""
        if not self.marking or event.button() != Qt.MouseButton.LeftButton:
            super().mouseDragEvent(event, axis)
            return
        event.accept()
        start, end = (self.mapSceneToView(place).x() for place in (event.buttonDownScenePos(), event.scenePos()))
        self.marked.emit(start, end, event.isFinish())


class LineFit(QWidget):
    """Controls of the fit, and its items in the plot of the spectrum: model, Gaussians, handles, residual.

    The visible channels are fitted.  ``changed`` is emitted when the fit changes or is removed.
    """

    changed = Signal()

    def __init__(self, session: Session, plot: Plot, box: MarkingBox):
        super().__init__()
        self.session, self.plot, self.box = session, plot, box
        self.fit: SpectrumFit | None = None
        self.starts: list[tuple[float, float]] = []  # centre and FWHM, in channels
        self._subject: Candidate | None = None
        self._shown: tuple[Candidate, u.Quantity, SpectralAxis] | None = None
        self._noise_of: Any = None  # aperture, cutout, unit conversion and pixels of the spectrum shown
        self._key: object = None
        self._awaited: Detections | None = None  # detections whose noise is being measured
        self._build()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._again)
        box.marked.connect(self._marked)
        box.sigXRangeChanged.connect(self._zoomed)
        self.setVisible(False)

    def _build(self) -> None:
        self.words = QLabel(HINT)
        self.fewer = QPushButton("−")
        self.fewer.setToolTip("Remove the Gaussian marked last")
        self.fewer.clicked.connect(self._take_away)
        self.baseline = QComboBox()
        self.baseline.addItems(BASELINES)
        self.baseline.setCurrentIndex(1)
        self.baseline.setToolTip("Fitted together with the Gaussians")
        self.baseline.currentIndexChanged.connect(self._again)
        self.accept = QPushButton("Accept")
        self.accept.setToolTip(
            "Use these as the candidate's lines: it is measured on the largest, with the velocity and FWHM of the fit. "
            "Undo reverts this"
        )
        self.accept.clicked.connect(self._take)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(self.words, 1)
        for widget in (self.fewer, self.baseline, self.accept):
            row.addWidget(widget)
        self.model, self.residual = pg.PlotCurveItem(), pg.PlotCurveItem()
        self.parts = pg.PlotCurveItem(connect="finite")
        self.preview = pg.LinearRegionItem(movable=False)
        self.items = (self.preview, self.residual, self.parts, self.model)
        for item in self.items:
            item.setVisible(False)
            self.plot.addItem(item, ignoreBounds=True)
        self.handles: list[tuple[pg.TargetItem, pg.TargetItem]] = []

    def paint(self, colours: Colours) -> None:
        """Apply the colours of a napari theme."""
        self._colours = colours
        self.model.setPen(pg.mkPen(colours.range, width=2))
        self.parts.setPen(pg.mkPen(colours.range, width=1, style=Qt.PenStyle.DotLine))
        self.residual.setPen(pg.mkPen(colours.residual, width=1))
        self.preview.setBrush(pg.mkBrush(transparent(colours.range, 70)))
        for pair in self.handles:
            self._dress(pair)

    def _dress(self, pair: tuple[pg.TargetItem, pg.TargetItem]) -> None:
        for handle in pair:
            handle.setPen(pg.mkPen(self._colours.range))
            handle.setBrush(pg.mkBrush(self._colours.range))
            handle.setHoverPen(pg.mkPen(self._colours.text))

    @property
    def on(self) -> bool:
        """Whether the user is fitting."""
        return self.box.marking

    @on.setter
    def on(self, on: bool) -> None:
        self.box.marking = on
        self.setVisible(on)
        if not on:
            self._subject = None
            self.hide_all()

    # -- the fit ----------------------------------------------------------------------

    def show_spectrum(
        self,
        candidate: Candidate,
        spectrum: u.Quantity,
        axis: SpectralAxis,
        aperture: Aperture,
        cutout: Cutout,
        converted: Callable[[u.Quantity], u.Quantity],
        pixels: np.ndarray | None = None,
    ) -> None:
        """Fit the spectrum shown; for a new candidate, start from its lines.

        Parameters
        ----------
        cutout
            Around the candidate's box.
        converted
            Converts the noise to the unit of the spectrum, up to a scale factor.
        pixels
            Pixels of the box that are summed, for a region.
        """
        self._shown, self._noise_of = (candidate, spectrum, axis), (aperture, cutout, converted, pixels)
        if not self.on:
            return
        if candidate is not self._subject:
            self._subject = candidate
            self.starts = [(peak.centre, peak.fwhm) for peak in candidate.peaks[:MOST] if np.isfinite(peak.fwhm)]
        self._again()

    def _again(self, *_: object) -> None:
        """Fit if anything has changed since the last time, and draw."""
        if not self.on or self._shown is None:
            return
        (candidate, spectrum, axis), (aperture, cutout, converted, pixels) = self._shown, self._noise_of
        noise = self._noise()
        if noise is None:
            self.words.setText("measuring the noise …")
            return
        view = axis.channels(*self.box.viewRange()[0])
        terms = BASELINES[self.baseline.currentText()]
        key = spectrum.value.tobytes(), str(spectrum.unit), tuple(self.starts), terms, view, aperture
        if key != self._key:
            self._key = key
            sigma = converted(spectrum_noise(self.session.ground.cube, candidate, aperture, cutout, noise, pixels))
            try:
                self.fit = fit_spectrum(
                    spectrum.value, sigma.to_value(spectrum.unit), noise.spectral, self.starts, terms, view
                )
                self.words.setText(_summary(self.fit))
            except ValueError as error:
                self.fit = None
                self.words.setText(HINT if not self.starts else f"{error}.")
            self.words.setToolTip(self.words.text())
        self._draw(spectrum, axis)
        self.changed.emit()

    def _noise(self) -> Noise | None:
        """The cube's noise; None while it is measured in the background."""
        ground = self.session.ground
        if ground.noise is None and self._awaited is not ground:
            self._awaited = ground
            from napari_almadet.remeasure import noise_in

            in_background(noise_in, ground, done=partial(self._measured, ground), failed=self._failed)
        return ground.noise

    def _measured(self, ground: Detections, noise: Noise) -> None:
        if self._awaited is ground:
            self._awaited = None
            self._again()

    def _failed(self, error: Exception) -> None:
        self._awaited = None
        show_error(f"The noise could not be measured: {error}")

    def _zoomed(self, *_: object) -> None:
        if self.on:
            self._later.start(VIEW_MS)

    # -- what the mouse does ----------------------------------------------------------

    def _marked(self, start: float, end: float, done: bool) -> None:
        """Shade the range during the drag; on release, add a Gaussian with the range as its FWHM."""
        if self._shown is None:
            return
        self.preview.setVisible(not done)
        self.preview.setRegion(sorted((start, end)))
        axis = self._shown[2]
        low, high = np.sort(axis.fractional([start, end]))
        if done and high > low and len(self.starts) < MOST:
            self.starts = [*self._fitted_starts(), ((low + high) / 2, max(high - low, 1.0))]
            self._again()

    def _fitted_starts(self) -> list[tuple[float, float]]:
        """Current centres and FWHM of the Gaussians, as start of the next fit."""
        if self.fit is None or len(self.fit.gaussians) != len(self.starts):
            return self.starts
        return [(float(centre), float(fwhm)) for _, centre, fwhm in self.fit.gaussians]

    def _take_away(self) -> None:
        self.starts = self._fitted_starts()[:-1]
        self._again()

    def _dragged(self, which: int, handle: pg.TargetItem) -> None:
        """The user dragged the top or side of a Gaussian: fit again from there."""
        place = float(existing(self._shown)[2].fractional(handle.pos().x()))
        starts = list(self._fitted_starts())
        centre, fwhm = starts[which]
        top = handle is self.handles[which][0]
        starts[which] = (place, fwhm) if top else (centre, max(2 * abs(place - centre), 0.5))
        self.starts = starts
        self._again()

    def _take(self) -> None:
        candidate, detections = self.session.selected, self.session.detections
        if candidate is not None and candidate is self._subject and self.fit is not None:
            self.session.measure(candidate, _taken, candidate, detections, self.fit)

    # -- drawing ----------------------------------------------------------------------

    def hide_all(self) -> None:
        """Remove the fit from the plot."""
        self.fit, self._key = None, None
        for item in self.items:
            item.setVisible(False)
        self._place_handles([])
        self.changed.emit()

    def _draw(self, spectrum: u.Quantity, axis: SpectralAxis) -> None:
        fit = self.fit
        self.fewer.setEnabled(bool(self.starts))
        mine = self._subject is not None and self._subject is self.session.selected
        self.accept.setEnabled(mine and fit is not None and bool(len(fit.gaussians)))
        for item in (self.model, self.parts, self.residual):
            item.setVisible(fit is not None)
        if fit is None:
            self._place_handles([])
            return
        channel = np.arange(len(spectrum))
        fine = np.linspace(-0.5, len(channel) - 0.5, 8 * len(channel))
        level = fit.level(fine)
        self.model.setData(axis.world(fine), fit.at(fine))
        parts = [np.append(level + line, np.nan) for line in fit.lines(fine)] if len(fit.gaussians) > 1 else []
        places = np.append(axis.world(fine), np.nan)
        self.parts.setData(np.tile(places, len(parts)), np.concatenate(parts) if parts else np.empty(0))
        left = spectrum.value - fit.at(channel)
        rising = axis.edges[0] < axis.edges[-1]
        edges, left = (axis.edges, left) if rising else (axis.edges[::-1], left[::-1])
        self.residual.setData(edges, left, stepMode="center", connect="finite")
        self._place_handles(
            [
                ((float(axis.world(c)), b + h), (float(axis.world(c + w / 2)), b + h / 2))
                for (h, c, w), b in zip(fit.gaussians, fit.level(fit.gaussians[:, 1]), strict=True)
            ]
        )

    def _place_handles(self, places: list[tuple[tuple[float, float], tuple[float, float]]]) -> None:
        while len(self.handles) > len(places):
            for handle in self.handles.pop():
                self.plot.removeItem(handle)
        while len(self.handles) < len(places):
            which = len(self.handles)
            pair = pg.TargetItem(size=9, symbol="o"), pg.TargetItem(size=7, symbol="s")
            for handle, tip in zip(pair, ("Drag the Gaussian elsewhere", "Drag its width"), strict=True):
                handle.setToolTip(tip)
                handle.sigPositionChangeFinished.connect(partial(self._dragged, which))
                self.plot.addItem(handle, ignoreBounds=True)
            self.handles.append(pair)
            self._dress(pair)
        for pair, both in zip(self.handles, places, strict=True):
            for handle, place in zip(pair, both, strict=True):
                with QSignalBlocker(handle):
                    handle.setPos(*(float(p) for p in place))

    def rows(self, velocity: SpectralAxis | None) -> list[tuple[str, str]]:
        """(name, value with error and unit) of the fit shown, in reading order.

        Integrals are over ``velocity`` if it is known.
        """
        if self.fit is None or self._shown is None or not self.on:
            return []
        _, spectrum, axis = self._shown
        fit, unit = self.fit, unit_text(spectrum.unit)
        rows = [("Fit", f"χ² {fit.chi2:.1f}, dof {fit.freedom}")]
        sums = zip(fit.gaussians, fit.errors, *fit.integrals(), strict=True)
        where = "" if axis.unit == u.chan else unit_text(axis.unit)
        for place, ((height, centre, fwhm), (of_height, of_centre, of_fwhm), total, of_total) in enumerate(sums, 1):
            channel = int(np.clip(round(centre), 0, len(axis.widths) - 1))
            step, along = float(axis.widths[channel]), velocity or axis
            wide, area = float(along.widths[channel]), unit_text(spectrum.unit * along.unit)
            rows += [
                (f"Centre {place}", f"{with_error(float(axis.world(centre)), of_centre * step)} {where}".rstrip()),
                (f"FWHM {place}", f"{with_error(fwhm * step, of_fwhm * step)} {where}".rstrip()),
                (f"Height {place}", f"{with_error(height, of_height)} {unit}".rstrip()),
                (f"Integral {place}", f"{with_error(total * wide, of_total * wide)} {area}".rstrip()),
            ]
        if len(fit.baseline):
            error = float(np.sqrt(fit.covariance[fit.gaussians.size, fit.gaussians.size]))
            rows.append(("Baseline", f"{with_error(float(fit.baseline[0]), error)} {unit}".rstrip()))
        return rows


def _summary(fit: SpectrumFit) -> str:
    count = len(fit.gaussians)
    if not count:
        return HINT
    return f"{count} Gaussian{'s' if count > 1 else ''}, χ²/dof {fit.chi2 / max(fit.freedom, 1):.2f}"


def _taken(candidate: Candidate, detections: Detections, fit: SpectrumFit) -> Candidate:
    from napari_almadet.remeasure import take_fit

    return take_fit(candidate, detections, fit)
