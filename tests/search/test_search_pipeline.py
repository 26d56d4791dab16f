"""The preset ``almadet`` from cube to candidates, with stand-ins for the networks whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u
from radio_beam import Beam

from napari_almadet import threads
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.cube.cube import Cube
from napari_almadet.detection import detect
from napari_almadet.progress import finish
from napari_almadet.remeasure import move
from napari_almadet.search.decisions import artefact_kind, classify, odds_for_field_area
from napari_almadet.search.features import encode
from napari_almadet.search.line_detection import find_lines_again, refined, resolutions
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.windows import Window
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observe import Imager, Observation

SMALL = Observation(size=120, n_channels=64, pixel=0.1)


def source_finder(maps: torch.Tensor) -> torch.Tensor:
    """A threshold of 6.5 on the higher of the stack's and the line's SNR; the size is a beam of four pixels."""
    snr = 2 * torch.sinh(torch.maximum(maps[:, 0], maps[:, 2]))
    answer = torch.zeros(len(maps), 5, *maps.shape[2:])
    answer[:, 0] = 2 * (snr - 6.5)
    answer[:, 3:] = float(np.log(4.2 / 2.3548))
    return answer


def line_finder(spectra: torch.Tensor) -> torch.Tensor:
    smooth = torch.nn.functional.avg_pool1d(spectra[:, None], 5, 1, 2)[:, 0] * 5**0.5
    return torch.sigmoid(smooth - 4)


# The place of the stacked S/N in the classifier's input.
STACKED = int(np.flatnonzero(encode([Features(snr_stacked=5)]) != encode([Features()]))[0])


def judge(measures: torch.Tensor) -> torch.Tensor:
    return measures[:, 0]  # believes Source Finder


def believes(measures: torch.Tensor) -> torch.Tensor:
    """Takes every patch of emission for real."""
    return measures[:, 0] * 0 + 3


NETWORKS = SearchNetworks(source_finder, line_finder, judge, believes)


def unsure(maps: torch.Tensor) -> torch.Tensor:
    """Sees the same places, but thinks of none that it is more likely a source than not."""
    answer = source_finder(maps)
    answer[:, 0] = -0.5 - 1.5 * torch.exp(-answer[:, 0] / 20)
    return answer


UNSURE = SearchNetworks(unsure, line_finder, judge, believes)


def planes(seed: int = 0, shape=(64, 120, 120)) -> np.ndarray:
    """Noise as a beam of eight pixels leaves it, of unit variance."""
    white = np.random.default_rng(seed).normal(size=shape)
    v, u = np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])
    image = np.fft.irfft2(
        np.fft.rfft2(white) * np.exp(-((np.pi * 8) ** 2) * (u**2 + v**2) / (8 * np.log(2))), shape[1:]
    )
    return (image / image.std()).astype(np.float32)


def add(
    cube: np.ndarray, y: float, x: float, snr: float, channel: float | None, fwhm: float = 6, size: float = 8
) -> np.ndarray:
    """Add a source of ``size`` px FWHM: in a line of matched SNR ``snr``, or in the continuum, ``snr`` in the stack."""
    n, ny, nx = cube.shape
    line = np.full(n, 1.0) if channel is None else np.exp(-4 * np.log(2) * ((np.arange(n) - channel) / fwhm) ** 2)
    iy, ix = np.indices((ny, nx))
    image = np.exp(-4 * np.log(2) * ((iy - y) ** 2 + (ix - x) ** 2) / size**2)
    return cube + (snr * line / np.linalg.norm(line))[:, None, None].astype(np.float32) * image.astype(np.float32)


def beam_cube(array: np.ndarray, fwhm: float = 8.0) -> Cube:
    """A cube whose header tells a round beam of so many pixels."""
    return replace(
        cube_of(simulate_cube(1, "empty", SMALL), "made"), data=array, beams=Beam(fwhm * SMALL.pixel * u.arcsec)
    )


def found(cube: Cube, networks: SearchNetworks = NETWORKS, **settings) -> list:
    return detect(cube, Settings(threshold=0.5, **settings), networks=networks).kept


def test_a_line_and_a_continuum_source_are_found_for_what_they_are():
    cube = add(add(planes(), 40, 80, 30, 20.0), 85, 30, 30, None)
    line, continuum = sorted(found(beam_cube(cube)), key=lambda c: c.y)
    assert (line.kind, continuum.kind) == ("line", "continuum")
    assert (line.x, line.y) == pytest.approx((80, 40), abs=1.1)
    assert line.z == pytest.approx(20, abs=0.3)
    assert line.primary.fwhm == pytest.approx(6, rel=0.15)
    assert line.channels == line.primary.emission_range(64)
    assert continuum.channels == (0, 64)
    assert (continuum.x, continuum.y) == pytest.approx((30, 85), abs=1.1)


def test_a_box_ends_at_a_tenth_of_the_peak():
    (line,) = found(beam_cube(add(planes(), 40, 80, 30, 20.0)))
    half = 4.2 * 2 / 2.3548 * np.sqrt(2 * np.log(10))  # what the stand-in says, in the cube's pixels
    height, width = line.box.shape
    assert abs(height - 2 * half) <= 1
    assert abs(width - 2 * half) <= 1
    assert line.box.centre == pytest.approx((line.y, line.x), abs=1)


@pytest.mark.parametrize("x", [60.0, 60.6, 61.2, 61.8])
def test_a_box_larger_than_a_crop_moves_with_its_source(x):
    (line,) = found(beam_cube(add(planes(), 40.4, x, 60, 20.0)), crop=12)
    assert max(line.box.shape) > 12
    assert (line.x, line.y) == pytest.approx((x, 40.4), abs=0.5)
    assert line.box.centre == pytest.approx((line.y, line.x), abs=1)
    assert line.f_sum > 0


def test_nothing_is_found_in_noise():
    detections = detect(beam_cube(planes(3)), Settings(threshold=0.9), networks=NETWORKS)
    assert detections.kept == []
    assert detections.probability.shape == (120, 120)


def test_a_shifted_cube_has_a_shifted_catalogue():
    """By whole blocks of averaged pixels and whole channels: nothing else changes."""
    cube = add(add(planes(5), 40, 80, 30, 20.0), 70, 34, 30, 40.0)
    moved = np.roll(cube, (3, 4, -6), axis=(0, 1, 2))
    for a, b in zip(*(sorted(found(beam_cube(c)), key=lambda c: c.y) for c in (cube, moved)), strict=True):
        assert (b.x - a.x, b.y - a.y) == pytest.approx((-6, 4), abs=0.01)
        assert b.z - a.z == pytest.approx(3, abs=0.1)
        assert (b.box.y0 - a.box.y0, b.box.x0 - a.box.x0) == (4, -6)


def test_the_unit_does_not_matter():
    cube = add(planes(6), 40, 80, 30, 20.0)
    for a, b in zip(found(beam_cube(cube)), found(beam_cube(cube * 1e-3)), strict=True):
        assert (a.box, a.channels, a.kind) == (b.box, b.channels, b.kind)
        assert b.f_sum == pytest.approx(a.f_sum * 1e-3, rel=1e-3)


def test_blank_borders_and_channels_hold_nothing():
    cube = add(planes(7), 60, 60, 30, 20.0)
    cube[:4] = np.nan
    cube[:, :, :30] = np.nan
    cube[:, :20] = 0
    (line,) = found(beam_cube(cube))
    assert (line.x, line.y) == pytest.approx((60, 60), abs=1.1)
    assert line.z == pytest.approx(20, abs=0.4)
    assert np.isnan(line.spectrum[:4]).all()


def test_a_cube_without_data_has_no_sources():
    cube = np.full((8, 40, 40), np.nan, np.float32)
    cube[:, :2, :2] = 1
    assert found(beam_cube(cube)) == []


def test_a_beam_no_header_tells_is_told_from_the_noise():
    cube = Cube.from_array(add(planes(8), 40, 80, 30, 20.0), name="bare")
    (line,) = found(cube)
    assert (line.x, line.y) == pytest.approx((80, 40), abs=1.1)


def test_every_candidate_says_why():
    detections = detect(beam_cube(add(planes(9), 40, 80, 30, 20.0)), Settings(threshold=0.5), networks=NETWORKS)
    for candidate in detections.candidates:
        assert candidate.reasons[0].startswith("found: S/N")
        assert any(r.startswith(("kept", "dropped")) for r in candidate.reasons)
        assert (candidate.status is Status.DROPPED) == (candidate.prob < 0.5)


def test_lines_can_be_required():
    cube = beam_cube(add(add(planes(10), 40, 80, 30, 20.0), 85, 30, 30, None))
    assert [c.kind for c in found(cube, require_line=True)] == ["line"]


def test_sidelobes_of_a_bright_source_are_not_sources():
    """A field of one source of SNR 100, whose sidelobes stand at up to 8 sigma in the stack."""
    simulated = simulate_cube(3, "empty", SMALL)
    y, x = np.indices((120, 120))
    sky = torch.from_numpy((np.hypot(y - 60, x - 60) < 0.5).astype(np.float32))[None]
    image = Imager(SMALL, band_ends=False).dirty(sky)[0].numpy()
    bright = image / image.max() * SMALL.noise * 100 / np.sqrt(64)
    cube = replace(cube_of(simulated, "bright"), data=simulated.dirty + bright)
    assert cube.data.sum(axis=0)[:40].max() / (SMALL.noise * 8) > 5
    (source,) = found(cube)
    assert (source.x, source.y) == pytest.approx((60, 60), abs=1.1)


def test_refined_line_is_the_dirty_spectrums():
    rng = np.random.default_rng(2)
    line = np.exp(-4 * np.log(2) * ((np.arange(100) - 41.3) / 7) ** 2)
    peak = refined(EmissionPeak(41, 0.9, 0.9, 40.5, 9.0), (20 * line + rng.normal(size=100)).astype(np.float32))
    assert peak.centre == pytest.approx(41.3, abs=0.3)
    assert peak.fwhm == pytest.approx(7, rel=0.1)


def test_a_fit_that_strays_is_not_taken():
    peak = EmissionPeak(41, 0.9, 0.9, 41.0, 5.0)
    assert refined(peak, np.zeros(100, np.float32)) == peak


@pytest.mark.parametrize(("n", "factors"), [(40, [1]), (128, [1]), (300, [1, 4]), (4000, [1, 4, 16])])
def test_long_spectra_are_looked_at_coarsely_too(n, factors):
    assert resolutions(n) == factors


def test_settings_are_written_down_with_the_networks():
    detections = detect(beam_cube(planes(11)), Settings(), networks=NETWORKS)
    about = json.loads(json.dumps(detections.provenance))
    assert set(about["networks"]) == {"source_finder", "line_finder", "judge", "extent_classifier"}
    assert about["dirty_beam"]["subtracted"] == 0


def test_a_drawn_box_is_looked_at_again():
    cube = beam_cube(add(planes(12), 40, 80, 30, 20.0))
    candidate = Candidate(1, Box(32, 49, 72, 89), np.nan)
    find_lines_again(candidate, cube, Settings(), NETWORKS)
    assert candidate.primary.centre == pytest.approx(20, abs=0.5)
    assert candidate.channels == candidate.primary.emission_range(64)
    empty = Candidate(2, Box(80, 97, 10, 27), np.nan)
    find_lines_again(empty, cube, Settings(), NETWORKS)
    assert empty.peaks == ()
    assert empty.channels == (0, 64)


def test_sources_a_quarter_of_a_beam_apart_are_told_by_their_lines():
    """Three pixels apart with a beam of eight: one blob, two lines from two places."""
    cube = add(add(planes(13), 60, 60, 40, 15.0), 60, 63, 40, 45.0)
    one, other = sorted(found(beam_cube(cube)), key=lambda c: c.z)
    assert (one.z, other.z) == pytest.approx((15, 45), abs=0.5)
    assert (one.x, one.y) == pytest.approx((60, 60), abs=1)
    assert (other.x, other.y) == pytest.approx((63, 60), abs=1)
    assert one.blended
    assert other.blended


def test_two_lines_of_one_source_stay_together():
    (source,) = found(beam_cube(add(add(planes(14), 60, 60, 40, 15.0), 60, 60, 40, 45.0)))
    assert len(source.peaks) == 2
    assert not source.blended


def test_flux_is_the_whole_sources():
    """A box that ends at a tenth of the peak and a range of twice the FWHM leave 8 % of a Gaussian outside."""
    cube = beam_cube(add(planes(15), 60, 60, 120, 30.0))
    (line,) = found(cube)
    truth = 120 * np.sqrt(2 * 6 / 2.3548 * np.sqrt(np.pi))  # sum over channels of a Gaussian line of unit norm
    width = abs(cube.velocity(30.5) - cube.velocity(29.5)).value
    assert line.f_sum / width == pytest.approx(truth, rel=0.1)


def galaxy(seed: int, snr: float = 25) -> np.ndarray:
    """A disc 50 pixels long, six beams, whose line moves along it: SNR ``snr`` a beam in its own channels."""
    y, x = np.indices((120, 120))
    disc = np.exp(-0.5 * (((x - 60) / 20) ** 2 + ((y - 60) / 8) ** 4))
    channel = np.arange(64)[:, None, None]
    line = np.exp(-0.5 * ((channel - 32 - (x - 60) / 5) / 3) ** 2)
    return planes(seed) + (snr / 2.3 * disc * line).astype(np.float32)  # 2.3 is the norm of such a line


def test_extended_emission_is_one_candidate():
    kept = found(beam_cube(galaxy(16)), UNSURE)
    (one,) = [c for c in kept if "patch" in c.reasons[0]]
    assert (one.x, one.y) == pytest.approx((60, 60), abs=4)
    assert one.box.shape[1] > 1.6 * one.box.shape[0] > 30
    assert "patch" in one.reasons[0]
    inside = [c for c in kept if one.box.x0 <= c.x < one.box.x1 and one.box.y0 <= c.y < one.box.y1]
    assert inside == [one]


def test_two_galaxies_that_touch_at_other_velocities_are_two_candidates():
    def touching(x: float, channel: float) -> np.ndarray:
        y, columns = np.indices((120, 120))
        disc = np.exp(-0.5 * (((columns - x) / 13) ** 2 + ((y - 60) / 10) ** 4))
        line = np.exp(-0.5 * ((np.arange(64)[:, None, None] - channel - (columns - x) / 8) / 2.5) ** 2)
        return (12 * disc * line).astype(np.float32)

    cube = planes(5) + touching(38, 16) + touching(80, 46)
    kept = sorted(found(beam_cube(cube), UNSURE), key=lambda c: c.x)
    assert [c.x for c in kept] == pytest.approx([38, 80], abs=3)
    assert [c.z for c in kept] == pytest.approx([16, 46], abs=1.5)


def cloud_with(bridge: float) -> np.ndarray:
    """A round cloud of S/N 10 and a small one of S/N 7.5 in the same channels, four beams away, and what is between."""
    y, x = np.indices((120, 120))
    image = np.where((np.abs(y - 60) < 8) & (x > 40) & (x < 95), bridge, 0.0)
    for column, radius, snr in ((36, 17, 10.0), (97, 10, 7.5)):
        image = np.maximum(image, snr * (np.hypot(y - 60, x - column) < radius))
    line = np.exp(-4 * np.log(2) * ((np.arange(64) - 32) / 6) ** 2)
    return planes(8) + ((line / np.linalg.norm(line))[:, None, None] * image).astype(np.float32)


@pytest.mark.parametrize(("bridge", "rows"), [(4.0, 1), (0.0, 2)])
def test_pieces_of_a_cloud_are_one_candidate_and_two_clouds_are_two(bridge, rows):
    detections = detect(beam_cube(cloud_with(bridge)), Settings(threshold=0.5), networks=UNSURE)
    kept = sorted((c for c in detections.kept if np.hypot(c.y - 60, (c.x - 60) / 3) < 20), key=lambda c: c.x)
    assert len(kept) == rows
    footprint = kept[0].mask.footprint.any(axis=0)
    right = kept[0].mask.origin[2] + np.flatnonzero(footprint)[-1]
    assert (right > 95) == (rows == 1)  # its mask includes the piece


def test_a_compact_source_of_the_same_velocity_beside_a_galaxy_is_a_row_of_its_own():
    cube = add(galaxy(16), 88, 60, 20, 32.0)
    kept = found(beam_cube(cube), UNSURE)
    assert len([c for c in kept if np.hypot(c.y - 88, c.x - 60) < 3]) == 1
    assert len([c for c in kept if np.hypot(c.y - 60, c.x - 60) < 8]) == 1


def crowd(channels: tuple[int, int, int]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A cube with three sources, each with a line in its channel, and their places (y, x)."""
    places = [(60, 44), (54, 60), (62, 76)]
    cube = planes(30)
    for channel, (y, x) in zip(channels, places, strict=True):
        cube = add(add(cube, y, x, 50, None, size=11), y, x, 30, channel, size=11)
    return cube, places


