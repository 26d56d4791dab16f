"""What of a measurement goes into a catalogue row, and when: each rule with a case on either side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from radio_beam import Beam, Beams

from napari_almadet.catalogue.candidate import FLAGS, Box, Candidate, EmissionPeak
from napari_almadet.cube.cube import Cube, PrimaryBeam
from napari_almadet.measure import catalogue_row
from napari_almadet.measure.catalogue_row import (
    _write_corrected_errors,
    _write_shape,
    _write_size,
    as_box,
    beam_at,
    measure_candidate,
    response_over,
    scale_of,
    with_line,
    write,
)
from napari_almadet.measure.cutout import Cutout, Seed, Separated
from napari_almadet.measure.line_model import Line
from napari_almadet.measure.mask_shape import MaskShape
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
    rms: np.ndarray | None = None,
    subtracted: bool = True,
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
    noise = white(len(planes)) if rms is None else replace(white(len(planes)), rms=rms)
    cutout = Cutout(planes, origin, noise)
    parts = Separated(own, foreign, ~own, np.zeros(planes.shape[1:], np.float32), False, np.nan)
    given = {
        "place": (20.0, 22.0, 0.1, 0.2),
        "line_snr": 20.0,
        "lines": cutout.values if subtracted else None,
        "flux": 7.0,
        "err_flux": 0.3,
    }
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


@pytest.mark.parametrize("mask", [None, (slice(46, 55), slice(18, 24), slice(18, 24))])
def test_a_row_of_one_of_several_lines_is_flagged_and_its_decisions_name_the_others(mask):
    one = row(mask, further=((12.3, 3.0), (31.0, 3.0)), flux_further=4.0, err_flux_further=0.4)
    assert (one.f_sum, one.f_sum_all) == (7.0, 11.0)
    assert one.err_f_sum_all == pytest.approx(0.5)
    assert one.flag & FLAGS["further lines"]
    assert one.reasons[-1].endswith("at channels 12, 31, are not in them")
    assert not row(mask).flag & FLAGS["further lines"]
    assert not row(mask, **CONTINUUM, further=((12.3, 3.0),)).flag  # without a line flux


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


# --- the scale ---


def sky(header, beams: Beam | Beams | None = None) -> Cube:
    """A cube with pixels of 1 arcsec."""
    return Cube(np.ones(SHAPE, np.float32), wcs=WCS(header), unit=u.Jy / u.beam, beams=beams)


def test_the_beam_is_that_of_the_header_where_sky_and_beam_are_known_and_else_round(header):
    oblong = Beam(8 * u.arcsec, 4 * u.arcsec, 20 * u.deg)
    expected = (oblong.major * oblong.minor).value ** 0.5
    known = scale_of(sky(header, oblong), 20.0, 22.0, (45, 55), 3.0)
    assert known.fwhm == pytest.approx(expected, rel=1e-3)
    assert abs(known.beam[0, 0] - known.beam[1, 1]) > 1
    for cube in (sky(header), replace(SimpleCube, beams=oblong)):
        scale = scale_of(cube, 20.0, 22.0, (45, 55), 3.0)
        assert scale.fwhm == pytest.approx(3.0)
        assert scale.beam == pytest.approx(np.eye(2) * scale.beam[0, 0])


def test_each_channel_has_the_area_of_its_own_beam(header):
    width = np.where(np.arange(64) < 40, 6.0, 4.0) * u.arcsec
    width[10] = 0.0 * u.arcsec  # none known: the cube's
    scale = scale_of(sky(header, Beams(major=width, minor=width)), 20.0, 22.0, (45, 55), 3.0)
    assert scale.fwhm == pytest.approx(4.0, rel=1e-3)  # in the middle of the line
    assert scale.areas[[0, 10, 50]] == pytest.approx(np.array([36, 36, 16]) * np.pi / (4 * np.log(2)), rel=1e-3)


def test_the_beam_of_a_channel_is_that_of_the_cube_where_it_has_no_other():
    one, several = Beam(2 * u.arcsec), Beams(major=[1, 0] * u.arcsec, minor=[1, 0] * u.arcsec)
    cubes = [SimpleNamespace(beams=beams, beam=one, shape=(2, 9, 9)) for beams in (None, one, several)]
    assert [beam_at(cube, 0) for cube in cubes] == [one, one, several[0]]
    assert beam_at(cubes[2], 1) == one
    assert beam_at(replace(SimpleCube, beams=Beams(major=[1] * 64 * u.arcsec)), 64).value > 0  # a range ends after it


# --- kinds, lines and masks ---


@pytest.mark.parametrize("denoised", [True, False])
def test_a_line_that_was_found_later_has_the_height_of_the_denoised_spectrum_if_there_is_one(denoised):
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9)
    candidate.denoised = np.arange(64.0) if denoised else np.zeros(0)
    with_line(seed(False), (30.2, 6.0), candidate, 64)
    assert candidate.primary.height == 30 if denoised else np.isnan(candidate.primary.height)


def test_a_line_that_is_measured_makes_a_line_of_what_was_detected_as_continuum():
    assert row(kind="continuum").kind == "line"


def test_a_source_without_lines_has_all_channels_whatever_its_kind():
    one = row(lines=False, kind="line", line_snr=0.0, continuum=0.2, err_continuum=0.1)
    assert (one.channels, one.peaks, one.f_cont) == ((0, 64), (), 0.2)
    assert np.isnan(one.f_sum)


def test_a_mask_without_positive_emission_is_at_the_fitted_place():
    whole = slice(44, 57), slice(10, 30), slice(10, 35)
    one = row(whole, np.full(SHAPE, -1.0, np.float32), method="mask")
    assert (one.x, one.y) == (20.0, 22.0)
    assert one.n_pix == 13 * 20 * 25


def test_where_no_continuum_was_subtracted_the_extremes_of_a_mask_are_those_of_the_planes():
    planes = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    planes[50, 20, 20] = 30.0
    assert row(INNER, planes, subtracted=False).f_max == 30.0


def test_the_noise_is_that_of_the_channel_of_the_line_or_the_median_where_that_has_no_data():
    levels = np.where(np.arange(64) == 50, 3.0, 1.0)
    assert row(rms=levels).rms == 3.0
    levels[50] = np.nan
    assert row(rms=levels).rms == 1.0


# --- primary beam ---


def dimmed(corrected: bool = False, response: np.ndarray | None = None) -> Cube:
    """A cube of 41 x 41 pixels whose response is a half, or another."""
    plane = np.full(SHAPE[1:], 0.5, np.float32) if response is None else response
    return replace(
        Cube.from_array(np.ones(SHAPE, np.float32)), primary_beam=PrimaryBeam(plane[None], Path(), corrected)
    )


WHOLE = slice(44, 57), slice(15, 26), slice(14, 27)


@pytest.mark.parametrize(("corrected", "method", "known"), [(0, "mask", 1), (1, "mask", 0), (0, "fit", 0)])
def test_the_flux_of_a_mask_has_an_error_of_its_own_after_correction_for_the_primary_beam(corrected, method, known):
    planes = np.ones(SHAPE, np.float32)
    one = row(WHOLE, planes, cube=dimmed(bool(corrected)), method=method, continuum=2.0, err_continuum=0.1)
    assert np.isfinite(one.err_f_sum_pb) == np.isfinite(one.err_f_cont_pb) == bool(known)
    assert (one.pb == 0.5) == (method == "mask")
    if known:
        assert one.err_f_sum_pb == pytest.approx(2 * np.sqrt(one.n_pix))  # in noise of 1
        assert one.err_f_cont_pb == pytest.approx(0.2)


def test_where_the_response_is_unknown_over_all_of_a_mask_nothing_is_corrected():
    one = row(WHOLE, np.ones(SHAPE, np.float32), cube=dimmed(response=np.zeros(SHAPE[1:])), method="mask")
    assert np.isnan([one.pb, one.err_f_sum_pb]).all()
    assert np.isfinite(one.f_sum)


def test_without_a_mask_nothing_is_corrected_over_it():
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9)
    assert np.isnan(response_over(candidate, dimmed(), np.ones((3, 3))))
    candidate.pb = 0.5
    _write_corrected_errors(candidate, SimpleNamespace(), SimpleNamespace(), SimpleNamespace(), dimmed())
    assert np.isnan(candidate.err_f_sum_pb)


# --- sizes and shapes on the sky ---


@pytest.mark.parametrize("resolved", [True, False])
def test_a_point_has_an_upper_limit_of_its_size_only(header, resolved):
    cube = sky(header, Beam(6 * u.arcsec))
    scale = scale_of(cube, 20.0, 22.0, (45, 55), 3.0)
    made = SimpleNamespace(size=(scale.beam + np.eye(2) * 9.0, np.eye(3) * 0.01), resolved=resolved, method="fit")
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9)
    candidate.x, candidate.y = 20.0, 22.0
    _write_size(candidate, cube, scale, made)
    assert candidate.dc_limit > 3 * 2.3548
    assert candidate.dc_maj == (pytest.approx(3 * 2.3548, rel=1e-3) if resolved else pytest.approx(np.nan, nan_ok=True))


def test_there_is_no_size_without_sky_beam_or_a_free_fit(header):
    beam = Beam(6 * u.arcsec)
    scale, size = scale_of(sky(header, beam), 20.0, 22.0, (45, 55), 3.0), (np.eye(2) * 15.0, np.eye(3) * 0.01)
    for cube, own in ((replace(SimpleCube, beams=beam), size), (sky(header), size), (sky(header, beam), None)):
        candidate = Candidate(1, Box(15, 26, 16, 29), 0.9)
        candidate.x, candidate.y = 20.0, 22.0
        _write_size(candidate, cube, scale, SimpleNamespace(size=own, resolved=True, method="fit"))
        assert np.isnan([candidate.dc_limit, candidate.dc_maj]).all()


def shaped(cube: Cube, **values) -> Candidate:
    """A row with the shape of a mask: an ellipse of 5 x 3 pixels along y, whose bright part is 4 x 2."""
    given = {"matrix": np.diag([9.0, 25.0]), "covariance": np.eye(3), "bright": np.diag([4.0, 16.0])}
    given |= {"gradient": (0.0, 2.0), "gradient_errors": (0.1, 0.1)}
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9)
    candidate.x, candidate.y = 20.0, 22.0
    _write_shape(candidate, cube, MaskShape((20.0, 22.0), (0.1, 0.1), **(given | values)))
    return candidate


def test_ellipses_and_rotation_of_a_mask_are_on_the_sky(header):
    """The receding side is where the frequency is lower, and so the channel."""
    cube = sky(header)
    here, there = (cube.celestial.pixel_to_world(20.0, y) for y in (22.0, 23.0))
    along = here.position_angle(there).deg
    one = shaped(cube)
    assert (one.ell_maj, one.ell_min) == pytest.approx((5 * 2.3548, 3 * 2.3548), rel=1e-3)
    assert (one.ell3s_maj, one.ell3s_min) == pytest.approx((4 * 2.3548, 2 * 2.3548), rel=1e-3)
    assert one.ell_pa == pytest.approx(along % 180, abs=0.1) == one.ell3s_pa
    assert one.kin_pa == pytest.approx((along + 180) % 360, abs=0.1)
    assert one.err_kin_pa == pytest.approx(np.degrees(0.1 / 2.0))


def test_a_mask_has_on_the_sky_what_is_known_of_its_shape(header):
    cube = sky(header)
    for matrix, covariance in ((None, None), (None, np.eye(3)), (np.eye(2), None)):
        assert np.isnan(shaped(cube, matrix=matrix, covariance=covariance).ell_maj)
    assert np.isnan(shaped(cube, bright=None).ell3s_maj)
    assert np.isnan(shaped(cube, gradient=(0.0, 0.2)).kin_pa)  # of two sigma
    assert np.isnan(shaped(SimpleCube).ell_maj)
    header.remove("RESTFRQ")
    assert np.isnan(shaped(sky(header)).kin_pa)  # without velocities


def test_the_shape_of_a_mask_is_written_with_it(header):
    planes = np.full(SHAPE, 1e-3, np.float32)
    planes[48:52, 18:27, 18:23] = 30.0
    assert np.isfinite(row(WHOLE, planes, cube=replace(sky(header), data=planes)).ell_maj)


# --- boxes that the user draws ---


@pytest.mark.parametrize(("kind", "line"), [("line", (50.0, 8.0)), ("continuum", (50.0, 8.0)), ("line", (32.0, 80.0))])
def test_the_error_of_a_box_holds_that_of_the_subtracted_continuum(kind, line):
    """Of the mean of the channels that the line leaves, if it leaves any."""
    cube = Cube.from_array(np.ones(SHAPE, np.float32))
    candidate = Candidate(1, Box(15, 26, 16, 29), 0.9, kind=kind, channels=(45, 55))
    candidate.peaks = (EmissionPeak(round(line[0]), 1.0, 1.0, *line),)
    candidate.z = candidate.w50 = 5.0
    first, last = candidate.peaks[0].emission_range(64)
    free = 64 - (last - first)
    as_box(candidate, cube, Cutout(cube.read(), (0, 0), white(64)), white(64))
    of_continuum = 10**2 / free if kind == "line" and free else 0
    assert candidate.err_f_sum == pytest.approx(np.sqrt(11 * 13 * (10 + of_continuum)))
    assert candidate.n_pix == 10 * 11 * 13
    assert np.isnan([candidate.z, candidate.w50]).all() == (kind == "continuum")


def test_the_noise_about_a_box_is_sampled_by_the_beam_or_by_four_pixels(monkeypatch, header):
    asked = []
    level = np.ones(SHAPE[1:])
    monkeypatch.setattr(catalogue_row, "level_of", lambda cutout, beam: asked.append(beam) or level)
    for cube in (Cube.from_array(np.ones(SHAPE, np.float32)), sky(header, Beam(6 * u.arcsec))):
        candidate = Candidate(1, Box(15, 26, 16, 29), 0.9, kind="line", channels=(45, 55))
        as_box(candidate, cube, Cutout(cube.read(), (0, 0), white(64)), white(64))
    assert asked == pytest.approx([4.0, 6.0], rel=1e-3)
