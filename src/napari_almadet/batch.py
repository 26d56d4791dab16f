"""Search of many cubes: one folder per cube, finished cubes skipped, failures reported at the end, one table of all.

With several jobs, cubes are searched in as many worker processes.  If a process dies, because of memory or a crash in a
library, only the cube it was searching fails, and a new process continues with the rest.  The folder of a cube is
written completely or not at all, so that after a crash the same command resumes where it stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable, vstack

from napari_almadet import __version__
from napari_almadet.catalogue.export import read_ecsv, replacing, write_catalogue, write_table
from napari_almadet.catalogue.result_folder import ABOUT, JOURNAL, is_result, read_result, write_result
from napari_almadet.cube.cube import CubeError
from napari_almadet.cube.errors import in_one_line
from napari_almadet.cube.reading import read_cube, short_name
from napari_almadet.cube.storage import split_address
from napari_almadet.inspection.redshifts import RedshiftRange, identify
from napari_almadet.loading import loading, spare_imports
from napari_almadet.processes import Pool
from napari_almadet.products.report import REPORT, write_html
from napari_almadet.products.writing import has_products, remove_products, write_products
from napari_almadet.progress import Progress, finish
from napari_almadet.settings import Settings
from napari_almadet.threads import cores

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.catalogue.detections import Detections
    from napari_almadet.paper.pipeline import Networks
    from napari_almadet.search.search_networks import SearchNetworks


LOG = logging.getLogger(__name__)
WITHOUT_EFFECT = ("device", "batch_size", "memory")  # settings that do not affect the result
FORMATS = {"ecsv": ".ecsv", "votable": ".vot", "fits": ".fits", "csv": ".csv"}  # of catalogues, and their endings
PROGRESS_SECONDS = 0.2  # s, minimum interval of progress messages from a worker: smooth, and cheap


@dataclass(frozen=True)
class Task:
    """A cube's file and the folder for its results."""

    path: Path
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """Outcome of a task: ``status`` is "searched", "skipped" or "failed"; ``message`` gives the reason for a failure.

    ``detections`` are included only on request; ``log`` has the log records of a worker process.  ``catalogue`` is that
    of the result, made where the cube was searched: reading it back takes a tenth of a second for each cube.
    """

    task: Task
    status: str
    message: str = ""
    kept: int = 0
    dropped: int = 0
    seconds: float = 0.0
    detections: Detections | None = None
    log: tuple[str, ...] = ()
    catalogue: QTable | None = field(default=None, compare=False, repr=False)


class NetworksError(RuntimeError):
    """The networks cannot be loaded, so that no cube can be searched; the message gives the reason."""


Report = Callable[[Task, Progress], object]
Work = Callable[[Task, Callable[[Progress], object]], Outcome]


# --- planning -----------------------------------------------------------------------------------------------------


def plan(paths: Sequence[Path], out: Path) -> list[Task]:
    """Assign a folder in ``out`` to each cube: its name, or ``name-2`` and so on if that belongs to another cube.

    A folder belongs to another cube if it is assigned to a cube of this run, or if it contains the result of another
    existing file, or of another image in the same file.  A cube that is given twice is searched once.
    """
    tasks: dict[str, Task] = {}
    taken: set[Path] = set()
    for path in paths:
        key = str(Path(path).resolve())
        if key in tasks:
            continue
        name, number = short_name(Path(path)), 1
        while (folder := out / (name if number == 1 else f"{name}-{number}")) in taken or _belongs_to_another_cube(
            folder, key
        ):
            number += 1
        taken.add(folder)
        tasks[key] = Task(Path(path), folder)
    return list(tasks.values())


def is_done(task: Task, settings: Settings, networks: dict | None) -> bool:
    """Whether a folder already contains the result that a run would give: same file, settings, networks and version.

    Parameters
    ----------
    networks
        Name and sha256 of each, as in the provenance of a result; None if they are not known here.
    """
    if not is_result(task.folder):
        return False
    try:
        about = json.loads((task.folder / ABOUT).read_text(encoding="utf-8"))
        provenance, reference, before = about["provenance"], about["cube"], Settings(**about["settings"])
        same = _effective(before) == _effective(settings) and networks in (None, provenance["networks"])
        if not same or provenance["version"] != __version__:
            return False
        (file, hdu), (named, its_hdu) = split_address(task.path), split_address(reference["path"])
        if hdu != its_hdu:  # another image of the same file
            return False
        stamp = (file.resolve(), file.stat().st_size, file.stat().st_mtime_ns)
        if stamp == (named, reference["size"], reference["mtime_ns"]):
            return True
        return read_cube(task.path).sha256() == provenance["cube"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):  # damaged, or of another version: search again
        return False


