"""Whether a dirty beam may be estimated from a cube: dirty ones, CLEANed ones and smoothed ones, and their headers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from astropy.io import fits
from scipy import ndimage

from napari_almadet.detection import load_networks
from napari_almadet.search.beam_decision import (
    BeamDecision,
    after_search,
    brightest,
    by_header,
    cleaned_by,
    decide,
    lobe_axes,
    may_be_dirty,
    may_be_smoothed,
    nothing_bright,
    passes_smoothed,
    settled,
    verdict,
)
from napari_almadet.search.clean import NoiseCorrected, fainter_than
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.pipeline import search_window
from napari_almadet.search.sidelobes import KnownBeam, subtract_sidelobes
from napari_almadet.search.smoothed_beam import SmoothedBeam, smoothed_beam
from napari_almadet.search.windows import Window
from napari_almadet.settings import Settings

SIDE, CHANNELS = 96, 40
SHARE = 0.3  # of the sidelobes, which a shallow CLEAN leaves
PASSED = {"filled": 0.5, "lobe": [1.0, 1.0], "slope": 1.0, "err_slope": 0.05, "explained": 0.6, "visible": 0.1}


def coverage(seed: int = 1, tracks: int = 160, dense: bool = False) -> np.ndarray:
    """Density of visibilities on the grid of `numpy.fft.rfft2`: tracks at random, point symmetric by being real.

    ``dense`` in the middle, as that of an array, or the same everywhere.
    """
    rng = np.random.default_rng(seed)
    cells = np.zeros((2 * SIDE, SIDE + 1))
    for _ in range(tracks):
        radius, angle = 34 * np.sqrt(rng.uniform()), rng.uniform(-np.pi / 2, np.pi / 2)
        if dense:
            radius = min((10 if rng.uniform() < 0.3 else 24) * np.sqrt(-2 * np.log(rng.uniform())), 80)
        cells[round(radius * np.sin(angle)) % (2 * SIDE), round(radius * np.cos(angle))] += 1
    return ndimage.gaussian_filter(cells, 0.7, mode="wrap")


def smoothed_coverage() -> np.ndarray:
    return coverage(2, 1200, dense=True)


def psf_of(density: np.ndarray) -> np.ndarray:
    psf = np.fft.irfft2(density)
    return psf / psf[0, 0]


def fitted_beam(psf: np.ndarray) -> np.ndarray:
    """Covariance of the round Gaussian as wide as the main lobe."""
    return np.eye(2) * float(np.prod(lobe_axes(torch.from_numpy(psf)))) / 2.3548**2


def planes(kind: str, snr: float = 60) -> tuple[np.ndarray, np.ndarray, float]:
    """A cube with two bright points, the header's beam, and its FWHM; also CLEANed, deeply or not, and smoothed."""
    density = smoothed_coverage() if kind == "smoothed dirty" else coverage()
    psf = psf_of(density)
    beam = fitted_beam(psf)
    fwhm = 2.3548 * float(np.sqrt(beam[0, 0]))
    rng = np.random.default_rng(3)
    white = np.fft.rfft2(rng.standard_normal((CHANNELS, 2 * SIDE, 2 * SIDE)))
    noise = np.fft.irfft2(white * np.sqrt(density))[:, :SIDE, :SIDE]
    noise /= noise.std()
    lag = np.fft.fftfreq(2 * SIDE, 1 / (2 * SIDE))
    clean = np.exp(-0.5 * (lag[:, None] ** 2 + lag**2) / beam[0, 0])
    response = {"dirty": psf, "smoothed dirty": psf, "shallow": clean + SHARE * (psf - clean)}.get(kind, clean)
    line = np.exp(-0.5 * ((np.arange(CHANNELS) - 20) / 3) ** 2)
    line /= np.linalg.norm(line)
    data = noise
    for y, x, share in ((40, 44, 1.0), (66, 60, 0.6)):
        moved = np.roll(response, (y, x), (0, 1))[:SIDE, :SIDE]
        data = data + share * snr * line[:, None, None] * moved
    if kind.startswith("smoothed"):
        data = ndimage.gaussian_filter(data, (0, *(2 * [float(np.sqrt(beam[0, 0]))])))
        beam = 2 * beam
    return data.astype(np.float32), beam, fwhm


