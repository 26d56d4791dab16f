"""Products of `almadet detect --products` beside those that SoFiA-2 makes of the same cube with the same mask.

    almadet detect cube.fits -o out/ --products
    python benchmarks/products_beside_sofia.py out/cube --sofia ~/SoFiA-2/sofia

prints, for each source with a line, the largest difference of each map, relative to the map's maximum, and of places in
pixels; of moments 1 and 2 in km/s.  SoFiA-2 is given the cube as float32 and the source's mask; its maps of a cube in
frequency are brought from Hz to km/s, and its moment 1 has the rounding of float32 in Hz.  Moments 1 and 2 are compared
with those of its field, since SoFiA-2 2.2.1 counts negative voxels in cubelets.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from astropy import constants
from astropy.io import fits
from astropy.wcs import WCS

from napari_almadet import read_result
from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections
from napari_almadet.products.source_products import MARGIN
from napari_almadet.products.writing import file_name

LIGHT = constants.c.to_value("km/s")
OFF = ("scfind.enable", "scaleNoise.enable", "reliability.enable", "dilation.enable", "threshold.enable")


def run_sofia(sofia: Path, detections: Detections, candidate: Candidate, folder: Path) -> None:
    """Have SoFiA-2 measure a source by its mask."""
    cube = detections.cube
    header = cube.wcs.to_header()
    header["BUNIT"] = "Jy/beam"
    fits.writeto(folder / "cube.fits", np.nan_to_num(cube.read()), header)
    mask = (detections.labels([candidate]) > 0).astype(np.int32)
    fits.writeto(folder / "mask.fits", mask, header)
    settings = {
        **dict.fromkeys(OFF, "false"),
        **{f"linker.{name}": value for name, value in (("radiusXY", 3), ("radiusZ", 3), ("minSizeXY", 1))},
        "linker.minSizeZ": 1,
        "input.data": folder / "cube.fits",
        "input.mask": folder / "mask.fits",
        "parameter.wcs": "true",
        "output.directory": folder,
        "output.filename": "s",
        "output.writeCubelets": "true",
        "output.writeMoments": "true",
        "output.marginCubelets": MARGIN,
    }
    (folder / "run.par").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    subprocess.run([sofia, folder / "run.par"], cwd=sofia.parent, check=True, capture_output=True)


def differences(detections: Detections, candidate: Candidate, base: Path, folder: Path) -> dict[str, float]:
    """Largest difference of each product over its maximum (of moments 1 and 2: in km/s), and of places in pixels."""
    in_frequency = detections.cube.spectral_type == "FREQ"
    rest = detections.cube.rest_frequency.to_value("Hz") if in_frequency else None  # many cubes in velocity have none
    _, y, x = (slice(max(s.start - MARGIN, 0), s.stop + MARGIN) for s in candidate.mask.slices)
    found = {}
    for kind in ("cube", "mask", "chan", "mom0", "mom1", "mom2"):
        ours = fits.open(f"{base}_{kind}.fits")[0]
        velocity = kind in ("mom1", "mom2")
        path = folder / (f"s_{kind}.fits" if velocity else f"s_cubelets/s_1_{kind}.fits")
        theirs = fits.open(path)[0]
        one, other = ours.data.astype(float), theirs.data.squeeze().astype(float)
        if velocity:
            other = other[y, x]
        if kind in ("mom0", "mom2"):
            other = other * (LIGHT / rest if in_frequency else 1e-3)
        if kind == "mom1":
            other = LIGHT * (1 - other / rest) if in_frequency else other * 1e-3
        known = np.isfinite(one) & np.isfinite(other)
        scale = 1.0 if velocity else np.abs(other[known]).max()
        found[kind] = float(np.abs(one - other)[known].max() / scale)
        if not velocity:
            middle = [[n // 2 for n in one.shape[::-1]]]
            there = WCS(ours.header).all_world2pix(WCS(theirs.header).all_pix2world(middle, 0), 0)
            found["pixels"] = max(found.get("pixels", 0.0), float(np.abs(there - middle).max()))
    return found


def main() -> None:
    """Compare the sources of a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="folder of a result with products")
    parser.add_argument("--sofia", type=Path, required=True, help="the program sofia of SoFiA-2")
    given = parser.parse_args()
    detections = read_result(given.result)
    name = file_name(detections.cube.name)
    for candidate in detections.kept:
        if candidate.mask is None or candidate.kind != "line":
            continue
        with tempfile.TemporaryDirectory() as folder:
            run_sofia(given.sofia.resolve(), detections, candidate, Path(folder))
            base = given.result / f"{name}_cubelets" / f"{name}_{candidate.id}"
            found = differences(detections, candidate, base, Path(folder))
        print(candidate.id, "  ".join(f"{kind} {value:.1e}" for kind, value in found.items()))


if __name__ == "__main__":
    main()