@pytest.mark.parametrize("networks", [NETWORKS, UNSURE])
def test_sources_that_crowd_stay_apart_where_their_lines_differ(networks):
    cube, places = crowd((15, 32, 50))
    kept = sorted(found(beam_cube(cube), networks), key=lambda c: c.x)
    assert [(c.y, c.x) for c in kept] == [pytest.approx(place, abs=1.5) for place in places]


def test_sources_that_crowd_in_the_same_channels_are_a_patch_where_source_finder_is_unsure():
    (one,) = found(beam_cube(crowd((32, 32, 32))[0]), UNSURE)
    assert "patch" in one.reasons[0]


DOUBTFUL = SearchNetworks(unsure, line_finder, judge, lambda measures: measures[:, 0] * 0 - 3)  # 0.05 of all patches


def test_extended_emission_is_the_extent_classifiers_to_judge():
    for networks, kept in ((UNSURE, 1), (DOUBTFUL, 0)):
        detections = detect(beam_cube(galaxy(16)), Settings(), networks=networks)
        assert len([c for c in detections.kept if "patch" in c.reasons[0]]) == kept


def about_the_middle(cube: np.ndarray) -> Candidate:
    candidates = detect(beam_cube(cube), Settings(threshold=0.5), networks=NETWORKS).candidates
    return min(candidates, key=lambda c: np.hypot(c.y - 60, c.x - 60))


