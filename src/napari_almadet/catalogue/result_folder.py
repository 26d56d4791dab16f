"""Result folders: written by the command line and the plugin, and read back as `Detections`.

``settings.json`` identifies the cube by path and sha256; the other files are FITS and ECSV.  While candidates are
inspected, a `Journal` in the folder records every change at once, one line each, so that a crash loses none.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import QTable
from scipy import ndimage

from napari_almadet.catalogue.atomic_folder import complete, locked, replaced_together
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, SourceMask, Status
from napari_almadet.catalogue.decision import Decision, remark
from napari_almadet.catalogue.detections import Detections
from napari_almadet.catalogue.export import read_ecsv, spectra_table, write_ecsv, write_regions
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.errors import in_one_line
from napari_almadet.cube.prepare import as_prepared
from napari_almadet.cube.reading import read_cube
from napari_almadet.cube.storage import is_casa_image, split_address
from napari_almadet.settings import Settings

ABOUT = "settings.json"
JOURNAL = "journal.jsonl"
CUBE = "cube.fits"  # the cube, if it is not in a file
IDENTITY_CARD = "RESULTID"  # in headers; in tables and JSON it is ``identity``
LONGEST_MESSAGE = 280  # characters of an error message
MEASURES = (
    *("x", "y", "z", "err_x", "err_y", "err_z", "f_sum", "err_f_sum", "pb", "f_max", "f_min", "peak"),
    *("f_sum_all", "err_f_sum_all", "err_f_sum_pb", "err_f_cont_pb"),
    *("err_peak", "x_peak", "y_peak", "z_peak", "f_cont", "err_f_cont", "alpha", "err_alpha"),
    *("w20", "err_w20", "w50", "err_w50", "wm50", "err_wm50", "fwhm", "err_fwhm", "z_fit", "err_z_fit", "chi2_fit"),
    *("dc_maj", "err_dc_maj", "dc_min", "err_dc_min", "dc_pa", "err_dc_pa", "dc_limit"),
    *("ell_maj", "err_ell_maj", "ell_min", "err_ell_min", "ell_pa", "err_ell_pa"),
    *("ell3s_maj", "ell3s_min", "ell3s_pa", "kin_pa", "err_kin_pa"),
    *("abs_snr", "abs_z", "err_abs_z", "abs_depth", "err_abs_depth", "abs_w50", "err_abs_w50", "abs_tau"),
    *("err_abs_tau", "abs_tau_limit", "abs_tau_int", "err_abs_tau_int", "abs_n"),
    *("rms", "prob", "rel", "snr_global", "snr_pixel"),
)
MARKS = (
    *("blended", "edge", "kind", "verdict", "note", "origin", "method", "n_pix", "flag", "parent"),
    *("line_ids", "redshifts"),
)
MASK = "mask.fits"
MOST_MASK = 2e9  # voxels; the mask of a larger cube is not written, since it would not fit into memory


class FolderError(ValueError):
    """A folder that cannot be opened as a result; the message says why and what to do."""


# --- writing -------------------------------------------------------------------------------------------------------


def write_result(detections: Detections, folder: str | Path, keep_cube: bool = False) -> Path:
    """Write a result to a folder; :func:`read_result` reads it back.

    * ``catalog.ecsv``: the catalogue of the kept candidates;
    * ``candidates.ecsv``: the same columns for all candidates, including dropped ones;
    * ``lines.ecsv``: the emission peaks of each, in the order of its ``peaks``;
    * ``spectra.fits``: dirty and denoised spectra, focused images, and the stacked image;
    * ``probability.fits``: the probability map;
    * ``mask.fits``: the voxels of the kept candidates, each by the id of its candidate, 0 for none;
    * ``ds9.reg``, ``casa.crtf``: the kept candidates' boxes;
    * ``settings.json``: settings, provenance, warnings.

    All files are first written elsewhere and then moved into place together, see
    :mod:`~napari_almadet.catalogue.atomic_folder`: even if a run is killed, or two runs write at once, the files belong
    to one run.  All have the same identity.  A journal in the folder is removed, since the files contain its changes.

    Parameters
    ----------
    detections
        From :func:`napari_almadet.detect`.
    folder
        Created if it does not exist.
    keep_cube
        Also write a cube that is not in a file, as ``cube.fits``, unless that exists.

    Returns
    -------
    pathlib.Path
        The folder.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_almadet import Cube, detect, write_result
    >>> noise = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    >>> folder = write_result(detect(Cube.from_array(noise)), "written")
    >>> sorted(file.name for file in folder.glob("*.ecsv"))
    ['candidates.ecsv', 'catalog.ecsv', 'lines.ecsv']
    """
    folder, everyone, identity = Path(folder), detections.candidates, uuid.uuid4().hex
    with replaced_together(folder, last=ABOUT) as beside:
        for name, table in (
            ("catalog.ecsv", detections.table()),
            ("candidates.ecsv", detections.table(everyone)),
            ("lines.ecsv", _lines(everyone)),
        ):
            table.meta["identity"] = identity
            write_ecsv(table, beside / name)
        arrays = _arrays(detections)
        arrays[0].header[IDENTITY_CARD] = identity
        arrays.writeto(beside / "spectra.fits")
        header = _header(detections)
        header[IDENTITY_CARD] = identity
        fits.writeto(beside / "probability.fits", detections.probability.astype(np.float32), header)
        if np.prod(detections.cube.shape, dtype=float) <= MOST_MASK:
            masks = _mask(detections)
            masks[0].header[IDENTITY_CARD] = identity
            masks.writeto(beside / MASK)
        for name in ("ds9.reg", "casa.crtf"):
            write_regions(detections, beside / name)
        about = {"identity": identity, **detections.about(), "cube": _reference(detections.cube)}
        (beside / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if keep_cube and detections.cube.path is None and not (folder / CUBE).exists():
            fits.writeto(beside / CUBE, np.asarray(detections.cube.data), detections.cube.header)
    (folder / JOURNAL).unlink(missing_ok=True)
    return folder


LINES = {  # what the columns of lines.ecsv mean
    "id": "of the candidate",
    "channel": "of the peak in the line probability (preset paper: the denoised spectrum), from 0",
    "height": "of that peak, 0 to 1",
    "amplitude": "of the Gaussian fitted to it, on the same scale",
    "centre": "of that Gaussian, channels from 0",
    "fwhm": "of that Gaussian, in channels",
}


def _lines(candidates: list[Candidate]) -> QTable:
    rows = [(c.id, *asdict(peak).values()) for c in candidates for peak in c.peaks]
    names = ("id", *(f.name for f in fields(EmissionPeak)))
    table = QTable(rows=rows or None, names=names, dtype=(int, int, float, float, float, float))
    for name, words in LINES.items():
        table[name].info.description = words
    return table


def _arrays(detections: Detections) -> fits.HDUList:
    """Spectra of all candidates, line-integrated images of those that have one, and their locations in the cube."""
    seen = [c for c in detections.candidates if c.focused is not None]
    side = detections.settings.crop
    images = np.array([c.focused for c in seen], np.float32).reshape(-1, side, side)
    places = QTable(
        {
            "id": np.array([c.id for c in seen], dtype=int),
            "y0": np.array([c.focus_origin[0] for c in seen], dtype=int),
            "x0": np.array([c.focus_origin[1] for c in seen], dtype=int),
        }
    )
    return fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.table_to_hdu(spectra_table(detections, detections.candidates), name="SPECTRA"),
            fits.ImageHDU(images if len(images) else None, name="FOCUSED"),
            fits.table_to_hdu(places, name="PLACES"),
            fits.ImageHDU(detections.stacked.astype(np.float32), _header(detections, "Stacked"), name="STACKED"),
        ]
    )


def _mask(detections: Detections) -> fits.HDUList:
    """The masks of the kept candidates as compressed labels, and the location of each.

    So that they can be separated.
    """
    header = fits.Header() if detections.cube.wcs is None else detections.cube.wcs.to_header()
    header["BTYPE"] = "Source mask"
    image = fits.CompImageHDU(
        detections.labels(), header, name="MASK", compression_type="RICE_1", tile_shape=_tile(detections)
    )
    return fits.HDUList([fits.PrimaryHDU(), image, _baselines(detections.kept)])


def _baselines(candidates: list[Candidate]) -> fits.BinTableHDU:
    """A table ``BASELINE``: for each mask the level that was taken off its pixels, by rows, and the mask's bounds."""
    known = [(c, c.mask.origin[1:], c.mask.baseline) for c in candidates if c.mask and c.mask.baseline is not None]
    levels = np.empty(len(known), object)
    for row, (_, _, level) in enumerate(known):
        levels[row] = level.ravel()
    bounds = [(candidate.id, *origin, *level.shape) for candidate, origin, level in known]
    columns = [
        fits.Column(name, "J", array=np.array([row[k] for row in bounds], np.int32))
        for k, name in enumerate(("id", "y0", "x0", "ny", "nx"))
    ]
    return fits.BinTableHDU.from_columns([*columns, fits.Column("level", "PE()", array=levels)], name="BASELINE")


