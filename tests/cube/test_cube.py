"""Cubes of every make, written here with astropy, and the real ones where they are at hand."""

from __future__ import annotations

import copy
import gzip
import hashlib
import itertools
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beam

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.reading import read_cube
from napari_almadet.cube.storage import Lazy

# A user sees no warning of astropy's and no file stays open: what matters is in the notes.
pytestmark = [
    pytest.mark.filterwarnings(f"error::{category}")
    for category in (
        "astropy.utils.exceptions.AstropyWarning",
        "RuntimeWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
]

REST = 230.538e9
AXES = {
    "RA---SIN": {"CRVAL": 150.0, "CDELT": -1e-4, "CRPIX": 3.0, "CUNIT": "deg"},
    "DEC--SIN": {"CRVAL": -35.0, "CDELT": 2e-4, "CRPIX": 2.0, "CUNIT": "deg"},
    "FREQ": {"CRVAL": 230.0e9, "CDELT": 1e7, "CRPIX": 2.0, "CUNIT": "Hz"},
    "STOKES": {"CRVAL": 1.0, "CDELT": 1.0, "CRPIX": 1.0},
}
USUAL = ("RA---SIN", "DEC--SIN", "FREQ")
SHAPE = (4, 5, 6)  # channel, y, x


def numbers(shape=SHAPE, dtype=np.float32) -> np.ndarray:
    """Every voxel its own number, none of them zero."""
    return np.arange(1, 1 + np.prod(shape), dtype=dtype).reshape(shape)


def header_of(axes=USUAL, **cards) -> fits.Header:
    """Header with the axes in this order; ``cards`` replace or, with None, remove."""
    header = fits.Header({"BUNIT": "Jy/beam", "RESTFRQ": REST, "BMAJ": 8e-4, "BMIN": 6e-4, "BPA": 30.0})
    for i, kind in enumerate(axes, 1):
        header[f"CTYPE{i}"] = kind
        for key, value in AXES[kind].items():
            header[f"{key}{i}"] = value
    for key, value in cards.items():
        if value is None:
            header.remove(key, ignore_missing=True)
        else:
            header[key] = value
    return header


@pytest.fixture
def write(tmp_path):
    """Write a FITS file, return its path."""

    def write(data=None, name="cube.fits", axes=USUAL, extra=(), **cards):
        data = numbers() if data is None else data
        primary = fits.PrimaryHDU(data, header_of(axes, **cards))
        fits.HDUList([primary, *extra]).writeto(tmp_path / name, output_verify="ignore")
        return tmp_path / name

    return write


# --- Axes ---


@pytest.mark.parametrize("axes", list(itertools.permutations(AXES)))
def test_axes_are_found_by_type_in_any_order(write, axes):
    sizes = {"FREQ": 4, "DEC--SIN": 5, "RA---SIN": 6, "STOKES": 2}
    data = numbers((4, 5, 6, 2))
    in_file = data.transpose([list(sizes).index(kind) for kind in reversed(axes)])
    path = write(in_file, axes=axes)
    cube = read_cube(path)
    np.testing.assert_array_equal(cube.data, data[..., 0])
    assert "Polarisation taken: Stokes I, one of the 2 in the file." in cube.notes
    assert cube.wcs.array_shape == cube.shape == (4, 5, 6)

    # astropy's own WCS of the whole file gives the same place on the sky
    world = WCS(fits.getheader(path)).wcs_pix2world([[{"RA---SIN": 4, "DEC--SIN": 1}.get(k, 0) for k in axes]], 0)[0]
    sky = cube.sky(4, 1)
    np.testing.assert_allclose([sky.ra.deg, sky.dec.deg], [world[axes.index(k)] for k in USUAL[:2]], rtol=1e-12)
    assert cube.frequency(1).value == pytest.approx(230.0e9)


@pytest.mark.parametrize(
    ("first", "step", "n", "plane", "said"),
    [
        (1, 1, 1, 0, "Stokes I, the only one"),
        (1, 1, 4, 0, "Stokes I, one of the 4"),
        (4, -1, 4, 3, "Stokes I, one of the 4"),
        (2, 1, 2, 0, "Stokes Q, one of the 2"),
        (-5, -1, 2, 0, "XX, one of the 2"),
        (77, 1, 1, 0, "code 77 (STOKES), the only one"),
    ],
)
def test_stokes_i_is_taken_where_there_is_one(write, first, step, n, plane, said):
    data = numbers((n, *SHAPE))
    cube = read_cube(write(data, axes=(*USUAL, "STOKES"), CRVAL4=first, CDELT4=step))
    np.testing.assert_array_equal(cube.data, data[plane])
    assert f"Polarisation taken: {said} in the file." in cube.notes


def test_an_unknown_fourth_axis_gives_its_first_plane(write):
    data = numbers((3, *SHAPE))
    cube = read_cube(write(data, CTYPE4="BEAM", CRVAL4=1.0, CDELT4=1.0, CRPIX4=1.0))
    np.testing.assert_array_equal(cube.data, data[0])
    assert "Axis 4 (BEAM) has 3 planes; the first is used." in cube.notes


def test_a_header_may_describe_more_axes_than_there_are(write):
    cube = read_cube(write(CTYPE4="STOKES", CRVAL4=1.0, CDELT4=1.0, CRPIX4=1.0, WCSAXES=4))
    assert cube.shape == SHAPE
    assert cube.wcs.naxis == 3


def test_without_sky_the_two_image_axes_keep_their_order(write):
    cube = read_cube(write(CTYPE1="OFFSET", CTYPE2="SLIT", CUNIT1="arcsec", CUNIT2="arcsec"))
    np.testing.assert_array_equal(cube.data, numbers())
    assert (cube.sky(1, 1), cube.pixel_scale, cube.beam_area, cube.celestial_header()) == (None,) * 4
    assert cube.frequency(1).value == pytest.approx(230.0e9)


def test_the_first_image_of_three_axes_is_taken(tmp_path):
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((5, 6)), name="PREVIEW"),
        fits.ImageHDU(numbers(), header_of(), name="DATA"),
        fits.ImageHDU(-numbers(), header_of(), name="STAT"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "muse.fits")
    cube = read_cube(tmp_path / "muse.fits")
    np.testing.assert_array_equal(cube.data, numbers())
    assert cube.notes == (
        "The file holds 2 images of three or more axes; the first is used (DATA). "
        "To open another, append its name to the file name: [DATA], [STAT].",
    )
    for name in ("STAT", "3", "stat,1"):
        other = read_cube(f"{tmp_path}/muse.fits[{name}]")
        np.testing.assert_array_equal(other.data, -numbers())
        assert (other.name, other.notes) == (f"muse[{name}]", ())
        assert read_cube(other.address).address == other.address
    for name, reason in (
        ("ERR", r"has no \[ERR\]; its images of three or more axes: \[DATA\], \[STAT\]"),
        ("1", "no image"),
    ):
        with pytest.raises(CubeError, match=reason):
            read_cube(f"{tmp_path}/muse.fits[{name}]")


