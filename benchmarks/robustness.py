"""Hostile input and kills: does anything die, hang, raise what nobody catches, or mix two results?

    python benchmarks/robustness.py headers -n 10000      # mutated headers, each read
    python benchmarks/robustness.py files -n 2000         # damaged cubes, catalogues, regions, weights, antenna files
    python benchmarks/robustness.py folders -n 500        # damaged result folders, each opened
    python benchmarks/robustness.py kills -n 200          # detect, save, journal, simulate, train, ended at any moment

Everything follows from ``--seed``; nothing is kept.  Inputs are read in a process of their own, which may take
``--limit`` seconds for each and is started again when it dies.  The mutated headers are those of
``tests/cube/test_cube_fuzzed.py``, which also asks whether a coordinate is wrong without a word.  What is found is
printed as a seed: ``--first SEED -n 1`` makes it again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from astropy.io import fits

from napari_almadet import Cube, Settings, read_cube, read_result, write_result
from napari_almadet.catalogue.candidate import Box, Candidate
from napari_almadet.catalogue.detections import Detections
from napari_almadet.catalogue.export import ExchangeError, read_boxes, write_catalogue, write_regions
from napari_almadet.catalogue.result_folder import FolderError, Journal, is_result
from napari_almadet.cube.errors import CubeError

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 400  # letters of a message
SHAPE = (12, 40, 48)
ODD = (None, True, -1, 0, 1e308, 10**400, "", "x" * 5000, "\x00", "../../elsewhere", [], {}, [[[]]], {"a": {"b": []}})
PATIENCE = 2.0  # seconds in which the processes of a command end after it
SHIFT = 1_000_003  # between the seeds of two runs


# --- what is read ---


def cases(folder: Path) -> dict[str, Path]:
    """Whole files of all kinds that are read, by their kind."""
    fuzzed = fuzz_module()
    header = fuzzed.pristine(0)
    rng = np.random.default_rng(0)
    made = {kind: folder / f"whole.{kind}" for kind in ("fits", "fits.gz", "fits.fz", "hdf5", "ecsv", "vot", "csv")}
    made |= {kind: folder / f"whole.{kind}" for kind in ("reg", "crtf", "cfg", "safetensors", "txt")}
    made["catalogue.fits"] = folder / "catalogue.fits"
    made["fits"].write_bytes(fuzzed.file_of(header))
    fits.open(made["fits"]).writeto(made["fits.gz"])
    image = fits.CompImageHDU(fuzzed.DATA[0].astype("f4"), field(), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(made["fits.fz"])
    found = detections(Cube.from_array(rng.normal(size=SHAPE).astype(np.float32)))
    for kind in ("ecsv", "vot", "csv", "catalogue.fits"):
        write_catalogue(found, made[kind])
    for kind in ("reg", "crtf"):
        write_regions(found, made[kind])
    names = "name id x y z x_min x_max y_min y_max z_min z_max f_sum"
    rows = ('"SoFiA J1" 1 7.2 5.1 7.0 3 14 2 10 3 11 1.5', '"SoFiA J2" 2 20.0 14.0 9.0 12 28 10 19 0 11 0.7')
    made["txt"].write_text("\n".join(["# SoFiA 2.6.0", "#", f"# {names}", *rows]) + "\n")
    made["cfg"].write_text(
        "# observatory=ALMA\n# coordsys=LOC (local tangent plane)\n# x y z diam pad\n"
        + "".join(f"{a:.2f} {b:.2f} 0.0 12.0 A{i:03d}\n" for i, (a, b) in enumerate(rng.normal(0, 300, (12, 2))))
    )
    shutil.copy(ROOT / "src/napari_almadet/networks/weights/judge.safetensors", made["safetensors"])
    with contextlib.suppress(ModuleNotFoundError):
        import h5py

        with h5py.File(made["hdf5"], "w") as file:
            data = file.create_dataset("0/DATA", data=fuzzed.DATA[0].astype("f4"), chunks=True, compression="gzip")
            data.parent.attrs.update({key: value for key, value in field().items() if key})
    return {kind: path for kind, path in made.items() if path.exists()}


def field() -> fits.Header:
    """A header of three axes."""
    cards = fits.Header({"BUNIT": "Jy/beam", "BMAJ": 8e-4, "BMIN": 6e-4, "BPA": 30.0, "RESTFRQ": 230.538e9})
    axes = (("RA---SIN", 150.0, -1e-4, "deg"), ("DEC--SIN", -35.0, 1e-4, "deg"), ("FREQ", 230e9, 1e7, "Hz"))
    for i, (kind, value, step, unit) in enumerate(axes, 1):
        cards.update({f"CTYPE{i}": kind, f"CRVAL{i}": value, f"CDELT{i}": step, f"CUNIT{i}": unit, f"CRPIX{i}": 3.0})
    return cards


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with something wrong: bytes changed, cut out, doubled or moved, its end missing, digits exchanged."""
    array = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        n = len(array)
        if n < 4:
            break
        # half of all in the first kilobytes, where headers are
        at = int(rng.integers(0, min(n, 6000) if rng.random() < 0.5 else n))
        kind, length = rng.integers(0, 7), int(rng.integers(1, 1 + min(n - at, 2 ** int(rng.integers(1, 13)))))
        if kind == 0:
            array[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            array[at : at + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
        elif kind == 2:
            del array[at:]
        elif kind == 3:
            del array[at : at + length]
        elif kind == 4:
            array[at:at] = array[at : at + length]
        elif kind == 5:
            array[at : at + length] = bytes([int(rng.choice([0, 32, 255]))]) * length
        else:
            digits = [i for i in range(at, min(n, at + 400)) if 48 <= array[i] < 58]
            if digits:
                array[digits[int(rng.integers(len(digits)))]] = int(rng.choice([45, 46, 48, 57, 69, 101]))
    return bytes(array)


def read_header(seed: int, folder: Path, _whole: dict[str, Path]) -> str:
    """Read one mutated header; AssertionError where a coordinate is wrong without a word."""
    fuzzed, rng, path = fuzz_module(), np.random.default_rng([seed, 1]), folder / "a.fits"
    which = seed % 6
    path.write_bytes(fuzzed.file_of(fuzzed.pristine(which)))
    first, header = read_cube(path), fuzzed.pristine(which)
    said = " and ".join(fuzzed.mutate(header, rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))
    return fuzzed.check(path, fuzzed.file_of(header), first, said)


def read_file(seed: int, folder: Path, whole: dict[str, Path]) -> str:
    """Read one damaged file with whatever reads its kind."""
    rng = np.random.default_rng([seed, 2])
    kind = list(whole)[seed % len(whole)]
    path = folder / f"damaged{seed % 50}.{kind.removeprefix('catalogue.')}"
    path.write_bytes(damaged(whole[kind].read_bytes(), rng))
    try:
        if kind in ("fits", "fits.gz", "fits.fz", "hdf5"):
            cube = read_cube(path)
            if np.prod(cube.shape, dtype=float) < 1e6:
                cube.read()
        elif kind == "safetensors":
            from napari_almadet.networks.weights import load

            load(path)
        elif kind == "cfg":
            from napari_almadet.simulation.antenna_file import read_cfg

            read_cfg(path)
        else:
            read_boxes(path, Cube.from_array(np.ones(SHAPE, np.float32)), [])
    except (CubeError, ExchangeError) as error:
        return refused(error)
    except (OSError, ValueError, RuntimeError) as error:
        if kind in ("safetensors", "cfg"):  # which commands show as the sentence they are
            return refused(error)
        raise
    finally:
        path.unlink(missing_ok=True)
    return "read"


def read_folder(seed: int, folder: Path, whole: dict[str, Path]) -> str:
    """Open one result folder that is not as it was written."""
    rng, out = np.random.default_rng([seed, 3]), folder / "result"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole["result"], out)
    for _ in range(rng.choice([1, 1, 2])):
        names = sorted(p.name for p in out.iterdir() if p.is_file() and not p.is_symlink())  # never through a link
        spoil(out / names[int(rng.integers(len(names)))], rng)
    try:
        if not is_result(out):
            return "no result"
        found = read_result(out)
        found.table(found.candidates)
    except (FolderError, CubeError) as error:
        return refused(error)
    return "read"


def spoil(path: Path, rng: np.random.Generator) -> None:
    """Change one file of a folder."""
    kind = rng.integers(0, 6)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.unlink()
        path.mkdir()
    elif kind == 2:
        path.unlink()
        path.symlink_to(rng.choice(["../cube.fits", "../elsewhere", path.name, "settings.json"]))
    elif kind in (3, 4) and path.suffix in (".json", ".jsonl"):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = int(rng.integers(len(lines)))
        with contextlib.suppress(ValueError):
            lines[at] = json.dumps(otherwise(json.loads(lines[at]), rng))
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_bytes(damaged(path.read_bytes(), rng))


def otherwise(value: Any, rng: np.random.Generator) -> Any:
    """What JSON holds, with something else in one place."""
    if isinstance(value, dict | list) and len(value) and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(value, dict) and rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != key}
        value = value.copy()
        value[key] = otherwise(value[key], rng)
        return value
    return ODD[int(rng.integers(len(ODD)))]


