"""Detections made by hand, and a run that stands for the pipeline: no network runs in most of these tests."""

from __future__ import annotations

import time
from collections.abc import Generator

import numpy as np
from scipy.ndimage import gaussian_filter1d

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.paper.pipeline import Networks
from napari_almadet.plugin.napari_workarounds import import_apart
from napari_almadet.progress import Progress
from napari_almadet.settings import Settings

N_CHANNELS, N_Y, N_X = 48, 100, 120
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
# x, y, size (FWHM px), channel, line FWHM, amplitude, status
SOURCES = (
    (60, 50, 6.0, 20.0, 6.0, 2.0, Status.KEPT),
    (30, 72, 5.0, 34.0, 4.0, 1.2, Status.KEPT),
    (90, 28, 4.0, 12.0, 5.0, 0.8, Status.FLAGGED),
    (97, 80, 4.0, 40.0, 3.0, 0.1, Status.DROPPED),
)


def make_detections(cube: Cube, settings: Settings = Settings(), sources=SOURCES) -> Detections:  # noqa: B008
    """Detections as the pipeline would return them, from the known sources."""
    data = cube.read()
    candidates = []
    channels = np.arange(N_CHANNELS)
    for number, (x, y, size, channel, width, _, status) in enumerate(sources, start=1):
        half = int(np.ceil(size))
        box = Box(y - half, y + half + 1, x - half, x + half + 1)
        peak = EmissionPeak(channel=round(channel), height=0.9, amplitude=0.9, centre=channel, fwhm=width)
        low, high = peak.emission_range(N_CHANNELS)
        origin = (y - 32, x - 32)
        padded = np.pad(data[low:high].sum(axis=0), 32, constant_values=np.nan)
        candidates.append(
            Candidate(
                id=number,
                box=box,
                prob=0.95 - 0.1 * number,
                spectrum=data[:, *box.slices].sum(axis=(1, 2)),
                denoised=0.9 * np.exp(-((channels - channel) ** 2) / (2 * (width * SIGMA_PER_FWHM) ** 2)),
                peaks=(peak,),
                channels=(low, high),
                status=status,
                decisions=[remark(f"{status.value}: made by hand")],
                focused=padded[y : y + 64, x : x + 64],
                focus_origin=origin,
                snr_global=40.0 - 8 * number,
                snr_pixel=20.0 - 3 * number,
                blended=status is Status.FLAGGED,
                x=float(x),
                y=float(y),
                z=channel,
                f_sum=1.0 / number,
                err_f_sum=0.1,
            )
        )
    return Detections(
        cube=cube,
        settings=settings,
        candidates=candidates,
        stacked=data.sum(axis=0),
        probability=np.clip(data.max(axis=0), 0, 1),
        provenance={"device": "cpu"},
    )


def stand_in_networks(settings: Settings) -> Networks:
    """In place of Deep GRU: what is high after a blur."""
    import_apart("torch")

    def deep_gru(spectra):
        import torch

        smooth = gaussian_filter1d(spectra.numpy(), 1.5, axis=-1)
        return torch.from_numpy(np.where(smooth > 1, smooth / smooth.max(axis=-1, keepdims=True), 0).astype("f4"))

    return Networks(None, deep_gru)


class FakeRun:
    """Stands for the pipeline: takes a few steps, remembers what it was asked, and returns made-up detections.

    It waits ``pause`` seconds a step; ``sources`` are those it finds, ``error`` what it raises instead.
    """

    def __init__(self, pause: float = 0.0, steps: int = 3, sources=SOURCES, error: Exception | None = None):
        self.pause, self.steps, self.sources, self.error = pause, steps, sources, error
        self.asked: list[tuple[Cube, Settings]] = []
        self.taken = 0

    def __call__(self, cube: Cube, settings: Settings) -> Generator[Progress, None, Detections]:
        self.asked.append((cube, settings))
        for step in range(self.steps):
            self.taken += 1
            yield Progress("Counting channels", step + 1, self.steps)
            time.sleep(self.pause)
        if self.error is not None:
            raise self.error
        return make_detections(cube, settings, self.sources)


class Listener:
    """Counts what a psygnal signal says."""

    def __init__(self, signal):
        self.heard: list = []
        signal.connect(self.hear)

    def hear(self, value) -> None:
        self.heard.append(value)
