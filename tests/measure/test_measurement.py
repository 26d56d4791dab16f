"""Sources measured in seeded cubes of many kinds: the pulls of their numbers, and what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_almadet.measure import gaussian_group, measurement
from napari_almadet.measure.cutout import Cutout, Seed, line_free, separated, without_its_noise
from napari_almadet.measure.measurement import Measured, Scale, line_in, measure_source
from napari_almadet.measure.noise import Noise

FWHM = 5.0
CHANNELS, SIDE = 64, 61
K2 = 4 * np.log(2)


def matrix(major: float, minor: float, angle: float) -> np.ndarray:
    """Covariance in pixels of an ellipse, its angle from x to y in degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag([major**2, minor**2]) @ turn.T / (8 * np.log(2))


ROUND = matrix(FWHM, FWHM, 0)
ELONGATED = matrix(FWHM * 1.41, FWHM / 1.41, 30)


def correlation(beam: np.ndarray, reach: int = 18) -> np.ndarray:
    """That of noise in a natural-weighted image: the beam's."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return image_of(0, 0, beam, x, y)


def image_of(x0: float, y0: float, shape: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(shape)
    dx, dy = x - x0, y - y0
    return np.exp(-0.5 * (inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2))


def noise_planes(seed: int, beam: np.ndarray, hanning: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    side = SIDE + 36
    ky, kx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    taper = np.exp(-(np.pi**2) * (beam[0, 0] * kx**2 + 2 * beam[0, 1] * kx * ky + beam[1, 1] * ky**2))
    made = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((CHANNELS + 2, side, side))) * taper, s=(side, side))
    if hanning:
        made = np.array([0.25, 0.5, 0.25])[:, None, None, None] * np.stack([made[:-2], made[1:-1], made[2:]])
        made = made.sum(axis=0)
    made = made[:CHANNELS, :SIDE, :SIDE]
    return made / made.std()


def line(centre: float, fwhm: float) -> np.ndarray:
    return np.exp(-K2 * ((np.arange(CHANNELS) - centre) / fwhm) ** 2)


def measured(
    sky: np.ndarray,
    seed: int,
    seeds: list[Seed],
    beam: np.ndarray = ROUND,
    hanning: bool = False,
    merge: bool = False,
) -> Measured:
    """Measure the first of some detections in a noiseless sky (channels, ny, nx) and noise of variance 1."""
    spectral = np.array([1, 2 / 3, 1 / 6]) if hanning else np.ones(1)
    noise = Noise(np.ones(CHANNELS), correlation(beam), spectral)
    planes = (sky + noise_planes(seed, beam, hanning)).astype(np.float32)
    cutout = Cutout(planes, (0, 0), noise, np.ones(planes.shape[1:], np.float32))
    area = 2 * np.pi * np.sqrt(np.linalg.det(beam))
    frequency = 1e11 * (1 + 1e-3 * np.arange(CHANNELS))
    scale = Scale(beam, np.full(CHANNELS, area), np.full(CHANNELS, 1 / area), 1.0, frequency)
    return measure_source(cutout, seeds, 0, scale, merge)


def found(x: float, y: float, centre: float, fwhm: float, size: float = FWHM / 2.3548, compact: bool = True) -> Seed:
    low, high = int(np.floor(centre - fwhm + 0.5)), int(np.floor(centre + fwhm + 0.5)) + 1
    return Seed(x, y, size, size, ((centre, fwhm),), (max(low, 0), min(high, CHANNELS)), compact)


def sky_of(x: float, y: float, shape: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
    yy, xx = np.mgrid[:SIDE, :SIDE]
    return spectrum[:, None, None] * image_of(x, y, shape, xx, yy)


def pulls(values: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Median and robust spread of (value - truth) / error."""
    pull = np.array([(value - truth) / error for value, truth, error in values])
    return float(np.median(pull)), float(1.4826 * np.median(np.abs(pull - np.median(pull))))


def test_a_point_in_an_elliptical_beam_is_not_resolved_and_has_its_flux():
    values, sizes = [], 0
    for seed in range(12):
        made = measured(sky_of(30.3, 29.6, ELONGATED, 18 * line(31, 7)), seed, [found(30, 30, 31, 7)], ELONGATED)
        values.append((made.flux, 18 * line(31, 7).sum(), made.err_flux))
        sizes += made.resolved
    middle, spread = pulls(values)
    assert sizes == 0
    assert abs(middle) < 0.6
    assert 0.5 < spread < 1.6


