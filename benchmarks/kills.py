"""Whether verdicts outlive kill -9: sessions with two cubes are killed at random moments, and read back.

``python benchmarks/kills.py --trials 100``: in each trial a process of its own opens two cubes, puts candidates on show
in both, and gives verdicts and notes at random, turns to the other cube, and takes things back, as fast as it can,
from the first moment on.  What it did it tells the parent, which kills it after a random time and reads the sessions'
folders.  A verdict that had been given a second before must be there, or one that was given after it in its place.

There is no window: session, journal and threads are those of the window; the process is forked, so that a trial takes
no start of Python.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from astropy.io import fits
from napari.components import ViewerModel
from napari.layers import Layer
from qtpy.QtWidgets import QApplication

from napari_almadet.catalogue.candidate import VERDICTS, Box, Candidate, EmissionPeak
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.detections import Detections
from napari_almadet.catalogue.result_folder import FolderError, read_result
from napari_almadet.cube.reading import read_cube
from napari_almadet.plugin import autosave
from napari_almadet.plugin.autosave import Keeper
from napari_almadet.plugin.layers import cube_layer
from napari_almadet.plugin.session import Session
from napari_almadet.settings import Settings

SHAPE = (32, 80, 80)
CANDIDATES = 20
BEFORE = 1.0  # seconds before the kill, from which on a verdict must be there
SHORTEST, LONGEST = 1.1, 4.0  # seconds from the first verdict to the kill
ACT_S = 0.02  # between two acts


def write_cube(path: Path, seed: int) -> None:
    """A cube of noise as a file."""
    header = fits.Header()
    axes = (("RA---SIN", 83.8, -1e-4, "deg"), ("DEC--SIN", -5.4, 1e-4, "deg"), ("FREQ", 230e9, 1e6, "Hz"))
    for i, (ctype, value, step, unit) in enumerate(axes, 1):
        header[f"CTYPE{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"], header[f"CUNIT{i}"] = ctype, value, step, unit
        header[f"CRPIX{i}"] = 1
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 4e-4, 4e-4, 0.0
    fits.writeto(path, np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32), header)


def made_up(path: Path, seed: int) -> Detections:
    """Candidates at random places of a cube."""
    cube, rng = read_cube(path), np.random.default_rng(seed)
    data, candidates = cube.read(), []
    for number in range(1, CANDIDATES + 1):
        y, x = rng.integers(8, SHAPE[1] - 8, 2)
        z = float(rng.uniform(5, SHAPE[0] - 5))
        box, peak = Box(int(y - 4), int(y + 5), int(x - 4), int(x + 5)), EmissionPeak(int(z), 0.9, 0.9, z, 3.0)
        candidates.append(
            Candidate(
                id=number,
                box=box,
                prob=0.9,
                spectrum=data[:, *box.slices].sum(axis=(1, 2)),
                denoised=np.zeros(SHAPE[0], np.float32),
                peaks=(peak,),
                channels=peak.emission_range(SHAPE[0]),
                decisions=[remark("kept: made up")],
                focused=np.zeros((64, 64), np.float32),
            )
        )
    stacked = data.sum(axis=0)
    about = {"cube": {"sha256": cube.sha256()}}
    return Detections(cube, Settings(), candidates, stacked, np.zeros_like(stacked), about)


def live(paths: list[Path], home: Path, pipe: int, seed: int) -> None:
    """What the child does until it is killed."""
    application = QApplication([])
    autosave.unsaved_folder = lambda: home
    viewer = ViewerModel()
    session = Session.of(viewer)
    Keeper.of(session)
    images = [viewer.add_layer(Layer.create(*cube_layer(read_cube(path)))) for path in paths]
    rng = np.random.default_rng(seed)
    for number, (image, path) in enumerate(zip(images, paths, strict=True)):
        session.inspect(image)
        session.present(image, made_up(path, number))
    while True:
        image = images[rng.integers(2)] if rng.random() < 0.1 else session.image
        session.inspect(image)
        candidate = session.candidates[rng.integers(len(session.candidates))]
        act, verdict = rng.random(), VERDICTS[rng.integers(len(VERDICTS))]
        # what it is about to do may be on the disk when it is killed, and not yet told as done
        _tell(pipe, [str(session.detections.cube.name), candidate.id, verdict] if act >= 0.35 else _to_undo(session))
        if act < 0.1:
            session.undo()
        elif act < 0.3:
            session.set_note(candidate, f"note {rng.integers(1000)}")
        elif act < 0.35 and not session.measuring:
            first = int(rng.integers(SHAPE[0] - 4))
            session.refocus(candidate, (first, first + 4))
        else:
            session.set_verdict([candidate], verdict)
        _tell(pipe, [time.monotonic(), *([c.verdict for c in _of(session, image).candidates] for image in images)])
        end = time.monotonic() + ACT_S
        while time.monotonic() < end:
            application.processEvents()
            time.sleep(0.002)


def _tell(pipe: int, what: list) -> None:
    os.write(pipe, (json.dumps(what) + "\n").encode())


def _to_undo(session: Session) -> list:
    """Cube, candidate and verdict that an undo would bring back; nothing where there is nothing to undo."""
    change = next((c for c in reversed(session._changes) if c.detections is session.detections), None)
    before = getattr(change, "before", ())
    return [session.detections.cube.name, before[0][0].id, before[0][1]["verdict"]] if before else ["", 0, ""]


def _of(session: Session, image: object) -> Detections:
    cube = image.metadata["cube"]
    found = (layer.metadata.get("detections") for layer in session.viewer.layers)
    return next(detections for detections in found if detections is not None and detections.cube is cube)


def trial(paths: list[Path], home: Path, rng: np.random.Generator) -> str:
    """Kill one session; returns what was lost, empty if nothing."""
    out, into = os.pipe()
    seed = int(rng.integers(2**31))
    child = os.fork()
    if not child:
        os.close(out)
        try:
            live(paths, home, into, seed)
        finally:
            os._exit(1)
    os.close(into)
    text = os.read(out, 65536)  # the first act was done
    if not text:
        os.waitpid(child, 0)
        return "the session ended by itself"
    end = time.monotonic() + rng.uniform(SHORTEST, LONGEST)
    os.set_blocking(out, False)
    while time.monotonic() < end:
        time.sleep(0.005)
        try:
            text += os.read(out, 65536)
        except BlockingIOError:
            continue
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic()
    os.waitpid(child, 0)
    os.set_blocking(out, True)
    while more := os.read(out, 65536):
        text += more
    os.close(out)
    told = [json.loads(line) for line in text.decode().split("\n")[:-1]]
    states = [(line[0], line[1:]) for line in told if isinstance(line[0], float)]
    return lost(states, told[-1] if isinstance(told[-1][0], str) else None, killed, paths, home)


def lost(states: list, begun: list | None, killed: float, paths: list[Path], home: Path) -> str:
    """What of the states that a session was in is not in its folders."""
    earlier = [k for k, (when, _) in enumerate(states) if when <= killed - BEFORE]
    if not earlier:
        return ""
    for number, path in enumerate(paths):
        folders = [folder for folder in home.iterdir() if folder.name.startswith(path.stem)]
        try:
            found = {c.id: c.verdict for c in (read_result(folders[0]).candidates if folders else [])}
        except FolderError as error:
            return f"{path.name}: {error}"
        # until the folder has its journal, changes stand beside it, for another detection to carry over
        found |= {c.id: c.verdict for c in autosave.unfinished_of(read_cube(path))}
        found = {number: found.get(number, VERDICTS[0]) for number in range(1, CANDIDATES + 1)}
        for row in range(CANDIDATES):
            allowed = {now[number][row] for _, now in states[earlier[-1] :]}
            allowed |= {begun[2]} if begun is not None and begun[:2] == [path.stem, row + 1] else set()
            if found[row + 1] not in allowed:
                return f"{path.name}, candidate {row + 1}: {found[row + 1]}, not {allowed}"
    return ""


def main() -> None:
    """Print how many sessions lost something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, failed = np.random.default_rng(options.seed), 0
    with TemporaryDirectory() as place:
        homes: list[Path] = []
        autosave.unsaved_folder = lambda: homes[-1]
        paths = [Path(place) / f"cube{number}.fits" for number in (1, 2)]
        for number, path in enumerate(paths):
            write_cube(path, number)
        for number in range(options.trials):
            home = Path(place) / f"home{number}"
            home.mkdir()
            homes.append(home)
            said = trial(paths, home, rng)
            failed += bool(said)
            if said:
                print(f"trial {number}: {said}", flush=True)
    print(f"{options.trials - failed} of {options.trials} killed sessions had all verdicts of a second before")


if __name__ == "__main__":
    main()
