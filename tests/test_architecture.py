"""The rules of the house that docs/architecture.md draws: who may import whom, and what the wheel carries."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from importlib.util import find_spec, resolve_name
from pathlib import Path, PurePath

import numpy as np
import pytest
from astropy.io import fits
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGE = "napari_almadet"
ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / PACKAGE

# Each room and the rooms it may import: only rooms named above it, so that no arrows close a circle.
ARROWS = {
    "constants": set(),
    "loading": set(),
    "processes": {"loading"},
    "progress": set(),
    "settings": set(),
    "threads": set(),
    "networks": {"threads"},
    "cube": {"constants", "progress", "settings", "threads"},
    "simulation": {"constants", "processes", "threads", "cube"},
    "catalogue": {"cube", "settings"},
    "measure": {"constants", "progress", "settings", "threads", "cube", "catalogue"},
    "paper": {"progress", "settings", "cube", "catalogue", "measure"},
    "search": {"constants", "loading", "progress", "settings", "threads", "networks", "cube", "catalogue", "measure"},
    "preset_networks": {"loading", "settings", "networks", "paper", "search"},
    "provenance": {"constants", "settings", "cube", "catalogue", "paper", "search", "preset_networks"},
    "detection": {
        *("loading", "progress", "settings", "threads", "networks", "cube", "catalogue", "measure", "paper", "search"),
        *("preset_networks", "provenance"),
    },
    "remeasure": {"progress", "settings", "cube", "catalogue", "measure", "paper", "search", "provenance"},
    "inspection": {"constants", "cube", "catalogue", "measure"},
    "products": {"constants", "progress", "cube", "catalogue", "measure", "inspection"},
    "batch": {
        *("loading", "processes", "progress", "settings", "threads", "cube", "catalogue", "paper", "search"),
        *("preset_networks", "detection", "inspection", "products"),
    },
    "evaluation": {
        *("constants", "processes", "progress", "settings", "threads", "networks", "cube", "catalogue", "measure"),
        *("search", "simulation", "preset_networks", "detection"),
    },
    "training": {
        *("constants", "processes", "progress", "settings", "threads", "networks", "cube", "measure", "paper"),
        *("search", "simulation", "evaluation"),
    },
    "plugin": {
        *("constants", "progress", "settings", "networks", "cube", "catalogue", "measure", "paper", "detection"),
        *("remeasure", "simulation", "inspection", "products", "evaluation"),
    },
    "cli": {
        *("loading", "progress", "settings", "networks", "cube", "catalogue", "search", "detection", "batch"),
        "preset_networks",
        *("simulation", "inspection", "evaluation", "training", "plugin", "products"),
    },
}
WINDOWED = {"plugin", "cli"}  # cli opens the plugin's window in `almadet demo`
QT = {"PyQt5", "PyQt6", "PySide2", "PySide6"}
GUI = {"napari", "magicgui", "qtpy", *QT, "superqt", "pyqtgraph", "vispy"}
SLOW = {"torch", "spectral_cube", "distributed"}

MODULES = {
    ".".join((PACKAGE, *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def room(module: str) -> str | None:
    """The room a module of the package lies in; None for the package itself and for other packages' modules."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] in ARROWS else None


def home(name: str) -> str | None:
    """The module of the package that an imported name is, or lies in; None for other packages' names."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES), None)


def modules_of(*rooms: str) -> list[str]:
    return [module for module in MODULES if room(module) in rooms]


def imports_of(module: str) -> set[str]:
    """Every module or name that a module's text imports, wherever the statement stands."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return found


