"""Text and values that describe a candidate, for the table and the inspector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections, channel_width
from napari_almadet.inspection.axes import SpectralAxis, spectral_axes

if TYPE_CHECKING:
    from astropy.coordinates import SkyCoord

    from napari_almadet.cube.cube import Cube

NOTHING = 3.0  # S/N of the brightest pixel under which a box without a line holds noise
MEANINGS = (
    "Peak S/N: the brightest pixel in the box over the noise of the line-integrated image (paper, eq. 4).\n"
    "Global S/N: the median in the circle inscribed in the box over the noise in the annulus around it (paper, "
    "eq. 3).\n"
    "Flux S/N: the flux over its error, for sources that are summed over their masks.\n"
    "S/N of sum (of a measured range): the sum above the continuum over the noise of a sum of that many channels."
)
DASH = "–"  # stands for a number that is not known


def number(value: float, form: str) -> str:
    """A number by a format specification, or a dash if it is not finite."""
    return format(value, form) if np.isfinite(value) else DASH


def readable(values: u.Quantity, scale: u.UnitBase | None = None) -> u.Quantity:
    """Values of a flux density in ``scale``, else in Jy, mJy or μJy so that the highest is 1 or more; others kept."""
    factors = zip(values.unit.bases, values.unit.powers, strict=True)
    flux = next((base for base, power in factors if power == 1 and base.is_equivalent(u.Jy)), None)
    if flux is None:
        return values
    if scale is not None:
        return values.to(values.unit / flux * scale)
    sizes = np.abs(np.asarray(values.value))
    peak = sizes[np.isfinite(sizes)].max(initial=0.0) * flux.to(u.Jy)
    best = next((unit for unit in (u.Jy, u.mJy) if peak * u.Jy.to(unit) >= 1), u.uJy)
    return values.to(values.unit / flux * best)


# Units in the order in which they are said: what is measured, then what it was summed over.
_UNIT_ORDER = ("Jy", "mJy", "uJy", "K", "beam", "pix", "km", "s")


def unit_text(unit: u.UnitBase) -> str:
    """A unit as astronomers write it, e.g. mJy/beam km/s; empty for a plain number."""
    order = {name: place for place, name in enumerate(_UNIT_ORDER)}
    factors = sorted(zip(unit.bases, unit.powers, strict=True), key=lambda f: order.get(f[0].to_string(), len(order)))
    text = ""
    for base, power in factors:
        power = float(power)
        exponent = "" if abs(power) == 1 else f"{abs(power):g}"
        text += f"{'/' if power < 0 else ' '}{base.to_string().replace('uJy', 'μJy')}{exponent}"
    return text.strip()


FLUX_METHODS = {  # `METHODS` in words
    "point": "as a point source",
    "fit": "Gaussian fit",
    "mask": "sum over the mask",
    "box": "sum over the box",
}


def sky_text(sky: SkyCoord) -> tuple[str, str]:
    """Right ascension and declination (ICRS), sexagesimal as astronomers write them."""
    ra, dec = sky.icrs.ra, sky.icrs.dec
    return (
        ra.to_string(unit="hourangle", sep=":", precision=2, pad=True),
        dec.to_string(unit="deg", sep=":", precision=1, pad=True, alwayssign=True),
    )


def sexagesimal(value: float, decimals: int, sign: bool = False) -> str:
    """Hours or degrees with minutes and seconds, e.g. ``03:59:59.98``; a hundred times as fast as astropy's.

    For tables, in which a screenful is written at each scroll.
    """
    if not np.isfinite(value):
        return DASH
    seconds, fraction = divmod(round(abs(value) * 3600 * 10**decimals), 10**decimals)
    minutes, seconds = divmod(seconds, 60)
    whole, minutes = divmod(minutes, 60)
    before = ("-" if value < 0 else "+") if sign else ""
    return f"{before}{whole:02d}:{minutes:02d}:{seconds:02d}.{fraction:0{decimals}d}"


def line_channel(candidate: Candidate) -> float:
    """Channel of a candidate's line: the primary peak's centre; NaN where it has none."""
    return candidate.primary.centre if candidate.primary else np.nan


def mid_channel(candidate: Candidate) -> float:
    """The middle of a candidate's emission range, whose channel's width stands for all of them."""
    return (candidate.channels[0] + candidate.channels[1] - 1) / 2


def facts(
    detections: Detections,
    candidate: Candidate,
    velocity: SpectralAxis | None = None,
    frequency: SpectralAxis | None = None,
) -> list[tuple[str, str]]:
    """(name, value) of all that was measured, in reading order; what is not known is left out.

    ``velocity`` is the axis in km/s to be used, at first the radio convention's, from the header's rest frequency, and
    ``frequency`` that in GHz, at first the header's.
    """
    cube = detections.cube
    if velocity is None:
        velocity = next((axis for axis in spectral_axes(cube) if axis.unit == u.km / u.s), None)
    x, y = candidate.position
    sky = cube.sky(x, y)
    rows = [] if sky is None else [("Position", "  ".join(sky_text(sky)))]
    channel = line_channel(candidate)
    if np.isfinite(channel) and np.isfinite(candidate.z):
        channel = candidate.z  # what table and catalogue give, in a box of the user's another than the fit's
    rows.append(("Pixel", f"x {x:.1f}, y {y:.1f}" + (f", channel {channel:.1f}" if np.isfinite(channel) else "")))
    if np.isfinite(channel):
        rows += _line_facts(cube, candidate, channel, velocity, frequency)
    if np.isfinite(candidate.f_sum):
        how = f",\n{FLUX_METHODS[candidate.method]}" if candidate.method in FLUX_METHODS else ""
        rows.append(
            (
                "Flux",
                f"{with_error(candidate.f_sum, candidate.err_f_sum)} {unit_text(detections.flux_unit)}".rstrip() + how,
            )
        )
    if np.isfinite(candidate.abs_snr):
        rows.append(("Absorption", absorption_text(candidate)))
    rows.append(("Peak S/N", number(candidate.snr_pixel, ".1f")))
    if candidate.method == "mask":  # a median in the box says nothing of a disc that fills a part of it
        rows.append(("Flux S/N", number(candidate.f_sum / candidate.err_f_sum, ".1f")))
    else:
        rows.append(("Global S/N", number(candidate.snr_global, ".1f")))
    trust = f", reliability {candidate.rel:.2f}" if np.isfinite(candidate.rel) else ""
    rows.append(("Probability", number(candidate.prob, ".2f") + trust))
    whose = "" if candidate.origin == "found" else f"{candidate.origin} by you"
    words = (("blended", candidate.blended), ("at the edge", candidate.edge), (whose, bool(whose)))
    marks = [word for word, on in words if on]
    kind = candidate.kind
    if kind == "continuum" and candidate.snr_pixel < NOTHING:
        kind = f"no line, and under {NOTHING:g} times the noise: not detected"
    rows.append(("Kind", ", ".join([kind, *marks])))
    return rows


def with_error(value: float, error: float) -> str:
    """A value with its error, both to the second digit of the error: ``33.3 ± 1.4``."""
    if not np.isfinite(error):
        return f"{value:.3g}"
    if error <= 0 or not 1e-3 <= max(abs(value), error) < 1e6:  # no long rows of zeros
        return f"{value:.3g} ± {error:.2g}"
    decimals = max(1 - int(np.floor(np.log10(float(f"{error:.2g}")))), 0)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def absorption_text(candidate: Candidate) -> str:
    """A candidate's strongest line in absorption in words, e.g. ``S/N 12.3 at channel 20.1, depth 0.700 ± 0.030``."""
    text = f"S/N {candidate.abs_snr:.1f} at channel {candidate.abs_z:.1f}, "
    text += f"depth {with_error(candidate.abs_depth, candidate.err_abs_depth)}, optical depth "
    if np.isfinite(candidate.abs_tau):
        text += with_error(candidate.abs_tau, candidate.err_abs_tau)
    else:
        text += f"> {candidate.abs_tau_limit:.2g} (saturated)"
    return text + (f"; {candidate.abs_n:.0f} lines" if candidate.abs_n > 1 else "")


