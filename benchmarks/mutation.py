"""Would the tests notice?  Changes the code one rule at a time, and lists the changes after which all tests still pass.

    python benchmarks/mutation.py search                       # a room of the package
    python benchmarks/mutation.py search/decisions.py cube     # or some of its files
    python benchmarks/mutation.py search --list                # only say what would be changed
    python benchmarks/mutation.py search --sample 60 --seed 1  # some of it, drawn at random
    python benchmarks/mutation.py search --budget 20           # no more than 20 s of tests for each change
    python benchmarks/mutation.py search --only line_detection.py:80    # the changes of one line

Every number that is given a name, in a module or as the default of a field, is doubled and halved; so is every number
over 2 that is compared with something.  Every rule is removed: an ``if`` that never applies, a filter of a
comprehension that lets everything pass, one operand of ``and`` and ``or`` at a time.  For each change those tests of
the room run that reach the changed lines, the quick ones first, in a copy of the repository.  A run that takes five
times as long as before is killed with all its processes, and counts as noticed.

A change that no test notices is a *survivor*: either a test is missing, or the rule is not needed.  The score is the
share of changes that were noticed.  The exit status is 1 if there are survivors.  Linux and macOS only, since it forks.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/napari_almadet"

# A run is given up when it takes longer than its tests did before the change by this factor, and these seconds: a
# change that makes the code run for ever was noticed.
PATIENCE = 5.0
START_SECONDS = 30.0
FIRST_RUN_SECONDS = 1800.0  # for all tests of a room with nothing changed; those of search/ take about 200 on one core

# Tests of other rooms that reach a room's code as well; those of the room itself, tests/ROOM, run in any case.
ALSO = {
    "measure": [
        "tests/search/test_measure_detections.py",
        "tests/catalogue/test_detections.py",
        "tests/test_remeasure.py",
    ],
    "search": ["tests/test_detection.py"],
}

LOG = "pytest.log"  # in the copy: what the last run of pytest printed

# Tests whose code runs in processes of a cluster, which coverage does not follow, and which a fork may hang in.
LEFT_OUT = ("tests/search/test_distribute.py",)


@dataclass(frozen=True)
class Mutant:
    """One change: the text between two places of a file is replaced by another."""

    path: str  # from the root of the repository
    line: int  # counted from 1
    start: int  # bytes from the beginning of the file
    end: int
    old: str
    new: str
    name: str = ""  # of the constant, where the number has one

    def __str__(self) -> str:
        what = f"{self.name} = " if self.name else ""
        return f"{self.path}:{self.line}: {what}{self.old} -> {self.new}"

    def applied(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All changes of a file, in its order."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def mutant(node: ast.expr, new: str, name: str = "") -> Mutant:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = " ".join(source[start:end].decode().split())
        return Mutant(path, node.lineno, start, end, old, new, name)

    tree = ast.parse(source)
    found = [
        mutant(node, changed, name)
        for name, value in constants(tree)
        for node in numbers(value)
        for changed in scaled(node.value)
    ]
    for node in rules(tree):
        if isinstance(node, ast.Compare):
            found += [mutant(n, other) for n in numbers(node) if is_threshold(n.value) for other in scaled(n.value)]
        elif isinstance(node, ast.If | ast.IfExp) and not only_types(node):
            found.append(mutant(node.test, "False"))
        elif isinstance(node, ast.comprehension):
            found += [mutant(test, "True") for test in node.ifs]
        elif isinstance(node, ast.BoolOp):
            neutral = "True" if isinstance(node.op, ast.And) else "False"
            found += [mutant(value, neutral) for value in node.values]
    return sorted(set(found), key=lambda m: (m.start, m.end, m.new))


def rules(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a file but those inside f-strings: what they choose is the wording of a message."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.JoinedStr):
            yield node
            yield from rules(node)


def constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of a module's constants and of the defaults of its classes' fields.

    A field whose default is a call, as `search/thresholds.py` has them, takes the first argument for its value.
    """
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for statement in (statement for body in bodies for statement in body):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            yield statement.targets[0].id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            value = statement.value
            yield statement.target.id, value.args[0] if isinstance(value, ast.Call) and value.args else value