def _take_baselines(by_id: dict[int, Candidate], path: Path) -> None:
    """Restore the levels under the masks, if a result has them and the masks are those."""
    with fits.open(path) as hdus:
        if "BASELINE" not in hdus:
            return
        for row in hdus["BASELINE"].data:
            mask = by_id[row["id"]].mask if row["id"] in by_id else None
            place, shape = (int(row["y0"]), int(row["x0"])), (int(row["ny"]), int(row["nx"]))
            if mask is not None and (mask.origin[1:], mask.voxels.shape[1:]) == (place, shape):
                level = np.asarray(row["level"], np.float32).reshape(shape)
                by_id[row["id"]].mask = replace(mask, baseline=level)


def _tile(detections: Detections) -> tuple[int, int, int]:
    """Tile shape for compressing a mask: planes, since most are empty."""
    return (1, *detections.cube.shape[1:])


def _take_masks(candidates: list[Candidate], path: Path, shape: tuple[int, int, int]) -> None:
    """Restore the masks of candidates, if a result has them."""
    if not path.is_file():
        return
    labels = fits.getdata(path, extname="MASK")
    if labels is None or labels.shape != shape:
        return
    by_id = {candidate.id: candidate for candidate in candidates if candidate.n_pix}
    if not by_id:
        return
    for number, part in enumerate(ndimage.find_objects(labels), 1):
        if part is not None and number in by_id:
            by_id[number].mask = SourceMask(tuple(s.start for s in part), labels[part] == number)
    _take_baselines(by_id, path)


