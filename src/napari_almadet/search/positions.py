"""Steps 8 and 9 for one raw detection: :func:`focus_detection`, with its cutout, best position and box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box, Status
from napari_almadet.constants import BOX_LEVEL
from napari_almadet.measure.focus import (
    Cutout,
    brightest_pixel,
    cut_out,
    focus,
    focused_noise,
    global_snr,
    known_or_zero,
    pixel_snr,
    plane_noise,
    voxel_noise,
)
from napari_almadet.measure.gaussian_fit import beams_apart
from napari_almadet.measure.spectra import off_line
from napari_almadet.measure.stacking import at_edge
from napari_almadet.measure.tiling import cut
from napari_almadet.search.beam_decision import beam_of
from napari_almadet.search.extended_emission import part_by_lines
from napari_almadet.search.raw_detection import RawDetection

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.settings import Settings


ALONE = 1.5  # beams to the nearest source, for a position to be refined; closer ones overlap; chosen by eye
RECENTRE = 0.3  # beams by which a position may move: well below the resolution; chosen by eye
NOTHING = 1e-6  # of the peak of a spectrum: what is less moves no position by a thousandth of a pixel; derived
CUTOUT_COPIES = 6  # copies of a cutout that this step needs in memory


def focus_detection(
    detection: RawDetection, detections: list[RawDetection], cube: Cube, stacked: np.ndarray, settings: Settings
) -> None:
    """Box, line-integrated image and S/N of a detection.

    A source so close to it that only its lines distinguish them is added to ``detections``.  The position of an
    isolated compact source is refined.
    """
    cutout = cutout_of(detection, cube, stacked, settings)
    if cutout is None:
        return
    if detection.candidate.status is not Status.DROPPED:
        if (other := part_by_lines(detection, detections, cutout)) is not None:  # (9)
            detections.append(other)
            focus_on(other, cutout_of(other, cube, stacked, settings), settings)
            cutout = cutout_of(detection, cube, stacked, settings)
        elif not detection.box and is_isolated(detection, detections, beam := beam_of(cube, detection.beam)):
            detection.y, detection.x = best_place(detection, cutout, beam)
            detection.candidate.box = gaussian_box(detection, cube.shape[1:])
            if not cutout.holds(detection.candidate.box):
                cutout = cutout_of(detection, cube, stacked, settings)
    focus_on(detection, cutout, settings)


def is_isolated(detection: RawDetection, detections: Sequence[RawDetection], beam: np.ndarray) -> bool:
    """Whether no other kept detection is within :data:`ALONE` beams, along the line between the two.

    ``beam`` is its covariance along x and y, (2, 2) in pixels² of the cube.
    """
    others = (other for other in detections if other is not detection and other.candidate.status is not Status.DROPPED)
    return all(beams_apart(other.x - detection.x, other.y - detection.y, beam) > ALONE for other in others)


def best_place(detection: RawDetection, cutout: Cutout, beam: np.ndarray) -> tuple[float, float]:
    """The position (y, x) at which the spectrum and extent of a source fit best.

    If the noise is correlated like the beam, the maximum-likelihood position is the maximum of the sum over channels
    weighted with the source's spectrum, smoothed with its deconvolved extent.  It is searched near the position from
    Source Finder, which is kept if there is no such maximum.

    ``beam`` is its covariance along x and y, (2, 2) in pixels² of the cube.
    """
    image = weighted_with(expected_spectrum(detection), cutout.planes)
    extent = np.sqrt(np.maximum(np.square([detection.sigma_y, detection.sigma_x]) - np.diag(beam)[::-1], 0))
    reach = RECENTRE * detection.beam
    steps = np.linspace(-reach, reach, 2 * round(40 * RECENTRE) + 1)
    place = np.array([detection.y, detection.x]) - cutout.origin
    grid = np.meshgrid(place[0] + steps, place[1] + steps, indexing="ij")
    values = ndimage.map_coordinates(ndimage.gaussian_filter(image, extent, mode="nearest"), grid, order=3)
    y, x = np.unravel_index(values.argmax(), values.shape)
    if {0, len(steps) - 1} & {y, x}:
        return detection.y, detection.x
    move = np.array([steps[y], steps[x]]) + summit(values[y - 1 : y + 2, x - 1 : x + 2]) * (steps[1] - steps[0])
    return tuple(place + cutout.origin + move)


def weighted_with(spectrum: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Sum of planes (channels, ny, nx) with the weights of a source of some spectrum (channels,), in any unit.

    The noise is looked for only in the channels in which the spectrum is more than nothing.  All is 0 for a spectrum
    that is not known.
    """
    used = np.flatnonzero(np.abs(spectrum) > NOTHING * np.abs(spectrum).max())
    if not len(used):
        return np.zeros(planes.shape[1:], np.float32)
    part = slice(int(used[0]), int(used[-1]) + 1)
    planes, noise = planes[part], plane_noise(planes[part])
    weights = spectrum[part] / noise / noise
    weights /= np.abs(weights).max() or 1.0
    return np.tensordot(weights.astype(np.float32), known_or_zero(planes), axes=1)


