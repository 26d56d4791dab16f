"""Components of bright sources: position, width and spectrum of each, fitted with the dirty beam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.stats import gaussian_fwhm_to_sigma

from napari_almadet.constants import FOUR_LN2
from napari_almadet.measure.gaussian_group import Shape
from napari_almadet.search.line_maps import highest_snr, stack_snr
from napari_almadet.search.noise_units import NoiseUnits
from napari_almadet.threads import spread

if TYPE_CHECKING:
    import torch


# Chosen by eye on simulated dirty cubes.
LEAST_SNR = 8.0  # of sources whose sidelobes are subtracted: first sidelobes of a tenth are then near the noise
SCALES = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.6)  # beams, FWHM of components
MAIN_LOBE = 1.2  # beams, radius around a component that belongs to the source itself, not to its sidelobes
COARSE_WIDTHS = (1.0, 4.0, 16.0)  # channels, line widths for finding bright sources: factors of 4 lose little S/N


@dataclass(frozen=True)
class Sidelobes:
    """Subtracted sidelobes: the sum of ``spectra`` (n, channels) times ``images`` (n, ny, nx), in noise units.

    ``places`` are the positions of the components, (n, 2) as (y, x); those of one source lie close together.
    """

    spectra: torch.Tensor
    images: torch.Tensor
    places: torch.Tensor

    def cube(self) -> torch.Tensor:
        """The sidelobes, shape (channels, ny, nx)."""
        return (self.spectra.T @ self.images.flatten(1)).reshape(-1, *self.images.shape[1:])

    def off(self, cube: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """A cube (channels, ny, nx) less these sidelobes where it is ``valid`` (ny, nx), in one pass."""
        import torch

        flat, images = cube.flatten(1), (self.images * valid).flatten(1)
        left = torch.empty_like(flat)

        def take_off(channels: slice) -> None:
            torch.addmm(flat[channels], self.spectra.T[channels], images, alpha=-1, out=left[channels])

        spread(take_off, [slice(k, k + 16) for k in range(0, len(flat), 16)])
        return left.reshape(cube.shape)


def within(places: list[tuple[int, int]], reaches: list[float], image: torch.Tensor) -> torch.Tensor:
    """Pixels of an image (ny, nx) within a given distance of any of the positions."""
    import torch

    ny, nx = image.shape
    y, x = torch.arange(ny, device=image.device)[:, None], torch.arange(nx, device=image.device)
    inside = torch.zeros_like(image, dtype=torch.bool)
    for (cy, cx), reach in zip(places, reaches, strict=True):
        inside |= (y - cy) ** 2 + (x - cx) ** 2 <= reach**2
    return inside


def gaussian(shape: Sequence[int], fwhm: float, device: torch.device | None = None) -> torch.Tensor:
    """Round Gaussian with a peak of 1 at [0, 0] of a periodic grid."""
    y, x = (_line(n, fwhm, device) for n in shape)
    return y[:, None] * x


def _line(n: int, fwhm: float, device: torch.device | None) -> torch.Tensor:
    import torch

    return torch.exp(-FOUR_LN2 * torch.fft.fftfreq(n, 1 / n, device=device) ** 2 / fwhm**2)


def gaussian_response(shape: tuple[int, ...], beam: np.ndarray, fwhm: float, device: Any = None) -> torch.Tensor:
    """A round Gaussian source of ``fwhm`` pixels convolved with the beam, unit peak at [0, 0] of a periodic grid.

    The beam is its covariance along x and y in pixels², (2, 2).
    """
    import torch

    y, x = (np.fft.fftfreq(n, 1 / n) for n in shape)
    image = Shape(0.0, 0.0, beam + np.eye(2) * (fwhm * gaussian_fwhm_to_sigma) ** 2).image(x, y[:, None])
    return torch.as_tensor(image, dtype=torch.float32, device=device)


class Responses(Sequence["torch.Tensor"]):
    """Sources of all :data:`SCALES` convolved with the PSF, each computed when it is first needed.

    Parameters
    ----------
    psf
        Shape (2 ny, 2 nx), with unit peak at [0, 0].
    beam
        FWHM in pixels.
    """

    def __init__(self, psf: torch.Tensor, beam: float) -> None:
        self.psf, self.beam = psf, beam
        self._made: dict[int, torch.Tensor] = {}
        self._near: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(SCALES)

    def __getitem__(self, scale: int) -> torch.Tensor:  # type: ignore[override]
        if not 0 <= scale < len(SCALES):  # so that iterating ends
            raise IndexError(scale)
        if scale not in self._made:
            self._made[scale] = widened(self.psf, SCALES[scale] * self.beam)
        return self._made[scale]

    def near(self, reach: int) -> torch.Tensor:
        """All of them at lags up to ``reach``, (scales, 2 reach + 1, 2 reach + 1): a few rows of the transforms."""
        if reach not in self._near:
            self._near[reach] = self._near_by(reach)
        return self._near[reach]

    def _near_by(self, reach: int) -> torch.Tensor:
        import torch

        ny, nx = self.psf.shape
        device = self.psf.device
        lag, wave = torch.arange(-reach, reach + 1, device=device), torch.arange(ny, device=device)
        to_rows = torch.exp(2j * np.pi * (lag[:, None] * wave % ny) / ny)
        blurs = [[_line(n, scale * self.beam, device) for n in (ny, nx)] for scale in SCALES if scale]
        along_y, along_x = (torch.stack(lines) for lines in zip(*blurs, strict=True))
        rows = (to_rows * torch.fft.fft(along_y).real[:, None]).flatten(0, 1) @ torch.fft.rfft2(self.psf)
        rows = rows.reshape(len(blurs), len(lag), -1) * torch.fft.rfft(along_x).real[:, None]
        images = torch.fft.irfft(rows, n=nx)
        blurred = iter(images[:, :, lag] / images[:, reach, 0, None, None])
        return torch.stack([next(blurred) if scale else self.psf[lag[:, None], lag] for scale in SCALES])


def responses_of(psf: torch.Tensor, beam: float) -> Responses:
    """Sources of all :data:`SCALES` convolved with the PSF."""
    return Responses(psf, beam)


def near(responses: Sequence[torch.Tensor], reach: int) -> torch.Tensor:
    """Responses at lags up to ``reach``, see :meth:`Responses.near`."""
    import torch

    if isinstance(responses, Responses):
        return responses.near(reach)
    lag = torch.arange(-reach, reach + 1, device=responses[0].device)
    return torch.stack([response[lag[:, None], lag] for response in responses])


def widened(psf: torch.Tensor, fwhm: float) -> torch.Tensor:
    """A round Gaussian source of ``fwhm`` pixels convolved with the PSF, normalised to unit peak; the PSF for 0."""
    import torch

    if not fwhm:
        return psf
    shape = tuple(psf.shape)
    blur_y, blur_x = (_line(n, fwhm, psf.device) for n in shape)
    blur = torch.fft.fft(blur_y).real[:, None] * torch.fft.rfft(blur_x).real  # that of a product is one
    response = torch.fft.irfft2(torch.fft.rfft2(psf) * blur, s=shape)
    return response / response[0, 0]


def responses_at(places: list[tuple[int, int]], responses: Sequence[torch.Tensor], units: NoiseUnits) -> torch.Tensor:
    """Each response shifted to its position, shape (n, ny, nx)."""

    ny, nx = units.valid.shape
    moved = units.cube.new_empty(len(places), ny, nx)
    for image, (py, px), response in zip(moved, places, responses, strict=True):
        # lags from -py to ny - 1 - py, of which the negative ones are at the end
        rows, columns = (
            ((slice(0, p), slice(size - p, size)), (slice(p, n), slice(0, n - p)))
            for p, n, size in ((py, ny, response.shape[0]), (px, nx, response.shape[1]))
        )
        for to_y, from_y in rows:
            for to_x, from_x in columns:
                image[to_y, to_x] = response[from_y, from_x]
    return moved


def peak_snr(units: NoiseUnits) -> torch.Tensor:
    """The higher of the S/N in the stacked image and in the best line, at each position."""
    import torch

    return torch.maximum(stack_snr(units), highest_snr(units, COARSE_WIDTHS))


def peaks(snr: torch.Tensor, threshold: float, beam: float) -> list[tuple[int, int]]:
    """Positions of local maxima above a threshold, no two within a beam."""
    import torch

    reach = max(1, round(beam))
    highest = torch.nn.functional.max_pool2d(snr[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]
    return [tuple(place) for place in torch.nonzero((snr == highest) & (snr >= threshold)).tolist()]


def fit_components(
    units: NoiseUnits, places: list[tuple[int, int]], responses: Sequence[torch.Tensor], beam: float
) -> tuple[list[int], torch.Tensor]:
    """Sizes and spectra of sources at given positions, fitted simultaneously.

    Returns
    -------
    scales, spectra
        Index of the response that fits each main lobe best; spectra of shape (n, channels).
    """
    import torch

    cube = units.cube
    ny, nx = cube.shape[1:]
    reach = max(2, round(MAIN_LOBE * beam))
    best = []
    lobes = near(responses, reach)
    for y, x in places:
        spectrum = cube[:, y, x]
        ys, xs = (slice(max(0, place - reach), min(n, place + reach + 1)) for place, n in ((y, ny), (x, nx)))
        image = torch.einsum("c,cyx->yx", spectrum, cube[:, ys, xs]) / (spectrum @ spectrum).clamp(min=1e-9)
        lags = (slice(part.start - place + reach, part.stop - place + reach) for part, place in ((ys, y), (xs, x)))
        errors = (image - lobes[:, *lags]) * units.valid[ys, xs]
        best.append(errors.square().sum(dim=(1, 2)).argmin())
    scales: list[int] = torch.stack(best).tolist()  # at once, since an accelerator is waited for each time
    index = torch.tensor(places, device=cube.device)
    lag_y, lag_x = (index[:, None, i] - index[None, :, i] for i in (0, 1))
    mixing = torch.stack([responses[s][lag_y[:, j], lag_x[:, j]] for j, s in enumerate(scales)], dim=1)
    mixing = mixing + 1e-3 * torch.eye(len(places), device=cube.device)
    return scales, torch.linalg.solve(mixing, cube[:, index[:, 0], index[:, 1]].T)