def test_a_ripple_is_no_source_but_a_line_in_it_is():
    wave = 6 * np.sin(2 * np.pi * np.arange(64) / 16)[:, None, None]
    cube = planes(21) + (wave * add(np.zeros((1, 120, 120)), 60, 60, 1, None)).astype(np.float32)
    rippled = about_the_middle(cube)
    assert rippled.status is Status.DROPPED
    assert "ripple" in rippled.reasons[-1]
    assert about_the_middle(add(cube, 60, 60, 90, 30.0)).status is Status.KEPT


def test_emission_beside_absorption_is_no_ripple():
    """After the continuum has been subtracted, as of a galaxy whose gas also lies in front of its nucleus."""
    absorbed = add(add(planes(21), 60, 60, 30, 40.0), 60, 60, -30, 20.0)
    source = about_the_middle(absorbed)
    assert "ripple" not in " ".join(source.reasons)
    assert [round(peak.centre) for peak in source.peaks] == [40]


def test_what_has_a_negative_flux_is_no_source():
    bowl = add(np.zeros((64, 120, 120), np.float32), 60, 60, -20, 30.0, size=30)
    source = about_the_middle(add(planes(22) + bowl, 60, 60, 40, 30.0))
    assert source.status is Status.DROPPED
    assert "negative" in source.reasons[-1]


