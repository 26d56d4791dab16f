"""The button, the real pipeline and the panels together."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from scipy.ndimage import gaussian_filter, gaussian_filter1d

import napari_almadet
from napari_almadet.plugin.detect_widget import detection
from napari_almadet.plugin.inspector import SETTLED_MS

WEIGHTS = Path(napari_almadet.__file__).parent / "networks" / "weights"


def blurred_and_cut(windows):
    """Stands for Blobs Finder: what is five sigma high after a blur."""
    import torch

    answers = []
    for window in windows.numpy()[:, 0]:
        above = gaussian_filter(window, 2)
        above -= np.median(above)
        sigma = 1.4826 * np.median(np.abs(above[np.abs(above) > 1e-4]))  # the padding around a small field is flat
        answers.append(np.clip((above - 5 * sigma) / (10 * sigma) + 0.1, 0, 1))
    return torch.from_numpy(np.stack(answers)[:, None])


def smooth_spectra(spectra):
    """Stands for Deep GRU: what is high after a blur."""
    import torch

    smooth = gaussian_filter1d(spectra.numpy(), 1.5, axis=-1)
    return torch.from_numpy(np.where(smooth > 1, smooth / smooth.max(axis=-1, keepdims=True), 0).astype(np.float32))


def press_and_wait(widget, qtbot):
    qtbot.mouseClick(widget.detect_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: widget.detect_button.isEnabled(), timeout=60_000)


def test_real_pipeline_behind_the_button(viewer, cube_image, make_widget, qtbot):
    from napari_almadet.detection import detect_steps
    from napari_almadet.paper.pipeline import Networks

    run = partial(detect_steps, networks=Networks(blurred_and_cut, smooth_spectra))
    widget = make_widget(run)
    press_and_wait(widget, qtbot)
    found = widget.session.detections.kept
    for x, y, channel in ((60, 50, 20), (30, 72, 34), (90, 28, 12)):
        nearest = min(found, key=lambda c, x=x, y=y: np.hypot(c.x - x, c.y - y))
        assert np.hypot(nearest.x - x, nearest.y - y) < 1
        widget.session.select(nearest)
        assert viewer.dims.current_step[0] == pytest.approx(channel, abs=1)
        inspector = viewer.window.dock_widgets["Candidate inspector"]
        assert "Jy km" in inspector.numbers.text()


@pytest.mark.skipif(not list(WEIGHTS.glob("*.safetensors")), reason="no trained weights yet")
def test_shipped_networks_behind_the_button(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(detection)
    press_and_wait(widget, qtbot)
    assert widget.session.detections is not None
    networks = widget.session.detections.provenance["networks"]
    assert set(networks) == {"source_finder", "line_finder", "judge", "extent_classifier"}
    assert all(network["sha256"] for network in networks.values())


def test_the_papers_networks_behind_the_button(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(detection)
    widget.preset.setCurrentText("paper")
    assert (widget.threshold.value(), widget.keep_continuum.isChecked()) == (0.1, False)
    press_and_wait(widget, qtbot)
    assert set(widget.session.detections.provenance["networks"]) == {"blobs_finder", "deep_gru"}


def test_sample_cubes_open_from_the_menu(viewer, plugin):
    (layer,) = viewer.open_sample(plugin, "noise_only")
    assert layer.axis_labels == ("freq", "dec", "ra")
    assert layer.data.ndim == 3
    assert tuple(viewer.scene.camera.orientation2d) == ("up", "right")


def test_the_sample_with_sources_brings_its_truth(viewer, plugin):
    """A hidden layer of points, each on a source of the cube, over all channels."""
    cube, truth = viewer.open_sample(plugin, "simulated_sources")
    assert not truth.visible
    assert (truth.units, tuple(truth.scale)) == (cube.units[-2:], tuple(cube.scale[-2:]))
    stacked = cube.data.sum(axis=0)
    brightest = truth.data[truth.features["snr_stack"].argmax()]
    y, x = np.unravel_index(stacked.argmax(), stacked.shape)
    assert np.hypot(*(brightest - (y, x))) < 4


def test_demo_loads_the_sample_and_starts(viewer, plugin, qtbot, monkeypatch):
    from napari_almadet.detection import detect_steps
    from napari_almadet.paper.pipeline import Networks
    from napari_almadet.plugin import demo, detect_widget

    run = partial(detect_steps, networks=Networks(blurred_and_cut, smooth_spectra))
    monkeypatch.setattr(detect_widget.DetectWidget.__init__, "__defaults__", (run,))
    widget = demo.open_demo(viewer)
    assert widget.cancel_button.isEnabled()
    qtbot.waitUntil(widget.detect_button.isEnabled, timeout=60_000)
    assert [layer.name.rpartition(" ")[2] for layer in viewer.layers] == [
        "sources",
        "truth",
        "probability",
        "candidates",
    ]
    qtbot.wait(SETTLED_MS)


def test_a_second_run_replaces_the_first(viewer, cube_image, make_widget, qtbot):
    """As the real pipeline does it, with a cube that each run prepares anew."""
    widget = make_widget(detection)
    for _ in range(2):
        press_and_wait(widget, qtbot)
        names = [layer.name for layer in viewer.layers if layer.name != "toy masks"]
        assert names == ["toy", "toy probability", "toy candidates"]
