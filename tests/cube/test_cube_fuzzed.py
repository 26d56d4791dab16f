"""Mutated headers and truncated files: one sentence, or the coordinates that the header gives, or a warning.

``ALMADET_FUZZ=20000 pytest tests/test_cube_fuzzed.py`` tries as many mutations instead of the usual hundreds.
"""

from __future__ import annotations

import gzip
import os
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.reading import read_cube

# Of the files that are written here with what does not belong there; `check` lets no warning through.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning", "ignore::RuntimeWarning")
TRIES = int(os.environ.get("ALMADET_FUZZ", "320"))
SHAPE = (2, 5, 8, 10)  # Stokes, channel, y, x
AXES = ("RA---SIN", "DEC--SIN", "FREQ", "STOKES")
X, Y, CHANNEL = np.array([0.0, 4.5, 9.0]), np.array([1.0, 3.5, 7.0]), np.array([0.0, 2.0, 4.0])
GARBAGE = (
    "",
    " ",
    "abc",
    "NaN",
    "1.0E",
    "T",
    True,
    -1,
    0,
    1e300,
    -1e-300,
    7,
    3.5e9,
    "Hz",
    "RA---TAN",
    "VRAD",
    "'",
    "FREQ-W2F",
)


def pristine(seed: int) -> fits.Header:
    """A header as CASA, AIPS or nobody in particular writes it."""
    rng = np.random.default_rng(seed)
    header = fits.Header({"BUNIT": "Jy/beam", "BMAJ": 8e-4, "BMIN": 6e-4, "BPA": 30.0, "OBJECT": "M 51"})
    header.update({"RADESYS": "FK5", "EQUINOX": 2000.0, "SPECSYS": "LSRK", "RESTFRQ": 230.538e9, "VELREF": 257})
    spectral = [("FREQ", 230e9, 1e7, "Hz"), ("VRAD", 1.2e6, 1e4, "m/s"), ("VOPT", 1200.0, 10.0, "km/s")][seed % 3]
    axes = [("RA---SIN", 150.0, -1e-4, "deg"), ("DEC--SIN", -35.0, 1e-4, "deg"), spectral, ("STOKES", 1.0, 1.0, "")]
    for i, (kind, value, step, unit) in enumerate(axes, 1):
        header.update({f"CTYPE{i}": kind, f"CRVAL{i}": value, f"CDELT{i}": step, f"CUNIT{i}": unit})
        header[f"CRPIX{i}"] = 1.0 if kind == "STOKES" else float(rng.integers(2, 6))
    if seed % 2:
        header.update({"PC1_1": 0.8, "PC1_2": 0.6, "PC2_1": -0.6, "PC2_2": 0.8, "LONPOLE": 180.0, "LATPOLE": -35.0})
    return header


DATA = np.arange(1.0, 1 + np.prod(SHAPE), dtype=">f4").reshape(SHAPE)


def file_of(header: fits.Header, data=DATA) -> bytes:
    """The file, its header as it is: nothing is checked or put right."""
    cards = [fits.Card("SIMPLE", True), fits.Card("BITPIX", -32), fits.Card("NAXIS", data.ndim)]
    cards += [fits.Card(f"NAXIS{i}", n) for i, n in enumerate(reversed(data.shape), 1)]
    given = {card.keyword: card for card in header.cards}
    images = [given.pop(card.keyword, card).image for card in cards] + [card.image for card in given.values()]
    text = "".join(image[:80].ljust(80) for image in images) + "END".ljust(80)
    content = text.encode("ascii", "replace")
    content += b" " * (-len(content) % 2880) + data.tobytes()
    return content + bytes(-len(content) % 2880)


def mutate(header: fits.Header, rng) -> str:
    """Change one thing about a header; says what."""
    keys = [*header, "NAXIS", "NAXIS1", "NAXIS3", "NAXIS4", "BITPIX", "BSCALE", "BZERO", "WCSAXES", "CD1_1"]
    key = str(rng.choice(keys))
    kind = rng.choice(["drop", "garbage", "number", "raw", "swap", "letter"])
    if kind == "drop":
        header.remove(key, ignore_missing=True)
    elif kind == "garbage":
        header[key] = GARBAGE[rng.integers(len(GARBAGE))]
    elif kind == "number":
        old = value_of(header, key)
        header[key] = float(old if isinstance(old, int | float) else 1) * float(rng.choice([-1, 0, 1e-6, 2, 1e3, 1e9]))
    elif kind == "raw":
        raw = f"{key:8}= " + "".join(map(chr, rng.integers(33, 127, rng.integers(1, 30))))
        header.remove(key, ignore_missing=True)
        header.append(fits.Card.fromstring(raw), end=True)
    elif kind == "swap":
        i, j = rng.choice(4, 2, replace=False) + 1
        for part in ("CTYPE", "CRVAL", "CDELT", "CRPIX", "CUNIT"):
            a, b = value_of(header, f"{part}{i}"), value_of(header, f"{part}{j}")
            if rng.random() < 0.8 and a is not None and b is not None:
                header[f"{part}{i}"], header[f"{part}{j}"] = b, a
        key = f"axes {i} {j}"
    elif isinstance(text := value_of(header, key), str) and text:
        at = rng.integers(len(text))
        header[key] = text[:at] + chr(rng.integers(33, 127)) + text[at + 1 :]
    return f"{kind} {key} {value_of(header, key)!r}" if kind != "raw" else f"raw {raw}"


