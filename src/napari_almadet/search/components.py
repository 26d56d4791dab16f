"""Components of bright sources: where they are, how wide, and the spectrum of each, fitted through the dirty beam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.search.line_maps import line_maps, stack_snr
from napari_almadet.search.noise_units import NoiseUnits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


LEAST_SNR = 8.0  # of a source whose sidelobes are worth taking off
SCALES = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.6)  # FWHM of a component in beams
MAIN_LOBE = 1.2  # beams from a component's place: as far reaches the source itself
COARSE_WIDTHS = (1.0, 4.0, 16.0)  # channels: a bright line is seen with any width like its own


@dataclass(frozen=True)
class Sidelobes:
    """What was taken off a cube: the sum of ``spectra`` (n, channels) times ``images`` (n, ny, nx), in noise units.

    ``places`` are the components', (n, 2) as (y, x); those of one source lie close together.
    """

    spectra: torch.Tensor
    images: torch.Tensor
    places: torch.Tensor

    def cube(self) -> torch.Tensor:
        """The sidelobes, shape (channels, ny, nx)."""
        return (self.spectra.T @ self.images.flatten(1)).reshape(-1, *self.images.shape[1:])


def within(places: list[tuple[int, int]], reaches: list[float], image: torch.Tensor) -> torch.Tensor:
    """Pixels of an image (ny, nx) not farther from one of the places than its reach."""
    import torch

    ny, nx = image.shape
    y, x = torch.arange(ny, device=image.device)[:, None], torch.arange(nx, device=image.device)
    inside = torch.zeros_like(image, dtype=torch.bool)
    for (cy, cx), reach in zip(places, reaches, strict=True):
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= reach**2
    return inside


def gaussian(shape: Sequence[int], fwhm: float, device: torch.device | None = None) -> torch.Tensor:
    """Round Gaussian with a peak of 1 at [0, 0] of a periodic grid."""
    import torch

    y, x = (torch.fft.fftfreq(n, 1 / n, device=device) for n in shape)
    return torch.exp(-4 * np.log(2) * (y[:, None] ** 2 + x**2) / fwhm**2)


def gaussian_response(shape: tuple[int, ...], beam: np.ndarray, fwhm: float, device: Any = None) -> torch.Tensor:
    """A round Gaussian source of ``fwhm`` pixels as a beam shows it, its peak of 1 at [0, 0] of a periodic grid.

    The beam is its covariance along x and y in pixels², (2, 2).
    """
    import torch

    y, x = (np.fft.fftfreq(n, 1 / n) for n in shape)
    image = Shape(0.0, 0.0, beam + np.eye(2) * (fwhm * gaussian_fwhm_to_sigma) ** 2).image(x, y[:, None])
    return torch.as_tensor(image, dtype=torch.float32, device=device)


def responses_of(psf: torch.Tensor, beam: float) -> list[torch.Tensor]:
    """How the PSF shows sources of all :data:`SCALES`."""
    return [widened(psf, scale * beam) for scale in SCALES]


def widened(psf: torch.Tensor, fwhm: float) -> torch.Tensor:
    """How the PSF shows a round Gaussian source of ``fwhm`` pixels, its peak 1; the PSF itself for 0."""
    import torch

    if not fwhm:
        return psf
    shape = tuple(psf.shape)
    response = torch.fft.irfft2(torch.fft.rfft2(psf) * torch.fft.rfft2(gaussian(shape, fwhm, psf.device)), s=shape)
    return response / response[0, 0]


def responses_at(places: list[tuple[int, int]], responses: list[torch.Tensor], units: NoiseUnits) -> torch.Tensor:
    """Each response moved to its place, shape (n, ny, nx)."""
    import torch

    ny, nx = units.valid.shape
    y, x = torch.arange(ny, device=units.cube.device), torch.arange(nx, device=units.cube.device)
    moved = [r[(y - py)[:, None], x - px] for (py, px), r in zip(places, responses, strict=True)]
    return torch.stack(moved)


def peak_snr(units: NoiseUnits) -> torch.Tensor:
    """The higher of a place's SNRs in the stack and in its best line."""
    import torch

    return torch.maximum(stack_snr(units), line_maps(units, COARSE_WIDTHS).snr)


def peaks(snr: torch.Tensor, threshold: float, beam: float) -> list[tuple[int, int]]:
    """Places of local maxima over a threshold, no two within a beam."""
    import torch

    reach = max(1, round(beam))
    highest = torch.nn.functional.max_pool2d(snr[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]
    return [tuple(place) for place in torch.nonzero((snr == highest) & (snr >= threshold)).tolist()]


def fit_components(
    units: NoiseUnits, places: list[tuple[int, int]], responses: list[torch.Tensor], beam: float
) -> tuple[list[int], torch.Tensor]:
    """Sizes and spectra of sources at some places, each fitted in the presence of the others.

    Returns
    -------
    scales, spectra
        Which of the responses fits each main lobe best; shape (n, channels).
    """
    import torch

    cube = units.cube
    ny, nx = cube.shape[1:]
    reach = max(2, round(MAIN_LOBE * beam))
    scales = []
    for y, x in places:
        spectrum = cube[:, y, x]
        ys = torch.arange(max(0, y - reach), min(ny, y + reach + 1), device=cube.device)
        xs = torch.arange(max(0, x - reach), min(nx, x + reach + 1), device=cube.device)
        image = torch.einsum("c,cyx->yx", spectrum, cube[:, ys[:, None], xs]) / (spectrum @ spectrum).clamp(min=1e-9)
        known = units.valid[ys[:, None], xs]
        errors = [float(((image - r[(ys - y)[:, None], xs - x]) * known).square().sum()) for r in responses]
        scales.append(int(np.argmin(errors)))
    index = torch.tensor(places, device=cube.device)
    lag_y, lag_x = (index[:, None, i] - index[None, :, i] for i in (0, 1))
    mixing = torch.stack([responses[s][lag_y[:, j], lag_x[:, j]] for j, s in enumerate(scales)], dim=1)
    mixing = mixing + 1e-3 * torch.eye(len(places), device=cube.device)
    return scales, torch.linalg.solve(mixing, cube[:, index[:, 0], index[:, 1]].T)
