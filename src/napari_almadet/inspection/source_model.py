"""What of a candidate's line-integrated image is explained: a fitted Gaussian, or what its mask holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.measure.box_measurement import beam_in_pixels
from napari_almadet.measure.focus import Cutout, focus, focused_noise
from napari_almadet.measure.gaussian_fit import fit_gaussian, unit_gaussian

if TYPE_CHECKING:
    from napari_almadet.catalogue.candidate import Candidate, SourceMask
    from napari_almadet.cube.cube import Cube

GROWN = 2  # pixels about the box, in which a Gaussian is fitted
UNIT_SIZE = 1.5  # pixels (sigma) to start from where the beam is not known


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A model of an image, of the image's shape, and what it is in words."""

    image: np.ndarray
    words: str


def model_of(candidate: Candidate, cutout: Cutout, cube: Cube) -> SourceModel | None:
    """Model of a candidate's line-integrated image; None where there is nothing to fit.

    Of a source whose flux is its mask's (method *mask*) it is the sum over the mask's voxels; of any other an
    elliptical Gaussian, fitted to the image in its box about the level of the image.

    Parameters
    ----------
    cutout
        About the candidate's box; the model has its pixels.
    """
    image = focus(cutout.planes, candidate.channels)
    if candidate.method == "mask" and candidate.mask is not None:
        return SourceModel(_masked(candidate.mask, cutout), "its mask")
    box = cutout.local(candidate.box)
    (y0, y1), (x0, x1) = ((max(a - GROWN, 0), b + GROWN) for a, b in ((box.y0, box.y1), (box.x0, box.x1)))
    level = float(np.nanmedian(image))
    part = image[y0:y1, x0:x1] - level
    beam = beam_in_pixels(cube, candidate)
    sigma = focused_noise(image, candidate.rms, candidate.channels)
    x, y = candidate.position
    place = (x - cutout.origin[1] - x0, y - cutout.origin[0] - y0)
    size = beam if beam is not None else np.eye(2) * UNIT_SIZE**2
    fit = fit_gaussian(part, place, size, sigma, beam)
    if fit is None:
        return None
    rows, columns = np.indices(image.shape)
    centre = (fit.x + x0, fit.y + y0)
    made = fit.amplitude * unit_gaussian(centre, fit.matrix, columns.ravel(), rows.ravel()).reshape(image.shape)
    return SourceModel(np.where(np.isfinite(image), made + level, np.nan), "a Gaussian")


def _masked(mask: SourceMask, cutout: Cutout) -> np.ndarray:
    """Sum over the voxels of the mask, 0 in pixels without any."""
    inside = np.zeros(cutout.planes.shape, bool)
    channels, y, x = mask.slices
    shift = (y.start - cutout.origin[0], x.start - cutout.origin[1])
    lengths: tuple[int, ...] = mask.voxels.shape[1:]
    limits: tuple[int, ...] = inside.shape[1:]
    here = [slice(max(s, 0), min(s + n, most)) for s, n, most in zip(shift, lengths, limits, strict=True)]
    there = [slice(h.start - s, h.stop - s) for h, s in zip(here, shift, strict=True)]
    inside[channels, here[0], here[1]] = mask.voxels[:, there[0], there[1]]
    known = np.isfinite(cutout.planes)
    summed = np.where(inside & known, cutout.planes, 0).sum(axis=0, dtype=float)
    return np.where(known.any(axis=0), summed, np.nan)
