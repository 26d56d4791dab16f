"""Windows searched here and on a cluster: the same catalogue, also when a worker dies in mid-run."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from napari_almadet import Cube, Settings, detect, read_cube
from napari_almadet.progress import Progress, finish, in_steps
from napari_almadet.search.distribute import each
from napari_almadet.search.windows import bytes_needed

distributed = pytest.importorskip("distributed")

SIZE = 150
SOURCES = [  # y, x, line centre, line FWHM, line peak, continuum
    (38, 40, 20, 5, 6, 0.5),
    (75, 74, 40, 6, 6, 0.5),  # where four windows meet
    (112, 36, 30, 5, 6, 0.0),
    (40, 115, 12, 4, 7, 0.5),
]


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as local:
        yield local


@pytest.fixture
def cube(planes_of, sky_cube):
    return sky_cube(planes_of(SOURCES, shape=(48, SIZE, SIZE), seed=5))


def in_windows(cube) -> Settings:
    """Settings that let windows have some 58 of the field's 75 averaged pixels on a side: four cover it."""
    return Settings(memory=np.polyval(bytes_needed(cube.shape, 2)[::-1], 58**2) / 1e9, device="cpu")


def as_rows(detections) -> list[tuple]:
    return [(c.id, c.box, c.channels, str(c.status), c.kind) for c in detections.candidates]


def test_a_cube_from_a_file_is_pickled_as_its_path(cube):
    sent = pickle.dumps(cube)
    assert len(sent) < 0.05 * cube.data.size
    there = pickle.loads(sent)
    np.testing.assert_array_equal(there.read(), cube.read())
    assert there.velocity(3.5) == cube.velocity(3.5)
    assert (there.name, there.path, there.beam) == (cube.name, cube.path.resolve(), cube.beam)


def test_a_cube_in_memory_is_pickled_whole(cube):
    there = pickle.loads(pickle.dumps(Cube.from_array(cube.read(), "bare")))
    np.testing.assert_array_equal(there.read(), cube.read())


@in_steps
def square(number: int, power: int):
    yield Progress("Squaring", 0, 1)
    return number**power


def test_results_come_in_order_with_the_tasks_own_progress():
    told = []
    assert finish(each(square, [3, 1, 2], 2, stage="Squares"), told.append) == [9, 1, 4]
    assert [step.stage for step in told] == [f"Squaring (window {i} of 3)" for i in (1, 2, 3)]


def test_a_cluster_finds_the_same_though_a_worker_is_killed(cube, cluster):
    settings = in_windows(cube)
    here = detect(cube, settings)
    assert here.provenance["scales"]["windows"] == 4
    assert len(here.kept) == len(SOURCES)
    killed = []

    def kill(step: Progress) -> None:
        if step.stage == "Searching windows" and step.done == 1 and not killed:
            killed.append(next(iter(cluster.workers.values())).process.pid)
            os.kill(killed[0], signal.SIGKILL)

    with distributed.Client(cluster) as client:
        there = detect(cube, settings, kill, client=client)
    assert killed
    assert as_rows(there) == as_rows(here)
    for one, other in zip(there.kept, here.kept, strict=True):
        assert (one.x, one.y, one.z, one.f_sum, one.prob) == pytest.approx(
            (other.x, other.y, other.z, other.f_sum, other.prob), rel=1e-3
        )
    np.testing.assert_allclose(there.probability, here.probability, atol=1e-3)
    assert there.provenance["networks"] == here.provenance["networks"]


def test_from_memory_and_from_a_file_the_catalogue_is_the_same(cube):
    from dataclasses import replace

    settings = in_windows(cube)
    assert as_rows(detect(replace(cube, data=cube.read(), path=None), settings)) == as_rows(detect(cube, settings))


def test_the_command_searches_on_a_cluster_and_never_loads_torch(cube, cluster, tmp_path):
    code = (
        "import sys, json\nfrom napari_almadet.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\nprint(json.dumps('torch' in sys.modules))"
    )
    command = ["detect", str(cube.path), "-o", str(tmp_path), "--scheduler", cluster.scheduler_address, "-q"]
    run = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=250, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) is False
    assert len(QTable.read(tmp_path / cube.name / "catalog.ecsv")) == len(SOURCES)


def test_a_cluster_needs_a_file_and_the_preset_almadet(cube, cluster):
    with distributed.Client(cluster) as client:
        with pytest.raises(ValueError, match="in memory only"):
            detect(Cube.from_array(cube.read()), client=client)
        with pytest.raises(ValueError, match="preset almadet"):
            detect(cube, Settings(preset="paper"), client=client)


def test_a_cube_that_breaks_on_a_worker_is_an_error_here(cube, cluster, tmp_path):
    path = tmp_path / "gone.fits"
    fits.writeto(path, cube.read(), cube.header)
    gone = read_cube(path)
    path.unlink()
    with distributed.Client(cluster) as client, pytest.raises(Exception, match="no longer exists"):
        detect(gone, in_windows(cube), client=client)
