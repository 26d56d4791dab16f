"""The numbers beside the plots are those of an independent reading of the header."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from made_by_hand import make_detections

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.axes import spectral_axes
from napari_almadet.inspection.describe import facts, readable, sexagesimal, sky_text, unit_text


def test_sexagesimal_text_is_the_position():
    sky = SkyCoord(150.00123 * u.deg, -0.00051 * u.deg)
    assert sky_text(sky) == ("10:00:00.30", "-00:00:01.8")


def test_other_frames_are_told_in_icrs():
    sky = SkyCoord(150.0 * u.deg, -35.0 * u.deg)
    assert sky_text(sky.galactic) == sky_text(sky)


def test_line_width_in_velocity(detections):
    told = dict(facts(detections, detections.candidates[0]))
    # 6 channels of 10 MHz at a rest frequency of 230 GHz
    assert told["FWHM"] == f"{299792.458 * 6e7 / 2.3e11:.1f} km/s, 6.0 channels"
    assert told["Frequency"] == "230.20000 GHz"
    assert told["Velocity"] == f"{-299792.458 * 0.2 / 230:.1f} km/s radio, LSRK"


def test_velocity_is_that_of_the_convention_and_rest_frequency_chosen(detections):
    axes = spectral_axes(detections.cube, 231 * u.GHz)
    optical = next(axis for axis in axes if axis.choice == "km/s optical")
    told = dict(facts(detections, detections.candidates[0], optical))
    assert told["Velocity"] == f"{299792.458 * (231 / 230.2 - 1):.1f} km/s optical, LSRK"


def test_numbers_are_those_of_the_catalogue(detections):
    candidate = detections.candidates[0]
    candidate.z = candidate.primary.centre - 0.4  # as in a box of the user's
    (row,) = detections.table([candidate])
    said = dict(facts(detections, candidate))
    assert said["Frequency"] == f"{row['freq'].to_value('GHz'):.5f} GHz"
    assert said["Velocity"].startswith(f"{row['v_rad'].to_value('km/s'):.1f} km/s radio")
    assert said["Pixel"].endswith(f"channel {row['z'].value:.1f}")


def test_the_width_is_that_of_the_catalogue_and_not_of_one_horn_of_a_galaxy(detections):
    candidate = detections.candidates[0]
    candidate.w50 = 300.0  # km/s, where the network's peak is 6 channels (78 km/s) wide
    told = dict(facts(detections, candidate))
    assert "FWHM" not in told
    assert told["w50"] == f"300.0 km/s, {300 / (299792.458 * 1e7 / 2.3e11):.1f} channels"


def test_absorption_is_said_with_its_depth(detections):
    candidate = detections.candidates[0]
    assert "Absorption" not in dict(facts(detections, candidate))
    candidate.abs_snr, candidate.abs_z, candidate.abs_n = 12.34, 20.06, 2.0
    candidate.abs_depth, candidate.err_abs_depth, candidate.abs_tau, candidate.err_abs_tau = 0.7, 0.031, 1.2, 0.1
    said = dict(facts(detections, candidate))["Absorption"]
    assert said == "S/N 12.3 at channel 20.1, depth 0.700 ± 0.031, optical depth 1.20 ± 0.10; 2 lines"
    candidate.abs_tau, candidate.abs_tau_limit, candidate.abs_n = np.nan, 2.13, 1.0
    said = dict(facts(detections, candidate))["Absorption"]
    assert said.endswith("optical depth > 2.1 (saturated)")


def test_bare_array_is_told_in_channels(data):
    found = make_detections(Cube.from_array(data))
    told = dict(facts(found, found.candidates[0]))
    assert told["Pixel"] == "x 60.0, y 50.0, channel 20.0"
    assert told["Flux"] == "1.00 ± 0.10 pix chan"
    for method, words in (("box", "sum over the box"), ("fit", "Gaussian fit")):  # after a line fit was accepted, too
        measured = dict(facts(found, replace(found.candidates[0], method=method)))
        assert measured["Flux"] == f"1.00 ± 0.10 pix chan,\n{words}"
    whole = dict(facts(found, replace(found.candidates[0], method="mask")))
    assert whole["Flux S/N"] == "10.0" and "Global S/N" not in whole  # most of its box is empty
    assert "Global S/N" in told
    assert told["FWHM"] == "6.0 channels"
    assert "Position" not in told
    assert {"Frequency", "Velocity"}.isdisjoint(told)


@pytest.mark.parametrize("number", [0, 2])
def test_what_was_not_measured_is_left_out(detections, number):
    candidate = detections.candidates[number]
    candidate.peaks, candidate.f_sum, candidate.x = (), np.nan, np.nan
    told = dict(facts(detections, candidate))
    assert {"FWHM", "Flux"}.isdisjoint(told)
    y, x = candidate.box.centre
    assert told["Pixel"] == f"x {x:.1f}, y {y:.1f}"


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("Jy / beam", "Jy/beam"),
        ("km mJy / (beam s)", "mJy/beam km/s"),
        ("chan Jy / beam", "Jy/beam chan"),
        ("K pix", "K pix"),
        ("uJy", "μJy"),
        ("km / s", "km/s"),
        ("GHz Jy", "Jy GHz"),
        ("", ""),
    ],
)
def test_units_are_said_as_astronomers_say_them(unit, text):
    assert unit_text(u.Unit(unit)) == text


@pytest.mark.parametrize(("peak", "text"), [(3.0, "Jy"), (0.02, "mJy"), (4e-5, "μJy"), (np.nan, "μJy")])
@pytest.mark.parametrize("per", ["", "/beam", "/beam km/s"])
def test_fluxes_are_in_a_readable_unit(peak, text, per):
    flux = u.Jy * {"": 1, "/beam": 1 / u.beam, "/beam km/s": u.km / u.s / u.beam}[per]
    values = np.array([0.0, -peak]) * flux
    shown = readable(values)
    assert unit_text(shown.unit) == text + per
    np.testing.assert_allclose(shown.to_value(values.unit), values.value)


def test_kelvin_stays_kelvin():
    assert readable(np.array([1e-3]) * u.K).unit == u.K


def test_sexagesimal_is_astropys():
    rng = np.random.default_rng(2)
    values = [*rng.uniform(-90, 90, 300), 0.0, -1e-9, 59.9999999, -0.5, 12.5]
    for value in values:
        angle = Angle(value, "deg")
        expected = angle.to_string(sep=":", precision=1, pad=True, alwayssign=True)
        assert sexagesimal(value, 1, sign=True) in (expected, expected.replace("-00:00:00.0", "+00:00:00.0"))
        hours = Angle(abs(value), "hourangle")
        assert sexagesimal(abs(value), 2) == hours.to_string(sep=":", precision=2, pad=True)
    assert sexagesimal(np.nan, 2) == "–"


@pytest.mark.filterwarnings("error")
def test_values_of_which_none_is_known_have_a_unit_and_raise_no_warning():
    assert readable(np.nan * u.Jy).unit == u.uJy and readable([np.nan, 2e-3] * u.Jy).unit == u.mJy
