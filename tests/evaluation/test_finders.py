"""Every finder on a field with sources at known places."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from astropy import units as u

from napari_almadet import Cube
from napari_almadet.evaluation.finders import FINDERS, Field, box_of, centre_of, gaussian_box, local_maxima
from napari_almadet.simulation.dataset import cube_of, simulate_cube
from napari_almadet.simulation.sky import SkyModel

PLACES = np.array([(30.3, 60.8), (66.0, 35.4)])
MODULES = {"AegeanTools": "AegeanTools", "bdsf": "bdsf", "sep": "sep", "photutils": "photutils", "scipy": "scipy"}


def field_shape(imager, amplitude=2e-3, continuum=1.0, line=3.0, blank=False):
    """Two point-like sources, noise of 1 in each channel."""
    model = SkyModel(
        x=PLACES[:, 0],
        y=PLACES[:, 1],
        **{key: np.full(2, value) for key, value in {"major": 2.0, "minor": 2.0, "angle": 0.0}.items()},
        continuum=np.full(2, amplitude * continuum),
        spectral_index=np.zeros(2),
        line=np.full(2, amplitude * line),
        line_centre=np.array([10.0, 22.0]),
        line_fwhm=np.full(2, 4.0),
        gradient=np.zeros(2),
        pair=np.zeros(2, dtype=int),
    )
    simulated = simulate_cube(4, "empty", imager=imager)
    dirty = simulated.dirty + imager.noise_free_cube(model).numpy()
    if blank:
        dirty[:, :8] = dirty[:, :, 90:] = np.nan
    cube = cube_of(simulated, "field")
    return Field(Cube(dirty, wcs=cube.wcs, unit=cube.unit, beams=cube.beams, header=cube.header))


@pytest.mark.parametrize("name", FINDERS)
@pytest.mark.parametrize("blank", [False, True])
def test_sources_are_found_where_they_are(name, blank, imager):
    package = FINDERS[name].package
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    field = field_shape(imager, blank=blank)
    found = FINDERS[name].find(field, **FINDERS[name].defaults)
    distance = np.array([[np.hypot(x - s.x, y - s.y) for s in found] for x, y in PLACES])
    assert distance.min(axis=1).max() < 1
    for k in distance.argmin(axis=1):
        box = found[k].box
        assert box.y0 < found[k].y < box.y1 and box.x0 < found[k].x < box.x1
        assert 5 < min(box.shape) <= max(box.shape) < 40
        assert found[k].score > 10
        assert found[k].kind in ("line", "continuum", "both")


@pytest.mark.parametrize("name", FINDERS)
def test_strict_thresholds_find_nothing_in_noise(name, imager):
    if find_spec(FINDERS[name].package) is None:
        pytest.skip(f"{FINDERS[name].package} is not installed")
    field = Field(cube_of(simulate_cube(2, "empty", imager=imager), "noise"))
    high = {key: 8.0 for key in FINDERS[name].defaults if key in ("threshold", "continuum")}
    assert FINDERS[name].find(field, **high) == []


@pytest.mark.parametrize("name", FINDERS)
def test_grids_are_of_parameters_there_are(name):
    finder = FINDERS[name]
    assert finder.grid.keys() <= finder.defaults.keys()
    assert len(finder.combinations()) == np.prod([len(values) for values in finder.grid.values()])


def test_the_matched_filter_tells_lines_from_continuum(imager):
    def kinds(**parts):
        found = FINDERS["matched-filter"].find(field_shape(imager, **parts), threshold=8.0, continuum=8.0)
        near = [s for s in found if np.hypot(*(PLACES - (s.x, s.y)).T).min() < 1]
        return sorted((s.kind, s.channels) for s in near)

    assert [kind for kind, _ in kinds(line=0.0)] == ["continuum"] * 2
    assert [kind for kind, _ in kinds()] == ["both"] * 2
    only = kinds(continuum=0.0)
    assert all(kind != "continuum" for kind, _ in only)
    assert [range_[0] <= z < range_[1] for z, (_, range_) in zip((10, 22), only, strict=True)] == [True, True]


def test_the_stack_is_in_units_of_its_noise(imager):
    field = Field(cube_of(simulate_cube(2, "empty", imager=imager), "noise"))
    assert np.std(field.stacked) == pytest.approx(1, abs=0.1)
    assert field.beam_fwhm == pytest.approx(8.2, abs=0.3)
    assert Field(Cube.from_array(np.zeros((3, 4, 5)))).beam_fwhm == 3


def gaussian(y0, x0, fwhm, shape=(60, 70)):
    y, x = np.indices(shape)
    return np.exp(-4 * np.log(2) * ((y - y0) ** 2 + (x - x0) ** 2) / fwhm**2)


def test_maxima_keep_their_distance():
    image = 10 * gaussian(20, 20, 4) + 8 * gaussian(20, 26, 4) + 6 * gaussian(40, 50, 4)
    image[0, 0] = np.nan
    assert local_maxima(image, 5, 3) == [(20, 20), (20, 26), (40, 50)]
    assert local_maxima(image, 5, 8) == [(20, 20), (40, 50)]
    assert local_maxima(image, 7, 3) == [(20, 20), (20, 26)]


def test_centre_and_box_of_a_gaussian():
    """A Gaussian of FWHM 10 falls to a tenth 9.1 pixels from its centre."""
    image = gaussian(30.3, 33.8, 10)
    y, x = local_maxima(image, 0.5, 5)[0]
    assert centre_of(image, y, x) == pytest.approx((30.3, 33.8), abs=0.05)
    inside = image >= 0.1
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    truth = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
    for box in (box_of(image, y, x), gaussian_box(33.8, 30.3, 10, 10, 0, image.shape)):
        assert (box.y0, box.y1, box.x0, box.x1) == pytest.approx(truth, abs=1)


def test_boxes_of_turned_ellipses_and_at_the_border():
    long = gaussian_box(30, 30, 20, 4, 90, (60, 70))  # from +y by a quarter turn: along x
    assert long.shape[1] > 3 * long.shape[0]
    corner = gaussian_box(1, 1, 10, 10, 0, (60, 70))
    assert (corner.y0, corner.x0) == (0, 0)
    assert box_of(gaussian(1, 68, 8), 1, 68).x1 == 70


def test_libraries_that_need_a_beam_say_so():
    with pytest.raises(ValueError, match="sky coordinates and a beam"):
        Field(Cube.from_array(np.random.default_rng(1).normal(size=(8, 32, 32)) * u.Jy.to(u.Jy))).write_image("")
