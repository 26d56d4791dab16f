"""Headers that mean something else than they say: what is read, and the sentence that says so."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from headers_by_hand import PIXEL, REST, SHAPE, header_of

from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.cube.coordinate_cards import coordinate_cards
from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.headers import mended
from napari_almadet.cube.reading import read_cube


@pytest.fixture
def opened(tmp_path):
    """Write a header with noise and open it as a cube."""

    def opened(header: fits.Header | None = None, extra=(), shape=SHAPE, **cards):
        data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        hdus = [fits.PrimaryHDU(data, header or header_of(**cards)), *extra]
        path = tmp_path / "cube.fits"
        fits.HDUList(hdus).writeto(path, overwrite=True, output_verify="ignore")
        return read_cube(path)

    return opened


def noted(cube, words: str) -> bool:
    """Whether one of the cube's notes has these words."""
    return any(words in note for note in cube.notes)


# --- the matrix ---


def as_matrix(header: fits.Header, form: str, factor: float = 2.0) -> fits.Header:
    """The same coordinates with their steps in a CD matrix, or in CDELT and PC."""
    header = header.copy()
    for i in (1, 2, 3):
        step = header[f"CDELT{i}"]
        if form == "CD":
            del header[f"CDELT{i}"]
            header[f"CD{i}_{i}"] = step
        elif form == "PC":
            header[f"CDELT{i}"], header[f"PC{i}_{i}"] = step / factor, factor
    return header


SPECTRAL = {
    "FREQ": (230.5e9, 4e6, "Hz"),
    "VRAD": (1.2e6, 5e3, "m/s"),
    "VOPT": (1200.0, 5.0, "km/s"),
    "VELO": (1.2e6, 5e3, "m/s"),
    "ZOPT": (0.5, 1e-4, None),
    "BETA": (0.01, 1e-5, None),
    "WAVE": (1.3e-3, 1e-8, "m"),
    "AWAV": (1.3e-3, 1e-8, "m"),
    "FREQ-W2F": (230.5e9, 4e6, "Hz"),
    "VRAD-W2F": (1.2e6, 5e3, "m/s"),
    "VOPT-F2W": (1.2e6, 5e3, "m/s"),
}


@pytest.mark.parametrize("kind", SPECTRAL)
@pytest.mark.parametrize("form", ["PC", "CD"])
def test_steps_in_a_matrix_give_the_same_frequencies_velocities_and_widths(opened, kind, form):
    value, step, unit = SPECTRAL[kind]
    header = header_of(CTYPE3=kind, CRVAL3=value, CDELT3=step, CUNIT3=unit)
    plain, matrix = opened(header), opened(as_matrix(header, form))
    channels = np.arange(SHAPE[0])
    np.testing.assert_allclose(matrix.frequency(channels).value, plain.frequency(channels).value, rtol=1e-12)
    np.testing.assert_allclose(matrix.velocity(channels).value, plain.velocity(channels).value, rtol=1e-9, atol=1e-6)
    assert channel_width(matrix).to_value("km/s") == pytest.approx(channel_width(plain).to_value("km/s"), rel=1e-6)
    assert channel_width(plain).to_value("km/s") < 100
    assert matrix.pixel_scale.value == pytest.approx(plain.pixel_scale.value)


def test_a_turned_field_stays_turned(opened):
    c, s = np.cos(0.3) * PIXEL, np.sin(0.3) * PIXEL
    cards = {"CD1_1": -c, "CD1_2": s, "CD2_1": s, "CD2_2": c, "CD3_3": 4e6}
    cube = opened(CDELT1=None, CDELT2=None, CDELT3=None, **cards)
    start, up = cube.sky(2, 2), cube.sky(2, 3)
    assert start.position_angle(up).deg == pytest.approx(np.degrees(0.3), abs=1e-3)
    assert start.separation(up).deg == pytest.approx(PIXEL, rel=1e-6)


def test_an_axis_that_the_cd_matrix_leaves_out_has_the_step_of_cdelt(opened):
    cube = opened(CDELT1=None, CDELT2=None, CD1_1=-PIXEL, CD2_2=PIXEL)
    assert np.diff(cube.frequency([0, 1]).value) == pytest.approx(4e6)
    assert noted(cube, "The CD matrix leaves out axis 3; its step is CDELT3")


