"""Single rules of a cube's data: missing values, pickling, compressed tiles, bad channels, structure of files."""

from __future__ import annotations

import hashlib
import io
import pickle
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from headers_by_hand import header_of

from napari_almadet import Settings
from napari_almadet.cube import bad_channels as bad_channels_module
from napari_almadet.cube import reading, rice
from napari_almadet.cube.bad_channels import (
    Likeness,
    bad_channels,
    faults,
    known_values,
    runs,
    strongest_wave,
    summary_of_brighter,
    taper_of,
    unit_vector,
)
from napari_almadet.cube.cube import HASHED_AT_ONCE, Cube, CubeError, PrimaryBeam
from napari_almadet.cube.fits_structure import check_structure
from napari_almadet.cube.prepare import as_prepared, is_corrected, prepared
from napari_almadet.cube.reading import read_cube, read_primary_beam
from napari_almadet.cube.rice import RiceTiles, in_one_run, tiles_of
from napari_almadet.cube.storage import Held, largest


@pytest.fixture
def opened(tmp_path):
    """A cube in a file, of unit noise or of some data, with a beam of five pixels."""

    def opened(data=None, name="cube.fits", **cards) -> Cube:
        data = np.random.default_rng(5).normal(size=(6, 24, 24)) if data is None else data
        fits.writeto(tmp_path / name, data, header_of(**cards), overwrite=True)
        return read_cube(tmp_path / name)

    return opened


# --- the primary beam ---


@pytest.mark.parametrize(("planes", "channel", "known"), [(1, 99, True), (6, 5, True), (6, 6, False), (6, -1, False)])
@pytest.mark.parametrize(("y", "x", "inside"), [(3, 5, True), (4, 5, False), (-1, 5, False), (3, 6, False)])
def test_the_response_is_known_within_the_image_and_its_channels(planes, channel, known, y, x, inside):
    beam = PrimaryBeam(np.full((planes, 4, 6), 0.5), Path("pb.fits"))
    assert (beam.at(x, y, channel) == 0.5) == (known and inside)


# --- pickling ---


def test_an_array_is_pickled_with_its_data_and_its_primary_beam():
    beam = PrimaryBeam(np.full((1, 5, 6), 0.5), Path("pb.fits"), reader=read_primary_beam)
    cube = replace(Cube.from_array(np.arange(120.0).reshape(4, 5, 6), name="made"), primary_beam=beam)
    again = pickle.loads(pickle.dumps(cube))
    np.testing.assert_array_equal(again.data, cube.data)
    assert (again.name, again.address, again.primary_beam.at(3, 3, 0)) == ("made", "", 0.5)
    assert pickle.loads(pickle.dumps(Cube.from_array(cube.data))).primary_beam is None


def test_a_file_is_pickled_as_its_path_and_opened_again(opened, tmp_path):
    cube = opened()
    fits.writeto(tmp_path / "pb.fits", np.full((24, 24), 0.5, np.float32))
    beam = replace(read_primary_beam(tmp_path / "pb.fits", cube), corrected=True)
    kept = pickle.dumps(replace(cube, primary_beam=beam, name="renamed"))
    assert len(kept) < 20_000  # without 24 x 24 x 6 numbers of eight bytes
    again = pickle.loads(kept)
    np.testing.assert_array_equal(again.read(), cube.read())
    assert (again.name, again.primary_beam.at(3, 3, 0), again.primary_beam.corrected) == ("renamed", 0.5, True)
    assert pickle.loads(pickle.dumps(cube)).primary_beam is None
    held = pickle.dumps(replace(cube, data=cube.read(), primary_beam=replace(beam, data=np.ones((6, 24, 24)))))
    assert len(held) < 20_000
    made = replace(beam, reader=None)  # not from a file
    assert pickle.loads(pickle.dumps(replace(cube, primary_beam=made))).primary_beam.data is None


# --- missing data ---


def test_a_voxel_among_missing_ones_is_no_spike(opened):
    """Nothing is known of what is beside it."""
    data = np.random.default_rng(5).normal(size=(6, 24, 24))
    data[3, 9:14, 9:14] = np.nan
    data[3, 11, 11] = 1e6
    data[3, 20, 20] = 1e6
    cube = opened(data)
    assert cube.read(3, 11, 11) == 1e6
    assert cube.spikes == []
    cube.read()
    assert cube.spikes == [(3, 20, 20)]


