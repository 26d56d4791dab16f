"""What Judge learns from, and its calibration."""

from __future__ import annotations

import numpy as np
import torch

from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.networks.judge import Judge
from napari_almadet.search.features import N_FEATURES
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.sidelobes import KnownBeam
from napari_almadet.training.fields import SIDE, SimulatedField, whole_field
from napari_almadet.training.judging import Candidates, calibrate, labels


def write(path, measures, true):
    np.savez(path, measures=measures.astype(np.float32), true=true.astype(np.float32))
    return path


def test_candidates_come_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    measures, true = rng.normal(size=(5, N_FEATURES)), np.array([0, 1, 1, 0, 1])
    candidates = Candidates(write(tmp_path / "c.npz", measures, true), augment=False)
    assert len(candidates) == 5
    numbers, is_source = candidates[2]
    np.testing.assert_allclose(numbers, measures[2], rtol=1e-6)
    assert is_source == 1


def test_calibration_makes_probabilities_true(tmp_path):
    """Sources come with the chance that a known logit says; a judge that is twice too sure learns it."""
    rng = np.random.default_rng(1)
    measures = rng.normal(size=(6000, 2))
    logit = 1.5 * measures[:, 0] - 0.5
    true = rng.random(6000) < 1 / (1 + np.exp(-logit))

    class Sure(Judge):
        def forward(self, numbers):
            return self.slope * (3 * numbers[:, 0]) + self.shift

    judge = Sure(2)
    calibrate(judge, Candidates(write(tmp_path / "c.npz", measures, true), augment=False))
    with torch.no_grad():
        said = judge(torch.from_numpy(measures.astype(np.float32))).numpy()
    np.testing.assert_allclose(said, logit, atol=0.25)


def field_with(*sources: tuple[float, ...], beam: float = 4.0) -> SimulatedField:
    """A field with sources (y, x, sigma, owner), and an object, number 1, in its last ten rows."""
    rows = np.array([(*one[:2], one[2], one[2], 20.0, 10.0, 40.0, 5.0) for one in sources]).reshape(-1, 8)
    owners = np.array([int(one[3]) if len(one) > 3 else 0 for one in sources], int)
    objects = np.zeros((SIDE, SIDE), np.uint8)
    objects[-10:] = 1
    none = np.zeros((SIDE, SIDE), bool)
    return SimulatedField(torch.zeros(2, SIDE, SIDE), rows, owners, beam, objects, none, KnownBeam(beam))


def labelled(
    field: SimulatedField, *places: tuple[float, ...], patch: int | None = None, scale: int = 0
) -> tuple[list, list]:
    """Labels of detections (y, x, S/N) of a field, smoothed ``scale`` times; number ``patch`` is a large patch."""
    made = []
    for number, (y, x, *snr) in enumerate(places):
        features = Features(snr_stacked=snr[0] if snr else 10.0)
        box = Box(0, 1, 0, 1) if number == patch else None
        candidate = Candidate(number, Box(0, 1, 0, 1), 0.9)
        made.append(RawDetection(candidate, y, x, 2.0, 2.0, np.zeros(8, np.float32), features, whole_field(), box))
    true, left_out = labels(field, made, scale)
    return true.tolist(), left_out.tolist()


def test_the_nearest_detection_within_four_tenths_of_a_beam_is_the_source():
    true, left_out = labelled(field_with((30, 30, 1.7)), (31.5, 30), (30.5, 30), (30, 31.8))
    assert true == [False, True, False]
    assert not any(left_out)


def test_a_disc_may_be_detected_away_from_its_centre_and_its_second_piece_is_left_out():
    disc = 6.0  # px, so that the FWHM is 14.1 px and 3.5 beams
    true, left_out = labelled(field_with((30, 30, disc)), (30, 35), (30, 24.8), (30, 36.5))
    assert true == [True, False, False]
    assert left_out == [False, True, False]  # the last one is further than 0.4 FWHM = 5.7 px


def test_no_detection_gives_no_labels():
    assert labelled(field_with((30, 30, 1.7))) == ([], [])


def test_the_brightest_detection_of_a_galaxy_seen_only_off_its_centre_is_the_source_and_its_clumps_are_none():
    true, left_out = labelled(field_with(), (SIDE - 2.0, 10, 8), (SIDE - 3.0, 60, 20), (20, 20, 8))
    assert true == [False, True, False]
    assert not any(left_out)


def test_a_detection_off_the_centre_of_a_galaxy_is_left_out_if_it_may_be_noise():
    for snr, certain in ((5.1, True), (4.9, False)):
        true, left_out = labelled(field_with(), (SIDE - 3.0, 60, snr))
        assert (true, left_out) == ([certain], [not certain])


def test_a_patch_off_the_centre_of_a_galaxy_is_left_out():
    assert labelled(field_with(), (SIDE - 3.0, 60, 20), patch=0) == ([False], [True])


def test_in_a_smoothed_field_a_source_is_as_much_wider_as_the_beam():
    point = field_with((30, 30, 1.7))
    for beams, source in ((0.75, [False, True, True]), (1.5, [False, False, True])):  # 0.37 of the wider beam
        place = (30, 30 + 4 * beams)
        assert [labelled(point, place, scale=scale)[0] for scale in range(3)] == [[one] for one in source]


def test_clumps_of_a_galaxy_detected_at_its_centre_are_no_sources_but_brighter_ones_are_left_out():
    galaxy = (SIDE - 3.0, 30, 20.0, 1)
    true, left_out = labelled(field_with(galaxy), (SIDE - 3.0, 31, 10), (SIDE - 3.0, 40, 9), (SIDE - 3.0, 50, 11))
    assert true == [True, False, False]
    assert left_out == [False, False, True]


def test_of_the_leaves_of_a_cloud_the_brightest_is_the_source_and_the_others_are_none():
    cloud = field_with((SIDE - 3.0, 20, 2.0, 1), (SIDE - 3.0, 50, 2.0, 1), (SIDE - 3.0, 80, 2.0, 1))
    true, left_out = labelled(cloud, (SIDE - 3.0, 20, 9), (SIDE - 3.0, 50, 12), (SIDE - 3.0, 80, 6))
    assert true == [False, True, False]
    assert not any(left_out)


def test_a_source_in_front_of_a_cloud_is_one_and_a_patch_that_is_no_leaf_is_left_out():
    both = field_with((SIDE - 3.0, 20, 2.0, 1), (SIDE - 3.0, 50, 1.7, 0))
    true, left_out = labelled(both, (SIDE - 3.0, 20, 30), (SIDE - 3.0, 50, 9), (SIDE - 6.0, 70, 8), patch=2)
    assert true == [True, True, False]
    assert left_out == [False, False, True]
