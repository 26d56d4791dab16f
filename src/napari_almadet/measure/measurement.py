"""Measurement of one source from its cutout: line, continuum, position, size (paper, step 10).

Spectrum and image of a line are fitted alternately, each weighted with the fit of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm

from napari_almadet.constants import BEAM_AREA, PRESENT
from napari_almadet.measure.cutout import FEW, FEW_SHARE, Cutout, Seed, Separated, separated, unmasked
from napari_almadet.measure.detected_place import APART, Place, detected_place
from napari_almadet.measure.dips import dip_channels
from napari_almadet.measure.flux_estimators import (
    ADJOINING,
    APERTURE,
    BLENDED,
    BRIGHT,
    FOOTPRINT,
    UNEXPLAINED,
    UNLIKE,
    Component,
    aperture,
    chi_in_mask,
    combined,
    component,
    first_shape,
    in_one_line,
    near,
    rows_of,
    seed_line,
    spectrum_at,
    weighted_image,
    window_about,
    with_its_horns,
)
from napari_almadet.measure.gaussian_fit import beams_apart
from napari_almadet.measure.gaussian_group import ASTRAY, Fit, Shape, slopes
from napari_almadet.measure.line_model import (
    FLOOR,
    WINGS,
    Line,
    averages,
    correlated_draws,
    crossing_width,
    fit_line,
    mean_crossing_width,
    mean_of_line,
    weights_of_mean,
    whitening,
)
from napari_almadet.measure.mask import grown
from napari_almadet.measure.noise import Noise
from napari_almadet.measure.planes import bounds

# Values without an origin were chosen by eye; `benchmarks/accuracy.py` measures what they achieve.
# Spread of the asymmetry h3 over the population of lines, as galaxies have it (van der Marel & Franx 1993): with it
# centroids of symmetric and of skewed lines both scatter as their errors say
SKEWNESS = 0.1
PASSES = 2  # alternations of line and image fit
DRAWS = 100  # noise realisations for the errors of widths of a mask's spectrum; derived: these are then known to 7 %
FLATNESS = 0.05  # of the continuum: allowance for calibration errors between channels
PADDING = 0.1  # of the channel range of a mask, added on either side
# Beams and channels about a mask, in which emission is looked for that it misses. With these the pulls of the fluxes of
# 24 simulated discs and clouds that are measured by their masks have a standard deviation of 0.9, and of 40 others 1.1;
# without 1.4 and 3.6; with 1.4 beams and 4 channels 1.0 and 1.6, since faint outskirts are further out.
ABOUT_MASK = 1.75, 5
# Of the flux, rms of what a mask misses or selects: with it the pulls of the fluxes of 46 simulated discs and clouds
# have a standard deviation of 1.0, with 0.02 of 1.2, and with 0.1 of 0.9.
MISSED = 0.05
# Times the flux of a fitted Gaussian, and sigma over it, from which that of the mask is measured instead.  Chosen by
# eye with lopsided galaxies; the masks of Gaussian sources hold 0.8 to 1.1 times their flux.
MORE_IN_MASK, SURELY_MORE = 1.25, 4.0
AT_ONCE = 64  # lines of one width that are looked for at a time
# Fraction of its peak, above which the part of a line that is subtracted as continuum matters: a few times this share
# of the flux.  Chosen by eye, well below the errors at S/N 100.
SUBTRACTED = 1e-3
REACH = 3.0  # FWHM from a line's centre, where it has fallen to 1e-11


@dataclass(frozen=True, eq=False)
class Scale:
    """Conversion factors from sums over a cutout to fluxes.

    Attributes
    ----------
    beam
        Covariance of the beam in pixels² at the source, (2, 2).
    areas
        The beam's area in pixels, for each channel.
    flux
        Flux density of a brightness summed over pixels, for each channel.
    width
        Of a channel, in the unit of velocity.
    frequency
        Of each channel, where it is known.
    """

    beam: np.ndarray
    areas: np.ndarray
    flux: np.ndarray
    width: float
    frequency: np.ndarray | None = None

    @property
    def fwhm(self) -> float:
        """Of the beam, in pixels."""
        return float(np.linalg.det(self.beam) ** 0.25 * gaussian_sigma_to_fwhm)


@dataclass
class Measured:
    """Measured values of a source in pixels, channels, and the units of its :class:`Scale`; NaN if not measured."""

    parts: Separated
    method: str = "point"
    shape: Shape | None = None
    size: tuple[np.ndarray, np.ndarray] | None = None
    resolved: bool = False
    place: Place = (np.nan,) * 4  # in the cutout
    misfit: float = np.nan  # of the fits that it is from; see `gaussian_group.Fit`
    flux: float = np.nan
    err_flux: float = np.nan
    err_missed: float = 0.0  # part of err_flux: by emission that the mask misses, and noise that it selects
    peak: float = np.nan
    err_peak: float = np.nan
    line: Line | None = None
    single: Line | None = None
    subtracted: float = 0.0  # of the brightness at the peak in each channel: line that is taken for continuum
    by_subtracted: np.ndarray | None = None  # weights (channels,) of a spectrum's noise in it; None if it is 0
    spectrum: np.ndarray | None = None
    channels: tuple[int, int] = (0, 0)
    z: float = np.nan
    err_z: float = np.nan
    widths: dict[str, tuple[float, float]] = field(default_factory=dict)
    continuum: float = np.nan  # flux density
    err_continuum: float = np.nan
    continuum_peak: float = np.nan
    err_continuum_peak: float = np.nan
    index: float = np.nan  # spectral index of the continuum
    err_index: float = np.nan
    chi: float = np.nan
    blended: bool = False
    line_snr: float = 0.0
    further: tuple[tuple[float, float], ...] = ()  # (centre, FWHM) of lines of the source that are not in its flux
    flux_further: float = 0.0  # theirs
    err_flux_further: float = 0.0
    lines: np.ndarray | None = None  # the continuum-subtracted cutout, 0 where there is no data
    own: np.ndarray | None = None  # spectrum at the peak, including continuum
    own_variance: float = np.nan  # of a pixels' sum of unit noise that it is

    @property
    def continuum_snr(self) -> float:
        """S/N of the continuum, 0 if there is none."""
        snr = self.continuum / self.err_continuum
        return float(snr) if np.isfinite(snr) else 0.0


def measure_source(
    cutout: Cutout, seeds: Sequence[Seed], me: int, scale: Scale, merge: bool = False, thorough: bool = True
) -> Measured:
    """Measure one of the detections of a cutout.

    Parameters
    ----------
    seeds
        All detections whose middle lies in the cutout.
    me
        Number of the one in ``seeds``.
    merge
        Whether what hangs together is one source, whatever else was detected in it.
    thorough
        Whether to make a mask; otherwise only a point or Gaussian is fitted.
    """
    seed, group = seeds[me], [me, *near(seeds, me, scale.fwhm)]
    if merge or not seed.compact:
        group = [me]
    parts = separated(cutout, seeds, me, scale.fwhm, merge) if thorough else unmasked(cutout, seed)
    made = Measured(parts)
    made.blended = any(beams_apart(seeds[j].x - seed.x, seeds[j].y - seed.y, scale.beam) < BLENDED for j in group[1:])
    found = None
    if not np.isfinite(cutout.rms).any():  # without noise there are no weights: NaN, not 0 +- 0
        return made
    if seed.lines:
        made.lines = lines = cutout.less(parts.continuum)
        seed, seeds = with_horns(cutout, seeds, me, lines, scale)
        sharing = [me, *(j for j in group[1:] if in_one_line(seed, seeds[j]))]
        task = LineTask(cutout, seeds, sharing, lines, parts, scale)
        found, shapes = fit_the_line(task, made)
        by_mask(task, made, shapes)
        made.further = further_lines(task, made)
        made.flux_further, made.err_flux_further = flux_of_further_lines(task, made, found)
        if made.method == "mask":
            larger = with_surroundings(parts, cutout, scale)
            made.err_missed = missed_by_mask(larger, cutout, scale, made)
            made.err_flux = float(np.hypot(made.err_flux, made.err_missed))
            width, error = made.widths["w50"]
            other = crossing_width(spectrum_of_mask(task, larger.mask), 0.5)
            made.widths["w50"] = width, float(np.hypot(error, other - width))
    fit_the_continuum(cutout, seeds, group, parts, scale, made, found)
    x, y = seed.x - cutout.origin[1], seed.y - cutout.origin[0]
    away = strayed(made.place, x, y, seed, scale.fwhm)
    if made.method != "mask" and (seed.placed or away):
        shape = scale.beam if made.shape is None else made.shape.matrix
        misfit = (np.inf if away else made.misfit) if made.blended else None
        made.place = detected_place(x, y, made.place, shape, scale.beam, cutout.noise, misfit)
    return made


def with_horns(
    cutout: Cutout, seeds: Sequence[Seed], me: int, lines: np.ndarray, scale: Scale
) -> tuple[Seed, list[Seed]]:
    """A detection, also among all of its cutout, whose adjoining peaks are one line (:func:`with_its_horns`)."""
    seed, shape = seeds[me], first_shape(seeds[me], cutout, scale.beam)
    if len(seed.lines) > 1:
        row = rows_of([shape], cutout.pixels, scale.beam)[0]
        unit = float(np.sqrt(cutout.noise.spatial_variance(row))) * level_at(cutout, shape)
        seed = with_its_horns(
            seed,
            spectrum_at(row, lines),
            lambda weights: unit * float(np.sqrt(cutout.noise.spectral_variance(weights))),
        )
    return seed, [*seeds[:me], seed, *seeds[me + 1 :]]


def strayed(place: Place, x: float, y: float, seed: Seed, fwhm: float) -> bool:
    """Whether successive fits have moved a place further from the detection (x, y) than a single fit may.

    ``fwhm`` is that of the beam, in pixels.
    """
    extent = max(fwhm, gaussian_sigma_to_fwhm * max(seed.sigma_x, seed.sigma_y))
    return bool(np.hypot(place[0] - x, place[1] - y) > ASTRAY * extent)  # False where the fit failed


def fit_the_continuum(
    cutout: Cutout,
    seeds: Sequence[Seed],
    group: Sequence[int],
    parts: Separated,
    scale: Scale,
    made: Measured,
    line: Component | None,
) -> None:
    """Measure flux density and spectral index of the continuum, as a point or Gaussian.

    If it is bright, its shape is fitted; otherwise it has the shape of the line.  The position is that of line and
    continuum together.
    """
    if made.method == "mask":
        continuum_of_footprint(cutout, parts, scale, made)
        return
    noise, pixels = cutout.noise, cutout.pixels
    shapes = [first_shape(seeds[j], cutout, scale.beam) for j in group]
    if line is not None and line.shape is not None:
        shapes[0] = line.shape
    rest = rest_weights(parts, shapes[0])
    level = level_at(cutout, shapes[0])
    sigma = float(np.sqrt(noise.spectral_variance(rest)) * level)
    if not sigma > 0:
        return
    row = rows_of(shapes, pixels, scale.beam)[0]
    bright = float((row * parts.continuum).sum()) / (sigma * np.sqrt(noise.spatial_variance(row)))
    found = line
    if bright > BRIGHT or line is None:
        known = aperture(cutout, [(s.x, s.y) for s in shapes[:1]], APERTURE * scale.fwhm, pixels)
        images = np.stack([parts.continuum] * len(shapes))
        own = component(images, known, shapes, scale.beam, sigma, cutout)
        found = own if own.best is not None else line
    if found is not None and found is not line:
        choices = found.choices()
    else:
        resolved = line if line is not None and line.share > 0.5 else None
        first = Shape(shapes[0].x, shapes[0].y, scale.beam) if resolved is None else shapes[0]
        extra = 0.0 if resolved is None else resolved.extra
        ratio = first.area / (2 * np.pi * float(np.sqrt(np.linalg.det(scale.beam))))
        choices = [(1.0, rows_of([first, *shapes[1:]], pixels, scale.beam)[0], ratio, extra)]
    density = scale.flux * scale.areas
    raw = cutout.values
    estimates = []
    for share, row, ratio, extra in choices:
        spectrum = spectrum_at(row, raw) * density * ratio
        factor = float(rest @ density) * ratio
        value = float(rest @ spectrum) - made.subtracted * factor
        weights = rest * density * ratio
        if made.by_subtracted is not None:
            weights = weights - factor * (made.by_subtracted - made.by_subtracted.sum() * rest)
        by_noise = np.sqrt(noise.spatial_variance(row) * noise.spectral_variance(weights)) * level
        estimates.append((share, value, float(np.hypot(by_noise, extra * value))))
    made.continuum, made.err_continuum = combined(estimates)
    share, row, ratio, _ = max(choices, key=lambda choice: choice[0])
    made.own, made.own_variance = spectrum_at(row, raw), noise.spatial_variance(row) * level**2
    made.continuum_peak = float(rest @ made.own) - made.subtracted
    made.err_continuum_peak = float(sigma * np.sqrt(noise.spatial_variance(row)))
    spatial = noise.spatial_variance(row) * level**2
    spectral_index(made, spectrum_at(row, raw) * density * ratio, rest, spatial, density * ratio, cutout, scale)
    best = None if found is None or found is line else found.best
    by_continuum = place_of_continuum(made, shapes, parts.continuum, pixels) if best is None else place_of(best)
    by_line, of_line = made.place, made.misfit
    if found is not None and best is not None and (line is None or made.continuum_snr > made.line_snr):
        made.shape, made.method = found.shape, found.method
        made.place, made.misfit = place_of(best), best.misfit
        made.size = found.size
        made.resolved = found.resolved
    if by_continuum is not None and np.isfinite(by_line).all():
        made.place = place_by_both(by_line, by_continuum)
        if best is not None:
            made.misfit = max(of_line, best.misfit)


def place_of(fit: Fit) -> Place:
    """Position and errors of a fitted source."""
    return (fit.own.x, fit.own.y, *np.sqrt(np.diag(fit.covariance)[1:3]).tolist())


def place_of_continuum(
    made: Measured, shapes: Sequence[Shape], continuum: np.ndarray, pixels: np.ndarray
) -> Place | None:
    """Position of a continuum that is not fitted on its own: one step of a fit from the position of the line.

    Parameters
    ----------
    shapes
        Of the line and its neighbours.
    continuum
        Its image, (ny, nx).

    Returns
    -------
    tuple or None
        x, y and their errors, which are those of the line times the ratio of their S/N (Condon 1997); None without a
        continuum.  The fainter it is, the less its position matters, so that no threshold is needed.
    """
    snr = made.continuum_peak / made.err_continuum_peak
    if not (snr > 0 and made.line_snr > 0 and np.isfinite(made.place).all()):
        return None
    heights = np.tensordot(rows_of(shapes, pixels), continuum, 2)
    yy, xx = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    images = np.stack([shape.image(xx, yy) for shape in shapes]) * pixels
    left = np.where(pixels, continuum - np.tensordot(heights, images, 1), 0)
    by = np.stack(slopes(shapes[0], images[0], xx, yy, size=False)) * heights[0]
    flat = by.reshape(2, -1)
    step = np.linalg.solve(flat @ flat.T, flat @ left.ravel())
    x, y, err_x, err_y = made.place
    ratio = made.line_snr / snr
    return (x + float(step[0]), y + float(step[1]), err_x * ratio, err_y * ratio)


def place_by_both(one: Place, other: Place) -> Place:
    """Weighted mean of two positions.

    If they differ by more than :data:`APART` errors, what that moves the surer one too far is added to its error.
    """
    made: list[tuple[float, float]] = []
    for a, b, err_a, err_b in zip(one[:2], other[:2], one[2:], other[2:], strict=True):
        share = err_a**2 / (err_a**2 + err_b**2)
        excess = min(share, 1 - share) ** 2 * max((b - a) ** 2 - APART**2 * (err_a**2 + err_b**2), 0.0)
        made.append((a + share * (b - a), float(np.sqrt(err_a**2 * (1 - share) + excess))))
    (x, err_x), (y, err_y) = made
    return (x, y, err_x, err_y)


def line_in(made: Measured, cutout: Cutout, scale: Scale, least: float) -> tuple[float, float] | None:
    """Centre and FWHM of the best line of at least ``least`` sigma in the spectrum of a source.

    Because a continuum is only as flat as its calibration, a fraction of it is added to the noise of each channel.
    Lines up to half the band wide are considered.
    """
    if made.own is None:
        return None
    known = np.isfinite(cutout.rms)
    dips = dip_channels(made.own, np.sqrt(made.own_variance) * cutout.noise.sigma, known, cutout.noise.spectral)
    filled = np.flatnonzero(known & ~dips)
    if len(filled) < 8:
        return None
    sigma = np.sqrt(made.own_variance) * cutout.noise.sigma[filled]
    uneven = 1 + (FLATNESS * np.median(made.own[filled]) / np.median(sigma)) ** 2
    variance = made.own_variance * uneven
    if len(cutout.noise.spectral) == 1:  # independent channels: their covariance is a diagonal
        diagonal = cutout.noise.sigma[filled] ** 2 * variance
        root = 1 / np.sqrt(np.maximum(diagonal, FLOOR * diagonal.max()))
        white, inverse = root[:, None], root**2
    else:
        matrix = whitening(covariance_of(cutout.noise, filled, np.zeros(len(cutout.rms)), variance))
        white, inverse = matrix, matrix @ matrix  # it is symmetric
    channel = filled.astype(float)

    def whitened(columns: np.ndarray) -> np.ndarray:
        return white * columns if white.shape[1] == 1 else white @ columns

    flat = np.linalg.qr(whitened(np.stack([np.ones(len(filled)), channel - channel.mean()], axis=1)))[0]
    rest = whitened(made.own[filled][:, None])
    rest = rest - flat @ (flat.T @ rest)
    # the S/N of a profile b is b' seen / sqrt(b' inverse b - |level' b|^2): what is flat in it tells nothing
    seen, level = whitened(rest)[:, 0], whitened(flat)
    best: tuple[float, tuple[float, float] | None] = (least, None)
    width = 1.0
    while width <= len(filled) / 2:
        centre = np.arange(channel[0], channel[-1] + 1, max(width / 3, 1.0))
        found = [_heights_and_norms(channel, some, width, seen, level, inverse) for some in _batches(centre)]
        height, norm = (np.concatenate(part) for part in zip(*found, strict=True))
        snr = height / np.where(norm > 1e-3 * norm.max(), norm, np.inf)
        i = int(np.argmax(snr))
        if snr[i] > best[0]:
            best = (float(snr[i]), (float(centre[i]), width))
        width *= 1.5
    return best[1]


def _batches(centre: np.ndarray) -> list[np.ndarray]:
    """Centres of lines, some at a time."""
    return [centre[k : k + AT_ONCE] for k in range(0, len(centre), AT_ONCE)]


def _heights_and_norms(
    channel: np.ndarray, centre: np.ndarray, width: float, seen: np.ndarray, level: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of lines of one width at some centres: their products with a spectrum, and their norms, (centres,) each.

    Only the channels are looked at in which one of them is more than nothing.
    """
    first, last = np.searchsorted(channel, [centre[0] - REACH * width - 2, centre[-1] + REACH * width + 2])
    part = slice(int(first), int(last))
    unit = averages(channel[part], centre, np.full(len(centre), width))
    covered = unit * inverse[part] if inverse.ndim == 1 else unit @ inverse[part, part]  # of a diagonal matrix, or any
    square = (covered * unit).sum(axis=1) - ((unit @ level[part]) ** 2).sum(axis=1)
    return unit @ seen[part], np.sqrt(np.maximum(square, 0))


