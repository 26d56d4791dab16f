"""The truth of a simulated cube: the table of its objects, and the mask with the voxels of each."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from astropy import units as u
from astropy.table import QTable

from napari_almadet.simulation.emission import MASK_LEVEL, beam_covariance
from napari_almadet.simulation.objects import SkyObject, TruthPart, View, gaussians, label_volume, truth_of
from napari_almadet.simulation.observe import Observation
from napari_almadet.simulation.processing import Processing, smoothed_noise
from napari_almadet.simulation.sky import SkyModel, covariance

# Columns of the truth table in their order, with their units.
COLUMNS: dict[str, u.UnitBase | None] = {
    "id": None,
    "x": u.pix,
    "y": u.pix,
    "z": None,
    "x_min": None,
    "x_max": None,
    "y_min": None,
    "y_max": None,
    "z_min": None,
    "z_max": None,
    "fwhm_major": u.pix,
    "fwhm_minor": u.pix,
    "angle": u.deg,
    "fwhm_line": None,
    "continuum": u.Jy / u.pix,
    "line": u.Jy / u.pix,
    "spectral_index": None,
    "flux": u.Jy * u.Hz,
    "snr_stack": None,
    "snr_line": None,
    "pair": None,
    "kind": None,
    "w20": None,
    "w50": None,
    "x_peak": u.pix,
    "y_peak": u.pix,
    "z_peak": None,
    "n_voxels": None,
}
DESCRIPTIONS = {
    "id": "value of its voxels in mask.fits",
    "x": "pixels from 0",
    "y": "pixels from 0",
    "z": "centre of the line, channels from 0; NaN without a line",
    **{f"{axis}_{end}": f"{end} pixel along {axis}, inclusive, from 0" for axis in "xy" for end in ("min", "max")},
    "z_min": "first channel of the line, inclusive, from 0; -1 without a line",
    "z_max": "last channel of the line, inclusive, from 0; -1 without a line",
    "fwhm_major": "FWHM; of gaussian and disc intrinsic, of the other kinds convolved with the beam",
    "fwhm_minor": "FWHM; of gaussian and disc intrinsic, of the other kinds convolved with the beam",
    "angle": "of the major axis",
    "fwhm_line": "FWHM of the line in channels",
    "continuum": "peak of the continuum in the sky model",
    "line": "peak of the line in the sky model",
    "spectral_index": "of the continuum, S ~ freq^spectral_index",
    "flux": "integrated flux of the line, without the primary beam's response",
    "snr_stack": "S/N in the band-averaged image",
    "snr_line": "S/N in the image summed with the weights of its line profile",
    "pair": "number of the pair that it belongs to; 0: none",
    "kind": "gaussian, disc, galaxy, cloud, continuum or absorption",
    "w20": "width of the line at 20 % of its maximum, in channels",
    "w50": "width of the line at 50 % of its maximum, in channels",
    "x_peak": "brightest voxel, pixels from 0",
    "y_peak": "brightest voxel, pixels from 0",
    "z_peak": "brightest voxel, channels from 0",
    "n_voxels": "number of its voxels in mask.fits",
}
WHOLE = ("x_min", "x_max", "y_min", "y_max", "z_min", "z_max", "pair", "n_voxels")  # whole numbers


def describe(table: QTable) -> None:
    """Describe the columns of a truth table, because some are in channels, for which FITS has no unit."""
    for name in table.colnames:
        table[name].info.description = DESCRIPTIONS.get(name)


def view_of(observation: Observation, processing: Processing | None, channels: np.ndarray, pixels: np.ndarray) -> View:
    """The `View` of a cube after processing; ``channels`` and ``pixels`` are those with data."""
    beam, noise, shared = observation.clean_beam, observation.noise, None
    if processing is not None and processing.mixing is not None:
        shared = processing.mixing.covariance
    if processing is not None and processing.beam is not None:
        beam, noise = processing.beam, smoothed_noise(observation, processing.beam)
    return View(observation, beam, noise, shared, channels, pixels)


def object_table(parts: list[TruthPart], view: View) -> QTable:
    """The truth table of objects, one row each; its ``id`` is the number of its voxels in the label volume.

    Boxes and channel ranges are inclusive, as in a catalogue; channels are -1 without a line.  See `truth_of` and the
    page docs/training.md for the columns of galaxies and clouds.
    """
    table = QTable()
    for name, unit in COLUMNS.items():
        if name == "id":
            values = np.arange(1, len(parts) + 1)
        else:
            kind = str if name == "kind" else int if name in WHOLE else float
            values = np.array([part.row[name] for part in parts], dtype=kind)
        table[name] = values if unit is None else values * unit
    table.meta["clean_beam"] = asdict(view.beam)
    return table


def parts_of(objects: list[SkyObject], view: View) -> list[TruthPart]:
    """Rows and voxels of all objects, in order, without invisible ones."""
    return [part for one in objects for part in truth_of(one, view) if part.row["snr_stack"] or part.row["snr_line"]]


def voxels_of(model: SkyModel, view: View) -> list[TruthPart]:
    """Voxels, without rows, of the Gaussians of a sky model; rotating ones are treated like other objects."""
    observation = view.observation
    sources = gaussians(model, observation)
    if not sources:
        return []
    images = model.images(observation.size, beam=view.beam) * observation.primary_beam()
    spectra = model.spectra(observation.frequencies)
    beam = beam_covariance(view.beam)
    own = covariance(model.major, model.minor, model.angle)
    # a Gaussian with a peak of 1 Jy/pixel, in Jy/beam
    peaks = 2 * np.pi * np.sqrt(np.linalg.det(own) * np.linalg.det(beam) / np.linalg.det(own + beam))
    parts = []
    for one, image, spectrum, peak in zip(sources, images, spectra, peaks, strict=True):
        if one.kind == "disc":
            parts += truth_of(one, view)
            continue
        image = np.where(view.pixels, peak * image, 0).astype(np.float32)
        spectrum = np.where(view.channels, spectrum, 0).astype(np.float32)
        limit = MASK_LEVEL * view.noise
        rows, columns = (np.flatnonzero((image * spectrum.max() > limit).any(axis=axis)) for axis in (1, 0))
        used = np.flatnonzero(spectrum * image.max() > limit)
        if not len(used):
            parts.append(TruthPart({}, (0, 0, 0), np.zeros((0, 0, 0), bool), np.zeros((0, 0, 0), np.float32)))
            continue
        z, y, x = (slice(int(i[0]), int(i[-1]) + 1) for i in (used, rows, columns))
        brightness = spectrum[z, None, None] * image[y, x]
        parts.append(TruthPart({}, (z.start, y.start, x.start), brightness > limit, brightness))
    return parts


def mask_of(parts: list[TruthPart], observation: Observation) -> np.ndarray:
    """The label volume of a cube, int16, (channels, y, x)."""
    return label_volume(parts, (observation.n_channels, observation.size, observation.size))
