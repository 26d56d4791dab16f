"""Speed of a search relative to an earlier commit, on the same machine and cubes, and the time of each stage.

    python benchmarks/speed.py                                     # all figures but the longest
    python benchmarks/speed.py --only warm warm-fz --pairs 5       # some of them
    python benchmarks/speed.py --write                             # and docs/performance.md made of what was measured

The earlier commit's code is checked out beside the working tree (``git worktree``, in a temporary folder) and run by
the same Python.  Old and new code alternate on simulated cubes, so that both run under the same conditions; the ratios
are new over old of each pair: median, lowest and highest.  On a busy machine, only CPU times are meaningful.  SoFiA-2
is run if ``sofia`` is on the PATH.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil
from astropy.io import fits

from napari_almadet.processes import Pool
from napari_almadet.simulation.dataset import simulate_cube, write_cube
from napari_almadet.simulation.mosaic import write_mosaic
from napari_almadet.simulation.observe import Observation

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEFORE = "83539e6"  # the commit that the aims are ratios to
SEED = 45  # of the cubes: a field of ordinary sources
COMMAND = "from napari_almadet.cli import app; app()"
# A process that searches cubes when it is told to, with either commit's modules; a line of JSON for each.
WORKER = """
import json, resource, sys, time
from napari_almadet import detect, read_cube
try:
    from napari_almadet.detection import load_networks
except ImportError:
    from napari_almadet.pipeline.detect import load_networks
from napari_almadet import Settings
settings = Settings()
networks = load_networks(settings)
for line in sys.stdin:
    stages, last = {}, ["", time.perf_counter(), time.process_time()]
    def report(progress):
        name, clock, processor = last
        now, used = time.perf_counter(), time.process_time()
        if name:
            total = stages.setdefault(name, [0.0, 0.0])
            total[0] += now - clock
            total[1] += used - processor
        last[:] = progress.stage, now, used
    start, used = time.perf_counter(), time.process_time()
    found = detect(read_cube(line.strip()), settings, report, networks)
    report(type("End", (), {"stage": ""}))
    print(json.dumps({
        "clock": time.perf_counter() - start, "processor": time.process_time() - used,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "candidates": len(found.candidates), "stages": stages,
    }), flush=True)
"""


# The command's own steps for a cube and a folder, in one process; a JSON object of seconds of the processor.
STEPS = """
import gc, json, sys, time
from pathlib import Path
taken, last = {}, 0.0
def step(name):
    global last
    now = time.process_time()
    taken[name], last = taken.get(name, 0.0) + now - last, time.process_time()
step("Starting Python")
from napari_almadet.loading import exempt_at_exit, loading, spare_imports
exempt_at_exit()
with loading():
    import napari_almadet.cli
step("Importing the command: numpy, typer")
spare_imports()
with loading():
    from napari_almadet import batch
step("Importing astropy and scipy")
with loading():
    import napari_almadet.detection
step("Importing the search")
with loading():
    import torch
step("Importing torch")
search = batch.Search(batch.Settings(), overwrite=True)
search.networks
step("Loading the networks")
write = batch.write_result
def written(*arguments):
    step("Reading and searching the cube")
    write(*arguments)
    step("Writing the result")
