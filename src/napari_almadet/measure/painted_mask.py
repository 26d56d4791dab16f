"""Measurement of a source in a mask that the user painted: its voxels are summed, whatever their S/N."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate, SourceMask
from napari_almadet.measure.catalogue_row import scale_of, write
from napari_almadet.measure.cutout import MARGIN, Cutout, Seed, Separated, continuum_of, level_of, line_free
from napari_almadet.measure.measurement import LineTask, Measured, continuum_of_footprint, sum_the_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise

BEAM = 4.0  # pixels of FWHM, where the header gives no beam
OF_THE_LINE = ("fwhm", "err_fwhm", "z_fit", "err_z_fit", "chi2_fit", "peak", "err_peak")  # a mask does not change them


def edited(mask: SourceMask | None, added: np.ndarray, removed: np.ndarray) -> SourceMask | None:
    """A mask with voxels more and voxels less, cut to its bounds; None where nothing is left.

    Parameters
    ----------
    added, removed
        Voxels of the cube as (channel, y, x), shape (n, 3); what is in both is removed.
    """
    corners = [added] if len(added) else []
    if mask is not None:
        corners.append(np.array([mask.origin, np.add(mask.origin, mask.voxels.shape) - 1]))
    if not corners:
        return None
    low, high = np.concatenate(corners).min(axis=0), np.concatenate(corners).max(axis=0) + 1
    voxels = np.zeros(high - low, bool)
    if mask is not None:
        voxels[tuple(slice(s.start - o, s.stop - o) for s, o in zip(mask.slices, low, strict=True))] = mask.voxels
    voxels[tuple((added - low).T)] = True
    inside = ((removed >= low) & (removed < high)).all(axis=1)
    voxels[tuple((removed[inside] - low).T)] = False
    return bounded(SourceMask((int(low[0]), int(low[1]), int(low[2])), voxels))


def bounded(mask: SourceMask) -> SourceMask | None:
    """A mask cut to its bounds; None where it has no voxel."""
    if not mask.voxels.any():
        return None
    part = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask.voxels))
    z, y, x = (s.start + o for s, o in zip(part, mask.origin, strict=True))
    return SourceMask((z, y, x), mask.voxels[part].copy())


def box_of(mask: SourceMask) -> Box:
    """The box about a mask."""
    _, y, x = mask.slices
    return Box(y.start, y.stop, x.start, x.stop)


def measure_in_mask(
    candidate: Candidate, cube: Cube, noise: Noise, mask: SourceMask, others: Sequence[SourceMask] = ()
) -> None:
    """Measure a candidate in the voxels of a mask, as the catalogue's method ``mask`` does.

    Each pixel's continuum is the mean of its channels away from the mask and the candidate's lines, in voxels that are
    no other source's.  What was fitted to the line stays as it was.

    Parameters
    ----------
    candidate
        Gets the mask, its box and channels, and all numbers.
    noise
        Of the cube.
    mask
        At least one voxel, all in the cube.
    others
        Masks of the other candidates.
    """
    beam = cube.beam_fwhm or BEAM
    cutout, own, foreign = _parted(cube, noise, mask, others, beam)
    z, y, x = mask.slices
    seed = Seed(
        (x.start + x.stop - 1) / 2,
        (y.start + y.stop - 1) / 2,
        (y.stop - y.start) / 4,
        (x.stop - x.start) / 4,
        ((float((z.start + z.stop - 1) / 2), float(z.stop - z.start)), *((p.centre, p.fwhm) for p in candidate.peaks)),
        (z.start, z.stop),
        compact=False,
    )
    rest = line_free(cutout, seed) & ~own & ~foreign
    continuum, has_continuum = continuum_of(cutout, rest)
    parts = Separated(own, foreign, rest, continuum, has_continuum, np.nan)
    scale = scale_of(cube, seed.x, seed.y, seed.channels, beam)
    lines = np.where(cutout.known, cutout.values - continuum, np.float32(0))
    made = Measured(parts, lines=lines)
    sum_the_mask(LineTask(cutout, [seed], [0], lines, parts, scale), made)
    if has_continuum:
        continuum_of_footprint(cutout, parts, scale, made)
    line = {name: getattr(candidate, name) for name in OF_THE_LINE}
    candidate.kind = "line" if candidate.kind == "continuum" else candidate.kind  # else there would be no mask
    write(candidate, cube, cutout, seed, scale, made)
    vars(candidate).update(line)


def _parted(
    cube: Cube, noise: Noise, mask: SourceMask, others: Sequence[SourceMask], beam: float
) -> tuple[Cutout, np.ndarray, np.ndarray]:
    """The cube about a mask, and where in it the mask and those of others are."""
    _, y, x = mask.slices
    margin, (_, ny, nx) = int(np.ceil(MARGIN * beam)), cube.shape
    y0, y1, x0, x1 = (
        max(y.start - margin, 0),
        min(y.stop + margin, ny),
        max(x.start - margin, 0),
        min(x.stop + margin, nx),
    )
    cutout = Cutout(cube.read(slice(None), slice(y0, y1), slice(x0, x1)), (y0, x0), noise)
    cutout = replace(cutout, level=level_of(cutout, beam))
    own, foreign = np.zeros((2, *cutout.planes.shape), bool)
    _lay(own, mask, cutout.origin)
    for other in others:
        _lay(foreign, other, cutout.origin)
    own &= cutout.known
    return cutout, own, foreign & ~own


def _lay(volume: np.ndarray, mask: SourceMask, origin: tuple[int, int]) -> None:
    """Set the voxels of a mask in a volume whose first pixel is ``origin`` = (y, x) of the cube."""
    here, there = [], []
    for span, shift, length in zip(mask.slices, (0, *origin), volume.shape, strict=True):
        low, high = max(span.start - shift, 0), min(span.stop - shift, length)
        if low >= high:
            return
        here.append(slice(low, high))
        there.append(slice(low + shift - span.start, high + shift - span.start))
    volume[tuple(here)] |= mask.voxels[tuple(there)]