@pytest.mark.parametrize(
    ("side", "logits", "snr", "times"),
    [
        (192, [2.0, -1.0], 6, 4),  # twice as many beams on a side as Judge has learnt from
        (192, [2.0, 0.5, 0.5], 6, 2),  # each other source makes it less empty
        (192, [2.0, 1.0, 1.0, 1.0, 1.0], 6, 1),
        (192, [2.0, -1.0], 12, 1),  # no noise
        (60, [2.0], 6, 1),
    ],
)
def test_what_is_faint_in_a_large_field_of_few_sources_is_less_likely(side, logits, snr, times):
    window = Window(0, 0, (side, side), (slice(0, side), slice(0, side)), 2)
    detections = [replace(measured(60, 60, stacked=snr), window=window) for _ in logits]  # four pixels wide
    odds = np.exp(odds_for_field_area(np.array(logits), detections))
    assert odds == pytest.approx(np.exp(logits) / times)


def measured(y: float, x: float, number: int = 1, **snr: float) -> RawDetection:
    """A detection of 3.4 px with such SNRs of stack and own line."""
    features = Features(**{f"snr_{name}": value for name, value in snr.items()})
    window = Window(0, 0, (60, 60), (slice(0, 60), slice(0, 60)), 2)
    return RawDetection(
        Candidate(number, Box(0, 1, 0, 1), 0.9), y, x, 3.4, 3.4, np.zeros(64, np.float32), features, window
    )


