"""How long the window takes: from a click to everything redrawn, a verdict, a scroll; and its longest stalls.

Run it under a display, or without one as ``xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/window.py``.
It opens the real window on a cube of 128 x 360 x 360 with ``--candidates`` candidates made up in it, and works it
through Qt events.  A click counts until Qt and the canvas have drawn all that it changed.  The stall of a detection is
the longest time between two beats of a timer of 5 ms, while the shipped networks search the sample cube; what the
window adds to the search is the time from the click to its first step, and from its end to the boxes drawn.

``--alone`` leaves the plugin's panels out: what napari itself takes for its slider, and to add, draw and remove a
layer.  To add a Shapes layer, and to draw it for the first time, with its letters and programs of OpenGL, are one call
each that no plugin can divide; the plugin has the letters made beforehand.

``--cube 1`` opens a cube of 1 GB of noise instead, which is not in the memory then: the time to its first plane, from
clicks on random pixels to their spectra, and the longest stall meanwhile.

Every time is given twice: by the clock, which other programs on the machine lengthen, and of the processor as far as
the window's own thread used it, which they hardly do.  OpenGL in software (Mesa's llvmpipe) draws in threads of
its own, which only the clock sees.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import napari
import numpy as np
from astropy.io import fits
from napari.layers import Shapes
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.detections import Detections
from napari_almadet.catalogue.result_folder import write_result
from napari_almadet.inspection.apertures import gaussian
from napari_almadet.plugin.detect_widget import INSPECTOR, detection
from napari_almadet.plugin.layers import make_result_layers
from napari_almadet.plugin.panels import PLUGIN, WIDGET, open_widget
from napari_almadet.settings import Settings

SHAPE = (128, 360, 360)
LARGE = 1200  # pixels of a large cube's side


class Timed:
    """A search that remembers when it began and ended, in ms of the clock."""

    def __init__(self, run: Callable):
        self.run, self.began, self.ended = run, 0.0, 0.0

    def __call__(self, *given: object) -> Generator:
        self.began = now()[0]
        found = yield from self.run(*given)
        self.ended = now()[0]
        return found


class Beat:
    """A timer that remembers the longest time between two of its beats: by the clock, and of the processor, in ms."""

    def __init__(self):
        self.timer = QTimer()
        self.timer.timeout.connect(self._beat)
        self.timer.start(5)
        self.start()

    def start(self) -> None:
        """Forget what was."""
        self.last, self.longest = now(), np.zeros(2)

    def _beat(self) -> None:
        then, self.last = self.last, now()
        self.longest = np.maximum(self.longest, self.last - then)


def now() -> np.ndarray:
    """The clock, and what this thread has used of the processor, in ms."""
    return 1e3 * np.array([time.perf_counter(), time.thread_time()])


def made_up(cube, number: int, seed: int = 0) -> Detections:
    """Detections with spectra and images from the cube, at random places: the window does not mind."""
    rng = np.random.default_rng(seed)
    data, channels = cube.read(), np.arange(SHAPE[0])
    candidates = []
    for i in range(1, number + 1):
        y, x = rng.integers(40, SHAPE[1] - 40, 2)
        z, fwhm = rng.uniform(10, SHAPE[0] - 10), rng.uniform(3, 12)
        peak = EmissionPeak(int(z), 0.9, 0.9, z, fwhm)
        first, last = peak.emission_range(SHAPE[0])
        box = Box(int(y - 6), int(y + 7), int(x - 6), int(x + 7))
        corner = (int(y - 32), int(x - 32))
        candidates.append(
            Candidate(
                id=i,
                box=box,
                prob=float(rng.uniform(0.1, 1)),
                spectrum=data[:, *box.slices].sum(axis=(1, 2)),
                denoised=gaussian(peak, channels).astype(np.float32),
                peaks=(peak,),
                channels=(first, last),
                decisions=[remark("kept: made up")],
                focused=data[first:last, corner[0] : corner[0] + 64, corner[1] : corner[1] + 64].sum(axis=0),
                focus_origin=corner,
                snr_global=float(rng.uniform(2, 20)),
                snr_pixel=float(rng.uniform(5, 30)),
                x=float(x),
                y=float(y),
                z=z,
                f_sum=1.0,
                err_f_sum=0.1,
            )
        )
    return Detections(cube, Settings(), candidates, data.sum(axis=0), data.max(axis=0), {"device": "cpu"})


def settle() -> None:
    """Let everything be drawn, Qt's widgets and napari's canvas: what is drawn may ask for more to be drawn."""
    for _ in range(4):
        QApplication.processEvents()


def timed(act: Callable[[int], object], times: int = 20) -> str:
    """Median and longest time in ms of an act and all the drawing it brings."""
    spent = []
    for i in range(times):
        start = now()
        act(i)
        settle()
        spent.append(now() - start)
    clock, processor = zip(*spent, strict=True)
    return (
        f"{statistics.median(clock):5.0f} ms, longest {max(clock):5.0f} ms; "
        f"of the processor {statistics.median(processor):4.0f} ms, longest {max(processor):4.0f} ms"
    )


def stall(beat: Beat) -> str:
    """The longest stall in words."""
    clock, processor = beat.longest
    return f"{clock:.0f} ms; of the processor {processor:.0f} ms"


def inspect(widget, number: int) -> None:
    """Click, judge, sort, filter, scroll and step through the channels with many candidates."""
    session, table = widget.session, widget.table
    found = made_up(session.image.metadata["cube"], number)
    beat, shown, start = Beat(), [], now()
    made = make_result_layers(found, session.image)
    making = now() - start
    beat.start()
    session.present_in_turns(session.image, found, made, widget.window(), lambda: shown.append(True))
    while not shown:
        QApplication.processEvents()
    settle()
    beat.timer.stop()
    print(f"\n{number} candidates (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)")
    print(f"  layers made, in a thread when a detection ends: {making[0]:.0f} ms, of the processor {making[1]:.0f} ms")
    print(f"  longest stall while they are put in             {stall(beat)}")
    view = table.view
    rows = view.viewport().height() // 22 - 1

    def click(i: int) -> None:
        place = view.visualRect(table.model.index(view.rowAt(0) + i % rows, 2)).center()
        QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=place)

    bar = view.verticalScrollBar()
    print("  click on a row, all redrawn ", timed(click))
    print("  key N                       ", timed(lambda i: QTest.keyClick(view, Qt.Key.Key_N)))
    print("  verdict by key              ", timed(lambda i: QTest.keyClick(view, "KJ"[i % 2])))
    print("  undo                        ", timed(lambda i: table.undo_button.click()))
    print("  scroll by a page            ", timed(lambda i: bar.setValue(bar.value() + bar.pageStep())))
    print("  sort by a column            ", timed(lambda i: view.sortByColumn(2, Qt.SortOrder(i % 2)), 6))
    print("  filter by S/N               ", timed(lambda i: table.filters.min_snr.setValue(5 + i), 6))
    table.filters.min_snr.setValue(0)
    print("  step of the channel slider  ", timed(lambda i: session.set_channel(20 + i)))
    with TemporaryDirectory() as place:
        start = now()
        write_result(found, Path(place) / "session")
        saving = now() - start
    print(f"  session saved, in a thread: {saving[0]:.0f} ms, of the processor {saving[1]:.0f} ms")


def detections(widget, runs: int = 3) -> None:
    """Click on "Detect sources", and see how long the window stalls and what it adds to the search."""
    beat, search, seen = Beat(), Timed(detection), []
    # the first candidate is selected once boxes and table were painted
    widget.session.selection_changed.connect(lambda _: seen.append(now()[0]))
    widget._run = search
    for run in range(1, runs + 1):
        beat.start()
        seen.clear()
        clicked = now()[0]
        widget.detect_button.click()
        while not widget.detect_button.isEnabled():
            QApplication.processEvents()
        settle()
        drawn, complete = seen[-1], now()[0]
        print(f"detection {run}: longest stall of the event loop {stall(beat)} (load {os.getloadavg()[0]:.1f})")
        spans = search.began - clicked, search.ended - search.began, drawn - search.ended, complete - search.ended
        before, took, boxes, everything = (f"{span:.0f} ms" for span in spans)
        print(f"  search {took}; from the click to it {before}, from it to the boxes {boxes}, to all else {everything}")
    beat.timer.stop()


def write_cube(path: Path, size: float) -> None:
    """A cube of so many GB of noise, let go from the memory again, as far as the system does so."""
    header = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3)])
    channels = int(size * 1e9 / (4 * LARGE * LARGE))
    axes = (("RA---SIN", 83.8, -3e-5, "deg"), ("DEC--SIN", -5.4, 3e-5, "deg"), ("FREQ", 230e9, 1e6, "Hz"))
    for i, ((ctype, value, step, unit), n) in enumerate(zip(axes, (LARGE, LARGE, channels), strict=True), 1):
        header[f"NAXIS{i}"], header[f"CRPIX{i}"] = n, n / 2
        header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"], header[f"CUNIT{i}"] = ctype, value, step, unit
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 1.5e-4, 1.5e-4, 0.0
    noise = np.random.default_rng(1).normal(size=(LARGE, LARGE)).astype(">f4")
    with path.open("wb") as file:
        file.write(header.tostring().encode())
        for channel in range(channels):
            file.write(np.roll(noise, 7 * channel, axis=0).tobytes())
        file.write(b"\0" * (-file.tell() % 2880))
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def large(viewer: napari.Viewer, size: float) -> None:
    """Time the first plane of a large cube, and clicks on its pixels."""
    with TemporaryDirectory() as place:
        path = Path(place) / "large.fits"
        write_cube(path, size)
        beat, start = Beat(), now()
        viewer.open(str(path), plugin=PLUGIN)
        settle()
        first = now() - start
        print(
            f"first plane of {path.stat().st_size / 1e9:.2f} GB: {first[0]:.0f} ms, of the processor {first[1]:.0f} ms"
        )
        widget = open_widget(viewer)
        settle()
        inspector = viewer.window.dock_widgets[INSPECTOR]
        rng = np.random.default_rng(0)

        def click(_: int) -> None:
            inspector.look.point(*rng.integers(50, LARGE - 50, 2).tolist())
            while inspector.spectrum.spectrum is None:
                QApplication.processEvents()

        inspector.look.point(20, 20)  # the panels take their room
        for _ in range(100):
            QApplication.processEvents()
            time.sleep(0.01)
        beat.start()
        print("  click on a pixel, spectrum drawn", timed(click))
        print("  step of the channel slider      ", timed(lambda i: widget.session.set_channel(5 + 7 * i)))
        print(f"  longest stall meanwhile          {stall(beat)}")
        beat.timer.stop()
        viewer.layers.clear()


def alone(viewer: napari.Viewer, number: int = 100) -> None:
    """Time napari without the plugin's panels."""
    places = np.random.default_rng(0).uniform(0, SHAPE[1], (number, 1, 2))
    corners = list(places + np.array([[0, 0], [0, 12], [12, 12], [12, 0]]))
    beat, image = Beat(), viewer.layers[0]
    for which in ("first", "second"):
        frame = {"scale": image.scale[-2:], "units": image.units[-2:], "axis_labels": image.axis_labels[-2:]}
        layer = Shapes(corners, face_color="transparent", visible=False, **frame)
        for words, act in (
            (f"{which} layer of {number} boxes added", lambda: viewer.add_layer(layer)),  # noqa: B023 - called at once
            (f"{which} layer of {number} boxes drawn", lambda: setattr(layer, "visible", True)),  # noqa: B023
        ):
            beat.start()
            act()
            settle()
            print(f"{words}: longest stall of the event loop {stall(beat)}")
    beat.start()
    viewer.layers.remove(layer)
    settle()
    print(f"layer removed: longest stall of the event loop {stall(beat)}")
    beat.timer.stop()
    steps = viewer.dims.current_step
    print("step of the channel slider  ", timed(lambda i: viewer.dims.set_current_step(0, steps[0] + i)))


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, nargs="+", default=[5, 100, 1000, 5000])
    parser.add_argument("--cube", type=float, default=0.0, metavar="GB", help="time a large cube and nothing else")
    parser.add_argument("--alone", action="store_true", help="time napari without the plugin's panels")
    options = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1280, 720)
    if options.cube:
        large(viewer, options.cube)
        viewer.close()
        return
    viewer.open_sample(PLUGIN, "simulated_sources")
    settle()
    if options.alone:
        alone(viewer)
        viewer.close()
        return
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    settle()
    detections(widget)
    for number in options.candidates:
        inspect(widget, number)
    viewer.close()


if __name__ == "__main__":
    main()
