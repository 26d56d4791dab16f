"""The preset ``almadet``: the paper's decision graph, each step in units of the noise.

The blocks and their order are the paper's; what differs, and why, is told in
``docs/architecture.md``.  Step 1 makes, beside the stacked image, maps of the best line at
each place; steps 2 to 4 leave places and sizes to Source Finder; steps 5 to 7 ask Line Finder of the
sources' own spectra; steps 8 to 10 focus and measure as the paper does, without
the sidelobes of bright sources; and what all this amounts to, Judge says in one
probability.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.modeling.fitting import LevMarLSQFitter, NonFiniteValueError
from astropy.modeling.models import Gaussian1D
from astropy.stats import gaussian_fwhm_to_sigma, gaussian_sigma_to_fwhm, mad_std
from astropy.utils.exceptions import AstropyUserWarning
from scipy import ndimage
from scipy.special import expit, ndtr

from napari_almadet.pipeline.blends import in_own_noise, joined, joined_across, part_by_lines
from napari_almadet.pipeline.blobs import Stacking, at_edge
from napari_almadet.pipeline.catalog import Box, Candidate, EmissionPeak, Fate
from napari_almadet.pipeline.companions import Blob, Likelihood, two_sources, weighted_images
from napari_almadet.pipeline.evidence import (
    MAPS,
    WIDEST,
    binning,
    differences,
    in_noise_units,
    maps,
    resample,
)
from napari_almadet.pipeline.focus import (
    Cutout,
    brightest_pixel,
    cut_out,
    focus,
    focused_noise,
    global_snr,
    over_noise,
    pixel_snr,
    voxel_noise,
)
from napari_almadet.pipeline.measure import measure
from napari_almadet.pipeline.reliability import negative
from napari_almadet.pipeline.seams import TWINS, NoiseKind, Part, composed, field_of, met
from napari_almadet.pipeline.sidelobes import read_psf, resampled_psf, without_sidelobes
from napari_almadet.pipeline.sources import (
    BOX_LEVEL,
    LEAST_CHANCE,
    LINE_SNR,
    MEASURES,
    centres,
    measures,
    own_lines,
    part_neighbours,
    spectra,
)
from napari_almadet.pipeline.spectra import extract_spectra, find_emission, off_line, remove_baseline
from napari_almadet.pipeline.steps import Progress, in_steps, predict
from napari_almadet.pipeline.tiling import cut
from napari_almadet.pipeline.windows import (
    Find,
    Window,
    beam_fwhm,
    noise_profile,
    read_averaged,
    read_blocks,
    separation,
    snr_of,
    windows,
)
from napari_almadet.pipeline.workers import each, lent
from napari_almadet.storage import split_address

if TYPE_CHECKING:
    from distributed import Client

    from napari_almadet.cube import Cube
    from napari_almadet.pipeline.settings import Settings

LINE_CHANCE = 0.5  # of Line Finder, over which a source is said to show a line
CONTINUUM_SNR = 4.0
ALONE = 1.5  # beams to the next source, for a place to be refined
RECENTRE = 0.3  # beams by which it may move
BESIDE = 1.5  # beams from a brighter source, on whose flank a find may lie
DOUBTED = 0.5  # Judge's chance, from which on what it drops there is looked at again
NEARBY = 3.0  # beams from such a find, within which other sources count
ALIKE = 0.5  # chance of another candidate, with which a field is one of sources
FIELD = 24.0  # beams on a side, of the fields Judge has learnt from
EVIDENT_SNR = 8.0
EVIDENT_SHARE = 0.6  # of the brightest candidate: no dirty beam of a filled array has such sidelobes
RIPPLE = 0.75  # of the highest line's SNR, which a spectrum's dips have where it is a wave
SWINGS = 3  # between crests and dips, that a wave has at least: emission beside absorption has one or two
STRUCTURED = 3.0  # times the noise that a field's stack spreads by where sidelobes are left all over it
ABOVE_SIDELOBES = 8.0  # times that spread, for a source without a line to stand out of them
OUTSHINING = 300.0  # SNR of a source whose own flank Source Finder may take for another
FLANK = 1.5  # times what a Gaussian has fallen to at a place: what is more is another source's
LEAST_LINE = 0.005  # of such a source's SNR: another's line on its flank
NOISE_ERROR = 0.05  # of what the noise of a channel is taken for: a flat, bright continuum is then not quite flat
PATCH_SHARE = 0.2  # the same for extended emission, which is no single sidelobe

CUTOUT_COPIES = 6  # of a source's cutout that measuring it takes

# What the networks have learnt from, see napari_almadet.training.fields.
BEAMS = (2.5, 6.5)  # averaged pixels
SAMPLED = 2.0  # pixels of the cube that a beam has at least, so that it can be interpolated
LEAST_CHANNELS = 24
MOST_CORRELATION = 1.8
MOST_DIPS = 1e-4


@dataclass(frozen=True)
class SearchNetworks:
    """The networks of this preset, see :func:`napari_almadet.pipeline.detect.load_networks`.

    ``source_finder`` takes (batch, 8, y, x) maps, ``line_finder`` (batch, channels) spectra in noise units,
    ``judge`` (batch, 21) measures.
    """

    source_finder: Any
    line_finder: Any
    judge: Any
    device: Any = "cpu"
    cards: tuple[dict, ...] = ({}, {}, {})


WEIGHTS = ("source_finder", "line_finder", "judge")


def load(settings: Settings) -> SearchNetworks:
    """Load the networks of this preset, by the weights the settings name, onto the device they name."""
    from napari_almadet.networks.weights import load_all

    networks, device, cards = load_all([getattr(settings, name) for name in WEIGHTS], settings.device)
    return SearchNetworks(*networks, device, cards)


load_once = lru_cache(maxsize=1)(load)  # in each process of a cluster


def dirty_beam(path: str, cube: Cube) -> np.ndarray:
    """The dirty beam in a file, which is read once for all windows of a cube, and again if it has changed."""
    file = split_address(path)[0]
    return _read_psf(path, file.stat().st_mtime_ns if file.exists() else 0, cube)


@lru_cache(maxsize=1)
def _read_psf(path: str, changed: int, cube: Cube) -> np.ndarray:
    return read_psf(path, cube)


@in_steps
def described(settings: Settings) -> Generator[Progress, None, SearchNetworks]:
    """The networks as a worker of a cluster has them, device and cards, without themselves."""
    yield Progress("Loading the networks", 0, 1)
    networks = load_once(settings)
    return SearchNetworks(None, None, None, str(networks.device), networks.cards)


@dataclass(frozen=True)
class Found:
    """What a search finds in a cube: images of the field (ny, nx), all candidates, the dropped too.

    ``warnings`` say what about the cube the networks have not learnt, ``scales`` how it was brought to what they have:
    plain values by name.
    """

    stacked: np.ndarray
    probability: np.ndarray
    candidates: list[Candidate]
    warnings: list[str]
    scales: dict[str, Any]


def search_steps(
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    client: Client | None = None,
    negated: bool = False,
) -> Generator[Progress, None, Found]:
    """Find the sources of a cube, window by window, here or on a cluster.

    Parameters
    ----------
    networks
        None: each process loads those the settings name.
    client
        Of the cluster; None: this process.
    negated
        Search the cube with its sign turned, see :mod:`napari_almadet.pipeline.reliability`.
    """
    there = lent(cube, client)
    (fwhm,) = yield from each(beam_fwhm, [there], stage="Looking at the beam", client=client)
    k = binning(fwhm)
    parts = yield from each(
        search_part,
        windows(cube.shape, k, fwhm / k, settings.memory),
        there,
        fwhm / k,
        settings,
        networks,
        negated,
        stage="Searching windows",
        client=client,
    )
    _read_psf.cache_clear()  # it holds on to the cube
    stacked, probability, strength = composed(parts, cube.shape)
    probability[np.isnan(stacked)] = np.nan
    finds = met(parts, fwhm)
    if len(parts) > 1:
        drop_overshadowed(finds, parts, settings)
        finds, across = joined_across(finds, strength, field_of(cube.shape, k), fwhm / k)
        finds += yield from each(
            search_patch, across, there, settings, networks, negated, stage="Measuring extended emission", client=client
        )
    used = {find.candidate.id for find in finds}
    for find in finds:
        if not find.candidate.id:
            find.candidate.id = max(used) + 1
            used.add(find.candidate.id)
    said = unlearnt(cube, fwhm, k, [part.noise for part in parts if part.noise])
    return Found(stacked, probability, [find.candidate for find in finds], said, scales(cube, fwhm, k, len(parts)))


@in_steps
def search_part(
    window: Window,
    cube: Cube,
    beam: float,
    settings: Settings,
    networks: SearchNetworks | None,
    negated: bool = False,
) -> Generator[Progress, None, Part]:
    """Find the sources of one window, with all that is measured of them.

    Parameters
    ----------
    beam
        FWHM in the window's pixels.
    """
    networks = networks or load_once(settings)
    cube = negative(cube) if negated else cube
    images, finds, noise, stacked = yield from source_detection(cube, window, beam, settings, networks, negated)
    yield from frequency_denoising(finds, settings, networks)
    yield from judgement(finds, settings, networks)
    near = [find for find in finds if window.owns(find.y, find.x, TWINS * beam)]
    yield from source_spectral_focusing(cube, near, finds, stacked, settings)
    for find in finds:
        find.window = window  # without its sidelobes, which are large
    (y, x), (own_y, own_x) = window.origin, window.owned_pixels(cube.shape[1:])
    own = stacked[own_y.start - y : own_y.stop - y, own_x.start - x : own_x.stop - x]
    return Part(window, own, *images[:, *window.owned], finds, noise)


def source_detection(
    cube: Cube, window: Window, beam: float, settings: Settings, networks: SearchNetworks, negated: bool = False
) -> Generator[Progress, None, tuple[np.ndarray, list[Find], NoiseKind | None, np.ndarray]]:
    """2D source detection (1 - 4): maps in noise units, Source Finder's answer, and the places where it peaks.

    Returns what :func:`search_window` does, and the dirty image of the window.
    """
    psf = dirty_beam(settings.psf, cube) if settings.psf else None
    planes, stacked = yield from read_averaged(cube, window)
    yield Progress("Looking for sources", 0, 1)
    profile = noise_profile(cube, window)
    images, finds, noise = search_window(planes, window, beam, networks, psf, profile, negated)
    del planes
    for number, find in enumerate(finds, 1):
        find.candidate.id = number
    yield Progress("Looking for sources", 1, 1)
    return images, finds, noise, stacked


@in_steps
def search_patch(
    found: tuple[Find, np.ndarray],
    cube: Cube,
    settings: Settings,
    networks: SearchNetworks | None,
    negated: bool = False,
) -> Generator[Progress, None, Find]:
    """The rest of the way for a patch of extended emission that lies in several windows, a find and its mask.

    Its spectrum is the sum over the patch in the cube as it is.
    """
    find, patch = found
    networks = networks or load_once(settings)
    cube = negative(cube) if negated else cube
    y, x = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(patch))
    shape = (y.stop - y.start, x.stop - x.start)
    find.window = Window(y.start, x.start, shape, (slice(0, shape[0]), slice(0, shape[1])), find.window.k)
    total, known = np.zeros(cube.shape[0]), np.zeros(cube.shape[0], bool)
    stacking = Stacking(cube.shape[0])
    for block, part in read_blocks(cube, find.window):
        values = resample(part, find.window.k)[:, patch[y, x]]
        total[block], known[block] = np.nansum(values, axis=1), np.isfinite(values).any(axis=1)
        stacking.add(part)
        yield Progress("Reading the cube", block.stop, cube.shape[0])
    find.spectrum = in_own_noise(total[known], known, cube.shape[0])
    yield from frequency_denoising([find], settings, networks)
    yield from judgement([find], settings, networks)
    yield from source_spectral_focusing(cube, [find], [find], stacking.image(), settings)
    return find


def scales(cube: Cube, fwhm: float, k: int | float, n_windows: int) -> dict[str, Any]:
    """How a cube was brought to what the networks know: plain values, written into the result's provenance."""
    n_channels = cube.shape[0]
    return {
        "beam": round(fwhm, 3),  # pixels
        "pixels_averaged": k,  # on a side; 0.5: interpolated to twice as many
        "windows": n_windows,
        "widest_line": max(1, int(WIDEST * n_channels)),  # channels
        "channels_averaged": resolutions(n_channels),  # for Line Finder
    }


