"""Completeness by injection, asked for in the window."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable

from napari_almadet.evaluation.completeness_run import Outcome
from napari_almadet.evaluation.completeness_tables import completeness_table
from napari_almadet.evaluation.injection_rounds import ABOUT, Options, OtherRun
from napari_almadet.plugin.injections import COLUMNS, InjectionsDialog
from napari_almadet.progress import Progress
from napari_almadet.settings import Settings


def rows_of(number: int = 40) -> QTable:
    """Injected sources of which the bright half was found."""
    flux = np.geomspace(0.1, 10, number)
    found = flux > 1
    return QTable(
        {
            "flux": flux * u.Jy * u.km / u.s,
            "width": np.full(number, 40.0) * u.km / u.s,
            "size": np.zeros(number),
            "snr": 2 * flux,
            "found": found,
            "status": np.where(found, "kept", "missed"),
            "pb": np.ones(number),
            "f_sum": 1.1 * flux * u.Jy * u.km / u.s,
        }
    )


@pytest.fixture
def dialog(session, cube_image, qtbot, tmp_path):
    """A function that opens the window with a run in the place of the real one."""
    made = []

    def open_with(run):
        made.append(InjectionsDialog(session, lambda: Settings(threshold=0.3), run=run))
        made[-1].folder.setText(str(tmp_path / "injections"))
        return made[-1]

    yield open_with
    for one in made:
        one.cancel()
        finished(one, qtbot)
        one.deleteLater()


def finished(dialog, qtbot):
    qtbot.waitUntil(lambda: dialog._worker is None, timeout=10_000)


def test_what_the_form_asks_for_is_run_on_the_open_cube_with_the_settings_of_the_detection(
    dialog, cube, qtbot, tmp_path
):
    asked = []

    def run(*given):
        asked.append(given)
        yield Progress("Round 1 of 2", 0, 2)
        rows = rows_of()
        return Outcome(rows, completeness_table(rows), None, ("A note.",))

    window = dialog(run)
    window.number.setValue(7)
    window.widths.setText("4ch, 6ch")
    window.sizes.setText("0, 2")
    window.flux.setText("0.5..5")
    window.start()
    finished(window, qtbot)
    [(searched, settings, options, number, out, networks)] = asked
    assert searched is cube and settings == Settings(threshold=0.3)
    assert options == Options((4.0, 6.0), (0.0, 2.0), (0.5, 5.0)) and number == 7
    assert out == tmp_path / "injections" and networks is window.session.networks
    assert "toy" in window.introduction.text() and "threshold 0.3" in window.introduction.text()


def test_the_outcome_is_told_in_sentences_and_as_a_table(dialog, qtbot, tmp_path):
    picture = tmp_path / "flux-ratio.png"
    picture.write_bytes(b"")

    def run(*given):
        yield Progress("Round 1 of 1", 0, 1)
        rows = rows_of()
        return Outcome(rows, completeness_table(rows), None, ("A note.",), (picture,))

    window = dialog(run)
    window.start()
    finished(window, qtbot)
    assert "40 sources injected, 20 found." in window.status.text()
    assert "50 % complete at" in window.status.text()
    table = window.table
    texts = [[table.item(row, column).text() for column in range(len(COLUMNS))] for row in range(table.rowCount())]
    columns = dict(zip(COLUMNS, zip(*texts, strict=True), strict=True))
    assert columns["Width"][0] == "40 km / s" and sum(map(int, columns["Injected"])) == 40
    assert columns["Completeness"][0].startswith("0.00 [0.00, ") and columns["Completeness"][-1].startswith("1.00 [")
    assert columns["Measured / injected flux"][0] == "–"
    assert columns["Measured / injected flux"][-1] == "1.10 [1.10, 1.10]"
    assert [window.tabs.tabText(i) for i in range(window.tabs.count())] == ["Table", "Flux ratio", "Notes (1)"]
    assert window.tabs.widget(2).toPlainText() == "A note." and window.height() >= window.sizeHint().height()
    assert not window.tabs.isHidden()


def test_a_run_can_be_cancelled_and_says_that_it_can_be_resumed(dialog, qtbot):
    def run(*given):
        while True:
            yield Progress("Round 1 of 9: stacking channels", 0, 9)

    window = dialog(run)
    window.start()
    assert not window.start_button.isEnabled() and not window.widths.isEnabled()
    qtbot.waitUntil(lambda: "stacking" in window.status.text())
    window.cancel_button.click()
    finished(window, qtbot)
    assert "resume" in window.status.text() and window.start_button.isEnabled()
    assert window.outcome is None and not window.cancel_button.isEnabled()


def test_progress_is_that_of_the_rounds_with_the_time_that_is_left(dialog, monkeypatch):
    window = dialog(lambda *_: iter(()))
    times = iter((100.0, 130.0))
    monkeypatch.setattr("napari_almadet.plugin.injections.time.perf_counter", lambda: next(times))
    assert window._left(Progress("The cube itself: stacking channels", 1, 9)) == ""
    assert window._left(Progress("Round 3 of 12", 2, 12)) == ""  # two were searched before
    assert window._left(Progress("Round 5 of 12: searching", 4, 12)) == "; about 2 min left"


def test_a_folder_with_a_run_gives_the_form_its_options(dialog, tmp_path):
    folder = tmp_path / "before"
    folder.mkdir()
    options = {"widths": [2.5, 8.0], "sizes": [0.0, 1.5], "flux": [0.2, 4.0], "seed": 3}
    (folder / ABOUT).write_text(json.dumps({"options": options}))
    window = dialog(lambda *_: iter(()))
    window.folder.setText(str(folder))
    window.take_up()
    assert window.options() == Options((2.5, 8.0), (0.0, 1.5), (0.2, 4.0), 3)
    assert "contains a run" in window.status.text()
    (folder / ABOUT).write_text("{")  # damaged: the run says so, the form stays as it is
    window.take_up()
    assert window.widths.text() == "2.5ch, 8ch"


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("widths", "wide", "Widths wide: give numbers separated by commas"),
        ("widths", "300ch", "wider than half the band"),
        ("sizes", "", "give numbers"),
        ("flux", "5..1", "positive and increasing"),
        ("folder", "", "Choose a folder"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_runs(dialog, field, text, said):
    window = dialog(lambda *_: pytest.fail("ran"))
    getattr(window, field).setText(text)
    window.start()
    assert said in window.status.text() and window._worker is None


def test_a_folder_of_another_run_is_refused_in_a_sentence(dialog, qtbot):
    def run(*given):
        yield Progress("Loading the networks", 0, 0)
        raise OtherRun("injections contains injections made with another cube: choose another folder")

    window = dialog(run)
    window.start()
    finished(window, qtbot)
    assert window.status.text().startswith("Failed: injections contains injections made with another cube")
    assert window.start_button.isEnabled()


def test_it_is_opened_from_the_menu_once_there_is_a_cube(viewer, make_widget, data):
    widget = make_widget(lambda *_: iter(()))
    widget.files._enable()
    assert not widget.files.injections_action.isEnabled()
    viewer.add_image(data, name="bare")
    widget.files._enable()
    assert widget.files.injections_action.isEnabled()
    widget.files.injections_action.trigger()
    assert widget.injections.isVisible() and "bare" in widget.injections.introduction.text()
    assert widget.injections.width_unit.text() == "channels"
    first = widget.injections
    widget.injections.reject()
    widget.files.injections_action.trigger()
    assert widget.injections is first and first.isVisible()
    first.hide()
