"""Single rules of reading headers, each with a header on either side of it."""

from __future__ import annotations

import io
import re
from contextlib import nullcontext

import numpy as np
import pytest
from astropy.coordinates.polarization import FITS_STOKES_VALUE_SYMBOL_MAP
from astropy.io import fits
from headers_by_hand import REST, SHAPE, header_of

from napari_almadet.cube.bad_channels import stripes
from napari_almadet.cube.coordinate_cards import with_plain_matrix
from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.fits_structure import MOST_COLUMNS, check_structure
from napari_almadet.cube.headers import _judge_rest_frequency, fits_band, frequency_band, mended, positive
from napari_almadet.cube.reading import read_cube
from napari_almadet.cube.storage import STOKES


@pytest.fixture
def notes_of(tmp_path):
    """The notes on a cube of noise with a header."""

    def notes_of(shape=SHAPE, **cards) -> str:
        data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        hdu = fits.PrimaryHDU(data, header_of(**cards))
        hdu.writeto(tmp_path / "cube.fits", overwrite=True, output_verify="ignore")
        return " ".join(read_cube(tmp_path / "cube.fits").notes)

    return notes_of


# --- matrix and steps ---


def matrix_header(**cards) -> fits.Header:
    header = fits.Header({"NAXIS": 3, "NAXIS1": 4, "NAXIS2": 4, "NAXIS3": 1, "CDELT1": -2.0, "CDELT2": 2.0})
    header.update(cards)
    return header


def test_a_pc_matrix_alone_contradicts_nothing():
    notes = []
    with_plain_matrix(matrix_header(CDELT3=1.0, PC1_1=1.0), notes)
    assert not notes


@pytest.mark.parametrize(
    ("cards", "step"),
    [
        ({"CDELT3": 0.0}, 1.0),
        ({"CDELT3": 0.0, "PC3_3": 1.0}, 1.0),  # the diagonal mixes no axes
        ({"CDELT3": 0.0, "PC3_1": 0.5}, 0.0),
        ({"CDELT3": 5.0}, 5.0),
    ],
)
def test_only_a_missing_step_of_a_single_plane_is_replaced(cards, step):
    header, notes = matrix_header(**cards), []
    with_plain_matrix(header, notes)
    assert header["CDELT3"] == step
    assert bool(notes) == (step == 1.0)


@pytest.mark.parametrize("step", [4e6, -4e6])
def test_a_cd_matrix_without_rotation_gives_its_diagonal_as_steps(step):
    header, notes = matrix_header(CD3_3=step), []
    with_plain_matrix(header, notes)
    assert header["CDELT3"] == step
    assert "PC3_3" not in header


def test_a_cd_matrix_needs_no_cdelt(notes_of):
    steps = {f"CD{i}_{i}": header_of()[f"CDELT{i}"] for i in (1, 2, 3)}
    assert "CDELT" not in notes_of(CDELT1=None, CDELT2=None, CDELT3=None, **steps)
    assert "There is no CDELT3" in notes_of(CDELT3=None)


# --- spectral axis ---


def test_an_optical_rest_frequency_in_gigahertz_is_recognised_by_its_band(notes_of):
    """H alpha, 656.46 nm in vacuum."""
    optical = {"CTYPE3": "WAVE", "CRVAL3": 656e-9, "CDELT3": 1e-10, "CUNIT3": "m"}
    assert "was read as 456679 GHz" in notes_of(RESTFRQ=456679.0, **optical)


def test_the_band_of_a_wavelength_axis_is_known():
    header = header_of(CTYPE3="WAVE", CRVAL3=1.3e-3, CDELT3=1e-6, CUNIT3="m")
    header.update({"NAXIS": 3, "NAXIS1": 12, "NAXIS2": 10, "NAXIS3": 8})
    assert frequency_band(header) == pytest.approx((229.7e9, 231.0e9), rel=1e-3)


