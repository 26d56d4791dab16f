"""Products say what the cube holds: compared with sums by hand, with spectral-cube, and with the cube's own WCS."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from napari_almadet import detect, read_cube
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.result_folder import read_result, write_result
from napari_almadet.cube.cube import PrimaryBeam
from napari_almadet.products.figure import write_facts
from napari_almadet.products.page import draw_spectrum
from napari_almadet.products.product_headers import cube_header, image_header, unit_card
from napari_almadet.products.source_products import Scales, source_data, spectrum_of
from napari_almadet.products.writing import _spectrum_text, file_name, has_products, spectrum_table, write_products

KINDS = ("cube", "mask", "mom0", "mom1", "mom2", "chan", "snr", "pv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("products")


@pytest.fixture(scope="module")
def written(make_detections, folder):
    """Detections, and a function that gives a product of a source, or of the field, as an HDU."""
    detections = make_detections()
    write_products(detections, folder)

    def product(kind, number=None):
        name = f"toy_field_{kind}.fits" if number is None else f"toy_field_cubelets/toy_field_{number}_{kind}.fits"
        with fits.open(folder / name) as hdus:
            return fits.PrimaryHDU(hdus[0].data.copy(), hdus[0].header)

    return detections, product


def channel_width(header):
    return abs(header["CDELT3"]) / header["RESTFRQ"] * constants.c.to_value("km/s")


def test_moment_0_adds_up_to_the_masks_sum(written, data, header):
    detections, product = written
    inside = detections.labels() == 1
    by_hand = data[inside].sum(dtype=float) * channel_width(header) / detections.cube.beam_area
    moment = product("mom0", 1)
    assert_allclose(moment.data.sum(dtype=float) / detections.cube.beam_area, by_hand, rtol=1e-4)
    assert u.Unit(moment.header["BUNIT"]) == u.Jy / u.beam * u.km / u.s
    assert moment.header["CONTSUB"] is False
    field = product("mom0")
    assert_allclose(field.data[inside.any(axis=0)].sum(dtype=float) / detections.cube.beam_area, by_hand, rtol=1e-4)


def test_continuum_that_was_detected_is_taken_off(written, header):
    """Of source 2 the line alone: 0.6 of its peak, over its mask."""
    detections, product = written
    moment = product("mom0", 2)
    assert moment.header["CONTSUB"] is True
    z, y, x = np.ogrid[:48, :80, :90]
    sigma = 5.0 / 2.3548
    line = 0.6 * np.exp(-((x - 65) ** 2 + (y - 50) ** 2) / (2 * sigma**2) - ((z - 30) ** 2) / (2 * 2.5**2))
    truth = (line * (detections.labels() == 2)).sum() * channel_width(header)
    assert_allclose(moment.data.sum(), truth, rtol=0.03)  # the noise of the voxels over the threshold
    assert_allclose(product("cont", 2).data.max(), 0.1, atol=0.01)


def test_a_level_under_zero_is_in_moment_0_and_not_in_that_without_it(make_detections, written, tmp_path):
    """As a bowl leaves it: as SoFiA-2 the one sums the cube, the other the line."""
    detections, product = written
    lower = make_detections()
    lower.cube.data[:] -= 0.05
    write_products(lower, tmp_path, pages=False)
    folder, inside = tmp_path / "toy_field_cubelets", (detections.labels() == 1).sum(axis=0)
    width = channel_width(detections.cube.header)
    there = product("mom0", 1).data.sum(dtype=float)
    assert_allclose(
        fits.getdata(folder / "toy_field_1_mom0.fits").sum(dtype=float), there - 0.05 * width * inside.sum(), rtol=1e-5
    )
    same = product("mom0_contsub", 1).data.sum(dtype=float)
    assert_allclose(fits.getdata(folder / "toy_field_1_mom0_contsub.fits").sum(dtype=float), same, rtol=1e-4)
    assert_allclose(same, there, rtol=0.01)  # there is no continuum


def test_the_level_that_was_measured_is_kept_and_taken_off(make_detections, data, header, tmp_path):
    path = tmp_path / "toy field.fits"
    cards = header.copy()
    cards.update({"BUNIT": "Jy/beam", "BMAJ": 0.5 / 3600, "BMIN": 0.4 / 3600, "BPA": 30.0})
    fits.writeto(path, data, cards)
    detections = make_detections(path=path)
    mask = detections.kept[0].mask
    level = np.random.default_rng(2).normal(0, 0.02, mask.voxels.shape[1:]).astype(np.float32)
    detections.kept[0].mask = replace(mask, baseline=level)
    by_hand = (data[mask.slices] - level)[mask.voxels].sum(dtype=float) * channel_width(header)
    again = read_result(write_result(detections, tmp_path / "out"))
    for one in (detections, again):
        folder = write_products(one, tmp_path / "out", one.kept[:1], pages=False)
        moment = fits.getdata(next(folder.glob("*_1_mom0_contsub.fits")))
        assert_allclose(moment.sum(dtype=float), by_hand, rtol=1e-5)
    assert again.kept[1].mask.baseline is None  # of an earlier version, or of a box


def test_moments_are_those_of_spectral_cube_on_the_same_mask(written):
    from spectral_cube import SpectralCube

    _, product = written
    hdu = product("cube", 1)
    cube = SpectralCube.read(hdu)
    cube = cube.with_spectral_unit(u.km / u.s, velocity_convention="radio")
    masked = cube.with_mask(product("mask", 1).data > 0).with_mask(cube > 0 * cube.unit)
    mean, spread = product("mom1", 1).data, product("mom2", 1).data
    known = np.isfinite(spread)
    assert_allclose(mean[known], masked.moment1().value[known], rtol=1e-4)
    assert_allclose(spread[known], masked.linewidth_sigma().value[known], rtol=0.01)
    assert known.sum() > 0.8 * (product("chan", 1).data > 1).sum()


def test_every_product_lies_where_the_cube_has_it(written):
    detections, product = written
    for number, source in ((1, detections.kept[0]), (2, detections.kept[1])):
        (x, y), z = source.position, int(source.z)
        sky = detections.cube.sky(x, y)
        for kind in (*KINDS[:-1], *(f"field {k}" for k in ("mom0", "mom1", "mom2", "chan", "noise", "mask"))):
            hdu = product(kind.removeprefix("field "), None if kind.startswith("field") else number)
            wcs = WCS(hdu.header)
            px, py = wcs.celestial.world_to_pixel(sky)
            place = (round(float(py)), round(float(px)))
            assert abs(px - round(float(px))) < 0.01 and abs(py - round(float(py))) < 0.01
            if kind in ("cube", "mask"):
                k = wcs.spectral.world_to_pixel(detections.cube.frequency(z))
                assert abs(k - round(float(k))) < 0.01
                value = detections.cube.data[z, int(y), int(x)] if kind == "cube" else 1
                assert hdu.data[round(float(k)), *place] == value
            if kind == "chan":
                assert hdu.data[place] == (detections.labels()[:, int(y), int(x)] == number).sum()


def test_the_snr_map_and_the_errors_are_those_of_many_fields_of_noise(make_detections, data, tmp_path):
    detections = make_detections()
    detections.cube.data[:] = np.random.default_rng(5).normal(0, 0.01, data.shape)
    write_products(detections, tmp_path, pages=False)
    folder = tmp_path / "toy_field_cubelets"
    snr = fits.getdata(folder / "toy_field_1_snr.fits")
    assert 0.9 < np.nanstd(snr) < 1.1
    table = QTable.read(folder / "toy_field_1_spec.fits")
    pulls = (table["flux"] / table["err_flux"])[table["pixels"] > 0]
    assert 0.6 < np.std(pulls) < 1.4
    assert 0.7 < np.std(table["aperture"] / table["err_aperture"]) < 1.3


def test_the_spectrum_adds_up_to_the_map(written, folder, header):
    detections, product = written
    table = QTable.read(folder / "toy_field_cubelets" / "toy_field_1_spec.fits")
    assert_allclose(
        table["flux"].sum().to_value("Jy") * channel_width(header),
        product("mom0", 1).data.sum() / detections.cube.beam_area,
        rtol=1e-5,
    )
    text = (folder / "toy_field_cubelets" / "toy_field_1_spec.txt").read_text()
    rows = np.array([line.split() for line in text.splitlines() if not line.startswith("#")], dtype=float)
    names = next(line.split() for line in text.splitlines() if "Channel" in line)
    assert names == ["#", "Channel", "Frequency", "Flux", "density", "Pixels", "Error"]
    part = table[int(rows[0, 0]) : int(rows[-1, 0]) + 1]
    assert_allclose(rows[:, 2], part["flux"].value, rtol=1e-6, atol=1e-12)
    assert_allclose(rows[:, 1], part["freq"].value, rtol=1e-9)


def test_the_text_of_a_spectrum_says_that_the_catalogues_flux_is_not_its_sum(written, folder):
    text = (folder / "toy_field_cubelets" / "toy_field_1_spec.txt").read_text()
    assert "f_sum in the catalogue is not the sum of this spectrum" in text


@pytest.mark.parametrize("reasons", [0, 2, 12])
def test_numbers_and_reasons_on_a_page_do_not_overlap_and_stay_on_it(make_detections, reasons):
    detections = make_detections()
    candidate = replace(
        detections.candidates[0],
        decisions=[remark("one object with candidate 3: both lie in one mask, and separate sources do not explain it")]
        * reasons,
        line_ids="; ".join(f"CO {k}-{k - 1} z={k / 3:.5f}" for k in range(1, 6)),
    )
    figure = Figure(figsize=(11, 7.5))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.735, 0.08, 0.25, 0.39))
    write_facts(axes, detections, candidate)
    facts, why = (text.get_window_extent() for text in axes.texts)
    assert facts.y0 >= why.y1 - 1  # pixels
    assert why.y0 >= axes.get_window_extent().y0 - 1


@pytest.mark.parametrize(("method", "labels"), [("fit", ["fit"]), ("mask", [])])
def test_gaussians_are_not_drawn_over_a_line_that_they_do_not_describe(make_detections, method, labels):
    detections = make_detections()
    candidate, scales = replace(detections.candidates[0], method=method), Scales.of(detections.cube)
    data = source_data(detections, candidate, detections.noise)
    axes = Figure().add_subplot()
    draw_spectrum(axes, detections, data, spectrum_of(data, scales, detections.noise))
    assert [label for label in axes.get_legend_handles_labels()[1] if label == "fit"] == labels


def test_the_convention_of_a_spectrums_velocities_is_said(make_detections, header):
    """In a cube of optical velocities the maps are in those, the spectrum is not: at 7000 km/s they differ by 160."""
    detections = make_detections()
    optical = header.copy()
    del optical["RESTFRQ"]
    optical["CTYPE3"], optical["CUNIT3"], optical["CRVAL3"], optical["CDELT3"] = "VOPT", "m/s", 7e6, 5e3
    detections.cube = replace(detections.cube, wcs=WCS(optical), header=optical)
    candidate, scales = detections.candidates[0], Scales.of(detections.cube)
    data, axes = source_data(detections, candidate, detections.noise), Figure().add_subplot()
    spectrum = spectrum_of(data, scales, detections.noise)
    draw_spectrum(axes, detections, data, spectrum)
    assert axes.get_xlabel() == "Radio velocity (km/s, LSRK)"
    assert axes.get_xlim()[0] < 7000  # optical velocities begin there
    assert "# Velocity: radio convention." in _spectrum_text(spectrum_table(detections, spectrum), "it", True)


def test_frequencies_on_a_page_are_whole_and_no_differences(make_detections):
    detections = make_detections()
    detections.cube.wcs.wcs.cdelt[2] = -2e4  # a band of 1 MHz at 230 GHz
    candidate, scales = detections.candidates[0], Scales.of(detections.cube)
    data, figure = source_data(detections, candidate, detections.noise), Figure()
    axes = figure.add_subplot()
    draw_spectrum(axes, detections, data, spectrum_of(data, scales, detections.noise))
    FigureCanvasAgg(figure).draw()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert labels and all(text.startswith("230.") for text in labels)


def test_the_cut_runs_along_the_kinematic_axis(written):
    detections, product = written
    hdu = product("pv", 1)
    assert hdu.header["CTYPE1"] == "OFFSET" and hdu.header["CUNIT1"] == "arcsec"
    assert_allclose(hdu.header["PVPA"], 70.0)
    wcs = WCS(hdu.header)
    middle = detections.cube.frequency(22.0)
    offset, channel = wcs.wcs_world2pix([[0.0, middle.to_value("Hz")]], 0)[0]
    assert_allclose([offset % 1, channel % 1], 0, atol=0.01)
    assert hdu.data[round(channel), round(offset)] == pytest.approx(detections.cube.data[22, 30, 35], abs=0.02)


def test_beams_of_each_channel_go_along(make_detections, tmp_path):
    from spectral_cube import VaryingResolutionSpectralCube

    detections = make_detections(per_channel=True)
    write_products(detections, tmp_path, pages=False)
    path = tmp_path / "toy_field_cubelets" / "toy_field_1_cube.fits"
    first = round(WCS(fits.getheader(path)).spectral.world_to_pixel(detections.cube.frequency(20.0)).item())
    cube = VaryingResolutionSpectralCube.read(path)
    assert_allclose(cube.beams[first].major.to_value("arcsec"), detections.cube.beams[20].major.to_value("arcsec"))
    assert "BMAJ" not in fits.getheader(path) and fits.getheader(path)["CASAMBM"]
    images = pytest.importorskip("casacore.images")
    beams = images.image(str(path)).imageinfo()["perplanebeams"]
    assert beams["nChannels"] == fits.getheader(path)["NAXIS3"]
    # a map has one beam, to which each channel is brought
    moment, inside = fits.open(path.with_name("toy_field_1_mom0.fits"))[0], detections.labels() == 1
    sums = (detections.cube.data * inside).sum(axis=(1, 2), dtype=float)
    areas = detections.cube.beam_area * detections.cube.beams.value / detections.cube.beam.value
    by_hand = (sums / areas).sum() * channel_width(detections.cube.header)
    assert_allclose(moment.data.sum(dtype=float) / detections.cube.beam_area, by_hand, rtol=1e-4)


def test_casas_library_reads_every_product_at_its_place(written, folder):
    images = pytest.importorskip("casacore.images")
    files = [path for path in sorted(folder.rglob("*.fits")) if not path.name.endswith("_spec.fits")]
    assert len(files) > 20
    for path in files:
        image, header, data = images.image(str(path)), fits.getheader(path), fits.getdata(path)
        assert_allclose(np.nan_to_num(image.getdata()), np.nan_to_num(data), rtol=1e-6, err_msg=path.name)
        assert ("restoringbeam" in image.imageinfo()) == ("BMAJ" in header)
        if path.name.endswith("_pv.fits"):
            continue
        middle = [n // 2 for n in image.shape()]
        dec, ra = image.toworld(middle)[-2:]  # in radians
        here = WCS(header).celestial.pixel_to_world(*middle[:-3:-1])
        assert_allclose([np.degrees(ra) % 360, np.degrees(dec)], [here.ra.deg, here.dec.deg], rtol=0, atol=1e-8)
    assert images.image(str(folder / "toy_field_cubelets" / "toy_field_1_mom0.fits")).unit() == "Jy.beam-1.km.s-1"


def test_a_cube_without_a_header_has_products_in_pixels_and_channels(make_detections, tmp_path):
    detections = make_detections(bare=True)
    folder = write_products(detections, tmp_path, pages=False)
    moment = fits.open(folder / "toy_field_1_mom0.fits")[0]
    by_hand = detections.cube.data[detections.labels() == 1].sum(dtype=float)
    assert_allclose(moment.data.sum(dtype=float), by_hand, rtol=1e-5)
    assert fits.getval(folder / "toy_field_1_pv.fits", "CUNIT1") == "pix"


def test_a_source_of_continuum_has_its_image_and_spectrum(written, folder):
    _, product = written
    assert_allclose(product("cont", 3).data.max(), 0.2, atol=0.01)
    files = {file.name for file in (folder / "toy_field_cubelets").glob("toy_field_3_*")}
    assert files == {f"toy_field_3_{end}" for end in ("cont.fits", "spec.fits", "spec.txt", "page.png")}


def test_the_mask_of_the_field_is_that_of_the_detections(written):
    detections, product = written
    assert np.array_equal(product("mask").data, detections.labels())


def test_the_noise_map_is_the_noise(written):
    _, product = written
    assert_allclose(np.median(product("noise").data), 0.01, rtol=0.05)
    assert u.Unit(product("noise").header["BUNIT"]) == u.Jy / u.beam


def test_sources_of_an_earlier_result_leave_no_files(make_detections, tmp_path):
    detections = make_detections()
    write_products(detections, tmp_path, pages=False)
    (tmp_path / "toy_field_cubelets" / "mine.txt").write_text("mine")
    write_products(detections, tmp_path, detections.kept[:1], pages=False)
    names = {file.name for file in (tmp_path / "toy_field_cubelets").iterdir()}
    assert "mine.txt" in names
    assert not [name for name in names if name.startswith(("toy_field_2", "toy_field_3"))]


def test_products_belong_to_one_result(make_detections, tmp_path):
    detections = make_detections()
    write_result(detections, tmp_path / "out")
    assert not has_products(tmp_path / "out", "toy field")
    write_products(detections, tmp_path / "out", pages=False)
    assert has_products(tmp_path / "out", "toy field")
    write_result(detections, tmp_path / "out")  # another run's
    assert not has_products(tmp_path / "out", "toy field")


def test_a_unit_is_written_with_one_slash_at_most():
    assert unit_card(u.Jy / u.beam * u.km / u.s) == "Jy beam-1 km s-1"
    assert unit_card(u.Jy / u.beam) == "Jy/beam"
    assert unit_card(u.K * u.km / u.s) == "K km s-1"
    assert unit_card(u.dimensionless_unscaled) == ""


def test_a_cubes_name_is_fit_for_a_file():
    assert file_name("my cube (1)/a") == "my_cube_1_a"
    assert file_name("...") == "cube"


def test_the_folder_says_what_is_in_it(written, folder):
    about = json.loads((folder / "toy_field_cubelets" / "products.json").read_text())
    assert about["sources"] == [1, 2, 3]


def test_moment_0_without_the_level_is_the_catalogues_flux_of_a_galaxy(shared_data, tmp_path):
    detections = detect(read_cube(shared_data / "real" / "carma_ngc4047_maskmoment.fits.gz"))
    (galaxy,) = detections.kept
    assert galaxy.method == "mask"
    folder = write_products(detections, tmp_path, pages=False)
    moment = fits.getdata(next(folder.glob("*_mom0_contsub.fits")))
    assert_allclose(moment.sum(dtype=float) / detections.cube.beam_area, galaxy.f_sum, rtol=1e-4)


@pytest.mark.parametrize("corrected", [True, False])
def test_products_say_whether_the_primary_beam_was_corrected_for(make_detections, tmp_path, corrected):
    cube = make_detections().cube
    assert "PBCOR" not in cube_header(cube, (0, 0, 0), "field")
    beam = PrimaryBeam(np.ones((1, *cube.shape[1:]), np.float32), tmp_path / "pb.fits", corrected)
    cube = replace(cube, primary_beam=beam)
    assert cube_header(cube, (0, 0, 0), "field")["PBCOR"] is corrected
    assert image_header(cube, (0, 0), "field", u.Jy / u.beam, "Noise")["PBCOR"] is corrected
