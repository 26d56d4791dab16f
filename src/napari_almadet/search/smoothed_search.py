"""Faint emission larger than the beam: the window is searched again, smoothed to twice the beam.

In a nearby galaxy or a cloud of low surface brightness no place is as bright as the noise allows, though all of it
together is far brighter.  Smoothing to its size brings it out; SoFiA-2 smooths its cubes for the same reason (Serra et
al. 2015).  To the networks a window smoothed to twice the beam, at half the resolution, is one of a cube with a larger
beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.catalogue.candidate import Box, Status
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.positions import gaussian_box
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.windows import Window

if TYPE_CHECKING:
    import torch

    from napari_almadet.search.noise_units import NoiseUnits

FACTOR = 2  # by which the beam and the pixels become wider
KERNEL = float(np.sqrt(FACTOR**2 - 1))  # beams, FWHM of the Gaussian that makes the beam wider
LEAST_DATA = 0.5  # weight of the pixels with data, of all that are averaged, below which a new pixel has none
SMALLEST = 16  # pixels, side of a smoothed window that Source Finder can search: two of its coarsest pixels


def smoothed(units: NoiseUnits, window: Window, beam: float) -> tuple[NoiseUnits, Window] | None:
    """A window with twice the beam and pixels twice as wide, in units of its own noise; None if it is too small.

    Parameters
    ----------
    units
        The window without sidelobes.
    beam
        FWHM in pixels of the window; it is as many pixels of the smoothed one.
    """
    if min(window.shape) < FACTOR * SMALLEST:
        return None
    rows, columns = (weights(n, beam, units.cube) for n in window.shape)
    known = rows @ units.valid.to(units.cube.dtype) @ columns.T >= LEAST_DATA
    planes = (rows @ units.cube @ columns.T).masked_fill_(~known, float("nan"))
    try:
        wider = in_noise_units(planes, beam)
    except ValueError:  # hardly any data
        return None
    rms = wider.rms * units.rms[wider.channels]
    channels = units.channels[wider.channels]
    wider = replace(wider, rms=rms, channels=channels, n_channels=units.n_channels or len(units.channels))
    shape = (planes.shape[1], planes.shape[2])
    y, x = (slice(own.start // FACTOR, -(-own.stop // FACTOR)) for own in window.owned)
    return wider, Window(window.y // FACTOR, window.x // FACTOR, shape, (y, x), FACTOR * window.k)


def weights(n: int, beam: float, like: torch.Tensor) -> torch.Tensor:
    """Weights (new, n) of n pixels along an axis in each of the wider ones: a Gaussian that makes the beam wider."""
    import torch

    sigma = KERNEL * beam * gaussian_fwhm_to_sigma
    centres = FACTOR * np.arange(-(-n // FACTOR)) + (FACTOR - 1) / 2
    weight = np.exp(-0.5 * ((np.arange(n) - centres[:, None]) / sigma) ** 2)
    return torch.as_tensor(weight / (np.sqrt(2 * np.pi) * sigma), dtype=like.dtype, device=like.device)


def found_elsewhere(
    larger: Sequence[RawDetection], detections: Sequence[RawDetection], window: Window, field: tuple[int, int]
) -> list[RawDetection]:
    """The kept detections of the smoothed window where nothing was kept at full resolution.

    Parameters
    ----------
    larger
        All detections of the smoothed window; those returned are numbered after ``detections``.
    window
        That of ``detections``, which will be theirs.
    field
        Size (ny, nx) of the cube.
    """
    others = [one for one in detections if one.candidate.status is not Status.DROPPED]
    kept = [one for one in larger if one.candidate.status is Status.KEPT]
    found = [one for one in kept if not any(meet(one, other, field) for other in others)]
    for number, one in enumerate(found, 1 + max((one.candidate.id for one in detections), default=0)):
        one.candidate.id, one.candidate.parent = number, 0
        one.candidate.decide("found_smoothed", fwhm=one.beam)
        one.window, one.piece_of, one.flank_of = window, 0, None
    return found


def meet(one: RawDetection, other: RawDetection, field: tuple[int, int]) -> bool:
    """Whether the centre of one of two detections lies in the box of the other."""
    return lies_in(one, box_of(other, field)) or lies_in(other, box_of(one, field))


def box_of(detection: RawDetection, field: tuple[int, int]) -> Box:
    """The box of a detection in a field of size (ny, nx)."""
    return detection.box or gaussian_box(detection, field)


def lies_in(detection: RawDetection, box: Box) -> bool:
    """Whether the centre of a detection lies in a box."""
    return bool(box.y0 - 0.5 <= detection.y < box.y1 - 0.5 and box.x0 - 0.5 <= detection.x < box.x1 - 0.5)
