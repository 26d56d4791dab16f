"""Repeated measurement of one candidate, in a box, emission range or mask that the user chose."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_almadet.catalogue.candidate import VERDICTS, Box, Candidate, EmissionPeak, SourceMask, Status
from napari_almadet.catalogue.detections import Detections, channel_width
from napari_almadet.cube.prepare import caveats
from napari_almadet.measure.box_measurement import measure
from napari_almadet.measure.catalogue_row import NUMBERS, as_box
from napari_almadet.measure.focus import (
    brightest_pixel,
    cut_out,
    focus,
    focused_noise,
    global_snr,
    pixel_snr,
    voxel_noise,
)
from napari_almadet.measure.noise import Noise, noise_of
from napari_almadet.measure.painted_mask import bounded, box_of, measure_in_mask
from napari_almadet.measure.spectra import extract_spectra
from napari_almadet.measure.stacking import at_edge, stack
from napari_almadet.measure.tiling import cut
from napari_almadet.paper.pipeline import focus_and_measure, frequency_denoising
from napari_almadet.progress import finish
from napari_almadet.provenance import provenance
from napari_almadet.search.line_detection import find_lines_again
from napari_almadet.search.noise_units import PIXELS_PER_BEAM
from napari_almadet.search.search_networks import SearchNetworks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.spectrum_fit import SpectrumFit
    from napari_almadet.paper.pipeline import Networks
    from napari_almadet.settings import Settings


# Quantities that change with the emission range; all others depend on the box and the fitted line.
OF_THE_RANGE = (
    *("channels", "focused", "focus_origin", "snr_global", "snr_pixel", "f_sum", "err_f_sum", "f_max"),
    *("f_sum_all", "err_f_sum_all", "method", "mask", "n_pix", "flag", "status", "origin", "decisions"),
)


MOST_BLURRED = 4.0  # pixels, used if the beam is unknown: two peaks closer than half of this are one


def move(candidate: Candidate, detections: Detections, box: Box, networks: Networks | SearchNetworks) -> Candidate:
    """Measure a candidate in another box: steps 5 to 10 of the paper with this box.

    If a line that the candidate had before is among those in the new box, it stays the first one, so that it is not
    replaced by that of a brighter neighbour.  The outcome of the selection rules is recorded in ``decisions``, but the
    candidate is not dropped, because the user wants it.

    Parameters
    ----------
    candidate
        It is not changed.
    detections
        The result it belongs to: cube, settings, stacked image and probability map.
    box
        At least partly inside the field.
    networks
        Deep GRU or Line Finder denoises the new spectrum.

    Returns
    -------
    Candidate
        A copy with the new box and new measurements.

    Raises
    ------
    ValueError
        If the box lies outside the field.
    """
    box = box.inside(detections.cube.shape[1:])
    (y0, x0), (height, width) = (box.y0, box.x0), box.shape
    # fmax gives NaN without a warning if the map is NaN, as in a cube that was not searched
    highest = float(np.fmax.reduce(detections.probability[box.slices], axis=None))
    moved = replace(
        candidate,
        box=box,
        # Judge's probability is that of the detection, not of the box; the paper's is the maximum of the map in the box
        prob=candidate.prob if isinstance(networks, SearchNetworks) else highest,
        edge=at_edge(box, detections.probability if np.isfinite(detections.probability).any() else detections.stacked),
        blended=False,
        peaks=(),
        mask=None,
        origin=_edited_origin(candidate),
        decisions=[*candidate.decisions],
    )
    moved.decide("own_box", width=width, height=height, x=x0, y=y0)
    settings = replace(detections.settings, require_line=False)
    if isinstance(networks, SearchNetworks):
        find_lines_again(moved, detections.cube, settings, networks)
    else:
        finish(frequency_denoising(detections.cube, [moved], settings, networks))
    own = [peak for peak in moved.peaks if any(peak.same_line(known) for known in candidate.peaks)]
    moved.peaks = (*own, *(peak for peak in moved.peaks if peak not in own))
    if moved.primary:
        moved.channels = moved.primary.emission_range(detections.cube.shape[0])
    return _measured(moved, detections, moved.peaks)


def refocus(candidate: Candidate, detections: Detections, channels: tuple[int, int]) -> Candidate:
    """Measure flux and image of a candidate in another range of channels; its lines do not change.

    The range selects the channels that are summed; it changes only the quantities in `OF_THE_RANGE`.  Kind, position,
    size and the fitted line with its velocity, peak and widths stay the same; use :func:`follow_line` to choose another
    line.  For a candidate without a line, the range is treated as a line, and everything is measured in it.

    Parameters
    ----------
    candidate
        It is not changed.
    detections
        The result it belongs to.
    channels
        Half-open; clipped to the cube, one channel at least.

    Returns
    -------
    Candidate
        A copy with the new range, line-integrated image, signal-to-noise ratios and flux.
    """
    n_channels = detections.cube.shape[0]
    first = min(max(channels[0], 0), n_channels - 1)
    last = min(max(channels[1], first + 1), n_channels)
    refocused = replace(
        candidate, channels=(first, last), decisions=[*candidate.decisions], origin=_edited_origin(candidate)
    )
    refocused.mask = None
    refocused.decide("own_range", first=first, last=last - 1)
    line = _placeholder_line((first, last))
    if not candidate.peaks:
        return _measured(refocused, detections, (line,))
    measured = _measured(refocused, detections, (line, *candidate.peaks), candidate.kind)
    return replace(candidate, **{name: getattr(measured, name) for name in OF_THE_RANGE})


def follow_line(candidate: Candidate, detections: Detections, peak: EmissionPeak) -> Candidate:
    """Measure a candidate on another of its lines: emission range, velocity, widths etc. are then those of that line.

    Parameters
    ----------
    peak
        One of its ``peaks``, or a line that was fitted to its spectrum; it becomes the first of them.

    Returns
    -------
    Candidate
        A copy with new measurements.
    """
    others = tuple(other for other in candidate.peaks if other != peak)
    channels = peak.emission_range(detections.cube.shape[0])
    followed = replace(candidate, peaks=(peak, *others), channels=channels, decisions=[*candidate.decisions])
    followed.origin = _edited_origin(candidate)
    followed.decide("own_line", centre=peak.centre, fwhm=peak.fwhm)
    return _measured(followed, detections, followed.peaks)


def remask(candidate: Candidate, detections: Detections, mask: SourceMask) -> Candidate:
    """Measure a candidate in a mask that the user painted.

    Box and emission range become the bounds of the mask; flux, centre, widths and shape are those of its voxels.  The
    fitted lines do not change.

    Parameters
    ----------
    candidate
        It is not changed.
    mask
        Voxels of the cube.

    Returns
    -------
    Candidate
        A copy with the mask and new measurements.

    Raises
    ------
    ValueError
        If the mask contains no voxel with data.
    """
    cube = detections.cube
    known = np.isfinite(cube.read(*mask.slices))
    kept = bounded(replace(mask, voxels=mask.voxels & known))
    if kept is None:
        raise ValueError("its mask holds no voxel with data")
    channels = kept.slices[0]
    painted = replace(candidate, box=box_of(kept), decisions=[*candidate.decisions], origin=_edited_origin(candidate))
    painted.channels = (channels.start, channels.stop)
    painted.decide("own_mask", voxels=int(np.count_nonzero(kept.voxels)), first=channels.start, last=channels.stop - 1)
    painted.spectrum = extract_spectra(cube, [painted.box])[0]
    _make_image_and_snrs(painted, detections)
    others = [c.mask for c in detections.kept if c.mask is not None and c.id != candidate.id]
    measure_in_mask(painted, cube, noise_in(detections), kept, others)
    painted.parent, painted.edge = 0, at_edge(painted.box, detections.stacked)
    if painted.status is not Status.KEPT:
        painted.decide("own_candidate", Status.KEPT)
    return painted


def take_fit(candidate: Candidate, detections: Detections, fit: SpectrumFit) -> Candidate:
    """Replace the lines of a candidate by Gaussians that the user fitted to a spectrum.

    The largest one becomes the primary line; the emission range also covers lines that overlap with it.  Velocity,
    FWHM, chi-squared and errors are those of the fit.  Flux and image are measured in the box and the range.

    Parameters
    ----------
    candidate
        It is not changed.
    fit
        With at least one Gaussian, in channels.

    Returns
    -------
    Candidate
        A copy with new measurements.

    Raises
    ------
    ValueError
        If the fit has no Gaussian.
    """
    if not len(fit.gaussians):
        raise ValueError("the fit holds no Gaussian")
    n_channels = detections.cube.shape[0]
    order = np.argsort(-np.abs(fit.gaussians[:, 0] * fit.gaussians[:, 2]))
    peaks = tuple(
        _fitted_peak(candidate, float(fit.gaussians[i, 1]), float(fit.gaussians[i, 2]), n_channels) for i in order
    )
    taken = replace(candidate, peaks=peaks, channels=_range_about(peaks, n_channels), mask=None)
    taken.decisions, taken.origin = [*candidate.decisions], _edited_origin(candidate)
    (_, centre, fwhm), (_, err_centre, err_fwhm) = fit.gaussians[order[0]], fit.errors[order[0]]
    chi2 = fit.chi2 / max(fit.freedom, 1)
    taken.decide("own_fit", count=len(peaks), centre=float(centre), fwhm=float(fwhm), chi2=chi2)
    taken = _measured(taken, detections, peaks, "both" if candidate.kind == "both" else "line")
    width = channel_width(detections.cube, float(centre)).value
    taken.z_fit, taken.err_z_fit, taken.chi2_fit = float(centre), float(err_centre), chi2
    taken.fwhm, taken.err_fwhm = float(fwhm * width), float(err_fwhm * width)
    taken.z, taken.err_z = taken.z_fit, taken.err_z_fit
    return taken


def _fitted_peak(candidate: Candidate, centre: float, fwhm: float, n_channels: int) -> EmissionPeak:
    """A line from a fit; it has no amplitude in the denoised spectrum."""
    channel = int(np.clip(round(centre), 0, n_channels - 1))
    height = float(candidate.denoised[channel]) if len(candidate.denoised) == n_channels else np.nan
    return EmissionPeak(channel, height, np.nan, float(centre), float(fwhm))


def _range_about(peaks: Sequence[EmissionPeak], n_channels: int) -> tuple[int, int]:
    """Emission range of the first line and all lines that overlap with it, directly or through other lines."""
    one, rest = [peaks[0]], list(peaks[1:])
    while more := [peak for peak in rest if any(peak.same_line(known) for known in one)]:
        one, rest = one + more, [peak for peak in rest if peak not in more]
    first, last = zip(*(peak.emission_range(n_channels) for peak in one), strict=True)
    return min(first), max(last)


def merge(
    parts: Sequence[Candidate], detections: Detections, number: int, networks: Networks | SearchNetworks
) -> Candidate:
    """Merge candidates into one, measured in the box around them; it gets their notes, and their verdict if all agree.

    Parameters
    ----------
    parts
        Two or more; they are not changed.
    number
        Its ``id``.
    """
    boxes = [part.box for part in parts]
    edges = min(b.y0 for b in boxes), max(b.y1 for b in boxes), min(b.x0 for b in boxes), max(b.x1 for b in boxes)
    peaks = tuple(peak for part in parts for peak in part.peaks)
    whole = replace(parts[0], id=number, peaks=peaks, origin="drawn", decisions=[], mask=None)
    whole.decide("merged", numbers=", ".join(str(part.id) for part in parts))
    verdicts = {part.verdict for part in parts}
    whole.verdict = verdicts.pop() if len(verdicts) == 1 else VERDICTS[0]
    whole.note = "; ".join(dict.fromkeys(part.note for part in parts if part.note))
    merged = move(whole, detections, Box(*edges), networks)
    # a line of one part may be below the noise of the whole box, but it is known
    known = tuple(peak for peak in peaks if not any(peak.same_line(found) for found in merged.peaks))
    if known and not merged.peaks:
        merged = follow_line(merged, detections, known[0])
        known = known[1:]
    merged.peaks = (*merged.peaks, *known)
    return merged


def split(
    candidate: Candidate, detections: Detections, first: int, networks: Networks | SearchNetworks
) -> list[Candidate]:
    """Split a blended candidate into several: one for each line, or else for each peak of its line-integrated image.

    Parameters
    ----------
    candidate
        It is not changed.
    first
        ``id`` of the first part.

    Raises
    ------
    ValueError
        If it has a single line and a single peak; the message says what to do.
    """
    alone = replace(candidate, origin="drawn", mask=None, blended=False)
    if len(candidate.peaks) > 1:
        parts = [follow_line(replace(alone, peaks=(peak,)), detections, peak) for peak in candidate.peaks]
    else:
        boxes = _boxes_of_peaks(candidate, detections.cube.beam_fwhm or MOST_BLURRED)
        if len(boxes) < 2:
            raise ValueError("it has only one line and one peak; draw a box around each part instead")
        parts = [move(replace(alone), detections, box, networks) for box in boxes]
    for number, part in enumerate(parts, start=first):
        part.id = number
        part.decide("split_off", ids=(candidate.id,))
    return parts


def _boxes_of_peaks(candidate: Candidate, beam: float) -> list[Box]:
    """Boxes of the parts into which a watershed divides a candidate's image, by its peaks above 3 sigma."""
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    (y0, x0), box = candidate.focus_origin, candidate.box
    if candidate.focused is None:  # its cutout did not fit into memory during the search
        return []
    image = np.nan_to_num(candidate.focused[max(box.y0 - y0, 0) : box.y1 - y0, max(box.x0 - x0, 0) : box.x1 - x0])
    sigma = focused_noise(candidate.focused, candidate.rms, candidate.channels)
    peaks = peak_local_max(image, min_distance=max(1, round(beam / 2)), threshold_abs=3 * sigma, exclude_border=False)
    markers = np.zeros(image.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    parts = watershed(-image, markers, mask=image > 2 * sigma)
    corner = max(box.y0, y0), max(box.x0, x0)
    found = [part for part in ndimage.find_objects(parts) if part is not None]
    return [Box(*(s + c for sl, c in zip(part, corner, strict=True) for s in (sl.start, sl.stop))) for part in found]


def take_in(
    detections: Detections,
    sources: Sequence[tuple[Box, tuple[int, int] | None]],
    networks: Networks | SearchNetworks,
) -> list[Candidate]:
    """Measure imported sources as candidates, see `napari_almadet.catalogue.export.read_boxes`.

    A source with a channel range is measured in that range, any other one at the line detected in its box.
    """
    taken: list[Candidate] = []
    for box, channels in sources:
        known = replace(detections, candidates=[*detections.candidates, *taken])
        candidate = known.drawn(box, "imported")
        candidate = move(candidate, detections, candidate.box, networks)
        taken.append(candidate if channels is None else refocus(candidate, detections, channels))
    return taken


def unsearched(cube: Cube, settings: Settings, networks: Networks | SearchNetworks) -> Detections:
    """An empty result for a cube that was not searched: no candidates, and a probability map of NaN."""
    stacked: np.ndarray = stack(cube)
    nowhere = np.full_like(stacked, np.nan)
    return Detections(
        cube, settings, [], stacked, nowhere, provenance(cube, settings, networks, cube.sha256()), caveats(cube)
    )


def _placeholder_line(channels: tuple[int, int]) -> EmissionPeak:
    """A line as wide as a range, so that noise and continuum are measured outside the range."""
    first, last = channels
    return EmissionPeak((first + last - 1) // 2, np.nan, np.nan, (first + last - 1) / 2, (last - first - 1) / 2)


def _make_image_and_snrs(candidate: Candidate, detections: Detections) -> None:
    """Set the line-integrated image of a candidate and the two S/N ratios in it."""
    cutout = cut_out(detections.cube, candidate.box, crop := detections.settings.crop)
    focused, local = focus(cutout.planes, candidate.channels), cutout.local(candidate.box)
    lines = (_placeholder_line(candidate.channels), *candidate.peaks)
    sigma = focused_noise(focused, voxel_noise(cutout.planes, lines), candidate.channels)
    candidate.snr_global = global_snr(focused, local, sigma)
    candidate.snr_pixel = brightest_pixel(pixel_snr(focused, sigma), local)[1]
    margin = (len(focused) - crop) // 2
    candidate.focused = cut(focused, (margin, margin), crop)
    candidate.focus_origin = (cutout.origin[0] + margin, cutout.origin[1] + margin)


def _edited_origin(candidate: Candidate) -> str:
    return "edited" if candidate.origin == "found" else candidate.origin


def _measured(
    candidate: Candidate, detections: Detections, lines: tuple[EmissionPeak, ...], kind: str | None = None
) -> Candidate:
    """Make the image of a candidate and measure it, with noise and continuum from the channels outside ``lines``.

    ``kind``: measure it as this kind of source; default: as its own.
    """
    peaks, candidate.peaks = candidate.peaks, lines
    as_published = detections.settings.preset == "paper"
    for name in () if as_published else NUMBERS:  # values of the previous box
        setattr(candidate, name, np.nan)
    cutout = focus_and_measure(candidate, detections.cube, detections.settings)
    if kind is not None and candidate.kind != kind:
        candidate.kind = kind
        measure(candidate, detections.cube, cutout)
    if not as_published:
        as_box(candidate, detections.cube, cutout, noise_in(detections))
    candidate.peaks = peaks
    if candidate.status is not Status.KEPT:
        candidate.decide("own_candidate", Status.KEPT)
    return candidate


def noise_in(detections: Detections) -> Noise:
    """The noise of the detections' cube, measured once and kept with them."""
    if detections.noise is None:
        cube = detections.cube
        detections.noise = finish(noise_of.steps(cube, cube.beam_fwhm or PIXELS_PER_BEAM))
    return detections.noise
