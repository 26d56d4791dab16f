"""Model and residual of the selected candidate's line-integrated image, next to it and on the same scale."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QHBoxLayout, QWidget

from napari_almadet.plugin.plots import Plot
from napari_almadet.plugin.theme import Colours


class Comparison(QWidget):
    """Two images that move and zoom together with another plot."""

    def __init__(self, beside: Plot, ground: str):
        super().__init__()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.plots = [Plot(), Plot()]
        self.images = [pg.ImageItem(axisOrder="row-major") for _ in self.plots]
        self.names = [pg.TextItem(anchor=(0, 0), color="white") for _ in self.plots]
        for plot, image, name in zip(self.plots, self.images, self.names, strict=True):
            plot.hideAxis("left")
            plot.hideAxis("bottom")
            plot.setMouseEnabled(x=False, y=False)
            plot.setAspectLocked(True)
            plot.getViewBox().setBackgroundColor(ground)
            plot.getViewBox().setXLink(beside.getViewBox())
            plot.getViewBox().setYLink(beside.getViewBox())
            plot.addItem(image, ignoreBounds=True)
            name.setParentItem(plot.getViewBox())
            name.setZValue(10)
            layout.addWidget(plot, 1)
        self.setVisible(False)

    def paint(self, colours: Colours) -> None:
        """Apply the colours and fonts of a napari theme."""
        for plot, name in zip(self.plots, self.names, strict=True):
            plot.dress(colours)
            name.setColor("white")

    def show_model(
        self, image: np.ndarray, model: np.ndarray | None, words: str, origin: tuple[int, int], levels: tuple, lut: str
    ) -> None:
        """Show a model and the residual, with the colours and scale of the image.

        Parameters
        ----------
        words
            Name of the model; if it is None, the reason why there is none.
        origin
            (y, x) of the images' first pixel.
        levels
            Limits of the colour scale.
        """
        nothing = np.full(image.shape, np.nan)
        made = nothing if model is None else model
        colours = pg.colormap.get(lut).getLookupTable(nPts=256)
        ny, nx = image.shape
        for item, values in zip(self.images, (made, image - made), strict=True):
            item.setImage(values, autoLevels=False)
            item.setLookupTable(colours)
            item.setLevels(levels)
            item.setRect(origin[1] - 0.5, origin[0] - 0.5, nx, ny)
        self.names[0].setText(f"model: {words}" if model is not None else words)
        self.names[1].setText("" if model is None else "residual")
