"""How far a candidate is to be trusted in this very cube: what its negative shows of the same kind.

Noise is as often negative as positive, and so, nearly, are sidelobes; sources are not negative.  A search of the
negated cube with the same networks therefore shows what is found where there is no source (Serra, Jurek & Floeer
2012, PASA 29, 296; SoFiA-2's reliability).  With P and N the densities of candidates and negatives about a candidate's
``prob``, its reliability is the share of P that N does not account for, 1 - N / P.

Serra et al. compare in three dimensions of flux.  Here it is one, the logit of ``prob``: Judge has weighed SNR and
extent already, the SNR in the box of a candidate beside a brighter source is the neighbour's, and of the ten negatives
that a field has, a density in one dimension can be made, but not in three.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.progress import Progress, in_steps, renamed

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube.cube import Cube
    from napari_almadet.search.networks import SearchNetworks
    from napari_almadet.settings import Settings


FEW = 20  # negatives, with fewer of which reliabilities are rough
MANY = 2  # negatives over the threshold that noise alone does not make: in simulated fields there is one in 50
SPREAD = 2.0  # of the logits of candidates of noise in simulated fields,
WORTH = 5  # which counts as so many negatives: a few close together by chance do not tell how far others may lie
DIP = 0.5  # of a source's SNR, up to which a negative beside it is its own bowl or its line's dip in a fitted baseline
EDGE = 1e-4  # from 0 and 1, beyond which probabilities are not told apart


@in_steps
def find_negatives(
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    candidates: Sequence[Candidate],
    client: Client | None = None,
) -> Generator[Progress, None, list[Candidate]]:
    """Candidates of the negated cube, but for those that a source of the cube explains.

    The sidelobes of bright sources are taken off before the sign is turned.  Where a source was kept, the negative
    shows the bowl about it, or the dip that its line leaves in a fitted baseline.  Negatives whose centre is in the box
    of a kept candidate, or within a beam of it, are left out, unless they are half as strong as the candidate is.

    Parameters
    ----------
    cube, settings, networks, client
        As for the search itself.
    candidates
        What was found in the cube.
    """
    from napari_almadet.search.pipeline import search_steps

    steps = search_steps(cube, settings, networks, client, negated=True)
    found = yield from renamed(steps, lambda stage: f"Inverted cube: {stage[0].lower()}{stage[1:]}")
    margin = found.scales["beam"]
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
    """Share of the candidates about each that the negatives do not account for, 1 - N / P, from 0 to 1.

    The densities are sums of Gaussians as wide as Scott's rule makes them for the negatives' number and spread, which
    for a few is that of simulated fields.

    Parameters
    ----------
    found, negatives
        ``prob`` of the candidates, shape (n,), and of the negatives, (m,).

    Returns
    -------
    numpy.ndarray
        Shape (n,); NaN where a candidate has no ``prob``, and without any negative, since nothing is then known of what
        they would be like.
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
    """Give candidates their ``rel`` by ``prob`` and SNR of the negatives, (m, 2), as :func:`judged` has them."""
    for candidate, rel in zip(candidates, reliability(judged(candidates)[:, 0], negatives[:, 0]), strict=True):
        candidate.rel = float(rel)


def judged(candidates: Sequence[Candidate]) -> np.ndarray:
    """``prob`` and ``snr_pixel`` of candidates, shape (n, 2)."""
    return np.array([(c.prob, c.snr_pixel) for c in candidates], dtype=float).reshape(-1, 2)


def notes(negatives: np.ndarray, threshold: float) -> list[str]:
    """What to know of the reliabilities of a run, one sentence each."""
    count, above = len(negatives), int((negatives[:, 0] >= threshold).sum())
    if not count:
        return ["There are no detections in the inverted cube: reliabilities cannot be estimated."]
    said = [
        f"{above} of {count} negative detections away from sources have a source probability of {threshold:g} or more: "
        f"expect about {above} false positive{'' if above == 1 else 's'}."
    ]
    if above >= MANY:
        said.append(
            "Noise alone does not produce that many: some are negative bowls or sidelobes, and reliabilities are "
            "too low if these have no positive counterparts."
        )
    if count < FEW:
        said.append(f"With fewer than {FEW} negative detections ({count}), reliabilities are rough estimates.")
    return said


def _logit(prob: np.ndarray) -> np.ndarray:
    prob = np.clip(prob, EDGE, 1 - EDGE)
    return np.log(prob / (1 - prob))
