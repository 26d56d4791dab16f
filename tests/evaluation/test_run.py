"""Runs: what is done, kept, gone on with and refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u

from napari_almadet.catalogue.candidate import Box, Candidate, SourceMask
from napari_almadet.evaluation import run as module
from napari_almadet.evaluation.finders import Source
from napari_almadet.evaluation.results import Results, StaleResults
from napari_almadet.evaluation.run import (
    Classical,
    Preset,
    candidates_of,
    flux_in_hertz,
    found_record,
    join,
    mask_iou,
    measured_snr,
    object_of,
    processor_seconds,
    run,
    truth_record,
)
from napari_almadet.paper.pipeline import Networks
from napari_almadet.settings import Settings
from napari_almadet.simulation.array import primary_beam
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Observation

SMALL = Observation(size=96, n_channels=32, duration=600, integration=60)


@dataclass
class Everywhere:
    """Finds one source in each cube, and counts."""

    name: str = "everywhere"
    version: int = 1

    def about(self):
        return {"version": self.version}

    def ready(self):
        return self.search

    def search(self, field):
        return [Source(20.0, 21.0, Box(15, 26, 15, 26), "continuum", 7.0)]


class Broken(Everywhere):
    def search(self, field):
        raise ArithmeticError("no")


def everything(*arguments, **options):
    return list(run(*arguments, **{"jobs": 1, "device": "cpu"} | options))


@pytest.fixture
def made(monkeypatch):
    """Seeds of the cubes that were simulated."""
    seeds = []

    def simulate(seed, *arguments, **options):
        seeds.append(seed)
        return simulate_cube(seed, *arguments, **options)

    monkeypatch.setattr(module, "simulate_cube", simulate)
    return seeds


def test_each_cube_is_made_once_and_a_run_goes_on_where_it_stopped(tmp_path, small, made):
    finders = [Everywhere("a"), Everywhere("b")]
    steps = run(tmp_path, finders, ["paper", "empty"], 1, observation=small, jobs=1, device="cpu")
    assert next(steps) == (0, 2)
    assert next(steps) == (1, 2)
    steps.close()  # interrupted
    assert made == [seed_of("test", 0, "paper", 0)]
    assert everything(tmp_path, finders, ["paper", "empty"], 2, observation=small)[-1] == (4, 4)
    assert sorted(made) == sorted(seed_of("test", i, s, 0) for i in range(2) for s in ("paper", "empty"))
    whole = tmp_path / "whole"
    everything(whole, finders, ["paper", "empty"], 2, observation=small)
    for scenario in ("paper", "empty"):
        for name in ("a", "b", "truth"):
            ours, theirs = (Results(f / "test" / scenario / f"{name}.jsonl").read() for f in (tmp_path, whole))
            for record in (*ours.values(), *theirs.values()):
                record.pop("seconds", None)
            assert ours == theirs
    made.clear()
    assert everything(tmp_path, finders, ["paper", "empty"], 2, observation=small) == [(4, 4)]
    everything(tmp_path, [Everywhere("c")], ["paper"], 1, observation=small)
    assert made == [seed_of("test", 0, "paper", 0)]


def test_processes_give_what_one_gives(tmp_path, small):
    finders = [Classical("peaks"), Classical("peaks", {"threshold": 4.0})]
    for jobs in (1, 2):
        everything(tmp_path / str(jobs), finders, ["paper"], 2, observation=small, jobs=jobs)
    one, two = (Results(tmp_path / j / "test" / "paper" / "peaks threshold=4.jsonl").read() for j in "12")
    for i in range(2):
        for column in ("x", "y", "score", "snr_stack"):
            np.testing.assert_allclose(one[i]["sources"][column], two[i]["sources"][column], rtol=1e-3)


def test_the_time_of_a_finder_is_that_of_the_processor_in_it_and_in_its_programs():
    """Waiting does not count; the work of an ended program does."""
    begin = processor_seconds()
    time.sleep(0.5)
    assert processor_seconds() - begin < 0.25
    work = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", work], check=True)
    if sys.platform != "win32":  # which does not tell the time of ended programs
        assert processor_seconds() - begin > 0.45


def test_a_finder_that_fails_finds_nothing_and_may_try_again(tmp_path, small):
    everything(tmp_path, [Broken("x"), Everywhere("a")], ["paper"], 1, observation=small)
    file = Results(tmp_path / "test" / "paper" / "x.jsonl")
    assert file.read()[0]["error"] == "ArithmeticError: no"
    assert file.read()[0]["sources"]["x"] == []
    assert Results(tmp_path / "test" / "paper" / "a.jsonl").read()[0]["error"] is None
    everything(tmp_path, [Everywhere("x")], ["paper"], 1, observation=small)
    assert file.read()[0]["error"] is None


def test_results_of_other_weights_or_cubes_are_not_mixed(tmp_path, small, monkeypatch):
    everything(tmp_path, [Everywhere()], ["paper"], 1, observation=small)
    with pytest.raises(StaleResults, match="another version"):
        everything(tmp_path, [Everywhere(version=2)], ["paper"], 1, observation=small)
    with pytest.raises(StaleResults, match="another seed"):
        everything(tmp_path, [Everywhere()], ["paper"], 1, observation=small, seed=1)
    with pytest.raises(StaleResults, match="another observation"):
        everything(tmp_path, [Everywhere()], ["paper"], 1, observation=replace(small, noise=1.0))
    monkeypatch.setattr(module, "simulate_cube", lambda seed, *a, **k: simulate_cube(seed + 1, *a, **k))
    with pytest.raises(StaleResults, match="no longer makes the cubes"):
        everything(tmp_path, [Everywhere("new")], ["paper"], 1, observation=small)
    assert list(Results(tmp_path / "test" / "paper" / "new.jsonl").read()) == []


def test_folders_are_joined_if_their_cubes_and_finders_are_the_same(tmp_path, small):
    """The longer truth is kept, whichever folder has it, and what either folder has of a finder."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    everything(ours, [Everywhere("a"), Broken("x")], ["paper"], 2, observation=small)
    everything(theirs, [Everywhere("a"), Everywhere("b"), Everywhere("x")], ["paper"], 1, observation=small)
    everything(theirs, [Everywhere("b")], ["empty"], 1, observation=small)
    everything(theirs, [Everywhere("b")], ["paper"], 3, observation=small)
    assert join(ours, theirs) == 4 + 1 + 2  # of b, of x where it failed here, and of the truth
    stored = {path.relative_to(ours / "test").as_posix(): Results(path) for path in ours.glob("test/*/*.jsonl")}
    assert {name: list(file.read()) for name, file in stored.items()} == {
        "paper/truth.jsonl": [0, 1, 2],
        "paper/a.jsonl": [0, 1],
        "paper/b.jsonl": [0, 1, 2],
        "paper/x.jsonl": [0, 1],
        "empty/truth.jsonl": [0],
        "empty/b.jsonl": [0],
    }
    failed = stored["paper/x.jsonl"].read()
    assert (failed[0]["error"], failed[1]["error"]) == (None, "ArithmeticError: no")
    assert stored["paper/truth.jsonl"].about() == Results(theirs / "test" / "paper" / "truth.jsonl").about()
    assert everything(ours, [Everywhere("b")], ["paper"], 3, observation=small) == [(3, 3)]  # as if made here
    assert join(ours, theirs) == 0


