"""Play the channels of the selected candidate in a loop, as one blinks images to see what changes."""

from __future__ import annotations

import numpy as np
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.plugin.box_layer import weak
from napari_almadet.plugin.session import Session

FRAME_MS = 120  # ms that each channel is shown; chosen by eye
MOST = 60  # maximum number of frames; channels of wider ranges are skipped
BESIDE = 2  # channels before and after the emission range, without emission of the source


class Player:
    """Plays the channels of the selected candidate, until the user turns it off or moves the slider."""

    changed = Signal(bool)  # whether it plays

    def __init__(self, session: Session):
        self.session = session
        self._on = False
        self._setting = False
        self._frames: list[int] = []
        self._place = 0
        self._timer = QTimer()
        self._timer.timeout.connect(weak(self._next))
        session.selection_changed.connect(self._selected)
        session.channel_changed.connect(self._channel_changed)

    @property
    def on(self) -> bool:
        """Whether channels are played: those of the selected candidate, then of each one selected later."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on == self._on:
            return
        self._on = on
        if on:
            self._selected(self.session.subject)
        else:
            self._timer.stop()
        self.changed.emit(on)

    def _selected(self, candidate: Candidate | None) -> None:
        if not self._on:
            return
        self._frames = frames(candidate, self.session.n_channels) if candidate is not None else []
        self._place = 0
        if self._frames:
            self._timer.start(FRAME_MS)
        else:
            self._timer.stop()

    def _next(self) -> None:
        if self.session.image is None or not self._frames:
            self._timer.stop()
            return
        self._setting = True
        try:
            self.session.set_channel(self._frames[self._place % len(self._frames)])
        finally:
            self._setting = False
        self._place += 1

    def _channel_changed(self, channel: int | None) -> None:
        """The user moved the slider: stop, but play again when another candidate is selected."""
        if not self._setting and self._timer.isActive() and self._place:
            self._timer.stop()


def frames(candidate: Candidate, n_channels: int) -> list[int]:
    """Channels to play: the emission range and `BESIDE` on each side, at most `MOST`."""
    first, last = candidate.channels
    low, high = max(first - BESIDE, 0), min(last + BESIDE, n_channels)
    count = min(high - low, MOST)
    return np.unique(np.linspace(low, high - 1, max(count, 0)).round().astype(int)).tolist()
