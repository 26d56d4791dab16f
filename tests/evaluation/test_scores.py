"""Scores of candidates made by hand, against numbers worked out by hand or by other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import chi2
from stored_by_hand import found_sources, records, true_sources

from napari_almadet.cli.terminal import print_scores
from napari_almadet.evaluation.results import Results
from napari_almadet.evaluation.scores import (
    Outcome,
    calibration,
    calibration_error,
    close_pairs,
    curves,
    errors,
    f1_interval,
    labels,
    summary,
    tables,
)


def outcome_of(*cubes):
    return Outcome.of(*zip(*(records(true, found, cube=i) for i, (true, found) in enumerate(cubes)), strict=True))


def score(true, found):
    return summary(outcome_of((true, found)))


def test_perfect_candidates_score_one():
    row = score(true_sources((20, 20), (60, 60)), found_sources((20, 20), (60, 60)))
    ones = ("completeness", "purity", "f1", "mean_iou", "mean_iou_channels", "completeness_boxes", "purity_boxes")
    assert [row[key] for key in ones] == [1] * len(ones)
    assert [row[f"{e}_error"] for e in ("position", "line_centre", "line_width", "flux")] == [0] * 4
    assert row["false_positives"] == row["surplus"] == 0


def test_missing_and_invented_ones_are_counted_apart():
    """A wrong box does not hide behind a missed source, as it does in the paper's count."""
    row = score(true_sources((20, 20), (60, 60)), found_sources((20, 20), (90, 90)))
    assert (row["completeness"], row["purity"], row["f1"], row["false_positives"]) == (0.5, 0.5, 0.5, 1)
    assert row["surplus"] == 0
    assert score(true_sources((20, 20)), found_sources((20, 20), (60, 60), (90, 90)))["surplus"] == 2


@pytest.mark.parametrize(
    ("true_line", "kind", "line", "counts"),
    [
        ((20, 4), "line", (20, 4), True),
        ((20, 4), "line", (24, 4), True),
        ((20, 4), "line", (60, 4), False),
        ((20, 4), "both", (60, 4), True),
        ((20, 4), "continuum", None, True),
        (None, "line", (60, 4), True),
    ],
)
def test_a_line_elsewhere_is_not_the_source(true_line, kind, line, counts):
    row = score(true_sources((20, 20), line=true_line), found_sources((20, 20), line=line, kind=kind))
    assert row["completeness"] == row["purity"] == counts


def test_bright_ones_are_also_counted_alone():
    faint, bright = true_sources((20, 20), snr=4.9), true_sources((60, 60), snr=6.0)
    row = score({k: np.concatenate([faint[k], bright[k]]) for k in faint}, found_sources((60, 60)))
    assert (row["completeness"], row["completeness_stack5"], row["completeness_line6"]) == (0.5, 1, 1)


def test_errors_are_those_put_in():
    found = found_sources((21.2, 20.9), line=(20.5, 5.0))
    found["flux"] = np.array([1.8e7])
    row = score(true_sources((20, 20)), found)
    assert row["position_error"] == pytest.approx(1.5)
    assert row["line_centre_error"] == row["line_centre_error_bias"] == 0.5
    assert row["line_width_error_snr10"] == pytest.approx(0.25)
    assert row["flux_error"] == pytest.approx(0.1)
    assert row["flux_error_bias"] == pytest.approx(-0.1)


def test_errors_of_faint_sources_are_not_those_of_strong_ones():
    true, found = true_sources((20, 20), snr=9.9), found_sources((21, 20))
    row = score(true, found)
    assert row["position_error"] == 1
    assert np.isnan(row["position_error_snr10"])
    assert row["position_error_snr10_n"] == 0


def test_what_is_only_continuum_has_no_error_of_a_line():
    row = score(true_sources((20, 20)), found_sources((20, 20), kind="continuum"))
    assert np.isnan([row["line_centre_error"], row["flux_error"], row["mean_iou_channels"]]).all()


def test_paper_style_asks_for_the_overlap_of_boxes():
    """Shifted by one pixel, boxes of 11 overlap by 110 of 132: 0.83; by two, 99 of 143: 0.69."""
    for shift, counts in ((1, True), (2, False)):
        row = score(true_sources((20, 20)), found_sources((20 + shift, 20)))
        assert row["mean_iou"] == pytest.approx((11 - shift) / (11 + shift))
        assert row["completeness"] == 1
        assert row["completeness_boxes"] == row["purity_boxes"] == counts


