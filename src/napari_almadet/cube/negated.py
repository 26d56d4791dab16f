"""The inverted cube, read lazily: no detection in it is a source, so it gives the rate of false detections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube


# What a cube finds out by reading planes, and what is the same for its inverse and for a copy in memory.
SAME = ("blank", "_usual_values")


@dataclass(frozen=True)
class _Negative:
    """An array times -1, read lazily."""

    data: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return -np.asarray(self.data[index], dtype=np.float32)


def negative(cube: Cube) -> Cube:
    """The cube times -1, as lazy as the original; what the original knows of its values is not read again."""
    return with_data(cube, _Negative(cube.data))


def with_data(cube: Cube, data: Any) -> Cube:
    """The cube with other data of the same absolute values; what the original knows of them is not read again."""
    other = replace(cube, data=data)
    vars(other).update((name, getattr(cube, name)) for name in SAME)
    return other
