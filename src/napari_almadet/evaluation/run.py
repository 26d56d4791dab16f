"""Run finders on simulated cubes, all finders on each cube, and store their detections."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy import units as u
from astropy.stats import mad_std

from napari_almadet import __version__
from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import Cube
from napari_almadet.detection import detect, load_networks
from napari_almadet.evaluation.finders import FINDERS, Field, Source
from napari_almadet.evaluation.matched_filter import gaussian_profile
from napari_almadet.evaluation.results import TRUTH, Results, StaleResults
from napari_almadet.networks.weights import pick_device
from napari_almadet.processes import Pool
from napari_almadet.settings import Settings
from napari_almadet.simulation.dataset import cube_of, seed_of, simulate_cube
from napari_almadet.simulation.observation_files import SimulatedCube, write_psf
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.threads import cores

METHOD = 2  # increased when what the finders do or report changes: earlier results are then refused, not mixed in
NOISE_WINDOW = 48  # pixels, side of the square around a source in which the noise is measured
# Columns of the truth table, see `simulation.dataset.truth_table`.
TRUTH_COLUMNS = ("x", "y", "z", "fwhm_line", "snr_stack", "snr_line")
RESOLVED_COLUMNS = ("kind", "id")  # further columns for sources with voxels


@dataclass(frozen=True)
class Preset:
    """The pipeline with the settings of a preset; ``with_psf``: the dirty beam of each cube is given."""

    name: str
    settings: Settings
    with_psf: bool = False

    def about(self) -> dict:
        """Identification of the results: settings and weights."""
        settings = {k: v for k, v in self.settings.as_dict().items() if k not in ("device", "batch_size", "memory")}
        weights = [card.get("sha256", "") for card in load_networks(self.settings).cards]
        return {
            "finder": self.name,
            "settings": settings,
            "with_psf": self.with_psf,
            "weights": weights,
            "version": __version__,
        }

    def ready(self) -> Callable[[Field], list[Source]]:
        """Load the networks; return a function that searches a field."""
        networks = load_networks(self.settings)

        def search(field: Field) -> list[Source]:
            settings = replace(self.settings, psf=str(field.psf)) if self.with_psf else self.settings
            return candidates_of(detect(field.cube, settings, networks=networks))

        return search


@dataclass(frozen=True)
class Classical:
    """A finder of :data:`~napari_almadet.evaluation.finders.FINDERS` with its parameters."""

    finder: str
    parameters: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """With all parameters, such as ``"sep threshold=3 minarea=5"``."""
        parameters = FINDERS[self.finder].defaults | self.parameters
        return " ".join([self.finder, *(f"{k}={v:g}" for k, v in parameters.items())])

    def about(self) -> dict:
        """Identification of the results: parameters and version of the library.

        Raises
        ------
        ModuleNotFoundError
            If the library is not installed.
        FileNotFoundError
            If the program is not installed.
        """
        finder = FINDERS[self.finder]
        package = finder.package
        try:
            of_library = finder.program() if finder.program else version(package)
            return {"finder": self.name, package: of_library, "version": __version__, "method": METHOD}
        except PackageNotFoundError as error:
            raise ModuleNotFoundError(f"{package} is not installed", name=package) from error

    def ready(self) -> Callable[[Field], list[Source]]:
        """Return a function that searches a field."""
        return lambda field: FINDERS[self.finder].find(field, **self.parameters)


def candidates_of(detections: Detections) -> list[Source]:
    """The kept candidates in the form of other finders' sources; flux in Jy Hz, NaN if the units do not allow it.

    Candidates that are listed as parts of an object are omitted.
    """
    to_hertz = flux_in_hertz(detections.flux_unit, detections.cube.rest_frequency)
    return [_source(candidate, to_hertz) for candidate in detections.kept if not candidate.parent]


def _source(candidate: Candidate, to_hertz: float) -> Source:
    primary = candidate.primary
    line: dict[str, Any] = {}
    if primary:
        line = {"channels": candidate.channels, "z": primary.centre, "fwhm": primary.fwhm}
    if candidate.kind != "continuum":
        line["flux"] = candidate.f_sum * to_hertz
    mask = candidate.mask
    line["mask"] = None if mask is None else (mask.origin, mask.voxels)
    return Source(candidate.x, candidate.y, candidate.box, candidate.kind, candidate.snr_pixel, candidate.prob, **line)


def flux_in_hertz(unit: u.UnitBase, rest: u.Quantity | None) -> float:
    """Factor from the flux unit of a catalogue to Jy Hz; constant, because radio velocities are linear in frequency."""
    try:
        return (1 * unit).to_value(u.Jy * u.Hz)
    except u.UnitConversionError:
        pass
    try:
        per_velocity = (1 * unit / (u.km / u.s)).to_value(u.Jy)
    except u.UnitConversionError:
        return np.nan
    if rest is None:
        return np.nan
    return per_velocity * (rest - (1 * u.km / u.s).to(u.Hz, u.doppler_radio(rest))).to_value(u.Hz)


def measured_snr(cube: Cube, source: Source) -> tuple[float, float]:
    """SNR of a source in the stacked image and at its line, as the truth table defines it, measured in the cube.

    The highest pixel of the box divided by the noise around it: in the sum over all channels, and in the sum weighted
    with a Gaussian of the line's centre and width; the latter is NaN without a line.
    """
    n_channels, ny, nx = cube.shape
    y, x = round(source.y), round(source.x)
    box, half = source.box, NOISE_WINDOW // 2
    y0, x0 = max(0, min(box.y0, y - half)), max(0, min(box.x0, x - half))
    y1, x1 = min(ny, max(box.y1, y + half)), min(nx, max(box.x1, x + half))
    planes = cube.read(slice(None), slice(y0, y1), slice(x0, x1))
    np.nan_to_num(planes, copy=False)
    known = np.asarray(planes.any(axis=(1, 2)))
    rest = known.copy()
    if source.channels:
        rest[slice(*source.channels)] = False
    if rest.sum() < 2:
        rest = known
    continuum = planes[rest].mean(axis=0)
    noise = mad_std((planes[rest][::2, ::2, ::2] - continuum[::2, ::2])[:, continuum[::2, ::2] != 0])
    inside = (slice(max(box.y0, 0) - y0, box.y1 - y0), slice(max(box.x0, 0) - x0, box.x1 - x0))
    stack = planes[:, *inside].sum(axis=0).max() / (noise * np.sqrt(known.sum()))
    if not source.channels:
        return float(stack), np.nan
    profile = gaussian_profile(n_channels, source.z, source.fwhm)
    line = np.tensordot(profile, planes[:, *inside] - continuum[inside], 1).max() / noise
    return float(stack), float(line)


def object_of(source: Source, cube: Cube, labels: np.ndarray) -> int:
    """The number of the object in whose voxels a candidate's peak lies; 0 for none.

    The peak is the highest voxel of the candidate's mask, or of its box in the channels of its line; without a line,
    the highest pixel of its box in the sum over all channels.  The centre of the candidate also counts.

    Parameters
    ----------
    labels
        Numbers of the objects, of the cube's shape, see :attr:`SimulatedCube.mask`.
    """
    n_channels, ny, nx = cube.shape
    box = source.box
    rows, columns = slice(max(box.y0, 0), box.y1), slice(max(box.x0, 0), box.x1)
    window: tuple[slice, ...] = (slice(*(source.channels or (0, n_channels))), rows, columns)
    own: np.ndarray | bool = True
    if source.mask is not None:
        origin, own = source.mask
        window = tuple(slice(o, o + n) for o, n in zip(origin, own.shape, strict=True))
    planes = np.where(own, np.nan_to_num(cube.read(*window)), -np.inf)
    if not planes.size:
        return 0
    y, x = min(max(round(source.y), 0), ny - 1), min(max(round(source.x), 0), nx - 1)
    if source.channels is None and source.mask is None:
        peak = np.unravel_index(planes.sum(axis=0).argmax(), planes.shape[1:])
        along = (labels[:, peak[0] + rows.start, peak[1] + columns.start], labels[:, y, x])
        return next((int(np.bincount(a[a > 0]).argmax()) for a in along if a.any()), 0)
    peak = np.unravel_index(planes.argmax(), planes.shape)
    at_peak = labels[tuple(int(p) + w.start for p, w in zip(peak, window, strict=True))]
    z = round(source.z) if np.isfinite(source.z) else n_channels // 2
    return int(at_peak or labels[min(max(z, 0), n_channels - 1), y, x])


def mask_iou(source: Source, number: int, labels: np.ndarray) -> float:
    """Intersection over union of the voxels of a candidate's mask and an object; NaN if either is missing."""
    if source.mask is None or not number:
        return np.nan
    origin, own = source.mask
    window = tuple(slice(o, o + n) for o, n in zip(origin, own.shape, strict=True))
    shared = int((own & (labels[window] == number)).sum())
    return shared / (int(own.sum()) + int((labels == number).sum()) - shared)