@pytest.mark.parametrize(("velref", "convention"), [(255, "optical"), (256, "radio"), (130, "optical"), (257, "radio")])
def test_velref_codes_radio_velocity_from_256_on(notes_of, velref, convention):
    notes = notes_of(CTYPE3="VELO", CRVAL3=1e6, CDELT3=5e3, CUNIT3="m/s", VELREF=velref)
    assert f"The velocities are {convention} ones" in notes


@pytest.mark.parametrize("cards", [{"RESTFRQ": None}, {"CRVAL3": -1e9}])
def test_altrval_cannot_contradict_without_rest_frequency_or_with_a_negative_frequency(notes_of, cards):
    assert "ALTRVAL" not in notes_of(VELREF=257, ALTRVAL=1e6, **cards)


def test_the_north_celestial_projection_is_noted(notes_of):
    assert "NCP projection was read as the equivalent SIN" in notes_of(CTYPE1="RA---NCP", CTYPE2="DEC--NCP")
    assert "NCP" not in notes_of()


@pytest.mark.parametrize(("low", "plausible"), [(4.5e-9, True), (2e-9, False)])
def test_wavelengths_of_x_rays_are_implausible(notes_of, low, plausible):
    notes = notes_of(CTYPE3="WAVE", CRVAL3=low, CDELT3=low / 1e3, CUNIT3="m", RESTFRQ=None)
    assert ("The spectral axis runs from" in notes) != plausible


# --- sky and numbers ---


@pytest.mark.parametrize(("arcsec", "reported"), [(1.5e-7, False), (0.9e-7, True)])
def test_the_smallest_plausible_pixel_is_a_tenth_of_a_microarcsecond(notes_of, arcsec, reported):
    degrees = arcsec / 3600
    notes = notes_of(CDELT1=-degrees, CDELT2=degrees, BMAJ=5 * degrees, BMIN=4 * degrees)
    assert ("The field measures" in notes) == reported


@pytest.mark.parametrize(("degrees", "reported"), [(29.0, False), (40.0, True)])
def test_a_field_wider_than_the_sky_is_reported(notes_of, degrees, reported):
    """Twelve pixels along x."""
    cards = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRVAL2": 0.0, "BMAJ": None, "BMIN": None, "BPA": None}
    notes = notes_of(CDELT1=-degrees, CDELT2=degrees / 2, CRPIX1=6.5, CRPIX2=5.5, **cards)
    assert ("The field measures" in notes) == reported


def test_a_logical_value_is_no_number(notes_of):
    with pytest.raises(CubeError, match="CRVAL3"):
        notes_of(CRVAL3=True)


@pytest.mark.parametrize(("value", "answer"), [(1.0, True), (0, False), (np.inf, False), (np.nan, False), ("1", False)])
def test_only_a_finite_number_above_zero_is_positive(value, answer):
    assert positive(value) is answer


