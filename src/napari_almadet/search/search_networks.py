"""The four networks of the preset ``almadet``, loaded by the weights the settings name."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from napari_almadet.loading import loading
from napari_almadet.progress import Progress, in_steps
from napari_almadet.search.line_maps import network_input

if TYPE_CHECKING:
    import torch

    from napari_almadet.settings import Settings


@dataclass(frozen=True)
class SearchNetworks:
    """The networks of this preset, see :func:`napari_almadet.preset_networks.load_networks`.

    ``source_finder`` takes (batch, 8, y, x) maps, ``line_finder`` (batch, channels) spectra in noise units,
    ``judge`` (batch, 22) measures of a source, ``extent_classifier`` those of a patch of extended emission
    (:data:`~napari_almadet.search.features.N_EXTENT_FEATURES`); without it Judge is asked about those too.
    """

    source_finder: Any
    line_finder: Any
    judge: Any
    extent_classifier: Any = None
    device: Any = "cpu"
    cards: tuple[dict, ...] = ({}, {}, {}, {})

    def find_sources(self, images: torch.Tensor, n_channels: int) -> torch.Tensor:
        """Source Finder's maps (5, ny, nx) of a window with ``n_channels``, from its images (8, ny, nx)."""
        import torch

        from napari_almadet.networks.source_finder import from_all_sides

        with torch.inference_mode():
            return from_all_sides(self.source_finder, network_input(images, n_channels)[None])[0]


WEIGHTS = ("source_finder", "line_finder", "judge", "extent_classifier")
KINDS = ("SourceFinder", "LineFinder", "Judge", "ExtentClassifier")


def load(settings: Settings) -> SearchNetworks:
    """Load the networks of this preset, by the weights the settings name, onto the device they name."""
    with loading():  # torch
        from napari_almadet.networks.weights import load_all

    networks, device, cards = load_all([getattr(settings, name) for name in WEIGHTS], settings.device, KINDS)
    source_finder, line_finder, judge, extent_classifier = networks
    return SearchNetworks(source_finder, line_finder, judge, extent_classifier, device, cards)


load_once = lru_cache(maxsize=1)(load)  # in each process of a cluster


@in_steps
def described(settings: Settings) -> Generator[Progress, None, SearchNetworks]:
    """The networks as a worker of a cluster has them, device and cards, without themselves."""
    yield Progress("Loading the networks", 0, 1)
    networks = load_once(settings)
    return SearchNetworks(None, None, None, None, str(networks.device), networks.cards)
