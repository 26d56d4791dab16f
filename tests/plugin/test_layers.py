"""What napari is given agrees with the cube and with the candidates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS
from napari.components import ViewerModel
from napari.layers import Image, Layer, Shapes

from napari_almadet.catalogue.candidate import Box, SourceMask
from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers


@pytest.fixture
def image(cube) -> Image:
    return Layer.create(*layers.cube_layer(cube))


def boxes(detections, candidates, image) -> Shapes:
    detections = replace(detections, candidates=candidates)
    return Layer.create(*layers.boxes_layer(detections, layers.features(detections, candidates), image))


def test_cube_layer_has_arcsec_on_the_sky_and_words_on_its_axes(image, cube):
    assert image.data is cube.data
    assert image.axis_labels == ("freq", "dec", "ra")
    np.testing.assert_allclose(image.scale, 0.1, rtol=1e-6)
    assert [str(unit) for unit in image.units] == ["pixel", "arcsecond", "arcsecond"]
    assert image.metadata["cube"] is cube


@pytest.mark.parametrize(
    ("ctype", "unit", "word"), [("VRAD", "m/s", "velocity"), ("VOPT", "m/s", "velocity"), ("WAVE", "m", "wavelength")]
)
def test_spectral_axis_is_called_by_its_kind(data, header, ctype, unit, word):
    header["CTYPE3"], header["CUNIT3"], header["CRVAL3"], header["CDELT3"] = ctype, unit, 1e-3, 1e-6
    layer = Layer.create(*layers.cube_layer(Cube(data, wcs=WCS(header))))
    assert layer.axis_labels[0] == word


def test_bare_array_is_in_pixels_and_channels(data):
    layer = Layer.create(*layers.cube_layer(Cube.from_array(data, name="bare")))
    assert layer.axis_labels == ("channel", "y", "x")
    np.testing.assert_array_equal(layer.scale, 1)


def test_big_endian_read_only_cube_is_shown_as_it_is(data, header):
    big = data.astype(">f4")
    big.flags.writeable = False
    layer = Layer.create(*layers.cube_layer(Cube(big, wcs=WCS(header))))
    assert layer.data is big
    viewer = ViewerModel()
    viewer.add_layer(layer)
    viewer.dims.set_current_step(0, 20)
    assert layer.get_value((2.0, 5.0, 6.0), world=True) == pytest.approx(data[20, 50, 60])


def test_contrast_ignores_blank_planes_and_holes():
    rng = np.random.default_rng(3)
    data = rng.normal(0, 1, (31, 64, 64)).astype(np.float32)
    data[:4], data[-4:] = np.nan, 0
    data[:, :10] = np.nan
    low, high = layers.contrast_limits(Cube.from_array(data))
    # 1 % of a unit normal, and six of its sigma
    assert low == pytest.approx(-2.33, abs=0.1)
    assert high == pytest.approx(6, abs=0.3)
    huge = data.copy()
    huge[:, :, 40:] = 1e30  # as some programs mark that there is no data
    assert layers.contrast_limits(Cube.from_array(huge)) == pytest.approx((low, high), abs=0.2)


def test_contrast_of_a_blank_sample_is_left_to_napari():
    data = np.zeros((5, 8, 8), dtype=np.float32)
    data[2, 4, 4] = np.nan
    assert layers.contrast_limits(Cube.from_array(data)) is None


def test_contrast_reads_a_sample_only(cube):
    read = []

    class Counting(Cube):
        def read(self, channel=slice(None), y=slice(None), x=slice(None)):
            part = super().read(channel, y, x)
            read.append(part.size)
            return part

    big = Counting(np.broadcast_to(cube.data[:1], (2000, 100, 120)))
    layers.contrast_limits(big, planes=9, pixels=1000)
    assert sum(read) < 20_000


def test_boxes_enclose_their_pixels(detections, image):
    layer = boxes(detections, detections.kept, image)
    assert (layer.nshapes, layer.ndim) == (3, 2)
    for corners, candidate in zip(layer.data, detections.kept, strict=True):
        y0, x0 = corners.min(axis=0)
        y1, x1 = corners.max(axis=0)
        inside = np.zeros(detections.cube.shape[1:], dtype=bool)
        inside[candidate.box.slices] = True
        y, x = np.indices(inside.shape)
        np.testing.assert_array_equal(inside, (y > y0) & (y < y1) & (x > x0) & (x < x1))


def test_all_layers_share_one_frame(detections, image):
    with_probability = Layer.create(*layers.probability_layer(detections, image))
    with_boxes = boxes(detections, detections.kept, image)
    viewer = ViewerModel()
    for layer in (image, with_probability, with_boxes):
        viewer.add_layer(layer)
    assert viewer.layers.extent.units is not None  # None: napari dropped them for being inconsistent
    y, x = 50, 60
    assert with_boxes.data_to_world((y, x)) == pytest.approx(image.data_to_world((0, y, x))[1:])
    assert with_probability.data_to_world((y, x)) == pytest.approx(image.data_to_world((0, y, x))[1:])


def test_layers_follow_a_cube_that_lies_elsewhere(detections, data):
    image = Image(data, scale=(2, 3, 4), translate=(5, 6, 7), axis_labels=("z", "y", "x"))
    layer = boxes(detections, detections.kept, image)
    assert layer.data_to_world((1, 1)) == pytest.approx(image.data_to_world((0, 1, 1))[1:])


def test_features_hold_the_world_coordinates(detections, header):
    rows = layers.features(detections, detections.candidates)
    wcs = WCS(header)
    for row, candidate in zip(rows.itertuples(), detections.candidates, strict=True):
        ra, dec, frequency = map(float, wcs.pixel_to_world_values(candidate.x, candidate.y, candidate.z))
        assert (row.ra, row.dec, row.freq) == pytest.approx((ra, dec, frequency))
        # radio convention: v = c (1 - f / f0)
        assert row.v_rad == pytest.approx(299792.458 * (1 - frequency / header["RESTFRQ"]))
        assert (row.x_min, row.x_max) == (candidate.box.x0, candidate.box.x1 - 1)
    assert list(rows["status"]) == ["kept", "kept", "flagged", "dropped"]


def test_no_candidates_make_an_empty_layer_that_can_be_drawn_in(detections, image):
    layer = boxes(detections, [], image)
    assert layer.nshapes == 0
    layer.add_rectangles(np.array([[0, 0], [5, 5]]))
    assert layer.features["id"].iloc[0] == layers.UNKNOWN


def test_box_that_the_user_draws_is_no_candidate(detections, image):
    layer = boxes(detections, detections.kept, image)
    layer.add_rectangles(np.array([[0, 0], [5, 5]]))
    assert layer.features["id"].tolist() == [1, 2, 3, layers.UNKNOWN]


def test_a_box_is_what_its_outline_encloses(detections):
    for candidate in detections.candidates:
        (outline,) = layers.corners([candidate.box])
        assert layers.box_of(outline) == candidate.box
        assert layers.box_of(outline + 0.4) == candidate.box
        y, x = 1, -2
        moved = Box(candidate.box.y0 + y, candidate.box.y1 + y, candidate.box.x0 + x, candidate.box.x1 + x)
        assert layers.box_of(outline + np.array([y, x])) == moved
    assert layers.box_of(np.array([[3.0, 4.0], [3.1, 4.1]])) == Box(4, 5, 4, 5)  # one pixel at least


def test_rows_of_boxes_without_a_candidate_are_blank(detections):
    features = layers.features(detections, detections.candidates)
    rows = layers.rows_of(features, np.array([3, layers.UNKNOWN, 1]))
    assert rows["id"].tolist() == [3, layers.UNKNOWN, 1]
    assert rows["status"].tolist() == ["flagged", "", "kept"]
    assert np.isnan(rows["f_sum"][1])
    assert (rows.dtypes == features.dtypes).all()


def test_features_of_some_boxes_are_written_anew(detections, image):
    layer = boxes(detections, detections.candidates, image)
    before = layer.features.copy()
    detections.candidates[1].note = "mine"
    changed = layers.features(detections, detections.candidates)
    heard = []
    layer.events.features.connect(lambda event: heard.append(event))
    layers.rewrite(layer, changed, [2])
    assert layer.features["note"].tolist() == ["", "mine", "", ""]
    assert len(heard) == 1
    assert layer.features.drop(columns="note").equals(before.drop(columns="note"))


def test_masks_are_labels_in_the_voxels_of_the_cube(detections, image):
    assert layers.masks_layers(detections, image) == []
    first, second = detections.candidates[:2]
    first.mask = SourceMask((15, 45, 55), np.ones((10, 9, 9), bool))
    second.mask = SourceMask((30, 70, 28), np.ones((5, 4, 4), bool))
    masks = next(x for x in layers.make_result_layers(detections, image) if x.name == "toy masks")
    assert not masks.visible
    assert masks.data.shape == image.data.shape
    assert np.unique(masks.data).tolist() == [0, 1, 2]
    assert (masks.data[15:25, 45:54, 55:64] == 1).all()
    assert masks.data_to_world((20, 50, 60)) == image.data_to_world((20, 50, 60))