def test_a_unit_of_the_polarisation_axis_is_dropped_without_a_note(notes_of):
    stokes = {"CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 1.0, "CRPIX4": 1.0, "CUNIT4": "nonsense"}
    assert "CUNIT4" not in notes_of((1, *SHAPE), **stokes)
    assert "CUNIT4 'nonsense' is not understood" in notes_of((1, *SHAPE), **{**stokes, "CTYPE4": "ODD"})


def test_a_brightness_unit_that_is_not_understood_is_noted(notes_of):
    assert "The brightness unit 'nonsense' is not understood" in notes_of(BUNIT="nonsense")


# --- structure of the file ---


def test_every_block_of_a_file_is_looked_at_in_steps_of_2880_bytes():
    first = fits.PrimaryHDU(np.zeros(2880, "u1"))  # one block: after it, multiples of 5760 would miss the next header
    bad = fits.Header({"XTENSION": "IMAGE", "BITPIX": -32, "NAXIS": 2, "NAXIS1": 4, "NAXIS2": -1})
    written = io.BytesIO()
    first.writeto(written)
    with pytest.raises(CubeError, match="NAXIS2 is -1"):
        check_structure(io.BytesIO(written.getvalue() + bad.tostring().encode()))


@pytest.mark.parametrize("more", [0, 1])
def test_a_table_has_at_most_999_columns(more):
    header = fits.Header({"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 0})
    header.update({"PCOUNT": 0, "GCOUNT": 1, "TFIELDS": MOST_COLUMNS + more})
    assert MOST_COLUMNS == 999
    file = io.BytesIO(header.tostring().encode())
    if not more:
        check_structure(file)
    else:
        with pytest.raises(CubeError, match=re.escape("TFIELDS is 1000")):
            check_structure(file)


# --- bad channels ---


@pytest.mark.parametrize(("amplitude", "seen"), [(0.5, True), (0.4, False)])
def test_stripes_are_measured_from_one_hundred_times_the_typical_power_on(amplitude, seen):
    """Amplitudes 0.4 and 0.5 have 88 and 142 times the median power."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:64, :64]
    contrast, height = stripes(rng.normal(size=(64, 64)) + amplitude * np.cos(2 * np.pi * (9 * x + 5 * y) / 64))
    assert (contrast > 0) == seen
    assert height == pytest.approx(amplitude, abs=0.1) if seen else height == 0


# --- rest frequency, band and channels ---


@pytest.mark.parametrize(("apart", "noted"), [(8e-8, False), (1.3e-7, True)])
def test_two_rest_frequencies_are_one_if_they_differ_by_less_than_a_ten_millionth(notes_of, apart, noted):
    """0.03 km/s: what rounding in a header leaves."""
    assert ("the first is taken" in notes_of(RESTFREQ=REST * (1 + apart))) == noted


@pytest.mark.parametrize(("ratio", "fits_it"), [(1.4, True), (1.7, False), (1 / 19, True), (1 / 23, False)])
def test_a_rest_frequency_fits_a_band_up_to_redshift_20_and_a_blueshift_of_a_half(ratio, fits_it):
    assert fits_band(230e9, (229e9 * ratio, 230e9 * ratio)) == fits_it


@pytest.mark.parametrize(("hertz", "radio"), [(0.8e6, False), (1.5e6, True)])
def test_without_a_band_a_rest_frequency_is_of_a_megahertz_at_least(hertz, radio):
    assert fits_band(hertz, None) == radio


@pytest.mark.parametrize(("value", "unit"), [(230.538, "GHz"), (230538.0, "MHz"), (1420.4, "MHz")])
def test_a_rest_frequency_in_gigahertz_or_megahertz_is_recognised_by_its_band(notes_of, value, unit):
    hertz = value * {"GHz": 1e9, "MHz": 1e6}[unit]
    cards = {"CRVAL3": hertz * 0.999, "CDELT3": hertz * 1e-5}
    assert f"was read as {value:.9g} {unit}" in notes_of(RESTFRQ=value, **cards)
    header = header_of(RESTFRQ=value, **cards)
    header.update({"NAXIS": 3, "NAXIS1": 12, "NAXIS2": 10, "NAXIS3": 8})
    assert mended(header, [])["RESTFRQ"] == pytest.approx(hertz)


@pytest.mark.parametrize(("value", "factor"), [(230.538, 1e9), (230538.0, 1e6), (230538e6, 1.0)])
def test_gigahertz_are_a_billion_hertz_and_megahertz_a_million(value, factor):
    header = header_of(RESTFRQ=value, CRVAL3=230.3e9, CDELT3=2e6)
    header.update({"NAXIS": 3, "NAXIS1": 12, "NAXIS2": 10, "NAXIS3": 8})
    _judge_rest_frequency(header, [])
    assert header["RESTFRQ"] == pytest.approx(value * factor)


@pytest.mark.parametrize(("value", "noted"), [(900.0, True), (1500.0, False)])
def test_without_a_band_a_rest_frequency_in_gigahertz_is_of_a_radio_line(value, noted):
    """Up to a terahertz, since above it there are optical lines."""
    header = header_of(CTYPE3="VRAD", CRVAL3=0.0, CDELT3=1e3, CUNIT3="m/s", RESTFRQ=value)
    header.update({"NAXIS": 3, "NAXIS1": 12, "NAXIS2": 10, "NAXIS3": 8})
    notes = []
    mended(header, notes)
    assert ("was read as" in " ".join(notes) and " GHz" in " ".join(notes)) == noted


@pytest.mark.parametrize(("metres", "contradiction"), [(400.0, False), (700.0, True)])
def test_reference_values_of_aips_may_differ_by_half_a_kilometre_per_second(notes_of, metres, contradiction):
    """Because they are rounded; the channels here are finer."""
    velocity = 299792458.0 * (1 - 230.5e9 / REST)
    notes = notes_of(VELREF=257, ALTRVAL=velocity + metres, ALTRPIX=3.0, CDELT3=1e5)
    assert ("ALTRVAL contradicts it" in notes) == contradiction


@pytest.mark.parametrize(("times", "wide"), [(9.0, False), (11.0, True)])
def test_no_receiver_has_a_band_of_more_than_ten_to_one(notes_of, times, wide):
    step = 20e9 * (times - 1) / 7
    notes = notes_of(CRVAL3=20e9, CRPIX3=1.0, CDELT3=step, RESTFRQ=100e9)
    assert ("wider than that of any receiver" in notes) == wide


@pytest.mark.parametrize(("terahertz", "radio"), [(2.5, True), (3.5, False)])
def test_an_optical_band_may_span_octaves(notes_of, terahertz, radio):
    """From three terahertz on there are no radio receivers."""
    high = terahertz * 1e12
    notes = notes_of(CRVAL3=high / 15, CRPIX3=1.0, CDELT3=high * (1 - 1 / 15) / 7, RESTFRQ=high / 2)
    assert ("wider than that of any receiver" in notes) == radio


@pytest.mark.parametrize(("relative", "narrow"), [(0.8e-9, True), (1.3e-9, False)])
def test_channels_are_wider_than_a_billionth_of_their_frequency(notes_of, relative, narrow):
    assert ("Hz wide at" in notes_of(CDELT3=230.5e9 * relative)) == narrow


# --- sizes ---


@pytest.mark.parametrize(("side", "refused"), [(2**57, False), (2**58 + 1, True)])
def test_an_image_has_at_most_an_exabyte(side, refused):
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 1, "NAXIS1": side})
    file = io.BytesIO(header.tostring().encode())
    with pytest.raises(CubeError, match="more than any disk") if refused else nullcontext():
        check_structure(file)


def test_a_file_of_a_thousand_images_is_looked_at_and_no_further():
    file = io.BytesIO(1200 * fits.Header({"SIMPLE": True, "BITPIX": 8, "NAXIS": 0}).tostring().encode())
    check_structure(file)
    assert file.tell() == 1000 * 2880


@pytest.mark.parametrize(("side", "refused"), [(46_000, False), (47_000, True)])
def test_a_tile_has_two_billion_values_at_most(side, refused):
    """47,000 squared are 2.2 billion, more than 32 bits count."""
    cards = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 1, "PCOUNT": 0, "GCOUNT": 1}
    cards |= {"TFIELDS": 1, "ZIMAGE": True, "ZNAXIS": 2, "ZNAXIS1": side, "ZNAXIS2": side}
    cards |= {"ZTILE1": side, "ZTILE2": side, "ZCMPTYPE": "RICE_1"}
    file = io.BytesIO(fits.Header(cards).tostring().encode())
    with pytest.raises(CubeError, match="is damaged") if refused else nullcontext():
        check_structure(file)


def test_polarisations_have_the_numbers_that_astropy_knows():
    known = {stokes.symbol: value for value, stokes in FITS_STOKES_VALUE_SYMBOL_MAP.items()}
    assert {name: known[name] for name in STOKES} == STOKES
