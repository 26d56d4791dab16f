"""Training data of Source Finder: simulated fields as the pipeline passes them to the network, without cubes on disk.

A field is simulated at the resolution of the network, with three to six pixels per beam and in units of
its noise: a source is drawn by its S/N rather than its flux, and its image is the product of the transforms of the
dirty beam and of a Gaussian.  Everything else, from the noise to the maps, is done by the code of the pipeline, so that
the network is trained on its actual input, including its imperfections.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.constants import ARCSEC_PER_DEGREE, FOUR_LN2
from napari_almadet.processes import Pool
from napari_almadet.search.beam_decision import BeamDecision, settled
from napari_almadet.search.line_maps import maps, network_input
from napari_almadet.search.noise_units import in_noise_units
from napari_almadet.search.sidelobes import KnownBeam, subtract_sidelobes
from napari_almadet.search.windows import Window
from napari_almadet.simulation import sky
from napari_almadet.simulation.array import SPEED_OF_LIGHT, AntennaArray, CleanBeam
from napari_almadet.simulation.channels import draw_mixing, noise_factor
from napari_almadet.simulation.cleaning import CleanRun, clean_cube, draw_clean
from napari_almadet.simulation.emission import beam_between, beam_transfer
from napari_almadet.simulation.observe import Imager, Observation
from napari_almadet.threads import cores
from napari_almadet.training.data import SHARED_CHANNELS, Shown
from napari_almadet.training.resolved import (
    USUAL,
    Ranges,
    Resolved,
    dirty,
    draw_clouds,
    draw_filling,
    draw_galaxies,
    truth_of,
)

SIDE = 96  # px, side of a field
CHANNELS = 128
ARRAYS = (*(f"alma_cycle9_c{i}" for i in range(1, 7)), "aca_cycle9", "vla_c", "vla_d")
FIELDS = 40  # fields per observation
NOISE_CUBES = 2  # noise cubes of 2 SIDE pixels a side, from which windows are cut for the fields
EMPTY = 0.15  # fraction of fields without sources
# Contents of the other fields, and their fractions.  "sources" are those of `draw_sources`; fields with galaxies and
# clouds contain a few of them, too.
SKIES = {"sources": 0.52, "galaxies": 0.18, "clouds": 0.12, "absorption": 0.06, "continuum": 0.12}
DISCS = 0.2  # of the fields with sources contain discs
# Processing of the data, and the fraction of each: none; phase errors; sources without sidelobes; CLEAN to any depth.
EFFECTS = {"none": 0.62, "phases": 0.10, "restored": 0.08, "clean": 0.20}
# The same of fields with galaxies or clouds: such cubes are rarely left dirty, and a shallow CLEAN leaves the sidelobes
# of large sources, which are faint, wide peaks.
EFFECTS_IF_RESOLVED = {"none": 0.37, "phases": 0.08, "restored": 0.08, "clean": 0.47}
SHORT_SPACINGS = 0.35  # of the unprocessed fields of galaxies and clouds: they contain all scales
SMOOTHED = 0.1  # fraction of fields smoothed to a wider beam
# How the search learns about the dirty beam of a field: fraction of the dirty ones whose user says that they are dirty,
# and of the others whose header says that they were CLEANed.  In the rest it decides by itself.
USER_SAYS, HEADER_SAYS = 0.3, 0.3
WIDEST_BEAM = 6.2  # px
FAINTEST = 3.0  # minimum SNR, stack and line together, of a source in the loss
COLUMNS = ("field", "y", "x", "sigma_y", "sigma_x", "snr_stack", "snr_line", "channel", "width")


@dataclass(frozen=True)
class Instrument:
    """One observation: the transform of its dirty beam, its clean beam, and noise to cut from."""

    response: torch.Tensor  # rfft2 of the dirty beam on a grid of 2 SIDE
    clean_beam: CleanBeam
    noise: np.ndarray  # (cubes, channels, 2 SIDE, 2 SIDE), float16

    @property
    def beam(self) -> float:
        """FWHM of the clean beam in pixels, the geometric mean of its axes."""
        return self.clean_beam.fwhm


def draw_observation(rng: np.random.Generator, paper: bool) -> Observation:
    """Draw an observation with 2.6 to 6.2 pixels per beam: the paper's array and natural weights, or any."""
    array = Observation.array if paper else str(rng.choice(ARRAYS))
    robust = None if paper or rng.random() < 0.5 else float(rng.uniform(-2, 2))
    observation = Observation(
        array=array,
        size=SIDE,
        n_channels=CHANNELS,
        declination=float(np.degrees(AntennaArray.load(array).latitude) + rng.uniform(-50, 45)),
        hour_angle=float(rng.uniform(-2, 2)),
        duration=float(np.exp(rng.uniform(np.log(600), np.log(7200)))),
        integration=30.0,
        robust=robust,
    )
    longest = np.hypot(*observation.uv.T).max() * observation.frequency / SPEED_OF_LIGHT.value
    finest = float(np.degrees(1 / longest) * ARCSEC_PER_DEGREE)  # arcsec
    observation = replace(observation, pixel=finest / 4)
    beam = observation.clean_beam
    pixel = observation.pixel * np.sqrt(beam.major * beam.minor) / rng.uniform(2.6, 6.2)
    return replace(observation, pixel=min(pixel, 0.45 * finest))  # Nyquist sampling: 0.5


