"""All that is measured of one source, from its one cutout: line, continuum, place, size (paper, step 10).

The line and the image of a source are fitted in turn, each weighted with what is known of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_almadet.measure.cutout import FEW, FEW_SHARE, Cutout, Seed, Separated, separated, unmasked
from napari_almadet.measure.estimators import (
    APERTURE,
    BEAM_AREA,
    BLENDED,
    BRIGHT,
    FOOTPRINT,
    UNEXPLAINED,
    UNLIKE,
    Component,
    aperture,
    chi_in_mask,
    component,
    first_shape,
    in_one_line,
    near,
    rows_of,
    seed_line,
    spectrum_at,
    weighted_image,
    window_about,
)
from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.measure.line_model import (
    Line,
    correlated_draws,
    crossing_width,
    fit_line,
    profiles,
    whitening,
)

PASSES = 2  # of line and image in turn
DRAWS = 100  # of noise, for the errors of a mask's spectrum
FLATNESS = 0.05  # of a continuum, by which its channels may differ for want of calibration
PADDING = 0.1  # of a mask's range, to either side


@dataclass(frozen=True, eq=False)
class Scale:
    """What turns sums of a cutout into fluxes.

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
        return float(np.linalg.det(self.beam) ** 0.25 * 2.3548200450309493)


