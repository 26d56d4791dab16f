"""What a detection run returns: candidates, and the catalogue made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.table import QTable

from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from napari_almadet.catalogue.candidate import Box
    from napari_almadet.cube.cube import Cube


@dataclass
class Detections:
    """Result of :func:`napari_almadet.detect` on one cube.

    Parameters
    ----------
    cube
        What was searched.
    settings
        Of the run.
    candidates
        All of them, the dropped too; :attr:`kept` are those the catalogue lists.
    stacked, probability
        Images (ny, nx) of the whole field: the sum over the channels, and the probability map.
    provenance
        Version, device, the weights' sha256 and the cube's, and how the cube was prepared.
    warnings
        What to know before the result is used, one sentence each.
    negatives
        ``prob`` and ``snr_pixel`` of what was found in the negated cube, shape (n, 2); None if that was not searched.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_almadet import Cube, detect
    >>> noise = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    >>> detections = detect(Cube.from_array(noise, name="noise"))
    >>> len(detections.kept)
    0
    >>> detections.table().colnames[:4]
    ['id', 'x', 'y', 'z']
    >>> detections.probability.shape
    (32, 32)
    """

    cube: Cube
    settings: Settings
    candidates: list[Candidate]
    stacked: np.ndarray
    probability: np.ndarray
    provenance: dict  # package version, device, weights' sha256 and the cube's
    warnings: list[str] = field(default_factory=list)
    negatives: np.ndarray | None = None

    @property
    def kept(self) -> list[Candidate]:
        """Candidates that were not dropped, in order of ``id``."""
        return [c for c in self.candidates if c.status is not Status.DROPPED]

    @property
    def flux_unit(self) -> u.UnitBase:
        """Unit of the candidates' ``f_sum`` and ``err_f_sum``."""
        return flux_factor(self.cube)[1] * self.width_unit

    @property
    def width_unit(self) -> u.UnitBase:
        """Unit of the candidates' ``w20`` and ``w50``."""
        return channel_width(self.cube).unit

    def drawn(self, box: Box, origin: str = "drawn") -> Candidate:
        """A candidate of the astronomer's own, with the next free ``id``; it is neither measured nor added yet.

        Parameters
        ----------
        box
            In the cube's pixels; what lies outside the field is cut off.
        origin
            ``"drawn"`` or ``"imported"``.

        Raises
        ------
        ValueError
            If the box lies outside the field.
        """
        number = max((candidate.id for candidate in self.candidates), default=0) + 1
        return Candidate(number, box.inside(self.cube.shape[1:]), np.nan, origin=origin)

    def table(self, candidates: Sequence[Candidate] | None = None) -> QTable:
        """The catalogue: one row for each candidate, by default the kept ones; columns as in ``docs/catalogue.md``.

        All columns are always there; what the cube's header does not let know is NaN.
        The metadata holds settings, provenance, warnings and, for every candidate, the
        dropped too, the decisions taken about it.

        Parameters
        ----------
        candidates
            Those to list; default: :attr:`kept`.
        """
        rows = self.kept if candidates is None else candidates
        flux, width, brightness = self.flux_unit, self.width_unit, brightness_unit(self.cube)
        x, y, z, err_x, err_y, err_z = (
            np.array([getattr(c, name) for c in rows], dtype=float)
            for name in ("x", "y", "z", "err_x", "err_y", "err_z")
        )
        sky = self.cube.sky(x, y)
        frequency, velocity = self.cube.frequency(z), self.cube.velocity(z)
        err_frequency, err_velocity = (_spread(axis, z, err_z) for axis in (self.cube.frequency, self.cube.velocity))
        response, undone = _primary_beam(self.cube, x, y, z)
        err_ra, err_dec = _sky_errors(self.cube, x, y, err_x, err_y)
        unknown = np.full(len(rows), np.nan)

        def numbers(name: str, unit: u.UnitBase) -> u.Quantity:
            return u.Quantity([getattr(c, name) for c in rows], unit, dtype=float)

        def plain(name: str, dtype: type) -> np.ndarray:
            return np.array([getattr(c, name) for c in rows], dtype=dtype)

        def indices(values: Sequence[int]) -> np.ndarray:  # plain integers, fit to slice with
            return np.array(values, dtype=int)

        columns = {
            "id": plain("id", int),
            "x": x * u.pix,
            "y": y * u.pix,
            "z": z * u.chan,
            "err_x": err_x * u.pix,
            "err_y": err_y * u.pix,
            "err_z": err_z * u.chan,
            "x_min": indices([c.box.x0 for c in rows]),
            "x_max": indices([c.box.x1 - 1 for c in rows]),
            "y_min": indices([c.box.y0 for c in rows]),
            "y_max": indices([c.box.y1 - 1 for c in rows]),
            "z_min": indices([c.channels[0] for c in rows]),
            "z_max": indices([c.channels[1] - 1 for c in rows]),
            "ra": unknown * u.deg if sky is None else sky.icrs.ra.to(u.deg).view(u.Quantity),
            "dec": unknown * u.deg if sky is None else sky.icrs.dec.to(u.deg).view(u.Quantity),
            "err_ra": err_ra,
            "err_dec": err_dec,
            "freq": unknown * u.Hz if frequency is None else frequency.to(u.Hz),
            "err_freq": unknown * u.Hz if err_frequency is None else err_frequency.to(u.Hz),
            "v_rad": unknown * u.km / u.s if velocity is None else velocity.to(u.km / u.s),
            "err_v_rad": unknown * u.km / u.s if err_velocity is None else err_velocity.to(u.km / u.s),
            "f_sum": numbers("f_sum", flux),
            "err_f_sum": numbers("err_f_sum", flux),
            "pb": response,
            "f_sum_pb": numbers("f_sum", flux) / undone,
            "err_f_sum_pb": numbers("err_f_sum", flux) / undone,
            "f_max": numbers("f_max", brightness),
            "peak": numbers("peak", brightness),
            "err_peak": numbers("err_peak", brightness),
            **{name: numbers(name, width) for name in ("w20", "err_w20", "w50", "err_w50", "fwhm", "err_fwhm")},
            **{name: numbers(name, u.arcsec) for name in ("dc_maj", "err_dc_maj", "dc_min", "err_dc_min")},
            "dc_pa": numbers("dc_pa", u.deg),
            "err_dc_pa": numbers("err_dc_pa", u.deg),
            "dc_limit": numbers("dc_limit", u.arcsec),
            "rms": numbers("rms", brightness),
            "prob": plain("prob", float),
            "rel": plain("rel", float),
            "snr_global": plain("snr_global", float),
            "snr_pixel": plain("snr_pixel", float),
            "n_peaks": indices([len(c.peaks) for c in rows]),
            "blended": plain("blended", bool),
            "edge": plain("edge", bool),
            "kind": plain("kind", str),
            "verdict": plain("verdict", str),
            "note": plain("note", str),
            "origin": plain("origin", str),
            "status": plain("status", str),
            "fate": plain("status", str),  # the name that tables of 0.1 had for it
        }
        decisions = {
            str(c.id): {
                "status": str(c.status),
                "reasons": c.reasons,
                "records": [decision.as_dict() for decision in c.decisions],
            }
            for c in self.candidates
        }
        table = QTable(columns, meta={**self.about(), "decisions": decisions})
        for name, told in descriptions(self.cube).items():
            table[name].info.description = told
        return table

    def about(self) -> dict:
        """Settings, provenance, warnings and negatives as plain values."""
        return {
            "settings": self.settings.as_dict(),
            "provenance": self.provenance,
            "warnings": list(self.warnings),
            "negatives": None if self.negatives is None else np.round(self.negatives, 6).tolist(),
        }


