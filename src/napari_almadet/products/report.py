"""A result as one self-contained HTML page: field, table, a panel for each candidate, settings, warnings."""

from __future__ import annotations

import base64
import json
from collections.abc import Generator, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from napari_almadet.catalogue.candidate import Candidate, Status
from napari_almadet.catalogue.detections import Detections, brightness_unit, source_names
from napari_almadet.catalogue.export import replacing
from napari_almadet.inspection.describe import DASH, facts, number, readable, unit_text
from napari_almadet.measure.noise import noise_of
from napari_almadet.products.field import PIXELS_PER_BEAM
from napari_almadet.products.figure import image_axes
from napari_almadet.products.page import draw_image, draw_spectrum, small_figure
from napari_almadet.products.source_products import Scales, mask_of, source_data, spectrum_of, sums_of
from napari_almadet.progress import Progress, in_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELD_WIDTH, FIELD_HEIGHTS = 7.0, (2.5, 9.0)  # inches
SPECTRUM_SIZE, IMAGE_SIZE = (5.2, 2.5), (3.2, 3.2)  # inches: small, so that the text is large enough on a phone
DPI = 140  # pixels per inch; chosen by eye
MOST_FIELD_PIXELS = 1500  # along a side of the picture of the field; larger fields are subsampled
COLOURS = {Status.KEPT: "#00b4d8", Status.FLAGGED: "#ffb000", Status.DROPPED: "#888888"}
REPORT = "report.html"

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 0 1rem 3rem; max-width: 75rem; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
h3 { font-size: 1.05rem; margin: 0; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
.list th, .list td { white-space: nowrap; padding: 0.25rem 0.4rem; }
.list th { font-size: 0.9rem; }
td.n, th.n { text-align: right; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\25b2"; }
th[aria-sort=descending] button::after { content: " \\25bc"; }
article { border: 1px solid var(--line); border-radius: 6px; padding: 0.8rem; margin: 1rem 0; }
.panel { display: grid; gap: 0.8rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 60rem) { .panel { grid-template-columns: minmax(0, 1.7fr) minmax(0, 1fr); } }
.facts td { border: 0; padding: 0 0.8rem 0 0; overflow-wrap: anywhere; }
.facts td:first-child { opacity: 0.7; white-space: nowrap; }
.warning { border-left: 4px solid #ffb000; padding: 0.1rem 0.4rem; background: var(--soft); }
ul { padding-left: 1.2rem; }
.small { font-size: 0.85rem; opacity: 0.8; overflow-wrap: anywhere; }
.flagged { color: #b87800; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="small">$origin</p>
<p>$summary</p>
$warnings
<h2>Field</h2>
$field
<p class="small">Sum over all channels (dark is bright) with the outlines of the masks (boxes where there is no
mask): blue kept, orange flagged, grey dropped.</p>
<h2>Candidates</h2>
$table
$panels
<h2>Settings</h2>
$settings
<script>
for (const table of document.querySelectorAll("table.list")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const isNumber = head.classList.contains("n");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (!isNumber) return x.localeCompare(y) * (down ? -1 : 1);
      if (x === "" || y === "") return (x === "") - (y === "");
      return (x - y) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  }));
}
</script>
</body>
</html>
""")


@in_steps
def write_html(
    detections: Detections, path: str | Path, candidates: Sequence[Candidate] | None = None
) -> Generator[Progress, None, Path]:
    """Write a result as one HTML page that contains all its pictures.

    Parameters
    ----------
    detections
        With the cube.
    candidates
        Candidates to include; default: the kept ones.

    Returns
    -------
    pathlib.Path
        The file; an existing one is replaced once the new one is complete.
    """
    path, cube = Path(path), detections.cube
    chosen = detections.kept if candidates is None else list(candidates)
    if detections.noise is None:
        detections.noise = yield from noise_of.steps(cube, cube.beam_fwhm or PIXELS_PER_BEAM)
    scales, panels = Scales.of(cube), []
    titles = source_names(cube, *np.array([c.position for c in chosen], dtype=float).reshape(-1, 2).T)
    for done, (candidate, title) in enumerate(zip(chosen, titles, strict=True)):
        yield Progress("Writing the report", done, len(chosen))
        panels.append(_panel(detections, candidate, scales, title))
    page = PAGE.substitute(
        title=escape(cube.name),
        origin=escape(_origin(detections)),
        summary=escape(_summary(detections, chosen)),
        warnings=_warnings(detections),
        field=_picture(_field(detections, chosen), "The field with the masks of its sources"),
        table=_table(detections, chosen),
        panels="\n".join(panels),
        settings=_settings(detections),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.write_text(page, encoding="utf-8")
    return path


# --- parts of the page ---------------------------------------------------------------------------------------------


def _origin(detections: Detections) -> str:
    origin = detections.provenance
    version, date = origin.get("version", ""), origin.get("date", "")
    file = origin.get("cube", {}).get("path", "")
    return ", ".join(text for text in (f"napari-almadet {version}".strip(), date, file) if text)


def _summary(detections: Detections, chosen: Sequence[Candidate]) -> str:
    cube = detections.cube
    channels, ny, nx = cube.shape
    dropped = len(detections.candidates) - len(detections.kept)
    words = {1: "1 candidate"}.get(len(chosen), f"{len(chosen)} candidates")
    parts = [f"{words}; {dropped} dropped. Cube of {nx} x {ny} pixels and {channels} channels"]
    if cube.beam is not None:
        major, minor = (axis.to_value(u.arcsec) for axis in (cube.beam.major, cube.beam.minor))
        parts.append(f"beam {major:.3g} x {minor:.3g} arcsec at {cube.beam.pa.to_value(u.deg):.0f} degrees")
    noise = detections.noise
    if noise is not None and np.isfinite(noise.rms).any():
        rms = readable(float(np.nanmedian(noise.rms)) * brightness_unit(cube))
        parts.append(f"noise {rms.value:.3g} {unit_text(rms.unit)} per channel".replace("  ", " "))
    return ", ".join(parts) + "."


def _warnings(detections: Detections) -> str:
    notes = [*detections.cube.notes, *detections.warnings, *detections.notes]
    if not notes:
        return ""
    return f'<div class="warning"><ul>{"".join(f"<li>{escape(text)}</li>" for text in notes)}</ul></div>'


def _settings(detections: Detections) -> str:
    rows = [(name, "" if value is None else str(value)) for name, value in detections.settings.as_dict().items()]
    more = {name: value for name, value in detections.provenance.items() if name != "cube"}
    rows += [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in more.items()]
    rows += [(f"cube {name}", str(value)) for name, value in detections.provenance.get("cube", {}).items()]
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table class="facts">{cells}</table></div>'


def _table(detections: Detections, chosen: Sequence[Candidate]) -> str:
    """A row for each candidate; a click on a heading sorts the table."""
    if not chosen:
        return "<p>No candidate.</p>"
    table, flux = detections.table(chosen), unit_text(detections.flux_unit)
    density = readable(np.asarray(table["f_cont"].value) * table["f_cont"].unit)
    columns: list[tuple[str, bool, list[str], list[str]]] = []

    def numbers(title: str, values: np.ndarray, form: str, texts: list[str] | None = None) -> None:
        shown = [number(float(value), form) for value in values] if texts is None else texts
        if np.isfinite(values).any():
            columns.append((title, True, [repr(float(v)) if np.isfinite(v) else "" for v in values], shown))

    def words(title: str, values: Sequence[str]) -> None:
        if any(values):
            columns.append((title, False, list(values), list(values)))

    def plain(name: str) -> np.ndarray:
        return np.asarray(getattr(table[name], "value", table[name]), dtype=float)

    numbers("id", plain("id"), ".0f", [f'<a href="#c{c.id}">{c.id}</a>' for c in chosen])
    if detections.cube.celestial is not None:
        numbers("RA (deg)", plain("ra"), ".5f")
        numbers("Dec (deg)", plain("dec"), ".5f")
    else:
        numbers("x", plain("x"), ".1f")
        numbers("y", plain("y"), ".1f")
    numbers("Frequency (GHz)", plain("freq") / 1e9, ".5f")
    numbers("Velocity (km/s)", plain("v_rad"), ".1f")
    numbers(f"Flux ({flux})", plain("f_sum"), ".4g")
    numbers("Error", plain("err_f_sum"), ".2g")
    numbers(f"Continuum ({unit_text(density.unit)})", np.asarray(density.value), ".4g")
    numbers(f"w50 ({unit_text(detections.width_unit) or detections.width_unit})", plain("w50"), ".4g")
    numbers("Peak S/N", plain("snr_pixel"), ".1f")
    numbers("Probability", plain("prob"), ".2f")
    numbers("Reliability", plain("rel"), ".2f")
    words("Kind", [c.kind for c in chosen])
    words("Status", [str(c.status) for c in chosen])
    words("Verdict", [c.verdict for c in chosen])
    words("Redshifts", [c.redshifts.split(";")[0] for c in chosen])
    words("Note", [c.note for c in chosen])
    heads = "".join(
        f'<th{" class=n" if is_number else ""}><button type="button">{escape(title)}</button></th>'
        for title, is_number, _, _ in columns
    )
    rows = []
    for row in range(len(chosen)):
        cells = []
        for title, is_number, values, shown in columns:
            text = shown[row] if title == "id" else escape(shown[row])
            mark = f' class="n" data-value="{escape(values[row])}"' if is_number else ""
            cells.append(f"<td{mark}>{text}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table class="list"><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def _panel(detections: Detections, candidate: Candidate, scales: Scales, title: str) -> str:
    """Spectrum, moment 0, numbers and decisions of a candidate."""
    data = source_data(detections, candidate, detections.noise)
    spectrum = spectrum_of(data, scales, detections.noise)
    first = small_figure(SPECTRUM_SIZE)
    draw_spectrum(first.add_axes((0.135, 0.2, 0.83, 0.75)), detections, data, spectrum)
    second = small_figure(IMAGE_SIZE)
    axes = image_axes(second, (0.26, 0.14, 0.7, 0.68), detections)
    brightness = brightness_unit(detections.cube)
    if data.mask.any():
        sums = sums_of(data, scales, detections.noise)
        draw_image(axes, detections, data, sums.moments()[0], brightness * scales.unit, "Moment 0", sums.snr)
    else:
        draw_image(axes, detections, data, data.continuum, brightness, "Continuum", None)
    rows = [(name, value.replace("\n", " ")) for name, value in facts(detections, candidate)]
    rows += [("Lines", candidate.line_ids), ("Redshifts", candidate.redshifts)]
    rows += [("Verdict", candidate.verdict), ("Note", candidate.note)]
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows if value and value != DASH
    )
    why = "".join(f"<li>{escape(reason)}</li>" for reason in candidate.reasons)
    what = "Moment 0 with contours of 3, 6, 12 ... sigma" if data.mask.any() else "Continuum"
    return f"""<article id="c{candidate.id}">
<h3>{candidate.id} <span class="small">{escape(title)}</span>{_flag(candidate)}</h3>
<div class="panel">
<div>{_picture(first, f"Spectrum of candidate {candidate.id}")}</div>
<div>{_picture(second, f"{what} of candidate {candidate.id}")}</div>
<div class="wide"><table class="facts">{cells}</table></div>
<ul class="small">{why}</ul>
</div>
</article>"""


def _flag(candidate: Candidate) -> str:
    return "" if candidate.status is Status.KEPT else f' <span class="flagged">{escape(str(candidate.status))}</span>'


def _top_of(footprint: np.ndarray, x0: int, y0: int) -> tuple[float, float]:
    """Position (x, y) just above the topmost pixels of a mask: its bounds' corner may lie in another source."""
    row = int(np.flatnonzero(footprint.any(axis=1))[-1])
    return x0 + float(np.flatnonzero(footprint[row]).mean()), float(y0 + row + 1)


# --- pictures ------------------------------------------------------------------------------------------------------


def _picture(figure: Figure, words: str) -> str:
    """A figure as an image in the page."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{text}">'


def _field(detections: Detections, chosen: Sequence[Candidate]) -> Figure:
    """The stacked image with the outlines of all masks, and of the boxes of sources without one."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    image = detections.stacked
    height = float(np.clip(0.82 * FIELD_WIDTH * image.shape[0] / image.shape[1] + 0.7, *FIELD_HEIGHTS))
    figure = small_figure((FIELD_WIDTH, height))
    axes = image_axes(figure, (0.13, 0.55 / height, 0.82, 1 - 0.7 / height), detections)
    thin = max(1, int(np.ceil(max(image.shape) / MOST_FIELD_PIXELS)))
    shown, (ny, nx) = image[::thin, ::thin], image.shape
    finite = shown[np.isfinite(shown)]
    low, high = (np.percentile(finite, 1), np.percentile(finite, 99.7)) if finite.size else (0, 1)
    extent = (-0.5, nx - 0.5, -0.5, ny - 0.5)
    axes.imshow(shown, origin="lower", extent=extent, cmap="gray_r", vmin=low, vmax=high)
    for candidate in chosen:
        colour, box = COLOURS[candidate.status], candidate.box
        mask = mask_of(detections, candidate) if candidate.mask is not None else None
        if mask is not None:
            footprint = np.pad(mask.footprint.astype(float), 1)
            _, y, x = mask.slices
            place = np.arange(x.start - 1, x.stop + 1), np.arange(y.start - 1, y.stop + 1)
            axes.contour(*place, footprint, [0.5], colors=colour, linewidths=1.1)
        else:
            corner = box.x0 - 0.5, box.y0 - 0.5
            tall, wide = box.shape
            axes.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=1.1))
        middle, top = _top_of(mask.footprint, x.start, y.start) if mask is not None else ((box.x0 + box.x1) / 2, box.y1)
        label = axes.text(middle, min(top, ny), str(candidate.id), color=colour, fontsize=9, fontweight="bold")
        label.set_horizontalalignment("center")
        label.set_verticalalignment("bottom" if top < 0.95 * ny else "top")
        label.set_path_effects([Stroke(linewidth=2, foreground="white"), Normal()])
    axes.set_xlim(-0.5, nx - 0.5)
    axes.set_ylim(-0.5, ny - 0.5)
    return figure