def unlearnt(cube: Cube, fwhm: float, k: int, noises: list[NoiseKind]) -> list[str]:
    """What about a cube lies outside of what the networks have learnt from, one sentence each."""
    said = []
    if not BEAMS[0] <= fwhm / k <= BEAMS[1] or fwhm < SAMPLED:
        said.append(
            f"The beam is {fwhm:.1f} pixels wide; {SAMPLED:g} are needed to sample it, and sources may be missed or "
            "taken for noise."
        )
    if not noises:
        return [
            *said,
            "No noise can be told from this cube, since its channels do not differ: nothing was found.",
        ]
    channels = max(noise.channels for noise in noises)
    if channels < LEAST_CHANNELS:
        said.append(
            f"The cube has {channels} channels with data; the networks have learnt from {LEAST_CHANNELS} and more."
        )
    correlation = max(noise.correlation for noise in noises)
    if correlation > MOST_CORRELATION:
        said.append(
            f"Wide lines are {correlation:.1f} times as noisy as independent channels would make them: channels share "
            "their noise, or something other than noise fills the field. Faint sources may be missed."
        )
    dips = max(noise.dips for noise in noises)
    if dips > MOST_DIPS:
        said.append(
            f"{dips:.2%} of the values lie under -5 sigma, as around bright extended emission or where the calibration "
            "is off: what is found near them needs a closer look."
        )
    return said