def test_a_line_that_covers_half_of_the_band_has_its_flux_and_is_not_taken_for_continuum():
    """Its wings are in the channels from which the continuum is estimated: with those it is 12 % too faint."""
    total, fluxes, continua = 14 * 30 * np.sqrt(np.pi / K2), [], []  # a hundredth of it is outside the band
    for seed in range(50, 62):
        made = measured(sky_of(30.3, 29.6, ROUND, 14 * line(31, 30)), seed, [found(30, 30, 31, 26)])
        fluxes.append((made.flux, total, made.err_flux))
        continua.append((made.continuum, 0.0, made.err_continuum))
        assert made.peak == pytest.approx(14, abs=3 * made.err_peak)
    assert abs(np.mean([flux for flux, *_ in fluxes]) / total - 1) < 0.06
    for values in (fluxes, continua):
        middle, spread = pulls(values)
        assert abs(middle) < 0.8
        assert 0.4 < spread < 1.7


def test_a_resolved_source_has_its_flux_and_its_size():
    shape = ROUND + matrix(6, 4, 50)
    ratio = np.sqrt(np.linalg.det(shape) / np.linalg.det(ROUND))
    values = []
    for seed in range(100, 120):
        made = measured(sky_of(30, 30, shape, 15 * line(30, 8)), seed, [found(30, 30, 30, 8, 3.0)])
        values.append((made.flux, 15 * line(30, 8).sum() * ratio, made.err_flux))
        assert made.resolved
        assert made.method == "fit"
    middle, spread = pulls(values)
    assert abs(middle) < 0.7
    assert 0.5 < spread < 1.6


def test_what_noise_adds_to_a_faint_flux_on_average_is_taken_off_it(monkeypatch):
    sky, seeds = sky_of(30, 30, ROUND, 9 * line(30, 6)), [found(30, 30, 30, 6)]
    made = measured(sky, 3, seeds)
    monkeypatch.setattr(gaussian_group, "MOST_BIAS", 0.0)
    plain = measured(sky, 3, seeds)
    assert 1.002 < plain.flux / made.flux < 1.04


def test_errors_hold_where_channels_share_their_noise():
    values = []
    for seed in range(14):
        made = measured(sky_of(30, 30, ROUND, 12 * line(31, 6)), seed, [found(30, 30, 31, 6)], hanning=True)
        values.append((made.flux, 12 * line(31, 6).sum(), made.err_flux))
    middle, spread = pulls(values)
    assert abs(middle) < 0.6
    assert 0.5 < spread < 1.6


def test_the_fainter_of_a_pair_holds_nothing_of_its_neighbour():
    apart = 1.2 * FWHM
    bright, faint = 60 * line(31, 8), 20 * line(31, 8)
    values = []
    for seed in range(8):
        sky = sky_of(27, 30, ROUND, faint) + sky_of(27 + apart, 30, ROUND, bright)
        made = measured(sky, seed, [found(27.3, 30.2, 31, 8), found(27 + apart - 0.3, 30, 31, 8)])
        values.append(made.flux / faint.sum())
        assert made.blended
    assert np.median(values) == pytest.approx(1, abs=0.06)


def test_widths_of_a_double_horned_line_are_those_of_both_horns():
    spectrum = 20 * (line(24, 6) + 0.8 * line(38, 6) + 0.3 * line(31, 12))
    fine = np.linspace(0, CHANNELS - 1, 4000)
    profile = sum(a * np.exp(-K2 * ((fine - c) / w) ** 2) for a, c, w in ((1, 24, 6), (0.8, 38, 6), (0.3, 31, 12)))
    truth = np.ptp(fine[profile >= 0.5 * profile.max()])
    values = []
    for seed in range(6):
        made = measured(sky_of(30, 30, ROUND, spectrum), seed, [found(30, 30, 25, 6)])  # one horn alone was found
        values.append(made.widths["w50"][0])
        assert made.flux == pytest.approx(spectrum.sum(), rel=0.08)
        centroid = (spectrum * np.arange(CHANNELS)).sum() / spectrum.sum()
        assert abs(made.z - centroid) < 5 * made.err_z
    assert np.median(values) == pytest.approx(truth, rel=0.05)


