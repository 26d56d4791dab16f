"""The state shared by all panels of a viewer: cube, detections, candidate, channel, and all changes to candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd
from napari.layers import Image, Labels, Layer, Shapes
from napari.utils.notifications import show_error, show_info
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_almadet.catalogue.candidate import VERDICTS, Box, Candidate, EmissionPeak, SourceMask, Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.reviews import Carried, carry_over, match, name_after, named_too
from napari_almadet.plugin import layers
from napari_almadet.plugin.background import in_background, in_turns
from napari_almadet.plugin.box_layer import BoxLayer, weak
from napari_almadet.plugin.cube_places import CubePlaces
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.mask_layer import MaskLayer
from napari_almadet.plugin.napari_workarounds import import_apart, unobtrusive
from napari_almadet.plugin.shortcuts import KEYS
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_almadet.catalogue.result_folder import Journal
    from napari_almadet.detection import Networks, SearchNetworks

# Weak values: a session lives as long as a panel refers to it.
_sessions: WeakValueDictionary[int, Session] = WeakValueDictionary()


@dataclass(frozen=True)
class Filter:
    """Which candidates are shown; by default all except dropped ones.

    ``text`` is searched in number, kind, verdict, note, origin and status; ``kind`` and
    ``verdict`` are one of their values, or empty.
    """

    text: str = ""
    min_snr: float = 0.0
    min_prob: float = 0.0
    kind: str = ""
    verdict: str = ""
    dropped: bool = False

    def mask(self, rows: pd.DataFrame) -> np.ndarray:
        """Which rows of the `features` pass; values that were not measured fail any minimum above 0."""
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


@dataclass(frozen=True, eq=False)
class Change:
    """What :meth:`Session.undo` reverts: candidates with their previous state, None for new ones."""

    detections: Detections
    before: tuple[tuple[Candidate, dict[str, Any] | None], ...]


@dataclass(frozen=True, eq=False)
class Replacement:
    """A detection was replaced by another; undo restores it, with its journal and its changes."""

    detections: Detections
    earlier: Detections
    journal: Journal | None


@dataclass(frozen=True, eq=False)
class Measuring:
    """A candidate that is being measured in the background, and its detections."""

    candidate: Candidate
    detections: Detections
    drawn: bool  # not yet among the detections


@lru_cache(maxsize=1)
def networks_of(settings: Settings) -> Networks | SearchNetworks:
    """The networks given in the settings, loaded once."""
    import_apart("torch")
    from napari_almadet.detection import load_networks

    return load_networks(settings)


class Session:
    """The state that the panels of one viewer share.

    Results are stored in the layers: the layer of a cube carries its `Cube`, result layers the `Detections` they show
    (in ``metadata``).  Layers can therefore be renamed, reordered and removed, and a panel can be closed and opened
    again without losing anything.

    Every setter returns if the value does not change, so that one click causes one signal, even if several listeners
    set the same value.

    Attributes
    ----------
    image
        Layer of the cube under inspection, or None.
    detections
        The result of its search, or None if it was not searched.
    features
        Its candidates as columns, see :func:`~napari_almadet.plugin.layers.features`.
    candidates
        The candidates shown, in the order of the table.
    selected
        The candidate that all panels show, or None.
    probe
        A region that is shown while no candidate is selected, or None.
    chosen
        The candidates to which a verdict applies: `selected` and other marked rows.
    journal
        Where every change is recorded, see `napari_almadet.plugin.autosave`.
    keeper
        Writes the journal; stored here so that all panels share it.
    unfinished
        Reviews of a cube's candidates from a session that ended before it was first written; set by the keeper.
    boxes
        The boxes of the candidates on the canvas.
    masks
        Their masks.
    places
        Positions of the cubes along the spectral axis.
    channel
        Channel under the slider (0-based), or None without a cube.
    advance
        Whether a verdict selects the next candidate.
    networks
        Function of the settings that returns the networks for measuring a candidate again.

    Signals
    -------
    tool_changed
        Tool of the mouse on the canvas: "draw" or "edit" boxes, "paint" masks, or none ("").
    candidate_changed
        One candidate changed: verdict, note, box, emission range or measurements.  The candidate is the same object as
        before.  Also emitted when it was added or removed, after ``candidates_changed``.
    measuring_changed
        Number of candidates being measured in the background.
    edited
        List of all candidates changed by one action of the user.
    recorded
        The same with the detections they belong to, which may be those of a cube that is not shown.
    carried_over
        Reviews of an earlier detection were transferred to another, as `Carried`.
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
    recorded = Signal(object, list)
    carried_over = Signal(object)

    @classmethod
    def of(cls, viewer: Viewer) -> Session:
        """The session shared by the panels of a viewer; created if there is none."""
        # napari passes proxies of the viewer; their hash is that of the viewer itself.
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
        self.probe: Candidate | None = None
        self._ground: tuple[Image | None, Detections | None] = None, None
        self.journal: Journal | None = None
        self.keeper: object | None = None
        self.unfinished: Callable[[Cube], list[Candidate]] = lambda cube: []
        self.networks: Callable[[Settings], Networks | SearchNetworks] = networks_of
        self.advance = False
        self._changes: list[Change | Replacement] = []
        self._measuring: dict[int, Measuring] = {}  # by id(): the latest request to measure each candidate
        self._order = ("id", False)
        self._filter = Filter()
        self._outdated = False  # whether a new verdict or note may change which candidates are shown
        self._looked_at: dict[int, tuple[Detections, Candidate]] = {}  # last, by id() of the detections
        self._presenting = False
        self._restoring = False
        self._taking_up = False
        self.boxes = BoxLayer(self)
        self.masks = MaskLayer(self)
        self.places = CubePlaces(viewer)

        viewer.layers.events.inserted.connect(self._layer_inserted)
        viewer.layers.events.removed.connect(self._layer_removed)
        viewer.layers.selection.events.active.connect(self._layer_activated)
        viewer.dims.events.current_step.connect(self._slider_moved)
        viewer.dims.events.ndisplay.connect(self._turned)
        self._keys_on = False
        self.keys_on = True

    @property
    def keys_on(self) -> bool:
        """Whether the keys of :data:`~napari_almadet.plugin.shortcuts.KEYS` work on the canvas and in the table."""
        return self._keys_on

    @keys_on.setter
    def keys_on(self, on: bool) -> None:
        if on != self._keys_on:
            self._keys_on = on
            for name, (key, _) in KEYS.items():
                self.viewer.bind_key(key, weak(getattr(self, name)) if on else None, overwrite=True)

    # -- cubes and results ------------------------------------------------------------

    def cube_layers(self) -> list[Image]:
        """Layers that a detection can run on: images with three axes, or with four if the first has length 1."""
        images = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        return [image for image in images if not layers.refusal(image)]

    @property
    def n_channels(self) -> int:
        """Channels of the present cube."""
        return layers.voxels(self.image).shape[0]

    def inspect(self, image: Image | None) -> None:
        """Switch all panels to the layer of a cube, and to its earlier detections."""
        if image == self.image:
            return
        self.boxes.leave()
        self._remember()
        self.image, self.probe, stay = image, None, False
        self._leave_layers_of_others()
        if image is not None and isinstance(image.metadata.get("cube"), Cube):
            layers.north_up(self.viewer)
            stay = self.places.turn_to(image)
            self.places.show_field(image)
        self.image_changed.emit(image)
        self._adopt()
        self.boxes.arrive()
        self._slider_moved()
        self._select_again(stay)

    def _leave_layers_of_others(self) -> None:
        """Make the cube's layer the active one where a layer of another cube is; the user's own layers stay active.

        Else whatever activates that layer again, as after a layer was added, would turn the panels to the other cube.
        """
        active = self.viewer.layers.selection.active
        if self.image is None or active is None or active == self.image:
            return
        found, own = active.metadata.get("detections"), self.image.metadata.get("cube")
        of_another = isinstance(found, Detections) and found.cube is not own
        if of_another or active in self.cube_layers():
            self.viewer.layers.selection.active = self.image

    def _remember(self) -> None:
        """Remember which candidate was selected, for when the user returns to its cube."""
        if self.detections is not None and self.selected is not None:
            self._looked_at[id(self.detections)] = self.detections, self.selected

    def _select_again(self, stay: bool) -> None:
        """Select the candidate that was selected last; ``stay`` in the current channel, or go to its line."""
        detections, candidate = self._looked_at.pop(id(self.detections), (None, None))
        if detections is self.detections and any(c is candidate for c in self.candidates):
            channel = self.channel
            self.select(candidate)
            if stay and channel is not None:
                self.set_channel(channel)

    def present(self, image: Image, detections: Detections, journal: Journal | None = None) -> None:
        """Show detections with the layer of a cube; they replace earlier result layers of that cube."""
        for _ in self._presenting_steps(image, detections, layers.make_result_layers(detections, image, journal)):
            pass

    def present_in_turns(
        self, image: Image, detections: Detections, made: Sequence[Layer], window: QWidget, done: Callable[[], object]
    ) -> None:
        """Show detections in steps, between which the window stays responsive; ``done`` is called at the end.

        ``made`` are the result layers, see :func:`~napari_almadet.plugin.layers.make_result_layers`.
        """
        in_turns(self._presenting_steps(image, detections, made), window, done)

    def _presenting_steps(self, image: Image, detections: Detections, made: Sequence[Layer]) -> Iterator[None]:
        before, image.metadata["cube"] = image.metadata.get("cube"), detections.cube  # each run prepares the cube again
        earlier = self._results(detections.cube) + (self._results(before) if before is not detections.cube else [])
        # reviews are carried over to new detections only, not to a saved session
        kept = self._hand_over(earlier, detections, carry=made[0].metadata.get("journal") is None)
        boxes = next(layer for layer in made if isinstance(layer, Shapes))
        first = [layer for layer in earlier if isinstance(layer, Shapes) or image != self.image]
        yield from self._remove(first)
        self._insert(boxes, len(self.viewer.layers))  # first: the user waits for them
        yield
        if image == self.image:
            self._adopt(None if kept else boxes.features.copy(), detections)
        elif image in self.viewer.layers:
            self.inspect(image)
        yield
        first_one = self.candidates[0] if self.candidates else None
        if first_one is not None and self.selected is None and first_one.primary is not None:
            self.set_channel(first_one.primary.channel)  # apart: the canvas takes as long to draw as the panels
            yield
        if first_one is not None and self.selected is None:
            self.select(first_one)
            yield
        yield from self._remove([layer for layer in earlier if layer not in first])
        for layer in made:
            if layer is not boxes:
                at = self.viewer.layers.index(boxes) if boxes in self.viewer.layers else len(self.viewer.layers)
                self._insert(layer, at)
                if isinstance(layer, Labels) and self.detections is detections:
                    self.masks.adopt(layer)
                yield

    def _remove(self, layers_there: Sequence[Layer]) -> Iterator[None]:
        """Remove layers, one per step."""
        for layer in layers_there:
            if layer in self.viewer.layers:  # the user may have removed it meanwhile
                with unobtrusive:
                    self.viewer.layers.remove(layer)
            yield

    def _insert(self, layer: Layer, at: int) -> None:
        """Put a layer of a result among the others; of those, the boxes are the active one."""
        active = self.viewer.layers.selection.active
        self._presenting = True
        try:
            self.viewer.layers.insert(at, layer)
        finally:
            self._presenting = False
        if not isinstance(layer, Shapes):
            self.viewer.layers.selection.active = active

    def _hand_over(self, earlier: Sequence[Layer], detections: Detections, carry: bool) -> Carried | None:
        """Remember an earlier detection that is replaced, and ``carry`` the user's reviews over.

        Also called when undo restores a detection; then nothing is carried over or remembered.
        """
        former = next((layer.metadata["detections"] for layer in earlier), None)
        if former is detections or self._restoring:
            return None
        reviewed = self.unfinished(detections.cube) if carry else []
        if former is not None:
            self._changes.append(Replacement(detections, former, earlier[0].metadata.get("journal")))
            reviewed = former.candidates
        if not carry or not reviewed:
            return None
        carried = carry_over(reviewed, detections.candidates, detections.cube.beam_fwhm)
        self.carried_over.emit(carried)
        return carried

    def keep_in(self, detections: Detections, journal: Journal) -> None:
        """Record changes to detections in a journal from now on."""
        for layer in self._results(detections.cube):
            if layer.metadata["detections"] is detections:
                layer.metadata["journal"] = journal
        if self.detections is detections:
            self.journal = journal

    def journal_of(self, detections: Detections) -> Journal | None:
        """The journal of detections, whether they are shown or not."""
        if self.detections is detections:
            return self.journal
        carrying = [layer for layer in self.viewer.layers if layer.metadata.get("detections") is detections]
        return carrying[0].metadata.get("journal") if carrying else None

    @property
    def filter_by(self) -> Filter:
        """Set which candidates are listed and drawn."""
        return self._filter

    @filter_by.setter
    def filter_by(self, wanted: Filter) -> None:
        if wanted != self._filter:
            self._filter = wanted
            self._list()

    def sort(self, column: str, descending: bool = False) -> None:
        """Sort the candidates shown by a column of `features`; next and previous follow that order."""
        if (column, descending) != self._order:
            self._order = (column, descending)
            self._list()

    def _results(self, cube: Cube) -> list[Layer]:
        """The result layers of a cube that have not been removed."""
        carried = [(layer, layer.metadata.get("detections")) for layer in self.viewer.layers]
        return [layer for layer, found in carried if isinstance(found, Detections) and found.cube is cube]

    def _adopt(self, rows: pd.DataFrame | None = None, detections: Detections | None = None) -> None:
        """Use the detections carried by the result layers of the current cube.

        ``rows`` are their features, if known; ``detections`` say which, where layers of earlier ones are still there.
        """
        self.boxes.adopt(None)
        self.masks.adopt(None)
        cube = self.image.metadata.get("cube") if self.image is not None else None
        results = self._results(cube) if cube is not None else []
        if detections is not None:
            results = [layer for layer in results if layer.metadata["detections"] is detections]
        found: Detections | None = results[0].metadata["detections"] if results else None
        self.detections, self.features = found, None
        self.journal = results[0].metadata.get("journal") if results else None
        if found is not None:
            self.features = layers.features(found, found.candidates) if rows is None else rows
        self.select(None)
        self.boxes.adopt(next((layer for layer in results if isinstance(layer, Shapes)), None))
        self.masks.adopt(next((layer for layer in results if isinstance(layer, Labels)), None))
        self.detections_changed.emit(self.detections)
        self.boxes.fit()
        self._list()

    def _list(self) -> None:
        """Update the list of candidates shown, and its order."""
        self.candidates = []
        self._outdated = False
        if self.detections is not None:
            column, descending = self._order
            by_id = {c.id: c for c in self.detections.candidates}
            features = existing(self.features)
            shown = features[self._filter.mask(features)]
            ordered = shown.sort_values(column, ascending=not descending, kind="stable")
            self.candidates = [by_id[i] for i in ordered["id"]]
        listed = {id(candidate) for candidate in self.candidates}
        if self.selected is not None and id(self.selected) not in listed:
            self.select(None)
        elif any(id(candidate) not in listed for candidate in self.chosen):
            self.choose([c for c in self.chosen if id(c) in listed], self.selected)
        self.boxes.paint()
        self.boxes.mark()
        self.candidates_changed.emit(self.candidates)

    # -- the selected candidate -------------------------------------------------------

    @property
    def subject(self) -> Candidate | None:
        """What the panels show: the selected candidate, or else the current region."""
        return self.selected if self.selected is not None else self.probe

    @property
    def ground(self) -> Detections:
        """The current detections, or the bare cube as detections without candidates.

        While the session turns to another cube, its detections are for a moment those of the former one.
        """
        own = None if self.image is None else self.image.metadata.get("cube")
        if self.detections is not None and (self.image is None or self.detections.cube is own):
            return self.detections
        image, ground = self._ground
        if image != self.image or ground is None:
            cube = layers.cube_of(self.image)
            empty = np.empty(cube.shape[1:], np.float32)
            ground = Detections(cube, Settings(), [], empty, empty, {})
            self._ground = self.image, ground
        return ground

    def look_at(self, probe: Candidate | None) -> None:
        """Show a region while no candidate is selected; ``probe`` stands for it, and belongs to no detections."""
        if probe is not self.probe:
            self.probe = probe
            if self.selected is None:
                self.selection_changed.emit(probe)

    def select(self, candidate: Candidate | None) -> None:
        """Show a candidate in all panels: box, table, spectrum, image, channel, position in the field."""
        self.choose([] if candidate is None else [candidate], candidate)

    def choose(self, candidates: Sequence[Candidate], selected: Candidate | None) -> None:
        """Mark several candidates for a common verdict; ``selected`` is the one that all panels show."""
        others = [id(c) for c in candidates] != [id(c) for c in self.chosen]
        another = selected is not self.selected
        self.chosen, self.selected = list(candidates), selected
        if not (others or another):
            return
        if another and selected is not None:
            if selected.primary is not None:
                self.set_channel(selected.primary.channel)
            self._bring_into_view(selected)
        self.boxes.mark()  # after they were painted: napari draws the next box in the colour of the one marked
        if another:
            self.selection_changed.emit(self.subject)
        if others:
            self.chosen_changed.emit(self.chosen)

    def next(self, *_: object) -> None:
        """Select the candidate below the selected one; after the last comes the first."""
        self._step(1)

    def previous(self, *_: object) -> None:
        """Select the candidate above the selected one; before the first comes the last."""
        self._step(-1)

    def _step(self, by: int) -> None:
        """Move in the list; candidates that no longer match the filter are skipped and hidden."""
        if not self.candidates:
            return
        place = self._place()
        start = (-1 if by > 0 else 0) if place is None else place
        ahead = [self.candidates[(start + by * k) % len(self.candidates)] for k in range(1, len(self.candidates) + 1)]
        if self._outdated:
            features = existing(self.features)
            fit = set(features["id"][self._filter.mask(features)])
            ahead = [candidate for candidate in ahead if candidate.id in fit]
        self.select(ahead[0] if ahead else None)
        if self._outdated:
            self._list()

    def _place(self) -> int | None:
        """Index of the selected candidate among those shown."""
        return next((i for i, c in enumerate(self.candidates) if c is self.selected), None)

    # -- the boxes --------------------------------------------------------------------

    @property
    def colour_by(self) -> str:
        """What the colours of the boxes show, a key of :data:`~napari_almadet.plugin.layers.COLOURINGS`."""
        return self.boxes.colour_by

    @colour_by.setter
    def colour_by(self, column: str) -> None:
        if column != self.boxes.colour_by:
            self.boxes.colour_by = column
            self.candidates_changed.emit(self.candidates)

    @property
    def boxes_everywhere(self) -> bool:
        """Whether boxes are shown in all channels, not only in those of their emission range."""
        return self.boxes.everywhere

    @boxes_everywhere.setter
    def boxes_everywhere(self, everywhere: bool) -> None:
        self.boxes.everywhere = everywhere

    @property
    def tool(self) -> str:
        """What the mouse does on the canvas: "draw" or "edit" boxes, "paint" masks, or none ("")."""
        return self.boxes.tool or self.masks.tool

    def use(self, tool: str) -> None:
        """Activate a tool: "draw" a box of a new candidate, "edit" boxes, "paint" masks, or none ("")."""
        self.masks.use(tool)
        if tool != "paint":
            self.boxes.use(tool)

    def using(self, _: str) -> None:
        """What the mouse does on the canvas changed."""
        self.tool_changed.emit(self.tool)

    def boxed(self) -> list[Candidate]:
        """The candidates of the current detections, and drawn ones that are still being measured."""
        drawn = [m.candidate for m in self._measuring.values() if m.drawn and m.detections is self.detections]
        return [*existing(self.detections).candidates, *drawn]

    def busy(self) -> set[int]:
        """Numbers of the present candidates that are being measured."""
        return {m.candidate.id for m in self._measuring.values() if m.detections is self.detections}

    def boxes_removed(self, candidates: list[Candidate]) -> None:
        """Handle the removal of boxes: drawn candidates are removed, detected ones are rejected."""
        self._change([(c, {"verdict": "rejected"} if c.origin in ("found", "edited") else None) for c in candidates])

    # -- reviewing candidates ----------------------------------------------------------

    @property
    def measuring(self) -> int:
        """How many candidates are being measured in the background."""
        return len(self._measuring)

    def set_verdict(self, candidates: Sequence[Candidate], verdict: str) -> None:
        """Set the verdict of candidates, one of `VERDICTS`; one undo reverts all of them."""
        if verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}")
        self._change([(candidate, {"verdict": verdict}) for candidate in candidates if candidate.verdict != verdict])

    def accept(self, *_: object) -> None:
        """Accept the chosen candidates."""
        self._judge("accepted")

    def reject(self, *_: object) -> None:
        """Reject the chosen candidates."""
        self._judge("rejected")

    def clear_verdict(self, *_: object) -> None:
        """Clear the verdict of the chosen candidates."""
        self._judge("unreviewed")

    def _judge(self, verdict: str) -> None:
        self.set_verdict(self.chosen, verdict)
        if self.advance and len(self.chosen) == 1:
            self.next()

    def set_note(self, candidate: Candidate, note: str) -> None:
        """Set the note of a candidate."""
        if note != candidate.note:
            self._change([(candidate, {"note": note})])

    def refocus(self, candidate: Candidate, channels: tuple[int, int]) -> None:
        """Set another range of channels, half-open, for the image and flux of a candidate, in a thread.

        Its line-integrated image, signal-to-noise ratios and flux are measured again, its line does not change; then
        `candidate_changed` is emitted.  Of several calls in quick succession only the last one has an effect.
        """
        channels = channels[0], channels[1]  # a tuple, whatever pair was given
        if candidate is self.probe:
            candidate.channels, candidate.focused = channels, None
            self.edited.emit([candidate])
        elif channels != candidate.channels:
            self.measure(candidate, _refocused, candidate, self.detections, channels)

    def follow_line(self, candidate: Candidate, peak: EmissionPeak) -> None:
        """Measure a candidate on another of its lines, or on one that was fitted, in a thread."""
        detections = existing(self.detections)
        if peak != candidate.primary or candidate.channels != peak.emission_range(detections.cube.shape[0]):
            self.measure(candidate, _on_line, candidate, detections, peak)

    def move(self, candidate: Candidate, box: Box) -> None:
        """Measure a candidate in another box, in a thread; `candidate_changed` follows."""
        self.measure(candidate, self._moved, candidate, self.detections, box)

    def add(self, box: Box) -> Candidate | None:
        """Make a candidate from a box that the user drew: it is measured in a thread, then listed and selected.

        In a cube that was not searched, new detections are created for it.

        Returns the candidate, not yet measured; None, with a message to the user, if the box is outside the field.
        """
        if self.detections is None:
            self._start_with(box)
            return None
        known = replace(self.detections, candidates=self.boxed())
        try:
            candidate = known.drawn(box)
        except ValueError as error:
            show_error(str(error))
            return None
        self.measure(candidate, self._moved, candidate, self.detections, box, drawn=True)
        return candidate

    def _start_with(self, box: Box) -> None:
        """Create detections for a cube that was not searched, with a box that the user drew."""
        image = self.image

        def work() -> Detections:
            from napari_almadet import remeasure

            cube, settings = layers.cube_of(image), Settings()
            return remeasure.unsearched(cube, settings, self.networks(settings))

        def done(found: Detections) -> None:
            if image in self.viewer.layers:
                self.present(image, found)
                if self.image == image:
                    self.add(box)

        in_background(work, done=done, failed=lambda error: show_error(str(error)))

    def merge(self, *_: object) -> None:
        """Merge the chosen candidates into one, measured in the box around all of them, in a thread."""
        parts, detections = list(self.chosen), self.detections
        if detections is None or len(parts) < 2:
            show_error("Select at least two candidates to merge.")
            return
        number = self._next_number()

        def work() -> list[Candidate]:
            from napari_almadet.remeasure import merge

            return [merge(parts, detections, number, self.networks(detections.settings))]

        self._exchange(work, parts, detections)

    def split(self, *_: object) -> None:
        """Split the selected candidate, by its lines or its peaks, in a thread; one undo reverts it."""
        candidate, detections = self.selected, self.detections
        if detections is None or candidate is None:
            return
        number = self._next_number()

        def work() -> list[Candidate]:
            from napari_almadet.remeasure import split

            return split(candidate, detections, number, self.networks(detections.settings))

        self._exchange(work, [candidate], detections)

    def _next_number(self) -> int:
        return max((candidate.id for candidate in self.boxed()), default=0) + 1

    def _exchange(self, work: Callable[[], list[Candidate]], old: list[Candidate], detections: Detections) -> None:
        """Replace candidates by ones measured in a thread, as one change."""

        def done(new: list[Candidate]) -> None:
            there = {id(candidate) for candidate in detections.candidates}
            if all(id(candidate) in there for candidate in old):  # the user may have removed them meanwhile
                self._change([*((c, {}) for c in new), *((c, None) for c in old)], detections)

        def failed(error: Exception) -> None:
            show_error(f"Candidate {', '.join(str(c.id) for c in old)}: {error}.")

        in_background(work, done=done, failed=failed)

    def take_in(self, path: str | Path) -> None:
        """Import sources from a catalogue or region file of another program as candidates, in a thread.

        If the cube was not searched, they are its only candidates.
        """
        image, detections = self.image, self.detections
        notes: list[str] = []  # on unsupported content of the file

        def work() -> tuple[Detections, list[Candidate]]:
            from napari_almadet import remeasure
            from napari_almadet.catalogue.export import read_sources
            from napari_almadet.settings import Settings

            cube = layers.cube_of(image) if detections is None else detections.cube
            sources = read_sources(path, cube, notes)
            settings = Settings() if detections is None else detections.settings
            networks = self.networks(settings)
            found = detections or remeasure.unsearched(cube, settings, networks)
            taken = remeasure.take_in(found, [(source.box, source.channels) for source in sources], networks)
            for candidate, source in zip(taken, sources, strict=True):
                name_after(candidate, source, Path(path).name)
            return found, taken

        def done(outcome: tuple[Detections, list[Candidate]]) -> None:
            found, taken = outcome
            if notes:
                show_info(" ".join(notes))
            if detections is not None:
                self._take(taken, detections)
            elif image in self.viewer.layers:
                found.candidates += taken
                self.present(image, found)

        in_background(work, done=done, failed=lambda error: show_error(str(error)))

    def _take(self, taken: list[Candidate], detections: Detections) -> None:
        """Add imported sources to the candidates, except those that are already candidates."""
        there = [candidate for candidate in detections.candidates if candidate.status is not Status.DROPPED]
        pairs = match(taken, there, detections.cube.beam_fwhm)
        known = {id(imported) for imported, _ in pairs}
        new = [candidate for candidate in taken if id(candidate) not in known]
        for number, candidate in enumerate(new, start=max((c.id for c in detections.candidates), default=0) + 1):
            candidate.id = number
        known_now = [(candidate, named_too(candidate, imported)) for imported, candidate in pairs]
        self._change([*known_now, *((candidate, {}) for candidate in new)], detections)
        if pairs:
            numbers = ", ".join(str(candidate.id) for _, candidate in pairs)
            show_info(f"{len(pairs)} of {len(taken)} imported sources are already candidates ({numbers}).")

    def undo(self, *_: object) -> None:
        """Revert the last change in the current detections, including the replacement of a detection by another."""
        for change in reversed(self._changes):
            if change.detections is self.detections:
                self._changes.remove(change)
                if isinstance(change, Replacement):
                    self._restore(change)
                else:
                    self._apply(change.before, change.detections)
                return

    def _restore(self, change: Replacement) -> None:
        """Restore an earlier detection as it was when it was replaced."""
        self._restoring = True
        try:
            self.present(self.image, change.earlier, change.journal)
        finally:
            self._restoring = False

    def _moved(self, candidate: Candidate, detections: Detections, box: Box) -> Candidate:
        from napari_almadet.remeasure import move

        return move(candidate, detections, box, self.networks(detections.settings))

    def outlined(self, candidate: Candidate, detections: Detections, mask: SourceMask) -> Candidate:
        """Add a candidate of the user, with the line in the box around its mask, measured in the mask."""
        from napari_almadet.remeasure import remask

        return remask(self._moved(candidate, detections, candidate.box), detections, mask)

    def measure(self, candidate: Candidate, work: Callable[..., Candidate], *args: Any, drawn: bool = False) -> None:
        """Measure a candidate in a thread; the result is discarded if there has been a later request.

        The candidate is changed in its own detections, whichever cube is shown by then.
        """
        before = self._measuring.get(id(candidate))
        request = Measuring(candidate, existing(self.detections), drawn or (before is not None and before.drawn))
        self._measuring[id(candidate)] = request
        self.measuring_changed.emit(len(self._measuring))

        def finished() -> bool:
            if self._measuring.get(id(candidate)) is not request:
                return False
            del self._measuring[id(candidate)]
            self.measuring_changed.emit(len(self._measuring))
            return True

        def done(measured: Candidate) -> None:
            if finished():
                review = {"verdict": candidate.verdict, "note": candidate.note}  # may have come in the meantime
                self._change([(candidate, {**vars(measured), **review})], request.detections)

        def failed(error: Exception) -> None:
            if finished():
                if self.detections is request.detections:
                    self.boxes.sync()
                show_error(f"Candidate {candidate.id} could not be measured: {error}")

        in_background(work, *args, done=done, failed=failed)

    def _change(
        self, changes: Sequence[tuple[Candidate, dict[str, Any] | None]], detections: Detections | None = None
    ) -> None:
        """Change candidates, add new ones, remove those given as None, and save the previous state for undo.

        ``detections`` are those they belong to; default: the current ones.
        """
        if changes:
            detections = existing(self.detections) if detections is None else detections
            there = {id(candidate) for candidate in detections.candidates}
            before = tuple((c, dict(vars(c)) if id(c) in there else None) for c, _ in changes)
            self._changes.append(Change(detections, before))
            states = [(c, None if values is None else {**vars(c), **values}) for c, values in changes]
            self._apply(states, detections)

    def _apply(self, states: Sequence[tuple[Candidate, dict[str, Any] | None]], detections: Detections) -> None:
        """Set the state of candidates (None: removed), and emit the signals."""
        listed = detections.candidates
        there = {id(candidate) for candidate in listed}
        reshaped = False
        for candidate, state in states:
            added = id(candidate) not in there
            reshaped = reshaped or added or state is None or state["box"] != candidate.box
            if state is None:
                listed[:] = [c for c in listed if c is not candidate]
            else:
                if added and any(c.id == state["id"] for c in listed):  # another candidate has the number by now
                    state = {**state, "id": max(c.id for c in listed) + 1}
                vars(candidate).update(state)
                listed.extend([candidate] * added)
        changed = [candidate for candidate, _ in states]
        if detections is self.detections:
            self._show_changed(changed, there, reshaped)
        self.recorded.emit(detections, changed)

    def _show_changed(self, changed: list[Candidate], there: set[int], reshaped: bool) -> None:
        """Update everything that shows the changed candidates; ``there`` are those that were listed, by id()."""
        listed = existing(self.detections).candidates
        self._outdated = True
        self._refresh_features(changed)
        if reshaped:
            self.boxes.sync()
        else:
            self.boxes.rewrite(changed)
        kept = self._place()
        if {id(candidate) for candidate in listed} != there:
            self._list()
        for candidate in changed:
            self.candidate_changed.emit(candidate)
        self.edited.emit(changed)
        new = [candidate for candidate in listed if id(candidate) not in there]
        if new:
            self.select(new[-1])
        elif self.selected is None and self.candidates and kept is not None:  # it was removed: select its neighbour
            self.select(self.candidates[min(kept, len(self.candidates) - 1)])

    def _refresh_features(self, changed: list[Candidate]) -> None:
        """Update the rows of some candidates."""
        detections, features = existing(self.detections), existing(self.features)
        removed = {c.id for c in changed}
        there = [c for c in changed if any(c is other for other in detections.candidates)]
        rows = features[~features["id"].isin(removed)]
        self.features = pd.concat([rows, layers.features(detections, there)], ignore_index=True)

    # -- the channel and the camera ---------------------------------------------------

    def _turned(self, *_: object) -> None:
        """Fit the current cube again once napari has fitted all of them, which may be far apart on the sky."""
        if len(self.places.cubes()) > 1:
            QTimer.singleShot(0, weak(self._fit_view))

    def _fit_view(self) -> None:
        if self.image in self.viewer.layers:
            self.places.fit_view(self.image)

    def set_channel(self, channel: int) -> None:
        """Move the slider to a channel of the cube."""
        if self.image is None:
            return
        channel = min(max(channel, 0), self.n_channels - 1)
        if channel == self.channel:
            return
        origin = self.image.data_to_world((channel, 0, 0))
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, origin[-3])

    def _slider_moved(self, event: object = None) -> None:
        channel = None
        if self.image is not None:
            point = self.image.world_to_data(self.viewer.dims.point)
            channel = int(np.clip(np.round(point[-3]), 0, self.n_channels - 1))
        if channel != self.channel:
            self.channel = channel
            self.boxes.show()
            self.channel_changed.emit(channel)

    def _bring_into_view(self, candidate: Candidate) -> None:
        """Centre the camera on a candidate that is not in the visible part of the canvas."""
        if self.viewer.dims.ndisplay != 2:
            return
        camera = self.viewer.scene.camera
        x, y = candidate.position
        centre = np.array(existing(self.image).data_to_world((0, y, x))[-2:])
        half = np.array(self.viewer.canvas.size) / camera.zoom / 2
        if np.any(np.abs(centre - np.array(camera.center[-2:])) > 0.95 * half):
            camera.center = (*camera.center[:-2], *centre)

    # -- changes of layers by the user --------------------------------------------------

    def _layer_inserted(self, event: Any) -> None:
        """Use detections in new layers, for example from a folder dropped onto napari."""
        found = event.value.metadata.get("detections")
        if isinstance(found, Detections) and not self._presenting and not self._taking_up:
            self._taking_up = True
            QTimer.singleShot(0, weak(self._take_up))  # after all layers of the same result are inserted
        elif event.value.metadata.get("map") is not None:
            self.boxes.on_top()

    def _take_up(self) -> None:
        self._taking_up = False
        for image in self.cube_layers():
            if self.detections is None and self._results(image.metadata.get("cube")):
                self._adopt() if image == self.image else self.inspect(image)
        if self.selected is None and self.candidates:
            self.select(self.candidates[0])

    def _layer_removed(self, event: Any) -> None:
        layer = event.value
        cube = layer.metadata.get("cube")
        if isinstance(cube, Cube):
            self._changes = [change for change in self._changes if change.detections.cube is not cube]
        if layer == self.image:
            self.inspect(None)
        elif layer == self.boxes.layer:
            self.boxes.adopt(None)  # table and panels work without it
        elif layer == self.masks.layer:
            self.masks.adopt(None)

    def _layer_activated(self, event: Any) -> None:
        """Switch to another cube when its layer, or one of its result layers, is activated."""
        layer = event.value
        self.boxes.tool_changed()
        if layer is None:
            return
        detections = layer.metadata.get("detections")
        for image in self.cube_layers():
            if image == layer or (isinstance(detections, Detections) and image.metadata.get("cube") is detections.cube):
                self.inspect(image)


def _on_line(candidate: Candidate, detections: Detections, peak: EmissionPeak) -> Candidate:
    from napari_almadet.remeasure import follow_line

    return follow_line(candidate, detections, peak)


def _refocused(candidate: Candidate, detections: Detections, channels: tuple[int, int]) -> Candidate:
    from napari_almadet.remeasure import refocus

    return refocus(candidate, detections, channels)
