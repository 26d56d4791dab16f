"""Single rules of reading CASA images, HDF5 and FITS, each with input on either side of it; no CASA is needed."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from napari_almadet.cube import storage
from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.storage import (
    CasaImage,
    Lazy,
    Plain,
    Tiled,
    can_be_unpacked,
    image_names,
    is_casa_image,
    opened,
    split_address,
)

C = 299792458.0  # m/s
FIVE = np.linspace(1.00e9, 1.04e9, 5)  # Hz


# --- CASA's images, with a library that gives what casa-formats-io would ---


class Dask:
    """As much of a dask array as is used."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, part: tuple) -> Dask:
        return Dask(self.values[part])

    def compute(self, scheduler: str) -> np.ndarray:
        assert scheduler == "synchronous"
        return self.values


def angle(value: float, unit: str) -> dict:
    return {"value": value, "unit": unit}


def casa_image(tmp_path, monkeypatch, keywords=None, coordinates=None, masked=False, axes=3) -> Path:
    """A folder that the library says is an image of 5 channels, with such keywords and coordinates."""
    wcs = WCS(naxis=axes)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"][:axes]
    wcs.wcs.cunit = ["deg", "deg", "Hz", ""][:axes]
    wcs.wcs.cdelt, wcs.wcs.crval = [-1e-4, 1e-4, 1e7, 1][:axes], [10, 20, 1e9, 1][:axes]
    values = np.arange(60, dtype="f4").reshape((1, 5, 3, 4)[4 - axes :])
    about = {"coords": {"worldmap0": [0, 1], "worldmap1": [2], "worldmap2": [3], **(coordinates or {})}}
    library = SimpleNamespace(
        coordsys_to_astropy_wcs=lambda _: wcs,
        getdesc=lambda _: {"_keywords_": about | (keywords or {})},
        image_to_dask=lambda _, mask=None: Dask(values if mask is None else values % 7 != 0),
    )
    monkeypatch.setitem(sys.modules, "casa_formats_io", library)
    path = tmp_path / "a.image"
    path.mkdir()
    for name in ("table.dat", "table.f0_TSM0"):
        (path / name).touch()
    if masked:
        (path / "mask0").mkdir()
    return path


def header_and_notes(path: Path) -> tuple[fits.Header, list[str]]:
    with opened(path) as stored:
        return stored.header, stored.notes


@pytest.mark.parametrize("missing", ["table.dat", "table.f0_TSM0", None])
def test_a_casa_image_is_a_folder_with_both_of_its_tables(tmp_path, monkeypatch, missing):
    path = casa_image(tmp_path, monkeypatch)
    if missing:
        (path / missing).unlink()
    assert is_casa_image(path) == (missing is None)


def test_a_casa_image_has_its_unit_its_object_and_its_beam(tmp_path, monkeypatch):
    beam = {"major": angle(7.2, "arcsec"), "minor": angle(3.6, "arcsec"), "positionangle": angle(30, "deg")}
    info = {"objectname": "M 83", "restoringbeam": beam}
    header, notes = header_and_notes(casa_image(tmp_path, monkeypatch, {"units": "Jy/beam", "imageinfo": info}))
    assert (header["BUNIT"], header["OBJECT"], notes) == ("Jy/beam", "M 83", [])
    assert [header[key] for key in ("BMAJ", "BMIN", "BPA")] == pytest.approx([0.002, 0.001, 30])


def test_a_casa_image_without_unit_object_and_beam_has_none(tmp_path, monkeypatch):
    keywords = {"units": "", "imageinfo": {"objectname": ""}}
    header, _ = header_and_notes(casa_image(tmp_path, monkeypatch, keywords))
    assert not {"BUNIT", "OBJECT", "BMAJ"} & set(header)


def test_voxels_are_blank_where_the_default_mask_of_a_casa_image_says_so(tmp_path, monkeypatch):
    path = casa_image(tmp_path, monkeypatch, {"Image_defaultmask": "mask0"}, masked=True)
    with opened(path) as stored:
        values = stored.source.read((slice(1, 3), slice(0, 3), slice(0, 4)))
    expected = np.arange(12, 36).reshape(2, 3, 4)
    np.testing.assert_array_equal(np.isnan(values), expected % 7 == 0)
    np.testing.assert_array_equal(values[expected % 7 != 0], expected[expected % 7 != 0])
    assert stored.notes == []
    assert not np.isnan(CasaImage(path, None).read((slice(0, 5), slice(0, 3), slice(0, 4)))).any()


