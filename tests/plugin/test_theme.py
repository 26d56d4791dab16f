"""Letters of the panels follow napari's, as far as the screen has room for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from napari.settings import get_settings

from napari_almadet.plugin import theme


@pytest.mark.parametrize(("height", "napari", "panels"), [(1080, 9, 8), (1080, 14, 13), (720, 9, 8), (720, 14, 10)])
def test_letters_have_room_on_the_screen(monkeypatch, height, napari, panels):
    monkeypatch.setattr(theme, "screen_height", lambda: height)
    monkeypatch.setattr(get_settings().appearance, "font_size", napari)
    assert theme.small_size() == panels
    assert f"font-size: {panels}pt" in theme.small_print()


def test_a_test_changes_no_settings_of_whoever_runs_it(own_settings):
    get_settings().appearance.font_size += 1
    assert Path(get_settings().config_path) == own_settings
