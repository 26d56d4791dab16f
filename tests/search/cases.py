"""Small inputs that tests of several steps of the search share."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch

from napari_almadet.search.line_maps import MAPS
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.raw_detection import Extent
from napari_almadet.search.windows import Window


def whole_window(side: int) -> Window:
    """A window that is the whole of a square field, whose pixels are not averaged."""
    return Window(0, 0, (side, side), (slice(0, side), slice(0, side)), 1)


def units_of(cube: np.ndarray | torch.Tensor, valid: np.ndarray | None = None) -> NoiseUnits:
    """A cube (channel, y, x) as it is, as one in units of a noise of 1."""
    cube = torch.as_tensor(cube, dtype=torch.float32)
    n, *field = cube.shape
    valid = torch.ones(*field, dtype=torch.bool) if valid is None else torch.as_tensor(valid)
    return NoiseUnits(cube, valid, torch.ones(n), torch.ones(*field), torch.arange(n))


def searched_window(
    cube: np.ndarray | torch.Tensor,
    beam: float,
    stack: np.ndarray | float = 0.0,
    line: np.ndarray | float = 0.0,
    channel: np.ndarray | float = 0.0,
    width: np.ndarray | float = 1.0,
    correlation: float = 1.0,
) -> SearchedWindow:
    """A window of a cube in noise units, with such S/N in its images and such lines.  Source Finder sees nothing."""
    n, *field = cube.shape
    images = np.zeros((len(MAPS), *field), np.float32)
    for name, value in (("stack", stack), ("line", line), ("line's channel", channel), ("line's width", width)):
        images[MAPS.index(name)] = value
    quiet = torch.from_numpy(np.random.default_rng(1).normal(size=(64, n)).astype(np.float32))
    return SearchedWindow(units_of(cube), images, np.full((5, *field), -3.0), beam, correlation, False, quiet)


def extent_of(**values: float) -> Extent:
    """The properties of a patch of extended emission, 1 where no other value is given."""
    return Extent(**({field.name: 1.0 for field in fields(Extent)} | values))
