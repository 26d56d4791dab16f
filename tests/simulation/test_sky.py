"""Sky models against table 1, astropy's Gaussians, and moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.modeling.models import Gaussian1D, Gaussian2D
from astropy.stats import gaussian_fwhm_to_sigma as TO_SIGMA

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.sky import PAPER, STRATA, SkyModel

FREQUENCIES = 230e9 + (np.arange(128) - 64) * 10e6


def models(n=200, recipe=PAPER):
    return [SkyModel.sample(np.random.default_rng(seed), recipe) for seed in range(n)]


def test_sources_fill_the_ranges_of_table_1():
    drawn = models()
    assert {len(m) for m in drawn} == {3, 4, 5, 6}
    for name, low, high in (
        ("major", 2, 8),
        ("minor", 2, 8),
        ("angle", 0, 90),
        ("spectral_index", -2, 2),
        ("line_centre", 10, 110),
        ("line_fwhm", 3, 10),
    ):
        values = np.concatenate([getattr(m, name) for m in drawn])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    ratio = np.concatenate([m.line / m.continuum for m in drawn])
    assert 1 <= ratio.min() < 1.1
    assert 4.9 < ratio.max() <= 5


def test_first_source_is_in_the_centre_and_none_is_brighter():
    for model in models(50):
        emission = model.continuum + model.line
        assert emission[0] == emission.max() == pytest.approx(2.5e-4)
        assert abs(model.x[0] - 180) <= 5
        assert abs(model.y[0] - 180) <= 5


@pytest.mark.parametrize("name", STRATA)
def test_strata_hold_what_they_say(name):
    model = SkyModel.sample(np.random.default_rng(0), STRATA[name])
    assert (len(model) == 0) == (name == "empty")
    assert (model.continuum > 0).all() == (name not in ("line-only", "empty")) or not len(model)
    assert (model.line > 0).all() == (name not in ("continuum-only", "empty")) or not len(model)


def test_field_scales_with_its_size():
    rng = [np.random.default_rng(3) for _ in range(2)]
    large, small = (
        SkyModel.sample(r, size=size, n_channels=c) for r, size, c in zip(rng, (360, 180), (128, 64), strict=True)
    )
    np.testing.assert_allclose(small.x, large.x / 2)
    np.testing.assert_allclose(small.line_fwhm, large.line_fwhm / 2)


def test_images_are_astropys_gaussians():
    model = SkyModel.sample(np.random.default_rng(5), size=120)
    y, x = np.indices((120, 120))
    for i, image in enumerate(model.images(120)):
        # position angle runs from +y to -x, astropy's theta from +x to +y
        expected = Gaussian2D(
            1,
            model.x[i],
            model.y[i],
            model.major[i] * TO_SIGMA,
            model.minor[i] * TO_SIGMA,
            np.radians(model.angle[i] + 90),
        )
        np.testing.assert_allclose(image, expected(x, y), atol=1e-6)


def test_restored_images_have_the_summed_covariance():
    """Variances of convolved Gaussians add; measured as moments of the image."""
    model = replace(SkyModel.sample(np.random.default_rng(1), size=160), x=np.array([80.0]), y=np.array([80.0]))
    model = replace(model, **{k: getattr(model, k)[:1] for k in ("major", "minor", "angle")})
    beam = CleanBeam(9.0, 7.0, 84.0)
    plain, restored = model.images(160)[0], model.images(160, beam=beam)[0]
    y, x = np.indices((160, 160)) - 80

    def covariance(image):
        return np.array([[(image * a * b).sum() / image.sum() for a in (x, y)] for b in (x, y)])

    added = covariance(restored) - covariance(plain)
    np.testing.assert_allclose(np.sqrt(np.linalg.eigvalsh(added))[::-1] / TO_SIGMA, (9.0, 7.0), rtol=1e-3)


def test_spectra_are_a_power_law_and_a_line():
    model = SkyModel.sample(np.random.default_rng(2))
    spectra = model.spectra(FREQUENCIES)
    for i, spectrum in enumerate(spectra):
        line = Gaussian1D(model.line[i], model.line_centre[i], model.line_fwhm[i] * TO_SIGMA)(np.arange(128))
        np.testing.assert_allclose(
            spectrum - line, model.continuum[i] * (FREQUENCIES / 230e9) ** model.spectral_index[i]
        )
