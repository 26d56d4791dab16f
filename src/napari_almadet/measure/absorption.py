"""Absorption: lines that take a part of a source's continuum, looked for in the spectrum at its place.

The spectrum is the one that the continuum was measured in: sidelobes and neighbours are out of it.  How dips are found
in it is in :mod:`.dips`; here it is made sure that they are the source's own, and they are written into the candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_almadet.measure.dips import FEW, FLATNESS, PRESENT, SKIRT, WIDEST, Dip, Spectrum, dips_in, outliers, profile
from napari_almadet.measure.flux_estimators import spectrum_at
from napari_almadet.measure.gaussian_group import Shape

if TYPE_CHECKING:
    from napari_almadet.catalogue.candidate import Candidate
    from napari_almadet.measure.cutout import Cutout
    from napari_almadet.measure.measurement import Measured, Scale

# Values without an origin were chosen by eye; `benchmarks/absorption.py` measures what they achieve.
REACHED = 6.0  # S/N of a line that takes all of the continuum, from which looking for one is worth while (auto)
SIDELOBE = 0.15  # of what else the cutout shows in these channels: a dip that is less may be its sidelobe or bowl
NARROW = 0.5  # beams, derived: in noise as wide as the beam the variance is then 1.04 of a pixel's, of the beam 1.33
RING = (1.0, 1.6)  # beams about the place, where a bowl is as deep as in its middle and a source's own dip is not
ROUNDER = 0.35  # by which the dip in the ring, over that in the middle, may exceed what the continuum has there
END = 0.05  # of the band, at each of its ends, where emission is compared
END_SNR = 5.0  # of the emission at each end
ALIKE = 0.1  # by which the two may differ: continuum of spectral index 3 does so over a band 3 % wide
TOO_DEEP = 3.0  # sigma by which a dip may be deeper than the continuum is bright


def find_absorption(
    candidate: Candidate, cutout: Cutout, made: Measured, scale: Scale, mode: str = "auto"
) -> Dip | None:
    """Look for absorption against a candidate's continuum, and write what is found into the candidate.

    The continuum's flux density is corrected for what the dip took of it.

    Parameters
    ----------
    candidate
        As measured.
    cutout, made, scale
        Of that measurement.
    mode
        ``"auto"``: where a line that takes all of the continuum would be seen; ``"on"``: wherever there is continuum;
        ``"off"``: nowhere.
    """
    for name in NUMBERS:
        setattr(candidate, name, np.nan)
    has_continuum, has_line = made.continuum_snr >= PRESENT, candidate.kind != "continuum"
    if mode == "off":
        return None
    own, variance, place = spectrum_of(candidate, cutout, made, scale)
    if has_line:
        doubt_lines_at_both_ends(candidate, cutout, own, variance)
    if not has_continuum:
        return None
    known = np.isfinite(cutout.rms)
    used = known & ~emission_of(candidate, made, len(own))
    level = float(np.median(own[used])) if used.any() else 0.0
    sigma = np.sqrt(variance) * cutout.noise.sigma
    if used.sum() < FEW or not level > 0 or not (sigma[known] > 0).all():
        return None
    used |= known & below_continuum(own, level, sigma, known, cutout.noise.spectral)
    if used.sum() < 2 * FEW:
        return None
    if mode == "auto" and level * np.sqrt(WIDEST * used.sum()) < REACHED * np.median(sigma[used]):
        return None
    sigma = np.where(used, np.hypot(sigma, FLATNESS * level), 1.0)
    spectrum = Spectrum(np.where(used, own / sigma, 0.0), used, sigma, cutout.noise.spectral)
    free, dips = dips_in(spectrum)
    dips = [dip for dip in dips if is_local(dip, free, own, cutout, scale, place)]
    if not dips:
        return None
    best = max(dips, key=lambda dip: dip.snr)
    write(candidate, best, len(dips), scale.width)
    correct_continuum(candidate, made, own, free, used)
    return best


def doubt_lines_at_both_ends(candidate: Candidate, cutout: Cutout, own: np.ndarray, variance: float) -> None:
    """Record a doubt where emission at both ends of the band may be continuum, beside a line that takes most of it.

    In such a band the continuum is the exception, and nothing but this coincidence distinguishes it from two lines.
    ``own`` and ``variance`` are the first two of :func:`spectrum_of`.
    """
    known = np.flatnonzero(np.isfinite(cutout.rms))
    n_end = max(FEW, int(END * len(known)))
    if len(known) < 4 * n_end:
        return
    levels, errors = [], []
    for part in (known[:n_end], known[-n_end:]):
        weights = np.zeros(len(own))
        weights[part] = 1 / n_end
        levels.append(float(weights @ own))
        errors.append(float(np.sqrt(variance * cutout.noise.spectral_variance(weights))))
    middle, (first, last) = float(np.median(own[known])), levels
    alike = abs(first - last) < TOO_DEEP * float(np.linalg.norm(errors)) + ALIKE * (first + last) / 2
    if alike and min(levels) > END_SNR * max(errors) and middle < min(levels) / 2:
        candidate.decide("both_ends", first=first, last=last, middle=middle)


NUMBERS = (
    *("abs_snr", "abs_z", "err_abs_z", "abs_depth", "err_abs_depth", "abs_w50", "err_abs_w50", "abs_tau"),
    *("err_abs_tau", "abs_tau_limit", "abs_tau_int", "err_abs_tau_int", "abs_n"),
)


def write(candidate: Candidate, dip: Dip, count: int, width: float) -> None:
    """Write a dip into a candidate, widths in the unit of a channel's ``width``."""
    candidate.abs_snr, candidate.abs_n = dip.snr, float(count)
    candidate.abs_z, candidate.err_abs_z = dip.z, dip.err_z
    candidate.abs_depth, candidate.err_abs_depth = dip.depth, dip.err_depth
    candidate.abs_w50, candidate.err_abs_w50 = dip.width * width, dip.err_width * width
    candidate.abs_tau, candidate.err_abs_tau, candidate.abs_tau_limit = dip.tau, dip.err_tau, dip.tau_limit
    candidate.abs_tau_int, candidate.err_abs_tau_int = dip.tau_int * width, dip.err_tau_int * width


