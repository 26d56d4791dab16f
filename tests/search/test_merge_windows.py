"""Sources, patches and images across windows: each once, and the same as in one window."""

from __future__ import annotations

import gc
import os
import time
import weakref
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.io import fits
from radio_beam import Beam

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.catalogue.decision import Decision
from napari_almadet.cube.cube import Cube
from napari_almadet.detection import detect, detect_steps
from napari_almadet.search import dirty_beam, sidelobes
from napari_almadet.search.decisions import drop_sidelobes_across_windows
from napari_almadet.search.merge_windows import Part, merge_windows, one_source
from napari_almadet.search.positions import cutout_of
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.search_networks import SearchNetworks
from napari_almadet.search.windows import Window, bytes_needed, windows
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.observe import Observation

SIDE = 240  # pixels, 120 averaged ones
BORDER = 127.5  # where the windows of `SMALL` part the field
SHAPE = (48, SIDE, SIDE)
SMALL = np.polyval(bytes_needed(SHAPE, 2)[::-1], 80.5**2) / 1e9  # GB, for windows of 80 pixels


def source_finder(maps: torch.Tensor) -> torch.Tensor:
    """A threshold of 6.5 on the higher of the stack's and the line's SNR; places by the parabola through the peak."""
    snr = 2 * torch.sinh(torch.maximum(maps[:, 0], maps[:, 2]))
    answer = torch.zeros(len(maps), 5, *maps.shape[2:])
    answer[:, 0] = 2 * (snr - 6.5)
    for number, axis in ((1, 1), (2, 2)):
        before, after = torch.roll(snr, 1, axis), torch.roll(snr, -1, axis)
        answer[:, number] = 0.5 * (before - after) / (before - 2 * snr + after).clamp(max=-1e-3)
    answer[:, 3:] = float(np.log(4.2 / 2.3548))
    return answer


def line_finder(spectra: torch.Tensor) -> torch.Tensor:
    smooth = torch.nn.functional.avg_pool1d(spectra[:, None], 5, 1, 2)[:, 0] * 5**0.5
    return torch.sigmoid(smooth - 4)


def unsure(maps: torch.Tensor) -> torch.Tensor:
    """Sees the same places, but thinks of none that it is more likely a source than not."""
    answer = source_finder(maps)
    answer[:, 0] = -0.5 - 1.5 * torch.exp(-answer[:, 0] / 20)
    return answer


NETWORKS = SearchNetworks(source_finder, line_finder, lambda measures: measures[:, 0])
UNSURE = SearchNetworks(unsure, line_finder, lambda measures: measures[:, 0], lambda measures: measures[:, 0] * 0 + 3)


def planes(seed: int) -> np.ndarray:
    """Noise as a beam of eight pixels leaves it, of unit variance."""
    white = np.random.default_rng(seed).normal(size=SHAPE)
    v, w = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    image = np.fft.irfft2(
        np.fft.rfft2(white) * np.exp(-((np.pi * 8) ** 2) * (w**2 + v**2) / (8 * np.log(2))), SHAPE[1:]
    )
    return (image / image.std()).astype(np.float32)


def add(
    cube: np.ndarray, y: float, x: float, snr: float, channel: float, fwhm: float = 6, size: float = 8
) -> np.ndarray:
    """Add a source of ``size`` px FWHM in a line of matched SNR ``snr``."""
    line = np.exp(-4 * np.log(2) * ((np.arange(len(cube)) - channel) / fwhm) ** 2)
    iy, ix = np.indices(cube.shape[1:])
    image = np.exp(-4 * np.log(2) * ((iy - y) ** 2 + (ix - x) ** 2) / size**2)
    return cube + (snr * line / np.linalg.norm(line))[:, None, None].astype(np.float32) * image.astype(np.float32)


@pytest.fixture(autouse=True)
def no_sidelobes(monkeypatch):
    """Windows as small as these hold too little noise to tell a dirty beam from."""
    monkeypatch.setattr(sidelobes, "without_sidelobes", lambda units, *_: (units, None))


