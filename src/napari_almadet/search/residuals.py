"""What sidelobes of brighter emission leave in the image in which a detection is seen: of its line, or the stacked one.

Where a dirty cube was not found to be dirty, or its beam is not known well, the channels of bright emission are full of
ripples.  A faint detection in these channels has a high S/N by the thermal noise, but not by what the image of its line
scatters by.  Ripples are as often negative as positive, while emission is not: the scatter is measured by what is
negative, so that emission that fills the field does not count.  Continuum that was not subtracted has ripples in all
channels, which a line does not share: they are fitted with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.search.patch_properties import SearchedWindow, line_channel, line_images, rms_below_zero
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.thresholds import THRESHOLDS

AT_ONCE = 32  # lines whose images are made together; chosen for memory


def measure_residuals(detections: Sequence[RawDetection], seen: SearchedWindow) -> None:
    """Measure the rms of the image of each detection's line, or of the stacked image if it is brighter there.

    Where this rms is more than noise, the detection's S/N by it is that of the pixel, or in the image
    :func:`at_its_size` if it is higher there.
    """
    if not detections:
        return
    stacked = rms_below_zero(seen.stack[seen.valid])
    channel = line_channel(seen)
    found = [(detection, place_of(detection)) for detection in detections]
    found.sort(key=lambda one: float(channel[one[1]]))  # for the sake of line_images
    for first in range(0, len(found), AT_ONCE):
        some = found[first : first + AT_ONCE]
        images = line_images([place for _, place in some], seen, without_continuum=True)[:, 0]
        for (detection, place), image in zip(some, images, strict=True):
            in_line = bool(image[place] >= seen.stack[place])
            detection.residuals = rms_below_zero(image[seen.valid]) if in_line else stacked
            if detection.residuals > (THRESHOLDS.residuals if in_line else THRESHOLDS.residuals_stacked):
                seen_in = image if in_line else seen.stack
                detection.over_residuals = snr_over_residuals(detection, place, seen_in, seen)


def snr_over_residuals(
    detection: RawDetection, place: tuple[int, int], image: np.ndarray, seen: SearchedWindow
) -> float:
    """S/N of a detection by the rms of the image (ny, nx) in which it is seen, at its pixel or :func:`at_its_size`."""
    snr = float(image[place]) / detection.residuals
    if detection.box is not None:
        return snr
    widened = at_its_size(image, detection, seen)
    return max(snr, float(widened[place]) / max(rms_below_zero(widened[seen.valid], 0.0), 1e-9))


def place_of(detection: RawDetection) -> tuple[int, int]:
    """The pixel (y, x) of its window where a detection is brightest."""
    if detection.box is not None and detection.extent is not None:
        return detection.extent.place
    return detection.window.pixel_at(detection.y, detection.x)


def at_its_size(image: np.ndarray, detection: RawDetection, seen: SearchedWindow) -> np.ndarray:
    """An image (ny, nx) smoothed to the size of a detection, in which a resolved one has the highest S/N."""
    sizes = (detection.features.fwhm_y, detection.features.fwhm_x)
    sigmas = [seen.beam * gaussian_fwhm_to_sigma * np.sqrt(max(size**2 - 1, 0.0)) for size in sizes]
    return ndimage.gaussian_filter(np.where(seen.valid, image, 0), sigmas)