def search_window(
    planes: np.ndarray,
    window: Window,
    beam: float,
    networks: SearchNetworks,
    psf: np.ndarray | None = None,
    profile: np.ndarray | None = None,
    negated: bool = False,
) -> tuple[np.ndarray, list[Find], NoiseKind | None]:
    """Search one window.

    Parameters
    ----------
    psf
        As :func:`~napari_almadet.pipeline.sidelobes.read_psf` gives it.
    profile
        As :func:`~napari_almadet.pipeline.windows.noise_profile` gives it.
    negated
        Whether the sign was turned: bright sources, for their sidelobes, are then looked for where it is negative.

    Returns
    -------
    images
        Source Finder's probability, and the higher of the SNRs in the stack and in the best line: (2, ny, nx).
    finds
        All sources in it, also those beyond what is its own.
    noise
        None if it has no data.
    """
    import torch

    from napari_almadet.networks.source_finder import from_all_sides

    nothing = np.zeros((2, *window.shape), np.float32)
    n_channels = len(planes)
    try:
        known = None if profile is None else torch.from_numpy(profile).to(networks.device)
        raw = in_noise_units(torch.from_numpy(planes).to(networks.device), beam, known)
    except ValueError:  # no data here
        return nothing, [], None
    seen = None if psf is None else resampled_psf(psf, window.k, window.shape, networks.device)
    units, sidelobes = without_sidelobes(replace(raw, cube=-raw.cube) if negated else raw, beam, seen)
    if negated:
        units = replace(units, cube=-units.cube)
        sidelobes = None if sidelobes is None else replace(sidelobes, spectra=-sidelobes.spectra)
    with torch.inference_mode():
        images, correlation = maps(units, raw, beam)
        answer = from_all_sides(networks.source_finder, images[None])[0]
    rows = centres(answer, units.valid, beam)
    own = part_neighbours(rows, spectra(units, rows, beam), beam)
    flat = remove_baseline(own) if len(own) else own
    judged_by = measures(rows, images, units, own, own_lines(flat, units.rms), np.zeros(len(rows)), beam)
    channels = units.channels.cpu().numpy()
    if sidelobes is not None:
        in_unit = np.zeros((len(sidelobes.spectra), n_channels), np.float32)
        in_unit[:, channels] = (sidelobes.spectra * units.rms).cpu().numpy()
        window = replace(
            window, sidelobes=sidelobes.images.cpu().numpy(), spectra=in_unit, rms_map=units.rms_map.cpu().numpy()
        )
    finds = []
    for row, spectrum, numbers in zip(rows, own, judged_by, strict=True):
        chance = float(1 / (1 + np.exp(-row[0])))
        whole = np.zeros(n_channels, np.float32)
        whole[channels] = spectrum
        y, x = (float((row[i] + o + 0.5) * window.k - 0.5) for i, o in ((1, window.y), (2, window.x)))
        candidate = Candidate(0, Box(0, 0, 0, 0), chance)
        stack_snr, line_snr = (2 * np.sinh(numbers[MEASURES.index(name)]) for name in ("stack", "own line"))
        candidate.reasons.append(
            f"found: SNR {stack_snr:.1f} in the stack, {line_snr:.1f} in its best line; Source Finder says {chance:.2f}"
        )
        finds.append(Find(candidate, y, x, row[3] * window.k, row[4] * window.k, whole, numbers, window))
    strength = 2 * np.sinh(np.maximum(*(images[MAPS.index(name)].cpu().numpy() for name in ("stack", "line"))))
    finds = joined(finds, strength, units, window, beam, n_channels)
    dips = float((units.cube < -5).sum() / (units.valid.sum() * len(units.cube)).clamp(min=1))
    noise = NoiseKind(correlation, dips, len(channels))
    probability = torch.sigmoid(answer[0]).cpu().numpy() * units.valid.cpu().numpy()
    return np.stack([probability, strength]), finds, noise


