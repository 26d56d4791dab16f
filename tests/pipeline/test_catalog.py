import json

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from regions import Regions
from yaml.representer import RepresenterError

from napari_almadet import Settings
from napari_almadet.pipeline.catalog import (
    Box,
    Candidate,
    Detections,
    EmissionPeak,
    Fate,
    channel_width,
    flux_factor,
)

COLUMNS = [
    *("id", "x", "y", "z", "x_min", "x_max", "y_min", "y_max", "z_min", "z_max", "ra", "dec", "freq", "v_rad"),
    *("f_sum", "err_f_sum", "f_max", "w20", "w50", "rms", "prob", "snr_global", "snr_pixel", "n_peaks"),
    *("blended", "edge", "kind", "verdict", "note", "origin"),
]
FILES = {"catalog.ecsv", "probability.fits", "ds9.reg", "casa.crtf", "settings.json"}


@pytest.fixture
def planes(planes_of):
    return planes_of(shape=(16, 80, 90))


def detections_of(cube, empty=False) -> Detections:
    peak = EmissionPeak(7, 0.8, 0.8, 7.2, 4.0)
    kept = Candidate(1, Box(10, 21, 30, 45), 0.9, peaks=(peak,), channels=(3, 12), reasons=["kept: it is there"])
    kept.x, kept.y, kept.z, kept.f_sum, kept.err_f_sum = 37.3, 15.1, 7.25, 1.5, 0.1
    dropped = Candidate(2, Box(0, 3, 0, 3), 0.2, fate=Fate.DROPPED, reasons=["dropped: it is not"])
    flagged = Candidate(3, Box(50, 60, 2, 9), 0.4, fate=Fate.FLAGGED, blended=True, edge=True, note="ask µ")
    probability = np.random.default_rng(1).random(cube.shape[1:]).astype(np.float32)
    probability[0, 0] = np.nan
    return Detections(
        cube,
        Settings(min_snr=4),
        [] if empty else [kept, dropped, flagged],
        np.zeros(cube.shape[1:], np.float32),
        probability,
        {"version": "1", "cube": {"name": cube.name}},
        ["beware"],
    )


def test_the_catalogue_lists_the_kept_with_inclusive_boxes(sky_cube, planes):
    table = detections_of(sky_cube(planes)).table()
    assert table.colnames == COLUMNS
    assert table["id"].tolist() == [1, 3]
    row = table[0]
    assert [row[f"{a}_{end}"] for a in "xyz" for end in ("min", "max")] == [30, 44, 10, 20, 3, 11]
    assert table["blended"].tolist() == [False, True]
    assert table["n_peaks"].tolist() == [1, 0]
    assert table["f_sum"].unit == u.Jy * u.km / u.s
    assert table["rms"].unit == table["f_max"].unit == u.Jy / u.beam


def test_world_coordinates_are_astropys(sky_cube, planes, header):
    table = detections_of(sky_cube(planes)).table()
    wcs = WCS(header)
    sky, frequency = wcs.pixel_to_world(37.3, 15.1, 7.25)
    assert u.isclose(table["ra"][0], sky.icrs.ra, atol=1e-9 * u.deg)
    assert u.isclose(table["dec"][0], sky.icrs.dec, atol=1e-9 * u.deg)
    assert u.isclose(table["freq"][0], frequency.to(u.Hz), rtol=1e-12)
    assert u.isclose(table["v_rad"][0], u.Quantity(frequency).to(u.km / u.s, u.doppler_radio(230 * u.GHz)), rtol=1e-9)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_the_catalogue_survives_its_file(sky_cube, cube_of, planes, tmp_path, empty, bare):
    detections = detections_of(cube_of(planes) if bare else sky_cube(planes), empty)
    folder = detections.write(tmp_path / "out" / "deep")
    assert {file.name for file in folder.iterdir()} == FILES
    table, read = detections.table(), QTable.read(folder / "catalog.ecsv")
    assert read.colnames == COLUMNS
    assert len(read) == (0 if empty else 2)
    for name in COLUMNS:
        if not empty:
            np.testing.assert_array_equal(read[name], table[name])
        assert getattr(read[name], "unit", None) == getattr(table[name], "unit", None)
        assert read[name].dtype.kind == table[name].dtype.kind
    assert read.meta["settings"] == Settings(min_snr=4).as_dict()
    assert read.meta["warnings"] == ["beware"]
    if not empty:
        assert read.meta["decisions"]["2"] == {"fate": "dropped", "reasons": ["dropped: it is not"]}


