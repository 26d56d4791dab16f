"""Completeness by injection: synthetic sources are added to the open cube and searched with the form's settings."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.qt.threading import WorkerBase, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QStyle,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.plugin.background import Failure, ask_to_stop, cautiously
from napari_almadet.plugin.box_layer import weak
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import cube_of
from napari_almadet.plugin.napari_workarounds import import_apart
from napari_almadet.progress import Progress
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_almadet.detection import Networks, SearchNetworks
    from napari_almadet.evaluation.completeness_run import Outcome
    from napari_almadet.evaluation.injection_rounds import Options
    from napari_almadet.plugin.session import Session

NUMBER = 400  # sources, the default of the command
SIZES = "0, 1"
TITLE = "Completeness by injection"
INTRODUCTION = (
    "Synthetic sources are added to <b>{name}</b> as it is read (the file is not changed), and it is searched again "
    "with the settings of the form: {settings}. An interrupted run resumes where it stopped if the same folder is "
    "chosen."
)
# Columns of the table: heading, and its text of a row
COLUMNS: dict[str, Callable] = {
    "Width": lambda row: f"{row['width']:.4g}",
    "Size (beams)": lambda row: f"{row['size']:g}",
    "Flux": lambda row: f"{row['flux_min'].value:.3g} to {row['flux_max']:.3g}",
    "S/N": lambda row: f"{row['snr']:.1f}",
    "Injected": lambda row: f"{row['n']}",
    "Found": lambda row: f"{row['found']}",
    "Flagged": lambda row: f"{row['flagged']}",
    "Completeness": lambda row: _between(row, "completeness"),
    "Measured / injected flux": lambda row: _between(row, "flux_ratio"),
}
TIPS = {
    "Size (beams)": "Intrinsic FWHM; 0 is a point source",
    "Found": "Injected sources whose candidate was kept",
    "Flagged": "Injected sources whose candidate was flagged; these do not count as found",
    "Completeness": "Found over injected, with the 95 % interval (Wilson)",
    "Measured / injected flux": "Median and 68 % range of those found",
}

log = logging.getLogger(__name__)


def injected(
    cube: Cube,
    settings: Settings,
    options: Options,
    number: int,
    out: Path,
    networks: Callable[[Settings], Networks | SearchNetworks],
) -> Generator[Progress, None, Outcome]:
    """Run the injections; modules that are slow to load are imported only here."""
    yield Progress("Loading the networks", 0, 0)
    import_apart("torch")
    from napari_almadet.evaluation.completeness_run import run_steps

    return (yield from run_steps(cube, settings, options, number, out, networks(settings)))


class InjectionsDialog(QDialog):
    """Form for injections; runs them in a thread and shows table and plots.

    ``settings`` returns the settings of the search; ``run`` is `injected`, or a replacement in tests.
    """

    def __init__(
        self,
        session: Session,
        settings: Callable[[], Settings],
        parent: QWidget | None = None,
        run: Callable = injected,
    ):
        super().__init__(parent)
        self.session, self.settings, self._run = session, settings, run
        self._worker: WorkerBase | None = None
        self._cube: Cube | None = None
        self._first: tuple[float, int] | None = None  # time of the first completed rounds, and their number
        self.outcome: Outcome | None = None
        self.setWindowTitle(TITLE)
        self.setModal(False)
        self._seed = 0
        self._build()
        session.image_changed.connect(weak(self._follow))
        self._follow()

    def sizeHint(self) -> QSize:
        """Large enough for the table, but at most as high as a screen of 720 pixels allows."""
        return QSize(760, 620)

    def _build(self) -> None:
        self.introduction = QLabel()
        self.introduction.setWordWrap(True)
        self.folder = QLineEdit()
        self.folder.setPlaceholderText("a new folder, or one to resume")
        icon = existing(self.style()).standardIcon(QStyle.StandardPixmap.SP_DialogOpenButton)
        browse = existing(self.folder.addAction(icon, QLineEdit.ActionPosition.TrailingPosition))
        browse.triggered.connect(self.ask_folder)
        self.folder.editingFinished.connect(self.take_up)
        self.number = QSpinBox()
        self.number.setRange(1, 1_000_000)
        self.number.setValue(NUMBER)
        self.number.setToolTip("Sources to inject; start again with a larger number to add more")
        self.widths = QLineEdit()
        self.sizes = QLineEdit(SIZES)
        self.sizes.setToolTip("Intrinsic FWHM of the sources in beams, separated by commas; 0 is a point source")
        self.flux = QLineEdit()
        self.flux.setPlaceholderText("S/N of 2 to 20")
        self.flux.setToolTip("Range of integrated fluxes, LOW..HIGH, drawn uniformly in the logarithm")
        self.flux_unit, self.width_unit = QLabel(), QLabel()
        self.start_button = QPushButton("Inject and search")
        self.start_button.clicked.connect(self.start)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setEnabled(False)
        self.cancel_button.clicked.connect(self.cancel)
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        for column, name in enumerate(COLUMNS):
            existing(self.table.horizontalHeaderItem(column)).setToolTip(TIPS.get(name, ""))
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        existing(self.table.verticalHeader()).hide()
        existing(self.table.horizontalHeader()).setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.table, "Table")
        self.tabs.setVisible(False)

        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Folder", self.folder)
        form.addRow("Sources", _row(self.number, QLabel("Sizes (beams)"), self.sizes))
        form.addRow("Widths", _row(self.widths, self.width_unit, QLabel("Fluxes"), self.flux, self.flux_unit))
        layout = QVBoxLayout(self)
        layout.addWidget(self.introduction)
        layout.addLayout(form)
        layout.addLayout(_row(self.start_button, self.cancel_button))
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.tabs, 1)
        layout.addStretch()
        layout.setStretch(layout.count() - 1, 0)

    # -- the form ---------------------------------------------------------------------

    def _follow(self, *_: object) -> None:
        """Show the name of the cube; during a run, it stays that of the run."""
        if self._worker is not None or not isalive(self):
            return
        self._cube, image = None, self.session.image
        if image is not None:
            try:
                self._cube = cube_of(image)
            except CubeError as error:
                self.introduction.setText(str(error))
        if self._cube is not None:
            self._describe(self._cube, existing(image))
        elif image is None:
            self.introduction.setText("Open a cube first.")
        self._enable()

    def _describe(self, cube: Cube, image: Image) -> None:
        from napari_almadet.catalogue.detections import channel_width, flux_factor
        from napari_almadet.inspection.describe import unit_text

        settings = self.settings()
        words = f"preset {settings.preset}, threshold {settings.threshold:g}"
        self.introduction.setText(INTRODUCTION.format(name=image.name, settings=words))
        unit = channel_width(cube).unit
        self.width_unit.setText(unit_text(unit) if str(unit) != "chan" else "channels")
        self.flux_unit.setText(unit_text(flux_factor(cube)[1] * unit))
        self.widths.setPlaceholderText("3ch, 8ch, 20ch")
        self.widths.setToolTip(
            f"FWHM of the lines, separated by commas: in {self.width_unit.text()}, or in channels as 8ch"
        )

    def ask_folder(self, *_: object) -> None:
        """Ask for the folder."""
        name = "injections" if self._cube is None else f"{self._cube.name} injections"
        start = self.folder.text() or str(self._home() / name)
        folder = QFileDialog.getSaveFileName(
            self,
            "Folder for the injections",
            start,
            "Folder (*)",
            options=QFileDialog.Option.DontConfirmOverwrite,  # the folder is created if it does not exist
        )[0]
        if folder:
            self.folder.setText(folder)
            self.take_up()

    def _home(self) -> Path:
        path = None if self._cube is None else self._cube.path
        return Path.home() if path is None else path.resolve().parent

    def take_up(self) -> None:
        """If the folder contains a run, set the form to its options."""
        from napari_almadet.evaluation.injection_rounds import ABOUT

        file = Path(self.folder.text().strip()) / ABOUT
        if not self.folder.text().strip() or not file.is_file():
            return
        try:
            options = json.loads(file.read_text(encoding="utf-8"))["options"]
            widths = ", ".join(f"{float(w):.12g}ch" for w in options["widths"])
            sizes = ", ".join(f"{float(s):.12g}" for s in options["sizes"])
            seed = int(options["seed"])
            flux = "" if options["flux"] is None else "..".join(f"{float(f):.12g}" for f in options["flux"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.info("%s cannot be read: %s", file, error)  # the run itself reports this
            return
        self._seed = seed
        self.widths.setText(widths)
        self.sizes.setText(sizes)
        self.flux.setText(flux)
        self.status.setText("This folder contains a run: its widths, sizes and fluxes are used.")

    def options(self) -> Options:
        """Options from the form.

        Raises
        ------
        ValueError
            If they do not fit the cube; the message is for the user.
        """
        from napari_almadet.evaluation.completeness_run import flux_range, numbers, options_for

        sizes = numbers(self.sizes.text(), "Sizes")
        flux, widths = self.flux.text().strip(), self.widths.text().strip()
        bounds = flux_range(flux, "Fluxes") if flux else None
        return options_for(existing(self._cube), widths or None, sizes, bounds, self._seed, "Widths")

    # -- the run ----------------------------------------------------------------------

    def start(self) -> None:
        """Run in a thread."""
        self._follow()
        try:
            if not self.folder.text().strip():
                raise ValueError("Choose a folder for the results.")
            options, out = self.options(), Path(self.folder.text().strip()).expanduser()
        except ValueError as error:
            self.status.setText(str(error))
            return
        work = self._run, self._cube, self.settings(), options, self.number.value(), out, self.session.networks
        self._worker = worker = create_worker(cautiously, *work, _start_thread=False)
        worker.yielded.connect(self._progressed)
        worker.returned.connect(self._returned)
        worker.finished.connect(self._finished)
        self.destroyed.connect(worker.quit)
        self._first = None
        self.progress.setRange(0, 0)
        self.status.setText("Starting …")
        self._enable()
        worker.start()

    def cancel(self) -> None:
        """Ask the run to stop: it stops at its next step, and keeps the completed rounds."""
        ask_to_stop(self._worker, self.cancel_button, self.status)

    def reject(self) -> None:
        """Close the window; a run continues and is shown when the window is opened again."""
        self.hide()

    def _progressed(self, progress: Progress) -> None:
        if self._worker is None or self._worker.abort_requested:
            return
        self.progress.setRange(0, progress.total)
        self.progress.setValue(progress.done)
        self.status.setText(f"{progress.stage}{self._left(progress)}")

    def _left(self, progress: Progress) -> str:
        """Estimated remaining time, from the completed rounds; empty before the first one is complete."""
        if not progress.stage.startswith("Round "):
            return ""
        now = time.perf_counter()
        if self._first is None:
            self._first = now, progress.done
        since, before = self._first
        if progress.done == before:
            return ""
        seconds = (now - since) / (progress.done - before) * (progress.total - progress.done)
        return f"; about {seconds / 60:.0f} min left" if seconds > 90 else f"; about {seconds:.0f} s left"

    def _returned(self, outcome: Outcome | Failure) -> None:
        if not isalive(self):
            return
        if isinstance(outcome, Failure):
            self.status.setText(f"Failed: {outcome.error}")
            log.error("injections failed", exc_info=outcome.error)
        else:
            self._show(outcome)

    def _finished(self) -> None:
        if existing(self._worker).abort_requested:
            self.status.setText("Cancelled. Finished rounds are kept: start again with this folder to resume.")
        self._worker = None
        self._follow()

    def _enable(self) -> None:
        running = self._worker is not None
        for field in (self.folder, self.number, self.widths, self.sizes, self.flux):
            field.setEnabled(not running)
        self.start_button.setEnabled(not running and self._cube is not None)
        self.cancel_button.setEnabled(running)
        self.progress.setVisible(running)

    # -- the outcome ------------------------------------------------------------------

    def _show(self, outcome: Outcome) -> None:
        """Show the outcome as text, table and plots."""
        self.outcome = outcome
        self.status.setText("\n".join([*outcome.sentences, f"Written to {self.folder.text()}."]))
        self.table.setRowCount(len(outcome.bins))
        for number, row in enumerate(outcome.bins):
            for column, text in enumerate(COLUMNS.values()):
                item = QTableWidgetItem(text(row))
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(number, column, item)
        while self.tabs.count() > 1:
            existing(self.tabs.widget(1)).deleteLater()
            self.tabs.removeTab(1)
        for path in outcome.plots:
            self.tabs.addTab(Picture(path), path.stem.replace("-", " ").capitalize())
        if outcome.notes:
            notes = QPlainTextEdit("\n\n".join(outcome.notes))
            notes.setReadOnly(True)
            self.tabs.addTab(notes, f"Notes ({len(outcome.notes)})")
        self.tabs.setVisible(True)
        self.resize(self.size().expandedTo(self.sizeHint()))  # once there is something to see


class Picture(QLabel):
    """A picture from a file, scaled to the available space."""

    def __init__(self, path: Path):
        super().__init__()
        self.whole = QPixmap(str(path))
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)
        self.setMinimumSize(200, 150)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Fill the room."""
        super().resizeEvent(event)
        ratio = self.devicePixelRatioF()
        room = QSize(round(self.width() * ratio), round(self.height() * ratio))
        scaled = self.whole.scaled(room, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
        scaled.setDevicePixelRatio(ratio)
        self.setPixmap(scaled)


def _row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets side by side; those that can grow share the space."""
    layout = QHBoxLayout()
    for widget in widgets:
        layout.addWidget(widget, 0 if isinstance(widget, QLabel) else 1)
    return layout


def _between(row: Any, name: str) -> str:
    """A value with its interval; a dash if there is none."""
    middle, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite(middle) else "–"
