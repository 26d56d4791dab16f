"""Files of results survive interruptions and refuse what they are not of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_almadet.evaluation.results import Results, StaleResults

ABOUT = {"finder": "sep", "parameters": {"threshold": 3.0}, "range": (1, 2)}


@pytest.fixture
def file(tmp_path):
    file = Results(tmp_path / "test" / "paper" / "sep.jsonl")
    file.prepare(ABOUT)
    return file


def test_round_trip(file):
    file.append({"cube": 1, "values": np.array([1.5, np.nan]), "flag": np.bool_(True), "n": np.int64(3)})
    file.append({"cube": 0, "values": []})
    file.prepare(ABOUT)
    assert file.read() == {0: {"cube": 0, "values": []}, 1: {"cube": 1, "values": [1.5, None], "flag": True, "n": 3}}
    assert list(file.read()) == [0, 1]
    json.loads(file.path.read_text().splitlines()[1], parse_constant=pytest.fail)  # no NaN, which JSON does not know


def test_a_line_cut_short_was_not_written(file):
    file.append({"cube": 0})
    with file.path.open("a") as stream:
        stream.write('{"cube": 1, "val')
    assert list(file.read()) == [0]
    file.prepare(ABOUT)
    file.append({"cube": 2})
    assert list(file.read()) == [0, 2]


def test_the_last_of_several_counts(file):
    file.append({"cube": 0, "error": "no"})
    file.append({"cube": 0, "error": None})
    assert file.read() == {0: {"cube": 0, "error": None}}


def test_results_of_something_else_are_refused_and_kept(file):
    file.append({"cube": 0})
    before = file.path.read_bytes()
    with pytest.raises(StaleResults, match="another parameters"):
        file.prepare(ABOUT | {"parameters": {"threshold": 4.0}})
    assert file.path.read_bytes() == before


def test_nothing_there_is_nothing(tmp_path):
    assert Results(tmp_path / "no.jsonl").read() == {}