def _line_facts(
    cube: Cube,
    candidate: Candidate,
    channel: float,
    velocity: SpectralAxis | None,
    axis: SpectralAxis | None,
) -> list[tuple[str, str]]:
    name, wide = "FWHM", np.nan if candidate.primary is None else candidate.primary.fwhm
    if np.isfinite(candidate.w50):  # of the whole line, as in the catalogue: a peak may be one horn of a galaxy
        name, wide = "w50", candidate.w50 / channel_width(cube, channel).value
    width, rows = f"{wide:.1f} channels", []
    if axis is not None:
        frame = f", {axis.frame}" if axis.frame and axis.frame != cube.spectral_frame else ""
        rows.append(("Frequency", f"{float(axis.world(channel)):.5f} GHz{frame}"))
    elif (frequency := cube.frequency(channel)) is not None:
        rows.append(("Frequency", f"{frequency.to_value('GHz'):.5f} GHz"))
    if velocity is not None:
        rows.append(("Velocity", velocity_text(velocity, channel)))
        low, high = velocity.world(np.array([channel - wide / 2, channel + wide / 2]))
        width = f"{abs(high - low):.1f} km/s, {width}"
    return [*rows, (name, width)]


def velocity_text(velocity: SpectralAxis, channel: float) -> str:
    """A velocity with its convention and standard of rest, e.g. ``685.9 km/s radio, LSRK``."""
    convention, frame = velocity.name.split()[0].lower(), velocity.frame
    return f"{float(velocity.world(channel)):.1f} km/s {convention}{f', {frame}' if frame else ''}"
