"""The spectral axis of a cube as frequency, wavelength, velocity in three conventions, or channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.frames import frame_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CONVENTIONS = {"radio": u.doppler_radio, "optical": u.doppler_optical, "relativistic": u.doppler_relativistic}


@dataclass(frozen=True, eq=False)
class SpectralAxis:
    """One way to name the channels of a cube.

    Attributes
    ----------
    name
        What the axis gives, e.g. "Radio velocity".
    unit
        GHz, mm, km/s or chan.
    edges
        World coordinates of the n + 1 channel edges, in ``unit``; they rise or fall, and need not be equally spaced.
    frame
        Standard of rest, e.g. LSRK; empty where the header gives none.
    """

    name: str
    unit: u.UnitBase
    edges: np.ndarray
    frame: str = ""

    @property
    def choice(self) -> str:
        """A short name that tells the axis from the cube's others."""
        convention = self.name.split()[0].lower()
        return f"km/s {convention}" if self.unit == u.km / u.s else "channel" if self.unit == u.chan else str(self.unit)

    @property
    def label(self) -> str:
        """Name, frame and unit, to be written on the axis."""
        if self.unit == u.chan:
            return self.name
        unit = "km/s" if self.unit == u.km / u.s else str(self.unit)
        return f"{self.name}{f', {self.frame}' if self.frame else ''} ({unit})"

    @property
    def centres(self) -> np.ndarray:
        """World coordinates of the channel centres."""
        return self.world(np.arange(len(self.edges) - 1))

    @property
    def widths(self) -> np.ndarray:
        """Widths of the channels, positive."""
        return np.abs(np.diff(self.edges))

    def world(self, channel: ArrayLike) -> np.ndarray:
        """World coordinate of fractional channel(s)."""
        return np.interp(np.asarray(channel, float), np.arange(len(self.edges)) - 0.5, self.edges)

    def fractional(self, world: ArrayLike) -> np.ndarray:
        """Fractional channel(s) of world coordinate(s); the band's end for those beyond it."""
        order = np.argsort(self.edges)
        return np.interp(np.asarray(world, float), self.edges[order], order - 0.5)

    def channel(self, world: float) -> int:
        """Channel (0-based) that holds a world coordinate, the nearest if none does."""
        return int(np.clip(np.round(self.fractional(world)), 0, len(self.edges) - 2))

    def channels(self, one: float, other: float) -> tuple[int, int]:
        """Half-open range of the channels whose centres lie between two world coordinates, one at least."""
        low, high = np.sort(self.fractional([one, other]))
        first = min(max(int(np.ceil(low)), 0), len(self.edges) - 2)
        return first, min(max(int(np.floor(high)) + 1, first + 1), len(self.edges) - 1)


def spectral_axes(cube: Cube, rest_frequency: u.Quantity | None = None, frame: str | None = None) -> list[SpectralAxis]:
    """The axes a cube can be shown on, frequency before velocities, wavelength and channel.

    A velocity axis without a rest frequency still converts between the three conventions,
    as the rest frequency cancels; frequency and wavelength then are left out.

    Parameters
    ----------
    rest_frequency
        For velocities; the header's if None.
    frame
        Standard of rest, a key of :data:`~napari_almadet.inspection.frames.FRAMES`; the header's if None.

    Raises
    ------
    FrameError
        If the channels cannot be given in that frame.
    """
    n_channels = cube.shape[0]
    channel = np.arange(n_channels + 1) - 0.5
    rest = cube.rest_frequency if rest_frequency is None else rest_frequency
    moved, axes = 1.0 if frame is None else frame_factor(cube, frame), []
    frame = cube.spectral_frame if frame is None else frame
    observed = frequency(cube, channel, rest)
    observed = None if observed is None else observed * moved
    if observed is not None:
        axes.append(SpectralAxis("Frequency", u.GHz, observed.to_value(u.GHz), frame))
    shifted = observed
    if observed is None and (radio := cube.velocity(channel)) is not None:
        rest = 1 * u.GHz  # cancels
        shifted = radio.to(u.GHz, u.doppler_radio(rest)) * moved
    if shifted is not None and rest is not None:
        for word, convention in CONVENTIONS.items():
            velocity = shifted.to_value(u.km / u.s, convention(rest))
            axes.append(SpectralAxis(f"{word.capitalize()} velocity", u.km / u.s, velocity, frame))
    if observed is not None:
        axes.append(SpectralAxis("Wavelength", u.mm, observed.to_value(u.mm, u.spectral()), frame))
    return [*axes, SpectralAxis("Channel", u.chan, channel)]


def frequency(cube: Cube, channel: ArrayLike, rest_frequency: u.Quantity | None = None) -> u.Quantity | None:
    """Frequency at fractional channel(s); of a velocity axis without rest frequency, by the one given; else None."""
    known = cube.frequency(channel)
    if known is not None or rest_frequency is None:
        return known
    radio = cube.velocity(channel)
    return None if radio is None else radio.to(u.Hz, u.doppler_radio(rest_frequency))
