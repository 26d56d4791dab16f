"""What step 10 gives raw detections beside what is measured of their lines."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.search.measuring import absorb, place_by_line_and_continuum
from napari_almadet.search.raw_detection import Features, RawDetection
from napari_almadet.search.windows import Window

WINDOW = Window(0, 0, (60, 60), (slice(0, 60), slice(0, 60)), 1)


@pytest.mark.parametrize(("line_snr", "place", "error"), [(5.0, (30.1, 20.2), 0.2), (14.0, (30.6, 20.9), 0.52)])
def test_a_line_and_its_continuum_together_have_the_place_where_they_are_surer(line_snr, place, error):
    """S/N 13 together: 5 / 13 of the error that the line alone has; a line surer than that keeps its own place."""
    candidate = Candidate(1, Box(18, 23, 28, 33), 0.9, kind="both")
    candidate.x, candidate.y, candidate.err_x, candidate.err_y = 30.6, 20.9, 0.52, 0.52
    features = Features(snr_stacked=12.0, snr_own_line=5.0)
    detection = RawDetection(candidate, 20.2, 30.1, 2.0, 2.0, np.ones(8, np.float32), features, WINDOW)
    place_by_line_and_continuum(detection, SimpleNamespace(line_snr=line_snr))
    assert (candidate.x, candidate.y) == place
    assert (candidate.err_x, candidate.err_y) == pytest.approx((error, error))


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
