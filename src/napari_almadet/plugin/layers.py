"""What napari is given to draw: a cube, the boxes of its candidates, its probability map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.cube import Cube
from napari_almadet.pipeline.catalog import Candidate, Detections, Fate

if TYPE_CHECKING:
    import pandas as pd
    from napari.layers import Image
    from napari.types import LayerDataTuple

FATE_COLOURS = {Fate.KEPT: "#5dff8f", Fate.FLAGGED: "#ffb000", Fate.DROPPED: "#9a9a9a"}
EDGE_WIDTH = 0.6  # pixels of the cube
UNKNOWN = -1  # id of a box that the user drew and that is no candidate

# Words for the spectral axis types of FITS (WCS paper III) and AIPS; the sky's types are their own words.
_SPECTRAL_WORDS = {
    "FREQ": "freq",
    "VRAD": "velocity",
    "VOPT": "velocity",
    "VELO": "velocity",
    "FELO": "velocity",
    "WAVE": "wavelength",
    "AWAV": "wavelength",
}


def cube_layer(cube: Cube) -> LayerDataTuple:
    """Image layer of a cube: lazy data, arcsec on the sky, limits that ignore blank planes.

    The channel axis has the pixel's scale too, so that the volume is not flat in 3-D; the
    true spectral coordinates come from the cube's WCS, see `SpectralAxis`.
    """
    meta = {
        "name": cube.name,
        "axis_labels": _axis_labels(cube),
        "colormap": "inferno",
        "metadata": {"cube": cube},
    }
    if cube.pixel_scale is not None:
        meta["scale"] = (float(cube.pixel_scale.to_value("arcsec")),) * 3
        meta["units"] = ("pixel", "arcsec", "arcsec")
    if (limits := contrast_limits(cube)) is not None:
        meta["contrast_limits"] = limits
    return cube.data, meta, "image"


def boxes_layer(
    detections: Detections, candidates: Sequence[Candidate], rows: pd.DataFrame, image: Image
) -> LayerDataTuple:
    """Shapes layer with one box a candidate, drawn over all channels of ``image``; ``rows`` are its `features`.

    Two-dimensional, so that napari shows the boxes whatever the channel; without text,
    which is what makes a Shapes layer slow.
    """
    meta = {
        "name": f"{image.name} candidates",
        **_sky_plane(image),
        "features": rows,
        "feature_defaults": {name: _blank(rows[name].dtype) for name in rows},
        "edge_color": [FATE_COLOURS[c.fate] for c in candidates] or "white",
        "edge_width": EDGE_WIDTH,
        "ndim": 2,
        "face_color": "transparent",
        "opacity": 1.0,
        "metadata": {"detections": detections},
    }
    return box_corners(candidates), meta, "shapes"


def box_corners(candidates: Sequence[Candidate]) -> list[np.ndarray]:
    """Corners (4, 2) of the boxes in data coordinates, at the outer edges of their pixels."""
    return [
        np.array([(b.y0, b.x0), (b.y0, b.x1), (b.y1, b.x1), (b.y1, b.x0)]) - 0.5 for b in (c.box for c in candidates)
    ]


def probability_layer(detections: Detections, image: Image) -> LayerDataTuple:
    """Blobs Finder's probability map as light over the cube, hidden until asked for."""
    meta = {
        "name": f"{image.name} probability",
        **_sky_plane(image),
        "colormap": "bop blue",
        "blending": "additive",
        "contrast_limits": (0.0, 1.0),
        "visible": False,
        "metadata": {"detections": detections},
    }
    return detections.probability, meta, "image"


