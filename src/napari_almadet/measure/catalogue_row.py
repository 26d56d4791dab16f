"""Write the measured values of a source into its candidate, in the units of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from astropy.stats import gaussian_sigma_to_fwhm

from napari_almadet.catalogue.candidate import FLAGS, Box, Candidate, EmissionPeak, SourceMask, Status
from napari_almadet.catalogue.detections import channel_width, flux_factor
from napari_almadet.constants import PRESENT
from napari_almadet.measure.cutout import Cutout, Seed, level_of
from napari_almadet.measure.gaussian_fit import beam_matrix, ellipse, on_sky, sky_matrix
from napari_almadet.measure.mask_shape import MaskShape, shape_of
from napari_almadet.measure.measurement import Measured, Scale, line_in, measure_source, weights_of_mask
from napari_almadet.measure.planes import bounds as bounds_of
from napari_almadet.measure.spectra import off_line

if TYPE_CHECKING:
    from napari_almadet.cube.cube import Cube
    from napari_almadet.measure.noise import Noise

# Sigma, the same for a line that Line Finder missed: higher, as it is the best of many trial lines; by eye
UNSEEN = 6.0


@dataclass(frozen=True, eq=False)
class Axis:
    """What fluxes need to know of the channels of a cube.

    Attributes
    ----------
    factor
        From sums over pixels to flux densities, (channels,).
    frequency
        In Hz, (channels,); None if unknown.
    widths
        Of a channel centred on every half channel, the first on 0, in the unit of `channel_width`: (2 channels - 1,).
    """

    factor: np.ndarray
    frequency: np.ndarray | None
    widths: np.ndarray


_axes: WeakKeyDictionary[Cube, Axis] = WeakKeyDictionary()  # by cube: astropy takes 2 ms for the axis of one candidate


def axis_of(cube: Cube) -> Axis:
    """The channels of a cube; the WCS is asked once for each cube."""
    axis = _axes.get(cube)
    if axis is None:
        number = np.arange(cube.shape[0])
        factor = np.broadcast_to(flux_factor(cube, number)[0], number.shape).astype(float)
        frequency = cube.frequency(number)
        halves = np.arange(2 * cube.shape[0] - 1) / 2
        widths = np.broadcast_to(channel_width(cube, halves).value, halves.shape)
        for shared in (factor, widths):
            shared.flags.writeable = False
        axis = _axes[cube] = Axis(factor, None if frequency is None else frequency.value, widths)
    return axis


def scale_of(cube: Cube, x: float, y: float, channels: tuple[int, int], fwhm: float) -> Scale:
    """Conversion factors from sums around a pixel to fluxes.

    Parameters
    ----------
    channels
        Half-open range; the beam is that of its middle channel.
    fwhm
        Of the beam in pixels, used if the header gives none.
    """
    axis, n_channels = axis_of(cube), cube.shape[0]
    to_sky = sky_matrix(cube, x, y)
    if to_sky is None or cube.beam is None:
        beam = np.eye(2) * (fwhm / gaussian_sigma_to_fwhm) ** 2
        areas = np.full(n_channels, 2 * np.pi * np.sqrt(np.linalg.det(beam)))
    else:
        to_pixels = np.linalg.inv(to_sky)
        beam = to_pixels @ beam_matrix(beam_at(cube, sum(channels) // 2)) @ to_pixels.T
        areas = np.full(n_channels, 2 * np.pi * np.sqrt(np.linalg.det(beam)))
        if cube.beams is not None and not cube.beams.isscalar:
            own = np.asarray(cube.beams.value)
            areas = areas * np.where(own > 0, own, cube.beam.value) / beam_at(cube, sum(channels) // 2).value
    return Scale(beam, areas, axis.factor, float(axis.widths[channels[0] + channels[1] - 1]), axis.frequency)


def beam_at(cube: Cube, channel: int) -> Any:
    """The beam of a channel, or the cube's representative beam if the table has none for it."""
    if cube.beams is None or cube.beams.isscalar:
        return cube.beam
    beam = cube.beams[min(channel, cube.shape[0] - 1)]
    return beam if beam.value > 0 else cube.beam


