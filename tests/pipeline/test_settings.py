import json

import pytest

from napari_almadet import Settings


def test_defaults_are_the_papers():
    settings = Settings()
    assert (settings.threshold, settings.peak_height, settings.window, settings.crop) == (0.1, 0.1, 256, 64)
    assert settings.require_line


def test_settings_make_a_round_trip_through_json():
    settings = Settings(threshold=0.3, device="cpu", require_line=False)
    assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize(
    "wrong",
    [
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
