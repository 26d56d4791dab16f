import numpy as np
import pytest
from photutils.aperture import RectangularAperture, aperture_photometry
from scipy.stats import zscore

from napari_almadet.catalogue.candidate import Box, EmissionPeak
from napari_almadet.measure import spectra, stacking
from napari_almadet.measure.spectra import (
    continuum_level,
    denoise,
    extract_spectra,
    find_emission,
    fit_gaussian,
    implausible,
    overlap,
    own_lines,
    standardise,
)


def gaussian(n, centre, fwhm, height):
    return height * np.exp(-4 * np.log(2) * ((np.arange(n) - centre) / fwhm) ** 2)


def test_standardise_agrees_with_scipy():
    spectra = np.random.default_rng(1).normal(5, 3e-4, size=(4, 3, 50))
    result = standardise(spectra)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, zscore(spectra, axis=-1), atol=1e-5)


def test_missing_channels_do_not_count_and_become_the_mean():
    spectrum = np.random.default_rng(2).normal(size=64)
    spectrum[10:20] = np.nan
    result = standardise(spectrum)
    np.testing.assert_allclose(np.delete(result, np.s_[10:20]), zscore(np.delete(spectrum, np.s_[10:20])), atol=1e-5)
    assert not result[10:20].any()


@pytest.mark.parametrize("value", [0, 0.1, -7e20, np.nan])
def test_a_constant_spectrum_becomes_zeros(value):
    np.testing.assert_array_equal(standardise(np.full((2, 100), value)), np.zeros((2, 100)))


def test_spectra_are_the_sums_photutils_finds_in_the_boxes(cube_of, monkeypatch):
    monkeypatch.setattr(stacking, "BLOCK_VOXELS", 1000)  # several blocks
    planes = np.random.default_rng(3).normal(100, 1, size=(9, 40, 50)).astype(np.float32)
    boxes = [Box(0, 5, 0, 7), Box(10, 11, 20, 21), Box(3, 40, 30, 50)]
    spectra = extract_spectra(cube_of(planes), boxes)
    assert spectra.dtype == np.float32
    for box, spectrum in zip(boxes, spectra, strict=True):
        aperture = RectangularAperture(box.centre[::-1], *box.shape[::-1])
        expected = [aperture_photometry(plane, aperture)["aperture_sum"][0] for plane in planes]
        np.testing.assert_allclose(spectrum, expected, rtol=1e-6)


def test_missing_pixels_add_nothing_and_missing_channels_are_missing(cube_of):
    planes = np.ones((4, 10, 10), np.float32)
    planes[1, 2, 2] = np.nan
    planes[2, :, :5] = np.nan
    spectra = extract_spectra(cube_of(planes), [Box(0, 5, 0, 5), Box(5, 10, 5, 10)])
    np.testing.assert_array_equal(spectra, [[25, 24, np.nan, 25], [25] * 4])
    assert extract_spectra(cube_of(planes), []).shape == (0, 4)


@pytest.mark.parametrize("n_channels", [5, 127, 128, 129, 300, 1000])
def test_denoising_takes_any_number_of_channels(n_channels):
    spectra = np.random.default_rng(4).normal(size=(3, n_channels)).astype(np.float32)
    shapes = []

    def network(batch):
        shapes.append(tuple(batch.shape))
        assert np.abs(batch.numpy().mean(axis=1)).max() < 1e-5  # each window is standardised
        return (batch > 0).float()

    denoised = denoise(spectra, network, batch_size=4)
    assert denoised.shape == spectra.shape
    assert all(0 < b <= 4 and n == 128 for b, n in shapes)
    clear = np.abs(spectra) > 0.6  # whatever the window's own mean was
    np.testing.assert_array_equal(denoised[clear] > 0.5, spectra[clear] > 0)


def test_denoising_nothing_is_nothing():
    assert denoise(np.empty((0, 128), np.float32), lambda batch: batch).shape == (0, 128)


@pytest.mark.parametrize(("centre", "fwhm"), [(40.3, 3.2), (64, 10), (100.8, 25), (3.4, 5), (125, 4)])
def test_a_gaussian_line_is_fitted_exactly(centre, fwhm):
    line = gaussian(128, centre, fwhm, 0.7)
    (peak,), reasons = find_emission(line, line, 0.1)
    assert not reasons
    assert (peak.centre, peak.fwhm, peak.amplitude) == pytest.approx((centre, fwhm, 0.7), rel=1e-3)
    assert peak.channel == round(centre)


def test_the_line_of_highest_dirty_flux_is_primary():
    denoised = gaussian(128, 30, 5, 0.9) + gaussian(128, 80, 5, 0.4)
    dirty = gaussian(128, 30, 5, 2) + gaussian(128, 80, 5, 7) + 100  # on a continuum
    peaks, _ = find_emission(denoised, dirty, 0.1)
    assert [peak.channel for peak in peaks] == [80, 30]


