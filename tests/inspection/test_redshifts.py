"""Two lines tell a redshift, and one does not; sources made with known lines are named right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import EmissionPeak
from napari_almadet.inspection.known_lines import known_lines
from napari_almadet.inspection.redshifts import (
    Observed,
    RedshiftRange,
    allowed,
    observed_lines,
    redshifts_of,
    texts_of,
)

WIDE = RedshiftRange(0, 8)
REST = {line.name: line.rest_frequency for line in known_lines()}


def seen(names, z, rng=None, error=2e-3):
    shift = rng.normal(0, error, len(names)) if rng is not None else np.zeros(len(names))
    return sorted(
        (Observed(REST[name] / (1 + z) + s, error) for name, s in zip(names, shift, strict=True)),
        key=lambda line: line.frequency,
    )


def names_of(identification):
    return [None if line is None else line.name for line in identification.lines]


@pytest.mark.parametrize("z", [0.0, 0.37, 2.3, 5.66])
@pytest.mark.parametrize("pair", [("CO 3-2", "CO 4-3"), ("CO 7-6", "[CI] 3P2-3P1"), ("HCN 1-0", "HCO+ 1-0")])
def test_two_lines_tell_the_redshift(pair, z):
    # HCN and HCO+ have nearly one ratio in all their lines
    redshifts = WIDE if "HCN" not in pair[0] else RedshiftRange(z - 0.2, z + 0.2)
    best = redshifts_of(seen(pair, z, np.random.default_rng(1)), redshifts)[0]
    assert sorted(names_of(best)) == sorted(pair)
    assert abs(best.redshift - z) < 4 * best.error < 0.005


def test_the_true_redshift_is_first_of_many_sources():
    rng, right = np.random.default_rng(7), 0
    for _ in range(60):
        j, z = rng.integers(1, 7), rng.uniform(0, 6)
        best = redshifts_of(seen((f"CO {j + 1}-{j}", f"CO {j + 2}-{j + 1}"), z, rng), WIDE)[0]
        right += abs(best.redshift - z) < 5 * best.error
    assert right >= 58


def test_lines_without_a_common_redshift_have_none():
    far = [Observed(100.0, 1e-4), Observed(100.0 * np.sqrt(2) + 0.0123, 1e-4)]
    found = redshifts_of(far, RedshiftRange(0, 0.2))
    assert not found


def test_a_third_line_is_told_as_unexplained():
    lines = seen(("CO 2-1", "CO 3-2"), 1.0)
    best = redshifts_of([*lines, Observed(lines[-1].frequency + 1.2345, 1e-4)], RedshiftRange(0.9, 1.1))[0]
    assert names_of(best)[:2] == ["CO 2-1", "CO 3-2"] and names_of(best)[2] is None
    assert "?" in str(best)


def test_a_line_that_should_be_in_the_band_costs():
    """CO 4-3 and 6-5 without 5-4 between them is less likely than where the band did not hold it."""
    lines = seen(("CO 4-3", "CO 6-5"), 2.0)
    free = redshifts_of(lines, RedshiftRange(1.9, 2.1))[0]
    missed = redshifts_of(lines, RedshiftRange(1.9, 2.1), (150.0, 235.0))[0]
    assert missed.score < free.score


def test_one_line_may_be_any_that_the_range_allows():
    observed = Observed(REST["CO 2-1"] / 1.5, 1e-3)
    found = allowed(observed, RedshiftRange(0, 1))
    assert ("CO 2-1", pytest.approx(0.5)) in [(line.name, z) for line, z in found]
    assert found[0][0].species in ("CO", "[CII]", "HI")  # the usual ones first
    for line, z in found:
        assert -0.002 <= z <= 1.004 and line.rest_frequency == pytest.approx(observed.frequency * (1 + z))
    assert len(found) >= sum(observed.frequency <= rest <= 2 * observed.frequency for rest in REST.values())


def test_a_given_redshift_allows_for_motions():
    at, given = REST["CO 2-1"] / 1.3, RedshiftRange(0.3, 0.3)
    for moved, is_it in ((300, True), (900, False)):  # km/s
        found = allowed(Observed(at * (1 + moved / 299792.458), 1e-3), given)
        assert ("CO 2-1" in [line.name for line, _ in found]) == is_it


@pytest.mark.parametrize("text", ["near", "3..1", "-2", "0..", "nan", "0..inf"])
def test_what_is_no_redshift_is_refused(text):
    with pytest.raises(ValueError, match="redshift is"):
        RedshiftRange.parse(text)


def test_peaks_of_one_line_are_one(make_cube, candidate):
    cube = make_cube(np.zeros((40, 60, 70), np.float32))  # 230.6 GHz, -5 MHz a channel: 6.5 km/s
    two_horns = replace(candidate, peaks=(*candidate.peaks, EmissionPeak(30, 0.5, 0.5, 30.0, 4.0)), z=20.0, err_z=0.1)
    lines = observed_lines(cube, two_horns)
    assert [line.frequency for line in lines] == [pytest.approx(230.5)]
    ids, redshifts = texts_of(cube, two_horns, RedshiftRange(0, 0.01))
    assert "CO 2-1 z=0.00016" in ids and redshifts == ""
