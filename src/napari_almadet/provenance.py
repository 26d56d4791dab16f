"""Provenance of a result as plain values: version, networks, device, cube, and how it was prepared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet import __version__
from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.constants import PRESENT
from napari_almadet.preset_networks import networks_used

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_almadet.catalogue.detections import Searched
    from napari_almadet.cube.cube import Cube
    from napari_almadet.paper.pipeline import Networks
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


def provenance(
    cube: Cube,
    settings: Settings,
    networks: Networks | SearchNetworks,
    sha256: str,
    found: Searched | None = None,
    bad_channels: dict[str, list[int]] | None = None,
) -> dict:
    """Provenance of a result: version, networks, device, cube and date, as plain values.

    Parameters
    ----------
    found
        Adds how the cube was searched, and whether it has continuum.
    bad_channels
        Channels that were flagged, by the reason.
    """
    origin: dict[str, Any] = {
        "version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": str(networks.device),
        "networks": networks_used(settings, networks),
        "cube": {"name": cube.name, "path": str(cube.path or ""), "sha256": sha256},
    }
    if found is not None:
        origin["cube"] |= {"bad_channels": bad_channels or {}, "continuum": continuum(found.candidates)}
        origin |= found.record
    if found is not None and cube.primary_beam is not None:
        origin["cube"]["pb_corrected"] = cube.primary_beam.corrected
    return origin


def continuum(candidates: Sequence[Candidate]) -> str:
    """A sentence on how many sources have continuum; if none has, it may have been subtracted.

    It is empty if there are no sources.
    """
    kept = [c for c in candidates if c.status is not Status.DROPPED]
    if not kept:
        return ""
    # a source under 4.5 sigma in line and continuum keeps the kind that the search took it for
    shown = sum(
        np.isfinite(c.f_cont) and not c.f_cont < PRESENT * c.err_f_cont if c.method else c.kind != "line" for c in kept
    )
    if shown:
        return f"Continuum is detected in {shown} of {len(kept)} sources."
    return "Continuum is detected in no source: it is below the noise, or has been subtracted."
