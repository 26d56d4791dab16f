"""Contours are at multiples of the noise; the grid's lines have the coordinates that their names say."""

from __future__ import annotations

import numpy as np
from astropy.coordinates import Angle
from scipy.ndimage import map_coordinates

from napari_almadet.cube.cube import Cube
from napari_almadet.inspection.canvas_marks import apart, contours_of, graticule, pixel_edges
from napari_almadet.measure.focus import noise


def test_contours_are_at_their_levels():
    y, x = np.indices((60, 70))
    image = np.random.default_rng(2).normal(0, 1, (60, 70)) + 40 * np.exp(-((x - 30) ** 2 + (y - 20) ** 2) / 50)
    paths, levels = contours_of(image)
    assert {3.0, 6.0, 12.0, 24.0} <= set(levels)
    outermost = paths[0]
    values = map_coordinates(image, outermost.T, order=1)
    np.testing.assert_allclose(values, levels[0] * noise(image), rtol=1e-3)
    assert np.abs(outermost.mean(axis=0) - (20, 30)).max() < 2


def test_nothing_over_the_noise_has_no_contours():
    assert contours_of(np.zeros((20, 20)))[0] == []


def test_lines_of_equal_coordinates(make_cube):
    cube = make_cube(np.zeros((4, 60, 70)))
    grid = graticule(cube)
    assert len(grid.lines) == len(grid.names) == len(grid.places) >= 6
    for line, name in zip(grid.lines, grid.names, strict=True):
        sky = cube.sky(line[:, 1], line[:, 0])
        own = sky.ra if "h" in name else sky.dec
        np.testing.assert_allclose(own.deg, Angle(name).deg, atol=2e-6)
    assert graticule(Cube.from_array(np.zeros((3, 4, 5)))) is None


def test_the_edges_of_a_mask_run_between_its_pixels_and_others():
    plane = np.zeros((4, 5), bool)
    plane[1, 2:4] = True
    edges = pixel_edges(plane)
    sides = {(tuple(start.tolist()), tuple((start + along).tolist())) for start, along in edges}
    across = {((y, x), (y, x + 1)) for y in (0.5, 1.5) for x in (1.5, 2.5)}
    assert sides == across | {((0.5, x), (1.5, x)) for x in (1.5, 3.5)}
    assert pixel_edges(np.zeros((3, 3), bool)).shape == (0, 2, 2)
    assert len(pixel_edges(np.ones((3, 3), bool))) == 12  # at the border too


def test_names_that_would_lie_on_each_other_are_left_out():
    places = np.array([(0.0, 0.0), (0.0, 30.0), (0.0, 45.0), (8.0, 30.0), (11.0, 30.0)])
    assert apart(places, ["12h"] * 5, (10.0, 10.0)).tolist() == [True, True, False, False, True]
