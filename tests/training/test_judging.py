"""What Judge learns from, and its calibration."""

from __future__ import annotations

import numpy as np
import torch

from napari_almadet.networks.judge import Judge
from napari_almadet.search.features import N_FEATURES
from napari_almadet.training.judging import Candidates, calibrate


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
