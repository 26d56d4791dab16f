"""The paper's pipeline: three logical blocks of ten steps, in the paper's order (its section 2.3 and figure 1).

Each numbered step is one function, and lives in the room of its block: `blobs`
(1 to 4), `spectra` (5 to 7), `focus` (8 and 9), `measure` (10, with `focus`).  The preset
``almadet`` takes the same steps in the same order, in `search`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet import __version__
from napari_almadet.pipeline import search
from napari_almadet.pipeline.blobs import at_edge, find_blobs, normalised_windows, probability_map, stack
from napari_almadet.pipeline.catalog import Box, Candidate, Detections, Fate
from napari_almadet.pipeline.focus import (
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
from napari_almadet.pipeline.measure import measure
from napari_almadet.pipeline.prepare import prepared
from napari_almadet.pipeline.reliability import find_negatives, give, judged, notes
from napari_almadet.pipeline.search import SearchNetworks, search_steps
from napari_almadet.pipeline.settings import Settings
from napari_almadet.pipeline.spectra import WINDOW, denoise, extract_spectra, find_emission, own_lines
from napari_almadet.pipeline.steps import Progress, finish
from napari_almadet.pipeline.tiling import cut
from napari_almadet.pipeline.workers import each

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube import Cube

__all__ = ["Networks", "Progress", "detect", "detect_steps", "load_networks"]


@dataclass(frozen=True)
class Networks:
    """The two networks of the paper, as :func:`load_networks` loads them or of one's own making.

    ``blobs_finder`` takes tensors (batch, 1, window, window) from 0 to 1, ``deep_gru``
    (batch, 128) of standardised spectra; both answer with the same shape, from 0 to 1.
    ``cards`` say what each is; their ``sha256`` goes into the result's provenance.
    """

    blobs_finder: Callable
    deep_gru: Callable
    device: Any = "cpu"
    cards: tuple[dict, dict] = ({}, {})


WEIGHTS = ("blobs_finder", "deep_gru")


def load_networks(settings: Settings) -> Networks | SearchNetworks:
    """Load the networks of a run's preset, by the weights its settings name, onto the device they name."""
    if settings.preset == "almadet":
        return search.load(settings)
    from napari_almadet.networks.weights import load_all

    networks, device, cards = load_all([getattr(settings, name) for name in WEIGHTS], settings.device)
    return Networks(*networks, device, cards)


def detect(
    cube: Cube,
    settings: Settings | None = None,
    progress: Callable[[Progress], object] | None = None,
    networks: Networks | SearchNetworks | None = None,
    client: Client | None = None,
) -> Detections:
    """Find the sources of a cube.

    Parameters
    ----------
    cube
        From :func:`napari_almadet.read_cube` or :meth:`napari_almadet.Cube.from_array`.
    settings
        Default: the preset ``almadet``.
    progress
        Called with every :class:`Progress`.
    networks
        Default: those the settings name.
    client
        Of a cluster, `distributed.Client`, whose workers search the cube's windows and open its file
        themselves.  Default: this process.

    Returns
    -------
    Detections
        All candidates, each with the reasons why it was kept, flagged or dropped.

    Raises
    ------
    ValueError
        If the settings' memory is too small for the cube; with a client, if the cube is not in a file or the preset is
        not ``almadet``.
    """
    return finish(detect_steps(cube, settings, networks, client), progress)


