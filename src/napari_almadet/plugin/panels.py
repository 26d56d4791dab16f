"""Opening and finding the panels of the plugin, also for a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_almadet.plugin.session import Session

if TYPE_CHECKING:
    from napari import Viewer

    from napari_almadet.plugin.detect_widget import DetectWidget

PLUGIN, TITLE, WIDGET = "napari-almadet", "ALMA source detection", "Detect sources"  # as in napari.yaml


def open_panels(viewer: Viewer | None) -> None:
    """Open the plugin's panels in a viewer's window, unless they are open, as soon as the layers exist."""
    from qtpy.QtCore import QTimer

    def opened() -> None:
        open_widget(viewer)
        session = Session.of(viewer)
        if session.selected is None and session.candidates:
            session.select(session.candidates[0])

    if hasattr(viewer, "window"):
        QTimer.singleShot(0, opened)


def open_widget(viewer: Viewer) -> DetectWidget:
    """Open the plugin's widget, or find the open one, with the name that napari's menu uses to show and hide it."""
    from napari_almadet.plugin.detect_widget import DetectWidget

    name = f"{WIDGET} ({TITLE})"
    if name not in viewer.window.dock_widgets:
        viewer.window.add_dock_widget(DetectWidget(viewer), name=name)
    widget = viewer.window.dock_widgets[name]
    widget.parent().show()
    widget.open_inspector()
    return widget
