"""Objects other than the paper's Gaussians (galaxies, clouds, absorption, bright continuum), and their truth.

An object has a line, a continuum, or both.  Its voxels in a cube are limited twice: by its model convolved with the
clean beam, and by its dirty image, which lacks the scales that no baseline measures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma, gaussian_sigma_to_fwhm
from scipy import fft, ndimage
from skimage.segmentation import watershed

from napari_almadet.constants import BOX_LEVEL
from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.channels import Mixing
from napari_almadet.simulation.clouds import cloud_emission, draw_cloud
from napari_almadet.simulation.emission import MASK_LEVEL, Emission, beam_between, beam_transfer, line_widths, triple
from napari_almadet.simulation.galaxies import draw_galaxy, galaxy_emission
from napari_almadet.simulation.observe import Observation
from napari_almadet.simulation.sky import SkyModel, covariance

RESOLVED = ("galaxy", "cloud", "disc")  # kinds of objects that are larger than a beam, and may be detected in pieces
GALAXY_BEAMS = (1.0, 40.0)  # diameters
CLOUD_BEAMS = (2.0, 30.0)  # FWHM of envelopes
LEAST_SNR = 5.0  # of the brightest spectrum
GALAXY_SNR = (LEAST_SNR, 100.0)  # of the brightest spectrum, as CLOUD_SNR; chosen by eye
CLOUD_SNR = (LEAST_SNR, 60.0)
FILLING = 0.35  # fraction of clouds that fill the field
SEVERAL_LINES = 0.25  # fraction of clouds
CONTINUUM_SNR = (100.0, 2000.0)  # of bright continuum in the stacked image
ABSORBED_SNR = (100.0, 1500.0)  # of absorbed continuum in the stacked image: at 100 half of it is 4 sigma in a channel
STAMP_LEVEL = 1e-5  # of the peak of a Gaussian, at the edge of its image
CONNECTED = 3.0  # SNR at which the parts of a cloud must be connected to be one object
PIECE_SNR = 5.0  # minimum SNR of a separate part
LINE_LEVEL = 1 / 16  # of a line's peak, at the ends of its channels: one FWHM from the centre of a Gaussian


@dataclass(frozen=True, eq=False)
class SkyObject:
    """One object.

    Attributes
    ----------
    kind
        "gaussian", "disc", "galaxy", "cloud", "continuum" or "absorption".
    x, y
        Centre in 0-based pixels; for a cloud, the centre of its envelope.
    line
        In Jy/pixel, negative in absorption; None without a line.
    image, corner, spectrum
        The continuum: an image in Jy/pixel, row and column of its first pixel, and a factor for each channel of the
        field; ``image`` is None without continuum.
    pair
        Number of the close pair it belongs to, or 0.
    about
        Exact values for columns of the truth table, which are used instead of measured ones.
    """

    kind: str
    x: float
    y: float
    line: Emission | None = None
    image: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)
    spectrum: np.ndarray | None = None
    pair: int = 0
    about: dict = field(default_factory=dict)

    @property
    def continuum(self) -> Emission | None:
        """The continuum as a cube, over all channels."""
        if self.image is None or self.spectrum is None:
            return None
        cube = self.spectrum[:, None, None].astype(np.float32) * self.image.astype(np.float32)
        return Emission(cube, (0, *self.corner), self.kind)

    def add_to(self, sky: np.ndarray) -> None:
        """Add it to a sky cube (channels, ny, nx) in Jy/pixel, in place."""
        for part in (self.line, self.continuum):
            if part is not None:
                part.add_to(sky)

    def whole(self, shape: tuple[int, int, int]) -> Emission:
        """Line and continuum as one emission, clipped to a field of a shape."""
        parts = [part.within(shape) for part in (self.line, self.continuum) if part is not None]
        parts = [part for part in parts if part.cube.size]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Emission(np.zeros((0, 0, 0), np.float32), (0, 0, 0), self.kind)
        low = np.min([part.origin for part in parts], axis=0)
        high = np.max([np.add(part.origin, part.cube.shape) for part in parts], axis=0)
        cube = np.zeros(high - low, np.float32)
        for part in parts:
            replace(part, origin=triple(np.subtract(part.origin, low))).add_to(cube)
        return Emission(cube, triple(low), self.kind)

    def scaled(self, factor: float) -> SkyObject:
        """The same object, ``factor`` times as bright."""
        line = None if self.line is None else self.line.scaled(factor)
        return replace(self, line=line, image=None if self.image is None else self.image * np.float32(factor))


@dataclass(frozen=True, eq=False)
class Ground:
    """Input for drawing objects: the observation, the probability of each pixel to contain one, and the channel mixing.

    ``mixing`` is applied to lines, see `Mixing.of_signal`.  ``beams`` and ``snr`` replace the default ranges of sizes
    and SNRs of galaxies and clouds.
    """

    observation: Observation
    where: np.ndarray
    mixing: Mixing | None = None
    beams: tuple[float, float] | None = None
    snr: tuple[float, float] | None = None

    @property
    def n_fine(self) -> int:
        """Number of channels before mixing."""
        return self.observation.n_channels if self.mixing is None else self.mixing.matrix.shape[1]

    @property
    def step(self) -> float:
        """Width of a fine channel, in channels."""
        return 1.0 if self.mixing is None else self.mixing.step

    def mixed(self, emission: Emission) -> Emission:
        """An emission in fine channels, converted to the channels of the cube."""
        return emission if self.mixing is None else emission.mixed(self.mixing.matrix)

    def place(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw the position x, y of an object."""
        pixel = int(rng.choice(self.where.size, p=self.where.ravel() / self.where.sum()))
        y, x = divmod(pixel, self.where.shape[1])
        return x + float(rng.uniform(-0.5, 0.5)), y + float(rng.uniform(-0.5, 0.5))


