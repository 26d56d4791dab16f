"""What the catalogue's row says of a source that is summed over its mask, and of one that is hardly detected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet import Settings, read_result, write_result
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube, PrimaryBeam
from napari_almadet.measure import measurement
from napari_almadet.measure.catalogue_row import measure_candidate
from napari_almadet.measure.cutout import Cutout, Seed
from napari_almadet.measure.noise import Noise
from napari_almadet.provenance import continuum

CHANNELS, SIDE, FWHM = 64, 72, 5.0
SIGMA = FWHM / np.sqrt(8 * np.log(2))


def noise_planes(seed: int) -> np.ndarray:
    """Noise of unit variance whose autocorrelation is the beam."""
    planes = np.random.default_rng(seed).standard_normal((CHANNELS, SIDE, SIDE))
    planes = ndimage.gaussian_filter(planes, (0, SIGMA / np.sqrt(2), SIGMA / np.sqrt(2)), mode="wrap")
    return planes / planes.std()


def correlation(reach: int = 15) -> np.ndarray:
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.exp(-0.5 * (x**2 + y**2) / SIGMA**2)


def disc() -> np.ndarray:
    """A rotating disc of several beams, brightest voxel 30."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    radius = np.hypot(x, y / 0.5)
    velocity = 32 + 10 * np.tanh(radius / 3) * x / np.maximum(radius, 1e-6)
    planes = (
        np.exp(-radius / 7) * (radius < 20) * np.exp(-0.5 * ((np.arange(CHANNELS)[:, None, None] - velocity) / 2) ** 2)
    )
    planes = ndimage.gaussian_filter(planes, (0, SIGMA, SIGMA))
    return 30 * planes / planes.max()


def measured(planes: np.ndarray, cube: Cube, kind: str = "line", noise: Noise | None = None) -> Candidate:
    """The candidate in the middle of a cube with unit noise, with a line of the whole disc or with continuum only."""
    noise = noise or Noise(np.ones(CHANNELS), correlation(), np.ones(1))
    cutout = Cutout(planes.astype(np.float32), (0, 0), noise)
    cutout = replace(cutout, level=np.ones((SIDE, SIDE), np.float32))
    line = ((32.0, 14.0),) if kind == "line" else ()
    channels = (18, 47) if kind == "line" else (0, CHANNELS)
    middle = SIDE / 2
    seed = Seed(middle, middle, 3 * SIGMA, 3 * SIGMA, line, channels, compact=kind != "line")
    candidate = Candidate(1, Box(20, 52, 20, 52), 0.9, kind=kind, channels=channels)
    candidate.peaks = tuple(EmissionPeak(32, 1.0, 1.0, *fitted) for fitted in line)
    measure_candidate(candidate, cube, cutout, [seed], 0, FWHM, merge=kind == "line")
    return candidate


@pytest.fixture
def falling(tmp_path) -> PrimaryBeam:
    """A primary beam that falls to a half within the disc."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    return PrimaryBeam(np.exp(-((x - 12) ** 2 + y**2) / 600)[None].astype(np.float32), tmp_path / "pb.fits")


def test_a_source_summed_over_its_mask_has_no_gaussian_width(cube_of):
    """The Gaussian was fitted to the spectrum in its middle, and its columns were of another width than w50."""
    planes = disc() + noise_planes(1)
    candidate = measured(planes, cube_of(planes))
    assert candidate.method == "mask"
    assert candidate.w50 == pytest.approx(20, abs=4)
    for name in ("fwhm", "err_fwhm", "z_fit", "err_z_fit", "chi2_fit", "dc_maj", "dc_limit"):
        assert np.isnan(getattr(candidate, name)), name


def test_what_a_mask_misses_is_in_the_error_of_its_corrected_flux_too(cube_of, falling, monkeypatch):
    planes = disc() + noise_planes(1)
    cube, errors = replace(cube_of(planes), primary_beam=falling), []
    for missed in (0.0, 5.0):
        monkeypatch.setattr(measurement, "missed_by_mask", lambda *_, missed=missed: missed)
        candidate = measured(planes, cube)
        errors.append((candidate.err_f_sum, candidate.err_f_sum_pb))
    (plain, corrected), (more, more_corrected) = errors
    assert more == pytest.approx(np.hypot(plain, 5.0))
    assert more_corrected == pytest.approx(np.hypot(corrected, 5.0 / candidate.pb))


def test_the_error_of_a_corrected_mask_weighs_each_voxel_by_its_response(cube_of, falling, tmp_path, monkeypatch):
    """Against the scatter of the corrected sum over other noise in the same mask."""
    monkeypatch.setattr(measurement, "missed_by_mask", lambda *_: 0.0)
    planes = disc() + noise_planes(1)
    cube = replace(cube_of(planes), primary_beam=falling)
    candidate = measured(planes, cube)
    z, y, x = candidate.mask.slices
    weights = candidate.mask.voxels / falling.plane(0, y, x)
    sums = []
    for seed in range(100, 130):
        noise = noise_planes(seed)
        noise -= noise[np.r_[0:16, 49:64]].mean(axis=0)  # about as many channels as are free of the line
        sums += [float((noise[z, y, x] * weights).sum()), float((noise[z, y, x][:, ::-1] * weights).sum())]
    table = Detections(cube, Settings(), [candidate], planes[0], planes[0], {}).table()
    unit = float(table["f_sum"].value[0] / (np.where(candidate.mask.voxels, planes[z, y, x], 0).sum()))
    scatter = float(np.std(sums)) * abs(unit)
    plain = float((table["err_f_sum"] / table["pb"]).value[0])
    error = float(table["err_f_sum_pb"].value[0])
    assert error > 1.03 * plain
    assert error == pytest.approx(scatter, rel=0.2)


def test_errors_of_corrected_masks_are_kept_in_a_result_and_do_not_concern_corrected_cubes(sky_cube, falling, tmp_path):
    planes = disc() + noise_planes(1)
    planes += planes.clip(0)[18:47].mean(axis=0)  # its continuum
    cube = replace(sky_cube(planes.astype(np.float32)), primary_beam=falling)
    candidate = measured(planes, cube)
    found = Detections(cube, Settings(), [candidate], planes[0], planes[0], {})
    again = read_result(write_result(found, tmp_path / "out"), cube=cube)
    for name in ("err_f_sum_pb", "err_f_cont_pb"):
        assert again.table()[name].value[0] == pytest.approx(found.table()[name].value[0], rel=1e-6)
    as_corrected = replace(cube, primary_beam=replace(falling, corrected=True))
    candidate = measured(planes, as_corrected)
    table = Detections(as_corrected, Settings(), [candidate], planes[0], planes[0], {}).table()
    assert table["err_f_sum_pb"].value[0] == pytest.approx(table["err_f_sum"].value[0])


def test_a_continuum_source_under_four_and_a_half_sigma_has_its_flux_too_but_does_not_count_as_detected(cube_of):
    """A row without any flux helps nobody; its error says how much it is worth."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    point = 4.0 / np.sqrt(CHANNELS) * np.exp(-0.5 * (x**2 + y**2) / SIGMA**2)
    planes = point + noise_planes(3)
    candidate = measured(planes, cube_of(planes), "continuum")
    assert candidate.kind == "continuum"
    assert np.isfinite([candidate.f_cont, candidate.err_f_cont]).all()
    assert 0 < candidate.f_cont < 4.5 * candidate.err_f_cont
    assert "no source" in continuum([candidate])


