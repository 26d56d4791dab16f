"""Entries in the menu "File": products of all sources, and the report, which opens in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog

from napari_almadet.plugin.background import in_background
from napari_almadet.plugin.existing import existing

if TYPE_CHECKING:
    from qtpy.QtWidgets import QMenu

    from napari_almadet.plugin.autosave import Keeper
    from napari_almadet.plugin.session import Session


class ProductsMenu:
    """Two menu entries; each writes the same files as the command line, in a thread."""

    def __init__(self, menu: QMenu, session: Session, keeper: Keeper, home: Callable[[], str]):
        self.menu, self.session, self.keeper, self.home = menu, session, keeper, home
        self.products_action = existing(menu.addAction("Products of all sources …", self.write_products))
        self.products_action.setToolTip(
            "Moments, spectrum, position-velocity cut, cubelet and mask of each source, and maps of the field,\n"
            "named as by SoFiA-2"
        )
        self.report_action = existing(menu.addAction("Report in the browser", self.show_report))
        self.report_action.setToolTip("One page with the field, the table, all candidates, settings and warnings")
        menu.aboutToShow.connect(self.enable)
        self.enable()

    def enable(self) -> None:
        """Enable both if there is a result."""
        for action in (self.products_action, self.report_action):
            action.setEnabled(self.session.detections is not None)

    def write_products(self) -> None:
        """Ask for a folder and write the products into it."""
        folder = QFileDialog.getExistingDirectory(self.menu, "Folder for the products", self.home())
        if not folder:
            return
        detections = existing(self.session.detections)

        def work() -> Path:
            from napari_almadet.products.writing import write_products

            return write_products(detections, folder)

        show_info(f"Writing the products of {len(detections.kept)} sources …")
        in_background(work, done=self._tell, failed=self._complain)

    def show_report(self) -> None:
        """Write the report, in the session's folder if it is saved, and open it."""
        detections = existing(self.session.detections)
        folder = existing(self.keeper.folder) if self.keeper.saved else Path(mkdtemp(prefix="almadet-"))

        def work() -> Path:
            from napari_almadet.products.report import REPORT, write_html

            return write_html(detections, folder / REPORT)

        show_info(f"Writing the report on {len(detections.kept)} sources …")
        in_background(work, done=self._open, failed=self._complain)

    def _open(self, path: Path) -> None:
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path))):
            show_info(f"Written: {path}. Open it in a browser.")

    def _tell(self, path: Path) -> None:
        show_info(f"Written: {path.name} in {path.parent}")

    def _complain(self, error: Exception) -> None:
        show_error(str(error))
