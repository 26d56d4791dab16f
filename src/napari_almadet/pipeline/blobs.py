"""Two-dimensional detection (paper, steps 1 to 4): from the cube to blobs of the probability map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage import measure, morphology, segmentation

from napari_almadet.pipeline import tiling
from napari_almadet.pipeline.catalog import Box, Candidate
from napari_almadet.pipeline.steps import Progress, in_steps, predict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_almadet.cube import Cube

BLOCK_VOXELS = 2**22  # read at a time: 16 MB as float32, a fraction of a second between two steps
SADDLE_DEPTH = 0.1  # probability; of 0.05 to 0.3 the one that keeps most sources of validation fields apart


def channel_blocks(n_channels: int, plane_pixels: int) -> Iterator[slice]:
    """Ranges of channels, each small enough to be read at once, that together cover the cube."""
    depth = max(1, BLOCK_VOXELS // max(1, plane_pixels))
    for first in range(0, n_channels, depth):
        yield slice(first, min(first + depth, n_channels))


@in_steps
def stack(cube: Cube) -> np.ndarray:
    """Integrate the cube along frequency: the dirty image (paper, step 1).

    The sum over channels, in the cube's brightness unit times channels.  A pixel that
    lacks some channels gets the mean of those it has, times the number of channels, so
    that its level is comparable with its neighbours'.  Planes are read in blocks; the
    cube is never in memory as a whole.

    Returns
    -------
    numpy.ndarray
        Float32, shape (ny, nx); NaN where no channel has data.
    """
    n_channels, ny, nx = cube.shape
    stacking = Stacking(n_channels)
    for block in channel_blocks(n_channels, ny * nx):
        stacking.add(cube.read(block))
        yield Progress("Stacking channels", block.stop, n_channels)
    return stacking.image()


class Stacking:
    """The sum of a :func:`stack` whose planes come a few at a time."""

    def __init__(self, n_channels: int):
        self.n_channels = n_channels
        self._total, self._count = 0.0, 0

    def add(self, planes: np.ndarray) -> None:
        """Add planes (channel, y, x), NaN where there is no data."""
        valid = np.isfinite(planes)
        self._total = self._total + np.where(valid, planes, 0).sum(axis=0, dtype=float)
        self._count = self._count + valid.sum(axis=0, dtype=np.int32)

    def image(self) -> np.ndarray:
        """The dirty image of all that was added, float32."""
        return mean_times(self._total, self._count, self.n_channels)


def integrate(planes: np.ndarray) -> np.ndarray:
    """Sum planes (channel, y, x) along the channels, missing ones replaced by the mean of the others; NaN if none."""
    valid = np.isfinite(planes)
    return mean_times(np.where(valid, planes, 0).sum(axis=0, dtype=float), valid.sum(axis=0), len(planes))


def mean_times(total: np.ndarray, count: np.ndarray, n_channels: int) -> np.ndarray:
    """The mean of ``count`` values that add up to ``total``, times ``n_channels``; NaN where there are none."""
    return np.where(count > 0, total * (n_channels / np.maximum(count, 1)), np.nan).astype(np.float32)


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
    """Cut the dirty image to the size Blobs Finder sees, each window from 0 to 1 (paper, step 2).

    Where the paper crops the middle 256 pixels, overlapping windows cover the whole field.

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
    blobs_finder,
    batch_size: int = 16,
    device="cpu",
):
    """What Blobs Finder makes of the windows, blended into one map of the field (paper, step 3).

    Parameters
    ----------
    windows, corners
        From :func:`normalised_windows`.
    shape
        (ny, nx) of the field.
    overlap
        Over how many pixels a window fades in.
    blobs_finder
        Torch module from (batch, 1, window, window) to the same shape, both from 0 to 1.

    Returns
    -------
    numpy.ndarray
        Float32, shape (ny, nx), from 0 to 1.
    """
    answers = yield from predict.steps(blobs_finder, windows[:, None], "Looking for sources", batch_size, device)
    return tiling.blend(answers[:, 0], corners, shape, overlap)


def find_blobs(probability: np.ndarray, threshold: float) -> list[Candidate]:
    """Cut the probability map at ``threshold``; every blob that stands out is a source candidate (paper, step 4).

    A pixel belongs to a blob if its probability is at or above ``threshold``; pixels
    that touch by a side or a corner belong together.  A blob with several summits is parted
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
    labels = part(measure.label(probability >= threshold, connectivity=2), probability)
    candidates = []
    for region in measure.regionprops(labels, intensity_image=probability):
        y0, x0, y1, x1 = region.bbox
        box, prob = Box(y0, y1, x0, x1), float(region.intensity_max)
        candidates.append(Candidate(region.label, box, prob, edge=at_edge(box, probability)))
        candidates[-1].reasons.append(f"found: a blob of {int(region.area)} px, probability up to {prob:.2f}")
    return candidates


def part(blobs: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Part labelled blobs along the saddles that lie :data:`SADDLE_DEPTH` or more below the summits they divide.

    Returns
    -------
    numpy.ndarray
        Labels of the parts, shape (y, x); 0 where ``blobs`` is.
    """
    heights = np.where(blobs > 0, probability, 0)
    filled = morphology.reconstruction(np.maximum(heights - SADDLE_DEPTH, 0), heights)
    summits = measure.label(morphology.local_maxima(filled), connectivity=2)
    parts = segmentation.watershed(-heights, summits, connectivity=2, mask=blobs > 0)
    # a blob that hardly rises above the threshold has no summit of that height, and stays whole
    low = blobs * (parts == 0)
    return segmentation.relabel_sequential(parts + np.where(low, low + parts.max(), 0))[0]


def at_edge(
    box: Box, image: np.ndarray, origin: tuple[int, int] = (0, 0), field: tuple[int, int] | None = None
) -> bool:
    """Whether a box touches the border of the field or a pixel without data (NaN).

    The image may be a part of a field of (height, width) pixels that starts at its pixel ``origin``.
    """
    (ny, nx), (y, x) = field or image.shape, origin
    if box.y0 <= 0 or box.x0 <= 0 or box.y1 >= ny or box.x1 >= nx:
        return True
    rows, columns = slice(max(box.y0 - 1 - y, 0), box.y1 + 1 - y), slice(max(box.x0 - 1 - x, 0), box.x1 + 1 - x)
    return bool(np.isnan(image[rows, columns]).any())
