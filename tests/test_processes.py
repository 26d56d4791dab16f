"""Pools of processes: stopped at once, never left behind, and with the threads they were given."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_almadet.processes import Pool

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by signals")


def number_and_threads(_item):
    return os.getpid(), os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]


def sleep_until_stopped(folder):
    """Leaves a file while it works, as a writer of results does, and removes it whatever happens."""
    unfinished = Path(folder) / f"{os.getpid()}.unfinished"
    unfinished.touch()
    try:
        time.sleep(120)
    finally:
        unfinished.unlink()


def processes_at_work(folder):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := [int(path.stem) for path in Path(folder).glob("*.unfinished")]:
            return found
        time.sleep(0.02)
    raise AssertionError("no process began to work")


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_compute_with_the_threads_they_were_given_and_leave_the_environment_alone():
    before = dict(os.environ)
    with Pool(1, threads=3) as pool:
        ((process, *threads),) = pool.map(number_and_threads, [0])
    assert process != os.getpid()
    assert threads == ["3", "3"]
    assert dict(os.environ) == before


def test_an_exception_stops_processes_in_the_middle_of_their_tasks(tmp_path):
    began = None
    with pytest.raises(KeyboardInterrupt), Pool(1) as pool:
        pool.submit(sleep_until_stopped, tmp_path)
        (process,) = processes_at_work(tmp_path)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 60  # the task would take 120 s
    assert not is_alive(process)
    assert not list(tmp_path.iterdir())  # what was unfinished was removed


def test_processes_end_when_their_parent_is_killed(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_processes import sleep_until_stopped
from napari_almadet.processes import Pool
Pool(1).submit(sleep_until_stopped, {str(tmp_path)!r}).result()
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        (process,) = processes_at_work(tmp_path)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 60
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(process)
    assert not list(tmp_path.iterdir())


def stopped_while_it_ends(_item):
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)


def test_a_process_that_is_stopped_while_it_ends_prints_no_traceback(capfd):
    with Pool(1) as pool:
        list(pool.map(stopped_while_it_ends, [0]))
    assert capfd.readouterr().err == ""


def test_an_exit_code_that_another_thread_has_taken_but_not_noted_is_waited_for():
    """As the executor's own thread does, between the system's answer and the note of it."""

    class Ending:
        codes = iter((None, None, 3))

        def join(self, timeout):
            pass  # the system knows no such process any more

        @property
        def exitcode(self):
            return next(self.codes, 3)

    with Pool(1) as pool:
        pool.context.started.append(Ending())
        assert pool.how_it_ended() == "its process ended with exit code 3"
        pool.context.started.clear()
