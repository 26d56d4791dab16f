"""Small simulated fields."""

from __future__ import annotations

import pytest

from napari_almadet.simulation.observe import Imager, Observation

SMALL = Observation(size=96, n_channels=32, duration=600, integration=60)


@pytest.fixture(scope="session")
def small():
    """An observation that is made in milliseconds."""
    return SMALL


@pytest.fixture(scope="session")
def imager():
    return Imager(SMALL)