def test_nothing_is_joined_if_any_file_is_of_another_evaluation(tmp_path, small, monkeypatch):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    everything(ours, [Everywhere("z")], ["paper"], 1, observation=small)
    before = {path: path.read_bytes() for path in ours.glob("test/*/*")}
    everything(theirs, [Everywhere("a"), Everywhere("z", version=2)], ["paper"], 1, observation=small)
    with pytest.raises(StaleResults, match="another version"):
        join(ours, theirs)
    monkeypatch.setattr(module, "simulate_cube", lambda seed, *a, **k: simulate_cube(seed + 1, *a, **k))
    everything(tmp_path / "other", [Everywhere("a")], ["paper"], 1, observation=small)
    with pytest.raises(StaleResults, match="not the same cubes"):
        join(ours, tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="no results"):
        join(ours, tmp_path / "missing")
    assert {path: path.read_bytes() for path in ours.glob("test/*/*")} == before


def test_presets_are_told_by_settings_and_weights(monkeypatch):
    cards = ({"sha256": "1"}, {"sha256": "2"})
    monkeypatch.setattr(module, "load_networks", lambda settings: Networks(None, None, cards=cards))
    about = Preset("paper", Settings(device="cpu")).about()
    assert about["weights"] == ["1", "2"]
    assert about == Preset("paper", Settings(device="cuda", batch_size=2)).about()
    assert about != Preset("paper", Settings(min_snr=7)).about()
    json.dumps(about)