def _header(detections: Detections, kind: str = "Probability") -> fits.Header:
    header = detections.cube.celestial_header() or fits.Header()
    header["BTYPE"] = kind
    header["ORIGIN"] = f"napari-almadet {detections.provenance.get('version', '')}".rstrip()
    return header


def _reference(cube: Cube) -> dict:
    """Path, size and time of the cube's file, which show without reading it whether it has changed."""
    if cube.path is None:
        return {"path": "", "name": cube.name}
    size, changed = _stamp(cube.path)
    return {"path": cube.address, "name": cube.name, "size": size, "mtime_ns": changed}


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file, or of the files of a folder, such as a CASA image."""
    files = [p for p in path.rglob("*") if p.is_file() and p.name != "table.lock"] if path.is_dir() else [path]
    stats = [file.stat() for file in files]
    return sum(s.st_size for s in stats), max(s.st_mtime_ns for s in stats)


# --- reading -------------------------------------------------------------------------------------------------------


def is_result(folder: str | Path) -> bool:
    """Whether a folder is a result of :func:`write_result`; checks for three files without reading them."""
    folder = Path(folder)
    with suppress(OSError):  # of a folder that cannot be written to, which is then read as it is
        complete(folder, last=ABOUT)
    return all((folder / name).is_file() for name in (ABOUT, "candidates.ecsv", "spectra.fits"))


def belongs(folder: str | Path, cube: Cube) -> bool:
    """Whether a folder's result was made from a cube: by the file's path, or, if it had none, by its contents."""
    try:
        about = json.loads((Path(folder) / ABOUT).read_text(encoding="utf-8"))
        reference = about["cube"]
        if cube.path is not None:
            return reference["path"] == cube.address
        known = (reference["path"], reference["name"]) == ("", cube.name)
        return known and cube.sha256() == about["provenance"]["cube"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_result(folder: str | Path, cube: Cube | None = None) -> Detections:
    """Read a result from its folder, including the changes in its journal.

    Parameters
    ----------
    folder
        From :func:`write_result`.
    cube
        The cube, if it is open; default: the one named in the folder, at its path or, if it does not exist there, by
        its file name in the folder or next to it.

    Returns
    -------
    Detections
        As they were written, with the changes in the journal.

    Raises
    ------
    FolderError
        If the folder is not a result or is damaged, or its cube is missing or a different one.
    CubeError
        If the cube's file cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_almadet import Cube, detect, read_result, write_result
    >>> noise = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    >>> folder = write_result(detect(Cube.from_array(noise)), "result", keep_cube=True)
    >>> read_result(folder).kept
    []
    """
    folder = Path(folder)
    if not is_result(folder):
        raise FolderError(
            f"{folder} is not a result folder: settings.json, candidates.ecsv or spectra.fits is missing."
        )
    try:
        with locked(folder, shared=True):
            return _read(folder, cube)
    except FolderError as error:
        raise FolderError(_shortened(str(error))) from error.__cause__
    except CubeError:
        raise
    except Exception as error:  # a damaged file can fail anywhere inside astropy, and JSON can hold anything
        reason = in_one_line(error)
        raise FolderError(_shortened(f"{folder} cannot be read, it may be damaged: {reason}")) from error


def _read(folder: Path, cube: Cube | None) -> Detections:
    """`read_result` with errors of any type."""
    about = json.loads(_own(folder, ABOUT).read_text(encoding="utf-8"))
    if not isinstance(about, dict):
        raise FolderError(f"{folder} cannot be read: its settings.json contains no settings.")
    tables = {name: read_ecsv(_own(folder, name)) for name in ("candidates.ecsv", "lines.ecsv")}
    _check_identity(folder, about.get("identity"), tables)
    cube = cube or _cube(folder, about)
    candidates = _candidates(*tables.values())
    with fits.open(_own(folder, "spectra.fits"), memmap=False) as hdus:
        _take_arrays(candidates, hdus)
        stacked = _native(hdus["STACKED"].data)
    _take_masks(candidates, _own(folder, MASK), cube.shape)
    probability = _native(fits.getdata(_own(folder, "probability.fits")))
    settings = Settings(**about["settings"])
    cube = as_prepared(cube, settings, about["provenance"])
    if stacked.shape != cube.shape[1:] or probability.shape != stacked.shape:
        raise FolderError(f"{folder} belongs to a cube of a different size than {cube.name}.")
    ny, nx = stacked.shape
    for candidate in candidates:
        box, (first, end) = candidate.box, candidate.channels
        if not (0 <= box.y0 < box.y1 <= ny and 0 <= box.x0 < box.x1 <= nx and 0 <= first <= end <= cube.shape[0]):
            raise FolderError(f"{folder} cannot be read: candidate {candidate.id} lies outside {cube.name}.")
    negatives = about.get("negatives")
    negatives = None if negatives is None else np.array(negatives, dtype=float).reshape(-1, 2)
    warnings = [str(warning) for warning in about["warnings"]]
    found = Detections(cube, settings, candidates, stacked, probability, about["provenance"], warnings, negatives)
    Journal(folder).replay(found)
    return found


def _own(folder: Path, name: str) -> Path:
    """A file of a result: a regular file, not a link to somewhere else.

    Raises
    ------
    FolderError
        If it is not.
    """
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise FolderError(f"{folder} cannot be read: its {name} is a link to somewhere outside it.")
    if path.exists() and not path.is_file():
        raise FolderError(f"{folder} cannot be read: its {name} is not a regular file.")
    return path


def _check_identity(folder: Path, identity: str | None, tables: dict[str, QTable]) -> None:
    """Raise if files belong to different runs; results of version 0.1 have no identity."""
    if identity is None:
        return
    found = {name: table.meta.get("identity") for name, table in tables.items()}
    for name in ("spectra.fits", "probability.fits", *([MASK] if _own(folder, MASK).is_file() else [])):
        found[name] = fits.getheader(_own(folder, name)).get(IDENTITY_CARD)
    if others := [name for name, its in found.items() if its != identity]:
        raise FolderError(
            f"{folder} contains files of several runs: {', '.join(others)} and settings.json do not match."
        )


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 4].rsplit(" ", 1)[0] + " ..."


def _cube(folder: Path, about: dict) -> Cube:
    """The cube named in a folder, if it has not changed."""
    reference = about["cube"]
    if not reference["path"]:
        if not (folder / CUBE).is_file():
            raise FolderError(
                f"{folder} belongs to a cube that was not in a file ({reference['name']}): open that cube first."
            )
        cube = _read_own(_own(folder, CUBE))
        return replace(cube, name=reference["name"])
    named, hdu = split_address(reference["path"])
    path = next((p for p in (named, folder / named.name, folder.parent / named.name) if p.exists()), None)
    if path is not None and not (path.is_file() or is_casa_image(path)):
        raise FolderError(f"The cube of {folder.name}, {path}, is not a regular file.")
    if path == folder / named.name:
        path = _own(folder, named.name) if path.is_file() else path
    if path is None:
        raise FolderError(
            f"The cube of {folder.name}, {named}, does not exist. Put {named.name} into the folder or next to it."
        )
    cube = read_cube(path if hdu is None else f"{path}[{hdu}]")
    unchanged = _stamp(path) == (reference["size"], reference["mtime_ns"])
    if not unchanged and cube.sha256() != about["provenance"]["cube"]["sha256"]:
        raise FolderError(f"{path} is not the cube that {folder.name} was made from: its contents (sha256) differ.")
    return cube


def _read_own(path: Path) -> Cube:
    """A cube that was an array in memory: read like any file if it has a WCS, otherwise as a bare array."""
    try:
        return read_cube(path)
    except CubeError:
        return Cube.from_array(fits.getdata(path), name=path.stem)


def _candidates(table: QTable, lines: QTable) -> list[Candidate]:
    """Candidates from their table and that of their lines."""
    names = [f.name for f in fields(EmissionPeak)]
    peaks: dict[int, list[EmissionPeak]] = {}
    for row in lines:
        values = {name: row[name].item() for name in names}
        peaks.setdefault(int(row["id"]), []).append(EmissionPeak(**values))
    decisions = table.meta["decisions"]
    plain = {name: np.asarray(getattr(table[name], "value", table[name])) for name in table.colnames}
    for name in ("note", "method", "line_ids", "redshifts"):  # ECSV reads an empty text as a missing one
        if name in table.colnames:
            plain[name] = np.ma.filled(table[name], "")
    candidates = []
    for i in range(len(table)):
        row = {name: values[i].item() for name, values in plain.items()}
        if row.get("method") != "mask":
            for name in ("pb", "err_f_sum_pb", "err_f_cont_pb"):
                row.pop(name, None)  # of the place, which may be moved
        candidates.append(
            Candidate(
                id=row["id"],
                box=Box(row["y_min"], row["y_max"] + 1, row["x_min"], row["x_max"] + 1),
                channels=(row["z_min"], row["z_max"] + 1),
                peaks=tuple(peaks.get(row["id"], ())),
                status=Status(row.get("status", row["fate"])),  # results of 0.1 have ``fate`` alone
                decisions=_decisions(decisions[str(row["id"])]),
                **{name: row[name] for name in (*MEASURES, *MARKS) if name in row},  # an older result has fewer
            )
        )
    return candidates


def _decisions(known: dict) -> list[Decision]:
    """A candidate's decisions; results of 0.1 have sentences only."""
    if "records" not in known:
        return [remark(text) for text in known["reasons"]]
    return [Decision.from_dict(record) for record in known["records"]]


