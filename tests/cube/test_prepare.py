"""The primary beam is taken only where it is the cube's; whether the cube was corrected for it the noise tells."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from napari_almadet import Settings, read_cube
from napari_almadet.cube.cube import Cube, CubeError
from napari_almadet.cube.prepare import as_prepared, blanked_share, caveats, prepared
from napari_almadet.cube.reading import read_primary_beam
from napari_almadet.progress import Progress, finish
from napari_almadet.search.noise_units import in_noise_units

SHAPE = (24, 90, 100)


def header(axes: int = 3) -> fits.Header:
    cards = fits.Header({"BUNIT": "Jy/beam", "BMAJ": 6e-4, "BMIN": 6e-4, "BPA": 0.0, "RESTFRQ": 230.5e9})
    rows = [("RA---SIN", 150.0, -1e-4, 50.0), ("DEC--SIN", -35.0, 1e-4, 45.0), ("FREQ", 230e9, 1e7, 1.0)]
    for i, (kind, value, step, pixel) in enumerate([*rows, ("STOKES", 1.0, 1.0, 1.0)][:axes], 1):
        cards.update({f"CTYPE{i}": kind, f"CRVAL{i}": value, f"CDELT{i}": step, f"CRPIX{i}": pixel})
    return cards


@pytest.fixture
def field(tmp_path, planes_of):
    """Files of a cube, of the same corrected, and of the primary beam; and that beam."""
    y, x = np.indices(SHAPE[1:])
    response = np.exp(-((y - 44.0) ** 2 + (x - 49.0) ** 2) / (2 * 28**2)).astype("f4")
    response[response < 0.2] = np.nan
    planes = planes_of(shape=SHAPE)
    fits.writeto(tmp_path / "flat.fits", planes, header())
    fits.writeto(tmp_path / "corrected.fits", planes / response, header())
    fits.writeto(tmp_path / "pb.fits", response, header(2))
    return tmp_path, response


@pytest.mark.parametrize(("name", "corrected"), [("flat", False), ("corrected", True)])
def test_the_noise_tells_whether_a_cube_was_corrected(field, name, corrected):
    folder, response = field
    settings = Settings(primary_beam=str(folder / "pb.fits"))
    cube, bad, said = prepared(read_cube(folder / f"{name}.fits"), settings)
    assert cube.primary_beam.corrected is corrected
    assert bad == {}
    (sentence,) = said
    assert ("not primary-beam corrected" in sentence) is not corrected
    assert cube.primary_beam.at(60.2, 39.8, 7) == response[40, 60]
    assert np.isnan(cube.primary_beam.at(0, 0, 7))
    assert np.isnan(cube.primary_beam.at(-3, 40, 7))
    assert np.isnan(cube.primary_beam.at(np.nan, 40, 7))
    origin = {"cube": {"bad_channels": {"noisy": [3]}, "pb_corrected": corrected}}
    again = as_prepared(read_cube(folder / f"{name}.fits"), settings, origin)
    assert again.primary_beam.corrected is corrected
    assert np.flatnonzero(again.flagged).tolist() == [3]
    (folder / "pb.fits").unlink()
    assert as_prepared(read_cube(folder / f"{name}.fits"), settings, origin).primary_beam is None


def test_where_the_noise_does_not_tell_the_name_does(field, tmp_path):
    folder, response = field
    fits.writeto(tmp_path / "flat_pb.fits", np.full_like(response, 0.9), header(2))
    fits.writeto(tmp_path / "a.pbcor.fits", fits.getdata(folder / "flat.fits"), header())
    for name, corrected in (("flat.fits", False), ("a.pbcor.fits", True)):
        cube, _, said = prepared(read_cube(tmp_path / name), Settings(primary_beam=str(tmp_path / "flat_pb.fits")))
        assert cube.primary_beam.corrected is corrected
        assert "cannot be estimated" in said[0]


@pytest.mark.parametrize("form", ["planes", "stokes", "stokes of planes", "transposed", "packed"])
def test_the_forms_of_a_primary_beam(field, tmp_path, form):
    folder, response = field
    planes = response * np.linspace(1, 0.9, SHAPE[0], dtype="f4")[:, None, None]
    data, cards, expected = {
        "planes": (planes, header(), planes[5, 40, 60]),
        "stokes": (response[None, None], header(4), response[40, 60]),
        "stokes of planes": (planes[None], header(4), planes[5, 40, 60]),
        "transposed": (response.T, header(2), response[40, 60]),
        "packed": (response, header(2), response[40, 60]),
    }[form]
    if form == "transposed":
        for key in ("CTYPE", "CRVAL", "CDELT", "CRPIX"):
            cards[f"{key}1"], cards[f"{key}2"] = cards[f"{key}2"], cards[f"{key}1"]
    path = tmp_path / ("b.fits.gz" if form == "packed" else "b.fits")
    fits.writeto(path, data, cards)
    beam = read_primary_beam(path, read_cube(folder / "flat.fits"))
    assert beam.at(60, 40, 5) == pytest.approx(float(expected))
    np.testing.assert_allclose(
        beam.plane(5)[40, 58:62],
        np.broadcast_to(data.squeeze().T if form == "transposed" else data.squeeze(), SHAPE)[5, 40, 58:62],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": (80, 100)}, "measures 1 x 80 x 100 and the cube 24 x 90 x 100"),
        ({"shape": (7, 90, 100)}, "measures 7 x 90 x 100"),
        ({"CRVAL1": 150.01}, "lies 81.9 pixels from the cube"),
        ({"values": 3.0}, "is not a primary beam: its highest value is 3"),
        ({"values": np.nan}, "is not a primary beam"),
        ({"missing": True}, "does not exist"),
    ],
)
def test_another_s_primary_beam_is_refused(field, tmp_path, change, reason):
    folder, _ = field
    shape = change.get("shape", SHAPE[1:])
    cards = header(len(shape))
    cards.update({key: value for key, value in change.items() if key.isupper()})
    if "missing" not in change:
        fits.writeto(tmp_path / "other.fits", np.full(shape, change.get("values", 0.9), "f4"), cards)
    with pytest.raises(CubeError, match=rf"other\.fits {reason}"):
        prepared(read_cube(folder / "flat.fits"), Settings(primary_beam=str(tmp_path / "other.fits")))


def test_noise_that_rises_steeply_is_known_by_the_primary_beam(field):
    import torch

    folder, response = field
    planes = torch.from_numpy(read_cube(folder / "corrected.fits").read())
    valid = response > 0.21
    edge = valid & (response < 0.3)
    guessed = in_noise_units(planes, 6.0)
    known = in_noise_units(planes, 6.0, torch.from_numpy(1 / response))
    errors = [np.std(units.cube.numpy()[:, edge]) - 1 for units in (guessed, known)]
    assert abs(errors[1]) < min(0.05, abs(errors[0]))
    np.testing.assert_allclose(
        (known.rms[:, None, None] * known.rms_map).numpy()[:, edge],
        np.broadcast_to(1 / response[edge], (24, edge.sum())),
        rtol=0.2,
    )


def test_a_second_run_finds_the_same(field, planes_of):
    folder, _ = field
    cube = read_cube(folder / "flat.fits")
    planes = cube.read()
    planes[4] *= 20
    first, bad, said = prepared(replace(cube, data=planes), Settings())
    assert bad == {"noisy": [4]}
    assert prepared(first, Settings())[1:] == (bad, said)
    untouched = prepared(first, Settings(flag_channels=False))
    assert (untouched[0].flagged, *untouched[1:]) == (None, {}, [])


def test_a_cube_without_primary_beam_is_as_it_was_prepared(cube_of, planes_of):
    cube = cube_of(planes_of())
    assert as_prepared(cube, Settings(), {}) is not None
    assert as_prepared(cube, Settings(), {"cube": {"bad_channels": {"blank": [2]}}}).flagged.tolist()[2]


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({}, None),
        ({"has_huge_values": True}, "Values above 1e+09, far above all others, were treated as missing data."),
        ({"spikes": [(3, 4, 5)]}, "A single voxel far above the noise and all neighbours (channel 3, x 5, y 4) was"),
        (
            {"spikes": [(3, 4, 5), (6, 7, 8)]},
            "2 single voxels far above the noise and all neighbours (channel 3, x 5, y 4",
        ),
        ({"beam_area": None}, "The beam is unknown: fluxes are sums over pixels"),
    ],
)
def test_what_makes_measurements_less_certain_is_said_of_a_cube(about, words):
    usual = {"has_huge_values": False, "ceiling": 1e9, "spikes": [], "beam_area": 20.0, "shape": (6, 4, 4)}
    cube = SimpleNamespace(**(usual | about), flagged=None, read=lambda *part: np.ones((4, 4)))
    warnings = caveats(cube)
    assert len(warnings) == (words is not None)
    assert words is None or warnings[0].startswith(words)


@pytest.mark.parametrize("bad", [{}, {"noisy": [3]}])
def test_channels_that_are_flagged_are_named(monkeypatch, bad):
    def found(cube):
        yield Progress("Flagging bad channels", 0, 1)
        return dict(bad)

    monkeypatch.setattr("napari_almadet.cube.prepare.bad_channels", SimpleNamespace(steps=found))
    cube, flagged, notes = finish(prepared.steps(Cube.from_array(np.ones((6, 4, 4))), Settings()))
    assert (flagged, len(notes)) == (bad, len(bad))
    assert (cube.flagged is not None) == bool(bad)


@pytest.mark.parametrize("blank", [np.nan, 0.0])
def test_a_cube_of_which_each_channel_was_masked_by_itself_is_warned_of(planes_of, cube_of, blank):
    """As astronomers keep them: everything under some S/N is blank. Its noise was measured in what is left."""
    planes = planes_of(shape=SHAPE)
    high = cube_of(np.where(planes > 0, planes, blank))
    (said,) = [text for text in caveats(high) if "masked" in text]
    assert said.startswith("50% of the voxels have no data") and "before masking" in said


def test_only_channels_with_data_count_towards_what_was_masked(planes_of, cube_of):
    """A galaxy's masked cube is blank outside its line; those channels are flagged, and have no mask to compare."""
    planes, x = planes_of(shape=(60, 40, 40)), np.arange(40)
    kept = np.full_like(planes, np.nan)
    for k in range(30, 40):  # a quarter of the pixels in each, which moves on
        inside = abs(x - 2 * k + 50) < 5
        kept[k][:, inside] = planes[k][:, inside]
    flagged = ~np.isfinite(kept).any(axis=(1, 2))
    known = np.isfinite(kept[~flagged])
    share = 1 - known.sum() / (10 * known.any(axis=0).sum())
    assert blanked_share(replace(cube_of(kept), flagged=flagged)) == pytest.approx(share)


def test_a_border_without_data_is_no_mask(planes_of, cube_of):
    """Also one that is a little smaller in each further channel, as the primary beam is."""
    planes = planes_of(shape=SHAPE)
    y, x = np.indices(SHAPE[1:])
    radius = 40 * (1 + 0.002 * np.arange(SHAPE[0]))[:, None, None]
    for border in (40, radius):
        planes_in = np.where(np.hypot(y - 44, x - 49) < border, planes, np.nan)
        assert not [text for text in caveats(cube_of(planes_in)) if "masked" in text]
    assert blanked_share(replace(cube_of(planes), flagged=np.ones(SHAPE[0], bool))) == 0
