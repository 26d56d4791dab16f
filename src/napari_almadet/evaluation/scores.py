"""Scores of detections: rates, overlaps, errors and calibration, computed from stored results.

The protocol is described in ``docs/validation.md``.  All rates have 95 % intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.stats import poisson_conf_interval
from astropy.table import Table

from napari_almadet.evaluation.finders import FINDERS
from napari_almadet.evaluation.matching import Rate, box_iou, match, range_iou
from napari_almadet.evaluation.results import TRUTH, Results
from napari_almadet.simulation.objects import RESOLVED
from napari_almadet.simulation.scenarios import SCENARIOS

BRIGHT_STACK = 5.0  # SNR in the stacked image, above which completeness is also given
BRIGHT_LINE = 6.0  # the same for the SNR of the line
STRONG = 10.0  # SNR above which errors are also given
PAIR_SNR = 8.0  # minimum SNR in the stacked image of both sources of a close pair
PAIR_BEAMS = (1.0, 2.0)  # of the two from each other: what the scenario of pairs draws
PAPER_IOU = 0.8  # minimum overlap of boxes in the paper
# Of bins of S/N and of source probability in the tables; chosen by eye.
SNR_EDGES = (0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 50.0, 100.0, np.inf)
PROB_EDGES = np.linspace(0, 1, 11)
SNRS = ("snr_stack", "snr_line")
ERRORS = ("position", "line_centre", "line_width", "flux")  # px, channels, relative, relative
BOX = ("y0", "y1", "x0", "x1")


@dataclass(frozen=True)
class Outcome:
    """The results of one finder in one scenario.

    Attributes
    ----------
    cubes
        One row per cube: ``cube``, ``seconds``, ``error`` (None, or why the finder failed),
        ``sources`` and ``found``, the numbers of true sources and of candidates; 0 if the finder failed.
    true
        One row per true source in a cube that was searched: its truth and, where ``matched``, ``iou`` and
        ``iou_channels`` of its candidate and the errors :data:`ERRORS`, candidate minus truth.  ``matched_boxes`` is
        the match with the paper's overlap required.
    found
        One row per candidate, with ``matched``, ``matched_boxes`` and ``fragment``: whether it is a further candidate
        in a resolved object, which counts neither as a source nor as false.
    """

    cubes: pd.DataFrame
    true: pd.DataFrame
    found: pd.DataFrame

    @classmethod
    def load(cls, folder: Path, finder: str, n: int | None = None) -> Outcome:
        """Match the detections of a finder with the truth, both from a scenario's folder; the first ``n`` cubes."""
        truths, results = (Results(folder / f"{name}.jsonl").read() for name in (TRUTH, finder))
        numbers = [i for i in results if i in truths and (n is None or i < n)]
        return cls.of([truths[i] for i in numbers], [results[i] for i in numbers])

    @classmethod
    def of(cls, truths: list[dict], results: list[dict]) -> Outcome:
        """Match records of truth with records of detections in the same cubes."""
        cubes: list[tuple] = []
        true: list[dict[str, np.ndarray]] = []
        found: list[dict[str, np.ndarray]] = []
        for truth, result in zip(truths, results, strict=True):
            t, f = _columns(truth["sources"]), _columns(result["sources"])
            if result["error"]:  # says nothing about completeness
                t, f = ({key: column[:0] for key, column in columns.items()} for columns in (t, f))
            t["beam"] = np.full(len(t["x"]), truth["beam"])
            _compare(t, f)
            for columns, frames in ((t, true), (f, found)):
                columns["cube"] = np.full(len(columns["x"]), truth["cube"])
                frames.append(columns)
            cubes.append((truth["cube"], result["seconds"], result["error"], len(t["x"]), len(f["x"])))
        names = ["cube", "seconds", "error", "sources", "found"]
        return cls(pd.DataFrame(cubes, columns=names), _frame(true), _frame(found))

    @classmethod
    def joined(cls, outcomes: Iterable[Outcome]) -> Outcome:
        """The results of several scenarios combined."""
        parts = zip(*((o.cubes, o.true, o.found) for o in outcomes), strict=True)
        return cls(*(pd.concat(frames, ignore_index=True) for frames in parts))


def _columns(sources: dict) -> dict[str, np.ndarray]:
    """Arrays of a record's columns; null is NaN."""
    return {key: np.array(v, dtype=str if key == "kind" else float) for key, v in sources.items()}


