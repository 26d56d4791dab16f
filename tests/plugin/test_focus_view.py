"""The focused image stands as the sky does: North, East, beam and box where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import WCS
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy

from napari_almadet.cube import Cube
from napari_almadet.plugin.focus_view import FocusView, beam_outline, sky_directions
from napari_almadet.plugin.theme import Colours


@pytest.fixture
def viewer():
    return PublicOnlyProxy(ViewerModel())


@pytest.fixture
def view(session, qtbot):
    view = FocusView(session, Colours.of("dark"))
    qtbot.addWidget(view)
    return view


def test_north_is_up_and_east_is_left(cube):
    north, east = sky_directions(cube, 60, 50)
    np.testing.assert_allclose(north, (0, 1), atol=1e-3)
    np.testing.assert_allclose(east, (-1, 0), atol=1e-3)


def test_rotated_sky(data, header):
    angle = np.radians(25)
    header["PC1_1"], header["PC1_2"] = np.cos(angle), -np.sin(angle)
    header["PC2_1"], header["PC2_2"] = np.sin(angle), np.cos(angle)
    cube = Cube(data, wcs=WCS(header))
    north, east = sky_directions(cube, 60, 50)
    step = 0.1
    here, there = cube.sky(60, 50), cube.sky(60 + step * north[0], 50 + step * north[1])
    assert here.position_angle(there).wrap_at("180d").deg == pytest.approx(0, abs=0.05)
    there = cube.sky(60 + step * east[0], 50 + step * east[1])
    assert here.position_angle(there).deg == pytest.approx(90, abs=0.05)


def test_beam_has_its_size_and_angle(cube):
    outline = beam_outline(cube, 60, 50)  # 0.6" x 0.4" at 30 deg, 0.1" pixels
    radius = np.hypot(*outline.T)
    assert (radius.max(), radius.min()) == pytest.approx((3.0, 2.0), rel=1e-3)
    tip = outline[np.argmax(radius)]
    angle = cube.sky(60, 50).position_angle(cube.sky(60 + tip[0], 50 + tip[1])).deg
    assert angle % 180 == pytest.approx(30, abs=0.5)


def test_no_beam_no_ellipse(data, header, view):
    assert beam_outline(Cube(data, wcs=WCS(header)), 60, 50) is None
    assert beam_outline(Cube.from_array(data), 60, 50) is None


def test_image_lies_at_its_pixels(view, session, detections):
    candidate = detections.candidates[1]
    session.select(candidate)
    rect = view.image.mapRectToParent(view.image.boundingRect())
    ny, nx = candidate.focused.shape
    y0, x0 = candidate.focus_origin
    assert (rect.left(), rect.top(), rect.width(), rect.height()) == (x0 - 0.5, y0 - 0.5, nx, ny)
    # the row of the array with the source is the row of the plot with the source
    y, x = np.unravel_index(np.nanargmax(candidate.focused), candidate.focused.shape)
    assert (x0 + x, y0 + y) == (candidate.x, candidate.y)
    np.testing.assert_array_equal(view.image.image, candidate.focused)
    assert not view.plot.getViewBox().yInverted()


def test_box_encloses_the_candidate(view, session, detections):
    session.select(detections.candidates[2])
    x, y = view.box.getData()
    box = detections.candidates[2].box
    assert (x.min(), x.max(), y.min(), y.max()) == (box.x0 - 0.5, box.x1 - 0.5, box.y0 - 0.5, box.y1 - 0.5)


@pytest.mark.parametrize("hole", ["border", "all"])
def test_holes_are_no_matter(view, session, detections, hole):
    candidate = detections.candidates[2]
    if hole == "all":
        candidate.focused[:] = np.nan
    else:
        candidate.focused[:5] = np.nan
    session.select(candidate)
    assert np.isfinite(view.image.levels).all()


def test_candidate_without_an_image(view, session, detections):
    candidate = detections.candidates[2]
    candidate.focused = None
    session.select(candidate)
    assert not view.image.isVisible()
