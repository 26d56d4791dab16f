"""The result of a detection run: candidates, and the catalogue made from them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.table import QTable

from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.catalogue.columns import description
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from astropy.coordinates import SkyCoord
    from numpy.typing import ArrayLike

    from napari_almadet.catalogue.candidate import Box
    from napari_almadet.cube.cube import Cube


@dataclass
class Searched:
    """What the pipeline of a preset finds in a cube: the result without its provenance.

    ``stacked`` and ``probability`` are images of the field (ny, nx), ``candidates`` include dropped ones, ``warnings``
    are one sentence each.  ``record`` are plain values on how the cube was searched, for the provenance.
    ``negatives`` and ``noise`` are those of :class:`Detections`.
    """

    stacked: np.ndarray
    probability: np.ndarray
    candidates: list[Candidate]
    warnings: list[str]
    record: dict[str, Any] = field(default_factory=dict)
    negatives: np.ndarray | None = None
    noise: Any = None


@dataclass
class Detections:
    """Result of :func:`napari_almadet.detect` on one cube.

    Parameters
    ----------
    cube
        The cube that was searched.
    settings
        Of the run.
    candidates
        All candidates, including dropped ones; the catalogue lists those in :attr:`kept`.
    stacked, probability
        Images (ny, nx) of the whole field: the sum over the channels, and the probability map.
    provenance
        Version, device, sha256 of the weights and of the cube, and how the cube was prepared.
    warnings
        Warnings about the result, one sentence each.
    negatives
        ``prob`` and ``snr_pixel`` of detections in the inverted cube, shape (n, 2); None if that was not searched.
    noise
        :class:`~napari_almadet.measure.noise.Noise` of the cube; None if it was not measured.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_almadet import Cube, detect
    >>> noise = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    >>> detections = detect(Cube.from_array(noise, name="noise"))
    >>> len(detections.kept)
    0
    >>> detections.table().colnames[:4]
    ['id', 'name', 'x', 'y']
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
    noise: Any = None  # napari_almadet.measure.noise.Noise of the cube, where it was measured

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
        """A new candidate from a box that the user drew, with the next free ``id``; not yet measured or added.

        Parameters
        ----------
        box
            In pixels of the cube; it is clipped to the field.
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
        """The catalogue: one row per candidate, by default the kept ones; columns as in ``docs/catalogue.md``.

        All columns are always present; quantities that cannot be computed are NaN.  The metadata contain settings,
        provenance, warnings and the decisions about every candidate, including dropped ones.

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
        density = flux_factor(self.cube)[1]
        err_ra, err_dec = _sky_errors(self.cube, x, y, err_x, err_y)
        unknown = np.full(len(rows), np.nan)

        def numbers(name: str, unit: u.UnitBase) -> u.Quantity:
            return u.Quantity([getattr(c, name) for c in rows], unit, dtype=float)

        def plain(name: str, dtype: type) -> np.ndarray:
            return np.array([getattr(c, name) for c in rows], dtype=dtype)

        def indices(values: Sequence[int]) -> np.ndarray:  # plain integers, suitable for slicing
            return np.array(values, dtype=int)

        galactic = None if sky is None else sky.galactic
        peak_sky = self.cube.sky(plain("x_peak", float), plain("y_peak", float))
        z_peak = plain("z_peak", float)
        at_channel = np.where(np.isfinite(z), z, self.cube.shape[0] // 2)
        response, undone = _primary_beam(self.cube, x, y, at_channel, plain("pb", float))

        def angle(values: Callable[[SkyCoord], u.Quantity], known: SkyCoord | None) -> u.Quantity:
            return unknown * u.deg if known is None else values(known).to(u.deg).view(u.Quantity)

        def spectral(kind: str, channel: np.ndarray, unit: str) -> u.Quantity:
            axis = self.cube.coordinate(kind, channel)
            return unknown * u.Unit(unit) if axis is None else axis.to(unit)

        def corrected_error(name: str, unit: u.UnitBase) -> u.Quantity:
            over_masks, elsewhere = numbers(f"{name}_pb", unit), numbers(name, unit) / undone
            return u.Quantity(np.where(np.isfinite(over_masks) & np.isfinite(undone), over_masks, elsewhere))

        columns = {
            "id": plain("id", int),
            "name": np.array(source_names(self.cube, x, y), dtype=str),
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
            "n_pix": plain("n_pix", int),
            "ra": angle(lambda place: place.icrs.ra, sky),
            "dec": angle(lambda place: place.icrs.dec, sky),
            "err_ra": err_ra,
            "err_dec": err_dec,
            "l": angle(lambda place: place.l, galactic),
            "b": angle(lambda place: place.b, galactic),
            "freq": unknown * u.Hz if frequency is None else frequency.to(u.Hz),
            "err_freq": unknown * u.Hz if err_frequency is None else err_frequency.to(u.Hz),
            "v_rad": unknown * u.km / u.s if velocity is None else velocity.to(u.km / u.s),
            "err_v_rad": unknown * u.km / u.s if err_velocity is None else err_velocity.to(u.km / u.s),
            "v_opt": spectral("VOPT", z, "km/s"),
            "err_v_opt": _error(lambda at: spectral("VOPT", at, "km/s"), z, err_z),
            "v_app": spectral("VELO", z, "km/s"),
            "err_v_app": _error(lambda at: spectral("VELO", at, "km/s"), z, err_z),
            "x_peak": plain("x_peak", float) * u.pix,
            "y_peak": plain("y_peak", float) * u.pix,
            "z_peak": z_peak * u.chan,
            "ra_peak": angle(lambda place: place.icrs.ra, peak_sky),
            "dec_peak": angle(lambda place: place.icrs.dec, peak_sky),
            "freq_peak": spectral("FREQ", z_peak, "Hz"),
            "v_rad_peak": spectral("VRAD", z_peak, "km/s"),
            "method": plain("method", str),
            "f_sum": numbers("f_sum", flux),
            "err_f_sum": numbers("err_f_sum", flux),
            "f_sum_all": numbers("f_sum_all", flux),
            "err_f_sum_all": numbers("err_f_sum_all", flux),
            "pb": response,
            "f_sum_pb": numbers("f_sum", flux) / undone,
            "err_f_sum_pb": corrected_error("err_f_sum", flux),
            "f_cont": numbers("f_cont", density),
            "err_f_cont": numbers("err_f_cont", density),
            "f_cont_pb": numbers("f_cont", density) / undone,
            "err_f_cont_pb": corrected_error("err_f_cont", density),
            "alpha": plain("alpha", float),
            "err_alpha": plain("err_alpha", float),
            "f_max": numbers("f_max", brightness),
            "f_min": numbers("f_min", brightness),
            "peak": numbers("peak", brightness),
            "err_peak": numbers("err_peak", brightness),
            **{
                f"{e}{name}": numbers(f"{e}{name}", width)
                for name in ("w20", "w50", "wm50", "fwhm")
                for e in ("", "err_")
            },
            "z_fit": plain("z_fit", float) * u.chan,
            "err_z_fit": plain("err_z_fit", float) * u.chan,
            "chi2_fit": plain("chi2_fit", float),
            **{name: numbers(name, u.arcsec) for name in ("dc_maj", "err_dc_maj", "dc_min", "err_dc_min")},
            "dc_pa": numbers("dc_pa", u.deg),
            "err_dc_pa": numbers("err_dc_pa", u.deg),
            "dc_limit": numbers("dc_limit", u.arcsec),
            **{name: numbers(name, u.arcsec) for name in ("ell_maj", "err_ell_maj", "ell_min", "err_ell_min")},
            **{name: numbers(name, u.deg) for name in ("ell_pa", "err_ell_pa")},
            **{name: numbers(name, u.arcsec) for name in ("ell3s_maj", "ell3s_min")},
            **{name: numbers(name, u.deg) for name in ("ell3s_pa", "kin_pa", "err_kin_pa")},
            "abs_snr": plain("abs_snr", float),
            "abs_z": plain("abs_z", float) * u.chan,
            "err_abs_z": plain("err_abs_z", float) * u.chan,
            "abs_v_rad": spectral("VRAD", plain("abs_z", float), "km/s"),
            **{f"{e}abs_depth": plain(f"{e}abs_depth", float) for e in ("", "err_")},
            **{f"{e}abs_w50": numbers(f"{e}abs_w50", width) for e in ("", "err_")},
            **{name: plain(name, float) for name in ("abs_tau", "err_abs_tau", "abs_tau_limit")},
            **{f"{e}abs_tau_int": numbers(f"{e}abs_tau_int", width) for e in ("", "err_")},
            "abs_n": plain("abs_n", float),
            "rms": numbers("rms", brightness),
            "prob": plain("prob", float),
            "rel": plain("rel", float),
            "snr_global": plain("snr_global", float),
            "snr_pixel": plain("snr_pixel", float),
            "n_peaks": indices([len(c.peaks) for c in rows]),
            "blended": plain("blended", bool),
            "edge": plain("edge", bool),
            "flag": plain("flag", int),
            "parent": plain("parent", int),
            "kind": plain("kind", str),
            "line_ids": plain("line_ids", str),
            "redshifts": plain("redshifts", str),
            "verdict": plain("verdict", str),
            "note": plain("note", str),
            "origin": plain("origin", str),
            "status": plain("status", str),
            "fate": plain("status", str),  # its name in version 0.1
        }
        decisions = {
            str(c.id): {
                "status": str(c.status),
                "reasons": c.reasons,
                "records": [decision.as_dict() for decision in c.decisions],
            }
            for c in self.candidates
        }
        table = QTable(columns, copy=False)
        table.meta.update(deepcopy(self.about()))
        table.meta["decisions"] = decisions
        of_cube = descriptions(self.cube)
        for name in table.colnames:
            table[name].info.description = of_cube.get(name) or description(name)
        return table

    def labels(self, candidates: Sequence[Candidate] | None = None) -> np.ndarray:
        """The masks of candidates as a label array; the value of a voxel is the id of its candidate.

        Parameters
        ----------
        candidates
            Default: the kept ones.

        Returns
        -------
        numpy.ndarray
            Shape (channels, ny, nx), as the cube; 0 is no source.  Boxes drawn by the user can overlap, and by a few
            voxels masks that were measured in different cutouts; there the later candidate is used.
        """
        rows = self.kept if candidates is None else candidates
        most = max((c.id for c in rows), default=0)
        labels = np.zeros(self.cube.shape, np.int16 if most < 2**15 else np.int32)
        for candidate in rows:
            if candidate.mask is not None:
                labels[candidate.mask.slices][candidate.mask.voxels] = candidate.id
        return labels

    @property
    def notes(self) -> list[str]:
        """Sentences on how the cube was searched, with notes on its sidelobes and its continuum."""
        continuum = self.provenance.get("cube", {}).get("continuum")
        return [*self.notes_on_sidelobes, *([continuum] if continuum else [])]

    @property
    def notes_on_sidelobes(self) -> list[str]:
        """What was subtracted for the search only, or could not be subtracted, in a sentence; or nothing."""
        note = self.provenance.get("dirty_beam", {}).get("note")
        return [note] if note else []

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
    """Factor that converts a sum over pixels to a flux density, and its unit.

    The result is in Jy for Jy/beam if the beam is known, for Jy/pixel, for K if frequency and pixel size are known
    (Rayleigh-Jeans law, 2 k f² / c² per steradian), and for MJy/sr and the like if the pixel size is known.  For any
    other brightness (such as Jy/beam without a beam) it is brightness times pixels.

    Parameters
    ----------
    channel
        Channels, shape (n,), each with its own beam and frequency; the factor is then an array.  Default: the
        representative beam of the cube and the frequency of the middle channel.
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


def channel_width(cube: Cube, z: ArrayLike | None = None) -> u.Quantity:
    """Width of the channel at ``z`` (default: the middle one), in km/s if velocities are known, else Hz or chan."""
    z = (cube.shape[0] - 1) / 2 if z is None else z
    for coordinate in (cube.velocity, cube.frequency):
        width = _spread(coordinate, z, 1.0)
        if width is not None:
            return width
    return 1.0 * u.chan


def descriptions(cube: Cube) -> dict[str, str]:
    """Descriptions of table columns that depend on the cube: conventions and frames."""
    frame = cube.spectral_frame or "a frame that the header does not specify"
    rest = "unknown" if cube.rest_frequency is None else f"{cube.rest_frequency.to_value(u.GHz):.9g} GHz"
    return {
        "freq": f"in {frame}",
        "v_rad": f"radio velocity in {frame}, rest frequency {rest}",
        "v_opt": f"optical velocity c (rest / freq - 1) in {frame}",
        "v_app": f"relativistic velocity in {frame}, assuming that the shift is due to motion alone",
    }


def _error(coordinate: Callable[[np.ndarray], u.Quantity], z: np.ndarray, err_z: np.ndarray) -> u.Quantity:
    """Error of a spectral coordinate from that of the channel."""
    return abs(coordinate(z + 0.5) - coordinate(z - 0.5)) * err_z


def source_names(cube: Cube, x: np.ndarray, y: np.ndarray) -> list[str]:
    """Source names by position in IAU style, JHHMMSS.ss+DDMMSS.s, truncated; by pixel without sky coordinates."""
    sky = cube.sky(np.asarray(x, float), np.asarray(y, float)) if len(x) else None
    if sky is None:
        return [f"ALMADET x{px:.0f} y{py:.0f}" if np.isfinite(px) else "ALMADET" for px, py in zip(x, y, strict=True)]
    named = []
    for hours, degrees in zip(sky.icrs.ra.hour.tolist(), sky.icrs.dec.deg.tolist(), strict=True):
        if not np.isfinite(hours) or not np.isfinite(degrees):
            named.append("ALMADET")
            continue
        seconds, arcsec = int(hours * 360000), int(abs(degrees) * 36000)
        right_ascension = (
            f"{seconds // 360000:02d}{seconds // 6000 % 60:02d}{seconds // 100 % 60:02d}.{seconds % 100:02d}"
        )
        declination = f"{arcsec // 36000:02d}{arcsec // 600 % 60:02d}{arcsec // 10 % 60:02d}.{arcsec % 10}"
        named.append(f"ALMADET J{right_ascension}{'-' if degrees < 0 else '+'}{declination}")
    return named


def _spread(coordinate: Callable[[ArrayLike], u.Quantity | None], z: ArrayLike, width: ArrayLike) -> u.Quantity | None:
    """Change of a spectral coordinate over ``width`` channels around ``z``."""
    low, high = coordinate(np.asarray(z) - 0.5), coordinate(np.asarray(z) + 0.5)
    return None if low is None or high is None else abs(high - low) * width


def _primary_beam(
    cube: Cube, x: np.ndarray, y: np.ndarray, z: np.ndarray, over_masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Primary-beam response over masks or else at positions, and the divisor of fluxes; NaN if unknown."""
    if cube.primary_beam is None:
        return (np.full(len(x), np.nan),) * 2
    at_places = np.array([cube.primary_beam.at(*place) for place in zip(x, y, z, strict=True)], dtype=float)
    response = np.where(np.isfinite(over_masks), over_masks, at_places)
    return response, np.where(np.isnan(response), np.nan, 1.0) if cube.primary_beam.corrected else response


def _sky_errors(
    cube: Cube, x: np.ndarray, y: np.ndarray, err_x: np.ndarray, err_y: np.ndarray
) -> tuple[u.Quantity, u.Quantity]:
    """Errors in right ascension (on the sky) and declination (ICRS) from those of x and y; NaN without WCS."""
    if cube.celestial is None:
        return (np.full(len(x), np.nan) * u.arcsec,) * 2
    east, north = np.zeros((2, len(x)))
    for dx, dy, error in ((0.5, 0, err_x), (0, 0.5, err_y)):
        low, high = (cube.celestial.pixel_to_world(x + side * dx, y + side * dy).icrs for side in (-1, 1))
        to_east = (high.ra - low.ra).wrap_at(180 * u.deg).to_value(u.arcsec) * np.cos(high.dec.to_value(u.rad))
        east += (to_east * error) ** 2
        north += ((high.dec - low.dec).to_value(u.arcsec) * error) ** 2
    return np.sqrt(east) * u.arcsec, np.sqrt(north) * u.arcsec


def listed_first(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates numbered from 1 on, those that the catalogue lists before the dropped, each in the order of before.

    What refers to another candidate, its ``parent`` and its decisions, is renumbered with it.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.status is Status.DROPPED)
    called = {candidate.id: number for number, candidate in enumerate(ordered, start=1)}
    for candidate in ordered:
        candidate.id = called[candidate.id]
        candidate.parent = called.get(candidate.parent, 0)
        candidate.decisions = [
            decision.renumbered(lambda number: called.get(number, number)) for decision in candidate.decisions
        ]
    return ordered
