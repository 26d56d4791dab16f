"""Lines in absorption against the continuum of a source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet import Cube, Settings, detect
from napari_almadet.catalogue.candidate import Status
from napari_almadet.catalogue.result_folder import read_result, write_result
from napari_almadet.detection import load_networks
from napari_almadet.measure.dips import (
    Spectrum,
    continuum_channels,
    dips_in,
    strongest,
    sums_about,
    threshold,
    widths,
)

N = 128
CHANNEL = np.arange(N)


def line(centre, width):
    return np.exp(-4 * np.log(2) * ((CHANNEL - centre) / width) ** 2)


def spectrum(values, seed, kernel=(1.0,)):
    """Values in noise of deviation 1, smoothed over channels with a kernel."""
    kernel = np.array(kernel) / np.linalg.norm(kernel)
    noise = np.convolve(np.random.default_rng(seed).standard_normal(N + 8), kernel, "same")[4:-4]
    shared = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :]
    return Spectrum(values + noise, np.ones(N, bool), np.ones(N), shared)


@pytest.mark.parametrize("kernel", [(1.0,), (0.25, 0.5, 0.25)])
def test_depth_width_and_optical_depth_are_true_within_their_errors(kernel):
    pulls = {"depth": [], "tau": [], "z": [], "tau_int": []}
    for seed in range(40):
        centre = 30 + 1.7 * seed
        values = 40 * np.exp(-0.8 * line(centre, 9.0))
        _, (dip, *others) = dips_in(spectrum(values, seed, kernel))
        assert not others
        truth = {"depth": 1 - np.exp(-0.8), "tau": 0.8, "z": centre, "tau_int": 0.8 * line(centre, 9.0).sum()}
        for name, value in truth.items():
            pulls[name].append((getattr(dip, name) - value) / getattr(dip, f"err_{name}"))
        half = np.abs(values - 40 + 0.5 * 40 * (1 - np.exp(-0.8)))
        assert dip.width == pytest.approx(2 * abs(CHANNEL[np.argsort(half)[0]] - centre), abs=1.6)
        assert np.isnan(dip.tau_limit)
    for name, values in pulls.items():
        assert abs(np.median(values)) < 0.6, name
        assert 0.6 < np.std(values) < 1.5, name


def test_a_saturated_line_has_a_lower_limit_of_its_optical_depth():
    _, (dip, *_) = dips_in(spectrum(10 * np.exp(-6 * line(60, 8)), 3))
    assert np.isnan(dip.tau) and np.isnan(dip.tau_int)
    assert 1 < dip.tau_limit < 6
    assert dip.depth == pytest.approx(1, abs=0.15)


def test_noise_and_slopes_and_emission_are_no_absorption():
    for seed in range(60):
        assert not dips_in(spectrum(np.full(N, 20.0), seed))[1]
        assert not dips_in(spectrum(30 + 0.1 * CHANNEL, seed, (0.25, 0.5, 0.25)))[1]
        assert not dips_in(spectrum(20 + 25 * line(50, 14), seed))[1]
    assert 4.6 < threshold(128) < 4.9
    assert 5.2 < threshold(4000) < 5.7  # more places for noise to look like a line


def test_a_dip_over_a_quarter_of_the_band_takes_nothing_of_the_continuum():
    values = 15 * np.exp(-1.5 * line(70, 30))
    free = continuum_channels(spectrum(values, 5))
    assert values[free].mean() > 15 * 0.97
    assert values.mean() < 15 * 0.85  # what a mean over all would be


def test_a_narrow_deep_dip_is_one_where_channels_share_their_noise():
    for seed in range(20):
        values = np.convolve(100 * np.exp(-0.6 * line(20.4, 2.7)), (0.25, 0.5, 0.25), "same")
        values[[0, -1]] = 100
        (dip,) = dips_in(spectrum(values, seed, (0.25, 0.5, 0.25)))[1]
        assert dip.z == pytest.approx(20.4, abs=0.2)
        assert 2.5 < dip.width < 4


def test_a_dip_may_lie_within_a_wider_line_in_emission():
    for seed in range(10):
        (dip,) = dips_in(spectrum(30 * np.exp(-0.7 * line(60, 5)) + 8 * line(60, 30), seed))[1]
        assert dip.z == pytest.approx(60, abs=0.6)
        assert dip.depth == pytest.approx((30 * (1 - np.exp(-0.7)) - 8) / 30, abs=0.12)  # below the continuum


def test_two_dips_are_counted():
    found = dips_in(spectrum(30 * np.exp(-0.5 * line(30, 5) - 0.9 * line(90, 8)), 7))[1]
    assert [round(dip.z) for dip in found] == [90, 30]


# --- in cubes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks():
    return load_networks(Settings(device="cpu"))


def absorbed(planes, y, x, level, tau, z, width):
    """Add a point of continuum behind an absorber to planes with the beam of `planes_of`."""
    channel = np.arange(len(planes))
    yy, xx = np.indices(planes.shape[1:])
    beam = np.exp(-4 * np.log(2) * ((yy - y) ** 2 + (xx - x) ** 2) / 6.0**2)
    light = level * np.exp(-tau * np.exp(-4 * np.log(2) * ((channel - z) / width) ** 2))
    return (planes + light[:, None, None] * beam).astype(np.float32)


def test_absorption_is_in_the_catalogue_and_takes_nothing_of_the_continuum(planes_of, networks, tmp_path):
    empty = planes_of(shape=(48, 80, 90))
    planes, bare = (absorbed(empty, 40, 45, 12.0, tau, 20.0, 12.0) for tau in (1.2, 0.0))
    settings = Settings(device="cpu")
    detections, plain = (detect(Cube.from_array(one), settings, networks=networks) for one in (planes, bare))
    (source,), (control,) = (
        [c for c in found.kept if np.hypot(c.x - 45, c.y - 40) < 1] for found in (detections, plain)
    )
    assert source.kind == control.kind == "continuum"  # what lies beside a dip is no emission
    assert np.isnan(control.abs_snr)
    assert abs(source.abs_tau - 1.2) < 3 * source.err_abs_tau < 0.6
    assert abs(source.abs_z - 20) < 3 * source.err_abs_z + 0.1
    assert source.abs_depth == pytest.approx(1 - np.exp(-1.2), abs=3 * source.err_abs_depth)
    assert source.f_cont == pytest.approx(control.f_cont, abs=2 * source.err_f_cont)
    assert source.err_f_cont < 0.03 * source.f_cont  # a mean over all channels is a fifth lower
    row = detections.table([source])[0]
    assert row["abs_w50"].unit == "chan" and np.isnan(row["abs_v_rad"])
    again = read_result(write_result(detections, tmp_path / "result", keep_cube=True))
    assert next(c for c in again.candidates if c.id == source.id).abs_tau == pytest.approx(source.abs_tau)

    off = detect(Cube.from_array(planes), replace(settings, absorption="off"), networks=networks)
    assert all(np.isnan(c.abs_snr) for c in off.candidates)


def test_absorption_before_the_core_of_a_galaxy_with_emission_is_found(planes_of, networks):
    planes = absorbed(planes_of(shape=(96, 64, 64), seed=9), 32, 32, 30.0, 1.0, 48, 5)
    yy, xx = np.indices(planes.shape[1:])
    disc = np.exp(-4 * np.log(2) * ((yy - 32) ** 2 + (xx - 32) ** 2) / 14.0**2)
    planes += (6 * np.exp(-4 * np.log(2) * ((np.arange(96) - 48) / 20) ** 2))[:, None, None] * disc
    result = detect(Cube.from_array(planes), Settings(device="cpu"), networks=networks)
    (candidate,) = [c for c in result.kept if np.isfinite(c.abs_snr)]
    assert candidate.kind == "both"
    assert candidate.abs_z == pytest.approx(48, abs=1)


@pytest.mark.parametrize(
    ("heights", "doubtful"),
    [((12.0, 12.0), True), ((12.0, 6.0), False), ((0.0, 12.0), False)],
    ids=["saturated", "two lines", "one line"],
)
def test_emission_of_one_height_at_both_ends_of_the_band_may_be_continuum(planes_of, networks, heights, doubtful):
    planes, channel = planes_of(shape=(64, 60, 60)), np.arange(64)
    yy, xx = np.indices(planes.shape[1:])
    beam = np.exp(-4 * np.log(2) * ((yy - 30) ** 2 + (xx - 30) ** 2) / 6.0**2)
    light = heights[0] * (channel < 12) + heights[1] * (channel >= 50)
    planes = (planes + light[:, None, None] * beam).astype(np.float32)
    settings = Settings(device="cpu")
    for absorption in ("auto", "off"):
        settings = replace(settings, absorption=absorption)
        kept = detect(Cube.from_array(planes), settings, networks=networks).kept
        (source,) = [c for c in kept if np.hypot(c.x - 30, c.y - 30) < 2]
        said = [d for d in source.decisions if d.rule == "both_ends"]
        assert bool(said) == (doubtful and absorption == "auto")
        assert all("wide line in absorption" in str(decision) for decision in said)


def test_absorption_of_a_brighter_source_is_not_that_of_its_neighbour(planes_of, networks):
    planes = absorbed(planes_of(shape=(48, 80, 90)), 40, 38, 40.0, 0.5, 20.0, 8.0)
    planes = absorbed(planes, 40, 56, 8.0, 0.0, 20.0, 8.0)
    kept = detect(Cube.from_array(planes), Settings(device="cpu"), networks=networks).kept
    bright, faint = (next(c for c in kept if np.hypot(c.x - x, c.y - 40) < 3) for x in (38, 56))
    assert bright.abs_snr > 10 and np.isnan(faint.abs_snr)


def test_the_negative_bowl_of_a_neighbours_line_is_no_absorption(planes_of, networks):
    planes = planes_of([(40, 52, 20, 8, 60, 0), (40, 38, 20, 8, 0, 12)], shape=(48, 80, 90))
    yy, xx = np.indices(planes.shape[1:])
    wide = np.exp(-4 * np.log(2) * ((yy - 40) ** 2 + (xx - 52) ** 2) / 40.0**2)  # what a lack of short baselines leaves
    line_at = np.exp(-4 * np.log(2) * ((np.arange(48) - 20) / 8) ** 2)
    planes -= (4 * line_at[:, None, None] * wide).astype(np.float32)
    detections = detect(Cube.from_array(planes), Settings(device="cpu"), networks=networks)
    near = [c for c in detections.kept if np.hypot(c.x - 38, c.y - 40) < 4]
    assert near and all(np.isnan(c.abs_snr) for c in detections.kept)


def test_a_source_with_absorption_is_not_dropped_for_a_negative_sum(planes_of):
    from napari_almadet.catalogue.candidate import Box, Candidate
    from napari_almadet.search.measure_detections import drop_without_flux

    for snr, status in ((np.nan, Status.DROPPED), (9.0, Status.KEPT)):
        candidate = Candidate(1, Box(0, 9, 0, 9), 0.9, kind="line")
        candidate.f_sum, candidate.abs_snr = -2.0, snr
        drop_without_flux(candidate, -2.0)
        assert candidate.status is status


def test_the_setting_is_one_of_three_words():
    with pytest.raises(ValueError, match="absorption is 'maybe', but must be one of auto, on, off"):
        Settings(absorption="maybe")


@pytest.mark.parametrize("reach", [0, 1, 4, 13])
def test_sums_over_channels_and_what_lies_near_a_channel_are_scipys(reach):
    values = np.random.default_rng(1).standard_normal(N)
    expected = ndimage.convolve1d(values, np.ones(2 * reach + 1), mode="constant")
    np.testing.assert_allclose(sums_about(values, reach), expected, atol=1e-12)
    some = values > 1.5
    wider = ndimage.binary_dilation(some, iterations=reach) if reach else some
    np.testing.assert_array_equal(sums_about(some, reach) > 0, wider)


@pytest.mark.parametrize(("centre", "width"), [(1.0, 2.25), (60.0, 5.0625), (90.0, 38.44)])
def test_the_strongest_dip_is_that_of_a_least_squares_fit_of_every_width_and_place(centre, width):
    seen = spectrum(40 - 4 * line(centre, width), 3)
    inside = CHANNEL != 64
    tried = []
    for fwhm in widths(N):
        for place in CHANNEL:
            terms = np.stack([np.ones(N), CHANNEL - 64.0, line(place, fwhm)], axis=1) * inside[:, None]
            covariance = np.linalg.inv(terms.T @ terms)
            height = covariance[2] @ terms.T @ (seen.values * inside)
            whole = (line(place, fwhm) ** 2 * inside).sum() > 0.5 * fwhm * np.sqrt(np.pi / (8 * np.log(2)))
            tried.append((-height / np.sqrt(covariance[2, 2]) if whole else 0.0, place, fwhm))
    snr, place, fwhm = strongest(seen, inside)
    assert (place, fwhm) == max(tried)[1:]
    assert snr == pytest.approx(max(tried)[0], rel=1e-3)
