"""An interferometer: where its antennas stand, which (u, v) points they sample, and the beams that follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

import numpy as np
from astropy import units as u
from astropy.constants import c as SPEED_OF_LIGHT
from scipy.special import j1

SIDEREAL_DAY = 86164.0905  # s

# CASA's model of an ALMA 12-m dish: a uniformly lit disc of 10.7 m with a hole of 0.75 m.
EFFECTIVE_DISH = 10.7  # m
BLOCKAGE = 0.75  # m


@dataclass(frozen=True, eq=False)
class AntennaArray:
    """Antenna positions: ``enu`` of shape (n, 3), local east, north, up in metres; ``latitude`` in radians."""

    enu: np.ndarray
    latitude: float
    name: str = "array"

    @classmethod
    def load(cls, name: str = "alma_cycle9_c3") -> AntennaArray:
        """Read one of the configurations in ``simulation/antennas``.

        Raises
        ------
        ValueError
            If there is no configuration of that name.
        """
        from astropy.table import QTable

        folder = files(__package__) / "antennas"
        path = folder / f"{name}.ecsv"
        if not path.is_file():
            known = ", ".join(
                sorted(p.name.removesuffix(".ecsv") for p in folder.iterdir() if p.name.endswith(".ecsv"))
            )
            raise ValueError(f"no antenna configuration {name!r}; there are: {known}")
        table = QTable.read(str(path), format="ascii.ecsv")
        enu = np.stack([table[axis].to_value(u.m) for axis in ("east", "north", "up")], axis=1)
        return cls(enu, u.Quantity(table.meta["latitude"]).to_value(u.rad), table.meta["name"])

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


def grid_weights(uv: np.ndarray, n: int, cell: float) -> np.ndarray:
    """Count visibilities in the nearest cells of a uv grid (natural weights).

    Parameters
    ----------
    uv
        Shape (m, 2), in wavelengths.
    n, cell
        Pixels on a side of the image the grid belongs to, and their size in radians; the
        uv cell is ``1 / (n cell)``.

    Returns
    -------
    ndarray
        Shape (n, n), the grid that belongs to an image with East left: zero frequency at
        [0, 0] as `numpy.fft` has it, -u along the second axis, with the conjugate points; it
        sums to 2 m.

    Raises
    ------
    ValueError
        If a visibility lies beyond the grid: the pixels are too large for the longest baseline.
    """
    # East, where u grows, is to the left in an image.
    index = np.rint(uv * (n * cell)).astype(int) * (-1, 1)
    if np.abs(index).max(initial=0) >= n // 2:
        raise ValueError(
            f"pixels of {np.degrees(cell) * 3600:.3g} arcsec are too large for the longest baseline: "
            f"take less than {np.degrees(0.5 / np.abs(uv).max()) * 3600:.3g} arcsec"
        )
    index = np.concatenate([index, -index]) % n
    return np.bincount(index[:, 1] * n + index[:, 0], minlength=n * n).reshape(n, n).astype(float)


def point_spread_function(weights: np.ndarray, size: int) -> np.ndarray:
    """The dirty beam: Fourier transform of the gridded weights, with its peak of 1 at ``[size // 2, size // 2]``.

    Returns
    -------
    ndarray
        The central (size, size) pixels.
    """
    n = len(weights)
    psf = np.fft.fftshift(np.fft.ifft2(weights).real)
    first = n // 2 - size // 2
    return psf[first : first + size, first : first + size] / psf[n // 2, n // 2]


@dataclass(frozen=True)
class CleanBeam:
    """An elliptical Gaussian: FWHM in pixels, position angle in degrees from north through east."""

    major: float
    minor: float
    angle: float


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

    def residual(p):
        return np.exp(-(p[0] * x**2 + 2 * p[1] * x * y + p[2] * y**2)) - values

    start = np.log(2) / max(len(values) / np.pi, 1.0)
    a, b, c = least_squares(residual, (start, 0.0, start)).x
    widths, axes = np.linalg.eigh([[a, b], [b, c]])
    minor_axis_x, minor_axis_y = axes[:, 1]  # the larger curvature belongs to the minor axis
    major, minor = 2 * np.sqrt(np.log(2) / widths)
    # The major axis is across the minor; North is up, East is left: PA = atan2(east, north).
    angle = np.degrees(np.arctan2(minor_axis_y, minor_axis_x)) % 180
    return CleanBeam(float(major), float(minor), float(angle))


@lru_cache(maxsize=8)
def primary_beam(n: int, cell: float, frequency: float) -> np.ndarray:
    """Power pattern of a 12-m ALMA antenna, the squared Airy pattern of a disc with a central hole.

    Parameters
    ----------
    n, cell
        Pixels on a side and their size in radians; the pointing centre is ``[n // 2, n // 2]``.
    frequency
        In Hz.

    Returns
    -------
    ndarray
        Shape (n, n), 1 in the centre.  CASA interpolates the same pattern in a table and
        comes out up to 1.1 % higher within the half-power radius.
    """
    offset = (np.arange(n) - n // 2) * cell
    radius = np.pi * np.hypot(offset[:, None], offset[None, :]) * frequency / SPEED_OF_LIGHT.value

    def disc(diameter):
        z = np.maximum(radius * diameter, 1e-9)
        return 2 * j1(z) / z

    hole = (BLOCKAGE / EFFECTIVE_DISH) ** 2
    return (((disc(EFFECTIVE_DISH) - hole * disc(BLOCKAGE)) / (1 - hole)) ** 2).astype(np.float32)