def test_intervals_of_f1_and_of_false_positives():
    value, low, high = f1_interval(8, 10, 9)
    assert value == pytest.approx(16 / 19)
    # Wilson (1927) for 8 of 11, then 2 J / (1 + J)
    z, n, p = 1.959964, 11, 8 / 11
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    ends = [(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)]
    assert (low, high) == pytest.approx([2 * j / (1 + j) for j in ends], rel=1e-5)

    outcome = outcome_of(*[(true_sources(), found_sources((20, 20), (60, 60)))] * 2, (true_sources(), found_sources()))
    row = summary(outcome)
    assert row["false_positives_per_cube"] == pytest.approx(4 / 3)
    assert row["false_positives_per_cube_low"] == pytest.approx(chi2.ppf(0.025, 8) / 2 / 3, rel=1e-4)
    assert row["false_positives_per_cube_high"] == pytest.approx(chi2.ppf(0.975, 10) / 2 / 3, rel=1e-4)
    assert row["cubes_with_false_positives"] == pytest.approx(2 / 3)
    assert np.isnan(row["completeness"])


def test_close_pairs_need_both():
    """Beams of 6 pixels: 9 are 1.5 beams, 15 too many, 4 too few."""
    near, far, on_top = (true_sources((20, 20), (20 + d, 20), pair=1) for d in (9, 15, 4))
    faint = true_sources((20, 20), (29, 20), pair=1, snr=7.9)
    single = true_sources((20, 20), (29, 20))
    both, one = found_sources((20, 20), (29, 20)), found_sources((20, 20))
    outcome = outcome_of((near, both), (near, one), (far, both), (on_top, both), (faint, both), (single, both))
    rate = close_pairs(outcome.true)
    assert (rate.hits, rate.total) == (1, 2)


def test_curves_count_each_source_once_in_its_bin():
    true = true_sources((20, 20), (60, 60), (20, 60))
    true["snr_stack"] = np.array([3.5, 9.0, 9.5])
    true["snr_line"] = np.array([25.0, 25.0, 25.0])
    rows = curves(outcome_of((true, found_sources((60, 60), snr=40.0))))
    by_key = {(r["quantity"], r["against"], r["snr_low"]): (r["hits"], r["total"]) for r in rows}
    assert by_key == {
        ("completeness", "snr_stack", 3): (0, 1),
        ("completeness", "snr_stack", 8): (1, 2),
        ("completeness", "snr_line", 20): (1, 3),
        ("purity", "snr_stack", 30): (1, 1),
        ("purity", "snr_line", 30): (1, 1),
    }


def test_sources_without_a_line_have_no_place_on_the_line_curve():
    true = true_sources((20, 20), line=None)
    true["snr_line"] = np.array([0.0])
    rows = curves(outcome_of((true, found_sources())))
    assert {r["against"] for r in rows} == {"snr_stack"}


def test_errors_in_bins():
    rows = errors(outcome_of((true_sources((20, 20)), found_sources((20, 22)))))
    assert {r["quantity"]: r["error"] for r in rows} == {"position": 2, "line_centre": 0, "line_width": 0, "flux": 0}


@pytest.mark.parametrize(("power", "expected"), [(1.0, 0.0), (2.0, 1 / 6)])
def test_calibration_of_probabilities_of_known_calibration(power, expected):
    """Of candidates with probability p, p**power are sources: the mean of p - p**2 over 0 to 1 is 1/6."""
    rng = np.random.default_rng(3)
    prob = rng.uniform(size=40_000)
    real = rng.uniform(size=len(prob)) < prob**power
    truth = true_sources(*[(10 * i, 0) for i in np.flatnonzero(real)])
    found = found_sources(*[(10 * i, 0) for i in range(0)])
    outcome = outcome_of((truth, found))  # the match of 40,000 is not what is tested here
    judged = outcome.found.reindex(range(len(prob))).assign(prob=prob, matched=real)
    assert calibration_error(judged) == pytest.approx(expected, abs=0.01)
    rows = calibration(judged)
    assert sum(r["total"] for r in rows) == len(prob)
    inside = [r["low"] <= r["mean_prob"] ** power <= r["high"] for r in rows]
    assert sum(inside) >= 8  # of 10 intervals of 95 %; within a bin p**2 bends a little


def test_finders_without_probabilities_are_not_calibrated():
    row = score(true_sources((20, 20)), found_sources((20, 20), prob=np.nan))
    assert np.isnan(row["calibration_error"])


def test_a_cube_on_which_a_finder_fails_is_counted_as_failed_not_as_one_without_candidates():
    failed = records(true_sources((20, 20)), found_sources(), error="ValueError: no")
    searched = records(true_sources((20, 20), (60, 60)), found_sources((20, 20), (90, 90)), cube=1)
    row = summary(Outcome.of(*zip(failed, searched, strict=True)))
    assert (row["failures"], row["failure"], row["cubes"], row["sources"]) == (1, "ValueError: no", 1, 2)
    assert (row["completeness"], row["false_positives_per_cube"]) == (0.5, 1)
    nothing = summary(Outcome.of(*([one] for one in failed)))
    assert (nothing["failures"], nothing["cubes"]) == (1, 0)
    assert np.isnan(nothing["completeness"])


