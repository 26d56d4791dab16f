"""Flanks of bright, resolved sources that Source Finder takes for sources of their own.

It was trained on sources up to three beams wide, most of them round.  Of a bright, elongated one it sees several
pieces.  Where one elliptical Gaussian explains the image, they are one source.

Two of ten CLEANed validation cubes of ``absorption`` have such a source (80 and 104 of ``almadet evaluate --set
validation``): without this rule they have four false candidates of probabilities from 0.66 to 0.76, with it none, and
all their sources are found either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.search.patch_properties import NEIGHBOURS, SearchedWindow
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.residuals import measure_residuals, place_of

BRIGHT = (
    100.0  # S/N of the stack, from which a fit tells one source from two; derived: the noise is a quarter of MISFIT
)
FITTED = 0.3  # of the peak, above which the Gaussian is fitted; chosen by eye
# Of the peak, rms of what one Gaussian leaves.  Derived: of two equal points a beam apart it leaves 0.06, and of those
# 0.9 beams apart 0.044, if one is half as bright 0.07 and 0.05.
MISFIT = 0.04
RESOLVED = 2.2  # times the beam's area; derived: two points for which MISFIT is too coarse have up to 1.85 times
FAR = 0.1  # of the peak: what is further away, where the Gaussian is fainter than this, is no flank; chosen by eye
EXCESS = 1.25  # times the Gaussian, up to which a detection is its flank; chosen by eye


@dataclass(frozen=True)
class Ellipse:
    """A Gaussian: logarithm of its value, as a polynomial of second degree in y and x from ``origin``."""

    terms: np.ndarray
    origin: tuple[int, int]

    def at(self, y: np.ndarray | int, x: np.ndarray | int) -> np.ndarray:
        """Its value at pixels."""
        return np.exp(polynomial(np.subtract(y, self.origin[0]), np.subtract(x, self.origin[1])) @ self.terms)

    @property
    def area(self) -> float:
        """Square root of the determinant of its covariance in pixels², 0 if it is no Gaussian."""
        _, _, _, yy, yx, xx = self.terms
        determinant = 4 * yy * xx - yx**2
        return float(1 / np.sqrt(determinant)) if determinant > 0 and yy < 0 else 0.0


def polynomial(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """1, y, x, y², y x and x² in a new last axis."""
    y, x = np.asarray(y, float), np.asarray(x, float)
    return np.stack([np.ones_like(y), y, x, y**2, y * x, x**2], axis=-1)


def measure_brighter_emission(detections: Sequence[RawDetection], seen: SearchedWindow) -> None:
    """Measure what brighter emission does to each detection: the residuals of its sidelobes, and its flanks."""
    measure_residuals(detections, seen)
    measure_flanks(detections, seen)


def measure_flanks(detections: Sequence[RawDetection], seen: SearchedWindow) -> None:
    """Find the detections that lie on a brighter, resolved source which is one Gaussian in the stacked image."""
    compact = [detection for detection in detections if detection.box is None]
    places = {id(detection): place_of(detection) for detection in compact}
    compact.sort(key=lambda detection: -float(seen.stack[places[id(detection)]]))
    for rank, bright in enumerate(compact):
        peak = float(seen.stack[places[id(bright)]])
        if peak < BRIGHT:
            break
        fainter = [detection for detection in compact[rank + 1 :] if detection.flank_of is None]
        if bright.flank_of is not None or not fainter:
            continue
        ellipse = resolved_gaussian(seen.stack, places[id(bright)], seen.beam)
        if ellipse is None:
            continue
        for detection in fainter:
            place = places[id(detection)]
            expected = float(ellipse.at(*place))
            if expected >= FAR * peak and seen.stack[place] <= EXCESS * expected:
                detection.flank_of = bright


def resolved_gaussian(image: np.ndarray, place: tuple[int, int], beam: float) -> Ellipse | None:
    """The Gaussian that an image (ny, nx) has at a place; None if it is no larger than the beam, or not the whole."""
    level = FITTED * image[place]
    labels = ndimage.label(image >= level, NEIGHBOURS)[0]
    y, x = np.nonzero(labels == labels[place])
    values = image[y, x]
    if len(values) < 8:
        return None
    terms = polynomial(y - place[0], x - place[1])
    # errors of a logarithm are those of the value divided by it
    fitted = np.linalg.lstsq(terms * values[:, None], np.log(values) * values, rcond=None)[0]
    ellipse = Ellipse(fitted, place)
    if ellipse.area < RESOLVED * (beam * gaussian_fwhm_to_sigma) ** 2:
        return None
    left = np.sqrt(np.mean((values - ellipse.at(y, x)) ** 2))
    return ellipse if left <= MISFIT * values.max() else None
