"""What fails inside is in a log beside the results, with its traceback; where nothing fails there is none."""

from __future__ import annotations

import json
import logging

import pytest

from napari_almadet.cli.logs import LOG_FILE, logged
from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.reading import read_cube


def test_a_fault_while_reading_leaves_its_traceback_in_the_log(tmp_path, monkeypatch, capsys):
    (tmp_path / "cube.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 2850)

    def fault(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("napari_almadet.cube.reading._read", fault)
    with logged(tmp_path / "out", verbose=False), pytest.raises(CubeError, match="a fault of ours"):
        read_cube(tmp_path / "cube.fits")
    text = (tmp_path / "out" / LOG_FILE).read_text()
    assert "Traceback" in text
    assert "ZeroDivisionError" in text
    assert capsys.readouterr().err == ""


def test_without_faults_there_is_no_log_and_verbose_prints(tmp_path, capsys):
    log = logging.getLogger("napari_almadet.anything")
    with logged(tmp_path, verbose=False):
        log.info("nothing of note")
    assert not (tmp_path / LOG_FILE).exists()
    with logged(tmp_path, verbose=True):
        log.info("something of note")
    assert "something of note" in capsys.readouterr().err
    assert not logging.getLogger("napari_almadet").handlers


def test_beside_progress_as_json_each_record_is_json_with_its_traceback(tmp_path, capsys):
    log = logging.getLogger("napari_almadet.anything")
    with logged(tmp_path, verbose=True, as_lines=True):
        log.info("something of note")
        try:
            raise ZeroDivisionError("a fault of ours")
        except ZeroDivisionError:
            log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["stage"], first["message"].endswith("something of note")) == ("log", True)
    assert "Traceback" in second["message"]
    assert (tmp_path / LOG_FILE).read_text().count("\n") > 3
