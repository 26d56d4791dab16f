"""Two-dimensional detection (paper, steps 1 to 4): from the cube to blobs of the probability map."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.measure import tiling
from napari_almadet.measure.stacking import at_edge
from napari_almadet.progress import Progress, in_steps, predict

if TYPE_CHECKING:
    import torch

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


def find_blobs(probability: np.ndarray, threshold: float) -> list[Candidate]:
    """Segment the probability map at ``threshold``; every blob is a source candidate (paper, step 4).

    A pixel belongs to a blob if its probability is at least ``threshold``; pixels
    that touch at a side or a corner are connected.  A blob with several peaks is divided
    along the saddles between them, which the paper leaves to the deblending by lines.

    Parameters
    ----------
    probability
        Shape (y, x), NaN where the field has no data.
    threshold
        Between 0 and 1; the paper's is 0.1.

    Returns
    -------
    list of Candidate
        Numbered from 1 in order of their lowest row, with box, probability and edge flag.
    """
    from skimage import measure

    labels = part(measure.label(probability >= threshold, connectivity=2), probability)
    candidates = []
    for region in measure.regionprops(labels, intensity_image=probability):
        y0, x0, y1, x1 = region.bbox
        box, prob = Box(y0, y1, x0, x1), float(region.intensity_max)
        candidates.append(Candidate(region.label, box, prob, edge=at_edge(box, probability)))
        candidates[-1].decide("found_blob", pixels=int(region.area), prob=prob)
    return candidates


def part(blobs: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Divide labelled blobs along saddles that are at least :data:`SADDLE_DEPTH` below the peaks on both sides.

    Returns
    -------
    numpy.ndarray
        Labels of the parts, shape (y, x); 0 where ``blobs`` is.
    """
    from skimage import measure, morphology, segmentation

    heights = np.where(blobs > 0, probability, 0)
    filled = morphology.reconstruction(np.maximum(heights - SADDLE_DEPTH, 0), heights)
    summits = measure.label(morphology.local_maxima(filled), connectivity=2)
    parts = segmentation.watershed(-heights, summits, connectivity=2, mask=blobs > 0)
    # a blob that hardly exceeds the threshold has no peak of that height, and is not divided
    low = blobs * (parts == 0)
    return segmentation.relabel_sequential(parts + np.where(low, low + parts.max(), 0))[0]
