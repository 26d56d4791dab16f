import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.tests.helper import assert_quantity_allclose
from rich.console import Console
from typer.testing import CliRunner

from napari_almadet import Cube, __version__, detection, preset_networks, read_cube
from napari_almadet.catalogue import result_folder as folder
from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cli import app as cli
from napari_almadet.cli import common, terminal
from napari_almadet.cli.app import no_display
from napari_almadet.cli.search_options import own_weights
from napari_almadet.evaluation import run
from napari_almadet.evaluation.finders import FINDERS
from napari_almadet.inspection.describe import with_error
from napari_almadet.paper.pipeline import Networks
from napari_almadet.search import search_networks
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import SETS
from napari_almadet.simulation.observe import Observation
from napari_almadet.simulation.scenarios import SCENARIOS

FILES = {
    *("catalog.ecsv", "candidates.ecsv", "lines.ecsv", "spectra.fits", "probability.fits", "mask.fits"),
    *("ds9.reg", "casa.crtf", "settings.json"),
}
CUBE_FILES = {"dirty.fits", "psf.fits", "mask.fits", "truth.ecsv", "simulation.json"}
ALL = {"catalog.ecsv", "cubes.ecsv"}
SMALL = Observation(size=96, n_channels=32, duration=600, integration=60)


def test_a_cube_gets_its_folder_and_a_short_table(almadet, cube, tmp_path):
    result = almadet("detect", cube(), "-o", tmp_path / "out", "--threshold", 0.5)
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "out" / "field").iterdir()} == FILES
    assert len(QTable.read(tmp_path / "out" / "field" / "catalog.ecsv")) == 1
    assert "field: 1 source found" in result.stdout
    assert re.search(r"v_rad +flux +peak *\nid +RA +Dec +\(km/s\) +\(Jy km/s\) +S/N", result.stdout)
    assert re.search(r"03:59:59\.8\d +-34:59:59\.[56]", result.stdout)


def test_options_reach_the_run(almadet, cube, tmp_path):
    arguments = ["--threshold", 0.5, "--min-snr", 7, "--keep-continuum", "--device", "cpu"]
    assert almadet("detect", cube(), "-o", tmp_path / "out", *arguments).exit_code == 0
    settings = QTable.read(tmp_path / "out" / "field" / "catalog.ecsv").meta["settings"]
    assert (settings["threshold"], settings["min_snr"], settings["device"]) == (0.5, 7, "cpu")
    assert settings["require_line"] is False


def test_nothing_found_is_said_and_written(almadet, cube, tmp_path):
    result = almadet("detect", cube(height=0), "-o", tmp_path / "out", "--threshold", 0.999)
    assert result.exit_code == 0
    assert "no source found; 1 of 1 candidates dropped" in result.stdout
    assert len(QTable.read(tmp_path / "out" / "field" / "catalog.ecsv")) == 0


def test_a_bad_cube_does_not_stop_the_others(almadet, cube, tmp_path):
    bad = tmp_path / "bad.fits"
    bad.write_text("no cube")
    result = almadet("detect", tmp_path / "absent.fits", bad, cube(), "-o", tmp_path / "out", "--threshold", 0.5)
    assert result.exit_code == 1
    assert "absent.fits" in result.stderr and "bad.fits" in result.stderr
    assert "2 of 3 cubes could not be searched" in result.stderr
    assert "Traceback" not in result.output
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"field", "almadet.log", *ALL}
    assert "Traceback" in (tmp_path / "out" / "almadet.log").read_text()  # of what made bad.fits unreadable


def test_cubes_of_one_name_do_not_overwrite_each_other(almadet, cube, tmp_path):
    one, other = cube("a/field.fits"), cube("b/field.fits", height=0)
    for _ in range(2):  # the second time the folders are the same ones
        result = almadet("detect", one, other, "-o", tmp_path / "out", "--threshold", 0.5)
        assert result.exit_code == 0, result.output
        found = {folder.name for folder in (tmp_path / "out").iterdir()}
        assert found == {"field", "field-2", *ALL}
    assert len(QTable.read(tmp_path / "out" / "field" / "catalog.ecsv")) == 1


