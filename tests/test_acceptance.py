"""The shipped networks, from file to catalogue, on cubes that no training has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from napari_almadet import Settings, detect, read_cube
from napari_almadet.evaluation.matching import match
from napari_almadet.simulation.dataset import sample, sample_cube


def centres(detections) -> np.ndarray:
    return np.array([(c.x, c.y) for c in detections.kept]).reshape(-1, 2)


def test_nothing_is_found_in_noise():
    assert detect(sample_cube("noise")).kept == []


def test_the_sample_shows_most_of_its_sources():
    truth = sample("sources").truth
    found = centres(detect(sample_cube("sources")))
    pairs = match(np.stack([truth["x"].value, truth["y"].value], axis=1), found)
    assert len(pairs) >= 4
    assert len(found) - len(pairs) <= 1


def test_casa_cube(shared_data):
    """Made by CASA, not by our simulator: all of its 5 sources, and nothing else."""
    truth = Table.read(shared_data / "casa" / "calib_truth.csv")
    found = centres(detect(read_cube(shared_data / "casa" / "calib_dirty.fits.fz")))
    pairs = match(np.stack([truth["x"], truth["y"]], axis=1), found)
    assert len(pairs) == len(found) == 5


def test_casa_cube_with_the_papers_networks(shared_data):
    """At least 4 of its 5 sources, no more than 2 others."""
    truth = Table.read(shared_data / "casa" / "calib_truth.csv")
    found = centres(detect(read_cube(shared_data / "casa" / "calib_dirty.fits.fz"), Settings(preset="paper")))
    pairs = match(np.stack([truth["x"], truth["y"]], axis=1), found)
    assert len(pairs) >= 4
    assert len(found) - len(pairs) <= 2


def test_molecular_clouds_are_never_nothing(shared_data):
    """Extended, blended emission unlike anything the networks have learnt: told as it is, not dropped."""
    for name in ("alma_orionkl_methanol_acalib", "alma_ngc4321_phangs_subset_filfinder", "carma_ngc4324_kinms"):
        assert detect(read_cube(shared_data / "real" / f"{name}.fits")).kept


@pytest.mark.parametrize("galaxy", [(108, 30), (35, 41)])
def test_galaxies_of_wein_069(shared_data, galaxy):
    """Another telescope and another line: one box about each of the two highest peaks of the smoothed cube."""
    kept = detect(read_cube(shared_data / "real" / "wsrt_wein069_sliceastro.fits")).kept
    x, y = galaxy
    assert sum(c.box.y0 <= y < c.box.y1 and c.box.x0 <= x < c.box.x1 for c in kept) == 1


def test_a_galaxy_that_fills_the_field_is_one_row(shared_data):
    for name in ("wsrt_ngc6946_int16_kapteyn", "vla_ngc2403_cutout_baygaud"):
        (one,) = detect(read_cube(shared_data / "real" / f"{name}.fits")).kept
        assert one.prob > 0.9


def test_a_cloud_larger_than_the_field_is_found_or_warned_of():
    """With a gradient it is found; without one it also looks like an offset of its channels."""
    noise = sample_cube("noise")
    planes = np.asarray(noise.read(), np.float32)[:, :64, :64]
    y = np.indices(planes.shape[1:])[0] / planes.shape[1] - 0.5
    line = np.exp(-4 * np.log(2) * ((np.arange(len(planes)) - len(planes) // 2) / 12) ** 2)
    for gradient, surely_found in ((1.0, True), (0.0, False)):
        sky = 20 * np.nanstd(planes) * (1 + gradient * y)
        cube = replace(noise, data=(planes + line[:, None, None] * sky).astype(np.float32))
        detections = detect(cube)
        warned = any("Half of the field" in text for text in detections.warnings)
        assert detections.kept or (warned and not surely_found)
        assert not (warned and surely_found)