def has_reviews(folder: Path) -> bool:
    """Whether a result has been reviewed: it has verdicts, notes, edited or drawn candidates, or a journal."""
    if not is_result(folder):
        return False
    journal = folder / JOURNAL
    if journal.is_file() and journal.stat().st_size:
        return True
    try:
        table = read_ecsv(folder / "candidates.ecsv")
        touched = np.ma.filled(table["note"], "") != ""
        judged = np.isin(table["verdict"], ("accepted", "rejected"))
        touched |= judged | (table["origin"] != "found")
    except Exception:  # damaged: there is nothing to lose
        return False
    return bool(np.any(touched))


def _effective(settings: Settings) -> dict:
    return {name: value for name, value in settings.as_dict().items() if name not in WITHOUT_EFFECT}


def _belongs_to_another_cube(folder: Path, path: str) -> bool:
    """Whether a folder contains the result of another existing file or image than ``path``."""
    try:
        address = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["cube"]["path"]
        return bool(address) and split_address(address)[0].exists() and split_address(address) != split_address(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False


# --- the work on one cube ------------------------------------------------------------------------------------------


@dataclass
class Search:
    """Search of cubes with given settings; can be sent to another process. Each result is written to its folder.

    Attributes
    ----------
    settings
        Used for all cubes.
    overwrite
        Search cubes again, even if their results have been reviewed.
    keep
        Return the detections with the outcome.
    client
        The cluster that searches the cubes.
    products
        Also write the products of each source and of the field, see :mod:`napari_almadet.products.writing`.
    formats
        Further formats of the catalogue, keys of :data:`FORMATS`.
    redshift
        Of the sources, such as "0.3" or "0..8", to identify lines, see :mod:`napari_almadet.inspection.redshifts`.
    report
        Also write a page on the result, see :mod:`napari_almadet.products.report`.
    """

    settings: Settings
    overwrite: bool = False
    keep: bool = False
    client: Client | None = None
    products: bool = False
    formats: tuple[str, ...] = ()
    redshift: str | None = None
    report: bool = False

    @cached_property
    def networks(self) -> Networks | SearchNetworks | None:
        """Loaded on first use, in the process that uses them; None with a cluster, whose workers load their own."""
        if self.client is not None:
            return None
        with loading():
            from napari_almadet import detection

            return detection.load_networks(self.settings)

    def __call__(self, task: Task, report: Callable[[Progress], object]) -> Outcome:
        """Read a cube, search it, and write the result; errors are returned in the outcome."""
        with records_kept() as log:
            outcome = self.search(task, report)
        return replace(outcome, log=tuple(log))

    def search(self, task: Task, report: Callable[[Progress], object]) -> Outcome:
        """Perform one task, without collecting log records."""
        from napari_almadet.detection import detect
        from napari_almadet.preset_networks import networks_used

        started = time.perf_counter()
        try:
            used = None if self.networks is None else networks_used(self.settings, self.networks)
            if not self.overwrite and is_done(task, self.settings, used):
                self.add(task, self.identified_again(task), report)
                decisions = read_ecsv(task.folder / "candidates.ecsv")["fate"]  # the name every version has
                dropped = int((decisions == "dropped").sum())
                kept, catalogue = len(decisions) - dropped, _catalogue_in(task.folder)
                return Outcome(task, "skipped", "", kept, dropped, catalogue=catalogue)
            if not self.overwrite and has_reviews(task.folder):
                raise CubeError(
                    f"{task.path.name} has been searched with other settings, and {task.folder} contains your "
                    f"verdicts, "
                    "notes or boxes: choose another --out, or use --overwrite to discard them."
                )
            detections = detect(read_cube(task.path), self.settings, report, self.networks, self.client)
            if self.redshift is not None:
                identify(detections, RedshiftRange.parse(self.redshift), self.redshift)
            write_result(detections, task.folder)
            self.add(task, detections, report)
        except Exception as error:  # whatever is wrong with one cube, the others are still to be searched
            if not isinstance(error, CubeError):
                LOG.error("%s could not be searched", task.path, exc_info=True)
            message = str(error) if isinstance(error, CubeError) else f"{task.path}: {described(error)}"
            return Outcome(task, "failed", message, seconds=time.perf_counter() - started)
        kept = len(detections.kept)
        dropped = len(detections.candidates) - kept
        seconds, catalogue = time.perf_counter() - started, detections.table()
        return Outcome(
            task, "searched", "", kept, dropped, seconds, detections if self.keep else None, catalogue=catalogue
        )

    def identified_again(self, task: Task) -> Detections | None:
        """An existing result with its lines identified at other redshifts; None if the redshifts have not changed."""
        if self.redshift is None:
            return None
        about = json.loads((task.folder / ABOUT).read_text(encoding="utf-8"))
        if about["provenance"].get("redshift") == self.redshift:
            return None
        detections = read_result(task.folder)
        identify(detections, RedshiftRange.parse(self.redshift), self.redshift)
        write_result(detections, task.folder)
        return detections

    def add(self, task: Task, detections: Detections | None, report: Callable[[Progress], object]) -> None:
        """Write the optional products; for an existing result only those that are missing.

        Tables, products and the page of an earlier result that are not requested are removed with it.
        """
        wanted = [task.folder / f"catalog{FORMATS[form]}" for form in self.formats if form != "ecsv"]
        if detections is None:
            wanted = [path for path in wanted if not path.is_file()]
        else:
            for ending in FORMATS.values():
                if (path := task.folder / f"catalog{ending}") not in wanted and ending != ".ecsv":
                    path.unlink(missing_ok=True)
        products = self.products
        if products and detections is None:
            products = not has_products(task.folder, read_cube(task.path).name)
        elif detections is not None and not products:
            remove_products(task.folder, detections.cube.name)
        page = task.folder / REPORT
        if detections is not None:
            page.unlink(missing_ok=True)
        report_wanted = self.report and not page.is_file()
        if not (wanted or products or report_wanted):
            return
        detections = detections or read_result(task.folder)
        for path in wanted:
            write_catalogue(detections, path)
        if products:
            finish(write_products.steps(detections, task.folder), report)
        if report_wanted:
            finish(write_html.steps(detections, page), report)


@contextmanager
def records_kept() -> Iterator[list[str]]:
    """Collect warnings and tracebacks of the package as text, if it has no log handler, as in a worker process."""
    records: list[str] = []
    package = logging.getLogger("napari_almadet")
    if package.handlers:
        yield records
        return
    handler = _Keeping(records)
    package.addHandler(handler)
    try:
        yield records
    finally:
        package.removeHandler(handler)


class _Keeping(logging.Handler):
    """Stores log records as text in a list."""

    def __init__(self, records: list[str]):
        super().__init__(logging.WARNING)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Store a record."""
        self.records.append(self.format(record))


# --- many cubes ------------------------------------------------------------------------------------------------------


def run(
    tasks: Sequence[Task], work: Work, jobs: int = 1, report: Report | None = None
) -> Generator[Outcome, None, None]:
    """Perform all tasks, and yield the outcome of each as soon as it is known.

    Closing the generator, as an exception in its caller does, stops the processes.

    Parameters
    ----------
    work
        Called with a task and a function that reports progress; for several jobs it must be picklable.  If it has
        ``networks``, each worker process loads them before its first task.
    jobs
        Number of worker processes; with 1, the work is done in this process.
    report
        Called with a task and its progress.

    Raises
    ------
    NetworksError
        If the worker processes cannot load the networks.
    """
    report = report or (lambda task, progress: None)
    if jobs <= 1:
        for task in tasks:
            yield work(task, partial(report, task))
        return
    waiting = deque(tasks)
    idle: list[_Worker] = []
    busy: dict[Future[Outcome], _Worker] = {}
    threads = max(1, cores() // jobs)
    try:
        for _ in range(min(jobs, len(waiting))):  # they start together
            idle.append(_Worker(work, threads))
        if idle:
            idle[-1].wait_for_networks()
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker = idle.pop() if idle else _Worker(work, threads)
                busy[worker.begin(waiting.popleft())] = worker
            done, _ = wait(busy, PROGRESS_SECONDS, FIRST_COMPLETED)
            for worker in busy.values():
                worker.pass_on(report)
            for future in done:
                worker = busy.pop(future)
                outcome = worker.outcome(future)
                if waiting and worker.is_alive(future):
                    idle.append(worker)
                else:
                    worker.pool.stop()
                yield outcome
    finally:
        for worker in (*busy.values(), *idle):
            worker.pool.stop()


class _Worker:
    """A pool of one process, so that a process that dies loses only its own task, and its current task."""

    def __init__(self, work: Work, threads: int):
        self.messages, self.theirs = Pipe(duplex=False)
        self.pool = Pool(1, threads, _start_worker, (work, self.theirs))
        self.loaded = self.pool.submit(_load_networks)

    def wait_for_networks(self) -> None:
        """Return when the process has loaded the networks, or has died, which its first task will report.

        Raises
        ------
        NetworksError
            If it cannot load them.
        """
        while not self.loaded.done():
            wait([self.loaded], PROGRESS_SECONDS)  # not longer, as Windows does not interrupt it
        error = self.loaded.exception()
        if isinstance(error, OSError | RuntimeError | ValueError) and self.is_alive(self.loaded):
            LOG.warning("The networks could not be loaded", exc_info=error)
            raise NetworksError(str(error)) from error

    def begin(self, task: Task) -> Future[Outcome]:
        self.task = task
        try:
            return self.pool.submit(_do, task)
        except BrokenProcessPool as error:  # it has died while it loaded the networks
            failed: Future[Outcome] = Future()
            failed.set_exception(error)
            return failed

    def pass_on(self, report: Report) -> None:
        """Report the progress received since the last call."""
        with suppress(EOFError, OSError):  # the process has died, which its future reports
            while self.messages.poll():
                report(self.task, self.messages.recv())

    def is_alive(self, future: Future[Any]) -> bool:
        return not isinstance(future.exception(), BrokenProcessPool)

    def outcome(self, future: Future[Outcome]) -> Outcome:
        """The outcome of the task, also if the process died."""
        error = future.exception()
        if error is None:
            return future.result()
        how = described(error) if self.is_alive(future) else self.pool.how_it_ended()
        return Outcome(self.task, "failed", f"{self.task.path}: {how}")


def described(error: BaseException) -> str:
    """An error in one line: for disk errors the message of the system, for others also the type of the exception."""
    reason = in_one_line(error)
    return (
        reason if isinstance(error, OSError) or reason == type(error).__name__ else f"{type(error).__name__}: {reason}"
    )


_here: dict[str, Any] = {}  # in a worker process: the work, and the connection for progress messages


def _start_worker(work: Work, connection: Connection) -> None:
    spare_imports()
    _here.update(work=work, connection=connection)


def _load_networks() -> None:
    """Load the networks in a worker process, if its work needs any."""
    getattr(_here["work"], "networks", None)


def _do(task: Task) -> Outcome:
    """One task, in a worker process."""
    sent = 0.0

    def report(progress: Progress) -> None:
        nonlocal sent
        if time.monotonic() - sent >= PROGRESS_SECONDS:
            sent = time.monotonic()
            _here["connection"].send(progress)

    return _here["work"](task, report)


# --- tables of all cubes --------------------------------------------------------------------------------------------


def write_tables(outcomes: Sequence[Outcome], out: Path, formats: Sequence[str] = ()) -> list[Path]:
    """Write ``cubes.ecsv``, a row for each cube, and ``catalog.ecsv``, the rows of all results in the folder.

    Results of earlier runs are included.  The column ``cube`` is the folder of the result, ``cube_path`` the file of
    the cube.

    Parameters
    ----------
    outcomes
        Outcomes of this run; their results come first.
    formats
        Further formats of the catalogue, keys of :data:`FORMATS`.

    Returns
    -------
    list of pathlib.Path
        The files; there is no catalogue if no cube has a result.
    """
    cubes = QTable(
        {
            "cube": [o.task.folder.name for o in outcomes],
            "file": [str(o.task.path.resolve()) for o in outcomes],
            "status": [o.status for o in outcomes],
            "kept": [o.kept for o in outcomes],
            "dropped": [o.dropped for o in outcomes],
            "message": [o.message for o in outcomes],
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "cubes.ecsv") as beside:
        cubes.write(beside, format="ascii.ecsv")
    written = [out / "cubes.ecsv"]
    folders = results_in(out, [o.task.folder for o in outcomes if o.status != "failed"])
    if not folders:
        return written
    made = {o.task.folder: o.catalogue for o in outcomes if o.catalogue is not None}
    catalogues = {}
    for folder in folders:
        table = made[folder] if folder in made else _catalogue_in(folder)
        if table is not None:
            catalogues[folder.name] = table
    if not catalogues:
        return written
    whole = together(catalogues, paths_of(folders))
    for form in dict.fromkeys(("ecsv", *formats)):
        path = out / f"catalog{FORMATS[form]}"
        with replacing(path) as beside:
            write_table(whole.copy(), beside, path.suffix)
        written.append(path)
    return written


def results_in(out: Path, first: Sequence[Path] = ()) -> list[Path]:
    """Result folders in a folder that have a catalogue: those in ``first``, then the others by name."""
    others = sorted(folder for folder in out.iterdir() if folder.is_dir() and folder not in first)
    return [folder for folder in (*first, *others) if (folder / "catalog.ecsv").is_file() and is_result(folder)]


def _catalogue_in(folder: Path) -> QTable | None:
    """The catalogue in a folder; None, with a log message, if it cannot be read."""
    try:
        return read_ecsv(folder / "catalog.ecsv")
    except Exception as error:  # damaged: the other results are still to be listed
        LOG.warning("%s cannot be read and is not in the table of all: %s", folder / "catalog.ecsv", error)
        return None


def paths_of(folders: Sequence[Path]) -> dict[str, str]:
    """The file of each cube by the name of its result folder; empty if the cube had no file."""
    found = {}
    for folder in folders:
        try:
            found[folder.name] = str(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["cube"]["path"])
        except (OSError, ValueError, KeyError, TypeError):
            found[folder.name] = ""
    return found


def together(catalogues: dict[str, QTable], paths: dict[str, str] | None = None) -> QTable:
    """Combine several catalogues, by name, into one table with the columns ``cube`` and, if given, ``cube_path``.

    Units are those of the first catalogue.  If the units of a column cannot be converted into each other (Jy km/s and
    Jy Hz), the column has plain numbers, and the column ``..._unit`` next to it has their units.
    """
    tables = []
    for name, catalogue in catalogues.items():
        table = catalogue.copy()
        table.meta.clear()
        table.add_column(np.full(len(table), name), 0, "cube")
        if paths is not None:
            table.add_column(np.full(len(table), paths.get(name, "")), 1, "cube_path")
        tables.append(table)
    _complete(tables)
    for column in [name for name in tables[0].colnames if name not in ("cube", "cube_path")]:
        units = [table[column].unit for table in tables]
        descriptions = {table[column].info.description for table in tables}
        if units[0] is None:
            continue
        if all(unit.is_equivalent(units[0]) for unit in units):
            for table in tables:
                table[column] = table[column].to(units[0])
        else:
            for table, unit in zip(tables, units, strict=True):
                table[column] = table[column].value
                table.add_column(
                    np.full(len(table), unit.to_string()), table.index_column(column) + 1, f"{column}_unit"
                )
        for table in tables:
            table[column].info.description = next(iter(descriptions)) if len(descriptions) == 1 else None
    return vstack(tables, metadata_conflicts="silent")


def _complete(tables: Sequence[QTable]) -> None:
    """Add columns that only other tables have, for example from another version: NaN, 0, False or empty."""
    for name in dict.fromkeys(name for table in tables for name in table.colnames):
        known = next(table[name] for table in tables if name in table.colnames)
        for table in tables:
            if name not in table.colnames:
                blank = np.full(len(table), np.nan) if known.dtype.kind == "f" else np.zeros(len(table), known.dtype)
                table[name] = blank if known.unit is None else blank * known.unit
