"""Several cubes in one viewer: matching of their channels, and a slider that counts the channels of one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Layer
from psygnal import Signal

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.placement import Match, match_channels
from napari_almadet.plugin.existing import existing
from napari_almadet.plugin.layers import voxels

if TYPE_CHECKING:
    from napari.viewer import Viewer

SMALL = 0.15  # fraction of the canvas: if a cube's field is smaller, switching to the cube zooms to it


class CubePlaces:
    """Positions the cubes of a viewer along the spectral axis, relative to the one that is inspected.

    Their positions on the sky are in the affine set by `layers.cube_layer`.

    Attributes
    ----------
    image
        The cube whose channels the slider counts.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer):
        self.viewer = viewer
        self.image: Image | None = None
        self._by: Match | None = None
        self._setting = False
        viewer.dims.events.range.connect(self._range_changed)

    @property
    def by(self) -> Match | None:
        """How channels are matched; None: by velocity if the bands overlap, else by frequency, else by number."""
        return self._by

    @by.setter
    def by(self, by: Match | None) -> None:
        if by != self._by:
            self._by = by
            self.turn_to(self.image)
            self.changed.emit()

    def cubes(self) -> list[Image]:
        """The layers that carry a cube."""
        images = (layer for layer in self.viewer.layers if isinstance(layer, Image) and layer.ndim == 3)
        return [image for image in images if isinstance(image.metadata.get("cube"), Cube)]

    def turn_to(self, image: Image | None) -> bool:
        """Match the channels of all cubes with those of ``image``, and stay at the velocity or frequency shown.

        Returns whether it is in the band of ``image``.
        """
        self.image = image
        cubes = self.cubes()
        if image is None or image not in cubes or len(cubes) < 2:
            return False
        point = image.world_to_data(self.viewer.dims.point)[-3]
        channel = int(np.clip(np.round(point), 0, voxels(image).shape[0] - 1))
        self._setting = True  # until all are placed
        try:
            for other in cubes:
                slope, offset = (1.0, 0.0) if other is image else self.match(other)
                for layer in (other, *self._with(other)):
                    _place(layer, slope * image.scale[0] / layer.scale[0], offset * image.scale[0])
        finally:
            self._setting = False
        self._range_changed()
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, image.data_to_world((channel, 0, 0))[-3])
        return bool(channel == np.round(point))

    def match(self, other: Image) -> tuple[float, float]:
        """Slope and offset that convert channels of another cube to those of the inspected one."""
        cube, reference = other.metadata["cube"], existing(self.image).metadata["cube"]
        for by in (self._by,) if self._by else (Match.VELOCITY, Match.FREQUENCY):
            found = match_channels(cube, reference, by)
            if found is not None and (self._by or _overlap(found, cube, reference)):
                return found
        return 1.0, 0.0

    def _with(self, image: Image) -> list[Layer]:
        """Three-dimensional layers in the voxels of a cube, such as its masks."""
        cube = image.metadata["cube"]
        return [layer for layer in self.viewer.layers if layer.ndim == 3 and layer.metadata.get("voxels_of") is cube]

    def _range_changed(self, *_: object) -> None:
        """Restrict the slider to the channels of the inspected cube: napari's covers the channels of all cubes."""
        image, dims = self.image, self.viewer.dims
        if self._setting or image is None or image not in self.viewer.layers or len(self.cubes()) < 2:
            return
        first, second = (image.data_to_world((channel, 0, 0))[-3] for channel in (0, 1))
        step = second - first
        wanted = (first, first + (voxels(image).shape[0] - 1) * step, step)
        axis = dims.ndim - 3
        if not np.allclose(dims.range[axis], wanted):
            self._setting = True
            try:
                dims.set_range(axis, wanted)
            finally:
                self._setting = False

    def show_field(self, image: Image) -> None:
        """Zoom to a cube's field if it is outside the canvas or small on it."""
        viewer = self.viewer
        if viewer.dims.ndisplay == 3 or len(self.cubes()) < 2:
            return
        camera, corners = viewer.scene.camera, image.extent.world[:, -2:]
        half = np.array(viewer.canvas.size) / camera.zoom / 2
        away = np.abs(corners.mean(axis=0) - np.array(camera.center[-2:]))
        if (away > half).any() or (np.ptp(corners, axis=0) < SMALL * 2 * half).all():
            self.fit_view(image)

    def fit_view(self, image: Image | None) -> None:
        """Fit a cube's field into the canvas; for a single cube the same as napari's own button."""
        if image is None or len(self.cubes()) < 2:
            self.viewer.reset_view()
            return
        if self.viewer.dims.ndisplay == 3:
            self._fit_volume(image)
            return
        camera, corners = self.viewer.scene.camera, image.extent.world[:, -2:]
        camera.center = (*camera.center[:-2], *corners.mean(axis=0))
        camera.zoom = 0.95 * float(
            (np.array(self.viewer.canvas.size) / np.maximum(np.ptp(corners, axis=0), 1e-9)).min()
        )

    def _fit_volume(self, image: Image) -> None:
        """Show the whole cube in three dimensions, with room for it in any orientation."""
        camera, corners = self.viewer.scene.camera, image.extent.world[:, -3:]
        camera.center = tuple(corners.mean(axis=0))
        camera.zoom = 0.95 * float(np.min(self.viewer.canvas.size) / max(np.linalg.norm(np.ptp(corners, axis=0)), 1e-9))


def _overlap(found: tuple[float, float], cube: Cube, reference: Cube) -> bool:
    slope, offset = found
    low, high = sorted((offset, offset + slope * (cube.shape[0] - 1)))
    return high >= 0 and low <= reference.shape[0] - 1


def _place(layer: Layer, slope: float, offset: float) -> None:
    """Set the spectral part of a layer's affine; its position on the sky does not change."""
    matrix = np.array(layer.affine.affine_matrix)
    before = matrix.copy()
    matrix[-4, -4], matrix[-4, -1] = slope, offset
    if not np.allclose(matrix, before):
        layer.affine = matrix
