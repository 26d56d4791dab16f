"""One page per candidate: spectrum, line-integrated image, moment 0 and numbers, as PNG or PDF; without Qt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from astropy import units as u

from napari_almadet.catalogue.candidate import Candidate
from napari_almadet.catalogue.detections import Detections, brightness_unit, channel_width
from napari_almadet.catalogue.export import ExchangeError, replacing
from napari_almadet.inspection.apertures import Aperture, LineModel, corrected, extract, has_gaussians
from napari_almadet.inspection.axes import SpectralAxis, spectral_axes
from napari_almadet.inspection.describe import facts, mid_channel, readable, unit_text
from napari_almadet.inspection.geometry import beam_outline
from napari_almadet.inspection.moments import line_moments
from napari_almadet.measure.focus import Cutout, cut_out, focus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_almadet.cube.cube import Cube

FORMATS = (".png", ".pdf")
SIZE = (11.0, 7.5)  # inches
FACTS, REASONS = 7.0, 6.5  # points: size of the letters, smaller where the texts would not fit
LINE_HEIGHT = 1.28  # of a line of text, in sizes of its letters: matplotlib's, measured
MOST_TICKS = 6  # along a frequency axis: their labels have up to nine digits
ROOM_FOR_LEGEND = 1.2  # height of the spectrum including the legend, relative to the highest value
DATA, DENOISED, FIT, CORRECTED = "#333333", "#0067b0", "#b85c00", "#7a3fc0"


def candidate_figure(detections: Detections, candidate: Candidate) -> Figure:
    """A page on one candidate.

    Moment 0 is computed over the emission range, in radio velocities if known; for candidates with lines the continuum
    of each pixel is subtracted.  The line-integrated image is that of the paper and includes the continuum.
    """
    from matplotlib.figure import Figure

    # set by hand: matplotlib's layouts ignore the size of the labels of sky coordinates
    figure = Figure(figsize=SIZE)
    below = ((0.075, 0.12, 0.27, 0.33), (0.41, 0.12, 0.27, 0.33))
    cutout = cut_out(detections.cube, candidate.box, detections.settings.crop)
    _draw_spectrum(figure.add_axes((0.095, 0.58, 0.83, 0.29)), detections, candidate, cutout)
    axis, brightness = _velocity(detections), brightness_unit(detections.cube)
    width = channel_width(detections.cube, mid_channel(candidate))
    focused = focus(cutout.planes, candidate.channels) * brightness * width
    moment = line_moments(candidate, cutout, axis)[0] * brightness * axis.unit
    names = "Line-integrated image", "Moment 0" if candidate.kind == "continuum" else "Moment 0, continuum subtracted"
    for place, image, name in zip(below, (focused, moment), names, strict=True):
        axes = image_axes(figure, place, detections)
        _draw_image(axes, readable(image), detections, candidate, cutout.origin)
        axes.set_title(name, fontsize=10)
    without_vertical_labels(axes)
    write_facts(figure.add_axes((0.745, 0.08, 0.24, 0.39)), detections, candidate)
    figure.suptitle(f"{detections.cube.name}, candidate {candidate.id}", fontsize=13, fontweight="bold")
    return figure


def write_figure(detections: Detections, candidate: Candidate, path: str | Path) -> Path:
    """Write the page on one candidate as PNG or PDF, by the extension of ``path``.

    Raises
    ------
    ExchangeError
        If the ending is neither .png nor .pdf.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ExchangeError(f"{path.name}: the file name must end in {' or '.join(FORMATS)}.")
    with replacing(path) as beside:
        candidate_figure(detections, candidate).savefig(beside, format=path.suffix.lower()[1:], dpi=150)
    return path


