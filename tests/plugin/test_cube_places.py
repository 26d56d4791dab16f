"""Two cubes at once: each at its place, the slider in channels of the one that is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from made_by_hand import make_detections
from napari.layers import Layer

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.placement import Match
from napari_almadet.plugin import layers

pytestmark = pytest.mark.no_window


@pytest.fixture
def other(session, viewer, data, header):
    """Another cube beside the toy cube: larger pixels, half as wide channels that fall in frequency."""
    header = header.copy()
    header["CRVAL1"] += 12 / 3600
    header["CDELT1"], header["CDELT2"], header["CDELT3"] = -0.2 / 3600, 0.2 / 3600, -5e6
    header["CRVAL3"] = 2.303e11
    cube = Cube(data, wcs=WCS(header), unit=u.Jy / u.beam, header=header, name="other")
    return viewer.add_layer(Layer.create(*layers.cube_layer(cube, layers.frame_in(viewer))))


def test_a_place_on_the_sky_is_at_one_place(session, cube_image, other, cube):
    sky = other.metadata["cube"].sky(70, 40)
    x, y = cube.celestial.world_to_pixel(sky)
    np.testing.assert_allclose(
        other.data_to_world((0, 40, 70))[1:], cube_image.data_to_world((0, y, x))[1:], atol=0.005
    )


def test_units_are_not_dropped(viewer, other):
    assert viewer.layers.extent.units is not None


def test_the_slider_counts_the_channels_of_the_cube_that_is_looked_at(session, viewer, cube_image, other):
    assert session.image == other  # napari makes the new layer active
    assert viewer.dims.nsteps[0] == other.data.shape[0]
    viewer.dims.set_current_step(0, 20)
    assert session.channel == 20
    frequency = other.metadata["cube"].frequency(20)
    session.inspect(cube_image)
    assert viewer.dims.nsteps[0] == cube_image.data.shape[0]
    assert session.channel == viewer.dims.current_step[0] == 20  # 230.3 - 0.1 GHz is 230 + 20 * 0.01
    np.testing.assert_allclose(cube_image.metadata["cube"].frequency(20), frequency)
    assert other.world_to_data(viewer.dims.point)[0] == pytest.approx(20)
    viewer.dims.set_current_step(0, 22)
    assert other.world_to_data(viewer.dims.point)[0] == pytest.approx(16)


def test_channels_can_be_matched_by_their_numbers(session, viewer, cube_image, other):
    session.places.by = Match.CHANNEL
    session.inspect(cube_image)
    session.set_channel(31)
    assert other.world_to_data(viewer.dims.point)[0] == pytest.approx(31)


def test_boxes_are_drawn_over_their_own_cube_only(session, viewer, cube_image, other):
    found = make_detections(other.metadata["cube"])
    session.present(other, found)
    mine, theirs = viewer.layers["toy candidates"], viewer.layers["other candidates"]
    assert (mine.visible, theirs.visible) == (False, True)
    y, x = 28, 90
    np.testing.assert_allclose(theirs.data_to_world((y, x)), other.data_to_world((0, y, x))[1:], atol=1e-4)
    session.inspect(cube_image)
    assert (mine.visible, theirs.visible) == (True, False)


def test_the_camera_goes_to_a_cube_that_lies_elsewhere(session, viewer, data, header):
    header["CRVAL1"], header["CRVAL2"] = 20.0, 41.0
    cube = Cube(data, wcs=WCS(header), unit=u.Jy / u.beam, header=header, name="far")
    far = viewer.add_layer(Layer.create(*layers.cube_layer(cube, layers.frame_in(viewer))))
    assert session.image == far
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], far.extent.world[:, -2:].mean(axis=0), rtol=1e-6)


def test_who_comes_back_to_a_cube_finds_the_candidate_looked_at_last(session, cube_image, other):
    session.inspect(cube_image)
    session.select(session.candidates[2])
    session.inspect(other)
    assert session.selected is None
    session.inspect(cube_image)
    assert session.selected is session.candidates[2]
    assert session.channel == 12  # the same place in the spectrum


def test_in_three_dimensions_the_cube_on_screen_is_seen_and_not_half_the_sky(
    session, viewer, cube_image, data, header, qtbot
):
    header = header.copy()
    header["CRVAL1"] += 100.0
    far = Cube(data, wcs=WCS(header), unit=u.Jy / u.beam, header=header, name="far")
    layer = viewer.add_layer(Layer.create(*layers.cube_layer(far, layers.frame_in(viewer))))
    for image in (layer, cube_image):
        session.inspect(image)
        for ndisplay in (3, 2):
            viewer.dims.ndisplay = ndisplay
            qtbot.wait(20)
            camera, corners = viewer.scene.camera, image.extent.world[:, -ndisplay:]
            away = np.array(camera.center[-ndisplay:]) - corners.mean(axis=0)
            half = np.array(viewer.canvas.size).min() / camera.zoom / 2
            assert np.linalg.norm(away) < 0.01 * half and np.ptp(corners, axis=0).max() > 0.2 * half
