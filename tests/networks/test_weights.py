"""Weights and cards survive the round trip, and what is not ours is refused."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from napari_almadet.networks.blobs_finder import BlobsFinder
from napari_almadet.networks.deep_gru import DeepGRU
from napari_almadet.networks.weights import SHIPPED, load, load_all, pick_device, save


@pytest.mark.parametrize(("network", "shape"), [(BlobsFinder(latent=256), (1, 1, 256, 256)), (DeepGRU(), (3, 128))])
def test_round_trip_in_half_precision(tmp_path, network, shape):
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    save(network, path, {"seed": 7})
    again, card = load(path)
    assert card["seed"] == 7
    assert len(card["sha256"]) == 64
    assert next(again.parameters()).dtype == torch.float32
    assert not again.training
    data = torch.rand(shape)
    torch.testing.assert_close(again(data), network.eval()(data), atol=5e-3, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize("content", ["nothing", "no card", "unknown network", "other shapes"])
def test_files_that_are_not_ours_are_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    card = {"network": "DeepGRU", "config": {"hidden": 32}}
    if content == "nothing":
        path.write_bytes(b"not weights")
    elif content == "no card":
        save_file({"a": torch.zeros(1)}, path)
    else:
        if content == "unknown network":
            card["network"] = "Oracle"
        save_file({"a": torch.zeros(1)}, path, metadata={"card": json.dumps(card)})
    with pytest.raises(ValueError, match="does not hold weights of this package"):
        load(path)


def test_missing_weights_name_the_shipped_ones():
    with pytest.raises(ValueError, match="blobs_finder, deep_gru"):
        load("grus_deep")


@pytest.mark.parametrize(("name", "kind"), [("blobs_finder", BlobsFinder), ("deep_gru", DeepGRU)])
def test_shipped_weights_have_a_card_that_says_how_they_were_made(name, kind):
    network, card = load(name)
    assert isinstance(network, kind)
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert int(card["recipe"]["fields"]) >= 3000
    assert {"data", "recipe", "commit", "version", "minutes", "scores"} <= set(card)


def test_shipped_weights_are_small():
    assert sum(p.stat().st_size for p in SHIPPED.iterdir() if p.name.endswith(".safetensors")) < 30e6


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="choose auto, cpu, cuda or mps"):
        pick_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="not available"):
            pick_device("cuda")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = DeepGRU()
    with torch.no_grad():
        next(network.parameters()).view(-1)[3] = float("nan")
    save(network, tmp_path / "nan.safetensors", {})
    with pytest.raises(ValueError, match="not finite"):
        load(tmp_path / "nan.safetensors")


def test_weights_of_another_network_are_refused(tmp_path):
    save(DeepGRU(), tmp_path / "gru.safetensors", {})
    with pytest.raises(ValueError, match="holds weights of DeepGRU, not of Judge"):
        load_all([tmp_path / "gru.safetensors"], "cpu", ["Judge"])


@pytest.mark.parametrize(
    "card",
    [[], {}, {"network": []}, {"network": "DeepGRU"}, {"network": "DeepGRU", "config": {"hidden": 10**9}}, 3, None],
)
def test_odd_cards_are_refused(tmp_path, card):
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"card": json.dumps(card)})
    with pytest.raises(ValueError, match="does not hold weights of this package"):
        load(tmp_path / "odd.safetensors")


def test_networks_of_a_run_are_loaded_once_and_again_when_their_file_has_changed(tmp_path):
    path = tmp_path / "mine.safetensors"
    save(DeepGRU(), path, {"seed": 1})
    (first,), _, (card,) = load_all([path], "cpu")
    card["mine"] = True  # a caller's own
    (again,), _, (its_card,) = load_all([path], "cpu")
    assert again is first
    assert "mine" not in its_card
    os.utime(path, ns=(1, 1))
    (changed,), _, _ = load_all([path], "cpu")
    assert changed is not first
