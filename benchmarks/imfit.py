"""Fluxes of isolated sources beside those of CASA's imfit, on the same simulated cubes.

CASA wants an environment of its own; its data are 850 MB.

    python benchmarks/imfit.py write files/ --cubes 4           # simulate, detect, write moment maps
    python3.11 -m venv casa && casa/bin/pip install casatools==6.7.0.31 casadata
    casa/bin/python benchmarks/imfit.py casa files/             # imfit's fluxes
    python benchmarks/imfit.py compare files/                   # the table

The cubes are those of `benchmarks/accuracy.py` without continuum, so many for each range of S/N.  imfit is given each
source's moment map over the channels that hold its line (:data:`LINE` FWHM to both sides of its true centre), a box of
:data:`BOX` beams about it, and its true place to begin with: more than an astronomer knows.  It fits one elliptical
Gaussian.  The table has medians of measured / true - 1, with their errors, and the scatter by the median absolute
deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

KINDS = ("compact", "resolved", "elongated", "smoothed")
LINE = 1.2  # FWHM of the line to both sides: all of a Gaussian but 0.5 %
BOX = 2.5  # beams from the source to each side
BINS = ((8, 15), (15, 30), (30, 60), (60, 1000), (8, 1000))  # S/N of the line


def write(folder: Path, cubes: int, seed: int) -> None:
    """Simulate, detect, and write moment maps with what is true and what was measured."""
    from accuracy import CHANNEL, RANGES, covariance, simulated
    from accuracy import KINDS as ALL
    from astropy.io import fits

    from napari_almadet import Settings, detect
    from napari_almadet.detection import load_networks

    folder.mkdir(parents=True, exist_ok=True)
    networks, rows = load_networks(Settings()), []
    for kind_name in KINDS:
        beam = float(np.linalg.det(covariance(*ALL[kind_name].beam)) ** 0.25)
        for i in range(len(RANGES) * cubes):
            kind = replace(ALL[kind_name], snr=RANGES[i // cubes])
            cube, sources = simulated(kind, 1000 * seed + 100 * list(ALL).index(kind_name) + i)
            planes = cube.read(slice(None), slice(None), slice(None))
            kept = detect(cube, Settings(beam="clean"), networks=networks).kept
            for number, source in enumerate(sources):
                near = min(kept, key=lambda c, s=source: np.hypot(c.x - s.x, c.y - s.y), default=None)
                if near is None or np.hypot(near.x - source.x, near.y - source.y) > 3:
                    continue
                half = LINE * source.w50 / CHANNEL
                low, high = (round(source.z + side * half) for side in (-1, 1))
                image = planes[max(low, 0) : high + 1].sum(axis=0) * CHANNEL
                name = f"{kind_name}-{i}-{number}.fits"
                header = cube.wcs.celestial.to_header()
                header.update(cube.beams.to_header_keywords())
                header["BUNIT"] = "Jy/beam"  # of sums over channels; imfit knows no Jy km/s
                fits.writeto(folder / name, image.astype(np.float32), header, overwrite=True)
                rows.append(
                    {
                        "kind": kind_name,
                        "file": name,
                        "snr": source.snr,
                        "truth": source.f_sum,
                        "flux": near.f_sum,
                        "error": near.err_f_sum,
                        "x": source.x,
                        "y": source.y,
                        "half": BOX * beam,
                    }
                )
    (folder / "sources.json").write_text(json.dumps(rows))
    print(len(rows), "sources of", len(KINDS) * len(RANGES) * cubes, "cubes")


def by_casa(folder: Path) -> None:
    """Fit each moment map with CASA."""
    from region_files import start_casa

    rows = json.loads((folder / "sources.json").read_text())
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        image, _, _ = start_casa(Path(work))
        for row in rows:
            image.fromfits("moment.image", str(folder / row["file"]), overwrite=True)
            ny, nx = image.shape()[1], image.shape()[0]
            corner = [max(0, round(row[a] - row["half"])) for a in "xy"]
            other = [min(n - 1, round(row[a] + row["half"])) for a, n in (("x", nx), ("y", ny))]
            # peak, x, y, major, minor, angle: where to begin
            pixel = abs(image.coordsys().increment()["numeric"][0])
            beam = image.restoringbeam()
            start = Path(work) / "start.txt"
            peak = image.pixelvalue([round(row["x"]), round(row["y"])])["value"]["value"]
            width = beam["major"]["value"]
            start.write_text(
                f"{peak},{row['x']},{row['y']},{1.2 * width}arcsec,{beam['minor']['value']}arcsec,"
                f"{beam['positionangle']['value']}deg\n"
            )
            fit = image.fitcomponents(
                box=f"{corner[0]},{corner[1]},{other[0]},{other[1]}", estimates=str(start), dooff=False
            )
            image.done()
            found = fit["converged"].any() and fit["results"]["nelements"]
            row["imfit"] = float(fit["results"]["component0"]["flux"]["value"][0]) if found else None
            row["pixel"] = float(pixel)
    (folder / "imfit.json").write_text(json.dumps(rows))


def compare(folder: Path) -> None:
    """Bias and scatter of both, by kind and S/N."""
    rows = json.loads((folder / "imfit.json").read_text())
    print("| kind | S/N | sources | bias | scatter | imfit: bias | scatter | not converged |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in (*KINDS, "all"):
        of_kind = [row for row in rows if kind in (row["kind"], "all")]
        for low, high in BINS:
            some = [row for row in of_kind if low <= row["snr"] < high]
            both = [row for row in some if row["imfit"] is not None]
            if len(both) < 5:
                continue
            cells = []
            for name in ("flux", "imfit"):
                off = np.array([row[name] / row["truth"] - 1 for row in both])
                scatter = 1.4826 * np.median(np.abs(off - np.median(off)))
                error = 1.25 * scatter / np.sqrt(len(off))  # of a median
                cells.append(f"{100 * np.median(off):+.1f} ± {100 * error:.1f} % | {100 * scatter:.1f} %")
            print(f"| {kind} | {low}-{high} | {len(both)} | {' | '.join(cells)} | {len(some) - len(both)} |")


def main() -> None:
    """Do one of the three steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "casa", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cubes", type=int, default=4, help="of each kind and range of S/N")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = given.folder.resolve()
    if given.what == "write":
        write(folder, given.cubes, given.seed)
    else:
        {"casa": by_casa, "compare": compare}[given.what](folder)


if __name__ == "__main__":
    main()
