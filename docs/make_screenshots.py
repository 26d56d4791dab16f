"""Take the pictures in ``docs/images`` from the real program, on the sample cube.

Run it under a display, or without one as ``xvfb-run -a -s "-screen 0 1920x1080x24" python docs/make_screenshots.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import napari
import numpy as np
from PIL import Image, ImageQt
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QMenu, QPushButton

from napari_almadet.plugin import autosave
from napari_almadet.plugin.detect_widget import INSPECTOR
from napari_almadet.plugin.mask_layer import Outline
from napari_almadet.plugin.panels import PLUGIN, open_widget
from napari_almadet.plugin.session import Session
from napari_almadet.products.figure import write_figure

IMAGES = Path(__file__).parent / "images"
EVERY = ("start", "running", "found", "judged", "editing", "fit", "lines", "inspector", "export")
WANTED = {  # which states of the program are shown, at which size of the window and in which theme
    (1280, 720, "dark"): EVERY,
    (1280, 720, "light"): ("found", "inspector"),
    (1920, 1080, "dark"): ("found", "inspector"),
    (1920, 1080, "light"): ("judged",),
}


def wait(until: Callable[[], bool], seconds: float = 900) -> None:
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


def press(button: QPushButton) -> None:
    """Click a button."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    rest(0.3)


def choose(box: QComboBox, text: str) -> None:
    """Take a choice from a list, as a user does."""
    box.setCurrentText(text)
    box.activated.emit(box.currentIndex())
    rest(0.3)


def open_menu(button: QPushButton) -> QMenu:
    """Open the menu of a button, without waiting for a choice."""
    menu = button.menu()
    menu.popup(button.mapToGlobal(button.rect().bottomLeft()))
    rest(0.5)
    return menu


def walk(viewer: napari.Viewer) -> Iterator[str]:
    """Go through the program as a user does, and halt at each of the states `EVERY`."""
    viewer.open_sample(PLUGIN, "simulated_sources")
    widget = open_widget(viewer)
    session, table = widget.session, widget.table
    rest()
    yield "start"

    press(widget.detect_button)
    wait(lambda: widget.progress.value() > 0 or widget.detect_button.isEnabled())
    yield "running"
    wait(widget.detect_button.isEnabled)
    if session.detections is None:
        raise RuntimeError(widget.status.text())
    rest()
    session.select(max(session.candidates, key=lambda candidate: candidate.snr_pixel))
    yield "found"

    for switch in (table.everywhere, table.filters.dropped, table.filters.more):
        press(switch)
    session.select(session.candidates[3])
    for verdict in (table.accept_button, table.accept_button, table.reject_button):
        press(verdict)
        session.set_note(session.selected, "nothing in the image" if verdict is table.reject_button else "")
        press(table.next_button)
    press(table.previous_button)
    yield "judged"

    for switch in (table.everywhere, table.filters.dropped, table.filters.more):
        press(switch)
    session.select(max(session.candidates, key=lambda candidate: candidate.snr_pixel))
    press(table.edit_button)
    yield "editing"

    press(table.edit_button)
    viewer.reset_view()
    spectrum, focus = viewer.window.dock_widgets[INSPECTOR].spectrum, viewer.window.dock_widgets[INSPECTOR].focus
    press(spectrum.fit_button)
    wait(lambda: spectrum.line_fit.fit is not None)
    focus.show_model.trigger()
    session.masks.outline = Outline.BOTH
    rest()
    yield "fit"

    press(spectrum.fit_button)
    focus.show_model.trigger()
    session.masks.outline = Outline.BOX
    menu = open_menu(spectrum.lines_button)
    identity = spectrum.lines_menu.identity
    choose(identity, identity.itemText(identity.findText("CO 2-1,", Qt.MatchFlag.MatchStartsWith)))
    yield "lines"

    menu.close()
    choose(viewer.window.dock_widgets[INSPECTOR].stretch.stretch, "asinh")
    choose(spectrum.unit_choice, "km/s radio")
    press(spectrum.range_button)
    choose(focus.image_choice, "Moment 1")
    for action in (focus.show_contours, focus.show_cut):
        action.trigger()
    point_at(viewer, session.image.data_to_world((session.channel, *session.selected.position[::-1])))
    yield "inspector"

    menu = open_menu(widget.file_button)
    export = next(action for action in menu.actions() if action.text().startswith("Export the accepted"))
    menu.setActiveAction(export)
    QTest.keyClick(menu, Qt.Key.Key_Right)
    rest(0.5)
    yield "export"
    export.menu().close()
    menu.close()


def point_at(viewer: napari.Viewer, place: np.ndarray) -> None:
    """Point at a place in world coordinates."""
    viewer.mouse_over_canvas = True
    viewer.cursor.position = tuple(place)


def picture(viewer: napari.Viewer, name: str) -> None:
    """Save the window, with the menus that are open over it, as a small PNG of 256 colours."""
    whole = Image.fromarray(viewer.window.screenshot(flash=False, canvas_only=False)).convert("RGB")
    corner = viewer.window.dock_widgets[INSPECTOR].window().mapToGlobal(QPoint(0, 0))
    for menu in (w for w in QApplication.topLevelWidgets() if isinstance(w, QMenu) and w.isVisible()):
        place = menu.pos() - corner
        whole.paste(ImageQt.fromqpixmap(menu.grab()), (place.x(), place.y()))
    IMAGES.mkdir(exist_ok=True)
    whole.save(IMAGES / name)
    shrink(IMAGES / name)


def shrink(path: Path, width: int | None = None) -> None:
    """Make an image one of 256 colours, and no wider than ``width``."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        if width is not None:
            small = small.resize((width, round(width * image.height / image.width)))
        small = small.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path} {path.stat().st_size // 1000} kB")


def main() -> None:
    """Walk once for each size and theme."""
    for (width, height, theme), wanted in WANTED.items():
        with TemporaryDirectory() as folder:  # for what is kept of sessions that nobody saved
            autosave.unsaved_folder = lambda folder=folder: Path(folder)
            viewer = napari.Viewer()
            viewer.theme = theme
            # at the right of the screen, so that menus find no more room than on one of this size
            screen = QApplication.primaryScreen().size().width()
            viewer.window.set_geometry(screen - width, 0, width, height)
            for state in walk(viewer):
                if state in wanted:
                    rest()
                    picture(viewer, f"{state}-{width}x{height}-{theme}.png")
            if wanted == EVERY:
                session = Session.of(viewer)
                shrink(write_figure(session.detections, session.selected, IMAGES / "candidate.png"), width=1000)
            viewer.close()


if __name__ == "__main__":
    main()
