"""Simulated fields for Source Finder, against analytic images and SNRs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.stats import gaussian_sigma_to_fwhm

from napari_almadet.search.components import gaussian
from napari_almadet.search.line_maps import MAPS, line_maps, stack_snr
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.cleaning import CleanRun
from napari_almadet.training.fields import (
    COLUMNS,
    EMPTY,
    SIDE,
    Fields,
    Instrument,
    Mix,
    Source,
    blemish,
    cleaned,
    covariance,
    draw_absorption,
    draw_field,
    draw_observation,
    draw_smoothing,
    draw_sources,
    emission,
    noise_window,
    phase_errors,
    simulate_field,
    source_image,
    targets,
    truth_row,
    write_fields,
)

BEAM = 4.0
POINT = covariance(1e-3, 1e-3, 0)


@pytest.fixture(scope="module")
def round_beam() -> torch.Tensor:
    return torch.fft.rfft2(gaussian((2 * SIDE, 2 * SIDE), BEAM))


@pytest.fixture(scope="module")
def instrument(round_beam) -> Instrument:
    power = torch.fft.rfft2(gaussian((2 * SIDE, 2 * SIDE), BEAM)).real.clamp(min=0)
    white = torch.randn(1, 32, 2 * SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(0))
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * power.sqrt(), s=(2 * SIDE, 2 * SIDE))
    return Instrument(round_beam, CleanBeam(BEAM, BEAM, 0.0), (noise / noise.std()).half().numpy())


def test_a_source_is_a_gaussian_as_wide_as_beam_and_source_together(round_beam):
    shape = covariance(5.0, 3.0, 30.0)
    image = source_image(round_beam, np.array([40.3, 51.8]), shape).numpy()
    total = np.linalg.inv(shape + covariance(BEAM, BEAM, 0))
    offset = np.moveaxis(np.indices((SIDE, SIDE)), 0, -1) - (40.3, 51.8)
    expected = np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", offset, total, offset))
    np.testing.assert_allclose(image, expected, atol=2e-3)


def test_position_angle_runs_from_north_to_east():
    """East is left: at 45 degrees the major axis goes from the lower right to the upper left."""
    assert covariance(5.0, 2.0, 45.0)[0, 1] < 0
    np.testing.assert_allclose(covariance(5.0, 2.0, 90.0)[1, 1], (5 / 2.3548) ** 2, rtol=1e-4)


def test_snrs_are_those_asked_for(round_beam):
    """In the stack and with the filter matched to the line, of a source in the middle of a pixel."""
    source = Source(np.array([40.0, 50.0]), POINT, 12.0, 9.0, 15.0, 5.0)
    cube = emission(source, round_beam, 32)
    middle = cube[:, 40, 50].numpy()
    line = np.exp(-0.5 * ((np.arange(32) - 15) / (5 / 2.3548)) ** 2)
    stack_of_line = 9 * line.sum() / np.linalg.norm(line) / np.sqrt(32)
    assert middle.sum() / np.sqrt(32) == pytest.approx(12 + stack_of_line, rel=0.1)
    assert (middle - 12 / np.sqrt(32)) @ line / np.linalg.norm(line) == pytest.approx(9, rel=0.01)


def test_a_rotating_source_moves_along_its_major_axis(round_beam):
    cube = emission(Source(np.array([40.0, 50.0]), covariance(12.0, 3.0, 0.0), 0, 20, 15, 4, 3.0), round_beam, 32)
    y = torch.arange(SIDE, dtype=torch.float32)
    low, high = (float((cube[c].sum(dim=1) * y).sum() / cube[c].sum()) for c in (11, 19))
    assert abs(high - low) > 4


def test_noise_windows_have_unit_noise_and_differ(instrument):
    rng = np.random.default_rng(1)
    one, other = (noise_window(rng, instrument.noise, 24) for _ in range(2))
    assert one.shape == (24, SIDE, SIDE)
    assert float(one.std()) == pytest.approx(1, rel=0.05)
    assert not torch.equal(one, other)


def test_phase_errors_leave_the_peak_and_scatter_the_rest(round_beam):
    n = 2 * SIDE
    wrong = torch.fft.irfft2(phase_errors(np.random.default_rng(0), round_beam), s=(n, n))
    assert 0.7 < float(wrong[0, 0]) < 1
    assert float(wrong[8:20, 8:20].abs().max()) > 1e-3


def test_fields_show_their_sources(instrument, monkeypatch):
    monkeypatch.setattr("napari_almadet.training.fields.CHANNELS", 32)
    rng = np.random.default_rng(5)
    seen = []
    while len(seen) < 12:
        field = simulate_field(rng, instrument)
        truth = field.sources
        assert truth.shape == (len(truth), len(COLUMNS) - 1)
        units = in_noise_units(field.cube, field.beam)
        stack, lines = stack_snr(units), line_maps(units).snr
        for y, x, _, _, snr_stack, snr_line, *_ in truth:
            if max(snr_stack, snr_line) > 10:
                place = tuple(np.rint((y, x)).astype(int).clip(0, SIDE - 1))
                seen.append(float(max(stack[place], lines[place])) > 4)
    assert np.mean(seen) > 0.9


def test_blemishes_are_blank_where_they_say():
    rng = np.random.default_rng(2)
    for _ in range(20):
        cube, blank = blemish(rng, torch.ones(8, SIDE, SIDE))
        assert torch.isnan(cube[4][torch.from_numpy(blank)]).all()
        assert torch.isfinite(cube[4][torch.from_numpy(~blank)]).all()


def test_observations_have_the_beams_the_search_averages_to():
    for seed in range(4):
        beam = draw_observation(np.random.default_rng(seed), paper=seed < 2).clean_beam
        assert 2.2 < np.sqrt(beam.major * beam.minor) < 6.5


def test_empty_fields_are_among_them():
    rng = np.random.default_rng(0)
    counts = [len(draw_sources(rng, BEAM, 128, EMPTY)) for _ in range(200)]
    assert 0.05 < np.mean(np.array(counts) == 0) < 0.3
    assert max(counts) == 6
    assert not any(len(draw_sources(rng, BEAM, 128, 1.0)) for _ in range(10))


def test_targets_hold_centre_offset_and_size():
    source = [40.3, 51.8, 2.0, 3.0, 10.0, 0.0, 0, 0]
    made = targets(np.array([source], np.float32), np.ones((SIDE, SIDE), np.float32))
    assert np.unravel_index(made[0].argmax(), made[0].shape) == (40, 52)
    np.testing.assert_allclose(made[:, 40, 52], [1, 0.3, -0.2, np.log(2), np.log(3), 1], atol=1e-5)


def test_faint_sources_are_neither_asked_for_nor_punished():
    rows = np.array([[20, 20, 2, 2, 1.0, 1.0, 0, 0], [60, 60, 2, 2, 9.0, 0.0, 0, 0]], np.float32)
    made = targets(rows, np.ones((SIDE, SIDE), np.float32))
    assert made[5, 20, 20] == 0
    assert made[0, 20, 20] < 0.01
    assert made[0, 60, 60] == made[5, 60, 60] == 1


def test_files_are_the_same_for_the_same_seed_and_shown_turned(tmp_path, instrument, monkeypatch):
    monkeypatch.setattr("napari_almadet.training.fields.instrument", lambda rng, paper: instrument)
    monkeypatch.setattr("napari_almadet.training.fields.FIELDS", 2)
    monkeypatch.setattr("napari_almadet.training.fields.CHANNELS", 32)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, again = (np.load(write_fields(tmp_path / name, "train", 0)) for name in ("a", "b"))
    np.testing.assert_array_equal(first["maps"], again["maps"])
    fields = Fields(tmp_path / "a", "train", seed=1)
    assert len(fields) == 2
    torch.manual_seed(1)
    for _ in range(6):
        images, target = fields[0]
        assert images.shape == (len(MAPS), SIDE, SIDE)
        centre = np.argwhere(target[0].numpy() == 1)
        stack = images[0].numpy()
        for y, x in centre:  # a source shines where the turned target says
            around = stack[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            lines = images[2].numpy()[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            assert max(around.max(), lines.max()) > np.arcsinh(1.0)


def test_all_skies_are_drawn():
    rng = np.random.default_rng(0)
    beam = CleanBeam(BEAM, BEAM, 0.0)
    drawn = [draw_field(rng, beam, 32, 0.0) for _ in range(60)]
    kinds = {one.emission.kind for _, resolved in drawn for one in resolved}
    assert kinds == {"galaxy", "cloud"}
    assert any(source.snr_line < 0 for sources, _ in drawn for source in sources)
    assert any(source.slope for sources, _ in drawn for source in sources)
    assert draw_field(rng, beam, 32, 1.0) == ([], [])


def test_absorption_takes_no_more_than_there_is(round_beam):
    rng = np.random.default_rng(1)
    for _ in range(5):
        for source in draw_absorption(rng, BEAM, 32):
            cube = emission(source, round_beam, 32)
            y, x = np.rint(source.centre).astype(int)
            assert cube[:, y, x].min() > -0.05 * cube[:, y, x].max()


def test_smoothing_leaves_noise_of_one_and_tells_the_new_snr(instrument):
    rng = np.random.default_rng(0)
    source = Source(np.array([48.0, 48.0]), POINT, 200.0, 0.0, 0, 1)
    noise = noise_window(rng, instrument.noise, 16)
    quiet = emission(source, instrument.response, 16)
    smoothing = draw_smoothing(np.random.default_rng(3), instrument)
    assert smoothing.beam.fwhm > BEAM
    cube, alone = smoothing(quiet + noise), smoothing(noise)
    inside = slice(16, -16)
    assert float(alone[:, inside, inside].std()) == pytest.approx(1, rel=0.06)
    row = truth_row(source, instrument.clean_beam, smoothing.beam, smoothing.noise)
    peak = float((cube - alone)[:, 48, 48].sum()) / np.sqrt(16)
    assert row[4] == pytest.approx(peak, rel=0.03)


def test_clean_takes_the_sidelobes_of_a_field(instrument):
    """A beam with a ring of 30 % about it, of which little is left where the components are."""
    n = 2 * SIDE
    y, x = np.indices((n, n)) - SIDE
    ring = 0.3 * np.exp(-0.5 * ((np.hypot(y, x) - 20) / 2) ** 2)
    main = np.fft.fftshift(torch.fft.irfft2(instrument.response, s=(n, n)).numpy())
    response = torch.fft.rfft2(torch.from_numpy(np.fft.ifftshift(main + ring).astype(np.float32)))
    ringed = replace(instrument, response=response)
    cube = emission(Source(np.array([48.0, 48.0]), POINT, 400.0, 0.0, 0, 1), response, 4)
    after = cleaned(cube, ringed, CleanRun(500, 3.0, 0.1))
    assert float(cube[0, 48, 68]) > 40
    assert abs(float(after[0, 48, 68])) < 6
    assert float(after[0, 48, 48]) == pytest.approx(float(cube[0, 48, 48]), rel=0.05)


def test_between_the_leaves_of_a_cloud_nothing_is_asked(tmp_path):
    between = np.zeros((1, SIDE, SIDE), bool)
    between[0, :20, :10] = True
    maps = np.ones((1, len(MAPS), SIDE, SIDE), np.float16)
    np.savez(tmp_path / "train-0.npz", maps=maps, sources=np.zeros((0, len(COLUMNS))), between=between)
    _, target = Fields(tmp_path, "train", seed=1, augment=False)[0]
    assert not target[5, :20, :10].any()
    assert target[5, 20:].all()
    weights = [float((1 - Fields(tmp_path, "train", seed=1)[0][1][5]).sum()) for _ in range(4)]
    assert weights == [200] * 4
    np.savez(tmp_path / "train-0.npz", maps=maps, sources=np.zeros((0, len(COLUMNS))))
    with pytest.raises(ValueError, match="older version"):
        Fields(tmp_path, "train", seed=1)


@pytest.mark.parametrize(
    ("effect", "smoothed", "is_dirty"), [("none", 0, True), ("clean", 0, False), ("none", 1, False)]
)
@pytest.mark.parametrize("told", [0.0, 1.0])
def test_a_field_is_searched_with_what_a_user_or_a_header_may_say_of_its_beam(
    instrument, monkeypatch, effect, smoothed, is_dirty, told
):
    monkeypatch.setattr("napari_almadet.training.fields.CHANNELS", 32)
    monkeypatch.setattr("napari_almadet.training.fields.EFFECTS", {effect: 1.0})
    monkeypatch.setattr("napari_almadet.training.fields.SHORT_SPACINGS", 0.0)
    monkeypatch.setattr("napari_almadet.training.fields.USER_SAYS", told)
    monkeypatch.setattr("napari_almadet.training.fields.HEADER_SAYS", told)
    field = simulate_field(np.random.default_rng(3), instrument, empty=1.0, mix=Mix(smoothed=smoothed))
    assert field.known.fwhm == field.beam
    np.testing.assert_allclose(np.linalg.det(field.known.header) ** 0.25 * gaussian_sigma_to_fwhm, field.beam)
    if told:
        assert field.known.decision.dirty is is_dirty
        assert field.known.decision.rule == ("told" if is_dirty else "header")
    else:
        assert field.known.decision is None
