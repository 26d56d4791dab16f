"""The matched filter against noise and lines of known strength."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.evaluation.matched_filter import LINE_WIDTHS, find_lines, gaussian_profile, subtract_continuum

FWHM_TO_SIGMA = 0.42466


def noise_cube(seed=1, shape=(128, 64, 64), scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def line(z, fwhm, n=128):
    return np.exp(-0.5 * ((np.arange(n) - z) / (fwhm * FWHM_TO_SIGMA)) ** 2)


def test_continuum_and_noise_are_those_put_in():
    """The noise rises by a factor of three over the field; pixels without data have none."""
    slope = np.linspace(1, 3, 64)
    cube = noise_cube() * slope + 50
    cube[:, 10, 20] += 30 * line(40, 8)
    cube[:, :5] = np.nan
    cube[3, 40, 40] = np.nan
    planes, noise = subtract_continuum(cube.astype(np.float32), reach=9)
    assert np.isnan(noise[:5]).all() and np.isfinite(noise[5:]).all()
    np.testing.assert_allclose(noise[20:, 8:-8], np.broadcast_to(slope, (64, 64))[20:, 8:-8], rtol=0.12)
    assert noise[20:].mean() == pytest.approx(slope.mean(), rel=0.02)
    assert (planes[:, :5] == 0).all() and planes[3, 40, 40] == 0
    assert planes[40, 10, 20] == pytest.approx(30, abs=4 * slope[20])
    far = np.r_[0:20, 60:128]
    assert planes[far, 10, 20].mean() == pytest.approx(0, abs=4 * slope[20] / np.sqrt(len(far)))


@pytest.mark.parametrize("fwhm", [2.5, 4.0, 8.0, 12.0])
def test_a_line_has_the_snr_of_a_matched_filter(fwhm):
    """Without noise in it: its own profile's norm over the noise, less what the nearest width loses."""
    cube = np.zeros((128, 8, 8), np.float32)
    cube[:, 3, 5] = 7 * line(50, fwhm)
    found, _ = find_lines(cube, np.ones((8, 8)))
    ideal = 7 * np.sqrt((line(50, fwhm) ** 2).sum())
    assert 0.985 * ideal < found.snr[3, 5] <= ideal * 1.0001
    z, width = found.line(3, 5)
    assert z == 50
    assert width in LINE_WIDTHS and 0.8 < width / fwhm < 1.25
    first, last = found.range(3, 5)
    assert (first, last) == (round(50 - width), round(50 + width) + 1)


def test_filtered_noise_has_unit_spread_even_where_channels_are_correlated():
    """Each channel the mean of three: a filter that took them as independent would call everything a line."""
    white = noise_cube(shape=(130, 64, 64))
    correlated = (white[:-2] + white[1:-1] + white[2:]) / np.sqrt(3)
    ours, theirs = (find_lines(c.astype(np.float32), np.ones((64, 64)))[0].snr for c in (white[:128], correlated))
    assert np.median(theirs) == pytest.approx(np.median(ours), rel=0.06)
    assert ours.max() < 6


def test_lines_of_both_signs_are_those_of_every_profile_about_every_channel():
    """Beside the plain search: all profiles on the whole band, in double precision, one sign at a time.

    The band is not a multiple of the channels filtered at a time, and the image not of the pixels.
    """
    n, shape = 75, (93, 101)
    cube = noise_cube(3, (n, *shape))
    noise = np.random.default_rng(4).uniform(0.5, 2, shape)
    spread, peaks = [], {1: [], -1: []}
    for fwhm in LINE_WIDTHS:
        profiles = np.array([line(z, fwhm, n) for z in range(n)])
        profiles /= np.sqrt((profiles**2).sum(axis=1, keepdims=True))
        filtered = np.einsum("kz,zyx->kyx", profiles, cube.astype(float)) / noise
        few = filtered.reshape(n, -1)[:, :: filtered[0].size // 4096]
        spread.append(np.median(np.abs(few - np.median(few))) / 0.6744897501960817)
        for sign, found in peaks.items():
            found.append(sign * filtered / spread[-1])
    for sign, lines in zip((1, -1), find_lines(cube, noise), strict=True):
        snr = np.array(peaks[sign])  # (width, channel, y, x)
        np.testing.assert_allclose(lines.snr, snr.max(axis=(0, 1)), rtol=1e-5)
        np.testing.assert_array_equal(lines.width, snr.max(axis=1).argmax(axis=0))
        for y, x in [(0, 0), (92, 100), (41, 7)]:
            k, z = np.unravel_index(snr[:, :, y, x].argmax(), snr.shape[:2])
            assert lines.line(y, x) == (z, LINE_WIDTHS[k])


def test_the_noise_is_the_median_of_the_values_about_the_mean_of_the_band():
    """Of every third channel of 128 the odd number 43; squares of 3 pixels."""
    cube = noise_cube(5, (128, 21, 10))
    _, noise = subtract_continuum(cube.copy(), reach=3)
    about = (cube - cube.mean(axis=0))[::3]
    assert len(about) == 43
    spread = np.median(np.abs(about), axis=0) / 0.6744897501960817
    expected = np.mean([spread[y : y + 19, x : x + 8] for y in range(3) for x in range(3)], axis=0)
    np.testing.assert_allclose(noise[1:-1, 1:-1], expected, rtol=1e-4)


def test_profiles_keep_the_noise():
    noise = noise_cube(shape=(64, 100, 100))
    for fwhm in LINE_WIDTHS:
        assert np.tensordot(gaussian_profile(64, 30.5, fwhm), noise, 1).std() == pytest.approx(1, abs=0.03)
