"""Each scenario holds what its description promises; the SNRs of its truth are those of its cubes."""

from __future__ import annotations

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import QTable

from napari_almadet import read_cube
from napari_almadet.simulation import SCENARIOS_ABOUT
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observation_files import BRIGHTEST, truth_table, write_cube
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.simulation.scenarios import SCENARIOS, blank_borders
from napari_almadet.simulation.sky import SkyModel, covariance
from napari_almadet.simulation.truth import view_of

SMALL = Observation(size=96, n_channels=32, duration=600, integration=60)


@pytest.fixture(scope="module")
def imager():
    return Imager(SMALL)


def test_every_scenario_is_described():
    assert list(SCENARIOS_ABOUT) == list(SCENARIOS)


def test_the_sky_of_a_seed_is_the_papers_whatever_the_observation(imager):
    paper = simulate_cube(7, imager=imager)
    for scenario in ("phase-errors", "cleaned", "bright"):
        other = simulate_cube(7, scenario, imager=imager)
        np.testing.assert_array_equal(other.model.x, paper.model.x)
        factor = other.model.line / paper.model.line
        np.testing.assert_allclose(factor, SCENARIOS[scenario].brightness)


@pytest.mark.parametrize(
    "scenario", ["beams", "arrays", "rising", "borders", "discs", "edges", "phase-errors", "cleaned"]
)
def test_snr_is_that_of_the_cube(scenario, imager):
    """One source alone, without noise, over the rms of noise at the same place, both stacked over what is not blank."""
    simulated = simulate_cube(21, scenario, imager=imager)
    observation = simulated.observation
    own = Imager(observation)
    channels = ~np.isnan(simulated.dirty).all(axis=(1, 2))
    pixels = ~np.isnan(simulated.dirty).all(axis=0)
    nothing = SkyModel.sample(np.random.default_rng(0), SCENARIOS["empty"].sky)
    generator = torch.Generator().manual_seed(5)
    stacks = np.array([own.cube(nothing, generator).numpy()[channels].sum(axis=0) for _ in range(60)])
    # Without the correction for the primary beam the rms is the same everywhere; at one place 60 stacks give it to 9 %.
    pattern = observation.primary_beam() if observation.pb_corrected else np.ones((96, 96))
    rms = np.nanmean(stacks.std(axis=0) * pattern)
    for i in range(len(simulated.model)):
        one = SkyModel(**{name: values[i : i + 1] for name, values in vars(simulated.model).items()})
        alone = own.noise_free_cube(one).numpy()[channels].sum(axis=0) * pattern
        assert alone[pixels].max() / rms == pytest.approx(simulated.truth["snr_stack"][i], rel=0.05)


def test_line_snr_of_a_disc_is_matched_to_its_own_profile(imager):
    simulated = simulate_cube(4, "discs", imager=imager)
    model = replace(simulated.model, continuum=np.zeros(len(simulated.model)))
    for i, profile in enumerate(model.line_profiles(32)):
        one = SkyModel(**{name: values[i : i + 1] for name, values in vars(model).items()})
        cube = imager.noise_free_cube(one).numpy()
        matched = np.tensordot(profile, cube, axes=1).max() / (SMALL.noise * np.sqrt((profile**2).sum()))
        assert matched == pytest.approx(simulated.truth["snr_line"][i], rel=0.02)


def test_borders_blank_what_they_say():
    shares, ends = [], []
    for seed in range(40):
        coverage = blank_borders(np.random.default_rng(seed), replace(SMALL, n_channels=128))
        shares.append(1 - coverage.pixels.mean())
        ends.append(np.flatnonzero(coverage.channels)[[0, -1]])
        assert coverage.channels.sum() == ends[-1][1] - ends[-1][0] + 1  # only at the ends
    assert 0.1 <= min(shares) < 0.15
    assert 0.35 < max(shares) <= 0.41
    assert max(low for low, _ in ends) in range(4, 7)
    assert min(high for _, high in ends) in range(121, 124)


def test_borders_are_nan_in_the_cube_and_sources_lie_beside_them(imager):
    distances = []
    for seed in range(6):
        simulated = simulate_cube(seed, "borders", imager=imager)
        blank = np.isnan(simulated.dirty).all(axis=0)
        assert 0.09 < blank.mean() < 0.42
        assert np.isfinite(simulated.dirty[5:-5][:, ~blank]).all()
        y, x = np.rint([simulated.truth["y"].value, simulated.truth["x"].value]).astype(int)
        assert not blank[y, x].any()
        by, bx = np.nonzero(np.pad(blank, 1, constant_values=True))
        distances += [np.hypot(by - 1 - b, bx - 1 - a).min() for b, a in zip(y, x, strict=True)]
    assert min(distances) < SMALL.clean_beam.fwhm < max(distances)


def test_edges_are_where_all_sources_lie(imager):
    for seed in range(5):
        truth = simulate_cube(seed, "edges", imager=imager).truth
        x, y = truth["x"].value, truth["y"].value
        depth = np.min([x, y, 95 - x, 95 - y], axis=0)
        assert depth.min() >= -0.5
        assert depth.max() <= SMALL.clean_beam.fwhm


def test_rising_cubes_have_no_data_beyond_a_fifth_and_sources_inside(imager):
    simulated = simulate_cube(3, "rising", imager=imager)
    blank = np.isnan(simulated.dirty).all(axis=0)
    np.testing.assert_array_equal(blank, simulated.observation.primary_beam() < 0.2)
    y, x = np.rint([simulated.truth["y"].value, simulated.truth["x"].value]).astype(int)
    assert not blank[y, x].any()
    assert blank.mean() > 0.02


