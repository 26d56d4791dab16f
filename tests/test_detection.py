import gc
import itertools
import tempfile
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import ascii as tables
from astropy.io import fits

from napari_almadet import Cube, Settings, __version__, detect, read_cube, write_result
from napari_almadet.catalogue.candidate import Box, Candidate, EmissionPeak, Status
from napari_almadet.catalogue.detections import Detections, listed_first
from napari_almadet.cube.storage import Tiled
from napari_almadet.detection import detect_steps
from napari_almadet.paper.pipeline import Networks, focus_and_measure
from napari_almadet.provenance import continuum as continuum_note

SMALL = Settings(preset="paper", window=64, overlap=16, batch_size=2)
SOURCES = [  # y, x, line centre, line FWHM, line peak, continuum
    (20, 25, 30, 6, 8, 0.8),
    (60, 70, 90, 8, 10, 0.0),
    (22, 70, 64, 5, 9, 1.0),
]


@pytest.fixture(scope="module")
def counted():
    """Wrap a network so that the batches it is given are counted."""

    def wrap(network):
        def counting(batch):
            counting.batches.append(len(batch))
            return network(batch)

        counting.batches = []
        return counting

    return wrap


def matched(kept, sources, radius=2.0):
    """For each source the one kept candidate within ``radius`` px, or None."""
    near = [[c for c in kept if np.hypot(c.y - y, c.x - x) <= radius] for y, x, *_ in sources]
    assert all(len(found) <= 1 for found in near)
    return [found[0] if found else None for found in near]


def test_sources_are_found_where_they_are(planes_of, sky_cube, oracles):
    detections = detect(sky_cube(planes_of(SOURCES, seed=1)), SMALL, networks=oracles)
    assert len(detections.kept) == len(SOURCES)
    for candidate, (_, _, z, fwhm, _, continuum) in zip(matched(detections.kept, SOURCES), SOURCES, strict=True):
        assert candidate.z == pytest.approx(z, abs=0.7)
        assert candidate.channels[0] <= z < candidate.channels[1]
        assert candidate.primary.fwhm == pytest.approx(fwhm, rel=0.5)  # the stand-in for Deep GRU smooths and clips
        assert candidate.kind == ("both" if continuum else "line")
        assert candidate.snr_pixel > 5
        assert candidate.focused.shape == (64, 64)
    assert len(detections.table()) == len(SOURCES)


def test_the_focused_image_is_the_cubes_integral_over_the_line(planes_of, cube_of, oracles):
    planes = planes_of(SOURCES, seed=1)
    for candidate in detect(cube_of(planes), SMALL, networks=oracles).kept:
        image = planes[slice(*candidate.channels)].sum(axis=0)
        y0, x0 = candidate.focus_origin
        for y, x in ((y0 + 32, x0 + 32), (y0 + 20, x0 + 40)):
            assert candidate.focused[y - y0, x - x0] == pytest.approx(image[y, x], rel=1e-4, abs=1e-4)
        outside = np.isnan(candidate.focused).sum()
        rows, columns = (min(o + 64, n) - max(o, 0) for o, n in zip((y0, x0), image.shape, strict=True))
        assert outside == 64 * 64 - rows * columns


@pytest.mark.parametrize("seed", range(3, 7))
@pytest.mark.parametrize("require_line", [True, False])
def test_noise_holds_nothing(planes_of, cube_of, oracles, seed, require_line):
    """One in 120 such cubes (seed 2 is one) holds a true 5 sigma peak among those these networks let through."""
    eager = Networks(lambda batch: batch, oracles.deep_gru)  # takes half of the noise for sources
    settings = Settings(preset="paper", window=64, overlap=16, threshold=0.7, require_line=require_line)
    detections = detect(cube_of(planes_of(seed=seed)), settings, networks=eager)
    assert detections.candidates
    assert detections.kept == []
    assert all(c.reasons[-1].startswith("dropped: ") for c in detections.candidates)
    assert len(detections.table()) == 0


def test_an_empty_probability_map_is_a_result_too(planes_of, sky_cube, oracles, tmp_path):
    nothing = Networks(lambda batch: batch * 0, oracles.deep_gru)
    detections = detect(sky_cube(planes_of()), SMALL, networks=nothing)
    assert detections.candidates == []
    assert (write_result(detections, tmp_path / "out") / "catalog.ecsv").is_file()


def test_a_source_seen_in_the_stack_may_have_a_weak_line(planes_of, cube_of, oracles):
    planes = planes_of([(40, 45, 60, 6, 0.4, 0.8)], seed=2)
    weak = np.exp(-(((np.arange(128) - 60) / 4) ** 2)) * 0.3
    sees_it = Networks(oracles.blobs_finder, lambda batch: (batch * 0 + weak).float())
    (candidate,) = detect(cube_of(planes), SMALL, networks=sees_it).kept
    assert candidate.snr_pixel < SMALL.min_snr