def found_record(
    sources: list[Source],
    cube: Cube,
    labels: np.ndarray | None = None,
    known: dict[tuple, tuple[float, float]] | None = None,
) -> dict[str, list]:
    """Sources as columns, with their measured SNRs; ranges are half-open.

    If ``labels`` are given, also ``object``, the number of the object that a source is in (0: none), and ``iou_3d``
    of its mask.  SNRs are kept in ``known``: most variants of a finder report the same sources of a cube.
    """
    known = {} if known is None else known
    objects: dict[str, list] = {}
    if labels is not None:
        objects["object"] = [object_of(s, cube, labels) for s in sources]
        objects["iou_3d"] = [mask_iou(s, k, labels) for s, k in zip(sources, objects["object"], strict=True)]
    snr = []
    for s in sources:
        key = s.x, s.y, s.box, s.channels, s.z, s.fwhm
        if key not in known:
            known[key] = measured_snr(cube, s)
        snr.append(known[key])
    boxes = np.array([(s.box.y0, s.box.y1, s.box.x0, s.box.x1) for s in sources], dtype=int).reshape(-1, 4)
    ranges = [s.channels or (-1, -1) for s in sources]
    return {
        **{
            name: [getattr(s, name) for s in sources]
            for name in ("x", "y", "kind", "score", "prob", "z", "fwhm", "flux")
        },
        **dict(zip(("y0", "y1", "x0", "x1"), boxes.T, strict=True)),
        "z0": [int(z0) for z0, _ in ranges],
        "z1": [int(z1) for _, z1 in ranges],
        "snr_stack": [stack for stack, _ in snr],
        "snr_line": [line for _, line in snr],
        **objects,
    }


