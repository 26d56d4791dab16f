"""Source spectral focusing (paper, steps 8 and 9): line-integrated images, their S/N, and deblending.

Equations 3 and 4 of the paper divide a flux by a variance, so that as printed they
carry the unit 1/flux and depend on the unit of the cube.  Here each is evaluated with
the image in units of the noise it divides by, ``x / sigma`` with sigma the robust
standard deviation (by the median absolute deviation) of the same pixels.  The variance is then 1, both are
dimensionless, and equation 4 is the usual ``x / sigma``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.cutout import Cutout
from napari_almadet.measure.planes import robust_std
from napari_almadet.measure.spectra import off_line, overlap
from napari_almadet.measure.stacking import integrate
from napari_almadet.measure.tiling import shared_pixels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_almadet.cube.cube import Cube


SMALLEST_RADIUS = 1.5  # pixels; derived: such a circle contains nine pixels
LINKING_SNR = 2.0  # S/N of a pixel, minimum to be linked by friends-of-friends; chosen by eye (not in the paper)
PRESENT_SNR = 3.0  # S/N of a line or continuum at a known position, from which it is detected; convention


def cut_out(cube: Cube, box: Box, side: int) -> Cutout:
    """Cut ``side`` x ``side`` pixels about the middle of a box out of the cube, more if the box is larger."""
    side = max(side, *box.shape)
    y, x = (int(np.floor(middle - side / 2)) + 1 for middle in box.centre)
    origin = (y, x)
    if min(origin) >= 0 and y + side <= cube.shape[1] and x + side <= cube.shape[2]:
        return Cutout(cube.read(slice(None), slice(y, y + side), slice(x, x + side)), origin)
    planes = np.full((cube.shape[0], side, side), np.nan, np.float32)
    inside, source = shared_pixels(origin, side, cube.shape[1:])
    planes[:, *inside] = cube.read(slice(None), *source)
    return Cutout(planes, origin)


def focus(planes: np.ndarray, channels: tuple[int, int]) -> np.ndarray:
    """Integrate planes (channel, y, x) over a half-open range of channels: the focused image (paper, step 8)."""
    return integrate(planes[slice(*channels)])


def without_continuum(planes: np.ndarray, peaks: Iterable[EmissionPeak]) -> np.ndarray:
    """Subtract each pixel's mean outside the emission ranges of ``peaks``; unchanged if no channel is left."""
    rest = planes[off_line(peaks, len(planes))]
    return planes - integrate(rest) / len(rest) if len(rest) else planes


def noise(image: np.ndarray) -> float:
    """Standard deviation of the noise by the median absolute deviation; NaN if the image has no spread at all."""
    values = image.ravel() if np.isfinite(image.sum()) else image[np.isfinite(image)]
    if not values.size:
        return np.nan
    # over half of an image may hold one value, as a simulation's empty sky does
    return float(robust_std(values)) or float(values.std()) or np.nan