def test_brackets_may_be_part_of_a_file_s_name(write):
    assert read_cube(write(name="cube.fits[2]")).hdu is None


# --- Data ---


def test_read_makes_numbers_to_compute_with(write):
    cube = read_cube(write())
    assert isinstance(cube.data, Lazy)
    with pytest.raises(TypeError):
        cube.data[0, 0, 0] = 1
    part = cube.read(slice(1, 3), 2, slice(None, None, 2))
    assert part.dtype == np.dtype("=f4")
    assert part.dtype.isnative
    np.testing.assert_array_equal(part, numbers()[1:3, 2, ::2])
    part[:] = 0  # a copy
    np.testing.assert_array_equal(cube.read(), numbers())
    assert cube.read(1, 2, 3) == numbers()[1, 2, 3]


def test_a_file_larger_than_memory_opens_at_once(tmp_path):
    """1.6 TB on paper, a few blocks on disk: only a plane may be touched."""
    header = header_of()
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3)]) + header
    for i, n in enumerate((2000, 1000, 200_000), 1):
        header[f"NAXIS{i}"] = n
    path = tmp_path / "huge.fits"
    text = header.tostring().encode()
    plane, middle = 2000 * 1000 * 4, 100_000
    with path.open("wb") as file:
        file.write(text)
        file.seek(len(text) + middle * plane)
        file.write(np.ones(plane // 4, ">f4").tobytes())
        try:
            file.truncate(len(text) + 200_000 * plane)
        except OSError:
            pytest.skip("the file system has no sparse files of this size")
    cube = read_cube(path)
    assert cube.shape == (200_000, 1000, 2000)
    assert cube.read(middle, 10, 10) == 1


@pytest.mark.parametrize("dtype", ["f8", "i2", "i4", "u1", "i8"])
def test_every_type_of_numbers(write, dtype):
    cube = read_cube(write(numbers(dtype=dtype)))
    assert cube.data.dtype == cube.data[0].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(cube.read(), numbers())


def test_scaled_integers_and_blank(write):
    raw = numbers(dtype=np.int16)
    raw[2, 3, 4] = -32768
    path = write(raw, BLANK=-32768)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(BSCALE=0.25, BZERO=-7.0)
    cube = read_cube(path)
    expected = numbers() * 0.25 - 7
    expected[2, 3, 4] = np.nan
    np.testing.assert_array_equal(cube.read(), expected)
    np.testing.assert_array_equal(cube.data, expected)


def test_blank_alone_and_unsigned_integers(write):
    raw = numbers(dtype=np.int32)
    raw[0, 0, 0] = -1
    cube = read_cube(write(raw, BLANK=-1))
    assert np.isnan(cube.read()[0, 0, 0])
    assert np.isnan(cube.read()).sum() == 1
    unsigned = numbers(dtype=np.uint16) + np.uint16(40000)
    np.testing.assert_array_equal(read_cube(write(unsigned, name="u.fits")).read(), unsigned)


def test_blank_on_floats_means_nothing(write):
    cube = read_cube(write(BLANK=1))
    np.testing.assert_array_equal(cube.read(), numbers())
    assert "BLANK was ignored: it has no meaning for floating-point values." in cube.notes


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.fz"])
def test_compressed_files(tmp_path, suffix):
    data = numbers((2, *SHAPE))
    header = header_of((*USUAL, "STOKES"))
    path = tmp_path / f"a.b{suffix}"
    if suffix.endswith("gz"):
        fits.writeto(path, data, header)
    else:
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type="GZIP_1")]).writeto(path)
    cube = read_cube(path)
    np.testing.assert_array_equal(cube.read(), data[0])
    assert cube.name == "a.b"
    assert any("uncompressed copy" in note for note in cube.notes) == suffix.endswith("gz")


@pytest.mark.parametrize("mark", [np.finfo("f4").max, 1e30, -1e35])
def test_one_huge_voxel_is_no_data(write, mark):
    data = numbers()
    data[2, 3, 4] = mark
    cube = read_cube(write(data))
    assert not cube.has_huge_values
    part = cube.read()
    assert np.isnan(part[2, 3, 4])
    assert np.isnan(part).sum() == 1
    assert cube.has_huge_values


def test_many_huge_voxels_are_no_data_and_a_small_unit_is_none(write):
    data = numbers()
    data[:, :4] = 1e30
    assert np.isnan(read_cube(write(data, name="a.fits")).read()).sum() == data[:, :4].size
    luminosities = numbers() * np.float32(1e28)
    np.testing.assert_array_equal(read_cube(write(luminosities, name="b.fits")).read(), luminosities)


def noise_with(sources=(), fwhm=4.0, seed=2):
    """Noise of 1e-3 on 6 channels of 40 x 40 pixels, with point sources (channel, y, x, peak) of this beam."""
    planes = np.random.default_rng(seed).normal(scale=1e-3, size=(6, 40, 40))
    y, x = np.mgrid[:40, :40]
    for channel, y0, x0, peak in sources:
        planes[channel] += peak * np.exp(-4 * np.log(2) * ((y - y0) ** 2 + (x - x0) ** 2) / fwhm**2)
    return planes.astype(np.float32)


SQUARE = {"CDELT1": -1e-4, "CDELT2": 1e-4, "BMAJ": 4e-4, "BMIN": 4e-4}


@pytest.mark.parametrize("value", [1e12, 1e6, -1e6, 100.0])
@pytest.mark.parametrize("place", [(3, 20, 20), (0, 0, 39), (5, 7, 0)])
def test_a_single_voxel_far_above_the_noise_is_no_data(write, value, place):
    data = noise_with([(3, 10, 10, 1.0)])
    data[place] = value
    cube = read_cube(write(data, **SQUARE))
    expected = data.copy()
    expected[place] = np.nan
    for index in (np.s_[:, :, :], np.s_[place[0], :, place[2]], np.s_[:, [place[1], 12], [place[2], 13]], place):
        np.testing.assert_array_equal(read_cube(cube.path).read(*index), expected[index])
    cube.read()
    assert cube.spikes == ([] if abs(value) > 1e10 else [place])
    assert cube.has_huge_values == (abs(value) > 1e10)