def test_a_spike_is_found_in_a_cube_whose_unit_is_not_known(opened):
    data = np.random.default_rng(5).normal(size=(6, 24, 24))
    data[3, 20, 20], data[:, 2] = 1e6, 0
    cube = replace(opened(data), unit=None)
    assert np.isnan(cube.read(3, 20, 20))
    assert np.isnan(cube.read(3, 2)).all()


def test_where_values_are_not_like_noise_none_of_them_is_a_spike(opened):
    data = np.where(np.arange(6 * 24 * 24).reshape(6, 24, 24) % 5, 1.0, 100.0)
    data[3, 20, 20] = 1e7
    assert opened(data).read(3, 20, 20) == np.float32(1e7)


def test_spikes_that_are_apart_are_found_when_every_second_pixel_is_read(opened):
    data = np.random.default_rng(5).normal(size=(6, 24, 24))
    data[3, 20, 10] = data[3, 20, 12] = 1e6
    assert np.isnan(opened(data).read(3, 20, slice(0, None, 2))[[5, 6]]).all()


def test_spikes_are_found_in_pixels_that_are_apart_but_read_together(opened):
    data = np.random.default_rng(5).normal(size=(6, 24, 24))
    data[3, 8, [5, 17]] = 1e6
    cube = opened(data)
    assert np.isnan(cube.read(x=np.array([5, 17]))[3, 8]).all()


@pytest.mark.parametrize(("unit", "missing"), [("Jy/beam", True), ("Jy/pixel", False)])
def test_zeros_of_a_sky_model_in_a_file_are_data(opened, unit, missing):
    data = np.random.default_rng(5).normal(size=(6, 24, 24))
    data[:, :5] = 0
    assert np.isnan(opened(data, BUNIT=unit).read()[:, :5]).all() == missing


@pytest.mark.parametrize("rows", [slice(0, 24), slice(0, 10)])
def test_values_that_are_not_finite_are_missing_whether_or_not_they_are_held_in_memory(opened, rows):
    data = np.random.default_rng(5).normal(size=(6, 24, 24))
    data[2, 20, 5] = np.inf
    cube = opened(data)
    held = replace(cube, data=Held(cube.data, rows))
    assert np.flatnonzero(np.isnan(held.read())).tolist() == [(2 * 24 + 20) * 24 + 5]
    assert np.isfinite(held.read(slice(None), slice(0, 10), slice(0, 24))).all()


@pytest.mark.parametrize(
    ("values", "most"), [([], 0.0), ([1.0, -3.0], 3.0), ([1.0, np.nan], np.inf), ([-np.inf, 2.0], np.inf)]
)
def test_the_largest_of_values_that_are_not_all_finite_is_infinite(values, most):
    assert largest(np.array(values)) == most


def test_of_a_part_that_is_held_the_rest_is_read_from_the_file(opened):
    data = np.random.default_rng(5).normal(size=(6, 24, 24)).astype(np.float32)
    cube = opened(data)
    held = Held(cube.data, slice(4, 16), slice(2, 20))
    held.array = np.full_like(held.array, 7.0)
    assert (held[1, 5:9, 3:8] == 7).all() and (held[1, 4:16, 2:20] == 7).all()
    for index in (
        (1, slice(3, 9), slice(3, 8)),
        (1, slice(5, 9), slice(3, 21)),
        (1, slice(None, 9), slice(3, 8)),
        (1, slice(5, None), slice(3, 8)),
        1,
        (slice(0, 2), 5, 6),
        (1, slice(5, 9, 2), slice(3, 8)),
        (1, slice(5, 9)),
    ):
        np.testing.assert_array_equal(held[index], data[index])


def test_zeros_in_memory_are_data():
    data = np.ones((4, 5, 6))
    data[:, 2] = 0
    cube = Cube.from_array(data)
    assert cube.blank is None
    np.testing.assert_array_equal(cube.read(), data)


# --- coordinates that there may not be ---


