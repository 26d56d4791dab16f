"""Commands that are told to end do so at once, whatever the libraries in between make of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
import typer
from typer.testing import CliRunner

from napari_almadet.cli import detect
from napari_almadet.cli.interrupts import Terminated, ends_at_once, interrupt
from napari_almadet.cli.logs import LOG_FILE, logged
from napari_almadet.cli.train import other_options

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
WORK = """
    import multiprocessing, sys, time, typer
    from napari_almadet.cli.interrupts import Terminated, ends_at_once, interrupt
    app = typer.Typer()

    @app.command()
    @ends_at_once
    def work(how: str) -> None:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
        child.start()
        print(child.pid, flush=True)
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            if how == "swallowed":
                return
            if how == "as a trainer does":
                sys.exit(0)
            raise

    app()
"""


@pytest.mark.parametrize("how", ["raised", "swallowed", "as a trainer does"])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code_and_without_children(how, sent, code):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORK), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Interrupted." in said
    assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


class Deleted:
    """An object during whose deletion a signal comes, where Python ignores exceptions."""

    def __init__(self, number: int):
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)
        for _ in range(1000):  # until Python has called the handler
            pass


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_while_an_object_is_deleted_is_not_lost(number, raised, capsys):
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(raised):
            Deleted(number)
            time.sleep(60)
    finally:
        signal.signal(number, before)
    assert "ignored" not in capsys.readouterr().err


def test_a_signal_while_an_object_is_deleted_ends_a_command():
    work = """
        import signal, time, typer
        from napari_almadet.cli.interrupts import ends_at_once
        app = typer.Typer()

        class Deleted:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
                for _ in range(1000):
                    pass

        @app.command()
        @ends_at_once
        def work() -> None:
            Deleted()
            time.sleep(100)

        app()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(work)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert "Interrupted." in ended.stderr
    assert "ignored" not in ended.stderr


def test_a_signal_while_a_library_is_loaded_ends_the_command_without_an_exception(tmp_path):
    (tmp_path / "slow.py").write_text("print('loading', flush=True)\nimport time\ntime.sleep(100)\n")
    code = """
        import sys, typer
        from napari_almadet.cli.interrupts import Terminated, ends_at_once, interrupt
        sys.path.insert(0, sys.argv.pop())
        app = typer.Typer()

        @app.command()
        @ends_at_once
        def work() -> None:
            try:
                import slow
            except BaseException:  # as a compiled library does, which then aborts the process
                import os
                os.abort()

        app()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "Interrupted. Run the same command again to resume.\n")


@pytest.mark.parametrize("command", ["completeness", "detect", "evaluate", "simulate", "train"])
def test_every_command_that_works_long_ends_at_once(command):
    import napari_almadet.cli.app  # noqa: F401 (which knows all commands)
    from napari_almadet.cli.common import app as almadet

    (registered,) = (c.callback for c in almadet.registered_commands if c.callback.__name__ == command)
    assert registered.__wrapped__.__name__ == command


def test_ctrl_c_while_the_program_starts_leaves_no_traceback():
    code = """
        import signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner's children may not hear of Ctrl-C
        from napari_almadet.cli.common import app

        @app.callback()
        def main() -> None:
            print("options are read", flush=True)
            time.sleep(100)

        @app.command()
        def work() -> None: ...

        app(["work"])
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "options are read\n"
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", -signal.SIGINT)  # 130 to a shell


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "Writing to the disk failed: No space left on device"),
        (
            OSError("Not enough space on disk:\nrequested 4, available 0"),
            "failed: Not enough space on disk: requested 4",
        ),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            "Writing to the disk failed: I/O error: No sp",
        ),
        (OSError("1024 requested and 512 written"), "Writing to the disk failed: 1024 requested and 512 written"),
        (PermissionError(13, "Permission denied", "/out/a"), "/out/a cannot be written: Permission denied"),
        (OSError(30, "Read-only file system", "/out"), "/out cannot be written: Read-only file system"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_sentence(error, said):
    app = typer.Typer()

    @app.command()
    @ends_at_once
    def work() -> None:
        raise error

    result = CliRunner().invoke(app, [])
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_scheduler_that_never_speaks_is_given_up(monkeypatch, capsys):
    pytest.importorskip("distributed")
    monkeypatch.setattr(detect, "SCHEDULER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(typer.Exit):
        detect.connected(f"tcp://127.0.0.1:{mute.getsockname()[1]}")
    assert "does not answer (no answer in 2.1 s)" in capsys.readouterr().err


def test_a_server_of_another_kind_is_no_scheduler(monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")

    def client(**_: object) -> None:  # as distributed 2026.8.0 answers the greeting "HTTP/1.1"
        raise MemoryError("Unable to allocate 3.07 EiB for an array with shape (3543824036068086856,)")

    monkeypatch.setattr(distributed, "Client", client)
    with pytest.raises(typer.Exit):
        detect.connected("tcp://127.0.0.1:80")
    assert "does not answer (what answers is no scheduler)" in capsys.readouterr().err


def test_networks_that_cannot_be_loaded_leave_their_traceback_in_the_log(tmp_path):
    class Search:
        @property
        def networks(self) -> None:
            raise RuntimeError("a fault inside")

    with logged(tmp_path, verbose=False), pytest.raises(RuntimeError):
        detect.loaded(Search())
    assert "Traceback" in (tmp_path / LOG_FILE).read_text()


def test_a_training_with_other_options_is_known(tmp_path):
    assert other_options(tmp_path / "run", {"network": "judge", "seed": 1, "epochs": 5}) == []
    assert other_options(tmp_path / "run", {"network": "judge", "seed": 1, "epochs": 9}) == []
    assert other_options(tmp_path / "run", {"network": "judge", "seed": 2, "epochs": 9}) == ["seed"]