def spectrum_of(
    candidate: Candidate, cutout: Cutout, made: Measured, scale: Scale
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Spectrum (channels,) at a source's place, variance of its sum in unit noise, and the place (x, y).

    That of an extended source is taken where its continuum is brightest.  Pixels are weighted with a Gaussian of
    :data:`NARROW` beams: a fit of the whole beam has a third more variance, since the noise is as wide as the beam.
    """
    (x, y), (y0, x0) = candidate.position, cutout.origin
    place = float(x) - x0, float(y) - y0
    footprint = made.parts.mask.any(axis=0)
    if made.method == "mask" and footprint.any():
        image = made.parts.continuum if made.parts.has_continuum else np.median(cutout.values, axis=0)
        place = brightest(np.where(footprint, image, -np.inf))
    yy, xx = np.indices(cutout.pixels.shape)
    beam = Shape(*place, scale.beam).image(xx, yy)
    row = Shape(*place, scale.beam * NARROW**2).image(xx, yy) * cutout.pixels
    row = np.where(row > SKIRT**2, row, 0)
    row = (row / max(float((row * beam).sum()), 1e-9)).astype(np.float32)
    ny, nx = cutout.level.shape
    level = float(cutout.level[int(np.clip(round(place[1]), 0, ny - 1)), int(np.clip(round(place[0]), 0, nx - 1))])
    spectrum = spectrum_at(row, cutout.values) if row.any() else np.zeros(len(cutout.values))
    return spectrum, cutout.noise.spatial_variance(row) * level**2, place


def brightest(image: np.ndarray) -> tuple[float, float]:
    """(x, y) of the brightest pixel."""
    y, x = np.unravel_index(int(np.argmax(image)), image.shape)
    return float(x), float(y)


def emission_of(candidate: Candidate, made: Measured, n_channels: int) -> np.ndarray:
    """Channels (n,) of the candidate's lines in emission."""
    channel, found = np.arange(n_channels), np.zeros(n_channels, bool)
    if made.lines is None or candidate.kind == "continuum" or not made.flux > 0:
        return found
    ranges = [candidate.channels, *((p.centre - 1.1 * p.fwhm, p.centre + 1.1 * p.fwhm) for p in candidate.peaks)]
    for low, high in ranges:
        found |= (channel >= low - 1) & (channel < high + 1)
    return found | np.asarray(made.parts.mask.any(axis=(1, 2)))


def below_continuum(
    own: np.ndarray, level: float, sigma: np.ndarray, known: np.ndarray, spectral: np.ndarray
) -> np.ndarray:
    """Mask (n,) of the channels below the continuum ``level``: a dip may lie within a wider emission line."""
    rest = np.where(known, (own - level) / np.where(known, sigma, 1.0), 0.0)
    return outliers(Spectrum(rest, known, sigma, spectral), rest)[0]


# --- is it the source's own? ---------------------------------------------------------------------------------------


def is_local(
    dip: Dip, free: np.ndarray, own: np.ndarray, cutout: Cutout, scale: Scale, place: tuple[float, float]
) -> bool:
    """Whether a dip lies on the source and has its shape, and is no bowl or sidelobe of what is beside it."""
    n = len(own)
    shape = profile(n, dip.z, dip.width) * (np.isfinite(cutout.rms))
    weights, rest = shape / max((shape**2).sum(), 1e-9), free / max(free.sum(), 1)
    steady = np.tensordot(rest.astype(np.float32), cutout.values, 1)
    taken = np.tensordot(weights.astype(np.float32), cutout.values, 1) - steady * weights.sum()
    yy, xx = np.indices(steady.shape)
    apart = np.hypot(xx - place[0], yy - place[1]) / scale.fwhm
    middle, ring, beyond = apart < 0.5, (apart >= RING[0]) & (apart < RING[1]), apart > RING[1]
    if not middle.any() or not ring.any():
        return False
    here, light = float(taken[middle].mean()), float(steady[middle].mean())
    if not here < 0 or not light > 0:
        return False
    noise = float(np.sqrt(cutout.noise.spectral_variance(weights)))
    elsewhere = float(np.abs(taken[beyond]).max(initial=0)) - 4 * noise * float(np.median(cutout.level))
    if -here < SIDELOBE * elsewhere or -here > light + TOO_DEEP * noise:
        return False
    about = float(np.median(taken[ring])) / here
    return about < max(float(np.median(steady[ring])) / light, 0.0) + ROUNDER + 2 * noise / -here


def correct_continuum(
    candidate: Candidate, made: Measured, own: np.ndarray, free: np.ndarray, used: np.ndarray
) -> None:
    """Correct the continuum's flux density, which was measured with a part of the dip in it."""
    before, after = float(own[used].mean()), float(own[free].mean())
    if made.method != "mask" and made.own is not None and np.isfinite(made.continuum_peak):
        before, after = made.continuum_peak, float(made.own[free].mean())
    if not before > 0 or not np.isfinite(candidate.f_cont):
        return
    ratio = after / before
    candidate.f_cont *= ratio
    candidate.err_f_cont *= ratio * float(np.sqrt(max(used.sum() / free.sum(), 1.0)))
    if candidate.kind == "continuum":
        candidate.peak *= ratio
