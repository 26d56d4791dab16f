"""Decisions are records of a rule, its numbers and ids, and become sentences only where they are shown."""

import re
import string

import pytest

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.catalogue.decision import SENTENCES, Decision, remark

NUMBERS = {"pixels": 16, "places": 2, "channel": 7, "width": 3, "height": 4, "x": 1, "y": 2, "first": 5, "last": 9}


@pytest.mark.parametrize("rule", SENTENCES)
def test_every_rule_has_a_sentence_of_its_numbers(rule):
    names = [name for _, name, _, _ in string.Formatter().parse(SENTENCES[rule]) if name]
    values = {name: "why" if name in ("why", "text") else NUMBERS.get(name, 0.5) for name in names if name != "id"}
    sentence = str(Decision(rule, values, (12,) if "id" in names else ()))
    assert sentence and not re.search(r"[{}]", sentence)
    assert ("candidate 12" in sentence) == ("id" in names)


def test_a_decision_sets_the_status_and_is_remembered_in_order():
    candidate = Candidate(1, Box(0, 3, 0, 3), 0.4)
    candidate.decide("found_blob", pixels=16, prob=0.4)
    assert candidate.status is Status.KEPT
    candidate.decide("improbable", Status.DROPPED, prob=0.4, threshold=0.75)
    assert candidate.status is Status.DROPPED
    assert candidate.reasons == [
        "found: a blob of 16 px, probability up to 0.40",
        "dropped: source probability 0.40 < 0.75",
    ]


def test_a_decision_comes_back_from_its_plain_values():
    decision = Decision("flank", {"snr": 512.0, "prob": 0.1}, (3,))
    assert Decision.from_dict(decision.as_dict()) == decision
    assert decision.renumbered(lambda number: number + 10).ids == (13,)


def test_a_rule_without_a_sentence_is_refused():
    with pytest.raises(ValueError, match="no rule 'whim'"):
        Decision("whim")


def test_a_sentence_of_an_older_result_is_shown_as_it_is():
    assert str(remark("kept: {it} is there")) == "kept: {it} is there"
