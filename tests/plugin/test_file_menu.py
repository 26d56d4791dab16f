"""What the menu writes is where it was asked for; what it takes in is measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from qtpy.QtWidgets import QFileDialog, QMessageBox
from regions import Regions

from napari_almadet.paper.pipeline import Networks
from napari_almadet.plugin.detect_widget import DetectWidget
from napari_almadet.plugin.session import Filter


@pytest.fixture
def widget(viewer, session, qtbot):
    widget = DetectWidget(viewer)
    qtbot.addWidget(widget)
    session.networks = lambda settings: Networks(None, lambda spectra: spectra.clip(0, 1))
    return widget


@pytest.fixture
def answer(monkeypatch):
    """Answer the next file dialog with a path and the format that is chosen in it."""

    def make(path, form=""):
        for name in ("getSaveFileName", "getOpenFileName"):
            monkeypatch.setattr(QFileDialog, name, lambda *args, **kwargs: (str(path), form))
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args, **kwargs: str(path))

    return make


@pytest.fixture
def told(monkeypatch):
    said = []
    for name in ("show_info", "show_error"):
        monkeypatch.setattr(f"napari_almadet.plugin.file_menu.{name}", said.append)
    return said


def choose(menu, *words) -> None:
    """Click through a menu."""
    action = next(a for a in menu.actions() if a.text().startswith(words[0]))
    choose(action.menu(), *words[1:]) if words[1:] else action.trigger()


def test_menus_that_the_documentation_names_exist(widget):
    pages = (Path(__file__).parents[2] / "docs").glob("*.md")
    text = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in pages)
    named = {words.rstrip(" …") for words in re.findall(r"\*\*Save, export ▸ ([^*]+)\*\*", text)}
    shown = {action.text() for action in widget.files.actions()}
    assert len(named) > 7
    assert {words for words in named if not any(name.startswith(words) for name in shown)} == set()
    assert set(re.findall(r"\*\*File ▸ (\w+)", text)) <= {"Open", "Save"}  # napari's own; ours is on the button


def test_the_keys_are_named_in_words(widget):
    assert "_" not in widget.files.keys_action.toolTip()


def test_the_accepted_are_exported(widget, session, answer, told, qtbot, tmp_path):
    session.set_verdict(session.candidates[1:], "accepted")
    for words, form, name in (
        ("Catalogue", "VOTable (*.vot)", "mine.vot"),
        ("Regions", "DS9 regions (*.reg)", "mine.reg"),
        ("Spectra", "FITS tables (*.fits)", "mine.fits"),
        ("Report", "PDF (*.pdf)", "mine.pdf"),
    ):
        answer(tmp_path / name.split(".")[0], form)  # the ending follows the format that was chosen
        told.clear()
        choose(widget.files, "Export the accepted", words)
        qtbot.waitUntil(lambda: told != [], timeout=200_000)
        assert told == [f"Written: {name} in {tmp_path}"]
    assert Table.read(tmp_path / "mine.vot", format="votable")["id"].tolist() == [2, 3]
    assert len(Regions.read(tmp_path / "mine.reg")) == 2
    assert (tmp_path / "mine.pdf").read_bytes().count(b"/Type /Page ") == 2


def test_those_listed_are_exported(widget, session, answer, told, qtbot, tmp_path):
    session.filter_by = Filter(dropped=True, min_prob=0.6)
    answer(tmp_path / "listed.csv", "CSV (*.csv)")
    choose(widget.files, "Export those listed", "Catalogue")
    qtbot.waitUntil(lambda: told != [], timeout=200_000)
    assert Table.read(tmp_path / "listed.csv")["id"].tolist() == [1, 2, 3]


def test_how_many_would_be_exported_is_said(widget, session):
    widget.files.aboutToShow.emit()
    accepted, listed = (a for a in widget.files.actions() if a.text().startswith("Export"))
    assert (accepted.text(), accepted.isEnabled()) == ("Export the accepted (0)", False)
    assert (listed.text(), listed.isEnabled()) == ("Export those listed (3)", True)


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_under_the_name_with_its_ending_is_not_overwritten_unasked(
    widget, answer, told, qtbot, tmp_path, monkeypatch, replace
):
    buttons = QMessageBox.StandardButton
    monkeypatch.setattr(QMessageBox, "question", lambda *args: buttons.Yes if replace else buttons.No)
    (tmp_path / "mine.csv").write_text("theirs")
    answer(tmp_path / "mine", "CSV (*.csv)")
    choose(widget.files, "Export those listed", "Catalogue")
    if replace:
        qtbot.waitUntil(lambda: told != [], timeout=60_000)
    assert ((tmp_path / "mine.csv").read_text() == "theirs") is not replace


def test_the_suffix_that_is_asked_for_is_written_or_refused(widget, session, answer, told, qtbot, tmp_path):
    answer(tmp_path / "mine.xml", "ECSV (*.ecsv)")
    choose(widget.files, "Export those listed", "Catalogue")
    qtbot.waitUntil(lambda: told != [], timeout=60_000)
    assert Table.read(tmp_path / "mine.xml", format="votable")["id"].tolist() == [1, 2, 3]
    told.clear()
    answer(tmp_path / "mine.txt", "ECSV (*.ecsv)")
    choose(widget.files, "Export those listed", "Catalogue")
    assert told == ["mine.txt: .txt cannot be written here. Choose one of .ecsv, .vot, .xml, .fits, .csv."]
    assert [path.name for path in tmp_path.glob("mine.*")] == ["mine.xml"]


def test_a_session_is_saved_and_opened_again(widget, viewer, session, answer, told, qtbot, tmp_path):
    session.set_verdict(session.candidates[:1], "rejected")
    answer(tmp_path / "my session")
    choose(widget.files, "Save session as")
    qtbot.waitUntil(lambda: widget.keeper.saved, timeout=60_000)
    viewer.layers.clear()
    assert session.detections is None
    choose(widget.files, "Open session")
    qtbot.waitUntil(lambda: session.detections is not None, timeout=60_000)
    assert [c.verdict for c in session.candidates] == ["rejected", "unreviewed", "unreviewed"]
    assert session.selected is session.candidates[0]


def test_a_folder_with_other_things_in_it_is_not_written_to(widget, answer, told, tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    answer(tmp_path)
    choose(widget.files, "Save session as")
    assert "contains other files" in told[0]


def test_a_cancelled_dialog_does_nothing(widget, session, answer, told, tmp_path):
    answer("")
    choose(widget.files, "Export those listed", "Catalogue")
    choose(widget.files, "Save session as")
    choose(widget.files, "Open session")
    choose(widget.files, "Import")
    assert told == []


def test_a_catalogue_is_taken_in(widget, session, answer, qtbot, tmp_path):
    Table(rows=[(90, 104, 74, 86, 38, 42)], names=["x_min", "x_max", "y_min", "y_max", "z_min", "z_max"]).write(
        tmp_path / "theirs.csv"
    )
    answer(tmp_path / "theirs.csv")
    choose(widget.files, "Import")
    qtbot.waitUntil(lambda: len(session.detections.candidates) == 5, timeout=60_000)
    taken = session.detections.candidates[-1]
    assert (taken.origin, taken.channels, taken.box.x0) == ("imported", (38, 43), 90)
    assert np.isfinite(taken.f_sum)
    session.undo()
    assert len(session.detections.candidates) == 4


def test_a_catalogue_is_taken_into_a_cube_that_was_not_searched(widget, viewer, data, session, answer, qtbot, tmp_path):
    image = viewer.add_image(data, name="mine")
    session.inspect(image)
    Table(rows=[(60.0, 50.0), (30.0, 72.0)], names=["x", "y"]).write(tmp_path / "theirs.ecsv")
    answer(tmp_path / "theirs.ecsv")
    choose(widget.files, "Import")
    qtbot.waitUntil(lambda: session.detections is not None, timeout=60_000)
    assert [c.box.centre for c in session.candidates] == [(50, 60), (72, 30)]
    assert session.image == image


def test_switches(widget, session):
    choose(widget.files, "Keys")
    assert not session.keys_on
    choose(widget.files, "Next candidate after")
    assert session.advance