def test_ripples_on_a_line_are_not_lines():
    line = gaussian(128, 60, 20, 0.6) + 0.02 * np.sin(np.arange(128))
    peaks, _ = find_emission(line, line, 0.1)
    assert [round(peak.centre) for peak in peaks] == [60]


def test_neighbouring_lines_are_told_apart():
    both = gaussian(128, 50, 6, 0.8) + gaussian(128, 62, 6, 0.8)
    peaks, _ = find_emission(both, both, 0.1)
    assert sorted(peak.centre for peak in peaks) == pytest.approx([50, 62], abs=0.2)
    assert [peak.fwhm for peak in peaks] == pytest.approx([6, 6], rel=0.1)


@pytest.mark.parametrize(
    ("denoised", "why"),
    [
        (np.eye(1, 128, 64)[0], "less than one channel"),
        (gaussian(128, 64, 100, 0.9), "over half of the band's 128"),
        (gaussian(128, -4, 10, 1), "outside the band"),
    ],
)
def test_a_fit_that_makes_no_sense_is_discarded_with_its_reason(denoised, why):
    peaks, (reason,) = find_emission(denoised, denoised, 0.1)
    assert peaks == ()
    assert why in str(reason)


def test_nothing_above_the_height_is_no_line():
    low = gaussian(128, 64, 6, 0.09)
    assert find_emission(low, low, 0.1) == ((), [])
    assert find_emission(np.zeros(128), low, 0.1) == ((), [])


def test_a_source_taken_apart_keeps_its_own_lines():
    mine, also_mine, other = (EmissionPeak(c, 1, 1, float(c), 5.0) for c in (20, 22, 90))
    assert own_lines((other, also_mine), (mine,)) == (also_mine,)
    assert own_lines((other,), (mine,)) == (mine,)
    assert own_lines((other, mine), ()) == (other, mine)


def test_any_spectrum_gives_peaks_or_reasons():
    """White noise sends some fits to infinity; that is a reason, not an error."""
    rng = np.random.default_rng(0)
    reasons = []
    for _ in range(60):
        denoised = rng.random(64).astype(np.float32) ** 4
        reasons += find_emission(denoised, denoised, 0.1)[1]
    assert any("diverged" in reason or "failed" in reason for reason in map(str, reasons))


@pytest.mark.parametrize(("dip", "lines"), [(0.035, 1), (0.07, 2)])
def test_a_peak_rises_by_a_twentieth_from_its_surroundings(dip, lines):
    denoised = np.interp(np.arange(128), [40, 50, 55, 60, 70], [0, 0.6, 0.6 - dip, 0.6 - 1e-3, 0])
    peaks, discarded = find_emission(denoised, denoised, 0.1)
    assert len(peaks) + len(discarded) == lines


def test_a_fit_below_zero_is_no_line():
    assert "not positive" in implausible(EmissionPeak(20, 0.5, -0.1, 20.0, 4.0), 64)
    assert implausible(EmissionPeak(20, 0.5, 0.1, 20.0, 4.0), 64) == ""


@pytest.mark.parametrize(
    ("box", "edge"),
    [
        ((1, 9, 1, 9), False),
        ((0, 9, 1, 9), True),
        ((1, 10, 1, 9), True),
        ((1, 9, 0, 9), True),
        ((1, 9, 1, 12), True),
    ],
)
def test_a_box_touches_any_of_the_four_borders(box, edge):
    assert stacking.at_edge(Box(*box), np.zeros((10, 12))) is edge


def test_ranges_that_only_touch_do_not_overlap():
    assert not overlap((0, 5), (5, 9))
    assert not overlap((5, 9), (0, 5))
    assert overlap((0, 6), (5, 9))


def test_where_lines_fill_the_band_the_continuum_is_zero():
    wide = (EmissionPeak(5, 1.0, 1.0, 5.0, 30.0),)
    assert continuum_level(np.ones(10), wide) == 0
    assert continuum_level(np.ones(100), wide) == 1


def test_a_peak_that_no_gaussian_fits_is_discarded_with_its_reason(monkeypatch):
    assert fit_gaussian(np.ones(2), 0, 0, 1.0, 1.0)[0] is None
    monkeypatch.setattr(spectra, "gaussian_in", lambda *_: None)
    peaks, discarded = find_emission(gaussian(128, 60, 6, 1.0), np.ones(128), 0.1)
    assert peaks == ()
    assert "diverged" in str(discarded[0].values)


def test_the_border_of_a_part_of_a_field_is_no_edge():
    part = np.ones((10, 10))
    assert not stacking.at_edge(Box(11, 15, 11, 16), part, (6, 6), (100, 100))
    assert stacking.at_edge(Box(11, 15, 11, 16), part, (6, 6), (15, 100))
