"""The window writes the products and the report that the command line writes."""

from __future__ import annotations

import pytest
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMenu

from napari_almadet.plugin import products_menu
from napari_almadet.plugin.autosave import Keeper
from napari_almadet.plugin.products_menu import ProductsMenu


@pytest.fixture
def told(monkeypatch):
    said = []
    for name in ("show_info", "show_error"):
        monkeypatch.setattr(products_menu, name, said.append)
    return said


@pytest.fixture
def entries(session, qtbot, tmp_path):
    menu = QMenu()
    qtbot.addWidget(menu)
    return ProductsMenu(menu, session, Keeper.of(session), lambda: str(tmp_path))


def test_products_come_into_the_folder_that_was_chosen(entries, told, monkeypatch, qtbot, tmp_path):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *args: str(tmp_path))
    entries.products_action.trigger()
    qtbot.waitUntil(lambda: len(told) > 1, timeout=200_000)
    assert told[-1].startswith("Written:")
    assert len(list(tmp_path.glob("*_cubelets/*_mom0.fits"))) == 3
    assert len(list(tmp_path.glob("*_mom0.fits"))) == 1


def test_the_report_opens_in_the_browser(entries, told, monkeypatch, qtbot):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()) or True)
    entries.report_action.trigger()
    qtbot.waitUntil(lambda: opened != [], timeout=200_000)
    with open(opened[0], encoding="utf-8") as file:
        assert file.read().count("<article") == 3
