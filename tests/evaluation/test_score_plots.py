"""Pictures are drawn of whatever there is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from astropy.table import Table
from stored_by_hand import found_sources, records, true_sources

from napari_almadet.evaluation.scores import Outcome, calibration, curves, errors, summary

pytest.importorskip("matplotlib")
from napari_almadet.evaluation import score_plots as plots
from napari_almadet.evaluation.finders import FINDERS


@cache
def tables_of(empty, prob):
    """Rows of each table for one cube without or with two sources, and one that was found with a probability."""
    true = true_sources() if empty else true_sources((20, 20), (60, 60))
    found = found_sources((20, 21), prob=np.nan if prob is None else prob)
    outcome = Outcome.of(*[[r] for r in records(true, found)])
    return {
        "scores": [summary(outcome)],
        "curves": curves(outcome),
        "errors": errors(outcome),
        "calibration": calibration(outcome.found),
    }


def made(scenarios, finders):
    rows = {name: [] for name in ("scores", "curves", "errors", "calibration")}
    for scenario in scenarios:
        for finder in finders:
            key = {"scenario": scenario, "finder": finder}
            for name, part in tables_of(scenario == "empty", None if finder in FINDERS else 0.7).items():
                more = {"scenario": "all"} if name == "calibration" else {}
                rows[name] += [key | more | row for row in part]
    return {name: Table(rows=part) if part else Table() for name, part in rows.items()}


def test_a_picture_for_each_scenario_with_sources(tmp_path):
    paths = plots.save_all(made(["paper", "empty"], ["almadet", "peaks"]), tmp_path / "new")
    assert {p.name for p in paths} == {"summary.png", "reliability.png", "curves-paper.png", "errors-paper.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") and p.stat().st_size > 10_000 for p in paths)


def test_only_empty_fields_and_no_probabilities(tmp_path):
    assert [p.name for p in plots.save_all(made(["empty"], ["peaks"]), tmp_path)] == ["summary.png"]


def test_what_is_drawn_is_what_was_measured_and_every_finder_is_in_the_one_legend():
    tables = made(["paper"], ["almadet", "peaks"])
    figure = plots.curves(tables["curves"], plots.style_of(["almadet", "peaks"]), "paper")
    upper_left = figure.axes[0]
    assert {tuple(c.lines[0].get_ydata()) for c in upper_left.containers} == {(0.5,)}
    assert "SNR" in upper_left.get_xlabel() and upper_left.get_ylabel() == "completeness"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["almadet", "peaks"]
    drawn = plots.errors(tables["errors"], plots.style_of(["almadet", "peaks"]), "paper").axes[0]
    assert {tuple(c.lines[0].get_ydata()) for c in drawn.containers} == {(1.0,)}


def test_many_finders_in_many_scenarios_fit_on_a_page_in_two_columns():
    scenarios, finders = [f"sky-{k}" for k in range(13)], ["almadet", *FINDERS]
    tables = made([*scenarios, "empty"], finders)
    figure = plots.summary(tables["scores"], plots.style_of(finders))
    named = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    assert [names for names in named if any(names)] == [
        scenarios[:7],
        scenarios[7:],
    ]  # without "empty", which has no rates
    assert [axes.get_xlabel() for axes in figure.axes] == 2 * ["completeness", "purity", "F1"]
    assert figure.get_figheight() <= 12
    for axes in figure.axes:
        assert len(axes.containers) == len(finders)
        places = np.sort(np.concatenate([c.lines[0].get_ydata() for c in axes.containers]))
        assert np.diff(places).min() > 0.05  # no two on one line
    few = plots.summary(made(["paper"], ["almadet"])["scores"], plots.style_of(["almadet"]))
    assert len(few.axes) == 3


def test_finders_look_different():
    names = [*FINDERS, "almadet", "paper"]
    styles = plots.style_of(names).values()
    assert len({style["color"] for style in styles}) == len({style["marker"] for style in styles}) == len(names)