def instrument(rng: np.random.Generator, paper: bool) -> Instrument:
    """Draw an observation, and compute the data common to its fields."""
    observation = draw_observation(rng, paper)
    psf = torch.as_tensor(np.fft.ifftshift(observation.dirty_beam), dtype=torch.float32)
    response = torch.fft.rfft2(psf)
    imager = Imager(replace(observation, size=2 * SIDE), band_ends=False)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    noise = [imager.noise(CHANNELS, generator).half().numpy() for _ in range(NOISE_CUBES)]
    return Instrument(response, observation.clean_beam, np.stack(noise))


def covariance(major: float, minor: float, angle: float) -> np.ndarray:
    """Covariance in (y, x) of a Gaussian of given FWHM in px and position angle in degrees, North up and East left."""
    return sky.covariance(major, minor, angle)[::-1, ::-1]


def source_image(transfer: torch.Tensor, centre: np.ndarray, shape: np.ndarray) -> torch.Tensor:
    """A Gaussian of covariance ``shape`` at ``centre`` (y, x), convolved by ``transfer``; (SIDE, SIDE), peak near 1.

    It is normalised so that the peak of the same source at the centre of a pixel is 1.
    """
    n = 2 * SIDE
    v, u = torch.fft.fftfreq(n)[:, None], torch.fft.rfftfreq(n)
    a, b, c = float(shape[0, 0]), float(shape[0, 1]), float(shape[1, 1])
    blur = torch.exp(-2 * np.pi**2 * (a * v**2 + 2 * b * v * u + c * u**2))
    image = torch.fft.irfft2(transfer * blur, s=(n, n))
    shift = torch.exp(-2j * np.pi * (v * float(centre[0]) + u * float(centre[1])))
    return torch.fft.irfft2(transfer * blur * shift, s=(n, n))[:SIDE, :SIDE] / image[0, 0]


@dataclass
class Source:
    """One source: centre (y, x) and covariance in px; SNRs in stack and line; the line in channels."""

    centre: np.ndarray
    shape: np.ndarray
    snr_stack: float
    snr_line: float
    channel: float
    width: float
    gradient: float = 0.0  # channels, shift of the line of a rotating source across its FWHM
    slope: float = 0.0  # relative change of the continuum from one end of the band to the other


