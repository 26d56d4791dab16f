"""How often a search of a window waits for its device: each time a number of a tensor is asked for.

On an accelerator all that was asked of it must then have been computed.  Counted on the processor, whose operators are
the same.
"""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_almadet import Settings, detect
from napari_almadet.search import pipeline, sidelobes, windows
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observe import Observation

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal.default", "masked_select")


class Waits(TorchDispatchMode):
    """Counts the operators whose answer, or whose answer's size, is a number on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = "index.Tensor" in str(func) and any(i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or any(name in str(func) for name in WAITING):
            self.count[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def waits():
    """Of a window, its noise units and its maps, in a field with bright sources, whose sidelobes are taken off."""
    counted: dict[str, Waits] = {}
    cube = cube_of(simulate_cube(4, "bright", Observation(size=96, n_channels=32)), "bright")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (pipeline, "search_window"),
            (windows, "in_noise_units"),
            (pipeline, "maps"),
            (sidelobes, "without_sidelobes"),
        ):
            patch.setattr(module, name, counting(getattr(module, name), counted.setdefault(name, Waits())))
        found = detect(cube, Settings(beam="dirty"))
    assert found.candidates
    return {name: one.count.total() for name, one in counted.items()}


def counting(function, mode):
    def counted(*args, **kwargs):
        with mode:
            return function(*args, **kwargs)

    return counted


def test_a_window_waits_no_more_often_than_it_did(waits):
    """A ratchet, not an aim: what is left are decisions on bright sources, which are taken on the host."""
    assert 20 < waits["without_sidelobes"] <= 47
    assert waits["search_window"] <= 77


def test_noise_units_and_maps_hardly_wait(waits):
    assert waits["in_noise_units"] <= 3
    assert waits["maps"] <= 12  # of the window, and of the smoothed one