def test_a_default_mask_that_is_not_in_the_folder_is_ignored_with_a_note(tmp_path, monkeypatch):
    path = casa_image(tmp_path, monkeypatch, {"Image_defaultmask": "mask0"})
    with opened(path) as stored:
        assert not np.isnan(stored.source.read((slice(0, 5), slice(0, 3), slice(0, 4)))).any()
        assert stored.notes == ["The image's mask mask0 was ignored: it is not a pixel mask."]


@pytest.mark.parametrize(
    ("kinds", "codes", "first", "step"),
    [
        (["I", "V"], [1, 4], 1, 3),
        (["V", "I"], [4, 1], 4, -3),
        (["Q"], [2], 2, 1),
        ("I", [1], 1, 1),
        (["what", "U"], [3], 3, 1),
        (["what"], [], None, None),
        (None, [], None, None),
    ],
)
def test_polarisations_of_a_casa_image_are_those_that_it_names(tmp_path, monkeypatch, kinds, codes, first, step):
    """Codes of the FITS standard 4.0, table 29: 1 to 4 are I, Q, U, V."""
    stokes = {"linear2": {"stokes": ["V"]}, "stokes2": {} if kinds is None else {"stokes": kinds}}
    with opened(casa_image(tmp_path, monkeypatch, coordinates=stokes, axes=4)) as stored:
        assert stored.polarisations == codes
        if codes:
            assert [stored.header[key] for key in ("CRPIX4", "CRVAL4", "CDELT4")] == [1, first, step]


def test_parameters_of_a_projection_are_those_of_the_direction_only(tmp_path, monkeypatch):
    systems = {
        "linear2": {"projection_parameters": [9.0]},
        "direction0": {"projection_parameters": [0.0, 0.4]},
    }
    header, _ = header_and_notes(casa_image(tmp_path, monkeypatch, coordinates=systems))
    assert {key: header[key] for key in header if key.startswith("PV")} == {"PV2_1": 0.0, "PV2_2": 0.4}


@pytest.mark.parametrize(
    ("frequencies", "ctype", "said"),
    [
        (FIVE, "FREQ", None),
        (FIVE + np.array([0, 0, 4e5, 0, 0]), "FREQ", None),  # by 0.04 channels
        (FIVE + np.array([0, 0, 7e5, 0, 0]), "FREQ", r"wrong by up to 0\.07 channels"),
        (FIVE + np.array([0, 0, 2e6, 0, 0]), "FREQ", r"wrong by up to 0\.2 channels"),
        (C / np.linspace(0.30, 0.25, 5), "WAVE", "equally spaced in wavelength"),
        ([1e9, np.inf, 1.4e9, 1.5e9, 1.6e9], "FREQ", None),
        ([1e9], "FREQ", None),
        ([1e9, 1.1e9], "FREQ", None),  # two are a straight line
        ([1e9, np.nan, 1.4e9, 1.5e9, 1.6e9], "FREQ", None),
        ([-1e9, 1e9, 4e9, 5e9, 6e9], "FREQ", None),
        ([1e9, 1e9, 4e9, 5e9, 6e9], "FREQ", None),
        ([1e9, 2e9, 3e9, 2e9, 1e9], "FREQ", "wrong by up to inf channels"),
    ],
)
def test_a_table_of_frequencies_becomes_a_wavelength_axis_or_a_note(tmp_path, monkeypatch, frequencies, ctype, said):
    systems = {
        "linear7": {"tabular": {"worldvalues": [1e9, 2e9, 4e9, 8e9, 16e9]}},
        "spectral0": {},
        "spectral1": {"tabular": {"worldvalues": frequencies}},
    }
    header, notes = header_and_notes(casa_image(tmp_path, monkeypatch, coordinates=systems))
    assert header["CTYPE3"] == ctype
    assert len(notes) == (said is not None)
    assert re.search(said or "^$", "".join(notes))
    if ctype == "WAVE":
        assert [header[key] for key in ("CRPIX3", "CRVAL3", "CDELT3")] == pytest.approx([1, 0.3, -0.0125])


# --- HDF5 ---


