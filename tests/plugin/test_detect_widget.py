"""The dock widget as a user meets it: press, wait, look, cancel."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from made_by_hand import SOURCES, FakeRun, make_detections
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_almadet.catalogue.candidate import Status
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.plugin.background import cautiously
from napari_almadet.plugin.detect_widget import RunError, detection, summary
from napari_almadet.plugin.layers import cube_of


def press(qtbot, button) -> None:
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def wait(qtbot, widget) -> None:
    qtbot.waitUntil(lambda: widget.detect_button.isEnabled(), timeout=60_000)


def names(viewer) -> list[str]:
    return [layer.name for layer in viewer.layers]


def test_press_and_see(viewer, cube_image, cube, make_widget, qtbot):
    run = FakeRun()
    widget = make_widget(run)
    press(qtbot, widget.detect_button)
    assert not widget.detect_button.isEnabled()
    assert widget.cancel_button.isEnabled()
    wait(qtbot, widget)
    assert names(viewer) == ["toy", "toy probability", "toy candidates"]
    assert widget.table.model.rowCount() == 3
    assert widget.status.text().startswith("3 candidates in ")
    assert "1 flagged; 1 dropped" in widget.status.text()
    assert run.asked[0][0] is cube
    assert widget.session.selected.id == 1
    assert not widget.cancel_button.isEnabled()


def test_key_works_from_the_table_too(cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun())
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    qtbot.keyClick(widget.table.view, Qt.Key.Key_N)
    assert widget.session.selected.id == 2
    qtbot.keyClick(widget.table.view, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert widget.session.selected.id == 1


def test_form_becomes_settings(cube_image, make_widget, qtbot):
    run = FakeRun(steps=1)
    widget = make_widget(run)
    widget.threshold.setValue(0.25)
    widget.min_snr.setValue(3.5)
    widget.device.setCurrentIndex(widget.device.findData("cpu"))
    qtbot.mouseClick(widget.keep_continuum, Qt.MouseButton.LeftButton)
    widget.keep_continuum.setChecked(True)
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    settings = run.asked[0][1]
    assert (settings.threshold, settings.min_snr, settings.device, settings.require_line) == (0.25, 3.5, "cpu", False)


@pytest.mark.parametrize(("setting", "words"), [("primary_beam", "primary beam"), ("psf", "dirty beam")])
def test_an_image_of_a_beam_is_looked_for_beside_the_cube(cube_image, make_widget, qtbot, monkeypatch, setting, words):
    asked = []
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: asked.append(a) or ("/data/toy.fits", ""))
    widget = make_widget(FakeRun())
    assert getattr(widget.settings(), setting) is None
    (browse,) = [action for action in getattr(widget, setting).actions() if action.text() == ""][:1]
    browse.trigger()
    assert getattr(widget.settings(), setting) == "/data/toy.fits"
    assert asked[0][1] == f"Image of the {words}"


def test_the_papers_preset_takes_no_dirty_beam(cube_image, make_widget):
    widget = make_widget(FakeRun())
    widget.psf.setText("/data/toy.psf.fits")
    widget.preset.setCurrentText("paper")
    assert not widget.psf.isEnabled()
    assert widget.settings().psf is None


@pytest.mark.parametrize(("preset", "unknown"), [("almadet", {"min_snr"}), ("paper", {"reliability", "psf"})])
def test_what_a_preset_does_not_know_cannot_be_set_nor_anything_during_a_run(
    cube_image, make_widget, qtbot, preset, unknown
):
    widget = make_widget(FakeRun(pause=0.05))
    all_ = {"preset", "device", "threshold", "min_snr", "keep_continuum", "primary_beam", "psf", "reliability"}
    fields, known = {name: getattr(widget, name) for name in all_}, all_ - unknown
    widget.preset.setCurrentText(preset)
    assert {name for name, field in fields.items() if field.isEnabled()} == known
    press(qtbot, widget.detect_button)
    assert not any(field.isEnabled() for field in fields.values())
    wait(qtbot, widget)
    assert {name for name, field in fields.items() if field.isEnabled()} == known


def test_progress_says_what_is_done(cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun(pause=0.05))
    seen = []
    widget.progress.valueChanged.connect(lambda value: seen.append((value, widget.progress.format())))
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    assert [value for value, _ in seen if value > 0] == [1, 2, 3]
    assert all(text.startswith("Counting channels") for value, text in seen if value > 0)


def test_cancel_stops_and_changes_nothing(viewer, cube_image, make_widget, qtbot):
    run = FakeRun(pause=0.02, steps=10_000)
    widget = make_widget(run)
    press(qtbot, widget.detect_button)
    qtbot.waitUntil(lambda: run.taken > 2, timeout=5000)
    press(qtbot, widget.cancel_button)
    wait(qtbot, widget)
    assert run.taken < 1000
    assert names(viewer) == ["toy"]
    assert widget.status.text().startswith("Cancelled")


def test_cancel_after_the_last_step_still_frees_the_form(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun(pause=0.2, steps=1))
    press(qtbot, widget.detect_button)
    qtbot.waitUntil(lambda: widget.progress.value() == 1, timeout=5000)
    press(qtbot, widget.cancel_button)
    wait(qtbot, widget)
    assert names(viewer) == ["toy"]
    assert widget.status.text().startswith("Cancelled")


def test_second_run_replaces_the_first(viewer, cube_image, make_widget, qtbot):
    run = FakeRun()
    widget = make_widget(run)
    for _ in range(2):
        press(qtbot, widget.detect_button)
        wait(qtbot, widget)
    assert sorted(names(viewer)) == ["toy", "toy candidates", "toy probability"]


def test_failed_run_keeps_the_earlier_result(viewer, cube_image, make_widget, qtbot):
    run = FakeRun()
    widget = make_widget(run)
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    run.error = CubeError("toy: all of it is blank.")
    before = len(notification_manager.records)
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    assert sorted(names(viewer)) == ["toy", "toy candidates", "toy probability"]
    assert [n.message for n in notification_manager.records[before:]] == ["toy: all of it is blank."]
    assert "all of it is blank" in widget.status.text()


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), KeyError("x"), OSError("disk")])
def test_unforeseen_error_is_shown_once(cube_image, make_widget, qtbot, error, monkeypatch):
    told = []
    monkeypatch.setattr(notification_manager, "receive_error", lambda *args: told.append(args[1]))
    widget = make_widget(FakeRun(error=error))
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    assert told == [error]
    assert str(error) in widget.status.text()


def test_layer_removed_during_the_run(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun(pause=0.05))
    press(qtbot, widget.detect_button)
    viewer.layers.remove(cube_image)
    qtbot.waitUntil(lambda: not widget.cancel_button.isEnabled(), timeout=5000)
    assert names(viewer) == []
    assert "removed" in widget.status.text()
    assert not widget.detect_button.isEnabled()


def test_layer_removed_during_the_run_while_another_is_open(viewer, cube_image, data, make_widget, qtbot):
    other = viewer.add_image(data[:, ::-1], name="other")
    widget = make_widget(FakeRun(pause=0.05))
    viewer.layers.selection.active = cube_image
    press(qtbot, widget.detect_button)
    viewer.layers.remove(cube_image)
    assert widget.session.image == other
    assert widget.status.text() == "Searching toy …"
    wait(qtbot, widget)
    assert "removed" in widget.status.text()


def test_what_is_said_of_one_cube_is_not_said_of_another(viewer, cube_image, data, make_widget, qtbot):
    widget = make_widget(FakeRun())
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    other = viewer.add_image(data[:, ::-1], name="other")
    viewer.layers.selection.active = other
    assert "search other" in widget.status.text()
    viewer.layers.selection.active = cube_image
    assert widget.table.model.rowCount() == 3
    assert widget.status.text() == ""


def test_the_inspector_comes_back_with_the_panel(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun())
    viewer.window.show()
    dock = viewer.window.dock_widgets["Candidate inspector"].parent()
    dock.hide()
    widget.parent().hide()
    widget.parent().show()
    assert dock.isVisible()
    dock.destroyOnClose()
    qtbot.waitUntil(lambda: "Candidate inspector" not in viewer.window.dock_widgets)
    widget.parent().hide()
    widget.parent().show()
    qtbot.waitUntil(lambda: viewer.window.dock_widgets["Candidate inspector"].parent().isVisible())


def test_layers_renamed_and_reordered_during_the_run(viewer, cube_image, data, make_widget, qtbot):
    viewer.add_image(data[0], name="plane")
    widget = make_widget(FakeRun(pause=0.05))
    press(qtbot, widget.detect_button)
    cube_image.name = "mine"
    viewer.layers.move(0, 2)
    wait(qtbot, widget)
    assert names(viewer) == ["plane", "mine", "mine probability", "mine candidates"]
    assert widget.session.image == cube_image
    assert widget.table.model.rowCount() == 3


def test_another_cube_looked_at_during_the_run(viewer, cube_image, data, make_widget, qtbot):
    widget = make_widget(FakeRun(pause=0.05))
    other = viewer.add_image(data[:, ::-1], name="other")
    viewer.layers.selection.active = cube_image
    press(qtbot, widget.detect_button)
    viewer.layers.selection.active = other  # as a click in the layer list does
    assert widget.session.image == other
    wait(qtbot, widget)
    assert widget.session.image == cube_image  # to what was found in it
    assert names(viewer) == ["toy", "other", "toy probability", "toy candidates"]
    viewer.layers.selection.active = other
    assert widget.session.detections is None
    assert widget.table.model.rowCount() == 0


def test_dock_closed_and_opened_again_during_the_run(viewer, cube_image, make_widget, qtbot):
    run = FakeRun(pause=0.05, steps=10)
    widget = make_widget(run)
    press(qtbot, widget.detect_button)
    qtbot.waitUntil(lambda: run.taken > 1, timeout=10_000)
    viewer.window.remove_dock_widget(widget)
    again = make_widget(FakeRun())
    qtbot.waitUntil(lambda: widget._worker is None and not widget._showing, timeout=10_000)
    assert again.session is widget.session
    press(qtbot, again.detect_button)
    wait(qtbot, again)
    assert sorted(names(viewer)) == ["toy", "toy candidates", "toy probability"]
    assert again.table.model.rowCount() == 3


def in_a_process_of_its_own(code: str) -> subprocess.CompletedProcess:
    """The real window on the toy cube as ``viewer`` and ``widget``; a crash there fails one test only."""
    prelude = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import napari
        import numpy as np
        from made_by_hand import FakeRun
        from qtpy.QtTest import QTest
        from napari_almadet.cube.cube import Cube
        from napari_almadet.plugin import autosave
        from napari_almadet.plugin.detect_widget import DetectWidget

        def opened(run, folder):
            autosave.unsaved_folder = lambda: folder
            viewer = napari.Viewer()
            viewer.add_image(np.random.default_rng(7).normal(0, 0.05, (48, 100, 120)).astype("f4"), name="toy")
            widget = DetectWidget(viewer, run=run)
            viewer.window.add_dock_widget(widget, name="Detect sources")
            QTest.qWait(200)
            widget.detect_button.click()
            return viewer, widget
    """
    whole = textwrap.dedent(prelude) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=300)


