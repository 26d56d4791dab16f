"""Reliability of candidates, estimated from detections in the inverted cube.

Noise is as often negative as positive, and sidelobes nearly so, but sources are never negative.  Detections in the
inverted cube, with the same networks, are therefore false detections (Serra, Jurek & Floeer 2012, PASA 29, 296;
SoFiA-2's reliability).  If P and N are the densities of candidates and of negative detections near a candidate's
``prob``, its reliability is 1 - N / P.

Serra et al. compare densities in three dimensions of flux.  Here there is one dimension, the logit of ``prob``: the
classifier has already taken S/N and extent into account, the S/N in the box of a candidate next to a brighter source
is that of the neighbour, and the roughly ten negative detections of a field are too few for three dimensions.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.catalogue.detections import Searched
from napari_almadet.progress import Progress, in_steps, renamed

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


FEW = 20  # negative detections; with fewer, reliabilities are rough: their relative error is over 1 / sqrt(20) = 22 %
MANY = 2  # negative detections above the threshold, too many for noise: simulated fields have one in 50
SPREAD = 2.0  # standard deviation of the logit of candidates due to noise, in simulated fields,
WORTH = 5  # counted as this many negative detections, because the spread of a few can be too small by chance; by eye
DIP = 0.5  # of a source's S/N, below which a negative detection next to it is its bowl or a dip in its baseline; by eye
EDGE = 1e-4  # probabilities closer to 0 or 1 are set to this distance: the calibration cannot distinguish them


def add_reliability(
    found: Searched,
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    client: Client | None = None,
) -> Generator[Progress, None, None]:
    """Search the inverted cube, and add its detections, the reliability of each candidate and notes to the result."""
    detected = yield from find_negatives.steps(cube, settings, networks, found.candidates, client)
    found.negatives = judged(detected)
    assign(found.candidates, found.negatives)
    found.warnings += notes(found.negatives, settings.threshold)


@in_steps
def find_negatives(
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    candidates: Sequence[Candidate],
    client: Client | None = None,
) -> Generator[Progress, None, list[Candidate]]:
    """Candidates of the inverted cube, except those explained by a source of the cube.

    The sidelobes of bright sources are subtracted before the inversion.  At a kept source, the inverted cube shows the
    bowl around it, or the dip that its line leaves in a fitted baseline.  So negative detections whose centre is in the
    box of a kept candidate, or within a beam of it, are ignored unless they are at least half as strong.

    Parameters
    ----------
    cube, settings, networks, client
        As for the search itself.
    candidates
        Candidates of the cube itself.
    """
    from napari_almadet.search.pipeline import search_steps

    steps = search_steps(cube, settings, networks, client, negated=True)
    found = yield from renamed(steps, lambda stage: f"Inverted cube: {stage[0].lower()}{stage[1:]}")
    margin = found.record["scales"]["beam"]
    kept = [c for c in candidates if c.status is not Status.DROPPED]

    def is_a_dip(c: Candidate) -> bool:
        return any(
            c.snr_pixel < DIP * source.snr_pixel
            and source.box.y0 - 0.5 - margin <= c.y <= source.box.y1 - 0.5 + margin
            and source.box.x0 - 0.5 - margin <= c.x <= source.box.x1 - 0.5 + margin
            for source in kept
        )

    return [c for c in found.candidates if not is_a_dip(c)]


def reliability(found: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Reliability 1 - N / P of each candidate, from 0 to 1.

    The densities are kernel density estimates with Gaussians whose width follows from Scott's rule for the number and
    the spread of the negative detections; for few of them, the spread is that of simulated fields.

    Parameters
    ----------
    found, negatives
        ``prob`` of the candidates, shape (n,), and of the negatives, (m,).

    Returns
    -------
    numpy.ndarray
        Shape (n,); NaN for candidates without ``prob``, and if there are no negative detections.
    """
    rel = np.full(len(found), np.nan)
    at, against = _logit(found), _logit(negatives)
    known, against = np.isfinite(at), against[np.isfinite(against)]
    if not len(against):
        return rel
    count = len(against)
    spread = np.sqrt((count * against.var() + WORTH * SPREAD**2) / (count + WORTH))
    width = float(spread * count**-0.2)
    positive, negative = (
        np.exp(-0.5 * ((at[known, None] - points) / width) ** 2).sum(axis=1) for points in (at[known], against)
    )
    rel[known] = np.clip(1 - negative / positive, 0, 1)
    return rel


def assign(candidates: Sequence[Candidate], negatives: np.ndarray) -> None:
    """Set ``rel`` of candidates from ``prob`` and S/N of the negative detections, (m, 2), see :func:`judged`."""
    for candidate, rel in zip(candidates, reliability(judged(candidates)[:, 0], negatives[:, 0]), strict=True):
        candidate.rel = float(rel)


def judged(candidates: Sequence[Candidate]) -> np.ndarray:
    """``prob`` and ``snr_pixel`` of candidates, shape (n, 2)."""
    return np.array([(c.prob, c.snr_pixel) for c in candidates], dtype=float).reshape(-1, 2)


def notes(negatives: np.ndarray, threshold: float) -> list[str]:
    """Notes on the reliabilities of a run, one sentence each."""
    count, above = len(negatives), int((negatives[:, 0] >= threshold).sum())
    if not count:
        return ["There are no detections in the inverted cube: reliabilities cannot be estimated."]
    warnings = [
        f"{above} of {count} negative detections away from sources have a source probability of {threshold:g} or more: "
        f"expect about {above} false positive{'' if above == 1 else 's'}."
    ]
    if above >= MANY:
        warnings.append(
            "Noise alone does not produce that many: some are negative bowls or sidelobes, and reliabilities are "
            "too low if these have no positive counterparts."
        )
    if count < FEW:
        warnings.append(f"With fewer than {FEW} negative detections ({count}), reliabilities are rough estimates.")
    return warnings


def _logit(prob: np.ndarray) -> np.ndarray:
    prob = np.clip(prob, EDGE, 1 - EDGE)
    return np.log(prob / (1 - prob))
