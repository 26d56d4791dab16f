"""Plots of the scores with matplotlib, which the extra ``evaluate`` installs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
from astropy.table import Table
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from napari_almadet.evaluation.finders import FINDERS

# Colours of Okabe & Ito, distinguishable with colour blindness; Tol's wine and green replace the yellow, hard to see on
# white. Markers differ for prints in grey.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#000000", "#999999", "#882255", "#117733", "#44AA99", "#AA4499"),
)
MARKERS = "osD^vP*Xh<>p"
LABELS = {
    "snr_stack": "SNR in the stacked image",
    "snr_line": "SNR matched to the line",
    "position": "position error (px)",
    "line_centre": "line centre − true (channels)",
    "line_width": "line FWHM / true − 1",
    "flux": "line flux / true − 1",
}
ROW = 0.11  # inches for a finder in the summary: a marker and a little space
TALLEST = 12.0  # inches of the summary, a screen at the usual 100 dots per inch; chosen by eye
SNR_TICKS = (3, 5, 10, 20, 50, 100, 300)


def style_of(finders: list[str]) -> dict[str, dict]:
    """Colour and marker of each finder, the same in all plots; classical finders have thinner lines."""
    return {
        finder: {
            "color": colour,
            "marker": marker,
            "markersize": 4,
            "linewidth": 0.8 if finder.split(" ")[0] in FINDERS else 2.0,
            "capsize": 2,
            "elinewidth": 0.8,
            "zorder": 2 if finder.split(" ")[0] in FINDERS else 3,
        }
        for finder, colour, marker in zip(finders, cycle(COLOURS), cycle(MARKERS), strict=False)
    }


def save_all(tables: dict[str, Table], folder: Path) -> list[Path]:
    """Draw the tables of :func:`napari_almadet.evaluation.scores.tables`; returns the PNG files.

    ``summary.png``; ``reliability.png`` over all scenarios; ``curves-SCENARIO.png`` and ``errors-SCENARIO.png``
    for scenarios with sources.
    """
    scores = tables["scores"]
    styles = style_of(list(dict.fromkeys(scores["finder"])))
    figures = {"summary": summary(scores, styles)}
    if len(tables["calibration"]):
        figures["reliability"] = reliability(_of(tables["calibration"], "all"), styles)
    for scenario in dict.fromkeys(scores["scenario"]):
        if sum(_of(scores, scenario)["sources"]):
            figures[f"curves-{scenario}"] = curves(_of(tables["curves"], scenario), styles, scenario)
            if len(part := _of(tables["errors"], scenario)):
                figures[f"errors-{scenario}"] = errors(part, styles, scenario)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=120)
    return paths


def _of(table: Table, scenario: str) -> Table:
    return table[table["scenario"] == scenario] if len(table) else table


def _finders(table: Table, styles: dict) -> Iterator[tuple[str, Table, dict, float]]:
    """Finder, its rows, its style, and an offset from -0.5 to 0.5 that separates its points from those of others."""
    for k, (finder, style) in enumerate(styles.items()):
        if len(table) and len(rows := table[table["finder"] == finder]):
            yield finder, rows, style, (k + 0.5) / len(styles) - 0.5


def _bars(rows: Table, value: str, low: str, high: str) -> tuple[np.ndarray, np.ndarray]:
    """Values, and their distances to the ends of their intervals."""
    values = np.array(rows[value], dtype=float)
    return values, np.array([values - rows[low], rows[high] - values]).clip(min=0)


def _against_snr(axes: Axes, table: Table, styles: dict, columns: tuple[str, str, str]) -> None:
    for finder, rows, style, aside in _finders(table, styles):
        values, bars = _bars(rows, *columns)
        axes.errorbar(np.array(rows["median_snr"]).clip(min=1) * 1.1**aside, values, bars, label=finder, **style)


def _one_legend(figure: Figure) -> None:
    """One legend below all panels."""
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=min(5, len(handles)), frameon=False
    )


def _snr_axis(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(SNR_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)


def curves(table: Table, styles: dict, title: str) -> Figure:
    """Completeness against the true SNR, purity against the measured one; stack and line."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, (quantity, against) in zip(
        figure.subplots(2, 2, sharey=True).flat,
        [(quantity, against) for quantity in ("completeness", "purity") for against in ("snr_stack", "snr_line")],
        strict=True,
    ):
        part = table[(table["quantity"] == quantity) & (table["against"] == against)]
        _against_snr(axes, part, styles, ("value", "low", "high"))
        _snr_axis(axes, f"{'true' if quantity == 'completeness' else 'measured'} {LABELS[against]}")
        axes.set_ylabel(quantity)
        axes.set_ylim(-0.02, 1.02)
    figure.suptitle(f"{title}: completeness and purity, with 95 % intervals")
    _one_legend(figure)
    return figure


