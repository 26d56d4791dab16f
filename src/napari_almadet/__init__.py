"""napari-almadet: find sources in radio-interferometer cubes and inspect every one of them."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("napari-almadet")

# Lazy, so that opening a FITS file in napari imports neither torch nor spectral_cube.
_HOMES = {
    "Cube": "cube.cube",
    "CubeError": "cube.cube",
    "read_cube": "cube.reading",
    "Settings": "settings",
    "Detections": "catalogue.detections",
    "detect": "detection",
    "read_result": "catalogue.result_folder",
    "write_result": "catalogue.result_folder",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
