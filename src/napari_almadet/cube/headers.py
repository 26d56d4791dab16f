"""What FITS headers mean that do not say it the standard way: the tables and functions that mend them.

A new quirk of a header is mended here: each function changes a copy of the header and adds one sentence to ``notes``.
"""

from __future__ import annotations

import re

import numpy as np
from astropy import units as u
from astropy.io import fits

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
    for key in ("RADESYS", "RADECSYS"):
        if key in header:
            frame = str(header[key]).strip().upper()
            header[key] = _FRAMES.get(frame, frame)
            if header[key] != str(header[key]).strip() or frame in _FRAMES:
                notes.append(f"The sky frame {frame} was read as {header[key]}.")
            if header[key] not in ("ICRS", "FK5", "FK4", "FK4-NO-E"):
                notes.append(f"The sky frame {header[key] or 'without a name'} is unknown; the FITS default is used.")
                del header[key]
    return header


def _mend_numbers(header: fits.Header, notes: list[str]) -> None:
    """Take numbers written as text for numbers; without one that coordinates need, there are none."""
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
        if np.isfinite(number) and not isinstance(value, bool):
            header[key] = number
            notes.append(f"{key} is a text, '{value}'; it was read as a number.")
        elif _NEEDED.match(key):
            raise CubeError(f"has coordinates that cannot be understood: {key} is {value!r}, which is no number.")
        else:
            del header[key]
            notes.append(f"{key} is {value!r}, which is no number; it was ignored.")


def _mend_frame(header: fits.Header, notes: list[str]) -> None:
    """The standard of rest, from AIPS' and CASA's code where it is not named; FITS' name for CASA's."""
    frame = str(header.get("SPECSYS", "")).strip().upper()
    if not frame and (code := header.get("VELREF")) is not None and int(code) % 256 in _VELREF:
        header["SPECSYS"] = _VELREF[int(code) % 256]
        notes.append(f"The standard of rest is VELREF's, {header['SPECSYS']}.")
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
        notes.append("The rest frequency is GIPSY's FREQ0.")


def _mend_type(header: fits.Header, key: str, notes: list[str]) -> None:
    """Bring CTYPE to a form wcslib knows."""
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
    """The unit, or None if it is not understood, and whether its spelling had to be mended."""
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
    written = str(header.get("BUNIT", "")).strip()
    if not written:
        notes.append("There is no brightness unit.")
        return u.dimensionless_unscaled
    unit, mended = parse_unit(written)
    if unit is None:
        notes.append(f"The brightness unit '{written}' is not understood.")
        return u.dimensionless_unscaled
    if mended:
        notes.append(f"The brightness unit '{written}' was read as {unit}.")
    return unit


def positive(value) -> bool:
    return isinstance(value, int | float) and np.isfinite(value) and value > 0


def is_velocity(kind: str) -> bool:
    return kind in ("VRAD", "VOPT", "VELO", "ZOPT", "BETA")
