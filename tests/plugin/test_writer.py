"""The layer of boxes can be saved from napari's own dialog."""

from __future__ import annotations

from astropy.table import Table
from napari.layers import Shapes
from regions import Regions

from napari_almadet.plugin.writer import write_boxes


def test_the_boxes_are_saved_by_their_ending(viewer, session, plugin, tmp_path):
    boxes = viewer.layers["toy candidates"]
    for name in ("mine.ecsv", "mine.vot", "mine.reg", "mine.crtf"):
        (path,) = boxes.save(str(tmp_path / name), plugin=plugin)
        read = Regions.read(path) if name.endswith(("reg", "crtf")) else Table.read(path)
        assert len(read) == 3


def test_other_shapes_are_no_candidates(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr("napari_almadet.plugin.writer.show_error", told.append)
    layer = Shapes([[[0, 0], [5, 5]]], shape_type="line", name="mine")
    data, meta, _ = layer.as_layer_data_tuple()
    assert write_boxes(str(tmp_path / "mine.ecsv"), data, meta) == []
    assert "mine contains no candidates" in told[0]
    assert list(tmp_path.glob("*.ecsv")) == []