def resolutions(n_channels: int) -> list[int]:
    """By how many channels spectra are averaged for Line Finder: 1, then 4, 16 ... as long as 64 are left."""
    return [4**i for i in range(8) if i == 0 or n_channels // 4**i >= 64]


def frequency_denoising(
    finds: list[Find], settings: Settings, networks: SearchNetworks
) -> Generator[Progress, None, None]:
    """Frequency denoising (5 - 7): Line Finder's answer to each source's own spectrum, and the lines in it."""
    if not finds:
        return
    own = np.stack([find.spectrum for find in finds])
    flat, answer = yield from denoise_own.steps(own, settings, networks)
    for done, find in enumerate(finds):
        yield Progress("Finding emission lines", done, len(finds))
        candidate = find.candidate
        candidate.denoised = answer[done]
        find.measures[MEASURES.index("line chance")] = answer[done].max()
        set_lines(candidate, flat[done], line_of(find))
        rest = own[done][off_line(candidate.peaks, own.shape[1]) & (own[done] != 0)]
        continuum = rest.sum() / np.sqrt(max(len(rest), 1)) >= CONTINUUM_SNR
        candidate.kind = "continuum" if not candidate.peaks else "both" if continuum else "line"


@in_steps
def denoise_own(own: np.ndarray, settings: Settings, networks: SearchNetworks):
    """Line Finder's answer to spectra in noise units, looked at with several resolutions.

    Parameters
    ----------
    own
        Shape (n, channels), continuum and all; 0 in channels without data.

    Returns
    -------
    flat, answer
        The spectra without their baselines, and where the lines are, from 0 to 1: float32, (n, channels).
    """
    n, n_channels = own.shape
    known = own.any(axis=0)
    flat, answer = np.zeros((2, n, n_channels), np.float32)
    flat[:, known] = remove_baseline(own[:, known])
    for factor in resolutions(n_channels):
        padded = np.pad(flat, ((0, 0), (0, -n_channels % factor)))
        coarse = padded.reshape(n, -1, factor).sum(axis=2) / np.sqrt(factor)
        said = yield from predict.steps(
            networks.line_finder, coarse, "Denoising spectra", settings.batch_size, networks.device
        )
        answer = np.maximum(answer, np.repeat(said, factor, axis=1)[:, :n_channels])
    return flat, answer


def set_lines(candidate: Candidate, flat: np.ndarray, line_snr: float) -> None:
    """Give a candidate the lines that its ``denoised`` spectrum shows, if Line Finder and the SNR agree that there are.

    Parameters
    ----------
    flat
        Its spectrum in noise units without the baseline, (channels,).
    line_snr
        Of the best line in it.
    """
    denoised, n_channels = candidate.denoised, len(flat)
    candidate.peaks, candidate.channels = (), (0, n_channels)
    if denoised.max() >= LINE_CHANCE and line_snr >= LINE_SNR:
        peaks, reasons = find_emission(denoised, flat, LINE_CHANCE)
        candidate.peaks = tuple(refined(peak, flat) for peak in peaks)
        candidate.reasons += reasons
    if candidate.primary:
        candidate.channels = candidate.primary.emission_range(n_channels)
        candidate.reasons += [
            f"line at channel {p.centre:.1f}, FWHM {p.fwhm:.1f} channels, chance {p.height:.2f}"
            for p in candidate.peaks
        ]
    else:
        candidate.reasons.append(f"no line (highest chance {denoised.max():.2f}, best SNR {line_snr:.1f})")


def look_again(candidate: Candidate, cube: Cube, settings: Settings, networks: SearchNetworks) -> None:
    """Steps 5 to 7 for a candidate in a box that was not found but drawn: its spectrum is the sum over the box."""
    import torch

    candidate.spectrum = extract_spectra(cube, [candidate.box])[0]
    known = np.isfinite(candidate.spectrum)
    own = np.zeros((1, len(known)), np.float32)
    values = candidate.spectrum[known]
    steps = differences(values) if len(values) > 1 else np.zeros(1)
    sigma = float(mad_std(steps)) / np.sqrt(2)
    if sigma > 0:
        own[0, known] = values / sigma
    flat, answer = denoise_own(own, settings, networks)
    candidate.denoised = answer[0]
    set_lines(candidate, flat[0], own_lines(flat[:, known], torch.ones(known.sum()))[0] if sigma > 0 else 0.0)


def refined(peak: EmissionPeak, spectrum: np.ndarray) -> EmissionPeak:
    """A peak with centre and FWHM fitted to the dirty spectrum, as long as the fit stays near the peak."""
    reach = int(np.ceil(2.5 * peak.fwhm)) + 2
    low, high = max(0, peak.channel - reach), min(len(spectrum), peak.channel + reach + 1)
    if high - low < 5:
        return peak
    start = Gaussian1D(
        amplitude=float(spectrum[peak.channel]), mean=peak.centre, stddev=peak.fwhm * gaussian_fwhm_to_sigma
    )
    fitter = LevMarLSQFitter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyUserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)  # of a covariance nobody asks for
            fit = fitter(start, np.arange(low, high), spectrum[low:high], maxiter=500)
    except NonFiniteValueError:
        return peak
    fwhm = abs(float(fit.stddev.value)) * gaussian_sigma_to_fwhm
    near = abs(fit.mean.value - peak.centre) <= 0.7 * peak.fwhm and 0.5 <= fwhm / peak.fwhm <= 2
    if fitter.fit_info["ierr"] not in (1, 2, 3, 4) or not near or fit.amplitude.value <= 0:
        return peak
    return replace(peak, centre=float(fit.mean.value), fwhm=max(fwhm, 1.0))


