"""A small cube with known sources, and detections made by hand: no network runs in these tests but one."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from napari.layers import Layer
from npe2 import PluginManifest
from radio_beam import Beam

import napari_almadet
from napari_almadet.cube import Cube
from napari_almadet.pipeline.catalog import Box, Candidate, Detections, EmissionPeak, Fate
from napari_almadet.pipeline.settings import Settings
from napari_almadet.pipeline.steps import Progress
from napari_almadet.plugin import layers
from napari_almadet.plugin.detect_widget import DetectWidget
from napari_almadet.plugin.session import Session

N_CHANNELS, N_Y, N_X = 48, 100, 120
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
# x, y, size (FWHM px), channel, line FWHM, amplitude, fate
SOURCES = (
    (60, 50, 6.0, 20.0, 6.0, 2.0, Fate.KEPT),
    (30, 72, 5.0, 34.0, 4.0, 1.2, Fate.KEPT),
    (90, 28, 4.0, 12.0, 5.0, 0.8, Fate.FLAGGED),
    (97, 80, 4.0, 40.0, 3.0, 0.1, Fate.DROPPED),
)


@pytest.fixture
def header() -> fits.Header:
    """A header of CASA's kind: 0.1" pixels, frequency rising by 10 MHz a channel, a beam of 0.6" x 0.4"."""
    header = fits.Header()
    header["CTYPE1"], header["CRPIX1"], header["CDELT1"], header["CRVAL1"] = "RA---SIN", 61.0, -0.1 / 3600, 150.0
    header["CTYPE2"], header["CRPIX2"], header["CDELT2"], header["CRVAL2"] = "DEC--SIN", 51.0, 0.1 / 3600, -35.0
    header["CTYPE3"], header["CRPIX3"], header["CDELT3"], header["CRVAL3"] = "FREQ", 1.0, 1e7, 2.3e11
    header["CUNIT1"], header["CUNIT2"], header["CUNIT3"] = "deg", "deg", "Hz"
    header["RESTFRQ"], header["SPECSYS"], header["RADESYS"], header["BUNIT"] = 2.3e11, "LSRK", "ICRS", "Jy/beam"
    header["BMAJ"], header["BMIN"], header["BPA"] = 0.6 / 3600, 0.4 / 3600, 30.0
    return header


@pytest.fixture
def data() -> np.ndarray:
    """The sources of `SOURCES` in noise of 0.05, seeded."""
    rng = np.random.default_rng(7)
    cube = rng.normal(0, 0.05, (N_CHANNELS, N_Y, N_X))
    z, y, x = np.ogrid[:N_CHANNELS, :N_Y, :N_X]
    for x0, y0, size, channel, width, amplitude, _ in SOURCES:
        sky = ((x - x0) ** 2 + (y - y0) ** 2) / (2 * (size * SIGMA_PER_FWHM) ** 2)
        line = (z - channel) ** 2 / (2 * (width * SIGMA_PER_FWHM) ** 2)
        cube += amplitude * np.exp(-sky - line)
    return cube.astype(np.float32)


@pytest.fixture
def cube(data, header) -> Cube:
    """The cube with world coordinates."""
    beam = Beam(0.6 * u.arcsec, 0.4 * u.arcsec, 30 * u.deg)
    return Cube(data, wcs=WCS(header), unit=u.Jy / u.beam, beams=beam, header=header, name="toy")


@pytest.fixture
def fits_file(data, header, tmp_path):
    """The cube as a file."""
    path = tmp_path / "toy.fits"
    fits.writeto(path, data, header)
    return path


def make_detections(cube: Cube, settings: Settings = Settings(), sources=SOURCES) -> Detections:  # noqa: B008
    """Detections as the pipeline would return them, from the known sources."""
    data = cube.read()
    candidates = []
    channels = np.arange(N_CHANNELS)
    for number, (x, y, size, channel, width, _, fate) in enumerate(sources, start=1):
        half = int(np.ceil(size))
        box = Box(y - half, y + half + 1, x - half, x + half + 1)
        peak = EmissionPeak(channel=round(channel), height=0.9, amplitude=0.9, centre=channel, fwhm=width)
        low, high = peak.emission_range(N_CHANNELS)
        origin = (max(0, y - 32), max(0, x - 32))
        candidates.append(
            Candidate(
                id=number,
                box=box,
                prob=0.95 - 0.1 * number,
                spectrum=data[:, *box.slices].sum(axis=(1, 2)),
                denoised=0.9 * np.exp(-((channels - channel) ** 2) / (2 * (width * SIGMA_PER_FWHM) ** 2)),
                peaks=(peak,),
                channels=(low, high),
                fate=fate,
                reasons=[f"{fate.value}: made by hand"],
                focused=data[low:high, origin[0] : y + 32, origin[1] : x + 32].sum(axis=0),
                focus_origin=origin,
                snr_global=40.0 - 8 * number,
                snr_pixel=20.0 - 3 * number,
                blended=fate is Fate.FLAGGED,
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


@pytest.fixture
def detections(cube) -> Detections:
    """Four candidates in the toy cube: two kept, one flagged, one dropped."""
    return make_detections(cube)


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


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    """An empty viewer, as a plugin sees it."""
    return make_napari_viewer_proxy()


@pytest.fixture
def cube_image(viewer, cube):
    """The toy cube's layer in the viewer."""
    return viewer.add_layer(Layer.create(*layers.cube_layer(cube)))


@pytest.fixture
def make_widget(viewer, qtbot):
    """Make the dock widget "Detect sources" on a run that stands for the pipeline."""
    made = []

    def make(run) -> DetectWidget:
        widget = DetectWidget(viewer, run=run)
        viewer.window.add_dock_widget(widget, name="Detect sources")
        made.append(widget)
        return widget

    yield make
    for widget in made:  # no worker may outlive its test
        widget.cancel()
        qtbot.waitUntil(lambda w=widget: w._worker is None, timeout=10_000)


@pytest.fixture
def session(viewer, cube_image, detections):
    """A session with the hand-made detections on show."""
    session = Session.of(viewer)
    session.inspect(cube_image)
    session.present(cube_image, detections)
    return session


class Listener:
    """Counts what a psygnal signal says."""

    def __init__(self, signal):
        self.heard: list = []
        signal.connect(self.hear)

    def hear(self, value) -> None:
        self.heard.append(value)


@pytest.fixture
def plugin(npe2pm) -> str:
    """The plugin's name, registered with napari for this test."""
    manifest = PluginManifest.from_file(Path(napari_almadet.__file__).parent / "napari.yaml")
    npe2pm.register(manifest)
    return manifest.name
