"""A simulated observation as files and tables: the truth table, the header, the cube and the dirty beam."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from napari_almadet.constants import ARCSEC_PER_DEGREE, BEAM_AREA, BOX_LEVEL
from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.emission import line_widths
from napari_almadet.simulation.objects import SkyObject, TruthPart
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.processing import Processing
from napari_almadet.simulation.scenarios import Coverage, Scenario
from napari_almadet.simulation.sky import PAPER_BEAM, SkyModel
from napari_almadet.simulation.truth import describe, mask_of, view_of, voxels_of

# Jy/pixel, range of the brightest voxel: sources then have an SNR of 3 to 45 in the stacked image, 13 in the median.
BRIGHTEST = (0.5e-4, 2.9e-4)


@dataclass(frozen=True, eq=False)
class SimulatedCube:
    """A cube (channel, y, x) in Jy/beam, its sky model, and the truth.

    NaN where there is no data.  ``shapes`` are changes of the scenario's recipe.  ``objects`` are all objects in the
    sky if there are others than those of ``model``, and ``parts`` their visible parts; else both are None.
    ``processing`` describes the processing of the dirty cube.
    """

    dirty: np.ndarray
    model: SkyModel
    truth: QTable
    observation: Observation
    scenario: str
    seed: int
    shapes: dict | None = None
    objects: list[SkyObject] | None = None
    parts: list[TruthPart] | None = None
    processing: Processing | None = None

    @property
    def beam(self) -> CleanBeam:
        """The clean beam that the cube's unit refers to."""
        smoothed = self.processing.beam if self.processing else None
        return smoothed or self.observation.clean_beam

    @cached_property
    def mask(self) -> np.ndarray:
        """The ``id`` in the truth table of the source of each voxel; 0 for none: int16, of the cube's shape.

        A source has the voxels where its model, convolved with the clean beam, exceeds half the noise of a channel; in
        overlaps the brighter source has them.
        """
        parts = self.parts
        if parts is None:
            known = np.isfinite(self.dirty)
            channels, pixels = known.any(axis=(1, 2)), known.any(axis=0)
            parts = voxels_of(self.model, view_of(self.observation, self.processing, channels, pixels))
        return mask_of(parts, self.observation)

    def sky(self) -> np.ndarray:
        """The sky model cube, (channel, y, x) in Jy/pixel."""
        if self.objects is not None:
            return sky_of(self.objects, self.observation)
        images, spectra, _ = self.model.components(self.observation.size, self.observation.frequencies)
        return np.einsum("sc,syx->cyx", spectra.astype(np.float32), images)


def sky_of(objects: list[SkyObject], observation: Observation) -> np.ndarray:
    """The sky of objects, (channel, y, x) in Jy/pixel, float32."""
    sky = np.zeros((observation.n_channels, observation.size, observation.size), np.float32)
    for one in objects:
        one.add_to(sky)
    return sky


def draw_sky(
    rng: np.random.Generator, kind: Scenario, observation: Observation, where: np.ndarray | None = None
) -> SkyModel:
    """Draw the sky of one field of a scenario; ``where``: probability of each pixel to contain a source."""
    brightest = kind.brightness * rng.uniform(*BRIGHTEST)  # voxel, Jy/pixel
    if kind.sky.in_beams:
        brightest *= (PAPER_BEAM.fwhm / observation.clean_beam.fwhm) ** 2
    return SkyModel.sample(
        rng,
        kind.sky,
        size=observation.size,
        n_channels=observation.n_channels,
        brightest=brightest,
        beam=observation.clean_beam,
        where=where,
    )


def truth_boxes(model: SkyModel, imager: Imager) -> np.ndarray:
    """Half-open boxes (y0, y1, x0, x1) of the sources, shape (n, 4): own restored image over a tenth of its peak."""
    restored = model.images(imager.observation.size, beam=imager.observation.clean_beam) >= BOX_LEVEL
    boxes = np.zeros((len(model), 4), dtype=int)
    for i, mask in enumerate(restored):
        for k, axis in enumerate((1, 0)):
            inside = np.flatnonzero(mask.any(axis=axis))
            boxes[i, 2 * k : 2 * k + 2] = inside[0], inside[-1] + 1
    return boxes


def full_coverage(observation: Observation) -> Coverage:
    """Coverage without missing data."""
    return Coverage(np.ones((observation.size, observation.size), bool), np.ones(observation.n_channels, bool))


