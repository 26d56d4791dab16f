"""The second search of each window, smoothed to twice the beam."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.stats import gaussian_fwhm_to_sigma
from cases import extent_of, searched_window, units_of, whole_window
from scipy import ndimage

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.smoothed_search import Smoothed, add_smoothed, in_wider_beams, smoothed
from napari_almadet.search.windows import Window

BEAM = 4.0  # px
SIDE = 96


def noise(seed: int = 3) -> np.ndarray:
    """Noise of 24 channels with the shape of the beam and a standard deviation of 1."""
    planes = np.random.default_rng(seed).normal(size=(24, SIDE, SIDE))
    planes = ndimage.gaussian_filter(planes, (0, *2 * [BEAM * gaussian_fwhm_to_sigma]), mode="wrap")
    return planes / planes.std()


def test_the_smoothed_window_has_noise_of_one_and_half_the_pixels():
    wider, window = smoothed(units_of(noise()), whole_window(SIDE), BEAM)
    assert wider.cube.shape == (24, SIDE // 2, SIDE // 2)
    assert float(wider.cube.std()) == pytest.approx(1, abs=0.05)
    assert (window.shape, window.k, window.owned[0]) == ((SIDE // 2, SIDE // 2), 2, slice(0, SIDE // 2))


def test_a_point_source_becomes_twice_as_wide_and_stays_in_its_place():
    y, x = np.indices((SIDE, SIDE))
    point = np.exp(-0.5 * ((y - 40) ** 2 + (x - 57) ** 2) / (BEAM * gaussian_fwhm_to_sigma) ** 2)
    wider, window = smoothed(units_of(noise() + 1000 * point), whole_window(SIDE), BEAM)
    image = wider.cube.mean(dim=0).numpy().clip(0)
    image[image < image.max() / 50] = 0
    rows, columns = np.indices(image.shape)
    place = [float((image * grid).sum() / image.sum()) for grid in (rows, columns)]
    assert window.inside(40, 57) == pytest.approx(place, abs=0.05)
    width = np.sqrt((image * (rows - place[0]) ** 2).sum() / image.sum())
    assert width == pytest.approx(BEAM * gaussian_fwhm_to_sigma, rel=0.05)  # in pixels twice as wide


def test_smoothing_brings_out_what_is_wider_than_the_beam():
    y, x = np.indices((SIDE, SIDE))
    disc = np.hypot(y - 48, x - 48) < 16
    wider, _ = smoothed(units_of(noise() + disc), whole_window(SIDE), BEAM)
    assert float(wider.cube[:, 20:28, 20:28].mean()) == pytest.approx(2, rel=0.15)


def test_where_there_are_no_data_there_are_none_in_the_smoothed_window():
    valid = np.ones((SIDE, SIDE), bool)
    valid[:, :40] = False
    wider, _ = smoothed(units_of(np.where(valid, noise(), 0), valid), whole_window(SIDE), BEAM)
    assert not wider.valid[:, :19].any()
    assert wider.valid[4:-4, 21:-4].all()  # at the edge of the window, half of what a pixel averages is missing


def test_channels_without_data_keep_their_numbers():
    units = replace(units_of(noise()), channels=torch.arange(4, 28), n_channels=30)
    wider, _ = smoothed(units, whole_window(SIDE), BEAM)
    assert wider.channels.tolist() == list(range(4, 28))
    assert wider.n_channels == 30


@pytest.mark.parametrize(("side", "searched"), [(31, False), (32, True)])
def test_a_window_too_small_for_the_network_is_not_smoothed(side, searched):
    assert (smoothed(units_of(noise()[:, :side, :side]), whole_window(side), BEAM) is not None) == searched


@pytest.mark.parametrize(("side", "wide"), [(96, [2, 4]), (62, [2]), (31, [])])
def test_a_window_is_smoothed_twice_unless_it_is_too_small(side, wide):
    made = list(in_wider_beams(units_of(noise()[:, :side, :side]), whole_window(side), BEAM))
    assert [window.k for _, window in made] == wide
    assert [tuple(units.cube.shape[1:]) for units, _ in made] == [window.shape for _, window in made]


def test_a_point_source_in_the_window_smoothed_twice_is_four_beams_wide():
    y, x = np.indices((SIDE, SIDE))
    point = np.exp(-0.5 * ((y - 40) ** 2 + (x - 57) ** 2) / (BEAM * gaussian_fwhm_to_sigma) ** 2)
    *_, (wider, window) = in_wider_beams(units_of(noise() + 1000 * point), whole_window(SIDE), BEAM)
    image = wider.cube.mean(dim=0).numpy()
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert window.inside(40, 57) == pytest.approx((row, column), abs=0.6)
    assert (image > image.max() / 2).sum() == pytest.approx(np.pi / 4 * BEAM**2, rel=0.25)


def found(y: float, x: float, status: Status = Status.KEPT, number: int = 1, **values) -> RawDetection:
    """A detection of a window, or a patch of 40 pixels a side of the smoothed one if it has an ``extent``."""
    box = Box(int(y) - 20, int(y) + 20, int(x) - 20, int(x) + 20) if "extent" in values else None
    candidate = Candidate(number, Box(0, 1, 0, 1), 0.9, status=status)
    wider = Window(0, 0, (SIDE // 2, SIDE // 2), (slice(0, SIDE // 2), slice(0, SIDE // 2)), 2)
    window = wider if box else whole_window(SIDE)
    features = Features(snr_stacked=values.pop("snr", 8.0), beam=BEAM, smoothed=values.pop("scale", 0))
    size = values.pop("size", 3.0)
    return RawDetection(candidate, y, x, size, size, np.zeros(24, np.float32), features, window, box, **values)


def test_what_is_kept_in_the_smoothed_window_alone_is_added_with_a_number_of_its_own():
    detections, wider = [found(10, 10, number=5)], found(60, 60)
    wider.candidate.decide("joined_with", ids=(3,))  # a number of the smoothed window
    add_smoothed(detections, Smoothed([wider, found(80, 20, Status.DROPPED)]), whole_window(SIDE))
    assert [one.candidate.id for one in detections] == [5, 6]
    assert [decision.rule for decision in detections[1].candidate.decisions] == ["found_smoothed"]
    assert detections[1].window is detections[0].window, "with the sidelobes that are subtracted"


def test_a_candidate_of_the_smoothed_window_alone_has_the_window_itself():
    detections, window = [], whole_window(SIDE)
    add_smoothed(detections, Smoothed([found(60, 60)]), window)
    assert detections[0].window is window


@pytest.mark.parametrize(("status", "added"), [(Status.KEPT, 0), (Status.FLAGGED, 0), (Status.DROPPED, 1)])
def test_what_was_found_at_full_resolution_is_not_found_again(status, added):
    detections = [found(60, 62, status)]
    add_smoothed(detections, Smoothed([found(60, 60)]), whole_window(SIDE))
    assert len(detections) == 1 + added


@pytest.mark.parametrize(("place", "added"), [(62, 0), (80, 1)])
def test_what_a_rule_dropped_as_an_artefact_does_not_return(place, added):
    artefact = found(60, place, Status.DROPPED)
    artefact.candidate.decide("baseline_ripple", Status.DROPPED, dip=9.0, prob=0.9)
    detections = [artefact]
    add_smoothed(detections, Smoothed([found(60, 60)]), whole_window(SIDE))
    assert len(detections) == 1 + added


def two_halves(channels: tuple[int, int], bridge: float, scale: int = 1, beams: float = 12) -> Smoothed:
    """A patch of a smoothed window of S/N 12 with emission at either end, and such S/N all the way between them."""
    cube = np.zeros((24, SIDE // 2, SIDE // 2), np.float32)
    channel = np.zeros(cube.shape[1:])
    for place, number in zip((18, 28), channels, strict=True):
        cube[number - 1 : number + 2, 22:26, place - 2 : place + 3] = 8
        channel[:, place - 5 : place + 5] = number
    low, high = sorted(channels)
    cube[low : high + 1, 22:26, 20:27] = np.maximum(cube[low : high + 1, 22:26, 20:27], bridge)
    seen = searched_window(cube, BEAM, line=np.full(cube.shape[1:], 10.0), channel=channel, width=3.0)
    return Smoothed([found(47, 47, extent=extent_of(snr_peak=12.0, beams=beams), scale=scale)], seen)


@pytest.mark.parametrize(
    ("channels", "bridge", "snr", "wide", "apart", "scale", "one"),
    [
        ((12, 12), 6, 7, 1, 20, 1, True),
        ((10, 14), 6, 7, 1, 20, 1, True),
        ((12, 12), 6, 10, 1, 20, 1, False),
        ((12, 12), 6, 10, 2, 20, 1, True),
        ((12, 12), 6, 10, 2, 15, 1, False),
        ((12, 12), 1, 10, 2, 20, 1, False),
        ((5, 18), 0, 7, 1, 20, 1, False),
        ((12, 12), 6, 7, 2, 20, 2, False),
    ],
    ids=[
        "one object",
        "a rotating one",
        "no clearer than its compact parts",
        "no clearer than its resolved parts",
        "resolved parts within two smoothed beams",
        "resolved parts without emission between them",
        "two objects",
        "where emission runs together",
    ],
)
def test_a_patch_that_is_clearer_than_its_parts_or_of_resolved_ones_stands_for_them_if_it_is_one_object(
    channels, bridge, snr, wide, apart, scale, one
):
    size = wide * BEAM * gaussian_fwhm_to_sigma
    detections = [found(47, x, number=i, snr=snr, size=size) for i, x in ((1, 37), (2, 37 + apart))]
    add_smoothed(detections, two_halves(channels, bridge, scale), whole_window(SIDE))
    kept = [detection.candidate.id for detection in detections if detection.candidate.status is Status.KEPT]
    assert kept == ([3] if one else [1, 2])
    assert [detection.candidate.parent for detection in detections[:2]] == [3 * one, 3 * one]


@pytest.mark.parametrize(("beams", "places", "one"), [(12, (47,), True), (9, (47,), False), (9, (37, 57), False)])
def test_a_patch_of_less_than_ten_smoothed_beams_stands_for_nothing_compact(beams, places, one):
    detections = [found(47, x, number=i, snr=7.0, size=1.7) for i, x in enumerate(places, 1)]
    add_smoothed(detections, two_halves((12, 12), 6, 1, beams), whole_window(SIDE))
    assert ([d.candidate.status for d in detections].count(Status.DROPPED) > 0) == one
