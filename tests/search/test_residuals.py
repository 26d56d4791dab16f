"""What sidelobes of brighter emission leave, and what is dropped for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import searched_window, whole_window

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.search.decisions import artefact_kind
from napari_almadet.search.line_maps import MAPS
from napari_almadet.search.patch_properties import SearchedWindow
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.residuals import measure_residuals

CHANNELS, SIDE, CENTRE, WIDTH = 24, 64, 10.0, 4.0
WINDOW = whole_window(SIDE)
LINE = np.exp(-4 * np.log(2) * ((np.arange(CHANNELS) - CENTRE) / WIDTH) ** 2)
LINE = (LINE / np.sqrt((LINE**2).sum()))[:, None, None]


def seen(pattern: np.ndarray | float, snr: float, correlation: float = 1.0) -> SearchedWindow:
    """A window of noise, a pattern (ny, nx) of such S/N in the channels of a line, and a source at (20, 30) in it."""
    cube = np.random.default_rng(3).standard_normal((CHANNELS, SIDE, SIDE)) * correlation + LINE * pattern
    cube[:, 20, 30] = (LINE * snr)[:, 0, 0]
    return searched_window(cube, 4.0, line=snr, channel=CENTRE, width=WIDTH, correlation=correlation)


def detection(box: Box | None = None) -> RawDetection:
    candidate = Candidate(1, Box(0, 0, 0, 0), 0.97)
    return RawDetection(candidate, 20.0, 30.0, 1.7, 1.7, np.ones(CHANNELS, np.float32), Features(), WINDOW, box)


RIPPLES = 6 * np.sqrt(2) * np.sin(np.arange(SIDE) / 3.0)[None, :] * np.ones((SIDE, 1))  # rms 6
CLOUD = np.full((SIDE, SIDE), 9.0)


@pytest.mark.parametrize("box", [None, Box(10, 30, 20, 40)])
@pytest.mark.parametrize(
    ("pattern", "snr", "dropped"),
    [
        (0.0, 6, False),
        (RIPPLES, 14, True),  # as bright as ripples may well be
        (RIPPLES, 45, False),
        (CLOUD, 9, False),  # emission all over the field is no ripple
    ],
)
def test_what_is_no_brighter_than_the_ripples_in_its_channels_is_dropped(pattern, snr, dropped, box):
    one = detection(box)
    measure_residuals([one], seen(pattern, snr))
    decision = artefact_kind(one, [])
    assert (decision is not None and decision.rule == "residuals") == dropped
    if dropped:
        assert decision.values["rms"] == pytest.approx(6, rel=0.4)
        assert decision.values["snr"] < 5


def test_where_the_image_is_noise_the_classifier_alone_decides():
    """Five times the rms is asked for where there are ripples; here it would be a second threshold on the S/N."""
    one = detection()
    measure_residuals([one], seen(0.0, 4.5))
    assert one.residuals < 1.2
    assert artefact_kind(one, []) is None


def test_noise_that_channels_share_is_no_residual():
    one = detection()
    measure_residuals([one], seen(0.0, 12, correlation=2.0))
    assert one.residuals < 1.2


@pytest.mark.parametrize(("rms", "snr", "dropped"), [(1.6, 6.4, True), (1.6, 10.0, False), (1.35, 5.6, False)])
def test_what_is_brighter_in_the_stacked_image_is_compared_with_what_that_scatters_by(rms, snr, dropped):
    one, field = detection(), seen(0.0, 1)
    stack = rms * np.random.default_rng(8).standard_normal((SIDE, SIDE)).astype(np.float32)
    stack[20, 30] = snr
    field.images[MAPS.index("stack")] = stack
    measure_residuals([one], field)
    assert one.residuals == pytest.approx(rms, rel=0.1)
    assert (artefact_kind(one, []) is not None) == dropped


@pytest.mark.parametrize(("size", "dropped"), [(1.0, True), (3.0, False)])
def test_what_is_resolved_is_compared_with_the_scatter_at_its_size(size, dropped):
    one, field = detection(), seen(0.0, 1)
    one.features = Features(fwhm_y=size, fwhm_x=size)
    y, x = np.indices((SIDE, SIDE)) - np.array([20, 30])[:, None, None]
    stack = 1.6 * np.random.default_rng(8).standard_normal((SIDE, SIDE)).astype(np.float32)
    stack += 6.6 * np.exp(-4 * np.log(2) * (y**2 + x**2) / 12**2)
    stack[20, 30] = 6.6
    field.images[MAPS.index("stack")] = stack
    measure_residuals([one], field)
    assert (artefact_kind(one, []) is not None) == dropped


def test_ripples_as_high_as_the_noise_count_too():
    one = detection()
    measure_residuals([one], seen(RIPPLES / 6, 6))  # a rms of 1.4 with the noise
    assert artefact_kind(one, []).rule == "residuals"


def test_each_of_many_detections_is_measured_in_its_own_line():
    many = [detection() for _ in range(40)]
    measure_residuals(many, seen(RIPPLES, 14))
    assert {round(one.residuals, 4) for one in many} == {round(many[0].residuals, 4)}
    assert np.isfinite([one.over_residuals for one in many]).all()


def test_ripples_of_continuum_are_none_of_a_line():
    """A line of S/N 8 in a field full of a continuum source's sidelobes, rms 3 over the line, with a slope."""
    one = detection()
    window = seen(0.0, 8)
    slope = torch.linspace(0.8, 1.2, CHANNELS)[:, None, None] * float(LINE.sum()) / CHANNELS
    window.units.cube.add_(slope * torch.from_numpy(RIPPLES.astype(np.float32)))
    measure_residuals([one], window)
    assert artefact_kind(one, []) is None
    assert one.residuals < 1.25