def decided(kind: str, snr: float = 60) -> BeamDecision:
    data, beam, fwhm = planes(kind, snr)
    return decide(in_noise_units(torch.from_numpy(data), fwhm), fwhm, beam)


def test_a_dirty_cube_with_bright_points_is_dirty():
    decision = decided("dirty")
    assert (decision.beam, decision.rule) == ("dirty", "estimated")
    assert decision.values["slope"] == pytest.approx(1, abs=0.2)
    assert decision.as_dict()["lobe"] == pytest.approx([1, 1], abs=0.09)


@pytest.mark.parametrize("kind", ["cleaned", "smoothed"])
def test_a_cleaned_or_smoothed_cube_is_clean(kind):
    decision = decided(kind)
    assert not decision.dirty
    assert decision.rule in ("slope", "unexplained", "lobe", "invisible")


def smoothed_psf() -> tuple[np.ndarray, np.ndarray]:
    """The dirty beam of a smoothed cube in units of its beam, that beam, whose kernel has half of its covariance."""
    psf = psf_of(smoothed_coverage())
    beam = fitted_beam(psf)
    kernel = ndimage.fourier_gaussian(np.fft.rfft2(psf), float(np.sqrt(beam[0, 0])), n=2 * SIDE)
    return 2 * np.fft.irfft2(kernel, s=psf.shape), 2 * beam


def test_the_beam_of_a_smoothed_dirty_cube_is_derived_from_its_noise():
    data, beam, fwhm = planes("smoothed dirty", snr=0)
    natural = NoiseCorrected(in_noise_units(torch.from_numpy(data), fwhm * 2**0.5), fwhm * 2**0.5).noise[0]
    true, _ = smoothed_psf()
    found = smoothed_beam(natural, beam)
    assert found is not None
    assert found.peak == pytest.approx(true[0, 0], rel=0.05)
    assert found.axes == pytest.approx(2 * [fwhm], rel=0.1)
    lag = np.fft.fftfreq(2 * SIDE, 1 / (2 * SIDE))
    near = np.hypot(lag[:, None], lag) < 4 * fwhm
    error = (found.psf.numpy() - true / true[0, 0])[near]
    as_noise = (natural.numpy() - true / true[0, 0])[near]
    assert np.sqrt(np.mean(error**2)) < 0.4 * np.sqrt(np.mean(as_noise**2))


def test_a_kernel_that_is_a_line_has_one_width():
    axes = SmoothedBeam(torch.ones(1, 1), 1.0, np.diag([2.0, -1e-17])).axes
    np.testing.assert_allclose(axes, [np.sqrt(2) * 2.3548, 0], rtol=1e-4)


def test_white_noise_has_no_beam_before_smoothing():
    white = torch.zeros(2 * SIDE, 2 * SIDE)
    white[0, 0] = 1
    assert smoothed_beam(white, np.eye(2) * 4.0) is None


