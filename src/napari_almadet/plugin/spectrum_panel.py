"""The spectrum of the selected candidate: dirty and denoised, the fit, its FWHM, and the channel on screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_almadet.cube import Cube
from napari_almadet.pipeline.catalog import Candidate, EmissionPeak, flux_factor
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.theme import Colours, transparent

FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class SpectralAxis:
    """What the channels of a cube are called on an axis.

    ``edges`` are the world coordinates of the n + 1 channel edges, in ``unit``.
    """

    name: str
    unit: str
    edges: np.ndarray

    @classmethod
    def of_cube(cls, cube: Cube) -> list[SpectralAxis]:
        """The axes a cube can be shown on, the best first; channels always."""
        n_channels = cube.shape[0]
        edges = np.arange(n_channels + 1) - 0.5
        axes = []
        if (frequency := cube.frequency(edges)) is not None:
            axes.append(cls("Frequency", "GHz", frequency.to_value("GHz")))
        if (velocity := cube.velocity(edges)) is not None:
            axes.append(cls("Velocity", "km/s", velocity.to_value("km/s")))
        return [*axes, cls("Channel", "", edges)]

    def world(self, channel) -> np.ndarray:
        """World coordinate of fractional channel(s)."""
        return np.interp(channel, np.arange(len(self.edges)) - 0.5, self.edges)

    def channel(self, world: float) -> int:
        """Channel (0-based) that holds a world coordinate, the nearest if none does."""
        order = np.argsort(self.edges)
        fractional = np.interp(world, self.edges[order], order - 0.5)
        return int(np.clip(np.round(fractional), 0, len(self.edges) - 2))


def steps(axis: SpectralAxis, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges (n + 1) and values (n) of a step plot that rises from left to right, whatever way the cube runs."""
    return (axis.edges, values) if axis.edges[0] < axis.edges[-1] else (axis.edges[::-1], values[::-1])


def gaussian(peak: EmissionPeak, channel: np.ndarray) -> np.ndarray:
    """The Gaussian fitted to a peak of the denoised spectrum, at fractional channels."""
    return peak.amplitude * np.exp(-0.5 * ((channel - peak.centre) * FWHM_PER_SIGMA / peak.fwhm) ** 2)