@pytest.mark.parametrize(
    ("times", "line", "of", "a_flank"),
    [(1.2, 5, 10_000, True), (2.5, 5, 10_000, False), (1.2, 200, 10_000, False), (1.2, 0, 100, False)],
)
def test_the_flank_of_a_very_bright_source_is_no_other(times, line, of, a_flank):
    bright = measured(60, 60, stacked=of)
    beside = measured(60, 65, 2, stacked=times * of * np.exp(-0.5 * (5 / 3.4) ** 2), own_line=line)
    detections = [bright, beside]
    finish(classify(detections, Settings(), SearchNetworks(None, None, lambda measures: torch.ones(len(measures)) * 3)))
    assert (
        ("flank of candidate 1" in beside.candidate.reasons[-1])
        == (beside.candidate.status is Status.DROPPED)
        == a_flank
    )
    assert bright.candidate.status is Status.KEPT


def test_of_two_equally_bright_sources_none_is_the_others_flank():
    pair = [measured(60, 60 + x, number, stacked=1000) for number, x in ((1, 0), (2, 1))]
    assert not any(artefact_kind(detection, pair) for detection in pair)


def test_the_brightest_line_is_flagged_however_bright_a_continuum_there_is():
    detections = [
        measured(60, 60, 1, stacked=8000, own_line=250, brightest=8000),
        measured(20, 20, 2, stacked=1, own_line=40, brightest=8000),
        measured(90, 20, 3, stacked=1, own_line=10, brightest=8000),
    ]
    for logit, continuum in ((-1.0, Status.FLAGGED), (-5.0, Status.DROPPED)):  # 0.27, 0.007
        doubtful = SearchNetworks(None, None, lambda measures, logit=logit: torch.full((len(measures),), logit))
        finish(classify(detections, Settings(), doubtful))
        assert [detection.candidate.status for detection in detections] == [continuum, Status.FLAGGED, Status.DROPPED]


