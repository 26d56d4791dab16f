"""Inspection without a detection: the spectrum under the pointer, and regions of the sky, in the same panels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from napari.layers import Shapes
from napari.utils.notifications import show_warning
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.inspection.regions import Region, region_of, region_spectrum
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.box_layer import CLICK_SLOP, weak
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import sky_plane
from napari_almadet.plugin.session import Session

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

POINTER_MS = 40  # minimum interval between spectra while the pointer moves
TOOLS = {"box": "add_rectangle", "ellipse": "add_ellipse", "polygon": "add_polygon"}  # napari's modes
NAMES = {"rectangle": "box", "ellipse": "ellipse", "polygon": "polygon"}
WHOLE = "whole field"
# Colours of the curves of regions, visible on dark and light backgrounds; the first is that of the pointer.
COLOURS = ("#e0a030", "#40c0a0", "#d070d0", "#7090ff", "#e07050", "#90c040")
LARGE = 2**28  # voxels (1 GB): larger regions are read only after confirmation


class Look:
    """Regions and pointer of a session; they become candidates only if the user requests it.

    Attributes
    ----------
    regions
        Drawn or clicked regions, in their order; a click makes a region of one pixel.
    chosen
        The region that the panels show while no candidate is selected, or None.
    follow
        Whether the spectrum under the pointer is shown.
    """

    changed = Signal()  # a region or a spectrum has changed

    def __init__(self, session: Session):
        self.session, self.viewer = session, session.viewer
        self.regions: list[Region] = []
        self.chosen: Region | None = None
        self.layer: Shapes | None = None
        self._point: Region | None = None
        self._whole: Region | None = None
        self._follow = True
        self._pointer: tuple[int, int] | None = None
        self._pointed: tuple[str, u.Quantity] | None = None
        self._spectra: dict[int, u.Quantity | None] = {}  # by id() of regions; None while it is read
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(weak(self._read_pointer))
        session.image_changed.connect(self.clear)
        self.viewer.cursor.events.position.connect(self._pointer_moved)
        self.viewer.layers.events.removed.connect(self._layer_removed)
        self.viewer.mouse_drag_callbacks.append(weak(self._pressed))

    @property
    def cube(self) -> Cube | None:
        """The current cube, or None."""
        return None if self.session.image is None else self.session.ground.cube

    @property
    def _open_cube(self) -> Cube:
        return existing(self.cube)

    # -- the pointer ------------------------------------------------------------------

    @property
    def follow(self) -> bool:
        """Whether the spectrum under the pointer is shown."""
        return self._follow

    @follow.setter
    def follow(self, on: bool) -> None:
        self._follow = on
        if not on:
            self._pointer = self._pointed = None
        self.changed.emit()

    def _pointer_moved(self, *_: object) -> None:
        if self._follow and self.viewer.mouse_over_canvas and not self._timer.isActive():
            self._timer.start(POINTER_MS)

    def _read_pointer(self) -> None:
        pixel = self._pixel_at(self.viewer.cursor.position)
        if pixel is None or pixel == self._pointer:
            return
        self._pointer = y, x = pixel
        region = Region(f"pointer x {x}, y {y}", Box(y, y + 1, x, x + 1), np.ones((1, 1), bool))
        self._pointed = region.name, region_spectrum(self._open_cube, region)
        self.changed.emit()

    def _pixel_at(self, position: tuple[float, ...]) -> tuple[int, int] | None:
        image = self.session.image
        if image is None or self.viewer.dims.ndisplay == 3:
            return None
        y, x = np.round(image.world_to_data(position)[-2:]).astype(int)
        ny, nx = self._open_cube.shape[1:]
        return (int(y), int(x)) if 0 <= y < ny and 0 <= x < nx else None

    def _pressed(self, viewer: Any, event: Any) -> Iterator[None]:
        """Keep the spectrum of a pixel that is clicked outside all boxes."""
        active = self.viewer.layers.selection.active
        pressed = np.array(event.pos)
        looks = event.button == 1 and (active is None or active.mode == "pan_zoom")
        yield
        while event.type == "mouse_move":
            looks = looks and np.abs(np.array(event.pos) - pressed).max() <= CLICK_SLOP
            yield
        pixel = self._pixel_at(event.position) if looks else None
        if pixel is not None and not self.session.boxes.at(event.position):
            self.point(*pixel)

    # -- regions ----------------------------------------------------------------------

    def point(self, y: int, x: int) -> None:
        """Show one pixel, instead of the previous one."""
        self._point = region_of("point", np.array([[y, x]]), self._open_cube.shape[1:], f"pixel x {x}, y {y}")
        self._list(self._point)

    def whole_field(self) -> None:
        """Show the whole field, if it is not too large to be read."""
        if np.prod(self._open_cube.shape) > LARGE:
            show_warning(f"{self._open_cube.name} is too large to be read as a whole: draw a region.")
            return
        ny, nx = self._open_cube.shape[1:]
        self._whole = Region(WHOLE, Box(0, ny, 0, nx), np.ones((ny, nx), bool))
        self._list(self._whole)

    def draw(self, tool: str) -> None:
        """Let the user draw a region, with one of `TOOLS`."""
        if self.layer is None:
            image = existing(self.session.image)
            self.layer = Shapes(
                ndim=2,
                name=f"{image.name} regions",
                **sky_plane(image),
                edge_color=COLOURS[1],
                face_color="transparent",
                edge_width=self.session.boxes.line_width(),
                metadata={"regions": True},
            )
            self.viewer.add_layer(self.layer)
            self.layer.events.data.connect(self._drawn)
        self.viewer.layers.selection.active = self.layer
        self.layer.mode = TOOLS[tool]

    def _drawn(self, event: Any) -> None:
        if str(event.action) in ("added", "changed", "removed"):
            QTimer.singleShot(0, weak(self._read_shapes))

    def _read_shapes(self) -> None:
        """Update the regions from the shapes drawn; the one added or moved last is chosen."""
        before = {region.name: region for region in self.regions}
        self._list(None)
        news = [r for r in self.regions if r.name not in before or not _alike(r, before[r.name])]
        if news:
            self.choose(news[-1])

    def _list(self, chosen: Region | None) -> None:
        drawn = []
        if self.layer is not None:
            shapes = zip(self.layer.data, self.layer.shape_type, strict=True)
            for number, (vertices, kind) in enumerate(shapes, start=1):
                if kind in NAMES:
                    drawn.append(region_of(kind, vertices, self._open_cube.shape[1:], f"{NAMES[kind]} {number}"))
        self.regions = [region for region in (self._whole, self._point, *drawn) if region is not None]
        kept = {id(region) for region in self.regions}
        self._spectra = {key: value for key, value in self._spectra.items() if key in kept}
        wanted = chosen if chosen is not None else self.chosen
        names = {region.name: region for region in self.regions}
        self.choose(names.get(wanted.name) if wanted is not None else None)

    def choose(self, region: Region | None) -> None:
        """Show a region in the panels while no candidate is selected."""
        self.chosen = region
        self.changed.emit()
        self.session.look_at(None if region is None else self._probe(region))

    def _probe(self, region: Region) -> Candidate:
        """A region in the form that the panels need: a candidate over the whole band that belongs to no detections."""
        return Candidate(0, region.box, np.nan, channels=(0, self._open_cube.shape[0]), kind="region")

    def clear(self, *_: object) -> None:
        """Remove all regions and their layer."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)
        self.regions, self.chosen, self._point, self._whole = [], None, None, None
        self._pointer = self._pointed = None
        self._spectra.clear()
        self.changed.emit()
        self.session.look_at(None)

    def _layer_removed(self, event: Any) -> None:
        if event.value is self.layer and self.layer is not None:
            self.layer = None
            self._list(None)

    def make_candidate(self) -> None:
        """Make a candidate from the chosen region; its box is measured like a drawn one."""
        if self.chosen is not None:
            self.session.add(self.chosen.box)

    # -- spectra ----------------------------------------------------------------------

    def spectrum(self, region: Region) -> u.Quantity | None:
        """Spectrum of a region; None while it is read in the background."""
        if id(region) not in self._spectra:
            cube = self._open_cube
            self._spectra[id(region)] = None
            if cube.shape[0] * np.prod(region.box.shape) <= 2**20:
                self._spectra[id(region)] = region_spectrum(cube, region)
            else:
                done = partial(self._read, region)
                in_background(region_spectrum, cube, region, done=done, failed=lambda error: show_warning(str(error)))
        return self._spectra[id(region)]

    def _read(self, region: Region, found: u.Quantity) -> None:
        if any(region is other for other in self.regions):
            self._spectra[id(region)] = found
            self.changed.emit()

    def pixels_of(self, name: str) -> int:
        """Number of pixels that each profile is summed over, by name."""
        return next((region.pixels for region in self.regions if region.name == name), 1)

    def any_profiles(self) -> bool:
        """Whether there are profiles besides the spectrum that the panels show."""
        return bool(self.regions) or self._pointed is not None

    def profiles(self) -> list[tuple[str, str, u.Quantity]]:
        """Name, colour and spectrum of the pointer and of all regions except the one that the panels show."""
        shown = self.chosen if self.session.selected is None else None
        curves = []
        for number, region in enumerate(self.regions, start=1):
            if region is not shown and (spectrum := self.spectrum(region)) is not None:
                curves.append((region.name, COLOURS[number % len(COLOURS)], spectrum))
        if self._pointed is not None:
            curves.insert(0, (self._pointed[0], COLOURS[0], self._pointed[1]))
        return curves


def _alike(one: Region, other: Region) -> bool:
    return one.box == other.box and np.array_equal(one.mask, other.mask)