@pytest.mark.parametrize("fwhm", [2.0, 4.0])
@pytest.mark.parametrize(("y", "x"), [(20, 20), (20.5, 20.5), (0, 39), (7.3, 0)])
def test_no_source_however_bright_is_taken_for_a_spike(write, fwhm, y, x):
    data = noise_with([(3, y, x, 1e4)], fwhm=fwhm)  # 1e7 times the noise
    data[2:5, :, :2] = np.nan
    cube = read_cube(write(data, **(SQUARE | {"BMAJ": fwhm * 1e-4, "BMIN": fwhm * 1e-4})))
    np.testing.assert_array_equal(cube.read(), data)
    for channel in range(6):
        np.testing.assert_array_equal(cube.read(channel, slice(18, 23), slice(19, 22)), data[channel, 18:23, 19:22])
    assert cube.spikes == []


def test_single_voxels_of_sky_models_and_of_cubes_without_a_beam_are_data(write):
    data = noise_with()
    data[3, 20, 20] = 1e3
    without = dict.fromkeys(("BMAJ", "BMIN", "BPA"))
    for i, cards in enumerate([SQUARE | {"BUNIT": "Jy/pixel"}, SQUARE | without]):
        np.testing.assert_array_equal(read_cube(write(data, name=f"{i}.fits", **cards)).read(), data)


def test_a_model_without_noise_keeps_all_its_voxels(write):
    y, x = np.mgrid[:40, :40] - 20
    line = np.exp(-(np.arange(-3.0, 3.0) ** 2))
    data = (1e6 * line[:, None, None] * np.exp(-(y**2 + x**2) / 6)).astype(np.float32)
    assert data.max() > 1e30 * data[data > 0].min()
    np.testing.assert_array_equal(read_cube(write(data, **SQUARE)).read()[data > 0], data[data > 0])


def test_infinite_and_overflowing_values_are_no_data(write):
    data = numbers(dtype=np.float64)
    data[0, 0, 0], data[1, 1, 1], data[2, 2, 2] = np.inf, 1e300, np.nan
    part = read_cube(write(data)).read()
    assert np.isnan(part[[0, 1, 2], [0, 1, 2], [0, 1, 2]]).all()
    assert np.isnan(part).sum() == 3


class TestBlankBorder:
    data = numbers()
    data[:, 0] = 0  # outside the primary beam
    data[1, 2, 3] = 0  # happens to be zero once

    def test_pixels_zero_in_every_channel_are_no_data(self, write):
        cube = read_cube(write(self.data))
        assert np.isnan(cube.read()[:, 0]).all()
        assert cube.read(1, 2, 3) == 0
        assert np.isnan(cube.read(1, 0, 3))
        assert np.isnan(cube.read(slice(0, 2), slice(0, 2), [1, 4])).sum() == 4
        assert np.isnan(cube.read(2, [0, 1, 2], [3, 3, 3])).tolist() == [True, False, False]
        assert cube.data[0, 0, 0] == 0  # the view is the file's

    def test_a_cube_without_them_has_no_mask(self, write):
        assert read_cube(write()).blank is None

    @staticmethod
    def compressed(path, n_channels, method, tile=None):
        """A cube of noise with zeros around a circle, compressed with loss, and the mask of its zeros."""
        data = np.random.default_rng(4).normal(size=(n_channels, 30, 40)).astype("f4")
        y, x = np.mgrid[:30, :40]
        empty = np.hypot(y - 14, x - 20) > 12
        data[:, empty] = 0
        image = fits.CompImageHDU(
            data,
            header_of(),
            compression_type="RICE_1",
            quantize_level=4,
            quantize_method=method,
            dither_seed=7,
            tile_shape=tile,
        )
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, overwrite=True)
        return read_cube(path), empty

    @pytest.mark.parametrize("tile", [None, (1, 8, 16), (3, 30, 40)])
    @pytest.mark.parametrize("method", [1, 2])
    def test_zeros_that_compression_has_dithered_are_no_data_either(self, tmp_path, method, tile):
        cube, empty = self.compressed(tmp_path / "a.fits.fz", 9, method, tile)
        assert bool(np.any(cube.data[:][:, empty])) == (method == 1)  # zeros are lost in SUBTRACTIVE_DITHER_1 only
        np.testing.assert_array_equal(cube.blank, empty)
        np.testing.assert_array_equal(np.isnan(cube.read()), np.broadcast_to(empty, cube.shape))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).blank, empty)
        assert any("SUBTRACTIVE_DITHER_1" in note for note in cube.notes) == (method == 1)

    def test_dithered_zeros_of_few_channels_are_said_to_be_lost(self, tmp_path):
        cube, _ = self.compressed(tmp_path / "a.fits.fz", 5, 1)
        assert cube.blank is None
        (note,) = (note for note in cube.notes if "SUBTRACTIVE_DITHER_1" in note)
        assert "with 5 channels, zeros that mean no data cannot be distinguished from data" in note

    def test_zero_is_a_value_in_a_sky_model_and_in_memory(self, write):
        np.testing.assert_array_equal(read_cube(write(self.data, BUNIT="Jy/pixel")).read(), self.data)
        np.testing.assert_array_equal(Cube.from_array(self.data).read(), self.data)


# --- Spectral axes ---

V = np.array([1.2e6, 1.21e6, 1.22e6, 1.23e6]) * u.m / u.s
FREQUENCIES = 230e9 * u.Hz + np.arange(4) * 1e7 * u.Hz


def along(first, step, unit):
    return {"CRVAL3": first, "CDELT3": step, "CRPIX3": 1.0, "CUNIT3": unit}


VELOCITY = along(1.2e6, 1e4, "m/s")
REST_Q = REST * u.Hz