def test_a_bright_flat_continuum_has_no_line():
    """Of 46 channels, so that the noise of each is known to a percent or two only."""
    cube = beam_cube(add(planes(23)[:46], 60, 60, 10_000, None))
    bright = min(detect(cube, Settings(), networks=NETWORKS).candidates, key=lambda c: np.hypot(c.y - 60, c.x - 60))
    assert (bright.kind, bright.status) == ("continuum", Status.KEPT)
    level = 10_000 / np.sqrt(46)
    assert bright.peak == pytest.approx(level, rel=0.02)


def test_a_bright_point_is_no_patch():
    (source,) = found(beam_cube(add(planes(17), 60, 60, 300, 30.0)))
    assert source.status is Status.KEPT


def test_what_is_too_bright_for_noise_is_flagged_whatever_judge_says():
    doubtful = SearchNetworks(source_finder, line_finder, lambda measures: measures[:, 0] * 0 - 0.5)
    for snr, status in ((30, Status.FLAGGED), (7, Status.DROPPED)):
        cube = beam_cube(add(planes(18), 60, 60, snr, 30.0))
        detections = detect(cube, Settings(), networks=doubtful)
        source = min(detections.candidates, key=lambda c: np.hypot(c.x - 60, c.y - 60))
        assert source.status is status


