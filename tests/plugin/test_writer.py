"""The layer of boxes can be saved from napari's own dialog."""

from __future__ import annotations

import pytest
from astropy.table import Table
from regions import Regions


def test_the_boxes_are_saved_by_their_ending(viewer, session, plugin, tmp_path):
    boxes = viewer.layers["toy candidates"]
    for name in ("mine.ecsv", "mine.vot", "mine.reg", "mine.crtf"):
        (path,) = boxes.save(str(tmp_path / name), plugin=plugin)
        read = Regions.read(path) if name.endswith(("reg", "crtf")) else Table.read(path)
        assert len(read) == 3


def test_other_shapes_are_no_candidates(viewer, plugin, tmp_path):
    layer = viewer.add_shapes([[[0, 0], [5, 5]]], shape_type="line")
    with pytest.raises(ValueError, match="no candidates"):
        layer.save(str(tmp_path / "mine.ecsv"), plugin=plugin)
