"""Which cube, which detections, which candidate, which channel: one object a viewer, to which every panel listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, WeakValueDictionary

import numpy as np
import pandas as pd
from napari.layers import Image, Layer, Shapes
from napari.utils.notifications import show_error, show_info
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_almadet.catalogue.candidate import VERDICTS, Box, Candidate, Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.background import in_background, in_turns, unobtrusive

if TYPE_CHECKING:
    from pathlib import Path

    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_almadet.catalogue.result_folder import Journal
    from napari_almadet.paper.pipeline import Networks
    from napari_almadet.plugin.keeper import Keeper
    from napari_almadet.settings import Settings


CLICK_SLOP = 3  # pixels the mouse may move between press and release of a click
# What keys do: method of the session, (key as napari calls it, as it is shown).  None of them is napari's own, on
# whatever layer: P, for one, draws a polygon where a Shapes layer is active, and A selects all of its shapes.
KEYS = {
    "next": ("N", "N"),
    "previous": ("Shift-N", "Shift+N"),
    "accept": ("K", "K"),
    "reject": ("J", "J"),
    "unsee": ("U", "U"),
    "undo": ("Control-Z", "Ctrl+Z"),
}
HANDLED = 80  # pixels of the screen from which on the handles at a box's sides and corners are apart
BOLD = 1.7  # times as wide as the others are the lines of selected boxes
TOOLS = {"draw": "add_rectangle", "edit": "select"}  # what the mouse does to boxes: napari's mode

# Weak values: a session lives as long as a panel holds it, and no longer.
_sessions: WeakValueDictionary[int, Session] = WeakValueDictionary()


@dataclass(frozen=True)
class Filter:
    """Which candidates are on show; the defaults let all through but the dropped.

    ``text`` is looked for in number, kind, verdict, note, origin and decision; ``kind`` and
    ``verdict`` are one of these words, or empty.
    """

    text: str = ""
    min_snr: float = 0.0
    min_prob: float = 0.0
    kind: str = ""
    verdict: str = ""
    dropped: bool = False

    def mask(self, rows: pd.DataFrame) -> np.ndarray:
        """Which rows of the `features` it lets through; what was not measured fails every least value over 0."""
        keep = np.ones(len(rows), bool)
        if not self.dropped:
            keep &= (rows["status"] != Status.DROPPED).to_numpy()
        for column, least in (("snr_pixel", self.min_snr), ("prob", self.min_prob)):
            if least > 0:
                keep &= (rows[column] >= least).to_numpy()
        for column, word in (("kind", self.kind), ("verdict", self.verdict)):
            if word:
                keep &= (rows[column] == word).to_numpy()
        if self.text:
            searched = rows["id"].astype(str)
            for column in ("kind", "verdict", "note", "origin", "status"):
                searched = searched + "\n" + rows[column].astype(str)
            keep &= searched.str.contains(self.text, case=False, regex=False).to_numpy()
        return keep


@dataclass(frozen=True)
class Look:
    """How the boxes in the layer are to be drawn, a row for each.

    ``numbers`` (n) are those of the candidates; ``colours`` (n, 4) are transparent where these are not on show;
    ``ours`` (n) tells the boxes of candidates from what else the user drew; ``first`` and ``last`` (n) are the
    channels they live in.
    """

    numbers: np.ndarray
    colours: np.ndarray
    ours: np.ndarray
    first: np.ndarray
    last: np.ndarray


@dataclass(frozen=True)
class Change:
    """What :meth:`Session.undo` takes back: candidates, each with all it was; None if it was not there."""

    detections: Detections
    before: tuple[tuple[Candidate, dict[str, Any] | None], ...]


@lru_cache(maxsize=1)
def networks_of(settings: Settings) -> Networks:
    """The networks that settings name, loaded once."""
    from napari_almadet.detection import load_networks

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
    chosen
        The candidates a verdict is given to: `selected`, and others marked beside it.
    journal, keeper
        Where every change is taken down, and who sees to it; see `napari_almadet.plugin.keeper`.
    channel
        Channel under the slider (0-based), or None without a cube.
    advance
        Whether a verdict leads on to the next candidate.
    networks
        Where the networks come from that re-measure a candidate: a function of the settings.

    Signals
    -------
    tool_changed
        What the mouse does on the canvas: "draw" or "edit" boxes, or nothing of the kind ("").
    candidate_changed
        Anything about one candidate changed: verdict, note, box, emission range and what is
        measured in it.  The candidate is the same object as before.  Also when it was added
        or taken away, after ``candidates_changed``.
    measuring_changed
        How many candidates are being measured in the background.
    edited
        The same once for all candidates that one act of the user changed, as a list.
    """

    image_changed = Signal(object)
    detections_changed = Signal(object)
    candidates_changed = Signal(list)
    selection_changed = Signal(object)
    chosen_changed = Signal(list)
    channel_changed = Signal(object)
    tool_changed = Signal(str)
    candidate_changed = Signal(object)
    edited = Signal(list)
    measuring_changed = Signal(int)

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
        self.chosen: list[Candidate] = []
        self.journal: Journal | None = None
        self.keeper: Keeper | None = None
        self.networks: Callable[[Settings], Networks] = networks_of
        self.advance = False
        self._changes: list[Change] = []
        self._measuring: dict[int, object] = {}  # by id(): the latest request to measure each candidate
        self._order = ("id", False)
        self._filter = Filter()
        self._outdated = False  # whether a verdict or a note may have changed what is to be on show
        self._boxes: Shapes | None = None
        self._look: Look | None = None  # of the boxes; None where it is to be worked out anew
        self._colour_by = "verdict"
        self._everywhere = False
        self._drawn: list[Candidate] = []  # boxes the user drew that are still being measured
        self._presenting = False
        self._redrawing = False
        self._pressed = False
        self._unsynced = False
        self._later: set[str] = set()

        viewer.layers.events.inserted.connect(self._layer_inserted)
        viewer.layers.events.removed.connect(self._layer_removed)
        viewer.layers.selection.events.active.connect(self._layer_activated)
        viewer.dims.events.current_step.connect(self._slider_moved)
        viewer.dims.events.ndisplay.connect(self._show_boxes)
        viewer.mouse_drag_callbacks.append(weak(self._mouse_pressed))
        self._keys_on = False
        self.keys_on = True

    @property
    def keys_on(self) -> bool:
        """Whether the keys of `KEYS` work on the canvas and in the table."""
        return self._keys_on

    @keys_on.setter
    def keys_on(self, on: bool) -> None:
        if on != self._keys_on:
            self._keys_on = on
            for name, (key, _) in KEYS.items():
                self.viewer.bind_key(key, weak(getattr(self, name)) if on else None, overwrite=True)

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

    def present(self, image: Image, detections: Detections, journal: Journal | None = None) -> None:
        """Show detections in a cube's layer; earlier result layers of that cube give way to them."""
        for _ in self._presenting_steps(image, detections, layers.make_result_layers(detections, image, journal)):
            pass

    def present_in_turns(
        self, image: Image, detections: Detections, made: Sequence[Layer], window: QWidget, done: Callable[[], object]
    ) -> None:
        """The same with the window free to move in between; ``done`` is called at the end.

        ``made`` are the result layers, see :func:`~napari_almadet.plugin.layers.make_result_layers`.
        """
        in_turns(self._presenting_steps(image, detections, made), window, done)

    def _presenting_steps(self, image: Image, detections: Detections, made: Sequence[Layer]) -> Iterator[None]:
        before, image.metadata["cube"] = image.metadata.get("cube"), detections.cube  # each run prepares the cube anew
        earlier = self._results(detections.cube) + (self._results(before) if before is not detections.cube else [])
        for layer in earlier:
            self._changes = [c for c in self._changes if c.detections is not layer.metadata["detections"]]
            if layer in self.viewer.layers:  # the user may have been quicker
                with unobtrusive:
                    self.viewer.layers.remove(layer)
            yield
        for layer in made:
            self._presenting = True
            try:
                self.viewer.add_layer(layer)
            finally:
                self._presenting = False
            yield
        if image == self.image:
            self._adopt(next(layer.features.copy() for layer in made if isinstance(layer, Shapes)))
        elif image in self.viewer.layers:
            self.inspect(image)
        yield
        if self.candidates:
            self.select(self.candidates[0])
            yield

    def keep_in(self, detections: Detections, journal: Journal) -> None:
        """Take down the changes to some detections in a journal from now on."""
        for layer in self._results(detections.cube):
            if layer.metadata["detections"] is detections:
                layer.metadata["journal"] = journal
        if self.detections is detections:
            self.journal = journal

    @property
    def filter_by(self) -> Filter:
        """Which candidates are listed and drawn."""
        return self._filter

    @filter_by.setter
    def filter_by(self, wanted: Filter) -> None:
        if wanted != self._filter:
            self._filter = wanted
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

    def _adopt(self, rows: pd.DataFrame | None = None) -> None:
        """Take up the detections that the present cube's result layers carry; ``rows`` are their features, if known."""
        self._let_go()
        cube = self.image.metadata.get("cube") if self.image is not None else None
        results = self._results(cube) if cube is not None else []
        self.detections = results[0].metadata["detections"] if results else None
        self.journal = results[0].metadata.get("journal") if results else None
        self.features = None
        if results:
            self.features = layers.features(self.detections, self.detections.candidates) if rows is None else rows
        self._drawn = []
        self.select(None)
        self._boxes = next((layer for layer in results if isinstance(layer, Shapes)), None)
        if self._boxes is not None:
            self._boxes.selected_data.events.items_changed.connect(self._boxes_selected)
            self._boxes.events.data.connect(self._boxes_edited)
            self._boxes.events.mode.connect(self._tool_changed)
        self.detections_changed.emit(self.detections)
        if self._boxes is not None:
            self._fit_boxes()
        self._list()

    def _let_go(self) -> None:
        """Listen to the boxes no more."""
        if self._boxes is not None:
            self._boxes.selected_data.events.items_changed.disconnect(self._boxes_selected)
            self._boxes.events.data.disconnect(self._boxes_edited)
            self._boxes.events.mode.disconnect(self._tool_changed)
            self._boxes = self._look = None

    def _list(self) -> None:
        """Put together the candidates on show: which, and in which order."""
        self.candidates = []
        self._outdated = False
        if self.detections is not None:
            column, descending = self._order
            by_id = {c.id: c for c in self.detections.candidates}
            shown = self.features[self._filter.mask(self.features)]
            ordered = shown.sort_values(column, ascending=not descending, kind="stable")
            self.candidates = [by_id[i] for i in ordered["id"]]
        listed = {id(candidate) for candidate in self.candidates}
        if self.selected is not None and id(self.selected) not in listed:
            self.select(None)
        elif any(id(candidate) not in listed for candidate in self.chosen):
            self.choose([c for c in self.chosen if id(c) in listed], self.selected)
        self._paint_boxes()
        self._mark_boxes()
        self.candidates_changed.emit(self.candidates)

    # -- the selected candidate -------------------------------------------------------

    def select(self, candidate: Candidate | None) -> None:
        """Show a candidate everywhere: box, table, spectrum, image, its channel, its place in the field."""
        self.choose([] if candidate is None else [candidate], candidate)

    def choose(self, candidates: Sequence[Candidate], selected: Candidate | None) -> None:
        """Mark several candidates, to give them one verdict; ``selected`` is the one of them that all panels show."""
        others = [id(c) for c in candidates] != [id(c) for c in self.chosen]
        another = selected is not self.selected
        self.chosen, self.selected = list(candidates), selected
        if not (others or another):
            return
        if another and selected is not None:
            if selected.primary is not None:
                self.set_channel(selected.primary.channel)
            self._bring_into_view(selected)
        self._mark_boxes()  # after they were painted: napari draws the next box in the colour of the one marked
        if another:
            self.selection_changed.emit(selected)
        if others:
            self.chosen_changed.emit(self.chosen)

    def next(self, *_: object) -> None:
        """Select the candidate below the selected one, from the last the first."""
        self._step(1)

    def previous(self, *_: object) -> None:
        """Select the candidate above the selected one, from the first the last."""
        self._step(-1)

    def _step(self, by: int) -> None:
        """Go on in the list; what no longer fits the filter stays in sight until then, and is passed over."""
        if not self.candidates:
            return
        place = self._place()
        start = (-1 if by > 0 else 0) if place is None else place
        ahead = [self.candidates[(start + by * k) % len(self.candidates)] for k in range(1, len(self.candidates) + 1)]
        if self._outdated:
            fit = set(self.features["id"][self._filter.mask(self.features)])
            ahead = [candidate for candidate in ahead if candidate.id in fit]
        self.select(ahead[0] if ahead else None)
        if self._outdated:
            self._list()

    def _place(self) -> int | None:
        """Where the selected candidate stands among those on show."""
        return next((i for i, c in enumerate(self.candidates) if c is self.selected), None)

    # -- the boxes --------------------------------------------------------------------

    @property
    def colour_by(self) -> str:
        """What the boxes' colours tell, a key of :data:`~napari_almadet.plugin.layers.COLOURINGS`."""
        return self._colour_by

    @colour_by.setter
    def colour_by(self, column: str) -> None:
        if column != self._colour_by:
            self._colour_by = column
            self._paint_boxes()
            self.candidates_changed.emit(self.candidates)

    @property
    def boxes_everywhere(self) -> bool:
        """Whether boxes are seen in all channels, and not only in those their candidates live in."""
        return self._everywhere

    @boxes_everywhere.setter
    def boxes_everywhere(self, everywhere: bool) -> None:
        if everywhere != self._everywhere:
            self._everywhere = everywhere
            self._show_boxes()

    @property
    def tool(self) -> str:
        """What the mouse does on the canvas: "draw" or "edit" boxes, or nothing of the kind ("")."""
        active = self._boxes is not None and self.viewer.layers.selection.active == self._boxes
        return {mode: tool for tool, mode in TOOLS.items()}.get(str(self._boxes.mode), "") if active else ""

    def use(self, tool: str) -> None:
        """Let the user "draw" a box that becomes a candidate, "edit" boxes, or give the mouse back ("")."""
        if self._boxes is not None and tool != self.tool:
            self._boxes.visible = True
            self.viewer.layers.selection.active = self._boxes
            self._boxes.mode = TOOLS.get(tool, "pan_zoom")
            if tool == "edit" and self.selected is not None:
                self._bring_near(self.selected)
            self._mark_boxes()  # the change of mode let go of them

    def _tool_changed(self, event: object = None) -> None:
        self._soon("_show_boxes")
        self.tool_changed.emit(self.tool)

    def _paint_boxes(self) -> None:
        """Work out the colours of the boxes, and show them."""
        if self._boxes is None or not self._boxes.nshapes:
            return
        told = self.features.set_index("id")[["status", "verdict", "prob", "z_min", "z_max"]]
        rows = told.reindex(self._boxes.features["id"])
        ours = rows["status"].notna().to_numpy()
        colours = np.zeros((len(rows), 4))
        colours[ours] = layers.box_colours(rows[ours], self._colour_by)
        colours[~rows.index.isin([candidate.id for candidate in self.candidates]), 3] = 0
        self._look = Look(rows.index.to_numpy(), colours, ours, rows["z_min"].to_numpy(), rows["z_max"].to_numpy())
        self._show_boxes()

    def _show_boxes(self, *_: object) -> None:
        """Let the boxes on show be seen in the channels they live in, the chosen bold unless napari gives them handles.

        All at once, so that the canvas is drawn once for it.
        """
        self._later.discard("_show_boxes")
        if self._boxes is None or not self._boxes.nshapes:
            return
        look = self._look
        if look is None or len(look.ours) != self._boxes.nshapes:
            self._paint_boxes()
            return
        colours = np.where(look.ours[:, None], look.colours, self._boxes.edge_color)
        if not self._everywhere and self.channel is not None and self.viewer.dims.ndisplay == 2:
            colours[look.ours & ~((look.first <= self.channel) & (self.channel <= look.last)), 3] = 0
        thin = layers.edge_width(self.detections.cube)
        bold = np.isin(look.numbers, [candidate.id for candidate in self.chosen]) & (not self.tool)
        widths = np.where(look.ours, np.where(bold, BOLD * thin, thin), self._boxes.edge_width)
        layers.paint(self._boxes, colours, widths)

    def _boxes_selected(self, added: tuple[int, ...], removed: tuple[int, ...]) -> None:
        # Nothing selected is no wish to see nothing: napari clears the selection at every change of mode.
        if added and not self._redrawing:
            by_id = {candidate.id: candidate for candidate in self.candidates}
            numbers = self._boxes.features["id"]
            rows = [*(self._boxes.selected_data - set(added)), *added]
            chosen = [by_id[n] for n in (numbers.iloc[row] for row in rows) if n in by_id]
            if chosen:
                self.choose(chosen, chosen[-1])

    def _mark_boxes(self) -> None:
        """Select the boxes of the chosen candidates."""
        if self._boxes is None:
            return
        wanted = self._boxes.features["id"].isin([candidate.id for candidate in self.chosen])
        rows = {int(row) for row in np.flatnonzero(wanted)}
        if rows != set(self._boxes.selected_data):  # else maybe the user's doing, of which napari is still telling
            with self._redraw():
                self._boxes.selected_data = rows
        self._show_boxes()

    @contextmanager
    def _redraw(self) -> Iterator[None]:
        """What is done to the boxes meanwhile is the session's own doing, not the user's."""
        before, self._redrawing = self._redrawing, True
        try:
            yield
        finally:
            self._redrawing = before

    def _boxes_edited(self, event: Any) -> None:
        """The user moved, drew or removed boxes; what is to be done is done when napari has finished its own work."""
        if not self._redrawing and str(event.action) in ("added", "changed", "removed"):
            self._soon("_read_boxes")

    def _soon(self, name: str) -> None:
        """Call a method of this session once the present events are over; once, however often it is asked for."""
        if name not in self._later:
            self._later.add(name)
            QTimer.singleShot(0, weak(getattr(self, name)))

    def _read_boxes(self) -> None:
        """Follow what the user did to the boxes in the layer.

        A box that was moved is measured anew.  A new one becomes a candidate; lines and
        paths are the user's own affair.  A box that was removed means that this is no source: a
        candidate of the user's goes, one that was found is rejected.
        """
        self._later.discard("_read_boxes")
        if self._boxes is None:
            return
        by_id = {candidate.id: candidate for candidate in (*self.detections.candidates, *self._drawn)}
        numbers, outlines, untouched = self._outlines(by_id)
        there, refused = set(), []
        for row, (outline, kind) in enumerate(zip(outlines, self._boxes.shape_type, strict=True)):
            candidate = by_id.get(numbers[row])
            if candidate is not None and candidate.id not in there:
                there.add(candidate.id)
                if not untouched[row] and (box := layers.box_of(outline)) != candidate.box:
                    self.move(candidate, box)
            elif kind in ("line", "path"):
                numbers[row] = layers.UNKNOWN
            elif (new := self.add(layers.box_of(outline))) is not None:  # drawn, or the copy of another
                numbers[row] = new.id
                there.add(new.id)
            else:
                refused.append(row)
        with self._redraw():
            self._boxes.features = self._boxes.features.assign(id=numbers)
            if refused:
                self._boxes.remove(refused)
        missing = [candidate for candidate in self.detections.candidates if candidate.id not in there]
        self._change([(c, {"verdict": "rejected"} if c.origin in ("found", "edited") else None) for c in missing])
        self._sync_boxes()

    def _outlines(self, by_id: dict[int, Candidate]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Of each box in the layer the candidate's number, the outline, and whether that is the candidate's box."""
        numbers, outlines = self._boxes.features["id"].to_numpy(copy=True), self._boxes.data
        known = [by_id.get(number) for number in numbers]
        return numbers, outlines, layers.drawn_as(outlines, [c.box if c is not None else None for c in known])

    def _sync_boxes(self) -> None:
        """Make the layer that of the candidates' boxes again, outlines and looks; not while the user drags one."""
        self._later.discard("_sync_boxes")
        self._unsynced = self._pressed
        if self._boxes is not None and not self._pressed:
            self._fit_boxes()
            self._paint_boxes()
            self._mark_boxes()

    def _fit_boxes(self) -> None:
        """Make the outlines in the layer those of the candidates' boxes.

        Those being measured stay as the user left them until that is done.
        """
        candidates = {candidate.id: candidate for candidate in (*self.detections.candidates, *self._drawn)}
        busy = {number for number, candidate in candidates.items() if id(candidate) in self._measuring}
        numbers, _, fits = self._outlines(candidates)
        wrong, right = [], set()
        for row, number in enumerate(numbers.tolist()):
            if (fits[row] or number in busy) and number not in right:
                right.add(number)
            elif number != layers.UNKNOWN:
                wrong.append(row)
        missing = [c for c in self.detections.candidates if c.id not in right]
        with self._redraw():
            if wrong:
                self._boxes.remove(wrong)
            if missing:
                self._boxes.add_rectangles(
                    list(layers.corners([candidate.box for candidate in missing])),
                    edge_color="white",
                    edge_width=layers.edge_width(self.detections.cube),
                    face_color="transparent",
                )
            numbers = self._boxes.features["id"].to_numpy(copy=True)
            numbers[len(numbers) - len(missing) :] = [candidate.id for candidate in missing]
            self._write_features(numbers)

    def _write_features(self, numbers: np.ndarray) -> None:
        """Give the boxes, whose candidates have these numbers, the features of those; blank until they are measured."""
        known = np.where(np.isin(numbers, self.features["id"]), numbers, layers.UNKNOWN)
        self._boxes.features = layers.rows_of(self.features, known).assign(id=numbers)

    def _mouse_pressed(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """A click (not a drag) on a box selects its candidate, whichever layer is active."""
        active = self.viewer.layers.selection.active
        selects = self._boxes is not None and self._boxes.visible and (active is None or active.mode == "pan_zoom")
        pressed = np.array(event.pos)
        self._pressed = True
        yield
        while event.type == "mouse_move":
            selects = selects and np.abs(np.array(event.pos) - pressed).max() <= CLICK_SLOP
            yield
        self._pressed = False
        if selects:
            self._select_at(event.position)
        if self._unsynced:
            self._soon("_sync_boxes")

    def _select_at(self, point: tuple[float, ...]) -> None:
        """Select the smallest candidate in sight whose box holds a point in world coordinates."""
        y, x = self.image.world_to_data(point)[-2:]
        hit = [c for c in self.candidates if c.box.y0 <= y + 0.5 < c.box.y1 and c.box.x0 <= x + 0.5 < c.box.x1]
        seen = [c for c in hit if self._everywhere or c.channels[0] <= self.channel < c.channels[1]]
        if seen:
            self.select(min(seen, key=lambda c: np.prod(c.box.shape)))

    # -- what the user says of candidates ---------------------------------------------

    @property
    def measuring(self) -> int:
        """How many candidates are being measured in the background."""
        return len(self._measuring)

    def set_verdict(self, candidates: Sequence[Candidate], verdict: str) -> None:
        """Give candidates a verdict, "unseen", "accepted" or "rejected"; one undo takes it back from all of them."""
        if verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
        self._change([(candidate, {"verdict": verdict}) for candidate in candidates if candidate.verdict != verdict])

    def accept(self, *_: object) -> None:
        """Accept the chosen candidates."""
        self._judge("accepted")

    def reject(self, *_: object) -> None:
        """Reject the chosen candidates."""
        self._judge("rejected")

    def unsee(self, *_: object) -> None:
        """Take the verdict off the chosen candidates."""
        self._judge("unseen")

    def _judge(self, verdict: str) -> None:
        self.set_verdict(self.chosen, verdict)
        if self.advance and len(self.chosen) == 1:
            self.next()

    def set_note(self, candidate: Candidate, note: str) -> None:
        """Write down what there is to say about a candidate."""
        if note != candidate.note:
            self._change([(candidate, {"note": note})])

    def refocus(self, candidate: Candidate, channels: tuple[int, int]) -> None:
        """Measure a candidate in another range of channels, half-open, in a thread.

        Its focused image, signal-to-noise ratios and fluxes follow, then `candidate_changed`
        is emitted.  Of several calls in quick succession the last one counts.
        """
        if tuple(channels) != candidate.channels:
            self._measure(candidate, _refocused, candidate, self.detections, tuple(channels))

    def move(self, candidate: Candidate, box: Box) -> None:
        """Measure a candidate in another box, in a thread; `candidate_changed` follows."""
        self._measure(candidate, self._moved, candidate, self.detections, box)

    def add(self, box: Box) -> Candidate | None:
        """Make a box the user's own candidate: it is measured in a thread, then listed and selected.

        Returns it, not yet measured; None, and the user is told, where the box lies outside the field.
        """
        known = replace(self.detections, candidates=[*self.detections.candidates, *self._drawn])
        try:
            candidate = known.drawn(box)
        except ValueError as error:
            show_error(str(error))
            return None
        self._drawn.append(candidate)
        self._measure(candidate, self._moved, candidate, self.detections, box)
        return candidate

    def take_in(self, path: str | Path) -> None:
        """Take the sources of another program's catalogue or region file in as candidates, in a thread.

        Where the cube was not searched they are its only candidates.
        """
        image, detections = self.image, self.detections
        notes: list[str] = []  # what the file says and cannot be honoured

        def work() -> tuple[Detections, list[Candidate]]:
            from napari_almadet import remeasure
            from napari_almadet.catalogue.export import read_boxes
            from napari_almadet.settings import Settings

            cube = layers.cube_of(image) if detections is None else detections.cube
            sources = read_boxes(path, cube, notes)
            settings = Settings() if detections is None else detections.settings
            networks = self.networks(settings)
            found = detections or remeasure.unsearched(cube, settings, networks)
            return found, remeasure.take_in(found, sources, networks)

        def done(outcome: tuple[Detections, list[Candidate]]) -> None:
            found, taken = outcome
            if notes:
                show_info(" ".join(notes))
            if detections is not None and self.detections is detections:
                self._change([(candidate, {}) for candidate in taken])
            elif detections is None and image in self.viewer.layers:
                found.candidates += taken
                self.present(image, found)

        in_background(work, done=done, failed=lambda error: show_error(str(error)))

    def undo(self, *_: object) -> None:
        """Take the user's last change in the present detections back."""
        for change in reversed(self._changes):
            if change.detections is self.detections:
                self._changes.remove(change)
                self._apply(change.before)
                return

    def _moved(self, candidate: Candidate, detections: Detections, box: Box) -> Candidate:
        from napari_almadet.remeasure import move

        return move(candidate, detections, box, self.networks(detections.settings))

    def _measure(self, candidate: Candidate, work: Callable[..., Candidate], *args: Any) -> None:
        """Measure a candidate in a thread; what comes back is thrown away if a later request overtook it."""
        detections = self.detections
        self._measuring[id(candidate)] = request = object()
        self.measuring_changed.emit(len(self._measuring))

        def finished() -> bool:
            if self._measuring.get(id(candidate)) is not request:
                return False
            del self._measuring[id(candidate)]
            self._drawn = [c for c in self._drawn if c is not candidate]
            self.measuring_changed.emit(len(self._measuring))
            return self.detections is detections

        def done(measured: Candidate) -> None:
            if finished():
                said = {"verdict": candidate.verdict, "note": candidate.note}  # may have come in the meantime
                self._change([(candidate, {**vars(measured), **said})])

        def failed(error: Exception) -> None:
            if finished():
                self._sync_boxes()
                show_error(f"Candidate {candidate.id} could not be measured: {error}")

        in_background(work, *args, done=done, failed=failed)

    def _change(self, changes: Sequence[tuple[Candidate, dict[str, Any] | None]]) -> None:
        """Change candidates, add those that are new, take away those with None; and remember what was."""
        if changes:
            there = {id(candidate) for candidate in self.detections.candidates}
            before = tuple((c, dict(vars(c)) if id(c) in there else None) for c, _ in changes)
            self._changes.append(Change(self.detections, before))
            self._apply([(c, None if values is None else {**vars(c), **values}) for c, values in changes])

    def _apply(self, states: Sequence[tuple[Candidate, dict[str, Any] | None]]) -> None:
        """Bring candidates into a state, None being that they are not there, and tell of it."""
        listed = self.detections.candidates
        there = {id(candidate) for candidate in listed}
        reshaped = False
        for candidate, state in states:
            added, gone = id(candidate) not in there, state is None
            reshaped = reshaped or added or gone or state["box"] != candidate.box
            if gone:
                listed[:] = [c for c in listed if c is not candidate]
            else:
                vars(candidate).update(state)
                listed.extend([candidate] * added)
        changed = [candidate for candidate, _ in states]
        self._outdated = True
        self._refresh_features(changed)
        if reshaped:
            self._sync_boxes()
        elif self._boxes is not None:
            layers.rewrite(self._boxes, self.features, [candidate.id for candidate in changed])
            self._paint_boxes()
        if {id(candidate) for candidate in listed} != there:
            self._list()
        for candidate in changed:
            self.candidate_changed.emit(candidate)
        self.edited.emit(changed)
        new = [candidate for candidate in listed if id(candidate) not in there]
        if new:
            self.select(new[-1])

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
        channel = min(max(channel, 0), self.image.data.shape[0] - 1)
        if channel == self.channel:
            return
        origin = self.image.data_to_world((channel, 0, 0))
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, origin[-3])

    def _slider_moved(self, event: object = None) -> None:
        channel = None
        if self.image is not None:
            point = self.image.world_to_data(self.viewer.dims.point)
            channel = int(np.clip(np.round(point[-3]), 0, self.image.data.shape[0] - 1))
        if channel != self.channel:
            self.channel = channel
            self._show_boxes()
            self.channel_changed.emit(channel)

    def _bring_into_view(self, candidate: Candidate) -> None:
        """Centre the camera on a candidate that is not in the visible part of the canvas."""
        if self.viewer.dims.ndisplay != 2:
            return
        camera = self.viewer.scene.camera
        x, y = candidate.position
        centre = np.array(self.image.data_to_world((0, y, x))[-2:])
        half = np.array(self.viewer.canvas.size) / camera.zoom / 2
        if np.any(np.abs(centre - np.array(camera.center[-2:])) > 0.95 * half):
            camera.center = (*camera.center[:-2], *centre)

    def _bring_near(self, candidate: Candidate) -> None:
        """Zoom to a candidate whose box is too small on screen for its handles to be told apart."""
        if self.viewer.dims.ndisplay != 2:
            return
        camera, box = self.viewer.scene.camera, candidate.box
        origin, end = (
            np.array(self.image.data_to_world((0, y, x))[-2:]) for y, x in ((box.y0, box.x0), (box.y1, box.x1))
        )
        size = np.abs(end - origin).min()
        if size * camera.zoom < HANDLED:
            camera.zoom = HANDLED / size
            camera.center = (*camera.center[:-2], *(origin + end) / 2)

    # -- what the user does with layers -----------------------------------------------

    def _layer_inserted(self, event: Any) -> None:
        """Take up detections that come as layers, as from a folder that was dropped on napari."""
        found = event.value.metadata.get("detections")
        if not self._presenting and isinstance(found, Detections):
            self._soon("_take_up")

    def _take_up(self) -> None:
        self._later.discard("_take_up")
        for image in self.cube_layers():
            if self.detections is None and self._results(image.metadata.get("cube")):
                self._adopt() if image == self.image else self.inspect(image)
        if self.selected is None and self.candidates:
            self.select(self.candidates[0])

    def _layer_removed(self, event: Any) -> None:
        layer = event.value
        if layer == self.image:
            self.inspect(None)
        elif layer == self._boxes:
            self._let_go()  # table and panels go on without

    def _layer_activated(self, event: Any) -> None:
        """Follow the user to another cube, by its own layer or by one of its results."""
        layer = event.value
        self._tool_changed()
        if layer is None:
            return
        detections = layer.metadata.get("detections")
        for image in self.cube_layers():
            if image == layer or (isinstance(detections, Detections) and image.metadata.get("cube") is detections.cube):
                self.inspect(image)


def _refocused(candidate: Candidate, detections: Detections, channels: tuple[int, int]) -> Candidate:
    from napari_almadet.remeasure import refocus

    return refocus(candidate, detections, channels)


def weak(method: Callable) -> Callable:
    """A function that calls a bound method while its object lives.

    napari keeps mouse and key callbacks strongly, which would keep a session alive that no panel needs.
    """
    reference = WeakMethod(method)

    def call(*args):
        bound = reference()
        return bound(*args) if bound is not None else None

    return call
