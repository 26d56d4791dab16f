"""On which spectral axis the panels show the cube, relative to which rest frequency, and in which units."""

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
        What it can be shown on; empty without a cube.
    axis
        The one chosen, or None without a cube.
    rest_frequency
        The user's, the header's, or None where neither is known.
    frame
        The standard of rest that was asked for; None is the header's, and where a cube cannot be given in it.
    display
        In which units brightnesses and flux densities are shown.
    """

    changed = Signal()

    def __init__(self, session: Session):
        self.session = session
        self.cube: Cube | None = None
        self.axes: list[SpectralAxis] = []
        self.axis: SpectralAxis | None = None
        self._velocities: list[SpectralAxis] = []  # picked out once: astropy takes its time to compare units
        self.rest_frequency: u.Quantity | None = None
        self._wanted: str | None = None  # by the user, and kept for cubes that have it
        self.frame: str | None = None
        self.display = Display()
        session.image_changed.connect(self._follow)
        session.detections_changed.connect(self._follow)
        self._follow()

    @property
    def velocity(self) -> SpectralAxis | None:
        """The axis in km/s: the one chosen, else the radio convention's; None where no velocity is known."""
        return self.axis if self.axis in self._velocities else next(iter(self._velocities), None)

    @property
    def frequency(self) -> SpectralAxis | None:
        """The axis in GHz, or None where no frequency is known."""
        return next((axis for axis in self.axes if axis.unit == u.GHz), None)

    def choose(self, choice: str) -> None:
        """Show another axis, by its :attr:`SpectralAxis.choice`."""
        axis = next((axis for axis in self.axes if axis.choice == choice), self.axis)
        if axis is not self.axis:
            self.axis, self._wanted = axis, choice
            self.changed.emit()

    def set_rest_frequency(self, rest: u.Quantity | None) -> None:
        """Count velocities from another rest frequency; None is the header's."""
        rest = rest if rest is not None or self.cube is None else self.cube.rest_frequency
        if rest != self.rest_frequency:
            self.rest_frequency = rest
            self._list()

    def set_frame(self, frame: str | None) -> None:
        """Give frequencies and velocities in another standard of rest; None is the header's."""
        if frame != self.frame:
            self.frame = frame
            self._list()

    def set_display(self, display: Display) -> None:
        """Show brightnesses and flux densities in other units."""
        if display != self.display:
            self.display = display
            self.changed.emit()

    def _follow(self, *_: object) -> None:
        try:
            there = self.session.detections is not None or self.session.image is not None
            cube = self.session.ground.cube if there else None
        except CubeError:  # of complex numbers, say: there is nothing to show
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
