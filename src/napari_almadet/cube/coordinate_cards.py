"""The cards of a header that coordinates need, and no others, in the type that the FITS standard demands.

Some keywords of the wrong type, or absurd numbers of axes, make wcslib crash the process or run forever.  So wcslib is
given a new header that contains only valid cards.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy.io import fits

from napari_almadet.cube.storage import MOST_AXES, CubeError

NUMBERS = re.compile(
    r"(CRPIX|CRVAL|CDELT|CROTA)(\d{1,2})|(PC|CD)(\d{1,2})_(\d{1,2})|PV(\d{1,2})_\d{1,2}"
    r"|LONPOLE|LATPOLE|EQUINOX|EPOCH|RESTFRQ|RESTFREQ|RESTWAV"
)
TEXTS = re.compile(r"(CTYPE|CUNIT)(\d{1,2})|PS(\d{1,2})_\d|RADESYS|RADECSYS|SPECSYS")
DISTORTION = re.compile(r"[AB]P?_ORDER|CPDIS\d|CPERR\d|D2IMDIS\d|DP\d|DQ\d")
LONGEST_TEXT = 68  # characters in a card's value, FITS standard 4.0, section 4.2.1
MOST_DEGREES = 1e7  # largest valid angle: 360 degrees are 1.3e6 arcsec, and no angle in any unit is larger
# Largest valid projection parameter: heights in planetary radii, angles, coefficients are far smaller.
MOST_PARAMETER = 1e9


def coordinate_cards(header: fits.Header, notes: list[str]) -> fits.Header:
    """A new header with the cards that coordinates need.

    Parameters
    ----------
    header
        As :func:`~napari_almadet.cube.headers.mended` leaves it.
    notes
        A sentence is appended for each card that was ignored and might matter.

    Raises
    ------
    CubeError
        If a value is so absurd that no coordinates can be computed.
    """
    sound = fits.Header()
    naxis = header["NAXIS"]
    sound["NAXIS"] = naxis
    for axis in range(1, naxis + 1):
        sound[f"NAXIS{axis}"] = header[f"NAXIS{axis}"]
    _keep_axes(header, sound, notes)
    for card in header.cards:
        key = card.keyword
        if DISTORTION.fullmatch(key):
            notes.append("The distortion that the header describes is not applied to the coordinates.")
        number, text = NUMBERS.fullmatch(key), TEXTS.fullmatch(key)
        match = number or text
        if match is None or _beyond(match):
            continue
        value = _value(card)
        if key in sound:
            if value != sound[key]:
                notes.append(f"{key} occurs twice; the first, {sound[key]}, is used.")
            continue
        if number and isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            sound[key] = float(value)
        elif text and isinstance(value, str):
            sound[key] = value.strip()[:LONGEST_TEXT]
        else:
            notes.append(f"{key} is {value!r}, which is no {'number' if number else 'text'}; it was ignored.")
    if isinstance(header.get("VELREF"), int | float) and float(header["VELREF"]).is_integer():
        sound["VELREF"] = int(header["VELREF"])
    _check_angles(sound)
    _check_tables(sound)
    return sound


def _keep_axes(header: fits.Header, sound: fits.Header, notes: list[str]) -> None:
    """Keep WCSAXES if it is a possible number of axes."""
    if "WCSAXES" not in header:
        return
    if (axes := axes_described(header)) is not None:
        sound["WCSAXES"] = axes
    else:
        notes.append(f"WCSAXES of {header['WCSAXES']!r} was ignored: the image has {sound['NAXIS']} axes.")


def axes_described(header: fits.Header) -> int | None:
    """WCSAXES, the number of axes with coordinates; None if it is missing or impossible."""
    axes = header.get("WCSAXES")
    sound = isinstance(axes, int) and not isinstance(axes, bool) and header["NAXIS"] <= axes <= MOST_AXES
    return axes if sound else None


def _beyond(match: re.Match) -> bool:
    """Whether a card refers to an axis that cannot exist."""
    return any(group and group.isdigit() and not 1 <= int(group) <= MOST_AXES for group in match.groups())


def _value(card: fits.Card) -> Any:
    try:
        return card.value
    except (fits.VerifyError, ValueError):
        return card.image[10:].strip()


def _check_angles(sound: fits.Header) -> None:
    """Refuse absurd angles and projection parameters."""
    for key, value in sound.items():
        angle = key in ("LONPOLE", "LATPOLE") or key.startswith("CROTA")
        angle = angle or (key.startswith("CRVAL") and _is_celestial(sound, key[5:]))
        if (angle and abs(value) > MOST_DEGREES) or (key.startswith("PV") and abs(value) > MOST_PARAMETER):
            raise CubeError(f"has invalid coordinates: {key} is {value:.6g}.")


def _check_tables(sound: fits.Header) -> None:
    """Refuse table coordinates with an invalid reference to the table (FITS paper III, section 6)."""
    for axis in range(1, MOST_AXES + 1):
        if not str(sound.get(f"CTYPE{axis}", "")).endswith("-TAB"):
            continue
        for m in (1, 2, 3):  # EXTVER, EXTLEVEL, and which of the table's axes
            value = sound.get(f"PV{axis}_{m}", 1.0)
            if not (value.is_integer() and 1 <= value < 100):
                raise CubeError(f"has invalid coordinates: PV{axis}_{m} is {value:.6g}.")
        if not sound.get(f"PS{axis}_0") or not sound.get(f"PS{axis}_1"):
            raise CubeError(f"has invalid coordinates: axis {axis} is a table without a name.")


def _is_celestial(header: fits.Header, axis: str) -> bool:
    return bool(re.match(r"(RA|DEC|[GEHST]L(ON|AT)|..L[NT])-", str(header.get(f"CTYPE{axis}", ""))))


def with_plain_matrix(header: fits.Header, notes: list[str]) -> None:
    """Turn a CD matrix into steps (CDELT) and rotation (PC), in place.

    wcslib's change of a spectral axis into another quantity turns the reference value and the step, but not the CD
    matrix, of which each axis' steps are then a factor of hundreds wrong (FITS paper I, eq. 4: CD = CDELT PC).
    """
    axes = range(1, max(header["NAXIS"], axes_described(header) or 0) + 1)
    written = {key: value for key, value in header.items() if key.startswith("CD") and "_" in key}
    for key in written:
        del header[key]
    if written and any(key.startswith("PC") and "_" in key for key in header):
        notes.append("The header has a CD and a PC matrix; the PC matrix is used.")
        written = {}
    if written:
        for axis in axes:
            header.remove(f"CROTA{axis}", ignore_missing=True)
            row = {j: float(written.get(f"CD{axis}_{j}", 0.0)) for j in axes}
            if any(f"CD{axis}_{j}" in written or f"CD{j}_{axis}" in written for j in axes):
                _set_row(header, axis, row)
            elif f"CDELT{axis}" in header:
                notes.append(
                    f"The CD matrix leaves out axis {axis}; its step is CDELT{axis}, {header[f'CDELT{axis}']:.6g}."
                )
    else:
        for axis in axes:
            row = {j: header.get(f"PC{axis}_{j}", float(j == axis)) for j in axes}
            if row[axis] != 1 and not any(value for j, value in row.items() if j != axis):
                _set_row(header, axis, {j: header.get(f"CDELT{axis}", 1.0) * value for j, value in row.items()})
    for axis in axes:  # what has one plane needs no step, but wcslib wants one
        single = header.get(f"NAXIS{axis}", 1) == 1
        alone = not any(header.get(f"PC{axis}_{j}") for j in axes if j != axis)
        if single and alone and header.get(f"CDELT{axis}") == 0:
            header[f"CDELT{axis}"] = 1.0
            notes.append(f"CDELT{axis} of 0 was read as 1: the axis has one plane.")


def _set_row(header: fits.Header, axis: int, row: dict[int, float]) -> None:
    """Write a row of the CD matrix as a step (with the sign of the diagonal) times a row of PC."""
    length = np.sqrt(sum(value**2 for value in row.values()))
    step = float(np.copysign(length, row[axis] or 1.0))
    header[f"CDELT{axis}"] = step
    for j, value in row.items():
        header.remove(f"PC{axis}_{j}", ignore_missing=True)
        part = value / step if step else float(j == axis)
        if part != float(j == axis):
            header[f"PC{axis}_{j}"] = part