def draw_sources(rng: np.random.Generator, beam: float, n_channels: int, empty: float) -> list[Source]:
    """The sources of one field: none, a few, close pairs, resolved rotating ones; faint, ordinary or bright."""
    if rng.random() < empty:
        return []
    if rng.random() < DISCS:
        return draw_discs(rng, beam, n_channels)
    n = int(rng.integers(1, 7))
    bright = rng.random() < 0.25
    kind = rng.choice(["both", "line", "continuum", "mixed"], p=[0.5, 0.25, 0.1, 0.15])
    margin = rng.choice([0, 0.15]) * SIDE
    sources: list[Source] = []
    while len(sources) < n:
        mine = rng.choice(["both", "line", "continuum"]) if kind == "mixed" else kind
        width = np.exp(rng.uniform(np.log(1.5), np.log(30))) if rng.random() < 0.3 else rng.uniform(3, 10)
        level = np.exp(rng.uniform(np.log(10), np.log(320))) if bright else np.exp(rng.uniform(np.log(2), np.log(50)))
        # sum of a continuum of level SNR and a line one to five times as high (table 1)
        relative = rng.uniform(0.5, 5) * np.sqrt(0.75 * width / n_channels)
        snr_stack, snr_line = {"both": (level, level * relative), "line": (0, level), "continuum": (level, 0)}[mine]
        size = rng.uniform(0.8, 3.0, 2) if rng.random() < 0.08 else rng.uniform(0.0, 1.0, 2)
        minor, major = beam * np.sort(size)
        shape = covariance(major, minor, rng.uniform(0, 180))
        centre = rng.uniform(margin, SIDE - 1 - margin, 2)
        if sources and rng.random() < 0.35:
            angle, distance = rng.uniform(0, 2 * np.pi), beam * rng.uniform(0.5, 2.2)
            centre = sources[-1].centre + distance * np.array([np.sin(angle), np.cos(angle)])
            if not (centre >= 0).all() or not (centre <= SIDE - 1).all():
                continue
        sources.append(Source(centre, shape, snr_stack, snr_line, rng.uniform(0, n_channels - 1), width))
    return sources


def draw_discs(rng: np.random.Generator, beam: float, n_channels: int) -> list[Source]:
    """One to three resolved sources, most of them rotating, and sometimes a few point sources nearby."""
    sources = []
    for _ in range(int(rng.integers(1, 4))):
        major = beam * rng.uniform(1.0, 4.2)
        shape = covariance(major, max(major * rng.uniform(0.35, 1), 0.8 * beam), rng.uniform(0, 180))
        level = np.exp(rng.uniform(np.log(4), np.log(80)))
        width = np.exp(rng.uniform(np.log(2), np.log(10)))
        snr_line = level * rng.uniform(0.5, 5) * np.sqrt(0.75 * width / n_channels)
        snr_stack = level if rng.random() < 0.7 else 0.0
        gradient = rng.uniform(-24, 24) if rng.random() < 0.75 else 0.0
        channel = rng.uniform(0.1, 0.9) * n_channels
        centre = rng.uniform(0.05, 0.95, 2) * SIDE
        sources.append(Source(centre, shape, snr_stack, max(snr_line, level - snr_stack), channel, width, gradient))
    for _ in range(int(rng.integers(0, 3))):
        level = np.exp(rng.uniform(np.log(4), np.log(40)))
        wide, high = beam * rng.uniform(0.3, 0.6, 2)
        point = covariance(wide, high, 0)
        sources.append(Source(rng.uniform(0, SIDE - 1, 2), point, level, level / 2, rng.uniform(0, n_channels - 1), 6))
    return sources


def draw_absorption(rng: np.random.Generator, beam: float, n_channels: int) -> list[Source]:
    """One to three continuum sources, each with a line that absorbs a tenth to nearly all of the continuum."""
    sources = []
    for _ in range(int(rng.integers(1, 4))):
        level = np.exp(rng.uniform(np.log(10), np.log(300)))
        width = np.exp(rng.uniform(np.log(1.5), np.log(20)))
        depth = rng.uniform(0.1, 0.95) * level * np.sqrt(0.75 * width / n_channels)
        minor, major = beam * np.sort(rng.uniform(0.0, 0.8, 2))
        shape = covariance(major, minor, rng.uniform(0, 180))
        channel = rng.uniform(0.05, 0.95) * n_channels
        sources.append(Source(rng.uniform(0, SIDE - 1, 2), shape, level, -depth, channel, width))
    return sources


def draw_continuum(rng: np.random.Generator, beam: float, n_channels: int) -> list[Source]:
    """One to four bright sources with unsubtracted continuum of small slope, and fainter lines nearby."""
    sources = []
    for _ in range(int(rng.integers(1, 5))):
        level = np.exp(rng.uniform(np.log(30), np.log(2000)))
        size = rng.uniform(0.8, 3.0, 2) if rng.random() < 0.3 else rng.uniform(0.0, 0.8, 2)
        minor, major = beam * np.sort(size)
        shape = covariance(major, minor, rng.uniform(0, 180))
        centre = rng.uniform(0, SIDE - 1, 2)
        sources.append(Source(centre, shape, level, 0, 0, 1, slope=float(rng.normal(0, 0.05))))
    return sources + draw_lines(rng, beam, n_channels, int(rng.integers(0, 6)))


