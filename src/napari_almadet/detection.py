"""Entry point of a detection: prepare the cube, run one of the two pipelines, record the provenance.

The paper's ten steps are in :mod:`napari_almadet.paper.pipeline`, those of the default preset in
:mod:`napari_almadet.search.pipeline`.  The module is not called ``detect``, because the function
:func:`napari_almadet.detect` has that name in the package.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet import __version__
from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.prepare import prepared
from napari_almadet.cube.storage import Held, Lazy, can_be_unpacked, unpacked
from napari_almadet.loading import loading
from napari_almadet.paper.pipeline import (
    Networks,
    frequency_denoising,
    padded,
    source_detection,
    source_spectral_focusing,
)
from napari_almadet.progress import Progress, finish
from napari_almadet.search import search_networks
from napari_almadet.search.distribute import each
from napari_almadet.search.pipeline import search_steps
from napari_almadet.search.reliability import assign, find_negatives, judged, notes
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.windows import held_beside
from napari_almadet.settings import Settings
from napari_almadet.threads import alone, beside

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise


__all__ = ["Networks", "Progress", "detect", "detect_steps", "load_networks"]


LOG = logging.getLogger(__name__)

WEIGHTS = ("blobs_finder", "deep_gru")
KINDS = ("BlobsFinder", "DeepGRU")


def load_networks(settings: Settings) -> Networks | SearchNetworks:
    """Load the networks of a preset, with the weights and on the device given in the settings."""
    if settings.preset == "almadet":
        return search_networks.load(settings)
    with loading():  # torch
        from napari_almadet.networks.weights import load_all

    networks, device, cards = load_all([getattr(settings, name) for name in WEIGHTS], settings.device, KINDS)
    blobs_finder, deep_gru = networks
    return Networks(blobs_finder, deep_gru, device, cards)


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
        Default: those given in the settings.
    client
        `distributed.Client` of a cluster, whose workers search the windows of the cube and open its file
        themselves.  Default: this process.

    Returns
    -------
    Detections
        All candidates, each with the reasons why it was kept, flagged or dropped.

    Raises
    ------
    ValueError
        If the memory limit is too small for the cube; with a client, if the cube is not in a file or the preset is
        not ``almadet``.

    Examples
    --------
    A line of five channels at pixel (40, 30), in noise that is correlated by a beam of four pixels:

    >>> import numpy as np
    >>> from napari_almadet import Cube, detect
    >>> from scipy.ndimage import gaussian_filter
    >>> noise = gaussian_filter(np.random.default_rng(1).normal(size=(32, 64, 64)), (0, 1.7, 1.7))
    >>> line = np.zeros(noise.shape)
    >>> line[14:19, 30, 40] = 400
    >>> data = noise / noise.std() + gaussian_filter(line, (0, 1.7, 1.7))
    >>> detections = detect(Cube.from_array(data.astype(np.float32), name="example"))
    >>> [(round(source.x), round(source.y), source.kind) for source in detections.kept]
    [(40, 30, 'line')]
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
    settings = settings or Settings()
    if client is not None and settings.preset != "almadet":
        raise ValueError(f"a cluster searches with the preset almadet, not with {settings.preset}")
    stopped = threading.Event()
    sha256 = beside(partial(cube.sha256, lambda: not stopped.is_set()))
    try:
        yield Progress("Loading the networks", 0, 1)
        if client is not None:
            return (yield from _detect(cube, settings, None, client, sha256))
        networks = networks or load_networks(settings)
        with alone():
            return (yield from _detect(cube, settings, networks, None, sha256))
    finally:
        stopped.set()


def _detect(
    given: Cube,
    settings: Settings,
    networks: Networks | SearchNetworks | None,
    client: Client | None,
    sha256: Future[str],
) -> Generator[Progress, None, Detections]:
    """The same, with the networks loaded; the cube's hash is known when ``sha256`` has a result."""
    scales, negatives, more, noise, cube = {}, None, {}, None, given
    slow: list[str] = []
    if client is None and isinstance(given.data, Lazy):
        yield Progress("Reading the cube", 0, 1)
        cube, slow = read_once(given, settings)
    cube, bad, prepared_notes = yield from prepared.steps(cube, settings)

    if networks is None or isinstance(networks, SearchNetworks):
        found = yield from search_steps(cube, settings, networks, client)
        stacked, probability, candidates = found.stacked, found.probability, found.candidates
        warnings, scales, noise = found.warnings, found.scales, found.noise
        more = {"dirty_beam": found.decision.as_dict(), "noise": noise_record(noise)}
        if settings.reliability:
            negatives = judged((yield from find_negatives.steps(cube, settings, networks, candidates, client)))
            assign(candidates, negatives)
            warnings += notes(negatives, settings.threshold)
        if networks is None:
            (networks,) = yield from each(
                search_networks.described, [settings], stage="Loading the networks", client=client
            )
    else:
        warnings = padded(cube, settings)
        stacked, probability, candidates = yield from source_detection(cube, settings, networks)
        yield from frequency_denoising(cube, candidates, settings, networks)
        yield from source_spectral_focusing(cube, candidates, stacked, probability, settings, networks)

    yield Progress("Recording the provenance", 0, 1)
    origin = provenance(cube, settings, networks, sha256.result()) | ({"scales": scales} if scales else {}) | more
    origin["cube"] |= {"bad_channels": bad, "continuum": continuum(candidates)}
    if cube.primary_beam is not None:
        origin["cube"]["pb_corrected"] = cube.primary_beam.corrected
    warnings = slow + prepared_notes + warnings + caveats(cube)
    cube = replace(cube, data=given.data)
    candidates = listed_first(candidates)
    return Detections(cube, settings, candidates, stacked, probability, origin, warnings, negatives, noise)


