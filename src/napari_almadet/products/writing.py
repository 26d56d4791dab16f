"""Products as files, named as SoFiA-2 names them: ``NAME_mom0.fits`` of the field, ``NAME_cubelets/NAME_1_mom0.fits``.

Sources are processed one after another, so that only the part of the cube with one source is in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from napari_almadet.catalogue.atomic_folder import replaced_together
from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections, brightness_unit, source_names
from napari_almadet.catalogue.result_folder import ABOUT, MOST_MASK
from napari_almadet.inspection.moments import Sums
from napari_almadet.measure.noise import noise_of
from napari_almadet.products.field import PIXELS_PER_BEAM, write_mask, write_noise
from napari_almadet.products.page import write_page
from napari_almadet.products.product_headers import beam_table, cube_header, image_header, spectral_cards, unit_card
from napari_almadet.products.source_products import (
    MARGIN,
    PositionVelocity,
    Scales,
    SourceData,
    Spectrum,
    cut_through,
    source_data,
    spectrum_of,
    sums_of,
)
from napari_almadet.progress import Progress, in_steps

ABOUT_PRODUCTS = "products.json"
FIELD_PRODUCTS = ("mask", "mom0", "mom1", "mom2", "chan", "noise")
MOST_FIELD = 2e8  # pixels: moments of larger fields are not made, as they would need 10 GB


@in_steps
def write_products(
    detections: Detections, folder: str | Path, candidates: Sequence[Candidate] | None = None, pages: bool = True
) -> Generator[Progress, None, Path]:
    """Write the products of a field and of its sources into a folder.

    For each source with a line: ``NAME_cubelets/NAME_1_cube.fits``, ``_mask.fits``, ``_mom0.fits``,
    ``_mom1.fits``, ``_mom2.fits``, ``_chan.fits``, ``_snr.fits``, ``_spec.txt``, ``_spec.fits``, ``_pv.fits`` and
    ``_page.png``; for one with continuum: ``_cont.fits``.  For the field: ``NAME_mask.fits``, ``NAME_mom0.fits``,
    ``NAME_mom1.fits``, ``NAME_mom2.fits``, ``NAME_chan.fits``, ``NAME_noise.fits``.  Files are replaced only once they
    are complete.

    Parameters
    ----------
    detections
        With the cube.
    folder
        Usually that of the result.
    candidates
        Default: the kept ones.
    pages
        Also draw the pages, half a second each.

    Returns
    -------
    pathlib.Path
        The folder of the cubelets.
    """
    folder, cube = Path(folder), detections.cube
    chosen = detections.kept if candidates is None else list(candidates)
    if detections.noise is None:
        detections.noise = yield from noise_of.steps(cube, cube.beam_fwhm or PIXELS_PER_BEAM)
    name, scales = file_name(cube.name), Scales.of(cube)
    cubelets = folder / f"{name}_cubelets"
    field = Sums.empty(cube.shape[1:], scales.middle) if np.prod(cube.shape[1:], dtype=float) <= MOST_FIELD else None
    titles = source_names(cube, *np.array([c.position for c in chosen], dtype=float).reshape(-1, 2).T)
    with replaced_together(cubelets, last=ABOUT_PRODUCTS) as beside:
        for done, (candidate, title) in enumerate(zip(chosen, titles, strict=True)):
            yield Progress("Writing products", done, len(chosen) + 1)
            data = source_data(detections, candidate, detections.noise)
            sums = write_source(detections, data, scales, title, beside / f"{name}_{candidate.id}", pages)
            if sums is not None and field is not None:
                field.add(sums, _place(data))
        written = {file.name for file in beside.iterdir()}
        about = {"identity": identity_of(folder), "sources": [c.id for c in chosen], "margin": MARGIN}
        (beside / ABOUT_PRODUCTS).write_text(json.dumps(about) + "\n", encoding="utf-8")
    for left in cubelets.glob(f"{name}_*"):
        if left.name not in written:  # from an earlier result
            left.unlink()
    yield Progress("Writing products", len(chosen), len(chosen) + 1)
    write_field(detections, chosen, scales, field, folder)
    return cubelets


def has_products(folder: str | Path, cube_name: str) -> bool:
    """Whether the products in a folder belong to the result in it."""
    folder = Path(folder)
    try:
        about = json.loads((folder / f"{file_name(cube_name)}_cubelets" / ABOUT_PRODUCTS).read_text(encoding="utf-8"))
        return about["identity"] is not None and about["identity"] == identity_of(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def remove_products(folder: str | Path, cube_name: str) -> None:
    """Remove the products of an earlier result from a folder; nothing where a folder has none of ours."""
    folder, name = Path(folder), file_name(cube_name)
    cubelets = folder / f"{name}_cubelets"
    if not (cubelets / ABOUT_PRODUCTS).is_file():
        return
    for kind in FIELD_PRODUCTS:
        (folder / f"{name}_{kind}.fits").unlink(missing_ok=True)
    for path in cubelets.glob(f"{name}_*"):
        path.unlink()
    (cubelets / ABOUT_PRODUCTS).unlink()  # last, so that what is interrupted can be done again
    if not any(cubelets.iterdir()):
        cubelets.rmdir()


def identity_of(folder: Path) -> str | None:
    """Identity of the result in a folder; None if there is none."""
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8")).get("identity")
    except (OSError, ValueError, AttributeError):
        return None


def file_name(name: str) -> str:
    """The name of a cube for a file name: other characters than letters, digits, dots and signs become underscores."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_.") or "cube"