def judgement(finds: list[Find], settings: Settings, networks: SearchNetworks) -> Generator[Progress, None, None]:
    """Judge's probability of each candidate; those under the threshold are dropped."""
    import torch

    if not finds:
        return
    yield Progress("Judging candidates", 0, 1)
    with torch.inference_mode():
        numbers = torch.from_numpy(np.stack([find.measures for find in finds])).to(networks.device)
        chances = expit(as_in_its_field(networks.judge(numbers).cpu().numpy(), finds))
    bright = outshining(finds)
    brightest_line = max(EVIDENT_SNR, EVIDENT_SHARE * max(line_of(find) for find in finds))
    heard = 0.0 if bright else LEAST_CHANCE  # Judge has learnt of no field with such a source
    for find, chance in zip(finds, chances, strict=True):
        candidate = find.candidate
        candidate.prob = float(chance)
        if artefact := artefact_of(find, bright):
            candidate.fate = Fate.DROPPED
            candidate.reasons.append(f"dropped: {artefact}; Judge says {chance:.2f}")
        elif find.box:
            candidate.reasons.append(f"flagged: extended emission, of which Judge knows little; it says {chance:.2f}")
        elif chance >= settings.threshold:
            candidate.reasons.append(f"kept: Judge says {chance:.2f}, {settings.threshold:g} or more")
        elif (chance >= LEAST_CHANCE and evident(find)) or (chance >= heard and line_of(find) >= brightest_line):
            candidate.fate = Fate.FLAGGED
            candidate.reasons.append(
                f"flagged: Judge says {chance:.2f}, less than {settings.threshold:g}, but it is too bright for noise, "
                "and for a sidelobe of anything in the field"
            )
        else:
            candidate.fate = Fate.DROPPED
            candidate.reasons.append(f"dropped: Judge says {chance:.2f}, less than {settings.threshold:g}")
        if settings.require_line and candidate.fate is not Fate.DROPPED and not candidate.peaks:
            candidate.fate = Fate.DROPPED
            candidate.reasons.append("dropped: it shows no line")
    yield Progress("Judging candidates", 1, 1)