def summit(values: np.ndarray) -> np.ndarray:
    """Offset (y, x), in steps, of the summit of the paraboloid through 3 x 3 values, the highest in their middle.

    It may be elongated in any direction, as beams are.
    """
    gradient = 0.5 * np.array([values[2, 1] - values[0, 1], values[1, 2] - values[1, 0]])
    mixed = 0.25 * (values[2, 2] - values[2, 0] - values[0, 2] + values[0, 0])
    (yy, xx), middle = (values[0, 1] + values[2, 1], values[1, 0] + values[1, 2]), 2 * values[1, 1]
    curvature = np.array([[yy - middle, mixed], [mixed, xx - middle]])
    return np.asarray(np.clip(np.linalg.lstsq(curvature, -gradient)[0], -1, 1))


def expected_spectrum(detection: RawDetection) -> np.ndarray:
    """Noise-free model spectrum (channels,) of a detection: continuum and lines, or flat."""
    spectrum, peaks = detection.spectrum, detection.candidate.peaks
    known, channel = spectrum != 0, np.arange(len(detection.spectrum))
    rest = known & off_line(peaks, len(spectrum))
    level = spectrum[rest].mean() if detection.candidate.kind != "line" and rest.any() else 0.0
    lines = [np.exp(-0.5 * ((channel - p.centre) / (p.fwhm * gaussian_fwhm_to_sigma)) ** 2) for p in peaks]
    heights = [line[known] @ (spectrum[known] - level) / (line[known] @ line[known]) for line in lines]
    expected = level + sum((h * line for h, line in zip(heights, lines, strict=True)), np.zeros(len(spectrum)))
    return expected if expected.any() else np.ones(len(spectrum))


def cutout_of(detection: RawDetection, cube: Cube, stacked: np.ndarray, settings: Settings) -> Cutout | None:
    """Set the box of a candidate and return its cutout, less sidelobes; None if it needs too much memory."""
    candidate, field = detection.candidate, cube.shape[1:]
    candidate.box = detection.box or gaussian_box(detection, field)
    candidate.edge = at_edge(candidate.box, stacked, detection.window.origin, field)
    side = max(settings.crop, *candidate.box.shape)
    needed = CUTOUT_COPIES * 4 * cube.shape[0] * side**2 / 1e9
    if side > settings.crop and needed > settings.memory:
        candidate.decide("too_large_to_measure", needed=needed, allowed=settings.memory)
        return None
    cutout = cut_out(cube, candidate.box, settings.crop)
    planes = cutout.planes  # ours alone
    planes -= detection.window.sidelobes_in(cutout.origin, planes.shape[1:])
    return cutout


def gaussian_box(detection: RawDetection, shape: tuple[int, int]) -> Box:
    """The box in which the Gaussian of a detection exceeds a tenth of its peak, within a field of ``shape``."""
    ny, nx = shape
    half_y, half_x = (np.sqrt(-2 * np.log(BOX_LEVEL)) * sigma for sigma in (detection.sigma_y, detection.sigma_x))
    y0, y1 = (int(np.clip(v, 0, ny)) for v in (np.ceil(detection.y - half_y), np.floor(detection.y + half_y) + 1))
    x0, x1 = (int(np.clip(v, 0, nx)) for v in (np.ceil(detection.x - half_x), np.floor(detection.x + half_x) + 1))
    return Box(min(y0, ny - 1), max(y1, y0 + 1), min(x0, nx - 1), max(x1, x0 + 1))


def focus_on(detection: RawDetection, cutout: Cutout | None, settings: Settings) -> None:
    """Steps 8 and 9 for one detection, in its cutout, if there is one: line-integrated image and S/N."""
    if cutout is None:
        return
    candidate = detection.candidate
    box = cutout.local(candidate.box)
    candidate.spectrum = np.nansum(cutout.planes[:, *box.slices], axis=(1, 2)).astype(np.float32)
    candidate.spectrum[~np.isfinite(cutout.planes[:, *box.slices]).any(axis=(1, 2))] = np.nan
    focused = focus(cutout.planes, candidate.channels)  # (8)
    sigma = focused_noise(focused, voxel_noise(cutout.planes, candidate.peaks), candidate.channels)
    candidate.snr_global = global_snr(focused, box, sigma)  # (9), eq. 3
    candidate.snr_pixel = brightest_pixel(pixel_snr(focused, sigma), box)[1]  # (9), eq. 4
    margin = (len(focused) - settings.crop) // 2
    candidate.focused = cut(focused, (margin, margin), settings.crop)
    candidate.focus_origin = (cutout.origin[0] + margin, cutout.origin[1] + margin)
