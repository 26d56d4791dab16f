"""Entry point of a detection: prepare the cube, run one of the two pipelines, record the provenance.

The paper's ten steps are in :mod:`napari_almadet.paper.pipeline`, those of the default preset in
:mod:`napari_almadet.search.pipeline`.  The module is not called ``detect``, because the function
:func:`napari_almadet.detect` has that name in the package.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_almadet.catalogue.detections import Detections, listed_first
from napari_almadet.cube.prepare import caveats, prepared
from napari_almadet.cube.storage import Held, Lazy, can_be_unpacked, unpacked
from napari_almadet.paper.pipeline import Networks, paper_steps
from napari_almadet.preset_networks import load_networks
from napari_almadet.progress import Progress, finish
from napari_almadet.provenance import provenance
from napari_almadet.search.distribute import each
from napari_almadet.search.pipeline import search_steps
from napari_almadet.search.reliability import add_reliability
from napari_almadet.search.search_networks import SearchNetworks, described
from napari_almadet.search.windows import held_beside
from napari_almadet.settings import Settings
from napari_almadet.threads import alone, meanwhile

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube


__all__ = ["Networks", "Progress", "SearchNetworks", "detect", "detect_steps", "load_networks"]


LOG = logging.getLogger(__name__)


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
    with meanwhile(cube.sha256) as sha256:
        yield Progress("Loading the networks", 0, 1)
        networks = None if client is not None else networks or load_networks(settings)
        with alone() if client is None else nullcontext():
            ready, notes = cube, list[str]()
            if client is None and isinstance(cube.data, Lazy):
                yield Progress("Reading the cube", 0, 1)
                ready, notes = read_once(cube, settings)
            ready, bad, more = yield from prepared.steps(ready, settings)
            if networks is None or isinstance(networks, SearchNetworks):
                found = yield from search_steps(ready, settings, networks, client)
                if settings.reliability:
                    yield from add_reliability(found, ready, settings, networks, client)
            else:
                found = yield from paper_steps(ready, settings, networks)
        if networks is None:
            (networks,) = yield from each(described, [settings], stage="Loading the networks", client=client)
        yield Progress("Recording the provenance", 0, 1)
        origin = provenance(ready, settings, networks, sha256.result(), found, bad)
    warnings = notes + more + caveats(ready) + found.warnings
    candidates = listed_first(found.candidates)
    ready = replace(ready, data=cube.data)
    images = found.stacked, found.probability
    return Detections(ready, settings, candidates, *images, origin, warnings, found.negatives, found.noise)


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
            f"{tempfile.gettempdir()}, so the search will be slow: {error.strerror or error}."
        ]
