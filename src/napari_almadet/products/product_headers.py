"""Headers of products: the cube's coordinates, shifted to the origin of a part of it, with unit, beam and name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from napari_almadet.catalogue.detections import brightness_unit

if TYPE_CHECKING:
    from radio_beam import Beam

    from napari_almadet.cube.cube import Cube

COPIED = ("TELESCOP", "INSTRUME", "OBSERVER", "DATE-OBS", "EQUINOX")  # origin of a file
# as CASA and CARTA expect it: they convert Jy/beam into flux densities
SPELT = {u.Jy / u.beam: "Jy/beam", u.mJy / u.beam: "mJy/beam", u.uJy / u.beam: "uJy/beam"}
ORDER = ("Jy", "mJy", "uJy", "K", "beam", "pix", "km", "Hz", "s")


def unit_card(unit: u.UnitBase) -> str:
    """A unit for ``BUNIT``: with at most one slash, because programs disagree on the meaning of a second one.

    CASA reads ``Jy/beam km/s`` as Jy km / (beam s), astropy as Jy / (beam km s).
    """
    if unit in SPELT:
        return SPELT[unit]
    factors = dict(zip((base.to_string() for base in unit.bases), unit.powers, strict=True))
    names = sorted(factors, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return " ".join(name if factors[name] == 1 else f"{name}{float(factors[name]):g}" for name in names)


def cube_header(cube: Cube, origin: tuple[int, int, int], name: str, unit: u.UnitBase | None = None) -> fits.Header:
    """Header of a part of a cube whose first voxel is ``origin`` = (channel, y, x).

    Parameters
    ----------
    name
        For ``OBJECT``.
    unit
        Default: the cube's.
    """
    header = fits.Header() if cube.wcs is None else cube.wcs.to_header(relax=True)
    _shift(header, origin)
    _describe(header, cube, name, brightness_unit(cube) if unit is None else unit)
    if cube.beams is not None and not cube.beams.isscalar:
        header["CASAMBM"] = (True, "each channel has a beam of its own, see BEAMS")
    elif cube.beam is not None:
        _put_beam(header, cube.beam)
    return header


def image_header(cube: Cube, origin: tuple[int, int], name: str, unit: u.UnitBase, kind: str) -> fits.Header:
    """Header of an image whose first pixel is pixel ``origin`` = (y, x) of a cube; ``kind`` goes to ``BTYPE``.

    The beam is the common beam of the cube.
    """
    header = cube.celestial_header() or fits.Header()
    _shift(header, origin)
    _describe(header, cube, name, unit)
    header["BTYPE"] = kind
    if cube.beam is not None:
        _put_beam(header, cube.beam)
    if cube.wcs is not None:
        if cube.spectral_frame:
            header["SPECSYS"] = (cube.spectral_frame, "standard of rest")
        if cube.rest_frequency is not None:
            header["RESTFRQ"] = (cube.rest_frequency.to_value(u.Hz), "[Hz]")
    return header


def spectral_cards(cube: Cube, first: int, axis: int) -> fits.Header:
    """The cards of a cube's spectral axis for axis number ``axis`` of an image that begins at channel ``first``."""
    header = fits.Header()
    if cube.wcs is None:
        return header
    whole = cube.wcs.to_header(relax=True)
    number = cube.wcs.wcs.spec + 1
    for card in ("CTYPE", "CUNIT", "CRVAL", "CDELT", "CRPIX"):
        if f"{card}{number}" in whole:
            header[f"{card}{axis}"] = (whole[f"{card}{number}"], whole.comments[f"{card}{number}"])
    header[f"CRPIX{axis}"] = header.get(f"CRPIX{axis}", 0.0) - first
    for card in ("RESTFRQ", "RESTWAV", "SPECSYS", "VELREF"):
        if card in whole:
            header[card] = (whole[card], whole.comments[card])
    return header


def beam_table(cube: Cube, first: int, last: int) -> fits.BinTableHDU | None:
    """CASA's table ``BEAMS`` of the channels from ``first`` up to ``last``; None if the cube has a single beam.

    Channels without a beam get the common beam of the cube.
    """
    if cube.beams is None or cube.beams.isscalar or cube.beam is None:
        return None
    own = cube.beams[first:last]
    known = np.asarray(own.value) > 0
    rows = len(own)

    def values(name: str, unit: u.UnitBase) -> u.Quantity:
        of_cube = getattr(cube.beam, name).to_value(unit)
        return np.where(known, getattr(own, name).to_value(unit), of_cube).astype(np.float32) * unit

    table = QTable(
        {
            "BMAJ": values("major", u.arcsec),
            "BMIN": values("minor", u.arcsec),
            "BPA": values("pa", u.deg),
            "CHAN": np.arange(rows, dtype=np.int32),
            "POL": np.zeros(rows, np.int32),
        }
    )
    made = fits.table_to_hdu(table, name="BEAMS")
    made.header["NCHAN"], made.header["NPOL"] = rows, 1
    return made


def _shift(header: fits.Header, origin: tuple[int, ...]) -> None:
    for number, start in enumerate(origin[::-1], 1):
        if start or f"CRPIX{number}" in header:
            header[f"CRPIX{number}"] = header.get(f"CRPIX{number}", 0.0) - start


def _describe(header: fits.Header, cube: Cube, name: str, unit: u.UnitBase) -> None:
    from napari_almadet import __version__

    header["BUNIT"] = unit_card(unit)
    header["OBJECT"] = name
    header["ORIGIN"] = f"napari-almadet {__version__}"
    if cube.primary_beam is not None:
        header["PBCOR"] = (cube.primary_beam.corrected, "whether corrected for the primary beam")
    for card in COPIED:
        if cube.header is not None and card in cube.header and card not in header:
            header[card] = cube.header[card]


def _put_beam(header: fits.Header, beam: Beam) -> None:
    header["BMAJ"] = (beam.major.to_value(u.deg), "[deg] FWHM")
    header["BMIN"] = (beam.minor.to_value(u.deg), "[deg]")
    header["BPA"] = (beam.pa.to_value(u.deg), "[deg] from North through East")
