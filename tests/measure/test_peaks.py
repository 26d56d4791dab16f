"""Peaks and the Gaussians fitted to them are those of scipy.signal and astropy.modeling."""

import numpy as np
import pytest
from astropy.modeling.fitting import LevMarLSQFitter
from astropy.modeling.models import Gaussian1D
from scipy.signal import find_peaks, peak_widths

from napari_almadet.measure.peaks import gaussian_in, half_width, prominence, summits
from napari_almadet.measure.variable_projection import heights


def spectra(count: int) -> list[np.ndarray]:
    rng, channel = np.random.default_rng(3), np.arange(96)
    lines = [
        sum(rng.random() * np.exp(-0.5 * ((channel - rng.uniform(0, 96)) / rng.uniform(1, 8)) ** 2) for _ in range(4))
        for _ in range(count)
    ]
    return [np.pad(np.clip(line, 0, 1), 1) for line in lines]


@pytest.mark.parametrize("digits", [6, 1])  # with one there are plateaus
def test_summits_prominences_and_widths_are_scipys(digits):
    for values in (np.round(one, digits) for one in spectra(60)):
        found, properties = find_peaks(values, prominence=0)
        np.testing.assert_array_equal(summits(values), found)
        np.testing.assert_allclose([prominence(values, k)[0] for k in found], properties["prominences"], atol=1e-12)
        np.testing.assert_allclose([half_width(values, k) for k in found], peak_widths(values, found)[0], atol=1e-9)


def test_a_fitted_gaussian_is_astropys_and_no_worse():
    channel = np.arange(98)
    for values in spectra(20):
        peak = int(values.argmax())
        part = slice(max(0, peak - 8), peak + 9)
        sigma = half_width(values, peak) / 2.355
        ours = gaussian_in(channel[part], values[part], peak, sigma)
        theirs = LevMarLSQFitter()(Gaussian1D(values[peak], peak, sigma), channel[part], values[part], maxiter=1000)
        left = [((Gaussian1D(*fit)(channel[part]) - values[part]) ** 2).sum() for fit in (ours, theirs.parameters)]
        assert left[0] <= left[1] * (1 + 1e-9) + 1e-8
        assert ours == pytest.approx(theirs.parameters, abs=0.02)


def test_nothing_to_fit_is_no_gaussian():
    assert gaussian_in(np.arange(9), np.full(9, np.nan), 4, 1) is None
    assert gaussian_in(np.arange(9), np.ones(9), 1e6, 1) is None


def test_a_shape_that_is_zero_everywhere_has_no_height():
    with np.errstate(all="raise"), pytest.raises(np.linalg.LinAlgError, match="0 everywhere"):
        heights(np.ones((1, 4)), np.zeros((1, 4)))