@pytest.fixture
def hdf5(tmp_path):
    """Write an image in HDF5, with such attributes and history, and open it."""
    h5py = pytest.importorskip("h5py")

    def make(shape=(5, 3, 4), history=None, **attributes):
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            group = file.create_group("0")
            group["DATA"] = np.arange(np.prod(shape), dtype=">f4").reshape(shape)
            group.attrs.update(attributes)
            if history is not None:
                group["HISTORY"] = history
        with opened(tmp_path / "a.hdf5") as stored:
            return stored

    return make


def test_hdf5_of_two_axes_is_a_single_plane(hdf5):
    assert hdf5((3, 4, 5)).source.shape == (3, 4, 5)
    with pytest.raises(CubeError, match="single plane"):
        hdf5((3, 4))


def test_attributes_of_hdf5_that_are_no_cards_are_left_out(hdf5):
    header = hdf5(
        CRVAL3=np.float64(1e9), SCHEMA_VERSION="0.3", BSCALES=np.array([1.0, 2.0]), VELREF=np.int64(257)
    ).header
    assert (header["CRVAL3"], header["VELREF"]) == (1e9, 257)
    assert type(header["CRVAL3"]) is float
    assert not {"SCHEMA_VERSION", "HIERARCH SCHEMA_VERSION", "BSCALES"} & set(header)


@pytest.mark.parametrize("history", [None, ["calibrated", "CLEANed to 1 mJy/b\u00e9am"]])
def test_the_history_of_hdf5_is_that_of_the_header(hdf5, history):
    header = hdf5(history=history).header
    assert list(header.get("HISTORY", [])) == ([] if history is None else ["calibrated", "CLEANed to 1 mJy/b?am"])


# --- FITS ---


def test_names_of_images_are_of_fits_files_with_three_axes(tmp_path):
    cube = np.zeros((2, 3, 4), "f4")
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(cube, name=name) for name in ("SCI", "ERR", "ERR", ""))]
    fits.HDUList([*hdus, fits.ImageHDU(cube[0], name="MAP")]).writeto(tmp_path / "a.fits")
    assert image_names(tmp_path / "a.fits") == ["SCI", "2", "3", "4"]  # by number where a name is not unique
    assert image_names(tmp_path) == []
    (tmp_path / "a.txt").write_text("no FITS")
    assert image_names(tmp_path / "a.txt") == []


def test_of_several_images_the_first_is_taken_and_the_others_by_name_version_or_number(tmp_path):
    hdus = [fits.ImageHDU(np.full((2, 3, 4), i, "f4"), name="ERR" if i > 1 else "SCI", ver=i) for i in (1, 2, 3)]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    part = (slice(0, 1),) * 3
    for name, value in ((None, 1), ("SCI", 1), ("ERR,3", 3), ("err, 2", 2), ("2", 2)):
        with opened(tmp_path / "a.fits", name) as stored:
            assert stored.source.read(part).item() == value
            assert ("holds 3 images" in "".join(stored.notes)) == (name is None)
    said = r"has no \[ERR,4\]; .*: \[SCI\], \[2\], \[3\]"
    with pytest.raises(CubeError, match=said), opened(tmp_path / "a.fits", "ERR,4"):
        pass


def test_a_file_without_a_cube_says_whether_it_has_a_plane(tmp_path):
    fits.writeto(tmp_path / "plane.fits", np.zeros((3, 4), "f4"))
    fits.PrimaryHDU().writeto(tmp_path / "nothing.fits")
    for name, said in (("plane", "single plane"), ("nothing", "holds no image")):
        with pytest.raises(CubeError, match=said), opened(tmp_path / f"{name}.fits"):
            pass


@pytest.mark.parametrize(
    ("cards", "said"),
    [({"BSCALE": 0.0}, "cannot be scaled"), ({"BSCALE": "two"}, "cannot be scaled"), ({"BZERO": "no"}, "cannot be")],
)
def test_a_scale_of_nothing_is_refused(tmp_path, cards, said):
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 3), *((f"NAXIS{i}", 2) for i in (1, 2, 3))])
    header.update(cards)
    (tmp_path / "a.fits").write_bytes(header.tostring().encode() + bytes(2880))
    with pytest.raises(CubeError, match=said), opened(tmp_path / "a.fits"):
        pass


