"""Saving of sessions: the folder of a session, its journal, and unsaved sessions, so that no review is lost."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.utils.notifications import show_error, show_warning
from platformdirs import user_data_path
from psygnal import Signal

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.reviews import reviewed
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.session import Session
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from napari_almadet.catalogue.result_folder import Journal

EARLY = "early-"  # begins the names of folders of reviews made before the session's own folder is written
KEPT_UNSAVED = 3  # unsaved sessions without reviews that are kept for each cube; chosen by eye


def unsaved_folder() -> Path:
    """The folder of unsaved sessions."""
    return user_data_path("napari-almadet") / "unsaved"


def unsaved_of(cube: Cube) -> list[Path]:
    """Folders of the unsaved sessions of a cube that contain reviews, the latest first."""
    from napari_almadet.catalogue.result_folder import is_result

    return [folder for folder in _folders(cube) if is_result(folder) and _has_reviews(folder)]


def _has_reviews(folder: Path) -> bool:
    """Whether a session contains reviews: they are in its journal, including those carried over."""
    from napari_almadet.catalogue.result_folder import JOURNAL

    journal = folder / JOURNAL
    return journal.exists() and journal.stat().st_size > 0


def _spent(cube: Cube) -> list[Path]:
    """Folders of unsaved sessions that may be removed: those without reviews, except the latest."""
    return [folder for folder in _folders(cube) if not _has_reviews(folder)][KEPT_UNSAVED - 1 :]


def _folders(cube: Cube) -> list[Path]:
    return sorted(unsaved_folder().glob(f"{_name(cube)}-*"), reverse=True)


def _name(cube: Cube) -> str:
    """Prefix of the folders of a cube's unsaved sessions: its name, and a hash that makes it unique."""
    origin = cube.address or f"array {cube.shape}"
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', cube.name)[:60]}-{hashlib.sha256(origin.encode()).hexdigest()[:8]}"


def unfinished_of(cube: Cube) -> list[Candidate]:
    """Candidates with reviews from sessions that crashed before their folder was first written.

    Another detection carries these over, as it does the reviews of an earlier one.
    """
    from napari_almadet.catalogue.result_folder import Journal

    nothing = np.empty((0, 0))
    found = Detections(cube, Settings(), [], nothing, nothing, {})
    for folder in _unfinished(cube):
        Journal(folder).replay(found)
    return found.candidates


def _unfinished(cube: Cube) -> list[Path]:
    return sorted(unsaved_folder().glob(f"{EARLY}{_name(cube)}-*"))


class Keeper:
    """Writes a session's detections to a folder, and every later change to the journal in it.

    New detections are written to a folder in the user's data directory, so that verdicts are safe before the session is
    saved; `save` switches to the folder that the user chooses.  Writing is done in a thread, on a copy of the
    candidates; changes made meanwhile are recorded afterwards, and until then in a folder of their own, so that a
    crash does not lose them.
    """

    changed = Signal(object)  # the folder the present detections are kept in, or None

    @classmethod
    def of(cls, session: Session) -> Keeper:
        """The keeper of a session; created if there is none."""
        if not isinstance(session.keeper, Keeper):
            session.keeper = cls(session)
        return session.keeper

    def __init__(self, session: Session):
        self.session = session
        self._writing: dict[int, list[Candidate]] = {}  # by id() of detections: what was changed since the copy
        self._early: dict[int, Journal] = {}  # by id() of detections: changes before they are first written
        self._reported = False
        session.unfinished = unfinished_of
        session.recorded.connect(self._record)
        session.detections_changed.connect(self._detections_changed)

    @property
    def folder(self) -> Path | None:
        """The folder of the current detections; None while it is first written."""
        return self.session.journal.path.parent if self.session.journal is not None else None

    @property
    def saved(self) -> bool:
        """Whether that folder was chosen by the user."""
        return self.folder is not None and self.folder.parent != unsaved_folder()

    def save(self, folder: Path, done: Callable[[Path], object] = lambda folder: None) -> None:
        """Write everything to a folder chosen by the user, and use it from now on."""
        before = self.folder
        if before == folder:
            before = None

        def written(folder: Path) -> None:
            if before is not None and before.parent == unsaved_folder():
                shutil.rmtree(before, ignore_errors=True)
            done(folder)

        self._write(folder, keep_cube=True, done=written)

    def _detections_changed(self, detections: Detections | None) -> None:
        if detections is not None and self.session.journal is None and id(detections) not in self._writing:
            home, name = unsaved_folder(), _name(detections.cube)
            old = _spent(detections.cube)
            self._write(home / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}", keep_cube=False, instead_of=old)
        self.changed.emit(self.folder)

    def _write(
        self,
        folder: Path,
        keep_cube: bool,
        done: Callable[[Path], object] = lambda folder: None,
        instead_of: Sequence[Path] = (),
    ) -> None:
        """Write everything to a folder in a thread, and then remove other unsaved sessions without reviews."""
        detections = existing(self.session.detections)
        originals = list(detections.candidates)
        still = replace(detections, candidates=[copy(candidate) for candidate in originals])
        meanwhile: list[Candidate] = []
        self._writing[id(detections)] = meanwhile
        done_with = _unfinished(detections.cube) if not keep_cube else []  # already carried over

        def work() -> Path:
            from napari_almadet.catalogue.result_folder import write_result

            for old in instead_of:
                if not _has_reviews(old):
                    shutil.rmtree(old, ignore_errors=True)
            return write_result(still, folder, keep_cube)

        def written(folder: Path) -> None:
            from napari_almadet.catalogue.result_folder import Journal

            self._writing.pop(id(detections), None)
            journal = Journal(folder)
            journal.know(still, originals)
            self.session.keep_in(detections, journal)
            # reviews that were carried over are also in the journal, which shows that the session has reviews
            carried = [] if keep_cube else [candidate for candidate in originals if reviewed(candidate)]
            if with_reviews := list({id(candidate): candidate for candidate in [*carried, *meanwhile]}.values()):
                self._take_down(journal, detections, with_reviews)
            early = self._early.pop(id(detections), None)
            for old in [*done_with, *([early.path.parent] if early is not None else [])]:
                shutil.rmtree(old, ignore_errors=True)
            self.changed.emit(self.folder)
            done(folder)

        def failed(error: Exception) -> None:
            self._writing.pop(id(detections), None)
            show_error(f"The session could not be written to {folder}: {error}")

        in_background(work, done=written, failed=failed)

    def _record(self, detections: Detections, changed: list[Candidate]) -> None:
        if id(detections) in self._writing:
            self._writing[id(detections)] += changed
            if self.session.journal_of(detections) is None:
                self._take_down(self._early_journal(detections), detections, changed)
        if (journal := self.session.journal_of(detections)) is not None:
            self._take_down(journal, detections, changed)

    def _early_journal(self, detections: Detections) -> Journal:
        """The journal for changes made before the folder has been written."""
        from napari_almadet.catalogue.result_folder import Journal

        if id(detections) not in self._early:
            folder = unsaved_folder() / f"{EARLY}{_name(detections.cube)}-{datetime.now():%Y%m%d-%H%M%S-%f}"
            folder.mkdir(parents=True, exist_ok=True)
            self._early[id(detections)] = Journal(folder)
        return self._early[id(detections)]

    def _take_down(self, journal: Journal, detections: Detections, changed: list[Candidate]) -> None:
        try:
            journal.record(detections, changed)
        except OSError as error:
            if not self._reported:  # only once per save
                show_warning(f"Changes cannot be written to {journal.path}: {error}. Save the session elsewhere.")
            self._reported = True
