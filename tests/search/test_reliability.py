"""Reliabilities: of made-up candidates with known shares of false ones, and of searched cubes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_almadet import Settings, detect
from napari_almadet.catalogue.result_folder import read_result, write_result
from napari_almadet.detection import load_networks
from napari_almadet.search.reliability import find_negatives, notes, reliability
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observe import Observation

SMALL = Observation(size=180, n_channels=64)


def drawn(rng, n, logit):
    """``prob`` of n candidates about a logit."""
    return 1 / (1 + np.exp(-rng.normal(logit, 1, n)))


def test_reliability_is_the_share_of_true_ones():
    """Three true ones to one false where they mix, none true among the faint, all true among the bright."""
    rng = np.random.default_rng(1)
    faint, mixed, true, bright = drawn(rng, 300, -4), drawn(rng, 100, 1), drawn(rng, 300, 1), drawn(rng, 50, 8)
    negatives = np.concatenate([drawn(rng, 300, -4), drawn(rng, 100, 1)])
    rel = reliability(np.concatenate([faint, mixed, true, bright]), negatives)
    assert rel[:300].mean() < 0.15
    assert np.median(rel[300:700]) == pytest.approx(0.75, abs=0.1)
    assert np.median(rel[700:]) > 0.999 and rel[700:].min() > 0.8
    assert np.all((rel >= 0) & (rel <= 1))


@pytest.mark.parametrize("n", [5, 20, 200])
def test_candidates_of_noise_alone_have_little(n):
    """Whatever their number, and whichever of the two sets they are in."""
    rng = np.random.default_rng(2)
    assert np.mean([reliability(drawn(rng, n, -2), drawn(rng, n, -2)).mean() for _ in range(50)]) < 0.3


def test_few_negatives_still_part_bright_from_faint():
    rel = reliability(np.array([0.999, 0.3]), np.array([0.25]))
    assert rel[0] > 0.999
    assert rel[1] < 0.2


def test_what_is_not_known_is_nan():
    found = np.array([0.9, np.nan])
    assert np.isnan(reliability(found, np.empty(0))).all()
    assert np.isfinite(reliability(found, np.array([0.3, np.nan]))).tolist() == [True, False]
    assert len(reliability(np.empty(0), found[:1])) == 0


def test_notes_say_what_the_numbers_are_worth():
    assert "no detections in the inverted cube" in notes(np.empty((0, 2)), 0.85)[0]
    first, rough = notes(np.array([[0.3, 4.0], [0.4, 5.0], [0.9, 6.0]]), 0.85)
    assert "1 of 3 negative detections" in first and "0.85 or more: expect about 1 false positive." in first
    assert "rough" in rough
    many = notes(np.full((30, 2), 0.9), 0.85)
    assert len(many) == 2 and "bowls or sidelobes" in many[1]
    with pytest.raises(ValueError, match="almadet only"):
        Settings(preset="paper", reliability=True)


@pytest.fixture(scope="module")
def networks():
    return load_networks(Settings(device="cpu"))


@pytest.mark.parametrize(("scenario", "seeds"), [("empty", (1, 2, 6)), ("paper", (3, 4)), ("bright", (5,))])
def test_sources_are_reliable_and_noise_is_not(networks, scenario, seeds, tmp_path):
    settings = Settings(device="cpu", reliability=True)
    noise = []
    for seed in seeds:
        simulated = simulate_cube(seed, scenario, SMALL)
        detections = detect(cube_of(simulated, "field"), settings, networks=networks)
        truth = np.stack([simulated.truth["x"].value, simulated.truth["y"].value], axis=1)
        # bright sources, their bowls and sidelobes, are not taken for noise
        assert (detections.negatives[:, 0] >= settings.threshold).sum() == 0
        for candidate in detections.candidates:
            true = len(truth) and np.hypot(*(truth - [candidate.x, candidate.y]).T).min() < 3
            if true and candidate.prob > 0.95:
                assert candidate.rel > 0.9 or not len(detections.negatives)
            if not true:
                noise.append(candidate.rel)
        assert any(
            "negative detections" in said or "no detections in the inverted cube" in said
            for said in detections.warnings
        )
    assert np.isnan(noise).all() or np.nanmean(noise) < 0.9
    again = read_result(write_result(detections, tmp_path / "out"), detections.cube)
    np.testing.assert_allclose(again.negatives, detections.negatives, atol=1e-6)
    assert [c.rel for c in again.candidates] == pytest.approx([c.rel for c in detections.candidates], nan_ok=True)


def test_a_dip_about_a_source_is_none_of_noise(networks):
    """A bright, broad line leaves a dip in the fitted baseline; a hole as deep as the source is one to be counted."""
    simulated = simulate_cube(1, "empty", SMALL)
    cube = cube_of(simulated, "field")
    z, y, x = np.ogrid[:64, :180, :180]
    sigma, beam = simulated.observation.noise, cube.beam_fwhm

    def blob(y0, x0, height):
        return (
            height * sigma * np.exp(-4 * np.log(2) * (((z - 32) / 12) ** 2 + ((y - y0) ** 2 + (x - x0) ** 2) / beam**2))
        )

    settings = Settings(device="cpu")
    for height, counted in ((0, 0), (-30, 1)):
        planes = cube.data + blob(60, 60, 60).astype(np.float32) + blob(130, 130, height).astype(np.float32)
        seen = replace(cube, data=planes)
        candidates = detect(seen, settings, networks=networks).candidates
        assert any(np.hypot(c.x - 60, c.y - 60) < 2 and c.prob > 0.95 for c in candidates)
        negatives = find_negatives(seen, settings, networks, candidates)
        assert not any(np.hypot(c.x - 60, c.y - 60) < beam for c in negatives)
        assert sum(c.prob > 0.95 for c in negatives) == counted
