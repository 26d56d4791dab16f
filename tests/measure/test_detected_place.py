"""The place of a compact source is that of its detection, and its error is that of a maximum in correlated noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from test_measurement import ELONGATED, FWHM, ROUND, correlation, found, image_of, line, matrix, measured, sky_of

from napari_almadet.measure import detected_place as detected_place_module
from napari_almadet.measure.detected_place import detected_place, share_of_error
from napari_almadet.measure.gaussian_group import Shape, fit_group
from napari_almadet.measure.noise import Noise


def planes_of_noise(beam: np.ndarray, count: int, side: int) -> np.ndarray:
    """Planes of unit noise that is correlated like the beam, (count, side, side)."""
    rng = np.random.default_rng(5)
    ky, kx = np.fft.fftfreq(2 * side)[:, None], np.fft.rfftfreq(2 * side)[None]
    taper = np.exp(-(np.pi**2) * (beam[0, 0] * kx**2 + 2 * beam[0, 1] * kx * ky + beam[1, 1] * ky**2))
    made = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((count, 2 * side, 2 * side))) * taper)[:, :side, :side]
    return made / made.std()


def highest(image: np.ndarray, middle: int) -> np.ndarray:
    """Place (x, y) of the maximum within two pixels of the middle, to a twentieth of a pixel."""
    steps = np.linspace(-2, 2, 81)
    grid = np.meshgrid(middle + steps, middle + steps, indexing="ij")
    y, x = np.unravel_index(ndimage.map_coordinates(image, grid, order=3).argmax(), (81, 81))
    return np.array([middle + steps[x], middle + steps[y]])


@pytest.mark.parametrize("beam", [ROUND, ELONGATED])
def test_a_maximum_is_surer_than_a_fit_in_the_noise_of_a_beam_and_scatters_as_its_error_says(beam):
    side, middle = 41, 20
    noise = Noise(np.ones(1), correlation(beam), np.ones(1))
    y, x = np.mgrid[:side, :side]
    maxima, fits, errors = [], [], []
    for plane in planes_of_noise(beam, 120, side):
        image = plane + 25 * image_of(middle, middle, beam, x, y)
        fit = fit_group(image[None], np.ones_like(image, bool), [Shape(20.0, 20.0, beam)], beam, False, 1.0, noise)
        maxima.append(highest(image, middle))
        fits.append((fit.own.x, fit.own.y))
        errors.append(np.sqrt(np.diag(fit.covariance)[1:3]))
    of_maxima, of_fits = np.std(maxima, axis=0), np.std(fits, axis=0)
    share = share_of_error(beam, beam, noise)
    assert (of_maxima < 0.97 * of_fits).all()
    assert share * np.mean(errors, axis=0) == pytest.approx(of_maxima, rel=0.2)


def test_an_extended_source_is_placed_as_well_by_a_fit():
    noise = Noise(np.ones(1), correlation(ROUND), np.ones(1))
    wide = ROUND + matrix(3 * FWHM, 3 * FWHM, 0)
    assert (share_of_error(wide, ROUND, noise) > 0.95).all()


def test_a_detections_place_is_kept_where_a_joint_fit_moves_to_what_is_not_gaussian():
    """A neighbour with wings that no Gaussian has draws the fit of the fainter source towards itself, not its place."""
    bright = sky_of(36, 30, ROUND, 40 * line(31, 8)) + sky_of(36, 30, 6 * ROUND, 16 * line(31, 8))
    sky = sky_of(30, 30, ROUND, 10 * line(31, 8)) + bright
    seeds = [found(30, 30.1, 31, 8), found(36, 30, 31, 8)]
    fitted = measured(sky, 3, seeds)
    placed = measured(sky, 3, [replace(seeds[0], placed=True), seeds[1]])
    assert np.hypot(fitted.place[0] - 30, fitted.place[1] - 30) > 0.7
    assert placed.place[:2] == (30, 30.1)
    assert 0 < placed.place[2] < 2
    assert placed.flux == fitted.flux


def test_the_error_is_larger_where_fit_and_detection_disagree():
    noise = Noise(np.ones(1), correlation(ROUND), np.ones(1))
    near = detected_place(10.0, 10.0, (10.1, 10.0, 0.1, 0.1), ROUND, ROUND, noise)
    far = detected_place(10.0, 10.0, (11.0, 10.0, 0.1, 0.1), ROUND, ROUND, noise)
    assert near[2] < 0.1
    assert far[2] == pytest.approx(0.5 * np.sqrt(1 - 0.09), rel=0.03)
    assert far[3] == near[3]
    failed = detected_place(10.0, 10.0, (np.nan,) * 4, ROUND, ROUND, noise)
    assert failed[:2] == (10.0, 10.0)
    assert np.isnan(failed[2:]).all()


@pytest.mark.parametrize("misfit", [3.0, np.inf, np.nan])
def test_beside_a_neighbour_a_fit_that_does_not_explain_the_image_is_half_of_the_error(misfit):
    noise = Noise(np.ones(1), correlation(ROUND), np.ones(1))
    place = detected_place(10.0, 10.0, (10.2, 10.0, 0.1, 0.1), ROUND, ROUND, noise, misfit)
    assert place == pytest.approx((10.0, 10.0, np.sqrt(0.1**2 + 0.1**2), 0.1))


def test_beside_a_neighbour_the_place_is_that_of_a_joint_fit_that_explains_the_image():
    """As for any other source, a fit that failed leaves the detection's place."""
    noise = Noise(np.ones(1), correlation(ROUND), np.ones(1))
    for fitted in ((10.2, 9.8, 0.1, 0.1), (11.0, 9.8, 0.1, 0.1)):
        assert detected_place(10.0, 10.0, fitted, ROUND, ROUND, noise, 1.5) == fitted
        assert detected_place(10.0, 10.0, fitted, ROUND, ROUND, noise)[:2] == (10.0, 10.0)
    failed = detected_place(10.0, 10.0, (np.nan,) * 4, ROUND, ROUND, noise, 1.5)
    assert failed[:2] == (10.0, 10.0)