def as_in_its_field(logits: np.ndarray, finds: list[Find]) -> np.ndarray:
    """Judge's logits (n,) for the finds of one window, for its size.

    Judge has learnt from small fields.  In a larger one noise has more chances to look like a source, and the odds of
    what may be noise fall as its area grows, unless a second candidate says that it is a field of sources.
    """
    if np.count_nonzero(expit(logits) >= ALIKE) > 1:
        return logits
    window, beam = finds[0].window, beam_of(finds[0])
    fields = max(1.0, np.prod(window.shape) * (window.k / (FIELD * beam)) ** 2)
    faint = np.array([snr_of(find, "both") < EVIDENT_SNR for find in finds])
    return np.where(faint, logits - np.log(fields), logits)


def evident(find: Find) -> bool:
    """Whether a find's measures are those of emission, though maybe not of a kind that Judge knows."""
    return snr_of(find, "both") >= max(EVIDENT_SNR, EVIDENT_SHARE * snr_of(find, "brightest"))


def line_of(find: Find) -> float:
    """SNR of a find's best line, in noise to which each channel's error of its own adds a share of the continuum."""
    error = NOISE_ERROR * snr_of(find, "stack") / np.sqrt(len(find.spectrum))
    return float(snr_of(find, "own line") / np.hypot(1, error))


def artefact_of(find: Find, bright: list[Find]) -> str:
    """What a find is if it is no source, of a kind that Judge has not learnt; else nothing.

    ``bright`` are the finds whose SNR in the stack is :data:`OUTSHINING` or more.
    """
    dip = ripples(find.spectrum)
    if dip:
        return f"its spectrum falls as far under zero, to an SNR of -{dip:.1f}, as it rises over it: a ripple"
    if find.box:
        stripe = find.stripe and find.candidate.prob < LEAST_CHANCE
        return "a stripe, long and thin as a bad baseline makes it" if stripe else ""
    stack, line = snr_of(find, "stack"), snr_of(find, "own line")
    spread = np.exp(find.measures[MEASURES.index("field")])
    if spread > STRUCTURED and stack < ABOVE_SIDELOBES * spread and line < EVIDENT_SNR:
        return f"sidelobes that are left in the field spread by {spread:.1f} sigma, and it does not stand out of them"
    for other in bright:
        light = snr_of(other, "stack")
        apart = np.hypot((find.y - other.y) / other.sigma_y, (find.x - other.x) / other.sigma_x)
        on_flank = stack < min(light, FLANK * light * np.exp(-0.5 * apart**2))
        if on_flank and line < max(LINE_SNR, LEAST_LINE * light):
            return f"the flank of candidate {other.candidate.id}, whose SNR is {light:.0f}"
    return ""


def ripples(spectrum: np.ndarray) -> float:
    """SNR of the deepest dip of a find's spectrum, if the spectrum is a wave; else 0.

    A continuum badly taken off leaves such waves.  Their dips are about as deep as their crests are high, no noise,
    and more than one.
    """
    known = spectrum[spectrum != 0]
    if not len(known):
        return 0.0
    widths = [2**i for i in range(16) if 2**i <= max(1, WIDEST * len(known) / 2)]  # half a wave's
    means = np.stack([ndimage.uniform_filter1d(known, width, mode="nearest") * np.sqrt(width) for width in widths])
    height, dip = float(means.max()), float(-means.min())
    deepest = means[means.min(axis=1).argmin()]
    swings = np.count_nonzero(np.diff(np.sign(deepest[np.abs(deepest) > dip / 2])))
    return dip if dip >= max(EVIDENT_SNR, RIPPLE * height) and swings >= SWINGS else 0.0


def drop_overshadowed(finds: list[Find], parts: list[Part], settings: Settings) -> None:
    """Drop what was flagged for being bright in its window, if a source in a window that meets it may explain it.

    Only sidelobes of a window's own sources are taken off, but a dirty beam reaches further.
    """
    # the same in all finds of a window
    lights = [(part.window, snr_of(part.finds[0], "brightest")) for part in parts if part.finds]
    for find in finds:
        parted = find.candidate.blended and not find.box  # what is needed beside a neighbour is no sidelobe
        if find.candidate.fate is not Fate.FLAGGED or find.candidate.prob >= settings.threshold or parted:
            continue
        brightest = max(light for window, light in lights if window.meets(find.window))
        if snr_of(find, "both") < (PATCH_SHARE if find.box else EVIDENT_SHARE) * brightest:
            find.candidate.fate = Fate.DROPPED
            find.candidate.reasons.append(
                f"dropped: it may be a sidelobe of a source of SNR {brightest:.0f} in a window nearby"
            )


