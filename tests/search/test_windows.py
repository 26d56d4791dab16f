"""Windows of a field: that they cover it, fit into the memory, and show what the cube shows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet import Cube, Settings, read_cube
from napari_almadet.measure.stacking import stack
from napari_almadet.progress import finish
from napari_almadet.search import windows as field
from napari_almadet.search.noise_units import average
from napari_almadet.search.windows import (
    PER_FIELD_PIXEL,
    PER_PAIR,
    PER_PIXEL,
    PER_VOXEL,
    PROGRAM,
    Window,
    between,
    bytes_needed,
    cut_axis,
    held_beside,
    held_for_candidates,
    read_averaged,
    windows,
)


def memory_for(shape: tuple[int, int, int], side: int, k: float = 2) -> float:
    """Settings' memory, in GB, that lets windows have so many pixels of their own on a side."""
    return np.polyval(bytes_needed(shape, k)[::-1], (side + 0.5) ** 2) / 1e9


@pytest.mark.parametrize(
    ("shape", "k"), [((64, 240, 190), 2), ((64, 650, 31), 2), ((4000, 300, 300), 1), ((10, 90, 70), 0.5)]
)
def test_every_pixel_is_one_windows_own(shape, k):
    count = np.zeros([int(np.ceil(n / k)) for n in shape[1:]], int)
    pixels = np.zeros(shape[1:], int)
    made = windows(shape, k, 2.0, memory_for(shape, 60, k))
    assert len(made) > 1
    for window in made:
        inside = count[window.y : window.y + window.shape[0], window.x : window.x + window.shape[1]]
        assert inside.shape == window.shape
        inside[window.owned] += 1
        pixels[window.owned_pixels(shape[1:])] += 1
    assert (count == 1).all()
    assert (pixels == 1).all()


@pytest.mark.parametrize("length", [100, 250, 1001])
@pytest.mark.parametrize(("size", "overlap"), [(64, 32), (90, 17)])
def test_neighbours_overlap_and_start_on_one_grid(length, size, overlap):
    cuts = cut_axis(length, size, overlap)
    assert all(start % field.GRID == 0 and n <= size for start, n, _ in cuts)
    for (first, n, own), (second, _, _) in pairwise(cuts):
        assert first + n - second == overlap
        assert first + own.stop - second >= overlap // 2
    assert cuts[-1][0] + cuts[-1][1] == length


def test_windows_are_as_large_as_the_memory_allows():
    shape = (128, 4000, 4000)
    for memory in (1.5, 4, 16):
        largest = max(np.prod(window.shape) for window in windows(shape, 2, 4.1, memory))
        needed = np.polyval(bytes_needed(shape, 2)[::-1], largest)
        assert 0.5 * memory * 1e9 < needed <= memory * 1e9


def test_a_field_that_fits_is_one_window_whatever_its_shape():
    assert len(windows((128, 360, 360), 1, 4.0, 4.0)) == 1
    assert len(windows((128, 60, 6000), 1, 4.0, 4.0)) == 1


def test_too_little_memory_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match=r"8000 channels: allow [\d.]+ GB") as error:
        windows((8000, 2000, 2000), 1, 6.0, 1.0)
    needed = float(str(error.value).split("allow ")[1].split(" GB")[0])
    assert windows((8000, 2000, 2000), 1, 6.0, needed)


def test_a_window_shows_its_part_of_the_cube_and_of_the_stack(planes_of):
    planes = planes_of(shape=(12, 200, 170))
    planes[3, 20:40, 20:40] = np.nan
    cube = Cube.from_array(planes)
    whole, stacked = average(planes, 2), stack(cube)
    made = windows(cube.shape, 2, 2.0, memory_for(cube.shape, 50))
    assert len(made) > 2
    for window in made:
        part, image = finish(read_averaged(cube, window))
        (y, x), (ny, nx) = (window.y, window.x), window.shape
        np.testing.assert_array_equal(part, whole[:, y : y + ny, x : x + nx])
        np.testing.assert_allclose(image, stacked[window.pixels(stacked.shape)], rtol=0, atol=1e-5)  # sums of 12 floats


