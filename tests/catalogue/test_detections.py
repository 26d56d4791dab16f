from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beams

from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.cube.cube import PrimaryBeam

COLUMNS = [
    *("id", "name", "x", "y", "z", "err_x", "err_y", "err_z", "x_min", "x_max", "y_min", "y_max", "z_min", "z_max"),
    *("n_pix", "ra", "dec", "err_ra", "err_dec", "l", "b", "freq", "err_freq", "v_rad", "err_v_rad"),
    *("v_opt", "err_v_opt", "v_app", "err_v_app", "x_peak", "y_peak", "z_peak", "ra_peak", "dec_peak", "freq_peak"),
    *("v_rad_peak", "method", "f_sum", "err_f_sum", "f_sum_all", "err_f_sum_all", "pb", "f_sum_pb", "err_f_sum_pb"),
    *("f_cont", "err_f_cont", "f_cont_pb", "err_f_cont_pb", "alpha", "err_alpha"),
    *("f_max", "f_min", "peak", "err_peak", "w20", "err_w20", "w50", "err_w50", "wm50", "err_wm50"),
    *("fwhm", "err_fwhm", "z_fit", "err_z_fit", "chi2_fit"),
    *("dc_maj", "err_dc_maj", "dc_min", "err_dc_min", "dc_pa", "err_dc_pa", "dc_limit"),
    *("ell_maj", "err_ell_maj", "ell_min", "err_ell_min", "ell_pa", "err_ell_pa"),
    *("ell3s_maj", "ell3s_min", "ell3s_pa", "kin_pa", "err_kin_pa"),
    *("abs_snr", "abs_z", "err_abs_z", "abs_v_rad", "abs_depth", "err_abs_depth", "abs_w50", "err_abs_w50", "abs_tau"),
    *("err_abs_tau", "abs_tau_limit", "abs_tau_int", "err_abs_tau_int", "abs_n"),
    *("rms", "prob", "rel", "snr_global", "snr_pixel", "n_peaks", "blended", "edge", "flag", "parent", "kind"),
    *("line_ids", "redshifts", "verdict", "note", "origin", "status", "fate"),
]


def test_the_catalogue_lists_the_kept_with_inclusive_boxes(detections_of, sky_cube, planes):
    table = detections_of(sky_cube(planes)).table()
    assert table.colnames == COLUMNS
    assert table["id"].tolist() == [1, 3]
    row = table[0]
    assert [row[f"{a}_{end}"] for a in "xyz" for end in ("min", "max")] == [30, 44, 10, 20, 3, 11]
    assert table["blended"].tolist() == [False, True]
    assert table["n_peaks"].tolist() == [2, 0]
    assert table["f_sum"].unit == u.Jy * u.km / u.s
    assert table["rms"].unit == table["f_max"].unit == u.Jy / u.beam


def test_world_coordinates_are_astropys(detections_of, sky_cube, planes, header):
    table = detections_of(sky_cube(planes)).table()
    wcs = WCS(header)
    sky, frequency = wcs.pixel_to_world(37.3, 15.1, 7.25)
    assert u.isclose(table["ra"][0], sky.icrs.ra, atol=1e-9 * u.deg)
    assert u.isclose(table["dec"][0], sky.icrs.dec, atol=1e-9 * u.deg)
    assert u.isclose(table["freq"][0], frequency.to(u.Hz), rtol=1e-12)
    assert u.isclose(table["v_rad"][0], u.Quantity(frequency).to(u.km / u.s, u.doppler_radio(230 * u.GHz)), rtol=1e-9)


def test_an_array_without_coordinates_has_pixels_and_channels(detections_of, cube_of, planes):
    table = detections_of(cube_of(planes)).table()
    for name in ("ra", "dec", "freq", "v_rad"):
        assert np.isnan(table[name].value).all()
    assert table["f_sum"].unit == u.pix * u.chan
    assert table["w50"].unit == u.chan


