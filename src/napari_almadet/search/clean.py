"""Subtraction of the sidelobes of bright sources, which could be mistaken for sources or hide faint ones.

As in CLEAN (Hogbom 1974), bright sources are modelled as components, each a spectrum at a position convolved with the
dirty beam, and restored with the clean beam, but only down to the level at which sidelobes are visible.  If the
subtraction makes the image worse, nothing is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.search.components import (
    LEAST_SNR,
    MAIN_LOBE,
    SCALES,
    Responses,
    Sidelobes,
    fit_components,
    gaussian,
    gaussian_response,
    near,
    peak_snr,
    peaks,
    responses_at,
    responses_of,
    within,
)
from napari_almadet.search.dirty_beam import noise_psf, psf_of
from napari_almadet.search.line_maps import stack_snr
from napari_almadet.search.noise_units import NoiseUnits, lag_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


VISIBLE = 0.7  # maximum S/N of a sidelobe that is not subtracted; chosen by eye
DEPTH = 0.05  # of the brightest source; fainter ones cannot be distinguished from errors of its beam; chosen by eye
CYCLES = 12  # maximum number of major cycles; chosen by eye
CONTINUUM = 3.0  # S/N of the continuum of a fainter source, from which it is restored too; convention
# Power of sources in the differences of channels over that of the noise, over which the beam is estimated again without
# them: at a hundredth, the estimated lobe is about as much too high on its flanks, and fluxes 1 % too low.
CONTAMINATION = 0.01


class NoiseCorrected:
    """A cube corrected for errors of its noise map, and the dirty beam estimated from its noise; each computed once.

    Parameters
    ----------
    given
        The cube in noise units.
    beam
        FWHM in pixels.
    """

    def __init__(self, given: NoiseUnits, beam: float) -> None:
        self.given, self.beam = given, beam

    @cached_property
    def error(self) -> torch.Tensor:
        """See :func:`noise_map_error`."""
        return noise_map_error(self.given)

    @cached_property
    def units(self) -> NoiseUnits:
        """The cube times :attr:`error`."""
        return replace(self.given, cube=self.given.cube * self.error)

    @cached_property
    def noise(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :func:`~napari_almadet.search.dirty_beam.noise_psf`."""
        return noise_psf(self.units, self.beam)


def without_sidelobes(
    units: NoiseUnits,
    beam: float,
    psf: torch.Tensor | None = None,
    header_beam: np.ndarray | None = None,
    snr: torch.Tensor | None = None,
    k: int | float = 1,
    corrected: NoiseCorrected | None = None,
    peak: float = 1.0,
    depth: float = np.inf,
) -> tuple[NoiseUnits, Restored | None]:
    """Subtract the sidelobes of bright sources from a cube.

    In each cycle, spectra and sizes of the brightest peaks are fitted simultaneously, until no peak is left whose
    sidelobes would be visible.

    Parameters
    ----------
    units
        The dirty cube in noise units.
    beam
        FWHM in pixels.
    psf
        The dirty beam, as :func:`resampled_psf` returns it.  Default: it is estimated from the cube.
    header_beam
        Covariance along x and y, in pixels², of the beam that restores bright sources, (2, 2).  Default: a round one.
    snr
        From :func:`~napari_almadet.search.components.peak_snr`.  Default: it is computed here.
    k
        How many pixels of the file were averaged on a side.
    corrected
        From the same cube.  Default: it is made here.
    peak
        Of a point source of unit flux in the cube; not 1 where a dirty cube was smoothed.
    depth
        Brightness in units of the noise down to which the cube was CLEANed: only what is fainter has sidelobes.

    Returns
    -------
    NoiseUnits
        The same cube with every bright source as the clean beam would show it.
    Restored or None
        What was subtracted; None if nothing is bright, or if the subtraction made the image worse.
    """
    import torch

    snr = peak_snr(units) if snr is None else snr
    brightest = float(snr.max())
    if brightest < LEAST_SNR:
        return units, None
    corrected = corrected or NoiseCorrected(units, beam)
    given, error, units = units, corrected.error, corrected.units
    estimated = psf is None
    if psf is None:
        psf = psf_of(units, snr, beam, k, noise=corrected.noise, clean_beam=header_beam)
    limit = max(LEAST_SNR, VISIBLE / max(sidelobe_level(psf, beam), 1e-3), DEPTH * brightest)
    if brightest < limit:
        return given, None
    responses = responses_of(psf, beam)
    residual, places, scales, spectra = without_components(units, snr * error, responses, beam, limit)
    if not places:
        return given, None
    if estimated and power_in_noise(spectra, psf, units) > CONTAMINATION:
        psf = psf_of(units, snr, beam, k, residual, clean_beam=header_beam)
        responses = responses_of(psf, beam)
        scales, spectra = fit_components(units, places, responses, beam)
    round_beam = np.eye(2) * (beam * gaussian_fwhm_to_sigma) ** 2
    beams = Beams(responses, round_beam if header_beam is None else header_beam, k, peak)
    dirty, clean = beams.images(places, scales, units)
    index = torch.tensor(places, device=psf.device)
    left = fainter_than(depth, spectra, dirty[:, index[:, 0], index[:, 1]])
    sidelobes = Restored(left, (dirty - clean) / error, index, given, beams, error, clean, spectra, depth)
    seen = replace(given, cube=sidelobes.off(given.cube, given.valid))
    return seen, replace(sidelobes, units=seen)