def test_what_was_searched_is_not_searched_again_unless_something_changed(almadet, cube, tmp_path):
    path, out = cube(), tmp_path / "out"
    arguments = ["detect", path, "-o", out, "--threshold", 0.5]
    about = out / "field" / "settings.json"

    def run_again(*more):
        before = about.stat().st_mtime_ns
        result = almadet(*arguments, *more)
        assert result.exit_code == 0, result.output
        return about.stat().st_mtime_ns != before

    assert almadet(*arguments).exit_code == 0
    assert not run_again()
    assert "field: already searched, 1 source" in almadet(*arguments).stdout
    assert not run_again("--device", "cpu")  # where it ran changes nothing
    assert run_again("--overwrite")
    assert run_again("--min-snr", 7)
    arguments += ["--min-snr", 7]
    path.touch()
    assert not run_again()  # its contents are the same
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[3, 4, 5] += 1
    assert run_again()


def test_an_astronomers_work_is_not_overwritten_unasked(almadet, cube, tmp_path):
    path, out = cube(), tmp_path / "out"
    assert almadet("detect", path, "-o", out, "--threshold", 0.5).exit_code == 0
    detections = folder.read_result(out / "field")
    detections.kept[0].verdict = "accepted"
    folder.write_result(detections, out / "field")
    assert "already searched" in almadet("detect", path, "-o", out, "--threshold", 0.5).stdout
    result = almadet("detect", path, "-o", out, "--threshold", 0.6)
    assert result.exit_code == 1
    assert "contains your verdicts, notes or boxes" in result.stderr
    assert folder.read_result(out / "field").kept[0].verdict == "accepted"
    assert almadet("detect", path, "-o", out, "--threshold", 0.6, "--overwrite").exit_code == 0
    assert folder.read_result(out / "field").kept[0].verdict == "unreviewed"


def test_several_jobs_do_what_one_does(cube, tmp_path):
    """With the shipped networks, since the processes load their own.

    Each has a share of the threads, so the networks add up in another order and agree to single precision only."""
    paths = [cube(f"{name}.fits", height=height) for name, height in (("one", 100.0), ("two", 60.0))]
    bad = tmp_path / "bad.fits"
    bad.write_text("no cube")
    runner = CliRunner()
    catalogues = []
    for jobs in (1, 2):
        out = tmp_path / f"out{jobs}"
        arguments = ["detect", *map(str, (*paths, bad)), "-o", str(out), "-j", str(jobs), "--device", "cpu"]
        result = runner.invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 1
        assert "2 of 3 cubes searched: 2 sources" in result.stdout
        assert "1 of 3 cubes could not be searched" in result.stderr and "bad.fits" in result.stderr
        assert {file.name for file in out.iterdir()} == {"one", "two", "almadet.log", *ALL}
        assert "Traceback" in (out / "almadet.log").read_text()
        cubes = QTable.read(out / "cubes.ecsv")
        assert sorted(zip(cubes["cube"], cubes["status"], strict=True)) == [
            ("bad", "failed"),
            ("one", "searched"),
            ("two", "searched"),
        ]
        catalogues.append(QTable.read(out / "catalog.ecsv"))
    one, two = (table[np.argsort(table["cube"])] for table in catalogues)
    assert one["cube"].tolist() == ["one", "two"]
    for name in ("x", "y", "z", "f_sum", "prob"):
        assert_quantity_allclose(one[name], two[name], rtol=1e-4)


def test_quiet_is_quiet(almadet, cube, tmp_path):
    result = almadet("detect", cube(), "-o", tmp_path / "out", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [["detect"], ["detect", "x.fits", "--threshold", "2"], ["detect", "x.fits", "--device", "abacus"], ["no-command"]],
)
def test_a_command_not_understood_is_2(almadet, arguments):
    assert almadet(*arguments).exit_code == 2


COMMANDS = ("detect", "completeness", "evaluate", "simulate", "train", "demo")


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)])
def test_help_shows_no_types_of_python(almadet, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = almadet(*arguments, "--help").output
    assert not re.findall(r"<bool>|list\[|Path\]|<str>| range>", text)
    assert "--help   " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "tiff"), "'tiff' is not one of 'ecsv', 'votable', 'fits', 'csv'"),
        (("--threshold", "high"), "'--threshold': .*high|'--threshold': must be a number"),
        (("--jobs", "many"), "'--jobs' / '-j': .*many|'--jobs' / '-j': must be an integer"),
        (("--weights", "judge"), "--weights is judge, but must be NETWORK=FILE"),
        (("--beam", "drity"), "--beam is drity, but must be auto, dirty, clean, or an existing image"),
        (("--redshift", "3..1"), "redshift is 3..1, but must be greater than -1"),
    ],
)
def test_a_wrong_value_is_named_in_plain_words(almadet, monkeypatch, arguments, message):
    monkeypatch.setenv("COLUMNS", "200")
    result = almadet("detect", "cube.fits", *arguments)
    assert result.exit_code == 2
    assert re.search(message, result.output)
    assert not re.search("Value error|Input should|parse string", result.output)