def truth_record(simulated: SimulatedCube) -> dict:
    """Truth as columns; ranges are half-open, -1 without a line; the flux is attenuated by the primary beam.

    The flux in the truth table is that of the sky; no finder corrects for the primary beam.
    """
    truth, observation = simulated.truth, simulated.observation
    columns = {name: u.Quantity(truth[name]).value for name in TRUTH_COLUMNS}
    seen = attenuation(observation)
    y, x = (np.clip(np.rint(columns[c]).astype(int), 0, observation.size - 1) for c in "yx")
    clean_beam = truth.meta["clean_beam"]
    return {
        "beam": float(np.sqrt(clean_beam["major"] * clean_beam["minor"])),
        "sources": {
            **columns,
            **{f"{axis}0": np.asarray(truth[f"{axis}_min"]) for axis in "yxz"},
            **{
                f"{axis}1": np.asarray(truth[f"{axis}_max"]) + (np.asarray(truth[f"{axis}_max"]) >= 0) for axis in "yxz"
            },
            "flux": truth["flux"].to_value(u.Jy * u.Hz) * seen[y, x],
            "pair": np.asarray(truth["pair"]),
            **{name: np.asarray(truth[name]) for name in RESOLVED_COLUMNS if name in truth.colnames},
        },
    }


@lru_cache(maxsize=1)  # in most scenarios all cubes have the same observation
def attenuation(observation: Observation) -> np.ndarray:
    """Attenuation by the primary beam, (size, size)."""
    if observation.pb_corrected:
        return np.ones((observation.size, observation.size))
    return observation.primary_beam()


