"""What is done to cubes: noise of shared channels, CLEAN, smoothing, and the primary beam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.channels import mixing
from napari_almadet.simulation.cleaning import CleanRun
from napari_almadet.simulation.objects import gaussian_stamp
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.processing import (
    Processing,
    as_published,
    clean_loop,
    common_beam,
    processed,
    shared_channels,
    smoothed_noise,
)

N, CHANNELS = 96, 24


@pytest.fixture(scope="module")
def imager() -> Imager:
    return Imager(Observation(size=N, n_channels=CHANNELS, integration=60.0))


def nothing() -> np.ndarray:
    return np.zeros((CHANNELS, N, N), np.float32)


def cube(imager, processing, sky=None, seed=0) -> np.ndarray:
    return processed(imager, nothing() if sky is None else sky, processing, torch.Generator().manual_seed(seed))


def test_nothing_done_is_the_dirty_cube(imager):
    sky = nothing()
    sky[5, 40, 50] = 1e-3
    made, noise = cube(imager, Processing(), sky), cube(imager, Processing())
    np.testing.assert_allclose(made - noise, imager.of_sky(sky).numpy(), atol=1e-8)
    assert noise.std() == pytest.approx(imager.observation.noise, rel=0.03)


@pytest.mark.parametrize(("kind", "lags"), [("hanning", (2 / 3, 1 / 6, 0)), ("average 2", (0.3, 0, 0))])
def test_noise_is_that_of_the_observation_and_shared_as_asked(imager, kind, lags):
    made = cube(imager, Processing(mixing=mixing(kind, CHANNELS))) / imager.observation.noise
    assert made.std() == pytest.approx(1, rel=0.03)
    for lag, expected in enumerate(lags, 1):
        assert (made[lag:] * made[:-lag]).mean() == pytest.approx(expected, abs=0.05)


def test_noise_after_smoothing_is_as_computed(imager):
    for beam in (CleanBeam(14.0, 14.0, 0.0), CleanBeam(11.0, 9.5, 84.0)):
        made = cube(imager, Processing(beam=beam))
        inside = made[:, 16:-16, 16:-16]
        assert inside.std() == pytest.approx(smoothed_noise(imager.observation, beam), rel=0.05)
    with pytest.raises(ValueError, match="not wider"):
        smoothed_noise(imager.observation, CleanBeam(5.0, 5.0, 0.0))


def test_clean_takes_sidelobes_and_keeps_flux(imager):
    observation = replace(imager.observation, mosaic=True, noise=1e-5)
    sky = nothing()
    image, (y0, x0) = gaussian_stamp(48.0, 48.0, 6.0, 4.0, 30.0)
    sky[5, y0 : y0 + len(image), x0 : x0 + image.shape[1]] = 1e-3 * image
    dirty = cube(Imager(observation), Processing(), sky)
    clean = cube(Imager(observation), Processing(clean=CleanRun(3000, 3.0, 0.1)), sky)
    beam = observation.clean_beam
    area = np.pi * beam.major * beam.minor / (4 * np.log(2))
    assert clean[5].sum() / area == pytest.approx(sky[5].sum(), rel=0.03)
    far = np.hypot(*(np.indices((N, N)) - 48)) > 20
    assert np.abs(clean[5][far]).max() < 0.3 * np.abs(dirty[5][far]).max()


def test_the_primary_beam_is_corrected_last(imager):
    observation = replace(imager.observation, pixel=0.5, array="alma_cycle9_c1", pb_corrected=True)
    made = cube(Imager(observation), Processing(clean=CleanRun(50, 4.0, 0.1)))
    assert np.isnan(made).any()
    pattern = observation.primary_beam()
    middle, outer = pattern > 0.9, (pattern > 0.25) & (pattern < 0.35)
    ratio = np.nanstd(made[:, outer]) / np.nanstd(made[:, middle])
    assert ratio == pytest.approx(1 / pattern[outer].mean(), rel=0.15)


@pytest.mark.parametrize("draw", [shared_channels, clean_loop, common_beam, as_published])
def test_what_is_drawn_can_be_done_and_told(draw, imager):
    rng = np.random.default_rng(0)
    for _ in range(2):
        processing = draw(rng, imager.observation)
        assert np.isfinite(cube(imager, processing)).all()
        assert isinstance(processing.about(), dict)