def test_a_rotating_disc_is_summed_in_its_mask_and_is_one_source():
    yy, xx = np.mgrid[:SIDE, :SIDE]
    dx, dy = xx - 30, (yy - 30) / 0.5
    radius = np.hypot(dx, dy)
    surface = np.exp(-radius / 6) * (radius < 16)
    velocity = 31 + 12 * np.tanh(radius / 3) * dx / np.maximum(radius, 1e-6)
    disc = surface * np.exp(-0.5 * ((np.arange(CHANNELS)[:, None, None] - velocity) / 1.8) ** 2)
    sigma = FWHM / 2.3548
    disc = ndimage.gaussian_filter(disc, (0, sigma, sigma))
    disc *= 25 / disc.max()
    truth = disc.sum() / (2 * np.pi * sigma**2)
    one = found(23, 30, 20, 5, 4.5, compact=False)
    other = found(37, 30, 42, 5, 4.5, compact=False)
    made = measured(disc, 3, [one, other], merge=True)
    assert made.method == "mask"
    assert made.parts.merged == (1,)
    assert made.flux == pytest.approx(truth, abs=3 * made.err_flux)
    assert made.flux == pytest.approx(truth, rel=0.07)
    assert made.widths["w50"][0] == pytest.approx(24, abs=5)


def test_a_continuum_source_has_a_flux_density_and_a_spectral_index_and_no_line():
    frequency = 1 + 1e-3 * np.arange(CHANNELS)
    spectrum = 12 * (frequency / frequency.mean()) ** 2
    seed = replace(found(30, 30, 31, 7), lines=(), channels=(0, CHANNELS))
    made = measured(sky_of(30, 30, ROUND, spectrum), 5, [seed])
    assert made.continuum == pytest.approx(12, abs=4 * made.err_continuum)
    assert made.err_continuum < 0.3
    assert abs(made.index - 2) < 4 * made.err_index
    assert np.isnan(made.flux)
    assert made.line is None


def test_a_line_that_was_not_detected_is_seen_in_the_sources_own_spectrum():
    seed = replace(found(30, 30, 31, 7), lines=(), channels=(0, CHANNELS))
    noise = Noise(np.ones(CHANNELS), correlation(ROUND), np.ones(1))
    area = 2 * np.pi * np.sqrt(np.linalg.det(ROUND))
    scale = Scale(ROUND, np.full(CHANNELS, area), np.full(CHANNELS, 1 / area), 1.0)
    for height, seen in ((0.0, False), (6.0, True)):
        sky = sky_of(30, 30, ROUND, 3 + height * line(34, 20))
        planes = (sky + noise_planes(6, ROUND)).astype(np.float32)
        cutout = Cutout(planes, (0, 0), noise, np.ones(planes.shape[1:], np.float32))
        answer = line_in(measure_source(cutout, [seed], 0, scale), cutout, scale, 6.0)
        assert (answer is not None) == seen
    assert answer[0] == pytest.approx(34, abs=4)


def test_the_centre_of_the_line_is_where_it_is():
    values = []
    for seed in range(200, 226):
        made = measured(sky_of(30, 30, ROUND, 8 * line(30.4, 9)), seed, [found(30, 30, 31, 9)])
        values.append((made.z, 30.4, made.err_z))
    middle, spread = pulls(values)
    assert abs(middle) < 0.7
    assert 0.4 < spread < 1.7


@pytest.mark.parametrize(("bright", "faint"), [(2.2, 0.9), (2.2, 0.0)])
def test_line_and_continuum_together_place_a_source_and_a_faint_continuum_does_not_pull_it(bright, faint):
    """The line's S/N is 5, the continuum's 5 or none: with it the error is that of both S/N together."""
    values, alone = [], []
    for seed in range(12):
        sky = sky_of(30.3, 29.6, ROUND, bright * line(31, 7))
        made = measured(sky + sky_of(30.3, 29.6, ROUND, np.full(CHANNELS, faint)), seed, [found(30, 30, 31, 7)])
        only = measured(sky, seed, [found(30, 30, 31, 7)])
        values += [(made.place[0], 30.3, made.place[2]), (made.place[1], 29.6, made.place[3])]
        alone.append(made.place[2] / only.place[2])
    middle, spread = pulls(values)
    assert abs(middle) < 0.4
    assert 0.6 < spread < 1.5
    snr = faint * np.sqrt(CHANNELS - 28) / (bright * np.sqrt((line(31, 7) ** 2).sum()))
    assert abs(np.median(alone) * np.hypot(1, snr) - 1) < 0.15