def test_an_axis_of_one_plane_needs_no_step(opened):
    cards = {"CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 0.0, "CRPIX4": 1.0}
    cube = opened(shape=(1, *SHAPE), **cards)
    assert cube.shape == SHAPE
    assert noted(cube, "CDELT4 of 0 was read as 1")


# --- the rest frequency ---


@pytest.mark.parametrize(
    ("cards", "rest", "said"),
    [
        ({"RESTFREQ": 115.2712018e9}, REST, "RESTFRQ is 2.30538e+11 and RESTFREQ 1.15271202e+11"),
        ({"RESTFRQ": 115.2712018e9, "RESTFREQ": REST}, REST, "RESTFREQ is 2.30538e+11 and RESTFRQ 1.15271202e+11"),
        ({"RESTFREQ": REST * (1 + 1e-9)}, REST, None),
        ({"RESTFRQ": 230.538}, REST, "it was read as 230.538 GHz"),
        ({"RESTFRQ": 230538.0}, REST, "it was read as 230538 MHz"),
        ({"RESTFRQ": None, "RESTFREQ": 230.538}, REST, "it was read as 230.538 GHz"),
        ({"RESTFRQ": 1420.40575, "CRVAL3": 1.415e9, "CDELT3": 1e5}, 1.42040575e9, "it was read as 1420.40575 MHz"),
        ({"RESTFRQ": 1.42040575, "CRVAL3": 1.2e9, "CDELT3": 1e5}, 1.42040575e9, "it was read as 1.42040575 GHz"),
        ({"RESTFRQ": 345.796, "CTYPE3": "VRAD", "CUNIT3": "km/s", "CRVAL3": 5.0, "CDELT3": 1.0}, 345.796e9, "GHz"),
        ({"RESTFRQ": 1420.40575, "CTYPE3": "VOPT", "CUNIT3": "m/s", "CRVAL3": 5e5, "CDELT3": 5e3}, 1.42040575e9, "MHz"),
    ],
)
def test_a_rest_frequency_in_another_unit_or_of_two_that_differ_is_the_one_that_fits(opened, cards, rest, said):
    cube = opened(**cards)
    assert cube.rest_frequency.to_value("Hz") == pytest.approx(rest, rel=1e-8)
    assert abs(cube.velocity(0).value) < 60_000
    assert noted(cube, said) if said else not noted(cube, "RESTF")


def test_a_high_redshift_is_no_fault(opened):
    assert not opened(RESTFRQ=1900.5369e9, CRVAL3=230e9).notes


# --- what cannot be right ---


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"RESTFRQ": 100e9}, "The radio velocities run from"),
        ({"RESTFRQ": 9e12}, "The radio velocities run from"),
        ({"CTYPE3": "VRAD", "CUNIT3": "m/s", "CRVAL3": 1200.0, "CDELT3": 1e-5}, "The channels are"),
        ({"CDELT3": 4.0}, "The channels are 4 Hz wide at 230.5 GHz"),
        ({"CDELT3": 4e12}, "The spectral axis runs from"),
        ({"CDELT3": 3.5e11, "CRPIX3": 1.0}, "is wider than that of any receiver"),
        ({"CTYPE3": "VRAD", "CUNIT3": "km/s", "CRVAL3": 1.2e6, "CDELT3": 1.0}, "The spectral axis runs from"),
        ({"BMAJ": 1e-12, "BMIN": 1e-12}, "is not plausible for any instrument"),
        ({"BMAJ": 1e-5, "BMIN": 1e-5}, "The beam covers"),
    ],
)
def test_what_cannot_be_right_is_said(opened, cards, said):
    assert noted(opened(**cards), said)


def test_a_good_header_has_no_notes(opened):
    assert opened().notes == ()


