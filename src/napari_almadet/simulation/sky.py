"""Sky models: elliptical Gaussians on the sky times a continuum and a Gaussian line in frequency (paper, table 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.simulation.array import CleanBeam


@dataclass(frozen=True)
class SkyRecipe:
    """Ranges from which sources are drawn, uniformly; the defaults are the paper's table 1.

    The first source lies near the field's centre and none is brighter than it.  Positions,
    sizes and line widths are in pixels and channels of a field of 360 x 360 x 128, and are
    scaled with it.  ``fwhm`` and ``line_fwhm`` are full widths at half maximum (the
    authors' scripts took the former for a standard deviation).

    Attributes
    ----------
    companions
        Number of sources beside the first, both ends included; None for an empty sky.
    continuum, line
        Whether sources have the one and the other.
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


PAPER = SkyRecipe()

# Skies the paper's set does not hold and real data does.
STRATA = {
    "paper": PAPER,
    "empty": replace(PAPER, companions=None),
    "line-only": replace(PAPER, continuum=False),
    "continuum-only": replace(PAPER, line=False),
}


@dataclass(frozen=True, eq=False)
class SkyModel:
    """Sources of one field, an array of shape (n,) for each parameter.

    ``x``, ``y`` in 0-based pixels; ``major``, ``minor`` FWHM in pixels; ``angle`` in degrees
    from north through east (East left); ``continuum`` and ``line`` the peak brightness of
    the two at the reference frequency, in Jy/pixel; ``line_centre`` and ``line_fwhm`` in
    channels.
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
    ) -> SkyModel:
        """Draw the sources of one field.

        Parameters
        ----------
        size, n_channels
            Of the cube, pixels on a side and channels.
        brightest
            Brightness of the brightest voxel, in Jy/pixel.
        """
        n = 0 if recipe.companions is None else 1 + int(rng.integers(recipe.companions[0], recipe.companions[1] + 1))
        amplitude, line_amplitude = rng.uniform(*recipe.amplitude, n), rng.uniform(*recipe.line_amplitude, n)
        # What a source emits where it is brightest decides which is the first.
        peak = amplitude * (recipe.continuum + recipe.line * line_amplitude)
        order = np.argsort(peak < peak.max(initial=0.0), kind="stable")
        amplitude, line_amplitude = amplitude[order], line_amplitude[order]

        scale = size / 360
        x, y = rng.uniform(*recipe.position, (2, n)) * scale
        x[:1], y[:1] = size / 2 + scale * rng.uniform(-recipe.centre_scatter, recipe.centre_scatter, (2, min(n, 1)))
        unit = brightest / peak.max(initial=1e-30)
        channels = n_channels / 128
        axes = np.sort(rng.uniform(*recipe.fwhm, (2, n)) * scale, axis=0)
        return cls(
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
        )

    def images(self, size: int, beam: CleanBeam | None = None) -> np.ndarray:
        """Each source alone, with a peak of 1, sampled at pixel centres.

        Parameters
        ----------
        size
            Pixels on a side.
        beam : CleanBeam, optional
            Convolve with this beam first: Gaussians, so the result is exact.  Its peak is
            again set to 1.

        Returns
        -------
        ndarray
            Shape (n, size, size), float32.
        """
        covariance = _covariance(self.major, self.minor, self.angle)
        if beam is not None:
            covariance = covariance + _covariance(beam.major, beam.minor, beam.angle)
        inverse = np.linalg.inv(covariance)
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
        ratio = frequencies / frequencies[len(frequencies) // 2]
        return self.continuum[:, None] * ratio ** self.spectral_index[:, None] + self.line_profiles(len(frequencies))

    def line_profiles(self, n_channels: int) -> np.ndarray:
        """The lines alone, shape (n, n_channels), in Jy/pixel."""
        sigma = self.line_fwhm[:, None] * gaussian_fwhm_to_sigma
        offset = np.arange(n_channels) - self.line_centre[:, None]
        return self.line[:, None] * np.exp(-0.5 * (offset / sigma) ** 2)


def _covariance(major, minor, angle) -> np.ndarray:
    """Covariance in (x, y) pixels of Gaussians of given FWHM; shape (..., 2, 2)."""
    major, minor = np.square(np.asarray([major, minor], dtype=float) * gaussian_fwhm_to_sigma)
    angle = np.radians(angle)
    # Position angle runs from north (+y) to east (-x).
    along = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
    across = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return (
        major[..., None, None] * along[..., :, None] * along[..., None, :]
        + minor[..., None, None] * across[..., :, None] * across[..., None, :]
    )
