"""Line identification: rest frequency, redshift, and known lines in the band."""

from __future__ import annotations

from collections.abc import Callable

from astropy import units as u
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QWidget,
    QWidgetAction,
)

from napari_almadet.inspection.known_lines import Line, known_lines, lines_in_band, redshift_of
from napari_almadet.inspection.redshifts import Identification, RedshiftRange, observed_lines, redshifts_of
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice

LEAST_REDSHIFT = -0.01  # more blueshifted than any galaxy of the Local Group


class LinesMenu(QMenu):
    """A small form in a menu: rest frequency of the velocity axis, and redshift at which lines are marked."""

    changed = Signal()

    def __init__(self, session: Session, choice: SpectralChoice):
        super().__init__()
        self.session, self.choice = session, choice
        self.rest = _spin(0.0, 10_000.0, 6, " GHz")
        self.rest.setSpecialValueText("unknown")
        self.rest.setToolTip("Rest frequency of the velocity scale; initially the header's")
        self.rest.setKeyboardTracking(False)
        self.rest.valueChanged.connect(self._rest_changed)
        self.header_button = _button("As in header", "Back to the header's rest frequency", self._rest_from_header)
        self.peak_button = _button("0 km/s here", "Velocity 0 at the selected candidate's line", self._rest_from_peak)
        self.show_lines = QCheckBox("Mark lines in the band")
        self.show_lines.toggled.connect(self._tell)
        self.redshift = _spin(LEAST_REDSHIFT, 20.0, 6, "")
        self.redshift.setSingleStep(0.001)
        self.redshift.setToolTip("Lines are marked at their rest frequency / (1 + z)")
        self.redshift.valueChanged.connect(self._redshift_changed)
        self.identity = QComboBox()
        self.identity.setToolTip(
            "Identify the selected candidate's line with this one: sets rest frequency and redshift"
        )
        self.identity.setMaxVisibleItems(12)
        self.identity.setStyleSheet("QComboBox { combobox-popup: 0 }")  # else some styles fill the screen
        self.identity.activated.connect(self._identified)

        rest = QHBoxLayout()
        for widget in (self.rest, self.header_button, self.peak_button):
            rest.addWidget(widget)
        content = QWidget()
        form = QFormLayout(content)
        form.addRow("The line is", self.identity)
        form.addRow("Rest frequency", rest)
        form.addRow("Redshift z", self.redshift)
        form.addRow("", self.show_lines)
        action = QWidgetAction(self)
        action.setDefaultWidget(content)
        self.addAction(action)
        self.aboutToShow.connect(self._fill)
        choice.changed.connect(self._axes_changed)
        self._axes_changed()

    def in_band(self) -> list[tuple[Line, float]]:
        """The lines to mark, each with its observed frequency in GHz."""
        frequency = self.choice.frequency
        if frequency is None or not self.show_lines.isChecked():
            return []
        return lines_in_band(frequency.edges.min(), frequency.edges.max(), self.redshift.value())

    def _observed(self) -> float | None:
        """Frequency in GHz of the selected candidate's line."""
        candidate, frequency = self.session.subject, self.choice.frequency
        if candidate is None or candidate.primary is None or frequency is None:
            return None
        return float(frequency.world(candidate.primary.centre))

    def _axes_changed(self) -> None:
        with QSignalBlocker(self.rest):
            rest = self.choice.rest_frequency
            self.rest.setValue(0.0 if rest is None else rest.to_value(u.GHz))
        self.header_button.setEnabled(self.choice.cube is not None and self.choice.cube.rest_frequency is not None)

    def _fill(self) -> None:
        """List possible identifications of the line, the nearest first."""
        observed = self._observed()
        self.identity.clear()
        self.identity.setEnabled(observed is not None)
        self.peak_button.setEnabled(observed is not None)
        if observed is None:
            self.identity.addItem("this candidate has no line" if self.session.selected else "no candidate is selected")
            return
        self.identity.addItem("choose …")
        for found in self._of_several():
            names = ", ".join("unidentified" if line is None else line.name for line in found.lines)
            self.identity.addItem(f"{names}: z = {found.redshift:.5f}", found)
        offered = [(redshift_of(line, observed), line) for line in known_lines()]
        for z, line in sorted((pair for pair in offered if pair[0] >= LEAST_REDSHIFT), key=lambda pair: abs(pair[0])):
            self.identity.addItem(f"{line.name}, {line.rest_frequency:.3f} GHz: z = {z:.5f}", line)
            if self.rest.value() == round(line.rest_frequency, self.rest.decimals()):
                self.identity.setCurrentIndex(self.identity.count() - 1)

    def _of_several(self) -> list[Identification]:
        """Redshifts that explain two or more lines of the selected candidate."""
        cube, frequency = existing(self.choice.cube), existing(self.choice.frequency)
        lines = observed_lines(cube, existing(self.session.subject))
        band = float(frequency.edges.min()), float(frequency.edges.max())
        return redshifts_of(lines, RedshiftRange(LEAST_REDSHIFT, self.redshift.maximum()), band)

    def _identified(self, index: int) -> None:
        line = self.identity.itemData(index)
        if isinstance(line, Identification):  # velocities are relative to the candidate's first line
            observed, z = existing(self._observed()), line.redshift
            self.show_lines.setChecked(True)
            self.redshift.setValue(z)
            known = [one for one in line.lines if one is not None]
            line = min(known, key=lambda one: abs(one.rest_frequency / (1 + z) - observed))
            if existing(self.choice.cube).frequency(0) is not None:
                self.rest.setValue(line.rest_frequency)
        elif line is not None:
            self.show_lines.setChecked(True)
            self.redshift.setValue(redshift_of(line, existing(self._observed())))
            # else the axis is velocity relative to the rest frequency
            if existing(self.choice.cube).frequency(0) is not None:
                self.rest.setValue(line.rest_frequency)

    def _redshift_changed(self, *_: object) -> None:
        self.show_lines.setChecked(True)
        self.changed.emit()

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    def _rest_changed(self, value: float) -> None:
        self.choice.set_rest_frequency(value * u.GHz if value > 0 else None)

    def _rest_from_header(self) -> None:
        self.choice.set_rest_frequency(None)

    def _rest_from_peak(self) -> None:
        self.choice.set_rest_frequency(self._observed() * u.GHz)


def _spin(low: float, high: float, decimals: int, suffix: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(decimals)
    box.setSuffix(suffix)
    box.setMinimumWidth(130)
    return box


def _button(text: str, tip: str, clicked: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(clicked)
    return button