# --- units ---


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("Jy/b", u.Jy / u.beam),
        ("mJy/bm", u.mJy / u.beam),
        ("Jy/beam km/s", u.Jy / u.beam * u.km / u.s),
        ("Jy/beam.km/s", u.Jy / u.beam * u.km / u.s),
    ],
)
def test_beams_and_products_in_the_brightness_unit(opened, written, unit):
    cube = opened(BUNIT=written)
    assert cube.unit == unit
    assert noted(cube, f"The brightness unit '{written}' was read as")


@pytest.mark.parametrize(
    "written",
    [
        *("mag(AB)", "mag", "ABmag", "Magnitude", "dB(mW)", "dBm", "dex(Jy)"),
        *("log(Jy/beam)", "log_10(K)", "log10 K", "Jy/beam (log)", "[Jy/beam]"),
    ],
)
def test_logarithmic_brightness_is_refused(opened, written):
    with pytest.raises(CubeError, match=r"^cube.fits has brightness in a logarithmic unit, "):
        opened(BUNIT=written)


def test_an_absurd_angle_is_refused_in_one_sentence(opened):
    with pytest.raises(CubeError, match=r"^cube.fits has invalid coordinates: LATPOLE is 1e\+300\.$"):
        opened(LATPOLE=1e300)


@pytest.mark.parametrize("written", ["Jy/beam", "dyn", "Jy/beam (image)", "Angstrom"])
def test_other_units_are_no_logarithms(opened, written):
    opened(BUNIT=written)


@pytest.mark.parametrize(
    ("written", "janskys"),
    [("MJy/sr", 1e6), ("Jy/sr", 1.0), ("Jy/arcsec2", 206264.806**2), ("mJy/arcsec**2", 1e-3 * 206264.806**2)],
)
def test_brightness_by_solid_angle_gives_fluxes_in_jansky(opened, written, janskys):
    factor, unit = flux_factor(opened(BUNIT=written))
    steradians = np.radians(PIXEL) ** 2
    assert unit == u.Jy
    assert factor == pytest.approx(janskys * steradians, rel=1e-6)
    several, unit = flux_factor(opened(BUNIT=written), np.arange(3))
    np.testing.assert_allclose(several, factor)


# --- AIPS ---


def test_a_velocity_axis_says_which_convention_was_taken(opened):
    velocity = {"CUNIT3": "m/s", "CRVAL3": 1.5e6, "CDELT3": 5e3}
    assert noted(opened(CTYPE3="VELOCITY", **velocity), "relativistic velocity was taken")
    radio = opened(CTYPE3="VELOCITY", VELREF=257, **velocity)
    assert noted(radio, "The velocities are radio ones, according to VELREF.")
    assert radio.velocity(2).to_value("m/s") == pytest.approx(1.5e6)
    optical = opened(CTYPE3="VELOCITY", VELREF=1, **velocity)
    assert noted(optical, "optical ones")
    assert optical.velocity(2).to_value("m/s") == pytest.approx(1.5e6 / (1 + 1.5e6 / 299792458.0))


@pytest.mark.parametrize("velref", [1, 257])
def test_altrval_that_contradicts_velref_is_said(opened, velref):
    c, frequency = 299792458.0, 228e9
    radio, optical = c * (1 - frequency / REST), c * (REST / frequency - 1)
    cards = {"CRVAL3": frequency, "CDELT3": 1e6, "VELREF": velref, "ALTRPIX": 3.0}
    agree, differ = (optical, radio) if velref == 1 else (radio, optical)
    assert not noted(opened(ALTRVAL=agree, **cards), "ALTRVAL")
    assert noted(opened(ALTRVAL=differ, **cards), "but ALTRVAL contradicts it: it is the")


# --- beams ---


def table_of(name="BEAMS", rows=SHAPE[0], **columns) -> fits.BinTableHDU:
    """A table of beams with major axes of 1.0, 1.1 ... arcsec."""
    values = {"BMAJ": 1 + 0.1 * np.arange(rows), "BMIN": np.full(rows, 0.9), "BPA": np.zeros(rows)} | columns
    kinds = {"BMAJ": ("E", "arcsec"), "BMIN": ("E", "arcsec"), "BPA": ("E", "deg")}
    made = [fits.Column(k, *kinds.get(k, ("J", None)), array=v) for k, v in values.items()]
    return fits.BinTableHDU.from_columns(made, name=name)