class SpectrumPanel(QWidget):
    """Plot of the selected candidate's spectra; its vertical line and napari's slider move each other."""

    def __init__(self, session: Session, colours: Colours):
        super().__init__()
        self.session = session
        self.axis: SpectralAxis | None = None
        self._axes: list[SpectralAxis] = []

        self.plot = pg.PlotWidget()
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setMouseEnabled(x=True, y=False)
        self.plot.showAxis("right")
        self.plot.setLabel("right", "Denoised")
        self.plot.getAxis("bottom").setHeight(52)  # its own guess cuts the label's descenders off
        self.plot.scene().sigMouseClicked.connect(self._clicked)
        # The denoised spectrum has a scale of its own, 0 to 1, on the right.
        self.right = pg.ViewBox(enableMenu=False)
        self.right.setMouseEnabled(x=True, y=False)
        self.plot.scene().addItem(self.right)
        self.plot.getAxis("right").linkToView(self.right)
        self.right.setXLink(self.plot.plotItem)
        self.plot.plotItem.vb.sigResized.connect(self._align_views)

        self.span = pg.LinearRegionItem(movable=False)
        self.span.setZValue(-10)
        self.dirty = pg.PlotCurveItem()
        self.zero = pg.InfiniteLine(pos=0, angle=0)
        self.line = pg.InfiniteLine(movable=True)
        self.line.sigPositionChanged.connect(self._line_moved)
        for item in (self.span, self.zero, self.dirty, self.line):
            self.plot.addItem(item, ignoreBounds=True)
        self.denoised = pg.PlotCurveItem()
        self.fit = pg.PlotCurveItem()
        for item in (self.denoised, self.fit):
            self.right.addItem(item, ignoreBounds=True)

        self.unit_choice = QComboBox()
        self.unit_choice.setToolTip("Coordinate of the horizontal axis")
        self.unit_choice.currentIndexChanged.connect(self._draw)
        self.legend = QLabel()
        self.legend.setTextFormat(Qt.TextFormat.RichText)

        bar = QHBoxLayout()
        bar.addWidget(self.legend, 1)
        bar.addWidget(self.unit_choice)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(bar)
        layout.addWidget(self.plot, 1)

        self.paint(colours)
        session.detections_changed.connect(self._detections_changed)
        session.selection_changed.connect(self._draw)
        session.channel_changed.connect(self._channel_changed)
        self._detections_changed(session.detections)

    def paint(self, colours: Colours) -> None:
        """Take on the colours of a napari theme."""
        self.plot.setBackground(None)
        for side in ("left", "bottom", "right"):
            self.plot.getAxis(side).setPen(colours.dim)
            self.plot.getAxis(side).setTextPen(colours.text)
        self.plot.getAxis("right").setTextPen(colours.denoised)
        self.dirty.setPen(pg.mkPen(colours.text, width=1))
        self.denoised.setPen(pg.mkPen(colours.denoised, width=2))
        self.fit.setPen(pg.mkPen(colours.fit, width=2, style=Qt.PenStyle.DashLine))
        self.zero.setPen(pg.mkPen(colours.dim, width=1, style=Qt.PenStyle.DotLine))
        self.line.setPen(pg.mkPen(colours.line, width=1))
        self.line.setHoverPen(pg.mkPen(colours.line, width=3))
        self.span.setBrush(pg.mkBrush(transparent(colours.fit, 45)))
        for edge in self.span.lines:
            edge.setPen(pg.mkPen(None))
        words = (("dirty", colours.text), ("denoised", colours.denoised), ("fit and FWHM", colours.fit))
        self.legend.setText("&nbsp;&nbsp;".join(f'<span style="color:{c}">▬</span> {w}' for w, c in words))

    # -- listening --------------------------------------------------------------------

    def _detections_changed(self, detections) -> None:
        self._axes = SpectralAxis.of_cube(detections.cube) if detections is not None else []
        previous = self.unit_choice.currentText()
        self.unit_choice.blockSignals(True)
        self.unit_choice.clear()
        self.unit_choice.addItems([axis.unit or "channel" for axis in self._axes])
        self.unit_choice.setCurrentIndex(max(0, self.unit_choice.findText(previous)))
        self.unit_choice.blockSignals(False)
        self._draw()

    def _channel_changed(self, channel: int | None) -> None:
        if self.axis is not None and channel is not None:
            self.line.setValue(float(self.axis.world(channel)))

    def _line_moved(self) -> None:
        if self.axis is not None:
            self.session.set_channel(self.axis.channel(self.line.value()))

    def _clicked(self, event) -> None:
        view = self.plot.plotItem.vb
        if self.axis is not None and view.sceneBoundingRect().contains(event.scenePos()):
            self.session.set_channel(self.axis.channel(view.mapSceneToView(event.scenePos()).x()))

    # -- drawing ----------------------------------------------------------------------

    def _draw(self, *_: object) -> None:
        candidate = self.session.selected
        shown = candidate is not None and bool(self._axes)
        self.axis = self._axes[max(0, self.unit_choice.currentIndex())] if shown else None
        for item in (self.span, self.dirty, self.denoised, self.fit, self.line, self.zero):
            item.setVisible(shown)
        if not shown:
            self.plot.setLabel("left", "")
            return
        self._draw_spectra(candidate)
        self._draw_fit(candidate)
        self._channel_changed(self.session.channel)

    def _draw_spectra(self, candidate: Candidate) -> None:
        axis = self.axis
        cube = self.session.detections.cube
        flux, label = flux_spectrum(cube, candidate.spectrum)
        self.dirty.setData(*steps(axis, flux), stepMode="center", connect="finite")
        self.denoised.setData(*steps(axis, candidate.denoised), stepMode="center", connect="finite")
        self.plot.setLabel("left", label)
        self.plot.setLabel("bottom", f"{axis.name} ({axis.unit})" if axis.unit else axis.name)
        self.plot.setXRange(axis.edges.min(), axis.edges.max(), padding=0.01)
        low, high = _span(flux)
        self.plot.setYRange(low, high, padding=0)
        # Zero of both scales on one height, and the denoised spectrum's 1 near the top.
        self.right.setYRange(1.05 * low / high, 1.05, padding=0)

    def _draw_fit(self, candidate: Candidate) -> None:
        peak = candidate.primary
        self.fit.setVisible(peak is not None)
        self.span.setVisible(peak is not None)
        if peak is None:
            return
        n_channels = len(candidate.denoised)
        channel = np.linspace(-0.5, n_channels - 0.5, 8 * n_channels)
        self.fit.setData(self.axis.world(channel), gaussian(peak, channel))
        self.span.setRegion(self.axis.world(peak.centre + np.array([-0.5, 0.5]) * peak.fwhm))

    def _align_views(self) -> None:
        self.right.setGeometry(self.plot.plotItem.vb.sceneBoundingRect())


def flux_spectrum(cube: Cube, spectrum: np.ndarray) -> tuple[np.ndarray, str]:
    """A box's spectrum as flux density in Jy, mJy or μJy where that can be known, else as a sum; and its axis label."""
    from astropy import units as u

    factor, unit = flux_factor(cube)
    values = factor * np.asarray(spectrum, dtype=float)
    if not unit.is_equivalent(u.Jy):
        return values, f"Sum ({unit.to_string('unicode')})"
    values *= unit.to(u.Jy)
    peak = np.nanmax(np.abs(values), initial=0.0)
    unit, prefix = next(((p, s) for p, s in ((u.Jy, 1.0), (u.mJy, 1e3)) if s * peak >= 1), (u.uJy, 1e6))
    return prefix * values, f"Flux ({unit.to_string('unicode')})"


def _span(values: np.ndarray) -> tuple[float, float]:
    """Lower and upper end of the flux axis, with room above and below; zero is always inside."""
    finite = values[np.isfinite(values)]
    low, high = (min(0.0, finite.min()), max(0.0, finite.max())) if finite.size else (0.0, 1.0)
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room