@pytest.mark.parametrize(("logit", "status"), [(0.5, Status.FLAGGED), (-0.5, Status.DROPPED)])
def test_what_judge_dropped_is_flagged_where_two_sources_fit_better(logit, status):
    def cautious(measures: torch.Tensor) -> torch.Tensor:
        """Sure of what is brighter than SNR 30 in the stack."""
        return torch.where(measures[:, STACKED] > np.arcsinh(30 / 2), 5.0, logit)

    cube = beam_cube(add(add(planes(31), 60, 50, 50, None), 62, 61, 16, None))
    detections = detect(cube, Settings(), networks=SearchNetworks(source_finder, line_finder, cautious))
    first, second = (
        min(detections.candidates, key=lambda c: np.hypot(c.y - y, c.x - x)) for y, x in ((60, 50), (62, 61))
    )
    assert (first.status, second.status) == (Status.KEPT, status)
    assert first.blended == second.blended == (status is Status.FLAGGED)
    if second.blended:
        assert (second.y, second.x) == pytest.approx((62, 61), abs=1.5)
        assert f"candidate {first.id}" in second.reasons[-1]


def test_a_moved_box_is_measured_anew_and_keeps_judges_word():
    cube = beam_cube(add(planes(19), 60, 60, 40, 30.0))
    detections = detect(cube, Settings(threshold=0.5), networks=NETWORKS)
    (source,) = detections.kept
    box = Box(source.box.y0 - 2, source.box.y1 + 2, source.box.x0 - 2, source.box.x1 + 2)
    moved = move(source, detections, box, NETWORKS)
    assert moved.box == box
    assert moved.prob == source.prob
    assert moved.primary.centre == pytest.approx(source.primary.centre, abs=0.5)


def test_the_number_of_cores_changes_nothing(monkeypatch):
    """Four sources, two of them within a beam and a half, and whatever else is seen in the noise."""
    cube = planes(7)
    for y, x, channel in ((30, 30, 20.0), (30, 41, 24.0), (90, 30, None), (90, 90, 40.0)):
        cube = add(cube, y, x, 20, channel)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    answers = []
    for cores in (1, 3):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        answers.append(detect(beam_cube(cube), Settings(), networks=NETWORKS).candidates)
    one, several = answers
    assert len(one) == len(several) >= 4
    for a, b in zip(one, several, strict=True):
        assert [d.as_dict() for d in a.decisions] == [d.as_dict() for d in b.decisions]
        numbers = [[v for v in vars(c).values() if isinstance(v, float | int)] for c in (a, b)]
        np.testing.assert_array_equal(*numbers)
        np.testing.assert_array_equal(a.focused, b.focused)


def test_a_galaxy_fainter_than_the_noise_everywhere_is_found_in_the_smoothed_window():
    """Its peak is 0.95 sigma, in a cube of 8 pixels a beam; it is 47 pixels wide."""
    y, x = np.mgrid[:120, :120]
    line = np.exp(-4 * np.log(2) * ((np.arange(64) - 30) / 8) ** 2)
    disc = line[:, None, None] * np.exp(-0.5 * ((y - 60) ** 2 + (x - 60) ** 2) / 20**2)
    (galaxy,) = detect(beam_cube(planes(1) + 0.95 * disc.astype(np.float32)), Settings()).kept
    assert "found_smoothed" in [decision.rule for decision in galaxy.decisions]
    assert (galaxy.x, galaxy.y) == pytest.approx((60, 60), abs=12)
    assert galaxy.z == pytest.approx(30, abs=2)
