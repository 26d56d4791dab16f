"""Which cube, which detections, which candidate, which channel: one object a viewer, to which every panel listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, WeakValueDictionary

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Shapes
from napari.utils.notifications import show_error
from psygnal import Signal

from napari_almadet.cube import Cube
from napari_almadet.pipeline.catalog import VERDICTS, Box, Candidate, Detections, Fate
from napari_almadet.plugin import layers
from napari_almadet.plugin.background import in_background

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_almadet.pipeline.detect import Networks
    from napari_almadet.pipeline.settings import Settings

CLICK_SLOP = 3  # pixels the mouse may move between press and release of a click

# Weak values: a session lives as long as a panel holds it, and no longer.
_sessions: WeakValueDictionary[int, Session] = WeakValueDictionary()


@dataclass(frozen=True)
class Change:
    """What :meth:`Session.undo` takes back: candidates, each with all it was; None if it was not there."""

    detections: Detections
    before: tuple[tuple[Candidate, dict[str, Any] | None], ...]


@lru_cache(maxsize=1)
def networks_of(settings: Settings) -> Networks:
    """The networks that settings name, loaded once."""
    from napari_almadet.pipeline.detect import load_networks

    return load_networks(settings)


class Session:
    """The state that the panels of one viewer share.

    The layers are the memory: a cube's layer carries its `Cube`, result layers the
    `Detections` they show (in ``metadata``).  Renaming, reordering and removing layers
    is therefore nothing special, and a panel that is closed and opened again finds all.

    Every setter compares with what is and returns if nothing changes, so that one click
    is one signal, however many listeners set the same value again.

    Attributes
    ----------
    image
        Layer of the cube under inspection, or None.
    detections
        What was found in it, or None if it was not searched.
    features
        Its candidates in columns, see :func:`~napari_almadet.plugin.layers.features`.
    candidates
        The candidates on show, in the order of the table.
    selected
        The candidate all panels show, or None.
    channel
        Channel under the slider (0-based), or None without a cube.
    networks
        Where the networks come from that re-measure a candidate: a function of the settings.

    Signals
    -------
    candidate_changed
        Anything about one candidate changed: verdict, note, box, emission range and what is
        measured in it.  The candidate is the same object as before.  Also when it was added
        or taken away; ``candidates_changed`` follows then.
    edited
        The same once for all candidates that one act of the user changed, as a list.
    """

    image_changed = Signal(object)
    detections_changed = Signal(object)
    candidates_changed = Signal(list)
    selection_changed = Signal(object)
    channel_changed = Signal(object)
    candidate_changed = Signal(object)
    edited = Signal(list)

    @classmethod
    def of(cls, viewer: Viewer) -> Session:
        """The session of a viewer: the one its panels share, or a new one."""
        # napari hands out proxies of the viewer; they hash as the viewer itself does.
        session = _sessions.get(hash(viewer))
        if session is None:
            session = _sessions[hash(viewer)] = cls(viewer)
        return session

    def __init__(self, viewer: Viewer):
        self.viewer = viewer
        self.image: Image | None = None
        self.detections: Detections | None = None
        self.candidates: list[Candidate] = []
        self.selected: Candidate | None = None
        self.channel: int | None = None
        self.features: pd.DataFrame | None = None
        self.networks: Callable[[Settings], Networks] = networks_of
        self._changes: list[Change] = []
        self._measuring: dict[int, object] = {}  # by id(): the latest request to measure each candidate
        self._order = ("id", False)
        self._show_dropped = False
        self._boxes: Shapes | None = None

        viewer.layers.events.removed.connect(self._layer_removed)
        viewer.layers.selection.events.active.connect(self._layer_activated)
        viewer.dims.events.current_step.connect(self._slider_moved)
        viewer.mouse_drag_callbacks.append(weak(self._mouse_pressed))
        # Shift+N rather than P for "previous": P draws a polygon where a Shapes layer is active.
        viewer.bind_key("N", weak(self.next), overwrite=True)
        viewer.bind_key("Shift-N", weak(self.previous), overwrite=True)

    # -- cubes and results ------------------------------------------------------------

    def cube_layers(self) -> list[Image]:
        """Layers a detection can run on: three-dimensional images that are neither RGB nor cut out of a cube."""
        images = [layer for layer in self.viewer.layers if isinstance(layer, Image) and layer.ndim == 3]
        return [image for image in images if not image.rgb and not image.metadata.get("cut")]

    def inspect(self, image: Image | None) -> None:
        """Turn all panels to a cube's layer, and to what was found in it earlier."""
        if image == self.image:
            return
        self.image = image
        if image is not None and isinstance(image.metadata.get("cube"), Cube):
            self.viewer.scene.camera.orientation2d = ("up", "right")  # North up, as the sky is drawn
        self.image_changed.emit(image)
        self._adopt()
        self._slider_moved()

    def present(self, image: Image, detections: Detections) -> None:
        """Show new detections in a cube's layer; earlier result layers of that cube give way to them."""
        image.metadata["cube"] = detections.cube
        for layer in self._results(detections.cube):
            self.viewer.layers.remove(layer)
        kept_rows = layers.features(detections, detections.kept)
        for data in (
            layers.probability_layer(detections, image),
            layers.boxes_layer(detections, detections.kept, kept_rows, image),
        ):
            self.viewer.add_layer(Layer.create(*data))
        if image == self.image:
            self._adopt()
        else:
            self.inspect(image)
        if self.candidates:
            self.select(self.candidates[0])

    @property
    def show_dropped(self) -> bool:
        """Whether dropped candidates are listed and drawn as well."""
        return self._show_dropped

    @show_dropped.setter
    def show_dropped(self, show: bool) -> None:
        if show != self._show_dropped:
            self._show_dropped = show
            self._list()

    def sort(self, column: str, descending: bool = False) -> None:
        """Order the candidates on show by a column of `features`; next and previous follow that order."""
        if (column, descending) != self._order:
            self._order = (column, descending)
            self._list()

    def _results(self, cube: Cube) -> list[Layer]:
        """The result layers of a cube that are still there."""
        carried = [(layer, layer.metadata.get("detections")) for layer in self.viewer.layers]
        return [layer for layer, found in carried if isinstance(found, Detections) and found.cube is cube]

    def _adopt(self) -> None:
        """Take up the detections that the result layers of the present cube carry."""
        if self._boxes is not None:
            self._boxes.selected_data.events.items_changed.disconnect(self._boxes_selected)
        cube = self.image.metadata.get("cube") if self.image is not None else None
        results = self._results(cube) if cube is not None else []
        self._boxes = next((layer for layer in results if isinstance(layer, Shapes)), None)
        if self._boxes is not None:
            self._boxes.selected_data.events.items_changed.connect(self._boxes_selected)
        self.detections = results[0].metadata["detections"] if results else None
        self.features = layers.features(self.detections, self.detections.candidates) if results else None
        self.select(None)
        self.detections_changed.emit(self.detections)
        self._list()

    def _list(self) -> None:
        """Put together the candidates on show: which, and in which order."""
        self.candidates = []
        if self.detections is not None:
            column, descending = self._order
            by_id = {c.id: c for c in self.detections.candidates}
            ordered = self.features.sort_values(column, ascending=not descending, kind="stable")
            shown = [by_id[i] for i in ordered["id"]]
            self.candidates = [c for c in shown if self._show_dropped or c.fate is not Fate.DROPPED]
        if self._place() is None:
            self.select(None)
        self._draw_dropped()
        self.candidates_changed.emit(self.candidates)

    def _draw_dropped(self) -> None:
        """Add the boxes of dropped candidates, or take them away; the user's own boxes stay as they are."""
        if self._boxes is None:
            return
        drawn = self._boxes.features
        if not self._show_dropped:
            self._boxes.remove([int(row) for row in np.flatnonzero(drawn["fate"] == Fate.DROPPED)])
        elif missing := [c for c in self.candidates if c.fate is Fate.DROPPED and c.id not in set(drawn["id"])]:
            self._boxes.add_rectangles(
                layers.box_corners(missing),
                edge_color=layers.FATE_COLOURS[Fate.DROPPED],
                edge_width=layers.edge_width(self.detections.cube),
                face_color="transparent",
            )
            rows = layers.features(self.detections, missing)
            self._boxes.features = pd.concat([drawn, rows], ignore_index=True)
        self._mark_box()

    # -- the selected candidate -------------------------------------------------------

    def select(self, candidate: Candidate | None) -> None:
        """Show a candidate everywhere: box, table, spectrum, image, its channel, its place in the field."""
        if candidate is self.selected:
            return
        self.selected = candidate
        self._mark_box()
        if candidate is not None:
            if candidate.primary is not None:
                self.set_channel(candidate.primary.channel)
            self._bring_into_view(candidate)
        self.selection_changed.emit(candidate)

    def next(self, *_: object) -> None:
        """Select the candidate below the selected one, from the last the first."""
        self._step(1)

    def previous(self, *_: object) -> None:
        """Select the candidate above the selected one, from the first the last."""
        self._step(-1)

    def _step(self, by: int) -> None:
        if self.candidates:
            place = self._place()
            start = -1 if by > 0 else 0
            self.select(self.candidates[((start if place is None else place) + by) % len(self.candidates)])

    def _place(self) -> int | None:
        """Where the selected candidate stands among those on show."""
        return next((i for i, c in enumerate(self.candidates) if c is self.selected), None)

    def _boxes_selected(self, added: tuple[int, ...], removed: tuple[int, ...]) -> None:
        # Nothing selected is no wish to see nothing: napari clears the selection at every change of mode.
        if added:
            self._select_row(added[-1])

    def _select_row(self, row: int) -> None:
        """Select the candidate of a box; boxes that the user drew belong to none."""
        wanted = self._boxes.features["id"].iloc[row]
        for candidate in self.candidates:
            if candidate.id == wanted:
                self.select(candidate)

    def _mark_box(self) -> None:
        if self._boxes is None:
            return
        wanted = self.selected.id if self.selected is not None else None
        rows = np.flatnonzero(self._boxes.features["id"] == wanted)
        self._boxes.selected_data = {int(row) for row in rows}

    def _mouse_pressed(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """A click (not a drag) on a box selects its candidate, whichever layer is active."""
        active = self.viewer.layers.selection.active
        if self._boxes is None or not self._boxes.visible or (active is not None and active.mode != "pan_zoom"):
            return
        pressed = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - pressed).max() > CLICK_SLOP:
                return
            yield
        self._select_at(event.position)

    def _select_at(self, point: tuple[float, ...]) -> None:
        """Select the smallest candidate whose box holds a point in world coordinates."""
        y, x = self.image.world_to_data(point)[-2:]
        hit = [c for c in self.candidates if c.box.y0 <= y + 0.5 < c.box.y1 and c.box.x0 <= x + 0.5 < c.box.x1]
        if hit:
            self.select(min(hit, key=lambda c: np.prod(c.box.shape)))

    # -- what the user says of candidates ---------------------------------------------

    def set_verdict(self, candidates: Sequence[Candidate], verdict: str) -> None:
        """Give candidates a verdict, "unseen", "accepted" or "rejected"; one undo takes it back from all of them."""
        if verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
        self._change([(candidate, {"verdict": verdict}) for candidate in candidates if candidate.verdict != verdict])

    def set_note(self, candidate: Candidate, note: str) -> None:
        """Write down what there is to say about a candidate."""
        if note != candidate.note:
            self._change([(candidate, {"note": note})])

    def refocus(self, candidate: Candidate, channels: tuple[int, int]) -> None:
        """Measure a candidate in another range of channels, half-open, in a thread.

        Its focused image, signal-to-noise ratios and fluxes follow, then `candidate_changed`
        is emitted.  Of several calls in quick succession the last one counts.
        """
        from napari_almadet.pipeline.remeasure import refocus

        if tuple(channels) != candidate.channels:
            self._measure(candidate, refocus, candidate, self.detections, tuple(channels))

    def move(self, candidate: Candidate, box: Box) -> None:
        """Measure a candidate in another box, in a thread; `candidate_changed` follows."""
        self._measure(candidate, self._moved, candidate, self.detections, box)

    def add(self, box: Box) -> None:
        """Make a box the user's own candidate: it is measured in a thread, listed and selected."""
        from napari_almadet.pipeline.remeasure import drawn

        try:
            candidate = drawn(self.detections, box)
        except ValueError as error:
            show_error(str(error))
            return
        self._measure(candidate, self._moved, candidate, self.detections, box)

    def undo(self, *_: object) -> None:
        """Take the user's last change in the present detections back."""
        for change in reversed(self._changes):
            if change.detections is self.detections:
                self._changes.remove(change)
                self._apply(change.before)
                return

    def _moved(self, candidate: Candidate, detections: Detections, box: Box) -> Candidate:
        from napari_almadet.pipeline.remeasure import move

        return move(candidate, detections, box, self.networks(detections.settings))

    def _measure(self, candidate: Candidate, work: Callable[..., Candidate], *args: Any) -> None:
        """Measure a candidate in a thread; what comes back is thrown away if a later request overtook it."""
        detections = self.detections
        self._measuring[id(candidate)] = request = object()

        def done(measured: Candidate) -> None:
            if self._measuring.get(id(candidate)) is request:
                del self._measuring[id(candidate)]
                if self.detections is detections:
                    said = {"verdict": candidate.verdict, "note": candidate.note}  # may have come in the meantime
                    self._change([(candidate, {**vars(measured), **said})])

        def failed(error: Exception) -> None:
            if self._measuring.get(id(candidate)) is request:
                del self._measuring[id(candidate)]
            show_error(f"Candidate {candidate.id} could not be measured: {error}")
            self.edited.emit([candidate])

        in_background(work, *args, done=done, failed=failed)

    def _change(self, changes: list[tuple[Candidate, dict[str, Any]]]) -> None:
        """Change candidates, or add those that are new, and remember what was."""
        if not changes:
            return
        there = {id(candidate) for candidate in self.detections.candidates}
        before = tuple((c, dict(vars(c)) if id(c) in there else None) for c, _ in changes)
        self._changes.append(Change(self.detections, before))
        self._apply([(candidate, {**vars(candidate), **values}) for candidate, values in changes])

    def _apply(self, states: Sequence[tuple[Candidate, dict[str, Any] | None]]) -> None:
        """Bring candidates into a state, None being that they are not there, and tell of it."""
        listed = self.detections.candidates
        there = {id(candidate) for candidate in listed}
        for candidate, state in states:
            if state is not None:
                vars(candidate).update(state)
                if id(candidate) not in there:
                    listed.append(candidate)
            else:
                listed[:] = [c for c in listed if c is not candidate]
        changed = [candidate for candidate, _ in states]
        self._refresh_features(changed)
        for candidate in changed:
            self.candidate_changed.emit(candidate)
        self.edited.emit(changed)
        added = [c for c in changed if id(c) not in there]
        if added or len(listed) < len(there):
            self._list()
        if added:
            self.select(added[-1])

    def _refresh_features(self, changed: list[Candidate]) -> None:
        """Bring the rows of some candidates up to date."""
        gone = {c.id for c in changed}
        there = [c for c in changed if any(c is other for other in self.detections.candidates)]
        rows = self.features[~self.features["id"].isin(gone)]
        self.features = pd.concat([rows, layers.features(self.detections, there)], ignore_index=True)

    # -- the channel and the camera ---------------------------------------------------

    def set_channel(self, channel: int) -> None:
        """Move the slider to a channel of the cube."""
        if self.image is None:
            return
        n_channels = self.image.data.shape[0]
        origin = self.image.data_to_world((min(max(channel, 0), n_channels - 1), 0, 0))
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, origin[-3])

    def _slider_moved(self, event: object = None) -> None:
        channel = None
        if self.image is not None:
            point = self.image.world_to_data(self.viewer.dims.point)
            channel = int(np.clip(np.round(point[-3]), 0, self.image.data.shape[0] - 1))
        if channel != self.channel:
            self.channel = channel
            self.channel_changed.emit(channel)

    def _bring_into_view(self, candidate: Candidate) -> None:
        """Centre the camera on a candidate that is not in the visible part of the canvas."""
        if self.viewer.dims.ndisplay != 2:
            return
        camera = self.viewer.scene.camera
        x, y = layers.position(candidate)
        centre = np.array(self.image.data_to_world((0, y, x))[-2:])
        half = np.array(self.viewer.canvas.size) / camera.zoom / 2
        if np.any(np.abs(centre - np.array(camera.center[-2:])) > 0.95 * half):
            camera.center = (*camera.center[:-2], *centre)

    # -- what the user does with layers -----------------------------------------------

    def _layer_removed(self, event: Any) -> None:
        layer = event.value
        if layer == self.image:
            self.inspect(None)
        elif layer == self._boxes:
            layer.selected_data.events.items_changed.disconnect(self._boxes_selected)
            self._boxes = None  # table and panels go on without

    def _layer_activated(self, event: Any) -> None:
        """Follow the user to another cube, by its own layer or by one of its results."""
        layer = event.value
        if layer is None:
            return
        detections = layer.metadata.get("detections")
        for image in self.cube_layers():
            if image == layer or (isinstance(detections, Detections) and image.metadata.get("cube") is detections.cube):
                self.inspect(image)


def weak(method: Callable) -> Callable:
    """A function that calls a bound method while its object lives.

    napari keeps mouse and key callbacks strongly, which would keep a session alive that no panel needs.
    """
    reference = WeakMethod(method)

    def call(*args):
        bound = reference()
        return bound(*args) if bound is not None else None

    return call