def measure_candidate(
    candidate: Candidate,
    cube: Cube,
    cutout: Cutout,
    seeds: Sequence[Seed],
    me: int,
    fwhm: float,
    merge: bool = False,
    thorough: bool = True,
) -> Measured:
    """Measure a source and write it into its candidate.

    Parameters
    ----------
    cutout
        Around the source, with noise and level.
    seeds, me
        Detections in the cutout, and which of them this is.
    fwhm
        Of the beam in pixels.
    merge, thorough
        As for :func:`~napari_almadet.measure.measurement.measure_source`.
    """
    seed = seeds[me]
    scale = scale_of(cube, seed.x, seed.y, seed.channels, fwhm)
    made = measure_source(cutout, seeds, me, scale, merge, thorough)
    if not seed.lines and thorough:
        line = line_in(made, cutout, scale, UNSEEN)
        if line is not None:
            seed, again = with_line(seed, line, candidate, cube.shape[0]), list(seeds)
            again[me] = seed
            made = measure_source(cutout, again, me, scale, merge, thorough)
    write(candidate, cube, cutout, seed, scale, made)
    if thorough:
        candidate.blended = candidate.blended or made.blended
    return made


def boxed_flux(candidate: Candidate, cutout: Cutout, made: Measured) -> float:
    """Sum of the line or continuum over a candidate's box and emission range; it is negative for bowls."""
    planes = cutout.values if candidate.kind == "continuum" or made.lines is None else made.lines
    box, (ny, nx) = cutout.local(candidate.box), planes.shape[1:]
    part = planes[slice(*candidate.channels), max(box.y0, 0) : min(box.y1, ny), max(box.x0, 0) : min(box.x1, nx)]
    return float(part.sum(dtype=float))


def with_line(seed: Seed, line: tuple[float, float], candidate: Candidate, n_channels: int) -> Seed:
    """Add a line (centre, FWHM) found in the spectrum of a source to its detection and its candidate."""
    centre, fwhm = line
    channel = int(np.clip(round(centre), 0, n_channels - 1))
    height = float(candidate.denoised[channel]) if len(candidate.denoised) else np.nan
    peak = EmissionPeak(channel, height, np.nan, centre, fwhm)
    candidate.peaks, candidate.channels = (peak,), peak.emission_range(n_channels)
    candidate.decide("line_in_own_spectrum", centre=centre, fwhm=fwhm, least=UNSEEN)
    return replace(seed, lines=(line,), channels=candidate.channels)


