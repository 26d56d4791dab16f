"""A spectral cube with its header: :class:`Cube`, and :class:`PrimaryBeam`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS, WCSSUB_SPECTRAL, WcsError
from astropy.wcs.utils import proj_plane_pixel_area

from napari_almadet.constants import BEAM_AREA, NORMAL_MAD
from napari_almadet.cube.headers import is_velocity
from napari_almadet.cube.storage import CubeError, Held, Index, Lazy, Rounding, largest

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord
    from numpy.typing import ArrayLike
    from radio_beam import Beam, Beams


HASHED_AT_ONCE = 2**20  # bytes
# Fewest channels in which zeros that were rounded can be known.  Derived: with fpack's usual step, a quarter of the
# noise, 10 % of the values of noise may be zeros, and so 1e-8 of the pixels in all of 8 channels.
FEWEST_ROUNDED = 8
SAMPLE = 32  # channels that are examined where examining all of them would take long
HUGE = 1e20  # a larger value among ones far smaller marks missing data (FLT_MAX, 1e30); no brightness unit needs it
RANGE = 1e10  # largest plausible ratio of two values; the largest dynamic range of any image is 1e7
CEILING_SAMPLE = 5  # channels from which typical values are taken
USUAL_SHARE = 0.01  # fraction of values that must be below HUGE; otherwise such values are normal in the cube's unit
NOISE_LIKE = 10.0  # largest 90th percentile over the median of absolute values where noise dominates; pure noise: 2.4
SPIKE = 1e4  # noise levels; fainter single voxels hide no source
SPIKE_BEAM = 2.0  # px; next to the peak of such a beam there is a pixel with at least half the peak
SPIKE_NEIGHBOUR = 0.1  # of the voxel that its brightest neighbour reaches at most
TYPICAL_SAMPLE = 50_000  # values of a plane from which its median is taken


@dataclass(frozen=True, eq=False)
class PrimaryBeam:
    """The primary-beam response across a cube's field, from 0 to 1.

    Attributes
    ----------
    data
        Shape (1, ny, nx), or (channels, ny, nx) where it is known for each channel.
    path
        The file it is from.
    corrected
        Whether the cube has been divided by it, so that its noise rises as its inverse.
    """

    data: Any
    path: Path
    corrected: bool = False
    reader: Callable[[Path, Cube], PrimaryBeam] | None = None  # opens it again after pickling

    def plane(self, channel: int = 0, y: Index = slice(None), x: Index = slice(None)) -> np.ndarray:
        """The response at one channel of the cube, float32; NaN where there is none, as beyond the image's cut-off."""
        plane = np.array(self.data[channel if len(self.data) > 1 else 0, y, x], dtype=np.float32)
        plane[~(plane > 0)] = np.nan
        return plane

    def at(self, x: float, y: float, channel: float) -> float:
        """The response at a pixel and channel, of the nearest voxel; NaN where there is none, or outside."""
        n_channels, ny, nx = self.data.shape
        k, j, i = (int(np.rint(v)) if np.isfinite(v) else -1 for v in (channel, y, x))
        if not (0 <= j < ny and 0 <= i < nx) or (n_channels > 1 and not 0 <= k < n_channels):
            return np.nan
        return float(self.plane(k, j, i))


