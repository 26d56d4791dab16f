"""Two sources against one, in noise that has the shape of a beam of eight pixels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_almadet.measure.focus import Cutout
from napari_almadet.search.two_component_fit import Blob, Likelihood, two_sources, weighted_images

BEAM, SIDE = 8.0, 64
ROUND = (BEAM / 2.3548) ** 2 * np.eye(2)


def noise(seed: int, n: int = 1) -> np.ndarray:
    white = np.random.default_rng(seed).normal(size=(n, SIDE, SIDE))
    v, u = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    shaped = np.fft.rfft2(white) * np.exp(-((np.pi * BEAM) ** 2) * (u**2 + v**2) / (8 * np.log(2)))
    image = np.fft.irfft2(shaped, (SIDE, SIDE))
    return image / image.std()


def source(y: float, x: float, snr: float, fwhm: tuple[float, float] = (9.0, 9.0)) -> np.ndarray:
    iy, ix = np.indices((SIDE, SIDE))
    return snr * np.exp(-4 * np.log(2) * (((iy - y) / fwhm[0]) ** 2 + ((ix - x) / fwhm[1]) ** 2))


def told_apart(image: np.ndarray, second: tuple[float, float], others: tuple[Blob, ...] = ()):
    first = Blob.round(30, 30, 1.5)
    return two_sources(Likelihood(image[None], ROUND), first, Blob.round(*second, 1.5), list(others))


@pytest.mark.parametrize("seed", range(3))
def test_two_sources_a_beam_apart_are_told_from_one(seed):
    image = noise(seed)[0] + source(30, 30, 50) + source(33, 38, 15)
    sigma, first, second = told_apart(image, (33, 37))
    assert sigma > 6
    assert first == pytest.approx((30, 30), abs=0.7)
    assert second == pytest.approx((33, 38), abs=1.5)


@pytest.mark.parametrize("angle", [0, 35, 90, 120])
def test_two_points_in_an_elliptical_beam_are_told_from_one_and_one_point_is_not_two(angle):
    """The beam is 11.3 by 5.7 pixels; the second point lies across it, 1.1 of its widths away, and along it."""
    turn = np.radians(angle)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])  # (y, x) of major and minor
    beam = axes.T @ np.diag([2.0, 0.5]) @ axes * ROUND[0, 0]
    rng = np.random.default_rng(angle)
    v, u = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    power = beam[0, 0] * v**2 + 2 * beam[0, 1] * u * v + beam[1, 1] * u**2
    shaped = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * np.exp(-(np.pi**2) * power), (SIDE, SIDE))
    places = np.stack(np.indices((SIDE, SIDE)), axis=-1).astype(float)

    def point(place: np.ndarray, snr: float) -> np.ndarray:
        apart = places - place
        return snr * np.exp(-0.5 * np.einsum("...i,ij,...j", apart, np.linalg.inv(beam), apart))

    first = np.array([30.0, 30.0])
    image = shaped / shaped.std() + point(first, 50)
    likelihood = Likelihood(image[None], beam)
    for axis, width in zip(axes, np.sqrt([2, 0.5]) * BEAM, strict=True):
        second = first + 1.1 * width * axis
        seen = Blob.round(second[0] + 0.5, second[1] - 0.5, 0.5)
        assert two_sources(likelihood, Blob.round(*first, 0.5), seen, []) is None
        both = two_sources(Likelihood(image[None] + point(second, 20), beam), Blob.round(*first, 0.5), seen, [])
        assert both is not None
        assert both[1] == pytest.approx(first, abs=0.5)
        assert both[2] == pytest.approx(second, abs=0.7)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fwhm", [(9.0, 9.0), (8.5, 14.0)])
def test_a_single_source_is_not_two(seed, fwhm):
    """Also where it is long: one ellipse does."""
    assert told_apart(noise(seed)[0] + source(30, 30, 50, fwhm), (31, 37)) is None


def test_what_is_too_faint_to_be_told_is_not():
    assert told_apart(noise(4)[0] + source(30, 30, 20) + source(31, 37, 3), (31, 37)) is None


def test_what_a_third_source_explains_is_not_two():
    image = noise(5)[0] + source(30, 30, 50) + source(30, 41, 40)
    assert told_apart(image, (30, 40)) is not None
    assert told_apart(image, (30, 40), (Blob.round(30, 41, 1.75),)) is None


def test_brightness_does_not_count_but_shape_and_place_do():
    image = noise(6)[0] + source(30, 30, 50)
    likelihood = Likelihood(image[None], ROUND)
    at, beside = likelihood([Blob.round(30, 30, 1.75)]), likelihood([Blob.round(30, 36, 1.75)])
    assert at == pytest.approx(Likelihood(-image[None], ROUND)([Blob.round(30, 30, 1.75)]))
    assert at > 2 * beside


def test_images_are_independent_and_those_of_like_spectra_one():
    planes = noise(7, 32) * np.linspace(1, 3, 32)[:, None, None]
    planes[3] = np.nan
    flat, line = np.ones(32), np.exp(-0.5 * ((np.arange(32) - 20) / 2) ** 2)
    images = weighted_images(Cutout(planes, (0, 0)), [flat, flat + line])
    assert len(images) == 2
    assert np.corrcoef(images.reshape(2, -1))[0, 1] == pytest.approx(0, abs=0.2)
    assert images.std(axis=(1, 2)) == pytest.approx([1, 1], rel=0.25)
    assert len(weighted_images(Cutout(planes, (0, 0)), [flat, 3 * flat])) == 1


def test_without_noise_nothing_is_told():
    images = weighted_images(Cutout(np.zeros((8, SIDE, SIDE)), (0, 0)), [np.ones(8), np.arange(8.0)])
    assert images.shape == (0, SIDE, SIDE)
    assert two_sources(Likelihood(images, ROUND), Blob.round(30, 30, 1), Blob.round(30, 38, 1), []) is None


@pytest.mark.parametrize(("offset", "found"), [(3.6, True), (7.0, False)])
def test_a_second_source_far_from_where_it_was_seen_is_another(offset, found):
    """The fit may move the fainter one by 0.6 beams, here 4.8 pixels."""
    image = 0.2 * noise(2)[0] + source(30, 30, 50) + source(30, 40, 15)
    assert (told_apart(image, (30 + offset, 40)) is not None) is found


@pytest.mark.parametrize(("part", "images"), [(1.5e-3, 2), (0.6e-3, 1)])
def test_spectra_that_differ_by_less_than_a_thousandth_are_one(part, images):
    first, other = np.zeros(32), np.zeros(32)
    first[:16], other[16:] = 1.0, 1.0
    second = first + 2 * part * other  # of two unit vectors at a small angle the smaller singular value is half of it
    planes = noise(9, 32)
    assert len(weighted_images(Cutout(planes, (0, 0)), [first, second])) == images


@pytest.mark.parametrize(
    ("better", "apart", "moved", "two"),
    [
        (6.5, 1.0, 0.0, True),
        (5.5, 1.0, 0.0, False),  # six sigma
        (9.0, 0.65, 0.0, False),  # too near to be separated
        (9.0, 0.75, 0.0, True),
        (9.0, 1.65, 0.0, True),
        (9.0, 1.75, 0.0, False),  # each is seen by itself
        (9.0, 1.0, 0.55, True),
        (9.0, 1.0, 0.65, False),  # another source than the one that was seen
    ],
)
def test_two_sources_fit_better_by_six_sigma_at_a_distance_at_which_they_can_be_separated(
    monkeypatch, better, apart, moved, two
):
    """Distances in beams of ten pixels; the fits are given."""
    first, second = np.array([20.0, 20.0]), np.array([20.0, 20.0 + 10 * apart])
    fits = iter([(0.0, np.zeros(5)), (-(better**2), np.array([*first, 1.0, *second, 1.0]))])

    def minimize(*_, **__):
        value, x = next(fits)
        return SimpleNamespace(fun=value, x=x)

    monkeypatch.setattr("scipy.optimize.minimize", minimize)
    likelihood = SimpleNamespace(beam=(10 / 2.3548) ** 2 * np.eye(2))
    seen = Blob.round(20.0 + 10 * moved, second[1], 1.0)
    assert (two_sources(likelihood, Blob.round(*first, 1.0), seen, []) is not None) == two


def test_a_point_is_as_wide_as_pixels_can_represent():
    """The sum over pixels of a Gaussian of sigma 0.6 is its integral to a percent, wherever its centre is."""
    sigma = float(np.sqrt(Blob.round(0.0, 0.0, 0.0).shape[0, 0]))
    for offset in (0.0, 0.5):
        total = np.exp(-0.5 * ((np.arange(-9, 10) - offset) / sigma) ** 2).sum() / (sigma * np.sqrt(2 * np.pi))
        assert total == pytest.approx(1, abs=0.01)
    assert sigma < 0.75