def test_centroids_of_symmetric_and_of_skewed_lines_scatter_as_their_errors_say():
    """A skewed line of S/N 8 to 16, whose asymmetry no criterion finds: its Gaussian's centre is off by an error."""
    channel = np.arange(CHANNELS)
    skewed = np.exp(-K2 * ((channel - 31) / np.where(channel < 31, 7.0, 17.0)) ** 2)
    for spectrum, most in ((skewed, 0.55), (line(31, 12), 0.35)):
        truth = (spectrum * channel).sum() / spectrum.sum()
        values = []
        for seed in range(24):
            sky = sky_of(30, 30, ROUND, (3 + 0.1 * seed) * spectrum)
            made = measured(sky, seed, [found(30, 30, 32, 12)])
            values.append((made.z, truth, made.err_z))
        middle, spread = pulls(values)
        assert abs(middle) < most
        assert 0.7 < spread < 1.3


def faint_disc() -> np.ndarray:
    """A rotating disc whose outskirts are below the threshold of a mask."""
    yy, xx = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot(xx - 30, (yy - 30) / 0.6)
    velocity = 31 + 8 * np.tanh(radius / 3) * (xx - 30) / np.maximum(radius, 1e-6)
    disc = np.exp(-radius / 7) * np.exp(-0.5 * ((np.arange(CHANNELS)[:, None, None] - velocity) / 1.8) ** 2)
    disc = ndimage.gaussian_filter(disc, (0, FWHM / 2.3548, FWHM / 2.3548))
    return disc * 9 / disc.max()


def test_the_error_of_a_masks_flux_covers_what_the_mask_misses():
    """With noise alone one flux is 2.7 errors off."""
    disc, by_noise, whole = faint_disc(), [], []
    truth = disc.sum() / (2 * np.pi * (FWHM / 2.3548) ** 2)
    for seed in range(4):
        made = measured(disc, seed, [found(30, 30, 31, 12, 5, compact=False)], merge=True)
        assert made.method == "mask"
        noise = np.sqrt(made.err_flux**2 - made.err_missed**2)
        by_noise.append((made.flux - truth) / noise)
        whole.append((made.flux - truth) / made.err_flux)
    assert max(np.abs(whole)) < 2
    assert max(np.abs(by_noise)) > 2.4


def test_noise_about_a_mask_adds_no_more_to_its_error_than_a_mask_may_miss(monkeypatch):
    """The sum over all voxels says nothing of what a mask misses."""
    everywhere = np.ones((CHANNELS, SIDE, SIDE), bool)
    monkeypatch.setattr(measurement, "with_surroundings", lambda parts, *_: replace(parts, mask=everywhere))
    made = measured(faint_disc(), 1, [found(30, 30, 31, 12, 5, compact=False)], merge=True)
    assert made.method == "mask"
    assert 0.01 * made.flux < made.err_missed < 0.06 * made.flux


def test_the_error_of_a_masks_width_holds_what_that_of_mask_and_surroundings_differs_by(monkeypatch):
    own = measurement.spectrum_of_mask

    def wide_about_the_mask(task, mask):
        return own(task, mask) if mask is task.parts.mask else np.isin(np.arange(CHANNELS), np.arange(10, 50)) * 1.0

    detection = found(30, 30, 31, 12, 5, compact=False)
    width, error = measured(faint_disc(), 2, [detection], merge=True).widths["w50"]
    monkeypatch.setattr(measurement, "spectrum_of_mask", wide_about_the_mask)
    again, larger = measured(faint_disc(), 2, [detection], merge=True).widths["w50"]
    assert again == width
    assert larger == pytest.approx(40 - width, rel=0.02)
    assert 0 < error < 0.1 * larger


