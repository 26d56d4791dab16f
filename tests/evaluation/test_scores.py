"""Scores of perfect, shifted, missing and invented candidates."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.evaluation.scores import Scores, box_iou, evaluate, range_iou, scores_table
from napari_almadet.pipeline.catalog import Box, Candidate, EmissionPeak
from napari_almadet.pipeline.detect import Networks
from napari_almadet.simulation.dataset import simulate_cube
from napari_almadet.simulation.observe import Imager, Observation

SMALL = Observation(size=96, n_channels=32, duration=600, integration=60)


@pytest.fixture(scope="module")
def truth():
    return simulate_cube(1, imager=Imager(SMALL)).truth


def perfect(truth, dx=0.0):
    return [
        Candidate(
            id=i,
            box=Box(t["y_min"], t["y_max"] + 1, t["x_min"], t["x_max"] + 1),
            prob=1.0,
            x=t["x"].value + dx,
            y=t["y"].value,
            peaks=(EmissionPeak(round(t["z"]), 1.0, 1.0, t["z"], t["fwhm_line"]),),
            channels=(t["z_min"], t["z_max"] + 1),
        )
        for i, t in enumerate(truth, 1)
    ]


def test_perfect_candidates_score_one(truth):
    scores = Scores()
    scores.add(truth, perfect(truth))
    row = scores.row()
    assert row["completeness"] == row["purity"] == row["f1"] == row["mean_iou"] == row["mean_iou_channels"] == 1
    assert row["median_offset_px"] == row["median_line_offset_channels"] == 0
    assert row["completeness_paper_style"] == 1


def test_missing_and_invented_ones_are_counted_apart(truth):
    """A wrong box does not hide behind a missed source."""
    candidates = perfect(truth)
    candidates[0].x += 40
    scores = Scores()
    scores.add(truth, candidates)
    assert scores.false_positives == 1
    assert scores.found == len(truth) - 1


def test_a_line_elsewhere_is_not_the_source(truth):
    candidates = perfect(truth)
    candidates[0].channels = (0, 1) if truth["z_min"][0] > 1 else (31, 32)
    scores = Scores()
    scores.add(truth, candidates)
    assert scores.found == len(truth) - 1
    candidates[0].kind = "continuum"
    scores = Scores()
    scores.add(truth, candidates)
    assert scores.found == len(truth)


def test_errors_are_those_put_in(truth):
    scores = Scores()
    scores.add(truth, perfect(truth, dx=1.5))
    assert scores.row()["median_offset_px"] == pytest.approx(1.5)


def test_overlaps():
    assert range_iou((0, 10), (5, 15)) == pytest.approx(5 / 15)
    assert range_iou((0, 10), (10, 15)) == 0
    assert box_iou(Box(0, 10, 0, 10), Box(5, 15, 0, 10)) == pytest.approx(50 / 150)
    assert box_iou(Box(0, 4, 0, 4), Box(4, 8, 4, 8)) == 0


def test_a_detector_that_finds_nothing_in_empty_and_full_fields():
    class Blind:
        def __call__(self, images):
            return images * 0

    networks = Networks(Blind(), Blind())
    tally = dict(evaluate(2, ["paper", "empty"], networks=networks, observation=SMALL))
    assert tally["paper"].completeness.value == 0
    assert tally["paper"].true >= 6
    assert tally["empty"].true == tally["empty"].candidates == 0
    table = scores_table(tally)
    assert list(table["stratum"]) == ["paper", "empty"]
    assert np.isnan(table["purity"][1])