Draw = Callable[[np.random.Generator, Ground], list[SkyObject]]


def galaxies(rng: np.random.Generator, ground: Ground) -> list[SkyObject]:
    """One to four galaxies of 1 to 40 beams, lines of 4 channels to 2/3 of the band; a third have continuum."""
    observation, n = ground.observation, ground.n_fine
    made = []
    for _ in range(int(rng.integers(1, 5))):
        x, y = ground.place(rng)
        least, most = np.multiply(ground.beams or GALAXY_BEAMS, observation.clean_beam.fwhm)
        diameter = float(np.exp(rng.uniform(np.log(least), np.log(min(most, max(least, 0.9 * observation.size))))))
        width = float(np.exp(rng.uniform(np.log(4 / ground.step), np.log(0.65 * n))))
        z = float(rng.uniform(0.1, 0.9) * n)
        emission = ground.mixed(galaxy_emission(draw_galaxy(rng, (x, y, z), diameter, width)))
        made += brightened(rng, SkyObject("galaxy", x, y, emission), ground, ground.snr or GALAXY_SNR)
        if made and rng.random() < 1 / 3:
            level = float(np.exp(rng.uniform(np.log(0.02), np.log(1))))
            made[-1] = with_continuum(rng, made[-1], observation, level)
    return made


def clouds(rng: np.random.Generator, ground: Ground) -> list[SkyObject]:
    """One to three turbulent clouds; see `FILLING` and `SEVERAL_LINES`."""
    observation, n = ground.observation, ground.n_fine
    made = []
    filling = rng.random() < FILLING and not ground.beams
    for _ in range(1 if filling else int(rng.integers(1, 4))):
        x, y = ground.place(rng)
        several = rng.random() < SEVERAL_LINES
        z = float(rng.uniform(0.38, 0.62) * n if several else rng.uniform(0.15, 0.85) * n)
        size = None
        if not filling:
            along = float(np.exp(rng.uniform(*np.log(ground.beams or CLOUD_BEAMS)))) * observation.clean_beam.fwhm
            along = min(along, observation.size)
            sizes = rng.permutation([along, max(along * rng.uniform(0.3, 1), 1.5 * observation.clean_beam.fwhm)])
            size = (float(sizes[0]), float(sizes[1]))
        cloud = draw_cloud(rng, (observation.size,) * 2, n, (x, y, z), size, several_lines=several)
        emission = ground.mixed(cloud_emission(cloud, n))
        made += brightened(rng, SkyObject("cloud", x, y, emission), ground, ground.snr or CLOUD_SNR)
    return made


