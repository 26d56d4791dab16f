"""The reader keeps napari's contract, and refuses in one sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from made_by_hand import make_detections
from napari.layers import Image, Layer
from napari.plugins import menu_item_template
from napari.utils.notifications import notification_manager

from napari_almadet.catalogue.result_folder import read_result as read_result_folder
from napari_almadet.catalogue.result_folder import write_result
from napari_almadet.cube.reading import read_cube
from napari_almadet.plugin.panels import TITLE, WIDGET
from napari_almadet.plugin.reader import napari_get_reader, read_catalogue, read_part_of_a_session
from napari_almadet.plugin.session import Session


@pytest.fixture
def messages():
    """Notifications that napari would show."""
    before = len(notification_manager.records)
    return lambda: notification_manager.records[before:]


@pytest.mark.parametrize(
    "name",
    ["a.fits", "A.FITS", "uid___A001_X1.b.image.pbcor.fits", "a.fits.gz", "a.fits.fz", "a.fit", "a.hdf5"],
)
def test_takes_cubes_by_name(name):
    assert callable(napari_get_reader(name))


@pytest.mark.parametrize("path", ["a.tif", "fits", ["a.fits", "b.png"], "folder/"])
def test_leaves_the_rest_to_others(path):
    assert napari_get_reader(path) is None


def test_layer_tuple(fits_file, data):
    (layer_data,) = napari_get_reader(str(fits_file))(str(fits_file))
    layer = Layer.create(*layer_data)
    assert isinstance(layer, Image)
    assert layer.name == "toy"
    np.testing.assert_array_equal(np.asarray(layer.data[20]), data[20])
    assert layer.metadata["cube"].path == fits_file


def test_several_files_are_several_layers(fits_file, data, header, tmp_path):
    other = tmp_path / "other.fits.gz"
    fits.writeto(other, data, header)
    paths = [str(fits_file), str(other)]
    assert [meta["name"] for _, meta, _ in napari_get_reader(paths)(paths)] == ["toy", "other"]


def test_refusal_is_one_sentence_and_no_layer(tmp_path, messages):
    path = str(tmp_path / "line.fits")
    fits.writeto(path, np.ones(8))
    assert napari_get_reader(path)(path) == [(None,)]
    (message,) = messages()
    assert str(message.severity) == "error"
    assert "line.fits" in message.message
    assert "Traceback" not in message.message


def test_one_bad_file_does_not_keep_the_others_out(fits_file, tmp_path, messages):
    bad = tmp_path / "bad.fits"
    bad.write_text("not FITS")
    paths = [str(bad), str(fits_file)]
    assert [meta["name"] for _, meta, _ in napari_get_reader(paths)(paths)] == ["toy"]
    assert [str(m.severity) for m in messages()] == ["error"]


def test_what_was_mended_is_told(data, header, tmp_path, messages):
    header["CTYPE4"], header["CRPIX4"], header["CRVAL4"], header["CDELT4"] = "STOKES", 1.0, 1.0, 1.0
    path = str(tmp_path / "stokes.fits")
    fits.writeto(path, np.stack([data, 0 * data]), header)
    ((_, meta, _),) = napari_get_reader(path)(path)
    assert meta["metadata"]["cube"].notes
    (message,) = messages()
    assert all(note in message.message for note in meta["metadata"]["cube"].notes)


def test_other_cubes_in_a_file_are_hidden_layers(viewer, data, header, tmp_path, npe2pm, plugin):
    images = [fits.ImageHDU(sign * data, header, name=name) for name, sign in (("SCI", 1), ("ERR", -1))]
    mask = fits.ImageHDU(np.ones_like(data, dtype=np.int16), name="DQ")  # without coordinates
    fits.HDUList([fits.PrimaryHDU(), *images, mask]).writeto(tmp_path / "three.fits")
    viewer.open(str(tmp_path / "three.fits"), plugin=plugin)
    assert [(layer.name, layer.visible) for layer in viewer.layers] == [("three", True), ("three[ERR]", False)]
    np.testing.assert_array_equal(viewer.layers[1].data[3], -data[3])


def test_a_folder_is_taken_if_it_is_a_casa_image(tmp_path, messages):
    folder = tmp_path / "a.image"
    folder.mkdir()
    assert napari_get_reader(str(folder)) is None
    for name in ("table.dat", "table.f0_TSM0"):
        (folder / name).touch()
    assert napari_get_reader(str(folder))(str(folder)) == [(None,)]  # it is empty
    (message,) = messages()
    assert "a.image cannot be read" in message.message


def test_opening_turns_north_up(viewer, fits_file, npe2pm, plugin):
    viewer.open(str(fits_file), plugin=plugin)
    assert [layer.name for layer in viewer.layers] == ["toy"]
    assert tuple(viewer.scene.camera.orientation2d) == ("up", "right")


def test_reading_imports_neither_torch_nor_spectral_cube(fits_file):
    code = (
        "import sys; from napari_almadet.plugin.reader import read; "
        f"read({str(fits_file)!r}); print(sorted({{'torch', 'spectral_cube'}} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip().splitlines()[-1] == "[]"


def test_a_folder_of_results_opens_with_its_cube(viewer, fits_file, plugin, tmp_path, qtbot):
    detections = make_detections(read_cube(fits_file))
    detections.candidates[1].verdict = "accepted"
    folder = write_result(detections, tmp_path / "results")
    viewer.open(str(folder), plugin=plugin)
    assert [layer.name for layer in viewer.layers] == ["toy", "toy probability", "toy candidates"]
    qtbot.waitUntil(lambda: "Candidate inspector" in viewer.window.dock_widgets, timeout=60_000)
    session = Session.of(viewer)
    qtbot.waitUntil(lambda: session.selected is not None)
    assert [c.verdict for c in session.candidates] == ["unreviewed", "accepted", "unreviewed"]
    session.set_verdict(session.candidates[:1], "rejected")
    assert [c.verdict for c in read_result_folder(folder).kept] == ["rejected", "accepted", "unreviewed"]


def test_a_folder_of_results_brings_closed_panels_back(viewer, fits_file, plugin, tmp_path, qtbot):
    folder = write_result(make_detections(read_cube(fits_file)), tmp_path / "results")
    viewer.open(str(folder), plugin=plugin)
    name = menu_item_template.format(TITLE, WIDGET)  # the menu's, which would else open a second panel
    panels = {name, "Candidate inspector"}
    qtbot.waitUntil(lambda: set(viewer.window.dock_widgets) >= panels, timeout=60_000)
    for widget in list(viewer.window.dock_widgets.values()):
        widget.parent().destroyOnClose()
    qtbot.waitUntil(lambda: not panels & set(viewer.window.dock_widgets))
    viewer.layers.clear()
    viewer.open(str(folder), plugin=plugin)
    qtbot.waitUntil(lambda: set(viewer.window.dock_widgets) >= panels)
    assert viewer.window.dock_widgets[name].table.model.rowCount() == 3


def test_a_result_is_shown_in_the_cube_that_is_open(viewer, fits_file, plugin, tmp_path):
    viewer.open(str(fits_file), plugin=plugin)
    folder = write_result(make_detections(viewer.layers["toy"].metadata["cube"]), tmp_path / "results")
    viewer.open(str(folder), plugin=plugin)
    assert [layer.name for layer in viewer.layers] == ["toy", "toy probability", "toy candidates"]


def test_a_session_opens_by_its_settings_and_a_catalogue_over_the_open_cube(viewer, fits_file, tmp_path, messages):
    folder = write_result(make_detections(read_cube(fits_file)), tmp_path / "results")
    for name in ("settings.json", "candidates.ecsv"):
        assert napari_get_reader(str(folder / name)) is read_part_of_a_session
    (tmp_path / "settings.json").write_text("{}")
    assert napari_get_reader(str(tmp_path / "settings.json")) is None
    shutil.copy(folder / "catalog.ecsv", tmp_path / "theirs.ecsv")
    found = napari_get_reader(str(tmp_path / "theirs.ecsv"))
    assert found is read_catalogue
    assert found(str(tmp_path / "theirs.ecsv")) == [(None,)]
    told = "theirs.ecsv is a catalogue: open the cube that it belongs to first."
    assert messages()[-1].message == told


def test_other_folders_are_left_to_others(tmp_path):
    assert napari_get_reader(str(tmp_path)) is None
    (tmp_path / "settings.json").write_text("{}")
    assert napari_get_reader(str(tmp_path)) is None


def test_a_result_without_its_cube_is_refused_in_a_sentence(fits_file, tmp_path, messages):
    folder = write_result(make_detections(read_cube(fits_file)), tmp_path / "results")
    fits_file.unlink()
    assert napari_get_reader(str(folder))(str(folder)) == [(None,)]
    (message,) = messages()
    assert "toy.fits" in message.message


def test_a_map_of_one_plane_opens_in_its_place_under_the_boxes(viewer, session, cube_image, data, header, tmp_path):
    """A continuum map with larger pixels, two axes, beside the cube."""
    header = header.copy()
    for card in ("CTYPE3", "CRPIX3", "CDELT3", "CRVAL3", "CUNIT3"):
        del header[card]
    header["CDELT1"], header["CDELT2"], header["CRPIX1"], header["CRPIX2"] = -0.2 / 3600, 0.2 / 3600, 31.0, 26.0
    fits.writeto(tmp_path / "continuum.fits", data[0, ::2, ::2], header)
    ((values, meta, kind),) = napari_get_reader(str(tmp_path / "continuum.fits"))(str(tmp_path / "continuum.fits"))
    layer = viewer.add_layer(Layer.create(values, meta, kind))
    assert layer.ndim == 2
    assert session.image == cube_image
    np.testing.assert_allclose(layer.data_to_world((25, 30)), cube_image.data_to_world((0, 50, 60))[1:], atol=1e-3)
    assert viewer.layers[-1].name == "toy candidates"
    assert viewer.layers.extent.units is not None


def test_two_cubes_read_together_lie_on_one_sky(data, header, tmp_path):
    fits.writeto(tmp_path / "one.fits", data, header)
    header["CRVAL2"] += 3 / 3600
    fits.writeto(tmp_path / "two.fits", data, header)
    paths = [str(tmp_path / name) for name in ("one.fits", "two.fits")]
    one, two = (Layer.create(*layer) for layer in napari_get_reader(paths)(paths))
    np.testing.assert_allclose(two.data_to_world((0, 20, 60)), one.data_to_world((0, 50, 60)), atol=1e-3)