@pytest.fixture(scope="module")
def with_beam() -> Callable[[np.ndarray], Cube]:
    """A cube whose header tells a round beam of eight pixels."""
    observation = Observation(size=SIDE, n_channels=SHAPE[0])
    made = cube_of(simulate_cube(1, "empty", observation), "made")
    return lambda array: replace(made, data=array, beams=Beam(8 * observation.pixel * u.arcsec))


def found(cube: Cube, memory: float = Settings.memory, networks: SearchNetworks = NETWORKS) -> list[Candidate]:
    detections = detect(cube, Settings(threshold=0.5, memory=memory), networks=networks)
    assert detections.provenance["scales"]["windows"] == (4 if memory == SMALL else 1)
    assert [c.id for c in detections.candidates] == list(range(1, len(detections.candidates) + 1))
    return sorted(detections.kept, key=lambda c: (c.y, c.x))


def test_the_field_of_these_tests_is_parted_where_they_say():
    made = windows(SHAPE, 2, 4.0, SMALL)
    assert len(made) == 4
    (own_y, own_x), k = made[0].owned, made[0].k
    assert (own_y.stop * k - 0.5, own_x.stop * k - 0.5) == (BORDER, BORDER)


@pytest.mark.parametrize("y", [60.0, 126.4, 127.0, 127.5, 128.1, 129.0])
@pytest.mark.parametrize("x", [61.0, 127.5])
def test_a_source_at_a_seam_is_found_once_and_as_elsewhere(with_beam, y, x):
    cube = with_beam(add(planes(3), y, x, 40, 20.0))
    (whole,), (parted,) = found(cube), found(cube, SMALL)
    assert (parted.x, parted.y) == pytest.approx((x, y), abs=0.7)
    assert (parted.x, parted.y, parted.z) == pytest.approx((whole.x, whole.y, whole.z), abs=0.1)
    assert parted.channels == whole.channels
    assert np.abs(np.subtract(parted.box.slices[0].start, whole.box.slices[0].start)) <= 1
    assert parted.f_sum == pytest.approx(whole.f_sum, rel=0.05)
    assert parted.snr_pixel == pytest.approx(whole.snr_pixel, rel=0.05)
    assert parted.edge == whole.edge


def test_two_sources_on_either_side_of_a_seam_are_two(with_beam):
    cube = with_beam(add(add(planes(4), 122, 100, 40, 12.0), 133, 100, 40, 36.0))
    first, second = found(cube, SMALL)
    assert (first.y, second.y) == pytest.approx((122, 133), abs=1.5)
    assert (first.z, second.z) == pytest.approx((12, 36), abs=0.5)


@pytest.mark.parametrize("shift", [(0, 2, -4), (3, 0, 0), (-2, 6, 10), (0, 1, 3)])
def test_a_moved_cube_has_a_moved_catalogue(with_beam, shift):
    cube = add(add(add(planes(5), 60, 180, 40, 20.0), 128, 127, 40, 30.0), 170, 70, 40, 12.0)
    moved = np.roll(cube, shift, axis=(0, 1, 2))
    one, other = (found(with_beam(array), SMALL) for array in (cube, moved))
    assert len(one) == len(other) == 3
    whole_blocks = shift[1] % 2 == shift[2] % 2 == 0
    for a, b in zip(one, other, strict=True):
        assert (b.y - a.y, b.x - a.x) == pytest.approx(shift[1:], abs=0.1 if whole_blocks else 0.5)
        assert b.z - a.z == pytest.approx(shift[0], abs=0.1)
        assert (b.box.y0 - a.box.y0, b.box.x0 - a.box.x0) == pytest.approx(shift[1:], abs=1)
        assert b.f_sum == pytest.approx(a.f_sum, rel=0.05)
        assert (b.kind, b.status, len(b.peaks)) == (a.kind, a.status, len(a.peaks))