def continuum_of_footprint(cutout: Cutout, parts: Separated, scale: Scale, made: Measured) -> None:
    """Continuum flux density of an extended source: the sum over the pixels of its mask, in line-free channels."""
    used = np.flatnonzero(parts.mask.any(axis=(1, 2)))
    margin = 2 + round(PADDING * (used[-1] - used[0] + 1))
    free = np.isfinite(cutout.rms)
    free[max(0, used[0] - margin) : used[-1] + 1 + margin] = False
    footprint = parts.mask.any(axis=0)
    if free.sum() < max(FEW, FEW_SHARE * len(free)):
        return
    rest = free / free.sum()
    weights = footprint * cutout.level
    raw = np.where(footprint, cutout.values, 0).sum(axis=(1, 2), dtype=float)
    spatial = cutout.noise.spatial_variance(weights)
    made.continuum = float(rest @ (raw * scale.flux))
    made.err_continuum = float(np.sqrt(spatial * cutout.noise.spectral_variance(rest * scale.flux)))
    spectral_index(made, raw * scale.flux, rest, spatial, scale.flux, cutout, scale)


def spectral_index(
    made: Measured,
    spectrum: np.ndarray,
    rest: np.ndarray,
    spatial: float,
    density: np.ndarray,
    cutout: Cutout,
    scale: Scale,
) -> None:
    """Slope of a continuum with frequency, S = S0 (nu / nu0)^alpha, to first order by weighted least squares."""
    if scale.frequency is None or not made.continuum_snr > 0:
        return
    used = np.flatnonzero((rest > 0) & np.isfinite(cutout.rms))
    if len(used) < 4:
        return
    log = np.log(scale.frequency[used])
    log = log - rest[used] @ log / rest[used].sum()
    weights = log / (log @ log)
    slope = float(weights @ spectrum[used])
    full = np.zeros(len(rest))
    full[used] = weights * density[used]
    error = np.sqrt(spatial * cutout.noise.spectral_variance(full))
    made.index = slope / made.continuum
    made.err_index = float(np.hypot(error / made.continuum, made.index / made.continuum_snr))


