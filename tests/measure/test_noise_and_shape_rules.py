"""Rules of the noise, of shapes and of line widths, each on either side of its limit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.measure import tiling
from napari_almadet.measure.cutout import Cutout
from napari_almadet.measure.detected_place import without_beam
from napari_almadet.measure.gaussian_fit import ellipse
from napari_almadet.measure.mask_shape import MaskShape, shape_of
from napari_almadet.measure.measurement import line_in, range_of, take_the_widths
from napari_almadet.measure.noise import (
    _significant,
    channels_noise,
    middles,
    off_source,
    spatial_correlation,
    spectral_correlation,
    white,
)
from napari_almadet.measure.spectra import OVERLAP, WINDOW, denoise
from napari_almadet.progress import finish

# --- noise ---


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_correlation_of_pixels_is_measured_to_three_beams_and_fades_over_the_last_quarter():
    """Of planes that are the same everywhere, it would be 1 at any distance."""
    found = spatial_correlation(np.ones((2, 64, 64), np.float32), np.ones(8), 4.0)
    assert found.shape == (25, 25)  # 12 pixels to each side
    assert found[12, 12:] == pytest.approx([*[1.0] * 11, 2 / 3, 1 / 3], abs=1e-3)


def test_a_correlation_needs_two_percent_of_the_pixels_as_pairs():
    """A strip of 8 x 32 pixels with data: one in 32 has a partner 31 columns away, one in 64 has one 30 and 6 away."""
    planes = np.full((1, 64, 64), np.nan, np.float32)
    planes[0, :8, :32] = 1.0
    found = spatial_correlation(planes, np.ones(8), 12.0)
    assert found[31, 31 + 31] > 0.1
    assert found[31 + 6, 31 + 30] == 0
    assert found[31 + 5, 31 + 29] > 0.1  # of 3 in 32 and 3 in 8


def test_channels_share_noise_up_to_twelve_apart():
    """Of a smoothing over 40 channels."""
    shared = ndimage.uniform_filter1d(noise(400, 300), 40, axis=0)
    assert len(spectral_correlation(shared / shared.std())[0]) == 13


def test_channels_that_share_less_than_two_percent_are_independent():
    assert _significant(np.array([1.0, 0.03, 0.015, 0.5])).tolist() == [1.0, 0.03]
    assert _significant(np.array([1.0, -0.03, 0.025])).tolist() == [1.0, -0.03, 0.025]


@pytest.mark.parametrize(("scatter", "uniform"), [(0.03, True), (0.055, False)])
def test_noise_is_uniform_if_it_differs_by_four_percent_between_blocks(scatter, uniform):
    blocks = [(1 + scatter * (-1) ** i) * noise(200, 20, 20, seed=i) for i in range(8)]
    rms, _, same = channels_noise(blocks, 1.0)
    assert np.median(rms) == pytest.approx(1.0, rel=0.01)
    assert same == uniform


@pytest.mark.parametrize(("snr", "quiet"), [(3.5, 400), (7.0, 391)])
def test_a_pixel_with_a_line_of_four_and_a_half_sigma_is_no_noise(snr, quiet):
    """And the pixels within three quarters of a beam of two: a square of three, with the corners by diagonal steps."""
    planes = np.clip(noise(64, 20, 20), -2, 2)
    planes[:, 10, 10] = 0.01
    planes[30:33, 10, 10] = snr / np.sqrt(3)
    spectra, known = off_source(planes, 2.0)
    assert known.all()
    assert spectra.shape[1] in ((quiet,) if quiet == 400 else (quiet, 395))


@pytest.mark.parametrize(("channels", "clipped"), [(7, False), (8, True)])
def test_an_outlier_among_fewer_than_eight_channels_is_not_known_as_one(channels, clipped):
    spectra = np.tile(np.arange(channels)[:, None] % 2 - 0.5, (1, 4))
    spectra[0, 0] = 100.0
    found = middles(spectra, np.ones(spectra.shape, bool))[0]
    assert found == pytest.approx(spectra[1:, 0].mean() if clipped else spectra[:, 0].mean())


def test_blocks_with_a_few_pixels_tell_nothing():
    rms, spectral, uniform = channels_noise([noise(20, 1, 3)], 1.0)
    assert np.isnan(rms).all() and uniform and spectral.tolist() == [1.0]


# --- shapes ---


@pytest.mark.parametrize(
    ("x", "y", "rotates"), [(2.8, 0.0, False), (3.2, 0.0, True), (2.5, 2.5, True), (0, np.nan, False)]
)
def test_a_velocity_gradient_of_three_sigma_is_rotation(x, y, rotates):
    shape = MaskShape((0, 0), (1, 1), None, None, None, (0.1 * x, 0.2 * y), (0.1, 0.2))
    assert shape.rotates == rotates


def in_mask(image: np.ndarray, mask: np.ndarray) -> MaskShape | None:
    """The shape of an image in unit noise, in the middle one of three channels."""
    planes = np.zeros((3, *image.shape), np.float32)
    planes[1] = image
    voxels = np.zeros(planes.shape, bool)
    voxels[1] = mask
    return shape_of(Cutout(planes + np.float32(1e-6), (0, 0), white(3)), planes, voxels)


def test_the_bright_ellipse_of_a_gaussian_ends_at_three_sigma():
    """Of a peak of 30, at a tenth of it: sqrt(2 ln 10) widths; a disc's moment is a quarter of its radius squared."""
    y, x = np.indices((61, 61)) - 30
    found = in_mask(30 * np.exp(-(x**2 + y**2) / (2 * 6.0**2)), np.ones((61, 61), bool))
    assert found is not None and found.bright is not None
    assert np.diag(found.bright) == pytest.approx(2 * np.log(10) * 36 / 4, rel=0.05)
    assert found.centre == pytest.approx((30, 30))