def absorption(rng: np.random.Generator, ground: Ground) -> list[SkyObject]:
    """One to three continuum sources behind absorbing clouds with a peak optical depth of 0.1 to 5."""
    observation, n = ground.observation, ground.n_fine
    beam = observation.clean_beam
    made = []
    for source in continuum_sources(rng, ground, int(rng.integers(1, 4)), ABSORBED_SNR):
        image, continuum = source.image, source.continuum
        assert image is not None and continuum is not None
        z = float(rng.uniform(0.1, 0.9) * n)
        size = (3 * beam.fwhm + max(image.shape),) * 2
        place = (source.x, source.y, z)
        cloud = draw_cloud(rng, (observation.size,) * 2, n, place, size)
        emission = cloud_emission(cloud, n)
        depth = np.zeros((n, *image.shape), np.float32)
        replace(emission, origin=triple(np.subtract(emission.origin, (0, *source.corner)))).add_to(depth)
        depth *= np.float32(np.exp(rng.uniform(np.log(0.1), np.log(5)))) / max(depth.max(), 1e-30)
        lost = Emission(np.exp(-depth) - 1, (0, *source.corner), "absorption")
        lost = ground.mixed(lost)
        light = continuum.cube[lost.origin[0] : lost.origin[0] + len(lost.cube)]
        line = trimmed(replace(lost, cube=lost.cube * light))
        made.append(replace(source, kind="absorption", line=line))
    return made


def bright_continuum(rng: np.random.Generator, ground: Ground) -> list[SkyObject]:
    """One to four bright continuum sources that were not subtracted, a few of them resolved."""
    return continuum_sources(rng, ground, int(rng.integers(1, 5)), CONTINUUM_SNR)


def continuum_sources(rng: np.random.Generator, ground: Ground, n: int, snr: tuple[float, float]) -> list[SkyObject]:
    """Gaussian continuum sources of 0.1 to 3 beams with an S/N in the stacked image drawn from a range."""
    observation = ground.observation
    beam, channels = observation.clean_beam, observation.n_channels
    made = []
    for _ in range(n):
        x, y = ground.place(rng)
        top = 3.0 if rng.random() < 0.3 else 0.8
        minor, major = np.sort(rng.uniform(0.1, top, 2)) * beam.fwhm
        image, corner = gaussian_stamp(x, y, max(major, 1.5), max(minor, 1.5), rng.uniform(0, 180))
        one = SkyObject("continuum", x, y, image=image, corner=corner, spectrum=power_law(rng, observation))
        level = float(np.exp(rng.uniform(*np.log(snr))))
        area = np.sqrt(np.linalg.det(covariance(major, minor, 0) + covariance(beam.fwhm, beam.fwhm, 0)))
        own = np.sqrt(np.linalg.det(covariance(max(major, 1.5), max(minor, 1.5), 0)))
        peak = own / area * 2 * np.pi * (beam.fwhm * gaussian_fwhm_to_sigma) ** 2  # Jy/beam of 1 Jy/pixel
        made.append(one.scaled(level * observation.noise / np.sqrt(channels) / peak))
    return made


def power_law(rng: np.random.Generator, observation: Observation) -> np.ndarray:
    """A continuum with a spectral index of -2 to 2, over the channels, 1 at the middle one."""
    return (observation.frequencies / observation.frequency) ** float(rng.uniform(-2, 2))


def gaussian_stamp(x: float, y: float, major: float, minor: float, angle: float) -> tuple[np.ndarray, tuple[int, int]]:
    """A Gaussian with peak 1, sampled at pixel centres, down to `STAMP_LEVEL`; and its first row and column."""
    matrix = covariance(major, minor, angle)
    reach = np.ceil(np.sqrt(-2 * np.log(STAMP_LEVEL) * np.diag(matrix))).astype(int)
    x0, y0 = int(np.floor(x)) - reach[0], int(np.floor(y)) - reach[1]
    dx, dy = np.arange(x0, x0 + 2 * reach[0] + 2) - x, np.arange(y0, y0 + 2 * reach[1] + 2) - y
    inverse = np.linalg.inv(matrix)
    power = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy[:, None] + inverse[1, 1] * dy[:, None] ** 2
    return np.exp(-0.5 * power).astype(np.float32), (y0, x0)


