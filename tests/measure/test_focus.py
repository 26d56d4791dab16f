import warnings

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.measure.focus import (
    Cutout,
    bounding_box,
    brightest_pixel,
    classify,
    cut_out,
    deblend,
    focus,
    focused_noise,
    friends_of_friends,
    global_snr,
    noise,
    pixel_snr,
    reject,
    source_radii,
    without_continuum,
)

BEAM = 6.0  # of the planes_of fixture


def peak(channel, fwhm=5.0):
    return EmissionPeak(channel, 0.5, 0.5, float(channel), fwhm)


def candidate_with(box, *peaks, n_channels=128):
    candidate = Candidate(1, box, 0.9, peaks=peaks)
    candidate.channels = candidate.primary.emission_range(n_channels)
    return candidate


@pytest.mark.parametrize(
    "box",
    [
        Box(20, 25, 30, 34),
        Box(0, 3, 87, 90),
        Box(10, 75, 20, 50),
        Box(8, 72, 8, 72),
        Box(70, 76, 40, 50),
        Box(35, 45, 80, 88),
    ],
)
def test_a_cutout_is_that_part_of_the_cube_and_nan_beyond_it(cube_of, box):
    planes = np.random.default_rng(1).normal(size=(4, 80, 90)).astype(np.float32)
    cutout = cut_out(cube_of(planes), box, 64)
    side = max(64, *box.shape)
    assert cutout.planes.shape == (4, side, side)
    local = cutout.local(box)
    assert min(local.y0, local.x0) >= 0 and max(local.y1, local.x1) <= side
    np.testing.assert_array_equal(cutout.planes[:, *local.slices], planes[:, *box.slices])
    assert cutout.world(local) == box
    y, x = cutout.origin
    inside = (min(y + side, 80) - max(y, 0)) * (min(x + side, 90) - max(x, 0))
    assert np.isfinite(cutout.planes).sum() == 4 * inside
    assert np.abs(np.subtract(local.centre, (side - 1) / 2)).max() <= 1  # in the middle