@pytest.mark.filterwarnings("ignore:Invalid 'BLANK' keyword")
@pytest.mark.parametrize(("bitpix", "noted"), [(-32, True), (16, False)])
def test_blank_is_the_value_of_integers_only(tmp_path, bitpix, noted):
    header = fits.Header([("SIMPLE", True), ("BITPIX", bitpix), ("NAXIS", 3), *((f"NAXIS{i}", 2) for i in (1, 2, 3))])
    header["BLANK"] = 0
    (tmp_path / "a.fits").write_bytes(header.tostring().encode() + bytes(2880))
    with opened(tmp_path / "a.fits") as stored:
        assert ("BLANK was ignored" in "".join(stored.notes)) == noted
        assert np.isnan(stored.source.read((slice(0, 2),) * 3)).all() == (not noted)


def test_beams_are_a_table_of_that_name(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("BMAJ", "E", array=np.ones(2))], name="BEAMS")
    other = fits.BinTableHDU.from_columns([fits.Column("BMAJ", "E", array=np.ones(2))], name="OTHER")
    image = fits.ImageHDU(np.zeros((2, 2), "f4"), name="BEAMS")
    fits.HDUList([fits.PrimaryHDU(np.zeros((2, 3, 4), "f4")), other, image, table]).writeto(tmp_path / "a.fits")
    with opened(tmp_path / "a.fits") as stored:
        assert [type(hdu) for hdu in stored.beams] == [fits.BinTableHDU]
        assert stored.beams[0].ver == 1
        assert stored.beams[0].name == "BEAMS"


@pytest.mark.parametrize(("method", "rounded"), [(1, True), (2, False), (-1, False)])
def test_zeros_are_lost_in_dithering_of_the_first_kind_only(tmp_path, method, rounded):
    """The steps are sigma / 16 of a tile, and sigma is 10 in the second channel: FITS standard 4.0, section 10."""
    data = np.random.default_rng(2).normal(size=(2, 40, 60)).astype("f4") * np.array([1, 10], "f4")[:, None, None]
    packed = fits.CompImageHDU(data, tile_shape=(1, 20, 60), quantize_method=method, quantize_level=16, dither_seed=7)
    packed.writeto(tmp_path / "a.fits")
    with opened(tmp_path / "a.fits") as stored:
        assert (stored.rounding is not None) == rounded
        if rounded:
            steps, tile = stored.rounding
            assert (steps.shape, tile) == ((2, 2, 1), (1, 20, 60))
            np.testing.assert_allclose(steps[:, :, 0], np.array([[1, 1], [10, 10]]) / 16, rtol=0.15)


def test_integers_of_32_bits_are_scaled_in_double_precision(tmp_path):
    """1e9 + 1 less 1e9 is 1, which single precision does not see."""
    np.array([1_000_000_001, 1_000_000_003], ">i4").tofile(tmp_path / "a.raw")
    source = Plain(tmp_path / "a.raw", 0, np.dtype(">i4"), (2, 1, 1), zero=-1e9)
    assert source.read((slice(0, 2), slice(0, 1), slice(0, 1))).ravel().tolist() == [1, 3]


def test_a_copy_is_unpacked_where_each_channel_has_its_own_tiles():
    tiled, plain = Tiled(Path("a.fits"), 1, (5, 3, 4)), Plain(Path("a.fits"), 0, np.dtype("f4"), (5, 3, 4))
    assert can_be_unpacked(Lazy(tiled, (0, 1, 2), {}))
    assert not can_be_unpacked(Lazy(tiled, (2, 0, 1), {}))
    assert not can_be_unpacked(Lazy(plain, (0, 1, 2), {}))


def test_brackets_are_an_address_unless_a_file_has_them_in_its_name(tmp_path):
    text = str(tmp_path / "a.fits[SCI]")
    assert split_address(text) == (tmp_path / "a.fits", "SCI")
    Path(text).touch()
    assert split_address(text) == (Path(text), None)


def test_the_values_of_scaled_integers_are_single_precision_and_others_what_they_are(tmp_path):
    np.arange(12, dtype=">i2").tofile(tmp_path / "a.raw")
    part = (slice(1, 2), slice(0, 2), slice(0, 3))
    for scale, kind in ((1.0, np.int16), (0.5, np.float32)):
        source = Plain(tmp_path / "a.raw", 0, np.dtype(">i2"), (2, 2, 3), scale)
        assert source.dtype == source.read(part).dtype == kind
        assert source.read(part).ravel().tolist() == (scale * np.arange(6, 12)).tolist()


