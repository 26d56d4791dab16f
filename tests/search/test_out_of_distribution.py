"""Every warning about cubes unlike the training data, on both sides of its limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.cube.cube import Cube
from napari_almadet.search.merge_windows import NoiseSummary
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.search.out_of_distribution import highest_offset, out_of_distribution, unseen_emission
from napari_almadet.search.raw_detection import Extent, Features, RawDetection
from napari_almadet.search.windows import Window

CUBE = Cube.from_array(np.zeros((64, 8, 8), np.float32))
USUAL = NoiseSummary(correlation=1.0, dips=3e-7, channels=64)


def warnings_of(beam: float = 4.0, k: float = 1, **noise) -> list[str]:
    """Of a cube whose beam is so many pixels wide, ``k`` of which are averaged on a side, with such noise."""
    return out_of_distribution(CUBE, beam, k, [USUAL, NoiseSummary(**(vars(USUAL) | noise))])


def test_an_ordinary_cube_gives_no_warning():
    assert warnings_of() == []


@pytest.mark.parametrize(
    ("beam", "k", "warned"),
    [
        (2.6, 1, False),
        (2.4, 1, True),  # averaged pixels
        (2.4, 0.5, False),  # interpolated to 4.8
        (2.1, 0.5, False),
        (1.9, 0.5, True),  # too few pixels of the cube to interpolate
        (6.4, 1, False),
        (6.6, 1, True),
        (12.8, 2, False),
        (13.2, 2, True),
    ],
)
def test_a_beam_of_too_few_or_too_many_pixels_is_warned_of(beam, k, warned):
    assert [f"{beam:.1f} pixels" in text for text in warnings_of(beam, k)] == [True] * warned


def test_a_beam_just_under_two_pixels_is_not_said_to_have_two():
    assert "1.98 pixels wide, but 2 are needed" in warnings_of(1.98, 1)[0]


@pytest.mark.parametrize(
    ("noise", "word"),
    [
        ({"correlation": 1.75}, None),
        ({"correlation": 1.9}, "1.9"),
        ({"dips": 0.9e-4}, None),
        ({"dips": 1.2e-4}, "0.01%"),
    ],
)
def test_unusual_noise_in_any_window_is_warned_of(noise, word):
    assert [word in text for text in warnings_of(**noise)] == [True] * (word is not None)


@pytest.mark.parametrize(("channels", "warned"), [(24, False), (23, True)])
def test_few_channels_are_warned_of(channels, warned):
    few = out_of_distribution(CUBE, 4.0, 1, [NoiseSummary(1.0, 0.0, channels), NoiseSummary(1.0, 0.0, 5)])
    assert [f"{channels} channels" in text for text in few] == [True] * warned


def test_a_cube_without_noise_is_said_to_have_none():
    (said,) = out_of_distribution(CUBE, 4.0, 1, [])
    assert "channels are identical" in said and "nothing was detected" in said


def test_a_cube_cut_at_the_source_in_each_channel_is_not_said_to_have_identical_channels():
    """A galaxy of which no pixel has data in half of the channels: nothing could be searched, for another reason."""
    planes = np.full((64, 8, 8), np.nan, np.float32)
    for k in range(64):
        planes[k, :, k // 8] = k
    (said,) = out_of_distribution(Cube.from_array(planes), 4.0, 1, [])
    assert "no pixel has data in enough channels" in said


@pytest.mark.parametrize(("good", "words"), [(1, "1 channel has data"), (0, "no channel has data")])
def test_a_cube_with_a_single_channel_of_data_is_said_to_have_one(good, words):
    (said,) = out_of_distribution(replace(CUBE, flagged=np.arange(64) >= good), 4.0, 1, [])
    assert words in said


def test_a_beam_that_is_too_wide_is_not_said_to_have_too_few_pixels():
    (said,) = warnings_of(13.2, 2)
    assert "wider than any in training (up to 13)" in said


def units_of(image: np.ndarray, channels: slice) -> NoiseUnits:
    """Noise of 64 channels, the tenth of which has no data, and an image (24, 24) in some of them."""
    cube = np.random.default_rng(3).normal(size=(63, 24, 24)).astype(np.float32) + 2  # a continuum everywhere
    cube[channels] += image
    kept = np.delete(np.arange(64), 10)
    valid = torch.ones(24, 24, dtype=torch.bool)
    return NoiseUnits(torch.from_numpy(cube), valid, torch.ones(63), torch.ones(24, 24), torch.from_numpy(kept))


def test_a_cloud_larger_than_the_field_offsets_its_channels_and_a_source_does_not():
    source = np.zeros((24, 24))
    source[4:16, 4:16] = 50  # a quarter of the field
    offset, channels = highest_offset(units_of(np.full((24, 24), 5.0), slice(30, 35)), 2.0)
    assert offset == pytest.approx(5, abs=0.3)
    assert channels == (31, 36)  # the cube's own numbers
    assert highest_offset(units_of(source, slice(30, 35)), 2.0)[0] < 0.7


def large(share: float, status: Status, channels: tuple[int, int]) -> RawDetection:
    """A candidate that covers such a share of the field."""
    extent = Extent(**({name: 1.0 for name in Extent.__dataclass_fields__ if name != "place"} | {"field_share": share}))
    candidate = Candidate(1, Box(0, 8, 0, 8), 0.9, status=status, channels=channels)
    window = Window(0, 0, (8, 8), (slice(0, 8), slice(0, 8)), 1)
    return RawDetection(candidate, 4, 4, 2.0, 2.0, np.zeros(64), Features(), window, Box(0, 8, 0, 8), extent)


@pytest.mark.parametrize(
    ("offset", "detections", "warned"),
    [
        (0.9, [], False),
        (1.1, [], True),
        (5.0, [(0.9, Status.KEPT, (28, 36))], False),
        (5.0, [(0.9, Status.DROPPED, (28, 36))], True),
        (5.0, [(0.1, Status.KEPT, (28, 36))], True),
        (5.0, [(0.9, Status.KEPT, (40, 46))], True),
    ],
)
def test_emission_all_over_the_field_that_no_candidate_explains_is_warned_of(offset, detections, warned):
    noise = replace(USUAL, offset=offset, offset_channels=(30, 35))
    said = unseen_emission([USUAL, noise], [large(*values) for values in detections])
    assert ["channels 30 to 34" in text for text in said] == [True] * warned