def draw_lines(rng: np.random.Generator, beam: float, n_channels: int, n: int) -> list[Source]:
    """A number of compact sources with lines of SNR 4 to 50, one in three with continuum."""
    sources = []
    for _ in range(n):
        level = np.exp(rng.uniform(np.log(4), np.log(50)))
        minor, major = beam * np.sort(rng.uniform(0.0, 0.8, 2))
        shape = covariance(major, minor, 0)
        stack = level if rng.random() < 1 / 3 else 0.0
        width = np.exp(rng.uniform(np.log(2), np.log(15)))
        sources.append(Source(rng.uniform(0, SIDE - 1, 2), shape, stack, level, rng.uniform(0, n_channels - 1), width))
    return sources


@dataclass(frozen=True)
class Mix:
    """How fields are drawn.

    ``skies`` are the contents and their fractions; ``all_channels`` is the fraction with all channels, while others
    have at least ``fewest_channels``; ``spoil`` is applied to each cube (None: nothing); ``ranges`` are those of
    galaxies and clouds.  ``smoothed`` is the share of those smoothed to a wider beam, ``bright_beside`` the share of
    those with galaxies or clouds that have bright sources with continuum beside them.
    """

    skies: Mapping[str, float] = field(default_factory=lambda: SKIES)
    all_channels: float = 0.6
    fewest_channels: int = 24
    spoil: Callable[[np.random.Generator, torch.Tensor, Instrument], torch.Tensor] | None = None
    ranges: Ranges = USUAL
    smoothed: float = SMOOTHED
    bright_beside: float = 0.0


def draw_field(
    rng: np.random.Generator, beam: CleanBeam, n_channels: int, empty: float, mix: Mix | None = None
) -> tuple[list[Source], list[Resolved]]:
    """Draw the contents of one field, see `SKIES`: sources, and galaxies and clouds; ``empty``: probability of none."""
    if rng.random() < empty:
        return [], []
    mix = mix or Mix()
    kind = rng.choice(list(mix.skies), p=list(mix.skies.values()))
    if kind == "absorption":
        return draw_absorption(rng, beam.fwhm, n_channels), []
    if kind == "continuum":
        return draw_continuum(rng, beam.fwhm, n_channels), []
    if kind == "sources":
        return draw_sources(rng, beam.fwhm, n_channels, 0.0), []
    draw = {"galaxies": draw_galaxies, "clouds": draw_clouds, "filling": draw_filling}[str(kind)]
    resolved = draw(rng, beam, SIDE, n_channels, mix.ranges)
    if mix.bright_beside and rng.random() < mix.bright_beside:
        return draw_continuum(rng, beam.fwhm, n_channels), resolved
    return draw_lines(rng, beam.fwhm, n_channels, int(rng.choice(4, p=[0.5, 0.25, 0.15, 0.1]))), resolved


