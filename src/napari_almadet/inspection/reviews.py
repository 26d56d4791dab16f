"""Transfer of reviews (verdicts, notes, edits) to the candidates of another detection in the same cube."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.measure.spectra import overlap

if TYPE_CHECKING:
    from napari_almadet.catalogue.export import Source

APART = 3.0  # pixels: how far two measurements of one source may lie apart where the beam is unknown


def reviewed(candidate: Candidate) -> bool:
    """Whether the astronomer said or did anything about a candidate: a verdict, a note, a box, a range."""
    return candidate.verdict in ("accepted", "rejected") or bool(candidate.note) or candidate.origin != "found"


def match(
    ones: Sequence[Candidate], others: Sequence[Candidate], beam_fwhm: float | None
) -> list[tuple[Candidate, Candidate]]:
    """Pairs of candidates that are one source: within a beam of each other, with channels in common.

    Each belongs to one pair at most; the nearest are paired first.

    Parameters
    ----------
    beam_fwhm
        In pixels; where it is unknown, `APART` pixels stand for it.

    Returns
    -------
    list of (Candidate, Candidate)
        One of ``ones`` and one of ``others`` each.
    """
    if not len(ones) or not len(others):
        return []
    reach = max(beam_fwhm or APART, 1.0)
    here, there = (np.array([c.position for c in group]) for group in (ones, others))
    distance = np.hypot(*(here[:, None] - there[None]).transpose(2, 0, 1))
    near = np.argwhere(distance <= reach)
    near = near[np.argsort(distance[tuple(near.T)], kind="stable")]
    partners: dict[int, int] = {}
    taken: set[int] = set()
    for i, j in near.tolist():
        if i not in partners and j not in taken and overlap(ones[i].channels, others[j].channels):
            partners[i] = j
            taken.add(j)
    return [(ones[i], others[j]) for i, j in partners.items()]


@dataclass(frozen=True)
class Carried:
    """How many reviews were carried over, and how many had no counterpart and were kept as candidates of their own."""

    matched: int
    kept: int


def carry_over(earlier: Sequence[Candidate], found: list[Candidate], beam_fwhm: float | None) -> Carried:
    """Carry verdicts, notes and edits over from an earlier detection.

    * A candidate that was found again gets the verdict and the note.
    * Where the astronomer had changed, drawn or imported its box or emission range, that box and range with all that
      is measured in them take the place of what was found; probability and reliability are the new detection's.
    * One that was reviewed and is not found again is kept, with a number of its own, and a decision that says so.

    Parameters
    ----------
    earlier
        Candidates of the earlier detection; they are left as they are.
    found
        Candidates of the new one: changed in place, those kept are appended.
    beam_fwhm
        In pixels, see :func:`match`.
    """
    reviewed_before = [candidate for candidate in earlier if reviewed(candidate)]
    pairs = match(reviewed_before, found, beam_fwhm)
    for old, new in pairs:
        if old.origin != "found":
            own = {**vars(copy(old)), "id": new.id, "prob": new.prob, "rel": new.rel, "decisions": [*old.decisions]}
            vars(new).update(own)
        new.verdict, new.note = old.verdict, old.note
    matched = {id(old) for old, _ in pairs}
    lost = [candidate for candidate in reviewed_before if id(candidate) not in matched]
    last = max((candidate.id for candidate in found), default=0)
    for number, old in enumerate(lost, start=last + 1):
        kept = copy(old)
        kept.id = number
        kept.origin = "edited" if old.origin == "found" else old.origin
        kept.decisions = [*old.decisions]
        kept.decide("kept_from_earlier")
        found.append(kept)
    return Carried(len(pairs), len(lost))


def name_after(candidate: Candidate, source: Source, file: str) -> None:
    """Record what an imported source was called and where its file has it; a note without words is its name."""
    name = source.name or "a source"
    candidate.decide("imported", file=file, name=name, x=source.x, y=source.y)
    candidate.note = candidate.note or source.name


def named_too(candidate: Candidate, imported: Candidate) -> dict[str, Any]:
    """The note and the record of the import of a candidate that is the same source as an imported one."""
    imports = [decision for decision in imported.decisions if decision.rule == "imported"]
    return {"decisions": [*candidate.decisions, *imports], "note": candidate.note or imported.note}