def detect_steps(
    cube: Cube,
    settings: Settings | None = None,
    networks: Networks | SearchNetworks | None = None,
    client: Client | None = None,
) -> Generator[Progress, None, Detections]:
    """Find the sources of a cube step by step: yields :class:`Progress`, returns :class:`Detections`.

    Closing the generator stops the work within one batch.  Parameters as for :func:`detect`.
    """
    settings, scales, negatives = settings or Settings(), {}, None
    yield Progress("Loading the networks", 0, 1)
    if client is None:
        networks = networks or load_networks(settings)
    elif settings.preset != "almadet":
        raise ValueError(f"a cluster searches with the preset almadet, not with {settings.preset}")
    cube, bad, told = yield from prepared.steps(cube, settings)

    if networks is None or isinstance(networks, SearchNetworks):
        found = yield from search_steps(cube, settings, networks, client)
        stacked, probability, candidates = found.stacked, found.probability, found.candidates
        said, scales = found.warnings, found.scales
        if settings.reliability:
            negatives = judged((yield from find_negatives.steps(cube, settings, networks, candidates, client)))
            give(candidates, negatives)
            said += notes(negatives, settings.threshold)
        if networks is None:
            (networks,) = yield from each(search.described, [settings], stage="Loading the networks", client=client)
    else:
        said = padded(cube, settings)
        stacked, probability, candidates = yield from source_detection(cube, settings, networks)
        yield from frequency_denoising(cube, candidates, settings, networks)
        yield from source_spectral_focusing(cube, candidates, stacked, probability, settings, networks)

    yield Progress("Writing down the provenance", 0, 1)
    origin = provenance(cube, settings, networks) | ({"scales": scales} if scales else {})
    origin["cube"] |= {"bad_channels": bad, "continuum": continuum(candidates)}
    if cube.primary_beam is not None:
        origin["cube"]["pb_corrected"] = cube.primary_beam.corrected
    said = told + said + caveats(cube)
    return Detections(cube, settings, candidates, stacked, probability, origin, said, negatives)


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
    return stacked, probability, find_blobs(probability, settings.threshold)  # (4)


def frequency_denoising(
    cube: Cube, candidates: list[Candidate], settings: Settings, networks: Networks
) -> Generator[Progress, None, None]:
    """Frequency denoising (5 - 7): dirty and denoised spectrum of each candidate, and the lines in it.

    Candidates without a line are dropped; those with several are likely superpositions,
    which the next block takes apart.
    """
    spectra = yield from extract_spectra.steps(cube, [c.box for c in candidates])  # (5)
    denoised = yield from denoise.steps(spectra, networks.deep_gru, settings.batch_size, networks.device)  # (6)
    for done, candidate in enumerate(candidates):
        yield Progress("Finding emission lines", done, len(candidates))
        candidate.spectrum, candidate.denoised = spectra[done], denoised[done]
        peaks, reasons = find_emission(candidate.denoised, candidate.spectrum, settings.peak_height)  # (7)
        candidate.reasons += reasons
        candidate.peaks = own_lines(peaks, candidate.peaks)
        candidate.channels = (0, cube.shape[0])
        if candidate.primary:
            candidate.channels = candidate.primary.emission_range(cube.shape[0])
            candidate.reasons += [
                f"line at channel {p.centre:.1f}, FWHM {p.fwhm:.1f} channels, denoised height {p.height:.2f}"
                for p in candidate.peaks
            ]
        else:
            lines = f"no emission peak above {settings.peak_height:.2f} (highest {candidate.denoised.max():.2f})"
            candidate.reasons.append(f"dropped: {lines}" if settings.require_line else lines)
            candidate.fate = Fate.DROPPED if settings.require_line else candidate.fate


def source_spectral_focusing(
    cube: Cube,
    candidates: list[Candidate],
    stacked: np.ndarray,
    probability: np.ndarray,
    settings: Settings,
    networks: Networks,
) -> Generator[Progress, None, None]:
    """Source spectral focusing (8 - 10): focus on each line, drop what is not there, take superpositions apart.

    Sources found in another's blob join ``candidates``; they, and the one they were
    found in, go through steps 5 to 10 again with boxes of their own.
    """
    stacked_snr = pixel_snr(stacked)
    parts = []
    for done, candidate in enumerate(list(candidates)):
        yield Progress("Focusing on sources", done, len(candidates))
        if candidate.fate is Fate.DROPPED:
            continue
        cutout = focus_and_measure(candidate, cube, stacked_snr, settings)
        if candidate.fate is not Fate.DROPPED and len(candidate.peaks) > 1:
            sources = deblend(candidate, cutout, cube.beam_fwhm or 0, settings.min_snr)  # (9)
            parts += take_apart(candidate, sources, candidates, probability)
    if parts:
        yield from frequency_denoising(cube, parts, settings, networks)
        for done, part in enumerate(parts):
            yield Progress("Focusing on sources taken apart", done, len(parts))
            focus_and_measure(part, cube, stacked_snr, settings)


