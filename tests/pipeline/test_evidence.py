"""A cube in units of its noise, and the maps made of it, against known noise and known lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.measure import block_reduce

from napari_almadet.pipeline.evidence import (
    MAPS,
    average,
    binning,
    in_noise_units,
    line_maps,
    maps,
    per_channel,
    stack_snr,
    templates,
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
    np.testing.assert_allclose(images[MAPS.index("beam")], 0.2, rtol=1e-5)
    assert float(images[MAPS.index("line")][:8].abs().max()) == 0
