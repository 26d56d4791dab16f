"""One choice of axis for all panels, that outlives a change of cube."""

from __future__ import annotations

import pytest
from astropy import units as u

from napari_almadet.plugin.spectral_choice import SpectralChoice

pytestmark = pytest.mark.no_window


@pytest.fixture
def choice(session):
    return SpectralChoice(session)


@pytest.fixture
def told(choice):
    told = []
    choice.changed.connect(lambda: told.append(True))
    return told


def test_best_axis_first_and_velocity_beside_it(choice):
    assert choice.axis.choice == "GHz"
    assert choice.frequency is choice.axis
    assert choice.velocity.choice == "km/s radio"


def test_choosing_tells_once(choice, told):
    choice.choose("km/s optical")
    choice.choose("km/s optical")
    choice.choose("no such axis")
    assert told == [True]
    assert choice.velocity is choice.axis


def test_rest_frequency_moves_velocities_only(choice, told, cube):
    ghz = choice.axis.edges.copy()
    choice.set_rest_frequency(230.538 * u.GHz)
    assert told == [True]
    assert (choice.frequency.edges == ghz).all()
    expected = cube.frequency(20).to(u.km / u.s, u.doppler_radio(230.538 * u.GHz))
    assert choice.velocity.world(20) == pytest.approx(expected.value)
    choice.set_rest_frequency(None)
    assert choice.rest_frequency == cube.rest_frequency


def test_another_cube_keeps_the_axis(choice, session, viewer, data):
    choice.choose("channel")
    session.inspect(viewer.add_image(data, name="bare"))
    assert choice.cube.wcs is None and [axis.choice for axis in choice.axes] == ["channel"]
    session.inspect(viewer.layers[0])
    assert choice.axis.choice == "channel"
