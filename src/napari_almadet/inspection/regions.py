"""Regions of the sky: their pixels, spectra and statistics; with or without candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.catalogue.candidate import Box
from napari_almadet.catalogue.detections import brightness_unit, flux_factor

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube

SHAPES = ("point", "rectangle", "ellipse", "polygon")


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of a field.

    Attributes
    ----------
    name
        What it is called.
    box
        About its pixels, inside the field.
    mask
        Which pixels of the box belong to it, shape of the box.
    """

    name: str
    box: Box
    mask: np.ndarray

    @property
    def pixels(self) -> int:
        """How many pixels it has."""
        return int(self.mask.sum())


def region_of(shape: str, vertices: np.ndarray, field: tuple[int, int], name: str = "") -> Region | None:
    """The pixels whose centres lie in a shape; None where none of them lies in the field.

    Parameters
    ----------
    shape
        One of `SHAPES`.
    vertices
        Pixels (y, x), shape (n, 2): of a point one, of an ellipse the four corners about it.
    field
        Height and width in pixels.
    """
    import regions  # takes a while

    corners = np.asarray(vertices, dtype=float)[:, ::-1]
    if shape == "point":
        x, y = np.round(corners[0]).astype(int)
        inside = 0 <= x < field[1] and 0 <= y < field[0]
        return Region(name, Box(y, y + 1, x, x + 1), np.ones((1, 1), bool)) if inside else None
    if shape == "ellipse":
        centre, (one, other) = corners.mean(axis=0), np.diff(corners[:3], axis=0)
        angle = np.degrees(np.arctan2(one[1], one[0])) * u.deg
        size = np.hypot(*one), np.hypot(*other)
        outline = regions.EllipsePixelRegion(regions.PixCoord(*centre), *size, angle=angle)
    else:
        outline = regions.PolygonPixelRegion(regions.PixCoord(*corners.T))
    mask = outline.to_mask(mode="center").to_image(field)
    if mask is None or not (mask > 0).any():
        return None
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return Region(name, box, mask[box.slices] > 0)


def region_spectrum(cube: Cube, region: Region) -> u.Quantity:
    """Spectrum of a region of the cube as it was given, shape (channels,), NaN in a channel without data.

    Of one pixel its brightness; of more their sum, in Jy where the beam is known, each channel with its own beam.
    """
    planes = cube.read(slice(None), *region.box.slices)
    if region.pixels == 1:
        return planes[:, region.mask][:, 0].astype(float) * brightness_unit(cube)
    inside = planes[:, region.mask].astype(float)
    known = np.isfinite(inside)
    factor, unit = flux_factor(cube, np.arange(len(planes)))
    total = factor * np.where(known, inside, 0).sum(axis=1)
    return np.where(known.any(axis=1), total, np.nan) * unit


@dataclass(frozen=True)
class RegionStatistics:
    """What a region holds in one channel: brightnesses, and the flux density where the beam is known."""

    pixels: int
    flux: u.Quantity
    mean: u.Quantity
    rms: u.Quantity
    std: u.Quantity
    minimum: u.Quantity
    maximum: u.Quantity


def region_statistics(cube: Cube, region: Region, channel: int) -> RegionStatistics:
    """Measure a region in one channel; pixels without data do not count, and all is NaN where none has any."""
    values = cube.read(channel, *region.box.slices)[region.mask].astype(float)
    values = values[np.isfinite(values)]
    unit = brightness_unit(cube)
    factor, flux_unit = flux_factor(cube, np.array([channel]))
    if not values.size:
        nothing = np.nan * unit
        return RegionStatistics(0, np.nan * flux_unit, nothing, nothing, nothing, nothing, nothing)
    return RegionStatistics(
        values.size,
        float(np.ravel(factor)[0]) * values.sum() * flux_unit,
        values.mean() * unit,
        np.sqrt((values**2).mean()) * unit,
        values.std() * unit,
        values.min() * unit,
        values.max() * unit,
    )


SMOOTHINGS = ("as it is", "Hanning", "boxcar 3", "boxcar 5", "boxcar 9", "bins of 2", "bins of 4", "bins of 8")


def smoothed(values: np.ndarray, how: str) -> np.ndarray:
    """A spectrum smoothed, or averaged in bins; NaN stays NaN, and does not count beside it.

    Parameters
    ----------
    values
        Shape (channels,).
    how
        One of `SMOOTHINGS`: Hanning is 1/4, 1/2, 1/4; a boxcar a running mean; bins keep the number of channels, each
        with its bin's mean.
    """
    from astropy.convolution import convolve

    if how == SMOOTHINGS[0]:
        return values
    number = int(how.split()[-1]) if how != "Hanning" else 3
    if how.startswith("bins"):
        padded = np.pad(values.astype(float), (0, -len(values) % number), constant_values=np.nan)
        bins = padded.reshape(-1, number)
        known = np.isfinite(bins)
        count = known.sum(axis=1)
        mean = np.where(count > 0, np.where(known, bins, 0).sum(axis=1) / np.maximum(count, 1), np.nan)
        return np.repeat(mean, number)[: len(values)]
    kernel = np.array([0.25, 0.5, 0.25]) if how == "Hanning" else np.full(number, 1 / number)
    return convolve(values.astype(float), kernel, boundary="extend", preserve_nan=True)
