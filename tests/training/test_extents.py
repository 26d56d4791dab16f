"""What the extent classifier learns from: which patches are real, artefacts that are none, and the training itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_almadet.networks.extent_classifier import ExtentClassifier
from napari_almadet.networks.weights import load
from napari_almadet.search.components import gaussian
from napari_almadet.search.features import N_EXTENT_FEATURES
from napari_almadet.search.sidelobes import KnownBeam
from napari_almadet.simulation.array import CleanBeam
from napari_almadet.training.artefacts import ARTEFACTS, some_channels, spoilt
from napari_almadet.training.extents import COLUMNS, FACTS, MEASURED, Patches, encoded, file_of, in_field, is_true
from napari_almadet.training.fields import SIDE, Instrument, SimulatedField

BEAM = 4.0


@pytest.fixture(scope="module")
def instrument() -> Instrument:
    response = torch.fft.rfft2(gaussian((2 * SIDE, 2 * SIDE), BEAM))
    return Instrument(response, CleanBeam(BEAM, BEAM, 0.0), np.zeros((1, 24, 2, 2), np.float16))


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=lambda artefact: artefact.__name__)
def test_artefacts_are_seen_and_leave_the_cube_itself_alone(artefact, instrument):
    for seed in range(4):
        noise = torch.randn(24, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        before = noise.clone()
        spoiled = artefact(np.random.default_rng(seed), noise, instrument)
        torch.testing.assert_close(noise, before)
        assert spoiled.shape == noise.shape
        assert float((spoiled - noise).nan_to_num().abs().max()) > 0.3  # times the noise of a channel


def test_the_same_draws_spoil_a_cube_in_the_same_way(instrument):
    noise = torch.zeros(24, SIDE, SIDE)
    one, other, else_ = (spoilt(np.random.default_rng(seed), noise, instrument) for seed in (1, 1, 2))
    assert torch.equal(one.nan_to_num(), other.nan_to_num())
    assert not torch.equal(one.nan_to_num(), else_.nan_to_num())
    assert sum(ARTEFACTS.values()) == pytest.approx(1)


def test_an_artefact_is_in_all_channels_or_in_some():
    rng = np.random.default_rng(0)
    shares = [np.mean(some_channels(rng, 64) > 0.1) for _ in range(60)]
    assert min(shares) < 0.05
    assert max(shares) == 1


def field() -> SimulatedField:
    """A galaxy in one corner, and a source of three pixels' sigma in the other."""
    objects = np.zeros((SIDE, SIDE), np.uint8)
    objects[10:30, 10:30] = 1
    sources = np.array([[70.0, 70.0, 3.0, 2.0, 20.0, 0.0, 0.0, 1.0]])
    owners, between = np.zeros(len(sources), int), objects > 5
    return SimulatedField(torch.zeros(4, SIDE, SIDE), sources, owners, BEAM, objects, between, KnownBeam(BEAM))


@pytest.mark.parametrize(
    ("place", "real"),
    [((12, 28), True), ((8, 20), False), ((70, 73), True), ((70, 74), False), ((50, 50), False)],
)
def test_a_patch_is_real_where_an_object_is_seen_or_a_source_is_near(place, real):
    assert is_true(place, field(), BEAM) == real


def test_in_a_smoothed_field_a_patch_is_a_source_as_much_further_away_as_the_beam_is_wider():
    far = (70, 70 + round(1.9 * BEAM))
    assert (is_true(far, field(), BEAM), is_true(far, field(), 4 * BEAM)) == (False, True)


@pytest.mark.parametrize(("scale", "there"), [(0, (5, 7)), (1, (11, 15)), (2, (22, 30)), (4, (88, SIDE - 1))])
def test_the_pixel_of_a_smoothed_field_is_in_the_middle_of_those_it_stands_for(scale, there):
    assert in_field((5, 7), scale) == there


def write(folder, which: str, count: int, seed: int) -> None:
    """Patches of one observation: real ones have no negatives beside them."""
    rng = np.random.default_rng(seed)
    true = rng.random(count) < 0.5
    measures = rng.uniform(0.5, 1.5, (count, len(COLUMNS)))
    measures[:, COLUMNS.index("dip_line")] = np.where(true, 4, 20)
    facts = np.zeros((count, len(FACTS)), int)
    facts[:, FACTS.index("true")], facts[:, FACTS.index("field")] = true, np.arange(count) // 2
    facts[:, FACTS.index("large")] = 1
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(file_of(folder, which, 0), measures=measures.astype(np.float32), facts=facts.astype(np.int32))


def test_patches_come_encoded_and_weigh_less_where_there_are_many_like_them(tmp_path):
    write(tmp_path, "train", 6, 0)
    with np.load(file_of(tmp_path, "train", 0)) as file:
        measures, facts = file["measures"], file["facts"]
    facts[:, :] = 0
    facts[:, FACTS.index("field")] = [0, 0, 0, 0, 1, 2]
    facts[5, FACTS.index("kept")] = 1  # a small one of which Judge keeps a detection: not asked about
    np.savez(file_of(tmp_path, "train", 0), measures=measures, facts=facts)
    patches = Patches(tmp_path, "train", 0, augment=False)
    assert patches.weight.tolist() == [0.5, 0.5, 0.5, 0.5, 1.0]
    numbers, (true, weight) = patches[4]
    assert (true, weight) == (0, 1)
    np.testing.assert_array_equal(numbers, encoded(measures[4]))
    assert len(numbers) == N_EXTENT_FEATURES
    assert COLUMNS[: len(MEASURED)] == MEASURED
    shown = Patches(tmp_path, "train", 0)
    assert not torch.equal(shown[0][0], shown[0][0])  # another each time


def test_training_learns_what_tells_artefacts_and_ends_with_weights_and_their_card(tmp_path):
    recipes = pytest.importorskip("napari_almadet.training.recipes", reason="the extra 'train' is not installed")
    for which, count in (("train", 200), ("validation", 60)):
        write(tmp_path / "patches", which, count, len(which))
    recipe = replace(recipes.EXTENT, fields=16, validation_fields=16, epochs=15, batch_size=16, rate=1e-2, jobs=1)
    network, card = load(recipes.train_extent(tmp_path, recipe))
    assert isinstance(network, ExtentClassifier)
    assert card["scores"]["completeness at 0.75"].startswith("1.000")
    assert card["scores"]["purity at 0.75"].startswith("1.000")
    assert "200 patches of emission in 16 fields (60 in 16" in card["data"]