@pytest.mark.parametrize(("ripples", "kept"), [(0.0, True), (0.45, False)])
def test_a_peak_must_stand_out_of_its_surroundings_not_only_of_the_fields_noise(ripples, kept):
    """A continuum source of 8 sigma of the quiet field; among ripples of 5 sigma it is no more than one of them."""
    rng = np.random.default_rng(4)
    planes = rng.normal(size=(128, 200, 200)).astype(np.float32)
    y, x = np.indices((64, 64))
    planes[:, 68:132, 68:132] += np.float32(ripples) * np.where((y // 2 + x // 2) % 2, 1, -1).astype(np.float32)
    planes[:, 99:102, 99:102] += 0.7
    line = EmissionPeak(60, 0.5, 0.5, 60.0, 6.0)
    candidate = Candidate(1, Box(94, 107, 94, 107), 0.9, peaks=(line,), channels=line.emission_range(128))
    focus_and_measure(candidate, Cube.from_array(planes), Settings(preset="paper"))
    assert (candidate.status is Status.KEPT) is kept


def test_without_a_line_a_source_is_dropped_unless_continuum_is_wanted(planes_of, cube_of, oracles):
    cube = cube_of(planes_of([(40, 45, 60, 6, 0, 2)], seed=3))
    blind = Networks(oracles.blobs_finder, lambda batch: batch * 0 + 0.04)
    (candidate,) = detect(cube, SMALL, networks=blind).candidates
    assert candidate.status is Status.DROPPED
    assert candidate.reasons[-1] == "dropped: no emission peak above 0.10 (highest 0.04)"
    wanted = Settings(preset="paper", window=64, overlap=16, require_line=False)
    (candidate,) = detect(cube, wanted, networks=blind).kept
    assert candidate.kind == "continuum"
    assert candidate.channels == (0, 128)
    assert (candidate.x, candidate.y) == pytest.approx((45, 40), abs=0.5)


def test_a_blob_of_two_sources_becomes_two_candidates(planes_of, cube_of, oracles):
    sources = [(40, 40, 30, 5, 14, 1), (40, 46, 95, 5, 10, 0.7)]  # one peak in the stacked image
    one_blob = Networks(lambda batch: (oracles.blobs_finder(batch) * 10).clamp(max=1), oracles.deep_gru)
    detections = detect(cube_of(planes_of(sources, seed=4)), SMALL, networks=one_blob)
    assert len(detections.candidates) == len(detections.kept) == 2
    assert len({c.id for c in detections.candidates}) == 2
    for candidate, (y, x, z, *_) in zip(matched(detections.kept, sources, 3), sources, strict=True):
        assert candidate.blended
        assert candidate.z == pytest.approx(z, abs=1)
        assert [p.centre for p in candidate.peaks] == pytest.approx([z], abs=1)
        assert np.hypot(*np.subtract(candidate.box.centre, (y, x))) < 3
    assert any("separated by its line" in reason for reason in detections.kept[1].reasons)


def test_a_neighbour_whose_box_reaches_in_is_not_found_twice(planes_of, cube_of, oracles):
    # a blob of an L's shape about the second source: their boxes overlap, their pixels do not touch
    blobs = np.zeros((64, 64), np.float32)
    blobs[10:40, 10:16] = blobs[34:40, 10:40] = 0.8
    blobs[18:27, 22:31] = 0.9
    sources = [(37, 13, 30, 5, 20, 0), (22, 26, 90, 5, 20, 0)]
    both = Networks(lambda batch: batch * 0 + torch.from_numpy(blobs), oracles.deep_gru)
    detections = detect(cube_of(planes_of(sources, shape=(128, 64, 64), seed=8)), SMALL, networks=both)
    assert [c.id for c in detections.kept] == [1, 2]
    assert all(matched(detections.kept, sources))
    assert any(reason.endswith("belongs to candidate 2") for reason in detections.kept[0].reasons)


@pytest.mark.parametrize("n_channels", [20, 64, 129, 400])
def test_any_number_of_channels_will_do(planes_of, cube_of, oracles, n_channels):
    z = n_channels * 0.6
    planes = planes_of([(40, 45, z, 5, 40, 0)], shape=(n_channels, 70, 80), seed=5)
    detections = detect(cube_of(planes), SMALL, networks=oracles)
    (candidate,) = detections.kept
    assert candidate.z == pytest.approx(z, abs=0.5)
    assert candidate.denoised.shape == candidate.spectrum.shape == (n_channels,)
    assert any(f"{n_channels} channels" in warning for warning in detections.warnings) is (n_channels < 128)


def test_missing_data_stays_missing_and_marks_the_edge(planes_of, cube_of, oracles):
    planes = planes_of([(20, 22, 30, 6, 12, 2), (60, 70, 90, 8, 12, 2)], seed=6)
    planes[:, :, :20] = np.nan
    planes[50:55] = np.nan
    detections = detect(cube_of(planes), SMALL, networks=oracles)
    assert np.isnan(detections.probability[:, :20]).all()
    assert np.isfinite(detections.probability[:, 20:]).all()
    assert [c.edge for c in matched(detections.kept, [(20, 22), (60, 70)])] == [True, False]
    assert np.isnan(detections.kept[0].spectrum[50:55]).all()


def test_the_unit_of_the_cube_does_not_matter(planes_of, cube_of, oracles):
    planes = planes_of(SOURCES, seed=1)
    one, other = (detect(cube_of(planes * unit), SMALL, networks=oracles) for unit in (1, np.float32(1e-6)))
    assert [c.box for c in one.candidates] == [c.box for c in other.candidates]
    assert [c.snr_pixel for c in other.kept] == pytest.approx([c.snr_pixel for c in one.kept], rel=1e-3)
    assert [c.f_sum for c in other.kept] == pytest.approx([c.f_sum * 1e-6 for c in one.kept], rel=1e-3)


def test_turning_the_field_turns_the_result(planes_of, cube_of, oracles):
    planes = planes_of(SOURCES, shape=(128, 80, 80), seed=1)
    upright = detect(cube_of(planes), SMALL, networks=oracles)
    turned = detect(cube_of(planes.transpose(0, 2, 1)), SMALL, networks=oracles)
    found = sorted((c.x, c.y, c.f_sum) for c in upright.kept)
    np.testing.assert_allclose(sorted((c.y, c.x, c.f_sum) for c in turned.kept), found, rtol=1e-4)


def test_progress_tells_the_steps_in_order(planes_of, cube_of, oracles):
    seen = []
    detect(cube_of(planes_of(SOURCES)), SMALL, seen.append, oracles)
    assert [stage for stage, _ in itertools.groupby(step.stage for step in seen)] == [
        "Loading the networks",
        "Flagging bad channels",
        "Stacking channels",
        "Detecting sources",
        "Extracting spectra",
        "Denoising spectra",
        "Detecting emission lines",
        "Making line-integrated images",
        "Recording the provenance",
    ]
    assert all(0 <= step.done <= step.total for step in seen)


def test_closing_stops_within_one_batch(planes_of, cube_of, oracles, counted):
    network = counted(oracles.blobs_finder)
    steps = detect_steps(cube_of(planes_of(shape=(16, 200, 200))), SMALL, Networks(network, oracles.deep_gru))
    for step in steps:
        if step.stage == "Detecting sources":
            break
    steps.close()
    assert network.batches == [2]


def test_closing_ends_the_hash_too(planes_of, sky_cube, oracles, monkeypatch):
    wanted = []
    monkeypatch.setattr(Cube, "sha256", lambda cube, asked: wanted.append(asked) or "")
    steps = detect_steps(sky_cube(planes_of(shape=(16, 70, 70))), SMALL, oracles)
    next(steps)
    while not wanted:  # it begins in a thread of its own
        time.sleep(0.01)
    assert wanted[0]()
    steps.close()
    assert not wanted[0]()


@pytest.mark.parametrize(("memory", "room"), [(4.0, True), (1e-4, True), (1e-4, False)])
def test_a_compressed_cube_is_decoded_once_in_memory_or_on_the_disk(
    tmp_path, planes_of, sky_cube, oracles, monkeypatch, memory, room
):
    planes, header = fits.getdata((plain := sky_cube(planes_of(SOURCES))).path, header=True)
    image = fits.CompImageHDU(planes, header, compression_type="GZIP_2", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(tmp_path / "cube.fits.fz")
    cube, decoded, read = read_cube(tmp_path / "cube.fits.fz"), [], Tiled.read
    monkeypatch.setattr(Tiled, "read", lambda source, part: decoded.append(read(source, part)) or decoded[-1])
    (place := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place if room else place / "missing"))
    detections = detect(cube, replace(SMALL, memory=memory), networks=oracles)
    assert detections.cube.data is cube.data  # what is held is let go
    n = sum(values.size for values in decoded) / plain.data.size
    assert n == 1 if room else n >= 3
    assert [text for text in detections.warnings if "no room for an uncompressed copy" in text] == (
        [] if room else detections.warnings[:1]
    )
    assert len(detections.kept) == len(SOURCES)
    gc.collect()
    assert not list(place.iterdir())


def test_the_result_says_where_it_comes_from(planes_of, sky_cube, oracles):
    cube = sky_cube(planes_of(shape=(16, 70, 70)))
    provenance = detect(cube, SMALL, networks=oracles).provenance
    assert provenance["version"] == __version__
    assert provenance["networks"]["blobs_finder"] == {"weights": "blobs_finder", "sha256": "b" * 64}
    assert provenance["networks"]["deep_gru"]["sha256"] == "d" * 64
    about = {"name": "field", "path": str(cube.path), "sha256": cube.sha256(), "bad_channels": {}}
    assert provenance["cube"] | about == provenance["cube"]
    assert provenance["cube"]["continuum"] == ""  # there is no source


def test_notes_of_a_result_are_on_sidelobes_and_continuum_and_old_results_have_what_they_recorded(cube_of, planes_of):
    cube = cube_of(planes_of(shape=(4, 20, 20)))
    result = Detections(cube, SMALL, [], cube.data[0], cube.data[0], {"dirty_beam": {"note": "30% were subtracted."}})
    assert result.notes == ["30% were subtracted."]
    result.provenance["cube"] = {"continuum": "Continuum is detected in no source."}
    assert result.notes == ["30% were subtracted.", "Continuum is detected in no source."]
    result.provenance["dirty_beam"] = {"beam": "clean"}
    assert result.notes == ["Continuum is detected in no source."]


def test_continuum_is_reported_where_the_catalogue_has_it():
    """A source of kind continuum that is too faint for a flux has none that was detected."""
    faint = Candidate(1, Box(1, 5, 1, 5), 0.9, kind="continuum", method="point", status=Status.KEPT)
    bright = replace(faint, id=2, f_cont=0.001, err_f_cont=0.0001)
    papers = replace(faint, id=3, method="")  # the preset paper has no such flux
    dropped = replace(bright, id=4, status=Status.DROPPED)
    assert continuum_note([faint, bright, papers, dropped]) == "Continuum is detected in 2 of 3 sources."
    assert continuum_note([faint]).startswith("Continuum is detected in no source")


def test_bad_channels_are_left_out_and_said_to_be(planes_of, cube_of, oracles):
    planes = planes_of(SOURCES)
    spoilt = planes.copy()
    spoilt[100] *= 40
    spoilt[-2:] = 0
    good, found, all_in = (
        detect(cube_of(data), replace(SMALL, flag_channels=flag), networks=oracles)
        for data, flag in ((planes, True), (spoilt, True), (spoilt, False))
    )
    assert (good.provenance["cube"]["bad_channels"], good.cube.flagged) == ({}, None)
    assert found.provenance["cube"]["bad_channels"] == {"blank": [126, 127], "noisy": [100]}
    assert "3 bad channels (flagged): 126-127 blank; 100 noisy." in found.warnings
    assert np.isnan(found.candidates[0].spectrum[[100, 126, 127]]).all()
    assert np.isfinite(found.candidates[0].spectrum).sum() == 125
    errors = [np.nanstd(each.stacked - good.stacked) for each in (found, all_in)]
    assert errors[0] < 0.3 * errors[1]
    assert all_in.provenance["cube"]["bad_channels"] == {}


def test_the_same_twice_is_the_same(planes_of, cube_of, oracles):
    cube = cube_of(planes_of(SOURCES, seed=7))
    one, other = (detect(cube, SMALL, networks=oracles).table() for _ in range(2))
    assert str(one) == str(other)


def test_casas_sources_are_found(shared_data, oracles):
    truth = tables.read(shared_data / "casa" / "calib_truth.csv")
    detections = detect(read_cube(shared_data / "casa" / "calib_dirty.fits.fz"), networks=oracles)
    sources = [(row["y"], row["x"]) for row in truth]
    assert sum(c is not None for c in matched(detections.kept, sources, 3)) >= 4
    assert len(detections.kept) <= 6


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_real_cubes_give_a_result(shared_data, oracles):
    files = sorted((shared_data / "real").glob("*.fits*"))
    assert files
    for file in files:
        cube = read_cube(file)
        detections = detect(cube, networks=oracles)
        assert detections.probability.shape == cube.shape[1:]
        assert len(detections.table()) == len(detections.kept)


def test_what_is_listed_is_numbered_first():
    """A first candidate with number 5, because four had been dropped, made users look for the others."""

    def made(number, status, parent=0):
        candidate = Candidate(number, Box(0, 1, 0, 1), 0.5, status=status, parent=parent)
        candidate.decide("part_of", ids=(5,))
        return candidate

    given = [made(2, Status.DROPPED, 5), made(5, Status.KEPT), made(9, Status.FLAGGED)]
    ordered = listed_first(given)
    assert [(c.id, c.status, c.parent) for c in ordered] == [
        (1, Status.KEPT, 0),
        (2, Status.FLAGGED, 0),
        (3, Status.DROPPED, 1),
    ]
    assert ordered[2] is given[0]
    assert {decision.ids for c in ordered for decision in c.decisions} == {(1,)}
