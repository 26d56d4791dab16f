"""Single rules of reading coordinates, beams and units, each with a header on either side of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from headers_by_hand import PIXEL, REST, SHAPE, header_of

from napari_almadet.cube.beams import _cards, beams_of
from napari_almadet.cube.coordinate_cards import axes_described, coordinate_cards, with_plain_matrix
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.errors import MOST_AXES, in_one_line
from napari_almadet.cube.headers import (
    _judge_velocity_convention,
    _mend_frame,
    _mend_numbers,
    _mend_rest_frequency,
    _mend_type,
    brightness_unit,
    frequency_band,
    mended,
    polarisation_axis,
)
from napari_almadet.cube.plausibility import implausible
from napari_almadet.cube.reading import _of_rounding, _planes, _polarisation, read_cube, read_image, read_primary_beam

NO_SKY = {"CTYPE1": "OFFSET", "CTYPE2": "SLIT", "CUNIT1": "arcsec", "CUNIT2": "arcsec"}
NO_BEAM = {"BMAJ": None, "BMIN": None, "BPA": None}


@pytest.fixture
def opened(tmp_path):
    """A cube of noise with a header, of some shape."""

    def opened(shape=SHAPE, extra=(), name="cube.fits", **cards) -> Cube:
        data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        hdus = [fits.PrimaryHDU(data, header_of(**cards)), *extra]
        fits.HDUList(hdus).writeto(tmp_path / name, overwrite=True, output_verify="ignore")
        return read_cube(tmp_path / name)

    return opened


def with_axes(shape=SHAPE, **cards) -> fits.Header:
    """A header as that of a file, with the sizes of its axes."""
    header = header_of(**cards)
    sizes = {"NAXIS": len(shape)} | {f"NAXIS{i}": n for i, n in enumerate(shape[::-1], 1)}
    return fits.Header([*sizes.items(), *header.cards])


def said(cube: Cube) -> str:
    return " ".join(cube.notes)


def mended_by(function, *arguments, **cards) -> tuple[fits.Header, str]:
    """A header after one of the functions that mend it, and what is said."""
    header, notes = with_axes(**cards), []
    function(header, *arguments, notes)
    return header, " ".join(notes)


# --- errors in one line ---


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.fits"), "a.fits: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("Header missing END card."), "Header missing END card."),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError("word " * 39 + "ends."), "word " * 39 + "ends."),  # 200 characters
        (ValueError("word " * 80), "word " * 39 + "word ..."),
    ],
)
def test_an_error_is_said_in_one_line_of_up_to_200_characters(error, text):
    assert in_one_line(error) == text


# --- cards that reach the library of coordinates ---


def cards_of(*cards: str | tuple, **others) -> tuple[fits.Header, str]:
    """The cards that are kept of a header with these, given as in a file or as (key, value), and what is said."""
    header, notes = with_axes(**others), []
    for card in cards:
        header.append(fits.Card.fromstring(card) if isinstance(card, str) else card, end=True)
    return coordinate_cards(header, notes), " ".join(notes)


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (("LONPOLE", "north"), "LONPOLE is 'north', which is no number"),
        (("LONPOLE", True), "LONPOLE is True, which is no number"),
        ("LONPOLE = 1E999", "LONPOLE is inf, which is no number"),
        (("RADESYS", 5), "RADESYS is 5, which is no text"),
    ],
)
def test_a_card_of_the_wrong_type_is_ignored_and_said(card, reason):
    kept, notes = cards_of(card, RADESYS=None)
    assert reason in notes
    assert not {"LONPOLE", "RADESYS"} & set(kept)


def test_of_a_card_that_is_there_twice_the_first_is_used_and_said_only_if_they_differ():
    kept, notes = cards_of(("CRVAL3", 99e9))
    assert kept["CRVAL3"] == 230.5e9
    assert notes == f"CRVAL3 occurs twice; the first, {230.5e9}, is used."
    kept, notes = cards_of(("CRVAL3", 230.5e9))
    assert (kept["CRVAL3"], notes) == (230.5e9, "")


@pytest.mark.parametrize(("written", "kept"), [(257, 257), (257.0, 257), (257.5, None), ("257", None)])
def test_velref_is_a_whole_number(written, kept):
    assert cards_of(("VELREF", written))[0].get("VELREF") == kept


@pytest.mark.parametrize(
    ("naxis", "written", "axes"), [(3, 4, 4), (3, 2, None), (3, MOST_AXES, 16), (3, 17, None), (1, True, None)]
)
def test_axes_with_coordinates_are_as_many_as_the_image_has_to_sixteen(naxis, written, axes):
    assert axes_described(fits.Header({"NAXIS": naxis, "WCSAXES": written})) == axes


TABLE = {"CTYPE3": "FREQ-TAB", "PS3_0": "TABLE", "PS3_1": "FREQ"}


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({}, None),
        ({"PV3_1": 99.0, "PV3_3": 1.0}, None),
        ({"PV3_1": 0.0}, "PV3_1 is 0"),
        ({"PV3_2": 100.0}, "PV3_2 is 100"),
        ({"PV3_3": 1.5}, "PV3_3 is 1.5"),
        ({"PS3_0": None}, "axis 3 is a table without a name"),
        ({"PS3_1": None}, "axis 3 is a table without a name"),
    ],
)
def test_a_table_of_coordinates_is_named_and_numbered_from_1_to_99(cards, reason):
    header = with_axes(**TABLE | cards)
    if reason is None:
        assert coordinate_cards(header, [])["CTYPE3"] == "FREQ-TAB"
    else:
        with pytest.raises(CubeError, match=f"has invalid coordinates: {reason}"):
            coordinate_cards(header, [])


# --- steps and rotation ---


def plain(**cards) -> tuple[dict, str]:
    header, notes = mended_by(with_plain_matrix, **cards)
    return {key: header[key] for key in header if key.startswith(("CDELT", "PC", "CD", "PV", "CROTA"))}, notes


STEPS = {"CDELT1": -PIXEL, "CDELT2": PIXEL, "CDELT3": 4e6}


@pytest.mark.parametrize(
    "cards",
    [
        {"CDELT3": None},  # FITS' default is for others to take, and to say
        {"PC1_1": 0.8, "PC1_2": -0.7, "PC2_1": 0.7, "PC2_2": 0.8},
    ],
)
def test_steps_and_a_rotation_are_left_as_they_are(cards):
    changed, notes = plain(**cards)
    assert changed == {key: value for key, value in (STEPS | cards).items() if value is not None}
    assert not notes


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_a_factor_of_a_single_axis_is_part_of_its_step(factor):
    assert plain(PC3_3=factor) == (STEPS | {"CDELT3": factor * 4e6}, "")


@pytest.mark.parametrize(
    ("other", "is_matrix"),
    [({"PC1_2": 0.1}, True), ({"PV2_1": 0.5}, False), ({"PCOUNT": 0}, False), ({"PC_UNIT": "x"}, True)],
)
def test_only_a_pc_matrix_takes_precedence_over_a_cd_matrix(other, is_matrix):
    changed, notes = plain(CD1_1=-2 * PIXEL, CD2_2=2 * PIXEL, CD3_3=8e6, **other)
    assert ("The header has a CD and a PC matrix" in notes) == is_matrix
    assert changed["CDELT3"] == (4e6 if is_matrix else 8e6)
    assert not any(key.startswith("CD") and "_" in key for key in changed)


@pytest.mark.parametrize(("element", "step"), [("CD3_1", 1e3), ("CD1_3", 0.0), ("CD3_3", 1e3)])
def test_an_element_that_a_cd_matrix_leaves_out_is_zero_if_its_axis_occurs(element, step):
    """FITS standard 4.0, section 8.1.2."""
    changed, notes = plain(CD1_1=-PIXEL, CD2_2=PIXEL, **{element: 1e3})
    assert changed["CDELT3"] == step
    assert "leaves out" not in notes


def test_a_cd_matrix_may_have_more_axes_than_the_image():
    changed, _ = plain(WCSAXES=4, CD1_1=-PIXEL, CD2_2=PIXEL, CD3_3=4e6, CD4_4=3.0)
    assert changed["CDELT4"] == 3.0


def test_a_step_of_zero_along_many_channels_stays_one():
    assert plain(CDELT3=0.0) == (STEPS | {"CDELT3": 0.0}, "")


# --- beams ---


def table_of(rows=SHAPE[0], units=("arcsec", "arcsec", "deg"), **columns) -> fits.BinTableHDU:
    values = {"BMAJ": 1 + 0.1 * np.arange(rows), "BMIN": np.full(rows, 0.9), "BPA": np.zeros(rows)} | columns
    kinds = dict(zip(("BMAJ", "BMIN", "BPA"), units, strict=True))
    made = [
        fits.Column(
            name, "E" if name in kinds else "4A" if np.asarray(v).dtype.kind == "U" else "J", kinds.get(name), array=v
        )
        for name, v in values.items()
        if v is not None
    ]
    return fits.BinTableHDU.from_columns(made, name="BEAMS")


def beams_in(*tables, channels=SHAPE[0], polarisation=0, **cards):
    """Major axes in arcsec and what is said of them; of the header None."""
    notes = []
    beams = beams_of(list(tables), header_of(**NO_BEAM | cards), channels, polarisation, notes)
    found = None if beams is None else np.round(np.atleast_1d(beams.major.to_value("arcsec")), 4).tolist()
    return found, " ".join(notes)


IN_ORDER = np.round(1 + 0.1 * np.arange(8), 4).tolist()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (table_of(BMIN=None), "it has no column BMIN"),
        (table_of(units=("Jy", "arcsec", "deg")), "the unit of BMAJ is Jy"),
        (table_of(units=("arcsec", "arcsec", "furlong")), "the unit of BPA is furlong"),
        (table_of(BMAJ=np.zeros(8)), "no beam in it has a size"),
        (table_of(rows=0), "it has 0 beams for 8 channels"),
        (table_of(rows=3), "it has 3 beams for 8 channels"),
    ],
)
def test_a_table_that_gives_no_beams_is_ignored_with_the_reason(table, reason):
    found, notes = beams_in(table)
    assert found is None
    assert f"The beam table was ignored: {reason}." in notes


def test_columns_without_a_unit_are_in_arcsec_and_degrees():
    assert beams_in(table_of(units=(None, None, None)))[0] == IN_ORDER


def test_every_channel_of_a_good_table_has_its_beam_and_nothing_else_is_said():
    found, notes = beams_in(table_of(CHAN=np.arange(8), POL=np.zeros(8, int)))
    assert found == IN_ORDER
    assert notes.startswith("Each channel has its own beam, from 0.949 to 1.24 arcsec; the one")
    assert "ignored" not in notes


@pytest.mark.parametrize(
    ("columns", "column"),
    [({"CHAN": np.array(["ch0"] * 8)}, "CHAN"), ({"CHAN": np.zeros(8, int)}, "CHAN"), ({"POL": np.arange(8)}, "POL")],
)
def test_rows_are_used_in_order_if_channels_or_polarisations_say_nothing(columns, column):
    found, notes = beams_in(table_of(**columns))
    assert found == IN_ORDER
    assert f"The column {column} of the beam table is inconsistent" in notes


@pytest.mark.parametrize(("polarisation", "first"), [(0, 1.0), (1, 1.8), (5, None)])
def test_of_several_polarisations_the_rows_of_ours_are_taken(polarisation, first):
    table = table_of(rows=16, CHAN=np.tile(np.arange(8), 2), POL=np.repeat([0, 1], 8))
    found, notes = beams_in(table, polarisation=polarisation)
    assert (found and found[0]) == first
    assert ("it has 16 beams" in notes) == (first is None)


def test_one_row_needs_no_channel():
    found, notes = beams_in(table_of(rows=1, CHAN=np.array(["all"])))
    assert found == [1.0]
    assert notes == "The beam table has one row, which is used for all channels."


def test_a_table_that_a_card_promises_and_that_is_missing_is_said():
    assert beams_in(CASAMBM=True) == (None, "The file gives no beam, though CASAMBM promises a table of them.")
    assert beams_in() == (None, "The file gives no beam.")


@pytest.mark.parametrize(
    ("cards", "beam"),
    [
        ({"BMAJ": 2.0, "BMIN": 1.0, "BPA": 30.0}, (2.0, 1.0, 30.0)),
        ({"BMAJ": 2.0, "BMIN": 1.0, "BPA": np.nan}, (2.0, 1.0, 0.0)),
        ({"BMAJ": 0.0, "BMIN": 1.0}, None),
        ({"BMAJ": 2.0, "BMIN": -1.0}, None),
    ],
)
def test_a_beam_in_the_header_has_two_axes_and_an_angle_that_may_be_missing(cards, beam):
    assert _cards(cards) == beam


@pytest.mark.parametrize(
    "last", ["BMAJ=  0.0 BMIN=  1.5E-03", "BMAJ=  1.7E-03 BMIN=  0.0", "BMAJ= 1.E.5 BMIN= 1.5E-03"]
)
def test_aips_last_beam_that_has_a_size_is_used(last):
    header = header_of(**NO_BEAM)
    header["HISTORY"] = "AIPS   CLEAN BMAJ=  1.0E-03 BMIN=  1.0E-03 BPA=   2.61"
    header["HISTORY"] = f"AIPS   CLEAN {last} BPA=   2.61"
    assert beams_of([], header, 8, 0, []).major.to_value("deg") == pytest.approx(1e-3)


def test_a_beam_too_small_for_an_area_is_none():
    assert beams_in(BMAJ=1e-200, BMIN=1e-200) == (None, "The file gives no beam: the one in the header has no area.")


def test_a_table_of_beams_larger_than_the_field_is_not_taken_for_arcsec(opened):
    """In a header 0.6 degrees would be three pixels, read in arcsec."""
    table = table_of(units=("deg", "deg", "deg"), BMAJ=np.full(8, 0.6), BMIN=np.full(8, 0.6))
    cube = opened(extra=[table])
    assert cube.beams is None
    assert "is far larger than the field" in said(cube)


def test_two_beams_are_the_same_if_their_axes_and_angles_are(opened):
    one, other = opened().beam, opened().beam
    assert one == other == one.radio_beam
    assert one != opened(BPA=40.0).beam
    assert one != "a beam"


# --- what a header means ---


@pytest.mark.parametrize(("kind", "axis"), [("STOKES", 3), (" pol", 3), ("POLAR", None)])
def test_polarisation_is_an_axis_of_that_name(kind, axis):
    assert polarisation_axis(with_axes((1, *SHAPE), CTYPE4=kind)) == axis


@pytest.mark.parametrize(
    ("written", "frame", "note"),
    [
        ("FK5", "FK5", None),
        ("FK4-NO-E", "FK4-NO-E", None),
        ("icrs", "ICRS", None),
        ("J2000", "FK5", "The sky frame J2000 was read as FK5."),
        ("GAPPT", None, "The sky frame GAPPT is unknown; the FITS default is used."),
        ("", None, "The sky frame without a name is unknown; the FITS default is used."),
    ],
)
def test_sky_frames_are_those_of_fits_and_two_others(written, frame, note):
    notes = []
    assert mended(with_axes(RADESYS=written), notes).get("RADESYS") == frame
    assert notes == ([] if note is None else [note])


@pytest.mark.parametrize(
    ("cards", "frame", "note"),
    [
        ({"SPECSYS": "LSRK", "VELREF": 258}, "LSRK", ""),
        ({"SPECSYS": None, "VELREF": 258}, "BARYCENT", "The standard of rest was taken from VELREF: BARYCENT."),
        ({"SPECSYS": None, "VELREF": 1}, "LSRK", "The standard of rest was taken from VELREF: LSRK."),
        ({"SPECSYS": None, "VELREF": 9}, None, ""),
        ({"SPECSYS": None, "VELREF": 129}, None, ""),  # 256 is added for radio velocity, and nothing else
        ({"SPECSYS": None}, None, ""),
        ({"SPECSYS": "BARY"}, "BARYCENT", "The standard of rest BARY was read as BARYCENT."),
        ({"SPECSYS": "MARS"}, None, "The standard of rest 'MARS' is not one that FITS knows; it was ignored."),
    ],
)
def test_the_standard_of_rest_is_that_of_specsys_or_velref(cards, frame, note):
    header, notes = mended_by(_mend_frame, **cards)
    assert (header.get("SPECSYS"), notes) == (frame, note)


@pytest.mark.parametrize(
    ("card", "answer"),
    [
        ("CRVAL3  = '2.305D+11'", 2.305e11),
        ("CRVAL3  = 1E999", "refused"),
        ("CRVAL3  =                    T", "refused"),
        ("CRVAL3  = 'high'", "refused"),
        ("EQUINOX =                    T", None),
        ("EQUINOX = 'J2000'", None),
        ("EQUINOX = '2000.0'", 2000.0),
    ],
)
def test_numbers_as_text_are_read_and_others_refused_or_ignored(card, answer):
    header, notes, card = with_axes(CRVAL3=None), [], fits.Card.fromstring(card)
    header.append(card, end=True)
    if answer == "refused":
        with pytest.raises(CubeError, match=r"has invalid coordinates: CRVAL3 is .*, which is no number"):
            _mend_numbers(header, notes)
        return
    _mend_numbers(header, notes)
    assert header.get(card.keyword) == answer
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("cards", "rest"),
    [
        ({"RESTFRQ": 0.0, "FREQ0": 1.42e9}, 1.42e9),
        ({"RESTFRQ": REST, "FREQ0": 1.42e9}, REST),
        ({"RESTFRQ": None, "FREQ0": 1.42e9}, 1.42e9),
        ({"RESTFRQ": None, "FREQ0": -1.0}, None),
        ({"RESTFRQ": -5.0}, None),
    ],
)
def test_a_rest_frequency_is_above_zero_and_gipsy_s_comes_last(cards, rest):
    header, notes = mended_by(_mend_rest_frequency, **cards)
    assert header.get("RESTFRQ") == rest
    assert ("was ignored" in notes) == (cards["RESTFRQ"] in (0.0, -5.0))


def test_of_two_rest_frequencies_beyond_the_radio_lines_the_first_is_taken_in_hertz():
    header, notes = with_axes(CTYPE3="VRAD", CUNIT3="m/s", CRVAL3=0.0, CDELT3=1e3, RESTFRQ=2e12, RESTFREQ=115e9), []
    assert mended(header, notes)["RESTFRQ"] == 2e12
    assert "RESTFRQ is 2e+12 and RESTFREQ 1.15e+11; the first is taken." in notes


BAND = {"CRPIX3": 1.0, "CRVAL3": 230.0, "CDELT3": 0.1, "CUNIT3": "GHz"}


@pytest.mark.parametrize(
    ("cards", "band"),
    [
        (BAND, (230e9, 230.7e9)),
        (BAND | {"CDELT3": -0.1}, (229.3e9, 230e9)),
        ({"CRPIX3": 1.0, "CRVAL3": 230e9, "CDELT3": 1e8, "CUNIT3": None}, (230e9, 230.7e9)),
        ({"CTYPE3": "WAVE", "CRPIX3": 1.0, "CRVAL3": 1e-3, "CDELT3": 1e-5, "CUNIT3": None}, (280.18e9, 299.792e9)),
        (BAND | {"CTYPE3": "FREQ-LOG", "CDELT3": 23.0}, (230e9, 230e9 * np.exp(0.7))),
        (BAND | {"CTYPE3": "FREQ-LOG", "CRVAL3": 0.0}, None),  # a logarithmic axis has no zero
        (BAND | {"CDELT3": 23.0}, (230e9, 391e9)),
        (BAND | {"CTYPE3": "FREQ-TAB"}, None),
        (BAND | {"CTYPE1": "STOKES", "CUNIT1": None, "CRVAL1": 1.0, "CRPIX1": 1.0, "CDELT1": 1.0}, (230e9, 230.7e9)),
        (BAND | {"CTYPE3": "VRAD", "CUNIT3": "m/s"}, None),
        (BAND | {"CUNIT3": "K"}, None),
        (BAND | {"CRVAL3": -1.0}, None),
    ],
)
def test_the_band_of_an_axis_of_frequency_or_wavelength(cards, band):
    found = frequency_band(with_axes(**cards))
    assert found == (None if band is None else pytest.approx(band, rel=1e-5))


VELOCITIES = {"CRVAL3": 1e6, "CDELT3": 5e3, "CUNIT3": "m/s"}


@pytest.mark.parametrize(
    ("cards", "kind", "note"),
    [
        ({"CTYPE3": "VELO", "VELREF": 257}, "VRAD", "The velocities are radio ones"),
        ({"CTYPE3": "VELO", "VELREF": 1}, "VOPT", "The velocities are optical ones"),
        ({"CTYPE3": "VELO"}, "VELO", "does not name its convention"),
        ({"CTYPE3": "VRAD"}, "VRAD", None),
        ({"CTYPE3": "VRAD", "VELREF": 257}, "VRAD", None),
        ({"CTYPE3": "FREQ", "CRVAL3": 230.5e9, "CUNIT3": "Hz"}, "FREQ", None),
        ({"CTYPE3": "OFFSET"}, "OFFSET", None),
    ],
)
def test_velocities_without_a_convention_have_that_of_velref(cards, kind, note):
    header, notes = mended_by(_judge_velocity_convention, **VELOCITIES | cards)
    assert header["CTYPE3"] == kind
    assert note in notes if note else not notes


LIGHT = 299792458.0
RADIO_HERE, OPTICAL_HERE = LIGHT * (1 - 230.5e9 / REST), LIGHT * (REST / 230.5e9 - 1)
FREQUENCY_OF_1000 = REST * (1 - 1e6 / LIGHT)  # of a radio velocity of 1000 km/s


@pytest.mark.parametrize(
    ("cards", "note"),
    [
        ({"VELREF": 257, "ALTRVAL": RADIO_HERE}, ""),
        ({"VELREF": 257, "ALTRVAL": RADIO_HERE, "CRVAL3": 230.5, "CDELT3": 0.004, "CUNIT3": "GHz"}, ""),
        ({"VELREF": 257, "ALTRVAL": RADIO_HERE, "CUNIT3": None}, ""),
        ({"VELREF": 257, "ALTRVAL": RADIO_HERE + 5e5}, "it is neither. Frequencies and velocities follow"),
        ({"ALTRVAL": RADIO_HERE + 5e5}, ""),  # nothing says which it is
        ({"VELREF": 257, "ALTRVAL": RADIO_HERE + 5e5, "CTYPE3": "WAVE"}, ""),
        ({"VELREF": 257, "ALTRVAL": RADIO_HERE + 5e5, "CDELT3": 1.2e9}, ""),  # half a channel of 1560 km/s
        ({"VELREF": 257, "ALTRVAL": -1e6}, "it is neither. Frequencies and velocities follow"),
        ({"CTYPE3": "VRAD", "VELREF": 257, "ALTRVAL": FREQUENCY_OF_1000, **VELOCITIES}, ""),
        ({"CTYPE3": "VRAD", "VELREF": 257, "ALTRVAL": FREQUENCY_OF_1000, **VELOCITIES, "CUNIT3": None}, ""),
        ({"CTYPE3": "VRAD", "VELREF": 257, "ALTRVAL": REST, **VELOCITIES}, "it is neither. The radio one was taken."),
        ({"CTYPE3": "VRAD", "VELREF": 257, "ALTRVAL": -REST, **VELOCITIES}, ""),
        ({"CTYPE3": "VRAD", "VELREF": 257, "ALTRVAL": FREQUENCY_OF_1000 + 1e7, **VELOCITIES}, "it is neither. The"),
    ],
)
def test_aips_second_reference_value_agrees_with_the_first_or_it_is_said(cards, note):
    _, notes = mended_by(_judge_velocity_convention, **{"ALTRPIX": 3.0} | cards)
    assert note in notes
    assert bool(notes) == bool(note)


@pytest.mark.parametrize(
    ("written", "rest", "kind", "note"),
    [
        ("FREQ", REST, "FREQ", ""),
        ("freq", REST, "FREQ", ""),
        ("FREQ-OHEL", REST, "FREQ", "Axis type FREQ-OHEL was read as FREQ."),
        ("VELO-LSR", REST, "VELO-LSR", ""),
        ("VRAD-W2F", REST, "VRAD-W2F", ""),
        ("VOPT-F2W", None, "VOPT", "VOPT-F2W needs a rest frequency to be exact; it was read as linear VOPT."),
        ("FELO-HEL", None, "VOPT", "FELO-HEL needs a rest frequency to be exact; it was read as linear VOPT."),
        ("FELO-HEL", REST, "FELO-HEL", ""),
        ("FREQ-W2F", None, "FREQ-W2F", ""),
        ("VELOCITY", REST, "VELO", "Axis type VELOCITY was read as VELO."),
        ("RA---NCP", REST, "RA---NCP", "The NCP projection was read as the equivalent SIN."),
        ("RA---SIN", REST, "RA---SIN", ""),
    ],
)
def test_types_of_axes_are_read_as_fits_has_them(written, rest, kind, note):
    header, notes = with_axes(CTYPE3=written, RESTFRQ=rest), []
    _mend_type(header, "CTYPE3", notes)
    assert (header["CTYPE3"], " ".join(notes)) == (kind, note)


@pytest.mark.parametrize(
    ("unit", "kept", "note"),
    [
        ("GHz", "GHz", ""),
        ("HZ", "Hz", "The unit 'HZ' was read as Hz."),
        ("furlong", None, "CUNIT3 'furlong' is not understood; the FITS default is used."),
        (None, None, ""),
    ],
)
def test_units_of_axes_are_read_or_left_to_the_default(unit, kept, note):
    notes = []
    assert mended(with_axes(CUNIT3=unit, CRVAL3=230.5, CDELT3=0.004), notes).get("CUNIT3") == kept
    assert note in " ".join(notes)
    assert bool(notes) == bool(note) or unit != "GHz"


@pytest.mark.parametrize(
    ("written", "unit", "note"),
    [
        ("Jy/beam", u.Jy / u.beam, False),
        ("Jy/beam km/s", u.Jy / u.beam * u.km / u.s, True),
        ("JY/BEAM", u.Jy / u.beam, True),
        ("nonsense", u.dimensionless_unscaled, True),
        ("Jy/beam nonsense/s", u.dimensionless_unscaled, True),
    ],
)
def test_a_brightness_unit_is_read_and_said_if_it_was_written_otherwise(written, unit, note):
    notes = []
    assert brightness_unit(fits.Header({"BUNIT": written}), notes) == unit
    assert bool(notes) == note


@pytest.mark.parametrize(
    "written", ["log(Jy/beam)", "[Jy/beam]", "mag(AB)", "dB", "mag/arcsec2", "dex(K)", "lg K", "mmag", "mmag(AB)"]
)
def test_no_brightness_is_logarithmic(written):
    with pytest.raises(CubeError, match="has brightness in a logarithmic unit"):
        brightness_unit(fits.Header({"BUNIT": written}), [])


# --- axes and planes ---


@pytest.mark.parametrize(("code", "name"), [(1, "Stokes I"), (-5, "XX"), (77, "code 77 (STOKES)")])
def test_a_polarisation_is_called_by_its_name_where_it_has_one(code, name):
    assert _polarisation("STOKES", code) == name
    assert _polarisation("POLN", 1) == "code 1 (POLN)"


@pytest.mark.parametrize(("known", "plane"), [([3, 1], 1), ([1, 3], 0), ([], 0), ([3, 4, 1], 0)])
def test_polarisations_that_a_file_names_are_those_of_its_planes(known, plane):
    header = fits.Header({"NAXIS": 4, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CTYPE3": "FREQ", "CTYPE4": "STOKES"})
    header.update({f"CRPIX{i}": 1.0 for i in (1, 2, 3, 4)} | {f"CRVAL{i}": 1.0 for i in (1, 2, 3, 4)})
    notes = []
    assert _planes(WCS(header), (2, 5, 8, 8), (2, 1, 0), header, notes, known) == {3: plane}
    assert len(notes) == 1


def test_a_text_file_is_said_not_to_begin_like_a_fits_file(tmp_path):
    (tmp_path / "cube.fits").write_text("not a cube\n" * 1000)
    with pytest.raises(CubeError, match="it does not begin like a FITS file, with the keyword SIMPLE"):
        read_cube(tmp_path / "cube.fits")


@pytest.mark.parametrize(
    ("shape", "cards", "reason"),
    [
        (SHAPE, {"CTYPE3": ""}, "has no spectral axis, only RA---SIN, DEC--SIN, \\?"),
        ((2, *SHAPE), {**NO_SKY, "CTYPE4": "ODD"}, "has fewer than two image axes"),
        (
            SHAPE,
            {"CTYPE2": "FREQ", "CTYPE3": "ODD", "CTYPE4": "DEC--SIN", "WCSAXES": 4, "CRVAL2": 230e9, "CDELT2": 1e6,
             "CUNIT2": "Hz", "CUNIT3": None, "CRVAL4": -30.0, "CDELT4": 1e-4, "CRPIX4": 1.0},
            "has a spectral axis, but its sky axes are not in the image",
        ),
    ],
)  # fmt: skip
def test_a_cube_has_a_spectral_axis_and_two_others(opened, shape, cards, reason):
    with pytest.raises(CubeError, match=reason):
        opened(shape, **cards)


def test_without_sky_coordinates_an_axis_of_one_plane_is_no_image_axis(opened):
    cube = opened((1, *SHAPE), CTYPE4="ODD", **NO_SKY)
    assert cube.shape == SHAPE
    assert "There are no sky coordinates: the types of the image axes are SLIT and OFFSET." in said(cube)
    unnamed = opened(**NO_SKY | {"CTYPE2": ""})
    assert "the types of the image axes are none and OFFSET." in said(unnamed)


@pytest.mark.parametrize(
    ("cards", "missing"),
    [
        ({"CRPIX3": None}, "There is no CRPIX3; the FITS default is used, 0."),
        ({"CRVAL1": None}, "There is no CRVAL1; the FITS default is used, 0."),
        ({"CRPIX1": None, **NO_SKY}, None),  # of axes that have no coordinates
        ({"CRPIX3": None, "CDELT3": None, "CD3_3": 4e6}, "There is no CRPIX3; the FITS default is used, 0."),
        ({"CUNIT3": None}, "The spectral axis has no unit; the FITS default is used, Hz."),
    ],
)
def test_missing_cards_of_coordinates_are_said(opened, cards, missing):
    notes = said(opened(**cards))
    assert missing in notes if missing else "FITS' default" not in notes


@pytest.mark.parametrize(
    ("cards", "note", "unsure"),
    [
        ({"CTYPE3": "VELO-HEL"}, "Axis type VELO-HEL was read as VOPT BARYCENT", True),
        ({"CTYPE3": "VELO-HEL", "VELREF": 1}, "Axis type VELO-HEL was read as VOPT LSRK", False),
        ({"CTYPE3": "VELO-HEL", "VELREF": 257}, "Axis type VELO-HEL was read as VRAD LSRK", False),
        ({"CTYPE3": "FELO-HEL"}, "Axis type FELO-HEL was read as VOPT-F2W BARYCENT", False),
    ],
)
def test_aips_types_are_read_as_velref_says(opened, cards, note, unsure):
    notes = said(opened(CRVAL3=1e6, CDELT3=5e3, CUNIT3="m/s", SPECSYS=None, **cards))
    assert note in notes
    assert ("since no VELREF says" in notes) == ("set CTYPE3 to VRAD" in notes) == unsure


@pytest.mark.parametrize(
    ("largest", "channels", "note"), [(0.0, 9, ""), (0.1, 9, "are treated"), (0.1, 5, "with 5 ch")]
)
def test_zeros_that_compression_may_have_changed_are_said(largest, channels, note):
    (said_of_it,) = _of_rounding(
        SimpleNamespace(rounding=SimpleNamespace(largest=largest), shape=(channels, 4, 4))
    ) or [""]
    assert note in said_of_it and bool(note) == bool(said_of_it)


# --- images that go with a cube ---


@pytest.mark.parametrize(("first", "third"), [("RA---SIN", "DEC--SIN"), ("DEC--SIN", "RA---SIN")])
def test_an_image_of_which_one_axis_is_on_the_sky_is_read_as_it_is(tmp_path, first, third):
    header = header_of(CTYPE1=first, CTYPE2="ODD", CTYPE3=third, CUNIT2=None, CUNIT3="deg", CRVAL1=10.0, CRVAL3=20.0)
    header["WCSAXES"], header["CDELT3"] = 3, PIXEL
    plane = np.arange(6, dtype=np.float32).reshape(2, 3)
    fits.writeto(tmp_path / "image.fits", plane, header)
    data, celestial = read_image(tmp_path / "image.fits")
    np.testing.assert_array_equal(data, plane[None])
    assert celestial is None


def test_a_primary_beam_without_sky_coordinates_is_taken_by_its_pixels(tmp_path, opened):
    fits.writeto(tmp_path / "pb.fits", np.full(SHAPE[1:], 0.5, np.float32))
    beam = read_primary_beam(tmp_path / "pb.fits", opened())
    assert beam.at(3, 4, 0) == 0.5


# --- what cannot be right ---


@pytest.mark.parametrize(
    ("cards", "note"),
    [
        ({"CTYPE3": "VOPT", "CRVAL3": 4e8, "CDELT3": 1e4, "CUNIT3": "m/s"}, ""),  # a redshift of 1.3
        ({"CTYPE3": "VRAD", "CRVAL3": 4e8, "CDELT3": 1e4, "CUNIT3": "m/s"}, "The spectral axis runs from"),
        (
            {"CTYPE3": "VRAD", "CRVAL3": 299792000.0, "CDELT3": 10.0, "CUNIT3": "m/s"},
            "The frequencies run from 367578 to 313749 Hz: is the rest frequency, 2.30538e+11 Hz, right?",
        ),
        ({"RESTFRQ": 100e9}, "is the rest frequency, 100 GHz, right?"),
        (
            {"CTYPE3": "VRAD", "CRVAL3": 2.9e8, "CDELT3": 1e4, "CUNIT3": "m/s", "RESTFRQ": None},
            "The radio velocities run from 289980 to 290050 km/s: is the rest frequency right?",
        ),
        ({"CRVAL3": 9e14, "CDELT3": 1e10, "RESTFRQ": 3.2e14}, ""),  # an optical spectrum names any line
        ({"CDELT2": 1.9 * PIXEL}, ""),
        ({"CDELT2": 2.1 * PIXEL}, "The pixels are not square, but 0.2 x 0.42 arcsec."),
        ({"CRPIX1": 1e9}, "Neither the centre of the field nor its corners lie on the sky"),
        (
            {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRVAL2": 0.0, "CRPIX1": 6.5, "CRPIX2": 5.5, "CDELT1": -20.0,
             "CDELT2": 16.0, "BMAJ": 200.0, "BMIN": 200.0},
            "The beam of 7.2e+05 arcsec x 7.2e+05 arcsec is not plausible for any instrument",
        ),
    ],
)  # fmt: skip
def test_coordinates_and_beams_of_no_instrument_are_reported(opened, cards, note):
    notes = said(opened(**cards))
    assert note in notes
    assert bool(notes) == bool(note)


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"CRVAL3": 1e308, "CDELT3": 1e308}, "its spectral axis gives no numbers"),
        ({"CRVAL2": 95.0, "CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR"}, "its reference point has latitude 95 deg"),
    ],
)
def test_coordinates_that_give_no_numbers_are_refused(opened, cards, reason):
    with pytest.raises(CubeError, match=reason):
        opened(**cards)


def test_an_array_has_no_coordinates_to_be_plausible():
    with pytest.raises(CubeError, match="its spectral axis gives no numbers"):
        implausible(Cube.from_array(np.ones((4, 4, 4))))
