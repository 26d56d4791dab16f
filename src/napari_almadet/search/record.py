"""How the preset ``almadet`` searched a cube, as plain values for the provenance of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.search.line_detection import resolutions
from napari_almadet.search.line_maps import WIDEST

if TYPE_CHECKING:
    from napari_almadet.measure.noise import Noise
    from napari_almadet.search.beam_decision import BeamDecision
    from napari_almadet.search.windows import Window


def search_record(
    n_channels: int, fwhm: float, windows: list[Window], decision: BeamDecision, noise: Noise
) -> dict[str, Any]:
    """How a cube was rescaled for the networks, the decision on its dirty beam, and its noise."""
    scales = {
        "beam": round(fwhm, 3),  # pixels
        "pixels_averaged": windows[0].k,  # on a side; 0.5: interpolated to twice as many
        "windows": len(windows),
        "widest_line": max(1, int(WIDEST * n_channels)),  # channels
        "channels_averaged": resolutions(n_channels),  # for Line Finder
    }
    return {"scales": scales, "dirty_beam": decision.as_dict(), "noise": noise_record(noise)}


def noise_record(noise: Noise) -> dict[str, Any]:
    """The noise of a cube: its level, and the correlation of channels and of pixels.

    ``spatial_x`` and ``spatial_y`` are the correlation by offset in pixels, along the middle row and column.
    """
    h, known = noise.reach, np.isfinite(noise.rms)
    return {
        "rms": float(np.median(noise.rms[known])) if known.any() else None,
        "uniform": bool(noise.uniform),
        "spectral": np.round(noise.spectral, 4).tolist(),
        "spatial_x": np.round(noise.spatial[h, h:], 4).tolist(),
        "spatial_y": np.round(noise.spatial[h:, h], 4).tolist(),
    }