def brightness_unit(cube: Cube) -> u.UnitBase:
    """The cube's brightness unit, dimensionless where unknown."""
    return u.dimensionless_unscaled if cube.unit is None else cube.unit


def flux_factor(cube: Cube, channel: np.ndarray | None = None) -> tuple[float | np.ndarray, u.UnitBase]:
    """What turns a sum over pixels into a flux density, and its unit.

    Jy/beam and a known beam give Jy, and so does Jy/pixel.  K does where the frequency and the pixels' size are
    known, by the law of Rayleigh and Jeans, 2 k f² / c² a steradian, and MJy/sr and its like where the pixels' size is
    known.  Of any other brightness (Jy/beam without a beam) a sum is what it is, brightness times pixels.

    Parameters
    ----------
    channel
        Channels, shape (n,), each with a beam and frequency of its own; the factor is then an array.  Default: the
        cube's one beam, and the frequency of the middle.
    """
    unit = brightness_unit(cube)
    ones = 1.0 if channel is None else np.ones(len(channel))
    powers = dict(zip(unit.bases, unit.powers, strict=True))
    if powers.get(u.beam) == -1 and cube.beam_area and cube.beams is not None and cube.beam is not None:
        if channel is None or cube.beams.isscalar:
            return ones / cube.beam_area, unit * u.beam
        areas = np.asarray(cube.beams.value)[channel] / cube.beam.value * cube.beam_area
        return 1 / np.where(areas > 0, areas, cube.beam_area), unit * u.beam
    if unit.is_equivalent(u.K) and cube.pixel_scale is not None:
        frequency = cube.frequency((cube.shape[0] - 1) / 2 if channel is None else channel)
        if frequency is not None:
            kelvin = (2 * constants.k_B * frequency**2 / constants.c**2 * unit).to_value(u.Jy)
            return ones * kelvin * (cube.pixel_scale**2).to_value(u.sr), u.Jy
    if (unit * u.sr).is_equivalent(u.Jy) and cube.pixel_scale is not None:
        return ones * (unit * cube.pixel_scale**2).to_value(u.Jy), u.Jy
    return ones, unit * u.pix


