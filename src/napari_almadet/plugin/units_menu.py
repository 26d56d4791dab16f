"""The menu of units at the axis: brightness, flux density and their scale; and the standard of rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from qtpy.QtGui import QActionGroup
from qtpy.QtWidgets import QMenu

from napari_almadet.inspection.brightness import SCALES, UNITS
from napari_almadet.inspection.brightness import refusal as no_unit
from napari_almadet.inspection.frames import FRAMES
from napari_almadet.inspection.frames import refusal as no_frame
from napari_almadet.plugin.spectral_choice import SpectralChoice

SPECTRA = {False: "flux density (the sum)", True: "mean brightness"}


class UnitsMenu(QMenu):
    """Units of spectrum, images and read-out; those that a cube's header does not allow are grey, with the reason."""

    def __init__(self, choice: SpectralChoice):
        super().__init__()
        self.choice = choice
        self.setToolTipsVisible(True)
        self.aboutToShow.connect(self.fill)
        self.fill()

    def fill(self) -> None:
        """List the units that the current cube allows."""
        self.clear()
        choice, cube = self.choice, self.choice.cube
        display = choice.display
        self.setEnabled(cube is not None)
        if cube is None:
            return
        self._section("Brightness")
        self._group(
            ((unit, unit, no_unit(cube, unit)) for unit in UNITS),
            "as in the file" if no_unit(cube, display.unit) else display.unit,
            lambda unit: choice.set_display(replace(choice.display, unit=unit)),
        )
        self._section("Spectrum of a box or region")
        self._group(
            ((mean, words, "") for mean, words in SPECTRA.items()),
            display.mean,
            lambda mean: choice.set_display(replace(choice.display, mean=mean)),
        )
        self._section("Scale of flux densities")
        self._group(
            ((scale, scale, "") for scale in SCALES),
            display.scale,
            lambda scale: choice.set_display(replace(choice.display, scale=scale)),
        )
        self._section("Frequencies and velocities")
        own = cube.spectral_frame
        header = [(None, f"as in the header ({own or 'not named'})", "")]
        others = [(frame, words, no_frame(cube, frame)) for frame, words in FRAMES.items() if frame != own]
        chosen = choice.frame if choice.frame and choice.frame != own and not no_frame(cube, choice.frame) else None
        self._group([*header, *others], chosen, choice.set_frame)

    def _section(self, title: str) -> None:
        action = self.addAction(title)
        assert action is not None  # as PyQt's stubs allow
        action.setEnabled(False)
        font = action.font()
        font.setBold(True)
        action.setFont(font)

    def _group(self, offered: Iterable[tuple[Any, str, str]], chosen: Any, choose: Callable[[Any], object]) -> None:
        """Exclusive actions; each has a value, a text, and the reason if it is unavailable."""
        group = QActionGroup(self)
        for value, words, refused in offered:
            action = group.addAction(f"{words}: {refused}" if refused else words)
            action.setCheckable(True)
            action.setChecked(value == chosen)
            action.setEnabled(not refused)
            action.triggered.connect(partial(_chosen, choose, value))
            self.addAction(action)


def _chosen(choose: Callable[[Any], object], value: Any, *_: object) -> None:
    choose(value)
