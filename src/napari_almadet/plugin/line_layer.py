"""A layer of lines that comes and goes: outlines of masks, and blocks of candidates in three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.layers import Vectors
    from napari.viewer import Viewer


class LineLayer:
    """A Vectors layer in a viewer, which the user may remove.

    Attributes
    ----------
    layer
        The layer last added; it may have been removed since.
    """

    def __init__(self, viewer: Viewer):
        self.viewer = viewer
        self.layer: Vectors | None = None

    @property
    def shown(self) -> Vectors | None:
        """The layer, if it is in the viewer."""
        return self.layer if self.layer is not None and self.layer in self.viewer.layers else None

    def add(self, layer: Vectors) -> None:
        """Add the layer; the active one remains active."""
        active = self.viewer.layers.selection.active
        self.layer = layer
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = active

    def hide(self) -> None:
        """Remove the layer."""
        layer, self.layer = self.shown, None
        if layer is not None:
            self.viewer.layers.remove(layer)
