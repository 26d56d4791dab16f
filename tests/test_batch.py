"""Many cubes: nothing half, nothing twice, and no cube's failure is another's."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from napari_almadet import __version__, batch
from napari_almadet.batch import Outcome, Task, is_done, plan, run, together, write_tables
from napari_almadet.catalogue.result_folder import is_result, read_result, write_result
from napari_almadet.cube.reading import read_cube
from napari_almadet.progress import Progress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by signals")


def by_name(task, report):
    """A worker's task, told by the file's name; it must be found by a fresh process, so it stands here."""
    report(Progress("Working", 0, 1))
    name = task.path.stem
    if name.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("leaving"):
        os._exit(3)
    if name.startswith("slow"):
        task.folder.with_suffix(".started").write_text(str(os.getpid()))
        time.sleep(120)
    return Outcome(task, "searched", f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}", kept=1)


def tasks_of(*names, folder=Path()):
    return [Task(Path(f"{name}.fits"), folder / name) for name in names]


def test_a_process_that_dies_costs_one_cube_only():
    before = dict(os.environ)
    told = []
    tasks = tasks_of("a", "deadly-1", "b", "leaving", "c", "deadly-2", "d")
    outcomes = {o.task: o for o in run(tasks, by_name, 2, lambda task, step: told.append((task, step.stage)))}
    assert set(outcomes) == set(tasks)
    assert [outcomes[task].status for task in tasks] == [
        *("searched", "failed", "searched", "failed", "searched", "failed", "searched")
    ]
    assert "SIGKILL" in outcomes[tasks[1]].message and "memory" in outcomes[tasks[1]].message
    assert "code 3" in outcomes[tasks[3]].message
    processes = {int(o.message.split()[0]) for o in outcomes.values() if o.status == "searched"}
    assert os.getpid() not in processes
    assert {int(o.message.split()[1]) for o in outcomes.values() if o.status == "searched"} == {
        max(1, batch.cores() // 2)
    }
    assert dict(os.environ) == before
    assert (tasks[0], "Working") in told


def test_one_job_is_done_here():
    (outcome,) = run(tasks_of("a"), by_name)
    assert outcome.message.split()[0] == str(os.getpid())


def test_who_stops_listening_leaves_no_process(tmp_path):
    steps = run(tasks_of("quick", "slow-1", "slow-2", folder=tmp_path), by_name, 2)
    next(steps)
    started = list(waited_for(tmp_path, "slow-*.started", 1))
    steps.close()
    for pid in started:
        assert not alive(pid)


def waited_for(folder, pattern, count, seconds=100):
    """The numbers that so many files of a folder hold, once they are there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        texts = [path.read_text() for path in folder.glob(pattern)]
        if len([text for text in texts if text]) >= count:
            return [int(text) for text in texts if text]
        time.sleep(0.05)
    raise AssertionError(f"no {count} files {pattern} in {folder} after {seconds} s")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ended(group, seconds=30):
    """Whether no process of a group is left; the last one, of Python's own, goes a moment after the others."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_folders_belong_to_one_cube_each(tmp_path, detections_of, sky_cube, planes):
    out = tmp_path / "out"
    first, other = sky_cube(planes), tmp_path / "b" / "field.fits"
    other.parent.mkdir()
    other.write_bytes(first.path.read_bytes())
    both = plan([first.path, other, first.path], out)
    assert [(task.path, task.folder.name) for task in both] == [(first.path, "field"), (other, "field-2")]
    write_result(detections_of(first), out / "field")
    assert [task.folder.name for task in plan([other], out)] == ["field-2"]  # the first one's result is not in the way
    assert [task.folder.name for task in plan([first.path], out)] == ["field"]
    first.path.unlink()  # what is left of it may be replaced
    assert [task.folder.name for task in plan([other], out)] == ["field"]


def test_two_images_of_one_file_are_two_cubes(tmp_path, detections_of, sky_cube, planes):
    path, out = sky_cube(planes).path, tmp_path / "out"
    with fits.open(path) as hdus:
        images = [fits.ImageHDU(hdus[0].data, hdus[0].header, name=name) for name in ("A", "B")]
    both = tmp_path / "both.fits"
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(both)
    first, other = Path(f"{both}[A]"), Path(f"{both}[B]")
    (task,) = plan([first], out)
    result = detections_of(read_cube(first))
    result.provenance.update(version=__version__, networks={})
    write_result(result, task.folder)
    assert is_done(task, result.settings, {})
    assert not is_done(Task(other, task.folder), result.settings, {})
    assert plan([first], out) == [task]
    assert plan([other], out)[0].folder != task.folder


def test_one_table_of_all(tmp_path, detections_of, sky_cube, cube_of, planes):
    cubes = {
        "a": sky_cube(planes, "a"),
        "b": sky_cube(planes, "b", BUNIT="mJy/beam"),
        "c": cube_of(planes),
    }
    tables = {name: detections_of(cube).table() for name, cube in cubes.items()}
    del tables["c"]
    table = together(tables)
    assert table.colnames[:2] == ["cube", "id"]
    assert table["cube"].tolist() == ["a", "a", "b", "b"]
    assert table["f_sum"].unit == u.Jy * u.km / u.s
    assert table["f_sum"][2].value == pytest.approx(table["f_sum"][0].value / 1000)
    assert "LSRK" in table["v_rad"].info.description
    tables["c"] = detections_of(cubes["c"]).table()
    table = together(tables)  # pixels and channels are no flux
    assert table["f_sum"].unit is None
    assert table["f_sum_unit"].tolist() == ["Jy km / s"] * 2 + ["km mJy / s"] * 2 + ["chan pix"] * 2
    assert table["f_sum"][0] == table["f_sum"][2]
    assert table["v_rad"].info.description is None
    assert table["x"].unit == u.pix


def test_tables_are_written_even_of_nothing(tmp_path, detections_of, sky_cube, planes):
    cube = sky_cube(planes)
    task, bad = Task(cube.path, tmp_path / "out" / "field"), Task(tmp_path / "bad.fits", tmp_path / "out" / "bad")
    outcomes = [Outcome(bad, "failed", "it is bad")]
    assert [path.name for path in write_tables(outcomes, tmp_path / "out")] == ["cubes.ecsv"]
    write_result(detections_of(cube, empty=True), task.folder)
    write_tables([*outcomes, Outcome(task, "searched")], tmp_path / "out")
    assert len(QTable.read(tmp_path / "out" / "catalog.ecsv")) == 0
    assert QTable.read(tmp_path / "out" / "cubes.ecsv")["message"][0] == "it is bad"


def test_a_catalogue_in_memory_gives_the_same_table_of_all_as_its_file(tmp_path, detections_of, sky_cube, planes):
    cubes = [sky_cube(planes, "a"), sky_cube(planes, "b", BUNIT="mJy/beam")]
    results = [detections_of(cubes[0]), detections_of(cubes[1], empty=True)]
    tasks = [Task(cube.path, tmp_path / cube.name) for cube in cubes]
    for task, result in zip(tasks, results, strict=True):
        write_result(result, task.folder)
    outcomes = [Outcome(t, "searched", catalogue=r.table()) for t, r in zip(tasks, results, strict=True)]
    written = []
    for some in ([replace(outcome, catalogue=None) for outcome in outcomes], pickle.loads(pickle.dumps(outcomes))):
        write_tables(some, tmp_path)
        written.append(QTable.read(tmp_path / "catalog.ecsv"))
    by_file, by_memory = written
    assert len(by_file)
    assert by_file.meta == by_memory.meta
    assert by_file.pformat(max_lines=-1, max_width=-1) == by_memory.pformat(max_lines=-1, max_width=-1)
    for name in by_file.colnames:
        one, other = by_file[name].info, by_memory[name].info
        assert (one.dtype, one.unit, one.description) == (other.dtype, other.unit, other.description)


class Unloadable:
    """Work whose networks only a worker process tries to load."""

    @property
    def networks(self):
        raise ValueError(f"no weights in process {os.getpid()}")

    def __call__(self, task, report):
        raise AssertionError("no cube can be searched")


class Deadly(Unloadable):
    """Work whose networks take more memory than there is."""

    @property
    def networks(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_while_it_loads_the_networks_fails_its_cube_only():
    outcomes = list(run(tasks_of("a", "b", "c"), Deadly(), 2))
    assert {outcome.status for outcome in outcomes} == {"failed"}
    assert len(outcomes) == 3
    assert all("SIGKILL" in outcome.message for outcome in outcomes)


def test_networks_that_no_process_can_load_end_the_run_at_once():
    with pytest.raises(batch.NetworksError, match="no weights in process") as info:
        list(run(tasks_of("a", "b", "c"), Unloadable(), 2))
    assert str(os.getpid()) not in str(info.value)


@pytest.fixture
def many(tmp_path, planes_of, header):
    """Files of three small cubes with a source in each."""
    paths = []
    for number in range(3):
        paths.append(tmp_path / "cubes" / f"night{number}.fits")
        paths[-1].parent.mkdir(exist_ok=True)
        fits.writeto(paths[-1], planes_of([(40, 45, 16, 5, 20, 0)], (32, 80, 90), seed=number), header)
    return paths


@pytest.mark.timeout(600)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_leaves_nothing_half_and_goes_on(many, tmp_path, jobs):
    """The command is killed, without notice, in the middle; the same command then does the rest."""
    out = tmp_path / "out"
    code = "import sys; from napari_almadet.cli.app import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", code, "detect", *map(str, many), "-o", str(out), "--jobs", str(jobs)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 280
        while not (out.is_dir() and any(is_result(f) for f in out.iterdir())) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    whole = [folder for folder in out.iterdir() if not folder.name.startswith(".")]
    assert whole
    for folder in whole:
        assert len(read_result(folder).kept) == 1
    dates = {folder: json.loads((folder / "settings.json").read_text())["provenance"]["date"] for folder in whole}
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    names = {file.name for file in out.iterdir()}
    assert names == {*(path.stem for path in many), "catalog.ecsv", "cubes.ecsv"}
    for folder, date in dates.items():
        assert json.loads((folder / "settings.json").read_text())["provenance"]["date"] == date
    assert np.array_equal(QTable.read(out / "catalog.ecsv")["cube"], [path.stem for path in many])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_all_and_says_how_to_go_on(many, tmp_path, jobs):
    out = tmp_path / "out"
    for number in range(3, 12):  # enough for it never to be done in time
        shutil.copy(many[0], many[0].with_name(f"night{number}.fits"))
    paths = sorted(many[0].parent.iterdir())
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a runner's children may not
    code = f"{listen}; import sys; from napari_almadet.cli.app import app; app(sys.argv[1:])"
    command = [sys.executable, "-c", code, "detect", *map(str, paths), "-o", str(out), "--jobs", str(jobs)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 280
    while not (out.is_dir() and any(is_result(f) for f in out.iterdir())) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the command and its processes
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "Interrupted. Run the same command again" in said and "Traceback" not in said
    assert ended(process.pid)
    names = {file.name for file in out.iterdir()} - {"catalog.ecsv", "cubes.ecsv"}
    assert names and all(is_result(out / name) for name in names)  # nothing half, nothing hidden


def warning_too(task, report):
    logging.getLogger("napari_almadet.somewhere").warning("the beam of %s is odd", task.path.name)
    return Outcome(task, "searched")


def logging_work(task, report):
    """As a search does it."""
    with batch.records_kept() as log:
        outcome = warning_too(task, report)
    return replace(outcome, log=tuple(log))


def test_what_a_process_logs_comes_back_with_its_outcome():
    (outcome,) = run(tasks_of("a"), logging_work, 2)
    assert outcome.log == ("the beam of a.fits is odd",)