def truth_table(model: SkyModel, imager: Imager, coverage: Coverage | None = None) -> QTable:
    """The truth table, one row per source.

    Boxes and channel ranges are inclusive, as in a catalogue; channels are -1 without a line.  ``snr_stack`` is the
    peak of the noise-free stacked image of the source divided by the rms of a noise-only one at that position;
    ``snr_line`` is the same for the sum over channels weighted with the line profile of the source; both use only data
    in ``coverage``.  ``flux`` is integrated over the source and its line; ``fwhm_line`` is the width of the integrated
    line.
    """
    observation = imager.observation
    n_channels = observation.n_channels
    coverage = coverage or full_coverage(observation)
    seen = coverage.channels
    boxes = truth_boxes(model, imager)
    images, spectra, owner = model.components(observation.size, observation.frequencies)
    responses = imager.dirty(torch.as_tensor(images)).cpu().numpy()[:, coverage.pixels]  # Jy/beam per Jy/pixel
    # the primary-beam correction scales signal and noise alike, so that both SNRs are those of the uncorrected image
    lines, widths = model.line_profiles(n_channels), model.line_widths()
    line_spectra = spectra.copy()
    line_spectra[: len(model)] -= model.continuum_spectra(observation.frequencies)
    snr_stack, snr_line = np.zeros((2, len(model)))
    for i, line in enumerate(lines[:, seen]):
        own = owner == i
        norm = np.sqrt((line**2).sum())
        stack = (spectra[own][:, seen].sum(axis=1) @ responses[own]).max()
        snr_stack[i] = stack / (observation.noise * np.sqrt(seen.sum()))
        if norm > 0:
            snr_line[i] = (line_spectra[own][:, seen] @ line @ responses[own]).max() / (observation.noise * norm)
    has_line = model.line > 0
    low = np.clip(np.rint(model.line_centre - widths), 0, n_channels - 1)
    high = np.clip(np.rint(model.line_centre + widths), 0, n_channels - 1)
    area = BEAM_AREA * model.major * model.minor
    truth = QTable(
        {
            "id": np.arange(1, len(model) + 1),
            "x": model.x * u.pix,
            "y": model.y * u.pix,
            "z": np.where(has_line, model.line_centre, np.nan),
            "x_min": boxes[:, 2],
            "x_max": boxes[:, 3] - 1,
            "y_min": boxes[:, 0],
            "y_max": boxes[:, 1] - 1,
            "z_min": np.where(has_line, low, -1).astype(int),
            "z_max": np.where(has_line, high, -1).astype(int),
            "fwhm_major": model.major * u.pix,
            "fwhm_minor": model.minor * u.pix,
            "angle": model.angle * u.deg,
            "fwhm_line": np.where(has_line, widths, np.nan),
            "continuum": model.continuum * u.Jy / u.pix,
            "line": model.line * u.Jy / u.pix,
            "spectral_index": model.spectral_index,
            "flux": area * lines.sum(axis=1) * observation.channel_width * u.Jy * u.Hz,
            "snr_stack": snr_stack,
            "snr_line": snr_line,
            "pair": model.pair,
            "kind": np.where((model.gradient != 0) & has_line, "disc", "gaussian"),
            "w20": [line_widths(line)[0] if line.any() else np.nan for line in lines],
            "w50": np.where(has_line, widths, np.nan),
        }
    )
    truth.meta["clean_beam"] = asdict(observation.clean_beam)
    return truth


def header(observation: Observation, unit: str, beam: CleanBeam | None = None) -> fits.Header:
    """FITS header of a simulated cube, with a beam (default: the clean beam) if ``unit`` is per beam."""
    middle = observation.size // 2 + 1
    step = observation.pixel / ARCSEC_PER_DEGREE
    cards = fits.Header(
        {
            "BUNIT": unit,
            "CTYPE1": "RA---SIN",
            "CRVAL1": 59.9998333,
            "CRPIX1": middle,
            "CDELT1": -step,
            "CUNIT1": "deg",
            "CTYPE2": "DEC--SIN",
            "CRVAL2": observation.declination,
            "CRPIX2": middle,
            "CDELT2": step,
            "CUNIT2": "deg",
            "CTYPE3": "FREQ",
            "CRVAL3": observation.frequency,
            "CRPIX3": observation.n_channels // 2 + 1,
            "CDELT3": observation.channel_width,
            "CUNIT3": "Hz",
            "RADESYS": "ICRS",
            "SPECSYS": "LSRK",
            "RESTFRQ": observation.frequency,
            "TELESCOP": re.split(r"[._]", Path(observation.array).name)[0].upper(),
            "ORIGIN": "napari-almadet simulation",
        }
    )
    if "beam" in unit:
        beam = beam or observation.clean_beam
        cards.update(BMAJ=beam.major * step, BMIN=beam.minor * step, BPA=beam.angle)
    return cards


def write_cube(simulated: SimulatedCube, folder: Path, *, sky: bool = True) -> Path:
    """Write ``dirty.fits``, ``sky.fits``, ``psf.fits``, ``mask.fits``, ``truth.ecsv`` and ``simulation.json``.

    ``mask.fits`` is `SimulatedCube.mask`, compressed.  The folder appears under its name only when it is complete.
    """
    observation, missing = simulated.observation, np.isnan(simulated.dirty)
    about = {
        "seed": simulated.seed,
        "scenario": simulated.scenario,
        "observation": asdict(observation),
        "blank_share": float(missing.all(axis=0).mean()),
        "blank_channels": np.flatnonzero(missing.all(axis=(1, 2))).tolist(),
        "processing": simulated.processing.about() if simulated.processing else {},
        "shapes": simulated.shapes or {},
    }
    with finished(folder, about, simulated.truth) as partial:
        fits.writeto(partial / "dirty.fits", simulated.dirty, header(observation, "Jy/beam", simulated.beam))
        labels = fits.CompImageHDU(simulated.mask, header(observation, ""), compression_type="GZIP_1")
        labels.writeto(partial / "mask.fits")
        if sky:
            fits.writeto(partial / "sky.fits", simulated.sky(), header(observation, "Jy/pixel"))
        write_psf(observation, partial / "psf.fits")
    return folder


@contextmanager
def finished(folder: Path, about: dict, truth: QTable) -> Iterator[Path]:
    """Context with a folder for the files of a cube; it is renamed to its final name when all files are complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    describe(truth)
    truth.write(partial / "truth.ecsv")
    (partial / "simulation.json").write_text(json.dumps(about, indent=1))
    partial.rename(folder)


def write_psf(observation: Observation, path: Path) -> Path:
    """Write the dirty beam at the middle channel as a FITS image, twice as wide as the cube."""
    cards = header(observation, "Jy/beam")
    for key in [k for k in cards if k.endswith("3")]:
        del cards[key]
    cards.update(CRPIX1=observation.size + 1, CRPIX2=observation.size + 1)
    fits.writeto(path, observation.dirty_beam.astype(np.float32), cards)
    return path