batch.write_result = written
(task,) = batch.plan([Path(sys.argv[1])], Path(sys.argv[2]))
outcome = search(task, lambda progress: None)
assert outcome.status == "searched", outcome
step("Writing the result")
batch.write_tables([outcome], Path(sys.argv[2]))
step("Writing the table of all results")
print(json.dumps(taken))
"""


@dataclass
class Measured:
    """One run: seconds on the clock and of the processor, MiB resident at most."""

    clock: float
    processor: float
    memory: float
    candidates: int = 0
    stages: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Figure:
    """What is measured: ``aims`` are the highest ratios wanted, by the name of a number in :class:`Measured`."""

    name: str
    what: str
    cube: str
    aims: dict[str, float]
    warm: bool = False
    busy: int = 0
    jobs: int = 0
    threads: int = 0  # OMP_NUM_THREADS; 0: as it is


FIGURES = (
    Figure(
        "warm",
        "`detect()`, repeated in one process, plain FITS",
        "plain",
        {"clock": 0.28, "processor": 0.28},
        warm=True,
    ),
    Figure("warm-one", "the same in one thread", "plain", {"processor": 0.28}, warm=True, threads=1),
    Figure("warm-fz", "`detect()`, RICE-compressed", "packed", {"clock": 0.12}, warm=True),
    Figure("busy", "`detect()`, plain, with two busy loops running", "plain", {"clock": 0.12}, warm=True, busy=2),
    Figure("command", "`almadet detect`, plain FITS", "plain", {"clock": 0.40}),
    Figure("command-fz", "the same, RICE-compressed", "packed", {"clock": 0.28}),
    Figure("channels", "`detect()`, 2048 channels of 128 x 128 pixels", "channels", {"processor": 0.35}, warm=True),
    Figure(
        "mosaic",
        "`almadet detect`, a mosaic of 1 GB",
        "mosaic",
        {"clock": 0.35, "processor": 0.30, "memory": 0.75},
    ),
    Figure("jobs", "`almadet detect --jobs 2`, 20 cubes", "many", {"clock": 1 / 3}, jobs=2),
)
LONGEST = ("mosaic", "jobs")
RENAMED = {  # stages as BEFORE called them
    "Looking for bad channels": "Flagging bad channels",
    "Looking for sources": "Detecting sources",
    "Finding emission lines": "Detecting emission lines",
    "Judging candidates": "Classifying candidates",
    "Focusing on sources": "Making line-integrated images",
    "Writing down the provenance": "Recording the provenance",
}


def simulated(kind: str, folder: Path) -> list[Path]:
    """The cubes of a figure, made when they are first asked for.

    They are made in a process of their own: on Linux the peak memory of a process is at least that of the one that
    started it.
    """
    with Pool(1) as pool:
        (paths,) = pool.map(made, [kind], [folder])
    return paths


def made(kind: str, folder: Path) -> list[Path]:
    """The cubes of a figure in a folder."""
    target = folder / kind
    if kind == "many":
        return [simulated_one(target / f"cube-{i}", SEED + i) for i in range(20)]
    if kind == "mosaic":
        if not target.exists():
            write_mosaic(target, SEED, 4, "paper", Observation())
        return [target / "dirty.fits"]
    if kind == "channels":
        return [simulated_one(target, SEED, Observation(size=128, n_channels=2048, channel_width=1e6))]
    plain = simulated_one(folder / "plain", SEED)
    if kind == "plain":
        return [plain]
    target.mkdir(exist_ok=True)
    packed = target / "dirty.fits.fz"
    if not packed.exists():
        with fits.open(plain) as hdus:
            image = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="RICE_1", quantize_level=16)
            fits.HDUList([fits.PrimaryHDU(), image]).writeto(packed)
    return [packed]


def simulated_one(target: Path, seed: int, observation: Observation | None = None) -> Path:
    """One cube of the paper's scenario."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        write_cube(simulate_cube(seed, "paper", observation), target, sky=False)
    return target / "dirty.fits"


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """The sources of a commit beside the working tree."""
    target = folder / commit
    subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", target, commit], check=True)
    try:
        yield target / "src"
    finally:
        subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", target], check=True)


def environment(source: Path, threads: int = 0) -> dict[str, str]:
    """Of a process that runs the sources in a folder, whatever is installed, in so many threads if not 0."""
    more = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return {**os.environ, **more, "PYTHONPATH": str(source)}


