"""Results of injections: completeness and flux bias against flux, width and size, and fidelity.

Completeness against flux is summarised by C = c / (1 + exp(-(ln f - m) / s)), fitted by maximum likelihood to each
source, found or not, without bins.  A plateau c below 1 is due to crowding or bad parts of a cube.  The fluxes of 50 %
and 90 % completeness are derived from the curve, with intervals from a bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table, vstack
from scipy.optimize import minimize

from napari_almadet.evaluation.matching import Rate

BINS = 8  # bins of flux, from the lowest to the highest of a width and size
# Of bins of source probability and S/N in the tables; chosen by eye.
PROB_EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
SNR_EDGES = (0.0, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 50.0, np.inf)
RESAMPLED = 200  # bootstrap samples: the ends of intervals are then known to a tenth of their width
FEWEST = 10  # sources, of which at least one was found and one missed, to fit a curve
CERTAIN = 1e-9  # minimum distance of probabilities from 0 and 1, for the logarithm
INTERVAL = (2.5, 97.5)  # percentiles: 95 %, as for the intervals of rates
SPREAD = (15.87, 50.0, 84.13)  # percentiles of one standard deviation, of a normal distribution
PRIOR = 0.02  # weight of a prior plateau of 1, so that one missed source does not lower the curve of a few sources


@dataclass(frozen=True)
class Curve:
    """Completeness against flux: ``plateau / (1 + exp(-(ln flux - middle) / slope))``."""

    middle: float
    slope: float
    plateau: float

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        return self.plateau / (1 + np.exp(-np.clip((np.log(flux) - self.middle) / self.slope, -50, 50)))

    def flux(self, completeness: float) -> float:
        """The flux at which a completeness is reached; infinite if it is never reached."""
        if completeness >= self.plateau:
            return np.inf
        return float(np.exp(self.middle - self.slope * np.log(self.plateau / completeness - 1)))


def fitted(flux: np.ndarray, found: np.ndarray, start: Curve | None = None) -> Curve | None:
    """The maximum-likelihood curve; None for too few sources, or if all or none were found.

    Parameters
    ----------
    flux, found
        Flux of each source, and whether it was found, (n,).
    start
        First guess.
    """
    if len(flux) < FEWEST or found.all() or not found.any():
        return None
    log = np.log(flux)

    def curve(parameters: np.ndarray) -> Curve:
        middle, slope, plateau = parameters
        return Curve(middle, np.exp(np.clip(slope, -6, 3)), 1 / (1 + np.exp(-np.clip(plateau, -6, 12))))

    def loss(parameters: np.ndarray) -> float:
        p = np.clip(curve(parameters)(flux), CERTAIN, 1 - CERTAIN)
        likelihood = np.where(found, np.log(p), np.log1p(-p)).sum()
        return float(-likelihood + PRIOR * (parameters[2] - 6) ** 2 + PRIOR * (parameters[1] + 1.5) ** 2)

    if start is None:
        first = np.array([np.median(log), -1.0, 4.0])
    else:
        share = min(start.plateau, 1 - 1e-4)
        first = np.array([start.middle, np.log(start.slope), np.log(share / (1 - share))])
    answer = minimize(loss, first, method="BFGS", options={"gtol": 1e-2, "maxiter": 60})
    return curve(answer.x)


def limits(
    rows: Table, levels: tuple[float, ...] = (0.5, 0.9), seed: int = 0
) -> list[tuple[float, tuple[float, float]]]:
    """Fluxes of given completeness, each with its 95 % interval; NaN if no curve can be fitted.

    A flux above the brightest injected source is infinite: the completeness was not reached.
    """
    flux, found = np.array(rows["flux"], dtype=float), np.array(rows["found"], dtype=bool)
    most = flux.max(initial=0)

    first = fitted(flux, found)

    def at(which: np.ndarray) -> list[float]:
        curve = fitted(flux[which], found[which], first)
        if curve is None:
            return [np.nan] * len(levels)
        fluxes = [curve.flux(level) for level in levels]
        return [value if value <= most else np.inf for value in fluxes]

    best = at(np.arange(len(flux)))
    if not np.isfinite(best[0]):
        return [(value, (np.nan, np.nan)) for value in best]
    rng = np.random.default_rng(seed)
    again = np.array([at(rng.integers(0, len(flux), len(flux))) for _ in range(RESAMPLED)])
    answer = []
    for value, values in zip(best, again.T, strict=True):
        known = np.sort(values[~np.isnan(values)])
        low, high = (known[round(q / 100 * (len(known) - 1))] for q in INTERVAL) if len(known) else (np.nan,) * 2
        answer.append((value, (float(low), float(high))))
    return answer


def strata(rows: Table) -> list[tuple[float, float]]:
    """(width, size) of all sources, in order."""
    widths, sizes = (np.asarray(rows[name].value if hasattr(rows[name], "value") else rows[name]) for name in STRATUM)
    return sorted(set(zip(widths.tolist(), sizes.tolist(), strict=True)))


STRATUM = ("width", "size")


def completeness_table(rows: QTable) -> QTable:
    """Completeness, with its 95 % interval (Wilson 1927), and the ratio of fluxes, by flux, width and size.

    The ratio is the measured flux divided by the injected flux, attenuated by the primary beam, for the sources found:
    median and 68 % range.
    """
    flux_unit, width_unit = rows["flux"].unit, rows["width"].unit
    flux, width, size = rows["flux"].value, rows["width"].value, np.asarray(rows["size"])
    ratio = flux_ratio(rows)
    made = []
    for w, s in strata(rows):
        of = np.flatnonzero((width == w) & (size == s))
        edges = np.geomspace(flux[of].min(), flux[of].max(), BINS + 1)
        number = np.clip(np.searchsorted(edges, flux[of], side="right") - 1, 0, BINS - 1)
        for k in range(BINS):
            inside = of[number == k]
            if not len(inside):
                continue
            found = np.asarray(rows["found"])[inside]
            rate = Rate(int(found.sum()), len(inside))
            low, middle, high = np.percentile(ratio[inside][found], SPREAD) if found.any() else (np.nan,) * 3
            made.append(
                {
                    "width": w * width_unit,
                    "size": s,
                    "flux_min": edges[k] * flux_unit,
                    "flux_max": edges[k + 1] * flux_unit,
                    "flux": np.median(flux[inside]) * flux_unit,
                    "snr": float(np.median(rows["snr"][inside])),
                    "n": len(inside),
                    "found": rate.hits,
                    "flagged": int(np.sum(np.asarray(rows["status"])[inside] == "flagged")),
                    "completeness": rate.value,
                    "completeness_low": rate.interval[0],
                    "completeness_high": rate.interval[1],
                    "flux_ratio": float(middle),
                    "flux_ratio_low": float(low),
                    "flux_ratio_high": float(high),
                }
            )
    return vstack([QTable([row]) for row in made]) if made else QTable()


def flux_ratio(rows: QTable) -> np.ndarray:
    """Measured divided by injected flux, (n,); the latter is attenuated if the cube is not primary-beam corrected."""
    seen = np.array(rows["flux"].value, dtype=float)
    if not rows.meta.get("pb_corrected", True):
        seen = seen * np.asarray(rows["pb"], dtype=float)
    return rows["f_sum"].value / seen


def fidelity_table(found: np.ndarray, negatives: np.ndarray, threshold: float) -> Table:
    """Candidates P in the cube and N in the inverted cube, by source probability and by S/N: fidelity is 1 - N / P.

    Parameters
    ----------
    found, negatives
        ``prob`` and ``snr_pixel``, shape (n, 2) and (m, 2).
    threshold
        Minimum ``prob`` of the candidates that are counted by S/N.

    Returns
    -------
    astropy.table.Table
        ``fidelity`` is that of the bin, ``fidelity_above`` that of all candidates above its lower end; between 0 and 1,
        and NaN without candidates.
    """
    rows = []
    for against, column, edges in (("prob", 0, PROB_EDGES), ("snr", 1, SNR_EDGES)):
        p, n = (
            values[values[:, 0] >= threshold] if against == "snr" else values[np.isfinite(values[:, 0])]
            for values in (np.reshape(found, (-1, 2)), np.reshape(negatives, (-1, 2)))
        )
        for low, high in pairwise(edges):
            last = high == edges[-1]
            positives, against_them = (
                int(((v[:, column] >= low) & ((v[:, column] < high) | last)).sum()) for v in (p, n)
            )
            above = [int((v[:, column] >= low).sum()) for v in (p, n)]
            rows.append(
                {
                    "against": against,
                    "low": float(low),
                    "high": float(high),
                    "positives": positives,
                    "negatives": against_them,
                    "fidelity": _fidelity(positives, against_them),
                    "positives_above": above[0],
                    "negatives_above": above[1],
                    "fidelity_above": _fidelity(*above),
                }
            )
    return Table(rows)


def _fidelity(positives: int, negatives: int) -> float:
    return float(np.clip(1 - negatives / positives, 0, 1)) if positives else np.nan


def in_words(rows: QTable) -> list[str]:
    """The fluxes of 50 % and 90 % completeness of each width and size, a sentence each."""
    sentences = []
    unit = unit_of(rows["flux"])
    for width, size in strata(rows):
        of = rows[(rows["width"].value == width) & (np.asarray(rows["size"]) == size)]
        what = f"{width:.3g} {unit_of(rows['width'])}".replace(" chan", " channels")
        kind = "point sources" if size == 0 else f"sources of {size_in_beams(size)}"
        share = f"{int(np.sum(of['found']))} of {len(of)} found"
        (half, of_half), (most, of_most) = limits(Table({"flux": of["flux"].value, "found": of["found"]}))
        text = f"Lines of {what}, {kind} ({share}): "
        if np.isnan(half):
            text += "too few sources, or all or none were found; no curve can be fitted."
        else:
            text += f"50 % complete at {_flux(half, of_half, unit)}, 90 % at {_flux(most, of_most, unit)}."
        sentences.append(text)
    return sentences


def _flux(value: float, interval: tuple[float, float], unit: str) -> str:
    if not np.isfinite(value):
        return "a higher flux than was injected"
    low, high = (f"{v:.3g}" if np.isfinite(v) else "beyond the injected fluxes" for v in interval)
    return f"{value:.3g} {unit} [{low}, {high}]"


def curve_of(rows: QTable) -> Callable[[np.ndarray], np.ndarray] | None:
    """The curve fitted to sources of one width and size."""
    return fitted(rows["flux"].value, np.asarray(rows["found"], dtype=bool))


def size_in_beams(size: float) -> str:
    """A size in words."""
    return f"{size:g} beam" + ("" if size == 1 else "s")


def unit_of(column: u.Quantity) -> str:
    """A column's unit as a label."""
    return column.unit.to_string().replace(" / ", "/")
