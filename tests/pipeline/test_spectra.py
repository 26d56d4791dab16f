import numpy as np
import pytest
from scipy.stats import zscore

from napari_almadet.pipeline.spectra import standardise


def test_standardise_agrees_with_scipy():
    spectra = np.random.default_rng(1).normal(5, 3e-4, size=(4, 3, 50))
    result = standardise(spectra)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, zscore(spectra, axis=-1), atol=1e-5)


def test_missing_channels_do_not_count_and_become_the_mean():
    spectrum = np.random.default_rng(2).normal(size=64)
    spectrum[10:20] = np.nan
    result = standardise(spectrum)
    np.testing.assert_allclose(np.delete(result, np.s_[10:20]), zscore(np.delete(spectrum, np.s_[10:20])), atol=1e-5)
    assert not result[10:20].any()


@pytest.mark.parametrize("value", [0, 0.1, -7e20, np.nan])
def test_a_constant_spectrum_becomes_zeros(value):
    np.testing.assert_array_equal(standardise(np.full((2, 100), value)), np.zeros((2, 100)))
