"""Training data of Line Finder: spectra in noise units, drawn at random each time one is used."""

from __future__ import annotations

import numpy as np
import torch
from astropy.stats import gaussian_fwhm_to_sigma
from scipy.special import erf

from napari_almadet.measure.spectra import remove_baseline
from napari_almadet.simulation.channels import draw_mixing, noise_factor
from napari_almadet.training.data import SHARED_CHANNELS, Shown

CHANNELS = 128
FAINTEST = 2.0  # minimum matched-filter SNR of a line in the target
HORNED = 0.2  # fraction of lines with the profile of a rotating disc
WIDEST = 0.55  # maximum width of such a line, as a fraction of the spectrum


class LineSpectra(Shown):
    """(spectrum, lines) pairs of shape (128,): noise of standard deviation 1 with none to three lines, and the lines.

    Each line of the target has a peak of 1.  Lines are Gaussians of 1 to 40 channels or have two horns, then up to half
    the spectrum wide.  Channels may be correlated in all ways of `napari_almadet.simulation.channels`, and the noise
    level may be wrong by a tenth.  Some spectra are shorter and padded with zeros; others contain a dip like that of a
    neighbour's sidelobe.
    """

    def __init__(self, n: int, seed: int, augment: bool = True):
        super().__init__(seed, augment)
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return draw_spectrum(self._draws(index))


def draw_spectrum(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One pair, see :class:`LineSpectra`."""
    spectrum, answer = rng.standard_normal(CHANNELS), np.zeros(CHANNELS)
    if rng.random() < SHARED_CHANNELS:
        spectrum = noise_factor(draw_mixing(rng, CHANNELS)) @ spectrum
    spectrum *= rng.normal(1, 0.05)
    length = CHANNELS if rng.random() < 0.7 else int(rng.integers(24, CHANNELS + 1))
    first = int(rng.integers(CHANNELS - length + 1))
    inside = np.zeros(CHANNELS, bool)
    inside[first : first + length] = True
    channel = np.arange(CHANNELS)
    for _ in range(rng.choice(4, p=[0.3, 0.5, 0.15, 0.05])):
        snr = np.exp(rng.uniform(np.log(FAINTEST), np.log(12 if rng.random() < 0.7 else 150)))
        centre = rng.uniform(first - 0.5, first + length - 0.5)
        if rng.random() < HORNED:
            line, norm = horned(rng, channel - centre, np.exp(rng.uniform(np.log(5), np.log(WIDEST * length))))
        else:
            fwhm = np.exp(rng.uniform(0, np.log(40))) if rng.random() < 0.5 else rng.uniform(3, 10)
            if fwhm > length / 3:
                continue
            sigma = fwhm * gaussian_fwhm_to_sigma
            line = np.exp(-0.5 * ((channel - centre) / sigma) ** 2)
            norm = np.sqrt((np.exp(-0.5 * (np.arange(-200, 201) / sigma) ** 2) ** 2).sum())
        if rng.random() < 0.07:
            spectrum -= snr * line / norm
            continue
        spectrum += snr * line / norm
        answer = np.maximum(answer, line)
    spectrum += rng.normal(0, 3) + rng.normal(0, 0.3) * (channel / CHANNELS - 0.5)
    spectrum[inside] = remove_baseline(spectrum[inside][None])[0]
    spectrum, answer = np.where(inside, spectrum, 0), np.where(inside, answer, 0)
    if rng.integers(2):
        spectrum, answer = spectrum[::-1], answer[::-1]
    return torch.from_numpy(spectrum.astype(np.float32)), torch.from_numpy(answer.astype(np.float32))


def horned(rng: np.random.Generator, channel: np.ndarray, width: float) -> tuple[np.ndarray, float]:
    """A line with two horns of unequal height, or with a flat top, of a peak of 1; and the norm of the whole line.

    A parabola between two error functions ``width`` channels apart, as in the busy function (Westmeier et al. 2014,
    MNRAS 438, 1176).
    """
    half, sigma = width / 2, width * rng.uniform(0.04, 0.2)
    trough, tilt = rng.uniform(0, 0.8), rng.normal(0, 0.2)

    def profile(place: np.ndarray) -> np.ndarray:
        edges = 0.25 * (1 + erf((place + half) / sigma)) * (1 - erf((place - half) / sigma))
        inside = np.clip(place / half, -1, 1)
        return edges * (1 - trough * (1 - inside**2)) * np.clip(1 + tilt * inside, 0.2, None)

    fine = profile(np.arange(-200, 200, 0.25))
    return np.minimum(profile(channel) / fine.max(), 1), float(
        np.linalg.norm(fine / fine.max()) / 2
    )  # sqrt(0.25) of a channel
