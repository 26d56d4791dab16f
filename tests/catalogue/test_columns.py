"""Every column of a catalogue says what it is, in each format that can hold it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import votable
from astropy.io.votable.ucd import check_ucd
from astropy.table import QTable

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.catalogue.columns import DESCRIPTIONS, UCDS, ucd
from napari_almadet.catalogue.detections import Detections
from napari_almadet.catalogue.export import write_catalogue
from napari_almadet.catalogue.result_folder import write_result
from napari_almadet.cube.cube import Cube
from napari_almadet.settings import Settings

SHAPE = (8, 20, 20)


@pytest.fixture
def detections() -> Detections:
    cube = Cube.from_array(np.zeros(SHAPE, np.float32), name="toy")
    candidate = Candidate(1, Box(4, 9, 4, 9), 0.9, status=Status.KEPT, method="mask", kind="line", x=6.0, y=6.0)
    return Detections(cube, Settings(), [candidate], np.zeros(SHAPE[1:]), np.zeros(SHAPE[1:]), {})


def test_every_column_is_described_and_every_description_is_of_a_column(detections):
    table = detections.table()
    assert [name for name in table.colnames if not table[name].info.description] == []
    assert set(DESCRIPTIONS) | set(UCDS) <= set(table.colnames)
    assert table["err_w50"].info.description == "1 sigma error of w50, thermal noise only"


def test_every_column_is_on_the_page_of_the_catalogue(detections):
    page = (Path(__file__).parents[2] / "docs" / "catalogue.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    families = {  # shown as `ell_*` or with the column that they belong to
        name for name in detections.table().colnames if name.startswith("err_") or name == "fate"
    }
    assert set(detections.table().colnames) - families - named == {"x_max", "y_min"}  # `x_min` ... `y_max`


def test_the_columns_of_lines_are_described(detections, tmp_path):
    lines = QTable.read(write_result(detections, tmp_path / "result") / "lines.ecsv")
    assert [name for name in lines.colnames if not lines[name].info.description] == []
    assert "in channels" in lines["fwhm"].info.description


@pytest.mark.parametrize("ending", [".vot", ".fits", ".ecsv"])
def test_descriptions_go_along_in_each_format_that_can_hold_them(detections, tmp_path, ending):
    path = write_catalogue(detections, tmp_path / f"catalog{ending}")
    table, wanted = QTable.read(path), detections.table()
    for name in wanted.colnames:  # texts as well, which are made anew for VOTable and FITS
        assert " ".join((table[name].info.description or "").split()) == wanted[name].info.description, name


def test_votables_have_the_ucds_of_the_standard(detections, tmp_path):
    path = write_catalogue(detections, tmp_path / "catalog.vot")
    fields = {field.name: field.ucd for field in votable.parse_single_table(path).fields}
    assert fields["ra"] == "pos.eq.ra;meta.main"
    assert fields["err_ra"] == "stat.error;pos.eq.ra"
    assert fields["kind"] == "meta.code.class"
    assert fields == {name: ucd(name) for name in fields}
    for word in filter(None, fields.values()):
        assert check_ucd(word, check_controlled_vocabulary=True, has_colon=True), word
