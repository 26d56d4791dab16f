"""Cubes larger than memory: a mosaic of many fields of a scenario, written channel by channel.

A mosaic differs from a single field in three ways.  The primary beam is flat, because many pointings are combined.
Sidelobes and the correlation of the noise extend only over one pointing: both are the dirty beam times the
autocorrelation of the primary beam (Ekers & Rots 1979).  All channels have the dirty beam of the middle channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.table import QTable, vstack
from scipy import fft

from napari_almadet.simulation.array import AntennaArray, grid_visibilities, primary_beam_radius
from napari_almadet.simulation.observation_files import draw_sky, finished, header, truth_table, write_psf
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.scenarios import SCENARIOS, Scenario

FAINTEST = 1e-5  # of the peak of a component, at the edge of its image
EMPTY = 1e-5  # of the highest weight: cells below have no visibility nearby


@dataclass(frozen=True, eq=False)
class Mosaic:
    """The sky of a mosaic of ``side`` pixels, and its truth.

    ``stamps`` are the sources' components: first pixel (y, x), image, and spectrum in Jy/pixel.
    """

    observation: Observation
    side: int
    stamps: list[tuple[int, int, np.ndarray, np.ndarray]]
    truth: QTable


def draw_mosaic(seed: int, across: int, scenario: str = "paper", observation: Observation | None = None) -> Mosaic:
    """Draw ``across`` x ``across`` skies of a scenario, each as for one field of the observation's size.

    Raises
    ------
    ValueError
        If the scenario also draws an observation, positions within the primary beam, or blank pixels.
    """
    kind = SCENARIOS[scenario]
    if drawn_apart(kind):
        possible = ", ".join(name for name, k in SCENARIOS.items() if not drawn_apart(k))
        raise ValueError(
            f"no mosaics of {scenario}, because each of its fields has a different observation; possible: {possible}"
        )
    observation = replace(observation or Observation(), mosaic=True)
    imager = Imager(observation, band_ends=False)
    rng = np.random.default_rng(seed)
    stamps, tables = [], []
    for number in range(across**2):
        y0, x0 = (observation.size * i for i in divmod(number, across))
        model = draw_sky(rng, kind, observation)
        images, spectra, _ = model.components(observation.size, observation.frequencies)
        for image, spectrum in zip(images, spectra, strict=True):
            rows, columns = (np.flatnonzero((np.abs(image) > FAINTEST).any(axis=axis)) for axis in (1, 0))
            y, x = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            stamps.append((y0 + y.start, x0 + x.start, image[y, x].copy(), spectrum.astype(np.float32)))
        table = truth_table(model, imager)
        for axis, first in (("x", x0), ("y", y0)):
            table[axis] += first * table[axis].unit
            for end in ("min", "max"):
                table[f"{axis}_{end}"] += first
        tables.append(table)
    truth = vstack(tables, metadata_conflicts="silent")
    truth["id"] = np.arange(1, len(truth) + 1)
    return Mosaic(observation, across * observation.size, stamps, truth)


def drawn_apart(kind: Scenario) -> bool:
    """Whether a scenario draws more than a sky of Gaussians for each field."""
    return any((kind.observe, kind.place, kind.blank, kind.objects, kind.process))


def planes(mosaic: Mosaic, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The dirty cube plane by plane, (side, side) in Jy/beam.

    Two planes form one complex image, which one Fourier transform converts to visibilities.  After weighting, and
    adding noise to each cell with visibilities, a second transform gives two dirty images.
    """
    observation, side = mosaic.observation, mosaic.side
    n = fft.next_fast_len(side + observation.size)  # padded, so that nothing wraps around
    transfer = as_one_field(
        grid_visibilities(observation.wavelengths(), n, observation.cell, observation.imaging_weights()), observation
    )
    filled = np.flatnonzero(transfer > EMPTY * transfer.max())
    transfer = transfer.ravel()[filled]
    power = transfer
    if observation.robust is not None:
        power = as_one_field(observation.noise_weights(n), observation).ravel()[filled].clip(min=0)
    # unit variance in each of the two images: the transform divides the sum of the power by n^2
    amplitude = observation.noise * n * n * np.sqrt(power / power.sum(dtype=float)).astype(np.float32)
    grid = np.empty((n, n), np.complex64)
    for channel in range(0, observation.n_channels, 2):
        grid[:] = 0
        for y, x, image, spectrum in mosaic.stamps:
            value = complex(*spectrum[channel : channel + 2])
            grid[y : y + image.shape[0], x : x + image.shape[1]] += np.complex64(value) * image
        seen = fft.fft2(grid, overwrite_x=True).ravel()[filled] * transfer
        white = rng.standard_normal((2, len(filled)), np.float32)
        grid = np.zeros((n, n), np.complex64)
        grid.ravel()[filled] = seen + amplitude * (white[0] + 1j * white[1])
        grid = fft.ifft2(grid, overwrite_x=True)
        for plane in (grid.real, grid.imag)[: observation.n_channels - channel]:
            yield plane[:side, :side]


def as_one_field(weights: np.ndarray, observation: Observation) -> np.ndarray:
    """Gridded weights (n, n) of a mosaic, from those of a pointing: float32, the transform of a PSF with a peak of 1.

    The PSF is multiplied by a Gaussian as wide as the autocorrelation of the primary beam.
    """
    n = len(weights)
    half = primary_beam_radius(0.5, observation.frequency, AntennaArray.load(observation.array).diameter)
    sigma = 2 * half / observation.cell * np.sqrt(2) * gaussian_fwhm_to_sigma  # px
    psf = fft.ifft2(weights.astype(np.complex64), overwrite_x=True).real
    lag = np.exp(-0.5 * (fft.fftfreq(n, 1 / n) / sigma) ** 2).astype(np.float32)
    psf = psf * (lag[:, None] * lag / psf[0, 0])
    return fft.fft2(psf).real


def write_mosaic(folder: Path, seed: int, across: int, scenario: str, observation: Observation) -> Path:
    """Write ``dirty.fits``, ``psf.fits``, ``truth.ecsv`` and ``simulation.json`` of a mosaic, plane by plane.

    The folder appears under its name only when it is complete.  There is no ``sky.fits``.
    """
    mosaic = draw_mosaic(seed, across, scenario, observation)
    observation, side = mosaic.observation, mosaic.side
    cards = header(observation, "Jy/beam")
    cards.update(CRPIX1=side // 2 + 1, CRPIX2=side // 2 + 1)
    axes = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 3, "NAXIS1": side, "NAXIS2": side, "NAXIS3": observation.n_channels}
    about = {"seed": seed, "scenario": scenario, "mosaic": across, "observation": asdict(observation)}
    with finished(folder, about, mosaic.truth) as partial:
        write_psf(observation, partial / "psf.fits")
        stream = fits.StreamingHDU(partial / "dirty.fits", fits.Header({**axes, **cards}))
        for plane in planes(mosaic, np.random.default_rng([seed, 1])):
            stream.write(plane.astype(np.float32))
        stream.close()
    return folder