@pytest.mark.parametrize(
    ("share", "sigma", "lone", "method"),
    [(1.3, 5, True, "mask"), (1.2, 5, True, "fit"), (1.3, 3, True, "fit"), (1.3, 5, False, "fit")],
)
def test_a_lone_source_whose_mask_holds_clearly_more_than_its_gaussian_is_summed(
    monkeypatch, share, sigma, lone, method
):
    """The mask holds ``share`` of the fitted flux, which is so many ``sigma`` more."""
    wide = matrix(13, 11, 20)
    seeds = [found(30, 30, 31, 12, 5, compact=lone)] + ([] if lone else [found(40, 30, 31, 12, 5, compact=False)])
    seeds[0] = replace(seeds[0], compact=True)
    sky = sky_of(30, 30, wide, 3 * line(31, 12)) + (0 if lone else sky_of(40, 30, wide, 3 * line(31, 12)))
    monkeypatch.setattr(measurement, "MORE_IN_MASK", np.inf)
    plain = measured(sky, 2, seeds)
    assert plain.method == "fit"
    monkeypatch.undo()
    more = (share * plain.flux, (share - 1) * plain.flux / sigma)
    monkeypatch.setattr(measurement, "flux_of_mask", lambda task: more)
    assert measured(sky, 2, seeds).method == method


def test_the_noise_of_the_level_in_a_faint_masks_pixels_is_not_low():
    """If the noise of the level were subtracted before the mask is made, the mask would prefer pixels where it is low.

    Ten galaxies with a broad line and few channels beside it, of which few voxels exceed the noise: in units of its
    error, the noise of the level in their masks' pixels has a mean of 0, not of -0.6.
    """
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    sky = 2.0 * line(32, 16)[:, None, None] * image_of(30, 30, matrix(14, 10, 30), x, y)
    noise = Noise(np.ones(CHANNELS), correlation(ROUND), np.ones(1))
    pulls = []
    for seed in range(100, 110):
        own = noise_planes(seed, ROUND)
        cutout = Cutout((sky + own).astype(np.float32), (0, 0), noise, np.ones((SIDE, SIDE), np.float32))
        parts = separated(cutout, [found(30, 30, 32, 16, 5.0)], 0, FWHM, merge=True)
        weights = parts.rest * (parts.mask.sum(axis=0) / parts.rest.sum(axis=0))
        pulls.append(float((weights * own).sum()) / np.sqrt(noise.variance(weights)))
    assert abs(np.mean(pulls)) < 0.4


@pytest.mark.parametrize("level", [0.0, 0.4])
def test_a_real_continuum_is_subtracted_before_a_mask_is_made(level):
    """Next to nothing is left of a bright source, nor of a low level of the whole field; of the noise, little is."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    real = level + 6.0 * image_of(42, 42, ROUND, x, y)
    planes = (noise_planes(4, ROUND) + real).astype(np.float32)
    noise = Noise(np.ones(CHANNELS), correlation(ROUND), np.ones(1))
    cutout = Cutout(planes, (0, 0), noise, np.ones((SIDE, SIDE), np.float32))
    continuum = planes.mean(axis=0)
    left = without_its_noise(continuum, np.ones(planes.shape, bool), cutout, FWHM)
    assert left[42, 42] == pytest.approx(continuum[42, 42], rel=0.03)
    away = slice(0, 25), slice(0, 25)
    assert left[away].mean() == pytest.approx(level, abs=0.03)
    assert left[away].std() < 0.5 * continuum[away].std()


def test_a_source_in_all_channels_has_a_mask_and_no_continuum():
    """There is no channel free of the line, and so no mean to be taken off."""
    planes = (noise_planes(3, ROUND) + sky_of(30, 30, ROUND, np.full(CHANNELS, 20.0))).astype(np.float32)
    noise = Noise(np.ones(CHANNELS), correlation(ROUND), np.ones(1))
    cutout = Cutout(planes, (0, 0), noise, np.ones((SIDE, SIDE), np.float32))
    seed = replace(found(30, 30, 32, 40, compact=False), channels=(0, CHANNELS))
    assert not line_free(cutout, seed).any()
    assert separated(cutout, [seed], 0, FWHM).mask[:, 30, 30].all()
