"""The dock widget "Detect sources": the form, the run, and the table of candidates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image
from napari.qt.threading import WorkerBase, create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDockWidget,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from napari_almadet.catalogue.candidate import Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.inspection.reviews import Carried
from napari_almadet.plugin.autosave import Keeper, unsaved_of
from napari_almadet.plugin.background import Failure, ask_to_stop, cautiously
from napari_almadet.plugin.candidates import CandidateTable
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.file_menu import FileMenu
from napari_almadet.plugin.injections import InjectionsDialog
from napari_almadet.plugin.inspector import Inspector
from napari_almadet.plugin.layers import cube_of, make_result_layers, refusal
from napari_almadet.plugin.napari_workarounds import hold_canvas, import_apart, prepare_letters
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.theme import Colours, menu_button
from napari_almadet.settings import PRESETS, Settings

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_almadet.progress import Progress

    Run = Callable[[Cube, Settings], Generator[Progress, None, Detections]]
    Searched = tuple[Detections, list[Layer]]

TICK_MS = 1000  # interval at which the elapsed time is updated
BUTTON = 28  # pixels, minimum height of the buttons that start and stop a run
INSPECTOR = "Candidate inspector"  # name of the dock at the bottom
DEVICES = {"auto": "automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}
START = (
    "Open a cube: File ▸ Open File(s) …, or drop it on the window; a sample is under File ▸ Open Sample ▸ ALMA source "
    "detection. A saved session is a folder: drop that, or its settings.json. If napari asks for a reader, take “ALMA "
    "source detection”."
)
TORCH_ADVICE = (
    "PyTorch could not be loaded ({error}). On Windows this happens if PyTorch is loaded after Qt: "
    'start napari with `python -c "import torch, napari; napari.Viewer(); napari.run()"`, '
    "or install another version of torch. `almadet detect` on the command line is not affected."
)

log = logging.getLogger(__name__)


class RunError(RuntimeError):
    """A run that cannot start here; the message says why and what to do."""


def detection(cube: Cube, settings: Settings) -> Generator[Progress, None, Detections]:
    """The pipeline, imported only when needed: torch takes seconds, and on Windows may fail to import after Qt."""
    try:
        import_apart("torch")
        from napari_almadet.networks.weights import pick_device
    except OSError as error:
        raise RunError(TORCH_ADVICE.format(error=error)) from error
    from napari_almadet.detection import detect_steps

    try:
        pick_device(settings.device)
    except ValueError as error:
        raise RunError(str(error)) from error
    return (yield from detect_steps(cube, settings))


def searched(run: Run, cube: Cube, settings: Settings, image: Image) -> Generator[Progress, None, Searched]:
    """Run the pipeline and make the layers of its result, both outside the window's thread."""
    found = yield from run(cube, settings)
    return found, make_result_layers(found, image)


