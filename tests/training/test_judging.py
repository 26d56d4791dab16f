"""What Judge learns from, and its calibration."""

from __future__ import annotations

import numpy as np
import torch

from napari_almadet.networks.judge import Judge
from napari_almadet.search.features import N_FEATURES
from napari_almadet.search.sidelobes import KnownBeam
from napari_almadet.training.fields import SIDE, SimulatedField
from napari_almadet.training.judging import Candidates, calibrate, labels


def write(path, measures, true):
    np.savez(path, measures=measures.astype(np.float32), true=true.astype(np.float32))
    return path


def test_candidates_come_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    measures, true = rng.normal(size=(5, N_FEATURES)), np.array([0, 1, 1, 0, 1])
    candidates = Candidates(write(tmp_path / "c.npz", measures, true), augment=False)
    assert len(candidates) == 5
    numbers, is_source = candidates[2]
    np.testing.assert_allclose(numbers, measures[2], rtol=1e-6)
    assert is_source == 1


def test_calibration_makes_probabilities_true(tmp_path):
    """Sources come with the chance that a known logit says; a judge that is twice too sure learns it."""
    rng = np.random.default_rng(1)
    measures = rng.normal(size=(6000, 2))
    logit = 1.5 * measures[:, 0] - 0.5
    true = rng.random(6000) < 1 / (1 + np.exp(-logit))

    class Sure(Judge):
        def forward(self, numbers):
            return self.slope * (3 * numbers[:, 0]) + self.shift

    judge = Sure(2)
    calibrate(judge, Candidates(write(tmp_path / "c.npz", measures, true), augment=False))
    with torch.no_grad():
        said = judge(torch.from_numpy(measures.astype(np.float32))).numpy()
    np.testing.assert_allclose(said, logit, atol=0.25)


def field_with(*sources: tuple[float, float, float], beam: float = 4.0) -> SimulatedField:
    """A field with sources (y, x, sigma), and a galaxy in its last rows."""
    rows = np.array([(y, x, sigma, sigma, 20.0, 10.0, 40.0, 5.0) for y, x, sigma in sources]).reshape(-1, 8)
    objects = np.zeros((SIDE, SIDE), np.uint8)
    objects[-6:] = 1
    none = np.zeros((SIDE, SIDE), bool)
    return SimulatedField(torch.zeros(2, SIDE, SIDE), rows, beam, objects, none, KnownBeam(beam))


def test_the_nearest_detection_within_four_tenths_of_a_beam_is_the_source():
    true, pieces = labels(field_with((30, 30, 1.7)), np.array([[31.5, 30], [30.5, 30], [30, 31.8]]))
    assert true.tolist() == [False, True, False]
    assert not pieces.any()


def test_a_disc_may_be_detected_away_from_its_centre_and_its_second_piece_is_left_out():
    disc = 6.0  # px, so that the FWHM is 14.1 px and 3.5 beams
    true, pieces = labels(field_with((30, 30, disc)), np.array([[30, 35], [30, 24.8], [30, 36.5]]))
    assert true.tolist() == [True, False, False]
    assert pieces.tolist() == [False, True, False]  # the last one is further than 0.4 FWHM = 5.7 px


def test_what_is_detected_in_a_galaxy_away_from_its_centre_is_left_out_and_noise_is_none():
    true, pieces = labels(field_with(), np.array([[SIDE - 2.0, 10], [SIDE - 3.0, 60], [20, 20]]))
    assert not true.any()
    assert pieces.tolist() == [True, True, False]
    assert labels(field_with((30, 30, 1.7)), np.zeros((0, 2)))[0].shape == (0,)
    true, pieces = labels(field_with((SIDE - 3.0, 30, 20.0)), np.array([[SIDE - 3.0, 36], [SIDE - 3.0, 39]]))
    assert true.tolist() == [True, False]  # 1.5 and 2.3 beams from the centre
    assert pieces.tolist() == [False, True]
