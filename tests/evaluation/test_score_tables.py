"""Tables in Markdown, and their place in a page."""

from __future__ import annotations

import pytest
from astropy.table import Table
from stored_by_hand import found_sources, records, true_sources

from napari_almadet.evaluation.score_tables import markdown, replace_generated
from napari_almadet.evaluation.scores import Outcome, summary


@pytest.fixture
def scores():
    empty = Outcome.of(*[[r] for r in records(true_sources(), found_sources((20, 20)))])
    paper = Outcome.of(*[[r] for r in records(true_sources((20, 20), (60, 60)), found_sources((20, 20.5)))])
    pair = Outcome.of(*[[r] for r in records(true_sources((20, 20), (29, 20), pair=1), found_sources((20, 20)))])
    return Table(
        rows=[
            {"scenario": name, "finder": "almadet", "parameters": "", **summary(outcome)}
            for name, outcome in (("paper", paper), ("empty", empty), ("pairs", pair))
        ]
    )


def test_tables_say_what_the_scores_say(scores):
    text = markdown(scores)
    assert text.count("### ") == 3
    lines = [line for line in text.split("\n") if line.startswith("| almadet | 1 |")]
    assert "| 0.500 [0.095, 0.905] |" in lines[0]
    assert "| 0.50 / 0.50 |" in text  # position error of all and of the strong ones
    assert "| – | – | – | 0.000 [0.000, 0.793] | 0.000 [0.000, 0.885] | 100.0 [2.5, 557.2] |" in lines[1]
    assert "| almadet | 1 | 0.000 [0.000, 0.793] |" in text.split("### pairs")[1]
    assert "both found" not in text.split("### pairs")[0]
    for table in text.split("\n\n"):
        assert len({line.count("|") for line in table.split("\n") if line.startswith("|")}) <= 1
    assert "nan" not in text and "![" not in text
    text = markdown(scores, {"summary": "images/s.png", "curves-paper": "images/c.png"})
    assert text.startswith("![") and text.split("### empty")[0].endswith("(images/c.png)\n\n")


def test_only_what_lies_between_the_marks_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nprose\n<!-- scores: begin -->\nold\n<!-- scores: end -->\nmore\n")
    for _ in range(2):
        replace_generated(page, "new\n\ntable")
        assert page.read_text() == (
            "# Title\n\nprose\n<!-- scores: begin -->\n\nnew\n\ntable\n\n<!-- scores: end -->\nmore\n"
        )


@pytest.mark.parametrize("text", ["nothing", "<!-- scores: end -->\n<!-- scores: begin -->", "<!-- scores: begin -->"])
def test_a_page_without_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="needs exactly one line"):
        replace_generated(page, "new")
    assert page.read_text() == text