def _take_arrays(candidates: list[Candidate], hdus: fits.HDUList) -> None:
    by_id = {candidate.id: candidate for candidate in candidates}
    spectra, places = hdus["SPECTRA"].data, hdus["PLACES"].data
    for number, dirty, denoised in zip(
        spectra["id"], _native(spectra["dirty"]), _native(spectra["denoised"]), strict=True
    ):
        if candidate := by_id.get(number):
            candidate.spectrum, candidate.denoised = dirty, denoised
    for row, place in enumerate(places):
        if candidate := by_id.get(place["id"]):
            candidate.focused = _native(hdus["FOCUSED"].data[row])
            candidate.focus_origin = (int(place["y0"]), int(place["x0"]))


def _native(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


# --- the journal ---------------------------------------------------------------------------------------------------


class Journal:
    """Changes since the folder was written, one line of JSON each, on disk when `record` returns.

    A line contains everything about a candidate that differs from the previous line, or from the folder, or that it was
    removed.  The first line has the identity of the result to which the changes apply.  A line truncated by a crash or
    a full disk is ignored.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / JOURNAL
        self._known: dict[int, dict[str, Any]] = {}

    def record(self, detections: Detections, changed: list[Candidate]) -> None:
        """Record the current state of candidates, in one write.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        there = {id(candidate) for candidate in detections.candidates}
        text = "".join(json.dumps(self._entry(c, id(c) in there), allow_nan=False) + "\n" for c in changed)
        with self.path.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell() == 0:
                text = json.dumps({"result": self._identity()}) + "\n" + text
            else:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line was cut short: this one is not to be lost with it
                    text = "\n" + text
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _identity(self) -> str | None:
        """Identity of the result in the folder; None without one, or for results of version 0.1."""
        try:
            return json.loads((self.path.parent / ABOUT).read_text(encoding="utf-8")).get("identity")
        except (OSError, ValueError, AttributeError):
            return None

    def _entry(self, candidate: Candidate, there: bool) -> dict:
        if not there:
            return {"id": candidate.id, "removed": True}
        now = dict(vars(candidate))
        known = self._known.get(id(candidate), {})
        # a verdict or a note is a short line; whatever is measured comes in one piece, arrays and all
        measured = known.get("box") is not now["box"] or known.get("focused") is not now["focused"]
        self._known[id(candidate)] = now
        if known and not measured:
            return {"id": candidate.id, "verdict": candidate.verdict, "note": candidate.note}
        return {name: _plain(value) for name, value in now.items()}

    def know(self, written: Detections, candidates: list[Candidate] | None = None) -> None:
        """Note that the folder contains the current state; ``candidates`` are the originals, if a copy was written."""
        originals = written.candidates if candidates is None else candidates
        pairs = zip(originals, written.candidates, strict=True)
        self._known = {id(original): dict(vars(candidate)) for original, candidate in pairs}

    def replay(self, detections: Detections) -> None:
        """Apply the changes in the journal to the candidates of the folder."""
        if not self.path.exists():
            return
        identity = self._identity()
        by_id = {candidate.id: candidate for candidate in detections.candidates}
        text = _own(self.path.parent, JOURNAL).read_text(encoding="utf-8", errors="replace")
        for line in text.split("\n"):
            try:
                entry = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                continue  # cut short by a crash
            if not isinstance(entry, dict):
                continue
            if "result" in entry:
                if entry["result"] != identity:  # of the result that was here before, or of another run's
                    return
                continue
            if entry.get("removed"):
                by_id.pop(entry["id"], None)
            elif "box" in entry:
                by_id[entry["id"]] = _candidate(entry)
            elif entry["id"] in by_id:
                by_id[entry["id"]] = replace(by_id[entry["id"]], **entry)
        detections.candidates[:] = by_id.values()


def _plain(value: Any) -> Any:
    """A value of a candidate for JSON; NaN becomes null."""
    if isinstance(value, np.ndarray):
        return [_plain(part) for part in value.tolist()]
    if isinstance(value, Decision):
        return _plain(value.as_dict())
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, SourceMask):
        packed = base64.b64encode(np.packbits(value.voxels).tobytes()).decode("ascii")
        return {"origin": list(value.origin), "shape": list(value.voxels.shape), "bits": packed}
    if isinstance(value, Box | EmissionPeak):
        return {name: _plain(part) for name, part in asdict(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _unpacked(mask: dict | None) -> SourceMask | None:
    if mask is None:
        return None
    shape = tuple(mask["shape"])
    bits = np.frombuffer(base64.b64decode(mask["bits"]), np.uint8)
    return SourceMask(tuple(mask["origin"]), np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool))


def _candidate(entry: dict) -> Candidate:
    """The candidate from values of `_plain`; journals of version 0.1 call its status ``fate``."""
    entry = {"status" if k == "fate" else k: v for k, v in entry.items()}
    sentences = [remark(text) for text in entry.pop("reasons", [])]  # of 0.1
    entry["decisions"] = sentences + [Decision.from_dict(record) for record in entry.pop("decisions", [])]
    numbers = {f.name for f in fields(Candidate) if f.type == "float"}
    values: dict[str, Any] = {k: np.nan if v is None and k in numbers else v for k, v in entry.items()}
    peaks: list[dict[str, Any]] = [{k: np.nan if v is None else v for k, v in p.items()} for p in values["peaks"]]
    values.update(
        box=Box(**values["box"]),
        peaks=tuple(EmissionPeak(**peak) for peak in peaks),
        channels=tuple(values["channels"]),
        focus_origin=tuple(values["focus_origin"]),
        status=Status(values["status"]),
        **{name: np.array(values[name], dtype=np.float32) for name in ("spectrum", "denoised")},
        mask=_unpacked(values.get("mask")),
        focused=None if values["focused"] is None else np.array(values["focused"], dtype=np.float32),
    )
    return Candidate(**values)
