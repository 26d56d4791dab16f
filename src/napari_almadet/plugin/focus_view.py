"""The focused image of the selected candidate, as it stands on the sky."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_almadet.cube import Cube
from napari_almadet.pipeline.catalog import Candidate
from napari_almadet.plugin.layers import FATE_COLOURS, position
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.theme import Colours

SCALE_LENGTHS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # arcsec that a scale bar may stand for
NO_DATA = "#606068"  # shows through where there are no pixels: beyond the field, or blank


def sky_directions(cube: Cube, x: float, y: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Unit vectors (x, y) on the pixel grid that point North and East at a pixel; None without WCS."""
    from astropy import units as u

    here = cube.sky(x, y)
    if here is None:
        return None
    celestial = cube.wcs.celestial
    ends = [here.directional_offset_by(angle, cube.pixel_scale) for angle in (0 * u.deg, 90 * u.deg)]
    vectors = [np.array(celestial.world_to_pixel(end), dtype=float) - (x, y) for end in ends]
    return tuple(v / np.linalg.norm(v) for v in vectors)


def beam_outline(cube: Cube, x: float, y: float, points: int = 73) -> np.ndarray | None:
    """The beam's half-power ellipse as (points, 2) pixel offsets (x, y), its angle from North through East."""
    directions = sky_directions(cube, x, y)
    if cube.beam is None or directions is None:
        return None
    north, east = directions
    angle = cube.beam.pa.to_value("rad")
    major = np.cos(angle) * north + np.sin(angle) * east
    minor = -np.sin(angle) * north + np.cos(angle) * east
    scale = cube.pixel_scale.to_value("arcsec")
    a, b = (length.to_value("arcsec") / scale / 2 for length in (cube.beam.major, cube.beam.minor))
    turn = np.linspace(0, 2 * np.pi, points)[:, None]
    return a * np.cos(turn) * major + b * np.sin(turn) * minor


class FocusView(QWidget):
    """Focused image with the candidate's box, the beam, North and East, and a scale bar."""

    def __init__(self, session: Session, colours: Colours):
        super().__init__()
        self.session = session
        self.plot = pg.PlotWidget()
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.hideAxis("left")
        self.plot.hideAxis("bottom")
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setAspectLocked(True)
        self.plot.getViewBox().setBackgroundColor(NO_DATA)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.image.setColorMap(pg.colormap.get("inferno"))
        self.box = pg.PlotCurveItem()
        self.beam = pg.PlotCurveItem(fillLevel="enclosed")
        self.marks = pg.PlotCurveItem(connect="pairs")
        self.names = [pg.TextItem(anchor=(0.5, 0.5)) for _ in range(3)]
        for item in (self.image, self.box, self.beam, self.marks, *self.names):
            self.plot.addItem(item, ignoreBounds=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)
        self.paint(colours)
        session.selection_changed.connect(self._draw)
        self._draw(session.selected)

    def paint(self, colours: Colours) -> None:
        """Take on the colours of a napari theme; what lies on the image is white on either."""
        self.plot.setBackground(None)
        self.plot.getPlotItem().titleLabel.setAttr("color", colours.text)
        self.marks.setPen(pg.mkPen("white", width=1.5))
        self.beam.setPen(pg.mkPen("white", width=1))
        self.beam.setBrush(pg.mkBrush("#ffffff70"))
        for name in self.names:
            name.setColor("white")

    def _draw(self, candidate: Candidate | None) -> None:
        shown = candidate is not None and candidate.focused is not None
        for item in (self.image, self.box, self.beam, self.marks, *self.names):
            item.setVisible(shown)
        if not shown:
            self.plot.setTitle("")
            return
        cube = self.session.detections.cube
        ny, nx = candidate.focused.shape
        y0, x0 = candidate.focus_origin
        self.image.setImage(candidate.focused, autoLevels=False, levels=_levels(candidate.focused))
        self.image.setRect(x0 - 0.5, y0 - 0.5, nx, ny)
        self.plot.setRange(xRange=(x0 - 0.5, x0 + nx - 0.5), yRange=(y0 - 0.5, y0 + ny - 0.5), padding=0)
        first, last = candidate.channels[0], candidate.channels[1] - 1
        self.plot.setTitle(f"Channels {first} to {last}", size="9pt")

        box = candidate.box
        self.box.setPen(pg.mkPen(FATE_COLOURS[candidate.fate], width=1.5))
        self.box.setData(
            np.array([box.x0, box.x1, box.x1, box.x0, box.x0]) - 0.5,
            np.array([box.y0, box.y0, box.y1, box.y1, box.y0]) - 0.5,
        )
        self._draw_beam(cube, candidate, np.array([x0 + 0.12 * nx, y0 + 0.12 * ny]))
        self._draw_marks(cube, candidate, np.array([x0, y0]), np.array([nx, ny]))

    def _draw_beam(self, cube: Cube, candidate: Candidate, centre: np.ndarray) -> None:
        outline = beam_outline(cube, *position(candidate))
        self.beam.setVisible(outline is not None)
        if outline is not None:
            self.beam.setData(*(centre + outline).T)

    def _draw_marks(self, cube: Cube, candidate: Candidate, origin: np.ndarray, size: np.ndarray) -> None:
        """North and East at the upper right, a scale bar at the lower right."""
        directions = sky_directions(cube, *position(candidate))
        lines, texts = [], []
        if directions is not None:
            corner = origin + size * (0.93, 0.80)
            for vector, word in zip(directions, "NE", strict=True):
                lines += [corner, corner + 0.08 * size * vector]
                texts.append((word, corner + 0.14 * size * vector))
        scale = cube.pixel_scale.to_value("arcsec") if cube.pixel_scale is not None else None
        if scale is not None:
            longest = 0.3 * size[0] * scale
            length = max((s for s in SCALE_LENGTHS if s <= longest), default=longest)
            word, pixels = f"{length:g}″", length / scale
        else:
            word, pixels = "10 px", 10
        end = origin + size * (0.95, 0.06)
        lines += [end, end - (pixels, 0)]
        texts.append((word, end + np.array([-pixels / 2, 0.07 * size[1]])))
        self.marks.setData(*np.array(lines).T)
        for item, text in zip(self.names, [*texts, *[("", origin)] * 3], strict=False):
            item.setText(text[0])
            item.setPos(*text[1])


def _levels(image: np.ndarray) -> tuple[float, float]:
    finite = image[np.isfinite(image)]
    if finite.size == 0 or np.ptp(finite) == 0:
        return 0.0, 1.0
    return float(np.percentile(finite, 1)), float(finite.max())
