"""The plot's numbers are the cube's, and what is dragged or clicked in it moves the session."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from made_by_hand import Listener
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication

from napari_almadet.catalogue.candidate import EmissionPeak
from napari_almadet.inspection.apertures import Aperture
from napari_almadet.plugin.cutouts import Cutouts
from napari_almadet.plugin.spectral_choice import SpectralChoice
from napari_almadet.plugin.spectrum_panel import SpectrumPanel, statistics_rows
from napari_almadet.plugin.theme import Colours

pytestmark = pytest.mark.no_window

BEAM_AREA = np.pi / (4 * np.log(2)) * 24  # of a Gaussian beam of 6 x 4 px (FWHM)


@pytest.fixture
def panel(session, qtbot):
    panel = SpectrumPanel(session, SpectralChoice(session), Cutouts(session), Colours.of("dark"))
    qtbot.addWidget(panel)
    panel.resize(700, 300)
    panel.show()
    qtbot.waitExposed(panel)
    return panel


def pixel(panel, view, x: float, y: float) -> QPoint:
    """Where a point of a plot's view lies in its widget."""
    rect = None
    while rect != (rect := view.sceneBoundingRect()):
        panel.grab()  # the axes take their room while the plot is painted
        QApplication.processEvents()
    return panel.plot.mapFromScene(view.mapViewToScene(QPointF(x, y)))


def drag(qtbot, panel, start: QPoint, end: QPoint) -> None:
    """Drag with the mouse, as a user would: press, move in steps, release."""
    viewport = panel.plot.viewport()

    def move(place: QPoint, held: Qt.MouseButton) -> None:  # QTest's own moves hold no button
        places = QPointF(place), QPointF(viewport.mapToGlobal(place))
        none, no_key = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(viewport, QMouseEvent(QEvent.Type.MouseMove, *places, none, held, no_key))

    move(start, Qt.MouseButton.NoButton)
    qtbot.mousePress(viewport, Qt.MouseButton.LeftButton, pos=start)
    for step in np.linspace(0, 1, 6)[1:]:
        qtbot.wait(20)  # pyqtgraph drops moves that come faster
        move(start + (end - start) * float(step), Qt.MouseButton.LeftButton)
    qtbot.mouseRelease(viewport, Qt.MouseButton.LeftButton, pos=end)


def test_curves_are_the_candidates(panel, session, detections, header):
    session.select(detections.candidates[1])
    edges, values = panel.data.getData()
    frequency = WCS(header).sub(["spectral"]).pixel_to_world_values(np.arange(48)) / 1e9
    np.testing.assert_allclose((edges[1:] + edges[:-1]) / 2, frequency)
    np.testing.assert_allclose(values, detections.candidates[1].spectrum / BEAM_AREA, rtol=1e-5)
    low, high = panel.span.getRegion()
    first, last = detections.candidates[1].channels
    assert (low, high) == pytest.approx((frequency[first] - 0.005, frequency[last - 1] + 0.005))
    assert panel.plot.getAxis("left").labelText == "Flux density (Jy)"
    assert panel.plot.getAxis("bottom").labelText == "Frequency, LSRK (GHz)"


def test_fit_lies_on_the_dirty_spectrum(panel, session, detections):
    panel.curves["residual"].setChecked(True)
    x, y = panel.fit.getData()
    spectrum = detections.candidates[0].spectrum / BEAM_AREA
    assert x[np.argmax(y)] == pytest.approx(detections.cube.frequency(20).to_value("GHz"), abs=0.001)
    assert y.max() == pytest.approx(spectrum[20], rel=0.1)
    residual = panel.residual.getData()[1]
    assert abs(residual).max() < 0.2 * spectrum.max()
    model = np.interp(np.arange(48), np.linspace(-0.5, 47.5, 384), y)
    np.testing.assert_allclose(residual, spectrum - model, atol=0.02)


def test_data_is_summed_from_the_cube_and_what_the_search_corrected_is_a_curve_of_its_own(panel, session, detections):
    candidate = detections.candidates[0]
    summed = detections.cube.read()[:, *candidate.box.slices].sum(axis=(1, 2)) / BEAM_AREA
    assert not panel.curves["corrected"].isVisible()
    candidate.spectrum = 1.25 * candidate.spectrum
    detections.provenance["dirty_beam"] = {"beam": "clean"}  # its box has changed, and nothing was subtracted
    session.select(detections.candidates[1])
    session.select(candidate)
    assert not panel.curves["corrected"].isVisible()
    detections.provenance["dirty_beam"] = {"beam": "dirty"}
    session.select(detections.candidates[1])
    session.select(candidate)
    np.testing.assert_allclose(panel.data.getData()[1], summed, rtol=1e-5)
    assert panel.curves["corrected"].isVisible()
    assert not panel.corrected_curve.isVisible()  # until it is asked for
    panel.curves["corrected"].setChecked(True)
    np.testing.assert_allclose(panel.corrected_curve.getData()[1], 1.25 * summed, rtol=1e-5)
    panel.aperture_choice.setCurrentIndex(1)  # the peak pixel: there is nothing to compare with
    assert not panel.curves["corrected"].isVisible()