@pytest.mark.parametrize("kind", ["<f4", ">f4"])
def test_values_in_either_order_of_bytes_are_read(tmp_path, kind):
    values = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(kind)
    values.tofile(tmp_path / "a.raw")
    source = Plain(tmp_path / "a.raw", 0, np.dtype(kind), values.shape)
    for part in ((slice(1, 3), slice(0, 4), slice(0, 5)), (slice(0, 3), slice(1, 2), slice(2, 4))):
        np.testing.assert_array_equal(source.read(part), values[part])
        assert source.read(part).dtype.isnative


@pytest.mark.parametrize(
    "index",
    [
        ...,
        (..., 2),
        (1, ...),
        (slice(None), ..., slice(1, 3)),
        (np.array([2, 0]), slice(None), 1),
        (slice(None, None, 2),),
        (slice(4, 0, -2), 1, 1),
        np.int64(3),
        (np.array([True, False, True, True, False]), 0),
        (0, np.array([False, True, True])),
    ],
)
def test_an_index_reads_what_it_would_take_of_an_array(tmp_path, index):
    values = np.arange(60, dtype="f4").reshape(5, 3, 4)
    values.tofile(tmp_path / "a.raw")
    lazy = Lazy(Plain(tmp_path / "a.raw", 0, np.dtype("f4"), values.shape), (0, 1, 2), {})
    np.testing.assert_array_equal(lazy[index], values[index])


@pytest.mark.parametrize("taken", [False, True])
def test_what_was_uncompressed_is_removed_with_the_file_or_with_the_cube_that_took_it(tmp_path, monkeypatch, taken):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    values = np.arange(24, dtype="f4").reshape(2, 3, 4)
    fits.writeto(tmp_path / "a.fits.gz", values)
    with opened(tmp_path / "a.fits.gz") as stored:
        cube = stored.cube((0, 1, 2), {}) if taken else None
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        assert stored.notes == [
            f"The file is compressed; while it is open, an uncompressed copy is kept in {tmp_path / 'temporary'}."
        ]
    assert len(list((tmp_path / "temporary").iterdir())) == taken
    if cube is not None:
        np.testing.assert_array_equal(cube[:], values)
        del cube
        gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_full_disk_is_told_from_a_damaged_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    fits.writeto(tmp_path / "a.fits.gz", np.zeros((2, 3, 4), "f4"))
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(CubeError, match=r"cannot be uncompressed into .*No space"), opened(tmp_path / "a.fits.gz"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits.gz"]


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_a_file_that_is_cut_off_is_truncated_compressed_or_not(tmp_path):
    values = np.random.default_rng(1).normal(size=(9, 40, 60)).astype("f4")
    fits.writeto(tmp_path / "plain.fits", values)
    fits.CompImageHDU(values, quantize_method=1, dither_seed=7).writeto(tmp_path / "tiled.fits")
    for name in ("plain.fits", "tiled.fits"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) - 6000])
        with pytest.raises(CubeError, match="is truncated"), opened(tmp_path / name):
            pass


