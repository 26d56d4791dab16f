"""napari's writer for boxes: File > Save Selected Layers, as a catalogue or as regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error

from napari_almadet.catalogue.detections import Detections
from napari_almadet.catalogue.export import REGIONS, write_catalogue, write_regions


def write_boxes(path: str, data: Any, meta: dict) -> list[str]:
    """Write the kept candidates of a boxes layer, in the format given by the file extension."""
    detections = meta.get("metadata", {}).get("detections")
    if not isinstance(detections, Detections):
        # napari would report an exception as a missing writer
        show_error(f"The layer {meta.get('name', '')} contains no candidates of a detection: choose another format.")
        return []
    write = write_regions if Path(path).suffix.lower() in REGIONS else write_catalogue
    return [str(write(detections, path))]
