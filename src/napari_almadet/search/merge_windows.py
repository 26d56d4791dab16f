"""Merging of the detections of several windows, each source once, and of their images into those of the field.

A source in the overlap of two windows is detected in both.  Detections of the same source are identified by their
position, and the one from the window whose core contains the source is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.search.beam_decision import BeamDecision
from napari_almadet.search.raw_detection import RawDetection
from napari_almadet.search.windows import Window

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

TWINS = 0.5  # beams, within which the nearest detections of two windows are one source


@dataclass(frozen=True)
class NoiseSummary:
    """Properties of the noise of a window.

    ``correlation`` is the noise of a wide line relative to independent channels, ``dips`` the fraction of values below
    -5 sigma (3e-7 in Gaussian noise), ``channels`` the number of channels with data.  ``decision`` is the one on the
    dirty beam, if it was made in this window.  ``offset`` is the highest median of a channel's pixels above that of all
    channels, in sigma of a pixel, and ``offset_channels`` the half-open range of channels about it that are over half
    as high.  ``subtracted`` is the share of the sidelobes of bright sources that was subtracted.
    """

    correlation: float
    dips: float
    channels: int
    decision: BeamDecision | None = None
    offset: float = 0.0
    offset_channels: tuple[int, int] = (0, 0)
    subtracted: float = 0.0


@dataclass(frozen=True)
class Part:
    """The results of one window.

    ``stacked`` is the stacked image in pixels of the cube; ``probability`` (from Source Finder) and ``strength`` (the
    higher of the S/N in the stacked image and in the best line) are in pixels of the window.  All images cover the core
    of the window only; ``detections`` are those of the whole window.  ``noise`` is None if it has no data.
    """

    window: Window
    stacked: np.ndarray
    probability: np.ndarray
    strength: np.ndarray
    detections: list[RawDetection]
    noise: NoiseSummary | None


def part_of(
    window: Window,
    cube: Cube,
    stacked: np.ndarray,
    images: np.ndarray,
    detections: list[RawDetection],
    noise: NoiseSummary | None,
) -> Part:
    """The results of a window, with the images of its core.

    Parameters
    ----------
    stacked
        Of the whole window, in pixels of the cube.
    images
        ``probability`` and ``strength`` of the whole window, (2, ny, nx).
    """
    for detection in detections:
        detection.window = window  # without its sidelobes, which are large
    (y, x), (own_y, own_x) = window.origin, window.owned_pixels(cube.shape[1:])
    own = stacked[own_y.start - y : own_y.stop - y, own_x.start - x : own_x.stop - x]
    probability, strength = images[:, *window.owned]
    return Part(window, own, probability, strength, detections, noise)


def field_shape(shape: tuple[int, int, int], k: int | float) -> Window:
    """A window as large as a cube's field."""
    ny, nx = (int(np.ceil(n / k)) for n in shape[1:])
    return Window(0, 0, (ny, nx), (slice(0, ny), slice(0, nx)), k)