class Worker:
    """A process with one commit's code, which searches cubes when it is told to."""

    def __init__(self, source: Path, threads: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment(source, threads),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def search(self, cube: Path) -> Measured:
        """Search a cube once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{cube}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{cube} could not be searched, see above")
        return Measured(**json.loads(line))

    def end(self) -> None:
        """End the process."""
        self.process.communicate()


def command(arguments: list[str], env: dict[str, str] | None = None) -> Measured:
    """Run a program to its end; the memory is that of it and its processes together, looked at 20 times a second."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = psutil.Popen(arguments, env=env, stdout=subprocess.DEVNULL)
    highest = 0
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            highest = max(highest, sum(one.memory_info().rss for one in family))
        except psutil.Error:
            pass  # one of them has just ended
        time.sleep(0.05)
    clock = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(clock, used, highest / 2**20)


def searched(source: Path, cubes: list[Path], jobs: int) -> Measured:
    """The command on some cubes."""
    with tempfile.TemporaryDirectory() as out:
        more = ["--jobs", str(jobs)] if jobs else []
        arguments = [sys.executable, "-c", COMMAND, "detect", *map(str, cubes), "-q", "-o", out, *more]
        return command(arguments, environment(source))


def steps_of_command(cube: Path, n: int) -> dict[str, float]:
    """Seconds of the processor that the steps of the command take in one thread, the current code's: median of n."""
    made = []
    for _ in range(n):
        with tempfile.TemporaryDirectory() as out:
            arguments, env = [sys.executable, "-c", STEPS, cube, out], environment(ROOT / "src", 1)
            run = subprocess.run(arguments, env=env, stdout=subprocess.PIPE, text=True, check=True)
            made.append(json.loads(run.stdout.splitlines()[-1]))
    return {name: median(one[name] for one in made) for name in made[0]}


@contextmanager
def busy_loops(n: int) -> Iterator[None]:
    """So many other processes that compute meanwhile."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def pairs(figure: Figure, cubes: list[Path], sources: tuple[Path, Path], n: int) -> list[tuple[Measured, Measured]]:
    """Old and new in turns, n times; which is first changes from pair to pair."""
    made = []
    with ExitStack() as stack:
        if figure.warm:
            workers = [Worker(source, figure.threads) for source in sources]
            for worker in workers:
                stack.callback(worker.end)
                worker.search(cubes[0])  # what is loaded once
        stack.enter_context(busy_loops(figure.busy))
        for i in range(n):
            both: list[Measured | None] = [None, None]
            for which in (0, 1) if i % 2 == 0 else (1, 0):
                if figure.warm:
                    both[which] = workers[which].search(cubes[0])
                else:
                    both[which] = searched(sources[which], cubes, figure.jobs)
            old, new = both
            assert old is not None
            assert new is not None
            made.append((old, new))
    return made


def sofia(cube: Path) -> Measured | None:
    """SoFiA-2 on a cube, 5 sigma, two threads; None where it is not installed."""
    program = shutil.which("sofia")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as out:
        parameters = Path(out) / "run.par"
        parameters.write_text(
            f"input.data = {cube}\nscfind.threshold = 5\nreliability.enable = false\npipeline.threads = 2\n"
            f"output.directory = {out}\noutput.writeCatASCII = true\n"
        )
        return command([program, str(parameters)])


def ratios(runs: list[tuple[Measured, Measured]], number: str) -> tuple[float, float, float]:
    """Median, lowest and highest of new over old."""
    all_of = [getattr(new, number) / getattr(old, number) for old, new in runs]
    return median(all_of), min(all_of), max(all_of)


def machine() -> dict[str, str | float]:
    """Where this was measured."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "processor": processor(),
        "cores": usable,
        "memory": round(psutil.virtual_memory().total / 2**30),
        "load": round(load, 1),
        "openmp": os.environ.get("OMP_NUM_THREADS", "not set"),
        "commit": commit.stdout.strip(),
        "before": BEFORE,
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "of unknown name"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[f.name for f in FIGURES], help="default: all but the longest")
    parser.add_argument("--all", action="store_true", help="the longest too: " + ", ".join(LONGEST))
    parser.add_argument("--pairs", type=int, default=3, help="of an old and a new run (default 3)")
    parser.add_argument("--cubes", type=Path, help="keep the simulated cubes in this folder")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "speed.json", help="where the numbers go")
    parser.add_argument("--keep", action="store_true", help="and what else is there stays: measured another time")
    parser.add_argument("--write", action="store_true", help=f"make {PAGE.relative_to(ROOT)} of them")
    options = parser.parse_args()
    chosen = [
        f
        for f in FIGURES
        if f.name in (options.only or [g.name for g in FIGURES if options.all or g.name not in LONGEST])
    ]
    results = {"figures": {}, "sofia": None}
    if options.keep and options.results.exists():
        results = json.loads(options.results.read_text())
    results["machine"] = machine()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, checked_out(BEFORE, Path(scratch)) as before:
        for source in (before, ROOT / "src"):
            compileall.compile_dir(source, quiet=1)  # as when it is installed
        folder = options.cubes or Path(scratch) / "cubes"
        folder.mkdir(parents=True, exist_ok=True)
        for figure in chosen:
            cubes, about = simulated(figure.cube, folder), machine()
            runs = pairs(figure, cubes, (before, ROOT / "src"), options.pairs)
            when = {key: about[key] for key in ("date", "commit", "load", "openmp")} | {"load_after": machine()["load"]}
            when |= {"openmp": figure.threads} if figure.threads else {}
            results["figures"][figure.name] = {**when, "runs": [[asdict(one) for one in pair] for pair in runs]}
            if figure.name == "command":
                results["steps"] = steps_of_command(cubes[0], options.pairs)
            options.results.write_text(json.dumps(results, indent=1))
            tell(figure, runs)
            for name, used in (results["steps"] if figure.name == "command" else {}).items():
                print(f"    {name:40} {1e3 * used:7.0f} ms of the processor")
        if any(figure.cube == "plain" for figure in chosen) and (other := sofia(simulated("plain", folder)[0])):
            results["sofia"] = asdict(other)
            print(f"SoFiA-2: {other.clock:.2f} s, {other.processor:.2f} s of the processor, {other.memory:.0f} MiB")
    options.results.write_text(json.dumps(results, indent=1))
    if options.write:
        PAGE.write_text(page(results), encoding="utf-8")