def refused(error: Exception) -> str:
    """The verdict on a refusal, in one sentence of bearable length or not."""
    return "refused" if len(str(error)) <= LONGEST and "\n" not in str(error) else "refused at length"


READERS: dict[str, Callable[[int, Path, dict[str, Path]], str]] = {
    "headers": read_header,
    "files": read_file,
    "folders": read_folder,
}
GOOD = ("read", "refused", "no result", "warned", "another shape", "as astropy", "unchanged")


def fuzz_module() -> ModuleType:
    """The test module that makes and checks mutated headers."""
    if "test_cube_fuzzed" not in sys.modules:
        spec = importlib.util.spec_from_file_location("test_cube_fuzzed", ROOT / "tests/cube/test_cube_fuzzed.py")
        sys.modules["test_cube_fuzzed"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["test_cube_fuzzed"])
    return sys.modules["test_cube_fuzzed"]


def detections(cube: Cube, settings: Settings | None = None) -> Detections:
    """Detections made by hand."""
    rng = np.random.default_rng(5)
    candidates = [Candidate(1, Box(2, 11, 3, 15), 0.9, channels=(3, 12)), Candidate(2, Box(10, 20, 12, 29), 0.8)]
    for candidate in candidates:
        candidate.spectrum = rng.normal(size=cube.shape[0]).astype(np.float32)
        candidate.denoised = np.zeros(cube.shape[0], np.float32)
        candidate.focused = rng.normal(size=(64, 64)).astype(np.float32)
    plane = np.zeros(cube.shape[1:], np.float32)
    about = {"version": "0", "cube": {"name": cube.name, "sha256": cube.sha256()}}
    return Detections(cube, settings or Settings(), candidates, plane, plane, about, ["beware"])


