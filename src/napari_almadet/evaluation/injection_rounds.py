"""Completeness, flux bias and fidelity of a search, measured in the user's own cube.

The cube and its inverse are searched once, so that sources can be injected away from detected ones.  Then follow
rounds: in each, a few synthetic sources are added to the cube as it is read (:mod:`~napari_almadet.evaluation.
injection`), and it is searched again with the same settings.  Each round has its own seed and writes one file, so that
an interrupted run can be resumed, and the table does not depend on the number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, vstack

from napari_almadet import __version__
from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.catalogue.detections import Detections, channel_width
from napari_almadet.catalogue.export import replacing
from napari_almadet.catalogue.result_folder import is_result, read_result, write_result
from napari_almadet.cube.cube import Cube
from napari_almadet.cube.prepare import as_prepared
from napari_almadet.detection import detect_steps, read_once
from napari_almadet.evaluation.injection import (
    Injection,
    Patch,
    Room,
    injected,
    level_at,
    patch_of,
    room_of,
    snr_of,
)
from napari_almadet.evaluation.matching import match
from napari_almadet.measure.noise import noise_of
from napari_almadet.progress import Progress, renamed
from napari_almadet.search.windows import beam_fwhm
from napari_almadet.settings import Settings

if TYPE_CHECKING:
    from napari_almadet.detection import Networks
    from napari_almadet.measure.noise import Noise
    from napari_almadet.search.search_networks import SearchNetworks

ABOUT = "completeness.json"  # identifies the run in a folder
SEARCH = "search"  # folder of the result for the cube itself
MOST = 20  # sources per round; more would affect each other's background
SPARSE = 60.0  # square beams per source, minimum: a mean distance of eight beams
APART = 6.0  # beams between injected sources, so that boxes and backgrounds do not overlap
CLEAR = 3.0  # beams between an injected source and sources detected in the cube
SNR = (2.0, 20.0)  # S/N of lines injected by default: from never to always found
WITHOUT_EFFECT = ("device", "batch_size", "memory", "reliability")  # settings that do not change what is found


class OtherRun(ValueError):
    """A folder contains a run on another cube, or with other options."""


@dataclass(frozen=True)
class Options:
    """What to inject.

    Attributes
    ----------
    widths
        FWHM of the lines in channels.
    sizes
        Intrinsic FWHM of the sources in beams.
    flux
        Bounds in the unit of the catalogue's ``f_sum``; None: an S/N of :data:`SNR` in each width and size.
    seed
        Seed of positions, fluxes and channels.
    """

    widths: tuple[float, ...]
    sizes: tuple[float, ...] = (0.0, 1.0)
    flux: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 0.5:
            raise ValueError("widths must be at least half a channel")
        if not self.sizes or min(self.sizes) < 0:
            raise ValueError("sizes must not be negative")
        if self.flux is not None and not 0 < self.flux[0] < self.flux[1]:
            raise ValueError(f"the range of fluxes {self.flux[0]:g}..{self.flux[1]:g} must be positive and increasing")


@dataclass(frozen=True, eq=False)
class Ground:
    """Input of the rounds; can be sent to another process.

    ``bounds`` are the ranges of flux by (width, size), ``each`` is the number of sources per round.
    """

    cube: Cube
    settings: Settings
    options: Options
    room: Room
    noise: Noise
    bounds: dict[tuple[float, float], tuple[float, float]]
    each: int

    @property
    def psf(self) -> str | None:
        """Path of the dirty beam, if given."""
        return self.settings.psf_path


def default_widths(n_channels: int) -> tuple[float, ...]:
    """Widths in channels for a band: narrow, medium and wide lines, up to a quarter of the band."""
    return tuple(float(w) for w in (3, 8, 20) if w <= n_channels / 4) or (max(1.0, n_channels / 4),)


# --- the folder ----------------------------------------------------------------------------------------------------


def run_identity(cube: Cube, settings: Settings, options: Options, networks: dict) -> dict:
    """What must be the same for a run to be continued, as plain values."""
    kept = {name: value for name, value in settings.as_dict().items() if name not in WITHOUT_EFFECT}
    made = {"version": __version__, "cube": cube.sha256(), "settings": kept, "networks": networks}
    return json.loads(json.dumps(made | {"options": asdict(options)}))


def claim(out: Path, run: dict) -> None:
    """Start a run in a folder, or resume the one in it.

    Raises
    ------
    OtherRun
        If the folder contains another run or other files; it is not changed.
    """
    file = out / ABOUT
    if file.is_file():
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OtherRun(f"{file} is damaged: choose another folder") from error
        names = {"cube": "cube", "version": "version of almadet", "networks": "network weights"}
        unlike = [names.get(key, key) for key in run if there.get(key) != run[key]]
        for part in ("settings", "options"):
            if part in unlike:
                old, new = there.get(part) or {}, run[part]
                unlike[unlike.index(part)] = ", ".join(sorted(k for k in new if old.get(k) != new[k]))
        if unlike:
            raise OtherRun(
                f"{out} contains injections made with another {' and another '.join(unlike)}: choose another folder"
            )
        return
    if out.is_dir() and any(path.name != "almadet.log" for path in out.iterdir()):
        raise OtherRun(f"{out} is not empty and contains no injections: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        beside.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def round_file(out: Path, number: int) -> Path:
    """The file with the rows of a round."""
    return out / "rounds" / f"round-{number:04d}.ecsv"


# --- before the rounds ---------------------------------------------------------------------------------------------


def first_search(
    cube: Cube,
    settings: Settings,
    out: Path,
    networks: Networks | SearchNetworks | None,
    client: Any = None,
) -> Generator[Progress, None, Detections]:
    """The result for the cube itself and its inverse; read from the folder if it exists."""
    folder = out / SEARCH
    if is_result(folder):
        return read_result(folder, cube)
    settings = replace(settings, reliability=settings.preset == "almadet")
    detections = yield from renamed(
        detect_steps(cube, settings, networks, client), lambda stage: f"The cube itself: {stage[0].lower()}{stage[1:]}"
    )
    write_result(detections, folder)
    return detections


def ground_of(
    cube: Cube, settings: Settings, options: Options, detections: Detections
) -> Generator[Progress, None, Ground]:
    """Where sources can be injected, and how bright.

    Raises
    ------
    ValueError
        If there is no room for a single source.
    """
    cube = as_prepared(cube, settings, detections.provenance)
    fwhm = yield from beam_fwhm.steps(cube)
    noise = detections.noise or (yield from noise_of.steps(cube, fwhm))
    decided = detections.provenance.get("dirty_beam", {}).get("beam")
    if settings.beam_setting == "auto" and decided in ("dirty", "clean"):
        settings = replace(settings, beam=decided)  # so that injected sources cannot change the decision
    valid = np.isfinite(detections.stacked)
    taken = [(*c.position, circle(c, fwhm)) for c in detections.kept]
    room = room_of(valid, np.isfinite(noise.rms), taken, fwhm)
    pixels = int(room.free.sum())
    if not pixels or not room.channels.any():
        raise ValueError(
            f"{cube.name}: no position is {CLEAR:g} beams from all detected sources and one beam from the border: "
            "completeness cannot be measured by injection"
        )
    each = int(np.clip(pixels / (SPARSE * fwhm**2), 1, MOST))
    ground = Ground(cube, settings, options, room, noise, {}, each)
    strata = [(width, size) for width in options.widths for size in options.sizes]
    bounds = {s: options.flux or typical_fluxes(ground, *s) for s in strata}
    return replace(ground, bounds=bounds)


def circle(candidate: Candidate, fwhm: float) -> float:
    """Radius around a candidate within which no source is injected."""
    return max(CLEAR * fwhm, 0.5 * float(np.hypot(*candidate.box.shape)) + 0.5 * CLEAR * fwhm)


def typical_fluxes(ground: Ground, width: float, size: float) -> tuple[float, float]:
    """Fluxes of sources of an S/N of :data:`SNR` at the typical noise, without attenuation."""
    cube, (known,) = replace(ground.cube, primary_beam=None), np.nonzero(ground.room.channels)
    _, ny, nx = cube.shape
    one = Injection((nx - 1) / 2, (ny - 1) / 2, float(known[len(known) // 2]), 1.0, width, size)
    snr = snr_of(patch_of(one, cube, ground.room.fwhm, ground.psf), ground.noise)
    if not snr > 0:
        raise ValueError(f"{cube.name}: its noise cannot be measured; give a range of fluxes")
    return SNR[0] / snr, SNR[1] / snr


# --- a round -------------------------------------------------------------------------------------------------------


def drawn(ground: Ground, number: int) -> list[tuple[Injection, Patch]]:
    """The sources of a round, which depend only on its number and the seed; widths and sizes alternate."""
    rng = np.random.default_rng([ground.options.seed, number])
    strata = [(w, s) for w in ground.options.widths for s in ground.options.sizes]
    first = number * ground.each
    turn = rng.permutation([(first + i) % len(strata) for i in range(ground.each)])
    made = []
    for (x, y), which in zip(ground.room.places(rng, ground.each, APART * ground.room.fwhm), turn, strict=False):
        width, size = strata[which]
        flux = float(np.exp(rng.uniform(*np.log(ground.bounds[width, size]))))
        source = Injection(x, y, ground.room.channel(rng, width), flux, width, size)
        made.append((source, patch_of(source, ground.cube, ground.room.fwhm, ground.psf)))
    return made


def search_round(
    ground: Ground, number: int, out: Path, networks: Networks | SearchNetworks | None, client: Any = None
) -> Generator[Progress, None, int]:
    """Inject the sources of a round, search, and write the outcome of each; return the number found."""
    sources = drawn(ground, number)
    cube = ground.cube
    if client is None:
        cube, _ = read_once(cube, ground.settings)
    searched = injected(cube, [patch for _, patch in sources])
    settings = replace(ground.settings, reliability=False)
    detections = yield from detect_steps(searched, settings, networks, client)
    rows = rows_of(ground, number, sources, detections)
    file = round_file(out, number)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as beside:
        rows.write(beside, format="ascii.ecsv")
    return int(np.sum(rows["found"]))


def rows_of(ground: Ground, number: int, sources: Sequence[tuple[Injection, Patch]], detections: Detections) -> QTable:
    """A row for each injected source: its properties, and the matched candidate."""
    cube, fwhm, step = ground.cube, ground.room.fwhm, channel_width(ground.cube)
    found = matched([source for source, _ in sources], detections.candidates, fwhm, ground.room.channels)
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    for (source, patch), candidate in zip(sources, found, strict=True):
        level = level_at(cube, ground.noise, source.x, source.y, fwhm)
        pb = np.nan if cube.primary_beam is None else cube.primary_beam.at(source.x, source.y, source.z)
        status = "missed" if candidate is None else str(candidate.status)
        row: dict[str, Any] = {
            "round": number,
            "x": source.x,
            "y": source.y,
            "z": source.z,
            "flux": source.flux,
            "size": source.size,
        }
        row |= {"width": source.width * step.value, "width_channels": source.width, "pb": pb}
        row |= {"snr": snr_of(patch, ground.noise, level), "found": status == "kept", "status": status}
        for name in MEASURED:
            row[name] = np.nan if candidate is None else rounded(getattr(candidate, name))
        for name, value in row.items():
            columns[name].append(value)
    table = QTable({name: np.array(values, dtype=COLUMNS[name]) for name, values in columns.items()})
    units = {"width": step.unit, "w50": step.unit, "err_w50": step.unit}
    for name, unit in (units | dict.fromkeys(("flux", "f_sum", "err_f_sum"), detections.flux_unit)).items():
        table[name] = table[name] * unit
    if len(table):
        add_sky(table, cube)
    for name, text in DESCRIPTIONS.items():
        if name in table.colnames:
            table[name].info.description = text
    return table


def rounded(value: float) -> float:
    """A measured value rounded to :data:`DIGITS` digits: further digits depend on the number of threads."""
    return float(f"{value:.{DIGITS}g}")


DIGITS = 6  # significant digits of measured values in tables; chosen by eye
MEASURED = ("prob", "f_sum", "err_f_sum", "w50", "err_w50")
COLUMNS: dict[str, Any] = {
    "round": int,
    "x": float,
    "y": float,
    "z": float,
    "flux": float,
    "width": float,
    "width_channels": float,
    "size": float,
    "pb": float,
    "snr": float,
    "found": bool,
    "status": "U8",
    **dict.fromkeys(MEASURED, float),
}
DESCRIPTIONS = {
    "x": "pixel, counted from 0",
    "y": "pixel, counted from 0",
    "z": "channel, counted from 0",
    "flux": "integrated flux of the injected source, before the primary beam",
    "width": "FWHM of the injected line",
    "size": "intrinsic FWHM in beams; 0 is a point source",
    "pb": "primary-beam response at the place",
    "snr": "of the injected line at its brightest pixel, matched to its own profile, in the local noise",
    "status": "status of the candidate at its place; missed: there is none",
    "f_sum": "integrated flux measured, not corrected for the primary beam",
}


def add_sky(table: QTable, cube: Cube) -> None:
    """Add the coordinates that the header provides."""
    sky = cube.sky(table["x"], table["y"])
    if sky is not None:
        table["ra"], table["dec"] = sky.icrs.ra.to(u.deg), sky.icrs.dec.to(u.deg)
    for name, values in (("freq", cube.frequency(table["z"])), ("v_rad", cube.velocity(table["z"]))):
        if values is not None:
            table[name] = values


def matched(
    sources: Sequence[Injection], candidates: Sequence[Candidate], fwhm: float, channels: np.ndarray
) -> list[Candidate | None]:
    """The candidate matched with each source, one to one: kept ones first, then flagged, then dropped.

    A candidate with a line must be within a beam of the source, or half its observed FWHM if that is larger, and its
    channels must overlap the FWHM of the line.
    """
    answer: list[Candidate | None] = [None] * len(sources)
    for status in (Status.KEPT, Status.FLAGGED, Status.DROPPED):
        left = [i for i, one in enumerate(answer) if one is None]
        these = [c for c in candidates if c.status is status and c.kind != "continuum"]
        if not left or not these:
            continue
        radius = np.array([fwhm * max(1.0, 0.5 * np.hypot(1, sources[i].size)) for i in left])
        truth = np.array([(sources[i].x, sources[i].y) for i in left])
        places = np.array([c.position for c in these])
        lines = np.array([(sources[i].z, sources[i].width) for i in left])
        low, high = lines[:, 0] - lines[:, 1] / 2, lines[:, 0] + lines[:, 1] / 2
        ranges = np.array([c.channels for c in these])
        allowed = (ranges[None, :, 0] - 0.5 <= high[:, None]) & (ranges[None, :, 1] - 0.5 >= low[:, None])
        allowed &= np.hypot(*(truth[:, None] - places[None]).transpose(2, 0, 1)) <= radius[:, None]
        for i, j in match(truth, places, allowed, radius.max()):
            answer[left[i]] = these[j]
    return answer


# --- after the rounds ----------------------------------------------------------------------------------------------


def gathered(out: Path, rounds: int) -> QTable:
    """The rows of the first rounds, in order, numbered."""
    tables = [QTable.read(round_file(out, number)) for number in range(rounds)]
    table = vstack([t for t in tables if len(t)] or tables[:1], metadata_conflicts="silent")
    table.add_column(np.arange(1, len(table) + 1), 0, "id")
    return table


def caveats(ground: Ground, detections: Detections) -> list[str]:
    """Limits of the results, one sentence each."""
    sentences = []
    decided = detections.provenance.get("dirty_beam", {}).get("beam")
    if decided == "dirty" and ground.psf is None:
        sentences.append(
            "The cube was searched as a dirty cube, but without an image of its dirty beam: injected sources have the "
            "header's beam and no sidelobes. Give the dirty beam (--beam FILE) to inject sources as observed."
        )
    if ground.cube.beam is None:
        sentences.append(
            "The header gives no beam: sources are injected with a round beam whose width is estimated from the noise."
        )
    if detections.negatives is None:
        sentences.append("There is no fidelity, because the inverted cube is searched only with the preset almadet.")
    free = ground.room.free.sum() * 1.0 / max(np.isfinite(detections.stacked).sum(), 1)
    if free < 0.3:
        sentences.append(f"Sources could be injected in only {free:.0%} of the field: detections occupy the rest.")
    return sentences
