"""Tables of the scores for the terminal and for the documentation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from astropy.table import Row, Table

NOTHING = "–"


def rate(row: Row, name: str) -> str:
    """A rate with its interval, ``0.64 [0.58, 0.69]``."""
    if not np.isfinite(row[name]):
        return NOTHING
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def rate_on_two_lines(row: Row, name: str) -> str:
    """A rate over its interval, on two lines."""
    if not np.isfinite(row[name]):
        return NOTHING
    return f"{row[name]:.3f}\n{row[f'{name}_low']:.2f}–{row[f'{name}_high']:.2f}"


def number(row: Row, name: str, form: str = ".2f", factor: float = 1.0) -> str:
    """A number, or a dash."""
    return format(row[name] * factor, form) if np.isfinite(row[name]) else NOTHING


def per_hundred(row: Row) -> str:
    """False positives in 100 cubes with their interval."""
    low, middle, high = (100 * row[f"false_positives_per_cube{end}"] for end in ("_low", "", "_high"))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def for_all_and_bright(row: Row, name: str, form: str, factor: float = 1.0) -> str:
    """An error for all matched sources, and for those with SNR ≥ 10."""
    everything, strong = number(row, name, form, factor), number(row, f"{name}_snr10", form, factor)
    return everything if everything == strong == NOTHING else f"{everything} / {strong}"


Columns = Mapping[str, Callable[[Row], str]]

DETECTION: Columns = {
    "finder": lambda row: row["finder"],
    "cubes": lambda row: str(row["cubes"]),
    "failed": lambda row: str(row["failures"]),
    "completeness": lambda row: rate(row, "completeness"),
    "stack SNR ≥ 5": lambda row: rate(row, "completeness_stack5"),
    "line SNR ≥ 6": lambda row: rate(row, "completeness_line6"),
    "purity": lambda row: rate(row, "purity"),
    "F1": lambda row: rate(row, "f1"),
    "false positives in 100 cubes": per_hundred,
}
# the same for the 80 columns of a pipe: intervals below the rates
SHORT: Columns = {
    "finder": lambda row: row["finder"],
    "completeness": lambda row: rate_on_two_lines(row, "completeness"),
    "stack\nSNR ≥ 5": lambda row: rate_on_two_lines(row, "completeness_stack5"),
    "line\nSNR ≥ 6": lambda row: rate_on_two_lines(row, "completeness_line6"),
    "purity": lambda row: rate_on_two_lines(row, "purity"),
    "F1": lambda row: rate_on_two_lines(row, "f1"),
    "false": lambda row: str(row["false_positives"]),
}
MEASURES: Columns = {
    "finder": lambda row: row["finder"],
    "IoU, boxes": lambda row: number(row, "mean_iou"),
    "IoU, channels": lambda row: number(row, "mean_iou_channels"),
    "position (px)": lambda row: for_all_and_bright(row, "position_error", ".2f"),
    "line centre (channels)": lambda row: for_all_and_bright(row, "line_centre_error", ".2f"),
    "line FWHM (%)": lambda row: for_all_and_bright(row, "line_width_error", ".0f", 100),
    "flux (%)": lambda row: for_all_and_bright(row, "flux_error", ".0f", 100),
    "calibration error of `prob`": lambda row: number(row, "calibration_error", ".3f"),
    "CPU s per cube": lambda row: number(row, "seconds"),
    # empty values of an ECSV file are read as masked
    "parameters": lambda row: NOTHING if np.ma.is_masked(row["parameters"]) else row["parameters"] or NOTHING,
}
PAPER_STYLE: Columns = {
    "finder": lambda row: row["finder"],
    "completeness, IoU ≥ 0.8": lambda row: rate(row, "completeness_boxes"),
    "purity, IoU ≥ 0.8": lambda row: rate(row, "purity_boxes"),
    "surplus of candidates": lambda row: str(row["surplus"]),
}
OBJECTS: Columns = {
    "finder": lambda row: row["finder"],
    "rows per resolved object": lambda row: number(row, "rows_per_object"),
    "fragments": lambda row: str(row["fragments"]),
    "IoU, 3-D masks": lambda row: number(row, "mean_iou_3d"),
}
PAIRS: Columns = {
    "finder": lambda row: row["finder"],
    "pairs": lambda row: str(row["close_pairs_total"]),
    "both found": lambda row: rate(row, "close_pairs"),
}


def markdown_table(rows: list[Row], columns: Columns) -> str:
    """Rows as a table in Markdown."""
    lines = [list(columns), ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown(scores: Table, pictures: Mapping[str, str] | None = None) -> str:
    """The tables of all scenarios, with headings and pictures.

    Parameters
    ----------
    scores
        From :func:`napari_almadet.evaluation.scores.tables`.
    pictures
        Links by name, with the names of :func:`napari_almadet.evaluation.score_plots.save_all`.
    """

    def shown(name: str, text: str) -> list[str]:
        return [f"![{text}]({pictures[name]})"] if pictures and name in pictures else []

    parts = shown("summary", "Completeness, purity and F1 of all finders in all scenarios")
    parts += shown("reliability", "Fraction of candidates that are true sources against their source probability")
    for scenario in dict.fromkeys(scores["scenario"]):
        rows = [row for row in scores if row["scenario"] == scenario]
        parts += [f"### {scenario}", markdown_table(rows, DETECTION)]
        if any(row["close_pairs_total"] for row in rows):
            parts.append(markdown_table(rows, PAIRS))
        if "rows_per_object" in scores.colnames and any(np.isfinite(row["rows_per_object"]) for row in rows):
            parts.append(markdown_table(rows, OBJECTS))
        if any(row["sources"] for row in rows):
            parts += [markdown_table(rows, MEASURES), markdown_table(rows, PAPER_STYLE)]
        parts += shown(f"curves-{scenario}", f"{scenario}: completeness and purity against SNR")
        parts += shown(f"errors-{scenario}", f"{scenario}: errors against SNR")
    return "\n\n".join(parts)


def replace_generated(page: Path, text: str, name: str = "scores") -> None:
    """Put a text between ``<!-- NAME: begin ... -->`` and ``<!-- NAME: end -->`` of a page.

    Raises
    ------
    ValueError
        If the page does not have exactly one such place.
    """
    lines = page.read_text(encoding="utf-8").split("\n")
    begin = [i for i, line in enumerate(lines) if line.startswith(f"<!-- {name}: begin")]
    end = [i for i, line in enumerate(lines) if line.startswith(f"<!-- {name}: end")]
    if len(begin) != 1 or len(end) != 1 or begin[0] > end[0]:
        raise ValueError(
            f'{page} needs exactly one line "<!-- {name}: begin -->" and one "<!-- {name}: end -->" below it'
        )
    lines[begin[0] + 1 : end[0]] = ["", text, ""]
    partial = page.with_name(page.name + ".partial")
    partial.write_text("\n".join(lines), encoding="utf-8")
    os.replace(partial, page)