@pytest.mark.parametrize(
    "command",
    [("detect", "cube.fits"), ("simulate",), ("evaluate",), ("train", "judge")],
)
def test_a_folder_that_cannot_be_made_is_said_before_the_work(almadet, tmp_path, command):
    (tmp_path / "file").touch()
    where = tmp_path / "file" / "out"
    result = almadet(*command, *([where] if command == ("simulate",) else ["-o", where]))
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "No results can be written to" in text
    assert "cube.fits" not in text
    assert "Traceback" not in text


def test_completeness_of_a_file_that_is_no_cube_is_one_sentence(almadet, tmp_path, monkeypatch):
    (tmp_path / "notes.fits").write_text("not a cube")
    result = almadet("completeness", str(tmp_path / "notes.fits"), "-o", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "it does not begin like a FITS file, with the keyword SIMPLE" in result.output
    assert "Traceback" not in result.output


def test_networks_that_cannot_be_loaded_are_one_sentence(almadet, cube, monkeypatch):
    def refuse(settings):
        raise ValueError("device 'cuda' is not available on this machine: choose auto or cpu")

    monkeypatch.setattr(detection, "load_networks", refuse)
    result = almadet("detect", cube(), "--device", "cuda")
    assert result.exit_code == 1
    assert "Cannot load the networks: device 'cuda' is not available" in result.stderr


def test_version_and_help(almadet):
    assert almadet("--version").stdout.strip() == f"napari-almadet {__version__}"
    for word in ("catalog.ecsv", "Examples", "Exit code", "--keep-continuum"):
        assert word in almadet("detect", "--help").stdout


def test_demo_without_a_window_prints_the_table(almadet, monkeypatch, cube_planes):
    from napari_almadet.simulation import dataset

    monkeypatch.setattr(dataset, "sample_cube", lambda kind: Cube.from_array(cube_planes(100), name=f"sample {kind}"))
    result = almadet("demo", "--headless")
    assert result.exit_code == 0
    assert "sample sources: " in result.stdout
    assert " x " in result.stdout and "channel" in result.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux may lack a display")
def test_demo_needs_a_display_for_its_window(monkeypatch):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not no_display()
    monkeypatch.delenv("DISPLAY")
    assert no_display()


def test_help_needs_none_of_the_slow_imports():
    code = "import sys, napari_almadet.cli.app; print({'torch', 'napari', 'scipy', 'astropy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_simulated_cubes_can_be_opened(almadet, tmp_path):
    arguments = ["--n", 2, "--set", "test", "--scenario", "empty", "--size", 64, "--channels", 16, "--no-sky", "-j", 1]
    result = almadet("simulate", tmp_path / "sim", *arguments)
    assert result.exit_code == 0, result.output
    folders = sorted((tmp_path / "sim").iterdir())
    assert [f.name for f in folders] == ["empty-00000", "empty-00001"]
    assert {f.name for f in folders[0].iterdir()} == CUBE_FILES
    assert read_cube(folders[0] / "dirty.fits").shape == (16, 64, 64)
    assert len(QTable.read(folders[0] / "truth.ecsv")) == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_can_be_simulated(almadet, tmp_path, scenario):
    arguments = ["--n", 1, "--set", "validation", "--scenario", scenario, "--size", 96, "--channels", 16, "-j", 1]
    result = almadet("simulate", tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    folder = tmp_path / f"{scenario}-00000"
    cube, truth = read_cube(folder / "dirty.fits"), QTable.read(folder / "truth.ecsv")
    assert len(truth) == 0 if scenario.endswith("empty") else len(truth) > 0
    assert set(np.unique(fits.getdata(folder / "mask.fits"))) <= {0, *truth["id"]}
    about = json.loads((folder / "simulation.json").read_text())
    assert about["scenario"] == scenario
    # what the header says of the beam is what the truth says
    beam = np.sqrt(truth.meta["clean_beam"]["major"] * truth.meta["clean_beam"]["minor"])
    assert np.sqrt(cube.beam_area * 4 * np.log(2) / np.pi) == pytest.approx(beam, rel=1e-4)
    assert cube.sky(48, 48).dec.deg == pytest.approx(about["observation"]["declination"], abs=1e-6)


def test_choices_are_those_of_the_simulation():
    """The command line takes them from elsewhere, so that its help imports no torch."""
    assert [str(s) for s in common.Scenario] == list(SCENARIOS)
    assert [str(s) for s in common.SetName] == list(SETS)
    assert [str(s) for s in common.FinderName] == list(FINDERS)


@pytest.fixture
def evaluate(almadet, tmp_path, monkeypatch):
    """Run `almadet evaluate` on small cubes with networks that see nothing."""
    monkeypatch.setattr(run, "load_networks", lambda settings: Networks(lambda b: b * 0, lambda b: b * 0))
    monkeypatch.setattr(run, "Observation", lambda: SMALL)
    return lambda *arguments: almadet("evaluate", "-o", tmp_path / "out", "-j", 1, "--device", "cpu", *arguments)


def test_evaluation_counts_what_is_there(evaluate, tmp_path):
    pytest.importorskip("matplotlib")
    result = evaluate("-n", 1, "--scenario", "paper", "--scenario", "empty")
    assert result.exit_code == 0, result.output
    table = Table.read(tmp_path / "out" / "scores.ecsv")
    assert list(table["scenario"]) == ["paper", "empty"]
    assert list(table["finder"]) == ["almadet"] * 2
    assert 3 <= table["sources"][0] <= 6
    assert table["completeness"][0] == table["sources"][1] == table["false_positives"].sum() == 0
    assert re.search(r"paper, 1 cubes, [3-6] sources", result.stdout)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"curves.ecsv", "errors.ecsv", "calibration.ecsv", "curves-paper.png", "summary.png", "test"} <= made


def test_evaluation_is_shown_again_without_running(evaluate, tmp_path, monkeypatch):
    assert evaluate("--render").exit_code == 1  # nothing there yet
    evaluate("-n", 2, "--scenario", "empty", "--finder", "peaks")
    (tmp_path / "out" / "scores.ecsv").unlink()
    monkeypatch.setattr(run, "simulate_cube", None)
    assert evaluate("--render").exit_code == 0
    table = Table.read(tmp_path / "out" / "scores.ecsv")
    assert (table["finder"][0], table["parameters"][0], table["cubes"][0]) == ("peaks", "threshold=4.5", 2)


def test_results_in_another_folder_are_added_and_shown(evaluate, tmp_path):
    evaluate("-n", 1, "--scenario", "empty", "--finder", "peaks")
    (tmp_path / "out").rename(tmp_path / "other")
    evaluate("-n", 2, "--scenario", "empty", "--finder", "flood-fill")
    result = evaluate("--join", tmp_path / "other")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 records from")
    table = Table.read(tmp_path / "out" / "scores.ecsv")
    assert sorted(zip(table["finder"], table["cubes"], strict=True)) == [("flood-fill", 2), ("peaks", 1)]
    result = evaluate("--join", tmp_path / "other" / "test")
    assert result.exit_code == 1 and "contains no results" in " ".join(result.output.split())
    assert evaluate("--join", tmp_path / "other", "--tune", "--finder", "peaks").exit_code == 2


def test_parameters_chosen_on_validation_cubes_are_used_on_others(evaluate, tmp_path):
    result = evaluate("-n", 2, "--scenario", "paper", "--finder", "peaks", "--tune")
    assert result.exit_code == 0, result.output
    best = json.loads((tmp_path / "out" / "tuned.json").read_text())["peaks"]
    assert f"peaks: threshold {best['parameters']['threshold']:g}; F1 {best['f1']:.3f}" in result.stdout
    evaluate("-n", 1, "--scenario", "paper", "--finder", "peaks")
    table = Table.read(tmp_path / "out" / "scores.ecsv")
    assert table["parameters"][0] == f"threshold={best['parameters']['threshold']:g}"
    assert evaluate("--tune").exit_code == 2


def test_a_finder_that_the_user_does_not_have_is_left_out_with_a_sentence(evaluate, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = evaluate("-n", 1, "--scenario", "empty", "--finder", "sofia", "--finder", "peaks")
    assert result.exit_code == 0, result.output
    assert "Without sofia. SoFiA-2 is not installed: there is no program sofia on the PATH" in " ".join(
        result.output.split()
    )
    assert list(Table.read(tmp_path / "out" / "scores.ecsv")["finder"]) == ["peaks"]
    assert evaluate("-n", 1, "--scenario", "empty", "--finder", "sofia").exit_code == 1


def test_parameters_on_an_edge_of_the_grid_are_warned_of(evaluate, monkeypatch):
    monkeypatch.setitem(FINDERS, "peaks", replace(FINDERS["peaks"], grid={"threshold": (2.5, 2.8, 3.0)}))
    result = evaluate("-n", 1, "--scenario", "paper", "--finder", "peaks", "--tune")
    assert "peaks: best at the edge of the values tried for threshold" in " ".join(result.output.split())


def test_results_of_something_else_stop_the_evaluation(evaluate):
    assert evaluate("-n", 1, "--scenario", "empty").exit_code == 0
    result = evaluate("-n", 1, "--scenario", "empty", "--seed", 1)
    assert result.exit_code == 1
    assert "Stopped:" in result.stderr and "another seed" in result.stderr


def test_weights_that_do_not_exist_are_named(tmp_path, cube):
    result = CliRunner().invoke(
        cli, ["detect", str(cube()), "-o", str(tmp_path), "--weights", "judge=nobody.safetensors"]
    )
    assert result.exit_code == 1
    assert "there are no weights 'nobody.safetensors'" in result.stderr


def test_every_network_of_the_presets_can_have_weights_of_ones_own():
    names = {name for name in vars(Settings()) if name in {*search_networks.WEIGHTS, *preset_networks.WEIGHTS}}
    assert len(names) == len(common.NetworkName)
    assert own_weights([f"{name}=mine.safetensors" for name in names]) == dict.fromkeys(names, "mine.safetensors")
    with pytest.raises(ValueError, match="extent_classifier"):
        own_weights(["nobody=mine.safetensors"])


def test_the_word_of_version_0_1_for_a_scenario_is_still_understood(almadet, tmp_path):
    assert almadet("simulate", tmp_path, "-n", 1, "--stratum", "empty", "--size", 64, "--channels", 8).exit_code == 0
    assert (tmp_path / "empty-00000" / "mask.fits").exists()
    assert "--stratum" not in almadet("simulate", "--help").output


def test_an_instrument_and_sources_of_ones_own_are_in_the_cube(almadet, tmp_path):
    own = ["--array", "vla_c", "--frequency", 22, "--channel-width", 2, "--declination", 30, "--robust", 0.5]
    own += ["--noise", 0.1, "--minutes", 20, "--sources", 2, 2, "--fwhm", 4, 5, "--line-fwhm", 5, 6]
    arguments = ["-n", 1, "--size", 96, "--channels", 16, "-j", 1, *own]
    result = almadet("simulate", tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "paper-00000"
    truth, about = QTable.read(folder / "truth.ecsv"), json.loads((folder / "simulation.json").read_text())
    assert len(truth) == 2
    assert about["observation"]["noise"] == pytest.approx(1e-4)
    assert about["observation"]["duration"] == 1200
    assert about["shapes"]["fwhm"] == [4, 5]
    scale = 96 / 360  # sizes are for 360 pixels, widths for 128 channels
    assert ((truth["fwhm_major"].value / scale > 4) & (truth["fwhm_major"].value / scale < 5)).all()
    assert ((truth["fwhm_line"] / (16 / 128) > 5) & (truth["fwhm_line"] / (16 / 128) < 6)).all()
    cube = read_cube(folder / "dirty.fits")
    assert cube.frequency(8).to_value("GHz") == pytest.approx(22)
    beam = np.sqrt(cube.beam_area * 4 * np.log(2) / np.pi)
    assert beam == pytest.approx(6, rel=0.06)  # pixels fit the beam


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "arrays", "--frequency", 100], "draws random arrays"),
        (["--scenario", "clouds", "--fwhm", 1, 2], "no Gaussian sources"),
        (["--scenario", "empty", "--fwhm", 1, 2], "no Gaussian sources"),
        (["--scenario", "pairs", "--beams", 1, 2], "to the scenarios galaxies and clouds"),
        (["--fwhm", 3, 2], "the minimum"),
        (["--pixel", 5], "too large for the longest baseline"),
        (["--array", "nowhere"], "no antenna configuration"),
        (["--sources", 3, 2], "the minimum"),
        (["--fwhm", 2, 3, "--mosaic", 2], "not for mosaics"),
    ],
)
def test_instruments_and_sources_that_cannot_be_are_refused(almadet, tmp_path, arguments, message):
    result = almadet("simulate", tmp_path, "-n", 1, "--size", 96, "--channels", 8, "-j", 1, *arguments)
    assert result.exit_code
    assert message in " ".join(result.output.replace("│", " ").split())


