"""``almadet demo``: the sample cube in napari, with a detection that starts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_almadet.plugin.detect_widget import DetectWidget
from napari_almadet.plugin.panels import PLUGIN, open_widget

if TYPE_CHECKING:
    from napari.viewer import Viewer


def run_demo() -> None:
    """Open napari on the sample cube, start a detection, and stay until the window is closed."""
    import napari

    open_demo(napari.Viewer())
    napari.run()


def open_demo(viewer: Viewer) -> DetectWidget:
    """Load the sample cube into a viewer, open the plugin's widget and start the detection."""
    viewer.open_sample(PLUGIN, "simulated_sources")
    widget = open_widget(viewer)
    widget.detect()
    return widget
