"""The plots of the inspector's panels: with napari's colours and fonts, painted once per change."""

from __future__ import annotations

import pyqtgraph as pg
from qtpy.QtGui import QFont, QFontMetricsF

from napari_almadet.plugin.theme import Colours, small_size

LABEL_OVERHANG = 5  # pixels by which pyqtgraph lets the label of a horizontal axis stick out of the plot


class Plot(pg.PlotWidget):
    """A plot without its own menus and buttons.

    Its axes keep the width of their widest number so far: otherwise the plot would be laid out again, and jump, from
    candidate to candidate.
    """

    def __init__(self, box: pg.ViewBox | None = None):
        super().__init__(viewBox=box)
        self.letters = QFont()  # of its axes and labels
        self._names: dict[str, tuple[str, ...]] = {}  # of the axes
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setBackground(None)
        self.plotItem.layout.setContentsMargins(0, 0, 0, LABEL_OVERHANG)
        self.plotItem.vb.sigResized.connect(self._fit_names)

    def dress(self, colours: Colours) -> None:
        """Apply the colours of a napari theme and its font size."""
        self.letters.setPointSizeF(small_size())
        self.setBackground(colours.background)  # else the first one stays
        for item in self.scene().items():
            if isinstance(item, pg.AxisItem):
                item.setStyle(autoReduceTextSpace=False)
                item.enableAutoSIPrefix(False)  # a factor in the name of an axis is easily overlooked
                item.setPen(colours.dim)
                item.setTextPen(colours.text)
                item.setTickFont(self.letters)
                item.label.setFont(self.letters)
            elif isinstance(item, pg.TextItem):
                item.setFont(self.letters)
        self._fit_names()

    def begin(self) -> None:
        """Paint the whole plot once, with the next painting of the window, even if many items change.

        Otherwise Qt records each item, and paints the window once for each plot.
        """
        self.scene().update()
        self.viewport().update()

    def name(self, side: str, *texts: str) -> None:
        """Label an axis with the first text, from long to short, that fits."""
        self._names[side] = texts
        self._fit_names()

    def _fit_names(self, *_: object) -> None:
        room, letters = self.plotItem.vb.sceneBoundingRect(), QFontMetricsF(self.letters)
        for side, texts in self._names.items():
            axis, length = self.getAxis(side), room.width() if side == "bottom" else room.height()
            text = next((text for text in texts if letters.horizontalAdvance(text) <= length), texts[-1])
            if axis.labelText != text:
                axis.setLabel(text)
                axis.resizeEvent()  # places the label, which pyqtgraph does only when the size changes