@pytest.mark.parametrize(
    ("kind", "cards", "expected"),
    [
        ("FREQ", along(230e9, 1e7, "Hz"), FREQUENCIES),
        ("FREQ", along(230.0, 0.01, "GHz"), FREQUENCIES),
        ("FREQ", along(230000.0, 10.0, "MHZ"), FREQUENCIES),
        ("FREQ", along(230e9, 1e7, None), FREQUENCIES),
        ("freq", along(230e9, 1e7, "HZ"), FREQUENCIES),
        ("FREQUENCY", along(230e9, 1e7, "hz"), FREQUENCIES),
        ("FREQ-LSR", along(230e9, 1e7, "Hz"), FREQUENCIES),
        ("FREQ-OHEL", along(230.0, 0.01, "GHZ"), FREQUENCIES),
        ("VRAD", VELOCITY, V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VRAD", along(1200.0, 10.0, "km/s"), V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VRAD", along(1200.0, 10.0, "KM/S"), V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VRAD", along(1200.0, 10.0, "km/sec"), V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VRAD", along(1.2e6, 1e4, "M/S"), V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VRAD", along(1.2e6, 1e4, "M S-1"), V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VRAD", along(1.2e6, 1e4, "furlong"), V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("VOPT", VELOCITY, V.to(u.Hz, u.doppler_optical(REST_Q))),
        ("VELO", VELOCITY, V.to(u.Hz, u.doppler_relativistic(REST_Q))),
        ("VELOCITY", VELOCITY, V.to(u.Hz, u.doppler_relativistic(REST_Q))),
        ("VELO-HEL", VELOCITY, V.to(u.Hz, u.doppler_optical(REST_Q))),
        ("VELO-LSR", VELOCITY | {"VELREF": 257}, V.to(u.Hz, u.doppler_radio(REST_Q))),
        ("WAVE", along(1.30e-3, 1e-6, "m"), (np.array([1.300, 1.301, 1.302, 1.303]) * u.mm).to(u.Hz, u.spectral())),
        ("WAVE", along(1300.0, 1.0, "micron"), (np.array([1300, 1301, 1302, 1303.0]) * u.um).to(u.Hz, u.spectral())),
        ("ZOPT", along(0.5, 0.01, None), REST_Q / (1.5 + 0.01 * np.arange(4))),
    ],
)
def test_spectral_axes_agree_with_astropy_units(write, kind, cards, expected):
    cube = read_cube(write(CTYPE3=kind, **{"CUNIT3": None} | cards))
    radio = expected.to(u.km / u.s, u.doppler_radio(REST_Q))
    np.testing.assert_allclose(cube.frequency(np.arange(4)).to_value("Hz"), expected.value, rtol=1e-12)
    np.testing.assert_allclose(cube.velocity(np.arange(4)).to_value("km/s"), radio.value, rtol=1e-9)
    np.testing.assert_allclose(cube.spectral_axis("GHz").value, expected.to_value("GHz"), rtol=1e-12)
    np.testing.assert_allclose(cube.spectral_axis("m/s").value, radio.to_value("m/s"), rtol=1e-9)
    wavelength = expected.to_value("mm", u.spectral())
    np.testing.assert_allclose(cube.spectral_axis(u.mm).value, wavelength, rtol=1e-12)
    # between channels, and as a scalar
    middle = cube.frequency(1.5)
    assert middle.shape == ()
    assert expected[1:3].min() < middle < expected[1:3].max()


def test_velocities_uniform_in_frequency(write):
    """AIPS' FELO: steps equal in frequency, written as optical velocity at the reference channel."""
    cube = read_cube(write(CTYPE3="FELO-HEL", **VELOCITY))
    frequency = cube.frequency(np.arange(4))
    np.testing.assert_allclose(np.diff(frequency.value, 2), 0, atol=1)
    assert frequency[0].to_value("km/s", u.doppler_optical(REST_Q)) == pytest.approx(1200)
    step = np.gradient(cube.spectral_axis().to_value("m/s"), 0.01 + 0.99)[0]
    assert step == pytest.approx(1e4, rel=1e-3)


def test_the_native_axis_stays_what_it_is(write):
    np.testing.assert_allclose(read_cube(write(CTYPE3="VOPT", **VELOCITY)).spectral_axis().to_value("m/s"), V.value)


def test_air_wavelengths_are_corrected(write):
    """In air at 1 um, 1.000274 times shorter (Ciddor 1996)."""
    cube = read_cube(write(CTYPE3="AWAV", **along(1.0, 0.01, "um")))
    assert cube.spectral_axis("um")[0].value == pytest.approx(1.000274, abs=1e-6)


@pytest.mark.parametrize("kind", ["FREQ", "WAVE"])
def test_without_rest_frequency_there_is_no_velocity(write, kind):
    cards = {} if kind == "FREQ" else along(1.3e-3, 1e-6, "m")
    cube = read_cube(write(CTYPE3=kind, RESTFRQ=None, **cards))
    assert cube.rest_frequency is None
    assert cube.velocity([0, 1]) is None
    assert cube.frequency(0) is not None
    with pytest.raises(CubeError, match=r"cube: the \w{4} axis cannot be given in km / s.*RESTFRQ"):
        cube.spectral_axis("km/s")


@pytest.mark.parametrize(
    ("kind", "convention"),
    [("VRAD", u.doppler_radio), ("VOPT", u.doppler_optical), ("VELO", u.doppler_relativistic)],
)
def test_between_velocities_no_rest_frequency_is_needed(write, kind, convention):
    cube = read_cube(write(CTYPE3=kind, RESTFRQ=None, **VELOCITY))
    assert cube.frequency(0) is None
    any_rest = 1 * u.GHz
    radio = V.to(u.Hz, convention(any_rest)).to(u.km / u.s, u.doppler_radio(any_rest))
    np.testing.assert_allclose(cube.velocity(np.arange(4)).value, radio.value, rtol=1e-12)


@pytest.mark.parametrize("kind", ["FELO-HEL", "VOPT-F2W"])
def test_felo_without_rest_frequency_is_taken_as_linear(write, kind):
    cube = read_cube(write(CTYPE3=kind, RESTFRQ=None, **VELOCITY))
    np.testing.assert_allclose(cube.spectral_axis().to_value("m/s"), V.value)
    assert any("linear VOPT" in note for note in cube.notes)


LIGHT = constants.c.value
LOGARITHMIC = [  # type, CRVAL3, CDELT3, unit, and the frequency of its values
    ("FREQ", 230e9, 1e9, "Hz", lambda v: v),
    ("WAVE", 1.3e-3, 1e-5, "m", lambda v: LIGHT / v),
    ("VRAD", 1.2e6, 1e5, "m/s", lambda v: REST * (1 - v / LIGHT)),
    ("VOPT", 1.2e6, 1e5, "m/s", lambda v: REST / (1 + v / LIGHT)),
    ("ZOPT", 0.004, 5e-4, None, lambda z: REST / (1 + z)),
    ("VELO", 1.2e6, 1e5, "m/s", lambda v: REST * np.sqrt((LIGHT - v) / (LIGHT + v))),
]


@pytest.mark.parametrize(("kind", "value", "step", "unit", "frequency"), LOGARITHMIC)
def test_a_logarithmic_axis_has_frequencies_and_velocities(write, kind, value, step, unit, frequency):
    cube = read_cube(write(CTYPE3=f"{kind}-LOG", **along(value, step, unit)))
    own = value * np.exp(step * np.arange(4) / value)  # FITS paper III, eq. 5
    np.testing.assert_allclose(cube.spectral_axis().value, own, rtol=1e-12)
    expected = frequency(own)
    np.testing.assert_allclose(cube.frequency(np.arange(4)).to_value("Hz"), expected, rtol=1e-12)
    np.testing.assert_allclose(cube.velocity(np.arange(4)).to_value("m/s"), LIGHT * (1 - expected / REST), atol=1e-3)
    np.testing.assert_allclose(
        cube.coordinate("VOPT", 2.5 * np.ones(1)).value,
        LIGHT * (REST / frequency(value * np.exp(step * 2.5 / value)) - 1),
        atol=1e-3,
    )


@pytest.mark.parametrize("kind", ["FREQ", "WAVE"])
def test_a_logarithmic_axis_without_rest_frequency_has_no_velocities(write, kind):
    cards = along(230e9, 1e7, "Hz") if kind == "FREQ" else along(1.3e-3, 1e-5, "m")
    cube = read_cube(write(CTYPE3=f"{kind}-LOG", RESTFRQ=None, **cards))
    assert cube.frequency(0) is not None
    assert cube.velocity(0) is None


def test_the_rest_frequency_is_judged_by_a_logarithmic_band(write):
    cube = read_cube(write(CTYPE3="FREQ-LOG", RESTFRQ=230.538, **along(230e9, 1e9, "Hz")))
    assert cube.rest_frequency.to_value("Hz") == 230.538e9
    assert any("230.538 GHz" in note for note in cube.notes)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"RESTFREQ": 115e9}, 115e9),
        ({"RESTWAV": 1e-3}, constants.c.value / 1e-3),
        ({"FREQ0": 1.42e9}, 1.42e9),
        ({"RESTFREQ": 0.0, "FREQ0": 1.42e9}, 1.42e9),
        ({"RESTFREQ": -1.0}, None),
        ({"RESTFRQ": "unknown"}, None),
    ],
)
def test_rest_frequency(write, cards, expected):
    rest = read_cube(write(**{"RESTFRQ": None} | cards)).rest_frequency
    assert rest is None if expected is None else rest.to_value("Hz") == pytest.approx(expected)


