"""One cube is measured: image, spectrum, box sum, export and catalogue hold the same numbers, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

from napari_almadet import Settings, detect, read_result, write_result
from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.catalogue.export import write_catalogue, write_spectra
from napari_almadet.measure.spectra import off_line
from napari_almadet.remeasure import refocus

NUMBERS = ("x", "y", "z", "f_sum", "err_f_sum", "w50", "peak", "snr_pixel", "v_rad")


@pytest.fixture
def detections(planes_of, sky_cube):
    """Of a clean cube with two sources, one with continuum."""
    sources = ((30, 30, 40, 8, 12.0, 0.0), (55, 62, 80, 6, 14.0, 1.5))
    return detect(sky_cube(planes_of(sources)), Settings(beam="clean"))


def test_image_and_spectrum_are_sums_of_the_files_own_voxels_and_so_is_the_flux_of_a_range(detections):
    cube = detections.cube
    data = fits.getdata(cube.path)
    assert len(detections.kept) == 2
    for candidate in detections.kept:
        box, (first, last) = candidate.box.slices, candidate.channels
        np.testing.assert_array_equal(candidate.spectrum, data[:, *box].sum(axis=(1, 2)))
        image = np.full(candidate.focused.shape, np.nan, np.float32)
        (y0, x0), (ny, nx) = candidate.focus_origin, data.shape[1:]
        part = data[first:last, max(y0, 0) : y0 + len(image), max(x0, 0) : x0 + image.shape[1]].sum(axis=0)
        image[max(-y0, 0) : ny - y0, max(-x0, 0) : nx - x0] = part
        np.testing.assert_allclose(candidate.focused, image, rtol=2e-6, atol=1e-5)

        wider = refocus(candidate, detections, (first - 2, last + 3))
        rest = off_line(candidate.peaks, len(data))
        rest[first - 2 : last + 3] = False
        voxels = data.astype(float)[:, *box]
        lines = (voxels - voxels[rest].mean(axis=0))[first - 2 : last + 3].sum(axis=(1, 2))
        factor = flux_factor(cube, np.arange(first - 2, last + 3))[0] * channel_width(cube, wider.z).value
        assert wider.f_sum == pytest.approx(float((lines * factor).sum()), rel=1e-5)


def test_what_is_written_and_exported_is_what_was_measured_to_the_last_digit(detections, tmp_path):
    table = detections.table()
    back = read_result(write_result(detections, tmp_path / "result"))
    for one, other in zip(detections.candidates, back.candidates, strict=True):
        np.testing.assert_array_equal(one.spectrum, other.spectrum)
        for name in ("x", "y", "z", "f_sum", "err_f_sum", "peak"):
            np.testing.assert_equal(getattr(other, name), getattr(one, name))
    for one, other in zip(detections.kept, back.kept, strict=True):
        np.testing.assert_array_equal(one.focused, other.focused)
    files = [
        write_catalogue(detections, tmp_path / f"sources{ending}") for ending in (".fits", ".vot", ".csv", ".ecsv")
    ]
    for path in [tmp_path / "result" / "catalog.ecsv", *files]:
        written = QTable.read(path) if path.suffix != ".csv" else Table.read(path)
        for name in NUMBERS:
            np.testing.assert_array_equal(np.asarray(written[name], float), np.asarray(table[name], float), str(path))
    spectra = Table.read(write_spectra(detections, tmp_path / "spectra.fits"), hdu="SPECTRA")
    factor, unit = flux_factor(detections.cube, np.arange(detections.cube.shape[0]))
    scale = unit.to(spectra["dirty"].unit)
    for row, candidate in zip(spectra, detections.kept, strict=True):
        np.testing.assert_allclose(row["dirty"], candidate.spectrum * factor * scale, rtol=1e-6)