def write_report(detections: Detections, path: str | Path, candidates: Sequence[Candidate]) -> Path:
    """Write a PDF with a page for each of some candidates.

    Raises
    ------
    ExchangeError
        If the ending is not .pdf, or there are no candidates.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    path = Path(path)
    if path.suffix.lower() != ".pdf":
        raise ExchangeError(f"{path.name}: a report is a PDF file; its name must end in .pdf.")
    if not candidates:
        raise ExchangeError("There are no candidates to report on.")
    with replacing(path) as beside, PdfPages(beside) as pages:
        for candidate in candidates:
            pages.savefig(candidate_figure(detections, candidate))
    return path


def _draw_spectrum(axes: Axes, detections: Detections, candidate: Candidate, cutout: Cutout) -> None:
    cube, n_channels = detections.cube, detections.cube.shape[0]
    edges = np.arange(n_channels + 1) - 0.5
    frequency = cube.frequency(edges)
    x = edges if frequency is None else frequency.to_value("GHz")

    def world(channel: float | list[float] | np.ndarray) -> np.ndarray:
        return np.interp(channel, edges, x)

    flux = readable(extract(cube, candidate, Aperture.BOX, cutout))
    axes.stairs(flux.value, x, color=DATA, linewidth=0.8, label="data")
    if (own := corrected(detections, candidate, flux)) is not None:
        axes.stairs(own.to_value(flux.unit), x, color=CORRECTED, linewidth=0.8, label="sidelobes subtracted")
    axes.axhline(0, color="grey", linewidth=0.6, linestyle=":")
    first, last = candidate.channels
    if (first, last) != (0, n_channels):
        axes.axvspan(*world([first - 0.5, last - 0.5]), color=FIT, alpha=0.15, linewidth=0, label="emission range")
    if has_gaussians(candidate) and np.isfinite(flux.value).any():  # on top of the continuum, as in the window
        fine = np.linspace(-0.5, n_channels - 0.5, 8 * n_channels)
        model = LineModel.of(flux.value, candidate.peaks)
        axes.plot(world(fine), model(fine), color=FIT, linewidth=1.2, linestyle="--", label="fit")
    axes.set_xlim(x.min(), x.max())
    axes.ticklabel_format(axis="x", useOffset=False)  # whole frequencies, not differences from one
    axes.locator_params(axis="x", nbins=MOST_TICKS)
    axes.set_xlabel("Channel" if frequency is None else f"Frequency (GHz{_frame(cube)})")
    axes.set_ylabel(f"Flux density ({unit_text(flux.unit)})" if unit_text(flux.unit) else "Sum")
    scale = axes.twinx()
    scale.stairs(candidate.denoised, x, color=DENOISED, linewidth=1.2, label="line probability")
    low, high = axes.get_ylim()
    axes.set_ylim(low, ROOM_FOR_LEGEND * high if high > 0 else high)
    top = 1.1 * ROOM_FOR_LEGEND
    scale.set_ylim(top * low / (ROOM_FOR_LEGEND * high) if high > 0 else -1, top)  # zeros at the same height
    scale.set_ylabel("Line probability", color=DENOISED)
    handles = [line for one in (axes, scale) for line in one.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, loc="upper right", fontsize=8, frameon=False, ncols=5)
    if (velocity := cube.velocity(edges)) is not None and frequency is not None:
        v = velocity.to_value("km/s")
        slope = (v[-1] - v[0]) / (x[-1] - x[0])  # a radio velocity is linear in frequency
        second = axes.secondary_xaxis(
            "top", functions=(lambda f: v[0] + slope * (f - x[0]), lambda k: x[0] + (k - v[0]) / slope)
        )
        second.set_xlabel("Radio velocity (km/s)")


def _velocity(detections: Detections) -> SpectralAxis:
    """Spectral axis of a moment: radio velocity if known, else frequency or channel."""
    axes = spectral_axes(detections.cube)
    return next((axis for axis in axes if axis.unit == u.km / u.s), axes[0])


def _frame(cube: Cube) -> str:
    frame = cube.wcs.wcs.specsys if cube.wcs is not None else ""
    return f", {frame}" if frame else ""


def image_axes(figure: Figure, place: tuple[float, float, float, float], detections: Detections) -> Axes:
    """Axes with sky coordinates if the cube has them."""
    wcs = detections.cube.celestial
    if wcs is None:
        axes = figure.add_axes(place)
        axes.set_xlabel("x (pixel)")
        axes.set_ylabel("y (pixel)")
        return axes
    axes = figure.add_axes(place, projection=wcs)
    for coordinate, name in zip(cast("Any", axes).coords, wcs.wcs.ctype, strict=True):
        coordinate.set_ticklabel(size=7, exclude_overlapping=True)
        coordinate.set_ticks(number=3)
        coordinate.set_axislabel(name.split("-")[0].title().replace("Ra", "RA"), size=8)
    return axes


def without_vertical_labels(axes: Axes) -> None:
    """Hide the labels of the vertical sky coordinate, which are those of the image to the left."""
    coordinates = getattr(axes, "coords", None)  # only axes with sky coordinates have them
    if coordinates is not None:
        coordinates[1].set_ticklabel_visible(False)
        coordinates[1].set_axislabel(" ")


def _draw_image(
    axes: Axes, quantity: u.Quantity, detections: Detections, candidate: Candidate, origin: tuple[int, int]
) -> None:
    """Draw an image of the candidate with its box and the beam."""
    from matplotlib.patches import Polygon, Rectangle

    image, (y0, x0) = quantity.value, origin
    ny, nx = image.shape
    finite = image[np.isfinite(image)]
    low, high = (np.percentile(finite, 1), finite.max()) if finite.size else (0, 1)
    extent = (x0 - 0.5, x0 + nx - 0.5, y0 - 0.5, y0 + ny - 0.5)
    shown = axes.imshow(image, origin="lower", extent=extent, cmap="inferno", vmin=low, vmax=high)
    axes.set_facecolor("grey")
    box = candidate.box
    corner, (height, width) = (box.x0 - 0.5, box.y0 - 0.5), box.shape
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=1.2))
    if (outline := beam_outline(detections.cube, *candidate.position)) is not None:
        centre = x0 + 0.12 * nx, y0 + 0.12 * ny
        axes.add_patch(Polygon(outline + centre, facecolor="#ffffff70", edgecolor="white", linewidth=0.8))
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
    channels = f"channels {candidate.channels[0]} to {candidate.channels[1] - 1}"
    unit = unit_text(quantity.unit)
    bar.set_label(f"{channels} ({unit})" if unit else channels, fontsize=7)
    bar.ax.tick_params(labelsize=7)


def write_facts(axes: Axes, detections: Detections, candidate: Candidate) -> None:
    """Write the measured values of a candidate and the decisions about it."""
    axes.axis("off")
    rows = [*facts(detections, candidate), ("Verdict", candidate.verdict)]
    if candidate.redshifts:
        rows.append(("Redshift", fill(candidate.redshifts.split(";")[0], 34)))
    elif candidate.line_ids:
        rows.append(("Lines", fill(shorten(candidate.line_ids, 100, placeholder=" ..."), 34)))
    if candidate.note:
        rows.append(("Note", fill(candidate.note, 34)))
    lines = "\n".join(f"{name:<12}{value}".replace("\n", "\n" + 12 * " ") for name, value in rows)
    why = "\n".join(fill(reason, 48, initial_indent="· ", subsequent_indent="  ") for reason in candidate.reasons)
    room = axes.get_window_extent().height / axes.figure.dpi * 72
    used, needed = (LINE_HEIGHT * size * (text.count("\n") + 2) for size, text in ((FACTS, lines), (REASONS, why)))
    scale = min(1.0, room / (used + needed))
    style: dict[str, Any] = {"va": "top", "parse_math": False, "transform": axes.transAxes}
    axes.text(0, 1, lines, family="monospace", fontsize=scale * FACTS, **style)
    axes.text(0, 1 - scale * used / room, why, fontsize=scale * REASONS, color="#555555", **style)