def test_a_dirty_cube_that_was_smoothed_is_dirty_and_its_fluxes_are_right():
    data, beam, fwhm = planes("smoothed dirty", snr=150)
    fwhm *= 2**0.5
    raw = in_noise_units(torch.from_numpy(data), fwhm)
    window = Window(0, 0, data.shape[1:], (slice(0, SIDE), slice(0, SIDE)), 1)
    clean = subtract_sidelobes(raw, window, KnownBeam(fwhm, beam))
    assert clean.decision is not None
    assert (clean.decision.beam, clean.decision.rule) == ("dirty", "smoothed")
    assert "was smoothed" in clean.decision.after_subtracting(1.0).values["note"]
    left = clean.units.cube[20].numpy() / raw.cube[20].numpy().max()
    lag = np.arange(SIDE)
    ideal = np.exp(-0.5 * ((lag[:, None] - 40) ** 2 + (lag - 44) ** 2) / beam[0, 0]) / smoothed_psf()[0][0, 0]
    apart = np.hypot(lag[:, None] - 40, lag - 44) < 1.2 * fwhm
    assert left[apart].sum() == pytest.approx(ideal[apart].sum(), rel=0.06)


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, True),
        ({"slope": 0.74}, False),
        ({"slope": 0.75}, True),
        ({"slope": 1.41}, False),
        ({"err_slope": 0.26}, False),
        ({"explained": 0.49}, False),
        ({"explained": 0.5}, True),
        ({"visible": 0.029}, False),
        ({"peak": 0.89}, False),
        ({"peak": 1.31}, False),
    ],
)
def test_a_smoothed_dirty_beam_passes_its_own_tests(changed, passes):
    assert passes_smoothed({**PASSED, "peak": 1.05, **changed}) == passes


@pytest.mark.parametrize(
    ("lobe", "may_be"), [([1.2, 1.1], True), ([1.2, 0.93], True), ([1.2, 0.9], False), ([1.09, 1.09], False)]
)
def test_a_smoothed_cube_has_noise_with_a_wide_lobe(lobe, may_be):
    assert may_be_smoothed(lobe) == may_be


def test_a_cube_without_a_bright_source_needs_no_decision():
    decision = decided("dirty", snr=3)
    assert (decision.beam, decision.rule) == ("clean", "nothing bright")


@pytest.mark.parametrize("gradient", [2.0, 3.0])
def test_a_cloud_larger_than_the_field_shows_no_dirty_beam(gradient):
    data, beam, fwhm = planes("cleaned", snr=1)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    line = np.exp(-0.5 * ((np.arange(CHANNELS) - 20) / 3) ** 2)
    data += (200 * (1 + gradient * (y - 0.5 + 0.3 * (x - 0.5))) * line[:, None, None]).astype(np.float32)
    decision = decide(in_noise_units(torch.from_numpy(data), fwhm), fwhm, beam)
    assert (decision.beam, decision.rule) == ("clean", "filled")
    assert not decision.doubtful


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({}, "estimated"),
        ({"filled": 1.0}, "estimated"),
        ({"filled": 1.1}, "filled"),
        ({"lobe": [1.09, 0.92]}, "estimated"),
        ({"lobe": [1.10, 1.0]}, "lobe"),
        ({"lobe": [1.0, 0.9]}, "narrow lobe"),
        ({"lobe": [0.81, 0.9], "explained": 0.5}, "narrow lobe"),
        ({"lobe": [1.0, 0.9], "explained": 0.49}, "lobe"),
        ({"lobe": [0.79, 0.9]}, "lobe"),
        ({"lobe": [1.10, 0.9]}, "lobe"),
        ({"lobe": [0.9, 0.9], "slope": 0.59}, "slope"),
        ({"lobe": [np.nan, 1.0]}, "lobe"),
        ({"visible": 0.029}, "invisible"),
        ({"visible": 0.03}, "estimated"),
        ({"slope": 0.59}, "slope"),
        ({"slope": 0.6}, "estimated"),
        ({"slope": 1.41}, "slope"),
        ({"err_slope": 0.26}, "slope"),
        ({"explained": 0.19}, "unexplained"),
        ({"explained": 0.2}, "estimated"),
    ],
)
def test_each_test_has_its_limit(changed, rule):
    assert verdict({**PASSED, **changed}) == ("dirty" if rule == "estimated" else "clean", rule)