@dataclass(frozen=True, eq=False)
class LineTask:
    """Input for fitting the line of a source, the first of ``group``, in ``lines`` together with the others."""

    cutout: Cutout
    seeds: Sequence[Seed]
    group: Sequence[int]
    lines: np.ndarray
    parts: Separated
    scale: Scale

    @property
    def seed(self) -> Seed:
        return self.seeds[self.group[0]]

    @property
    def n_channels(self) -> int:
        return len(self.cutout.planes)

    @cached_property
    def inverse(self) -> np.ndarray:
        """Inverse variance of each channel."""
        return np.asarray(1 / self.cutout.rms.astype(float) ** 2)

    def filled(self, channels: np.ndarray) -> np.ndarray:
        """The given channels that have data."""
        return channels[np.isfinite(self.cutout.rms[channels])]

    def bounds(self) -> tuple[int, int]:
        """Half-open range of channels of the detected line and of the mask."""
        first, last = self.seed.channels
        inside = np.flatnonzero(self.parts.mask.any(axis=(1, 2)))
        return (min(first, int(inside[0])), max(last, int(inside[-1]) + 1)) if len(inside) else (first, last)

    def window(self) -> np.ndarray:
        """Channels in which to fit the line, excluding other lines of the source and lines of neighbours elsewhere."""
        about = near(self.seeds, self.group[0], self.scale.fwhm, 0.0)
        foreign = [line for j in about if j not in self.group for line in self.seeds[j].lines]
        return self.filled(window_about(*self.bounds(), [*self.seed.lines[1:], *foreign], self.n_channels))


