"""Whatever happens, what the user said is on the disk."""

from __future__ import annotations

import os

import pytest
from made_by_hand import make_detections, stand_in_networks

from napari_almadet.catalogue.candidate import Box
from napari_almadet.catalogue.result_folder import JOURNAL, read_result, write_result
from napari_almadet.plugin.autosave import KEPT_UNSAVED, Keeper, unfinished_of, unsaved_of
from napari_almadet.plugin.session import Session

pytestmark = pytest.mark.no_window


@pytest.fixture
def keeper(session, cube_image, detections, qtbot):
    """A keeper of the hand-made detections, once it has written them."""
    keeper = Keeper(session)
    session.present(cube_image, detections)
    qtbot.waitUntil(lambda: keeper.folder is not None, timeout=60_000)
    return keeper


def verdicts(folder, cube) -> list[str]:
    return [candidate.verdict for candidate in read_result(folder, cube).candidates]


def test_verdicts_are_kept_before_anybody_saved(keeper, session, cube, unsaved):
    assert keeper.folder.parent == unsaved
    assert not keeper.saved
    assert unsaved_of(cube) == []  # nothing was said yet
    session.set_verdict(session.candidates[:2], "accepted")
    session.set_note(session.candidates[2], "why?")
    assert unsaved_of(cube) == [keeper.folder]
    assert verdicts(keeper.folder, cube) == ["accepted", "accepted", "unreviewed", "unreviewed"]
    assert read_result(keeper.folder, cube).candidates[2].note == "why?"
    session.undo()
    session.undo()
    assert verdicts(keeper.folder, cube) == ["unreviewed"] * 4


def test_what_is_said_while_it_is_written_is_not_lost(session, cube_image, cube, qtbot):
    keeper = Keeper(session)
    session.present(cube_image, make_detections(cube))
    assert keeper.folder is None
    session.set_verdict(session.candidates[:1], "rejected")
    qtbot.waitUntil(lambda: keeper.folder is not None, timeout=60_000)
    assert verdicts(keeper.folder, cube)[0] == "rejected"


def test_saving_moves_on_to_the_users_folder(keeper, session, cube, tmp_path, qtbot):
    session.set_verdict(session.candidates[:1], "accepted")
    before = keeper.folder
    keeper.save(tmp_path / "mine")
    qtbot.waitUntil(lambda: keeper.saved, timeout=60_000)
    assert keeper.folder == tmp_path / "mine"
    assert not before.exists()
    assert not (keeper.folder / JOURNAL).exists()
    session.set_verdict(session.candidates[1:2], "rejected")
    assert verdicts(keeper.folder, None) == ["accepted", "rejected", "unreviewed", "unreviewed"]  # cube.fits is with it


def test_boxes_of_ones_own_are_kept_too(keeper, session, cube, qtbot):
    session.networks = stand_in_networks
    mine = session.add(Box(74, 87, 90, 105))
    qtbot.waitUntil(lambda: mine in session.detections.candidates, timeout=60_000)
    kept = read_result(keeper.folder, cube).candidates[-1]
    assert (kept.id, kept.box, kept.origin) == (5, mine.box, "drawn")
    session.undo()
    assert len(read_result(keeper.folder, cube).candidates) == 4


def test_a_full_disk_is_told_once(keeper, session, monkeypatch):
    told = []
    monkeypatch.setattr("napari_almadet.plugin.autosave.show_warning", told.append)
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError("No space left on device")))
    session.set_verdict(session.candidates[:1], "accepted")
    session.set_verdict(session.candidates[:1], "rejected")
    assert len(told) == 1
    assert "No space left" in told[0]
    assert session.candidates[0].verdict == "rejected"


def test_old_unsaved_sessions_are_cleared_away(session, cube_image, cube, unsaved, qtbot):
    keeper = Keeper(session)
    for count in range(1, KEPT_UNSAVED + 2):
        session.present(cube_image, make_detections(cube))
        qtbot.waitUntil(lambda: keeper.folder is not None, timeout=60_000)
        assert len(list(unsaved.iterdir())) == min(count, KEPT_UNSAVED)


