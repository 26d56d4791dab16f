"""Galaxies, clouds, absorption and continuum in a field, and what is said to be true of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.channels import mixing
from napari_almadet.simulation.emission import Emission
from napari_almadet.simulation.objects import (
    GALAXY_SNR,
    Ground,
    SkyObject,
    View,
    absorption,
    bright_continuum,
    clouds,
    galaxies,
    gaussian_stamp,
    gaussians,
    label_volume,
    smoothed_planes,
    truth_of,
)
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.sky import PAPER, SkyModel

N, CHANNELS = 96, 24
SHAPE = (CHANNELS, N, N)


@pytest.fixture(scope="module")
def observation() -> Observation:
    return Observation(size=N, n_channels=CHANNELS, integration=60.0, mosaic=True)


@pytest.fixture(scope="module")
def ground(observation) -> Ground:
    return Ground(observation, np.ones((N, N)))


@pytest.fixture(scope="module")
def view(observation) -> View:
    every = np.ones(CHANNELS, bool), np.ones((N, N), bool)
    return View(observation, observation.clean_beam, observation.noise, None, *every)


def line(y: float, x: float, sigma: float, peak: float, channel: float = 10.0) -> Emission:
    """A Gaussian in all three axes, of 2 channels standard deviation."""
    profile = np.exp(-0.5 * ((np.arange(CHANNELS) - channel) / 2) ** 2)
    image, corner = gaussian_stamp(x, y, sigma * 2.3548, sigma * 2.3548, 0)
    return Emission((peak * profile[:, None, None] * image).astype(np.float32), (0, *corner), "galaxy")


def beam_area(beam: CleanBeam) -> float:
    return np.pi * beam.major * beam.minor / (4 * np.log(2))


def test_a_sky_of_objects_is_the_sky_of_the_model(observation):
    model = SkyModel.sample(np.random.default_rng(0), replace(PAPER, gradient=(3.0, 6.0)), size=N, n_channels=CHANNELS)
    images, spectra, _ = model.components(N, observation.frequencies)
    expected = np.einsum("sc,syx->cyx", spectra, images)
    sky = np.zeros(SHAPE, np.float32)
    for one in gaussians(model, observation):
        one.add_to(sky)
    # of a rotating source the components hold no less than 0.3 % of the first
    np.testing.assert_allclose(sky, expected, atol=0.005 * expected.max())


def test_a_dirty_cube_of_any_sky_is_that_of_the_model(observation):
    model = SkyModel.sample(np.random.default_rng(1), size=N, n_channels=CHANNELS)
    imager = Imager(replace(observation, mosaic=False))
    sky = np.zeros(SHAPE, np.float32)
    for one in gaussians(model, observation):
        one.add_to(sky)
    expected = imager.noise_free_cube(model).numpy()
    np.testing.assert_allclose(imager.of_sky(sky).numpy(), expected, atol=2e-3 * np.abs(expected).max())


def test_the_mask_is_where_the_model_is_over_half_the_noise(observation, view):
    peak = 40 * observation.noise / beam_area(observation.clean_beam)
    ((part),) = truth_of(SkyObject("galaxy", 48.3, 40.8, line(40.8, 48.3, 3.0, peak)), view)
    clean = line(40.8, 48.3, 3.0, peak).seen_with(observation.clean_beam)
    field = np.zeros(SHAPE, np.float32)
    clean.add_to(field)
    labels = label_volume([part], SHAPE)
    outside = labels == 0
    assert field[~outside].min() > 0.5 * observation.noise
    # an array without short baselines sees a little less of it than the clean beam shows
    assert 0.8 * (field > 0.5 * observation.noise).sum() < (~outside).sum() <= (field > 0.5 * observation.noise).sum()
    assert part.row["n_voxels"] == (~outside).sum()
    assert (part.row["x_peak"], part.row["y_peak"], part.row["z_peak"]) == (48, 41, 10)


def test_truth_of_a_gaussian_is_analytic(observation, view):
    peak = 40 * observation.noise / beam_area(observation.clean_beam)
    ((part),) = truth_of(SkyObject("galaxy", 48.0, 40.0, line(40, 48, 1.0, peak)), view)
    row = part.row
    sigma = 2.0
    assert row["z"] == pytest.approx(10, abs=0.02)
    assert row["w50"] == pytest.approx(sigma * 2.3548, rel=0.03)
    assert row["w20"] == pytest.approx(sigma * 2 * np.sqrt(2 * np.log(5)), rel=0.03)
    assert (row["z_min"], row["z_max"]) == (6, 14)  # 4.7 channels each way
    total = peak * 2 * np.pi * np.sqrt(2 * np.pi) * sigma
    assert row["flux"] == pytest.approx(total * observation.channel_width, rel=1e-3)
    beam = observation.clean_beam
    narrow = 2.3548
    height = total / (np.sqrt(2 * np.pi) * sigma) * beam_area(beam)
    height /= np.pi * np.hypot(beam.major, narrow) * np.hypot(beam.minor, narrow) / (4 * np.log(2))
    norm = np.sqrt(np.sqrt(np.pi) * sigma)
    assert row["snr_line"] == pytest.approx(height * norm / observation.noise, rel=0.03)
    expected = height * np.sqrt(2 * np.pi) * sigma / np.sqrt(CHANNELS) / observation.noise
    assert row["snr_stack"] == pytest.approx(expected, rel=0.03)


def test_continuum_counts_for_the_stack_and_not_for_the_line(observation, view):
    image, corner = gaussian_stamp(48.0, 40.0, 3.0, 3.0, 0)
    peak = 20 * observation.noise / beam_area(observation.clean_beam)
    flat = SkyObject("continuum", 48.0, 40.0, image=image * peak, corner=corner, spectrum=np.ones(CHANNELS))
    (part,) = truth_of(flat, view)
    assert part.row["snr_line"] == 0
    assert part.row["z_min"] == part.row["z_max"] == -1
    assert np.isnan(part.row["z"])
    assert part.row["snr_stack"] > 10
    dip = line(40, 48, 1.2, -0.5 * peak)
    (both,) = truth_of(replace(flat, kind="absorption", line=dip), view)
    (alone,) = truth_of(SkyObject("galaxy", 48.0, 40.0, dip.scaled(-1)), view)
    assert both.row["snr_line"] == pytest.approx(alone.row["snr_line"], rel=1e-3)
    assert both.row["flux"] == pytest.approx(-alone.row["flux"], rel=1e-6)
    assert both.row["snr_stack"] < part.row["snr_stack"]


def test_shared_channels_lower_the_snr_of_wide_sums(observation, view):
    one = SkyObject("galaxy", 48.0, 40.0, line(40, 48, 1.0, 1e-5))
    shared = replace(view, covariance=mixing("hanning", CHANNELS).covariance)
    ((plain,), (less,)) = (truth_of(one, v) for v in (view, shared))
    # a sum of many channels is sqrt(1 + 2 (2/3 + 1/6)) as noisy
    assert less.row["snr_stack"] == pytest.approx(plain.row["snr_stack"] / np.sqrt(1 + 5 / 3), rel=0.06)
    assert less.row["snr_line"] < 0.75 * plain.row["snr_line"]


def test_parts_of_a_cloud_that_do_not_meet_are_objects(observation, view):
    unit = observation.noise / beam_area(observation.clean_beam)
    parts = [line(25, 25, 3, 30 * unit), line(70, 70, 3, 20 * unit), line(70, 20, 3, 2.5 * unit)]
    cube = np.zeros(SHAPE, np.float32)
    for part in parts:
        part.add_to(cube)
    whole = Emission(cube, (0, 0, 0), "cloud")
    rows = truth_of(SkyObject("cloud", 40.0, 40.0, whole), view)
    assert len(rows) == 2
    labels = label_volume(rows, SHAPE)
    assert labels[10, 25, 25] != labels[10, 70, 70]
    assert rows[0].row["flux"] + rows[1].row["flux"] == pytest.approx(
        cube.sum(dtype=float) * observation.channel_width, rel=0.05
    )
    brightest = labels[10, 25, 25]
    assert labels[10, 70, 20] == brightest  # what is too faint belongs to it
    galaxy = truth_of(SkyObject("galaxy", 40.0, 40.0, replace(whole, kind="galaxy")), view)
    assert len(galaxy) == 1


def test_of_two_in_one_voxel_the_brighter_has_it(view, observation):
    unit = 40 * observation.noise / beam_area(observation.clean_beam)
    parts = [
        truth_of(SkyObject("galaxy", x, 40.0, line(40, x, 2, f * unit)), view)[0] for x, f in ((44.0, 1.0), (54.0, 3.0))
    ]
    labels = label_volume(parts, SHAPE)
    assert labels[10, 40, 43] == 1
    assert labels[10, 40, 55] == 2
    assert labels[10, 40, 50] == 2


def test_blank_pixels_and_channels_are_no_part_of_an_object(view, observation):
    unit = 40 * observation.noise / beam_area(observation.clean_beam)
    pixels, channels = view.pixels.copy(), view.channels.copy()
    pixels[:, 48:], channels[:10] = False, False
    (part,) = truth_of(
        SkyObject("galaxy", 48.0, 40.0, line(40, 48, 3, unit)), replace(view, pixels=pixels, channels=channels)
    )
    labels = label_volume([part], SHAPE)
    assert labels.any()
    assert not labels[:10].any()
    assert not labels[:, :, 48:].any()


@pytest.mark.parametrize("draw", [galaxies, clouds, absorption, bright_continuum])
def test_drawn_objects_lie_in_the_field_and_shine(draw, ground, view):
    rng = np.random.default_rng(2)
    for _ in range(3):
        objects = draw(rng, ground)
        rows = [part.row for one in objects for part in truth_of(one, view)]
        assert rows
        for row in rows:
            assert 0 <= row["x_min"] <= row["x_max"] < N
            assert row["snr_line"] > 0 or row["kind"] == "continuum"
            if row["kind"] == "absorption":
                assert row["flux"] < 0
        if draw is galaxies:
            # as bright as asked for, or less where the array does not see the largest scales
            assert max(row["snr_line"] for row in rows) < 1.05 * GALAXY_SNR[1]


def test_absorption_leaves_no_less_than_nothing(ground):
    for one in absorption(np.random.default_rng(3), ground):
        sky = np.zeros(SHAPE, np.float32)
        one.add_to(sky)
        assert sky.min() > -1e-3 * sky.max()


def test_smoothing_makes_one_beam_of_another(observation):
    """Of a source of one beam, in Jy/beam: its peak stays, as that of a point does."""
    old, new = CleanBeam(8.0, 6.0, 20.0), CleanBeam(12.0, 12.0, 0.0)
    smooth = smoothed_planes(old.image(N)[None], old, new)[0]
    np.testing.assert_allclose(smooth, new.image(N), atol=1e-3)
    with pytest.raises(ValueError, match="not wider"):
        smoothed_planes(old.image(N)[None], new, old)