def test_the_dirty_beam_is_read_once_for_all_windows_and_again_when_it_has_changed(with_beam, monkeypatch, tmp_path):
    """Also for the inverted cube, whose windows are cubes of their own."""
    path, read = tmp_path / "cube.psf.fits", []
    psf = np.zeros((1, 5, 5), np.float32)
    psf[0, 2, 2] = 1
    monkeypatch.setattr(dirty_beam, "read_image", lambda path: read.append(path) or (psf, None))
    cube, settings = with_beam(planes(6)), Settings(memory=SMALL, psf=str(path), reliability=True)
    for written in (1, 2):
        path.write_bytes(b"")
        os.utime(path, ns=(written, written))
        detect(cube, settings, networks=NETWORKS)
        assert read == [str(path)] * written


def galaxy(seed: int, y0: float, x0: float) -> np.ndarray:
    """A disc 50 pixels long, six beams, whose line moves along it."""
    y, x = np.indices(SHAPE[1:])
    disc = np.exp(-0.5 * (((x - x0) / 20) ** 2 + ((y - y0) / 8) ** 4))
    line = np.exp(-0.5 * ((np.arange(SHAPE[0])[:, None, None] - 24 - (x - x0) / 5) / 3) ** 2)
    return planes(seed) + (11 * disc * line).astype(np.float32)


@pytest.mark.parametrize("place", [(60, 60), (128, 60), (125, 128)])
def test_extended_emission_in_several_windows_is_one_candidate(with_beam, place):
    cube = with_beam(galaxy(6, *place))
    in_one, in_several = (found(cube, memory, UNSURE) for memory in (4.0, SMALL))
    (whole,), (parted,) = ([c for c in all_found if "patch" in c.reasons[0]] for all_found in (in_one, in_several))
    assert "patch" in parted.reasons[0]
    assert np.abs(np.subtract([*vars(parted.box).values()], [*vars(whole.box).values()])).max() <= 4
    assert (parted.x, parted.y) == pytest.approx((whole.x, whole.y), abs=2)
    assert parted.f_sum == pytest.approx(whole.f_sum, rel=0.25)
    box = parted.box
    inside = [c for c in in_several if box.x0 <= c.x < box.x1 and box.y0 <= c.y < box.y1]
    assert len(inside) == 1


def test_sources_that_crowd_across_windows_stay_apart(with_beam):
    places = [(122, 44), (128, 60), (130, 76)]
    cube = planes(7)
    for channel, (y, x) in zip((10, 24, 38), places, strict=True):
        cube = add(cube, y, x, 60, channel, size=11)
    for memory, networks in ((4.0, NETWORKS), (SMALL, NETWORKS), (4.0, UNSURE)):
        kept = sorted(found(with_beam(cube), memory, networks), key=lambda c: c.x)
        assert [(c.y, c.x) for c in kept] == [pytest.approx(place, abs=1.5) for place in places]


def test_a_patch_over_several_windows_is_not_separated_by_its_lines(with_beam):
    """No window has all of its voxels; the detections that Source Finder is sure of still separate it."""
    cube = planes(7)
    for channel, (y, x) in zip((10, 24, 38), [(122, 44), (128, 60), (130, 76)], strict=True):
        cube = add(cube, y, x, 60, channel, size=11)
    (one,) = found(with_beam(cube), SMALL, UNSURE)
    assert "patch" in one.reasons[0]


