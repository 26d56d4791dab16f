"""The menu "Canvas": axes, beam, scale bar, colour bar, channel label, contours, and the matching of channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from napari.components.overlays import TextOverlay
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer
from qtpy.QtGui import QAction, QActionGroup
from qtpy.QtWidgets import QMenu

from napari_almadet.catalogue.detections import brightness_unit
from napari_almadet.inspection.canvas_marks import apart, contours_of, graticule
from napari_almadet.inspection.describe import unit_text, velocity_text
from napari_almadet.inspection.geometry import beam_outline
from napari_almadet.inspection.placement import Match
from napari_almadet.plugin.box_layer import LINE
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import sky_plane, voxels
from napari_almadet.plugin.mask_layer import Outline
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice

MATCHES = {
    None: "automatic",
    Match.VELOCITY: "by velocity",
    Match.FREQUENCY: "by frequency",
    Match.CHANNEL: "by number",
}
MARKS = 0.6  # width of marks, as a fraction of the line width of a box
PALE = "#ffffff90"
CONTOURS = "#7fffd0"
UNIT = "almadet unit"  # name of the colour bar's unit among napari's overlays
LETTERS = 8  # points of what is written over the canvas
NAME_SIZE = 8  # points of the names of coordinates
LETTER = 15.0, 8.5  # pixels of the screen that a letter of them takes, in height and width; chosen by eye
ZOOMED_MS = 60  # after the last step of a zoom


class CanvasMenu(QMenu):
    """Switches for what is drawn over the cube; each adds napari layers or overlays."""

    def __init__(self, session: Session, choice: SpectralChoice):
        super().__init__()
        self.session, self.choice, self.viewer = session, choice, session.viewer
        self._made: dict[str, list[Layer]] = {}  # the layers of each switch
        self.setToolTipsVisible(True)
        self.scale_bar = self._switch("Scale bar", "napari's scale bar, in arcsec", self._show_scale_bar)
        self.colour_bar = self._switch(
            "Colour bar",
            "napari's colour bar of the cube, with its unit; ticks are in the unit of the file",
            self._show_bar,
        )
        self.words = self._switch("Channel, frequency and velocity", "Of the channel on screen", self._show_words)
        self.beam = self._switch("Beam", "At the lower left of the field", partial(self._show, "beam"))
        self.axes = self._switch(
            "Coordinate grid", "Right ascension and declination, from the WCS", partial(self._show, "axes")
        )
        self.addSeparator()
        self.outlines = existing(self.addMenu("Draw candidates as"))
        self.outlines.setToolTip("Boxes, the outlines of their masks in the channel on screen, or both")
        shapes = QActionGroup(self)
        for outline in Outline:
            action = shapes.addAction(outline.value)
            action.setCheckable(True)
            action.setChecked(outline is session.masks.outline)
            action.triggered.connect(partial(self._outline, outline))
            self.outlines.addAction(action)
        self.contours = existing(self.addMenu("Contours of"))
        self.contours.setToolTip("±3, 6, 12 … times the image's noise; of a cube, of its plane on screen")
        self.matching = existing(self.addMenu("Match channels of several cubes"))
        group = QActionGroup(self)
        for by, words in MATCHES.items():
            action = group.addAction(words)
            action.setCheckable(True)
            action.setChecked(by is session.places.by)
            action.triggered.connect(partial(self._match, by))
            self.matching.addAction(action)
        self.aboutToShow.connect(self.fill)
        self._barred: Image | None = None  # whose colour bar is shown
        self._zoomed = QTimer(self)
        self._zoomed.setSingleShot(True)
        self._zoomed.timeout.connect(self._thin_names)
        self.viewer.scene.camera.events.zoom.connect(self._zooming)
        session.image_changed.connect(self._redraw)
        session.channel_changed.connect(self._write_words)
        choice.changed.connect(self._write_words)

    def _switch(self, text: str, tip: str, toggled: Callable[[bool], None]) -> QAction:
        action = existing(self.addAction(text))
        action.setCheckable(True)
        action.setToolTip(tip)
        action.toggled.connect(toggled)
        return action

    def fill(self) -> None:
        """List the images that contours can be drawn of."""
        self.contours.clear()
        images = [x for x in self.viewer.layers if isinstance(x, Image) and not isinstance(x, Labels) and not x.rgb]
        for image in images:
            self.contours.addAction(image.name, partial(self.draw_contours, image))
        self.contours.setEnabled(bool(images))
        cube = self.choice.cube
        self.beam.setEnabled(cube is not None and cube.beam is not None)
        self.axes.setEnabled(cube is not None and cube.celestial is not None)
        self.matching.setEnabled(len(self.session.places.cubes()) > 1)

    def _outline(self, outline: Outline, *_: object) -> None:
        self.session.masks.outline = outline

    def _match(self, by: Match | None, *_: object) -> None:
        self.session.places.by = by

    # -- overlays ---------------------------------------------------------------------

    def _show_scale_bar(self, on: bool) -> None:
        self.viewer.canvas.overlays.scale_bar.visible = on

    def _show_bar(self, on: bool) -> None:
        """Show the colour bar of the present cube, with its unit beside it, or take it away."""
        overlays, image = self.viewer.canvas.overlays, self.session.image if on else None
        if self._barred is not None and self._barred is not image:
            self._barred.colorbar.visible = False
        self._barred = image
        if UNIT not in overlays:
            overlays[UNIT] = TextOverlay(position="top_right", font_size=LETTERS)
        overlays[UNIT].visible = image is not None
        if image is not None:
            image.colorbar.font_size = LETTERS
            image.colorbar.visible = True
            cube = self.choice.cube
            overlays[UNIT].text = "" if cube is None else unit_text(brightness_unit(cube))

    def _show_words(self, on: bool) -> None:
        overlay = self.viewer.canvas.overlays.text
        if on:  # beside napari's own messages at the lower right, and the colour bar
            overlay.position, overlay.font_size = "top_left", LETTERS
        overlay.visible = on
        self._write_words()

    def _write_words(self, *_: object) -> None:
        """Write the frequency and velocity of the channel on screen."""
        channel = self.session.channel
        if not self.words.isChecked() or channel is None:
            return
        parts = [f"channel {channel}"]
        if self.choice.frequency is not None:
            parts.append(f"{float(self.choice.frequency.world(channel)):.5f} GHz")
        if self.choice.velocity is not None:
            parts.append(velocity_text(self.choice.velocity, channel))
        self.viewer.canvas.overlays.text.text = "\n".join(parts)

    # -- layers -----------------------------------------------------------------------

    def _redraw(self, *_: object) -> None:
        """Draw colour bar, beam and grid again after a change of cube."""
        if self.colour_bar.isChecked():
            self._show_bar(True)
        for name, action in (("beam", self.beam), ("axes", self.axes)):
            if action.isChecked():
                self._show(name, True)
        self._write_words()

    def _show(self, name: str, on: bool) -> None:
        for layer in self._made.pop(name, []):
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        if on and self.session.image is not None:
            made = self._beam_layers() if name == "beam" else self._axes_layers()
            self._made[name] = [self._add(layer) for layer in made]

    def _add(self, layer: Layer) -> Layer:
        """Add a layer; the user's active layer stays active."""
        active = self.viewer.layers.selection.active
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = active
        return layer

    def _beam_layers(self) -> list[Layer]:
        cube, image = existing(self.choice.cube), existing(self.session.image)
        ny, nx = cube.shape[1:]
        outline = beam_outline(cube, nx / 2, ny / 2)
        if outline is None:
            return []
        reach = np.abs(outline).max(axis=0)
        corner = reach + 0.03 * np.array([nx, ny])
        return [self._paths(f"{image.name} beam", [(corner + outline)[:, ::-1]], "polygon", PALE, "white")]

    def _axes_layers(self) -> list[Layer]:
        image, grid = existing(self.session.image), graticule(existing(self.choice.cube))
        if grid is None:
            return []
        names = Points(
            grid.places,
            name=f"{image.name} coordinates",
            size=0.1,
            **sky_plane(image),
            features={"name": grid.names},
            text={"string": "{name}", "size": NAME_SIZE, "color": "white", "anchor": "lower_left"},
            face_color="transparent",
            border_color="transparent",
            border_width=0,
        )
        names.shown = self._room(names)
        return [self._paths(f"{image.name} grid", grid.lines, "path", "transparent", PALE), names]

    def _zooming(self, *_: object) -> None:
        if self.axes.isChecked():
            self._zoomed.start(ZOOMED_MS)

    def _thin_names(self) -> None:
        """Leave out names of coordinates that would lie on each other at the present zoom."""
        for layer in self._made.get("axes", []):
            if isinstance(layer, Points) and layer in self.viewer.layers:
                shown = self._room(layer)
                if not np.array_equal(shown, layer.shown):
                    layer.shown = shown

    def _room(self, names: Points) -> np.ndarray:
        """Which names there is room for; their letters are as large at any zoom."""
        pixel = self.session.boxes.line_width() / LINE  # of the screen, in those of the cube
        return apart(np.asarray(names.data), list(names.features["name"]), (LETTER[0] * pixel, LETTER[1] * pixel))

    def draw_contours(self, image: Image) -> None:
        """Add contours of an image, or of the channel on screen of a cube, at their position on the sky."""
        if image.ndim == 2:
            plane, name = np.asarray(image.data, dtype=float), image.name
        else:
            cube, channel = voxels(image), image.world_to_data(self.viewer.dims.point)[-3]
            channel = int(np.clip(np.round(channel), 0, cube.shape[0] - 1))
            plane, name = np.asarray(cube[channel], dtype=float), f"{image.name} channel {channel}"
        paths, _ = contours_of(plane)
        if not paths:
            show_warning(f"{name} has nothing above 3 times its noise, so there are no contours to draw.")
            return
        self._add(self._paths(f"contours of {name}", paths, "path", "transparent", CONTOURS, image))

    def _paths(
        self, name: str, paths: list[np.ndarray], kind: str, face: str, edge: str, image: Image | None = None
    ) -> Shapes:
        """A layer of lines in the pixels of an image; default: of the current cube."""
        return Shapes(
            paths,
            shape_type=kind,
            name=name,
            **sky_plane(image or self.session.image),
            face_color=face,
            edge_color=edge,
            edge_width=self.session.boxes.line_width() * MARKS,
            metadata={"marks": MARKS},
        )
