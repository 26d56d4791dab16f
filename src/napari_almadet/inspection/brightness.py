"""In which unit brightnesses and flux densities are shown: as in the file, Jy/beam or K; Jy, mJy or μJy.

Jy/beam and K are one brightness by the law of Rayleigh and Jeans, S = 2 k T Omega nu^2 / c^2, each channel with its own
beam and frequency.  The catalogue keeps the file's unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import constants
from astropy import units as u

from napari_almadet.catalogue.detections import brightness_unit, flux_factor
from napari_almadet.inspection.describe import readable

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from napari_almadet.cube.cube import Cube

JY_BEAM, KELVIN = u.Jy / u.beam, u.K
UNITS: dict[str, u.UnitBase | None] = {"as in the file": None, "Jy/beam": JY_BEAM, "K": KELVIN}
SCALES: dict[str, u.UnitBase | None] = {"automatic": None, "Jy": u.Jy, "mJy": u.mJy, "μJy": u.uJy}


class UnitError(ValueError):
    """A unit that a cube's values cannot be given in; the message says why."""


@dataclass(frozen=True)
class Display:
    """How values are shown.

    Attributes
    ----------
    unit
        Of brightness: a key of `UNITS`.
    mean
        Whether the spectrum of a box or region is its mean brightness, and not its flux density.
    scale
        Of flux densities, those in Jy/beam too: a key of `SCALES`.
    """

    unit: str = "as in the file"
    mean: bool = False
    scale: str = "automatic"

    def of_brightness(self, values: u.Quantity, cube: Cube, channel: ArrayLike) -> u.Quantity:
        """Values in a cube's brightness unit, or that times another such as km/s, as they are shown.

        Parameters
        ----------
        channel
            Whose beam and frequency count: one for all, or such that its shape goes with that of ``values``.
        """
        return self.scaled(self.converted(values, cube, channel))

    def converted(self, values: u.Quantity, cube: Cube, channel: ArrayLike) -> u.Quantity:
        """As :meth:`of_brightness`, without a change of scale."""
        wanted = UNITS[self.unit]
        own = brightness_unit(cube)
        if wanted is None or refusal(cube, self.unit):
            return values
        return values.value * factor(cube, wanted, channel) * (values.unit / own * wanted)

    def of_spectrum(self, spectrum: u.Quantity, cube: Cube, pixels: int) -> u.Quantity:
        """A spectrum as it is shown, not scaled; of ``pixels`` that were summed, if it is a flux density."""
        channel = np.arange(len(spectrum))
        if spectrum.unit != brightness_unit(cube):
            if not self.mean:
                return spectrum
            sums, unit = flux_factor(cube, channel)
            spectrum = (spectrum / unit).to_value(u.dimensionless_unscaled) / sums / pixels * brightness_unit(cube)
        return self.converted(spectrum, cube, channel)

    def scaled(self, values: u.Quantity) -> u.Quantity:
        """Values in Jy, mJy or μJy as was chosen; those of no flux density as they are."""
        return readable(values, SCALES[self.scale])


def factor(cube: Cube, wanted: u.UnitBase, channel: ArrayLike) -> np.ndarray:
    """What turns a cube's brightness into another unit in each channel.

    Raises
    ------
    UnitError
        If beam, frequency or pixels' size are not known.
    """
    own = brightness_unit(cube)
    if own.is_equivalent(wanted):
        return np.full(np.shape(channel), own.to(wanted))
    return np.asarray(_per_steradian(cube, own, channel) / _per_steradian(cube, wanted, channel))


def refusal(cube: Cube, unit: str) -> str:
    """Why a cube's brightness cannot be shown in a unit of `UNITS`; empty where it can."""
    wanted = UNITS[unit]
    try:
        if wanted is not None:
            factor(cube, wanted, 0)
    except UnitError as error:
        return str(error)
    return ""


def _per_steradian(cube: Cube, unit: u.UnitBase, channel: ArrayLike) -> np.ndarray:
    """Jy/sr that a brightness of 1 is, in each channel."""
    powers = dict(zip(unit.bases, unit.powers, strict=True))
    if unit.is_equivalent(u.K):
        frequency = cube.frequency(channel)
        if frequency is None:
            raise UnitError("the frequency is not known")
        return np.asarray((2 * constants.k_B * frequency**2 / constants.c**2 * unit / u.sr).to_value(u.Jy / u.sr))
    if powers.get(u.beam) == -1 and (unit * u.beam).is_equivalent(u.Jy):
        if cube.beams is None or cube.beam is None:
            raise UnitError("the beam is not known")
        areas = np.full(np.shape(channel), cube.beam.sr.to_value(u.sr))
        if not cube.beams.isscalar:
            own = np.asarray(cube.beams.sr.to_value(u.sr))[
                np.clip(np.rint(np.asarray(channel, float)).astype(int), 0, cube.shape[0] - 1)
            ]
            areas = np.where(own > 0, own, areas)
        return (unit * u.beam).to(u.Jy) / areas
    if unit.is_equivalent(u.Jy / u.sr):
        return np.full(np.shape(channel), unit.to(u.Jy / u.sr))
    if powers.get(u.pix) == -1 and (unit * u.pix).is_equivalent(u.Jy):
        if cube.pixel_scale is None:
            raise UnitError("the size of its pixels is not known")
        return np.full(np.shape(channel), (unit * u.pix).to(u.Jy) / (cube.pixel_scale**2).to_value(u.sr))
    raise UnitError(f"its unit is {unit}" if unit != u.dimensionless_unscaled else "the header names no unit (BUNIT)")
