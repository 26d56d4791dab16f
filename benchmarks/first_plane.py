"""How long napari takes to show the first plane of a cube larger than memory, and what scrolling through it takes.

Run it under a display, or without one as ``xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/first_plane.py``.
The cube is a plain FITS file of ``--gb`` with noise in some channels and holes in the others, which take no room on
the disk.  It is opened as a user would, and counts as shown when Qt and the canvas have drawn it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import psutil
from astropy.io import fits
from qtpy.QtWidgets import QApplication

from napari_almadet.plugin.panels import PLUGIN

SIDE = 1200
SCROLLED = 50  # channels


def write_sparse(path: Path, size: float) -> int:
    """Write a cube of so many bytes; returns the number of its channels."""
    plane = SIDE * SIDE * 4
    channels = int(size / plane)
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3)])
    axes = (("RA---SIN", 83.8, -3e-5, "deg"), ("DEC--SIN", -5.4, 3e-5, "deg"), ("FREQ", 230e9, 1e5, "Hz"))
    for i, ((ctype, value, step, unit), n) in enumerate(zip(axes, (SIDE, SIDE, channels), strict=True), 1):
        header[f"NAXIS{i}"] = n
        header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"], header[f"CUNIT{i}"] = ctype, value, step, unit
        header[f"CRPIX{i}"] = n / 2
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 1.5e-4, 1.5e-4, 0.0
    text = header.tostring().encode()
    noise = np.random.default_rng(1).normal(size=(SIDE, SIDE)).astype(">f4").tobytes()
    with path.open("wb") as file:
        file.write(text)
        for channel in range(0, channels, channels // SCROLLED):
            file.seek(len(text) + channel * plane)
            file.write(noise)
        file.truncate(len(text) + channels * plane)
    return channels


def draw() -> None:
    """Let everything be drawn: what is drawn may ask for more to be drawn."""
    for _ in range(4):
        QApplication.processEvents()


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=100.0)
    options = parser.parse_args()
    viewer = napari.Viewer()
    draw()
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cube.fits"
        channels = write_sparse(path, 1e9 * options.gb)
        before, start, used = process.memory_info().rss, time.perf_counter(), time.process_time()
        viewer.open(path, plugin=PLUGIN)
        draw()
        clock, processor = time.perf_counter() - start, time.process_time() - used
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
        print(
            f"first plane of {channels} x {SIDE} x {SIDE}: {clock:.2f} s, of processor time {processor:.2f} s ({load})"
        )
        for channel in range(0, channels, channels // SCROLLED):
            viewer.dims.set_point(0, channel)
            draw()
        grown = process.memory_info().rss - before
        print(f"memory more than before, after {SCROLLED} other channels: {grown / 1e6:.0f} MB")
        viewer.close()


if __name__ == "__main__":
    main()
