"""Candidates in 3-D: the edges of a block that spans its box and its channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Vectors

from napari_almadet.plugin.line_layer import LineLayer

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_almadet.catalogue.candidate import Candidate

# The twelve edges of a block: a corner and a direction (channel, y, x) each, in units of its sides.
CORNERS = np.array(
    [
        *[(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)],
        *[(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)],
        *[(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)],
    ],
    dtype=float,
)
DIRECTIONS = np.repeat(np.eye(3), 4, axis=0)


def edges(candidates: Sequence[Candidate]) -> np.ndarray:
    """Edges of the candidates' blocks as napari's vectors (12 n, 2, 3), at the outer faces of their voxels."""
    blocks = np.array(
        [((c.channels[0], c.box.y0, c.box.x0), (c.channels[1], c.box.y1, c.box.x1)) for c in candidates], dtype=float
    ).reshape(-1, 2, 3)
    low, sides = blocks[:, None, 0] - 0.5, blocks[:, None, 1] - blocks[:, None, 0]
    return np.stack([low + sides * CORNERS, sides * DIRECTIONS], axis=2).reshape(-1, 2, 3)


class Volumes(LineLayer):
    """A layer of such edges, present while the viewer is in 3-D, where napari would draw a box in one plane only.

    It is a Vectors layer: three-dimensional shapes are a mesh each, and slow for more than a few hundred.
    """

    def show(self, image: Image, candidates: Sequence[Candidate], colours: np.ndarray, width: float) -> None:
        """Show some candidates' blocks in their colours (n, 4), with lines of a width in the image's pixels."""
        data = edges(candidates)
        edge_color = np.repeat(colours, 12, axis=0) if len(data) else "white"
        layer = self.shown
        if layer is not None:
            layer.data = data
            layer.edge_color = edge_color
            layer.edge_width = width
            return
        self.add(
            Vectors(
                data,
                ndim=3,
                name=f"{image.name} candidates in 3-D",
                edge_color=edge_color,
                edge_width=width,
                vector_style="line",
                scale=image.scale[-3:],
                translate=image.translate[-3:],
                affine=image.affine.affine_matrix[-4:, -4:],
                units=image.units[-3:],
                axis_labels=image.axis_labels[-3:],
            )
        )