def mosaic_of_windows(parts: list[Part], shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of the field, combined from the cores of the windows: stacked, probability (both ny, nx), strength.

    The probability is NaN where there is no data.
    """
    field = shape[1:]
    if len(parts) == 1:
        stacked, probability, strength = parts[0].stacked, parts[0].probability, parts[0].strength
    else:
        whole = field_shape(shape, parts[0].window.k)
        stacked = np.empty(field, np.float32)
        probability, strength = np.empty((2, *whole.shape), np.float32)
        for part in parts:
            stacked[part.window.owned_pixels(field)] = part.stacked
            place = tuple(
                slice(first + own.start, first + own.stop)
                for first, own in zip((part.window.y, part.window.x), part.window.owned, strict=True)
            )
            probability[place], strength[place] = part.probability, part.strength
    probability = in_pixels(probability, parts[0].window.k, field)
    probability[np.isnan(stacked)] = np.nan
    return stacked, probability, strength


def in_pixels(image: np.ndarray, k: int | float, field: tuple[int, int]) -> np.ndarray:
    """An image at the resolution of the windows, resampled to the pixels of a cube whose field is (ny, nx)."""
    if k < 1:
        return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).max(axis=(1, 3))
    return np.repeat(np.repeat(image, int(k), axis=0), int(k), axis=1)[: field[0], : field[1]]


def merge_windows(parts: list[Part], beam: float) -> list[RawDetection]:
    """The detections of all windows, each source once, renumbered if there are several windows.

    Two detections of different windows are the same source if each is the nearest to the other, within :data:`TWINS`
    beams.  Of these, the one in the core of its window is kept, or, if this holds for both or neither, the most
    probable
    one.  Detections without a counterpart are kept if they are in the core of their window.

    Parameters
    ----------
    beam
        FWHM in the cube's pixels.
    """
    if len(parts) == 1:
        return parts[0].detections
    from scipy.spatial import cKDTree

    detections = [detection for part in parts for detection in part.detections]
    if not detections:
        return []
    of_window = np.repeat(np.arange(len(parts)), [len(part.detections) for part in parts])
    places = np.array([(detection.y, detection.x) for detection in detections])
    source = one_source(places, of_window, TWINS * beam)
    mine = np.array([detection.window.owns(detection.y, detection.x) for detection in detections])
    margin = TWINS * beam / parts[0].window.k
    near = np.array([detection.window.owns(detection.y, detection.x, margin) for detection in detections])
    logit = np.array([detection.features.detection_logit for detection in detections])
    kept = []
    for number in range(source.max() + 1):
        group = np.flatnonzero(source == number)
        if mine[group].any() or (len(group) > 1 and near[group].any()):
            kept.append(int(max(group[near[group]], key=lambda i: (mine[i], logit[i]))))
    if not kept:
        return []
    kept.sort()
    new = dict(zip(source[kept].tolist(), range(1, len(kept) + 1), strict=True))
    nearest = cKDTree(places[kept]).query(places)[1] + 1
    numbers = [new.get(int(s), int(n)) for s, n in zip(source, nearest, strict=True)]
    called: dict[int, dict[int, int]] = {}  # by window, the new ids by the old ones
    for w, detection, n in zip(of_window, detections, numbers, strict=True):
        called.setdefault(int(w), {})[detection.candidate.id] = n
    for i in kept:
        renumber(detections[i], called[int(of_window[i])].__getitem__)
    return [detections[i] for i in kept]


def number_new(detections: list[RawDetection]) -> None:
    """Give an id to the candidates that have none."""
    highest = max((detection.candidate.id for detection in detections), default=0)
    for detection in detections:
        if not detection.candidate.id:
            highest += 1
            detection.candidate.id = highest


def one_source(places: np.ndarray, of_window: np.ndarray, reach: float) -> np.ndarray:
    """Number of the source of each detection; counterparts in several windows have the same number.

    Parameters
    ----------
    places
        (y, x) of the detections, shape (n, 2).
    of_window
        Number of each one's window, shape (n,).
    reach
        Of counterparts, in the unit of ``places``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    pairs = pairs[of_window[pairs[:, 0]] != of_window[pairs[:, 1]]]
    distance = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    nearest: dict[tuple[int, int], int] = {}  # by detection and other window
    for a, b in pairs[np.argsort(distance, kind="stable")].tolist():
        nearest.setdefault((a, int(of_window[b])), b)
        nearest.setdefault((b, int(of_window[a])), a)
    counterparts = [
        (a, b) for a, b in pairs.tolist() if nearest[a, int(of_window[b])] == b and nearest[b, int(of_window[a])] == a
    ]
    a, b = np.array(counterparts, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(places), len(places)))
    return connected_components(graph, directed=False)[1]


def renumber(detection: RawDetection, called: Callable[[int], int]) -> None:
    """Renumber a candidate and its decisions with ``called`` (old id)."""
    candidate = detection.candidate
    candidate.id = called(candidate.id)
    candidate.parent = called(candidate.parent) if candidate.parent else 0
    candidate.decisions = [decision.renumbered(called) for decision in candidate.decisions]