@pytest.mark.parametrize(
    ("cards", "flux", "width"),
    [
        ({}, u.Jy, u.km / u.s),
        ({"RESTFRQ": None}, u.Jy, u.Hz),
        ({"BUNIT": "K"}, u.Jy, u.km / u.s),
        ({"BMAJ": None, "BMIN": None, "BPA": None}, u.Jy / u.beam * u.pix, u.km / u.s),
        ({"BUNIT": "mJy/beam"}, u.mJy, u.km / u.s),
        ({"BUNIT": "Jy/pixel"}, u.Jy, u.km / u.s),
    ],
)
def test_flux_has_the_unit_the_header_allows(tmp_path, planes, header, cards, flux, width):
    from napari_almadet import read_cube

    for key, value in cards.items():
        if value is None:
            del header[key]
        else:
            header[key] = value
    fits.writeto(tmp_path / "odd.fits", planes, header)
    cube = read_cube(tmp_path / "odd.fits")
    assert flux_factor(cube)[1] == flux
    assert channel_width(cube).unit == width
    if width == u.Hz:
        assert channel_width(cube).value == pytest.approx(1e7)


def test_other_candidates_can_be_listed(detections_of, sky_cube, planes):
    detections = detections_of(sky_cube(planes))
    table = detections.table(detections.candidates)
    assert table["id"].tolist() == [1, 2, 3]
    assert table["status"].tolist() == ["kept", "dropped", "flagged"]
    assert np.isnan(table["ra"][1])


@pytest.mark.parametrize("corrected", [False, True])
def test_fluxes_are_corrected_where_the_primary_beam_is_known(detections_of, sky_cube, planes, corrected):
    cube = sky_cube(planes)
    table = detections_of(cube).table()
    assert np.isnan(table["pb"]).all() and np.isnan(table["f_sum_pb"].value).all()
    response = np.full((1, *planes.shape[1:]), 0.5, np.float32)
    response[0, 15, 37] = 0.25
    known = detections_of(replace(cube, primary_beam=PrimaryBeam(response, Path("field.pb"), corrected))).table()
    assert known["pb"][0] == 0.25
    factor = 1 if corrected else 4
    assert known["f_sum_pb"][0].value == pytest.approx(factor * 1.5)
    assert known["err_f_sum_pb"][0].value == pytest.approx(factor * 0.1)
    assert known["f_sum"][0] == table["f_sum"][0]
    assert np.isnan(known["f_sum_pb"][1].value)  # it has no position


def test_errors_on_the_sky_turn_with_the_pixels(detections_of, sky_cube, planes):
    """By 30 degrees, with 1 arcsec a pixel: the error along x is seen along right ascension and declination."""
    detections = detections_of(sky_cube(planes))
    first = detections.kept[0]
    first.err_x, first.err_y, first.err_z = 0.2, 0.0, 0.5
    table = detections.table()
    assert table["err_ra"][0].to_value(u.arcsec) == pytest.approx(0.2 * np.cos(np.deg2rad(30)), rel=1e-3)
    assert table["err_dec"][0].to_value(u.arcsec) == pytest.approx(0.2 * np.sin(np.deg2rad(30)), rel=1e-3)
    assert table["err_freq"][0].to_value(u.MHz) == pytest.approx(5)
    assert table["err_v_rad"][0].to_value(u.km / u.s) == pytest.approx(0.5 * channel_width(detections.cube).value)
    assert "LSRK" in table["v_rad"].info.description and "230 GHz" in table["v_rad"].info.description


def test_kelvin_become_jansky_as_astropy_has_it(sky_cube, planes):
    cube = sky_cube(planes, BUNIT="K")
    channels = np.array([0, 15])
    pixel = (1 * u.arcsec) ** 2
    expected = (1 * u.K).to(u.Jy / u.sr, u.brightness_temperature(cube.frequency(channels))) * pixel
    np.testing.assert_allclose(flux_factor(cube, channels)[0], expected.to_value(u.Jy), rtol=1e-6)


def test_each_channel_has_its_own_beam(sky_cube, planes):
    cube = sky_cube(planes)
    beams = Beams(np.linspace(5, 8, 16) * u.arcsec, np.full(16, 5) * u.arcsec, np.zeros(16) * u.deg)
    cube = replace(cube, beams=beams)
    channels = np.array([0, 7, 15])
    expected = 1 / (beams.sr[channels] / (1 * u.arcsec) ** 2).to_value(u.dimensionless_unscaled)
    np.testing.assert_allclose(flux_factor(cube, channels)[0], expected, rtol=1e-6)