def numbers(value: ast.expr) -> Iterator[ast.Constant]:
    """The numbers in an expression, but not those that are an exponent, an index or part of a call."""
    if isinstance(value, ast.Constant) and type(value.value) in (int, float):
        yield value
    elif isinstance(value, ast.UnaryOp):
        yield from numbers(value.operand)
    elif isinstance(value, ast.Tuple | ast.List):
        for element in value.elts:
            yield from numbers(element)
    elif isinstance(value, ast.Dict):
        for element in value.values:
            yield from numbers(element)
    elif isinstance(value, ast.BinOp):
        yield from numbers(value.left)
        if not isinstance(value.op, ast.Pow):
            yield from numbers(value.right)
    elif isinstance(value, ast.Compare):
        for element in (value.left, *value.comparators):
            yield from numbers(element)


def scaled(value: float) -> list[str]:
    """Twice a number and half of it, as long as that is another number; of integers an integer."""
    half = value // 2 if isinstance(value, int) else value / 2
    return [repr(other) for other in (value * 2, half) if other != value]


def is_threshold(value: float) -> bool:
    """Whether a number that is compared with something may be a choice, not one of the small numbers of counting."""
    return isinstance(value, float) or value > 2


def only_types(node: ast.If | ast.IfExp) -> bool:
    """Whether a condition is for the type checker or for a file that is run as a script."""
    names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
    return bool(names & {"TYPE_CHECKING", "__name__"})


