"""Faults that are put into cubes are found, each as what it is; no channel of a good cube is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from napari_almadet import Settings, read_cube
from napari_almadet.cube.bad_channels import (
    BRIGHTER,
    bad_channels,
    correlation,
    medians,
    percentiles_of,
    ranges,
    stripes,
    strongest_wave,
    summary,
    taper_of,
    unit_vector,
)
from napari_almadet.cube.cube import Cube
from napari_almadet.cube.prepare import prepared
from napari_almadet.progress import finish
from napari_almadet.simulation.dataset import simulate_cube
from napari_almadet.simulation.observe import Observation

N = 48


@cache
def simulated(scenario: str, seed: int = 0) -> np.ndarray:
    return simulate_cube(seed, scenario, Observation(size=144, n_channels=N)).dirty


@pytest.fixture
def faulty():
    """A cube of bright lines with all kinds of faults, and which they are."""
    planes = simulated("bright").copy()
    rng = np.random.default_rng(1)
    sigma = 1.48 * np.median(np.abs(planes[-1]))
    y, x = np.indices(planes.shape[1:])
    planes[[0, 1]] = np.nan
    planes[N - 1] = 0
    planes[9] = 3e-5 * sigma * rng.normal(size=planes[9].shape)
    planes[14] -= 8 * sigma
    planes[[21, 22, 23]] *= 6
    planes[30] += 2.5 * sigma * np.sin(0.9 * y - 0.47 * x)
    return planes, {"blank": [0, 1, N - 1], "constant": [9], "shifted": [14], "noisy": [21, 22, 23], "striped": [30]}


def test_every_fault_is_found_and_named(faulty, cube_of):
    planes, faults = faulty
    quiet = simulated("empty").copy()  # where channels are noisier, no source may be what makes them so
    planes[[21, 22, 23]] = 6 * quiet[[21, 22, 23]]
    assert bad_channels(cube_of(planes)) == faults


@pytest.mark.parametrize(
    "scenario", ["paper", "line-only", "bright", "arrays", "rising", "discs", "phase-errors", "continuum-only", "empty"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_good_channel_is_lost(scenario, seed, cube_of):
    planes = simulated(scenario, seed)
    assert bad_channels(cube_of(planes)) == {}


@pytest.mark.parametrize("width", [1.0, 3.0, 12.0])
def test_not_even_those_of_a_line_whose_sidelobes_fill_the_field(width, cube_of):
    observation = Observation(size=144, n_channels=N)
    psf = observation.psf(size=288)
    planes = simulated("empty").copy()
    sigma = 1.48 * np.median(np.abs(planes[-1]))
    line = 1000 * sigma * np.exp(-4 * np.log(2) * ((np.arange(N) - 20) / width) ** 2)
    for y0, x0 in ((72, 72), (10, 130)):  # in the middle, and in a corner, where its sidelobes are all that is seen
        dirty = planes + line[:, None, None] * psf[144 - y0 : 288 - y0, 144 - x0 : 288 - x0]
        assert bad_channels(cube_of(dirty.astype(np.float32))) == {}


def test_nor_those_of_emission_that_fills_the_field(planes_of, cube_of):
    planes = planes_of(shape=(40, 96, 96))
    line = 40 * np.exp(-4 * np.log(2) * ((np.arange(40) - 17) / 5.0) ** 2)
    velocity = np.indices((96, 96))[1] / 12
    planes += line[:, None, None]
    assert bad_channels(cube_of(planes)) == {}
    turning = 40 * np.exp(-4 * np.log(2) * ((np.arange(40)[:, None, None] - 15 - velocity) / 3.0) ** 2)
    assert bad_channels(cube_of((planes_of(shape=(40, 96, 96), seed=4) + turning).astype(np.float32))) == {}


@pytest.mark.parametrize("side", [20, 64])
@pytest.mark.parametrize("gradient", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("lines", [((50, 12),), ((20, 6), (50, 12), (78, 8)), ((45.3, 2),)])
def test_a_bright_cloud_larger_than_the_field_keeps_every_channel(planes_of, cube_of, side, gradient, lines):
    planes = planes_of(shape=(100, side, side), seed=2)
    y, x = np.indices((side, side)) / side
    sky = 40 * (1 + gradient * (y - 0.5 + 0.3 * (x - 0.5)))
    for channel, width in lines:
        profile = np.exp(-4 * np.log(2) * ((np.arange(100) - channel) / width) ** 2)
        planes = planes + sky * profile[:, None, None]
    assert bad_channels(cube_of(planes.astype(np.float32))) == {}


def test_a_line_over_the_whole_field_in_a_single_channel_is_searched_and_named(planes_of, cube_of):
    planes = planes_of(shape=(N, 64, 64))
    planes[20] += 40
    y, x = np.indices(planes.shape[1:])
    planes[30] += 5 + (y + x) / 64
    assert bad_channels(cube_of(planes)) == {BRIGHTER: [20, 30]}
    cube, bad, notes = finish(prepared.steps(cube_of(planes), Settings()))
    assert (cube.flagged, bad) == (None, {})
    assert notes == [
        "Channels 20, 30 are brighter over the whole field than the channels beside: a narrow line that fills the "
        "field, or an offset (not flagged)."
    ]


@pytest.mark.parametrize("n", [1, 3])
def test_noisy_channels_of_a_smoothed_spectrum_are_still_noisy(planes_of, cube_of, n):
    planes = planes_of(shape=(60, 64, 64), seed=3)
    planes[30 : 30 + n] *= 30
    smooth = planes[1:-1] / 2 + (planes[:-2] + planes[2:]) / 4  # Hanning
    assert bad_channels(cube_of(smooth.astype(np.float32)))["noisy"] == list(range(28, 30 + n))


def test_noise_that_changes_along_the_band_is_not_a_fault(planes_of, cube_of):
    planes = planes_of(shape=(60, 64, 64)) * np.linspace(1, 5, 60, dtype=np.float32)[:, None, None]
    assert bad_channels(cube_of(planes)) == {}


def test_a_hole_in_the_middle_a_short_cube_and_one_that_is_all_bad(planes_of, cube_of):
    planes = planes_of(shape=(24, 400, 400))
    planes[:, 60:340, 60:340] = np.nan
    planes[5] *= 10
    assert bad_channels(cube_of(planes)) == {"noisy": [5]}
    assert bad_channels(cube_of(planes[:6])) == {}  # too few to say what is usual
    planes[::2] *= 30
    assert bad_channels(cube_of(planes)) == {}
    masked = np.where(planes > 25, planes, 0)  # a published cube without its noise
    assert set(bad_channels(cube_of(masked.astype(np.float32)))) <= {"blank"}


def test_a_cube_without_them_gives_no_data_there(faulty, cube_of):
    from napari_almadet.cube.prepare import without

    planes, _ = faulty
    cube = without(cube_of(planes), {"noisy": [3, 5], "blank": [0]})
    assert np.isnan(cube.read(3)).all()
    assert np.isnan(cube.read(5, 2, 3))
    assert cube.read(4, 2, 3) == planes[4, 2, 3]
    part = cube.read(slice(2, 7), slice(0, 4), [1, 2])
    assert np.isnan(part).all(axis=(1, 2)).tolist() == [False, True, False, True, False]
    assert np.isnan(cube.read([3, 4, 5], [0, 1, 2], [0, 0, 0])).tolist() == [True, False, True]
    np.testing.assert_array_equal(cube.data[3], planes[3])


@pytest.mark.parametrize(("numbers", "text"), [([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2, 5, 7-8"), ([2, 1], "1-2")])
def test_ranges(numbers, text):
    assert ranges(numbers) == text


def test_told():
    assert summary({"blank": [0, 1], "noisy": [9]}) == "3 bad channels (flagged): 0-1 blank; 9 noisy."
    assert summary({"striped": [4]}) == "1 bad channel (flagged): 4 striped."


def test_real_cubes_lose_no_channel_with_data(shared_data):
    for path in sorted((shared_data / "real").glob("*.fits*")):
        assert set(bad_channels(read_cube(path))) <= {"blank"}, path.name
    assert isinstance(read_cube(path), Cube)


def test_quick_statistics_are_those_of_numpy():
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(7, 20, 30)).astype(np.float32)
    planes[rng.random(planes.shape) < 0.3] = np.nan
    planes[:, 3, 4] = np.nan
    expected = np.nan_to_num(np.nanmedian(np.where(np.isnan(planes).all(axis=0), 0, planes), axis=0))
    np.testing.assert_allclose(medians(planes), expected, rtol=1e-6)
    for n in (1, 2, 500):
        values = rng.normal(size=n).astype(np.float32)
        np.testing.assert_allclose(
            percentiles_of(values, (15.87, 50, 84.13)), np.percentile(values, (15.87, 50, 84.13)), rtol=1e-5
        )


def test_planes_alike_are_alike_as_unit_vectors():
    rng = np.random.default_rng(1)
    one = rng.normal(5, 1, size=(40, 50)).astype(np.float32)
    other = (one + rng.normal(size=one.shape)).astype(np.float32)
    assert np.dot(unit_vector(one), unit_vector(other)) == pytest.approx(correlation(one, other), abs=1e-5)
    assert unit_vector(np.full((40, 50), 3, np.float32)) is None
    one[2, 3] = np.nan
    assert unit_vector(one) is None


@pytest.mark.parametrize("amplitude", [0.2, 1.0, 5.0])
def test_no_wave_is_stronger_than_the_strongest_is_said_to_be(amplitude):
    """Only where it is stronger than the noise are stripes looked for."""
    y, x = np.indices((96, 128))
    plane = np.random.default_rng(2).normal(size=y.shape) + amplitude * np.sin(0.9 * y - 0.47 * x)
    assert strongest_wave(plane.astype(np.float32), taper_of(plane.shape)) > 0.999 * stripes(plane)[1]


def test_stripes_are_looked_for_in_fields_of_32_pixels_and_more():
    def contrast(n):
        y, x = np.indices((n, n))
        wave = np.sin(2 * np.pi * (0.3 * x + 0.2 * y))
        return stripes(wave + 0.1 * np.random.default_rng(0).normal(size=(n, n)))[0]

    assert contrast(31) == 0
    assert contrast(33) > 100
    assert contrast(60) > 100


def test_two_values_have_no_correlation_and_three_have():
    assert correlation(np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, 3.0])) == 0
    assert correlation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0])) == pytest.approx(1)
