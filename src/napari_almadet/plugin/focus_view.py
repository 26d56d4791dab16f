"""The selected candidate as line-integrated image or moment map, and a position-velocity cut through it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyqtgraph as pg
from astropy import units as u
from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QAction, QActionGroup, QResizeEvent
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QMenu, QVBoxLayout, QWidget
from skimage.measure import find_contours

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.catalogue.detections import brightness_unit, channel_width
from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.axes import SpectralAxis
from napari_almadet.inspection.describe import mid_channel, unit_text
from napari_almadet.inspection.geometry import beam_outline, sky_vectors
from napari_almadet.inspection.moments import Cut, contour_levels, cut_along, line_moments
from napari_almadet.inspection.source_model import model_of
from napari_almadet.measure.focus import focus, focused_noise, source_radii
from napari_almadet.plugin.comparison import Comparison
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import STATUS_COLOURS, sky_plane
from napari_almadet.plugin.plots import Plot
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.theme import Colours, menu_button

SCALE_LENGTHS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # arcsec
NO_DATA = "#606068"  # background where there are no pixels: outside the field, or blank
FOCUSED, *MOMENTS = IMAGES = ("Line-integrated image", "Moment 0", "Moment 1", "Moment 2")
TIPS = (
    "Sum over the emission range, continuum included: the image used for detection and S/N",
    "Integral over the emission range without continuum; voxels that contain only noise are left out",
    "Mean velocity, weighted with the intensity",
    "Velocity dispersion (σ)",
)
VELOCITIES = MOMENTS[1:]
COLOUR_MAPS = dict(zip(IMAGES, ("inferno", "inferno", "CET-D1A", "viridis"), strict=True))
IMAGE_SHARE = 0.55  # of the width, maximum for the image next to a cut
MASKS = (0, 2, 3, 4, 5)  # choices of the threshold for moments, in multiples of the noise


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of a candidate: values with unit, and ``origin``, the pixel (y, x) of the cube at its [0, 0]."""

    name: str
    values: u.Quantity
    origin: tuple[int, int]