def files_of(target: str) -> list[str]:
    """The modules of a room, or the one file, as paths from the root."""
    path = ROOT / PACKAGE / target
    files = [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    if not files or not all(file.is_file() for file in files):
        raise SystemExit(f"there is no room and no file {target} in {PACKAGE}/")
    return [file.relative_to(ROOT).as_posix() for file in files]


def copy_repository(folder: Path) -> Path:
    """Copy what the tests need; the development data beside the repository are linked."""
    copy = folder / "repository"
    for name in ("src", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ROOT.iterdir():
        if file.is_file() and not file.is_symlink():
            shutil.copy(file, copy)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return copy


def import_once() -> None:
    """Import what every run needs before this process forks; but nothing of the package."""
    for name in ("astropy.table", "astropy.wcs", "pytest", "scipy.optimize", "scipy.stats", "skimage.measure", "torch"):
        import_module(name)


def run_pytest(copy: Path, arguments: list[str]) -> int:
    """Run pytest in this process, which is a fork of its own; returns its exit status."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy / "src")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # napari's takes seconds, and these rooms have no window
    sys.path.insert(0, str(copy / "src"))
    sys.dont_write_bytecode = True
    import pytest

    options = ["-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", *(f"--ignore={path}" for path in LEFT_OUT)]
    with (copy / LOG).open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        return int(pytest.main([*options, *arguments]))


def in_a_fork(copy: Path, arguments: list[str], seconds: float) -> int | None:
    """Exit status of pytest in a process of its own; None if it took longer than it may.

    The process leads a group, which is killed in the end, so that nothing that a test started is left.
    """

    def work() -> None:
        os.setpgid(0, 0)
        os._exit(run_pytest(copy, arguments))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(seconds)
    with contextlib.suppress(ProcessLookupError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    ended = process.exitcode
    process.join()
    return ended


class Reached:
    """Which tests reach which lines, and how long each takes: from one run with coverage."""

    def __init__(self, copy: Path, tests: list[str]) -> None:
        from coverage import CoverageData

        report = copy / "durations.xml"
        options = [
            "-p",
            "pytest_cov",
            "--cov",
            "--cov-context=test",
            "--cov-report=",
            f"--junitxml={report}",
            "-o",
            "junit_family=xunit1",
        ]
        status = in_a_fork(copy, [*tests, *options], FIRST_RUN_SECONDS)
        if status != 0:
            shown = "".join((copy / LOG).read_text().splitlines(keepends=True)[-20:])
            raise SystemExit(f"{shown}The tests must pass before anything is changed: {' '.join(tests)}")
        data = CoverageData(str(copy / ".coverage"))
        data.read()
        self.lines = {
            Path(file).relative_to(copy).as_posix(): {
                line: {context.split("|")[0] for context in contexts if context}
                for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        self.seconds = durations(report)
        self.copy, self.names = copy, dict[str, set[str]]()
        self.sources = {path: (copy / path).read_text(encoding="utf-8") for path in self.lines}

    def by(self, mutant: Mutant) -> list[str]:
        """The tests that reach what a change changes, the quick ones first."""
        if mutant.name:
            tests = set().union(*(self.lines[path].get(line, set()) for path, line in self.uses(mutant.name)), set())
            tests |= {test for test in self.seconds if mutant.name in self.names_in(test.split("::")[0])}
        else:
            tests = self.lines.get(mutant.path, {}).get(mutant.line, set())
        return sorted(tests, key=lambda test: (self.seconds.get(test, 0.0), test))

    def names_in(self, path: str) -> set[str]:
        """Names that a test file itself uses, as a test that compares a constant with a page does."""
        if path not in self.names:
            tree = ast.parse((self.copy / path).read_text(encoding="utf-8"))
            self.names[path] = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return self.names[path]

    def uses(self, name: str) -> Iterator[tuple[str, int]]:
        """Every line of a measured file in which a name is read, as a name or as an attribute."""
        for path, source in self.sources.items():
            if name not in source:
                continue
            for node in ast.walk(ast.parse(source)):
                read = (isinstance(node, ast.Name) and node.id == name) or (
                    isinstance(node, ast.Attribute) and node.attr == name
                )
                if read:
                    yield path, node.lineno


def durations(report: Path) -> dict[str, float]:
    """Seconds of each test, by the name that pytest takes on its command line."""
    from xml.etree import ElementTree

    return {
        f"{case.get('file')}::{case.get('name')}": float(case.get("time", 0))
        for case in ElementTree.parse(report).iter("testcase")
    }


def within(budget: float | None, tests: list[str], seconds: dict[str, float]) -> list[str]:
    """The first tests that together take no more than a budget of seconds, at least one; all without a budget."""
    if budget is None:
        return tests
    ends = accumulate(seconds.get(test, 0.0) for test in tests)
    return tests[: max(1, sum(end <= budget for end in ends))]


def survives(mutant: Mutant, copy: Path, reached: Reached, budget: float | None = None) -> bool:
    """Whether all tests that reach a change, or the quick ones that the budget allows, still pass with it."""
    tests = within(budget, reached.by(mutant), reached.seconds)
    if not tests:
        return True
    path = copy / mutant.path
    source = path.read_bytes()
    limit = START_SECONDS + PATIENCE * sum(reached.seconds.get(test, 0.0) for test in tests)
    try:
        path.write_bytes(mutant.applied(source))
        return in_a_fork(copy, ["-x", *tests], limit) == 0
    finally:
        path.write_bytes(source)


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", help="rooms or files of the package, as search or search/decisions.py")
    parser.add_argument("--tests", nargs="+", help="which tests; default: those of the rooms, tests/ROOM")
    parser.add_argument("--sample", type=int, help="only this many changes, drawn at random")
    parser.add_argument("--budget", type=float, help="seconds of tests for each change, the quick ones; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", help="only changes whose line in the list contains one of these texts")
    parser.add_argument("--list", action="store_true", help="list the changes and make none")
    options = parser.parse_args()

    files = [file for target in options.targets for file in files_of(target)]
    mutants = [mutant for file in files for mutant in mutants_of(file, (ROOT / file).read_bytes())]
    if options.only:
        mutants = [mutant for mutant in mutants if any(text in str(mutant) for text in options.only)]
    if options.sample is not None and options.sample < len(mutants):
        mutants = sorted(random.Random(options.seed).sample(mutants, options.sample), key=lambda m: (m.path, m.start))
    if options.list:
        print(*mutants, f"{len(mutants)} changes", sep="\n")
        return 0

    import_once()
    rooms = sorted({target.split("/")[0].removesuffix(".py") for target in options.targets})
    tests = options.tests or [path for room in rooms for path in (f"tests/{room}", *ALSO.get(room, []))]
    survivors: dict[str, list[Mutant]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_repository(Path(folder).resolve())
        reached = Reached(copy, tests)
        began = time.monotonic()
        for done, mutant in enumerate(mutants, start=1):
            if survives(mutant, copy, reached, options.budget):
                survivors[mutant.path].append(mutant)
                print(mutant, "" if reached.by(mutant) else " (no test reaches it)", sep="", flush=True)
            print(f"{done} of {len(mutants)}, {time.monotonic() - began:.0f} s", end="\r", file=sys.stderr, flush=True)
    count = sum(map(len, survivors.values()))
    print(f"{len(mutants) - count} of {len(mutants)} changes were noticed: {1 - count / max(len(mutants), 1):.0%}")
    for path, left in sorted(survivors.items()):
        print(f"  {len(left):4d} survivors in {path}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
