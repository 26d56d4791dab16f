"""Observe a sky model: primary beam, gridded visibilities, dirty beam, noise drawn in the uv plane, dirty cube.

A dirty image is the linear convolution of (sky x primary beam) with the point spread function, by FFT on a grid twice
as wide as the image, so that nothing wraps around.  The power spectrum of the noise is the gridded square of the
imaging weights; with natural weights its autocorrelation is the point spread function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from napari_almadet.constants import ARCSEC_PER_DEGREE
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

# Visibilities are gridded to the nearest cell; with a grid this many times wider than the image the PSF is within
# 0.3 % of the exact one over the image, and within 0.6 % over twice the image.
GRID_PADDING = 8
PB_LIMIT = 0.2  # of the primary beam's peak, CASA's default
# Arrays for `draw_observation`, with ranges of frequencies in Hz.  The 7-m array is not included, because its field has
# few beams.
ARRAYS = {f"alma_cycle9_c{k}": (90e9, 350e9) for k in range(1, 7)} | {"vla_c": (8e9, 45e9), "vla_d": (8e9, 45e9)}


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
        Declination of the field in degrees, and hour angle at mid-observation in hours.
    duration, integration
        Of the observation and of one visibility, in seconds.
    noise
        Thermal noise per channel in Jy/beam for any weights; 0.375 mJy: CASA's ``tsys-atm`` with 0.8 mm of water.
    robust
        Briggs' robustness of the imaging weights, -2 to 2; None for natural weights.
    phase_error, phase_period, phase_seed
        Residual phase errors of the antennas: rms in degrees, period in seconds (None: constant), and seed.
    residual
        Fraction of the sidelobes that remain: 1 in a dirty cube, small in a CLEANed one, whose sources have the shape
        of the clean beam.
    pb_corrected
        Divide by the primary beam; no data where it is below ``PB_LIMIT``.
    mosaic
        Combine many pointings: the primary beam is flat.
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
    phase_error: float = 0.0
    phase_period: float | None = None
    phase_seed: int = 0
    residual: float = 1.0
    pb_corrected: bool = False
    mosaic: bool = False

    @property
    def cell(self) -> float:
        """Pixel size in radians."""
        return float(np.radians(self.pixel / ARCSEC_PER_DEGREE))

    @property
    def frequencies(self) -> np.ndarray:
        """Of the channel centres in Hz, shape (n_channels,)."""
        return self.frequency + (np.arange(self.n_channels) - self.n_channels // 2) * self.channel_width

    @property
    def times(self) -> np.ndarray:
        """Of the visibilities, in seconds from the middle of the observation, shape (t,)."""
        return np.arange(self.integration / 2, self.duration, self.integration) - self.duration / 2

    @property
    def hour_angles(self) -> np.ndarray:
        """At these times, in radians."""
        return np.radians(15 * self.hour_angle) + 2 * np.pi * self.times / SIDEREAL_DAY

    @cached_property
    def uv(self) -> np.ndarray:
        """Baseline coordinates of all visibilities in metres, shape (m, 2)."""
        return AntennaArray.load(self.array).uv(np.radians(self.declination), self.hour_angles)

    @property
    def phases(self) -> np.ndarray:
        """Phase errors of the antennas in radians, shape (t, n): constant, or a wave of random amplitude."""
        antennas = len(AntennaArray.load(self.array).enu)
        cosine, sine = np.random.default_rng(self.phase_seed).normal(0, np.radians(self.phase_error), (2, antennas))
        turn = 2 * np.pi * self.times[:, None] / (self.phase_period or np.inf)
        return cosine * np.cos(turn) + sine * np.sin(turn)

    def wavelengths(self, frequency: float | None = None) -> np.ndarray:
        """The uv coverage in wavelengths, at a frequency in Hz."""
        return self.uv * ((frequency or self.frequency) / SPEED_OF_LIGHT.value)

    def imaging_weights(self, frequency: float | None = None) -> np.ndarray:
        """Weights of the visibilities at a frequency in Hz, shape (m,).

        Briggs' weights depend on the field of view: visibilities are counted in cells of the grid of the image.
        """
        if self.robust is None:
            return np.ones(len(self.uv))
        return briggs_weights(self.wavelengths(frequency), self.size, self.cell, self.robust)

    def noise_weights(self, n: int, frequency: float | None = None) -> np.ndarray:
        """Power spectrum of the noise in an image of n pixels, shape (n, n): the squared weights, gridded."""
        return grid_visibilities(self.wavelengths(frequency), n, self.cell, self.imaging_weights(frequency) ** 2)

    def psf(self, frequency: float | None = None, size: int | None = None) -> np.ndarray:
        """Dirty beam at a frequency in Hz, shape (2 size, 2 size), its peak of 1 at ``[size, size]``.

        ``size`` defaults to the side of the image; the weights are those of the image in any case.
        """
        size = size or self.size
        weights = self.imaging_weights(frequency)
        grid = grid_visibilities(self.wavelengths(frequency), GRID_PADDING * size, self.cell, weights)
        return point_spread_function(grid, 2 * size)

    def response(self, frequency: float) -> np.ndarray:
        """Image of a point source of 1 Jy, in the shape of `psf`, with phase errors and CLEAN if any."""
        response = self.dirty_beam if frequency == self.frequency else self.psf(frequency)
        clean = fit_clean_beam(response).image(len(response)) if self.residual < 1 else 0.0
        if self.phase_error:
            phases = self.phases
            first, second = np.triu_indices(phases.shape[1], k=1)
            weights = self.imaging_weights(frequency)
            visibilities = weights * np.exp(1j * (phases[:, second] - phases[:, first])).ravel()
            grid = grid_visibilities(self.wavelengths(frequency), GRID_PADDING * self.size, self.cell, visibilities)
            response = point_spread_function(grid, 2 * self.size, total=2 * weights.sum())
        return clean + self.residual * (response - clean)

    def primary_beam(self, frequency: float | None = None) -> np.ndarray:
        """Primary beam at a frequency in Hz, shape (size, size)."""
        if self.mosaic:
            return np.ones((self.size, self.size), np.float32)
        diameter = AntennaArray.load(self.array).diameter
        return primary_beam(self.size, self.cell, float(frequency or self.frequency), diameter)

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

    @property
    def largest_pixel(self) -> float:
        """Largest pixel size that samples the longest baseline at all frequencies, in arcsec."""
        longest = np.hypot(*self.uv.T).max() * self.frequencies.max() / SPEED_OF_LIGHT.value
        return float(np.degrees(0.49 / longest) * ARCSEC_PER_DEGREE)

    def with_beam(self, fwhm: float) -> Observation:
        """This observation with the pixel size at which the clean beam has a given FWHM in pixels, within 5 %.

        The beam may have more pixels, because pixels must sample the longest baseline.
        """
        largest = self.largest_pixel
        observation = replace(self, pixel=0.5 * largest)
        for _ in range(3):  # Briggs' weights change with the field of view, and the beam with them
            found = fit_clean_beam(observation.psf(size=48)).fwhm
            observation = replace(observation, pixel=min(observation.pixel * found / fwhm, largest))
        return observation


def draw_observation(rng: np.random.Generator, size: int = 360, n_channels: int = 128) -> Observation:
    """Draw an observation from a wide range.

    Any array of ``ARRAYS`` at a frequency in its range, declination -75 to 25 degrees, within two hours of transit and
    at least 20 degrees above the horizon, ten minutes to two hours long, natural weights or robust ones of -2 to 2, a
    clean beam of 3 to 10 pixels; channels have the same width in velocity as in the paper.
    """
    array = str(rng.choice(list(ARRAYS)))
    frequency = float(rng.uniform(*ARRAYS[array]))
    while True:
        observation = Observation(
            array=array,
            size=size,
            n_channels=n_channels,
            channel_width=10e6 * frequency / 230e9,
            frequency=frequency,
            declination=float(rng.uniform(-75, 25)),
            hour_angle=float(rng.uniform(-2, 2)),
            duration=float(np.exp(rng.uniform(np.log(600), np.log(7200)))),
            integration=30.0,
            robust=None if rng.random() < 1 / 3 else float(rng.uniform(-2, 2)),
        )
        elevation = AntennaArray.load(array).elevation(np.radians(observation.declination), observation.hour_angles)
        if elevation.min() > np.radians(20):
            return observation.with_beam(float(rng.uniform(3.2, 9.5)))


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
        self._middle = self._response(observation.frequency)
        if band_ends:
            self._ends = [self._response(f) for f in observation.frequencies[[0, -1]]]
        # Gridded weights are never negative, unlike the transform of the clipped PSF; the error of this coarser grid is
        # 0.1 % in the main lobe and 1.5 % far out.  Few cells have visibilities: noise is drawn only in these, and only
        # rows with any are transformed.
        side = 2 * observation.size
        power = observation.noise_weights(side)
        self._noise_rows = torch.as_tensor(np.flatnonzero(power.any(axis=1)), device=self.device)
        power = power[power.any(axis=1)].ravel() / power.mean()
        filled = np.flatnonzero(power)
        self._noise_cells = torch.as_tensor(filled, device=self.device)
        # torch's complex normal distribution has a variance of 1, half of it in each part
        self._noise_amplitudes = torch.as_tensor(side * np.sqrt(2 * power[filled]), dtype=torch.float32).to(self.device)

    def _response(self, frequency: float) -> tuple[torch.Tensor, torch.Tensor]:
        kernel = np.fft.ifftshift(self.observation.response(frequency))
        transfer = torch.fft.rfft2(torch.as_tensor(kernel, dtype=torch.float32, device=self.device))
        return torch.as_tensor(self.observation.primary_beam(frequency), device=self.device), transfer

    def _convolve(self, sky: torch.Tensor, response: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        pattern, transfer = response
        size = self.observation.size
        wide = (2 * size, 2 * size)

        def some(images: torch.Tensor) -> torch.Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(images * pattern, s=wide) * transfer, s=wide)[..., :size, :size]

        return torch.cat([some(images) for images in sky.split(8)])  # more at a time is limited by memory

    def dirty(self, sky: torch.Tensor) -> torch.Tensor:
        """Noise-free images at the middle channel: (n, size, size) Jy/pixel -> Jy/beam, before any correction."""
        return self._convolve(sky.to(self.device), self._middle) if len(sky) else sky.to(self.device)

    def noise(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Noise images of standard deviation 1 with the observation's noise correlation; shape (n, size, size).

        Complex white noise is drawn in the uv plane; real and imaginary part of its transform are two independent
        images.
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
        """Dirty cube without noise, (n_channels, size, size) in Jy/beam."""
        return self._corrected(self._uncorrected(model))

    def _corrected(self, cube: torch.Tensor) -> torch.Tensor:
        """Divide by the primary beam in place, if ``pb_corrected``."""
        if self.observation.pb_corrected:
            seen = self._middle[0] >= PB_LIMIT
            low, high = (torch.where(seen, pattern, torch.nan) for pattern, _ in self._ends)
            for plane, upward in zip(cube, np.linspace(0, 1, len(cube)), strict=True):
                plane /= low + upward * (high - low)
        return cube

    def _uncorrected(self, model: SkyModel) -> torch.Tensor:
        """Dirty cube without noise, before correction for the primary beam.

        PSF and primary beam shrink with frequency; over a band of a percent, the response in each pixel is linear in
        frequency, so it is interpolated between the ends.
        """
        observation = self.observation
        shape = (observation.n_channels, observation.size, observation.size)
        if not len(model):
            return torch.zeros(shape, device=self.device)
        images, spectra, _ = model.components(observation.size, observation.frequencies)
        sky = torch.as_tensor(images, device=self.device)
        bright = torch.as_tensor(spectra, dtype=torch.float32, device=self.device)
        low, high = (self._convolve(sky, end).flatten(1) for end in self._ends)
        upward = torch.linspace(0, 1, observation.n_channels, device=self.device)
        return ((bright * (1 - upward)).T @ low + (bright * upward).T @ high).reshape(shape)

    def of_sky(self, sky: np.ndarray) -> torch.Tensor:
        """Dirty cube without noise of any sky, before correction for the primary beam.

        Parameters
        ----------
        sky
            Shape (n_channels, size, size), Jy/pixel.

        Returns
        -------
        torch.Tensor
            Of the same shape, Jy/beam.  PSF and primary beam are interpolated between the ends of the band.
        """
        size = self.observation.size
        wide = (2 * size, 2 * size)
        dirty = torch.zeros(sky.shape, dtype=torch.float32, device=self.device)
        (low_pattern, low), (high_pattern, high) = self._ends
        for channel in np.flatnonzero(sky.any(axis=(1, 2))):
            upward = channel / max(len(sky) - 1, 1)
            plane = torch.as_tensor(sky[channel], dtype=torch.float32, device=self.device)
            plane = plane * torch.lerp(low_pattern, high_pattern, upward)
            seen = torch.fft.rfft2(plane, s=wide) * torch.lerp(low, high, upward)
            dirty[channel] = torch.fft.irfft2(seen, s=wide)[:size, :size]
        return dirty

    def corrected(self, cube: torch.Tensor) -> torch.Tensor:
        """Divide by the primary beam in place, if ``pb_corrected``; NaN where it is below `PB_LIMIT`."""
        return self._corrected(cube)

    def cube(self, model: SkyModel, generator: torch.Generator) -> torch.Tensor:
        """Dirty cube, (n_channels, size, size) in Jy/beam."""
        cube = self._uncorrected(model)
        for first in range(0, len(cube), 16):  # 16 planes at a time bound the memory
            block = cube[first : first + 16]
            block += self.observation.noise * self.noise(len(block), generator)
        return self._corrected(cube)