class FocusView(QWidget):
    """Image with the candidate's box, beam, compass and scale bar; contours, SNR geometry and a cut on demand."""

    def __init__(self, session: Session, choice: SpectralChoice, cutouts: Cutouts, colours: Colours):
        super().__init__()
        self.session, self.choice, self.cutouts = session, choice, cutouts
        self.picture: Picture | None = None
        self.cut: Cut | None = None  # through the cube, in pixels
        self._cut_channels = (0, 0)
        self._laid_across: Box | None = None  # the box that the cut was first placed across
        self._build_bar()
        self._build_plot()
        self.comparison = Comparison(self.plot, NO_DATA)
        self._build_cut()
        self._plots = plots = QHBoxLayout()
        plots.setSpacing(2)
        plots.addWidget(self.plot, 1)
        plots.addWidget(self.comparison, 2)
        plots.addWidget(self.cut_plot, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(self._bar)
        layout.addLayout(plots, 1)
        self.paint(colours)
        choice.changed.connect(self._draw)
        cutouts.ready.connect(self._draw)
        session.edited.connect(self._edited)
        session.selection_changed.connect(self._selected)
        self._selected()

    def _build_bar(self) -> None:
        self.image_choice = QComboBox()
        for name, tip in zip(IMAGES, TIPS, strict=True):
            self.image_choice.addItem(name)
            self.image_choice.setItemData(self.image_choice.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.image_choice.setMinimumContentsLength(8)
        self.image_choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.image_choice.currentIndexChanged.connect(self._draw)
        menu = QMenu(self)
        self.show_contours = _tick(menu, "Contours of the line-integrated image", "±3, 6, 12 … times its noise")
        self.show_radii = _tick(menu, "Circle and annulus", "Where the global S/N measures source and noise")
        self.show_cut = _tick(menu, "Position-velocity cut", "Along a line that you drag over the image")
        self.show_model = _tick(
            menu,
            "Model and residual",
            "The Gaussian fitted to the line-integrated image, or the emission in the mask, and the residual",
        )
        self.show_model.toggled.connect(self._model_toggled)
        for action in (self.show_contours, self.show_radii):
            action.toggled.connect(self._draw)
        self.show_cut.toggled.connect(self._cut_toggled)
        counted = existing(menu.addMenu("Voxels included in moments"))
        masks = QActionGroup(menu)
        for multiple in MASKS:
            action = masks.addAction(f"over {multiple} × rms" if multiple else "all")
            action.setCheckable(True)
            action.setChecked(multiple == 3)
            action.setData(multiple)
            counted.addAction(action)
        masks.triggered.connect(self._mask_chosen)
        self.masks = masks
        self._least_snr = 3
        view = menu_button("View", "Overlays on the image, and the voxels included in moments", menu)
        send = QMenu(self)
        self.send_image = existing(send.addAction("This image"))
        self.send_image.triggered.connect(self._send_image)
        self.send_cut = existing(send.addAction("The position-velocity cut"))
        self.send_cut.triggered.connect(self._send_cut)
        self.send_cut.setEnabled(False)
        self.send_button = menu_button("To viewer", "Add as a layer, at its position over the cube", send)
        self._bar = QHBoxLayout()
        self._bar.setSpacing(3)
        self._bar.addWidget(self.image_choice, 1)
        self._bar.addWidget(view)
        self._bar.addWidget(self.send_button)

    def _build_plot(self) -> None:
        self.plot = Plot()
        self.plot.hideAxis("left")
        self.plot.hideAxis("bottom")
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setAspectLocked(True)
        self.plot.getViewBox().setBackgroundColor(NO_DATA)
        self.image = pg.ImageItem(axisOrder="row-major")
        self.bar = _colour_bar(self.image, self.plot)
        self.box = pg.PlotCurveItem()
        self.radii = pg.PlotCurveItem(connect="finite")
        self.contours = pg.PlotCurveItem()
        self.negative_contours = pg.PlotCurveItem()
        self.beam = pg.PlotCurveItem(fillLevel="enclosed")
        self.marks = pg.PlotCurveItem(connect="pairs")
        self.names = [pg.TextItem(anchor=(0.5, 0.5)) for _ in range(3)]
        self.range_name = pg.TextItem(anchor=(0, 0))
        self.range_name.setParentItem(self.plot.getViewBox())  # in its corner, above the image
        self.range_name.setZValue(10)
        self.cut_line = pg.LineSegmentROI([(0, 0), (1, 1)])
        self.cut_line.sigRegionChanged.connect(self._draw_cut)
        self._overlays = (
            *(self.box, self.radii, self.contours, self.negative_contours, self.beam, self.marks),
            *self.names,
        )
        for item in (self.image, *self._overlays, self.cut_line):
            self.plot.addItem(item, ignoreBounds=True)

    def _build_cut(self) -> None:
        self.cut_plot = Plot()
        self.cut_plot.getPlotItem().getViewBox().setBackgroundColor(NO_DATA)
        self.cut_plot.setMouseEnabled(x=False, y=False)
        self.cut_image = pg.ImageItem(axisOrder="row-major")
        self.cut_bar = _colour_bar(self.cut_image, self.cut_plot)
        self.cut_plot.addItem(self.cut_image, ignoreBounds=True)
        self.cut_plot.hide()

    def paint(self, colours: Colours) -> None:
        """Apply the colours and fonts of a napari theme; marks on the image are always white."""
        for plot in (self.plot, self.cut_plot):
            plot.dress(colours)
        self.comparison.paint(colours)
        for item, width in ((self.marks, 1.5), (self.beam, 1), (self.radii, 1), (self.contours, 1)):
            item.setPen(pg.mkPen("white", width=width))
        self.negative_contours.setPen(pg.mkPen("white", width=1, style=Qt.PenStyle.DashLine))
        self.radii.setPen(pg.mkPen("#7fe0ff", width=1.5, style=Qt.PenStyle.DotLine))
        self.beam.setBrush(pg.mkBrush("#ffffff70"))
        self.cut_line.setPen(pg.mkPen("#7fff9f", width=2))
        for name in (*self.names, self.range_name):
            name.setColor("white")

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Make the image square if the cut next to it has enough room."""
        super().resizeEvent(event)
        self._share_room()

    def _share_room(self) -> None:
        beside = self.plot.width() - self.plot.getViewBox().width()  # its colour bar
        square = self.plot.height() + round(beside)
        models = self.show_model.isChecked()
        even = round((self.width() - beside) / 3 + beside)  # three images of one size, one with colour bar
        share = even if models else min(square, round(IMAGE_SHARE * self.width()))
        for place, width in enumerate((share, self.width() - share, self.width() - share)):
            self._plots.setStretch(place, max(1, width))

    # -- listening --------------------------------------------------------------------

    def _selected(self, *_: object) -> None:
        """Place the cut across the candidate if it or its box is new, then draw."""
        candidate = self.session.subject
        if candidate is not None:
            self._laid_across = candidate.box
            (x, y), reach = candidate.position, max(candidate.box.shape)
            with QSignalBlocker(self.cut_line):
                self.cut_line.setPos((0, 0))
                for handle, place in zip(self.cut_line.getHandles(), ((x - reach, y), (x + reach, y)), strict=True):
                    self.cut_line.movePoint(handle, place, coords="parent")
        self._draw()

    def _edited(self, candidates: list[Candidate]) -> None:
        selected = self.session.subject
        if selected is not None and any(candidate is selected for candidate in candidates):
            self._selected() if selected.box != self._laid_across else self._draw()

    def _mask_chosen(self, action: QAction) -> None:
        self._least_snr = action.data()
        self._draw()

    def _model_toggled(self, on: bool) -> None:
        if on:
            self.show_cut.setChecked(False)  # there is no room for both
        self.comparison.setVisible(on)
        self._share_room()
        self._draw()

    def _cut_toggled(self, on: bool) -> None:
        if on:
            self.show_model.setChecked(False)
        self.cut_plot.setVisible(on)
        self._share_room()
        self._draw()

    # -- drawing ----------------------------------------------------------------------

    def _draw(self, *_: object) -> None:
        for plot in (self.plot, self.cut_plot):
            plot.begin()
        candidate = self.session.subject
        if candidate is not None and candidate is self.session.probe and candidate.focused is None:
            self._focus_on(candidate)
        shown = candidate is not None and candidate.focused is not None
        self.picture = self._picture(candidate) if candidate is not None and shown else None
        for item in (self.image, self.range_name, *self._overlays):
            item.setVisible(self.picture is not None)
        self.bar.setVisible(self.picture is not None)
        self.cut_line.setVisible(shown and self.show_cut.isChecked())
        self.send_button.setEnabled(self.picture is not None)
        if candidate is None or self.picture is None:
            return
        cube = existing(self.choice.cube)
        values, (y0, x0) = self.picture.values.value, self.picture.origin
        ny, nx = values.shape
        self.image.setImage(values, autoLevels=False)
        self.image.setRect(x0 - 0.5, y0 - 0.5, nx, ny)
        levels = _levels(values[self._box_in_picture(candidate)] if self.picture.name in VELOCITIES else values)
        _show_colours(self.bar, COLOUR_MAPS[self.picture.name], levels, self.picture.values.unit)
        self.plot.setRange(xRange=(x0 - 0.5, x0 + nx - 0.5), yRange=(y0 - 0.5, y0 + ny - 0.5), padding=0)
        self.range_name.setText(f"channels {candidate.channels[0]}–{candidate.channels[1] - 1}")

        box = candidate.box
        self.box.setPen(pg.mkPen(STATUS_COLOURS[candidate.status], width=1.5))
        self.box.setData(
            np.array([box.x0, box.x1, box.x1, box.x0, box.x0]) - 0.5,
            np.array([box.y0, box.y0, box.y1, box.y1, box.y0]) - 0.5,
        )
        self._draw_radii(candidate)
        self._draw_contours(candidate)
        self._draw_beam(cube, candidate, np.array([x0 + 0.12 * nx, y0 + 0.12 * ny]))
        self._draw_marks(cube, candidate, np.array([x0, y0]), np.array([nx, ny]))
        self._draw_cut()
        self._draw_model(candidate)
        for plot in (self.plot, self.cut_plot):
            plot.scene().prepareForPaint()  # else pyqtgraph does this while painting, and paints twice

    def _focus_on(self, probe: Candidate) -> None:
        """Sum a region over its channels, once its part of the cube has been read."""
        cutout = self.cutouts.about(probe)
        if cutout is not None:
            probe.focused, probe.focus_origin = focus(cutout.planes, probe.channels), cutout.origin

    def _picture(self, candidate: Candidate) -> Picture | None:
        """The chosen image; None while the cube is being read."""
        name, cube = self.image_choice.currentText(), existing(self.choice.cube)
        brightness = brightness_unit(cube)
        if name == FOCUSED:
            found = self._summed(candidate)
            if found is None:
                return None
            summed = found[0] * brightness * channel_width(cube, mid_channel(candidate))
            shown = self.choice.display.of_brightness(summed, cube, mid_channel(candidate))
            return Picture(name, shown, found[1])
        cutout, axis = self.cutouts.about(candidate), self._velocity()
        if cutout is None:
            return None
        order = MOMENTS.index(name)
        values = line_moments(candidate, cutout, axis, self._least_snr)[order]
        if order:
            return Picture(name, values * axis.unit, cutout.origin)
        summed = values * brightness * axis.unit
        shown = self.choice.display.of_brightness(summed, cube, mid_channel(candidate))
        return Picture(name, shown, cutout.origin)

    def _summed(self, candidate: Candidate) -> tuple[np.ndarray, tuple[int, int]] | None:
        """The line-integrated image and its first pixel (y, x); None while the cube is being read for it.

        The search keeps a square of a fixed size, in which a large source has no room: that is summed again.
        """
        kept, (y0, x0), box = existing(candidate.focused), candidate.focus_origin, candidate.box
        ny, nx = kept.shape
        if y0 <= box.y0 and box.y1 <= y0 + ny and x0 <= box.x0 and box.x1 <= x0 + nx:
            return kept, (y0, x0)
        cutout = self.cutouts.about(candidate)
        return None if cutout is None else (focus(cutout.planes, candidate.channels), cutout.origin)

    def _box_in_picture(self, candidate: Candidate) -> tuple[slice, slice]:
        """The part of the image in the box: outside it, pixels of noise have arbitrary velocities."""
        (y0, x0), box = existing(self.picture).origin, candidate.box
        return slice(max(box.y0 - y0, 0), box.y1 - y0), slice(max(box.x0 - x0, 0), box.x1 - x0)

    def _velocity(self) -> SpectralAxis:
        """The spectral axis of moments and cuts: velocity if known, else frequency or channel."""
        return self.choice.velocity or existing(self.choice.axis)

    def _draw_radii(self, candidate: Candidate) -> None:
        self.radii.setVisible(self.show_radii.isChecked())
        turn = np.append(np.linspace(0, 2 * np.pi, 73), np.nan)
        (y, x), radii = candidate.box.centre, np.array(source_radii(candidate.box))[:, None]
        self.radii.setData((x + radii * np.cos(turn)).ravel(), (y + radii * np.sin(turn)).ravel())

    def _draw_contours(self, candidate: Candidate) -> None:
        found = self._summed(candidate)
        if found is None:
            return
        image, (y0, x0) = found
        sigma = focused_noise(image, candidate.rms, candidate.channels)
        levels = contour_levels(image, sigma) if self.show_contours.isChecked() else np.empty(0)
        for item, wanted in ((self.contours, levels[levels > 0]), (self.negative_contours, levels[levels < 0])):
            outlines = [outline for level in wanted for outline in find_contours(image, level * sigma)]
            item.setVisible(bool(outlines))
            if outlines:
                y, x = np.concatenate(outlines).T
                joined = np.ones(len(x), dtype=np.uint8)
                joined[np.cumsum([len(outline) for outline in outlines]) - 1] = 0
                item.setData(x + x0, y + y0, connect=joined)

    def _draw_beam(self, cube: Cube, candidate: Candidate, centre: np.ndarray) -> None:
        outline = beam_outline(cube, *candidate.position)
        self.beam.setVisible(outline is not None)
        if outline is not None:
            self.beam.setData(*(centre + outline).T)

    def _draw_marks(self, cube: Cube, candidate: Candidate, origin: np.ndarray, size: np.ndarray) -> None:
        """North and East at the upper right, a scale bar at the lower right."""
        vectors = sky_vectors(cube, *candidate.position)
        lines, texts = [], []
        if vectors is not None:
            corner = origin + size * (0.92, 0.73)
            for vector, word in zip(vectors, "NE", strict=True):
                direction = vector / np.linalg.norm(vector)
                tip = corner + 0.08 * size * direction
                lines += [corner, tip]
                texts.append((word, tip, (0.5 - 0.5 * direction[0], 0.5 + 0.5 * direction[1])))  # outside the tip
            scale = np.linalg.norm(np.linalg.solve(np.stack(vectors, axis=1), (1, 0)))  # arcsec per pixel along x
            longest = 0.3 * size[0] * scale
            length = max((s for s in SCALE_LENGTHS if s <= longest), default=longest)
            word, pixels = f"{length:g}″", length / scale
        else:
            word, pixels = "10 px", 10
        end = origin + size * (0.95, 0.06)
        lines += [end, end - np.array([pixels, 0])]
        texts.append((word, end - np.array([pixels / 2, 0]), (0.5, 1)))  # on the bar
        self.marks.setData(*np.array(lines).T)
        for item, (word, place, anchor) in zip(self.names, [*texts, *[("", origin, (0, 0))] * 3], strict=False):
            item.setText(word)
            item.setAnchor(anchor)
            item.setPos(*place)

    # -- the cut ----------------------------------------------------------------------

    def _draw_cut(self, *_: object) -> None:
        """Cut the cube along the line, over the emission range and the same number of channels on each side."""
        candidate = self.session.subject
        self.cut = None
        wanted = candidate is not None and self.show_cut.isChecked() and self.picture is not None
        cutout = self.cutouts.about(existing(candidate)) if wanted else None
        self.cut_image.setVisible(cutout is not None)
        self.send_cut.setEnabled(cutout is not None)
        if cutout is None:
            return
        first, last = existing(candidate).channels
        first, last = self._cut_channels = max(0, 2 * first - last), min(len(cutout.planes), 2 * last - first)
        y0, x0 = cutout.origin
        start, end = ((p.x(), p.y()) for p in map(self.cut_line.mapToParent, self.cut_line.listPoints()))
        here, there = ((x - x0, y - y0) for x, y in (start, end))
        local = cut_along(cutout.planes[first:last], here, there)
        self.cut = Cut(local.values, start, end)

        axis, cube = self._velocity(), existing(self.choice.cube)
        edges, values = axis.edges[first : last + 1], self.cut.values
        values = values if edges[0] < edges[-1] else values[::-1]
        if cube.celestial is not None:
            ends = existing(cube.sky(*start)), existing(cube.sky(*end))
            length, unit = ends[0].separation(ends[1]).to_value("arcsec"), "arcsec"
        else:
            length, unit = np.hypot(*np.subtract(end, start)), "pixel"
        half = length / 2 * values.shape[1] / (values.shape[1] - 1)  # the first and last sample are pixels, too
        channel = np.arange(first, last) if edges[0] < edges[-1] else np.arange(first, last)[::-1]
        shown = self.choice.display.of_brightness(values * brightness_unit(cube), cube, channel[:, None])
        self.cut_image.setImage(shown.value, autoLevels=False)
        self.cut_image.setRect(-half, edges.min(), 2 * half, np.ptp(edges))
        _show_colours(self.cut_bar, "inferno", _levels(shown.value), shown.unit)
        self.cut_plot.setRange(xRange=(-half, half), yRange=(edges.min(), edges.max()), padding=0)
        self.cut_plot.name("bottom", f"Offset ({unit})")
        self.cut_plot.name("left", replace(axis, frame="").label, axis.choice)  # no room for more

    # -- the model --------------------------------------------------------------------

    def _draw_model(self, candidate: Candidate) -> None:
        """The model of the line-integrated image and the residual, on the scale of that image."""
        if not self.show_model.isChecked():
            return
        cutout = self.cutouts.about(candidate)
        if cutout is None:
            return
        cube, channel = existing(self.choice.cube), mid_channel(candidate)
        scale = brightness_unit(cube) * channel_width(cube, channel)
        image = focus(cutout.planes, candidate.channels)
        made = model_of(candidate, cutout, cube)
        shown = self.choice.display.of_brightness(image * scale, cube, channel)
        model = None
        if made is not None:
            model = self.choice.display.converted(made.image * scale, cube, channel).to_value(shown.unit)
        words = "no Gaussian fits" if made is None else made.words
        levels = self.image.levels if existing(self.picture).name == FOCUSED else _levels(shown.value)
        self.comparison.show_model(shown.value, model, words, cutout.origin, tuple(levels), COLOUR_MAPS[FOCUSED])

    # -- to the viewer ----------------------------------------------------------------

    def _send_image(self) -> None:
        picture, cube_layer = existing(self.picture), existing(self.session.image)
        name = f"{cube_layer.name} {self._called()} {picture.name.lower()}"
        layer = picture_layer(picture, cube_layer, name=name, limits=self.image.levels)
        self._send(layer, COLOUR_MAPS[picture.name])

    def _send_cut(self) -> None:
        cube_layer = existing(self.session.image)
        name = f"{cube_layer.name} {self._called()} cut"
        layer = cut_layer(existing(self.cut), self._cut_channels[0], cube_layer, name=name)
        self._send(layer, "inferno")

    def _called(self) -> str:
        return "region" if self.session.selected is None else str(self.session.selected.id)

    def _send(self, layer: Image, colour_map: str) -> None:
        from napari.utils.colormaps import Colormap

        lut = pg.colormap.get(colour_map).getLookupTable(nPts=256, alpha=True, mode="float")
        layer.colormap = Colormap(lut, name=colour_map)
        self.session.viewer.add_layer(layer)


def picture_layer(picture: Picture, image: Image, name: str, limits: tuple[float, float]) -> Image:
    """An image as a layer at its position on the cube's layer ``image``."""
    plane = sky_plane(image)
    origin = np.array(plane["translate"]) + np.array(plane["scale"]) * picture.origin
    return Image(
        picture.values.value,
        name=name,
        **{**plane, "translate": origin},
        contrast_limits=tuple(limits),
        metadata={"unit": picture.values.unit.to_string()},
    )


def cut_layer(cut: Cut, first: int, image: Image, name: str) -> Image:
    """A cut that starts at channel ``first``, as a layer (channel, 1, sample) at its position in the cube's layer.

    In 2-D it appears as a line in the current channel, in 3-D as a plane.
    """
    (x0, y0), (x1, y1) = cut.start, cut.end
    dx, dy = (x1 - x0) / (cut.values.shape[1] - 1), (y1 - y0) / (cut.values.shape[1] - 1)
    length = np.hypot(dx, dy) or 1.0
    corner = np.array([first, y0, x0])
    steps = np.array([(1, 0, 0), (0, dx / length, -dy / length), (0, dy, dx)])  # of (channel, across, along)
    origin = np.array(image.data_to_world(corner))
    affine = np.eye(4)
    affine[:3, 3] = origin
    affine[:3, :3] = np.stack([np.array(image.data_to_world(corner + step)) - origin for step in steps], axis=1)
    return Image(
        cut.values[:, None, :],
        name=name,
        affine=affine,
        units=image.units,
        axis_labels=image.axis_labels,
        contrast_limits=_levels(cut.values),
        metadata={"cut": True},  # not to be searched for sources
    )


def _levels(image: np.ndarray) -> tuple[float, float]:
    finite = image[np.isfinite(image)]
    if finite.size == 0 or np.ptp(finite) == 0:
        return 0.0, 1.0
    return float(np.percentile(finite, 1)), float(finite.max())


def _colour_bar(image: pg.ImageItem, plot: Plot) -> pg.ColorBarItem:
    bar = pg.ColorBarItem(interactive=False, width=10, colorMap="inferno")
    bar.setImageItem(image, insert_in=plot.getPlotItem())
    bar.axis.enableAutoSIPrefix(False)
    bar.axis.setWidth(None)  # fit to the numbers: at pyqtgraph's default width four digits overlap the unit
    return bar


def _show_colours(bar: pg.ColorBarItem, name: str, levels: tuple[float, float], unit: u.UnitBase) -> None:
    bar.setColorMap(pg.colormap.get(name))
    bar.setLevels(levels)
    bar.axis.setLabel(unit_text(unit))


def _tick(menu: QMenu, text: str, tip: str) -> QAction:
    action = existing(menu.addAction(text))
    action.setCheckable(True)
    action.setToolTip(tip)
    menu.setToolTipsVisible(True)
    return action