def test_a_preset_finds_candidates_with_all_that_is_scored(tmp_path, small, monkeypatch):
    simple = Networks(lambda batch: batch, lambda batch: (batch / 10).clamp(0, 1))
    monkeypatch.setattr(module, "load_networks", lambda settings: simple)
    settings = Settings(device="cpu", threshold=0.6, require_line=False, min_snr=3)
    everything(tmp_path, [Preset("simple", settings)], ["paper"], 2, observation=small)
    records = Results(tmp_path / "test" / "paper" / "simple.jsonl").read()
    assert not [record["error"] for record in records.values() if record["error"]]
    sources = {key: [v for r in records.values() for v in r["sources"][key]] for key in records[0]["sources"]}
    assert len(sources["x"]) > 0
    assert all(0 <= p <= 1 for p in sources["prob"])
    for kind, z0, z1, fwhm in zip(*(sources[key] for key in ("kind", "z0", "z1", "fwhm")), strict=True):
        assert (z0 < z1 and fwhm > 0) or (kind == "continuum" and z0 == z1 == -1 and fwhm is None)


def test_a_missing_library_is_named(monkeypatch):
    assert Classical("sep", {"threshold": 2.5}).name == "sep threshold=2.5 minarea=20"
    monkeypatch.setitem(module.FINDERS, "sep", replace(module.FINDERS["sep"], package="no-such-thing"))
    with pytest.raises(ModuleNotFoundError, match="no-such-thing is not installed"):
        Classical("sep").about()


def test_flux_of_velocities_is_that_of_frequencies():
    """At 230 GHz one km/s is 767.2 kHz wide."""
    rest = 230 * u.GHz
    assert flux_in_hertz(u.Jy * u.km / u.s, rest) == pytest.approx(230e9 / 299792.458)
    assert flux_in_hertz(u.mJy * u.m / u.s, rest) == pytest.approx(230e9 / 299792.458 * 1e-6)
    assert flux_in_hertz(u.Jy * u.kHz, None) == pytest.approx(1e3)
    assert np.isnan(flux_in_hertz(u.Jy * u.km / u.s, None))
    assert np.isnan(flux_in_hertz(u.K * u.pix * u.km / u.s, rest))


def test_truth_is_stored_as_the_cube_sees_it(small, imager):
    simulated = simulate_cube(1, imager=imager)
    record = truth_record(simulated)
    truth, sources = simulated.truth, record["sources"]
    assert record["beam"] ** 2 == pytest.approx(small.clean_beam.major * small.clean_beam.minor)
    np.testing.assert_array_equal(sources["x1"] - sources["x0"], truth["x_max"] - truth["x_min"] + 1)
    np.testing.assert_array_equal(sources["z1"] - sources["z0"], truth["z_max"] - truth["z_min"] + 1)
    seen = primary_beam(small.size, small.cell, small.frequency)
    for flux, t in zip(sources["flux"], truth, strict=True):
        assert flux == pytest.approx(t["flux"].value * seen[round(t["y"].value), round(t["x"].value)])
    bare = truth_record(simulate_cube(1, "continuum-only", imager=imager))["sources"]
    assert set(bare["z0"]) == set(bare["z1"]) == {-1}
    assert set(bare["pair"]) == {0}


def test_measured_snr_is_that_of_the_truth(imager):
    """With the true box and line, within the noise itself (1) and what the highest of noisy pixels adds."""
    for seed in range(4):
        simulated = simulate_cube(seed, imager=imager)
        truth = simulated.truth
        strongest = truth[int(np.argmax(truth["snr_stack"]))]
        place = strongest["x"].value, strongest["y"].value
        box = Box(*(int(place[1] + d) for d in (-4, 5)), *(int(place[0] + d) for d in (-4, 5)))
        channels = (int(strongest["z_min"]), int(strongest["z_max"]) + 1)
        source = Source(*place, box, "both", 1.0, channels=channels, z=strongest["z"], fwhm=strongest["fwhm_line"])
        stack, line = measured_snr(cube_of(simulated, "x"), source)
        assert stack == pytest.approx(strongest["snr_stack"], rel=0.25, abs=3)
        assert line == pytest.approx(strongest["snr_line"], rel=0.25, abs=3)
        record = found_record([source], cube_of(simulated, "x"))
        assert record["snr_line"] == [line]
        assert (record["z0"], record["z1"]) == ([channels[0]], [channels[1]])