@dataclass(frozen=True, eq=False)
class Cube:
    """A spectral cube: ``data[channel, y, x]`` with units, coordinates and beams from its header.

    Parameters
    ----------
    data
        Array of shape (channel, y, x).  For a cube from a file it has the values of the file, and indexing it reads
        only the part asked for (:class:`napari_almadet.cube.storage.Lazy`).  NaN means "no data".
        Use :meth:`read` to get numbers for computations.
    wcs
        Three-dimensional WCS whose pixel axes are (x, y, channel), or None for an array
        without coordinates.
    unit
        Brightness unit, e.g. Jy/beam or K; dimensionless where unknown.
    beams
        Restoring beam of each channel (`Beams`), of the whole cube (`Beam`), or None.
    header
        The FITS header as read.
    name
        Short name: the file's stem, or the layer's name.
    path
        The file or folder, or None for an array in memory.
    hdu
        Name or number of the image in the file, if one was given.
    flagged
        Mask (channel,) of bad channels, for which :meth:`read` returns NaN, or None; see
        :mod:`napari_almadet.cube.bad_channels`.
    primary_beam
        See :func:`read_primary_beam`, or None where it was not given.
    notes
        What was chosen or repaired while reading, one sentence each, to be shown to the user.
    reader
        Opens the file again after pickling; None for an array in memory.
    rounding
        Steps to which the values were rounded in a compressed file in which exact zeros are lost, or None.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_almadet import Cube
    >>> cube = Cube.from_array(np.arange(4 * 6 * 8).reshape(4, 6, 8), name="counts")
    >>> cube.shape
    (4, 6, 8)
    >>> cube.read(channel=0, y=slice(0, 1))
    array([[0., 1., 2., 3., 4., 5., 6., 7.]], dtype=float32)
    >>> print(cube.frequency(0))  # an array has no world coordinates
    None
    """

    data: Any
    wcs: WCS | None = None
    unit: u.UnitBase | None = None
    beams: Beam | Beams | None = None
    header: fits.Header | None = None
    name: str = "cube"
    path: Path | None = None
    hdu: str | None = None
    flagged: np.ndarray | None = None
    primary_beam: PrimaryBeam | None = None
    notes: tuple[str, ...] = field(default=())
    reader: Callable[[str], Cube] | None = None  # opens the file again after pickling
    rounding: Rounding | None = None

    @classmethod
    def from_array(cls, data: Any, name: str = "cube") -> Cube:
        """A cube from a bare (channel, y, x) array: pixels and channels instead of world units.

        Parameters
        ----------
        data
            Real numbers, shape (channels, ny, nx), at least two channels; NaN where there is no data.
        name
            What the cube is called in results and messages.

        Returns
        -------
        Cube
            Without WCS, unit and beam.

        Raises
        ------
        CubeError
            If ``data`` is not three-dimensional, has no pixels or a single channel, or does
            not hold real numbers.
        """
        if not hasattr(data, "dtype"):
            data = np.asarray(data)
        if len(data.shape) != 3:
            raise CubeError(f"{name}: a cube has three axes (channel, y, x), but this array has {len(data.shape)}.")
        if np.dtype(data.dtype).kind not in "iuf":
            raise CubeError(f"{name}: a cube contains real numbers, but this array contains {data.dtype}.")
        if 0 in data.shape:
            raise CubeError(f"{name}: the array of shape {tuple(data.shape)} contains no pixels.")
        if data.shape[0] == 1:
            raise CubeError(f"{name} is a single plane; a cube needs at least two channels.")
        return cls(data, unit=u.dimensionless_unscaled, name=name)

    def __reduce__(self) -> tuple:
        """Pickle a cube from a file as its path, a cube in memory with its data; other changes are pickled too."""
        left_out = {"primary_beam"} | ({"data"} if self.path is not None else set())
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        beam = self.primary_beam
        if self.path is not None:
            known["path"] = self.path.resolve()
            beam = beam and replace(beam, data=None, path=beam.path.resolve())
        return unpickled, (known, self.address, beam)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, ny, nx)."""
        n_channels, ny, nx = self.data.shape
        return n_channels, ny, nx

    def read(
        self, channel: Index = slice(None), y: Index = slice(None), x: Index = slice(None), *, writable: bool = True
    ) -> np.ndarray:
        """A writable, native-endian float32 copy of a part of the cube; NaN where there is no data.

        There is no data where a value is not finite or above :attr:`ceiling`, in single voxels far above the noise
        and their neighbours (:attr:`spikes`), in channels that are :attr:`flagged`, and, for a cube from a file, in
        the pixels of :attr:`blank`.

        Parameters
        ----------
        channel, y, x
            Integers, slices or index arrays, as for ``data[channel, y, x]``.
        writable
            If False, a cube that is held in memory is not copied where that is not needed; the part is then read-only.
        """
        part = self.data[channel, y, x]
        as_held = not writable and self._is_held_as_usual and self.blank is None and self.flagged is None
        own = None if as_held or isinstance(self.data, Lazy) else True  # what was read for us need not be copied
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, then NaN
            part = np.array(part, dtype=np.float32, copy=own)
        if not self._is_usual(part):
            part[~np.isfinite(part)] = np.nan
            if (over := np.abs(part) >= self._suspicious).any():
                self._remove_absurd(part, over, (channel, y, x))
        if self.blank is not None:
            least = 0.0 if self.rounding is None else self.rounding.largest
            np.copyto(part, np.nan, where=self.blank[y, x] & (np.abs(part) <= least))
        if self.flagged is not None:
            part[self.flagged[channel]] = np.nan
        return part

    def _is_usual(self, part: np.ndarray) -> bool:
        """Whether all values of a part are finite and not suspicious."""
        return self._is_held_as_usual or largest(part) < self._suspicious

    @property
    def _is_held_as_usual(self) -> bool:
        """Whether all of the cube is held in memory, and all of its values are finite and not suspicious."""
        return isinstance(self.data, Held) and self.data.rest is None and self.data.largest < self._suspicious

    def _remove_absurd(self, part: np.ndarray, over: np.ndarray, index: tuple[Index, Index, Index]) -> None:
        """Replace what is above the ceiling, and spikes, by NaN, in place; ``over``: the voxels in question."""
        if (huge := over & (np.abs(part) > self.ceiling)).any():
            part[huge] = np.nan
            vars(self)["has_huge_values"] = True
        if not self._may_have_spikes:
            return
        alone = np.asarray(over & ~huge & _stands_alone(part, index))
        if not alone.any():
            return
        numbers = np.ogrid[tuple(slice(n) for n in self.shape)]
        places = [np.asarray(np.broadcast_to(axis, self.shape)[index])[alone].tolist() for axis in numbers]
        spikes = [self._is_spike(*place) for place in zip(*places, strict=True)]
        part[alone] = np.where(spikes, np.nan, part[alone])

    def _is_spike(self, channel: int, y: int, x: int) -> bool:
        """Whether a voxel stands alone in its plane, as nothing does that was observed with the cube's beam."""
        known = self._known_spikes
        if (channel, y, x) not in known:
            y0, x0 = max(y - 1, 0), max(x - 1, 0)
            around = np.asarray(self.data[channel, y0 : y + 2, x0 : x + 2], dtype=float)
            value = around[y - y0, x - x0]
            cross = (np.arange(around.shape[0])[:, None] == y - y0) ^ (np.arange(around.shape[1]) == x - x0)
            beside = around[cross & np.isfinite(around) & (around != 0)] * np.sign(value)
            known[channel, y, x] = beside.size > 1 and bool(beside.max() < SPIKE_NEIGHBOUR * abs(value))
        return known[channel, y, x]

    @cached_property
    def _known_spikes(self) -> dict[tuple[int, int, int], bool]:
        """Of voxels (channel, y, x) that were examined: whether they are spikes."""
        return {}

    @property
    def spikes(self) -> list[tuple[int, int, int]]:
        """Voxels (channel, y, x) that have been read and treated as missing data, since they stand alone.

        Each is over :data:`SPIKE` times the noise, and over ten times the brightest of its neighbours in the plane:
        less than the wing of any source seen with a beam of :data:`SPIKE_BEAM` pixels.  Cosmic rays, bad numbers in a
        file and failed CLEAN components look like that.
        """
        return sorted(place for place, spike in self._known_spikes.items() if spike)

    @cached_property
    def _may_have_spikes(self) -> bool:
        """Whether the beam is known, and wide enough to tell spikes from sources; a sky model has none."""
        wide = self.beam_fwhm is not None and self.beam_fwhm >= SPIKE_BEAM
        return wide and not (self.unit is not None and u.pix in self.unit.bases)

    @cached_property
    def _suspicious(self) -> float:
        """The absolute value from which voxels are examined: :data:`HUGE`, or, where noise dominates, less."""
        usual = self._usual_values
        if not usual.size or not self._is_noise_like:
            return HUGE
        return min(HUGE, SPIKE * float(np.median(usual)) / NORMAL_MAD)

    @cached_property
    def _usual_values(self) -> np.ndarray:
        """Absolute values (n,) of some voxels, without zeros and those over :data:`HUGE`; none if nearly all are."""
        usual, n = [], 0
        for k in spread(self.shape[0], CEILING_SAMPLE):
            plane = np.asarray(self.data[k]).ravel()
            plane = np.abs(plane[:: max(1, plane.size // TYPICAL_SAMPLE)].astype(float))
            plane = plane[np.isfinite(plane) & (plane > 0)]
            usual.append(plane[plane < HUGE])
            n += plane.size
        below = np.concatenate(usual)
        return below if below.size > USUAL_SHARE * n else below[:0]

    @cached_property
    def _is_noise_like(self) -> bool:
        """Whether most values are alike, as noise is, so that a ratio to them means something."""
        middle, high = np.percentile(self._usual_values, (50, 90))
        return bool(high < NOISE_LIKE * middle)

    @cached_property
    def ceiling(self) -> float:
        """The absolute value above which there is no data; usually far above all values.

        Some programs write FLT_MAX or 1e30 where they have no data.  Values above :data:`HUGE` are taken to mean this
        if most values, in a few channels spread over the band, are far smaller; where noise dominates, any value
        :data:`RANGE` times larger than the typical ones.
        """
        if not self._usual_values.size:
            return np.inf
        beyond = RANGE * float(np.percentile(self._usual_values, 99.9))
        return beyond if self._is_noise_like else max(HUGE, beyond)

    @cached_property
    def has_huge_values(self) -> bool:
        """Whether values above :attr:`ceiling` have been read."""
        return False

    @cached_property
    def blank(self) -> np.ndarray | None:
        """Mask (y, x) of the pixels whose zeros mean that there is no data; None if there are none.

        Miriad and GIPSY write zeros outside the primary beam; noise is never exactly zero.  So a pixel has no data if
        it is exactly zero in every channel of the file, or, if there are more than :data:`SAMPLE` channels, in that
        many channels spread over the band.  Reading stops at the first channel that leaves no such pixel.  Zeros in an
        array in memory or in a sky model (Jy/pixel) are data.  Where compression has made them small random values
        (:attr:`rounding`), values that may have been zero count as zero if there are :data:`FEWEST_ROUNDED` channels.
        """
        if self.path is None or (self.unit is not None and u.pix in self.unit.bases):
            return None
        if self.rounding is not None and self.shape[0] < FEWEST_ROUNDED:
            return None
        zero = np.ones(self.shape[1:], dtype=bool)
        for k in spread(self.shape[0], SAMPLE):
            plane = np.asarray(self.data[k])
            zero &= plane == 0 if self.rounding is None else self.rounding.may_be_zero(plane, k)
            if not zero.any():
                return None
        return zero

    @cached_property
    def beam(self) -> Beam | None:
        """The beam that represents the cube: its only one, or the one with the median area of a table; None if unknown.

        Of a table it is the beam of median solid angle, since position angles have no median.
        """
        if self.beams is None or self.beams.isscalar:
            return self.beams
        known = np.flatnonzero(self.beams.value > 0)
        return self.beams[known[np.argsort(self.beams.value[known])[len(known) // 2]]]

    @cached_property
    def pixel_scale(self) -> u.Quantity | None:
        """Side of a pixel in arcsec (geometric mean), or None."""
        if self.celestial is None:
            return None
        return np.sqrt(proj_plane_pixel_area(self.celestial)) * u.deg.to(u.arcsec) * u.arcsec

    @cached_property
    def beam_area(self) -> float | None:
        """Beam solid angle in pixels (Jy/beam -> Jy/pixel), or None."""
        if self.beam is None or self.pixel_scale is None:
            return None
        return float((self.beam.sr / self.pixel_scale**2).to_value(u.dimensionless_unscaled))

    @property
    def beam_fwhm(self) -> float | None:
        """FWHM in pixels of a round Gaussian of the beam's solid angle, or None."""
        return None if self.beam_area is None else float(np.sqrt(self.beam_area / BEAM_AREA))

    @cached_property
    def rest_frequency(self) -> u.Quantity | None:
        """Rest frequency from the header in Hz, or None."""
        if self.wcs is None:
            return None
        if self.wcs.wcs.restfrq > 0:
            return self.wcs.wcs.restfrq * u.Hz
        if self.wcs.wcs.restwav > 0:
            return (constants.c / (self.wcs.wcs.restwav * u.m)).to(u.Hz)
        return None

    @property
    def spectral_frame(self) -> str:
        """Standard of rest of the spectral axis as FITS writes it, e.g. LSRK or BARYCENT; empty where unknown."""
        return "" if self.wcs is None else self.wcs.wcs.specsys.strip()

    def spectral_axis(self, unit: u.UnitBase | str | None = None) -> u.Quantity | None:
        """World coordinate of every channel centre, converted to ``unit`` (Hz, km/s radio, ...); None without WCS.

        Without ``unit`` the axis stays what it is in the file, e.g. optical velocity in m/s.
        Any unit of velocity means radio velocity, any unit of length wavelength in vacuum.

        Parameters
        ----------
        unit
            Of frequency, velocity or length; default: the file's own.

        Returns
        -------
        Quantity or None
            Shape (channels,).

        Raises
        ------
        CubeError
            If the conversion needs a rest frequency the header does not give, or ``unit``
            is not one of frequency, velocity or length.
        """
        if self.wcs is None:
            return None
        channels = np.arange(self.shape[0])
        if unit is None:
            return self._spectral(channels)
        wanted = u.Unit(unit)
        kind = next((c for c, si in (("FREQ", "Hz"), ("VRAD", "m/s"), ("WAVE", "m")) if wanted.is_equivalent(si)), None)
        if kind is None:
            raise CubeError(f"{self.name}: a spectral axis cannot be given in {wanted}; use Hz, km/s or m.")
        axis = self._spectral(channels, kind)
        if axis is None:
            raise CubeError(
                f"{self.name}: the {self.spectral_type} axis cannot be given in {wanted}, "
                "since the header has no rest frequency (RESTFRQ)."
            )
        return axis.to(wanted)

    def frequency(self, channel: ArrayLike) -> u.Quantity | None:
        """Frequency in Hz at fractional channel(s), or None where it cannot be known.

        Parameters
        ----------
        channel
            Counted from 0; a channel's centre is the integer.
        """
        return self._spectral(channel, "FREQ")

    def velocity(self, channel: ArrayLike) -> u.Quantity | None:
        """Radio velocity at fractional channel(s) in km/s, or None where it cannot be known.

        Parameters
        ----------
        channel
            Counted from 0; a channel's centre is the integer.
        """
        velocity = self._spectral(channel, "VRAD")
        return None if velocity is None else velocity.to(u.km / u.s)

    def coordinate(self, kind: str, channel: ArrayLike) -> u.Quantity | None:
        """A spectral coordinate by its FITS code (FREQ, VRAD, VOPT, VELO, WAVE) at channel(s), or None if not known.

        Parameters
        ----------
        kind
            The first four letters of a FITS spectral axis' type.
        channel
            Counted from 0, may be fractions.
        """
        return self._spectral(channel, kind)

    def sky(self, x: ArrayLike, y: ArrayLike) -> SkyCoord | None:
        """Sky position of pixel(s), or None without WCS.

        Parameters
        ----------
        x, y
            Counted from 0; a pixel's centre is the integer.
        """
        return None if self.celestial is None else self.celestial.pixel_to_world(x, y)

    def celestial_header(self) -> fits.Header | None:
        """A minimal header with the two-dimensional celestial WCS, for images made from the cube."""
        return None if self.celestial is None else self.celestial.to_header()

    @property
    def address(self) -> str:
        """What :func:`read_cube` opens this cube by, wherever it is called from; empty for an array in memory."""
        if self.path is None:
            return ""
        return str(self.path.resolve()) + (f"[{self.hdu}]" if self.hdu is not None else "")

    def sha256(self, wanted: Callable[[], bool] = lambda: True) -> str:
        """Hash of the file, of a folder's files in order of their names, or of the bytes of an array in memory.

        Parameters
        ----------
        wanted
            Asked now and then; as soon as it answers False the work ends, and the answer is no hash.
        """
        digest = hashlib.sha256()
        if self.path is None:
            for plane in itertools.takewhile(lambda _: wanted(), self.data):
                digest.update(np.ascontiguousarray(plane).data)
        elif self.path.is_dir():
            for file in sorted(p for p in self.path.rglob("*") if p.is_file() and p.name != "table.lock"):
                digest.update(file.relative_to(self.path).as_posix().encode() + b"\0" + _hash_of(file, wanted).digest())
        else:
            digest = _hash_of(self.path, wanted)
        return digest.hexdigest() if wanted() else ""

    @cached_property
    def celestial(self) -> WCS | None:
        """The two-dimensional celestial WCS, pixel axes (x, y), or None."""
        return self.wcs.celestial if self.wcs is not None and self.wcs.has_celestial else None

    @property
    def spectral_type(self) -> str:
        """FITS code of what the spectral axis is in the file, e.g. FREQ or VOPT."""
        return "" if self.wcs is None else self.wcs.wcs.ctype[self.wcs.wcs.spec][:4]

    @cached_property
    def _spectral_wcs(self) -> dict[str, tuple[WCS, ...]]:
        """One-dimensional WCS by the FITS code of what they give, one after the other; none where it is not known."""
        return {} if self.wcs is None else {self.spectral_type: (self.wcs.sub([WCSSUB_SPECTRAL]),)}

    def _spectral(self, channel: ArrayLike, kind: str | None = None) -> u.Quantity | None:
        """World coordinate of channels as ``kind`` (FREQ, VRAD, WAVE, ...), or as the axis has it."""
        if self.wcs is None:
            return None
        kind = kind or self.spectral_type
        if kind not in self._spectral_wcs:
            self._spectral_wcs[kind] = self._translated(kind)
        steps = self._spectral_wcs[kind]
        if not steps:
            return None
        channel = np.asarray(channel, dtype=float)
        values = channel.ravel()
        for wcs in steps:
            values = wcs.wcs_pix2world(values, 0)[0]
        return u.Quantity(values.reshape(channel.shape), steps[-1].wcs.cunit[0])

    def _translated(self, kind: str) -> tuple[WCS, ...]:
        """From channels to ``kind``: one WCS, or two where wcslib translates neither logarithmic axes nor tables."""
        if self.wcs is None or not self.wcs.has_spectral:
            return ()
        wcs = self.wcs.sub([WCSSUB_SPECTRAL])
        if self.rest_frequency is None:
            if is_velocity(kind) != is_velocity(self.spectral_type):
                return ()
            wcs.wcs.restfrq = 1.0  # between two velocities it cancels, but wcslib wants one
        through: tuple[WCS, ...] = ()
        if wcs.wcs.ctype[0][4:] in ("-LOG", "-TAB"):
            through, wcs = (self._spectral_wcs[self.spectral_type][0],), self._of_values(wcs)
        try:
            wcs.wcs.sptr(f"{kind}-???")
            wcs.wcs.set()
        except (WcsError, ValueError):
            return ()
        return (*through, wcs)

    def _of_values(self, wcs: WCS) -> WCS:
        """A linear WCS of one axis whose "pixels", from 0, are the values of the spectral axis ``wcs``."""
        values = np.asarray(self._spectral(np.arange(self.shape[0])))
        middle = float(values[len(values) // 2])
        linear = WCS(naxis=1)
        linear.wcs.ctype, linear.wcs.cunit = [self.spectral_type], [wcs.wcs.cunit[0]]
        linear.wcs.crval, linear.wcs.crpix, linear.wcs.cdelt = [middle], [middle + 1], [1.0]
        linear.wcs.restfrq, linear.wcs.restwav = wcs.wcs.restfrq, wcs.wcs.restwav
        return linear


def _stands_alone(part: np.ndarray, index: tuple[Index, Index, Index]) -> np.ndarray:
    """Mask of the voxels of a part that may be spikes, judging by their neighbours along y and x within the part."""
    alone, axis = np.ones(part.shape, bool), part.ndim
    if any(np.ndim(i) for i in index):  # type: ignore[arg-type]
        return alone  # of an index array, neighbours in the part need not be any in the cube
    for i in (index[2], index[1]):
        if not isinstance(i, slice):
            continue
        axis -= 1
        if abs(i.step or 1) != 1:
            continue
        values, mask = np.moveaxis(part, axis, 0), np.moveaxis(alone, axis, 0)
        low, high = values[:-1], values[1:]
        with np.errstate(invalid="ignore"):
            mask[:-1] &= ~(high * np.sign(low) >= SPIKE_NEIGHBOUR * np.abs(low))
            mask[1:] &= ~(low * np.sign(high) >= SPIKE_NEIGHBOUR * np.abs(high))
    return alone


def _hash_of(path: Path, wanted: Callable[[], bool]) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while wanted() and (part := file.read(HASHED_AT_ONCE)):
            digest.update(part)
    return digest


# --- The image and its axes, counted as FITS does, fastest first, but from 0: numpy's is -1 - axis ---


# --- The data ---


def spread(n: int, most: int) -> np.ndarray:
    """Up to ``most`` of the numbers 0 ... n-1, evenly spread, the middle first: edge planes are often empty."""
    chosen = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))
    return chosen[np.argsort(np.abs(chosen - n // 2), kind="stable")]


# --- The header ---


def unpickled(known: dict[str, Any], address: str, primary_beam: PrimaryBeam | None) -> Cube:
    """A cube again from what :meth:`Cube.__reduce__` kept: its file is opened again, by the function that opened it."""
    cube = replace(known["reader"](address), **known) if address else Cube(**known)
    if primary_beam is not None and primary_beam.data is None and primary_beam.reader is not None:
        again = primary_beam.reader(primary_beam.path, cube)
        primary_beam = replace(again, corrected=primary_beam.corrected)
    return replace(cube, primary_beam=primary_beam)
