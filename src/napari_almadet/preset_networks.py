"""The networks of a preset: loaded, and named in the provenance of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_almadet.loading import loading
from napari_almadet.paper.pipeline import Networks
from napari_almadet.search import search_networks

if TYPE_CHECKING:
    from napari_almadet.search.search_networks import SearchNetworks
    from napari_almadet.settings import Settings


WEIGHTS = ("blobs_finder", "deep_gru")  # settings that name the weights of the preset `paper`
KINDS = ("BlobsFinder", "DeepGRU")


def load_networks(settings: Settings) -> Networks | SearchNetworks:
    """Load the networks of a preset, with the weights and on the device given in the settings."""
    if settings.preset == "almadet":
        return search_networks.load(settings)
    with loading():  # torch
        from napari_almadet.networks.weights import load_all

    networks, device, cards = load_all([getattr(settings, name) for name in WEIGHTS], settings.device, KINDS)
    blobs_finder, deep_gru = networks
    return Networks(blobs_finder, deep_gru, device, cards)


def networks_used(settings: Settings, networks: Networks | SearchNetworks) -> dict:
    """The weights of a run by name of the network: the setting and the sha256 of the file."""
    names = search_networks.WEIGHTS if isinstance(networks, search_networks.SearchNetworks) else WEIGHTS
    return {
        name: {"weights": getattr(settings, name), "sha256": card.get("sha256", "")}
        for name, card in zip(names, networks.cards, strict=True)
    }
