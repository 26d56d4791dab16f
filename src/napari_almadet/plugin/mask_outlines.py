"""The outlines of masks in the channel on screen, as lines of a width in pixels of the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Vectors

from napari_almadet.inspection.canvas_marks import pixel_edges
from napari_almadet.plugin.layers import sky_plane
from napari_almadet.plugin.line_layer import LineLayer

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_almadet.catalogue.candidate import SourceMask


class MaskOutlines(LineLayer):
    """A layer of the edges between a mask's pixels and others, present while outlines are drawn in two dimensions.

    It is a Vectors layer: the contours of napari's Labels are a pixel of the cube wide, whatever the zoom.
    """

    def show(
        self, image: Image, masks: Sequence[SourceMask], colours: Sequence[np.ndarray], channel: int, width: float
    ) -> None:
        """Show the outlines of masks in a channel, in their colours (RGBA), with lines of a width in pixels."""
        found, of = [np.empty((0, 2, 2))], []
        for mask, colour in zip(masks, colours, strict=True):
            planes, (z, y, x) = mask.voxels, mask.origin
            if 0 <= channel - z < len(planes):
                found.append(pixel_edges(planes[channel - z]) + np.array([[y, x], [0, 0]]))
                of += [colour] * len(found[-1])
        data, edge_color = np.concatenate(found), np.array(of).reshape(-1, 4) if of else "white"
        layer = self.shown
        if layer is None:
            layer = Vectors(
                np.empty((0, 2, 2)),
                ndim=2,
                name=f"{image.name} mask outlines",
                vector_style="line",
                opacity=1.0,
                metadata={"marks": 1.0},
                **sky_plane(image),
            )
            self.add(layer)
        layer.data = data
        layer.edge_color = edge_color
        layer.edge_width = width
