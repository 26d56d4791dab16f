"""The inverted cube reads nothing that the cube itself has read before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.testing import assert_array_equal

from napari_almadet.cube.cube import Cube
from napari_almadet.cube.negated import negative


class Counting:
    """An array that counts how often it is read."""

    def __init__(self, values):
        self.values, self.reads = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, index):
        self.reads += 1
        return self.values[index]


def test_blank_pixels_and_usual_values_are_not_read_again_for_each_window_of_the_inverted_cube():
    values = np.random.default_rng(1).normal(size=(40, 8, 9)).astype(np.float32)
    values[:, 2, 3] = 0  # no data, in a cube from a file
    data = Counting(values)
    cube = replace(Cube.from_array(data, name="counted"), path=Path("counted.fits"))
    assert np.isnan(cube.read(0)[2, 3])
    assert data.reads > 1
    before = data.reads
    for _ in range(3):
        plane = negative(cube).read(0)
    assert data.reads == before + 3
    assert_array_equal(plane, -cube.read(0))
