"""What step 10 gives raw detections beside what is measured of their lines."""

from __future__ import annotations

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.search.measure_detections import absorb, seed_of
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.windows import Window

WINDOW = Window(0, 0, (60, 60), (slice(0, 60), slice(0, 60)), 1)


@pytest.mark.parametrize(
    ("status", "prob", "object_status", "object_prob"),
    [
        (Status.KEPT, 0.9, Status.KEPT, 0.9),
        (Status.KEPT, 0.3, Status.FLAGGED, 0.4),  # less likely than the object is
        (Status.FLAGGED, 0.6, Status.FLAGGED, 0.4),
    ],
)
def test_an_object_is_as_likely_as_its_likeliest_part(status, prob, object_status, object_prob):
    whole, part = (
        RawDetection(Candidate(i, Box(0, 9, 0, 9), p, status=s), 4, 4, 2.0, 2.0, np.ones(8), Features(), WINDOW)
        for i, p, s in ((1, 0.4, Status.FLAGGED), (2, prob, status))
    )
    absorb(whole, [part])
    assert (whole.candidate.status, whole.candidate.prob) == (object_status, object_prob)
    assert (part.candidate.status, part.candidate.parent) == (Status.DROPPED, 1)


def test_compact_detections_are_placed_and_patches_of_emission_are_not():
    compact, patch, small = (
        RawDetection(Candidate(1, Box(0, 9, 0, 9), 0.9), 4.2, 4.6, 2.0, 2.0, np.ones(8), Features(), WINDOW)
        for _ in range(3)
    )
    patch.box = Box(0, 9, 0, 9)
    small.candidate.decide("extended_source", Status.KEPT, prob=0.9, threshold=0.5, beams=3.0)
    assert [seed_of(detection).placed for detection in (compact, patch, small)] == [True, False, False]
