"""Other programs' catalogues keep names, places and columns, as symbols and as candidates, and say what lay outside."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from made_by_hand import stand_in_networks
from napari.layers import Points

from napari_almadet.catalogue.export import read_sources
from napari_almadet.plugin import catalogue_symbols
from napari_almadet.plugin.catalogue_symbols import add_symbols, matched, read_rows
from napari_almadet.plugin.session import Session

pytestmark = pytest.mark.no_window


@pytest.fixture
def theirs(cube, tmp_path):
    """Four rows with VizieR's names: two are candidates, one is none, one lies outside."""
    x, y = np.array([60.4, 90.0, 20.0, 400.0]), np.array([50.2, 28.5, 20.0, 50.0])
    sky = cube.sky(x, y)
    names = ["NGC 1 A", "NGC 1 B", "faint", "far"]
    table = Table({"Name": names, "RAJ2000": sky.ra.deg, "DEJ2000": sky.dec.deg, "Fpeak": [1.5, 2.5, 3.5, 4.5]})
    table.write(tmp_path / "theirs.csv")
    return tmp_path / "theirs.csv"


def test_rows_are_symbols_with_their_columns_matched_with_candidates(session, viewer, theirs, qtbot, monkeypatch):
    told = []
    monkeypatch.setattr(catalogue_symbols, "show_info", told.append)
    add_symbols(session, theirs)
    qtbot.waitUntil(lambda: told != [], timeout=60_000)
    assert told == [
        "theirs.csv: 3 rows in the field, 1 outside. 2 are candidates within a beam (column candidate), 1 not."
    ]
    layer = next(layer for layer in viewer.layers if isinstance(layer, Points))
    assert layer.name == "theirs"
    np.testing.assert_allclose(layer.data, [[50.2, 60.4], [28.5, 90], [20, 20]], atol=1e-3)
    assert layer.features["Name"].tolist() == ["NGC 1 A", "NGC 1 B", "faint"]
    assert layer.features["Fpeak"].tolist() == [1.5, 2.5, 3.5]
    assert layer.features["candidate"].tolist() == [1, 3, 0]
    np.testing.assert_allclose(layer.scale, session.image.scale[-2:])
    assert len(session.detections.candidates) == 4
    assert session.image == viewer.layers["toy"]


def test_the_nearest_pairs_come_first_and_no_candidate_is_two_rows(detections):
    places = np.array([[50.0, 62.0], [50.0, 60.5], [72.0, 30.0]])
    assert matched(places, detections.candidates, 5).tolist() == [0, 1, 2]
    assert matched(places, [], 5).tolist() == [0, 0, 0]


def test_regions_are_symbols_too(cube, tmp_path):
    (tmp_path / "drawn.reg").write_text("image\ncircle(61,51,4)\ncircle(500,51,4)\n")
    rows = read_rows(tmp_path / "drawn.reg", cube)
    np.testing.assert_allclose(rows.places, [[50, 60]], atol=0.6)


def test_an_import_keeps_names_and_places_and_says_what_lay_outside(session, theirs, qtbot, monkeypatch):
    told = []
    monkeypatch.setattr("napari_almadet.plugin.session.show_info", told.append)
    session.networks = stand_in_networks
    session.take_in(theirs)
    qtbot.waitUntil(lambda: len(told) == 2, timeout=60_000)
    assert told[0] == "1 of the 4 sources lie outside the field."
    assert told[1].startswith("2 of 3 imported sources are already candidates")
    first, mine = session.detections.candidates[0], session.detections.candidates[-1]
    assert (first.note, mine.note, mine.origin) == ("NGC 1 A", "faint", "imported")
    assert "imported from theirs.csv: NGC 1 A at x 60.4, y 50.2" in first.reasons
    assert "imported from theirs.csv: faint at x 20.0, y 20.0" in mine.reasons
    session.undo()
    assert (first.note, len(session.detections.candidates)) == ("", 4)
    assert not any("imported" in reason for reason in first.reasons)


def test_sources_have_names_and_places(cube, theirs):
    notes = []
    sources = read_sources(theirs, cube, notes)
    assert [source.name for source in sources] == ["NGC 1 A", "NGC 1 B", "faint"]
    assert (sources[0].x, sources[0].y) == (pytest.approx(60.4, abs=1e-3), pytest.approx(50.2, abs=1e-3))
    assert notes == ["1 of the 4 sources lie outside the field."]


def test_a_session_needs_no_candidates_for_symbols(viewer, cube_image, theirs, qtbot, monkeypatch):
    told = []
    monkeypatch.setattr(catalogue_symbols, "show_info", told.append)
    session = Session.of(viewer)
    session.inspect(cube_image)
    add_symbols(session, theirs)
    qtbot.waitUntil(lambda: told == ["theirs.csv: 3 rows in the field, 1 outside."], timeout=60_000)
