"""An interferometer: antenna positions, uv coverage, dirty beam, clean beam and primary beam."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.constants import c as SPEED_OF_LIGHT
from numpy.typing import ArrayLike
from scipy.fft import ifft, irfft
from scipy.special import j1

from napari_almadet.constants import ARCSEC_PER_DEGREE, FOUR_LN2

SIDEREAL_DAY = 86164.0905  # s

# CASA's models of the 12-m and the 7-m dishes: diameters in metres of a uniformly illuminated disc and its hole, by the
# diameter of the dish.  Other dishes are assumed to be fully illuminated, without a hole.
LIT_DISCS = {12.0: (10.7, 0.75), 7.0: (6.25, 0.75)}


@dataclass(frozen=True, eq=False)
class AntennaArray:
    """Antennas of the same kind: positions and diameter.

    ``enu`` has shape (n, 3), local east, north, up in metres; ``latitude`` is in radians, ``diameter`` in metres.
    """

    enu: np.ndarray
    latitude: float
    name: str = "array"
    diameter: float = 12.0

    @classmethod
    @lru_cache
    def load(cls, name: str = "alma_cycle9_c3") -> AntennaArray:
        """Read one of the configurations in ``simulation/antennas``, or another file.

        Parameters
        ----------
        name
            Of a configuration; or the path of an ``.ecsv`` file like those in the folder, or of a ``.cfg`` file of CASA
            (see `antenna_file.read_cfg`).

        Raises
        ------
        ValueError
            If there is no configuration of that name, or the file is not understood.
        """
        from astropy.table import QTable

        if name.endswith(".cfg"):
            from napari_almadet.simulation.antenna_file import read_cfg

            return cls(*read_cfg(Path(name)))

        folder = files(__package__) / "antennas"
        path = Path(name) if name.endswith(".ecsv") else folder / f"{name}.ecsv"
        if not path.is_file():
            known = ", ".join(
                sorted(p.name.removesuffix(".ecsv") for p in folder.iterdir() if p.name.endswith(".ecsv"))
            )
            raise ValueError(f"no antenna configuration {name!r}; there are: {known}; or give a file .ecsv or .cfg")
        table = QTable.read(str(path), format="ascii.ecsv")
        enu = np.stack([table[axis].to_value(u.m) for axis in ("east", "north", "up")], axis=1)
        latitude = u.Quantity(table.meta["latitude"]).to_value(u.rad)
        return cls(enu, latitude, table.meta["name"], float(table["diameter"][0].to_value(u.m)))

    @cached_property
    def baselines(self) -> np.ndarray:
        """Equatorial (X, Y, Z) of every pair of antennas, shape (n (n - 1) / 2, 3), in metres.

        X points to the meridian, Y east, Z to the pole (Thompson, Moran & Swenson 2017, eq. 4.1).
        """
        first, second = np.triu_indices(len(self.enu), k=1)
        east, north, up = (self.enu[second] - self.enu[first]).T
        sin, cos = np.sin(self.latitude), np.cos(self.latitude)
        return np.stack([-sin * north + cos * up, east, cos * north + sin * up], axis=1)

    def uv(self, declination: float, hour_angles: np.ndarray) -> np.ndarray:
        """Baseline coordinates seen from a source, in metres (same reference, eq. 4.3).

        Parameters
        ----------
        declination
            Of the source, in radians.
        hour_angles
            Shape (t,), in radians.

        Returns
        -------
        ndarray
            (u, v) of shape (t n (n - 1) / 2, 2).  The conjugate points are not included.
        """
        x, y, z = self.baselines.T
        h = np.asarray(hour_angles)[:, None]
        along_u = np.sin(h) * x + np.cos(h) * y
        along_v = np.sin(declination) * (np.sin(h) * y - np.cos(h) * x) + np.cos(declination) * z
        return np.stack([along_u.ravel(), along_v.ravel()], axis=1)

    def elevation(self, declination: float, hour_angles: np.ndarray) -> np.ndarray:
        """Elevation of a source; all angles in radians."""
        along = np.cos(self.latitude) * np.cos(declination) * np.cos(hour_angles)
        return np.arcsin(np.sin(self.latitude) * np.sin(declination) + along)


def cells(uv: np.ndarray, n: int, cell: float) -> np.ndarray:
    """The nearest cells of a uv grid, as indices into the flattened grid.

    Parameters
    ----------
    uv
        Shape (m, 2), in wavelengths.
    n, cell
        Side of the image in pixels, and pixel size in radians; the uv cell is ``1 / (n cell)``.

    Returns
    -------
    ndarray
        Shape (m,), for an image with East to the left: zero frequency at [0, 0] as in `numpy.fft`, -u along the second
        axis.

    Raises
    ------
    ValueError
        If a visibility is outside the grid: the pixels are too large for the longest baseline.
    """
    # u increases to the East, which is to the left in an image.
    index = np.rint(uv * (n * cell)).astype(int) * (-1, 1)
    if np.abs(index).max(initial=0) >= n // 2:
        raise ValueError(
            f"pixels of {np.degrees(cell) * ARCSEC_PER_DEGREE:.3g} arcsec are too large for the longest baseline: "
            f"take less than {np.degrees(0.5 / np.abs(uv).max()) * ARCSEC_PER_DEGREE:.3g} arcsec"
        )
    index %= n
    return index[:, 1] * n + index[:, 0]


def grid_visibilities(uv: np.ndarray, n: int, cell: float, values: np.ndarray | None = None) -> np.ndarray:
    """Add visibilities to the nearest cells of a uv grid, and their conjugates to the opposite ones.

    Parameters
    ----------
    uv, n, cell
        As for `cells`.
    values
        Weights or complex visibilities, shape (m,); default: 1 each, the natural weights.

    Returns
    -------
    ndarray
        Shape (n, n), Hermitian; real for real values.
    """
    index = np.concatenate([cells(uv, n, cell), cells(-uv, n, cell)])

    def add(part: np.ndarray, opposite: np.ndarray) -> np.ndarray:
        return np.bincount(index, np.concatenate([part, opposite]), minlength=n * n).reshape(n, n)

    values = np.ones(len(uv)) if values is None else values
    if not np.iscomplexobj(values):
        return add(values, values)
    grid = np.empty((n, n), dtype=complex)
    grid.real, grid.imag = add(values.real, values.real), add(values.imag, -values.imag)
    return grid


def briggs_weights(uv: np.ndarray, n: int, cell: float, robust: float) -> np.ndarray:
    """Robust weights of visibilities of equal noise (Briggs 1995, as in CASA).

    A visibility in a cell with W visibilities has the weight 1 / (1 + W f^2), where f^2 is (5 10^-R)^2 divided by the
    mean of W over the visibilities.

    Parameters
    ----------
    uv, n, cell
        As for `cells`; the grid is that of the image itself.
    robust
        R, from -2 (nearly uniform) to 2 (nearly natural).

    Returns
    -------
    ndarray
        Shape (m,).
    """
    index, half = cells(uv, n, cell), len(uv)
    opposite = cells(-uv, n, cell)
    count = np.bincount(np.concatenate([index, opposite]), minlength=n * n)
    mean = count[index].sum() / half
    return 1 / (1 + count[index] * (5 * 10**-robust) ** 2 / mean)


def point_spread_function(grid: np.ndarray, size: int, total: float | None = None) -> np.ndarray:
    """The dirty beam: Fourier transform of gridded weights, with a peak of 1 at ``[size // 2, size // 2]``.

    Parameters
    ----------
    grid
        Shape (n, n), see `grid_visibilities`; complex if the antennas' phases are wrong.
    total
        Sum of the weights; default: the sum of the grid.

    Returns
    -------
    ndarray
        The central (size, size) pixels.
    """
    n = len(grid)
    pixels = np.arange(size) - size // 2
    # The same as irfft2, but only for columns with a visibility and for the requested pixels.
    half = grid[:, : n // 2 + 1]
    filled = half.any(axis=0)
    columns = np.zeros((size, half.shape[1]), dtype=complex)
    columns[:, filled] = ifft(half[:, filled], axis=0)[pixels]
    return irfft(columns, n)[:, pixels] * (n * n / (grid.sum().real if total is None else total))


@dataclass(frozen=True)
class CleanBeam:
    """An elliptical Gaussian: FWHM in pixels, position angle in degrees from north through east."""

    major: float
    minor: float
    angle: float

    @property
    def fwhm(self) -> float:
        """Geometric mean of the two axes, in pixels."""
        return float(np.sqrt(self.major * self.minor))

    def image(self, n: int) -> np.ndarray:
        """Shape (n, n), with a peak of 1 at ``[n // 2, n // 2]``."""
        offset = np.arange(n) - n // 2
        return np.exp(-FOUR_LN2 * self._radius2(offset[None, :], offset[:, None]))

    def width_along(self, angle: float) -> float:
        """FWHM of a cut through the centre at a position angle in degrees, in pixels."""
        return float(self._radius2(-np.sin(np.radians(angle)), np.cos(np.radians(angle))) ** -0.5)

    def _radius2(self, x: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Squared distance from the centre, in FWHM of the beam in that direction."""
        sin, cos = np.sin(np.radians(self.angle)), np.cos(np.radians(self.angle))
        x, y = np.asarray(x, float), np.asarray(y, float)
        # Position angle runs from north (+y) to east (-x).
        return ((y * cos - x * sin) / self.major) ** 2 + ((x * cos + y * sin) / self.minor) ** 2


def fit_clean_beam(psf: np.ndarray, level: float = 0.35) -> CleanBeam:
    """Least-squares elliptical Gaussian of the main lobe of a PSF, where it exceeds ``level`` (CASA's cut).

    Parameters
    ----------
    psf
        Shape (n, n), peak of 1 at ``[n // 2, n // 2]``, East to the left.
    """
    from scipy.optimize import least_squares
    from skimage.measure import label

    half = len(psf) // 2
    lobe = label(psf > level)
    y, x = np.nonzero(lobe == lobe[half, half])
    values = psf[y, x]
    y, x = y - half, x - half

    def residual(p: np.ndarray) -> np.ndarray:
        return np.exp(-(p[0] * x**2 + 2 * p[1] * x * y + p[2] * y**2)) - values

    start = np.log(2) / max(len(values) / np.pi, 1.0)
    a, b, c = least_squares(residual, (start, 0.0, start)).x
    widths, axes = np.linalg.eigh([[a, b], [b, c]])
    minor_axis_x, minor_axis_y = axes[:, 1]  # the larger curvature belongs to the minor axis
    major, minor = 2 * np.sqrt(np.log(2) / widths)
    # The major axis is perpendicular to the minor one; North is up, East is left: PA = atan2(east, north).
    angle = np.degrees(np.arctan2(minor_axis_y, minor_axis_x)) % 180
    return CleanBeam(float(major), float(minor), float(angle))


def dish_pattern(angle: np.ndarray, frequency: float, diameter: float = 12.0) -> np.ndarray:
    """Power pattern of a dish, the squared Airy pattern of a disc with a central hole (see `LIT_DISCS`).

    Parameters
    ----------
    angle
        From the pointing centre, in radians.
    frequency
        In Hz.
    diameter
        Of the dish, in metres.

    Returns
    -------
    ndarray
        With the shape of ``angle``, 1 in the centre.  For ALMA's dishes CASA interpolates the same pattern in a table;
        the result is up to 1.1 % higher within the half-power radius.
    """
    lit, hole = LIT_DISCS.get(diameter, (diameter, 0.0))

    def disc(d: float) -> np.ndarray:
        z = np.maximum(np.pi * angle * (d * frequency / SPEED_OF_LIGHT.value), 1e-9)
        return 2 * j1(z) / z

    share = (hole / lit) ** 2
    return ((disc(lit) - share * disc(hole)) / (1 - share)) ** 2


@lru_cache(maxsize=8)
def primary_beam(n: int, cell: float, frequency: float, diameter: float = 12.0) -> np.ndarray:
    """Power pattern over an image of n pixels of ``cell`` radians, its centre at ``[n // 2, n // 2]``; see above."""
    offset = (np.arange(n) - n // 2) * cell
    return dish_pattern(np.hypot(offset[:, None], offset[None, :]), frequency, diameter).astype(np.float32)


def primary_beam_radius(level: float, frequency: float, diameter: float = 12.0) -> float:
    """Angle in radians at which the primary beam has fallen to ``level``."""
    angles = np.linspace(0, 1.2 * SPEED_OF_LIGHT.value / frequency / diameter, 2000)
    return float(np.interp(-level, -dish_pattern(angles, frequency, diameter), angles))