# --- one source ----------------------------------------------------------------------------------------------------


def write_source(
    detections: Detections, data: SourceData, scales: Scales, title: str, base: Path, pages: bool = True
) -> Sums | None:
    """Write all products of a source to files that begin with ``base``; return its sums, None without a line."""
    cube, noise = detections.cube, detections.noise
    spectrum = spectrum_of(data, scales, noise)
    write_spectrum(detections, data, spectrum, title, base)
    if data.candidate.kind != "line":
        unit = brightness_unit(cube)
        _image(data.continuum, image_header(cube, data.origin[1:], title, unit, "Continuum"), base, "cont")
    if not data.mask.any():
        if pages:
            write_page(detections, data, spectrum, scales, None, None, _named(base, "page.png"))
        return None
    sums = sums_of(data, scales, noise)
    write_cubelet(detections, data, title, base)
    write_maps(detections, sums, scales, data.origin[1:], title, base, data)
    cut = cut_through(cube, data)
    if cut is not None:
        write_cut(detections, cut, title, base)
    if pages:
        write_page(detections, data, spectrum, scales, sums, cut, _named(base, "page.png"))
    return sums


def write_cubelet(detections: Detections, data: SourceData, title: str, base: Path) -> None:
    """Write the part of the cube around a source, and its mask: 1 in the source, 0 elsewhere."""
    cube = detections.cube
    header = cube_header(cube, data.origin, title)
    hdus: list = [fits.PrimaryHDU(data.planes, header)]
    table = beam_table(cube, data.channels.start, data.channels.stop)
    fits.HDUList(hdus + ([] if table is None else [table])).writeto(_named(base, "cube.fits"))
    header = cube_header(cube, data.origin, title, u.dimensionless_unscaled)
    header.remove("CASAMBM", ignore_missing=True)
    header["BTYPE"] = "Source mask"
    fits.writeto(_named(base, "mask.fits"), data.mask.astype(np.int16), header)


def write_maps(
    detections: Detections,
    sums: Sums,
    scales: Scales,
    origin: tuple[int, int],
    title: str,
    base: Path,
    data: SourceData | None = None,
) -> None:
    """Write moments 0, 1 and 2 and the number of channels; for a source also moment 0 divided by its error."""
    cube = detections.cube
    brightness = brightness_unit(cube) * scales.unit
    zeroth, mean, spread = sums.moments()

    def header(unit: u.UnitBase, kind: str, comment: str) -> fits.Header:
        made = image_header(cube, origin, title, unit, kind)
        made["COMMENT"] = comment
        return made

    made = header(brightness, "Moment 0", "Sum over the source mask; 0 outside it.")
    if data is not None:
        made["CONTSUB"] = (data.subtracted, "continuum was detected and is subtracted")
        made["ID"] = (data.candidate.id, "in the catalogue")
    if (scales.beam != 1).any():
        made["COMMENT"] = "Each channel was scaled to the beam given here."
    _image(zeroth, made, base, "mom0")
    comment = f"{scales.label}, of the positive voxels in the source mask."
    _image(mean, header(scales.unit, "Moment 1", f"Mean {comment}"), base, "mom1")
    _image(spread, header(scales.unit, "Moment 2", f"Standard deviation of the {comment}"), base, "mom2")
    plain = u.dimensionless_unscaled
    _image(sums.count, header(plain, "Channels", "Number of channels in the source mask."), base, "chan")
    if data is not None:
        comment = "As moment 0, minus the mean of the line-free channels of each pixel."
        _image(
            data.without_baseline(scales),
            header(brightness, "Moment 0", comment),
            base,
            "mom0_contsub",
        )
        comment = "Moment 0 divided by its error, which includes the correlation of channels."
        _image(sums.snr, header(plain, "S/N", comment), base, "snr")


def write_spectrum(detections: Detections, data: SourceData, spectrum: Spectrum, title: str, base: Path) -> None:
    """Write the spectrum in the channels of the mask as text, like SoFiA-2, and that of the whole band as FITS."""
    table = spectrum_table(detections, spectrum)
    table.meta = {"OBJECT": title, "ID": data.candidate.id}
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table, name="SPECTRUM")]).writeto(_named(base, "spec.fits"))
    shown = table[data.channels] if data.mask.any() else table
    _named(base, "spec.txt").write_text(_spectrum_text(shown, title, bool(data.mask.any())), encoding="utf-8")


