"""Rules of the noise, of shapes and of line widths, each on either side of its limit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.measure import tiling
from napari_almadet.measure.cutout import Cutout
from napari_almadet.measure.detected_place import without_beam
from napari_almadet.measure.gaussian_fit import ellipse
from napari_almadet.measure.line_model import averages
from napari_almadet.measure.mask_shape import MaskShape, shape_of
from napari_almadet.measure.measurement import _heights_and_norms, line_in, range_of, take_the_widths
from napari_almadet.measure.noise import (
    _significant,
    channels_noise,
    differences,
    middles,
    off_source,
    sampled,
    shrunk,
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


def pattern(channels: int, *values: float, side: int = 12) -> np.ndarray:
    """Planes whose channels repeat some values."""
    spectrum = np.resize(np.array(values, np.float32), channels)
    return np.broadcast_to(spectrum[:, None, None], (channels, side, side)).copy()


@pytest.mark.parametrize(("channels", "kept"), [(128, False), (256, True)])
def test_in_more_than_200_channels_a_source_has_five_sigma(channels, kept):
    """Of values of 1 and -1 in turn a sigma is 1.48; one of 4.75 sigma, for which more channels are more trials."""
    planes = pattern(channels, 1.0, -1.0)
    planes[64, 6, 6] = 4.75 * 1.4826
    assert (off_source(planes, 2.0)[0].shape[1] == 144) == kept


def test_noise_whose_means_vanish_has_no_sources():
    """Of three channels, or of nine, or in all of them; and nothing is divided by zero."""
    with np.errstate(all="raise"):
        vanishing = pattern(60, 100.0, 200.0, -300.0)
        vanishing[:, 6:] *= 2
        assert off_source(vanishing, 2.0)[0].shape == (60, 144)
        assert off_source(pattern(60, 3.0), 2.0)[0].shape == (60, 144)


def test_where_all_pixels_have_emission_the_faintest_are_noise():
    """Two fifths of them."""
    planes = 0.1 * noise(64, 20, 20)
    planes[30:34] += 5 + np.arange(400, dtype=np.float32).reshape(20, 20)
    spectra, _ = off_source(planes, 2.0)
    assert 0.35 * 400 <= spectra.shape[1] <= 0.45 * 400
    assert spectra.max() < 0.6 * 405


def test_pixels_with_data_in_one_channel_or_in_few_tell_nothing():
    planes = np.full((16, 8, 8), np.nan, np.float32)
    planes[3] = 1.0
    assert off_source(planes, 2.0)[0].shape == (16, 0)
    planes = np.full((16, 8, 8), np.nan, np.float32)
    for channel in range(16):
        planes[channel].flat[channel % 4 :: 4] = 1.0  # a quarter of the channels of each pixel
    assert off_source(planes, 2.0)[0].shape == (16, 0)


def test_a_profile_of_two_channels_has_no_scatter_to_be_shrunk_by():
    assert shrunk(np.array([1.0, np.nan, 2.0]), 1.0) == pytest.approx(np.array([1.0, np.nan, 2.0]), nan_ok=True)
    assert shrunk(np.array([1.0, 1.5, 2.0]), 1.0) == pytest.approx(1.5)


@pytest.mark.parametrize("side", [5, 6, 7, 8, 9, 10, 11, 12])
def test_the_variance_of_a_sum_of_independent_pixels_is_that_of_their_weights(side):
    """Whatever length their transforms have."""
    weights = np.random.default_rng(side).normal(size=(side, side))
    wide = replace(white(2), spatial=np.pad(np.ones((1, 1)), 1))
    for one in (white(2), wide):
        assert one.spatial_variance(weights) == pytest.approx((weights**2).sum())
        assert one.variance(np.stack([weights, weights])) == pytest.approx(2 * (weights**2).sum(), rel=1e-5)


def test_a_sum_over_nothing_has_no_variance():
    assert white(3).spatial_variance(np.zeros((4, 4))) == 0
    assert white(3).variance(np.zeros((3, 4, 4))) == 0


def cube_of_channels(n: int, flagged: np.ndarray | None = None) -> SimpleNamespace:
    """A cube whose voxels are their channel's number squared."""
    planes = np.arange(float(n))[:, None, None] ** 2 * np.ones((1, 4, 4))
    return SimpleNamespace(shape=planes.shape, flagged=flagged, read=lambda k, y, x: planes[k, y, x])


def test_noise_planes_are_eight_differences_of_good_channels():
    assert differences(cube_of_channels(40))[:, 0, 0].tolist() == [
        (k + 3) ** 2 - k**2 for k in (0, 5, 10, 15, 21, 26, 31, 36)
    ]
    bad = np.arange(40) != 7
    bad[10] = False
    assert differences(cube_of_channels(40, bad))[:, 0, 0].tolist() == [10**2 - 7**2]
    assert np.isnan(differences(cube_of_channels(40, np.ones(40, bool)))).all()


def test_noise_planes_are_256_pixels_wide_in_the_middle_of_the_field():
    parts = []
    cube = SimpleNamespace(
        shape=(8, 300, 200), flagged=None, read=lambda k, y, x: parts.append((y, x)) or np.ones((256, 200))
    )
    differences(cube)
    assert set(map(str, parts)) == {str((slice(22, 278), slice(0, 200)))}


@pytest.mark.parametrize(("beam", "side"), [(5.0, 40), (20.0, 64), (1.0, 16)])
def test_noise_is_sampled_in_nine_blocks_of_eight_beams(beam, side):
    """64 pixels at most and 16 at least."""
    blocks = list(sampled((300, 300), beam))
    assert len(blocks) == 9
    assert {y.stop - y.start for y, _ in blocks} == {side}
    assert len(list(sampled((30, 30), beam))) == 1


def test_without_noise_planes_pixels_are_independent():
    for value in (np.nan, 0.0):
        assert spatial_correlation(np.full((2, 16, 16), value, np.float32), np.ones(8), 4.0).tolist() == [[1.0]]


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


def test_the_centre_of_a_mask_lies_in_its_image_whatever_is_negative_in_it():
    """With what is negative, the mean place would be 72 pixels beside it."""
    image = np.zeros((9, 9))
    image[4, 0], image[4, 8] = 10.0, -9.0
    found = in_mask(image, np.ones((9, 9), bool))
    assert found is not None
    assert found.centre == (0, 4)


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


def test_of_a_line_all_channels_count_that_it_reaches():
    channel, centre = np.arange(128.0), np.array([60.0, 64.0])
    unit = averages(channel, centre, np.full(2, 8.0))
    height, norm = _heights_and_norms(channel, centre, 8.0, np.ones(128), np.zeros((128, 2)), np.ones(128))
    assert height == pytest.approx(unit.sum(axis=1), rel=1e-6)
    assert norm == pytest.approx(np.sqrt((unit**2).sum(axis=1)), rel=1e-6)


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