def test_an_array_has_no_coordinates():
    cube = Cube.from_array(np.ones((4, 5, 6)))
    assert (cube.spectral_frame, cube.spectral_type, cube.address) == ("", "", "")
    assert (cube.rest_frequency, cube.celestial, cube.pixel_scale, cube.beam_area) == (None,) * 4
    assert (cube.spectral_axis(), cube.frequency(1), cube.velocity(1), cube.coordinate("WAVE", 1)) == (None,) * 4
    assert (cube.spectral_axis("km/s"), cube.spectral_axis("GHz")) == (None, None)


def test_coordinates_without_a_spectral_axis_give_no_frequencies():
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN", "OFFSET"]
    cube = Cube(np.ones((4, 5, 6)), wcs, u.K)
    assert cube.frequency(0) is None


def test_the_name_of_an_image_in_a_file_is_part_of_its_address(opened):
    cube = opened()
    assert cube.address == str(cube.path)
    assert read_cube(f"{cube.path}[0]").address == f"{cube.path}[0]"


# --- hashes ---


def test_the_hash_of_a_folder_is_of_its_files_but_not_of_casa_s_lock(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "table.dat").write_bytes(b"one")
    (tmp_path / "sub" / "data").write_bytes(b"two")
    cube = replace(Cube.from_array(np.ones((4, 5, 6))), path=tmp_path)
    before = cube.sha256()
    expected = hashlib.sha256()
    for name, content in (("sub/data", b"two"), ("table.dat", b"one")):
        expected.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    assert before == expected.hexdigest()
    (tmp_path / "table.lock").write_bytes(b"who has it open")
    assert cube.sha256() == before
    (tmp_path / "sub" / "data").write_bytes(b"three")
    assert cube.sha256() != before


def test_while_a_file_is_hashed_it_is_asked_for_each_megabyte_whether_the_hash_is_wanted(tmp_path):
    (tmp_path / "large").write_bytes(bytes(3 * 2**20))
    cube, asked = replace(Cube.from_array(np.ones((4, 5, 6))), path=tmp_path / "large"), []
    assert HASHED_AT_ONCE == 2**20
    assert cube.sha256(lambda: asked.append(1) or len(asked) < 2) == ""
    assert len(asked) == 3  # twice before a part is read, and in the end
    asked.clear()
    assert cube.sha256(lambda: asked.append(1) or True) == hashlib.sha256(bytes(3 * 2**20)).hexdigest()
    assert len(asked) == 5


# --- compressed tiles ---


def compressed(path: Path, data: np.ndarray, tile: tuple[int, ...], method: int = -1) -> Path:
    image = fits.CompImageHDU(
        data, compression_type="RICE_1", tile_shape=tile, quantize_method=method, quantize_level=16, dither_seed=7
    )
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, overwrite=True)
    return path