def channel_width(cube: Cube, z: float | None = None) -> u.Quantity:
    """Width of the channel at ``z`` (default: the middle one), in km/s where a velocity is known, else Hz or chan."""
    z = (cube.shape[0] - 1) / 2 if z is None else z
    for coordinate in (cube.velocity, cube.frequency):
        width = _spread(coordinate, z, 1.0)
        if width is not None:
            return width
    return 1.0 * u.chan


def descriptions(cube: Cube) -> dict[str, str]:
    """What a reader of the table has to know of some columns of a cube: conventions and frames."""
    frame = cube.spectral_frame or "a frame that the header does not name"
    rest = "unknown" if cube.rest_frequency is None else f"{cube.rest_frequency.to_value(u.GHz):.9g} GHz"
    return {
        "ra": "ICRS",
        "dec": "ICRS",
        "err_ra": "along the sky: times cos(dec)",
        "freq": f"in {frame}",
        "v_rad": f"radio velocity in {frame}, rest frequency {rest}",
        "dc_limit": "FWHM; less than this at 2 standard deviations",
    }


def _spread(coordinate: Callable[[ArrayLike], u.Quantity | None], z: ArrayLike, width: ArrayLike) -> u.Quantity | None:
    """How much a spectral coordinate changes over ``width`` channels about ``z``."""
    low, high = coordinate(np.asarray(z) - 0.5), coordinate(np.asarray(z) + 0.5)
    return None if low is None or high is None else abs(high - low) * width


def _primary_beam(cube: Cube, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Response of the antennas at places in the cube, and what fluxes are to be divided by; NaN where unknown."""
    if cube.primary_beam is None:
        return (np.full(len(x), np.nan),) * 2
    response = np.array([cube.primary_beam.at(*place) for place in zip(x, y, z, strict=True)], dtype=float)
    return response, np.where(np.isnan(response), np.nan, 1.0) if cube.primary_beam.corrected else response


def _sky_errors(
    cube: Cube, x: np.ndarray, y: np.ndarray, err_x: np.ndarray, err_y: np.ndarray
) -> tuple[u.Quantity, u.Quantity]:
    """Errors along right ascension, on the sky, and declination (ICRS), by the errors of x and y; NaN without WCS."""
    if cube.celestial is None:
        return (np.full(len(x), np.nan) * u.arcsec,) * 2
    east, north = np.zeros((2, len(x)))
    for dx, dy, error in ((0.5, 0, err_x), (0, 0.5, err_y)):
        low, high = (cube.celestial.pixel_to_world(x + side * dx, y + side * dy).icrs for side in (-1, 1))
        to_east = (high.ra - low.ra).wrap_at(180 * u.deg).to_value(u.arcsec) * np.cos(high.dec.to_value(u.rad))
        east += (to_east * error) ** 2
        north += ((high.dec - low.dec).to_value(u.arcsec) * error) ** 2
    return np.sqrt(east) * u.arcsec, np.sqrt(north) * u.arcsec