def test_a_spectral_axis_has_no_values_in_kelvin(write):
    with pytest.raises(CubeError, match="cannot be given in K"):
        read_cube(write()).spectral_axis("K")


def test_the_velocity_frame_is_kept(write):
    assert read_cube(write(SPECSYS="LSRK")).wcs.wcs.specsys == "LSRK"
    cube = read_cube(write(name="b.fits", CTYPE3="VELO-HEL", **VELOCITY))
    assert cube.wcs.wcs.specsys == "BARYCENT"
    (note,) = (note for note in cube.notes if "VELO-HEL was read as VOPT BARYCENT, since no VELREF" in note)
    assert note.endswith("; if it is radio velocity, set CTYPE3 to VRAD and SPECSYS to BARYCENT.")
    known = read_cube(write(name="c.fits", **{**VELOCITY, "CTYPE3": "VRAD", "SPECSYS": "BARYCENT"}))  # as advised
    assert known.wcs.wcs.ctype[2] == "VRAD" and known.wcs.wcs.specsys == "BARYCENT"


def test_a_file_that_does_not_exist_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CubeError) as raised:
        read_cube("nothing.fits")
    assert str(raised.value) == f"nothing.fits does not exist: no file {tmp_path / 'nothing.fits'}."


# --- Sky ---

SKIES = [
    {},
    {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR", "CRVAL2": 0.0},
    {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "PC1_2": 0.5, "PC2_1": -0.5, "PC1_1": 0.8, "PC2_2": 0.8},
    {"EQUINOX": 1950.0},
    {"RADESYS": "ICRS"},
    {"CROTA2": 25.0},
    {"CRVAL1": -51.3, "CRPIX1": 1150.0},
    {"CTYPE1": "RA---NCP", "CTYPE2": "DEC--NCP", "CROTA2": 10.0},
]


@pytest.mark.parametrize("cards", SKIES)
def test_sky_agrees_with_the_file_and_comes_back(write, cards):
    path = write(**cards)
    cube = read_cube(path)
    x, y = np.array([0.0, 2.5, 5.0]), np.array([4.0, 0.0, 1.25])
    sky = cube.sky(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy's word on the NCP
        theirs = WCS(fits.getheader(path)).celestial.pixel_to_world(x, y)
    assert sky.frame.name == theirs.frame.name
    assert sky.separation(theirs).max() < 1e-9 * u.arcsec
    np.testing.assert_allclose(cube.wcs.celestial.world_to_pixel(sky), [x, y], atol=1e-5)  # wcslib iterates

    header = cube.celestial_header()
    again = WCS(header)
    assert again.naxis == 2
    assert again.pixel_to_world(x, y).separation(sky).max() < 1e-5 * u.arcsec
    fits.PrimaryHDU(np.zeros(cube.shape[1:], np.float32), header).verify("exception")


def test_the_north_celestial_projection(write):
    """SIN as seen from the pole, by its definition (Calabretta & Greisen 2002, sec. 6.1.1 and AIPS memo 27)."""
    cube = read_cube(write(CTYPE1="RA---NCP", CTYPE2="DEC--NCP", CRVAL2=60.0))
    sky = cube.sky(5, 3)
    l_, m = np.radians([-1e-4 * (5 - 2), 2e-4 * (3 - 1)])
    d0, dra = np.radians(60), sky.ra.rad - np.radians(150)
    assert np.cos(sky.dec.rad) * np.sin(dra) == pytest.approx(l_, abs=1e-12)
    assert (np.cos(d0) - np.cos(sky.dec.rad) * np.cos(dra)) / np.sin(d0) == pytest.approx(m, abs=1e-12)


@pytest.mark.parametrize(
    ("written", "frame"), [("J2000", "fk5"), ("B1950", "fk4"), ("icrs", "icrs"), ("GAPPT", "fk5"), ("", "fk5")]
)
def test_odd_sky_frames(write, written, frame):
    equinox = 1950.0 if written == "B1950" else 2000.0
    assert read_cube(write(RADESYS=written, EQUINOX=equinox)).sky(0, 0).frame.name == frame


def test_pixel_scale_and_beam_area(write):
    cube = read_cube(write())
    assert cube.pixel_scale.to_value("arcsec") == pytest.approx(3600 * np.sqrt(1e-4 * 2e-4))
    # the integral of the beam's Gaussian over pixels
    y, x = np.mgrid[-30:31, -30:31] * np.array([2e-4, 1e-4])[:, None, None]
    pa = np.radians(30)
    major, minor = y * np.cos(pa) + x * np.sin(pa), x * np.cos(pa) - y * np.sin(pa)
    beam = np.exp(-4 * np.log(2) * ((major / 8e-4) ** 2 + (minor / 6e-4) ** 2))
    assert cube.beam_area == pytest.approx(beam.sum(), rel=1e-3)
    assert cube.beam == Beam(8e-4 * u.deg, 6e-4 * u.deg, 30 * u.deg)


# --- Beams and units ---


@pytest.mark.parametrize(
    "cards",
    [{"BMAJ": None}, {"BMAJ": -1.0, "BMIN": -1.0}, {"BMAJ": 0.0, "BMIN": 0.0}, {"BMIN": -1.0}, {"BMAJ": "unknown"}],
)
def test_no_beam(write, cards):
    cube = read_cube(write(**cards))
    assert (cube.beams, cube.beam, cube.beam_area) == (None, None, None)
    assert "The file gives no beam." in cube.notes


def test_beam_with_axes_swapped_is_not_trusted(write):
    cube = read_cube(write(BMAJ=1e-4, BMIN=2e-4))
    assert cube.beam is None
    assert any("beam was ignored" in note for note in cube.notes)


def test_circular_beam_and_aips_history(write):
    assert read_cube(write(BMIN=None, BPA=None)).beam == Beam(8e-4 * u.deg)
    history = "AIPS   CLEAN BMAJ=  1.7599E-03 BMIN=  1.5740E-03 BPA=   2.61"
    cube = read_cube(write(name="aips.fits", BMAJ=None, HISTORY=history))
    assert cube.beam.major.to_value("deg") == pytest.approx(1.7599e-3)


def beam_table(rows=4, unit="arcsec", polarisations=1, order=1, **replaced):
    """CASA's BEAMS table: major axes 2, 3, 4 ... by channel."""
    channel = np.tile(np.arange(rows), polarisations)[::order]
    columns = {
        "BMAJ": 2.0 + channel,
        "BMIN": np.full(channel.size, 1.0),
        "BPA": np.linspace(-90, 90, channel.size),
        "CHAN": channel,
        "POL": np.repeat(np.arange(polarisations), rows)[::order],
    } | replaced
    columns["BMAJ"] = columns["BMAJ"] + 100.0 * columns["POL"]
    units = {"BMAJ": unit, "BMIN": unit, "BPA": "deg"}
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(k, "E" if k[0] == "B" else "J", units.get(k), array=v) for k, v in columns.items()], name="BEAMS"
    )
    return hdu


