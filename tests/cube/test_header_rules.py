"""Single rules of reading headers, each with a header on either side of it."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from astropy.io import fits
from headers_by_hand import SHAPE, header_of

from napari_almadet.cube.bad_channels import stripes
from napari_almadet.cube.coordinate_cards import with_plain_matrix
from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.fits_structure import MOST_COLUMNS, check_structure
from napari_almadet.cube.headers import frequency_band, positive
from napari_almadet.cube.reading import read_cube


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


@pytest.mark.parametrize(("low", "plausible"), [(1e-8, True), (1e-9, False)])
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
