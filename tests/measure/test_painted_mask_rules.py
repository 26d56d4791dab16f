"""Rules of a mask that the user paints, and of the measurement in it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from radio_beam import Beam

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, SourceMask
from napari_almadet.cube.cube import Cube
from napari_almadet.measure import painted_mask
from napari_almadet.measure.cutout import Cutout
from napari_almadet.measure.noise import white
from napari_almadet.measure.painted_mask import _lay, _parted, edited, measure_in_mask

NONE = np.zeros((0, 3), int)
SHAPE = (32, 33, 35)
MASK = SourceMask((10, 12, 14), np.ones((4, 5, 6), bool))


def cube_with(line: float = 20.0, continuum: float = 0.0) -> Cube:
    """A box of emission in channels 10 to 13, or a continuum in all, at the pixels of :data:`MASK`."""
    planes = np.random.default_rng(1).normal(size=SHAPE)
    _, y, x = MASK.slices
    planes[:, y, x] += continuum
    planes[10:14, y, x] += line
    return Cube.from_array(planes.astype(np.float32))


def test_a_mask_is_made_of_voxels_and_vanishes_with_the_last():
    made = edited(None, np.array([[3, 4, 5], [4, 4, 7]]), NONE)
    assert made.origin == (3, 4, 5)
    assert np.argwhere(made.voxels).tolist() == [[0, 0, 0], [1, 0, 2]]
    assert edited(None, NONE, NONE) is None
    assert edited(made, NONE, np.array([[3, 4, 5], [4, 4, 7]])) is None
    larger = edited(made, np.array([[2, 4, 5]]), np.array([[4, 4, 7], [30, 4, 7]]))
    assert (larger.origin, larger.voxels.shape) == ((2, 4, 5), (2, 1, 1))
    kept = edited(MASK, NONE, NONE)
    assert (kept.origin, kept.voxels.shape) == (MASK.origin, MASK.voxels.shape)


def test_a_mask_outside_of_a_cutout_is_not_in_it():
    volume = np.zeros((32, 10, 10), bool)
    _lay(volume, MASK, (13, 15))
    assert np.argwhere(volume).min(axis=0).tolist() == [10, 0, 0]
    assert volume.sum() == 4 * 4 * 5
    volume[:] = False
    for origin in ((17, 15), (2, 15), (13, 20), (13, 4), (19, 15), (40, 40)):
        _lay(volume, MASK, origin)
    assert not volume.any()


def test_the_surroundings_of_a_mask_are_three_and_a_half_beams_wide(header):
    """Of four pixels where the header gives none."""
    seen = []
    planes = np.ones((8, 80, 90), np.float32)
    mask = SourceMask((2, 40, 45), np.ones((2, 2, 2), bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(painted_mask, "_parted", lambda *given: seen.append(_parted(*given)[0]) or 1 / 0)
        for cube in (Cube(planes), Cube(planes, wcs=WCS(header), unit=u.Jy / u.beam, beams=Beam(5.9 * u.arcsec))):
            with pytest.raises(ZeroDivisionError):
                measure_in_mask(Candidate(1, Box(40, 42, 45, 47), 1.0), cube, white(8), mask)
    assert [cutout.origin for cutout in seen] == [(26, 31), (19, 24)]
    assert all(isinstance(cutout, Cutout) for cutout in seen)


@pytest.mark.parametrize(("kind", "after"), [("continuum", "line"), ("line", "line")])
def test_a_painted_mask_holds_a_line(kind, after):
    candidate = Candidate(1, Box(12, 17, 14, 20), 1.0, kind=kind)
    measure_in_mask(candidate, cube_with(), white(32), MASK)
    assert candidate.kind == after
    assert candidate.n_pix == 120
    assert candidate.f_sum == pytest.approx(120 * 20, rel=0.02)
    faint = Candidate(1, Box(12, 17, 14, 20), 1.0, kind=kind)
    measure_in_mask(faint, cube_with(line=0.1), white(32), MASK)  # whatever its S/N
    assert (faint.kind, faint.n_pix) == (after, 120)


@pytest.mark.parametrize(("centre", "fwhm", "known"), [(24.0, 2.0, True), (20.0, 60.0, False)])
def test_a_continuum_is_measured_where_no_line_of_the_candidate_is(centre, fwhm, known):
    """In the few channels that are left between its lines, or none."""
    candidate = Candidate(1, Box(12, 17, 14, 20), 1.0, kind="line")
    candidate.peaks = (EmissionPeak(round(centre), 1.0, 1.0, centre, fwhm),)
    measure_in_mask(candidate, cube_with(continuum=50.0), white(32), MASK)
    assert np.isfinite(candidate.f_cont) == known
    if known:
        assert candidate.f_cont == pytest.approx(50 * 30, rel=0.02)
