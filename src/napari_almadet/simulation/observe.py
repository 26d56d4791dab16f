"""Observe a sky model: primary beam, gridded visibilities, dirty beam, noise drawn in the uv plane, dirty cube.

A dirty image is the linear convolution of (sky x primary beam) with the point spread
function, done by FFT on a grid twice as wide as the image, so that nothing wraps round.
Noise in the visibilities becomes noise whose power spectrum is the gridded square of the
imaging weights; with natural weights its autocorrelation is the point spread function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from napari_almadet.simulation.array import (
    SIDEREAL_DAY,
    SPEED_OF_LIGHT,
    AntennaArray,
    CleanBeam,
    briggs_weights,
    fit_clean_beam,
    grid_visibilities,
    point_spread_function,
    primary_beam,
)
from napari_almadet.simulation.sky import SkyModel

# Visibilities go to the nearest cell; a grid this many times wider than the image keeps the
# PSF within 0.3 % of the exact one over the image, 0.6 % over the twice as wide convolution.
GRID_PADDING = 8


@dataclass(frozen=True)
class Observation:
    """How the sky is observed; the defaults are the paper's set-up (section 3).

    Attributes
    ----------
    array
        Antenna configuration, a file of ``simulation/antennas``.
    size, pixel
        Image side in pixels and pixel size in arcsec.
    n_channels, channel_width, frequency
        Channels, their width in Hz, and the frequency of channel ``n_channels // 2`` in Hz.
    declination, hour_angle
        Of the field in degrees, and of the middle of the observation in hours.
    duration, integration
        Of the observation and of one visibility, in seconds.
    noise
        Thermal noise per channel in Jy/beam, whatever the weights; 0.375 mJy is what CASA's
        ``tsys-atm`` gives for 0.8 mm of water.
    robust
        Briggs' robustness of the imaging weights, -2 to 2; None for natural weights.
    """

    array: str = "alma_cycle9_c3"
    size: int = 360
    pixel: float = 0.1
    n_channels: int = 128
    channel_width: float = 10e6
    frequency: float = 230e9
    declination: float = -35.0
    hour_angle: float = 0.0
    duration: float = 2400.0
    integration: float = 10.0
    noise: float = 0.375e-3
    robust: float | None = None

    @property
    def cell(self) -> float:
        """Pixel size in radians."""
        return float(np.radians(self.pixel / 3600))

    @property
    def frequencies(self) -> np.ndarray:
        """Of the channel centres in Hz, shape (n_channels,)."""
        return self.frequency + (np.arange(self.n_channels) - self.n_channels // 2) * self.channel_width

    @cached_property
    def uv(self) -> np.ndarray:
        """Baseline coordinates of all visibilities in metres, shape (m, 2)."""
        times = np.arange(self.integration / 2, self.duration, self.integration) - self.duration / 2
        hour_angles = np.radians(15 * self.hour_angle) + 2 * np.pi * times / SIDEREAL_DAY
        return AntennaArray.load(self.array).uv(np.radians(self.declination), hour_angles)

    def _wavelengths(self, frequency: float | None) -> np.ndarray:
        return self.uv * ((frequency or self.frequency) / SPEED_OF_LIGHT.value)

    def imaging_weights(self, frequency: float | None = None) -> np.ndarray:
        """Weights of the visibilities at a frequency in Hz, shape (m,).

        Briggs' weights depend on the field of view: visibilities are counted in the cells of the image's own grid.
        """
        if self.robust is None:
            return np.ones(len(self.uv))
        return briggs_weights(self._wavelengths(frequency), self.size, self.cell, self.robust)

    def noise_weights(self, n: int, frequency: float | None = None) -> np.ndarray:
        """Power spectrum of the noise in an image of n pixels, shape (n, n): the squared weights, gridded."""
        return grid_visibilities(self._wavelengths(frequency), n, self.cell, self.imaging_weights(frequency) ** 2)

    def psf(self, frequency: float | None = None, size: int | None = None) -> np.ndarray:
        """Dirty beam at a frequency in Hz, shape (2 size, 2 size), its peak of 1 at ``[size, size]``.

        ``size`` is the image's side unless another is asked for; the weights are the image's in either case.
        """
        size = size or self.size
        weights = self.imaging_weights(frequency)
        grid = grid_visibilities(self._wavelengths(frequency), GRID_PADDING * size, self.cell, weights)
        return point_spread_function(grid, 2 * size)

    @cached_property
    def dirty_beam(self) -> np.ndarray:
        """The PSF at the middle channel."""
        return self.psf()

    @cached_property
    def noise_correlation(self) -> np.ndarray:
        """Autocorrelation of the noise at the middle channel, shape (2 size, 2 size), 1 at ``[size, size]``."""
        if self.robust is None:
            return self.dirty_beam
        return point_spread_function(self.noise_weights(GRID_PADDING * self.size), 2 * self.size)

    @cached_property
    def clean_beam(self) -> CleanBeam:
        """Gaussian fitted to the dirty beam's main lobe."""
        return fit_clean_beam(self.dirty_beam)