def source_spectral_focusing(
    cube: Cube, chosen: list[Find], finds: list[Find], stacked: np.ndarray, settings: Settings
) -> Generator[Progress, None, None]:
    """Source spectral focusing (8 - 10): box, focused image, SNRs and measures of each of the chosen finds.

    Sources that lie so close that only their lines tell them apart join ``finds``, which are the finds of
    the window with its dirty image ``stacked``.
    """
    flag_companions(chosen, cube, stacked, settings)  # (9)
    for done, find in enumerate(chosen):
        yield Progress("Focusing on sources", done, len(chosen))
        cutout = seen_about(find, cube, stacked, settings)
        if cutout is None:
            continue
        other = None
        if find.candidate.fate is not Fate.DROPPED:
            other = part_by_lines(find, finds, cutout)  # (9)
        if other:
            finds.append(other)
            focus_and_measure(other, cube, seen_about(other, cube, stacked, settings), settings)
            cutout = seen_about(find, cube, stacked, settings)
        elif find.candidate.fate is not Fate.DROPPED and not find.box and stands_alone(find, finds):
            find.y, find.x = best_place(find, cutout)
            find.candidate.box = gaussian_box(find, cube.shape[1:])
            if not cutout.holds(find.candidate.box):
                cutout = seen_about(find, cube, stacked, settings)
        focus_and_measure(find, cube, cutout, settings)


def flag_companions(finds: list[Find], cube: Cube, stacked: np.ndarray, settings: Settings) -> None:
    """Flag what Judge dropped beside a brighter source that it kept, where two sources fit far better than one.

    Its chance is :data:`DOUBTED` at least: the fit takes beam and noise for Gaussian, which they are with natural
    weights only.
    """
    bright = outshining(finds)
    for find in finds:
        candidate, beam = find.candidate, beam_of(find)
        lost = candidate.fate is Fate.DROPPED and candidate.prob >= DOUBTED and not find.box
        if not lost or (settings.require_line and not candidate.peaks) or artefact_of(find, bright):
            continue
        near = [f for f in finds if f.candidate.fate is not Fate.DROPPED and separation(f, find) < NEARBY * beam]
        first, *others = sorted(near, key=lambda f: separation(f, find)) or [find]
        beside = separation(first, find) < BESIDE * beam and snr_of(first, "both") > snr_of(find, "both")
        if first.candidate.fate is not Fate.KEPT or not beside:
            continue
        cutout = seen_about(first, cube, stacked, settings)
        if cutout is None:
            continue
        images = weighted_images(cutout, [expected_spectrum(first), expected_spectrum(find)])
        blobs = [before_beam(f, cutout) for f in (first, find, *others)]
        if both := two_sources(Likelihood(images, beam), *blobs[:2], blobs[2:]):
            sigma, *places = both
            (first.y, first.x), (find.y, find.x) = (place + cutout.origin for place in places)
            first.candidate.blended = candidate.blended = True
            candidate.fate = Fate.FLAGGED
            candidate.reasons.append(
                f"flagged: it and candidate {first.candidate.id} fit better than a single source, by {sigma:.1f} sigma"
            )


def before_beam(find: Find, cutout: Cutout) -> Blob:
    """A find as it is before the beam, in a cutout's pixels."""
    beam = beam_of(find) * gaussian_fwhm_to_sigma
    y, x = np.array([find.y, find.x]) - cutout.origin
    return Blob.round(y, x, np.sqrt(max(find.sigma_y * find.sigma_x - beam**2, 0.0)))


def outshining(finds: list[Find]) -> list[Find]:
    """Those of some finds that are so bright that their flanks may be taken for sources."""
    return [find for find in finds if not find.box and snr_of(find, "stack") >= OUTSHINING]


def beam_of(find: Find) -> float:
    """The beam's FWHM in the cube's pixels, as the find's measures have it."""
    return float(4 * (1 + find.measures[MEASURES.index("beam")]) * find.window.k)


def stands_alone(find: Find, finds: list[Find]) -> bool:
    """Whether no other find that was kept lies within :data:`ALONE` beams."""
    reach = ALONE * beam_of(find)
    others = (other for other in finds if other is not find and other.candidate.fate is not Fate.DROPPED)
    return all(separation(other, find) > reach for other in others)


def best_place(find: Find, cutout: Cutout) -> tuple[float, float]:
    """Where a source's own spectrum and extent fit best, (y, x).

    Where noise has the shape of the beam, the most likely place of a source is the highest value of the channels' sum
    weighted with its spectrum, smoothed with its extent before the beam.  It is looked for about Source Finder's,
    which stays where there is no such maximum.
    """
    planes, noise = over_noise(cutout.planes)
    image = np.tensordot(expected_spectrum(find) / noise, planes, axes=1)
    beam = beam_of(find)
    extent = np.sqrt(np.maximum(np.square([find.sigma_y, find.sigma_x]) - (beam * gaussian_fwhm_to_sigma) ** 2, 0))
    reach = RECENTRE * beam
    steps = np.linspace(-reach, reach, 2 * round(40 * RECENTRE) + 1)
    place = np.array([find.y, find.x]) - cutout.origin
    grid = np.meshgrid(place[0] + steps, place[1] + steps, indexing="ij")
    values = ndimage.map_coordinates(ndimage.gaussian_filter(image, extent, mode="nearest"), grid, order=3)
    y, x = np.unravel_index(values.argmax(), values.shape)
    if {0, len(steps) - 1} & {y, x}:
        return find.y, find.x
    move = (steps[i] + vertex(line) * (steps[1] - steps[0]) for i, line in ((y, values[:, x]), (x, values[y])))
    return tuple(place + cutout.origin + list(move))


