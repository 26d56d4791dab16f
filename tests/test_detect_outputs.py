"""What `almadet detect` writes when it is asked for more, and how else it can be told what to do."""

from __future__ import annotations

import io
import json
import re
import tomllib
from functools import partial

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import validate
from astropy.table import QTable, Table


@pytest.fixture
def cube(cube):
    """The same with the rest frequency of CO(2-1)."""
    return partial(cube, rest_frequency=230.538e9)


def test_products_are_written_also_of_what_was_searched_before(almadet, cube, tmp_path):
    arguments = ["detect", cube(), "-o", tmp_path / "out", "--preset", "paper", "--threshold", 0.5]
    assert almadet(*arguments).exit_code == 0
    assert not (tmp_path / "out" / "field" / "field_mom0.fits").exists()
    result = almadet(*arguments, "--products")
    assert result.exit_code == 0 and "already searched" in result.output
    assert fits.getdata(tmp_path / "out" / "field" / "field_mom0.fits").max() > 0
    product = tmp_path / "out" / "field" / "field_cubelets" / "field_1_mom0.fits"
    written = product.stat().st_mtime_ns
    assert almadet(*arguments, "--products").exit_code == 0
    assert product.stat().st_mtime_ns == written  # they are there


def test_products_of_an_earlier_search_do_not_stay_beside_a_new_result(almadet, cube, tmp_path):
    arguments, out = ["detect", cube(), "-o", tmp_path / "out", "--preset", "paper"], tmp_path / "out" / "field"
    assert almadet(*arguments, "--threshold", 0.5, "--products").exit_code == 0
    (out / "notes.txt").write_text("mine")
    assert len(list(out.glob("field_*"))) > 4
    assert almadet(*arguments, "--threshold", 0.6).exit_code == 0
    assert not list(out.glob("field_*"))
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.filterwarnings("ignore::astropy.io.votable.exceptions.VOWarning")
def test_the_catalogue_comes_in_the_formats_asked_for(almadet, cube, tmp_path):
    out = tmp_path / "out"
    arguments = ["detect", cube(), "-o", out, "--preset", "paper", "--threshold", 0.5]
    assert almadet(*arguments, "--format", "votable", "--format", "fits", "--format", "csv").exit_code == 0
    table = QTable.read(out / "field" / "catalog.ecsv")
    for folder, more in ((out / "field", []), (out, ["cube", "cube_path"])):
        for ending in (".vot", ".fits", ".csv"):
            same = Table.read(folder / f"catalog{ending}")
            assert same.colnames == [*more, *table.colnames]
            assert np.allclose(same["x"], table["x"].value)
        assert not says_of(folder / "catalog.vot")
    assert QTable.read(out / "field" / "catalog.vot")["f_sum"].unit == table["f_sum"].unit
    assert almadet(*arguments, "--format", "csv", "--overwrite").exit_code == 0
    assert not (out / "field" / "catalog.vot").exists()  # of the result before
    assert almadet(*arguments, "--format", "fits").exit_code == 0
    assert (out / "field" / "catalog.fits").exists() and (out / "field" / "catalog.csv").exists()


def says_of(path):
    """What astropy's validator of VOTables finds."""
    text = io.StringIO()
    assert validate(path, output=text)
    found = text.getvalue()
    return [line for line in found.splitlines() if re.match(r"\d+: [WE]\d+", line)]


def test_the_catalogue_of_all_has_the_results_of_earlier_runs(almadet, cube, tmp_path):
    out = tmp_path / "out"
    one, other = cube("one.fits"), cube("other.fits")
    for path in (one, other):
        assert almadet("detect", path, "-o", out, "--preset", "paper", "--threshold", 0.5).exit_code == 0
    whole = QTable.read(out / "catalog.ecsv")
    assert list(whole["cube"]) == ["other", "one"]
    assert list(whole["cube_path"]) == [str(other.resolve()), str(one.resolve())]
    assert list(QTable.read(out / "cubes.ecsv")["cube"]) == ["other"]  # of this run