class Imager:
    """Turns sky images into dirty images, in batches, on a CPU or a GPU.

    Parameters
    ----------
    observation
        What to simulate.
    device
        Where to compute; results stay there.
    band_ends
        Also prepare the lowest and the highest channel, which :meth:`cube` needs.
    """

    def __init__(self, observation: Observation, device: str | torch.device = "cpu", band_ends: bool = True):
        self.observation = observation
        self.device = torch.device(device)
        self._middle = self._response(observation.dirty_beam, observation.frequency)
        if band_ends:
            self._ends = [self._response(observation.psf(f), f) for f in observation.frequencies[[0, -1]]]
        # Gridded weights are nowhere negative, unlike the transform of the cut-out PSF; rounding to this
        # coarser grid errs by 0.1 % in the main lobe and 1.5 % far out.  Few cells hold a visibility:
        # noise is drawn in those alone, and only the rows with any are transformed.
        side = 2 * observation.size
        power = observation.noise_weights(side)
        self._noise_rows = torch.as_tensor(np.flatnonzero(power.any(axis=1)), device=self.device)
        power = power[power.any(axis=1)].ravel() / power.mean()
        filled = np.flatnonzero(power)
        self._noise_cells = torch.as_tensor(filled, device=self.device)
        # torch's complex normal has a variance of 1, half of it in each part
        self._noise_amplitudes = torch.as_tensor(side * np.sqrt(2 * power[filled]), dtype=torch.float32).to(self.device)

    def _response(self, psf: np.ndarray, frequency: float) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.observation.size
        kernel = torch.as_tensor(np.fft.ifftshift(psf), dtype=torch.float32, device=self.device)
        diameter = AntennaArray.load(self.observation.array).diameter
        pattern = primary_beam(size, self.observation.cell, float(frequency), diameter)
        return torch.as_tensor(pattern, device=self.device), torch.fft.rfft2(kernel)

    def _convolve(self, sky: torch.Tensor, response: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        pattern, transfer = response
        size = self.observation.size
        padded = torch.fft.rfft2(sky * pattern, s=(2 * size, 2 * size))
        return torch.fft.irfft2(padded * transfer, s=(2 * size, 2 * size))[..., :size, :size]

    def dirty(self, sky: torch.Tensor) -> torch.Tensor:
        """Noise-free dirty images at the middle channel: (n, size, size) Jy/pixel -> Jy/beam."""
        return self._convolve(sky.to(self.device), self._middle) if len(sky) else sky.to(self.device)

    def noise(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Noise images of standard deviation 1 with the observation's noise correlation; shape (n, size, size).

        Complex white noise is drawn in the uv plane, where the real and the imaginary part
        of its transform are two independent images.
        """
        size, pairs, rows = self.observation.size, (n + 1) // 2, len(self._noise_rows)
        white = torch.randn(
            (pairs, len(self._noise_cells)), dtype=torch.complex64, generator=generator, device=generator.device
        ).to(self.device)
        grid = torch.zeros((pairs, rows * 2 * size), dtype=torch.complex64, device=self.device)
        grid[:, self._noise_cells] = white * self._noise_amplitudes
        planes = torch.zeros((pairs, 2 * size, size), dtype=torch.complex64, device=self.device)
        planes[:, self._noise_rows] = torch.fft.ifft(grid.reshape(pairs, rows, 2 * size))[..., :size]
        images = torch.view_as_real(torch.fft.ifft(planes, dim=1)[:, :size])
        return images.movedim(-1, 1).reshape(-1, size, size)[:n]

    def noise_free_cube(self, model: SkyModel) -> torch.Tensor:
        """Dirty cube without noise, (n_channels, size, size) in Jy/beam.

        PSF and primary beam shrink with frequency; over a band of a percent every pixel of
        a source's response is linear in frequency, so it is interpolated between the ends.
        """
        observation = self.observation
        shape = (observation.n_channels, observation.size, observation.size)
        if not len(model):
            return torch.zeros(shape, device=self.device)
        sky = torch.as_tensor(model.images(observation.size), device=self.device)
        spectra = torch.as_tensor(model.spectra(observation.frequencies), dtype=torch.float32, device=self.device)
        low, high = (self._convolve(sky, end).flatten(1) for end in self._ends)
        upward = torch.linspace(0, 1, observation.n_channels, device=self.device)
        return ((spectra * (1 - upward)).T @ low + (spectra * upward).T @ high).reshape(shape)

    def cube(self, model: SkyModel, generator: torch.Generator) -> torch.Tensor:
        """Dirty cube, (n_channels, size, size) in Jy/beam."""
        cube = self.noise_free_cube(model)
        for first in range(0, len(cube), 16):  # 16 planes at a time bound the memory
            block = cube[first : first + 16]
            block += self.observation.noise * self.noise(len(block), generator)
        return cube
