"""What a detection run is worth: completeness, purity, overlaps and errors against the truth of simulated cubes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from astropy.table import QTable, Table

from napari_almadet.evaluation.matching import Rate, match
from napari_almadet.pipeline.catalog import Box, Candidate
from napari_almadet.pipeline.detect import Networks, detect, load_networks
from napari_almadet.pipeline.settings import Settings
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Imager, Observation

BRIGHT = 5.0  # SNR in the stacked image above which completeness is also given
# An overlap of boxes is counted, beside the protocol's match by distance, as the paper counts it.
PAPER_IOU = 0.8


@dataclass
class Scores:
    """Tally of matches over any number of cubes; lists have one entry a matched pair."""

    cubes: int = 0
    true: int = 0
    bright: int = 0
    found: int = 0
    bright_found: int = 0
    candidates: int = 0
    iou: list[float] = field(default_factory=list)
    iou_channels: list[float] = field(default_factory=list)
    offset: list[float] = field(default_factory=list)
    line_offset: list[float] = field(default_factory=list)
    line_width_ratio: list[float] = field(default_factory=list)

    def add(self, truth: QTable, candidates: list[Candidate]) -> None:
        """Count one cube: its truth, as `truth_table` gives it, and the kept candidates."""
        x, y = truth["x"].value, truth["y"].value
        lines = np.asarray(truth["z_min"]) >= 0
        overlaps = np.array(
            [
                [
                    range_iou((t["z_min"], t["z_max"] + 1), c.channels)
                    if t["z_min"] >= 0 and c.kind != "continuum"
                    else 1
                    for c in candidates
                ]
                for t in truth
            ]
        ).reshape(len(truth), len(candidates))
        pairs = match(np.stack([x, y], axis=1), np.array([(c.x, c.y) for c in candidates]), overlaps > 0)
        is_bright = np.asarray(truth["snr_stack"]) >= BRIGHT
        self.cubes += 1
        self.true += len(truth)
        self.bright += int(is_bright.sum())
        self.candidates += len(candidates)
        self.found += len(pairs)
        self.bright_found += int(is_bright[pairs[:, 0]].sum())
        for i, j in pairs:
            row, candidate = truth[int(i)], candidates[j]
            self.offset.append(float(np.hypot(x[i] - candidate.x, y[i] - candidate.y)))
            box = Box(row["y_min"], row["y_max"] + 1, row["x_min"], row["x_max"] + 1)
            self.iou.append(box_iou(box, candidate.box))
            if lines[i] and candidate.primary:
                self.iou_channels.append(float(overlaps[i, j]))
                self.line_offset.append(abs(candidate.primary.centre - row["z"]))
                self.line_width_ratio.append(candidate.primary.fwhm / row["fwhm_line"])

    @property
    def completeness(self) -> Rate:
        """Share of the true sources that were found."""
        return Rate(self.found, self.true)

    @property
    def completeness_bright(self) -> Rate:
        """The same of those whose SNR in the stacked image is 5 or more."""
        return Rate(self.bright_found, self.bright)

    @property
    def purity(self) -> Rate:
        """Share of the candidates that are true sources."""
        return Rate(self.found, self.candidates)

    @property
    def false_positives(self) -> int:
        """Candidates without a truth."""
        return self.candidates - self.found

    @property
    def f1(self) -> float:
        """Harmonic mean of completeness and purity."""
        return 2 * self.found / (self.true + self.candidates) if self.true + self.candidates else float("nan")

    def row(self) -> dict:
        """The scores as one row of a table."""

        def middle(values):
            return float(np.median(values)) if values else float("nan")

        def mean(values):
            return float(np.mean(values)) if values else float("nan")

        row = {"cubes": self.cubes, "sources": self.true, "false_positives": self.false_positives}
        for name in ("completeness", "completeness_bright", "purity"):
            rate = getattr(self, name)
            row |= {name: rate.value, f"{name}_low": rate.interval[0], f"{name}_high": rate.interval[1]}
        return row | {
            "f1": self.f1,
            "completeness_paper_style": Rate(sum(i >= PAPER_IOU for i in self.iou), self.true).value,
            "mean_iou": mean(self.iou),
            "mean_iou_channels": mean(self.iou_channels),
            "median_offset_px": middle(self.offset),
            "median_line_offset_channels": middle(self.line_offset),
            "median_line_width_ratio": middle(self.line_width_ratio),
        }


def range_iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    """Intersection over union of two half-open ranges."""
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / (a[1] - a[0] + b[1] - b[0] - shared)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    shared = max(0, min(a.y1, b.y1) - max(a.y0, b.y0)) * max(0, min(a.x1, b.x1) - max(a.x0, b.x0))
    return shared / (np.prod(a.shape) + np.prod(b.shape) - shared)


def evaluate(
    n: int,
    strata: list[str],
    *,
    which: str = "test",
    seed: int = 0,
    settings: Settings | None = None,
    networks: Networks | None = None,
    observation: Observation | None = None,
) -> Iterator[tuple[str, Scores]]:
    """Simulate ``n`` cubes of each stratum of a set, detect, and score; yields the tally after every cube.

    The cubes are those that ``almadet simulate`` writes for the same set and seed.
    """
    settings = settings or Settings()
    networks = networks or load_networks(settings)
    imager = Imager(observation or Observation(), device=networks.device)
    for stratum in strata:
        scores = Scores()
        for index in range(n):
            simulated = simulate_cube(seed_of(which, index, stratum, seed), stratum, imager=imager)
            detections = detect(cube_of(simulated, f"{stratum}-{index:05d}"), settings, networks=networks)
            scores.add(simulated.truth, detections.kept)
            yield stratum, scores


def scores_table(scores: dict[str, Scores]) -> Table:
    """One row a stratum."""
    return Table([{"stratum": name, **tally.row()} for name, tally in scores.items()])