def test_a_run_is_one_file(almadet, cube, tmp_path):
    path, file = cube(), tmp_path / "runs" / "run.toml"
    options = ["--preset", "paper", "--threshold", 0.5, "--format", "csv", "--keep-continuum", "--products"]
    told = almadet("detect", path, "-o", tmp_path / "runs" / "out", *options, "--write-config", file)
    assert told.exit_code == 0 and not (tmp_path / "runs" / "out").exists()
    text = tomllib.loads(file.read_text())
    assert (text["out"], text["threshold"], text["require_line"], text["formats"]) == ("out", 0.5, False, ["csv"])
    assert almadet("detect", "--config", file).exit_code == 0
    folder = tmp_path / "runs" / "out" / "field"
    assert (folder / "catalog.csv").is_file() and (folder / "field_mom0.fits").is_file()
    settings = QTable.read(folder / "catalog.ecsv").meta["settings"]
    assert (settings["preset"], settings["threshold"], settings["require_line"]) == ("paper", 0.5, False)
    assert almadet("detect", "--config", file, "--threshold", 0.6).exit_code == 0
    assert QTable.read(folder / "catalog.ecsv").meta["settings"]["threshold"] == 0.6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("treshold = 0.5", "treshold is not an option"),
        ("threshold = 'high'", "threshold is 'high', but must be a number"),
        ("jobs = 2.5", "jobs is 2.5, but must be a whole number"),
        ("jobs = 0", "jobs is 0"),
        ("products = 1", "products is 1, but must be true or false"),
        ("preset = 'fast'", "preset is 'fast'"),
        ("cubes = 'a.fits'", "cubes is 'a.fits', but must be a list"),
        ("formats = ['pdf']", "formats is ['pdf'], but must be one of"),
        ("threshold = ", "not valid TOML"),
        ("threshold = 7", "threshold is 7"),
        ("cubes = ['none.fits']", "none.fits"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_a_sentence(almadet, tmp_path, line, said):
    file = tmp_path / "run.toml"
    file.write_text(f"out = 'out'\n{line}\n" + ("" if line.startswith("cubes") else "cubes = ['a.fits']\n"))
    result = almadet("detect", "--config", file)
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", result.output).split())
    assert result.exit_code in (1, 2)
    assert said in text and "Traceback" not in text
    if "must be" in said or "not an" in said:
        assert "run.toml" in text


def test_keys_of_a_file_may_have_dashes_and_paths_count_from_it(almadet, cube, tmp_path, monkeypatch):
    cube()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file = tmp_path / "run.toml"
    file.write_text("cubes = ['field.fits']\nout = 'there'\npreset = 'paper'\nthreshold = 0.5\nmin-snr = 6\n")
    assert almadet("detect", "--config", file).exit_code == 0
    assert QTable.read(tmp_path / "there" / "field" / "catalog.ecsv").meta["settings"]["min_snr"] == 6


def test_progress_is_a_json_object_a_line(almadet, cube, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_text("no cube")
    arguments = ["-o", tmp_path / "out", "--preset", "paper", "--threshold", 0.5, "--progress", "json"]
    result = almadet("detect", bad, cube(), *arguments)
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.exit_code == 1
    assert all({"cube", "stage", "done", "total"} <= set(line) for line in lines)
    assert {line["stage"] for line in lines if line["cube"] == "field"} >= {"Stacking channels", "searched"}
    assert [line["message"] != "" for line in lines if line["stage"] == "failed"] == [True]
    assert [line["kept"] for line in lines if line["stage"] == "searched"] == [1]


@pytest.mark.parametrize(
    ("preset", "option", "said"),
    [
        ("almadet", ["--min-snr", 7], "--min-snr has no effect with the preset almadet"),
        ("paper", ["--beam", "clean"], "--beam has no effect with the preset paper"),
        ("paper", ["--memory", 2], "--memory has no effect with the preset paper"),
        ("almadet", ["--weights", "deep_gru=x.safetensors"], "--weights deep_gru=x.safetensors has no effect"),
        ("almadet", [], None),
    ],
)
def test_an_option_without_effect_is_told(almadet, cube, tmp_path, preset, option, said):
    result = almadet("detect", cube(), "-o", tmp_path / "out", "--preset", preset, "--threshold", 0.5, *option)
    assert ("has no effect" in result.stderr) == bool(said)
    assert said is None or said in " ".join(result.stderr.split())


def test_a_cluster_and_the_preset_paper_do_not_go_together(almadet, cube, tmp_path):
    result = almadet("detect", cube(), "-o", tmp_path / "out", "--preset", "paper", "--scheduler", "tcp://x:1")
    assert result.exit_code == 2 and "preset almadet" in " ".join(result.stderr.split())


def test_lines_are_identified_also_of_what_was_searched_before(almadet, cube, tmp_path):
    arguments = ["detect", cube(), "-o", tmp_path / "out", "--preset", "paper", "--threshold", 0.5]
    assert almadet(*arguments, "--redshift", "near").exit_code == 2
    assert almadet(*arguments).exit_code == 0
    (row,) = QTable.read(tmp_path / "out" / "field" / "catalog.ecsv")
    assert np.ma.is_masked(row["line_ids"]) or row["line_ids"] == ""
    result = almadet(*arguments, "--redshift", "0..0.6")
    assert result.exit_code == 0 and "already searched" in result.output
    (row,) = QTable.read(tmp_path / "out" / "field" / "catalog.ecsv")
    assert row["line_ids"].startswith("CO 2-1 z=0.00") and "CO 3-2 z=0.50" in row["line_ids"]


def test_results_of_another_version_and_damaged_ones_do_not_spoil_the_table_of_all(almadet, cube, tmp_path):
    out = tmp_path / "out"
    arguments = ["-o", out, "--preset", "paper", "--threshold", 0.5]
    assert almadet("detect", cube("old.fits"), cube("bad.fits"), *arguments).exit_code == 0
    old = QTable.read(out / "old" / "catalog.ecsv")
    old.remove_columns(["line_ids", "f_sum_pb", "flag", "blended"])
    old["of_old"] = 3.5 * np.ones(len(old))
    old.write(out / "old" / "catalog.ecsv", overwrite=True)
    (out / "bad" / "catalog.ecsv").write_text("no table")
    assert almadet("detect", cube("new.fits"), *arguments).exit_code == 0
    whole = QTable.read(out / "catalog.ecsv")
    assert list(whole["cube"]) == ["new", "old"]
    assert np.isnan(whole["f_sum_pb"][1]) and whole["flag"][1] == 0 and not whole["blended"][1]
    assert np.isnan(whole["of_old"][0]) and whole["of_old"][1] == 3.5
    assert "bad" in (out / "almadet.log").read_text()
