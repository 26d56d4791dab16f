"""Two HI galaxies of the WHISP survey that nothing was made with: rows, probability and flux, beside SoFiA-2.

    python benchmarks/real_galaxies.py galaxies/ --sofia ~/SoFiA-2/sofia

fetches the cubes of NGC 5204 and UGC 1281 from PyPI (the wheel of pyHIARD 1.1.4, 9 MB, holds them), searches both with
the default settings, and prints the kept candidates.  With ``--sofia``, SoFiA-2 searches them too (5 sigma, its
defaults otherwise); the flux given for it is the sum of the cube over its mask, in our units: only the masks differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits

from napari_almadet import Detections, detect, read_cube
from napari_almadet.catalogue.detections import channel_width, flux_factor

PACKAGE = "pyHIARD==1.1.4"  # later wheels hold no cubes
GALAXIES = ("NGC_5204", "UGC_1281")
THRESHOLD = 5  # sigma


def fetch(folder: Path) -> list[Path]:
    """The two cubes, fetched unless they are in the folder."""
    paths = [folder / f"{name}.fits" for name in GALAXIES]
    if not all(path.exists() for path in paths):
        with tempfile.TemporaryDirectory() as wheels:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", wheels]
            subprocess.run([*pip, PACKAGE], check=True)
            (wheel,) = Path(wheels).glob("*.whl")
            folder.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as files:
                for name, path in zip(GALAXIES, paths, strict=True):
                    path.write_bytes(files.read(f"pyHIARD/Resources/Cubes/{name}/{name}_Original.fits"))
    return paths


def sofia_sums(sofia: Path, found: Detections) -> list[u.Quantity]:
    """Sums of the cube over the masks of SoFiA-2's sources."""
    cube = found.cube
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fits.writeto(folder / "cube.fits", cube.read().astype(np.float32))
        settings = {
            "input.data": folder / "cube.fits",
            "scfind.threshold": THRESHOLD,
            "parameter.wcs": "false",
            "output.directory": folder,
            "output.filename": "s",
            "output.writeMask": "true",
        }
        (folder / "run.par").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
        subprocess.run([sofia, folder / "run.par"], cwd=sofia.parent, check=True, capture_output=True)
        mask = fits.getdata(folder / "s_mask.fits").squeeze()
    factor, density = flux_factor(cube)
    sums = {int(label): 0.0 for label in np.unique(mask[mask > 0])}
    for z, plane in enumerate(mask):
        for label in np.unique(plane[plane > 0]):
            sums[int(label)] += float(np.nansum(cube.read(z)[plane == label])) * channel_width(cube, z).value
    return [value * factor * density * channel_width(cube).unit for value in sums.values()]


def main() -> None:
    """Search and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the cubes are kept")
    parser.add_argument("--sofia", type=Path, help="the program sofia of SoFiA-2")
    given = parser.parse_args()
    for path in fetch(given.folder):
        found = detect(read_cube(path))
        for c in found.kept:
            flux = f"{c.f_sum:.4g} ± {c.err_f_sum:.2g} {found.flux_unit}"
            print(f"{path.stem}  candidate {c.id}: {c.status.value}, prob {c.prob:.2f}, {flux}, by its {c.method}")
        if given.sofia is not None:
            sums = sofia_sums(given.sofia.resolve(), found)
            print(f"{path.stem}  SoFiA-2, sums over its masks:", *(f"{x:.4g}" for x in sums))


if __name__ == "__main__":
    main()
