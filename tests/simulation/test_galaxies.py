"""Galaxies against what their parameters say of rotation, extent and flux."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_almadet.simulation.emission import line_widths
from napari_almadet.simulation.galaxies import (
    REACH,
    Galaxy,
    draw_galaxy,
    galaxy_emission,
    rotation_velocity,
    surface_density,
)

# edge-on enough to show its rotation, thin, smooth and cold
PLAIN = Galaxy(50.0, 60.0, 40.0, radius=30.0, inclination=60.0, angle=0.0, velocity=20.0, turnover=1.0, dispersion=0.8)


def moments(emission):
    """Total, and mean channel, y and x in the field."""
    total = emission.cube.sum()
    grids = np.indices(emission.cube.shape)
    return total, [(g * emission.cube).sum() / total + o for g, o in zip(grids, emission.origin, strict=True)]


def test_the_whole_is_one_and_lies_where_the_galaxy_does():
    total, centre = moments(galaxy_emission(PLAIN))
    assert total == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(centre, (40, 60, 50), atol=0.3)


def test_the_receding_side_lies_towards_the_position_angle():
    """North is up and East is left."""
    for angle, direction in ((0, (1, 0)), (90, (0, -1)), (180, (-1, 0)), (225, (-np.sqrt(0.5), np.sqrt(0.5)))):
        emission = galaxy_emission(replace(PLAIN, angle=float(angle)))
        channel = np.arange(len(emission.cube)) + emission.origin[0]
        receding = replace(emission, cube=emission.cube * (channel > 45)[:, None, None])
        _, (_, y, x) = moments(receding)
        offset = np.array([y - 60, x - 50])
        np.testing.assert_allclose(offset / np.linalg.norm(offset), direction, atol=0.12)


def test_the_line_is_as_wide_as_the_projected_rotation_and_has_two_horns():
    emission = galaxy_emission(replace(PLAIN, hole=0.3))
    spectrum = emission.cube.sum(axis=(1, 2))
    # the arctan curve reaches 0.94 of its asymptote at a third of the radius, a scale length
    projected = 2 * rotation_velocity(PLAIN, 20.0) * np.sin(np.radians(60))
    assert line_widths(spectrum)[1] == pytest.approx(projected, rel=0.08)
    middle = 40 - emission.origin[0]
    assert spectrum[middle - 4 : middle + 5].mean() < 0.6 * spectrum.max()


def test_warm_and_face_on_discs_have_one_peak():
    emission = galaxy_emission(replace(PLAIN, inclination=5.0, dispersion=4.0))
    spectrum = emission.cube.sum(axis=(1, 2))
    peak = spectrum.argmax()
    assert (np.diff(spectrum[: peak + 1]) > -1e-6).all()
    assert (np.diff(spectrum[peak:]) < 1e-6).all()


def test_axis_ratio_is_the_inclinations_cosine_and_thickness_fills_it():
    def ratio(galaxy):
        image = galaxy_emission(galaxy).cube.sum(axis=0)
        y, x = np.indices(image.shape)
        my, mx = (image * y).sum(), (image * x).sum()
        return np.sqrt((image * (x - mx) ** 2).sum() / (image * (y - my) ** 2).sum())

    assert ratio(PLAIN) == pytest.approx(np.cos(np.radians(60)), rel=0.03)
    edge_on = replace(PLAIN, inclination=88.0)
    assert ratio(replace(edge_on, thickness=4.0)) > 2 * ratio(edge_on)


def test_rotation_curves_rise_and_are_flat():
    radius = np.array([0.01, 1.0, 10.0, 1e4])
    arctan = rotation_velocity(PLAIN, radius)
    np.testing.assert_allclose(arctan[[1, 3]], [10, 20], rtol=1e-3)  # half of the asymptote at the turnover
    multi = rotation_velocity(replace(PLAIN, curve=(0.0, 2.0)), radius)
    np.testing.assert_allclose(multi, 20 / np.sqrt(1 + 1 / radius**2), rtol=1e-3, atol=1e-4)
    assert rotation_velocity(replace(PLAIN, curve=(-0.1, 2.0)), 3.0) < rotation_velocity(
        replace(PLAIN, curve=(0.1, 2.0)), 3.0
    )


def test_density_falls_by_scale_lengths_and_has_a_hole_and_arms():
    rng = np.random.default_rng(0)
    zero = np.zeros(2)
    plain = surface_density(PLAIN, np.array([0.0, 1 / REACH]), zero, rng)
    assert plain[1] / plain[0] == pytest.approx(np.exp(-1))
    assert surface_density(replace(PLAIN, hole=0.5), np.array([0.0]), np.zeros(1), rng)[0] == 0
    turn = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    ring = 0.6 * np.cos(turn), 0.6 * np.sin(turn)
    armed = surface_density(replace(PLAIN, arms=3, contrast=1.0), *ring, rng)
    assert armed.mean() == pytest.approx(surface_density(PLAIN, *ring, rng).mean(), rel=0.01)
    assert np.abs(np.fft.rfft(armed))[1:].argmax() + 1 == 3


def test_a_warp_turns_the_outer_rings():
    straight, warped = (galaxy_emission(replace(PLAIN, warp=warp)) for warp in ((0, 0), (0, 60)))
    far = []
    for emission in (straight, warped):
        y, x = np.nonzero(emission.cube.sum(axis=0) > 0)
        y, x = y + emission.origin[1] - 60, x + emission.origin[2] - 50
        outermost = np.argsort(np.hypot(y, x))[-40:]
        far.append(np.degrees(np.arctan(np.abs(x[outermost] / y[outermost]))).mean())
    assert far[0] < 10
    assert far[1] > 40


def test_drawn_galaxies_are_of_the_size_and_width_that_was_asked_for():
    rng = np.random.default_rng(3)
    for _ in range(10):
        galaxy = draw_galaxy(rng, (100.0, 100.0, 64.0), 60.0, 30.0)
        emission = galaxy_emission(galaxy)
        assert np.isfinite(emission.cube).all()
        assert emission.cube.min() >= 0
        assert max(emission.cube.shape[1:]) < 60 * 1.8
        assert emission.cube.sum() == pytest.approx(1, abs=1e-4)


def test_the_same_seed_makes_the_same_galaxy():
    one, other = (galaxy_emission(replace(PLAIN, clumps=0.5, seed=4)).cube for _ in range(2))
    np.testing.assert_array_equal(one, other)