@dataclass(frozen=True)
class Beams:
    """The dirty beam as ``responses`` and the clean beam of a cube.

    ``clean`` is the clean beam's covariance along x and y in pixels², (2, 2); ``k`` pixels of the file were averaged on
    a side; ``peak`` is that of a point source of unit flux in the cube.
    """

    responses: Responses
    clean: np.ndarray
    k: int | float
    peak: float

    def images(
        self, places: list[tuple[int, int]], scales: list[int], units: NoiseUnits
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sources of some scales at some places as the two beams show them, (n, ny, nx) each."""
        psf, beam = self.responses.psf, self.responses.beam
        seen = {scale: restored(psf, self.clean, SCALES[scale] * beam, self.k) / self.peak for scale in set(scales)}
        dirty = responses_at(places, [self.responses[scale] for scale in scales], units)
        return dirty, responses_at(places, [seen[scale] for scale in scales], units)


@dataclass(frozen=True)
class Restored(Sidelobes):
    """Sidelobes that were subtracted, with what is needed to subtract those of fainter sources too.

    Attributes
    ----------
    units
        The cube without them, in noise units.
    beams
        With which its sources were restored.
    error
        See :func:`noise_map_error`.
    clean
        The sources as the clean beam shows them, (n, ny, nx).
    whole
        Their spectra, (n, channels); ``spectra`` are those of what was not CLEANed.
    depth
        Brightness down to which the cube was CLEANed, in units of the noise.
    """

    units: NoiseUnits
    beams: Beams
    error: torch.Tensor
    clean: torch.Tensor
    whole: torch.Tensor
    depth: float = np.inf

    @property
    def share(self) -> float:
        """Of the sidelobes of the sources, which were subtracted; 1 in a dirty cube."""
        return float((self.spectra * self.whole).sum() / self.whole.square().sum())

    def without_bright(self, y: slice, x: slice) -> torch.Tensor:
        """A part of the cube without the sources that were restored, (channels, ny, nx)."""
        import torch

        part = self.units.cube[:, y, x] * self.error[y, x]
        return part - torch.einsum("nc,nyx->cyx", self.whole, self.clean[:, y, x])

    def sidelobes_of(self, places: list[tuple[int, int]], lines: Sequence[list[tuple[int, int]]]) -> Sidelobes:
        """What the dirty beam shows of fainter sources and the clean beam does not.

        A source of S/N 10 in a dirty cube is not a Gaussian either: a fit takes in the shoulders of the dirty beam, and
        its flux is too high by a fifth in an array that is dense in the middle.  Channels without line have the mean of
        their continuum, if there is one, so that noise is not restored as a source.

        Parameters
        ----------
        places
            Of the sources, (y, x).
        lines
            Half-open ranges of channels with data of the lines of each.
        """
        import torch

        reach = max(2, round(MAIN_LOBE * self.beams.responses.beam))
        lobes = near(self.beams.responses, reach)
        scales, own = list[int](), list[torch.Tensor]()
        for (y, x), ranges in zip(places, lines, strict=True):
            rows, columns = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
            left = self.without_bright(rows, columns)
            known = self.units.valid[rows, columns]
            spectrum = left[:, y - rows.start, x - columns.start]
            model = smooth_spectrum(spectrum, ranges)
            image = torch.einsum("c,cyx->yx", model, left) / (model @ spectrum).clamp(min=1e-9)
            top, first = rows.start - y + reach, columns.start - x + reach
            shown = lobes[:, top : top + image.shape[0], first : first + image.shape[1]]
            scales.append(int(((image - shown) * known).square().sum(dim=(1, 2)).argmin()))
            own.append(spectrum)
        index = torch.tensor(places, device=lobes.device)
        lag_y, lag_x = (index[:, None, i] - index[None, :, i] for i in (0, 1))
        mixing = [self.beams.responses[s][lag_y[:, j], lag_x[:, j]] for j, s in enumerate(scales)]
        ridge = 1e-3 * torch.eye(len(places), device=lobes.device)
        spectra = torch.linalg.solve(torch.stack(mixing, dim=1) + ridge, torch.stack(own))
        spectra = torch.stack([smooth_spectrum(s, ranges) for s, ranges in zip(spectra, lines, strict=True)])
        dirty, clean = self.beams.images(places, scales, self.units)
        return Sidelobes(spectra.clamp(-self.depth, self.depth), (dirty - clean) / self.error, index)


def fainter_than(depth: float, spectra: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """What a CLEAN down to some depth leaves of the spectra of some components, (n, channels).

    Parameters
    ----------
    depth
        Brightness in the unit of the spectra.
    images
        What each component shows at the place of each, (n, n): it is the sum of all of them there that is CLEANed.
    """
    there = (images.T @ spectra).abs().clamp(min=1e-9)
    return spectra * (depth / there).clamp(max=1)


def smooth_spectrum(spectrum: torch.Tensor, lines: list[tuple[int, int]]) -> torch.Tensor:
    """A spectrum (channels,) in noise units with the mean of its channels without line in these, if it is seen."""
    import torch

    free = torch.ones_like(spectrum, dtype=torch.bool)
    for first, last in lines:
        free[first:last] = False
    level = float(spectrum[free].mean()) if free.any() else 0.0
    seen = level * float(free.sum()) ** 0.5 > CONTINUUM
    return torch.where(free, level if seen else 0.0, spectrum)


def without_components(
    units: NoiseUnits, snr: torch.Tensor, responses: Responses, beam: float, limit: float
) -> tuple[NoiseUnits, list[tuple[int, int]], list[int], torch.Tensor]:
    """Take components off a cube, the brightest first, until none over ``limit`` is left or the image gets worse.

    ``snr`` (ny, nx) is that of the cube, as :func:`~napari_almadet.search.components.peak_snr` gives it.

    Returns
    -------
    residual, places, scales, spectra
        What is left, and of each component its place (y, x), the number of its response, and its spectrum.
    """
    import torch

    residual, places, scales, found = units, list[tuple[int, int]](), list[int](), list[torch.Tensor]()
    for _ in range(CYCLES):
        peak = float(snr.max())
        if peak < limit:
            break
        new = peaks(snr, max(limit, 0.3 * peak), beam)
        new_scales, new_spectra = fit_components(residual, new, responses, beam)
        images = responses_at(new, [responses[scale] for scale in new_scales], units)
        taken = Sidelobes(new_spectra, images, torch.tensor(new, device=units.cube.device))
        less = replace(residual, cube=taken.off(residual.cube, units.valid))
        if not improves(stack_snr(residual), stack_snr(less), places + new, beam):
            break  # what is left is not of this beam's shape
        residual, places, scales, found = less, places + new, scales + new_scales, [*found, new_spectra]
        snr = peak_snr(residual)
    return residual, places, scales, torch.cat(found) if found else units.cube.new_empty(0, len(units.cube))


def power_in_noise(spectra: torch.Tensor, psf: torch.Tensor, units: NoiseUnits) -> float:
    """Power of sources with some spectra (n, channels) in the differences of channels, over that of the noise.

    It is what they add to the autocorrelation of the noise, which :func:`~napari_almadet.search.dirty_beam.noise_psf`
    takes for the beam.
    """
    lag = lag_of(len(units.cube))
    steps = spectra[:, lag:] - spectra[:, :-lag]
    each = steps.square().sum(dim=0) * float(psf.square().sum()) / float(units.valid.sum())
    return float(each.median()) / 2  # the noise has 2


def restored(psf: torch.Tensor, beam: np.ndarray, fwhm: float, k: int | float) -> torch.Tensor:
    """A round source of ``fwhm`` pixels as the clean beam shows it, as bright as one whose dirty image has a peak of 1.

    The main lobes of the two beams differ, and so do the peaks of a resolved source of the same flux: restored with the
    peak of the dirty image, it would have up to a tenth too much flux.

    Parameters
    ----------
    psf
        The dirty beam, shape (2 ny, 2 nx), its peak of 1 at [0, 0], as averaged pixels show it.
    beam
        The clean beam's covariance along x and y in pixels², (2, 2).
    k
        How many pixels of the file were averaged on a side.  The clean beam is averaged likewise: the difference
        of the two images is subtracted from the pixels of the file, and should vanish in the main lobe.
    """
    averaged = beam + np.eye(2) * (1 - 1 / k**2) / 12 if k > 1 else beam  # variance of k points one k-th apart
    intrinsic = np.eye(2) * (fwhm * gaussian_fwhm_to_sigma) ** 2
    peak = float(np.sqrt(np.linalg.det(averaged) / np.linalg.det(averaged + intrinsic)))
    image = gaussian_response(tuple(psf.shape), averaged, fwhm, psf.device)
    return image * (peak / peak_of(psf, fwhm))


def peak_of(psf: torch.Tensor, fwhm: float) -> float:
    """Peak of the image that a PSF gives of a round Gaussian source of ``fwhm`` pixels and of unit flux."""
    if not fwhm:
        return float(psf[0, 0])
    source = gaussian(tuple(psf.shape), fwhm, psf.device)
    return float((psf * source).sum() / source.sum())


def noise_map_error(units: NoiseUnits) -> torch.Tensor:
    """What the noise map has that no smooth surface explains, as a factor (ny, nx): its own error, of some percent.

    Divided by it, a bright source no longer has the beam's shape.  The surface is a polynomial of fourth degree
    of the map's logarithm, which is as good as exact for a primary beam.
    """
    import torch

    known = units.valid & (units.rms_map > 0)
    ny, nx = known.shape
    y, x = (np.polynomial.legendre.legvander(np.linspace(-1, 1, n), 4) for n in (ny, nx))
    terms = np.stack([y[:, i, None] * x[:, j] for i in range(5) for j in range(5 - i)], axis=-1)
    log = units.rms_map.clamp(min=1e-30).log()
    # in double precision, so that the answer does not depend on how many threads there are
    inside = known.cpu().numpy()
    some, values = terms[inside], log.cpu().numpy()[inside].astype(float)
    surface = terms @ np.linalg.lstsq(some.T @ some, some.T @ values)[0]  # few terms, and orthogonal over the field
    return torch.where(known, (log - torch.as_tensor(surface, dtype=log.dtype, device=log.device)).exp(), 1)


def sidelobe_level(psf: torch.Tensor, beam: float) -> float:
    """Highest absolute value of a PSF outside its main lobe."""
    import torch

    y, x = (torch.fft.fftfreq(n, 1 / n, device=psf.device) for n in psf.shape)
    outside = y[:, None] ** 2 + x**2 > (MAIN_LOBE * beam) ** 2
    return float(psf[outside].abs().max())


def improves(before: torch.Tensor, after: torch.Tensor, places: list[tuple[int, int]], beam: float) -> bool:
    """Whether the stack has less power outside the sources' main lobes than before."""
    outside = ~within(places, [1.5 * beam] * len(places), before)
    if not outside.any():
        return True
    return bool((after[outside] ** 2).mean() < (before[outside] ** 2).mean())
