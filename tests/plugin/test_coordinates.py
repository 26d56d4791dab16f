"""What the read-out says is what astropy's WCS says, wherever the pointer is."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from napari.layers import Layer
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from qtpy.QtWidgets import QApplication, QMenu

from napari_almadet.cube.cube import Cube
from napari_almadet.plugin import layers
from napari_almadet.plugin.coordinates import HINT, Readout, position_texts
from napari_almadet.plugin.session import Session
from napari_almadet.plugin.spectral_choice import SpectralChoice

pytestmark = pytest.mark.no_window


@pytest.fixture
def make_readout(viewer, qtbot):
    """A read-out on a cube in the viewer, and a function that points at one of its voxels."""

    def make(cube: Cube):
        session = Session.of(viewer)
        image = viewer.add_layer(Layer.create(*layers.cube_layer(cube)))
        session.inspect(image)
        readout = Readout(session, SpectralChoice(session))
        readout.resize(1000, 20)
        qtbot.addWidget(readout)

        def point(channel, y, x) -> str:
            viewer.mouse_over_canvas = True
            viewer.dims.set_point(0, image.data_to_world((channel, 0, 0))[0])
            viewer.cursor.position = image.data_to_world((channel, y, x))
            return readout.text()

        return readout, point

    return make


@pytest.mark.parametrize("frame", ["equatorial", "galactic"])
def test_position_of_rotated_oblong_pixels(make_readout, data, header, frame):
    angle = np.radians(25)
    header["PC1_1"], header["PC1_2"] = np.cos(angle), -np.sin(angle)
    header["PC2_1"], header["PC2_2"] = np.sin(angle), np.cos(angle)
    header["CDELT2"] *= 2
    if frame == "galactic":
        header["CTYPE1"], header["CTYPE2"] = "GLON-SIN", "GLAT-SIN"
        del header["RADESYS"]
    _, point = make_readout(Cube(data, wcs=WCS(header), unit=u.Jy / u.beam))
    words = point(7, 12, 90).split("  ")
    said = SkyCoord(*words[0].split(), unit=("hourangle", "deg"))
    expected = WCS(header).celestial.pixel_to_world(90, 12).icrs
    assert said.separation(expected).arcsec < 0.01


def test_spectral_coordinate_value_and_pixel(make_readout, cube):
    _, point = make_readout(cube)
    text = point(20, 50, 60)
    assert f"{230 + 0.2:.5f} GHz" in text
    assert f"{cube.velocity(20).value:.1f} km/s radio, LSRK" in text
    assert f"{cube.data[20, 50, 60]:.4g} Jy/beam" in text
    assert "x 60.0 y 50.0 chan. 20" in text
    value = cube.data[3, 2, 1]
    assert f"{1e3 * value:.4g} mJy/beam" in point(3, 2, 1)


def test_follows_the_chosen_convention(make_readout, cube):
    readout, point = make_readout(cube)
    point(20, 50, 60)
    readout.choice.choose("km/s optical")
    optical = (230 * u.GHz / cube.frequency(20) - 1).to_value("") * 299792.458
    assert f"{optical:.1f} km/s optical, LSRK" in readout.text()


def test_no_data(make_readout, cube):
    cube.data[3, 2, 1] = np.nan
    _, point = make_readout(cube)
    assert "no data" in point(3, 2, 1)


def test_beside_the_cube(make_readout, cube):
    _, point = make_readout(cube)
    assert point(3, 200, 1) == HINT
    assert point(3, -1, 1) == HINT


def test_nothing_is_said_before_anyone_points(make_readout, cube, viewer):
    readout, _ = make_readout(cube)
    viewer.dims.set_current_step(0, 5)
    viewer.cursor.position = (0.0, 1.0, 1.0)  # napari's own doing
    assert readout.text() == HINT


def test_what_does_not_fit_is_left_out_whole(make_readout, cube, qtbot):
    readout, point = make_readout(cube)
    readout.show()
    readout.resize(2000, 20)
    whole = point(3, 2, 1).split("  ")
    for width in (500, 300, 120, 10):
        readout.resize(width, 20)
        parts = readout.text().split("  ")
        assert parts == whole[: len(parts)]
        assert readout.toolTip() == "  ".join(whole)
        if len(parts) > 1:
            assert readout.fontMetrics().horizontalAdvance(readout.text()) < width
    assert len(parts) == 1
    readout.resize(2000, 20)
    assert readout.text() == "  ".join(whole)


def test_bare_array(make_readout, data):
    _, point = make_readout(Cube.from_array(data))
    assert point(3, 2, 1) == f"{data[3, 2, 1]:.4g}  x 1.0 y 2.0 chan. 3"


def test_slider_moves_the_voxel_under_a_still_pointer(make_readout, cube, viewer):
    readout, point = make_readout(cube)
    point(20, 50, 60)
    viewer.dims.set_current_step(0, 5)
    assert "chan. 5" in readout.text()


@pytest.mark.parametrize("arcsec", [0.001, 0.1, 2.0, 60.0])
def test_texts_are_as_fine_as_the_pixels(arcsec):
    sky = SkyCoord(187.7059308 * u.deg, -12.3911231 * u.deg)
    sexagesimal, degrees = position_texts(sky, arcsec * u.arcsec)
    for said in (
        SkyCoord(*sexagesimal.split(), unit=("hourangle", "deg")),
        SkyCoord(*map(float, degrees.split()), unit="deg"),
    ):
        assert said.separation(sky).arcsec < 0.2 * max(arcsec, 1.0 if arcsec > 1 else arcsec)
    assert sexagesimal.count(":") == 4


def test_copying_the_selected_position(session, qtbot, cube):
    readout = Readout(session, SpectralChoice(session))
    qtbot.addWidget(readout)
    readout.offer_copies(60, 50)
    (menu,) = readout.findChildren(QMenu, "position")
    actions = menu.actions()
    assert len(actions) == 3
    expected = cube.sky(60, 50).icrs
    actions[0].trigger()
    said = SkyCoord(*QApplication.clipboard().text().split(), unit=("hourangle", "deg"))
    assert said.separation(expected).arcsec < 0.02
    actions[1].trigger()
    said = SkyCoord(*map(float, QApplication.clipboard().text().split()), unit="deg")
    assert said.separation(expected).arcsec < 0.02
    actions[2].trigger()
    assert QApplication.clipboard().text() == "60.00 50.00"
    menu.close()


class Mouse:
    """A mouse event as napari hands it to callbacks."""

    def __init__(self, position, button):
        self.type, self.button, self.position, self.pos = "mouse_press", button, position, (100, 100)
        self.modifiers, self.is_dragging = (), False


def click(viewer, button: int, moved: int = 0) -> None:
    """Press and release a button of the mouse over a voxel, moved by some screen pixels in between."""
    model = viewer.__wrapped__
    event = Mouse(viewer.layers[0].data_to_world((3, 12, 90)), button)
    mouse_press_callbacks(model, event)
    event.type, event.pos, event.is_dragging = "mouse_move", (100, 100 + moved), True
    mouse_move_callbacks(model, event)
    event.type = "mouse_release"
    mouse_release_callbacks(model, event)


def test_right_click_offers_the_position(make_readout, cube, viewer):
    readout, point = make_readout(cube)
    point(3, 12, 90)
    click(viewer, button=2)
    (menu,) = readout.findChildren(QMenu, "position")
    assert any("90.00 12.00" in action.text() for action in menu.actions())
    menu.close()


@pytest.mark.parametrize(("button", "moved"), [(1, 0), (2, 40)])
def test_other_clicks_and_drags_offer_nothing(make_readout, cube, viewer, button, moved):
    readout, point = make_readout(cube)
    point(3, 12, 90)
    click(viewer, button, moved)
    assert readout.findChildren(QMenu, "position") == []
