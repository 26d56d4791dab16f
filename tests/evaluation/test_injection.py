"""Sources added to a cube as it is read."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.stats import gaussian_fwhm_to_sigma
from astropy.wcs import WCS
from radio_beam import Beam, Beams

from napari_almadet import Cube, read_cube
from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.cube.cube import PrimaryBeam
from napari_almadet.evaluation.injection import Injection, Patch, injected, patch_of, room_of, snr_of
from napari_almadet.measure.noise import Noise, white

PIXEL = 0.2  # arcsec
SOURCE = Injection(31.3, 27.8, 11.2, 2.5, 4.0, 1.0)


def header() -> fits.Header:
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN", "FREQ"
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 2.0, 230.5e9), (32, 32, 1)
    wcs.wcs.cdelt, wcs.wcs.cunit = (-PIXEL / 3600, PIXEL / 3600, 5e6), ("deg", "deg", "Hz")
    wcs.wcs.restfrq = 230.538e9
    made = wcs.to_header()
    made["BUNIT"], made["BMAJ"], made["BMIN"], made["BPA"] = "Jy/beam", 1.4 / 3600, 0.9 / 3600, 35.0
    return made


@pytest.fixture
def file(tmp_path):
    """A cube of noise in a file, with a pixel of zeros, as outside a primary beam, and one of NaN."""
    data = np.random.default_rng(1).normal(size=(24, 64, 64)).astype(np.float32)
    data[:, 28, 30], data[:, 27, 31] = 0, np.nan
    fits.writeto(tmp_path / "cube.fits", data, header())
    return tmp_path / "cube.fits"


def total(patch: Patch, cube: Cube) -> float:
    """Flux of a patch by the definition of the catalogue: the sum over pixels and channels of unit times width."""
    n = len(patch.spectrum)
    factor = np.broadcast_to(flux_factor(cube, np.arange(n) + patch.origin[0])[0], n)
    sums = patch.spectrum * patch.images.sum(axis=(1, 2))
    return float((sums * factor).sum() * channel_width(cube, SOURCE.z).value)


@pytest.mark.parametrize("size", [0, 1.5])
def test_the_sum_of_an_injected_source_is_its_flux(file, size):
    cube = read_cube(file)
    assert total(patch_of(replace(SOURCE, size=size), cube, 6.0), cube) == pytest.approx(2.5, rel=2e-3)


def test_the_flux_holds_where_each_channel_has_its_own_beam_and_in_kelvin_and_without_a_beam(file):
    cube = read_cube(file)
    axes = np.linspace(1.0, 1.8, 24) * u.arcsec
    many = replace(cube, beams=Beams(axes, 0.8 * axes, np.zeros(24) * u.deg))
    patch = patch_of(SOURCE, many, 6.0)
    assert len(patch.images) == len(patch.spectrum)
    for one in (many, replace(cube, unit=u.K), replace(cube, beams=None), Cube.from_array(np.zeros((24, 64, 64)))):
        assert total(patch_of(SOURCE, one, 6.0), one) == pytest.approx(2.5, rel=2e-3)


def test_a_point_source_is_as_bright_as_its_flux_density_in_one_beam(file):
    cube = read_cube(file)
    patch = patch_of(replace(SOURCE, x=31.0, y=27.0, size=0), cube, 6.0)
    density = patch.spectrum * patch.images.max() * channel_width(cube, SOURCE.z).value
    assert density.sum() == pytest.approx(2.5, rel=2e-3)  # Jy/beam of a point are Jy
    sigma_x = gaussian_fwhm_to_sigma * Beam(1.4 * u.arcsec, 0.9 * u.arcsec).minor.value / PIXEL
    assert patch.images.shape[2] > 6 * sigma_x


def test_any_part_of_an_injected_cube_is_that_part_of_the_whole_and_the_file_is_untouched(file):
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    cube = read_cube(file)
    patches = [patch_of(SOURCE, cube, 6.0), patch_of(replace(SOURCE, x=2.0, y=60.5, z=20.0), cube, 6.0)]
    searched = injected(cube, patches)
    whole = searched.read()
    assert np.nanmax(whole - cube.read()) > 0.5 * patches[0].at_peak(24).max()
    parts = [(11,), (slice(3, 20, 2), slice(20, 40), slice(None)), (slice(None), 27, 31)]
    parts += [(slice(None), slice(None, None, -3), np.array([5, 31, 32])), (np.arange(24) > 9, 28, slice(25, 35))]
    for part in parts:
        np.testing.assert_array_equal(searched.read(*part), whole[part])
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_what_has_no_data_has_none_with_a_source_on_it(file):
    cube = read_cube(file)
    whole = injected(cube, [patch_of(SOURCE, cube, 6.0)]).read()
    assert np.isnan(whole[:, 27, 31]).all()
    assert np.isnan(whole[:, 28, 30]).all()  # zeros in a file are no data


def test_a_pickled_cube_has_its_sources_again(file):
    cube = read_cube(file)
    searched = injected(cube, [patch_of(SOURCE, cube, 6.0)])
    again = pickle.loads(pickle.dumps(searched))
    np.testing.assert_array_equal(again.read(), searched.read())
    assert again.sha256() == ""  # it is not the file


def test_the_primary_beam_attenuates_unless_it_was_corrected_for(file):
    cube = read_cube(file)
    response = PrimaryBeam(np.full((1, 64, 64), 0.4, np.float32), file)
    seen = total(patch_of(SOURCE, replace(cube, primary_beam=response), 6.0), cube)
    assert seen == pytest.approx(0.4 * 2.5, rel=2e-3)
    corrected = replace(cube, primary_beam=replace(response, corrected=True))
    assert total(patch_of(SOURCE, corrected, 6.0), cube) == pytest.approx(2.5, rel=2e-3)


def test_a_point_source_in_a_dirty_cube_is_the_dirty_beam_at_its_place(file, tmp_path):
    y, x = np.mgrid[-32:33, -32:33] / 5
    psf = np.exp(-(x**2 + y**2)) * np.cos(3 * x)
    fits.writeto(tmp_path / "psf.fits", psf.astype(np.float32))
    cube = read_cube(file)
    patch = patch_of(replace(SOURCE, x=31.3, y=27.0, size=0), cube, 6.0, tmp_path / "psf.fits")
    seen = patch.spectrum.sum() * patch.images[0] * channel_width(cube, SOURCE.z).value
    y, x = np.mgrid[:64, :64] - np.array([27.0, 31.3])[:, None, None]
    inside = seen[: 27 + 25]  # away from the end of the beam's image
    expected = 2.5 * np.exp(-(x**2 + y**2) / 25) * np.cos(3 * x / 5)
    np.testing.assert_allclose(inside, expected[: 27 + 25], atol=0.01)


def test_the_snr_is_that_of_the_line_at_the_brightest_pixel():
    patch = Patch((2, 0, 0), np.array([1.0, 2.0, 2.0]), np.array([[[0.5, 3.0]]]))
    assert snr_of(patch, white(8, 0.5)) == pytest.approx(3 * 3 / 0.5)
    assert snr_of(patch, white(8, 0.5), level=2.0) == pytest.approx(9.0)
    shared = Noise(np.full(8, 0.5), np.ones((1, 1)), np.array([1.0, 0.5]))
    assert snr_of(patch, shared) == pytest.approx(3 * 9 / 0.5 / np.sqrt(9 + 2 * 0.5 * (2 + 4)))


def test_sources_are_placed_away_from_borders_from_what_is_there_and_from_each_other():
    valid = np.ones((90, 100), bool)
    valid[:, :20] = False
    room = room_of(valid, np.arange(30) != 12, [(60.0, 40.0, 15.0)], 4.0)
    places = np.array(room.places(np.random.default_rng(3), 12, 20.0))
    assert len(places) > 5
    x, y = places.T
    assert (x > 20 - 1 + 4 - 0.5).all() and (np.minimum(y, 89 - y) > 4 - 1.5).all()
    assert (np.hypot(x - 60, y - 40) > 14).all()
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    assert distance[~np.eye(len(x), dtype=bool)].min() > 20
    centres = [room.channel(np.random.default_rng(i), 5.0) for i in range(50)]
    assert min(centres) >= 4.5 and max(centres) <= 24.5
    assert not {round(z) for z in centres} & {12}
