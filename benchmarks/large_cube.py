"""What a large cube takes: memory, time for each voxel, and completeness beside small cubes of the same fields.

    almadet simulate cubes/huge -n 1 --mosaic 18 --set test
    almadet simulate cubes/small -n 8 --mosaic 2 --set test
    python benchmarks/large_cube.py cubes/huge cubes/small --memory 4

Every cube of the folders is searched by ``almadet detect`` in a process of its own, whose resident memory is looked
at ten times a second and whose processor time is its own.  Sources are matched one to one within 3 pixels, see
docs/validation.md.  A source counts that has an SNR of 5 or more, in the stack or in its line.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits
from astropy.table import QTable

from napari_almadet.evaluation.matching import Rate, match

LEAST_SNR = 5.0


@dataclass
class Run:
    """One cube's: voxels, s of processor time, s on the clock, GB resident at most; how many sources and candidates.

    ``true`` are bright enough to count, ``hits`` those of them that were found; of ``found`` candidates ``right``
    are sources of any brightness.
    """

    voxels: int
    processor: float
    clock: float
    memory: float
    true: int
    hits: int
    found: int
    right: int


def search(folder: Path, memory: float, scratch: Path) -> Run:
    """Search one simulated cube."""
    command = [
        sys.executable,
        "-c",
        "from napari_almadet.cli.app import app; app()",
        "detect",
        str(folder / "dirty.fits"),
    ]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = psutil.Popen([*command, "-q", "-o", str(scratch), "--memory", str(memory)])
    highest = 0
    while process.poll() is None:
        try:
            highest = max(highest, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    if process.wait():
        raise SystemExit(f"{folder} could not be searched")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shape = fits.getdata(folder / "dirty.fits", memmap=True).shape
    truth = QTable.read(folder / "truth.ecsv")
    seen = np.maximum(truth["snr_stack"], truth["snr_line"]) >= LEAST_SNR
    true, kept = (
        np.array([table[axis].to_value("pix") for axis in "xy"]).T
        for table in (truth, QTable.read(scratch / "dirty" / "catalog.ecsv"))
    )
    pairs = match(true, kept)
    return Run(
        voxels=int(np.prod(shape)),
        processor=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        clock=time.monotonic() - start,
        memory=highest / 1e9,
        true=int(seen.sum()),
        hits=int(seen[pairs[:, 0]].sum()),
        found=len(kept),
        right=len(pairs),
    )


def main() -> None:
    """Search all cubes of some folders and print a line for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="made by almadet simulate")
    parser.add_argument("--memory", type=float, default=4.0, help="GB a run may use")
    options = parser.parse_args()
    print(f"{'':20} cubes    GB     ns/voxel  clock s  GB used  completeness, purity")
    for parent in options.folders:
        runs = []
        for folder in sorted(path.parent for path in parent.glob("*/dirty.fits")):
            with tempfile.TemporaryDirectory() as scratch:
                runs.append(search(folder, options.memory, Path(scratch)))
        total = {name: sum(getattr(run, name) for run in runs) for name in Run.__dataclass_fields__}
        most = max(run.memory for run in runs)
        print(
            f"{parent.name:20} {len(runs):5} {4e-9 * total['voxels']:6.1f} "
            f"{1e9 * total['processor'] / total['voxels']:10.0f} {total['clock']:8.0f} {most:8.2f}  "
            f"{Rate(total['hits'], total['true'])}, {Rate(total['right'], total['found'])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