def test_sidelobes_about_a_place_are_interpolated_in_the_window():
    rng = np.random.default_rng(0)
    images, rms_map = rng.normal(size=(3, 20, 25)).astype(np.float32), rng.uniform(1, 2, (20, 25)).astype(np.float32)
    spectra = rng.normal(size=(3, 7)).astype(np.float32)
    window = Window(8, 16, (20, 25), (slice(None), slice(None)), 2, images, spectra, rms_map)
    for origin in ((20, 40), (10, 30), (48, 70), (-9, 100)):  # inside, and beyond both ends
        at = [((origin[i] + np.arange(12) + 0.5) / 2 - 0.5 - (8, 16)[i]) for i in (0, 1)]
        grid = np.meshgrid(*at, indexing="ij")
        expected = sum(
            spectrum[:, None, None] * ndimage.map_coordinates(image * rms_map, grid, order=1, mode="nearest")
            for spectrum, image in zip(spectra, images, strict=True)
        )
        np.testing.assert_allclose(window.sidelobes_in(origin, (12, 12)), expected, rtol=1e-4, atol=1e-4)


def test_an_axis_of_one_pixel_is_the_same_everywhere():
    pixels, weights = between(np.array([-1.0, 0.0, 0.4, 3.0]), 1)
    assert pixels == slice(0, 1)
    np.testing.assert_array_equal(weights, np.ones((4, 1)))


def test_a_cube_is_held_only_where_that_leaves_room_for_its_one_window():
    cube = Cube.from_array(np.zeros((32, 64, 64), np.float32))
    fixed, each, pair = bytes_needed(cube.shape, 0.5)
    needed = (np.polyval((pair, each, fixed), 128 * 128) + cube.data.nbytes) / 1e9
    assert held_beside(cube, Settings(memory=1.001 * needed))
    assert not held_beside(cube, Settings(memory=0.999 * needed))
    assert len(windows(cube.shape, 0.5, 4.0, needed)) == 1


def test_a_window_with_many_candidates_is_held_for_their_cutouts_where_there_is_room(cube):
    whole = read_cube(cube())
    whole = replace(whole, flagged=np.arange(64) == 5)
    window = Window(2, 4, (16, 18), (slice(None), slice(None)), 2)  # rows 4 to 35, columns 8 to 43
    needed = np.polyval((PER_PAIR, PER_PIXEL * 4, bytes_needed(whole.shape, 2)[0]), 16 * 18) + 4 * 64 * 32 * 36
    enough = Settings(crop=8, memory=1.001 * needed / field.HELD_SHARE / 1e9)
    steps = held_for_candidates(whole, window, 10, enough)
    assert next(steps).stage == "Reading the cube"
    held = finish(steps)
    assert held.data.array.shape == (64, 32, 36)
    for part in (np.s_[:, 4:36, 8:44], np.s_[3:9, 10:12, 20:30], np.s_[:, 0:40, 10:20]):
        np.testing.assert_array_equal(held.read(*part), whole.read(*part))
    assert finish(held_for_candidates(whole, window, 10, replace(enough, memory=0.998 * enough.memory))) is whole
    assert finish(held_for_candidates(whole, window, 0, enough)) is whole
    in_memory = Cube.from_array(whole.read())
    assert finish(held_for_candidates(in_memory, window, 10, enough)) is in_memory


def test_the_page_on_large_cubes_names_the_memory_that_a_run_counts_with():
    page = (Path(__file__).parents[2] / "docs" / "large-cubes.md").read_text(encoding="utf-8")
    rows = [row.split("|")[2].strip() for row in page.splitlines() if row.startswith("| ") and row.count("|") == 3]
    listed = [float(number) for number in rows[rows.index("bytes") + 1 :]]
    assert listed == [PROGRAM, PER_FIELD_PIXEL, PER_VOXEL, PER_PIXEL, PER_PAIR]


def test_a_place_on_the_border_of_two_cores_belongs_to_one_of_them():
    left = Window(0, 0, (20, 20), (slice(0, 20), slice(0, 12)), 2)
    right = Window(0, 8, (20, 20), (slice(0, 20), slice(4, 20)), 2)
    for x in np.arange(20.0, 27.1, 0.25):  # the cores meet between averaged pixels 11 and 12, at x = 23.5
        assert [left.owns(10, x), right.owns(10, x)] == [x < 23.5, x >= 23.5]