def features(detections: Detections, candidates: Sequence[Candidate]) -> pd.DataFrame:
    """One row a candidate, dropped ones too: plain numbers in the units that the inspector shows.

    ``x, y, z`` are pixels and channels, ``ra, dec`` degrees (longitude and latitude in
    other frames), ``freq`` GHz, ``v_rad`` km/s; NaN where the cube has no such coordinate.
    """
    import pandas as pd

    cube = detections.cube
    x, y = np.array([position(c) for c in candidates], dtype=float).reshape(-1, 2).T
    z = np.array([line_channel(c) for c in candidates], dtype=float)
    unknown = np.full(len(candidates), np.nan)
    sky = cube.sky(x, y)
    frequency = cube.frequency(z)
    velocity = cube.velocity(z)
    world = {
        "ra": unknown if sky is None else sky.spherical.lon.deg,
        "dec": unknown if sky is None else sky.spherical.lat.deg,
        "freq": unknown if frequency is None else frequency.to_value("GHz"),
        "v_rad": unknown if velocity is None else velocity.to_value("km/s"),
    }
    names = ["f_sum", "err_f_sum", "f_max", "w20", "w50", "rms", "prob", "snr_global", "snr_pixel"]
    return pd.DataFrame(
        {
            "id": np.array([c.id for c in candidates], dtype=int),
            "x": x,
            "y": y,
            "z": z,
            **world,
            **{name: np.array([getattr(c, name) for c in candidates], dtype=float) for name in names},
            "n_peaks": np.array([len(c.peaks) for c in candidates], dtype=int),
            "blended": np.array([c.blended for c in candidates], dtype=bool),
            "edge": np.array([c.edge for c in candidates], dtype=bool),
            "kind": np.array([c.kind for c in candidates], dtype=object),
            "fate": np.array([c.fate.value for c in candidates], dtype=object),
        }
    )


def position(candidate: Candidate) -> tuple[float, float]:
    """(x, y) of a candidate in pixels: its flux-weighted centre, or its box's where that was not measured."""
    if np.isfinite(candidate.x) and np.isfinite(candidate.y):
        return candidate.x, candidate.y
    y, x = candidate.box.centre
    return x, y


def line_channel(candidate: Candidate) -> float:
    """Channel of a candidate's line: the primary peak's centre; NaN where it has none."""
    return candidate.primary.centre if candidate.primary else np.nan


def contrast_limits(cube: Cube, planes: int = 9, pixels: int = 200_000) -> tuple[float, float] | None:
    """Display range from a sample of planes spread over the band; None where the sample is blank.

    Planes without a finite or with one single value (blank edge channels) do not count.  The
    lower end leaves the noise visible; the upper lets a line stand out without burning out.
    """
    n_channels, ny, nx = cube.shape
    step = max(1, int(np.ceil(np.sqrt(ny * nx / pixels))))
    samples = []
    for channel in np.unique(np.linspace(0, n_channels - 1, planes + 2).round().astype(int)):
        plane = cube.read(channel=channel, y=slice(None, None, step), x=slice(None, None, step))
        values = plane[np.isfinite(plane)]
        if values.size and np.ptp(values) > 0:
            samples.append(values)
    if not samples:
        return None
    low, high = np.percentile(np.concatenate(samples), (2.0, 99.9))
    return (float(low), float(high)) if high > low else None


def _blank(dtype: np.dtype) -> Any:
    """What a box that the user draws has in a column: no candidate, no number, no word."""
    return {"i": UNKNOWN, "f": np.nan, "b": False}.get(dtype.kind, "")


def _axis_labels(cube: Cube) -> tuple[str, str, str]:
    if cube.wcs is None:
        return "channel", "y", "x"
    x, y, spectral = (ctype.split("-")[0].upper() for ctype in cube.wcs.wcs.ctype)
    return _SPECTRAL_WORDS.get(spectral, spectral.lower() or "channel"), y.lower() or "y", x.lower() or "x"


def _sky_plane(image: Image) -> dict[str, Any]:
    """The transform of the two sky axes of a cube's layer; layers that differ make napari drop all units."""
    return {
        "scale": tuple(image.scale[-2:]),
        "translate": tuple(image.translate[-2:]),
        "units": tuple(image.units[-2:]),
        "axis_labels": tuple(image.axis_labels[-2:]),
    }
