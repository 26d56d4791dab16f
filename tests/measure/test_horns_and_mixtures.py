"""Peaks of one source that adjoin are one line or two; a source that may be a point or larger has the error of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_measurement import ROUND, Seed, found, line, measured, sky_of

from napari_almadet.measure.flux_estimators import are_horns, combined, with_its_horns

LOW, HIGH = (24.0, 6.0), (36.0, 6.5)  # centre and FWHM of two peaks, in channels


def two_peaks() -> Seed:
    """A detection of both peaks, the first of which is the one to measure."""
    return replace(found(30, 30, *LOW), lines=(LOW, HIGH))


def errors(sigma: float):
    """The error of a weighted sum of independent channels."""
    return lambda weights: sigma * float(np.sqrt((weights**2).sum()))


def test_the_flux_of_a_double_horned_line_of_which_both_horns_were_detected_is_that_of_both():
    spectrum = 3 * line(*LOW) + 2.7 * line(*HIGH) + 0.8 * line(30, 12)
    made = measured(sky_of(30, 30, ROUND, spectrum), 5, [two_peaks()])
    assert made.flux == pytest.approx(spectrum.sum(), abs=2 * made.err_flux)
    assert made.z == pytest.approx(29.8, abs=2)
    assert 14 < made.widths["w50"][0] < 22


@pytest.mark.parametrize(("sigma", "one"), [(0.02, False), (0.4, True)])
def test_what_noise_hides_between_two_peaks_may_be_there(sigma, one):
    assert are_horns(LOW, HIGH, line(*LOW) + line(*HIGH), errors(sigma)) is one


@pytest.mark.parametrize(("apart", "one"), [(13.5, True), (14.0, False)])
def test_peaks_whose_ranges_do_not_overlap_are_lines_of_their_own(apart, one):
    spectrum = np.ones(64)
    assert are_horns(LOW, (LOW[0] + apart, 6.5), spectrum, errors(0.01)) is one


def test_horns_are_one_line_as_wide_as_both_and_other_lines_stay():
    seed = replace(two_peaks(), lines=(LOW, (58.0, 3.0), HIGH))
    whole = with_its_horns(seed, np.ones(64), errors(0.01))
    assert whole.lines == ((30.125, 18.25), (58.0, 3.0))
    assert whole.channels == (18, 43)


def test_a_flux_that_is_one_of_two_has_an_error_as_large_as_both_are_apart():
    assert combined([(1.0, 10.0, 2.0)]) == (10.0, 2.0)
    flux, error = combined([(0.2, 10.0, 1.0), (0.8, 15.0, 2.0)])
    assert flux == pytest.approx(14.0)
    assert error == pytest.approx(np.sqrt(0.2 * 1 + 0.8 * 4 + 0.2 * 0.8 * 25))


SATELLITES = ((40.0, 3.0), (52.0, 3.0))


@pytest.mark.parametrize(
    ("size", "heights", "further"),
    [
        (ROUND, (5.0, 5.0), SATELLITES),
        (ROUND, (5.0, 0.0), SATELLITES[:1]),  # a peak that is not seen in the measured spectrum is no line
        (9 * ROUND, (5.0, 5.0), SATELLITES),
    ],
)
def test_a_flux_of_one_of_several_lines_knows_the_others(size, heights, further):
    spectrum = 8 * line(24, 3) + sum(h * line(*own) for h, own in zip(heights, SATELLITES, strict=True))
    group = replace(found(30, 30, 24, 3), lines=((24.0, 3.0), *SATELLITES))
    made = measured(sky_of(30, 30, size, spectrum), 5, [group])
    assert made.further == further


@pytest.mark.parametrize("ratio", [1.0, 2.5])
def test_the_flux_of_further_lines_is_measured_where_the_source_is(ratio):
    satellites = sum(10 * line(*own) for own in SATELLITES)
    group = replace(found(30, 30, 24, 3), lines=((24.0, 3.0), *SATELLITES))
    pulls = []
    for seed in range(12):
        made = measured(sky_of(30, 30, ratio * ROUND, 16 * line(24, 3) + satellites), seed, [group])
        pulls.append((made.flux_further - ratio * satellites.sum()) / made.err_flux_further)
        assert made.err_flux_further < 0.15 * made.flux_further
    assert abs(np.mean(pulls)) < 0.7
    assert np.std(pulls) < 1.6


def test_horns_and_single_lines_have_no_further_lines():
    spectrum = 3 * line(*LOW) + 2.7 * line(*HIGH) + 0.8 * line(30, 12)
    assert measured(sky_of(30, 30, ROUND, spectrum), 5, [two_peaks()]).further == ()
    alone = measured(sky_of(30, 30, ROUND, 3 * line(*LOW)), 5, [found(30, 30, *LOW)])
    assert alone.further == ()
    assert (alone.flux_further, alone.err_flux_further) == (0.0, 0.0)


def test_a_line_whose_channels_are_in_the_mask_is_in_the_flux():
    spectrum = 3 * line(24, 6) + 1.5 * line(33, 14)
    seeds = [replace(found(30, 30, 24, 6), lines=((24.0, 6.0), (33.0, 4.0)))]
    made = measured(sky_of(30, 30, 9 * ROUND, spectrum), 5, seeds)
    assert made.further == ()
