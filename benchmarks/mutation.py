"""Would the tests notice?  Changes the code one rule at a time, and lists the changes after which all tests still pass.

    python benchmarks/mutation.py search measure cube          # rooms of the package
    python benchmarks/mutation.py search/decisions.py          # or some of their files
    python benchmarks/mutation.py search --kind constant       # numbers that have a name, only
    python benchmarks/mutation.py search --list                # only say what would be changed
    python benchmarks/mutation.py search --sample 60 --seed 1  # some of it, drawn at random
    python benchmarks/mutation.py search --budget 4            # up to 4 s of tests for each change
    python benchmarks/mutation.py search --only line_detection.py:80    # the changes of one line
    python benchmarks/mutation.py search --again before.txt    # what survived in an earlier run, whose output this is

Which changes there are is in `mutation_changes.py`: every number that has a name and every number over 2 that is
compared with something is doubled and halved, and every rule is removed.  A change that no test notices is a
*survivor*: either a test is missing, or the rule is not needed.  Some change nothing but speed; they are listed with
reasons in `mutation_choices.txt`, and the score is said with them and without.  The exit status is 1 if there are
other survivors.
How the tests are run is in `mutation_runner.py`: in forks of one process, a tenth of a second for most changes.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import random
import re
import sys
import time
from collections import defaultdict
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TextIO

import pytest
from mutation_changes import KINDS, Mutant, mutants_of
from mutation_runner import LATE, PACKAGE, ROOT, Tests, imported_by, module_name, source_of

CHOICES = Path(__file__).with_name("mutation_choices.txt")
END = "\r" if sys.stderr.isatty() else "\n"

# Tests of other rooms that reach a room's code as well; those of the room itself, tests/ROOM, run in any case.
ALSO = {
    "measure": [
        "tests/search/test_measure_detections.py",
        "tests/catalogue/test_detections.py",
        "tests/test_remeasure.py",
    ],
}
# Tests whose code runs in processes of a cluster, which does not see the change and which a fork may hang in.
LEFT_OUT = ("tests/search/test_distribute.py",)


def files_of(target: str) -> list[str]:
    """The modules of a room, or the one file, as paths below the package."""
    path = PACKAGE / target
    files = [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    if not files or not all(file.is_file() for file in files):
        raise SystemExit(f"there is no room and no file {target} in {PACKAGE}/")
    return [file.relative_to(PACKAGE).as_posix() for file in files]


@cache
def choices() -> dict[str, str]:
    """Reasons why a change need not be noticed, by file and name: of lines `path place[: old]`, below `[reason]`."""
    reason, found = "", {}
    for line in CHOICES.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\[(.*)\]", line):
            reason = match[1]
        elif line and not line.startswith("#"):
            found[line] = reason
    return found


def is_choice(mutant: Mutant) -> bool:
    """Whether a change is listed as one that need not be noticed."""
    place = f"{mutant.path} {mutant.place}"
    return any(key in choices() for key in (place, f"{place}: {mutant.old}", f"{mutant.path} {mutant.what}"))


def chosen(options: argparse.Namespace) -> list[Mutant]:
    """The changes to try."""
    files = [file for target in options.targets for file in files_of(target)]
    found = [m for file in files for m in mutants_of(file, source_of(file)) if m.kind in options.kind]
    if options.only:
        found = [mutant for mutant in found if any(text in str(mutant) for text in options.only)]
    if options.again:
        before = {
            re.sub(r":\d+ ", " ", line.split("  (")[0].strip()) for line in options.again.read_text().splitlines()
        }
        found = [mutant for mutant in found if f"{mutant.path} {mutant.what}" in before]
    if options.sample is not None and options.sample < len(found):
        found = sorted(random.Random(options.seed).sample(found, options.sample), key=lambda m: (m.path, m.start))
    return sorted(found, key=lambda mutant: options.kind.index(mutant.kind))


def score(results: dict[Mutant, bool]) -> str:
    """How many changes of each room and kind were noticed: of all, and of those that should matter."""
    lines = [f"{'':20s} {'noticed':>12s}  without the choices of speed"]
    groups = defaultdict(list)
    for mutant in results:
        groups[mutant.path.split("/")[0], mutant.kind].append(mutant)
    for (room, kind), group in sorted(groups.items()):
        both = [group, [mutant for mutant in group if not is_choice(mutant)]]
        counts = [f"{sum(results[m] for m in each)} of {len(each)}" for each in both]
        lines.append(f"{room + ' ' + kind:20s} {counts[0]:>12s}  {counts[1]}")
    return "\n".join(lines)


class Run:
    """The plugin that tries the changes instead of running the tests once."""

    def __init__(self, mutants: list[Mutant], budget: float, out: TextIO) -> None:
        self.mutants, self.budget, self.out = mutants, budget, out
        self.results: dict[Mutant, bool] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Called by pytest when the tests are collected."""
        if session.testsfailed:
            print(f"{session.testsfailed} files of tests cannot be collected, and are left out", file=sys.stderr)
            session.testsfailed = 0
        tests = Tests(session.items, self.budget)
        session.config.pluginmanager.register(tests)
        for name in (*LATE, "torch", *map(module_name, {mutant.path for mutant in self.mutants})):
            import_module(name)
        imported_by()
        gc.freeze()
        tests.record()
        began = time.monotonic()
        for path in dict.fromkeys(mutant.path for mutant in self.mutants):
            tests.control(path)
        for done, mutant in enumerate(self.mutants, start=1):
            self.results[mutant] = tests.notices(mutant)
            if not self.results[mutant]:
                why = "a choice" if is_choice(mutant) else "" if tests.of(mutant) else "no test reaches it"
                print(mutant, f"  ({why})" if why else "", sep="", file=self.out, flush=True)
            if sys.stderr.isatty() or done % 50 == 0:
                print(f"{done} of {len(self.mutants)}, {time.monotonic() - began:.0f} s", end=END, file=sys.stderr)
        return True


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", help="rooms or files of the package, as search or search/decisions.py")
    parser.add_argument("--tests", nargs="+", help="which tests; default: those of the rooms, tests/ROOM")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS), help=f"in this order: {KINDS}")
    parser.add_argument("--sample", type=int, help="only this many changes, drawn at random")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds of tests for each change (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", help="only changes whose line in the list contains one of these texts")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only changes that are listed in this file")
    parser.add_argument("--list", action="store_true", help="list the changes and make none")
    options = parser.parse_args()

    mutants = chosen(options)
    if options.list:
        print(*mutants, f"{len(mutants)} changes", sep="\n")
        return 0

    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # napari's takes seconds, and these rooms have no window
    sys.path.insert(0, str(ROOT / "src"))
    rooms = sorted({target.split("/")[0].removesuffix(".py") for target in options.targets})
    tests = options.tests or [path for room in rooms for path in (f"tests/{room}", *ALSO.get(room, []))]
    ignored = [f"--ignore={path}" for path in LEFT_OUT]
    plugins = ["no:cacheprovider", "no:faulthandler", "pytest_timeout"]
    run = Run(mutants, options.budget, sys.stdout)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main([*(f"-p{name}" for name in plugins), "--capture=sys", *ignored, *tests], [run])
    if status != pytest.ExitCode.OK or not run.results:
        raise SystemExit(f"{said.getvalue()[-3000:]}pytest ended with {status!r}")
    print(score(run.results))
    return int(any(not result and not is_choice(mutant) for mutant, result in run.results.items()))


if __name__ == "__main__":
    sys.exit(main())
