"""The header of a small cube, for tests that change a card of it."""

from __future__ import annotations

from astropy.io import fits

REST = 230.538e9  # Hz
PIXEL = 0.2 / 3600  # degrees
SHAPE = (8, 10, 12)


def header_of(**cards) -> fits.Header:
    """Of a cube of 230 GHz, with a beam of five pixels; ``cards`` replace or, with None, remove."""
    header = fits.Header({"BUNIT": "Jy/beam", "BMAJ": 5 * PIXEL, "BMIN": 4 * PIXEL, "BPA": 0.0, "RADESYS": "ICRS"})
    header.update({"RESTFRQ": REST, "SPECSYS": "LSRK"})
    axes = ("RA---SIN", 150.0, -PIXEL, "deg"), ("DEC--SIN", -30.0, PIXEL, "deg"), ("FREQ", 230.5e9, 4e6, "Hz")
    for i, (kind, value, step, unit) in enumerate(axes, 1):
        header.update({f"CTYPE{i}": kind, f"CRVAL{i}": value, f"CDELT{i}": step, f"CUNIT{i}": unit, f"CRPIX{i}": 3.0})
    for key, value in cards.items():
        if value is None:
            header.remove(key, ignore_missing=True)
        else:
            header[key] = value
    return header
