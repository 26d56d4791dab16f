"""Which pool of processes can be stopped in the middle of a task, and ends with its parent?

    python benchmarks/pools.py

A task of a minute writes an unfinished file and would remove it when it ends in any orderly way.  In the first trial
the program is interrupted and shuts the pool down as its library intends; in the second it is killed (SIGKILL, as by a
batch system or for lack of memory).  Printed are, for our own pool, for loky and for dask's LocalCluster, how long the
process that works on the task lives on (up to 20 s), and whether the unfinished file is left.  Not for Windows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = 60.0  # seconds
WATCHED = 20.0  # seconds, after which a process counts as left over
POOLS = ("ours", "loky", "dask")


def task(folder: str) -> None:
    """Take a minute, with an unfinished file named after the process."""
    unfinished = Path(folder) / str(os.getpid())
    unfinished.touch()
    try:
        time.sleep(TASK)
    finally:
        unfinished.unlink()


def work(kind: str, folder: str) -> None:
    """Give the task to a pool; shut the pool down at Ctrl-C."""
    if kind == "ours":
        from napari_almadet.processes import Pool

        with Pool(1) as pool:
            pool.submit(task, folder).result()
    elif kind == "loky":
        from joblib.externals.loky import ProcessPoolExecutor

        executor = ProcessPoolExecutor(1)
        try:
            executor.submit(task, folder).result()
        except KeyboardInterrupt:
            executor.shutdown(kill_workers=True)
    else:
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            client.submit(task, folder).result()


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state.strip()) and not state.startswith("Z")


def trial(kind: str, blow: signal.Signals) -> tuple[float, bool]:
    """Seconds that the process at work outlives a signal to its parent, and whether its unfinished file is left."""
    with tempfile.TemporaryDirectory() as folder:
        parent = subprocess.Popen([sys.executable, __file__, kind, folder], stderr=subprocess.DEVNULL)
        while not (files := list(Path(folder).iterdir())):
            if parent.poll() is not None:
                raise SystemExit(f"{kind}: no process began to work; is the library installed?")
            time.sleep(0.05)
        process = int(files[0].name)
        time.sleep(1)
        parent.send_signal(blow)
        began = time.monotonic()
        while is_alive(process) and time.monotonic() - began < WATCHED:
            time.sleep(0.05)
        lived, left = time.monotonic() - began, files[0].exists()
        for leftover in (process, parent.pid):
            if is_alive(leftover):
                os.kill(leftover, signal.SIGKILL)
        parent.wait()
    return lived, left


def main() -> None:
    """Run the command."""
    if len(sys.argv) == 3:
        work(*sys.argv[1:])
        return
    print("| pool | program | the process at work ends after | unfinished file |\n|---|---|---|---|")
    for kind in POOLS:
        for blow, name in ((signal.SIGINT, "interrupted"), (signal.SIGKILL, "killed")):
            lived, left = trial(kind, blow)
            after = f"{lived:.1f} s" if lived < WATCHED else f"not within {WATCHED:.0f} s"
            print(f"| {kind} | {name} | {after} | {'left' if left else 'removed'} |", flush=True)


if __name__ == "__main__":
    main()
