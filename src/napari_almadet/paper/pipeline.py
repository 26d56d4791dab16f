"""The paper's pipeline on one page: three blocks of ten steps, in the paper's order (its section 2.3 and figure 1).

Each numbered step is one function.  The preset ``almadet`` takes the same steps in the same order in
:mod:`napari_almadet.search.pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.catalogue.detections import Searched
from napari_almadet.measure.box_measurement import measure
from napari_almadet.measure.focus import (
    Cutout,
    brightest_pixel,
    classify,
    cut_out,
    deblend,
    focus,
    focused_noise,
    global_snr,
    pixel_snr,
    reject,
    voxel_noise,
)
from napari_almadet.measure.spectra import WINDOW, denoise, extract_spectra, find_emission, own_lines
from napari_almadet.measure.stacking import at_edge, integrate, stack
from napari_almadet.measure.tiling import cut
from napari_almadet.paper.blobs import find_blobs, normalised_windows, probability_map
from napari_almadet.progress import Progress
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube


@dataclass(frozen=True)
class Networks:
    """The two networks of the paper, from :func:`load_networks` or your own.

    ``blobs_finder`` takes tensors (batch, 1, window, window) from 0 to 1, ``deep_gru``
    (batch, 128) of standardised spectra; the output of both has the same shape, from 0 to 1.
    ``cards`` describe them; their ``sha256`` is recorded in the provenance of the result.
    """

    blobs_finder: Callable
    deep_gru: Callable
    device: Any = "cpu"
    cards: tuple[dict, ...] = ({}, {})


def paper_steps(cube: Cube, settings: Settings, networks: Networks) -> Generator[Progress, None, Searched]:
    """Find the sources of a cube: the three blocks of the paper, one after the other."""
    warnings = padded(cube, settings)
    stacked, probability, candidates = yield from source_detection(cube, settings, networks)
    yield from frequency_denoising(cube, candidates, settings, networks)
    yield from source_spectral_focusing(cube, candidates, probability, settings, networks)
    return Searched(stacked, probability, candidates, warnings)


def source_detection(
    cube: Cube, settings: Settings, networks: Networks
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray, list[Candidate]]]:
    """2D source detection (1 - 4): the dirty image, its probability map, and the source candidates in it."""
    stacked = yield from stack.steps(cube)  # (1)
    windows, corners = normalised_windows(stacked, settings.window, settings.overlap)  # (2)
    probability = yield from probability_map.steps(  # (3)
        windows, corners, stacked.shape, settings.overlap, networks.blobs_finder, settings.batch_size, networks.device
    )
    probability[np.isnan(stacked)] = np.nan
    return stacked, probability, find_blobs(probability, settings.threshold, stacked)  # (4)


def frequency_denoising(
    cube: Cube, candidates: list[Candidate], settings: Settings, networks: Networks
) -> Generator[Progress, None, None]:
    """Frequency denoising (5 - 7): dirty and denoised spectrum of each candidate, and the lines in it.

    Candidates without a line are dropped; those with several lines are likely blends,
    which the next block deblends.
    """
    spectra = yield from extract_spectra.steps(cube, [c.box for c in candidates])  # (5)
    denoised = yield from denoise.steps(spectra, networks.deep_gru, settings.batch_size, networks.device)  # (6)
    for done, candidate in enumerate(candidates):
        yield Progress("Detecting emission lines", done, len(candidates))
        candidate.spectrum, candidate.denoised = spectra[done], denoised[done]
        peaks, discarded = find_emission(candidate.denoised, candidate.spectrum, settings.peak_height)  # (7)
        candidate.decisions += discarded
        candidate.peaks = own_lines(peaks, candidate.peaks)
        candidate.channels = (0, cube.shape[0])
        if candidate.primary:
            candidate.channels = candidate.primary.emission_range(cube.shape[0])
            for peak in candidate.peaks:
                candidate.decide("line_denoised", centre=peak.centre, fwhm=peak.fwhm, height=peak.height)
        else:
            values: dict[str, Any] = {"threshold": settings.peak_height, "height": float(candidate.denoised.max())}
            if settings.require_line:
                candidate.decide("no_emission_peak_required", Status.DROPPED, **values)
            else:
                candidate.decide("no_emission_peak", **values)


def source_spectral_focusing(
    cube: Cube,
    candidates: list[Candidate],
    probability: np.ndarray,
    settings: Settings,
    networks: Networks,
) -> Generator[Progress, None, None]:
    """Source spectral focusing (8 - 10): image of each line, rejection of false positives, deblending.

    Sources deblended from a candidate are added to ``candidates``; they, and the original
    candidate, go through steps 5 to 10 again with their new boxes.
    """
    parts = []
    for done, candidate in enumerate(list(candidates)):
        yield Progress("Making line-integrated images", done, len(candidates))
        without_line = candidate.status is Status.DROPPED
        if without_line:
            continue
        cutout = focus_and_measure(candidate, cube, settings)
        if candidate.status is not Status.DROPPED and len(candidate.peaks) > 1:
            sources = deblend(candidate, cutout, cube.beam_fwhm or 0, settings.min_snr)  # (9)
            parts += take_apart(candidate, sources, candidates, probability)
    if parts:
        yield from frequency_denoising(cube, parts, settings, networks)
        for done, part in enumerate(parts):
            yield Progress("Making line-integrated images of deblended sources", done, len(parts))
            focus_and_measure(part, cube, settings)


def take_apart(
    candidate: Candidate, sources: list[tuple[Box, tuple]], candidates: list[Candidate], probability: np.ndarray
) -> list[Candidate]:
    """Assign the first deblended source to the candidate, and add the others to ``candidates``.

    Sources that are already candidates, whose boxes overlap this one, are ignored; if
    nothing is left, the candidate is dropped.  Returns the candidates with new boxes.
    """
    parts: list[Candidate] = []
    for box, peaks in sources:
        known = next((c for c in candidates if c is not candidate and c.is_at(box.centre, peaks)), None)
        if known:
            candidate.decide("peak_of_another", ids=(known.id,), channel=peaks[0].channel)
            continue
        part = candidate
        if parts:
            part = Candidate(max(c.id for c in candidates) + 1, box, np.nan, blended=True)
            part.decide("found_in_a_blend", ids=(candidate.id,))
            candidates.append(part)
        part.box, part.peaks = box, peaks
        part.prob, part.edge = float(np.nanmax(probability[box.slices])), at_edge(box, probability)
        parts.append(part)
    if sources and not parts:
        candidate.decide("only_others", Status.DROPPED)
    return parts


def focus_and_measure(candidate: Candidate, cube: Cube, settings: Settings) -> Cutout:
    """Steps 8 to 10 for one candidate; returns its cutout.

    The line-integrated image is compared with that of all channels in the same cutout, as in the authors' scripts: its
    noise includes the sidelobes there, which the noise of the whole field does not.
    """
    cutout = cut_out(cube, candidate.box, settings.crop)
    box = cutout.local(candidate.box)
    focused = focus(cutout.planes, candidate.channels)  # (8)
    sigma = focused_noise(focused, voxel_noise(cutout.planes, candidate.peaks), candidate.channels)
    candidate.snr_global = global_snr(focused, box, sigma)  # (9), eq. 3
    candidate.snr_pixel = brightest_pixel(pixel_snr(focused, sigma), box)[1]  # (9), eq. 4
    unfocused = pixel_snr(integrate(cutout.planes))
    reject(candidate, brightest_pixel(unfocused, box)[1], settings.min_snr)  # (9)
    margin = (len(focused) - settings.crop) // 2
    candidate.focused = cut(focused, (margin, margin), settings.crop)  # (10)
    candidate.focus_origin = (cutout.origin[0] + margin, cutout.origin[1] + margin)
    candidate.kind = classify(candidate, cutout)
    measure(candidate, cube, cutout)  # (10)
    return cutout


def padded(cube: Cube, settings: Settings) -> list[str]:
    """Notes on padding of a cube for the paper's networks, one sentence each."""
    n_channels, ny, nx = cube.shape
    warnings = []
    if n_channels < WINDOW:
        warnings.append(
            f"The cube has {n_channels} channels; its spectra were padded to the {WINDOW} Deep GRU expects."
        )
    if min(ny, nx) < settings.window:
        warnings.append(f"The field of {nx} x {ny} pixels was padded to the {settings.window} Blobs Finder expects.")
    return warnings
