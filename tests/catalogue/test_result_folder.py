"""A folder of results gives back what was written, whatever happens in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from regions import Regions
from test_detections import COLUMNS
from yaml.representer import RepresenterError

from napari_almadet import Cube, Settings, read_cube
from napari_almadet.catalogue.candidate import Box, Status
from napari_almadet.catalogue.decision import remark
from napari_almadet.catalogue.result_folder import FolderError, Journal, is_result, read_result, write_result

FILES = {
    *("catalog.ecsv", "candidates.ecsv", "lines.ecsv", "spectra.fits", "probability.fits", "mask.fits"),
    *("ds9.reg", "casa.crtf", "settings.json"),
}


def assert_same(one, other):
    """All of two candidates, arrays and NaN too."""
    for name, value in vars(one).items():
        there = getattr(other, name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(there, value, err_msg=name)
            assert there.dtype == value.dtype
        elif isinstance(value, float):
            assert there == pytest.approx(value, rel=1e-15, nan_ok=True), name
        else:
            assert there == value, name


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_the_catalogue_survives_its_file(detections_of, sky_cube, cube_of, planes, tmp_path, empty, bare):
    detections = detections_of(cube_of(planes) if bare else sky_cube(planes), empty)
    folder = write_result(detections, tmp_path / "out" / "deep")
    assert {file.name for file in folder.iterdir()} == FILES
    table, read = detections.table(), QTable.read(folder / "catalog.ecsv")
    assert read.colnames == COLUMNS
    assert len(read) == (0 if empty else 2)
    for name in COLUMNS:
        if not empty:
            np.testing.assert_array_equal(read[name], table[name])
        assert getattr(read[name], "unit", None) == getattr(table[name], "unit", None)
        assert read[name].dtype.kind == table[name].dtype.kind
    assert read.meta["settings"] == Settings(min_snr=4).as_dict()
    assert read.meta["warnings"] == ["beware"]
    if not empty:
        assert read.meta["decisions"]["2"] == {
            "status": "dropped",
            "reasons": ["dropped: it is not"],
            "records": [remark("dropped: it is not").as_dict()],
        }


def test_the_probability_map_lies_on_the_sky(detections_of, sky_cube, planes, header, tmp_path):
    detections = detections_of(sky_cube(planes))
    with fits.open(write_result(detections, tmp_path / "out") / "probability.fits") as hdus:
        np.testing.assert_array_equal(hdus[0].data, detections.probability)
        assert hdus[0].data.dtype == np.dtype(">f4")
        wcs = WCS(hdus[0].header)
    assert wcs.pixel_to_world(12, 70).separation(WCS(header).celestial.pixel_to_world(12, 70)) < 1e-6 * u.arcsec


@pytest.mark.parametrize("frame", ["ICRS", "FK5", "GALACTIC"])
@pytest.mark.parametrize("file", ["ds9.reg", "casa.crtf"])
def test_regions_lie_where_the_boxes_are(detections_of, tmp_path, planes, header, file, frame):

    if frame == "GALACTIC":
        header["CTYPE1"], header["CTYPE2"] = "GLON-SIN", "GLAT-SIN"
    else:
        header["RADESYS"] = frame
    fits.writeto(tmp_path / "field.fits", planes, header)
    cube = read_cube(tmp_path / "field.fits")
    regions = Regions.read(write_result(detections_of(cube), tmp_path / "out") / file)
    assert len(regions) == 2
    box = regions[0].to_pixel(WCS(header).celestial)
    # the header is turned by 30 degrees, so that CARTA needs corners
    x, y = box.vertices.xy
    assert sorted(zip(np.round(x, 2), np.round(y, 2), strict=True)) == [
        (29.5, 9.5), (29.5, 20.5), (44.5, 9.5), (44.5, 20.5)
    ]  # fmt: skip
    assert str(regions[0].meta.get("text", regions[0].meta.get("label"))) == "1"


@pytest.mark.parametrize("file", ["ds9.reg", "casa.crtf"])
def test_regions_without_coordinates_are_in_pixels(detections_of, cube_of, planes, tmp_path, file):
    regions = Regions.read(write_result(detections_of(cube_of(planes)), tmp_path / "out") / file)
    assert (regions[0].center.x, regions[0].center.y) == pytest.approx((37, 15))
    assert (regions[0].width, regions[0].height) == pytest.approx((15, 11))


def test_settings_and_provenance_are_plain_json(detections_of, sky_cube, planes, tmp_path):
    folder = write_result(detections_of(sky_cube(planes)), tmp_path / "out")
    about = json.loads((folder / "settings.json").read_text())
    assert Settings(**about["settings"]) == Settings(min_snr=4)
    assert about["provenance"]["cube"]["name"] == "field"


def test_writing_again_replaces_and_leaves_other_files(detections_of, sky_cube, planes, tmp_path):
    cube = sky_cube(planes)
    folder = write_result(detections_of(cube), tmp_path / "out")
    (folder / "mine.txt").write_text("mine")
    write_result(detections_of(cube, empty=True), folder)
    assert {file.name for file in folder.iterdir()} == FILES | {"mine.txt"}
    assert len(QTable.read(folder / "catalog.ecsv")) == 0


def test_an_error_while_writing_leaves_the_old_files_whole(detections_of, sky_cube, planes, tmp_path):
    detections = detections_of(sky_cube(planes))
    folder = write_result(detections, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    detections.candidates.clear()
    detections.provenance["cube"] = object()  # no file can hold it
    with pytest.raises(RepresenterError):
        write_result(detections, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("empty", [False, True])
def test_a_folder_is_read_as_it_was_written(detections_of, sky_cube, planes, tmp_path, empty):
    detections = detections_of(sky_cube(planes), empty)
    folder = write_result(detections, tmp_path / "out")
    assert is_result(folder)
    again = read_result(folder)
    assert len(again.candidates) == len(detections.candidates)
    for one, other in zip(detections.candidates, again.candidates, strict=True):
        assert_same(one, other)
    np.testing.assert_array_equal(again.stacked, detections.stacked)
    np.testing.assert_array_equal(again.probability, detections.probability)
    assert (again.settings, again.provenance, again.warnings) == (
        detections.settings,
        detections.provenance,
        detections.warnings,
    )
    assert again.cube.path == detections.cube.path


def test_a_cube_without_a_file_is_kept_with_the_result(detections_of, sky_cube, cube_of, planes, tmp_path):
    header = sky_cube(planes).header
    for name, cube in {"bare": cube_of(planes), "sky": Cube(planes, WCS(header), header=header)}.items():
        detections = detections_of(cube)
        with pytest.raises(FolderError, match="open that cube first"):
            read_result(write_result(detections, tmp_path / name))
        assert len(read_result(tmp_path / name, cube).candidates) == 3
        again = read_result(write_result(detections, tmp_path / name, keep_cube=True))
        np.testing.assert_array_equal(again.cube.read(), planes)
        assert (again.cube.wcs is None) == (cube.wcs is None)
        assert again.cube.name == cube.name


def test_a_cube_that_moved_is_found_beside_the_folder(detections_of, sky_cube, planes, tmp_path):
    cube = sky_cube(planes)
    folder = write_result(detections_of(cube), tmp_path / "project" / "out")
    shutil.move(cube.path, folder.parent / cube.path.name)
    assert read_result(folder).cube.path == folder.parent / cube.path.name
    (folder.parent / cube.path.name).unlink()
    with pytest.raises(FolderError, match="does not exist"):
        read_result(folder)


def test_a_cube_that_changed_is_refused_and_a_touched_one_is_not(detections_of, sky_cube, planes, tmp_path):
    cube = sky_cube(planes)
    folder = write_result(detections_of(cube), tmp_path / "out")
    cube.path.touch()
    read_result(folder)
    with fits.open(cube.path, mode="update") as hdus:
        hdus[0].data[3, 4, 5] += 1
    with pytest.raises(FolderError, match="sha256"):
        read_result(folder)


def test_other_folders_are_no_results(detections_of, sky_cube, planes, tmp_path):
    assert not is_result(tmp_path)
    with pytest.raises(FolderError, match="not a result folder"):
        read_result(tmp_path)
    folder = write_result(detections_of(sky_cube(planes)), tmp_path / "out")
    (folder / "spectra.fits").write_bytes(b"SIMPLE")
    with pytest.raises(FolderError, match="damaged"):
        read_result(folder)


def test_the_journal_holds_what_came_after(detections_of, sky_cube, planes, tmp_path):
    detections = detections_of(sky_cube(planes))
    folder = write_result(detections, tmp_path / "out")
    journal = Journal(folder)
    journal.know(detections)
    first, dropped, third = detections.candidates

    first.verdict, first.note = "accepted", 'sûr, "oui"\nou non'
    journal.record(detections, [first])
    assert len(journal.path.read_text().splitlines()[0]) < 100  # a verdict is a short line
    dropped.box, dropped.status, dropped.origin = Box(1, 4, 1, 4), Status.KEPT, "edited"
    dropped.spectrum = dropped.spectrum * 2
    dropped.spectrum[3] = np.nan
    journal.record(detections, [dropped])
    detections.candidates.remove(third)
    journal.record(detections, [third])

    again = read_result(folder)
    assert [c.id for c in again.candidates] == [1, 2]
    for one, other in zip(detections.candidates, again.candidates, strict=True):
        assert_same(one, other)

    write_result(detections, folder)
    assert not journal.path.exists()
    assert_same(read_result(folder).candidates[1], dropped)


def test_a_line_cut_short_costs_only_itself(detections_of, sky_cube, planes, tmp_path):
    detections = detections_of(sky_cube(planes))
    folder = write_result(detections, tmp_path / "out")
    journal = Journal(folder)
    journal.know(detections)
    for candidate in detections.candidates:
        candidate.verdict = "rejected"
        journal.record(detections, [candidate])
    text = journal.path.read_text()
    journal.path.write_text(text[:-20])
    assert [c.verdict for c in read_result(folder).candidates] == ["rejected", "rejected", "unreviewed"]


def test_a_killed_process_loses_no_verdict(detections_of, sky_cube, planes, tmp_path, kill_when_it_prints):
    """The program is killed, without notice, right after a verdict was given."""
    folder = write_result(detections_of(sky_cube(planes)), tmp_path / "out")
    code = """
        import sys
        from napari_almadet.catalogue.result_folder import Journal, read_result
        detections = read_result(sys.argv[1])
        journal = Journal(sys.argv[1])
        journal.know(detections)
        detections.candidates[2].verdict = "accepted"
        journal.record(detections, [detections.candidates[2]])
        print("given", flush=True)
        while True:
            pass
    """
    kill_when_it_prints("given", code, folder)
    assert [c.verdict for c in read_result(folder).candidates] == ["unreviewed", "unreviewed", "accepted"]


# --- whole or not there ---


class Killed(BaseException):
    """Stands for a process that ends at once."""


def kill_at(monkeypatch, moment: int) -> None:
    """Let the renaming of files and folders end at its so-many-th time, as a kill would."""
    count = iter(range(1000))
    for name in ("rename", "replace"):
        true = getattr(Path, name)

        def renaming(self, target, true=true):
            if next(count) == moment:
                raise Killed
            return true(self, target)

        monkeypatch.setattr(Path, name, renaming)
    monkeypatch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # nothing is tidied after a kill


@pytest.mark.parametrize("moment", [2, 3, 6, 2 + len(FILES), 3 + len(FILES)])  # two regions, the folder, its files
def test_a_run_killed_while_it_replaces_a_result_leaves_one_of_the_two(
    detections_of, sky_cube, planes, tmp_path, moment
):
    cube = sky_cube(planes)
    folder = write_result(detections_of(cube), tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, moment)
        try:
            write_result(detections_of(cube, empty=True), folder)
            killed = False
        except Killed:
            killed = True
    assert killed == (moment < 3 + len(FILES))
    read = read_result(folder)
    assert len(read.candidates) == (3 if moment < 3 else 0)
    write_result(detections_of(cube), folder)
    assert len(read_result(folder).candidates) == 3


def test_two_runs_into_one_folder_leave_the_files_of_one(detections_of, sky_cube, planes, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    cube = sky_cube(planes)
    results = [detections_of(cube, empty=bool(k % 2)) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda found: write_result(found, tmp_path / "out"), results))
    assert len(read_result(folders[0]).candidates) in (0, 3)
    assert {file.name for file in folders[0].iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_files_of_two_runs_are_no_result(detections_of, sky_cube, planes, tmp_path):
    cube = sky_cube(planes)
    one, other = (write_result(detections_of(cube), tmp_path / name) for name in ("one", "other"))
    (one / "spectra.fits").write_bytes((other / "spectra.fits").read_bytes())
    with pytest.raises(FolderError, match=r"files of several runs: spectra.fits and settings.json do not match"):
        read_result(one)


def test_what_a_killed_run_left_half_written_goes_with_the_next(detections_of, sky_cube, planes, tmp_path):
    from napari_almadet.catalogue.atomic_folder import _host

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, others = (tmp_path / f".writing-{name}-{_host()}-{dead.pid}-0123" for name in ("out", "out-2"))
    left.mkdir()
    others.mkdir()
    write_result(detections_of(sky_cube(planes)), tmp_path / "out")
    assert not left.exists()
    assert others.exists()


def test_a_journal_of_another_result_is_not_replayed(detections_of, sky_cube, planes, tmp_path):
    detections = detections_of(sky_cube(planes))
    folder = write_result(detections, tmp_path / "out")
    journal = Journal(folder)
    journal.know(detections)
    detections.candidates[0].verdict = "rejected"
    journal.record(detections, detections.candidates[:1])
    text = journal.path.read_text()
    detections.candidates[0].verdict = "accepted"
    write_result(detections, folder)
    journal.path.write_text(text)  # as if the process had been killed before it was removed
    assert read_result(folder).candidates[0].verdict == "accepted"


def test_a_line_torn_by_a_full_disk_costs_only_itself(detections_of, sky_cube, planes, tmp_path):
    detections = detections_of(sky_cube(planes))
    folder = write_result(detections, tmp_path / "out")
    journal = Journal(folder)
    journal.know(detections)
    first, second, third = detections.candidates
    for candidate in (first, second, third):
        candidate.verdict = "rejected"
        journal.record(detections, [candidate])
        if candidate is second:
            journal.path.write_bytes(journal.path.read_bytes()[:-20])  # the disk was full
    assert [c.verdict for c in read_result(folder).candidates] == ["rejected", "unreviewed", "rejected"]


HOSTILE = (
    None, True, 0, -1, 1e308, "", "x" * 5000, "../../etc", [], {}, [[[]]], {"path": 1}, {"path": "/dev/zero"},
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_settings_hold_is_a_folder_error_or_a_result(detections_of, sky_cube, planes, tmp_path, seed):
    rng = np.random.default_rng(seed)
    folder = write_result(detections_of(sky_cube(planes)), tmp_path / "out")
    about = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text("[" * 100_000)
    with pytest.raises(FolderError):
        read_result(folder)
    for _ in range(8):
        wrong = json.loads(json.dumps(about))
        place = wrong
        while True:
            key = list(place)[rng.integers(len(place))] if isinstance(place, dict) else int(rng.integers(len(place)))
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
                place = place[key]
                continue
            if rng.random() < 0.3 and isinstance(place, dict):
                del place[key]
            else:
                place[key] = HOSTILE[rng.integers(len(HOSTILE))]
            break
        (folder / "settings.json").write_text(json.dumps(wrong))
        try:
            assert len(read_result(folder).candidates) == 3
        except FolderError as error:
            assert len(str(error)) < 300


def test_files_that_are_none_of_the_folder_s_own_are_refused(detections_of, sky_cube, planes, tmp_path):
    folder = write_result(detections_of(sky_cube(planes)), tmp_path / "out")
    outside = tmp_path / "outside.ecsv"
    (folder / "lines.ecsv").rename(outside)
    (folder / "lines.ecsv").symlink_to(outside)
    with pytest.raises(FolderError, match=r"its lines.ecsv is a link to somewhere outside it"):
        read_result(folder)
    (folder / "lines.ecsv").unlink()
    (folder / "lines.ecsv").mkdir()
    with pytest.raises(FolderError, match=r"its lines.ecsv is not a regular file"):
        read_result(folder)


def test_verdicts_of_0_1_are_read(detections_of, sky_cube, planes, tmp_path):
    """They called what nobody had judged "unseen", in the table and in the journal."""
    cube = sky_cube(planes)
    detections = detections_of(cube)
    folder = write_result(detections, tmp_path / "old")
    table = folder / "candidates.ecsv"
    table.write_text(table.read_text(encoding="utf-8").replace("unreviewed", "unseen"), encoding="utf-8")
    number = detections.candidates[0].id
    Journal(folder).path.write_text(json.dumps({"id": number, "verdict": "unseen", "note": "old"}) + "\n")
    found = read_result(folder, cube)
    assert {candidate.verdict for candidate in found.candidates} == {"unreviewed"}
    assert found.candidates[0].note == "old"
