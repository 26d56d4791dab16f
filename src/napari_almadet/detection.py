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
from functools import partial
from typing import TYPE_CHECKING

from napari_almadet.catalogue.detections import Detections, listed_first
from napari_almadet.cube.prepare import caveats, prepared
from napari_almadet.cube.storage import Held, Lazy, can_be_unpacked, unpacked
from napari_almadet.loading import loading
from napari_almadet.paper.pipeline import Networks, paper_steps
from napari_almadet.progress import Progress, finish
from napari_almadet.provenance import WEIGHTS, provenance, searched
from napari_almadet.search import search_networks
from napari_almadet.search.distribute import each
from napari_almadet.search.pipeline import search_steps
from napari_almadet.search.reliability import assign, find_negatives, judged
from napari_almadet.search.reliability import notes as reliability_notes
from napari_almadet.search.search_networks import SearchNetworks, described
from napari_almadet.search.windows import held_beside
from napari_almadet.settings import Settings
from napari_almadet.threads import alone, beside

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube


__all__ = ["Networks", "Progress", "detect", "detect_steps", "load_networks"]


LOG = logging.getLogger(__name__)

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
    cube, notes = given, list[str]()
    if client is None and isinstance(given.data, Lazy):
        yield Progress("Reading the cube", 0, 1)
        cube, notes = read_once(given, settings)
    cube, bad, more = yield from prepared.steps(cube, settings)
    notes += more
    if networks is None or isinstance(networks, SearchNetworks):
        found = yield from search_steps(cube, settings, networks, client)
        if settings.reliability:
            negatives = yield from find_negatives.steps(cube, settings, networks, found.candidates, client)
            found.negatives = judged(negatives)
            assign(found.candidates, found.negatives)
            found.warnings += reliability_notes(found.negatives, settings.threshold)
        if networks is None:
            (networks,) = yield from each(described, [settings], stage="Loading the networks", client=client)
    else:
        found = yield from paper_steps(cube, settings, networks)
    yield Progress("Recording the provenance", 0, 1)
    origin = provenance(cube, settings, networks, sha256.result()) | found.record
    origin["cube"] |= searched(cube, bad, found.candidates)
    warnings = notes + found.warnings + caveats(cube)
    return Detections(
        replace(cube, data=given.data),
        settings,
        listed_first(found.candidates),
        found.stacked,
        found.probability,
        origin,
        warnings,
        found.negatives,
        found.noise,
    )


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
