"""Coordinates under the pointer (position, frequency, velocity, value), and positions as text to copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from qtpy.QtCore import Qt
from qtpy.QtGui import QCursor, QResizeEvent
from qtpy.QtWidgets import QApplication, QLineEdit, QMenu

from napari_almadet.catalogue.detections import brightness_unit
from napari_almadet.inspection.describe import unit_text, velocity_text
from napari_almadet.plugin.box_layer import CLICK_SLOP, weak
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import voxels
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord


RIGHT_BUTTON = 2  # number of the right mouse button in napari's events
SEPARATOR = "  "  # between the parts of the read-out
MARGINS = 8  # pixels, margins around the text of a line edit
HINT = "Point at the cube to read its coordinates; right-click to copy a position."


@dataclass(frozen=True)
class Place:
    """A voxel of the cube under the pointer: fractional pixel x, y, and the channel."""

    x: float
    y: float
    channel: int


def place_at(session: Session, position: tuple[float, ...]) -> Place | None:
    """Position in the session's cube for a position on the canvas; None outside the cube and in 3-D."""
    dims = session.viewer.dims
    if session.image is None or dims.ndisplay == 3:
        return None
    # The sliders give the right channel even before the pointer moves again.
    world = [position[axis] if axis in dims.displayed else dims.point[axis] for axis in range(dims.ndim)]
    data = np.array(session.image.world_to_data(world))[-3:]
    channel, row, column = np.round(data)
    n_channels, ny, nx = voxels(session.image).shape
    if not (0 <= channel < n_channels and 0 <= row < ny and 0 <= column < nx):
        return None
    return Place(float(data[2]), float(data[1]), int(channel))


def position_texts(sky: SkyCoord, pixel_scale: u.Quantity) -> tuple[str, str]:
    """ICRS right ascension and declination: sexagesimal and in degrees, to an eighth of a pixel or finer."""
    icrs = sky.icrs
    digits = max(0, int(np.ceil(np.log10(8 / pixel_scale.to_value(u.arcsec)))))
    ra = icrs.ra.to_string(unit="hourangle", sep=":", precision=digits + 1, pad=True)
    dec = icrs.dec.to_string(unit="deg", sep=":", precision=digits, pad=True, alwayssign=True)
    return f"{ra} {dec}", f"{icrs.ra.deg:.{digits + 4}f} {icrs.dec.deg:+.{digits + 4}f}"


def describe_place(session: Session, choice: SpectralChoice, place: Place) -> str:
    """The read-out: position, value with unit, frequency and velocity with their frame, pixel and channel."""
    cube, parts = choice.cube, []
    if cube is not None and (sky := cube.sky(place.x, place.y)) is not None and _known(sky):
        parts.append(position_texts(sky, cube.pixel_scale)[0])
    parts.append(_value_text(session, choice, place))
    if choice.frequency is not None:
        parts.append(f"{float(choice.frequency.world(place.channel)):.5f} GHz")
    if choice.velocity is not None:
        parts.append(velocity_text(choice.velocity, place.channel))
    elif choice.frequency is not None and choice.frequency.frame:
        parts[-1] += f", {choice.frequency.frame}"
    parts.append(f"x {place.x:.1f} y {place.y:.1f} chan. {place.channel}")
    return SEPARATOR.join(parts)


def _value_text(session: Session, choice: SpectralChoice, place: Place) -> str:
    value = float(np.asarray(voxels(session.image)[place.channel, round(place.y), round(place.x)]))
    if not np.isfinite(value):
        return "no data"
    cube = choice.cube
    if cube is None:
        return f"{value:.4g}"
    shown = choice.display.of_brightness(value * brightness_unit(cube), cube, place.channel)
    return f"{shown.value:.4g} {unit_text(shown.unit)}".rstrip()


def _known(sky: SkyCoord) -> bool:
    """Whether a pixel is on the sky; pixels outside the edge of an all-sky map are not."""
    return bool(np.isfinite(sky.spherical.lon) and np.isfinite(sky.spherical.lat))


class Readout(QLineEdit):
    """A line with the coordinates under the pointer, and menus that copy a position."""

    def __init__(self, session: Session, choice: SpectralChoice):
        super().__init__(HINT)
        self.session, self.choice = session, choice
        self._place: Place | None = None  # that the line describes
        self._words = HINT
        self._pointed = False  # False until the mouse moves: until then napari's cursor position is meaningless
        self.setReadOnly(True)
        self.setFrame(False)
        viewer = session.viewer
        viewer.cursor.events.position.connect(self._pointer_moved)
        viewer.dims.events.current_step.connect(self._moved)
        viewer.mouse_drag_callbacks.append(weak(self._pressed))
        choice.changed.connect(self._tell)

    def _pointer_moved(self, *_: object) -> None:
        self._pointed = self._pointed or self.session.viewer.mouse_over_canvas
        self._moved()

    def _moved(self, *_: object) -> None:
        if self._pointed and place_at(self.session, self.session.viewer.cursor.position) != self._place:
            self._tell()  # not at each of napari's four events for one step of a slider

    def _tell(self, *_: object) -> None:
        place = place_at(self.session, self.session.viewer.cursor.position) if self._pointed else None
        self._place = place
        self._words = HINT if place is None else describe_place(self.session, self.choice, place)
        self.setToolTip("" if place is None else self._words)
        self._fit()

    def _fit(self) -> None:
        """Leave out the last parts if there is no room for them, because a truncated number would be wrong."""
        parts = self._words.split(SEPARATOR)
        room, letters = self.width() - MARGINS, self.fontMetrics()
        while len(parts) > 1 and letters.horizontalAdvance(SEPARATOR.join(parts)) > room:
            parts.pop()
        self.setText(SEPARATOR.join(parts))
        self.setCursorPosition(0)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Show as many parts as there is room for."""
        super().resizeEvent(event)
        self._fit()

    def offer_copies(self, x: float, y: float) -> None:
        """Open a menu at the pointer with the ways to copy a pixel's position."""
        menu = QMenu(self)
        menu.setObjectName("position")
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        cube = self.choice.cube
        sky = cube.sky(x, y) if cube is not None else None
        texts: tuple[str, ...] = ()
        if cube is not None and sky is not None and _known(sky):
            texts = position_texts(sky, cube.pixel_scale)
        for text in (*texts, f"{x:.2f} {y:.2f}"):
            what = "pixel x y" if text not in texts else "ICRS" if ":" in text else "ICRS, degrees"
            action = existing(menu.addAction(f"Copy  {text}  ({what})"))
            action.triggered.connect(lambda _=False, text=text: existing(QApplication.clipboard()).setText(text))
        menu.popup(QCursor.pos())

    def _pressed(self, viewer: Any, event: Any) -> Iterator[None]:
        """A right click (not a drag, which zooms) on the cube offers its position."""
        if event.button != RIGHT_BUTTON:
            return
        pressed = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - pressed).max() > CLICK_SLOP:
                return
            yield
        place = place_at(self.session, event.position)
        if place is not None:
            self.offer_copies(place.x, place.y)
