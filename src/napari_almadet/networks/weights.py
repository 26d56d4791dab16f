"""Weights as safetensors files, each with a card that describes how it was trained and how well it performs."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from napari_almadet.networks.blobs_finder import BlobsFinder
from napari_almadet.networks.deep_gru import DeepGRU
from napari_almadet.networks.extent_classifier import ExtentClassifier
from napari_almadet.networks.judge import Judge
from napari_almadet.networks.line_finder import LineFinder
from napari_almadet.networks.source_finder import SourceFinder

NETWORKS = {
    network.__name__: network for network in (BlobsFinder, DeepGRU, SourceFinder, LineFinder, Judge, ExtentClassifier)
}
KEPT = 7  # networks held in memory: those of both presets, and one more; the largest takes 20 MB
_loading = threading.Lock()
SHIPPED = files(__package__) / "weights"


def pick_device(name: str = "auto") -> torch.device:
    """The device a run uses: ``"auto"`` takes CUDA, else Apple's MPS, else the CPU.

    Raises
    ------
    ValueError
        If the device does not exist on this machine.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, available in present.items() if available)
    kind = name.split(":")[0]
    if kind not in present:
        raise ValueError(f"no device {name!r}: choose auto, cpu, cuda or mps")
    if not present[kind]:
        raise ValueError(f"device {name!r} is not available on this machine: choose auto or cpu")
    return torch.device(name)


def save(network: nn.Module, path: Path, card: dict) -> None:
    """Write a network's weights, floats in half precision, with its card in the metadata; replaces the file whole."""
    tensors = {
        key: value.detach().cpu().to(torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    card = {"network": type(network).__name__, "config": network.config, **card}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"card": json.dumps(card)})
    os.replace(partial, path)


def load(
    name_or_path: str | Path, device: torch.device | str = "cpu", kinds: tuple[str, ...] = ()
) -> tuple[nn.Module, dict]:
    """Load shipped weights by name (``"blobs_finder"``, ``"deep_gru"``) or any ``.safetensors`` file by path.

    Returns
    -------
    (torch.nn.Module, dict)
        The network on ``device``, in single precision and evaluation mode, and its card,
        to which the file's ``"sha256"`` is added.

    Raises
    ------
    ValueError
        If there is no such file, it was not written by :func:`save`, holds another network than one of ``kinds``
        (default: any), or numbers that are not finite.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = Path(str(SHIPPED / f"{name_or_path}.safetensors"))
    if not path.is_file():
        known = ", ".join(sorted(Path(str(p)).stem for p in SHIPPED.iterdir() if str(p).endswith(".safetensors")))
        raise ValueError(
            f"there are no weights {str(name_or_path)!r}: give an existing .safetensors file, or the name of shipped "
            f"weights ({known})"
        )
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["card"])
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        kind, config = NETWORKS[card["network"]], dict(card["config"])
        with torch.device("meta"):  # of no size, whatever the card says
            shapes = {key: value.shape for key, value in kind(**config).state_dict().items()}
        if shapes != {key: value.shape for key, value in state.items()}:
            raise ValueError(f"its numbers are not those of a {card['network']}")
        network = kind(**config)
        network.load_state_dict(state)
    except Exception as error:  # a card can hold anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path} does not hold weights of this package: {reason}") from error
    if kinds and card["network"] not in kinds:
        raise ValueError(f"{path} holds weights of {card['network']}, not of {' or '.join(kinds)}")
    if not all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point()):
        raise ValueError(f"{path} holds weights that are not finite: its training failed")
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return network.float().to(device).eval(), card


def load_all(
    names_or_paths: Iterable[str | Path], device: str = "auto", kinds: Iterable[str] | None = None
) -> tuple[list, torch.device, tuple[dict, ...]]:
    """Load several networks, see :func:`load`, onto the device that :func:`pick_device` picks.

    ``kinds`` are the names of their classes, for each the one that it must be; default: any.

    Returns
    -------
    networks, device, cards
    """
    picked = pick_device(device)
    names = list(names_or_paths)
    wanted: list[tuple[str, ...]] = [()] * len(names) if kinds is None else [(kind,) for kind in kinds]
    loaded = [_kept(name, picked, kinds) for name, kinds in zip(names, wanted, strict=True)]
    networks, cards = zip(*loaded, strict=True)
    return list(networks), picked, cards


def _kept(name_or_path: str | Path, device: torch.device, kinds: tuple[str, ...]) -> tuple[nn.Module, dict]:
    """A network ready to be asked, loaded once in a process, and again if its file has changed."""
    path = Path(name_or_path)
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    with _loading:  # lru_cache may call a function twice for two threads at once
        network, card = _ready(str(name_or_path), changed, str(device), kinds)
    return network, dict(card)


@lru_cache(maxsize=KEPT)
def _ready(name_or_path: str, changed: int, device: str, kinds: tuple[str, ...]) -> tuple[nn.Module, dict]:
    network, card = load(name_or_path, device, kinds)
    network.requires_grad_(False)
    return network.for_inference() if isinstance(network, SourceFinder) else network, card