def test_parameters_are_named_where_names_would_clash():
    assert labels(["paper", "sep threshold=3", "peaks threshold=4", "peaks threshold=5"]) == {
        "paper": "paper",
        "sep threshold=3": "sep",
        "peaks threshold=4": "peaks threshold=4",
        "peaks threshold=5": "peaks threshold=5",
    }


def test_tables_of_what_is_stored(tmp_path):
    """Through the files, with null for NaN; presets first, empty scenarios too, and only the first n."""
    for scenario, true in (("empty", true_sources()), ("paper", true_sources((20, 20), line=None))):
        for finder, found in (("peaks threshold=4", found_sources((20, 20), prob=np.nan)), ("zoo", found_sources())):
            files = [Results(tmp_path / scenario / f"{name}.jsonl") for name in ("truth", finder)]
            for file in files:
                file.prepare({})
            for cube in range(3):
                for file, record in zip(files, records(true, found, cube=cube), strict=True):
                    file.append(record)
    made = tables(tmp_path, 2)
    scores = made["scores"]
    assert list(zip(scores["scenario"], scores["finder"], strict=True)) == [
        ("paper", "zoo"),
        ("paper", "peaks"),
        ("empty", "zoo"),
        ("empty", "peaks"),
    ]
    assert list(scores["cubes"]) == [2] * 4
    assert list(scores["false_positives"]) == [0, 0, 0, 2]
    assert scores["parameters"][1] == "threshold=4"
    assert scores["completeness"][1] == 1
    assert tables(tmp_path / "nothing")["scores"].colnames == []


def resolved(true, kind="galaxy"):
    """The same sources as objects with voxels."""
    n = len(true["x"])
    return true | {"kind": [kind] * n, "id": np.arange(1, n + 1)}


def in_object(found, *numbers, iou=np.nan):
    """The same candidates in the voxels of these objects."""
    return found | {"object": np.array(numbers), "iou_3d": np.full(len(numbers), iou)}


def test_a_galaxy_is_found_by_a_candidate_in_its_voxels_and_others_are_fragments():
    true = resolved(true_sources((20, 20), (80, 80)))
    found = in_object(found_sources((30, 25), (12, 20), (50, 50)), 1, 1, 0, iou=0.5)
    row = score(true, found)
    assert (row["completeness"], row["purity"], row["false_positives"]) == (0.5, 0.5, 1)
    assert (row["fragments"], row["rows_per_object"], row["candidates"]) == (1, 2, 2)
    assert row["mean_iou_3d"] == 0.5
    assert calibration(outcome_of((true, found)).found)[0]["total"] == 2


def test_a_compact_source_is_found_within_three_pixels_only():
    row = score(resolved(true_sources((20, 20)), "gaussian"), in_object(found_sources((26, 20)), 1))
    assert (row["completeness"], row["purity"], row["fragments"]) == (0, 0, 0)
    assert np.isnan(row["rows_per_object"])


def test_of_two_candidates_in_a_galaxy_one_may_be_another_source():
    true = resolved(true_sources((20, 20), (26, 20)))
    true["kind"] = ["galaxy", "gaussian"]
    row = score(true, in_object(found_sources((26, 20), (18, 26)), 1, 1))
    assert (row["completeness"], row["purity"], row["fragments"]) == (1, 1, 0)


def test_results_of_version_0_1_are_read_as_they_were():
    row = score(true_sources((20, 20)), found_sources((20, 20), (60, 60)))
    assert (row["purity"], row["fragments"]) == (0.5, 0)


def test_rows_per_object_are_printed_where_there_are_resolved_ones(capsys):
    true, found = resolved(true_sources((20, 20))), in_object(found_sources((30, 25), (12, 20)), 1, 1, iou=0.5)
    rows = [
        {"scenario": name, "finder": "almadet"} | score(*cube)
        for name, cube in (("galaxies", (true, found)), ("paper", (true_sources((20, 20)), found_sources((20, 20)))))
    ]
    print_scores(Table(rows=rows))
    said = capsys.readouterr().out
    assert said.count("rows per resolved object") == 1
    assert "almadet: 2.00 rows per resolved object, masks overlap by 0.50" in said


def test_numbers_of_cubes_that_differ_between_finders_are_a_range(capsys):
    row = {"scenario": "paper"} | score(true_sources((20, 20)), found_sources((20, 20)))
    print_scores(Table(rows=[row | {"finder": "almadet"}, row | {"finder": "peaks", "cubes": 8, "sources": 1}]))
    assert "paper, 1 to 8 cubes, 1 sources" in capsys.readouterr().out
