"""Preparation of a cube for a search: flag bad channels, attach the primary beam."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.cube.bad_channels import BRIGHTER, bad_channels, summary, summary_of_brighter
from napari_almadet.cube.cube import CubeError, PrimaryBeam
from napari_almadet.cube.reading import read_primary_beam
from napari_almadet.progress import Progress, in_steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_almadet.cube.cube import Cube
    from napari_almadet.settings import Settings


RINGS = 12  # of equal response, in which the noise is compared
# Lowest over highest response of the rings, below which the noise decides; nearer 1 it varies too little.
LEAST_FALL = 0.75
LOOKED_AT = 48  # channels in which blank voxels are counted
PIXELS = 40_000  # of a channel that are looked at, at most
# Share of blank voxels from which on a cube was masked; 0.36 to 0.84 in masked cubes, at most 0.015 in nine others.
MASKED = 0.2


@in_steps
def prepared(cube: Cube, settings: Settings) -> Generator[Progress, None, tuple[Cube, dict[str, list[int]], list[str]]]:
    """The cube with bad channels flagged and its primary beam attached, according to the settings.

    Returns
    -------
    cube
        The same data; :attr:`~napari_almadet.Cube.flagged` and :attr:`~napari_almadet.Cube.primary_beam` are set.
    bad
        From :func:`~napari_almadet.cube.bad_channels.bad_channels`, of those that are flagged.
    notes
        For the user, one sentence each.

    Raises
    ------
    CubeError
        If the primary beam cannot be used with this cube.
    """
    cube = replace(cube, flagged=None, primary_beam=None)  # of an earlier run
    bad: dict[str, list[int]] = {}
    notes: list[str] = []
    beam = None if settings.primary_beam is None else read_primary_beam(settings.primary_beam, cube)
    if settings.flag_channels:
        bad = yield from bad_channels.steps(cube)
        brighter = bad.pop(BRIGHTER, [])
        cube = without(cube, bad)
        notes += [summary(bad)] if bad else []
        notes += [summary_of_brighter(brighter)] if brighter else []
    if beam is not None:
        yield Progress("Comparing the noise with the primary beam", 0, 1)
        corrected = is_corrected(cube, beam)
        if corrected is None:
            by_name = "it is" if beam.corrected else "it is not"
            notes.append(
                f"Whether the cube is primary-beam corrected cannot be estimated from its noise; judging by its "
                f"name, {by_name}."
            )
        elif corrected:
            notes.append("The noise rises as the inverse of the primary beam: cube treated as primary-beam corrected.")
        else:
            notes.append("The noise is uniform: cube treated as not primary-beam corrected; f_sum_pb = f_sum / pb.")
        beam = beam if corrected is None else replace(beam, corrected=corrected)
        cube = replace(cube, primary_beam=beam)
    return cube, bad, notes


def caveats(cube: Cube) -> list[str]:
    """Properties of a cube that make its measurements less certain than usual, one sentence each."""
    warnings = []
    if (share := blanked_share(cube)) > MASKED:
        warnings.append(
            f"{share:.0%} of the voxels have no data (NaN or zero), although their pixels have data in other channels: "
            "the cube was masked, or is a model without noise. Its noise cannot be measured, so sources may be missed, "
            "and S/N, errors and probabilities are unreliable: search the cube as it was before masking."
        )
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


def thinned(ny: int, nx: int) -> int:
    """Step between the pixels of a field that are looked at where a sample is enough."""
    return max(1, int(np.ceil(np.sqrt(ny * nx / PIXELS))))


def blanked_share(cube: Cube) -> float:
    """Share of the voxels without data, of pixels and channels that have data; 0 if all channels have the same mask.

    Large where every channel was masked by itself, as by a cut at some S/N.  Blank channels must have been flagged.
    """
    step = thinned(*cube.shape[1:])
    good = np.arange(cube.shape[0]) if cube.flagged is None else np.flatnonzero(~cube.flagged)
    chosen = good[np.unique(np.linspace(0, len(good) - 1, min(len(good), LOOKED_AT)).round().astype(int))]
    count, union, channels = 0, None, 0
    for k in (*chosen[::-8], *np.setdiff1d(chosen, chosen[::-8])):  # first some that are far apart
        plane = cube.read(int(k), slice(None, None, step), slice(None, None, step))
        known = np.isfinite(plane) & (plane != 0)
        if not known.any():
            continue
        union = known if union is None else union | known
        count, channels = count + int(np.count_nonzero(known)), channels + 1
        if channels == 4 and count > 0.99 * channels * np.count_nonzero(union):
            return 0.0
    return 0.0 if union is None else 1 - count / (channels * np.count_nonzero(union))


def without(cube: Cube, bad: dict[str, list[int]]) -> Cube:
    """The cube with its bad channels flagged."""
    channels = sorted({k for numbers in bad.values() for k in numbers})
    if not channels:
        return cube
    flagged = np.zeros(cube.shape[0], dtype=bool)
    flagged[channels] = True
    return replace(cube, flagged=flagged)


def as_prepared(cube: Cube, settings: Settings, provenance: dict) -> Cube:
    """The cube as it was prepared for an earlier run, according to its result.

    Without primary beam if its file is gone.
    """
    about = provenance.get("cube", {})
    cube = without(cube, about.get("bad_channels", {}))
    if settings.primary_beam is None or cube.primary_beam is not None:
        return cube
    try:
        beam = read_primary_beam(settings.primary_beam, cube)
    except CubeError:
        return cube
    return replace(cube, primary_beam=replace(beam, corrected=about.get("pb_corrected", beam.corrected)))


def is_corrected(cube: Cube, beam: PrimaryBeam) -> bool | None:
    """Whether a cube's noise rises as the inverse of the primary beam; None if that cannot be decided.

    The noise in rings of equal response follows response ** slope; a slope of -1 is that of a corrected cube, 0 that
    of one that is not.
    """
    n_channels, ny, nx = cube.shape
    step = thinned(ny, nx)
    y, x = slice(None, None, step), slice(None, None, step)
    lag = min(3, n_channels // 4) or 1
    good = np.arange(n_channels - lag) if cube.flagged is None else np.flatnonzero(~cube.flagged[:-lag])
    chosen = good[np.unique(np.linspace(0, len(good) - 1, 10).round().astype(int))] if len(good) else []
    response = beam.plane(n_channels // 2, y, x)
    if not len(chosen):
        return None
    differences = np.stack([np.abs(cube.read(k + lag, y, x) - cube.read(k, y, x)) for k in chosen])
    known = np.isfinite(response) & np.isfinite(differences).any(axis=0)
    if known.sum() < 50 * RINGS:
        return None
    edges = np.quantile(response[known], np.linspace(0, 1, RINGS + 1))
    ring = np.clip(np.searchsorted(edges, response, side="right") - 1, 0, RINGS - 1)
    level, noise = [], []
    for i in range(RINGS):
        inside = known & (ring == i)
        if inside.any():
            level.append(np.median(response[inside]))
            noise.append(np.nanmedian(differences[:, inside]) / NORMAL_MAD)
    if min(level) > LEAST_FALL * max(level) or not min(noise) > 0:
        return None
    slope = np.polyfit(np.log(level), np.log(noise), 1)[0]
    return bool(slope < -0.5)