def value_of(header: fits.Header, key: str):
    """The value of a card; None where there is none, or none that can be parsed."""
    try:
        return header.get(key)
    except fits.VerifyError:
        return None


def places(cube: Cube) -> np.ndarray:
    """World coordinates of three voxels as the cube has them: longitude, latitude, spectral."""
    spectral = cube.spectral_axis()[CHANNEL.astype(int)].si.value
    if cube.celestial is None:
        return np.array([np.full(3, np.nan), np.full(3, np.nan), spectral])
    return np.array([*cube.celestial.wcs_pix2world(X, Y, 0), spectral])


def astropys(content: bytes) -> np.ndarray | None:
    """The same as astropy has them; None where it gives none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = fits.Header.fromstring(content[: content.index(b"END" + b" " * 77)].decode("ascii"))
            wcs = WCS(header)
            axes = {wcs.wcs.lng: X, wcs.wcs.lat: Y, wcs.wcs.spec: CHANNEL}
            world = wcs.wcs_pix2world(np.array([axes.get(i, np.zeros(3)) for i in range(wcs.naxis)]).T, 0)
            unit = float((1 * wcs.wcs.cunit[wcs.wcs.spec]).si.value)
            return np.array([world[:, wcs.wcs.lng], world[:, wcs.wcs.lat], world[:, wcs.wcs.spec] * unit])
    except Exception:
        return None


def check(path, content: bytes, first: Cube, said: str) -> str:
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cube = read_cube(path)
    except CubeError as error:
        assert str(error).startswith(path.name + " "), said
        assert "\n" not in str(error), said
        assert len(str(error)) < 400, said
        return "refused"
    assert len(cube.shape) == 3, said
    if set(cube.notes) - set(first.notes):
        return "warned"
    if cube.shape != first.shape:
        return "another shape"
    ours, theirs = places(cube), astropys(content)
    assert np.isfinite(ours).all(), said
    if not np.allclose(ours, places(first), rtol=1e-9, atol=0):
        assert theirs is not None, said
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, err_msg=said)
        return "as astropy"
    return "unchanged"


@pytest.mark.parametrize("seed", range(6))
def test_mutated_headers(tmp_path, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "a.fits"
    path.write_bytes(file_of(pristine(seed)))
    first, outcomes = read_cube(path), []
    np.testing.assert_allclose(places(first), astropys(file_of(pristine(seed))), rtol=1e-12)
    for _ in range(TRIES // 6):
        header = pristine(seed)
        said = " and ".join(mutate(header, rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))
        outcomes.append(check(path, file_of(header), first, said))
    assert set(outcomes) >= {"refused", "warned", "unchanged"}  # all is tried


@pytest.mark.parametrize("key", [f"{k}{i}" for k in ("CTYPE", "CRVAL", "CDELT", "CRPIX") for i in (1, 2, 3)])
@pytest.mark.parametrize("how", ["drop", "text", "nan"])
def test_no_coordinate_is_made_up_in_silence(tmp_path, key, how):
    """FITS has defaults for what is missing, and wcslib takes them for what is no number."""
    path = tmp_path / "a.fits"
    header = pristine(0)
    path.write_bytes(file_of(header))
    first = read_cube(path)
    if how == "drop":
        del header[key]
    else:
        header[key] = "abc"
    content = file_of(header)
    if how == "nan":
        content = content.replace(b"'abc     '", b"NaN       ")
    path.write_bytes(content)
    try:
        assert set(read_cube(path).notes) - set(first.notes) or key[:5] == "CTYPE"
        assert key[:5] != "CTYPE" or read_cube(path).celestial is None
    except CubeError:
        pass


@pytest.mark.parametrize("form", ["fits", "fits.gz", "fits.fz"])
def test_truncated_files(tmp_path, form):
    rng, path = np.random.default_rng(1), tmp_path / f"a.{form}"
    header = pristine(0)
    if form == "fits.fz":
        image = fits.CompImageHDU(DATA.astype("f4"), header, compression_type="GZIP_1")
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
        whole = path.read_bytes()
    else:
        whole = file_of(header)
        whole = gzip.compress(whole) if form.endswith("gz") else whole
    path.write_bytes(whole)
    read_cube(path)
    for n in rng.integers(0, len(whole), max(20, TRIES // 16)):
        path.write_bytes(whole[:n])
        try:
            cube = read_cube(path)
        except CubeError as error:
            assert "\n" not in str(error)
            continue
        np.testing.assert_array_equal(cube.data, DATA[0])  # only padding was cut off


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes(tmp_path, seed):
    rng, path = np.random.default_rng(seed), tmp_path / "a.fits"
    whole = np.frombuffer(file_of(pristine(seed)), np.uint8)
    for _ in range(TRIES // 8):
        damaged = whole.copy()
        damaged[rng.integers(0, 2880, rng.integers(1, 9))] = rng.integers(0, 256)
        path.write_bytes(damaged.tobytes())
        try:
            assert len(read_cube(path).shape) == 3
        except CubeError as error:
            assert "\n" not in str(error)