def emission(source: Source, transfer: torch.Tensor, n_channels: int) -> torch.Tensor:
    """A source's cube in units of the noise of a channel, (n_channels, SIDE, SIDE)."""
    channel = np.arange(n_channels)
    sigma = source.width * gaussian_fwhm_to_sigma
    if source.gradient:
        # adjacent strips perpendicular to the major axis, each with the line shifted by rotation
        values, axes = np.linalg.eigh(source.shape)
        along = np.linspace(-0.75, 0.75, 13)  # FWHM
        to_px = np.sqrt(values[1]) / gaussian_fwhm_to_sigma
        thin = source.shape - (values[1] - (to_px * (along[1] - along[0])) ** 2) * np.outer(axes[:, 1], axes[:, 1])
        offsets, shifts = to_px * along[:, None] * axes[:, 1], 0.5 * source.gradient * sky.rotation(along)
        parts = np.exp(-FOUR_LN2 * along**2)
    else:
        thin, offsets, shifts, parts = source.shape, np.zeros((1, 2)), np.zeros(1), np.ones(1)
    images = torch.stack([source_image(transfer, source.centre + offset, thin) for offset in offsets]).flatten(1)
    if source.gradient:
        parts = parts / float((torch.as_tensor(parts, dtype=torch.float32) @ images).max())
    lines = np.exp(-0.5 * ((channel - source.channel - shifts[:, None]) / sigma) ** 2)
    norm = np.sqrt((np.exp(-0.5 * (channel - n_channels // 2) ** 2 / sigma**2) ** 2).sum())
    continuum = source.snr_stack / np.sqrt(n_channels) * (1 + source.slope * (channel / n_channels - 0.5))
    spectra = parts[:, None] * (continuum + source.snr_line * lines / norm)
    return (torch.as_tensor(spectra.T, dtype=torch.float32) @ images).reshape(n_channels, SIDE, SIDE)


def noise_window(rng: np.random.Generator, noise: np.ndarray, n_channels: int) -> torch.Tensor:
    """A cube of noise cut from a larger one, randomly rotated by 180 degrees, with rolled channels and random sign."""
    cube = noise[rng.integers(len(noise))]
    y, x = rng.integers(0, cube.shape[1] - SIDE + 1, 2)
    window = np.roll(cube[:, y : y + SIDE, x : x + SIDE], rng.integers(len(cube)), axis=0)[:n_channels]
    if rng.integers(2):
        window = window[:, ::-1, ::-1]  # a dirty beam is point-symmetric
    if rng.integers(2):
        window = window[::-1]
    return torch.from_numpy(np.ascontiguousarray(window, np.float32) * rng.choice([-1, 1]).astype(np.float32))


def phase_errors(rng: np.random.Generator, response: torch.Tensor) -> torch.Tensor:
    """The transform of a dirty beam whose visibilities have smooth phase errors of 5 to 30 degrees."""
    n = 2 * SIDE
    rough = torch.from_numpy(rng.normal(size=(n, n)).astype(np.float32))
    scale = float(rng.uniform(2, 12))
    v, u = torch.fft.fftfreq(n)[:, None], torch.fft.rfftfreq(n)
    field = torch.fft.irfft2(torch.fft.rfft2(rough) * torch.exp(-2 * (np.pi * scale) ** 2 * (u**2 + v**2)), s=(n, n))
    field = field - torch.roll(field.flip(0, 1), (1, 1), (0, 1))  # odd, so that the image is real
    field = field / field.std() * float(np.radians(rng.uniform(5, 30)))
    return response * torch.exp(1j * field[:, : n // 2 + 1])


@dataclass(frozen=True, eq=False)
class SimulatedField:
    """A field and its truth.

    Attributes
    ----------
    cube
        Shape (channels, SIDE, SIDE), in units near its noise; NaN where there is no data.
    sources
        Rows of :data:`COLUMNS` but the first.
    owners
        Number of the galaxy or cloud that each source is the centre or a leaf of, 0 for none: (sources,).
    beam
        FWHM in pixels.
    objects
        Number of the galaxy or cloud at each pixel, the brighter one in overlaps; 0 for none: (SIDE, SIDE).
    between
        Pixels of a cloud outside its leaves, which have no weight in the loss: (SIDE, SIDE).
    known
        What the search is told about its beam.
    """

    cube: torch.Tensor
    sources: np.ndarray
    owners: np.ndarray
    beam: float
    objects: np.ndarray
    between: np.ndarray
    known: KnownBeam


def simulate_field(
    rng: np.random.Generator, instrument: Instrument, empty: float = EMPTY, mix: Mix | None = None
) -> SimulatedField:
    """Simulate one field; ``empty`` is the probability that it has no sources, ``mix`` describes the others."""
    mix = mix or Mix()
    n_channels = CHANNELS if rng.random() < mix.all_channels else int(rng.integers(mix.fewest_channels, CHANNELS + 1))
    sources, resolved = draw_field(rng, instrument.clean_beam, n_channels, empty, mix)
    effects = EFFECTS_IF_RESOLVED if resolved else EFFECTS
    effect = str(rng.choice(list(effects), p=list(effects.values())))
    if resolved and effect == "none" and (resolved[0].smooth or rng.random() < SHORT_SPACINGS):
        effect = "restored"
    transfer = instrument.response
    if effect == "phases" or (effect == "clean" and rng.random() < 0.25):
        transfer = phase_errors(rng, transfer)
    elif effect == "restored":
        left = rng.uniform(0, 0.2)
        transfer = (1 - left) * restoring(instrument.clean_beam) + left * transfer
    cube = noise_window(rng, instrument.noise, n_channels)
    if rng.random() < SHARED_CHANNELS:
        factor = torch.from_numpy(noise_factor(draw_mixing(rng, n_channels)))
        cube = (factor @ cube.flatten(1)).reshape(cube.shape)
    for source in sources:
        cube += emission(source, transfer, n_channels)
    imaged = [dirty(one.emission, transfer, SIDE, n_channels) for one in resolved]
    for image in imaged:
        cube += image
    if effect == "clean":
        cube = cleaned(cube, instrument, draw_clean(rng, most=1000))
    beam, noise = instrument.clean_beam, 1.0
    smoothing = draw_smoothing(rng, instrument) if rng.random() < mix.smoothed else None
    if smoothing is not None:
        beam, noise = smoothing.beam, smoothing.noise
        cube, *imaged = (smoothing(planes) for planes in (cube, *imaged))
    rows = [truth_row(source, instrument.clean_beam, beam, noise) for source in sources]
    owners = [0] * len(rows)
    objects, between = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), bool)
    for number, (one, image) in enumerate(zip(resolved, imaged, strict=True), 1):
        known = truth_of(one, beam, noise, image.numpy())
        if known is not None:
            rows += list(known.rows)
            owners += [number] * len(known.rows)
            objects[known.footprint & (objects == 0)] = number
            between |= known.between
    for source in sources:  # sources in the loss have weight, also inside a cloud
        y, x = np.rint(source.centre).astype(int).clip(0, SIDE - 1)
        between[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = False
    if mix.spoil:
        cube = mix.spoil(rng, cube, instrument)
    cube, blank = blemish(rng, cube)
    truth = np.array(rows).reshape(-1, len(COLUMNS) - 1)
    iy, ix = np.rint(truth[:, :2]).astype(int).clip(0, SIDE - 1).T
    is_dirty = effect not in ("clean", "restored") and smoothing is None
    known_beam = KnownBeam(beam.fwhm, shape_of(beam)[::-1, ::-1].copy(), decision=draw_decision(rng, is_dirty))
    kept = ~blank[iy, ix]
    of_kept = truth[kept], np.array(owners, int)[kept]
    return SimulatedField(cube, *of_kept, beam.fwhm, objects * ~blank, between & ~blank, known_beam)


def draw_decision(rng: np.random.Generator, is_dirty: bool) -> BeamDecision | None:
    """What the user or the header of a field says about its dirty beam; None: nothing, so that the search decides."""
    if rng.random() >= (USER_SAYS if is_dirty else HEADER_SAYS):
        return None
    return settled("dirty") if is_dirty else BeamDecision("clean", "header", {"says": "niter"})


def restoring(beam: CleanBeam) -> torch.Tensor:
    """The transform of a clean beam with a peak of 1, on a grid of 2 SIDE."""
    wide = (2 * SIDE, 2 * SIDE)
    return torch.from_numpy(beam_transfer(beam, wide)) * float(2 * np.pi * np.sqrt(np.linalg.det(shape_of(beam))))


def shape_of(beam: CleanBeam) -> np.ndarray:
    """Covariance in (y, x) of a clean beam, px²."""
    return covariance(beam.major, beam.minor, beam.angle)


def cleaned(cube: torch.Tensor, instrument: Instrument, run: CleanRun) -> torch.Tensor:
    """A field in units of its noise after CLEAN with its dirty beam, restored with the clean one."""
    n = 2 * SIDE
    psf = np.fft.fftshift(torch.fft.irfft2(instrument.response, s=(n, n)).numpy())
    psf /= psf[SIDE, SIDE]
    beam = restoring(instrument.clean_beam).numpy()
    return torch.from_numpy(clean_cube(cube.numpy(), (psf, psf), beam, 1.0, run))


@dataclass(frozen=True)
class Smoothing:
    """Convolution of planes in units of their noise to a wider ``beam``; ``noise`` is the ratio of new to old noise."""

    beam: CleanBeam
    transfer: torch.Tensor
    noise: float

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """Planes (n, SIDE, SIDE) in units of the new noise."""
        wide = (2 * SIDE, 2 * SIDE)
        return torch.cat(
            [
                torch.fft.irfft2(torch.fft.rfft2(some, s=wide) * self.transfer, s=wide)[:, :SIDE, :SIDE]
                for some in planes.split(16)
            ]
        )


def draw_smoothing(rng: np.random.Generator, instrument: Instrument) -> Smoothing | None:
    """Draw smoothing to a beam up to 1.8 times as wide, round or not; None if not wider in every direction."""
    old = instrument.clean_beam
    if rng.random() < 0.5:
        fwhm = min(old.major * rng.uniform(1.02, 1.8), WIDEST_BEAM)
        new = CleanBeam(fwhm, fwhm, 0.0)
    else:
        factor = min(rng.uniform(1.05, 1.8), WIDEST_BEAM / old.fwhm)
        new = CleanBeam(old.major * factor, old.minor * factor, old.angle)
    kernel = beam_between(old, new)
    if kernel is None:
        return None
    wide = (2 * SIDE, 2 * SIDE)
    transfer = torch.from_numpy(beam_transfer(kernel, wide)) * (new.fwhm**2 / old.fwhm**2)  # Jy/beam
    noise = torch.from_numpy(instrument.noise[0, :16].astype(np.float32))
    about = SIDE // 2  # in the middle, with noise on all sides
    rms = float(torch.fft.irfft2(torch.fft.rfft2(noise) * transfer, s=wide)[:, about:-about, about:-about].std())
    return Smoothing(new, transfer / rms, rms)


def truth_row(source: Source, old: CleanBeam, new: CleanBeam, noise: float) -> tuple[float, ...]:
    """Row of :data:`COLUMNS`, without the first, of a source whose SNRs refer to the beam before smoothing.

    ``noise`` is the ratio of new to old noise, both per beam.
    """

    def peak(beam: CleanBeam) -> float:
        """Peak per beam of a Gaussian of unit flux."""
        return np.sqrt(np.linalg.det(shape_of(beam)) / np.linalg.det(shape_of(beam) + source.shape))

    gain = peak(new) / peak(old) / noise
    sigma = np.sqrt(np.diag(source.shape + shape_of(new)))
    snr = (source.snr_stack * gain, source.snr_line * gain)
    return (*source.centre, *sigma, *snr, source.channel, source.width)


def whole_field() -> Window:
    """The window of the search that contains a whole field."""
    return Window(0, 0, (SIDE, SIDE), (slice(0, SIDE), slice(0, SIDE)), 1)


def shown_maps(field: SimulatedField) -> torch.Tensor:
    """The input of Source Finder for a field, (8, SIDE, SIDE)."""
    raw = in_noise_units(field.cube, field.beam)
    images, _ = maps(subtract_sidelobes(raw, whole_field(), field.known).units, raw, field.beam)
    return network_input(images, len(field.cube))


def blemish(rng: np.random.Generator, cube: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Noise that rises outward, noisy or blank channels, blank borders; returns the cube and its blank pixels."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    blank = np.zeros((SIDE, SIDE), bool)
    if rng.random() < 0.2:
        beam = np.exp(
            -(np.hypot(y - rng.normal(0, 5), x - rng.normal(0, 5)) ** 2) / (2 * (SIDE * rng.uniform(0.3, 0.6)) ** 2)
        )
        cube = cube / torch.from_numpy(beam.clip(0.1).astype(np.float32))
        blank |= beam < rng.choice([0.1, 0.2, 0.4])
    if rng.random() < 0.2:
        (y0, y1), (x0, x1) = (sorted(rng.integers(-20, SIDE + 20, 2)) for _ in range(2))
        if min(y1, SIDE) - max(y0, 0) > 40 and min(x1, SIDE) - max(x0, 0) > 40:
            outside = np.ones_like(blank)
            outside[max(y0, 0) : y1, max(x0, 0) : x1] = False
            blank |= outside
    if rng.random() < 0.1:
        edge = int(rng.integers(1, 6))
        cube[:edge] *= float(rng.uniform(1, 4))
        if rng.random() < 0.5:
            cube[-edge:] = torch.nan
    cube[:, torch.from_numpy(blank)] = torch.nan
    return cube, blank


def write_fields(folder: Path, which: str, index: int, seed: int = 1) -> Path:
    """Simulate the fields of one observation into ``folder``, unless they exist; the same seed gives the same fields.

    The file holds ``maps`` (fields, 8, SIDE, SIDE) as float16, ``sources``, rows of :data:`COLUMNS`, and
    ``objects`` and ``between``, (fields, SIDE, SIDE), see :class:`SimulatedField`.
    """
    path = folder / f"{which}-{index:05d}.npz"
    if path.is_file():
        return path
    rng = np.random.default_rng([seed, {"train": 0, "validation": 1}[which], index])
    shared = instrument(rng, paper=index % 5 < 2)
    images, rows, fields = [], [], []
    for i in range(FIELDS):
        field = simulate_field(rng, shared)
        images.append(shown_maps(field).half().numpy())
        rows.append(np.insert(field.sources, 0, i, axis=1))
        fields.append((field.objects, field.between))
    partial = path.with_suffix(".partial.npz")
    objects, between = (np.stack(parts) for parts in zip(*fields, strict=True))
    sources = np.concatenate(rows).astype(np.float32)
    np.savez(partial, maps=np.stack(images), sources=sources, objects=objects, between=between)
    partial.rename(path)
    return path


def write_set(
    folder: Path, n: int, which: str, seed: int, jobs: int | None = None, progress: Callable | None = None
) -> None:
    """Simulate ``n`` fields or a few more into ``folder``, in ``jobs`` processes; existing ones are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    count = -(-n // FIELDS)
    with Pool(min(jobs or cores(), count)) as pool:
        made = pool.map(write_fields, repeat(folder), repeat(which), range(count), repeat(seed))
        for done, _ in enumerate(made, 1):
            if progress:
                progress(done, count)


class Fields(Shown):
    """(maps, targets) of simulated fields: tensors (8, SIDE, SIDE) and (6, SIDE, SIDE).

    The maps of the targets are: a Gaussian of standard deviation 1 px around each source's centre, with a peak of 1;
    the four values of :class:`SourceFinder` in the pixels of the centres; and the weight, which is 0 around very faint
    sources, between the leaves of a cloud, or without data, else 1.
    """

    def __init__(self, folder: Path, which: str, seed: int, augment: bool = True):
        """Read the files of a folder.

        Raises
        ------
        ValueError
            If an older version wrote them.
        """
        super().__init__(seed, augment)
        files = [np.load(path) for path in sorted(folder.glob(f"{which}-*.npz")) if "partial" not in path.name]
        if any("between" not in file for file in files):
            raise ValueError(f"{folder} holds fields of an older version: remove it, or train in another folder")
        self.maps = np.concatenate([file["maps"] for file in files])
        self.between = np.concatenate([file["between"] for file in files])
        self.sources = []
        for file in files:
            rows = file["sources"]
            self.sources += [rows[rows[:, 0] == i, 1:] for i in range(len(file["maps"]))]

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = self._draws(index)
        sources = self.sources[index].copy()
        images = np.concatenate([self.maps[index], self.between[index][None]]).astype(np.float32)
        if self.augment:
            if rng.integers(2):
                images, sources[:, :4] = images.swapaxes(1, 2), sources[:, [1, 0, 3, 2]]
            for axis in (0, 1):
                if rng.integers(2):
                    images = np.flip(images, axis + 1)
                    sources[:, axis] = SIDE - 1 - sources[:, axis]
        asked = images[6] * (1 - images[8])
        return torch.from_numpy(np.ascontiguousarray(images[:8])), torch.from_numpy(targets(sources, asked))


def targets(sources: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Targets of one field, see :class:`Fields`; ``sources`` are rows of :data:`COLUMNS` but the first."""
    made = np.zeros((6, SIDE, SIDE), np.float32)
    made[5] = valid
    y, x = np.indices((SIDE, SIDE))
    strength = np.hypot(sources[:, 4], sources[:, 5])
    for source in sources[np.argsort(strength)]:  # if two are in one pixel, the brighter one counts
        iy, ix = np.rint(source[:2]).astype(int).clip(0, SIDE - 1)
        near = np.exp(-0.5 * ((y - iy) ** 2 + (x - ix) ** 2))
        if np.hypot(source[4], source[5]) < FAINTEST:
            made[5] *= near < 0.1
            continue
        made[5] = np.where(near >= 0.1, valid, made[5])
        made[0] = np.maximum(made[0], near)
        made[1:5, iy, ix] = source[0] - iy, source[1] - ix, *np.log(source[2:4])
    return made
