"""Parts of arrays on disk are what numpy would give of the whole; CASA's images are made by casacore."""

from __future__ import annotations

import gc
import io
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.fits_structure import check_structure
from napari_almadet.cube.reading import read_cube
from napari_almadet.cube.storage import Held, Lazy, Plain, split_address

SHAPE = (7, 11, 13)


def header_of(extra=(), **cards) -> fits.Header:
    header = fits.Header({"BUNIT": "Jy/beam", "RESTFRQ": 230.538e9, "SPECSYS": "LSRK", "RADESYS": "ICRS"})
    header.update({"BMAJ": 8e-4, "BMIN": 6e-4, "BPA": 30.0})
    axes = [("RA---SIN", 150.0, -1e-4, "deg"), ("DEC--SIN", -35.0, 1e-4, "deg"), ("FREQ", 230e9, 1e7, "Hz"), *extra]
    for i, (kind, value, step, unit) in enumerate(axes, 1):
        header.update({f"CTYPE{i}": kind, f"CRVAL{i}": value, f"CDELT{i}": step, f"CRPIX{i}": 3.0, f"CUNIT{i}": unit})
    header.update(cards)
    return header


def random_index(rng, n: int):
    """A number, a slice of any step, or an array of numbers or booleans, for an axis of length n."""
    a, b = rng.integers(-n - 2, n + 3, 2)
    return [
        int(rng.integers(-n, n)),
        slice(int(a), int(b), int(rng.choice([1, 2, 5, -1, -3]))),
        slice(None),
        rng.integers(-n, n, 4),
        rng.random(n) < 0.4,
    ][rng.integers(5)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_an_index_gives_what_numpy_gives(tmp_path, order):
    rng = np.random.default_rng(sum(order))
    whole = rng.normal(size=(*SHAPE, 2)).astype(">f4").transpose(order)
    (tmp_path / "a").write_bytes(b"1234" + whole.tobytes())
    kept = tuple(order.index(axis) for axis in range(3))
    lazy = Lazy(Plain(tmp_path / "a", 4, whole.dtype, whole.shape), kept, {order.index(3): 1})
    data = whole.transpose([*kept, order.index(3)])[..., 1]
    assert (lazy.shape, lazy.ndim, lazy.size, lazy.nbytes, len(lazy)) == (SHAPE, 3, data.size, data.nbytes, 7)
    np.testing.assert_array_equal(lazy, data)
    np.testing.assert_array_equal(list(lazy), data)
    for _ in range(300):
        index = tuple(random_index(rng, n) for n in SHAPE[: rng.integers(1, 4)])
        if sum(isinstance(i, np.ndarray) for i in index) > 1:  # those would have to be of one length
            continue
        index = (..., *index) if rng.random() < 0.2 and len(index) == 3 else index
        np.testing.assert_array_equal(lazy[index], data[index], err_msg=str(index))
    for index in (np.s_[..., 2], np.s_[3, ...], np.s_[..., 4, 2], np.s_[[0, 5], [1, 2], [3, 3]], np.s_[-1]):
        np.testing.assert_array_equal(lazy[index], data[index])
    for index in (7, -8, (0, 0, 0, 0), (0, 11)):
        with pytest.raises(IndexError):
            lazy[index]


def test_what_is_read_is_new_and_native(tmp_path):
    data = np.arange(1001, dtype=">i2").reshape(SHAPE)
    (tmp_path / "a").write_bytes(data.tobytes())
    lazy = Lazy(Plain(tmp_path / "a", 0, data.dtype, SHAPE), (0, 1, 2), {})
    part = lazy[2:4]
    assert part.dtype == np.int16
    assert part.dtype.isnative
    part[:] = 0
    np.testing.assert_array_equal(lazy, data)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)), data)


