"""The part of the cube around a candidate, read once and, if it is large, in the background."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from napari.utils.notifications import show_error
from psygnal import Signal

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.measure.focus import Cutout, cut_out
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.session import Session

AT_ONCE = 2**22  # voxels that are read without a noticeable wait
KEPT = 8  # cutouts in memory


class Cutouts:
    """Cutouts of the cube around the candidates shown last: all channels, as large as those of the pipeline."""

    ready = Signal()  # a requested cutout has been read

    def __init__(self, session: Session):
        self.session = session
        self._kept: OrderedDict[Box, Cutout] = OrderedDict()
        self._awaited: set[Box] = set()
        session.detections_changed.connect(self._forget)

    def about(self, candidate: Candidate) -> Cutout | None:
        """The cutout around a candidate's box; None while it is being read, until :attr:`ready` is emitted."""
        cube, box, side = self.session.ground.cube, candidate.box, self.session.ground.settings.crop
        if box in self._kept:
            self._kept.move_to_end(box)
            return self._kept[box]
        if cube.shape[0] * max(side, *box.shape) ** 2 <= AT_ONCE:
            self._keep(box, cut_out(cube, box, side))
            return self._kept[box]
        if box not in self._awaited:
            self._awaited.add(box)
            place = self._awaited, box
            in_background(
                cut_out, cube, box, side, done=partial(self._arrived, *place), failed=partial(self._failed, *place)
            )
        return None

    def _arrived(self, awaited: set[Box], box: Box, cutout: Cutout) -> None:
        if awaited is self._awaited:  # else the session has switched to another cube
            self._awaited.discard(box)
            self._keep(box, cutout)
            self.ready.emit()

    def _failed(self, awaited: set[Box], box: Box, error: Exception) -> None:
        awaited.discard(box)
        show_error(f"The cube could not be read around x {box.centre[1]:.0f}, y {box.centre[0]:.0f}: {error}")

    def _keep(self, box: Box, cutout: Cutout) -> None:
        self._kept[box] = cutout
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _forget(self, *_: object) -> None:
        self._kept.clear()
        self._awaited = set()
