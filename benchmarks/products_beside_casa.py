"""Does CASA read the products of a detection: shapes, masks, values, units, beams, frames, coordinates to 0.01 pixel?

CASA wants an environment of its own; its data are 850 MB.

    almadet detect cube.fits -o out/ --products
    python3.11 -m venv casa && casa/bin/pip install casatools==6.7.0.31 casadata astropy
    casa/bin/python benchmarks/products_beside_casa.py out/

Each FITS image in the folder is opened by CASA's ``image`` tool and by astropy, and what differs is printed.  The
folder's own ``mask.fits`` is left out: it is compressed, which CASA does not read.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from region_files import start_casa

NEAR = 0.01  # pixels
POINTS = 6  # of each image, whose coordinates are compared
CONVENTIONS = {"VRAD": u.doppler_radio, "VOPT": u.doppler_optical, "VELO": u.doppler_relativistic}
FRAMES = {"ICRS": "ICRS", "FK5": "J2000", "FK4": "B1950"}


def differences(image: Any, path: Path, number: int, work: Path) -> list[str]:
    """What CASA reads otherwise than astropy in an image of a file, HDU ``number``."""
    with fits.open(path) as hdus:
        header, data = hdus[number].header, np.squeeze(np.array(hdus[number].data))
        by_channel = any(hdu.name == "BEAMS" for hdu in hdus)
    image.done()
    image.fromfits(str(work / f"{path.stem}.{len(os.listdir(work))}.image"), str(path), whichhdu=number)
    found = []
    values, known = (np.squeeze(image.getchunk(getmask=mask)).T for mask in (False, True))
    if values.shape != data.shape:
        return [f"its shape is {values.shape}, not {data.shape}"]
    there = np.isfinite(data)
    if not np.array_equal(known, there):
        found.append(f"{np.count_nonzero(known != there)} pixels are masked otherwise")
    if not np.array_equal(values[there].astype(np.float32), data[there].astype(np.float32)):
        found.append("the values differ")
    if image.brightnessunit().replace(".", " ") != str(header.get("BUNIT", "")).strip():
        found.append(f"the unit is {image.brightnessunit()!r}, not {header.get('BUNIT')!r}")
    found += beam_differences(image.restoringbeam(), header, by_channel)
    found += frame_differences(image.coordsys(), header)
    off = farthest(image, header)
    return found if off < NEAR else [*found, f"coordinates differ by {off:.2g} pixels"]


def beam_differences(beam: dict, header: fits.Header, by_channel: bool) -> list[str]:
    """Compare CASA's beam with the header's."""
    if "BMAJ" not in header:
        return [] if bool(beam) == by_channel else ["there is a beam too many or too few"]
    if "major" not in beam:
        return ["the beam is missing"]
    major, minor = (u.Quantity(beam[k]["value"], beam[k]["unit"]).to_value("deg") for k in ("major", "minor"))
    turned = (beam["positionangle"]["value"] - header["BPA"] + 90) % 180 - 90
    sizes = np.allclose([major, minor], [header["BMAJ"], header["BMIN"]], rtol=1e-5)
    return [] if sizes and abs(turned) < 0.01 else [f"the beam is {major} x {minor} deg"]


def frame_differences(system: Any, header: fits.Header) -> list[str]:
    """Compare the frames of the sky and of the spectral axis, and the rest frequency."""
    found, axes = [], list(system.axiscoordinatetypes())
    if "Direction" in axes and system.referencecode("direction")[0] != FRAMES[header.get("RADESYS", "ICRS")]:
        found.append(f"the sky frame is {system.referencecode('direction')[0]}")
    if "Spectral" in axes:
        frame, rest = system.referencecode("spectral")[0], float(np.ravel(system.restfrequency()["value"])[0])
        if header.get("SPECSYS", "")[:4] != frame[:4]:
            found.append(f"the standard of rest is {frame}")
        if header.get("RESTFRQ") and abs(rest / header["RESTFRQ"] - 1) > 1e-9:
            found.append(f"the rest frequency is {rest}")
    return found


def farthest(image: Any, header: fits.Header) -> float:
    """The largest distance in pixels between places of CASA's and of astropy's, over the whole image."""
    wcs, shape, units = WCS(header), np.array(image.shape()), image.coordsys().units()
    rng, off = np.random.default_rng(1), 0.0
    for place in [0 * shape, shape - 1, *(rng.uniform(0, 1, (POINTS - 2, len(shape))) * (shape - 1))]:
        world = []
        there = np.ravel(image.toworld(place.tolist(), "n")["numeric"])
        for i, (value, unit) in enumerate(zip(there, units, strict=True)):
            quantity, wanted = u.Quantity(value, unit.replace("''", "arcsec")), wcs.wcs.cunit[i]
            convention = CONVENTIONS.get(header.get(f"CTYPE{i + 1}", "")[:4])
            rest = header.get("RESTFRQ")
            same = [] if convention is None or not rest else convention(rest * u.Hz)
            world.append(quantity.to_value(wanted, same) if wanted != u.dimensionless_unscaled else value)
        off = max(off, float(np.abs(wcs.all_world2pix([world], 0)[0] - place).max()))
    return off


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    images = wrong = 0
    with TemporaryDirectory() as work:
        image, _, version = start_casa(Path(work))
        (Path(work) / "images").mkdir()
        for path in sorted(folder.rglob("*.fits")):
            with fits.open(path) as hdus:
                numbers = [i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.data is not None]
            if path.name == "mask.fits" or not numbers:
                continue
            images += 1
            for text in differences(image, path, numbers[0], Path(work) / "images"):
                print(f"{path.relative_to(folder)}: {text}")
                wrong += 1
        image.done()
    print(f"CASA {version}: {images} images, {wrong} differences")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
