"""Pieces of one bright, resolved source, and two sources beside each other."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from cases import searched_window, whole_window

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.decisions import artefact_kind
from napari_almadet.search.flanks import Ellipse, measure_flanks, resolved_gaussian
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.raw_detection import Features, RawDetection

SIDE, CHANNELS, BEAM = 64, 8, 4.0
WINDOW = whole_window(SIDE)
Y, X = np.mgrid[:SIDE, :SIDE]


def gaussian(y: float, x: float, long: float = 1.0, angle: float = 0.0) -> np.ndarray:
    """A source of a beam's width, ``long`` beams along an axis at an angle to x in degrees."""
    along, across = (np.cos(np.deg2rad(a)) * (X - x) + np.sin(np.deg2rad(a)) * (Y - y) for a in (angle, angle + 90))
    return np.exp(-4 * np.log(2) * ((along / (long * BEAM)) ** 2 + (across / BEAM) ** 2))


def seen(image: np.ndarray) -> SearchedWindow:
    """A window whose stacked image has such S/N, and noise."""
    image = image + np.random.default_rng(5).standard_normal(image.shape)
    return searched_window(np.zeros((CHANNELS, SIDE, SIDE)), BEAM, stack=image)


def detection(number: int, y: float, x: float, snr: float, line: float = 0.0, box: Box | None = None) -> RawDetection:
    candidate = Candidate(number, Box(0, 0, 0, 0), 0.87)
    features = Features(snr_stacked=snr, snr_own_line=line)
    return RawDetection(candidate, y, x, 1.7, 1.7, np.ones(CHANNELS, np.float32), features, WINDOW, box)


LONG = 340 * gaussian(30, 30, 3.0, 20)


@pytest.mark.parametrize("line", [0.0, 9.0])
def test_pieces_of_one_long_source_are_its_flanks_unless_they_have_a_line_of_their_own(line):
    whole, piece = detection(1, 30, 30, 340), detection(2, 32, 35, 180, line)
    measure_flanks([piece, whole], seen(LONG))
    assert whole.flank_of is None
    assert piece.flank_of is whole
    decision = artefact_kind(piece, [])
    assert (decision is None) == (line > 0)
    if decision is not None:
        assert (decision.rule, decision.ids, decision.values["snr"]) == ("flank", (1,), 340)
    assert artefact_kind(whole, []) is None


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("apart", [0.8, 0.9, 1.0, 1.3])
def test_two_points_about_a_beam_apart_are_two(apart, ratio):
    x = 30 + apart * BEAM
    first, second = detection(1, 30, 30, 200), detection(2, 30, x, 200 * ratio)
    measure_flanks([first, second], seen(200 * (gaussian(30, 30) + ratio * gaussian(30, x))))
    assert first.flank_of is second.flank_of is None


@pytest.mark.parametrize(
    ("image", "place"),
    [
        (LONG / 10, (32, 35)),  # too faint to tell one from two
        (340 * gaussian(30, 30), (30, 33)),  # no larger than the beam
        (LONG + 60 * gaussian(48, 30), (48, 30)),  # beside it
        (LONG - 3 * gaussian(58, 8), (58, 8)),  # far away, and too faint for anything
        (LONG + 100 * gaussian(38, 33), (38, 33)),  # on it, but far brighter than it is there
    ],
)
def test_other_sources_are_no_flanks(image, place):
    whole, other = detection(1, 30, 30, image[30, 30]), detection(2, *place, image[place])
    measure_flanks([whole, other], seen(image))
    assert other.flank_of is None


def test_emission_that_has_a_box_is_left_alone():
    whole, patch = detection(1, 30, 30, 340), detection(2, 32, 35, 180, box=Box(20, 40, 20, 40))
    measure_flanks([whole, patch], seen(LONG))
    assert patch.flank_of is None


@pytest.mark.parametrize(("peak", "judged"), [(130, True), (80, False)])
def test_sources_of_a_hundred_sigma_have_flanks(peak, judged):
    image = peak / 340 * LONG
    whole, piece = detection(1, 30, 30, peak), detection(2, 32, 35, image[32, 35])
    measure_flanks([whole, piece], seen(image))
    assert (piece.flank_of is whole) == judged


