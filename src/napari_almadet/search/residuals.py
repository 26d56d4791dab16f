"""What sidelobes of brighter emission leave in the image in which a detection is seen: of its line, or the stacked one.

Where a dirty cube was not found to be dirty, or its beam is not known well, the channels of bright emission are full of
ripples.  A faint detection in these channels has a high S/N by the thermal noise, but not by what the image of its line
scatters by.  Ripples are as often negative as positive, while emission is not: the scatter is measured by what is
negative, so that emission that fills the field does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_almadet.search.patch_properties import SearchedWindow, line_images
from napari_almadet.search.raw_detection import RawDetection

LOW = 15.87  # percentile of an image that is one standard deviation below zero, if it is noise
AT_ONCE = 32  # lines whose images are made together; chosen for memory


def measure_residuals(detections: Sequence[RawDetection], seen: SearchedWindow) -> None:
    """Measure the rms of the image of each detection's line, or of the stacked image if it is brighter there, and its
    S/N by that rms.
    """
    if not detections:
        return
    stacked = rms_below_zero(seen.stack[seen.valid])
    places = [place_of(detection, seen.valid.shape) for detection in detections]
    for first in range(0, len(detections), AT_ONCE):
        some = places[first : first + AT_ONCE]
        for detection, place, image in zip(detections[first:], some, line_images(some, seen)[:, 0], strict=False):
            in_line = image[place] >= seen.stack[place]
            detection.residuals = rms_below_zero(image[seen.valid]) if in_line else stacked
            detection.over_residuals = float(max(image[place], seen.stack[place])) / detection.residuals


def place_of(detection: RawDetection, shape: tuple[int, ...]) -> tuple[int, int]:
    """The pixel (y, x) of its window where a detection is brightest."""
    if detection.box is not None and detection.extent is not None:
        return detection.extent.place
    window = detection.window
    y, x = (
        round((position + 0.5) / window.k - 0.5) - start
        for position, start in ((detection.y, window.y), (detection.x, window.x))
    )
    return int(np.clip(y, 0, shape[0] - 1)), int(np.clip(x, 0, shape[1] - 1))


def rms_below_zero(snr: np.ndarray) -> float:
    """Rms of an image in units of the noise, from what is below zero; at least 1."""
    return max(1.0, -float(np.percentile(snr, LOW))) if snr.size else 1.0
