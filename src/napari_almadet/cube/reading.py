"""Open a file as a :class:`~napari_almadet.cube.cube.Cube`: identify its axes, read its WCS, beams and primary beam."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS, WcsError

from napari_almadet.cube.beams import beams_of, with_plausible_beam
from napari_almadet.cube.coordinate_cards import coordinate_cards
from napari_almadet.cube.cube import FEWEST_ROUNDED, Cube, PrimaryBeam, spread
from napari_almadet.cube.errors import ONLY_SHOWN, in_one_line
from napari_almadet.cube.headers import brightness_unit, mended, polarisation_axis
from napari_almadet.cube.plausibility import implausible
from napari_almadet.cube.storage import CubeError, Lazy, Stored, opened, split_address

LOG = logging.getLogger(__name__)
OVERSHOOT = 0.05  # of the highest: negative values of a response that was cut off at 0.2 and regridded (cubic: 0.02)
LOOK_BYTES = 2**28  # at most this much is read to check whether a cube is empty: 256 MB


def read_cube(path: str | Path) -> Cube:
    """Open a cube without reading its data: FITS (also compressed), a CASA image, or CARTA's HDF5.

    The first image with three or more axes in the file is used.  Its axes are identified by their coordinate types,
    not by their order.  If there are several polarisations, Stokes I is used, or the first one if there is no Stokes I.

    Parameters
    ----------
    path
        The file, or the folder of a CASA image.  ``cube.fits[SCI]`` or ``cube.fits[1]``
        names one of several images in a FITS file.

    Returns
    -------
    Cube
        Its ``notes`` list everything that was chosen or repaired.

    Raises
    ------
    CubeError
        If the file is missing, damaged or of an unknown format, or contains no spectral cube: no image, a
        single plane, no spectral axis, or only NaN and zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.io import fits
    >>> from napari_almadet import read_cube
    >>> header = fits.Header({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CTYPE3": "FREQ", "CUNIT3": "Hz"})
    >>> header.update({"CRVAL1": 83.8, "CDELT1": -1e-5, "CRVAL2": -5.4, "CDELT2": 1e-5})
    >>> header.update({"CRPIX1": 4.0, "CRPIX2": 4.0, "CRPIX3": 1.0, "CRVAL3": 230e9, "CDELT3": 1e6, "BUNIT": "Jy/beam"})
    >>> fits.writeto("orion.fits", np.ones((16, 8, 8), np.float32), header)
    >>> cube = read_cube("orion.fits")
    >>> cube.shape, cube.unit
    ((16, 8, 8), Unit("Jy / beam"))
    >>> cube.frequency(15).to("GHz")
    <Quantity 230.015 GHz>
    """
    path, hdu = split_address(path)
    with _refusing(path):
        return _read(path, hdu)


@contextmanager
def _refusing(path: Path) -> Generator[None, None, None]:
    """Turn any error while a file is read into one sentence, and suppress astropy's warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the notes contain what matters
            yield
    except CubeError as error:
        raise CubeError(f"{path.name} {error}") from error.__cause__
    except FileNotFoundError:
        raise CubeError(f"{path.name} does not exist: no file {path.absolute()}.") from None
    except Exception as error:  # a damaged file can fail anywhere inside the libraries
        LOG.warning("%s could not be read", path, exc_info=True)  # it may as well be a fault of ours
        reason = in_one_line(error)
        if reason.startswith("No SIMPLE card"):  # astropy's advice is for programmers
            reason = "it does not begin like a FITS file, with the keyword SIMPLE"
        raise CubeError(f"{path.name} cannot be read, it may be damaged or incomplete: {reason}") from error


def short_name(path: Path) -> str:
    """A file's name without its endings, which is the name of its cube."""
    return re.sub(r"\.(fits?|fts|image|hdf5|h5|im)(\.(gz|fz|bz2|xz|z))?$", "", path.name, flags=re.IGNORECASE)


def read_image(path: str | Path) -> tuple[Any, WCS | None]:
    """An image of one or more planes that goes with a cube, such as its dirty or primary beam.

    Returns
    -------
    data, celestial
        Shape (planes, ny, nx), and the sky coordinates, or None.

    Raises
    ------
    CubeError
        If the file is missing, damaged or of an unknown format, or contains no image.
    """
    path, hdu = split_address(path)
    with _refusing(path), opened(path, hdu, axes=2) as stored:
        return _response(stored)


def read_primary_beam(path: str | Path, cube: Cube) -> PrimaryBeam:
    """The primary beam of a cube, from an image with one or all channels, as imaging programs write it (``.pb``).

    Whether the cube has been corrected for it is taken from the name of the cube's file (``pbcor``).

    Raises
    ------
    CubeError
        If it cannot be read, has different pixels or channels than the cube, lies elsewhere on the sky, or contains
        values that cannot be a response.
    """
    data, celestial = read_image(path)
    path = Path(path)
    n_channels, ny, nx = cube.shape
    if data.shape[1:] != (ny, nx) or len(data) not in (1, n_channels):
        sizes = " x ".join(map(str, data.shape)), " x ".join(map(str, cube.shape))
        raise CubeError(
            f"{path.name} measures {sizes[0]} and the cube {sizes[1]}: it is the primary beam of another image."
        )
    x, y = np.array([0, nx - 1, (nx - 1) / 2]), np.array([0, ny - 1, (ny - 1) / 2])
    if celestial is not None and (sky := cube.sky(x, y)) is not None:
        apart = np.nanmax(sky.separation(celestial.pixel_to_world(x, y))) / cube.pixel_scale
        if (apart := float(apart.to_value(u.dimensionless_unscaled))) > 0.5:
            raise CubeError(
                f"{path.name} lies {apart:.3g} pixels from the cube on the sky: it belongs to another field."
            )
    beam = PrimaryBeam(data, path, "pbcor" in cube.name.lower(), read_primary_beam)
    plane = np.asarray(data[n_channels // 2 if len(data) > 1 else 0], dtype=np.float32)
    lowest, highest = np.nanmin(plane, initial=0), np.nanmax(plane, initial=-1)
    if not 0 < highest < 1.1:
        raise CubeError(f"{path.name} is not a primary beam: its highest value is {highest:.3g}.")
    if lowest < -OVERSHOOT * highest:  # an image of the sky, which has noise
        raise CubeError(f"{path.name} is not a primary beam: its values reach from {lowest:.3g} to {highest:.3g}.")
    return beam


def _response(stored: Stored) -> tuple[Any, WCS | None]:
    """(channel, y, x) of an image, with one channel where it has no spectral axis, and its sky coordinates."""
    shape, last = stored.source.shape, len(stored.source.shape) - 1
    wcs = WCS(coordinate_cards(mended(stored.header, []), []), stored.hdus)
    x, y, spectral = wcs.wcs.lng, wcs.wcs.lat, wcs.wcs.spec
    on_sky = 0 <= x <= last and 0 <= y <= last
    celestial = wcs.sub([x + 1, y + 1]) if on_sky else None
    x, y = (x, y) if on_sky else (0, 1)
    if 0 <= spectral <= last:
        return stored.cube((last - spectral, last - y, last - x), {}), celestial
    part = [slice(0, n if axis in (last - y, last - x) else 1) for axis, n in enumerate(shape)]
    plane = stored.source.read(tuple(part))
    ny, nx = shape[last - y], shape[last - x]
    return (plane.reshape(1, ny, nx) if y > x else plane.reshape(nx, ny).T[None]), celestial


def _read(path: Path, hdu: str | None) -> Cube:
    """`read_cube` without the file's name in the errors, and with errors of any type."""
    with opened(path, hdu) as stored:
        notes, header, shape = stored.notes, stored.header, stored.source.shape
        good = mended(header, notes)
        wcs = _wcs(good, stored.hdus, notes)
        spectral, y, x = _axes(wcs, shape, header)
        if shape[-1 - spectral] == 1:
            raise CubeError(f"is a single plane: its spectral axis has one channel. {ONLY_SHOWN}")
        notes += _defaults(wcs, header, (x, y, spectral))
        planes = _planes(wcs, shape, (spectral, y, x), header, notes, stored.polarisations)
        polarised = polarisation_axis(header)
        polarisation = 0 if polarised is None else planes.get(polarised, 0)
        beams = beams_of(stored.beams, good, shape[-1 - spectral], polarisation, notes)
        last = len(shape) - 1
        kept = (last - spectral, last - y, last - x)
        others = {last - axis: plane for axis, plane in planes.items()}
        rounding = stored.rounding_of(kept, others)
        data = stored.cube(kept, others)
    _refuse_empty(data)
    wcs = _of_three_axes(wcs, (x, y, spectral))
    wcs.array_shape = data.shape
    name = short_name(path)
    cube = Cube(
        data=data,
        wcs=wcs,
        unit=brightness_unit(header, notes),
        beams=beams,
        header=header,
        name=name if hdu is None else f"{name}[{hdu}]",
        path=path,
        hdu=hdu,
        reader=read_cube,
        rounding=rounding,
    )
    notes += _of_rounding(cube)
    cube = with_plausible_beam(cube, notes)
    notes += implausible(cube)
    return replace(cube, notes=tuple(dict.fromkeys(notes)))  # two axes may need the same mending


def _of_rounding(cube: Cube) -> list[str]:
    """A note on a cube in which compression has made exact zeros small random values."""
    if cube.rounding is None or not cube.rounding.largest:
        return []
    become = (
        "The file was compressed with SUBTRACTIVE_DITHER_1, in which exact zeros become random values of up to "
        f"{cube.rounding.largest:.3g}"
    )
    if cube.shape[0] < FEWEST_ROUNDED:
        return [
            f"{become}: with {cube.shape[0]} channels, zeros that mean no data cannot be distinguished from data. If "
            "there are any, compress the original with fpack -qz, or set them to NaN."
        ]
    return [f"{become}: pixels that exceed this in no channel are treated as missing data."]


def _axes(wcs: WCS, shape: tuple[int, ...], header: fits.Header) -> tuple[int, int, int]:
    """Axes of the file that hold (channel, y, x)."""
    spectral, y, x = wcs.wcs.spec, wcs.wcs.lat, wcs.wcs.lng
    if not 0 <= spectral < len(shape):
        types = ", ".join(str(header.get(f"CTYPE{i + 1}", "?")).strip() or "?" for i in range(len(shape)))
        raise CubeError(
            f"has no spectral axis, only {types}. If one of them is spectral, set its CTYPE to FREQ, VRAD or VOPT, "
            "with CRPIX, CRVAL, CDELT and CUNIT; in Python, Cube.from_array takes an array without header."
        )
    if x < 0:  # and y: there are two sky axes or none
        others = {spectral, polarisation_axis(header)}
        image = [i for i, n in enumerate(reversed(shape)) if i not in others and n > 1]
        if len(image) != 2:
            raise CubeError("has fewer than two image axes besides its spectral axis.")
        x, y = image
    if max(x, y) >= len(shape):
        raise CubeError("has a spectral axis, but its sky axes are not in the image.")
    return spectral, y, x


def _of_three_axes(wcs: WCS, axes: tuple[int, int, int]) -> WCS:
    """The coordinates of (x, y, channel) alone."""
    try:
        return wcs.sub([axis + 1 for axis in axes])
    except WcsError as error:
        raise CubeError("has coordinates that mix the sky or the spectral axis with another axis.") from error


def _planes(
    wcs: WCS,
    shape: tuple[int, ...],
    kept: tuple[int, ...],
    header: fits.Header,
    notes: list[str],
    known: list[int],
) -> dict[int, int]:
    """The plane to use along every axis besides the three, by axis."""
    planes = {}
    for axis, n in enumerate(reversed(shape)):
        if axis in kept:
            continue
        planes[axis] = 0
        kind = str(header.get(f"CTYPE{axis + 1}", "")).strip()
        if axis == polarisation_axis(header):
            codes = np.rint(wcs.sub([axis + 1]).wcs_pix2world(np.arange(n), 0)[0]).astype(int)
            codes = np.array(known) if len(known) == n else codes
            planes[axis] = int(np.argmax(codes == 1))  # Stokes I; the first where there is none
            count = "the only one" if n == 1 else f"one of the {n}"
            notes.append(f"Polarisation taken: {_polarisation(kind, codes[planes[axis]])}, {count} in the file.")
        elif n > 1:
            notes.append(f"Axis {axis + 1} ({kind or 'without a type'}) has {n} planes; the first is used.")
    return planes


def _polarisation(kind: str, code: int) -> str:
    from astropy.coordinates import StokesCoord

    symbol = StokesCoord(code).symbol.item() if kind.upper() == "STOKES" else "?"
    return f"code {code} ({kind})" if symbol == "?" else f"Stokes {symbol}" if len(symbol) == 1 else symbol


def _refuse_empty(data: Lazy) -> None:
    """Raise unless some value is neither NaN nor zero; stops at the first part that has one, or after LOOK_BYTES."""
    slow = int(np.argmin(data.kept))  # along the file, not across it
    n = data.shape[slow]
    parts = spread(n, max(4, LOOK_BYTES * n // max(data.nbytes, 1)))
    zeros = nans = False
    for k in parts:
        part = data[tuple(k if axis == slow else slice(None) for axis in range(3))]
        finite = np.isfinite(part)
        if np.any(part, where=finite):
            return
        zeros |= finite.any()
        nans |= not finite.all()
    if len(parts) == n:
        found = " and ".join(name for name, seen in (("zeros", zeros), ("NaN", nans)) if seen)
        raise CubeError(f"is empty: it contains nothing but {found}.")


def _wcs(header: fits.Header, hdus: fits.HDUList, notes: list[str]) -> WCS:
    try:
        wcs = WCS(coordinate_cards(header, notes), hdus)
    except CubeError:  # a ValueError that has said all
        raise
    except (WcsError, ValueError) as error:
        raise CubeError(f"has invalid coordinates: {str(error).strip().splitlines()[-1]}") from error
    if wcs.wcs.spec >= 0:
        axis = wcs.wcs.spec + 1
        written, read = header[f"CTYPE{axis}"], wcs.wcs.ctype[wcs.wcs.spec]
        if read != written:  # wcslib's reading of AIPS' types
            unsure = written.startswith("VELO") and "VELREF" not in header
            read_as = f"{read} {wcs.wcs.specsys}".rstrip()
            because = ", since no VELREF says whether it is radio or optical velocity" if unsure else ""
            if unsure:  # then it is read as VOPT, in the frame that the type names
                because += f"; if it is radio velocity, set CTYPE{axis} to VRAD and SPECSYS to {wcs.wcs.specsys}"
            notes.append(f"Axis type {written} was read as {read_as}{because}.")
        if not header.get(f"CUNIT{axis}"):
            notes.append(f"The spectral axis has no unit; the FITS default is used, {wcs.wcs.cunit[axis - 1]}.")
    return wcs


def _defaults(wcs: WCS, header: fits.Header, axes: tuple[int, int, int]) -> list[str]:
    """Notes on missing cards of the axes (x, y, channel) for which FITS has defaults."""
    notes = []
    for axis in axes if wcs.has_celestial else axes[2:]:
        matrix = [f"CD{axis + 1}_{i + 1}" in header for i in range(wcs.naxis)]
        for key, default in (("CRPIX", 0), ("CRVAL", 0), ("CDELT", 1)):
            if f"{key}{axis + 1}" not in header and not (key == "CDELT" and any(matrix)):
                notes.append(f"There is no {key}{axis + 1}; the FITS default is used, {default}.")
    return notes
