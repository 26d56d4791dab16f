"""Steps 4 and 5: positions from Source Finder, spectra of the sources, and the features for the classifier."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_almadet.constants import NORMAL_MAD
from napari_almadet.measure.spectra import remove_baseline
from napari_almadet.search.line_maps import (
    BAND,
    COMPRESSION,
    MAPS,
    SNRS,
    as_in_one_band,
    bands,
    bank_of,
    compress,
    lower_median,
    stack_snr,
)
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.search.raw_detection import Extent, Features, RawDetection, raw_detection

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_almadet.search.windows import Window


# The shipped weights of Judge were trained with these values, chosen by eye beforehand: changing one requires
# retraining.
ABOUT = 12.0  # beams from a candidate, along each axis, in which the deepest negatives are searched
LINE_SNR = 4.5  # minimum S/N of a line
PARENTS = 3  # number of brightest candidates whose sidelobes are considered
NO_SIDELOBE = 1.5  # beams from a source, within which there are no sidelobes, but spectra are mixed
NEIGHBOURHOOD = 8.0  # beams, in which a brighter neighbour is searched
QUIET = 512  # source-free spectra for the noise of lines; derived: its error is then 1 / sqrt(2 x 512) = 3 %
FAINT = 4.0  # S/N of the stacked image, below which a position has no source
# Noise relative to independent channels; noise smoothed over three has sqrt(3), more is due to emission in the field
MOST_SHARED = 1.75
LEAST_SPREAD = 0.5  # minimum rms of a stacked image in units of its noise; the training fields have no smaller ones
SIGMA_TO_FWHM = 2.3548  # to the digits the shipped networks were trained with
LEAST_CHANCE = 0.1  # minimum detection score of Source Finder
PIXELS_TRAINED = 4.0  # per beam; the classifier's input is centred on this value
CHANNELS_TRAINED = 100  # the same for the number of channels
N_FEATURES = 22  # input values of the classifier of compact sources
N_EXTENT_FEATURES = 42  # input values of the extent classifier
BRIGHTEST_EXTENT = 150.0  # S/N of patches over which brighter ones are as bright: few were trained with more


def centres(answer: torch.Tensor, valid: torch.Tensor, beam: float, least: float = LEAST_CHANCE) -> np.ndarray:
    """Positions of the peaks of Source Finder's output.

    Parameters
    ----------
    answer
        Its five maps, (5, ny, nx).
    valid
        Where there is data, (ny, nx).
    beam
        FWHM in pixels; of several peaks within a third of it, only the highest is used.
    least
        Lowest probability.

    Returns
    -------
    numpy.ndarray
        Rows of logit, y, x, sigma_y, sigma_x, the most likely first.
    """
    import torch

    logit = torch.where(valid, answer[0], -torch.inf)
    highest = torch.nn.functional.max_pool2d(logit[None, None], 3, stride=1, padding=1)[0, 0]
    iy, ix = torch.nonzero((logit == highest) & (logit >= float(np.log(least / (1 - least)))), as_tuple=True)
    at = answer[:, iy, ix]
    found = torch.stack([at[0], iy + at[1].clamp(-1, 1), ix + at[2].clamp(-1, 1), at[3].exp(), at[4].exp()], dim=1)
    rows = found[found[:, 0].argsort(descending=True)].cpu().numpy()
    kept: list[np.ndarray] = []
    for row in rows:
        if all(np.hypot(row[1] - k[1], row[2] - k[2]) > beam / 3 for k in kept):
            kept.append(row)
    return np.array(kept).reshape(-1, 5)


def spectra(units: NoiseUnits, rows: np.ndarray, beam: float) -> np.ndarray:
    """Spectra of sources in units of their noise, each averaged over the extent of its source.

    If the noise is correlated like the beam, the value of one pixel contains all information on a point source; for an
    extended source it is the mean weighted with its deconvolved shape.

    Parameters
    ----------
    rows
        As :func:`centres` gives them.

    Returns
    -------
    numpy.ndarray
        Shape (n, channels).
    """
    import torch

    cube = units.cube
    ny, nx = cube.shape[1:]
    beam_variance = (beam / SIGMA_TO_FWHM) ** 2
    made = np.zeros((len(rows), len(cube)), np.float32)
    for i, (_, cy, cx, sy, sx) in enumerate(rows):
        vy, vx = (max(s * s - beam_variance, 0.15) for s in (sy, sx))
        reach = int(np.ceil(2.5 * np.sqrt(max(vy, vx)))) + 1
        y = torch.arange(max(0, round(cy) - reach), min(ny, round(cy) + reach + 1), device=cube.device)
        x = torch.arange(max(0, round(cx) - reach), min(nx, round(cx) + reach + 1), device=cube.device)
        if not len(y) or not len(x):
            continue
        weight = torch.exp(-0.5 * ((y - cy) ** 2 / vy)[:, None] - 0.5 * (x - cx) ** 2 / vx)
        weight = weight * units.valid[y[:, None], x]
        # the noise is correlated like a Gaussian beam, which is a product of one along y and one along x
        along_y, along_x = (torch.exp(-((at[:, None] - at) ** 2) / (2 * beam_variance)) for at in (y, x))
        norm = (weight * (along_y @ weight @ along_x)).sum().clamp(min=1e-12).sqrt()
        made[i] = (torch.einsum("cyx,yx->c", cube[:, y[:, None], x], weight) / norm).cpu().numpy()
    return made


def part_neighbours(rows: np.ndarray, spectra: np.ndarray, beam: float) -> np.ndarray:
    """Remove the contribution of neighbours' main lobes from the spectrum of each source.

    The spectra at the centres of the sources are linear mixtures, in which source j contributes at i according to its
    Gaussian; the mixture is inverted, and the spectra are again in units of their noise.

    Parameters
    ----------
    rows, spectra
        As :func:`centres` and :func:`spectra` give them.
    """
    if len(rows) < 2:
        return spectra
    _, y, x, sigma_y, sigma_x = rows.T
    mixing = np.exp(-0.5 * (((y[:, None] - y) / sigma_y) ** 2 + ((x[:, None] - x) / sigma_x) ** 2))
    mixing[mixing < 1e-3] = 0
    noise = np.exp(-0.5 * ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (beam / SIGMA_TO_FWHM) ** 2)
    inverse = np.linalg.inv(mixing + 0.02 * np.eye(len(rows)))
    sigma = np.sqrt(np.maximum(np.diag(inverse @ noise @ inverse.T), 1e-9))
    return ((inverse @ spectra) / sigma[:, None]).astype(np.float32)


def own_lines(spectrum: np.ndarray, rms: torch.Tensor, noise: torch.Tensor | None = None) -> np.ndarray:
    """S/N of the best line in each spectrum (n, channels), as :func:`line_maps` has it: shape (n,).

    Parameters
    ----------
    noise
        Source-free spectra, (m, channels), see :func:`quiet_spectra`: if neighbouring channels are correlated, wide
        lines are noisier.  Default: independent channels.
    """
    import torch

    values = torch.as_tensor(spectrum, device=rms.device)
    samples = repeat(None) if noise is None else bands(noise.T, rms)
    best = []
    for band, sample in zip(bands(values.T, rms), samples, strict=False):
        bank = bank_of(len(band.values), band.rms, band.widths)
        snr = bank.flat(band.values).T @ bank.shapes.T
        if sample is not None:
            snr = snr / noise_factor_of_lines(bank.flat(sample.values).T @ bank.shapes.T, bank.width)
        best.append(snr.amax(dim=1))
    return as_in_one_band(torch.stack(best).amax(dim=0), len(rms)).cpu().numpy()


def noise_factor_of_lines(responses: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """Noise of the response to each template, relative to independent channels: (templates,), at least 1.

    As in :func:`~napari_almadet.search.line_maps.spreads`, without a step: with one, a change of the estimate within
    its error of 1 % would change the S/N of a line by 10 %.

    Parameters
    ----------
    responses
        Of spectra without a source to the templates, (m, templates).
    widths
        Of the templates, in channels.
    """
    import torch

    known = widths.cpu().numpy()
    factor = torch.ones_like(widths)
    for width in np.unique(known):
        rows = torch.as_tensor(np.flatnonzero(known == width), device=widths.device)
        spread = lower_median(responses[:, rows].abs()) / NORMAL_MAD
        factor[rows] = spread.clamp(1.0, MOST_SHARED)
    return factor


def quiet_spectra(units: NoiseUnits) -> torch.Tensor:
    """Spectra of up to :data:`QUIET` places without a source in the stacked image, (m, channels), in noise units."""
    import torch

    faint = units.valid & (stack_snr(units).abs() < FAINT)
    places = torch.nonzero((faint if faint.any() else units.valid).flatten())[:, 0]
    return units.cube.flatten(1)[:, places[:: max(1, len(places) // QUIET)]].T


def symmetry_and_correlation(
    rows: np.ndarray, spectra: np.ndarray, strength: np.ndarray, units: NoiseUnits, beam: float
) -> np.ndarray:
    """How similar each candidate is to a sidelobe of one of the brightest others.

    A dirty beam is point-symmetric for any weighting, and sidelobes have the spectrum of their source.

    Parameters
    ----------
    rows, spectra
        As :func:`centres` and :func:`spectra` give them.
    strength
        SNR of each, shape (n,).
    beam
        FWHM in pixels.

    Returns
    -------
    numpy.ndarray
        Shape (2, n): the fraction of a candidate's emission that is also present at the opposite position about a
        source at least twice as bright and at least :data:`NO_SIDELOBE` away, and the correlation of its spectrum with
        that source's; each is the maximum over :data:`PARENTS` sources, 0 if there are none.
    """
    import torch

    n, channels = spectra.shape
    made = np.zeros((2, n), np.float32)
    power = (spectra**2).sum(axis=1)
    own = np.sqrt(np.maximum(power - channels, 1))  # SNR of the whole spectrum, without the noise's part
    ny, nx = units.valid.shape
    bright = np.argsort(-strength)[:PARENTS]
    opposite: list[tuple[int, torch.Tensor]] = []  # read at once, since an accelerator is waited for each time
    for i, (_, y, x, _, _) in enumerate(rows):
        far = np.hypot(y - rows[bright, 1], x - rows[bright, 2]) > NO_SIDELOBE * beam
        for j in bright[far & (strength[bright] >= 2 * strength[i])]:
            made[1, i] = max(made[1, i], spectra[i] @ spectra[j] / np.sqrt(power[j]) / own[i])
            iy, ix = round(2 * rows[j, 1] - y), round(2 * rows[j, 2] - x)
            if 0 <= iy < ny and 0 <= ix < nx:
                about = units.cube[:, max(0, iy - 1) : iy + 2, max(0, ix - 1) : ix + 2].flatten(1)
                opposite.append((i, (torch.as_tensor(spectra[i], device=about.device) @ about).max()))
    if opposite:
        seen = torch.stack([value for _, value in opposite]).tolist()
        for (i, _), value in zip(opposite, seen, strict=True):
            made[0, i] = max(made[0, i], value / own[i] ** 2)
    return made.clip(0, 1.5)


def lowest_about(images: torch.Tensor, y: np.ndarray, x: np.ndarray, reach: int) -> np.ndarray:
    """Minima of the stacked image and of the line maps within ``reach`` pixels of positions (n,) along each axis.

    Shape (n, 2); read at once, since an accelerator is waited for each time.
    """
    import torch

    two = torch.stack([images[MAPS.index(name)] for name in ("stack", "negative line")])
    parts = [
        [slice(max(0, round(float(i)) - reach), round(float(i)) + reach + 1) for i in at]
        for at in zip(y, x, strict=True)
    ]
    return torch.stack([two[:, *part].amin(dim=(1, 2)) for part in parts]).cpu().numpy().astype(float)


def raw_detections(
    rows: np.ndarray,
    images: torch.Tensor,
    units: NoiseUnits,
    quiet: torch.Tensor,
    beam: float,
    window: Window,
) -> list[RawDetection]:
    """The sources at some positions of a window: the spectrum of each, without its neighbours, and its features.

    Parameters
    ----------
    rows
        As :func:`centres` gives them.
    images
        As :func:`~napari_almadet.search.line_maps.maps` gives them.
    quiet
        As :func:`quiet_spectra` gives them.
    beam
        FWHM in pixels of the window.
    """
    own = part_neighbours(rows, spectra(units, rows, beam), beam)
    flat = remove_baseline(own) if len(own) else own
    features = measure_features(rows, images, units, own, own_lines(flat, units.rms, quiet), beam)
    found = zip(rows, units.in_all_channels(own), features, strict=True)
    return [raw_detection(*one, window) for one in found]


def measure_features(
    rows: np.ndarray,
    images: torch.Tensor,
    units: NoiseUnits,
    own: np.ndarray,
    snr_own_line: np.ndarray,
    beam: float,
) -> list[Features]:
    """Features of each raw detection of a window; ``line_probability`` is not known yet.

    Parameters
    ----------
    rows
        As :func:`centres` gives them, (n, 5).
    images
        As :func:`~napari_almadet.search.line_maps.maps` gives them.
    own
        The sources' spectra, (n, channels).
    snr_own_line
        S/N of the best line in each, (n,).
    beam
        FWHM in pixels of the window.
    """
    if not len(rows):
        return []
    logit, y, x, sigma_y, sigma_x = rows.T
    snr = snr_at(images, y, x)
    strength = np.maximum(snr["stack"], snr_own_line)
    apart = np.hypot(y[:, None] - y, x[:, None] - x) / beam
    brighter = np.where((strength > strength[:, None]) & (apart < NEIGHBOURHOOD), strength, -1)
    neighbour = brighter.max(axis=1)
    distance = np.where(neighbour > 0, apart[np.arange(len(y)), brighter.argmax(axis=1)], NEIGHBOURHOOD)
    symmetry, correlation = symmetry_and_correlation(rows, own, strength, units, beam)
    deepest = lowest_about(images, y, x, round(ABOUT * beam))
    dip_stacked, dip_line = -deepest.T
    field = images[MAPS.index("stack")][units.valid].flatten()
    spread = float(field[:: max(1, len(field) // 20000)].abs().median()) / NORMAL_MAD
    columns = {
        "detection_logit": logit,
        "snr_stacked": snr["stack"],
        "snr_stacked_with_sidelobes": snr["stack, sidelobes included"],
        "snr_line": snr["line"],
        "snr_negative_line": snr["negative line"],
        "snr_own_line": snr_own_line,
        "snr_neighbour": neighbour.clip(0),
        "neighbour_distance": distance,
        "point_symmetry": symmetry,
        "spectral_correlation": correlation,
        "fwhm_y": sigma_y * SIGMA_TO_FWHM / beam,
        "fwhm_x": sigma_x * SIGMA_TO_FWHM / beam,
        "dip_stacked": dip_stacked,
        "dip_line": dip_line,
        "coverage": coverage_at(units.valid, y, x),
    }
    of_window: dict[str, Any] = {
        "field_spread": max(spread, LEAST_SPREAD),
        "snr_brightest": float(strength.max()),
        "beam": beam,
        "n_channels": min(len(units.cube), BAND),
    }
    return [
        Features(**(of_window | {name: float(values[i]) for name, values in columns.items()})) for i in range(len(rows))
    ]


def snr_at(images: torch.Tensor, y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """The S/N ratios among the images of :data:`MAPS` at positions (n,).

    They are interpolated as arcsinh(S/N / :data:`COMPRESSION`), in which a bright source is as smooth as a faint one.
    """
    import torch

    ratios = torch.stack([images[MAPS.index(name)] for name in SNRS])
    values = values_at(compress(ratios), y, x).astype(float)
    return dict(zip(SNRS, COMPRESSION * np.sinh(values), strict=True))


def values_at(images: torch.Tensor, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Images (m, ny, nx) interpolated linearly at positions: (m, n)."""
    import torch

    ny, nx = images.shape[1:]
    grid = np.stack([2 * x / max(nx - 1, 1) - 1, 2 * y / max(ny - 1, 1) - 1], axis=1)
    places = torch.as_tensor(grid, dtype=torch.float32)[None, None].to(images.device)
    sampled = torch.nn.functional.grid_sample(images[None], places, align_corners=True, padding_mode="border")
    return sampled[0, :, 0].cpu().numpy()