def read_once(cube: Cube, settings: Settings) -> tuple[Cube, list[str]]:
    """A cube that is quick to read again and again, and a warning if that was not possible.

    It is held in memory if the limit allows; otherwise a compressed one is uncompressed into a temporary file.
    """
    if not isinstance(cube.data, Lazy):
        return cube, []
    if held_beside(cube, settings):
        return replace(cube, data=Held(cube.data)), []
    if not can_be_unpacked(cube.data):
        return cube, []
    try:
        return replace(cube, data=unpacked(cube.data)), []
    except OSError as error:
        LOG.warning("no uncompressed copy of %s", cube.name, exc_info=True)
        return cube, [
            f"There is no room for an uncompressed copy of the cube ({cube.data.nbytes / 1e9:.2g} GB) in "
            f"{tempfile.gettempdir()}, which makes the search slow: {error.strerror or error}."
        ]


def noise_record(noise: Noise) -> dict:
    """The noise of a cube as plain values: its level, and the correlation of channels and of pixels.

    ``spatial`` is the correlation by offset in pixels, along the middle row and column.
    """
    h, known = noise.reach, np.isfinite(noise.rms)
    return {
        "rms": float(np.median(noise.rms[known])) if known.any() else None,
        "uniform": bool(noise.uniform),
        "spectral": np.round(noise.spectral, 4).tolist(),
        "spatial_x": np.round(noise.spatial[h, h:], 4).tolist(),
        "spatial_y": np.round(noise.spatial[h:, h], 4).tolist(),
    }


def provenance(cube: Cube, settings: Settings, networks: Networks | SearchNetworks, sha256: str) -> dict:
    """Provenance of a result: version, networks, device, cube and date, as plain values."""
    return {
        "version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(networks.device),
        "networks": networks_used(settings, networks),
        "cube": {"name": cube.name, "path": str(cube.path or ""), "sha256": sha256},
    }


def networks_used(settings: Settings, networks: Networks | SearchNetworks) -> dict:
    """The weights of a run by name of the network: the setting and the sha256 of the file."""
    names = search_networks.WEIGHTS if isinstance(networks, SearchNetworks) else WEIGHTS
    return {
        name: {"weights": getattr(settings, name), "sha256": card.get("sha256", "")}
        for name, card in zip(names, networks.cards, strict=True)
    }


def listed_first(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates numbered from 1 on, those that the catalogue lists before the dropped, each in the order of before.

    What refers to another candidate, its ``parent`` and its decisions, is renumbered with it.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.status is Status.DROPPED)
    called = {candidate.id: number for number, candidate in enumerate(ordered, start=1)}
    for candidate in ordered:
        candidate.id = called[candidate.id]
        candidate.parent = called.get(candidate.parent, 0)
        candidate.decisions = [
            decision.renumbered(lambda number: called.get(number, number)) for decision in candidate.decisions
        ]
    return ordered


def continuum(candidates: list[Candidate]) -> str:
    """A sentence on how many sources have continuum; if none has, it may have been subtracted."""
    kept = [c for c in candidates if c.status is not Status.DROPPED]
    # a source under 4.5 sigma in line and continuum keeps the kind that the search took it for, without a flux
    shown = sum(np.isfinite(c.f_cont) if c.method else c.kind != "line" for c in kept)
    if shown:
        return f"Continuum is detected in {shown} of {len(kept)} sources."
    return "Continuum is detected in no source: it is below the noise, or has been subtracted."


def caveats(cube: Cube) -> list[str]:
    """Properties of a cube that make its measurements less certain than usual, one sentence each."""
    warnings = []
    if cube.has_huge_values:
        warnings.append(f"Values above {cube.ceiling:.3g}, far above all others, were treated as missing data.")
    if spikes := cube.spikes:
        channel, y, x = spikes[0]
        count = "A single voxel" if len(spikes) == 1 else f"{len(spikes)} single voxels"
        warnings.append(
            f"{count} far above the noise and all neighbours (channel {channel}, x {x}, y {y}"
            f"{' and others' if len(spikes) > 1 else ''}) "
            f"{'was' if len(spikes) == 1 else 'were'} treated as missing data."
        )
    if not cube.beam_area:
        warnings.append(
            "The beam is unknown: fluxes are sums over pixels, and their errors assume independent noise in each "
            "pixel. For fluxes in Jy, add the beam to the header: BMAJ, BMIN and BPA, in degrees."
        )
    return warnings