@pytest.mark.parametrize(
    "table", [beam_table(), beam_table(order=-1), beam_table(unit=None), beam_table(unit="ARCSEC")]
)
def test_beam_table(write, table):
    other = fits.BinTableHDU.from_columns([fits.Column("A", "E", array=[1.0])])
    cube = read_cube(write(extra=[other, table]))
    np.testing.assert_allclose(cube.beams.major.to_value("arcsec"), [2, 3, 4, 5])
    assert cube.beam.major.to_value("arcsec") in (3, 4)
    assert cube.beam.isscalar


def test_beam_table_of_two_polarisations(write):
    data = numbers((2, *SHAPE))  # Q, I: the second is taken, and its beams
    path = write(data, axes=(*USUAL, "STOKES"), CRVAL4=2.0, CDELT4=-1.0, extra=[beam_table(polarisations=2)])
    np.testing.assert_allclose(read_cube(path).beams.major.to_value("arcsec"), [102, 103, 104, 105])


def test_median_beam_passes_over_channels_without_one(write):
    table = beam_table(BMAJ=np.array([0, 0, np.nan, 5.0]), BMIN=np.array([0, 0, np.nan, 1.0]))
    assert read_cube(write(extra=[table])).beam.major.to_value("arcsec") == 5


def test_beam_table_that_does_not_fit_is_ignored(write):
    cube = read_cube(write(extra=[beam_table(rows=3)]))
    assert cube.beam == Beam(8e-4 * u.deg, 6e-4 * u.deg, 30 * u.deg)
    assert "The beam table was ignored: it has 3 beams for 4 channels." in cube.notes


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("Jy/beam", u.Jy / u.beam),
        ("JY/BEAM", u.Jy / u.beam),
        ("Jy beam-1", u.Jy / u.beam),
        ("JY BEAM-1", u.Jy / u.beam),
        ("Jy/Beam", u.Jy / u.beam),
        ("mJy/beam", u.mJy / u.beam),
        ("K", u.K),
        ("K (Tmb)", u.K),
        ("KELVIN", u.K),
        ("JY/PIXEL", u.Jy / u.pix),
        ("Jy/pixel", u.Jy / u.pix),
        ("W.U.", u.dimensionless_unscaled),
        ("MJY/BEAM", u.dimensionless_unscaled),  # milli or mega?
        ("", u.dimensionless_unscaled),
        (None, u.dimensionless_unscaled),
    ],
)
def test_brightness_units(write, written, unit):
    cube = read_cube(write(BUNIT=written))
    assert cube.unit == unit
    assert any("unit" in note for note in cube.notes) == (
        unit == 1 or written not in ("Jy/beam", "Jy beam-1", "mJy/beam", "K", "Jy/pixel")
    )


# --- Refusals ---


def missing(write, tmp_path):
    return tmp_path / "cube.fits"


def folder(write, tmp_path):
    (tmp_path / "cube.fits").mkdir()
    return tmp_path / "cube.fits"


def text(write, tmp_path):
    (tmp_path / "cube.fits").write_text("not a cube\n" * 1000)
    return tmp_path / "cube.fits"


def nothing(write, tmp_path):
    (tmp_path / "cube.fits").touch()
    return tmp_path / "cube.fits"


def no_image(write, tmp_path):
    fits.HDUList([fits.PrimaryHDU(), beam_table()]).writeto(tmp_path / "cube.fits")
    return tmp_path / "cube.fits"


def cut(write, tmp_path):
    path = write(numbers((40, 50, 60)))
    path.write_bytes(path.read_bytes()[:100_000])
    return path


def cut_header(write, tmp_path):
    path = write()
    path.write_bytes(path.read_bytes()[:1500])
    return path


def cut_gzip(write, tmp_path):
    noise = np.random.default_rng(0).normal(size=(40, 50, 60)).astype(np.float32)
    path = write(noise, name="cube.fits.gz")
    path.write_bytes(path.read_bytes()[:100_000])
    return path