@pytest.mark.parametrize(("beside", "one"), [(0.2, True), (0.3, False)])
def test_a_source_is_one_gaussian_if_it_leaves_four_hundredths_of_the_peak(beside, one):
    """A second source two beams away leaves 0.028 and 0.056."""
    image = gaussian(30, 30, 3.0, 20) + beside * gaussian(30, 22)
    assert (resolved_gaussian(image, (30, 30), BEAM) is not None) == one


@pytest.mark.parametrize(("beside", "one"), [(0.25, True), (0.4, False)])
def test_a_gaussian_is_fitted_to_what_is_brighter_than_three_tenths_of_its_peak(beside, one):
    image = gaussian(30, 30, 3.0, 20) + beside * gaussian(36, 30, 1.5)
    assert (resolved_gaussian(image, (30, 30), BEAM) is not None) == one


@pytest.mark.parametrize(("share", "flank"), [(0.14, True), (0.07, False)])
def test_a_flank_is_where_the_gaussian_has_a_tenth_of_its_peak(share, flank):
    y, x = np.argwhere((share < LONG / 340) & (1.15 * share > LONG / 340))[0]
    whole, piece = detection(1, 30, 30, 340), detection(2, y, x, LONG[y, x])
    measure_flanks([whole, piece], seen(LONG))
    assert (piece.flank_of is whole) == flank


@pytest.mark.parametrize(("excess", "flank"), [(1.1, True), (1.8, False)])
def test_a_flank_is_up_to_a_quarter_brighter_than_the_gaussian(excess, flank):
    y, x = np.argwhere((LONG > 0.18 * 340) & (LONG < 0.22 * 340))[0]  # below what is fitted
    image = LONG.copy()
    image[y, x] *= excess
    whole, piece = detection(1, 30, 30, 340), detection(2, y, x, image[y, x])
    measure_flanks([whole, piece], seen(image))
    assert (piece.flank_of is whole) == flank


@pytest.mark.parametrize("terms", [(0, 0, 0, -1, 0, 1), (0, 0, 0, 1, 0, 1), (0, 0, 0, -1, 3, -1), (0, 0, 0, 0, 0, -1)])
def test_what_rises_in_any_direction_is_no_gaussian(terms):
    assert Ellipse(np.array(terms, float), (0, 0)).area == 0
    assert Ellipse(np.array((0, 0, 0, -0.5, 0, -0.5)), (0, 0)).area == pytest.approx(1)


@pytest.mark.parametrize(("sigma", "fitted"), [(1.35, True), (0.9, False)])
def test_eight_pixels_make_a_gaussian(sigma, fitted):
    """There are 13 and 5 of three tenths of the peak; the beam is a pixel wide."""
    image = np.exp(-((Y - 30.0) ** 2 + (X - 30.0) ** 2) / (2 * sigma**2))
    assert (resolved_gaussian(image, (30, 30), 1.0) is not None) == fitted


@pytest.mark.parametrize(
    ("flanks", "of"),
    [
        ({1: (3,), 2: (3,)}, {3: 1}),  # not of the fainter one
        ({1: (2,), 2: (3,)}, {2: 1}),  # a flank has none
        ({1: (), 2: (3,)}, {3: 2}),
    ],
)
def test_a_flank_belongs_to_the_brightest_source_that_is_none_itself(monkeypatch, flanks, of):
    places = {1: (10, 10), 2: (20, 20), 3: (30, 30)}
    image = sum(500 / number * gaussian(*place) for number, place in places.items())
    numbers = {place: number for number, place in places.items()}

    def one_on_these(image, place, beam):
        return SimpleNamespace(at=lambda y, x: 1e3 if numbers[y, x] in flanks.get(numbers[place], ()) else 0.0)

    monkeypatch.setattr("napari_almadet.search.flanks.resolved_gaussian", one_on_these)
    ones = [detection(number, *place, 500 / number) for number, place in places.items()]
    measure_flanks(ones, seen(image))
    assert {one.candidate.id: one.flank_of.candidate.id for one in ones if one.flank_of} == of
