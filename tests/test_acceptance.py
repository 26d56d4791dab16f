"""The shipped networks, from file to catalogue, on cubes that no training has seen."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from napari_almadet import detect, read_cube
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
    """Made by CASA, not by our simulator: at least 4 of its 5 sources, no more than 2 others."""
    truth = Table.read(shared_data / "casa" / "calib_truth.csv")
    found = centres(detect(read_cube(shared_data / "casa" / "calib_dirty.fits.fz")))
    pairs = match(np.stack([truth["x"], truth["y"]], axis=1), found)
    assert len(pairs) >= 4
    assert len(found) - len(pairs) <= 2


@pytest.mark.parametrize("galaxy", [(108, 30), (35, 41)])
def test_galaxies_of_wein_069(shared_data, galaxy):
    """Another telescope and another line: within the discs of the two highest peaks of the smoothed cube."""
    found = centres(detect(read_cube(shared_data / "real" / "wsrt_wein069_sliceastro.fits")))
    assert np.linalg.norm(found - galaxy, axis=1).min() < 6