def uv_data(write, tmp_path):
    groups = fits.GroupData(np.ones((10, 1, 1, 4, 3), np.float32), bitpix=-32, parnames=["UU"], pardata=[np.ones(10)])
    fits.HDUList([fits.GroupsHDU(groups)]).writeto(tmp_path / "cube.fits")
    return tmp_path / "cube.fits"


def made(data=None, **cards):
    return lambda write, tmp_path: write(data, **cards)


PATCHY = np.where(numbers() % 2, np.nan, 0).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (missing, "does not exist"),
        (folder, "is a folder, but not a CASA image"),
        (text, "cannot be read, it may be damaged or incomplete"),
        (nothing, "cannot be read, it may be damaged or incomplete"),
        (cut_header, "cannot be read, it may be damaged or incomplete"),
        (cut, "is truncated: it has 100000 of"),
        (cut_gzip, "is damaged or truncated and cannot be uncompressed"),
        (no_image, "holds no image"),
        (uv_data, "holds no image"),
        (made(numbers((5, 6))), "is a single plane: its image has two axes. A search needs two or"),
        (made(numbers((1, 5, 6))), "is a single plane: its spectral axis has one channel. A search needs two or more"),
        (made(numbers((4, 1, 5, 6)), axes=(*USUAL, "STOKES")), "is a single plane"),
        (made(CTYPE3="STOKES", CUNIT3=None), "has no spectral axis, only RA---SIN, DEC--SIN, STOKES"),
        (made(CTYPE3=None), "has no spectral axis, only RA---SIN, DEC--SIN, ?. If one of them is spectral"),
        (made(CTYPE1="", CTYPE2="", data=numbers((4, 5, 6, 7))), "has fewer than two image axes"),
        (made(CDELT3=0.0), "has invalid coordinates"),
        (made(np.zeros(SHAPE, np.float32)), "is empty: it contains nothing but zeros"),
        (made(np.full(SHAPE, np.nan, np.float32)), "is empty: it contains nothing but NaN"),
        (made(PATCHY), "is empty: it contains nothing but zeros and NaN"),
    ],
)
def test_refused_with_one_sentence(write, tmp_path, make, reason):
    path = make(write, tmp_path)
    with pytest.raises(CubeError) as error:
        read_cube(path)
    message = str(error.value)
    assert message.startswith(f"{path.name} {reason}")
    assert "\n" not in message


def test_one_value_in_the_last_channel_is_enough(write):
    data = np.zeros(SHAPE, np.float32)
    data[-1, -1, -1] = 1
    assert read_cube(write(data)).shape == SHAPE


def test_an_unpadded_file_is_whole(write):
    path = write()
    size = 2880 + 4 * np.prod(SHAPE)
    path.write_bytes(path.read_bytes()[: int(size)])
    np.testing.assert_array_equal(read_cube(path).read(), numbers())


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_header_never_gives_another_error(write, seed):
    rng = np.random.default_rng(seed)
    path = write(axes=(*USUAL, "STOKES"), data=numbers((1, *SHAPE)), extra=[beam_table()])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(15):
        damaged = whole.copy()
        where = rng.integers(0, len(damaged), 8)
        damaged[where] = rng.integers(32, 127, 8)
        path.write_bytes(damaged.tobytes())
        try:
            assert len(read_cube(path).shape) == 3
        except CubeError as error:
            assert str(error).startswith("cube.fits ")


# --- Arrays ---


def test_from_array():
    cube = Cube.from_array(numbers(), name="layer")
    assert cube.shape == SHAPE
    assert (cube.name, cube.path, cube.unit) == ("layer", None, u.dimensionless_unscaled)
    np.testing.assert_array_equal(cube.read(0, slice(2), 1), numbers()[0, :2, 1])
    nothing = (cube.wcs, cube.beam, cube.pixel_scale, cube.beam_area, cube.rest_frequency, cube.spectral_axis("Hz"))
    assert nothing == (None,) * 6
    assert (cube.frequency(1), cube.velocity(1), cube.sky(1, 1), cube.celestial_header()) == (None,) * 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.ones((4, 4)), "three axes"),
        (np.ones((2, 3, 4, 4)), "three axes"),
        ([1, 2, 3], "three axes"),
        (np.ones((2, 3, 4), complex), "real numbers"),
        (np.ones((2, 3, 4), bool), "real numbers"),
        (np.full((2, 3, 4), "a"), "real numbers"),
        (np.ones((0, 3, 4)), "no pixels"),
        (np.ones((1, 3, 4)), "single plane"),
    ],
)
def test_from_array_refuses(data, reason):
    with pytest.raises(CubeError, match=f"layer.*{reason}"):
        Cube.from_array(data, name="layer")


def test_sha256(write):
    path = write()
    assert read_cube(path).sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    data = numbers().transpose(0, 2, 1)  # not contiguous
    assert Cube.from_array(data).sha256() == hashlib.sha256(data.tobytes()).hexdigest()


def test_import_is_light():
    heavy = "torch", "spectral_cube", "radio_beam", "napari", "qtpy"
    code = f"import sys, napari_almadet.cube.cube; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_headers_beam_is_radio_beams_and_does_not_import_it(write):
    path = write(BMAJ=8e-4, BMIN=6e-4, BPA=30.0)
    code = "import sys, napari_almadet as n; n.read_cube(sys.argv[1]).beam_fwhm; print('radio_beam' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
    beam, same = read_cube(path).beam, Beam(8e-4 * u.deg, 6e-4 * u.deg, 30 * u.deg)
    assert beam == same == beam.radio_beam == copy.deepcopy(beam)
    assert beam != Beam(8e-4 * u.deg)
    assert beam != 3
    assert beam.sr.to_value("sr") == pytest.approx(same.sr.to_value("sr"), rel=1e-12)
    assert beam.to_value("arcsec2") == pytest.approx(same.to_value("arcsec2"), rel=1e-12)  # whatever that class can do
    assert not hasattr(beam, "nothing_of_this_name")


# --- Real cubes ---