def voxel_noise(planes: np.ndarray, peaks: Iterable[EmissionPeak]) -> float:
    """Standard deviation of the noise in one channel, from the channels outside the emission ranges; NaN if unknown."""
    thin = max(1, planes.shape[1] // 32)  # pixels closer than that share their noise, and tell nothing new
    planes = planes[:, ::thin, ::thin]
    rest = planes[off_line(peaks, len(planes))]
    if len(rest) < 2:
        return noise(planes)
    # the mean of n channels that is taken off takes 1/n of their variance with it
    return noise(rest - integrate(rest) / len(rest)) * np.sqrt(len(rest) / (len(rest) - 1))


def over_noise(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Channels in units of their noise, 0 without data, and the noise of each, (channels,): infinite without any."""
    sigma = plane_noise(planes)
    return known_or_zero(planes / sigma[:, None, None]), sigma


def plane_noise(planes: np.ndarray) -> np.ndarray:
    """Noise of each of some planes (channels, ny, nx), (channels,): infinite without any."""
    sigma = np.nan_to_num(robust_std(planes.reshape(len(planes), -1)))
    sigma[sigma == 0] = np.inf
    return sigma


def known_or_zero(planes: np.ndarray) -> np.ndarray:
    """Planes with 0 where there is no data; the same ones if there is everywhere."""
    return planes if np.isfinite(planes.sum()) else np.nan_to_num(planes)


def focused_noise(image: np.ndarray, rms: float, channels: tuple[int, int]) -> float:
    """Standard deviation of the noise in a focused image.

    The noise of the image, but at least the ``rms`` of a channel times the root of their number: a
    crop contains only some tens of beams, and if their scatter is low by chance, noise would be
    mistaken for a source.
    """
    return float(np.nanmax([noise(image), rms * np.sqrt(channels[1] - channels[0]), 0])) or np.nan


def pixel_snr(image: np.ndarray, sigma: float | None = None) -> np.ndarray:
    """Signal-to-noise ratio of every pixel (eq. 4), ``x_i / var(X)`` in units of the image's noise: ``x_i / sigma``.

    Parameters
    ----------
    image
        Shape (y, x), any unit; NaN where there is no data.
    sigma
        The noise, where it is known better than :func:`noise` of this image can tell.
    """
    return image / (noise(image) if sigma is None else sigma)


def global_snr(image: np.ndarray, box: Box, sigma: float | None = None) -> float:
    """Signal-to-noise ratio of a source (eq. 3), ``median(x_s(r)) / var(x_n(R - r))`` in units of the annulus's noise.

    The circle of radius r is inscribed in the box; the annulus from r to R = sqrt(2) r
    has the same area.  The spread of the annulus is taken about the level of the whole
    image, so that an annulus that still lies on the source counts as noisy: the ratio
    rises until the circle holds the source, and is low for a box tighter than that.  It
    is not let under the noise of the image itself, since the few pixels of a small
    annulus, all within a beam, can look quieter than the noise is.

    Parameters
    ----------
    image
        Shape (y, x), any unit; NaN where there is no data.
    box
        In pixels of the image.
    sigma
        The image's noise, where it is known better than :func:`noise` of it can tell.

    Returns
    -------
    float
        NaN where the circle holds no data or the image no noise.
    """
    y, x = np.indices(image.shape)
    distance = np.hypot(y - box.centre[0], x - box.centre[1])
    inner, outer = source_radii(box)
    known = np.isfinite(image)
    source = image[known & (distance <= inner)]
    annulus = image[known & (distance > inner) & (distance <= outer)]
    if not source.size:
        return np.nan
    sigma = noise(image) if sigma is None else sigma
    if annulus.size:
        sigma = max(sigma, np.median(np.abs(annulus - np.median(image[known]))) / NORMAL_MAD)
    return float(np.median(source) / sigma)


def source_radii(box: Box) -> tuple[float, float]:
    """Radii in pixels about a box's centre: of the circle of a source, and of its annulus, which has the same area."""
    radius = max(min(box.shape) / 2, SMALLEST_RADIUS)
    return radius, float(np.sqrt(2) * radius)


def brightest_pixel(snr: np.ndarray, box: Box) -> tuple[tuple[int, int], float]:
    """(y, x) of the highest pixel inside a box, and its value; NaN if the box holds no data."""
    part = snr[box.slices]
    y, x = np.unravel_index(np.argmax(np.where(np.isnan(part), -np.inf, part)), part.shape)
    return (int(y) + box.y0, int(x) + box.x0), float(part[y, x])


def friends_of_friends(image: np.ndarray, seed: tuple[int, int], sigma: float | None = None) -> np.ndarray:
    """Link the pixels of one source, outward from its brightest, up to the plateau of the global SNR (paper, step 9).

    In each turn the neighbours of the linked pixels join them if they stand out of the
    noise and are no brighter than a linked pixel they touch, so that the links run
    downhill and not up to the next source.  The global SNR of their common box is
    measured each time; when two turns have not raised it, the pixels linked up to its
    highest value are the source.

    Parameters
    ----------
    image
        Focused image, shape (y, x).
    seed
        (y, x) of the pixel to start from.
    sigma
        The image's noise, where it is known better than :func:`noise` of it can tell.

    Returns
    -------
    numpy.ndarray
        Boolean mask, shape (y, x).
    """
    snr = pixel_snr(image, sigma)
    linked = np.zeros(image.shape, bool)
    linked[seed] = True
    source, plateau, turns_without_rise = linked, -np.inf, 0
    while turns_without_rise < 2:
        reach = ndimage.maximum_filter(np.where(linked, snr, -np.inf), size=3)
        friends = ~linked & (snr >= LINKING_SNR) & (snr <= reach)
        if not friends.any():
            break
        linked = linked | friends
        level = global_snr(image, bounding_box(linked), sigma)
        if level > plateau:
            source, plateau, turns_without_rise = linked, level, 0
        else:
            turns_without_rise += 1
    return source


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that encompasses all pixels of a mask (paper, step 10)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def reject(candidate: Candidate, stacked_snr: float, min_snr: float) -> None:
    """Drop a candidate that is detected neither in its line-integrated nor in the stacked image (paper, step 9).

    Detected means that the highest pixel S/N inside its box reaches ``min_snr``.  The decision and its values are
    recorded in the candidate.
    """
    ratios: dict[str, Any] = {"snr_focused": candidate.snr_pixel, "snr_stacked": stacked_snr}
    if candidate.snr_pixel >= min_snr or stacked_snr >= min_snr:
        candidate.decide("seen", **ratios)
    else:
        candidate.decide("not_seen", Status.DROPPED, **ratios, min_snr=min_snr)


def deblend(candidate: Candidate, cutout: Cutout, beam_fwhm: float, min_snr: float) -> list[tuple[Box, tuple]]:
    """Deblend a candidate with several emission peaks (paper, step 9).

    A line-integrated image is made for each secondary peak.  If the range of a peak overlaps that of the primary, they
    cannot be separated, because the primary is also visible in that image: the candidate is flagged as blended.
    Otherwise the brightest pixel is compared with the reference pixel, the brightest of the primary.  Both are
    determined in continuum-subtracted images, because a continuum source is visible in all channels.  The peak is then

    * a false positive if no pixel reaches ``min_snr``;
    * from another source if its pixel is more than 1 px from the reference pixel, or more than the beam width divided
    by
      the S/N, the position error of a faint source;
    * otherwise from the same source: a second line if the global S/N of its image is at least that of the image
      integrated over all channels, else a false positive.

    The candidate's ``peaks``, ``blended``, ``status`` and ``decisions`` are updated.

    Parameters
    ----------
    candidate
        With at least one peak; its first is the primary.
    cutout
        About the candidate's box.
    beam_fwhm
        In pixels; 0 where unknown.
    min_snr
        Least pixel SNR of another source.

    Returns
    -------
    list of (Box, tuple of EmissionPeak)
        The sources in the blob, the candidate's own first, each with its box in the
        cube's pixels and its lines; empty if there is but one.
    """
    planes, box = cutout.planes, cutout.local(candidate.box)
    lines, rms = without_continuum(planes, candidate.peaks), voxel_noise(planes, candidate.peaks)
    whole = global_snr(integrate(planes), box)
    primary = _Focused.on(lines, candidate.channels, box, rms)
    if not primary.snr >= min_snr:  # the continuum shows where the source is, its line does not
        primary = _Focused.on(planes, candidate.channels, box, rms)
    sources = [(primary, list(candidate.peaks[:1]))]
    for peak in candidate.peaks[1:]:
        channels = peak.emission_range(len(planes))
        if overlap(channels, candidate.channels):
            sources[0][1].append(peak)
            candidate.blended = True
            candidate.decide("peaks_overlap", Status.FLAGGED, channel=peak.channel)
            continue
        focused = _Focused.on(lines, channels, box, rms)
        if not focused.snr >= min_snr:
            candidate.decide("peak_too_faint", channel=peak.channel, snr=focused.snr, min_snr=min_snr)
            continue
        distance, nearest = min(
            ((focused.distance(source), i) for i, (source, _) in enumerate(sources)), key=lambda pair: pair[0]
        )
        if distance > max(1, beam_fwhm / min(focused.snr, sources[nearest][0].snr)):
            sources.append((focused, [peak]))
            candidate.blended = True
            candidate.decide("peak_elsewhere", channel=peak.channel, distance=distance, snr=focused.snr)
        elif nearest > 0:
            sources[nearest][1].append(peak)
        else:
            image = focus(planes, channels)
            ratio = global_snr(image, box, focused_noise(image, rms, channels))
            if ratio >= whole:
                sources[0][1].append(peak)
            rule = "peak_second_line" if ratio >= whole else "peak_no_line"
            candidate.decide(rule, channel=peak.channel, snr_focused=float(ratio), snr_stacked=float(whole))
    candidate.peaks = tuple(sources[0][1])
    if len(sources) == 1:
        return []
    return [(cutout.world(source.box()), tuple(peaks)) for source, peaks in sources]


@dataclass(frozen=True)
class _Focused:
    """A focused image with its noise, and the brightest pixel inside a box."""

    image: np.ndarray
    sigma: float
    pixel: tuple[int, int]
    snr: float

    @classmethod
    def on(cls, planes: np.ndarray, channels: tuple[int, int], box: Box, rms: float) -> _Focused:
        image = focus(planes, channels)
        sigma = focused_noise(image, rms, channels)
        return cls(image, sigma, *brightest_pixel(pixel_snr(image, sigma), box))

    def distance(self, other: _Focused) -> float:
        return float(np.hypot(*np.subtract(self.pixel, other.pixel)))

    def box(self) -> Box:
        return bounding_box(friends_of_friends(self.image, self.pixel, self.sigma))


def classify(candidate: Candidate, cutout: Cutout) -> str:
    """Whether a candidate shows a "line", "continuum" or "both", at the brightest pixel of its focused image.

    The line is looked for in its emission range with the continuum taken off, the
    continuum in all channels outside the emission ranges.
    """
    if not candidate.peaks:
        return "continuum"
    rest = off_line(candidate.peaks, len(cutout.planes))
    if not rest.any():
        return "line"
    lines, rms = without_continuum(cutout.planes, candidate.peaks), voxel_noise(cutout.planes, candidate.peaks)
    pixel, _ = brightest_pixel(focus(cutout.planes, candidate.channels), cutout.local(candidate.box))
    image = focus(lines, candidate.channels)
    line = image[pixel] / focused_noise(image, rms, candidate.channels)
    continuum = pixel_snr(integrate(cutout.planes[rest]))[pixel]
    if line >= PRESENT_SNR and continuum >= PRESENT_SNR:
        return "both"
    return "continuum" if continuum > max(line, PRESENT_SNR) else "line"