def noise(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


@pytest.fixture
def described(tmp_path):
    """What :func:`rice._tiles` takes: file, header, formats of columns and offset; changed by cards and columns."""
    path = compressed(tmp_path / "a.fits.fz", noise(6, 20, 70), (1, 1, 70))
    with fits.open(path, memmap=False, disable_image_compression=True) as hdus:
        table = hdus[1]
        header, start = table.header.copy(), table.fileinfo()["datLoc"]
        kinds = {column.name: column.format.removeprefix("1") for column in table.columns}

    def described(cards=(), renamed=(), changed=()) -> RiceTiles | None:
        mended = header.copy()
        for key, value in dict(cards).items():
            if value is None:
                del mended[key]
            else:
                mended[key] = value
        new = {dict(renamed).get(name, name): dict(changed).get(name, kind) for name, kind in kinds.items()}
        return rice._tiles(path, mended, new, start)

    return described


@pytest.mark.parametrize(
    ("block", "width", "ours"),
    [(16, 2, True), (32, 2, True), (16, 4, True), (32, 4, True), (8, 4, False), (64, 4, False), (64, 2, False),
     (8, 2, False), (32, 1, False), (16, 1, False), (32, 8, False), (16, 8, False)],
)  # fmt: skip
def test_blocks_of_16_and_32_numbers_of_two_or_four_bytes_are_ours(described, block, width, ours):
    cards = {"ZNAME1": "BLOCKSIZE", "ZVAL1": block, "ZNAME2": "BYTEPIX", "ZVAL2": width}
    assert (described(cards) is not None) == ours


def test_tiles_are_rows_where_a_header_does_not_say(described):
    tiles = described({"ZTILE1": None, "ZTILE2": None, "ZTILE3": None})
    assert (tiles.size, len(tiles.rows)) == (70, 120)


@pytest.mark.parametrize(
    "changes",
    [
        {"cards": {"ZBITPIX": -64}},
        {"cards": {"ZBITPIX": 32}},
        {"cards": {"NAXIS2": 119}},
        {"cards": {"NAXIS2": 0, "ZBITPIX": 32}},
        {"cards": {"NAXIS2": 0, "NAXIS1": 5}},
        {"cards": {"NAXIS1": 30}},
        {"cards": {"ZTILE2": 3, "NAXIS2": 40}},  # 20 rows are not a number of whole tiles
        {"cards": {"ZNAXIS3": 6000, "NAXIS2": 120_000}},  # the file ends before
        {"renamed": {"ZSCALE": "OTHER"}},
        {"changed": {"COMPRESSED_DATA": "PI"}},
    ],
)
def test_an_image_of_another_form_is_left_to_astropy(described, changes):
    assert described() is not None
    assert described(**changes) is None


@pytest.mark.parametrize(("method", "ours"), [(-1, True), (1, False)])
def test_random_numbers_are_for_tiles_of_up_to_9500_pixels(tmp_path, method, ours):
    path = compressed(tmp_path / "a.fits.fz", noise(2, 1, 9600), (1, 1, 9600), method)
    assert (tiles_of(path, 1) is not None) == ours


def test_doubles_are_left_to_astropy(tmp_path):
    assert tiles_of(compressed(tmp_path / "a.fits.fz", noise(2, 4, 70, dtype=float), (1, 1, 70)), 1) is None


def test_without_astropy_s_own_function_tiles_are_left_to_it(tmp_path, monkeypatch):
    path = compressed(tmp_path / "a.fits.fz", noise(2, 4, 70), (1, 1, 70))
    assert tiles_of(path, 1) is not None
    monkeypatch.setattr(rice, "uncompress", None)
    assert tiles_of(path, 1) is None


def test_only_whole_tiles_that_are_in_the_file_are_read(tmp_path):
    tiles = tiles_of(compressed(tmp_path / "a.fits.fz", noise(4, 3, 70), (2, 3, 70)), 1)
    plane = (slice(0, 3), slice(0, 70))
    assert tiles.read((slice(0, 2), *plane)).shape == (2, 3, 70)
    assert tiles.read((slice(0, 1), *plane)) is None
    assert tiles.read((slice(0, 4), slice(0, 2), slice(0, 70))) is None
    rows = tiles.rows.copy()
    rows["COMPRESSED_DATA"][0, 1] = -4  # begins before the heap
    assert replace(tiles, rows=rows).read((slice(0, 4), *plane)) is None


def test_each_tile_may_have_its_own_mark_of_missing_data():
    rows = np.array([(1.0, 0.0, 5), (2.0, 1.0, 7)], [("ZSCALE", ">f8"), ("ZZERO", ">f8"), ("ZBLANK", ">i4")])
    tiles = RiceTiles(Path("a.fits"), (2, 1, 3), 3, rows, 0, 32, 4, 6, 0, 0)
    numbers = np.array([[5, 6, 7], [5, 6, 7]])
    np.testing.assert_array_equal(tiles._scaled(numbers, rows, 0), [[np.nan, 6, 7], [11, 13, np.nan]])
    without = rows[["ZSCALE", "ZZERO"]]
    np.testing.assert_array_equal(tiles._scaled(numbers, without, 0), [[5, np.nan, 7], [11, np.nan, 15]])
    marked = replace(tiles, blank=None)._scaled(numbers, without, 0)
    assert np.isfinite(marked).all()


def test_the_sequence_of_random_numbers_is_ten_thousand_long():
    assert len(rice._sequence.__wrapped__()) == 10_000
    assert rice._starts.__wrapped__().max() < 500


@pytest.mark.parametrize(
    ("tile", "one_run"),
    [
        *(((1, 1, 70), True), ((1, 5, 70), True), ((1, 20, 70), True), ((2, 20, 70), True), ((6, 20, 70), True)),
        *(((1, 6, 70), False), ((2, 5, 70), False), ((2, 1, 70), False), ((1, 1, 30), False), ((1, 1, 0), False)),
        *(((4, 20, 70), False), ((1, 1, 35), True), ((0, 20, 70), False), ((3, 1, 35), False)),
    ],
)
def test_pixels_of_a_tile_follow_one_another_if_its_faster_axes_are_whole_and_its_slower_ones_single(tile, one_run):
    assert in_one_run((6, 20, 70), tile) == one_run


@pytest.mark.parametrize(
    ("name", "number"), [("NO_DITHER", 0), ("SUBTRACTIVE_DITHER_1", 1), ("SUBTRACTIVE_DITHER_2", 2)]
)
def test_methods_of_dithering_have_the_numbers_that_astropy_has(described, name, number):
    assert described({"ZQUANTIZ": name}).dither == number


# --- bad channels ---


def test_blank_channels_are_not_counted_among_the_bad_ones():
    """Of which a third may be."""
    planes = noise(30, 24, 24)
    planes[:12] = 0
    planes[20] *= 1e-4
    assert bad_channels(Cube.from_array(planes)) == {"blank": list(range(12)), "constant": [20]}


def test_where_the_middle_of_the_field_has_no_data_the_rest_is_compared(monkeypatch):
    monkeypatch.setattr(bad_channels_module, "WINDOW", 16)
    planes = noise(24, 40, 40)
    planes[:, 10:30, 10:30] = np.nan
    planes[5] *= 10
    assert bad_channels(Cube.from_array(planes)) == {"noisy": [5]}


def test_a_wave_of_one_and_a_half_times_the_noise_is_a_stripe():
    planes = noise(24, 64, 64)
    y, x = np.mgrid[:64, :64]
    planes[10] += 1.5 * np.cos(2 * np.pi * (9 * x + 5 * y) / 64)
    assert bad_channels(Cube.from_array(planes)) == {"striped": [10]}


def test_only_finite_values_that_are_not_zero_are_compared():
    plane = np.arange(1.0, 7.0).reshape(2, 3)
    values, all_values = known_values(plane, np.ones((2, 3)))
    assert values.tolist() == [0, 1, 2, 3, 4, 5] and all_values.tolist() == [1, 2, 3, 4, 5, 6]
    plane[0, 0], plane[1, 2] = np.nan, 0
    values, all_values = known_values(plane, np.ones((2, 3)))
    assert values.tolist() == [1, 2, 3, 4] and all_values.tolist() == [2, 3, 4, 5, 0]
    plane[1, 2] = 5
    assert known_values(plane, np.ones((2, 3)))[0].tolist() == [1, 2, 3, 4, 4]
    plane[0, 0], plane[1, 2] = 9, 0
    assert known_values(plane, np.ones((2, 3)))[0].tolist() == [8, 1, 2, 3, 4]


@pytest.mark.parametrize("missing", [(), (1,), (2,), (1, 2)])
def test_channels_are_alike_whether_or_not_one_of_them_lacks_data(missing):
    common, likeness = noise(24, 24), Likeness(6)
    for k in range(6):
        plane = common.copy()
        if k in missing:
            plane[3, 4] = np.nan
        likeness.add(k, plane, unit_vector(plane))
    assert likeness.mask().all()


def test_a_cube_published_without_its_noise_has_no_faults():
    assert faults(np.zeros((3, 24)), np.zeros(24), np.zeros((2, 24))) == {}


def test_waves_are_looked_for_in_fields_of_32_pixels_and_more():
    for side, any_wave in ((31, False), (32, True)):
        assert (strongest_wave(noise(side, side), taper_of((side, side))) > 0) == any_wave


@pytest.mark.parametrize(
    ("channels", "text"), [([4], "Channel 4 is brighter over"), ([4, 5, 9], "Channels 4-5, 9 are brighter over")]
)
def test_brighter_channels_are_named(channels, text):
    assert summary_of_brighter(channels).startswith(text)


def test_of_no_numbers_there_are_no_runs():
    assert runs([]) == []
    assert runs([7]) == [(7, 7)]


# --- preparation ---


def test_a_good_cube_is_prepared_without_a_word():
    cube, bad, notes = prepared(Cube.from_array(noise(12, 24, 24)), Settings())
    assert (cube.flagged, bad, notes) == (None, {}, [])


def response_of(side: int) -> np.ndarray:
    return np.linspace(0.3, 1.0, side)[:, None] * np.ones(side)


def corrected(planes: np.ndarray, response: np.ndarray, flagged: np.ndarray | None = None) -> bool | None:
    beam = SimpleNamespace(plane=lambda channel, y, x: response[y, x])
    return is_corrected(replace(Cube.from_array(planes), flagged=flagged), beam)


@pytest.mark.parametrize(("side", "decided"), [(24, False), (25, True)])
def test_the_noise_of_six_hundred_pixels_tells_whether_a_cube_was_corrected(side, decided):
    response = response_of(side)
    assert corrected(noise(24, side, side) / response, response) == (True if decided else None)


@pytest.mark.parametrize(("slope", "is_one"), [(-0.4, False), (-0.6, True)])
def test_noise_that_rises_faster_than_the_root_of_the_response_is_that_of_a_corrected_cube(slope, is_one):
    response = response_of(60)
    assert corrected(noise(24, 60, 60) * response**slope, response) is is_one


@pytest.mark.parametrize(("highest", "possible"), [(1.05, True), (1.2, False), (-0.1, False)])
def test_a_response_is_one_at_most_but_for_rounding(opened, monkeypatch, highest, possible):
    monkeypatch.setattr(reading, "read_image", lambda _: (np.full((1, 24, 24), highest, np.float32), None))
    with nullcontext() if possible else pytest.raises(CubeError, match="is not a primary beam"):
        read_primary_beam("beam.fits", opened())


@pytest.mark.parametrize(("lowest", "possible"), [(-0.03, True), (-0.07, False)])
def test_a_response_is_positive_but_for_what_regridding_does_to_its_edge(opened, monkeypatch, lowest, possible):
    plane = np.full((1, 24, 24), 0.9, np.float32)
    plane[0, 3, 4], plane[0, 5, 6] = lowest, np.nan
    monkeypatch.setattr(reading, "read_image", lambda _: (plane, None))
    with nullcontext() if possible else pytest.raises(CubeError, match=r"values reach from -0\.07 to 0\.9\."):
        read_primary_beam("beam.fits", opened())


@pytest.mark.parametrize(("pixels", "same"), [(0.35, True), (0.7, False)])
def test_a_primary_beam_lies_where_the_cube_does_to_half_a_pixel(opened, monkeypatch, pixels, same):
    cube = opened()
    celestial = cube.celestial.deepcopy()
    celestial.wcs.crpix = np.add(celestial.wcs.crpix, (pixels, 0))
    monkeypatch.setattr(reading, "read_image", lambda _: (np.full((1, 24, 24), 0.9, np.float32), celestial))
    with nullcontext() if same else pytest.raises(CubeError, match="it belongs to another field"):
        read_primary_beam("beam.fits", cube)


@pytest.mark.parametrize("channels", [3, 4, 8, 24])
def test_short_cubes_are_judged_by_their_noise_too(channels):
    response = response_of(40)
    assert corrected(noise(channels, 40, 40) / response, response) is True
    assert corrected(noise(channels, 40, 40), response) is False


def test_noise_is_compared_three_channels_apart_since_neighbours_may_share_it():
    response = response_of(40)
    assert corrected(np.repeat(noise(8, 40, 40) / response, 3, axis=0), response) is True


def test_without_channels_or_without_noise_nothing_tells_whether_a_cube_was_corrected():
    response = response_of(40)
    assert corrected(noise(8, 40, 40), response, np.ones(8, bool)) is None
    assert corrected(np.ones((8, 40, 40)), response) is None


def test_what_the_name_of_a_cube_says_is_taken_and_said_where_its_noise_says_nothing(opened, tmp_path):
    """A response that varies too little."""
    fits.writeto(tmp_path / "pb.fits", np.full((24, 24), 0.9, np.float32))
    settings = Settings(primary_beam=str(tmp_path / "pb.fits"), flag_channels=False)
    for name, words in (("a.pbcor.fits", "judging by its name, it is."), ("a.fits", "by its name, it is not.")):
        cube, _, (note,) = prepared(opened(name=name), settings)
        assert note.endswith(words)
        assert cube.primary_beam.corrected == ("pbcor" in name)


def test_a_cube_that_has_its_primary_beam_keeps_it(opened, tmp_path):
    fits.writeto(tmp_path / "pb.fits", np.full((24, 24), 0.9, np.float32))
    cube, settings = opened(), Settings(primary_beam=str(tmp_path / "pb.fits"))
    own = PrimaryBeam(np.full((1, 24, 24), 0.5), Path("own.fits"))
    assert as_prepared(replace(cube, primary_beam=own), settings, {}).primary_beam is own
    assert as_prepared(cube, settings, {}).primary_beam.at(3, 3, 0) == np.float32(0.9)
    assert as_prepared(cube, Settings(), {}).primary_beam is None


# --- structure of files ---


def part(data: bytes = b"", **cards) -> bytes:
    """An HDU of a file, as it is written."""
    first = {"XTENSION": "IMAGE", "BITPIX": 8, "NAXIS": 0, "PCOUNT": 0, "GCOUNT": 1}
    header = fits.Header({key: value for key, value in (first | cards).items() if value is not None})
    return header.tostring().encode() + data + bytes(-len(data) % 2880)


TABLE = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2, "NAXIS1": 8, "NAXIS2": 6, "TFIELDS": 1}
PACKED = TABLE | {"ZIMAGE": True, "ZNAXIS": 2, "ZNAXIS1": 4, "ZNAXIS2": 6, "ZCMPTYPE": "RICE_1"}
BAD = part(NAXIS=-1)


