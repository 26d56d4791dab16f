"""`almadet completeness`: rounds of injections, their files, and the tables made of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS
from typer.testing import CliRunner

from napari_almadet import Settings, read_cube
from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.cli import app
from napari_almadet.detection import load_networks
from napari_almadet.evaluation import injection_rounds as rounds
from napari_almadet.evaluation.completeness_run import Outcome, options_for, run_steps
from napari_almadet.evaluation.completeness_tables import (
    completeness_table,
    fidelity_table,
    fitted,
    flux_ratio,
    in_words,
    limits,
)
from napari_almadet.evaluation.injection import Injection
from napari_almadet.evaluation.injection_rounds import Options, OtherRun, claim, default_widths, matched, run_identity
from napari_almadet.progress import Progress, finish

ARGUMENTS = ("-n", 6, "--widths", "4ch", "--sizes", "0", "--device", "cpu", "--seed", 3)


@pytest.fixture
def file(tmp_path, planes_of):
    """A small cube of noise with a source in it."""
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = "RA---SIN", "DEC--SIN", "VRAD"
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 2.0, 0.0), (32, 32, 1)
    wcs.wcs.cdelt, wcs.wcs.cunit = (-0.1 / 3600, 0.1 / 3600, 1e4), ("deg", "deg", "m/s")
    wcs.wcs.restfrq = 230.538e9
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 0.6 / 3600, 0.6 / 3600, 0.0
    planes = planes_of([(45, 40, 12, 4, 12, 0)], shape=(24, 90, 80))
    fits.writeto(tmp_path / "cube.fits", planes, header)
    return tmp_path / "cube.fits"


@pytest.fixture
def almadet(file):
    def run(out, *arguments):
        given = ["completeness", file, "-o", out, *ARGUMENTS, *arguments]
        return CliRunner().invoke(app, [str(a) for a in given])

    return run


def tables(out):
    return [(out / f"{name}.ecsv").read_text() for name in ("injections", "completeness", "fidelity")]


def test_a_run_that_was_killed_gives_the_same_tables_and_the_cube_is_untouched(almadet, file, tmp_path, monkeypatch):
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    whole = almadet(tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    real, begun = rounds.search_round, []

    def dies(ground, number, *rest):
        begun.append(number)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(ground, number, *rest)

    monkeypatch.setattr(rounds, "search_round", dies)
    assert almadet(tmp_path / "killed").exit_code == 130
    assert not (tmp_path / "killed" / "injections.ecsv").exists()
    assert len(list((tmp_path / "killed" / "rounds").iterdir())) == 2
    resumed = almadet(tmp_path / "killed")
    assert resumed.exit_code == 0, resumed.output
    assert begun[3:] == list(range(2, 2 + len(begun[3:])))  # what was done is not done again
    assert tables(tmp_path / "whole") == tables(tmp_path / "killed")
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before

    rows = QTable.read(tmp_path / "whole" / "injections.ecsv")
    assert len(rows) >= 6 and rows["flux"].unit == "Jy km / s" and rows["width"].unit == "km / s"
    assert (np.hypot(rows["x"] - 40, rows["y"] - 45) > 3 * 6).all()  # away from the source that is there
    assert (rows["snr"] > 1.8).all() and (rows["snr"] < 22).all()
    assert (tmp_path / "whole" / "search" / "catalog.ecsv").exists()
    assert (tmp_path / "whole" / "completeness.png").exists()
    assert "sources injected" in whole.stdout and "Lines of 40 km/s, point sources" in whole.stdout


def test_a_run_in_the_window_goes_on_with_that_of_the_command_and_gives_the_same_tables(almadet, file, tmp_path):
    whole = almadet(tmp_path / "both")
    assert whole.exit_code == 0, whole.output
    written, out = tables(tmp_path / "both"), tmp_path / "both"
    rounds.round_file(out, 1).unlink()
    for name in ("injections", "completeness", "fidelity"):
        (out / f"{name}.ecsv").unlink()
    cube, settings = read_cube(file), Settings(device="cpu")
    options = options_for(cube, "4ch", (0.0,), None, 3, "Widths")
    steps = []
    found = finish(run_steps(cube, settings, options, 6, out, load_networks(settings)), steps.append)
    assert tables(out) == written and isinstance(found, Outcome)
    steps = [step for step in steps if step.stage.startswith("Round ")]
    count = steps[-1].total
    assert steps[0] == Progress(f"Round 2 of {count}", 1, count)  # only the one that was missing
    assert {step.done for step in steps} == {1} and steps[-1].stage.startswith(f"Round 2 of {count}: ")
    assert found.sentences[0] in whole.stdout and "completeness.png" in {path.name for path in found.plots}
    with pytest.raises(OtherRun, match="another seed"):
        finish(run_steps(cube, settings, replace(options, seed=4), 6, out, load_networks(settings)))


def test_bright_sources_are_found_with_their_flux_and_none_of_half_a_sigma_is(almadet, tmp_path):
    bright = almadet(tmp_path / "bright", "-n", 4, "--flux", "800..900")
    assert bright.exit_code == 0, bright.output
    rows = QTable.read(tmp_path / "bright" / "injections.ecsv")
    assert rows["snr"].min() > 10 and rows["found"].all()
    np.testing.assert_allclose(flux_ratio(rows), 1, atol=0.25)
    faint = almadet(tmp_path / "faint", "-n", 4, "--flux", "8..12")
    assert faint.exit_code == 0, faint.output
    rows = QTable.read(tmp_path / "faint" / "injections.ecsv")
    assert rows["snr"].max() < 0.6 and not rows["found"].any()


def test_rounds_in_processes_are_told_apart_by_their_number_alone(file):
    cube, settings, options = read_cube(file), Settings(device="cpu"), Options((4.0, 6.0))
    from napari_almadet.detection import detect

    ground = finish(rounds.ground_of(cube, settings, options, detect(cube, settings)))
    first, again, other = (rounds.drawn(ground, number) for number in (0, 0, 1))
    assert [source for source, _ in first] == [source for source, _ in again]
    assert {source for source, _ in first}.isdisjoint(source for source, _ in other)
    widths = [source.width for number in range(8) for source, _ in rounds.drawn(ground, number)]
    assert 0.3 < np.mean(np.array(widths) == 4) < 0.7


def test_a_folder_of_another_cube_or_with_other_options_is_refused(file, tmp_path, almadet):
    cube = read_cube(file)
    run = run_identity(cube, Settings(), Options((4.0,)), {"judge": "a"})
    claim(tmp_path / "out", run)
    claim(tmp_path / "out", run)  # the same may go on
    kept = (tmp_path / "out" / rounds.ABOUT).read_text()
    for other, word in (
        (run_identity(cube, Settings(), Options((4.0,), seed=1), {"judge": "a"}), "another seed"),
        (run_identity(cube, Settings(threshold=0.5), Options((4.0,)), {"judge": "a"}), "another threshold"),
        (run | {"cube": "0"}, "another cube"),
        (run | {"networks": {}}, "another network weights"),
    ):
        with pytest.raises(OtherRun, match=word):
            claim(tmp_path / "out", other)
    assert (tmp_path / "out" / rounds.ABOUT).read_text() == kept
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    refused = almadet(tmp_path / "mine")
    assert refused.exit_code == 1 and "is not empty" in refused.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert run_identity(cube, Settings(device="cpu", memory=2), Options((4.0,)), {}) == run_identity(
        cube, Settings(), Options((4.0,)), {}
    )


def test_options_that_make_no_sense_are_refused_in_a_sentence(almadet, tmp_path):
    for arguments, said in (
        (("--flux", "5..1"), "must be positive and increasing"),
        (("--flux", "lots"), "give a range"),
        (("--widths", "wide"), "or as 8ch"),
        (("--widths", "30ch"), "wider than half the band"),
        (("--sizes", "-1"), "must not be negative"),
        (("--scheduler", "tcp://x:1", "-j", 2), "omit --jobs"),
    ):
        result = almadet(tmp_path / "out", *arguments)
        assert result.exit_code == 2, result.output
        assert said in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
    assert default_widths(128) == (3.0, 8.0, 20.0) and default_widths(10) == (2.5,)


def test_a_folder_that_cannot_be_made_is_said_before_the_search(almadet, tmp_path):
    (tmp_path / "file").touch()
    result = almadet(tmp_path / "file" / "out")
    assert result.exit_code == 1
    assert "No results can be written to" in " ".join((result.output + result.stderr).split())
    assert "Traceback" not in result.output


def test_the_widths_of_lines_may_be_velocities_or_channels(file):
    cube = read_cube(file)
    assert options_for(cube, "40, 100", (0.0,), None, 0, "widths").widths == pytest.approx((4, 10))
    assert options_for(cube, "4ch,10 ch", (0.0,), None, 0, "widths").widths == (4, 10)


def test_sources_are_matched_one_to_one_with_lines_at_their_place_and_channels():
    def candidate(x, z, status=Status.KEPT, kind="line"):
        made = Candidate(1, Box(0, 1, 0, 1), 0.9, channels=(z - 3, z + 4), status=status, kind=kind)
        made.x, made.y = x, 20.0
        return made

    sources = [Injection(x, 20.0, 15.0, 1.0, 4.0, size) for x, size in ((10, 0), (40, 0), (70, 3.0))]
    exact, near, elsewhere = candidate(11.0, 15), candidate(13.0, 15), candidate(40.0, 28)
    flagged, wide = candidate(42.0, 17, Status.FLAGGED), candidate(76.0, 15)
    steady = candidate(40.0, 15, kind="continuum")
    found = matched(sources, [near, exact, elsewhere, flagged, wide, steady], 4.0, np.ones(64, bool))
    assert [one and id(one) for one in found] == [id(exact), id(flagged), id(wide)]
    assert matched(sources[:1], [candidate(15.0, 15)], 4.0, np.ones(64, bool)) == [None]


def drawn_rows(n=3000, middle=1.0, slope=0.25, plateau=0.96):
    rng = np.random.default_rng(5)
    flux = np.exp(rng.uniform(np.log(0.1), np.log(10), n))
    chance = plateau / (1 + np.exp(-(np.log(flux) - np.log(middle)) / slope))
    found = rng.uniform(size=n) < chance
    rows = QTable({"flux": flux, "found": found, "width": np.full(n, 50.0), "size": np.zeros(n), "snr": 5 * flux})
    rows["status"] = np.where(found, "kept", "missed")
    rows["f_sum"], rows["pb"] = np.where(found, 1.1 * flux, np.nan), np.full(n, 0.5)
    for name, unit in (("flux", "Jy km/s"), ("f_sum", "Jy km/s"), ("width", "km/s")):
        rows[name].unit = unit
    return QTable(rows)


def test_the_fluxes_of_half_and_most_completeness_lie_in_their_intervals():
    rows = drawn_rows()
    curve = fitted(rows["flux"].value[:600], np.asarray(rows["found"])[:600])
    assert curve.plateau == pytest.approx(0.96, abs=0.03)
    (half, (low, high)), (most, (low_most, high_most)) = limits(rows[:600])
    true_half, true_most = (np.exp(-0.25 * np.log(0.96 / c - 1)) for c in (0.5, 0.9))
    assert low < true_half < high and low < half < high and high / low < 1.35
    assert low_most < true_most < high_most and low_most <= most <= high_most
    assert np.isinf(limits(rows[:600][rows["flux"].value[:600] < 0.9])[1][0])  # never so bright
    assert np.isnan(limits(rows[:5])[0][0])
    assert "50 % complete at" in in_words(rows)[0] and "Jy km/s [" in in_words(rows)[0]


def test_completeness_is_counted_in_bins_of_flux_with_the_bias_of_the_found():
    rows = drawn_rows()
    table = completeness_table(rows)
    assert table["n"].sum() == len(rows) and table["found"].sum() == rows["found"].sum()
    assert (table["completeness_low"] <= table["completeness"]).all()
    assert (table["completeness"] <= table["completeness_high"]).all()
    assert table["completeness"][0] < 0.05 and table["completeness"][-1] > 0.9
    np.testing.assert_allclose(table["flux_ratio"][-3:], 1.1)
    rows.meta["pb_corrected"] = False
    np.testing.assert_allclose(completeness_table(rows)["flux_ratio"][-3:], 2.2)  # half of it was there to be seen


def test_fidelity_is_the_share_that_the_inverted_cube_does_not_account_for():
    found = np.array([(0.99, 12.0)] * 8 + [(0.92, 5.2)] * 4 + [(0.2, 4.0)] * 5)
    negatives = np.array([(0.93, 5.4), (0.2, 4.0), (0.25, 4.2)])
    table = fidelity_table(found, negatives, 0.75)
    by = {(row["against"], row["low"]): row for row in table}
    assert by["prob", 0.9]["positives"] == 4 and by["prob", 0.9]["negatives"] == 1
    assert by["prob", 0.9]["fidelity"] == pytest.approx(0.75)
    assert by["prob", 0.9]["fidelity_above"] == pytest.approx(1 - 1 / 12)
    assert by["prob", 0.98]["fidelity"] == 1
    assert by["snr", 5.0]["positives"] == 4 and by["snr", 4.0]["positives"] == 0  # under the threshold of prob
    assert np.isnan(by["snr", 20.0]["fidelity"])


def test_what_a_run_is_of_is_readable(file, tmp_path):
    claim(tmp_path / "out", run_identity(read_cube(file), Settings(), Options((4.0,), flux=(1, 2)), {}))
    there = json.loads((tmp_path / "out" / rounds.ABOUT).read_text())
    assert there["options"] == {"widths": [4.0], "sizes": [0.0, 1.0], "flux": [1, 2], "seed": 0}