def tell(figure: Figure, runs: list[tuple[Measured, Measured]]) -> None:
    """Print one figure and, of a warm search, where its time goes."""
    print(f"{figure.name}: {figure.what}")
    for number, unit in (("clock", "s"), ("processor", "s"), ("memory", "MiB")):
        old, new = (median(getattr(run[i], number) for run in runs) for i in (0, 1))
        middle, low, high = ratios(runs, number)
        aim = f", aim {figure.aims[number]:.2f}" if number in figure.aims else ""
        print(f"  {number:9} {old:9.2f} -> {new:9.2f} {unit:3}  ratio {middle:.2f} ({low:.2f} to {high:.2f}){aim}")
    for name, both in budget(runs).items():
        print(f"    {name:32} {1e3 * both[0]:7.0f} -> {1e3 * both[1]:7.0f} ms of the processor")
    sys.stdout.flush()


def budget(runs: list[tuple[Measured, Measured]]) -> dict[str, tuple[float, float]]:
    """Median processor time of each stage, old and new; the new one's stages first, in their order."""
    stages = [
        [{RENAMED.get(name, name): used for name, (_, used) in one.stages.items()} for one in pair] for pair in runs
    ]
    names = dict.fromkeys(name for i in (1, 0) for name in stages[0][i])
    return {
        name: tuple(median(pair[i].get(name, 0.0) for pair in stages) for i in (0, 1))  # type: ignore[misc]
        for name in names
    }


