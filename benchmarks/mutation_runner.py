"""Runs tests with the code changed in memory, each change in a fork; for `mutation.py`.

Tests are collected once, and each runs once to know which lines it reaches; those that take longer than the budget are
left out.  Then for each change a fork of this process changes the functions and values in memory (no file is written)
and runs the tests that reach it until one fails: first those that noticed other changes of the same function, then
those that reach few other lines, and of these those for which a removed condition decides something, one test of each
parametrised function before the rest of it, and the quickest first.  A fork that uses five times its budget is killed,
and counts as noticed.  A process that a test starts anew has the code without the change.  Linux and macOS only.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TextIO

import pytest
from mutation_changes import CONSTANT, RULE, Mutant, constants

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/napari_almadet"

PATIENCE = 5.0  # times the budget (CPU), after which a fork is killed: the change makes the code run for ever
WAIT_SECONDS = 90.0  # the same of a fork that waits
FOCUSED = 50  # lines of the package: a test that reaches fewer is one of few functions
SLOW = 1.7  # by which the tests are slower while it is recorded which lines they reach


# What the package imports only when it is needed, so that not every fork has to; torch is another.
LATE = ("astropy.table", "astropy.wcs", "scipy.optimize", "scipy.stats", "skimage.measure", "skimage.segmentation")


class TooSlow(BaseException):
    """A test takes longer than the budget."""


class NotImportable(Exception):
    """A file cannot be imported with a change."""


# --- the change, in memory ---


@cache
def source_of(path: str) -> bytes:
    """The text of a file of the package."""
    return (PACKAGE / path).read_bytes()


@cache
def compiled(path: str) -> CodeType:
    """The code of a file of the package."""
    return compile(source_of(path), str(PACKAGE / path), "exec")


def module_name(path: str) -> str:
    """The name of a file of the package as a module."""
    return f"{PACKAGE.name}/{path}".removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@cache
def imported_by() -> dict[tuple[str, str], list[tuple[ModuleType, str]]]:
    """For a module and a name: which loaded modules of the package and of the tests have imported it, as what."""
    found = defaultdict(list)
    for module in list(sys.modules.values()):
        file = str(getattr(module, "__file__", None) or "")
        if file.startswith((str(PACKAGE), str(ROOT / "tests"))):
            for node in ast.parse(Path(file).read_bytes()).body:
                if isinstance(node, ast.ImportFrom) and node.module:
                    for alias in node.names:
                        found[node.module, alias.name].append((module, alias.asname or alias.name))
    return found


def replace(module: ModuleType, code: CodeType) -> None:
    """Give a module's functions, classes and values the code and the values of another version of it.

    Functions, classes and containers stay the objects that they are, for whoever has imported them.
    """
    before = dict(vars(module))
    try:
        exec(code, vars(module))
    except Exception as error:
        raise NotImportable from error
    for name, new in list(vars(module).items()):
        old = before.get(name, new)
        if old is new or name.startswith("__"):
            continue
        vars(module)[name] = kept = moved(old, new)
        if kept is new and not (type(new) in (int, float, str, tuple, bool) and new == old):
            for other, alias in imported_by().get((module.__name__, name), []):
                if str(other.__file__).startswith(str(PACKAGE)):
                    replace(other, compiled(Path(other.__file__).relative_to(PACKAGE).as_posix()))
                setattr(other, alias, new)


def moved(old: Any, new: Any) -> Any:
    """An object of a module with the content of its new version; the new one where the old cannot be changed."""
    if isinstance(old, FunctionType):
        if hasattr(old, "__wrapped__"):
            moved(old.__wrapped__, new.__wrapped__)
        else:
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    elif isinstance(old, type):
        for key, value in list(vars(new).items()):
            now = vars(old).get(key)
            if any(hasattr(now, part) for part in ("__code__", "__func__", "fget", "func")):
                moved(now, value)
            elif not key.startswith("__") and type(now) in (int, float, str, tuple, bool):
                setattr(old, key, value)
    elif isinstance(old, staticmethod | classmethod):
        moved(old.__func__, new.__func__)
    elif isinstance(old, property):
        moved(old.fget, new.fget)
    elif hasattr(old, "__wrapped__"):  # functools.cache
        moved(old.__wrapped__, new.__wrapped__)
    elif isinstance(getattr(old, "func", None), FunctionType) and type(old).__name__ == "cached_property":
        moved(old.func, new.func)
    elif isinstance(old, dict | set):
        old.clear()
        old.update(new)
    elif isinstance(old, list):
        old[:] = new
    elif hasattr(type(old), "__dataclass_fields__") and hasattr(old, "__dict__"):
        vars(old).update(vars(new))
    else:
        return new
    return old


# --- the tests ---


class Tests:
    """The collected tests: which lines each reaches, and how long it takes."""

    def __init__(self, items: list[pytest.Item], budget: float) -> None:
        self.items, self.budget, self.failed = items, budget, False
        self.seconds: dict[int, float] = {}
        self.lines: dict[int, int] = {}  # how many each reaches
        self.reached: dict[str, list[int]] = defaultdict(list)
        self.good: dict[str, Counter[int]] = defaultdict(Counter)  # which tests noticed changes, of a file or a place

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a failure; pytest calls this."""
        self.failed |= report.failed

    def run(self, index: int, after: int | None = None) -> bool:
        """Run a test; whether it passed."""
        self.failed = False
        item, following = self.items[index], None if after is None else self.items[after]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return not self.failed

    def record(self) -> None:
        """Run all tests of a file in a fork, one file after the other, and keep the lines and times of each."""
        files = defaultdict(list)
        for index, item in enumerate(self.items):
            files[str(item.path)].append(index)
        for file, indices in files.items():
            _, found = in_a_fork(lambda out, todo=indices: self.record_file(todo, out), 3000.0)
            for index, seconds, lines in found:
                self.seconds[index], self.lines[index] = seconds, len(lines)
                for line in lines:
                    self.reached[line].append(index)
            slow = len(indices) - len(found)
            print(f"{file}: {len(found)} tests{f', {slow} are slow or fail' if slow else ''}", file=sys.stderr)

    def record_file(self, indices: list[int], out: TextIO) -> None:
        """Run tests of one file, and write of each that passes and is quick its number, seconds and lines."""
        from coverage import Coverage

        coverage = Coverage(data_file=None, source=[str(PACKAGE)], config_file=False)
        coverage.start()
        signal.signal(signal.SIGPROF, too_slow)
        times = {}
        for index, following in zip(indices, [*indices[1:], None], strict=True):
            coverage.switch_context(str(index))
            began = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, SLOW * self.budget)
            try:
                if self.run(index, following):
                    times[index] = (time.process_time() - began) / SLOW
            except TooSlow:  # its fixtures are still there, and the next test would fail for them
                signal.setitimer(signal.ITIMER_PROF, 0)
                with contextlib.suppress(Exception):
                    self.items[index].session._setupstate.teardown_exact(None)
            signal.setitimer(signal.ITIMER_PROF, 0)
        coverage.stop()
        lines, data = defaultdict(list), coverage.get_data()
        for file in data.measured_files():
            path = Path(file).relative_to(PACKAGE).as_posix()
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in filter(None, contexts):
                    lines[int(context)].append(f"{path}:{line}")
        for index, seconds in times.items():
            print(json.dumps([index, seconds, lines[index]]), file=out)

    def of(self, mutant: Mutant) -> list[int]:
        """The tests that reach a change, those first that are likely to notice it: see the top of this file."""
        lines = uses(mutant.place) if mutant.kind == CONSTANT else {f"{mutant.path}:{mutant.line}"}
        found = {index for line in lines for index in self.reached[line]}
        if mutant.kind == CONSTANT:
            found |= {index for index in self.seconds if mutant.place in names_in(str(self.items[index].path))}
        near, file = self.good[mutant.path + mutant.place], self.good[mutant.path]
        body = {index for line in lines_decided_by(mutant) for index in self.reached[line]}
        decided = found & body if mutant.new == "False" else found - body
        turn, counts = {}, Counter()  # which of its function's tests a test is
        for index in sorted(found, key=lambda i: (i not in decided, self.seconds[i], i)):
            function = self.items[index].nodeid.split("[")[0]
            turn[index], counts[function] = counts[function], counts[function] + 1

        def order(i: int) -> tuple[float, ...]:
            wide = max(self.lines[i] // FOCUSED, 1).bit_length()  # twice as many lines are one more
            return (-min(near[i], 1), wide, i not in decided, turn[i], -min(file[i] / 10, 1), self.seconds[i])

        return sorted(found, key=order)

    def notices(self, mutant: Mutant) -> bool:
        """Whether a test that reaches a change fails with it, within the budget."""
        order = self.of(mutant)
        if not order:
            return False

        changed = mutant.applied(source_of(mutant.path))
        ended, found = in_a_fork(lambda out: self.try_out(mutant.path, changed, order, out), PATIENCE * self.budget)
        for index in found:
            if isinstance(index, str):
                raise RuntimeError(f"{mutant}: {index}")
            self.good[mutant.path + mutant.place][index] += 1
            self.good[mutant.path][index] += 1
        return bool(found) or not ended

    def try_out(self, path: str, source: bytes, order: list[int], out: TextIO) -> None:
        """Replace the code of a file, run tests within the budget, and write which fails first."""
        try:
            replace(sys.modules[module_name(path)], compile(source, str(PACKAGE / path), "exec"))
            began = time.process_time()
            for index, following in zip(order, [*order[1:], None], strict=True):
                if not self.run(index, following):
                    print(json.dumps(index), file=out)
                    return
                if time.process_time() - began > self.budget:
                    return
        except NotImportable:
            print(json.dumps(-1), file=out)
        except Exception:  # a fault of this file
            print(json.dumps(traceback.format_exc()), file=out)

    def control(self, path: str) -> None:
        """Replace the code of a file by itself, and leave out those tests that fail with it."""
        order = sorted({i for line, tests in self.reached.items() for i in tests if line.startswith(path)})
        order = sorted((index for index in order if index in self.seconds), key=lambda index: self.seconds[index])
        while order:
            _, found = in_a_fork(lambda out: self.try_out(path, source_of(path), order, out), 600.0)
            if not found:
                return
            if isinstance(found[0], str):
                raise RuntimeError(f"{path}: {found[0]}")
            print(f"left out, fails without a change: {self.items[found[0]].nodeid}", file=sys.stderr)
            order.remove(found[0])
            for tests in self.reached.values():
                if found[0] in tests:
                    tests.remove(found[0])


def too_slow(*_: object) -> None:
    """Give a test up; a signal's handler."""
    raise TooSlow


def lines_decided_by(mutant: Mutant) -> set[str]:
    """The first line of what an ``if`` statement does, if the change is in its condition; else nothing."""
    if mutant.kind != RULE:
        return set()
    statements = (node for node in ast.walk(ast.parse(source_of(mutant.path))) if isinstance(node, ast.If))
    of_it = (node for node in statements if node.test.lineno <= mutant.line <= node.test.end_lineno)
    return {f"{mutant.path}:{node.body[0].lineno}" for node in of_it}


@cache
def names_in(file: str) -> set[str]:
    """Names that a test file itself uses, as a test that compares a constant with a page does."""
    return {node.id for node in ast.walk(ast.parse(Path(file).read_bytes())) if isinstance(node, ast.Name)}


@cache
def reads() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Of each name that the package reads: the lines, and the constants that are computed from it."""
    lines, constants_from = defaultdict(set), defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        tree, path = ast.parse(file.read_bytes()), file.relative_to(PACKAGE).as_posix()
        for name, node in read_in(tree):
            lines[name].add(f"{path}:{node.lineno}")
        for constant, value in constants(tree):
            for name, _ in read_in(value):
                constants_from[name].add(constant)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):  # a default argument: the function's first line
                for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                    for name, _ in read_in(default):
                        lines[name].add(f"{path}:{node.body[-1].lineno}")
    return lines, constants_from


def read_in(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Names and attributes that are read in some code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id, node
        elif isinstance(node, ast.Attribute):
            yield node.attr, node


def uses(name: str, known: frozenset[str] = frozenset()) -> set[str]:
    """Lines in which a constant is read, or one that is computed from it."""
    lines, constants_from = reads()
    found = set(lines[name])
    for other in constants_from[name] - known - {name}:
        found |= uses(other, known | {name})
    return found


def in_a_fork(work: Callable[[TextIO], None], seconds: float) -> tuple[bool, list[Any]]:
    """Do some work in a fork that may use some seconds: whether it ended by itself, and the lines of JSON it wrote.

    The fork leads a group, which is killed in the end, so that nothing that a test started is left.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(reader)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        with open(writer, "w") as out, contextlib.suppress(BaseException):
            work(out)
        os._exit(0)
    os.close(writer)

    def kill(*_: object) -> None:
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS + 3 * seconds)
    with open(reader) as answers:
        found = [json.loads(line) for line in answers]
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left
        kill()
    return os.WIFEXITED(status), found