def test_every_curve_has_its_switch(panel, qtbot):
    items = {"data": panel.data, "prob.": panel.denoised, "fit": panel.fit, "residual": panel.residual}
    for name, item in items.items():
        before = item.isVisible()
        qtbot.mouseClick(panel.curves[name], Qt.MouseButton.LeftButton)
        assert item.isVisible() is not before


def test_falling_axis_is_drawn_rising_with_its_values(panel, detections):
    panel.unit_choice.setCurrentText("km/s radio")
    edges, values = panel.data.getData()
    assert (np.diff(edges) > 0).all()
    peak = int(np.argmax(values))
    assert edges[peak] < detections.cube.velocity(20).to_value("km/s") < edges[peak + 1]
    assert panel.plot.getAxis("bottom").labelText == "Radio velocity, LSRK (km/s)"


def test_slider_moves_the_line(panel, viewer, detections):
    viewer.dims.set_current_step(0, 5)
    assert panel.line.value() == pytest.approx(detections.cube.frequency(5).to_value("GHz"))


def test_line_moves_the_slider_once(panel, session, viewer, detections):
    channels = Listener(session.channel_changed)
    panel.line.setValue(detections.cube.frequency(9.2).to_value("GHz"))
    assert channels.heard == [9]
    assert viewer.dims.current_step[0] == 9


def test_dragging_the_line_scrolls_through_the_channels(panel, session, viewer, qtbot):
    view = panel.plot.plotItem.vb
    start = pixel(panel, view, panel.line.value(), np.mean(view.viewRange()[1]))
    end = pixel(panel, view, float(panel.axis.world(33)), np.mean(view.viewRange()[1]))
    drag(qtbot, panel, start, end)
    assert viewer.dims.current_step[0] == session.channel == 33


def test_new_unit_keeps_the_channel(panel, session, viewer):
    viewer.dims.set_current_step(0, 5)
    channels = Listener(session.channel_changed)
    panel.unit_choice.setCurrentText("channel")
    assert panel.line.value() == 5
    assert channels.heard == []


@pytest.mark.parametrize("end", [0, 1])
def test_dragging_the_fwhm_focuses_on_as_much_on_either_side(panel, session, detections, qtbot, end):
    candidate = detections.candidates[0]
    session.select(candidate)
    line, sign = candidate.primary, (-1, 1)[end]
    height = line.amplitude / 2
    start = pixel(panel, panel.right, float(panel.axis.world(line.centre + sign * line.fwhm / 2)), height)
    there = pixel(panel, panel.right, float(panel.axis.world(line.centre + sign * 4.0)), height)
    edited = Listener(session.edited)
    drag(qtbot, panel, start, there)
    qtbot.waitUntil(lambda: bool(edited.heard), timeout=60_000)
    first, last = candidate.channels
    assert abs(first - (line.centre - 8.0)) <= 1  # an FWHM of 8 channels, to either side
    assert abs(last - 1 - (line.centre + 8.0)) <= 1
    assert candidate.origin == "edited"
    assert candidate.primary.fwhm == pytest.approx(line.fwhm, rel=0.2)  # is still that of the fit
    session.undo()
    assert candidate.origin == "found"


@pytest.mark.parametrize("choice", ["GHz", "km/s optical"])  # rising, falling
def test_dragging_the_emission_range_focuses_anew(panel, session, detections, qtbot, choice):
    panel.unit_choice.setCurrentText(choice)
    candidate, data = detections.candidates[0], detections.cube.data
    view = panel.plot.plotItem.vb
    height = view.viewRange()[1][1] * 0.9
    end_channel = candidate.channels[1] - 0.5
    start = pixel(panel, view, float(panel.axis.world(end_channel)), height)
    end = pixel(panel, view, float(panel.axis.world(end_channel + 5)), height)
    edited = Listener(session.edited)
    first, last = candidate.channels
    drag(qtbot, panel, start, end)
    qtbot.waitUntil(lambda: bool(edited.heard), timeout=60_000)
    assert candidate.channels == (first, last + 5)
    y0, x0 = candidate.focus_origin
    expected = data[first : last + 5, 40:60, 50:70].sum(axis=0)
    np.testing.assert_allclose(candidate.focused[40 - y0 : 60 - y0, 50 - x0 : 70 - x0], expected, rtol=1e-4, atol=1e-4)
    region = np.sort(panel.axis.world(np.array(candidate.channels) - 0.5))
    assert panel.span.getRegion() == pytest.approx(tuple(region))
    session.undo()
    assert candidate.channels == (first, last)
    assert panel.span.getRegion() == pytest.approx(tuple(np.sort(panel.axis.world(np.array([first, last]) - 0.5))))


