"""What the tests of the pipeline share: synthetic cubes, and stand-ins for the networks."""

import numpy as np
import pytest

from napari_almadet.cube import Cube


class ArrayCube(Cube):
    @property
    def shape(self):
        return self.data.shape

    def read(self, channel=slice(None), y=slice(None), x=slice(None)):
        return np.array(self.data[channel, y, x], dtype=np.float32)


@pytest.fixture
def cube_of():
    """Make a cube of a bare (channel, y, x) array."""
    return ArrayCube
