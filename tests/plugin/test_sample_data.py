"""Samples are made beside the window, not in its thread."""

from __future__ import annotations

import threading

from astropy.table import QTable

from napari_almadet.plugin import sample_data
from napari_almadet.plugin.panels import PLUGIN


def test_cube_and_layers_of_a_sample_are_made_while_the_window_paints(make_napari_viewer, cube, monkeypatch):
    viewer = make_napari_viewer()
    threads = []
    make = sample_data.cube_layer

    def watched(*given):
        threads.append(threading.current_thread())
        return make(*given)

    monkeypatch.setattr(sample_data, "cube_layer", watched)
    monkeypatch.setattr(sample_data, "_simulated", lambda kind: (cube, QTable()))
    viewer.open_sample(PLUGIN, "noise_only")
    assert [layer.name for layer in viewer.layers] == ["toy"]
    assert threads and threading.main_thread() not in threads