@pytest.mark.parametrize("kind", ["GZIP_1", "GZIP_2", "RICE_1", "HCOMPRESS_1"])
def test_only_the_tiles_that_are_needed_are_unpacked(tmp_path, kind, monkeypatch):
    from astropy.io.fits.hdu.compressed import _tiled_compression as tiles

    data = np.random.default_rng(1).integers(0, 1000, (1, 12, 40, 40)).astype(np.int32)
    image = fits.CompImageHDU(
        data, header_of([("STOKES", 1.0, 1.0, "")]), compression_type=kind, tile_shape=(1, 1, 20, 40)
    )
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits.fz")
    cube = read_cube(tmp_path / "a.fits.fz")
    calls, unpack = [], tiles._decompress_tile
    monkeypatch.setattr(tiles, "_decompress_tile", lambda *a, **k: calls.append(k["algorithm"]) or unpack(*a, **k))
    np.testing.assert_array_equal(cube.data[5, 3:9, 2:8], data[0, 5, 3:9, 2:8])
    assert calls.count(kind) == 1
    np.testing.assert_array_equal(cube.data[3, ::2, ::-1], data[0, 3, ::2, ::-1])


def test_a_packed_file_is_unpacked_once_and_what_was_unpacked_goes_with_the_cube(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    data = np.random.default_rng(0).normal(size=SHAPE).astype("f4")
    for suffix in ("gz", "bz2"):
        fits.writeto(tmp_path / f"a.fits.{suffix}", data, header_of())
        cube = read_cube(tmp_path / f"a.fits.{suffix}")
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        view = cube.data
        del cube
        gc.collect()
        np.testing.assert_array_equal(view[2], data[2])
        del view
        gc.collect()
        assert not list((tmp_path / "temporary").iterdir())
    whole = (tmp_path / "a.fits.gz").read_bytes()
    for n in (20, 200, len(whole) // 2, len(whole) - 9):
        (tmp_path / "cut.fits.gz").write_bytes(whole[:n])
        with pytest.raises(CubeError, match="damaged or truncated"):
            read_cube(tmp_path / "cut.fits.gz")
    fits.writeto(tmp_path / "plane.fits.gz", data[0])
    with pytest.raises(CubeError, match="single plane"):
        read_cube(tmp_path / "plane.fits.gz")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    ("address", "path", "hdu"),
    [("a.fits", "a.fits", None), ("a.fits[SCI]", "a.fits", "SCI"), ("b[1]/a.fits[ 2 ]", "b[1]/a.fits", "2")],
)
def test_addresses(address, path, hdu):
    assert (str(split_address(address)[0]), split_address(address)[1]) == (path, hdu)


# --- Memory ---

SCROLL = """
import resource, sys, time
import numpy as np
from napari_almadet import read_cube
from napari_almadet.plugin.layers import cube_layer

def used():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

read_cube(sys.argv[2]).data[1]
before, start = used(), time.process_time()
cube = read_cube(sys.argv[1])
data, meta, _ = cube_layer(cube)
np.asarray(data[len(data) // 2])
first = time.process_time() - start
for channel in range(0, len(data), len(data) // 50):
    np.asarray(data[channel])
    cube.read(channel, slice(10, 20), slice(10, 20))
print(used() - before, first, data[len(data) // 2, 5, 5])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory in use is read from /proc")
def test_a_file_of_100_gb_is_scrolled_through_in_little_memory(tmp_path):
    channels, side = 17_800, 1200  # 102 GB on paper, one plane on disk
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3)]) + header_of()
    for i, n in enumerate((side, side, channels), 1):
        header[f"NAXIS{i}"] = n
    text = header.tostring().encode()
    path, small = tmp_path / "huge.fits", tmp_path / "small.fits"
    with path.open("wb") as file:
        file.write(text)
        file.seek(len(text) + channels // 2 * side * side * 4)
        file.write(np.ones((side, side), ">f4").tobytes())
        try:
            file.truncate(len(text) + channels * side * side * 4)
        except OSError:
            pytest.skip("the file system has no sparse files of this size")
    fits.writeto(small, np.ones(SHAPE, "f4"), header_of())
    run = subprocess.run(
        [sys.executable, "-c", SCROLL, str(path), str(small)], capture_output=True, text=True, check=True
    )
    grown, _first, value = run.stdout.split()
    assert float(value) == 1
    assert int(grown) < 8 * side * side * 4  # a few planes; 50 were read


# --- CASA's images ---


@pytest.fixture
def casa(tmp_path):
    """Write a FITS cube, and the CASA image that casacore makes of it."""
    pytest.importorskip("casa_formats_io")
    images = pytest.importorskip("casacore.images", reason="CASA images are made with python-casacore")

    def make(data, header, extra=()):
        fits.HDUList([fits.PrimaryHDU(data, header), *extra]).writeto(tmp_path / "a.fits")
        images.image(str(tmp_path / "a.fits")).saveas(str(tmp_path / "a.image"))
        return tmp_path / "a.fits", tmp_path / "a.image"

    return make


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_a_casa_image_with_a_table_of_frequencies_has_the_velocities_of_its_cube(casa):
    """casacore keeps the frequencies of an axis that is linear in optical velocity as a table."""
    header = header_of(CTYPE3="VOPT", CRVAL3=1e6, CDELT3=2e5, CUNIT3="m/s", RESTFRQ=1.42e9)
    data = np.random.default_rng(4).normal(size=(60, 5, 6)).astype("f4")
    plain, image = (read_cube(path) for path in casa(data, header))
    np.testing.assert_array_equal(image.read(), data)
    channels = np.arange(60)
    np.testing.assert_allclose(image.frequency(channels).value, plain.frequency(channels).value, rtol=1e-9)
    assert np.ptp(np.diff(plain.frequency(channels).value)) > 1e4  # Hz: a straight line would be wrong by channels


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize("projection", ["SIN", "TAN", "NCP"])
def test_a_casa_image_is_the_cube_that_it_was_made_of(casa, projection):
    data = np.random.default_rng(3).normal(size=(1, 9, 40, 50)).astype("f4")
    data[0, 2, :5] = np.nan
    header = header_of([("STOKES", 1.0, 1.0, "")], CTYPE1=f"RA---{projection}", CTYPE2=f"DEC--{projection}", CRPIX4=1.0)
    theirs, ours = (read_cube(path) for path in casa(data, header))
    assert ours.name == "a"
    np.testing.assert_array_equal(ours.data, data[0])
    np.testing.assert_array_equal(ours.data[3, 10:20:3, -5:], data[0, 3, 10:20:3, -5:])
    assert (ours.unit, ours.spectral_frame) == (theirs.unit, theirs.spectral_frame) == (u.Jy / u.beam, "LSRK")
    assert u.isclose(ours.rest_frequency, theirs.rest_frequency)
    assert u.isclose(ours.beam.major, theirs.beam.major)
    channel, pixel = np.arange(9.0), np.array([0.0, 20.5, 39.0])
    np.testing.assert_allclose(ours.frequency(channel).value, theirs.frequency(channel).value, rtol=1e-11)
    assert ours.sky(pixel, pixel).separation(theirs.sky(pixel, pixel)).max() < 1e-3 * u.arcsec
    assert not any("default" in note for note in ours.notes)
    assert len(ours.sha256()) == 64
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ours.data)), ours.data)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
def test_a_casa_image_with_a_beam_in_each_channel(casa):
    channel = np.arange(9)
    columns = {"BMAJ": 2.0 + 0.1 * channel, "BMIN": np.full(9, 1.5), "BPA": np.linspace(-40, 40, 9)}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(k, "E", "deg" if k == "BPA" else "arcsec", array=v) for k, v in columns.items()]
        + [fits.Column("CHAN", "J", array=channel), fits.Column("POL", "J", array=0 * channel)],
        name="BEAMS",
    )
    table.header.update(NCHAN=9, NPOL=1)
    header = header_of(CASAMBM=True)
    for key in ("BMAJ", "BMIN", "BPA"):
        del header[key]
    path = casa(np.random.default_rng(3).normal(size=(9, 40, 50)).astype("f4"), header, [table])[1]
    cube = read_cube(path)
    np.testing.assert_allclose(cube.beams.major.to_value("arcsec"), columns["BMAJ"], rtol=1e-6)
    np.testing.assert_allclose(cube.beams.pa.to_value("deg"), columns["BPA"], rtol=1e-5, atol=1e-5)
    assert any("its own beam, from 1.73 to 2.05 arcsec; the one with the median area" in note for note in cube.notes)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize(
    ("first", "step", "plane", "said"), [(4.0, -3.0, 1, "Stokes I"), (2.0, -1.0, 1, "Stokes I"), (-5.0, -1.0, 0, "XX")]
)
def test_a_casa_image_whose_first_polarisation_is_not_i(casa, first, step, plane, said):
    data = np.random.default_rng(3).normal(size=(2, 9, 40, 50)).astype("f4")
    path = casa(data, header_of([("STOKES", first, step, "")], CRPIX4=1.0))[1]
    cube = read_cube(path)
    np.testing.assert_array_equal(cube.data, data[plane])
    assert f"Polarisation taken: {said}, one of the 2 in the file." in cube.notes


@pytest.mark.parametrize(("module", "name"), [("casa_formats_io", "a.image"), ("h5py", "a.hdf5")])
def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    if name.endswith("image"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.dat").touch()
        (tmp_path / name / "table.f0_TSM0").touch()
    else:
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(CubeError, match=rf"{name} is .* image, and {module} is needed.*pip install"):
        read_cube(tmp_path / name)


# --- HDF5 ---


@pytest.mark.parametrize("as_text", [False, True])
def test_hdf5_as_carta_writes_it(tmp_path, as_text):
    """The IDIA schema: https://github.com/idia-astro/hdf5converters/wiki/HDF5-Image-Schema."""
    h5py = pytest.importorskip("h5py")
    data, header = np.random.default_rng(5).normal(size=(1, *SHAPE)).astype("f4"), header_of([("STOKES", 1.0, 1.0, "")])
    fits.writeto(tmp_path / "a.fits", data, header)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        group = file.create_group("0")
        group.create_dataset("DATA", data=data)
        group.attrs.update({"SCHEMA_VERSION": np.bytes_("0.3"), "HDF5_CONVERTER": np.bytes_("fits2idia")})
        for key, value in fits.getheader(tmp_path / "a.fits").items():
            group.attrs[key] = np.bytes_(str(value)) if as_text or isinstance(value, str) else value
    theirs, ours = read_cube(tmp_path / "a.fits"), read_cube(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(ours.data, theirs.data)
    np.testing.assert_array_equal(ours.data[2, 3:5], data[0, 2, 3:5])
    assert (ours.unit, ours.beam, ours.notes, ours.name) == (theirs.unit, theirs.beam, theirs.notes, "a")
    np.testing.assert_allclose(ours.frequency(np.arange(7)).value, theirs.frequency(np.arange(7)).value, rtol=1e-12)
    assert ours.sky(3, 4).separation(theirs.sky(3, 4)) < 1e-6 * u.arcsec


def test_other_hdf5_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = np.ones((3, 4, 5))
    with pytest.raises(CubeError, match="no 0/DATA"):
        read_cube(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:300])
    with pytest.raises(CubeError, match="cannot be read"):
        read_cube(tmp_path / "a.h5")


@pytest.mark.parametrize("scaled", [False, True])
def test_parts_in_one_piece_and_others_are_the_same(tmp_path, scaled):
    data = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    hdu = fits.PrimaryHDU(data if scaled else data.astype(np.float32), header_of())
    if scaled:
        hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 3.0, 17
    hdu.writeto(tmp_path / "cube.fits")
    expected = fits.getdata(tmp_path / "cube.fits")
    lazy = read_cube(tmp_path / "cube.fits").data
    for part in (np.s_[1:3], np.s_[2, 1:4], np.s_[2, 1, 3:6], np.s_[1:3, 2:4, 1:5], np.s_[:, 1], np.s_[4, 5, 6]):
        np.testing.assert_array_equal(lazy[part], expected[part])


@pytest.mark.parametrize("name", ["cube.fits", "cube.fits.fz"])
def test_a_cube_held_in_memory_is_the_one_in_the_file(tmp_path, name, monkeypatch):
    data = np.random.default_rng(0).normal(size=(9, 20, 30)).astype(np.float32)
    data[2, 3] = np.nan
    if name.endswith("fz"):
        fits.HDUList(
            [fits.PrimaryHDU(), fits.CompImageHDU(data, header_of(), quantize_level=0, compression_type="GZIP_2")]
        ).writeto(tmp_path / name)
    else:
        fits.PrimaryHDU(data, header_of()).writeto(tmp_path / name)
    lazy = read_cube(tmp_path / name).data
    monkeypatch.setattr("napari_almadet.cube.storage.HELD_AT_ONCE", 2 * 20 * 30 * 4)
    held = Held(lazy)
    assert (held.shape, held.nbytes, len(held)) == (lazy.shape, lazy.nbytes, 9)
    np.testing.assert_array_equal(held[:], data)
    np.testing.assert_array_equal(held[2:4, 1, ::2], data[2:4, 1, ::2])


@pytest.mark.parametrize("odd", [0.0, np.nan, np.inf, -1e30, 3e9])
def test_a_cube_held_in_memory_lacks_the_same_voxels(tmp_path, odd):
    data = np.random.default_rng(0).normal(size=(24, 20, 30)).astype(np.float32)
    data[2, 3, 4] = odd
    fits.PrimaryHDU(data, header_of()).writeto(tmp_path / "cube.fits")
    from_file = read_cube(tmp_path / "cube.fits")
    held = replace(from_file, data=Held(from_file.data))
    assert np.isnan(from_file.read()).sum() == (odd != 0)
    for part in (np.s_[:], np.s_[2], np.s_[1:3, 2:5, 3:6], np.s_[5:7]):
        index = part if isinstance(part, tuple) else (part,)
        np.testing.assert_array_equal(held.read(*index), from_file.read(*index))
        np.testing.assert_array_equal(held.read(*index, writable=False), from_file.read(*index))


def test_a_cube_held_in_memory_is_copied_only_where_that_is_needed(tmp_path):
    data = np.random.default_rng(0).normal(size=(24, 20, 30)).astype(np.float32)
    fits.PrimaryHDU(data, header_of()).writeto(tmp_path / "cube.fits")
    from_file = read_cube(tmp_path / "cube.fits")
    held = replace(from_file, data=Held(from_file.data))
    own, seen = held.read(slice(2, 5)), held.read(slice(2, 5), writable=False)
    assert np.shares_memory(seen, held.data.array)
    assert not np.shares_memory(own, held.data.array)
    own[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        seen[:] = 0
    flagged = replace(held, flagged=np.arange(24) == 3)
    assert np.isnan(flagged.read(slice(2, 5), writable=False)[1]).all()
    np.testing.assert_array_equal(held.read(), data)


def test_a_file_that_ends_too_soon_cannot_be_held_in_memory(tmp_path):
    data = np.random.default_rng(0).normal(size=(9, 20, 30)).astype(np.float32)
    fits.PrimaryHDU(data, header_of()).writeto(tmp_path / "cube.fits")
    lazy = read_cube(tmp_path / "cube.fits").data
    with (tmp_path / "cube.fits").open("r+b") as file:
        file.truncate(2880 * 2 + 2000)
    with pytest.raises(CubeError, match=r"cube.fits could not be read to its end.* bytes are missing"):
        Held(lazy)
    (tmp_path / "cube.fits").unlink()
    with pytest.raises(CubeError, match=r"cube.fits no longer exists"):
        Held(lazy)


@pytest.mark.parametrize("shape", [(9, 1, 20, 30), (1, 9, 20, 30), (1, 2, 9, 20, 30)])
def test_a_cube_with_more_axes_is_held_as_it_is_read(tmp_path, shape):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    fits.PrimaryHDU(data).writeto(tmp_path / "cube.fits")
    for kept in ((0, 2, 3), (1, 2, 3), (2, 3, 4), (1, 3, 2)):
        if max(kept) < len(shape) and all(shape[axis] > 1 for axis in kept):
            lazy = Lazy(Plain(tmp_path / "cube.fits", 2880, np.dtype(">f4"), shape), kept, {1: shape[1] - 1})
            np.testing.assert_array_equal(Held(lazy)[:], lazy[:])
            np.testing.assert_array_equal(Held(lazy, slice(2, 9), slice(1, 20))[:, 2:9, 1:20], lazy[:, 2:9, 1:20])


def test_what_is_outside_of_a_part_held_in_memory_is_read_from_the_file(tmp_path, monkeypatch):
    data = np.random.default_rng(0).normal(size=(9, 20, 30)).astype(np.float32)
    fits.PrimaryHDU(data, header_of()).writeto(tmp_path / "cube.fits")
    lazy = read_cube(tmp_path / "cube.fits").data
    held = Held(lazy, slice(4, 15), slice(10, None))
    asked = []
    monkeypatch.setattr(Lazy, "_read", lambda self, bounds: asked.append(bounds) or data[bounds])
    for part in (np.s_[:, 4:15, 10:30], np.s_[2:5, 6:9, 12:13], np.s_[3, 4:6, 11:15], np.s_[[1, 7], 5:7, 10:12]):
        np.testing.assert_array_equal(held[part], data[part])
    assert not asked
    elsewhere = (np.s_[:, 3:9, 12:20], np.s_[:, 6:9, 5:20], np.s_[:, 10:16, 12:20], np.s_[:, :, :], np.s_[2])
    for part in (*elsewhere, np.s_[:, 5:9:2, 12:20], np.s_[:, 6, 12:20]):
        np.testing.assert_array_equal(held[part], data[part])
    assert len(asked) == 7


def test_hdf5_with_long_or_odd_texts_opens_and_whole_numbers_are_said(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        group = file.create_group("0")
        group.create_dataset("DATA", data=np.ones(SHAPE, "f4"))
        for key, value in header_of().items():
            whole = key[:5] in ("CDELT", "CRVAL") and key[-1] in "12"
            number = np.int64(max(1, round(value))) if whole else value
            group.attrs[key] = np.bytes_(value) if isinstance(value, str) else number
        group.attrs["COMMENTS"] = np.bytes_("long text " * 40)
        group.attrs["OBSERVER"] = "Zoë\nwith a line"
    cube = read_cube(tmp_path / "a.hdf5")
    assert cube.header["OBSERVER"] == "Zo? with a line".replace(" with", "?with")
    assert any("the pixels 3600 arcsec" in note and "decimals" in note for note in cube.notes)


# --- absurd numbers ---


@pytest.mark.parametrize(
    ("key", "value"), [("NAXIS", 17), ("NAXIS3", -1), ("NAXIS2", 2**59), ("BITPIX", 4096), ("GCOUNT", -1)]
)
def test_absurd_numbers_of_an_image_are_refused_before_a_library_meets_them(key, value):
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 3, "NAXIS1": 4, "NAXIS2": 5, "NAXIS3": 6})
    header[key] = value
    with pytest.raises(CubeError, match=f"cannot be read: {key} is|claims to contain"):
        check_structure(io.BytesIO(header.tostring().encode()))


@pytest.mark.parametrize(
    ("key", "value"), [("TFIELDS", 10**6), ("ZNAXIS", 99), ("ZTILE1", 0), ("ZTILE3", 5), ("ZCMPTYPE", "ZIP")]
)
def test_absurd_numbers_of_columns_and_tiles_are_refused(tmp_path, key, value):
    image = fits.CompImageHDU(np.ones(SHAPE, "f4"), header_of(), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "a.fits")
    check_structure(io.BytesIO((tmp_path / "a.fits").read_bytes()))
    with fits.open(tmp_path / "a.fits", disable_image_compression=True) as hdus:
        header = hdus[1].header.copy()
    header[key] = value
    with pytest.raises(CubeError):
        check_structure(io.BytesIO(header.tostring().encode()))


def test_what_fails_while_data_are_read_is_logged_with_its_traceback(tmp_path, caplog, monkeypatch):
    lazy = Lazy(Plain(tmp_path / "a.raw", 0, np.dtype("f4"), (5, 3, 4)), (0, 1, 2), {})

    def read(self, part):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(Plain, "read", read)
    with pytest.raises(CubeError, match="could not be read to its end"):
        lazy[0]
    (record,) = caplog.records
    assert "a.raw" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
