"""Do injections into one cube predict what is found in other cubes of its kind?

    python benchmarks/completeness.py                  # 24 fresh cubes, 200 injected sources
    python benchmarks/completeness.py --cubes 60 --number 500 --jobs 2

Sources of the same widths and fluxes are (a) injected into one cube with `almadet completeness` and (b) simulated in
fresh cubes, each with noise of its own, by `benchmarks/accuracy.py`, which shares no code with the injection.  For each
width and bin of S/N it prints both completenesses with their 95 % intervals, and whether each lies in what
the other allows: a difference of less than 1.96 standard errors.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from accuracy import CHANNEL, KINDS, PIXEL, Kind, covariance, cube_of, gaussian, noise, places
from astropy.io import fits
from astropy.table import QTable, Table

from napari_almadet import Settings, detect, read_cube
from napari_almadet.cli.completeness import Rounds, run
from napari_almadet.detection import load_networks
from napari_almadet.evaluation.completeness_tables import limits
from napari_almadet.evaluation.injection import Injection
from napari_almadet.evaluation.injection_rounds import Options, matched
from napari_almadet.evaluation.matching import Rate

KIND = replace(KINDS["compact"], side=160, channels=64, sources=7, resolved=0.0)
WIDTHS = (4.0, 10.0)  # channels
RANGE = (2.0, 20.0)  # of the matched S/N
EDGES = (2.0, 3.5, 5.0, 6.0, 7.5, 10.0, 20.0)
RMS = 1e-3  # Jy/beam


def fresh(kind: Kind, seed: int, truth: bool = True) -> tuple[np.ndarray, list[tuple[Injection, float]]]:
    """Planes of noise with sources of :data:`WIDTHS`, and the sources with their S/N."""
    rng = np.random.default_rng([seed, 17])
    beam = covariance(*kind.beam)
    data = noise(rng, kind, beam) * RMS
    channel, sources = np.arange(kind.channels), []
    for k, (x, y, _) in enumerate(places(rng, kind, float(np.linalg.det(beam) ** 0.25)) if truth else []):
        width = WIDTHS[k % len(WIDTHS)]
        z = rng.uniform(width, kind.channels - 1 - width)
        line = np.exp(-4 * np.log(2) * ((channel - z) / width) ** 2)
        snr = float(np.exp(rng.uniform(*np.log(RANGE))))
        height = snr * RMS / np.sqrt((line**2).sum())
        data += height * line[:, None, None] * gaussian(kind.side, x, y, beam)
        sources.append((Injection(x, y, z, height * line.sum() * CHANNEL, width, 0.0), snr))
    return data.astype(np.float32), sources


def written(data: np.ndarray, kind: Kind, path: Path) -> Path:
    """Planes as a FITS cube, said to be CLEANed."""
    header = cube_of(data, kind).wcs.to_header()
    header["BUNIT"], header["HISTORY"] = "Jy/beam", "niter=1000"
    header["BMAJ"], header["BMIN"], header["BPA"] = *(a * PIXEL / 3600 for a in kind.beam[:2]), kind.beam[2]
    fits.writeto(path, data, header, overwrite=True)
    return path


def truth_rows(kind: Kind, cubes: int, seed: int, folder: Path) -> Table:
    """What is found in fresh cubes."""
    settings = Settings(device="cpu")
    networks, rows = load_networks(settings), []
    fwhm = float(np.linalg.det(covariance(*kind.beam)) ** 0.25)
    for number in range(1, cubes + 1):
        data, sources = fresh(kind, seed + number)
        cube = read_cube(written(data, kind, folder / "fresh.fits"))
        candidates = detect(cube, settings, networks=networks).candidates
        found = matched([source for source, _ in sources], candidates, fwhm, np.ones(kind.channels, bool))
        for (source, snr), candidate in zip(sources, found, strict=True):
            kept = candidate is not None and str(candidate.status) == "kept"
            rows.append((source.width * CHANNEL, source.flux, snr, kept, candidate.f_sum if kept else np.nan))
    return Table(rows=rows, names=("width", "flux", "snr", "found", "f_sum"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cubes", type=int, default=24, help="fresh cubes")
    parser.add_argument("--number", type=int, default=200, help="injected sources")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = written(fresh(KIND, options.seed, truth=False)[0], KIND, folder / "mine.fits")
        work = Rounds(Settings(device="cpu"), folder / "out")
        run(read_cube(mine), work, Options(WIDTHS, (0.0,)), options.number, options.jobs, quiet=False)
        injected = QTable.read(folder / "out" / "injections.ecsv")
        truth = truth_rows(KIND, options.cubes, options.seed, folder)
    rows = {
        "injected": Table({n: np.array(getattr(injected[n], "value", injected[n])) for n in truth.colnames}),
        "fresh": truth,
    }
    apart = count = 0
    for width in sorted(set(truth["width"])):
        of = {name: table[np.isclose(table["width"], width)] for name, table in rows.items()}
        print(f"\nlines of {width:g} km/s\n  S/N        {'injected':31} {'fresh cubes':31} apart by (sigma)")
        for low, high in pairwise(EDGES):
            rates = []
            for table in of.values():
                inside = table[(table["snr"] >= low) & (table["snr"] < high)]
                rates.append(Rate(int(inside["found"].sum()), len(inside)))
            pooled = sum(r.hits for r in rates) / max(sum(r.total for r in rates), 1)
            error = np.sqrt(pooled * (1 - pooled) * sum(1 / max(r.total, 1) for r in rates))
            sigma = abs(rates[0].value - rates[1].value) / error if error > 0 else 0.0
            apart, count = apart + (sigma > 1.96), count + 1
            print(f"  {low:4g}-{high:<4g}  {rates[0]!s:31} {rates[1]!s:31} {sigma:.1f}")
        for name, table in of.items():
            said = " ".join(
                f"{level}: {v:.3g} [{a:.3g}, {b:.3g}]"
                for level, (v, (a, b)) in zip(("50 %", "90 %"), limits(table), strict=True)
            )
            ratio = np.nanmedian((table["f_sum"] / table["flux"])[np.asarray(table["found"])])
            print(f"  {name:9} Jy km/s of {said}; measured / true flux {ratio:.3f}")
    print(f"\n{apart} of {count} bins are apart by more than 1.96 sigma (expected: {0.05 * count:.1f})")


if __name__ == "__main__":
    main()
