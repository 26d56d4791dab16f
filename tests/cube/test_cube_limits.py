"""Limits of what is a fault, a spike or missing data, and of cards, each with a value on either side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from headers_by_hand import PIXEL, REST, SHAPE, header_of

from napari_almadet.cube.bad_channels import BRIGHTER, Likeness, bad_channels, faults, stripes
from napari_almadet.cube.coordinate_cards import coordinate_cards
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.prepare import is_corrected
from napari_almadet.cube.reading import read_cube

N = 48


def faults_of(**changes) -> dict[str, list[int]]:
    """Faults of 48 channels of unit noise, of which channel 20 (and others, by number) has other statistics."""
    statistics = {"low": -np.ones(N), "middle": np.zeros(N), "high": np.ones(N), "spread": np.ones(N)}
    contrast = np.zeros((2, N))
    for name, value in changes.items():
        if name == "contrast":
            contrast[:, 20] = value
        elif name == "shift":
            for channel, by in value.items():
                for part in ("low", "middle", "high"):
                    statistics[part][channel] += by
        elif name == "noise":
            statistics["low"][20], statistics["high"][20] = -value, value
        else:
            statistics[name][20] = value
    percentiles = np.stack([statistics[name] for name in ("low", "middle", "high")])
    found = faults(percentiles, statistics["spread"], contrast)
    return {kind: np.flatnonzero(mask).tolist() for kind, mask in found.items() if mask.any()}


# --- bad channels ---


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"noise": 2.8}, None),
        ({"noise": 3.2}, "noisy"),
        ({"spread": 0.015}, None),
        ({"spread": 0.008}, "constant"),
        ({"shift": {20: -3.6}}, None),
        ({"shift": {20: -4.4}}, "shifted"),
        ({"shift": {20: 4.4}}, BRIGHTER),
        ({"contrast": (270.0, 1.2)}, None),
        ({"contrast": (330.0, 1.2)}, "striped"),
        ({"contrast": (330.0, 0.8)}, None),  # a wave within the noise
        ({"contrast": (330.0, 9.0), "noise": 3.2}, "noisy"),  # and not both
    ],
)
def test_a_channel_is_bad_by_three_times_the_noise_a_hundredth_of_it_or_an_offset_of_four(changes, kind):
    assert faults_of(**changes) == ({} if kind is None else {kind: [20]})


@pytest.mark.parametrize(("wider", "kind"), [(1.4, "shifted"), (1.8, None)])
def test_all_of_a_channel_is_shifted_if_it_is_no_wider_than_half_as_much_again(wider, kind):
    assert faults_of(high=wider, shift={20: -10.0}) == ({} if kind is None else {kind: [20]})


@pytest.mark.parametrize(("share", "kind"), [(0.22, "shifted"), (0.37, None)])
def test_a_channel_is_not_shifted_alone_if_its_neighbour_has_three_tenths_of_it(share, kind):
    """Where channels differ by as much as their noise, so that 0.04 of it are no line."""
    others = {k: (0.7, -0.7, 0.0)[k % 3] for k in range(N) if k not in (20, 21)}
    found = faults_of(shift=others | {20: -12.0, 21: -12.0 * share})
    assert found == ({} if kind is None else {kind: [20]})


@pytest.mark.parametrize(("share", "line"), [(0.03, False), (0.06, True)])
def test_an_offset_that_the_next_channel_has_to_four_percent_is_a_line(share, line):
    assert faults_of(shift={20: -10.0, 21: -10.0 * share}) == ({} if line else {"shifted": [20]})


@pytest.mark.parametrize(("wing", "line"), [(0.6, False), (0.9, True)])
def test_a_wing_is_seen_from_five_times_the_usual_offset_on(wing, line):
    """Here they scatter by 0.15."""
    usual = dict(enumerate(np.random.default_rng(8).normal(scale=0.15, size=N)))
    assert faults_of(shift=usual | {20: -10.0, 21: -wing}) == ({} if line else {"shifted": [20]})


@pytest.mark.parametrize(("coefficient", "alike"), [(0.55, False), (0.66, True)])
def test_channels_with_six_tenths_in_common_are_alike(coefficient, alike):
    rng = np.random.default_rng(1)
    common, likeness = rng.normal(size=(64, 64)), Likeness(6)
    for k in range(6):
        likeness.add(k, np.sqrt(coefficient) * common + np.sqrt(1 - coefficient) * rng.normal(size=(64, 64)))
    assert likeness.mask().any() == alike


@pytest.mark.parametrize(("channels", "judged"), [(7, False), (8, True)])
def test_of_fewer_than_eight_channels_none_is_unusual(channels, judged):
    planes = np.random.default_rng(2).normal(size=(channels, 24, 24)).astype(np.float32)
    planes[3] *= 1e-4
    assert bad_channels(Cube.from_array(planes)) == ({"constant": [3]} if judged else {})


@pytest.mark.parametrize(("constant", "flagged"), [(9, True), (12, False)])
def test_a_third_of_the_channels_may_be_bad(constant, flagged):
    """If more look bad, it is a property of the cube."""
    planes = np.random.default_rng(3).normal(size=(30, 24, 24)).astype(np.float32)
    planes[:constant] *= 1e-4
    assert bad_channels(Cube.from_array(planes)) == ({"constant": list(range(constant))} if flagged else {})


@pytest.mark.parametrize(("waves", "stripe"), [(6, False), (10, True)])
def test_waves_as_long_as_an_eighth_of_the_field_are_no_stripes(waves, stripe):
    y = np.arange(96)[:, None] * np.ones(96)
    plane = np.random.default_rng(4).normal(size=(96, 96)) + 5 * np.sin(2 * np.pi * waves * y / 96)
    assert (stripes(plane)[0] > 300) == stripe


# --- missing data and spikes ---


@pytest.fixture
def cube_with(tmp_path):
    """A cube of unit noise in a file, with changed voxels and a beam of so many pixels."""

    def cube_with(changes: dict, beam: float = 5.0, shape=(6, 24, 24)) -> Cube:
        data = np.random.default_rng(5).normal(size=shape)
        for place, value in changes.items():
            data[place] = value
        header = header_of(BMAJ=beam * PIXEL, BMIN=beam * PIXEL)
        fits.writeto(tmp_path / "cube.fits", data, header, overwrite=True)
        return read_cube(tmp_path / "cube.fits")

    return cube_with


@pytest.mark.parametrize(
    ("value", "beside", "beam", "removed"),
    [
        (1.2e4, 0.0, 5.0, True),
        (8e3, 0.0, 5.0, False),  # 10^4 noise levels
        (1.2e5, 0.08, 5.0, True),
        (1.2e5, 0.12, 5.0, False),  # its neighbour has a tenth
        (1.2e5, 0.0, 2.2, True),
        (1.2e5, 0.0, 1.8, False),  # with such a beam a source looks like that
    ],
)
def test_a_voxel_that_stands_alone_is_no_data(cube_with, value, beside, beam, removed):
    changes = {(3, 10, 10): value}
    if beside:
        changes[3, 10, 11] = beside * value
    cube = cube_with(changes, beam)
    assert np.isnan(cube.read(3, 10, 10)) == removed
    assert (cube.spikes == [(3, 10, 10)]) == removed


@pytest.mark.parametrize(("times", "removed"), [(0.8e10, False), (1.5e10, True)])
def test_a_value_ten_billion_times_the_largest_usual_one_is_no_data(times, removed):
    """Of noise, in an array without a beam."""
    data = np.random.default_rng(6).choice([-1.0, 1.0], size=(6, 24, 24))
    data[3, 10, 10] = times
    cube = Cube.from_array(data)
    assert np.isnan(cube.read(3, 10, 10)) == removed
    assert cube.has_huge_values == removed


@pytest.mark.parametrize(("value", "removed"), [(0.8e20, False), (1.5e20, True)])
def test_a_huge_value_is_no_data_in_a_sky_model_too(value, removed):
    """Most of it is dark, and a fifth a hundred times as bright, so that ratios say nothing."""
    data = np.where(np.arange(6 * 24 * 24).reshape(6, 24, 24) % 5, 1.0, 100.0)
    data[3, 10, 10] = value
    assert np.isnan(Cube.from_array(data).read(3, 10, 10)) == removed


@pytest.mark.parametrize(("bright", "noise_like"), [(8.0, True), (12.0, False)])
def test_values_are_like_noise_if_a_tenth_of_them_is_up_to_ten_times_the_median(bright, noise_like):
    data = np.where(np.arange(6 * 24 * 24).reshape(6, 24, 24) % 5, 1.0, bright)
    assert (Cube.from_array(data).ceiling < 1e20) == noise_like


@pytest.mark.parametrize(("channels", "known"), [(7, False), (8, True)])
def test_rounded_zeros_are_known_as_missing_data_in_eight_channels(channels, known):
    cube = Cube.from_array(np.ones((channels, 5, 5), np.float32))
    zeros = SimpleNamespace(may_be_zero=lambda plane, channel: plane == 1, largest=1.0)
    object.__setattr__(cube, "path", Path("cube.fits"))
    object.__setattr__(cube, "rounding", zeros)
    assert (cube.blank is not None) == known


# --- cards ---


@pytest.fixture
def opened(tmp_path):
    """A cube of noise with a header, of some shape."""

    def opened(shape=SHAPE, **cards) -> Cube:
        data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        fits.PrimaryHDU(data, header_of(**cards)).writeto(tmp_path / "cube.fits", overwrite=True)
        return read_cube(tmp_path / "cube.fits")

    return opened


@pytest.mark.parametrize(("excess", "known"), [(0.0008, True), (0.0015, False)])
def test_axes_of_a_beam_are_swapped_by_rounding_up_to_a_thousandth(opened, excess, known):
    cube = opened(BMAJ=4 * PIXEL, BMIN=4 * PIXEL * (1 + excess))
    assert (cube.beam is not None) == known


@pytest.mark.parametrize(("pixels", "arcsec"), [(0.8, False), (1.3, True), (90, True), (110, False)])
def test_a_beam_of_one_to_a_hundred_pixels_if_read_in_arcsec_is_in_arcsec(opened, pixels, arcsec):
    side = PIXEL * 3600
    cube = opened((2, 3, 260), BMAJ=pixels * side, BMIN=pixels * side)
    found = cube.beam is not None and cube.beam.major.to_value("arcsec") == pytest.approx(pixels * side)
    assert found == arcsec


@pytest.mark.parametrize(("pixels", "reported"), [(0.35, True), (0.7, False)])
def test_a_beam_covers_half_a_pixel_at_least(opened, pixels, reported):
    side = PIXEL * np.sqrt(pixels / 1.1331)
    assert ("are BMAJ and BMIN in degrees?" in " ".join(opened(BMAJ=side, BMIN=side).notes)) == reported


@pytest.mark.parametrize(("areas", "known"), [(70, True), (150, False)])
def test_a_beam_of_a_hundred_fields_is_ignored(opened, areas, known):
    side = PIXEL * np.sqrt(areas * 100 / 1.1331)
    assert (opened((2, 10, 10), BMAJ=side, BMIN=side).beam is not None) == known


@pytest.mark.parametrize(("hertz", "plausible"), [(1.5e6, True), (0.8e6, False)])
def test_frequencies_are_above_a_megahertz(opened, hertz, plausible):
    notes = " ".join(opened(CRVAL3=hertz, CDELT3=1e3, CRPIX3=1.0, RESTFRQ=None).notes)
    assert ("The spectral axis runs from" not in notes) == plausible


@pytest.mark.parametrize(("hertz", "plausible"), [(1.5e6, True), (0.8e6, False)])
def test_velocities_stand_for_frequencies_above_a_megahertz(opened, hertz, plausible):
    velocity = 299792458.0 * (1 - hertz / REST)
    notes = " ".join(opened(CTYPE3="VRAD", CRVAL3=velocity, CDELT3=0.01, CUNIT3="m/s", CRPIX3=1.0).notes)
    assert ("The frequencies run from" not in notes) == plausible


def test_a_text_is_as_long_as_a_card_holds():
    header = header_of(SPECSYS="L" * 90)
    assert len(coordinate_cards(with_axes(header), [])["SPECSYS"]) == 68


def with_axes(header: fits.Header) -> fits.Header:
    header["NAXIS"] = 3
    for i, n in enumerate(SHAPE[::-1], 1):
        header[f"NAXIS{i}"] = n
    return header


@pytest.mark.parametrize(
    ("cards", "refused"),
    [({"CRVAL1": 8e6}, False), ({"CRVAL1": 1.3e7}, True), ({"PV2_1": 8e8}, False), ({"PV2_1": 1.3e9}, True)],
)
def test_absurd_angles_and_parameters_are_refused(cards, refused):
    header = with_axes(header_of(**cards))
    if refused:
        with pytest.raises(CubeError, match=next(iter(cards))):
            coordinate_cards(header, [])
    else:
        coordinate_cards(header, [])


@pytest.mark.parametrize(("lowest", "decided"), [(0.7, True), (0.8, False)])
def test_the_noise_tells_whether_a_cube_was_corrected_where_the_beam_falls_by_a_quarter(lowest, decided):
    response = np.linspace(lowest - 0.02, 1.0, 60)[:, None] * np.ones(60)
    planes = np.random.default_rng(7).normal(size=(24, 60, 60)) / response
    beam = SimpleNamespace(plane=lambda channel, y, x: response[y, x])
    assert (is_corrected(Cube.from_array(planes), beam) is not None) == decided