def fit_the_line(task: LineTask, made: Measured) -> tuple[Component | None, list[Shape]]:
    """Fit line and image of a source alternately, each weighted with the other.

    Returns the fit of the image, if it succeeded, and the shapes of the source and its neighbours.
    """
    cutout, scale = task.cutout, task.scale
    shapes = [first_shape(task.seeds[j], cutout, scale.beam) for j in task.group]
    spectra = [seed_line(task.seeds[j], task.n_channels) for j in task.group]
    rest = rest_weights(task.parts, shapes[0])
    used = task.window()
    found: Component | None = None
    centre, fwhm = task.seed.lines[0]
    alone = covariance_of(cutout.noise, used, rest, 1.0)
    covariance, white = alone, whitening(alone) if len(used) else alone
    for turn in range(PASSES + 1):
        if turn:
            new = fit_the_image(task, shapes, spectra, rest)
            if new.best is None:
                break
            found, shapes = new, list(new.best.shapes)
        rows = rows_of(shapes, task.cutout.pixels, scale.beam)
        variance = cutout.noise.spatial_variance(rows[0]) * level_at(cutout, shapes[0]) ** 2
        covariance = alone * variance
        seen, own_white = spectrum_at(rows[0], task.lines), white / np.sqrt(variance)
        fits = fit_line(seen, used, covariance, centre, fwhm, white=own_white)
        if fits is not None and mean_of_line(fits[1], rest) > SUBTRACTED * fits[1].parameters[:, 0].max():
            fits = fit_line(seen, used, covariance, centre, fwhm, white=own_white, rest=rest) or fits
        if fits is not None:
            made.single, made.line = fits
            centre, fwhm = fits[0].parameters[0, 1:]
            spectra[0] = without_skirts(made.line.at(np.arange(task.n_channels)))
        for j, row in enumerate(rows[1:], 1):
            spectra[j] = spectrum_of_neighbour(task, task.seeds[task.group[j]], row, rest, spectra[j])
    take_the_fit(task, made, found, shapes, spectra[0], rest, (used, covariance, white / np.sqrt(variance)))
    return found, shapes


