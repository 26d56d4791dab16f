"""The preset ``almadet`` on one page: the paper's ten steps, each in units of the noise.

The blocks and their order are those of the paper, as in :mod:`napari_almadet.paper.pipeline`; ``docs/architecture.md``
explains the differences.  Step 1 makes, in addition to the stacked image, maps of the best matched line filter at each
position; in steps 2 to 4 Source Finder gives positions and sizes; in steps 5 to 7 Line Finder processes the spectrum of
each source; steps 8 to 10 make line-integrated images and measure, after subtraction of the sidelobes of bright
sources; the classifier combines all features into one source probability.

:func:`search_steps` divides the field into windows, :func:`search_part` takes one window through the ten steps.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.detections import Searched
from napari_almadet.cube.negated import negative
from napari_almadet.measure.noise import noise_of
from napari_almadet.progress import Progress, in_steps
from napari_almadet.search.beam_decision import (
    BeamDecision,
    after_search,
    brightest,
    decide,
    decided_beforehand,
    header_beam_in,
    nothing_bright,
)
from napari_almadet.search.decisions import classify, drop_sidelobes_across_windows, flag_companions
from napari_almadet.search.distribute import each, scatter
from napari_almadet.search.extended_emission import (
    merge_extended,
    merge_extended_across_windows,
    positions,
    read_patch,
)
from napari_almadet.search.features import quiet_spectra, raw_detections
from napari_almadet.search.flanks import measure_brighter_emission
from napari_almadet.search.line_detection import frequency_denoising
from napari_almadet.search.line_maps import maps
from napari_almadet.search.measure_detections import measure_detections, ready_to_measure
from napari_almadet.search.merge_windows import (
    NoiseSummary,
    Part,
    field_shape,
    merge_windows,
    mosaic_of_windows,
    number_new,
    part_of,
)
from napari_almadet.search.noise_units import NoiseUnits, binning
from napari_almadet.search.out_of_distribution import noise_summary, search_warnings
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.positions import focus_detection
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.record import search_record
from napari_almadet.search.search_networks import load_once
from napari_almadet.search.sidelobes import KnownBeam, known_beam, subtract_sidelobes
from napari_almadet.search.smoothed_search import Smoothed, add_smoothed, in_wider_beams
from napari_almadet.search.windows import Window, beam_fwhm, read_in_noise_units, windows

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


def search_steps(
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    client: Client | None = None,
    negated: bool = False,
) -> Generator[Progress, None, Searched]:
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
    beam = fwhm / k
    parts_of_field = windows(cube.shape, k, beam, settings.memory)
    decision = decided_beforehand(cube, settings)
    if decision is None and len(parts_of_field) > 1:  # one for the whole field
        decisions = yield from each(
            decide_window, parts_of_field, there, beam, stage="Estimating the dirty beam", client=client
        )
        decision = brightest(decisions)
    how = settings, networks, negated, noise
    parts = yield from each(
        search_part, parts_of_field, there, beam, *how, decision, stage="Searching windows", client=client
    )
    decision = decision or brightest([part.noise and part.noise.decision for part in parts])
    stacked, probability, strength = mosaic_of_windows(parts, cube.shape)
    detections = merge_windows(parts, fwhm)
    if len(parts) > 1:
        drop_sidelobes_across_windows(detections, parts, settings)
        detections, across = merge_extended_across_windows(detections, strength, field_shape(cube.shape, k), beam)
        detections += yield from each(
            search_patch, across, there, *how, stage="Measuring extended emission", client=client
        )
        number_new(detections)
    noises = [part.noise for part in parts if part.noise]
    decision = after_search(decision, [(noise.decision, noise.subtracted) for noise in noises])
    warnings = search_warnings(cube, fwhm, k, noises, detections, decision)
    record = search_record(cube.shape[0], fwhm, parts_of_field, decision, noise)
    candidates = [detection.candidate for detection in detections]
    return Searched(stacked, probability, candidates, warnings, record, noise=noise)


@in_steps
def decide_window(window: Window, cube: Cube, beam: float) -> Generator[Progress, None, BeamDecision]:
    """Decide from one window whether the cube is dirty."""
    units, _ = yield from read_in_noise_units(cube, window, beam)
    header_beam = header_beam_in(cube, window.k)
    return nothing_bright(0.0) if units is None or header_beam is None else decide(units, beam, header_beam, k=window.k)


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
    images, detections, wider, summary, stacked = yield from source_detection(
        negative(cube) if negated else cube, window, beam, settings, networks, negated, decision
    )
    for found in (detections, *(scale.detections for scale in wider)):
        yield from frequency_denoising(found, settings, networks)
        yield from classify(found, settings, networks)
    for scale in wider:
        add_smoothed(detections, scale, window)
    cube, near = yield from ready_to_measure(cube, window, detections, beam, settings)
    cube, count = negative(cube) if negated else cube, len(detections)
    yield from source_spectral_focusing(cube, near, detections, stacked, settings)
    near += detections[count:]  # separated by their lines
    yield from measure_detections(cube, near, detections, noise, stacked, settings, brief=negated)  # (10)
    return part_of(window, cube, stacked, images, detections, summary)


def source_detection(
    cube: Cube,
    window: Window,
    beam: float,
    settings: Settings,
    networks: SearchNetworks,
    negated: bool = False,
    decision: BeamDecision | None = None,
) -> Generator[Progress, None, tuple[np.ndarray, list[RawDetection], list[Smoothed], NoiseSummary | None, np.ndarray]]:
    """2D source detection (1 - 4): maps in noise units, Source Finder's output, and the positions of its peaks.

    Returns the same as :func:`search_window`, and the stacked image of the window.
    """
    known = known_beam(cube, window, beam, settings, decision)
    units, stacked = yield from read_in_noise_units(cube, window, beam, networks.device)  # (1, 2)
    yield Progress("Detecting sources", 0, 1)
    images, detections, wider, noise = search_window(units, window, known, networks, negated)
    for found in (detections, *(scale.detections for scale in wider)):
        for number, detection in enumerate(found, 1):
            detection.candidate.id = number
    yield Progress("Detecting sources", 1, 1)
    return images, detections, wider, noise, stacked


def search_window(
    raw: NoiseUnits | None, window: Window, known: KnownBeam, networks: SearchNetworks, negated: bool = False
) -> tuple[np.ndarray, list[RawDetection], list[Smoothed], NoiseSummary | None]:
    """Search one window, and again smoothed to twice and to four times the beam.

    Parameters
    ----------
    raw
        The window in units of its noise; None if it has no data.
    negated
        Whether the cube is inverted: bright sources, whose sidelobes are subtracted, are then negative.

    Returns
    -------
    images
        Source Finder's probability, and the higher of the S/N in the stacked image and in the best line: (2, ny, nx).
    detections
        All detections in the window, including those outside its core.
    wider
        The same of the windows smoothed to twice and to four times the beam.
    noise
        None if it has no data.
    """
    import torch

    if raw is None:
        return np.zeros((2, *window.shape), np.float32), [], [], None
    beam = known.fwhm
    clean = subtract_sidelobes(raw, window, known, negated)  # (2)
    detections, seen = detect_in(clean.units, raw, clean.window, beam, clean.dirty, networks)
    wider: list[Smoothed] = []
    for units, wide in in_wider_beams(clean.units, window, beam):
        wider.append(Smoothed(*detect_in(units, units, wide, beam, clean.dirty, networks, len(wider) + 1)))
        for detection in wider[-1].detections:
            detection.features = replace(detection.features, smoothed=len(wider))
    probability = torch.sigmoid(torch.from_numpy(seen.answer[0])).numpy() * seen.valid
    images = np.stack([probability, seen.strength])
    return images, detections, wider, noise_summary(clean, seen.noise_correlation, beam)


def detect_in(
    units: NoiseUnits,
    raw: NoiseUnits,
    window: Window,
    beam: float,
    dirty: bool,
    networks: SearchNetworks,
    smoothed: int = 0,
) -> tuple[list[RawDetection], SearchedWindow]:
    """The detections of a window in units of its noise, and what its patches are measured in.

    Parameters
    ----------
    units, raw
        Without the sidelobes of bright sources, and with them.
    beam
        FWHM in pixels of the window.
    dirty
        Whether the cube is searched as a dirty one.
    smoothed
        How often the window was smoothed to twice the beam.
    """
    import torch

    with torch.inference_mode():
        images, correlation = maps(units, raw, beam)  # (1)
    answer = networks.find_sources(images, len(units.cube))  # (3)
    quiet = quiet_spectra(units)
    seen = SearchedWindow(units, images.cpu().numpy(), answer.cpu().numpy(), beam, correlation, dirty, quiet, smoothed)
    rows = positions(answer, seen)  # (4)
    detections = raw_detections(rows, images, units, quiet, beam, window)  # (5)
    detections = merge_extended(detections, seen, window)
    measure_brighter_emission(detections, seen)
    return detections, seen


@in_steps
def search_patch(
    found: tuple[RawDetection, np.ndarray],
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    negated: bool = False,
    noise: Noise | None = None,
) -> Generator[Progress, None, RawDetection]:
    """Steps 5 to 10 for a patch of extended emission that spans several windows, a detection and its mask.

    Its spectrum is the sum over the patch in the cube as it is in the file.
    """
    detection, patch = found
    networks = networks or load_once(settings)
    cube = negative(cube) if negated else cube
    detection.spectrum, stacked = yield from read_patch(cube, detection, patch)
    yield from frequency_denoising([detection], settings, networks)
    yield from classify([detection], settings, networks)
    yield from source_spectral_focusing(cube, [detection], [detection], stacked, settings)
    noise = noise or (yield from noise_of.steps(cube, detection.beam))
    yield from measure_detections(cube, [detection], [detection], noise, stacked, settings, brief=negated)
    return detection


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
