"""The display settings of the cube on screen: interval, stretch, and whole cube or each channel."""

from __future__ import annotations

from dataclasses import replace

from napari.layers import Image
from napari.utils.notifications import show_warning
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QWidget

from napari_almadet.cube.cube import CubeError
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import cube_of
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.stretch import INTERVALS, STRETCHES, Display, limits, stretched

SCOPES = ("whole cube", "each channel")


class StretchBar(QWidget):
    """Sets contrast limits and colour map of the session's cube layer; one that the user picks is stretched."""

    def __init__(self, session: Session):
        super().__init__()
        self.session = session
        self.image: Image | None = None
        self._request: object = None  # the latest request
        self.interval = _choice(list(INTERVALS), "Contrast limits: which values are shown darkest and brightest")
        self.stretch = _choice(list(STRETCHES), "Stretch: how brightness maps to colour between the limits")
        self.scope = _choice(
            list(SCOPES),
            "Compute the limits from the whole cube, without its blank and noisy channels, or from each channel",
        )
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for box in (self.interval, self.stretch, self.scope):
            layout.addWidget(box)
            box.activated.connect(self._chosen)
        session.image_changed.connect(self._follow)
        session.channel_changed.connect(self._channel_changed)
        self._follow(session.image)

    def _follow(self, image: Image | None) -> None:
        """Switch to another layer, and show its settings."""
        if self.image is not None:
            self.image.events.colormap.disconnect(self._colours_changed)
        self.image = image
        self.setEnabled(image is not None)
        if image is not None:
            image.events.colormap.connect(self._colours_changed)
            self._show(Display.of(image))

    def _show(self, display: Display) -> None:
        for box, text in (
            (self.interval, display.interval),
            (self.stretch, display.stretch),
            (self.scope, SCOPES[display.per_channel]),
        ):
            with QSignalBlocker(box):
                box.setCurrentText(text)

    def _chosen(self, *_: object) -> None:
        image = existing(self.image)
        before = Display.of(image)
        display = replace(
            before,
            interval=self.interval.currentText(),
            stretch=self.stretch.currentText(),
            per_channel=self.scope.currentText() == SCOPES[1],
            colours=before.colours or image.colormap,
        )
        image.metadata["display"] = display
        if display.stretch != before.stretch:
            self._colour(display)
        if (display.interval, display.per_channel) != (before.interval, before.per_channel):
            self._limit(display)

    def _colour(self, display: Display) -> None:
        image = existing(self.image)
        with image.events.colormap.blocker(self._colours_changed):
            plain = display.stretch == "linear"
            image.colormap = display.colours if plain else stretched(display.colours, display.stretch)

    def _colours_changed(self, event: object) -> None:
        """The user chose another colour map: stretch it."""
        image = existing(self.image)
        display = replace(Display.of(image), colours=image.colormap)
        image.metadata["display"] = display
        self._colour(display)

    def _channel_changed(self, channel: int | None) -> None:
        if self.image is not None and channel is not None and Display.of(self.image).per_channel:
            self._limit(Display.of(self.image))

    def _limit(self, display: Display) -> None:
        """Compute new limits: for a channel at once, for the whole cube, which may be large, in a thread."""
        self._request = request = object()
        try:
            cube = cube_of(self.image)
        except CubeError as error:
            show_warning(str(error))
            return
        if display.per_channel:
            self._apply(self.image, limits(cube, display.interval, self.session.channel))
            return

        def done(found: tuple[float, float] | None) -> None:
            if self._request is request:
                self._apply(image, found)

        image = self.image
        in_background(limits, cube, display.interval, done=done, failed=lambda error: show_warning(str(error)))

    def _apply(self, image: Image, found: tuple[float, float] | None) -> None:
        if found is not None:  # a blank channel keeps the limits of the last one
            low, high = image.contrast_limits_range
            image.contrast_limits_range = min(low, found[0]), max(high, found[1])
            image.contrast_limits = found


def _choice(names: list[str], tip: str) -> QComboBox:
    box = QComboBox()
    box.addItems(names)
    box.setToolTip(tip)
    return box