def _frame(parts: list[dict]) -> pd.DataFrame:
    return pd.DataFrame({key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {})


def _compare(t: dict[str, np.ndarray], f: dict[str, np.ndarray]) -> None:
    """Match the sources of one cube; adds columns to both."""
    of_truth, of_found = (np.stack([columns["x"], columns["y"]], axis=1) for columns in (t, f))
    boxes = box_iou(*(np.stack([columns[c] for c in BOX], axis=1) for columns in (t, f)))
    ranges = range_iou(*(np.stack([columns["z0"], columns["z1"]], axis=1) for columns in (t, f)))
    has_line = t["z0"] >= 0
    allowed = (ranges > 0) | ~has_line[:, None] | (f["kind"] != "line")
    inside = _inside(t, f)
    for name, condition, own in (("matched_boxes", allowed & (boxes >= PAPER_IOU), None), ("matched", allowed, inside)):
        pairs = match(of_truth, of_found, condition, inside=own)
        for columns, side in ((t, 0), (f, 1)):
            columns[name] = np.isin(np.arange(len(columns["x"])), pairs[:, side])
    f["fragment"] = inside.any(axis=0) & ~f["matched"]
    i, j = pairs.T  # pairs by the protocol of the page, without the overlap of boxes
    t["iou_3d"] = np.full(len(t["x"]), np.nan)
    if "iou_3d" in f and "id" in t:
        t["iou_3d"][i] = np.where(f["object"][j] == t["id"][i], f["iou_3d"][j], np.nan)
    t["fragments"] = np.array([int(f["fragment"][own].sum()) for own in inside], dtype=float)
    lines = has_line[i] & (f["kind"][j] != "continuum")
    for name, values, counts in (
        ("iou", boxes[i, j], True),
        ("iou_channels", ranges[i, j], lines),
        ("position", np.hypot(f["x"][j] - t["x"][i], f["y"][j] - t["y"][i]), True),
        ("line_centre", f["z"][j] - t["z"][i], lines),
        ("line_width", f["fwhm"][j] / t["fwhm_line"][i] - 1, lines),
        ("flux", f["flux"][j] / np.where(lines, t["flux"][i], np.nan) - 1, lines),
    ):
        t[f"{name}_error" if name in ERRORS else name] = column = np.full(len(t["x"]), np.nan)
        column[i] = np.where(counts, values, np.nan)


def _inside(t: dict[str, np.ndarray], f: dict[str, np.ndarray]) -> np.ndarray:
    """Which candidates lie in the voxels of which resolved objects, (n, m); False for compact sources."""
    if "object" not in f or "id" not in t:  # results of version 0.1
        return np.zeros((len(t["x"]), len(f["x"])), bool)
    return (t["id"][:, None] == f["object"]) & np.isin(t["kind"], RESOLVED)[:, None]


def f1_interval(hits: int, true: int, found: int) -> tuple[float, float, float]:
    """F1 and its 95 % interval.

    The fraction J of all objects, true or reported, that are both is a binomial rate.  F1 = 2 J / (1 + J) increases
    with J, so the interval of J gives that of F1.
    """
    rate = Rate(hits, true + found - hits)
    value, low, high = (2 * j / (1 + j) for j in (rate.value, *rate.interval))
    return value, low, high


def close_pairs(true: pd.DataFrame) -> Rate:
    """Rate of pairs with both sources found, among pairs 1 to 2 beams apart, both with SNR > 8 in the stacked image."""
    hits = total = 0
    for _, two in true[true["pair"] > 0].groupby(["cube", "pair"]):
        if len(two) != 2 or two["snr_stack"].min() < PAIR_SNR:
            continue
        beams = np.hypot(np.diff(two["x"]), np.diff(two["y"]))[0] / two["beam"].iloc[0]
        if PAIR_BEAMS[0] <= beams <= PAIR_BEAMS[1]:
            total += 1
            hits += bool(two["matched"].all())
    return Rate(hits, total)


def error_snr(true: pd.DataFrame, error: str) -> pd.Series:
    """The SNR relevant for an error: for positions the higher of line and stack, for the others that of the line."""
    return true[list(SNRS)].max(axis=1) if error == "position" else true["snr_line"]


def summary(outcome: Outcome) -> dict:
    """One row of the table of scores; NaN if there are no sources or candidates.

    ``cubes`` are those that the finder searched; those on which it failed are ``failures`` and count for nothing else.
    """
    failed = outcome.cubes["error"].notna()
    cubes, true = outcome.cubes[~failed], outcome.true
    fragments = int(outcome.found["fragment"].sum())
    found = counted(outcome.found)
    hits, extra = int(found["matched"].sum()), int((~found["matched"]).sum())
    row: dict[str, float] = {
        "cubes": len(cubes),
        "sources": len(true),
        "candidates": len(found),
        "fragments": fragments,
    }
    resolved = true[np.isin(true["kind"], RESOLVED) & true["matched"]] if "kind" in true else true[:0]
    rows_each = 1 + resolved["fragments"].sum() / len(resolved) if len(resolved) else np.nan
    row |= {"rows_per_object": rows_each, "mean_iou_3d": _of(np.mean, true["iou_3d"])}
    bright, strong_line = true["snr_stack"] >= BRIGHT_STACK, true["snr_line"] >= BRIGHT_LINE
    wrong = found[~found["matched"]]
    rates = {
        "completeness": _rate(true["matched"]),
        "completeness_stack5": _rate(true["matched"][bright]),
        "completeness_line6": _rate(true["matched"][strong_line]),
        "purity": _rate(found["matched"]),
        "close_pairs": close_pairs(true),
        "cubes_with_false_positives": Rate(wrong["cube"].nunique(), len(cubes)),
        "completeness_boxes": _rate(true["matched_boxes"]),
        "purity_boxes": _rate(found["matched_boxes"]),
    }
    for name, rate in rates.items():
        row |= _rate_columns(rate, f"{name}_")
        row[name] = row.pop(f"{name}_value")
    row["f1"], row["f1_low"], row["f1_high"] = f1_interval(hits, len(true), len(found))
    low, high = poisson_conf_interval(extra, "frequentist-confidence", sigma=1.959964)
    per_cube = 1 / len(cubes) if len(cubes) else np.nan
    row |= {
        "false_positives": extra,
        "false_positives_per_cube": extra * per_cube,
        "false_positives_per_cube_low": float(low) * per_cube,
        "false_positives_per_cube_high": float(high) * per_cube,
        # the paper's count: surplus of candidates in an image
        "surplus": int((cubes["found"] - cubes["sources"]).clip(lower=0).sum()),
        "mean_iou": _of(np.mean, true["iou"]),
        "mean_iou_channels": _of(np.mean, true["iou_channels"]),
    }
    for error in ERRORS:
        values = true[f"{error}_error"]
        strong = error_snr(true, error) >= STRONG
        for suffix, chosen in (("", values), ("_snr10", values[strong])):
            row |= _spread(chosen, f"{error}_error{suffix}")
    row["calibration_error"] = calibration_error(found)
    return row | {
        "failures": int(failed.sum()),
        "failure": next(iter(outcome.cubes["error"].dropna()), ""),
        "seconds": _of(np.median, cubes["seconds"]),
    }


def curves(outcome: Outcome) -> list[dict]:
    """Completeness against the true SNR and purity against the measured one, in bins; rows of a table."""
    rows = []
    true = outcome.true
    found = counted(outcome.found)
    for quantity, frame in (("completeness", true), ("purity", found)):
        for against in SNRS:
            if quantity == "completeness" and against == "snr_line":
                frame = true[true["z0"] >= 0]  # a source without a line has no line SNR
            for low, high, part in _bins(frame, frame[against]):
                rate = _rate(part["matched"])
                rows.append({"quantity": quantity, "against": against, "snr_low": low, "snr_high": high})
                rows[-1] |= {"median_snr": _of(np.median, part[against]), **_rate_columns(rate)}
    return rows


def errors(outcome: Outcome) -> list[dict]:
    """Median and 68 % range of each error in bins of the true SNR; rows of a table."""
    rows = []
    for error in ERRORS:
        snr = error_snr(outcome.true, error)
        for low, high, part in _bins(outcome.true, snr):
            row = {"quantity": error, "snr_low": low, "snr_high": high, "median_snr": _of(np.median, snr[part.index])}
            rows.append(row | _spread(part[f"{error}_error"], "error"))
    return [row for row in rows if row["error_n"]]


def calibration(found: pd.DataFrame) -> list[dict]:
    """Fraction of true sources among candidates, in bins of probability: the reliability curve, rows of a table."""
    rows = []
    judged = counted(found[found["prob"].notna()])
    bins = np.clip(np.digitize(judged["prob"], PROB_EDGES) - 1, 0, len(PROB_EDGES) - 2)
    for k, part in judged.groupby(bins):
        row = {"prob_low": PROB_EDGES[k], "prob_high": PROB_EDGES[k + 1], "mean_prob": part["prob"].mean()}
        rows.append(row | _rate_columns(_rate(part["matched"])))
    return rows


def calibration_error(found: pd.DataFrame) -> float:
    """Expected calibration error: mean of |mean probability - fraction of sources|, weighted by candidates."""
    rows = calibration(found)
    total = sum(row["total"] for row in rows)
    gaps = (abs(row["mean_prob"] - row["value"]) * row["total"] for row in rows)
    return sum(gaps) / total if total else float("nan")


def counted(found: pd.DataFrame) -> pd.DataFrame:
    """The candidates that are sources or false: all but the fragments."""
    return found[~found["fragment"].isin([True])]


def _rate(matched: pd.Series) -> Rate:
    return Rate(int(matched.sum()), len(matched))


def _rate_columns(rate: Rate, prefix: str = "") -> dict:
    low, high = rate.interval
    values = {"value": rate.value, "low": low, "high": high, "hits": rate.hits, "total": rate.total}
    return {prefix + key: value for key, value in values.items()}


def _of(function: Callable[[pd.Series], float], values: pd.Series) -> float:
    values = values.dropna()
    return float(function(values)) if len(values) else float("nan")


def _spread(values: pd.Series, name: str) -> dict:
    """Median size of an error, and the median and 68 % range of the error with its sign."""
    values = values.dropna()
    low, middle, high = np.percentile(values, [16, 50, 84]) if len(values) else (np.nan,) * 3
    size = _of(np.median, values.abs())
    return {name: size, f"{name}_bias": middle, f"{name}_low": low, f"{name}_high": high, f"{name}_n": len(values)}


def _bins(frame: pd.DataFrame, snr: pd.Series) -> Iterator[tuple[float, float, pd.DataFrame]]:
    """(low, high, rows) of the bins of SNR that are not empty."""
    for low, high in pairwise(SNR_EDGES):
        part = frame[(snr >= low) & (snr < high)]
        if len(part):
            yield low, high, part


def stored(folder: Path) -> list[tuple[str, str]]:
    """The (scenario, finder) pairs with results in the folder of a set, in the simulation's order, presets first."""
    order = list(FINDERS)

    def place(name: str) -> tuple[int, str]:
        finder = name.split(" ")[0]
        return (order.index(finder) if finder in order else -1), name

    return [
        (scenario, name)
        for scenario in SCENARIOS
        for name in sorted((path.stem for path in (folder / scenario).glob("*.jsonl")), key=place)
        if name != TRUTH
    ]


def labels(names: list[str]) -> dict[str, str]:
    """The name of a finder, without its parameters if that is unambiguous."""
    short = Counter(name.split(" ")[0] for name in names)
    return {name: name.split(" ")[0] if short[name.split(" ")[0]] == 1 else name for name in names}


def tables(folder: Path, n: int | None = None) -> dict[str, Table]:
    """The tables of the protocol, from the results in the folder of a set.

    ``scores`` has one row for each scenario and finder; ``curves``, ``errors`` and ``calibration`` one row per bin, the
    last one also for all scenarios together, called "all".

    Parameters
    ----------
    folder
        ``OUT/SET`` of a run.
    n
        Use only the first ``n`` cubes of a scenario; default: all.
    """
    outcomes = {(scenario, name): Outcome.load(folder / scenario, name, n) for scenario, name in stored(folder)}
    outcomes = {key: outcome for key, outcome in outcomes.items() if len(outcome.cubes)}
    label = labels(list(dict.fromkeys(name for _, name in outcomes)))
    rows: dict[str, list[dict]] = {name: [] for name in ("scores", "curves", "errors", "calibration")}
    for (scenario, name), outcome in outcomes.items():
        key = {"scenario": scenario, "finder": label[name]}
        rows["scores"].append(key | {"parameters": name.partition(" ")[2]} | summary(outcome))
        rows["curves"] += [key | row for row in curves(outcome)]
        rows["errors"] += [key | row for row in errors(outcome)]
        rows["calibration"] += [key | row for row in calibration(outcome.found)]
    for name in label:
        everything = Outcome.joined(outcome for (_, other), outcome in outcomes.items() if other == name)
        rows["calibration"] += [
            {"scenario": "all", "finder": label[name]} | row for row in calibration(everything.found)
        ]
    return {name: Table(rows=part) if part else Table() for name, part in rows.items()}
