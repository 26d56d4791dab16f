import json

import pytest

from napari_almadet import Settings


def test_the_papers_preset_has_the_papers_values():
    settings = Settings(preset="paper")
    assert (settings.threshold, settings.peak_height, settings.window, settings.crop) == (0.1, 0.1, 256, 64)
    assert settings.require_line


def test_a_preset_gives_what_is_not_told():
    assert Settings().preset == "almadet"
    assert Settings().require_line is False
    assert Settings(preset="paper", threshold=0.3, require_line=False).threshold == 0.3
    assert Settings(preset="paper", require_line=False).require_line is False


def test_settings_make_a_round_trip_through_json():
    settings = Settings(threshold=0.3, device="cpu", require_line=False)
    assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "best"},
        {"threshold": 0},
        {"threshold": 1.5},
        {"peak_height": -0.1},
        {"min_snr": -1},
        {"min_snr": float("nan")},
        {"window": 0},
        {"overlap": 256},
        {"batch_size": 0},
        {"crop": 0},
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} is .* but must"):
        Settings(**wrong)