def spectrum_table(detections: Detections, spectrum: Spectrum) -> QTable:
    """A row for each channel of the band: channel, coordinates, flux density with error, and pixels."""
    cube, channel = detections.cube, np.arange(len(spectrum.flux))
    columns: dict = {"channel": channel}
    for name, values in (("freq", cube.frequency(channel)), ("v_rad", cube.velocity(channel))):
        if values is not None:
            columns[name] = values
    columns |= {
        "flux": spectrum.flux * spectrum.unit,
        "err_flux": spectrum.error * spectrum.unit,
        "pixels": spectrum.pixels,
        "aperture": spectrum.aperture * spectrum.unit,
        "err_aperture": spectrum.aperture_error * spectrum.unit,
    }
    return QTable(columns)


def _spectrum_text(table: QTable, title: str, masked: bool) -> str:
    """The columns of SoFiA-2 (channel, coordinate, flux density and pixels), and the error."""
    coordinate = next((name for name in ("freq", "v_rad") if name in table.colnames), None)
    flux, error = ("flux", "err_flux") if masked else ("aperture", "err_aperture")
    names = [("Channel", "-"), ("Flux density", unit_card(table[flux].unit)), ("Pixels", "-"), ("Error", "")]
    names[3] = ("Error", names[1][1])
    if coordinate is not None:
        word = "Frequency" if coordinate == "freq" else "Velocity"
        names.insert(1, (word, table[coordinate].unit.to_string()))
    lines = [
        f"# Integrated spectrum of {title}",
        "# Flux density: the sum over the source mask in each channel."
        if masked
        else "# Flux density: the sum over the box in each channel.",
        "# Error: 1 sigma of the noise, with the correlation of pixels.",
        *(["# Velocity: radio convention."] if coordinate == "v_rad" else []),
        "# f_sum in the catalogue is not the sum of this spectrum: with method mask, the mean of the line-free",
        "# channels of each pixel is subtracted; with point and fit, it is the flux of the fitted source.",
        "#",
        "#" + "".join(f"{name:>{9 if k == 0 else 18}}" for k, (name, _) in enumerate(names)),
        "#" + "".join(f"{unit:>{9 if k == 0 else 18}}" for k, (_, unit) in enumerate(names)),
        "#",
    ]
    for row in table:
        cells = [f"{row['channel']:10d}"]
        if coordinate is not None:
            cells.append(f"{row[coordinate].value:18.10e}")
        cells += [f"{row[flux].value:18.7e}", f"{row['pixels']:18d}", f"{row[error].value:18.7e}"]
        lines.append("".join(cells))
    return "\n".join(lines) + "\n"


def write_cut(detections: Detections, cut: PositionVelocity, title: str, base: Path) -> None:
    """Write the position-velocity cut; the first axis is the offset in arcsec along the position angle."""
    cube = detections.cube
    header = fits.Header()
    header["CTYPE1"] = "OFFSET"
    header["CUNIT1"] = "arcsec" if cube.celestial is not None else "pix"
    header["CRPIX1"], header["CRVAL1"], header["CDELT1"] = cut.middle + 1, 0.0, cut.step
    header.update(spectral_cards(cube, cut.first, 2))
    header["BUNIT"], header["OBJECT"] = unit_card(brightness_unit(cube)), title
    header["PVPA"] = (round(cut.angle, 4), f"[deg] {cut.axis}")
    if cube.beam is not None:
        header["BMAJ"], header["BMIN"] = cube.beam.major.to_value(u.deg), cube.beam.minor.to_value(u.deg)
        header["BPA"] = cube.beam.pa.to_value(u.deg)
    fits.writeto(_named(base, "pv.fits"), cut.values, header)


# --- the field -----------------------------------------------------------------------------------------------------


def write_field(
    detections: Detections, chosen: Sequence[Candidate], scales: Scales, field: Sums | None, folder: Path
) -> None:
    """Write mask, moments, channels and noise of the field."""
    cube, name = detections.cube, file_name(detections.cube.name)
    with replaced_together(folder, last=f"{name}_mom0.fits") as beside:
        if np.prod(cube.shape, dtype=float) <= MOST_MASK:
            write_mask(detections, chosen, beside / f"{name}_mask.fits")
        if field is not None:
            write_maps(detections, field, scales, (0, 0), cube.name, beside / name)
        write_noise(detections, beside / f"{name}_noise.fits")


def _place(data: SourceData) -> tuple[slice, slice]:
    (_, y, x), (ny, nx) = data.origin, data.footprint.shape
    return slice(y, y + ny), slice(x, x + nx)


def _named(base: Path, ending: str) -> Path:
    return base.with_name(f"{base.name}_{ending}")


def _image(values: np.ndarray, header: fits.Header, base: Path, kind: str) -> None:
    stored = values.astype(np.float32) if values.dtype == np.float64 else values
    fits.writeto(_named(base, f"{kind}.fits"), stored, header)
