"""Display of brightness: limits unaffected by blank and noisy channels, and exact stretches; without Qt.

A stretch is a colour map with unevenly spaced control points, so that the layer's data, contrast limits and colour bar
do not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.visualization import (
    AsinhStretch,
    BaseInterval,
    BaseStretch,
    LinearStretch,
    LogStretch,
    MinMaxInterval,
    PercentileInterval,
    SqrtStretch,
    ZScaleInterval,
)
from napari.layers import Image
from napari.utils.colormaps import Colormap

from napari_almadet.cube.cube import Cube
from napari_almadet.measure.focus import noise
from napari_almadet.plugin.layers import contrast_limits

AUTOMATIC = "automatic"  # as when the cube was opened
# Limits like those that DS9 and CARTA offer, in percent of the pixels; the parameter of log is DS9's.
INTERVALS: dict[str, BaseInterval | None] = {
    AUTOMATIC: None,
    "min to max": MinMaxInterval(),
    "99.9 %": PercentileInterval(99.9),
    "99.5 %": PercentileInterval(99.5),
    "98 %": PercentileInterval(98),
    "95 %": PercentileInterval(95),
    "zscale": ZScaleInterval(),
}
STRETCHES: dict[str, BaseStretch] = {
    "linear": LinearStretch(),
    "asinh": AsinhStretch(0.1),
    "log": LogStretch(1000),
    "sqrt": SqrtStretch(),
}
COLOURS = 256  # control points of a stretched colour map
SAMPLE = 100_000  # pixels of a plane, or of all planes together, from which limits are computed
PLANES = 64  # planes in the sample
NOISY = 3.0  # times the typical noise of a plane: noisier planes do not count


@dataclass(frozen=True)
class Display:
    """Display settings of a layer; stored in its metadata as ``display``."""

    interval: str = AUTOMATIC
    stretch: str = "linear"
    per_channel: bool = False
    colours: Colormap | None = None  # colour map without stretch

    @classmethod
    def of(cls, image: Image) -> Display:
        """The settings of a layer, or the defaults."""
        return image.metadata.get("display", cls())


def stretched(colours: Colormap, stretch: str) -> Colormap:
    """A colour map that shows a value x between the limits, 0 to 1, as ``colours`` does ``stretch(x)``."""
    shown = np.linspace(0, 1, COLOURS)
    controls = np.asarray(STRETCHES[stretch].inverse(shown.copy()), dtype=float)
    controls[[0, -1]] = 0, 1
    return Colormap(colours.map(shown), controls=controls, name=f"{colours.name} {stretch}")


def limits(cube: Cube, interval: str, channel: int | None = None) -> tuple[float, float] | None:
    """Values shown darkest and brightest, of a channel or the whole cube; None without finite, varying values.

    For a whole cube, planes that are blank or hold a single value do not count, nor do
    those whose noise is over `NOISY` times the median of all planes, such as edge channels.
    Minimum and maximum are computed from all pixels, other intervals from a sample.

    Parameters
    ----------
    interval
        One of `INTERVALS`.
    """
    chosen = INTERVALS[interval]
    if channel is not None:
        planes = [_sample(cube, channel, np.inf if isinstance(chosen, MinMaxInterval) else SAMPLE)]
        if chosen is None:
            return contrast_limits(cube) if planes[0].size else None
    elif chosen is None:
        return contrast_limits(cube)
    elif isinstance(chosen, MinMaxInterval):
        return _extremes(cube)
    else:
        planes = [plane for _, plane in _quiet_planes(cube)]
    values = np.concatenate(planes) if planes else np.empty(0)
    return _pair(*chosen.get_limits(values)) if values.size else None


def _pair(low: float, high: float) -> tuple[float, float] | None:
    return (float(low), float(high)) if high > low else None


def _extremes(cube: Cube) -> tuple[float, float] | None:
    """Minimum and maximum of all planes that are not noisy; one plane is read at a time."""
    ceiling = NOISY * _typical_noise(_planes(cube))
    low, high = np.inf, -np.inf
    for channel in range(cube.shape[0]):
        plane = cube.read(channel)
        values = plane[np.isfinite(plane)]
        if values.size and np.ptp(values) > 0 and not noise(values[:: max(1, values.size // 10_000)]) > ceiling:
            low, high = min(low, values.min()), max(high, values.max())
    return _pair(low, high)


def _quiet_planes(cube: Cube) -> list[tuple[int, np.ndarray]]:
    planes = _planes(cube)
    ceiling = NOISY * _typical_noise(planes)
    return [(channel, plane) for channel, plane in planes if not noise(plane) > ceiling]


def _planes(cube: Cube) -> list[tuple[int, np.ndarray]]:
    """Samples of planes spread over the band, without blank ones."""
    n_channels = cube.shape[0]
    channels = np.unique(np.linspace(0, n_channels - 1, min(n_channels, PLANES)).round().astype(int))
    sampled = ((int(channel), _sample(cube, channel, SAMPLE // len(channels) * 4)) for channel in channels)
    return [(channel, plane) for channel, plane in sampled if plane.size]


def _typical_noise(planes: list[tuple[int, np.ndarray]]) -> float:
    return float(np.nanmedian([noise(plane) for _, plane in planes])) if planes else np.nan


def _sample(cube: Cube, channel: int, pixels: float) -> np.ndarray:
    """Finite values of a plane, about ``pixels`` of them on a grid; none if they are all the same."""
    step = max(1, int(np.ceil(np.sqrt(np.prod(cube.shape[1:]) / pixels))))
    plane = cube.read(channel, slice(None, None, step), slice(None, None, step))
    values = plane[np.isfinite(plane)]
    return values if values.size and np.ptp(values) > 0 else values[:0]