class _Worker:
    """Simulates cubes, each of which is searched by the contenders that have no result for it; runs in a process."""

    def __init__(self, contenders: dict, observation: Observation, device: str):
        self.contenders = contenders
        self.searches = {name: contender.ready() for name, contender in contenders.items()}
        self.imager = Imager(observation, device=pick_device(device))

    def __call__(self, scenario: str, index: int, seed: int, missing: list[str]) -> dict[str, dict]:
        simulated = simulate_cube(seed, scenario, imager=self.imager)
        records = {TRUTH: {"cube": index, "seed": seed, **truth_record(simulated)}}
        with TemporaryDirectory() as folder:
            psf = write_psf(simulated.observation, Path(folder) / "psf.fits")
            field = Field(cube_of(simulated, f"{scenario}-{index:05d}"), psf)
            known: dict[tuple, tuple[float, float]] = {}
            for name in missing:
                if name != TRUTH:
                    records[name] = {"cube": index, **self._search(name, field, simulated.mask, known)}
        gc.collect()  # PyBDSF leaves reference cycles, which would fill the memory in an hour
        return records

    def _search(self, name: str, field: Field, labels: np.ndarray, known: dict) -> dict:
        """The detections of a contender, and the seconds of the processor; the others as in :func:`found_record`."""
        if isinstance(self.contenders[name], Classical):
            _ = field.stacked  # made once for all finders, and not included in their times
        seconds, error = np.nan, None
        try:
            begin = processor_seconds()
            sources = self.searches[name](field)
            seconds = round(processor_seconds() - begin, 4)
            columns = found_record(sources, field.cube, labels, known)
        except Exception as problem:  # not scored on this cube; the others continue
            columns, error = found_record([], field.cube, labels), f"{type(problem).__name__}: {problem}"
        return {"seconds": seconds, "error": error, "sources": columns}


def processor_seconds() -> float:
    """Time of the processor that all threads of this process and its ended programs (SoFiA-2) have taken.

    Unlike the elapsed time, it hardly depends on what else the machine does.
    """
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


_workers: list[_Worker] = []  # of this process: one, once it has started


def _start_worker(contenders: dict, observation: Observation, device: str) -> None:
    _workers[:] = [_Worker(contenders, observation, device)]


def _work(scenario: str, index: int, seed: int, missing: list[str]) -> dict[str, dict]:
    return _workers[0](scenario, index, seed, missing)