def test_an_array_without_coordinates_has_pixels_and_channels(cube_of, planes):
    table = detections_of(cube_of(planes)).table()
    for name in ("ra", "dec", "freq", "v_rad"):
        assert np.isnan(table[name].value).all()
    assert table["f_sum"].unit == u.pix * u.chan
    assert table["w50"].unit == u.chan


@pytest.mark.parametrize(
    ("cards", "flux", "width"),
    [
        ({}, u.Jy, u.km / u.s),
        ({"RESTFRQ": None}, u.Jy, u.Hz),
        ({"BUNIT": "K"}, u.K * u.pix, u.km / u.s),
        ({"BMAJ": None, "BMIN": None, "BPA": None}, u.Jy / u.beam * u.pix, u.km / u.s),
        ({"BUNIT": "mJy/beam"}, u.mJy, u.km / u.s),
        ({"BUNIT": "Jy/pixel"}, u.Jy, u.km / u.s),
    ],
)
def test_flux_has_the_unit_the_header_allows(tmp_path, planes, header, cards, flux, width):
    from napari_almadet import read_cube

    for key, value in cards.items():
        if value is None:
            del header[key]
        else:
            header[key] = value
    fits.writeto(tmp_path / "odd.fits", planes, header)
    cube = read_cube(tmp_path / "odd.fits")
    assert flux_factor(cube)[1] == flux
    assert channel_width(cube).unit == width
    if width == u.Hz:
        assert channel_width(cube).value == pytest.approx(1e7)


def test_the_probability_map_lies_on_the_sky(sky_cube, planes, header, tmp_path):
    detections = detections_of(sky_cube(planes))
    with fits.open(detections.write(tmp_path / "out") / "probability.fits") as hdus:
        np.testing.assert_array_equal(hdus[0].data, detections.probability)
        assert hdus[0].data.dtype == np.dtype(">f4")
        wcs = WCS(hdus[0].header)
    assert wcs.pixel_to_world(12, 70).separation(WCS(header).celestial.pixel_to_world(12, 70)) < 1e-6 * u.arcsec


@pytest.mark.parametrize("frame", ["ICRS", "FK5", "GALACTIC"])
@pytest.mark.parametrize("file", ["ds9.reg", "casa.crtf"])
def test_regions_lie_where_the_boxes_are(tmp_path, planes, header, file, frame):
    from napari_almadet import read_cube

    if frame == "GALACTIC":
        header["CTYPE1"], header["CTYPE2"] = "GLON-SIN", "GLAT-SIN"
    else:
        header["RADESYS"] = frame
    fits.writeto(tmp_path / "field.fits", planes, header)
    cube = read_cube(tmp_path / "field.fits")
    regions = Regions.read(detections_of(cube).write(tmp_path / "out") / file)
    assert len(regions) == 2
    box = regions[0].to_pixel(WCS(header).celestial)
    assert (box.center.x, box.center.y) == pytest.approx((37, 15), abs=0.01)
    assert (box.width, box.height) == pytest.approx((15, 11), abs=0.01)
    assert abs(np.sin(box.angle).value) < 2e-3
    assert str(regions[0].meta.get("text", regions[0].meta.get("label"))) == "1"


@pytest.mark.parametrize("file", ["ds9.reg", "casa.crtf"])
def test_regions_without_coordinates_are_in_pixels(cube_of, planes, tmp_path, file):
    regions = Regions.read(detections_of(cube_of(planes)).write(tmp_path / "out") / file)
    assert (regions[0].center.x, regions[0].center.y) == pytest.approx((37, 15))
    assert (regions[0].width, regions[0].height) == pytest.approx((15, 11))


def test_settings_and_provenance_are_plain_json(sky_cube, planes, tmp_path):
    folder = detections_of(sky_cube(planes)).write(tmp_path / "out")
    about = json.loads((folder / "settings.json").read_text())
    assert Settings(**about["settings"]) == Settings(min_snr=4)
    assert about["provenance"]["cube"]["name"] == "field"


def test_writing_again_replaces_and_leaves_other_files(sky_cube, planes, tmp_path):
    cube = sky_cube(planes)
    folder = detections_of(cube).write(tmp_path / "out")
    (folder / "mine.txt").write_text("mine")
    detections_of(cube, empty=True).write(folder)
    assert {file.name for file in folder.iterdir()} == FILES | {"mine.txt"}
    assert len(QTable.read(folder / "catalog.ecsv")) == 0


def test_an_error_while_writing_leaves_the_old_files_whole(sky_cube, planes, tmp_path):
    detections = detections_of(sky_cube(planes))
    folder = detections.write(tmp_path / "out")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    detections.candidates.clear()
    detections.provenance["cube"] = object()  # no file can hold it
    with pytest.raises(RepresenterError):
        detections.write(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
