"""Spectra that Line Finder learns from."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.measure.spectra import remove_baseline
from napari_almadet.training.noisy_lines import CHANNELS, LineSpectra


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    spectra = LineSpectra(300, seed=1, augment=False)
    both = [spectra[i] for i in range(300)]
    return tuple(np.stack([pair[k].numpy() for pair in both]) for k in (0, 1))


def test_noise_is_one_and_the_baseline_gone(pairs):
    dirty, lines = pairs
    full = (lines.max(axis=1) == 0) & (dirty != 0).all(axis=1) & (dirty.min(axis=1) > -5)  # nor a neighbour's dip
    assert dirty[full].std() == pytest.approx(1, rel=0.06)
    assert abs(dirty[full].mean()) < 0.05


def test_lines_stand_where_the_answer_says(pairs):
    dirty, lines = pairs
    assert dirty.shape == lines.shape == (300, CHANNELS)
    assert lines.min() >= 0
    assert lines.max() <= 1
    has_line = lines.max(axis=1) > 0.9
    assert 0.5 < has_line.mean() < 0.85
    assert (dirty[lines > 0.9]).mean() > 2.5


def test_shown_without_augmentation_they_are_always_the_same():
    spectra = LineSpectra(2, seed=1, augment=False)
    np.testing.assert_array_equal(spectra[1][0], spectra[1][0])


def test_baseline_is_a_straight_line_through_the_rest():
    channel = np.arange(120)
    line = 30 * np.exp(-0.5 * ((channel - 70) / 4) ** 2)
    noise = np.random.default_rng(0).normal(size=(20, 120))
    flat = remove_baseline(noise + 5 + 0.02 * channel + line)
    np.testing.assert_allclose((flat - line).mean(axis=0), 0, atol=1)
    assert (flat - line).std() == pytest.approx(1, rel=0.05)
