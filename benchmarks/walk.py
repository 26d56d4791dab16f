"""How far a reader has to walk: the functions that one search calls, and how often the walk comes back to one.

    python benchmarks/walk.py            # counts
    python benchmarks/walk.py --list     # and every function, in the order of its first call

A small simulated cube is searched with the default preset.  A *stop* is a function of the package that runs between
the call of ``detect`` and its result.  A *return* is a further caller of a function that the reader has seen before:
the number of pairs (caller, called), less one for each stop.  The first count is of the *page*: the functions of the
modules that hold the ten steps, and those that they call directly.  The second is of everything down to the last
helper; it grows with every function that is split in two.  Lambdas and the like belong to the function around them.
For an earlier commit, set PYTHONPATH to its ``src`` and name its modules:
``--page pipeline/detect.py pipeline/search.py``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
from scipy.ndimage import gaussian_filter

import napari_almadet
from napari_almadet import Cube, detect

PACKAGE = str(Path(napari_almadet.__file__).parent)
SEED = 7
PAGE = ["detection.py", "search/pipeline.py"]


def small_cube() -> Cube:
    """A line source and a continuum source in noise with a beam of four pixels."""
    rng = np.random.default_rng(SEED)
    noise = gaussian_filter(rng.normal(size=(64, 96, 96)), (0, 1.7, 1.7))
    sky = np.zeros(noise.shape)
    sky[24:30, 30, 40] = 400
    sky[:, 70, 60] = 60
    data = noise / noise.std() + gaussian_filter(sky, (0, 1.7, 1.7))
    return Cube.from_array(data.astype(np.float32), name="walk")


def counted(code: CodeType) -> bool:
    """Whether a reader has to look a function up."""
    name = code.co_name
    return code.co_filename.startswith(PACKAGE) and not name.startswith(("<", "__"))


class Walk:
    """Records who calls whom, in the order of the first calls."""

    def __init__(self) -> None:
        self.calls: dict[tuple[CodeType | None, CodeType], None] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or not counted(frame.f_code):
            return
        caller = frame.f_back
        while caller is not None and (not counted(caller.f_code) or caller.f_code is frame.f_code):
            caller = caller.f_back
        self.calls[(caller.f_code if caller else None, frame.f_code)] = None

    def on(self, page: list[str]) -> Walk:
        """The part of the walk that starts in or leads to the modules of a page."""
        part = Walk()
        for caller, called in self.calls:
            if module(caller) in page:
                part.calls[(caller, called)] = None
            elif module(called) in page:  # through functions that only pass it on
                part.calls.setdefault((None, called))
        return part

    def stops(self) -> list[CodeType]:
        """Functions in the order of their first call."""
        return list(dict.fromkeys(called for _, called in self.calls))


def module(code: CodeType | None) -> str:
    """Path of a function's module in the package; empty for None."""
    return "" if code is None else Path(code.co_filename).relative_to(PACKAGE).as_posix()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list every function")
    parser.add_argument(
        "--page", nargs="+", default=["detection.py", "search/pipeline.py"], help="modules of the steps"
    )
    options = parser.parse_args()
    cube, walk = small_cube(), Walk()
    detect(cube)  # loads modules and weights
    sys.setprofile(walk)
    detections = detect(cube)
    sys.setprofile(None)
    print(f"{len(detections.kept)} sources")
    for name, part in (("page", walk.on(options.page)), ("everything", walk)):
        stops = part.stops()
        print(f"{name}: {len(stops)} stops, {len(part.calls) - len(stops)} returns")
        if options.list:
            print(*(f"  {module(code)}:{code.co_firstlineno} {code.co_qualname}" for code in stops), sep="\n")


if __name__ == "__main__":
    main()
