"""The plot's numbers are the cube's, and its line and the slider move each other."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import Gaussian1D
from astropy.wcs import WCS
from made_by_hand import Listener
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy

from napari_almadet.cube import Cube
from napari_almadet.pipeline.catalog import EmissionPeak
from napari_almadet.plugin.spectrum_panel import SpectralAxis, SpectrumPanel, flux_spectrum, gaussian
from napari_almadet.plugin.theme import Colours


@pytest.fixture
def viewer():
    return PublicOnlyProxy(ViewerModel())


@pytest.fixture
def panel(session, qtbot):
    panel = SpectrumPanel(session, Colours.of("dark"))
    qtbot.addWidget(panel)
    panel.resize(600, 250)
    panel.show()
    return panel


def test_axes_a_cube_offers(cube, data, header):
    assert [axis.unit for axis in SpectralAxis.of_cube(cube)] == ["GHz", "km/s", ""]
    del header["RESTFRQ"]
    assert [axis.unit for axis in SpectralAxis.of_cube(Cube(data, wcs=WCS(header)))] == ["GHz", ""]
    assert [axis.name for axis in SpectralAxis.of_cube(Cube.from_array(data))] == ["Channel"]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_there_and_back(cube, which):
    axis = SpectralAxis.of_cube(cube)[which]  # frequency rises, velocity falls
    channels = range(cube.shape[0])
    assert [axis.channel(float(axis.world(c))) for c in channels] == list(channels)
    assert axis.channel(float(axis.edges[0]) + 1e9) in (0, cube.shape[0] - 1)


def test_gaussian_is_astropys(qtbot):
    peak = EmissionPeak(channel=20, height=0.8, amplitude=0.7, centre=20.3, fwhm=4.2)
    x = np.linspace(0, 48, 200)
    expected = Gaussian1D(0.7, 20.3, 4.2 / np.sqrt(8 * np.log(2)))(x)
    np.testing.assert_allclose(gaussian(peak, x), expected)


def test_curves_are_the_candidates(panel, session, detections, header):
    session.select(detections.candidates[1])
    edges, values = panel.dirty.getData()
    frequency = WCS(header).sub(["spectral"]).pixel_to_world_values(np.arange(48)) / 1e9
    np.testing.assert_allclose((edges[1:] + edges[:-1]) / 2, frequency)
    # a Gaussian beam of 6 x 4 px (FWHM) covers pi / (4 ln 2) * 24 px
    flux = detections.candidates[1].spectrum / (np.pi / (4 * np.log(2)) * 24)
    np.testing.assert_allclose(values, flux, rtol=1e-5)
    low, high = panel.span.getRegion()
    assert (low + high) / 2 == pytest.approx(frequency[34])
    assert high - low == pytest.approx(4 * 0.01)
    fit_x, fit_y = panel.fit.getData()
    assert fit_x[np.argmax(fit_y)] == pytest.approx(frequency[34], abs=0.001)


def test_falling_axis_is_drawn_rising_with_its_values(panel, session, detections):
    panel.unit_choice.setCurrentText("km/s")
    edges, values = panel.dirty.getData()
    assert (np.diff(edges) > 0).all()
    peak = int(np.argmax(values))
    assert edges[peak] < detections.cube.velocity(20).to_value("km/s") < edges[peak + 1]
    assert panel.plot.getAxis("bottom").labelText == "Velocity (km/s)"


def test_slider_moves_the_line(panel, viewer, detections):
    viewer.dims.set_current_step(0, 5)
    assert panel.line.value() == pytest.approx(detections.cube.frequency(5).to_value("GHz"))


def test_line_moves_the_slider_once(panel, session, viewer, detections):
    channels = Listener(session.channel_changed)
    panel.line.setValue(detections.cube.frequency(9.2).to_value("GHz"))
    assert channels.heard == [9]
    assert viewer.dims.current_step[0] == 9


def test_new_unit_keeps_the_channel(panel, session, viewer):
    viewer.dims.set_current_step(0, 5)
    channels = Listener(session.channel_changed)
    panel.unit_choice.setCurrentText("channel")
    assert panel.line.value() == 5
    assert channels.heard == []


def test_zeros_of_both_scales_are_level(panel):
    (low, high), (right_low, right_high) = panel.plot.viewRange()[1], panel.right.viewRange()[1]
    assert low / (high - low) == pytest.approx(right_low / (right_high - right_low), rel=1e-3)


def test_missing_channels_are_gaps(panel, session, detections):
    candidate = detections.candidates[2]
    candidate.spectrum[:6] = np.nan
    session.select(candidate)
    values = panel.dirty.getData()[1]
    assert np.isnan(values[:6]).all()
    assert np.isfinite(panel.plot.viewRange()[1]).all()


def test_blank_spectrum_and_no_peak(panel, session, detections):
    candidate = detections.candidates[2]
    candidate.spectrum = np.full(48, np.nan)
    candidate.peaks = ()
    session.select(candidate)
    assert not panel.fit.isVisible()
    assert not panel.span.isVisible()


def test_nothing_selected_is_an_empty_plot(panel, session):
    session.select(None)
    assert not panel.dirty.isVisible()
    assert not panel.line.isVisible()


@pytest.mark.parametrize(("peak", "unit"), [(3.0, "Jy"), (0.02, "mJy"), (4e-5, "μJy")])
def test_flux_is_in_a_readable_unit(cube, peak, unit):
    values, words = flux_spectrum(cube, np.array([0.0, peak * cube.beam_area]))
    assert words.replace("µ", "μ") == f"Flux ({unit})"
    assert values[1] == pytest.approx(peak * {"Jy": 1, "mJy": 1e3, "μJy": 1e6}[unit])


def test_kelvin_is_summed_over_pixels(data):
    from astropy import units as u

    values, words = flux_spectrum(Cube(data, unit=u.K), np.array([1.0, 2.0]))
    assert words == "Sum (K pix)"
    np.testing.assert_array_equal(values, [1.0, 2.0])


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_follows_the_theme(panel, theme):
    colours = Colours.of(theme)
    panel.paint(colours)
    assert panel.dirty.opts["pen"].color().name() == colours.text
