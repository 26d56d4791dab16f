"""What the astronomer said is found again in another detection of the same cube."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.inspection.reviews import Carried, carry_over, match, reviewed


def candidate(number, x, y, channels=(10, 20), **more) -> Candidate:
    return Candidate(
        number, Box(int(y) - 3, int(y) + 4, int(x) - 3, int(x) + 4), 0.9, x=x, y=y, channels=channels, **more
    )


def test_pairs_lie_within_a_beam_and_share_channels():
    ones = [candidate(1, 10, 10), candidate(2, 40, 40), candidate(3, 70, 70)]
    others = [candidate(1, 72, 70), candidate(2, 10, 12), candidate(3, 40, 40, channels=(20, 30)), candidate(4, 10, 11)]
    assert [(a.id, b.id) for a, b in match(ones, others, beam_fwhm=4.0)] == [(1, 4), (3, 1)]
    assert [(a.id, b.id) for a, b in match(ones, others, beam_fwhm=1.5)] == [(1, 4)]
    assert match([], others, 4.0) == match(ones, [], 4.0) == []


def test_verdicts_and_notes_go_to_what_was_found_again():
    earlier = [candidate(5, 10, 10, verdict="accepted", note="disc"), candidate(7, 40, 40)]
    found = [candidate(1, 40, 40), candidate(2, 10, 11)]
    assert carry_over(earlier, found, 4.0) == Carried(matched=1, kept=0)
    assert [(c.id, c.verdict, c.note, c.origin) for c in found] == [
        (1, "unreviewed", "", "found"),
        (2, "accepted", "disc", "found"),
    ]


def test_the_users_box_stays_the_users():
    mine = candidate(3, 10, 10, origin="edited", verdict="accepted", channels=(8, 25))
    mine = replace(mine, box=Box(0, 30, 0, 30), f_sum=5.0)
    found = [replace(candidate(1, 10, 11), prob=0.7, f_sum=1.0)]
    carry_over([mine], found, 4.0)
    (new,) = found
    assert (new.id, new.prob) == (1, 0.7)
    assert (new.box, new.channels, new.f_sum, new.origin) == (mine.box, (8, 25), 5.0, "edited")
    assert new.decisions is not mine.decisions


@pytest.mark.parametrize(
    "said", [{"verdict": "rejected"}, {"verdict": "accepted"}, {"note": "why?"}, {"origin": "drawn"}]
)
def test_what_was_reviewed_and_is_not_found_again_is_kept(said):
    earlier = [candidate(2, 10, 10, **said), candidate(3, 90, 90)]
    found = [candidate(1, 40, 40), candidate(4, 60, 60)]
    assert reviewed(earlier[0])
    assert carry_over(earlier, found, 4.0) == Carried(matched=0, kept=1)
    assert [c.id for c in found] == [1, 4, 5]
    assert (found[-1].verdict, found[-1].note) == (earlier[0].verdict, earlier[0].note)
    assert found[-1].origin in ("edited", "drawn")
    assert "not found again" in found[-1].reasons[-1]
    assert earlier[0].id == 2
    assert earlier[0].decisions == []