@dataclass
class Measured:
    """Numbers of a source in pixels, channels, and the units of its :class:`Scale`; NaN where there is none."""

    parts: Separated
    method: str = "point"
    shape: Shape | None = None
    size: tuple[np.ndarray, np.ndarray] | None = None
    resolved: bool = False
    place: tuple[float, float, float, float] = (np.nan,) * 4  # x, y and their errors, in the cutout
    flux: float = np.nan
    err_flux: float = np.nan
    peak: float = np.nan
    err_peak: float = np.nan
    line: Line | None = None
    single: Line | None = None
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
    ratio: float = 1.0
    excess: float = 0.0
    chi: float = np.nan
    blended: bool = False
    line_snr: float = 0.0
    lines: np.ndarray | None = None  # the cutout without continuum, 0 where there is no data
    own: np.ndarray | None = None  # spectrum at the peak, continuum and all
    own_variance: float = np.nan  # of a pixels' sum of unit noise that it is
    continuum_mask: np.ndarray | None = None

    @property
    def continuum_snr(self) -> float:
        """Of the continuum, 0 where there is none to be seen."""
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
        Whether it is worth a mask; else it is measured as a point or Gaussian.
    """
    seed, group = seeds[me], [me, *near(seeds, me, scale.fwhm)]
    if merge or not seed.compact:
        group = [me]
    parts = separated(cutout, seeds, me, scale.fwhm, merge) if thorough else unmasked(cutout, seed)
    made = Measured(parts)
    made.blended = any(np.hypot(seeds[j].x - seed.x, seeds[j].y - seed.y) < BLENDED * scale.fwhm for j in group[1:])
    found = None
    if seed.lines:
        made.lines = lines = np.where(cutout.known, cutout.values - parts.continuum, np.float32(0))
        sharing = [me, *(j for j in group[1:] if in_one_line(seed, seeds[j]))]
        found, shapes = fit_the_line(cutout, seeds, sharing, lines, parts, scale, made)
        by_mask(cutout, lines, parts, scale, made, shapes)
    fit_the_continuum(cutout, seeds, group, parts, scale, made, found)
    return made


def fit_the_continuum(
    cutout: Cutout,
    seeds: Sequence[Seed],
    group: Sequence[int],
    parts: Separated,
    scale: Scale,
    made: Measured,
    line: Component | None,
) -> None:
    """Flux density of a source's continuum, and its spectral index, as a point or Gaussian.

    Where it is bright it has a shape of its own, else that of the line.
    """
    if made.method == "mask":
        continuum_of_footprint(cutout, parts, scale, made)
        return
    if not parts.told:
        return
    noise, pixels = cutout.noise, cutout.known.any(axis=0)
    shapes = [first_shape(seeds[j], cutout, scale.beam) for j in group]
    if line is not None and line.shape is not None:
        shapes[0] = line.shape
    rest = rest_weights(parts, shapes[0])
    level = level_at(cutout, shapes[0])
    sigma = float(np.sqrt(noise.spectral_variance(rest)) * level)
    if not sigma > 0:
        return
    row = rows_of(shapes, pixels)[0]
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
        resolved = line is not None and line.share > 0.5
        first = shapes[0] if resolved else Shape(shapes[0].x, shapes[0].y, scale.beam)
        extra = line.extra if line is not None and resolved else 0.0
        ratio = first.area / (2 * np.pi * float(np.sqrt(np.linalg.det(scale.beam))))
        choices = [(1.0, rows_of([first, *shapes[1:]], pixels)[0], ratio, extra)]
    density = scale.flux * scale.areas
    raw = cutout.values
    flux = error = 0.0
    for share, row, ratio, extra in choices:
        spectrum = spectrum_at(row, raw) * density * ratio
        value = float(rest @ spectrum)
        by_noise = np.sqrt(noise.spatial_variance(row) * noise.spectral_variance(rest * density * ratio)) * level
        flux, error = flux + share * value, error + share * float(np.hypot(by_noise, extra * value))
    made.continuum, made.err_continuum = flux, error
    share, row, ratio, _ = max(choices, key=lambda choice: choice[0])
    made.own, made.own_variance = spectrum_at(row, raw), noise.spatial_variance(row) * level**2
    made.continuum_peak = float(rest @ made.own)
    made.err_continuum_peak = float(sigma * np.sqrt(noise.spatial_variance(row)))
    spatial = noise.spatial_variance(row) * level**2
    spectral_index(made, spectrum_at(row, raw) * density * ratio, rest, spatial, density * ratio, cutout, scale)
    if found is not None and found is not line and (line is None or made.continuum_snr > made.line_snr):
        best = found.best
        made.shape, made.ratio, made.method = found.shape, found.ratio, found.method
        made.place = (best.own.x, best.own.y, *np.sqrt(np.diag(best.covariance)[1:3]))
        made.size = found.size
        made.resolved = found.resolved


def line_in(made: Measured, cutout: Cutout, scale: Scale, least: float) -> tuple[float, float] | None:
    """Centre and FWHM of a line that a source's own spectrum shows at ``least`` sigma or more.

    A continuum is only as flat as its calibration: each channel's noise has a share of it added.  Lines up to
    half the band wide are looked for.
    """
    if made.own is None:
        return None
    filled = np.flatnonzero(np.isfinite(cutout.rms))
    if len(filled) < 8:
        return None
    sigma = np.sqrt(made.own_variance) * cutout.noise.sigma[filled]
    uneven = 1 + (FLATNESS * np.median(made.own[filled]) / np.median(sigma)) ** 2
    covariance = covariance_of(cutout.noise, filled, np.zeros(len(cutout.rms)), made.own_variance * uneven)
    white = whitening(covariance)
    channel = filled.astype(float)
    flat = np.linalg.qr(white @ np.stack([np.ones(len(filled)), channel - channel.mean()], axis=1))[0]
    rest = white @ made.own[filled]
    rest = rest - flat @ (flat.T @ rest)
    best = (least, None)
    width = 1.0
    while width <= len(filled) / 2:
        centre = np.arange(channel[0], channel[-1] + 1, max(width / 3, 1.0))
        bank = white @ profiles(channel, centre, np.full(len(centre), width))[0].T
        bank -= flat @ (flat.T @ bank)
        norm = np.sqrt((bank**2).sum(axis=0))
        snr = (rest @ bank) / np.where(norm > 1e-3 * norm.max(), norm, np.inf)
        i = int(np.argmax(snr))
        if snr[i] > best[0]:
            best = (float(snr[i]), (float(centre[i]), width))
        width *= 1.5
    return best[1]


def continuum_of_footprint(cutout: Cutout, parts: Separated, scale: Scale, made: Measured) -> None:
    """Flux density of an extended source's continuum: summed over its mask's pixels, in channels without its line."""
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


def fit_the_line(
    cutout: Cutout,
    seeds: Sequence[Seed],
    group: Sequence[int],
    lines: np.ndarray,
    parts: Separated,
    scale: Scale,
    made: Measured,
) -> tuple[Component | None, list[Shape]]:
    """Line and image of a source in turn: what is known of the one weights the other."""
    noise, n_channels = cutout.noise, len(cutout.planes)
    beam, seed = scale.beam, seeds[group[0]]
    shapes = [first_shape(seeds[j], cutout, beam) for j in group]
    spectra = [seed_line(seeds[j], n_channels) for j in group]
    pixels = cutout.known.any(axis=0)
    inverse = 1 / cutout.rms.astype(float) ** 2
    inside = np.flatnonzero(parts.mask.any(axis=(1, 2)))
    first, last = seed.channels
    if len(inside):
        first, last = min(first, inside[0]), max(last, inside[-1] + 1)
    foreign = [line for j in near(seeds, group[0], scale.fwhm, 0.0) if j not in group for line in seeds[j].lines]
    used = window_about(first, last, [*seed.lines[1:], *foreign], n_channels)
    used = used[np.isfinite(cutout.rms[used])]
    found: Component | None = None
    centre, fwhm = seed.lines[0]
    rest = rest_weights(parts, shapes[0])
    for turn in range(PASSES + 1):
        if turn:
            images = np.stack([weighted_image(s, lines, inverse) for s in spectra])
            weight = spectra[0] * inverse
            level = level_at(cutout, shapes[0])
            plain = weight / (weight @ spectra[0])
            sigma = np.sqrt(noise.spectral_variance(plain - plain.sum() * rest)) * level
            reach = max(APERTURE * scale.fwhm, 1.2 * 2.3548 * np.sqrt(np.linalg.eigvalsh(shapes[0].matrix)[-1]))
            known = aperture(cutout, [(s.x, s.y) for s in shapes[:1]], reach, pixels)
            for s in shapes[1:]:
                if np.hypot(s.x - shapes[0].x, s.y - shapes[0].y) < 2 * scale.fwhm:
                    known |= aperture(cutout, [(s.x, s.y)], 0.8 * scale.fwhm, pixels)
            new = component(images, known, shapes, beam, sigma, cutout)
            if new.best is None:
                break
            found = new
            shapes = list(found.best.shapes)
        rows = rows_of(shapes, pixels)
        spectrum = spectrum_at(rows[0], lines)
        variance = noise.spatial_variance(rows[0]) * level_at(cutout, shapes[0]) ** 2
        covariance = covariance_of(noise, used, rest, variance)
        fits = fit_line(spectrum, used, covariance, centre, fwhm)
        if fits is not None:
            made.single, made.line = fits
            centre, fwhm = fits[0].parameters[0, 1:]
            spectra[0] = made.line.at(np.arange(n_channels))
            spectra[0][spectra[0] < 0.01 * spectra[0].max()] = 0
        for j in range(1, len(group)):
            own = seeds[group[j]]
            s = spectrum_at(rows[j], lines)
            if own.lines:
                amp = seed_line(own, n_channels)
                c = np.flatnonzero(amp > 0.01)
                u = window_about(c[0], c[-1] + 1, (), n_channels)
                u = u[np.isfinite(cutout.rms[u])]
                v = noise.spatial_variance(rows[j])
                f = fit_line(s, u, covariance_of(noise, u, rest, v), *own.lines[0], most=1)
                if f is not None:
                    spectra[j] = f[1].at(np.arange(n_channels))
                    spectra[j][spectra[j] < 0.01 * spectra[j].max()] = 0
    finish_fit(cutout, lines, parts, scale, made, found, shapes, spectra[0], rest, seed)
    return found, shapes


def finish_fit(cutout, lines, parts, scale, made, found, shapes, spectrum, rest, seed) -> None:
    noise, n_channels = cutout.noise, len(cutout.planes)
    pixels = cutout.known.any(axis=0)
    inside = np.flatnonzero(parts.mask.any(axis=(1, 2)))
    if made.line is not None:
        low, high = made.line.range
    else:
        low, high = seed.channels
        if len(inside):
            low, high = min(low, inside[0]), max(high, inside[-1] + 1)
        pad = PADDING * (high - low)
        low, high = low - pad, high + pad
    first, last = max(0, int(np.floor(low))), min(n_channels, int(np.ceil(high)) + 1)
    made.channels = (first, last)
    share = np.clip(made.line.share(first, last), 0.5, 1.1) if made.line is not None else 1.0
    level = level_at(cutout, shapes[0])
    inrange = np.zeros(n_channels)
    inrange[first:last] = 1
    inrange[~np.isfinite(cutout.rms)] = 0
    weights = inrange * scale.flux * scale.areas * scale.width / share

    def summed(row: np.ndarray, ratio: float) -> tuple[float, float, np.ndarray]:
        own = spectrum_at(row, lines)
        by = weights * ratio
        error = np.sqrt(noise.spatial_variance(row) * noise.spectral_variance(by - by.sum() * rest)) * level
        return float(by @ own), float(error), own

    if found is None:
        made.method = "point"
        row = rows_of([Shape(shapes[0].x, shapes[0].y, scale.beam), *shapes[1:]], pixels)[0]
        made.flux, made.err_flux, made.spectrum = summed(row, 1.0)
        made.shape = shapes[0]
        return
    w = found.share
    values = []
    if found.point is not None:
        values.append((1 - w, *summed(found.rows[0], 1.0)))
    if found.fit is not None and w > 0.01:
        f, e, s = summed(found.rows[1], found.ratio)
        values.append((w, f, float(np.hypot(e, found.extra * f)), s))
    total = sum(v[0] for v in values)
    made.flux = sum(v[0] * v[1] for v in values) / total
    made.err_flux = sum(v[0] * v[2] for v in values) / total
    if len(values) == 2:
        made.err_flux = float(np.hypot(made.err_flux, w * (1 - w) * (values[0][1] - values[1][1])))
    made.method = found.method
    made.spectrum = values[-1 if w > 0.5 else 0][3]
    made.shape = found.shape
    best = found.best
    made.place = (best.own.x, best.own.y, *np.sqrt(np.diag(best.covariance)[1:3]))
    made.peak, made.err_peak = best.amplitude * spectrum.max(), np.sqrt(best.covariance[0, 0]) * spectrum.max()
    made.line_snr = best.amplitude / np.sqrt(best.covariance[0, 0])
    made.size, made.ratio, made.resolved = found.size, found.ratio, found.resolved
    if made.line is not None:
        one = made.line
        made.z = one.centroid()
        made.err_z = one.error(one.centroid)
        for name, function in (
            ("w50", lambda p=None: one.width(0.5, p)),
            ("w20", lambda p=None: one.width(0.2, p)),
            ("wm50", one.mean_width),
        ):
            made.widths[name] = (function(), one.error(function))


def by_mask(cutout, lines, parts, scale, made, shapes) -> None:
    """Take the mask's sum where Gaussians do not explain what is in the mask."""
    if not parts.mask.any() or made.spectrum is None:
        return
    footprint = parts.mask.any(axis=0).sum() / (BEAM_AREA * scale.fwhm**2)
    width = made.line.width(0.5) if made.line is not None else made.channels[1] - made.channels[0]
    if footprint < FOOTPRINT:
        return
    made.chi, left = chi_in_mask(lines, [made.shape or shapes[0], *shapes[1:]], parts, cutout, scale.fwhm, width)
    if made.chi < UNLIKE or left < UNEXPLAINED:
        return
    noise, n_channels = cutout.noise, len(cutout.planes)
    mask = parts.mask
    per = (scale.flux * scale.width).astype(np.float32)
    weights = mask * per[:, None, None]
    count = np.maximum(parts.rest.sum(axis=0), 1)
    if parts.told:
        weights = weights - parts.rest * (weights.sum(axis=0) / count)
    made.flux = float((weights.astype(float) * cutout.values).sum())
    made.err_flux = float(np.sqrt(noise.variance(weights, cutout.level)))
    made.method = "mask"
    spectrum = np.where(mask, lines, 0).sum(axis=(1, 2), dtype=float) * scale.flux
    sigma = np.zeros(n_channels)
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    seen = noise.correlated((mask[used] * cutout.level).astype(float))
    sigma[used] = (
        np.sqrt(np.maximum((seen * mask[used] * cutout.level).sum(axis=(1, 2)), 0))
        * noise.sigma[used]
        * scale.flux[used]
    )
    made.channels = (int(used[0]), int(used[-1]) + 1)
    made.spectrum = spectrum
    z = np.arange(n_channels)
    total = spectrum.sum()
    made.z = float((spectrum * z).sum() / total)
    draws = spectrum + correlated_draws(sigma, noise.spectral, DRAWS)
    made.err_z = float(np.sqrt(np.mean(((draws * (z - made.z)).sum(axis=1) / total) ** 2)))
    for name, level in (("w50", 0.5), ("w20", 0.2)):
        many = np.array([crossing_width(d, level) for d in draws])
        made.widths[name] = (crossing_width(spectrum, level), float(np.nanstd(many)))


def rest_weights(parts: Separated, shape: Shape) -> np.ndarray:
    """Weights (channels,) of the mean that is taken off as continuum where a source is; 0 if none is."""
    if not parts.told:
        return np.zeros(len(parts.rest))
    yy, xx = np.indices(parts.rest.shape[1:])
    weight = shape.image(xx, yy)
    weight = np.where(weight > 0.3, weight, 0)
    shares = np.tensordot(parts.rest, weight, 2) / max(weight.sum(), 1e-30)
    return shares / max(shares.sum(), 1e-30)


def covariance_of(noise, used: np.ndarray, rest: np.ndarray, variance: float) -> np.ndarray:
    """Covariance of some channels of a spectrum less the continuum, whose pixels' sum has a variance."""
    # a mean over the very channels that are fitted is correlated with them; that would make the matrix singular
    return (noise.channel_covariance(len(rest))[np.ix_(used, used)] + noise.spectral_variance(rest)) * variance


def level_at(cutout: Cutout, shape: Shape) -> float:
    """The noise's level at a source's place."""
    ny, nx = cutout.level.shape
    return float(cutout.level[int(np.clip(round(shape.y), 0, ny - 1)), int(np.clip(round(shape.x), 0, nx - 1))])