def test_a_patch_too_large_to_measure_says_so(with_beam):
    cube = with_beam(galaxy(6, 128, 60))
    whole = Window(0, 0, (SIDE // 2, SIDE // 2), (slice(0, SIDE // 2), slice(0, SIDE // 2)), 2)
    for memory, said in ((4.0, False), (0.01, True)):
        patch = replace(detection(128, 60, whole, 1), box=Box(60, 180, 10, 130))
        seen = cutout_of(patch, cube, np.zeros(SHAPE[1:], np.float32), Settings(memory=memory))
        assert (seen is None) == said
        assert any("not measured" in reason for reason in patch.candidate.reasons) == said


def detection(
    y: float, x: float, window: Window, number: int, logit: float = 0.0, both: float = 10.0, **known
) -> RawDetection:
    brightest = known.pop("brightest", both)
    features = Features(detection_logit=logit, snr_stacked=both, snr_brightest=brightest)
    candidate = Candidate(number, Box(0, 1, 0, 1), known.pop("prob", 0.9), **known)
    return RawDetection(candidate, y, x, 2.0, 2.0, np.zeros(4, np.float32), features, window)


LEFT = Window(0, 0, (40, 60), (slice(0, 40), slice(0, 50)), 1)
RIGHT = Window(0, 40, (40, 60), (slice(0, 40), slice(10, 60)), 1)


def parts(left: list[RawDetection], right: list[RawDetection]) -> list[Part]:
    nothing = np.zeros((0, 0))
    return [
        Part(window, nothing, nothing, nothing, detections, None)
        for window, detections in ((LEFT, left), (RIGHT, right))
    ]


def test_one_source_seen_by_both_windows_counts_once_whoever_claims_it():
    for left, right in ((49.2, 48.9), (49.7, 49.8), (49.7, 49.2), (49.2, 49.8)):
        one = merge_windows(
            parts([detection(20, left, LEFT, 1)], [detection(20, right, RIGHT, 1, logit=1.0)]), beam=4.0
        )
        assert len(one) == 1


def test_a_source_that_its_own_window_does_not_see_is_none():
    assert merge_windows(parts([detection(20, 53, LEFT, 1)], []), beam=4.0) == []


def test_mentions_of_a_neighbour_follow_its_number():
    left = [detection(20, 10, LEFT, 1), detection(20, 53, LEFT, 2)]
    right = [detection(5, 80, RIGHT, 1), detection(20, 53.2, RIGHT, 2)]
    left[0].candidate.decide("line_of_another", ids=(2,), channel=7)
    right[0].candidate.decide("found_by_its_line", ids=(1,), channel=2, distance=3.0)
    a, b, c = merge_windows(parts(left, right), beam=4.0)
    assert [f.candidate.id for f in (a, b, c)] == [1, 2, 3]
    assert (c.y, c.x) == (20, 53.2)
    assert a.candidate.decisions == [Decision("line_of_another", {"channel": 7}, (3,))]
    assert b.candidate.reasons == ["found: the line at channel 2 of candidate 2 peaks 3.0 px away from it"]


def test_twins_are_each_others_nearest():
    places = np.array([(0, 0), (0, 1.2), (0, 0.1), (0, 1.1), (9, 9)], float)
    source = one_source(places, np.array([0, 0, 1, 1, 1]), reach=2.0)
    assert source[0] == source[2] != source[1] == source[3]
    assert len(set(source)) == 3


def test_four_windows_at_a_corner_see_one_source():
    places = np.array([(0, 0), (0, 0.2), (0.1, 0.1), (0.2, 0)], float)
    assert len(set(one_source(places, np.arange(4), reach=1.0))) == 1


def test_what_a_bright_source_next_door_explains_is_dropped():
    bright = detection(20, 20, LEFT, 1, both=300)
    doubtful = {"prob": 0.3, "status": Status.FLAGGED}
    lobe, source = detection(20, 70, RIGHT, 1, both=20, **doubtful), detection(30, 80, RIGHT, 2, both=250, **doubtful)
    sure = detection(10, 90, RIGHT, 3, both=20, prob=0.95)
    drop_sidelobes_across_windows([bright, lobe, source, sure], parts([bright], [lobe, source, sure]), Settings())
    assert [f.candidate.status for f in (bright, lobe, source, sure)] == [
        Status.KEPT,
        Status.DROPPED,
        Status.FLAGGED,
        Status.KEPT,
    ]
    assert "source of S/N 300" in lobe.candidate.reasons[-1]


def test_a_run_that_is_stopped_keeps_no_cube(with_beam, tmp_path):
    """The dirty beam was cached with the cube that it was read for, until the next run had finished."""
    path = tmp_path / "cube.psf.fits"
    psf = np.zeros((5, 5), np.float32)
    psf[2, 2] = 1
    fits.writeto(path, psf)
    cube = with_beam(planes(7))
    kept = weakref.ref(cube.data)
    steps = detect_steps(cube, Settings(memory=SMALL, psf=str(path)), networks=NETWORKS)
    while next(steps).stage != "Detecting sources (window 1 of 4)":
        pass
    steps.close()
    del steps, cube
    deadline = time.monotonic() + 60  # for the thread that was computing its hash
    while kept() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert kept() is None
