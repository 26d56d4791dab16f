"""The image's overlays lie where they belong, and what is sent to the viewer lies over the cube."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from napari.layers import Image
from scipy.ndimage import map_coordinates

from napari_almadet.catalogue.candidate import Box
from napari_almadet.catalogue.detections import channel_width
from napari_almadet.inspection.moments import line_moments
from napari_almadet.measure.focus import cut_out
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.focus_view import FocusView
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.theme import Colours

pytestmark = pytest.mark.no_window


WIDTH = 1e7 / 2.3e11 * 299792.458  # km/s of a channel of the toy cube


@pytest.fixture
def view(session, qtbot):
    view = FocusView(session, SpectralChoice(session), Cutouts(session), Colours.of("dark"))
    qtbot.addWidget(view)
    return view


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
    assert view.picture.values.unit == u.Jy / u.beam * u.km / u.s
    np.testing.assert_allclose(view.image.image, WIDTH * candidate.focused, rtol=1e-6)
    assert not view.plot.getViewBox().yInverted()


@pytest.mark.parametrize("size", [(400, 200), (520, 240), (900, 300)])
def test_image_is_about_square_beside_a_cut(view, session, qtbot, size):
    view.show_cut.setChecked(True)
    view.show()
    view.resize(*size)
    qtbot.wait(50)
    box = view.plot.getViewBox()
    assert 0.6 < box.width() / box.height() < 1.3
    assert view.cut_plot.getViewBox().width() > 20


def test_box_encloses_the_candidate(view, session, detections):
    session.select(detections.candidates[2])
    x, y = view.box.getData()
    box = detections.candidates[2].box
    assert (x.min(), x.max(), y.min(), y.max()) == (box.x0 - 0.5, box.x1 - 0.5, box.y0 - 0.5, box.y1 - 0.5)


def test_a_source_larger_than_the_image_that_was_kept_is_seen_whole(view, session, detections, cube):
    candidate = replace(detections.candidates[0], box=Box(20, 80, 15, 95))
    detections.candidates[0] = candidate
    session.present(session.image, detections)
    session.select(candidate)
    (y0, x0), (ny, nx) = view.picture.origin, view.picture.values.shape
    assert y0 <= 20 and y0 + ny >= 80 and x0 <= 15 and x0 + nx >= 95
    first, last = candidate.channels
    summed = cube.read(slice(first, last), slice(20, 80), slice(15, 95)).sum(axis=0)
    shown = view.picture.values[20 - y0 : 80 - y0, 15 - x0 : 95 - x0]
    width = channel_width(cube, (first + last - 1) / 2)
    np.testing.assert_allclose(shown.to_value(u.Jy / u.beam * width.unit), summed * width.value, rtol=1e-4, atol=1e-6)
    view.show_contours.setChecked(True)
    assert view.contours.isVisible()


def test_circle_and_annulus_are_those_of_the_global_snr(view, session, detections):
    view.show_radii.setChecked(True)
    x, y = view.radii.getData()
    radius = np.hypot(x - 60, y - 50)  # a box of 13 x 13 about x 60, y 50
    assert set(np.round(radius[np.isfinite(radius)], 6)) == {6.5, round(6.5 * np.sqrt(2), 6)}
    assert np.isnan(x).sum() == 2  # two separate rings


def test_contours_run_at_multiples_of_the_noise(view, session, detections):
    view.show_contours.setChecked(True)
    candidate = detections.candidates[0]
    x, y = view.contours.getData()
    y0, x0 = candidate.focus_origin
    values = map_coordinates(candidate.focused.astype(float), [y - y0, x - x0], order=1)
    sigma = np.median(abs(candidate.focused - np.median(candidate.focused))) / 0.6745
    multiples = values / sigma
    steps = 3 * 2.0 ** np.arange(12)
    assert abs(multiples[:, None] / steps - 1).min(axis=1).max() < 0.02
    assert (multiples > 2.9).all()
    view.show_contours.setChecked(False)
    assert not view.contours.isVisible()


@pytest.mark.parametrize(("name", "unit"), [("Moment 0", "Jy/beam km/s"), ("Moment 1", "km/s"), ("Moment 2", "km/s")])
def test_moments_of_the_emission_range(view, session, detections, name, unit):
    view.image_choice.setCurrentText(name)
    candidate, cube = detections.candidates[0], detections.cube
    axis = view.choice.velocity
    expected = line_moments(candidate, cut_out(cube, candidate.box, 64), axis, 3)[int(name[-1])]
    np.testing.assert_allclose(view.picture.values.value, expected)
    assert view.bar.axis.labelText == unit
    y0, x0 = view.picture.origin
    value = view.picture.values.value[50 - y0, 60 - x0]
    if name == "Moment 1":
        assert value == pytest.approx(cube.velocity(20).value, abs=5)
    if name == "Moment 2":  # a FWHM of 6 channels, cut at one FWHM either side
        assert value == pytest.approx(6 / 2.355 * axis.widths[20], rel=0.15)


def test_mask_of_the_moments(view, session, detections):
    detections.candidates[0].rms = 0.05
    view.image_choice.setCurrentText("Moment 1")
    masked = np.isnan(view.picture.values.value).mean()
    everything = next(action for action in view.masks.actions() if action.data() == 0)
    everything.trigger()
    # without a mask there is a mean velocity wherever the sum is positive: in half of the noise
    assert masked > 0.8 > 0.6 > np.isnan(view.picture.values.value).mean()


def test_cut_along_the_line(view, session, detections):
    view.show_cut.setChecked(True)
    candidate, data = detections.candidates[0], detections.cube.data
    assert view.cut.start == pytest.approx((60 - 13, 50))
    assert view.cut.end == pytest.approx((60 + 13, 50))
    first, last = candidate.channels
    first, last = max(0, 2 * first - last), 2 * last - first
    np.testing.assert_allclose(view.cut.values, data[first:last, 50, 47:74], rtol=1e-5)
    rect = view.cut_image.mapRectToParent(view.cut_image.boundingRect())
    assert rect.width() == pytest.approx(27 * 0.1, rel=1e-3)  # 27 pixels of 0.1"
    velocity = np.sort(detections.cube.velocity(np.array([first, last]) - 0.5).value)
    assert (rect.top(), rect.bottom()) == pytest.approx(tuple(velocity))
    # velocity falls with the channel here, and is drawn rising
    np.testing.assert_allclose(view.cut_image.image, view.cut.values[::-1])
    handle = view.cut_line.getHandles()[1]
    view.cut_line.movePoint(handle, (60, 70), coords="parent")
    assert view.cut.end == pytest.approx((60, 70))


def test_sent_image_lies_over_the_cube(view, session, viewer, detections):
    session.image.translate = (0, 7.0, -3.0)
    view.send_image.trigger()
    layer = viewer.layers[-1]
    y0, x0 = detections.candidates[0].focus_origin
    np.testing.assert_allclose(layer.data, WIDTH * detections.candidates[0].focused, rtol=1e-6)
    for pixel in ((0, 0), (50, 10)):
        in_cube = session.image.data_to_world((0, pixel[0] + y0, pixel[1] + x0))[-2:]
        np.testing.assert_allclose(layer.data_to_world(pixel), in_cube)
    assert layer.units == session.image.units[-2:]
    assert u.Unit(layer.metadata["unit"]) == u.Jy / u.beam * u.km / u.s


def test_sent_cut_stands_in_the_cube(view, session, viewer, detections):
    view.show_cut.setChecked(True)
    view.cut_line.movePoint(view.cut_line.getHandles()[1], (70, 66), coords="parent")
    view.send_cut.trigger()
    layer = viewer.layers[-1]
    assert isinstance(layer, Image)
    n_channels, n = view.cut.values.shape
    assert layer.data.shape == (n_channels, 1, n)
    first = max(0, 2 * detections.candidates[0].channels[0] - detections.candidates[0].channels[1])
    for channel, sample, (x, y) in ((0, 0, view.cut.start), (3, n - 1, view.cut.end)):
        expected = session.image.data_to_world((first + channel, y, x))
        np.testing.assert_allclose(layer.data_to_world((channel, 0, sample)), expected, atol=1e-6)
    assert layer not in session.cube_layers()


@pytest.mark.parametrize("hole", ["border", "all"])
def test_holes_are_no_matter(view, session, detections, hole):
    candidate = detections.candidates[2]
    if hole == "all":
        candidate.focused[:] = np.nan
    else:
        candidate.focused[:5] = np.nan
    view.show_contours.setChecked(True)
    session.select(candidate)
    assert np.isfinite(view.image.levels).all()


def test_candidate_without_an_image(view, session, detections):
    candidate = detections.candidates[2]
    candidate.focused = None
    session.select(candidate)
    assert not view.image.isVisible()
    assert not view.send_button.isEnabled()


def test_the_cut_follows_a_box_that_is_changed_and_changed_back(view, session, detections, qtbot):
    candidate = session.selected
    view.show_cut.setChecked(True)
    before = view.cut.start, view.cut.end
    moved = {"box": Box(70, 80, 90, 100), "x": 95.0, "y": 75.0}
    session._change([(candidate, moved)])
    assert view.cut.start[1] == pytest.approx(75.0)
    session.undo()
    assert (view.cut.start, view.cut.end) == before