class DetectWidget(QWidget):
    """Form, progress and table; opens the inspector below the canvas.

    ``run`` is the pipeline: a generator function of a cube and settings that yields
    `Progress` and returns `Detections`.
    """

    def __init__(self, napari_viewer: Viewer, run: Run = detection):
        super().__init__()
        self.viewer = napari_viewer
        self.session = Session.of(napari_viewer)
        self.keeper = Keeper.of(self.session)
        self._run = run
        self._worker: WorkerBase | None = None
        self._clock = QTimer(self)
        self._clock.timeout.connect(self._tick)
        self._carried = Carried(0, 0)
        self.injections: InjectionsDialog | None = None  # made when it is first opened
        self._showing = False  # whether a result is being put into the viewer
        self._build()
        layers = napari_viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.reordered, layers.events.renamed):
            event.connect(self._offer_layers)
        layers.events.removing.connect(self._hold_canvas)
        self.session.image_changed.connect(self._show_choice)
        self.session.detections_changed.connect(self._make_room)
        self.session.carried_over.connect(self._carried_over)
        self.options_button.toggled.connect(self._unfold)
        self.status.linkActivated.connect(lambda folder: self.files.open_folder(Path(folder)))
        self._offer_layers()
        self._make_room(self.session.detections)
        self.open_inspector()
        prepare_letters(napari_viewer)

    def _build(self) -> None:
        self.image_choice = QComboBox()
        self.image_choice.setToolTip(
            "Any image layer with three axes (channel, y, x), or four if there is only one polarisation"
        )
        self.image_choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.image_choice.activated.connect(self._choose)
        self.preset = QComboBox()
        self.preset.setToolTip(
            "almadet searches the noise-normalised (S/N) cube at every position and line width; prob is a "
            "probability.\n"
            "paper uses the networks and rules of Delli Veneri et al. (2022) as published."
        )
        self.preset.addItems(PRESETS)
        self.preset.currentTextChanged.connect(self._follow_preset)
        self.preset.currentTextChanged.connect(self._enable)
        self.device = QComboBox()
        self.device.setToolTip("Where the networks run; automatic uses a GPU if there is one")
        for name, words in DEVICES.items():
            self.device.addItem(words, name)
        defaults = Settings()
        self.threshold = _number(defaults.threshold, 0.01, 0.99, 0.05)
        self.min_snr = _number(defaults.min_snr, 0.0, 100.0, 0.5)
        self.min_snr.setToolTip("Preset paper only: minimum peak S/N of a candidate in its line-integrated image")
        self.keep_continuum = QCheckBox("Keep sources without a line")
        self.keep_continuum.setToolTip("The paper drops candidates without an emission line; this keeps them")
        self.primary_beam = self._image_of(
            "primary beam",
            "An image of the cube's primary beam (.pb), for fluxes, and, if the cube is corrected for it, for "
            "the noise",
        )
        self.psf = self._image_of(
            "dirty beam",
            "Preset almadet only: an image of the dirty beam (.psf) of a dirty cube, to subtract the sidelobes "
            "of bright\n"
            "sources; without it, the search decides from the cube whether it is dirty, and estimates its dirty beam",
        )
        self.reliability = QCheckBox("Reliability (inverted cube)")
        self.reliability.setToolTip(
            "Preset almadet only: search the inverted cube as well. Noise and most sidelobes are negative as often as\n"
            "positive, sources are not: the detections there give the expected number of false positives and the\n"
            "reliability of each candidate (column rel). Doubles the run time."
        )
        self._follow_preset(defaults.preset)

        self.detect_button = QPushButton("Detect sources")
        self.detect_button.setObjectName("detect")
        self.detect_button.setMinimumHeight(BUTTON)
        self.detect_button.setStyleSheet("font-weight: bold")
        self.detect_button.clicked.connect(self.detect)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setMinimumHeight(BUTTON)
        self.cancel_button.setEnabled(False)
        self.cancel_button.clicked.connect(self.cancel)
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.table = CandidateTable(self.session)
        self.files = FileMenu(self.session, self.keeper)
        self.file_button = menu_button("Save, export", "Save and open sessions, export, import", self.files)
        self.files.injections_action.triggered.connect(self.open_injections)
        self.table.bar.addWidget(self.file_button)
        self.options_button = QPushButton("Settings")
        self.options_button.setToolTip("Show or hide the settings of a detection")
        self.options_button.setCheckable(True)
        self.options_button.setChecked(True)

        numbers = QHBoxLayout()
        numbers.addWidget(self.threshold, 1)
        numbers.addWidget(QLabel("Minimum S/N"))
        numbers.addWidget(self.min_snr, 1)
        beams = QHBoxLayout()  # in one row: the form must fit a window of 720 pixels
        beams.addWidget(self.primary_beam, 1)
        beams.addWidget(QLabel("Dirty beam"))
        beams.addWidget(self.psf, 1)
        cube = QHBoxLayout()
        cube.addWidget(self.image_choice, 1)
        cube.addWidget(self.options_button)
        self.options = QWidget()
        form = QFormLayout(self.options)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        machine = QHBoxLayout()
        machine.addWidget(self.preset, 1)
        machine.addWidget(QLabel("Device"))
        machine.addWidget(self.device, 1)
        form.addRow("Preset", machine)
        form.addRow("Threshold", numbers)
        form.addRow("Primary beam", beams)
        switches = QHBoxLayout()  # likewise in one row
        switches.addWidget(self.keep_continuum)
        switches.addWidget(self.reliability)
        form.addRow(switches)
        buttons = QHBoxLayout()
        buttons.addWidget(self.detect_button, 3)
        buttons.addWidget(self.cancel_button, 1)
        layout = QVBoxLayout(self)
        layout.setSpacing(5)
        layout.addLayout(cube)
        layout.addWidget(self.options)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.table, 1)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def _follow_preset(self, preset: str) -> None:
        """Show the default settings of the preset where the user has set none, with their tooltips."""
        defaults, paper = Settings(preset=preset), preset == "paper"
        self.threshold.setValue(defaults.threshold)
        self.threshold.setToolTip(
            "Threshold for segmenting the probability map (0.1 in the paper)"
            if paper
            else "Minimum source probability to keep a candidate"
        )
        self.keep_continuum.setChecked(not defaults.require_line)

    def _image_of(self, what: str, tip: str) -> QLineEdit:
        """A line for the file of an image that belongs to the cube, with a button to choose one."""
        line = QLineEdit()
        line.setPlaceholderText("none")
        line.setClearButtonEnabled(True)
        line.setToolTip(tip)
        icon = existing(self.style()).standardIcon(QStyle.StandardPixmap.SP_DialogOpenButton)
        browse = existing(line.addAction(icon, QLineEdit.ActionPosition.TrailingPosition))
        browse.triggered.connect(partial(self._find_image, line, what))
        return line

    def _find_image(self, line: QLineEdit, what: str, *_: object) -> None:
        cube = self.session.image.metadata.get("cube") if self.session.image is not None else None
        folder = str(cube.path.parent) if isinstance(cube, Cube) and cube.path is not None else ""
        path = QFileDialog.getOpenFileName(self, f"Image of the {what}", folder)[0]
        if path:
            line.setText(path)

    def _unfold(self, shown: bool) -> None:
        """Show or hide the settings; when hidden, the inspector below gets the space."""
        self.options.setVisible(shown)
        dock = self.parent()
        if isinstance(dock, QDockWidget):
            dock.setMinimumHeight(0)  # if a minimum height is set, as by napari, Qt increases but never decreases it

    def open_injections(self, *_: object) -> None:
        """Show the window for injections, in which a run may be in progress."""
        if self.injections is None:
            self.injections = InjectionsDialog(self.session, self.settings, self)
        self.injections.show()
        self.injections.raise_()

    def open_inspector(self) -> None:
        """Show the inspector below the canvas."""
        docks = self.viewer.window.dock_widgets
        if INSPECTOR not in docks:
            self.viewer.window.add_dock_widget(Inspector(self.session), name=INSPECTOR, area="bottom")
        else:
            docks[INSPECTOR].parent().show()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Show the inspector when the user shows this panel again, but not when the window comes to the front."""
        super().showEvent(event)
        if not existing(event).spontaneous():
            self.open_inspector()

    # -- which cube -------------------------------------------------------------------

    def _offer_layers(self, event: object = None) -> None:
        """List the layers that a detection can run on; called when layers are added, removed or renamed."""
        self._images = self.session.cube_layers()
        self.image_choice.clear()
        self.image_choice.addItems([image.name for image in self._images])
        if self.session.image is None and self._images:
            self.session.inspect(self._images[-1])
        self._show_choice(self.session.image)
        if self.session.image is None:
            self._make_room(None)

    def _show_choice(self, image: Image | None) -> None:
        self.image_choice.setCurrentIndex(self._images.index(image) if image in self._images else -1)
        self._enable()

    def _make_room(self, detections: Detections | None) -> None:
        """Fold the settings once the table has entries; while it is empty, show what the user can do."""
        self.options_button.setChecked(detections is None)
        if self._worker is not None or self._showing:
            return  # the text there is about the run
        if detections is not None:
            self.status.clear()  # text about another cube
        elif self.session.image is None and (refused := self._refused()):
            self.status.setText(refused)
        elif self.session.image is None:
            self.status.setText(START)
        else:
            self.status.setText(f"Press “Detect sources” to search {self.session.image.name}.")
            cube = self.session.image.metadata.get("cube")
            folders = unsaved_of(cube) if isinstance(cube, Cube) else []
            if folders:
                text = Colours.of(self.viewer.theme).text  # Qt's blue is illegible on a dark background
                when = datetime.fromtimestamp(folders[0].stat().st_mtime)
                self.status.setText(
                    f"A session on this cube, last changed {when:%d %b %Y %H:%M}, was never saved: "
                    f'<a href="{escape(str(folders[0]), quote=True)}" style="color: {text}">open it</a>.'
                )

    def _hold_canvas(self, event: object) -> None:
        hold_canvas(existing(self.window()))

    def _refused(self) -> str:
        """Why open images are not in the list."""
        ours = ("detections", "map", "unit", "cut")  # in the metadata of layers that came with a cube
        images = [
            x for x in self.viewer.layers if isinstance(x, Image) and not any(name in x.metadata for name in ours)
        ]
        return "\n".join(f"{x.name} cannot be searched: {reason}." for x in images if (reason := refusal(x)))

    def _choose(self, index: int) -> None:
        self.session.inspect(self._images[index])

    # -- the run ----------------------------------------------------------------------

    def settings(self) -> Settings:
        """Settings from the form."""
        paper = self.preset.currentText() == "paper"
        return Settings(
            preset=self.preset.currentText(),
            threshold=self.threshold.value(),
            min_snr=self.min_snr.value(),
            require_line=not self.keep_continuum.isChecked(),
            reliability=self.reliability.isChecked() and not paper,
            device=self.device.currentData(),
            primary_beam=self.primary_beam.text().strip() or None,
            psf=None if paper else self.psf.text().strip() or None,
        )

    def detect(self) -> None:
        """Run the detection on the chosen cube in a thread."""
        image = existing(self.session.image)
        try:
            cube = cube_of(image)
        except CubeError as error:
            self._failed(error)
            return
        work = searched, self._run, cube, self.settings(), image
        self._worker = worker = create_worker(cautiously, *work, _start_thread=False)
        worker.yielded.connect(self._progressed)
        worker.returned.connect(partial(self._returned, image, time.perf_counter()))
        worker.aborted.connect(self._aborted)
        worker.finished.connect(self._finished)
        self.destroyed.connect(worker.quit)
        self.status.setText(f"Searching {image.name} …")
        self._searching, self._stage, self._started = image.name, "starting", time.perf_counter()
        self._clock.start(TICK_MS)
        self.progress.setRange(0, 0)
        self.progress.setFormat("Starting")
        self._enable()
        self.cancel_button.setFocus()  # Qt would move the focus to the filter field, and keys would be typed there
        worker.start()

    def cancel(self) -> None:
        """Ask the run to stop; it does so at its next step."""
        ask_to_stop(self._worker, self.cancel_button, self.status)

    def _progressed(self, progress: Progress) -> None:
        """Show the progress of the current stage: a busy indicator until the stage reports its first part."""
        # With updates disabled, the bar does not repaint the window for every number.
        self.progress.setUpdatesEnabled(False)
        self.progress.setFormat(f"{progress.stage}  %p %" if progress.done else progress.stage)
        self.progress.setRange(0, progress.total if progress.done else 0)
        self.progress.setValue(progress.done)
        self.progress.setUpdatesEnabled(True)
        self._stage = progress.stage

    def _tick(self) -> None:
        """Show the elapsed time, also while a stage reports no progress."""
        if self._worker is not None and not self._worker.abort_requested:
            seconds = round(time.perf_counter() - self._started)
            self.status.setText(f"Searching {self._searching}: {self._stage} … {seconds} s")

    def _returned(self, image: Image, started: float, outcome: Searched | Failure) -> None:
        if not isalive(self):
            return  # the dock was closed, which ended its run
        if isinstance(outcome, Failure):
            self._failed(outcome.error)
        elif image not in self.viewer.layers:
            self.status.setText("The layer was removed during the run, so its result was discarded.")
        else:
            self._showing = True
            found, made = outcome
            self._carried = Carried(0, 0)
            text = summary(found, time.perf_counter() - started)
            self.session.present_in_turns(image, found, made, existing(self.window()), partial(self._shown, text))

    def _shown(self, text: str) -> None:
        self._showing = False
        if not isalive(self):
            return
        self.open_inspector()
        self.status.setText(text + carried_text(self._carried))
        self._enable()
        if self.isAncestorOf(QApplication.focusWidget()):
            self.table.view.setFocus()  # in which the session's keys work

    def _carried_over(self, carried: Carried) -> None:
        self._carried = carried

    def _aborted(self) -> None:
        self.status.setText("Cancelled. Nothing was changed.")

    def _failed(self, error: Exception) -> None:
        """Report an error once: expected errors in a sentence, others with the traceback."""
        if isinstance(error, CubeError | RunError):
            show_error(str(error))
        else:
            notification_manager.receive_error(type(error), error, error.__traceback__)
            log.error("detection failed", exc_info=error)
        self.status.setText(f"Failed: {error}")

    def _finished(self) -> None:
        # A run may end between the request to stop and its next step: then neither `returned` nor `aborted` is emitted.
        if existing(self._worker).abort_requested:
            self._aborted()
        self._worker = None
        self._clock.stop()
        self._enable()

    def _enable(self) -> None:
        """Enable the controls that apply: none during a run, and only those that the preset uses."""
        running = self._worker is not None or self._showing
        self.detect_button.setEnabled(not running and self.session.image is not None)
        self.cancel_button.setEnabled(self._worker is not None)
        self.progress.setVisible(running)
        paper = self.preset.currentText() == "paper"
        always = (self.image_choice, self.preset, self.device, self.threshold, self.keep_continuum, self.primary_beam)
        for fields, known in ((always, True), ((self.min_snr,), paper), ((self.reliability, self.psf), not paper)):
            for field in fields:
                field.setEnabled(known and not running)


def summary(detections: Detections, seconds: float) -> str:
    """The outcome in a sentence or two, with the run's warnings, and what it subtracted for the search only."""
    kept = len(detections.kept)
    flagged = sum(c.status is Status.FLAGGED for c in detections.candidates)
    dropped = len(detections.candidates) - kept
    device = str(detections.provenance.get("device", "")).upper()
    where = f"in {seconds:.1f} s" + (f" on {device}" if device else "")
    if kept:
        asides = [f"{count} {word}" for count, word in ((flagged, "flagged"), (dropped, "dropped")) if count]
        text = f"{kept} candidate{'s' if kept > 1 else ''} {where}" + "".join(f"; {aside}" for aside in asides) + "."
    else:
        text = f"No source found {where}: nothing in this cube stands out from the noise."
        if dropped:
            weak = f"{dropped} weak candidate{'s were' if dropped > 1 else ' was'} dropped"
            text += f" {weak}; “Show dropped” lists them with the reasons."
    return "\n".join([text, *detections.warnings, *detections.notes_on_sidelobes])


def carried_text(carried: Carried) -> str:
    """How many reviews of an earlier detection were carried over, as a separate line; empty if there were none."""
    if not carried.matched and not carried.kept:
        return ""
    kept = f"; {carried.kept} not detected again, kept as yours" if carried.kept else ""
    return f"\nYour reviews were carried over: {carried.matched} matched{kept}. Undo brings the earlier detection back."


def _number(value: float, low: float, high: float, step: float) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setDecimals(2)
    box.setValue(value)
    return box
