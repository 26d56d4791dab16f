"""What the menu "Canvas" draws over the cube: napari's own overlays, and layers that go with the cube."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from made_by_hand import make_detections
from napari.layers import Layer, Points

from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.canvas_menu import UNIT, CanvasMenu
from napari_almadet.plugin.spectral_choice import SpectralChoice

pytestmark = pytest.mark.no_window


@pytest.fixture
def session(unsearched):
    return unsearched


@pytest.fixture
def menu(session, qtbot):
    menu = CanvasMenu(session, SpectralChoice(session))
    qtbot.addWidget(menu)
    return menu


def test_the_colour_bar_has_the_unit_of_the_file_and_goes_with_the_cube(
    menu, session, viewer, cube_image, data, header
):
    overlays = viewer.canvas.overlays
    menu.colour_bar.trigger()
    assert cube_image.colorbar.visible and overlays[UNIT].visible and overlays[UNIT].text == "Jy/beam"
    kelvin = Cube(data, wcs=WCS(header), unit=u.K, header=header, name="other")
    other = viewer.add_layer(Layer.create(*layers.cube_layer(kelvin)))
    session.inspect(other)
    assert other.colorbar.visible and not cube_image.colorbar.visible and overlays[UNIT].text == "K"
    menu.colour_bar.trigger()
    assert not other.colorbar.visible and not overlays[UNIT].visible


def test_channel_frequency_and_velocity_are_written_where_nothing_covers_them(menu, session, viewer):
    text = viewer.canvas.overlays.text
    menu.words.trigger()
    session.set_channel(12)
    assert text.visible and text.text.splitlines()[0] == "channel 12" and text.position == "top_left"
    assert text.text.splitlines()[1] == "230.12000 GHz" and "km/s" in text.text.splitlines()[2]
    menu.words.trigger()
    assert not text.visible


def test_names_of_coordinates_do_not_lie_on_each_other_however_far_out_one_zooms(menu, viewer, qtbot):
    menu.axes.trigger()
    (names,) = (layer for layer in viewer.layers if isinstance(layer, Points))
    viewer.scene.camera.zoom = 200.0
    qtbot.waitUntil(lambda: names.shown.all())
    viewer.scene.camera.zoom = 4.0
    qtbot.waitUntil(lambda: 1 <= names.shown.sum() < len(names.shown))
    places = np.asarray(names.data)[names.shown] * 0.1 * 4.0  # pixels of 0.1", on the screen
    texts = names.features["name"].to_numpy()[names.shown]
    for i, (y, x) in enumerate(places):
        others = np.delete(np.arange(len(places)), i)
        beside = np.abs(places[others, 0] - y) >= 12
        beside |= places[others, 1] - x >= 6 * len(texts[i])
        beside |= x - places[others, 1] >= 6 * np.array([len(t) for t in texts[others]])
        assert beside.all()


def test_with_a_grid_and_a_beam_over_it_another_cube_can_be_chosen(menu, session, viewer, cube_image, data, header):
    menu.axes.trigger()
    menu.beam.trigger()
    kelvin = Cube(data, wcs=WCS(header), unit=u.K, header=header, name="other")
    other = viewer.add_layer(Layer.create(*layers.cube_layer(kelvin)))
    session.inspect(other)
    session.inspect(cube_image)  # as from the list in the form: the other's layer is the active one
    assert session.image == cube_image and viewer.layers.selection.active == cube_image
    names = [layer.name for layer in viewer.layers]
    assert sorted(names) == sorted(["toy", "other", "toy beam", "toy grid", "toy coordinates"])
    mine = viewer.add_points([[3, 3]], name="mine")
    session.inspect(other)
    assert session.image == other and viewer.layers.selection.active == mine


def test_what_is_drawn_is_of_the_cube_on_screen_also_when_the_one_before_was_searched(
    menu, session, viewer, cube_image, cube, data, header
):
    session.present(cube_image, make_detections(cube))
    for action in (menu.axes, menu.colour_bar, menu.words):
        action.trigger()
    header["CRVAL1"], header["CRVAL3"] = 10.0, 3.45e11
    kelvin = Cube(data, wcs=WCS(header), unit=u.K, header=header, name="other")
    session.inspect(viewer.add_layer(Layer.create(*layers.cube_layer(kelvin))))
    (names,) = (layer for layer in viewer.layers if isinstance(layer, Points))
    ascensions = [name for name in names.features["name"] if "h" in name]
    assert ascensions and all(name.startswith(("0h39m", "0h40m", "00h39m", "00h40m")) for name in ascensions)
    assert viewer.canvas.overlays[UNIT].text == "K"
    assert viewer.canvas.overlays.text.text.splitlines()[1].startswith("345.")
