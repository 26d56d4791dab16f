"""A cube in units of its noise, and the maps made of it, against known noise and known lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.measure import block_reduce

from napari_almadet.search.features import own_lines
from napari_almadet.search.line_maps import (
    BAND,
    LEAST,
    MAPS,
    averaged,
    band_maps,
    bands,
    bank_of,
    highest_snr,
    line_maps,
    maps,
    network_input,
    spreads,
    stack_snr,
    templates,
)
from napari_almadet.search.noise_units import (
    NoiseUnits,
    average,
    binning,
    channels_with_data,
    in_noise_units,
    interpolate,
    lower_medians,
    per_channel,
    voxels_with_data,
)

SHAPE = (64, 48, 56)


def noise(seed: int = 0, shape=SHAPE) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def gaussian(n: int, centre: float, fwhm: float) -> np.ndarray:
    return stats.norm.pdf(np.arange(n), centre, fwhm / 2.3548) * fwhm / 2.3548 * np.sqrt(2 * np.pi)


@pytest.mark.parametrize(("beam", "pixels"), [(2.0, 0.5), (2.6, 1), (5.9, 1), (8.2, 2), (30.0, 8)])
def test_binning_leaves_some_four_pixels_a_beam(beam, pixels):
    assert binning(beam) == pixels


def test_average_is_the_mean_of_blocks():
    planes = noise(1, (3, 12, 20)).numpy()
    expected = np.stack([block_reduce(plane, (4, 4), np.mean) for plane in planes])
    np.testing.assert_allclose(average(planes, 4), expected, rtol=1e-5)


@pytest.mark.parametrize("n_channels", [1, 8, 19])
def test_data_are_counted_in_all_channels_however_many_there_are(n_channels):
    planes = np.random.default_rng(n_channels).normal(size=(n_channels, 6, 7)).astype(np.float32)
    planes[planes > 1] = np.nan
    planes[planes < -1] = 0
    expected = np.isfinite(planes) & (planes != 0)
    known = voxels_with_data(torch.from_numpy(planes))
    np.testing.assert_array_equal(known, expected)
    np.testing.assert_array_equal(channels_with_data(known), expected.sum(axis=0))


def test_average_keeps_blocks_with_half_of_their_data():
    plane = np.ones((1, 5, 4), np.float32)
    plane[0, 0, :2] = plane[0, 1, 0] = np.nan  # one of the first block's four pixels is left
    plane[0, 0, 2] = np.nan
    plane[0, 2, 0] = 5
    made = average(plane, 2)[0]
    assert made.shape == (3, 2)
    assert np.isnan(made[0, 0])
    assert made[0, 1] == 1
    assert made[1, 0] == 2
    assert made[2, 0] == 1  # a block that the edge cuts in half


def test_noise_that_rises_outward_and_differs_by_channel_is_divided_out():
    level = torch.linspace(1, 3, SHAPE[0])[:, None, None]
    y, x = torch.meshgrid(*(torch.arange(n) for n in SHAPE[1:]), indexing="ij")
    rising = 1 + 2 * ((y - 24) ** 2 + (x - 28) ** 2) / 1400
    continuum = 40 * torch.exp(-((y - 24) ** 2 + (x - 28) ** 2) / 20)
    units = in_noise_units(noise() * level * rising + continuum, beam=3)
    rest = units.cube[:, (y - 24) ** 2 + (x - 28) ** 2 > 200]  # where there is no continuum
    assert float(rest.std()) == pytest.approx(1, rel=0.03)
    np.testing.assert_allclose(rest.std(dim=1), 1, rtol=0.12)
    np.testing.assert_allclose(units.cube[:, :8, :8].std(), 1, rtol=0.12)
    np.testing.assert_allclose((units.rms[:, None, None] * units.rms_map).mean(), (level * rising).mean(), rtol=0.05)


def test_blank_channels_and_pixels_are_left_out():
    planes = noise()
    planes[:3] = torch.nan
    planes[40] = 0
    planes[:, :10] = torch.nan
    planes[:, :, -5:] = 0  # an image cut at its primary beam
    units = in_noise_units(planes, beam=3)
    assert units.channels.tolist() == [c for c in range(3, 64) if c != 40]
    assert units.valid[10:, :-5].all()
    assert not units.valid[:10].any()
    assert not units.valid[:, -5:].any()
    assert torch.isfinite(units.cube).all()
    assert float(units.cube[:, :10].abs().max()) == 0
    assert float(units.cube[:, 12:, :-7].std()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("planes", [torch.full(SHAPE, torch.nan), torch.ones(SHAPE)])
def test_no_noise_is_said(planes):
    with pytest.raises(ValueError, match=r"channels|noise"):
        in_noise_units(planes, beam=3)


def test_per_channel_noise_of_equal_steps():
    np.testing.assert_allclose(per_channel(torch.full((9,), 2.0), 12), 2.0)


def test_templates_have_unit_noise_and_no_baseline():
    rms = torch.linspace(1, 2, 64)
    bank, centre, width = templates(64, rms)
    np.testing.assert_allclose(bank.norm(dim=1), 1, rtol=1e-4)
    channel = torch.arange(64.0)
    for baseline in (torch.ones(64), channel):  # in the cube's unit; in noise units divided by the noise
        np.testing.assert_allclose(bank @ (baseline / rms / (baseline / rms).norm()), 0, atol=1e-3)
    assert float(width.max()) <= 16
    assert centre.min() >= 0
    assert centre.max() <= 63


@pytest.mark.parametrize("fwhm", [2.0, 4.0, 7.0])
def test_line_maps_find_a_line_with_its_matched_snr(fwhm):
    """The SNR of a matched filter is the line's norm in noise units, less the baseline's part."""
    line = gaussian(64, 30.4, fwhm)
    line *= 20 / np.linalg.norm(line)
    found = []
    for seed in range(6):
        planes = noise(seed)
        planes[:, 20, 33] += torch.from_numpy(line.astype(np.float32))
        found.append(line_maps(in_noise_units(planes, beam=3)))
    assert np.mean([float(lines.snr[20, 33]) for lines in found]) == pytest.approx(20, abs=2)
    assert all(abs(float(lines.channel[20, 33]) - 30.4) < max(1, fwhm / 3) for lines in found)
    assert np.median([float(lines.width[20, 33]) for lines in found]) == pytest.approx(fwhm, rel=0.5)


def test_line_maps_allow_for_channels_that_share_their_noise():
    rough = noise(0, (66, 48, 56))
    smooth = 0.25 * rough[:-2] + 0.5 * rough[1:-1] + 0.25 * rough[2:]
    lines, independent = (line_maps(in_noise_units(cube, beam=3)) for cube in (smooth, noise()))
    assert lines.correlation > 1.3
    assert float(lines.snr.mean()) <= float(independent.snr.mean()) * 1.05


def test_stack_snr_is_that_of_a_flat_spectrum():
    planes = noise()
    planes[:, 20, 33] += 1.5
    snr = stack_snr(in_noise_units(planes, beam=3))
    assert float(snr[20, 33]) == pytest.approx(1.5 * 8, abs=3)
    assert float(snr.std()) == pytest.approx(1, rel=0.1)


def test_maps_are_finite_and_in_order():
    planes = noise()
    planes[:, :8] = torch.nan
    units = in_noise_units(planes, beam=4.8)
    images, correlation = maps(units, units, 4.8)
    assert correlation == pytest.approx(1, abs=0.1)
    assert images.shape == (len(MAPS), *SHAPE[1:])
    assert torch.isfinite(images).all()
    assert torch.equal(images[MAPS.index("valid")] == 1, units.valid)
    np.testing.assert_allclose(images[MAPS.index("beam")], 4.8, rtol=1e-5)
    assert float(images[MAPS.index("line")][:8].abs().max()) == 0


def test_source_finder_looks_at_images_of_order_one():
    """By hand: S/N ratios as arcsinh(S/N / 2), channels as a share of the band, width and beam relative to others."""
    planes = torch.tensor([20.0, -6.0, 30.0, 16.0, 8.0, -4.0, 1.0, 4.8])[:, None, None].expand(-1, 3, 3)
    expected = [*np.arcsinh([10, -3, 15]), 0.25, 0.75, np.arcsinh(-2), 1, 0.2]
    np.testing.assert_allclose(network_input(planes, 64)[:, 1, 2], expected, rtol=1e-6)


def test_where_there_is_no_line_channel_and_width_say_so():
    planes = noise()
    planes[40:44, 20, 33] += 12
    units = in_noise_units(planes, beam=3)
    images, _ = maps(units, units, 3.0)
    line, channel, width = (images[MAPS.index(name)] for name in ("line", "line's channel", "line's width"))
    assert float(channel[20, 33]) == pytest.approx(41.5, abs=1)
    assert 2 <= float(width[20, 33]) <= 6
    nothing = line <= LEAST
    assert nothing.any()
    assert set(channel[nothing].tolist()) == {0}
    assert set(width[nothing].tolist()) == {1}


def test_a_band_limited_image_is_interpolated_between_its_pixels():
    y, x = np.indices((40, 40))
    fine_y, fine_x = (np.indices((80, 80)) + 0.5) / 2 - 0.5

    def beam(y, x):
        return np.exp(-4 * np.log(2) * ((y - 20.3) ** 2 + (x - 19.8) ** 2) / 3.0**2)

    finer = interpolate(np.stack([beam(y, x), 2 * beam(y, x)]).astype(np.float32))
    np.testing.assert_allclose(finer[1], 2 * beam(fine_y, fine_x), atol=0.03)


def test_interpolated_pixels_share_the_noise_and_the_blanks():
    planes = noise(3, (6, 120, 120)).numpy()
    planes[:, :10, 50] = np.nan
    finer = interpolate(planes)
    assert np.isnan(finer).sum() == 4 * np.isnan(planes).sum()
    spread = [np.nanstd(finer[:, y::2, x::2]) for y in (0, 1) for x in (0, 1)]
    assert max(spread) / min(spread) < 1.01


def test_short_spectra_are_one_band_and_long_ones_are_covered():
    values = torch.zeros(BAND, 2)
    (band,) = bands(values, torch.ones(BAND))
    assert band.values is values
    n = 5000
    seen = np.zeros(n)
    factors = set()
    for band in bands(torch.arange(n, dtype=torch.float32)[:, None], torch.ones(n)):
        assert len(band.values) <= BAND
        # averages of channels are the channel number times the root of how many there are
        channel = band.first + band.factor * np.arange(len(band.values))
        np.testing.assert_allclose(band.values[:, 0], channel * band.factor**0.5, rtol=1e-5, atol=1e-3)
        factors.add(band.factor)
        if band.factor == 1:
            seen[int(band.first) : int(band.first) + len(band.values)] += 1
    assert seen.min() == 1
    assert factors == {1, 4, 16}


def test_averaged_channels_have_unit_noise_and_the_best_signal():
    rng = np.random.default_rng(5)
    rms = torch.from_numpy(rng.uniform(0.5, 3, 402).astype(np.float32))
    values, coarse = averaged(torch.from_numpy(rng.normal(size=(402, 4000)).astype(np.float32)), rms)
    assert values.shape == (100, 4000)
    np.testing.assert_allclose(values.std(dim=1), 1, atol=0.06)
    signal, _ = averaged((1 / rms)[:, None], rms)  # a flat spectrum in noise units
    np.testing.assert_allclose(signal[:, 0], 1 / coarse, rtol=1e-5)


def whole(cube: torch.Tensor) -> NoiseUnits:
    """A cube (channels, ny, nx) that is in noise units already, with the same noise everywhere."""
    shape = cube.shape[1:]
    return NoiseUnits(
        cube, torch.ones(shape, dtype=torch.bool), torch.ones(len(cube)), torch.ones(shape), torch.arange(len(cube))
    )


def line(n: int, channel: float, width: float, snr: float) -> torch.Tensor:
    spectrum = gaussian(n, channel, width)
    return torch.from_numpy((snr * spectrum / np.linalg.norm(spectrum)).astype(np.float32))


@pytest.mark.parametrize(("channel", "width"), [(100, 1), (509, 40), (1024, 125), (3000, 200), (2500, 600), (3996, 3)])
def test_lines_of_any_width_are_found_in_thousands_of_channels(channel, width):
    cube = noise(7, (4000, 16, 16))
    cube[:, 3, 3] += line(4000, channel, width, 30)
    found = line_maps(whole(cube))
    assert found.snr.argmax() == 3 * 16 + 3
    alone, channels = line(4000, channel, width, 30).numpy(), np.arange(4000)
    left = alone - np.polyval(np.polyfit(channels, alone, 1), channels)  # a baseline takes this much of a wide line
    assert found.snr[3, 3] == pytest.approx(np.linalg.norm(left), rel=0.1)
    assert found.channel[3, 3] == pytest.approx(channel, abs=0.4 * width + 1)
    assert 0.6 <= found.width[3, 3] / width <= 1.6


def test_noise_is_as_high_in_long_spectra_as_in_one_band():
    one, many = (float(line_maps(whole(noise(8, (n, 12, 12)))).snr.median()) for n in (BAND, 16 * BAND))
    assert many == pytest.approx(one, abs=0.15)


def test_own_lines_are_the_cubes():
    cube = noise(9, (1500, 3, 1))
    cube[:, 1, 0] += line(1500, 700, 20, 25)
    found = own_lines(cube[:, :, 0].T.numpy(), torch.ones(1500))
    np.testing.assert_allclose(found, line_maps(whole(cube)).snr[:, 0], rtol=0.1)


def test_average_of_holes_counts_what_is_there():
    rng = np.random.default_rng(3)
    planes = rng.normal(size=(2, 10, 11)).astype(np.float32)
    planes[rng.random(planes.shape) < 0.4] = np.nan
    padded = np.pad(planes, [(0, 0), (0, 2), (0, 1)], constant_values=np.nan)
    blocks = padded.reshape(2, 4, 3, 4, 3).swapaxes(2, 3).reshape(2, 4, 4, 9)
    count = np.isfinite(blocks).sum(axis=-1)
    expected = np.where(2 * count >= 9, np.nansum(blocks, axis=-1) / np.maximum(count, 1), np.nan)
    np.testing.assert_allclose(average(planes, 3), expected, rtol=1e-5, atol=1e-6)


def test_medians_are_those_of_torch():
    rows = noise(4, (6, 31))
    rows[0, :7], rows[1, :6], rows[2] = torch.nan, torch.nan, torch.nan
    for some in (rows, rows[:, :30]):
        np.testing.assert_array_equal(lower_medians(some), torch.nanmedian(some, dim=1).values)


@pytest.mark.parametrize("n_channels", [3, 20, 64, 200])
def test_lines_looked_for_where_they_are_respond_as_the_whole_bank_does(n_channels):
    rms = 1 + torch.rand(n_channels, generator=torch.Generator().manual_seed(0))
    cube = noise(5, (n_channels, 40, 50))
    cube[:, 7, 9] += 30 * torch.from_numpy(gaussian(n_channels, n_channels / 3, 3.0)).float()
    valid = torch.ones(40, 50, dtype=torch.bool)
    units = NoiseUnits(cube, valid, rms, torch.ones(40, 50), torch.arange(n_channels))
    bank, centre, width = templates(n_channels, rms)
    (band,) = bands(cube, rms)
    snr, channel, its_width, negative, _ = band_maps(band, torch.arange(2000))
    spread = spreads(bank_of(n_channels, rms), cube.flatten(1))
    response = (bank / spread[:, None]) @ cube.flatten(1)
    torch.testing.assert_close(snr, response.amax(dim=0), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(negative, response.amin(dim=0), atol=2e-4, rtol=1e-4)
    seen = torch.nonzero(snr > LEAST)[:, 0]  # the others' lines are not looked for
    assert len(seen) >= 10
    said = response[response.argmax(dim=0), torch.arange(2000)][seen]
    mine = response[
        [
            int(torch.nonzero((centre == c) & (width == w))[0, 0])
            for c, w in zip(channel[seen], its_width[seen], strict=True)
        ],
        seen,
    ]
    torch.testing.assert_close(mine, said, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(highest_snr(units), line_maps(units).snr)