# --- each in a process that may die ---


def worker(what: str, pipe: Any, folder: Path, whole: dict[str, Path]) -> None:
    """Answer seeds with verdicts until there are no more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    warnings.simplefilter("ignore")
    while (seed := pipe.recv()) is not None:
        try:
            verdict = READERS[what](seed, folder, whole)
        except BaseException as error:
            verdict = f"raised {type(error).__name__}: {' '.join(str(error).split())[:160]}"
        pipe.send(verdict)


def read_all(what: str, seeds: Iterable[int], limit: float) -> Counter:
    """Count the verdicts on all inputs, printing what is not as it should be."""
    verdicts: Counter = Counter()
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
        folder = Path(work)
        whole = {"result": result(folder)} if what == "folders" else cases(folder) if what == "files" else {}
        process, pipe = None, None
        for seed in seeds:
            if process is None:
                pipe, theirs = context.Pipe()
                process = context.Process(target=worker, args=(what, theirs, folder, whole), daemon=True)
                process.start()
                theirs.close()
            pipe.send(seed)
            try:
                verdict = pipe.recv() if pipe.poll(limit) else "hang"
            except EOFError:
                process.join()
                verdict = f"death ({process.exitcode})"
            if verdict == "hang" or verdict.startswith("death"):
                process.kill()
                process.join()
                process = None
            verdicts[verdict.split(":")[0]] += 1
            if verdict not in GOOD:
                print(f"seed {seed}: {verdict}", flush=True)
        if process is not None:
            pipe.send(None)
            process.join()
    return verdicts


def result(folder: Path) -> Path:
    """A result folder with a journal, and its cube beside it."""
    path = folder / "cube.fits"
    fits.writeto(path, np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), field())
    out, found = folder / "whole", detections(read_cube(path))
    write_result(found, out)
    journal = Journal(out)
    journal.know(found)
    for note in ("first", "second"):
        found.candidates[0].note = note
        journal.record(found, found.candidates[:1])
    return out


# --- kills ---


def kill_all(seeds: Iterable[int], kinds: list[str]) -> Counter:
    """End commands and writers at any moment; count what is left."""
    from napari_almadet.detection import load_networks

    load_networks(Settings(device="cpu"))  # imported once, for the processes that are forked from this one
    verdicts: Counter = Counter()
    for seed in seeds:
        kind = kinds[seed % len(kinds)]
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as work:
            verdict = KILLS[kind](np.random.default_rng([seed, 4]), Path(work))
        verdicts[f"{kind}: {verdict.split(':')[0]}"] += 1
        if not verdict.startswith("good"):
            print(f"seed {seed} {kind}: {verdict}", flush=True)
    return verdicts


def ended(
    work: Callable[[], Any], number: int, after: float, log: Path, limit: float = 40.0
) -> tuple[int, float, bool]:
    """Run something in a process group of its own and send it a signal.

    Returns
    -------
    code
        The exit code, negative a signal's number.
    seconds
        From the signal to the end.
    left
        Whether processes of its group were left.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = 0
        try:
            work()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    time.sleep(after)
    sent = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    while time.monotonic() < sent + limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -99, limit, True
    seconds = time.monotonic() - sent
    end = time.monotonic() + PATIENCE
    while (left := bool(alive_in(child))) and time.monotonic() < end:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status), seconds, left