def test_focusing_integrates_the_range_only():
    planes = np.random.default_rng(2).normal(size=(10, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(focus(planes, (3, 7)), planes[3:7].sum(axis=0), rtol=1e-5, atol=1e-6)


def test_taking_the_continuum_off_leaves_the_line(planes_of):
    both = planes_of([(40, 45, 60, 5, 8, 3)], noise=0)
    line = planes_of([(40, 45, 60, 5, 8, 0)], noise=0)
    np.testing.assert_allclose(without_continuum(both, [peak(60, 8)]), line, atol=0.01)


def test_noise_is_the_standard_deviation_whatever_sources_there_are():
    image = np.random.default_rng(3).normal(0, 2, size=(300, 300))
    assert noise(image) == pytest.approx(2, rel=0.02)
    image[:30, :30] = 500
    image[100:140] = np.nan
    assert noise(image) == pytest.approx(2, rel=0.04)
    assert np.isnan(noise(np.full((5, 5), np.nan)))
    assert np.isnan(noise(np.zeros((5, 5))))


@pytest.mark.parametrize("unit", [1, 1e-6, 3e4])
def test_both_ratios_are_free_of_the_unit(unit):
    image = np.random.default_rng(4).normal(size=(64, 64))
    image[28:36, 28:36] += 20
    box = Box(28, 36, 28, 36)
    assert brightest_pixel(pixel_snr(image * unit), box)[1] == pytest.approx(brightest_pixel(pixel_snr(image), box)[1])
    assert global_snr(image * unit, box) == pytest.approx(global_snr(image, box))


def test_a_pixels_ratio_is_its_height_over_the_noise():
    image = np.random.default_rng(5).normal(0, 3, size=(400, 400))
    image[7, 9] = 36
    snr = pixel_snr(image)
    assert snr[7, 9] == pytest.approx(12, rel=0.02)
    assert brightest_pixel(snr, Box(0, 20, 0, 20)) == ((7, 9), snr[7, 9])


def test_a_disc_the_circle_just_holds_has_its_own_height_over_the_noise():
    image = np.random.default_rng(6).normal(size=(64, 64))
    y, x = np.indices(image.shape)
    image[np.hypot(y - 31.5, x - 31.5) < 10] += 15
    assert global_snr(image, Box(22, 42, 22, 42)) == pytest.approx(15, rel=0.1)
    # tighter, and the annulus holds source; wider, and the circle holds sky
    assert global_snr(image, Box(27, 37, 27, 37)) < 8
    assert global_snr(image, Box(12, 52, 12, 52)) < 3


def test_without_data_the_ratios_are_unknown():
    image = np.full((20, 20), np.nan)
    assert np.isnan(global_snr(image, Box(5, 9, 5, 9)))
    assert np.isnan(brightest_pixel(pixel_snr(image), Box(5, 9, 5, 9))[1])


@pytest.mark.parametrize("height", [8, 20, 100])
def test_friends_of_friends_link_the_source_and_not_its_neighbour(planes_of, height):
    image = planes_of([(30, 30, 0, 1, 0, height), (30, 47, 0, 1, 0, 2 * height)], shape=(1, 64, 64), seed=7)[0]
    mask = friends_of_friends(image, brightest_pixel(image, Box(25, 36, 25, 36))[0])
    assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
    assert not mask[30, 44:].any()  # the neighbour's half
    box = bounding_box(mask)
    assert np.abs(np.subtract(box.centre, 30)).max() <= 2
    assert min(box.shape) >= BEAM * 0.8 and max(box.shape) <= BEAM * 3


def test_friends_of_friends_of_a_lone_pixel_are_itself():
    image = np.random.default_rng(8).normal(size=(64, 64))
    image[20, 20] = 1000
    image[18:23, 18:23][np.arange(25).reshape(5, 5) != 12] = -1
    assert friends_of_friends(image, (20, 20)).sum() == 1


def test_bounding_box_is_half_open():
    mask = np.zeros((9, 9), bool)
    mask[2, 3] = mask[5, 7] = True
    assert bounding_box(mask) == Box(2, 6, 3, 8)


@pytest.mark.parametrize(("focused", "stacked", "kept"), [(6, 1, True), (1, 5, True), (4.9, 4.9, False)])
def test_a_candidate_must_be_seen_in_one_of_the_two_images(focused, stacked, kept):
    candidate = Candidate(1, Box(0, 1, 0, 1), 0.5, snr_pixel=focused)
    reject(candidate, stacked, 5)
    assert (candidate.status is Status.KEPT) is kept
    assert f"{focused:.1f}" in candidate.reasons[-1] and f"{stacked:.1f}" in candidate.reasons[-1]


def test_a_candidate_of_unknown_noise_is_dropped():
    candidate = Candidate(1, Box(0, 1, 0, 1), 0.5)
    reject(candidate, np.nan, 5)
    assert candidate.status is Status.DROPPED


@pytest.mark.parametrize("continuum", [0, 6])
def test_two_sources_in_one_blob_are_taken_apart(planes_of, continuum):
    planes = planes_of([(40, 40, 30, 5, 12, continuum), (40, 50, 90, 5, 8, 0)], seed=9)
    candidate = candidate_with(Box(33, 48, 33, 58), peak(30), peak(90))
    first, second = deblend(candidate, Cutout(planes, (0, 0)), BEAM, 5)
    for (box, lines), (x, channel) in ((first, (40, 30)), (second, (50, 90))):
        assert np.abs(np.subtract(box.centre, (40, x))).max() <= 2
        assert [line.channel for line in lines] == [channel]
    assert candidate.blended
    assert candidate.status is Status.KEPT
    assert candidate.peaks == first[1]


def test_two_lines_of_a_second_source_stay_together(planes_of):
    planes = planes_of([(40, 40, 20, 5, 15, 0), (40, 50, 60, 5, 9, 0), (40, 50, 100, 5, 9, 0)], seed=10)
    candidate = candidate_with(Box(33, 48, 33, 58), peak(20), peak(60), peak(100))
    sources = deblend(candidate, Cutout(planes, (0, 0)), BEAM, 5)
    assert [[line.channel for line in lines] for _, lines in sources] == [[20], [60, 100]]


def test_a_second_line_of_one_source_is_kept(planes_of):
    planes = planes_of([(40, 40, 30, 5, 12, 0), (40, 40, 90, 5, 10, 0)], seed=11)
    candidate = candidate_with(Box(33, 48, 33, 48), peak(30), peak(90))
    assert deblend(candidate, Cutout(planes, (0, 0)), BEAM, 5) == []
    assert [line.channel for line in candidate.peaks] == [30, 90]
    assert not candidate.blended
    assert "second line" in candidate.reasons[-1]


@pytest.mark.parametrize("continuum", [0, 6])
def test_a_peak_with_nothing_behind_it_is_dropped(planes_of, continuum):
    planes = planes_of([(40, 40, 30, 5, 12, continuum)], seed=12)
    candidate = candidate_with(Box(33, 48, 33, 48), peak(30), peak(90))
    assert deblend(candidate, Cutout(planes, (0, 0)), BEAM, 5) == []
    assert [line.channel for line in candidate.peaks] == [30]
    assert candidate.status is Status.KEPT
    assert candidate.reasons[-1].startswith("peak at channel 90 dropped: ")


def test_lines_that_overlap_are_flagged_as_a_superposition(planes_of):
    planes = planes_of([(40, 40, 60, 5, 12, 0), (40, 50, 66, 5, 9, 0)], seed=13)
    candidate = candidate_with(Box(33, 48, 33, 58), peak(60), peak(66))
    assert deblend(candidate, Cutout(planes, (0, 0)), BEAM, 5) == []
    assert candidate.status is Status.FLAGGED
    assert candidate.blended
    assert candidate.reasons[-1].startswith("flagged: ")


@pytest.mark.parametrize(
    ("line", "continuum", "kind"), [(12, 0, "line"), (12, 4, "both"), (0, 4, "continuum"), (12, -4, "line")]
)
def test_kind_tells_line_from_continuum(planes_of, line, continuum, kind):
    planes = planes_of([(40, 40, 60, 6, line, continuum)], seed=14)
    candidate = candidate_with(Box(34, 47, 34, 47), peak(60, 6))
    assert classify(candidate, Cutout(planes, (0, 0))) == kind


def test_kind_without_a_peak_is_continuum():
    assert classify(Candidate(1, Box(0, 1, 0, 1), 0.5), Cutout(np.ones((4, 8, 8)), (0, 0))) == "continuum"


@pytest.mark.parametrize(("continuum", "kind"), [(2.3, "line"), (4.5, "both")])
def test_continuum_counts_from_three_sigma_on(planes_of, continuum, kind):
    planes = planes_of(shape=(128, 64, 64), seed=14)
    planes[:, 40, 40] += continuum / np.sqrt(len(planes)) + 20 * (np.abs(np.arange(128) - 60) < 4) - planes[:, 40, 40]
    candidate = candidate_with(Box(40, 41, 40, 41), peak(60, 6))
    assert classify(candidate, Cutout(planes, (0, 0))) == kind


def test_the_circle_of_a_source_holds_nine_pixels_at_least():
    assert source_radii(Box(3, 4, 5, 6)) == pytest.approx((1.5, 1.5 * np.sqrt(2)))
    assert source_radii(Box(3, 11, 5, 15)) == pytest.approx((4, 4 * np.sqrt(2)))


def test_an_image_that_is_empty_over_most_of_it_has_the_noise_of_all_its_values():
    image = np.zeros(100)
    image[:20] = np.tile([3.0, -3.0], 10)
    assert noise(image) == pytest.approx(3 * np.sqrt(0.2))
    assert np.isnan(noise(np.zeros(100)))
    assert np.isnan(focused_noise(np.zeros((9, 9)), 0.0, (0, 4)))  # and no ratio to it is known


def test_a_box_without_data_has_no_ratio_and_no_warning():
    image = np.random.default_rng(1).normal(size=(20, 20))
    image[5:12, 5:12] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(global_snr(image, Box(7, 10, 7, 10)))


def test_a_continuum_source_is_where_its_continuum_is_if_its_line_is_not_seen(planes_of):
    """A second peak at the source is then its own and not that of another source."""
    planes = planes_of([(40, 40, 90, 5, 12, 9)], seed=12)
    candidate = candidate_with(Box(30, 51, 30, 51), peak(30), peak(90))
    assert deblend(candidate, Cutout(planes, (0, 0)), BEAM, 5) == []
    assert not candidate.blended


@pytest.mark.parametrize(("height", "linked"), [(1.7, False), (2.5, True), (3.5, True)])
def test_pixels_of_two_sigma_are_linked(height, linked):
    """To a peak of ten; a plateau of five pixels, with its global ratio not falling before it ends."""
    image = np.random.default_rng(3).normal(size=(41, 41)) * 1e-3
    image[17:24, 17:24] = height
    image[18:23, 18:23] = 10.0
    found = friends_of_friends(image, (20, 20), 1.0)
    assert found[20, 20]
    assert found[17, 20] == linked
