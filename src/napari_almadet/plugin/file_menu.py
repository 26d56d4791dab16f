"""The menu "Save, export": session folders, exports, imports, and settings of the panels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QFileDialog, QMenu, QMessageBox

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.catalogue_symbols import add_symbols
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.open_result import open_result
from napari_almadet.plugin.products_menu import ProductsMenu
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.shortcuts import KEYS

if TYPE_CHECKING:
    from napari_almadet.plugin.autosave import Keeper

CATALOGUE = "ECSV (*.ecsv);;VOTable (*.vot *.xml);;FITS table (*.fits);;CSV (*.csv)"
REGIONS = "DS9 regions (*.reg);;CASA and CARTA regions (*.crtf)"
SPECTRA = "FITS tables (*.fits);;ECSV (*.ecsv)"
FIGURE = "PNG (*.png);;PDF (*.pdf)"
REPORT = "PDF (*.pdf)"
IMPORT = "Catalogues and regions (*.ecsv *.vot *.xml *.fits *.csv *.txt *.cat *.reg *.crtf);;All files (*)"


class FileMenu(QMenu):
    """Save, export and import; long operations run in a thread and are reported at the lower right."""

    def __init__(self, session: Session, keeper: Keeper):
        super().__init__("File")
        self.session, self.keeper = session, keeper
        self.setToolTipsVisible(True)
        self.open_action = existing(self.addAction("Open session …", self.open_session))
        self.save_action = existing(self.addAction("Save session", self.save))
        self.save_as_action = existing(self.addAction("Save session as …", self.save_as))
        self.addSeparator()
        self.exports = {
            "Export the accepted": self._exports(self._accepted),
            "Export those listed": self._exports(lambda: list(session.candidates)),
        }
        self.figure_action = existing(self.addAction("Figure of this candidate …", self.export_figure))
        self.products = ProductsMenu(self, session, keeper, self._home)
        self.injections_action = existing(self.addAction("Completeness by injection …"))
        self.injections_action.setToolTip(
            "How faint a source can be to be detected in this cube, with the settings of the form: synthetic sources\n"
            "are added to the cube as it is read, and it is searched again"
        )
        self.import_action = existing(self.addAction("Import candidates …", self.import_candidates))
        self.import_action.setToolTip("From a catalogue with SoFiA-2's column names, or DS9 or CRTF regions")
        self.symbols_action = existing(self.addAction("Catalogue as symbols …", self.show_symbols))
        self.symbols_action.setToolTip(
            "The rows of a catalogue as a layer of points with all their columns, matched with the candidates;\n"
            "nothing is measured, and no candidate is added"
        )
        self.addSeparator()
        self.keys_action = self._switch(
            "Keys N, K, J, U and Ctrl+Z", session.keys_on, partial(setattr, session, "keys_on")
        )
        keys = (f"{shown}: {name.replace('_', ' ')}" for name, (_, shown) in KEYS.items())
        self.keys_action.setToolTip(", ".join(keys))
        self.advance_action = self._switch(
            "Next candidate after a verdict", session.advance, partial(setattr, session, "advance")
        )
        self.aboutToShow.connect(self._enable)
        self._enable()

    def _exports(self, chosen: Callable[[], list[Candidate]]) -> tuple[QMenu, Callable[[], list[Candidate]]]:
        menu = existing(self.addMenu(""))
        menu.addAction("Catalogue …", partial(self._export, "write_catalogue", "catalogue", CATALOGUE, chosen))
        menu.addAction("Regions …", partial(self._export, "write_regions", "regions", REGIONS, chosen))
        menu.addAction("Spectra …", partial(self._export, "write_spectra", "spectra", SPECTRA, chosen))
        menu.addAction("Report with a page each …", partial(self._export, "write_report", "report", REPORT, chosen))
        return menu, chosen

    def _switch(self, words: str, on: bool, switched: Callable[[bool], Any]) -> QAction:
        action = existing(self.addAction(words))
        action.setCheckable(True)
        action.setChecked(on)
        action.toggled.connect(switched)
        return action

    def _enable(self) -> None:
        found = self.session.detections is not None
        for item in (self.save_action, self.save_as_action):
            item.setEnabled(found)
        for title, (menu, chosen) in self.exports.items():
            menu.setTitle(f"{title} ({len(chosen())})")
            menu.setEnabled(bool(chosen()))
        self.figure_action.setEnabled(self.session.selected is not None)
        for action in (self.injections_action, self.import_action, self.symbols_action):
            action.setEnabled(self.session.image is not None)
        self.save_action.setText(
            f"Save session to {existing(self.keeper.folder).name}" if self.keeper.saved else "Save session …"
        )

    def _accepted(self) -> list[Candidate]:
        everyone = [] if self.session.detections is None else self.session.detections.candidates
        return [candidate for candidate in everyone if candidate.verdict == "accepted"]

    # -- sessions ---------------------------------------------------------------------

    def open_session(self) -> None:
        """Ask for a folder and open it, as if it had been dropped on napari."""
        folder = QFileDialog.getExistingDirectory(self, "Open a session", self._home())
        if folder:
            self.open_folder(Path(folder))

    def open_folder(self, folder: Path) -> None:
        """Open a folder of results."""
        from napari.layers import Layer

        from napari_almadet.catalogue.result_folder import is_result

        if not is_result(folder):
            show_error(f"{folder} is not a session: settings.json, candidates.ecsv or spectra.fits is missing.")
            return
        for data in open_result(folder, self.session.viewer):
            self.session.viewer.add_layer(Layer.create(*data))

    def save(self) -> None:
        """Save to the session's folder, or ask for one."""
        if self.keeper.saved:
            self.keeper.save(existing(self.keeper.folder), _tell)
        else:
            self.save_as()

    def save_as(self) -> None:
        """Ask for a folder and save to it."""
        suggested = str(Path(self._home()) / f"{self._name()} session")
        # the folder is created if it does not exist
        chosen, _ = QFileDialog.getSaveFileName(
            self,
            "Save the session as a folder",
            suggested,
            "Folder (*)",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if not chosen:
            return
        from napari_almadet.catalogue.result_folder import is_result

        folder = Path(chosen)
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_result(folder)):
            show_error(f"{folder} contains other files. Choose a new name for the session's folder.")
            return
        self.keeper.save(folder, _tell)

    def _home(self) -> str:
        cube = self.session.image.metadata.get("cube") if self.session.image is not None else None
        path = getattr(cube, "path", None)
        return str(Path.home() if path is None else path.resolve().parent)

    # -- exports and imports ----------------------------------------------------------

    def _export(self, writer: str, what: str, forms: str, chosen: Callable[[], list[Candidate]]) -> None:
        candidates = chosen()
        path = self._ask(f"Export {len(candidates)} candidates: {what}", f"{self._name()} {what}", forms)
        if path is not None:
            self._write(writer, candidates, path)

    def export_figure(self) -> None:
        """Ask for a file and write the page on the selected candidate."""
        candidate = existing(self.session.selected)
        path = self._ask("Figure of this candidate", f"{self._name()} candidate {candidate.id}", FIGURE)
        if path is not None:
            self._write_figure(candidate, path)

    def _write_figure(self, candidate: Candidate, path: Path) -> None:
        detections = existing(self.session.detections)

        def work() -> Path:
            from napari_almadet.products.figure import write_figure

            return write_figure(detections, candidate, path)

        in_background(work, done=_tell, failed=_complain)

    def _write(self, writer: str, candidates: Sequence[Candidate], path: Path) -> None:
        detections = self.session.detections

        def work() -> Path:
            from napari_almadet.catalogue import export as exchange
            from napari_almadet.products import figure

            return getattr(figure if writer == "write_report" else exchange, writer)(detections, path, candidates)

        in_background(work, done=_tell, failed=_complain)

    def _ask(self, title: str, name: str, forms: str) -> Path | None:
        """Ask for a file name; the extension follows the chosen format, unless the user types a known one."""
        known = re.findall(r"\*(\.\w+)", forms)
        path, form = QFileDialog.getSaveFileName(self, title, str(Path(self._home()) / name), forms)
        if not path:
            return None
        ending = Path(path).suffix.lower()
        if ending in known:
            return Path(path)
        if re.fullmatch(r"\.[a-z]{2,8}", ending):  # an unknown extension; other dots are part of the name
            show_error(f"{Path(path).name}: {ending} cannot be written here. Choose one of {', '.join(known)}.")
            return None
        whole = Path(path + (re.findall(r"\*(\.\w+)", form) or known)[0])
        # The dialog checked only the name as typed.
        if whole.exists() and not self._may_replace(whole):
            return None
        return whole

    def _may_replace(self, path: Path) -> bool:
        answer = QMessageBox.question(self, "Replace the file?", f"{path.name} already exists. Replace it?")
        return answer == QMessageBox.StandardButton.Yes

    def _name(self) -> str:
        return existing(self.session.detections).cube.name

    def import_candidates(self) -> None:
        """Ask for a catalogue or a region file and import its sources as candidates."""
        path, _ = QFileDialog.getOpenFileName(self, "Import candidates", self._home(), IMPORT)
        if path:
            self.session.take_in(path)

    def show_symbols(self) -> None:
        """Ask for a catalogue or a region file and draw its rows as symbols over the cube."""
        path, _ = QFileDialog.getOpenFileName(self, "Catalogue as symbols", self._home(), IMPORT)
        if path:
            add_symbols(self.session, path)


def _tell(path: Path) -> None:
    show_info(f"Written: {path.name} in {path.parent}")


def _complain(error: Exception) -> None:
    show_error(str(error))