def test_a_nudge_within_the_channel_springs_back(panel, session, detections):
    edited = Listener(session.edited)
    before = panel.span.getRegion()
    panel.span.setRegion(np.array(before) + 0.001)  # of a channel of 0.01 GHz
    assert panel.span.getRegion() == pytest.approx(before)
    assert edited.heard == []


def test_click_on_a_secondary_peak_focuses_on_it(panel, session, detections, qtbot):
    candidate = detections.candidates[0]
    other = EmissionPeak(channel=38, height=0.5, amplitude=0.5, centre=38.0, fwhm=3.0)
    candidate.peaks = (*candidate.peaks, other)
    session.edited.emit([candidate])
    assert len(panel.peaks.points()) == 2
    edited = Listener(session.edited)
    place = pixel(panel, panel.right, float(panel.axis.world(38)), 0.5)
    qtbot.mouseClick(panel.plot.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.waitUntil(lambda: bool(edited.heard), timeout=60_000)
    assert candidate.channels == other.emission_range(48)


def test_apertures(panel, detections, cube):
    panel.aperture_choice.setCurrentText(Aperture.PEAK.value)
    np.testing.assert_allclose(panel.data.getData()[1], cube.data[:, 50, 60], rtol=1e-5)
    assert panel.plot.getAxis("left").labelText == "Brightness (Jy/beam)"
    panel.aperture_choice.setCurrentText(Aperture.BEAM.value)
    beam = panel.data.getData()[1]
    # the source is as wide (6 px) as the beam's major axis, and wider than its minor one (4 px)
    assert beam[20] == pytest.approx(2.0 * np.sqrt((2 / 16) / (1 / 16 + 1 / 36)), rel=0.02)


def test_noise_band_is_the_line_free_channels(panel, detections):
    low, high = panel.noise.getRegion()
    rest = detections.candidates[0].spectrum[35:] / BEAM_AREA
    assert (high - low) / 2 == pytest.approx(rest.std(), rel=0.5)
    assert low < 0 < high


def test_measured_range(panel, session, detections, qtbot):
    qtbot.mouseClick(panel.range_button, Qt.MouseButton.LeftButton)
    panel.unit_choice.setCurrentText("km/s radio")
    panel.range.setRegion(panel.axis.world(np.array([9.5, 30.5])))
    flux = detections.candidates[0].spectrum / BEAM_AREA
    velocity = detections.cube.velocity(np.arange(48)).value
    width = abs(velocity[1] - velocity[0])
    measured = panel.statistics
    assert measured.channels == (10, 31)
    assert measured.sum.to_value(u.Jy * u.km / u.s) == pytest.approx(flux[10:31].sum() * width, rel=1e-4)
    assert measured.mean.to_value(u.Jy) == pytest.approx(flux[10:31].mean(), rel=1e-4)
    assert measured.centroid.value == pytest.approx(velocity[20], abs=width)
    assert measured.snr > 20
    said = dict(statistics_rows(measured, panel.axis))
    assert said["Channels"] == "10 to 30"
    assert said["Sum"].endswith("Jy km/s")
    with qtbot.waitSignal(panel.measured):
        qtbot.mouseClick(panel.range_button, Qt.MouseButton.LeftButton)
    assert panel.statistics is None


def test_measured_range_stays_at_its_channels(panel, session, detections, qtbot):
    qtbot.mouseClick(panel.range_button, Qt.MouseButton.LeftButton)
    panel.range.setRegion(panel.axis.world(np.array([9.5, 30.5])))
    panel.unit_choice.setCurrentText("mm")
    session.select(detections.candidates[1])
    assert panel.statistics.channels == (10, 31)


def test_lines_in_the_band_are_marked_at_their_place(panel, qtbot):
    panel.lines_menu.show_lines.setChecked(True)
    assert "CO 2-1" not in {item.label.format for item in panel.line_marks}  # the band ends at 230.48 GHz
    panel.lines_menu.redshift.setValue(0.0015)
    names = {item.label.format: item.value() for item in panel.line_marks}
    assert names["CO 2-1"] == pytest.approx(230.538 / 1.0015, abs=1e-3)
    panel.unit_choice.setCurrentText("channel")
    names = {item.label.format: item.value() for item in panel.line_marks}
    assert names["CO 2-1"] == pytest.approx((230.538 / 1.0015 - 230) / 0.01, abs=0.1)
    panel.lines_menu.show_lines.setChecked(False)
    assert panel.line_marks == []


def test_zoom_stays_until_another_candidate_is_selected(panel, session, detections):
    panel.plot.setXRange(230.1, 230.2, padding=0)
    panel.curves["residual"].setChecked(True)
    session.set_note(detections.candidates[0], "zoomed")
    assert panel.plot.viewRange()[0] == pytest.approx([230.1, 230.2])
    session.select(detections.candidates[1])
    low, high = panel.plot.viewRange()[0]
    assert (low, high) == pytest.approx((230.0, 230.475), abs=0.02)


def test_zeros_of_both_scales_are_level(panel):
    (low, high), (right_low, right_high) = panel.plot.viewRange()[1], panel.right.viewRange()[1]
    assert low / (high - low) == pytest.approx(right_low / (right_high - right_low), rel=1e-3)


def test_missing_channels_are_gaps(panel, session, detections):
    candidate = detections.candidates[2]
    detections.cube.data[:6, *candidate.box.slices] = np.nan
    session.select(candidate)
    values = panel.data.getData()[1]
    assert np.isnan(values[:6]).all()
    assert np.isfinite(panel.plot.viewRange()[1]).all()


def test_channels_that_were_left_out_are_shaded(panel, session, detections, cube):
    flagged = np.zeros(cube.shape[0], dtype=bool)
    flagged[[0, 1, 30]] = True
    object.__setattr__(cube, "flagged", flagged)
    session.edited.emit(detections.candidates[:1])
    ends = [panel.axis.world(np.array([first - 0.5, last + 0.5])) for first, last in ((0, 1), (30, 30))]
    shaded = [region.getRegion() for region in panel.left_out]
    np.testing.assert_allclose(np.sort(shaded), np.sort(ends))
    assert all(region.scene() is not None for region in panel.left_out)
    object.__setattr__(cube, "flagged", None)
    session.edited.emit(detections.candidates[:1])
    assert panel.left_out == []


def test_blank_spectrum_and_no_peak(panel, session, detections):
    candidate = detections.candidates[2]
    detections.cube.data[:, *candidate.box.slices] = np.nan
    candidate.peaks, candidate.channels = (), (0, 0)
    session.select(candidate)
    for item in (panel.fit, panel.span, panel.residual, panel.peaks, panel.fwhm, panel.noise):
        assert not item.isVisible()


def test_gaussians_are_not_drawn_over_a_line_that_is_measured_in_its_mask(panel, session, detections):
    panel.curves["residual"].setChecked(True)
    candidate = detections.candidates[1]
    candidate.method = "mask"
    session.select(candidate)
    assert not panel.fit.isVisible()
    assert not panel.residual.isVisible()
    assert not panel.curves["fit"].isEnabled()
    assert "in the mask" in panel.curves["fit"].toolTip()
    session.select(detections.candidates[0])  # of which the catalogue has the fit
    assert panel.fit.isVisible()
    assert panel.residual.isVisible()
    assert panel.curves["fit"].isEnabled()
    assert panel.curves["fit"].toolTip() == "The Gaussians of the candidate's lines, their heights scaled to the data"


def test_nothing_selected_is_an_empty_plot(panel, session):
    session.select(None)
    assert not panel.data.isVisible()
    assert not panel.line.isVisible()


def test_array_without_coordinates(panel, session, viewer, data, detections):
    from napari_almadet.cube.cube import Cube

    image = viewer.add_image(data, name="bare")
    bare = Cube.from_array(data)
    session.present(image, replace(detections, cube=bare, candidates=[replace(c) for c in detections.candidates]))
    assert panel.plot.getAxis("bottom").labelText == "Channel"
    assert panel.plot.getAxis("left").labelText == "Sum (pix)"
    assert not panel.aperture_choice.model().item(panel.aperture_choice.findData(Aperture.BEAM)).isEnabled()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_follows_the_theme(panel, theme):
    colours = Colours.of(theme)
    panel.paint(colours)
    assert panel.data.opts["pen"].color().name() == colours.text