def coverage_at(valid: torch.Tensor, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Fraction of pixels with data in the 9 x 9 around each position."""
    import torch

    near = torch.nn.functional.avg_pool2d(valid.float()[None, None], 9, stride=1, padding=4)[0, 0].cpu().numpy()
    iy, ix = (np.rint(v).astype(int).clip(0, n - 1) for v, n in zip((y, x), near.shape, strict=True))
    return near[iy, ix]


def encode(features: Sequence[Features]) -> np.ndarray:
    """The classifier's input, (n, 22) float32: S/N ratios compressed by arcsinh, sizes and numbers as logarithms.

    The order and the scales are those the shipped weights were trained with; nothing else encodes or decodes them.
    """

    def compressed(snr: float) -> float:
        return float(np.arcsinh(snr / COMPRESSION))

    rows = [
        (
            f.detection_logit,
            compressed(f.snr_stacked),
            compressed(f.snr_stacked_with_sidelobes),
            compressed(f.snr_line),
            compressed(f.snr_negative_line),
            compressed(f.snr_own_line),
            f.line_probability,
            compressed(f.snr_both),
            compressed(f.snr_neighbour),
            f.neighbour_distance,
            f.point_symmetry,
            f.spectral_correlation,
            np.log(f.fwhm_y),
            np.log(f.fwhm_x),
            np.log(f.field_spread),
            compressed(f.snr_brightest),
            compressed(f.dip_stacked),
            compressed(f.dip_line),
            f.coverage,
            f.beam / PIXELS_TRAINED - 1,
            np.log(f.n_channels / CHANNELS_TRAINED),
            f.smoothed,
        )
        for f in features
    ]
    return np.array(rows, np.float32).reshape(-1, N_FEATURES)


def encode_extent(extent: Extent, judge_logit: float, line_probability: float) -> tuple[float, ...]:
    """One row of :func:`encode_extents`."""

    def compressed(snr: float) -> float:
        return float(np.arcsinh(min(snr, BRIGHTEST_EXTENT) / COMPRESSION))

    e = extent
    return (
        float(np.log(e.beams)),
        float(np.sqrt(e.field_share)),
        compressed(e.snr_peak),
        compressed(e.snr_median),
        compressed(e.snr_stack),
        compressed(e.snr_line),
        compressed(e.snr_sum_stack),
        compressed(e.snr_sum_line),
        compressed(e.snr_sum_negative),
        e.core_share,
        float(np.log(e.elongation)),
        e.fill,
        e.edge_share,
        float(np.log1p(e.peaks)),
        e.most_likely,
        float(np.sqrt(e.mean_probability)),
        e.line_share,
        float(np.sqrt(e.width)),
        e.channel_spread,
        float(np.log1p(e.channel_step)),
        e.gradient,
        e.coherence_near,
        e.coherence_far,
        float(np.sqrt(e.channels_seen)),
        compressed(e.dip_inside),
        compressed(e.dip_stack),
        compressed(e.dip_line),
        float(np.log1p(e.negative_beams)),
        float(np.log1p(e.negative_share)),
        compressed(e.floor),
        compressed(e.other_peak),
        float(np.log(max(e.snr_peak, 1) / max(e.other_peak, 1))),
        float(np.log(max(e.snr_peak, 1) / max(e.dip_line, e.dip_stack, 1))),
        e.symmetry,
        e.correlation,
        float(np.log(max(e.spread, LEAST_SPREAD))),
        float(np.log(e.noise_correlation)),
        float(e.dirty),
        e.beam / PIXELS_TRAINED - 1,
        float(np.log(e.n_channels / CHANNELS_TRAINED)),
        judge_logit,
        line_probability,
    )


def encode_extents(detections: Sequence[RawDetection]) -> np.ndarray:
    """The extent classifier's input for detections with an ``extent``, (n, features) float32.

    Order and scales are those the shipped weights were trained with; nothing else encodes or decodes them.
    """
    rows = [(f.extent, f.judge_logit, f.features.line_probability) for f in detections if f.extent is not None]
    return np.array([encode_extent(*row) for row in rows], np.float32).reshape(-1, N_EXTENT_FEATURES)
