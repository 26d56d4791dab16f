"""Training learns, resumes and ends with weights the pipeline can load."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from astropy.table import Table

from napari_almadet.networks.blobs_finder import BlobsFinder
from napari_almadet.networks.deep_gru import DeepGRU
from napari_almadet.networks.weights import load

pytest.importorskip("pytorch_lightning", reason="the extra 'train' is not installed")

from napari_almadet.training import recipes
from napari_almadet.training.recipes import (
    BLOBS_FINDER,
    DEEP_GRU,
    LINE_FINDER,
    TiedBlobsFinder,
    TiedDeepGRU,
    train_blobs_finder,
    train_deep_gru,
    train_line_finder,
)

TINY = {"fields": 16, "validation_fields": 8, "batch_size": 8, "epochs": 2, "observations": 2, "jobs": 1}


@pytest.fixture(scope="module")
def tiny_data():
    """The fields of a `TINY` recipe."""
    return recipes.simulate_data(replace(DEEP_GRU, **TINY))


@pytest.fixture
def simulated_once(monkeypatch, tiny_data):
    """All trainings have the same fields: processes that simulate take longer to start than these to train."""

    def simulate_data(recipe, progress=None):
        assert (recipe.fields, recipe.validation_fields) == (TINY["fields"], TINY["validation_fields"])
        return tiny_data

    monkeypatch.setattr(recipes, "simulate_data", simulate_data)


def test_untied_layers_are_the_tied_ones_written_out():
    torch.manual_seed(0)
    tied = TiedBlobsFinder(BlobsFinder()).eval()
    image = torch.rand(2, 1, 256, 256)
    with torch.no_grad():
        expected = tied(image)
        torch.testing.assert_close(tied.untied().eval()(image), expected, atol=1e-5, rtol=1e-4)


def test_tied_network_treats_all_places_alike():
    """A shift by a cell of the encoder's grid shifts the answer and changes nothing else, away from the border."""
    torch.manual_seed(1)
    tied = TiedBlobsFinder(BlobsFinder()).eval()
    image = torch.zeros(1, 1, 256, 256)
    image[..., 96:112, 96:112] = torch.rand(16, 16)
    with torch.no_grad():
        here, there = tied(image), tied(image.roll(32, -1))
    torch.testing.assert_close(here.roll(32, -1)[..., 80:176, 112:176], there[..., 80:176, 112:176])


def test_written_out_layers_are_tied_again():
    torch.manual_seed(2)
    tied = TiedBlobsFinder(BlobsFinder()).eval()
    image = torch.rand(2, 1, 256, 256)
    with torch.no_grad():
        expected = tied(image)
        again = TiedBlobsFinder.starting_from(tied.untied()).eval()
        torch.testing.assert_close(again(image), expected, atol=1e-5, rtol=1e-4)


def test_untied_deep_gru_is_the_tied_one_written_out():
    torch.manual_seed(0)
    tied = TiedDeepGRU(DeepGRU()).eval()
    spectra = torch.randn(4, 128)
    with torch.no_grad():
        expected = tied(spectra)
        torch.testing.assert_close(tied.untied()(spectra), expected, atol=1e-5, rtol=1e-4)


def test_training_resumes_and_ends_with_weights_and_their_card(tmp_path, simulated_once):
    recipe = replace(DEEP_GRU, **TINY)
    train_deep_gru(tmp_path, recipe)
    path = train_deep_gru(tmp_path, replace(recipe, epochs=4))
    assert path == tmp_path / "deep_gru.safetensors"
    network, card = load(path)
    assert torch.isfinite(network(torch.zeros(1, 128))).all()
    assert set(card["scores"]) == {"tied", "free", "line found", "no line, none found"}
    assert card["scores"]["tied"]["epochs"] == 4
    assert card["recipe"]["fields"] == 16
    assert {"best.ckpt", "last.ckpt", "log", "loss.png"} <= {p.name for p in (tmp_path / "tied").iterdir()}
    # the second run began where the first had stopped
    log = Table.read(tmp_path / "tied" / "log" / "version_1" / "metrics.csv", format="ascii.csv")
    assert min(log["epoch"]) == 2


def test_blobs_finder_is_trained_in_two_stages(tmp_path, simulated_once):
    network, card = load(train_blobs_finder(tmp_path, replace(BLOBS_FINDER, **TINY)))
    assert isinstance(network, BlobsFinder)
    assert set(card["scores"]) == {"tied", "free", "completeness", "completeness, SNR >= 5", "purity"}


def test_blobs_finder_goes_on_from_trained_weights(tmp_path, simulated_once):
    recipe = replace(BLOBS_FINDER, **TINY | {"epochs": 1}, rate=0.0, start="blobs_finder")
    network, card = load(train_blobs_finder(tmp_path, recipe))
    shipped, shipped_card = load("blobs_finder")
    for old, new in zip(shipped.decoder.parameters(), network.decoder.parameters(), strict=True):
        torch.testing.assert_close(old, new)
    assert card["scores"]["started from"]["sha256"] == shipped_card["sha256"]


def test_training_goes_on_from_weights_of_the_same_network_only(tmp_path):
    """One epoch at a rate of nothing leaves the weights it started from, but for batch norm's running means."""
    network, card = load("line_finder")
    recipe = replace(
        LINE_FINDER, fields=32, validation_fields=32, epochs=1, batch_size=64, rate=0.0, precision="32-true"
    )
    path = train_line_finder(tmp_path, replace(recipe, start="line_finder"))
    again, again_card = load(path)
    for old, new in zip(network.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(old, new)
    assert again_card["scores"]["started from"]["sha256"] == card["sha256"]
    with pytest.raises(ValueError, match="holds weights of Judge, not of LineFinder"):
        train_line_finder(tmp_path / "other", replace(recipe, start="judge"))
