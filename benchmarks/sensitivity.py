"""What happens when a constant of the search or the measurement is halved or doubled?

    python benchmarks/sensitivity.py search.clean.VISIBLE measure.mask.SPARE     # some constants
    python benchmarks/sensitivity.py --by-eye                                    # all marked "by eye"

Small simulated cubes (validation seeds) are searched with each value.  Printed are, compared with the present value:
how many candidates appear, disappear or change their status; true sources found and false candidates; and the largest
and the median relative change of the fluxes.  A value counts as used if some function reads it during the searches.
A change is made in every module that imports the constant, but not in the defaults of functions.  Ranges, sizes and
other tuples are scaled element by element.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import napari_almadet
from napari_almadet import Settings, detect
from napari_almadet.catalogue.candidate import Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.detection import load_networks
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observe import Observation

PACKAGE = Path(napari_almadet.__file__).parent
FIELD = Observation(size=112, n_channels=48)
KINDS = ("paper", "paper", "bright", "bright", "pairs", "galaxies", "clouds", "absorption")
CUBES = tuple((kind, KINDS[:i].count(kind)) for i, kind in enumerate(KINDS))
NEAR = 3.0  # pixels, distance within which candidates are the same, and sources are found
NUMBER = re.compile(r"^([A-Z][A-Z0-9_]*)(?:: \S+)? = ([^#]*)#?(.*)$")


def by_eye() -> Iterator[str]:
    """Names of the constants whose comment says that they were chosen by eye."""
    for path in sorted((PACKAGE / room for room in ("cube", "measure", "search")), key=str):
        for file in sorted(path.glob("*.py")):
            lines = file.read_text(encoding="utf-8").splitlines()
            for before, line in zip(["", *lines], lines, strict=False):
                found = NUMBER.match(line)
                if found and "by eye" in found[3] + (before if before.startswith("#") else ""):
                    yield f"{path.name}.{file.stem}.{found[1]}"


def scaled(value: Any, factor: float) -> Any:
    """A number, or each number of a tuple, times a factor; whole numbers stay whole."""
    if isinstance(value, tuple):
        return tuple(scaled(part, factor) for part in value)
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor


def users(name: str, value: Any) -> list[ModuleType]:
    """All modules of the package that have this very object under a name."""
    return [
        module
        for key, module in list(sys.modules.items())
        if key.startswith("napari_almadet") and vars(module).get(name) is value
    ]


@contextmanager
def changed(constant: str, factor: float) -> Iterator[None]:
    """Context in which a constant has another value."""
    module, _, name = constant.rpartition(".")
    value = vars(import_module(f"napari_almadet.{module}"))[name]
    places = users(name, value)
    for place in places:
        setattr(place, name, scaled(value, factor))
    try:
        yield
    finally:
        for place in places:
            setattr(place, name, value)


def difference(before: Detections, now: Detections) -> tuple[int, list[float]]:
    """Candidates that appear, disappear or change their status, and the relative changes of the other fluxes."""
    left, count, fluxes = list(now.candidates), 0, []
    for candidate in before.candidates:
        near = [c for c in left if np.hypot(c.x - candidate.x, c.y - candidate.y) < NEAR]
        same = min(near, key=lambda c: abs(c.prob - candidate.prob), default=None)
        if same is None or same.status is not candidate.status:
            count += candidate.status is not Status.DROPPED or same is not None
        elif candidate.status is not Status.DROPPED and np.isfinite(candidate.f_sum) and candidate.f_sum:
            fluxes.append(abs(same.f_sum / candidate.f_sum - 1) if np.isfinite(same.f_sum) else 1.0)
        if same is not None:
            left.remove(same)
    return count + sum(c.status is not Status.DROPPED for c in left), fluxes


def scores(found: list[Detections], truths: list[np.ndarray]) -> tuple[int, int]:
    """True sources with a candidate, and candidates without a true source."""
    true = false = 0
    for detections, truth in zip(found, truths, strict=True):
        places = np.array([(c.x, c.y) for c in detections.kept]).reshape(-1, 2)
        near = np.linalg.norm(truth[:, None] - places[None], axis=2) < NEAR
        true, false = true + int(near.any(axis=1).sum()), false + int((~near.any(axis=0)).sum())
    return true, false


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("constants", nargs="*", help="such as search.clean.VISIBLE")
    parser.add_argument("--by-eye", action="store_true", help='all constants marked "by eye"')
    options = parser.parse_args()
    constants = [*options.constants, *(by_eye() if options.by_eye else ())]
    settings = Settings()
    networks = load_networks(settings)
    simulated = [simulate_cube(seed_of("validation", i, kind, 0), kind, replace(FIELD)) for kind, i in CUBES]
    cubes = [cube_of(one, f"{kind} {i}") for one, (kind, i) in zip(simulated, CUBES, strict=True)]
    truths = [np.stack([one.truth["x"].value, one.truth["y"].value], axis=1).astype(float) for one in simulated]
    before = [detect(cube, settings, networks=networks) for cube in cubes]
    kept = sum(len(detections.kept) for detections in before)
    print("present values: {} kept, {} true, {} false".format(kept, *scores(before, truths)), flush=True)
    for constant in constants:
        for word, factor in (("halved", 0.5), ("doubled", 2.0)):
            try:
                with changed(constant, factor):
                    now = [detect(cube, settings, networks=networks) for cube in cubes]
            except Exception as error:
                print(f"{constant} {word}: {type(error).__name__}: {error}", flush=True)
                continue
            counts, fluxes = zip(*(difference(*pair) for pair in zip(before, now, strict=True)), strict=True)
            values = np.array([flux for part in fluxes for flux in part])
            print(
                f"{constant} {word}: {sum(counts)} candidates differ; {{}} true, {{}} false; "
                f"fluxes differ by {np.median(values):.1%}, at most {values.max():.1%}".format(*scores(now, truths)),
                flush=True,
            )


if __name__ == "__main__":
    main()
