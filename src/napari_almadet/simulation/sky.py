"""Sky models: elliptical Gaussians on the sky times a continuum and a Gaussian line in frequency (paper, table 1).

A source may rotate: the centre of its line then runs along its major axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from numpy.typing import ArrayLike

from napari_almadet.constants import FOUR_LN2
from napari_almadet.simulation.array import CleanBeam


@dataclass(frozen=True)
class SkyRecipe:
    """Ranges from which sources are drawn, uniformly; the defaults are the paper's table 1.

    The first source is near the centre of the field and is the brightest.  Positions,
    sizes and line widths are in pixels and channels of a field of 360 x 360 x 128, and are
    scaled with it.  ``fwhm`` and ``line_fwhm`` are full widths at half maximum (the
    authors' scripts used the former as a standard deviation).

    Attributes
    ----------
    companions
        Range of the number of further sources, inclusive; None for an empty sky.
    continuum, line
        Whether sources have continuum, and lines.
    in_beams
        Whether ``fwhm`` is in clean beams (geometric mean of its axes) and not in pixels.
    pairs
        Range of the number of close pairs, inclusive; the field then contains only pairs.
    separation
        Distance of the two sources of a pair, in FWHM of the clean beam in that direction.
    gradient
        Channels by which a rotating source's line shifts from one end of its FWHM to the other.
    """

    companions: tuple[int, int] | None = (2, 5)
    amplitude: tuple[float, float] = (1.0, 5.0)
    fwhm: tuple[float, float] = (2.0, 8.0)
    spectral_index: tuple[float, float] = (-2.0, 2.0)
    position: tuple[float, float] = (100.0, 250.0)
    centre_scatter: float = 5.0
    angle: tuple[float, float] = (0.0, 90.0)
    line_amplitude: tuple[float, float] = (1.0, 5.0)
    line_centre: tuple[float, float] = (10.0, 110.0)
    line_fwhm: tuple[float, float] = (3.0, 10.0)
    continuum: bool = True
    line: bool = True
    in_beams: bool = False
    pairs: tuple[int, int] | None = None
    separation: tuple[float, float] = (1.0, 2.0)
    gradient: tuple[float, float] | None = None


PAPER = SkyRecipe()

PAPER_BEAM = CleanBeam(8.93, 7.60, 84.6)  # of the paper's set-up, in pixels
PAIRS_APART = 3.0  # beams, between sources of different pairs

# tanh(4 x) at x = 0.5, which is the half-power radius: the rotation curve is scaled to 1 there.
ROTATION_AT_FWHM = np.tanh(2.0)


def rotation(along: np.ndarray) -> np.ndarray:
    """Rotation curve, rising within the half-power radius and flat beyond: 1 at 0.5, antisymmetric.

    ``along`` is the distance from the centre along the major axis, in FWHM.
    """
    return np.tanh(4 * along) / ROTATION_AT_FWHM


@dataclass(frozen=True, eq=False)
class SkyModel:
    """The sources of one field: an array of shape (n,) for each parameter.

    ``x``, ``y`` in 0-based pixels; ``major``, ``minor`` FWHM in pixels; ``angle`` in degrees
    from north through east (East left); ``continuum`` and ``line`` the peak brightness of
    both at the reference frequency, in Jy/pixel; ``line_centre`` and ``line_fwhm`` in channels, the latter at one
    position in the source.  ``gradient`` is the shift of the line of a rotating source across its FWHM in channels,
    towards the position angle; 0 without rotation.  ``pair`` is the number of the close pair a source belongs to, or 0.
    """

    x: np.ndarray
    y: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    angle: np.ndarray
    continuum: np.ndarray
    spectral_index: np.ndarray
    line: np.ndarray
    line_centre: np.ndarray
    line_fwhm: np.ndarray
    gradient: np.ndarray
    pair: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def sample(
        cls,
        rng: np.random.Generator,
        recipe: SkyRecipe = PAPER,
        *,
        size: int = 360,
        n_channels: int = 128,
        brightest: float = 2.5e-4,
        beam: CleanBeam = PAPER_BEAM,
        where: np.ndarray | None = None,
    ) -> SkyModel:
        """Draw the sources of one field.

        Parameters
        ----------
        size, n_channels
            Side of the cube in pixels, and number of channels.
        brightest
            Brightness of the brightest voxel, in Jy/pixel.
        beam
            The clean beam, for recipes with sizes or separations in beams.
        where
            Relative probability of each pixel to contain the centre of a source, shape (size, size); replaces the
            positions of the recipe.
        """
        if recipe.pairs is not None:
            n = 2 * int(rng.integers(recipe.pairs[0], recipe.pairs[1] + 1))
        else:
            n = 0 if recipe.companions is None else 1 + int(rng.integers(*recipe.companions, endpoint=True))
        amplitude, line_amplitude = rng.uniform(*recipe.amplitude, n), rng.uniform(*recipe.line_amplitude, n)
        # The first source is the one with the highest peak brightness.
        peak = amplitude * (recipe.continuum + recipe.line * line_amplitude)
        order = np.argsort(peak < peak.max(initial=0.0), kind="stable")
        amplitude, line_amplitude = amplitude[order], line_amplitude[order]

        scale = size / 360
        x, y = rng.uniform(*recipe.position, (2, n)) * scale
        x[:1], y[:1] = size / 2 + scale * rng.uniform(-recipe.centre_scatter, recipe.centre_scatter, (2, min(n, 1)))
        if where is not None and n:
            if not where.any():
                raise ValueError(f"no room for a source in a field of {size} pixels")
            pixels = rng.choice(where.size, n, p=where.ravel() / where.sum())
            y, x = np.divmod(pixels, size) + rng.uniform(-0.5, 0.5, (2, n))
        unit = brightest / peak.max(initial=1e-30)
        channels = n_channels / 128
        axes = np.sort(rng.uniform(*recipe.fwhm, (2, n)) * (beam.fwhm if recipe.in_beams else scale), axis=0)
        model = cls(
            x=x,
            y=y,
            major=axes[1],
            minor=axes[0],
            angle=rng.uniform(*recipe.angle, n),
            continuum=amplitude * unit * recipe.continuum,
            spectral_index=rng.uniform(*recipe.spectral_index, n),
            line=amplitude * line_amplitude * unit * recipe.line,
            line_centre=rng.uniform(*recipe.line_centre, n) * channels,
            line_fwhm=rng.uniform(*recipe.line_fwhm, n) * channels,
            gradient=np.zeros(n),
            pair=np.zeros(n, dtype=int),
        )
        if recipe.gradient is not None:
            gradient = rng.uniform(*recipe.gradient, n) * rng.choice([-1, 1], n) * channels
            model = replace(model, gradient=gradient)
        return model._paired(rng, recipe.separation, size, beam) if recipe.pairs is not None else model

    def _paired(
        self, rng: np.random.Generator, separation: tuple[float, float], size: int, beam: CleanBeam
    ) -> SkyModel:
        """Place sources 2k and 2k + 1 as pairs, and pairs far from each other if there is room."""
        x, y = self.x.copy(), self.y.copy()
        others = np.zeros(len(self), dtype=bool)
        for first in range(0, len(self), 2):
            for room in np.linspace(PAIRS_APART, 0, 100):
                angle = rng.uniform(0, 360)
                distance = rng.uniform(*separation) * beam.width_along(angle)
                x[first + 1] = x[first] - distance * np.sin(np.radians(angle))
                y[first + 1] = y[first] + distance * np.cos(np.radians(angle))
                both = slice(first, first + 2)
                inside = min(x[both].min(), y[both].min()) >= 0 and max(x[both].max(), y[both].max()) <= size - 1
                gap = np.hypot(x[both, None] - x[others], y[both, None] - y[others]).min(initial=np.inf)
                if inside and gap > room * beam.fwhm:
                    break
                x[first], y[first] = rng.uniform(0.15, 0.85, 2) * size
            others[both] = True
        return replace(self, x=x, y=y, pair=np.arange(len(self)) // 2 + 1)

    def images(self, size: int, beam: CleanBeam | None = None) -> np.ndarray:
        """Each source alone, with a peak of 1, sampled at pixel centres.

        Parameters
        ----------
        size
            Pixels on a side.
        beam : CleanBeam, optional
            Convolve with this beam first; exact, as both are Gaussians.  The peak is again set to 1.

        Returns
        -------
        ndarray
            Shape (n, size, size), float32.
        """
        matrix = covariance(self.major, self.minor, self.angle)
        if beam is not None:
            matrix = matrix + covariance(beam.major, beam.minor, beam.angle)
        inverse = np.linalg.inv(matrix)
        pixels = np.arange(size)
        dx = pixels - self.x[:, None]
        dy = pixels - self.y[:, None]
        exponent = (
            inverse[:, 0, 0, None, None] * dx[:, None, :] ** 2
            + 2 * inverse[:, 0, 1, None, None] * dx[:, None, :] * dy[:, :, None]
            + inverse[:, 1, 1, None, None] * dy[:, :, None] ** 2
        )
        return np.exp(-0.5 * exponent).astype(np.float32)

    def spectra(self, frequencies: np.ndarray) -> np.ndarray:
        """Peak brightness of each source in each channel.

        Parameters
        ----------
        frequencies
            Of the channels, shape (c,); the reference frequency is the middle channel's.

        Returns
        -------
        ndarray
            Shape (n, c), in Jy/pixel.
        """
        return self.continuum_spectra(frequencies) + self.line_profiles(len(frequencies))

    def continuum_spectra(self, frequencies: np.ndarray) -> np.ndarray:
        """The continuum alone, as `spectra`."""
        ratio = frequencies / frequencies[len(frequencies) // 2]
        return self.continuum[:, None] * ratio ** self.spectral_index[:, None]

    def line_profiles(self, n_channels: int) -> np.ndarray:
        """The lines alone, shape (n, n_channels), in Jy/pixel.

        For a rotating source, the mean over the source weighted with its brightness.
        """
        return np.array([self._profile(i, np.arange(n_channels)) for i in range(len(self))]).reshape(-1, n_channels)

    def line_widths(self) -> np.ndarray:
        """FWHM of the integrated lines in channels, shape (n,); for a rotating source between the outer flanks."""
        widths = self.line_fwhm.astype(float)
        for i in np.flatnonzero(self.gradient * self.line).tolist():
            reach = abs(self.gradient[i]) + 2 * self.line_fwhm[i]
            profile = self._profile(i, self.line_centre[i] + np.linspace(0, reach, 2000))
            widths[i] = 2 * reach * np.flatnonzero(profile >= 0.5 * profile.max())[-1] / 1999
        return widths

    def _profile(self, i: int, channels: np.ndarray) -> np.ndarray:
        along = np.linspace(-1.5, 1.5, 301) if self.gradient[i] else np.zeros(1)
        weights = np.exp(-FOUR_LN2 * along**2)
        return weights @ self._lines(i, rotation(along), channels) / weights.sum()

    def _lines(self, i: int, shift: np.ndarray, channels: np.ndarray) -> np.ndarray:
        """Line of a source shifted by rotation, in units of half the gradient; shape (len(shift), len(channels))."""
        centre = self.line_centre[i] + 0.5 * self.gradient[i] * shift[:, None]
        return self.line[i] * np.exp(-0.5 * ((channels - centre) / (self.line_fwhm[i] * gaussian_fwhm_to_sigma)) ** 2)

    def line_cube(self, i: int, image: np.ndarray, corner: tuple[int, int], n_channels: int) -> np.ndarray:
        """The line of source ``i`` in a window of the sky, (n_channels, ny, nx) in Jy/pixel, float32.

        ``image`` is the source with a peak of 1 in that window, whose first row and column are ``corner``.
        """
        channels = np.arange(n_channels)
        if not self.gradient[i]:
            return self._lines(i, np.zeros(1), channels)[0].astype(np.float32)[:, None, None] * image
        angle = np.radians(self.angle[i])
        north = (np.arange(image.shape[0]) + corner[0] - self.y[i])[:, None]
        east = self.x[i] - np.arange(image.shape[1]) - corner[1]
        shift = rotation((north * np.cos(angle) + east * np.sin(angle)) / self.major[i])
        lines = self._lines(i, shift.ravel(), channels)
        return lines.T.astype(np.float32).reshape(n_channels, *image.shape) * image

    def components(self, size: int, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sky as a sum of images times spectra.

        Sources without rotation have one component, `images` times `spectra`.  The line of a rotating one has several:
        the singular vectors of its spectra at all shifts, down to 0.3 % of the first.

        Returns
        -------
        images : ndarray
            Shape (k, size, size), float32; the first n are the sources' own.
        spectra : ndarray
            Shape (k, c), in Jy/pixel.
        owner : ndarray
            Index of the source of each, shape (k,).
        """
        images, spectra, owner = [self.images(size)], [self.spectra(frequencies)], [np.arange(len(self))]
        for i in np.flatnonzero(self.gradient * self.line).tolist():
            spectra[0][i] = self.continuum_spectra(frequencies)[i]
            shifts = np.linspace(-1, 1, 401) / ROTATION_AT_FWHM
            left, weight, right = np.linalg.svd(
                self._lines(i, shifts, np.arange(len(frequencies))), full_matrices=False
            )
            kept = np.flatnonzero(weight > 3e-3 * weight[0])
            angle = np.radians(self.angle[i])
            pixels = np.arange(size)
            north, east = (pixels - self.y[i])[:, None], (self.x[i] - pixels)[None, :]
            shift = rotation((north * np.cos(angle) + east * np.sin(angle)) / self.major[i])
            images.append(np.array([images[0][i] * np.interp(shift, shifts, left[:, k]) for k in kept], np.float32))
            spectra.append(weight[kept, None] * right[kept])
            owner.append(np.full(len(kept), i))
        return np.concatenate(images), np.concatenate(spectra), np.concatenate(owner)


def covariance(major: ArrayLike, minor: ArrayLike, angle: ArrayLike) -> np.ndarray:
    """Covariance in (x, y) pixels of Gaussians of given FWHM and position angle in degrees; shape (..., 2, 2)."""
    long, short = np.square(np.asarray([major, minor], dtype=float) * gaussian_fwhm_to_sigma)
    turn = np.radians(angle)
    # Position angle runs from north (+y) to east (-x).
    along = np.stack([-np.sin(turn), np.cos(turn)], axis=-1)
    across = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    return (
        long[..., None, None] * along[..., :, None] * along[..., None, :]
        + short[..., None, None] * across[..., :, None] * across[..., None, :]
    )
