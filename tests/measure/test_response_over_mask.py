"""The flux of a large source where the primary beam varies across it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_almadet import Settings, read_result, write_result
from napari_almadet.catalogue.candidate import Box, Candidate, SourceMask
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import PrimaryBeam
from napari_almadet.measure.catalogue_row import response_over

SHAPE = (16, 80, 90)  # of the cubes of sky_cube


def extended(corrected: bool) -> tuple[np.ndarray, np.ndarray, Candidate]:
    """The image of a source in its mask, the response over the field, and the source, with its flux on the sky."""
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    response = np.exp(-(np.hypot(x - 45, y - 40) ** 2) / 1500).astype(np.float32)
    response[response < 0.2] = np.nan
    inside = np.hypot(x - 60, y - 40) < 20
    true = np.where(inside, np.exp(-np.hypot(x - 66, y - 40) / 8), 0)
    candidate = Candidate(1, Box(20, 61, 40, 81), 0.9, channels=(4, 9), method="mask", x=60.0, y=40.0, z=6.0)
    candidate.mask = SourceMask((4, 20, 40), np.broadcast_to(inside[20:61, 40:81], (5, 41, 41)).copy())
    image = (true if corrected else true * np.nan_to_num(response))[20:61, 40:81]
    candidate.f_sum = float(image.sum())
    return image, response, candidate


@pytest.mark.parametrize("corrected", [False, True])
def test_the_flux_of_a_mask_is_corrected_over_all_of_it(sky_cube, planes, tmp_path, corrected):
    image, response, candidate = extended(corrected)
    beam = PrimaryBeam(response[None], tmp_path / "pb.fits", corrected)
    cube = replace(sky_cube(planes), primary_beam=beam)
    candidate.pb = response_over(candidate, cube, image)
    seen = np.where(np.isfinite(response), response, 0)[20:61, 40:81] > 0
    observed = image * response[20:61, 40:81] if corrected else image
    on_sky = observed[seen] / response[20:61, 40:81][seen]
    assert candidate.pb == pytest.approx(observed[seen].sum() / on_sky.sum(), rel=1e-6)
    assert abs(candidate.pb / beam.at(60, 40, 6) - 1) > 0.05  # that at its place
    point = Candidate(2, Box(38, 43, 43, 48), 0.9, channels=(4, 9), method="point", x=45.0, y=40.0, z=6.0, f_sum=2.0)
    plane = np.zeros(SHAPE[1:], np.float32)
    found = Detections(cube, Settings(), [candidate, point], plane, plane, {})
    table = found.table()
    np.testing.assert_allclose(table["pb"], [candidate.pb, 1.0], rtol=1e-6)
    undone = 1.0 if corrected else candidate.pb
    np.testing.assert_allclose(table["f_sum_pb"].value, [candidate.f_sum / undone, 2.0], rtol=1e-6)
    again = read_result(write_result(found, tmp_path / "out"))
    assert [c.pb for c in again.candidates] == [pytest.approx(candidate.pb), pytest.approx(np.nan, nan_ok=True)]


def test_without_flux_or_primary_beam_the_response_is_that_at_the_place(sky_cube, planes, tmp_path):
    image, response, candidate = extended(corrected=False)
    cube = sky_cube(planes)
    assert np.isnan(response_over(candidate, cube, image))
    cube = replace(cube, primary_beam=PrimaryBeam(response[None], tmp_path / "pb.fits"))
    assert np.isnan(response_over(candidate, cube, -image))
    noise = np.random.default_rng(2).normal(size=image.shape)
    noise -= noise.mean() * 0.999
    assert np.isnan(response_over(candidate, cube, noise)) or 0.2 <= response_over(candidate, cube, noise) <= 1
