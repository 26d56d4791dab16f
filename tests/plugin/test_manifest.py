"""The manifest is valid and every name in it leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

import napari_almadet

MANIFEST = Path(napari_almadet.__file__).parent / "napari.yaml"


@pytest.fixture
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


def test_every_python_name_can_be_imported(manifest):
    manifest.validate_imports()


def test_panels_open_under_the_names_that_the_menu_has(manifest):
    from napari_almadet.plugin.panels import PLUGIN, TITLE, WIDGET

    assert (manifest.name, manifest.display_name) == (PLUGIN, TITLE)
    assert [widget.display_name for widget in manifest.contributions.widgets] == [WIDGET]


def test_link_at_the_top_is_the_manifest():
    link = Path(__file__).resolve().parents[2] / "napari.yaml"
    assert link.read_text() == MANIFEST.read_text()


def test_napari_asks_the_reader_about_all_it_takes(npe2pm, plugin):
    from napari_almadet.plugin.reader import SUFFIXES

    for name in [*(f"cube{suffix}" for suffix in SUFFIXES), "CUBE.FIT"]:
        assert plugin in [reader.plugin_name for reader in npe2pm.iter_compatible_readers([name])], name


def test_widget_opens_from_the_plugin(viewer, plugin):
    _, widget = viewer.window.add_plugin_dock_widget(plugin, "Detect sources")
    assert isinstance(widget, QWidget)
    assert "Candidate inspector" in viewer.window.dock_widgets
