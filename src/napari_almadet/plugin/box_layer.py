"""The boxes of candidates as a napari Shapes layer: visibility, appearance, and edits by the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, proxy

import numpy as np
from napari.layers import Shapes, Vectors
from qtpy.QtCore import QTimer

from napari_almadet.plugin import layers
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.napari_workarounds import paint_boxes
from napari_almadet.plugin.volumes import Volumes

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_almadet.catalogue.candidate import Candidate
    from napari_almadet.plugin.session_interface import Owner

CLICK_SLOP = 3  # pixels the mouse may move between press and release of a click
HANDLED = 80  # screen pixels, size of a box at which its handles do not overlap
LINE = 1.6  # screen pixels, line width of a box at any zoom
BOLD = 1.7  # factor by which the lines of selected boxes are wider
ZOOMED_MS = 40  # ms after the last zoom step, when line widths are updated
TOOLS = {"draw": "add_rectangle", "edit": "select"}  # tool: napari's mode


@dataclass(frozen=True)
class Look:
    """Appearance of the boxes in the layer, one row per box.

    ``numbers`` (n) are the ids of the candidates; ``colours`` (n, 4) are transparent for hidden ones;
    ``ours`` (n) is True for boxes of candidates and False for other shapes that the user drew; ``first`` and ``last``
    (n) are the channels in which they are shown.
    """

    numbers: np.ndarray
    colours: np.ndarray
    ours: np.ndarray
    first: np.ndarray
    last: np.ndarray


class BoxLayer:
    """Synchronises a Shapes layer with the candidates of its owner, whichever of them changes.

    Attributes
    ----------
    layer
        The current layer; None without detections, or if the user removed it.
    """

    def __init__(self, owner: Owner):
        self.owner: Owner = proxy(
            owner
        )  # which refers to this object: a reference cycle would keep viewers alive until garbage collection
        self.viewer = owner.viewer
        self.layer: Shapes | None = None
        self.volumes = Volumes(self.viewer)
        self._look: Look | None = None  # None: to be computed again
        self._colour_by = "verdict"
        self._everywhere = False
        self._instead = False
        self._redrawing = False
        self._pressed = False
        self._unsynced = False
        self._later: set[str] = set()
        self._zoomed = QTimer()
        self._zoomed.setSingleShot(True)
        self._zoomed.timeout.connect(weak(self._rescale))
        self.viewer.dims.events.ndisplay.connect(self._turned)
        self.viewer.scene.camera.events.zoom.connect(self._zooming)
        self.viewer.mouse_drag_callbacks.append(weak(self.mouse_pressed))

    def adopt(self, layer: Shapes | None) -> None:
        """Switch to another layer, or to none."""
        if self.layer is not None:
            self.layer.selected_data.events.items_changed.disconnect(self._selected)
            self.layer.events.data.disconnect(self._edited)
            self.layer.events.mode.disconnect(self.tool_changed)
            self.layer.text.events.visible.disconnect(self._numbers_toggled)
        self.layer, self._look = layer, None
        self.volumes.hide()
        if layer is not None:
            layer.selected_data.events.items_changed.connect(self._selected)
            layer.events.data.connect(self._edited)
            layer.events.mode.connect(self.tool_changed)
            layer.text.events.visible.connect(self._numbers_toggled)

    def leave(self) -> None:
        """Hide the boxes while the user looks at another cube."""
        if self.layer is not None and self.layer.visible:
            self.layer.metadata["away"] = True
            self.layer.visible = False

    def on_top(self) -> None:
        """Move the boxes above the image added last."""
        if self.layer is not None and self.layer in self.viewer.layers:
            self.viewer.layers.move(self.viewer.layers.index(self.layer), len(self.viewer.layers))

    def arrive(self) -> None:
        """Show the boxes when the user returns to their cube."""
        if self.layer is not None and self.layer.metadata.pop("away", False):
            self.layer.visible = True

    # -- how they look ----------------------------------------------------------------

    @property
    def colour_by(self) -> str:
        """What the colours of boxes show, a key of :data:`~napari_almadet.plugin.layers.COLOURINGS`."""
        return self._colour_by

    @colour_by.setter
    def colour_by(self, column: str) -> None:
        self._colour_by = column
        self.paint()

    @property
    def everywhere(self) -> bool:
        """Whether boxes are shown in all channels, not only in the emission ranges of their candidates."""
        return self._everywhere

    @everywhere.setter
    def everywhere(self, everywhere: bool) -> None:
        if everywhere != self._everywhere:
            self._everywhere = everywhere
            self.show()

    @property
    def instead(self) -> bool:
        """Whether masks are drawn instead of boxes; candidates without a mask keep their box."""
        return self._instead

    @instead.setter
    def instead(self, instead: bool) -> None:
        self._instead = instead
        self.show()

    def paint(self) -> None:
        """Compute the colours of the boxes and apply them."""
        if self.layer is None or not self.layer.nshapes:
            return
        columns = existing(self.owner.features).set_index("id")[["status", "verdict", "prob", "z_min", "z_max"]]
        rows = columns.reindex(self.layer.features["id"])
        ours = rows["status"].notna().to_numpy()
        colours = np.zeros((len(rows), 4))
        colours[ours] = layers.box_colours(rows[ours], self._colour_by)
        colours[~rows.index.isin([candidate.id for candidate in self.owner.candidates]), 3] = 0
        self._look = Look(rows.index.to_numpy(), colours, ours, rows["z_min"].to_numpy(), rows["z_max"].to_numpy())
        self.show()

    def show(self, *_: object) -> None:
        """Show each box in the channels of its emission range, the chosen ones bold unless napari draws their handles.

        Done in a single step, so that the canvas is drawn once.  In 3-D they are replaced by `Volumes`, because each
        box would be a flat rectangle in one plane.
        """
        self._later.discard("show")
        if self.layer is None or not self.layer.nshapes:
            return
        look = self._look
        if look is None or len(look.ours) != self.layer.nshapes:
            self.paint()
            return
        self._show_volumes(look)
        colours = np.where(look.ours[:, None], look.colours, self.layer.edge_color)
        channel = self.owner.channel
        if self.viewer.dims.ndisplay == 3:
            colours[look.ours, 3] = 0
        elif not self._everywhere and channel is not None:
            colours[look.ours & ~((look.first <= channel) & (channel <= look.last)), 3] = 0
        if self._instead and not self.tool:
            masked = [candidate.id for candidate in self.owner.candidates if candidate.mask is not None]
            colours[look.ours & np.isin(look.numbers, masked), 3] = 0
        thin = self.line_width()
        bold = np.isin(look.numbers, [candidate.id for candidate in self.owner.chosen]) & (not self.tool)
        widths = np.where(look.ours, np.where(bold, BOLD * thin, thin), self.layer.edge_width)
        paint_boxes(self.layer, colours, widths)
        if self.layer.text.visible:
            self.layer.text.color = colours

    def _numbers_toggled(self, *_: object) -> None:
        """Write the ids of candidates next to their boxes if napari's "display text" is on."""
        if self.layer is not None and self.layer.text.visible:
            self.show()

    def _show_volumes(self, look: Look) -> None:
        """In three dimensions, the candidates shown as blocks; the chosen ones white."""
        if self.viewer.dims.ndisplay == 2:
            self.volumes.hide()
            return
        seen = dict(zip(look.numbers.tolist(), look.colours, strict=True))
        shown = [candidate for candidate in self.owner.candidates if candidate.id in seen]
        chosen = {candidate.id for candidate in self.owner.chosen}
        colours = np.array([np.ones(4) if c.id in chosen else seen[c.id] for c in shown]).reshape(-1, 4)
        self.volumes.show(self.owner.image, shown, colours, self.line_width())

    def line_width(self) -> float:
        """Width of a box's line in pixels of the cube, so that it is `LINE` pixels of the screen."""
        image = existing(self.owner.image)
        pixel = np.abs(np.array(image.data_to_world((0, 1, 1))) - image.data_to_world((0, 0, 0)))[-2:].max()
        return float(LINE / max(self.viewer.scene.camera.zoom * pixel, 1e-9))

    def _turned(self, *_: object) -> None:
        """Switched between 2-D and 3-D: paint after napari has sliced its layers, which may be after this event."""
        self._soon("show")

    def _zooming(self, *_: object) -> None:
        if self.owner.image is not None:
            self._zoomed.start(ZOOMED_MS)

    def _rescale(self) -> None:
        """Restore the width of all lines on the screen."""
        self.show()
        if self.owner.image is None:
            return
        for layer in self.viewer.layers:
            if isinstance(layer, Vectors) and "marks" in layer.metadata:
                layer.edge_width = layer.metadata["marks"] * self.line_width()
            elif isinstance(layer, Shapes) and layer.metadata.keys() & {"marks", "regions"} and layer.nshapes:
                share = layer.metadata.get("marks", 1.0)  # of a box's width
                layer.edge_width = [share * self.line_width()] * layer.nshapes
                layer.refresh()  # napari draws lines of a new width only then

    def mark(self) -> None:
        """Select the boxes of the chosen candidates."""
        if self.layer is None:
            return
        wanted = self.layer.features["id"].isin([candidate.id for candidate in self.owner.chosen])
        rows = {int(row) for row in np.flatnonzero(wanted)}
        if rows != set(self.layer.selected_data):  # else the user may have done it, and napari's event is still to come
            with self._redraw():
                self.layer.selected_data = rows
        self.show()

    def rewrite(self, candidates: Sequence[Candidate]) -> None:
        """Update features and appearance of the boxes of some candidates, whose outlines have not changed."""
        if self.layer is not None:
            layers.rewrite(self.layer, self.owner.features, [candidate.id for candidate in candidates])
            self.paint()

    # -- what the mouse does ----------------------------------------------------------

    @property
    def tool(self) -> str:
        """What the mouse does on the canvas: "draw" or "edit" boxes, or neither ("")."""
        if self.layer is None or self.viewer.layers.selection.active != self.layer:
            return ""
        return {mode: tool for tool, mode in TOOLS.items()}.get(str(self.layer.mode), "")

    def use(self, tool: str) -> None:
        """Let the user "draw" a box that becomes a candidate, or "edit" boxes; "" returns to normal navigation."""
        if self.layer is not None and tool != self.tool:
            self.layer.visible = True
            self.viewer.layers.selection.active = self.layer
            self.layer.mode = TOOLS.get(tool, "pan_zoom")
            if tool == "edit" and self.owner.selected is not None:
                self._bring_near(self.owner.selected)
            self.mark()  # the change of mode deselected them

    def tool_changed(self, event: object = None) -> None:
        """Another tool was chosen, or another layer made active."""
        self._soon("show")
        self.owner.using(self.tool)

    def _bring_near(self, candidate: Candidate) -> None:
        """Zoom to a candidate if its box is too small on screen to grab its handles separately."""
        if self.viewer.dims.ndisplay != 2:
            return
        camera, box, image = self.viewer.scene.camera, candidate.box, existing(self.owner.image)
        origin, end = (np.array(image.data_to_world((0, y, x))[-2:]) for y, x in ((box.y0, box.x0), (box.y1, box.x1)))
        size = np.abs(end - origin).min()
        if size * camera.zoom < HANDLED:
            camera.zoom = HANDLED / size
            camera.center = (*camera.center[:-2], *(origin + end) / 2)

    def _selected(self, added: tuple[int, ...], removed: tuple[int, ...]) -> None:
        # An empty selection is ignored: napari clears the selection at every change of mode.
        if added and not self._redrawing and self.layer is not None:
            by_id = {candidate.id: candidate for candidate in self.owner.candidates}
            numbers = self.layer.features["id"]
            rows = [*(self.layer.selected_data - set(added)), *added]
            chosen = [by_id[n] for n in (numbers.iloc[row] for row in rows) if n in by_id]
            if chosen:
                self.owner.choose(chosen, chosen[-1])

    def mouse_pressed(self, viewer: Viewer, event: Any) -> Iterator[None]:
        """A click (not a drag) on a box selects its candidate, whichever layer is active."""
        active = self.viewer.layers.selection.active
        selects = self.layer is not None and self.layer.visible and (active is None or active.mode == "pan_zoom")
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
            self._soon("sync")

    def at(self, point: tuple[float, ...]) -> list[Candidate]:
        """The visible candidates whose boxes contain a point in world coordinates, the smallest first."""
        owner, channel = self.owner, self.owner.channel
        if self.layer is None or not self.layer.visible:
            return []
        y, x = existing(owner.image).world_to_data(point)[-2:]
        hit = [c for c in owner.candidates if c.box.y0 <= y + 0.5 < c.box.y1 and c.box.x0 <= x + 0.5 < c.box.x1]
        seen = [c for c in hit if self._everywhere or c.channels[0] <= existing(channel) < c.channels[1]]
        return sorted(seen, key=lambda c: np.prod(c.box.shape))

    def _select_at(self, point: tuple[float, ...]) -> None:
        """Select the smallest visible candidate whose box contains a point in world coordinates."""
        seen = self.at(point)
        if seen:
            self.owner.select(seen[0])

    # -- what the user does to boxes --------------------------------------------------

    @contextmanager
    def _redraw(self) -> Iterator[None]:
        """Context in which changes to the boxes are made by the program, not by the user."""
        before, self._redrawing = self._redrawing, True
        try:
            yield
        finally:
            self._redrawing = before

    def _edited(self, event: Any) -> None:
        """The user moved, drew or removed boxes; handle it after napari has finished its own processing."""
        if not self._redrawing and str(event.action) in ("added", "changed", "removed"):
            self._soon("read")

    def _soon(self, name: str) -> None:
        """Call a method after the current events; only once, even if requested several times."""
        if name not in self._later:
            self._later.add(name)
            QTimer.singleShot(0, weak(getattr(self, name)))

    def read(self) -> None:
        """Apply changes that the user made to the boxes in the layer.

        A moved box is measured again.  A new box becomes a candidate; lines and
        paths are ignored.  The owner handles removed boxes.
        """
        self._later.discard("read")
        if self.layer is None:
            return
        by_id = {candidate.id: candidate for candidate in self.owner.boxed()}
        numbers, outlines, untouched = self._outlines(by_id)
        there, refused = set(), []
        for row, (outline, kind) in enumerate(zip(outlines, self.layer.shape_type, strict=True)):
            candidate = by_id.get(numbers[row])
            if candidate is not None and candidate.id not in there:
                there.add(candidate.id)
                if not untouched[row] and (box := layers.box_of(outline)) != candidate.box:
                    self.owner.move(candidate, box)
            elif kind in ("line", "path"):
                numbers[row] = layers.UNKNOWN
            elif (new := self.owner.add(layers.box_of(outline))) is not None:  # drawn, or the copy of another
                numbers[row] = new.id
                there.add(new.id)
            else:
                refused.append(row)
        with self._redraw():
            self.layer.features = self.layer.features.assign(id=numbers)
            if refused:
                self.layer.remove(refused)
        self.owner.boxes_removed([c for c in existing(self.owner.detections).candidates if c.id not in there])
        self.sync()

    def _outlines(self, by_id: dict[int, Candidate]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """For each box in the layer: number of the candidate, outline, and whether both agree."""
        layer = existing(self.layer)
        numbers, outlines = layer.features["id"].to_numpy(copy=True), layer.data
        known = [by_id.get(number) for number in numbers]
        return numbers, outlines, layers.drawn_as(outlines, [c.box if c is not None else None for c in known])

    def sync(self) -> None:
        """Update outlines and appearance of all boxes from the candidates, except while the user drags one."""
        self._later.discard("sync")
        self._unsynced = self._pressed
        if self.layer is not None and not self._pressed:
            self.fit()
            self.paint()
            self.mark()

    def fit(self) -> None:
        """Update the outlines of all boxes from the candidates.

        Boxes whose candidate is being measured stay as the user left them.
        """
        if self.layer is None:
            return
        candidates, busy = {candidate.id: candidate for candidate in self.owner.boxed()}, self.owner.busy()
        numbers, _, fits = self._outlines(candidates)
        wrong, right = [], set()
        for row, number in enumerate(numbers.tolist()):
            if (fits[row] or number in busy) and number not in right:
                right.add(number)
            elif number != layers.UNKNOWN:
                wrong.append(row)
        missing = [c for c in existing(self.owner.detections).candidates if c.id not in right]
        with self._redraw():
            if wrong:
                self.layer.remove(wrong)
            if missing:
                self.layer.add_rectangles(
                    list(layers.corners([candidate.box for candidate in missing])),
                    edge_color="white",
                    edge_width=self.line_width(),
                    face_color="transparent",
                )
            numbers = self.layer.features["id"].to_numpy(copy=True)
            numbers[len(numbers) - len(missing) :] = [candidate.id for candidate in missing]
            self._write_features(numbers)

    def _write_features(self, numbers: np.ndarray) -> None:
        """Set the features of boxes from the candidates with these numbers; blank until they are measured."""
        features, layer = existing(self.owner.features), existing(self.layer)
        known = np.where(np.isin(numbers, features["id"]), numbers, layers.UNKNOWN)
        rows = layers.rows_of(features, known).assign(id=numbers)
        if not rows.equals(layer.features):  # comparing takes pandas less time than setting takes napari
            layer.features = rows


def weak(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls a bound method while its object lives.

    napari keeps mouse and key callbacks strongly, which would keep a session alive that no panel needs.
    """
    reference = WeakMethod(method)

    def call(*args: Any) -> Any:
        bound = reference()
        return bound(*args) if bound is not None else None

    return call