def test_the_width_at_half_the_mean_brightness_is_that_of_the_masks_spectrum(cube_of):
    """It was NaN for every galaxy, the sources that it was defined for."""
    planes = disc() + noise_planes(2)
    candidate = measured(planes, cube_of(planes))
    spectrum = disc().sum(axis=(1, 2))
    fine = np.arange(0, CHANNELS - 1, 0.01)
    values = np.interp(fine, np.arange(CHANNELS), spectrum)
    summed = np.cumsum(values) / values.sum()
    high = fine[values > 0.5 * values[(summed > 0.05) & (summed < 0.95)].mean()]
    assert candidate.wm50 == pytest.approx(high[-1] - high[0], abs=3 * candidate.err_wm50)
    assert 0 < candidate.err_wm50 < 1
    assert candidate.w50 < candidate.wm50 < candidate.w20


@pytest.mark.parametrize("kind", ["line", "continuum"])
@pytest.mark.filterwarnings("error")
def test_a_source_in_a_cube_whose_noise_is_unknown_has_no_flux(cube_of, kind):
    """As in a field of 2 x 2 pixels, all on the source; it had a flux of 0 +- 0."""
    planes = disc() + noise_planes(3)
    unknown = Noise(np.full(CHANNELS, np.nan), correlation(), np.ones(1))
    candidate = measured(planes, cube_of(planes), kind, unknown)
    for name in ("f_sum", "err_f_sum", "f_cont", "err_f_cont", "rms"):
        assert np.isnan(getattr(candidate, name)), name


def test_nothing_is_said_of_the_continuum_of_a_field_without_sources():
    dropped = Candidate(1, Box(1, 5, 1, 5), 0.1, status=Status.DROPPED)
    assert continuum([]) == continuum([dropped]) == ""


@pytest.mark.parametrize("horn", [0, 1])
def test_a_galaxy_whose_best_line_is_a_horn_far_from_its_middle_is_summed_over_its_mask(cube_of, horn):
    """At its middle there is no emission in the horn; it was measured as a half of its line and a continuum."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    velocity = 32 + 1.0 * x  # solid-body rotation, so that the horns are at the ends
    bright = (0.3 + (abs(x) > 15)) * (abs(x) < 22) * (abs(y) < 5)
    planes = bright * np.exp(-0.5 * ((np.arange(CHANNELS)[:, None, None] - velocity) / 2) ** 2)
    planes = ndimage.gaussian_filter(planes, (0, SIGMA, SIGMA))
    planes = 100 * planes / planes.max()
    data = planes + noise_planes(4)
    cutout = Cutout(data.astype(np.float32), (0, 0), Noise(np.ones(CHANNELS), correlation(), np.ones(1)))
    cutout = replace(cutout, level=np.ones((SIDE, SIDE), np.float32))
    horns = ((13.0, 6.0), (51.0, 6.0))
    lines = (horns[horn], horns[1 - horn])
    channels = (int(lines[0][0]) - 6, int(lines[0][0]) + 7)
    seed = Seed(SIDE / 2, SIDE / 2, 10.0, 3.0, lines, channels, compact=False)
    candidate = Candidate(1, Box(20, 52, 10, 62), 0.9, kind="line", channels=channels)
    candidate.peaks = tuple(EmissionPeak(int(centre), 1.0, 1.0, centre, width) for centre, width in lines)
    cube = cube_of(data)
    measure_candidate(candidate, cube, cutout, [seed], 0, FWHM, merge=True)
    assert (candidate.method, candidate.kind) == ("mask", "line")
    assert candidate.f_sum == pytest.approx(planes.sum(), rel=0.03)