FILES = {  # shape, unit, type of spectral axis, velocity (radio, km/s) of the first and last channel where known
    "real/alma_ngc4321_phangs_subset_filfinder.fits": (50, 50, 100),
    "real/alma_orionkl_methanol_acalib.fits": (41, 100, 100),
    "real/alma_sdc335_perplanebeam_carta.fits": (11, 21, 20),
    "real/carma_ngc4047_maskmoment.fits.gz": (44, 128, 128),
    "real/carma_ngc4324_kinms.fits": (21, 100, 100),
    "real/carma_ngc4710_makeplots.fits": (44, 129, 129),
    "real/vla_ngc2403_cutout_baygaud.fits": (74, 41, 41),
    "real/wsrt_ngc6946_int16_kapteyn.fits": (101, 100, 100),
    "real/wsrt_wein069_sliceastro.fits": (83, 70, 134),
    "real/quirks/alma_b5irs1_c18o_red_masked.fits": (38, 70, 70),
    "real/quirks/alma_m17swex_5chan_carta.fits": (5, 31, 31),
    "real/quirks/wsrt_dec_pol_freq_ra_kapteyn.fits": (17, 36, 30),
    "real/quirks/wsrt_manyaxes_kapteyn.fits": (10, 50, 50),
    "real/quirks/Pisco.cii.455kms.dirty.fits": "single plane",
    "real/quirks/alma_ngc7727_co10_galpak.fits": "nothing but zeros",
    "casa/calib_dirty.fits.fz": (128, 360, 360),
    "casa/psf720_230GHz.fits": "single plane",
}
# spectral_cube reads neither 'HZ' nor FREQ-OHEL.
KNOWN_TO_SPECTRAL_CUBE = [
    name
    for name, shape in FILES.items()
    if not isinstance(shape, str) and not any(odd in name for odd in ("wein069", "dec_pol", "manyaxes"))
]


@pytest.mark.parametrize("name", FILES)
def test_real_cube_opens_or_is_refused(shared_data, name):
    expected = FILES[name]
    if isinstance(expected, str):
        with pytest.raises(CubeError, match=expected):
            read_cube(shared_data / name)
        return
    cube = read_cube(shared_data / name)
    assert cube.shape == cube.wcs.array_shape == expected
    assert cube.read(slice(0, 3)).shape == (3, *expected[1:])
    assert np.isfinite(cube.read()).any()
    assert np.isfinite(cube.sky(expected[2] / 2, expected[1] / 2).ra)
    assert cube.pixel_scale > 0
    assert cube.spectral_axis().shape == expected[:1]
    assert all(note.endswith(".") for note in cube.notes)


def test_no_real_cube_is_forgotten(shared_data):
    there = {p.relative_to(shared_data).as_posix() for p in (shared_data / "real").rglob("*.fits*")}
    assert there == {name for name in FILES if name.startswith("real/")}


@pytest.mark.parametrize("name", KNOWN_TO_SPECTRAL_CUBE)
def test_real_cube_agrees_with_spectral_cube(shared_data, name):
    cube = read_cube(shared_data / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spectral_cube import SpectralCube

        theirs = SpectralCube.read(str(shared_data / name), format="fits", hdu=int(name.endswith("fz")))
        values = theirs.unmasked_data[0].value
        converted = {
            unit: theirs.with_spectral_unit(unit, velocity_convention="radio").spectral_axis
            for unit in ("km/s", "GHz")
            if cube.rest_frequency is not None and "FREQ0" not in cube.header
        }
        beam = getattr(theirs, "beam", None) if cube.beam is not None else None
        area = theirs.pixels_per_beam if beam is not None else None
    assert theirs.unit == cube.unit
    np.testing.assert_allclose(cube.data[0], values, rtol=1e-6)
    np.testing.assert_allclose(cube.spectral_axis().to(theirs.spectral_axis.unit), theirs.spectral_axis, rtol=1e-12)
    for unit, axis in converted.items():
        np.testing.assert_allclose(cube.spectral_axis(unit), axis, rtol=1e-9, atol=1e-9)
    if beam is not None:
        assert cube.beam == beam
        assert cube.beam_area == pytest.approx(area)


def test_real_galaxies_are_where_the_books_have_them(shared_data):
    """NED: position and heliocentric velocity."""
    for name, place, velocity in (
        ("carma_ngc4324_kinms.fits", SkyCoord("12h23m06.2s +05d15m02s"), 1665),
        ("carma_ngc4710_makeplots.fits", SkyCoord("12h49m38.8s +15d09m57s"), 1102),
        ("wsrt_ngc6946_int16_kapteyn.fits", SkyCoord("20h34m52.3s +60d09m14s"), 40),
        ("vla_ngc2403_cutout_baygaud.fits", SkyCoord("07h36m51.4s +65d36m09s"), 133),
    ):
        cube = read_cube(shared_data / "real" / name)
        y, x = np.array(cube.shape[1:]) // 2
        assert cube.sky(x, y).separation(place) < 2 * u.arcmin
        axis = cube.spectral_axis("km/s").value
        assert axis.min() < velocity < axis.max()


def test_gzip_reads_what_gzip_holds(write):
    path = write()
    packed = path.with_suffix(".fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_cube(packed).data, read_cube(path).data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e30])
@pytest.mark.parametrize("many", [1, 40])
def test_what_is_no_data_is_seen_however_much_of_it_there_is(value, many):
    planes = np.random.default_rng(0).normal(size=(6, 20, 30)).astype(np.float32)
    planes[3].flat[:many] = value
    planes[4, 0, 0] = -value  # infinities of both signs add up to NaN
    read = Cube.from_array(planes).read()
    gone = np.zeros(planes.shape, bool)
    gone[3].flat[:many] = gone[4, 0, 0] = True
    np.testing.assert_array_equal(np.isnan(read), gone)
    np.testing.assert_array_equal(read[~gone], planes[~gone])


def test_values_above_1e20_among_small_ones_are_no_data():
    planes = np.ones((3, 40, 50))
    planes[1, 2, 3], planes[1, 0, 0] = 1.5e20, 7e9
    cube = Cube.from_array(planes)
    assert np.isnan(cube.read()[1, 2, 3])
    assert cube.read()[1, 0, 0] == np.float32(7e9)


@pytest.mark.parametrize(("share", "kept"), [(0.007, True), (0.015, False)])
def test_where_nearly_all_values_are_above_1e20_they_are_data(share, kept):
    planes = np.full((2, 100, 100), 1e25)
    planes.reshape(-1)[: int(share * planes[0].size)] = 1.0
    planes[1] = planes[0]
    assert (Cube.from_array(planes).read()[0, 99, 99] == np.float32(1e25)) is np.bool_(kept)


def test_polarisation_codes_are_those_of_the_fits_standard():
    from astropy.coordinates import polarization

    from napari_almadet.cube.storage import STOKES

    standard = {stokes.symbol: code for code, stokes in polarization.FITS_STOKES_VALUE_SYMBOL_MAP.items()}
    assert {name: standard[name] for name in STOKES} == STOKES