def fit_the_image(
    task: LineTask, shapes: Sequence[Shape], spectra: Sequence[np.ndarray], rest: np.ndarray
) -> Component:
    """Fit the image of a line (channels weighted with its spectrum) together with the images of its neighbours."""
    cutout, fwhm = task.cutout, task.scale.fwhm
    weight = spectra[0] * task.inverse
    if not weight.any():  # there is no data where the line is
        return Component(None, None, 0.0, (np.zeros(cutout.pixels.shape, np.float32),) * 2, 1.0, 0.0)
    images = np.stack([weighted_image(spectrum, task.lines, task.inverse) for spectrum in spectra])
    plain = weight / (weight @ spectra[0])
    sigma = float(np.sqrt(cutout.noise.spectral_variance(plain - plain.sum() * rest)) * level_at(cutout, shapes[0]))
    reach = max(
        APERTURE * fwhm, 1.2 * gaussian_sigma_to_fwhm * float(np.sqrt(np.linalg.eigvalsh(shapes[0].matrix)[-1]))
    )
    known = aperture(cutout, [(shapes[0].x, shapes[0].y)], reach, task.cutout.pixels)
    for shape in shapes[1:]:
        if np.hypot(shape.x - shapes[0].x, shape.y - shapes[0].y) < 2 * fwhm:
            known |= aperture(cutout, [(shape.x, shape.y)], 0.8 * fwhm, task.cutout.pixels)
    return component(images, known, shapes, task.scale.beam, sigma, cutout)


def without_skirts(spectrum: np.ndarray) -> np.ndarray:
    """A model spectrum, set to 0 where it is below a hundredth of its maximum."""
    return np.where(spectrum < 0.01 * spectrum.max(), 0.0, spectrum)