def test_a_source_that_several_finders_report_is_measured_once(monkeypatch, imager):
    cube = cube_of(simulate_cube(0, imager=imager), "x")
    source = Source(40.0, 41.0, Box(36, 46, 35, 45), "line", 1.0, channels=(3, 9), z=6.0, fwhm=3.0)
    others = [replace(source, z=7.0), replace(source, fwhm=4.0), replace(source, box=Box(30, 46, 35, 45))]
    others += [replace(source, x=60.0), replace(source, y=60.0), replace(source, channels=None)]
    calls = []
    monkeypatch.setattr(module, "measured_snr", lambda *a: calls.append(a) or measured_snr(*a))
    known = {}
    first = found_record([source], cube, known=known)
    again = found_record([replace(source, score=9.0), *others], cube, known=known)
    assert len(calls) == 1 + len(others)
    assert again["snr_line"][0] == first["snr_line"][0]
    np.testing.assert_equal([again[key] for key in ("snr_stack", "snr_line")], apart(cube, source, others))


def apart(cube, source, others):
    records = [found_record([s], cube) for s in (source, *others)]
    return [[r[key][0] for r in records] for key in ("snr_stack", "snr_line")]


def field_of(cube):
    return cube_of(SimpleNamespace(dirty=cube, observation=SMALL, beam=SMALL.clean_beam, seed=0), "by hand")


def test_a_candidate_belongs_to_the_object_that_its_peak_lies_in():
    data, labels = np.zeros((32, 96, 96), np.float32), np.zeros((32, 96, 96), np.int16)
    data[10, 40, 50], labels[9:12, 38:43, 48:53] = 5.0, 3
    data[20, 45, 58], labels[19:22, 44:47, 56:60] = 9.0, 2
    cube = field_of(data)
    box = Box(35, 48, 45, 60)
    line = Source(52.0, 42.0, box, "line", 9.0, channels=(8, 13), z=10.0)
    assert object_of(line, cube, labels) == 3
    assert object_of(replace(line, channels=(8, 25)), cube, labels) == 2
    own = np.zeros((5, 13, 15), bool)
    own[2:4, 3:8, 3:8] = True
    masked = replace(line, channels=(8, 25), mask=((8, 35, 45), own))
    assert object_of(masked, cube, labels) == 3
    # 2 channels x 25 pixels of its own, all of them the object's, which has 75
    assert mask_iou(masked, 3, labels) == pytest.approx(50 / 75)
    assert np.isnan(mask_iou(line, 3, labels))
    continuum = Source(52.0, 42.0, box, "continuum", 9.0)
    assert object_of(continuum, cube, labels) == 2
    assert object_of(Source(10.0, 10.0, Box(5, 15, 5, 15), "continuum", 9.0), cube, labels) == 0


def test_records_say_which_objects_were_found_and_what_kinds_there_are():
    simulated = simulate_cube(1, "galaxies", SMALL)
    truth = truth_record(simulated)["sources"]
    assert list(truth["kind"]) == ["galaxy"] * len(truth["x"])
    cube = cube_of(simulated, "galaxies")
    row = simulated.truth[int(np.argmax(simulated.truth["snr_line"]))]
    x, y = (float(row[axis].value) for axis in ("x_peak", "y_peak"))
    z = int(row["z_peak"])
    box = Box(int(y) - 2, int(y) + 3, int(x) - 2, int(x) + 3)
    source = Source(x, y, box, "line", 9.0, channels=(max(z - 1, 0), z + 2), z=float(z), fwhm=2.0)
    columns = found_record([source], cube, simulated.mask)
    assert columns["object"] == [row["id"]]
    assert np.isnan(columns["iou_3d"]).all()


def test_files_of_version_0_1_go_on(tmp_path):
    file = Results(tmp_path / "truth.jsonl")
    file.path.write_text(json.dumps({"set": "test", "stratum": "paper", "seed": 0}) + "\n")
    file.prepare({"set": "test", "scenario": "paper", "seed": 0})
    assert file.about()["scenario"] == "paper"
    with pytest.raises(StaleResults, match="scenario"):
        file.prepare({"set": "test", "scenario": "empty", "seed": 0})


def test_masks_are_handed_on_and_parts_of_an_object_are_not_counted():
    own = np.ones((3, 4, 5), bool)
    whole = Candidate(1, Box(0, 4, 0, 5), 0.9, mask=SourceMask((2, 0, 0), own))
    part = Candidate(2, Box(0, 2, 0, 2), 0.9, parent=1)
    detections = SimpleNamespace(kept=[whole, part], flux_unit=u.Jy * u.Hz, cube=SimpleNamespace(rest_frequency=None))
    (source,) = candidates_of(detections)
    assert source.mask == ((2, 0, 0), own)
