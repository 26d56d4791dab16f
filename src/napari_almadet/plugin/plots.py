"""A plot as the inspector's panels have it: in napari's colours and letters, and painted once for each change."""

from __future__ import annotations

import pyqtgraph as pg
from qtpy.QtGui import QFont, QFontMetricsF

from napari_almadet.plugin.theme import Colours, small_size

LABEL_OVERHANG = 5  # pixels by which pyqtgraph lets the label of a horizontal axis stick out of the plot


class Plot(pg.PlotWidget):
    """A plot without menus and buttons of its own.

    Its axes keep the room that their widest number took so far: one that gave it back would have the plot laid out and
    painted again, and let it jump, from candidate to candidate.
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
        """Take on the colours of a napari theme, and the size of its letters."""
        self.letters.setPointSizeF(small_size())
        self.setBackground(colours.background)  # else it keeps the one it was first painted with
        for item in self.scene().items():
            if isinstance(item, pg.AxisItem):
                item.setStyle(autoReduceTextSpace=False)
                item.setPen(colours.dim)
                item.setTextPen(colours.text)
                item.setTickFont(self.letters)
                item.label.setFont(self.letters)
            elif isinstance(item, pg.TextItem):
                item.setFont(self.letters)
        self._fit_names()

    def begin(self) -> None:
        """Paint all of the plot with the window when next it is painted, however many items change until then.

        Qt else takes note of each item, and has the window painted once for each plot.
        """
        self.scene().update()
        self.viewport().update()

    def name(self, side: str, *texts: str) -> None:
        """Write what an axis shows beside it: the first of some texts, from long to short, that there is room for."""
        self._names[side] = texts
        self._fit_names()

    def _fit_names(self, *_: object) -> None:
        room, letters = self.plotItem.vb.sceneBoundingRect(), QFontMetricsF(self.letters)
        for side, texts in self._names.items():
            axis, length = self.getAxis(side), room.width() if side == "bottom" else room.height()
            text = next((text for text in texts if letters.horizontalAdvance(text) <= length), texts[-1])
            if axis.labelText != text:
                axis.setLabel(text)
                axis.resizeEvent()  # puts the label in its place, which pyqtgraph leaves for the next change of size
