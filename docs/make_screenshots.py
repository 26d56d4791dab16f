"""Take the pictures in ``docs/images`` from the real program, on the sample cube.

Run it under a display, or without one as ``xvfb-run -a -s "-screen 0 1920x1080x24" python docs/make_screenshots.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_almadet.plugin.demo import open_demo
from napari_almadet.plugin.detect_widget import INSPECTOR, DetectWidget
from napari_almadet.plugin.figure import write_figure

IMAGES = Path(__file__).parent / "images"


def wait(until: Callable[[], bool], seconds: float = 600) -> None:
    """Let the program run until something holds."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"not there after {seconds} s")
        QApplication.processEvents()
        time.sleep(0.01)


def rest(seconds: float = 1.0) -> None:
    """Let the program draw."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def picture(viewer: napari.Viewer, name: str) -> None:
    """Save the whole window as a small PNG of 256 colours."""
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / name
    viewer.window.screenshot(str(path), flash=False, canvas_only=False)
    shrink(path)


def shrink(path: Path, width: int | None = None) -> None:
    """Make an image one of 256 colours, and no wider than ``width``."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        if width is not None:
            small = small.resize((width, round(width * image.height / image.width)))
        small = small.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path} {path.stat().st_size // 1000} kB")


def after_a_detection(width: int, height: int, theme: str) -> None:
    """The window with what was found; on the way, the window while it looks."""
    viewer = napari.Viewer()
    viewer.theme = theme
    viewer.window.resize(width, height)
    widget = open_demo(viewer)
    wait(lambda: widget.progress.value() > 0 or widget.detect_button.isEnabled())
    if theme == "dark" and widget.progress.isVisible():
        picture(viewer, f"running-{width}x{height}.png")
    wait(widget.detect_button.isEnabled)
    assert widget.session.detections is not None, widget.status.text()
    viewer.window.resize(width, height)
    rest()
    viewer.reset_view()
    rest()
    picture(viewer, f"found-{width}x{height}-{theme}.png")
    if theme == "dark":
        judged(viewer, widget, f"judged-{width}x{height}-{theme}.png")
    viewer.close()


def in_the_inspector(width: int, height: int, theme: str) -> None:
    """The brightest candidate with what the inspector can show beside its spectrum and focused image."""
    viewer = napari.Viewer()
    viewer.theme = theme
    viewer.window.resize(width, height)
    widget = open_demo(viewer)
    wait(widget.detect_button.isEnabled)
    session = widget.session
    viewer.window.resize(width, height)
    rest()
    viewer.reset_view()
    session.select(max(session.candidates, key=lambda candidate: candidate.snr_pixel))
    inspector = viewer.window.dock_widgets[INSPECTOR]
    inspector.stretch.stretch.setCurrentText("asinh")
    inspector.stretch.stretch.activated.emit(inspector.stretch.stretch.currentIndex())
    inspector.spectrum.unit_choice.setCurrentText("km/s radio")
    inspector.spectrum.range_button.setChecked(True)
    inspector.spectrum.lines_menu.redshift.setValue(0.0015)
    inspector.focus.image_choice.setCurrentText("Moment 1")
    for action in (inspector.focus.show_contours, inspector.focus.show_cut):
        action.setChecked(True)
    x, y = session.selected.position
    viewer.cursor.position = session.image.data_to_world((session.channel, y, x))
    rest()
    picture(viewer, f"inspector-{width}x{height}-{theme}.png")
    viewer.close()


def judged(viewer: napari.Viewer, widget: DetectWidget, name: str) -> None:
    """The window while candidates are gone through; and the page on one of them."""
    session = widget.session
    session.boxes_everywhere = True
    widget.table.everywhere.setChecked(True)
    session.accept()
    session.next()
    session.reject()
    session.set_note(session.selected, "no line in the raw spectrum")
    session.next()
    session.accept()
    widget.table.filters.more.setChecked(True)
    rest()
    picture(viewer, name)
    path = write_figure(session.detections, session.detections.kept[-1], IMAGES / "candidate.png")
    shrink(path, width=1000)


def main() -> None:
    """Two sizes, both themes."""
    in_the_inspector(1280, 720, "dark")
    after_a_detection(1280, 720, "dark")
    after_a_detection(1920, 1080, "dark")
    after_a_detection(1280, 720, "light")


if __name__ == "__main__":
    main()