def run(
    folder: Path,
    contenders: list[Preset | Classical],
    scenarios: list[str],
    n: int,
    *,
    which: str = "test",
    seed: int = 0,
    observation: Observation | None = None,
    device: str = "auto",
    jobs: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Let contenders search the first ``n`` cubes of each scenario; yields (done, total) after each cube.

    The cubes are those that ``almadet simulate`` writes for the same set and seed.  Each is
    simulated once for all contenders that have not searched it; results in ``folder`` are kept, except for cubes on
    which a finder failed.

    Parameters
    ----------
    folder
        Folder of the results, see :mod:`napari_almadet.evaluation.results`.
    observation
        Default: the paper's set-up.
    jobs
        Number of processes; default: one per core, or one if the networks run on a GPU.

    Raises
    ------
    StaleResults
        If ``folder`` contains results of other cubes, weights or parameters.
    """
    observation = observation or Observation()
    by_name = {contender.name: contender for contender in contenders}
    abouts = {name: contender.about() for name, contender in by_name.items()}
    tasks: list[tuple[str, int, int, list[str]]] = []
    files: dict[tuple[str, str], Results] = {}
    truths: dict[tuple[str, int], dict] = {}
    for scenario in scenarios:
        place = folder / which / scenario
        cubes = {"set": which, "scenario": scenario, "seed": seed}
        abouts[TRUTH] = cubes | {"observation": asdict(observation), "version": __version__}
        missing: dict[int, list[str]] = {index: [] for index in range(n)}
        for name in abouts:
            files[scenario, name] = file = Results(place / f"{name}.jsonl")
            file.prepare(abouts[name])
            stored = file.read()
            if name == TRUTH:
                truths |= {(scenario, index): record for index, record in stored.items()}
            for index, names in missing.items():
                if index not in stored or stored[index].get("error"):
                    names.append(name)
        tasks += [(scenario, i, seed_of(which, i, scenario, seed), names) for i, names in missing.items() if names]
    total = n * len(scenarios)
    done = total - len(tasks)
    yield done, total
    for scenario, records in _each(tasks, (by_name, observation, device), jobs or default_jobs(device)):
        truth = records.pop(TRUTH)
        known = truths.setdefault((scenario, truth["cube"]), truth)
        if known is truth:
            files[scenario, TRUTH].append(truth)
        elif not _same(known, truth):
            raise StaleResults(
                f"the simulation no longer makes the cubes that are in {folder / which / scenario}: "
                "remove that folder, or choose another"
            )
        for name, record in records.items():
            files[scenario, name].append(record)
        done += 1
        yield done, total


def join(folder: Path, other: Path) -> int:
    """Add the results of another folder to those in a folder; returns the number of records added.

    Cubes that a finder has searched in ``folder`` are kept as they are, except those on which it failed there only.
    Nothing is changed if the two do not belong together.

    Raises
    ------
    StaleResults
        If cubes, finders or versions of the same name are not the same in both.
    FileNotFoundError
        If ``other`` contains no results.
    """
    paths = sorted(other.glob("*/*/*.jsonl"))
    if not paths:
        raise FileNotFoundError(f"{other} contains no results")
    added: list[tuple[Results, dict, list[dict]]] = []
    for path in paths:
        here, there = Results(folder / path.relative_to(other)), Results(path)
        if here.path.exists():
            here.prepare(there.about())
        ours, theirs = here.read(), there.read()
        if path.stem == TRUTH and not all(_same(ours[i], theirs[i]) for i in ours.keys() & theirs.keys()):
            raise StaleResults(f"{here.path} and {path} are not the same cubes")
        missing = [r for i, r in theirs.items() if i not in ours or (ours[i].get("error") and not r.get("error"))]
        added.append((here, there.about(), missing))
    for here, about, records in added:
        here.prepare(about)
        for record in records:
            here.append(record)
    return sum(len(records) for _, _, records in added)


def _same(stored: dict, truth: dict) -> bool:
    """Whether two records of a cube's truth describe the same sky."""
    ours, theirs = (np.array([record["sources"][axis] for axis in "xy"], dtype=float) for record in (stored, truth))
    return stored["seed"] == truth["seed"] and ours.shape == theirs.shape and np.allclose(ours, theirs, atol=0.01)


def default_jobs(device: str) -> int:
    """Default number of processes: one per core, but only one on a GPU."""
    return 1 if pick_device(device).type != "cpu" else cores()


def _each(tasks: list[tuple], worker: tuple, jobs: int) -> Iterator[tuple[str, dict[str, dict]]]:
    if not tasks:
        return
    if jobs == 1:
        work = _Worker(*worker)
        for task in tasks:
            yield task[0], work(*task)
        return
    with Pool(min(jobs, len(tasks)), initializer=_start_worker, initargs=worker) as pool:
        futures = {pool.submit(_work, *task): task[0] for task in tasks}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
