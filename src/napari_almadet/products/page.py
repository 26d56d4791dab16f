"""A page on each source: spectrum with errors and fit, moments with contours and beam, cut, measured values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.catalogue.detections import Detections, brightness_unit
from napari_almadet.inspection.apertures import LineModel, has_gaussians
from napari_almadet.inspection.describe import readable, unit_text
from napari_almadet.inspection.geometry import beam_outline
from napari_almadet.inspection.moments import Sums, contour_levels
from napari_almadet.products.figure import (
    DATA,
    FIT,
    MOST_TICKS,
    image_axes,
    without_vertical_labels,
    write_facts,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_almadet.products.source_products import PositionVelocity, Scales, SourceData, Spectrum

SIZE = (11.0, 7.5)  # inches
DPI = 110  # pixels per inch; chosen by eye
MASK = "#0067b0"
ABOUT_LINE = 3.0  # line widths shown on each side of the line
LEAST_ABOUT = 20  # channels


def write_page(
    detections: Detections,
    data: SourceData,
    spectrum: Spectrum,
    scales: Scales,
    sums: Sums | None,
    cut: PositionVelocity | None,
    path: Path,
) -> None:
    """Write the page on a source as PNG.

    Parameters
    ----------
    sums
        Sums over its mask; None for a source without a line.
    cut
        Its position-velocity cut, or None.
    """
    from matplotlib.figure import Figure

    candidate = data.candidate
    figure = Figure(figsize=SIZE)
    draw_spectrum(figure.add_axes((0.075, 0.58, 0.9, 0.34)), detections, data, spectrum)
    places = ((0.075, 0.1, 0.18, 0.34), (0.285, 0.1, 0.18, 0.34), (0.545, 0.1, 0.16, 0.34))
    if sums is None:
        axes = image_axes(figure, places[0], detections)
        draw_image(axes, detections, data, data.continuum, brightness_unit(detections.cube), "Continuum", None)
    else:
        zeroth, mean, _ = sums.moments()
        axes = image_axes(figure, places[0], detections)
        draw_image(axes, detections, data, zeroth, brightness_unit(detections.cube) * scales.unit, "Moment 0", sums.snr)
        axes = image_axes(figure, places[1], detections)
        draw_image(axes, detections, data, mean, scales.unit, f"Moment 1\n{scales.label}", None, "RdBu_r")
        without_vertical_labels(axes)
    if cut is not None:
        draw_cut(figure.add_axes(places[2]), detections, cut, scales)
    write_facts(figure.add_axes((0.735, 0.08, 0.25, 0.39)), detections, candidate)
    figure.suptitle(f"{detections.cube.name}, source {candidate.id}", fontsize=13, fontweight="bold")
    figure.savefig(path, dpi=DPI, format="png")


def draw_spectrum(axes: Axes, detections: Detections, data: SourceData, spectrum: Spectrum) -> None:
    """Draw the spectrum of a source with errors, channels of the mask and fitted lines."""
    cube, candidate, n_channels = detections.cube, data.candidate, len(spectrum.flux)
    flux = readable(spectrum.aperture * spectrum.unit)
    error = (spectrum.aperture_error * spectrum.unit).to_value(flux.unit)
    edges = np.arange(n_channels + 1) - 0.5
    frequency, velocity = cube.frequency(edges), cube.velocity(edges)
    known = frequency if frequency is not None else velocity
    x = edges if known is None else known.to_value("GHz" if frequency is not None else "km/s")
    axes.stairs(flux.value, x, color=DATA, linewidth=0.9, label="sum over the source's pixels")
    low, high = (np.repeat(flux.value + sign * error, 2) for sign in (-1, 1))
    axes.fill_between(np.repeat(x, 2)[1:-1], low, high, color=DATA, alpha=0.18, linewidth=0, label="1 sigma")
    axes.axhline(0, color="grey", linewidth=0.6, linestyle=":")
    first, last = (data.channels.start, data.channels.stop) if data.mask.any() else (0, n_channels)
    if data.mask.any():
        inside = np.where(spectrum.pixels > 0, (spectrum.flux * spectrum.unit).to_value(flux.unit), np.nan)
        axes.stairs(inside, x, color=MASK, linewidth=1.2, label="in the mask")
        reach = max(LEAST_ABOUT, round(ABOUT_LINE * (last - first)))
        first, last = max(first - reach, 0), min(last + reach, n_channels)
    if has_gaussians(candidate) and np.isfinite(flux.value).any():
        fine = np.linspace(first - 0.5, last - 0.5, 600)
        model = LineModel.of(flux.value, candidate.peaks)
        axes.plot(np.interp(fine, edges, x), model(fine), color=FIT, linewidth=1.1, linestyle="--", label="fit")
    axes.set_xlim(*sorted((x[first], x[last])))
    shown = np.concatenate([low[2 * first : 2 * last], high[2 * first : 2 * last]])
    if np.isfinite(shown).any():
        bottom, top = np.nanmin(shown), np.nanmax(shown)
        axes.set_ylim(bottom - 0.05 * (top - bottom), top + 0.25 * (top - bottom) + 1e-30)
    frame = f", {cube.spectral_frame}" if cube.spectral_frame else ""
    kind = (
        "Channel"
        if known is None
        else f"Frequency (GHz{frame})"
        if frequency is not None
        else f"Radio velocity (km/s{frame})"  # maps and cut are in the file's convention
    )
    axes.ticklabel_format(axis="x", useOffset=False)  # whole frequencies, not differences from one
    axes.locator_params(axis="x", nbins=MOST_TICKS)
    axes.set_xlabel(kind)
    unit = unit_text(flux.unit)
    axes.set_ylabel(f"Flux density ({unit})" if unit else "Sum")
    axes.legend(loc="upper center", fontsize=7.5, frameon=False, ncols=4, columnspacing=1.2, handlelength=1.5)


def draw_image(
    axes: Axes,
    detections: Detections,
    data: SourceData,
    image: np.ndarray,
    unit: u.UnitBase,
    title: str,
    snr: np.ndarray | None,
    colours: str = "inferno",
) -> None:
    """Draw a map of a source, with contours of its S/N and the beam."""
    from matplotlib.patches import Polygon

    shown = readable(np.where(np.isfinite(image), image, np.nan) * unit)
    values, (y0, x0), (ny, nx) = shown.value, data.origin[1:], image.shape
    finite = values[np.isfinite(values)]
    low, high = (np.percentile(finite, 1), np.percentile(finite, 99.5)) if finite.size else (0, 1)
    extent = (x0 - 0.5, x0 + nx - 0.5, y0 - 0.5, y0 + ny - 0.5)
    drawn = axes.imshow(values, origin="lower", extent=extent, cmap=colours, vmin=low, vmax=high)
    axes.set_facecolor("#cccccc")
    if snr is not None and len(levels := contour_levels(snr, 1.0)):
        place = np.arange(x0, x0 + nx), np.arange(y0, y0 + ny)
        axes.contour(*place, np.nan_to_num(snr), levels[levels > 0], colors="white", linewidths=0.7)
        axes.set_autoscale_on(False)
    if (outline := beam_outline(detections.cube, *data.candidate.position)) is not None:
        corner = x0 + 0.05 * nx + np.ptp(outline[:, 0]) / 2, y0 + 0.05 * ny + np.ptp(outline[:, 1]) / 2
        axes.add_patch(Polygon(outline + corner, facecolor="#ffffffb0", edgecolor="black", linewidth=0.8))
    bar = axes.figure.colorbar(drawn, ax=axes, location="top", fraction=0.05, pad=0.02)
    unit_words = unit_text(shown.unit)
    bar.set_label(f"{title} ({unit_words})" if unit_words else title, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def draw_cut(axes: Axes, detections: Detections, cut: PositionVelocity, scales: Scales) -> None:
    """A position-velocity cut."""
    cube, (n_channels, n_offsets) = detections.cube, cut.values.shape
    values = readable(cut.values * brightness_unit(cube))
    offsets = (np.arange(n_offsets + 1) - 0.5 - cut.middle) * cut.step
    channel = np.arange(cut.first, cut.first + n_channels)
    steps = np.diff(scales.place[channel]) if n_channels > 1 else np.ones(1)
    middle = scales.place[channel]
    edges = np.concatenate([middle[:1] - steps[:1] / 2, middle[:-1] + steps / 2, middle[-1:] + steps[-1:] / 2])
    drawn = axes.pcolormesh(offsets, edges, values.value, cmap="inferno", rasterized=True)
    axes.set_xlabel(f"Offset ({'arcsec' if cube.celestial is not None else 'pixel'})", fontsize=8)
    axes.set_ylabel(f"{scales.label.split(',')[0]} ({unit_text(scales.unit) or scales.unit})", fontsize=8)
    axes.tick_params(labelsize=7)
    bar = axes.figure.colorbar(drawn, ax=axes, location="top", fraction=0.05, pad=0.02)
    bar.set_label(f"Cut at {cut.angle:.0f}°, {cut.axis}\n({unit_text(values.unit)})", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def small_figure(size: tuple[float, float]) -> Figure:
    """An empty figure, (width, height) in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=size)
