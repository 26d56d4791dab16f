"""Sky models against table 1, astropy's Gaussians, and moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.modeling.models import Gaussian1D, Gaussian2D
from astropy.stats import gaussian_fwhm_to_sigma as TO_SIGMA

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.scenarios import SCENARIOS
from napari_almadet.simulation.sky import PAPER, SkyModel

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


@pytest.mark.parametrize("name", SCENARIOS)
def test_skies_hold_what_they_say(name):
    model = SkyModel.sample(np.random.default_rng(0), SCENARIOS[name].sky)
    nothing = ("empty", "shared-channels-empty", "galaxies", "clouds", "absorption")  # or only what is no Gaussian
    assert (len(model) == 0) == (name in nothing)
    assert (model.continuum > 0).all() == (name not in ("line-only", "continuum-left")) or not len(model)
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


def discs(seed):
    return SkyModel.sample(np.random.default_rng(seed), SCENARIOS["discs"].sky, size=96, n_channels=128)


def line_cube(model, size=96):
    """The lines alone, (channel, y, x)."""
    images, spectra, _ = replace(model, continuum=np.zeros(len(model))).components(size, FREQUENCIES)
    return np.einsum("kc,kyx->cyx", spectra, images)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rotating_disc_is_a_line_that_shifts_from_place_to_place(seed):
    model = discs(seed)
    y, x = np.indices((96, 96))
    exact = np.zeros((128, 96, 96))
    for i, image in enumerate(model.images(96)):
        angle = np.radians(model.angle[i])
        along = ((y - model.y[i]) * np.cos(angle) - (x - model.x[i]) * np.sin(angle)) / model.major[i]
        centre = model.line_centre[i] + 0.5 * model.gradient[i] * np.tanh(4 * along) / np.tanh(2)
        sigma = model.line_fwhm[i] * TO_SIGMA
        exact += model.line[i] * image * np.exp(-0.5 * ((np.arange(128)[:, None, None] - centre) / sigma) ** 2)
    assert np.abs(line_cube(model) - exact).max() < 3e-3 * exact.max()


def one_disc(angle=35.0, gradient=12.0):
    one = {name: values[:1] for name, values in vars(discs(3)).items()}
    set_to = {"x": 48.0, "y": 48.0, "major": 30.0, "minor": 20.0, "angle": angle, "line_centre": 64.0, "line_fwhm": 4.0}
    return SkyModel(**{**one, **{k: np.array([v]) for k, v in set_to.items()}, "gradient": np.array([gradient])})


@pytest.mark.parametrize(("angle", "gradient"), [(0.0, 12.0), (35.0, 12.0), (90.0, -9.0)])
def test_moment_1_runs_along_the_major_axis_by_the_gradient(angle, gradient):
    cube = line_cube(one_disc(angle, gradient))
    with np.errstate(invalid="ignore"):
        moment = np.einsum("c,cyx->yx", np.arange(128), cube) / cube.sum(axis=0)
    # the two ends of the FWHM, towards the position angle (from +y to -x) and away from it
    dx, dy = -15 * np.sin(np.radians(angle)), 15 * np.cos(np.radians(angle))
    ends = [moment[round(48 + s * dy), round(48 + s * dx)] for s in (1, -1)]
    assert ends[0] - ends[1] == pytest.approx(gradient, rel=0.03)
    assert moment[48, 48] == pytest.approx(64, abs=0.02)
    assert moment[round(48 - dx / 3), round(48 + dy / 3)] == pytest.approx(64, abs=0.3)  # along the minor axis


def test_a_discs_line_profile_is_that_of_its_cube_and_has_two_horns():
    model = one_disc(gradient=14.0)
    spectrum = line_cube(model).sum(axis=(1, 2))
    expected = model.line_profiles(128)[0] * model.images(96).sum()
    np.testing.assert_allclose(spectrum, expected, atol=5e-3 * expected.max())
    assert spectrum[64] < 0.9 * spectrum.max()
    wide = np.flatnonzero(spectrum >= 0.5 * spectrum.max())
    assert model.line_widths()[0] == pytest.approx(wide[-1] - wide[0], abs=1.5)
    np.testing.assert_array_equal(replace(model, gradient=np.zeros(1)).line_widths(), [4.0])


def test_pairs_are_one_to_two_beams_apart_and_the_rest_further():
    beam = CleanBeam(10.0, 5.0, 30.0)
    fall = Gaussian2D(1, 0, 0, 10 * TO_SIGMA, 5 * TO_SIGMA, np.radians(120))
    for seed in range(60):
        model = SkyModel.sample(np.random.default_rng(seed), SCENARIOS["pairs"].sky, beam=beam)
        assert sorted(model.pair) == sorted(list(range(1, len(model) // 2 + 1)) * 2)
        assert len(model) in (4, 6)
        for k in range(len(model)):
            for j in range(k):
                dx, dy = model.x[k] - model.x[j], model.y[k] - model.y[j]
                if model.pair[k] == model.pair[j]:
                    # a Gaussian falls to 2^-4 at one FWHM and to 2^-16 at two
                    assert 2**-16 <= fall(dx, dy) <= 2**-4
                else:
                    assert np.hypot(dx, dy) > 2 * beam.fwhm
        assert min(model.x.min(), model.y.min()) >= 0
        assert max(model.x.max(), model.y.max()) <= 359


def test_places_are_drawn_from_the_pixels_that_are_given():
    where = np.zeros((50, 50))
    where[10, 40], where[30, 5] = 3, 1
    models = [SkyModel.sample(np.random.default_rng(s), PAPER, size=50, where=where) for s in range(100)]
    x, y = np.concatenate([(m.x, m.y) for m in models], axis=1)
    assert set(zip(np.rint(y), np.rint(x), strict=True)) == {(10, 40), (30, 5)}
    assert (np.rint(y) == 10).mean() == pytest.approx(0.75, abs=0.07)
    with pytest.raises(ValueError, match="no room for a source"):
        SkyModel.sample(np.random.default_rng(0), PAPER, size=50, where=np.zeros((50, 50)))


def test_sizes_go_with_the_beam_where_the_recipe_says_so():
    beam = CleanBeam(5.0, 4.0, 0.0)
    drawn = [SkyModel.sample(np.random.default_rng(s), SCENARIOS["beams"].sky, beam=beam, size=96) for s in range(100)]
    sizes = np.concatenate([m.major for m in drawn] + [m.minor for m in drawn]) / np.sqrt(20)
    assert 0.25 <= sizes.min() < 0.28
    assert 0.97 < sizes.max() <= 1