def test_an_image_without_pixels_is_none_and_hdf5_has_no_names(tmp_path):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((0, 3, 4), "f4"), name="EMPTY")]
    fits.HDUList([*hdus, fits.ImageHDU(np.ones((2, 3, 4), "f4"), name="SCI")]).writeto(tmp_path / "a.fits")
    with opened(tmp_path / "a.fits") as stored:
        assert (stored.source.shape, stored.notes) == ((2, 3, 4), [])
    (tmp_path / "a.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(CubeError, match=r"has no \[SCI\]: it is not a FITS file"), opened(tmp_path / "a.hdf5", "SCI"):
        pass


def header_by_hand(*cards: tuple[str, object]) -> bytes:
    """A header of 2 x 2 x 2 integers of 16 bits, with the data."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 3), *((f"NAXIS{i}", 2) for i in (1, 2, 3))])
    header.update(dict(cards))
    return header.tostring().encode() + np.arange(8, dtype=">i2").tobytes().ljust(2880, b"\0")


@pytest.mark.filterwarnings("ignore:Invalid value for 'BLANK'")
def test_a_blank_that_is_no_whole_number_is_none(tmp_path):
    (tmp_path / "a.fits").write_bytes(header_by_hand(("BLANK", "three")))
    with opened(tmp_path / "a.fits") as stored:
        assert stored.source.read((slice(0, 2),) * 3).ravel().tolist() == list(range(8))
        assert stored.source.dtype == np.int16  # with a blank they would be 32-bit floats


def test_a_scale_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "a.fits").write_bytes(header_by_hand(("BSCALE", 77777.0)).replace(b"77777.0", b"1E400  "))
    with pytest.raises(CubeError, match="cannot be scaled: BSCALE is inf"), opened(tmp_path / "a.fits"):
        pass


@pytest.mark.parametrize("packed", [False, True])
def test_the_structure_of_a_file_is_checked_as_it_is_when_uncompressed(tmp_path, monkeypatch, packed):
    starts = []
    monkeypatch.setattr(storage, "check_structure", lambda file: starts.append(file.read(6)))
    path = tmp_path / ("a.fits.gz" if packed else "a.fits")
    fits.writeto(path, np.zeros((2, 3, 4), "f4"))
    with opened(path):
        assert starts == [b"SIMPLE"]


def test_nothing_is_left_of_a_compressed_file_without_a_cube(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fits.writeto(tmp_path / "a.fits.gz", np.zeros((3, 4), "f4"))
    with pytest.raises(CubeError, match="single plane"), opened(tmp_path / "a.fits.gz"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits.gz"]


# --- compressed zeros, indices, names ---


def test_a_value_may_have_been_zero_within_half_a_step_of_its_tile():
    """Tiles of two rows; single precision may be off by a thousandth."""
    rounding = storage.Rounding(np.array([[[2.0], [4.0]]]), (1, 2, 3))
    plane = np.array([1.0, 1.02, 1.0, 2.0, 2.04, -2.0])[:, None] * np.ones((6, 3))
    assert rounding.may_be_zero(plane[[0, 1, 3, 4]], 0)[:, 0].tolist() == [True, False, True, False]
    assert rounding.may_be_zero(plane[[2, 2, 5, 5]], 0).all()
    assert rounding.largest == pytest.approx(2.0, rel=2e-3)


@pytest.mark.parametrize(
    ("cards", "tile"),
    [
        ({}, (1, 1, 6)),  # rows
        ({"ZTILE1": 4, "ZTILE2": 9}, (1, 5, 4)),
        ({"ZTILE1": 0}, None),
        ({"ZTILE1": "six"}, None),
        ({"ZQUANTIZ": "NO_DITHER"}, None),
        ({"ZSCALE": "two"}, None),
    ],
)
def test_the_tiles_of_rounded_values_are_those_of_the_header(cards, tile):
    header = fits.Header({"ZQUANTIZ": "SUBTRACTIVE_DITHER_1", "ZSCALE": 2.0} | cards)
    made = storage._rounding(SimpleNamespace(header=header, columns=SimpleNamespace(names=[])), (4, 5, 6))
    assert (made and made[1]) == tile


def test_true_is_no_number_of_a_channel():
    assert storage._bounds(True, 5)[0] == slice(0, 5)
    assert storage._bounds(1, 5) == (slice(1, 2), 0)


def test_between_channels_that_are_far_apart_nothing_is_read(tmp_path, monkeypatch):
    data, read = np.arange(9 * 4 * 5, dtype=">f4").reshape(9, 4, 5), []
    data.tofile(tmp_path / "a")
    lazy = Lazy(Plain(tmp_path / "a", 0, data.dtype, data.shape), (0, 1, 2), {})
    one = Plain.read
    monkeypatch.setattr(Plain, "read", lambda self, part: read.append(part[0].stop - part[0].start) or one(self, part))
    np.testing.assert_array_equal(lazy[::4], data[::4])
    np.testing.assert_array_equal(lazy[2:5], data[2:5])
    assert read == [1, 1, 1, 3]


def test_of_a_file_without_images_there_are_no_names(tmp_path):
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "a.fits")
    with (
        pytest.raises(CubeError, match=r"has no \[ERR\]; its images of three or more axes: none\."),
        opened(tmp_path / "a.fits", "ERR"),
    ):
        pass


@pytest.mark.parametrize("kinds", [("VRAD",), ("FREQ", "FREQ")])
def test_a_table_of_frequencies_replaces_the_only_axis_of_frequencies(kinds):
    header = fits.Header({"NAXIS": len(kinds)} | {f"CTYPE{i}": kind for i, kind in enumerate(kinds, 1)})
    coordinates = {"spectral1": {"tabular": {"worldvalues": C / np.linspace(0.30, 0.25, 5)}}}
    (note,) = storage._tabulated_axis(header, coordinates)
    assert "approximated as linear" in note
    assert header["CTYPE1"] == kinds[0]
