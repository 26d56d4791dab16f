"""The layers for napari: a cube, the boxes of its candidates, its probability map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import mad_std
from napari.utils.colormaps import ensure_colormap
from napari.utils.colormaps.standardize_color import transform_color

from napari_almadet.catalogue.candidate import Box, Candidate, Status
from napari_almadet.catalogue.detections import Detections
from napari_almadet.cube.cube import HUGE, Cube
from napari_almadet.inspection.describe import line_channel
from napari_almadet.inspection.placement import SkyFrame

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable
    from napari.layers import Image, Layer, Shapes
    from napari.types import LayerDataTuple
    from napari.viewer import Viewer

    from napari_almadet.catalogue.result_folder import Journal

STATUS_COLOURS = {Status.KEPT: "#5dff8f", Status.FLAGGED: "#ffb000", Status.DROPPED: "#9a9a9a"}
VERDICT_COLOURS = {"unreviewed": "#5ec8ff", "accepted": "#5dff8f", "rejected": "#ff5ea8"}
PROB_COLOURS = "viridis"  # colour map for probabilities from 0 to 1
COLOURINGS = {
    "verdict": "verdict",
    "status": "status",
    "prob": "probability",
}  # column of `features`: what it is called
MOST_LABELS = 2**29  # voxels of a cube whose masks are shown: a gigabyte of labels
EDGE_WIDTH = 1.0  # pixels of the cube, until `BoxLayer` draws the lines as wide as they are to be on the screen
TEXT_SIZE = 9  # points of the candidates' numbers, when "display text" is on
UNKNOWN = -1  # id of a box that the user drew and that is not a candidate

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


def voxels(image: Image) -> Any:
    """The array (channel, y, x) of a layer, still lazy, without a leading axis of length 1.

    Raises
    ------
    ValueError
        If it is not a cube; the message says why.
    """
    data = image.data[0] if image.multiscale else image.data
    if image.rgb:
        raise ValueError("it is a colour picture")
    if data.ndim == 4 and data.shape[0] == 1:
        return data[0]
    if data.ndim == 4:
        raise ValueError(f"its first axis has {data.shape[0]} planes: choose one polarisation (or time) of them")
    if data.ndim != 3:
        raise ValueError(f"it has {data.ndim} axes; a cube has three: channel, y, x")
    return data


def refusal(image: Image) -> str:
    """Why a layer cannot be searched; empty if it can."""
    try:
        voxels(image)
    except ValueError as error:
        return str(error)
    return "it is a position-velocity cut" if image.metadata.get("cut") else ""


def cube_of(image: Image) -> Cube:
    """The cube of a layer: the one it was read from, or its bare array in pixels and channels.

    Raises
    ------
    CubeError
        If the array is not a cube, for example if it has complex numbers.
    """
    cube, data = image.metadata.get("cube"), voxels(image)
    if isinstance(cube, Cube) and cube.shape == data.shape:
        return cube
    return Cube.from_array(data, name=image.name)


def frame_in(viewer: Viewer | None) -> SkyFrame | None:
    """The sky plane of the cubes of a viewer; None if no cube has sky coordinates."""
    carried = [] if viewer is None else [layer.metadata.get("frame") for layer in viewer.layers]
    return next((frame for frame in carried if isinstance(frame, SkyFrame)), None)


def north_up(viewer: Viewer | None) -> None:
    """Orient a viewer so that y increases upwards: North up and East left.

    A reader has no other access to the viewer, and a negative scale would give a wrong extent.
    """
    if viewer is not None:
        viewer.scene.camera.orientation2d = ("up", "right")


def cube_layer(cube: Cube, frame: SkyFrame | None = None) -> LayerDataTuple:
    """Image layer of a cube: lazy data, at its position on the sky, with contrast limits that ignore blank planes.

    Cubes with the same ``frame`` have their relative positions on the sky; the first cube defines the frame, which is
    stored in the layer's metadata.  The channel axis has the scale of a pixel too, so that the volume is not flat in
    3-D; the true spectral coordinates come from the cube's WCS, see `SpectralAxis`.
    """
    meta = {
        "name": cube.name,
        "axis_labels": _axis_labels(cube),
        "colormap": "inferno",
        "metadata": {"cube": cube},
    } | sky_place(cube, frame, 3)
    meta["metadata"]["frame"] = meta.pop("frame", None)
    if (limits := contrast_limits(cube)) is not None:
        meta["contrast_limits"] = limits
    return cube.data, meta, "image"


def picture_of(cube: Cube, frame: SkyFrame | None = None) -> LayerDataTuple:
    """Image layer of a map (one plane), such as a continuum or moment map, at its position on the sky.

    ``cube`` contains the plane as its only channel.  The layer carries no cube, because a map cannot be searched.
    """
    place = sky_place(cube, frame, 2)
    meta = {
        "name": cube.name,
        "axis_labels": _axis_labels(cube)[1:],
        "colormap": "inferno",
        "metadata": {"map": cube, "frame": place.pop("frame", None)},
    } | place
    if (limits := contrast_limits(cube)) is not None:
        meta["contrast_limits"] = limits
    return cube.data[0], meta, "image"


def sky_place(cube: Cube, frame: SkyFrame | None, ndim: int) -> dict[str, Any]:
    """Scale, units and affine of a layer of 2 or 3 dimensions in a cube's pixels, and its ``frame``.

    The first cube needs no affine.  Empty if the cube has no sky coordinates.
    """
    if cube.pixel_scale is None:
        return {}
    own = SkyFrame.of(cube)
    if own is None:
        return {}
    frame = frame or own
    side = float(cube.pixel_scale.to_value("arcsec"))
    place = {
        "scale": (frame.scale, side, side)[-ndim:],
        "units": ("pixel", "arcsec", "arcsec")[-ndim:],
        "frame": frame,
    }
    affine = np.eye(ndim + 1)
    affine[-3:, -3:] = frame.affine(cube) @ np.diag([1 / side, 1 / side, 1])
    if not np.allclose(affine, np.eye(ndim + 1), atol=1e-6):
        place["affine"] = affine
    return place


def truth_layer(truth: QTable, cube: LayerDataTuple) -> LayerDataTuple:
    """Points at the sources of a simulated cube, in all channels, initially hidden.

    ``truth`` is from :func:`napari_almadet.simulation.observation_files.truth_table`; ``cube`` is the cube's layer.
    """
    import pandas as pd

    _, look, _ = cube
    meta = {
        "name": f"{look['name']} truth",
        **{key: tuple(look[key][-2:]) for key in ("scale", "units", "axis_labels")},
        **({"affine": look["affine"][-3:, -3:]} if "affine" in look else {}),
        "features": pd.DataFrame({n: np.asarray(getattr(truth[n], "value", truth[n])) for n in truth.colnames}),
        "symbol": "cross",
        "size": 4.0,
        "face_color": "white",
        "border_width": 0.0,
        "visible": False,
    }
    return np.stack([truth["y"].value, truth["x"].value], axis=1), meta, "points"


def result_layers(detections: Detections, image: Image, journal: Journal | None = None) -> list[LayerDataTuple]:
    """The layers of a result for the layer of a cube; their metadata contain the result and its journal."""
    found = [
        probability_layer(detections, image),
        *masks_layers(detections, image),
        boxes_layer(detections, features(detections, detections.candidates), image),
    ]
    for _, meta, _ in found:
        meta["metadata"] = meta.get("metadata", {}) | {"detections": detections, "journal": journal}
    return found


def make_result_layers(detections: Detections, image: Image, journal: Journal | None = None) -> list[Layer]:
    """Make the layers of :func:`result_layers`; thousands of boxes take seconds, so it may be done in a thread."""
    from napari.layers import Layer

    return [Layer.create(*data) for data in result_layers(detections, image, journal)]


def boxes_layer(detections: Detections, rows: pd.DataFrame, image: Image) -> LayerDataTuple:
    """Shapes layer with a box for each candidate, over all channels of ``image``; ``rows`` are the `features` of all.

    The layer is two-dimensional, so that one box is enough for all channels; hidden boxes are transparent, see
    `BoxLayer`.  A three-dimensional layer would need a box for each channel of each candidate.  Text is off at first,
    because it makes a Shapes layer slow.
    """
    meta = {
        "name": f"{image.name} candidates",
        **sky_plane(image),
        "features": rows,
        "feature_defaults": {name: _blank(rows[name].dtype) for name in rows},
        "edge_color": box_colours(rows, "verdict") if len(rows) else "white",
        "edge_width": EDGE_WIDTH,
        "ndim": 2,
        "face_color": "transparent",
        "opacity": 1.0,
        "text": {"string": {"feature": "id"}, "visible": False, "size": TEXT_SIZE, "anchor": "upper_left"},
    }
    return list(corners([c.box for c in detections.candidates])), meta, "shapes"


def corners(boxes: Sequence[Box]) -> np.ndarray:
    """Corners (n, 4, 2) of boxes in data coordinates, at the outer edges of their pixels."""
    y0, y1, x0, x1 = np.array([(b.y0, b.y1, b.x0, b.x1) for b in boxes], dtype=float).reshape(-1, 4).T - 0.5
    return np.stack([y0, x0, y0, x1, y1, x1, y1, x0], axis=1).reshape(-1, 4, 2)


def drawn_as(outlines: Sequence[np.ndarray], boxes: Sequence[Box | None]) -> np.ndarray:
    """Whether each outline (n, 2) is that of the corresponding box; False for None."""
    alike = np.array([box is not None and len(o) == 4 for o, box in zip(outlines, boxes, strict=True)], dtype=bool)
    rows = np.flatnonzero(alike)
    if rows.size:
        wanted = corners([box for box, same in zip(boxes, alike, strict=True) if box is not None and same])
        alike[rows] = np.abs(np.stack([outlines[int(row)] for row in rows]) - wanted).max(axis=(1, 2)) < 1e-3
    return alike


def box_of(outline: np.ndarray) -> Box:
    """The box whose `corners` come closest to an outline (n, 2) in data coordinates; one pixel at least."""
    (y0, x0), (y1, x1) = (
        np.round(outline.min(axis=0) + 0.5).astype(int),
        np.round(outline.max(axis=0) + 0.5).astype(int),
    )
    return Box(int(y0), int(max(y1, y0 + 1)), int(x0), int(max(x1, x0 + 1)))


def box_colours(rows: pd.DataFrame, by: str) -> np.ndarray:
    """RGBA (n, 4) of the boxes of candidates, by a column of their `features` that `COLOURINGS` names."""
    if by == "prob":
        return ensure_colormap(PROB_COLOURS).map(rows["prob"].fillna(0).to_numpy())
    if by == "status":
        return _painted(rows["status"], STATUS_COLOURS)
    dropped = (rows["verdict"] == "unreviewed") & (rows["status"] == Status.DROPPED)
    return _painted(
        rows["verdict"].mask(dropped, "dropped"), {**VERDICT_COLOURS, "dropped": STATUS_COLOURS[Status.DROPPED]}
    )


def _painted(words: pd.Series, palette: dict[Any, str]) -> np.ndarray:
    place = {word: i for i, word in enumerate(palette)}
    return transform_color(list(palette.values())).astype(float)[[place[word] for word in words]]


def probability_layer(detections: Detections, image: Image) -> LayerDataTuple:
    """The probability map of the detection network as an additive layer over the cube, initially hidden."""
    meta = {
        "name": f"{image.name} probability",
        **sky_plane(image),
        "colormap": "bop blue",
        "blending": "additive",
        "contrast_limits": (0.0, 1.0),
        "visible": False,
    }
    return detections.probability, meta, "image"


def masks_layers(detections: Detections, image: Image, always: bool = False) -> list[LayerDataTuple]:
    """The masks of the sources as a Labels layer, initially hidden; none if there is too little memory.

    If no source has a mask, a layer is made only with ``always``, so that the user can paint.
    """
    masked = always or any(candidate.mask is not None for candidate in detections.candidates)
    if not masked or np.prod(detections.cube.shape, dtype=float) > MOST_LABELS:
        return []
    meta = {
        "name": f"{image.name} masks",
        "scale": tuple(image.scale[-3:]),
        "translate": tuple(image.translate[-3:]),
        "affine": image.affine.affine_matrix[-4:, -4:],
        "units": tuple(image.units[-3:]),
        "axis_labels": tuple(image.axis_labels[-3:]),
        "visible": False,
        "metadata": {"voxels_of": detections.cube},
    }
    return [(detections.labels(detections.candidates), meta, "labels")]


def features(detections: Detections, candidates: Sequence[Candidate]) -> pd.DataFrame:
    """The catalogue's columns (see ``docs/catalogue.md``) as plain numbers, of dropped candidates too.

    A dropped candidate may not have been measured: then its position is the centre of its box, and its line that of
    the peak.
    """
    import pandas as pd

    placed = []
    for candidate in candidates:
        x, y = candidate.position
        z = candidate.z if np.isfinite(candidate.z) else line_channel(candidate)
        placed.append(replace(candidate, x=x, y=y, z=z))
    table = detections.table(placed)
    return pd.DataFrame({name: np.asarray(getattr(table[name], "value", table[name])) for name in table.colnames})


def rows_of(features: pd.DataFrame, numbers: np.ndarray) -> pd.DataFrame:
    """The rows of candidates by their ``id``, in the order of ``numbers``; blank where a number is `UNKNOWN`."""
    rows = features.set_index("id", drop=False).reindex(numbers).reset_index(drop=True)
    rows["id"] = numbers
    if (numbers == UNKNOWN).any():
        rows = rows.fillna({name: _blank(features[name].dtype) for name in features}).astype(features.dtypes)
    return rows


def rewrite(boxes: Shapes, features: pd.DataFrame, numbers: Sequence[int]) -> None:
    """Update the features of the boxes of some candidates only."""
    table = boxes.features
    rows = np.flatnonzero(table["id"].isin(numbers))
    new = rows_of(features, table["id"].to_numpy()[rows])
    for column, name in enumerate(table):
        before, after = table[name].to_numpy()[rows], new[name].to_numpy()
        if not np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):  # setting a column takes pandas 1 ms
            table.iloc[rows, column] = after
    boxes.events.features()


def contrast_limits(cube: Cube, planes: int = 9, pixels: int = 200_000) -> tuple[float, float] | None:
    """Display range from a sample of planes spread over the band; None where the sample is blank.

    Planes without finite values or with a single value (blank edge channels) do not count.  The range is from the 1st
    to the 99.9th percentile, but at least to six sigma of the noise, so that a plane of noise is dark and a line is
    bright.
    """
    n_channels, ny, nx = cube.shape
    spread = np.unique(np.linspace(0, n_channels - 1, planes + 2).round().astype(int))
    strips = _strips(ny, max(1, pixels // nx))
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
        sampled = np.array([[cube.data[c, s] for s in strips] for c in spread], np.float32).reshape(len(spread), -1)
    if (huge := np.abs(sampled) >= HUGE).any():  # some programs mark missing data with FLT_MAX or 1e30
        sampled[huge & (np.abs(sampled) > cube.ceiling)] = np.nan
    blank = ~sampled.any(axis=0)  # zeros outside the primary beam; `Cube.blank` could read much of the cube
    samples = []
    for plane in sampled:
        values = plane[np.isfinite(plane) & ~blank]
        if values.size and np.ptp(values) > 0:
            samples.append(values)
    if not samples:
        return None
    values = np.concatenate(samples)
    low, middle, high = np.percentile(values, (1.0, 50.0, 99.9))
    sigma = mad_std(values)
    high = max(high, middle + 6 * sigma)
    return (float(low), float(high)) if high > low else None


def _strips(ny: int, rows: int, n: int = 16) -> list[slice]:
    """Evenly spaced strips of rows, all of the same height; one strip with all rows if the image is not larger."""
    if ny <= rows:
        return [slice(0, ny)]
    height = max(1, rows // n)
    n = max(1, rows // height)
    return [slice(y, y + height) for y in np.linspace(0, ny - height, n).round().astype(int)]


def _blank(dtype: np.dtype) -> Any:
    """The value in a column for a box that the user drew: no candidate, NaN or empty text."""
    return {"i": UNKNOWN, "f": np.nan, "b": False}.get(dtype.kind, "")


def _axis_labels(cube: Cube) -> tuple[str, str, str]:
    if cube.wcs is None:
        return "channel", "y", "x"
    x, y, spectral = (ctype.split("-")[0].upper() for ctype in [*cube.wcs.wcs.ctype, "CHANNEL"][:3])
    return _SPECTRAL_WORDS.get(spectral, spectral.lower() or "channel"), y.lower() or "y", x.lower() or "x"


def sky_plane(image: Image) -> dict[str, Any]:
    """The transform of the two sky axes of a cube's layer; if layers differ in it, napari drops all units."""
    return {
        "scale": tuple(image.scale[-2:]),
        "translate": tuple(image.translate[-2:]),
        "affine": image.affine.affine_matrix[-3:, -3:],
        "units": tuple(image.units[-2:]),
        "axis_labels": tuple(image.axis_labels[-2:]),
    }