def majors(cube) -> list[float]:
    return np.round(np.atleast_1d(cube.beams.major.to_value("arcsec")), 6).tolist()


IN_ORDER = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]


def test_a_table_of_another_name_holds_no_beams(opened):
    cube = opened(extra=[table_of("GAUSSFIT")])
    assert majors(cube) == [1.0]
    assert cube.notes == ()


@pytest.mark.parametrize(
    "columns",
    [
        {"CHAN": np.array([7, 2147483, 5, 5, 9, -3, 0, 1])},
        {"CHAN": np.zeros(8, int)},
        {"POL": np.array([0, 5, 1, 7, 3, 2, 2, 9])},
    ],
)
def test_channels_and_polarisations_that_make_no_sense_are_ignored_with_a_note(opened, columns):
    cube = opened(extra=[table_of(**columns)])
    assert majors(cube) == IN_ORDER
    assert noted(cube, "is inconsistent and was ignored")


def test_channels_counted_from_one_and_out_of_order_are_put_in_order(opened):
    table = table_of(CHAN=np.arange(8, 0, -1))
    assert majors(opened(extra=[table])) == IN_ORDER[::-1]


def test_one_row_stands_for_all_channels(opened):
    cube = opened(extra=[table_of(rows=1)])
    assert majors(cube) == [1.0]
    assert cube.beams.isscalar
    assert noted(cube, "one row, which is used for all channels")


def test_rows_without_a_beam_are_left_out(opened):
    major = np.array([1.0, np.nan, 0.0, 1.3, 1.4, 1.5, 1.6, 1.7])
    cube = opened(extra=[table_of(BMAJ=major)])
    assert cube.beam.major.to_value("arcsec") == pytest.approx(1.5)
    assert noted(cube, "2 of 8 rows of the beam table contain no beam")


def test_a_minor_axis_over_the_major_by_rounding_is_swapped(opened):
    cube = opened(BMIN=5 * PIXEL * (1 + 1e-9))
    assert cube.beam.major.to_value("deg") == pytest.approx(5 * PIXEL)
    assert noted(cube, "Due to rounding")


def test_a_beam_as_text_is_a_number(opened):
    cube = opened(BMAJ="2.7778E-04")
    assert cube.beam.major.to_value("arcsec") == pytest.approx(1.0, rel=1e-4)
    assert noted(cube, "BMAJ is text")


def test_history_that_speaks_of_beams_in_other_words_is_no_beam(opened):
    header = header_of(BMAJ=None, BMIN=None, BPA=None)
    header["HISTORY"] = "removed: BMAJ=1.0E-03 BMIN=5.0E-04"
    assert opened(header).beam is None


def test_a_beam_in_arcsec_on_a_field_smaller_than_it_would_be_in_degrees(opened):
    cube = opened(BMAJ=0.6, BMIN=0.5)
    assert cube.beam.major.to_value("arcsec") == pytest.approx(0.6)
    assert noted(cube, "BMAJ and BMIN were read as 0.6 and 0.5 arcsec")
    large = opened(BMAJ=0.05, BMIN=0.05)  # less than a pixel in arcsec: nothing fits
    assert large.beam is None
    assert noted(large, "far larger than the field")


# --- what reaches the WCS library ---


def test_only_what_coordinates_need_reaches_the_library():
    header = header_of(OBSERVER="me", OBSRA="text", VELOSYS="text", OBSGEO_X=3, ZSOURCE="text", WCSAXES=3, CNAME3="x")
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"], header["NAXIS3"] = 3, 12, 10, 8
    header["CTYPE77"] = "FREQ"
    header["A_ORDER"] = 2
    notes = []
    cards = coordinate_cards(mended(header, []), notes)
    assert not {"OBSERVER", "OBSRA", "VELOSYS", "ZSOURCE", "CNAME3", "BMAJ", "A_ORDER", "CTYPE77"} & set(cards)
    assert {"CTYPE3", "CRVAL3", "CDELT3", "CRPIX3", "RESTFRQ", "RADESYS", "SPECSYS", "WCSAXES"} <= set(cards)
    assert notes == ["The distortion that the header describes is not applied to the coordinates."]