def test_own_weights_and_thresholds_are_measured_beside_the_presets(evaluate, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"as good as any to a stand-in")
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert evaluate("-n", 1, "--scenario", "empty").exit_code == 0
    result = evaluate("-n", 1, "--scenario", "empty", "--threshold", 0.9, "--weights", f"judge={file}")
    assert result.exit_code == 0, result.output
    names = {row["finder"] for row in Table.read(tmp_path / "out" / "scores.ecsv")}
    assert names == {"almadet", f"almadet-threshold-0.9-judge-{digits}"}
    nobody = evaluate("-n", 1, "--scenario", "empty", "--weights", "judge=nobody.safetensors")
    assert nobody.exit_code == 2
    assert "nobody.safetensors" in nobody.output


def test_sizes_and_snrs_of_galaxies_can_be_chosen(almadet, tmp_path):
    own = ["--scenario", "galaxies", "--frequency", 230, "--beams", 2, 2.5, "--snr", 30, 31]
    result = almadet("simulate", tmp_path, "-n", 2, "--size", 128, "--channels", 32, "-j", 1, *own)
    assert result.exit_code == 0, result.output
    for made in tmp_path.iterdir():
        truth = QTable.read(made / "truth.ecsv")
        assert (truth["snr_line"] < 32).all()
        assert (truth["snr_line"] > 15).any()  # of a galaxy that is cut by the field's edge, less is seen
        beam = np.sqrt(truth.meta["clean_beam"]["major"] * truth.meta["clean_beam"]["minor"])
        assert (truth["fwhm_major"].value < 2.5 * beam).all()


