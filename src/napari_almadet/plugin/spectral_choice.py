"""The spectral axis, rest frequency and units that the panels use."""

from __future__ import annotations

from astropy import units as u
from psygnal import Signal

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.inspection.axes import SpectralAxis, spectral_axes
from napari_almadet.inspection.brightness import Display
from napari_almadet.inspection.frames import refusal
from napari_almadet.plugin.session import Session


class SpectralChoice:
    """The axis that the inspector's panels share; it follows the session to other cubes.

    Attributes
    ----------
    cube
        The cube under inspection, or None.
    axes
        The spectral axes available for it; empty without a cube.
    axis
        The chosen one, or None without a cube.
    rest_frequency
        From the user, else from the header; None if unknown.
    frame
        The standard of rest that the user chose; None: that of the header, also if conversion is impossible.
    display
        Units of brightness and flux density.
    """

    changed = Signal()

    def __init__(self, session: Session):
        self.session = session
        self.cube: Cube | None = None
        self.axes: list[SpectralAxis] = []
        self.axis: SpectralAxis | None = None
        self._velocities: list[SpectralAxis] = []  # selected once: comparing units takes astropy long
        self.rest_frequency: u.Quantity | None = None
        self._wanted: str | None = None  # chosen by the user; used for all cubes that have it
        self.frame: str | None = None
        self.display = Display()
        session.image_changed.connect(self._follow)
        session.detections_changed.connect(self._follow)
        self._follow()

    @property
    def velocity(self) -> SpectralAxis | None:
        """The axis in km/s: the chosen one, else in the radio convention; None if velocities are unknown."""
        return self.axis if self.axis in self._velocities else next(iter(self._velocities), None)

    @property
    def frequency(self) -> SpectralAxis | None:
        """The axis in GHz, or None if frequencies are unknown."""
        return next((axis for axis in self.axes if axis.unit == u.GHz), None)

    def choose(self, choice: str) -> None:
        """Show another axis, by its :attr:`SpectralAxis.choice`."""
        axis = next((axis for axis in self.axes if axis.choice == choice), self.axis)
        if axis is not self.axis:
            self.axis, self._wanted = axis, choice
            self.changed.emit()

    def set_rest_frequency(self, rest: u.Quantity | None) -> None:
        """Set the rest frequency of the velocity axis; None: that of the header."""
        rest = rest if rest is not None or self.cube is None else self.cube.rest_frequency
        if rest != self.rest_frequency:
            self.rest_frequency = rest
            self._list()

    def set_frame(self, frame: str | None) -> None:
        """Set the standard of rest of frequencies and velocities; None: that of the header."""
        if frame != self.frame:
            self.frame = frame
            self._list()

    def set_display(self, display: Display) -> None:
        """Set the units of brightness and flux density."""
        if display != self.display:
            self.display = display
            self.changed.emit()

    def _follow(self, *_: object) -> None:
        try:
            there = self.session.detections is not None or self.session.image is not None
            cube = self.session.ground.cube if there else None
        except CubeError:  # for example complex numbers: nothing to show
            cube = None
        if cube is not self.cube:
            self.cube = cube
            self.rest_frequency = cube.rest_frequency if cube is not None else None
            self._list()

    def _list(self) -> None:
        cube = self.cube
        frame = self.frame if cube is not None and self.frame and not refusal(cube, self.frame) else None
        self.axes = spectral_axes(cube, self.rest_frequency, frame) if cube is not None else []
        self._velocities = [axis for axis in self.axes if axis.unit == u.km / u.s]
        self.axis = next((axis for axis in self.axes if axis.choice == self._wanted), next(iter(self.axes), None))
        self.changed.emit()