def errors(table: Table, styles: dict, title: str) -> Figure:
    """Median and 68 % range of the errors against SNR."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, error in zip(figure.subplots(2, 2).flat, ("position", "line_centre", "line_width", "flux"), strict=True):
        part = table[table["quantity"] == error]
        _against_snr(axes, part, styles, ("error_bias", "error_low", "error_high"))
        _snr_axis(
            axes, "true SNR, the higher of stack and line" if error == "position" else f"true {LABELS['snr_line']}"
        )
        axes.set_ylabel(LABELS[error])
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    figure.suptitle(f"{title}: errors, median and 68 % range")
    _one_legend(figure)
    return figure


def reliability(table: Table, styles: dict) -> Figure:
    """Fraction of true sources against the source probability, above a histogram of the candidates."""
    figure = Figure(figsize=(6, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    for finder, rows, style, _ in _finders(table, styles):
        values, bars = _bars(rows, "value", "low", "high")
        upper.errorbar(rows["mean_prob"], values, bars, label=finder, **style)
        lower.plot(rows["mean_prob"], rows["total"], color=style["color"], marker=style["marker"], markersize=4)
    upper.set(ylabel="share that are sources", xlim=(0, 1), ylim=(-0.02, 1.02))
    lower.set(xlabel="probability given", ylabel="candidates", yscale="log")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    upper.set_title("Is prob a probability? All scenarios, with 95 % intervals")
    _one_legend(figure)
    return figure


def summary(scores: Table, styles: dict) -> Figure:
    """Completeness, purity and F1 of all finders in all scenarios with sources; in two columns if one were too tall."""
    every = list(dict.fromkeys(scores["scenario"]))
    scenarios = [scenario for scenario in every if any(_of(scores, scenario)["sources"])] or every
    height = max(0.5, ROW * len(styles))
    columns = 1 + (height * len(scenarios) > TALLEST)
    blocks = [list(block) for block in np.array_split(scenarios, columns)]
    figure = Figure(figsize=(4 + 6 * columns, 1.6 + height * len(blocks[0])), layout="constrained")
    panels = figure.subplots(1, 3 * columns, squeeze=False)[0]
    for k, block in enumerate(blocks):
        for axes, quantity in zip(panels[3 * k : 3 * k + 3], ("completeness", "purity", "f1"), strict=True):
            _summary_panel(axes, scores[np.isin(scores["scenario"], block)], styles, block, quantity)
            axes.set_yticks(range(len(block)), block if quantity == "completeness" else [])
    figure.suptitle("All scenarios, with 95 % intervals")
    _one_legend(figure)
    return figure


def _summary_panel(axes: Axes, scores: Table, styles: dict, scenarios: list[str], quantity: str) -> None:
    """One quantity of all finders, a band for each of the scenarios."""
    for finder, rows, style, aside in _finders(scores, styles):
        y = np.array([scenarios.index(s) for s in rows["scenario"]]) + 0.8 * aside
        values, bars = _bars(rows, quantity, f"{quantity}_low", f"{quantity}_high")
        axes.errorbar(values, y, xerr=bars, label=finder, **(style | {"linestyle": "none"}))
    for line in range(1, len(scenarios)):
        axes.axhline(line - 0.5, color="0.85", linewidth=0.8, zorder=0)
    axes.set_xlabel("F1" if quantity == "f1" else quantity)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(len(scenarios) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