def distribution_of(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def distributions_used(*rooms: str) -> set[str]:
    """What is to be installed for the modules of these rooms to find all they import."""
    imported = {name.split(".")[0] for module in modules_of(*rooms) for name in imports_of(module)}
    homes = packages_distributions()
    return {canonicalize_name(homes.get(name, [name])[0]) for name in imported - sys.stdlib_module_names - {PACKAGE}}


def loaded_after(code: str, *arguments: str) -> set[str]:
    """Top-level packages in a fresh interpreter after it ran some code."""
    report = "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-c", code + report, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def importing(modules: list[str]) -> str:
    return "from importlib import import_module\n" + "\n".join(f"import_module({name!r})" for name in modules)


def test_every_module_lies_in_a_room():
    assert [module for module in MODULES if room(module) is None] == [PACKAGE]


def test_no_two_rooms_have_a_file_of_the_same_name():
    """Except the pipelines of the two presets, which are the same ten steps on pages of the same form."""
    names = Counter(path.name for path in MODULES.values())
    assert {name for name, n in names.items() if n > 1} == {"__init__.py", "pipeline.py"}


def test_the_picture_shows_every_module():
    shown = set(re.findall(r"`((?:\w+/)?\w+\.py)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    there = {path.relative_to(SOURCE).as_posix() for path in MODULES.values() if path.name != "__init__.py"}
    assert shown == there


def test_no_imports_run_in_a_circle():
    """File by file, wherever the import stands: inside a function and for type checking only, too."""
    arrows = {module: {home(name) for name in imports_of(module)} - {module, None} for module in MODULES}
    TopologicalSorter(arrows).prepare()  # raises CycleError, with the circle


def numbers_without_comment(path: Path) -> list[str]:
    """Names of a module's numbers that no comment explains, on their lines or above them in the same block."""
    lines, found = path.read_text(encoding="utf-8").splitlines(), []
    for node in ast.parse("\n".join(lines)).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        parts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
        first = node.lineno - 1
        while first and lines[first - 1].strip():
            first -= 1
        if any(type(value) in (int, float) for value in parts) and "#" not in "".join(lines[first : node.end_lineno]):
            found.append(ast.unparse(node).split(" ")[0])
    return found


@pytest.mark.parametrize(
    "name", ["cube", "catalogue", "measure", "paper", "search", "networks", "inspection", "simulation"]
)
def test_every_number_that_has_a_name_says_what_it_is(name):
    """Its unit, meaning and origin are for a reader to judge; that there is a comment is tested."""
    assert {m: found for m in modules_of(name) if (found := numbers_without_comment(MODULES[m]))} == {}


@pytest.mark.parametrize("name", ARROWS)
def test_arrows_run_one_way(name):
    wrong = {
        f"{module} imports {imported}"
        for module in modules_of(name)
        for imported in imports_of(module)
        if room(imported) not in ARROWS[name] | {name, None}
    }
    assert not wrong


@pytest.mark.parametrize("name", [name for name in ARROWS if name not in WINDOWED])
def test_core_names_no_gui(name):
    """Nowhere in the text, so neither inside a function nor for type checking only."""
    wrong = {
        f"{module} imports {imported}"
        for module in modules_of(name)
        for imported in imports_of(module)
        if imported.split(".")[0] in GUI
    }
    assert not wrong


def test_windows_are_for_any_qt():
    assert not {name for module in MODULES for name in imports_of(module) if name.split(".")[0] in QT}  # qtpy finds one


def test_core_loads_no_gui():
    """Neither does anything that the core imports in turn."""
    core = modules_of(*(name for name in ARROWS if name not in WINDOWED))
    if find_spec("pytorch_lightning") is None:
        core = [module for module in core if room(module) != "training"]
    if find_spec("matplotlib") is None:
        core.remove(f"{PACKAGE}.evaluation.plots")
    assert not loaded_after(importing(core)) & GUI


def test_libraries_are_declared_and_used():
    """Nothing works merely because another library happens to bring it along, and nothing is asked for in vain."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {distribution_of(requirement) for requirement in project["dependencies"]}
    extras = {
        extra: {distribution_of(requirement) for requirement in project["optional-dependencies"][extra]}
        for extra in ("distributed", "casa", "hdf5", "train", "evaluate")
    }
    rooms = ARROWS.keys() - {"training", "evaluation"}
    assert distributions_used(*rooms) == base | extras["distributed"] | extras["casa"] | extras["hdf5"]
    for name, extra in (("training", "train"), ("evaluation", "evaluate")):
        assert distributions_used(name) - base == extras[extra]


def test_package_loads_no_gui_and_nothing_slow():
    assert not loaded_after(f"import {PACKAGE}, {PACKAGE}.cube, {PACKAGE}.settings") & (GUI | SLOW)


@pytest.mark.parametrize("name", ["cli", "plugin"])
def test_windows_and_help_load_nothing_slow(name):
    assert not loaded_after(importing(modules_of(name))) & SLOW


def test_opening_a_file_loads_nothing_slow(tmp_path):
    header = fits.Header(
        {"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CTYPE3": "FREQ", "CUNIT3": "Hz", "BUNIT": "Jy/beam"}
        | {"CRVAL3": 230e9, "CDELT1": -1e-4, "CDELT2": 1e-4, "CDELT3": 1e7, "BMAJ": 5e-4, "BMIN": 4e-4, "BPA": 10.0}
    )
    data = np.random.default_rng(1).normal(size=(4, 8, 8)).astype("f4")
    fits.writeto(tmp_path / "cube.fits", data, header)
    code = f"import sys\nfrom {PACKAGE}.plugin.reader import napari_get_reader as get\nget(sys.argv[1])(sys.argv[1])"
    assert not loaded_after(code, str(tmp_path / "cube.fits")) & SLOW


def test_a_search_begins_without_libraries_that_few_searches_need():
    code = importing([f"{PACKAGE}.cli", f"{PACKAGE}.batch", f"{PACKAGE}.detection"])
    needless = ("signal", "stats", "optimize", "interpolate", "spatial", "sparse.csgraph")  # half a second together
    unwanted = {f"scipy.{name}" for name in needless} | {"astropy.modeling", "skimage", "pandas", "dask", "matplotlib"}
    loaded_after(f"{code}\nimport sys\nfound = {unwanted!r} & sys.modules.keys()\nassert not found, found")


def test_wheel_carries_what_runs_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="building the wheel needs setuptools 77 or later")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    ours = {path.relative_to(tree / "src").as_posix() for path in tree.glob("src/**/*") if path.is_file()}
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True, timeout=120)

    (path,) = tmp_path.glob("*.whl")
    assert path.stat().st_size < 30e6
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    for kind in (
        "napari.yaml",
        "py.typed",
        "networks/weights/*.safetensors",
        "simulation/antennas/*.ecsv",
        "inspection/known_lines.ecsv",
    ):
        assert any(PurePath(name).match(f"{PACKAGE}/{kind}") for name in names), f"the wheel lacks {kind}"
