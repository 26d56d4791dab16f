"""What of a measurement goes into a catalogue row, and when: each rule with a case on either side."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import FLAGS, Box, Candidate
from napari_almadet.cube.cube import Cube
from napari_almadet.measure import catalogue_row
from napari_almadet.measure.catalogue_row import measure_candidate, response_over, scale_of, write
from napari_almadet.measure.cutout import Cutout, Seed, Separated
from napari_almadet.measure.line_model import Line
from napari_almadet.measure.measurement import Measured
from napari_almadet.measure.noise import white

SHAPE = (64, 41, 41)
LINE = Line(np.array([[10.0, 50.0, 8.0]]), np.eye(3) * 0.04, 1.3)
TWO = Line(np.array([[10.0, 47.0, 4.0], [9.0, 53.0, 4.0]]), np.eye(6) * 0.04, 1.0)


def seed(lines: bool = True) -> Seed:
    return Seed(20.0, 22.0, 2.5, 2.5, ((50.0, 8.0),) if lines else (), (45, 55) if lines else (0, 64))


def row(
    mask: tuple[slice, slice, slice] | None = None,
    planes: np.ndarray | None = None,
    others: tuple | None = None,
    origin: tuple[int, int] = (0, 0),
    cube: Cube | None = None,
    lines: bool = True,
    kind: str = "line",
    **values,
) -> Candidate:
    """The row of a measurement with such a mask and such values; a line of 20 sigma if nothing else is said."""
    planes = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32) if planes is None else planes
    own, foreign = np.zeros((2, *planes.shape), bool)
    if mask is not None:
        own[mask] = True
    if others is not None:
        foreign[others] = True
    cube = Cube.from_array(planes) if cube is None else cube
    cutout = Cutout(planes, origin, white(len(planes)))
    parts = Separated(own, foreign, ~own, np.zeros(planes.shape[1:], np.float32), False, np.nan)
    given = {"place": (20.0, 22.0, 0.1, 0.2), "line_snr": 20.0, "lines": cutout.values, "flux": 7.0, "err_flux": 0.3}
    given |= {"peak": 3.0, "err_peak": 0.2, "z": 50.2, "err_z": 0.1, "line": LINE, "single": LINE, "channels": (44, 57)}
    made = Measured(parts, **(given | values))
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9, kind=kind, channels=(45, 55))
    one = seed(lines)
    write(candidate, cube, cutout, one, scale_of(cube, 20.0, 22.0, one.channels, 6.0), made)
    return candidate


CONTINUUM = {"line_snr": 0.0, "continuum": 2.0, "err_continuum": 0.1, "continuum_peak": 1.5, "err_continuum_peak": 0.1}


def test_a_line_has_its_flux_place_and_width():
    one = row(widths={"w50": (8.0, 0.5)})
    assert (one.kind, one.f_sum, one.err_f_sum, one.peak, one.z) == ("line", 7.0, 0.3, 3.0, 50.2)
    assert (one.x, one.y, one.err_x, one.err_y) == (20.0, 22.0, 0.1, 0.2)
    assert (one.w50, one.err_w50, one.fwhm, one.z_fit, one.chi2_fit) == (8.0, 0.5, 8.0, 50.0, 1.3)
    assert one.err_fwhm == pytest.approx(0.2)
    assert np.isnan([one.f_cont, one.alpha, one.pb]).all()
    assert one.channels == (45, 55)  # of a Gaussian the range that was detected


def test_a_continuum_has_a_flux_density_and_no_line():
    one = row(**CONTINUUM, index=-0.7, err_index=0.2)
    assert (one.kind, one.f_cont, one.err_f_cont, one.alpha, one.peak) == ("continuum", 2.0, 0.1, -0.7, 1.5)
    assert np.isnan([one.f_sum, one.z, one.w50, one.fwhm]).all()
    assert (one.peaks, one.channels) == ((), (0, 64))
    both = row(**(CONTINUUM | {"line_snr": 20.0}), index=-0.7)
    assert (both.kind, both.f_sum, both.f_cont, both.alpha, both.peak) == ("both", 7.0, 2.0, -0.7, 3.0)


def test_what_is_neither_seen_as_line_nor_as_continuum_keeps_its_kind_and_has_a_flux():
    faint = CONTINUUM | {"continuum": 0.2, "index": 3.0}
    one = row(**faint, lines=False, kind="continuum")
    assert one.kind == "continuum" and one.f_cont == 0.2 and np.isnan(one.alpha)
    assert np.isnan(row(**(faint | {"line_snr": 2.0})).f_cont)
    assert row(line_snr=20.0, lines=False, kind="continuum").kind == "continuum"


def test_a_place_that_was_not_measured_is_that_of_the_detection():
    for place in ((np.nan, 3.0, 0.1, 0.1), (3.0, np.nan, 0.1, 0.1)):
        one = row(place=place, origin=(100, 200), cube=SimpleCube)
        assert (one.x, one.y) == (20.0, 22.0)


SimpleCube = Cube.from_array(np.ones((64, 300, 300), np.float32))


@pytest.mark.parametrize(("line", "method", "channels"), [(LINE, "fit", (45, 55)), (TWO, "fit", (44, 57))])
def test_the_range_of_a_line_that_is_no_gaussian_is_where_it_was_found(line, method, channels):
    assert row(line=line, method=method).channels == channels
    assert row(line=line, method=method, channels=(50, 50)).channels == (45, 55)


def test_of_a_mask_there_is_no_fit_of_a_gaussian():
    one = row((slice(44, 57), slice(15, 26), slice(14, 27)), method="mask")
    assert np.isnan([one.fwhm, one.z_fit, one.chi2_fit]).all()
    assert one.channels == (44, 57)
    assert one.box == Box(15, 26, 14, 27)


def test_the_place_of_a_mask_is_that_of_its_emission():
    planes = np.full(SHAPE, 1e-5, np.float32)
    planes[50, 24:27, 29:32] = 30.0
    whole = slice(44, 57), slice(10, 30), slice(10, 35)
    one = row(whole, planes, method="mask", origin=(100, 200), cube=SimpleCube)
    assert (one.x, one.y) == pytest.approx((230, 125), abs=0.1)
    fitted = row(whole, planes, method="fit", origin=(100, 200), cube=SimpleCube)
    assert (fitted.x, fitted.y) == (220.0, 122.0)
    assert fitted.mask.origin == (44, 110, 210) and fitted.box == Box(15, 26, 16, 29)


def test_extremes_are_those_of_the_mask_or_else_of_the_box():
    planes = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    planes[50, 20, 20], planes[50, 21, 21], planes[50, 5, 5] = 30.0, -20.0, 99.0
    for one in (row((slice(45, 55), slice(15, 26), slice(16, 29)), planes), row(None, planes)):
        assert (one.f_max, one.f_min) == (30.0, -20.0)
        assert (one.z_peak, one.y_peak, one.x_peak) == (50, 20, 20)
    assert (row(None, planes).mask, row(None, planes).n_pix) == (None, 0)
    planes[45:55, 15:26, 16:29] = np.nan
    assert np.isnan(row(None, planes).f_max)


INNER = slice(45, 55), slice(15, 26), slice(16, 29)


@pytest.mark.parametrize(
    ("mask", "flags"),
    [
        (INNER, set()),
        ((slice(45, 55), slice(0, 26), slice(16, 29)), {"spatial edge"}),
        ((slice(45, 55), slice(15, 26), slice(16, 41)), {"spatial edge"}),
        ((slice(0, 55), slice(15, 26), slice(16, 29)), {"spectral edge"}),
        ((slice(45, 64), slice(15, 26), slice(16, 29)), {"spectral edge"}),
    ],
)
def test_a_mask_that_ends_with_the_cube_is_flagged(mask, flags):
    one = row(mask)
    assert one.flag == sum(FLAGS[name] for name in flags)
    assert one.n_pix == one.mask.voxels.sum() == np.prod([part.stop - part.start for part in mask])


@pytest.mark.parametrize(
    ("hole", "flags"),
    [
        ((50, 20, 20), {"no data", "spatial edge"}),
        ((50, 14, 20), {"spatial edge"}),  # beside it
        ((50, 12, 20), set()),
        ((56, 20, 20), set()),
    ],
)
def test_a_mask_with_or_beside_missing_data_is_flagged(hole, flags):
    planes = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    planes[hole] = np.nan
    assert row(INNER, planes).flag == sum(FLAGS[name] for name in flags)


@pytest.mark.parametrize(("other", "touches"), [((50, 26, 20), True), ((50, 28, 20), False)])
def test_a_mask_that_touches_another_source_is_flagged(other, touches):
    assert (row(INNER, others=other).flag == FLAGS["other source"]) == touches


# --- lines that were missed ---


@pytest.mark.parametrize(
    ("lines", "thorough", "line", "kinds"),
    [
        (False, True, (30.0, 6.0), 2),
        (False, True, None, 1),
        (False, False, (30.0, 6.0), 1),
        (True, True, (30.0, 6.0), 1),
    ],
)
def test_a_line_is_looked_for_in_the_spectrum_of_a_source_without_one(monkeypatch, lines, thorough, line, kinds):
    asked = []
    made = SimpleNamespace(blended=False)
    monkeypatch.setattr(catalogue_row, "scale_of", lambda *_: None)
    monkeypatch.setattr(catalogue_row, "measure_source", lambda cutout, seeds, me, *_: asked.append(seeds[me]) or made)
    monkeypatch.setattr(catalogue_row, "line_in", lambda *_: line)
    monkeypatch.setattr(catalogue_row, "write", lambda *_: None)
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9, kind="continuum")
    measure_candidate(candidate, SimpleCube, None, [seed(lines)], 0, 6.0, False, thorough)
    assert len(asked) == kinds
    if kinds == 2:
        assert asked[1].lines == (line,) and asked[1].channels == candidate.channels
        assert candidate.decisions[-1].rule == "line_in_own_spectrum"


@pytest.mark.parametrize(
    ("before", "made", "thorough", "after"), [(0, 1, 1, 1), (1, 0, 1, 1), (0, 1, 0, 0), (0, 0, 1, 0)]
)
def test_a_source_stays_blended_and_a_brief_measurement_does_not_decide_it(monkeypatch, before, made, thorough, after):
    monkeypatch.setattr(catalogue_row, "scale_of", lambda *_: None)
    monkeypatch.setattr(catalogue_row, "measure_source", lambda *_: SimpleNamespace(blended=bool(made)))
    monkeypatch.setattr(catalogue_row, "write", lambda *_: None)
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9, blended=bool(before))
    measure_candidate(candidate, SimpleCube, None, [seed()], 0, 6.0, False, bool(thorough))
    assert candidate.blended == bool(after)


def test_without_a_primary_beam_or_a_mask_there_is_no_response():
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9)
    assert np.isnan(response_over(candidate, SimpleCube, np.ones((3, 3))))