def test_a_session_with_a_verdict_is_never_cleared_away(session, cube_image, cube, unsaved, qtbot):
    keeper = Keeper(session)
    session.present(cube_image, make_detections(cube))
    qtbot.waitUntil(lambda: keeper.folder is not None, timeout=60_000)
    session.set_verdict(session.candidates[:1], "accepted")
    judged = keeper.folder
    for _ in range(KEPT_UNSAVED + 2):
        found = make_detections(cube)
        session._changes.clear()
        session.detections.candidates[0].verdict = "unreviewed"  # as in another window
        session.present(cube_image, found)
        qtbot.waitUntil(lambda: keeper.folder is not None, timeout=60_000)
    assert judged in unsaved_of(cube)
    assert verdicts(judged, cube)[0] == "accepted"
    assert len(list(unsaved.iterdir())) == KEPT_UNSAVED + 1


def test_what_was_carried_over_counts_as_said(keeper, session, cube_image, cube, qtbot):
    session.set_verdict(session.candidates[:2], "accepted")
    before = keeper.folder
    session.present(cube_image, make_detections(cube))
    qtbot.waitUntil(lambda: keeper.folder not in (None, before), timeout=60_000)
    assert unsaved_of(cube) == [keeper.folder, before]
    assert verdicts(keeper.folder, cube) == ["accepted", "accepted", "unreviewed", "unreviewed"]


def test_what_is_measured_for_another_cube_is_written_down_with_that(keeper, session, viewer, cube_image, data, qtbot):
    session.networks = stand_in_networks
    folder, mine = keeper.folder, session.add(Box(74, 87, 90, 105))
    session.inspect(viewer.add_image(data, name="second"))
    qtbot.waitUntil(lambda: not session.measuring, timeout=60_000)
    assert read_result(folder, cube_image.metadata["cube"]).candidates[-1].box == mine.box


def test_the_program_is_killed_right_after_a_click(tmp_path, data, header, kill_when_it_prints):
    """The real window, in a process of its own, killed without notice after the button was pressed."""
    from astropy.io import fits

    from napari_almadet.cube.reading import read_cube

    fits.writeto(tmp_path / "toy.fits", data, header)
    folder = write_result(make_detections(read_cube(tmp_path / "toy.fits")), tmp_path / "results")
    code = """
        import sys
        import napari
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest
        from napari_almadet.plugin.detect_widget import DetectWidget

        viewer = napari.Viewer(show=False)
        widget = DetectWidget(viewer)
        widget.files.open_folder(sys.argv[1])
        for _ in range(100):
            QTest.qWait(20)
        QTest.mouseClick(widget.table.reject_button, Qt.MouseButton.LeftButton)
        print("given", flush=True)
        while True:
            pass
    """
    kill_when_it_prints("given", code, folder)
    assert verdicts(folder, None) == ["rejected", "unreviewed", "unreviewed", "unreviewed"]


def test_what_is_said_before_the_first_writing_outlives_a_crash(session, cube_image, cube, unsaved, qtbot, monkeypatch):
    """A verdict is on the disk before the folder is; another detection carries it over."""
    keeper = Keeper(session)
    writing = []
    monkeypatch.setattr(keeper, "_write", lambda *args, **kwargs: writing.append(args))
    session.present(cube_image, make_detections(cube))
    keeper._writing[id(session.detections)] = []  # and then the process is killed
    session.set_verdict(session.candidates[:1], "rejected")
    session.set_note(session.candidates[1], "a disc")
    said = {candidate.id: (candidate.verdict, candidate.note) for candidate in unfinished_of(cube)}
    assert said == {1: ("rejected", ""), 2: ("unreviewed", "a disc")}
    session.keeper = None
    again = Session(session.viewer)
    later = Keeper(again)
    again.inspect(cube_image)
    again.present(cube_image, make_detections(cube))
    assert [(c.verdict, c.note) for c in again.candidates[:2]] == [("rejected", ""), ("unreviewed", "a disc")]
    qtbot.waitUntil(lambda: later.folder is not None, timeout=60_000)
    assert verdicts(later.folder, cube)[0] == "rejected"
    assert unfinished_of(cube) == []  # it stands in the folder now
    assert not list(unsaved.glob("early-*"))