@pytest.mark.parametrize(
    "first",
    [
        part(),
        part(bytes(6), NAXIS=2, NAXIS1=2, NAXIS2=3),
        part(NAXIS=2, NAXIS1=0, NAXIS2=4000),  # no data
        part(bytes(4000), NAXIS=2, NAXIS1=0, NAXIS2=4000, GROUPS=True),
        part(bytes(6000), NAXIS=2, NAXIS1=2, NAXIS2=3000, GROUPS=True),
        part(GROUPS=True),
        part(bytes(3 * 4000), NAXIS=2, NAXIS1=0, NAXIS2=3990, GROUPS=True, PCOUNT=10, GCOUNT=3),
        part(bytes(48), **PACKED),  # tiles are rows where nothing is said of them
        part(bytes(48), **PACKED, ZTILE1=2, ZTILE2=2),
        part(bytes(48), **PACKED, ZNAME1="BLOCKSIZE", ZVAL1=32, ZNAME2="BYTEPIX", ZVAL2=4, ZNAME3="ODD", ZVAL3="x"),
    ],
)
def test_what_follows_a_part_of_a_file_is_looked_at_as_well(first):
    check_structure(io.BytesIO(first))
    with pytest.raises(CubeError, match="NAXIS is -1"):
        check_structure(io.BytesIO(first + BAD))


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"NAXIS": 17}, "NAXIS is 17"),
        ({"NAXIS": 2.0}, "NAXIS is 2.0"),
        ({"NAXIS": True}, "NAXIS is True"),
        (PACKED | {"ZTILE1": 1}, "is damaged: 6 tiles do not make up 4 x 6 values"),
        (PACKED | {"ZNAME1": "BLOCKSIZE", "ZVAL1": 0}, "ZVAL1 is 0, and must be a whole number from 1 to 4096"),
        (PACKED | {"ZNAME1": "BYTEPIX", "ZVAL1": 16}, "ZVAL1 is 16, and must be a whole number from 1 to 8"),
        (PACKED | {"ZNAME1": "BLOCKSIZE", "ZVAL1": 5000}, "ZVAL1 is 5000"),
    ],
)
def test_numbers_that_no_file_has_are_refused(cards, reason):
    with pytest.raises(CubeError, match=reason):
        check_structure(io.BytesIO(part(**cards)))


@pytest.mark.parametrize(
    "image",
    [
        part(BAD, NAXIS=2, NAXIS1=0, NAXIS2=2880, GROUPS=True),
        part(part() + BAD, NAXIS=2, NAXIS1=2, NAXIS2=2880, GROUPS=True),
        part(bytes(1440), NAXIS=1, NAXIS1=1000)[:-1440] + BAD[:1360] + b"END".ljust(80) + part(),
    ],
)
def test_what_looks_like_a_header_within_the_data_of_an_image_is_none(image):
    """Groups are as many as the other axes say if the first has no length (FITS standard 4.0, section 6)."""
    check_structure(io.BytesIO(image))


def test_an_image_may_have_sixteen_axes():
    check_structure(io.BytesIO(part(NAXIS=16, **{f"NAXIS{i}": 1 for i in range(1, 17)})))
