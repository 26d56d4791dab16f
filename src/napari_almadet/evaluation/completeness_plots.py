"""Plots of injected sources and of fidelity, for matplotlib."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
from astropy.table import QTable, Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from napari_almadet.evaluation.completeness_tables import curve_of, size_in_beams, strata, unit_of
from napari_almadet.evaluation.score_plots import COLOURS, MARKERS


def save_plots(rows: QTable, bins: QTable, fidelity: Table | None, folder: Path) -> list[Path]:
    """Draw ``completeness.png``, ``flux-ratio.png`` and, if fidelity was measured, ``fidelity.png``."""
    figures = {"completeness": completeness(rows, bins), "flux-ratio": ratios(bins)}
    if fidelity is not None and len(fidelity):
        figures["fidelity"] = fidelities(fidelity)
    paths = [folder / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        figure.savefig(path, dpi=120)
    return paths


def _panels(bins: QTable) -> tuple[Figure, list[tuple[float, Axes]]]:
    sizes = sorted(set(np.asarray(bins["size"]).tolist()))
    figure = Figure(figsize=(1 + 4 * len(sizes), 4.4), layout="constrained")
    axes = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for size, panel in zip(sizes, axes, strict=True):
        panel.set_title("point sources" if size == 0 else f"FWHM of {size_in_beams(size)}")
        panel.set(xscale="log", xlabel=f"injected flux ({unit_of(bins['flux'])})")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    return figure, list(zip(sizes, axes, strict=True))


def _lines(bins: QTable, size: float) -> list[tuple[float, QTable, dict]]:
    widths = sorted(set(bins["width"].value.tolist()))
    styles = zip(widths, cycle(COLOURS), cycle(MARKERS), strict=False)
    made = []
    for width, colour, marker in styles:
        part = bins[(bins["width"].value == width) & (np.asarray(bins["size"]) == size)]
        style = {"color": colour, "marker": marker, "markersize": 4, "capsize": 2, "linestyle": "none"}
        made.append((width, part, style | {"label": f"{width:.3g} {unit_of(bins['width'])}"}))
    return [one for one in made if len(one[1])]


def _errors(part: QTable, name: str) -> np.ndarray:
    middle, low, high = (np.asarray(part[f"{name}{end}"], dtype=float) for end in ("", "_low", "_high"))
    return np.array([middle - low, high - middle]).clip(min=0)


def completeness(rows: QTable, bins: QTable) -> Figure:
    """Completeness against injected flux, a panel for each size and a colour for each width, with fitted curves."""
    figure, panels = _panels(bins)
    known = strata(rows)
    for size, axes in panels:
        for width, part, style in _lines(bins, size):
            axes.errorbar(part["flux"].value, part["completeness"], _errors(part, "completeness"), **style)
            if (width, size) not in known:
                continue
            of = rows[(rows["width"].value == width) & (np.asarray(rows["size"]) == size)]
            curve = curve_of(of)
            if curve is not None:
                flux = np.geomspace(of["flux"].value.min(), of["flux"].value.max(), 100)
                axes.plot(flux, curve(flux), color=style["color"], linewidth=1)
        axes.axhline(0.9, color="0.6", linewidth=0.8, zorder=0)
        axes.set_ylim(-0.02, 1.02)
    panels[0][1].set_ylabel("completeness")
    panels[-1][1].legend(title="line FWHM", frameon=False)
    return figure


def ratios(bins: QTable) -> Figure:
    """Measured over injected flux of the found sources, median and 68 % range."""
    figure, panels = _panels(bins)
    for size, axes in panels:
        for _, part, style in _lines(bins, size):
            axes.errorbar(part["flux"].value, part["flux_ratio"], _errors(part, "flux_ratio"), **style)
        axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    panels[0][1].set_ylabel("measured / injected flux")
    panels[-1][1].legend(title="line FWHM", frameon=False)
    return figure


def fidelities(table: Table) -> Figure:
    """Positive and negative detections and fidelity above each source probability and S/N."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, lower = figure.subplots(2, 2, height_ratios=(2, 1), sharex="col")
    for top, bottom, against in zip(upper, lower, ("prob", "snr"), strict=True):
        part = table[(table["against"] == against) & (table["positives_above"] + table["negatives_above"] > 0)]
        top.plot(part["low"], part["fidelity_above"], color=COLOURS[0], marker=MARKERS[0], markersize=4)
        bottom.step(part["low"], part["positives_above"], where="post", color=COLOURS[0], label="cube")
        bottom.step(part["low"], part["negatives_above"], where="post", color=COLOURS[1], label="inverted cube")
        label = "minimum source probability" if against == "prob" else "minimum S/N, over the threshold"
        bottom.set(xlabel=label, ylabel="candidates", yscale="symlog")
        top.set(ylabel="fidelity", ylim=(-0.02, 1.02))
        for axes in (top, bottom):
            axes.grid(alpha=0.3)
    lower[0].legend(frameon=False)
    return figure