@pytest.mark.parametrize("axes", [0, 2, 5000, "three", True, 3.5])
def test_a_number_of_axes_that_cannot_be_is_ignored(opened, axes):
    cube = opened(WCSAXES=axes)
    assert cube.frequency(2).value == pytest.approx(230.5e9)
    assert noted(cube, "WCSAXES of")


@pytest.mark.parametrize(("key", "value"), [("CRVAL1", 1e200), ("LONPOLE", -1e30), ("PV2_1", 1e200), ("CROTA2", 1e99)])
def test_angles_that_are_no_angles_are_refused(opened, key, value):
    with pytest.raises(CubeError, match=f"has invalid coordinates: {key} is"):
        opened(**{key: value})


def test_a_card_that_is_there_twice_with_another_value_is_said(tmp_path, opened):
    header = header_of()
    header.append(("CRVAL3", 99e9), end=True)
    cube = opened(header)
    assert cube.frequency(2).value == pytest.approx(230.5e9)
    assert noted(cube, "CRVAL3 occurs twice; the first")


# --- limits from both sides ---


@pytest.mark.parametrize(("apart", "reported"), [(0.7e-7, False), (1.5e-7, True)])
def test_two_rest_frequencies_that_differ_by_rounding_are_one(opened, apart, reported):
    cube = opened(RESTFRQ=REST, RESTFREQ=REST * (1 + apart))
    assert noted(cube, "RESTFREQ") is reported


@pytest.mark.parametrize(("velref", "convention"), [(257, "radio"), (259, "radio"), (1, "optical"), (3, "optical")])
def test_velref_of_256_and_more_means_radio_velocity(opened, velref, convention):
    cube = opened(CTYPE3="VELO", CRVAL3=5e5, CDELT3=5e3, CUNIT3="m/s", VELREF=velref, SPECSYS=None)
    assert noted(cube, f"The velocities are {convention} ones")
    assert str(cube.wcs.wcs.ctype[2])[:4] in {"radio": ("VRAD",), "optical": ("VOPT", "VELO", "WAVE")}[convention]


def test_a_unit_of_the_polarisation_axis_means_nothing(opened):
    cards = {"CTYPE4": "STOKES", "CRVAL4": 1.0, "CDELT4": 1.0, "CRPIX4": 1.0, "CUNIT4": "nonsense"}
    assert not noted(opened(shape=(1, *SHAPE), **cards), "CUNIT4")


def test_pixels_too_small_for_any_telescope_are_reported(opened):
    assert noted(opened(CDELT1=-1e-8 / 3600, CDELT2=1e-8 / 3600, BMAJ=None, BMIN=None), "The field measures")
    assert not noted(opened(CDELT1=-1e-6 / 3600, CDELT2=1e-6 / 3600, BMAJ=None, BMIN=None), "The field measures")


def test_an_optical_band_may_span_more_than_a_receiver(opened):
    wide = {"CRPIX3": 1.0, "CDELT3": 2e13, "RESTFRQ": None}
    assert not noted(opened(CRVAL3=4e12, **wide), "wider than that of any receiver")
    assert noted(opened(CRVAL3=2e9, CRPIX3=1.0, CDELT3=4e9, RESTFRQ=None), "wider than that of any receiver")


@pytest.mark.parametrize(("pixels", "kept"), [(80.0, True), (130.0, False)])
def test_a_beam_over_a_hundred_times_the_field_is_ignored(opened, pixels, kept):
    cube = opened(
        BMAJ=pixels * PIXEL, BMIN=pixels * PIXEL
    )  # the field covers 120 pixels, these beams 60 and 160 fields
    assert (cube.beam is not None) is kept


def test_a_position_angle_that_is_no_number_counts_as_zero():
    from napari_almadet.cube.beams import _cards

    assert _cards(fits.Header({"BMAJ": 2.0, "BMIN": 1.0, "BPA": "north"})) == (2.0, 1.0, 0.0)
