"""Processing of a cube before publication: channels mixed, CLEAN, smoothing to a common beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import fft

from napari_almadet.simulation.array import CleanBeam
from napari_almadet.simulation.channels import Mixing, draw_mixing, mixing, noise_factor
from napari_almadet.simulation.cleaning import CleanRun, clean_cube, draw_clean
from napari_almadet.simulation.emission import beam_between, beam_transfer
from napari_almadet.simulation.objects import smoothed_planes
from napari_almadet.simulation.observe import Imager, Observation

LARGEST_FACTOR = 1.8  # of the beam, to which cubes are smoothed


@dataclass(frozen=True, eq=False)
class Processing:
    """The three steps in their order, each None if it is left out.

    Attributes
    ----------
    mixing
        How channels are mixed.  The noise of the observation is that of a channel after mixing.
    clean
        Stopping criteria of CLEAN; the cube is restored with the clean beam.
    beam
        The beam to which the cube is finally smoothed.
    """

    mixing: Mixing | None = None
    clean: CleanRun | None = None
    beam: CleanBeam | None = None

    def about(self) -> dict:
        """The steps as plain values for JSON."""
        made: dict = {}
        if self.mixing is not None:
            made["channels"] = {"kind": self.mixing.kind, "finer_width": self.mixing.step}
        if self.clean is not None:
            made["clean"] = vars(self.clean)
        if self.beam is not None:
            made["smoothed_to"] = vars(self.beam)
        return made


def smoothed_noise(observation: Observation, beam: CleanBeam) -> float:
    """Noise of a channel in Jy/beam after smoothing from the clean beam to a wider one, before any correction.

    It is computed from the power spectrum of the noise, that of the weights, times the squared transform of the kernel.
    """
    kernel = beam_between(observation.clean_beam, beam)
    if kernel is None:
        raise ValueError(f"{beam} is not wider than {observation.clean_beam} in every direction")
    side = 2 * observation.size
    power = observation.noise_weights(side)[:, : side // 2 + 1]
    # columns between the first and the last of a real transform count twice
    twice = np.r_[1.0, np.full(power.shape[1] - 2, 2.0), 1.0]
    left = (power * twice * beam_transfer(kernel, (side, side)) ** 2).sum() / (power * twice).sum()
    return float(observation.noise * np.sqrt(left) * beam.fwhm**2 / observation.clean_beam.fwhm**2)


def processed(imager: Imager, sky: np.ndarray, processing: Processing, generator: torch.Generator) -> np.ndarray:
    """The cube of a sky with noise after all steps, primary-beam corrected if the observation requests it.

    Parameters
    ----------
    sky
        Shape (n_channels, size, size), Jy/pixel, in the channels of the cube.
    generator
        Random numbers for the noise.

    Returns
    -------
    ndarray
        Float32, Jy/beam.
    """
    observation = imager.observation
    cube = imager.of_sky(sky)
    noise = torch.cat([imager.noise(len(block), generator) for block in cube.split(16)])
    if processing.mixing is not None:
        factor = torch.from_numpy(noise_factor(processing.mixing)).to(noise.device)
        noise = (factor @ noise.flatten(1)).reshape(noise.shape)
    cube += observation.noise * noise
    del noise
    planes = cube.cpu().numpy()
    if processing.clean is not None:
        side = 2 * observation.size
        beam = fft.rfft2(fft.ifftshift(observation.clean_beam.image(side)).astype(np.float32))
        psfs = observation.psf(observation.frequencies[0]), observation.psf(observation.frequencies[-1])
        planes = clean_cube(planes, psfs, beam, observation.noise, processing.clean)
    if processing.beam is not None:
        planes = smoothed_planes(planes, observation.clean_beam, processing.beam)
    return imager.corrected(torch.from_numpy(planes).to(imager.device)).cpu().numpy()


def shared_channels(rng: np.random.Generator, observation: Observation) -> Processing:
    """Draw correlated channels, of any kind in `napari_almadet.simulation.channels`."""
    return Processing(mixing=draw_mixing(rng, observation.n_channels))


def clean_loop(rng: np.random.Generator, observation: Observation) -> Processing:
    """Draw CLEAN: 30 to 3000 iterations per channel, down to 1 to 6 sigma; half of the cubes are Hanning smoothed."""
    hanning = rng.random() < 0.5
    return Processing(mixing("hanning", observation.n_channels) if hanning else None, draw_clean(rng))


def common_beam(rng: np.random.Generator, observation: Observation) -> Processing:
    """Draw smoothing to a round beam or one of the same shape, up to `LARGEST_FACTOR` times as wide."""
    old = observation.clean_beam
    if rng.random() < 0.5:
        fwhm = old.major * float(rng.uniform(1.02, LARGEST_FACTOR))
        return Processing(beam=CleanBeam(fwhm, fwhm, 0.0))
    factor = float(rng.uniform(1.05, LARGEST_FACTOR))
    return Processing(beam=CleanBeam(old.major * factor, old.minor * factor, old.angle))


def as_published(rng: np.random.Generator, observation: Observation) -> Processing:
    """Draw the processing of galaxies and clouds: a quarter none; else any channels, mostly CLEANed, some smoothed."""
    if rng.random() < 0.25:
        return Processing()
    channels = draw_mixing(rng, observation.n_channels) if rng.random() < 0.6 else None
    # with short spacings and without sidelobes, the cube has already been CLEANed
    clean = draw_clean(rng) if rng.random() < 0.7 and observation.residual == 1 else None
    beam = common_beam(rng, observation).beam if rng.random() < 0.3 else None
    return Processing(channels, clean, beam)