@pytest.mark.parametrize(("pixels", "ellipses"), [(5, False), (6, True)])
def test_an_ellipse_has_five_numbers_and_needs_six_pixels(pixels, ellipses):
    image = np.zeros((9, 9))
    image[4].flat[:pixels] = 20.0
    found = in_mask(image, image > 0)
    assert found is not None
    assert (found.matrix is not None) == (found.bright is not None) == ellipses


def test_a_mask_without_positive_emission_has_no_shape():
    assert in_mask(-np.ones((9, 9)), np.ones((9, 9), bool)) is None


@pytest.mark.parametrize(("sigma", "resolved"), [(1.8, False), (2.5, True)])
def test_an_axis_is_wider_than_the_beam_if_it_is_two_sigma_wide(sigma, resolved):
    matrix, covariance = np.diag([4.0, 100.0]), np.diag([(4.0 / sigma) ** 2, 1.0, 1.0])
    found = ellipse(matrix, covariance)
    assert np.isfinite(found.major)
    assert np.isfinite(found.minor) == resolved


def test_a_point_is_as_wide_as_pixels_can_sample():
    """A Gaussian of sigma 0.6 pixels is summed over pixels to a percent: its sum differs so much from its integral."""
    beam = np.diag([9.0, 4.0])
    sigma = np.sqrt(np.diag(without_beam(beam, beam)))
    pixel = np.arange(-9, 10)
    for offset in (0.0, 0.5):
        total = np.exp(-0.5 * ((pixel - offset) / sigma[0]) ** 2).sum() / (sigma[0] * np.sqrt(2 * np.pi))
        assert total == pytest.approx(1, abs=0.01)
    assert sigma.max() < 0.75
    assert without_beam(np.diag([25.0, 4.0]), beam) == pytest.approx(np.diag([16.0, 0.36]))


# --- lines ---


def spectrum_of(own: np.ndarray) -> tuple:
    n = len(own)
    return SimpleNamespace(own=own, own_variance=1.0), Cutout(noise(n, 2, 2), (0, 0), white(n))


@pytest.mark.parametrize(("snr", "seen"), [(4.5, False), (9.0, True)])
def test_a_line_on_a_bright_continuum_stands_out_of_its_unevenness(snr, seen):
    """Of five percent, as noise of each channel; a Gaussian of FWHM 5 has 1.94 times the S/N of its peak."""
    channel = np.arange(128)
    height = snr * 0.05 * 1000 / np.sqrt(0.7527 * 5)
    own = 1000 + height * np.exp(-4 * np.log(2) * ((channel - 64) / 5) ** 2)
    found = line_in(*spectrum_of(own), None, 6.0)
    assert (found is not None) == seen
    if found is not None:
        assert found == pytest.approx((64, 5), abs=1)


def test_a_spectrum_of_seven_channels_is_too_short_for_a_line():
    assert line_in(*spectrum_of(np.array([0, 0, 0, 50.0, 0, 0, 0])), None, 6.0) is None
    assert line_in(SimpleNamespace(own=None), None, None, 6.0) is None


def test_the_range_of_a_line_that_could_not_be_fitted_is_a_tenth_wider_than_what_was_detected():
    task = SimpleNamespace(bounds=lambda: (40, 60), n_channels=100)
    assert range_of(task, None) == (38, 63)
    assert range_of(SimpleNamespace(bounds=lambda: (0, 99), n_channels=100), None) == (0, 100)


@pytest.mark.parametrize(("error", "share"), [(0.1, 0.5), (0.0, 0.0), (0.2, 0.2), (1e-6, 1.0)])
def test_the_asymmetry_of_a_line_counts_as_far_as_it_is_known(error, share):
    """Asymmetries h3 of lines scatter by 0.1: half of a measured one is real if its error is as large."""
    line = SimpleNamespace(
        parameters=np.array([[10.0, 32.0, 8.0]]),
        centroid=lambda: 32.0,
        error=lambda function: 0.0,
        skew=lambda *_: (3.0, error * 5.0),
        shift_of_skew=lambda: 5.0,
        width=lambda level, parameters=None: 8.0,
        mean_width=lambda parameters=None: 7.0,
    )
    made = SimpleNamespace(spectrum=np.zeros(64), z=np.nan, err_z=np.nan, widths={})
    take_the_widths(made, line, (np.arange(64), np.eye(64), np.eye(64)), (20, 44))
    assert made.z == pytest.approx(32 + 3 * share, abs=1e-6)
    assert made.err_z == pytest.approx(np.sqrt(share) * error * 5.0, abs=1e-6)


# --- Deep GRU ---


def test_every_line_up_to_64_channels_wide_is_in_one_window_of_the_128_that_deep_gru_takes():
    corners = [corner[0] for corner in tiling.corners((1000,), WINDOW, OVERLAP)]
    for first in range(1000 - 64 + 1):
        assert any(corner <= first and first + 64 <= corner + 128 for corner in corners)
    assert len(corners) < 1.2 * 1000 / 64


def test_deep_gru_takes_128_channels():
    seen = []
    finish(denoise.steps(np.zeros((2, 300)), lambda batch: seen.append(batch.shape[1]) or batch))
    assert set(seen) == {128}