def test_the_short_table_is_never_cut_and_has_the_flux_of_continuum_sources(capsys, monkeypatch):
    data = np.random.default_rng(1).normal(size=(4, 64, 64)).astype(np.float32)
    cube = replace(Cube.from_array(data, name="toy"), unit=u.Jy / u.pix)
    kept = {"status": Status.KEPT, "f_sum": 12345.6, "err_f_sum": 234.5, "snr_pixel": 12.3, "blended": True}
    line = Candidate(101, Box(1, 9, 1, 9), 0.987, x=5.0, y=5.0, z=2.0, kind="line", edge=True, **kept)
    both = replace(line, id=102, kind="both", f_cont=0.00123, err_f_cont=0.0001)
    detections = Detections(cube, Settings(), [line, both], data[0], data[0], {})
    monkeypatch.setattr(terminal, "output", Console(width=40))
    terminal.report(detections)
    rows = [text.split() for text in capsys.readouterr().out.splitlines()]
    assert ["101", "5.0", "5.0", "2.0", "12346", "±", "234", "12.3", "0.99", "line", "blended", "edge"] in rows
    assert ["102", "5.0", "5.0", "2.0", "12346", "±", "234", "1.23", "12.3", "0.99", "both", "blended", "edge"] in rows
    assert any("(mJy)" in row for row in rows)


