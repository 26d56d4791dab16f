"""What the layers of boxes and masks ask of the session that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Image, Shapes
    from napari.viewer import Viewer
    from psygnal import SignalInstance

    from napari_almadet.catalogue.candidate import Box, Candidate, SourceMask
    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.catalogue.result_folder import Journal


class Boxes(Protocol):
    """What the masks ask of the layer of boxes."""

    layer: Shapes | None
    instead: bool

    def line_width(self) -> float:
        """Width of a box's line, in pixels of the cube."""

    def on_top(self) -> None:
        """Move the layer over all others."""


class Owner(Protocol):
    """The interface of the session that its layers use."""

    viewer: Viewer
    image: Image | None
    detections: Detections | None
    features: pd.DataFrame | None
    candidates: list[Candidate]
    chosen: list[Candidate]
    selected: Candidate | None
    channel: int | None
    journal: Journal | None
    colour_by: str
    edited: SignalInstance
    candidates_changed: SignalInstance
    chosen_changed: SignalInstance
    channel_changed: SignalInstance
    measuring_changed: SignalInstance

    @property
    def boxes(self) -> Boxes:
        """The layer of boxes."""

    def boxed(self) -> list[Candidate]:
        """All candidates with a box: those of the detections, and drawn ones that are still being measured."""

    def busy(self) -> set[int]:
        """Numbers of the candidates that are being measured."""

    def move(self, candidate: Candidate, box: Box) -> None:
        """The user moved a box."""

    def add(self, box: Box) -> Candidate | None:
        """The user drew a box; None where it lies outside the field."""

    def boxes_removed(self, candidates: list[Candidate]) -> None:
        """The user removed boxes."""

    def choose(self, candidates: Sequence[Candidate], selected: Candidate | None) -> None:
        """The user selected boxes."""

    def select(self, candidate: Candidate | None) -> None:
        """The user clicked on a box."""

    def measure(self, candidate: Candidate, work: Callable[..., Candidate], *args: Any, drawn: bool = False) -> None:
        """Measure a candidate in a thread."""

    def outlined(self, candidate: Candidate, detections: Detections, mask: SourceMask) -> Candidate:
        """A new candidate, measured in its mask."""

    def using(self, tool: str) -> None:
        """What the mouse does changed."""

    def undo(self, *_: object) -> None:
        """Revert the last change."""