def test_result_layers_can_be_deleted_one_by_one(tmp_path):
    """Without the canvas's own OpenGL context napari 0.9.2 crashes here under Mesa's software renderer."""
    ended = in_a_process_of_its_own(
        f"""
        from pathlib import Path
        viewer, widget = opened(FakeRun(), Path({str(tmp_path)!r}))
        while not widget.detect_button.isEnabled():
            QTest.qWait(20)
        for name in ("toy candidates", "toy probability"):
            viewer.layers.remove(name)
            for _ in range(5):
                viewer.scene.camera.zoom *= 1.01
                QTest.qWait(50)
        print([layer.name for layer in viewer.layers])
        viewer.close()
        """
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "['toy']"


@pytest.mark.parametrize("loop", [True, False], ids=["in napari's event loop", "in a script"])
def test_window_closed_during_the_run(tmp_path, loop):
    ended = in_a_process_of_its_own(
        f"""
        from pathlib import Path
        from qtpy.QtCore import QTimer
        run = FakeRun(pause=0.05, steps=100_000)  # over an hour
        viewer, widget = opened(run, Path({str(tmp_path)!r}))
        while run.taken < 3:
            QTest.qWait(20)
        if {loop}:
            QTimer.singleShot(0, viewer.close)
            napari.run()
        else:
            viewer.close()
        print("closed")
        """
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "closed"
    assert "Traceback" not in ended.stderr
    assert "deleted" not in ended.stderr


def test_bare_array(viewer, data, make_widget, qtbot):
    viewer.add_image(data, name="bare")
    run = FakeRun()
    widget = make_widget(run)
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    assert run.asked[0][0].wcs is None
    model = widget.table.model
    titles = {model.headerData(i, Qt.Orientation.Horizontal) for i in range(model.columnCount())}
    assert titles >= {"#", "x", "y", "chan."}
    assert not titles & {"RA", "Dec", "km/s", "GHz"}
    assert viewer.layers.extent.units is not None
    press(qtbot, widget.detect_button)  # the array is the same cube the second time
    wait(qtbot, widget)
    assert sorted(names(viewer)) == ["bare", "bare candidates", "bare probability"]


def test_array_that_is_no_cube_is_refused_in_a_sentence(viewer, make_widget, qtbot):
    viewer.add_image(np.zeros((4, 8, 8), dtype=bool), name="mask")
    widget = make_widget(FakeRun())
    before = len(notification_manager.records)
    press(qtbot, widget.detect_button)
    assert widget.status.text().startswith("Failed: mask")
    assert len(notification_manager.records) == before + 1
    assert widget.detect_button.isEnabled()


def test_nothing_found_is_an_answer(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun(sources=()))
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    assert widget.status.text().startswith("No source found in ")
    assert widget.table.model.rowCount() == 0
    assert widget.session.selected is None


def test_choice_follows_the_layers(viewer, data, cube_image, make_widget):
    widget = make_widget(FakeRun())
    offered = lambda: [widget.image_choice.itemText(i) for i in range(widget.image_choice.count())]  # noqa: E731
    assert offered() == ["toy"]
    other = viewer.add_image(data, name="other")
    viewer.add_image(data[0], name="plane")
    assert offered() == ["toy", "other"]
    other.name = "renamed"
    assert offered() == ["toy", "renamed"]
    viewer.layers.remove(cube_image)
    assert offered() == ["renamed"]
    assert widget.image_choice.currentText() == "renamed"
    assert widget.session.image == other


def test_choosing_a_cube_turns_the_panels(viewer, data, cube_image, make_widget):
    other = viewer.add_image(data, name="other")
    widget = make_widget(FakeRun())
    widget.image_choice.setCurrentIndex(1)
    widget.image_choice.activated.emit(1)
    assert widget.session.image == other
    widget.image_choice.activated.emit(0)
    assert widget.session.image == cube_image


def test_without_a_cube_there_is_nothing_to_press(viewer, make_widget):
    assert not make_widget(FakeRun()).detect_button.isEnabled()


def test_closed_and_opened_again_it_shows_what_was_found(viewer, cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun())
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    viewer.window.remove_dock_widget(widget)
    again = make_widget(FakeRun())
    assert again.table.model.rowCount() == 3
    assert again.session is widget.session


def test_cube_of_a_cropped_layer_is_the_crop(viewer, cube_image, cube):
    assert cube_of(cube_image) is cube
    cube_image.data = cube.data[:10]
    assert cube_of(cube_image).shape == (10, *cube.shape[1:])


def test_summary_without_a_source_says_where_the_reasons_are(cube):
    found = make_detections(cube)
    for candidate in found.candidates:
        candidate.status = Status.DROPPED
    text = summary(found, 3.21)
    assert text.startswith("No source found in 3.2 s")
    assert text.splitlines()[0].endswith(
        f"{len(found.candidates)} weak candidates were dropped; “Show dropped” lists them with the reasons."
    )


def test_summary_tells_warnings(cube):
    found = make_detections(cube, sources=SOURCES[:1])
    found.warnings.append("The cube has no beam.")
    assert summary(found, 3.21) == "1 candidate in 3.2 s on CPU.\nThe cube has no beam."
    found.provenance["dirty_beam"] = {"note": "34% of the sidelobes were subtracted for the search."}
    assert summary(found, 3.21).splitlines()[2:] == ["34% of the sidelobes were subtracted for the search."]


def test_torch_that_cannot_be_loaded_is_explained(cube, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                raise OSError("[WinError 1114] c10.dll")

    for module in [m for m in sys.modules if m.startswith(("torch", "napari_almadet.networks.weights"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(StopIteration) as end:
        next(cautiously(detection, cube, None))
    error = end.value.value.error
    assert isinstance(error, RunError)
    assert "c10.dll" in str(error)


def test_plugin_imports_no_torch():
    code = (
        "import sys, napari_almadet.plugin.detect_widget, napari_almadet.plugin.demo; "
        "print(sorted({'torch', 'spectral_cube'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip().splitlines()[-1] == "[]"


def test_from_array_of_a_layer_keeps_its_name(viewer, data):
    assert isinstance(cube_of(viewer.add_image(data, name="mine")), Cube)
    assert cube_of(viewer.layers["mine"]).name == "mine"


def test_settings_make_room_for_what_was_found(cube_image, make_widget, qtbot):
    widget = make_widget(FakeRun())
    assert widget.options.isVisibleTo(widget)
    qtbot.mouseClick(widget.detect_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(widget.detect_button.isEnabled, timeout=10_000)
    assert not widget.options.isVisibleTo(widget)
    qtbot.mouseClick(widget.options_button, Qt.MouseButton.LeftButton)
    assert widget.options.isVisibleTo(widget)


def test_a_cube_with_one_polarisation_before_it_is_offered_and_found_in(viewer, data, make_widget, qtbot):
    viewer.add_image(data[None], name="four axes")
    run = FakeRun()
    widget = make_widget(run)
    assert widget.image_choice.currentText() == "four axes"
    press(qtbot, widget.detect_button)
    wait(qtbot, widget)
    assert run.asked[0][0].shape == data.shape
    widget.session.select(widget.session.candidates[1])
    assert widget.session.channel == viewer.dims.current_step[1] == 34


def test_why_an_image_is_not_offered_is_said(viewer, data, make_widget):
    viewer.add_image(np.stack([data, data]), name="two polarisations")
    widget = make_widget(FakeRun())
    assert "its first axis has 2 planes" in widget.status.text()
    viewer.add_image(data[0], name="plane")
    assert "plane cannot be searched: it has 2 axes" in widget.status.text()