@pytest.mark.parametrize(("rule", "subtracted", "measured_as_is"), [("narrow lobe", True, True), ("lobe", False, True)])
def test_sidelobes_of_an_inexact_beam_are_subtracted_for_the_search_and_not_for_the_fluxes(
    rule, subtracted, measured_as_is
):
    data, beam, fwhm = planes("dirty")
    decision = BeamDecision("clean", rule, {})
    window = Window(0, 0, data.shape[1:], (slice(0, SIDE), slice(0, SIDE)), 1)
    raw = in_noise_units(torch.from_numpy(data), fwhm)
    known = KnownBeam(fwhm, beam, decision=decision)
    clean = subtract_sidelobes(raw, window, known)
    assert bool((clean.units.cube != raw.cube).any()) == subtracted
    assert clean.subtracted == subtracted
    _, detections, *_ = search_window(raw, window, known, load_networks(Settings()))
    assert len(detections) >= 2
    assert all((detection.window.sidelobes is None) == measured_as_is for detection in detections)


def test_the_user_has_the_last_word():
    assert settled("auto") is None
    assert settled("dirty").dirty
    assert not settled("clean").dirty
    assert settled("/data/beam.fits") == BeamDecision("dirty", "given", {"psf": "/data/beam.fits"})


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ("tclean niter = 1000 gain=0.1", "niter = 1000"),
        ("niter=0", ""),
        ("taskname=imsmooth", "imsmooth"),
        ("RESTOR: Miriad restor", "RESTOR:"),
        ("hanningsmooth of the visibilities", ""),
        ("", ""),
    ],
)
def test_headers_tell_of_clean_and_smoothing(history, said):
    header = fits.Header()
    header["HISTORY"] = history
    cube = SimpleNamespace(header=header, beam=object())
    assert cleaned_by(cube) == said
    decision = by_header(cube)
    assert (decision is None) == (not said)


def test_a_cube_without_a_beam_is_taken_as_it_is():
    assert by_header(SimpleNamespace(header=None, beam=None)).rule == "no beam"


def test_of_several_windows_the_brightest_source_decides():
    dirty = BeamDecision("dirty", "estimated", {"snr": 80.0})
    clean = BeamDecision("clean", "slope", {"snr": 30.0})
    assert brightest([clean, None, dirty]) is dirty
    assert brightest([None]) == nothing_bright(0.0)


def outside(cube: torch.Tensor, fwhm: float) -> float:
    """Rms over the noise of the line of :func:`planes`, away from both points."""
    line = torch.exp(-0.5 * ((torch.arange(CHANNELS) - 20) / 3) ** 2)
    image = torch.einsum("c,cyx->yx", line / line.norm(), cube)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    far = ((y - 40) ** 2 + (x - 44) ** 2 > (2 * fwhm) ** 2) & ((y - 66) ** 2 + (x - 60) ** 2 > (2 * fwhm) ** 2)
    return float(image[far].std())