def vertex(values: np.ndarray) -> float:
    """By how much of a step the parabola through the highest of some values and its neighbours peaks beside it."""
    before, highest, after = values[values.argmax() - 1 :][:3]
    return 0.5 * (before - after) / (before - 2 * highest + after)


def expected_spectrum(find: Find) -> np.ndarray:
    """A find's spectrum (channels,) as its continuum and its lines would be without noise; at least flat."""
    spectrum, peaks = find.spectrum, find.candidate.peaks
    known, channel = spectrum != 0, np.arange(len(find.spectrum))
    rest = known & off_line(peaks, len(spectrum))
    level = spectrum[rest].mean() if find.candidate.kind != "line" and rest.any() else 0.0
    lines = [np.exp(-0.5 * ((channel - p.centre) / (p.fwhm * gaussian_fwhm_to_sigma)) ** 2) for p in peaks]
    heights = [line[known] @ (spectrum[known] - level) / (line[known] @ line[known]) for line in lines]
    expected = level + sum((h * line for h, line in zip(heights, lines, strict=True)), np.zeros(len(spectrum)))
    return expected if expected.any() else np.ones(len(spectrum))


def seen_about(find: Find, cube: Cube, stacked: np.ndarray, settings: Settings) -> Cutout | None:
    """Give a find's candidate its box, and cut the cube, without sidelobes, out about it; None if that is too large."""
    candidate, field = find.candidate, cube.shape[1:]
    candidate.box = find.box or gaussian_box(find, field)
    candidate.edge = at_edge(candidate.box, stacked, find.window.origin, field)
    side = max(settings.crop, *candidate.box.shape)
    needed = CUTOUT_COPIES * 4 * cube.shape[0] * side**2 / 1e9
    if side > settings.crop and needed > settings.memory:
        candidate.reasons.append(
            f"not measured: that would take {needed:.1f} GB of memory, and the run may use {settings.memory:g}"
        )
        return None
    cutout = cut_out(cube, candidate.box, settings.crop)
    return Cutout(cutout.planes - find.window.sidelobes_in(cutout.origin, cutout.planes.shape[1]), cutout.origin)


def gaussian_box(find: Find, shape: tuple[int, int]) -> Box:
    """The box in which a find's Gaussian is over a tenth of its peak, within a field of ``shape``."""
    ny, nx = shape
    half_y, half_x = (np.sqrt(-2 * np.log(BOX_LEVEL)) * sigma for sigma in (find.sigma_y, find.sigma_x))
    y0, y1 = (int(np.clip(v, 0, ny)) for v in (np.ceil(find.y - half_y), np.floor(find.y + half_y) + 1))
    x0, x1 = (int(np.clip(v, 0, nx)) for v in (np.ceil(find.x - half_x), np.floor(find.x + half_x) + 1))
    return Box(min(y0, ny - 1), max(y1, y0 + 1), min(x0, nx - 1), max(x1, x0 + 1))


def captured(find: Find) -> float:
    """Share of a Gaussian source and line that lies in its candidate's box and emission range."""
    candidate, box = find.candidate, find.candidate.box
    sides = [(box.y0, box.y1, find.y, find.sigma_y), (box.x0, box.x1, find.x, find.sigma_x)]
    if candidate.primary:
        sides.append((*candidate.channels, candidate.primary.centre, candidate.primary.fwhm * gaussian_fwhm_to_sigma))
    return float(np.prod([ndtr((b - 0.5 - c) / sigma) - ndtr((a - 0.5 - c) / sigma) for a, b, c, sigma in sides]))


def focus_and_measure(find: Find, cube: Cube, cutout: Cutout, settings: Settings) -> None:
    """Steps 8 to 10 for one find, in the cutout it is seen in."""
    candidate = find.candidate
    box = cutout.local(candidate.box)
    candidate.spectrum = np.nansum(cutout.planes[:, *box.slices], axis=(1, 2)).astype(np.float32)
    candidate.spectrum[~np.isfinite(cutout.planes[:, *box.slices]).any(axis=(1, 2))] = np.nan
    focused = focus(cutout.planes, candidate.channels)  # (8)
    sigma = focused_noise(focused, voxel_noise(cutout.planes, candidate.peaks), candidate.channels)
    candidate.snr_global = global_snr(focused, box, sigma)  # (9), eq. 3
    candidate.snr_pixel = brightest_pixel(pixel_snr(focused, sigma), box)[1]  # (9), eq. 4
    margin = (len(focused) - settings.crop) // 2
    candidate.focused = cut(focused, (margin, margin), settings.crop)  # (10)
    candidate.focus_origin = (cutout.origin[0] + margin, cutout.origin[1] + margin)
    measure(candidate, cube, cutout, (find.x, find.y), max(captured(find), 0.3))  # (10)
    if candidate.f_sum < 0 and candidate.kind != "both" and candidate.fate is not Fate.DROPPED:
        candidate.fate = Fate.DROPPED
        candidate.reasons.append(f"dropped: its flux is negative, {candidate.f_sum:.3g}")