def test_both_sources_of_a_close_pair_are_where_they_are_although_detected_elsewhere():
    """The neighbour's emission moves the maximum: detections were off by seven errors of the fit at an S/N of 100."""
    sky = sky_of(30, 30, ROUND, 30 * line(31, 8)) + sky_of(36, 30, ROUND, 30 * line(31, 8))
    seeds = [replace(found(x, 30, 31, 8), placed=True) for x in (30.3, 35.7)]
    assert FWHM < 6 < 1.6 * FWHM
    placed = measured(sky, 3, seeds)
    assert placed.blended
    assert 0 < placed.misfit < 2
    assert placed.place == measured(sky, 3, [replace(seed, placed=False) for seed in seeds]).place
    assert np.abs(np.subtract(placed.place[:2], 30) / placed.place[2:]).max() < 3


@pytest.mark.parametrize("beams", [1.2, 1.9])
def test_a_neighbour_blends_by_the_width_that_the_beam_has_towards_it(beams):
    """Distances are in beams along the line between the two; the limit is 1.6."""
    inverse = np.linalg.inv(ELONGATED)
    for angle in np.radians([0, 45, 90, 135]):
        way = np.array([np.cos(angle), np.sin(angle)])
        x, y = 30 + beams * 2.3548 / np.sqrt(way @ inverse @ way) * way
        sky = sky_of(30, 30, ELONGATED, 20 * line(31, 8)) + sky_of(x, y, ELONGATED, 20 * line(31, 8))
        assert measured(sky, 3, [found(30, 30, 31, 8), found(x, y, 31, 8)], ELONGATED).blended == (beams < 1.6)


@pytest.mark.parametrize(("moved", "kept"), [(0.55 * FWHM, True), (0.65 * FWHM, False)])
def test_a_place_far_from_its_detection_is_not_believed(monkeypatch, moved, kept):
    """Line and continuum are fitted one after the other, and each fit may move the place again."""

    def run_away(cutout, seeds, group, parts, scale, made, line):
        made.place = (30 + moved, 30.0, 0.1, 0.1)

    monkeypatch.setattr("napari_almadet.measure.measurement.fit_the_continuum", run_away)
    made = measured(sky_of(30, 30, ROUND, 10 * line(31, 8)), 3, [found(30, 30, 31, 8)])
    assert made.place[:2] == ((30 + moved, 30.0) if kept else (30, 30))
    assert kept or made.place[2] > 1.5


def test_the_share_of_an_error_is_that_of_the_whole_gaussian(monkeypatch):
    noise = Noise(np.ones(1), correlation(ROUND), np.ones(1))
    share = share_of_error(ROUND, ROUND, noise)
    monkeypatch.setattr(detected_place_module, "REACH", 6.0)
    assert share == pytest.approx(share_of_error(ROUND, ROUND, noise), rel=1e-3)


def test_in_noise_of_unknown_correlation_the_error_is_that_of_the_fit():
    unknown = Noise(np.ones(1), np.full((3, 3), np.nan), np.ones(1))
    assert share_of_error(ROUND, ROUND, unknown).tolist() == [1, 1]
