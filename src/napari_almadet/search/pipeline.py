"""The preset ``almadet`` on one page: the paper's ten steps, each in units of the noise.

The blocks and their order are those of the paper, as in :mod:`napari_almadet.paper.pipeline`; ``docs/architecture.md``
explains the differences.  Step 1 makes, in addition to the stacked image, maps of the best matched line filter at each
position; in steps 2 to 4 Source Finder gives positions and sizes; in steps 5 to 7 Line Finder processes the spectrum of
each source; steps 8 to 10 make line-integrated images and measure, after subtraction of the sidelobes of bright
sources; the classifier combines all features into one source probability.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.cube.negated import negative
from napari_almadet.cube.storage import split_address
from napari_almadet.measure.noise import noise_of
from napari_almadet.measure.stacking import Stacking
from napari_almadet.progress import Progress, in_steps
from napari_almadet.search.beam_decision import (
    BeamDecision,
    brightest,
    by_header,
    decide,
    header_beam_in,
    may_be_dirty,
    nothing_bright,
    settled,
)
from napari_almadet.search.clean import NoiseCorrected, without_sidelobes
from napari_almadet.search.components import peak_snr
from napari_almadet.search.decisions import classify, drop_sidelobes_across_windows, flag_companions
from napari_almadet.search.dirty_beam import read_psf, resampled_psf
from napari_almadet.search.distribute import each, scatter
from napari_almadet.search.extended_emission import (
    in_own_noise,
    merge_extended,
    merge_extended_across_windows,
    with_unseen,
)
from napari_almadet.search.features import centres, quiet_spectra, spectra_and_features
from napari_almadet.search.line_detection import frequency_denoising, resolutions
from napari_almadet.search.line_maps import WIDEST, maps
from napari_almadet.search.measure_detections import measure_detections
from napari_almadet.search.merge_windows import TWINS, NoiseSummary, Part, field_shape, merge_windows, mosaic_of_windows
from napari_almadet.search.noise_units import binning, in_noise_units, resample
from napari_almadet.search.out_of_distribution import highest_offset, out_of_distribution, unseen_emission
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.positions import focus_detection
from napari_almadet.search.raw_detection import RawDetection, raw_detection
from napari_almadet.search.residuals import measure_residuals
from napari_almadet.search.search_networks import load_once
from napari_almadet.search.windows import Window, beam_fwhm, noise_profile, read_averaged, read_blocks, windows

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise
    from napari_almadet.search.components import Sidelobes
    from napari_almadet.search.noise_units import NoiseUnits
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


def dirty_beam(path: str, cube: Cube) -> np.ndarray:
    """The dirty beam in a file; it is read once for all windows of a cube, and again if the file has changed."""
    file = split_address(path)[0]
    return _read_psf(path, file.stat().st_mtime_ns if file.exists() else 0, cube)


@lru_cache(maxsize=1)
def _read_psf(path: str, changed: int, cube: Cube) -> np.ndarray:
    return read_psf(path, cube)


@dataclass(frozen=True)
class Found:
    """The result of a search: images of the field (ny, nx) and all candidates, including dropped ones.

    ``warnings`` list properties of the cube outside the range of the training data; ``scales`` are plain values that
    describe how the cube was rescaled for the networks.
    """

    stacked: np.ndarray
    probability: np.ndarray
    candidates: list[Candidate]
    warnings: list[str]
    scales: dict[str, Any]
    decision: BeamDecision
    noise: Noise


def search_steps(
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    client: Client | None = None,
    negated: bool = False,
) -> Generator[Progress, None, Found]:
    """Find the sources of a cube, window by window, here or on a cluster.

    Parameters
    ----------
    networks
        None: each process loads those given in the settings.
    client
        Of the cluster; None: this process.
    negated
        Search the inverted cube, see :mod:`napari_almadet.search.reliability`.
    """
    there = scatter(cube, client)
    (fwhm,) = yield from each(beam_fwhm, [there], stage="Reading the beam", client=client)
    (noise,) = yield from each(noise_of, [there], fwhm, stage="Measuring the noise", client=client)
    k = binning(fwhm)
    parts_of_field = windows(cube.shape, k, fwhm / k, settings.memory)
    decision = settled(settings.beam_setting) or by_header(cube)
    if decision is None and len(parts_of_field) > 1:  # one for the whole field
        decisions = yield from each(
            decide_window, parts_of_field, there, fwhm / k, stage="Estimating the dirty beam", client=client
        )
        decision = brightest(decisions)
    parts = yield from each(
        search_part,
        parts_of_field,
        there,
        fwhm / k,
        settings,
        networks,
        negated,
        noise,
        decision,
        stage="Searching windows",
        client=client,
    )
    decision = decision or brightest([part.noise and part.noise.decision for part in parts])
    _read_psf.cache_clear()  # it holds on to the cube
    stacked, probability, strength = mosaic_of_windows(parts, cube.shape)
    probability[np.isnan(stacked)] = np.nan
    detections = merge_windows(parts, fwhm)
    if len(parts) > 1:
        drop_sidelobes_across_windows(detections, parts, settings)
        detections, across = merge_extended_across_windows(detections, strength, field_shape(cube.shape, k), fwhm / k)
        detections += yield from each(
            search_patch,
            across,
            there,
            settings,
            networks,
            negated,
            noise,
            stage="Measuring extended emission",
            client=client,
        )
    used = {detection.candidate.id for detection in detections}
    for detection in detections:
        if not detection.candidate.id:
            detection.candidate.id = max(used) + 1
            used.add(detection.candidate.id)
    noises = [part.noise for part in parts if part.noise]
    warnings = out_of_distribution(cube, fwhm, k, noises) + unseen_emission(noises, detections)
    warnings += [may_be_dirty(decision)] if decision.doubtful else []
    candidates = [detection.candidate for detection in detections]
    return Found(stacked, probability, candidates, warnings, scales(cube, fwhm, k, len(parts)), decision, noise)


@in_steps
def decide_window(window: Window, cube: Cube, beam: float) -> Generator[Progress, None, BeamDecision]:
    """Decide from one window whether the cube is dirty."""
    import torch

    planes, _ = yield from read_averaged(cube, window)
    profile = noise_profile(cube, window)
    try:
        units = in_noise_units(torch.from_numpy(planes), beam, None if profile is None else torch.from_numpy(profile))
    except ValueError:  # no data here
        return nothing_bright(0.0)
    header_beam = header_beam_in(cube, window.k)
    return nothing_bright(0.0) if header_beam is None else decide(units, beam, header_beam)


@in_steps
def search_part(
    window: Window,
    cube: Cube,
    beam: float,
    settings: Settings,
    networks: SearchNetworks | None,
    negated: bool = False,
    noise: Noise | None = None,
    decision: BeamDecision | None = None,
) -> Generator[Progress, None, Part]:
    """Detect and measure the sources of one window.

    Parameters
    ----------
    beam
        FWHM in the window's pixels.
    noise
        Of the cube; default: it is measured first.
    decision
        On the dirty beam; default: it is made from this window.
    """
    networks = networks or load_once(settings)
    noise = noise or (yield from noise_of.steps(cube, beam * window.k))
    cube = negative(cube) if negated else cube
    images, detections, summary, stacked = yield from source_detection(
        cube, window, beam, settings, networks, negated, decision
    )
    yield from frequency_denoising(detections, settings, networks)
    yield from classify(detections, settings, networks)
    near = [detection for detection in detections if window.owns(detection.y, detection.x, TWINS * beam)]
    count = len(detections)
    yield from source_spectral_focusing(cube, near, detections, stacked, settings)
    near += detections[count:]  # separated by their lines
    yield from measure_detections(cube, near, detections, noise, stacked, settings, brief=negated)  # (10)
    for detection in detections:
        detection.window = window  # without its sidelobes, which are large
    (y, x), (own_y, own_x) = window.origin, window.owned_pixels(cube.shape[1:])
    own = stacked[own_y.start - y : own_y.stop - y, own_x.start - x : own_x.stop - x]
    probability, strength = images[:, *window.owned]
    return Part(window, own, probability, strength, detections, summary)


def source_detection(
    cube: Cube,
    window: Window,
    beam: float,
    settings: Settings,
    networks: SearchNetworks,
    negated: bool = False,
    decision: BeamDecision | None = None,
) -> Generator[Progress, None, tuple[np.ndarray, list[RawDetection], NoiseSummary | None, np.ndarray]]:
    """2D source detection (1 - 4): maps in noise units, Source Finder's output, and the positions of its peaks.

    Returns the same as :func:`search_window`, and the stacked image of the window.
    """
    psf = dirty_beam(settings.psf_path, cube) if settings.psf_path else None
    header_beam = header_beam_in(cube, window.k)
    planes, stacked = yield from read_averaged(cube, window)
    yield Progress("Detecting sources", 0, 1)
    profile = noise_profile(cube, window)
    images, detections, noise = search_window(
        planes, window, beam, networks, psf, profile, negated, decision, header_beam
    )
    del planes
    for number, detection in enumerate(detections, 1):
        detection.candidate.id = number
    yield Progress("Detecting sources", 1, 1)
    return images, detections, noise, stacked


@in_steps
def search_patch(
    found: tuple[RawDetection, np.ndarray],
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    negated: bool = False,
    noise: Noise | None = None,
) -> Generator[Progress, None, RawDetection]:
    """The remaining steps for a patch of extended emission that spans several windows, a detection and its mask.

    Its spectrum is the sum over the patch in the cube as it is in the file.
    """
    detection, patch = found
    networks = networks or load_once(settings)
    cube = negative(cube) if negated else cube
    y, x = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(patch))
    shape = (y.stop - y.start, x.stop - x.start)
    detection.window = Window(y.start, x.start, shape, (slice(0, shape[0]), slice(0, shape[1])), detection.window.k)
    total, known = np.zeros(cube.shape[0]), np.zeros(cube.shape[0], bool)
    stacking = Stacking(cube.shape[0])
    for block, part in read_blocks(cube, detection.window):
        values = resample(part, detection.window.k)[:, patch[y, x]]
        total[block], known[block] = np.nansum(values, axis=1), np.isfinite(values).any(axis=1)
        stacking.add(part)
        yield Progress("Reading the cube", block.stop, cube.shape[0])
    detection.spectrum = in_own_noise(total[known], known, cube.shape[0])
    yield from frequency_denoising([detection], settings, networks)
    yield from classify([detection], settings, networks)
    stacked = stacking.image()
    yield from source_spectral_focusing(cube, [detection], [detection], stacked, settings)
    noise = noise or (yield from noise_of.steps(cube, detection.beam))
    yield from measure_detections(cube, [detection], [detection], noise, stacked, settings, brief=negated)
    return detection


def scales(cube: Cube, fwhm: float, k: int | float, n_windows: int) -> dict[str, Any]:
    """How a cube was rescaled for the networks: plain values, written into the provenance of the result."""
    n_channels = cube.shape[0]
    return {
        "beam": round(fwhm, 3),  # pixels
        "pixels_averaged": k,  # on a side; 0.5: interpolated to twice as many
        "windows": n_windows,
        "widest_line": max(1, int(WIDEST * n_channels)),  # channels
        "channels_averaged": resolutions(n_channels),  # for Line Finder
    }


def search_window(
    planes: np.ndarray,
    window: Window,
    beam: float,
    networks: SearchNetworks,
    psf: np.ndarray | None = None,
    profile: np.ndarray | None = None,
    negated: bool = False,
    decision: BeamDecision | None = None,
    header_beam: np.ndarray | None = None,
) -> tuple[np.ndarray, list[RawDetection], NoiseSummary | None]:
    """Search one window.

    Parameters
    ----------
    psf
        As :func:`~napari_almadet.search.dirty_beam.read_psf` gives it.
    profile
        As :func:`~napari_almadet.search.windows.noise_profile` gives it.
    negated
        Whether the cube is inverted: bright sources, whose sidelobes are subtracted, are then negative.
    decision
        On the dirty beam.  Default: made here, by the header's beam.
    header_beam
        Covariance of the header's beam along x and y in pixels² of the window, (2, 2).  Without it and without a
        decision, sidelobes are subtracted as for a dirty cube, with a round beam.

    Returns
    -------
    images
        Source Finder's probability, and the higher of the S/N in the stacked image and in the best line: (2, ny, nx).
    detections
        All detections in the window, including those outside its core.
    noise
        None if it has no data.
    """
    import torch

    from napari_almadet.networks.source_finder import from_all_sides

    n_channels = len(planes)
    try:
        known = None if profile is None else torch.from_numpy(profile).to(networks.device)
        raw = in_noise_units(torch.from_numpy(planes).to(networks.device), beam, known)
    except ValueError:  # no data here
        return np.zeros((2, *window.shape), np.float32), [], None
    units, sidelobes, decision = subtract_sidelobes(raw, window, beam, psf, negated, decision, header_beam)
    dirty = decision is None or decision.subtracts
    with torch.inference_mode():
        images, correlation = maps(units, raw, beam)
        answer = from_all_sides(networks.source_finder, images[None])[0]
    quiet = quiet_spectra(units)
    looked_at = SearchedWindow(units, images.cpu().numpy(), answer.cpu().numpy(), beam, correlation, dirty, quiet)
    rows = with_unseen(centres(answer, units.valid, beam), looked_at)
    own, features = spectra_and_features(rows, images, units, quiet, beam)
    channels = units.channels.cpu().numpy()
    if sidelobes is not None and (decision is None or decision.dirty):
        window = with_sidelobes(window, sidelobes, units, n_channels)
    detections = []
    for row, spectrum, measured in zip(rows, own, features, strict=True):
        whole = np.zeros(n_channels, np.float32)
        whole[channels] = spectrum
        detections.append(raw_detection(row, whole, measured, window))
    detections = merge_extended(detections, looked_at, window, n_channels)
    measure_residuals(detections, looked_at)
    dips = float((units.cube < -5).sum() / (units.valid.sum() * len(units.cube)).clamp(min=1))
    noise = NoiseSummary(correlation, dips, len(channels), decision, *highest_offset(units, beam))
    probability = torch.sigmoid(answer[0]).cpu().numpy() * units.valid.cpu().numpy()
    return np.stack([probability, looked_at.strength]), detections, noise


def subtract_sidelobes(
    raw: NoiseUnits,
    window: Window,
    beam: float,
    psf: np.ndarray | None,
    negated: bool,
    decision: BeamDecision | None,
    header_beam: np.ndarray | None,
) -> tuple[NoiseUnits, Sidelobes | None, BeamDecision | None]:
    """The window in noise units without the sidelobes of its bright sources, if the cube is dirty.

    Parameters as for :func:`search_window`.  Also returns what was subtracted, and the decision on the dirty beam.
    """
    upright = replace(raw, cube=-raw.cube) if negated else raw
    corrected = NoiseCorrected(upright, beam)
    snr = None
    if decision is None and header_beam is not None:
        snr = peak_snr(upright)
        decision = decide(upright, beam, header_beam, snr, corrected)
    if decision is not None and not decision.subtracts:
        return raw, None, decision
    known = None if psf is None else resampled_psf(psf, window.k, window.shape, raw.cube.device)
    units, sidelobes = without_sidelobes(upright, beam, known, header_beam, snr, window.k, corrected)
    if negated:
        units = replace(units, cube=-units.cube)
        sidelobes = None if sidelobes is None else replace(sidelobes, spectra=-sidelobes.spectra)
    return units, sidelobes, decision


def with_sidelobes(window: Window, sidelobes: Sidelobes, units: NoiseUnits, n_channels: int) -> Window:
    """The window with the sidelobes that were subtracted, in the unit of the cube: later steps subtract them again."""
    spectra = np.zeros((len(sidelobes.spectra), n_channels), np.float32)
    spectra[:, units.channels.cpu().numpy()] = (sidelobes.spectra * units.rms).cpu().numpy()
    return replace(
        window, sidelobes=sidelobes.images.cpu().numpy(), spectra=spectra, rms_map=units.rms_map.cpu().numpy()
    )


def source_spectral_focusing(
    cube: Cube, chosen: list[RawDetection], detections: list[RawDetection], stacked: np.ndarray, settings: Settings
) -> Generator[Progress, None, None]:
    """Source spectral focusing (8 and 9): box, line-integrated image and S/N of each chosen detection.

    Sources so close together that only their lines distinguish them are added to ``detections``, the detections of the
    window with its stacked image ``stacked``.
    """
    flag_companions(chosen, cube, stacked, settings)  # (9)
    for done, detection in enumerate(chosen):
        yield Progress("Making line-integrated images", done, len(chosen))
        focus_detection(detection, detections, cube, stacked, settings)