def spectrum_of_neighbour(
    task: LineTask, seed: Seed, row: np.ndarray, rest: np.ndarray, before: np.ndarray
) -> np.ndarray:
    """The line of a neighbour as one Gaussian fitted to its spectrum; the detected line if the fit fails."""
    if not seed.lines:
        return before
    inside = np.flatnonzero(seed_line(seed, task.n_channels))
    if not len(inside):
        return before
    used = task.filled(window_about(inside[0], inside[-1] + 1, (), task.n_channels))
    covariance = covariance_of(task.cutout.noise, used, rest, task.cutout.noise.spatial_variance(row))
    fits = fit_line(spectrum_at(row, task.lines), used, covariance, *seed.lines[0], most=1)
    return before if fits is None else without_skirts(fits[1].at(np.arange(task.n_channels)))


def take_the_fit(
    task: LineTask,
    made: Measured,
    found: Component | None,
    shapes: Sequence[Shape],
    spectrum: np.ndarray,
    rest: np.ndarray,
    fitted: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Set flux, position, size, peak and widths of a source that is a Gaussian with one spectrum.

    ``spectrum`` is the fitted one; ``fitted`` are the channels it was fitted in, their covariance, and what makes their
    noise white.
    """
    cutout, scale = task.cutout, task.scale
    first, last = made.channels = range_of(task, made.line)
    share = float(np.clip(made.line.share(first, last), 0.5, 1.1)) if made.line is not None else 1.0
    inside = np.zeros(task.n_channels)
    inside[task.filled(np.arange(first, last))] = 1
    weights = inside * scale.flux * scale.areas * scale.width / share
    level = level_at(cutout, shapes[0])
    if found is None:
        as_points = [Shape(shapes[0].x, shapes[0].y, scale.beam), *shapes[1:]]
        choices = [(1.0, rows_of(as_points, task.cutout.pixels, scale.beam)[0], 1.0, 0.0)]
    else:
        choices = found.choices()
    subtract_less(made, rest, fitted[0], fitted[2])
    values = []
    for part, row, ratio, extra in choices:
        own, by = spectrum_at(row, task.lines) + made.subtracted, weights * ratio
        by_noise = by if made.by_subtracted is None else by + by.sum() * made.by_subtracted
        unit = cutout.noise.spectral_variance(by_noise - by_noise.sum() * rest)
        value = float(by @ own)
        error = np.sqrt(cutout.noise.spatial_variance(row) * unit) * level
        values.append((part, value, float(np.hypot(error, extra * value)), own))
    made.flux, made.err_flux = combined([value[:3] for value in values])
    made.spectrum = max(values, key=lambda value: value[0])[3]
    if found is None or (best := found.best) is None:
        made.shape = shapes[0]
        return
    made.shape, made.method = best.own, found.method
    made.size, made.resolved = found.size, found.resolved
    made.place, made.misfit = place_of(best), best.misfit
    height, error = float(spectrum.max()), float(np.sqrt(best.covariance[0, 0]))
    weight = spectrum * task.inverse
    amplitude = best.amplitude + made.subtracted * float(weight.sum() / (weight @ spectrum))
    made.peak, made.err_peak, made.line_snr = amplitude * height, error * height, best.amplitude / error
    if made.line is not None:
        take_the_widths(made, made.line, fitted, (first, last))


def subtract_less(made: Measured, rest: np.ndarray, used: np.ndarray, white: np.ndarray) -> None:
    """Set how much of the line was subtracted as continuum, and the weights of a spectrum's noise in it."""
    mean = mean_of_line(made.line, rest)
    if made.line is None or not mean > SUBTRACTED * made.line.parameters[:, 0].max():
        return
    made.subtracted, made.by_subtracted = mean, weights_of_mean(made.line, rest, used, white)


def range_of(task: LineTask, line: Line | None) -> tuple[int, int]:
    """Half-open range of channels that contain a line."""
    if line is not None:
        low, high = line.range
    else:
        first, last = task.bounds()
        low, high = first - PADDING * (last - first), last + PADDING * (last - first)
    return max(0, int(np.floor(low))), min(task.n_channels, int(np.ceil(high)) + 1)


def take_the_widths(
    made: Measured, line: Line, fitted: tuple[np.ndarray, np.ndarray, np.ndarray], channels: tuple[int, int]
) -> None:
    """Set centroid and widths from a fitted line.

    The centroid is that of the Gaussian plus the shift by the asymmetry that is most probable given the spectrum and
    what asymmetries lines have (:data:`SKEWNESS`); what is unknown of it is part of the error.  For a line that is not
    a Gaussian it is the centroid of the spectrum.
    """
    used, covariance, white = fitted
    spectrum = np.zeros(0) if made.spectrum is None else made.spectrum
    made.z, made.err_z = line.centroid(), line.error(line.centroid)
    if len(line.parameters) == 1:
        shift, error = line.skew(spectrum, used, white)
        expected = SKEWNESS * line.shift_of_skew()
        share = expected**2 / (expected**2 + error**2) if error > 0 else 0.0
        made.z += share * shift
        made.err_z = float(np.sqrt(made.err_z**2 + share * error**2))
    else:
        low, high = line.within(WINGS)
        inside = (used >= min(low, channels[0])) & (used <= max(high, channels[1] - 1))
        total = spectrum[used[inside]].sum()
        if total > 0:
            made.z = float((spectrum[used[inside]] * used[inside]).sum() / total)
            weights = inside * (used - made.z) / total
            made.err_z = float(np.sqrt(weights @ covariance @ weights))
    functions: dict[str, Callable[..., float]] = {
        "w50": lambda parameters=None: line.width(0.5, parameters),
        "w20": lambda parameters=None: line.width(0.2, parameters),
        "wm50": line.mean_width,
    }
    for name, function in functions.items():
        made.widths[name] = (function(), line.error(function))


def by_mask(task: LineTask, made: Measured, shapes: Sequence[Shape]) -> None:
    """Use the sum over the mask if Gaussians do not explain the emission in the mask."""
    parts, scale, cutout = task.parts, task.scale, task.cutout
    if made.spectrum is None:
        return
    footprint = np.count_nonzero(parts.mask.any(axis=0)) / (BEAM_AREA * scale.fwhm**2)
    width = made.line.width(0.5) if made.line is not None else made.channels[1] - made.channels[0]
    if footprint < FOOTPRINT:
        return
    made.chi, left = chi_in_mask(task.lines, [made.shape or shapes[0], *shapes[1:]], parts, cutout, scale.fwhm, width)
    if (made.chi < UNLIKE or left < UNEXPLAINED) and not mask_holds_more(task, made):
        return
    sum_the_mask(task, made)


def further_lines(task: LineTask, made: Measured) -> tuple[tuple[float, float], ...]:
    """Lines (centre, FWHM) of a source that are not in its flux, of :data:`PRESENT` sigma or more.

    Such are the satellites of a hyperfine group, maser spots of other velocities, or another transition.
    """
    if len(task.seed.lines) < 2:
        return ()
    cutout, channel = task.cutout, np.arange(task.n_channels)
    shape = made.shape or first_shape(task.seed, cutout, task.scale.beam)
    row = rows_of([shape], cutout.pixels, task.scale.beam)[0]
    spectrum = spectrum_at(row, task.lines)
    unit = float(np.sqrt(cutout.noise.spatial_variance(row))) * level_at(cutout, shape)
    rest = rest_weights(task.parts, shape)
    used = np.asarray((channel >= made.channels[0]) & (channel < made.channels[1]))
    if made.method == "mask":
        used = np.asarray(task.parts.mask.any(axis=(1, 2)))
    found: list[tuple[float, float]] = []
    for centre, fwhm in task.seed.lines[1:]:
        inside = (np.abs(channel - centre) <= max(fwhm / 2, 0.5)).astype(float)
        error = unit * float(np.sqrt(cutout.noise.spectral_variance(inside - inside.sum() * rest)))
        if used[inside > 0].mean() < 0.5 and inside @ spectrum >= PRESENT * error:
            found.append((centre, fwhm))
    return tuple(found)


def flux_of_further_lines(task: LineTask, made: Measured, found: Component | None) -> tuple[float, float]:
    """Flux of :func:`further_lines` and its error: in 1.1 FWHM about them, without the channels already measured.

    Where the source is a point or a Gaussian, they have its place and size; where it has a mask, they are summed over
    the pixels of the mask.
    """
    if not made.further:
        return 0.0, 0.0
    cutout, scale, channel = task.cutout, task.scale, np.arange(task.n_channels)
    shape = made.shape or first_shape(task.seed, cutout, scale.beam)
    inside = np.any([np.abs(channel - centre) <= max(ADJOINING * fwhm, 1) for centre, fwhm in made.further], axis=0)
    inside &= np.isfinite(cutout.rms)
    weights = inside * scale.flux * scale.width
    if made.method == "mask":
        weights = weights * ~task.parts.mask.any(axis=(1, 2))
        row = np.asarray(task.parts.mask.any(axis=0), np.float32)
    else:
        weights = weights * ((channel < made.channels[0]) | (channel >= made.channels[1]))
        others = [first_shape(task.seeds[j], cutout, scale.beam) for j in task.group[1:]]
        row = rows_of([shape, *others], cutout.pixels, scale.beam)[0]
        weights = weights * scale.areas * (shape.area / (2 * np.pi * float(np.sqrt(np.linalg.det(scale.beam)))))
    by_noise = weights - weights.sum() * rest_weights(task.parts, shape)
    variance = cutout.noise.spatial_variance(row) * cutout.noise.spectral_variance(by_noise)
    flux = float(weights @ spectrum_at(row, task.lines))
    of_size = found.extra if found is not None and made.method == "fit" else 0.0
    return flux, float(np.hypot(np.sqrt(variance) * level_at(cutout, shape), of_size * flux))


def mask_holds_more(task: LineTask, made: Measured) -> bool:
    """Whether the mask of a source without neighbours holds clearly more flux than the Gaussian that was fitted.

    In an object of low surface brightness, no voxel differs from the fit by more than its noise, but all of them
    together do.
    """
    if made.blended or len(task.group) > 1:
        return False
    flux, error = flux_of_mask(task)
    return flux > MORE_IN_MASK * made.flux and flux - made.flux > SURELY_MORE * error


def flux_of_mask(task: LineTask) -> tuple[float, float]:
    """The continuum-subtracted flux of a mask, and its error due to noise."""
    weights, cutout = weights_of_mask(task.parts, task.scale), task.cutout
    error = float(np.sqrt(cutout.noise.variance(weights, cutout.level)))
    return weighted_sum(weights, cutout), error


def sum_the_mask(task: LineTask, made: Measured) -> None:
    """Set the continuum-subtracted flux of the mask and its error, and centroid and widths of its spectrum."""
    made.method, made.size, made.resolved = "mask", None, True
    made.flux, made.err_flux = flux_of_mask(task)
    made.line_snr = made.flux / made.err_flux if made.err_flux > 0 else 0.0
    take_the_masks_spectrum(task, made)


def with_surroundings(parts: Separated, cutout: Cutout, scale: Scale) -> Separated:
    """A source with a mask that includes what is about it (:data:`ABOUT_MASK`), without other sources."""
    beams, channels = ABOUT_MASK
    pixels = max(1, round(beams * scale.fwhm))
    return replace(parts, mask=grown(parts.mask, parts.others, cutout.known, pixels, channels))


def missed_by_mask(larger: Separated, cutout: Cutout, scale: Scale, made: Measured) -> float:
    """Error of a mask's flux because of where the mask ends, in addition to its noise.

    A mask misses the emission below its threshold, and at its border has more voxels with positive than with negative
    noise.  The sum over mask and surroundings, ``larger``, has neither fault, but more noise.  What the two sums differ
    by is thus an estimate of what is missed, and :data:`MISSED` of the flux is another: the error is the rms of what is
    missed according to both together.
    """
    weights = weights_of_mask(larger, scale)
    more = weighted_sum(weights, cutout) - made.flux
    by_noise = max(cutout.noise.variance(weights, cutout.level) - made.err_flux**2, 0.0)
    expected = (MISSED * made.flux) ** 2
    share = expected / max(expected + by_noise, 1e-30)  # weight of the difference
    return float(np.hypot(share * more, np.sqrt(share * by_noise)))


def weights_of_mask(parts: Separated, scale: Scale) -> np.ndarray:
    """Weights (channels, ny, nx) with which voxels add up to the flux of a mask, its continuum subtracted."""
    pixels = (slice(None), *bounds(np.any(parts.mask, axis=0)))  # the others have none
    made = parts.mask[pixels] * (scale.flux * scale.width).astype(np.float32)[:, None, None]
    if parts.has_continuum:
        rest = parts.rest[pixels]
        made = made - rest * (made.sum(axis=0) / np.maximum(rest.sum(axis=0), 1))
    weights = np.zeros(parts.mask.shape, made.dtype)
    weights[pixels] = made
    return weights


def weighted_sum(weights: np.ndarray, cutout: Cutout) -> float:
    """Sum over the voxels (channels, ny, nx) of a cutout with weights."""
    pixels = (slice(None), *bounds(np.any(weights, axis=0)))
    return float((weights[pixels].astype(float) * cutout.values[pixels]).sum())


def spectrum_of_mask(task: LineTask, mask: np.ndarray) -> np.ndarray:
    """Flux density in a mask in each channel, without continuum."""
    return np.asarray(np.where(mask, task.lines, 0).sum(axis=(1, 2), dtype=float) * task.scale.flux)


def take_the_masks_spectrum(task: LineTask, made: Measured) -> None:
    """Set centroid and widths of the spectrum of a mask, with errors from noise realisations."""
    cutout, mask, flux = task.cutout, task.parts.mask, task.scale.flux
    spectrum = spectrum_of_mask(task, mask)
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    scaled = (mask[used] * cutout.level).astype(float)
    spatial = np.maximum((cutout.noise.correlated(scaled) * scaled).sum(axis=(1, 2)), 0)
    sigma = np.zeros(task.n_channels)
    sigma[used] = np.sqrt(spatial) * cutout.noise.sigma[used] * flux[used]
    made.channels, made.spectrum = (int(used[0]), int(used[-1]) + 1), spectrum
    channel, total = np.arange(task.n_channels), spectrum.sum()
    made.z = float((spectrum * channel).sum() / total)
    draws = spectrum + correlated_draws(sigma, cutout.noise.spectral, DRAWS)
    made.err_z = float(np.sqrt(np.mean(((draws * (channel - made.z)).sum(axis=1) / total) ** 2)))
    functions: dict[str, Callable[[np.ndarray], float]] = {
        "w50": lambda values: crossing_width(values, 0.5),
        "w20": lambda values: crossing_width(values, 0.2),
        "wm50": mean_crossing_width,
    }
    for name, function in functions.items():
        spread = np.nanstd([function(draw) for draw in draws])
        made.widths[name] = (function(spectrum), float(spread))


def rest_weights(parts: Separated, shape: Shape) -> np.ndarray:
    """Weights (channels,) of the mean that is subtracted as continuum at a source; 0 if none is subtracted."""
    if not parts.has_continuum:
        return np.zeros(len(parts.rest))
    yy, xx = np.indices(parts.rest.shape[1:])
    weight = shape.image(xx, yy)
    weight = np.where(weight > 0.3, weight, 0)
    part = bounds(weight > 0)
    weight = weight[part]
    shares = np.tensordot(parts.rest[:, *part], weight, 2) / max(weight.sum(), 1e-30)
    return shares / max(shares.sum(), 1e-30)


def covariance_of(noise: Noise, used: np.ndarray, rest: np.ndarray, variance: float) -> np.ndarray:
    """Covariance of some channels of a continuum-subtracted spectrum, given the variance of its sum over pixels."""
    # a mean over the very channels that are fitted is correlated with them; that would make the matrix singular
    return (noise.covariance_between(used) + noise.spectral_variance(rest)) * variance


def level_at(cutout: Cutout, shape: Shape) -> float:
    """The relative noise level at the position of a source."""
    ny, nx = cutout.level.shape
    return float(cutout.level[int(np.clip(round(shape.y), 0, ny - 1)), int(np.clip(round(shape.x), 0, nx - 1))])
