"""Rice-compressed images: the same numbers as astropy's, without its steps for each tile."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from napari_almadet.cube import rice
from napari_almadet.cube.reading import read_cube
from napari_almadet.cube.rice import tiles_of

SHAPE = (6, 20, 70)


@pytest.fixture
def compressed(tmp_path, header):
    """A function that writes a compressed image of noise with missing values and zeros."""

    def write(tile=(1, 1, 70), method=-1, peak=0.0, **options):
        data = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
        data[2, 3, 4:9] = np.nan
        data[4, 5, 6:9] = 0
        data[5, 0, 0] += peak
        path = tmp_path / "cube.fits.fz"
        options = {"compression_type": "RICE_1", "quantize_level": 16, "dither_seed": 4711, **options}
        image = fits.CompImageHDU(data, header, tile_shape=tile, quantize_method=method, **options)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, overwrite=True)
        return path

    return write


def whole(shape=SHAPE):
    return tuple(slice(0, n) for n in shape)


@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize("tile", [(1, 1, 70), (1, 5, 70), (1, 20, 70), (2, 20, 70)])
def test_values_are_those_of_astropy_to_the_bit(compressed, tile, method):
    path = compressed(tile, method)
    expected = fits.getdata(path)
    tiles = tiles_of(path, 1)
    assert np.isnan(expected[2, 3, 4:9]).all()
    np.testing.assert_array_equal(tiles.read(whole()), expected)
    np.testing.assert_array_equal(tiles.read((slice(2, 4), *whole()[1:])), expected[2:4])


def test_random_numbers_are_those_of_the_standard():
    """The standard's own check: after 10000 numbers the seed is 1043618065."""
    assert rice._sequence()[-1] == np.float32(1043618065 / 2147483647)


def test_a_compressed_cube_is_read_without_astropy_s_tiles(compressed, monkeypatch):
    path = compressed()
    expected = fits.getdata(path)

    def refuse(*_):
        raise AssertionError("by tiles")

    monkeypatch.setattr("astropy.io.fits.hdu.compressed.section.decompress_image_data_section", refuse)
    np.testing.assert_array_equal(read_cube(path).data[:], expected)


@pytest.mark.parametrize(
    "options",
    [
        {"compression_type": "GZIP_1"},
        {"tile": (1, 6, 70)},  # 20 rows are not a number of whole tiles
        {"tile": (1, 1, 30)},
        {"tile": (2, 1, 70)},
        {"peak": 1e30},  # too high for steps of the noise: this tile is compressed by another method
    ],
)
def test_images_of_other_forms_are_left_to_astropy(compressed, options):
    path = compressed(**options)
    tiles = tiles_of(path, 1)
    assert tiles is None or tiles.read(whole()) is None
    np.testing.assert_array_equal(read_cube(path).data[:], fits.getdata(path))


def test_parts_of_tiles_are_left_to_astropy(compressed):
    path = compressed((2, 20, 70))
    tiles = tiles_of(path, 1)
    assert tiles.read((slice(1, 3), *whole()[1:])) is None
    assert tiles.read((slice(0, 2), slice(0, 5), slice(0, 70))) is None
    np.testing.assert_array_equal(read_cube(path).data[1:3, :5], fits.getdata(path)[1:3, :5])


def test_a_file_that_ends_early_is_left_to_astropy(compressed):
    path = compressed()
    tiles = tiles_of(path, 1)
    with path.open("r+b") as file:
        file.truncate(tiles.heap + 100)
    assert tiles.read(whole()) is None


@pytest.mark.parametrize("card", ["ZTILE1", "ZNAXIS1", "NAXIS2", "ZCMPTYPE", "ZVAL1", "ZQUANTIZ"])
def test_cards_that_cannot_be_are_left_to_astropy(compressed, card):
    path = compressed(method=1)
    text = path.read_bytes()
    place = text.index(f"{card:<8}= ".encode(), 2880) + 10
    path.write_bytes(text[:place] + b"'absurd'            " + text[place + 20 :])
    try:
        assert tiles_of(path, 1) is None
    except (OSError, TypeError, ValueError) as error:  # astropy cannot open it either
        with pytest.raises(type(error)):
            fits.getdata(path)