def gaussians(model: SkyModel, observation: Observation, mixing: Mixing | None = None) -> list[SkyObject]:
    """The sources of a sky model as objects; rotating ones are of kind "disc".  ``mixing``: see `Ground`."""
    n_channels = observation.n_channels
    fine = model
    if mixing is not None:
        fine = replace(
            model,
            line_centre=np.asarray(mixing.finer(model.line_centre)),
            line_fwhm=model.line_fwhm / mixing.step,
            gradient=model.gradient / mixing.step,
        )
    n_fine = n_channels if mixing is None else mixing.matrix.shape[1]
    continua = model.continuum_spectra(observation.frequencies)
    made = []
    for i in range(len(model)):
        image, corner = gaussian_stamp(model.x[i], model.y[i], model.major[i], model.minor[i], model.angle[i])
        line = None
        if model.line[i]:
            cube = fine.line_cube(i, image, corner, n_fine)
            line = Emission(cube, (0, *corner), "gaussian")
            line = trimmed(line if mixing is None else line.mixed(mixing.matrix))
        bright = model.continuum[i] > 0
        made.append(
            SkyObject(
                "disc" if model.gradient[i] and model.line[i] else "gaussian",
                float(model.x[i]),
                float(model.y[i]),
                line,
                image if bright else None,
                corner,
                continua[i] if bright else None,
                int(model.pair[i]),
                {"fwhm_major": model.major[i], "fwhm_minor": model.minor[i], "angle": model.angle[i]},
            )
        )
    return made


def trimmed(emission: Emission) -> Emission:
    """An emission without the channels at both ends that are below a millionth of its peak."""
    peak = np.abs(emission.cube).max(axis=(1, 2), initial=0)
    used = np.flatnonzero(peak > 1e-6 * peak.max(initial=0))
    low, high = (used[0], used[-1] + 1) if len(used) else (0, 0)
    return replace(emission, cube=emission.cube[low:high], origin=(emission.origin[0] + int(low), *emission.origin[1:]))


def attenuated(emission: Emission, pattern: np.ndarray) -> Emission:
    """An emission attenuated by the primary beam, (size, size), and clipped to the field."""
    size = len(pattern)
    part = emission.within((emission.origin[0] + len(emission.cube), size, size))
    return replace(part, cube=part.cube * pattern[part.place[1:]].astype(np.float32))


def brightened(rng: np.random.Generator, one: SkyObject, ground: Ground, snr: tuple[float, float]) -> list[SkyObject]:
    """A line object, scaled so that the S/N of its brightest spectrum is drawn from a range.

    An empty list if it is outside the field.
    """
    assert one.line is not None
    observation = ground.observation
    shape = (observation.n_channels, observation.size, observation.size)
    line = one.line.within(shape)
    dimmed = attenuated(line, observation.primary_beam())
    if not dimmed.cube.size or not dimmed.cube.any():
        return []
    observed = dimmed.seen_with(observation.clean_beam).within(shape).cube
    best = np.sqrt((observed**2).sum(axis=0)).max() / observation.noise
    factor = float(np.exp(rng.uniform(*np.log(snr)))) / best
    return [replace(one, line=line.scaled(factor))]


def with_continuum(rng: np.random.Generator, one: SkyObject, observation: Observation, level: float) -> SkyObject:
    """An object with a continuum added: distributed like the integrated line, ``level`` times the mean of the line."""
    assert one.line is not None
    image = one.line.cube.mean(axis=0) * np.float32(level)
    return replace(one, image=image, corner=one.line.origin[1:], spectrum=power_law(rng, observation))