def stopped_clean(depth: float, line: float = 9.0, continuum: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """A cube with two points, a line over a continuum, that was CLEANed down to some depth, and as if all the way."""
    data, beam, _ = planes("cleaned", snr=0)
    psf, lag = psf_of(coverage()), np.fft.fftfreq(2 * SIDE, 1 / (2 * SIDE))
    clean = np.exp(-0.5 * (lag[:, None] ** 2 + lag**2) / beam[0, 0])
    spectrum = continuum + line * np.exp(-0.5 * ((np.arange(CHANNELS) - 20) / 3) ** 2)
    left = deep = data.astype(float)
    for y, x, share in ((40, 44, 1.0), (66, 60, 0.7)):
        dirty, as_clean = (np.roll(image, (y, x), (0, 1))[:SIDE, :SIDE] for image in (psf, clean))
        own = share * spectrum[:, None, None]
        deep = deep + own * as_clean
        left = left + own * as_clean + np.minimum(own, depth) * (dirty - as_clean)
    return left.astype(np.float32), deep.astype(np.float32)


@pytest.mark.parametrize("sign", [1, -1])
def test_of_a_partly_cleaned_cube_only_the_sidelobes_of_what_clean_left_are_subtracted(sign):
    depth = 5.0
    left, deep = stopped_clean(depth)
    _, beam, fwhm = planes("cleaned", snr=0)
    raw = in_noise_units(torch.from_numpy(sign * left), fwhm)
    window = Window(0, 0, (SIDE, SIDE), (slice(0, SIDE), slice(0, SIDE)), 1)
    seen = subtract_sidelobes(raw, window, KnownBeam(fwhm, beam), negated=sign < 0)
    assert (seen.decision.beam, seen.decision.rule) == ("dirty", "partly cleaned")
    assert seen.decision.depth == pytest.approx(depth, rel=0.25)
    assert 0.6 < seen.subtracted < 0.95
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([40, 44])[:, None, None]
    shoulder = (np.hypot(x, y) > 0.8 * fwhm) & (np.hypot(x, y) < 3 * fwhm)
    stack = np.ones(CHANNELS)
    line = np.exp(-0.5 * ((np.arange(CHANNELS) - 20) / 3) ** 2)

    def error(cube: np.ndarray, weights: np.ndarray) -> float:
        return float(np.abs(np.tensordot(weights, cube - deep, 1)[shoulder]).mean())

    made = left - sign * seen.window.sidelobes_in((0, 0), (SIDE, SIDE))
    assert error(made, stack) < 0.3 * error(left, stack)
    # a line without its continuum: all sidelobes would be too many, as of a dirty cube
    too_many = deep + left - stopped_clean(np.inf)[0]
    assert error(made, line - line.mean()) < 0.3 * error(too_many, line - line.mean())
    record = after_search(seen.decision, [(seen.decision, seen.subtracted)]).as_dict()
    assert record["subtracted_for"] == "search and measurement"
    assert record["note"].startswith(f"The cube was CLEANed only down to about {seen.decision.depth:.1f} times its")


def test_a_cube_is_partly_cleaned_only_if_a_level_explains_more_than_a_share():
    """What is left of a bright line is cut off at a level, not a share of it, as an inexact dirty beam would leave."""
    assert decided("dirty", 30).rule == "estimated"
    assert decided("dirty", 30).depth == np.inf
    left, _ = stopped_clean(np.inf)
    _, beam, fwhm = planes("cleaned", snr=0)
    assert decide(in_noise_units(torch.from_numpy(left), fwhm), fwhm, beam).rule == "estimated"
    deep = stopped_clean(0)[1]
    share = deep + 0.8 * (left - deep)
    assert decide(in_noise_units(torch.from_numpy(share), fwhm), fwhm, beam).rule == "estimated"


def test_errors_of_a_dirty_beam_are_no_sign_of_a_depth():
    """A level that explains sidelobes better by a thousandth than a share of them is due to an inexact beam."""
    cut, whole = (stopped_clean(depth)[0] for depth in (5.0, np.inf))
    _, beam, fwhm = planes("cleaned", snr=0)

    def rule(factor: float, share: float) -> str:
        cube = factor * (whole + share * (cut - whole))
        field = replace(in_noise_units(torch.from_numpy(whole), fwhm), cube=torch.from_numpy(cube.astype(np.float32)))
        return decide(field, fwhm, beam).rule

    assert rule(1, 1) == rule(10, 1) == "partly cleaned"
    assert rule(10, 0.05) == "estimated"


def test_what_is_fainter_than_the_depth_is_left_of_components_together():
    spectra = torch.tensor([[2.0, 6.0, -8.0], [2.0, 6.0, 0.0]])
    beside = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(fainter_than(np.inf, spectra, beside), spectra)
    left = fainter_than(4.0, spectra, torch.eye(2))
    np.testing.assert_allclose(left, [[2, 4, -4], [2, 4, 0]])
    np.testing.assert_allclose(fainter_than(4.5, spectra, beside), [[2, 3, -4.5], [2, 3, 0]])


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_what_a_shallow_clean_leaves_of_the_sidelobes_is_subtracted_for_the_search_only(header, sign):
    data, beam, fwhm = planes("shallow", snr=200)
    raw = in_noise_units(torch.from_numpy(sign * data), fwhm)
    decision = BeamDecision("clean", "header", {"says": "niter=200"}) if header else None
    window = Window(0, 0, (SIDE, SIDE), (slice(0, SIDE), slice(0, SIDE)), 1)
    clean = subtract_sidelobes(raw, window, KnownBeam(fwhm, beam, decision=decision), negated=sign < 0)
    assert clean.window.sidelobes is None  # fluxes are measured in the cube as it is
    assert not clean.dirty
    assert clean.decision.rule == ("header" if header else "slope")
    if not header:
        assert clean.decision.remaining == pytest.approx(SHARE, abs=0.05)
    excess = [np.sqrt(max(outside(cube, fwhm) ** 2 - 1, 0)) for cube in (raw.cube, clean.units.cube)]
    assert excess[0] > 1
    assert excess[1] < excess[0] / 2
    record = after_search(decision or clean.decision, [(None, 0.0), (clean.decision, clean.subtracted)]).as_dict()
    assert record["subtracted"] == pytest.approx(SHARE, abs=0.05)
    assert record["slope"] == pytest.approx(SHARE, abs=0.05)  # the number that it was decided by
    assert record["subtracted_for"] == "search"
    assert record.get("says") == ("niter=200" if header else None)


def test_a_record_says_of_which_sidelobes_how_much_was_subtracted_and_for_what():
    slope, told = BeamDecision("clean", "slope", PASSED | {"slope": 0.3}), BeamDecision("dirty", "told", {})
    seen = after_search(slope, [(slope, 0.0), (slope, 0.3)])  # in one of two windows there is a bright source
    assert seen.as_dict() | {"note": ""} == slope.as_dict() | {
        "subtracted": 0.3,
        "subtracted_for": "search",
        "note": "",
    }
    assert seen.values["note"].startswith("30% of the sidelobes of bright sources")
    assert after_search(slope, []).as_dict() == slope.as_dict() | {"subtracted": 0.0}
    narrow = after_search(BeamDecision("clean", "narrow lobe", {}), [(None, 1.0)])
    assert narrow.values["note"].startswith("The sidelobes of bright sources")
    dirty = after_search(told, [(told, 1.0)]).as_dict()
    assert dirty == told.as_dict() | {"subtracted": 1.0, "subtracted_for": "search and measurement"}
    assert after_search(told, [(told, 0.0)]).values["note"].startswith("No sidelobes were subtracted")


def test_a_cube_said_to_be_cleaned_that_shows_its_sidelobes_is_warned_of():
    data, beam, fwhm = planes("dirty")
    raw = in_noise_units(torch.from_numpy(data), fwhm)
    decision = BeamDecision("clean", "header", {"says": "niter=20"})
    window = Window(0, 0, (SIDE, SIDE), (slice(0, SIDE), slice(0, SIDE)), 1)
    seen = subtract_sidelobes(raw, window, KnownBeam(fwhm, beam, decision=decision))
    assert seen.decision.doubtful
    assert "its header says that it was CLEANed or smoothed (niter=20)" in may_be_dirty(seen.decision)
    assert not decision.doubtful  # where nothing shows sidelobes


@pytest.mark.parametrize(
    ("rule", "changed", "remaining"),
    [
        ("slope", {"slope": 0.3}, 0.3),
        ("slope", {"slope": 0.19}, 0.0),  # less than four errors
        ("slope", {"slope": 1.5}, 0.0),  # more than a dirty cube shows: something else
        ("slope", {"slope": 0.3, "visible": 0.02}, 0.0),
        ("lobe", {"slope": 0.3}, 0.0),  # smoothed: the noise has another shape
        ("remaining", {"slope": 0.8}, 0.8),  # a header says that it was CLEANed
        ("remaining", {"slope": 1.2}, 1.0),
    ],
)
def test_how_much_remains_is_known_where_bright_sources_show_it(rule, changed, remaining):
    assert BeamDecision("clean", rule, PASSED | changed).remaining == remaining