def test_what_was_subtracted_for_the_search_alone_is_printed_after_the_warnings(capsys, monkeypatch):
    data = np.ones((4, 8, 8), np.float32)
    detections = Detections(Cube.from_array(data, name="toy"), Settings(), [], data[0], data[0], {}, ["Few channels."])
    detections.provenance["dirty_beam"] = {"note": "34% of the sidelobes were subtracted for the search."}
    monkeypatch.setattr(terminal, "output", Console(width=100))
    terminal.report(detections)
    printed = capsys.readouterr().out
    assert "Note: Few channels.\nNote: 34% of the sidelobes were subtracted for the search." in printed


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (33.34175, 1.42309, "33.3 ± 1.4"),
        (0.29178, 0.0351, "0.292 ± 0.035"),
        (229.474812, 0.0022, "229.4748 ± 0.0022"),
        (302.3, 17.8, "302 ± 18"),
        (12345.6, 234.5, "12346 ± 234"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (2.312e-7, 1.04e-8, "2.31e-07 ± 1e-08"),
        (2.3e9, 1e8, "2.3e+09 ± 1e+08"),
        (8.1217, np.nan, "8.12"),
    ],
)
def test_fluxes_are_printed_to_the_second_digit_of_their_errors(value, error, text):
    assert with_error(value, error) == text
