"""Cubes, truth tables and sets: what is said to be true is what is in the data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from napari_almadet import read_cube
from napari_almadet.simulation.dataset import sample_cube, seed_of, simulate_cube, write_set
from napari_almadet.simulation.observation_files import truth_boxes
from napari_almadet.simulation.observe import Imager, Observation

SMALL = Observation(size=96, n_channels=32, duration=600, integration=60)


@pytest.fixture(scope="module")
def imager():
    return Imager(SMALL)


def test_same_seed_same_cube(imager):
    first, again, other = (simulate_cube(seed, imager=imager) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.dirty, again.dirty)
    assert not np.array_equal(first.dirty, other.dirty)


def test_boxes_hold_the_restored_source_down_to_a_tenth(imager):
    simulated = simulate_cube(8, imager=imager)
    for image, (y0, y1, x0, x1) in zip(
        simulated.model.images(96, beam=imager.observation.clean_beam),
        truth_boxes(simulated.model, imager),
        strict=True,
    ):
        outside = image.copy()
        outside[y0:y1, x0:x1] = 0
        assert outside.max() < 0.1
        for edge in (image[y0, x0:x1], image[y1 - 1, x0:x1], image[y0:y1, x0], image[y0:y1, x1 - 1]):
            assert edge.max() >= 0.1


def test_snr_is_what_a_noiseless_and_a_noise_only_cube_give(imager):
    """Measured on cubes: the peak of one source's stack over the rms of many noise-only stacks."""
    simulated = simulate_cube(3, imager=imager)
    noise = np.concatenate(
        [simulate_cube(s, "empty", imager=imager).dirty.sum(axis=0).ravel() for s in range(100, 115)]
    )
    alone = simulated.model
    for i in range(len(alone)):
        one = type(alone)(**{k: v[i : i + 1] for k, v in vars(alone).items()})
        clean = imager.noise_free_cube(one).numpy()
        assert clean.sum(axis=0).max() / noise.std() == pytest.approx(simulated.truth["snr_stack"][i], rel=0.05)


def test_scenarios(imager):
    assert len(simulate_cube(0, "empty", imager=imager).truth) == 0
    assert (simulate_cube(0, "continuum-only", imager=imager).truth["z_min"] == -1).all()
    with pytest.raises(ValueError, match="no scenario 'foo'; there are: paper"):
        simulate_cube(0, "foo", imager=imager)


def test_sets_have_seeds_of_their_own():
    seeds = {
        seed_of(which, i, s, 0)
        for which in ("train", "validation", "test")
        for i in range(50)
        for s in ("paper", "empty")
    }
    assert len(seeds) == 300


def test_a_set_on_disk_is_complete_and_is_not_made_twice(tmp_path):
    made = list(write_set(tmp_path, 2, which="test", observation=SMALL, jobs=2))
    assert sorted(p.name for p in made) == ["paper-00000", "paper-00001"]
    cube = read_cube(made[0] / "dirty.fits")
    about = json.loads((made[0] / "simulation.json").read_text())
    again = simulate_cube(about["seed"], observation=SMALL)
    np.testing.assert_array_equal(cube.read(), again.dirty)
    assert cube.beam.major.to_value("arcsec") == pytest.approx(SMALL.clean_beam.major * SMALL.pixel)
    assert cube.frequency(16).to_value("GHz") == pytest.approx(230)

    truth = QTable.read(made[0] / "truth.ecsv")
    assert [name for name in truth.colnames if not truth[name].info.description] == []
    assert "channels" in truth["fwhm_line"].info.description
    sky = fits.getdata(made[0] / "sky.fits")
    assert sky.shape == (32, 96, 96)
    brightest = truth[np.argmax(truth["continuum"] + truth["line"])]
    y, x = np.unravel_index(sky.max(axis=0).argmax(), (96, 96))
    assert np.hypot(x - brightest["x"].value, y - brightest["y"].value) < 1.5
    psf = fits.getdata(made[0] / "psf.fits")
    assert psf[96, 96] == psf.max() == pytest.approx(1)

    stamp = (made[1] / "dirty.fits").stat().st_mtime_ns
    (made[0] / "dirty.fits").unlink()  # a folder that is there counts as made
    third = list(write_set(tmp_path, 3, which="test", observation=SMALL, jobs=1))
    assert len(third) == 3
    assert (made[1] / "dirty.fits").stat().st_mtime_ns == stamp
    assert not list(tmp_path.glob("*.partial"))
    for other, differs in (
        ({"seed": 1}, "seed"),
        ({"which": "train"}, "seed"),
        ({"observation": replace(SMALL, size=64)}, "size"),
        ({"observation": replace(SMALL, noise=2e-3, robust=0.5)}, "noise, robust"),
        ({"observation": replace(SMALL, duration=60.0)}, "minutes"),
        ({"observation": replace(SMALL, frequency=90e9)}, "frequency"),
    ):
        with pytest.raises(ValueError, match=rf"was made with other options \({differs}\): choose another folder"):
            list(write_set(tmp_path, 3, **{"which": "test", "observation": SMALL, "jobs": 1} | other))


def test_sample_cubes_have_coordinates_and_a_beam():
    cube = sample_cube("noise", seed=1)
    assert cube.shape == (128, 360, 360)
    assert cube.beam_area == pytest.approx(np.pi * 8.93 * 7.6 / (4 * np.log(2)), rel=0.01)
    assert cube.sky(180, 180).dec.deg == pytest.approx(-35)