def take_apart(
    candidate: Candidate, sources: list[tuple[Box, tuple]], candidates: list[Candidate], probability: np.ndarray
) -> list[Candidate]:
    """Give the first of the sources found in a candidate's blob to the candidate, and add the others to ``candidates``.

    A source that already is a candidate, whose box merely reaches into this one's, is
    not taken; if that leaves nothing, the candidate is dropped.  Returns those whose box
    is new.
    """
    parts = []
    for box, peaks in sources:
        known = next((c for c in candidates if c is not candidate and c.is_at(box.centre, peaks)), None)
        if known:
            candidate.reasons.append(f"peak at channel {peaks[0].channel} is candidate {known.id}'s")
            continue
        part = candidate
        if parts:
            part = Candidate(max(c.id for c in candidates) + 1, box, np.nan, blended=True)
            part.reasons.append(f"found: a superposition with candidate {candidate.id}, taken apart by its line")
            candidates.append(part)
        part.box, part.peaks = box, peaks
        part.prob, part.edge = float(np.nanmax(probability[box.slices])), at_edge(box, probability)
        parts.append(part)
    if sources and not parts:
        candidate.fate = Fate.DROPPED
        candidate.reasons.append("dropped: all it shows are other candidates")
    return parts


def focus_and_measure(candidate: Candidate, cube: Cube, stacked_snr: np.ndarray, settings: Settings) -> Cutout:
    """Steps 8 to 10 for one candidate; returns the cutout it was seen in."""
    cutout = cut_out(cube, candidate.box, settings.crop)
    box = cutout.local(candidate.box)
    focused = focus(cutout.planes, candidate.channels)  # (8)
    sigma = focused_noise(focused, voxel_noise(cutout.planes, candidate.peaks), candidate.channels)
    candidate.snr_global = global_snr(focused, box, sigma)  # (9), eq. 3
    candidate.snr_pixel = brightest_pixel(pixel_snr(focused, sigma), box)[1]  # (9), eq. 4
    reject(candidate, brightest_pixel(stacked_snr, candidate.box)[1], settings.min_snr)  # (9)
    margin = (len(focused) - settings.crop) // 2
    candidate.focused = cut(focused, (margin, margin), settings.crop)  # (10)
    candidate.focus_origin = (cutout.origin[0] + margin, cutout.origin[1] + margin)
    candidate.kind = classify(candidate, cutout)
    measure(candidate, cube, cutout)  # (10)
    return cutout


def provenance(cube: Cube, settings: Settings, networks: Networks | SearchNetworks) -> dict:
    """Where a result comes from: program, networks, device, cube and date, as plain values."""
    return {
        "version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(networks.device),
        "networks": networks_used(settings, networks),
        "cube": {"name": cube.name, "path": str(cube.path or ""), "sha256": cube.sha256()},
    }


def networks_used(settings: Settings, networks: Networks | SearchNetworks) -> dict:
    """Which weights a run has, by the network's name: the setting and the file's sha256."""
    names = search.WEIGHTS if isinstance(networks, SearchNetworks) else WEIGHTS
    return {
        name: {"weights": getattr(settings, name), "sha256": card.get("sha256", "")}
        for name, card in zip(names, networks.cards, strict=True)
    }


def padded(cube: Cube, settings: Settings) -> list[str]:
    """What of a cube had to be padded for the paper's networks, one sentence each."""
    n_channels, ny, nx = cube.shape
    said = []
    if n_channels < WINDOW:
        said.append(f"The cube has {n_channels} channels; its spectra were padded to the {WINDOW} Deep GRU expects.")
    if min(ny, nx) < settings.window:
        said.append(f"The field of {nx} x {ny} pixels was padded to the {settings.window} Blobs Finder expects.")
    return said


def continuum(candidates: list[Candidate]) -> str:
    """Whether the sources of a cube show continuum, in a sentence; where none does, it may have been subtracted."""
    kept = [c for c in candidates if c.fate is not Fate.DROPPED]
    shown = sum(c.kind != "line" for c in kept)
    if shown:
        return f"Continuum is seen in {shown} of {len(kept)} sources."
    return "Continuum is seen in no source: there is none above the noise, or it was subtracted."


def caveats(cube: Cube) -> list[str]:
    """What about a cube makes its measures less sure than usual, one sentence each."""
    if cube.beam_area:
        return []
    return ["The beam is unknown: fluxes are sums over pixels, and their errors take the pixels' noise as independent."]
