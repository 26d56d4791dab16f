"""Do CASA, CARTA and the package `regions` read the region files that are written, to the pixel and the channel?

CASA wants an environment of its own; its data are 850 MB.

    python benchmarks/region_files.py write files/            # cubes, their regions, what was written
    python benchmarks/region_files.py regions files/          # `regions`, and this package
    python benchmarks/region_files.py carta files/            # by the rules of carta-backend, see by_carta
    python3.11 -m venv casa && casa/bin/pip install casatools==6.7.0.31 casadata
    casa/bin/python benchmarks/region_files.py casa files/

Each cube has boxes of all sizes and places, two of them in the first and in the last channel.  CASA takes every
pixel whose centre lies in a box or on its edge, and so must `regions`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

SHAPE = (40, 70, 90)  # channel, y, x
BOXES = 12  # of each cube
PROJECTIONS = ("SIN", "TAN", "SFL", "CAR", "ARC", "ZEA")
FRAMES = ("ICRS", "FK5", "FK4", "GALACTIC")
SPECTRAL = (  # axis: type, value, step, unit
    ("FREQ", 230.5e9, 4e6, "Hz"),
    ("FREQ", 230.6e9, -3e6, "Hz"),
    ("VRAD", -4e4, 5e3, "m/s"),
    ("VOPT", 6e5, -7e3, "m/s"),
)
STANDARDS = ("LSRK", "BARYCENT", "TOPOCENT", "HELIOCEN", "SOURCE", "LOCALGRP", "CMBDIPOL", "")


def header(rng: np.random.Generator, projection: str, frame: str, number: int) -> dict:
    """Cards of a cube somewhere on the sky, turned by any angle."""
    kind, value, step, unit = SPECTRAL[number % len(SPECTRAL)]
    lon, lat = ("GLON", "GLAT") if frame == "GALACTIC" else ("RA--", "DEC-")
    pixel, angle = 10 ** rng.uniform(-6.5, -3), rng.uniform(-180, 180) * (number % 3 > 0)
    cards = {"BUNIT": "Jy/beam", "BMAJ": 5 * pixel, "BMIN": 4 * pixel, "BPA": 20.0, "RESTFRQ": 230.538e9}
    places = (
        (lon, rng.uniform(0, 360), -pixel),
        (lat, 0.0 if projection in ("SFL", "CAR") else rng.uniform(-80, 80), pixel),
    )
    for i, (name, at, width) in enumerate(places, start=1):
        cards |= {f"CTYPE{i}": f"{name}-{projection}", f"CRVAL{i}": at, f"CDELT{i}": width, f"CUNIT{i}": "deg"}
        cards[f"CRPIX{i}"] = float(rng.uniform(1, 60))
    cards |= {"CTYPE3": kind, "CRVAL3": value, "CDELT3": step, "CUNIT3": unit, "CRPIX3": 1.0}
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    cards |= {"PC1_1": c, "PC1_2": -s, "PC2_1": s, "PC2_2": c}
    if frame != "GALACTIC":
        cards |= {"RADESYS": frame} | ({} if frame == "ICRS" else {"EQUINOX": 2000.0 if frame == "FK5" else 1950.0})
    standard = STANDARDS[number % len(STANDARDS)]
    return cards | ({"SPECSYS": standard} if standard else {})


def write(folder: Path, seed: int) -> None:
    """Write cubes, region files and what they hold."""
    from astropy.io import fits

    from napari_almadet import Settings, read_cube
    from napari_almadet.catalogue.candidate import Box, Candidate
    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.catalogue.export import write_regions

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    kinds = [(projection, frame) for projection in PROJECTIONS for frame in FRAMES]
    for number, (projection, frame) in enumerate(kinds):
        path = folder / f"{projection.lower()}-{frame.lower()}.fits"
        cards = fits.Header(header(rng, projection, frame, number))
        fits.writeto(path, np.ones(SHAPE, np.float32), cards, overwrite=True)
        candidates = []
        for i in range(1, BOXES + 1):
            (z0, z1), (y0, y1), (x0, x1) = (sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in SHAPE)
            candidates.append(Candidate(i, Box(y0, y1, x0, x1), 1.0, channels=(z0, z1)))
        candidates[0].channels = (0, 1)
        candidates[1].channels = (SHAPE[0] - 1, SHAPE[0])
        cube, plane = read_cube(path), np.zeros(SHAPE[1:], np.float32)
        found = Detections(cube, Settings(), candidates, plane, plane, {})
        for ending in ("crtf", "reg"):
            write_regions(found, path.with_suffix(f".{ending}"))
        true = {
            c.id: [c.box.x0, c.box.x1 - 1, c.box.y0, c.box.y1 - 1, c.channels[0], c.channels[1] - 1] for c in candidates
        }
        path.with_suffix(".json").write_text(json.dumps(true))
    print(f"{len(kinds)} cubes with {BOXES} regions each")


def by_regions(folder: Path) -> int:
    """Count regions that `regions`, or this package, reads otherwise than they were written."""
    from regions import Regions

    from napari_almadet import read_cube
    from napari_almadet.catalogue.export import read_boxes

    wrong = {"regions .crtf": 0, "regions .reg": 0, "napari-almadet .crtf": 0, "napari-almadet .reg": 0}
    total = 0
    for about in sorted(folder.glob("*.json")):
        true = list(json.loads(about.read_text()).values())
        cube = read_cube(about.with_suffix(".fits"))
        total += len(true)
        for ending in (".crtf", ".reg"):
            path = about.with_suffix(ending)
            own = [[b.x0, b.x1 - 1, b.y0, b.y1 - 1, z[0], z[1] - 1] for b, z in read_boxes(path, cube)]
            wrong[f"napari-almadet {ending}"] += sum(a != b for a, b in zip(own, true, strict=True))
            for region, (x0, x1, y0, y1, z0, z1) in zip(Regions.read(path), true, strict=True):
                image = region.to_pixel(cube.celestial).to_mask("center").to_image(SHAPE[1:])
                expected = np.zeros(SHAPE[1:], bool)
                expected[y0 : y1 + 1, x0 : x1 + 1] = True
                words = region.meta.get("range") or re.findall(r"\d+", str(region.meta.get("tag")))
                channels = [int(getattr(word, "value", word)) for word in words]
                wrong[f"regions {ending}"] += (
                    image is None or not np.array_equal(image > 0, expected) or channels != [z0, z1]
                )
    for reader, n in wrong.items():
        print(f"{reader}: {n} of {total} read otherwise than written")
    return sum(wrong.values())


def by_carta(folder: Path) -> int:
    """Count regions that CARTA would read otherwise than they were written.

    By the rules of its importers (carta-backend of 2024-09, src/Region: CrtfImportExport.cc, Ds9ImportExport.cc,
    RegionImportExport.cc): lines are split at spaces, commas and brackets; the frame is the global one; positions go
    through the image's coordinates; the sides of a box are divided by the header's steps, and its angle is one of
    the pixels; the corners of a polygon are pixels.
    """
    from astropy.coordinates import SkyCoord
    from regions import PixCoord, PolygonPixelRegion

    from napari_almadet import read_cube

    frames = {"icrs": "icrs", "j2000": "fk5", "fk5": "fk5", "b1950": "fk4", "fk4": "fk4", "galactic": "galactic"}
    wrong = {".crtf": 0, ".reg": 0}
    total = polygons = 0
    for about in sorted(folder.glob("*.json")):
        true = json.loads(about.read_text())
        wcs = read_cube(about.with_suffix(".fits")).celestial
        for ending in wrong:
            frame = None
            for line in about.with_suffix(ending).read_text().splitlines():
                words = [word for word in re.split(r"[ ,\[\]()#]", line) if word]
                if line.startswith("#"):
                    continue
                if words[0] == "global" or len(words) == 1:
                    frame = frames[words[-1].removeprefix("coord=").lower()]
                    continue
                kind, until = words[0], next(i for i, word in enumerate(words) if "=" in word)
                numbers = [float(word.removesuffix("deg")) for word in words[1:until]]
                name = re.search(r"label='(\d+)'|text={(\d+)}", line)
                if kind in ("rotbox", "box"):
                    numbers = numbers[:5]
                    x, y = wcs.world_to_pixel(SkyCoord(*numbers[:2], unit="deg", frame=frame))
                    sides = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) / 2 * numbers[2:4] / np.abs(wcs.wcs.cdelt)
                    c, s = np.cos(np.radians(numbers[4])), np.sin(np.radians(numbers[4]))
                    x, y = x + c * sides[:, 0] - s * sides[:, 1], y + s * sides[:, 0] + c * sides[:, 1]
                else:
                    polygons += 1
                    x, y = wcs.world_to_pixel(SkyCoord(numbers[0:8:2], numbers[1:8:2], unit="deg", frame=frame))
                mask = PolygonPixelRegion(PixCoord(np.array(x), np.array(y))).to_mask("center").to_image(SHAPE[1:])
                x0, x1, y0, y1 = true[name[1] or name[2]][:4]
                expected = np.zeros(SHAPE[1:], bool)
                expected[y0 : y1 + 1, x0 : x1 + 1] = True
                wrong[ending] += mask is None or not np.array_equal(mask > 0, expected)
                total += 1
    for ending, n in wrong.items():
        print(f"CARTA {ending}: {n} of {total // 2} read otherwise than written")
    print(f"{polygons} of {total} are polygons")
    return sum(wrong.values())


def by_casa(folder: Path) -> int:
    """Count regions of which CASA takes other voxels than were written."""
    folder = folder.resolve()
    with TemporaryDirectory() as work:
        os.chdir(work)
        image, manager, version = start_casa(Path(work))
        wrong = total = 0
        for about in sorted(folder.glob("*.json")):
            shutil.rmtree("cube.image", ignore_errors=True)
            image.fromfits("cube.image", str(about.with_suffix(".fits")), overwrite=True)
            shape, system = image.shape().tolist(), image.coordsys().torecord()
            lines = about.with_suffix(".crtf").read_text().splitlines()
            first = [line for line in lines if line.startswith(("#", "global"))]
            true = json.loads(about.read_text())
            for line in lines[len(first) :]:
                x0, x1, y0, y1, z0, z1 = true[re.search(r"label='(\d+)'", line)[1]]
                Path("one.crtf").write_text("\n".join([*first, line]) + "\n")
                total += 1
                try:
                    region = manager.fromtextfile("one.crtf", shape, system)
                    box = image.boundingbox(region)
                    mask = image.getregion(region, getmask=True)
                    voxels = int(mask.sum())
                except RuntimeError as error:
                    print(f"{about.stem}: {line[:60]}: {str(error)[:120]}")
                    wrong += 1
                    continue
                low, high = [x0, y0, z0], [x1, y1, z1]
                all_of = (x1 - x0 + 1) * (y1 - y0 + 1) * (z1 - z0 + 1)
                found = (
                    np.argwhere(mask) + box["blc"]
                )  # the bounds of a polygon may be a pixel wider than what is in it
                bounds = (found.min(axis=0).tolist(), found.max(axis=0).tolist()) if voxels else None
                if bounds != (low, high) or voxels != all_of:
                    print(f"{about.stem}: {low} {high} read as {bounds}, {voxels} of {all_of} voxels")
                    wrong += 1
            image.done()
    print(f"CASA {version}: {wrong} of {total} read otherwise than written")
    return wrong


def start_casa(work: Path) -> tuple:
    """CASA's image and region tools, with the data that were installed beside it, and its version."""
    import importlib.util

    (data,) = importlib.util.find_spec("casadata").submodule_search_locations
    (work / ".casa").mkdir()
    (work / ".casa" / "config.py").write_text(
        f'measurespath = "{data}/__data__"\nmeasures_auto_update = False\ndata_auto_update = False\nnologfile = True\n'
    )
    os.environ["HOME"] = str(work)
    import casatools

    casatools.logsink().setglobal(True)
    casatools.logsink().filter("SEVERE")
    return casatools.image(), casatools.regionmanager(), casatools.version_string()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "regions", "carta", "casa"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.what == "write":
        write(given.folder, given.seed)
    else:
        sys.exit({"regions": by_regions, "carta": by_carta, "casa": by_casa}[given.what](given.folder) > 0)


if __name__ == "__main__":
    main()
