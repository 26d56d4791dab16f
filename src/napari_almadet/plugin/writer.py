"""napari's way to save the boxes: File > Save Selected Layers, as a catalogue or as regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_almadet.pipeline.catalog import Detections
from napari_almadet.pipeline.exchange import REGIONS, write_catalogue, write_regions


def write_boxes(path: str, data: Any, meta: dict) -> list[str]:
    """Write the kept candidates whose boxes a layer shows, in the format that the name's ending says.

    Raises
    ------
    ValueError
        If the layer is not one of candidates, or the ending is not known.
    """
    detections = meta.get("metadata", {}).get("detections")
    if not isinstance(detections, Detections):
        raise ValueError(f"The layer {meta.get('name', '')} holds no candidates of a detection: choose another format.")
    write = write_regions if Path(path).suffix.lower() in REGIONS else write_catalogue
    return [str(write(detections, path))]