def alive_in(group: int) -> list[int]:
    """Processes of a group that are at work: those that nobody has asked for their end are not (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def command(rng: np.random.Generator, folder: Path, words: list[str], most: float) -> tuple[str, bool]:
    """Run the command with some words, ended at any moment: what was wrong about its end, and whether it had ended."""

    def run() -> None:
        import torch

        from napari_almadet.cli.app import app

        torch.set_num_threads(1)
        sys.argv[0] = "almadet"
        app(words)

    number, log = int(rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])), folder / "log.txt"
    code, seconds, left = ended(run, number, rng.uniform(0, most), log)
    said = log.read_text(errors="replace")
    if code == 0:
        return "", True
    expected = (-number,) if number == signal.SIGKILL else (-number, 128 + number)  # which shells show as the same
    if code not in expected:
        return f"exit code {code} after signal {number}: {' '.join(said.split())[-300:]}", False
    if left and number != signal.SIGKILL:
        return f"children left after signal {number}", False
    if "Traceback" in said:
        return f"a traceback after signal {number}: {' '.join(said.split())[-300:]}", False
    return (f"took {seconds:.0f} s to end" if seconds > 5 else ""), False


def kill_detect(rng: np.random.Generator, folder: Path) -> str:
    """A search over an older result: whole the old one, or whole the new one."""
    cube = folder / "a.fits"
    fits.writeto(cube, rng.normal(size=SHAPE).astype(np.float32), field())
    out = folder / "out" / "a"
    out.parent.mkdir()
    write_result(detections(read_cube(cube), Settings(min_snr=7.0)), out)
    words = ["detect", str(cube), "-o", str(folder / "out"), "--overwrite", "--device", "cpu", "-q"]
    wrong, done = command(rng, folder, words, 2.0)
    if wrong:
        return wrong
    return whole_result(out, done)


def whole_result(out: Path, done: bool) -> str:
    """Whether a folder holds one whole result, the new one if the search has ended."""
    try:
        found = read_result(out)
    except (FolderError, CubeError) as error:
        return f"not readable: {error}"
    if done and found.settings.min_snr == 7.0:
        return "the old result after a search that ended"
    if (found.settings.min_snr == 7.0) != (len(found.candidates) == 2 and found.provenance["version"] == "0"):
        return "mixed: settings of one, candidates of another"
    half = [p.name for p in out.iterdir() if p.name.startswith(".whole-")]
    return f"left: {half}" if half else "good"


def kill_save(rng: np.random.Generator, folder: Path) -> str:
    """Results written over each other again and again."""
    cube, out = folder / "a.fits", folder / "out"
    fits.writeto(cube, rng.normal(size=SHAPE).astype(np.float32), field())
    results = [detections(read_cube(cube), Settings(min_snr=float(i + 3))) for i in range(3)]
    for i, found in enumerate(results):
        for candidate in found.candidates:
            candidate.note = f"of {i}"
    write_result(results[0], out)

    def work() -> None:
        for i in range(1000):
            write_result(results[i % 3], out)

    ended(work, signal.SIGKILL, rng.uniform(0.02, 0.4), folder / "log.txt")
    try:
        found = read_result(out)
    except (FolderError, CubeError) as error:
        return f"not readable: {error}"
    notes = {candidate.note for candidate in found.candidates}
    return "good" if notes == {f"of {found.settings.min_snr - 3:.0f}"} else f"mixed: {found.settings.min_snr} {notes}"


def kill_journal(rng: np.random.Generator, folder: Path) -> str:
    """Changes of a session, each on the disk when `record` returns: at most the one in work is lost."""
    cube, out, counted = folder / "a.fits", folder / "out", folder / "counted"
    fits.writeto(cube, rng.normal(size=SHAPE).astype(np.float32), field())
    found = detections(read_cube(cube))
    write_result(found, out)
    counted.write_text("0 0")

    def work() -> None:
        journal = Journal(out)
        journal.know(found)
        with counted.open("r+") as file:
            for i in range(1, 100_000):
                which = found.candidates[i % 2]
                which.note = str(i)
                if i % 7 == 0:
                    which.focused = which.focused.copy()  # a long line
                journal.record(found, [which])
                file.seek(0)
                file.write(f"{i:09d}")
                file.flush()

    ended(work, signal.SIGKILL, rng.uniform(0.02, 0.3), folder / "log.txt")
    last = int(counted.read_text()[:9].split()[0])
    notes = [int(c.note or 0) for c in read_result(out).candidates]
    return "good" if max(notes) in (last, last + 1) else f"lost: {last} recorded, {notes} read"


def kill_simulate(rng: np.random.Generator, folder: Path) -> str:
    """Simulated cubes: each is whole, or not there."""
    out, n = folder / "out", 4
    words = ["simulate", str(out), "-n", str(n), "--size", "64", "--channels", "16", "--jobs", str(rng.choice([1, 2]))]
    wrong, done = command(rng, folder, words, 6.0)
    if wrong:
        return wrong
    made = [p for p in out.iterdir() if not p.name.endswith(".partial")] if out.is_dir() else []
    if done and len(made) != n:
        return f"ended with {len(made)} of {n} cubes"
    for path in made:
        whole = read_cube(path / "dirty.fits").read().shape == (16, 64, 64)
        if not whole or not (path / "simulation.json").is_file():
            return f"half written: {path.name}"
    return "good"


def kill_train(rng: np.random.Generator, folder: Path) -> str:
    """A training: never done when it is not."""
    network = str(rng.choice(["line-finder", "blobs-finder", "deep-gru"]))
    words = ["train", network, "-o", str(folder / "out"), "--fields", "16", "--epochs", "2000", "-j", "1"]
    wrong, done = command(rng, folder, words, 20.0)
    return wrong or ("a killed training ended with 0" if done else "good")


KILLS = {
    "detect": kill_detect,
    "save": kill_save,
    "journal": kill_journal,
    "simulate": kill_simulate,
    "train": kill_train,
}


def until(seeds: range, budget: float) -> Iterator[int]:
    """Seeds, as long as there is time."""
    end = time.monotonic() + budget
    for seed in seeds:
        if time.monotonic() > end:
            return
        yield seed


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*READERS, "kills"))
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, help="the first input, as it is printed")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for each input")
    parser.add_argument("--budget", type=float, default=np.inf, help="seconds after which no more are begun")
    parser.add_argument("--kill", action="append", choices=tuple(KILLS), help="default: all in turns")
    given = parser.parse_args()
    first = given.seed * SHIFT if given.first is None else given.first
    began, seeds = time.monotonic(), until(range(first, first + given.n), given.budget)
    if given.what == "kills":
        verdicts = kill_all(seeds, given.kill or list(KILLS))
    else:
        verdicts = read_all(given.what, seeds, given.limit)
    print(f"{given.what}: {sum(verdicts.values())} in {time.monotonic() - began:.0f} s")
    for verdict, count in verdicts.most_common():
        print(f"  {count:6d} {verdict}")


if __name__ == "__main__":
    main()