def write(candidate: Candidate, cube: Cube, cutout: Cutout, seed: Seed, scale: Scale, made: Measured) -> None:
    """Write all measured values into a candidate; NaN for those that were not measured."""
    for name in NUMBERS:
        setattr(candidate, name, np.nan)
    line = bool(seed.lines) and made.line_snr >= PRESENT
    continuum = made.continuum_snr >= PRESENT
    if line or continuum:
        candidate.kind = "both" if line and continuum else "line" if line else "continuum"
    line = candidate.kind != "continuum" and bool(seed.lines)
    if not line:
        candidate.peaks, candidate.channels = (), (0, cube.shape[0])
    candidate.method = made.method
    y0, x0 = cutout.origin
    x, y, candidate.err_x, candidate.err_y = made.place
    known_place = np.isfinite(x) and np.isfinite(y)
    candidate.x, candidate.y = (float(x + x0), float(y + y0)) if known_place else (seed.x, seed.y)
    mask = made.parts.mask if line else None
    shape = None
    if mask is not None and mask.any():
        planes = cutout.values if made.lines is None else made.lines
        shape = shape_of(cutout, planes, mask)
        _write_mask(candidate, cutout, mask, planes, made, cube)
    else:
        candidate.mask, candidate.n_pix, candidate.flag = None, 0, 0
        _write_extremes(candidate, cutout)
    if made.method == "mask" and shape is not None:
        candidate.x, candidate.y = shape.centre[0] + x0, shape.centre[1] + y0
        candidate.err_x, candidate.err_y = shape.centre_errors
    candidate.decisions = [decision for decision in candidate.decisions if decision.rule != "further_lines"]
    if line:
        _write_line(candidate, scale, made)
        if made.further and candidate.status is not Status.DROPPED:  # the last reason of those is why
            candidate.flag |= FLAGS["further lines"]
            candidate.decide("further_lines", channels=", ".join(f"{centre:.0f}" for centre, _ in made.further))
    if continuum or not line:  # so that each row has a flux
        candidate.f_cont, candidate.err_f_cont = made.continuum, made.err_continuum
    if continuum:
        candidate.alpha, candidate.err_alpha = made.index, made.err_index
    _write_corrected_errors(candidate, cutout, made, scale, cube)
    if not line:
        candidate.peak, candidate.err_peak = made.continuum_peak, made.err_continuum_peak
    _write_size(candidate, cube, scale, made)
    if shape is not None:
        _write_shape(candidate, cube, shape)
    at = int(np.clip(np.nan_to_num(candidate.z, nan=cube.shape[0] // 2), 0, cube.shape[0] - 1))
    place = (
        int(np.clip(candidate.y - y0, 0, cutout.level.shape[0] - 1)),
        int(np.clip(candidate.x - x0, 0, cutout.level.shape[1] - 1)),
    )
    rms = cutout.noise.rms[at]
    if not np.isfinite(rms) and np.isfinite(cutout.noise.rms).any():
        rms = np.nanmedian(cutout.noise.rms)
    candidate.rms = float(rms * cutout.level[place])


NUMBERS = (
    *("x", "y", "z", "err_x", "err_y", "err_z", "f_sum", "err_f_sum", "pb"),
    *("f_sum_all", "err_f_sum_all"),
    *("f_max", "f_min", "x_peak", "y_peak", "z_peak"),
    *("err_f_sum_pb", "err_f_cont_pb"),
    *("f_cont", "err_f_cont", "alpha", "err_alpha", "peak", "err_peak", "w20", "err_w20", "w50", "err_w50"),
    *("wm50", "err_wm50", "fwhm", "err_fwhm", "z_fit", "err_z_fit", "chi2_fit"),
    *("dc_maj", "err_dc_maj", "dc_min", "err_dc_min", "dc_pa", "err_dc_pa", "dc_limit"),
    *("ell_maj", "err_ell_maj", "ell_min", "err_ell_min", "ell_pa", "err_ell_pa"),
    *("ell3s_maj", "ell3s_min", "ell3s_pa", "kin_pa", "err_kin_pa", "rms"),
)


def _write_line(candidate: Candidate, scale: Scale, made: Measured) -> None:
    width = scale.width
    candidate.z, candidate.err_z = made.z, made.err_z
    candidate.f_sum, candidate.err_f_sum = made.flux, made.err_flux
    candidate.f_sum_all = made.flux + made.flux_further
    candidate.err_f_sum_all = float(np.hypot(made.err_flux, made.err_flux_further))
    candidate.peak, candidate.err_peak = float(made.peak), float(made.err_peak)
    for name, (value, error) in made.widths.items():
        setattr(candidate, name, value * width)
        setattr(candidate, f"err_{name}", error * width)
    if made.single is not None and made.method != "mask":  # it was fitted where the source is no Gaussian
        (_, candidate.z_fit, fwhm), (_, variance, of_fwhm) = made.single.parameters[0], np.diag(made.single.covariance)
        candidate.z_fit, candidate.err_z_fit = float(candidate.z_fit), float(np.sqrt(variance))
        candidate.fwhm, candidate.err_fwhm = float(fwhm * width), float(np.sqrt(of_fwhm) * width)
        candidate.chi2_fit = made.single.chi2
    gaussian = made.method != "mask" and (made.line is None or len(made.line.parameters) == 1)
    if not gaussian and made.channels[1] > made.channels[0]:
        candidate.channels = made.channels


def _baseline(cutout: Cutout, made: Measured, place: tuple[slice, slice]) -> np.ndarray:
    """Mean of the line-free voxels of the pixels of a place, as it is taken off for the sum of a mask; 0 if unknown."""
    y, x = place
    rest = made.parts.rest[:, y, x]
    total = np.where(rest, cutout.values[:, y, x], 0).sum(axis=0, dtype=float)
    return (total / np.maximum(rest.sum(axis=0), 1) * made.parts.has_continuum).astype(np.float32)


def _write_mask(
    candidate: Candidate, cutout: Cutout, mask: np.ndarray, planes: np.ndarray, made: Measured, cube: Cube
) -> None:
    """Write the mask, cropped to its bounds, its number of voxels, its brightest voxel and its flag."""
    bounds = bounds_of(mask)
    origin = (bounds[0].start, bounds[1].start + cutout.origin[0], bounds[2].start + cutout.origin[1])
    inside = mask[bounds]
    candidate.mask = SourceMask(origin, inside.copy(), _baseline(cutout, made, (bounds[1], bounds[2])))
    candidate.n_pix = int(np.count_nonzero(inside))
    values = np.where(inside, planes[bounds], np.nan)
    candidate.f_max, candidate.f_min = float(np.nanmax(values)), float(np.nanmin(values))
    peak = np.unravel_index(int(np.nanargmax(values)), values.shape)
    candidate.z_peak, candidate.y_peak, candidate.x_peak = (float(p + o) for p, o in zip(peak, origin, strict=True))
    flag = 0
    ends = [(o, o + n, length) for o, n, length in zip(origin, inside.shape, cube.shape, strict=True)]
    near = np.pad(inside, 1)
    about = near | np.roll(near, 1, 1) | np.roll(near, -1, 1) | np.roll(near, 1, 2) | np.roll(near, -1, 2)
    wider = tuple(slice(max(b.start - 1, 0), b.stop + 1) for b in bounds)
    about = about[tuple(slice(1 - min(b.start, 1), None) for b in bounds)][
        tuple(slice(0, min(w.stop, n) - w.start) for w, n in zip(wider, mask.shape, strict=True))
    ]
    unknown = ~cutout.known[wider] & about
    if any(first == 0 or last == length for first, last, length in ends[1:]) or unknown.any():
        flag |= FLAGS["spatial edge"]
    if ends[0][0] == 0 or ends[0][1] == ends[0][2]:
        flag |= FLAGS["spectral edge"]
    if not cutout.known[bounds][inside].all():
        flag |= FLAGS["no data"]
    if (made.parts.others[wider] & about).any():
        flag |= FLAGS["other source"]
    candidate.flag = flag
    if made.method == "mask":
        y, x = bounds[1:]
        candidate.box = cutout.world(Box(y.start, y.stop, x.start, x.stop))
        candidate.pb = response_over(candidate, cube, np.nansum(values, axis=0, dtype=float))


def _write_corrected_errors(candidate: Candidate, cutout: Cutout, made: Measured, scale: Scale, cube: Cube) -> None:
    """Write the errors of a mask's fluxes after correction for the primary beam: each voxel's noise over its response.

    Of a corrected cube the noise itself rises outwards, and the errors follow from it.  Only what is summed over a
    mask has a ``pb`` here; errors of other sources are corrected by the response at their place.
    """
    beam = cube.primary_beam
    if beam is None or beam.corrected or candidate.mask is None or not np.isfinite(candidate.pb):
        return
    (y0, x0), (ny, nx) = cutout.origin, cutout.level.shape
    first, n = candidate.mask.origin[0], candidate.mask.voxels.shape[0]
    response = beam.plane(first + n // 2, slice(y0, y0 + ny), slice(x0, x0 + nx))
    undone = np.where(np.isfinite(response), 1 / response, 0)  # what has no response is not in the corrected flux
    variance = cutout.noise.variance(weights_of_mask(made.parts, scale) * undone, cutout.level)
    candidate.err_f_sum_pb = float(np.sqrt(variance + (made.err_missed / candidate.pb) ** 2))
    footprint = made.parts.mask.any(axis=0) * cutout.level
    ratio = cutout.noise.spatial_variance(footprint * undone) / cutout.noise.spatial_variance(footprint)
    candidate.err_f_cont_pb = float(candidate.err_f_cont * np.sqrt(ratio))


def response_over(candidate: Candidate, cube: Cube, image: np.ndarray) -> float:
    """The response of the primary beam by which the flux of a mask has been, or is to be, divided; NaN without one.

    Over a large source it varies: the sum of the corrected image is that of the image over this response.

    Parameters
    ----------
    image
        Sum over the channels of the mask, in its bounds (ny, nx).
    """
    if cube.primary_beam is None or candidate.mask is None:
        return np.nan
    (first, y, x), channels = candidate.mask.origin, candidate.mask.voxels.shape[0]
    part = slice(y, y + image.shape[0]), slice(x, x + image.shape[1])
    response = cube.primary_beam.plane(first + channels // 2, *part).astype(float)
    known = np.isfinite(response) & candidate.mask.footprint
    image, response = image[known], response[known]
    if not known.any():
        return np.nan
    seen, true = (image * response, image) if cube.primary_beam.corrected else (image, image / response)
    share = float(seen.sum() / true.sum()) if true.sum() > 0 else np.nan
    return share if response.min() <= share <= response.max() else np.nan  # else noise dominates


def _write_extremes(candidate: Candidate, cutout: Cutout) -> None:
    """Write the highest and lowest voxel in box and emission range, for a source without a mask."""
    first, last = candidate.channels
    box = cutout.local(candidate.box)
    ny, nx = cutout.planes.shape[1:]
    y, x = slice(max(box.y0, 0), min(box.y1, ny)), slice(max(box.x0, 0), min(box.x1, nx))
    values = np.where(cutout.known[first:last, y, x], cutout.planes[first:last, y, x], np.nan)
    if np.isnan(values).all():
        return
    candidate.f_max, candidate.f_min = float(np.nanmax(values)), float(np.nanmin(values))
    peak = np.unravel_index(int(np.nanargmax(values)), values.shape)
    origin = (first, y.start + cutout.origin[0], x.start + cutout.origin[1])
    candidate.z_peak, candidate.y_peak, candidate.x_peak = (float(p + o) for p, o in zip(peak, origin, strict=True))


def _write_size(candidate: Candidate, cube: Cube, scale: Scale, made: Measured) -> None:
    """Write the beam-deconvolved size of a Gaussian source, or only the upper limit for a point source."""
    to_sky = sky_matrix(cube, candidate.x, candidate.y)
    if to_sky is None or cube.beam is None or made.size is None:
        return
    matrix, covariance = on_sky(*made.size, to_sky)
    beam = to_sky @ scale.beam @ to_sky.T
    size = ellipse(matrix - beam, covariance)
    candidate.dc_limit = size.limit
    if made.resolved:
        candidate.dc_maj, candidate.err_dc_maj, candidate.dc_min = size.major, size.err_major, size.minor
        candidate.err_dc_min, candidate.dc_pa, candidate.err_dc_pa = size.err_minor, size.angle, size.err_angle


def _write_shape(candidate: Candidate, cube: Cube, shape: MaskShape) -> None:
    """Write the ellipses and the direction of rotation, on the sky if the cube has sky coordinates."""
    to_sky = sky_matrix(cube, candidate.x, candidate.y)
    if to_sky is None:
        return
    if shape.matrix is not None and shape.covariance is not None:
        size = ellipse(*on_sky(shape.matrix, shape.covariance, to_sky))
        candidate.ell_maj, candidate.err_ell_maj, candidate.ell_min = size.major, size.err_major, size.minor
        candidate.err_ell_min, candidate.ell_pa, candidate.err_ell_pa = size.err_minor, size.angle, size.err_angle
    if shape.bright is not None:
        size = ellipse(*on_sky(shape.bright, np.zeros((3, 3)), to_sky))
        candidate.ell3s_maj, candidate.ell3s_min, candidate.ell3s_pa = size.major, size.minor, size.angle
    velocity = cube.velocity(np.array([0.0, 1.0]))
    if shape.rotates and velocity is not None:
        sign = np.sign(float((velocity[1] - velocity[0]).value))
        east, north = np.linalg.solve(to_sky.T, np.array(shape.gradient)) * sign
        candidate.kin_pa = float(np.degrees(np.arctan2(east, north)) % 360)
        strength = np.hypot(*np.divide(shape.gradient, shape.gradient_errors))
        candidate.err_kin_pa = float(np.degrees(min(1 / strength, np.pi / np.sqrt(3))))


def as_box(candidate: Candidate, cube: Cube, cutout: Cutout, noise: Noise) -> None:
    """Give a candidate measured in a box that the user drew its mask, which is the box, and its error.

    The error of the sum follows from its weights and the measured noise, including that of the subtracted continuum.
    """
    first, last = candidate.channels
    box = candidate.box
    voxels = np.ones((last - first, *box.shape), bool)
    candidate.method, candidate.mask = "box", SourceMask((first, box.y0, box.x0), voxels)
    candidate.n_pix, candidate.flag, candidate.parent = int(voxels.size), 0, 0
    if candidate.kind == "continuum":
        candidate.z = candidate.err_z = candidate.w20 = candidate.w50 = np.nan
    rest = off_line(candidate.peaks, cube.shape[0])
    factor = np.broadcast_to(flux_factor(cube, np.arange(cube.shape[0]))[0], cube.shape[:1]).astype(float)
    inside = np.zeros(cube.shape[0])
    inside[first:last] = factor[first:last] * channel_width(cube, (first + last - 1) / 2).value
    inside[~np.isfinite(noise.rms)] = 0
    rest = rest & np.isfinite(noise.rms)
    if candidate.kind != "continuum" and rest.any():
        inside = inside - inside.sum() * rest / rest.sum()
    local = cutout.local(box)
    known = cutout.known[:, *local.slices].any(axis=0)
    own = replace(cutout, noise=noise)
    level = level_of(own, cube.beam_fwhm or 4.0)[local.slices]
    variance = noise.spatial_variance(known * level) * noise.spectral_variance(inside)
    if variance > 0:
        candidate.err_f_sum = candidate.err_f_sum_all = float(np.sqrt(variance))
