"""Bright sources without their sidelobes, so that these are not taken for sources, nor hide any.

The dirty beam may be given, as an image of it.  If not, the dirty cube tells it twice.  The
autocorrelation of its noise is the beam where the visibilities had natural weights; weights that flatten the
uv plane leave less noise where there are many visibilities, and the beam's transform is then the noise's
flattened: by as much as explains the bright sources best.  And a bright source
shows the beam, beside whatever else is there; but a beam is the same turned by 180 degrees, and what is seen on
one side only is no sidelobe.

Bright sources are taken apart into components, each a spectrum at a place convolved with that beam, and put back
with the clean beam, as CLEAN (Högbom 1974) does, but only as deep as sidelobes would show.  Where taking them off
makes the image worse, nothing is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy import ndimage

from napari_almadet.cube import Cube, CubeError, read_image
from napari_almadet.pipeline.evidence import NoiseUnits, line_maps, stack_snr

if TYPE_CHECKING:
    import torch

LEAST_SNR = 8.0  # of a source whose sidelobes are worth taking off
VISIBLE = 0.7  # SNR that a sidelobe may have
DEPTH = 0.05  # of the brightest source: fainter ones are hardly told from what the beam's errors leave of it
CYCLES = 12
SCALES = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.6)  # FWHM of a component in beams
MAIN_LOBE = 1.2  # beams from a component's place: as far reaches the source itself
COARSE_WIDTHS = (1.0, 4.0, 16.0)  # channels: a bright line is seen with any width like its own
WIDE = 0.35  # beams: a source wider than that does not show the dirty beam
OUTSHINES = 300.0  # SNR of a source in all channels together, over which its own image is the best there is of the beam
POINT = 0.5  # beams: and if it is no wider than that, as far as a round beam tells
NOISE_FLOOR = 0.01  # by which the noise's autocorrelation may differ from the beam, whose weights need not be natural
SOURCE_FLOOR = 0.003  # by which a bright source's image may, for what it is not alone
FLATTENINGS = (0.5, 1.0, 1.5)  # of the noise's spectrum, for weights from about robust 0.5 to uniform ones
WORTH = 0.97  # of what natural weights leave: less is no chance, and then they are not the weights
EMPTY = 0.05  # of the highest: where the noise's spectrum is less, few visibilities or none are
NEAR = 8.0  # beams about bright sources, where their sidelobes show most
TWIN = 0.5  # of a place's SNR, opposite of it about a brighter one: then it may well be a sidelobe
PLANES = 128  # of differences are enough: they tell the beam to half a percent of its peak


@dataclass(frozen=True)
class Sidelobes:
    """What was taken off a cube: the sum of ``spectra`` (n, channels) times ``images`` (n, ny, nx), in noise units.

    ``places`` are the components', (n, 2) as (y, x); those of one source lie close together.
    """

    spectra: torch.Tensor
    images: torch.Tensor
    places: torch.Tensor

    def cube(self) -> torch.Tensor:
        """The sidelobes, shape (channels, ny, nx)."""
        return (self.spectra.T @ self.images.flatten(1)).reshape(-1, *self.images.shape[1:])


def noise_psf(units: NoiseUnits, beam: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The dirty beam as the noise shows it: its autocorrelation.

    Returns
    -------
    psf, variance
        Shape (2 ny, 2 nx), the PSF's peak of 1 at [0, 0], lags as `numpy.fft` has them.  Values that
        are hardly told from 0 are drawn towards it, as Wiener's filter does.
    """
    import torch

    steps = units.differences()
    power = (steps**2).flatten(1).mean(dim=1)
    quiet = torch.nonzero(power <= 1.1 * power.median())[:, 0]  # those without lines
    quiet = quiet[:: max(1, len(quiet) // PLANES)]
    ny, nx = units.valid.shape
    shape = (2 * ny, 2 * nx)
    total = torch.zeros(2 * ny, nx + 1, device=steps.device)
    for block in quiet.split(8):
        total += (torch.fft.rfft2(steps[block], s=shape).abs() ** 2).sum(dim=0)
    autocorrelation = torch.fft.irfft2(total, s=shape)
    pairs = torch.fft.irfft2(torch.fft.rfft2(units.valid.float(), s=shape).abs() ** 2, s=shape).clamp(min=0)
    few = pairs < 0.02 * pairs[0, 0]
    psf = torch.where(few, 0, autocorrelation / pairs.clamp(min=1))
    psf = psf / psf[0, 0].clamp(min=1e-30)
    # each pair of planes is independent, and so is each beam in it
    variance = 1 / (pairs / (1.1 * beam**2) * len(quiet) / 2).clamp(min=1)
    return psf * psf**2 / (psf**2 + variance), variance


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
    left = [unexplained(units, candidate, places, beam) for candidate in candidates]
    worth = min(left) < WORTH * unexplained(units, psf, places, beam)
    return candidates[int(np.argmin(left))] if worth else psf


def flattened(psf: torch.Tensor, power: float) -> torch.Tensor:
    """A PSF whose transform has been divided by a power of itself, smoothed over half a cell of the uv plane.

    A power of the spectrum as it is would blow up the skirts that the image's border gives to each
    visibility; where these are few, that would be most of it.
    """
    import torch

    shape = tuple(psf.shape)
    lag_y, lag_x = (torch.fft.fftfreq(n, device=psf.device) for n in shape)
    taper = torch.exp(-2 * np.pi**2 * (lag_y[:, None] ** 2 + lag_x**2))  # of images padded to twice their size
    density = torch.fft.rfft2(psf * taper).real.clamp(min=0)
    density = density / density.max() + EMPTY
    answer = torch.fft.irfft2(torch.fft.rfft2(psf) * density**-power, s=shape)
    return answer / answer[0, 0]


def unexplained(units: NoiseUnits, psf: torch.Tensor, places: list[tuple[int, int]], beam: float) -> float:
    """Variance, about the main lobes of sources at some places, of what they and the PSF do not explain."""
    import torch

    responses = responses_of(psf, beam)
    scales, found = fit_components(units, places, responses, beam)
    own = torch.linalg.qr(found.T).Q.T  # all that the sources' spectra can show, in few planes
    images = seen_at(places, [responses[scale] for scale in scales], units)
    left = torch.einsum("mc,cyx->myx", own, units.cube) - torch.einsum("mj,jyx->myx", own @ found.T, images)
    lobes = [MAIN_LOBE * beam * np.hypot(1, SCALES[scale]) for scale in scales]
    near = [NEAR * beam] * len(places)
    about = within(places, near, units.valid) & ~within(places, lobes, units.valid) & units.valid
    return float(left[:, about].square().mean()) if about.any() else 0.0


def within(places: list[tuple[int, int]], reaches: list[float], image: torch.Tensor) -> torch.Tensor:
    """Pixels of an image (ny, nx) not farther from one of the places than its reach."""
    import torch

    ny, nx = image.shape
    y, x = torch.arange(ny, device=image.device)[:, None], torch.arange(nx, device=image.device)
    inside = torch.zeros_like(image, dtype=torch.bool)
    for (cy, cx), reach in zip(places, reaches, strict=True):
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= reach**2
    return inside


def without_twins(places: list[tuple[int, int]], snr: torch.Tensor, most: int = 8) -> list[tuple[int, int]]:
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

    Each source's own image, the others taken off, is the PSF plus whatever else is there.  Of a pair of
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
    residual = units.cube - sources.cube()
    for place, spectrum, image, scale in zip(
        sources.places.tolist(), sources.spectra, sources.images, scales, strict=True
    ):
        if SCALES[scale] > WIDE:
            continue
        power = spectrum @ spectrum
        seen = torch.einsum("c,cyx->yx", spectrum, residual) / power + image
        even, known = even_image(seen, place, units.valid, psf)
        known &= far
        own = torch.where(known, 1 / power + SOURCE_FLOOR**2, torch.inf)
        psf = (psf / variance + even / own) / (1 / variance + 1 / own)
        variance = 1 / (1 / variance + 1 / own)
    return psf


def beam_shown(units: NoiseUnits, psf: torch.Tensor, place: tuple[int, int], beam: float) -> torch.Tensor | None:
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
    even, known = even_image(torch.einsum("c,cyx->yx", spectrum, units.cube) / power, place, units.valid, psf)
    return torch.where(known, even, psf)


def even_image(
    image: torch.Tensor, place: tuple[int, int], valid: torch.Tensor, psf: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What an image (ny, nx) shows alike on both sides of a place, in the lags of a PSF, and where it is known."""
    import torch

    ny, nx = image.shape
    shown, known = torch.zeros_like(psf), torch.zeros_like(psf, dtype=torch.bool)
    lag_y, lag_x = torch.arange(ny, device=psf.device) - place[0], torch.arange(nx, device=psf.device) - place[1]
    shown[lag_y[:, None], lag_x] = image
    known[lag_y[:, None], lag_x] = valid
    opposite = torch.roll(shown.flip(0, 1), (1, 1), (0, 1))
    known &= torch.roll(known.flip(0, 1), (1, 1), (0, 1))
    return torch.where(shown * opposite > 0, shown.sign() * torch.minimum(shown.abs(), opposite.abs()), 0), known


def noise_beam(units: NoiseUnits, side: int = 33) -> float:
    """FWHM in pixels of a beam no header tells, from the noise: of a disc as large as its main lobe over a half."""
    import torch

    psf = torch.fft.fftshift(noise_psf(units, 1.0)[0])
    middle = psf.shape[0] // 2, psf.shape[1] // 2
    half = min(side // 2, *middle)
    lobe = psf[middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1] >= 0.5
    labels = ndimage.label(lobe.cpu().numpy())[0]
    return float(2 * np.sqrt((labels == labels[half, half]).sum() / np.pi))


def gaussian(shape: tuple[int, int], fwhm: float, device=None) -> torch.Tensor:
    """Round Gaussian with a peak of 1 at [0, 0] of a periodic grid."""
    import torch

    y, x = (torch.fft.fftfreq(n, 1 / n, device=device) for n in shape)
    return torch.exp(-4 * np.log(2) * (y[:, None] ** 2 + x**2) / fwhm**2)


def read_psf(path: str, cube: Cube) -> np.ndarray:
    """The dirty beam that belongs to a cube, from a FITS image as imagers write it (``.psf``).

    Returns
    -------
    numpy.ndarray
        Shape (ny, nx) with ny and nx odd, float32, its peak of 1 in the middle.

    Raises
    ------
    CubeError
        If it cannot be read, has other pixels than the cube, or no peak.
    """
    planes, celestial = read_image(path)
    if celestial is not None and cube.celestial is not None:
        sides, wanted = (proj_plane_pixel_scales(wcs) * 3600 for wcs in (celestial, cube.celestial))
        if not np.allclose(sides, wanted, rtol=0.01):
            raise CubeError(
                f"{path}: its pixels are {sides[0]:.4g} x {sides[1]:.4g} arcsec and the cube's {wanted[0]:.4g} x "
                f"{wanted[1]:.4g}; give the dirty beam that was imaged with the cube"
            )
    plane = np.nan_to_num(planes[len(planes) // 2].astype(np.float32))
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    half_y, half_x = min(y, plane.shape[0] - 1 - y), min(x, plane.shape[1] - 1 - x)
    if not plane.max() > 0 or min(half_y, half_x) < 2:
        raise CubeError(f"{path}: it has no peak with data on all sides, as a dirty beam has")
    return plane[y - half_y : y + half_y + 1, x - half_x : x + half_x + 1] / plane.max()


def resampled_psf(psf: np.ndarray, k: int | float, shape: tuple[int, int], device=None) -> torch.Tensor:
    """A PSF as a cube shows it that was brought to pixels ``k`` times as wide, for a window of ``shape`` (ny, nx).

    ``psf`` has its peak in the middle; the answer has shape (2 ny, 2 nx), its peak of 1 at [0, 0], lags as `numpy.fft`
    has them, and 0 where the PSF is not known.
    """
    import torch

    if k > 1:
        # centred on a pixel: of an even number the outer two count half
        kernel = np.ones(k) / k if k % 2 else np.r_[0.5, np.ones(k - 1), 0.5] / k
        for axis in (0, 1):
            psf = ndimage.convolve1d(psf, kernel, axis, mode="constant")
    at = [size // 2 + k * np.fft.fftfreq(2 * n, 1 / (2 * n)) for n, size in zip(shape, psf.shape, strict=True)]
    image = ndimage.map_coordinates(psf, np.meshgrid(*at, indexing="ij"), order=3 if k < 1 else 1)
    return torch.as_tensor(image / image[0, 0], dtype=torch.float32, device=device)


def without_sidelobes(
    units: NoiseUnits, beam: float, psf: torch.Tensor | None = None
) -> tuple[NoiseUnits, Sidelobes | None]:
    """Take the sidelobes of bright sources off a cube.

    In each cycle the brightest places get a spectrum and a size, all of them in the presence of
    each other, until nothing is left whose sidelobes would show.

    Parameters
    ----------
    units
        The dirty cube in noise units.
    beam
        FWHM in pixels.
    psf
        The dirty beam where it is known, as :func:`resampled_psf` gives it; else it is told from the cube.

    Returns
    -------
    NoiseUnits
        The same cube with every bright source as the clean beam would show it.
    Sidelobes or None
        What was taken off; None if nothing is bright, or taking it off made the image worse.
    """
    import torch

    snr = peak_snr(units)
    brightest = float(snr.max())
    if brightest < LEAST_SNR:
        return units, None
    given, error = units, noise_map_error(units)
    units = replace(units, cube=units.cube * error)
    if psf is None:
        psf = psf_of(units, snr, beam)
    limit = max(LEAST_SNR, VISIBLE / max(sidelobe_level(psf, beam), 1e-3), DEPTH * brightest)
    if brightest < limit:
        return given, None
    responses = responses_of(psf, beam)
    residual, places, scales, found = units, [], [], []
    for _ in range(CYCLES):
        snr = peak_snr(residual)
        peak = float(snr.max())
        if peak < limit:
            break
        new = peaks(snr, max(limit, 0.3 * peak), beam)
        new_scales, new_spectra = fit_components(residual, new, responses, beam)
        images = seen_at(new, [responses[scale] for scale in new_scales], units)
        less = replace(residual, cube=residual.cube - Sidelobes(new_spectra, images, None).cube() * units.valid)
        if not improves(stack_snr(residual), stack_snr(less), places + new, beam):
            break  # what is left is not of this beam's shape
        residual, places, scales, found = less, places + new, scales + new_scales, [*found, new_spectra]
    if not places:
        return given, None
    dirty = seen_at(places, [responses[scale] for scale in scales], units)
    clean = seen_at(places, [gaussian(psf.shape, beam * np.hypot(1, SCALES[s]), psf.device) for s in scales], units)
    sidelobes = Sidelobes(torch.cat(found), (dirty - clean) / error, torch.tensor(places, device=psf.device))
    return replace(given, cube=given.cube - sidelobes.cube() * given.valid), sidelobes


def noise_map_error(units: NoiseUnits) -> torch.Tensor:
    """What the noise map has that no smooth surface explains, as a factor (ny, nx): its own error, of some percent.

    Divided by it, a bright source no longer has the beam's shape.  The surface is a polynomial of fourth degree
    of the map's logarithm, which is as good as exact for a primary beam.
    """
    import torch

    known = units.valid & (units.rms_map > 0)
    ny, nx = known.shape
    y, x = np.meshgrid(np.linspace(-1, 1, ny), np.linspace(-1, 1, nx), indexing="ij")
    terms = np.stack([y**i * x**j for i in range(5) for j in range(5 - i)], axis=-1)
    log = units.rms_map.clamp(min=1e-30).log()
    # in double precision, so that the answer does not depend on how many threads there are
    inside = known.cpu().numpy()
    surface = terms @ np.linalg.lstsq(terms[inside], log.cpu().numpy()[inside].astype(float))[0]
    return torch.where(known, (log - torch.as_tensor(surface, dtype=log.dtype, device=log.device)).exp(), 1)


def psf_of(units: NoiseUnits, snr: torch.Tensor, beam: float) -> torch.Tensor:
    """The dirty beam as noise and bright sources of a cube tell it; ``snr`` as :func:`peak_snr` gives it."""
    import torch

    psf, variance = noise_psf(units, beam)
    places = without_twins(peaks(snr, max(LEAST_SNR, 0.3 * float(snr.max())), beam), snr)
    shown = beam_shown(units, psf, places[0], beam)
    if shown is not None:
        return shown
    psf = weighted_psf(units, psf, places, beam)
    responses = responses_of(psf, beam)
    scales, found = fit_components(units, places, responses, beam)
    images = seen_at(places, [responses[scale] for scale in scales], units)
    sources = Sidelobes(found, images, torch.tensor(places, device=psf.device))
    return source_psf(units, psf, variance, sources, scales, beam)


def responses_of(psf: torch.Tensor, beam: float) -> list[torch.Tensor]:
    """How the PSF shows sources of all :data:`SCALES`."""
    return [widened(psf, scale * beam) for scale in SCALES]


def widened(psf: torch.Tensor, fwhm: float) -> torch.Tensor:
    """How the PSF shows a round Gaussian source of ``fwhm`` pixels, its peak 1; the PSF itself for 0."""
    import torch

    if not fwhm:
        return psf
    shape = tuple(psf.shape)
    response = torch.fft.irfft2(torch.fft.rfft2(psf) * torch.fft.rfft2(gaussian(shape, fwhm, psf.device)), s=shape)
    return response / response[0, 0]


def seen_at(places: list[tuple[int, int]], responses: list[torch.Tensor], units: NoiseUnits) -> torch.Tensor:
    """Each response moved to its place, shape (n, ny, nx)."""
    import torch

    ny, nx = units.valid.shape
    y, x = torch.arange(ny, device=units.cube.device), torch.arange(nx, device=units.cube.device)
    moved = [r[(y - py)[:, None], x - px] for (py, px), r in zip(places, responses, strict=True)]
    return torch.stack(moved)


def peak_snr(units: NoiseUnits) -> torch.Tensor:
    """The higher of a place's SNRs in the stack and in its best line."""
    import torch

    return torch.maximum(stack_snr(units), line_maps(units, COARSE_WIDTHS).snr)


def sidelobe_level(psf: torch.Tensor, beam: float) -> float:
    """Highest absolute value of a PSF outside its main lobe."""
    import torch

    y, x = (torch.fft.fftfreq(n, 1 / n, device=psf.device) for n in psf.shape)
    outside = y[:, None] ** 2 + x**2 > (MAIN_LOBE * beam) ** 2
    return float(psf[outside].abs().max())


def peaks(snr: torch.Tensor, threshold: float, beam: float) -> list[tuple[int, int]]:
    """Places of local maxima over a threshold, no two within a beam."""
    import torch

    reach = max(1, round(beam))
    highest = torch.nn.functional.max_pool2d(snr[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]
    return [tuple(place) for place in torch.nonzero((snr == highest) & (snr >= threshold)).tolist()]


def fit_components(
    units: NoiseUnits, places: list[tuple[int, int]], responses: list[torch.Tensor], beam: float
) -> tuple[list[int], torch.Tensor]:
    """Sizes and spectra of sources at some places, each fitted in the presence of the others.

    Returns
    -------
    scales, spectra
        Which of the responses fits each main lobe best; shape (n, channels).
    """
    import torch

    cube = units.cube
    ny, nx = cube.shape[1:]
    reach = max(2, round(MAIN_LOBE * beam))
    scales = []
    for y, x in places:
        spectrum = cube[:, y, x]
        ys = torch.arange(max(0, y - reach), min(ny, y + reach + 1), device=cube.device)
        xs = torch.arange(max(0, x - reach), min(nx, x + reach + 1), device=cube.device)
        image = torch.einsum("c,cyx->yx", spectrum, cube[:, ys[:, None], xs]) / (spectrum @ spectrum).clamp(min=1e-9)
        known = units.valid[ys[:, None], xs]
        errors = [float(((image - r[(ys - y)[:, None], xs - x]) * known).square().sum()) for r in responses]
        scales.append(int(np.argmin(errors)))
    index = torch.tensor(places, device=cube.device)
    lag_y, lag_x = (index[:, None, i] - index[None, :, i] for i in (0, 1))
    mixing = torch.stack([responses[s][lag_y[:, j], lag_x[:, j]] for j, s in enumerate(scales)], dim=1)
    mixing = mixing + 1e-3 * torch.eye(len(places), device=cube.device)
    return scales, torch.linalg.solve(mixing, cube[:, index[:, 0], index[:, 1]].T)


def improves(before: torch.Tensor, after: torch.Tensor, places: list[tuple[int, int]], beam: float) -> bool:
    """Whether the stack has less power outside the sources' main lobes than before."""
    outside = ~within(places, [1.5 * beam] * len(places), before)
    if not outside.any():
        return True
    return bool((after[outside] ** 2).mean() < (before[outside] ** 2).mean())
