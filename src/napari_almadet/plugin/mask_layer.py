"""The masks of candidates in napari's Labels layer: appearance, and edits with the brush."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from weakref import proxy

import numpy as np
from napari.layers import Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QTimer

from napari_almadet.catalogue.candidate import Candidate, SourceMask
from napari_almadet.measure.painted_mask import box_of, edited
from napari_almadet.plugin import layers
from napari_almadet.plugin.box_layer import weak
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.mask_outlines import MaskOutlines
from napari_almadet.plugin.shortcuts import KEYS

if TYPE_CHECKING:
    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.plugin.session_interface import Owner

NOTHING_YET = "There are no candidates yet: detect sources, or draw a box first."


class Outline(StrEnum):
    """What is drawn of a candidate on the canvas."""

    BOX = "boxes"
    MASK = "masks"
    BOTH = "boxes and masks"


class MaskLayer:
    """Synchronises a Labels layer with the masks of the session's candidates, whichever of them changes.

    Each candidate's voxels have its number.  If the user edits them with napari's brush, eraser, bucket or polygon, the
    candidate gets the new mask and is measured again; one undo reverts both.

    Attributes
    ----------
    layer
        The current layer; None without detections, or if the user removed it.
    """

    def __init__(self, session: Owner):
        self.session: Owner = proxy(session)  # which refers to this object
        self.viewer = session.viewer
        self.layer: Labels | None = None
        self.outlines = MaskOutlines(self.viewer)
        self._outline = Outline.BOX
        self._wanted = False  # whether masks are shown
        self._drawn: dict[int, tuple[slice, ...]] = {}  # bounds of each candidate's voxels, by number
        self._painted: dict[int, SourceMask] = {}  # masks that are being measured, by number
        self._strokes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # not yet read
        self._later: set[str] = set()
        session.edited.connect(self._edited)
        session.candidates_changed.connect(self._changed)
        session.chosen_changed.connect(self._changed)
        session.channel_changed.connect(self._draw_outlines)
        self.viewer.dims.events.ndisplay.connect(self._turned)
        session.measuring_changed.connect(self._measured)

    def adopt(self, layer: Labels | None) -> None:
        """Switch to another layer, or to none."""
        if self.layer is not None:
            self.layer.events.paint.disconnect(self._paint)
            self.layer.events.mode.disconnect(self._mode_changed)
            self.layer.events.visible.disconnect(self._changed)
        self.layer, self._drawn, self._wanted = layer, {}, False
        self._painted.clear()
        self._strokes.clear()
        if layer is None:
            return
        layer.contour = 1  # outlines on each channel
        layer.events.paint.connect(self._paint)
        layer.events.mode.connect(self._mode_changed)
        layer.events.visible.connect(self._changed)
        layer.bind_key(KEYS["undo"][0], weak(self.session.undo), overwrite=True)  # Labels layers have their own undo
        for candidate in existing(self.session.detections).candidates:
            if candidate.mask is not None:
                self._drawn[candidate.id] = candidate.mask.slices
        self.show()

    # -- how they look ----------------------------------------------------------------

    @property
    def outline(self) -> Outline:
        """Whether boxes, masks or both are drawn; a candidate without a mask keeps its box."""
        return self._outline

    @outline.setter
    def outline(self, outline: Outline) -> None:
        self._outline = Outline(outline)
        if self._outline is not Outline.BOX and self.session.detections is None:
            show_info(NOTHING_YET)
        self.session.boxes.instead = self._outline is Outline.MASK
        self.show()

    def ready(self) -> bool:
        """Make sure that there is a layer, empty without masks; if impossible, inform the user and return False."""
        session = self.session
        if self.layer is not None:
            return True
        if session.detections is None:
            show_info(NOTHING_YET)
            return False
        made = layers.masks_layers(session.detections, session.image, always=True)
        if not made:
            show_error(f"{session.detections.cube.name} is too large for its masks to be painted in memory.")
            return False
        data, meta, kind = made[0]
        meta["metadata"] |= {"detections": session.detections, "journal": session.journal}
        layer = Layer.create(data, meta, kind)
        active = self.viewer.layers.selection.active
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = active
        self.adopt(layer)
        session.boxes.on_top()
        return True

    def show(self) -> None:
        """Draw the masks of the visible candidates in the colours of their boxes; chosen ones are white."""
        self._later.discard("show")
        self._draw_outlines()
        if self.layer is None:
            return
        wanted = bool(self.tool) or (self._outline is not Outline.BOX and self.viewer.dims.ndisplay == 3)
        if wanted != self._wanted:  # else the user may have hidden or shown the layer
            self._wanted = wanted
            if wanted:
                self.layer.contour = int(self.viewer.dims.ndisplay == 2)  # napari warns of contours in 3-D
            if self.layer.visible != wanted:  # setting it again would deactivate the brush
                self.layer.visible = wanted
        if self.layer.visible:
            self.layer.colormap = self._colours()

    def _draw_outlines(self, *_: object) -> None:
        """Draw the outlines in the channel on screen; not under the brush, whose Labels have their own."""
        session = self.session
        wanted = self._outline is not Outline.BOX and not self.tool and self.viewer.dims.ndisplay == 2
        if not wanted or session.detections is None or session.channel is None:
            self.outlines.hide()
            return
        look = self._look()
        masks = {c.id: self._painted.get(c.id) or c.mask for c in session.candidates if c.mask is not None}
        self.outlines.show(
            session.image,
            list(masks.values()),
            [look[number] for number in masks],
            session.channel,
            session.boxes.line_width(),
        )

    def _turned(self, *_: object) -> None:
        """Draw for two or three dimensions, once napari has sliced its layers for them."""
        self._soon("show")

    def _look(self) -> dict[int, np.ndarray]:
        """Colours of the candidates shown, by number; white for those chosen."""
        session = self.session
        shown = session.candidates
        rows = existing(session.features).set_index("id", drop=False).reindex([c.id for c in shown])
        colours = layers.box_colours(rows, session.colour_by) if shown else np.empty((0, 4))
        chosen = {candidate.id for candidate in session.chosen}
        return {c.id: np.ones(4) if c.id in chosen else colour for c, colour in zip(shown, colours, strict=True)}

    def _colours(self) -> DirectLabelColormap:
        look, clear = self._look(), np.zeros(4)
        look |= {number: np.ones(4) for number in self._painted if number not in look}
        colours: dict[int | None, np.ndarray] = dict(look.items())
        colours |= {0: clear, None: clear}
        return DirectLabelColormap(color_dict=colours)

    def _changed(self, *_: object) -> None:
        selected = self.session.selected
        if self.layer is not None and selected is not None:
            self.layer.selected_label = selected.id
        self._soon("show")

    def _soon(self, name: str) -> None:
        """Call a method after the current events; only once, even if requested several times."""
        if name not in self._later:
            self._later.add(name)
            QTimer.singleShot(0, weak(getattr(self, name)))

    # -- the brush --------------------------------------------------------------------

    @property
    def tool(self) -> str:
        """ "paint" while a napari tool edits masks, else ""."""
        if self.layer is None or self.viewer.layers.selection.active != self.layer:
            return ""
        return "" if str(self.layer.mode) in ("pan_zoom", "transform", "pick") else "paint"

    def use(self, tool: str) -> None:
        """Activate ("paint") or deactivate ("") napari's brush for the selected candidate's mask."""
        if tool == "paint" and self.ready():
            layer = existing(self.layer)
            layer.visible = layer.editable = True
            self.viewer.layers.selection.active = layer
            if self.session.selected is not None:
                layer.selected_label = self.session.selected.id
            layer.mode = "paint"
        elif tool != "paint" and self.tool:
            existing(self.layer).mode = "pan_zoom"
            self.viewer.layers.selection.active = self.session.boxes.layer or self.session.image
        self.show()

    def _mode_changed(self, *_: object) -> None:
        self._soon("show")
        self.session.using("")

    def _paint(self, event: Any) -> None:
        """Store a stroke, to be read after napari's own processing: some events come before the change."""
        self._strokes += strokes(event.value)
        self._soon("read")

    def read(self) -> None:
        """Apply strokes to masks; voxels with the number of no candidate become a new candidate of the user."""
        self._later.discard("read")
        done, self._strokes = self._strokes, []
        if self.layer is None:
            return
        added: dict[int, list[np.ndarray]] = {}
        removed: dict[int, list[np.ndarray]] = {}
        for voxels, before, after in done:
            for number in np.unique(before[before != after]).tolist():
                removed.setdefault(number, []).append(voxels[(before == number) & (after != number)])
            for number in np.unique(after[before != after]).tolist():
                added.setdefault(number, []).append(voxels[(after == number) & (before != number)])
        for number in sorted((added.keys() | removed.keys()) - {0}):
            none = np.empty((0, 3), int)
            more, less = (np.concatenate([none, *changes.get(number, [])]) for changes in (added, removed))
            self._change(number, more, less)
        self.show()

    def _change(self, number: int, added: np.ndarray, removed: np.ndarray) -> None:
        session = self.session
        candidate = next((c for c in session.boxed() if c.id == number), None)
        before = self._painted.get(number) or (None if candidate is None else candidate.mask)
        mask = edited(before, added, removed)
        if mask is None and candidate is not None:
            show_error(f"Nothing is left of the mask of candidate {number}, so it stays as it was. Reject it instead.")
            self._redraw([candidate])
            return
        if mask is None:
            return
        if candidate is None:
            candidate = self._new(mask, number)
            if candidate is None:
                return
        elif candidate in existing(session.detections).candidates:
            session.measure(candidate, _masked, candidate, session.detections, mask)
        else:  # it is being measured for the first time
            session.measure(candidate, session.outlined, candidate, session.detections, mask, drawn=True)
        self._painted[candidate.id] = mask
        self._drawn[candidate.id] = _about(self._drawn.get(candidate.id), mask.slices)

    def _new(self, mask: SourceMask, number: int) -> Candidate | None:
        """A new candidate of the user with a mask; its voxels get its number."""
        session, layer = self.session, existing(self.layer)
        try:
            candidate = replace(existing(session.detections), candidates=session.boxed()).drawn(box_of(mask))
        except ValueError as error:
            show_error(str(error))
            return None
        if candidate.id != number:
            part = layer.data[mask.slices]
            part[mask.voxels] = candidate.id
            layer.selected_label = candidate.id
            layer.refresh()
        session.measure(candidate, session.outlined, candidate, session.detections, mask, drawn=True)
        return candidate

    # -- synchronising ----------------------------------------------------------------

    def _measured(self, *_: object) -> None:
        """Forget painted masks once they are measured or rejected: then the candidates' own masks are drawn."""
        busy = self.session.busy() if self.session.detections is not None else set()
        done = [number for number in self._painted if number not in busy]
        for number in done:
            del self._painted[number]
        if done:
            self._soon("redraw")

    def _edited(self, candidates: Sequence[Candidate]) -> None:
        self._redraw(candidates)
        self._soon("show")

    def redraw(self) -> None:
        """Redraw all candidates whose voxels in the layer are outdated."""
        self._later.discard("redraw")
        if self.layer is not None:
            self._redraw(existing(self.session.detections).candidates)

    def _redraw(self, candidates: Sequence[Candidate]) -> None:
        """Redraw those of some candidates whose voxels in the layer are outdated."""
        if self.layer is None:
            return
        there = {id(candidate) for candidate in existing(self.session.detections).candidates}
        touched = []
        for candidate in candidates:
            mask = self._painted.get(candidate.id) or (candidate.mask if id(candidate) in there else None)
            spans = self._drawn.pop(candidate.id, None)
            if mask is not None:
                self._drawn[candidate.id] = mask.slices
                spans = _about(spans, mask.slices)
            if spans is not None:
                touched.append(spans)
        if touched:
            for spans in touched:
                self._draw(spans)
            self.layer.refresh()

    def _draw(self, spans: tuple[slice, ...]) -> None:
        """Draw all masks in a part of the cube, later ones over earlier ones, as `Detections.labels` does."""
        drawn = existing(self.layer).data
        part = np.zeros([s.stop - s.start for s in spans], drawn.dtype)
        for candidate in self.session.boxed():
            mask = self._painted.get(candidate.id) or candidate.mask
            if mask is None:
                continue
            both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(spans, mask.slices, strict=True)]
            if all(low < high for low, high in both):
                here = tuple(slice(lo - s.start, hi - s.start) for (lo, hi), s in zip(both, spans, strict=True))
                there = tuple(slice(lo - s.start, hi - s.start) for (lo, hi), s in zip(both, mask.slices, strict=True))
                part[here][mask.voxels[there]] = candidate.id
        drawn[spans] = part


def strokes(history: Sequence[Any]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Voxels (n, 3), and their numbers before and after, of each step of a stroke in napari's undo history.

    A step is (indices, before, after) or, for the brush since napari 0.9, a box with a mask in it.
    """
    for step in history:
        if hasattr(step, "slice_key"):
            corner = [part.start for part in step.slice_key]
            lengths = [part.stop - part.start for part in step.slice_key]
            inside = np.ones(lengths, bool) if step.mask is None else step.mask
            voxels = np.argwhere(inside) + corner
            before, after = np.asarray(step.old_values).ravel(), step.new_value
        else:
            indices, before, after = step
            voxels = np.stack([np.ravel(axis) for axis in indices], axis=1)
            before = np.ravel(before)
        yield voxels, before, np.broadcast_to(np.ravel(after), before.shape)


def _about(one: tuple[slice, ...] | None, other: tuple[slice, ...]) -> tuple[slice, ...]:
    """The smallest part of the cube that contains two parts."""
    if one is None:
        return other
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))


def _masked(candidate: Candidate, detections: Detections, mask: SourceMask) -> Candidate:
    from napari_almadet.remeasure import remask

    return remask(candidate, detections, mask)
