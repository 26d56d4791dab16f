"""A small cube with known sources in a viewer, and the plugin on it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from made_by_hand import N_CHANNELS, N_X, N_Y, SIGMA_PER_FWHM, SOURCES, make_detections
from napari import settings
from napari.components import ViewerModel
from napari.layers import Layer
from napari.qt.threading import WorkerBase
from napari.utils._proxies import PublicOnlyProxy
from napari.viewer import Viewer
from npe2 import PluginManifest
from qtpy.QtWidgets import QApplication
from radio_beam import Beam

import napari_almadet
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.detect_widget import DetectWidget
from napari_almadet.plugin.napari_workarounds import import_apart
from napari_almadet.plugin.session import Session

WORKERS_END = 60  # seconds, far more than any worker of these tests needs


@pytest.fixture(scope="session", autouse=True)
def torch_is_there():
    """As the panels see to before a worker uses it: tests that give them other networks leave that out."""
    import_apart("torch")


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch) -> Path:
    """napari's settings in a file of the test's own: it is not to change those of whoever runs it."""
    file = tmp_path / "napari.yaml"
    monkeypatch.setattr(settings, "_SETTINGS", None)
    monkeypatch.setenv("NAPARI_CONFIG", str(file))  # of programs that the test starts
    settings.get_settings(file)
    return file


@pytest.fixture(autouse=True)
def unsaved(tmp_path, monkeypatch) -> Path:
    """Sessions that nobody saved go to a folder of the test's own."""
    folder = tmp_path / "unsaved"
    monkeypatch.setattr("napari_almadet.plugin.autosave.unsaved_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def closing_waits_for_workers(monkeypatch):
    """A viewer is closed when no worker is left.

    napari's fixture then looks for viewers that were not freed, and a worker that a timer has started meanwhile keeps
    its viewer and stops the collection of garbage (`napari_workarounds.Unobtrusive`): the viewer would seem to leak.
    """
    close = Viewer.close

    def close_and_wait(viewer: Viewer) -> None:
        close(viewer)
        until = time.monotonic() + WORKERS_END
        while WorkerBase._worker_set:
            assert time.monotonic() < until, f"still at work: {WorkerBase._worker_set}"
            QApplication.processEvents()
            time.sleep(0.001)

    monkeypatch.setattr(Viewer, "close", close_and_wait)


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
def data(made_once) -> np.ndarray:
    """The sources of `SOURCES` in noise of 0.05, seeded."""
    return made_once.copy()


@pytest.fixture(scope="session")
def made_once() -> np.ndarray:
    """What each test gets a copy of as `data`."""
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


@pytest.fixture
def detections(cube) -> Detections:
    """Four candidates in the toy cube: two kept, one flagged, one dropped."""
    return make_detections(cube)


@pytest.fixture
def viewer(request):
    """An empty viewer, as a plugin sees it; quick and without a window in files marked `no_window`."""
    if request.node.get_closest_marker("no_window") is not None:
        return PublicOnlyProxy(ViewerModel())
    return request.getfixturevalue("make_napari_viewer_proxy")()


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
def unsearched(viewer, cube_image):
    """A session on a cube that was not searched."""
    session = Session.of(viewer)
    session.inspect(cube_image)
    return session


@pytest.fixture
def session(viewer, cube_image, detections):
    """A session with the hand-made detections on show."""
    session = Session.of(viewer)
    session.inspect(cube_image)
    session.present(cube_image, detections)
    return session


@pytest.fixture
def plugin(npe2pm) -> str:
    """The plugin's name, registered with napari for this test."""
    manifest = PluginManifest.from_file(Path(napari_almadet.__file__).parent / "napari.yaml")
    npe2pm.register(manifest)
    return manifest.name