def page(results: dict) -> str:
    """The text of docs/performance.md."""
    about = results["machine"]
    runs = {
        name: [(Measured(**old), Measured(**new)) for old, new in stored["runs"]]
        for name, stored in results["figures"].items()
    }
    lines = [
        INTRODUCTION.format(**about),
        "| measured | figure | before | now | ratio, median (range) | aim |",
        "|---|---|---|---|---|---|",
    ]
    missed, unmeasured = [], []
    for figure in FIGURES:
        if figure.name not in runs:
            unmeasured.append(figure.what)
            continue
        for number, (label, unit) in {
            "clock": ("clock", "s"),
            "processor": ("CPU", "s"),
            "memory": ("peak memory", "MiB"),
        }.items():
            old, new = (median(getattr(run[i], number) for run in runs[figure.name]) for i in (0, 1))
            middle, low, high = ratios(runs[figure.name], number)
            aim = figure.aims.get(number)
            said = "" if aim is None else f"{aim:.2f}"
            if aim is not None and middle > aim:
                name = {"clock": "elapsed time", "processor": "CPU time", "memory": "peak memory"}[number]
                missed.append(f"{figure.what}: {name} {middle:.2f} times the value before, aim {aim:.2f}")
            digits = 0 if number == "memory" else 2
            lines.append(
                f"| {figure.what if number == 'clock' else ''} | {label} "
                f"| {old:.{digits}f} {unit} | {new:.{digits}f} {unit} "
                f"| {middle:.2f} ({low:.2f} to {high:.2f}) | {said} |"
            )
    lines += ["", "## Where the time goes", ""]
    for name in ("warm-one", "warm-fz", "channels"):
        if name in runs:
            what = next(figure.what for figure in FIGURES if figure.name == name)
            lines += [f"{what}; CPU time in ms:", "", "| stage | before | now |", "|---|---|---|"]
            lines += [f"| {stage} | {1e3 * a:.0f} | {1e3 * b:.0f} |" for stage, (a, b) in budget(runs[name]).items()]
            lines.append("")
    if steps := results.get("steps"):
        lines += ["`almadet detect`, plain FITS, now, in one thread; CPU time in ms:", ""]
        lines += ["| step | now |", "|---|---|"]
        lines += [f"| {name} | {1e3 * used:.0f} |" for name, used in steps.items()]
        lines.append("")
    lines += ["## Date and load", ""]
    lines += [
        "| figure | runs | commit | date | load, at the start and end | OMP_NUM_THREADS |",
        "|---|---|---|---|---|---|",
    ]
    for figure in FIGURES:
        if figure.name in runs:
            when = results["figures"][figure.name]
            lines.append(
                f"| {figure.what} | {len(runs[figure.name])} | {when['commit']} | {when['date']} "
                f"| {when['load']}, {when['load_after']} | {when['openmp']} |"
            )
    lines += ["", "## Aims that are not reached", ""]
    lines += [f"* {text}." for text in missed] or ["* None of those measured."]
    if unmeasured:
        lines += ["", "Not measured this time:", "", *(f"* {what}." for what in unmeasured)]
    lines += ["", "## Comparison with SoFiA-2", "", beside_sofia(results["sofia"], runs), "", GPU]
    return "\n".join(lines)


def beside_sofia(stored: dict | None, runs: dict[str, list[tuple[Measured, Measured]]]) -> str:
    """The comparison in words."""
    if stored is None:
        return (
            "SoFiA-2 was not installed on this machine. If it is on the PATH, the script runs it on the same plain "
            "cube (5 sigma, two threads)."
        )
    other = Measured(**stored)
    parts = [f"SoFiA-2 takes {other.clock:.2f} s ({other.processor:.2f} s of the processor, {other.memory:.0f} MiB)"]
    for name, what in (("warm", "a warm search"), ("command", "the whole command")):
        if name in runs:
            new = median(run[1].clock for run in runs[name])
            parts.append(f"{what} {new:.2f} s, {new / other.clock:.2f} times as long")
    return "; ".join(parts) + "."


INTRODUCTION = """# How fast it is

Made by `python benchmarks/speed.py --write`. Commit {before} ("before") and the current code ("now") searched the same
simulated cubes (128 x 360 x 360 unless stated otherwise) alternately, on {system}, {processor}, with {cores} cores and
{memory} GiB.

* The [load of the machine](#date-and-load) affects the results. If the load exceeds the number of cores, elapsed times
  ("clock") mostly measure the other programs; CPU times are longer, too, because the programs share caches.
* If OMP_NUM_THREADS is not set, which is the usual case, the BLAS and OpenMP threads of the old code wait for each
  other in busy loops. The busier the machine, the more time this takes: on an idle machine the ratio is
  closer to the one measured with one thread.
* With OMP_NUM_THREADS=1 both versions use one thread, and the ratio of CPU times compares the work itself.
* Both versions are compiled to byte code beforehand, as installed packages are.
* The current code does more: it also measures the noise, and makes masks and joint fits.
"""

GPU = """## On a GPU

`python benchmarks/gpu.py` takes less than five minutes on one NVIDIA GPU. It prints the time per cube and stage in ms,
for data in device memory and in host memory. This page has no GPU times, because no GPU was available. It is not shown
that the aims are reached: 3.2 ms per cube from host memory and 1 ms from device memory. They cannot be reached as long
as bad channels, the components of bright sources, cutouts and fits are computed on the CPU. The test
`tests/search/test_waits.py` counts how often the CPU waits for the device, and fails if the number grows: 77 times in a
small field with bright sources, most of them during the subtraction of sidelobes.
"""


if __name__ == "__main__":
    main()