def test_beams_are_those_of_the_header(imager):
    fwhm = []
    for seed in range(12):
        simulated = simulate_cube(seed, "beams", imager=imager)
        beam = cube_of(simulated, "beams").beam
        pixels = np.sqrt(beam.major.to_value("arcsec") * beam.minor.to_value("arcsec")) / simulated.observation.pixel
        assert pixels == pytest.approx(simulated.observation.clean_beam.fwhm)
        fwhm.append(pixels)
    assert min(fwhm) >= 3
    assert max(fwhm) <= 10
    assert np.ptp(fwhm) > 4


def test_only_pairs_have_partners(imager):
    assert (simulate_cube(2, imager=imager).truth["pair"] == 0).all()
    pair = simulate_cube(2, "pairs", imager=imager).truth["pair"]
    assert sorted(pair)[:4] == [1, 1, 2, 2]


@pytest.mark.parametrize(("scenario", "column", "median"), [("line-only", "snr_line", 10), ("bright", "snr_stack", 80)])
def test_brightness_is_what_the_scenario_is_for(scenario, column, median):
    imager = Imager(Observation(), band_ends=False)
    kind, found = SCENARIOS[scenario], []
    for seed in range(20):
        model = SkyModel.sample(np.random.default_rng(seed), kind.sky, brightest=kind.brightness * np.mean(BRIGHTEST))
        found.extend(truth_table(model, imager)[column])
    assert median / 1.5 < np.median(found) < median * 1.5


NEW = [
    *("galaxies", "clouds", "absorption", "continuum-left"),
    *("cleaned-loop", "smoothed", "shared-channels", "shared-channels-empty"),
]


@pytest.mark.parametrize("scenario", NEW)
def test_new_scenarios_have_rows_and_voxels_for_all_that_is_seen(scenario, imager):
    for seed in (1, 2):
        simulated = simulate_cube(seed, scenario, imager=imager)
        truth, mask = simulated.truth, simulated.mask
        assert mask.shape == simulated.dirty.shape
        assert set(np.unique(mask)) <= {0, *truth["id"]}
        blank = np.isnan(simulated.dirty)
        assert not mask[blank].any()
        if scenario.endswith("empty"):
            assert not len(truth)
            continue
        assert len(truth)
        for row in truth:
            own = mask == row["id"]
            # another that is brighter may have some of its voxels
            assert own.sum() <= row["n_voxels"]
            if row["snr_line"] > 10 and row["kind"] in ("galaxy", "cloud"):
                assert own.any()


def test_noise_of_new_scenarios_is_what_their_snrs_are_of(imager):
    for scenario in ("smoothed", "shared-channels-empty", "cleaned-loop"):
        simulated = simulate_cube(5, scenario, imager=imager)
        view = view_of(simulated.observation, simulated.processing, np.ones(32, bool), np.ones((96, 96), bool))
        quiet = simulated.dirty[:, ~simulated.mask.any(axis=0)]
        # CLEAN takes something off the highest peaks of noise too
        assert quiet.std() == pytest.approx(view.noise, rel=0.12)


def test_the_same_seed_makes_the_same_cube_in_new_scenarios(imager):
    one, other = (simulate_cube(3, "galaxies", imager=imager) for _ in range(2))
    np.testing.assert_array_equal(one.dirty, other.dirty)
    np.testing.assert_array_equal(one.mask, other.mask)


def test_masks_of_gaussians_are_where_their_models_are_over_half_the_noise(imager):
    simulated = simulate_cube(7, imager=imager)
    model, beam = simulated.model, covariance(*astuple(SMALL.clean_beam))
    own = covariance(model.major, model.minor, model.angle)
    peaks = 2 * np.pi * np.sqrt(np.linalg.det(own) * np.linalg.det(beam) / np.linalg.det(own + beam))
    images = model.images(96, beam=SMALL.clean_beam) * SMALL.primary_beam()
    cubes = np.einsum("s,sc,syx->scyx", peaks, model.spectra(SMALL.frequencies), images)
    np.testing.assert_array_equal(simulated.mask > 0, cubes.max(axis=0) > 0.5 * SMALL.noise)
    alone = (cubes > 0.5 * SMALL.noise).sum(axis=0) == 1
    np.testing.assert_array_equal(simulated.mask[alone], cubes.argmax(axis=0)[alone] + 1)


def test_old_scenarios_keep_their_seeds():
    """Seeds go by a scenario's place in the list, and validation tables by seeds: what is new comes last."""
    old = (
        "paper empty line-only continuum-only bright pairs beams arrays rising borders discs edges phase-errors cleaned"
    )
    assert list(SCENARIOS)[:14] == old.split()


def test_a_written_cube_has_its_mask_and_says_what_was_done(tmp_path, imager):
    simulated = simulate_cube(1, "smoothed", imager=imager)
    folder = write_cube(simulated, tmp_path / "one")
    with fits.open(folder / "mask.fits") as file:
        np.testing.assert_array_equal(file[1].data, simulated.mask)
    about = json.loads((folder / "simulation.json").read_text())
    assert about["processing"]["smoothed_to"]["major"] == simulated.beam.major
    cube = read_cube(folder / "dirty.fits")
    assert cube.beam.major.to_value("arcsec") == pytest.approx(simulated.beam.major * SMALL.pixel)
    truth = QTable.read(folder / "truth.ecsv")
    assert truth.meta["clean_beam"]["major"] == simulated.beam.major
