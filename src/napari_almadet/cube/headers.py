"""What FITS headers mean that do not say it the standard way: the tables and functions that mend them.

A new quirk of a header is mended here: each function changes a copy of the header and adds one sentence to ``notes``.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.io import fits

from napari_almadet.cube.coordinate_cards import with_plain_matrix
from napari_almadet.cube.storage import CubeError


def polarisation_axis(header: fits.Header) -> int | None:
    for i in range(header["NAXIS"]):
        if str(header.get(f"CTYPE{i + 1}", "")).strip().upper() in ("STOKES", "POL"):
            return i
    return None


_SPECTRAL_NAMES = {"FREQUENC": "FREQ", "VELOCITY": "VELO", "VEL": "VELO", "WAVELENG": "WAVE", "LAMBDA": "WAVE"}
_SPECTRAL_CODE = re.compile(r"(FREQ|VELO|FELO|VRAD|VOPT|ZOPT|BETA|WAVE|AWAV)-(\w+)")
_KNOWN_SUFFIX = re.compile(r"LSR|HEL|OBS|[FWAV]2[FWAV]|LOG|TAB|GRI|GRA")
_NUMBER = re.compile(
    r"(CRPIX|CRVAL|CDELT|CROTA)\d+|(PC|CD|PV)\d+_\d+|LONPOLE|LATPOLE|EQUINOX|EPOCH|RESTFRQ|RESTFREQ|RESTWAV|VELREF"
    r"|BMAJ|BMIN|BPA|ALTRVAL|ALTRPIX"
)
_NEEDED = re.compile(r"CRPIX|CRVAL|CDELT|PC|CD")
_SPECTRAL_FRAMES = (  # FITS paper III, table 12
    "TOPOCENT", "GEOCENTR", "BARYCENT", "HELIOCEN", "LSRK", "LSRD", "GALACTOC", "LOCALGRP", "CMBDIPOL", "SOURCE",
)  # fmt: skip
_CASA_FRAMES = {
    "BARY": "BARYCENT", "HELIO": "HELIOCEN", "TOPO": "TOPOCENT", "GEO": "GEOCENTR", "GALACTO": "GALACTOC",
    "LGROUP": "LOCALGRP", "CMB": "CMBDIPOL", "REST": "SOURCE",
}  # fmt: skip
_VELREF = {1: "LSRK", 2: "BARYCENT", 3: "TOPOCENT", 4: "LSRD", 5: "GEOCENTR", 6: "SOURCE", 7: "GALACTOC"}  # casacore's
_FRAMES = {"J2000": "FK5", "B1950": "FK4"}
_BEAM = re.compile(r"(?<![A-Za-z])(b|bm)(?![A-Za-z])", re.IGNORECASE)  # which as a unit would be a bit, or nothing
_LOGARITHM = re.compile(  # [x] is log10(x), FITS standard 4.3
    r"^\[|(?<![a-z])((log|ln|lg)_?\d*|dex|dB(m|W|mW|Jy|K)?|(AB|ST)?mag|magnitudes?)(?![a-z])", re.IGNORECASE
)
_MULTIPLES = (("GHz", 1e9), ("MHz", 1e6))  # Hz, units of rest frequencies that are mistaken for Hz
SAME_REST = 1e-7  # relative difference (0.03 km/s) below which two rest frequencies are the same one, rounded
RADIO = (1e6, 1e12)  # Hz, range of plausible rest frequencies if the band is unknown
MOST_REDSHIFT = 20.0  # of a line; the most distant galaxy known has 14.4
MOST_BLUESHIFT = 1.5  # highest frequency of a band over the rest frequency; a 1-2 GHz band searched for HI has 1.41
LEAST_CONTRADICTION = 500.0  # m/s by which AIPS' two reference values may differ, because they are rounded
_UNITS = {  # not MJY, which may be milli or mega
    "JY": "Jy", "BEAM": "beam", "PIX": "pix", "PIXEL": "pix", "PIXELS": "pix", "K": "K", "KELVIN": "K",
    "KM": "km", "M": "m", "S": "s", "SEC": "s", "KMS": "km/s", "KPS": "km/s", "HZ": "Hz", "KHZ": "kHz", "MHZ": "MHz",
    "GHZ": "GHz", "DEG": "deg", "DEGREE": "deg", "DEGREES": "deg", "ARCSEC": "arcsec", "ARCMIN": "arcmin",
    "ANGSTROM": "Angstrom", "ANGSTROMS": "Angstrom", "NM": "nm", "UM": "um", "MICRON": "um", "MICRONS": "um",
}  # fmt: skip


def mended(header: fits.Header, notes: list[str]) -> fits.Header:
    """A copy of the header whose coordinate cards wcslib understands."""
    header = header.copy()
    _mend_numbers(header, notes)
    _mend_rest_frequency(header, notes)
    _mend_frame(header, notes)
    for i in range(1, header["NAXIS"] + 1):
        _mend_type(header, f"CTYPE{i}", notes)
        _mend_axis_unit(header, i, notes)
    with_plain_matrix(header, notes)
    _judge_rest_frequency(header, notes)
    _judge_velocity_convention(header, notes)
    for key in ("RADESYS", "RADECSYS"):
        if key in header:
            frame = str(header[key]).strip().upper()
            header[key] = _FRAMES.get(frame, frame)
            if frame in _FRAMES:
                notes.append(f"The sky frame {frame} was read as {header[key]}.")
            if header[key] not in ("ICRS", "FK5", "FK4", "FK4-NO-E"):
                notes.append(f"The sky frame {header[key] or 'without a name'} is unknown; the FITS default is used.")
                del header[key]
    return header


def _mend_numbers(header: fits.Header, notes: list[str]) -> None:
    """Convert numbers written as text; raise if a number that coordinates need cannot be read."""
    for card in list(header.cards):
        key = card.keyword
        if not _NUMBER.fullmatch(key):
            continue
        try:
            value = card.value
        except (fits.VerifyError, ValueError):
            value = card.image[10:].strip()
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            continue
        try:
            number = float(str(value).upper().replace("D", "E"))
        except ValueError:
            number = np.nan
        if np.isfinite(number):
            header[key] = number
            notes.append(f"{key} is text, '{value}'; it was read as a number.")
        elif _NEEDED.match(key):
            raise CubeError(f"has invalid coordinates: {key} is {value!r}, which is no number.")
        else:
            del header[key]
            notes.append(f"{key} is {value!r}, which is no number; it was ignored.")


def _mend_frame(header: fits.Header, notes: list[str]) -> None:
    """The standard of rest: from VELREF if SPECSYS is missing, and with CASA's names replaced by FITS' names."""
    frame = str(header.get("SPECSYS", "")).strip().upper()
    if not frame and (code := header.get("VELREF")) is not None and int(code) % 256 in _VELREF:
        header["SPECSYS"] = _VELREF[int(code) % 256]
        notes.append(f"The standard of rest was taken from VELREF: {header['SPECSYS']}.")
    elif frame in _CASA_FRAMES:
        header["SPECSYS"] = _CASA_FRAMES[frame]
        notes.append(f"The standard of rest {frame} was read as {header['SPECSYS']}.")
    elif frame and frame not in _SPECTRAL_FRAMES:
        notes.append(f"The standard of rest '{frame}' is not one that FITS knows; it was ignored.")
        del header["SPECSYS"]


def _mend_rest_frequency(header: fits.Header, notes: list[str]) -> None:
    for key in ("RESTFRQ", "RESTFREQ", "RESTWAV"):
        if key in header and not positive(header[key]):
            notes.append(f"{key} of {header[key]} was ignored.")
            del header[key]
    if not any(key in header for key in ("RESTFRQ", "RESTFREQ", "RESTWAV")) and positive(header.get("FREQ0")):
        header["RESTFRQ"] = header["FREQ0"]
        notes.append("The rest frequency was taken from GIPSY's FREQ0.")


def _judge_rest_frequency(header: fits.Header, notes: list[str]) -> None:
    """Choose one rest frequency, in Hz: if two differ, or one may be in GHz or MHz, the one that fits the band."""
    given = {key: float(header[key]) for key in ("RESTFRQ", "RESTFREQ") if key in header}
    if not given:
        return
    band = frequency_band(header)
    in_hertz = {key: (value, "Hz") for key, value in given.items()}
    in_others = {f"{key} {unit}": (value * factor, unit) for unit, factor in _MULTIPLES for key, value in given.items()}
    fitting = [
        (key, value, unit)
        for key, (value, unit) in {**in_hertz, **in_others}.items()
        if fits_band(value, band) and (band or unit == "Hz" or value < RADIO[1])
    ]
    chosen, rest, unit = fitting[0] if fitting else ("RESTFRQ" if "RESTFRQ" in given else "RESTFREQ", None, "Hz")
    chosen = chosen.split()[0]
    rest = given[chosen] if rest is None else rest
    values = list(given.values())
    if not np.isclose(values[0], values[-1], rtol=SAME_REST, atol=0):
        other = next(key for key in given if key != chosen)
        notes.append(f"{chosen} is {given[chosen]:.9g} and {other} {given[other]:.9g}; the first is taken.")
    if unit != "Hz":
        notes.append(f"{chosen} of {given[chosen]:.9g} Hz cannot be right; it was read as {given[chosen]:.9g} {unit}.")
    for key in given:
        del header[key]
    header["RESTFRQ"] = rest


def frequency_band(header: fits.Header) -> tuple[float, float] | None:
    """Lowest and highest frequency in Hz of a frequency or wavelength axis; None for other axes, or without one."""
    for axis in range(1, header["NAXIS"] + 1):
        kind = str(header.get(f"CTYPE{axis}", ""))
        if kind[:4] not in ("FREQ", "WAVE", "AWAV") or kind[4:] == "-TAB":
            continue
        unit = u.Unit(header.get(f"CUNIT{axis}") or ("Hz" if kind.startswith("FREQ") else "m"))
        pixels = np.array([1.0, header[f"NAXIS{axis}"]]) - header.get(f"CRPIX{axis}", 0.0)
        start, offsets = header.get(f"CRVAL{axis}", 0.0), pixels * header.get(f"CDELT{axis}", 1.0)
        if kind[4:] == "-LOG":
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # a value of 0 has no logarithm
                offsets = start * np.expm1(offsets / start)  # FITS paper III, eq. 5
        ends = (start + offsets) * unit
        if unit.is_equivalent(u.Hz) or unit.is_equivalent(u.m):
            with np.errstate(divide="ignore"):
                low, high = sorted(ends.to_value(u.Hz, u.spectral()))
            return (float(low), float(high)) if 0 < low <= high < np.inf else None
    return None


def fits_band(rest: float, band: tuple[float, float] | None) -> bool:
    """Whether a rest frequency in Hz is plausible for lines in a band, or, if the band is unknown, for radio lines."""
    if band is None:
        return RADIO[0] < rest
    return band[1] / rest < MOST_BLUESHIFT and band[1] / rest > 1 / (1 + MOST_REDSHIFT)


def _judge_velocity_convention(header: fits.Header, notes: list[str]) -> None:
    """Note which velocity convention is used if AIPS' cards contradict each other or are missing.

    VELREF is AIPS' code of the standard of rest, with 256 added for radio velocity.  ALTRVAL is what the spectral axis
    is at ALTRPIX in the other quantity: the velocity of an axis of frequencies, the frequency of one of velocities.
    """
    axis = next((i for i in range(1, header["NAXIS"] + 1) if _is_spectral(str(header.get(f"CTYPE{i}", "")))), None)
    if axis is None:
        return
    kind = str(header[f"CTYPE{axis}"])
    radio = None if "VELREF" not in header else header["VELREF"] >= 256
    if kind == "VELO" and radio is not None:
        header[f"CTYPE{axis}"] = kind = "VRAD" if radio else "VOPT"
        notes.append(f"The velocities are {'radio' if radio else 'optical'} ones, according to VELREF.")
    elif kind == "VELO":
        notes.append("The axis VELO does not name its convention; relativistic velocity was taken, as FITS defines it.")
    if "ALTRVAL" not in header or radio is None or kind[:4] not in ("FREQ", "VRAD", "VOPT", "VELO", "FELO"):
        return
    rest = header.get("RESTFRQ")
    offset = header.get("ALTRPIX", header.get(f"CRPIX{axis}", 0.0)) - header.get(f"CRPIX{axis}", 0.0)
    here = header.get(f"CRVAL{axis}", 0.0) + offset * header.get(f"CDELT{axis}", 1.0)
    here *= u.Unit(header.get(f"CUNIT{axis}", "")).si.scale  # FITS' defaults are those of the SI
    if not rest or not positive(here if kind.startswith("FREQ") else header["ALTRVAL"]):
        return
    frequency, velocity = (here, header["ALTRVAL"]) if kind.startswith("FREQ") else (header["ALTRVAL"], here)
    c = constants.c.value
    apart = {"radio": abs(c * (1 - frequency / rest) - velocity), "optical": abs(c * (rest / frequency - 1) - velocity)}
    step = abs(header.get(f"CDELT{axis}", 1.0)) * (c / rest if kind.startswith("FREQ") else 1.0)
    stated, other = ("radio", "optical") if radio else ("optical", "radio")
    if apart[stated] > max(step / 2, LEAST_CONTRADICTION):
        fits_other = f"it is the {other} one" if apart[other] <= max(step / 2, LEAST_CONTRADICTION) else "it is neither"
        notes.append(
            f"VELREF says {stated} velocity, but ALTRVAL contradicts it: {fits_other}. "
            "Frequencies and velocities follow from the axis and the rest frequency alone."
            if kind.startswith("FREQ")
            else f"VELREF says {stated} velocity, but ALTRVAL contradicts it: {fits_other}. The {stated} one was taken."
        )


def _is_spectral(kind: str) -> bool:
    return kind[:4] in ("FREQ", "WAVE", "AWAV", "FELO") or is_velocity(kind[:4])


def _mend_type(header: fits.Header, key: str, notes: list[str]) -> None:
    """Rewrite CTYPE in a form that wcslib understands."""
    written = str(header.get(key, "")).strip()
    kind = written.upper()
    kind = _SPECTRAL_NAMES.get(kind[:8], kind)
    if (match := _SPECTRAL_CODE.fullmatch(kind)) and not _KNOWN_SUFFIX.fullmatch(match[2]):
        # GIPSY's FREQ-OHEL: the axis is in observed frequency, the suffix is for a velocity kept elsewhere.
        kind = match[1]
    has_rest = any(rest in header for rest in ("RESTFRQ", "RESTFREQ", "RESTWAV"))
    if not has_rest and (kind.startswith("FELO") or re.fullmatch(r"(VRAD|VOPT|ZOPT|VELO|BETA)-[FWAV]2[FWAV]", kind)):
        kind = kind[:4].replace("FELO", "VOPT")
        notes.append(f"{written} needs a rest frequency to be exact; it was read as linear {kind}.")
    elif kind != written.upper():
        notes.append(f"Axis type {written} was read as {kind}.")
    if kind.endswith("-NCP"):
        notes.append("The NCP projection was read as the equivalent SIN.")
    if kind:
        header[key] = kind


def _mend_axis_unit(header: fits.Header, axis: int, notes: list[str]) -> None:
    key = f"CUNIT{axis}"
    written = str(header.get(key, "")).strip()
    if not written:
        return
    if axis - 1 == polarisation_axis(header):
        del header[key]
        return
    unit, mended = parse_unit(written)
    if unit is None:
        notes.append(f"{key} '{written}' is not understood; the FITS default is used.")
        del header[key]
        return
    header[key] = unit.to_string("fits")
    if mended:
        notes.append(f"The unit '{written}' was read as {header[key]}.")


def parse_unit(text: str) -> tuple[u.UnitBase | None, bool]:
    """The unit, or None if it is not understood, and whether its spelling was corrected."""
    try:
        return u.Unit(text), False
    except ValueError:
        pass
    spelling = re.sub(r"\(.*?\)", "", text).strip()  # K (Tmb)
    spelling = re.sub(r"[A-Za-z]+", lambda word: _UNITS.get(word[0].upper(), word[0]), spelling)
    try:
        return u.Unit(spelling), True
    except ValueError:
        return None, True


def brightness_unit(header: fits.Header, notes: list[str]) -> u.UnitBase:
    """The unit that BUNIT gives, dimensionless where it is missing or not understood.

    Raises
    ------
    CubeError
        If it is logarithmic, such as magnitudes or decibels: such values cannot be added up.
    """
    written = str(header.get("BUNIT", "")).strip()
    if not written:
        notes.append("The header gives no brightness unit.")
        return u.dimensionless_unscaled
    spelling = _BEAM.sub("beam", written)
    factors = re.split(r"[\s.*]+", spelling) if spelling.count("/") > 1 else [spelling]
    parsed = [parse_unit(factor) for factor in factors]
    units = [unit for unit, _ in parsed if unit is not None]
    if _LOGARITHM.search(written) or any(_is_logarithmic(unit) for unit, _ in parsed):
        raise CubeError(
            f"has brightness in a logarithmic unit, '{written}': convert it to a linear unit such as Jy/beam first."
        )
    if len(units) < len(parsed):
        notes.append(f"The brightness unit '{written}' is not understood.")
        return u.dimensionless_unscaled
    unit = units[0]
    for factor in units[1:]:  # Jy/beam km/s is a product, of which a parser divides by all after the first slash
        unit = unit * factor
    if spelling != written or len(parsed) > 1 or any(mended for _, mended in parsed):
        notes.append(f"The brightness unit '{written}' was read as {unit}.")
    return unit


def _is_logarithmic(unit: u.UnitBase | None) -> bool:
    """Whether a unit is one of magnitudes, decibels or the like, also as mmag: all are multiples of dex.

    Those with a reference, as mag(AB), have been recognised by their names.
    """
    return unit is not None and u.dex in unit.decompose().bases


def positive(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value)) and value > 0


def is_velocity(kind: str) -> bool:
    return kind in ("VRAD", "VOPT", "VELO", "ZOPT", "BETA")
