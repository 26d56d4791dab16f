"""Mosaics: fields side by side, with the sources, noise and beam of single ones, and never a cube in memory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import mad_std
from astropy.table import QTable

from napari_almadet import read_cube
from napari_almadet.simulation.dataset import write_set
from napari_almadet.simulation.mosaic import draw_mosaic, planes
from napari_almadet.simulation.observe import Observation

SMALL = Observation(size=200, n_channels=9)


def cube_of(mosaic, seed: int = 1) -> np.ndarray:
    return np.stack([plane.copy() for plane in planes(mosaic, np.random.default_rng(seed))])


@pytest.fixture(scope="module")
def empty() -> np.ndarray:
    return cube_of(draw_mosaic(1, 2, "empty", SMALL))


def test_noise_is_the_observations_in_every_channel(empty):
    assert empty.shape == (9, 400, 400)
    np.testing.assert_allclose([mad_std(plane) for plane in empty], SMALL.noise, rtol=0.06)
    together = np.corrcoef(empty.reshape(9, -1))
    assert np.abs(together[~np.eye(9, dtype=bool)]).max() < 0.05


def test_noise_is_correlated_as_the_dirty_beam_near_its_centre(empty):
    power = (np.abs(np.fft.rfft2(empty)) ** 2).mean(axis=0)
    correlation = np.fft.irfft2(power)
    beam, middle = SMALL.dirty_beam, SMALL.size
    for y, x in ((0, 3), (4, 0), (6, 6), (0, 20), (15, -15)):
        assert correlation[y, x] / correlation[0, 0] == pytest.approx(beam[middle + y, middle + x], abs=0.05)


def test_a_source_is_as_bright_as_its_truth_says():
    mosaic = draw_mosaic(3, 2, "continuum-only", replace(SMALL, noise=1e-9))
    stacked = cube_of(mosaic).sum(axis=0)
    truth = mosaic.truth
    assert len(truth) == len(mosaic.stamps)
    bright = truth[np.argmax(truth["snr_stack"])]
    y, x = (round(bright[axis].value) for axis in "yx")
    peak = stacked[y - 3 : y + 4, x - 3 : x + 4].max()
    assert peak == pytest.approx(bright["snr_stack"] * 1e-9 * np.sqrt(9), rel=0.15)  # its neighbours' sidelobes


def test_every_field_has_its_own_sources():
    truth = draw_mosaic(4, 3, "paper", SMALL).truth
    fields = {(int(row["y"].value // 200), int(row["x"].value // 200)) for row in truth}
    assert len(fields) == 9
    assert list(truth["id"]) == list(range(1, len(truth) + 1))
    inside = (truth["x_min"] <= truth["x"].value) & (truth["x"].value <= truth["x_max"])
    assert inside.all()


def test_a_mosaic_on_disk_is_a_cube_with_its_truth(tmp_path):
    (folder,) = write_set(tmp_path, 1, observation=SMALL, mosaic=2, jobs=1)
    cube = read_cube(folder / "dirty.fits")
    assert cube.shape == (9, 400, 400)
    assert cube.beam_area == pytest.approx(np.pi / (4 * np.log(2)) * SMALL.clean_beam.fwhm**2, rel=0.01)
    sky = cube.sky(200, 200)
    assert (sky.ra.deg, sky.dec.deg) == pytest.approx((59.9998333, SMALL.declination), abs=1e-6)
    assert len(QTable.read(folder / "truth.ecsv")) >= 4 * 3
    assert json.loads((folder / "simulation.json").read_text())["mosaic"] == 2
    assert fits.getdata(folder / "psf.fits").shape == (400, 400)
    assert not (folder / "sky.fits").exists()
    before = (folder / "dirty.fits").stat().st_mtime
    assert list(write_set(tmp_path, 1, observation=SMALL, mosaic=2, jobs=1)) == [folder]
    assert (folder / "dirty.fits").stat().st_mtime == before


def test_scenarios_that_observe_each_field_in_its_own_way_make_no_mosaics():
    with pytest.raises(ValueError, match="no mosaics of beams"):
        draw_mosaic(1, 2, "beams", SMALL)
