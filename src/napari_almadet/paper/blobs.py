"""Two-dimensional detection (paper, steps 1 to 4): from the cube to blobs of the probability map."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.measure import tiling
from napari_almadet.measure.focus import noise
from napari_almadet.measure.stacking import at_edge
from napari_almadet.progress import Progress, in_steps, predict

if TYPE_CHECKING:
    import torch

# S/N in the dirty image; of 2, 3, 5 and 10 the highest that separates most sources of validation fields, none wrongly.
SADDLE_SNR = 5.0
SADDLE_DEPTH = 0.1  # probability; of values from 0.05 to 0.3 the one that separates most sources of validation fields


def normalise(images: np.ndarray) -> np.ndarray:
    """Rescale each image to run from 0 to 1 (paper, step 2).

    A missing pixel takes the value of zero flux, which is the mean level of a dirty
    image, before the range is measured; a constant image becomes zeros.

    Parameters
    ----------
    images
        Shape (..., y, x); each (y, x) image has its own range.

    Returns
    -------
    numpy.ndarray
        Float32, same shape, no NaN.
    """
    images = np.where(np.isfinite(images), images, 0).astype(np.float64)
    low = images.min(axis=(-2, -1), keepdims=True)
    span = images.max(axis=(-2, -1), keepdims=True) - low
    return ((images - low) / np.where(span > 0, span, 1)).astype(np.float32)


def normalised_windows(stacked: np.ndarray, window: int, overlap: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Cut the dirty image into windows for Blobs Finder, each rescaled to 0 to 1 (paper, step 2).

    The paper crops the central 256 pixels; here overlapping windows cover the whole field.

    Returns
    -------
    windows
        Float32, shape (n, window, window).
    corners
        First pixel (y, x) of each window.
    """
    corners = tiling.corners(stacked.shape, window, overlap)
    return normalise(np.stack([tiling.cut(stacked, corner, window) for corner in corners])), corners


@in_steps
def probability_map(
    windows: np.ndarray,
    corners: list[tuple[int, ...]],
    shape: tuple[int, int],
    overlap: int,
    blobs_finder: Callable[..., Any],
    batch_size: int = 16,
    device: torch.device | str = "cpu",
) -> Generator[Progress, None, np.ndarray]:
    """The output of Blobs Finder for the windows, blended into one map of the field (paper, step 3).

    Parameters
    ----------
    windows, corners
        From :func:`normalised_windows`.
    shape
        (ny, nx) of the field.
    overlap
        Width in pixels of the taper of a window.
    blobs_finder
        Torch module from (batch, 1, window, window) to the same shape, both from 0 to 1.

    Returns
    -------
    numpy.ndarray
        Float32, shape (ny, nx), from 0 to 1.
    """
    answers = yield from predict.steps(blobs_finder, windows[:, None], "Detecting sources", batch_size, device)
    return tiling.blend(answers[:, 0], corners, shape, overlap)


def find_blobs(probability: np.ndarray, threshold: float, stacked: np.ndarray | None = None) -> list[Candidate]:
    """Segment the probability map at ``threshold``; every blob is a source candidate (paper, step 4).

    A pixel belongs to a blob if its probability is at least ``threshold``; pixels
    that touch at a side or a corner are connected.  A blob with several peaks in the map or in the dirty image is
    divided along the saddles between them, which the paper leaves to the deblending by lines.

    Parameters
    ----------
    probability
        Shape (y, x), NaN where the field has no data.
    threshold
        Between 0 and 1; the paper's is 0.1.
    stacked
        The dirty image of the map; without it blobs are only divided by the map.

    Returns
    -------
    list of Candidate
        Numbered from 1, blob by blob in order of their lowest row, with box, probability and edge flag.
    """
    from skimage import measure

    labels = part(measure.label(probability >= threshold, connectivity=2), probability, SADDLE_DEPTH)
    sigma = np.nan if stacked is None else noise(stacked)
    if stacked is not None and sigma > 0:  # NaN if the image is constant
        labels = part(labels, stacked, SADDLE_SNR * sigma)
    candidates = []
    for region in measure.regionprops(labels, intensity_image=probability):
        y0, x0, y1, x1 = region.bbox
        box, prob = Box(y0, y1, x0, x1), float(region.intensity_max)
        candidates.append(Candidate(region.label, box, prob, edge=at_edge(box, probability)))
        candidates[-1].decide("found_blob", pixels=int(region.area), prob=prob)
    return candidates


def part(blobs: np.ndarray, heights: np.ndarray, depth: float) -> np.ndarray:
    """Divide labelled blobs along saddles that are at least ``depth`` below the peaks on both sides.

    Returns
    -------
    numpy.ndarray
        Labels of the parts, shape (y, x); 0 where ``blobs`` is.
    """
    from skimage import measure, morphology, segmentation

    parts = np.zeros_like(blobs)
    for region in measure.regionprops(blobs):
        inside = np.pad(region.image, 1)
        below = heights[region.slice][region.image].min() - depth
        land = np.where(inside, np.pad(heights[region.slice], 1), below)
        filled = morphology.reconstruction(np.maximum(land - depth, below), land)
        summits = measure.label(morphology.local_maxima(filled) & inside, connectivity=2)
        if summits.max() > 1:
            pieces = segmentation.watershed(-land, summits, connectivity=2, mask=inside)
        else:
            pieces = inside.astype(int)
        parts[region.slice][region.image] = parts.max() + pieces[inside]
    return parts