@dataclass(frozen=True, eq=False)
class View:
    """Observation, beam, noise and data of the final cube, which determine the voxels of objects.

    Attributes
    ----------
    observation
        Of the cube.
    beam
        The clean beam of the final cube, wider than that of the observation if it was smoothed.
    noise
        Noise of a channel of the final cube, before primary-beam correction, in Jy/beam.
    covariance
        Of the noise of channels divided by its mean variance, (channels, channels); None if uncorrelated.
    channels, pixels
        Channels and pixels with data, (channels,) and (size, size).
    """

    observation: Observation
    beam: CleanBeam
    noise: float
    covariance: np.ndarray | None
    channels: np.ndarray
    pixels: np.ndarray

    def noise_of(self, weights: np.ndarray) -> float:
        """Noise of a weighted sum of channels, in Jy/beam."""
        shared = self.covariance
        variance = (weights**2).sum() if shared is None else weights @ shared @ weights
        return self.noise * float(np.sqrt(variance))

    def shown(self, emission: Emission) -> Emission:
        """An emission in the cube before primary-beam correction, within the field, in Jy/beam.

        In each voxel it is the smaller of two values: the model convolved with the clean beam, and the dirty image; 0
        if their signs differ.
        """
        observation = self.observation
        shape = (observation.n_channels, observation.size, observation.size)
        part = attenuated(emission.within(shape), observation.primary_beam())
        if not part.cube.size:
            return part
        clean = part.seen_with(self.beam).within(shape)
        dirty = self._imaged(part, clean.origin[1:], clean.cube.shape[1:])
        small = np.abs(dirty) < np.abs(clean.cube)
        cube = np.where(dirty * clean.cube > 0, np.where(small, dirty, clean.cube), 0)
        cube[~self.channels[clean.place[0]]] = 0
        cube[:, ~self.pixels[clean.place[1:]]] = 0
        return replace(clean, cube=cube.astype(np.float32))

    def _imaged(self, part: Emission, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """The dirty image of an emission, in a window of the field."""
        ny, nx = size
        response = self._response()
        half = len(response) // 2
        kernel = response[half - ny : half + ny, half - nx : half + nx]
        wide = kernel.shape
        transfer = fft.rfft2(fft.ifftshift(kernel).astype(np.float32))
        cube = np.zeros((len(part.cube), ny, nx), np.float32)
        replace(part, origin=(0, *np.subtract(part.origin[1:], corner))).add_to(cube)
        return np.stack([fft.irfft2(fft.rfft2(plane, s=wide) * transfer, s=wide)[:ny, :nx] for plane in cube])

    def _response(self) -> np.ndarray:
        """Image of a point source in the middle channel, (2 size, 2 size)."""
        observation = self.observation
        response = observation.response(observation.frequency)
        if self.beam == observation.clean_beam:
            return response
        return smoothed_planes(fft.ifftshift(response)[None], observation.clean_beam, self.beam, wrap=True)[0]


def smoothed_planes(planes: np.ndarray, old: CleanBeam, new: CleanBeam, wrap: bool = False) -> np.ndarray:
    """Planes (n, y, x) in Jy/beam, convolved to a wider beam; float32.

    With ``wrap`` they are periodic with lag 0 at [0, 0]; it is in the middle of the result.

    Raises
    ------
    ValueError
        If the new beam is not wider in every direction.
    """
    kernel = beam_between(old, new)
    if kernel is None:
        raise ValueError(f"{new} is not wider than {old} in every direction")
    n, ny, nx = planes.shape
    reach = 0 if wrap else int(np.ceil(2 * kernel.major))
    wide = (ny, nx) if wrap else tuple(fft.next_fast_len(side + reach, real=True) for side in (ny, nx))
    transfer = beam_transfer(kernel, wide) * np.float32(new.fwhm**2 / old.fwhm**2)
    made = np.empty((n, ny, nx), np.float32)
    for i, plane in enumerate(planes):
        smooth = fft.irfft2(fft.rfft2(plane.astype(np.float32), s=wide) * transfer, s=wide)[:ny, :nx]
        made[i] = fft.fftshift(smooth) if wrap else smooth
    return made


@dataclass(frozen=True, eq=False)
class TruthPart:
    """A row of the truth table and its voxels: ``mask`` starts at ``origin``; ``peak`` decides overlaps."""

    row: dict
    origin: tuple[int, int, int]
    mask: np.ndarray
    brightness: np.ndarray


def truth_of(one: SkyObject, view: View) -> list[TruthPart]:
    """The truth of an object and its voxels above half the noise; for a cloud, one entry per part.

    Parts of a cloud are regions that are connected where the S/N of its spectra exceeds `CONNECTED`, with all voxels
    nearest to them; parts below `PIECE_SNR` belong to the brightest one.
    """
    observation = view.observation
    shape = (observation.n_channels, observation.size, observation.size)
    shown = view.shown(one.whole(shape))
    if not shown.cube.size:
        return [_row(one, view, shown, np.zeros(shown.cube.shape, bool))]
    mask = np.abs(shown.cube) > MASK_LEVEL * view.noise
    footprint = mask.any(axis=0)
    if one.kind != "cloud" or not footprint.any():
        return [_row(one, view, shown, mask)]
    snr = np.sqrt((shown.cube**2).sum(axis=0)) / view.noise
    parts, n = ndimage.label(snr >= CONNECTED)
    bright = [k for k in range(1, n + 1) if snr[parts == k].max() >= PIECE_SNR]
    if len(bright) < 2:
        return [_row(one, view, shown, mask)]
    seeds = np.zeros_like(parts)
    for label, k in enumerate(bright, 1):
        seeds[parts == k] = label
    owner = watershed(-snr, seeds, mask=footprint)
    owner[footprint & (owner == 0)] = 1 + int(np.argmax([snr[parts == k].max() for k in bright]))
    own = [owner == label for label in range(1, len(bright) + 1)]
    return [_row(one, view, replace(shown, cube=shown.cube * where), mask & where) for where in own]


def _row(one: SkyObject, view: View, shown: Emission, mask: np.ndarray) -> TruthPart:
    """The row of an object, or of a part of it, with the emission ``shown``."""
    observation = view.observation
    n_channels = observation.n_channels
    line_shown = shown if one.image is None else _line_shown(one, view, shown)
    own = line_shown.cube
    # at the brightest position: the spectrum is its own matched filter
    strength = np.sqrt((own**2).sum(axis=0))
    snr_line = 0.0
    if strength.size and strength.max() > 0:
        spectrum = np.zeros(n_channels)
        best = np.unravel_index(strength.argmax(), strength.shape)
        spectrum[line_shown.place[0]] = own[:, *best]
        snr_line = float((spectrum**2).sum() / view.noise_of(spectrum))
    image = shown.cube.sum(axis=0)
    stack_noise = view.noise_of(view.channels.astype(float))
    stacked = float(np.abs(image).max(initial=0)) / stack_noise
    integrated = own.sum(axis=(1, 2)) if own.size else np.zeros(1)
    has_line = one.line is not None and bool(integrated.any())
    row = {"kind": one.kind, "x": one.x, "y": one.y, "pair": one.pair, "snr_stack": stacked, "snr_line": snr_line}
    w20, w50 = line_widths(integrated) if has_line else (np.nan, np.nan)
    row |= {"w20": w20, "w50": w50, "fwhm_line": w50, "n_voxels": int(mask.sum())}
    size = np.abs(integrated)
    inside = np.flatnonzero(size >= LINE_LEVEL * size.max())
    first = line_shown.origin[0]
    row |= {
        "z": float((size * (np.arange(len(size)) + first)).sum() / size.sum()) if has_line else np.nan,
        "z_min": int(inside[0]) + first if has_line else -1,
        "z_max": int(inside[-1]) + first if has_line else -1,
    }
    flat = np.abs(shown.cube).sum(axis=0)
    row |= _shape(one, flat, shown.origin[1:])
    if one.kind == "cloud" and flat.any():  # position of a part: where it is bright
        row |= {
            axis: float((flat.sum(axis=other) * np.arange(flat.shape[1 - other])).sum() / flat.sum()) + first
            for axis, other, first in (("y", 1, shown.origin[1]), ("x", 0, shown.origin[2]))
        }
    row |= _peak(np.abs(shown.cube), shown.origin)
    row |= _sky(one, mask, shown, observation)
    return TruthPart(row | one.about, shown.origin, mask, np.abs(shown.cube))


def _line_shown(one: SkyObject, view: View, shown: Emission) -> Emission:
    """The line only, as in the cube, in the window of the whole object."""
    if one.line is None:
        return replace(shown, cube=np.zeros_like(shown.cube))
    alone = view.shown(one.line)
    cube = np.zeros_like(shown.cube)
    if alone.cube.size:
        replace(alone, origin=triple(np.subtract(alone.origin, shown.origin))).add_to(cube)
    return replace(shown, cube=cube)


def _shape(one: SkyObject, image: np.ndarray, corner: tuple[int, int]) -> dict:
    """Truth box, and the FWHM (with the beam) of a Gaussian with the moments of the image."""
    nothing: dict[str, float] = {
        "x_min": round(one.x),
        "x_max": round(one.x),
        "y_min": round(one.y),
        "y_max": round(one.y),
    }
    nothing |= {"fwhm_major": np.nan, "fwhm_minor": np.nan, "angle": np.nan}
    total = image.sum() if image.size else 0.0
    if total <= 0:
        return nothing
    rows, columns = (np.flatnonzero((image >= BOX_LEVEL * image.max()).any(axis=axis)) for axis in (1, 0))
    y, x = (np.arange(n) for n in image.shape)
    my, mx = (image.sum(axis=1) * y).sum() / total, (image.sum(axis=0) * x).sum() / total
    xx = (image.sum(axis=0) * (x - mx) ** 2).sum() / total
    yy = (image.sum(axis=1) * (y - my) ** 2).sum() / total
    xy = ((y - my) @ image @ (x - mx)) / total
    values, axes = np.linalg.eigh([[xx, xy], [xy, yy]])
    minor, major = np.sqrt(np.maximum(values, 0)) * gaussian_sigma_to_fwhm
    ax, ay = axes[:, 1]
    return {
        "x_min": int(columns[0]) + corner[1],
        "x_max": int(columns[-1]) + corner[1],
        "y_min": int(rows[0]) + corner[0],
        "y_max": int(rows[-1]) + corner[0],
        "fwhm_major": float(major),
        "fwhm_minor": float(minor),
        "angle": float(np.degrees(np.arctan2(-ax, ay)) % 180),
    }


def _peak(brightness: np.ndarray, origin: tuple[int, int, int]) -> dict:
    """The brightest voxel; NaN if there is none."""
    if not brightness.size or brightness.max() <= 0:
        return {"x_peak": np.nan, "y_peak": np.nan, "z_peak": np.nan}
    z, y, x = (int(i) + o for i, o in zip(np.unravel_index(brightness.argmax(), brightness.shape), origin, strict=True))
    return {"x_peak": float(x), "y_peak": float(y), "z_peak": float(z)}


def _sky(one: SkyObject, mask: np.ndarray, shown: Emission, observation: Observation) -> dict:
    """Brightness and line flux of the sky; for a part of a cloud, within that part."""
    line = one.line
    total = peak = 0.0
    if line is not None:
        part = line.within((observation.n_channels, observation.size, observation.size))
        if one.kind == "cloud" and part.cube.size:
            footprint = np.zeros((observation.size, observation.size), bool)
            footprint[shown.place[1:]] = mask.any(axis=0)
            values = part.cube * footprint[part.place[1:]]
        else:
            values = line.cube
        if values.size:
            total, peak = float(values.sum(dtype=float)), float(values.flat[np.abs(values).argmax()])
    return {
        "flux": total * observation.channel_width,
        "line": peak,
        "continuum": 0.0 if one.image is None else float(one.image.max()),
        "spectral_index": np.nan if one.image is None or one.spectrum is None else _index(one.spectrum, observation),
    }


def _index(spectrum: np.ndarray, observation: Observation) -> float:
    """Spectral index of a continuum between the two ends of the band."""
    ends = observation.frequencies[[0, -1]]
    return float(np.log(spectrum[-1] / spectrum[0]) / np.log(ends[1] / ends[0])) if len(spectrum) > 1 else 0.0


def label_volume(parts: list[TruthPart], shape: tuple[int, int, int]) -> np.ndarray:
    """Number of the object (from 1) that each voxel belongs to; the brighter one in overlaps; 0 for none; int16."""
    labels, brightest = np.zeros(shape, np.int16), np.zeros(shape, np.float32)
    for number, part in enumerate(parts, 1):
        place = tuple(slice(o, o + n) for o, n in zip(part.origin, part.mask.shape, strict=True))
        mine = part.mask & (part.brightness > brightest[place])
        labels[place][mine] = number
        brightest[place][mine] = part.brightness[mine]
    return labels
