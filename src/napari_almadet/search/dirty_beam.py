"""The dirty beam (PSF): read from a file, or estimated from the cube.

The autocorrelation of a dirty cube's noise is its beam where the visibilities had natural weights.  Weights that
flatten the uv plane leave less noise where there are many visibilities; the beam's transform is then the noise's,
flattened by the power that leaves the smallest residual around bright sources.  Bright point sources show the beam
directly, beside whatever else is there; but a beam is point-symmetric, and what is seen on one side only is no
sidelobe.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy import fft, ndimage

from napari_almadet.constants import ARCSEC_PER_DEGREE
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.reading import read_image
from napari_almadet.cube.storage import split_address
from napari_almadet.search.components import (
    LEAST_SNR,
    MAIN_LOBE,
    SCALES,
    Sidelobes,
    fit_components,
    gaussian,
    peaks,
    responses_at,
    responses_of,
    within,
)
from napari_almadet.search.noise_units import PLANES_AT_ONCE, NoiseUnits, lag_of
from napari_almadet.threads import count, spread

if TYPE_CHECKING:
    import torch


# Values without another origin were chosen by eye on simulated dirty cubes.
WIDE = 0.35  # beams, maximum FWHM of a source from whose image the dirty beam is estimated
OUTSHINES = 300.0  # S/N of a source in all channels together, above which its image is the best estimate of the beam,
POINT = 0.5  # beams, if it is not wider than this according to the round-beam fit
NOISE_FLOOR = 0.01  # of the peak: systematic error of the noise autocorrelation as an estimate of the beam (weights)
SOURCE_FLOOR = 0.003  # of the peak: the same for the image of a bright source (other sources nearby)
FLATTENINGS = (0.5, 1.0, 1.5)  # exponents of the noise's power spectrum, for weights from about robust 0.5 to uniform
WORTH = 0.97  # of the residual with natural weights: a smaller one is significant, and the weights are not natural
EMPTY = 0.05  # of the maximum: where the power spectrum of the noise is lower, there are few or no visibilities
NEAR = 8.0  # beams around bright sources, within which residual sidelobes are measured
TWIN = 0.5  # of the S/N of a peak: if this is present opposite it about a brighter one, it may be a sidelobe
TOP = 0.4  # of the peak, above which the main lobe is fitted
TAPERS = 6  # steps to the taper with which the main lobe has its width; derived: each leaves a fifth of the difference
DAMPING = 0.8  # of the difference, taken in a step
PLANES = 128  # difference planes used; they give the beam to half a percent of its peak


def noise_psf(units: NoiseUnits, beam: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The dirty beam as the noise shows it: its autocorrelation.

    Returns
    -------
    psf, variance
        Shape (2 ny, 2 nx), the PSF's peak of 1 at [0, 0], lags as `numpy.fft` has them.  Values that
        are hardly distinguishable from 0 are drawn towards it, as Wiener's filter does.
    """
    import torch

    lag = lag_of(len(units.cube))

    def steps(numbers: torch.Tensor) -> torch.Tensor:
        """Some of the cube's differences, which as a whole would be as large as the cube."""
        return units.cube[numbers + lag] - units.cube[numbers]

    later, earlier = (part.split(PLANES_AT_ONCE) for part in (units.cube[lag:], units.cube[:-lag]))
    pairs_of_planes = zip(later, earlier, strict=True)
    power = torch.cat(spread(lambda two: (two[0] - two[1]).square_().flatten(1).mean(dim=1), pairs_of_planes))
    quiet = torch.nonzero(power <= 1.1 * power.median())[:, 0]  # those without lines
    quiet = quiet[:: max(1, len(quiet) // PLANES)]
    ny, nx = units.valid.shape
    shape = (2 * ny, 2 * nx)
    total = torch.zeros(2 * ny, nx + 1, device=units.cube.device)
    for block in quiet.split(8 * count()):  # a few at a time, for the memory's sake
        for part in spread(lambda some: padded_power(steps(some)), block.split(8)):
            total += part
    autocorrelation = torch.fft.irfft2(total, s=shape)
    pairs = torch.fft.irfft2(torch.fft.rfft2(units.valid.float(), s=shape).abs() ** 2, s=shape).clamp(min=0)
    few = pairs < 0.02 * pairs[0, 0]
    psf = torch.where(few, 0, autocorrelation / pairs.clamp(min=1))
    psf = psf / psf[0, 0].clamp(min=1e-30)
    # each pair of planes is independent, and so is each beam in it
    variance = 1 / (pairs / (1.1 * beam**2) * len(quiet) / 2).clamp(min=1)
    return psf * psf**2 / (psf**2 + variance), variance


def padded_power(planes: torch.Tensor) -> torch.Tensor:
    """Sum of the squared transforms of planes (n, ny, nx) that are padded to twice their size: (2 ny, nx + 1)."""
    import torch

    _, ny, nx = planes.shape
    if planes.device.type != "cpu":
        return (torch.fft.rfft2(planes, s=(2 * ny, 2 * nx)).abs() ** 2).sum(dim=0)
    padded, rows = np.zeros((ny, 2 * nx), np.float32), np.zeros((nx + 1, 2 * ny), np.complex64)
    total = np.zeros((nx + 1, 4 * ny), np.float32)  # of real and imaginary parts by turns
    for plane in planes.numpy():  # the rows that are padding need no transform
        padded[:, :nx] = plane
        rows[:, :ny] = fft.rfft(padded, axis=1).T
        parts = fft.fft(rows, axis=1).view(np.float32)
        total += np.square(parts, out=parts)
    return torch.from_numpy((total[:, ::2] + total[:, 1::2]).T)


def weighted_psf(units: NoiseUnits, psf: torch.Tensor, places: list[tuple[int, int]], beam: float) -> torch.Tensor:
    """The noise's autocorrelation or that of its flattened spectrum: what leaves least about bright sources.

    A cell of the uv plane with n visibilities, each of weight w and of unit noise, adds n w to the beam's transform
    and n w² to the noise's power.  With natural weights, w = 1, the two are the same; with
    uniform ones, w = 1 / n, the first is flat (Briggs 1995, chapter 3).

    Parameters
    ----------
    psf
        As :func:`noise_psf` gives it.
    places
        Of the bright sources.
    """
    candidates = [flattened(psf, power) for power in FLATTENINGS]
    left = [residual_variance(units, candidate, places, beam) for candidate in candidates]
    worth = min(left) < WORTH * residual_variance(units, psf, places, beam)
    return candidates[int(np.argmin(left))] if worth else psf


def flattened(psf: torch.Tensor, power: float) -> torch.Tensor:
    """A PSF whose transform has been divided by a power of itself, smoothed over half a cell of the uv plane.

    Without the smoothing, this would amplify the wings that each visibility has because of the image's
    border; if there are few visibilities, the wings would dominate.
    """
    import torch

    shape = tuple(psf.shape)
    lag_y, lag_x = (torch.fft.fftfreq(n, device=psf.device) for n in shape)
    taper = torch.exp(-2 * np.pi**2 * (lag_y[:, None] ** 2 + lag_x**2))  # of images padded to twice their size
    density = torch.fft.rfft2(psf * taper).real.clamp(min=0)
    density = density / density.max() + EMPTY
    answer = torch.fft.irfft2(torch.fft.rfft2(psf) * density**-power, s=shape)
    return answer / answer[0, 0]


def lobe_curvature(psf: torch.Tensor) -> np.ndarray | None:
    """Matrix M (2, 2) of the Gaussian exp(-d' M d), d along y and x, that fits a PSF's main lobe; None if too small.

    Its peak is at [0, 0].
    """
    image = np.fft.fftshift(psf.cpu().numpy())
    middle = tuple(n // 2 for n in image.shape)
    half = min(12, *middle)
    image = image[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1]
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    labels = ndimage.label(image > TOP)[0]
    lobe = labels == labels[half, half]
    lobe[half, half] = False
    if lobe.sum() < 4:
        return None
    weight = image[lobe]
    terms = np.stack([y[lobe] ** 2, 2 * y[lobe] * x[lobe], x[lobe] ** 2], axis=1) * weight[:, None]
    yy, yx, xx = np.linalg.lstsq(terms, -np.log(weight) * weight, rcond=None)[0]
    return np.array([[yy, yx], [yx, xx]])


def as_wide_as(psf: torch.Tensor, clean_beam: np.ndarray, k: int | float = 1) -> torch.Tensor:
    """A PSF widened until its main lobe is as wide as the clean beam; unchanged where it is wider.

    With robust or uniform weights the short baselines, of which there are most, have less of the noise's power than of
    the beam, and the lobe of an estimate from the noise is too narrow, in a bowl that is too deep.  Imagers fit the
    clean beam to the dirty beam's main lobe: a taper with which the two agree restores the short baselines.

    Parameters
    ----------
    psf
        Shape (2 ny, 2 nx), its peak of 1 at [0, 0].
    clean_beam
        Covariance along x and y in pixels², (2, 2).
    k
        How many pixels of the file were averaged on a side.
    """
    import torch

    target = clean_beam + np.eye(2) * max(1 - 1 / k**2, 0) / 12  # as averaged pixels show it
    (ny, nx), taper = psf.shape, np.zeros((2, 2))
    v, w = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)
    seen, wider = torch.fft.rfft2(psf), psf
    for _ in range(TAPERS):
        curvature = lobe_curvature(wider)
        if curvature is None or not np.linalg.eigvalsh(curvature)[0] > 0:
            return psf
        lobe = np.linalg.inv(2 * curvature)[::-1, ::-1]  # along x and y
        values, axes = np.linalg.eigh(taper + DAMPING * (target - lobe))
        taper = axes @ np.diag(np.maximum(values, 0)) @ axes.T
        power = taper[0, 0] * w**2 + 2 * taper[0, 1] * v * w + taper[1, 1] * v**2
        factor = torch.as_tensor(np.exp(-2 * np.pi**2 * power), dtype=psf.dtype, device=psf.device)
        wider = torch.fft.irfft2(seen * factor, s=(ny, nx))
        wider = wider / wider[0, 0]
    return wider if taper.any() else psf


def residual_variance(units: NoiseUnits, psf: torch.Tensor, places: list[tuple[int, int]], beam: float) -> float:
    """Variance, about the main lobes of sources at some places, of what they and the PSF do not explain."""
    import torch

    responses = responses_of(psf, beam)
    scales, found = fit_components(units, places, responses, beam)
    own = torch.linalg.qr(found.T).Q.T  # all that the sources' spectra can show, in few planes
    images = responses_at(places, [responses[scale] for scale in scales], units)
    lobes = [MAIN_LOBE * beam * np.hypot(1, SCALES[scale]) for scale in scales]
    near = [NEAR * beam] * len(places)
    about = within(places, near, units.valid) & ~within(places, lobes, units.valid) & units.valid
    ends = [(max(0, int(min(at) - near[0])), int(max(at) + near[0]) + 2) for at in zip(*places, strict=True)]
    y, x = (slice(first, last) for first, last in ends)  # the rest of the field does not count
    cube, images, about = (planes[..., y, x] for planes in (units.cube, images, about))
    left = torch.einsum("mc,cyx->myx", own, cube) - torch.einsum("mj,jyx->myx", own @ found.T, images)
    return float((left.square().sum(dim=0) * about).sum() / (len(left) * about.sum()).clamp(min=1))


def without_point_symmetric(places: list[tuple[int, int]], snr: torch.Tensor, most: int = 8) -> list[tuple[int, int]]:
    """The brightest places but for those that are mirrored about a brighter one, as sidelobes are."""
    kept: list[tuple[int, int]] = []
    for y, x in sorted(places, key=lambda place: -float(snr[place])):
        own = float(snr[y, x])
        brighter = [place for place in kept if own < 0.6 * float(snr[place])]
        if all(brightest_about(snr, 2 * cy - y, 2 * cx - x) < TWIN * own for cy, cx in brighter):
            kept.append((y, x))
    return kept[:most]


def brightest_about(image: torch.Tensor, y: int, x: int, reach: int = 2) -> float:
    """Highest value within a few pixels of a place; minus infinity outside of the image."""
    part = image[max(0, y - reach) : max(0, y + reach + 1), max(0, x - reach) : max(0, x + reach + 1)]
    return float(part.max()) if part.numel() else -np.inf


def source_psf(
    units: NoiseUnits,
    psf: torch.Tensor,
    variance: torch.Tensor,
    sources: Sidelobes,
    scales: list[int],
    beam: float,
) -> torch.Tensor:
    """A better PSF from what bright sources show around them.

    Each source's own image, the others subtracted, is the PSF plus whatever else is there.  Of a pair of
    places opposite each other the lower absolute value counts, or 0 if the signs differ, so that a source
    on one side does not become a sidelobe.

    Parameters
    ----------
    psf, variance
        As :func:`noise_psf` gives them.
    sources
        With ``images`` of the full responses.
    scales
        Of the sources; those wider than :data:`WIDE` tell nothing.

    Returns
    -------
    torch.Tensor
        The PSF, weighted with the variances; the main lobe remains as it was.
    """
    import torch

    y, x = (torch.fft.fftfreq(n, 1 / n, device=psf.device) for n in psf.shape)
    far = y[:, None] ** 2 + x**2 > (MAIN_LOBE * beam) ** 2
    variance = variance + NOISE_FLOOR**2
    flat = units.cube.flatten(1)
    for place, spectrum, image, scale in zip(
        sources.places.tolist(), sources.spectra, sources.images, scales, strict=True
    ):
        if SCALES[scale] > WIDE:
            continue
        power = spectrum @ spectrum
        # of the cube without all sources
        left = spectrum @ flat - (spectrum @ sources.spectra.T) @ sources.images.flatten(1)
        seen = left.reshape(image.shape) / power + image
        even, known = point_symmetric_part(seen, place, units.valid, psf)
        known &= far
        own = torch.where(known, 1 / power + SOURCE_FLOOR**2, torch.inf)
        psf = (psf / variance + even / own) / (1 / variance + 1 / own)
        variance = 1 / (1 / variance + 1 / own)
    return psf


def beam_of_brightest(units: NoiseUnits, psf: torch.Tensor, place: tuple[int, int], beam: float) -> torch.Tensor | None:
    """The PSF as a point source shows it that outshines the noise by far; None where there is none such.

    Of a pair of places opposite each other the lower absolute value counts, as in :func:`source_psf`.

    Parameters
    ----------
    psf
        For where the source's image does not reach.
    place
        Of the brightest source.
    """
    import torch

    spectrum = units.cube[:, *place]
    power = spectrum @ spectrum
    if power < OUTSHINES**2:
        return None
    round_beam = [gaussian(tuple(psf.shape), beam * np.hypot(1, scale), psf.device) for scale in SCALES]
    (scale,), _ = fit_components(units, [place], round_beam, beam)
    if SCALES[scale] > POINT:
        return None
    even, known = point_symmetric_part(torch.einsum("c,cyx->yx", spectrum, units.cube) / power, place, units.valid, psf)
    return torch.where(known, even, psf)


def point_symmetric_part(
    image: torch.Tensor, place: tuple[int, int], valid: torch.Tensor, psf: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Point-symmetric part of an image (ny, nx) about a position, at the offsets of a PSF, and where it is known."""
    import torch

    ny, nx = image.shape
    shown, known = torch.zeros_like(psf), torch.zeros_like(psf, dtype=torch.bool)
    lag_y, lag_x = torch.arange(ny, device=psf.device) - place[0], torch.arange(nx, device=psf.device) - place[1]
    shown[lag_y[:, None], lag_x] = image
    known[lag_y[:, None], lag_x] = valid
    opposite = torch.roll(shown.flip(0, 1), (1, 1), (0, 1))
    known &= torch.roll(known.flip(0, 1), (1, 1), (0, 1))
    return torch.where(shown * opposite > 0, shown.sign() * torch.minimum(shown.abs(), opposite.abs()), 0), known


def beam_from_noise(units: NoiseUnits, side: int = 33) -> float:
    """FWHM in pixels of a beam no header tells, from the noise: of a disc as large as its main lobe over a half."""
    import torch

    psf = torch.fft.fftshift(noise_psf(units, 1.0)[0])
    middle = psf.shape[0] // 2, psf.shape[1] // 2
    half = min(side // 2, *middle)
    lobe = psf[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1] >= 0.5
    labels = ndimage.label(lobe.cpu().numpy())[0]
    return float(2 * np.sqrt((labels == labels[half, half]).sum() / np.pi))


def read_psf(path: str, cube: Cube) -> np.ndarray:
    """The dirty beam that belongs to a cube, from a FITS image as imagers write it (``.psf``).

    The file is read once for all windows of a cube, and again if it has changed.

    Returns
    -------
    numpy.ndarray
        Shape (ny, nx) with ny and nx odd, float32, its peak of 1 in the middle.

    Raises
    ------
    CubeError
        If it cannot be read, has other pixels than the cube, or no peak.
    """
    file = split_address(path)[0]
    psf, sides = _centred_on_peak(path, file.stat().st_mtime_ns if file.exists() else 0)
    if sides is not None and cube.celestial is not None:
        wanted = proj_plane_pixel_scales(cube.celestial) * ARCSEC_PER_DEGREE
        if not np.allclose(sides, wanted, rtol=0.01):
            raise CubeError(
                f"{path}: its pixels are {sides[0]:.4g} x {sides[1]:.4g} arcsec and the cube's {wanted[0]:.4g} x "
                f"{wanted[1]:.4g}; give the dirty beam that was imaged with the cube"
            )
    return psf


@lru_cache(maxsize=1)
def _centred_on_peak(path: str, changed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The dirty beam in a file, and the sides of its pixels in arcsec; ``changed`` is the file's time."""
    planes, celestial = read_image(path)
    plane = np.nan_to_num(planes[len(planes) // 2].astype(np.float32))
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    half_y, half_x = min(y, plane.shape[0] - 1 - y), min(x, plane.shape[1] - 1 - x)
    if not plane.max() > 0 or min(half_y, half_x) < 2:
        raise CubeError(f"{path}: it has no peak surrounded by data, as a dirty beam must have")
    psf = plane[y - half_y : y + half_y + 1, x - half_x : x + half_x + 1] / plane.max()
    return psf, None if celestial is None else proj_plane_pixel_scales(celestial) * ARCSEC_PER_DEGREE


def resampled_psf(
    psf: np.ndarray, k: int | float, shape: tuple[int, int], device: torch.device | str | None = None
) -> torch.Tensor:
    """A PSF as a cube shows it that was brought to pixels ``k`` times as wide, for a window of ``shape`` (ny, nx).

    ``psf`` has its peak in the middle; the answer has shape (2 ny, 2 nx), its peak of 1 at [0, 0], lags as `numpy.fft`
    has them, and 0 where the PSF is not known.
    """
    import torch

    if k > 1:
        for axis in (0, 1):
            psf = ndimage.uniform_filter1d(psf, int(k), axis, mode="constant")
    between = 0.5 if k > 1 and k % 2 == 0 else 0.0  # the middle of an even number of pixels lies between two
    lags = (k * np.fft.fftfreq(2 * n, 1 / (2 * n)) for n in shape)
    at = [size // 2 + between + lag for lag, size in zip(lags, psf.shape, strict=True)]
    smooth = 3 if k < 1 or between else 1  # order of the spline
    image = ndimage.map_coordinates(psf, np.meshgrid(*at, indexing="ij"), order=smooth)
    return torch.as_tensor(image / image[0, 0], dtype=torch.float32, device=device)


def averaged_once(psf: torch.Tensor, k: int | float) -> torch.Tensor:
    """The beam as sources show it where ``k`` pixels were averaged, from the autocorrelation of the averaged noise.

    Averaging multiplies the transform of a source's image by that of the block, and the power of the noise by its
    square.  Undone once, since a beam that is too wide makes sources too small, and their fluxes too low by some
    percent.

    Parameters
    ----------
    psf
        Shape (2 ny, 2 nx), its peak of 1 at [0, 0].
    k
        Pixels averaged on a side; nothing is changed where it is 1 or less.
    """
    import torch

    if k <= 1:
        return psf
    block_y, block_x = (torch.as_tensor(block_transform(n, int(k)), dtype=psf.dtype) for n in psf.shape)
    block = (block_y[:, None] * block_x[: psf.shape[1] // 2 + 1]).to(psf.device)
    answer = torch.fft.irfft2(torch.fft.rfft2(psf) / block, s=tuple(psf.shape))
    return answer / answer[0, 0]


def block_transform(n: int, k: int) -> np.ndarray:
    """Transform of the mean of ``k`` pixels, at the n frequencies of an axis of averaged ones: Dirichlet's kernel."""
    wave = np.pi * np.fft.fftfreq(n)
    small = np.where(wave == 0, 1.0, k * np.sin(wave / k))
    return np.where(wave == 0, 1.0, np.sin(wave) / small)


def psf_of(
    units: NoiseUnits,
    snr: torch.Tensor,
    beam: float,
    k: int | float = 1,
    residual: NoiseUnits | None = None,
    noise: tuple[torch.Tensor, torch.Tensor] | None = None,
    clean_beam: np.ndarray | None = None,
) -> torch.Tensor:
    """The dirty beam estimated from the noise and the bright sources of a cube.

    Parameters
    ----------
    units
        The cube in noise units.
    snr
        As :func:`~napari_almadet.search.components.peak_snr` gives it.
    beam
        FWHM in pixels.
    k
        How many pixels were averaged on a side.
    residual
        The cube without its bright sources, where it is known: only noise is in it.
    noise
        What :func:`noise_psf` says of the one or the other, where it is known.
    clean_beam
        The header's beam, to which the main lobe was fitted: covariance along x and y in pixels², (2, 2).
    """
    import torch

    psf, variance = noise_psf(units if residual is None else residual, beam) if noise is None else noise
    psf = averaged_once(psf, k)
    places = without_point_symmetric(peaks(snr, max(LEAST_SNR, 0.3 * float(snr.max())), beam), snr)
    shown = beam_of_brightest(units, psf, places[0], beam)
    if shown is not None:
        return shown
    natural, psf = psf, weighted_psf(units, psf, places, beam)
    if clean_beam is not None and psf is not natural:
        psf = as_wide_as(psf, clean_beam, k)
    responses = responses_of(psf, beam)
    scales, found = fit_components(units, places, responses, beam)
    images = responses_at(places, [responses[scale] for scale in scales], units)
    sources = Sidelobes(found, images, torch.tensor(places, device=psf.device))
    return source_psf(units, psf, variance, sources, scales, beam)
